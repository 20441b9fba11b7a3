//! Which of many things that wait is read next from its origin. An index in memory of rows that the store keeps: a few dozen
//! bytes a row, so that no round reads the table. Decides only; a worker does what it says and tells it what came of that.
//!
//! Promises: a server that is slow delays its own hints and nobody else's; servers take turns; each object is in it once;
//! never more rows than [`MOST`], nor than [`MOST_OF_ONE`] of one server.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::clock::Timestamp;
use crate::ids::Authority;

/// Things of one server read at once. Half of `fetch.in_flight_per_host`, for the same reason.
const AT_ONCE_OF_ONE: usize = 2;
/// Rows in all. More are dropped: a flood must not fill the disk.
pub const MOST: usize = 100_000;
/// Rows of one server. More are dropped: what it cannot serve in two days is lost anyway.
pub const MOST_OF_ONE: usize = 1000;

/// An object, by the hash of its id.
pub type Key = u128;

/// All rows. See the module.
#[derive(Debug)]
pub struct Queue {
    /// Things read at once.
    at_once: usize,
    rows: HashMap<Key, Row>,
    servers: HashMap<Authority, Server>,
    /// Servers with something due and a free place, each once.
    turns: VecDeque<Authority>,
    /// Servers with a free place whose first row is due later.
    sleepers: BTreeSet<(Timestamp, Authority)>,
    running: usize,
}

/// What is known of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, and there is room.
    New,
    /// It waits until then.
    Waiting(Timestamp),
    /// It is being read.
    Running,
    /// Nothing, and there is no room.
    Full,
}

#[derive(Debug)]
struct Row {
    server: Authority,
    due: Timestamp,
    running: bool,
    again: bool,
}

#[derive(Debug, Default)]
struct Server {
    waiting: BTreeSet<(Timestamp, Key)>,
    running: usize,
    place: Place,
}

/// Where a server is listed: in one place at most.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    Turn,
    Asleep(Timestamp),
}

impl Queue {
    /// An empty one, of which so many things are read at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            rows: HashMap::new(),
            servers: HashMap::new(),
            turns: VecDeque::new(),
            sleepers: BTreeSet::new(),
            running: 0,
        }
    }

    /// What is known of the object `key` of `server`.
    #[must_use]
    pub fn standing(&self, key: Key, server: &Authority) -> Standing {
        if let Some(row) = self.rows.get(&key) {
            return if row.running { Standing::Running } else { Standing::Waiting(row.due) };
        }
        let of_one = self.servers.get(server).map_or(0, |one| one.waiting.len() + one.running);
        if self.rows.len() >= MOST || of_one >= MOST_OF_ONE { Standing::Full } else { Standing::New }
    }

    /// Puts a row in, or moves one that waits.
    pub fn put(&mut self, key: Key, server: &Authority, due: Timestamp) {
        self.remove(key);
        self.rows.insert(key, Row { server: server.clone(), due, running: false, again: false });
        self.servers.entry(server.clone()).or_default().waiting.insert((due, key));
        self.list(server);
    }

    /// Takes out a row that waits. One that is being read stays until [`Queue::finish`].
    pub fn remove(&mut self, key: Key) {
        let Some(row) = self.rows.get(&key).filter(|row| !row.running) else { return };
        let (server, due) = (row.server.clone(), row.due);
        self.rows.remove(&key);
        if let Some(one) = self.servers.get_mut(&server) {
            one.waiting.remove(&(due, key));
        }
        self.list(&server);
    }

    /// The row that is being read is read once more afterwards: what was heard of it came after its reading began.
    pub fn repeat(&mut self, key: Key) {
        if let Some(row) = self.rows.get_mut(&key) {
            row.again = row.running;
        }
    }

    /// Whether [`Queue::repeat`] was said of the row.
    #[must_use]
    pub fn repeats(&self, key: Key) -> bool {
        self.rows.get(&key).is_some_and(|row| row.again)
    }

    /// The next row to read; it counts as being read until [`Queue::finish`].
    pub fn take(&mut self, now: Timestamp) -> Option<Key> {
        if self.running >= self.at_once {
            return None;
        }
        while let Some((due, server)) = self.sleepers.first().filter(|(due, _)| *due <= now).cloned() {
            self.sleepers.remove(&(due, server.clone()));
            self.set_place(&server, Place::Turn);
            self.turns.push_back(server);
        }
        while let Some(server) = self.turns.pop_front() {
            self.set_place(&server, Place::Nowhere);
            let Some(one) = self.servers.get_mut(&server) else { continue };
            let due = one.waiting.first().copied().filter(|(due, _)| *due <= now);
            if let Some((due, key)) = due {
                one.waiting.remove(&(due, key));
                one.running += 1;
                self.running += 1;
                if let Some(row) = self.rows.get_mut(&key) {
                    row.running = true;
                }
            }
            self.list(&server);
            if let Some((_, key)) = due {
                return Some(key);
            }
        }
        None
    }

    /// A reading ended: the row waits until `due`, or is gone.
    pub fn finish(&mut self, key: Key, due: Option<Timestamp>) {
        let Some(row) = self.rows.remove(&key) else { return };
        if row.running {
            self.running = self.running.saturating_sub(1);
            if let Some(one) = self.servers.get_mut(&row.server) {
                one.running = one.running.saturating_sub(1);
            }
        }
        match due {
            Some(due) => self.put(key, &row.server, due),
            None => self.list(&row.server),
        }
    }

    /// When [`Queue::take`] has something to give if no reading ends before; `None`: not before one ends.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.running >= self.at_once {
            return None;
        }
        if !self.turns.is_empty() {
            return Some(Timestamp::default());
        }
        self.sleepers.first().map(|(due, _)| *due)
    }

    /// Lists a server where it belongs now. A server that has its turn keeps it: turns go round.
    fn list(&mut self, server: &Authority) {
        let Some(one) = self.servers.get(server) else { return };
        if let Place::Asleep(until) = one.place {
            self.sleepers.remove(&(until, server.clone()));
        } else if one.place == Place::Turn {
            return;
        }
        if one.waiting.is_empty() && one.running == 0 {
            self.servers.remove(server);
            return;
        }
        let first = one.waiting.first().map(|(due, _)| *due).filter(|_| one.running < AT_ONCE_OF_ONE);
        self.set_place(server, first.map_or(Place::Nowhere, Place::Asleep));
        if let Some(due) = first {
            self.sleepers.insert((due, server.clone()));
        }
    }

    fn set_place(&mut self, server: &Authority, place: Place) {
        if let Some(one) = self.servers.get_mut(server) {
            one.place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: usize = 32;
    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn server(name: &str) -> Authority {
        Authority::parse(&format!("{name}.example")).unwrap()
    }

    fn later(seconds: u64) -> Timestamp {
        NOW.plus(std::time::Duration::from_secs(seconds))
    }

    /// Takes all there is to take at `now`.
    fn drain(queue: &mut Queue, now: Timestamp) -> Vec<Key> {
        std::iter::from_fn(|| queue.take(now)).collect()
    }

    #[test]
    fn servers_take_turns_and_two_of_each_are_read_at_once() {
        let mut queue = Queue::new(AT_ONCE);
        for key in 0..100 {
            queue.put(key, &server("slow"), NOW);
        }
        for (key, name) in [(1000, "a"), (2000, "b")] {
            for number in 0..3 {
                queue.put(key + number, &server(name), later(1));
            }
        }
        assert_eq!(drain(&mut queue, NOW), [0, 1], "the others are not due");
        assert_eq!(queue.next_due(), Some(later(1)));
        assert_eq!(drain(&mut queue, later(1)), [1000, 2000, 1001, 2001]);
        queue.finish(2000, None);
        assert_eq!(drain(&mut queue, later(1)), [2002]);
        queue.finish(0, Some(later(30)));
        assert_eq!(drain(&mut queue, later(1)), [2], "the oldest that is due");
    }

    #[test]
    fn no_more_are_read_at_once_than_the_cap_and_the_rest_keeps_its_turn() {
        let mut queue = Queue::new(AT_ONCE);
        for key in 0..100 {
            queue.put(key, &server(&format!("s{key}")), NOW);
        }
        let first = drain(&mut queue, NOW);
        assert_eq!(first.len(), AT_ONCE);
        assert_eq!(queue.next_due(), None, "nothing to wake for before one ends");
        let mut all = first.clone();
        for key in first {
            queue.finish(key, None);
        }
        while let Some(key) = queue.take(NOW) {
            all.push(key);
            queue.finish(key, None);
        }
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(queue.rows.is_empty() && queue.servers.is_empty() && queue.turns.is_empty());
        assert!(queue.sleepers.is_empty() && queue.running == 0, "nothing is left behind: {queue:?}");
    }

    #[test]
    fn an_object_is_in_it_once_and_can_be_brought_forward() {
        let mut queue = Queue::new(AT_ONCE);
        let a = server("a");
        assert_eq!(queue.standing(1, &a), Standing::New);
        queue.put(1, &a, later(60));
        assert_eq!(queue.standing(1, &a), Standing::Waiting(later(60)));
        queue.put(1, &a, NOW);
        assert_eq!(drain(&mut queue, NOW), [1]);
        assert_eq!(queue.standing(1, &a), Standing::Running);
        assert!(!queue.repeats(1));
        queue.repeat(1);
        queue.remove(1);
        assert!(queue.repeats(1), "what is being read stays");
        queue.finish(1, Some(NOW));
        assert!(!queue.repeats(1));
        assert_eq!(drain(&mut queue, NOW), [1]);
        queue.finish(1, None);
        assert_eq!(queue.standing(1, &a), Standing::New);
    }

    #[test]
    fn there_is_an_end_to_the_rows_of_one_server_and_of_all() {
        let mut queue = Queue::new(AT_ONCE);
        let mut key = 0;
        for number in 0..MOST / MOST_OF_ONE {
            let one = server(&format!("s{number}"));
            for _ in 0..MOST_OF_ONE {
                assert_eq!(queue.standing(key, &one), Standing::New);
                queue.put(key, &one, NOW);
                key += 1;
            }
            assert_eq!(queue.standing(key, &one), Standing::Full);
            assert_ne!(queue.standing(key - 1, &one), Standing::Full, "a row that is there may be renewed");
        }
        assert_eq!(queue.standing(key, &server("new")), Standing::Full);
        queue.remove(0);
        assert_eq!(queue.standing(key, &server("new")), Standing::New);
    }
}

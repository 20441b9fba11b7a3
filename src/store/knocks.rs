//! What each server last asked of us by requests that it really signed, and what became of them, in our own words: so that
//! its admin can be told. One row per server, for a week, without a word about people or posts.
//!
//! Every request comes by here, so they are counted in memory. What is news (a refusal, an answer to a Follow) is written
//! within seconds, the rest every ten minutes: a crash loses those counts.
//!
//! Strangers cause these rows: there are at most ten thousand of them, a hundred of one registrable domain, but for servers
//! that are here. What there is no room for is not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::Authority;

/// How long it is kept.
pub const KNOCK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Rows in all.
const MOST: usize = 10_000;
/// Rows of one registrable domain.
const MOST_OF_DOMAIN: usize = 100;
/// Different words in a row.
const MOST_WORDS: usize = 32;
/// Servers of whom something waits to be written.
const WAITING: usize = 4000;
const PER_WRITE: usize = 100;
/// How long what is no news may wait.
const NO_NEWS: Duration = Duration::from_secs(600);
/// How often old rows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// What one server asked, keyed by its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knock {
    /// The last request that it signed.
    pub at: Timestamp,
    /// What was answered, each word once, the latest first.
    pub said: Vec<Said>,
}

/// One answer, and how often it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Our word for it: `relayed`, `not-public`, `admission`.
    pub word: String,
    /// The HTTP status.
    pub status: u16,
    /// When last.
    pub at: Timestamp,
    /// How often, as long as the word stays here.
    pub count: u32,
}

impl Record for Knock {
    const TABLE: &'static str = "knocks";
}

impl Knock {
    fn new(at: Timestamp) -> Self {
        Self { at, said: Vec::new() }
    }

    fn add(&mut self, said: Said) {
        self.at = self.at.max(said.at);
        match self.said.iter().position(|one| one.word == said.word && one.status == said.status) {
            Some(place) => {
                let mut known = self.said.remove(place);
                known.at = known.at.max(said.at);
                known.count = known.count.saturating_add(said.count);
                self.said.push(known);
            }
            None => self.said.push(said),
        }
    }

    /// In order, without what is too old or too much.
    fn tidied(mut self, now: Timestamp) -> Self {
        self.said.retain(|one| now.since(one.at) < KNOCK_LIFE);
        self.said.sort_by_key(|one| std::cmp::Reverse(one.at));
        self.said.truncate(MOST_WORDS);
        self
    }

    fn with(mut self, newer: Self, now: Timestamp) -> Self {
        self.at = self.at.max(newer.at);
        newer.said.into_iter().for_each(|said| self.add(said));
        self.tidied(now)
    }
}

/// Where they are counted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Knocks(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    waiting: HashMap<Authority, Waiting>,
    /// What is being written just now: it is neither among those that wait nor on disk.
    writing: HashMap<Authority, Knock>,
    swept: Option<Timestamp>,
}

struct Waiting {
    since: Timestamp,
    news: bool,
    knock: Knock,
}

impl Knocks {
    /// Counts one answer to a request that `server` signed. `news`: it is to be written down soon. Never waits.
    pub fn note(&self, server: &Authority, word: &str, status: u16, news: bool, at: Timestamp) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if book.waiting.len() >= WAITING && !book.waiting.contains_key(server) {
            return;
        }
        let new = || Waiting { since: at, news: false, knock: Knock::new(at) };
        let waiting = book.waiting.entry(server.clone()).or_insert_with(new);
        waiting.news |= news;
        waiting.knock.add(Said { word: word.to_owned(), status, at, count: 1 });
    }

    /// What is known of `server`, to this moment.
    ///
    /// # Errors
    /// The store's.
    pub fn of(&self, store: &Store, server: &Authority, now: Timestamp) -> Result<Option<Knock>, StoreError> {
        // The book first: what leaves it after this is on disk.
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = store.get::<Knock>(server.as_str())?.filter(|one| now.since(one.at) < KNOCK_LIFE);
        let waiting = book.waiting.get(server).map(|one| one.knock.clone());
        // As long as what is on disk is older than it, it is not there yet.
        let writing = book.writing.get(server).filter(|one| written.as_ref().is_none_or(|written| written.at < one.at));
        let written = match (written, writing.cloned()) {
            (Some(written), Some(writing)) => Some(written.with(writing, now)),
            (written, writing) => written.or(writing),
        };
        Ok(match (written, waiting) {
            (Some(written), Some(waiting)) => Some(written.with(waiting, now)),
            (written, waiting) => written.or(waiting).map(|one| one.tidied(now)),
        })
    }

    /// Writes what is news or waited long enough, and now and then drops what is too old. Cheap where nothing is to be done.
    ///
    /// # Errors
    /// The store's; what was not written is lost, and that is all right here.
    pub async fn save(&self, store: &Store, now: Timestamp) -> Result<usize, StoreError> {
        let (rows, sweep) = self.due(now);
        if sweep {
            store.forget::<Knock>(|one| now.since(one.at) >= KNOCK_LIFE).await?;
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let mut room = Room::of(store)?;
        let rows: Vec<_> = rows.into_iter().filter(|(server, _)| room.takes(store, server)).collect();
        let count = rows.len();
        let written = store
            .write(move |tx| rows.into_iter().try_for_each(|(server, newer)| tx.put_knock(&server, newer, now)))
            .await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).writing.clear();
        written.map(|()| count)
    }

    fn due(&self, now: Timestamp) -> (Vec<(Authority, Knock)>, bool) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sweep = book.swept.is_none_or(|at| now.since(at) >= SWEEP_EVERY);
        if sweep {
            book.swept = Some(now);
        }
        let due = |one: &Waiting| one.news || now.since(one.since) >= NO_NEWS;
        let keys: Vec<Authority> =
            book.waiting.iter().filter(|(_, one)| due(one)).map(|(key, _)| key.clone()).take(PER_WRITE).collect();
        let rows = keys.into_iter().filter_map(|key| book.waiting.remove(&key).map(|one| (key, one.knock)));
        let rows: Vec<(Authority, Knock)> = rows.collect();
        book.writing = rows.iter().cloned().collect();
        (rows, sweep)
    }
}

/// How many rows there are, and of whom.
struct Room {
    all: std::collections::HashSet<String>,
    of_domain: HashMap<String, usize>,
}

impl Room {
    fn of(store: &Store) -> Result<Self, StoreError> {
        let all: std::collections::HashSet<String> = store.keys::<Knock>()?.into_iter().collect();
        let mut of_domain = HashMap::new();
        for server in all.iter().filter_map(|key| Authority::parse(key).ok()) {
            *of_domain.entry(server.registrable().to_owned()).or_default() += 1;
        }
        Ok(Self { all, of_domain })
    }

    fn takes(&mut self, store: &Store, server: &Authority) -> bool {
        if self.all.contains(server.as_str()) {
            return true;
        }
        let of_domain = self.of_domain.entry(server.registrable().to_owned()).or_default();
        let is_here = store.subscriber(server).is_some() || store.search_servers().contains_key(server);
        let takes = is_here || (self.all.len() < MOST && *of_domain < MOST_OF_DOMAIN);
        if takes {
            *of_domain += 1;
            self.all.insert(server.as_str().to_owned());
        }
        takes
    }
}

impl Tx<'_> {
    fn put_knock(&mut self, server: &Authority, newer: Knock, now: Timestamp) -> Result<(), StoreError> {
        let known = self.get::<Knock>(server.as_str())?.unwrap_or_else(|| Knock::new(newer.at));
        self.put(server.as_str(), &known.with(newer, now))
    }
}

impl Store {
    /// What the admin of a server is given to see more about it than everybody may: made of its name and the store's secret,
    /// so nothing is kept of it, and good as long as the store is.
    #[must_use]
    pub fn check_code(&self, server: &Authority) -> String {
        format!("{:032x}", super::seen::hash(&self.0.secret, super::SeenSet::Tombstones, &["check", server.as_str()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::testing;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn host(text: &str) -> Authority {
        Authority::parse(text).unwrap()
    }

    fn later(seconds: u64) -> Timestamp {
        NOON.plus(Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn what_a_server_was_told_is_kept_for_a_week_each_word_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let (knocks, a) = (Knocks::default(), host("a.example"));
        for at in [NOON, later(1)] {
            knocks.note(&a, "not-public", 202, false, at);
        }
        assert_eq!(knocks.save(&store, later(2)).await.unwrap(), 0, "it is no news");
        knocks.note(&a, "admission", 403, true, later(3));
        let told = knocks.of(&store, &a, later(3)).unwrap().unwrap();
        let words =
            |knock: &Knock| knock.said.iter().map(|one| (one.word.clone(), one.status, one.count)).collect::<Vec<_>>();
        let expected = [("admission".to_owned(), 403, 1), ("not-public".to_owned(), 202, 2)];
        assert_eq!(words(&told), expected, "what is not written yet is told all the same");
        assert_eq!(knocks.save(&store, later(4)).await.unwrap(), 1, "it is");
        assert_eq!(knocks.of(&store, &a, later(4)).unwrap(), Some(told));
        knocks.note(&a, "not-public", 202, false, later(5));
        assert_eq!(knocks.save(&store, later(6)).await.unwrap(), 0);
        assert_eq!(knocks.save(&store, later(605)).await.unwrap(), 1, "what is no news waits ten minutes");
        let told = knocks.of(&store, &a, later(605)).unwrap().unwrap();
        assert_eq!(words(&told), [("not-public".to_owned(), 202, 3), ("admission".to_owned(), 403, 1)]);
        let week = KNOCK_LIFE.as_secs();
        let told = knocks.of(&store, &a, later(week + 4)).unwrap().unwrap();
        assert_eq!(words(&told), [("not-public".to_owned(), 202, 3)], "each word has its own week");
        assert_eq!(knocks.of(&store, &a, later(week + 6)).unwrap(), None);
        knocks.save(&store, later(week + 6)).await.unwrap();
        assert!(store.all::<Knock>().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_being_written_is_told_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let (knocks, a) = (Knocks::default(), host("a.example"));
        let count = |knocks: &Knocks| knocks.of(&store, &a, NOON).unwrap().map(|knock| knock.said[0].count);
        knocks.note(&a, "admission", 403, true, NOON);
        let (rows, _sweep) = knocks.due(NOON);
        assert_eq!((rows.len(), count(&knocks)), (1, Some(1)), "not on disk yet");
        store.write(move |tx| tx.put_knock(&rows[0].0, rows[0].1.clone(), NOON)).await.unwrap();
        assert_eq!(count(&knocks), Some(1), "and not twice when it is");
    }

    #[tokio::test]
    async fn strangers_fill_no_more_than_their_domains_share_and_who_is_here_finds_room() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let knocks = Knocks::default();
        store.write(|tx| tx.put_subscriber(testing::subscriber("here.evil.example"))).await.unwrap();
        for number in 0..WAITING + 50 {
            knocks.note(&host(&format!("s{number}.evil.example")), "admission", 403, true, NOON);
        }
        assert_eq!(knocks.0.lock().unwrap().waiting.len(), WAITING);
        for _ in 0..=WAITING / PER_WRITE {
            knocks.save(&store, NOON).await.unwrap();
        }
        assert_eq!(store.all::<Knock>().unwrap().len(), MOST_OF_DOMAIN);
        for name in ["here.evil.example", "one.example"] {
            knocks.note(&host(name), "relayed", 202, true, NOON);
        }
        knocks.save(&store, NOON).await.unwrap();
        assert_eq!(store.all::<Knock>().unwrap().len(), MOST_OF_DOMAIN + 2);
        let many: Vec<String> = (0..100).map(|number| format!("word-{number}")).collect();
        for word in &many {
            knocks.note(&host("one.example"), word, 202, false, NOON);
        }
        assert_eq!(knocks.of(&store, &host("one.example"), NOON).unwrap().unwrap().said.len(), MOST_WORDS);
    }

    #[test]
    fn the_code_of_a_server_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let code = store.check_code(&host("a.example"));
        assert_eq!((code.len(), code.clone()), (32, store.check_code(&host("a.example"))));
        assert_ne!(code, store.check_code(&host("b.example")));
    }
}

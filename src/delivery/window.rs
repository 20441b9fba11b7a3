//! What a lane sends next: a pure state machine over places in the log. It knows which entries are under way, which wait
//! for their time or for another try, and how many may be under way at once; it reads no log and sends nothing.
//!
//! Promises: an entry is marked done only when the lane says so; entries about the same object leave one after the other
//! in log order; what it holds is seldom more than a few entries, and never more than [`Position::WINDOW`]; each entry is
//! offered again until done.

use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};
use crate::store::Position;

/// Requests under way when a lane begins.
const FIRST_LIMIT: usize = 2;
/// An entry that was answered with a failure so often may be what is wrong, and not the server: another one goes first.
const SUSPECT_AFTER: u32 = 3;
/// An entry that failed so often while others went through is given up.
const POISON_AFTER: u32 = 6;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send this entry.
    Send(Seq),
    /// Read the log at this place and tell what is there.
    Read(Seq),
    /// Nothing before this time.
    Wait(Timestamp),
    /// Nothing before something under way has landed, or the log grows.
    Idle,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The lane's: it waits.
    Lane,
    /// The entry's alone, others go through; it failed so many times.
    Entry(u32),
    /// The entry's, and for the last time: it is marked done.
    Poison,
}

/// The state.
#[derive(Debug)]
pub(super) struct Window {
    position: Position,
    /// The first place that was not read.
    read_to: Seq,
    /// In the order of their places; seldom more than a few.
    held: Vec<Held>,
    limit: usize,
    most: usize,
    /// Successes since the limit last changed.
    clean: usize,
    /// Counts events, to tell what came after what.
    tick: u64,
    last_success: u64,
}

/// An entry that was read, is wanted, and is not done.
#[derive(Debug)]
struct Held {
    seq: Seq,
    object: Iri,
    due: Timestamp,
    flying: bool,
    /// It was told when it may leave.
    had_turn: bool,
    failures: u32,
    /// The last failure was an answer.
    answered: bool,
    failed_at: u64,
}

impl Held {
    const fn is_suspect(&self) -> bool {
        self.answered && self.failures >= SUSPECT_AFTER
    }
}

impl Window {
    /// Begins at `position`, with at most `most` requests under way.
    pub(super) fn new(position: Position, most: usize) -> Self {
        let most = most.max(1);
        let limit = FIRST_LIMIT.min(most);
        Self { read_to: position.next, position, held: Vec::new(), limit, most, clean: 0, tick: 1, last_success: 0 }
    }

    /// What is done.
    pub(super) const fn position(&self) -> &Position {
        &self.position
    }

    /// How many requests may be under way.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// How many are.
    pub(super) fn flying(&self) -> usize {
        self.held.iter().filter(|held| held.flying).count()
    }

    /// Whether no more may be under way than is; one alone if the lane is `failing`.
    pub(super) fn is_full(&self, failing: bool) -> bool {
        self.flying() >= if failing { 1 } else { self.limit }
    }

    /// What to do at `now`, when the log ends at `head`. A lane that is `failing` has one request under way.
    pub(super) fn next(&mut self, now: Timestamp, failing: bool, head: Seq) -> Next {
        if self.is_full(failing) {
            return Next::Idle;
        }
        if let Some(seq) = self.ready(now, failing) {
            return Next::Send(seq);
        }
        if let Some(seq) = self.unread(head) {
            return Next::Read(seq);
        }
        if let Some(seq) = self.ready(now, false) {
            return Next::Send(seq);
        }
        let waiting = self.held.iter().filter(|held| !held.flying && held.due > now);
        waiting.map(|held| held.due).min().map_or(Next::Idle, Next::Wait)
    }

    /// The entry read at `seq` is wanted, from `due` on.
    pub(super) fn hold(&mut self, seq: Seq, object: Iri, due: Timestamp) {
        self.read_to = self.read_to.max(seq.next());
        if !self.position.is_done(seq) {
            let (flying, had_turn, answered) = (false, false, false);
            let held = Held { seq, object, due, flying, had_turn, failures: 0, answered, failed_at: 0 };
            if let Err(place) = self.find(seq) {
                self.held.insert(place, held);
            }
        }
    }

    /// The entry read at `seq` is not for this subscriber.
    pub(super) fn skip(&mut self, seq: Seq) {
        self.read_to = self.read_to.max(seq.next());
        self.let_go(seq);
        self.position.mark(seq);
    }

    /// The log has nothing from the place last offered to just before `next`; how many entries are passed over.
    pub(super) fn missing_to(&mut self, next: Seq) -> u64 {
        if self.held.is_empty() {
            return self.give_up_before(next);
        }
        let (bound, mut count) = (next.min(self.end()), 0);
        while self.read_to < bound {
            count += u64::from(!self.position.is_done(self.read_to));
            self.position.mark(self.read_to);
            self.read_to = self.read_to.next();
        }
        count
    }

    /// Lets go of what was read and never tried: it is read again when its time comes.
    pub(super) fn slim(&mut self) {
        self.held.retain(|held| held.flying || held.failures > 0);
        self.held.shrink_to_fit();
        self.read_to = self.position.next;
    }

    /// Nothing before `next` is wanted any more; how many entries that were not done this gives up. What is under way may
    /// still land.
    pub(super) fn give_up_before(&mut self, next: Seq) -> u64 {
        let passed = next.0.saturating_sub(self.position.next.0);
        let done = self.position.done_within(passed);
        self.held.retain(|held| held.seq >= next || held.flying);
        let flying = self.held.iter().filter(|held| held.seq < next).count();
        self.position.skip_to(next);
        self.read_to = self.read_to.max(self.position.next);
        passed.saturating_sub(done).saturating_sub(flying as u64)
    }

    /// The entry is under way.
    pub(super) fn start(&mut self, seq: Seq) {
        if let Some(held) = self.get_mut(seq) {
            held.flying = true;
        }
    }

    /// The entry is not to be sent before `due`.
    pub(super) fn delay(&mut self, seq: Seq, due: Timestamp) {
        if let Some(held) = self.get_mut(seq) {
            held.due = due;
        }
    }

    /// The entry is not under way any more, and nothing was learned of it.
    pub(super) fn put_back(&mut self, seq: Seq) {
        if let Some(held) = self.get_mut(seq) {
            held.flying = false;
        }
    }

    /// The entry is to leave in its `turn`, which is asked for once; when that is, if it was.
    pub(super) fn wait_turn(&mut self, seq: Seq, turn: impl FnOnce() -> Timestamp) -> Option<Timestamp> {
        let held = self.get_mut(seq).filter(|held| !held.had_turn)?;
        (held.had_turn, held.due) = (true, turn());
        Some(held.due)
    }

    /// The entry got its final answer.
    pub(super) fn done(&mut self, seq: Seq, success: bool) {
        self.let_go(seq);
        self.position.mark(seq);
        self.tick += 1;
        if success {
            self.last_success = self.tick;
            self.clean += 1;
            if self.clean >= self.limit {
                self.clean = 0;
                self.limit = (self.limit + 1).min(self.most);
            }
        }
    }

    /// The entry's attempt failed; `answered` by the server, or by nobody. It will be offered again unless it is poison.
    pub(super) fn failed(&mut self, seq: Seq, answered: bool) -> Trouble {
        self.tick += 1;
        self.clean = 0;
        self.limit = (self.limit / 2).max(1);
        let (tick, last_success) = (self.tick, self.last_success);
        let Some(held) = self.get_mut(seq) else { return Trouble::Lane };
        let others_went_through = held.failures > 0 && last_success > held.failed_at;
        held.flying = false;
        held.answered = answered;
        held.failures = held.failures.saturating_add(1);
        held.failed_at = tick;
        let failures = held.failures;
        if !(answered && others_went_through) {
            return Trouble::Lane;
        }
        if failures < POISON_AFTER {
            return Trouble::Entry(failures);
        }
        self.let_go(seq);
        self.position.mark(seq);
        Trouble::Poison
    }

    /// The first entry that may leave at `now`: nothing about the same object is before it.
    fn ready(&self, now: Timestamp, pass_over_suspects: bool) -> Option<Seq> {
        let may_leave = |held: &Held| !held.flying && held.due <= now && !(pass_over_suspects && held.is_suspect());
        let is_first = |place: usize, one: &Held| self.held.iter().take(place).all(|held| held.object != one.object);
        self.held
            .iter()
            .enumerate()
            .find(|(place, held)| may_leave(held) && is_first(*place, held))
            .map(|(_, held)| held.seq)
    }

    /// The first place that was not read, is not done, and is in reach.
    fn unread(&mut self, head: Seq) -> Option<Seq> {
        self.read_to = self.read_to.max(self.position.next);
        while self.position.is_done(self.read_to) || self.find(self.read_to).is_ok() {
            self.read_to = self.read_to.next();
        }
        (self.read_to <= head && self.read_to < self.end()).then_some(self.read_to)
    }

    fn find(&self, seq: Seq) -> Result<usize, usize> {
        self.held.binary_search_by_key(&seq, |held| held.seq)
    }

    fn get_mut(&mut self, seq: Seq) -> Option<&mut Held> {
        self.find(seq).ok().and_then(|place| self.held.get_mut(place))
    }

    fn let_go(&mut self, seq: Seq) {
        if let Ok(place) = self.find(seq) {
            self.held.remove(place);
        }
    }

    /// The first place out of reach.
    fn end(&self) -> Seq {
        Seq(self.position.next.0.saturating_add(Position::WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::testing::{NOON, iri};
    use super::*;

    fn object(number: u64) -> Iri {
        iri(&format!("https://author.example/notes/{number}"))
    }

    /// A lane over a log of `objects`: entry `i + 1` is about object `objects[i]`.
    struct Bench {
        window: Window,
        objects: Vec<u64>,
    }

    impl Bench {
        fn new(objects: &[u64], most: usize) -> Self {
            Self { window: Window::new(Position::at(Seq(1)), most), objects: objects.to_vec() }
        }

        fn head(&self) -> Seq {
            Seq(self.objects.len() as u64)
        }

        /// Reads until there is something else to do.
        fn next(&mut self, failing: bool) -> Next {
            loop {
                match self.window.next(NOON, failing, self.head()) {
                    Next::Read(seq) => {
                        let number = self.objects[usize::try_from(seq.0 - 1).unwrap()];
                        self.window.hold(seq, object(number), NOON);
                    }
                    other => return other,
                }
            }
        }

        /// Starts what may start.
        fn launch(&mut self, failing: bool) -> Vec<u64> {
            let mut started = Vec::new();
            while let Next::Send(seq) = self.next(failing) {
                self.window.start(seq);
                started.push(seq.0);
            }
            started
        }
    }

    #[test]
    fn the_window_grows_by_one_per_clean_round_and_halves_on_failure() {
        let mut bench = Bench::new(&(0..100).collect::<Vec<_>>(), 8);
        assert_eq!(bench.launch(false), [1, 2]);
        for seq in [1, 2] {
            bench.window.done(Seq(seq), true);
        }
        assert_eq!((bench.window.limit(), bench.launch(false)), (3, vec![3, 4, 5]));
        let mut next = 3;
        for limit in [4, 5, 6, 7, 8, 8] {
            for seq in bench.window.held.iter().map(|held| held.seq).collect::<Vec<_>>() {
                assert_eq!(seq, Seq(next));
                bench.window.done(seq, true);
                next += 1;
            }
            assert_eq!(bench.window.limit(), limit);
            bench.launch(false);
        }
        for limit in [4, 2, 1, 1] {
            let seq = bench.window.held[0].seq;
            bench.window.failed(seq, false);
            assert_eq!(bench.window.limit(), limit);
        }
    }

    #[test]
    fn what_is_about_one_object_leaves_in_log_order() {
        let mut bench = Bench::new(&[7, 7, 8, 7], 8);
        assert_eq!(bench.launch(false), [1, 3]);
        bench.window.done(Seq(3), true);
        assert_eq!(bench.launch(false), [] as [u64; 0]);
        bench.window.failed(Seq(1), false);
        assert_eq!(bench.launch(true), [1], "the one that failed goes first, and alone");
        bench.window.done(Seq(1), true);
        assert_eq!(bench.launch(false), [2]);
        bench.window.done(Seq(2), false);
        assert_eq!(bench.launch(false), [4]);
        bench.window.done(Seq(4), true);
        assert_eq!(bench.window.position(), &Position::at(Seq(5)));
    }

    #[test]
    fn an_entry_that_fails_while_others_go_through_holds_up_nobody_and_is_given_up() {
        let mut bench = Bench::new(&(0..9).collect::<Vec<_>>(), 1);
        for _ in 0..3 {
            assert_eq!(bench.launch(true), [1]);
            assert_eq!(bench.window.failed(Seq(1), true), Trouble::Lane);
        }
        assert_eq!(bench.launch(true), [2], "a suspect lets another go first");
        bench.window.done(Seq(2), true);
        for failures in 4..6 {
            assert_eq!(bench.launch(false), [1]);
            assert_eq!(bench.window.failed(Seq(1), true), Trouble::Entry(failures));
            let later = NOON.plus(Duration::from_secs(60));
            bench.window.delay(Seq(1), later);
            let other = bench.launch(false)[0];
            bench.window.done(Seq(other), true);
            bench.window.delay(Seq(1), NOON);
        }
        assert_eq!(bench.launch(false), [1]);
        assert_eq!(bench.window.failed(Seq(1), true), Trouble::Poison);
        assert_eq!(bench.window.position().next, Seq(5));
    }

    #[test]
    fn a_server_that_answers_nothing_is_never_the_entrys_fault() {
        let mut bench = Bench::new(&[1, 2, 3], 4);
        for _ in 0..20 {
            assert_eq!(bench.launch(true), [1]);
            assert_eq!(bench.window.failed(Seq(1), false), Trouble::Lane);
        }
    }

    #[test]
    fn entries_that_wait_for_their_time_let_others_pass_within_reach() {
        let mut window = Window::new(Position::at(Seq(1)), 1);
        let later = NOON.plus(Duration::from_secs(30));
        let head = Seq(Position::WINDOW + 36);
        for seq in 1..=Position::WINDOW {
            assert_eq!(window.next(NOON, false, head), Next::Read(Seq(seq)));
            window.hold(Seq(seq), object(seq), later);
        }
        assert_eq!(window.next(NOON, false, head), Next::Wait(later));
        assert_eq!(window.next(later, false, head), Next::Send(Seq(1)));
    }

    #[test]
    fn what_the_log_forgot_or_the_horizon_passed_is_given_up_and_counted() {
        let mut window = Window::new(Position::at(Seq(1)), 4);
        window.hold(Seq(1), object(1), NOON);
        window.hold(Seq(2), object(2), NOON);
        window.start(Seq(2));
        window.done(Seq(2), true);
        window.hold(Seq(3), object(3), NOON);
        window.start(Seq(3));
        assert_eq!(window.give_up_before(Seq(1000)), 999 - 2, "one was done, one is under way");
        assert_eq!(window.position().next, Seq(1000));
        window.done(Seq(3), true);
        assert_eq!(window.next(NOON, false, Seq(2000)), Next::Read(Seq(1000)));
        assert_eq!(window.missing_to(Seq(1500)), 500, "none of them was done");
        assert_eq!((window.position().next, window.next(NOON, false, Seq(2000))), (Seq(1500), Next::Read(Seq(1500))));
        window.hold(Seq(1500), object(4), NOON);
        window.start(Seq(1500));
        assert_eq!(window.missing_to(Seq(3500)), Position::WINDOW - 1, "as far as it reaches");
        assert_eq!(window.position().next, Seq(1500), "what is under way is not passed over");
        assert_eq!(window.next(NOON, false, Seq(4000)), Next::Idle);
        window.done(Seq(1500), true);
        assert_eq!(window.missing_to(Seq(3500)), 2000 - Position::WINDOW);
        assert_eq!(window.next(NOON, false, Seq(4000)), Next::Read(Seq(3500)));
    }

    #[test]
    fn what_was_never_tried_is_let_go_and_read_again_and_what_failed_is_remembered() {
        let mut bench = Bench::new(&[1, 2, 3, 4, 5], 8);
        assert_eq!(bench.launch(false), [1, 2]);
        assert_eq!(bench.window.failed(Seq(1), true), Trouble::Lane);
        bench.window.done(Seq(2), true);
        while let Next::Read(_) = bench.window.next(NOON, false, bench.head()) {
            bench.next(false);
        }
        bench.window.slim();
        assert_eq!(bench.window.held.iter().map(|held| held.seq).collect::<Vec<_>>(), [Seq(1)]);
        assert_eq!(bench.window.held[0].failures, 1);
        let mut sent = Vec::new();
        while let Next::Send(seq) = bench.next(false) {
            bench.window.start(seq);
            bench.window.done(seq, true);
            sent.push(seq.0);
        }
        assert_eq!(sent, [1, 3, 4, 5], "each that was not done, in order");
    }

    /// What the world does next.
    #[derive(Debug, Clone)]
    enum Event {
        /// Of those under way the nth (modulo) lands: delivered, refused for good, or failed (answered or not).
        Land(usize, u8),
        /// The log grows by an entry about this object.
        Append(u64),
        /// The place is written down.
        Save,
        /// The process dies and begins again at what was written down.
        Crash,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (any::<usize>(), 0_u8..4).prop_map(|(which, how)| Event::Land(which, how)),
            3 => (0_u64..4).prop_map(Event::Append),
            2 => Just(Event::Save),
            1 => Just(Event::Crash),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn in_any_order_of_events_each_entry_is_delivered_in_its_objects_order_and_nothing_is_marked_unasked(
            events in proptest::collection::vec(event(), 0..300),
            most in 1_usize..9,
        ) {
            let mut bench = Bench::new(&[0, 1, 0], most);
            let mut saved = bench.window.position().clone();
            let mut settled: BTreeSet<u64> = BTreeSet::new();
            let mut flying: Vec<u64> = Vec::new();
            let mut failing = false;
            // After the story everything goes well, until all is done.
            let happy_end = std::iter::repeat_n(Event::Land(0, 0), 2000);
            for event in events.into_iter().chain(happy_end) {
                for seq in bench.launch(failing) {
                    let about = |seq: u64| bench.objects[usize::try_from(seq - 1).unwrap()];
                    for earlier in 1..seq {
                        prop_assert!(about(earlier) != about(seq) || settled.contains(&earlier), "{earlier} before {seq}");
                    }
                    prop_assert!(!flying.contains(&seq));
                    flying.push(seq);
                }
                // A failure narrows the window under what is under way already.
                prop_assert!(flying.len() <= most);
                match event {
                    Event::Land(which, how) if !flying.is_empty() => {
                        let seq = flying.remove(which % flying.len());
                        match how {
                            0 | 1 => {
                                bench.window.done(Seq(seq), how == 0);
                                settled.insert(seq);
                                failing = false;
                            }
                            _ => match bench.window.failed(Seq(seq), how == 2) {
                                Trouble::Lane => failing = true,
                                Trouble::Entry(_) => {}
                                Trouble::Poison => {
                                    settled.insert(seq);
                                }
                            },
                        }
                    }
                    Event::Land(..) => {}
                    Event::Append(number) => bench.objects.push(number),
                    Event::Save => saved = bench.window.position().clone(),
                    Event::Crash => {
                        bench.window = Window::new(saved.clone(), most);
                        flying.clear();
                        // What was delivered since the save is delivered again; its order holds among what is sent now.
                        settled.retain(|seq| saved.is_done(Seq(*seq)));
                    }
                }
                for seq in 1..=bench.head().0 {
                    let marked = bench.window.position().is_done(Seq(seq));
                    prop_assert_eq!(marked, settled.contains(&seq), "{}", seq);
                }
            }
            prop_assert_eq!(settled.len() as u64, bench.head().0);
            prop_assert_eq!(bench.window.position(), &Position::at(bench.head().next()));
        }
    }
}

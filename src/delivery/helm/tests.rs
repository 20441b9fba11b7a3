//! A simulation of one lane against a small model: a log that grows, a subscriber that answers anything, a clock that runs
//! and jumps, a daemon that is killed. Thousands of random stories, each with a happy end; all without a task or a timer.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::testing::{NOON, iri};
use super::*;
use crate::ids::Iri;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const GAPS: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(HOUR),
    Duration::from_secs(4 * HOUR),
];
const LIMITS: Limits = Limits { dormant_after_days: 7, gone_after: Duration::from_secs(30 * DAY) };
/// Requests under way at most.
const MOST: usize = 8;

/// What happens.
#[derive(Debug, Clone)]
enum Turn {
    /// An entry about this object, by an author of this server, is appended.
    Append(u8, u8),
    /// One of those under way lands with this outcome.
    Land(usize, Outcome),
    /// An inbox that is gone or moved, and what its actor says.
    Vanish(usize, Outcome, Reread),
    /// Time passes.
    Pass(u64),
    /// Somebody sets the wall clock, by so many seconds.
    Step(i64),
    /// Place and health are written down.
    Save,
    /// Kill -9: what was not written down is forgotten, what was under way is not heard of again.
    Kill,
    /// A verified request comes from the subscriber; or the operator insists.
    Wake(bool),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let later = |after: Option<u64>, answered| Outcome::Later { after: after.map(Duration::from_secs), answered };
    prop_oneof![
        6 => Just(Outcome::Delivered),
        1 => prop_oneof![Just(Outcome::Done), Just(Outcome::Unverified), Just(Outcome::Downgrade)],
        3 => Just(Outcome::Forbidden),
        2 => Just(Outcome::Ours),
        4 => Just(later(None, false)),
        3 => Just(later(None, true)),
        1 => (1..DAY).prop_map(move |seconds| later(Some(seconds), true)),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let vanish = prop_oneof![Just(Outcome::Gone), Just(Outcome::Moved)];
    let found = prop_oneof![Just(Reread::Same), Just(Reread::Moved), Just(Reread::Gone), Just(Reread::Unclear)];
    prop_oneof![
        8 => (0_u8..4, 0_u8..3).prop_map(|(object, author)| Turn::Append(object, author)),
        12 => (any::<usize>(), outcome()).prop_map(|(which, outcome)| Turn::Land(which, outcome)),
        1 => (any::<usize>(), vanish, found).prop_map(|(which, outcome, found)| Turn::Vanish(which, outcome, found)),
        4 => prop_oneof![0..60_u64, 0..HOUR, 0..2 * DAY].prop_map(Turn::Pass),
        1 => (-3 * 3600_i64..26 * 3600).prop_map(Turn::Step),
        2 => Just(Turn::Save),
        1 => Just(Turn::Kill),
        2 => any::<bool>().prop_map(Turn::Wake),
    ]
}

/// The model: all that is known for certain.
struct World {
    start: Instant,
    passed: u64,
    skew: i64,
    roll: f64,
    log: Vec<(Iri, Authority)>,
    helm: Helm,
    saved: (Position, Health),
    flying: BTreeSet<u64>,
    /// Entries with a final answer, and those that were given up.
    settled: BTreeMap<u64, &'static str>,
    /// Done since the last save: what a kill may repeat.
    unsaved: BTreeSet<u64>,
    /// Not before this may anything leave.
    earliest: Instant,
    over: bool,
}

impl World {
    /// A lane that has failed on so many days.
    fn new(failed_days: u32) -> Self {
        let start = Instant::now();
        let now = Now { instant: start, wall: NOON, roll: 0.5 };
        let failing = (failed_days > 0).then_some(NOON);
        let health = Health {
            consecutive: failed_days,
            failed_days,
            last_failure: failing,
            failing_since: failing,
            ..Health::default()
        };
        let helm = Helm::new(Position::at(Seq(1)), MOST, health.clone(), LIMITS, GAPS.as_slice().into(), now);
        Self {
            start,
            passed: 0,
            skew: 0,
            roll: 0.5,
            log: Vec::new(),
            saved: (Position::at(Seq(1)), health),
            earliest: helm.resume().unwrap_or(start),
            helm,
            flying: BTreeSet::new(),
            settled: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            over: false,
        }
    }

    fn now(&self) -> Now {
        let instant = self.start + Duration::from_secs(self.passed);
        let wall = NOON.millis() + 1000 * (i64::try_from(self.passed).unwrap() + self.skew);
        Now { instant, wall: Timestamp::from_millis(wall), roll: self.roll }
    }

    fn head(&self) -> Seq {
        Seq(self.log.len() as u64)
    }

    fn about(&self, seq: u64) -> &(Iri, Authority) {
        &self.log[usize::try_from(seq - 1).unwrap()]
    }

    /// Sends all that the helm wants sent now, and holds it to its rules.
    fn launch(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..10_000 {
            let now = self.now();
            let (next, given_up) = self.helm.next(now, self.head());
            self.give_up(given_up)?;
            match next {
                Next::Read(seq) => {
                    prop_assert!(seq <= self.head());
                    let object = self.about(seq.0).0.clone();
                    self.helm.window().hold(seq, object, now.wall);
                }
                Next::Send(seq) => self.send(seq.0)?,
                Next::Wait(_) | Next::Idle => return Ok(()),
            }
        }
        Err(TestCaseError::fail("it never rests"))
    }

    fn send(&mut self, seq: u64) -> Result<(), TestCaseError> {
        let now = self.now();
        prop_assert!(now.instant >= self.earliest, "{seq} leaves while the lane waits");
        prop_assert!(self.flying.len() < if self.helm.goes_singly() { 1 } else { MOST }, "too many under way");
        prop_assert!(!self.settled.contains_key(&seq), "{seq} is sent although it is settled");
        for earlier in 1..seq {
            let same = self.about(earlier).0 == self.about(seq).0;
            prop_assert!(!same || self.settled.contains_key(&earlier), "{seq} overtakes {earlier}, of the same object");
        }
        prop_assert!(self.flying.insert(seq), "{seq} is sent twice at once");
        self.helm.start(Seq(seq), now);
        Ok(())
    }

    /// The helm says that it gave up `count` entries: exactly those are unsettled, not under way, and behind its place.
    fn give_up(&mut self, count: u64) -> Result<(), TestCaseError> {
        let behind = 1..self.helm.position().next.0.min(self.head().0 + 1);
        let passed: Vec<u64> =
            behind.filter(|seq| !self.settled.contains_key(seq) && !self.flying.contains(seq)).collect();
        prop_assert_eq!(passed.len() as u64, count, "given up without a word, or counted wrongly");
        self.settled.extend(passed.into_iter().map(|seq| (seq, "given up")));
        Ok(())
    }

    fn land(&mut self, which: usize, outcome: Outcome, found: Reread) -> Result<(), TestCaseError> {
        let Some(seq) = self.flying.iter().copied().nth(which % self.flying.len().max(1)) else { return Ok(()) };
        self.flying.remove(&seq);
        let now = self.now();
        let author = self.about(seq).1.clone();
        let landed = Landed { seq: Seq(seq), outcome, reason: "HTTP", author: &author };
        let (waited, failures) = (self.helm.resume(), self.helm.health().consecutive);
        let event = match self.helm.land(&landed, now) {
            Event::Ask => self.helm.found(&landed, found, now).0,
            event => event,
        };
        match event {
            Event::Delivered | Event::Dropped | Event::Paused | Event::GivenUp => {
                let fate = if event == Event::Delivered { "delivered" } else { "dropped" };
                self.settled.entry(seq).or_insert(fate);
                self.unsaved.insert(seq);
            }
            Event::Later { .. } => {}
            Event::Ask => return Err(TestCaseError::fail("asked twice")),
        }
        if outcome == Outcome::Ours {
            prop_assert_eq!(self.helm.health().consecutive, failures, "nobody is blamed");
            let wait = (self.flying.is_empty() || waited.is_some())
                .then_some(waited)
                .map(|waited| waited.unwrap_or(now.instant + OURS_PAUSE));
            prop_assert_eq!(
                self.helm.resume(),
                wait,
                "it waits if nothing else is under way, and never shorter than before"
            );
        }
        if let Outcome::Later { after, .. } = outcome
            && let Some(resume) = self.helm.resume()
            && matches!(event, Event::Later { .. })
        {
            // The wait is the one that was asked for, or the gap for so many failures in a row, or goes on as it was.
            let wait = (resume - now.instant).as_secs_f64();
            if let Some(after) = after {
                prop_assert_eq!(resume, now.instant + after);
            } else if waited.is_none() && self.helm.state() == LaneState::Failing {
                let gap = GAPS[usize::try_from(failures).unwrap().min(4)].as_secs_f64();
                prop_assert!((0.75 * gap..=1.25 * gap).contains(&wait), "{wait} s after {failures} failures");
            }
        }
        if let Some(resume) = self.helm.resume() {
            self.earliest = resume;
        }
        self.over |= matches!(event, Event::Later { .. } | Event::Paused) && self.helm.is_over(now);
        Ok(())
    }

    fn kill(&mut self) {
        self.flying.clear();
        let (position, health) = self.saved.clone();
        self.helm = Helm::new(position.clone(), MOST, health, LIMITS, GAPS.as_slice().into(), self.now());
        for seq in std::mem::take(&mut self.unsaved) {
            if !position.is_done(Seq(seq)) {
                self.settled.remove(&seq);
            }
        }
        // What was given up and not yet written down is looked at again.
        self.settled.retain(|seq, fate| *fate != "given up" || position.is_done(Seq(*seq)));
        self.earliest = self.helm.resume().unwrap_or(self.now().instant);
    }

    fn happen(&mut self, event: Turn) -> Result<(), TestCaseError> {
        match event {
            Turn::Append(object, author) => {
                let object = iri(&format!("https://author{author}.example/notes/{object}"));
                let author = object.authority();
                self.log.push((object, author));
            }
            Turn::Land(which, outcome) => self.land(which, outcome, Reread::Unclear)?,
            Turn::Vanish(which, outcome, found) => self.land(which, outcome, found)?,
            Turn::Pass(seconds) => self.passed += seconds,
            Turn::Step(seconds) => self.skew += seconds,
            Turn::Save => {
                self.saved = (self.helm.position().clone(), self.helm.health().clone());
                self.unsaved.clear();
            }
            Turn::Kill => self.kill(),
            Turn::Wake(forced) => {
                if let Some(given_up) = self.helm.wake(forced, self.head(), self.now()) {
                    self.give_up(given_up)?;
                    self.earliest = self.helm.resume().unwrap_or(self.earliest);
                }
            }
        }
        self.check()
    }

    /// What must always hold.
    fn check(&self) -> Result<(), TestCaseError> {
        let position = self.helm.position();
        for seq in 1..=self.head().0 {
            let unfinished = !self.settled.contains_key(&seq) && !self.flying.contains(&seq);
            prop_assert!(!(unfinished && position.is_done(Seq(seq))), "the place passed {seq}, which is unfinished");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_place_never_passes_an_unfinished_entry_and_no_entry_starves(
        story in proptest::collection::vec(turn(), 0..120),
        roll in 0.0..1.0_f64,
        failed_days in prop_oneof![Just(0), 1..9_u32],
    ) {
        let mut world = World::new(failed_days);
        world.roll = roll;
        for event in story {
            world.launch()?;
            world.happen(event)?;
        }
        // From here on all goes well, and time passes: each entry is settled, and those of the end are delivered.
        let last = world.head().0 + 3;
        (0..3).try_for_each(|object| world.happen(Turn::Append(object, 0)))?;
        for _ in 0..3 * last + 60 {
            world.launch()?;
            if world.flying.is_empty() {
                world.happen(Turn::Pass(HOUR))?;
            }
            while !world.flying.is_empty() {
                world.happen(Turn::Land(0, Outcome::Delivered))?;
            }
        }
        for seq in 1..=last {
            prop_assert!(world.settled.contains_key(&seq), "{seq} starved: {:?}", world.helm);
        }
        prop_assert_eq!(world.helm.position().next, Seq(last + 1));
        prop_assert_eq!(world.helm.state(), LaneState::Healthy);
    }
}

fn failing(helm: &mut Helm, now: Now, authors: &[&str]) -> Vec<Event> {
    let mut events = Vec::new();
    for (seq, author) in (1..).zip(authors) {
        let author = Authority::parse(author).unwrap();
        let landed = Landed { seq: Seq(seq), outcome: Outcome::Forbidden, reason: "HTTP 403", author: &author };
        helm.window().hold(Seq(seq), iri(&format!("https://{author}/notes/{seq}")), NOON);
        helm.start(Seq(seq), now);
        events.push(helm.land(&landed, now));
    }
    events
}

fn fresh() -> (Helm, Now) {
    let now = Now { instant: Instant::now(), wall: NOON, roll: 0.5 };
    (Helm::new(Position::at(Seq(1)), MOST, Health::default(), LIMITS, GAPS.as_slice().into(), now), now)
}

#[test]
fn one_servers_posts_alone_pause_nobody() {
    let (mut helm, now) = fresh();
    let events = failing(&mut helm, now, &["evil.example"; 60]);
    assert!(events.iter().all(|event| *event == Event::Dropped));
    assert_eq!((helm.state(), helm.health().dropped), (LaneState::Healthy, 60));
    let (mut helm, now) = fresh();
    let mixed: Vec<&str> = ["a.example", "b.example"].into_iter().cycle().take(20).collect();
    let events = failing(&mut helm, now, &mixed);
    assert_eq!((events[18], events[19], helm.state()), (Event::Dropped, Event::Paused, LaneState::Paused));
}

#[test]
fn a_server_whose_only_visitor_it_refuses_is_found_out_within_the_hour() {
    let (mut helm, mut now) = fresh();
    let author = Authority::parse("only.example").unwrap();
    for seq in 1..=20 {
        helm.window().hold(Seq(seq), iri(&format!("https://only.example/notes/{seq}")), NOON);
        helm.start(Seq(seq), now);
        let landed = Landed { seq: Seq(seq), outcome: Outcome::Forbidden, reason: "HTTP 403", author: &author };
        helm.land(&landed, now);
        now.instant += REFUSALS_APART;
    }
    assert_eq!(helm.state(), LaneState::Paused);
}

#[test]
fn forwards_are_given_up_when_two_servers_posts_were_refused_with_none_taken_between() {
    let (mut helm, _) = fresh();
    let [one, other] = ["one.example", "other.example"].map(|name| Authority::parse(name).unwrap());
    assert!(!helm.judge_forwards(true, &one));
    assert!(!helm.judge_forwards(true, &one));
    assert!(!helm.judge_forwards(false, &one));
    assert!(!helm.judge_forwards(true, &other));
    assert!(helm.judge_forwards(true, &one));
}

#[test]
fn a_wait_that_was_asked_for_outlives_a_restart_and_no_clock_makes_it_longer_than_a_day() {
    let (mut helm, now) = fresh();
    let author = Authority::parse("a.example").unwrap();
    helm.window().hold(Seq(1), iri("https://a.example/notes/1"), NOON);
    helm.start(Seq(1), now);
    let outcome = Outcome::Later { after: Some(Duration::from_secs(20 * HOUR)), answered: true };
    helm.land(&Landed { seq: Seq(1), outcome, reason: "HTTP 429", author: &author }, now);
    let restarted = |wall: Timestamp, wake: bool| {
        let now = Now { wall, ..now };
        let health = helm.health().clone();
        let mut helm = Helm::new(Position::at(Seq(1)), MOST, health, LIMITS, GAPS.as_slice().into(), now);
        if wake {
            helm.wake(false, Seq(9), now);
        }
        helm.resume().map(|at| at - now.instant)
    };
    let hours = |hours: u64| Some(Duration::from_secs(hours * HOUR));
    assert_eq!(restarted(NOON.plus(Duration::from_secs(HOUR)), false), hours(19));
    assert_eq!(restarted(NOON.plus(Duration::from_secs(HOUR)), true), hours(19), "not against its wish");
    assert_eq!(restarted(NOON.plus(Duration::from_secs(21 * HOUR)), false), Some(Duration::ZERO));
    assert_eq!(restarted(NOON.minus(Duration::from_secs(300 * HOUR)), false), hours(24));
}

#[test]
fn a_dormant_server_that_shows_itself_while_nothing_is_there_for_it_is_owed_all_from_then_on() {
    let world = World::new(7);
    let (mut helm, mut now) = (world.helm, Now { instant: world.start, wall: NOON, roll: 0.5 });
    assert_eq!(helm.state(), LaneState::Dormant);
    now.instant += Duration::from_secs(3 * DAY);
    // The probe is due, and the newest entry is not for it.
    assert!(matches!(helm.next(now, Seq(1)).0, Next::Read(_)));
    helm.window().skip(Seq(1));
    assert_eq!(helm.next(now, Seq(1)).0, Next::Idle);
    assert_eq!(helm.wake(false, Seq(1), now), Some(0));
    assert_eq!((helm.state(), helm.health().failed_days), (LaneState::Failing, 0));
}

#[test]
fn who_has_one_connection_and_no_descriptor_for_more_gets_all_over_that_one_without_a_pause() {
    let (mut helm, mut now) = fresh();
    let author = Authority::parse("a.example").unwrap();
    (1..=9).for_each(|seq| helm.window().hold(Seq(seq), iri(&format!("https://a.example/notes/{seq}")), NOON));
    let land = |helm: &mut Helm, seq: u64, outcome, now| {
        helm.land(&Landed { seq: Seq(seq), outcome, reason: "", author: &author }, now)
    };
    [1, 2, 3].iter().for_each(|seq| helm.start(Seq(*seq), now));
    for seq in [3, 2] {
        assert_eq!(land(&mut helm, seq, Outcome::Ours, now), Event::Later { first: false });
        assert_eq!((helm.next(now, Seq(9)), helm.resume()), ((Next::Idle, 0), None), "the first one is under way");
    }
    for seq in 1..6 {
        assert_eq!(land(&mut helm, seq, Outcome::Delivered, now), Event::Delivered);
        assert_eq!(helm.next(now, Seq(9)).0, Next::Send(Seq(seq + 1)), "at once");
        helm.start(Seq(seq + 1), now);
        assert_eq!(helm.next(now, Seq(9)).0, Next::Idle, "one after the other");
    }
    now.instant += OURS_PAUSE;
    land(&mut helm, 6, Outcome::Delivered, now);
    for seq in [7, 8] {
        assert_eq!(helm.next(now, Seq(9)).0, Next::Send(Seq(seq)), "a while later more are tried");
        helm.start(Seq(seq), now);
    }
    land(&mut helm, 7, Outcome::Ours, now);
    land(&mut helm, 8, Outcome::Ours, now);
    assert_eq!(helm.resume(), Some(now.instant + OURS_PAUSE), "it rests if not one gets through");
    now.instant += OURS_PAUSE;
    assert_eq!(helm.next(now, Seq(9)).0, Next::Send(Seq(7)));
    helm.start(Seq(7), now);
    assert_eq!(helm.next(now, Seq(9)).0, Next::Idle, "and then goes on with one");
}

#[test]
fn a_final_no_shows_as_well_that_there_are_descriptors_again() {
    let (mut helm, mut now) = fresh();
    let author = Authority::parse("a.example").unwrap();
    (1..=4).for_each(|seq| helm.window().hold(Seq(seq), iri(&format!("https://a.example/notes/{seq}")), NOON));
    [1, 2].iter().for_each(|seq| helm.start(Seq(*seq), now));
    helm.land(&Landed { seq: Seq(2), outcome: Outcome::Ours, reason: "", author: &author }, now);
    assert!(helm.is_full(), "one that was chosen before does not leave beside the other");
    now.instant += OURS_PAUSE;
    helm.land(&Landed { seq: Seq(1), outcome: Outcome::Done, reason: "HTTP 404", author: &author }, now);
    for seq in [2, 3] {
        assert_eq!(helm.next(now, Seq(4)).0, Next::Send(Seq(seq)));
        helm.start(Seq(seq), now);
    }
}

#[test]
fn an_answer_that_was_under_way_does_not_take_back_what_another_asked_for() {
    for late in [Outcome::Delivered, Outcome::Done] {
        let (mut helm, now) = fresh();
        let author = Authority::parse("a.example").unwrap();
        [1, 2].iter().for_each(|seq| {
            helm.window().hold(Seq(*seq), iri(&format!("https://a.example/notes/{seq}")), NOON);
            helm.start(Seq(*seq), now);
        });
        let hour = Duration::from_secs(HOUR);
        for (seq, outcome) in [(1, Outcome::Later { after: Some(hour), answered: true }), (2, late)] {
            helm.land(&Landed { seq: Seq(seq), outcome, reason: "", author: &author }, now);
        }
        let asked = Some(now.instant + hour);
        assert_eq!((helm.state(), helm.resume()), (LaneState::Healthy, asked));
        assert_eq!((helm.wake(false, Seq(9), now), helm.resume()), (None, asked), "a request of its own is no reason");
        let (place, health) = (Position::at(Seq(1)), helm.health().clone());
        let restarted = Helm::new(place, MOST, health, LIMITS, GAPS.as_slice().into(), now);
        assert_eq!(restarted.resume(), asked, "nor is a restart");
        helm.wake(true, Seq(9), now);
        assert_eq!((helm.resume(), helm.health().not_before), (Some(now.instant), None), "the operator is");
    }
}

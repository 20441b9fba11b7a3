//! One lane per subscriber: a task that reads the log from its subscriber's place, sends what is for it, and moves the
//! place when there is a final answer. When it waits, what goes next and what an answer means is [`Helm`]'s to say; here
//! it is done.
//!
//! Promises: nothing is marked done before its final answer; a lane that waits holds no place that another could use; a
//! lane that is far behind holds one entry of the log in memory and those under way, no more; one that has long to wait
//! gives its task back and is [`Parked`]. At a stop the requests in hand are finished. A crash at any moment repeats no more than [`repeats`] entries of a lane: those under way, and those
//! done whose place is not on disk yet.

mod landing;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::backoff;
use super::flight::{Flight, Landing};
use super::health::LaneState;
use super::helm::{Helm, Now};
use super::outgoing::Outgoing;
use super::plan::{BLOCKED, EXPIRED, Plan, is_barred, plan};
use super::sharing::{Manner, manner};
use super::slots::{PATIENCE, Pool, Slot};
use super::window::Next;
use super::{Handle, Shared, Shown};
use crate::clock::Timestamp;
use crate::config::SharedSignature;
use crate::ids::{Authority, Seq};
use crate::log::{Entry, Kind};
use crate::store::{AuthorityFacts, Health, StoreError, Subscriber};

/// How long facts about a server are believed before they are read again: shorter while its software is unknown, since
/// that decides how it is served.
const FACTS_LIFE: Duration = Duration::from_secs(30);
const FIRST_FACTS_LIFE: Duration = Duration::from_millis(500);
/// GoToSocial takes 300 requests in five minutes from one address: so many at once, and one in each gap after them.
const GOTOSOCIAL_BURST: u32 = 60;
const GOTOSOCIAL_GAP: Duration = Duration::from_millis(1250);
/// A log that cannot be read is tried again after this.
const STUMBLE: Duration = Duration::from_secs(5);
/// A request that takes longer than this, and than [`SUSPICION`] times what this server usually takes, may be the first of
/// many that hang: until it has landed no other leaves. So a server that dies holds one or two places, not a windowful.
const SUSPECT_AFTER: Duration = Duration::from_millis(100);
const SUSPICION: u32 = 3;
/// Entries passed over in one go before other tasks get their turn.
const STRIDE: u32 = 64;
/// A lane that has longer than this to wait for its next try is parked. Shorter: lanes that fail now and then are made
/// anew for each try. Longer: more of those that are dead hold a task.
const PARK_BEYOND: Duration = Duration::from_secs(20);

/// What a crash may repeat of a lane, if its window is no wider. Fewer: a lane waits for the disk more often, and each
/// wait is an fsync's; at this figure a fast subscriber still takes thousands a second.
const REPEATS: usize = 16;

/// What a crash may repeat of a lane that has so many requests under way.
fn repeats(in_flight: usize) -> usize {
    REPEATS.max(in_flight * 2)
}

/// A lane at work.
pub(super) struct Lane {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    authority: Authority,
    slot: u32,
    helm: Helm,
    written: Health,
    facts: AuthorityFacts,
    facts_until: Instant,
    flights: JoinSet<Landing>,
    /// Which task carries which entry, since when.
    carried: HashMap<Id, (Seq, Instant)>,
    /// The entry under way whose answer will say whether this server takes a shared signature.
    trial: Option<Seq>,
    /// Until then nothing is signed for many: that was refused, and why is not known.
    own_until: Option<Instant>,
    /// What was learned of this server, and not written down yet.
    unwritten: landing::Learned,
    /// When it was last learned which profile of signatures it wants.
    profile_learned: Option<Instant>,
    /// Not before this, to keep within a server's rate limit.
    paced: Option<Instant>,
    /// When a GoToSocial's allowance is whole again.
    spent: Option<Instant>,
    /// How long this server takes to answer, on average.
    usual: Duration,
    /// The entry read last, since what is read is mostly sent next.
    last_read: Option<Arc<Entry>>,
    /// For each entry that landed and whose place may not be on disk: the save that puts it there.
    unsaved: VecDeque<u64>,
    saved: watch::Receiver<u64>,
    /// One of the few that are tried again at a time, until it is known how it fares.
    turn: Option<OwnedSemaphorePermit>,
    /// The operator wants nothing sent for now.
    is_paused: bool,
}

/// A lane without a task: a few hundred bytes, whatever it is owed. With thousands of dead subscribers that is nearly all.
#[derive(Debug)]
pub(super) struct Parked {
    /// When it goes on.
    pub(super) until: Instant,
    helm: Helm,
    written: Health,
    own_until: Option<Instant>,
    spent: Option<Instant>,
    usual: Duration,
    unsaved: VecDeque<u64>,
}

/// What a lane does next.
enum Step {
    Launch(Arc<Outgoing>, Plan),
    Again,
    Rest(Option<Instant>),
}

impl Parked {
    /// A lane for `subscriber`, which stands where the cursors say, or where it joined. One that was failing before the
    /// relay was started goes on waiting where it was.
    pub(super) fn new(shared: &Shared, subscriber: &Subscriber) -> Box<Self> {
        let health = subscriber.health.clone();
        let mut position = shared.book.get(subscriber.slot);
        let after_head = shared.log.head().next();
        let start = if subscriber.start == Seq(0) { after_head } else { subscriber.start };
        let is_new = position.next == Seq(0);
        if is_new {
            position.skip_to(start);
        }
        if position.next > after_head {
            // A record from another relay's log: places do not travel.
            position = crate::store::Position::at(after_head);
        }
        shared.book.set(subscriber.slot, &position);
        let (now, most) = (now(shared), shared.config.in_flight_per_host);
        let helm = Helm::new(position, most, health.clone(), shared.limits, shared.gaps.clone(), now);
        Box::new(Self {
            until: helm.resume().unwrap_or(now.instant),
            helm,
            written: health,
            own_until: None,
            // What is left of a server's allowance after a restart is not known: as if it had been used up.
            spent: (!is_new).then(|| now.instant + GOTOSOCIAL_GAP * GOTOSOCIAL_BURST),
            usual: Duration::ZERO,
            unsaved: VecDeque::new(),
        })
    }

    /// Whether it is to wait for something, and not to go on right away.
    pub(super) fn waits(&self) -> bool {
        self.helm.resume().is_some()
    }

    /// Shows how the lane fares.
    pub(super) fn tell(&self, shared: &Shared, handle: &Handle, is_paused: bool) {
        tell(&self.helm, shared, handle, is_paused);
    }
}

fn now(shared: &Shared) -> Now {
    Now { instant: Instant::now(), wall: shared.clock.now(), roll: backoff::roll() }
}

fn tell(helm: &Helm, shared: &Shared, handle: &Handle, is_paused: bool) {
    let resume = helm.resume();
    let state = match helm.state() {
        _ if is_paused => LaneState::Paused,
        LaneState::Healthy if resume.is_some() => LaneState::Failing,
        state => state,
    };
    let wait = resume.map(|at| at.saturating_duration_since(Instant::now()));
    let next_attempt = wait.map(|wait| shared.clock.now().plus(wait));
    let (limit, flying) = helm.in_flight();
    // A dormant one would like to hear that its server lives, even while nothing is there to try it with.
    let asleep = resume.is_some() || state == LaneState::Dormant;
    handle.show(Shown { state, window: limit, in_flight: flying, last_reason: None, next_attempt }, asleep);
}

impl Lane {
    /// The lane that was parked.
    pub(super) fn resume(
        shared: Arc<Shared>,
        handle: Arc<Handle>,
        subscriber: &Subscriber,
        parked: Parked,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let Parked { until: _, helm, written, own_until, spent, usual, unsaved } = parked;
        Self {
            helm,
            authority: subscriber.authority.clone(),
            slot: subscriber.slot,
            written,
            facts: AuthorityFacts::default(),
            facts_until: Instant::now(),
            flights: JoinSet::new(),
            carried: HashMap::new(),
            trial: None,
            own_until,
            unwritten: landing::Learned::default(),
            profile_learned: None,
            paced: None,
            spent,
            usual,
            last_read: None,
            unsaved,
            saved: shared.book.saved(),
            turn,
            is_paused: subscriber.paused.is_some(),
            handle,
            shared,
        }
    }

    /// Until when there is nothing to do, if that is long.
    fn has_long_to_wait(&self) -> Option<Instant> {
        let far = Instant::now() + PARK_BEYOND;
        self.helm.resume().filter(|until| *until > far && self.flights.is_empty())
    }

    fn park(self, until: Instant) -> Box<Parked> {
        let Self { mut helm, written, own_until, spent, usual, unsaved, .. } = self;
        helm.slim();
        Box::new(Parked { until, helm, written, own_until, spent, usual, unsaved })
    }

    fn now(&self) -> Now {
        now(&self.shared)
    }

    /// Runs until the subscriber leaves, the relay stops, or there is nothing to do for long.
    pub(super) async fn run(mut self) -> Option<Box<Parked>> {
        let mut head = self.shared.log.follow();
        let stopping = self.shared.supervisor.stopping().clone();
        let mut stride = 0;
        if self.handle.is_woken() {
            self.wake();
        }
        while !stopping.is_cancelled() && !self.handle.leave.is_cancelled() {
            let subscriber = self.shared.store.subscriber(&self.authority);
            let Some(subscriber) = subscriber.filter(|one| self.still_serves(one)) else { break };
            let end = *head.borrow_and_update();
            self.is_paused = subscriber.paused.is_some();
            let step = if self.is_paused { self.hold_still() } else { self.choose(&subscriber, end).await };
            self.tell();
            if !self.helm.is_retrying() {
                self.turn = None;
            }
            match step {
                Step::Launch(outgoing, plan) => self.launch(&subscriber, outgoing, plan).await,
                Step::Rest(until) => match self.has_long_to_wait() {
                    Some(until) => return Some(self.park(until)),
                    None => self.rest(until, &mut head).await,
                },
                Step::Again => {
                    stride += 1;
                    if stride % STRIDE == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        let subscriber = self.shared.store.subscriber(&self.authority);
        if !subscriber.is_some_and(|one| self.still_serves(&one)) {
            // It left or was turned away: what is under way to it is none of its business any more, at a stop neither.
            self.flights.shutdown().await;
        }
        while let Some(landed) = self.flights.join_next_with_id().await {
            self.land(landed).await;
        }
        self.tell();
        None
    }

    fn still_serves(&self, subscriber: &Subscriber) -> bool {
        subscriber.is_active() && subscriber.slot == self.slot && subscriber.served().is_some()
    }

    /// Until the operator wakes it. It holds no place that one of those that are tried again could use.
    fn hold_still(&mut self) -> Step {
        self.turn = None;
        Step::Rest(None)
    }

    async fn choose(&mut self, subscriber: &Subscriber, head: Seq) -> Step {
        let now = self.now();
        if let Some(until) = self.helm.resume().max(self.paced).filter(|until| *until > now.instant) {
            return Step::Rest(Some(until));
        }
        self.paced = None;
        if self.helm.resume().is_none() && self.something_hangs(now.instant) {
            return Step::Rest(None);
        }
        if self.would_repeat_too_much() {
            return Step::Rest(None);
        }
        self.refresh_facts(now.instant).await;
        let (next, given_up) = self.helm.next(now, head);
        self.gave_up(given_up);
        match next {
            Next::Idle => Step::Rest(None),
            Next::Wait(due) => Step::Rest(Some(now.instant + due.since(now.wall))),
            Next::Read(seq) => self.read(seq, subscriber, now.wall).await,
            Next::Send(seq) => self.prepare(seq, subscriber, now.wall).await,
        }
    }

    fn something_hangs(&self, instant: Instant) -> bool {
        let patience = SUSPECT_AFTER.max(self.usual * SUSPICION);
        self.carried.values().any(|(_, since)| instant.duration_since(*since) > patience)
    }

    /// Looks at the log at `seq`: is what is there for this subscriber?
    async fn read(&mut self, seq: Seq, subscriber: &Subscriber, now: Timestamp) -> Step {
        let entry = match self.shared.log.at_or_after(seq) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Step::Rest(None),
            Err(error) => return self.stumble(seq, &error),
        };
        if entry.seq > seq {
            let count = self.helm.missing_to(entry.seq);
            self.gave_up(count);
            return Step::Again;
        }
        match plan(&entry, subscriber, &self.facts, &self.shared.rules, now) {
            Plan::Skip(EXPIRED) => match self.shared.first_within_horizon(seq, now) {
                Ok(first) => {
                    let count = self.helm.give_up_before(first);
                    self.gave_up(count);
                }
                Err(error) => return self.stumble(seq, &error),
            },
            Plan::Skip(why) => self.pass_over(seq, why),
            Plan::Announce | Plan::Forward | Plan::UndoAnnounce => {
                self.helm.window().hold(seq, entry.object.clone(), now);
            }
        }
        self.last_read = Some(entry);
        Step::Again
    }

    /// Plans `seq` again, since time and facts have moved on, and makes it ready to leave.
    async fn prepare(&mut self, seq: Seq, subscriber: &Subscriber, now: Timestamp) -> Step {
        let known = self.last_read.take().filter(|entry| entry.seq == seq);
        let entry = match known.map_or_else(|| self.shared.log.at_or_after(seq), |entry| Ok(Some(entry))) {
            Ok(Some(entry)) if entry.seq == seq => entry,
            Ok(_) => {
                self.helm.window().skip(seq);
                self.save_place();
                return Step::Again;
            }
            Err(error) => return self.stumble(seq, &error),
        };
        let plan = match plan(&entry, subscriber, &self.facts, &self.shared.rules, now) {
            // A lane that is behind brings no post that was deleted meanwhile: it would come after its own Undo.
            Plan::Forward | Plan::Announce if self.shared.is_deleted(&entry) => Plan::Skip("deleted"),
            plan => plan,
        };
        if let Plan::Skip(why) = plan {
            if why == EXPIRED {
                self.shared.count("expired", 1);
                self.helm.expire(seq);
            }
            self.pass_over(seq, why);
            return Step::Again;
        }
        // One that is tried again sends one at a time, and forgets what it did not try: it would take turns for nothing.
        if plan == Plan::Announce && entry.kind == Kind::Create && !self.helm.is_retrying() {
            let turn = || self.shared.pace.turn(&entry.object.authority(), now);
            if self.helm.window().wait_turn(seq, turn).is_some_and(|turn| turn > now) {
                return Step::Again;
            }
        }
        Step::Launch(self.shared.outbox.outgoing(&entry).await, plan)
    }

    /// Waits for a place and sends. If something lands meanwhile that makes the lane wait, nothing is sent.
    async fn launch(&mut self, subscriber: &Subscriber, outgoing: Arc<Outgoing>, plan: Plan) {
        let Some(served) = subscriber.served() else { return };
        let prompt = !self.helm.is_retrying() && self.helm.state() == LaneState::Healthy && self.usual <= PATIENCE;
        let pool = if prompt { Pool::Fresh } else { Pool::Slow };
        let (shared, seq) = (self.shared.clone(), outgoing.entry.seq);
        let acquire = async {
            shared.ramp.turn(seq).await;
            shared.slots.acquire(pool).await
        };
        tokio::pin!(acquire);
        let stopping = self.shared.supervisor.stopping().clone();
        let leave = self.handle.leave.clone();
        let slot: Slot = loop {
            tokio::select! {
                slot = &mut acquire => match slot {
                    Some(slot) => break slot,
                    None => return,
                },
                Some(landed) = self.flights.join_next_with_id() => {
                    self.land(landed).await;
                    if self.helm.resume().is_some() || self.helm.is_full() {
                        return;
                    }
                }
                () = stopping.cancelled() => return,
                () = leave.cancelled() => return,
            }
        };
        // It may have waited for its place while the operator paused it,
        if self.shared.store.subscriber(&self.authority).is_some_and(|one| one.paused.is_some()) {
            return;
        }
        // or while the rules changed.
        let (rules, now) = (self.shared.rules.policy.set(), self.shared.clock.now());
        if is_barred(&outgoing.entry, subscriber, &rules, now) {
            return self.pass_over(seq, BLOCKED);
        }
        let (setting, kind) = (self.shared.config.shared_signature, outgoing.entry.kind);
        let setting =
            if self.own_until.is_some_and(|until| Instant::now() < until) { SharedSignature::Off } else { setting };
        let manner = manner(setting, &self.facts, plan, kind, self.trial.is_some());
        if manner == Manner::Shared && self.facts.shared.is_none() {
            self.trial = Some(seq);
        }
        let flight = Flight { shared: self.shared.clone(), outgoing, plan, inbox: served.inbox.clone(), manner };
        let now = self.now();
        let instant = now.instant;
        self.helm.start(seq, now);
        let task = self.flights.spawn(flight.fly(slot));
        self.carried.insert(task.id(), (seq, instant));
        if self.facts.software.as_deref() == Some("gotosocial") {
            // A bucket that is full again at `spent` (GCRA): what it holds is launched at once.
            let spent = self.spent.map_or(instant, |spent| spent.max(instant)) + GOTOSOCIAL_GAP;
            self.spent = Some(spent);
            self.paced = spent.checked_sub(GOTOSOCIAL_GAP * GOTOSOCIAL_BURST);
        }
    }

    /// Waits for whatever comes first.
    async fn rest(&mut self, until: Option<Instant>, head: &mut watch::Receiver<Seq>) {
        let waits = self.helm.resume().is_some();
        let full = self.helm.is_full();
        let ahead = self.is_at_the_limit();
        let stopping = self.shared.supervisor.stopping().clone();
        let handle = self.handle.clone();
        let timer = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(landed) = self.flights.join_next_with_id() => self.land(landed).await,
            // A lane that waits or is full need not hear of each new entry.
            _ = head.changed(), if !waits && !full => {}
            // Nor of each save: with a thousand lanes that would be a thousand idle turns for every fsync.
            _ = self.saved.changed(), if ahead => {}
            () = timer => {}
            () = handle.woken.notified() => self.wake(),
            () = stopping.cancelled() => {}
            () = handle.leave.cancelled() => {}
        }
    }

    /// A verified request came from this server, or the operator wants it tried.
    fn wake(&mut self) {
        let forced = self.handle.forced.swap(false, Ordering::Relaxed);
        let now = self.now();
        if let Some(given_up) = self.helm.wake(forced, self.shared.log.head(), now) {
            self.gave_up(given_up);
            self.note();
        }
    }

    /// A place that cannot be read: damage is passed over, lest it hold up all that follows; anything else is waited out.
    fn stumble(&mut self, seq: Seq, error: &StoreError) -> Step {
        tracing::error!(log.seq = seq.0, %error, "the log cannot be read");
        if matches!(error, StoreError::Damaged(_)) {
            self.shared.count("dropped", 1);
            self.helm.window().skip(seq);
            self.save_place();
            return Step::Again;
        }
        Step::Rest(Some(Instant::now() + STUMBLE))
    }

    /// The entry at `seq` is not for this subscriber.
    fn pass_over(&mut self, seq: Seq, why: &str) {
        if why == BLOCKED {
            self.shared.count(BLOCKED, 1);
        }
        self.helm.window().skip(seq);
        self.save_place();
    }

    fn gave_up(&self, count: u64) {
        if count == 0 {
            return;
        }
        tracing::info!(peer.host = %self.authority, count, "entries that it will not get");
        self.shared.count("expired", count);
        self.save_place();
    }

    async fn refresh_facts(&mut self, instant: Instant) {
        if instant < self.facts_until {
            return;
        }
        if !self.unwritten.is_empty() {
            Box::pin(self.write_down()).await;
        }
        match self.shared.store.get::<AuthorityFacts>(self.authority.as_str()) {
            Ok(facts) => {
                self.facts = facts.unwrap_or_default();
                self.unwritten.apply(&mut self.facts);
            }
            Err(error) => tracing::error!(peer.host = %self.authority, %error, "what we know of it cannot be read"),
        }
        let life = if self.facts.software.is_some() { FACTS_LIFE } else { FIRST_FACTS_LIFE };
        self.facts_until = instant + life;
    }

    fn save_place(&self) -> u64 {
        self.shared.book.set(self.slot, self.helm.position())
    }

    /// An entry landed for good: until its place is on disk, a crash would repeat it. Half way to what is allowed the
    /// next save is asked for, so that a lane seldom has to wait for one.
    fn owe_save(&mut self, save: u64) {
        self.forget_saved();
        self.unsaved.push_back(save);
        if self.unsaved.len() * 2 >= repeats(self.shared.config.in_flight_per_host) {
            self.shared.book.ask();
        }
    }

    fn forget_saved(&mut self) {
        let saved = *self.saved.borrow_and_update();
        while self.unsaved.front().is_some_and(|save| *save <= saved) {
            self.unsaved.pop_front();
        }
    }

    /// Whether one more request would be one more than a crash may repeat.
    fn would_repeat_too_much(&mut self) -> bool {
        self.forget_saved();
        self.is_at_the_limit()
    }

    /// The same, as of the save last looked at: one that came since wakes whoever waits for it.
    fn is_at_the_limit(&self) -> bool {
        self.unsaved.len() + self.flights.len() >= repeats(self.shared.config.in_flight_per_host)
    }

    /// Shows how the lane fares.
    fn tell(&self) {
        tell(&self.helm, &self.shared, &self.handle, self.is_paused);
    }
}

//! Delivery: what the log holds reaches every subscriber that answers again within `delivery.horizon`.
//!
//! One lane per subscriber (`lane`) reads the one log from a place of its own; the `dispatcher` keeps the lanes.
//! `plan` says what a subscriber gets of an entry, `sharing` what that is signed with, `window` what leaves next, `attempt` what an answer means,
//! `health` how a lane fares, `slots` who may send, `ramp` how a backlog leaves after a start, `pace` when Announces leave. `control` carries the messages that
//! are one server's business. Nothing here judges what may be relayed: that is done before it is in the log.
//!
//! After a crash, what was delivered in the last `delivery.save_every` is delivered again, and never more than sixteen
//! entries to a subscriber (twice `delivery.in_flight_per_host`, if that is more); after a clean stop nothing is.

mod attempt;
mod backoff;
mod control;
mod dispatcher;
mod flight;
mod health;
mod helm;
mod lane;
mod outgoing;
mod pace;
pub mod plan;
mod ramp;
mod reread;
mod sharing;
mod slots;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod window;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use health::LaneState;

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::ids::{Authority, Seq};
use crate::log::{Entry, Kind, Log};
use crate::net::SignedClient;
use crate::policy::{self, RuleSet, Verdict};
use crate::store::{AuthorityFacts, CursorBook, Following, Position, SeenSet, Store, StoreError};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;
use crate::wire::author::{AnnounceAudience, OurIds};
use attempt::Courier;
use control::Errands;
use health::{Ledger, Limits};
use lane::Parked;
use outgoing::Outbox;
use pace::Pace;
use plan::Rules;
use ramp::Ramp;
use slots::Slots;

/// At a stop, a busy store is asked so often, with this pause.
const LAST_TRIES: u32 = 20;
const LAST_PAUSE: Duration = Duration::from_millis(50);

/// Entries looked at to say what a rule would keep back, and after how many other tasks get their turn.
pub const LOOKED_AT: u64 = 50_000;
const STRIDE: u64 = 64;

/// What [`Delivery::new`] is given.
#[expect(missing_docs, reason = "each field is a service documented at its type")]
pub struct Services {
    pub config: config::Delivery,
    pub audience: config::AnnounceAudience,
    pub policy: policy::Rules,
    pub store: Store,
    pub log: Log,
    pub signed: SignedClient,
    pub ids: Arc<OurIds>,
    pub clock: Clock,
    pub supervisor: Supervisor,
    pub metrics: Metrics,
}

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Delivery(Arc<Shared>);

/// How one lane fares, for admin and health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// Whom it serves.
    pub authority: Authority,
    /// Where it stands.
    pub state: LaneState,
    /// The first entry that is not done.
    pub position: Seq,
    /// Entries between there and the log's end that are not done. Some of them may not be for this subscriber.
    pub lag: u64,
    /// Requests that may be under way.
    pub window: usize,
    /// Requests that are.
    pub in_flight: usize,
    /// What last went wrong: `timeout`, `HTTP 503`.
    pub last_reason: Option<String>,
    /// When it tries again, if it waits.
    pub next_attempt: Option<Timestamp>,
}

/// What waits in all lanes of one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The state.
    pub state: LaneState,
    /// Entries, one for each lane that has not done it. Some may not be for its subscriber.
    pub entries: u64,
    /// When the oldest of them was taken.
    pub oldest: Option<Timestamp>,
}

/// What all parts of the room share.
struct Shared {
    config: config::Delivery,
    rules: Rules,
    limits: Limits,
    store: Store,
    log: Log,
    clock: Clock,
    supervisor: Supervisor,
    metrics: Metrics,
    courier: Courier,
    outbox: Outbox,
    pace: Pace,
    slots: Slots,
    ramp: Ramp,
    book: CursorBook,
    /// Held while places are written: an older save must not overtake a newer one.
    saving: tokio::sync::Mutex<()>,
    ledger: Ledger,
    lanes: Mutex<HashMap<Authority, Arc<Handle>>>,
    /// The gaps between tries.
    gaps: Arc<[Duration]>,
    /// Parked lanes that are to go on before their time.
    roused: Mutex<Vec<Authority>>,
    /// There are some.
    some_roused: Notify,
    /// How many that are tried again may have a task at once; when a thousand are due together the others wait, parked.
    turns: Arc<Semaphore>,
    lane_tasks: TaskTracker,
    errands: Errands,
}

/// A lane as others see it.
struct Handle {
    slot: u32,
    /// The subscriber left.
    leave: CancellationToken,
    /// A verified request came.
    woken: Notify,
    /// It waits, and would like to be woken.
    asleep: AtomicBool,
    /// The operator wants it to try now, whatever it waits for.
    forced: AtomicBool,
    shown: Mutex<Shown>,
    /// The lane, while it has no task.
    parked: Mutex<Option<Box<Parked>>>,
}

#[derive(Clone)]
struct Shown {
    state: LaneState,
    window: usize,
    in_flight: usize,
    last_reason: Option<String>,
    next_attempt: Option<Timestamp>,
}

impl Delivery {
    /// Puts the room together and reads how far each subscriber has come; nothing runs yet.
    ///
    /// # Errors
    /// The store's.
    pub fn new(services: Services) -> Result<Self, StoreError> {
        let courier = Courier::Signed(Box::new(services.signed.clone()));
        Self::with_courier(services, courier)
    }

    fn with_courier(services: Services, courier: Courier) -> Result<Self, StoreError> {
        let Services { config, audience, policy, store, log, signed, ids, clock, supervisor, metrics } = services;
        let audience = match audience {
            config::AnnounceAudience::Followers => AnnounceAudience::Followers,
            config::AnnounceAudience::Public => AnnounceAudience::Public,
        };
        Ok(Self(Arc::new(Shared {
            rules: Rules { horizon: config.horizon, forward_horizon: config.forward_horizon, policy },
            limits: Limits { dormant_after_days: config.dormant_after_days, gone_after: config.gone_after },
            outbox: Outbox::new(ids, signed.keys().clone(), audience),
            pace: Pace::new(config.origin_fetch_rate),
            slots: Slots::new(config.in_flight),
            ramp: Ramp::new(config.ramp, log.head(), config.in_flight),
            book: CursorBook::load(&store)?,
            saving: tokio::sync::Mutex::default(),
            ledger: Ledger::new(store.clone()),
            lanes: Mutex::default(),
            gaps: config.retry.as_slice().into(),
            roused: Mutex::default(),
            some_roused: Notify::new(),
            turns: Arc::new(Semaphore::new(config.in_flight.clamp(1, Semaphore::MAX_PERMITS))),
            lane_tasks: TaskTracker::new(),
            errands: Errands::default(),
            config,
            store,
            log,
            clock,
            supervisor,
            metrics,
            courier,
        })))
    }

    /// Starts the lanes and the workers `dispatcher`, `cursors` and `control`.
    pub fn start(&self) {
        let supervisor = &self.0.supervisor;
        let shared = self.0.clone();
        supervisor.start(move || dispatcher::Dispatcher::new(shared.clone()));
        let shared = self.0.clone();
        supervisor.start(move || dispatcher::Cursors { shared: shared.clone() });
        let shared = self.0.clone();
        supervisor.start(move || control::Control::new(shared.clone()));
        let shared = self.0.clone();
        drop(supervisor.spawn(async move {
            shared.supervisor.stopping().cancelled().await;
            shared.finish().await;
        }));
    }

    /// A verified request came from `authority`: it lives, and what waits for it is tried at once. Cheap, to be called for
    /// every such request.
    pub fn wake(&self, authority: &Authority) {
        if let Some(handle) = self.0.lanes().get(authority)
            && handle.asleep.load(Ordering::Relaxed)
        {
            self.0.rouse(authority, handle);
        }
        self.0.errands.revive(authority);
    }

    /// The operator wants `authority` to be tried now, whatever its lane waits for; a pause ends. Whether it has a lane.
    pub fn retry_now(&self, authority: &Authority) -> bool {
        let lanes = self.0.lanes();
        let Some(handle) = lanes.get(authority) else { return false };
        handle.forced.store(true, Ordering::Relaxed);
        self.0.rouse(authority, handle);
        true
    }

    /// Messages to single servers were queued.
    pub fn wake_control(&self) {
        self.0.errands.wake();
    }

    /// How each lane fares, in the order of their names.
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneStatus> {
        let head = self.0.log.head();
        let handles: Vec<_> = self.0.lanes().iter().map(|(one, handle)| (one.clone(), handle.clone())).collect();
        let mut lanes: Vec<LaneStatus> = handles
            .into_iter()
            .map(|(authority, handle)| {
                let position = self.0.book.get(handle.slot);
                let Shown { state, window, in_flight, last_reason, next_attempt } = handle.shown().clone();
                let lag = lag(&position, head);
                LaneStatus {
                    authority,
                    state,
                    position: position.next,
                    lag,
                    window,
                    in_flight,
                    last_reason,
                    next_attempt,
                }
            })
            .collect();
        lanes.sort_by(|one, other| one.authority.cmp(&other.authority));
        lanes
    }

    /// How many deliveries that are still owed `after` would keep back and the rules of now would not, to subscribers that
    /// it does not turn away; and whether that is all, or only what the first [`LOOKED_AT`] entries make.
    ///
    /// # Errors
    /// The store's.
    pub async fn would_keep_back(&self, after: &RuleSet) -> Result<(u64, bool), StoreError> {
        let (shared, now) = (&self.0, self.0.clock.now());
        let before = shared.rules.policy.set();
        let lanes: Vec<Position> = {
            let lanes = shared.lanes();
            let stays = lanes.iter().filter(|(authority, _)| after.verdict(authority, now) != Verdict::Block);
            stays.map(|(_, handle)| shared.book.get(handle.slot)).collect()
        };
        let Some(mut next) = lanes.iter().map(|lane| lane.next).min() else { return Ok((0, true)) };
        let mut count = 0;
        for looked in 0..LOOKED_AT {
            let Some(entry) = shared.log.at_or_after(next)? else { return Ok((count, true)) };
            next = entry.seq.next();
            let kept = |rules: &RuleSet| plan::is_kept_back(&entry, rules, now);
            if entry.relayed && entry.kind != Kind::Hint && kept(after) && !kept(&before) {
                count += lanes.iter().filter(|lane| !lane.is_done(entry.seq)).count() as u64;
            }
            if looked % STRIDE == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok((count, false))
    }

    /// What waits in the lanes of each state. Only what healthy and failing lanes owe is worked on.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let lanes = self.lanes();
        let of = |state: LaneState| {
            let behind = || lanes.iter().filter(|lane| lane.state == state && lane.lag > 0);
            let oldest = behind().map(|lane| lane.position).min();
            let oldest = oldest.and_then(|oldest| self.0.log.at_or_after(oldest).ok().flatten());
            let entries = behind().map(|lane| lane.lag).sum();
            Waiting { state, entries, oldest: oldest.map(|entry| entry.at) }
        };
        LaneState::ALL.into_iter().map(of).collect()
    }

    /// When the oldest entry was taken that a healthy or failing lane still owes. Paused and dormant lanes do not count:
    /// nobody works on those.
    #[must_use]
    pub fn oldest_undelivered(&self) -> Option<Timestamp> {
        let worked_on = |one: &Waiting| matches!(one.state, LaneState::Healthy | LaneState::Failing);
        self.waiting().into_iter().filter(worked_on).filter_map(|one| one.oldest).min()
    }
}

/// Entries not done between a position and the log's end.
fn lag(position: &Position, head: Seq) -> u64 {
    let behind = head.next().0.saturating_sub(position.next.0);
    behind.saturating_sub(position.done_within(Position::WINDOW))
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, HashMap<Authority, Arc<Handle>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, result: &'static str, count: u64) {
        self.metrics.deliveries.with_label_values(&[result]).inc_by(count);
    }

    /// The first place from `expired` on whose entry is within the horizon. Entries are in the order of their times, so
    /// a lane that is a week behind finds it in a few looks.
    fn first_within_horizon(&self, expired: Seq, now: Timestamp) -> Result<Seq, StoreError> {
        let oldest = now.minus(self.config.horizon);
        let (mut old, mut young) = (expired.0, self.log.head().next().0);
        while young.saturating_sub(old) > 1 {
            let middle = old + (young - old) / 2;
            match self.log.at_or_after(Seq(middle))? {
                Some(entry) if entry.at < oldest => old = entry.seq.0.min(young - 1),
                _ => young = middle,
            }
        }
        Ok(Seq(young.max(expired.0 + 1)))
    }

    /// Writes down something learned of a server; whether it was written.
    async fn remember(&self, authority: &Authority, set: impl FnOnce(&mut AuthorityFacts) + Send + 'static) -> bool {
        let key = authority.as_str().to_owned();
        let written = self.store.write(move |tx| {
            let mut facts = tx.get::<AuthorityFacts>(&key)?.unwrap_or_default();
            set(&mut facts);
            tx.put(&key, &facts)
        });
        let written = written.await;
        if let Err(error) = &written {
            tracing::warn!(peer.host = %authority, %error, "what was learned of it was not written down");
        }
        written.is_ok()
    }

    /// Whether the post of a Create or Update was deleted since. Asked just before it leaves.
    fn is_deleted(&self, entry: &Entry) -> bool {
        let gone = |key: &[&str]| self.store.has_seen(SeenSet::Tombstones, key).unwrap_or(false);
        matches!(entry.kind, Kind::Create | Kind::Update)
            && (gone(&[entry.object.as_str()]) || gone(&["actor", entry.actor.as_str()]))
    }

    /// Ends a subscription, unless that server has joined anew meanwhile.
    fn end_subscription(self: &Arc<Self>, authority: Authority, slot: u32) {
        let shared = self.clone();
        drop(self.supervisor.spawn(async move {
            let ended = shared.store.write(move |tx| {
                let Some(ended) = tx.subscriber(&authority)?.filter(|one| one.slot == slot) else { return Ok(()) };
                // We followed it back for what it sends; should it come again, it is followed anew.
                for one in &ended.registrations {
                    if tx.get::<Following>(one.actor.as_str())?.is_some_and(|following| !following.by_operator) {
                        tx.remove::<Following>(one.actor.as_str())?;
                    }
                }
                tx.remove_subscriber(&authority).map(|_there| ())
            });
            if let Err(error) = ended.await {
                tracing::warn!(%error, "a subscription that is over was not removed");
            }
        }));
    }

    /// Writes down how far the lanes have come. What a busy store does not take is written next time.
    async fn save_places(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.saving.lock().await;
        unless_busy(self.book.save().await)
    }

    /// Writes down how the lanes fare, in the same way.
    async fn save_health(&self) -> Result<(), StoreError> {
        unless_busy(self.ledger.save().await)
    }

    /// Makes a lane that waits look up, a parked one too.
    fn rouse(&self, authority: &Authority, handle: &Handle) {
        handle.woken.notify_one();
        if handle.parked().is_some() {
            self.rouse_parked(authority);
        }
    }

    fn rouse_parked(&self, authority: &Authority) {
        let mut roused = self.roused.lock().unwrap_or_else(PoisonError::into_inner);
        if !roused.contains(authority) {
            roused.push(authority.clone());
            self.some_roused.notify_one();
        }
    }

    /// Those roused since the last call.
    fn take_roused(&self) -> Vec<Authority> {
        std::mem::take(&mut *self.roused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last thing at a stop: when the lanes have finished the requests in hand, how far they came is written down, so
    /// that nothing is sent twice.
    async fn finish(&self) {
        self.lane_tasks.close();
        self.lane_tasks.wait().await;
        let _one_at_a_time = self.saving.lock().await;
        for _ in 0..LAST_TRIES {
            match (self.book.save().await, self.ledger.save().await) {
                (Ok(_), Ok(_)) => return,
                (Err(StoreError::Busy), _) | (_, Err(StoreError::Busy)) => tokio::time::sleep(LAST_PAUSE).await,
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(%error, "how far delivery came was not written down: a little is sent again");
                    return;
                }
            }
        }
        tracing::error!("how far delivery came was not written down: a little is sent again");
    }
}

fn unless_busy(saved: Result<usize, StoreError>) -> Result<(), StoreError> {
    match saved {
        Err(StoreError::Busy) => Ok(()),
        other => other.map(|_count| ()),
    }
}

impl Handle {
    fn new(slot: u32) -> Self {
        Self {
            slot,
            leave: CancellationToken::new(),
            woken: Notify::new(),
            asleep: AtomicBool::new(false),
            forced: AtomicBool::new(false),
            shown: Mutex::new(Shown {
                state: LaneState::Healthy,
                window: 0,
                in_flight: 0,
                last_reason: None,
                next_attempt: None,
            }),
            parked: Mutex::default(),
        }
    }

    fn parked(&self) -> MutexGuard<'_, Option<Box<Parked>>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what goes on later. Whether it was woken while it gave its task back.
    fn park(&self, parked: Box<Parked>) -> bool {
        let mut place = self.parked();
        *place = Some(parked);
        let woken = self.is_woken();
        if woken {
            self.woken.notify_one();
        }
        woken
    }

    /// Whether it was woken since somebody last took note of that; now it is noted.
    fn is_woken(&self) -> bool {
        pin!(self.woken.notified()).enable()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> LaneState {
        self.shown().state
    }

    /// What went wrong.
    fn say(&self, reason: &str) {
        let mut shown = self.shown();
        if shown.last_reason.as_deref() != Some(reason) {
            shown.last_reason = Some(reason.to_owned());
        }
    }

    fn show(&self, shown: Shown, asleep: bool) {
        self.asleep.store(asleep, Ordering::Relaxed);
        let mut place = self.shown();
        let last_reason = place.last_reason.take();
        *place = Shown { last_reason, ..shown };
    }
}

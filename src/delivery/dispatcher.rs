//! Keeps one lane per active subscriber: starts those that are missing or were parked until now, lets go those whose subscriber left, writes down
//! how they fare, and shows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::health::LaneState;
use super::lane::{Lane, Parked};
use super::{Handle, Shared};
use crate::ids::Authority;
use crate::store::Subscriber;
use crate::supervise::Worker;

/// How often lanes are looked after when nothing changes.
const ROUND: Duration = Duration::from_secs(1);
/// Changes that come together are looked after together.
const SETTLE: Duration = Duration::from_millis(20);

/// The worker.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    changes: watch::Receiver<Arc<HashMap<Authority, Arc<Subscriber>>>>,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { changes: shared.store.follow_subscribers(), shared }
    }

    /// One lane for each active subscriber and none for others; those whose time has come go on.
    fn reconcile(&self, subscribers: &HashMap<Authority, Arc<Subscriber>>) {
        let (mut fresh, mut due) = (Vec::new(), Vec::new());
        {
            let soon = Instant::now() + ROUND;
            let mut lanes = self.shared.lanes();
            lanes.retain(|authority, handle| {
                let stays = subscribers.get(authority).is_some_and(|one| one.is_active() && one.slot == handle.slot);
                if !stays {
                    handle.leave.cancel();
                }
                stays
            });
            for subscriber in subscribers.values().filter(|one| one.is_active()) {
                let handle = lanes.entry(subscriber.authority.clone()).or_insert_with(|| {
                    let (handle, parked) = (Handle::new(subscriber.slot), Parked::new(&self.shared, subscriber));
                    parked.tell(&self.shared, &handle, subscriber.paused.is_some());
                    if parked.waits() {
                        handle.park(parked);
                    } else {
                        fresh.push((subscriber.clone(), parked));
                    }
                    Arc::new(handle)
                });
                let until = handle.parked().as_ref().map(|parked| parked.until);
                due.extend(
                    until.filter(|until| *until <= soon).map(|until| (until, subscriber.clone(), handle.clone())),
                );
            }
        }
        for (subscriber, parked) in fresh {
            let handle = self.shared.lanes().get(&subscriber.authority).cloned();
            if let Some(handle) = handle {
                self.start(&subscriber, handle, parked, None);
            }
        }
        // Who waits longest first: when many are due, the last of them waits for all others.
        due.sort_by_key(|(until, ..)| *until);
        for (_, subscriber, handle) in due {
            let Ok(turn) = self.shared.turns.clone().try_acquire_owned() else { break };
            let parked = handle.parked().take();
            if let Some(parked) = parked {
                self.start(&subscriber, handle, parked, Some(turn));
            }
        }
    }

    /// Lets parked lanes go on whose servers showed that they live.
    fn go_on(&self, roused: Vec<Authority>) {
        for authority in roused {
            let handle = self.shared.lanes().get(&authority).cloned();
            let (Some(handle), Some(subscriber)) = (handle, self.shared.store.subscriber(&authority)) else { continue };
            let parked = handle.parked().take();
            if let Some(parked) = parked {
                self.start(&subscriber, handle, parked, None);
            }
        }
    }

    /// Lets a lane go on.
    fn start(
        &self,
        subscriber: &Subscriber,
        handle: Arc<Handle>,
        parked: Box<Parked>,
        turn: Option<OwnedSemaphorePermit>,
    ) {
        let authority = subscriber.authority.clone();
        let mut place = Place { shared: self.shared.clone(), authority, handle: handle.clone(), is_kept: false };
        // Boxed, or each wrapper around it would hold its size once more.
        let lane = Box::pin(Lane::resume(self.shared.clone(), handle, subscriber, *parked, turn).run());
        let lane = self.shared.lane_tasks.track_future(async move {
            // The place is dropped last, however the lane ends: then the next round starts another one if its subscriber
            // is still there. A hard stop cuts it, requests in hand included; those are sent again at the next start.
            let cut = place.shared.supervisor.cut().clone();
            if let Some(Some(parked)) = cut.run_until_cancelled(lane).await {
                place.is_kept = true;
                if place.handle.park(parked) {
                    place.shared.rouse_parked(&place.authority);
                }
            }
        });
        drop(self.shared.supervisor.spawn(lane));
    }

    fn show(&self) {
        let mut states = [0_i64; LaneState::ALL.len()];
        for handle in self.shared.lanes().values() {
            let state = handle.state();
            for (count, _) in states.iter_mut().zip(LaneState::ALL).filter(|(_, one)| *one == state) {
                *count += 1;
            }
        }
        for (count, state) in states.into_iter().zip(LaneState::ALL) {
            self.shared.metrics.lanes.with_label_values(&[state.as_str()]).set(count);
        }
    }
}

impl Worker for Dispatcher {
    fn name(&self) -> &'static str {
        "dispatcher"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let subscribers = self.changes.borrow_and_update().clone();
        if !self.shared.supervisor.stopping().is_cancelled() {
            self.reconcile(&subscribers);
        }
        self.show();
        self.shared.save_health().await.context("writing down how lanes fare")?;
        Ok(false)
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.changes.changed() => tokio::time::sleep(SETTLE).await,
            () = self.shared.some_roused.notified() => self.go_on(self.shared.take_roused()),
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// A lane's place in the table, given back when the lane ends, in whatever way but by being parked.
struct Place {
    shared: Arc<Shared>,
    authority: Authority,
    handle: Arc<Handle>,
    /// The lane was parked.
    is_kept: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(peer.host = %self.authority, "a lane fell; it is made anew");
        }
        if self.is_kept {
            return;
        }
        let mut lanes = self.shared.lanes();
        if lanes.get(&self.authority).is_some_and(|one| Arc::ptr_eq(one, &self.handle)) {
            lanes.remove(&self.authority);
        }
    }
}

/// Writes down how far the lanes have come.
pub(super) struct Cursors {
    pub(super) shared: Arc<Shared>,
}

impl Worker for Cursors {
    fn name(&self) -> &'static str {
        "cursors"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        self.shared.save_places().await.context("writing down how far the lanes have come")?;
        Ok(false)
    }

    async fn wait(&mut self) {
        tokio::select! {
            () = tokio::time::sleep(self.shared.config.save_every) => {}
            () = self.shared.book.asked() => {}
        }
    }
}

//! Keeps one lane per active subscriber: starts those that are missing, lets go those whose subscriber left, writes down
//! how they fare, and shows it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;

use super::health::LaneState;
use super::lane::Lane;
use super::plan::forwards_creates;
use super::{Handle, Shared};
use crate::ids::Authority;
use crate::store::{AuthorityFacts, Subscriber};
use crate::supervise::Worker;

/// How often lanes are looked after when nothing changes.
const ROUND: Duration = Duration::from_secs(1);
/// Changes that come together are looked after together.
const SETTLE: Duration = Duration::from_millis(20);
/// Rounds between two counts of who is announced to.
const AUDIENCE_ROUNDS: u32 = 10;

/// The worker.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    changes: watch::Receiver<Arc<HashMap<Authority, Arc<Subscriber>>>>,
    round: u32,
}

impl Dispatcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { changes: shared.store.follow_subscribers(), shared, round: 0 }
    }

    fn reconcile(&self, subscribers: &HashMap<Authority, Arc<Subscriber>>) {
        let mut missing: Vec<Arc<Subscriber>> = Vec::new();
        {
            let mut lanes = self.shared.lanes();
            lanes.retain(|authority, handle| {
                let stays = subscribers.get(authority).is_some_and(|one| one.is_active() && one.slot == handle.slot);
                if !stays {
                    handle.leave.cancel();
                }
                stays
            });
            for subscriber in subscribers.values().filter(|one| one.is_active()) {
                if !lanes.contains_key(&subscriber.authority) {
                    lanes.insert(subscriber.authority.clone(), Arc::new(Handle::new(subscriber.slot)));
                    missing.push(subscriber.clone());
                }
            }
        }
        for subscriber in missing {
            self.start(&subscriber);
        }
    }

    fn start(&self, subscriber: &Arc<Subscriber>) {
        let Some(handle) = self.shared.lanes().get(&subscriber.authority).cloned() else { return };
        let place = Place { shared: self.shared.clone(), authority: subscriber.authority.clone(), handle };
        let (shared, subscriber) = (self.shared.clone(), subscriber.clone());
        let lane = self.shared.lane_tasks.track_future(async move {
            // Dropped last, however the lane ends: then the next round starts another one if its subscriber is still there.
            let place = place;
            // Boxed, or each wrapper around it would hold its size once more.
            let lane = Box::pin(Lane::new(shared.clone(), place.handle.clone(), &subscriber).run());
            drop(subscriber);
            // A hard stop cuts it, requests in hand included; those are sent again at the next start.
            shared.supervisor.cut().run_until_cancelled(lane).await;
        });
        drop(self.shared.supervisor.spawn(lane));
    }

    /// How many have even those posts announced that could be forwarded: what Announces are paced by.
    fn count_audience(&self, subscribers: &HashMap<Authority, Arc<Subscriber>>) {
        let now = self.shared.clock.now();
        let (mut everybody, mut announced) = (0, 0);
        for subscriber in subscribers.values().filter(|one| one.is_active()) {
            let facts = self.shared.store.get::<AuthorityFacts>(subscriber.authority.as_str());
            let facts = facts.ok().flatten().unwrap_or_default();
            everybody += 1;
            announced += usize::from(!forwards_creates(subscriber, &facts, now));
        }
        self.shared.pace.set_audience(everybody, announced);
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
        if self.round.is_multiple_of(AUDIENCE_ROUNDS) {
            self.count_audience(&subscribers);
        }
        self.round = self.round.wrapping_add(1);
        self.show();
        self.shared.save_health().await.context("writing down how lanes fare")?;
        Ok(false)
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.changes.changed() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// A lane's place in the table, given back when the lane ends, in whatever way.
struct Place {
    shared: Arc<Shared>,
    authority: Authority,
    handle: Arc<Handle>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(peer.host = %self.authority, "a lane fell; it is made anew");
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

//! Nothing is kept longer than its use: the log is trimmed, old ids, tombstones and servers that the operator never
//! answered are forgotten, held posts that waited too long are dropped, refusals are written in batches and dropped after
//! their week.
//!
//! A store that is busy just now is no failure: the next round comes soon.

use std::time::Duration;

use super::Relay;
use super::resolver;
use super::screening::{AUTHOR_DAYS, NEWCOMER_DAYS};
use crate::clock::Timestamp;
use crate::ids::{Authority, Seq};
use crate::store::{AuthorityFacts, SeenSet, StoreError, Subscriber, SubscriberState, Tx};
use crate::supervise::Worker;

const EVERY: Duration = Duration::from_secs(60);
const REFUSALS_EVERY: Duration = Duration::from_secs(2);
/// How long signatures of control messages are remembered: longer than any of them is taken.
const SIGNATURE_DAYS: u32 = 2;
/// How long a server waits for the operator before its Follow is forgotten. Its admin may ask again.
const PENDING_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Trims the log and forgets old ids.
pub struct Housekeeping {
    relay: Relay,
    done: bool,
}

impl Housekeeping {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { relay, done: false }
    }
}

impl Worker for Housekeeping {
    fn name(&self) -> &'static str {
        "housekeeping"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        if std::mem::take(&mut self.done) {
            return Ok(false);
        }
        self.done = true;
        unless_busy(self.relay.tidy().await)?;
        Ok(true)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(EVERY).await;
    }
}

/// Writes refusals down.
pub struct RefusalKeeper {
    relay: Relay,
}

impl RefusalKeeper {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { relay }
    }
}

impl Worker for RefusalKeeper {
    fn name(&self) -> &'static str {
        "refusals"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let parts = &self.relay.0;
        let oldest = parts.clock.now().minus(parts.keep.refusals);
        let saved = parts.refusals.save(&parts.store, oldest, parts.keep.refusals_max).await;
        unless_busy(saved.map(|_rows| ()))?;
        Ok(false)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(REFUSALS_EVERY).await;
    }
}

impl Relay {
    /// One round of housekeeping.
    ///
    /// # Errors
    /// The store's.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let parts = &self.0;
        self.forget_who_waited().await?;
        self.tidy_held().await?;
        // A rule may have expired that was an exemption.
        self.enforce().await?;
        // The resolver's place follows the head closely: what it could not read yet is in rows of its own.
        let keep_from = parts.store.worker_cursor(resolver::NAME)?.unwrap_or(Seq(0));
        let before = parts.clock.now().minus(parts.keep.retention);
        while parts.log.trim(before, keep_from).await? > 0 {}
        let days = |span: Duration| u32::try_from(span.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX);
        let (remember, tombstones) = (days(parts.keep.remember), days(parts.keep.tombstones));
        let sealed = parts
            .store
            .tidy_seen(|set| match set {
                SeenSet::Activities | SeenSet::Objects => remember,
                SeenSet::Signatures => SIGNATURE_DAYS,
                SeenSet::Tombstones => tombstones,
                SeenSet::Authors => AUTHOR_DAYS,
                SeenSet::Newcomers => NEWCOMER_DAYS,
            })
            .await?;
        if sealed.sealed + sealed.forgotten > 0 {
            tracing::debug!(sealed = sealed.sealed, forgotten = sealed.forgotten, "ids put in order");
        }
        parts.metrics.log_entries.set(i64::try_from(parts.log.len()?).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Forgets servers that asked to join and were not answered in time.
    async fn forget_who_waited(&self) -> Result<(), StoreError> {
        let before = self.0.clock.now().minus(PENDING_LIFE);
        let all = self.0.store.subscribers();
        let stale = all.values().filter(|one| waited_since(one, before)).map(|one| one.authority.clone());
        let stale: Vec<Authority> = stale.collect();
        if stale.is_empty() {
            return Ok(());
        }
        let forget = move |tx: &mut Tx<'_>| {
            for authority in stale {
                // It may have been answered, or asked again, since.
                if tx.subscriber(&authority)?.is_some_and(|one| waited_since(&one, before)) {
                    tx.remove_subscriber(&authority)?;
                    tx.remove::<AuthorityFacts>(authority.as_str())?;
                    tracing::info!(peer.host = %authority, "forgotten: it waited for an answer for a month");
                }
            }
            Ok(())
        };
        self.0.store.write(forget).await
    }
}

/// Whether a server waits for the operator and last asked before `before`.
fn waited_since(subscriber: &Subscriber, before: Timestamp) -> bool {
    let asked = subscriber.registrations.iter().map(|one| one.at).max().unwrap_or(subscriber.joined_at);
    subscriber.state == SubscriberState::Pending && asked < before
}

fn unless_busy(done: Result<(), StoreError>) -> Result<(), StoreError> {
    if matches!(done, Err(StoreError::Busy)) { Ok(()) } else { done }
}

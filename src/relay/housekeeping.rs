//! Nothing is kept longer than its use: the log is trimmed, old ids and tombstones are forgotten, refusals are written in
//! batches and dropped after their week.

use std::time::Duration;

use super::Relay;
use super::resolver;
use crate::ids::Seq;
use crate::store::SeenSet;
use crate::supervise::Worker;

const EVERY: Duration = Duration::from_secs(60);
const REFUSALS_EVERY: Duration = Duration::from_secs(2);
/// How long signatures of control messages are remembered: longer than any of them is taken.
const SIGNATURE_DAYS: u32 = 2;

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
        self.relay.tidy().await?;
        self.done = true;
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
        parts.refusals.save(&parts.store, oldest, parts.keep.refusals_max).await?;
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
    pub async fn tidy(&self) -> anyhow::Result<()> {
        let parts = &self.0;
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
            })
            .await?;
        if sealed.sealed + sealed.forgotten > 0 {
            tracing::debug!(sealed = sealed.sealed, forgotten = sealed.forgotten, "ids put in order");
        }
        parts.metrics.log_entries.set(i64::try_from(parts.log.len()?).unwrap_or(i64::MAX));
        Ok(())
    }
}

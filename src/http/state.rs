//! What handlers may ask for: small handles, each taken out by the handler that wants it.

use std::sync::Arc;

use axum::extract::FromRef;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::delivery::Delivery;
use crate::identity::Identity;
use crate::log::Log;
use crate::relay::Relay;
use crate::store::Store;
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

/// All of it. Cheap to clone.
#[derive(Clone, FromRef)]
#[expect(missing_docs, reason = "each field is a service documented at its type")]
pub struct HttpState {
    pub config: Arc<Config>,
    pub identity: Identity,
    pub store: Store,
    pub log: Log,
    pub relay: Relay,
    pub delivery: Delivery,
    pub supervisor: Supervisor,
    pub metrics: Metrics,
    pub inbox_slots: InboxSlots,
}

impl HttpState {
    pub(super) fn actor_path(&self) -> &str {
        &self.config.identity.actor_path
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// How much the inbox takes on at once. Cheap to clone.
#[derive(Clone)]
pub struct InboxSlots {
    /// Requests that are worked on.
    pub requests: Arc<Semaphore>,
    /// Bytes of bodies that are held.
    pub bytes: Arc<Semaphore>,
}

impl InboxSlots {
    /// Bytes of all bodies together: a hundred of the largest, tens of thousands of the usual ones.
    const BYTES: usize = 128 << 20;

    /// Room for `requests` at once.
    #[must_use]
    pub fn new(requests: usize) -> Self {
        Self { requests: Arc::new(Semaphore::new(requests)), bytes: Arc::new(Semaphore::new(Self::BYTES)) }
    }
}

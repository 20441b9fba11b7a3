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

/// Requests to the inbox that may be worked on at once.
#[derive(Clone)]
pub struct InboxSlots(pub Arc<Semaphore>);

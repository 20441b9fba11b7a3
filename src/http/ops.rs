//! What the operator's tools look at: numbers and health. On a listener of its own, never for the world.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::state::InboxSlots;
use crate::log::Log;
use crate::relay::Relay;
use crate::store::{Store, SubscriberState};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

pub(super) async fn metrics(
    State(metrics): State<Metrics>,
    State(store): State<Store>,
    State(log): State<Log>,
    State(slots): State<InboxSlots>,
) -> Response {
    let count = |state| store.subscribers().values().filter(|one| one.state == state).count();
    for (name, state) in [
        ("active", SubscriberState::Active),
        ("pending", SubscriberState::Pending),
        ("checking", SubscriberState::Checking),
    ] {
        metrics.subscribers.with_label_values(&[name]).set(i64::try_from(count(state)).unwrap_or(i64::MAX));
    }
    metrics.log_head.set(i64::try_from(log.head().0).unwrap_or(i64::MAX));
    metrics.store_bytes.set(i64::try_from(store.file_bytes()).unwrap_or(i64::MAX));
    metrics.store_free_bytes.set(i64::try_from(store.free_bytes()).unwrap_or(i64::MAX));
    metrics.inbox_bytes.set(i64::try_from(slots.held_bytes()).unwrap_or(i64::MAX));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()).into_response()
}

/// The process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// It takes and keeps what it is sent, and every worker works: 200; otherwise 503 and what is wrong.
pub(super) async fn ready(
    State(supervisor): State<Supervisor>,
    State(store): State<Store>,
    State(relay): State<Relay>,
) -> Response {
    let workers = supervisor.status();
    let fallen = workers.values().any(|status| matches!(status.state, "failed" | "restarting" | "stopped"));
    let room = relay.has_room();
    let ready = room && !fallen && !store.failed().is_cancelled() && !supervisor.stopping().is_cancelled();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "ready": ready, "store": !store.failed().is_cancelled(), "room": room, "workers": workers });
    (status, Json(body)).into_response()
}

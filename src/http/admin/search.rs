//! What the command line asks about search: for which servers it is switched on, and to switch it on or off for one.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::{Why, answer, host};
use crate::relay::Relay;

/// Servers that search is switched on for, by name.
pub(in crate::http) async fn list(State(relay): State<Relay>) -> Response {
    answer(Ok(json!(relay.search_switched_on())))
}

/// Writes down, with the reason, that search is on for a server.
pub(in crate::http) async fn on(
    State(relay): State<Relay>,
    Path(authority): Path<String>,
    Json(why): Json<Why>,
) -> Response {
    let done = match host(&authority) {
        Ok(authority) => relay.record_search(&authority, &why.reason).await,
        Err(error) => Err(error),
    };
    answer(done.map(|()| json!({ "search": "on", "host": authority, "reason": why.reason })))
}

/// Switches search off for a server, whoever switched it on.
pub(in crate::http) async fn off(State(relay): State<Relay>, Path(authority): Path<String>) -> Response {
    let done = match host(&authority) {
        Ok(authority) => relay.forget_search(&authority).await,
        Err(error) => Err(error),
    };
    answer(done.map(|()| json!({ "search": "off", "host": authority })))
}

//! What the operator's tools look at: numbers and health. On a listener of its own, never for the world. What is wrong is
//! said in [`health`]; what numbers are looked up when they are asked for, in [`gauges`].

mod gauges;
pub(in crate::http) mod health;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use self::health::{Facts, Trouble};
use super::error;
use super::state::HttpState;
use crate::supervise::{Supervisor, Workers};

/// Everything in the text format of Prometheus.
pub(super) async fn metrics(State(state): State<HttpState>) -> Response {
    // Looking reads the disk a little, and every lane.
    let looked = tokio::task::spawn_blocking(move || {
        gauges::look(&state);
        state.metrics.render()
    });
    let Ok(text) = looked.await else { return error::internal() };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[derive(Serialize)]
struct Live {
    live: bool,
    version: &'static str,
    troubles: Vec<Trouble>,
}

/// The process answers: 200. Otherwise it has given up and ends by itself: 503, over connections that are open still. What
/// only a person can mend does not make it dead: whoever starts dead programs anew would not help.
pub(super) async fn live(State(supervisor): State<Supervisor>) -> Response {
    let troubles: Vec<Trouble> = supervisor.fatal().map(Trouble::gave_up).into_iter().collect();
    let live = troubles.is_empty();
    told(live, &Live { live, version: env!("CARGO_PKG_VERSION"), troubles })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    version: &'static str,
    /// What is wrong, the worst first. Those that are not `grave` leave it ready.
    troubles: Vec<Trouble>,
    workers: Workers,
}

/// It takes and keeps what it is sent, and every worker works: 200; otherwise 503 and what is wrong.
pub(super) async fn ready(State(state): State<HttpState>) -> Response {
    let Ok(facts) = tokio::task::spawn_blocking(move || Facts::gather(&state)).await else { return error::internal() };
    let troubles = facts.troubles();
    let ready = health::is_ready(&troubles);
    told(ready, &Ready { ready, version: env!("CARGO_PKG_VERSION"), troubles, workers: facts.workers })
}

fn told(well: bool, body: &impl Serialize) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

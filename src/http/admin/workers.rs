//! What runs in the background, and how it fares.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::Rows;
use super::problem::Usual;
use crate::supervise::Supervisor;

/// A worker.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(in crate::http) struct Shown {
    /// Its name.
    worker: &'static str,
    /// `working`, `waiting`, `restarting`, `stopped`, `failed`.
    state: &'static str,
    /// Units done.
    units: u64,
    /// Times it was made anew.
    restarts: u32,
    /// The last failure.
    last_error: Option<String>,
    /// When it last changed.
    #[schema(format = DateTime)]
    since: String,
}

/// List the background workers.
#[utoipa::path(
    get,
    path = "/api/admin/v1/workers",
    tag = "relay",
    operation_id = "list_workers",
    responses((status = 200, description = "All of them, by name.", body = Vec<Shown>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(State(supervisor): State<Supervisor>) -> Rows<Shown> {
    let rows = supervisor.status().into_iter().map(|(worker, one)| Shown {
        worker,
        state: one.state,
        units: one.units,
        restarts: one.restarts,
        last_error: one.last_error,
        since: one.since.rfc3339(),
    });
    Rows::all(rows.collect())
}

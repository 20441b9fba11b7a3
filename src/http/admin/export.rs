//! The whole state as lines of JSON: how an operator moves house.

use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header;
use serde_json::Value;

use super::noted;
use super::operator::Operator;
use super::problem::{Problem, Usual};
use crate::store::{Store, export};

/// Read the whole state as NDJSON.
///
/// Subscribers, facts about servers, whom we follow, rules, what is held, search and trends. Not the log, tokens, keys or
/// the audit log.
#[utoipa::path(
    get,
    path = "/api/admin/v1/export",
    tag = "relay",
    operation_id = "export",
    responses(
        (status = 200, description = "A record in each line.", body = String, content_type = "application/x-ndjson"),
        Usual,
    ),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn all(
    State(store): State<Store>,
    operator: Operator,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Problem> {
    // On its own machine the operator takes one every ten minutes, which would push what was changed out of the log.
    if !operator.is_local() {
        noted(&store, operator.act(""), "export", "the whole state", Value::Null).await?;
    }
    let write = move || {
        let mut lines = Vec::new();
        export(&store, &mut lines).map(|_count| lines)
    };
    let lines = tokio::task::spawn_blocking(write).await??;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines))
}

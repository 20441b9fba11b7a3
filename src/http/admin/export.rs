//! The whole state as lines of JSON: how an operator moves house.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header;
use serde_json::Value;

use super::asked::Asked;
use super::costly::Costly;
use super::operator::Operator;
use super::problem::{Problem, Usual};
use super::stream::{Pieces, streamed};
use super::{Because, noted};
use crate::store::{Store, export};

/// Read the whole state as NDJSON.
///
/// Subscribers, facts about servers, whom we follow, rules, what is held, search and trends. Not the log, tokens, keys or
/// the audit log. The last line, of kind `end`, says how many there are before it: an answer without it was cut short.
#[utoipa::path(
    get,
    path = "/api/admin/v1/export",
    tag = "relay",
    operation_id = "export",
    params(Because),
    responses(
        (status = 200, description = "A record in each line.", body = String, content_type = "application/x-ndjson"),
        Usual,
    ),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn all(
    State(store): State<Store>,
    State(costly): State<Costly>,
    operator: Operator,
    Asked(because): Asked<Because>,
) -> Result<([(HeaderName, &'static str); 1], Body), Problem> {
    let (act, place) = (operator.act(&because.reason)?, costly.place(&operator)?);
    // On its own machine the operator takes one every ten minutes, which would push what was changed out of the log.
    if !operator.is_local() {
        noted(&store, act, "export", "the whole state", Value::Null).await?;
    }
    let write = move |out: &mut Pieces| export(&store, out).map(drop);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], streamed(place, "an export", write)))
}

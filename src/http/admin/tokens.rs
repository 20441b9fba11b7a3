//! What the command line asks about tokens of programs: to make one, to list them, to revoke one.

use std::time::Duration;

use anyhow::anyhow;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer;
use crate::clock::{Clock, Timestamp};
use crate::policy::tokens::Tokens;
use crate::store::{ApiToken, Scope};

/// What a new token is to be.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct Wanted {
    name: String,
    scope: Scope,
    /// For so many seconds; without it, until it is revoked.
    seconds: Option<u64>,
}

/// Which token.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct Named {
    name: String,
}

/// All of them, without anything that opens.
pub(in crate::http) async fn list(State(tokens): State<Tokens>, State(clock): State<Clock>) -> Response {
    let now = clock.now();
    let rows = tokens.list().map(|rows| rows.iter().map(|(_, token)| row(token, now)).collect::<Vec<_>>());
    answer(rows.map(|rows| json!(rows)).map_err(Into::into))
}

/// Makes one and shows it, this once.
pub(in crate::http) async fn make(
    State(tokens): State<Tokens>,
    State(clock): State<Clock>,
    Json(wanted): Json<Wanted>,
) -> Response {
    let made = tokens.make(&wanted.name, wanted.scope, wanted.seconds.map(Duration::from_secs)).await;
    answer(made.map(|made| {
        let mut shown = row(&made.record, clock.now());
        shown["token"] = made.token.into();
        shown
    }))
}

/// Takes one back.
pub(in crate::http) async fn revoke(State(tokens): State<Tokens>, Query(named): Query<Named>) -> Response {
    let done = match tokens.revoke(&named.name).await {
        Ok(true) => Ok(json!({ "revoked": named.name })),
        Ok(false) => Err(anyhow!("there is no token named {:?}", named.name)),
        Err(error) => Err(error.into()),
    };
    answer(done)
}

fn row(token: &ApiToken, now: Timestamp) -> Value {
    let day =
        |day: i64| Timestamp::from_secs(day.saturating_mul(86_400)).rfc3339().chars().take(10).collect::<String>();
    let is_over = token.expires_at.is_some_and(|at| at <= now);
    json!({
        "name": token.name,
        "scope": token.scope,
        "state": if is_over { "expired" } else { "good" },
        "made_at": token.made_at.rfc3339(),
        "expires_at": token.expires_at.map(Timestamp::rfc3339),
        "last_used": token.used_on.map(day),
    })
}

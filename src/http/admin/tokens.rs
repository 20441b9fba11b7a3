//! Tokens of programs: made, listed, revoked.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Rows, Told};
use super::operator::{Operator, short};
use super::problem::{Changing, Problem, Usual};
use crate::clock::{Clock, Timestamp};
use crate::policy::tokens::Tokens;
use crate::store::{ApiToken, Scope};

/// The longest that a token may be good for, if it has an end: a hundred years.
const LONGEST: u64 = 100 * 366 * 86_400;

/// What a new token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenWish)]
pub(in crate::http) struct Wanted {
    /// Who gets it, or what for. Each name once.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it opens.
    scope: Scope,
    /// For so many seconds; without it, until it is revoked.
    #[schema(minimum = 1, maximum = 3_162_240_000_u64)]
    seconds: Option<u64>,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// A token, without anything that opens.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(in crate::http) struct Shown {
    /// Who has it, or what for.
    name: String,
    /// The beginning of its public half, as the audit log names it: names of revoked ones may be given again.
    id: String,
    /// What it opens.
    scope: Scope,
    /// `good` or `expired`.
    state: &'static str,
    /// When it was made.
    #[schema(format = DateTime)]
    made_at: String,
    /// From when on it opens nothing.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The day on which it was used last.
    #[schema(format = Date)]
    last_used: Option<String>,
}

impl Shown {
    fn of(id: &str, token: &ApiToken, now: Timestamp) -> Self {
        let day =
            |day: i64| Timestamp::from_secs(day.saturating_mul(86_400)).rfc3339().chars().take(10).collect::<String>();
        let is_over = token.expires_at.is_some_and(|at| at <= now);
        Self {
            name: token.name.clone(),
            id: short(id).to_owned(),
            scope: token.scope,
            state: if is_over { "expired" } else { "good" },
            made_at: token.made_at.rfc3339(),
            expires_at: token.expires_at.map(Timestamp::rfc3339),
            last_used: token.used_on.map(day),
        }
    }
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewToken)]
pub(in crate::http) struct New {
    /// What is known of it.
    #[serde(flatten)]
    shown: Shown,
    /// The token itself, this once: nobody can read it again.
    token: String,
}

/// List the tokens.
#[utoipa::path(
    get,
    path = "/api/admin/v1/tokens",
    tag = "tokens",
    operation_id = "list_tokens",
    responses((status = 200, description = "All of them.", body = Vec<Shown>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(tokens): State<Tokens>,
    State(clock): State<Clock>,
) -> Result<Rows<Shown>, Problem> {
    let now = clock.now();
    let all = tokio::task::spawn_blocking(move || tokens.list()).await??;
    Ok(Rows::all(all.iter().map(|(id, token)| Shown::of(id, token, now)).collect()))
}

/// Make a token and show it, this once.
///
/// One that is made over a token expires when that one does, at the latest.
#[utoipa::path(
    post,
    path = "/api/admin/v1/tokens",
    tag = "tokens",
    operation_id = "make_token",
    request_body = Wanted,
    responses((status = 201, description = "It is made.", body = New), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn make(
    State(tokens): State<Tokens>,
    State(clock): State<Clock>,
    operator: Operator,
    Told(wanted): Told<Wanted>,
) -> Result<(StatusCode, Json<New>), Problem> {
    if wanted.seconds.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
        return Err(Problem::unread(format!("a token is good for 1 to {LONGEST} seconds, or until it is revoked")));
    }
    let asked = wanted.seconds.map(|seconds| clock.now().plus(Duration::from_secs(seconds)));
    // Whoever stole a token that is good for a day would else have one for ever.
    let until = asked.into_iter().chain(operator.until()).min();
    let made = tokens.make_until(&wanted.name, wanted.scope, until, &operator.act(&wanted.reason)?).await?;
    let shown = Shown::of(&made.id, &made.record, clock.now());
    Ok((StatusCode::CREATED, Json(New { shown, token: made.token })))
}

/// Which token.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Named {
    /// Its name.
    name: String,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// A token that opens nothing any more.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Revoked {
    /// Its name.
    revoked: String,
}

/// Take a token back.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/tokens",
    tag = "tokens",
    operation_id = "revoke_token",
    params(Named),
    responses((status = 200, description = "It opens nothing any more.", body = Revoked), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn revoke(
    State(tokens): State<Tokens>,
    operator: Operator,
    Asked(named): Asked<Named>,
) -> Result<Json<Revoked>, Problem> {
    if tokens.revoke(&named.name, &operator.act(&named.reason)?).await? {
        return Ok(Json(Revoked { revoked: named.name }));
    }
    Err(Problem::absent(format!("there is no token named {:?}", named.name)))
}

//! The audit log: who changed what, and why.

use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::asked::{Asked, Rows, limit, limit_of};
use super::costly::Costly;
use super::operator::Operator;
use super::problem::{Problem, Usual};
use crate::store::{AuditEntry, Store};

/// Which changes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// Only by who is called this: `local`, `token:NAME`.
    who: Option<String>,
    /// Only what is called this or begins so: `rule`, `subscriber.approve`.
    what: Option<String>,
    /// Only what is about something that holds this.
    target: Option<String>,
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    after: Option<String>,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Change {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// `local`, or `token:` and the token's name.
    who: String,
    /// The beginning of the token's id, since the names of revoked ones may be given again.
    token: Option<String>,
    /// What was done.
    what: String,
    /// To whom or what; of posts and people, their server.
    target: String,
    /// Why, if they said.
    why: String,
    /// What was there; null: nothing.
    before: Value,
    /// What is there since; null: nothing.
    after: Value,
}

impl From<AuditEntry> for Change {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at, who, token, what, target, why, before, after } = entry;
        Self { at: at.rfc3339(), who, token, what, target, why, before, after }
    }
}

/// List what was changed, the newest first.
///
/// Kept for a year, and the last 50,000 changes. A page ends where its rows are a megabyte, however many were asked for.
#[utoipa::path(
    get,
    path = "/api/admin/v1/log",
    tag = "log",
    operation_id = "list_changes",
    params(Which),
    responses((status = 200, description = "Changes. `Link` has the next page.", body = Vec<Change>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(store): State<Store>,
    State(costly): State<Costly>,
    operator: Operator,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Rows<Change>, Problem> {
    let limit = limit_of(which.limit);
    let after = which.after.clone().unwrap_or_default();
    let is_sifted = which.who.is_some() || which.what.is_some() || which.target.is_some();
    let wanted = move |entry: &AuditEntry| {
        let is = |asked: &Option<String>, has: &str| asked.as_ref().is_none_or(|asked| has == asked);
        is(&which.who, &entry.who)
            && which.what.as_ref().is_none_or(|what| entry.what.starts_with(what.as_str()))
            && which.target.as_ref().is_none_or(|target| entry.target.contains(target.as_str()))
    };
    let read = move || store.audited_page(&after, limit, wanted);
    // A year of rows may be looked through for few.
    let (found, more) =
        if is_sifted { costly.read(&operator, read).await? } else { tokio::task::spawn_blocking(read).await?? };
    let last = found.last().map(|(key, _)| key.clone()).filter(|_| more);
    let rows = found.into_iter().map(|(_, entry)| entry.into()).collect();
    Ok(Rows::up_to(rows, last.as_deref(), &uri))
}

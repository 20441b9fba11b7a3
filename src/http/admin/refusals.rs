//! What was refused lately, and why.

use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Rows, limit, moment, server};
use super::problem::{Problem, Usual};
use crate::clock::Timestamp;
use crate::relay::explain::meaning;
use crate::store::{Refusal, Store};

/// Which refusals.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// Only of who claimed to be of this server.
    host: Option<String>,
    /// Only by this check: `digest`, `blocked`.
    check: Option<String>,
    /// Only from this time on.
    #[serde(default, deserialize_with = "moment")]
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[serde(default, deserialize_with = "moment")]
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    after: Option<String>,
}

/// A refusal, or several alike within a minute.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusal)]
pub(in crate::http) struct Shown {
    /// When first.
    #[schema(format = DateTime)]
    at: String,
    /// Whom the request named.
    claimed: Option<String>,
    /// It is proved that it was them: the signature held.
    signed: bool,
    /// The failed check; `not-kept` says how many of an hour there was no room for.
    check: String,
    /// What was answered; 0 where several were.
    status: u16,
    /// What failed, in a sentence.
    detail: String,
    /// What the other admin has to mend.
    mend: &'static str,
    /// How many alike.
    count: u32,
}

impl From<Refusal> for Shown {
    fn from(one: Refusal) -> Self {
        let Refusal { at, claimed, check, status, detail, count, signed } = one;
        let mend = meaning(&check).map_or("", |meaning| meaning.mend);
        Self { at: at.rfc3339(), claimed, signed, check, status, detail, mend, count }
    }
}

/// List what was refused lately, the newest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/refusals",
    tag = "refusals",
    operation_id = "list_refusals",
    params(Which),
    responses((status = 200, description = "Refusals. `Link` has the next page.", body = Vec<Shown>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(store): State<Store>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Rows<Shown>, Problem> {
    let host = which.host.as_deref().map(server).transpose()?;
    let check = which.check.as_ref().map(|check| check.trim().to_ascii_lowercase());
    let read = move || store.sound_page::<Refusal>("", usize::MAX);
    let wanted = |one: &Refusal| {
        host.as_ref().is_none_or(|host| one.claimed.as_deref() == Some(host.as_str()))
            && check.as_ref().is_none_or(|check| one.check == *check)
            && which.since.is_none_or(|since| one.at >= since)
            && which.until.is_none_or(|until| one.at < until)
    };
    let rows = tokio::task::spawn_blocking(read).await??.rows.into_iter().rev();
    let rows: Vec<(String, Refusal)> = rows.filter(|(_, one)| wanted(one)).collect();
    // Their keys grow with time, so that a page goes on where they are smaller.
    let key = |(key, _): &(String, Refusal)| newest_first(key);
    let page = Rows::cut(rows, key, (which.after.as_deref(), which.limit), &uri, |(_, one)| one.into());
    Ok(page)
}

/// A key whose order is the other way round.
fn newest_first(key: &str) -> String {
    let turn = |c: char| c.to_digit(10).and_then(|digit| char::from_digit(9 - digit, 10)).unwrap_or(c);
    key.chars().map(turn).collect()
}

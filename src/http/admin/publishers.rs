//! Servers that may send although they never follow.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Host, Rows, Told, limit};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use super::{Because, Done, Why};
use crate::ids::Authority;
use crate::relay::Relay;
use crate::store::{Publisher, Store};

/// Which publishers.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// Only those whose name holds this.
    like: Option<String>,
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    after: Option<String>,
}

/// A publisher.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Publisher)]
pub(in crate::http) struct Shown {
    /// The server.
    host: String,
    /// Since when it may send.
    #[schema(format = DateTime)]
    since: String,
    /// On whose word.
    reason: String,
    /// Who wrote it down.
    by: String,
}

impl Shown {
    fn of(host: String, row: Publisher) -> Self {
        let Publisher { since, reason, by } = row;
        Self { host, since: since.rfc3339(), reason, by }
    }
}

/// List the servers that may send although they never follow, by name.
#[utoipa::path(
    get,
    path = "/api/admin/v1/publishers",
    tag = "publishers",
    operation_id = "list_publishers",
    params(Which),
    responses((status = 200, description = "Publishers. `Link` has the next page.", body = Vec<Shown>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(store): State<Store>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Rows<Shown>, Problem> {
    let mut rows = store.sound_page::<Publisher>("", usize::MAX)?.rows;
    rows.retain(|(host, _)| which.like.as_deref().is_none_or(|like| host.contains(like)));
    let key = |(host, _): &(String, Publisher)| host.clone();
    Ok(Rows::cut(rows, key, (which.after.as_deref(), which.limit), &uri, |(host, row)| Shown::of(host, row)))
}

/// Let a server send although it never follows.
///
/// Its public posts are relayed as a subscriber's are; nothing is sent to it.
#[utoipa::path(
    post,
    path = "/api/admin/v1/publishers/{host}",
    tag = "publishers",
    operation_id = "add_publisher",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "It may send.", body = Shown), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn add(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Shown>, Problem> {
    let row = relay.add_publisher(&host, &operator.act(&why.reason)?).await?;
    Ok(Json(Shown::of(host.to_string(), row)))
}

/// Take that back.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/publishers/{host}",
    tag = "publishers",
    operation_id = "remove_publisher",
    params(("host" = Authority, Path, description = "The server."), Because),
    responses((status = 200, description = "It may send no more.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn remove(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Asked(why): Asked<Because>,
) -> Result<Json<Done>, Problem> {
    relay.remove_publisher(&host, &operator.act(&why.reason)?).await?;
    Ok(Json(Done { done: "removed", host, reason: why.reason }))
}

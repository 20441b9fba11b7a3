//! For which servers search is switched on, and to switch it on or off for one.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::{Asked, Host, Paging, Rows, Told};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use super::{Because, Why};
use crate::ids::Authority;
use crate::relay::Relay;
use crate::relay::switch::Switched;

/// List the servers that search is switched on for.
#[utoipa::path(
    get,
    path = "/api/admin/v1/search/servers",
    tag = "search",
    operation_id = "list_search_servers",
    params(Paging),
    responses((status = 200, description = "By name. `Link` has the next page.", body = Vec<Switched>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(relay): State<Relay>,
    uri: Uri,
    Asked(paging): Asked<Paging>,
) -> Rows<Switched> {
    let key = |one: &Switched| one.host.to_string();
    Rows::cut(relay.search_switched_on(), key, (paging.after.as_deref(), paging.limit), &uri, |one| one)
}

/// How it stands with one server.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Switch {
    /// `on` or `off`.
    search: &'static str,
    /// The server.
    host: Authority,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

/// Write down that search is on for a server, on whose word.
#[utoipa::path(
    post,
    path = "/api/admin/v1/search/servers/{host}",
    tag = "search",
    operation_id = "switch_search_on",
    params(("host" = Authority, Path, description = "The server.")),
    request_body = Why,
    responses((status = 200, description = "It is on.", body = Switch), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn on(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Switch>, Problem> {
    relay.record_search(&host, &why.reason, &operator.act(&why.reason)?).await?;
    Ok(Json(Switch { search: "on", host, reason: why.reason }))
}

/// Switch search off for a server, whoever switched it on.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/search/servers/{host}",
    tag = "search",
    operation_id = "switch_search_off",
    params(("host" = Authority, Path, description = "The server."), Because),
    responses((status = 200, description = "It is off.", body = Switch), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn off(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Asked(because): Asked<Because>,
) -> Result<Json<Switch>, Problem> {
    relay.forget_search(&host, &operator.act(&because.reason)?).await?;
    Ok(Json(Switch { search: "off", host, reason: because.reason }))
}

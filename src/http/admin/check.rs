//! What this relay saw of a server, for the operator: all that its admin could be told, with the words of what was refused,
//! and the address of the page that tells it to them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::Host;
use super::operator::Operator;
use super::problem::{Problem, Usual};
use crate::ids::Authority;
use crate::relay::Relay;
use crate::relay::check::Told;
use crate::store::Scope;

/// How a server stands.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct StandingOfServer {
    /// The server.
    host: Authority,
    /// What is known, step by step.
    steps: Vec<Told>,
    /// The page that tells its admin the same. It is for them alone: whoever has it is told whether the server joined, and a token
    /// for reading may be revoked, while this is good for ever. So it is told to who may moderate.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
}

/// What this relay last saw of a server, step by step, and what its admin has to mend. Nothing is asked for it.
#[utoipa::path(
    get,
    path = "/api/admin/v1/check/{host}",
    tag = "refusals",
    operation_id = "check_server",
    params(("host" = String, Path, description = "The server.")),
    responses((status = 200, description = "How it stands.", body = StandingOfServer), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn server(
    State(relay): State<Relay>,
    operator: Operator,
    Host(host): Host,
) -> Result<Json<StandingOfServer>, Problem> {
    let link = operator.may(Scope::Moderate).then(|| relay.check_link(&host));
    let of = host.clone();
    let standing = tokio::task::spawn_blocking(move || relay.known(&of, true)).await??;
    Ok(Json(StandingOfServer { host, steps: standing.steps, link }))
}

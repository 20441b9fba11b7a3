//! A look at one server, now: what works between it and us, step by step.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::asked::{Host, Told};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::ids::Authority;
use crate::relay::Relay;
use crate::relay::probe::{Depth, Probe};

/// Looks at once: each makes a handful of requests and takes half a minute at most.
const AT_ONCE: usize = 4;

/// How many looks are under way. Cheap to clone.
#[derive(Clone)]
pub struct Probes(Arc<Semaphore>);

impl Default for Probes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// How to look.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProbeWish)]
pub(in crate::http) struct How {
    /// Also send it a signed message that changes nothing: an Update of our actor as it is.
    #[serde(default = "yes")]
    deliver: bool,
}

const fn yes() -> bool {
    true
}

/// Look at a server now: its actor, WebFinger and NodeInfo, and whether it takes a signed message of ours.
///
/// Nothing is changed, here or there. Each step says what was found and what to do about it.
#[utoipa::path(
    post,
    path = "/api/admin/v1/servers/{host}/probe",
    tag = "subscribers",
    operation_id = "probe",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<How>),
    responses((status = 200, description = "What was found.", body = Probe), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn probe(
    State(relay): State<Relay>,
    State(probes): State<Probes>,
    Host(host): Host,
    _operator: Operator,
    Told(how): Told<How>,
) -> Result<Json<Probe>, Problem> {
    let busy = || Problem::later(StatusCode::SERVICE_UNAVAILABLE, "as many looks as may be are under way", 30);
    let _place = probes.0.try_acquire().map_err(|_none| busy())?;
    let depth = if how.deliver { Depth::Deliver } else { Depth::Read };
    Ok(Json(relay.probe(&host, depth).await))
}

//! What leaves and what waits: how each lane fares, and messages to single servers.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Host, Rows, Told, limit};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use super::{Done, Why, noted};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, LaneState, LaneStatus};
use crate::ids::Authority;
use crate::store::{ControlTally, Store};

/// Which lanes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// Only those that fare so: `healthy`, `failing`, `paused` or `dormant`.
    health: Option<LaneState>,
    /// Only those that are behind.
    #[serde(default)]
    behind: bool,
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    after: Option<String>,
}

/// A lane: all that goes to one subscriber.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Lane {
    /// The subscriber.
    host: Authority,
    /// How it fares.
    health: LaneState,
    /// Entries of the log that it has not got yet. Some of them may not be for it.
    lag: u64,
    /// The first of them, by its place in the log.
    position: u64,
    /// Requests under way,
    in_flight: usize,
    /// and how many there may be.
    window: usize,
    /// Messages that are for this server alone and wait: Accept, Reject, Follow.
    messages: u32,
    /// What went wrong last.
    last_reason: Option<String>,
    /// When it is tried again, if it waits.
    #[schema(format = DateTime)]
    next_attempt: Option<String>,
}

impl Lane {
    fn of(lane: LaneStatus, messages: u32) -> Self {
        Self {
            host: lane.authority,
            health: lane.state,
            lag: lane.lag,
            position: lane.position.0,
            in_flight: lane.in_flight,
            window: lane.window,
            messages,
            last_reason: lane.last_reason,
            next_attempt: lane.next_attempt.map(Timestamp::rfc3339),
        }
    }
}

/// List how deliveries fare, by the name of the subscriber.
#[utoipa::path(
    get,
    path = "/api/admin/v1/deliveries",
    tag = "deliveries",
    operation_id = "list_deliveries",
    params(Which),
    responses((status = 200, description = "Lanes. `Link` has the next page.", body = Vec<Lane>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(store): State<Store>,
    State(delivery): State<Delivery>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Rows<Lane>, Problem> {
    let mut lanes = delivery.lanes();
    lanes.retain(|lane| which.health.is_none_or(|health| lane.state == health) && (!which.behind || lane.lag > 0));
    let tallies = tokio::task::spawn_blocking(move || store.all_sound::<ControlTally>()).await??;
    let tallies: HashMap<String, u32> = tallies.into_iter().map(|(host, tally)| (host, tally.messages)).collect();
    let key = |lane: &LaneStatus| lane.authority.to_string();
    Ok(Rows::cut(lanes, key, (which.after.as_deref(), which.limit), &uri, |lane| {
        let messages = tallies.get(lane.authority.as_str()).copied().unwrap_or(0);
        Lane::of(lane, messages)
    }))
}

/// Try a subscriber now, whatever its lane waits for.
///
/// A pause that the relay made because it refused us ends; one that you made does not.
#[utoipa::path(
    post,
    path = "/api/admin/v1/deliveries/{host}/retry",
    tag = "deliveries",
    operation_id = "retry",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "It is tried.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn retry(
    State(store): State<Store>,
    State(delivery): State<Delivery>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Done>, Problem> {
    let (act, absent) = (operator.act(&why.reason)?, || Problem::absent(format!("nothing is delivered to {host}")));
    if !delivery.lanes().iter().any(|lane| lane.authority == host) {
        return Err(absent());
    }
    noted(&store, act, "delivery.retry", host.as_str(), serde_json::Value::Null).await?;
    if !delivery.retry_now(&host) {
        return Err(absent());
    }
    Ok(Json(Done { done: "tried", host, reason: why.reason }))
}

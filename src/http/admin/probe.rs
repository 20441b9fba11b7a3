//! A look at one server, now: what works between it and us, step by step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::asked::{Host, Told};
use super::noted;
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::clock::{Clock, Timestamp};
use crate::ids::Authority;
use crate::relay::Relay;
use crate::relay::probe::{Depth, Probe};
use crate::store::Store;

/// Looks at once: each makes a handful of requests and takes half a minute at most.
const AT_ONCE: usize = 4;
/// Looks at the servers of one registrable domain in a minute: each of them sends it a handful of requests in our name, and who
/// mends something looks again and again.
const A_MINUTE: u32 = 3;
/// Domains whose looks are counted. More than can be looked at in a minute.
const DOMAINS: usize = 1000;

/// How many looks are under way, and how often servers were looked at. Cheap to clone.
#[derive(Clone)]
pub struct Probes {
    places: Arc<Semaphore>,
    /// By registrable domain: since when they are counted, and how many there were.
    looks: Arc<Mutex<HashMap<String, (Timestamp, u32)>>>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), looks: Arc::default() }
    }
}

impl Probes {
    /// Counts a look; in how many seconds there may be one, if there may be none now.
    fn may_look(&self, host: &Authority, now: Timestamp) -> Result<(), u32> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |since: &Timestamp| now.since(*since).as_secs();
        looks.retain(|_, (since, _)| age(since) < 60);
        let (domain, is_full) = (host.registrable(), looks.len() >= DOMAINS);
        match looks.get_mut(domain) {
            Some((since, count)) if *count >= A_MINUTE => {
                Err(u32::try_from(60_u64.saturating_sub(age(since))).unwrap_or(60))
            }
            Some((_, count)) => {
                *count += 1;
                Ok(())
            }
            None if is_full => Err(60),
            None => {
                looks.insert(domain.to_owned(), (now, 1));
                Ok(())
            }
        }
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
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

const fn yes() -> bool {
    true
}

/// Look at a server now: its actor, WebFinger and NodeInfo, and whether it takes a signed message of ours.
///
/// Nothing is changed, here or there; that it was looked at is written down. Each step says what was found and what to do about
/// it. A server is looked at three times a minute at most.
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
    State(store): State<Store>,
    State(clock): State<Clock>,
    Host(host): Host,
    operator: Operator,
    Told(how): Told<How>,
) -> Result<Json<Probe>, Problem> {
    let act = operator.act(&how.reason)?;
    let busy = || Problem::later(StatusCode::SERVICE_UNAVAILABLE, "as many looks as may be are under way", 30);
    let _place = probes.places.try_acquire().map_err(|_none| busy())?;
    let often = |wait| {
        let said = format!("{host} was looked at {A_MINUTE} times within a minute");
        Problem::later(StatusCode::TOO_MANY_REQUESTS, said, wait)
    };
    probes.may_look(&host, clock.now()).map_err(often)?;
    noted(&store, act, "server.probe", host.as_str(), json!({ "deliver": how.deliver })).await?;
    let depth = if how.deliver { Depth::Deliver } else { Depth::Read };
    Ok(Json(relay.probe(&host, depth).await))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_servers_of_one_domain_are_looked_at_three_times_a_minute() {
        let (probes, start) = (Probes::default(), Timestamp::from_secs(1_787_486_400));
        let look = |host: &str, after: u64| {
            probes.may_look(&Authority::parse(host).unwrap(), start.plus(Duration::from_secs(after)))
        };
        for (host, after) in [("a.evil.example", 0), ("b.evil.example", 1), ("evil.example:8443", 2)] {
            look(host, after).unwrap();
        }
        assert_eq!(look("c.evil.example", 10), Err(50));
        look("other.example", 10).unwrap();
        look("c.evil.example", 60).unwrap();
        for number in 0..2 * DOMAINS {
            let _ = look(&format!("a{number}.example"), 61);
        }
        assert!(probes.looks.lock().unwrap().len() <= DOMAINS);
    }
}

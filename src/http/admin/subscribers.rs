//! Who joined or waits: how they fare, and what the operator does about them.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Host, Rows, Told, limit, limit_of, moment};
use super::operator::Operator;
use super::problem::{Absent, Changing, Problem, Usual};
use super::{Because, Done, Why};
use crate::clock::Timestamp;
use crate::delivery::{Delivery, LaneState, LaneStatus};
use crate::ids::{Authority, Iri};
use crate::relay::Relay;
use crate::relay::switch::Switched;
use crate::store::{AuthorityFacts, Mode, SearchServer, Sharing, Store, Style, Subscriber, SubscriberState};

/// What is told who is turned away without a reason.
const NO: &str = "The operator of this relay said no.";
/// The same of one that had joined.
const GONE: &str = "The operator of this relay removed your server.";

/// Which subscribers.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// Only those that stand so: `checking`, `pending` or `active`.
    state: Option<SubscriberState>,
    /// Only those whose deliveries fare so: `healthy`, `failing`, `paused` or `dormant`.
    health: Option<LaneState>,
    /// Only those that run this, by its name in NodeInfo.
    software: Option<String>,
    /// Only those whose name holds this.
    like: Option<String>,
    /// Only those of which nothing that they signed came since this time.
    #[serde(default, deserialize_with = "moment")]
    #[param(value_type = Option<String>, format = DateTime)]
    unseen_since: Option<Timestamp>,
    /// Those that are behind most come first. All in one page.
    #[serde(default)]
    by_lag: bool,
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    after: Option<String>,
}

/// A subscriber.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscriber)]
pub(in crate::http) struct Shown {
    /// The server.
    host: Authority,
    /// Where it stands.
    state: SubscriberState,
    /// What it gets.
    mode: Mode,
    /// How it follows: by which handshakes.
    styles: Vec<Style>,
    /// What it runs.
    software: Option<String>,
    /// Which version.
    version: Option<String>,
    /// Until when all is announced to it, because it refused a forward.
    #[schema(format = DateTime)]
    announce_until: Option<String>,
    /// What it made of signatures that are shared with other servers: `taken` or `refused` (it gets its own).
    shared_signatures: Option<&'static str>,
    /// Who switched search on for it: `admin` (its own) or `operator`.
    search: Option<&'static str>,
    /// Since when.
    #[schema(format = DateTime)]
    search_since: Option<String>,
    /// When it first asked.
    #[schema(format = DateTime)]
    joined_at: String,
    /// When a verified request of it came last, to the hour.
    #[schema(format = DateTime)]
    seen_at: String,
    /// How deliveries to it fare.
    health: Option<LaneState>,
    /// Entries of the log that it has not got yet.
    lag: Option<u64>,
    /// What went wrong last.
    last_reason: Option<String>,
    /// When it last took something.
    #[schema(format = DateTime)]
    last_success: Option<String>,
    /// When it last did not.
    #[schema(format = DateTime)]
    last_failure: Option<String>,
    /// Failures since it last took something.
    failures_in_a_row: u32,
    /// Posts that it brought and that were taken, all in all.
    posts_in: u64,
    /// Entries that it took, all in all.
    delivered: u64,
    /// Entries that it refused.
    dropped: u64,
    /// Entries that became too old for it.
    expired: u64,
    /// Since when the operator lets nothing be sent to it.
    #[schema(format = DateTime)]
    paused_since: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_for: Option<String>,
    /// A person let it in or released its posts: it is not on probation.
    vouched_for: bool,
    /// The actors that follow for it.
    actors: Vec<Iri>,
}

impl Shown {
    fn of(
        one: &Subscriber,
        lane: Option<&LaneStatus>,
        facts: AuthorityFacts,
        searched: Option<&SearchServer>,
        relay: &Relay,
    ) -> Self {
        let health = &one.health;
        let search = searched.map(|server| Switched::of(one.authority.clone(), server));
        Self {
            host: one.authority.clone(),
            state: one.state,
            mode: one.mode,
            styles: one.registrations.iter().map(|one| one.style).collect(),
            software: facts.software,
            version: facts.version,
            announce_until: facts.announce_until.map(|until| until.rfc3339()),
            shared_signatures: facts.shared.map(Sharing::as_str),
            search: search.as_ref().map(|search| search.by),
            search_since: search.map(|search| search.since),
            joined_at: one.joined_at.rfc3339(),
            seen_at: one.seen_at.rfc3339(),
            health: lane.map(|lane| lane.state),
            lag: lane.map(|lane| lane.lag),
            last_reason: lane.and_then(|lane| lane.last_reason.clone()).or_else(|| health.last_reason.clone()),
            last_success: health.last_success.map(|at| at.rfc3339()),
            last_failure: health.last_failure.map(|at| at.rfc3339()),
            failures_in_a_row: health.consecutive,
            posts_in: one.posts.saturating_add(relay.given_lately(&one.authority)),
            delivered: health.delivered,
            dropped: health.dropped,
            expired: health.expired,
            paused_since: one.paused.as_ref().map(|paused| paused.since.rfc3339()),
            paused_for: one.paused.as_ref().map(|paused| paused.reason.clone()).filter(|reason| !reason.is_empty()),
            vouched_for: one.vouched_for,
            actors: one.registrations.iter().map(|one| one.actor.clone()).collect(),
        }
    }
}

/// List the servers that joined or wait, by name, and how delivery to them fares.
#[utoipa::path(
    get,
    path = "/api/admin/v1/subscribers",
    tag = "subscribers",
    operation_id = "list_subscribers",
    params(Which),
    responses((status = 200, description = "Subscribers. `Link` has the next page.", body = Vec<Shown>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(store): State<Store>,
    State(delivery): State<Delivery>,
    State(relay): State<Relay>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Rows<Shown>, Problem> {
    let searched = store.search_servers();
    let lanes: HashMap<Authority, LaneStatus> =
        delivery.lanes().into_iter().map(|lane| (lane.authority.clone(), lane)).collect();
    let mut all: Vec<_> = store.subscribers().values().cloned().collect();
    all.sort_by(|one, other| one.authority.cmp(&other.authority));
    // All facts in one look: ten thousand would each cost a transaction.
    let facts = tokio::task::spawn_blocking(move || store.all_sound::<AuthorityFacts>()).await??;
    let mut facts: HashMap<String, AuthorityFacts> = facts.into_iter().collect();
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.trim().to_lowercase());
    let (wanted_software, like) = (lower(&which.software), lower(&which.like));
    let wanted = |one: &Subscriber| {
        let software = facts.get(one.authority.as_str()).and_then(|facts| facts.software.as_deref());
        which.state.is_none_or(|state| one.state == state)
            && which.health.is_none_or(|health| lanes.get(&one.authority).is_some_and(|lane| lane.state == health))
            && wanted_software
                .as_deref()
                .is_none_or(|wanted| software.is_some_and(|is| is.eq_ignore_ascii_case(wanted)))
            && like.as_deref().is_none_or(|like| one.authority.as_str().contains(like))
            && which.unseen_since.is_none_or(|since| one.seen_at < since)
    };
    all.retain(|one| wanted(one));
    if which.by_lag {
        let lag = |one: &Subscriber| lanes.get(&one.authority).map_or(0, |lane| lane.lag);
        all.sort_by_key(|one| std::cmp::Reverse(lag(one)));
        all.truncate(limit_of(which.limit));
    }
    let key = |one: &std::sync::Arc<Subscriber>| one.authority.to_string();
    Ok(Rows::cut(all, key, (which.after.as_deref(), which.limit), &uri, |one| {
        let facts = facts.remove(one.authority.as_str()).unwrap_or_default();
        Shown::of(&one, lanes.get(&one.authority), facts, searched.get(&one.authority).map(AsRef::as_ref), &relay)
    }))
}

/// One server that joined or waits.
#[utoipa::path(
    get,
    path = "/api/admin/v1/subscribers/{host}",
    tag = "subscribers",
    operation_id = "subscriber",
    params(("host" = Authority, Path, description = "The server.")),
    responses((status = 200, description = "How it stands.", body = Shown), Absent, Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn one(
    State(store): State<Store>,
    State(delivery): State<Delivery>,
    State(relay): State<Relay>,
    Host(host): Host,
) -> Result<Json<Shown>, Problem> {
    let Some(one) = store.subscriber(&host) else { return Err(Problem::absent(format!("{host} is no subscriber"))) };
    let facts = relay.facts(&host)?;
    let (lanes, searched) = (delivery.lanes(), store.search_servers());
    let lane = lanes.iter().find(|lane| lane.authority == host);
    Ok(Json(Shown::of(&one, lane, facts, searched.get(&host).map(AsRef::as_ref), &relay)))
}

/// Let a waiting server in, or end the probation of one that is in.
#[utoipa::path(
    post,
    path = "/api/admin/v1/subscribers/{host}/approve",
    tag = "subscribers",
    operation_id = "approve",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "It is told.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn approve(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Done>, Problem> {
    relay.approve(&host, &operator.act(&why.reason)?).await?;
    Ok(Json(Done { done: "approved", host, reason: String::new() }))
}

/// Turn a waiting server away, or remove one that joined.
///
/// A Reject with the reason goes to the other admin.
#[utoipa::path(
    post,
    path = "/api/admin/v1/subscribers/{host}/reject",
    tag = "subscribers",
    operation_id = "reject",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "It is told.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn reject(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Done>, Problem> {
    let reason = if why.reason.is_empty() { NO } else { &why.reason };
    relay.reject(&host, reason, &operator.act(&why.reason)?).await?;
    Ok(Json(Done { done: "rejected", host, reason: reason.to_owned() }))
}

/// Remove a server that joined.
///
/// A Reject with the reason goes to the other admin; it may ask again.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/subscribers/{host}",
    tag = "subscribers",
    operation_id = "remove",
    params(("host" = Authority, Path, description = "The server."), Because),
    responses((status = 200, description = "It is told.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn remove(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Asked(why): Asked<Because>,
) -> Result<Json<Done>, Problem> {
    let reason = if why.reason.is_empty() { GONE } else { &why.reason };
    relay.reject(&host, reason, &operator.act(&why.reason)?).await?;
    Ok(Json(Done { done: "removed", host, reason: reason.to_owned() }))
}

/// Send a subscriber nothing for now.
///
/// What it misses waits for it, up to `delivery.horizon`; what it sends is taken as before.
#[utoipa::path(
    post,
    path = "/api/admin/v1/subscribers/{host}/pause",
    tag = "subscribers",
    operation_id = "pause",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "It is paused.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn pause(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Done>, Problem> {
    relay.pause(&host, true, &operator.act(&why.reason)?).await?;
    Ok(Json(Done { done: "paused", host, reason: why.reason }))
}

/// Send it again what waits, and what comes.
#[utoipa::path(
    post,
    path = "/api/admin/v1/subscribers/{host}/resume",
    tag = "subscribers",
    operation_id = "resume",
    params(("host" = Authority, Path, description = "The server.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "It is sent to.", body = Done), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn resume(
    State(relay): State<Relay>,
    State(delivery): State<Delivery>,
    Host(host): Host,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Done>, Problem> {
    relay.pause(&host, false, &operator.act(&why.reason)?).await?;
    delivery.retry_now(&host);
    Ok(Json(Done { done: "resumed", host, reason: why.reason }))
}

/// What a subscriber is to get.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModeWish)]
pub(in crate::http) struct Wanted {
    /// What it gets.
    mode: Mode,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// What a subscriber gets now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Gets {
    /// The server.
    host: Authority,
    /// What it gets.
    mode: Mode,
}

/// Set what a subscriber gets.
///
/// Also ends a downgrade: the time in which all is announced to it because it refused a forward.
#[utoipa::path(
    post,
    path = "/api/admin/v1/subscribers/{host}/mode",
    tag = "subscribers",
    operation_id = "set_mode",
    params(("host" = Authority, Path, description = "The server.")),
    request_body = Wanted,
    responses((status = 200, description = "It is set.", body = Gets), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn mode(
    State(relay): State<Relay>,
    Host(host): Host,
    operator: Operator,
    Told(wanted): Told<Wanted>,
) -> Result<Json<Gets>, Problem> {
    relay.set_mode(&host, wanted.mode, &operator.act(&wanted.reason)?).await?;
    Ok(Json(Gets { host, mode: wanted.mode }))
}

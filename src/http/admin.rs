//! What the command line asks, over the Unix socket in `data_dir` that only the operator can open.

pub(super) mod index;
pub(super) mod rules;
pub(super) mod search;
pub(super) mod tokens;
pub(super) mod trends;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error;
use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::identity::{HOLD, Identity, Rotate, new_pair};
use crate::ids::Authority;
use crate::relay::Relay;
use crate::relay::held::HeldTarget;
use crate::relay::switch::Switched;
use crate::store::{Following, HeldPost, Mode, Refusal, Store, Style, SubscriberState, export as export_store};
use crate::supervise::Supervisor;

pub(super) async fn subscribers(
    State(store): State<Store>,
    State(delivery): State<Delivery>,
    State(relay): State<Relay>,
) -> Response {
    let (lanes, searched) = (delivery.lanes(), store.search_servers());
    let mut rows: Vec<Value> = Vec::new();
    for subscriber in store.subscribers().values() {
        let place = lanes.binary_search_by(|lane| lane.authority.cmp(&subscriber.authority));
        let lane = place.ok().and_then(|place| lanes.get(place));
        let facts = relay.facts(&subscriber.authority).unwrap_or_default();
        let health = &subscriber.health;
        let search = searched.get(&subscriber.authority);
        let search = search.map(|server| Switched::of(subscriber.authority.clone(), server));
        let styles: Vec<Style> = subscriber.registrations.iter().map(|one| one.style).collect();
        let state = match subscriber.state {
            SubscriberState::Active => "active",
            SubscriberState::Pending => "pending",
            SubscriberState::Checking => "checking",
        };
        rows.push(json!({
            "host": subscriber.authority,
            "state": state,
            "mode": subscriber.mode,
            "styles": styles,
            "software": facts.software,
            "version": facts.version,
            "announce_until": facts.announce_until.map(|until| until.rfc3339()),
            "search": search.as_ref().map(|search| search.by),
            "search_since": search.as_ref().map(|search| search.since.as_str()),
            "joined_at": subscriber.joined_at.rfc3339(),
            "seen_at": subscriber.seen_at.rfc3339(),
            "health": lane.map(|lane| lane.state),
            "lag": lane.map(|lane| lane.lag),
            "last_reason": lane.and_then(|lane| lane.last_reason.clone()).or_else(|| health.last_reason.clone()),
            "last_success": health.last_success.map(|at| at.rfc3339()),
            "last_failure": health.last_failure.map(|at| at.rfc3339()),
            "failures_in_a_row": health.consecutive,
            "delivered": health.delivered,
            "dropped": health.dropped,
            "expired": health.expired,
        }));
    }
    rows.sort_by_key(|row| row["host"].as_str().map(str::to_owned));
    Json(rows).into_response()
}

#[derive(Deserialize)]
pub(super) struct Why {
    #[serde(default)]
    reason: String,
}

pub(super) async fn approve(State(relay): State<Relay>, Path(authority): Path<String>) -> Response {
    let done = match host(&authority) {
        Ok(authority) => relay.approve(&authority).await,
        Err(error) => Err(error),
    };
    answer(done.map(|()| json!({ "approved": authority })))
}

pub(super) async fn reject(
    State(relay): State<Relay>,
    Path(authority): Path<String>,
    Json(why): Json<Why>,
) -> Response {
    let reason = if why.reason.is_empty() { "The operator of this relay said no." } else { &why.reason };
    let done = match host(&authority) {
        Ok(authority) => relay.reject(&authority, reason).await,
        Err(error) => Err(error),
    };
    answer(done.map(|()| json!({ "rejected": authority, "reason": reason })))
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    mode: Mode,
}

/// Sets what a subscriber gets, and ends a downgrade.
pub(super) async fn mode(
    State(store): State<Store>,
    Path(authority): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Response {
    let mode = wanted.mode;
    let done = match host(&authority) {
        Ok(key) => store.write(move |tx| tx.set_mode(&key, mode)).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let done =
        done.and_then(|found| if found { Ok(()) } else { Err(anyhow::anyhow!("{authority} did not ask to join")) });
    answer(done.map(|()| json!({ "host": authority, "mode": mode })))
}

pub(super) async fn following(State(store): State<Store>) -> Response {
    let rows = store.all::<Following>().map_err(anyhow::Error::from);
    answer(rows.map(|rows| json!(rows.into_iter().map(|(_, one)| one).collect::<Vec<_>>())))
}

#[derive(Deserialize)]
pub(super) struct FollowRequest {
    target: String,
    style: Style,
}

pub(super) async fn follow(State(relay): State<Relay>, Json(request): Json<FollowRequest>) -> Response {
    answer(relay.follow(&request.target, request.style).await.map(|following| json!(following)))
}

#[derive(Deserialize)]
pub(super) struct Target {
    target: String,
}

pub(super) async fn unfollow(State(relay): State<Relay>, Query(request): Query<Target>) -> Response {
    answer(relay.unfollow(&request.target).await.map(|()| json!({ "unfollowed": request.target })))
}

/// The newest refusals first.
pub(super) async fn refusals(State(store): State<Store>) -> Response {
    let rows = store.all::<Refusal>().map_err(anyhow::Error::from);
    answer(rows.map(|rows| json!(rows.into_iter().rev().map(|(_, one)| one).collect::<Vec<_>>())))
}

#[derive(Deserialize)]
pub(super) struct WhichHeld {
    host: Option<String>,
    #[serde(default)]
    text: bool,
}

/// Servers of which something is held; of one server, its posts, the oldest first. Their text only if asked for.
pub(super) async fn held(
    State(relay): State<Relay>,
    State(store): State<Store>,
    Query(which): Query<WhichHeld>,
) -> Response {
    let Some(text) = which.host else {
        return answer(relay.held_servers().map(|rows| json!(rows)).map_err(anyhow::Error::from));
    };
    let posts = host(&text).and_then(|host| Ok(store.held_of(&host)?));
    let row = |post: HeldPost| {
        let mut row = json!({
            "id": post.object,
            "author": post.actor,
            "kind": post.kind,
            "reason": post.reason,
            "at": post.at.rfc3339(),
        });
        if which.text {
            row["text"] = post.text.into();
        }
        row
    };
    answer(posts.map(|posts| json!(posts.into_iter().map(row).collect::<Vec<_>>())))
}

#[derive(Deserialize)]
pub(super) struct HeldRequest {
    target: String,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn release(State(relay): State<Relay>, Json(request): Json<HeldRequest>) -> Response {
    let done = match HeldTarget::parse(&request.target) {
        Ok(target) => relay.release(&target).await,
        Err(error) => Err(error),
    };
    answer(done.map(|done| json!(done)))
}

pub(super) async fn discard(State(relay): State<Relay>, Json(request): Json<HeldRequest>) -> Response {
    let done = match HeldTarget::parse(&request.target) {
        Ok(target) => relay.discard(&target, request.dry_run).await,
        Err(error) => Err(error),
    };
    let word = if request.dry_run { "would_discard" } else { "discarded" };
    answer(done.map(|count| json!({ word: count })))
}

pub(super) async fn workers(State(supervisor): State<Supervisor>) -> Response {
    Json(supervisor.status()).into_response()
}

#[derive(Deserialize)]
pub(super) struct Rotation {
    now: bool,
}

/// Begins a rotation of the relay's keys; they are on the disk and in use when it answers.
pub(super) async fn rotate_keys(
    State(identity): State<Identity>,
    State(clock): State<Clock>,
    Json(wanted): Json<Rotation>,
) -> Response {
    let how = if wanted.now { Rotate::Now } else { Rotate::After(HOLD) };
    let rotate = move || {
        let said = identity.rotation.foretell(how, clock.now())?;
        identity.rotation.rotate(how, clock.now(), new_pair)?;
        Ok(json!({ "said": said, "keys": identity.rotation.status()? }))
    };
    // Making an RSA key takes a second.
    answer(tokio::task::spawn_blocking(rotate).await.unwrap_or_else(|fault| Err(fault.into())))
}

/// The whole state as NDJSON.
pub(super) async fn export(State(store): State<Store>) -> Response {
    let mut lines = Vec::new();
    match export_store(&store, &mut lines) {
        Ok(_) => ([("content-type", "application/x-ndjson")], lines).into_response(),
        Err(error) => error::admin(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

fn host(text: &str) -> anyhow::Result<Authority> {
    Authority::parse(text).map_err(|fault| anyhow::anyhow!("{text:?} is no host: {fault}"))
}

fn answer(done: anyhow::Result<Value>) -> Response {
    match done {
        Ok(value) => Json(value).into_response(),
        Err(error) => error::admin(StatusCode::UNPROCESSABLE_ENTITY, &error),
    }
}

//! What the command line asks, over the Unix socket in `data_dir` that only the operator can open.

pub(super) mod rules;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error;
use crate::delivery::Delivery;
use crate::ids::Authority;
use crate::relay::Relay;
use crate::store::{Following, Mode, Refusal, Store, Style, SubscriberState, export as export_store};
use crate::supervise::Supervisor;

pub(super) async fn subscribers(
    State(store): State<Store>,
    State(delivery): State<Delivery>,
    State(relay): State<Relay>,
) -> Response {
    let lanes = delivery.lanes();
    let mut rows: Vec<Value> = Vec::new();
    for subscriber in store.subscribers().values() {
        let lane = lanes.iter().find(|lane| lane.authority == subscriber.authority);
        let facts = relay.facts(&subscriber.authority).unwrap_or_default();
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
            "joined_at": subscriber.joined_at.rfc3339(),
            "seen_at": subscriber.seen_at.rfc3339(),
            "health": lane.map(|lane| lane.state),
            "lag": lane.map(|lane| lane.lag),
            "last_reason": lane.and_then(|lane| lane.last_reason.clone()),
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

pub(super) async fn workers(State(supervisor): State<Supervisor>) -> Response {
    Json(supervisor.status()).into_response()
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

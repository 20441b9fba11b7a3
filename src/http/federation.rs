//! What other servers call: the inbox, the relay's actor and what belongs to it, and discovery.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::{internal, not_found, problem};
use super::listen::Client;
use super::state::{Followed, InboxSlots};
use crate::config::Config;
use crate::identity::Identity;
use crate::log::Log;
use crate::relay::Relay;
use crate::relay::inbox::Answer;
use crate::relay::verify::{Inbox, Received, Rejection};
use crate::store::{SeenSet, Store};
use crate::wire::{author, discovery};

const ACTIVITY: &str = "application/activity+json";

/// `POST /inbox`.
pub(super) async fn inbox(
    State(relay): State<Relay>,
    State(config): State<Arc<Config>>,
    State(slots): State<InboxSlots>,
    request: Request<Body>,
) -> Response {
    take(Inbox::Relay, relay, config, slots, request).await
}

/// `POST /search/inbox`.
pub(super) async fn search_inbox(
    State(relay): State<Relay>,
    State(config): State<Arc<Config>>,
    State(slots): State<InboxSlots>,
    request: Request<Body>,
) -> Response {
    take(Inbox::Search, relay, config, slots, request).await
}

async fn take(inbox: Inbox, relay: Relay, config: Arc<Config>, slots: InboxSlots, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let from = parts.extensions.get::<Client>().and_then(|client| client.sender(&parts.headers));
    if let Some(rejection) = wrong_type(&parts.headers) {
        return reject(&relay, rejection);
    }
    let limit = usize::try_from(config.http.max_body.as_u64()).unwrap_or(usize::MAX);
    let read = read_body(body, limit, &slots.bytes);
    let (body, bytes) = match tokio::time::timeout(config.http.body_timeout, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(rejection)) => return reject(&relay, rejection),
        Err(_elapsed) => return reject(&relay, slow()),
    };
    // Taken after the body is there, so that slow senders take no place, and given back when the work is done, whether
    // or not the sender waited for it.
    let Ok(slot) = slots.requests.clone().try_acquire_owned() else {
        return reject(&relay, overload());
    };
    let target = parts.uri.path_and_query().map_or("/inbox", |target| target.as_str()).to_owned();
    let received = Received { inbox, method: parts.method, target, headers: parts.headers, body, from };
    match relay.receive(received, (slot, bytes)).await {
        Answer::Accepted(_) => StatusCode::ACCEPTED.into_response(),
        Answer::Rejected(rejection) => problem(&rejection),
    }
}

fn slow() -> Rejection {
    refuse(408, "body-time", "the body did not arrive in time".to_owned(), "Send it again, faster.")
}

fn overload() -> Rejection {
    Rejection::later("overload", "the relay is working on as much as it takes", 5)
}

fn refuse(status: u16, check: &'static str, detail: String, remedy: &'static str) -> Rejection {
    Rejection { status, check, detail, remedy, retry_after: None }
}

fn reject(relay: &Relay, rejection: Rejection) -> Response {
    relay.account_rejection(&rejection);
    problem(&rejection)
}

fn wrong_type(headers: &HeaderMap) -> Option<Rejection> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let detail = "the inbox takes no content encodings".to_owned();
        return Some(refuse(415, "content-encoding", detail, "Send the body as it is."));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(essence.as_str(), ACTIVITY | "application/ld+json" | "application/json") {
        return None;
    }
    let detail = "the inbox takes activities only".to_owned();
    Some(refuse(415, "content-type", detail, "Send Content-Type: application/activity+json."))
}

/// A body arrives at a kilobyte a second at least, after a start: who sends slower holds a connection for nothing. And no
/// two pieces are further apart than the start is long: who sends all but the last byte holds what was read.
const LEAST_RATE: u32 = 1024;
const START: Duration = Duration::from_secs(2);

/// Until when the next piece must be there, after so many bytes since `begun`, the last of them at `last`.
fn patience(begun: Instant, last: Instant, read: usize) -> Instant {
    let due =
        begun + START + Duration::from_secs(1).saturating_mul(u32::try_from(read).unwrap_or(u32::MAX)) / LEAST_RATE;
    due.min(last + START)
}

/// Reads at most `limit` bytes; more is not read at all. What is held of all bodies together is bounded too: by what has
/// arrived, not by what was promised, so that slow senders hold next to nothing.
async fn read_body(
    mut body: Body,
    limit: usize,
    budget: &Arc<Semaphore>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Rejection> {
    let too_big = || refuse(413, "body-size", format!("the body is over {limit} bytes"), "Send smaller activities.");
    if body.size_hint().lower() > limit as u64 {
        discard(&mut body, limit).await;
        return Err(too_big());
    }
    let (mut read, mut held, begun) = (BytesMut::new(), None::<OwnedSemaphorePermit>, Instant::now());
    let mut last = begun;
    while let Some(frame) =
        tokio::time::timeout_at(patience(begun, last, read.len()), body.frame()).await.map_err(|_elapsed| slow())?
    {
        last = Instant::now();
        let frame = frame.map_err(|_broken| refuse(400, "body", "the body broke off".to_owned(), "Send it again."))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > limit {
            return Err(too_big());
        }
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let more = budget.clone().try_acquire_many_owned(size).map_err(|_full| overload())?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        read.extend_from_slice(&data);
    }
    Ok((read.freeze(), held))
}

/// Reads on for a while and keeps nothing: a sender that is cut off while it still sends never sees the answer.
async fn discard(body: &mut Body, limit: usize) {
    let mut rest = limit.saturating_mul(2);
    while let Some(Ok(frame)) = body.frame().await {
        let Some(left) = rest.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        rest = left;
    }
}

/// The relay's actor. JSON for every program; a browser that asks for HTML alone is shown the home page.
pub(super) async fn actor(State(identity): State<Identity>, headers: HeaderMap) -> Response {
    if wants_only_html(&headers) {
        return Redirect::to("/").into_response();
    }
    activity_json(&identity.document())
}

/// The search actor.
pub(super) async fn search_actor(State(identity): State<Identity>, headers: HeaderMap) -> Response {
    if wants_only_html(&headers) {
        return Redirect::to("/").into_response();
    }
    activity_json(&identity.search_document())
}

fn wants_only_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    accept.contains("text/html") && !accept.contains("json")
}

fn activity_json(document: &Value) -> Response {
    let mut response = document.to_string().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ACTIVITY));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// The outbox is empty: what the relay says is about others. snac reads it after an Accept.
pub(super) async fn outbox(State(identity): State<Identity>) -> Response {
    activity_json(&author::collection(&identity.ids.outbox, 0))
}

/// The same of the search actor, which says nothing.
pub(super) async fn search_outbox(State(identity): State<Identity>) -> Response {
    activity_json(&author::collection(&identity.search.outbox, 0))
}

/// How many servers switched search on themselves, and, if the operator wants, which.
pub(super) async fn search_followers(
    State(identity): State<Identity>,
    State(store): State<Store>,
    State(config): State<Arc<Config>>,
) -> Response {
    let servers = store.search_servers();
    let follows = servers.values().flat_map(|one| one.follows());
    let mut actors: Vec<String> = follows.map(|one| one.actor.to_string()).collect();
    actors.sort();
    activity_json(&collection(&identity.search.followers, &actors, config.relay.show_subscribers))
}

/// The search actor follows nobody.
pub(super) async fn search_following(State(identity): State<Identity>) -> Response {
    activity_json(&author::collection(&identity.search.following, 0))
}

/// How many servers joined, and, if the operator wants, which.
pub(super) async fn followers(
    State(identity): State<Identity>,
    State(store): State<Store>,
    State(config): State<Arc<Config>>,
) -> Response {
    let subscribers = store.subscribers();
    let active = subscribers.values().filter(|one| one.is_active());
    let mut actors: Vec<String> =
        active.flat_map(|one| one.registrations.iter().map(|one| one.actor.to_string())).collect();
    actors.sort();
    activity_json(&collection(&identity.ids.followers, &actors, config.relay.show_subscribers))
}

/// How many the relay follows, and, if the operator wants, whom.
pub(super) async fn following(
    State(identity): State<Identity>,
    State(store): State<Store>,
    State(config): State<Arc<Config>>,
    State(followed): State<Followed>,
) -> Response {
    match followed.actors(&store) {
        Ok(actors) => activity_json(&collection(&identity.ids.following, &actors, config.relay.show_subscribers)),
        Err(error) => {
            tracing::error!(%error, "whom the relay follows could not be read");
            internal()
        }
    }
}

fn collection(id: &crate::ids::Iri, members: &[String], show: bool) -> Value {
    let mut document = author::collection(id, members.len() as u64);
    if !show && let Some(object) = document.as_object_mut() {
        // A count without members: no list of who joined unless the operator wants one.
        object.remove("orderedItems");
    } else {
        document["orderedItems"] = json!(members);
    }
    document
}

/// An Announce of ours, while its entry is in the log: Misskey, Friendica and Mitra may ask for it.
pub(super) async fn announce(
    State(identity): State<Identity>,
    State(log): State<Log>,
    State(store): State<Store>,
    State(relay): State<Relay>,
    State(config): State<Arc<Config>>,
    Path(hash): Path<String>,
) -> Response {
    let Ok(Some(entry)) = log.announced(&hash) else { return not_found().await };
    if !entry.relayed {
        return not_found().await;
    }
    // What was deleted is not offered any longer.
    if store.has_seen(SeenSet::Tombstones, &[entry.object.as_str()]).unwrap_or(true) {
        return not_found().await;
    }
    if relay.keeps_back(&entry) {
        return not_found().await;
    }
    let ids = &identity.ids;
    let audience = audience(&config);
    // The same bytes as were sent, unless our keys changed since: the proof in them is made of what the entry says.
    let keys = identity.keys.proves();
    let prover = Some(&keys.ed25519);
    let body = author::announce(ids, &ids.announce(&hash), entry.object.as_str(), entry.at, audience, prover);
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(ACTIVITY));
    response
}

fn audience(config: &Config) -> author::AnnounceAudience {
    match config.relay.announce_audience {
        crate::config::AnnounceAudience::Followers => author::AnnounceAudience::Followers,
        crate::config::AnnounceAudience::Public => author::AnnounceAudience::Public,
    }
}

#[derive(Deserialize)]
pub(super) struct Resource {
    resource: Option<String>,
}

/// WebFinger (RFC 7033) for our actors' handles and ids, and the origin; nothing else is known here.
pub(super) async fn webfinger(
    State(identity): State<Identity>,
    State(config): State<Arc<Config>>,
    Query(query): Query<Resource>,
) -> Response {
    let Some(resource) = query.resource else {
        return (StatusCode::BAD_REQUEST, "the parameter `resource` is missing\n").into_response();
    };
    let relay = discovery::webfinger(&identity.ids, &resource);
    // The origin is the relay's actor's, whatever the other says of it.
    let search = || config.search.is_on().then(|| discovery::webfinger(&identity.search, &resource)).flatten();
    let Some(document) = relay.or_else(search) else { return not_found().await };
    typed(document.to_string(), "application/jrd+json")
}

pub(super) async fn host_meta(State(identity): State<Identity>) -> Response {
    typed(discovery::host_meta(&identity.ids), "application/xrd+xml; charset=utf-8")
}

pub(super) async fn nodeinfo_links(State(identity): State<Identity>) -> Response {
    typed(discovery::nodeinfo_links(&identity.ids).to_string(), "application/json")
}

pub(super) async fn nodeinfo(
    State(identity): State<Identity>,
    State(config): State<Arc<Config>>,
    Path(version): Path<String>,
) -> Response {
    let content_type = match version.as_str() {
        "2.0" => "application/json; profile=\"http://nodeinfo.diaspora.software/ns/schema/2.0#\"",
        "2.1" => "application/json; profile=\"http://nodeinfo.diaspora.software/ns/schema/2.1#\"",
        _ => return not_found().await,
    };
    let ids = &identity.ids;
    let name = if config.site.name.is_empty() { ids.host().to_string() } else { config.site.name.clone() };
    let document = discovery::nodeinfo(&version, ids, env!("CARGO_PKG_VERSION"), &name, &config.site.summary);
    typed(document.to_string(), content_type)
}

fn typed(body: String, content_type: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

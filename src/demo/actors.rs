//! The documents of an instance: actors, keys, collections, WebFinger, host-meta, NodeInfo, posts and tombstones, and
//! who may read them. Everything that a GET can see, but for the ledger.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::family::Family;
use super::keys::key;
use super::parts::{As, Author};
use super::posts::Visibility;
use super::proofs;
use super::serve::{Reply, reply};
use super::shapes::{self, AS2};
use super::state::{Shared, Stored};
use super::verify::{Request, Rules, Takes, claim};

const ACTIVITY: &str = "application/activity+json";
const JSON: &str = "application/json";

/// Answers a GET. Whoever must sign and did not gets 401.
pub(super) async fn answer(shared: &Shared, target: &str, headers: &HeaderMap) -> Reply {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if needs_signature(shared, path)
        && let Err(why) = may_read(shared, target, headers).await
    {
        return reply(StatusCode::UNAUTHORIZED, JSON, json!({ "error": why }).to_string());
    }
    match path {
        "/" => reply(StatusCode::OK, "text/html", format!("<h1>{}</h1>", shared.options.name)),
        "/.well-known/webfinger" => webfinger(shared, query),
        "/.well-known/host-meta" => {
            let link =
                format!(r#"<Link rel="lrdd" template="{}/.well-known/webfinger?resource={{uri}}"/>"#, shared.origin);
            let xrd = format!(r#"<XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0">{link}</XRD>"#);
            reply(StatusCode::OK, "application/xrd+xml", xrd)
        }
        "/.well-known/nodeinfo" => {
            let link = |version: &str| {
                json!({ "rel": format!("http://nodeinfo.diaspora.software/ns/schema/{version}"),
                        "href": format!("{}/nodeinfo/{version}", shared.origin) })
            };
            reply(StatusCode::OK, JSON, json!({ "links": [link("2.0"), link("2.1")] }).to_string())
        }
        "/nodeinfo/2.0" | "/nodeinfo/2.1" => nodeinfo(shared, path),
        _ => document(shared, path),
    }
}

/// GoToSocial lets nothing be read unsigned but its instance account; Mastodon does the same in secure mode.
fn needs_signature(shared: &Shared, path: &str) -> bool {
    let strict = shared.options.secure_mode || shared.family == Family::GoToSocial;
    let server = shared.path_of(&As::Server);
    let open = path.starts_with("/.well-known/") || path.starts_with("/nodeinfo/") || path == "/";
    strict && !open && path != server && path != shared.path_of(&As::Fetcher) && path != format!("{server}/main-key")
}

async fn may_read(shared: &Shared, target: &str, headers: &HeaderMap) -> Result<(), String> {
    let rules = Rules { takes: Takes::Either, ..shared.family.fetch_rules() };
    let request = Request { method: "GET", target, headers, body: &Bytes::new() };
    let claim = claim(&request, &rules, &shared.origin, shared.now()).map_err(|refusal| refusal.1)?;
    shared.verified(&claim).await.map(|_key| ()).map_err(|refusal| refusal.1)
}

fn document(shared: &Shared, path: &str) -> Reply {
    let server = [As::Server, As::Fetcher].into_iter().find(|who| shared.path_of(who) == path);
    if let Some(who) = server {
        return reply(StatusCode::OK, ACTIVITY, service(shared, &who).to_string());
    }
    for author in &shared.options.authors {
        let base = shared.path_of(&As::Author(author.name.clone()));
        match path.strip_prefix(base.as_str()) {
            Some("") => return reply(StatusCode::OK, ACTIVITY, person(shared, author).to_string()),
            Some("/main-key") => return reply(StatusCode::OK, ACTIVITY, stub(shared, &base, &author.name).to_string()),
            Some("/followers" | "/following" | "/outbox") => return collection(shared, path),
            _ => {}
        }
    }
    let server = shared.path_of(&As::Server);
    match path.strip_prefix(server.as_str()) {
        Some("/main-key") => {
            let name = shared.family.server_name(&shared.host());
            return reply(StatusCode::OK, ACTIVITY, stub(shared, &server, &name).to_string());
        }
        Some("/followers" | "/following" | "/outbox") => return collection(shared, path),
        _ => {}
    }
    match shared.look(|state| state.posts.get(path).cloned()) {
        Some(post) => served_post(shared, &post),
        None => not_found(),
    }
}

fn served_post(shared: &Shared, post: &Stored) -> Reply {
    if post.deleted {
        let stone = json!({ "@context": AS2, "id": post.place.id, "type": "Tombstone" });
        return reply(StatusCode::GONE, ACTIVITY, stone.to_string());
    }
    // Nobody who fetches with a server's key is a follower.
    if matches!(post.visibility, Visibility::Followers | Visibility::Direct) {
        return not_found();
    }
    let mut object = post.object.clone();
    shapes::merge(&mut object, json!({ "@context": shapes::context(shared.family, &shared.origin) }));
    reply(StatusCode::OK, ACTIVITY, object.to_string())
}

fn not_found() -> Reply {
    reply(StatusCode::NOT_FOUND, JSON, r#"{"error":"Record not found"}"#)
}

/// The actors that act for the server itself.
fn service(shared: &Shared, who: &As) -> Value {
    let (path, id) = (shared.path_of(who), shared.id_of(who));
    let mut actor = actor(shared, &path, &id, &service_name(shared, who));
    shapes::merge(
        &mut actor,
        json!({ "type": "Application", "manuallyApprovesFollowers": shared.family == Family::Mastodon,
                "url": format!("{}/about", shared.origin) }),
    );
    actor
}

/// Akkoma fetches as an actor of its own.
fn service_name(shared: &Shared, who: &As) -> String {
    if *who == As::Fetcher && shared.family == Family::Akkoma {
        return "internal.fetch".to_owned();
    }
    shared.family.server_name(&shared.host())
}

pub(super) fn person(shared: &Shared, author: &Author) -> Value {
    let path = shared.path_of(&As::Author(author.name.clone()));
    let mut actor = actor(shared, &path, &format!("{}{path}", shared.origin), &author.name);
    shapes::merge(
        &mut actor,
        json!({
            "type": if author.bot { "Service" } else { "Person" },
            "name": author.name, "summary": "<p>Lives in the demo.</p>",
            "url": format!("{}/@{}", shared.origin, author.name),
            "published": "2026-01-01T00:00:00Z", "discoverable": author.discoverable, "indexable": author.indexable,
            "manuallyApprovesFollowers": false,
        }),
    );
    if let Some(changed) = shared.look(|state| state.profiles.get(&author.name).cloned()) {
        shapes::merge(&mut actor, changed);
    }
    actor
}

/// What all actors have.
fn actor(shared: &Shared, path: &str, id: &str, name: &str) -> Value {
    let mut actor = json!({
        "@context": [AS2, "https://w3id.org/security/v1",
                     { "toot": "http://joinmastodon.org/ns#", "indexable": "toot:indexable",
                       "discoverable": "toot:discoverable",
                       "manuallyApprovesFollowers": "as:manuallyApprovesFollowers" }],
        "id": id, "preferredUsername": name, "inbox": format!("{id}/inbox"), "outbox": format!("{id}/outbox"),
        "followers": format!("{id}/followers"), "following": format!("{id}/following"),
        "publicKey": public_key(shared, path), "assertionMethod": proofs::published(id),
    });
    if shared.family.has_shared_inbox() {
        shapes::merge(&mut actor, json!({ "endpoints": { "sharedInbox": format!("{}/inbox", shared.origin) } }));
    }
    actor
}

/// The document at a GoToSocial key id: not the actor, and no more than the key needs.
fn stub(shared: &Shared, path: &str, name: &str) -> Value {
    json!({
        "@context": [AS2, "https://w3id.org/security/v1"], "id": format!("{}{path}", shared.origin),
        "type": if name == shared.host() { "Application" } else { "Person" }, "preferredUsername": name,
        "publicKey": public_key(shared, path),
    })
}

fn public_key(shared: &Shared, path: &str) -> Value {
    let id = format!("{}{path}", shared.origin);
    let pem = key(shared.keys_of(path).published).public_pem();
    json!({ "id": shared.family.key_id(&id), "owner": id, "publicKeyPem": pem })
}

fn collection(shared: &Shared, path: &str) -> Reply {
    let id = format!("{}{path}", shared.origin);
    let empty = json!({ "@context": AS2, "id": id, "type": "OrderedCollection", "totalItems": 0, "orderedItems": [] });
    reply(StatusCode::OK, ACTIVITY, empty.to_string())
}

fn webfinger(shared: &Shared, query: &str) -> Reply {
    let resource = query.split('&').find_map(|pair| pair.strip_prefix("resource=")).unwrap_or_default();
    let resource = percent_decode_str(resource).decode_utf8_lossy().into_owned();
    let authority = shared.origin.trim_start_matches("http://");
    let known = [As::Server, As::Fetcher].map(|who| (service_name(shared, &who), who));
    let authors = shared.options.authors.iter().map(|author| (author.name.clone(), As::Author(author.name.clone())));
    for (name, who) in known.into_iter().chain(authors) {
        let (acct, id) = (format!("acct:{name}@{authority}"), shared.id_of(&who));
        if resource == acct || resource == id {
            let jrd = json!({ "subject": acct, "aliases": [id],
                              "links": [{ "rel": "self", "type": ACTIVITY, "href": id }] });
            return reply(StatusCode::OK, "application/jrd+json", jrd.to_string());
        }
    }
    not_found()
}

fn nodeinfo(shared: &Shared, path: &str) -> Reply {
    let version = path.rsplit('/').next().unwrap_or("2.0");
    let info = json!({
        "version": version,
        "software": { "name": shared.family.software(), "version": shared.family.version() },
        "protocols": ["activitypub"], "services": { "inbound": [], "outbound": [] }, "openRegistrations": false,
        "usage": { "users": { "total": shared.options.authors.len() } },
        "metadata": { "nodeName": shared.options.name },
    });
    reply(StatusCode::OK, JSON, info.to_string())
}

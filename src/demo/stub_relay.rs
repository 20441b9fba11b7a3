//! A relay of two hundred lines, without store, limits or suspicion, for the demo's own tests: what it does right shows
//! that the instances can be satisfied, and what is then broken on purpose shows that the checker sees it. The real
//! relay is tested from the outside, in `tests/it`.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::client::Loopback;
use super::keys::key;
use super::remote::{id_of, text};
use super::serve::{self, Arrived, HangUp, Reply, reply};
use super::shapes::{AS2, PUBLIC};
use super::sign::{self, Profile, Signer, Tweaks};
use crate::clock::Clock;

pub(super) struct StubRelay(Arc<Inner>);

struct Inner {
    origin: String,
    client: Loopback,
    tasks: TaskTracker,
    stop: CancellationToken,
    seen: Mutex<HashSet<String>>,
    lanes: Mutex<BTreeMap<String, Lane>>,
}

#[derive(Clone)]
struct Lane {
    believes: bool,
    queue: mpsc::UnboundedSender<Bytes>,
}

const CAVAGE: Profile = Profile::Cavage {
    algorithm: "rsa-sha256",
    post: &["(request-target)", "host", "date", "digest", "content-type"],
    get: &["(request-target)", "host", "date"],
};

impl StubRelay {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
        let inner = Arc::new(Inner {
            origin: format!("http://{}", listener.local_addr().expect("an address")),
            client: Loopback::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            seen: Mutex::default(),
            lanes: Mutex::default(),
        });
        let shared = Arc::clone(&inner);
        let handler = move |arrived| handle(Arc::clone(&shared), arrived);
        inner.tasks.spawn(serve::accept(listener, |_| None, inner.tasks.clone(), inner.stop.clone(), handler));
        Self(inner)
    }

    pub(super) fn url(&self) -> &str {
        &self.0.origin
    }

    pub(super) fn signer(&self) -> Signer {
        Signer { key_id: format!("{}/actor#main-key", self.0.origin), key: key(5), bare_host: false }
    }
}

impl Drop for StubRelay {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}

async fn handle(relay: Arc<Inner>, arrived: Arrived) -> Result<Reply, HangUp> {
    let origin = &relay.origin;
    let actor = format!("{origin}/actor");
    let path = arrived.request.uri().path().to_owned();
    if arrived.request.method() == Method::POST {
        let activity: Value = serde_json::from_slice(arrived.request.body()).unwrap_or_default();
        let body = arrived.request.into_body();
        let shared = Arc::clone(&relay);
        relay.tasks.spawn(async move { Box::pin(take(shared, activity, body)).await });
        return Ok(serve::text(StatusCode::ACCEPTED, ""));
    }
    let document = match path.as_str() {
        "/actor" => json!({
            "@context": [AS2, "https://w3id.org/security/v1"], "id": actor, "type": "Application",
            "preferredUsername": "relay", "name": "Stub", "inbox": format!("{origin}/inbox"),
            "followers": format!("{origin}/followers"), "publicKey": {
                "id": format!("{actor}#main-key"), "owner": actor, "publicKeyPem": key(5).public_pem() },
        }),
        "/.well-known/webfinger" => {
            json!({ "links": [{ "rel": "self", "type": "application/activity+json", "href": actor }] })
        }
        _ => return Ok(serve::text(StatusCode::NOT_FOUND, "")),
    };
    Ok(reply(StatusCode::OK, "application/activity+json", document.to_string()))
}

async fn take(relay: Arc<Inner>, activity: Value, body: Bytes) {
    let id = activity.get("object").and_then(id_of).unwrap_or_default().to_owned();
    let actor = activity.get("actor").and_then(id_of).unwrap_or_default().to_owned();
    let origin = actor.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let signed = activity.get("signature").is_some();
    match text(&activity, "type") {
        Some("Follow") => join(&relay, &activity, &actor, &origin),
        Some("Create") if activity.to_string().contains("followers") && public(&activity["object"]) => {
            spread(&relay, &id, &origin, signed.then_some(body));
        }
        Some("Announce") if actor.ends_with("/relay") => {
            let Ok(url) = Url::parse(&id) else { return };
            let Ok(answer) = relay.client.get(url, "application/activity+json").await else { return };
            if public(&serde_json::from_slice(&answer.body).unwrap_or_default()) {
                spread(&relay, &id, &origin, None);
            }
        }
        Some("Update" | "Delete") if signed && relay.is_new(&body) => {
            relay.each(&origin, |lane| lane.believes.then(|| body.clone()));
        }
        _ => {}
    }
}

fn public(object: &Value) -> bool {
    object["to"].to_string().contains(PUBLIC)
}

fn spread(relay: &Arc<Inner>, id: &str, origin: &str, forward: Option<Bytes>) {
    if !relay.is_new(id.as_bytes()) {
        return;
    }
    let announce = Bytes::from(
        json!({ "@context": AS2, "id": format!("{}/announces/{}", relay.origin, id.len()), "type": "Announce",
                "actor": format!("{}/actor", relay.origin), "to": [format!("{}/followers", relay.origin)],
                "published": Clock::system().now().rfc3339(), "object": id })
        .to_string(),
    );
    relay.each(origin, |lane| match &forward {
        Some(body) if lane.believes => Some(body.clone()),
        _ => Some(announce.clone()),
    });
}

fn join(relay: &Arc<Inner>, follow: &Value, actor: &str, origin: &str) {
    let (queue, bodies) = mpsc::unbounded_channel();
    let believes = follow["object"] == PUBLIC;
    let me = format!("{}/actor", relay.origin);
    let control = |kind: &str, object: Value| {
        json!({ "@context": AS2, "id": format!("{me}/{kind}"), "type": kind, "actor": me, "to": [actor],
                "object": object })
    };
    let mut first = vec![control("Accept", follow.clone())];
    if actor.ends_with("/relay") {
        first.push(control("Follow", json!(actor)));
    }
    for message in first {
        let _sent = queue.send(Bytes::from(message.to_string()));
    }
    relay.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(origin.to_owned(), Lane { believes, queue });
    let (relay, inbox) = (Arc::clone(relay), format!("{actor}/inbox"));
    let (stop, tasks) = (relay.stop.clone(), relay.tasks.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = Box::pin(lane(relay, inbox, bodies)) => {}
        }
    });
}

async fn lane(relay: Arc<Inner>, inbox: String, mut bodies: mpsc::UnboundedReceiver<Bytes>) {
    let me = format!("{}/actor#main-key", relay.origin);
    let signer = Signer { key_id: me, key: key(5), bare_host: false };
    let mut profile = CAVAGE;
    while let Some(body) = bodies.recv().await {
        for _attempt in 0..200 {
            let url = Url::parse(&inbox).expect("an inbox");
            let now = Clock::system().now();
            let letter = sign::post(url, body.clone(), &signer, profile, now, &Tweaks::default());
            match relay.client.send(letter).await {
                Ok(answer) if answer.is_ok() => break,
                Ok(answer) if answer.status == 401 => profile = super::family::Family::modern_profile(),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Inner {
    fn is_new(&self, what: &[u8]) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(String::from_utf8_lossy(what).into_owned())
    }

    fn each(&self, except: &str, body: impl Fn(&Lane) -> Option<Bytes>) {
        for (origin, lane) in self.lanes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if origin != except
                && let Some(body) = body(lane)
            {
                let _sent = lane.queue.send(body);
            }
        }
    }
}

//! Hundreds to thousands of subscribers for benches, in one process on one listener: each has a loopback address of its
//! own (127.1.0.1, 127.1.0.2, ..: distinct authorities, as the relay sees them), an actor, and an inbox that counts and
//! answers 202; over TLS if they have a certificate. They verify nothing; [`super::Instance`] does.
//!
//! The listener is on all addresses, because there is no other way to listen on a whole range with one socket;
//! connections whose two ends are not both loopback are closed unread. Linux answers for all of 127/8; elsewhere the
//! addresses must be made first.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use rustls::ServerConfig;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::client::{Loopback, Trouble};
use super::family::Family;
use super::keys::key;
use super::serve::{self, Arrived, HangUp, Reply, reply};
use super::shapes::{AS2, PUBLIC};
use super::sign::{self, Signer, Tweaks};
use crate::clock::Clock;

/// The most subscribers of one swarm.
pub const MAX_SWARM: usize = 60_000;

/// How many subscribers have one certificate, so that it is as long as they are elsewhere.
pub const TLS_SHARE: usize = 250;

/// Bodies up to this many bytes are searched to their end for what they are; of longer ones the beginning.
const SHORT: usize = 2048;

/// How the subscribers of a swarm behave.
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// What NodeInfo says they are: decides whether the relay forwards or announces. They all follow Public.
    pub family: Family,
    /// How long they take to answer a delivery.
    pub delay: Duration,
    /// What they answer to it.
    pub status: u16,
    /// Their answer has no end.
    pub endless: bool,
    /// Keep for each delivery what came, to whom and when: see [`Swarm::take_arrivals`] and [`Swarm::body`].
    pub keep_arrivals: bool,
    /// What they have for TLS, each [`TLS_SHARE`] of them one; it must be good for the address of each. Empty: plain http.
    pub tls: Vec<Arc<ServerConfig>>,
}

/// A delivery.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Whose inbox it came to, counted from 0.
    pub subscriber: usize,
    /// What stands for its body: [`Swarm::fingerprint`].
    pub body: u64,
    /// When the last byte of it was there.
    pub at: Instant,
}

impl Default for SwarmOptions {
    fn default() -> Self {
        Self {
            family: Family::Mastodon,
            delay: Duration::ZERO,
            status: 202,
            endless: false,
            keep_arrivals: false,
            tls: Vec::new(),
        }
    }
}

/// Many simple subscribers. Dropping it stops them.
pub struct Swarm {
    inner: Arc<Inner>,
}

struct Inner {
    port: u16,
    size: usize,
    /// The first so many answer; the others hang up.
    living: AtomicUsize,
    options: SwarmOptions,
    accepts: AtomicU64,
    deliveries: Vec<AtomicU64>,
    bytes: AtomicU64,
    kept: Mutex<Kept>,
    client: Loopback,
    stop: CancellationToken,
}

#[derive(Default)]
struct Kept {
    arrivals: Vec<Arrival>,
    /// One copy of each: a post is the same for all.
    bodies: HashMap<u64, Bytes>,
}

impl Swarm {
    /// Starts `size` subscribers (at most [`MAX_SWARM`]) on a free port.
    ///
    /// # Errors
    /// When nothing can be listened on.
    pub async fn start(size: usize, options: SwarmOptions) -> std::io::Result<Self> {
        let size = size.min(MAX_SWARM);
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await?;
        let inner = Arc::new(Inner {
            port: listener.local_addr()?.port(),
            size,
            living: AtomicUsize::new(size),
            options,
            accepts: AtomicU64::new(0),
            deliveries: (0..size).map(|_| AtomicU64::new(0)).collect(),
            bytes: AtomicU64::new(0),
            kept: Mutex::default(),
            client: Loopback::new(),
            stop: CancellationToken::new(),
        });
        let (tasks, stop) = (TaskTracker::new(), inner.stop.clone());
        let shared = Arc::clone(&inner);
        let tls = move |local: SocketAddr| {
            let share = index_of(local.ip())? / TLS_SHARE;
            shared.options.tls.get(share).cloned().map(TlsAcceptor::from)
        };
        let shared = Arc::clone(&inner);
        let handler = move |arrived| handle(Arc::clone(&shared), arrived);
        tasks.spawn(serve::accept(listener, tls, tasks.clone(), stop, handler));
        Ok(Self { inner })
    }

    /// The addresses of so many subscribers, in their order.
    pub fn addresses(size: usize) -> impl Iterator<Item = Ipv4Addr> {
        (0..size).map(address)
    }

    /// `http://127.1.0.1:PORT`, and so on; `https` with TLS.
    #[must_use]
    pub fn origin(&self, index: usize) -> String {
        self.inner.origin(index)
    }

    /// From now on all but the first `living` hang up on whoever asks them anything.
    pub fn keep_alive(&self, living: usize) {
        self.inner.living.store(living, Ordering::Relaxed);
    }

    /// Lets all of them follow Public at the relay's inbox, `at_once` at a time. Gives the number of 2xx answers.
    ///
    /// # Errors
    /// The first one that got no answer.
    pub async fn join_all(&self, base: &str, at_once: usize) -> Result<u64, Trouble> {
        let inbox = format!("{}/inbox", base.trim_end_matches('/'));
        let inbox = Url::parse(&inbox).map_err(|_cause| Trouble::NotLoopback(inbox.clone()))?;
        let (mut running, mut taken) = (JoinSet::new(), 0);
        for index in 0..self.inner.size {
            if running.len() >= at_once.max(1) {
                taken += one(&mut running).await?;
            }
            let (inner, inbox) = (Arc::clone(&self.inner), inbox.clone());
            running.spawn(async move { inner.follow(index, inbox).await });
        }
        while !running.is_empty() {
            taken += one(&mut running).await?;
        }
        Ok(taken)
    }

    /// How many Accepts came.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.inner.accepts.load(Ordering::Relaxed)
    }

    /// How many deliveries (Accepts and Rejects not counted) came to all of them together.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.inner.deliveries.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How many deliveries came to each.
    #[must_use]
    pub fn per_subscriber(&self) -> Vec<u64> {
        self.inner.deliveries.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// How many bytes of bodies came to all of them together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.bytes.load(Ordering::Relaxed)
    }

    /// The deliveries since the last call, if the swarm keeps them.
    #[must_use]
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        std::mem::take(&mut self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner).arrivals)
    }

    /// The body that a fingerprint stands for, if it came and the swarm keeps them.
    #[must_use]
    pub fn body(&self, fingerprint: u64) -> Option<Bytes> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner).bodies.get(&fingerprint).cloned()
    }

    /// What stands for `body` in an [`Arrival`].
    #[must_use]
    pub fn fingerprint(body: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(body);
        hasher.finish()
    }

    /// Waits until as many deliveries came; false after `limit`.
    pub async fn wait_received(&self, count: u64, limit: Duration) -> bool {
        let wait = async {
            while self.received() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Waits until as many Accepts came; false after `limit`.
    pub async fn wait_accepted(&self, count: u64, limit: Duration) -> bool {
        let wait = async {
            while self.accepted() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

impl Inner {
    fn origin(&self, index: usize) -> String {
        let scheme = if self.options.tls.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}:{}", address(index), self.port)
    }

    async fn follow(&self, index: usize, inbox: Url) -> Result<bool, Trouble> {
        let origin = self.origin(index);
        let actor = format!("{origin}/actor");
        let follow = json!({ "@context": AS2, "id": format!("{origin}/follow-{index}"), "type": "Follow",
                             "actor": actor, "object": PUBLIC });
        let signer = Signer { key_id: format!("{actor}#main-key"), key: key(index), bare_host: false };
        let (profile, now) = (Family::Mastodon.profile(), Clock::system().now());
        let letter = sign::post(inbox, Bytes::from(follow.to_string()), &signer, profile, now, &Tweaks::default());
        Ok(self.client.send(letter).await?.is_ok())
    }
}

async fn one(running: &mut JoinSet<Result<bool, Trouble>>) -> Result<u64, Trouble> {
    match running.join_next().await {
        Some(Ok(answer)) => answer.map(u64::from),
        _ => Ok(0),
    }
}

/// 127.1.0.1 and upwards; addresses that end in 0 or 255 are as good as any other on loopback.
fn address(index: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    Ipv4Addr::from(first.saturating_add(u32::try_from(index).unwrap_or(0)))
}

fn index_of(address: std::net::IpAddr) -> Option<usize> {
    let std::net::IpAddr::V4(address) = address else { return None };
    let offset = u32::from(address).checked_sub(u32::from(Ipv4Addr::new(127, 1, 0, 1)))?;
    usize::try_from(offset).ok()
}

async fn handle(inner: Arc<Inner>, arrived: Arrived) -> Result<Reply, HangUp> {
    let Some(index) = index_of(arrived.local.ip()).filter(|index| *index < inner.size) else {
        return Ok(serve::text(StatusCode::NOT_FOUND, ""));
    };
    if index >= inner.living.load(Ordering::Relaxed) {
        return Err(HangUp);
    }
    let path = arrived.request.uri().path();
    // Relays ask for more than they deliver: AodeRelay, for one, POSTs to Misskey's API to learn what a server runs.
    if *arrived.request.method() == Method::POST && path.ends_with("/inbox") {
        return Ok(take(&inner, index, arrived.request.body()).await);
    }
    Ok(document(&inner, index, path))
}

async fn take(inner: &Inner, index: usize, body: &Bytes) -> Reply {
    // A relay's control messages are short, or bear their type near the front; a parse of each body would be most of what
    // a bench then measures.
    let head = if body.len() > SHORT { body.get(..512).unwrap_or(body) } else { body };
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    if has(br#""type":"Accept""#) {
        inner.accepts.fetch_add(1, Ordering::Relaxed);
        return serve::text(StatusCode::ACCEPTED, "");
    }
    if inner.options.keep_arrivals {
        let arrival = Arrival { subscriber: index, body: Swarm::fingerprint(body), at: Instant::now() };
        let mut kept = inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.arrivals.push(arrival);
        kept.bodies.entry(arrival.body).or_insert_with(|| body.clone());
    }
    if !inner.options.delay.is_zero() {
        tokio::time::sleep(inner.options.delay).await;
    }
    let status = StatusCode::from_u16(inner.options.status).unwrap_or(StatusCode::ACCEPTED);
    if status.is_success() && !has(br#""type":"Reject""#) {
        inner.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        if let Some(count) = inner.deliveries.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    if inner.options.endless { serve::endless(&[b'a'; 4096], Duration::ZERO) } else { serve::text(status, "") }
}

fn document(inner: &Inner, index: usize, path: &str) -> Reply {
    let origin = inner.origin(index);
    let (kind, body) = match path {
        "/actor" => {
            let id = format!("{origin}/actor");
            let key_id = format!("{id}#main-key");
            let actor = json!({
                "@context": [AS2, "https://w3id.org/security/v1"], "id": id, "type": "Application",
                "preferredUsername": address(index).to_string(), "inbox": format!("{origin}/actor/inbox"),
                "outbox": format!("{id}/outbox"), "endpoints": { "sharedInbox": format!("{origin}/inbox") },
                "publicKey": { "id": key_id, "owner": id, "publicKeyPem": key(index).public_pem() },
            });
            ("application/activity+json", actor)
        }
        "/.well-known/nodeinfo" => {
            let rel = "http://nodeinfo.diaspora.software/ns/schema/2.0";
            ("application/json", json!({ "links": [{ "rel": rel, "href": format!("{origin}/nodeinfo/2.0") }] }))
        }
        "/nodeinfo/2.0" => {
            let family = inner.options.family;
            let software = json!({ "name": family.software(), "version": family.version() });
            let info = json!({ "version": "2.0", "software": software, "protocols": ["activitypub"], "usage": {},
                               "services": {}, "openRegistrations": false, "metadata": {} });
            ("application/json", info)
        }
        _ => return serve::text(StatusCode::NOT_FOUND, ""),
    };
    reply(StatusCode::OK, kind, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subscriber_has_an_address_of_its_own() {
        for index in [0, 1, 254, 255, 5_000, MAX_SWARM - 1] {
            let address = address(index);
            assert!(address.is_loopback(), "{address}");
            assert_eq!(index_of(address.into()), Some(index));
        }
        assert_eq!(index_of(Ipv4Addr::LOCALHOST.into()), None);
    }
}

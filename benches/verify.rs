//! How many activities a second come in: checking signatures alone, the inbox without HTTP, the inbox over HTTP; each
//! beside what it cannot be faster than, in the same run.
//!
//! `cargo bench --bench verify` runs all; `-- signatures`, `-- inbox` and `-- http` run a part, `-- 16` has so many
//! requests in flight. As a test it does the same
//! with a handful of requests and looks only at whether each is taken.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/rates.rs"]
mod rates;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::hint::black_box;
use std::io::Write;

use anyhow::{Context as _, ensure};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shearwater::clock::{Clock, Timestamp};
use shearwater::http::{Limits, Listener};
use shearwater::ids::{Authority, Iri};
use shearwater::relay::inbox::Answer;
use shearwater::relay::verify::{Inbox, Received};
use shearwater::wire::activity::Activity;
use shearwater::wire::http_sig::{self, Body, Scheme};
use shearwater::wire::json as strict_json;
use shearwater::wire::key::SigningKey;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use url::Url;

use rates::{Rounds, Sample, Watch, append};
use relay::{LONG, TestRelay};
use support::Call;

const AUTHOR_PEM: &str = include_str!("../tests/fixtures/keys/author.rsa.pk8.pem");
const SERVER_PEM: &str = include_str!("../tests/fixtures/keys/subscriber.rsa.pk8.pem");
/// A Create as Mastodon sends it, with an embedded signature.
const CREATE: &str = include_str!("../tests/fixtures/activities/mastodon/create-note.json");
const ROUNDS: usize = 3;
const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";

/// All that a Create costs before it is judged and written down, if its key is known.
const INBOUND: &str = "verified, and read as an activity";
const DIGEST: &str = "SHA-256 of the body";
const VERIFY: &str = "bare RSA-2048 verification";
const NO_FSYNC: &str = "append without fsync";
const FSYNC: &str = "append, one fsync each";
const BARE_POST: &str = "bare POST, 64 at once";

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("verify") else { return Ok(()) };
    if call.wants("signatures") {
        signatures(&call)?;
    }
    if call.wants("inbox") || call.wants("http") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(Box::pin(inbox(&call)))?;
    }
    Ok(())
}

/// One thread: everything about a signature, and about reading the body, but no network and no disk.
fn signatures(call: &Call) -> anyhow::Result<()> {
    const RELAY: &str = "https://relay.example";
    let member = Member::new("https://mastodon.example")?;
    let (count, passes) = (call.size(500, 3), call.size(20, 1));
    let key = member.author.public();
    let requests = |scheme| member.creates(RELAY, scheme, 0, count);
    let (cavage, rfc9421) = (requests(Scheme::Cavage)?, requests(Scheme::Rfc9421)?);
    let bare = Bare::sign(AUTHOR_PEM)?;

    let mut rounds = Rounds::default();
    for _ in 0..call.size(ROUNDS * 2 + 1, 1) {
        let time = |requests: &[Received], check: &dyn Fn(&Received) -> bool| {
            let watch = Watch::start();
            for request in requests.iter().cycle().take(requests.len() * passes) {
                ensure!(check(black_box(request)), "{} is refused", request.target);
            }
            Ok(watch.stop(requests.len() * passes))
        };
        let holds = |request: &Received| claim(request, RELAY).is_some_and(|claim| claim.verify(&key));
        let digest = |request: &Received| black_box(Sha256::digest(&request.body)).len() == 32;
        rounds.note(DIGEST, time(&cavage, &digest)?);
        rounds.note(VERIFY, time(&cavage, &|_| bare.holds())?);
        rounds.note("read and verified, cavage", time(&cavage, &holds)?);
        rounds.note("read and verified, RFC 9421", time(&rfc9421, &holds)?);
        rounds.note("body read as strict JSON", time(&cavage, &|request| strict_json::parse(&request.body).is_ok())?);
        rounds.note("and as an activity", time(&cavage, &is_activity)?);
        rounds.note(INBOUND, time(&cavage, &|request| holds(request) && is_activity(request))?);
    }
    let bytes = cavage.first().map_or(0, |one| one.body.len());
    let title = format!("One thread, no network, no disk; bodies of {bytes} bytes.");
    rounds.write(&mut call.out(), &title, &[VERIFY, DIGEST])?;
    Ok(())
}

fn claim(request: &Received, relay: &str) -> Option<http_sig::Claim> {
    let asked = http_sig::Request { method: &request.method, target: &request.target, headers: &request.headers };
    http_sig::read(&asked, &request.body, relay, Clock::system().now()).ok()
}

fn is_activity(request: &Received) -> bool {
    strict_json::parse(&request.body).is_ok_and(|document| Activity::read(&document).is_ok())
}

/// The inbox with all it does until a post is durable, without HTTP and with it.
async fn inbox(call: &Call) -> anyhow::Result<()> {
    let relay = TestRelay::start(|_as_it_is| ()).await?;
    let member = Member::start(&relay).await?;
    member.join(&relay).await?;

    let mut first = 1;
    let mut fresh = async |count: usize| {
        // Ids that nobody has seen: signing takes longer than all that is measured, and is not measured.
        let requests = member.creates(relay.url(), Scheme::Cavage, first, count);
        first += count;
        requests
    };
    // What happens only once: the author's key is fetched, the disk's file grows.
    direct(&relay, fresh(1).await?, 1).await?;
    direct(&relay, fresh(call.size(500, 2)).await?, 64).await?;

    let mut in_flight = call.numbers();
    if in_flight.is_empty() {
        in_flight = if call.full { vec![1, 64, 256] } else { vec![1, 2, 4] };
    }
    let size = |at_once: usize| call.size(if at_once == 1 { 300 } else { 4000 }, 4);
    let (mut inside, mut over_http) = (Rounds::default(), Rounds::default());
    for _ in 0..call.size(ROUNDS, 1) {
        let sample = fresh(call.size(1000, 4)).await?;
        let bodies = || sample.iter().map(|one| &one.body[..]);
        let file = relay.dir.path().join("plain");
        let (plain, synced) =
            (append(&file, bodies().cycle().take(sample.len() * 20), false)?, append(&file, bodies(), true)?);
        for rounds in [&mut inside, &mut over_http] {
            rounds.note(NO_FSYNC, plain);
            rounds.note(FSYNC, synced);
        }
        for &at_once in &in_flight {
            if call.wants("inbox") {
                inside.note(
                    &format!("accepted, {at_once} at once"),
                    direct(&relay, fresh(size(at_once)).await?, at_once).await?,
                );
            }
        }
        if call.wants("http") {
            let bare = fresh(size(64)).await?;
            over_http.note(BARE_POST, posted(&member.address, bare, 64).await?);
            for &at_once in &in_flight {
                let row = format!("accepted, {at_once} at once");
                over_http.note(&row, posted(authority(relay.url()), fresh(size(at_once)).await?, at_once).await?);
            }
        }
    }
    let out = &mut call.out();
    if call.wants("inbox") {
        inside.write(out, "The inbox without HTTP: each Create verified, judged and durable.", &[NO_FSYNC, FSYNC])?;
    }
    if call.wants("http") {
        let title = "The same over kept-alive connections; the sender is in the same process and on the same cores.";
        over_http.write(out, title, &[NO_FSYNC, FSYNC, BARE_POST])?;
    }
    let state = &relay.server.app().state;
    writeln!(out, "\n{} entries in the log, {} MiB in the store.", state.log.head(), state.store.file_bytes() >> 20)?;
    relay.stop().await
}

/// Gives the requests to the relay's room, `at_once` at a time; all must be relayed.
async fn direct(relay: &TestRelay, requests: Vec<Received>, at_once: usize) -> anyhow::Result<Sample> {
    let count = requests.len();
    let mut workers = JoinSet::new();
    let watch = Watch::start();
    for share in shares(requests, at_once) {
        let room = relay.server.app().state.relay.clone();
        workers.spawn(async move {
            for request in share {
                let answer = room.receive(request, ()).await;
                ensure!(answer == Answer::Accepted("relayed"), "{answer:?}");
            }
            Ok(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(watch.stop(count))
}

/// POSTs the requests over `connections` kept-alive connections, one after the other on each; all must be answered 202.
async fn posted(address: &str, requests: Vec<Received>, connections: usize) -> anyhow::Result<Sample> {
    let count = requests.len();
    let mut tasks = JoinSet::new();
    let mut senders = Vec::new();
    for share in shares(requests, connections) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tasks.spawn(async move { connection.await.context("a connection") });
        senders.push((sender, share));
    }
    let watch = Watch::start();
    let mut workers = JoinSet::new();
    for (mut sender, share) in senders {
        workers.spawn(async move {
            for request in share {
                let status = send(&mut sender, request).await?;
                ensure!(status == StatusCode::ACCEPTED, "{status}");
            }
            Ok(())
        });
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    let sample = watch.stop(count);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(sample)
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, received: Received) -> anyhow::Result<StatusCode> {
    let mut request = Request::new(Full::new(received.body));
    *request.method_mut() = received.method;
    *request.uri_mut() = received.target.parse()?;
    *request.headers_mut() = received.headers;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    Ok(status)
}

/// As many shares of about the same size.
fn shares(requests: Vec<Received>, count: usize) -> Vec<Vec<Received>> {
    let mut shares: Vec<Vec<Received>> = (0..count).map(|_| Vec::new()).collect();
    for (index, request) in requests.into_iter().enumerate() {
        shares[index % count].push(request);
    }
    shares
}

/// A message and its signature, made and checked without any code of ours.
struct Bare {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Bare {
    fn sign(pem: &str) -> anyhow::Result<Self> {
        let pair = KeyPair::from_pkcs8(pem::parse(pem)?.contents())?;
        let message = vec![b'x'; 250];
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut signature)?;
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())?;
        Ok(Self { key, message, signature })
    }

    fn holds(&self) -> bool {
        self.key.verify_sig(black_box(&self.message), &self.signature).is_ok()
    }
}

/// A server that joined: its documents, and the keys of its instance actor and of one author.
struct Member {
    /// `127.0.0.1:PORT`.
    address: String,
    origin: String,
    server: SigningKey,
    author: SigningKey,
}

impl Member {
    fn new(origin: &str) -> anyhow::Result<Self> {
        let key =
            |path: &str, pem| anyhow::Ok(SigningKey::from_pem(Iri::parse(&format!("{origin}{path}#main-key"))?, pem)?);
        Ok(Self {
            address: authority(origin).to_owned(),
            origin: origin.to_owned(),
            server: key("/actor", SERVER_PEM)?,
            author: key("/users/ada", AUTHOR_PEM)?,
        })
    }

    /// Serves its documents until the relay stops, and an inbox that reads what comes and says 202.
    async fn start(relay: &TestRelay) -> anyhow::Result<Self> {
        let listener = Listener::bind(&"127.0.0.1:0".parse().map_err(|_cause| anyhow::anyhow!("an address"))?).await?;
        let member = Self::new(&format!("http://{}", listener.name()))?;
        let origin = &member.origin;
        let nodeinfo = format!("{origin}/nodeinfo/2.0");
        let links =
            json!({ "links": [{ "rel": "http://nodeinfo.diaspora.software/ns/schema/2.0", "href": nodeinfo }] });
        let info = json!({ "version": "2.0", "software": { "name": "mastodon", "version": "4.5.15" }, "protocols": ["activitypub"],
                           "usage": {}, "services": {}, "openRegistrations": false, "metadata": {} });
        let router = Router::new()
            .route("/actor", serve("application/activity+json", &member.actor("/actor", "Application", &member.server)))
            .route(
                "/users/ada",
                serve("application/activity+json", &member.actor("/users/ada", "Person", &member.author)),
            )
            .route("/.well-known/nodeinfo", serve("application/json", &links))
            .route("/nodeinfo/2.0", serve("application/json", &info))
            .route("/inbox", post(async |_read_whole: Bytes| StatusCode::ACCEPTED));
        let state = &relay.server.app().state;
        listener.serve(router, Limits::of(&state.config.http), &state.supervisor, &state.metrics);
        Ok(member)
    }

    fn actor(&self, path: &str, kind: &str, key: &SigningKey) -> Value {
        let (origin, id) = (&self.origin, format!("{}{path}", self.origin));
        json!({
            "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"],
            "id": id, "type": kind, "preferredUsername": path.rsplit('/').next(),
            "inbox": format!("{id}/inbox"), "outbox": format!("{id}/outbox"),
            "endpoints": { "sharedInbox": format!("{origin}/inbox") },
            "publicKey": { "id": key.key_id().as_str(), "owner": id, "publicKeyPem": key.public().to_spki_pem() },
        })
    }

    /// Follows Public, and waits until that is accepted.
    async fn join(&self, relay: &TestRelay) -> anyhow::Result<()> {
        let origin = &self.origin;
        let follow = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{origin}/follow"),
                             "type": "Follow", "actor": format!("{origin}/actor"), "object": PUBLIC });
        let request = signed(relay.url(), &self.server, Scheme::Cavage, follow.to_string().into())?;
        let room = &relay.server.app().state;
        let answer = room.relay.receive(request, ()).await;
        ensure!(matches!(answer, Answer::Accepted(_)), "{answer:?}");
        let me = Authority::parse(&self.address)?;
        let joined = async {
            while !room.store.subscriber(&me).is_some_and(|one| one.is_active()) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, joined).await.context("waiting to be accepted")
    }

    /// Signed requests with Creates numbered from `first`, each about a post of its own.
    fn creates(&self, relay: &str, scheme: Scheme, first: usize, count: usize) -> anyhow::Result<Vec<Received>> {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let numbers: Vec<usize> = (first..first + count).collect();
        let make = |numbers: &[usize]| {
            numbers.iter().map(|number| signed(relay, &self.author, scheme, self.create(*number)?)).collect()
        };
        std::thread::scope(|scope| {
            let jobs: Vec<_> =
                numbers.chunks(count.div_ceil(workers).max(1)).map(|share| scope.spawn(|| make(share))).collect();
            let mut requests = Vec::with_capacity(count);
            for job in jobs {
                let share: anyhow::Result<Vec<Received>> =
                    job.join().map_err(|_panic| anyhow::anyhow!("signing fell"))?;
                requests.extend(share?);
            }
            Ok(requests)
        })
    }

    fn create(&self, number: usize) -> anyhow::Result<Bytes> {
        let text = CREATE
            .replace("https://mastodon.example", &self.origin)
            .replace("/114", &format!("/{}", 114_000_000 + number));
        let text = text.replace("2026-08-23T12:00:0", &Clock::system().now().rfc3339()[..18]);
        Ok(serde_json::from_str::<Value>(&text)?.to_string().into())
    }
}

fn serve(content_type: &'static str, document: &Value) -> axum::routing::MethodRouter {
    let body = document.to_string();
    get(async move || ([("content-type", content_type)], body))
}

fn signed(relay: &str, key: &SigningKey, scheme: Scheme, body: Bytes) -> anyhow::Result<Received> {
    let (url, now): (_, Timestamp) = (Url::parse(&format!("{relay}/inbox"))?, Clock::system().now());
    let headers = http_sig::sign(scheme, key, &Method::POST, &url, Some(&Body::of(&body)), now);
    let (inbox, headers) = (Inbox::Relay, HeaderMap::from_iter(headers));
    Ok(Received { inbox, method: Method::POST, target: "/inbox".to_owned(), headers, body, from: None })
}

/// `127.0.0.1:4000` of `http://127.0.0.1:4000`.
fn authority(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, authority)| authority)
}

//! The witness: a process of its own that plays the members of the relay, and so outlives its deaths. Each member has a
//! loopback address of its own; it posts signed Creates and takes what the relay sends. Every 202 and every receipt goes
//! into the ledger, a file that lies on another file system than the relay's data. What it is to do comes as lines on
//! stdin, one answer on stdout for each.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{BufRead as _, BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use shearwater::clock::Clock;
use shearwater::ids::Iri;
use shearwater::wire::http_sig::{self, Body, Scheme};
use shearwater::wire::key::SigningKey;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::ledger::{Bits, Line};
use crate::stage::now_millis;

/// One key for all: what is tested here is not whose it is.
const KEY: &str = include_str!("../fixtures/keys/author.rsa.pk8.pem");
const PUBLIC_KEY: &str = include_str!("../fixtures/keys/author.rsa.spki.pem");
const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";
const AS2: &str = "https://www.w3.org/ns/activitystreams";
/// Where clients speak from: not from an address that the relay might be dialled at, or a client would connect to itself
/// while the relay is down.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);
/// Where the witness knocks at its own doors from: whoever knocked before has been let in by then.
const KNOCKING: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 2);
/// A client whose post was not taken tries again after this.
const AGAIN: Duration = Duration::from_millis(60);
/// The longest that one request of ours may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// How a member takes what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Closes connections without a word.
    Down,
    /// Answers 503.
    Busy,
    /// Answers after 30 ms.
    Slow,
    /// Answers after 1.5 s.
    Late,
}

impl Mood {
    fn read(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "well" => Self::Well,
            "down" => Self::Down,
            "busy" => Self::Busy,
            "slow" => Self::Slow,
            "late" => Self::Late,
            _ => bail!("there is no mood {word}"),
        })
    }
}

struct Member {
    origin: String,
    signs_as_server: SigningKey,
    signs_as_author: SigningKey,
    mood: Mutex<Mood>,
    accepted: AtomicBool,
    /// Nothing ever goes through to it, and nobody counts what it misses.
    dead: bool,
}

struct Shared {
    members: Vec<Member>,
    client: Client<HttpConnector, Full<Bytes>>,
    clock: Clock,
    /// How much text a post has.
    padding: usize,
    inbox: Mutex<Option<Url>>,
    next: AtomicU64,
    posting: AtomicBool,
    /// How often the relay was stopped.
    epoch: AtomicU32,
    /// Knocks of our own that were answered.
    knocks: AtomicUsize,
    /// Requests refused, for the driver to look at.
    refused: AtomicUsize,
    books: Mutex<Books>,
    tasks: TaskTracker,
}

struct Books {
    ledger: BufWriter<File>,
    acknowledged: Bits,
    /// By member: what came.
    received: Vec<Bits>,
    /// By post: a hash of the body as it was sent.
    sent: Vec<u64>,
}

/// Runs until stdin ends or says `quit`. `dead`: the last member answers nothing but 500.
pub(crate) fn run(ledger: &Path, members: usize, dead: bool, padding: usize) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let shared = runtime.block_on(open(ledger, members, dead, padding))?;
    let (mut clients, stdin) = (JoinSet::new(), std::io::stdin());
    for line in stdin.lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        if words == ["quit"] {
            break;
        }
        let answer = runtime.block_on(obey(&shared, &mut clients, &words));
        let answer = answer.unwrap_or_else(|error| format!("error {error:#}"));
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    lock(&shared.books).ledger.flush()?;
    runtime.shutdown_background();
    Ok(())
}

async fn obey(shared: &Arc<Shared>, clients: &mut JoinSet<()>, words: &[&str]) -> anyhow::Result<String> {
    match words {
        ["join", url] => join(shared, url).await,
        ["load", count] => {
            shared.posting.store(true, Ordering::SeqCst);
            for index in 0..count.parse::<usize>()? {
                clients.spawn(keep_posting(shared.clone(), index));
            }
            Ok("ok".to_owned())
        }
        ["pause"] => {
            shared.posting.store(false, Ordering::SeqCst);
            while clients.join_next().await.is_some() {}
            Ok("ok".to_owned())
        }
        ["post", count] => {
            let mut taken = 0;
            for _ in 0..count.parse::<usize>()? {
                let post = shared.compose();
                taken += usize::from(shared.post(&post).await == Some(StatusCode::ACCEPTED));
            }
            Ok(format!("{taken}"))
        }
        ["mood", member, mood] => {
            let member = shared.members.get(member.parse::<usize>()?).context("no such member")?;
            *lock(&member.mood) = Mood::read(mood)?;
            Ok("ok".to_owned())
        }
        ["epoch", number] => {
            let number = number.parse()?;
            shared.accept_all().await?;
            shared.epoch.store(number, Ordering::SeqCst);
            let mut books = lock(&shared.books);
            books.note(&Line::Epoch(number));
            books.ledger.flush()?;
            Ok("ok".to_owned())
        }
        ["hosts"] => {
            let hosts = shared.members.iter().map(|member| member.origin.trim_start_matches("http://"));
            Ok(hosts.collect::<Vec<_>>().join(" "))
        }
        ["drain", seconds] => drain(shared, Duration::from_secs(seconds.parse()?)).await,
        ["count"] => {
            let books = lock(&shared.books);
            let received: usize = books.received.iter().map(Bits::count).sum();
            let refused = shared.refused.load(Ordering::SeqCst);
            Ok(format!("{} {received} {refused}", books.acknowledged.count()))
        }
        _ => bail!("what is {words:?}?"),
    }
}

async fn open(ledger: &Path, members: usize, dead: bool, padding: usize) -> anyhow::Result<Arc<Shared>> {
    let mut listeners = Vec::new();
    let mut made = Vec::new();
    for index in 0..members {
        let address = Ipv4Addr::new(127, 0, 8, u8::try_from(index + 1)?);
        let listener = TcpListener::bind(SocketAddr::new(IpAddr::V4(address), 0)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let key =
            |path: &str| SigningKey::from_pem(Iri::parse(&format!("{origin}{path}#main-key"))?, KEY).context("key");
        let (signs_as_server, signs_as_author) = (key("/actor")?, key("/users/ada")?);
        listeners.push(listener);
        made.push(Member {
            origin,
            signs_as_server,
            signs_as_author,
            mood: Mutex::new(Mood::Well),
            accepted: AtomicBool::new(false),
            dead: dead && index + 1 == members,
        });
    }
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(IpAddr::V4(CLIENTS)));
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(2)));
    let books = Books {
        ledger: BufWriter::new(File::create(ledger).with_context(|| format!("making {}", ledger.display()))?),
        acknowledged: Bits::default(),
        received: vec![Bits::default(); members],
        sent: Vec::new(),
    };
    let shared = Arc::new(Shared {
        members: made,
        client: Client::builder(TokioExecutor::new()).build(connector),
        clock: Clock::system(),
        padding,
        inbox: Mutex::new(None),
        next: AtomicU64::new(0),
        posting: AtomicBool::new(false),
        epoch: AtomicU32::new(0),
        knocks: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        books: Mutex::new(books),
        tasks: TaskTracker::new(),
    });
    for (index, listener) in listeners.into_iter().enumerate() {
        shared.tasks.spawn(listen(shared.clone(), index, listener));
    }
    Ok(shared)
}

/// Lets all members follow the relay, and waits until it accepted them.
async fn join(shared: &Arc<Shared>, url: &str) -> anyhow::Result<String> {
    *lock(&shared.inbox) = Some(Url::parse(&format!("{url}/inbox"))?);
    for member in &shared.members {
        let actor = format!("{}/actor", member.origin);
        let follow = json!({ "@context": AS2, "id": format!("{}/follow", member.origin), "type": "Follow",
                             "actor": actor, "object": PUBLIC });
        let status = shared.send(Bytes::from(follow.to_string()), &member.signs_as_server).await;
        ensure!(status == Some(StatusCode::ACCEPTED), "a Follow was answered {status:?}");
    }
    let joined = || shared.members.iter().all(|member| member.dead || member.accepted.load(Ordering::SeqCst));
    let began = Instant::now();
    while !joined() {
        ensure!(began.elapsed() < PATIENCE, "not everybody was accepted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok("ok".to_owned())
}

async fn keep_posting(shared: Arc<Shared>, index: usize) {
    // Not all in the same instant.
    tokio::time::sleep(Duration::from_millis(index as u64 % 16)).await;
    while shared.posting.load(Ordering::SeqCst) {
        let post = shared.compose();
        // As a real sender would: the same activity again, until it is taken.
        while shared.post(&post).await != Some(StatusCode::ACCEPTED) {
            if !shared.posting.load(Ordering::SeqCst) {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Waits until nobody misses anything that was acknowledged; how long that took, or how much is missing.
async fn drain(shared: &Shared, limit: Duration) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        let missing = shared.missing();
        if missing == 0 {
            lock(&shared.books).ledger.flush()?;
            return Ok(format!("ok {}", began.elapsed().as_millis()));
        }
        if began.elapsed() > limit {
            lock(&shared.books).ledger.flush()?;
            return Ok(format!("missing {missing}"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Post {
    number: u64,
    member: usize,
    body: Bytes,
}

impl Shared {
    fn compose(&self) -> Post {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let member = usize::try_from(number).unwrap_or(0) % self.members.len();
        let origin = self.members.get(member).map_or("", |one| one.origin.as_str());
        let (actor, id) = (format!("{origin}/users/ada"), format!("{origin}/users/ada/statuses/{number}"));
        let now = self.clock.now().rfc3339();
        let text = format!("<p>post {number} {}</p>", "and so on ".repeat(self.padding / 10));
        let body = json!({
            "@context": [AS2, "https://w3id.org/security/v1"],
            "id": format!("{id}/activity"), "type": "Create", "actor": actor, "published": now,
            "to": [PUBLIC], "cc": [format!("{actor}/followers")],
            "object": { "id": id, "type": "Note", "attributedTo": actor, "published": now, "content": text,
                        "to": [PUBLIC], "cc": [format!("{actor}/followers")], "url": id },
            "signature": { "type": "RsaSignature2017", "creator": format!("{actor}#main-key"), "created": now,
                           "signatureValue": "bm90IGxvb2tlZCBhdCBoZXJl" },
        });
        let body = Bytes::from(body.to_string());
        lock(&self.books).sent_as(number, hash(&body));
        Post { number, member, body }
    }

    async fn post(&self, post: &Post) -> Option<StatusCode> {
        let key = &self.members.get(post.member)?.signs_as_author;
        let status = self.send(post.body.clone(), key).await;
        if status == Some(StatusCode::ACCEPTED) {
            let at = now_millis();
            let mut books = lock(&self.books);
            books.acknowledged.set(post.number);
            books.note(&Line::Acknowledged { at, post: post.number });
        } else {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        status
    }

    async fn send(&self, body: Bytes, key: &SigningKey) -> Option<StatusCode> {
        let url = lock(&self.inbox).clone()?;
        let now = self.clock.now();
        let headers = http_sig::sign(Scheme::Cavage, key, &Method::POST, &url, Some(&Body::of(&body)), now);
        let mut request = Request::builder().method(Method::POST).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).ok()?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await.ok()?.ok()?;
        let status = answer.status();
        // Read to its end, so that the connection is of use again.
        let _body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await.ok()?;
        Some(status)
    }

    /// Waits until every connection made before now was accepted: queues are first come, first served.
    async fn accept_all(&self) -> anyhow::Result<()> {
        let before = self.knocks.load(Ordering::SeqCst);
        for member in &self.members {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(IpAddr::V4(KNOCKING), 0))?;
            drop(socket.connect(member.origin.trim_start_matches("http://").parse()?).await?);
        }
        let began = Instant::now();
        while self.knocks.load(Ordering::SeqCst) < before + self.members.len() {
            ensure!(began.elapsed() < PATIENCE, "a member lets nobody in");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    fn missing(&self) -> usize {
        let books = lock(&self.books);
        let living = self.members.iter().enumerate().filter(|(_, member)| !member.dead);
        living.map(|(index, _)| books.missing(index, self.members.len())).sum()
    }
}

impl Books {
    fn note(&mut self, line: &Line) {
        // If the ledger cannot be written nothing here means anything: the driver sees it by what is missing.
        let _ = writeln!(self.ledger, "{line}");
    }

    fn sent_as(&mut self, number: u64, hash: u64) {
        let index = usize::try_from(number).unwrap_or(0);
        if self.sent.len() <= index {
            self.sent.resize(index + 1, 0);
        }
        if let Some(place) = self.sent.get_mut(index) {
            *place = hash;
        }
    }

    fn missing(&self, member: usize, members: usize) -> usize {
        let Some(received) = self.received.get(member) else { return 0 };
        self.acknowledged.without(received).filter(|post| *post as usize % members != member).count()
    }
}

async fn listen(shared: Arc<Shared>, index: usize, listener: TcpListener) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if peer.ip() == IpAddr::V4(KNOCKING) {
            shared.knocks.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        if shared.mood(index) == Mood::Down {
            continue;
        }
        let _ = stream.set_nodelay(true);
        // A connection belongs to one life of the relay, whenever what came over it is read.
        let (shared, epoch) = (shared.clone(), shared.epoch.load(Ordering::SeqCst));
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let service = service_fn(|request| answer(shared.clone(), index, epoch, request));
            // A relay that dies in the middle is what all this is about.
            let _ended =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    index: usize,
    epoch: u32,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let Some(member) = shared.members.get(index) else { return Ok(reply(StatusCode::NOT_FOUND, Bytes::new())) };
    if *request.method() == Method::POST {
        return take(&shared, (index, epoch), member, request).await;
    }
    let origin = &member.origin;
    // One that is announced to: how fast Announces leave depends on how many there are.
    let family = if index == 2 { ("friendica", "2026.01") } else { ("mastodon", "4.5.0") };
    let actor = |kind: &str, name: &str, id: String| {
        json!({
            "@context": [AS2, "https://w3id.org/security/v1"], "id": id, "type": kind, "preferredUsername": name,
            "indexable": true, "inbox": format!("{id}/inbox"), "endpoints": { "sharedInbox": format!("{origin}/inbox") },
            "publicKey": { "id": format!("{id}#main-key"), "owner": id, "publicKeyPem": PUBLIC_KEY },
        })
    };
    let body = match request.uri().path() {
        "/actor" => actor("Application", "server", format!("{origin}/actor")),
        "/users/ada" => actor("Person", "ada", format!("{origin}/users/ada")),
        "/.well-known/nodeinfo" => {
            let rel = "http://nodeinfo.diaspora.software/ns/schema/2.0";
            json!({ "links": [{ "rel": rel, "href": format!("{origin}/nodeinfo/2.0") }] })
        }
        "/nodeinfo/2.0" => json!({
            "version": "2.0", "software": { "name": family.0, "version": family.1 }, "protocols": ["activitypub"],
            "usage": {}, "services": {}, "openRegistrations": false, "metadata": {}
        }),
        _ => return Ok(reply(StatusCode::NOT_FOUND, Bytes::new())),
    };
    let mut reply = reply(StatusCode::OK, Bytes::from(body.to_string()));
    if request.uri().path().contains("nodeinfo") {
        reply.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    }
    Ok(reply)
}

async fn take(
    shared: &Shared,
    (index, epoch): (usize, u32),
    member: &Member,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    if member.dead {
        return Ok(reply(StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()));
    }
    match shared.mood(index) {
        Mood::Well => {}
        Mood::Down => return Err(std::io::Error::other("down")),
        Mood::Busy => return Ok(reply(StatusCode::SERVICE_UNAVAILABLE, Bytes::new())),
        Mood::Slow => tokio::time::sleep(Duration::from_millis(30)).await,
        Mood::Late => tokio::time::sleep(Duration::from_millis(1500)).await,
    }
    let activity: Value = serde_json::from_slice(&body).unwrap_or_default();
    let kind = activity["type"].as_str().unwrap_or_default();
    if kind == "Accept" {
        member.accepted.store(true, Ordering::SeqCst);
        return Ok(reply(StatusCode::ACCEPTED, Bytes::new()));
    }
    let object = activity["object"]["id"].as_str().or(activity["object"].as_str()).unwrap_or_default();
    let number = object.rsplit_once("/statuses/").and_then(|(_, number)| number.parse::<u64>().ok());
    let at = now_millis();
    let mut books = lock(&shared.books);
    let Some(post) = number else {
        books.note(&Line::Stray { at, member: index });
        return Ok(reply(StatusCode::ACCEPTED, Bytes::new()));
    };
    let true_copy = usize::try_from(post).ok().and_then(|post| books.sent.get(post).copied());
    let whole = kind == "Announce" && true_copy.is_some() || true_copy == Some(hash(&body));
    if let Some(received) = books.received.get_mut(index) {
        received.set(post);
    }
    books.note(&Line::Received { at, member: index, post, whole, epoch });
    Ok(reply(StatusCode::ACCEPTED, Bytes::new()))
}

impl Shared {
    fn mood(&self, index: usize) -> Mood {
        self.members.get(index).map_or(Mood::Well, |member| *lock(&member.mood))
    }
}

fn reply(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(http::header::CONTENT_TYPE, http_sig::CONTENT_TYPE);
    reply
}

fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

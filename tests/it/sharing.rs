//! Signatures for many servers, and servers that make it hard: deliveries go on, and the reason is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json as value};
use sha2::{Digest as _, Sha256};
use shearwater::clock::{Clock, Timestamp};
use shearwater::demo::{Family, Fault, Instance, Outcome, Scheme};
use shearwater::ids::{Authority, Iri};
use shearwater::store::{AuthorityFacts, Health, Mode, Registration, Sharing, Style, Subscriber, SubscriberState};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{TestRelay, arrival, authority, eventually, json, publish, receipts_of};

fn now() -> Timestamp {
    Clock::system().now()
}

fn facts(relay: &TestRelay, of: &Authority) -> AuthorityFacts {
    relay.relay().facts(of).expect("the store reads")
}

fn counted(relay: &TestRelay, result: &str) -> f64 {
    relay.metric(&format!("shearwater_shared_signatures_total{{result=\"{result}\"}}"))
}

fn connections(relay: &TestRelay, event: &str) -> f64 {
    relay.metric(&format!("shearwater_outbound_connections_total{{event=\"{event}\"}}"))
}

/// Posts, and waits until `subscriber` has it.
async fn reaches(poster: &Instance, subscriber: &Instance, text: &str) -> Option<Scheme> {
    let post = publish(poster, text).await;
    arrival(subscriber, &post.id).await.into_iter().rev().find_map(|one| one.scheme)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_one_shared_signature_and_refuses_the_next_gets_everything_once() {
    let relay = TestRelay::start().await;
    let (poster, fickle) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "fickle").await);
    let host = authority(&fickle);
    reaches(&poster, &fickle, "the trial").await;
    eventually("it is known to take them", || facts(&relay, &host).shared == Some(Sharing::Taken)).await;
    assert_eq!(counted(&relay, "taken"), 1.0);
    fickle.set_fault(Fault::WantsItsName);
    let post = publish(&poster, "in vain, and at once again").await;
    let receipts = arrival(&fickle, &post.id).await;
    assert_eq!(receipts.iter().map(|one| one.status).collect::<Vec<_>>(), [401, 202], "{receipts:#?}");
    eventually("that is remembered", || facts(&relay, &host).shared == Some(Sharing::Refused)).await;
    assert_eq!(counted(&relay, "refused-later"), 1.0);
    // For good, whatever it says from now on, and over a restart.
    fickle.set_fault(Fault::None);
    reaches(&poster, &fickle, "signed for it").await;
    let relay = relay.restart().await;
    fickle.set_fault(Fault::WantsItsName);
    for number in 0..3 {
        let post = publish(&poster, &format!("and again {number}")).await;
        let receipts = arrival(&fickle, &post.id).await;
        assert_eq!(receipts.len(), 1, "{receipts:#?}");
    }
    assert_eq!(facts(&relay, &host).shared, Some(Sharing::Refused));
    assert_eq!(counted(&relay, "taken") + counted(&relay, "refused"), 0.0, "none was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_its_software_gets_everything_signed_as_that_one_wants_it() {
    let relay = TestRelay::start().await;
    let (poster, changed) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Misskey, "changed").await);
    // It was a Mastodon when it was last looked at, and took them.
    let key = authority(&changed);
    let was = AuthorityFacts {
        software: Some("mastodon".to_owned()),
        shared: Some(Sharing::Taken),
        ..AuthorityFacts::default()
    };
    let name = key.as_str().to_owned();
    relay.store().write(move |tx| tx.put(&name, &was)).await.expect("written");
    let relay = relay.restart().await;
    eventually("it is looked at", || facts(&relay, &key).software.as_deref() == Some("misskey")).await;
    assert_eq!(facts(&relay, &key).shared, None, "other software is another trial");
    assert_eq!(counted(&relay, "software"), 1.0);
    // Misskey refuses what does not name it. The first may have been planned before the look: it is sent again at once.
    for number in 0..3 {
        let post = publish(&poster, &format!("after the change {number}")).await;
        let receipts = arrival(&changed, &post.id).await;
        let (last, before) = receipts.split_last().expect("it arrived");
        assert_eq!(
            (last.status, last.outcome, last.scheme),
            (202, Outcome::Post, Some(Scheme::Cavage)),
            "{receipts:#?}"
        );
        assert!(before.len() <= usize::from(number == 0), "{receipts:#?}");
        assert!(before.iter().all(|one| one.outcome == Outcome::Uncovered), "{receipts:#?}");
    }
    assert_eq!(facts(&relay, &key).shared, None, "what was planned for the old one says nothing of the new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_proxy_that_rewrites_headers_gets_everything() {
    let relay = TestRelay::start().await;
    let (poster, behind) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "behind").await);
    behind.set_fault(Fault::Rewrites);
    // RFC 9421 as we sign it covers nothing that such a proxy rewrites.
    assert_eq!(reaches(&poster, &behind, "by the third knock").await, Some(Scheme::Rfc9421));
    let host = authority(&behind);
    eventually("both are remembered", || {
        let facts = facts(&relay, &host);
        facts.shared == Some(Sharing::Refused) && facts.scheme.is_some()
    })
    .await;
    assert_eq!(counted(&relay, "refused"), 1.0);
    let post = publish(&poster, "by the first").await;
    let receipts = arrival(&behind, &post.id).await;
    assert_eq!(receipts.len(), 1, "{receipts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_closes_each_connection_gets_everything_once() {
    let relay = TestRelay::start().await;
    let (poster, closing) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "closing").await);
    closing.set_fault(Fault::Closes);
    // One that says nothing of it.
    let silent = Listening::start(Habit::Closes).await;
    silent.join(&relay, "mastodon").await;
    let before = connections(&relay, "closed");
    let mut posts = Vec::new();
    for number in 0..5 {
        posts.push(publish(&poster, &format!("closed after it {number}")).await.id);
    }
    for post in &posts {
        arrival(&closing, post).await;
    }
    eventually("that is counted", || connections(&relay, "closed") - before >= 5.0).await;
    for post in &posts {
        assert_eq!(receipts_of(&closing, post).len(), 1);
    }
    eventually("the silent one has all", || silent.received().len() >= posts.len()).await;
    // What would come a second time would come before this.
    posts.push(publish(&poster, "the last").await.id);
    arrival(&closing, &posts[5]).await;
    let got = || silent.received().iter().map(|one| object(&one.body)).collect::<Vec<_>>();
    eventually("and the last", || got().contains(&posts[5])).await;
    let mut got = got();
    got.sort();
    posts.sort();
    assert_eq!(got, posts, "each once");
    assert_eq!(relay.metric("shearwater_deliveries_total{result=\"later\"}"), 0.0, "no lane failed");
}

/// The id of the post that this is about.
fn object(body: &[u8]) -> String {
    let object = &json(body)["object"];
    object["id"].as_str().or(object.as_str()).expect("an object").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_nothing_but_http_2_gets_everything() {
    let relay = TestRelay::start_with(|config| {
        config.net.extra_roots = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem").into()];
    })
    .await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let (port, came, _server) = http_2_only().await;
    join(&relay, &format!("https://127.0.0.1:{port}"), "mastodon").await;
    for number in 0..5 {
        publish(&poster, &format!("in frames {number}")).await;
    }
    eventually("it has all", || came.lock().expect("a lock").len() == 5).await;
    let came = came.lock().expect("a lock").clone();
    assert!(came.iter().all(|version| *version == hyper::Version::HTTP_2), "{came:?}");
    assert_eq!(connections(&relay, "http2"), 1.0, "found out once, and remembered");
}

/// What Mastodon's documentation asks of a signed POST (docs.joinmastodon.org/spec/security), written from its text: which
/// headers are to be covered, the digest, the date, and the signature itself. `host` is asked for on a GET alone.
fn mastodon_takes(request: &Arrived, target: &str, key_pem: &str, now: Timestamp) -> Result<(), &'static str> {
    let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
    let params: HashMap<&str, &str> = header("signature")
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key, value.trim_matches('"')))
        .collect();
    let param = |name: &str| params.get(name).copied().unwrap_or_default();
    if param("keyId").is_empty() || !matches!(param("algorithm"), "rsa-sha256" | "hs2019") {
        return Err("parameters");
    }
    let covered: Vec<&str> = param("headers").split(' ').collect();
    if !covered.contains(&"date") && !covered.contains(&"(created)") {
        return Err("date or (created) must be signed");
    }
    if !covered.contains(&"digest") && !covered.contains(&"(request-target)") {
        return Err("digest or (request-target) must be signed");
    }
    if !covered.contains(&"digest") {
        return Err("a POST must sign its digest");
    }
    if header("digest") != format!("SHA-256={}", STANDARD.encode(Sha256::digest(&request.body))) {
        return Err("digest");
    }
    let date = Timestamp::from_http_date(header("date")).ok_or("date")?;
    if date.since(now) > Duration::from_secs(3600) || now.since(date) > Duration::from_secs(12 * 3600) {
        return Err("too early or too late");
    }
    let line = |name: &&str| match *name {
        "(request-target)" => format!("(request-target): post {target}"),
        name => format!("{name}: {}", header(name)),
    };
    let signed = covered.iter().map(line).collect::<Vec<_>>().join("\n");
    let signature = STANDARD.decode(param("signature")).map_err(|_cause| "base64")?;
    let key = pem::parse(key_pem).map_err(|_cause| "key")?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.contents());
    key.verify(signed.as_bytes(), &signature).map_err(|_cause| "signature")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_serves_two_servers_and_holds_by_mastodons_documented_rules() {
    // Its clock stands, so that all leaves in the same second.
    let relay = TestRelay::start_at(Clock::manual(now()), |_config| {}).await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let (one, two) = (Listening::start(Habit::Takes).await, Listening::start(Habit::Takes).await);
    for server in [&one, &two] {
        server.join(&relay, "mastodon").await;
    }
    publish(&poster, "the trial").await;
    for server in [&one, &two] {
        let host = Authority::parse(server.origin.trim_start_matches("http://")).expect("a host");
        eventually("it takes them", || facts(&relay, &host).shared == Some(Sharing::Taken)).await;
    }
    publish(&poster, "for both").await;
    eventually("both have both", || one.received().len() == 2 && two.received().len() == 2).await;
    let (one, two) = (one.received().remove(1), two.received().remove(1));
    assert_eq!(one.headers["signature"], two.headers["signature"], "one signature");
    assert_ne!(one.headers["host"], two.headers["host"], "two servers");
    assert!(one.headers["signature"].contains(r#"headers="(request-target) date digest content-type""#), "{one:?}");

    let actor = poster.fetch(&format!("{}/actor", relay.url())).await.expect("the actor");
    let actor: Value = json(&actor.body);
    let key = actor["publicKey"]["publicKeyPem"].as_str().expect("a key");
    assert!(one.headers["signature"].contains(actor["publicKey"]["id"].as_str().expect("an id")));
    for request in [&one, &two] {
        assert_eq!(mastodon_takes(request, "/inbox", key, now()), Ok(()));
        assert_eq!(mastodon_takes(request, "/actor/inbox", key, now()), Err("signature"), "no other inbox");
        let late = now().plus(Duration::from_secs(13 * 3600));
        assert_eq!(mastodon_takes(request, "/inbox", key, late), Err("too early or too late"));
        let other = Arrived { body: b"{}".to_vec(), ..request.clone() };
        assert_eq!(mastodon_takes(&other, "/inbox", key, now()), Err("digest"), "no other message");
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What an inbox does with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Takes it unseen.
    Takes,
    /// The same, and closes the connection after each answer, which does not say so.
    Closes,
    /// Takes RFC 9421 alone.
    Modern,
}

impl Habit {
    fn status(self, request: &Arrived) -> &'static str {
        match (request.method.as_str(), self) {
            ("GET", _) => "404 Not Found",
            (_, Self::Modern) if !request.headers.contains_key("signature-input") => "401 Unauthorized",
            _ => "202 Accepted",
        }
    }
}

/// A server with an inbox and nothing else, which remembers what came.
pub(crate) struct Listening {
    pub(crate) origin: String,
    came: Arc<Mutex<Vec<Arrived>>>,
    _server: JoinSet<()>,
}

impl Listening {
    pub(crate) async fn start(habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let (came, mut server) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
        let heard = came.clone();
        server.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let heard = heard.clone();
                open.spawn(async move {
                    let mut socket = BufReader::new(socket);
                    while let Some(request) = read(&mut socket).await {
                        let answer = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\n\r\n", habit.status(&request));
                        heard.lock().expect("a lock").push(request);
                        if socket.get_mut().write_all(answer.as_bytes()).await.is_err() || habit == Habit::Closes {
                            break;
                        }
                    }
                });
            }
        });
        Self { origin, came, _server: server }
    }

    pub(crate) fn received(&self) -> Vec<Arrived> {
        self.came.lock().expect("a lock").clone()
    }

    pub(crate) async fn join(&self, relay: &TestRelay, software: &str) {
        join(relay, &self.origin, software).await;
    }
}

async fn read(socket: &mut (impl AsyncBufRead + Unpin)) -> Option<Arrived> {
    let (mut first, mut headers) = (String::new(), HashMap::new());
    socket.read_line(&mut first).await.ok()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut body = vec![0; headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?];
    socket.read_exact(&mut body).await.ok()?;
    Some(Arrived { method, target, headers, body })
}

/// Makes a server a subscriber that runs `software`, as far as the relay knows.
async fn join(relay: &TestRelay, origin: &str, software: &str) {
    let at = |path: &str| Iri::parse(&format!("{origin}{path}")).expect("an id");
    let (head, now) = (relay.server.app().state.log.head(), relay.server.app().state.clock.now());
    let mut row = Subscriber {
        authority: at("/actor").authority(),
        slot: 0,
        state: SubscriberState::Active,
        start: head.next(),
        mode: Mode::Auto,
        registrations: vec![Registration {
            actor: at("/actor"),
            style: Style::Mastodon,
            inbox: at("/inbox"),
            actor_inbox: at("/inbox"),
            follow: (&value!({ "id": format!("{origin}/follow"), "type": "Follow" })).into(),
            at: now,
            personal: false,
        }],
        joined_at: now,
        seen_at: now,
        health: Health::default(),
        vouched_for: false,
        paused: None,
        posts: 0,
    };
    let facts =
        AuthorityFacts { software: Some(software.to_owned()), software_read: Some(now), ..AuthorityFacts::default() };
    let put = relay.store().write(move |tx| {
        row.slot = tx.new_slot()?;
        tx.put(row.authority.as_str(), &facts)?;
        tx.put_subscriber(row)
    });
    put.await.expect("written");
}

/// A TLS server that speaks HTTP/2 and nothing else; the version of each request that came to its inbox.
async fn http_2_only() -> (u16, Arc<Mutex<Vec<hyper::Version>>>, JoinSet<()>) {
    let certificate =
        CertificateDer::from_pem_slice(include_bytes!("../fixtures/tls/server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../fixtures/tls/server.key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], key).expect("they fit");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (came, mut server) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    let heard = came.clone();
    server.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(socket).await else { continue };
            let heard = heard.clone();
            open.spawn(async move {
                let answer = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    heard.lock().expect("a lock").push(request.version());
                    let answer = hyper::Response::builder().status(202).body(String::new());
                    async move { answer }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ended = http.serve_connection(TokioIo::new(tls), answer).await;
            });
        }
    });
    (port, came, server)
}

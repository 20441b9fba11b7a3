//! How many deliveries a second go out: one author's posts to 100 and to 1,000 subscribers on loopback, forwarded and
//! announced; with shared signatures, beside the same relay with a signature for each server, a sender that does nothing but
//! send, an RSA signature, and an append, in the same run.
//!
//! `cargo bench --bench fanout` runs all; `-- forward` and `-- announce` run a part, `-- 500` forwards to that many,
//! `-- 1000 alone` leaves out what the relay is compared with (for a profiler; with `own`, each server has its own signature),
//! `-- 100 slow` has subscribers that take
//! 100 ms to answer, as distant ones do; `-- fair` measures what sick subscribers cost the healthy ones. As a test it does the same with five subscribers and two posts and looks only at
//! whether each gets each post once.
//!
//! `-- http://127.0.0.1:PORT 200` is the fediverse around somebody else's relay, for `benches/compare/relays`.
//!
//! Relay, poster, subscribers and the bare sender are one process. So processor time for each delivery holds the
//! subscriber's side as well; the bare sender's row, with the same subscribers, says how much that is.

#[path = "../support/allocator.rs"]
mod allocator;
mod fairness;
mod fediverse;
#[path = "../support/rates.rs"]
mod rates;
#[path = "../support/relay.rs"]
mod relay;
#[path = "../support/stage.rs"]
mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shearwater::clock::Clock;
use shearwater::config::{self, SharedSignature};
use shearwater::demo::Family;
use shearwater::ids::Iri;
use shearwater::wire::http_sig::{self, Body, CONTENT_TYPE as ACTIVITY, Scheme};
use shearwater::wire::key::SigningKey;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use rates::{Rounds, Watch, append};
use relay::LONG;
use stage::{POSTS_AT_ONCE, Stage};
use support::Call;

const KEY_PEM: &str = include_str!("../../tests/fixtures/keys/relay.rsa.pk8.pem");
const ROUNDS: usize = 3;
/// How long a distant subscriber takes to answer.
const SLOW: Duration = Duration::from_millis(100);

const SHARED: &str = "delivered, shared signatures";
const OWN: &str = "delivered, a signature for each server";
const BARE: &str = "bare sender, not signing";
const SIGN: &str = "RSA-2048 signatures, one thread";
const APPEND: &str = "append without fsync";

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("fanout") else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut sizes = call.numbers();
    if let Some(relay) = std::env::args().find(|one| call.full && one.starts_with("http://")) {
        return fediverse::serve(&runtime, &relay, sizes.first().copied().unwrap_or(200));
    }
    if sizes.is_empty() && call.wants("forward") {
        sizes = if call.full { vec![100, 1000] } else { vec![5] };
    }
    for subscribers in sizes {
        let posts = call.size((10_000 / subscribers.max(1)).clamp(20, 500), 2);
        runtime.block_on(Box::pin(forwards(&call, subscribers, posts)))?;
    }
    if call.wants("announce") && call.numbers().is_empty() {
        for rate in [0, 20] {
            runtime.block_on(Box::pin(announces(&call, rate, call.size(100, 3), call.size(4, 1))))?;
        }
    }
    if call.wants("fair") && call.numbers().is_empty() {
        runtime.block_on(Box::pin(fairness::compare(&call)))?;
    }
    if !call.full {
        runtime.block_on(Box::pin(fediverse::check()))?;
    }
    Ok(())
}

/// Posts that are forwarded as they came: what the relay can do when nothing holds it back.
async fn forwards(call: &Call, subscribers: usize, posts: usize) -> anyhow::Result<()> {
    let delay = if call.says("slow") { SLOW } else { Duration::ZERO };
    let alone = call.says("alone") || !delay.is_zero();
    let before = resident();
    let (row, setting) = match call.says("own") {
        true => (OWN, SharedSignature::Off),
        false => (SHARED, SharedSignature::Auto),
    };
    let stage = Stage::set(Family::Mastodon, subscribers, delay, |config| config.shared_signature = setting).await?;
    let joined = resident();
    // Opens connections, and lets the relay learn what its new subscribers run.
    let body = stage.warm_up().await?;
    let warm = resident();
    let (mut disk, mut sent) = (0, 0);

    let each_its_own = match alone || setting == SharedSignature::Off {
        true => None,
        false => {
            let off = |config: &mut config::Delivery| config.shared_signature = SharedSignature::Off;
            Some(Stage::set(Family::Mastodon, subscribers, delay, off).await?)
        }
    };
    if let Some(other) = &each_its_own {
        other.warm_up().await?;
    }
    let mut bare = match alone {
        true => None,
        false => Some(BareSender::connect(&stage, slots(&stage)).await?),
    };
    let mut rounds = Rounds::default();
    for _ in 0..call.size(ROUNDS, 1) {
        let before = written();
        rounds.note(row, round(&stage, posts).await?);
        disk += written().saturating_sub(before);
        sent += subscribers * posts;
        if let Some(other) = &each_its_own {
            rounds.note(OWN, round(other, posts).await?);
        }
        let Some(bare) = &mut bare else { continue };
        rounds.note(BARE, bare.round(&stage, &body, posts).await?);
        rounds.note(SIGN, sign(&stage, &body, call.size(1000, 2))?);
        let bodies = std::iter::repeat_n(&body[..], subscribers * posts);
        rounds.note(APPEND, append(&stage.relay.dir.path().join("plain"), bodies, false)?);
    }
    let after = resident();

    let out = &mut call.out();
    let bytes = body.len();
    let answer = if delay.is_zero() { "answer at once".to_owned() } else { format!("take {delay:?} to answer") };
    let title =
        format!("{subscribers} subscribers that {answer}, rounds of {posts} posts of {bytes} bytes, forwarded.");
    rounds.write(out, &title, &[OWN, BARE, SIGN])?;
    let shown = |mebibytes: Option<f64>| mebibytes.map_or_else(|| "-".to_owned(), |some| format!("{some:.0}"));
    writeln!(
        out,
        "\nResident MiB of the whole process: {} before, {} when all had joined, {} when connected, {} at the end, with the second \
         relay and its subscribers if there was one.",
        shown(before),
        shown(joined),
        shown(warm),
        shown(after)
    )?;
    writeln!(
        out,
        "Bytes written to disk for each delivery, the post itself included: {}.",
        disk / number(sent.max(1))
    )?;
    if let Some(other) = each_its_own {
        other.end().await?;
    }
    stage.end().await
}

/// Posts that are announced: each makes its subscribers fetch it from its origin, so these are paced, unless `rate` is 0.
async fn announces(call: &Call, rate: u32, subscribers: usize, posts: usize) -> anyhow::Result<()> {
    let stage =
        Stage::set(Family::Akkoma, subscribers, Duration::ZERO, |config| config.origin_fetch_rate = rate).await?;
    let target = stage.swarm.received() + number(subscribers * posts);
    let started = Instant::now();
    let posting = stage.post(stage.compose(posts));
    let counting = async {
        let (mut seconds, mut last) = (Vec::new(), stage.swarm.received());
        while last < target && started.elapsed() < LONG {
            let next = Duration::from_secs(1 + seconds.len() as u64);
            let left = next.saturating_sub(started.elapsed());
            stage.swarm.wait_received(target, left).await;
            let now = stage.swarm.received();
            seconds.push(now - last);
            last = now;
        }
        seconds
    };
    let (posted, seconds) = tokio::join!(posting, counting);
    posted?;
    ensure!(stage.swarm.received() == target, "{} of {target} came", stage.swarm.received());
    let out = &mut call.out();
    let pace = if rate == 0 { "not paced".to_owned() } else { format!("{rate} fetches a second") };
    writeln!(out, "\n{subscribers} subscribers, {posts} posts of one author, announced, {pace}.\n")?;
    writeln!(out, "Announces in each second, each of which would have its receiver fetch the post: {seconds:?}")?;
    writeln!(out, "In all {} in {:.1} s.", seconds.iter().sum::<u64>(), started.elapsed().as_secs_f64())?;
    stage.end().await
}

/// From the first post sent to the last one received.
async fn round(stage: &Stage, posts: usize) -> anyhow::Result<rates::Sample> {
    let composed = stage.compose(posts);
    let before = stage.swarm.per_subscriber();
    let count = posts * before.len();
    let target = stage.swarm.received() + number(count);
    let watch = Watch::start();
    let came = async { Ok(stage.swarm.wait_received(target, LONG * 5).await) };
    let ((), came) = tokio::try_join!(stage.post(composed), came)?;
    let sample = watch.stop(count);
    ensure!(came, "{} of {target} came", stage.swarm.received());
    let each = stage.swarm.per_subscriber().into_iter().zip(before).all(|(now, then)| now == then + number(posts));
    ensure!(each, "somebody got something twice or not at all");
    Ok(sample)
}

/// As many requests under way as the relay has places for first attempts.
fn slots(stage: &Stage) -> usize {
    let all = stage.relay.server.app().state.config.delivery.in_flight;
    all - all / 4
}

/// One kept-alive connection to each subscriber, and a request on it: no queue, no signature, no store.
struct BareSender {
    senders: Vec<(String, SendRequest<Full<Bytes>>)>,
    gate: Arc<Semaphore>,
    _connections: JoinSet<()>,
}

impl BareSender {
    async fn connect(stage: &Stage, at_once: usize) -> anyhow::Result<Self> {
        let (mut senders, mut connections) = (Vec::new(), JoinSet::new());
        for index in 0..stage.swarm.per_subscriber().len() {
            let origin = stage.swarm.origin(index);
            let authority = origin.trim_start_matches("http://").to_owned();
            let stream = TcpStream::connect(authority.parse::<SocketAddr>()?).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            connections.spawn(async move {
                // It ends when the sender does; a fault shows in the request that meets it.
                let _ended = connection.await;
            });
            senders.push((authority, sender));
        }
        Ok(Self { senders, gate: Arc::new(Semaphore::new(at_once)), _connections: connections })
    }

    /// Sends `body` to everybody `posts` times.
    async fn round(&mut self, stage: &Stage, body: &Bytes, posts: usize) -> anyhow::Result<rates::Sample> {
        let count = posts * self.senders.len();
        let target = stage.swarm.received() + number(count);
        let mut sending = JoinSet::new();
        let watch = Watch::start();
        for (authority, mut sender) in std::mem::take(&mut self.senders) {
            let (gate, body) = (self.gate.clone(), body.clone());
            sending.spawn(async move {
                for _ in 0..posts {
                    let _place = gate.acquire().await?;
                    send(&mut sender, &authority, body.clone()).await?;
                }
                anyhow::Ok((authority, sender))
            });
        }
        while let Some(sent) = sending.join_next().await {
            self.senders.push(sent??);
        }
        let sample = watch.stop(count);
        ensure!(stage.swarm.received() == target, "{} of {target} came", stage.swarm.received());
        Ok(sample)
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, authority: &str, body: Bytes) -> anyhow::Result<()> {
    let request = Request::builder().method(Method::POST).uri("/inbox").header(HOST, authority);
    let request = request.header(CONTENT_TYPE, ACTIVITY).body(Full::new(body))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    answer.into_body().collect().await?;
    Ok(())
}

/// Signs for one subscriber after the other, as delivery does, on this thread.
fn sign(stage: &Stage, body: &Bytes, count: usize) -> anyhow::Result<rates::Sample> {
    let key = SigningKey::from_pem(Iri::parse("https://relay.example/actor#main-key")?, KEY_PEM)?;
    let urls = (0..stage.swarm.per_subscriber().len())
        .map(|index| Url::parse(&format!("{}/inbox", stage.swarm.origin(index))));
    let urls: Vec<Url> = urls.collect::<Result<_, _>>()?;
    let (digest, clock, watch) = (Body::of(body), Clock::system(), Watch::start());
    for url in urls.iter().cycle().take(count) {
        let headers = http_sig::sign(Scheme::Cavage, &key, &Method::POST, url, Some(&digest), clock.now());
        ensure!(headers.len() >= 5, "not signed");
    }
    Ok(watch.stop(count))
}

/// Mebibytes of this process that are in memory now; `None` where there is no `/proc`.
fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

/// Bytes that this process has caused to be written to disk so far; 0 where there is no `/proc`. Sockets do not count.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn number(count: usize) -> u64 {
    count as u64
}

//! A fediverse around a relay that somebody else started and stops, whichever it is: subscribers that keep when each
//! delivery came, and a server whose author posts. `benches/compare/relays` tells it what to do, a line at a time, and
//! reads what came of it, a line of JSON each:
//!
//! * `tls FOLDER`: before `join`, the subscribers are made anew, over TLS; whom to trust for that is in a file there;
//! * `join`: everybody follows the relay, and is accepted;
//! * `die PERCENT`: so many of the subscribers, the last ones, answer nobody any more, and nothing of them is waited for;
//! * `round POSTS EVERY_MS`: so many posts in that rhythm (0: as fast as the relay takes them), until all have come;
//! * `strike POSTS PERCENT`: the same as fast as it takes them, but answered when so much has come: now the relay dies;
//! * `settle SECONDS`: the relay is back; what came in the end, once nothing came for so long.
//!
//! It looks at no signature and knows nothing of the relay but its address.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use shearwater::demo::{Arrival, Composed, Family, Instance, Options, PostSpec, Swarm, SwarmOptions, TLS_SHARE};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::POSTS_AT_ONCE;
use super::relay::{LONG, TestRelay};

/// How long a delivery may take where a relay has much to do; what takes longer is counted as missing.
const SLOWEST: Duration = Duration::from_millis(30);
/// How long everybody may take to join: a relay that signs with a long key asks each for several documents first.
const JOINING: Duration = Duration::from_secs(600);
/// How long a relay that was killed has in all, once it is back.
const SETTLING: Duration = Duration::from_secs(300);

/// Does what standard input says until it ends.
pub(crate) fn serve(runtime: &Runtime, relay: &str, subscribers: usize) -> anyhow::Result<()> {
    let mut fediverse = runtime.block_on(Fediverse::start(relay, subscribers))?;
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = runtime.block_on(Box::pin(fediverse.obey(&words)))?;
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// As a test: with a relay of our own everybody gets everything once.
pub(crate) async fn check() -> anyhow::Result<()> {
    let relay = TestRelay::start(|_as_it_is| ()).await?;
    let mut fediverse = Fediverse::start(relay.url(), 3).await?;
    let joined = fediverse.obey(&["join"]).await?;
    ensure!(joined["accepted"] == 3 && joined["poster"] == true, "{joined}");
    let came = fediverse.obey(&["round", "2", "10"]).await?;
    ensure!(came["deliveries"] == 6 && came["missing"] == 0 && came["twice"] == 0, "{came}");
    let struck = fediverse.obey(&["strike", "2", "50"]).await?;
    ensure!(struck["came"].as_u64() >= Some(3), "{struck}");
    let settled = fediverse.obey(&["settle", "5"]).await?;
    ensure!(settled["posts"] == 2 && settled["deliveries"] == 6, "{settled}");
    relay.stop().await?;
    check_with_tls().await
}

/// The same over TLS, and with one of them dead.
async fn check_with_tls() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // The relay's address is not known before it knows whom to trust.
    let mut fediverse = Fediverse::start("http://127.0.0.1:1", 3).await?;
    let wrapped = fediverse.obey(&["tls", folder.path().to_str().context("a path")?]).await?;
    let roots = wrapped["roots"].as_str().context("a file")?;
    let relay = TestRelay::start(|config| config.net.extra_roots = vec![roots.into()]).await?;
    fediverse.relay = relay.url().to_owned();
    let joined = fediverse.obey(&["join"]).await?;
    ensure!(joined["accepted"] == 3, "{joined}");
    ensure!(fediverse.obey(&["die", "34"]).await?["living"] == 2, "one dies");
    let came = fediverse.obey(&["round", "2", "10"]).await?;
    ensure!(came["deliveries"] == 4 && came["missing"] == 0 && came["twice"] == 0, "{came}");
    relay.stop().await
}

struct Fediverse {
    relay: String,
    subscribers: usize,
    /// Of these: those that answer.
    living: usize,
    swarm: Swarm,
    poster: Arc<Instance>,
    /// The posts of a `strike`, on their way.
    posting: JoinSet<anyhow::Result<Vec<Sent>>>,
}

/// A post that was sent to the relay.
struct Sent {
    id: String,
    at: Instant,
    /// The relay said that it has it.
    taken: bool,
}

impl Fediverse {
    async fn start(relay: &str, subscribers: usize) -> anyhow::Result<Self> {
        let swarm = swarm(subscribers, Vec::new()).await?;
        let name = Options { name: "poster".to_owned(), ..Options::default() };
        let poster = Arc::new(Instance::start(Family::Mastodon, name).await?);
        Ok(Self { relay: relay.to_owned(), subscribers, living: subscribers, swarm, poster, posting: JoinSet::new() })
    }

    async fn wrap(&mut self, folder: &Path) -> anyhow::Result<Value> {
        let (tls, roots) = certificates(self.subscribers)?;
        self.swarm = swarm(self.subscribers, tls).await?;
        let file = folder.join("subscribers.pem");
        std::fs::write(&file, roots)?;
        Ok(json!({ "roots": file }))
    }

    fn die(&mut self, percent: usize) -> anyhow::Result<Value> {
        ensure!(percent <= 100, "of a hundred");
        self.living = self.subscribers - self.subscribers * percent / 100;
        self.swarm.keep_alive(self.living);
        Ok(json!({ "living": self.living }))
    }

    async fn obey(&mut self, words: &[&str]) -> anyhow::Result<Value> {
        match *words {
            ["tls", folder] => self.wrap(Path::new(folder)).await,
            ["join"] => self.join().await,
            ["die", percent] => self.die(percent.parse()?),
            ["round", posts, every] => self.round(posts.parse()?, Duration::from_millis(every.parse()?)).await,
            ["strike", posts, percent] => self.strike(posts.parse()?, percent.parse()?).await,
            ["settle", seconds] => self.settle(Duration::from_secs(seconds.parse()?)).await,
            _ => bail!("{words:?} is nothing that can be asked"),
        }
    }

    async fn join(&self) -> anyhow::Result<Value> {
        let started = Instant::now();
        let answer = self.poster.join(&self.relay).await?;
        ensure!(answer.is_ok(), "the poster may not join: {} {}", answer.status, answer.text());
        let poster = self.poster.wait_accepted(LONG).await;
        let taken = self.swarm.join_all(&self.relay, 8).await?;
        ensure!(taken == self.subscribers as u64, "{taken} of {} may join", self.subscribers);
        self.swarm.wait_accepted(taken, JOINING).await;
        let took = started.elapsed().as_secs_f64();
        Ok(json!({ "accepted": self.swarm.accepted(), "poster": poster, "seconds": took }))
    }

    fn compose(&self, posts: usize) -> Vec<Composed> {
        let text = "The herons are back at the weir, five of them, and nobody has told the fish. ".repeat(5);
        (0..posts).map(|_| self.poster.compose(&PostSpec::public(&text))).collect()
    }

    async fn round(&self, posts: usize, every: Duration) -> anyhow::Result<Value> {
        drop(self.swarm.take_arrivals());
        let composed = self.compose(posts);
        let all = posts * self.living;
        let target = self.swarm.received() + all as u64;
        let limit = LONG + every * count(posts) + SLOWEST * count(all);
        let sending = post(Arc::clone(&self.poster), composed, every);
        let (sent, _came) = tokio::join!(sending, self.swarm.wait_received(target, limit));
        let tally = self.tally(&sent?, &self.swarm.take_arrivals());
        Ok(tally.told())
    }

    async fn strike(&mut self, posts: usize, percent: usize) -> anyhow::Result<Value> {
        drop(self.swarm.take_arrivals());
        let composed = self.compose(posts);
        let (before, all) = (self.swarm.received(), posts * self.living);
        self.posting.spawn(post(Arc::clone(&self.poster), composed, Duration::ZERO));
        let target = before + (all * percent / 100) as u64;
        self.swarm.wait_received(target, LONG + SLOWEST * count(all)).await;
        Ok(json!({ "came": self.swarm.received() - before }))
    }

    async fn settle(&mut self, quiet: Duration) -> anyhow::Result<Value> {
        let back = Instant::now();
        let sent = self.posting.join_next().await.context("nothing was sent")???;
        let mut arrivals = Vec::new();
        let tally = loop {
            arrivals.append(&mut self.swarm.take_arrivals());
            let tally = self.tally(&sent, &arrivals);
            let last = tally.last.map_or(back, |last| last.max(back));
            if tally.missing == 0 || last.elapsed() > quiet || back.elapsed() > SETTLING {
                break tally;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        let after = tally.last.map(|last| last.saturating_duration_since(back).as_secs_f64());
        let mut told = tally.told();
        told["last_after"] = json!(after);
        Ok(told)
    }

    /// What came of what the relay took. A delivery that comes again counts as "twice" only.
    fn tally(&self, sent: &[Sent], arrivals: &[Arrival]) -> Tally {
        let taken: HashMap<&str, Instant> =
            sent.iter().filter(|one| one.taken).map(|one| (one.id.as_str(), one.at)).collect();
        let mut tally = Tally { posts: taken.len(), ..Tally::default() };
        let mut bodies: HashMap<u64, Body> = HashMap::new();
        let mut seen = HashSet::new();
        for arrival in arrivals {
            let body = bodies.entry(arrival.body).or_insert_with(|| Body::read(&self.swarm, arrival.body));
            let Some(at) = taken.get(body.post.as_str()) else { continue };
            if !seen.insert((arrival.subscriber, body.post.clone())) {
                tally.twice += 1;
                continue;
            }
            tally.lags.push(arrival.at.saturating_duration_since(*at).as_secs_f64() * 1000.0);
            tally.bytes += body.bytes;
            tally.forwarded += usize::from(body.forwarded);
            tally.last = tally.last.max(Some(arrival.at));
        }
        tally.first = taken.values().min().copied();
        tally.missing = (taken.len() * self.living).saturating_sub(tally.lags.len());
        tally.lags.sort_by(f64::total_cmp);
        tally
    }
}

async fn swarm(subscribers: usize, tls: Vec<Arc<ServerConfig>>) -> anyhow::Result<Swarm> {
    let options = SwarmOptions { family: Family::Mastodon, keep_arrivals: true, tls, ..SwarmOptions::default() };
    Ok(Swarm::start(subscribers, options).await?)
}

/// Certificates for the addresses of so many subscribers, two kilobytes each, and the authority behind them, in PEM.
fn certificates(subscribers: usize) -> anyhow::Result<(Vec<Arc<ServerConfig>>, String)> {
    let (authority_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let roots = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let addresses: Vec<String> = Swarm::addresses(subscribers).map(|address| address.to_string()).collect();
    let of = |addresses: &[String]| {
        let signed = CertificateParams::new(addresses)?.signed_by(&key, &issuer)?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        anyhow::Ok(Arc::new(config.with_single_cert(vec![signed.der().clone()], key.into())?))
    };
    Ok((addresses.chunks(TLS_SHARE).map(of).collect::<anyhow::Result<_>>()?, roots))
}

/// Sends posts to the relay: in a rhythm, or a few at a time. One that is refused, or not answered, is not sent again.
async fn post(poster: Arc<Instance>, posts: Vec<Composed>, every: Duration) -> anyhow::Result<Vec<Sent>> {
    // In a rhythm nothing waits for the answer to the one before: a relay that is slow would set the rhythm.
    let places = if every.is_zero() { POSTS_AT_ONCE } else { posts.len() };
    let gate = Arc::new(Semaphore::new(places));
    let (mut sending, mut due) = (JoinSet::new(), tokio::time::Instant::now());
    for post in posts {
        tokio::time::sleep_until(due).await;
        due += every;
        let (gate, poster) = (Arc::clone(&gate), Arc::clone(&poster));
        sending.spawn(async move {
            let _place = gate.acquire().await?;
            let at = Instant::now();
            let taken = poster.send(&post).await.is_ok_and(|posted| (200..300).contains(&posted.status()));
            anyhow::Ok(Sent { id: post.id, at, taken })
        });
    }
    let mut sent = Vec::new();
    while let Some(one) = sending.join_next().await {
        sent.push(one??);
    }
    Ok(sent)
}

/// What one body is about.
struct Body {
    post: String,
    /// The author's own Create, not the relay's Announce.
    forwarded: bool,
    bytes: usize,
}

impl Body {
    fn read(swarm: &Swarm, fingerprint: u64) -> Self {
        let bytes = swarm.body(fingerprint).unwrap_or_default();
        let activity: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let object = &activity["object"];
        let post = object.as_str().or_else(|| object["id"].as_str()).unwrap_or_default().to_owned();
        Self { post, forwarded: activity["type"] == "Create", bytes: bytes.len() }
    }
}

#[derive(Default)]
struct Tally {
    /// Posts that the relay took.
    posts: usize,
    missing: usize,
    twice: usize,
    forwarded: usize,
    bytes: usize,
    /// Milliseconds from sending a post to its arrival, in order of size.
    lags: Vec<f64>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Tally {
    fn told(&self) -> Value {
        let deliveries = self.lags.len();
        let part = |of: usize| self.lags.get((deliveries * of / 100).min(deliveries.saturating_sub(1)));
        let seconds = self.first.zip(self.last).map(|(first, last)| last.duration_since(first).as_secs_f64());
        json!({
            "posts": self.posts, "deliveries": deliveries, "missing": self.missing, "twice": self.twice,
            "seconds": seconds, "p50": part(50), "p99": part(99), "most": self.lags.last(),
            "forwarded": self.forwarded, "bytes": self.bytes / deliveries.max(1),
        })
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

//! How much memory the counts of a day with a million distinct hashtags take, how many votes a second one core counts, and
//! how fast a relay that holds such a day answers.
//!
//! `cargo bench --bench trends` does all of it with a million hashtags, `-- 100000` with fewer; `-- votes` counts alone,
//! `-- served` asks a relay alone. As a test it does the same with a few hashtags and looks only at whether it works.
//!
//! The day is as days are: nine hashtags in ten are said once or by one server alone, the rest by ever more people, the
//! first of them by thousands. Ballots are made outside of what is measured.

#[path = "support/memory.rs"]
mod memory;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shearwater::clock::Timestamp;
use shearwater::config::Access;
use shearwater::ids::{Authority, Iri, Seq};
use shearwater::store::{Ballot, Choice, Place, Subject, Tx, Voted, hour_of};
use shearwater::trends::servers::Servers;
use shearwater::trends::sketch::Sketch;
use shearwater::trends::votes::{Span, Votes};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use memory::Memory;
use relay::{LONG, TestRelay};
use support::{Call, amount, columns};

/// As `trends.memory` has it: a quarter is the sketch's.
const MEMORY: usize = 64 << 20;
/// Servers.
const SERVERS: u64 = 2_000;
/// The last vote is of this moment.
const UNTIL: Timestamp = Timestamp::from_secs(1_787_486_400);
/// Ballots written at once.
const CHUNK: u64 = 2_000;
/// Requests a second.
const REQUESTS: u64 = 200;
const PATHS: [&str; 2] = ["/api/v1/trends/tags", "/api/v1/trends/tags?limit=20&within=24"];

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("trends") else { return Ok(()) };
    let sizes = call.numbers();
    let size = sizes.first().copied().unwrap_or_else(|| call.size(1_000_000, 2_000)) as u64;
    if call.wants("votes") {
        counted(&call, size)?;
    }
    if call.wants("served") {
        tokio::runtime::Runtime::new()?.block_on(Box::pin(served(&call, size)))?;
    }
    Ok(())
}

/// How many votes a hashtag gets.
const fn votes_of(tag: u64, size: u64) -> u64 {
    // One in ten is spoken of by several; of these, each rank has its share.
    if !tag.is_multiple_of(10) {
        return 1;
    }
    let rank = tag / 10 + 1;
    let votes = size / 8 / rank;
    if votes < 2 {
        2
    } else if votes > 20_000 {
        20_000
    } else {
        votes
    }
}

/// One vote for a hashtag: always the same.
fn ballot(tag: u64, vote: u64, name: &str) -> Ballot {
    let mixed = (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ vote.wrapping_mul(0xc2b2_ae3d_27d4_eb4f)).rotate_left(31);
    let author = if vote == 0 { tag % 200_000 } else { mixed % 200_000 };
    let hours = u32::try_from(mixed % 24).unwrap_or(0);
    Ballot {
        author,
        place: u32::try_from(author % SERVERS).unwrap_or(0) + 1,
        language: ["en", "de", "ja", "und"][usize::try_from(author % 4).unwrap_or(0)].to_owned(),
        young: false,
        hour: hour_of(UNTIL) - hours,
        seq: Seq(1),
        choices: vec![Choice { subject: Subject::Tag, key: name.to_owned(), shown: String::new() }],
    }
}

fn name(tag: u64) -> String {
    format!("hashtag{tag}")
}

/// Counts a day, and says what it took.
fn counted(call: &Call, size: u64) -> anyhow::Result<()> {
    let before = Memory::now();
    let (mut votes, mut sketch) = (Votes::default(), Sketch::new(MEMORY / 4));
    let mut servers = Servers::default();
    for place in 0..SERVERS {
        let number = u32::try_from(place)? + 1;
        let name = Authority::parse(&format!("s{place}.example"))?;
        servers.learn(&name, &Place { number, since: Timestamp::default(), seen_on: 0 }, false);
    }
    let (mut took, mut count, mut number) = (Duration::ZERO, 0_u64, 0);
    let mut batch = Vec::new();
    // Round after round, so that the votes for a hashtag come hours apart.
    for round in 0..20_000 {
        let step = if round == 0 { 1 } else { 10 };
        let mut any = false;
        for tag in (0..size).step_by(step).take_while(|tag| round == 0 || votes_of(*tag, size) > round) {
            any = true;
            batch.push((tag, ballot(tag, round, &name(tag))));
            if batch.len() == 4096 {
                took += count_batch(&mut votes, &mut sketch, &servers, &mut batch, round, &mut number);
            }
            count += 1;
        }
        took += count_batch(&mut votes, &mut sketch, &servers, &mut batch, round, &mut number);
        if !any {
            break;
        }
    }
    let after = Memory::now();
    ensure!(votes.len() as u64 >= size / 20, "only {} are counted", votes.len());
    let span = Span { from: hour_of(UNTIL) - 24, to: hour_of(UNTIL) };
    let started = Instant::now();
    let trending = votes.targets().filter(|(target, _)| {
        let count = votes.count(*target, span, None, &servers, UNTIL);
        shearwater::trends::score::score(&count.measure, 0).trends()
    });
    let trending = trending.count();
    let looked = started.elapsed();
    let mebibytes = |bytes: usize| amount(bytes as f64 / f64::from(1 << 20));
    let rows = [
        ("votes", amount(count as f64)),
        ("distinct hashtags", amount(size as f64)),
        ("of which counted: more than one server speaks of them", amount(votes.len() as f64)),
        ("memory of the counts, MiB", mebibytes(votes.bytes())),
        ("and of the sketch", mebibytes(sketch.bytes())),
        ("memory of the process before, anonymous and all", before.to_string()),
        ("and after", after.to_string()),
        ("votes counted per second, one thread", amount(count as f64 / took.as_secs_f64().max(1e-9))),
        ("all of them looked at for a list of a day, ms", amount(looked.as_secs_f64() * 1000.0)),
        ("of which would trend if nothing were usual", trending.to_string()),
    ];
    let mut lines = vec![vec![String::new(), "a day".to_owned()]];
    lines.extend(rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    let out = &mut call.out();
    writeln!(out)?;
    columns(out, &lines)?;
    Ok(())
}

/// As the board does it; what came before a thing was let in is made again instead of read from the journal.
fn count_batch(
    votes: &mut Votes,
    sketch: &mut Sketch,
    servers: &Servers,
    batch: &mut Vec<(u64, Ballot)>,
    round: u64,
    number: &mut u64,
) -> Duration {
    let mut took = Duration::ZERO;
    let mut started = Instant::now();
    for (tag, ballot) in batch.drain(..) {
        *number += 1;
        for choice in &ballot.choices {
            let target = choice.target();
            if votes.counts(target) {
                votes.add(*number, &ballot, choice);
            } else if sketch.note(target, servers.domain_of(ballot.place).unwrap_or(0)) {
                took += started.elapsed();
                let earlier: Vec<Ballot> = (0..=round).map(|vote| self::ballot(tag, vote, &choice.key)).collect();
                started = Instant::now();
                votes.admit(choice, *number, &earlier);
            }
        }
    }
    took + started.elapsed()
}

/// A relay that holds such a day, asked two hundred times a second.
async fn served(call: &Call, size: u64) -> anyhow::Result<()> {
    let relay = TestRelay::start(|config| {
        (config.trends.api, config.trends.rate) = (Access::Public, 0);
        config.trends.grown = vec!["example".to_owned()];
    })
    .await?;
    let state = relay.server.app().state.clone();
    let started = Instant::now();
    let mut tag = 0;
    while tag < size {
        let chunk = tag..(tag + CHUNK).min(size);
        let now = hour_of(state.clock.now());
        let cast = move |tx: &mut Tx<'_>| {
            for tag in chunk {
                // Of the commonest as many as make a list; all votes of the first would take an hour to write.
                for vote in 0..votes_of(tag, size).min(60) {
                    let mut one = ballot(tag, vote, &name(tag));
                    let server = Authority::parse(&format!("s{}.example", one.place))
                        .map_err(|fault| shearwater::store::StoreError::Declined(fault.to_string()))?;
                    (one.place, one.hour) = (tx.place(&server)?.number, now - one.hour % 6);
                    one.author = tag << 20 | vote;
                    let post = Iri::parse(&format!("https://{server}/{tag}/{vote}"))
                        .map_err(|fault| shearwater::store::StoreError::Declined(fault.to_string()))?;
                    tx.cast(Voted::Post(&post), one)?;
                }
            }
            Ok(())
        };
        state.store.write(cast).await?;
        tag += CHUNK;
    }
    let filled = started.elapsed();
    let ballots = state.store.ballots()?.len()?;
    let address = relay.server.http_addr().context("an address")?;
    let deadline = Instant::now() + LONG;
    loop {
        let mut sender = connect(address).await?;
        let (status, body) = get(&mut sender, &address.to_string(), PATHS[0]).await?;
        if status == 200 && body.len() > 2 {
            break;
        }
        ensure!(Instant::now() < deadline, "nothing trends at {}: {status}", relay.url());
        sleep(Duration::from_millis(100)).await;
    }
    let time = Duration::from_secs(call.size(20, 1) as u64);
    let mut times = keep_asking(address, time).await?;
    times.sort_unstable();
    let quantile = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    let out = &mut call.out();
    writeln!(
        out,
        "\n{ballots} ballots in the journal, written in {:.0} s; {} answers.\n",
        filled.as_secs_f64(),
        times.len()
    )?;
    let mut lines = vec![["", "p50 ms", "p99", "most"].map(str::to_owned).to_vec()];
    let cells = [quantile(0.5), quantile(0.99), quantile(1.0)].map(amount);
    lines.push(std::iter::once("GET /api/v1/trends/tags, 200 a second".to_owned()).chain(cells).collect());
    columns(out, &lines)?;
    writeln!(out, "\nMemory, anonymous and all: {}; store {} MiB.", Memory::now(), state.store.file_bytes() >> 20)?;
    ensure!(relay.dir.path().is_dir(), "its folder is gone");
    drop(state);
    relay.stop().await
}

async fn keep_asking(address: std::net::SocketAddr, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let pool: Arc<std::sync::Mutex<Vec<SendRequest<Empty<Bytes>>>>> = Arc::default();
    let authority: Arc<str> = address.to_string().into();
    let (mut turns, mut asking) = (interval(Duration::from_micros(1_000_000 / REQUESTS)), JoinSet::new());
    let (started, mut place) = (Instant::now(), 0);
    while started.elapsed() < time {
        let due = turns.tick().await.into_std();
        place = (place + 1) % PATHS.len();
        let (path, pool, authority) = (PATHS[place], pool.clone(), authority.clone());
        asking.spawn(async move {
            let kept = pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(address).await?,
            };
            let (status, _body) = get(&mut sender, &authority, path).await?;
            let took = due.elapsed();
            ensure!(status == 200, "{status}");
            pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(sender);
            Ok(took)
        });
    }
    let mut times = Vec::new();
    while let Some(took) = asking.join_next().await {
        times.push(took??);
    }
    Ok(times)
}

#[expect(clippy::disallowed_methods, reason = "a connection of the bench's own, which ends with it")]
async fn connect(address: std::net::SocketAddr) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn get(sender: &mut SendRequest<Empty<Bytes>>, authority: &str, path: &str) -> anyhow::Result<(u16, Bytes)> {
    sender.ready().await?;
    let answer = sender.send_request(Request::get(path).header(HOST, authority).body(Empty::new())?).await?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

//! How much memory the counts of a day with a million distinct hashtags take, how many votes a second one core counts, and
//! how fast a relay that holds such a day answers; all of it through the store's journal and the board that follows it.
//!
//! `cargo bench --bench trends` does all of it with a million hashtags, `-- 100000` with fewer; `-- votes` counts alone,
//! `-- served` asks a relay alone. As a test it does the same with a few hashtags and looks only at whether it works.
//!
//! The day is as days are: nine things in ten are said once or by one server alone, the rest by ever more people, the first
//! of them by thousands; of twenty things one is a link and one a post that is boosted. A post counts for five of them.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::{Access, Config};
use shearwater::ids::{Authority, Iri, Seq};
use shearwater::policy::RuleSet;
use shearwater::store::{Ballot, Choice, Store, StoreError, Subject, Tx, Voted, hour_of};
use shearwater::trends::board::Board;
use shearwater::trends::lists::{Asked, list};
use shearwater::trends::rulings::Rulings;
use shearwater::trends::served::of_everybody;
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
/// People.
const AUTHORS: u64 = 200_000;
/// The last vote is of this moment.
const UNTIL: Timestamp = Timestamp::from_secs(1_787_486_400);
/// Ballots written at once.
const CHUNK: usize = 2_000;
/// Things that one post counts for.
const OF_ONE_POST: usize = 5;
/// Requests a second.
const REQUESTS: u64 = 200;
/// Posts a second that come in meanwhile.
const POSTS: u64 = 15;
const PATHS: [&str; 2] = ["/api/v1/trends/tags", "/api/v1/trends/tags?limit=20&within=24"];

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("trends") else { return Ok(()) };
    let sizes = call.numbers();
    let size = sizes.first().copied().unwrap_or_else(|| call.size(1_000_000, 2_000)) as u64;
    let runtime = tokio::runtime::Runtime::new()?;
    if call.wants("votes") {
        runtime.block_on(Box::pin(counted(&call, size)))?;
    }
    if call.wants("served") {
        runtime.block_on(Box::pin(served(&call, size)))?;
    }
    Ok(())
}

/// The posts of a day, always the same: round after round, so that the votes for one thing come hours apart.
struct Day {
    size: u64,
    /// Votes for one thing at most.
    most: u64,
    /// Hours over which it is spread.
    hours: u64,
    round: u64,
    next: u64,
    number: u64,
}

/// One of them.
#[derive(Clone)]
struct Post {
    number: u64,
    author: u64,
    hours_ago: u32,
    choices: Vec<Choice>,
}

impl Day {
    const fn new(size: u64, most: u64, hours: u64) -> Self {
        Self { size, most, hours, round: 0, next: 0, number: 0 }
    }

    /// How many votes something gets.
    fn votes_of(&self, thing: u64) -> u64 {
        // One in ten is spoken of by several; of these, each rank has its share.
        if thing.is_multiple_of(10) { (self.size / 8 / (thing / 10 + 1)).clamp(2, self.most) } else { 1 }
    }

    fn chunk(&mut self) -> Vec<Post> {
        let mut posts = Vec::new();
        while posts.len() < CHUNK && self.round < self.most {
            let step = if self.round == 0 { 1 } else { 10 };
            let things: Vec<u64> = (0..OF_ONE_POST as u64)
                .map(|place| self.next + place * step)
                .filter(|thing| *thing < self.size && self.votes_of(*thing) > self.round)
                .collect();
            self.next += OF_ONE_POST as u64 * step;
            if things.is_empty() {
                // Later things have fewer votes: this round is over, and if it was empty, the day.
                let is_over = self.next == OF_ONE_POST as u64 * step;
                (self.round, self.next) = if is_over { (self.most, 0) } else { (self.round + 1, 0) };
                continue;
            }
            self.number += 1;
            let mixed = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
            posts.push(Post {
                number: self.number,
                author: mixed % AUTHORS,
                hours_ago: u32::try_from(mixed / AUTHORS % self.hours).unwrap_or(0),
                choices: things.into_iter().map(choice).collect(),
            });
        }
        posts
    }
}

fn choice(thing: u64) -> Choice {
    let (subject, key) = match (thing % 20, thing % 200) {
        (7, _) | (_, 20) => (Subject::Link, format!("https://news.example/{thing}")),
        (13, _) | (_, 30) => (Subject::Post, format!("https://s1.example/notes/{thing}")),
        _ => (Subject::Tag, format!("hashtag{thing}")),
    };
    Choice { subject, key, shown: String::new() }
}

/// Writes them down as the roller does.
fn cast(tx: &mut Tx<'_>, posts: &[Post], now: u32) -> Result<(), StoreError> {
    let declined = |fault: shearwater::ids::IriFault| StoreError::Declined(fault.to_string());
    for post in posts {
        let server = format!("s{}.example", post.author % SERVERS);
        let place = tx.place(&Authority::parse(&server).map_err(declined)?)?.number;
        let id = Iri::parse(&format!("https://{server}/{}", post.number)).map_err(declined)?;
        let language = ["en", "de", "ja", "und"][usize::try_from(post.author % 4).unwrap_or(0)].to_owned();
        let (author, hour, choices) = (post.author, now - post.hours_ago, post.choices.clone());
        let ballot = Ballot { author, place, language, young: false, hour, seq: Seq(post.number), choices };
        tx.cast(Voted::Post(&id), ballot)?;
    }
    Ok(())
}

/// Counts a day, and says what it took; then counts it anew from the journal, as a restart does.
async fn counted(call: &Call, size: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path(), Clock::manual(UNTIL))?;
    let (config, grown) = (Config::embedded(), ["example".to_owned()]);
    let rules = Arc::new(RuleSet::of_config(&config.policy, &config.relay));
    let _told = store.follow_ballots();
    let load = || Board::load(&store, MEMORY, &grown, &rules, UNTIL);
    let before = Memory::now();
    let mut board = load()?;
    let (mut written, mut took, mut votes, mut ballots) = (Duration::ZERO, Duration::ZERO, 0_u64, 0_u64);
    let (mut day, mut most) = (Day::new(size, 20_000, 24), 0);
    loop {
        let posts = day.chunk();
        if posts.is_empty() {
            break;
        }
        votes += posts.iter().map(|post| post.choices.len() as u64).sum::<u64>();
        ballots += posts.len() as u64;
        let started = Instant::now();
        store.write(move |tx| cast(tx, &posts, hour_of(UNTIL))).await?;
        written += started.elapsed();
        let changes = store.ballot_changes().context("the feed lost something")?;
        let started = Instant::now();
        board.follow(&changes, &store, UNTIL)?;
        took += started.elapsed();
        most = most.max(board.bytes());
    }
    let (after, usual, rulings) = (Memory::now(), store.usual()?, Rulings::default());
    let made = |board: &Board, asked: &Asked| -> anyhow::Result<String> {
        Ok(serde_json::to_string(&list(board.counts(), &usual, &rulings, asked, UNTIL)?)?)
    };
    let started = Instant::now();
    let lists = of_everybody().iter().map(|asked| made(&board, asked)).collect::<anyhow::Result<Vec<_>>>()?;
    let listed = started.elapsed();
    let (counts, evicted) = (board.votes.len(), board.evicted());
    ensure!(counts as u64 >= size / 20, "only {counts} are counted");
    drop(board);
    let started = Instant::now();
    let anew = load()?;
    let restarted = started.elapsed();
    let again = of_everybody().iter().map(|asked| made(&anew, asked)).collect::<anyhow::Result<Vec<_>>>()?;
    let equal = lists.iter().zip(&again).filter(|(one, other)| one == other).count();
    // What was forgotten for lack of room may be other things after a restart.
    ensure!(equal == lists.len() || evicted > 0, "only {equal} of {} lists are the same after a restart", lists.len());
    let mebibytes = |bytes: usize| amount(bytes as f64 / f64::from(1 << 20));
    let per_second = |count: u64, took: Duration| amount(count as f64 / took.as_secs_f64().max(1e-9));
    let rows = [
        ("votes, in ballots", format!("{} in {}", amount(votes as f64), amount(ballots as f64))),
        ("distinct hashtags, links and posts", amount(size as f64)),
        ("of which counted: more than one server speaks of them", amount(counts as f64)),
        ("forgotten for lack of room", evicted.to_string()),
        ("memory of the counts and the sketch, most, MiB", mebibytes(most)),
        ("memory of the process before, anonymous and all", before.to_string()),
        ("and after", after.to_string()),
        ("ballots written per second, a thread", per_second(ballots, written)),
        ("votes counted per second from the journal's changes, a thread", per_second(votes, took)),
        ("the six lists of everybody made, ms", amount(listed.as_secs_f64() * 1000.0)),
        ("counted anew from the journal, s", amount(restarted.as_secs_f64())),
        ("lists that are the same byte for byte after that", format!("{equal} of {}", lists.len())),
    ];
    let mut lines = vec![vec![String::new(), "a day".to_owned()]];
    lines.extend(rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    let out = &mut call.out();
    writeln!(out)?;
    columns(out, &lines)?;
    Ok(())
}

/// A relay that holds such a day, asked two hundred times a second while more comes in.
async fn served(call: &Call, size: u64) -> anyhow::Result<()> {
    let relay = TestRelay::start(|config| {
        (config.trends.api, config.trends.rate) = (Access::Public, 0);
        config.trends.grown = vec!["example".to_owned()];
    })
    .await?;
    let state = relay.server.app().state.clone();
    let started = Instant::now();
    // Of the commonest as many as make a list; all votes of the first would take long to write.
    let mut day = Day::new(size, 60, 6);
    loop {
        let posts = day.chunk();
        if posts.is_empty() {
            break;
        }
        let now = hour_of(state.clock.now());
        state.store.write(move |tx| cast(tx, &posts, now)).await?;
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
    let (done, store, number) = (Arc::new(AtomicBool::new(false)), state.store.clone(), day.number);
    let (ends, now) = (done.clone(), hour_of(state.clock.now()));
    let coming = async move {
        let (mut turns, mut number) = (interval(Duration::from_micros(1_000_000 / POSTS)), number);
        while !ends.load(Ordering::Relaxed) {
            turns.tick().await;
            number += 1;
            let choices = (0..OF_ONE_POST as u64).map(|place| choice(10 * (number * 7 % 500 + place))).collect();
            let post = Post { number, author: number * 31 % AUTHORS, hours_ago: 0, choices };
            store.write(move |tx| cast(tx, &[post], now)).await?;
        }
        anyhow::Ok(())
    };
    let asking = async {
        let times = keep_asking(address, time).await;
        done.store(true, Ordering::Relaxed);
        times
    };
    let (mut times, ()) = tokio::try_join!(asking, coming)?;
    times.sort_unstable();
    let quantile = |share: f64| {
        let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    let out = &mut call.out();
    writeln!(
        out,
        "\n{ballots} ballots in the journal, written in {:.0} s, and {POSTS} more a second; {} answers.\n",
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

//! A whole relay whose search holds all posts: asked over HTTP fifty times a second while posts come in; how long these take
//! until they are found; and how an author of many posts gets out.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::json;
use shearwater::clock::Timestamp;
use shearwater::config::Access;
use shearwater::demo::{Family, Instance, Options, PostSpec};
use shearwater::ids::{Authority, Iri, Seq};
use shearwater::search::index::{Index, Page};
use shearwater::store::{IndexedAuthor, IndexedPost, Leftover, SearchServer, Store, SwitchedBy, Tx};
use shearwater::wire::searchable::{ActorSignals, Profile};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};
use url::form_urlencoded;

use crate::asked::Asked;
use crate::corpus::{Corpus, PROLIFIC_TAG};
use crate::memory::Memory;
use crate::relay::{LONG, TestRelay};
use crate::support::{Call, columns};
use crate::{PER_SECOND, Times, milliseconds};

/// Rows written to the ledger at once.
const CHUNK: u64 = 1_000;
/// Costs nothing but a request: how long it takes says how busy the machine is.
const PLAIN: &str = "/robots.txt";
/// Requests a second.
const REQUESTS: u32 = 50;
/// Posts that are put in together; the gatherer takes up to 128 at once.
const TOGETHER: u64 = 50;
/// Connections that are kept; more are opened when all are in use.
const CONNECTIONS: usize = 8;
/// Between two posts whose arrival is measured.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked whether something happened.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A change of a million posts takes a while.
const VERY_LONG: Duration = Duration::from_secs(1200);

/// Fills the ledger, waits for the index, asks, and withdraws.
pub(crate) async fn run(call: &Call, corpus: &Corpus) -> anyhow::Result<()> {
    let relay = TestRelay::start(|config| {
        (config.search.api, config.search.rate) = (Access::Public, 0);
        config.search.retention = Duration::from_secs(90 * 24 * 3600);
    })
    .await?;
    let before = Memory::now();
    let started = Instant::now();
    let stage = Arc::new(Stage::fill(relay, corpus).await?);
    let filled = started.elapsed();
    let built = Memory::now();
    let asked = Asked::of_each(corpus, call.size(100, 2));
    let mut alone = stage.clone().blocking(move |stage| stage.ask_ledger(&asked)).await?;
    let paths = paths(&Asked::of_each(corpus, call.size(100, 2)));
    let time = Duration::from_secs(call.size(20, 1) as u64);
    let putting = stage.keep_putting(time);
    let probing = stage.keep_posting(time);
    let address = stage.relay.server.http_addr().context("an address")?;
    let (asking, beside) = (keep_asking(address, paths, time), keep_asking(address, vec![PLAIN.to_owned()], time));
    let ((), mut arrivals, mut answers, mut plain) = tokio::try_join!(putting, probing, asking, beside)?;
    let used = Memory::now();
    stage.settled().await?;
    let gone = stage.clone().withdraw().await?;

    let head = ["", "p50 ms", "p99", "most"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let rows = [
        ("found and looked up in the ledger, at rest, no HTTP", &mut alone),
        ("GET /api/v1/search, 50 a second, while indexing", &mut answers),
        ("GET /robots.txt, 50 a second, at the same time", &mut plain),
        ("from posting to being found, by the inbox, while indexing", &mut arrivals),
    ];
    for (name, times) in rows {
        lines.push(std::iter::once(name.to_owned()).chain(times.cells()).collect());
    }
    let out = &mut call.out();
    writeln!(out, "\n{} posts in the ledger and the index; {PER_SECOND} posts a second come.\n", corpus.size())?;
    columns(out, &lines)?;
    writeln!(out, "\n{} answers, {} arrivals. {gone}", answers.0.len(), arrivals.0.len())?;
    writeln!(
        out,
        "Memory, anonymous and all: {before} when started, {built} just filled after {:.0} s, {used} after having been asked; ledger {} MiB.",
        filled.as_secs_f64(),
        stage.store().file_bytes() >> 20,
    )?;
    let stage = Arc::into_inner(stage).context("somebody still holds the relay")?;
    stage.poster.shutdown().await;
    stage.relay.stop().await
}

/// What a withdrawal took.
#[derive(Debug)]
struct Gone {
    posts: u64,
    written: Duration,
    first_search: Duration,
    worst_search: Duration,
    index: Duration,
    swept: Duration,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "An author of {} posts withdraws: written down in {} ms, none found by the next search ({} ms; at worst {} ms until \
             the index knew), out of the index after {} ms, out of the ledger's rows after {} ms.",
            self.posts,
            milliseconds(self.written),
            milliseconds(self.first_search),
            milliseconds(self.worst_search),
            milliseconds(self.index),
            milliseconds(self.swept),
        )
    }
}

struct Stage {
    relay: TestRelay,
    corpus: Corpus,
    /// Each author's number in the ledger.
    authors: Vec<u64>,
    poster: Instance,
}

fn actor(author: u64) -> anyhow::Result<Iri> {
    Ok(Iri::parse(&format!("https://s{}.example/users/u{author}", Corpus::server_of(author)))?)
}

fn on(since: Timestamp) -> SearchServer {
    SearchServer { since, by: SwitchedBy::Operator, also: Vec::new(), reason: "its admin asked".to_owned() }
}

impl Stage {
    async fn fill(relay: TestRelay, corpus: &Corpus) -> anyhow::Result<Self> {
        let (store, now) = (relay.server.app().state.store.clone(), relay.server.app().state.clock.now());
        let long_ago = now.minus(Duration::from_secs(365 * 24 * 3600));
        let names: BTreeSet<String> =
            (0..corpus.authors()).map(|one| format!("s{}.example", Corpus::server_of(one))).collect();
        let names: Vec<Authority> = names.iter().map(|name| Authority::parse(name)).collect::<Result<_, _>>()?;
        store
            .write(move |tx| names.iter().try_for_each(|name| tx.switch_search(name, Some(on(long_ago))).map(drop)))
            .await?;

        let poster =
            Instance::start(Family::Mastodon, Options { name: "poster".to_owned(), ..Options::default() }).await?;
        let answer = poster.join(relay.url()).await?;
        ensure!(answer.is_ok() && poster.wait_accepted(LONG).await, "the poster is not accepted: {}", answer.text());
        let name = Authority::parse(poster.origin().trim_start_matches("http://"))?;
        store.write(move |tx| tx.switch_search(&name, Some(on(long_ago)))).await?;

        let mut stage = Self { relay, corpus: *corpus, authors: Vec::new(), poster };
        for first in (0..corpus.authors()).step_by(usize::try_from(CHUNK)?) {
            let actors =
                (first..(first + CHUNK).min(corpus.authors())).map(actor).collect::<anyhow::Result<Vec<_>>>()?;
            let rows: Vec<(Iri, IndexedAuthor)> =
                actors.into_iter().map(|actor| author(actor, now)).collect::<anyhow::Result<_>>()?;
            let put = store.write(move |tx| {
                rows.into_iter()
                    .map(|(actor, row)| Ok(tx.put_indexed_author(&actor, row)?.number))
                    .collect::<Result<Vec<_>, _>>()
            });
            stage.authors.extend(put.await?);
        }
        for first in (0..corpus.size()).step_by(usize::try_from(CHUNK)?) {
            stage.put(first..(first + CHUNK).min(corpus.size())).await?;
        }
        stage.settled().await?;
        Ok(stage)
    }

    fn store(&self) -> &Store {
        &self.relay.server.app().state.store
    }

    /// Writes posts into the ledger.
    async fn put(&self, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
        let rows = numbers.map(|number| self.row(number)).collect::<anyhow::Result<Vec<_>>>()?;
        let store = self.store();
        Ok(store.write(move |tx| rows.iter().try_for_each(|row| tx.put_indexed_post(row).map(drop))).await?)
    }

    fn row(&self, number: u64) -> anyhow::Result<IndexedPost> {
        let post = self.corpus.post(number);
        let author = actor(post.author)?;
        let place = usize::try_from(post.author)?;
        Ok(IndexedPost {
            object: Iri::parse(&format!("{}/statuses/{number}", author.as_str()))?,
            author,
            author_number: self.authors.get(place).copied().context("an author")?,
            published: Timestamp::from_millis(post.published),
            seq: Seq(1),
            language: post.language.to_owned(),
            document: post.document,
        })
    }

    /// Waits until all that was written is in the index.
    async fn settled(&self) -> anyhow::Result<()> {
        let all = async {
            while self.store().ledger_counts()?.changes > 0 {
                sleep(LOOK_EVERY * 5).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(VERY_LONG, all).await.context("waiting for the index")?
    }

    /// Runs what blocks where it may.
    async fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        job: impl FnOnce(&Self) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        tokio::task::spawn_blocking(move || job(&self)).await?
    }

    /// How many are found, at most twenty.
    fn find(&self, text: &str) -> anyhow::Result<usize> {
        let search = &self.relay.server.app().state.search;
        Ok(search.find(text, Page { limit: 20, ..Page::default() }, 0, false)?.hits.len())
    }

    fn ask_ledger(&self, asked: &[Asked]) -> anyhow::Result<Times> {
        let (mut times, mut found) = (Times::default(), 0);
        for one in asked {
            let begun = Instant::now();
            found += self.find(&one.text)?;
            times.0.push(begun.elapsed());
        }
        ensure!(found > 0, "nothing is found");
        Ok(times)
    }

    async fn keep_putting(&self, time: Duration) -> anyhow::Result<()> {
        // Made beforehand: that is not the relay's work.
        let many = PER_SECOND * time.as_secs().max(1);
        let rows = (0..many).map(|number| self.row(self.corpus.size() + number));
        let mut rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
        let mut turns = interval(Duration::from_micros(1_000_000 * TOGETHER / PER_SECOND));
        while !rows.is_empty() {
            turns.tick().await;
            let now = self.relay.server.app().state.clock.now();
            let mut together = rows.split_off(rows.len().saturating_sub(usize::try_from(TOGETHER)?));
            together.iter_mut().for_each(|row| row.published = now);
            let put = move |tx: &mut Tx<'_>| together.iter().try_for_each(|row| tx.put_indexed_post(row).map(drop));
            self.store().write(put).await?;
        }
        Ok(())
    }

    /// Posts as a server would; how long each took from when it began until it was found.
    async fn keep_posting(self: &Arc<Self>, time: Duration) -> anyhow::Result<Times> {
        let (started, mut waiting) = (Instant::now(), JoinSet::new());
        let (mut turns, mut number) = (interval(PROBE_EVERY), 0_u32);
        // The first one has the author read, which is a request to their server.
        while number == 0 || started.elapsed() < time {
            turns.tick().await;
            let (begun, word) = (Instant::now(), word(number));
            let posted = self.poster.post(PostSpec::public(&format!("a petrel and a {word} over the bay"))).await?;
            ensure!(posted.status() == 202, "{posted:?}");
            let (stage, is_first) = (self.clone(), number == 0);
            waiting.spawn(async move { stage.appears(word, begun).await.map(|took| (is_first, took)) });
            number += 1;
        }
        let mut times = Times::default();
        while let Some(took) = waiting.join_next().await {
            let (is_first, took) = took??;
            if !is_first || number == 1 {
                times.0.push(took);
            }
        }
        Ok(times)
    }

    async fn appears(self: Arc<Self>, word: String, begun: Instant) -> anyhow::Result<Duration> {
        self.blocking(move |stage| {
            while stage.find(&word)? == 0 {
                ensure!(begun.elapsed() < LONG, "{word} is not found");
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(begun.elapsed())
        })
        .await
    }

    async fn withdraw(self: Arc<Self>) -> anyhow::Result<Gone> {
        let (author, number) = (actor(0)?, self.authors.first().copied().context("an author")?);
        let posts = self.store().posts_of(number)?;
        let folder = self.relay.dir.path().join("data/search");
        let docs = move || anyhow::Ok(Index::open(&folder)?.stats()?.docs);
        let (before, query) = (docs()?, format!("#{PROLIFIC_TAG}"));
        let begun = Instant::now();
        let was_there = self.store().write(move |tx| tx.withdraw_author(&author)).await?;
        let written = begun.elapsed();
        ensure!(was_there && posts > 0, "the author is not there");
        let stage = self.clone();
        let (first_search, worst_search, index) = stage
            .blocking(move |stage| {
                let (mut first, mut worst) = (None, Duration::ZERO);
                loop {
                    let asking = Instant::now();
                    ensure!(stage.find(&query)? == 0, "what was withdrawn is found");
                    first = first.or(Some(asking.elapsed()));
                    worst = worst.max(asking.elapsed());
                    if docs()? + posts <= before {
                        return Ok((first.unwrap_or_default(), worst, begun.elapsed()));
                    }
                    ensure!(begun.elapsed() < LONG, "the index does not follow");
                    std::thread::sleep(LOOK_EVERY);
                }
            })
            .await?;
        while !self.store().all::<Leftover>()?.is_empty() {
            ensure!(begun.elapsed() < LONG, "the rows are not swept");
            sleep(LOOK_EVERY).await;
        }
        Ok(Gone { posts, written, first_search, worst_search, index, swept: begun.elapsed() })
    }
}

/// Asks over kept-alive connections at moments that do not depend on the answers; each took from its moment on. On a thread
/// of its own, as somebody else would: what asks must not wait for the tasks of who answers.
async fn keep_asking(address: std::net::SocketAddr, paths: Vec<String>, time: Duration) -> anyhow::Result<Times> {
    let alone = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask(address, &paths, time))
    };
    tokio::task::spawn_blocking(alone).await?
}

async fn ask(address: std::net::SocketAddr, paths: &[String], time: Duration) -> anyhow::Result<Times> {
    let pool: Arc<Mutex<Vec<SendRequest<Empty<Bytes>>>>> = Arc::default();
    for _ in 0..CONNECTIONS {
        let sender = connect(address).await?;
        lock(&pool).push(sender);
    }
    let authority = address.to_string();
    let (mut due, mut asking) = (moments(time), JoinSet::new());
    // The kinds stand one after another: in steps of a prime number they come mixed.
    let mut place = 0;
    while let Some(due) = due.recv().await {
        place = (place + 37) % paths.len();
        let request = Request::get(&paths[place]).header(HOST, &authority).body(Empty::new())?;
        let pool = pool.clone();
        asking.spawn(async move {
            let kept = lock(&pool).pop();
            let mut sender = match kept {
                Some(sender) => sender,
                None => connect(address).await?,
            };
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            let took = due.elapsed();
            ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
            lock(&pool).push(sender);
            Ok(took)
        });
    }
    let mut times = Times::default();
    while let Some(took) = asking.join_next().await {
        times.0.push(took??);
    }
    Ok(times)
}

/// The moments at which something is to be asked. From a thread that sleeps: the runtime's timers are a millisecond late.
fn moments(time: Duration) -> mpsc::UnboundedReceiver<Instant> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let started = Instant::now();
        let mut due = started;
        while due < started + time && tell.send(due).is_ok() {
            due += Duration::from_secs(1) / REQUESTS;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    });
    told
}

/// What is asked for over HTTP.
fn paths(asked: &[Asked]) -> Vec<String> {
    let query = |one: &Asked| form_urlencoded::Serializer::new(String::new()).append_pair("q", &one.text).finish();
    asked.iter().map(|one| format!("/api/v1/search?{}", query(one))).collect()
}

/// Somebody who said yes just now.
fn author(actor: Iri, now: Timestamp) -> anyhow::Result<(Iri, IndexedAuthor)> {
    let name = actor.as_str().rsplit('/').next();
    let document = json!({ "id": actor.as_str(), "type": "Person", "preferredUsername": name, "name": name,
                           "summary": "", "indexable": true, "discoverable": true });
    let signals = ActorSignals::of(&document);
    let profile = Profile::of(&document).context("a profile")?;
    Ok((actor, IndexedAuthor { number: 0, since: None, read_at: now, signals, profile, hidden: None }))
}

/// A word of its own for each number.
fn word(mut number: u32) -> String {
    let mut word = "zq".to_owned();
    for _ in 0..5 {
        word.extend(char::from_digit(10 + number % 26, 36));
        number /= 26;
    }
    word
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(address: std::net::SocketAddr) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends when its sender does; a fault shows in the request that meets it"
    )]
    tokio::spawn(connection);
    Ok(sender)
}

//! The index alone: from what somebody typed to the ids of twenty posts, at rest and while it is written to.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use shearwater::clock::Timestamp;
use shearwater::search::compile::{Compiled, Names};
use shearwater::search::index::{Index, Page, Writer};
use shearwater::search::query::{Query, Sort};
use shearwater::search::schema::IndexDoc;
use tempfile::TempDir;

use crate::asked::{Asked, Kind};
use crate::corpus::{Corpus, Post};
use crate::memory::Memory;
use crate::support::{Call, columns};
use crate::{PER_SECOND, Times, dump};

/// As `search.heap` has it.
const HEAP: usize = 50 << 20;
/// As the daemon lets one search look.
const WITHIN: Duration = Duration::from_millis(150);
/// Results asked for.
const LIMIT: usize = 20;
const SECOND: Duration = Duration::from_secs(1);

/// No query of this mix names anybody.
struct Nobody;

impl Names for Nobody {
    fn authors(&self, _who: &str) -> Vec<u64> {
        Vec::new()
    }

    fn servers(&self, _host: &str) -> Vec<u64> {
        Vec::new()
    }
}

/// Builds the index, asks, and asks again while it grows.
pub(crate) fn run(call: &Call, corpus: &Corpus) -> anyhow::Result<()> {
    let before = Memory::now();
    let mut stage = Stage::build(corpus)?;
    let asked = Asked::of_each(corpus, call.size(400, 5));
    let time = Duration::from_secs(call.size(20, 1) as u64);
    stage.ask(&asked, Duration::ZERO, &AtomicBool::new(false))?;
    let mut rest = stage.ask(&asked, time, &AtomicBool::new(false))?;
    let (mut busy, mut commits) = stage.ask_while_it_grows(&asked, time)?;
    let after = Memory::now();

    let mut lines =
        vec![["", "p50 ms", "p99", "most", "p50 while indexing", "p99", "most"].map(str::to_owned).to_vec()];
    for (place, kind) in Kind::ALL.into_iter().enumerate() {
        let mut line = vec![kind.name().to_owned()];
        line.extend(rest[place].cells().into_iter().chain(busy[place].cells()));
        lines.push(line);
    }
    let empty = || (0..3).map(|_| "-".to_owned());
    lines.push(
        std::iter::once("a commit of a second's posts".to_owned()).chain(empty()).chain(commits.cells()).collect(),
    );
    let out = &mut call.out();
    writeln!(out, "\n{} posts in the index, 20 results asked for; then {PER_SECOND} posts a second.\n", corpus.size())?;
    columns(out, &lines)?;
    let stats = stage.index.stats()?;
    writeln!(out, "\n{} segments. Memory, anonymous and all: {before} before, {after} at the end.", stats.segments)?;
    dump::write(corpus, &asked, &lines)
}

struct Stage {
    corpus: Corpus,
    index: Index,
    writer: Option<Writer>,
    _dir: TempDir,
}

impl Stage {
    fn build(corpus: &Corpus) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let index = Index::open(dir.path())?;
        let mut writer = index.writer(HEAP)?;
        for number in 0..corpus.size() {
            writer.add(&doc(&corpus.post(number)))?;
        }
        writer.commit(1, now(corpus))?;
        // Merges go on after a commit, and a later one shows what they made.
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(if corpus.size() > 10_000 { 1000 } else { 1 }));
            writer.commit(1, now(corpus))?;
        }
        Ok(Self { corpus: *corpus, index, writer: Some(writer), _dir: dir })
    }

    /// All queries at least once and until the time is over, kinds in turns; how long each took, by kind.
    fn ask(&self, asked: &[Asked], time: Duration, stop: &AtomicBool) -> anyhow::Result<Vec<Times>> {
        let mut times: Vec<Times> = Kind::ALL.iter().map(|_| Times::default()).collect();
        let (started, mut found) = (Instant::now(), 0);
        while found == 0 || (started.elapsed() < time && !stop.load(Ordering::Relaxed)) {
            for (place, kind) in Kind::ALL.iter().enumerate() {
                for one in asked.iter().filter(|one| one.kind == *kind) {
                    let begun = Instant::now();
                    found += self.find(&one.text)?;
                    times[place].0.push(begun.elapsed());
                }
            }
            ensure!(found > 0, "nothing is found");
        }
        Ok(times)
    }

    /// From what was typed to ids; how many.
    fn find(&self, text: &str) -> anyhow::Result<usize> {
        let query = Query::read(text)?;
        let compiled = Compiled::new(&query, &Nobody, false);
        let found = match query.sort {
            Sort::Newest => {
                self.index.newest(&compiled, Page { limit: LIMIT, ..Page::default() }, &|_| true, WITHIN)?
            }
            Sort::Relevance => self.index.best(&compiled, 0, LIMIT, &|_| true, WITHIN)?,
        };
        Ok(found.ids.len())
    }

    /// The same while another thread puts posts in and commits once a second, as the indexer does; and how long that took.
    fn ask_while_it_grows(&mut self, asked: &[Asked], time: Duration) -> anyhow::Result<(Vec<Times>, Times)> {
        let Some(mut writer) = self.writer.take() else { anyhow::bail!("there is one writer") };
        let (corpus, stop, failed) = (self.corpus, AtomicBool::new(false), AtomicBool::new(false));
        let mut grow = || -> anyhow::Result<Times> {
            let (mut commits, mut next) = (Times::default(), corpus.size());
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let posts: Vec<Post> = (next..next + PER_SECOND).map(|number| corpus.post(number)).collect();
                next += PER_SECOND;
                let begun = Instant::now();
                for post in &posts {
                    writer.put(&doc(post))?;
                }
                writer.commit(next, now(&corpus))?;
                commits.0.push(begun.elapsed());
                due += SECOND;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(commits)
        };
        std::thread::scope(|scope| {
            let growing = scope.spawn(|| grow().inspect_err(|_| failed.store(true, Ordering::Relaxed)));
            let times = self.ask(asked, time, &failed);
            stop.store(true, Ordering::Relaxed);
            let commits = growing.join().map_err(|_panic| anyhow::anyhow!("indexing fell"))??;
            Ok((times?, commits))
        })
    }
}

/// The moment of the last post.
fn now(corpus: &Corpus) -> Timestamp {
    Timestamp::from_millis(corpus.post(corpus.size().saturating_sub(1)).published)
}

fn doc(post: &Post) -> IndexDoc<'_> {
    IndexDoc {
        id: post.id(),
        author: post.author,
        server: post.server,
        language: post.language,
        document: &post.document,
    }
}

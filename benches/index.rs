//! How many posts a second the index takes with our text analysis, how many bytes each costs it on disk and in memory, and
//! how long it takes until what an author wrote is out of it, and out of its files.
//!
//! `cargo bench --bench index` does it with 100,000 posts, `-- 1000000` with a million. `-- text` measures the analysis
//! alone, `-- index` the index alone. As a test it does the same with a few posts and looks only at how many are there.
//!
//! The index has one thread for building and one that merges; texts are taken apart on the thread that hands posts over.
//! So "per second" is by the clock and may use more than one core, and "CPU µs each" is everything that a post costs,
//! merges included: a million divided by that is what one core does in a second. Making the posts is not counted.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/memory.rs"]
mod memory;
#[path = "support/rates.rs"]
mod rates;
mod support;

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use shearwater::clock::Timestamp;
use shearwater::search::index::{Index, Writer};
use shearwater::search::schema::IndexDoc;
use shearwater::search::tokens::tokens;

use corpus::{Corpus, Post};
use memory::Memory;
use rates::{Rounds, Watch, append, cpu_time, number};
use support::{Call, amount, columns};

/// As `search.heap` has it.
const HEAP: usize = 50 << 20;
/// Posts made in advance, and then taken at once.
const BATCH: u64 = 10_000;
/// The last post is of this moment.
const UNTIL: Timestamp = Timestamp::from_secs(1_787_486_400);
/// How long merges may go on after the last commit.
const SETTLE: Duration = Duration::from_secs(60);

const TOKENS: &str = "text taken apart";
const APPEND: &str = "append without fsync";
const INDEX: &str = "put into the index";

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("index") else { return Ok(()) };
    let sizes = call.numbers();
    let sizes = if sizes.is_empty() { vec![call.size(100_000, 400)] } else { sizes };
    for size in sizes {
        let corpus = Corpus::new(size as u64, UNTIL.millis());
        let (text, index) = (call.wants("text"), call.wants("index"));
        let apart = if text || index { taken_apart(&call, &corpus, text)? } else { Duration::ZERO };
        if index {
            indexed(&call, &corpus, apart)?;
        }
    }
    Ok(())
}

fn batches(corpus: &Corpus) -> impl Iterator<Item = Vec<Post>> {
    let (corpus, size) = (*corpus, corpus.size());
    (0..size).step_by(usize::try_from(BATCH).unwrap_or(1)).map(move |first| {
        let numbers = first..(first + BATCH).min(size);
        numbers.map(|number| corpus.post(number)).collect()
    })
}

/// The analysis alone, beside writing the same texts to a file; how much processor time making the posts takes.
fn taken_apart(call: &Call, corpus: &Corpus, shown: bool) -> anyhow::Result<Duration> {
    let dir = tempfile::tempdir()?;
    let (mut rounds, mut bytes, mut terms) = (Rounds::default(), 0, 0);
    let (began, mut measured) = (cpu_time(), Duration::ZERO);
    for posts in batches(corpus) {
        let before = cpu_time();
        let watch = Watch::start();
        for post in &posts {
            tokens(&post.document.text, |token| {
                black_box(token.text);
                terms += 1;
            });
        }
        rounds.note(TOKENS, watch.stop(posts.len()));
        let texts = posts.iter().map(|post| post.document.text.as_bytes());
        bytes += texts.clone().map(<[u8]>::len).sum::<usize>();
        rounds.note(APPEND, append(&dir.path().join("plain"), texts, false)?);
        measured += spent(before);
    }
    ensure!(terms > 0, "the posts say nothing");
    if shown {
        let size = usize::try_from(corpus.size())?.max(1);
        let title = format!(
            "{size} posts of {} bytes and {} terms on average, one thread, in rounds of {BATCH}.",
            bytes / size,
            terms / size
        );
        rounds.write(&mut call.out(), &title, &[APPEND])?;
    }
    Ok(spent(began).saturating_sub(measured))
}

/// The index, from nothing.
fn indexed(call: &Call, corpus: &Corpus, making: Duration) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let size = usize::try_from(corpus.size())?;
    let before = Memory::now();
    let began = cpu_time();
    let index = Index::open(dir.path())?;
    let mut writer = index.writer(HEAP)?;
    let (mut took, mut most) = (Duration::ZERO, before);
    for posts in batches(corpus) {
        let started = Instant::now();
        for post in &posts {
            writer.add(&doc(post))?;
        }
        took += started.elapsed();
        let now = Memory::now();
        most = if now > most { now } else { most };
    }
    let started = Instant::now();
    writer.commit(1, UNTIL)?;
    took += started.elapsed();
    settle(&index, &mut writer)?;
    let cpu = spent(began).saturating_sub(making);
    let stats = index.stats()?;
    ensure!(stats.docs == corpus.size(), "{stats:?}");
    let built = Memory::now();

    let started = Instant::now();
    writer.remove_author(0);
    writer.commit(2, UNTIL)?;
    let removed = started.elapsed();
    let left = index.stats()?;
    ensure!(left.docs < stats.docs, "{left:?}");
    let started = Instant::now();
    let expunged = writer.expunge(UNTIL)?;
    let gone = started.elapsed();
    ensure!(expunged.left == 0 && index.stats()?.deleted == 0, "{expunged:?}");

    let each = |bytes: u64| amount(number(usize::try_from(bytes).unwrap_or_default()) / number(size.max(1)));
    let milliseconds = |span: Duration| format!("{} ms", amount(span.as_secs_f64() * 1000.0));
    let cpu_each = cpu.as_secs_f64() * 1e6 / number(size.max(1));
    let rows = [
        (format!("{INDEX}, per second"), amount(number(size) / took.as_secs_f64())),
        ("CPU µs each, merges included".to_owned(), amount(cpu_each)),
        ("so one core, per second".to_owned(), amount(1e6 / cpu_each)),
        ("bytes each on disk".to_owned(), each(stats.bytes)),
        ("segments".to_owned(), stats.segments.to_string()),
        ("memory before, anonymous and all".to_owned(), before.to_string()),
        ("at most while building".to_owned(), most.to_string()),
        ("when built".to_owned(), built.to_string()),
        (format!("an author's {} posts removed, committed", stats.docs - left.docs), milliseconds(removed)),
        (format!("and gone from the files, {} segments rewritten", expunged.segments), milliseconds(gone)),
    ];
    let mut lines = vec![vec![String::new(), format!("{size} posts")]];
    lines.extend(rows.into_iter().map(|(name, value)| vec![name, value]));
    let out = &mut call.out();
    writeln!(out)?;
    columns(out, &lines)?;
    Ok(())
}

/// Waits until merges have come to an end, and what they replaced is gone.
fn settle(index: &Index, writer: &mut Writer) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut last = index.stats()?;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        writer.commit(1, UNTIL)?;
        let now = index.stats()?;
        if (now.segments, now.bytes) == (last.segments, last.bytes) || started.elapsed() > SETTLE {
            return Ok(());
        }
        last = now;
    }
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

/// Processor time since then.
fn spent(then: Option<Duration>) -> Duration {
    cpu_time().zip(then).map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then))
}

//! Who allocates how much memory: for each delivery and for each activity that comes in, by function.
//!
//! `cargo test --bench allocations -- --bench` runs all, unoptimised, so that each function still has its name; with
//! `delivery` or `inbound` after it a part, with `500` it delivers to that many. As a test it delivers a few long posts, and
//! looks only at whether any of them was copied for each subscriber.
//!
//! Counted is what the whole process asks its allocator for while posts go through, but for what the simulated servers
//! ask for. A row is a function of ours, the innermost one of those that wait for it, and what it called. dhat notes who
//! asks, so nothing here is timed.

#[path = "support/relay.rs"]
mod relay;
#[path = "support/stage.rs"]
mod stage;
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use shearwater::config::SharedSignature;
use shearwater::demo::{Family, PostSpec};

use stage::Stage;
use support::{Call, amount, columns};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Calls that are noted of each request for memory: enough to reach from a cell of a hash map to the task that it is of.
const FRAMES: usize = 100;
/// Rows that are shown; the rest is one more.
const ROWS: usize = 24;
/// A post's text in the test: much more than all else that a delivery needs, and short enough to be forwarded.
const LONG_TEXT: usize = 25_000;

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("allocations") else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if call.wants("delivery") {
            for (title, signature) in
                [("shared signatures", SharedSignature::Auto), ("a signature for each server", SharedSignature::Off)]
            {
                Box::pin(deliveries(&call, title, signature)).await?;
            }
        }
        if call.wants("inbound") {
            Box::pin(inbound(&call)).await?;
        }
        Ok(())
    })
}

/// Posts to many subscribers. What taking a post costs is in it, shared by all its deliveries.
async fn deliveries(call: &Call, title: &str, signature: SharedSignature) -> anyhow::Result<()> {
    let subscribers = call.numbers().first().copied().unwrap_or(call.size(100, 60));
    let posts = call.size(30, 2);
    let change = |config: &mut shearwater::config::Delivery| config.shared_signature = signature;
    let stage = Stage::set(Family::Mastodon, subscribers, Duration::ZERO, change).await?;
    let bytes = stage.warm_up().await?.len();
    let each = number(subscribers * posts);
    let asked = measure(&stage, subscribers, posts, None).await?;
    let title = format!("A delivery, {title}: {subscribers} subscribers, {posts} posts of {bytes} bytes.");
    asked.write(call, &title, each)?;
    if !call.full {
        // Half of it may be what taking the posts in costs.
        let longer = measure(&stage, subscribers, posts, Some(LONG_TEXT)).await?;
        let more = (longer.bytes - asked.bytes) / each;
        ensure!(more < number(LONG_TEXT) * 0.75, "{more} bytes more for each delivery of {LONG_TEXT}: it was copied");
    }
    stage.end().await
}

/// Posts that go to nobody: what an activity costs until it is durable, its HTTP included.
async fn inbound(call: &Call) -> anyhow::Result<()> {
    let posts = call.size(300, 2);
    let stage = Stage::set(Family::Mastodon, 0, Duration::ZERO, |_as_it_is| ()).await?;
    // The author's key is fetched once.
    stage.post(stage.compose(2)).await?;
    let asked = measure(&stage, 0, posts, None).await?;
    asked.write(call, &format!("An activity that comes in: {posts} posts."), number(posts))?;
    stage.end().await
}

/// Sends so many posts through the relay, and reads what dhat wrote of it.
async fn measure(stage: &Stage, subscribers: usize, posts: usize, long: Option<usize>) -> anyhow::Result<Asked> {
    let composed = match long {
        Some(length) => (0..posts).map(|_| stage.poster.compose(&PostSpec::public(&"a".repeat(length)))).collect(),
        None => stage.compose(posts),
    };
    let file = stage.relay.dir.path().join("dhat.json");
    let target = stage.swarm.received() + (subscribers * posts) as u64;
    let profiler = dhat::Profiler::builder().file_name(&file).trim_backtraces(Some(FRAMES)).build();
    stage.post(composed).await?;
    let came = stage.swarm.wait_received(target, relay::LONG).await;
    drop(profiler);
    ensure!(came, "{} of {target} came", stage.swarm.received());
    Asked::read(&file)
}

/// What the relay asked the allocator for.
struct Asked {
    blocks: f64,
    bytes: f64,
    /// By function: blocks, and bytes.
    rows: Vec<(String, f64, f64)>,
}

impl Asked {
    /// Reads dhat's file: program points `pps` with their total blocks and bytes, and their frames, by index into `ftbl`.
    fn read(file: &Path) -> anyhow::Result<Self> {
        let profile: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let frames = profile["ftbl"].as_array().context("frames")?;
        let names: Vec<String> = frames.iter().map(|frame| name(frame.as_str().unwrap_or_default())).collect();
        let mut rows: HashMap<String, (f64, f64)> = HashMap::new();
        for point in profile["pps"].as_array().context("points")? {
            let indices = point["fs"].as_array().into_iter().flatten().filter_map(Value::as_u64);
            let stack: Vec<&str> =
                indices.filter_map(|index| names.get(usize::try_from(index).ok()?)).map(String::as_str).collect();
            if stack.iter().any(|name| name.starts_with("shearwater::demo") || name.starts_with("allocations::")) {
                continue;
            }
            let row = rows.entry(whose(&stack)).or_default();
            row.0 += point["tbk"].as_f64().context("blocks")?;
            row.1 += point["tb"].as_f64().context("bytes")?;
        }
        let mut rows: Vec<(String, f64, f64)> =
            rows.into_iter().map(|(name, (blocks, bytes))| (name, blocks, bytes)).collect();
        rows.sort_by(|one, other| other.1.total_cmp(&one.1));
        let sum = |of: fn(&(String, f64, f64)) -> f64| rows.iter().map(of).sum();
        Ok(Self { blocks: sum(|row| row.1), bytes: sum(|row| row.2), rows })
    }

    fn write(&self, call: &Call, title: &str, each: f64) -> anyhow::Result<()> {
        let out = &mut call.out();
        let line = |what: &str, blocks: f64, bytes: f64| {
            let share = blocks / self.blocks * 100.0;
            vec![what.to_owned(), amount(blocks / each), amount(bytes / each), format!("{share:.0} %")]
        };
        let head = ["", "allocations", "bytes", "share"].map(str::to_owned).to_vec();
        let mut lines = vec![head, line("all", self.blocks, self.bytes)];
        let (shown, rest) = self.rows.split_at(ROWS.min(self.rows.len()));
        lines.extend(shown.iter().map(|(name, blocks, bytes)| line(name, *blocks, *bytes)));
        let sum = |of: fn(&(String, f64, f64)) -> f64| rest.iter().map(of).sum::<f64>();
        lines.push(line("the rest", sum(|row| row.1), sum(|row| row.2)));
        writeln!(out, "\n{title}\n")?;
        columns(out, &lines)?;
        Ok(())
    }
}

/// The function of a frame: `0x55..: name (file:line:column)`, without its type parameters and closures.
fn name(frame: &str) -> String {
    let name = frame.split_once(": ").map_or(frame, |(_, rest)| rest);
    let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
    // `<T as Trait>::f` is T's `f`, if T is a type of somebody's.
    let name = match name.strip_prefix('<').and_then(|inner| inner.split_once(" as ")) {
        Some((of, rest)) if of.contains("::") => {
            format!("{of}::{}", rest.rsplit("::").find(|part| !part.starts_with('{')).unwrap_or_default())
        }
        Some((_, rest)) => rest.to_owned(),
        None => name.trim_start_matches('<').to_owned(),
    };
    let (mut plain, mut depth) = (String::new(), 0_usize);
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            letter if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    let parts = plain.split("::").filter(|part| !part.is_empty() && !part.starts_with('{'));
    parts.collect::<Vec<_>>().join("::")
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
const fn number(count: usize) -> f64 {
    count as f64
}

/// The row of a stack, whose first frame is the innermost.
fn whose(stack: &[&str]) -> String {
    let called = stack.iter().find(|name| is_of_a_crate(name)).copied().unwrap_or("?");
    match stack.iter().find(|name| name.starts_with("shearwater::")) {
        Some(ours) if *ours == called => called.trim_start_matches("shearwater::").to_owned(),
        Some(ours) => {
            let of = called.split("::").next().unwrap_or(called);
            format!("{}, in {of}", ours.trim_start_matches("shearwater::"))
        }
        None => called.to_owned(),
    }
}

/// Of a crate, and not of the language's own: what has no path is a helper of whoever is next.
fn is_of_a_crate(name: &str) -> bool {
    const LANGUAGE: [&str; 6] = ["core", "alloc", "std", "dhat", "u8", "str"];
    let Some((of, _)) = name.split_once("::") else { return false };
    let is_name = of.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    is_name && !of.starts_with('_') && !LANGUAGE.contains(&of)
}

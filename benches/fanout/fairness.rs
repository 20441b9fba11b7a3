//! What sick subscribers cost the healthy ones: how long a post takes from its author's server to each healthy subscriber,
//! beside the same with a fifth of all subscribers dead, hanging, slow, failing or answering without end; two relays in one
//! process, in turns.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::ensure;
use shearwater::demo::{Family, Instance, Options, PostSpec, Swarm, SwarmOptions};

use super::rates::median;
use super::relay::{LONG, TestRelay};
use super::support::Call;

/// Posts arrive at the relay in this rhythm: a busy relay's, that this machine can serve without a queue.
const EVERY: Duration = Duration::from_millis(250);
const ROUNDS: usize = 7;

/// Runs both relays and writes the table.
pub(crate) async fn compare(call: &Call) -> anyhow::Result<()> {
    let (healthy, sick, posts) = (call.size(80, 4), call.size(4, 1), call.size(40, 2));
    let well = Stage::set(healthy, 0).await?;
    let ill = Stage::set(healthy, sick).await?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..call.size(ROUNDS, 1) {
        // Each goes first as often as the other.
        let (without, with) = if round % 2 == 0 {
            let without = well.round(posts).await?;
            (without, ill.round(posts).await?)
        } else {
            let with = ill.round(posts).await?;
            (well.round(posts).await?, with)
        };
        ratios.push(with.p99 / without.p99);
        rows.push((without, with));
    }
    let out = &mut call.out();
    writeln!(
        out,
        "\n{healthy} healthy subscribers, {posts} posts a round, one each {EVERY:?}; beside them {} sick:",
        5 * sick
    )?;
    writeln!(
        out,
        "{sick} each are down, hang, take a second, answer 500, answer without end. Milliseconds from POST to arrival.\n"
    )?;
    writeln!(out, "| round | alone: p50 | p99 | with sick ones: p50 | p99 | p99 times |")?;
    writeln!(out, "|---|---:|---:|---:|---:|---:|")?;
    for (index, (without, with)) in rows.iter().enumerate() {
        let Lag { p50, p99 } = without;
        writeln!(
            out,
            "| {} | {p50:.1} | {p99:.1} | {:.1} | {:.1} | {:.2} |",
            index + 1,
            with.p50,
            with.p99,
            with.p99 / p99
        )?;
    }
    writeln!(out, "\nMedian of the ratios of p99: {:.2}", median(&ratios))?;
    well.relay.stop().await?;
    ill.relay.stop().await
}

/// Milliseconds from the moment a post is sent to the relay until a subscriber has it.
#[derive(Clone, Copy)]
struct Lag {
    p50: f64,
    p99: f64,
}

/// A relay with its subscribers.
struct Stage {
    relay: TestRelay,
    poster: Instance,
    healthy: Swarm,
    size: u64,
    _sick: Vec<Swarm>,
}

impl Stage {
    /// `sick` subscribers of each kind.
    async fn set(healthy: usize, sick: usize) -> anyhow::Result<Self> {
        let relay = TestRelay::start(|_as_it_is| ()).await?;
        let options = Options { name: "poster".to_owned(), ..Options::default() };
        let poster = Instance::start(Family::Mastodon, options).await?;
        let answer = poster.join(relay.url()).await?;
        ensure!(answer.is_ok() && poster.wait_accepted(LONG).await, "the poster is not accepted: {}", answer.text());
        let well = SwarmOptions { keep_arrivals: true, ..SwarmOptions::default() };
        let kinds = [
            SwarmOptions::default(),
            SwarmOptions { delay: Duration::from_secs(3600), ..SwarmOptions::default() },
            SwarmOptions { delay: Duration::from_secs(1), ..SwarmOptions::default() },
            SwarmOptions { status: 500, ..SwarmOptions::default() },
            SwarmOptions { endless: true, ..SwarmOptions::default() },
        ];
        let mut swarms = vec![join(&relay, healthy, well).await?];
        if sick > 0 {
            for kind in kinds {
                swarms.push(join(&relay, sick, kind).await?);
            }
            // The first kind is down from now on.
            drop(swarms.remove(1));
        }
        let healthy = swarms.remove(0);
        let size = healthy.per_subscriber().len() as u64;
        let stage = Self { relay, poster, healthy, size, _sick: swarms };
        // Connections are opened, and the lanes learn whom they serve, and who is sick.
        for _ in 0..8 {
            stage.round(1).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(stage)
    }

    /// Sends `posts` and waits until every healthy subscriber has them all.
    async fn round(&self, posts: usize) -> anyhow::Result<Lag> {
        let target = self.healthy.received() + self.size * posts as u64;
        drop(self.healthy.take_arrivals());
        let mut sent: HashMap<u64, Instant> = HashMap::new();
        let mut due = tokio::time::Instant::now();
        for _ in 0..posts {
            tokio::time::sleep_until(due).await;
            due += EVERY;
            let post = self.poster.compose(&PostSpec::public(&"Five herons at the weir, and no fish. ".repeat(5)));
            sent.insert(Swarm::fingerprint(post.activity.to_string().as_bytes()), Instant::now());
            let answer = self.poster.send(&post).await?;
            ensure!(answer.status() == 202, "{answer:?}");
        }
        ensure!(self.healthy.wait_received(target, LONG).await, "{} of {target} came", self.healthy.received());
        let arrivals = self.healthy.take_arrivals();
        let mut lags: Vec<f64> = arrivals
            .iter()
            .filter_map(|one| Some(one.at.duration_since(*sent.get(&one.body)?).as_secs_f64() * 1000.0))
            .collect();
        lags.sort_by(f64::total_cmp);
        let part = |of: usize| lags.get((lags.len() * of / 100).min(lags.len().saturating_sub(1))).copied();
        Ok(Lag { p50: part(50).unwrap_or(f64::NAN), p99: part(99).unwrap_or(f64::NAN) })
    }
}

async fn join(relay: &TestRelay, size: usize, options: SwarmOptions) -> anyhow::Result<Swarm> {
    let swarm = Swarm::start(size, options).await?;
    let taken = swarm.join_all(relay.url(), 32).await?;
    ensure!(swarm.wait_accepted(taken, LONG).await, "{} of {taken} are accepted", swarm.accepted());
    Ok(swarm)
}

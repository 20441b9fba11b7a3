//! How long a search takes, in the engine and over HTTP, while 500 posts a second are put in; how long until a post is
//! found, and until an author who withdraws is not.
//!
//! `cargo bench --bench search` does it with 20,000 posts, `-- 1000000` with a million; `-- engine` and `-- served` do one
//! half. `benches/compare/search` asks other engines the same. As a test it does the same with a few posts, for a second,
//! and looks only at whether something is found.
//!
//! `engine` is the index alone, from what somebody typed to ids. `served` is a whole relay: the ledger is asked about every
//! hit, and the posts come as rows of the ledger, as the gatherer writes them. Those whose arrival is measured are posted
//! by a simulated server and come in by the inbox. Relay and whoever asks are one process on the same cores.

#[path = "../support/allocator.rs"]
mod allocator;
mod asked;
#[path = "../support/corpus.rs"]
mod corpus;
mod dump;
mod engine;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../support/relay.rs"]
mod relay;
mod served;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use shearwater::clock::Clock;

use corpus::Corpus;
use support::{Call, amount};

/// Posts that are put in each second.
const PER_SECOND: u64 = 500;

fn main() -> anyhow::Result<()> {
    let Some(call) = Call::read("search") else { return Ok(()) };
    let sizes = call.numbers();
    let sizes = if sizes.is_empty() { vec![call.size(20_000, 400)] } else { sizes };
    for size in sizes {
        let corpus = Corpus::new(size as u64, Clock::system().now().millis());
        if call.wants("engine") {
            engine::run(&call, &corpus)?;
        }
        if call.wants("served") {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(Box::pin(served::run(&call, &corpus)))?;
        }
    }
    Ok(())
}

/// How long something took, each time.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    /// How long it took at most in this part of all cases; of none, nothing.
    fn quantile(&mut self, part: f64) -> Option<Duration> {
        self.0.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place"
        )]
        let place = (part * self.0.len() as f64).ceil() as usize;
        self.0.get(place.max(1) - 1).copied()
    }

    /// In milliseconds: the median, the 99th percentile, the worst.
    fn cells(&mut self) -> Vec<String> {
        let shown = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), milliseconds);
        [0.5, 0.99, 1.0].map(|part| shown(self.quantile(part))).into()
    }
}

fn milliseconds(time: Duration) -> String {
    amount(time.as_secs_f64() * 1000.0)
}

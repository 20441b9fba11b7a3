//! Log lines: pretty for people on a terminal, JSON for machines, on standard error. Field names are the same everywhere:
//! `peer.host`, `activity.id`, `actor.id`, `log.seq`, `attempt`.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use super::traces::Traces;

/// Starts logging with `filter` (`info`, `info,shearwater::delivery=debug`); JSON if `json` says so, or by itself where
/// standard error is no terminal. What `traces` collects goes on until it is dropped. Does nothing the second time.
///
/// # Errors
/// If the filter cannot be read.
pub fn start(filter: &str, json: Option<bool>, traces: &Traces) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("ops.log: {filter:?}: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let lines = if json.unwrap_or(!terminal) { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    let started = Registry::default().with(traces.layer()).with(lines.with_filter(filter)).try_init();
    // A second start is a test in the same process, or the demo: the first one stays.
    let _ = started;
    Ok(())
}

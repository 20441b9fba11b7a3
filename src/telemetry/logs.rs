//! Log lines: pretty for people on a terminal, JSON for machines, on standard error. Field names are the same everywhere:
//! `peer.host`, `activity.id`, `actor.id`, `log.seq`, `attempt`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging with `filter` (`info`, `info,shearwater::delivery=debug`); JSON if `json` says so, or by itself where
/// standard error is no terminal. Does nothing the second time.
///
/// # Errors
/// If the filter cannot be read.
pub fn start(filter: &str, json: Option<bool>) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("ops.log: {filter:?}: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal);
    let started =
        if json.unwrap_or(!terminal) { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    // A second start is a test in the same process, or the demo: the first one stays.
    let _ = started;
    Ok(())
}

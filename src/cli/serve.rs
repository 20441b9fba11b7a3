//! `shearwater serve`: runs until a signal or until it cannot keep its promises. The first signal stops it well, the
//! second at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArg, block_on};
use crate::clock::Clock;
use crate::config::{Config, LogFormat};
use crate::server::Server;
use crate::telemetry::traces::Traces;
use crate::telemetry::{logs, raise_descriptors};

/// How long a stop may take before it is made hard.
const GRACE: Duration = Duration::from_secs(20);
/// And how long when the store failed: what the requests in hand achieve cannot be written down any more, so waiting for
/// them gains nothing, and until this process has ended no supervisor starts one that takes posts again.
const GRACE_WITHOUT_STORE: Duration = Duration::from_millis(500);

pub(super) fn run(arg: &ConfigArg) -> anyhow::Result<()> {
    let config = Config::load(arg.config.as_deref())?;
    let json = match config.ops.log_format {
        LogFormat::Auto => None,
        LogFormat::Pretty => Some(false),
        LogFormat::Json => Some(true),
    };
    let traces = Traces::to(&config.ops.traces).map_err(anyhow::Error::msg)?;
    logs::start(&config.ops.log, json, &traces).map_err(anyhow::Error::msg)?;
    let descriptors = raise_descriptors();
    tracing::debug!(descriptors, "files and connections that there may be");
    block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start(config, Clock::system()).await?;
    let why = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        why = server.gave_up() => Some(why),
    };
    let cut = server.app().supervisor().cut().clone();
    let grace = if server.app().state.store.failed().is_cancelled() { GRACE_WITHOUT_STORE } else { GRACE };
    tokio::select! {
        _ = server.shutdown(grace) => {}
        _ = interrupt.recv() => cut.cancel(),
        _ = terminate.recv() => cut.cancel(),
    }
    match why {
        Some(why) => Err(anyhow::anyhow!(why)),
        None => Ok(()),
    }
}

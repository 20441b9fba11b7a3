//! `shearwater demo`: the real relay with a simulated fediverse around it, on loopback, in a temporary folder. Exits with 1
//! if a promise was broken, whether by the relay or by `--break`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{block_on, print, tell};
use crate::demo::{Demo, Plan, Promise, Show, run as run_demo};
use crate::telemetry::logs;
use crate::telemetry::traces::Traces;

/// How long the relay may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// How the demo goes.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// How many instances join.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(2..=500))]
    instances: u16,
    /// How many posts they make; 60 or, with --for, as many as can arrive in that time (GoToSocial takes one a second).
    #[arg(long)]
    posts: Option<usize>,
    /// How many posts per second.
    #[arg(long, default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// Take at most this long ("30s"), print the summary and exit. Without it the demo stays up until it is interrupted.
    #[arg(long = "for", value_name = "SPAN", value_parser = humantime_serde::re::humantime::parse_duration)]
    limit: Option<Duration>,
    /// Print the summary as one JSON document.
    #[arg(long)]
    json: bool,
    /// Break this promise on purpose, between the relay and an instance, to see that the demo notices: handshake,
    /// everyone, exactly-once, private, signature, fresh-date, not-back, follow-ups, consent.
    #[arg(long = "break", value_name = "PROMISE")]
    broken: Option<Promise>,
    /// Show the relay's log ("info", "debug") instead of the live view.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("a rate is a number of posts per second from 0.1 to 10000".to_owned()),
    }
}

pub(super) fn run(args: DemoArgs) -> ExitCode {
    match block_on(Box::pin(demo(args))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("shearwater: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
async fn demo(args: DemoArgs) -> anyhow::Result<bool> {
    if let Some(filter) = &args.log {
        logs::start(filter, None, &Traces::default()).map_err(anyhow::Error::msg)?;
    }
    let plan = Plan {
        instances: args.instances.into(),
        posts: args.posts.unwrap_or_else(|| Plan::posts_within(args.limit)),
        rate: args.rate,
        limit: args.limit,
        broken: args.broken,
        show: if args.log.is_some() { Show::Nothing } else { Show::Auto },
    };
    let demo = tokio::select! {
        demo = Box::pin(run_demo(&plan)) => demo?,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            anyhow::bail!("interrupted before there was a result");
        }
    };
    print(&summary(&demo, args.json)?)?;
    if args.limit.is_none() {
        tell(&format!("\nThe relay is still up: open {}/ - and stop it with Ctrl-C.", demo.url()));
        tokio::signal::ctrl_c().await?;
    }
    let kept = demo.summary.kept;
    demo.stop(GRACE).await;
    Ok(kept)
}

fn summary(demo: &Demo, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(format!("{}\n", serde_json::to_string_pretty(&demo.summary)?));
    }
    let verdict = match demo.summary.promises.iter().filter(|promise| !promise.kept).count() {
        0 => "Every promise was kept.".to_owned(),
        1 => "One promise was BROKEN.".to_owned(),
        count => format!("{count} promises were BROKEN."),
    };
    Ok(format!("{}\n{verdict}\n", demo.summary))
}

//! `shearwater demo`: a real relay in a temporary folder, the simulated instances around it, the scenario, the summary.
//! The one place in this room that knows the relay's server and config.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::cast;
use super::check::Promise;
use super::report::{self, Summary};
use super::scenario::Scenario;
use super::view::{Show, View};

/// How long the demo waits at most, if it was given no time.
const LONGEST: Duration = Duration::from_secs(600);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many instances.
    pub instances: usize,
    /// How many posts.
    pub posts: usize,
    /// How many posts per second.
    pub rate: f64,
    /// When to stop at the latest; the summary is made of what arrived by then.
    pub limit: Option<Duration>,
    /// The promise to break on purpose.
    pub broken: Option<Promise>,
    /// What to show meanwhile.
    pub show: Show,
}

impl Default for Plan {
    fn default() -> Self {
        Self { instances: 12, posts: 120, rate: 10.0, limit: None, broken: None, show: Show::Auto }
    }
}

/// A demo that was run: the relay and the instances are still up. Dropping it stops them.
pub struct Demo {
    /// What it showed.
    pub summary: Summary,
    relay: Relay,
    _scenario: Scenario,
}

impl Demo {
    /// The relay's page, to open in a browser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.relay.url
    }

    /// Stops everything in good order.
    pub async fn stop(self) {
        self.relay.stop().await;
    }
}

/// Runs `plan` against a relay of its own.
///
/// # Errors
/// When the relay or an instance does not start. A broken promise is no error: see [`Summary::kept`].
pub async fn run(plan: &Plan) -> anyhow::Result<Demo> {
    let relay = Relay::start().await?;
    let (summary, scenario) = run_against(plan, &relay.url).await?;
    Ok(Demo { summary, relay, _scenario: scenario })
}

/// Runs `plan` against the relay at `url`.
pub(super) async fn run_against(plan: &Plan, url: &str) -> anyhow::Result<(Summary, Scenario)> {
    let began = Instant::now();
    let cast = cast::start(plan.instances.max(2)).await.context("starting the simulated instances")?;
    let deadline = began + plan.limit.unwrap_or(LONGEST);
    let mut scenario = Scenario::new(cast, View::new(plan.show), deadline);
    scenario.join(url, plan.broken).await;
    scenario.faults(plan.broken).await;
    scenario.post(plan.posts, plan.rate, plan.broken).await;
    let found = scenario.settle().await;
    std::mem::replace(&mut scenario.view, View::new(Show::Nothing)).finish();
    let seconds = began.elapsed().as_secs_f64();
    let summary = report::summary(url, seconds, &scenario.made, &scenario.members(), &found);
    Ok((summary, scenario))
}

/// The relay under test.
struct Relay {
    url: String,
    _folder: tempfile::TempDir,
}

impl Relay {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("shearwater-demo-").tempdir().context("making a folder")?;
        let url = start_relay(folder.path()).await?;
        Ok(Self { url, _folder: folder })
    }

    async fn stop(self) {}
}

/// Starts the real server on embedded defaults, on free loopback ports, with retry gaps of seconds.
async fn start_relay(_folder: &std::path::Path) -> anyhow::Result<String> {
    anyhow::bail!("the server is not part of this build yet")
}

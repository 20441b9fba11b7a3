//! `shearwater demo`: a real relay in a temporary folder, the simulated instances around it, the scenario, the summary.
//! The one place in this room that knows the relay's server and config.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::time::Instant;

use super::cast::{self, Actor};
use super::parts::As;
use super::promise::Promise;
use super::report::{self, Summary};
use super::scenario::Scenario;
use super::view::{Show, View};
use crate::clock::Clock;
use crate::config::{Access, Config, Listen};
use crate::ids::Iri;
use crate::server::Server;

/// How long the demo waits at most, if it was given no time.
const LONGEST: Duration = Duration::from_secs(600);

/// Gaps between attempts, in milliseconds: an operator's minutes and hours, scaled down.
const RETRY: [u64; 5] = [500, 1_000, 1_000, 2_000, 2_000];

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
        Self { instances: 12, posts: POSTS, rate: 10.0, limit: None, broken: None, show: Show::Auto }
    }
}

/// How many posts a run makes that was not told.
const POSTS: usize = 60;
/// How much of a limited run goes by with starting, joining and making sure that nothing comes twice.
const AROUND: f64 = 10.0;
/// The share of posts that a relay sends on, rounded up.
const PUBLIC: f64 = 0.75;

impl Plan {
    /// As many posts as fit in `limit`: a good relay sends GoToSocial about one request a second after a first burst,
    /// which is the most that its rate limit allows for ever, so these instances decide how long a run takes.
    #[must_use]
    pub fn posts_within(limit: Option<Duration>) -> usize {
        let room = limit.map_or(f64::MAX, |limit| ((limit.as_secs_f64() - AROUND) / PUBLIC).max(8.0));
        POSTS.min(room as usize)
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
        self.relay.server.public_url()
    }

    /// Stops the relay in good order, which may take `grace`, then the instances.
    pub async fn stop(self, grace: Duration) {
        self.relay.server.shutdown(grace).await;
    }
}

/// Runs `plan` against a relay of its own.
///
/// # Errors
/// When the relay or an instance does not start. A broken promise is no error: see [`Summary::kept`].
pub async fn run(plan: &Plan) -> anyhow::Result<Demo> {
    let relay = Box::pin(Relay::start(plan.instances.max(2))).await?;
    let cast = cast::start(plan.instances.max(2)).await.context("starting the simulated instances")?;
    relay.has_known(&cast).await?;
    let (summary, scenario) = Box::pin(play(plan, relay.server.public_url(), cast)).await?;
    Ok(Demo { summary, relay, _scenario: scenario })
}

/// Runs `plan` against the relay at `url`, which knows nobody yet.
#[cfg(test)]
pub(super) async fn run_against(plan: &Plan, url: &str) -> anyhow::Result<(Summary, Scenario)> {
    let cast = cast::start(plan.instances.max(2)).await.context("starting the simulated instances")?;
    play(plan, url, cast).await
}

async fn play(plan: &Plan, url: &str, cast: Vec<Actor>) -> anyhow::Result<(Summary, Scenario)> {
    let began = Instant::now();
    let deadline = began + plan.limit.unwrap_or(LONGEST);
    let mut scenario = Scenario::new(cast, View::new(plan.show), deadline);
    scenario.join(url, plan.broken).await;
    scenario.consent(url, plan.broken).await;
    scenario.faults(plan.broken).await;
    scenario.post(url, plan.posts, plan.rate, plan.broken).await;
    let mut found = scenario.settle().await;
    let trended = scenario.trend(url, &mut found).await;
    let searched = scenario.search(url, &mut found).await;
    std::mem::replace(&mut scenario.view, View::new(Show::Nothing)).finish();
    let seconds = began.elapsed().as_secs_f64();
    let summary = report::summary(url, seconds, &scenario.made, &scenario.members(), &found, (searched, trended));
    Ok((summary, scenario))
}

/// The relay under test, and the folder it lives in.
struct Relay {
    server: Server,
    _folder: TempDir,
}

impl Relay {
    /// Starts the real server on embedded defaults, on free loopback ports. What differs from an operator's relay: it
    /// may speak to loopback over plain HTTP, retries come after seconds instead of minutes, and everybody may search as
    /// often as they like.
    async fn start(instances: usize) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("shearwater-demo-").tempdir().context("making a folder")?;
        let mut config = Config::embedded();
        config.data_dir = folder.path().join("data");
        config.http.listen = Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.ops.listen = Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.fetch.allow_private = vec!["127.0.0.0/8".parse().context("the loopback range")?];
        config.fetch.allow_http = true;
        config.delivery.retry = RETRY.map(Duration::from_millis).to_vec();
        (config.search.api, config.search.rate) = (Access::Public, 0);
        (config.trends.api, config.trends.rate) = (Access::Public, 0);
        config.fetch.names = cast::domains(instances);
        config.site.name = "The demo's relay".to_owned();
        let server = Box::pin(Server::start(config, Clock::system())).await.context("starting the relay")?;
        Ok(Self { server, _folder: folder })
    }

    /// The relay knows each of them, and who is there, for as long as its part says: trends weigh servers by that.
    async fn has_known(&self, cast: &[Actor]) -> anyhow::Result<()> {
        for actor in cast {
            let server = Iri::parse(actor.instance.origin()).context("a simulated server's name")?.authority();
            let since = Clock::system().now().minus(Duration::from_secs(actor.age * 86_400));
            let people = actor.authors.iter().map(|name| Iri::parse(&actor.instance.actor(&As::Author(name.clone()))));
            let people = people.collect::<Result<Vec<_>, _>>().context("a simulated person's name")?;
            self.server.app().state.store.known_since(&server, people, since).await?;
        }
        Ok(())
    }
}

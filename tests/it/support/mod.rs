//! A real relay in a temporary folder, and simulated servers that join it.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use shearwater::clock::Clock;
use shearwater::config::{Config, Listen};
use shearwater::demo::{Family, Instance, Options, PostSpec, Posted, Receipt};
use shearwater::ids::Authority;
use shearwater::server::Server;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine; a wait that reaches it is a failure.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// An activity that nothing is wrong with and nobody wants: only who signed it matters.
pub(crate) const LIKE: &str = "{\"@context\":\"https://www.w3.org/ns/activitystreams\",\"id\":\"https://a.example/1\",\
    \"type\":\"Like\",\"actor\":\"https://a.example/u\",\"object\":\"https://a.example/2\"}";

/// A relay that runs until it is dropped.
pub(crate) struct TestRelay {
    pub(crate) server: Server,
    pub(crate) config: Config,
    dir: TempDir,
}

/// The config of a relay for tests: loopback only, gaps of fractions of a second.
pub(crate) fn config(dir: &Path) -> Config {
    let mut config = Config::embedded();
    config.data_dir = dir.join("data");
    config.http.listen = "127.0.0.1:0".parse().expect("an address");
    config.ops.listen = "127.0.0.1:0".parse().expect("an address");
    config.fetch.allow_private = vec!["127.0.0.0/8".parse().expect("a network")];
    config.fetch.allow_http = true;
    config.delivery.retry = [100, 200, 400].map(Duration::from_millis).to_vec();
    config.delivery.save_every = Duration::from_millis(100);
    config.delivery.timeout = Duration::from_secs(2);
    // Tests send as fast as they can; the one about floods says what it allows.
    (config.policy.server_rate, config.policy.actor_rate) = (0, 0);
    config
}

/// Puts the test keys where the relay looks: making an RSA key for each test would take most of its time.
pub(crate) fn place_keys(dir: &Path) {
    let keys = dir.join("keys");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&keys).expect("a folder for keys");
    for (name, text) in [
        ("rsa.pem", include_str!("../../fixtures/keys/relay.rsa.pk8.pem")),
        ("ed25519.pem", include_str!("../../fixtures/keys/relay.ed25519.pk8.pem")),
    ] {
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(keys.join(name)).expect("a key file");
        std::io::Write::write_all(&mut file, text.as_bytes()).expect("a key written");
    }
}

impl TestRelay {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_config| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Clock::system(), change).await
    }

    pub(crate) async fn start_at(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut config = config(dir.path());
        change(&mut config);
        place_keys(&config.data_dir);
        let server = Server::start(config.clone(), clock).await.expect("the relay starts");
        Self { server, config, dir }
    }

    /// Stops well and starts again at the same address.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_config| {}).await
    }

    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let Self { server, mut config, dir } = self;
        change(&mut config);
        Self { server, config, dir }.restart_after(|_data_dir| {}).await
    }

    /// The same with something done to its folder while it does not run.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self { server, mut config, dir } = self;
        config.http.listen = Listen::Tcp(server.http_addr().expect("an address"));
        assert!(server.shutdown(Duration::from_secs(10)).await, "it stops within its grace");
        change(&config.data_dir);
        for _ in 0..300 {
            match Server::start(config.clone(), Clock::system()).await {
                Ok(server) => return Self { server, config, dir },
                // Files and the port are let go of a moment after the last task ended.
                Err(_busy) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("the relay does not start again in {}", dir.path().display());
    }

    pub(crate) fn url(&self) -> &str {
        self.server.public_url()
    }

    pub(crate) fn relay(&self) -> &shearwater::relay::Relay {
        &self.server.app().state.relay
    }

    pub(crate) fn search(&self) -> &shearwater::search::Search {
        &self.server.app().state.search
    }

    pub(crate) fn trends(&self) -> &shearwater::trends::Trends {
        &self.server.app().state.trends
    }

    pub(crate) fn store(&self) -> &shearwater::store::Store {
        &self.server.app().state.store
    }

    /// Starts a server and waits until it is a subscriber by its own rules.
    pub(crate) async fn joined(&self, family: Family, name: &str) -> Instance {
        self.joined_with(family, Options { name: name.to_owned(), ..Options::default() }).await
    }

    pub(crate) async fn joined_with(&self, family: Family, options: Options) -> Instance {
        let instance = Instance::start(family, options).await.expect("an instance");
        let answer = instance.join(self.url()).await.expect("the relay answers");
        assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
        assert!(instance.wait_accepted(LONG).await, "{} is accepted: {:#?}", instance.name(), instance.received());
        if family == Family::Akkoma {
            assert!(instance.wait_followed_back(LONG).await, "{} is followed back", instance.name());
        }
        self.wait_surveyed(&authority(&instance)).await;
        instance
    }

    /// Waits until the relay knows what software the server runs.
    async fn wait_surveyed(&self, authority: &Authority) {
        eventually("the survey", || self.relay().facts(authority).is_ok_and(|facts| facts.software_read.is_some()))
            .await;
    }

    /// A number of `/metrics`, by the start of its line.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let text = self.server.app().state.metrics.render();
        let found = text
            .lines()
            .filter(|one| one.starts_with(line))
            .filter_map(|one| one.rsplit(' ').next()?.parse::<f64>().ok());
        found.sum()
    }
}

pub(crate) fn authority(instance: &Instance) -> Authority {
    let host = instance.origin().trim_start_matches("http://");
    Authority::parse(host).expect("a host")
}

/// A public post; it must be taken.
pub(crate) async fn publish(instance: &Instance, text: &str) -> Posted {
    let posted = instance.post(PostSpec::public(text)).await.expect("the relay answers");
    assert!(matches!(posted.status(), 202 | 0), "{posted:?}");
    posted
}

/// Waits until `instance` shows the post, and returns all receipts about it.
pub(crate) async fn arrival(instance: &Instance, id: &str) -> Vec<Receipt> {
    let there = |receipts: &[Receipt]| receipts.iter().any(|one| is_about(one, id) && one.outcome.is_taken());
    let arrived = instance.wait_received(LONG, there).await;
    assert!(arrived, "{id} reaches {}: {:#?}", instance.name(), instance.received());
    receipts_of(instance, id)
}

pub(crate) fn receipts_of(instance: &Instance, id: &str) -> Vec<Receipt> {
    instance.received().into_iter().filter(|one| is_about(one, id)).collect()
}

fn is_about(receipt: &Receipt, id: &str) -> bool {
    receipt.object.as_deref() == Some(id)
}

/// Proves that something did not come: what was sent after it is there, and it is not.
pub(crate) async fn silence_about(id: &str, from: &Instance, at: &[&Instance]) {
    let marker = publish(from, "a marker").await;
    for instance in at {
        arrival(instance, &marker.id).await;
        let receipts = receipts_of(instance, id);
        assert!(receipts.is_empty(), "{id} must not reach {}: {receipts:#?}", instance.name());
    }
}

/// Waits for a condition, never for a time.
pub(crate) async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(comes_true(condition).await, "{what} never came true");
}

/// Whether a condition comes true before everything must have happened.
pub(crate) async fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let waited = tokio::time::timeout(LONG, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.is_ok()
}

pub(crate) fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

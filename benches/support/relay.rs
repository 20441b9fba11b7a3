//! A real relay in a temporary folder.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use shearwater::clock::Clock;
use shearwater::config::Config;
use shearwater::server::Server;
use tempfile::TempDir;

/// Longer than anything takes that is waited for; a wait that reaches it is an error.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A relay that runs until it is dropped.
pub(crate) struct TestRelay {
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

impl TestRelay {
    /// Starts one with the settings of production, but for what loopback needs, and without rate limits: they would be all
    /// that is measured. `change` has the last word.
    ///
    /// # Errors
    /// A sentence about what is in the way.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("a temporary folder")?;
        let mut config = Config::embedded();
        (config.policy.server_rate, config.policy.actor_rate) = (0, 0);
        config.data_dir = dir.path().join("data");
        config.http.listen = "127.0.0.1:0".parse().map_err(|_cause| anyhow::anyhow!("http.listen"))?;
        config.ops.listen = config.http.listen.clone();
        config.fetch.allow_private = vec!["127.0.0.0/8".parse()?];
        config.fetch.allow_http = true;
        change(&mut config);
        place_keys(&dir.path().join("data/keys")).context("the relay's keys")?;
        let server = Box::pin(Server::start(config, Clock::system())).await?;
        Ok(Self { server, dir })
    }

    pub(crate) fn url(&self) -> &str {
        self.server.public_url()
    }

    /// # Errors
    /// When it does not end in time.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.server.shutdown(LONG).await, "the relay does not stop");
        Ok(())
    }
}

/// Puts keys where the relay looks: making an RSA key takes a second or so.
fn place_keys(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for (name, text) in [
        ("rsa.pem", include_str!("../../tests/fixtures/keys/relay.rsa.pk8.pem")),
        ("ed25519.pem", include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem")),
    ] {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(name))?;
        file.write_all(text.as_bytes())?;
    }
    Ok(())
}

//! A running daemon as a handle: start it, ask where it listens, stop it. `shearwater serve`, the demo, the tests and the
//! benches start the very same thing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Listen};
use crate::http::{self, Limits, Listener};

/// A running daemon. Dropping it stops it hard; [`Server::shutdown`] stops it well.
pub struct Server {
    app: App,
    public_url: String,
    http: (String, Option<SocketAddr>),
    ops: (String, Option<SocketAddr>),
}

impl Server {
    /// Binds the listeners, puts the daemon together and starts it.
    ///
    /// # Errors
    /// A sentence about what is in the way.
    pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let public = Listener::bind(&config.http.listen).await.context("http.listen")?;
        let ops = Listener::bind(&config.ops.listen).await.context("ops.listen")?;
        let public_url = public_url(&config, &public)?;
        let dir = config.data_dir.clone();
        let limits = Limits::of(&config.http);
        let app = App::build(config, &public_url, clock)?;
        let admin = Listener::bind(&Listen::Unix(dir.join("admin.sock"))).await?;

        let server = Self {
            http: (public.name(), public.address()),
            ops: (ops.name(), ops.address()),
            public_url,
            app: app.clone(),
        };
        // Only programs that started it need it; a full disk must not keep a relay from starting, or it could not heal.
        if let Err(error) = server.write_endpoints(&dir) {
            tracing::warn!(error = format!("{error:#}"), "where it listens is not written down");
        }
        let (supervisor, metrics) = (&app.state.supervisor, &app.state.metrics);
        app.start();
        ops.serve(http::ops(app.state.clone()), Limits::operator(), supervisor, metrics);
        admin.serve(http::admin(app.state.clone()), Limits::operator(), supervisor, metrics);
        public.serve(http::public(app.state.clone()), limits, supervisor, metrics);
        tracing::info!(public_url = server.public_url, http = server.http.0, ops = server.ops.0, "ready");
        Ok(server)
    }

    /// The origin that the world knows it by.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Where the world is listened for; `None` on a Unix socket.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.1
    }

    /// Where the operator is listened for; `None` on a Unix socket.
    #[must_use]
    pub fn ops_addr(&self) -> Option<SocketAddr> {
        self.ops.1
    }

    /// Its parts.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Returns when it asks to be stopped by itself; why.
    pub async fn gave_up(&self) -> String {
        let supervisor = &self.app.state.supervisor;
        supervisor.stopping().cancelled().await;
        supervisor.fatal().unwrap_or_default()
    }

    /// Stops: no new requests, those in hand end, places reached are written down. Whether all ended within `grace`.
    pub async fn shutdown(self, grace: Duration) -> bool {
        let in_time = self.app.state.supervisor.stop(grace).await;
        tracing::info!(in_time, "stopped");
        in_time
    }

    /// `data_dir/endpoints.json`: where it listens, for programs that started it on port 0.
    fn write_endpoints(&self, dir: &std::path::Path) -> anyhow::Result<()> {
        let text = json!({ "public_url": self.public_url, "http": self.http.0, "ops": self.ops.0 }).to_string();
        let (path, temporary) = (dir.join("endpoints.json"), dir.join("endpoints.json.new"));
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let supervisor = &self.app.state.supervisor;
        supervisor.stopping().cancel();
        supervisor.cut().cancel();
    }
}

fn public_url(config: &Config, listener: &Listener) -> anyhow::Result<String> {
    if !config.public_url.is_empty() {
        return Ok(config.public_url.clone());
    }
    let address =
        listener.address().context("public_url is not set, and a Unix socket has no address to make it from")?;
    Ok(format!("http://{address}"))
}

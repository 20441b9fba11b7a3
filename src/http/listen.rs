//! Our own accept loop. `axum::serve` holds a half-sent head for ever; here a head has five seconds, and so has the pause
//! between two requests; connections are counted in all and by address, one that does not take its answer is cut, and a
//! stop lets requests in hand end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::config::{self, Listen};
use crate::policy::network;
use crate::supervise::Supervisor;
use crate::telemetry::{Metrics, Taker, most_descriptors};

/// A reverse proxy keeps connections open between requests and sends heads whole: it may be idle for longer.
const PROXY_IDLE: Duration = Duration::from_secs(75);
/// The largest request head, and how many headers it may have. Real ones have 1 to 4 KiB and some twenty; times the number
/// of connections it bounds what half-sent heads hold in memory.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 100;
/// How long a connection may take to accept a piece of its answer. What we answer is small: it fits into the kernel's
/// buffers unless somebody asks on and on and never reads.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: out of file descriptors, it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections, and how slow.
#[derive(Debug, Clone)]
pub struct Limits {
    head_timeout: Duration,
    connections: usize,
    per_address: usize,
    trusted: Vec<IpNet>,
}

impl Limits {
    /// Those of the public listener: fewer connections than configured where there are not descriptors enough.
    #[must_use]
    pub fn of(http: &config::Http) -> Self {
        let limits = Self::within(http, most_descriptors());
        if limits.connections < http.connections {
            let (room, wanted) = (limits.connections, http.connections);
            tracing::warn!(room, wanted, "few descriptors: fewer connections from the world are taken at once");
        }
        limits
    }

    fn within(http: &config::Http, descriptors: Option<u64>) -> Self {
        Self {
            head_timeout: http.head_timeout,
            connections: Taker::World.room(descriptors, http.connections),
            per_address: http.connections_per_address,
            trusted: http.trusted_proxies.clone(),
        }
    }

    /// Those of the operator's own listeners.
    #[must_use]
    pub fn operator() -> Self {
        let connections = Taker::Operator.room(most_descriptors(), 256);
        Self { head_timeout: Duration::from_secs(5), connections, per_address: 256, trusted: Vec::new() }
    }
}

/// A bound listener.
pub enum Listener {
    /// An address and port.
    Tcp(TcpListener),
    /// A Unix socket, removed when the server ends.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds; a socket file that a dead process left behind is taken over.
    ///
    /// # Errors
    /// With the address, and what to do where it is plain.
    pub async fn bind(listen: &Listen) -> anyhow::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                Ok(Self::Tcp(listener.with_context(|| format!("listening on {address}: is another program there?"))?))
            }
            Listen::Unix(path) => {
                if path.exists() && tokio::net::UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path)
                        .with_context(|| format!("removing the stale socket {}", path.display()))?;
                }
                let listener = UnixListener::bind(path);
                let listener = listener.with_context(|| format!("listening on unix:{}", path.display()))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// The address, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// `127.0.0.1:8080` or `unix:/path`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string()),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Serves `router` until the supervisor stops.
    pub fn serve(self, router: Router, limits: Limits, supervisor: &Supervisor, metrics: &Metrics) {
        let door = Door {
            router,
            limits: Arc::new(limits),
            open: Arc::default(),
            supervisor: supervisor.clone(),
            metrics: metrics.clone(),
        };
        supervisor.spawn(async move { door.accept(self).await });
    }
}

#[derive(Clone)]
struct Door {
    router: Router,
    limits: Arc<Limits>,
    open: Arc<Mutex<Open>>,
    supervisor: Supervisor,
    metrics: Metrics,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Door {
    async fn accept(&self, listener: Listener) {
        let stop = self.supervisor.stopping().clone();
        match listener {
            Listener::Tcp(listener) => {
                while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                    match accepted {
                        Ok((stream, peer)) => {
                            let _ = stream.set_nodelay(true);
                            self.admit(stream, Some(peer.ip().to_canonical()));
                        }
                        Err(error) => pause(&error).await,
                    }
                }
            }
            Listener::Unix(listener, path) => {
                while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                    match accepted {
                        Ok((stream, _)) => self.admit(stream, None),
                        Err(error) => pause(&error).await,
                    }
                }
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// Serves one connection, or closes it at once if there are too many.
    fn admit<S>(&self, stream: S, peer: Option<IpAddr>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let trusted = peer.is_none_or(|peer| self.limits.trusted.iter().any(|net| net.contains(&peer)));
        let Some(place) = Place::take(self, peer.filter(|_| !trusted)) else {
            self.metrics.connections_refused.inc();
            return;
        };
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(if trusted { PROXY_IDLE } else { self.limits.head_timeout })
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        let service = TowerToHyperService::new(Convert {
            router: self.router.clone(),
            client: Client { address: peer, trusted },
        });
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let (soft, hard) = (self.supervisor.stopping().clone(), self.supervisor.cut().clone());
        self.supervisor.spawn(async move {
            let _place = place;
            drive(connection, &soft, &hard).await;
        });
    }
}

async fn drive<S>(
    connection: http1::Connection<TokioIo<S>, TowerToHyperService<Convert>>,
    soft: &CancellationToken,
    hard: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks off or sends garbage is its own affair.
        _ = connection.as_mut() => return,
        () = soft.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = hard.cancelled() => {}
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// A counted connection; leaves the count when it ends.
struct Place {
    open: Arc<Mutex<Open>>,
    metrics: Metrics,
    address: Option<IpAddr>,
}

impl Place {
    /// `address` is counted too where it is given, as [`network`] says.
    fn take(door: &Door, address: Option<IpAddr>) -> Option<Self> {
        let address = address.map(network);
        let mut open = door.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= door.limits.connections {
            return None;
        }
        if let Some(address) = address {
            let count = open.by_address.entry(address).or_default();
            if *count >= door.limits.per_address {
                return None;
            }
            *count += 1;
        }
        open.all += 1;
        door.metrics.connections.inc();
        Some(Self { open: door.open.clone(), metrics: door.metrics.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        self.metrics.connections.dec();
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// hyper's body as axum's.
#[derive(Clone)]
struct Convert {
    router: Router,
    client: Client,
}

/// The address that a request came from; none on a Unix socket. Of a trusted proxy's request it is the last one in
/// `X-Forwarded-For`, which the proxy itself has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Client {
    address: Option<IpAddr>,
    trusted: bool,
}

impl Client {
    /// The same, but nobody where only the proxy is known: it is not to be counted for what others send through it.
    pub(super) fn sender(self, headers: &hyper::HeaderMap) -> Option<IpAddr> {
        let behind = Self { address: None, ..self };
        if self.trusted { behind.of(headers) } else { self.address }
    }

    /// Whoever it is that the request is from, as far as can be told.
    pub(super) fn of(self, headers: &hyper::HeaderMap) -> Option<IpAddr> {
        if !self.trusted {
            return self.address;
        }
        let listed = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
        let last = listed.and_then(|value| value.rsplit(',').next()).and_then(|text| text.trim().parse().ok());
        last.or(self.address)
    }
}

impl Service<hyper::Request<Incoming>> for Convert {
    type Response = axum::response::Response;
    type Error = Infallible;
    type Future = <Router as Service<hyper::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        <Router as Service<hyper::Request<Body>>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.client);
        self.router.call(request.map(Body::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A stranger writes what it likes into the header; a proxy of ours adds whom it heard.
    #[test]
    fn only_the_last_word_of_a_trusted_proxy_counts_as_the_address_behind_it() {
        let check = |trusted: bool, lines: &[&str], of: Option<&str>, sender: Option<&str>| {
            let client = Client { address: Some(address("192.0.2.1")), trusted };
            let mut headers = hyper::HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            assert_eq!(client.of(&headers), of.map(address), "{headers:?}");
            assert_eq!(client.sender(&headers), sender.map(address), "{headers:?}");
        };
        let (own, other) = (Some("192.0.2.1"), Some("198.51.100.7"));
        for lines in [&[][..], &["198.51.100.7"], &["203.0.113.1, 198.51.100.7"], &["10.0.0.1", "198.51.100.7"]] {
            check(false, lines, own, own);
            let behind = if lines.is_empty() { None } else { other };
            check(true, lines, behind.or(own), behind);
        }
        check(true, &["2001:db8::7"], Some("2001:db8::7"), Some("2001:db8::7"));
        for nonsense in ["", "unknown", "198.51.100.7, unknown", "198.51.100.7:80", ","] {
            check(true, &[nonsense], own, None);
        }
    }

    #[test]
    fn the_world_gets_no_more_connections_than_leaves_descriptors_for_deliveries() {
        let http = config::Config::embedded().http;
        let connections = |descriptors| Limits::within(&http, descriptors).connections;
        assert_eq!([connections(Some(1024)), connections(Some(4096))], [384, 1536]);
        assert_eq!([connections(Some(65_536)), connections(None)], [http.connections; 2]);
    }

    #[tokio::test]
    async fn connections_of_ipv6_are_counted_by_their_64() {
        let mut limits = Limits::operator();
        limits.per_address = 2;
        let door = Door {
            router: Router::new(),
            limits: Arc::new(limits),
            open: Arc::default(),
            supervisor: Supervisor::new(Clock::system()),
            metrics: Metrics::new(),
        };
        let take = |text: &str| Place::take(&door, Some(address(text)));
        let held = [take("2001:db8::1").unwrap(), take("2001:db8::2:3").unwrap()];
        assert!(take("2001:db8::4").is_none(), "the neighbours are the same party");
        assert!(take("2001:db8:0:1::4").is_some() && take("192.0.2.1").is_some());
        drop(held);
        assert!(take("2001:db8::4").is_some());
        assert!(door.open.lock().unwrap().by_address.is_empty());
    }
}

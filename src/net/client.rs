//! The one outbound client: every request that Shearwater makes goes through [`Client::send`], whoever asks for it. What
//! is signed, and whom to ask again, is decided by others.
//!
//! Promises: only URLs and addresses that the [`Guard`] permits; the addresses judged are the addresses dialled (no second
//! look-up in between), but for `net.proxy`, where the addresses dialled are the proxy's to judge; no redirect followed, no
//! other proxy used, no content coding but gzip asked for, and that for a GET alone; HTTP/1.1 spoken wherever it is taken;
//! bytes counted while they arrive, and again after they are decompressed; one deadline over everything from name
//! look-up to the last byte.

use std::error::Error;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::write::GzDecoder;
use http::Method;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error as ThisError;
use tokio::time::Instant;
use url::{Host, Position, Url};

use super::guard::{Guard, Refused};
use super::names::{GuardedNames, Names};
use super::pools::{Lent, Pools, Speaks, Use, pools};
use crate::config;
use crate::telemetry::{Metrics, Taker, most_descriptors};

/// One request. The caller has signed what it wants signed: `headers` go out as they are.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// GET or POST.
    pub method: Method,
    /// Where to; judged by the guard.
    pub url: Url,
    /// In this order, `Host` included if it was signed.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What to send; shared, never copied.
    pub body: Option<Bytes>,
    /// From name look-up to the last byte of the answer.
    pub timeout: Duration,
    /// The most bytes of the answer's body that are read, on the wire and after decompression.
    pub read_limit: usize,
    /// What happens beyond `read_limit`: `true` is [`NetFault::TooBig`], `false` cuts the body off.
    pub strict: bool,
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code, redirects included.
    pub status: u16,
    /// The headers. A `Content-Encoding` that is still among them was not undone.
    pub headers: HeaderMap,
    /// The body, up to the request's limit. gzip is undone in a 200 to a GET, and there only.
    pub body: Bytes,
    /// There was more than the limit.
    pub truncated: bool,
}

impl Answer {
    /// A header's value, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum NetFault {
    /// We do not dial that; nothing was sent.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// The name could not be looked up.
    #[error("its name could not be resolved")]
    Dns,
    /// No connection.
    #[error("no connection")]
    Connect,
    /// This machine has no descriptors, ports or memory left for a connection: the other side has no part in it.
    #[error("nothing is left here to connect with")]
    Exhausted,
    /// It is not who it is called, or speaks no TLS that we do: a certificate that is expired, unknown, or another's.
    #[error("its certificate is not good, or it speaks no TLS that we do")]
    Tls,
    /// It takes neither HTTP/1.1 nor HTTP/2.
    #[error("it speaks no HTTP that we do")]
    Protocol,
    /// The deadline passed.
    #[error("no complete answer in time")]
    Timeout,
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke")]
    Broken,
    /// It said that it is gzip, and is not, or not to its end.
    #[error("the answer's content coding is broken")]
    Coding,
    /// The body was longer than a strict request allows.
    #[error("the answer is too big")]
    TooBig,
}

impl NetFault {
    /// One word for logs and metrics labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Exhausted => "exhausted",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Coding => "coding",
            Self::TooBig => "too_big",
        }
    }
}

/// The handle: cheap to clone, the same connections behind all clones.
#[derive(Debug, Clone)]
pub struct Client {
    delivering: Arc<Way>,
    reading: Arc<Way>,
    guard: Guard,
    /// All goes through `net.proxy`.
    by_proxy: bool,
    metrics: Metrics,
}

/// Connections and look-ups for one use.
#[derive(Debug)]
struct Way {
    serves: Use,
    pools: Pools,
    names: GuardedNames,
}

/// The `User-Agent` of everything we send: name, version and where to read about us. Some admins block what hides.
#[must_use]
pub fn user_agent(public_url: &str) -> String {
    format!("shearwater/{} (+{}/)", env!("CARGO_PKG_VERSION"), public_url.trim_end_matches('/'))
}

impl Client {
    /// Builds the client. For `user_agent`, see [`user_agent`].
    ///
    /// # Errors
    /// A file of `net.extra_roots` cannot be read or holds no certificate, the system has no root certificates at all, or
    /// `net.proxy` is no URL.
    pub fn new(net: &config::Net, fetch: &config::Fetch, user_agent: &str) -> anyhow::Result<Self> {
        Self::with_names(net, fetch, user_agent, Names::System)
    }

    /// The same with a resolver of the caller's choice, for tests.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_names(
        net: &config::Net,
        fetch: &config::Fetch,
        user_agent: &str,
        names: Names,
    ) -> anyhow::Result<Self> {
        let guard = Guard::new(&fetch.allow_private, fetch.allow_http).knowing(&fetch.names);
        let proxy = Url::parse(&net.proxy).ok();
        let names = GuardedNames::new(guard.clone(), names, proxy.as_ref().and_then(Url::host_str));
        let apart = names.apart();
        let room = Taker::Kept.room(most_descriptors(), net.connections);
        if room < net.connections {
            tracing::warn!(room, wanted = net.connections, "few descriptors: fewer connections are kept open");
        }
        let (delivering, reading) = pools(net, (names.clone(), apart.clone()), user_agent, room)?;
        Ok(Self {
            delivering: Arc::new(Way { serves: Use::Delivering, pools: delivering, names }),
            reading: Arc::new(Way { serves: Use::Reading, pools: reading, names: apart }),
            guard,
            by_proxy: !net.proxy.is_empty(),
            metrics: Metrics::new(),
        })
    }

    /// The same client, whose requests are counted there.
    #[must_use]
    pub fn counted_in(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where its requests are counted.
    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Forgets where this name leads, as it would in a minute.
    #[cfg(test)]
    pub(crate) fn forget(&self, name: &str) {
        self.delivering.names.forget(name);
    }

    /// The guard that all requests pass.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sends one request and reads the answer. Any status is an answer; no redirect is followed.
    ///
    /// # Errors
    /// [`NetFault`] says why there is no answer.
    pub async fn send(&self, request: Outgoing) -> Result<Answer, NetFault> {
        self.guard.check_url(&request.url)?;
        let (method, way) =
            if request.method == Method::POST { ("post", &self.delivering) } else { ("get", &self.reading) };
        let (began, host) = (Instant::now(), &request.url[Position::BeforeHost..Position::AfterPort]);
        let exchange = tokio::time::timeout(request.timeout, Box::pin(self.exchange(way, host, &request)));
        let outcome = exchange.await.unwrap_or(Err(NetFault::Timeout));
        if let Err(fault) = &outcome {
            self.learn(way, host, &request.url, fault);
        }
        let result = outcome.as_ref().map_or_else(NetFault::word, |answer| class(answer.status));
        self.metrics.requests_sent.with_label_values(&[method, result]).inc();
        self.metrics.request_seconds.with_label_values(&[method]).observe(began.elapsed().as_secs_f64());
        outcome
    }

    async fn exchange(&self, way: &Way, host: &str, request: &Outgoing) -> Result<Answer, NetFault> {
        if self.by_proxy
            && let Some(Host::Domain(name)) = request.url.host()
            && let Some(refused) = way.names.refuses(name).await
        {
            return Err(refused.into());
        }
        self.knock(way, host, request).await
    }

    /// Forgets what a fault speaks against, and nothing else: what is kept may be good still, and our own trouble is no
    /// reason to make it anew. Where a name leads is forgotten for deliveries alone: strangers choose whom we read from.
    fn learn(&self, way: &Way, host: &str, url: &Url, fault: &NetFault) {
        match fault {
            NetFault::Connect | NetFault::Tls | NetFault::Protocol => way.pools.forget(host),
            NetFault::Broken => way.pools.broken(host),
            NetFault::Timeout => way.pools.silent(host),
            NetFault::Refused(_) | NetFault::Dns | NetFault::Exhausted | NetFault::Coding | NetFault::TooBig => {
                way.pools.in_vain(host);
            }
        }
        if matches!(fault, NetFault::Connect | NetFault::Tls)
            && way.serves == Use::Delivering
            && let Some(Host::Domain(name)) = url.host()
        {
            way.names.forget(name);
        }
        self.gauge(way);
    }

    /// Once, and once more where the host takes another version of HTTP than it was spoken to with.
    async fn knock(&self, way: &Way, host: &str, request: &Outgoing) -> Result<Answer, NetFault> {
        let lent = self.lend(way, host)?;
        let first = self.ask(&lent, request).await;
        let Err(NetFault::Protocol) = first else { return first };
        let news = way.pools.switch(host, lent.speaks);
        let lent = self.lend(way, host)?;
        let second = self.ask(&lent, request).await;
        if lent.speaks == Speaks::Http2 {
            if matches!(second, Err(NetFault::Protocol)) {
                // Neither: the next request begins as with everybody.
                way.pools.switch(host, Speaks::Http2);
            } else if news {
                self.count("http2", 1);
            }
        }
        second
    }

    fn lend(&self, way: &Way, host: &str) -> Result<Lent, NetFault> {
        let lent = way.pools.of(host).map_err(|error| fault(&error))?;
        if lent.closed > 0 {
            self.count("budget", lent.closed);
        }
        if lent.changed {
            self.gauge(way);
        }
        Ok(lent)
    }

    fn gauge(&self, way: &Way) {
        let (fill, serves) = (way.pools.fill(), way.serves.word());
        for (gauge, count) in
            [(&self.metrics.outbound_hosts, fill.hosts), (&self.metrics.outbound_kept, fill.connections)]
        {
            gauge.with_label_values(&[serves]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        if way.serves == Use::Delivering {
            self.metrics.outbound_session_bytes.set(i64::try_from(fill.sessions).unwrap_or(i64::MAX));
        }
    }

    fn count(&self, event: &'static str, count: usize) {
        self.metrics.outbound_connections.with_label_values(&[event]).inc_by(count as u64);
    }

    async fn ask(&self, lent: &Lent, request: &Outgoing) -> Result<Answer, NetFault> {
        let mut headers = HeaderMap::with_capacity(request.headers.len() + 1);
        for (name, value) in &request.headers {
            headers.append(name, value.clone());
        }
        // gzip halves what small origins have to send; nothing we post is answered with anything worth compressing.
        let gzip = request.method == Method::GET;
        let codings = HeaderValue::from_static(if gzip { "gzip" } else { "identity" });
        headers.entry(ACCEPT_ENCODING).or_insert(codings);
        let mut outgoing = lent.http.request(request.method.clone(), request.url.clone()).headers(headers);
        if let Some(body) = &request.body {
            outgoing = outgoing.body(body.clone());
        }
        let mut response = outgoing.send().await.map_err(|error| fault(&error))?;
        // The resolver has judged the address already. If a later reqwest dialled another one, nothing of it is believed.
        if let Some(address) = response.remote_addr()
            && !self.by_proxy
            && !self.guard.permits(address.ip())
        {
            return Err(Refused::Address(address.ip()).into());
        }
        lent.answered();
        let mut headers = std::mem::take(response.headers_mut());
        if closes(response.version(), &headers) {
            self.count("closed", 1);
        }
        let gzip = gzip && response.status() == reqwest::StatusCode::OK && is_gzip(&headers);
        let sink = if gzip { Sink::gzip(request.read_limit) } else { Sink::plain(request.read_limit) };
        let (body, truncated) = read(&mut response, sink, request.read_limit).await?;
        if gzip {
            headers.remove(CONTENT_ENCODING);
        }
        if truncated && request.strict {
            return Err(NetFault::TooBig);
        }
        Ok(Answer { status: response.status().as_u16(), headers, body, truncated })
    }
}

/// Whether the server says that it closes the connection after this answer.
fn closes(version: http::Version, headers: &HeaderMap) -> bool {
    let says = |word: &str| {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    says("close") || (version == http::Version::HTTP_10 && !says("keep-alive"))
}

/// A status as a label.
const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "odd",
    }
}

/// Exactly one coding, and that gzip. Codings in codings, and those we did not ask for, are left for the caller to refuse.
fn is_gzip(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let first = codings.next().map(|value| value.as_bytes().trim_ascii());
    codings.next().is_none()
        && first.is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"))
}

/// Reads up to `limit` bytes, of the wire and of what comes out; dropping the response afterwards closes the connection if
/// there is more.
async fn read(response: &mut reqwest::Response, mut sink: Sink, limit: usize) -> Result<(Bytes, bool), NetFault> {
    let mut room = limit;
    while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
        let fits = chunk.get(..room).unwrap_or(&chunk);
        room -= fits.len();
        if !sink.take(fits)? || fits.len() < chunk.len() {
            return Ok((sink.bytes(), true));
        }
    }
    let whole = sink.end()?;
    Ok((sink.bytes(), !whole))
}

/// Where the bytes of a body go, as they came or decompressed.
enum Sink {
    Plain(Capped),
    Gzip(Box<GzDecoder<Capped>>),
}

impl Sink {
    fn plain(limit: usize) -> Self {
        Self::Plain(Capped::new(limit))
    }

    fn gzip(limit: usize) -> Self {
        Self::Gzip(Box::new(GzDecoder::new(Capped::new(limit))))
    }

    /// Takes a piece; `false` if there was more in it than the limit leaves room for.
    fn take(&mut self, piece: &[u8]) -> Result<bool, NetFault> {
        let taken = match self {
            Self::Plain(body) => body.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
        };
        self.room_left(taken)
    }

    /// That was all: a gzip stream must have come to its end, with the check sum and the length that it says.
    fn end(&mut self) -> Result<bool, NetFault> {
        match self {
            Self::Plain(_) => Ok(true),
            Self::Gzip(decoder) => {
                let ended = decoder.try_finish();
                self.room_left(ended)
            }
        }
    }

    fn room_left(&self, done: io::Result<()>) -> Result<bool, NetFault> {
        let body = match self {
            Self::Plain(body) => body,
            Self::Gzip(decoder) => decoder.get_ref(),
        };
        match done {
            Ok(()) => Ok(true),
            Err(_) if body.full => Ok(false),
            Err(_) => Err(NetFault::Coding),
        }
    }

    fn bytes(mut self) -> Bytes {
        let body = match &mut self {
            Self::Plain(body) => body,
            Self::Gzip(decoder) => decoder.get_mut(),
        };
        std::mem::take(&mut body.bytes).freeze()
    }
}

/// A buffer that says no instead of growing over its limit: a bomb is over at the limit, whatever it would have become.
struct Capped {
    bytes: BytesMut,
    limit: usize,
    full: bool,
}

impl Capped {
    fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), limit, full: false }
    }
}

impl io::Write for Capped {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let room = self.limit.saturating_sub(self.bytes.len());
        let fits = piece.get(..room).unwrap_or(piece);
        self.bytes.extend_from_slice(fits);
        if fits.len() < piece.len() {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fault(error: &reqwest::Error) -> NetFault {
    let mut cause = error.source();
    let (mut unfit, mut exhausted) = (false, false);
    while let Some(inner) = cause {
        // The resolver's own words.
        if let Some(fault) = inner.downcast_ref::<NetFault>() {
            return fault.clone();
        }
        if says_no_protocol(inner) {
            return NetFault::Protocol;
        }
        unfit |= is_unfit(inner);
        exhausted |= is_exhausted(inner);
        cause = inner.source();
    }
    if error.is_timeout() {
        // It has a deadline of its own.
        if error.is_connect() { NetFault::Connect } else { NetFault::Timeout }
    } else if exhausted {
        NetFault::Exhausted
    } else if error.is_dns() {
        NetFault::Dns
    } else if error.is_connect() {
        if unfit { NetFault::Tls } else { NetFault::Connect }
    } else {
        NetFault::Broken
    }
}

/// Whether TLS made nothing of what came. A connection that only breaks has kinds of its own.
fn is_unfit(error: &(dyn Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<io::Error>() else { return false };
    // One that wraps another does not call it its source.
    error.kind() == io::ErrorKind::InvalidData || error.get_ref().is_some_and(|inner| is_unfit(inner))
}

/// Whether the server ended the handshake because it does not speak the version of HTTP that it was offered (RFC 7301
/// section 3.2).
fn says_no_protocol(error: &(dyn Error + 'static)) -> bool {
    use rustls::{AlertDescription, Error as TlsError};
    match error.downcast_ref::<TlsError>() {
        Some(error) => matches!(error, TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)),
        None => error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
            .is_some_and(|inner| says_no_protocol(inner)),
    }
}

/// Whether the operating system had nothing left to make a connection of: `ENOMEM`, `ENFILE`, `EMFILE`, `EADDRNOTAVAIL`,
/// `ENOBUFS`.
pub(super) fn is_exhausted(error: &(dyn Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<io::Error>() else { return false };
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 99 | 105))
        || error.get_ref().is_some_and(|inner| is_exhausted(inner))
}

#[cfg(test)]
mod tests;

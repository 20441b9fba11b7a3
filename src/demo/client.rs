//! How simulated servers speak: a plain HTTP client that refuses every address but loopback, follows no redirect and
//! ignores the environment's proxies. What the demo promises about its manners ("nothing leaves loopback") is kept here
//! for the simulated half; the relay has its own client and its own guard.

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use url::{Host, Url};

/// The most of an answer that a simulated server reads.
const MAX_ANSWER: usize = 1024 * 1024;
/// How long it waits for the whole of an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Trouble {
    /// The address is none of this machine's own.
    #[error("{0} is not a loopback address: the simulated fediverse speaks to nobody else")]
    NotLoopback(String),
    /// Connecting, sending or reading failed, took more than half a minute, or brought more than a mebibyte.
    #[error("no answer")]
    Network(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something that had to be read first was not as it must be.
    #[error("{0}")]
    Unreadable(String),
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All header lines.
    pub headers: HeaderMap,
    /// The body, at most 1 MiB.
    pub body: Bytes,
}

impl Answer {
    /// 2xx.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text, broken UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, if it is there and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After` in seconds, if the server gave one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}

/// A request, finished down to its last header line.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) method: &'static str,
    pub(super) url: Url,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// The loopback-only client, without TLS, proxies and redirects. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub(super) struct Loopback(Client<HttpConnector, Full<Bytes>>);

impl Loopback {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Sends `letter` and reads the answer.
    pub(super) async fn send(&self, letter: Letter) -> Result<Answer, Trouble> {
        if !is_loopback(&letter.url) {
            return Err(Trouble::NotLoopback(letter.url.to_string()));
        }
        let (dialled, host) = dialled(&letter.url);
        let mut request = Request::builder().method(letter.method).uri(dialled.as_str());
        if let Some(host) = host.filter(|_| !letter.headers.iter().any(|(name, _)| name == "host")) {
            request = request.header("host", host);
        }
        for (name, value) in &letter.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(letter.body)).map_err(|cause| Trouble::Unreadable(cause.to_string()))?;
        let exchange = async {
            let (parts, body) = self.0.request(request).await.map_err(network)?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(Trouble::Network)?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(network)?
    }

    /// A plain, unsigned GET.
    pub(super) async fn get(&self, url: Url, accept: &str) -> Result<Answer, Trouble> {
        let headers = vec![("accept".to_owned(), accept.to_owned())];
        self.send(Letter { method: "GET", url, headers, body: Bytes::new() }).await
    }
}

fn network(cause: impl std::error::Error + Send + Sync + 'static) -> Trouble {
    Trouble::Network(Box::new(cause))
}

/// Below this are the names of simulated servers: nobody's (RFC 2606), and never looked up.
const OURS: &str = ".example";

/// The URL that is dialled, and the `Host` to name: a simulated server's name leads to this machine.
fn dialled(url: &Url) -> (Url, Option<String>) {
    let mut dialled = url.clone();
    let named = url.domain().filter(|name| name.ends_with(OURS));
    let host = named.map(|name| url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}")));
    if host.is_some() && dialled.set_ip_host(Ipv4Addr::LOCALHOST.into()).is_err() {
        return (url.clone(), None);
    }
    (dialled, host)
}

/// Names are refused as well, `localhost` included, but for those of simulated servers: what they resolve to is not ours to
/// promise.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name.ends_with(OURS),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_literals_are_spoken_to() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_loopback(&Url::parse(text).expect("test url")), expected, "{text}");
        };
        check("http://127.0.0.1:4000/inbox", true);
        check("http://127.9.8.7/inbox", true);
        check("http://[::1]:4000/", true);
        check("http://localhost:4000/", false);
        check("http://10.0.0.1/", false);
        check("http://127.0.0.1.invalid/", false);
        check("http://example/", false);
        check("http://gannet.example:4000/", true);
        check("http://gannet.example.net/", false);
        check("https://mastodon.example/", false);
        check("http://[::ffff:10.0.0.1]/", false);
    }

    #[test]
    fn a_simulated_servers_name_leads_to_this_machine() {
        let of = |text: &str| {
            let (url, host) = dialled(&Url::parse(text).expect("test url"));
            (url.to_string(), host)
        };
        let (url, host) = of("http://gannet.example:4000/inbox");
        assert_eq!((url.as_str(), host.as_deref()), ("http://127.0.0.1:4000/inbox", Some("gannet.example:4000")));
        assert_eq!(of("http://127.0.0.1:4000/x"), ("http://127.0.0.1:4000/x".to_owned(), None));
    }
}

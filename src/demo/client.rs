//! How simulated servers speak: a plain HTTP client that refuses every address but loopback, follows no redirect and
//! ignores the environment's proxies. What the demo promises about its manners ("nothing leaves loopback") is kept here
//! for the simulated half; the relay has its own client and its own guard.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use thiserror::Error;
use url::{Host, Url};

/// The most of an answer that a simulated server reads.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Trouble {
    /// The address is none of this machine's own.
    #[error("{0} is not a loopback address: the simulated fediverse speaks to nobody else")]
    NotLoopback(String),
    /// Connecting, sending or reading failed.
    #[error("no answer")]
    Network(#[source] reqwest::Error),
    /// Something that had to be read first was not as it must be.
    #[error("{0}")]
    Unreadable(String),
    /// More than a mebibyte came back.
    #[error("the answer is longer than 1 MiB")]
    TooLong,
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

/// The loopback-only client. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Loopback(reqwest::Client);

impl Loopback {
    #[expect(clippy::disallowed_methods, reason = "the simulated servers' own client: loopback only, by `is_loopback`")]
    pub(super) fn new() -> Self {
        let built = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .http1_only()
            .build();
        Self(built.unwrap_or_default())
    }

    /// Sends `letter` and reads the answer.
    pub(super) async fn send(&self, letter: Letter) -> Result<Answer, Trouble> {
        if !is_loopback(&letter.url) {
            return Err(Trouble::NotLoopback(letter.url.to_string()));
        }
        let method = if letter.method == "POST" { reqwest::Method::POST } else { reqwest::Method::GET };
        let mut request = self.0.request(method, letter.url).body(letter.body);
        for (name, value) in &letter.headers {
            request = request.header(name, value);
        }
        let mut response = request.send().await.map_err(Trouble::Network)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(Trouble::Network)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Trouble::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body: body.freeze() })
    }

    /// A plain, unsigned GET.
    pub(super) async fn get(&self, url: Url, accept: &str) -> Result<Answer, Trouble> {
        let headers = vec![("accept".to_owned(), accept.to_owned())];
        self.send(Letter { method: "GET", url, headers, body: Bytes::new() }).await
    }
}

/// Names are refused as well, `localhost` included: what they resolve to is not ours to promise.
pub(super) fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(_)) | None => false,
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
        check("http://127.0.0.1.example/", false);
        check("https://mastodon.example/", false);
        check("http://[::ffff:10.0.0.1]/", false);
    }
}

//! What the two profiles share: a request, what it is judged by, and the checks that do not depend on the profile.

use http::{HeaderMap, Method};
use url::Url;

use super::{MAX_LIFETIME, Request, SigFault, WINDOW, digest};
use crate::clock::Timestamp;

/// A request together with what it is judged by.
pub(super) struct Asked<'a> {
    pub(super) request: Request<'a>,
    /// Scheme and authority: `https://relay.example`.
    pub(super) origin: &'a str,
    pub(super) origin_url: Url,
    pub(super) now: Timestamp,
    digests: digest::Checked,
    needs_digest: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn new(request: Request<'a>, body: &[u8], origin: &'a str, now: Timestamp) -> Result<Self, SigFault> {
        let origin = origin.trim_end_matches('/');
        let origin_url = Url::parse(origin).map_err(|_cause| SigFault::Host)?;
        if !request.target.starts_with('/') {
            return Err(SigFault::Malformed { what: "the request target" });
        }
        let digests = digest::check(request.headers, body)?;
        let needs_digest = !body.is_empty() || !matches!(*request.method, Method::GET | Method::HEAD);
        Ok(Self { request, origin, origin_url, now, digests, needs_digest })
    }

    /// The value of a covered header, which must be there once: of two, a proxy and we might read different ones.
    pub(super) fn header(&self, name: &str) -> Result<&'a [u8], SigFault> {
        single(self.request.headers, name)?.ok_or_else(|| SigFault::Missing { name: shown(name) })
    }

    /// The signature must cover a digest, and one that we could check.
    pub(super) fn check_digest(&self, covers: impl Fn(&str) -> bool) -> Result<(), SigFault> {
        let covered = [("digest", self.digests.digest), ("content-digest", self.digests.content_digest)];
        let mut proven = false;
        for (name, known) in covered {
            if covers(name) {
                // Present (the caller has read it), so without a known algorithm it proves nothing.
                proven = true;
                if !known {
                    return Err(SigFault::UnknownDigest);
                }
            }
        }
        if self.needs_digest && !proven {
            return Err(SigFault::Coverage { missing: "digest or content-digest" });
        }
        Ok(())
    }

    /// `Host` must be our name. The port counts only where the header has one: Mastodon leaves it out even of odd ones.
    pub(super) fn check_host(&self) -> Result<(), SigFault> {
        let text = std::str::from_utf8(self.header("host")?).map_err(|_cause| SigFault::Host)?;
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (text, None),
        };
        let ours = self.origin_url.host_str().unwrap_or_default();
        let port_fits = match port {
            None => true,
            Some(port) => self.origin_url.port_or_known_default().is_some_and(|ours| ours.to_string() == port),
        };
        if ours.is_empty() || !name.eq_ignore_ascii_case(ours) || !port_fits {
            return Err(SigFault::Host);
        }
        Ok(())
    }

    pub(super) fn check_time(&self, at: Timestamp) -> Result<(), SigFault> {
        let skew = if at > self.now { at.since(self.now) } else { self.now.since(at) };
        if skew > WINDOW {
            return Err(SigFault::Date { seconds: skew.as_secs() });
        }
        Ok(())
    }

    pub(super) fn check_expiry(&self, expires: Option<Timestamp>) -> Result<(), SigFault> {
        match expires {
            Some(expires) if expires < self.now => Err(SigFault::Expired),
            Some(expires) if expires.since(self.now) > MAX_LIFETIME => Err(SigFault::TooLongLived),
            _ => Ok(()),
        }
    }

    /// The target without its query; `None` if it has none.
    pub(super) fn bare_target(&self) -> Option<&'a str> {
        self.request.target.split_once('?').map(|(path, _query)| path)
    }
}

/// The one value of a header without outer white space; `None` if it is absent.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, SigFault> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes().trim_ascii());
    match values.next() {
        None => Ok(first),
        Some(_) => Err(SigFault::Repeated { name: shown(name) }),
    }
}

/// A name from their request, cut to a length that fits a log line.
pub(super) fn shown(name: &str) -> String {
    name.chars().filter(char::is_ascii_graphic).take(40).collect()
}

//! What the targets share: taking an input apart, and the signed requests that no mutation may stand in for.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use shearwater::clock::Timestamp;
use shearwater::wire::http_sig::{self, Claim, Request, SigFault};

/// Sunday, 23 August 2026, 12:00:00 UTC: when everything in `tests/fixtures/signed` was signed.
pub const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

/// A request as a text file: request line, headers, a blank line, the body. Lines may end with LF or CRLF.
#[derive(Debug, Clone)]
pub struct Sample {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Sample {
    /// `None` if no HTTP server would hand this on: such inputs say nothing about us.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut line = || {
            let at = rest.iter().position(|byte| *byte == b'\n')?;
            let (line, after) = rest.split_at(at);
            rest = &after[1..];
            Some(line.strip_suffix(b"\r").unwrap_or(line))
        };
        let first = std::str::from_utf8(line()?).ok()?;
        let (method, target) = first.split_once(' ')?;
        let target = target.strip_suffix(" HTTP/1.1").unwrap_or(target);
        if target.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return None;
        }
        let mut headers = HeaderMap::new();
        loop {
            let line = line()?;
            if line.is_empty() {
                break;
            }
            let at = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..at]).ok()?;
            headers.append(name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).ok()?);
        }
        Some(Self { method: method.parse().ok()?, target: target.to_owned(), headers, body: rest.to_vec() })
    }

    /// What the relay at `origin` says of it.
    pub fn read(&self, origin: &str) -> Result<Claim, SigFault> {
        let request = Request { method: &self.method, target: &self.target, headers: &self.headers };
        http_sig::read(&request, &self.body, origin, NOON)
    }

    pub fn header(&self, name: &str) -> &[u8] {
        self.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default()
    }

    /// The path: what every sender signs; half of them leave the query out.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// The lines of a text, as many as asked for, the rest of the input in the last one. Empty where there are no more.
pub fn lines<const N: usize>(bytes: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut found = [""; N];
    for (line, text) in found.iter_mut().zip(text.splitn(N, '\n')) {
        *line = text;
    }
    Some(found)
}

/// Reads JSON as the relay does; `None` if it does not.
pub fn json(bytes: &[u8]) -> Option<serde_json::Value> {
    shearwater::wire::json::parse(bytes).ok()
}

//! HTTP signatures of both profiles: draft-cavage-http-signatures-12 ([`Scheme::Cavage`], nearly everyone) and RFC 9421
//! ([`Scheme::Rfc9421`]). [`read`] checks everything about a request but the key and hands back a [`Claim`]; whoever
//! holds the key asks the claim to verify. [`sign`] makes the headers of ours, [`sign_shared`] those that many servers take.
//!
//! Exactly one profile is looked at: RFC 9421 if there is a `Signature-Input`, as Mastodon 4.5 does. We ask for more
//! than Mastodon: a signature that does not cover the body's digest, the request's target, our name and a time is
//! refused (Misskey CVE-2023-49079 came of less); every sender we know of covers all four.

mod asked;
mod cavage;
mod digest;
mod fault;
mod rfc9421;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use asked::Asked;
pub use fault::SigFault;

use crate::clock::Timestamp;
use crate::wire::key::{Algorithm, PublicKey, SigningKey};

/// How far `Date` or `created` may be from our clock, either way. Senders sign each attempt anew, so this only has to
/// hold clocks that are wrong.
pub const WINDOW: Duration = Duration::from_secs(3600);

/// The furthest `expires` we take seriously. Who signs for longer than a day signs for somebody who replays.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The most headers or components a signature may cover. Real ones cover three to eight.
const MAX_COVERED: usize = 32;

/// The longest `keyId`, in bytes: an id.
const MAX_KEY_ID_BYTES: usize = crate::ids::MAX_IRI_BYTES;

/// The longest signature, in bytes: that of an RSA key of 8192 bits.
const MAX_SIGNATURE_BYTES: usize = 1024;

/// The content type of all we send, bare: some servers refuse a `charset` or compare the whole string.
pub const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/activity+json");

/// A signature profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// draft-cavage-http-signatures-12, as the fediverse has spoken it since 2017.
    Cavage,
    /// RFC 9421, HTTP Message Signatures.
    Rfc9421,
}

impl Scheme {
    /// `cavage` or `rfc9421`: for logs, labels and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cavage => "cavage",
            Self::Rfc9421 => "rfc9421",
        }
    }

    /// The other profile: what a second knock uses.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Cavage => Self::Rfc9421,
            Self::Rfc9421 => Self::Cavage,
        }
    }
}

/// What of a request a signature can cover.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query exactly as on the request line.
    pub target: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
}

/// A signature that holds in everything but the key: whose it claims to be, and when it was made.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The profile it came in.
    pub scheme: Scheme,
    /// The `keyId` as sent: find the key that is published under it.
    pub key_id: String,
    /// The signed time: `created` or `(created)`, else `Date`.
    pub at: Timestamp,
    /// When the sender wants it to be worthless.
    pub expires: Option<Timestamp>,
    /// The signature's bytes: what to remember against replays.
    pub signature: Vec<u8>,
    label: Label,
    /// What may have been signed. More than one because half of the fediverse signs a target without its query.
    messages: Vec<Vec<u8>>,
}

/// What the sender said it signed with. Only a hint: the key decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// Nothing said, or `hs2019`, which says nothing.
    Absent,
    RsaSha256,
    RsaSha512,
    Ed25519,
}

impl Claim {
    /// Whether the signature was made by the owner of `key`. The kind of key decides the algorithm; in RFC 9421 an
    /// `alg` that contradicts the key is a failure (section 3.2, step 6).
    #[must_use]
    pub fn verify(&self, key: &PublicKey) -> bool {
        let algorithms: &[Algorithm] = match (key, self.label) {
            (PublicKey::Ed25519(_), Label::RsaSha256 | Label::RsaSha512) if self.scheme == Scheme::Rfc9421 => &[],
            (PublicKey::Rsa(_), Label::Ed25519) if self.scheme == Scheme::Rfc9421 => &[],
            (PublicKey::Ed25519(_), _) => &[Algorithm::Ed25519],
            (PublicKey::Rsa(_), Label::RsaSha512) => &[Algorithm::RsaSha512, Algorithm::RsaSha256],
            (PublicKey::Rsa(_), _) => &[Algorithm::RsaSha256, Algorithm::RsaSha512],
        };
        let holds = |algorithm: &Algorithm| {
            self.messages.iter().any(|message| key.verify(*algorithm, message, &self.signature))
        };
        algorithms.iter().any(holds)
    }
}

/// Reads and checks the signature of a request, all but the key. `public_origin` is how the world names us
/// (`https://relay.example`): the signature must be meant for that name, whatever socket it came in by.
///
/// # Errors
/// [`SigFault`] names the one check of the sender's request that failed.
pub fn read(request: &Request<'_>, body: &[u8], public_origin: &str, now: Timestamp) -> Result<Claim, SigFault> {
    let scheme = if request.headers.contains_key(rfc9421::SIGNATURE_INPUT) {
        Scheme::Rfc9421
    } else if request.headers.contains_key(cavage::SIGNATURE) {
        Scheme::Cavage
    } else {
        return Err(SigFault::Unsigned);
    };
    let asked = Asked::new(*request, body, public_origin, now)?;
    match scheme {
        Scheme::Cavage => cavage::read(&asked),
        Scheme::Rfc9421 => rfc9421::read(&asked),
    }
}

/// The SHA-256 of a body, computed once per activity and used for every receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// The hash.
    pub digest: [u8; 32],
}

impl Body {
    /// Hashes a body.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Sha256::digest(bytes).into() }
    }
}

/// Signs a request and returns every header to add: `Host`, `Date`, with a body `Content-Type` and `Digest` or
/// `Content-Digest`, and the signature. Sign each attempt anew: Friendica and new Misskey take a `Date` of at most five
/// minutes ago.
///
/// `host` is the bare name, with the port where it is not the scheme's own. A fragment of `url` is left out.
#[must_use]
pub fn sign(
    scheme: Scheme,
    key: &SigningKey,
    method: &Method,
    url: &Url,
    body: Option<&Body>,
    at: Timestamp,
) -> Vec<(HeaderName, HeaderValue)> {
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut headers = vec![(header::HOST, header_value(&host))];
    let sending = Sending { key, method, url, body, at, host: Some(host), date: at.http_date() };
    headers.push((header::DATE, header_value(&sending.date)));
    if body.is_some() {
        headers.push((header::CONTENT_TYPE, CONTENT_TYPE));
    }
    match scheme {
        Scheme::Cavage => cavage::sign(&sending, &mut headers),
        Scheme::Rfc9421 => rfc9421::sign(&sending, &mut headers),
    }
    headers
}

/// Signs a POST for every server that has an inbox at this path: draft-cavage over `(request-target) date digest
/// content-type`, without `host`. Returns every header to add but `Host`. Only Mastodon's family takes that (it asks for
/// `host` on a GET, and on a POST for the digest instead), and only what anybody may have is to be signed so
/// (docs/decisions/0011).
#[must_use]
pub fn sign_shared(key: &SigningKey, inbox: &Url, body: &Body, at: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
    let method = Method::POST;
    let sending = Sending { key, method: &method, url: inbox, body: Some(body), at, host: None, date: at.http_date() };
    let mut headers = vec![(header::DATE, header_value(&sending.date)), (header::CONTENT_TYPE, CONTENT_TYPE)];
    cavage::sign(&sending, &mut headers);
    headers
}

/// A request of ours that is about to be signed.
struct Sending<'a> {
    key: &'a SigningKey,
    method: &'a Method,
    url: &'a Url,
    body: Option<&'a Body>,
    at: Timestamp,
    /// `None`: for any server.
    host: Option<String>,
    date: String,
}

/// URLs and dates are ASCII and our key ids hold no control characters, so the fallback is never sent.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;

//! `Digest` (RFC 3230, as draft-cavage senders use it) and `Content-Digest` (RFC 9530), over the raw body.
//!
//! Every algorithm we know must match, wherever it stands; algorithms we do not know are passed over. Whether a header
//! proves anything (at least one algorithm known) is told to the caller, who knows which one the signature covers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use sfv::{BareItem, Dictionary, FieldType as _, ListEntry, Parser};
use sha2::{Digest as _, Sha256, Sha512};

use super::SigFault;
use super::asked::single;

/// The most digests in one header. Senders send one; IANA knows about ten algorithms.
const MAX_DIGESTS: usize = 16;

/// Which headers are there and hold at least one algorithm that we know (and that matched).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) digest: bool,
    pub(super) content_digest: bool,
}

/// Checks both headers against the body.
pub(super) fn check(headers: &HeaderMap, body: &[u8]) -> Result<Checked, SigFault> {
    Ok(Checked { digest: check_digest(headers, body)?, content_digest: check_content_digest(headers, body)? })
}

/// The value of `Content-Digest` or `Digest` in the spelling that everyone reads: PeerTube, Pixelfed and Friendica
/// compare `SHA-256=` literally, Iceshrimp.NET cuts off eight characters.
pub(super) fn digest_value(hash: &[u8; 32]) -> String {
    format!("SHA-256={}", STANDARD.encode(hash))
}

/// The same for RFC 9530.
pub(super) fn content_digest_value(hash: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(hash))
}

fn check_digest(headers: &HeaderMap, body: &[u8]) -> Result<bool, SigFault> {
    const MALFORMED: SigFault = SigFault::Malformed { what: "the Digest header" };
    let Some(value) = single(headers, "digest")? else { return Ok(false) };
    let text = std::str::from_utf8(value).map_err(|_cause| MALFORMED)?;
    let mut seen = Vec::new();
    for member in text.split(',') {
        let (name, value) = member.trim().split_once('=').ok_or(MALFORMED)?;
        let name = name.to_ascii_lowercase();
        if name.is_empty() || seen.contains(&name) || seen.len() == MAX_DIGESTS {
            return Err(MALFORMED);
        }
        if let Some(hash) = hash(&name, body) {
            let sent = STANDARD.decode(value).map_err(|_cause| MALFORMED)?;
            if sent != hash {
                return Err(SigFault::Digest { header: "Digest" });
            }
        }
        seen.push(name);
    }
    Ok(seen.iter().any(|name| is_known(name)))
}

fn check_content_digest(headers: &HeaderMap, body: &[u8]) -> Result<bool, SigFault> {
    const MALFORMED: SigFault = SigFault::Malformed { what: "the Content-Digest header" };
    let Some(value) = single(headers, "content-digest")? else { return Ok(false) };
    let members: Dictionary = Parser::new(value).parse().map_err(|_cause| MALFORMED)?;
    // The parser keeps the last of two equal keys; what it reads must be all there is.
    let written = members.serialize().ok_or(MALFORMED)?;
    if members.len() > MAX_DIGESTS || super::rfc9421::squeezed(written.as_bytes()) != super::rfc9421::squeezed(value) {
        return Err(MALFORMED);
    }
    let mut known = false;
    for (name, entry) in &members {
        let Some(hash) = hash(name.as_str(), body) else { continue };
        let ListEntry::Item(item) = entry else { return Err(MALFORMED) };
        let BareItem::ByteSequence(sent) = &item.bare_item else { return Err(MALFORMED) };
        if *sent != hash {
            return Err(SigFault::Digest { header: "Content-Digest" });
        }
        known = true;
    }
    Ok(known)
}

fn is_known(name: &str) -> bool {
    matches!(name, "sha-256" | "sha-512")
}

fn hash(name: &str, body: &[u8]) -> Option<Vec<u8>> {
    match name {
        "sha-256" => Some(Sha256::digest(body).to_vec()),
        "sha-512" => Some(Sha512::digest(body).to_vec()),
        _ => None,
    }
}

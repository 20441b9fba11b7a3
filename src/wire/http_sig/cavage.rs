//! draft-cavage-http-signatures-12 as the fediverse speaks it: one `Signature` header with `keyId`, `algorithm`,
//! `headers` and `signature`. `hs2019` and no algorithm at all mean the same here: the key decides.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

use super::asked::shown;
use super::{Asked, Claim, Label, MAX_COVERED, MAX_KEY_ID_BYTES, MAX_SIGNATURE_BYTES, Scheme, Sending, SigFault};
use super::{digest, header_value};
use crate::clock::Timestamp;

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("signature");

const MALFORMED: SigFault = SigFault::Malformed { what: "the Signature header" };

/// Checks everything but the key.
pub(super) fn read(asked: &Asked<'_>) -> Result<Claim, SigFault> {
    let text = std::str::from_utf8(asked.header("signature")?).map_err(|_cause| MALFORMED)?;
    let params = Params::parse(text)?;
    let covered = params.covered()?;
    let covers = |name: &str| covered.iter().any(|covered| covered == name);

    // The signing string has the method in lower case (section 2.3), methods are case-sensitive (RFC 9110 section 9.1):
    // of one that is not in capitals, the signature covers less than was sent.
    if asked.request.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(SigFault::Malformed { what: "the request's method" });
    }
    if !covers("(request-target)") {
        return Err(SigFault::Coverage { missing: "(request-target)" });
    }
    if !covers("host") {
        return Err(SigFault::Coverage { missing: "host" });
    }
    let at = params.signed_time(asked, covers)?;
    asked.check_time(at)?;
    let expires = params.expires.map(Timestamp::from_secs);
    asked.check_expiry(expires)?;
    asked.check_host()?;

    let with_query = params.message(asked, &covered, asked.request.target)?;
    let without = asked.bare_target().map(|target| params.message(asked, &covered, target)).transpose()?;
    asked.check_digest(covers)?;
    Ok(Claim {
        scheme: Scheme::Cavage,
        key_id: params.key_id.to_owned(),
        at,
        expires,
        signature: params.signature,
        label: params.label,
        messages: std::iter::once(with_query).chain(without).collect(),
    })
}

/// The parameters of a `Signature` header.
struct Params<'a> {
    key_id: &'a str,
    signature: Vec<u8>,
    label: Label,
    /// Whether `(created)` and `(expires)` may be covered: not with an algorithm name that begins with `rsa`
    /// (section 2.3 of the draft).
    opaque: bool,
    headers: Option<&'a str>,
    created: Option<i64>,
    expires: Option<i64>,
}

impl<'a> Params<'a> {
    fn parse(text: &'a str) -> Result<Self, SigFault> {
        let pairs = pairs(text)?;
        let get = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let key_id = get("keyId").ok_or(SigFault::MissingParameter { name: "keyId" })?;
        let signature = get("signature").ok_or(SigFault::MissingParameter { name: "signature" })?;
        if key_id.is_empty() || key_id.len() > MAX_KEY_ID_BYTES {
            return Err(SigFault::Malformed { what: "the signature's keyId" });
        }
        let bad_signature = SigFault::Malformed { what: "the signature's value" };
        let signature = STANDARD.decode(signature).map_err(|_cause| bad_signature.clone())?;
        if signature.is_empty() || signature.len() > MAX_SIGNATURE_BYTES {
            return Err(bad_signature);
        }
        let (label, opaque) = match get("algorithm").map(str::to_ascii_lowercase).as_deref() {
            None | Some("hs2019") => (Label::Absent, true),
            Some("rsa-sha256") => (Label::RsaSha256, false),
            Some("rsa-sha512") => (Label::RsaSha512, false),
            Some("ed25519") => (Label::Ed25519, true),
            Some(_) => return Err(SigFault::Algorithm),
        };
        let seconds = |name: &str, what| match get(name) {
            None => Ok(None),
            Some(text) => text.parse::<i64>().map(Some).map_err(|_cause| SigFault::Malformed { what }),
        };
        Ok(Self {
            key_id,
            signature,
            label,
            opaque,
            headers: get("headers"),
            created: seconds("created", "the signature's created")?,
            expires: seconds("expires", "the signature's expires")?,
        })
    }

    /// The covered names in order, lower case.
    fn covered(&self) -> Result<Vec<String>, SigFault> {
        // Section 2.1.6: without `headers` only the time is covered, which is never enough for us.
        let list = self.headers.unwrap_or(if self.opaque { "(created)" } else { "date" });
        let mut covered: Vec<String> = Vec::new();
        for name in list.split_ascii_whitespace() {
            let name = name.to_ascii_lowercase();
            if covered.contains(&name) {
                return Err(SigFault::Repeated { name: shown(&name) });
            }
            if covered.len() == MAX_COVERED {
                return Err(SigFault::Malformed { what: "the signature's list of headers" });
            }
            covered.push(name);
        }
        Ok(covered)
    }

    /// The time that the signature vouches for; where it covers two, both must be near.
    fn signed_time(&self, asked: &Asked<'_>, covers: impl Fn(&str) -> bool) -> Result<Timestamp, SigFault> {
        let date = if covers("date") {
            let text = std::str::from_utf8(asked.header("date")?).ok();
            let at = text.and_then(Timestamp::from_http_date).ok_or(SigFault::Malformed { what: "the Date header" })?;
            asked.check_time(at)?;
            Some(at)
        } else {
            None
        };
        let created = if covers("(created)") {
            let created = self.created.ok_or(SigFault::MissingParameter { name: "created" })?;
            Some(Timestamp::from_secs(created))
        } else {
            None
        };
        created.or(date).ok_or(SigFault::Coverage { missing: "date or (created)" })
    }

    /// The signing string (section 2.3) for one spelling of the target.
    fn message(&self, asked: &Asked<'_>, covered: &[String], target: &str) -> Result<Vec<u8>, SigFault> {
        let mut message = Vec::new();
        for name in covered {
            if !message.is_empty() {
                message.push(b'\n');
            }
            message.extend_from_slice(name.as_bytes());
            message.extend_from_slice(b": ");
            match name.as_str() {
                "(request-target)" => {
                    let method = asked.request.method.as_str().to_ascii_lowercase();
                    message.extend_from_slice(format!("{method} {target}").as_bytes());
                }
                "(created)" | "(expires)" => {
                    if !self.opaque {
                        return Err(SigFault::Algorithm);
                    }
                    let (seconds, missing) = match name.as_str() {
                        "(created)" => (self.created, "created"),
                        _ => (self.expires, "expires"),
                    };
                    let seconds = seconds.ok_or(SigFault::MissingParameter { name: missing })?;
                    message.extend_from_slice(seconds.to_string().as_bytes());
                }
                other if other.starts_with('(') => return Err(SigFault::UnknownComponent { name: shown(other) }),
                header => message.extend_from_slice(asked.header(header)?),
            }
        }
        Ok(message)
    }
}

/// Splits `key="value",key=value` (RFC 7235 parameters). A value holds no escapes: none of the parameters needs one.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>, SigFault> {
    // Some senders repeat the scheme's name from the `Authorization` form; Mastodon tolerates it as well.
    let mut rest = text.strip_prefix("Signature ").unwrap_or(text).trim_ascii();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    loop {
        let (key, after) = rest.split_once('=').ok_or(MALFORMED)?;
        let key = key.trim_ascii();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            return Err(MALFORMED);
        }
        let after = after.trim_ascii_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(MALFORMED)?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if value.contains('\\') {
            return Err(MALFORMED);
        }
        if pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(key)) {
            return Err(SigFault::RepeatedParameter { name: shown(key) });
        }
        if pairs.len() == MAX_COVERED {
            return Err(MALFORMED);
        }
        pairs.push((key, value.trim_ascii()));
        rest = match after.trim_ascii_start() {
            "" => return Ok(pairs),
            more => more.strip_prefix(',').ok_or(MALFORMED)?,
        };
    }
}

/// Signs `(request-target) host date`, with a body also `digest content-type`, in the order that strict verifiers ask
/// for; without `host` if it is for any server. RSA is labelled `rsa-sha256` and never `hs2019`, which WordPress reads as "pick the hash from the key size".
pub(super) fn sign(sending: &Sending<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) {
    let target = match sending.url.query() {
        Some(query) => format!("{}?{query}", sending.url.path()),
        None => sending.url.path().to_owned(),
    };
    let method = sending.method.as_str().to_ascii_lowercase();
    let mut message = format!("(request-target): {method} {target}");
    let mut covered = "(request-target)".to_owned();
    if let Some(host) = &sending.host {
        message.push_str(&format!("\nhost: {host}"));
        covered.push_str(" host");
    }
    message.push_str(&format!("\ndate: {}", sending.date));
    covered.push_str(" date");
    if let Some(body) = sending.body {
        let digest = digest::digest_value(&body.digest);
        message.push_str(&format!("\ndigest: {digest}\ncontent-type: application/activity+json"));
        covered.push_str(" digest content-type");
        headers.push((HeaderName::from_static("digest"), header_value(&digest)));
    }
    let algorithm = if sending.key.is_ed25519() { "hs2019" } else { "rsa-sha256" };
    let signature = STANDARD.encode(sending.key.sign(message.as_bytes()));
    let key_id = sending.key.key_id();
    let value = format!(r#"keyId="{key_id}",algorithm="{algorithm}",headers="{covered}",signature="{signature}""#);
    headers.push((SIGNATURE, header_value(&value)));
}

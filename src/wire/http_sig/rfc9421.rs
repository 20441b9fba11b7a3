//! RFC 9421, HTTP Message Signatures, as far as the fediverse uses it: one signature, components without parameters,
//! `created` and `keyid`. Names of ours in the signature base come from the configured origin, never from the socket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, ListEntry, Parser};

use super::asked::{shown, single};
use super::cavage::SIGNATURE;
use super::{Asked, Claim, Label, MAX_COVERED, MAX_KEY_ID_BYTES, MAX_SIGNATURE_BYTES, Scheme, Sending, SigFault};
use super::{digest, header_value};
use crate::clock::Timestamp;

pub(super) const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

const BAD_INPUT: SigFault = SigFault::Malformed { what: "the Signature-Input header" };
const BAD_SIGNATURE: SigFault = SigFault::Malformed { what: "the Signature header" };

/// Checks everything but the key.
pub(super) fn read(asked: &Asked<'_>) -> Result<Claim, SigFault> {
    let input = Input::parse(asked.header("signature-input")?)?;
    let value = single(asked.request.headers, "signature")?.ok_or(BAD_SIGNATURE)?;
    let signature = signature(value, &input.label)?;
    let covered = input.covered()?;
    let covers = |name: &str| covered.contains(&name);
    check_coverage(asked, covers)?;

    let at = Timestamp::from_secs(input.integer("created")?.ok_or(SigFault::MissingParameter { name: "created" })?);
    asked.check_time(at)?;
    let expires = input.integer("expires")?.map(Timestamp::from_secs);
    asked.check_expiry(expires)?;
    if covers("host") {
        asked.check_host()?;
    }
    let key_id = input.text("keyid")?.ok_or(SigFault::MissingParameter { name: "keyid" })?;
    if key_id.is_empty() || key_id.len() > MAX_KEY_ID_BYTES {
        return Err(SigFault::Malformed { what: "the signature's keyid" });
    }
    let label = match input.text("alg")? {
        None => Label::Absent,
        Some("rsa-v1_5-sha256") => Label::RsaSha256,
        Some("rsa-v1_5-sha512") => Label::RsaSha512,
        Some("ed25519") => Label::Ed25519,
        Some(_) => return Err(SigFault::Algorithm),
    };

    let mut base = Vec::new();
    for name in &covered {
        base.extend_from_slice(format!("\"{name}\": ").as_bytes());
        base.extend_from_slice(&component(asked, name)?);
        base.push(b'\n');
    }
    asked.check_digest(covers)?;
    let key_id = key_id.to_owned();
    // Senders put into the base either what they send or what a serializer makes of it; nearly always the same.
    let messages = input.params.iter().map(|params| with_params(&base, params)).collect();
    Ok(Claim { scheme: Scheme::Rfc9421, key_id, at, expires, signature, label, messages })
}

/// Method, target and our name must be covered, each in one of the ways the standard offers (section 2.2).
fn check_coverage(asked: &Asked<'_>, covers: impl Fn(&str) -> bool) -> Result<(), SigFault> {
    let has_query = asked.bare_target().is_some();
    let path = covers("@path") && (covers("@query") || !has_query);
    if !covers("@method") {
        return Err(SigFault::Coverage { missing: "@method" });
    }
    if !(covers("@target-uri") || covers("@request-target") || path) {
        return Err(SigFault::Coverage { missing: "@target-uri (or @path and @query)" });
    }
    if !(covers("@target-uri") || covers("@authority") || covers("host")) {
        return Err(SigFault::Coverage { missing: "@target-uri, @authority or host" });
    }
    Ok(())
}

/// The value of one component (section 2.1 and 2.2).
fn component(asked: &Asked<'_>, name: &str) -> Result<Vec<u8>, SigFault> {
    let target = asked.request.target;
    let text = match name {
        "@method" => asked.request.method.as_str().to_owned(),
        "@target-uri" => format!("{}{}", asked.origin, target.split('#').next().unwrap_or_default()),
        "@authority" => {
            asked.origin.split_once("://").map_or(asked.origin, |(_scheme, authority)| authority).to_ascii_lowercase()
        }
        "@scheme" => asked.origin_url.scheme().to_owned(),
        "@request-target" => target.to_owned(),
        "@path" => asked.bare_target().unwrap_or(target).to_owned(),
        "@query" => format!("?{}", target.split_once('?').map_or("", |(_path, query)| query)),
        other if other.starts_with('@') => return Err(SigFault::UnknownComponent { name: shown(other) }),
        header if header.bytes().any(|byte| byte.is_ascii_uppercase()) => return Err(BAD_INPUT),
        header => return asked.header(header).map(<[u8]>::to_vec),
    };
    Ok(text.into_bytes())
}

fn with_params(base: &[u8], params: &str) -> Vec<u8> {
    [base, b"\"@signature-params\": ", params.as_bytes()].concat()
}

/// A `Signature-Input` with its one member.
struct Input {
    label: String,
    list: InnerList,
    /// The text after `label=`: as sent, and as the standard's serializer writes it where that differs.
    params: Vec<String>,
}

impl Input {
    fn parse(value: &[u8]) -> Result<Self, SigFault> {
        let members: Dictionary = Parser::new(value).parse().map_err(|_cause| BAD_INPUT)?;
        if members.len() > 1 {
            return Err(SigFault::Several);
        }
        let written = members.serialize().ok_or(BAD_INPUT)?;
        // The parser keeps the last of two equal keys; what it reads must be all there is.
        if squeezed(written.as_bytes()) != squeezed(value) {
            return Err(BAD_INPUT);
        }
        let raw = std::str::from_utf8(value).map_err(|_cause| BAD_INPUT)?;
        let after = |text: &str| text.split_once('=').map(|(_label, params)| params.trim_ascii().to_owned());
        let mut params = vec![after(raw).ok_or(BAD_INPUT)?, after(&written).ok_or(BAD_INPUT)?];
        params.dedup();
        match members.into_iter().next() {
            Some((label, ListEntry::InnerList(list))) => Ok(Self { label: label.as_str().to_owned(), list, params }),
            _ => Err(BAD_INPUT),
        }
    }

    fn covered(&self) -> Result<Vec<&str>, SigFault> {
        let mut covered = Vec::new();
        for item in &self.list.items {
            let name = item.bare_item.as_string().ok_or(BAD_INPUT)?.as_str();
            if !item.params.is_empty() {
                // `;sf`, `;key`, `;bs`, `;req`, `;tr`: nobody in the fediverse sends them.
                return Err(SigFault::UnknownComponent { name: shown(name) });
            }
            if covered.contains(&name) {
                return Err(SigFault::Repeated { name: shown(name) });
            }
            if covered.len() == MAX_COVERED {
                return Err(BAD_INPUT);
            }
            covered.push(name);
        }
        Ok(covered)
    }

    fn param(&self, name: &str) -> Option<&BareItem> {
        self.list.params.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, SigFault> {
        match self.param(name) {
            None => Ok(None),
            Some(value) => value.as_integer().map(|number| Some(i64::from(number))).ok_or(BAD_INPUT),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, SigFault> {
        match self.param(name) {
            None => Ok(None),
            Some(value) => value.as_string().map(|text| Some(text.as_str())).ok_or(BAD_INPUT),
        }
    }
}

/// The bytes under `label` in a `Signature` header that holds nothing else.
fn signature(value: &[u8], label: &str) -> Result<Vec<u8>, SigFault> {
    let members: Dictionary = Parser::new(value).parse().map_err(|_cause| BAD_SIGNATURE)?;
    if members.len() > 1 {
        return Err(SigFault::Several);
    }
    let written = members.serialize().ok_or(BAD_SIGNATURE)?;
    if squeezed(written.as_bytes()) != squeezed(value) {
        return Err(BAD_SIGNATURE);
    }
    match members.into_iter().next() {
        Some((name, ListEntry::Item(item))) if name.as_str() == label => match item.bare_item {
            BareItem::ByteSequence(bytes) if !bytes.is_empty() && bytes.len() <= MAX_SIGNATURE_BYTES => Ok(bytes),
            _ => Err(BAD_SIGNATURE),
        },
        _ => Err(BAD_SIGNATURE),
    }
}

/// A structured field without its blanks, for telling whether two texts say the same. Those in strings are no
/// difference: the parser hands strings through as they are.
pub(super) fn squeezed(field: &[u8]) -> Vec<u8> {
    field.iter().copied().filter(|byte| !matches!(byte, b' ' | b'\t')).collect()
}

/// Signs `@method` and `@target-uri`, with a body also `content-digest`, under the label `sig1`.
pub(super) fn sign(sending: &Sending<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) {
    let mut uri = sending.url.clone();
    uri.set_fragment(None);
    let mut covered = r#""@method" "@target-uri""#.to_owned();
    let mut base = format!("\"@method\": {}\n\"@target-uri\": {uri}\n", sending.method);
    if let Some(body) = sending.body {
        let digest = digest::content_digest_value(&body.digest);
        covered.push_str(r#" "content-digest""#);
        base.push_str(&format!("\"content-digest\": {digest}\n"));
        headers.push((HeaderName::from_static("content-digest"), header_value(&digest)));
    }
    let algorithm = if sending.key.is_ed25519() { "ed25519" } else { "rsa-v1_5-sha256" };
    let created = sending.at.secs();
    let key_id = sending.key.key_id();
    let params = format!(r#"({covered});created={created};keyid="{key_id}";alg="{algorithm}""#);
    let signature = STANDARD.encode(sending.key.sign(&with_params(base.as_bytes(), &params)));
    headers.push((SIGNATURE_INPUT, header_value(&format!("sig1={params}"))));
    headers.push((SIGNATURE, header_value(&format!("sig1=:{signature}:"))));
}

//! How simulated servers check what they receive: code of their own, so that the relay's signatures are judged by
//! somebody who did not write them. Draft-cavage-12 and RFC 9421, coverage, digest, host and date by the rules of each
//! family. Pure: [`claim`] reads everything that can be judged without the key; [`Claim::holds`] is the rest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use super::keys;
use super::ledger::{Outcome, Scheme};
use crate::clock::Timestamp;

/// Which profiles an inbox takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Cavage,
    Either,
    /// Answers 401 to draft-cavage, so that the sender knocks again with RFC 9421.
    Rfc9421Only,
}

/// How strict one family is about requests to its inboxes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) takes: Takes,
    /// What draft-cavage must cover, besides a digest on POST.
    pub(super) covered: &'static [&'static str],
    /// The oldest `Date`, in seconds.
    pub(super) past: i64,
    /// The furthest `Date` ahead, in seconds.
    pub(super) future: i64,
    /// `Digest` must be one value, named `SHA-256` to the letter.
    pub(super) exact_digest: bool,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// Path and query, raw.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
}

/// Why a request is refused: the class, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) Outcome, pub(super) String);

fn no<T>(outcome: Outcome, detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(outcome, detail.into()))
}

/// A signature that may be true: all is in order but for the key.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) scheme: Scheme,
    pub(super) key_id: String,
    /// The signed text, in the spellings that servers try (with the query string, then without).
    texts: Vec<String>,
    signature: Vec<u8>,
}

impl Claim {
    /// Whether the signature was made with the key in `public_pem`.
    pub(super) fn holds(&self, public_pem: &str) -> bool {
        self.texts.iter().any(|text| keys::holds(public_pem, text.as_bytes(), &self.signature))
    }
}

/// Reads the signature of `request` to the server at `origin` and checks all but the key.
pub(super) fn claim(request: &Request<'_>, rules: &Rules, origin: &str, now: Timestamp) -> Result<Claim, Refusal> {
    let modern = request.headers.contains_key("signature-input");
    if !modern && !request.headers.contains_key("signature") {
        return no(Outcome::Unsigned, "there is no signature");
    }
    match rules.takes {
        Takes::Cavage if modern => return no(Outcome::OtherProfile, "RFC 9421 is not spoken here"),
        Takes::Rfc9421Only if !modern => return no(Outcome::OtherProfile, "only RFC 9421 is taken here"),
        _ => {}
    }
    host(request, origin)?;
    if modern { rfc9421(request, rules, origin, now) } else { cavage(request, rules, now) }
}

/// The name must be ours; the port is compared only if the header has one.
fn host(request: &Request<'_>, origin: &str) -> Result<(), Refusal> {
    let ours = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    let bare = ours.rsplit_once(':').map_or(ours, |(host, _)| host);
    let mut hosts = request.headers.get_all("host").iter();
    match (hosts.next().and_then(|value| value.to_str().ok()), hosts.next()) {
        (Some(host), None) if host == ours || host == bare => Ok(()),
        (host, _) => no(Outcome::Host, format!("Host is {host:?}, this is {ours}")),
    }
}

fn window(at: Timestamp, rules: &Rules, now: Timestamp) -> Result<(), Refusal> {
    let age = now.secs() - at.secs();
    if age > rules.past {
        return no(Outcome::Date, format!("dated {age} seconds ago, at most {} are taken", rules.past));
    }
    if -age > rules.future {
        return no(Outcome::Date, format!("dated {} seconds ahead, at most {} are taken", -age, rules.future));
    }
    Ok(())
}

fn cavage(request: &Request<'_>, rules: &Rules, now: Timestamp) -> Result<Claim, Refusal> {
    let line = header(request.headers, "signature");
    let params = parameters(&line)?;
    let find = |name: &str| params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let (Some(key_id), Some(signature)) = (find("keyId"), find("signature")) else {
        return no(Outcome::Malformed, "keyId or signature is missing");
    };
    let algorithm = find("algorithm").unwrap_or("hs2019");
    if !matches!(algorithm, "rsa-sha256" | "hs2019") {
        return no(Outcome::Malformed, format!("algorithm {algorithm} is not known"));
    }
    let default = if algorithm == "hs2019" { "(created)" } else { "date" };
    let covered: Vec<String> = find("headers").unwrap_or(default).split(' ').map(str::to_ascii_lowercase).collect();
    let covers = |name: &str| covered.iter().any(|known| known == name);
    if !(covers("date") || covers("(created)")) {
        return no(Outcome::Uncovered, "neither date nor (created) is signed");
    }
    if let Some(missing) = rules.covered.iter().find(|name| !covers(name)) {
        return no(Outcome::Uncovered, format!("{missing} is not signed"));
    }
    if request.method == "POST" {
        if !covers("digest") {
            return no(Outcome::Uncovered, "digest is not signed");
        }
        digest(request, rules)?;
    }
    let at = match find("created") {
        Some(created) if covers("(created)") => created.parse().ok().map(Timestamp::from_secs),
        _ => Timestamp::from_http_date(&header(request.headers, "date")),
    };
    let Some(at) = at else { return no(Outcome::Date, "there is no readable date") };
    window(at, rules, now)?;
    let Ok(signature) = STANDARD.decode(signature) else {
        return no(Outcome::Malformed, "the signature is not base64");
    };
    let text = |target: &str| {
        let line = |name: &String| match name.as_str() {
            "(request-target)" => format!("(request-target): {} {target}", request.method.to_ascii_lowercase()),
            "(created)" => format!("(created): {}", find("created").unwrap_or_default()),
            other => format!("{other}: {}", header(request.headers, other)),
        };
        covered.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let without_query = request.target.split('?').next().unwrap_or_default();
    let texts = vec![text(request.target), text(without_query)];
    Ok(Claim { scheme: Scheme::Cavage, key_id: key_id.to_owned(), texts, signature })
}

fn digest(request: &Request<'_>, rules: &Rules) -> Result<(), Refusal> {
    let line = header(request.headers, "digest");
    let ours = STANDARD.encode(Sha256::digest(request.body));
    let matches = if rules.exact_digest {
        line == format!("SHA-256={ours}")
    } else {
        line.split(',').any(|member| {
            member.split_once('=').is_some_and(|(name, hash)| name.eq_ignore_ascii_case("sha-256") && hash == ours)
        })
    };
    if matches { Ok(()) } else { no(Outcome::Digest, format!("Digest says {line}, the body is {ours}")) }
}

fn rfc9421(request: &Request<'_>, rules: &Rules, origin: &str, now: Timestamp) -> Result<Claim, Refusal> {
    let line = header(request.headers, "signature-input");
    let malformed = || Refusal(Outcome::Malformed, format!("Signature-Input is unreadable: {line}"));
    // One label only: a second one would show as a comma outside of quotes, which no parameter of ours holds.
    let (label, params) = line.split_once('=').filter(|_| !line.contains(',')).ok_or_else(malformed)?;
    let (list, tail) = params.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(malformed)?;
    let covered: Vec<&str> = list.split_ascii_whitespace().map(|name| name.trim_matches('"')).collect();
    let find = |name: &str| {
        let values = tail.split(';').filter_map(|part| part.trim().split_once('='));
        values.filter(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"')).next()
    };
    let (Some(key_id), Some(created)) = (find("keyid"), find("created").and_then(|text| text.parse().ok())) else {
        return no(Outcome::Malformed, "keyid or created is missing");
    };
    let mut needed = vec!["@method", "@target-uri"];
    if request.method == "POST" {
        needed.push("content-digest");
        let hash = STANDARD.encode(Sha256::digest(request.body));
        let said = header(request.headers, "content-digest");
        if !said.split(',').any(|member| member.trim() == format!("sha-256=:{hash}:")) {
            return no(Outcome::Digest, format!("Content-Digest says {said}, the body is {hash}"));
        }
    }
    if let Some(missing) = needed.iter().find(|name| !covered.contains(name)) {
        return no(Outcome::Uncovered, format!("{missing} is not signed"));
    }
    window(Timestamp::from_secs(created), rules, now)?;
    let signature = header(request.headers, "signature");
    let encoded = signature.strip_prefix(label).and_then(|rest| rest.strip_prefix("=:")?.strip_suffix(':'));
    let Some(signature) = encoded.and_then(|text| STANDARD.decode(text).ok()) else {
        return no(Outcome::Malformed, "Signature does not hold that label");
    };
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut text = String::new();
    for name in covered {
        let value = match name {
            "@method" => request.method.to_owned(),
            "@target-uri" => format!("{origin}{}", request.target),
            "@authority" => origin.split_once("://").map_or(origin, |(_, authority)| authority).to_owned(),
            "@path" => path.to_owned(),
            "@query" => format!("?{query}"),
            other => header(request.headers, other),
        };
        text.push_str(&format!("\"{name}\": {value}\n"));
    }
    text.push_str(&format!("\"@signature-params\": {params}"));
    Ok(Claim { scheme: Scheme::Rfc9421, key_id: key_id.to_owned(), texts: vec![text], signature })
}

/// `name="value"` pairs with commas between; a leading word `Signature` is let pass, as Mastodon does.
fn parameters(line: &str) -> Result<Vec<(String, String)>, Refusal> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = line.strip_prefix("Signature ").unwrap_or(line).trim_start();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            return no(Outcome::Malformed, format!("Signature is unreadable: {line}"));
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if found.iter().any(|(known, _)| known == name.trim()) {
            return no(Outcome::Malformed, format!("{name} is there twice"));
        }
        found.push((name.trim().to_owned(), value.to_owned()));
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(found)
}

/// All lines of that name, as a signer joins them.
fn header(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.map(str::trim).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use url::Url;

    use super::*;
    use crate::demo::client::Letter;
    use crate::demo::sign::{self, Profile, Signer, Tweaks};

    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);
    const ORIGIN: &str = "http://127.0.0.1:4001";
    const CAVAGE: Profile = Profile::Cavage {
        algorithm: "rsa-sha256",
        post: &["(request-target)", "host", "date", "digest", "content-type"],
        get: &["(request-target)", "host", "date"],
    };
    const RFC9421: Profile = Profile::Rfc9421 {
        label: "sig1",
        post: &["@method", "@target-uri", "content-digest"],
        get: &["@method", "@target-uri"],
    };
    const STRICT: Rules = Rules {
        takes: Takes::Either,
        covered: &["(request-target)", "host", "date"],
        past: 300,
        future: 300,
        exact_digest: true,
    };

    fn judge(letter: &Letter, rules: &Rules) -> Result<bool, Outcome> {
        let mut headers = HeaderMap::new();
        for (name, value) in &letter.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("test header");
            headers.append(name, HeaderValue::from_str(value).expect("test header"));
        }
        let target = letter.url.path();
        let request = Request { method: letter.method, target, headers: &headers, body: &letter.body };
        let claim = claim(&request, rules, ORIGIN, NOW).map_err(|Refusal(outcome, _)| outcome)?;
        Ok(claim.holds(keys::key(1).public_pem()))
    }

    fn sent(profile: Profile, tweaks: &Tweaks) -> Letter {
        let signer = Signer { key_id: "http://127.0.0.1:1/a#k".to_owned(), key: keys::key(1), bare_host: false };
        let url = Url::parse("http://127.0.0.1:4001/inbox").expect("test url");
        sign::post(url, Bytes::from(r#"{"a":1}"#), &signer, profile, NOW, tweaks)
    }

    #[test]
    fn honest_requests_pass_in_both_profiles() {
        assert_eq!(judge(&sent(CAVAGE, &Tweaks::default()), &STRICT), Ok(true));
        assert_eq!(judge(&sent(RFC9421, &Tweaks::default()), &STRICT), Ok(true));
    }

    #[test]
    fn every_lie_is_found() {
        let check = |tweaks: Tweaks, expected: Result<bool, Outcome>| {
            for profile in [CAVAGE, RFC9421] {
                assert_eq!(judge(&sent(profile, &tweaks), &STRICT), expected, "{profile:?} {tweaks:?}");
            }
        };
        let plain = Tweaks::default;
        check(Tweaks { unsigned: true, ..plain() }, Err(Outcome::Unsigned));
        check(Tweaks { spoilt: true, ..plain() }, Ok(false));
        check(Tweaks { signed_with: Some(2), ..plain() }, Ok(false));
        check(Tweaks { target: Some("/users/a/inbox".to_owned()), ..plain() }, Ok(false));
        check(Tweaks { body_swapped: Some(Bytes::from("{}")), ..plain() }, Err(Outcome::Digest));
        check(Tweaks { host: Some("other.example".to_owned()), ..plain() }, Err(Outcome::Host));
        check(Tweaks { date: Some(Timestamp::from_secs(NOW.secs() - 301)), ..plain() }, Err(Outcome::Date));
        check(Tweaks { date: Some(Timestamp::from_secs(NOW.secs() + 301)), ..plain() }, Err(Outcome::Date));
        check(Tweaks { covered: Some(vec!["date".to_owned()]), ..plain() }, Err(Outcome::Uncovered));
    }

    #[test]
    fn a_server_that_wants_one_profile_refuses_the_other() {
        let only = |takes| Rules { takes, ..STRICT };
        let (old, new) = (sent(CAVAGE, &Tweaks::default()), sent(RFC9421, &Tweaks::default()));
        assert_eq!(judge(&old, &only(Takes::Rfc9421Only)), Err(Outcome::OtherProfile));
        assert_eq!(judge(&new, &only(Takes::Rfc9421Only)), Ok(true));
        assert_eq!(judge(&new, &only(Takes::Cavage)), Err(Outcome::OtherProfile));
    }

    #[test]
    fn a_digest_spelt_otherwise_passes_only_where_nobody_compares_literally() {
        let hash = STANDARD.encode(Sha256::digest(br#"{"a":1}"#));
        let letter = sent(CAVAGE, &Tweaks { digest: Some(format!("sha-256={hash}")), ..Tweaks::default() });
        assert_eq!(judge(&letter, &STRICT), Err(Outcome::Digest));
        assert_eq!(judge(&letter, &Rules { exact_digest: false, ..STRICT }), Ok(true));
    }

    #[test]
    fn a_host_without_the_port_is_ours_all_the_same() {
        let letter = sent(CAVAGE, &Tweaks { host: Some("127.0.0.1".to_owned()), ..Tweaks::default() });
        assert_eq!(judge(&letter, &STRICT), Ok(true));
    }
}

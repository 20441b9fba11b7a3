//! How simulated servers sign what they send: draft-cavage-12 with each family's own list of covered headers, or
//! RFC 9421. Pure: times and keys are arguments. [`Tweaks`] are the ways in which a test can lie.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Uri;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::client::Letter;
use super::keys::{Key, key};
use crate::clock::Timestamp;

/// A signature profile: how a family signs, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// draft-cavage-http-signatures-12.
    Cavage {
        /// The `algorithm` parameter; both names mean RSA PKCS#1 v1.5 with SHA-256.
        algorithm: &'static str,
        /// Covered by a POST, in this order.
        post: &'static [&'static str],
        /// Covered by a GET, in this order.
        get: &'static [&'static str],
    },
    /// RFC 9421 with RFC 9530's `Content-Digest`.
    Rfc9421 {
        /// The one signature's label.
        label: &'static str,
        /// Covered by a POST, in this order.
        post: &'static [&'static str],
        /// Covered by a GET, in this order.
        get: &'static [&'static str],
    },
}

/// What to do differently from an honest sender. Everything left at its default is done right.
#[derive(Clone, Debug, Default)]
pub struct Tweaks {
    /// Sign with this profile instead of the family's.
    pub profile: Option<Profile>,
    /// `Date` (cavage) or `created` (RFC 9421) instead of the instance's own time.
    pub date: Option<Timestamp>,
    /// The `Host` header, signed as it stands.
    pub host: Option<String>,
    /// The whole value of `Digest` (cavage) or `Content-Digest` (RFC 9421), signed as it stands.
    pub digest: Option<String>,
    /// The covered components, instead of the profile's.
    pub covered: Option<Vec<String>>,
    /// The key id to claim.
    pub key_id: Option<String>,
    /// The number of the pool's key to sign with, instead of the signer's own.
    pub signed_with: Option<usize>,
    /// The `algorithm` to claim (cavage only).
    pub algorithm: Option<String>,
    /// The path and query to sign for, instead of the one requested.
    pub target: Option<String>,
    /// The content type, instead of `application/activity+json`.
    pub content_type: Option<String>,
    /// Send no signature at all.
    pub unsigned: bool,
    /// Flip a bit of the signature.
    pub spoilt: bool,
    /// Send this body, though another was signed.
    pub body_swapped: Option<Bytes>,
    /// Header lines set after signing, replacing those of the same name.
    pub headers: Vec<(String, String)>,
    /// Names of header lines taken away after signing.
    pub without: Vec<String>,
    /// Send to this URL instead of the relay's inbox.
    pub url: Option<String>,
}

/// Who signs: the key id as published, and the key.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    pub(super) key_id: String,
    pub(super) key: &'static Key,
    /// Mastodon leaves the port out of `Host`, even where it is not the default one.
    pub(super) bare_host: bool,
}

/// A signed POST of an activity.
pub(super) fn post(
    url: Url,
    body: Bytes,
    signer: &Signer,
    profile: Profile,
    now: Timestamp,
    tweaks: &Tweaks,
) -> Letter {
    let mut letter = Letter { method: "POST", url, headers: Vec::new(), body };
    let content_type = tweaks.content_type.clone().unwrap_or_else(|| "application/activity+json".to_owned());
    letter.headers.push(("content-type".to_owned(), content_type));
    letter.headers.push(("content-length".to_owned(), letter.body.len().to_string()));
    sign(&mut letter, signer, tweaks.profile.unwrap_or(profile), now, tweaks);
    // The real length goes on the wire by the client's hand; here it only had to be signed.
    letter.headers.retain(|(name, _)| name != "content-length");
    if let Some(body) = &tweaks.body_swapped {
        letter.body = body.clone();
    }
    letter
}

/// A signed GET of a document.
pub(super) fn get(url: Url, signer: &Signer, profile: Profile, now: Timestamp) -> Letter {
    let mut letter = Letter { method: "GET", url, headers: Vec::new(), body: Bytes::new() };
    letter.headers.push(("accept".to_owned(), "application/activity+json, application/ld+json".to_owned()));
    sign(&mut letter, signer, profile, now, &Tweaks::default());
    letter
}

fn sign(letter: &mut Letter, signer: &Signer, profile: Profile, now: Timestamp, tweaks: &Tweaks) {
    let at = tweaks.date.unwrap_or(now);
    let host = tweaks.host.clone().unwrap_or_else(|| host_of(&letter.url, signer.bare_host));
    letter.headers.push(("host".to_owned(), host));
    letter.headers.push(("date".to_owned(), at.http_date()));
    let hash = STANDARD.encode(Sha256::digest(&letter.body));
    let is_post = letter.method == "POST";
    let key = tweaks.signed_with.map_or(signer.key, key);
    let key_id = tweaks.key_id.as_deref().unwrap_or(&signer.key_id);
    match profile {
        Profile::Cavage { algorithm, post, get } => {
            if is_post {
                let digest = tweaks.digest.clone().unwrap_or_else(|| format!("SHA-256={hash}"));
                letter.headers.push(("digest".to_owned(), digest));
            }
            let covered = covered(tweaks, if is_post { post } else { get });
            let signature = finish(key.sign(cavage_text(letter, &covered, at, tweaks).as_bytes()), tweaks);
            let algorithm = tweaks.algorithm.as_deref().unwrap_or(algorithm);
            let created = covered.iter().any(|name| name == "(created)");
            let created = if created { format!(r#",created={}"#, at.secs()) } else { String::new() };
            let value = format!(
                r#"keyId="{key_id}",algorithm="{algorithm}"{created},headers="{}",signature="{signature}""#,
                covered.join(" ")
            );
            letter.headers.push(("signature".to_owned(), value));
        }
        Profile::Rfc9421 { label, post, get } => {
            if is_post {
                let digest = tweaks.digest.clone().unwrap_or_else(|| format!("sha-256=:{hash}:"));
                letter.headers.push(("content-digest".to_owned(), digest));
            }
            let covered = covered(tweaks, if is_post { post } else { get });
            let quoted: Vec<String> = covered.iter().map(|name| format!("\"{name}\"")).collect();
            let params =
                format!(r#"({});created={};keyid="{key_id}";alg="rsa-v1_5-sha256""#, quoted.join(" "), at.secs());
            let base = rfc9421_base(letter, &covered, &params, tweaks);
            let signature = finish(key.sign(base.as_bytes()), tweaks);
            letter.headers.push(("signature-input".to_owned(), format!("{label}={params}")));
            letter.headers.push(("signature".to_owned(), format!("{label}=:{signature}:")));
        }
    }
    if tweaks.unsigned {
        letter.headers.retain(|(name, _)| name != "signature" && name != "signature-input");
    }
    letter.headers.retain(|(name, _)| !tweaks.without.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
    for (name, value) in &tweaks.headers {
        letter.headers.retain(|(old, _)| !old.eq_ignore_ascii_case(name));
        letter.headers.push((name.clone(), value.clone()));
    }
}

fn covered(tweaks: &Tweaks, usual: &[&str]) -> Vec<String> {
    tweaks.covered.clone().unwrap_or_else(|| usual.iter().map(|&name| name.to_owned()).collect())
}

fn finish(mut signature: Vec<u8>, tweaks: &Tweaks) -> String {
    if tweaks.spoilt
        && let Some(byte) = signature.first_mut()
    {
        *byte ^= 1;
    }
    STANDARD.encode(signature)
}

fn cavage_text(letter: &Letter, covered: &[String], at: Timestamp, tweaks: &Tweaks) -> String {
    let line = |name: &String| match name.as_str() {
        "(request-target)" => {
            format!("(request-target): {} {}", letter.method.to_ascii_lowercase(), target_of(letter, tweaks))
        }
        "(created)" => format!("(created): {}", at.secs()),
        header => format!("{header}: {}", value_of(letter, header)),
    };
    covered.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn rfc9421_base(letter: &Letter, covered: &[String], params: &str, tweaks: &Tweaks) -> String {
    let target = target_of(letter, tweaks);
    let (path, query) = target.split_once('?').map_or((target.as_str(), ""), |(path, query)| (path, query));
    let authority = host_of(&letter.url, false);
    let mut base = String::new();
    for name in covered {
        let value = match name.as_str() {
            "@method" => letter.method.to_owned(),
            "@target-uri" => format!("{}://{authority}{target}", letter.url.scheme()),
            "@authority" => authority.clone(),
            "@path" => path.to_owned(),
            "@query" => format!("?{query}"),
            header => value_of(letter, header),
        };
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {params}"));
    base
}

fn target_of(letter: &Letter, tweaks: &Tweaks) -> String {
    let requested = || letter.url.as_str().parse::<Uri>().ok()?.path_and_query().map(ToString::to_string);
    tweaks.target.clone().or_else(requested).unwrap_or_else(|| "/".to_owned())
}

fn value_of(letter: &Letter, header: &str) -> String {
    let values = letter.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
    values.map(|(_, value)| value.trim()).collect::<Vec<_>>().join(", ")
}

fn host_of(url: &Url, bare: bool) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) if !bare => format!("{host}:{port}"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        let signer = Signer { key_id: "http://127.0.0.1:1/actor#main-key".to_owned(), key: key(0), bare_host: true };
        let profile = Profile::Cavage {
            algorithm: "rsa-sha256",
            post: &["host", "date", "digest", "content-type", "(request-target)"],
            get: &["host"],
        };
        let url = Url::parse("http://127.0.0.1:2/inbox").expect("test url");
        post(url, Bytes::from("{}"), &signer, profile, Timestamp::from_secs(1_787_486_400), &Tweaks::default())
    }

    #[test]
    fn the_signing_string_is_mastodons() {
        let text = cavage_text(
            &letter(),
            &["host", "date", "digest", "content-type", "(request-target)"].map(str::to_owned),
            Timestamp::default(),
            &Tweaks::default(),
        );
        assert_eq!(
            text,
            "host: 127.0.0.1\ndate: Sun, 23 Aug 2026 12:00:00 GMT\n\
             digest: SHA-256=RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=\n\
             content-type: application/activity+json\n(request-target): post /inbox"
        );
    }

    #[test]
    fn the_signature_base_is_that_of_rfc_9421() {
        let base = rfc9421_base(
            &letter(),
            &["@method", "@target-uri", "@authority", "@path", "@query"].map(str::to_owned),
            "(..)",
            &Tweaks { target: Some("/inbox?a=1".to_owned()), ..Tweaks::default() },
        );
        assert_eq!(
            base,
            "\"@method\": POST\n\"@target-uri\": http://127.0.0.1:2/inbox?a=1\n\"@authority\": 127.0.0.1:2\n\
             \"@path\": /inbox\n\"@query\": ?a=1\n\"@signature-params\": (..)"
        );
    }
}

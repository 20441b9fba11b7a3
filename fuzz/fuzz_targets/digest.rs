//! `Digest` and `Content-Digest`: the first line of an input is the one, the second the other (empty: none), the rest is
//! the body. A signature over a header that passes proves the body: the header holds its true hash, and no other body
//! passes with it. What we send ourselves always passes.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256, Sha512};
use shearwater_fuzz::Sample;

const ORIGIN: &str = "https://relay.example";

fn sample(digest: &[u8], content_digest: &[u8], body: &[u8]) -> Option<Sample> {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("relay.example"));
    headers.insert("date", HeaderValue::from_static("Sun, 23 Aug 2026 12:00:00 GMT"));
    let mut covered = "(request-target) host date".to_owned();
    for (name, value) in [("digest", digest), ("content-digest", content_digest)] {
        if !value.is_empty() {
            headers.insert(name, HeaderValue::from_bytes(value).ok()?);
            covered = format!("{covered} {name}");
        }
    }
    let signature = format!(r#"keyId="k",headers="{covered}",signature="AAAA""#);
    headers.insert("signature", HeaderValue::try_from(signature).ok()?);
    Some(Sample { method: Method::POST, target: "/inbox".to_owned(), headers, body: body.to_vec() })
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let (Some(digest), Some(content_digest), Some(body)) = (parts.next(), parts.next(), parts.next()) else { return };
    let hashes = [STANDARD.encode(Sha256::digest(body)), STANDARD.encode(Sha512::digest(body))];

    if let Some(sent) = sample(digest, content_digest, body)
        && sent.read(ORIGIN).is_ok()
    {
        for value in [digest, content_digest].into_iter().filter(|value| !value.is_empty()) {
            let text = std::str::from_utf8(value).unwrap();
            assert!(hashes.iter().any(|hash| text.contains(hash.as_str())), "{text} proves nothing");
        }
        assert!(!digest.is_empty() || !content_digest.is_empty());
        for other in [&body[..body.len() / 2], b"", b"{}", &[body, b" "].concat()] {
            if other != body {
                let fault = Sample { body: other.to_vec(), ..sent.clone() }.read(ORIGIN).unwrap_err();
                assert_eq!(fault.check(), "digest");
            }
        }
    }

    let ours = format!("SHA-256={}", hashes[0]);
    assert!(sample(ours.as_bytes(), b"", body).unwrap().read(ORIGIN).is_ok());
    let ours = format!("sha-256=:{}:, sha-512=:{}:", hashes[0], hashes[1]);
    assert!(sample(b"", ours.as_bytes(), body).unwrap().read(ORIGIN).is_ok());
});

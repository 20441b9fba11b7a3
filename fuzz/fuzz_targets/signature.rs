//! Requests with signatures of both profiles. Whatever headers are sent:
//!
//! * a claim is only made of what the standards' own words ask for: target, host, a near time, a bounded signature;
//! * a claim about a request with a body covers that body: one bit more or less, and it is refused;
//! * a signature that one of the fixtures' keys confirms means that the request is what that key's owner signed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use shearwater::wire::http_sig::Scheme;
use shearwater::wire::key::PublicKey;
use shearwater_fuzz::{NOON, Sample};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/", $name))
    };
}

static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    let pems: [&[u8]; 3] = [
        fixture!("keys/subscriber.rsa.spki.pem"),
        fixture!("keys/relay.rsa.spki.pem"),
        fixture!("keys/relay.ed25519.spki.pem"),
    ];
    pems.iter().map(|pem| PublicKey::from_pem(std::str::from_utf8(pem).unwrap()).unwrap()).collect()
});

/// All that these keys ever signed. The body is as `seeds/signature` has it, without a newline of the file's.
static SIGNED: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let files: [&[u8]; 5] = [
        fixture!("signed/cavage-follow.http"),
        fixture!("signed/cavage-announce.http"),
        fixture!("signed/cavage-get.http"),
        fixture!("signed/rfc9421-announce.http"),
        fixture!("signed/rfc9421-get.http"),
    ];
    files
        .iter()
        .map(|file| {
            let mut sample = Sample::parse(file).unwrap();
            sample.body.truncate(sample.body.trim_ascii_end().len());
            sample
        })
        .collect()
});

fuzz_target!(|data: &[u8]| {
    let Some(sample) = Sample::parse(data) else { return };
    for origin in ["https://relay.example", "https://small.example", "https://origin.example"] {
        let Ok(claim) = sample.read(origin) else { continue };
        assert!(!claim.key_id.is_empty() && claim.key_id.len() <= 2048);
        assert!((1..=1024).contains(&claim.signature.len()));
        assert!((claim.at.secs() - NOON.secs()).abs() <= 3600, "signed at {:?}", claim.at);
        assert!(claim.expires.is_none_or(|at| (0..=24 * 3600).contains(&(at.secs() - NOON.secs()))));

        let input = String::from_utf8_lossy(sample.header("signature-input")).to_ascii_lowercase();
        let signature = String::from_utf8_lossy(sample.header("signature")).to_ascii_lowercase();
        match claim.scheme {
            Scheme::Cavage => {
                assert!(!sample.headers.contains_key("signature-input"));
                assert!(signature.contains("(request-target)") && signature.contains("host"));
                let host = String::from_utf8_lossy(sample.header("host")).to_ascii_lowercase();
                let bare = host.strip_suffix(":443").unwrap_or(&host);
                assert_eq!(Some(bare), origin.strip_prefix("https://"), "another host's request");
            }
            Scheme::Rfc9421 => {
                assert!(input.contains("\"@method\"") && input.contains("created") && input.contains("keyid"));
            }
        }

        let carries = !sample.body.is_empty() || !matches!(sample.method.as_str(), "GET" | "HEAD");
        if carries {
            let mut longer = sample.clone();
            longer.body.push(0);
            assert_eq!(longer.read(origin).unwrap_err().check(), "digest");
            if !sample.body.is_empty() {
                let mut flipped = sample.clone();
                let at = data.len() % flipped.body.len();
                flipped.body[at] ^= 1 << (data.len() % 8);
                assert_eq!(flipped.read(origin).unwrap_err().check(), "digest");
            }
        }
        if KEYS.iter().any(|key| claim.verify(key)) {
            let known = SIGNED.iter().any(|signed| {
                signed.method == sample.method
                    && signed.path() == sample.path()
                    && signed.body == sample.body
                    && (claim.scheme == Scheme::Cavage || signed.target == sample.target)
                    && (sample.headers.get("date") == signed.headers.get("date") || claim.scheme == Scheme::Rfc9421)
            });
            assert!(known, "a signature stands for a request that nobody signed");
        }
    }
});

//! What we promise about signatures: the vectors, then tables of everything that can be wrong, then random input.

use proptest::prelude::*;

use super::*;
use crate::ids::Iri;

const FOLLOW: &str = include_str!("../../../tests/fixtures/signed/cavage-follow.http");
const ANNOUNCE: &str = include_str!("../../../tests/fixtures/signed/cavage-announce.http");
const GET: &str = include_str!("../../../tests/fixtures/signed/cavage-get.http");
const ANNOUNCE_9421: &str = include_str!("../../../tests/fixtures/signed/rfc9421-announce.http");
const GET_9421: &str = include_str!("../../../tests/fixtures/signed/rfc9421-get.http");
const ED25519_BASE: &str = include_str!("../../../tests/fixtures/signed/rfc9421-announce-ed25519.signature-base.txt");
const ED25519_SIGNATURE: &str = include_str!("../../../tests/fixtures/signed/rfc9421-announce-ed25519.signature.txt");
const RELAY_PEM: &str = include_str!("../../../tests/fixtures/keys/relay.rsa.pk8.pem");
const RELAY_ED25519_PEM: &str = include_str!("../../../tests/fixtures/keys/relay.ed25519.pk8.pem");
const RELAY_PUBLIC: &str = include_str!("../../../tests/fixtures/keys/relay.rsa.spki.pem");
const SUBSCRIBER_PEM: &str = include_str!("../../../tests/fixtures/keys/subscriber.rsa.pk8.pem");
const SUBSCRIBER_PUBLIC: &str = include_str!("../../../tests/fixtures/keys/subscriber.rsa.spki.pem");

/// Sunday, 23 August 2026, 12:00:00 UTC: when everything in the vectors was signed.
const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

#[derive(Clone, Debug)]
struct Sample {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sample {
    fn parse(text: &str) -> Self {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").expect("a blank line");
        let mut lines = head.lines();
        let mut request_line = lines.next().expect("a request line").split(' ');
        let method = request_line.next().expect("a method").parse().expect("a method");
        let target = request_line.next().expect("a target").to_owned();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            headers.append(HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"));
        }
        let body = body.trim_end_matches('\n').as_bytes().to_vec();
        Self { method, target, headers, body }
    }

    fn read_as(&self, origin: &str, now: Timestamp) -> Result<Claim, SigFault> {
        read(&Request { method: &self.method, target: &self.target, headers: &self.headers }, &self.body, origin, now)
    }

    fn read(&self) -> Result<Claim, SigFault> {
        self.read_as("https://relay.example", NOON)
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        self
    }

    fn twice(mut self, name: &'static str) -> Self {
        let value = self.headers.get(name).expect("the header").clone();
        self.headers.append(name, value);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Signs again with draft-cavage over `covered`, written down here independently of the code under test.
    fn cavage(self, covered: &str, algorithm: &str, more: &str) -> Self {
        self.cavage_with(covered, algorithm, more, None)
    }

    fn cavage_with(self, covered: &str, algorithm: &str, more: &str, target: Option<&str>) -> Self {
        let mut lines = Vec::new();
        for name in covered.split(' ') {
            let param = |name: &str| {
                let tail = more.split_once(&format!("{name}=")).map_or("", |(_, tail)| tail);
                tail.split(',').next().unwrap_or_default().trim_matches('"').to_owned()
            };
            let value = match name {
                "(request-target)" => {
                    format!("{} {}", self.method.as_str().to_lowercase(), target.unwrap_or(&self.target))
                }
                "(created)" => param("created"),
                "(expires)" => param("expires"),
                name => self.headers.get(name).map(|v| v.to_str().expect("text").to_owned()).unwrap_or_default(),
            };
            lines.push(format!("{name}: {value}"));
        }
        let signature = base64(&subscriber().sign(lines.join("\n").as_bytes()));
        let algorithm = if algorithm.is_empty() { String::new() } else { format!(r#"algorithm="{algorithm}","#) };
        let value = format!(
            r#"keyId="https://small.example/actor#main-key",{algorithm}headers="{covered}"{more},signature="{signature}""#
        );
        self.with("signature", &value)
    }

    /// Signs again with RFC 9421; `values` are the component lines.
    fn rfc9421(self, lines: &[(&str, &str)], params: &str) -> Self {
        let names: Vec<String> = lines.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let input = format!("({}){params}", names.join(" "));
        let mut base: String = lines.iter().map(|(name, value)| format!("\"{name}\": {value}\n")).collect();
        base.push_str(&format!("\"@signature-params\": {input}"));
        let signature = base64(&subscriber().sign(base.as_bytes()));
        self.with("signature-input", &format!("s={input}")).with("signature", &format!("s=:{signature}:"))
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn iri(text: &str) -> Iri {
    Iri::parse(text).expect("an id")
}

fn key(pem: &str, id: &str) -> SigningKey {
    SigningKey::from_pem(iri(id), pem).expect("a key")
}

fn subscriber() -> SigningKey {
    key(SUBSCRIBER_PEM, "https://small.example/actor#main-key")
}

fn relay() -> SigningKey {
    key(RELAY_PEM, "https://relay.example/actor#main-key")
}

fn relay_ed25519() -> SigningKey {
    key(RELAY_ED25519_PEM, "https://relay.example/actor#ed25519-key")
}

fn public(pem: &str) -> PublicKey {
    PublicKey::from_pem(pem).expect("a key")
}

fn follow() -> Sample {
    Sample::parse(FOLLOW)
}

/// The Follow without its signature, with both digests, to be signed anew.
fn unsigned() -> Sample {
    let follow = follow();
    let digest = digest::content_digest_value(&Body::of(&follow.body).digest);
    follow.without("signature").with("content-digest", &digest)
}

const DATE_9421: &str = ";created=1787486400;keyid=\"https://small.example/actor#main-key\"";

fn lines_9421(sample: &Sample) -> [(&'static str, String); 3] {
    let digest = sample.headers.get("content-digest").expect("it").to_str().expect("text").to_owned();
    [
        ("@method", "POST".to_owned()),
        ("@target-uri", "https://relay.example/inbox".to_owned()),
        ("content-digest", digest),
    ]
}

fn good_9421() -> Sample {
    let sample = unsigned();
    let lines = lines_9421(&sample);
    let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    sample.rfc9421(&lines, DATE_9421)
}

#[test]
fn every_signed_vector_verifies_with_its_key_and_no_other() {
    let relay = public(RELAY_PUBLIC);
    let subscriber = public(SUBSCRIBER_PUBLIC);
    let relay_id = "https://relay.example/actor#main-key";
    let vectors = [
        (FOLLOW, "https://relay.example", Scheme::Cavage, "https://small.example/actor#main-key", &subscriber, &relay),
        (ANNOUNCE, "https://small.example", Scheme::Cavage, relay_id, &relay, &subscriber),
        (GET, "https://origin.example", Scheme::Cavage, relay_id, &relay, &subscriber),
        (ANNOUNCE_9421, "https://small.example", Scheme::Rfc9421, relay_id, &relay, &subscriber),
        (GET_9421, "https://origin.example", Scheme::Rfc9421, relay_id, &relay, &subscriber),
    ];
    for (text, origin, scheme, key_id, right, wrong) in vectors {
        let claim = Sample::parse(text).read_as(origin, NOON).expect(text);
        assert_eq!((claim.scheme, claim.key_id.as_str(), claim.at), (scheme, key_id, NOON));
        assert!(claim.verify(right), "{text}");
        assert!(!claim.verify(wrong), "{text}");
    }
}

#[test]
fn the_ed25519_vector_verifies() {
    let params = ED25519_BASE.trim_end().rsplit_once("\"@signature-params\": ").expect("params").1;
    let sample = Sample::parse(ANNOUNCE_9421)
        .with("signature-input", &format!("sig1={params}"))
        .with("signature", &format!("sig1=:{}:", ED25519_SIGNATURE.trim()));
    let claim = sample.read_as("https://small.example", NOON).expect("a claim");
    assert!(claim.verify(&relay_ed25519().public()));
    assert!(!claim.verify(&public(RELAY_PUBLIC)));
}

/// The relay's deterministic signature over a text that was written down here, not by the code under test.
#[test]
fn a_shared_signature_is_the_same_for_every_host_and_our_own_inbox_takes_none() {
    let body = br#"{"type":"Announce"}"#;
    let sign_for = |inbox: &str| sign_shared(&relay(), &Url::parse(inbox).expect("a URL"), &Body::of(body), NOON);
    let made = sign_for("https://one.example/inbox?a=b");
    assert_eq!(made, sign_for("https://two.example:8443/inbox?a=b#part"));
    assert_ne!(made, sign_for("https://one.example/actor/inbox?a=b"));
    let names: Vec<&str> = made.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["date", "content-type", "digest", "signature"]);
    let digest = base64(&Sha256::digest(body));
    let text = format!(
        "(request-target): post /inbox?a=b\ndate: Sun, 23 Aug 2026 12:00:00 GMT\ndigest: SHA-256={digest}\n\
         content-type: application/activity+json"
    );
    let signature = format!(
        r#"keyId="https://relay.example/actor#main-key",algorithm="rsa-sha256",headers="(request-target) date digest content-type",signature="{}""#,
        base64(&relay().sign(text.as_bytes()))
    );
    assert_eq!(made[3].1, signature);
    let headers: HeaderMap = made.into_iter().collect();
    let sample = Sample { method: Method::POST, target: "/inbox?a=b".to_owned(), headers, body: body.to_vec() };
    let refused = sample.with("host", "relay.example").read().expect_err("it names nobody");
    assert_eq!(refused, SigFault::Coverage { missing: "host" });
}

#[test]
fn our_signatures_are_those_of_the_vectors_byte_for_byte() {
    let announce = Sample::parse(ANNOUNCE);
    let body = Body::of(&announce.body);
    let inbox = Url::parse("https://small.example/inbox#fragment").expect("a URL");
    let post = Url::parse("https://origin.example/users/ada/statuses/1001").expect("a URL");
    let check = |vector: &str, scheme, method, url: &Url, body: Option<&Body>, names: &[&str]| {
        let vector = Sample::parse(vector);
        let made = sign(scheme, &relay(), &method, url, body, NOON);
        for name in names {
            let made: Vec<_> = made.iter().filter(|(made, _)| made == name).map(|(_, value)| value).collect();
            assert_eq!(made, vector.headers.get_all(*name).iter().collect::<Vec<_>>(), "{name}");
        }
    };
    let cavage_post = ["host", "date", "digest", "content-type", "signature"];
    check(ANNOUNCE, Scheme::Cavage, Method::POST, &inbox, Some(&body), &cavage_post);
    check(GET, Scheme::Cavage, Method::GET, &post, None, &["host", "date", "digest", "signature", "content-type"]);
    let rfc_post = ["host", "date", "content-type", "content-digest", "signature-input", "signature", "digest"];
    check(ANNOUNCE_9421, Scheme::Rfc9421, Method::POST, &inbox, Some(&body), &rfc_post);
    check(GET_9421, Scheme::Rfc9421, Method::GET, &post, None, &["host", "signature-input", "signature"]);

    let made = sign(Scheme::Rfc9421, &relay_ed25519(), &Method::POST, &inbox, Some(&body), NOON);
    let signature = made.iter().find(|(name, _)| name == "signature").map(|(_, value)| value.as_bytes());
    assert_eq!(signature, Some(format!("sig1=:{}:", ED25519_SIGNATURE.trim()).as_bytes()));
}

#[test]
fn what_we_sign_is_read_by_us_in_both_profiles_with_both_keys_on_any_port_and_with_a_query() {
    for url in ["https://relay.example/inbox", "https://relay.example/inbox?a=1&b=%20", "http://127.0.0.1:4101/x"] {
        let url = Url::parse(url).expect("a URL");
        for scheme in [Scheme::Cavage, Scheme::Rfc9421] {
            for key in [relay(), relay_ed25519()] {
                for (method, body) in [(Method::POST, &b"{}"[..]), (Method::GET, b"")] {
                    let hashed = Body::of(body);
                    let made = sign(scheme, &key, &method, &url, (!body.is_empty()).then_some(&hashed), NOON);
                    let headers = made.into_iter().collect::<HeaderMap>();
                    let target = &url[url::Position::BeforePath..];
                    let sample = Sample { method, target: target.to_owned(), headers, body: body.to_vec() };
                    let claim = sample.read_as(&url.origin().ascii_serialization(), NOON).expect("a claim");
                    assert!(claim.verify(&key.public()), "{url} {scheme:?} {key:?}");
                }
            }
        }
    }
}

#[test]
fn digests_are_checked_wherever_they_stand() {
    let body = b"hello";
    let s256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let s512 = "m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==";
    let wrong = base64(&[7; 32]);
    let malformed = || Err("malformed");
    let table: Vec<(&'static str, String, Result<bool, &str>)> = vec![
        ("digest", format!("SHA-256={s256}"), Ok(true)),
        ("digest", format!("sha-256={s256}"), Ok(true)),
        ("digest", format!("Sha-256={s256}"), Ok(true)),
        ("digest", format!("SHA-512={s512}"), Ok(true)),
        ("digest", format!("SHA-256={s256},SHA-512={s512}"), Ok(true)),
        ("digest", format!("SHA-512={s512}, SHA-256={s256}"), Ok(true)),
        ("digest", format!("MD5=XUFAKrxLKna5cZ2REBfFkg==,SHA-256={s256}"), Ok(true)),
        ("digest", "MD5=XUFAKrxLKna5cZ2REBfFkg==".to_owned(), Ok(false)),
        ("digest", format!("SHA-1={s256}"), Ok(false)),
        ("digest", format!("SHA-256={wrong}"), Err("digest")),
        ("digest", format!("SHA-256={s256},SHA-512={wrong}"), Err("digest")),
        ("digest", format!("SHA-512={s512},SHA-256={wrong}"), Err("digest")),
        ("digest", format!("SHA-256={s512}"), Err("digest")),
        ("digest", "SHA-256=".to_owned(), Err("digest")),
        ("digest", format!("SHA-256={s256},SHA-256={wrong}"), malformed()),
        ("digest", format!("SHA-256={s256},sha-256={s256}"), malformed()),
        ("digest", format!("SHA-256={}", s256.trim_end_matches('=')), malformed()),
        ("digest", format!("SHA-256={}", s256.replace('+', "-")), malformed()),
        ("digest", format!("SHA-256=\"{s256}\""), malformed()),
        ("digest", s256.trim_end_matches('=').to_owned(), malformed()),
        ("digest", String::new(), malformed()),
        ("digest", format!("SHA-256={s256},"), malformed()),
        ("digest", ["A=1"; 20].join(","), malformed()),
        ("content-digest", format!("sha-256=:{s256}:"), Ok(true)),
        ("content-digest", format!("sha-256=:{s256}:, sha-512=:{s512}:"), Ok(true)),
        ("content-digest", format!("sha-512=:{s512}:,\tunknown=?1"), malformed()),
        ("content-digest", format!("sha-512=:{s512}:,unixsum=30637"), Ok(true)),
        ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:".to_owned(), Ok(false)),
        ("content-digest", format!("sha-256=:{wrong}:"), Err("digest")),
        ("content-digest", format!("sha-256=:{s256}:, sha-512=:{wrong}:"), Err("digest")),
        ("content-digest", format!("sha-256=:{wrong}:, sha-256=:{s256}:"), malformed()),
        ("content-digest", format!("SHA-256=:{s256}:"), malformed()),
        ("content-digest", format!("sha-256={s256}"), malformed()),
        ("content-digest", "sha-256".to_owned(), malformed()),
        ("content-digest", "sha-256=(1 2)".to_owned(), malformed()),
        ("content-digest", String::new(), malformed()),
    ];
    for (name, value, expected) in table {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a value"));
        let found = digest::check(&headers, body);
        let found = found.map(|checked| checked.digest || checked.content_digest);
        assert_eq!(found.map_err(|fault| fault.check()), expected, "{name}: {value}");
    }
}

#[test]
fn a_post_must_cover_target_host_time_and_digest() {
    let table = [
        ("(request-target) host date digest", None),
        ("(request-target) host date digest content-type", None),
        ("(REQUEST-TARGET) Host Date Digest", None),
        ("(request-target) host date content-digest", None),
        ("(request-target) host date digest content-digest content-length", None),
        ("host date digest", Some("coverage")),
        ("(request-target) date digest", Some("coverage")),
        ("(request-target) host digest", Some("coverage")),
        ("(request-target) host date", Some("coverage")),
        ("date", Some("coverage")),
        ("", Some("coverage")),
        ("(request-target) host date digest x-absent", Some("coverage")),
        ("(request-target) host date digest (surprise)", Some("coverage")),
        ("(request-target) host date date digest", Some("repeated")),
        ("(request-target) host Host date digest", Some("repeated")),
        ("(request-target) host date digest (created)", Some("malformed")),
    ];
    for (covered, expected) in table {
        let sample = unsigned().cavage(&covered.to_lowercase(), "hs2019", "");
        let value = sample.headers.get("signature").expect("it").to_str().expect("text");
        let value = value.replace(&format!("\"{}\"", covered.to_lowercase()), &format!("\"{covered}\""));
        let claim = sample.with("signature", &value).read();
        assert_eq!(claim.as_ref().err().map(SigFault::check), expected, "{covered}");
        if let Ok(claim) = claim {
            assert!(claim.verify(&subscriber().public()), "{covered}");
        }
    }
    let long = (0..40).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(" ");
    assert_eq!(unsigned().cavage(&long, "", "").read().unwrap_err().check(), "malformed");
}

#[test]
fn a_get_needs_no_digest_but_everything_else() {
    let get =
        || Sample { method: Method::GET, body: Vec::new(), ..unsigned().without("digest").without("content-digest") };
    assert!(get().cavage("(request-target) host date", "rsa-sha256", "").read().is_ok());
    for (covered, missing) in [
        ("(request-target) date", "host"),
        ("host date", "(request-target)"),
        ("(request-target) host", "date or (created)"),
    ] {
        let fault = get().cavage(covered, "rsa-sha256", "").read().unwrap_err();
        assert_eq!(fault, SigFault::Coverage { missing });
    }
    // snac2 sends the digest of the empty body on GET.
    let empty = format!("SHA-256={}", base64(&Body::of(b"").digest));
    assert!(get().with("digest", &empty).cavage("(request-target) host date digest", "rsa-sha256", "").read().is_ok());
    let fault = Sample { body: b"x".to_vec(), ..get() }.cavage("(request-target) host date", "", "").read();
    assert_eq!(fault.unwrap_err().check(), "coverage");
}

#[test]
fn rfc_9421_must_cover_method_target_name_time_and_digest() {
    let digest = unsigned().headers.get("content-digest").expect("it").to_str().expect("text").to_owned();
    let digest = digest.as_str();
    let all: &[(&str, &str)] = &[
        ("@method", "POST"),
        ("@target-uri", "https://relay.example/inbox"),
        ("@authority", "relay.example"),
        ("@scheme", "https"),
        ("@path", "/inbox"),
        ("@query", "?"),
        ("@request-target", "/inbox"),
        ("content-digest", digest),
        ("host", "relay.example"),
        ("date", "Sun, 23 Aug 2026 12:00:00 GMT"),
    ];
    let table: &[(&[&str], Option<&str>)] = &[
        (&["@method", "@target-uri", "content-digest"], None),
        (&["@method", "@target-uri", "@authority", "host", "date", "content-digest"], None),
        (&["@method", "@authority", "@path", "content-digest"], None),
        (&["@method", "@authority", "@path", "@query", "@scheme", "content-digest"], None),
        (&["@method", "host", "@request-target", "content-digest"], None),
        (&["@target-uri", "content-digest"], Some("coverage")),
        (&["@method", "@authority", "content-digest"], Some("coverage")),
        (&["@method", "@path", "content-digest"], Some("coverage")),
        (&["@method", "@target-uri"], Some("coverage")),
        (&["@method", "@target-uri", "content-digest", "@method"], Some("repeated")),
    ];
    for (names, expected) in table {
        let value = |name: &&str| all.iter().find(|(known, _)| known == name).copied().expect("known");
        let lines: Vec<(&str, &str)> = names.iter().map(value).collect();
        let claim = unsigned().rfc9421(&lines, DATE_9421).read();
        assert_eq!(claim.as_ref().err().map(SigFault::check), *expected, "{names:?}");
        if let Ok(claim) = claim {
            assert!(claim.verify(&subscriber().public()), "{names:?}");
        }
    }
    for odd in ["@status", "@query-param", "@surprise"] {
        let lines = [("@method", "POST"), ("@target-uri", "https://relay.example/inbox"), (odd, "x")];
        assert_eq!(unsigned().rfc9421(&lines, DATE_9421).read().unwrap_err().check(), "coverage", "{odd}");
    }
    // A query that the signature leaves out could be changed on the way.
    let lines = [("@method", "POST"), ("@authority", "relay.example"), ("@path", "/inbox"), ("content-digest", digest)];
    let sample = Sample { target: "/inbox?x".to_owned(), ..unsigned().rfc9421(&lines, DATE_9421) };
    assert_eq!(sample.read().unwrap_err().check(), "coverage");
}

#[test]
fn a_header_that_matters_may_not_come_twice() {
    for name in ["host", "date", "digest", "signature", "content-type"] {
        assert_eq!(follow().twice(name).read().unwrap_err(), SigFault::Repeated { name: name.to_owned() });
    }
    for name in ["content-digest", "signature", "signature-input", "digest"] {
        assert_eq!(good_9421().twice(name).read().unwrap_err(), SigFault::Repeated { name: name.to_owned() });
    }
    // What is neither covered nor ours to check may come as often as it likes.
    let mut sample = follow().with("via", "a");
    sample.headers.append("via", HeaderValue::from_static("b"));
    assert!(sample.read().is_ok());
}

#[test]
fn only_one_signature_of_one_profile_counts() {
    let two = "a=(\"@method\");created=1, b=(\"@method\");created=1";
    assert_eq!(good_9421().with("signature-input", two).read().unwrap_err(), SigFault::Several);
    let fault = good_9421().with("signature", "s=:AAAA:, t=:AAAA:").read().unwrap_err();
    assert_eq!(fault, SigFault::Several);
    // Both profiles in one request: RFC 9421 counts, and the other's text makes it unreadable.
    let fault = follow().with("signature-input", "s=(\"@method\");created=1").read().unwrap_err();
    assert_eq!(fault.check(), "malformed");
    assert_eq!(follow().without("signature").read().unwrap_err(), SigFault::Unsigned);
}

#[test]
fn the_host_must_be_ours_and_its_port_only_if_it_names_one() {
    let table = [
        ("relay.example", "https://relay.example", true),
        ("Relay.Example", "https://relay.example", true),
        ("relay.example:443", "https://relay.example", true),
        ("relay.example", "https://relay.example/", true),
        ("relay.example", "https://relay.example:8443", true),
        ("relay.example:8443", "https://relay.example:8443", true),
        ("127.0.0.1:4101", "http://127.0.0.1:4101", true),
        ("127.0.0.1", "http://127.0.0.1:4101", true),
        ("[::1]:4101", "http://[::1]:4101", true),
        ("[::1]", "http://[::1]:4101", true),
        ("relay.example:8443", "https://relay.example", false),
        ("relay.example:80", "https://relay.example", false),
        ("relay.example:", "https://relay.example", false),
        ("relay.example:+443", "https://relay.example", false),
        ("relay.example:0443", "https://relay.example", false),
        ("relay.example:443:443", "https://relay.example", false),
        ("relay.example.", "https://relay.example", false),
        ("relay.example.evil", "https://relay.example", false),
        ("evil.relay.example", "https://relay.example", false),
        ("other.example", "https://relay.example", false),
        ("relay.example, other.example", "https://relay.example", false),
        ("", "https://relay.example", false),
        ("relay.example", "not an origin", false),
    ];
    for (host, origin, good) in table {
        let sample = unsigned().with("host", host).cavage("(request-target) host date digest", "rsa-sha256", "");
        let claim = sample.read_as(origin, NOON);
        assert_eq!(claim.as_ref().err().map(SigFault::check), (!good).then_some("host"), "{host} {origin}");
    }
    // RFC 9421 names us by the configured origin: signed for another server, it is just a wrong signature.
    let claim = good_9421().read_as("https://other.example", NOON).expect("a claim");
    assert!(!claim.verify(&subscriber().public()));
    // A Host that the proxy changed does not matter where the signature does not cover it.
    let claim = good_9421().with("host", "10.0.0.7:3000").read().expect("a claim");
    assert!(claim.verify(&subscriber().public()));
}

#[test]
fn the_signed_time_is_good_for_an_hour_either_way() {
    for (offset, good) in [(0, true), (3600, true), (3601, false), (-3600, true), (-3601, false), (1 << 40, false)] {
        let now = Timestamp::from_secs(NOON.secs() + offset);
        for sample in [follow(), good_9421()] {
            let claim = sample.read_as("https://relay.example", now);
            assert_eq!(claim.err().map(|fault| fault.check()), (!good).then_some("date"), "{offset}");
        }
    }
    let fault = follow().read_as("https://relay.example", Timestamp::from_secs(NOON.secs() + 7000)).unwrap_err();
    assert_eq!(fault, SigFault::Date { seconds: 7000 });
    for date in ["", "yesterday", "2026-08-23T12:00:00Z", "Sun, 23 Aug 99999 12:00:00 GMT", "-1"] {
        let sample = unsigned().with("date", date).cavage("(request-target) host date digest", "rsa-sha256", "");
        assert_eq!(sample.read().unwrap_err().check(), "malformed", "{date}");
    }
}

#[test]
fn created_and_expires_are_honoured_where_the_draft_allows_them() {
    let covered = "(request-target) (created) (expires) host digest";
    let at = |created: i64, expires: i64| format!(",created={created},expires={expires}");
    let noon = NOON.secs();
    let table = [
        ("hs2019", at(noon, noon + 60), None),
        ("", at(noon, noon + 60), None),
        ("hs2019", at(noon, noon), None),
        ("hs2019", at(noon, noon - 1), Some("expires")),
        ("hs2019", at(noon, noon + 86_400), None),
        ("hs2019", at(noon, noon + 86_401), Some("expires")),
        ("hs2019", at(noon, i64::MAX), Some("expires")),
        ("hs2019", at(noon + 3601, noon + 4000), Some("date")),
        ("hs2019", at(noon - 3601, noon + 60), Some("date")),
        ("hs2019", at(i64::MIN, noon + 60), Some("date")),
        ("hs2019", at(i64::MAX, noon + 60), Some("date")),
        ("hs2019", format!(",created=\"{noon}\",expires=\"{}\"", noon + 60), None),
        ("hs2019", format!(",created={noon}.5,expires={noon}"), Some("malformed")),
        ("hs2019", ",created=now,expires=1".to_owned(), Some("malformed")),
        ("hs2019", format!(",created={noon}"), Some("malformed")),
        ("rsa-sha256", at(noon, noon + 60), Some("algorithm")),
        ("rsa-sha512", at(noon, noon + 60), Some("algorithm")),
    ];
    for (algorithm, more, expected) in table {
        let claim = unsigned().cavage(covered, algorithm, &more).read();
        assert_eq!(claim.as_ref().err().map(SigFault::check), expected, "{algorithm} {more}");
        if let Ok(claim) = claim {
            assert!(claim.verify(&subscriber().public()), "{algorithm} {more}");
            assert!(claim.expires.is_some());
        }
    }
    // Both times covered: both must be near.
    let sample = unsigned().with("date", "Sun, 23 Aug 2026 02:00:00 GMT");
    let sample = sample.cavage("(request-target) (created) host date digest", "hs2019", &format!(",created={noon}"));
    assert_eq!(sample.read().unwrap_err().check(), "date");

    for (params, expected) in [
        (format!("{DATE_9421};expires={}", noon + 1), None),
        (format!("{DATE_9421};expires={}", noon - 1), Some("expires")),
        (format!("{DATE_9421};expires=999999999999999"), Some("expires")),
        (";keyid=\"k\"".to_owned(), Some("malformed")),
        (";created=1787486400".to_owned(), Some("malformed")),
        (";created=1787486400;keyid=\"\"".to_owned(), Some("malformed")),
        (";created=1787486400.0;keyid=\"k\"".to_owned(), Some("malformed")),
        (";created=\"1787486400\";keyid=\"k\"".to_owned(), Some("malformed")),
        (";created=1787486400;keyid=k".to_owned(), Some("malformed")),
        (";created=-999999999999999;keyid=\"k\"".to_owned(), Some("date")),
        (format!("{DATE_9421};nonce=\"x\";tag=\"fedify\""), None),
        (format!("{DATE_9421};created=1787486400"), Some("malformed")),
        (format!("{DATE_9421};alg=\"rsa-v1_5-sha256\""), None),
        (format!("{DATE_9421};alg=\"hmac-sha256\""), Some("algorithm")),
        (format!("{DATE_9421};alg=\"rsa-pss-sha512\""), Some("algorithm")),
        // Blanks after semicolons are allowed, and signed as sent.
        (DATE_9421.replace(';', "; "), None),
    ] {
        let sample = unsigned();
        let lines = lines_9421(&sample);
        let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let claim = sample.rfc9421(&lines, &params).read();
        assert_eq!(claim.as_ref().err().map(SigFault::check), expected, "{params}");
        if let Ok(claim) = claim {
            assert!(claim.verify(&subscriber().public()), "{params}");
        }
    }
}

#[test]
fn half_the_servers_sign_the_target_without_its_query() {
    for signed in ["/inbox", "/inbox?a=b"] {
        let sample = Sample { target: "/inbox?a=b".to_owned(), ..unsigned() };
        let covered = "(request-target) host date digest";
        let claim = sample.cavage_with(covered, "rsa-sha256", "", Some(signed)).read().expect("a claim");
        assert!(claim.verify(&subscriber().public()), "{signed}");
    }
    for signed in ["/inbox?a=c", "/inbox?", "/", "/inbox/"] {
        let sample = Sample { target: "/inbox?a=b".to_owned(), ..unsigned() };
        let covered = "(request-target) host date digest";
        let claim = sample.cavage_with(covered, "rsa-sha256", "", Some(signed)).read().expect("a claim");
        assert!(!claim.verify(&subscriber().public()), "{signed}");
    }
    for target in ["", "*", "https://relay.example/inbox", "inbox"] {
        let fault = Sample { target: target.to_owned(), ..follow() }.read().unwrap_err();
        assert_eq!(fault.check(), "malformed", "{target}");
    }
}

#[test]
fn the_key_decides_the_algorithm_and_unknown_labels_are_refused() {
    let covered = "(request-target) host date digest";
    for label in ["rsa-sha256", "RSA-SHA256", "hs2019", "", "rsa-sha512", "ed25519"] {
        let claim = unsigned().cavage(covered, label, "").read().expect(label);
        assert!(claim.verify(&subscriber().public()), "{label}");
        assert!(!claim.verify(&relay_ed25519().public()), "{label}");
    }
    for label in ["rsa-sha1", "hmac-sha256", "none", "ecdsa-sha256", "hs2020"] {
        let fault = unsigned().cavage(covered, label, "").read().unwrap_err();
        assert_eq!(fault, SigFault::Algorithm, "{label}");
    }
}

#[test]
fn a_label_that_contradicts_the_key_counts_in_rfc_9421_and_nowhere_else() {
    let url = Url::parse("https://relay.example/inbox").expect("a URL");
    let signed = |scheme, key: &SigningKey| {
        let body = b"{}".to_vec();
        let made = sign(scheme, key, &Method::POST, &url, Some(&Body::of(&body)), NOON);
        Sample { method: Method::POST, target: "/inbox".to_owned(), headers: made.into_iter().collect(), body }
    };
    for label in ["rsa-sha256", "rsa-sha512", "ed25519", "hs2019"] {
        let sample = signed(Scheme::Cavage, &relay_ed25519());
        let value = sample.headers["signature"].to_str().expect("text").replace("hs2019", label);
        assert!(sample.with("signature", &value).read().expect("a claim").verify(&relay_ed25519().public()), "{label}");
    }
    for (key, labels) in [
        (relay_ed25519(), [("ed25519", true), ("rsa-v1_5-sha256", false), ("rsa-v1_5-sha512", false)]),
        (relay(), [("ed25519", false), ("rsa-v1_5-sha256", true), ("rsa-v1_5-sha512", true)]),
    ] {
        for (label, good) in labels {
            // Signed with the label in place: only the label is wrong.
            let digest = digest::content_digest_value(&Body::of(b"{}").digest);
            let params = format!(
                "(\"@method\" \"@target-uri\" \"content-digest\");created=1787486400;keyid=\"k\";alg=\"{label}\""
            );
            let base = format!(
                "\"@method\": POST\n\"@target-uri\": {url}\n\"content-digest\": {digest}\n\"@signature-params\": {params}"
            );
            let signature = base64(&key.sign(base.as_bytes()));
            let sample = signed(Scheme::Rfc9421, &key)
                .with("signature-input", &format!("s={params}"))
                .with("signature", &format!("s=:{signature}:"));
            assert_eq!(sample.read().expect("a claim").verify(&key.public()), good, "{label} {key:?}");
        }
    }
}

#[test]
fn a_profile_has_one_name_in_logs_and_records() {
    for (scheme, name) in [(Scheme::Cavage, "cavage"), (Scheme::Rfc9421, "rfc9421")] {
        assert_eq!(scheme.as_str(), name);
        assert_eq!(serde_json::to_string(&scheme).expect("JSON"), format!("\"{name}\""));
        assert_eq!(scheme.other().other(), scheme);
        assert_ne!(scheme.other(), scheme);
    }
}

#[test]
fn a_method_that_is_not_in_capitals_is_not_what_draft_cavage_signs() {
    for method in ["POsT", "post", "Post"] {
        let sample = Sample { method: method.parse().expect("a method"), ..follow() };
        assert_eq!(sample.read().unwrap_err().check(), "malformed", "{method}");
        // RFC 9421 signs the method as it stands.
        let sample = Sample { method: method.parse().expect("a method"), ..good_9421() };
        assert!(!sample.read().expect("a claim").verify(&subscriber().public()), "{method}");
    }
}

#[test]
fn rsa_with_sha_512_is_read_too() {
    use aws_lc_rs::signature::RSA_PKCS1_SHA512;
    let pem = pem::parse(SUBSCRIBER_PEM).expect("PEM");
    let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(pem.contents()).expect("a key");
    let sample = unsigned();
    let digest = sample.headers.get("digest").expect("it").to_str().expect("text");
    let date = sample.headers.get("date").expect("it").to_str().expect("text");
    let message = format!("(request-target): post /inbox\nhost: relay.example\ndate: {date}\ndigest: {digest}");
    let mut signature = vec![0; pair.public_modulus_len()];
    let rng = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA512, &rng, message.as_bytes(), &mut signature).expect("a signature");
    for label in ["algorithm=\"rsa-sha512\",", "algorithm=\"hs2019\",", ""] {
        let value = format!(
            "keyId=\"k\",{label}headers=\"(request-target) host date digest\",signature=\"{}\"",
            base64(&signature)
        );
        let claim = sample.clone().with("signature", &value).read().expect("a claim");
        assert!(claim.verify(&subscriber().public()), "{label}");
    }
}

#[test]
fn malformed_signature_headers_are_refused_and_named() {
    let table = [
        "",
        "Signature",
        "=",
        "keyId",
        "keyId=\"k\"",
        "keyId=\"k",
        "keyId=\"k\",signature=\"\"",
        "keyId=\"k\",signature=\"?\"",
        "keyId=\"k\",signature=\"AAA\"",
        "keyId=\"\",signature=\"AAAA\"",
        "keyId=\"k\"signature=\"AAAA\"",
        "keyId=\"k\";signature=\"AAAA\"",
        "keyId=\"k\",,signature=\"AAAA\"",
        "keyId=\"k\",signature=\"AAAA\",",
        "keyId=\"k\\\"\",signature=\"AAAA\"",
        "key Id=\"k\",signature=\"AAAA\"",
        "signature=\"AAAA\"",
        "keyId=\"k\",keyId=\"l\",signature=\"AAAA\"",
        "keyId=\"k\",KEYID=\"l\",signature=\"AAAA\"",
        "keyId=\"k\",signature=\"AAAA\",signature=\"AAAA\"",
        "keyId=\"k\",signature=\"AAAA\",headers=\"date\",headers=\"host\"",
    ];
    for value in table {
        let fault = follow().with("signature", value).read().unwrap_err();
        assert!(matches!(fault.check(), "malformed" | "repeated"), "{value}: {fault}");
    }
    let long_key = format!("keyId=\"{}\",signature=\"AAAA\"", "k".repeat(2049));
    let long_signature = format!("keyId=\"k\",signature=\"{}\"", "A".repeat(1400));
    let many = (0..40).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join(",");
    for value in [long_key, long_signature, many] {
        assert_eq!(follow().with("signature", &value).read().unwrap_err().check(), "malformed");
    }
    // Tolerated: blanks around commas and equals signs, unknown parameters, the scheme's name in front.
    let value = follow().headers.get("signature").expect("it").to_str().expect("text").to_owned();
    for value in [
        format!("Signature {value}"),
        format!(" {} , future=\"1\"", value.replace(',', " , ")),
        value.replacen("keyId=", "keyId = ", 1),
    ] {
        let claim = follow().with("signature", &value).read().expect("a claim");
        assert!(claim.verify(&subscriber().public()), "{value}");
    }

    let inputs = [
        "",
        "s",
        "s=1",
        "s=()",
        "s=(\"@method\")",
        "s=(\"@method\";sf)",
        "s=(@method);created=1",
        "s=(\"@method\" 7);created=1",
        "s=(\"@method\");created=1;created=2",
        "s=(\"@method\");created=1, s=(\"@method\");created=1",
        "S=(\"@method\")",
        "s=(\"@method\"",
        "t=(\"@method\" \"@target-uri\" \"content-digest\");created=1787486400;keyid=\"k\"",
    ];
    for value in inputs {
        let fault = good_9421().with("signature-input", value).read().unwrap_err();
        assert!(matches!(fault.check(), "malformed" | "coverage"), "{value}: {fault}");
    }
    for value in ["", "s", "s=:", "s=1", "s=::", "s=\"AAAA\"", "t=:AAAA:", "s=:AAAA:, s=:AAAB:", "s=(:AAAA:)"] {
        let fault = good_9421().with("signature", value).read().unwrap_err();
        assert_eq!(fault.check(), "malformed", "{value}: {fault}");
    }
    assert_eq!(good_9421().without("signature").read().unwrap_err().check(), "malformed");
    let lines = [("@method", "POST"), ("@target-uri", "https://relay.example/inbox"), ("Content-Digest", "x")];
    assert_eq!(unsigned().rfc9421(&lines, DATE_9421).read().unwrap_err().check(), "malformed");
}

#[test]
fn what_is_as_long_as_may_be_is_taken_and_one_byte_more_is_not() {
    let check = |sample: Sample, good: bool, what: &str| {
        assert_eq!(
            sample.read().map(|_claim| ()).map_err(|fault| fault.check()),
            if good { Ok(()) } else { Err("malformed") },
            "{what}"
        );
    };
    let cavage = |key_id: &str, signature: &[u8], headers: &str| {
        let value = format!(r#"keyId="{key_id}",headers="{headers}",signature="{}""#, base64(signature));
        unsigned().with("signature", &value)
    };
    let enough = "(request-target) host date digest";
    for (length, good) in [(1, true), (256, true), (1024, true), (1025, false), (1536, false), (0, false)] {
        check(cavage("k", &vec![7; length], enough), good, &format!("a signature of {length}"));
        let value = format!("s=:{}:", base64(&vec![7; length]));
        check(good_9421().with("signature", &value), good, &format!("a signature of RFC 9421 of {length}"));
    }
    for (length, good) in [(1, true), (2048, true), (2049, false)] {
        check(cavage(&"k".repeat(length), b"x", enough), good, &format!("a keyId of {length}"));
        let input = good_9421().headers["signature-input"].to_str().expect("text").to_owned();
        let input = input.replace("https://small.example/actor#main-key", &"k".repeat(length));
        check(good_9421().with("signature-input", &input), good, &format!("a keyid of {length}"));
    }
    // 32 names may be covered, and as many parameters be given.
    for (count, good) in [(32, true), (33, false)] {
        let names = (4..count).map(|n| format!("x-{n}")).collect::<Vec<_>>();
        let mut sample =
            names.iter().fold(cavage("k", b"x", &format!("{enough} {}", names.join(" "))), |mut sample, name| {
                sample
                    .headers
                    .insert(HeaderName::try_from(name.as_str()).expect("a name"), HeaderValue::from_static("1"));
                sample
            });
        check(sample.clone(), good, &format!("{count} names"));
        let more = (3..count).map(|n| format!(",p{n}=1")).collect::<String>();
        let value = format!(r#"keyId="k",headers="{enough}",signature="AAAA"{more}"#);
        check(unsigned().with("signature", &value), good, &format!("{count} parameters"));
        let quoted = names.iter().skip(1).map(|name| format!(" \"{name}\"")).collect::<String>();
        let input = format!("s=(\"@method\" \"@target-uri\" \"content-digest\" \"host\" \"date\"{quoted}){DATE_9421}");
        sample = sample.with("signature-input", &input).with("signature", "s=:AAAA:");
        check(sample, good, &format!("{count} components"));
    }
    // A header may hold 16 digests.
    let s256 = base64(&Body::of(&follow().body).digest);
    for (count, good) in [(16, true), (17, false)] {
        let others = |join: &str| (1..count).map(|n| format!("{join}x{n}=1")).collect::<String>();
        for (name, value) in [
            ("digest", format!("SHA-256={s256}{}", others(","))),
            ("content-digest", format!("sha-256=:{s256}:{}", others(", "))),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            assert_eq!(digest::check(&headers, &follow().body).is_ok(), good, "{count} in {name}");
        }
    }
}

#[test]
fn a_parameter_has_a_name_of_letters_digits_and_two_signs() {
    let good = follow().headers["signature"].to_str().expect("text").to_owned();
    for (name, taken) in [
        ("future", true),
        ("a_b", true),
        ("a-b", true),
        ("4", true),
        ("", false),
        ("a b", false),
        ("a.b", false),
        ("a\"b", false),
        ("ä", false),
    ] {
        for value in [format!("{good},{name}=\"1\""), format!("{name}=\"1\",{good}")] {
            let read = follow().with("signature", &value).read();
            assert_eq!(read.as_ref().err().map(SigFault::check), (!taken).then_some("malformed"), "{value}");
        }
    }
}

#[test]
fn what_is_covered_and_not_there_is_told_from_what_we_do_not_know() {
    let covered = |more: &str| unsigned().cavage(&format!("(request-target) host date digest {more}"), "hs2019", "");
    let fault = covered("(surprise)").read().unwrap_err();
    assert_eq!(fault, SigFault::UnknownComponent { name: "(surprise)".to_owned() });
    assert_eq!(covered("x-absent").read().unwrap_err(), SigFault::Missing { name: "x-absent".to_owned() });
    let sample = unsigned();
    let lines = lines_9421(&sample);
    let covered = |more: &'static str| {
        let lines = lines.iter().map(|(name, value)| (*name, value.as_str())).chain([(more, "x")]).collect::<Vec<_>>();
        unsigned().rfc9421(&lines, DATE_9421)
    };
    let fault = covered("@surprise").read().unwrap_err();
    assert_eq!(fault, SigFault::UnknownComponent { name: "@surprise".to_owned() });
    assert_eq!(covered("x-absent").read().unwrap_err(), SigFault::Missing { name: "x-absent".to_owned() });
}

#[test]
fn the_covered_digest_must_be_one_we_know_and_the_body_the_one_that_was_signed() {
    let covered = "(request-target) host date digest";
    let sample = unsigned().with("digest", "MD5=XUFAKrxLKna5cZ2REBfFkg==").cavage(covered, "rsa-sha256", "");
    assert_eq!(sample.read().unwrap_err(), SigFault::UnknownDigest);
    let swapped = Sample { body: b"{}".to_vec(), ..follow() };
    assert_eq!(swapped.read().unwrap_err(), SigFault::Digest { header: "Digest" });
    assert_eq!(Sample { body: Vec::new(), ..follow() }.read().unwrap_err().check(), "digest");
    // Not covered, but there and wrong: refused as well.
    let other = follow().with("content-digest", &digest::content_digest_value(&[0; 32]));
    assert_eq!(other.read().unwrap_err(), SigFault::Digest { header: "Content-Digest" });
}

#[test]
fn every_fault_is_a_sentence_with_a_remedy() {
    let faults = [
        SigFault::Unsigned,
        SigFault::Several,
        SigFault::Repeated { name: "host".to_owned() },
        SigFault::Malformed { what: "the Date header" },
        SigFault::RepeatedParameter { name: "keyId".to_owned() },
        SigFault::MissingParameter { name: "keyId" },
        SigFault::Algorithm,
        SigFault::Coverage { missing: "host" },
        SigFault::UnknownComponent { name: "@status".to_owned() },
        SigFault::Missing { name: "host".to_owned() },
        SigFault::Host,
        SigFault::Date { seconds: 7200 },
        SigFault::Expired,
        SigFault::TooLongLived,
        SigFault::Digest { header: "Digest" },
        SigFault::UnknownDigest,
    ];
    for fault in faults {
        assert!(fault.to_string().starts_with("the "), "{fault}");
        assert!(fault.remedy().ends_with('.') && !fault.check().is_empty(), "{fault}");
    }
}

#[test]
fn what_they_sent_never_comes_back_long_or_with_control_characters() {
    let name = format!("x-{}", "y".repeat(500));
    let fault = unsigned().cavage(&format!("(request-target) host date digest {name}"), "", "").read().unwrap_err();
    assert!(fault.to_string().len() < 130, "{fault}");
    let fault = unsigned().cavage(&format!("(request-target) host date digest ({name}"), "", "").read().unwrap_err();
    assert!(fault.to_string().len() < 120, "{fault}");
    assert_eq!(asked::shown("a\u{1b}[2J\r\nb\u{202e}c\t d\u{0}\u{7f}é"), "a[2Jbcd");
}

fn header_soup() -> impl Strategy<Value = Sample> {
    let name = prop::sample::select(vec![
        "signature",
        "signature-input",
        "digest",
        "content-digest",
        "host",
        "date",
        "content-type",
    ]);
    let value = prop_oneof![
        "[ -~]{0,60}",
        r#"(keyId|algorithm|headers|signature|created|expires)="?[ -~]{0,20}"?(,(keyId|signature|headers)="[A-Za-z() -]{0,30}")*"#,
        r#"[a-z]=\((("@method"|"@target-uri"|"content-digest"|"host"|"@query") ?){0,4}\)(;created=[0-9]{1,15})?(;keyid="[a-z]{0,4}")?"#,
        r"(sha-256|SHA-256|sha-512|x)=:?[A-Za-z0-9+/=]{0,50}:?(,.{0,4})?",
        r"[a-z]=:[A-Za-z0-9+/=]{0,20}:",
    ];
    let headers = prop::collection::vec((name, value), 0..8);
    (headers, "[ -~]{0,20}", prop::collection::vec(any::<u8>(), 0..40), any::<bool>()).prop_map(
        |(pairs, target, body, post)| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    headers.append(name, value);
                }
            }
            let method = if post { Method::POST } else { Method::GET };
            Sample { method, target: format!("/{target}"), headers, body }
        },
    )
}

proptest! {
    #[test]
    fn no_headers_make_us_panic(sample in header_soup(), now in any::<i64>(), raw in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = sample.read_as("https://relay.example", Timestamp::from_millis(now));
        if let Ok(value) = HeaderValue::from_bytes(&raw) {
            for name in ["signature", "signature-input", "digest", "content-digest"] {
                let mut follow = follow();
                follow.headers.insert(name, value.clone());
                let _ = follow.read();
            }
        }
    }

    #[test]
    fn no_digest_proves_another_body(
        body in prop::collection::vec(any::<u8>(), 0..60),
        other in prop::collection::vec(any::<u8>(), 0..60),
        soup in "(SHA-256|sha-256|sha-512|md5|x)=:?[A-Za-z0-9+/]{0,44}=?:?",
        before: bool,
    ) {
        prop_assume!(body != other);
        let right = base64(&Sha256::digest(&body));
        let join = |one: &str, two: &str| if before { format!("{two},{one}") } else { format!("{one},{two}") };
        for (name, value) in [
            ("digest", join(&format!("SHA-256={right}"), &soup)),
            ("content-digest", join(&format!("sha-256=:{right}:"), &soup)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            // Whatever stands beside the right digest: no other body passes.
            let checked = digest::check(&headers, &other);
            prop_assert!(checked.is_err(), "{}: {} gives {:?}", name, value, checked);
            if let Ok(found) = digest::check(&headers, &body) {
                prop_assert!(found.digest || found.content_digest);
            }
        }
    }

    #[test]
    fn a_signature_holds_until_one_bit_changes(
        body in prop::collection::vec(any::<u8>(), 1..200),
        path in "/[a-z0-9/]{0,20}(\\?[a-z=&]{1,10})?",
        flip in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        rfc in any::<bool>(),
        ed25519 in any::<bool>(),
    ) {
        let scheme = if rfc { Scheme::Rfc9421 } else { Scheme::Cavage };
        let key = if ed25519 { relay_ed25519() } else { relay() };
        let url = Url::parse(&format!("https://relay.example{path}")).expect("a URL");
        let headers: HeaderMap = sign(scheme, &key, &Method::POST, &url, Some(&Body::of(&body)), NOON).into_iter().collect();
        let sample = Sample { method: Method::POST, target: url[url::Position::BeforePath..].to_owned(), headers, body };
        let claim = sample.read().expect("a claim");
        prop_assert!(claim.verify(&key.public()));

        let mut broken = claim.clone();
        let at = flip.index(broken.signature.len());
        broken.signature[at] ^= 1 << bit;
        prop_assert!(!broken.verify(&key.public()));

        let mut changed = sample.clone();
        let at = flip.index(changed.body.len());
        changed.body[at] ^= 1 << bit;
        prop_assert_eq!(changed.read().unwrap_err().check(), "digest");

        let covered: &[&str] = match scheme {
            Scheme::Cavage => &["host", "date", "digest", "content-type"],
            Scheme::Rfc9421 => &["content-digest", "signature-input"],
        };
        for name in covered {
            let mut changed = sample.clone();
            let mut value = changed.headers[*name].as_bytes().to_vec();
            let at = flip.index(value.len());
            value[at] ^= 1 << bit;
            // A control character never gets past the HTTP parser.
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            changed.headers.insert(*name, value.clone());
            prop_assert!(!changed.read().is_ok_and(|claim| claim.verify(&key.public())), "{} says {:?}", name, value);
        }

        let other = Sample { method: Method::PUT, ..sample.clone() };
        prop_assert!(!other.read().expect("a claim").verify(&key.public()));
        let other = Sample { target: format!("{}x", sample.target), ..sample };
        prop_assert!(!other.read().expect("a claim").verify(&key.public()));
    }
}

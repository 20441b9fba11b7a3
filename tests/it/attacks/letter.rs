//! Requests made by hand: signed on the test's own, spoilt as a case says, written to a bare socket. Nothing here is the
//! relay's own code but the spelling of dates.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::case::{After, Case};
use super::proving::multibase;

/// The longest a request may take from its first byte to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A key pair that actors of the corpus use.
pub(super) struct Key {
    pair: KeyPair,
    pub(super) public_pem: &'static str,
    /// The public half of the key of the same name that makes proofs.
    pub(super) multibase: String,
}

impl Key {
    fn read(name: &str, private_pem: &str, public_pem: &'static str) -> Self {
        let der = pem::parse(private_pem).expect("PEM");
        let pair = KeyPair::from_pkcs8(der.contents()).expect("a key");
        Self { pair, public_pem, multibase: multibase(name) }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("a signature");
        signature
    }
}

/// The keys by name: honest actors sign with `honest`, attackers with `evil`; `other` is nobody's.
pub(super) fn keys() -> std::collections::HashMap<&'static str, Key> {
    [
        (
            "honest",
            Key::read(
                "honest",
                include_str!("../../fixtures/keys/author.rsa.pk8.pem"),
                include_str!("../../fixtures/keys/author.rsa.spki.pem"),
            ),
        ),
        (
            "evil",
            Key::read(
                "evil",
                include_str!("../../fixtures/keys/subscriber.rsa.pk8.pem"),
                include_str!("../../fixtures/keys/subscriber.rsa.spki.pem"),
            ),
        ),
        (
            "other",
            Key::read(
                "other",
                include_str!("../../fixtures/keys/rsa4096.pk8.pem"),
                include_str!("../../fixtures/keys/rsa4096.spki.pem"),
            ),
        ),
    ]
    .into()
}

/// What is asked for before a case bends it.
pub(super) struct Plain<'a> {
    pub(super) inbox: &'a str,
    pub(super) host: &'a str,
    /// `http://host`.
    pub(super) origin: &'a str,
    pub(super) key_id: &'a str,
    pub(super) key: &'a Key,
    pub(super) http_date: &'a str,
    pub(super) unix: i64,
    pub(super) body: Vec<u8>,
}

/// The request of a case, byte for byte. All its words are put in already.
pub(super) fn write(case: &Case, plain: &Plain<'_>) -> Vec<u8> {
    let target = case.target.as_deref().unwrap_or(plain.inbox);
    let mut headers: Vec<(String, String)> = vec![
        ("host".to_owned(), plain.host.to_owned()),
        ("date".to_owned(), plain.http_date.to_owned()),
        ("content-type".to_owned(), "application/activity+json".to_owned()),
    ];
    let rfc9421 = case.profile == "rfc9421";
    let hash = STANDARD.encode(Sha256::digest(&plain.body));
    headers.push(match rfc9421 {
        true => ("content-digest".to_owned(), format!("sha-256=:{hash}:")),
        false => ("digest".to_owned(), format!("SHA-256={hash}")),
    });
    let long = STANDARD.encode(Sha512::digest(&plain.body));
    for (name, value) in &case.headers {
        headers.retain(|(old, _)| old != name);
        if !value.is_empty() {
            headers.push((name.clone(), value.replace("${sha256}", &hash).replace("${sha512}", &long)));
        }
    }
    match rfc9421 {
        true => sign_rfc9421(case, plain, target, &mut headers),
        false => sign_cavage(case, plain, target, &mut headers),
    }
    let body = spoil(&case.after, &mut headers, plain.body.clone());
    let has = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut request = format!("{} {target} HTTP/1.1\r\n", case.method).into_bytes();
    let framed = has("content-length") || has("transfer-encoding");
    for (name, value) in &headers {
        request.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    if !framed {
        request.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
    }
    request.extend(b"connection: close\r\n\r\n");
    request.extend(body);
    request
}

fn value_of<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
}

fn sign_cavage(case: &Case, plain: &Plain<'_>, target: &str, headers: &mut Vec<(String, String)>) {
    let cover = case.cover.as_deref().unwrap_or("(request-target) host date digest content-type");
    let signed_target = case.signed_target.as_deref().unwrap_or(target);
    let number = |name: &str| case.params.split(&format!("{name}=")).nth(1).map(digits).unwrap_or_default();
    let line = |name: &str| match name {
        "(request-target)" => format!("(request-target): {} {signed_target}", case.method.to_ascii_lowercase()),
        "(created)" => format!("(created): {}", number("created")),
        "(expires)" => format!("(expires): {}", number("expires")),
        other => format!("{other}: {}", value_of(headers, &other.to_ascii_lowercase())),
    };
    let message: Vec<String> = cover.split(' ').map(line).collect();
    let signature = finish(plain.key.sign(message.join("\n").as_bytes()), case.spoil);
    let (key_id, algorithm) =
        (case.key_id.as_deref().unwrap_or(plain.key_id), case.algorithm.as_deref().unwrap_or("rsa-sha256"));
    let value = format!(
        "keyId=\"{key_id}\",algorithm=\"{algorithm}\"{},headers=\"{cover}\",signature=\"{signature}\"",
        case.params
    );
    headers.push(("signature".to_owned(), value));
}

fn digits(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect()
}

fn sign_rfc9421(case: &Case, plain: &Plain<'_>, target: &str, headers: &mut Vec<(String, String)>) {
    let cover = case.cover.as_deref().unwrap_or("@method @target-uri content-digest");
    let signed_target = case.signed_target.as_deref().unwrap_or(target);
    let path = signed_target.split('?').next().unwrap_or_default();
    let mut base = String::new();
    let mut quoted = Vec::new();
    for name in cover.split(' ').filter(|name| !name.is_empty()) {
        let value = match name {
            "@method" => case.method.clone(),
            "@target-uri" => format!("{}{signed_target}", plain.origin),
            "@authority" => plain.host.to_owned(),
            "@path" => path.to_owned(),
            "@scheme" => "http".to_owned(),
            "@query" => format!("?{}", signed_target.split_once('?').map_or("", |(_, query)| query)),
            other => value_of(headers, other).to_owned(),
        };
        base.push_str(&format!("\"{name}\": {value}\n"));
        quoted.push(format!("\"{name}\""));
    }
    let key_id = case.key_id.as_deref().unwrap_or(plain.key_id);
    let algorithm = case.algorithm.as_deref().unwrap_or("rsa-v1_5-sha256");
    let created = if case.params.contains("created=") { String::new() } else { format!(";created={}", plain.unix) };
    let params = format!("({}){created};keyid=\"{key_id}\";alg=\"{algorithm}\"{}", quoted.join(" "), case.params);
    base.push_str(&format!("\"@signature-params\": {params}"));
    let signature = finish(plain.key.sign(base.as_bytes()), case.spoil);
    headers.push(("signature-input".to_owned(), format!("sig1={params}")));
    headers.push(("signature".to_owned(), format!("sig1=:{signature}:")));
}

fn finish(mut signature: Vec<u8>, spoil: bool) -> String {
    signature[0] ^= u8::from(spoil);
    STANDARD.encode(signature)
}

/// What is done after signing; the body that is sent.
fn spoil(after: &After, headers: &mut Vec<(String, String)>, body: Vec<u8>) -> Vec<u8> {
    headers.retain(|(name, _)| !after.drop.iter().any(|gone| gone == name));
    for (name, value) in &after.set {
        let signature = value_of(headers, name).to_owned();
        headers.retain(|(old, _)| old != name);
        headers.push((name.clone(), value.replace("${was}", &signature)));
    }
    for (name, value) in &after.add {
        let was = value_of(headers, name).to_owned();
        headers.push((name.clone(), value.replace("${was}", &was)));
    }
    if let Some(body) = &after.body {
        return body.clone().into_bytes();
    }
    if after.replace.is_empty() {
        return body;
    }
    replace(String::from_utf8(body).expect("text"), &after.replace).into_bytes()
}

/// Replaces texts that must be there.
pub(super) fn replace(text: String, replacements: &[(String, String)]) -> String {
    replacements.iter().fold(text, |text, (old, new)| {
        assert!(text.contains(old), "{old:?} is not in {text}");
        text.replace(old, new)
    })
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// 0: closed without an answer.
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// The failed check that a problem document names.
    pub(super) fn check(&self) -> Option<String> {
        let problem: Value = serde_json::from_str(&self.body).ok()?;
        problem.get("check")?.as_str().map(str::to_owned)
    }
}

/// Sends the bytes and reads to the end.
pub(super) async fn send(to: SocketAddr, request: &[u8]) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        // It may have heard enough before we have said all.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text.as_str(), ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

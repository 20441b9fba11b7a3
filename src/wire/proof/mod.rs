//! Proofs inside documents: FEP-8b32 with the suite `eddsa-jcs-2022` (W3C Data Integrity EdDSA Cryptosuites section
//! 3.3). Plain JSON spelt in one way (RFC 8785), two hashes, Ed25519: no JSON-LD is involved, which is why such a proof
//! may be believed where an LD signature may not.
//!
//! [`read`] judges all that can be judged without the key; [`Claim::verify`] is the rest. A proof tells who wrote a
//! document, not who sends it, nor when: whoever has a copy can send it again. What may be done for its sake is decided
//! above.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::wire::actor::ActorKey;
use crate::wire::http_sig::WINDOW;
use crate::wire::key::{Algorithm, PublicKey, SigningKey};

mod jcs;

/// The context of a document that bears a proof, beside the ActivityStreams one.
pub const CONTEXT: &str = "https://w3id.org/security/data-integrity/v1";

const KIND: &str = "DataIntegrityProof";
const SUITE: &str = "eddsa-jcs-2022";
const PURPOSE: &str = "assertionMethod";

/// The longest `proofValue` we look at: 64 bytes have at most 88 digits in base58, and a prefix.
const MAX_VALUE_BYTES: usize = 96;

/// The longest text of a time that we look at.
const MAX_TIME_BYTES: usize = 64;

/// Members that tie a proof to something that we do not know: a relying party, a question of its, another proof.
const TIES: [&str; 4] = ["domain", "challenge", "nonce", "previousProof"];

/// Why a proof is not believed. For our own log: nobody is refused for the sake of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofFault {
    /// No `proof`, several, or something else than an object.
    #[error("there is not exactly one proof")]
    NotOne,
    /// Not a `DataIntegrityProof`.
    #[error("the proof is no DataIntegrityProof")]
    Kind,
    /// Another suite than `eddsa-jcs-2022`.
    #[error("the proof's suite is not eddsa-jcs-2022")]
    Suite,
    /// Another purpose than `assertionMethod`.
    #[error("the proof's purpose is not assertionMethod")]
    Purpose,
    /// A `verificationMethod` that is no id.
    #[error("the proof names no key by an id")]
    Method,
    /// `created` is missing or unreadable, or `expires` is unreadable.
    #[error("the proof does not say when")]
    Time,
    /// Made too long ago, or ahead of us.
    #[error("the proof was not made within an hour of now")]
    Stale,
    /// `expires` has passed.
    #[error("the proof has expired")]
    Expired,
    /// It is tied to something that we cannot judge.
    #[error("the proof is tied to something else")]
    Tied,
    /// A `proofValue` that is not 64 bytes in base58btc.
    #[error("the proof's value is no Ed25519 signature in base58btc")]
    Value,
    /// The proof's `@context` is not the beginning of the document's.
    #[error("the proof is of another context than the document")]
    Context,
    /// A number that a double cannot hold exactly.
    #[error("a number in the document cannot be told from its neighbours")]
    Number,
    /// Another key than the proof names, or one that its owner does not list for proofs.
    #[error("the key is not one that its owner lists as an assertionMethod")]
    Unlisted,
    /// The key did not make it.
    #[error("the proof does not match the document and the key")]
    Signature,
}

/// A proof that may be true: all is in order but for the key.
#[derive(Clone, PartialEq)]
pub struct Claim<'a> {
    /// The id of the key that is said to have made it. Whose it is, its owner's document says.
    pub method: Iri,
    /// When, as claimed; within an hour of now.
    pub created: Timestamp,
    document: &'a Map<String, Value>,
    /// The document's `@context` as it was proven: that of the proof, if it has one.
    context: Option<&'a Value>,
    config: Map<String, Value>,
    signature: [u8; 64],
}

impl fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({}, {})", self.method, self.created)
    }
}

/// Reads the proof of `document` and checks all but the key. Costs next to nothing: nothing is hashed yet.
///
/// # Errors
/// [`ProofFault`] says why it proves nothing.
pub fn read(document: &Value, now: Timestamp) -> Result<Claim<'_>, ProofFault> {
    let document = document.as_object().ok_or(ProofFault::NotOne)?;
    let proof = match document.get("proof") {
        Some(Value::Object(proof)) => proof,
        // Of several proofs each would be over the document without all of them: then the others are nobody's.
        Some(Value::Array(proofs)) => match proofs.as_slice() {
            [Value::Object(proof)] => proof,
            _ => return Err(ProofFault::NotOne),
        },
        _ => return Err(ProofFault::NotOne),
    };
    let text = |name: &str| proof.get(name).and_then(Value::as_str);
    for (name, expected, fault) in [
        ("type", KIND, ProofFault::Kind),
        ("cryptosuite", SUITE, ProofFault::Suite),
        ("proofPurpose", PURPOSE, ProofFault::Purpose),
    ] {
        if text(name) != Some(expected) {
            return Err(fault);
        }
    }
    if TIES.iter().any(|name| proof.contains_key(*name)) {
        return Err(ProofFault::Tied);
    }
    let method = text("verificationMethod").and_then(|id| Iri::parse(id).ok()).ok_or(ProofFault::Method)?;
    let created = time(proof.get("created")).ok_or(ProofFault::Time)?;
    if created < now.minus(WINDOW) || created > now.plus(WINDOW) {
        return Err(ProofFault::Stale);
    }
    if let Some(expires) = proof.get("expires")
        && time(Some(expires)).ok_or(ProofFault::Time)? <= now
    {
        return Err(ProofFault::Expired);
    }
    let signature = text("proofValue").and_then(signature).ok_or(ProofFault::Value)?;
    let context = match (proof.get("@context"), document.get("@context")) {
        (None, own) => own,
        (Some(proven), Some(own)) if begins_with(own, proven) => Some(proven),
        (Some(_), _) => return Err(ProofFault::Context),
    };
    let mut config = proof.clone();
    config.remove("proofValue");
    Ok(Claim { method, created, document, context, config, signature })
}

/// Reads the proof of `document` and checks it with `key`.
///
/// # Errors
/// [`ProofFault`] says why it proves nothing.
pub fn verify(document: &Value, key: &PublicKey, now: Timestamp) -> Result<(), ProofFault> {
    read(document, now)?.verify(key)
}

impl Claim<'_> {
    /// Whether the proof was made by `key`, as its owner's own document lists it. Whether the owner may speak for the
    /// document is for the caller to know.
    ///
    /// # Errors
    /// [`ProofFault::Unlisted`], [`ProofFault::Signature`] or [`ProofFault::Number`].
    pub fn verify_listed(&self, key: &ActorKey) -> Result<(), ProofFault> {
        if key.id != self.method || !key.asserts {
            return Err(ProofFault::Unlisted);
        }
        self.verify(&key.key)
    }

    /// Whether the proof was made over this document with the secret half of `key`, which must be an Ed25519 key. Whether
    /// the key is that of [`Claim::method`], and its owner the document's, is for the caller to know.
    ///
    /// # Errors
    /// [`ProofFault::Signature`] or [`ProofFault::Number`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), ProofFault> {
        let mut document = self.document.clone();
        // An LD signature is put beside the proof afterwards, and is not covered by it.
        document.remove("proof");
        document.remove("signature");
        if let Some(context) = self.context {
            document.insert("@context".to_owned(), context.clone());
        }
        let message = message(&Value::Object(self.config.clone()), &Value::Object(document));
        let message = message.ok_or(ProofFault::Number)?;
        key.verify(Algorithm::Ed25519, &message, &self.signature).then_some(()).ok_or(ProofFault::Signature)
    }
}

/// A proof of ours, in the order in which we write its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    #[serde(rename = "@context", skip_serializing_if = "Value::is_null")]
    context: Value,
    #[serde(rename = "type")]
    kind: &'static str,
    cryptosuite: &'static str,
    created: String,
    verification_method: Iri,
    proof_purpose: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    proof_value: String,
}

/// The proof of `document`, which has none yet, and no LD signature, by `key`; `created` to the second. The same in, the
/// same out: Ed25519 needs no chance. `None` if the key is no Ed25519 key, or a number in the document is none that can be
/// proven.
#[must_use]
pub fn prove(document: &Value, key: &SigningKey, created: Timestamp) -> Option<Proof> {
    if !key.is_ed25519() {
        return None;
    }
    let mut proof = Proof {
        context: document.get("@context").cloned().unwrap_or_default(),
        kind: KIND,
        cryptosuite: SUITE,
        created: created.rfc3339(),
        verification_method: key.key_id().clone(),
        proof_purpose: PURPOSE,
        proof_value: String::new(),
    };
    let message = message(&serde_json::to_value(&proof).ok()?, document)?;
    proof.proof_value = format!("z{}", bs58::encode(key.sign(&message)).into_string());
    Some(proof)
}

/// What is signed: the hash of the proof without its value, then that of the document without its proof. 64 bytes.
fn message(config: &Value, document: &Value) -> Option<Vec<u8>> {
    let hash = |value| Some(Sha256::digest(jcs::canonical(value)?));
    Some([hash(config)?, hash(document)?].concat())
}

fn time(value: Option<&Value>) -> Option<Timestamp> {
    value?.as_str().filter(|text| text.len() <= MAX_TIME_BYTES).and_then(Timestamp::from_rfc3339)
}

fn signature(text: &str) -> Option<[u8; 64]> {
    // base58 costs the square of its length.
    let digits = text.strip_prefix('z').filter(|_| text.len() <= MAX_VALUE_BYTES)?;
    bs58::decode(digits).into_vec().ok()?.try_into().ok()
}

/// Whether the document's context is the proof's, or that and more behind it.
fn begins_with(own: &Value, proven: &Value) -> bool {
    fn parts(context: &Value) -> &[Value] {
        match context {
            Value::Array(parts) => parts,
            one => std::slice::from_ref(one),
        }
    }
    parts(own).starts_with(parts(proven))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::json;

    macro_rules! vector {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/signed/", $name))
        };
    }

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn key() -> SigningKey {
        let id = Iri::parse("https://relay.example/actor#ed25519-key").unwrap();
        SigningKey::from_pem(id, include_str!("../../../tests/fixtures/keys/relay.ed25519.pk8.pem")).unwrap()
    }

    fn other_keys() -> [PublicKey; 2] {
        let rsa = PublicKey::from_pem(include_str!("../../../tests/fixtures/keys/subscriber.rsa.spki.pem")).unwrap();
        // RFC 8032 section 7.1, test 1.
        let other = PublicKey::from_multibase("z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw").unwrap();
        [rsa, other]
    }

    fn announce() -> Value {
        json::parse(vector!("announce-proof.body.json").as_bytes()).unwrap()
    }

    fn proven(document: &Value) -> Value {
        let mut document = document.clone();
        let proof = prove(&document, &key(), NOON).expect("a proof");
        document["proof"] = serde_json::to_value(proof).unwrap();
        document
    }

    fn without(document: &Value, names: &[&str]) -> Value {
        let mut document = document.clone();
        names.iter().for_each(|name| drop(document.as_object_mut().unwrap().remove(*name)));
        document
    }

    fn verdict(document: &Value) -> Result<(), ProofFault> {
        verify(document, &key().public(), NOON)
    }

    #[test]
    fn the_vector_is_made_and_verified_with_every_step_between() {
        let document = announce();
        assert_eq!(verdict(&document), Ok(()));
        let bare = without(&document, &["proof"]);
        let config = without(&document["proof"], &["proofValue"]);
        for (value, spelling, hash) in [
            (
                &config,
                vector!("announce-proof.config.jcs"),
                "1640a2c9d23baa70a6ad6b9255d6c1e84962aacf41b4140f92e3fb34fe9b4b9b",
            ),
            (
                &bare,
                vector!("announce-proof.document.jcs"),
                "33da641dc980b52990894c920e8e56639eb6dc287954c4a81672129b166973ea",
            ),
        ] {
            let made = jcs::canonical(value).unwrap();
            assert_eq!(String::from_utf8(made.clone()).unwrap(), spelling);
            let hex: String = Sha256::digest(&made).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, hash);
        }
        let made = serde_json::to_string(&prove(&bare, &key(), NOON).unwrap()).unwrap();
        assert!(vector!("announce-proof.body.json").ends_with(&format!("\"proof\":{made}}}")), "{made}");
    }

    /// The signed document of FEP-8b32's own test (fep-8b32.feature): no context in the proof, no id in the document.
    #[test]
    fn the_vector_of_the_fep_is_made_and_verified() {
        // PKCS#8 around the secret half of its Multikey.
        let secret = bs58::decode("3u2en7t5LR2WtQH5PfFqMqwVHBeXouLzo6haApm8XHqvjxq").into_vec().unwrap();
        let seed = secret.strip_prefix(&[0x80, 0x26]).expect("a secret Ed25519 Multikey");
        let der =
            [&[0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20], seed];
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", der.concat()));
        let id = Iri::parse("https://server.example/users/alice#ed25519-key").unwrap();
        let alice = SigningKey::from_pem(id, &pem).unwrap();
        let then = Timestamp::from_rfc3339("2023-02-24T23:36:38Z").unwrap();
        let document = json!({
            "@context": ["https://www.w3.org/ns/activitystreams", CONTEXT],
            "type": "Create", "actor": "https://server.example/users/alice",
            "object": { "type": "Note", "content": "Hello world" },
            "proof": {
                "type": "DataIntegrityProof", "cryptosuite": "eddsa-jcs-2022",
                "verificationMethod": "https://server.example/users/alice#ed25519-key",
                "proofPurpose": "assertionMethod", "created": "2023-02-24T23:36:38Z",
                "proofValue": "z3sXaxjKs4M3BRicwWA9peyNPJvJqxtGsDmpt1jjoHCjgeUf71TRFz56osPSfDErszyLp5Ks1EhYSgpDaNM977Rg2",
            },
        });
        assert_eq!(verify(&document, &alice.public(), then), Ok(()));
        let (config, bare) = (without(&document["proof"], &["proofValue"]), without(&document, &["proof"]));
        let made = bs58::encode(alice.sign(&message(&config, &bare).unwrap())).into_string();
        assert_eq!(document["proof"]["proofValue"], format!("z{made}"));
        // Nothing ties such a proof to a context: another one is another document.
        let mut other = document.clone();
        other["@context"].as_array_mut().unwrap().pop();
        assert_eq!(verify(&other, &alice.public(), then), Err(ProofFault::Signature));
    }

    #[test]
    fn a_document_holds_whatever_else_it_has_beside() {
        let mut beside = announce();
        beside["signature"] = json!({ "type": "RsaSignature2017", "creator": "https://relay.example/actor#main-key", "signatureValue": "x" });
        assert_eq!(verdict(&beside), Ok(()));
        // A single proof in an array; contexts behind those that were proven.
        let mut listed = announce();
        listed["proof"] = json!([listed["proof"]]);
        assert_eq!(verdict(&listed), Ok(()));
        let mut longer = announce();
        longer["@context"].as_array_mut().unwrap().push(json!({ "toot": "http://joinmastodon.org/ns#" }));
        assert_eq!(verdict(&longer), Ok(()));
        // Inside of the document nothing is left out.
        let nested = json!({ "id": "https://a.example/1", "object": { "proof": { "type": "x" }, "signature": "y" } });
        assert_eq!(verdict(&proven(&nested)), Ok(()));
        for name in ["proof", "signature"] {
            let mut changed = proven(&nested);
            changed["object"].as_object_mut().unwrap().remove(name);
            assert_eq!(verdict(&changed), Err(ProofFault::Signature), "{name}");
        }
        // Any document: without a context, with one as text, with floats, with keys in odd order.
        for document in [
            json!({ "id": "https://a.example/1" }),
            json!({ "@context": "https://www.w3.org/ns/activitystreams", "b": 1, "a": [0.1, -0.5, 1e-9] }),
            json!({ "😀": 1, "\u{fb33}": 2, "€": { "z": null, "a": "\u{8}\u{1f}\u{7f}\u{2028}" } }),
            json!({}),
        ] {
            assert_eq!(verdict(&proven(&document)), Ok(()), "{document}");
        }
    }

    #[test]
    fn every_way_to_miss_a_proof_by_one_member_is_named() {
        use ProofFault::*;
        let good = announce();
        let value = good["proof"]["proofValue"].as_str().unwrap();
        let flipped = |at: usize| {
            let mut bytes = bs58::decode(&value[1..]).into_vec().unwrap();
            bytes[at] ^= 1;
            format!("z{}", bs58::encode(bytes).into_string())
        };
        let longer = format!("z{}", bs58::encode([0_u8; 65]).into_string());
        let shorter = format!("z{}", bs58::encode([1_u8; 63]).into_string());
        let rows = [
            ("type", json!(null), Kind),
            ("type", json!("dataIntegrityProof"), Kind),
            ("type", json!(["DataIntegrityProof"]), Kind),
            ("type", json!("RsaSignature2017"), Kind),
            ("cryptosuite", json!(null), Suite),
            ("cryptosuite", json!("eddsa-rdfc-2022"), Suite),
            ("cryptosuite", json!("EDDSA-JCS-2022"), Suite),
            ("cryptosuite", json!("mldsa44-jcs-2024"), Suite),
            ("proofPurpose", json!(null), Purpose),
            ("proofPurpose", json!("authentication"), Purpose),
            ("proofPurpose", json!(["assertionMethod"]), Purpose),
            ("verificationMethod", json!(null), Method),
            ("verificationMethod", json!(""), Method),
            ("verificationMethod", json!("did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw"), Method),
            ("verificationMethod", json!({ "id": "https://relay.example/actor#ed25519-key" }), Method),
            ("verificationMethod", json!("https://relay.example/actor#ed25519-kez"), Signature),
            ("created", json!(null), Time),
            ("created", json!(1_787_486_400), Time),
            ("created", json!("yesterday"), Time),
            ("created", json!("2026-08-23"), Time),
            ("created", json!(format!("2026-08-23T12:00:00.{}Z", "0".repeat(64))), Time),
            ("created", json!("0000-01-01T00:00:00Z"), Stale),
            ("created", json!("9999-12-31T23:59:59Z"), Stale),
            ("created", json!("2026-08-23T10:59:59Z"), Stale),
            ("created", json!("2026-08-23T13:00:01Z"), Stale),
            ("created", json!("2026-08-23T12:00:01Z"), Signature),
            ("created", json!("2026-08-23T12:00:00+00:00"), Signature),
            ("expires", json!(null), Time),
            ("expires", json!("never"), Time),
            ("expires", json!("2026-08-23T11:59:59Z"), Expired),
            ("expires", json!("2026-08-23T12:00:00Z"), Expired),
            ("expires", json!("2026-08-23T13:00:00Z"), Signature),
            ("domain", json!("relay.example"), Tied),
            ("challenge", json!("x"), Tied),
            ("nonce", json!("x"), Tied),
            ("previousProof", json!("urn:uuid:1"), Tied),
            ("proofValue", json!(null), Value),
            ("proofValue", json!(""), Value),
            ("proofValue", json!("z"), Value),
            ("proofValue", json!(&value[1..]), Value),
            ("proofValue", json!(value.replacen('z', "u", 1)), Value),
            ("proofValue", json!(format!("{value}0")), Value),
            ("proofValue", json!(format!("z{}", "2".repeat(1 << 20))), Value),
            ("proofValue", json!(longer), Value),
            ("proofValue", json!(shorter), Value),
            ("proofValue", json!([value]), Value),
            ("proofValue", json!(flipped(0)), Signature),
            ("proofValue", json!(flipped(31)), Signature),
            ("proofValue", json!(flipped(32)), Signature),
            ("proofValue", json!(flipped(63)), Signature),
            ("@context", json!("https://www.w3.org/ns/activitystreams"), Signature),
            ("@context", json!(["https://w3id.org/security/data-integrity/v1"]), Context),
            ("@context", json!([]), Signature),
            ("@context", json!(null), Context),
            ("id", json!("urn:uuid:1"), Signature),
            ("extra", json!(1), Signature),
            ("extra", json!(9_007_199_254_740_993_u64), Number),
        ];
        for (name, changed, expected) in rows {
            let mut document = good.clone();
            document["proof"][name] = changed.clone();
            assert_eq!(verdict(&document), Err(expected), "{name} {changed}");
        }
        for name in ["type", "cryptosuite", "proofPurpose", "verificationMethod", "created", "proofValue"] {
            let mut document = good.clone();
            document["proof"].as_object_mut().unwrap().remove(name);
            assert!(verdict(&document).is_err(), "without {name}");
        }
        // Without its own context the proof is over other bytes.
        let mut document = good.clone();
        document["proof"].as_object_mut().unwrap().remove("@context");
        assert_eq!(verdict(&document), Err(Signature));
    }

    #[test]
    fn every_way_to_miss_the_document_is_named() {
        use ProofFault::*;
        let good = announce();
        for name in ["id", "type", "actor", "published", "to", "object"] {
            assert_eq!(verdict(&without(&good, &[name])), Err(Signature), "without {name}");
            let mut document = good.clone();
            document[name] = json!("https://relay.example/x");
            assert_eq!(verdict(&document), Err(Signature), "another {name}");
        }
        let rows = [
            ("added", json!(1), Signature),
            ("cc", json!(["https://www.w3.org/ns/activitystreams#Public"]), Signature),
            ("number", json!(1e300), Number),
            ("@context", json!("https://www.w3.org/ns/activitystreams"), Context),
            ("@context", json!([{}, "https://www.w3.org/ns/activitystreams", CONTEXT]), Context),
            ("@context", json!([CONTEXT, "https://www.w3.org/ns/activitystreams"]), Context),
            ("@context", json!(null), Context),
            ("proof", json!(null), NotOne),
            ("proof", json!([]), NotOne),
            ("proof", json!([good["proof"], good["proof"]]), NotOne),
            ("proof", json!([[good["proof"]]]), NotOne),
            ("proof", json!("https://relay.example/proof"), NotOne),
            ("proof", json!({}), Kind),
        ];
        for (name, changed, expected) in rows {
            let mut document = good.clone();
            document[name] = changed.clone();
            assert_eq!(verdict(&document), Err(expected), "{name} {changed}");
        }
        assert_eq!(verdict(&without(&good, &["@context"])), Err(Context));
        assert_eq!(verdict(&without(&good, &["proof"])), Err(NotOne));
        for other in [json!([good]), json!(null), json!("x")] {
            assert_eq!(verdict(&other), Err(NotOne), "{other}");
        }
        // The proof of another document, by the same key.
        let mut moved = good.clone();
        moved["proof"] =
            proven(&json!({ "@context": good["@context"], "id": "https://relay.example/1" }))["proof"].clone();
        assert_eq!(verdict(&moved), Err(Signature));
    }

    #[test]
    fn another_key_and_another_hour_do_not_hold() {
        let document = announce();
        for other in other_keys() {
            assert_eq!(verify(&document, &other, NOON), Err(ProofFault::Signature), "{other:?}");
        }
        let at = |seconds: i64| verify(&document, &key().public(), Timestamp::from_secs(NOON.secs() + seconds));
        for (seconds, expected) in
            [(-3601, Err(ProofFault::Stale)), (-3600, Ok(())), (3600, Ok(())), (3601, Err(ProofFault::Stale))]
        {
            assert_eq!(at(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn the_hashes_are_signed_in_their_order() {
        let document = announce();
        let (config, bare) = (without(&document["proof"], &["proofValue"]), without(&document, &["proof"]));
        let mut swapped = document.clone();
        let value = key().sign(&message(&bare, &config).unwrap());
        swapped["proof"]["proofValue"] = json!(format!("z{}", bs58::encode(value).into_string()));
        assert_eq!(verdict(&swapped), Err(ProofFault::Signature));
        // Nor is it the hashes' text, or the documents themselves.
        assert_eq!(message(&config, &bare).unwrap().len(), 64);
    }

    #[test]
    fn the_key_is_the_one_that_is_named_and_listed_for_proofs() {
        let document = announce();
        let claim = read(&document, NOON).unwrap();
        let owner = Iri::parse("https://relay.example/actor").unwrap();
        let good = ActorKey { id: claim.method.clone(), owner, key: key().public(), asserts: true };
        assert_eq!(claim.verify_listed(&good), Ok(()));
        assert_eq!(claim.verify_listed(&ActorKey { asserts: false, ..good.clone() }), Err(ProofFault::Unlisted));
        let id = Iri::parse("https://relay.example/actor#main-key").unwrap();
        assert_eq!(claim.verify_listed(&ActorKey { id, ..good.clone() }), Err(ProofFault::Unlisted));
        let [_, other] = other_keys();
        assert_eq!(claim.verify_listed(&ActorKey { key: other, ..good }), Err(ProofFault::Signature));
    }

    #[test]
    fn an_rsa_key_proves_nothing() {
        let id = Iri::parse("https://relay.example/actor#main-key").unwrap();
        let rsa = SigningKey::from_pem(id, include_str!("../../../tests/fixtures/keys/relay.rsa.pk8.pem")).unwrap();
        assert_eq!(prove(&json!({}), &rsa, NOON), None);
        assert_eq!(prove(&json!({ "n": u64::MAX }), &key(), NOON), None);
    }
}

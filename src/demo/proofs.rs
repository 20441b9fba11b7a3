//! Proofs in documents (FEP-8b32, `eddsa-jcs-2022`), made and checked with code of the demo's own. The keys are worthless:
//! each follows from the actor's id.
//!
//! The text that is hashed is JSON with sorted keys. For documents such as these, whose keys are plain ASCII and whose
//! numbers are small and whole, that is what RFC 8785 asks for.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ld::sorted;
use super::remote::text;
use crate::clock::Timestamp;

const CONTEXT: &str = "https://w3id.org/security/data-integrity/v1";

/// Multicodec prefix of an Ed25519 public key.
const PREFIX: [u8; 2] = [0xed, 0x01];

/// What an actor's document lists in `assertionMethod`.
pub(super) fn published(actor: &str) -> Value {
    let key = pair(actor).map(|pair| [&PREFIX[..], pair.public_key().as_ref()].concat()).unwrap_or_default();
    json!([{ "id": method(actor), "type": "Multikey", "controller": actor, "publicKeyMultibase": base58(&key) }])
}

/// Adds `actor`'s proof to `activity`.
pub(super) fn attach(activity: &mut Value, actor: &str, at: Timestamp) {
    let context = match activity.get("@context") {
        Some(Value::Array(parts)) => [parts.as_slice(), &[json!(CONTEXT)]].concat(),
        Some(one) => vec![one.clone(), json!(CONTEXT)],
        None => vec![json!(CONTEXT)],
    };
    activity["@context"] = json!(context);
    let mut proof = json!({
        "@context": context, "type": "DataIntegrityProof", "cryptosuite": "eddsa-jcs-2022", "created": at.rfc3339(),
        "verificationMethod": method(actor), "proofPurpose": "assertionMethod",
    });
    let made = pair(actor)
        .map(|pair| pair.sign(&message(&proof, &without(activity, &["signature"]))).as_ref().to_vec())
        .unwrap_or_default();
    proof["proofValue"] = json!(base58(&made));
    activity["proof"] = proof;
}

/// Whether the proof in `activity` was made over it with a key that `actor` (its document) lists; `None` without one.
pub(super) fn holds(activity: &Value, actor: &Value) -> Option<bool> {
    let proof = activity.get("proof")?;
    let listed = actor.get("assertionMethod").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let key =
        listed.iter().find(|key| text(key, "id").is_some() && text(key, "id") == text(proof, "verificationMethod"));
    let key = key.and_then(|key| unbase58(text(key, "publicKeyMultibase")?));
    let (Some(key), Some(value)) = (key, text(proof, "proofValue").and_then(unbase58)) else { return Some(false) };
    let Some(key) = key.strip_prefix(&PREFIX) else { return Some(false) };
    let honest = text(proof, "cryptosuite") == Some("eddsa-jcs-2022")
        && text(proof, "proofPurpose") == Some("assertionMethod")
        && proof.get("@context") == activity.get("@context");
    let (config, document) = (without(proof, &["proofValue"]), without(activity, &["proof", "signature"]));
    Some(honest && UnparsedPublicKey::new(&ED25519, key).verify(&message(&config, &document), &value).is_ok())
}

fn method(actor: &str) -> String {
    format!("{actor}#ed25519-key")
}

fn pair(actor: &str) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(format!("throw-away {actor}"))).ok()
}

fn message(config: &Value, document: &Value) -> Vec<u8> {
    [config, document].map(|value| Sha256::digest(sorted(value).to_string())).concat()
}

fn without(value: &Value, names: &[&str]) -> Value {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    value
}

fn base58(bytes: &[u8]) -> String {
    format!("z{}", bs58::encode(bytes).into_string())
}

fn unbase58(text: &str) -> Option<Vec<u8>> {
    bs58::decode(text.strip_prefix('z').filter(|digits| digits.len() <= 96)?).into_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_document_and_its_actor_alone() {
        let (ada, eve) = ("http://127.0.0.1:1/users/ada", "http://127.0.0.1:1/users/eve");
        let document = |actor: &str| json!({ "id": actor, "assertionMethod": published(actor) });
        let mut activity = json!({ "@context": "https://www.w3.org/ns/activitystreams", "actor": ada, "n": 1 });
        assert_eq!(holds(&activity, &document(ada)), None);
        attach(&mut activity, ada, Timestamp::from_secs(1));
        assert_eq!(holds(&activity, &document(ada)), Some(true));
        assert_eq!(holds(&activity, &document(eve)), Some(false));
        activity["n"] = json!(2);
        assert_eq!(holds(&activity, &document(ada)), Some(false));
    }
}

//! Proofs in documents (FEP-8b32, `eddsa-jcs-2022`), made by hand: with whichever key a case names, over whatever it says,
//! and bent afterwards. The keys are worthless, each follows from a name. Nothing here is the relay's own code.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// How the finished activity is proven.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prove {
    /// The name of the key; as the author's host uses it where it is left out.
    pub(super) key: Option<String>,
    /// What is proven: the activity, or by JSON pointer a part of it.
    #[serde(default)]
    pub(super) part: String,
    /// Members of the proof to set before it is made, by JSON pointer.
    #[serde(default)]
    pub(super) set: Map<String, Value>,
    /// Members of the proof to take away before it is made.
    #[serde(default)]
    pub(super) remove: Vec<String>,
    /// Members of the activity to set when it is proven.
    #[serde(default)]
    pub(super) then: Map<String, Value>,
    /// Members of the activity to take away when it is proven.
    #[serde(default)]
    pub(super) then_remove: Vec<String>,
    /// The text that stands for the value is this, made of the real one (`${value}`, `${digits}` without the `z`).
    pub(super) value: Option<String>,
    /// How many bytes of the signature are left, or put on: less than none are taken.
    #[serde(default)]
    pub(super) longer: i64,
}

fn pair(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&Sha256::digest(name)).expect("32 bytes")
}

/// The public half of a key, as a Multikey says it.
pub(super) fn multibase(name: &str) -> String {
    base58(&[&[0xed, 0x01], pair(name).public_key().as_ref()].concat())
}

fn base58(bytes: &[u8]) -> String {
    format!("z{}", bs58::encode(bytes).into_string())
}

/// The proof of `document` with the key of this name, its members first bent by `bend`.
pub(super) fn proof(
    document: &Value,
    prove: &Prove,
    key: &str,
    method: &str,
    now: &str,
    bend: impl Fn(&mut Value),
) -> Value {
    let mut proof = json!({
        "type": "DataIntegrityProof", "cryptosuite": "eddsa-jcs-2022", "created": now, "verificationMethod": method,
        "proofPurpose": "assertionMethod",
    });
    if let Some(context) = document.get("@context") {
        proof["@context"] = context.clone();
    }
    bend(&mut proof);
    let hash = |value: &Value| Sha256::digest(sorted(value));
    let mut signature = pair(key).sign(&[hash(&proof), hash(document)].concat()).as_ref().to_vec();
    signature.resize(usize::try_from(64 + prove.longer).expect("a length"), 0);
    let value = base58(&signature);
    proof["proofValue"] = match &prove.value {
        Some(text) => json!(text.replace("${value}", &value).replace("${digits}", value.trim_start_matches('z'))),
        None => json!(value),
    };
    proof
}

/// JSON with sorted keys: what RFC 8785 asks for where keys are ASCII and numbers small and whole.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("{}:{}", json!(name), sorted(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

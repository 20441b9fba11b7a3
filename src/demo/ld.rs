//! The embedded signature of an author, in the shape of `RsaSignature2017`.
//!
//! It stands in for the real algorithm, and does not pretend to be it: real servers hash RDF that JSON-LD processing
//! yields; this signs the JSON text with sorted keys. Shape, key and owner are the real ones, and the receiving
//! instances check it, so a forwarded post that was altered by a single character is found out. A relay that carries
//! such signatures without believing them cannot tell the difference.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::keys::{self, Key};
use crate::clock::Timestamp;

/// Adds the signature of `creator` (a key id) to `activity`.
pub(super) fn attach(activity: &mut Value, creator: &str, key: &Key, at: Timestamp, nonce: Option<&str>) {
    let mut options = json!({ "type": "RsaSignature2017", "creator": creator, "created": at.rfc3339() });
    if let (Some(nonce), Some(map)) = (nonce, options.as_object_mut()) {
        map.insert("nonce".to_owned(), json!(nonce));
    }
    let value = STANDARD.encode(key.sign(digest(&options, activity).as_bytes()));
    if let (Some(options), Some(activity)) = (options.as_object_mut(), activity.as_object_mut()) {
        options.insert("signatureValue".to_owned(), json!(value));
        activity.insert("signature".to_owned(), Value::Object(options.clone()));
    }
}

/// The key id that the embedded signature names, if there is one.
pub(super) fn creator(activity: &Value) -> Option<&str> {
    let signature = activity.get("signature")?;
    (signature.get("type")?.as_str()? == "RsaSignature2017").then(|| signature.get("creator")?.as_str())?
}

/// Whether the embedded signature was made over this very document with the key in `public_pem`.
pub(super) fn holds(activity: &Value, public_pem: &str) -> bool {
    let Some(signature) = activity.get("signature") else { return false };
    let without = |value: &Value, name: &str| match value {
        Value::Object(map) => {
            Value::Object(map.iter().filter(|(key, _)| *key != name).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        other => other.clone(),
    };
    let text = digest(&without(signature, "signatureValue"), &without(activity, "signature"));
    let value = signature.get("signatureValue").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok());
    value.is_some_and(|value| keys::holds(public_pem, text.as_bytes(), &value))
}

fn digest(options: &Value, document: &Value) -> String {
    let hash = |value: &Value| hex(&Sha256::digest(sorted(value).to_string()));
    format!("{}{}", hash(options), hash(document))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// With the members of every object in order of their names, whatever order the parser keeps.
pub(super) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            Value::Object(members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_altered_character_is_found_out() {
        let mut activity = json!({ "type": "Create", "object": { "content": "<p>Guten Morgen</p>" } });
        attach(&mut activity, "http://127.0.0.1:1/users/a#main-key", keys::key(0), Timestamp::from_secs(1), Some("n"));
        assert_eq!(creator(&activity), Some("http://127.0.0.1:1/users/a#main-key"));
        assert!(holds(&activity, keys::key(0).public_pem()));
        assert!(!holds(&activity, keys::key(1).public_pem()));
        activity["object"]["content"] = json!("<p>Guten Abend</p>");
        assert!(!holds(&activity, keys::key(0).public_pem()));
    }
}

//! FEP-8b32 proofs: none but ours holds. The input is a document; it is judged as it is, and with a proof of ours, which
//! must hold, and must not hold any more for the document with one member more.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shearwater::ids::Iri;
use shearwater::wire::key::SigningKey;
use shearwater::wire::{json, proof};
use shearwater_fuzz::NOON;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let id = Iri::parse("https://relay.example/actor#ed25519-key").expect("an id");
    SigningKey::from_pem(id, include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem")).expect("a key")
});

fuzz_target!(|data: &[u8]| {
    let Ok(mut document) = json::parse(data) else { return };
    let Some(members) = document.as_object_mut() else { return };
    let known = members
        .get("proof")
        .and_then(|proof| proof.get("proofValue"))
        .and_then(Value::as_str)
        .is_some_and(|value| include_str!("../../tests/fixtures/signed/announce-proof.body.json").contains(value));
    if !known {
        assert!(proof::verify(&document, &KEY.public(), NOON).is_err(), "a proof that we did not make");
    }
    let Some(members) = document.as_object_mut() else { return };
    members.remove("proof");
    // One that is put beside a proof afterwards is not covered by it; we prove nothing that bears one.
    members.remove("signature");
    let Some(made) = proof::prove(&document, &KEY, NOON) else { return };
    let Ok(made) = serde_json::to_value(&made) else { return };
    let Some(members) = document.as_object_mut() else { return };
    members.insert("proof".to_owned(), made);
    assert_eq!(proof::verify(&document, &KEY.public(), NOON), Ok(()), "what we made does not hold");
    let Some(members) = document.as_object_mut() else { return };
    if members.insert("x-more".to_owned(), Value::from(1)).is_none() {
        assert!(proof::verify(&document, &KEY.public(), NOON).is_err(), "a member more, and it holds");
    }
});

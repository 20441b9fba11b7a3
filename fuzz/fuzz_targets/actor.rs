//! Actors and key documents: nothing in one leads to another server, no key belongs to anybody else, and what a key's
//! text says survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use shearwater::ids::Iri;
use shearwater::wire::actor::{ActorKey, KeyDocument, RemoteActor};
use shearwater::wire::key::PublicKey;

fn check_keys(owner: &Iri, keys: &[ActorKey], document: &Value) {
    assert!(keys.len() <= 10);
    let text = document.to_string();
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(key.owner, *owner, "a key of somebody else's");
        assert!(key.id.same_origin(owner));
        assert!(text.contains(&json!(key.id.as_str()).to_string()));
        assert!(keys[..at].iter().all(|other| other.id != key.id), "two keys under one id");
        check_key(&key.key);
    }
}

fn check_key(key: &PublicKey) {
    assert_eq!(PublicKey::from_pem(&key.to_spki_pem()).as_ref(), Ok(key));
    // An RSA key of 2048 bits takes 294 bytes or, with a short exponent, a few less.
    assert!(matches!(key.bytes().len(), 32 | 290..=1100), "{key:?}");
    assert!(!key.verify(key.algorithm(), b"message", &[1; 256]));
}

fuzz_target!(|data: &[u8]| {
    let Some(document) = shearwater_fuzz::json(data) else { return };
    let actor = RemoteActor::read(&document);
    if let Ok(actor) = &actor {
        assert_eq!(document["id"].as_str().or(document["id"]["id"].as_str()), Some(actor.id.as_str()));
        assert!(actor.inbox.same_origin(&actor.id), "deliveries aimed at another server");
        assert!(actor.shared_inbox.as_ref().is_none_or(|inbox| inbox.same_origin(&actor.id)));
        assert!(actor.username.as_ref().is_none_or(|name| (1..=256).contains(&name.len())));
        check_keys(&actor.id, &actor.keys, &document);
        let mut evil = document.clone();
        evil["inbox"] = json!("https://elsewhere.invalid/inbox");
        assert!(RemoteActor::read(&evil).is_err());
    }
    let Ok(found) = KeyDocument::read(&document) else { return };
    match &found {
        KeyDocument::Actor(read) => assert_eq!(actor.as_ref(), Ok(read)),
        KeyDocument::Key { id, owner, key } => {
            assert!(owner.same_origin(id));
            check_key(key);
            assert_eq!(found.key(id.as_str()), Some(key));
        }
        KeyDocument::Stub { id, keys } => {
            assert!(!keys.is_empty() && actor.is_err());
            check_keys(id, keys, &document);
        }
    }
    assert_eq!(found.key("https://elsewhere.invalid/#main-key"), None);
});

//! What other servers really send, read through the front door of this floor: `tests/fixtures/activities`.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::activity::{Activity, ActivityFault, FollowRef, Kind, Target};
use super::actor::{ActorKind, KeyDocument, RemoteActor};
use super::json;
use super::key::PublicKey;
use super::object::{Post, Visibility};

const SUBSCRIBER: &str = include_str!("../../tests/fixtures/keys/subscriber.rsa.spki.pem");

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/activities")
}

fn load(name: &str) -> Value {
    let bytes = fs::read(folder().join(name)).expect(name);
    json::parse(&bytes).expect(name)
}

/// Every document of every software, by `software/name.json`.
fn all() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for software in fs::read_dir(folder()).expect("the fixtures").flatten() {
        let Ok(files) = fs::read_dir(software.path()) else { continue };
        for file in files.flatten().map(|file| file.file_name().into_string().expect("a name")) {
            if file.ends_with(".json") {
                let name = format!("{}/{file}", software.file_name().into_string().expect("a name"));
                let value = load(&name);
                found.push((name, value));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

#[test]
fn every_document_of_every_software_reads() {
    let mut counts = (0, 0);
    for (name, document) in all() {
        if name.contains("/actor-") {
            let actor = RemoteActor::read(&document).expect(&name);
            let expected = PublicKey::from_pem(SUBSCRIBER).expect("a key");
            assert_eq!(actor.keys.iter().map(|key| &key.key).collect::<Vec<_>>(), [&expected], "{name}");
            assert_eq!(actor.keys[0].owner, actor.id, "{name}");
            assert_eq!(KeyDocument::read(&document), Ok(KeyDocument::Actor(actor)), "{name}");
            counts.0 += 1;
        } else if !name.contains("/key-") {
            Activity::read(&document).expect(&name);
            counts.1 += 1;
        }
    }
    assert_eq!(counts, (8, 30));
}

#[test]
fn activities_say_what_their_servers_mean() {
    use Visibility::{Limited, Public, Unaddressed, Unlisted};
    // Name, kind, has an id, visibility, LD signature, the object's id or how else it is named.
    let table: &[(&str, Kind, bool, Visibility, bool, &str)] = &[
        ("akkoma/announce-by-relay", Kind::Announce, true, Limited, false, "https://akkoma.example/objects/2b7f"),
        ("akkoma/create-note", Kind::Create, true, Public, false, "https://akkoma.example/objects/6f"),
        ("akkoma/follow-relay", Kind::Follow, true, Limited, false, "https://relay.example/actor"),
        ("friendica/create-note", Kind::Create, true, Public, true, "https://friendica.example/objects/1"),
        ("friendica/follow-relay", Kind::Follow, true, Limited, false, "https://relay.example/actor"),
        ("gotosocial/follow-relay", Kind::Follow, true, Limited, false, "https://relay.example/actor"),
        ("gotosocial/push-create", Kind::Create, true, Public, false, "https://gts.example/users/di/statuses/01K"),
        ("gotosocial/push-delete", Kind::Delete, false, Public, false, "https://gts.example/users/di/statuses/01K"),
        (
            "mastodon/add-featured",
            Kind::Other("Add".to_owned()),
            false,
            Public,
            false,
            "https://mastodon.example/users/ada/statuses/114",
        ),
        ("mastodon/announce", Kind::Announce, true, Public, true, "https://other.example/users/bo/statuses/9"),
        ("mastodon/create-note", Kind::Create, true, Public, true, "https://mastodon.example/users/ada/statuses/114"),
        (
            "mastodon/create-unlisted-reply",
            Kind::Create,
            true,
            Unlisted,
            false,
            "https://mastodon.example/users/ada/statuses/115",
        ),
        ("mastodon/create-vote", Kind::Create, true, Limited, false, "https://mastodon.example/users/ada#votes/3"),
        ("mastodon/delete-actor", Kind::Delete, true, Public, true, "https://mastodon.example/users/ada"),
        ("mastodon/delete-note", Kind::Delete, true, Public, true, "https://mastodon.example/users/ada/statuses/114"),
        ("mastodon/follow-relay", Kind::Follow, true, Unaddressed, false, "public"),
        ("mastodon/move", Kind::Move, true, Unaddressed, false, "https://mastodon.example/users/ada"),
        (
            "mastodon/undo-announce",
            Kind::Undo,
            true,
            Public,
            true,
            "https://mastodon.example/users/ada/statuses/117/activity",
        ),
        (
            "mastodon/undo-follow-relay",
            Kind::Undo,
            true,
            Unaddressed,
            false,
            "https://mastodon.example/6f9b1c0e-1d5e-4a53-9d1a-0f2f6f2f7a11",
        ),
        ("mastodon/update-actor", Kind::Update, true, Public, true, "https://mastodon.example/users/ada"),
        ("misskey/create-note", Kind::Create, true, Public, true, "https://misskey.example/notes/9xyz"),
        ("misskey/follow-relay", Kind::Follow, true, Unaddressed, false, "public"),
        (
            "misskey/undo-follow-relay",
            Kind::Undo,
            true,
            Unaddressed,
            false,
            "https://misskey.example/activities/follow-relay/7",
        ),
        (
            "peertube/announce-by-channel",
            Kind::Announce,
            true,
            Public,
            false,
            "https://peertube.example/videos/watch/0f3c",
        ),
        ("peertube/create-video", Kind::Create, true, Public, true, "https://peertube.example/videos/watch/0f3c"),
        (
            "wordpress/announce-by-blog",
            Kind::Announce,
            true,
            Public,
            false,
            "https://blog.example/?p=12#activity-create-2026-08-23T12:00:00Z",
        ),
    ];
    for (name, kind, has_id, visibility, signed, object) in table {
        let activity = Activity::read(&load(&format!("{name}.json"))).expect(name);
        assert_eq!(&activity.kind, kind, "{name}");
        assert_eq!(activity.id.is_some(), *has_id, "{name}");
        assert_eq!(activity.audience.visibility(), *visibility, "{name}");
        assert_eq!(activity.ld_creator.is_some(), *signed, "{name}");
        assert!(!activity.has_proof, "{name}");
        let named = match &activity.target {
            Target::Public => "public",
            other => other.id().map_or("none", |id| id.as_str()),
        };
        assert_eq!(&named, object, "{name}");
        if let Some(creator) = &activity.ld_creator {
            assert_eq!(creator.without_fragment(), activity.actor, "{name}");
        }
    }
}

#[test]
fn posts_inside_activities_name_their_author_and_their_audience() {
    let table = [
        ("akkoma/create-note", "Note", "https://akkoma.example/users/cy", Visibility::Public, false),
        ("friendica/create-note", "Note", "https://friendica.example/profile/em", Visibility::Public, false),
        ("gotosocial/push-create", "Note", "https://gts.example/users/di", Visibility::Public, false),
        ("mastodon/create-note", "Note", "https://mastodon.example/users/ada", Visibility::Public, false),
        ("mastodon/create-unlisted-reply", "Note", "https://mastodon.example/users/ada", Visibility::Unlisted, true),
        ("mastodon/update-question", "Question", "https://mastodon.example/users/ada", Visibility::Public, false),
        ("misskey/create-note", "Note", "https://misskey.example/users/9abc", Visibility::Public, false),
        ("peertube/create-video", "Video", "https://peertube.example/accounts/fi", Visibility::Public, false),
        ("wordpress/create-article", "Article", "https://blog.example/?author=1", Visibility::Public, false),
    ];
    for (name, kind, owner, visibility, is_reply) in table {
        let activity = Activity::read(&load(&format!("{name}.json"))).expect(name);
        let Target::Embedded { value, .. } = &activity.target else { panic!("{name}") };
        let post = Post::read(value).expect(name);
        assert_eq!((post.kind.as_str(), post.owner.as_ref().map(|o| o.as_str())), (kind, Some(owner)), "{name}");
        assert_eq!(Some(&post.id), activity.target.id(), "{name}");
        assert_eq!((post.audience.visibility(), post.is_reply, post.is_vote), (visibility, is_reply, false), "{name}");
        assert!(post.published.is_some(), "{name}");
    }
}

#[test]
fn the_follow_inside_an_undo_is_found_in_all_its_forms() {
    for name in ["mastodon/undo-follow-relay.json", "misskey/undo-follow-relay.json"] {
        let activity = Activity::read(&load(name)).expect(name);
        let follow = activity.read_embedded().expect(name);
        assert_eq!((follow.actor, follow.object), (Some(activity.actor), Target::Public), "{name}");
        assert!(follow.id.is_some());
    }
    let undo = Activity::read(&load("mastodon/undo-announce.json")).expect("it reads");
    assert_eq!(undo.read_embedded(), None);
}

#[test]
fn keys_are_found_where_each_software_puts_them() {
    let stub = KeyDocument::read(&load("gotosocial/key-stub.json")).expect("a stub");
    assert!(matches!(stub, KeyDocument::Stub { .. }));
    assert_eq!(stub.owner().as_str(), "https://gts.example/users/di");
    assert!(stub.key("https://gts.example/users/di/main-key").is_some());
    assert!(stub.key("https://gts.example/users/di#main-key").is_none());

    let relay = RemoteActor::read(&load("akkoma/actor-relay.json")).expect("an actor");
    assert_eq!((relay.kind, relay.username.as_deref()), (ActorKind::Application, Some("relay")));
    assert_eq!(relay.shared_inbox.as_ref().map(|inbox| inbox.as_str()), Some("https://akkoma.example/inbox"));
    let instance = RemoteActor::read(&load("gotosocial/actor-instance.json")).expect("an actor");
    assert_eq!(instance.shared_inbox, None);
}

/// What is done to a document, and what it is called.
type Rewrite = (&'static str, fn(&mut Value));

/// Five valid activities, each rewritten in ways that a JSON-LD reader would take for something else.
#[test]
fn restructured_activities_are_refused_whatever_they_were_made_from() {
    let rewrites: &[Rewrite] = &[
        ("@graph", |doc| doc["@graph"] = json!([{"type": "Announce"}])),
        ("@included", |doc| doc["@included"] = json!([{"type": "Delete"}])),
        ("@reverse", |doc| doc["@reverse"] = json!({"object": {"type": "Undo"}})),
        ("@nest", |doc| doc["wrapped"] = json!({"@nest": {"object": "https://evil.example/1"}})),
        ("inner @graph", |doc| doc["tag"] = json!([{"a": {"@graph": []}}])),
        ("@id beside id", |doc| doc["@id"] = json!("https://evil.example/1")),
        ("@type beside type", |doc| doc["@type"] = json!("Delete")),
        ("as:object beside object", |doc| doc["as:object"] = json!("https://evil.example/1")),
        ("second name of object", |doc| doc["@context"] = json!(["x", {"victim": "as:object"}])),
        ("second name of @id", |doc| doc["@context"] = json!(["x", {"uri": "@id"}])),
        ("type renamed", |doc| doc["@context"] = json!(["x", {"Undo": "as:Announce", "Create": "as:Delete"}])),
        ("object renamed", |doc| doc["@context"] = json!({"object": "ex:o", "as": "ex:"})),
        ("null context", |doc| doc["@context"] = json!(["x", null])),
    ];
    let names = [
        "mastodon/create-note",
        "mastodon/undo-announce",
        "misskey/delete-note",
        "akkoma/create-note",
        "wordpress/create-article",
    ];
    for name in names {
        let valid = load(&format!("{name}.json"));
        Activity::read(&valid).expect(name);
        for (rewrite, apply) in rewrites {
            let mut document = valid.clone();
            apply(&mut document);
            let read = Activity::read(&document);
            assert!(matches!(read, Err(ActivityFault::Restructured(_))), "{name}, {rewrite}: {read:?}");
        }
    }
}

/// The examples of the fediverse-pasture: many odd on purpose, none may make us stumble, most are ordinary posts.
#[test]
fn the_pasture_is_grazed_without_a_stumble() {
    let lines = fs::read_to_string(folder().join("pasture/creates.ndjson")).expect("the pasture");
    let mut posts = 0;
    let mut refused = Vec::new();
    for line in lines.lines() {
        let outcome = json::parse(line.as_bytes()).map_err(|fault| fault.to_string()).and_then(|document| {
            let activity = Activity::read(&document).map_err(|fault| fault.to_string())?;
            let _ = RemoteActor::read(&document);
            let _ = KeyDocument::read(&document);
            match &activity.target {
                Target::Embedded { value, .. } => Post::read(value).map_err(|fault| fault.to_string()),
                _ => Err("no embedded object".to_owned()),
            }
        });
        match outcome {
            Ok(post) => {
                posts += 1;
                assert!(post.owner.is_none_or(|owner| owner.same_origin(&post.id)));
            }
            Err(fault) => refused.push(fault),
        }
    }
    refused.sort();
    println!("{refused:#?}");
    assert!(posts >= 230, "{posts} posts, and {refused:#?}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "https://a.example/1",
        "https://a.example/1#k",
        "as:Public",
        "Create",
        "Note",
        "Follow",
        "Person",
        "",
        "@id",
        "Multikey",
        "z6MkqGeV4MKLRwSHkNsRNNB3V5iDY2nA1S6697rQLZxUDJW2",
        "RsaSignature2017",
        "2026-08-23T12:00:00Z",
        "as:object",
    ]);
    let key = prop::sample::select(vec![
        "id",
        "type",
        "actor",
        "object",
        "to",
        "cc",
        "attributedTo",
        "inReplyTo",
        "name",
        "content",
        "published",
        "signature",
        "creator",
        "signatureValue",
        "proof",
        "publicKey",
        "assertionMethod",
        "owner",
        "controller",
        "publicKeyPem",
        "publicKeyMultibase",
        "inbox",
        "endpoints",
        "sharedInbox",
        "@context",
        "@type",
        "links",
        "rel",
        "href",
        "software",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_makes_any_reader_panic(document in any_json(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = json::parse(&bytes);
        let again = json::parse(document.to_string().as_bytes());
        prop_assert_eq!(again.as_ref(), Ok(&document));
        let _ = RemoteActor::read(&document);
        let _ = KeyDocument::read(&document);
        let _ = Post::read(&document);
        let _ = super::discovery::parse_nodeinfo_links(&document);
        let _ = super::discovery::parse_nodeinfo(&document);
        let _ = super::discovery::parse_webfinger_self(&document);
        if let Ok(activity) = Activity::read(&document) {
            let _ = FollowRef::read(&activity.target);
        }
    }
}

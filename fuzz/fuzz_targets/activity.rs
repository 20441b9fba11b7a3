//! Activities and posts. Whatever JSON arrives: what is read is what stands there, as one plain document, and nothing
//! that only a JSON-LD processor would see.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use shearwater::ids::{Iri, PUBLIC};
use shearwater::wire::activity::{Activity, FollowRef, Target};
use shearwater::wire::object::{Audience, Post, Visibility};

/// Whether a key stands anywhere outside of a `@context`.
fn mentions(value: &Value, key: &str) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| mentions(item, key)),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name == key || name != "@context" && mentions(value, key))
        }
        _ => false,
    }
}

fn check_audience(document: &Value, audience: Audience) {
    let named = |field: &str| {
        let text = document.get(field).unwrap_or(&Value::Null).to_string();
        PUBLIC.iter().any(|public| text.contains(&format!("\"{public}\"")))
    };
    match audience.visibility() {
        Visibility::Public => assert!(named("to"), "public without saying so"),
        Visibility::Unlisted => assert!(named("cc") && !audience.to_public),
        Visibility::Limited => {
            assert!(["to", "cc", "bto", "bcc", "audience"].iter().any(|f| document.get(*f).is_some()))
        }
        Visibility::Unaddressed => assert!(!audience.addressed),
    }
}

fn check_post(document: &Value) {
    let Ok(post) = Post::read(document) else { return };
    assert_eq!(document["id"], json!(post.id.as_str()));
    assert!(!post.id.as_str().contains('#'));
    assert!(post.owner.as_ref().is_none_or(|owner| owner.same_origin(&post.id)), "somebody else's post");
    assert!(post.owner.is_some() || matches!(&document["attributedTo"], Value::Null | Value::Array(_)));
    assert!(!post.is_vote || post.is_reply);
    assert!(!matches!(post.kind.as_str(), "Person" | "Create" | "Delete" | "Tombstone" | "Collection"));
    check_audience(document, post.audience);
}

fuzz_target!(|data: &[u8]| {
    let Some(document) = shearwater_fuzz::json(data) else { return };
    check_post(&document);
    let Ok(activity) = Activity::read(&document) else { return };

    for key in ["@graph", "@included", "@reverse", "@nest", "@id"] {
        assert!(!mentions(&document, key), "read in spite of {key}");
    }
    assert_eq!(activity.id.as_ref().map(Iri::as_str), document.get("id").and_then(Value::as_str));
    assert!(document["actor"].to_string().contains(&json!(activity.actor.as_str()).to_string()));
    assert!(document["type"].to_string().contains(&json!(activity.kind.as_str()).to_string()));
    check_audience(&document, activity.audience);
    match &activity.target {
        Target::None => assert!(document.get("object").is_none_or(Value::is_null)),
        Target::Public => assert_eq!(activity.target.id(), None),
        Target::Id(id) => assert!(document["object"].to_string().contains(&json!(id.as_str()).to_string())),
        Target::Embedded { id, value } => {
            assert!(document["object"] == *value || document["object"] == json!([value]));
            assert_eq!(id.as_ref().map(Iri::as_str), value.get("id").and_then(Value::as_str));
            check_post(value);
        }
    }
    let _ = FollowRef::read(&activity.target);

    // The same bytes written by another program, or with a property that nobody knows, say the same.
    let again = shearwater_fuzz::json(document.to_string().as_bytes());
    assert_eq!(again.map(|again| Activity::read(&again)), Some(Ok(activity.clone())));
    let mut more = document.clone();
    more["x-unheard-of"] = json!([{ "id": 7 }]);
    assert_eq!(Activity::read(&more), Ok(activity));
    // What a JSON-LD processor would turn about is refused wherever it stands.
    for key in ["@graph", "@included", "@reverse", "@nest", "as:actor", "@id", "@type"] {
        let mut turned = document.clone();
        turned["tag"] = json!([{ "deep": [{ key: [] }] }]);
        assert!(Activity::read(&turned).is_err(), "{key} passes");
    }
});

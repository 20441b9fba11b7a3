//! The JSON that real servers send: posts, and the activities around them, in each family's own dress. Plain values;
//! nothing here knows of keys, clocks or sockets.

use serde_json::{Map, Value, json};

use super::family::Family;
use super::posts::{PostSpec, Visibility};
use crate::clock::Timestamp;

/// The one IRI that means everybody.
pub(super) const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";
/// The one context that everybody knows.
pub(super) const AS2: &str = "https://www.w3.org/ns/activitystreams";

/// Where a post stands in the world: the ids around it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) family: Family,
    pub(super) origin: String,
    /// The author's id.
    pub(super) author: String,
    /// The author's `preferredUsername`.
    pub(super) name: String,
    pub(super) id: String,
    /// The last part of the id.
    pub(super) token: String,
}

/// `to` and `cc` of a post.
pub(super) fn audience(author: &str, visibility: Visibility) -> (Value, Value) {
    let followers = format!("{author}/followers");
    match visibility {
        Visibility::Public => (json!([PUBLIC]), json!([followers])),
        Visibility::Unlisted => (json!([followers]), json!([PUBLIC])),
        Visibility::Followers => (json!([followers]), json!([])),
        Visibility::Direct => (json!([format!("{author}/friend")]), json!([])),
    }
}

/// The object as it is served and embedded, without `@context`.
pub(super) fn object(place: &Place, spec: &PostSpec, published: Timestamp) -> Value {
    let (to, cc) = audience(&place.author, spec.visibility);
    let content = format!("<p>{}{}</p>", escape(&spec.text), hashtags(place, &spec.tags));
    let mut note = json!({
        "id": place.id,
        "type": spec.kind,
        "attributedTo": place.author,
        "to": to,
        "cc": cc,
        "published": published.rfc3339(),
        "content": content,
        "summary": spec.warning,
        "sensitive": spec.warning.is_some(),
        "inReplyTo": spec.in_reply_to,
        "tag": tags(place, &spec.tags),
        "attachment": pictures(place, spec),
    });
    let own = match place.family {
        Family::Mastodon => json!({
            "url": format!("{}/@{}/{}", place.origin, place.name, place.token),
            "atomUri": place.id,
            "inReplyToAtomUri": spec.in_reply_to,
            "conversation": format!("tag:demo,2026:objectId={}:objectType=Conversation", place.token),
            "contentMap": { spec.language.as_str(): content },
            "replies": {
                "id": format!("{}/replies", place.id),
                "type": "Collection",
                "first": { "type": "CollectionPage", "partOf": format!("{}/replies", place.id), "items": [] }
            },
        }),
        Family::Misskey => json!({
            "_misskey_content": spec.text,
            "_misskey_summary": spec.warning,
            "source": { "content": spec.text, "mediaType": "text/x.misskeymarkdown" },
            "quoteUrl": null,
        }),
        Family::Akkoma => json!({
            "actor": place.author,
            "context": format!("{}/contexts/{}", place.origin, place.token),
            "conversation": format!("{}/contexts/{}", place.origin, place.token),
            "contentMap": { spec.language.as_str(): content },
            "source": { "content": spec.text, "mediaType": "text/plain" },
            "emoji": {},
            "likes": [],
            "announcements": [],
        }),
        Family::GoToSocial => json!({
            "url": format!("{}/@{}/statuses/{}", place.origin, place.name, place.token),
            "contentMap": { spec.language.as_str(): content },
            "interactionPolicy": { "canReply": { "automaticApproval": [PUBLIC] } },
            "replies": { "id": format!("{}/replies", place.id), "type": "Collection" },
        }),
        Family::Friendica => json!({
            "url": format!("{}/display/{}", place.origin, place.token),
            "diaspora:guid": place.token,
            "directMessage": false,
            "context": format!("{}#context", place.id),
            "contentMap": { spec.language.as_str(): content },
            "source": { "content": spec.text, "mediaType": "text/bbcode" },
        }),
    };
    merge(&mut note, own);
    if spec.kind == "Question" {
        merge(&mut note, question(published));
    }
    merge(&mut note, Value::Object(spec.extra.clone()));
    note
}

/// An activity around `object`, addressed like it.
pub(super) fn activity(kind: &str, id: &str, place: &Place, object: Value, published: Timestamp) -> Value {
    let (to, cc) = (object.get("to").cloned(), object.get("cc").cloned());
    let mut activity = json!({
        "@context": context(place.family, &place.origin),
        "id": id,
        "type": kind,
        "actor": place.author,
        "published": published.rfc3339(),
        "object": object,
    });
    if let (Some(to), Some(cc)) = (to, cc) {
        merge(&mut activity, json!({ "to": to, "cc": cc }));
    }
    activity
}

/// The deletion of a post, as Mastodon words it.
pub(super) fn delete(id: &str, place: &Place) -> Value {
    let tombstone = json!({ "id": place.id, "type": "Tombstone", "atomUri": place.id });
    json!({
        "@context": context(place.family, &place.origin),
        "id": id,
        "type": "Delete",
        "actor": place.author,
        "to": [PUBLIC],
        "object": tombstone,
    })
}

/// A boost of somebody's post by an ordinary user.
pub(super) fn boost(id: &str, actor: &str, object: &str, published: Timestamp) -> Value {
    json!({
        "@context": AS2, "id": id, "type": "Announce", "actor": actor, "object": object,
        "published": published.rfc3339(), "to": [PUBLIC], "cc": [format!("{actor}/followers")],
    })
}

/// LitePub: the relay actor announces a post of its instance to its followers, and not to Public. The context of the
/// real thing is no valid JSON-LD.
pub(super) fn litepub_announce(id: &str, actor: &str, place: &Place, published: Timestamp) -> Value {
    json!({
        "@context": context(Family::Akkoma, &place.origin), "id": id, "type": "Announce", "actor": actor,
        "object": place.id, "published": published.rfc3339(), "to": [format!("{actor}/followers")], "cc": [],
        "bto": [], "context": format!("{}/contexts/{}", place.origin, place.token),
    })
}

/// What stands in `@context`.
pub(super) fn context(family: Family, origin: &str) -> Value {
    match family {
        Family::Mastodon | Family::Friendica => json!([
            AS2,
            "https://w3id.org/security/v1",
            { "ostatus": "http://ostatus.org#", "atomUri": "ostatus:atomUri", "conversation": "ostatus:conversation",
              "sensitive": "as:sensitive", "toot": "http://joinmastodon.org/ns#", "Hashtag": "as:Hashtag",
              "blurhash": "toot:blurhash", "indexable": "toot:indexable", "discoverable": "toot:discoverable" }
        ]),
        Family::Misskey => json!([
            AS2,
            "https://w3id.org/security/v1",
            { "misskey": "https://misskey-hub.net/ns#", "_misskey_content": "misskey:_misskey_content",
              "_misskey_summary": "misskey:_misskey_summary", "quoteUrl": "as:quoteUrl", "sensitive": "as:sensitive",
              "Hashtag": "as:Hashtag" }
        ]),
        Family::Akkoma => json!([AS2, format!("{origin}/schemas/litepub-0.1.jsonld"), { "@language": "und" }]),
        Family::GoToSocial => json!([AS2, { "gts": "https://gotosocial.org/ns#", "sensitive": "as:sensitive" }]),
    }
}

fn question(published: Timestamp) -> Value {
    let end = published.plus(std::time::Duration::from_secs(86_400)).rfc3339();
    let option =
        |name: &str| json!({ "type": "Note", "name": name, "replies": { "type": "Collection", "totalItems": 0 } });
    json!({ "oneOf": [option("yes"), option("no")], "endTime": end, "votersCount": 0 })
}

fn hashtags(place: &Place, tags: &[String]) -> String {
    let link = |tag: &String| {
        let (origin, tag) = (&place.origin, escape(tag));
        format!(r#" <a href="{origin}/tags/{tag}" class="mention hashtag" rel="tag">#<span>{tag}</span></a>"#)
    };
    tags.iter().map(link).collect()
}

fn tags(place: &Place, tags: &[String]) -> Value {
    let tag = |tag: &String| json!({ "type": "Hashtag", "href": format!("{}/tags/{tag}", place.origin), "name": format!("#{tag}") });
    tags.iter().map(tag).collect()
}

fn pictures(place: &Place, spec: &PostSpec) -> Value {
    if !spec.picture {
        return json!([]);
    }
    json!([{
        "type": "Document", "mediaType": "image/jpeg", "url": format!("{}/media/{}.jpg", place.origin, place.token),
        "name": "What one sees from here", "blurhash": "UBL_:rOpGG-oBUNG,qRj2so|=eE1w^n4S5NH",
        "width": 1024, "height": 768, "focalPoint": [0.0, 0.0],
    }])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Puts the members of `more` into `value`, over those of the same name.
pub(super) fn merge(value: &mut Value, more: Value) {
    if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend::<Map<String, Value>>(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_posts_name_everybody_in_to() {
        let check = |visibility: Visibility, to: bool, cc: bool| {
            let (said_to, said_cc) = audience("http://127.0.0.1:1/users/a", visibility);
            assert_eq!(said_to.to_string().contains(PUBLIC), to, "{visibility:?}");
            assert_eq!(said_cc.to_string().contains(PUBLIC), cc, "{visibility:?}");
        };
        check(Visibility::Public, true, false);
        check(Visibility::Unlisted, false, true);
        check(Visibility::Followers, false, false);
        check(Visibility::Direct, false, false);
    }
}

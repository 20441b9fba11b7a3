//! Posts: who may see an object, whose it is, when it was written, and whether it is something a relay passes on at
//! all. Content is not looked at here.

use serde_json::Value;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::ids::{Iri, is_public};
use crate::wire::activity::id_of;
use crate::wire::json;

/// The kinds of object that are posts. No actors, no activities, no collections.
const POST_KINDS: [&str; 9] = ["Note", "Article", "Question", "Page", "Video", "Audio", "Image", "Event", "Document"];

/// The most addressees in each of `to` and `cc`, entries of `tag`, and attachments. Honest posts stay far below: who
/// mentions a hundred people is not read, but heard.
pub const MAX_ADDRESSEES: usize = 1000;
/// See [`MAX_ADDRESSEES`].
pub const MAX_TAGS: usize = 100;
/// See [`MAX_ADDRESSEES`].
pub const MAX_ATTACHMENTS: usize = 32;

/// Whom a document is addressed to, as far as a relay needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audience {
    /// `to` names the public audience, in any of its three spellings.
    pub to_public: bool,
    /// `cc` names it.
    pub cc_public: bool,
    /// There is any addressing at all, be it empty. `bto`, `bcc` and `audience` count here, but never make anything
    /// public.
    pub addressed: bool,
}

/// What an [`Audience`] amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Public in `to`: everyone, everywhere. The only kind that is relayed and indexed.
    Public,
    /// Public only in `cc` ("unlisted", "quiet public").
    Unlisted,
    /// Addressed, but not to the public.
    Limited,
    /// Says nothing: for an activity, the object's audience counts.
    Unaddressed,
}

impl Audience {
    /// Reads the addressing of an activity or object: strings, arrays, and objects with an `id`.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let field = |name: &str| document.get(name).filter(|value| !value.is_null());
        Self {
            to_public: field("to").is_some_and(names_public),
            cc_public: field("cc").is_some_and(names_public),
            addressed: ["to", "cc", "bto", "bcc", "audience"].iter().any(|name| field(name).is_some()),
        }
    }

    /// What it amounts to.
    #[must_use]
    pub const fn visibility(self) -> Visibility {
        match self {
            Self { to_public: true, .. } => Visibility::Public,
            Self { cc_public: true, .. } => Visibility::Unlisted,
            Self { addressed: true, .. } => Visibility::Limited,
            _ => Visibility::Unaddressed,
        }
    }
}

fn names_public(addressees: &Value) -> bool {
    match addressees {
        Value::Array(items) => items.iter().any(is_public_entry),
        one => is_public_entry(one),
    }
}

fn is_public_entry(entry: &Value) -> bool {
    id_of(entry).is_some_and(is_public)
}

/// Why a document is not a post that a relay can do anything with. The texts are fit for a log line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PostFault {
    /// Not a JSON object.
    #[error("it is not an object")]
    NotAnObject,
    /// JSON-LD that other servers would read differently.
    #[error("{0}")]
    Restructured(String),
    /// No `id`, or none that we take, or one with a fragment (which no document answers to).
    #[error("it has no usable id")]
    Id,
    /// More of this property than a relay passes on.
    #[error("it has more `{0}` than is passed on")]
    TooMany(&'static str),
    /// Not one of the kinds of post.
    #[error("its type is not that of a post")]
    Kind,
    /// `attributedTo` names nobody on the object's own origin.
    #[error("its author lives on another server than itself")]
    ForeignOwner,
}

/// A post, as its own document or as embedded in an activity. Reading it proves nothing: whoever got it from its origin
/// (or from its author's signature) knows whether to believe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Its id, as spelt.
    pub id: Iri,
    /// One of `Note`, `Article`, `Question`, `Page`, `Video`, `Audio`, `Image`, `Event`, `Document`.
    pub kind: String,
    /// The author, always of the same origin as `id`. `None` only if `attributedTo` is absent: then the `actor` of an
    /// enclosing `Create` of the same origin is meant.
    pub owner: Option<Iri>,
    /// Whom it is addressed to.
    pub audience: Audience,
    /// When it was written, as claimed.
    pub published: Option<Timestamp>,
    /// When it was last edited, as claimed.
    pub updated: Option<Timestamp>,
    /// A vote in a poll (a `Note` with a `name`, no `content`, in reply to something): never relayed.
    pub is_vote: bool,
    /// In reply to something.
    pub is_reply: bool,
}

impl Post {
    /// Reads a post.
    ///
    /// # Errors
    /// [`PostFault`] says why it is none.
    pub fn read(document: &Value) -> Result<Self, PostFault> {
        let Value::Object(fields) = document else { return Err(PostFault::NotAnObject) };
        if let Some(what) = json::restructured(document) {
            return Err(PostFault::Restructured(what));
        }
        let id = fields.get("id").and_then(Value::as_str).and_then(|id| Iri::parse(id).ok()).ok_or(PostFault::Id)?;
        if id.as_str().contains('#') {
            return Err(PostFault::Id);
        }
        let kind = single_text(fields.get("type")).filter(|kind| POST_KINDS.contains(kind)).ok_or(PostFault::Kind)?;
        let limits = [("tag", MAX_TAGS), ("attachment", MAX_ATTACHMENTS)];
        let too_many = limits.into_iter().find(|(name, most)| count(fields.get(*name)) > *most);
        if let Some(name) = too_many_addressees(document).or(too_many.map(|(name, _)| name)) {
            return Err(PostFault::TooMany(name));
        }
        let owner = owner(&id, fields.get("attributedTo"))?;
        let time = |name: &str| fields.get(name).and_then(Value::as_str).and_then(Timestamp::from_rfc3339);
        let said = |name: &str| fields.get(name).is_some_and(says_something);
        let is_reply = said("inReplyTo");
        Ok(Self {
            kind: kind.to_owned(),
            owner,
            audience: Audience::of(document),
            published: time("published"),
            updated: time("updated"),
            is_vote: kind == "Note" && is_reply && said("name") && !said("content"),
            is_reply,
            id,
        })
    }
}

/// The property with which an activity or object addresses more than [`MAX_ADDRESSEES`], if there is one.
pub(super) fn too_many_addressees(document: &Value) -> Option<&'static str> {
    ["to", "cc"].into_iter().find(|name| count(document.get(*name)) > MAX_ADDRESSEES)
}

fn count(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Array(items)) => items.len(),
        _ => 0,
    }
}

/// A string, or the one string of an array of one.
pub(super) fn single_text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::String(text) => Some(text),
        Value::Array(items) => match items.as_slice() {
            [Value::String(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
        _ => false,
    }
}

/// The author among `attributedTo`: a string, an object, or an array of them. PeerTube names a `Person` and a `Group`
/// (the channel); the first that is expressly a person wins, else the first on the object's own origin.
fn owner(id: &Iri, attributed_to: Option<&Value>) -> Result<Option<Iri>, PostFault> {
    let entries = match attributed_to {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) if items.is_empty() => return Ok(None),
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let mut found: Option<Iri> = None;
    for entry in entries {
        let owner = id_of(entry).and_then(|owner| Iri::parse(owner).ok()).filter(|owner| owner.same_origin(id));
        let Some(owner) = owner else { continue };
        if single_text(entry.get("type")) == Some("Person") {
            return Ok(Some(owner));
        }
        found.get_or_insert(owner);
    }
    found.map(Some).ok_or(PostFault::ForeignOwner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_to_and_cc_make_anything_public_in_all_three_spellings() {
        const P: &str = "https://www.w3.org/ns/activitystreams#Public";
        use Visibility::{Limited, Public, Unaddressed, Unlisted};
        let table = [
            (json!({"to": P}), Public),
            (json!({"to": [P]}), Public),
            (json!({"to": ["https://a.example/f", P]}), Public),
            (json!({"to": "as:Public"}), Public),
            (json!({"to": ["Public"]}), Public),
            (json!({"to": {"id": P}}), Public),
            (json!({"to": [{"id": "as:Public", "type": "Collection"}]}), Public),
            (json!({"to": P, "cc": P}), Public),
            (json!({"cc": P}), Unlisted),
            (json!({"to": [], "cc": ["as:Public"]}), Unlisted),
            (json!({"to": ["https://a.example/f"], "cc": {"id": "Public"}}), Unlisted),
            (json!({"to": ["https://a.example/f"]}), Limited),
            (json!({"to": []}), Limited),
            (json!({"to": [], "cc": []}), Limited),
            (json!({"bto": [P]}), Limited),
            (json!({"bcc": P}), Limited),
            (json!({"audience": P}), Limited),
            (json!({"to": "https://www.w3.org/ns/activitystreams#public"}), Limited),
            (json!({"to": "http://www.w3.org/ns/activitystreams#Public"}), Limited),
            (json!({"to": "https://www.w3.org/ns/activitystreams"}), Limited),
            (json!({"to": "public"}), Limited),
            (json!({"to": " as:Public"}), Limited),
            (json!({"to": [[P]]}), Limited),
            (json!({"to": {"@id": P}}), Limited),
            (json!({"to": -1}), Limited),
            (json!({"to": [-1]}), Limited),
            (json!({"to": {"id": [P]}}), Limited),
            (json!({"to": null, "cc": null}), Unaddressed),
            (json!({}), Unaddressed),
            (json!([]), Unaddressed),
            (json!(P), Unaddressed),
        ];
        for (document, expected) in table {
            assert_eq!(Audience::of(&document).visibility(), expected, "{document}");
        }
    }

    fn note(more: Value) -> Value {
        let mut note = json!({"id": "https://a.example/1", "type": "Note", "attributedTo": "https://a.example/u"});
        let (Some(fields), Value::Object(more)) = (note.as_object_mut(), more) else { panic!("objects") };
        fields.extend(more);
        note
    }

    #[test]
    fn an_author_lives_where_the_post_lives() {
        let u = "https://a.example/u";
        let table = [
            (json!(u), Ok(Some(u))),
            (json!({"id": u}), Ok(Some(u))),
            (json!([u]), Ok(Some(u))),
            (json!([{"type": "Person", "id": u}, {"type": "Group", "id": "https://a.example/c"}]), Ok(Some(u))),
            (json!([{"type": "Group", "id": "https://a.example/c"}, {"type": "Person", "id": u}]), Ok(Some(u))),
            (json!([{"type": "Person", "id": "https://b.example/u"}, {"type": "Group", "id": u}]), Ok(Some(u))),
            (json!(["https://b.example/u", u, "https://a.example/v"]), Ok(Some(u))),
            (json!([7, null, u]), Ok(Some(u))),
            (json!([]), Ok(None)),
            (json!(null), Ok(None)),
            (json!("https://b.example/u"), Err(PostFault::ForeignOwner)),
            (json!("http://a.example/u"), Err(PostFault::ForeignOwner)),
            (json!("https://a.example:8443/u"), Err(PostFault::ForeignOwner)),
            (json!("https://a.example.evil/u"), Err(PostFault::ForeignOwner)),
            (json!("u"), Err(PostFault::ForeignOwner)),
            (json!(7), Err(PostFault::ForeignOwner)),
            (json!({}), Err(PostFault::ForeignOwner)),
            (json!([["https://a.example/u"]]), Err(PostFault::ForeignOwner)),
        ];
        for (attributed_to, expected) in table {
            let owner = Post::read(&note(json!({"attributedTo": attributed_to}))).map(|post| post.owner);
            let owner = owner.as_ref().map(|owner| owner.as_ref().map(Iri::as_str)).map_err(Clone::clone);
            assert_eq!(owner, expected, "{attributed_to}");
        }
        let mut anonymous = note(json!({}));
        anonymous.as_object_mut().expect("an object").remove("attributedTo");
        assert_eq!(Post::read(&anonymous).map(|post| post.owner), Ok(None));
    }

    #[test]
    fn only_posts_are_posts() {
        for kind in POST_KINDS {
            assert_eq!(Post::read(&note(json!({"type": kind}))).map(|post| post.kind), Ok(kind.to_owned()));
        }
        assert!(Post::read(&note(json!({"type": ["Note"]}))).is_ok());
        for kind in [
            json!("Person"),
            json!("Create"),
            json!("Collection"),
            json!("Tombstone"),
            json!("Add"),
            json!("note"),
            json!("as:Note"),
            json!(["Note", "Article"]),
            json!([]),
            json!(null),
            json!(7),
        ] {
            assert_eq!(Post::read(&note(json!({"type": kind}))), Err(PostFault::Kind), "{kind}");
        }
        for id in [
            json!(null),
            json!(7),
            json!(""),
            json!("1"),
            json!("https://A.example/1"),
            json!(["https://a.example/1"]),
            json!("https://a.example/1#x"),
            json!("https://u@a.example/1"),
            json!("urn:uuid:1"),
        ] {
            assert_eq!(Post::read(&note(json!({"id": id}))), Err(PostFault::Id), "{id}");
        }
        assert_eq!(Post::read(&json!("https://a.example/1")), Err(PostFault::NotAnObject));
        let fault = Post::read(&note(json!({"@graph": []}))).expect_err("restructured");
        assert_eq!(fault.to_string(), "it uses `@graph`");
    }

    #[test]
    fn a_post_with_more_than_anybody_reads_is_none() {
        for (name, most) in [("to", 1000), ("cc", 1000), ("tag", 100), ("attachment", 32)] {
            let with = |number: usize| Post::read(&note(json!({ name: vec!["https://a.example/x"; number] })));
            assert!(with(most).is_ok(), "{name}");
            assert_eq!(with(most + 1), Err(PostFault::TooMany(name)));
        }
        assert!(Post::read(&note(json!({"tag": {"type": "Hashtag"}, "attachment": "x", "to": null}))).is_ok());
    }

    #[test]
    fn votes_and_replies_are_told_from_posts() {
        let to = "https://b.example/2";
        let table = [
            (json!({"name": "Yes", "inReplyTo": to}), true, true),
            (json!({"name": "Yes", "inReplyTo": to, "content": null}), true, true),
            (json!({"name": "Yes", "inReplyTo": to, "content": ""}), true, true),
            (json!({"name": "Yes", "inReplyTo": {"id": to}}), true, true),
            (json!({"name": "Title", "content": "x", "inReplyTo": to}), false, true),
            (json!({"name": "Title"}), false, false),
            (json!({"content": "x", "inReplyTo": to}), false, true),
            (json!({"content": "x", "inReplyTo": [to]}), false, true),
            (json!({"content": "x", "inReplyTo": null}), false, false),
            (json!({"content": "x", "inReplyTo": ""}), false, false),
            (json!({"type": "Video", "name": "Re: yours", "inReplyTo": to}), false, true),
        ];
        for (more, is_vote, is_reply) in table {
            let post = Post::read(&note(more.clone())).expect("a post");
            assert_eq!((post.is_vote, post.is_reply), (is_vote, is_reply), "{more}");
        }
    }

    #[test]
    fn times_are_read_or_left_out() {
        let at = |text: &str| Post::read(&note(json!({"published": text, "updated": text}))).expect("a post");
        let noon = Some(Timestamp::from_secs(1_787_486_400));
        for text in ["2026-08-23T12:00:00Z", "2026-08-23T12:00:00.000000Z", "2026-08-23T14:00:00+02:00"] {
            assert_eq!((at(text).published, at(text).updated), (noon, noon), "{text}");
        }
        for text in ["", "now", "2026-08-23", "2026-08-23T12:00:00", "1787486400"] {
            assert_eq!(at(text).published, None, "{text}");
        }
    }
}

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

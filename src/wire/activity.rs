//! Activities: the envelope of what arrives in an inbox. Read as plain JSON in the shapes that servers really send;
//! everything else is refused here, so that the rooms above never meet an array of actors.
//!
//! Reading proves nothing. Whether `actor` signed the request, and whether `id` is of the actor's origin, is decided
//! above.

use serde_json::Value;
use thiserror::Error;

use crate::clock::Timestamp;
use crate::ids::{Iri, is_public};
use crate::wire::json;
use crate::wire::object::{Audience, single_text};

/// The kinds of activity that a relay does something with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A new post.
    Create,
    /// An edited post, poll results, or a changed profile.
    Update,
    /// A deleted post or account.
    Delete,
    /// A boost, or a relay's notice.
    Announce,
    /// Takes an earlier activity back.
    Undo,
    /// A subscription.
    Follow,
    /// The answer yes to a Follow of ours.
    Accept,
    /// The answer no, or later the eviction.
    Reject,
    /// Somebody wants nothing to do with one of our actors.
    Block,
    /// An account that moved.
    Move,
    /// Anything else, as spelt.
    Other(String),
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "Create" => Self::Create,
            "Update" => Self::Update,
            "Delete" => Self::Delete,
            "Announce" => Self::Announce,
            "Undo" => Self::Undo,
            "Follow" => Self::Follow,
            "Accept" => Self::Accept,
            "Reject" => Self::Reject,
            "Block" => Self::Block,
            "Move" => Self::Move,
            other => Self::Other(other.to_owned()),
        }
    }

    /// As spelt on the wire. What [`Kind::Other`] holds is a stranger's word: no label for metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Create => "Create",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Announce => "Announce",
            Self::Undo => "Undo",
            Self::Follow => "Follow",
            Self::Accept => "Accept",
            Self::Reject => "Reject",
            Self::Block => "Block",
            Self::Move => "Move",
            Self::Other(name) => name,
        }
    }
}

/// What an activity is about: its `object`.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// No `object`.
    None,
    /// The public audience, in any spelling: how Mastodon and Misskey subscribe to a relay.
    Public,
    /// An id and nothing else.
    Id(Iri),
    /// A whole object.
    Embedded {
        /// Its id, if it has one.
        id: Option<Iri>,
        /// The object as received.
        value: Value,
    },
}

impl Target {
    /// The id of the object, embedded or not.
    #[must_use]
    pub const fn id(&self) -> Option<&Iri> {
        match self {
            Self::Id(id) | Self::Embedded { id: Some(id), .. } => Some(id),
            _ => None,
        }
    }

    /// The `type` of an embedded object, if it has exactly one.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Embedded { value, .. } => single_text(value.get("type")),
            _ => None,
        }
    }

    /// Reads a string, an object, or an array of exactly one of them.
    fn read(value: Option<&Value>) -> Result<Self, ActivityFault> {
        match value {
            None | Some(Value::Null) => Ok(Self::None),
            Some(Value::Array(items)) => match items.as_slice() {
                [one @ (Value::String(_) | Value::Object(_))] => Self::read(Some(one)),
                _ => Err(ActivityFault::Object),
            },
            Some(Value::String(id)) if is_public(id) => Ok(Self::Public),
            Some(Value::String(id)) => Iri::parse(id).map(Self::Id).map_err(|_cause| ActivityFault::Object),
            Some(value @ Value::Object(fields)) => match fields.get("id") {
                None | Some(Value::Null) => Ok(Self::Embedded { id: None, value: value.clone() }),
                Some(Value::String(id)) if is_public(id) => Ok(Self::Public),
                Some(Value::String(id)) => match Iri::parse(id) {
                    Ok(id) => Ok(Self::Embedded { id: Some(id), value: value.clone() }),
                    Err(_) => Err(ActivityFault::Object),
                },
                Some(_) => Err(ActivityFault::Object),
            },
            Some(_) => Err(ActivityFault::Object),
        }
    }
}

/// Why a document is not an activity that we read. The texts are fit for the other server's admin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ActivityFault {
    /// Not a JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// JSON-LD that other servers would read differently.
    #[error("the activity is not plain ActivityStreams: {0}")]
    Restructured(String),
    /// No `type`, or several.
    #[error("the activity does not have exactly one type")]
    Kind,
    /// A collection of activities.
    #[error("the body is a collection; activities are taken one by one")]
    Collection,
    /// An `id` that is no id.
    #[error("the activity's id is not a canonical https id")]
    Id,
    /// No `actor`, several, or one that is no id.
    #[error("the activity does not have exactly one actor with a canonical https id")]
    Actor,
    /// An `object` in a shape that we do not read: several, or without a usable id.
    #[error("the activity's object is not one id and not one object")]
    Object,
}

/// An activity as received.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// Its id. Absent in some servers' Follow and Undo.
    pub id: Option<Iri>,
    /// What it does.
    pub kind: Kind,
    /// Who does it, as claimed.
    pub actor: Iri,
    /// Its `object`.
    pub target: Target,
    /// Whom it is addressed to.
    pub audience: Audience,
    /// When, as claimed.
    pub published: Option<Timestamp>,
    /// The `creator` of a top-level `RsaSignature2017`, recognised by its shape. We never verify it and never believe
    /// anything for its sake; it tells that others could.
    pub ld_creator: Option<Iri>,
    /// There is a FEP-8b32 `proof`.
    pub has_proof: bool,
}

impl Activity {
    /// Reads an activity.
    ///
    /// # Errors
    /// [`ActivityFault`] says what is wrong with it.
    pub fn read(document: &Value) -> Result<Self, ActivityFault> {
        let Value::Object(fields) = document else { return Err(ActivityFault::NotAnObject) };
        if let Some(what) = json::restructured(document) {
            return Err(ActivityFault::Restructured(what));
        }
        let kind = single_text(fields.get("type")).ok_or(ActivityFault::Kind)?;
        if matches!(kind, "Collection" | "OrderedCollection" | "CollectionPage" | "OrderedCollectionPage") {
            return Err(ActivityFault::Collection);
        }
        let id = match fields.get("id") {
            None | Some(Value::Null) => None,
            Some(id) => {
                let id = id.as_str().and_then(|id| Iri::parse(id).ok());
                Some(id.ok_or(ActivityFault::Id)?)
            }
        };
        Ok(Self {
            id,
            kind: Kind::of(kind),
            actor: fields.get("actor").and_then(single_iri).ok_or(ActivityFault::Actor)?,
            target: Target::read(fields.get("object"))?,
            audience: Audience::of(document),
            published: fields.get("published").and_then(Value::as_str).and_then(Timestamp::from_rfc3339),
            ld_creator: fields.get("signature").and_then(ld_creator),
            has_proof: fields.get("proof").is_some_and(|proof| !proof.is_null()),
        })
    }

    /// The Follow that an Undo, Accept or Reject is about.
    #[must_use]
    pub fn read_embedded(&self) -> Option<FollowRef> {
        FollowRef::read(&self.target)
    }
}

/// A Follow as named inside an Undo, Accept or Reject: as much of it as the sender bothered to say.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowRef {
    /// Its id. activitypub.bot leaves it out.
    pub id: Option<Iri>,
    /// Who follows.
    pub actor: Option<Iri>,
    /// Who or what is followed; [`Target::None`] where only the id was given.
    pub object: Target,
}

impl FollowRef {
    /// Reads a bare id or an embedded Follow; `None` for any other embedded object.
    #[must_use]
    pub fn read(target: &Target) -> Option<Self> {
        match target {
            Target::None | Target::Public => None,
            Target::Id(id) => Some(Self { id: Some(id.clone()), actor: None, object: Target::None }),
            Target::Embedded { id, value } => {
                if target.kind() != Some("Follow") {
                    return None;
                }
                let actor = match value.get("actor") {
                    None | Some(Value::Null) => None,
                    Some(actor) => Some(single_iri(actor)?),
                };
                Some(Self { id: id.clone(), actor, object: Target::read(value.get("object")).ok()? })
            }
        }
    }
}

/// The id in a string or in an object with an `id`.
pub(super) fn id_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(id) => Some(id),
        Value::Object(fields) => fields.get("id").and_then(Value::as_str),
        _ => None,
    }
}

/// An id in a string, an object, or an array of exactly one of them.
fn single_iri(value: &Value) -> Option<Iri> {
    let one = match value {
        Value::Array(items) => match items.as_slice() {
            [one] => one,
            _ => return None,
        },
        one => one,
    };
    Iri::parse(id_of(one)?).ok()
}

fn ld_creator(signature: &Value) -> Option<Iri> {
    if signature.get("type")?.as_str()? != "RsaSignature2017" || !signature.get("signatureValue")?.is_string() {
        return None;
    }
    Iri::parse(signature.get("creator")?.as_str()?).ok()
}

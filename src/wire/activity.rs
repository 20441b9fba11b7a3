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
use crate::wire::object::{Audience, single_text, too_many_addressees};

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
    /// More addressees than [`crate::wire::object::MAX_ADDRESSEES`].
    #[error("the activity addresses more than 1000 in its `{0}`")]
    Addressees(&'static str),
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
        if let Some(name) = too_many_addressees(document) {
            return Err(ActivityFault::Addressees(name));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn follow(more: Value) -> Value {
        let mut base = json!({"id": "https://a.example/1", "type": "Follow", "actor": "https://a.example/u"});
        let (Some(fields), Value::Object(more)) = (base.as_object_mut(), more) else { panic!("objects") };
        fields.extend(more);
        base
    }

    #[test]
    fn an_activity_addresses_a_thousand_at_most() {
        for name in ["to", "cc"] {
            let to = |number: usize| Activity::read(&follow(json!({ name: vec!["https://a.example/x"; number] })));
            assert!(to(1000).is_ok());
            assert_eq!(to(1001), Err(ActivityFault::Addressees(name)));
        }
    }

    fn iri(text: &str) -> Iri {
        Iri::parse(text).expect("an id")
    }

    #[test]
    fn there_is_exactly_one_actor() {
        let u = "https://a.example/u";
        for good in [json!(u), json!({"id": u, "type": "Person"}), json!([u]), json!([{"id": u}])] {
            let read = Activity::read(&follow(json!({"actor": good})));
            assert_eq!(read.map(|activity| activity.actor), Ok(iri(u)), "{good}");
        }
        for bad in [
            json!(null),
            json!(7),
            json!(""),
            json!("u"),
            json!([]),
            json!([u, u]),
            json!([[u]]),
            json!({}),
            json!({"id": null}),
            json!({"id": [u]}),
            json!({"href": u}),
            json!("https://A.example/u"),
            json!("https://a.example:443/u"),
            json!("acct:u@a.example"),
            json!({"name": u}),
            json!(true),
        ] {
            assert_eq!(Activity::read(&follow(json!({"actor": bad}))), Err(ActivityFault::Actor), "{bad}");
        }
    }

    #[test]
    fn there_is_at_most_one_object() {
        let o = "https://b.example/2";
        let embedded = |value: Value| Target::Embedded { id: Some(iri(o)), value };
        let table = [
            (json!(o), Ok(Target::Id(iri(o)))),
            (json!([o]), Ok(Target::Id(iri(o)))),
            (json!({"id": o, "type": "Note"}), Ok(embedded(json!({"id": o, "type": "Note"})))),
            (json!([{"id": o}]), Ok(embedded(json!({"id": o})))),
            (json!({"type": "Follow"}), Ok(Target::Embedded { id: None, value: json!({"type": "Follow"}) })),
            (json!({"id": null}), Ok(Target::Embedded { id: None, value: json!({"id": null}) })),
            (json!("https://www.w3.org/ns/activitystreams#Public"), Ok(Target::Public)),
            (json!("as:Public"), Ok(Target::Public)),
            (json!(["Public"]), Ok(Target::Public)),
            (json!({"id": "as:Public"}), Ok(Target::Public)),
            (json!(null), Ok(Target::None)),
            (json!([]), Err(ActivityFault::Object)),
            (json!([o, o]), Err(ActivityFault::Object)),
            (json!([[o]]), Err(ActivityFault::Object)),
            (json!([null]), Err(ActivityFault::Object)),
            (json!(7), Err(ActivityFault::Object)),
            (json!(""), Err(ActivityFault::Object)),
            (json!("tag:b.example,2026:2"), Err(ActivityFault::Object)),
            (json!({"id": 7}), Err(ActivityFault::Object)),
            (json!({"id": [o]}), Err(ActivityFault::Object)),
            (json!({"id": "2"}), Err(ActivityFault::Object)),
        ];
        for (object, expected) in table {
            let read = Activity::read(&follow(json!({"object": object})));
            assert_eq!(read.map(|activity| activity.target), expected, "{object}");
        }
        assert_eq!(Activity::read(&follow(json!({}))).map(|activity| activity.target), Ok(Target::None));
    }

    #[test]
    fn types_are_single_and_collections_are_not_activities() {
        let table = [
            (json!("Create"), Ok(Kind::Create)),
            (json!(["Undo"]), Ok(Kind::Undo)),
            (json!("Like"), Ok(Kind::Other("Like".to_owned()))),
            (json!("create"), Ok(Kind::Other("create".to_owned()))),
            (json!(["Create", "Delete"]), Err(ActivityFault::Kind)),
            (json!([]), Err(ActivityFault::Kind)),
            (json!(null), Err(ActivityFault::Kind)),
            (json!({"id": "Create"}), Err(ActivityFault::Kind)),
            (json!("OrderedCollection"), Err(ActivityFault::Collection)),
            (json!(["CollectionPage"]), Err(ActivityFault::Collection)),
        ];
        for (kind, expected) in table {
            let read = Activity::read(&follow(json!({"type": kind})));
            assert_eq!(read.map(|activity| activity.kind), expected, "{kind}");
        }
        for name in
            ["Create", "Update", "Delete", "Announce", "Undo", "Follow", "Accept", "Reject", "Block", "Move", "Flag"]
        {
            assert_eq!(Kind::of(name).as_str(), name);
            assert_eq!(matches!(Kind::of(name), Kind::Other(_)), name == "Flag");
        }
        assert_eq!(Activity::read(&json!([follow(json!({}))])), Err(ActivityFault::NotAnObject));
        assert_eq!(Activity::read(&follow(json!({"id": null}))).map(|activity| activity.id), Ok(None));
        for id in
            [json!(7), json!(""), json!("1"), json!({"id": "https://a.example/1"}), json!(["https://a.example/1"])]
        {
            assert_eq!(Activity::read(&follow(json!({"id": id}))), Err(ActivityFault::Id), "{id}");
        }
    }

    #[test]
    fn embedded_signatures_are_recognised_by_their_shape_only() {
        let creator = "https://a.example/u#main-key";
        let table = [
            (json!({"type": "RsaSignature2017", "creator": creator, "signatureValue": "x"}), true),
            (json!({"type": "RsaSignature2018", "creator": creator, "signatureValue": "x"}), false),
            (json!({"type": "RsaSignature2017", "creator": creator}), false),
            (json!({"type": "RsaSignature2017", "creator": [creator], "signatureValue": "x"}), false),
            (json!({"type": "RsaSignature2017", "creator": "u", "signatureValue": "x"}), false),
            (json!([{"type": "RsaSignature2017", "creator": creator, "signatureValue": "x"}]), false),
            (json!("x"), false),
            (json!(null), false),
        ];
        for (signature, expected) in table {
            let activity = Activity::read(&follow(json!({"signature": signature}))).expect("an activity");
            assert_eq!(activity.ld_creator, expected.then(|| iri(creator)), "{signature}");
        }
        let inside =
            json!({"object": {"signature": {"type": "RsaSignature2017", "creator": creator, "signatureValue": "x"}}});
        assert_eq!(Activity::read(&follow(inside)).map(|activity| activity.ld_creator), Ok(None));
        for (proof, expected) in
            [(json!({"type": "DataIntegrityProof"}), true), (json!([]), true), (json!(null), false)]
        {
            assert_eq!(Activity::read(&follow(json!({"proof": proof}))).map(|a| a.has_proof), Ok(expected));
        }
    }

    #[test]
    fn a_follow_is_found_inside_whatever_names_it() {
        let read = |object: Value| {
            Activity::read(&follow(json!({"type": "Undo", "object": object}))).expect("an Undo").read_embedded()
        };
        let (f, u, r) = ("https://a.example/f", "https://a.example/u", "https://relay.example/actor");
        let found = |id: Option<&str>, actor: Option<&str>, object| {
            Some(FollowRef { id: id.map(iri), actor: actor.map(iri), object })
        };
        let table = [
            (json!(f), found(Some(f), None, Target::None)),
            (json!({"id": f, "type": "Follow"}), found(Some(f), None, Target::None)),
            (json!({"id": f, "type": "Follow", "actor": u, "object": r}), found(Some(f), Some(u), Target::Id(iri(r)))),
            (
                json!({"id": f, "type": "Follow", "actor": {"id": u}, "object": [r]}),
                found(Some(f), Some(u), Target::Id(iri(r))),
            ),
            (json!({"type": "Follow", "actor": u, "object": "as:Public"}), found(None, Some(u), Target::Public)),
            (json!({"type": ["Follow"], "actor": [u], "object": "Public"}), found(None, Some(u), Target::Public)),
            (json!({"id": f, "type": "Announce", "actor": u}), None),
            (json!({"id": f}), None),
            (json!({"id": f, "type": "Follow", "actor": [u, r]}), None),
            (json!({"id": f, "type": "Follow", "object": [u, r]}), None),
            (json!("as:Public"), None),
            (json!(null), None),
        ];
        for (object, expected) in table {
            assert_eq!(read(object.clone()), expected, "{object}");
        }
    }

    #[test]
    fn the_signed_vectors_are_carried_and_not_believed() {
        let vectors = [
            (include_str!("../../tests/fixtures/signed/forwarded-create.body.json"), Kind::Create),
            (include_str!("../../tests/fixtures/signed/delete.body.json"), Kind::Delete),
        ];
        for (text, kind) in vectors {
            let activity = Activity::read(&json::parse(text.as_bytes()).expect("JSON")).expect("an activity");
            assert_eq!((activity.kind, activity.has_proof), (kind, false));
            assert_eq!(activity.ld_creator, Some(iri("https://origin.example/users/ada#main-key")));
        }
        let text = include_str!("../../tests/fixtures/signed/announce-proof.body.json");
        let activity = Activity::read(&json::parse(text.as_bytes()).expect("JSON")).expect("an activity");
        assert_eq!((activity.ld_creator, activity.has_proof), (None, true));
    }
}

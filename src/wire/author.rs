//! What we say: our actor document, our activities, our collections. Small plain JSON in a fixed order of keys, with the
//! one context that everybody knows, because strict readers (Pixelfed reads eight levels, Iceshrimp.NET loads every
//! context) must understand it too.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, IriFault, PUBLIC};
use crate::wire::key::PublicKey;

const AS2_CONTEXT: &str = "https://www.w3.org/ns/activitystreams";
const PUBLIC_AUDIENCE: &str = PUBLIC[0];

/// The ids of one of our actors. Mastodon compares the inbox with what its admin pasted byte for byte, so these never
/// change once a relay is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurIds {
    /// Scheme and authority: `https://relay.example`, no slash at the end.
    pub origin: String,
    /// The actor.
    pub actor: Iri,
    /// Its inbox, which is the shared inbox as well and what admins paste.
    pub inbox: Iri,
    /// Its outbox.
    pub outbox: Iri,
    /// Its followers: whom Announces are addressed to.
    pub followers: Iri,
    /// Whom it follows.
    pub following: Iri,
    /// Its RSA key. With a fragment: Lemmy refuses key ids without one.
    pub key_id: Iri,
    /// Its Ed25519 key.
    pub ed25519_key_id: Iri,
    /// Its `preferredUsername`. `relay` at `/actor` is how Friendica recognises a relay.
    pub username: String,
}

impl OurIds {
    /// The ids of the actor at `actor_path`. The relay's own actor, at `/actor`, has its inbox at `/inbox`; any other
    /// (`/search/actor`) beside itself (`/search/inbox`).
    ///
    /// # Errors
    /// [`IriFault`] if `origin` is not a canonical origin or a path makes no id of it.
    pub fn new(origin: &str, actor_path: &str, key_fragment: &str, username: &str) -> Result<Self, IriFault> {
        let origin = origin.trim_end_matches('/');
        if Iri::parse(origin)?.origin() != origin {
            return Err(IriFault::NotCanonical);
        }
        let folder = actor_path.rsplit_once('/').map_or("", |(folder, _name)| folder);
        let beside = |name: &str| Iri::parse(&format!("{origin}{folder}/{name}"));
        let actor = Iri::parse(&format!("{origin}{actor_path}"))?;
        Ok(Self {
            inbox: beside("inbox")?,
            outbox: beside("outbox")?,
            followers: beside("followers")?,
            following: beside("following")?,
            key_id: Iri::parse(&format!("{actor}#{key_fragment}"))?,
            ed25519_key_id: Iri::parse(&format!("{actor}#ed25519-key"))?,
            username: username.to_owned(),
            origin: origin.to_owned(),
            actor,
        })
    }

    /// Our name: host, and port where it is not the scheme's own.
    #[must_use]
    pub fn host(&self) -> Authority {
        self.actor.authority()
    }

    /// The id of the Announce of an object, from the hash of the object's id: the same after a crash.
    #[must_use]
    pub fn announce(&self, hash_hex: &str) -> String {
        format!("{}/announces/{hash_hex}", self.origin)
    }

    /// The id of any other activity of ours: `kind` in lower case, `unique` never used before.
    #[must_use]
    pub fn activity(&self, kind: &str, unique: &str) -> String {
        format!("{}/activities/{kind}/{unique}", self.origin)
    }
}

/// What people read about one of our actors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name shown. Not empty: Misskey refuses the actor otherwise.
    pub name: String,
    /// A line or two of HTML. Not empty: Misskey refuses the actor otherwise.
    pub summary: String,
    /// Since when it exists.
    pub published: Timestamp,
    /// Whether an operator looks at Follows before they are accepted.
    pub manually_approves: bool,
}

/// Our actor document. Extension terms are defined inline, since some servers load every context named by address.
#[must_use]
pub fn actor(ids: &OurIds, profile: &Profile, rsa: &PublicKey, ed25519: &PublicKey) -> Value {
    json!({
        "@context": [
            AS2_CONTEXT,
            "https://w3id.org/security/v1",
            {
                "manuallyApprovesFollowers": "as:manuallyApprovesFollowers",
                "toot": "http://joinmastodon.org/ns#",
                "indexable": "toot:indexable",
                "discoverable": "toot:discoverable",
                "Multikey": "https://w3id.org/security#Multikey",
                "assertionMethod": {
                    "@id": "https://w3id.org/security#assertionMethod", "@type": "@id", "@container": "@set",
                },
                "controller": { "@id": "https://w3id.org/security#controller", "@type": "@id" },
                "publicKeyMultibase": {
                    "@id": "https://w3id.org/security#publicKeyMultibase",
                    "@type": "https://w3id.org/security#multibase",
                },
            },
        ],
        "id": ids.actor,
        // PeerTube takes Announces from Application and Group only; Friendica wants Application for a relay.
        "type": "Application",
        "preferredUsername": ids.username,
        "name": profile.name,
        "summary": profile.summary,
        "url": format!("{}/", ids.origin),
        "published": profile.published.rfc3339(),
        "inbox": ids.inbox,
        "outbox": ids.outbox,
        "followers": ids.followers,
        "following": ids.following,
        "endpoints": { "sharedInbox": ids.inbox },
        "manuallyApprovesFollowers": profile.manually_approves,
        "discoverable": false,
        "indexable": false,
        "publicKey": { "id": ids.key_id, "owner": ids.actor, "publicKeyPem": rsa.to_spki_pem() },
        "assertionMethod": [{
            "id": ids.ed25519_key_id,
            "type": "Multikey",
            "controller": ids.actor,
            "publicKeyMultibase": ed25519.to_multibase(),
        }],
    })
}

/// A Follow as received, as much of it as an answer embeds: kept with the subscriber, so that it can be rejected later
/// by the id it came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowCopy {
    /// Its id as spelt. Not fetchable with Mastodon and Misskey, and never to be published: who knows it can accept in
    /// our name.
    pub id: Option<String>,
    /// Who follows.
    pub actor: Iri,
    /// What is followed, verbatim: Public stays Public.
    pub object: Value,
}

impl FollowCopy {
    /// The copy as a Follow, to hand to [`accept`] or [`reject`].
    #[must_use]
    pub fn value(&self) -> Value {
        let mut follow = json!({ "type": "Follow", "actor": self.actor, "object": self.object });
        if let (Some(id), Some(fields)) = (&self.id, follow.as_object_mut()) {
            fields.insert("id".to_owned(), Value::String(id.clone()));
        }
        follow
    }
}

/// A Follow of theirs inside an answer of ours, in the order and with the members they are used to. Misskey resolves
/// the embedded object and would fetch a bare id in vain.
#[derive(Serialize)]
struct Embedded<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a Value>,
}

impl<'a> Embedded<'a> {
    fn follow(follow: &'a Value) -> Self {
        let field = |name: &str| follow.get(name).filter(|value| !value.is_null());
        Self { id: field("id"), kind: "Follow", actor: field("actor"), to: field("to"), object: field("object") }
    }
}

/// An activity of ours inside an Undo.
#[derive(Serialize)]
struct Undone<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    actor: &'a Iri,
    to: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    cc: Option<[&'a str; 1]>,
    object: &'a str,
}

/// Any activity of ours.
#[derive(Serialize)]
struct Outgoing<'a, T> {
    #[serde(rename = "@context")]
    context: &'static str,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    actor: &'a Iri,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<String>,
    to: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    cc: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
    object: T,
}

impl<'a, T: Serialize> Outgoing<'a, T> {
    const fn new(ids: &'a OurIds, kind: &'static str, id: &'a str, to: &'a str, object: T) -> Self {
        let (context, actor) = (AS2_CONTEXT, &ids.actor);
        Self { context, id, kind, actor, published: None, to: [to], cc: None, summary: None, object }
    }

    fn bytes(&self) -> Vec<u8> {
        // Strings and values only: nothing here can fail to serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// An Accept of `follow` (as received), to its actor `to`. With `to`, without which Pleroma refuses it.
#[must_use]
pub fn accept(ids: &OurIds, id: &str, follow: &Value, to: &Iri) -> Vec<u8> {
    Outgoing::new(ids, "Accept", id, to.as_str(), Embedded::follow(follow)).bytes()
}

/// A Reject of `follow` (as received): at once, or later to evict. `summary` says why, for admins who look.
#[must_use]
pub fn reject(ids: &OurIds, id: &str, follow: &Value, to: &Iri, summary: Option<&str>) -> Vec<u8> {
    let mut activity = Outgoing::new(ids, "Reject", id, to.as_str(), Embedded::follow(follow));
    activity.summary = summary;
    activity.bytes()
}

/// A Follow of `object`, to the actor `to`: what Pleroma, snac and Mitra wait for before they send anything.
#[must_use]
pub fn follow(ids: &OurIds, id: &str, object: &str, to: &Iri) -> Vec<u8> {
    Outgoing::new(ids, "Follow", id, to.as_str(), object).bytes()
}

/// The Undo of our Follow `follow_id` of `object`.
#[must_use]
pub fn undo_follow(ids: &OurIds, id: &str, follow_id: &str, object: &str, to: &Iri) -> Vec<u8> {
    let undone = Undone { id: follow_id, kind: "Follow", actor: &ids.actor, to: [to.as_str()], cc: None, object };
    Outgoing::new(ids, "Undo", id, to.as_str(), undone).bytes()
}

/// Whom an Announce of ours is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnounceAudience {
    /// Our followers only. Public would show as boosts by the relay in old Misskey and in Mitra.
    #[default]
    Followers,
    /// Public in `to`, followers in `cc`.
    Public,
}

impl AnnounceAudience {
    fn addresses(self, ids: &OurIds) -> (&str, Option<[&str; 1]>) {
        match self {
            Self::Followers => (ids.followers.as_str(), None),
            Self::Public => (PUBLIC_AUDIENCE, Some([ids.followers.as_str()])),
        }
    }
}

/// An Announce of `object`, as a plain id. With `published`, without which GoToSocial before June 2026 fails.
#[must_use]
pub fn announce(ids: &OurIds, id: &str, object: &str, published: Timestamp, audience: AnnounceAudience) -> Vec<u8> {
    let (to, cc) = audience.addresses(ids);
    let mut activity = Outgoing::new(ids, "Announce", id, to, object);
    activity.published = Some(published.rfc3339());
    activity.cc = cc;
    activity.bytes()
}

/// The Undo of our Announce `announce_id` of `object`: cleans up where the Announce became a boost.
#[must_use]
pub fn undo_announce(ids: &OurIds, id: &str, announce_id: &str, object: &str, audience: AnnounceAudience) -> Vec<u8> {
    let (to, cc) = audience.addresses(ids);
    let undone = Undone { id: announce_id, kind: "Announce", actor: &ids.actor, to: [to], cc, object };
    let mut activity = Outgoing::new(ids, "Undo", id, to, undone);
    activity.cc = cc;
    activity.bytes()
}

/// An `OrderedCollection` that tells its size and none of its members.
#[must_use]
pub fn collection(id: &Iri, total: u64) -> Value {
    json!({
        "@context": AS2_CONTEXT,
        "id": id,
        "type": "OrderedCollection",
        "totalItems": total,
        "orderedItems": [],
    })
}

//! What we say: our actor document, our activities, our collections. Small plain JSON in a fixed order of keys, with the
//! one context that everybody knows, because strict readers (Pixelfed reads eight levels, Iceshrimp.NET loads every
//! context) must understand it too.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, IriFault, PUBLIC};
use crate::wire::key::{PublicKey, SigningKey};
use crate::wire::proof::{self, Proof};

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
    /// Its first RSA key. With a fragment: Lemmy refuses key ids without one.
    pub key_id: Iri,
    /// Its first Ed25519 key.
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

    /// The ids of its RSA and Ed25519 keys of this number: an id names one key for ever, so the second pair is
    /// `#main-key-2` and `#ed25519-key-2`. Who keeps keys by id (GoToSocial) asks for an id that it does not know, and
    /// never again for one that it does.
    ///
    /// # Errors
    /// [`IriFault`] if the id grows too long.
    pub fn keys(&self, number: u32) -> Result<(Iri, Iri), IriFault> {
        let id = |first: &Iri| {
            if number == 1 { Ok(first.clone()) } else { Iri::parse(&format!("{first}-{number}")) }
        };
        Ok((id(&self.key_id)?, id(&self.ed25519_key_id)?))
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

/// A key of ours as the actor document lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// Its id: a fragment of the actor's.
    pub id: Iri,
    /// The key.
    pub key: PublicKey,
}

/// Our actor document. `main` is the RSA key that signs: the one `publicKey`, because an array there is no key to
/// Pleroma and Akkoma, and no actor to older Misskey and its family. `others` follow as Multikeys (FEP-521a): Ed25519, and the keys of a rotation.
/// Extension terms are defined inline, since some servers load every context named by address.
#[must_use]
pub fn actor(ids: &OurIds, profile: &Profile, main: &ListedKey, others: &[ListedKey]) -> Value {
    let multikey = |one: &ListedKey| {
        json!({
            "id": one.id,
            "type": "Multikey",
            "controller": ids.actor,
            "publicKeyMultibase": one.key.to_multibase(),
        })
    };
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
        "publicKey": { "id": main.id, "owner": ids.actor, "publicKeyPem": main.key.to_spki_pem() },
        "assertionMethod": others.iter().map(multikey).collect::<Vec<_>>(),
    })
}

/// An Update of our actor, to `to`: it embeds the document (Mastodon and Misskey take it from there and ask nobody), whose
/// context moves to the activity.
#[must_use]
pub fn update_actor(ids: &OurIds, id: &str, mut document: Value, to: &Iri) -> Vec<u8> {
    let context = document.as_object_mut().and_then(|fields| fields.remove("@context"));
    let update = json!({
        "@context": context.unwrap_or_else(|| AS2_CONTEXT.into()),
        "id": id,
        "type": "Update",
        "actor": ids.actor,
        "to": [to, PUBLIC_AUDIENCE],
        "object": document,
    });
    update.to_string().into_bytes()
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

/// What stands in `@context`.
#[derive(Serialize)]
#[serde(untagged)]
enum Context {
    Plain(&'static str),
    /// A proof's terms have a context of their own, and it must be in the document.
    Proven([&'static str; 2]),
}

/// Any activity of ours.
#[derive(Serialize)]
struct Outgoing<'a, T> {
    #[serde(rename = "@context")]
    context: Context,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<Proof>,
}

impl<'a, T: Serialize> Outgoing<'a, T> {
    const fn new(ids: &'a OurIds, kind: &'static str, id: &'a str, to: &'a str, object: T) -> Self {
        let (context, actor) = (Context::Plain(AS2_CONTEXT), &ids.actor);
        Self { context, id, kind, actor, published: None, to: [to], cc: None, summary: None, object, proof: None }
    }

    fn prove(&mut self, key: &SigningKey, created: Timestamp) {
        self.context = Context::Proven([AS2_CONTEXT, proof::CONTEXT]);
        self.proof = serde_json::to_value(&*self).ok().and_then(|bare| proof::prove(&bare, key, created));
        if self.proof.is_none() {
            self.context = Context::Plain(AS2_CONTEXT);
        }
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

/// An Announce of `object`, as a plain id. With `published`, without which GoToSocial before June 2026 fails; with a proof
/// (FEP-8b32) by `prover`, our Ed25519 key, if there is one: Mitra and Mastodon 4.7 check it, all others pass it over. The
/// same in, the same bytes out.
#[must_use]
pub fn announce(
    ids: &OurIds,
    id: &str,
    object: &str,
    published: Timestamp,
    audience: AnnounceAudience,
    prover: Option<&SigningKey>,
) -> Vec<u8> {
    let (to, cc) = audience.addresses(ids);
    let mut activity = Outgoing::new(ids, "Announce", id, to, object);
    activity.published = Some(published.rfc3339());
    activity.cc = cc;
    if let Some(key) = prover {
        activity.prove(key, published);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::activity::{Activity, Target};
    use crate::wire::actor::RemoteActor;
    use crate::wire::json;

    macro_rules! vector {
        ($name:literal) => {
            include_str!(concat!("../../tests/fixtures/signed/", $name))
        };
    }

    fn ids() -> OurIds {
        OurIds::new("https://relay.example", "/actor", "main-key", "relay").expect("ids")
    }

    fn iri(text: &str) -> Iri {
        Iri::parse(text).expect("an id")
    }

    fn prover() -> SigningKey {
        let pem = include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem");
        SigningKey::from_pem(ids().ed25519_key_id, pem).expect("a key")
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).expect("JSON")
    }

    fn our_profile() -> Profile {
        Profile {
            name: "Relay at relay.example".to_owned(),
            summary: "<p>Redistributes public posts between small servers.</p>".to_owned(),
            published: Timestamp::from_rfc3339("2026-01-01T00:00:00Z").expect("a time"),
            manually_approves: true,
        }
    }

    fn our_actor() -> Value {
        let profile = our_profile();
        let rsa = PublicKey::from_pem(include_str!("../../tests/fixtures/keys/relay.rsa.spki.pem")).expect("a key");
        let ed25519 =
            PublicKey::from_pem(include_str!("../../tests/fixtures/keys/relay.ed25519.spki.pem")).expect("a key");
        let ids = ids();
        let main = ListedKey { id: ids.key_id.clone(), key: rsa };
        let other = ListedKey { id: ids.ed25519_key_id.clone(), key: ed25519 };
        actor(&ids, &profile, &main, &[other])
    }

    #[test]
    fn our_actor_is_the_one_that_every_server_takes() {
        assert_eq!(our_actor(), value(vector!("relay-actor.json")));
        let read = RemoteActor::read(&our_actor()).expect("an actor");
        let keys: Vec<&str> = read.keys.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(keys, ["https://relay.example/actor#main-key", "https://relay.example/actor#ed25519-key"]);
    }

    #[test]
    fn while_keys_change_strict_readers_find_one_key_and_the_others_find_all() {
        let (ids, profile) = (ids(), our_profile());
        let key = |text| PublicKey::from_pem(text).expect("a key");
        let (old, old_ed) = ids.keys(1).expect("ids");
        let (new, new_ed) = ids.keys(2).expect("ids");
        assert_eq!((new.as_str(), &old), ("https://relay.example/actor#main-key-2", &ids.key_id));
        let listed = |id: &Iri, text| ListedKey { id: id.clone(), key: key(text) };
        let (rsa, other) = (
            include_str!("../../tests/fixtures/keys/relay.rsa.spki.pem"),
            include_str!("../../tests/fixtures/keys/author.rsa.spki.pem"),
        );
        let ed = include_str!("../../tests/fixtures/keys/relay.ed25519.spki.pem");
        let others = [listed(&old_ed, ed), listed(&new, other), listed(&new_ed, ed)];
        let document = actor(&ids, &profile, &listed(&old, rsa), &others);
        assert_eq!(document["publicKey"]["id"], old.as_str(), "one object, never an array");
        let read = RemoteActor::read(&document).expect("an actor");
        for one in others.iter().chain([&listed(&old, rsa)]) {
            assert_eq!(read.key(one.id.as_str()).map(|found| &found.key), Some(&one.key), "{}", one.id);
        }

        let update = update_actor(&ids, &ids.activity("update", "keys-2"), document.clone(), &old);
        let update = value(&text(update));
        assert_eq!(update["@context"], document["@context"]);
        assert_eq!(
            (&update["object"]["id"], &update["object"]["publicKey"]),
            (&document["id"], &document["publicKey"])
        );
        assert!(update["object"].get("@context").is_none());
        assert!(Activity::read(&update).is_ok(), "we take it ourselves");
    }

    #[test]
    fn our_activities_are_those_of_the_vectors_byte_for_byte() {
        let ids = ids();
        let small = iri("https://small.example/actor");
        let gts = iri("https://gts.example/users/gts.example");
        let pleroma = iri("https://pleroma.example/relay");
        let id = |kind: &str, unique: &str| ids.activity(kind, unique);
        let noon = Timestamp::from_secs(1_787_486_400);
        let post = "https://origin.example/users/ada/statuses/1001";
        let announce_id = id("announce", "0198d3a1-7c44-7b1e-9f70-3f5f6a1f0c21");
        let audience = AnnounceAudience::Followers;
        let table = [
            (
                accept(
                    &ids,
                    &id("accept", "0198d3a0-11aa-7c00-8a55-2b1f6a1f0c20"),
                    &value(vector!("follow.body.json")),
                    &small,
                ),
                vector!("accept.body.json"),
            ),
            (
                accept(
                    &ids,
                    &id("accept", "0198d3a0-22bb-7c00-8a55-2b1f6a1f0c23"),
                    &value(vector!("follow-actor-style.body.json")),
                    &gts,
                ),
                vector!("accept-actor-style.body.json"),
            ),
            (
                reject(
                    &ids,
                    &id("reject", "0198d3a0-11aa-7c00-8a55-2b1f6a1f0c22"),
                    &value(vector!("follow.body.json")),
                    &small,
                    None,
                ),
                vector!("reject.body.json"),
            ),
            (
                follow(&ids, &id("follow", "0198d3a0-33cc-7c00-8a55-2b1f6a1f0c24"), pleroma.as_str(), &pleroma),
                vector!("reciprocal-follow.body.json"),
            ),
            (announce(&ids, &announce_id, post, noon, audience, None), vector!("announce.body.json")),
            (announce(&ids, &announce_id, post, noon, audience, Some(&prover())), vector!("announce-proof.body.json")),
            (
                undo_announce(&ids, &id("undo", "0198d3a9-44dd-7c00-8a55-2b1f6a1f0c25"), &announce_id, post, audience),
                vector!("undo-announce.body.json"),
            ),
        ];
        for (made, vector) in table {
            assert_eq!(text(made), vector);
        }
    }

    #[test]
    fn a_follow_is_answered_with_what_it_said_and_nothing_else() {
        let received = value(
            r#"{"@context":"x","id":"https://a.example/f","type":"Follow","actor":{"id":"https://a.example/u"},"to":"https://relay.example/actor",
            "object":["as:Public"],"state":"pending","instrument":{"name":"x"},"cc":[]}"#,
        );
        let made = text(accept(&ids(), "https://relay.example/1", &received, &iri("https://a.example/u")));
        let expected = r#""object":{"id":"https://a.example/f","type":"Follow","actor":{"id":"https://a.example/u"},"to":"https://relay.example/actor","object":["as:Public"]}}"#;
        assert!(made.ends_with(expected), "{made}");
        // Without an id, without anything: still an answer.
        let made = text(accept(&ids(), "https://relay.example/1", &value("{}"), &iri("https://a.example/u")));
        assert!(made.ends_with(r#""object":{"type":"Follow"}}"#), "{made}");

        let copy = FollowCopy {
            id: Some("https://a.example/f".to_owned()),
            actor: iri("https://a.example/u"),
            object: value("\"as:Public\""),
        };
        let made = text(reject(&ids(), "https://relay.example/2", &copy.value(), &copy.actor, Some("blocked")));
        let expected = r#""to":["https://a.example/u"],"summary":"blocked","object":{"id":"https://a.example/f","type":"Follow","actor":"https://a.example/u","object":"as:Public"}}"#;
        assert!(made.ends_with(expected), "{made}");
        let stored = serde_json::to_string(&copy).expect("JSON");
        assert_eq!(serde_json::from_str::<FollowCopy>(&stored).expect("a copy"), copy);
    }

    #[test]
    fn undoing_names_what_was_done() {
        let ids = ids();
        let them = iri("https://pleroma.example/relay");
        let undo = undo_follow(&ids, "https://relay.example/u", "https://relay.example/f", them.as_str(), &them);
        let activity = Activity::read(&value(&text(undo))).expect("an activity");
        let undone = activity.read_embedded().expect("a Follow");
        assert_eq!(undone.id, Some(iri("https://relay.example/f")));
        assert_eq!((undone.actor, undone.object), (Some(ids.actor.clone()), Target::Id(them)));
    }

    #[test]
    fn a_public_announce_says_so_in_to() {
        let noon = Timestamp::from_secs(1_787_486_400);
        let announce = |prover: Option<&SigningKey>| {
            announce(&ids(), "https://relay.example/a", "https://a.example/1", noon, AnnounceAudience::Public, prover)
        };
        let proven = value(&text(announce(Some(&prover()))));
        assert_eq!(proof::verify(&proven, &prover().public(), noon), Ok(()));
        assert_eq!(proven["cc"], json!(["https://relay.example/followers"]));
        let made = announce(None);
        let expected = r#""published":"2026-08-23T12:00:00Z","to":["https://www.w3.org/ns/activitystreams#Public"],"cc":["https://relay.example/followers"],"object":"https://a.example/1"}"#;
        assert!(text(made).ends_with(expected));
        let made = undo_announce(
            &ids(),
            "https://relay.example/u",
            "https://relay.example/a",
            "https://a.example/1",
            AnnounceAudience::Public,
        );
        let activity = Activity::read(&value(&text(made))).expect("an activity");
        assert!(activity.audience.to_public);
    }

    #[test]
    fn ids_follow_from_the_origin_and_the_actor() {
        let search = OurIds::new("http://127.0.0.1:4101/", "/search/actor", "main-key", "search").expect("ids");
        assert_eq!(search.actor.as_str(), "http://127.0.0.1:4101/search/actor");
        assert_eq!(search.inbox.as_str(), "http://127.0.0.1:4101/search/inbox");
        assert_eq!(search.host().as_str(), "127.0.0.1:4101");
        let relay = ids();
        assert_eq!(relay.inbox.as_str(), "https://relay.example/inbox");
        assert_eq!(relay.announce("0a1b"), "https://relay.example/announces/0a1b");
        for origin in [
            "",
            "relay.example",
            "https://Relay.Example",
            "https://relay.example:443",
            "https://relay.example/x",
            "ftp://relay.example",
        ] {
            assert!(OurIds::new(origin, "/actor", "main-key", "relay").is_err(), "{origin}");
        }
    }

    #[test]
    fn collections_tell_their_size_only() {
        assert_eq!(collection(&iri("https://relay.example/outbox"), 0), value(vector!("outbox.json")));
    }
}

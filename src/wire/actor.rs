//! Other servers' actors and keys: where to deliver to, and with what to check. A document is only believed about
//! itself; that it came from its own address is for whoever fetched it to know.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::ids::Iri;
use crate::wire::activity::id_of;
use crate::wire::json;
use crate::wire::key::PublicKey;
use crate::wire::object::single_text;

/// The most keys we read from one actor. Mastodon 4.6 reads ten.
const MAX_KEYS: usize = 10;

/// The longest `preferredUsername` we keep, in bytes.
const MAX_USERNAME_BYTES: usize = 256;

/// The kinds of actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorKind {
    /// A program: instance actors, relays.
    Application,
    /// A bot, or an older instance actor.
    Service,
    /// A community or channel.
    Group,
    /// An organization.
    Organization,
    /// A person; also Mitra's followbot and some instance actors.
    Person,
}

impl ActorKind {
    fn of(name: &str) -> Option<Self> {
        match name {
            "Application" => Some(Self::Application),
            "Service" => Some(Self::Service),
            "Group" => Some(Self::Group),
            "Organization" => Some(Self::Organization),
            "Person" => Some(Self::Person),
            _ => None,
        }
    }

    /// As spelt on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Service => "Service",
            Self::Group => "Group",
            Self::Organization => "Organization",
            Self::Person => "Person",
        }
    }
}

/// A key that an actor publishes in its own document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorKey {
    /// The key's id, of the actor's origin.
    pub id: Iri,
    /// The actor: always the id of the document it was read from.
    pub owner: Iri,
    /// The key.
    pub key: PublicKey,
    /// The actor lists it in `assertionMethod`: it may make proofs in documents (FEP-8b32).
    pub asserts: bool,
}

/// Somebody else's actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteActor {
    /// Its id, as spelt.
    pub id: Iri,
    /// What it is.
    pub kind: ActorKind,
    /// `preferredUsername`.
    pub username: Option<String>,
    /// Where to deliver to, on the same origin as `id`.
    pub inbox: Iri,
    /// The inbox of its whole server, on the same origin as `id`.
    pub shared_inbox: Option<Iri>,
    /// The keys that can be read and that name this actor as owner, at most ten. The rest is passed over.
    pub keys: Vec<ActorKey>,
    /// Its own server has suspended it.
    pub suspended: bool,
}

/// Why a document is not an actor or a key. The texts are fit for a log line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ActorFault {
    /// Not a JSON object.
    #[error("it is not an object")]
    NotAnObject,
    /// JSON-LD that other servers would read differently.
    #[error("{0}")]
    Restructured(String),
    /// No `id`, or none that we take.
    #[error("it has no usable id")]
    Id,
    /// Not a kind of actor, and no key either.
    #[error("its type is not that of an actor")]
    Kind,
    /// No `inbox`, or one on another origin: deliveries to it would be aimed by whoever wrote the document.
    #[error("it has no inbox on its own server")]
    Inbox,
    /// A key document without an owner on its own origin.
    #[error("the key names no owner on its own server")]
    Owner,
    /// A key document whose key cannot be read.
    #[error("the key cannot be read")]
    Key,
}

impl RemoteActor {
    /// Reads an actor document.
    ///
    /// # Errors
    /// [`ActorFault`] says why it is none.
    pub fn read(document: &Value) -> Result<Self, ActorFault> {
        let fields = plain_object(document)?;
        let id = iri(fields, "id").ok_or(ActorFault::Id)?;
        let kind = single_text(fields.get("type")).and_then(ActorKind::of).ok_or(ActorFault::Kind)?;
        let inbox = iri(fields, "inbox").filter(|inbox| inbox.same_origin(&id)).ok_or(ActorFault::Inbox)?;
        let shared_inbox = fields
            .get("endpoints")
            .and_then(Value::as_object)
            .and_then(|endpoints| iri(endpoints, "sharedInbox"))
            .filter(|shared| shared.same_origin(&id));
        let username = fields.get("preferredUsername").and_then(Value::as_str);
        Ok(Self {
            kind,
            username: username.filter(|name| !name.is_empty() && name.len() <= MAX_USERNAME_BYTES).map(str::to_owned),
            inbox,
            shared_inbox,
            keys: keys(&id, fields),
            suspended: fields.get("suspended").and_then(Value::as_bool).unwrap_or(false),
            id,
        })
    }

    /// The key with this id.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&ActorKey> {
        find(&self.keys, id)
    }
}

/// What may be found at the address that a `keyId` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyDocument {
    /// The actor itself: the `keyId` had a fragment.
    Actor(RemoteActor),
    /// A key on its own. That it belongs to `owner` must be confirmed by the owner's own document.
    Key {
        /// The key's id.
        id: Iri,
        /// Whose it says it is, on the same origin.
        owner: Iri,
        /// The key.
        key: PublicKey,
    },
    /// An actor cut down to id, type, name and key, without inbox: what GoToSocial serves at `/users/NAME/main-key`.
    Stub {
        /// The actor's id, which is not the address it was fetched from.
        id: Iri,
        /// Its keys, under the rules of [`RemoteActor::keys`]; at least one.
        keys: Vec<ActorKey>,
    },
}

impl KeyDocument {
    /// Reads an actor, a key, or GoToSocial's cut-down actor.
    ///
    /// # Errors
    /// [`ActorFault`] says why it is none of them.
    pub fn read(document: &Value) -> Result<Self, ActorFault> {
        let fields = plain_object(document)?;
        if fields.contains_key("publicKeyPem") || fields.contains_key("publicKeyMultibase") {
            let id = iri(fields, "id").ok_or(ActorFault::Id)?;
            let owner = iri(fields, "owner").or_else(|| iri(fields, "controller"));
            let owner = owner.filter(|owner| owner.same_origin(&id)).ok_or(ActorFault::Owner)?;
            let key = key_of(fields).ok_or(ActorFault::Key)?;
            return Ok(Self::Key { id, owner, key });
        }
        match RemoteActor::read(document) {
            Err(ActorFault::Inbox) if !fields.contains_key("inbox") => {
                let id = iri(fields, "id").ok_or(ActorFault::Id)?;
                let keys = keys(&id, fields);
                if keys.is_empty() { Err(ActorFault::Key) } else { Ok(Self::Stub { id, keys }) }
            }
            other => other.map(Self::Actor),
        }
    }

    /// The actor that the document says the key belongs to.
    #[must_use]
    pub const fn owner(&self) -> &Iri {
        match self {
            Self::Actor(actor) => &actor.id,
            Self::Key { owner, .. } => owner,
            Self::Stub { id, .. } => id,
        }
    }

    /// The key with this id, if the document holds it.
    #[must_use]
    pub fn key(&self, key_id: &str) -> Option<&PublicKey> {
        match self {
            Self::Actor(actor) => actor.key(key_id).map(|found| &found.key),
            Self::Key { id, key, .. } => (id.as_str() == key_id).then_some(key),
            Self::Stub { keys, .. } => find(keys, key_id).map(|found| &found.key),
        }
    }
}

fn plain_object(document: &Value) -> Result<&Map<String, Value>, ActorFault> {
    let Value::Object(fields) = document else { return Err(ActorFault::NotAnObject) };
    match json::restructured(document) {
        Some(what) => Err(ActorFault::Restructured(what)),
        None => Ok(fields),
    }
}

fn find<'a>(keys: &'a [ActorKey], id: &str) -> Option<&'a ActorKey> {
    keys.iter().find(|key| key.id.as_str() == id)
}

fn iri(fields: &Map<String, Value>, name: &str) -> Option<Iri> {
    id_of(fields.get(name)?).and_then(|id| Iri::parse(id).ok())
}

/// `publicKey` (security/v1: one or several) and `assertionMethod` (FEP-521a Multikeys). Two with one id: the first
/// counts.
fn keys(actor: &Iri, fields: &Map<String, Value>) -> Vec<ActorKey> {
    let listed = |name: &str| match fields.get(name) {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let classic = listed("publicKey").iter().map(|entry| (entry, "owner", false));
    let multikeys = listed("assertionMethod").iter().map(|entry| (entry, "controller", true));
    let mut keys: Vec<ActorKey> = Vec::new();
    for (entry, owner_field, asserts) in classic.take(MAX_KEYS).chain(multikeys.take(MAX_KEYS)) {
        let Value::Object(entry) = entry else { continue };
        let id = iri(entry, "id").filter(|id| id.same_origin(actor));
        let owner = iri(entry, owner_field).filter(|owner| owner == actor);
        let (Some(id), Some(owner), Some(key)) = (id, owner, key_of(entry)) else { continue };
        match keys.iter_mut().find(|known| known.id == id) {
            // One key listed in both places serves both ends.
            Some(known) => known.asserts |= asserts && known.key == key,
            None => keys.push(ActorKey { id, owner, key, asserts }),
        }
    }
    keys.truncate(MAX_KEYS);
    keys
}

fn key_of(entry: &Map<String, Value>) -> Option<PublicKey> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    match (text("publicKeyPem"), text("publicKeyMultibase")) {
        (Some(pem), _) => PublicKey::from_pem(pem).ok(),
        (None, Some(multibase)) => PublicKey::from_multibase(multibase).ok(),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PEM: &str = include_str!("../../tests/fixtures/keys/subscriber.rsa.spki.pem");
    const OTHER: &str = include_str!("../../tests/fixtures/keys/relay.rsa.spki.pem");
    const SMALL: &str = include_str!("../../tests/fixtures/keys/rsa1024.spki.pem");
    const MULTIKEY: &str = "z6MkqGeV4MKLRwSHkNsRNNB3V5iDY2nA1S6697rQLZxUDJW2";
    const U: &str = "https://a.example/u";

    fn key(id: &str, owner: &str, pem: &str) -> Value {
        json!({"id": id, "owner": owner, "publicKeyPem": pem})
    }

    fn multikey(id: &str, controller: &str) -> Value {
        json!({"id": id, "type": "Multikey", "controller": controller, "publicKeyMultibase": MULTIKEY})
    }

    fn actor(more: Value) -> Value {
        let mut base = json!({"id": U, "type": "Person", "inbox": "https://a.example/u/inbox"});
        let (Some(fields), Value::Object(more)) = (base.as_object_mut(), more) else { panic!("objects") };
        fields.extend(more);
        base
    }

    fn key_ids(document: &Value) -> Vec<String> {
        RemoteActor::read(document).expect("an actor").keys.iter().map(|key| key.id.to_string()).collect()
    }

    #[test]
    fn only_keys_listed_for_it_make_proofs() {
        let (k, e) = ("https://a.example/u#main-key", "https://a.example/u#ed25519-key");
        let classic = |id: &str, more: Value| {
            let mut key = json!({"id": id, "owner": U});
            key.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            key
        };
        let pem = classic(k, json!({"publicKeyPem": PEM}));
        let ed25519 = classic(e, json!({"publicKeyMultibase": MULTIKEY}));
        let other = classic(e, json!({"publicKeyPem": PEM}));
        let table = [
            (json!({"publicKey": [pem, ed25519]}), vec![(k, false), (e, false)]),
            (json!({"publicKey": pem, "assertionMethod": [multikey(e, U)]}), vec![(k, false), (e, true)]),
            // Listed twice: for both ends if it is the same key, else as what it is first.
            (json!({"publicKey": ed25519, "assertionMethod": [multikey(e, U)]}), vec![(e, true)]),
            (json!({"publicKey": other, "assertionMethod": [multikey(e, U)]}), vec![(e, false)]),
        ];
        for (more, expected) in table {
            let read = RemoteActor::read(&actor(more)).expect("an actor");
            let found: Vec<_> = read.keys.iter().map(|key| (key.id.as_str(), key.asserts)).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn an_inbox_is_on_its_own_server_or_there_is_no_actor() {
        let good = RemoteActor::read(&actor(json!({}))).expect("an actor");
        assert_eq!(
            (good.inbox.as_str(), good.shared_inbox, good.suspended),
            ("https://a.example/u/inbox", None, false)
        );
        for inbox in [
            json!(null),
            json!("https://b.example/inbox"),
            json!("http://a.example/inbox"),
            json!("https://a.example:8443/i"),
            json!("/inbox"),
            json!(7),
            json!(["https://a.example/inbox"]),
            json!("https://127.0.0.1/inbox"),
        ] {
            assert_eq!(RemoteActor::read(&actor(json!({"inbox": inbox}))), Err(ActorFault::Inbox), "{inbox}");
        }
        let shared = |value: Value| {
            RemoteActor::read(&actor(json!({"endpoints": {"sharedInbox": value}}))).expect("an actor").shared_inbox
        };
        assert_eq!(
            shared(json!("https://a.example/inbox")).map(|i| i.to_string()),
            Some("https://a.example/inbox".to_owned())
        );
        for other in [json!("https://b.example/inbox"), json!(null), json!(7), json!("inbox")] {
            assert_eq!(shared(other.clone()), None, "{other}");
        }
        for endpoints in [json!(null), json!([]), json!("x")] {
            assert!(RemoteActor::read(&actor(json!({"endpoints": endpoints}))).is_ok());
        }
    }

    #[test]
    fn an_actor_is_of_one_of_five_kinds() {
        for kind in ["Application", "Service", "Group", "Organization", "Person"] {
            let read = RemoteActor::read(&actor(json!({"type": kind}))).map(|actor| actor.kind.as_str());
            assert_eq!(read, Ok(kind));
        }
        for kind in [json!("Note"), json!(null), json!(["Person", "Service"]), json!("person")] {
            assert_eq!(RemoteActor::read(&actor(json!({"type": kind}))), Err(ActorFault::Kind), "{kind}");
        }
        for id in [json!(null), json!("u"), json!(7)] {
            assert_eq!(RemoteActor::read(&actor(json!({"id": id}))), Err(ActorFault::Id), "{id}");
        }
        assert_eq!(RemoteActor::read(&json!(U)), Err(ActorFault::NotAnObject));
        assert!(RemoteActor::read(&actor(json!({"suspended": true}))).expect("an actor").suspended);
        assert!(!RemoteActor::read(&actor(json!({"suspended": "yes"}))).expect("an actor").suspended);
        for (name, kept) in
            [(json!("ada"), Some("ada")), (json!(""), None), (json!(7), None), (json!("x".repeat(300)), None)]
        {
            let actor = RemoteActor::read(&actor(json!({"preferredUsername": name}))).expect("an actor");
            assert_eq!(actor.username.as_deref(), kept);
        }
    }

    #[test]
    fn keys_are_taken_that_name_this_actor_and_the_rest_is_passed_over() {
        let (k1, k2, e1) = ("https://a.example/u#main-key", "https://a.example/u#second", "https://a.example/u#ed");
        assert_eq!(key_ids(&actor(json!({"publicKey": key(k1, U, PEM)}))), [k1]);
        assert_eq!(key_ids(&actor(json!({"publicKey": [key(k1, U, PEM), key(k2, U, OTHER)]}))), [k1, k2]);
        assert_eq!(key_ids(&actor(json!({"assertionMethod": multikey(e1, U)}))), [e1]);
        let both = json!({"publicKey": key(k1, U, PEM), "assertionMethod": [multikey(e1, U), "https://a.example/u#x"]});
        assert_eq!(key_ids(&actor(both)), [k1, e1]);
        let bad = [
            key(k1, "https://a.example/v", PEM),
            key(k1, "https://b.example/u", PEM),
            key("https://b.example/u#main-key", U, PEM),
            key("main-key", U, PEM),
            key(k1, U, SMALL),
            key(k1, U, "no key"),
            json!({"id": k1, "publicKeyPem": PEM}),
            json!({"id": k1, "owner": U}),
            json!({"owner": U, "publicKeyPem": PEM}),
            json!(k1),
            json!(null),
            json!(7),
        ];
        for bad in bad {
            assert_eq!(key_ids(&actor(json!({"publicKey": [bad, key(k2, U, PEM)]}))), [k2], "{bad}");
        }
        assert_eq!(key_ids(&actor(json!({"assertionMethod": [multikey(e1, "https://b.example/u")]}))), [] as [&str; 0]);
        // Two keys under one id: the first counts, so that nobody can hide one behind the other.
        let twice = actor(json!({"publicKey": [key(k1, U, PEM), key(k1, U, OTHER)]}));
        let read = RemoteActor::read(&twice).expect("an actor");
        assert_eq!(read.key(k1).map(|key| key.key.clone()).as_ref(), PublicKey::from_pem(PEM).as_ref().ok());
        assert_eq!((read.keys.len(), read.key("x")), (1, None));
        let many: Vec<Value> = (0..20).map(|n| key(&format!("{U}#{n}"), U, PEM)).collect();
        assert_eq!(key_ids(&actor(json!({"publicKey": many}))).len(), MAX_KEYS);
    }

    #[test]
    fn a_key_document_names_an_owner_on_its_own_server() {
        let id = "https://a.example/keys/1";
        let read = KeyDocument::read(&key(id, U, PEM)).expect("a key");
        assert_eq!((read.owner().as_str(), read.key(id).is_some(), read.key(U).is_some()), (U, true, false));
        let rsa = PublicKey::from_pem(OTHER).expect("a key");
        let listed = json!({"id": id, "type": "Multikey", "controller": U, "publicKeyMultibase": rsa.to_multibase()});
        let found = KeyDocument::read(&listed).expect("a key").key(id).cloned();
        assert_eq!(
            (found.as_ref(), key_ids(&actor(json!({"assertionMethod": [listed]})))),
            (Some(&rsa), vec![id.to_owned()])
        );
        let read = KeyDocument::read(&multikey(id, U)).expect("a key");
        assert!(matches!(&read, KeyDocument::Key { id: found, .. } if found.as_str() == id));
        let table = [
            (key(id, "https://b.example/u", PEM), ActorFault::Owner),
            (json!({"id": id, "publicKeyPem": PEM}), ActorFault::Owner),
            (key("1", U, PEM), ActorFault::Id),
            (key(id, U, SMALL), ActorFault::Key),
            (json!({"id": id, "owner": U, "publicKeyPem": 7}), ActorFault::Key),
            (json!({"id": U, "type": "Person"}), ActorFault::Key),
            (json!({"id": U, "type": "Person", "publicKey": key("https://b.example/k", U, PEM)}), ActorFault::Key),
            (
                json!({"id": U, "type": "Person", "inbox": "https://b.example/i", "publicKey": key(id, U, PEM)}),
                ActorFault::Inbox,
            ),
            (json!({"id": U, "type": "Note", "publicKey": key(id, U, PEM)}), ActorFault::Kind),
            (json!({"id": U}), ActorFault::Kind),
            (json!([]), ActorFault::NotAnObject),
        ];
        for (document, fault) in table {
            assert_eq!(KeyDocument::read(&document), Err(fault), "{document}");
        }
    }
}

//! One entry: what was taken, as it came, with what every reader needs to know of it without parsing the body again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::store::{StoreError, frame, unframe};
use crate::wire::json;

const VERSION: u8 = 1;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A new public post.
    Create,
    /// An edit of a post, or of an actor.
    Update,
    /// A deletion of a post, or of an actor.
    Delete,
    /// An object id that somebody told us of: to be read from its origin before anything is believed.
    Hint,
    /// A person boosts a post, which says nothing about the post but that they did. For trends; nobody is sent it.
    Boost,
}

/// An entry before it has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// When it was taken.
    pub at: Timestamp,
    /// What it is about.
    pub kind: Kind,
    /// The object: the post, or the actor of an actor's Update or Delete.
    pub object: Iri,
    /// Who did it: the author, or for a hint who told us.
    pub actor: Iri,
    /// The activity's id, as it came.
    pub activity: String,
    /// The server that brought it: it gets nothing back.
    pub supplier: Authority,
    /// The body came from its own actor and bears that actor's LD signature: it may be forwarded as it is. A hint has no
    /// body; of it this says that the object is said to have changed ([`Draft::is_recheck`]).
    pub carried: bool,
    /// When the post was published, if it says so.
    pub published: Option<Timestamp>,
    /// It goes to subscribers. If not, it came for the search alone, and nobody is sent anything of it.
    pub relayed: bool,
    /// The bytes as they came; empty where only the object's id is known. Some are kept for the search to read and may not
    /// be forwarded: that is what `carried` tells.
    pub body: Bytes,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// What it says.
    pub draft: Draft,
}

impl std::ops::Deref for Entry {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.draft
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    at: Timestamp,
    kind: Kind,
    object: Iri,
    actor: Iri,
    activity: String,
    supplier: Authority,
    carried: bool,
    published: Option<Timestamp>,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    relayed: bool,
}

/// What entries were before there was a search.
const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_yes(relayed: &bool) -> bool {
    *relayed
}

impl Draft {
    /// The same hint, of an object that is said to have changed: it is read again even if it is being read just now.
    #[must_use]
    pub fn into_recheck(self) -> Self {
        Self { carried: self.kind == Kind::Hint, ..self }
    }

    /// Whether it is a hint that says so.
    #[must_use]
    pub fn is_recheck(&self) -> bool {
        self.kind == Kind::Hint && self.carried
    }

    /// The hash in the id of our Announce of this object: 32 hex digits that depend on the object's id alone, so that a
    /// repeat after a crash says the same.
    #[must_use]
    pub fn announce_hash(&self) -> String {
        format!("{:032x}", self.object.key())
    }

    /// As bytes: a frame around the length of the head, the head as JSON, the body.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the head cannot be written, which no draft of ours does.
    pub fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let head = Head {
            at: self.at,
            kind: self.kind,
            object: self.object.clone(),
            actor: self.actor.clone(),
            activity: self.activity.clone(),
            supplier: self.supplier.clone(),
            carried: self.carried,
            published: self.published,
            relayed: self.relayed,
        };
        let head = serde_json::to_vec(&head).map_err(|error| StoreError::Damaged(format!("log: {error}")))?;
        let length =
            u32::try_from(head.len()).map_err(|_big| StoreError::Damaged("log: a head over 4 GiB".to_owned()))?;
        let mut payload = Vec::with_capacity(4 + head.len() + self.body.len());
        payload.extend_from_slice(&length.to_be_bytes());
        payload.extend_from_slice(&head);
        payload.extend_from_slice(&self.body);
        Ok(frame(VERSION, &payload))
    }
}

impl Entry {
    /// The post in its body: the document as it came from its origin, or what a Create or an Update brought.
    #[must_use]
    pub fn document(&self) -> Option<Value> {
        let mut document = json::parse(&self.draft.body).ok()?;
        let kind = document.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("Create" | "Update")) {
            return Some(document);
        }
        document.get_mut("object").filter(|object| object.is_object()).map(Value::take)
    }

    /// Reads what `Draft::encode` wrote. For fuzzers too: any bytes are refused or read, never a panic.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the place.
    pub fn decode(seq: Seq, bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |why: &str| StoreError::Damaged(format!("log entry {seq}: {why}"));
        let (version, payload) = unframe(&format!("log entry {seq}"), bytes)?;
        if version != VERSION {
            return Err(StoreError::Newer { table: "log", version });
        }
        let (length, rest) = payload.split_first_chunk::<4>().ok_or_else(|| damaged("no head"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (head, body) = rest.split_at_checked(length).ok_or_else(|| damaged("the head is cut short"))?;
        let head: Head = serde_json::from_slice(head).map_err(|error| damaged(&error.to_string()))?;
        let Head { at, kind, object, actor, activity, supplier, carried, published, relayed } = head;
        let body = Bytes::copy_from_slice(body);
        Ok(Self {
            seq,
            draft: Draft { at, kind, object, actor, activity, supplier, carried, published, relayed, body },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_keeps_its_golden_bytes() {
        let iri = |text: &str| Iri::parse(text).unwrap();
        let draft = Draft {
            at: Timestamp::from_secs(1_787_486_400),
            kind: Kind::Create,
            object: iri("https://small.example/notes/1"),
            actor: iri("https://small.example/users/ada"),
            activity: "https://small.example/notes/1/activity".to_owned(),
            supplier: iri("https://small.example/").authority(),
            carried: true,
            published: Some(Timestamp::from_secs(1_787_486_399)),
            relayed: true,
            body: Bytes::from_static(br#"{"type":"Create"}"#),
        };
        let kept = crate::store::testing::golden("log", &draft.encode().unwrap());
        assert_eq!(Entry::decode(Seq(5), &kept).unwrap(), Entry { seq: Seq(5), draft: draft.clone() });
        let draft = Draft { relayed: false, ..draft };
        assert_eq!(Entry::decode(Seq(5), &draft.encode().unwrap()).unwrap(), Entry { seq: Seq(5), draft });
    }

    /// Only a Create or an Update brings a post; a post may hold whatever it likes.
    #[test]
    fn a_post_that_holds_another_is_read_as_itself() {
        let note = json!({ "id": "https://a.example/notes/1", "type": "Note", "content": "her own" });
        let mut holder = note.clone();
        holder["object"] = json!({ "id": "https://b.example/notes/1", "type": "Note", "content": "anothers" });
        let iri = |text: &str| Iri::parse(text).unwrap();
        let check = |body: &Value, expected: Option<&Value>| {
            let entry = Entry {
                seq: Seq(1),
                draft: Draft {
                    at: Timestamp::from_secs(1_787_486_400),
                    kind: Kind::Create,
                    object: iri("https://a.example/notes/1"),
                    actor: iri("https://a.example/users/ada"),
                    activity: String::new(),
                    supplier: iri("https://a.example/users/ada").authority(),
                    carried: false,
                    published: None,
                    relayed: true,
                    body: body.to_string().into(),
                },
            };
            assert_eq!(entry.document().as_ref(), expected, "{body}");
        };
        check(&note, Some(&note));
        check(&holder, Some(&holder));
        for kind in ["Create", "Update"] {
            check(&json!({ "id": "https://a.example/1", "type": kind, "object": holder }), Some(&holder));
            check(&json!({ "id": "https://a.example/1", "type": kind, "object": "https://a.example/notes/1" }), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_entry_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            length in 0_u32..100,
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            prop_assert!(Entry::decode(Seq(1), &bytes).is_err());
            for payload in [bytes.clone(), [&length.to_be_bytes()[..], &bytes].concat()] {
                prop_assert!(Entry::decode(Seq(1), &frame(VERSION, &payload)).is_err());
            }
            let mut kept = include_bytes!("../../tests/fixtures/records/v1/log.bin").to_vec();
            let at = at.index(kept.len());
            prop_assert!(Entry::decode(Seq(1), &kept[..at]).is_err());
            kept[at] ^= 1 << bit;
            prop_assert!(Entry::decode(Seq(1), &kept).is_err());
        }
    }
}

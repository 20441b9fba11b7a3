//! What an entry looks like on the wire, made once and shared by all lanes: bodies with their digests. Bodies are kept,
//! never signed requests: a signature is good for minutes only.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;

use super::plan::Plan;
use crate::ids::Seq;
use crate::log::Entry;
use crate::net::KeyRing;
use crate::wire::author::{AnnounceAudience, OurIds, announce, undo_announce};
use crate::wire::http_sig::Body;

/// Entries whose bodies are kept ready, by number of bytes and by time since a lane last asked.
const KEPT_BYTES: u64 = 32 << 20;
const KEPT_FOR: Duration = Duration::from_secs(300);
/// What an entry costs beside its body, roughly.
const ENTRY_BYTES: usize = 1024;

/// One message as it is sent: a body and its digest. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) body: Bytes,
    pub(super) digest: Body,
}

impl Message {
    pub(super) fn new(body: Bytes) -> Self {
        let digest = Body::of(&body);
        Self { body, digest }
    }
}

/// One entry on its way out.
pub(super) struct Outgoing {
    pub(super) entry: Arc<Entry>,
    forward: OnceLock<Message>,
    announce: OnceLock<Message>,
    undo: OnceLock<Message>,
}

/// Makes outgoing entries and keeps the recent ones. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox {
    ids: Arc<OurIds>,
    keys: KeyRing,
    audience: AnnounceAudience,
    kept: Cache<Seq, Arc<Outgoing>>,
}

impl Outbox {
    pub(super) fn new(ids: Arc<OurIds>, keys: KeyRing, audience: AnnounceAudience) -> Self {
        let weight = |_seq: &Seq, one: &Arc<Outgoing>| {
            u32::try_from(one.entry.body.len().saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder().max_capacity(KEPT_BYTES).weigher(weight).time_to_idle(KEPT_FOR).build();
        Self { ids, keys, audience, kept }
    }

    /// `entry` as all lanes share it.
    pub(super) async fn outgoing(&self, entry: &Arc<Entry>) -> Arc<Outgoing> {
        let make = async {
            Arc::new(Outgoing {
                entry: entry.clone(),
                forward: OnceLock::new(),
                announce: OnceLock::new(),
                undo: OnceLock::new(),
            })
        };
        self.kept.get_with(entry.seq, make).await
    }

    /// What `plan` sends of `outgoing`; `None` if it sends nothing.
    pub(super) fn message<'a>(&self, outgoing: &'a Outgoing, plan: Plan) -> Option<&'a Message> {
        let entry = &outgoing.entry;
        match plan {
            Plan::Forward => Some(outgoing.forward.get_or_init(|| Message::new(entry.body.clone()))),
            Plan::Announce => Some(outgoing.announce.get_or_init(|| Message::new(self.announce(entry).into()))),
            Plan::UndoAnnounce => Some(outgoing.undo.get_or_init(|| Message::new(self.undo(entry).into()))),
            Plan::Skip(_) => None,
        }
    }

    /// Its id depends on the object's id alone, its times and so its proof on the entry: a repeat after a crash says the
    /// same, to the byte, while our key is the same.
    fn announce(&self, entry: &Entry) -> Vec<u8> {
        let id = self.ids.announce(&entry.announce_hash());
        let keys = self.keys.proves();
        announce(&self.ids, &id, entry.object.as_str(), entry.at, self.audience, Some(&keys.ed25519))
    }

    fn undo(&self, entry: &Entry) -> Vec<u8> {
        let hash = entry.announce_hash();
        let announced = self.ids.announce(&hash);
        let id = self.ids.activity("undo", &hash);
        undo_announce(&self.ids, &id, &announced, entry.object.as_str(), self.audience)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::testing;
    use super::*;
    use crate::net::Standing;
    use crate::wire::proof;

    fn outbox() -> Outbox {
        let ids = OurIds::new("https://relay.example", "/actor", "main-key", "relay").unwrap();
        Outbox::new(
            Arc::new(ids),
            KeyRing::new(Standing::only(crate::net::testing::keys())),
            AnnounceAudience::Followers,
        )
    }

    #[tokio::test]
    async fn each_message_is_made_once_and_a_forward_is_the_bytes_as_they_came() {
        let outbox = outbox();
        let entry = Arc::new(testing::entry(7, |_| {}));
        let one = outbox.outgoing(&entry).await;
        let two = outbox.outgoing(&entry).await;
        assert!(Arc::ptr_eq(&one, &two));
        let forward = outbox.message(&one, Plan::Forward).unwrap();
        assert_eq!((forward.body.as_ptr(), forward.body.len()), (entry.body.as_ptr(), entry.body.len()));
        assert_eq!(forward.digest, Body::of(&entry.body));
        let announce = outbox.message(&one, Plan::Announce).unwrap();
        assert_eq!(announce.body.as_ptr(), outbox.message(&two, Plan::Announce).unwrap().body.as_ptr());
        assert!(outbox.message(&one, Plan::Skip("hint")).is_none());
    }

    #[tokio::test]
    async fn an_undo_names_the_announce_that_every_run_of_the_relay_makes() {
        let entry = Arc::new(testing::entry(7, |_| {}));
        let body = async |plan| {
            let outbox = outbox();
            let outgoing = outbox.outgoing(&entry).await;
            outbox.message(&outgoing, plan).unwrap().body.clone()
        };
        let (announce, again) = (body(Plan::Announce).await, body(Plan::Announce).await);
        assert_eq!(announce, again);
        let announce: Value = serde_json::from_slice(&announce).unwrap();
        assert_eq!(announce["object"], "https://author.example/notes/7");
        // With our proof, made when the entry was.
        let key = crate::net::testing::keys().ed25519;
        assert_eq!(announce["proof"]["verificationMethod"], key.key_id().as_str());
        assert_eq!(proof::verify(&announce, &key.public(), entry.at), Ok(()));
        let undo: Value = serde_json::from_slice(&body(Plan::UndoAnnounce).await).unwrap();
        assert_eq!((&undo["type"], &undo["object"]["id"]), (&Value::from("Undo"), &announce["id"]));
    }
}

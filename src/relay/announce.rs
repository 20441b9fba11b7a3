//! One post, passed on by hand: the operator names it, it is read from its origin, and what is public there goes the way of
//! every post that was heard of.
//!
//! Not a way to say something to subscribers: who joined a relay agreed to posts of other servers, not to its operator's
//! words on everybody's timeline; and not a way around membership: passing posts on is a server's own wish.

use bytes::Bytes;

use super::Relay;
use crate::ids::Iri;
use crate::log::{Draft, Kind};
use crate::policy::Verdict;
use crate::store::{Act, StoreError, Tx};

impl Relay {
    /// Has a post of a server that joined, or may send, read from its origin and passed on as if it had come just now.
    ///
    /// # Errors
    /// [`StoreError::Declined`], with a sentence, if its server neither joined nor may send, or is blocked or silenced, or the
    /// post was relayed or deleted before, or there is no room; the store's.
    pub async fn announce(&self, object: &Iri, act: &Act) -> Result<(), StoreError> {
        let (server, now) = (object.authority(), self.0.clock.now());
        let no = |why: String| Err(StoreError::Declined(why));
        if self.is_ours(&server) {
            return no("that is this relay's own".to_owned());
        }
        if self.0.rules.set().verdict(&server, now) != Verdict::Allow {
            return no(format!("a rule stands against {server}: `shearwater admin rules check {server}` says which"));
        }
        let joined = self.0.store.subscriber(&server).is_some_and(|one| one.is_active());
        if !joined && !self.0.store.publishes(&server) {
            return no(format!(
                "{server} neither joined nor may send: passing on its posts is for its admin to want, and then \
                 `shearwater admin publisher add {server}` lets them in"
            ));
        }
        if !self.has_room() {
            return no("the relay's disk has no room to keep this".to_owned());
        }
        let draft = Draft {
            at: now,
            kind: Kind::Hint,
            object: object.clone(),
            actor: self.0.identity.ids.actor.clone(),
            activity: String::new(),
            supplier: server.clone(),
            carried: false,
            published: None,
            relayed: true,
            body: Bytes::new(),
        };
        let (relay, act) = (self.clone(), act.clone());
        let append = move |tx: &mut Tx<'_>| {
            if let Some(why) = Self::not_again(tx, &draft)? {
                let why = if why == "deleted-before" { "it was deleted" } else { "it was relayed before" };
                return Err(StoreError::Declined(why.to_owned()));
            }
            tx.audit(&act, "announce", server.as_str(), serde_json::Value::Null, serde_json::Value::Null)?;
            relay.append_hint(tx, draft).map(drop)
        };
        self.0.store.write(append).await
    }
}

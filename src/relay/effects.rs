//! Performs what `route` decided: one store transaction that notes what was seen, changes what changed, and appends to
//! the log. When it returns, all of it is durable; if it fails, none of it happened.

use std::sync::Arc;

use super::Relay;
use super::route::Effect;
use super::subscribe::Welcome;
use super::verify::{Verified, is_control};
use crate::log::Draft;
use crate::store::{SeenSet, StoreError, Tx};
use crate::wire::actor::RemoteActor;

/// A subscriber's "last seen" is written at most this often.
const SEEN_EVERY: std::time::Duration = std::time::Duration::from_secs(3600);

/// A Follow with what is needed to write it down.
#[derive(Clone)]
pub struct Joining {
    /// Who follows.
    pub actor: Arc<RemoteActor>,
    /// What becomes of it.
    pub welcome: Welcome,
}

impl Relay {
    /// Performs `effects`; in a word, what came of it.
    ///
    /// # Errors
    /// The store's; nothing happened then.
    pub async fn perform(
        &self,
        verified: Verified,
        effects: Vec<Effect>,
        joining: Option<Joining>,
    ) -> Result<&'static str, StoreError> {
        if let Some(Effect::Ignore(why)) = effects.last()
            && effects.iter().all(|effect| matches!(effect, Effect::Ignore(_)))
        {
            return Ok(why);
        }
        for effect in &effects {
            if let Effect::Forget(actor) = effect {
                self.0.peers.forget(actor).await;
            }
        }
        let relay = self.clone();
        self.0.store.write(move |tx| relay.perform_in(tx, &verified, effects, joining.as_ref())).await
    }

    fn perform_in(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        effects: Vec<Effect>,
        joining: Option<&Joining>,
    ) -> Result<&'static str, StoreError> {
        if is_control(&verified.activity) {
            if !tx.note(SeenSet::Signatures, &[&verified.signature])? {
                return Ok("replay");
            }
        } else if let Some(id) = &verified.activity.id
            && !tx.note(SeenSet::Activities, &[id.origin(), id.as_str()])?
        {
            return Ok("seen-before");
        }
        self.note_alive(tx, verified)?;
        let mut word = "nothing";
        for effect in effects {
            word = self.perform_one(tx, verified, effect, joining)?;
        }
        Ok(word)
    }

    fn perform_one(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        effect: Effect,
        joining: Option<&Joining>,
    ) -> Result<&'static str, StoreError> {
        match effect {
            Effect::Ignore(why) => Ok(why),
            Effect::Relay(draft) => self.relay(tx, draft),
            Effect::Change(draft) => self.change(tx, draft),
            Effect::Delete(draft) => self.delete(tx, draft),
            Effect::Hint(draft) => {
                if tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
                    return Ok("relayed-before");
                }
                self.0.log.append(tx, draft)?;
                Ok("hint")
            }
            Effect::Recheck(draft) => {
                if !tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
                    return Ok("not-relayed-before");
                }
                self.0.log.append(tx, draft)?;
                Ok("recheck")
            }
            Effect::Join { style } => {
                let Some(joining) = joining else { return Ok("nothing") };
                self.join(tx, verified, &joining.actor, style, joining.welcome)?;
                Ok(match joining.welcome {
                    Welcome::Accept => "joined",
                    Welcome::Check => "join-checked",
                    Welcome::Hold => "join-held",
                    Welcome::Reject(_) => "join-rejected",
                })
            }
            Effect::Leave { follow, style } => self.leave(tx, verified, follow.as_ref(), style),
            Effect::Answer { accepted } => Self::answered(tx, &verified.activity.actor, accepted),
            Effect::Forget(_) => Ok("actor-changed"),
        }
    }

    /// Each object once, whoever brings it, and never after its deletion.
    pub(super) fn relay(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        for gone in [&draft.object, &draft.actor] {
            if tx.has_seen(SeenSet::Tombstones, &[gone.as_str()])? {
                return Ok("deleted-before");
            }
        }
        if !tx.note(SeenSet::Objects, &[draft.object.as_str()])? {
            return Ok("relayed-before");
        }
        self.0.log.append(tx, draft)?;
        Ok("relayed")
    }

    fn change(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        let of_actor = draft.object == draft.actor;
        if !of_actor && !tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
            return Ok("not-relayed-before");
        }
        if of_actor && !draft.carried {
            return Ok("actor-changed");
        }
        if self.is_anothers(&draft)? {
            return Ok("change-of-anothers-object");
        }
        self.0.log.append(tx, draft)?;
        Ok("change-relayed")
    }

    pub(super) fn delete(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if self.is_anothers(&draft)? {
            return Ok("deletion-of-anothers-object");
        }
        let known = tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])?;
        let new = tx.note(SeenSet::Tombstones, &[draft.object.as_str()])?;
        if !new {
            return Ok("deleted-before");
        }
        if known || (draft.object == draft.actor && draft.carried) {
            self.0.log.append(tx, draft)?;
            return Ok("deletion-relayed");
        }
        Ok("deletion-noted")
    }

    /// While the log still has the post it knows its author, and only the author changes or deletes it.
    fn is_anothers(&self, draft: &Draft) -> Result<bool, StoreError> {
        let posted = self.0.log.announced(&draft.announce_hash())?;
        Ok(posted.is_some_and(|posted| posted.actor != draft.actor))
    }

    fn note_alive(&self, tx: &mut Tx<'_>, verified: &Verified) -> Result<(), StoreError> {
        let now = self.0.clock.now();
        match self.0.store.subscriber(&verified.authority) {
            Some(known) if now.since(known.seen_at) >= SEEN_EVERY => {}
            _ => return Ok(()),
        }
        if let Some(mut subscriber) = tx.subscriber(&verified.authority)? {
            subscriber.seen_at = now;
            tx.put_subscriber(subscriber)?;
        }
        Ok(())
    }
}

//! Performs what `route` decided: one store transaction that notes what was seen, changes what changed, and appends to
//! the log. When it returns, all of it is durable; if it fails, none of it happened.

use std::sync::Arc;

use super::Relay;
use super::resolver;
use super::route::Effect;
use super::subscribe::Welcome;
use super::verify::{Verified, is_control};
use crate::ids::Iri;
use crate::log::Draft;
use crate::store::{SeenSet, StoreError, Tx};
use crate::wire::actor::RemoteActor;

/// A subscriber's "last seen" is written at most this often.
const SEEN_EVERY: std::time::Duration = std::time::Duration::from_secs(3600);

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// In a word.
    pub word: &'static str,
    /// What became of a Follow.
    pub welcome: Option<Welcome>,
}

impl From<&'static str> for Outcome {
    fn from(word: &'static str) -> Self {
        Self { word, welcome: None }
    }
}

impl Relay {
    /// Performs `effects`; `actor` is who follows, where one of them is a Follow.
    ///
    /// # Errors
    /// The store's; nothing happened then.
    pub async fn perform(
        &self,
        verified: Verified,
        effects: Vec<Effect>,
        actor: Option<Arc<RemoteActor>>,
    ) -> Result<Outcome, StoreError> {
        if let Some(Effect::Ignore(why)) = effects.last()
            && effects.iter().all(|effect| matches!(effect, Effect::Ignore(_)))
        {
            return Ok((*why).into());
        }
        let changed: Vec<Iri> = effects
            .iter()
            .filter_map(|effect| if let Effect::Forget(actor) = effect { Some(actor.clone()) } else { None })
            .collect();
        let relay = self.clone();
        let write = move |tx: &mut Tx<'_>| {
            let done = relay.perform_in(tx, &verified, effects, actor.as_deref())?;
            // Handed back, so that its tree is freed here and not by the one thread that writes.
            Ok((done, verified))
        };
        let (done, _verified) = self.0.store.write(write).await?;
        // Only now: had the store refused, a deletion tried again would be of an actor that nobody knows.
        if !matches!(done.word, "replay" | "seen-before") {
            for actor in &changed {
                self.0.peers.forget(actor).await;
            }
        }
        Ok(done)
    }

    fn perform_in(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        effects: Vec<Effect>,
        actor: Option<&RemoteActor>,
    ) -> Result<Outcome, StoreError> {
        let activity = &verified.activity;
        if is_control(activity) {
            if !tx.note(SeenSet::Signatures, &[&verified.signature])? {
                return Ok("replay".into());
            }
        } else if let Some(id) = &activity.id
            // Only what its own actor signed: anybody else could use up ids that are not theirs.
            && verified.signer == activity.actor
            && !tx.note(SeenSet::Activities, &[id.origin(), id.as_str()])?
        {
            return Ok("seen-before".into());
        }
        self.note_alive(tx, verified)?;
        let mut done = Outcome::from("nothing");
        for effect in effects {
            done = self.perform_one(tx, verified, effect, actor)?;
        }
        Ok(done)
    }

    fn perform_one(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        effect: Effect,
        actor: Option<&RemoteActor>,
    ) -> Result<Outcome, StoreError> {
        let word = match effect {
            Effect::Ignore(why) => why,
            Effect::Relay(draft) => self.relay(tx, draft)?,
            Effect::Change(draft) => self.change(tx, draft)?,
            Effect::Delete(draft) => self.delete(tx, draft)?,
            Effect::Hint(draft) => {
                if tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
                    "relayed-before"
                } else {
                    self.0.log.append(tx, draft)?;
                    "hint"
                }
            }
            Effect::Recheck(draft) => {
                // Not relayed yet, but being read for the first time: the answer may be older than the change.
                let known = tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])?;
                if known || resolver::waits(tx, &draft.object)? {
                    self.0.log.append(tx, draft.into_recheck())?;
                    "recheck"
                } else {
                    "not-relayed-before"
                }
            }
            Effect::Join { style } => {
                let Some(actor) = actor else { return Ok("nothing".into()) };
                let welcome = self.join(tx, verified, actor, style)?;
                let word = match welcome {
                    Welcome::Accept => "joined",
                    Welcome::Check => "join-checked",
                    Welcome::Hold => "join-held",
                    Welcome::Reject(_) => "join-rejected",
                };
                return Ok(Outcome { word, welcome: Some(welcome) });
            }
            Effect::Leave { follow, style } => self.leave(tx, verified, follow.as_ref(), style)?,
            Effect::Answer { accepted } => Self::answered(tx, &verified.activity.actor, accepted)?,
            Effect::Forget(_) => "actor-changed",
        };
        Ok(word.into())
    }

    /// Each object once, whoever brings it, and never after its deletion.
    pub(super) fn relay(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if tx.has_seen(SeenSet::Tombstones, &[draft.object.as_str()])?
            || tx.has_seen(SeenSet::Tombstones, &["actor", draft.actor.as_str()])?
        {
            return Ok("deleted-before");
        }
        if !tx.note(SeenSet::Objects, &[draft.object.as_str()])? {
            return Ok("relayed-before");
        }
        tx.note(SeenSet::Objects, &["author", draft.actor.as_str()])?;
        self.0.log.append(tx, draft)?;
        Ok("relayed")
    }

    fn change(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        let of_actor = draft.object == draft.actor;
        if !of_actor && !tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
            return Ok("not-relayed-before");
        }
        // A changed profile is of interest only where its posts went, and only as bytes that can be checked.
        if of_actor && !(draft.carried && tx.has_seen(SeenSet::Objects, &["author", draft.actor.as_str()])?) {
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
        // An actor's deletion silences the actor, and only its own does.
        let of_actor = draft.object == draft.actor;
        let key: &[&str] = if of_actor { &["actor", draft.actor.as_str()] } else { &[draft.object.as_str()] };
        let new = tx.note(SeenSet::Tombstones, key)?;
        if !new {
            return Ok("deleted-before");
        }
        if known || (of_actor && draft.carried) {
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

//! Performs what `route` decided: one store transaction that notes what was seen, changes what changed, and appends to
//! the log. When it returns, all of it is durable; if it fails, none of it happened.

use std::sync::{Arc, OnceLock};

use super::Relay;
use super::resolver;
use super::route::Effect;
use super::screening::FULL;
use super::subscribe::Welcome;
use super::trust::{Trust, trust};
use super::verify::{Inbox, Verified, is_control};
use super::withdraw::by;
use crate::ids::Iri;
use crate::log::Draft;
use crate::policy::screen::Reason;
use crate::store::{HeldKind, HeldPost, Hold, SeenSet, StoreError, Style, Tx};
use crate::wire::activity::Target;
use crate::wire::actor::RemoteActor;
use crate::wire::text::Features;

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
        mut effects: Vec<Effect>,
        actor: Option<Arc<RemoteActor>>,
    ) -> Result<Outcome, StoreError> {
        self.spare(&verified.activity.actor, &mut effects)?;
        let changed: Vec<Iri> = effects
            .iter()
            .filter_map(|effect| if let Effect::Forget(actor) = effect { Some(actor.clone()) } else { None })
            .collect();
        let is_goodbye = effects.iter().any(|effect| matches!(effect, Effect::Delete(_)));
        if effects.iter().all(|effect| matches!(effect, Effect::Ignore(_) | Effect::Forget(_))) {
            self.forget(&changed, is_goodbye).await;
            let why = effects.last().map(|effect| if let Effect::Ignore(why) = effect { why } else { "actor-changed" });
            return Ok(why.unwrap_or("nothing").into());
        }
        let features = features(&verified, &effects);
        if self.says_forbidden_words(&features.words()) {
            // What else follows, such as forgetting a document that has changed, follows all the same.
            for effect in &mut effects {
                match effect {
                    // The search may have to read it again: it may say no.
                    Effect::Change(draft) if draft.object == draft.actor => draft.relayed = false,
                    Effect::Relay(_) | Effect::Change(_) => *effect = Effect::Ignore("keyword"),
                    _ => {}
                }
            }
        }
        let (relay, actor_id) = (self.clone(), verified.activity.actor.clone());
        let author = actor_id.authority();
        let voids: Vec<Iri> = effects
            .iter()
            .filter_map(|effect| if let Effect::Void(object) = effect { Some(object.clone()) } else { None })
            .collect();
        let wave = Arc::new(OnceLock::new());
        let found = wave.clone();
        let write = move |tx: &mut Tx<'_>| {
            let done = relay.perform_in(tx, &verified, effects, actor.as_deref(), &features)?;
            // Nothing was promised yet: with an error all of it is as if it had not come.
            if done.word == FULL {
                if let Some(hold) = tx.get::<Hold>(verified.activity.actor.authority().as_str())? {
                    found.get_or_init(|| hold);
                }
                return Err(StoreError::Full);
            }
            // Handed back, so that its tree is freed here and not by the one thread that writes.
            Ok((done, verified))
        };
        let done = self.0.store.write(write).await;
        if let (Err(StoreError::Full), Some(hold)) = (&done, wave.get()) {
            self.hold_all_the_same(author, hold.clone()).await?;
        }
        if matches!(done, Err(StoreError::Full)) && !voids.is_empty() {
            // There is no room for the new version to wait. The old one goes all the same.
            let void = move |tx: &mut Tx<'_>| {
                voids.iter().try_for_each(|object| Self::void_earlier(tx, &actor_id, object).map(drop))
            };
            self.0.store.write(void).await?;
        }
        let (done, _verified) = done?;
        // Only now: had the store refused, a deletion tried again would be of an actor that nobody knows.
        if !matches!(done.word, "replay" | "seen-before") {
            self.forget(&changed, is_goodbye).await;
        }
        Ok(done)
    }

    async fn forget(&self, changed: &[Iri], is_goodbye: bool) {
        for actor in changed {
            if is_goodbye {
                self.0.peers.forget(actor).await;
            } else {
                self.0.peers.changed(actor).await;
            }
        }
    }

    /// Anybody may block us, and take that back, as often as they like: what is so already needs no transaction.
    fn spare(&self, actor: &Iri, effects: &mut [Effect]) -> Result<(), StoreError> {
        for effect in effects {
            let why = match effect {
                Effect::Blocked(ours) if self.is_blocked_by(actor, ours)? && !self.keeps_search_on(actor) => {
                    "blocked-before"
                }
                Effect::Unblocked(_) if self.0.store.refused(actor)?.is_none() => "undo-of-unknown-block",
                _ => continue,
            };
            *effect = Effect::Ignore(why);
        }
        Ok(())
    }

    fn perform_in(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        effects: Vec<Effect>,
        actor: Option<&RemoteActor>,
        features: &Features,
    ) -> Result<Outcome, StoreError> {
        let activity = &verified.activity;
        let is_control = is_control(activity);
        if is_control {
            if tx.has_seen(SeenSet::Signatures, &[&verified.signature])? {
                return Ok("replay".into());
            }
        } else if let Some(id) = &activity.id
            // Only what its own actor said: anybody else could use up ids that are not theirs.
            && matches!(trust(activity, &verified.signer, verified.prover.as_ref()), Trust::Direct | Trust::Proven)
            && !tx.note(SeenSet::Activities, &activity_key(verified.inbox, id))?
        {
            return Ok("seen-before".into());
        }
        self.note_alive(tx, verified)?;
        let (before, was_here) = (tx.writes(), self.is_here(&verified.authority));
        let mut done = Outcome::from("nothing");
        let is_taken = effects.iter().any(|effect| matches!(effect, Effect::Change(_)));
        for effect in effects {
            if let (Effect::Void(object), false) = (&effect, is_taken) {
                Self::doubt_version_held(tx, &activity.actor, object)?;
            }
            done = self.perform_one(tx, verified, effect, actor, features)?;
        }
        // A replay is of use to nobody if what it repeats changed nothing; of who is here it may come to be of use.
        if is_control && (was_here || tx.writes() > before) {
            tx.note(SeenSet::Signatures, &[&verified.signature])?;
        }
        Ok(done)
    }

    fn perform_one(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        effect: Effect,
        actor: Option<&RemoteActor>,
        features: &Features,
    ) -> Result<Outcome, StoreError> {
        let word = match effect {
            Effect::Ignore(why) => why,
            Effect::Relay(draft) => self.relay(tx, draft, features)?,
            Effect::Change(draft) => self.change(tx, draft, features)?,
            Effect::Delete(draft) => self.delete(tx, draft)?,
            Effect::Hint(draft) => self.hint(tx, draft)?,
            Effect::Recheck(draft) => self.recheck(tx, draft)?,
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
            Effect::Leave { follow, style } => self.take_back(tx, verified, follow.as_ref(), style)?,
            Effect::SearchOn => {
                let Some(actor) = actor else { return Ok("nothing".into()) };
                return self.search_on(tx, verified, actor);
            }
            Effect::SearchOff { follow } => match self.search_off(tx, verified, follow.as_ref())? {
                "search-off" => "search-off",
                // It came to the search's inbox with an id that says nothing more.
                _ => self.leave(tx, verified, follow.as_ref(), None)?,
            },
            Effect::Void(object) => Self::void_earlier(tx, &verified.activity.actor, &object)?,
            Effect::Withdraw(why) => self.withdraw_from_search(tx, &verified.activity.actor, why)?,
            Effect::Uncount(why) => self.uncount(tx, &verified.activity.actor, why)?,
            Effect::Boost(draft) => self.boost(tx, draft)?,
            Effect::Unboost(object) => Self::unboost(tx, &verified.activity.actor, &object)?,
            Effect::Blocked(ours) => Self::blocked_by(tx, &verified.activity.actor, &ours)?,
            Effect::Unblocked(ours) => Self::unblocked_by(tx, &verified.activity.actor, &ours)?,
            Effect::Answer { accepted } => Self::answered(tx, &verified.activity.actor, accepted)?,
            Effect::Forget(_) => "actor-changed",
        };
        Ok(word.into())
    }

    /// An Undo that may be of either Follow: an id tells which only by being ours.
    fn take_back(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        follow: Option<&Iri>,
        style: Option<Style>,
    ) -> Result<&'static str, StoreError> {
        let word = self.leave(tx, verified, follow, style)?;
        if follow.is_none() || !matches!(word, "not-a-subscriber" | "undo-of-unknown-follow") {
            return Ok(word);
        }
        let switched_off = self.search_off(tx, verified, follow)? == "search-off";
        Ok(if switched_off { "search-off" } else { word })
    }

    /// Relays a post, or holds it for the operator.
    pub(super) fn relay(&self, tx: &mut Tx<'_>, draft: Draft, features: &Features) -> Result<&'static str, StoreError> {
        if let Some(why) = Self::not_again(tx, &draft)? {
            return Ok(why);
        }
        if let Some(post) = tx.held(&draft.object)?.filter(|post| post.kind != HeldKind::Hint) {
            return Self::held_before(tx, post, &draft);
        }
        match self.screen(tx, &draft, features)? {
            Some(reason) => self.hold_back(tx, draft, HeldKind::Create, reason, &features.words()),
            None => {
                // It may have waited to be read from its origin: its author was quicker.
                self.take_out(tx, &draft.object, "released")?;
                self.append_post(tx, draft)
            }
        }
    }

    /// What waits for the search alone, and now comes by the relay as well, is for everybody when it is let go.
    fn held_before(tx: &mut Tx<'_>, post: HeldPost, draft: &Draft) -> Result<&'static str, StoreError> {
        if post.for_search && draft.relayed && (post.actor == draft.actor || post.kind == HeldKind::Hint) {
            tx.hold(HeldPost { for_search: false, ..post })?;
        }
        Ok("held-before")
    }

    fn is_deleted(tx: &Tx<'_>, draft: &Draft) -> Result<bool, StoreError> {
        Ok(tx.has_seen(SeenSet::Tombstones, &[draft.object.as_str()])?
            || tx.has_seen(SeenSet::Tombstones, &["actor", draft.actor.as_str()])?)
    }

    /// Each object once, whoever brings it, and never after its deletion.
    pub(super) fn not_again(tx: &Tx<'_>, draft: &Draft) -> Result<Option<&'static str>, StoreError> {
        if Self::is_deleted(tx, draft)? {
            return Ok(Some("deleted-before"));
        }
        if tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
            return Ok(Some("relayed-before"));
        }
        let is_repeat = !draft.relayed && Self::came_for_search(tx, &draft.object)?;
        Ok(is_repeat.then_some("taken-before"))
    }

    /// Appends a post that nothing is held against.
    pub(super) fn append_post(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if let Some(why) = Self::not_again(tx, &draft)? {
            return Ok(why);
        }
        tx.note(SeenSet::Objects, &by(&draft.actor, &draft.object))?;
        if !draft.relayed {
            Self::note_for_search(tx, &draft.object)?;
            self.0.log.append(tx, draft)?;
            return Ok("for-search");
        }
        tx.note(SeenSet::Objects, &[draft.object.as_str()])?;
        tx.note(SeenSet::Objects, &["author", draft.actor.as_str()])?;
        self.0.log.append(tx, draft)?;
        Ok("relayed")
    }

    /// Notes an id that is to be read, or holds it where its server is.
    fn hint(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if let Some(post) = tx.held(&draft.object)? {
            return Self::held_before(tx, post, &draft);
        }
        if self.holds_server(tx, &draft.object.authority())?
            && !tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])?
        {
            return self.hold_back(tx, draft, HeldKind::Hint, Reason::Wave, "");
        }
        self.append_hint(tx, draft)
    }

    pub(super) fn append_hint(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? {
            return Ok("relayed-before");
        }
        if !draft.relayed && Self::came_for_search(tx, &draft.object)? {
            return Ok("taken-before");
        }
        self.0.log.append(tx, draft)?;
        Ok("hint")
    }

    fn recheck(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        // Not relayed yet, but being read for the first time: the answer may be older than the change.
        let known = tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? || Self::is_searched(tx, &draft.object)?;
        if known || resolver::waits(tx, &draft.object)? {
            self.0.log.append(tx, draft.into_recheck())?;
            return Ok("recheck");
        }
        match tx.held(&draft.object)? {
            Some(post) => Self::doubt_held(tx, post),
            None => Ok("not-relayed-before"),
        }
    }

    /// Passes an edit on, or holds it for the operator: what was harmless when it was relayed need not stay so.
    fn change(&self, tx: &mut Tx<'_>, mut draft: Draft, features: &Features) -> Result<&'static str, StoreError> {
        if draft.object == draft.actor {
            // A profile is changed again some day; nothing is lost if this time nobody is told.
            draft.relayed &= !self.holds_server(tx, &draft.actor.authority())?;
            return self.append_change(tx, draft);
        }
        if let Some(post) = tx.held(&draft.object)? {
            return self.change_held(tx, post, &draft, Some(features));
        }
        if let Some(why) = self.not_changed(tx, &draft)? {
            return Ok(why);
        }
        match self.screen(tx, &draft, features)? {
            Some(reason) => self.hold_back(tx, draft, HeldKind::Update, reason, &features.words()),
            None => self.append_change(tx, draft),
        }
    }

    pub(super) fn append_change(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if let Some(why) = self.not_changed(tx, &draft)? {
            return Ok(why);
        }
        if self.is_passed_on(tx, &draft)? {
            self.0.log.append(tx, draft)?;
            return Ok("change-relayed");
        }
        let mut draft = for_search_alone(draft);
        if draft.object == draft.actor {
            // It is read from its origin.
            draft.body = bytes::Bytes::new();
        }
        self.0.log.append(tx, draft)?;
        Ok("change-for-search")
    }

    /// Whether a change is passed on to subscribers; else it is for the search alone.
    fn is_passed_on(&self, tx: &Tx<'_>, draft: &Draft) -> Result<bool, StoreError> {
        if draft.object != draft.actor {
            return Ok(draft.relayed && tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])?);
        }
        // A changed profile is of interest only where its posts went, and only as bytes that can be checked.
        Ok(draft.relayed && draft.carried && tx.has_seen(SeenSet::Objects, &["author", draft.actor.as_str()])?)
    }

    /// Why an edit is passed on to nobody, if it is not.
    fn not_changed(&self, tx: &Tx<'_>, draft: &Draft) -> Result<Option<&'static str>, StoreError> {
        if Self::is_deleted(tx, draft)? {
            return Ok(Some("deleted-before"));
        }
        if draft.object == draft.actor {
            // The search reads it again, and knows in seconds if its author said no.
            let of_use = self.is_passed_on(tx, draft)?
                || tx.knows_to_search(&draft.actor)?
                || self.0.store.has_ballots(&draft.actor)?;
            return Ok((!of_use).then_some("actor-changed"));
        }
        let known = tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? || Self::is_searched(tx, &draft.object)?;
        if !known {
            return Ok(Some("not-relayed-before"));
        }
        Ok(self.is_anothers(tx, draft)?.then_some("change-of-anothers-object"))
    }

    fn delete(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if self.is_anothers(tx, &draft)? { Ok("deletion-of-anothers-object") } else { self.erase(tx, draft) }
    }

    /// Carries out a deletion that its author, or its origin, asks for.
    pub(super) fn erase(&self, tx: &mut Tx<'_>, mut draft: Draft) -> Result<&'static str, StoreError> {
        // An actor's deletion silences the actor, and only its own does.
        let of_actor = draft.object == draft.actor;
        let key: &[&str] = if of_actor { &["actor", draft.actor.as_str()] } else { &[draft.object.as_str()] };
        // Before anything that costs: it may be said again and again.
        if tx.has_seen(SeenSet::Tombstones, key)? {
            self.unindex(tx, &draft)?;
            return Ok("deleted-before");
        }
        if !self.delete_held(tx, &draft)? {
            return Ok("deletion-of-anothers-object");
        }
        let known = tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])?;
        let new = tx.note(SeenSet::Tombstones, key)?;
        if !new {
            return Ok("deleted-before");
        }
        // In the log it may stand behind a post that the search has not read yet.
        let came = Self::came_for_search(tx, &draft.object)?;
        let server = draft.actor.authority();
        let searched = of_actor && self.0.search.is_on() && self.0.store.search_servers().contains_key(&server);
        let for_search = self.unindex(tx, &draft)? || came || searched;
        if known || (of_actor && draft.carried && draft.relayed) {
            // What others have is taken back, wherever its author says so.
            draft.relayed = true;
            self.0.log.append(tx, draft)?;
            return Ok("deletion-relayed");
        }
        if for_search {
            let draft = Draft { body: bytes::Bytes::new(), ..for_search_alone(draft) };
            self.0.log.append(tx, draft)?;
            return Ok("deletion-for-search");
        }
        Ok("deletion-noted")
    }

    /// Only its author changes or deletes a post. The log knows who that is while it still has the post, and so does the
    /// ledger of the search; for as long as the object itself is remembered, so is the pair of both.
    fn is_anothers(&self, tx: &Tx<'_>, draft: &Draft) -> Result<bool, StoreError> {
        let came =
            tx.has_seen(SeenSet::Objects, &[draft.object.as_str()])? || Self::came_for_search(tx, &draft.object)?;
        if came && !tx.has_seen(SeenSet::Objects, &by(&draft.actor, &draft.object))? {
            return Ok(true);
        }
        let posted = self.0.log.announced(&draft.announce_hash())?;
        if posted.is_some_and(|posted| posted.actor != draft.actor) {
            return Ok(true);
        }
        Ok(tx.indexed_post(&draft.object)?.is_some_and(|(_, post)| post.author != draft.actor))
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

/// Each inbox takes an activity once: who pasted both addresses posts it to both.
fn activity_key(inbox: Inbox, id: &Iri) -> [&str; 2] {
    match inbox {
        Inbox::Relay => [id.origin(), id.as_str()],
        Inbox::Search => ["search", id.as_str()],
    }
}

/// Nobody is sent it.
fn for_search_alone(draft: Draft) -> Draft {
    Draft { relayed: false, carried: false, ..draft }
}

/// What a post or its edit says; read here, so that the one thread that writes need not. Empty where none is screened.
fn features(verified: &Verified, effects: &[Effect]) -> Features {
    let is_screened = effects.iter().any(|effect| matches!(effect, Effect::Relay(_) | Effect::Change(_)));
    match &verified.activity.target {
        Target::Embedded { value, .. } if is_screened => Features::of(value),
        _ => Features::default(),
    }
}

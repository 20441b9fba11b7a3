//! What a verified activity means here. Pure: values in, [`Effect`]s out; `effects` performs them in one transaction.
//!
//! Only public posts of members come through: by their author (Mastodon style), by their server's relay actor's Announce
//! (LitePub style), pushed by their server's actor (GoToSocial), or brought by another member with the author's proof in
//! them (Mitra). Whatever this relay cannot see the author say itself becomes a hint, to be read from its origin.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::trust::{Trust, trust};
use super::verify::Verified;
use crate::clock::Timestamp;
use crate::config;
use crate::ids::{Authority, Iri};
use crate::log::{Draft, Kind as EntryKind};
use crate::policy::{RuleSet, Verdict};
use crate::store::{FollowState, Following, Style, Subscriber};
use crate::wire::activity::{Activity, FollowRef, Kind, Target};
use crate::wire::object::{Post, PostFault, Visibility};

/// The largest body that is kept to be forwarded as it came; a longer post is announced. Ten times what Mastodon sends
/// for a long post; Misskey takes 64 KiB. The signature in it is not checked here, so anybody can ask us to keep bytes.
const MAX_CARRIED: usize = 32 << 10;
/// The same of deletions, which name an id: these are taken even when the disk is nearly full.
const MAX_CARRIED_DELETION: usize = 8 << 10;
/// Why a silenced server's posts go nowhere.
const SILENCED: &str = "silenced";

/// Posts may be dated this far ahead of us.
const FUTURE: Duration = Duration::from_secs(3600);

/// What is known when an activity is judged.
pub struct Facts<'a> {
    /// The server that signed, if it joined.
    pub subscriber: Option<Arc<Subscriber>>,
    /// The actor's server, if it joined: the same one, unless somebody else signed.
    pub author: Option<Arc<Subscriber>>,
    /// Our Follow of the actor that signed, if there is one.
    pub following: Option<Following>,
    /// The rules in force.
    pub rules: &'a RuleSet,
    /// How to relay.
    pub config: &'a config::Relay,
    /// Our own origin: what comes from there is not relayed again.
    pub origin: &'a str,
    /// Our own actor.
    pub actor: &'a Iri,
    /// Now.
    pub now: Timestamp,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing; why, in a word. Answered 202 like everything valid.
    Ignore(&'static str),
    /// Append a new post, unless it was relayed before or was deleted.
    Relay(Draft),
    /// Append a change of something relayed before; nothing if it was not.
    Change(Draft),
    /// Remember a deletion, and append it if the object was relayed before.
    Delete(Draft),
    /// Append an id that is to be read from its origin, unless it was relayed before.
    Hint(Draft),
    /// Append an id that is to be read again, if it was relayed before: it may be gone.
    Recheck(Draft),
    /// A Follow of ours: judge and answer it.
    Join {
        /// By the public collection or by our actor.
        style: Style,
    },
    /// A Follow is taken back. The id names which, if the sender said.
    Leave {
        /// The id of the Follow.
        follow: Option<Iri>,
        /// Its style, if it can be told.
        style: Option<Style>,
    },
    /// An answer to a Follow of ours.
    Answer {
        /// Yes or no.
        accepted: bool,
    },
    /// The actor changed: read it again before believing it.
    Forget(Iri),
}

/// Judges one activity.
#[must_use]
pub fn route(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    // A blocked person may still leave, and take back what others have of theirs.
    let parting = matches!(activity.kind, Kind::Delete | Kind::Undo);
    let blocked = |who: &Iri| facts.rules.actor(who, facts.now).verdict == Verdict::Block;
    if !parting && (blocked(&activity.actor) || blocked(&verified.signer)) {
        return vec![Effect::Ignore("blocked-actor")];
    }
    match trust(activity, &verified.signer, verified.prover.as_ref()) {
        Trust::Nobody(why) => vec![Effect::Ignore(why)],
        Trust::Direct => direct(verified, facts),
        Trust::Proven => match is_member(verified, facts) {
            Ok(()) => direct(verified, facts),
            Err(why) => vec![Effect::Ignore(why)],
        },
        Trust::SameServer => vec![same_server(verified, facts)],
        Trust::Foreign => vec![foreign(verified, facts)],
    }
}

/// Whether it is worth looking at the proof in the document: the actor did not sign, and with its word we would act. An
/// ordinary request costs nothing more, and a stranger's has no key read for it.
#[must_use]
pub fn proof_matters(verified: &Verified, facts: &Facts<'_>) -> bool {
    let activity = &verified.activity;
    activity.has_proof
        && trust(activity, &verified.signer, Some(&activity.actor)) == Trust::Proven
        && is_member(verified, facts).is_ok()
}

fn direct(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let one = match &activity.kind {
        Kind::Follow => join(activity, facts),
        Kind::Undo => leave(activity, facts),
        Kind::Accept | Kind::Reject => answer(activity, facts),
        Kind::Create => create(verified, facts),
        Kind::Update => return update(verified, facts),
        Kind::Delete => return delete(verified, facts),
        Kind::Announce => announce(verified, facts),
        Kind::Block => Effect::Ignore("block"),
        Kind::Move => Effect::Ignore("move"),
        Kind::Other(_) => Effect::Ignore("kind-not-relayed"),
    };
    vec![one]
}

fn join(activity: &Activity, facts: &Facts<'_>) -> Effect {
    match style_of(&activity.target, facts) {
        Some(style) => Effect::Join { style },
        None => Effect::Ignore("follow-of-somebody-else"),
    }
}

fn leave(activity: &Activity, facts: &Facts<'_>) -> Effect {
    match &activity.target {
        Target::Id(id) => Effect::Leave { follow: Some(id.clone()), style: None },
        Target::Embedded { .. } => match FollowRef::read(&activity.target) {
            Some(follow) if follow.actor.as_ref().is_none_or(|actor| *actor == activity.actor) => {
                Effect::Leave { style: style_of(&follow.object, facts), follow: follow.id }
            }
            Some(_) => Effect::Ignore("undo-of-somebody-else"),
            None => Effect::Ignore("undo-not-relayed"),
        },
        Target::None | Target::Public => Effect::Ignore("undo-of-nothing"),
    }
}

fn style_of(target: &Target, facts: &Facts<'_>) -> Option<Style> {
    match target {
        Target::Public => Some(Style::Mastodon),
        other if other.id() == Some(facts.actor) => Some(Style::Litepub),
        _ => None,
    }
}

fn answer(activity: &Activity, facts: &Facts<'_>) -> Effect {
    let Some(following) = &facts.following else { return Effect::Ignore("answer-to-nothing") };
    // Some servers answer with the id alone, some embed the Follow; a few embed it without its id.
    let names_it = match activity.target.id() {
        Some(id) => id.as_str() == following.follow_id,
        None => FollowRef::read(&activity.target).is_some_and(|follow| follow.actor.as_ref() == Some(facts.actor)),
    };
    if names_it {
        Effect::Answer { accepted: activity.kind == Kind::Accept }
    } else {
        Effect::Ignore("answer-to-another")
    }
}

fn create(verified: &Verified, facts: &Facts<'_>) -> Effect {
    if let Err(why) = is_member(verified, facts) {
        return Effect::Ignore(why);
    }
    let activity = &verified.activity;
    let post = match own_post(activity) {
        Own::Post(post) => post,
        Own::IdOnly(id) => return hint(verified, id, facts),
        Own::Not(why) => return Effect::Ignore(why),
    };
    match relayable(&post, Some(activity), facts) {
        Ok(()) => Effect::Relay(draft(verified, EntryKind::Create, &post.id, post.published, facts.now)),
        Err(why) => Effect::Ignore(why),
    }
}

fn update(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let member = is_member(verified, facts);
    if activity.target.id() == Some(&activity.actor) {
        let forget = Effect::Forget(activity.actor.clone());
        return match member {
            Ok(()) => {
                vec![forget, Effect::Change(draft(verified, EntryKind::Update, &activity.actor, None, facts.now))]
            }
            Err(why) => vec![forget, Effect::Ignore(why)],
        };
    }
    if let Err(why) = member {
        return vec![Effect::Ignore(why)];
    }
    let post = match own_post(activity) {
        Own::Post(post) => post,
        Own::IdOnly(id) => return vec![hint(verified, id, facts)],
        Own::Not(why) => return vec![Effect::Ignore(why)],
    };
    if is_public(&post, Some(activity)) {
        return vec![Effect::Change(draft(verified, EntryKind::Update, &post.id, post.published, facts.now))];
    }
    // An edit that withdraws the post from the public is a deletion to us, and its new body is none of our business.
    let mut withdrawn = draft(verified, EntryKind::Delete, &post.id, None, facts.now);
    withdrawn.carried = false;
    withdrawn.body = bytes::Bytes::new();
    vec![Effect::Delete(withdrawn)]
}

fn delete(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let Some(object) = activity.target.id() else { return vec![Effect::Ignore("deletion-of-nothing")] };
    if !object.same_origin(&activity.actor) {
        return vec![Effect::Ignore("deletion-of-anothers-object")];
    }
    // A silenced server takes back what was relayed before it was.
    if let Err(why) = is_member(verified, facts)
        && why != SILENCED
    {
        return vec![Effect::Ignore(why)];
    }
    let delete = Effect::Delete(draft(verified, EntryKind::Delete, object, None, facts.now));
    if *object == activity.actor { vec![Effect::Forget(object.clone()), delete] } else { vec![delete] }
}

/// An Announce counts only from a server's own relay actor, or from whom the operator chose to follow: a user's boost is
/// about somebody else's post and would only make traffic and loops.
fn announce(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    let id = match &activity.target {
        Target::Id(id) => id,
        Target::Embedded { id: Some(id), value } if !is_activity(value) => id,
        Target::Embedded { .. } => return Effect::Ignore("announce-of-an-activity"),
        Target::None | Target::Public => return Effect::Ignore("announce-of-nothing"),
    };
    if followed_by_operator(facts) && verified.signer == activity.actor {
        return hint(verified, id.clone(), facts);
    }
    let registered = facts.author.as_ref().is_some_and(|subscriber| {
        subscriber.is_active()
            && subscriber.registrations.iter().any(|one| one.actor == activity.actor && one.style == Style::Litepub)
    });
    if !registered {
        return Effect::Ignore("boost");
    }
    if !id.same_origin(&activity.actor) {
        return Effect::Ignore("announce-of-anothers-post");
    }
    hint(verified, id.clone(), facts)
}

fn same_server(verified: &Verified, facts: &Facts<'_>) -> Effect {
    if let Err(why) = is_member(verified, facts) {
        return Effect::Ignore(why);
    }
    let activity = &verified.activity;
    let Some(id) = activity.target.id() else { return Effect::Ignore("hint-about-nothing") };
    if !id.same_origin(&activity.actor) || *id == activity.actor {
        return Effect::Ignore("hint-not-about-a-post");
    }
    match &activity.kind {
        // A post that its own Create does not address to the public need not be asked for.
        Kind::Create if !allows_public(activity) => Effect::Ignore("not-public"),
        Kind::Create => hint(verified, id.clone(), facts),
        Kind::Update | Kind::Delete => recheck(verified, id.clone(), facts),
        _ => Effect::Ignore("hint-not-wanted"),
    }
}

/// Only whom the operator follows, a relay as a rule, is heard about others; what was relayed on such a word may be taken
/// back on it, if its origin agrees.
fn foreign(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    match (&activity.kind, activity.target.id()) {
        (Kind::Create, Some(id)) if followed_by_operator(facts) => hint(verified, id.clone(), facts),
        (Kind::Update | Kind::Delete, Some(id))
            if followed_by_operator(facts) && id.same_origin(&activity.actor) && *id != activity.actor =>
        {
            recheck(verified, id.clone(), facts)
        }
        _ => Effect::Ignore("said-by-somebody-else"),
    }
}

fn recheck(verified: &Verified, id: Iri, facts: &Facts<'_>) -> Effect {
    match hint(verified, id, facts) {
        Effect::Hint(draft) => Effect::Recheck(draft),
        not => not,
    }
}

fn hint(verified: &Verified, id: Iri, facts: &Facts<'_>) -> Effect {
    if id.origin() == facts.origin {
        return Effect::Ignore("our-own");
    }
    match facts.rules.verdict(&id.authority(), facts.now) {
        Verdict::Allow => {}
        Verdict::Silence | Verdict::Block => return Effect::Ignore("origin-not-relayed"),
    }
    let mut draft = draft(verified, EntryKind::Hint, &id, None, facts.now);
    draft.carried = false;
    draft.body = bytes::Bytes::new();
    Effect::Hint(draft)
}

fn followed_by_operator(facts: &Facts<'_>) -> bool {
    facts.following.as_ref().is_some_and(|following| following.by_operator && following.state != FollowState::Rejected)
}

/// Who may publish: an active subscriber's own users, or whom the operator follows.
fn is_member(verified: &Verified, facts: &Facts<'_>) -> Result<(), &'static str> {
    match &facts.subscriber {
        None if followed_by_operator(facts) => {}
        None => return Err("not-a-subscriber"),
        Some(subscriber) if !subscriber.is_active() => return Err("subscriber-pending"),
        Some(_) => {}
    }
    may_publish(&verified.authority, facts)?;
    is_author_welcome(verified, facts)
}

/// Of posts that somebody else brings, the author's server counts as well as who brings them. A proof makes a post
/// authentic, it makes no member of its author: membership is a server's own wish to have its posts passed on, and other
/// servers bring replies from all over. So the author's server has joined too, or the operator follows who brings it.
fn is_author_welcome(verified: &Verified, facts: &Facts<'_>) -> Result<(), &'static str> {
    let actor = &verified.activity.actor;
    if actor.authority() == verified.authority {
        return Ok(());
    }
    if actor.origin() == facts.origin {
        return Err("our-own");
    }
    may_publish(&actor.authority(), facts)?;
    let joined = facts.author.as_ref().is_some_and(|author| author.is_active());
    if joined || followed_by_operator(facts) { Ok(()) } else { Err("author-not-a-subscriber") }
}

fn may_publish(authority: &Authority, facts: &Facts<'_>) -> Result<(), &'static str> {
    match facts.rules.verdict(authority, facts.now) {
        Verdict::Allow => Ok(()),
        Verdict::Silence => Err(SILENCED),
        Verdict::Block => Err("blocked"),
    }
}

enum Own {
    /// The embedded object is the actor's own, and so as authentic as the activity.
    Post(Post),
    /// Only the id is of use: the object must be read.
    IdOnly(Iri),
    /// Not the actor's.
    Not(&'static str),
}

/// The embedded object of a Create or Update, if its author is the actor and its id is of the actor's origin.
fn own_post(activity: &Activity) -> Own {
    let value = match &activity.target {
        Target::Embedded { value, .. } => value,
        Target::Id(id) if id.same_origin(&activity.actor) => return Own::IdOnly(id.clone()),
        Target::Id(_) => return Own::Not("object-of-another-origin"),
        Target::None | Target::Public => return Own::Not("no-object"),
    };
    let post = match Post::read(value) {
        Ok(post) => post,
        Err(PostFault::ForeignOwner) => return Own::Not("object-of-another-origin"),
        // Votes have ids with a fragment: they are nobody else's business.
        Err(PostFault::Id) => return Own::Not("object-without-document"),
        Err(_other) => return Own::Not("object-kind-not-relayed"),
    };
    if !post.id.same_origin(&activity.actor) {
        return Own::Not("object-of-another-origin");
    }
    match &post.owner {
        Some(owner) if *owner != activity.actor => Own::Not("object-of-another-author"),
        _ => Own::Post(post),
    }
}

/// Whether a post may be relayed: public in both activity and object, no vote, of an age that makes sense.
///
/// # Errors
/// Why not, in a word.
pub fn relayable(post: &Post, activity: Option<&Activity>, facts: &Facts<'_>) -> Result<(), &'static str> {
    if post.id.origin() == facts.origin {
        return Err("our-own");
    }
    if !is_public(post, activity) {
        return Err("not-public");
    }
    if post.is_vote {
        return Err("vote");
    }
    if post.is_reply && !facts.config.replies {
        return Err("reply");
    }
    match post.published {
        Some(at) if at > facts.now.plus(FUTURE) => Err("dated-in-the-future"),
        Some(at) if facts.now.since(at) > facts.config.max_age => Err("too-old"),
        _ => Ok(()),
    }
}

/// The stricter of object and activity counts; an activity without addressing says nothing.
fn is_public(post: &Post, activity: Option<&Activity>) -> bool {
    activity.is_none_or(allows_public) && post.audience.visibility() == Visibility::Public
}

fn allows_public(activity: &Activity) -> bool {
    matches!(activity.audience.visibility(), Visibility::Public | Visibility::Unaddressed)
}

fn is_activity(value: &Value) -> bool {
    // Lemmy groups, NodeBB and WordPress announce activities (FEP-1b12): those are not boosts of posts.
    value.get("type").and_then(Value::as_str).is_some_and(|kind| {
        matches!(
            kind,
            "Create" | "Update" | "Delete" | "Undo" | "Like" | "Dislike" | "Announce" | "Add" | "Remove" | "Lock"
        )
    })
}

fn draft(verified: &Verified, kind: EntryKind, object: &Iri, published: Option<Timestamp>, now: Timestamp) -> Draft {
    let activity = &verified.activity;
    let most = if kind == EntryKind::Delete { MAX_CARRIED_DELETION } else { MAX_CARRIED };
    let carried = is_carried(activity) && verified.body.len() <= most;
    Draft {
        at: now,
        kind,
        object: object.clone(),
        actor: activity.actor.clone(),
        activity: activity.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        supplier: verified.authority.clone(),
        carried,
        published,
        // Bytes that nobody may be given are not kept: what is announced is read from its origin.
        body: if carried { verified.body.clone() } else { bytes::Bytes::new() },
    }
}

/// Whether the bytes may be forwarded as they are: they bear an LD signature of their own actor, recognised by shape and
/// left to receivers to check. With a FEP-8b32 proof beside it Mastodon cannot verify the LD signature, so not then.
fn is_carried(activity: &Activity) -> bool {
    !activity.has_proof
        && activity.ld_creator.as_ref().is_some_and(|creator| creator.without_fragment() == activity.actor)
}

#[cfg(test)]
mod tests;

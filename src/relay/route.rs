//! What a verified activity means here. Pure: values in, [`Effect`]s out; `effects` performs them in one transaction.
//!
//! Only public posts of members come through: by their author (Mastodon style), by their server's relay actor's Announce
//! (LitePub style), pushed by their server's actor (GoToSocial), or brought by another member with the author's proof in
//! them (Mitra). Whatever this relay cannot see the author say itself becomes a hint, to be read from its origin.
//!
//! At the search actor's inbox the same holds of servers that search is on for, and what they bring goes to nobody. Who is
//! in the search gets out of it at either inbox, member or not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::trust::{Trust, trust};
use super::verify::{Inbox, Verified};
use crate::clock::Timestamp;
use crate::config;
use crate::consent;
use crate::ids::{Authority, Iri};
use crate::log::{Draft, Kind as EntryKind};
use crate::policy::{RuleSet, Verdict};
use crate::store::{FollowState, Following, SearchServer, Style, Subscriber};
use crate::wire::activity::{Activity, FollowRef, Kind, Target};
use crate::wire::object::{Post, PostFault, Visibility};
use crate::wire::searchable::{ActorSignals, Said};

/// The largest body that is kept to be forwarded as it came; a longer post is announced. Ten times what Mastodon sends
/// for a long post; Misskey takes 64 KiB. The signature in it is not checked here, so anybody can ask us to keep bytes.
pub(super) const MAX_CARRIED: usize = 32 << 10;
/// The same of deletions, which name an id: these are taken even when the disk is nearly full.
const MAX_CARRIED_DELETION: usize = 8 << 10;
/// Why a silenced server's posts go nowhere.
const SILENCED: &str = "silenced";

/// Why nothing is taken for the search from a server that gives it to the relay already: once is enough.
const BY_THE_RELAY: &str = "comes-by-the-relay";

/// Posts may be dated this far ahead of us.
const FUTURE: Duration = Duration::from_secs(3600);

/// What is known when an activity is judged.
pub struct Facts<'a> {
    /// The server that signed, if it joined.
    pub subscriber: Option<Arc<Subscriber>>,
    /// The actor's server, if it joined: the same one, unless somebody else signed.
    pub author: Option<Arc<Subscriber>>,
    /// The operator lets the server that signed send without having joined,
    pub publishes: bool,
    /// and the actor's server.
    pub author_publishes: bool,
    /// Our Follow of the actor that signed, if there is one.
    pub following: Option<Following>,
    /// How the search stands to both.
    pub search: SearchFacts<'a>,
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

/// How the search stands to those whose activity is judged.
pub struct SearchFacts<'a> {
    /// There is a search.
    pub on: bool,
    /// Its actor; one that is not there any more can be blocked all the same.
    pub actor: &'a Iri,
    /// Who said yes for the server that signed, if anybody did and there is a search.
    pub signer: Option<Arc<SearchServer>>,
    /// The same of the actor's server.
    pub author: Option<Arc<SearchServer>>,
    /// The server that signed is written down as one that said yes, whether there is a search now or not.
    pub joined: bool,
    /// Posts of the actor may be found, or are counted. Looked up for what could take them out.
    pub known: bool,
    /// There are trends: posts are counted, and so read from here.
    pub counted: bool,
}

impl<'a> SearchFacts<'a> {
    /// It has nothing to do with either.
    #[must_use]
    pub const fn none(actor: &'a Iri) -> Self {
        Self { on: false, actor, signer: None, author: None, joined: false, known: false, counted: false }
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Nothing; why, in a word. Answered 202 like everything valid.
    Ignore(&'static str),
    /// Append a new post, unless it was relayed before or was deleted.
    Relay(Draft),
    /// Append a change of something relayed before, or known to the search; nothing if it was not.
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
    /// A Follow of the search actor: judge and answer it.
    SearchOn,
    /// It is taken back. The id names which, if the sender said.
    SearchOff {
        /// The id of the Follow.
        follow: Option<Iri>,
    },
    /// The actor edits this post: take the version that the search has out, whatever becomes of the new one.
    Void(Iri),
    /// Take all posts of the actor out of the search; why, in a word.
    Withdraw(&'static str),
    /// Take back all that is counted of the actor; why, in a word.
    Uncount(&'static str),
    /// The actor boosts this post: for trends, if it may be shown.
    Boost(Draft),
    /// It is taken back.
    Unboost(Iri),
    /// The actor blocked this one of ours: the same, until that is taken back.
    Blocked(Iri),
    /// It is taken back.
    Unblocked(Iri),
}

/// Judges one activity.
#[must_use]
pub fn route(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    // A blocked person may still leave, take back what others have of theirs, and block us.
    let parting = matches!(activity.kind, Kind::Delete | Kind::Undo | Kind::Block);
    let blocked = |who: &Iri| facts.rules.actor(who, facts.now).verdict == Verdict::Block;
    if !parting && (blocked(&activity.actor) || blocked(&verified.signer)) {
        return vec![Effect::Ignore("blocked-actor")];
    }
    match trust(activity, &verified.signer, verified.prover.as_ref()) {
        Trust::Nobody(why) => vec![Effect::Ignore(why)],
        Trust::Direct => direct(verified, facts),
        Trust::Proven => match reach(verified, facts) {
            Ok(_) => direct(verified, facts),
            Err(why) => vec![Effect::Ignore(why)],
        },
        Trust::SameServer => same_server(verified, facts),
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
        && reach(verified, facts).is_ok()
}

fn direct(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let one = match &activity.kind {
        Kind::Follow => join(verified, facts),
        Kind::Undo => leave(verified, facts),
        Kind::Accept | Kind::Reject => answer(activity, facts),
        Kind::Create => create(verified, facts),
        Kind::Update => return update(verified, facts),
        Kind::Delete => return delete(verified, facts),
        Kind::Announce => announce(verified, facts),
        Kind::Block => match activity.target.id().filter(|id| is_ours(id, facts)) {
            Some(ours) => Effect::Blocked(ours.clone()),
            None => Effect::Ignore("block"),
        },
        Kind::Move => Effect::Ignore("move"),
        Kind::Other(_) => Effect::Ignore("kind-not-relayed"),
    };
    vec![one]
}

fn join(verified: &Verified, facts: &Facts<'_>) -> Effect {
    match followed(&verified.activity.target, verified.inbox, facts) {
        Some(Followed::Relay(style)) => Effect::Join { style },
        Some(Followed::Search) if facts.search.on => Effect::SearchOn,
        Some(Followed::Search) | None => Effect::Ignore("follow-of-somebody-else"),
    }
}

/// Whoever never came has nothing to take back, and may say so a million times: it costs no transaction.
fn leave(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let is_here = facts.subscriber.is_some() || facts.search.joined;
    match taken_back(verified, facts) {
        Effect::Unboost(_) if !is_here && !facts.search.known => Effect::Ignore("not-a-subscriber"),
        Effect::Leave { .. } | Effect::SearchOff { .. } if !is_here => Effect::Ignore("not-a-subscriber"),
        effect => effect,
    }
}

fn taken_back(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    match &activity.target {
        Target::Id(id) if verified.inbox == Inbox::Search => Effect::SearchOff { follow: Some(id.clone()) },
        Target::Id(id) => Effect::Leave { follow: Some(id.clone()), style: None },
        Target::Embedded { value, .. } if activity.target.kind() == Some("Block") => unblock(activity, value, facts),
        Target::Embedded { value, .. } if facts.search.counted && activity.target.kind() == Some("Announce") => {
            unboost(activity, value)
        }
        Target::Embedded { .. } => match FollowRef::read(&activity.target) {
            Some(follow) if follow.actor.as_ref().is_none_or(|actor| *actor == activity.actor) => {
                match followed(&follow.object, verified.inbox, facts) {
                    Some(Followed::Search) => Effect::SearchOff { follow: follow.id },
                    Some(Followed::Relay(style)) => Effect::Leave { style: Some(style), follow: follow.id },
                    None => Effect::Leave { style: None, follow: follow.id },
                }
            }
            Some(_) => Effect::Ignore("undo-of-somebody-else"),
            None => Effect::Ignore("undo-not-relayed"),
        },
        Target::None | Target::Public => Effect::Ignore("undo-of-nothing"),
    }
}

/// Blocks are not kept, so one that is taken back by its id alone cannot be told from any other: then it stands.
fn unblock(activity: &Activity, block: &Value, facts: &Facts<'_>) -> Effect {
    match Activity::read(block) {
        Ok(block) if block.actor != activity.actor => Effect::Ignore("undo-of-somebody-else"),
        Ok(block) => match block.target.id().filter(|id| is_ours(id, facts)) {
            Some(ours) => Effect::Unblocked(ours.clone()),
            None => Effect::Ignore("undo-not-relayed"),
        },
        Err(_) => Effect::Ignore("undo-not-relayed"),
    }
}

fn unboost(activity: &Activity, boost: &Value) -> Effect {
    match Activity::read(boost) {
        Ok(boost) if boost.actor != activity.actor => Effect::Ignore("undo-of-somebody-else"),
        Ok(boost) => boost.target.id().map_or(Effect::Ignore("undo-not-relayed"), |id| Effect::Unboost(id.clone())),
        Err(_) => Effect::Ignore("undo-not-relayed"),
    }
}

fn is_ours(id: &Iri, facts: &Facts<'_>) -> bool {
    id == facts.actor || id == facts.search.actor
}

/// Whom a Follow means.
enum Followed {
    Relay(Style),
    Search,
}

/// The public collection has no address: whose inbox it came to tells who is meant.
fn followed(target: &Target, inbox: Inbox, facts: &Facts<'_>) -> Option<Followed> {
    match target {
        Target::Public if inbox == Inbox::Search => Some(Followed::Search),
        Target::Public => Some(Followed::Relay(Style::Mastodon)),
        other if other.id() == Some(facts.actor) => Some(Followed::Relay(Style::Litepub)),
        other if other.id() == Some(facts.search.actor) => Some(Followed::Search),
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
    let reach = match reach(verified, facts) {
        Ok(reach) => reach,
        Err(why) => return Effect::Ignore(why),
    };
    let activity = &verified.activity;
    let post = match own_post(activity) {
        Own::Post(post) => post,
        Own::IdOnly(id) => return hint(verified, id, reach, facts),
        Own::Not(why) => return Effect::Ignore(why),
    };
    match relayable(&post, Some(activity), facts) {
        Ok(()) => Effect::Relay(draft(verified, EntryKind::Create, &post.id, post.published, reach, facts)),
        Err(why) => Effect::Ignore(why),
    }
}

fn update(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let reach = reach(verified, facts);
    if activity.target.id() == Some(&activity.actor) {
        return update_of_actor(verified, reach, facts);
    }
    // What may be found is taken out on its author's word, whatever became of their server's membership.
    if let Err(why) = reach
        && !(facts.search.known && why != BY_THE_RELAY)
    {
        return vec![Effect::Ignore(why)];
    }
    let is_searched = facts.search.known || facts.search.author.is_some() || facts.search.counted;
    let voided = activity.target.id().filter(|id| is_searched && id.same_origin(&activity.actor));
    let voids = voided.map(|object| Effect::Void(object.clone()));
    voids.into_iter().chain([update_of_post(verified, reach, facts)]).collect()
}

fn update_of_post(verified: &Verified, reach: Result<Reach, &'static str>, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    let post = match own_post(activity) {
        Own::Post(post) => post,
        Own::IdOnly(id) => return recheck(verified, id, reach.unwrap_or(Reach::Search), facts),
        Own::Not(why) => return Effect::Ignore(why),
    };
    if is_public(&post, Some(activity)) {
        return match reach {
            Ok(reach) => Effect::Change(draft(verified, EntryKind::Update, &post.id, post.published, reach, facts)),
            Err(why) => Effect::Ignore(why),
        };
    }
    // An edit that withdraws the post from the public is a deletion to us, and its new body is none of our business.
    let reach = reach.unwrap_or(Reach::Search);
    let mut withdrawn = draft(verified, EntryKind::Delete, &post.id, None, reach, facts);
    withdrawn.carried = false;
    withdrawn.body = bytes::Bytes::new();
    Effect::Delete(withdrawn)
}

/// A changed profile: whoever keeps a copy reads it again. If it says itself that its owner is not to be found any longer,
/// that holds at once; whatever else it says is for its origin to confirm.
fn update_of_actor(verified: &Verified, reach: Result<Reach, &'static str>, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let mut effects = vec![Effect::Forget(activity.actor.clone())];
    // Who is being read for the first time may say it, too.
    if (facts.search.known || facts.search.author.is_some())
        && let Some(why) = says_no(consent::Use::Posts, &activity.target)
    {
        effects.push(Effect::Withdraw(why));
    }
    if facts.search.counted
        && let Some(why) = says_no(consent::Use::Trends, &activity.target)
    {
        effects.push(Effect::Uncount(why));
    }
    let reach = match reach {
        Err(why) if why != BY_THE_RELAY && facts.search.author.is_some() => Ok(Reach::Search),
        reach => reach,
    };
    match reach {
        Ok(reach) => {
            effects.push(Effect::Change(draft(verified, EntryKind::Update, &activity.actor, None, reach, facts)));
        }
        Err(why) if effects.len() == 1 => effects.push(Effect::Ignore(why)),
        Err(_) => {}
    }
    effects
}

/// Why the profile in an actor's own Update ends its consent, if it does. What only its absence says, such as a yes that is
/// not there any more, counts where the whole profile is embedded, and not a part of it.
fn says_no(wanted: consent::Use, target: &Target) -> Option<&'static str> {
    let Target::Embedded { value, .. } = target else { return None };
    let signals = ActorSignals::of(value);
    let reason = consent::profile_says_no(wanted, &signals)?;
    let is_whole = value.get("inbox").is_some();
    let no_to_both =
        signals.indexable == Said::No && (wanted == consent::Use::Posts || signals.discoverable == Said::No);
    let is_said = reason != consent::Reason::NotIndexable || is_whole || no_to_both;
    is_said.then_some(reason.as_str())
}

fn delete(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let Some(object) = activity.target.id() else { return vec![Effect::Ignore("deletion-of-nothing")] };
    if !object.same_origin(&activity.actor) {
        return vec![Effect::Ignore("deletion-of-anothers-object")];
    }
    let reach = match is_member(verified, facts) {
        // A silenced server takes back what was relayed before it was.
        Ok(()) | Err(SILENCED) => Reach::Subscribers,
        Err(_) if facts.search.known || facts.search.author.is_some() => Reach::Search,
        Err(why) => return vec![Effect::Ignore(why)],
    };
    let delete = Effect::Delete(draft(verified, EntryKind::Delete, object, None, reach, facts));
    if *object == activity.actor { vec![Effect::Forget(object.clone()), delete] } else { vec![delete] }
}

/// An Announce is passed on only from a server's own relay actor, or from whom the operator chose to follow: a user's boost
/// is about somebody else's post and would only make traffic and loops. It may be counted.
fn announce(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    let id = match &activity.target {
        Target::Id(id) => id,
        Target::Embedded { id: Some(id), value } if !is_activity(value) => id,
        Target::Embedded { .. } => return Effect::Ignore("announce-of-an-activity"),
        Target::None | Target::Public => return Effect::Ignore("announce-of-nothing"),
    };
    let registered = facts.author.as_ref().is_some_and(|subscriber| {
        subscriber.is_active()
            && subscriber.registrations.iter().any(|one| one.actor == activity.actor && one.style == Style::Litepub)
    });
    let reach = match verified.inbox {
        Inbox::Relay if followed_by_operator(facts) && verified.signer == activity.actor => {
            return hint(verified, id.clone(), Reach::Subscribers, facts);
        }
        Inbox::Relay if registered => Reach::Subscribers,
        Inbox::Relay => return boost(verified, id, facts),
        Inbox::Search => match reach(verified, facts) {
            Ok(reach) if switched_search_on(&activity.actor, facts) => reach,
            Ok(_) => return Effect::Ignore("boost"),
            Err(why) => return Effect::Ignore(why),
        },
    };
    if !id.same_origin(&activity.actor) {
        return Effect::Ignore("announce-of-anothers-post");
    }
    hint(verified, id.clone(), reach, facts)
}

/// A member's user boosts a post, in public and by their own signature.
fn boost(verified: &Verified, id: &Iri, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    let is_said = verified.signer == activity.actor && allows_public(activity);
    if !facts.search.counted || !is_said || is_member(verified, facts).is_err() {
        return Effect::Ignore("boost");
    }
    let draft = draft(verified, EntryKind::Boost, id, None, Reach::Search, facts);
    Effect::Boost(Draft { body: bytes::Bytes::new(), ..draft })
}

fn switched_search_on(actor: &Iri, facts: &Facts<'_>) -> bool {
    facts.search.author.as_ref().is_some_and(|server| server.is_followed_by(actor))
}

fn same_server(verified: &Verified, facts: &Facts<'_>) -> Vec<Effect> {
    let activity = &verified.activity;
    let is_searched = facts.search.known || facts.search.author.is_some() || facts.search.counted;
    // A profile is read again, whoever of its server says that it changed.
    if is_searched && activity.kind == Kind::Update && activity.target.id() == Some(&activity.actor) {
        let draft = draft(verified, EntryKind::Update, &activity.actor, None, Reach::Search, facts);
        return vec![Effect::Forget(activity.actor.clone()), Effect::Change(draft)];
    }
    // Its instance actor speaks for its people: what it says changed is found no longer as it was.
    let speaks = switched_search_on(&verified.signer, facts)
        || facts.author.as_ref().is_some_and(|one| one.registrations.iter().any(|one| one.actor == verified.signer));
    let takes_out = matches!(activity.kind, Kind::Update | Kind::Delete);
    let voided =
        activity.target.id().filter(|id| is_searched && speaks && takes_out && id.same_origin(&activity.actor));
    let voids = voided.map(|object| Effect::Void(object.clone()));
    voids.into_iter().chain([hint_of_server(verified, facts)]).collect()
}

fn hint_of_server(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    let takes_out = matches!(activity.kind, Kind::Update | Kind::Delete);
    let reach = match reach(verified, facts) {
        Ok(reach) => reach,
        Err(why) if takes_out && facts.search.known && why != BY_THE_RELAY => Reach::Search,
        Err(why) => return Effect::Ignore(why),
    };
    let Some(id) = activity.target.id() else { return Effect::Ignore("hint-about-nothing") };
    if !id.same_origin(&activity.actor) || *id == activity.actor {
        return Effect::Ignore("hint-not-about-a-post");
    }
    match &activity.kind {
        // A post that its own Create does not address to the public need not be asked for.
        Kind::Create if !allows_public(activity) => Effect::Ignore("not-public"),
        Kind::Create => hint(verified, id.clone(), reach, facts),
        Kind::Update | Kind::Delete => recheck(verified, id.clone(), reach, facts),
        _ => Effect::Ignore("hint-not-wanted"),
    }
}

/// Only whom the operator follows, a relay as a rule, is heard about others; what was relayed on such a word may be taken
/// back on it, if its origin agrees.
fn foreign(verified: &Verified, facts: &Facts<'_>) -> Effect {
    let activity = &verified.activity;
    match (&activity.kind, activity.target.id()) {
        _ if verified.inbox == Inbox::Search => Effect::Ignore("said-by-somebody-else"),
        (Kind::Create, Some(id)) if followed_by_operator(facts) => {
            hint(verified, id.clone(), Reach::Subscribers, facts)
        }
        (Kind::Update | Kind::Delete, Some(id))
            if followed_by_operator(facts) && id.same_origin(&activity.actor) && *id != activity.actor =>
        {
            recheck(verified, id.clone(), Reach::Subscribers, facts)
        }
        _ => Effect::Ignore("said-by-somebody-else"),
    }
}

fn recheck(verified: &Verified, id: Iri, reach: Reach, facts: &Facts<'_>) -> Effect {
    match hint(verified, id, reach, facts) {
        Effect::Hint(draft) => Effect::Recheck(draft),
        not => not,
    }
}

fn hint(verified: &Verified, id: Iri, reach: Reach, facts: &Facts<'_>) -> Effect {
    if id.origin() == facts.origin {
        return Effect::Ignore("our-own");
    }
    match facts.rules.verdict(&id.authority(), facts.now) {
        Verdict::Allow => {}
        Verdict::Silence | Verdict::Block => return Effect::Ignore("origin-not-relayed"),
    }
    let mut draft = draft(verified, EntryKind::Hint, &id, None, reach, facts);
    draft.carried = false;
    draft.body = bytes::Bytes::new();
    Effect::Hint(draft)
}

fn followed_by_operator(facts: &Facts<'_>) -> bool {
    facts.following.as_ref().is_some_and(|following| following.by_operator && following.state != FollowState::Rejected)
}

/// Whom something reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Every subscriber, and the search.
    Subscribers,
    /// The search, and nobody else.
    Search,
}

/// Whether what comes is taken at all, and whom it reaches: the inbox that it came to tells.
fn reach(verified: &Verified, facts: &Facts<'_>) -> Result<Reach, &'static str> {
    match verified.inbox {
        Inbox::Relay => is_member(verified, facts).map(|()| Reach::Subscribers),
        Inbox::Search => may_be_searched(verified, facts).map(|()| Reach::Search),
    }
}

/// Who gives to the search alone: the users of a server that search is on for, unless it gives them to the relay anyway.
fn may_be_searched(verified: &Verified, facts: &Facts<'_>) -> Result<(), &'static str> {
    if facts.subscriber.as_ref().is_some_and(|one| one.is_active()) {
        return Err(BY_THE_RELAY);
    }
    if facts.search.signer.is_none() {
        return Err("search-not-on");
    }
    may_publish(&verified.authority, facts)?;
    let actor = &verified.activity.actor;
    if actor.origin() == facts.origin {
        return Err("our-own");
    }
    may_publish(&actor.authority(), facts)?;
    if facts.search.author.is_some() { Ok(()) } else { Err("author-search-not-on") }
}

/// Who may publish: an active subscriber's own users, or whom the operator follows.
fn is_member(verified: &Verified, facts: &Facts<'_>) -> Result<(), &'static str> {
    match &facts.subscriber {
        _ if facts.publishes => {}
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
    let joined = facts.author_publishes || facts.author.as_ref().is_some_and(|author| author.is_active());
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

fn draft(
    verified: &Verified,
    kind: EntryKind,
    object: &Iri,
    published: Option<Timestamp>,
    reach: Reach,
    facts: &Facts<'_>,
) -> Draft {
    let activity = &verified.activity;
    let most = if kind == EntryKind::Delete { MAX_CARRIED_DELETION } else { MAX_CARRIED };
    let relayed = reach == Reach::Subscribers;
    let carried = relayed && is_carried(activity) && verified.body.len() <= most;
    // Search and trends read what it says from here, and ask its origin only for the author.
    let of_post = matches!(kind, EntryKind::Create | EntryKind::Update) && *object != activity.actor;
    let is_read = facts.search.author.is_some() || facts.search.counted;
    let searched = of_post && is_read && verified.body.len() <= most;
    Draft {
        at: facts.now,
        kind,
        object: object.clone(),
        actor: activity.actor.clone(),
        activity: activity.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        supplier: verified.authority.clone(),
        carried,
        published,
        relayed,
        // Bytes that are of use to nobody are not kept: what is announced is read from its origin.
        body: if carried || searched { verified.body.clone() } else { bytes::Bytes::new() },
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

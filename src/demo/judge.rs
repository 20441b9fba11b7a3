//! What each family makes of a verified activity: the handshake, new posts, edits, deletions. A decision over values
//! (and the instance's memory); the caller writes the ledger and performs what follows.

use serde_json::Value;

use super::family::{Family, Forwards};
use super::ledger::{Outcome, Shown, Standing, Via};
use super::proofs;
use super::remote::{id_of, names_as2, text};
use super::state::{RemoteKey, State};
use super::verify::Refusal;

/// What the signature inside an activity is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Embedded {
    /// The HTTP signer is the actor.
    NotNeeded,
    /// Somebody else's activity, with nothing to prove it.
    Missing,
    /// Somebody else's activity, and theirs indeed.
    True,
    /// Somebody else's activity, and the proof does not hold.
    False(String),
}

/// A request whose HTTP signature holds.
pub(super) struct Arrival<'a> {
    pub(super) path: &'a str,
    pub(super) activity: &'a Value,
    /// The HTTP signer's.
    pub(super) key: &'a RemoteKey,
    pub(super) embedded: Embedded,
}

/// What to do besides writing it down.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Then {
    Nothing,
    Fetch(String),
    AcceptFollow(Value),
    RejectFollow(Value),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
    pub(super) then: Then,
}

impl Judgement {
    fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), then: Then::Nothing }
    }

    fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::new(refusal.0, refusal.1)
    }
}

fn ignored(why: &str) -> Judgement {
    Judgement::new(Outcome::Ignored, why)
}

/// Judges an activity that arrived at the instance whose relay actor is `own`.
pub(super) fn judge(family: Family, own: &str, state: &mut State, arrival: &Arrival<'_>) -> Judgement {
    let activity = arrival.activity;
    if !activity.get("@context").is_some_and(names_as2) {
        return ignored("@context does not name ActivityStreams");
    }
    let (Some(kind), Some(actor)) = (text(activity, "type"), activity.get("actor").and_then(id_of)) else {
        return ignored("type or actor is missing");
    };
    if family == Family::GoToSocial && arrival.path != inbox_path(own) {
        return ignored("relay traffic counts only at the instance account's own inbox");
    }
    let direct = actor == arrival.key.owner;
    match kind {
        "Accept" | "Reject" | "Follow" | "Announce" if !direct => {
            Judgement::new(Outcome::Forward, format!("{kind} by {actor}, signed by {}", arrival.key.owner))
        }
        "Accept" => accept(family, own, state, activity, actor),
        "Reject" => reject(state, activity),
        "Follow" => follow(family, own, state, activity),
        "Announce" => announce(family, state, arrival, actor),
        "Undo" if direct => undo(state, activity),
        "Create" | "Update" | "Delete" if !direct => forwarded(family, state, arrival, kind, actor),
        _ => ignored("nothing that a relay brings"),
    }
}

fn inbox_path(own: &str) -> String {
    let path = own.splitn(4, '/').nth(3).unwrap_or_default();
    format!("/{path}/inbox")
}

fn accept(family: Family, own: &str, state: &mut State, activity: &Value, actor: &str) -> Judgement {
    let Some(relay) = &mut state.relay else { return ignored("we asked nobody") };
    let object = activity.get("object").unwrap_or(&Value::Null);
    if id_of(object) != Some(relay.follow_id.as_str()) {
        return ignored("it accepts a Follow that is not ours, or no longer");
    }
    let embedded = |member: &str| object.get(member).and_then(id_of);
    let missing = match family {
        // Its resolver cannot fetch the id: the whole Follow must be inside, and be ours.
        Family::Misskey if text(object, "type") != Some("Follow") || embedded("actor") != Some(own) => {
            Some("the Accept does not embed our Follow: still requesting")
        }
        Family::Akkoma if activity.get("to").is_none() => Some("an Accept without `to` fails validation"),
        Family::Akkoma if text(activity, "id").is_none() => Some("an Accept without `id` fails validation"),
        Family::Akkoma | Family::GoToSocial | Family::Friendica if actor != relay.actor => {
            Some("the Accept is not by the actor that we follow")
        }
        _ => None,
    };
    if let Some(why) = missing {
        return ignored(why);
    }
    relay.accepted = true;
    Judgement::new(Outcome::Joined, "a subscriber from now on")
}

fn reject(state: &mut State, activity: &Value) -> Judgement {
    match &mut state.relay {
        Some(relay) if activity.get("object").and_then(id_of) == Some(relay.follow_id.as_str()) => {
            (relay.accepted, relay.rejected) = (false, true);
            Judgement::new(Outcome::TurnedAway, text(activity, "summary").unwrap_or("rejected"))
        }
        _ => ignored("it rejects a Follow that is not ours"),
    }
}

fn follow(family: Family, own: &str, state: &mut State, activity: &Value) -> Judgement {
    if activity.get("object").and_then(id_of) != Some(own) {
        return ignored("it follows somebody that we do not have");
    }
    match (family, &mut state.relay) {
        (Family::Akkoma, Some(relay)) => {
            relay.followed_back = true;
            let then = Then::AcceptFollow(activity.clone());
            Judgement::new(Outcome::FollowedBack, "from now on our posts are announced to it").then(then)
        }
        (Family::Mastodon, _) => {
            ignored("the instance actor rejects every Follow").then(Then::RejectFollow(activity.clone()))
        }
        _ => ignored("nobody needs to follow this actor"),
    }
}

fn announce(family: Family, state: &mut State, arrival: &Arrival<'_>, actor: &str) -> Judgement {
    let activity = arrival.activity;
    let Some(relay) = state.relay.as_ref().filter(|relay| relay.accepted) else {
        return ignored("an Announce by a relay that we did not join");
    };
    let recognised = match family {
        // Byte for byte what the admin pasted, against the announcer's stored actor.
        Family::Mastodon | Family::Misskey => text(&arrival.key.actor, "inbox") == Some(relay.inbox.as_str()),
        _ => actor == relay.actor,
    };
    if !recognised {
        return ignored("its inbox is not the one that our admin typed");
    }
    let Some(object) = activity.get("object").and_then(id_of).map(str::to_owned) else {
        return ignored("it announces nothing");
    };
    let Some(id) = text(activity, "id") else { return ignored("an Announce without id") };
    if family == Family::GoToSocial && activity.get("to").is_none() && activity.get("cc").is_none() {
        return ignored("an Announce to nobody");
    }
    if proofs::holds(activity, &arrival.key.actor) == Some(false) {
        return Judgement::new(Outcome::BadSignature, "the proof in the Announce is not the relay's");
    }
    state.announces.insert(id.to_owned(), object.clone());
    new_post(state, object, Via::Announce)
}

fn new_post(state: &mut State, id: String, via: Via) -> Judgement {
    if state.shown.contains_key(&id) {
        return Judgement::new(Outcome::Known, format!("{id} is here already"));
    }
    let (standing, then) = match via {
        Via::Announce => (Standing::Fetching, Then::Fetch(id.clone())),
        Via::Forward => (Standing::Shown, Then::Nothing),
    };
    state.shown.insert(id.clone(), Shown { id, via, standing, edits: 0 });
    Judgement::new(Outcome::Post, "").then(then)
}

fn undo(state: &mut State, activity: &Value) -> Judgement {
    let announce = activity.get("object").and_then(id_of).and_then(|id| state.announces.get(id));
    match announce.cloned() {
        Some(post) => Judgement::new(Outcome::Retraction, format!("{post} is no longer announced")),
        None => ignored("it undoes what we do not know"),
    }
}

fn forwarded(family: Family, state: &mut State, arrival: &Arrival<'_>, kind: &str, actor: &str) -> Judgement {
    let object = arrival.activity.get("object").and_then(id_of).unwrap_or_default().to_owned();
    let relay = state
        .relay
        .as_ref()
        .is_some_and(|relay| relay.accepted && text(&arrival.key.actor, "inbox") == Some(relay.inbox.as_str()));
    let forwards = family.forwards();
    if forwards == Forwards::Refused {
        return Judgement::new(Outcome::Forward, "Invalid HTTP Signature: the signer is not the actor");
    }
    if !relay {
        return ignored("passed on by somebody who is not our relay");
    }
    if forwards == Forwards::Hint && (kind == "Create" || family == Family::GoToSocial) {
        return if kind == "Create" { new_post(state, object, Via::Announce) } else { ignored("not by its author") };
    }
    match &arrival.embedded {
        Embedded::Missing | Embedded::NotNeeded => {
            return Judgement::new(Outcome::Forward, format!("{kind} by {actor} without an embedded signature"));
        }
        Embedded::False(why) => return Judgement::new(Outcome::BadSignature, why.clone()),
        Embedded::True => {}
    }
    match (kind, state.shown.get_mut(&object)) {
        ("Create", _) => new_post(state, object, Via::Forward),
        ("Update", _) if family == Family::Friendica => ignored("a known post is not looked at again"),
        ("Update", Some(post)) => {
            post.edits += 1;
            Judgement::new(Outcome::Edit, "")
        }
        ("Delete", Some(post)) => {
            post.standing = Standing::Deleted;
            Judgement::new(Outcome::Deletion, "")
        }
        ("Delete", None) => Judgement::new(Outcome::Deletion, "of a post that never came"),
        _ => ignored("an edit of a post that is not here"),
    }
}

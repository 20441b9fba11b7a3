//! A look at one server, step by step: is it spoken to at all, is its actor there, does its WebFinger name that actor, what
//! does its NodeInfo say, does it take a signed message of ours. For the operator, and in part for whoever asks (`check`).
//!
//! Promises: nothing is asked of a server that is blocked here, and of no other server than the one that the look is about,
//! unless it leads there itself; a handful of requests, all of them through the address guard, and [`LONGEST`] over everything. Nothing is
//! changed anywhere: the message is an Update of our actor that says what is known of it already.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::Relay;
use super::subscribe::{speaks_for_its_server, unique};
use crate::clock::Timestamp;
use crate::ids::{self, Authority, Iri};
use crate::net::NetFault;
use crate::peers::PeerFault;
use crate::policy::Verdict;
use crate::wire::actor::RemoteActor;
use crate::wire::author;
use crate::wire::http_sig::{Body, Scheme};

/// The longest that a look takes. What was not looked at by then is skipped.
pub const LONGEST: Duration = Duration::from_secs(25);

/// One message of ours, from name look-up to the answer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What servers call their own actor, where WebFinger has to tell which it is: the server's name (Mastodon, GoToSocial), or
/// one of these (Pleroma, Akkoma; Misskey).
const NAMES: [&str; 2] = ["relay", "instance.actor"];

/// How far a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// It reads what the server shows, as if nothing of it were known here.
    AsStranger,
    /// It reads what the server shows, of the actor that asked here.
    Read,
    /// It also sends it a message.
    Deliver,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Good,
    /// It works, and something is unusual about it.
    Doubtful,
    /// It does not work: what to do stands beside it.
    Bad,
    /// It was not looked at.
    Skipped,
}

impl Outcome {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Doubtful => "doubtful",
            Self::Bad => "bad",
            Self::Skipped => "skipped",
        }
    }

    /// For people who do not see the colour.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "Good:",
            Self::Doubtful => "Look:",
            Self::Bad => "Mend:",
            Self::Skipped => "Note:",
        }
    }
}

/// One step of a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Step {
    /// What was looked at: `rules`, `actor`, `webfinger`, `nodeinfo`, `delivery`.
    pub what: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was found, in a sentence. It names nobody, and of a network that did not let us through it does not say how.
    pub found: String,
    /// What to do about it; empty where there is nothing to be done.
    pub remedy: String,
    /// What only the operator reads: the words of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Probe {
    /// At whom.
    #[schema(value_type = String)]
    pub host: Authority,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    /// Step by step.
    pub steps: Vec<Step>,
}

fn as_text<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&at.rfc3339())
}

impl Probe {
    /// Whether nothing that was looked at is bad.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.steps.iter().all(|step| step.outcome != Outcome::Bad)
    }

    /// The same without what only the operator reads.
    #[must_use]
    pub fn for_others(mut self) -> Self {
        self.steps.iter_mut().for_each(|step| step.detail = None);
        self
    }
}

impl Step {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, outcome: Outcome::Good, found: found.into(), remedy: String::new(), detail: None }
    }

    fn other(what: &'static str, outcome: Outcome, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, outcome, found: found.into(), remedy: remedy.into(), detail: None }
    }

    fn late(what: &'static str) -> Self {
        Self::other(what, Outcome::Skipped, "It took too long to come so far.", "Look again later.")
    }

    fn telling(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// What of a look is known while it goes on.
struct Look<'a> {
    relay: &'a Relay,
    host: &'a Authority,
    deadline: Instant,
    steps: Vec<Step>,
}

impl Relay {
    /// Looks at a server now. For the operator: it does not ask how often that was done.
    pub async fn probe(&self, host: &Authority, depth: Depth) -> Probe {
        let at = self.0.clock.now();
        let known = if depth == Depth::AsStranger { None } else { self.actor_of(host) };
        let mut look = Look { relay: self, host, deadline: Instant::now() + LONGEST, steps: Vec::new() };
        if look.may_be_asked() {
            let actor = Box::pin(look.actor(known)).await;
            let scheme = actor
                .as_ref()
                .and_then(|actor| actor.id.origin().split_once("://"))
                .map_or("https", |(scheme, _)| scheme);
            Box::pin(look.nodeinfo(scheme)).await;
            if depth == Depth::Deliver {
                Box::pin(look.delivery(actor.as_ref())).await;
            }
        }
        Probe { host: host.clone(), at, steps: look.steps }
    }

    /// The actor that a server asked with: to join, or to switch search on.
    fn actor_of(&self, host: &Authority) -> Option<Iri> {
        let asked = self.0.store.subscriber(host);
        let registered = asked.as_ref().and_then(|one| {
            let all = || one.registrations.iter();
            all().find(|one| !one.personal).or_else(|| all().next()).map(|one| one.actor.clone())
        });
        let searched =
            || self.0.store.search_servers().get(host).and_then(|one| Some(one.follows().first()?.actor.clone()));
        registered.or_else(searched)
    }
}

impl Look<'_> {
    fn may_be_asked(&mut self) -> bool {
        let (rules, now) = (self.relay.0.rules.set(), self.relay.0.clock.now());
        let ruling = rules.name(self.host, now);
        let step = match ruling.verdict {
            Verdict::Block => {
                let why = if ruling.reason().is_empty() { String::new() } else { format!(": {}", ruling.reason()) };
                Step::other(
                    "rules",
                    Outcome::Bad,
                    format!("{} is blocked here{why}. Nothing is asked of it.", self.host),
                    "That is for the operator of this relay to change; the home page names a contact.",
                )
            }
            Verdict::Silence | Verdict::Allow => Step::good("rules", format!("{} may speak here.", self.host)),
        };
        self.steps.push(step);
        ruling.verdict != Verdict::Block
    }

    /// Reads the server's actor, and asks its WebFinger about it: that comes first where it has to tell which actor it is.
    async fn actor(&mut self, known: Option<Iri>) -> Option<RemoteActor> {
        let was_known = known.is_some();
        let id = match known {
            Some(id) => id,
            None => Box::pin(self.find()).await?,
        };
        let Ok(read) = timeout_at(self.deadline, Box::pin(self.relay.0.peers.actor_fresh(&id))).await else {
            self.steps.push(Step::late("actor"));
            return None;
        };
        let actor = match read {
            Ok(actor) => RemoteActor::clone(&actor),
            Err(fault) => {
                let step =
                    self::fault("actor", "the actor of this server", &fault, &id, &self.relay.0.identity.ids.host());
                self.steps.push(step);
                return None;
            }
        };
        self.steps.push(judge(&actor, self.host));
        if was_known {
            Box::pin(self.named_by_webfinger(&actor)).await;
        }
        Some(actor)
    }

    /// Which actor is the server's own, by its WebFinger.
    async fn find(&mut self) -> Option<Iri> {
        let mut last = PeerFault::TryLater("busy");
        let (whole, host) = (self.host.as_str(), self.host.host());
        let own = std::iter::once(whole).chain((host != whole).then_some(host));
        for name in own.chain(NAMES) {
            let handle = format!("@{name}@{}", self.host);
            let Ok(found) = timeout_at(self.deadline, self.relay.0.peers.resolve_handle(&handle)).await else {
                self.steps.push(Step::late("webfinger"));
                return None;
            };
            match found {
                Ok(id) if id.authority() == *self.host => {
                    self.steps.push(Step::good("webfinger", "Its WebFinger names an actor for the server itself."));
                    return Some(id);
                }
                Ok(id) => {
                    let found = format!("Its WebFinger names an actor on another server, {}.", id.authority());
                    let remedy =
                        format!("Ask about {} instead: servers are known by where their actors are.", id.authority());
                    self.steps.push(Step::other("webfinger", Outcome::Doubtful, found, remedy));
                    return None;
                }
                // The others would not be answered either.
                Err(fault @ (PeerFault::TryLater(_) | PeerFault::Refused(_))) => {
                    last = fault;
                    break;
                }
                Err(fault) => last = fault,
            }
        }
        let step = match &last {
            PeerFault::TryLater(_) | PeerFault::Refused(_) => {
                unanswered(self.host.as_str(), "webfinger", "WebFinger", &last)
            }
            _ => Step::other(
                "webfinger",
                Outcome::Skipped,
                "Its WebFinger names no actor for the server itself, so it is not known which one to look at.",
                "There is nothing to mend: not all software names one. A request to join tells which it is.",
            ),
        };
        self.steps.push(step.telling(last.to_string()));
        None
    }

    async fn named_by_webfinger(&mut self, actor: &RemoteActor) {
        let Some(name) = actor.username.as_deref() else {
            let found = "Its actor has no preferredUsername, so that WebFinger cannot name it.";
            let step = Step::other("webfinger", Outcome::Doubtful, found, "Some servers refuse such actors.");
            return self.steps.push(step);
        };
        let handle = format!("@{name}@{}", self.host);
        let step = match timeout_at(self.deadline, self.relay.0.peers.resolve_handle(&handle)).await {
            Err(_elapsed) => Step::late("webfinger"),
            Ok(Ok(id)) if id == actor.id => Step::good("webfinger", "Its WebFinger names the actor that asked here."),
            Ok(Ok(_other)) => Step::other(
                "webfinger",
                Outcome::Doubtful,
                "Its WebFinger names another actor than the one that asked here.",
                "This relay does not mind; some servers do.",
            ),
            Ok(Err(fault @ (PeerFault::TryLater(_) | PeerFault::Refused(_)))) => {
                unanswered(self.host.as_str(), "webfinger", "WebFinger", &fault)
            }
            Ok(Err(fault)) => Step::other(
                "webfinger",
                Outcome::Doubtful,
                "Its WebFinger does not know the actor that asked here.",
                "This relay does not mind; some servers do. Have the proxy pass /.well-known/webfinger on.",
            )
            .telling(fault.to_string()),
        };
        self.steps.push(step);
    }

    async fn nodeinfo(&mut self, scheme: &str) {
        let peers = &self.relay.0.peers;
        let step = match timeout_at(self.deadline, Box::pin(peers.software_fresh(self.host, scheme))).await {
            Err(_elapsed) => Step::late("nodeinfo"),
            Ok(Ok(software)) => {
                Step::good("nodeinfo", format!("It runs {} {}.", plain(&software.name), plain(&software.version)))
            }
            Ok(Err(fault @ (PeerFault::TryLater(_) | PeerFault::Refused(_)))) => {
                unanswered(self.host.as_str(), "nodeinfo", "NodeInfo", &fault)
            }
            Ok(Err(fault)) => Step::other(
                "nodeinfo",
                Outcome::Doubtful,
                "Its NodeInfo cannot be read: what it runs is not known, so every post is announced to it.",
                "Have the proxy pass /.well-known/nodeinfo, and what it links to, on to the server.",
            )
            .telling(fault.to_string()),
        };
        self.steps.push(step);
    }

    /// An Update of our actor that says nothing new. Whoever takes it has verified our signature; some read our actor for
    /// it first, which is to be tried as well.
    async fn delivery(&mut self, actor: Option<&RemoteActor>) {
        let Some(actor) = actor else {
            let step = Step::other("delivery", Outcome::Skipped, "Without its actor there is no inbox to send to.", "");
            return self.steps.push(step);
        };
        let inbox = self.relay.0.store.subscriber(self.host).and_then(|one| Some(one.served()?.inbox.clone()));
        let inbox = inbox.unwrap_or_else(|| actor.inbox.clone());
        let identity = &self.relay.0.identity;
        let id = identity.ids.activity("update", &unique());
        let body = Bytes::from(author::update_actor(&identity.ids, &id, identity.document(), &actor.id));
        let step = self.knock(&inbox, &body).await;
        self.steps.push(step);
    }

    async fn knock(&self, inbox: &Iri, body: &Bytes) -> Step {
        let signed = &self.relay.0.signed;
        let digest = Body::of(body);
        let mut first = None;
        for scheme in [Scheme::Cavage, Scheme::Rfc9421] {
            let sent = signed.post(inbox, body, &digest, scheme, DELIVERY_TIMEOUT);
            let status = match timeout_at(self.deadline, sent).await {
                Err(_elapsed) => return Step::late("delivery"),
                Ok(Err(fault)) => {
                    let word = if fault == NetFault::Exhausted { "busy" } else { fault.word() };
                    let step = unanswered(self.host.as_str(), "delivery", "its inbox", &PeerFault::TryLater(word));
                    return step.telling(fault.to_string());
                }
                Ok(Ok(answer)) => answer.status,
            };
            if !matches!(status, 400 | 401) {
                return answered(status, scheme, first);
            }
            first.get_or_insert(status);
        }
        answered(first.unwrap_or(401), Scheme::Cavage, first)
    }
}

/// A document that is not to be had. What came over a connection that the name's own certificate vouches for may be said; why
/// there was none is the operator's alone, or whoever asks could look around in networks that only we reach.
fn fault(what: &'static str, which: &str, fault: &PeerFault, id: &Iri, us: &Authority) -> Step {
    let bad = |found: String, remedy: String| Step::other(what, Outcome::Bad, found, remedy).telling(fault.to_string());
    match fault {
        PeerFault::Gone { status } => bad(
            format!("Asked for {which}, the server answers {status}."),
            "Have the proxy pass requests for it on, whatever their Accept header says; if the server moved or was made \
             anew, add the relay again from there."
                .to_owned(),
        ),
        PeerFault::Forbidden => bad(
            format!("The server does not show {which} to us, although we sign: it answers 401 or 403."),
            format!(
                "Look for a block of {us}, a list of those who may federate, or a firewall or challenge page that programs \
                 cannot pass."
            ),
        ),
        PeerFault::Invalid(_) => bad(
            format!("What the server shows as {which} is no actor with a key and an inbox of its own origin."),
            format!("See what it answers to: curl -H 'Accept: application/activity+json' {}", plain(id.as_str())),
        ),
        PeerFault::TryLater(_) | PeerFault::Refused(_) => unanswered(id.authority().as_str(), what, which, fault),
    }
}

/// No answer, or one that says nothing.
fn unanswered(host: &str, what: &'static str, which: &str, fault: &PeerFault) -> Step {
    let step = match fault {
        fault if fault.is_ours() => Step::other(
            what,
            Outcome::Skipped,
            format!("This relay does not ask for {which} just now: it gives the server a rest."),
            "Look again in a few minutes.",
        ),
        PeerFault::TryLater(word @ ("5xx" | "429")) => Step::other(
            what,
            Outcome::Bad,
            format!("Asked for {which}, the server answers {word}."),
            "See its log for the error; where it limits how often it is asked, let this relay ask more often.",
        ),
        _ => Step::other(
            what,
            Outcome::Bad,
            format!("Asked for {which}, there is no answer that can be used."),
            format!(
                "From a machine elsewhere, see that https://{host} answers within ten seconds by every address of its name, \
                 IPv6 ones too, with a certificate that is good and whole (intermediate ones as well), and not by leading \
                 elsewhere."
            ),
        ),
    };
    step.telling(fault.to_string())
}

fn judge(actor: &RemoteActor, host: &Authority) -> Step {
    if actor.keys.is_empty() {
        let found = "Its actor is there, and lists no key that we know: nothing that it signs can be believed.";
        let remedy = "Publish an RSA key of 2048 bits or more as publicKey, or an Ed25519 key as assertionMethod.";
        return Step::other("actor", Outcome::Bad, found, remedy);
    }
    let kind = actor.kind.as_str();
    if actor.suspended {
        let found = format!("Its actor ({kind}) is there, and says that it is suspended.");
        return Step::other("actor", Outcome::Bad, found, "Lift the suspension.");
    }
    if !speaks_for_its_server(actor, host) {
        let found =
            format!("Its actor ({kind}) is there; by its type and name it is a person's, not the server's own.");
        let remedy = "Join from the server's own relay settings; from a personal account, the operator has to agree.";
        return Step::other("actor", Outcome::Doubtful, found, remedy);
    }
    Step::good("actor", format!("Its actor ({kind}) is there, with {} key(s) and an inbox.", actor.keys.len()))
}

fn answered(status: u16, scheme: Scheme, first: Option<u16>) -> Step {
    let other = |outcome, found: String, remedy: &str| Step::other("delivery", outcome, found, remedy);
    match (status, first) {
        (200..=299, None) => Step::good("delivery", format!("Its inbox took a signed message of ours ({status}).")),
        (200..=299, Some(_)) => Step::good(
            "delivery",
            format!("Its inbox took a signed message of ours ({status}), signed by {} only.", scheme_name(scheme)),
        ),
        (400 | 401, _) => other(
            Outcome::Bad,
            format!("Its inbox cannot verify our signature: it answers {status} to both kinds."),
            "See in its log why: often it cannot read our actor (DNS, firewall, a proxy for what leaves), its clock is wrong, \
             or a proxy changes headers on the way in.",
        ),
        (403, _) => other(
            Outcome::Bad,
            "Its inbox refuses us (403).".to_owned(),
            "Look for a block of this relay's name there, and for a firewall rule about POST requests.",
        ),
        (404 | 405 | 410, _) => other(
            Outcome::Bad,
            format!("There is no inbox where its actor says ({status})."),
            "Have the proxy pass POST requests for the inbox on.",
        ),
        (408 | 425 | 429 | 500..=599, _) => other(
            Outcome::Bad,
            format!("Its inbox has trouble of its own ({status})."),
            "See its log; posts wait here and are sent again.",
        ),
        (300..=399, _) => other(
            Outcome::Bad,
            format!("Its inbox leads elsewhere ({status}); a signed message cannot follow."),
            "Let the actor name the inbox's real address.",
        ),
        (_, _) => other(
            Outcome::Doubtful,
            format!("Its inbox answers {status}: it has read the message, and does not want it."),
            "If posts arrive there is nothing to mend; it may refuse messages that mean nothing to it.",
        ),
    }
}

const fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Cavage => "draft-cavage-12",
        Scheme::Rfc9421 => "RFC 9421",
    }
}

/// A stranger's words, short and without what could move a cursor.
fn plain(text: &str) -> String {
    ids::plain(text).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_was_no_connection_is_for_the_operator_alone() {
        let id = Iri::parse("https://a.example/actor").unwrap();
        let us = Authority::parse("relay.example").unwrap();
        let told = |faulty: &PeerFault| {
            let step = fault("actor", "its actor", faulty, &id, &us);
            assert!(step.detail.is_some(), "the operator reads more: {step:?}");
            Probe { host: id.authority(), at: Timestamp::default(), steps: vec![step] }.for_others().steps
        };
        let timeout = told(&PeerFault::TryLater("timeout"));
        for faulty in [
            PeerFault::TryLater("dns"),
            PeerFault::TryLater("connect"),
            PeerFault::TryLater("tls"),
            PeerFault::TryLater("broken"),
            PeerFault::Refused("10.0.0.1 is a private address".to_owned()),
        ] {
            assert_eq!(told(&faulty), timeout, "{faulty}");
        }
        for (faulty, says) in [
            (PeerFault::Gone { status: 410 }, "410"),
            (PeerFault::Forbidden, "401 or 403"),
            (PeerFault::TryLater("5xx"), "5xx"),
            (PeerFault::Invalid("it is no JSON".to_owned()), "no actor"),
        ] {
            let steps = told(&faulty);
            assert!(steps[0].found.contains(says) && !steps[0].remedy.is_empty(), "{faulty}: {steps:?}");
        }
    }

    #[test]
    fn what_an_inbox_answers_is_told_with_what_to_mend() {
        let check = |status: u16, first: Option<u16>, outcome: Outcome, says: &str| {
            let step = answered(status, Scheme::Rfc9421, first);
            assert!(step.outcome == outcome && step.found.contains(says), "{status}: {step:?}");
            assert!(outcome == Outcome::Good || !step.remedy.is_empty(), "{status}: {step:?}");
        };
        check(202, None, Outcome::Good, "took");
        check(200, Some(401), Outcome::Good, "RFC 9421 only");
        check(401, Some(401), Outcome::Bad, "cannot verify");
        check(403, None, Outcome::Bad, "refuses us");
        check(404, None, Outcome::Bad, "no inbox");
        check(429, None, Outcome::Bad, "trouble of its own");
        check(503, None, Outcome::Bad, "trouble of its own");
        check(301, None, Outcome::Bad, "leads elsewhere");
        check(422, None, Outcome::Doubtful, "does not want it");
    }

    #[test]
    fn words_of_strangers_are_cut_and_plain() {
        assert_eq!(plain("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(plain("1.0 \u{202e}\u{9b}1m"), "1.0 \u{fffd}\u{fffd}1m");
        assert_eq!(plain(&"x".repeat(999)).len(), 200);
    }
}

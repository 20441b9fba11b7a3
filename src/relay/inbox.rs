//! The inbox from end to end: verify, judge, perform. What it answers is decided here; how that looks as HTTP is not.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument as _;
use tracing::field::Empty;

use super::Relay;
use super::effects::Outcome;
use super::route::{Effect, Facts, SearchFacts, proof_matters, route};
use super::subscribe::Welcome;
use super::verify::{Inbox, Received, Refused, Rejection, Verified};
use crate::ids::Authority;
use crate::peers::PeerFault;
use crate::policy::network;
use crate::store::{Following, Origin, Refusal, StoreError};
use crate::wire::activity::Kind;
use crate::wire::actor::RemoteActor;

/// What the inbox answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 202: taken and durable, or not wanted; in a word, what came of it.
    Accepted(&'static str),
    /// Not taken.
    Rejected(Rejection),
}

impl Relay {
    /// Takes one request. The work goes on if the client hangs up, so that nothing is left half done; `hold` is the place
    /// it takes up, given back when it is done.
    pub async fn receive(&self, received: Received, hold: impl Send + 'static) -> Answer {
        let relay = self.clone();
        let claimed = claimed_host(&received);
        let span = tracing::info_span!("inbox", peer.host = claimed, activity.id = Empty, actor.id = Empty);
        let work = async move {
            let answer = relay.take(received, claimed).await;
            drop(hold);
            answer
        };
        let taken = self.0.supervisor.spawn(work.instrument(span)).await;
        taken.unwrap_or_else(|error| {
            self.0.metrics.panics.inc();
            tracing::error!(%error, "a request to the inbox fell");
            Answer::Rejected(Rejection::later("internal", "the relay failed while working on this", 60))
        })
    }

    async fn take(&self, received: Received, claimed: Option<String>) -> Answer {
        let timer = self.0.metrics.inbound_seconds.start_timer();
        let mut named = Named { claimed, network: received.from.map(network), signed: false };
        let answer = match self.verify(received).await {
            Ok(verified) => {
                let server = verified.authority.clone();
                let answer = self.act(verified).await;
                self.note_knock(&server, &answer);
                named = Named { claimed: Some(server.to_string()), signed: true, ..named };
                answer
            }
            Err(Refused::Ignored(why)) => Answer::Accepted(why),
            Err(Refused::Rejected(rejection)) => Answer::Rejected(rejection),
        };
        timer.observe_duration();
        self.account(&answer, named);
        answer
    }

    async fn act(&self, mut verified: Verified) -> Answer {
        if verified.inbox == Inbox::Search && !self.0.search.is_on() && !takes_back(&verified.activity.kind) {
            return Answer::Rejected(no_search());
        }
        (self.0.signals.alive)(&verified.authority);
        // An actor that speaks for its whole server is measured as the server.
        let person = (!self.is_registered(&verified.signer)).then_some(&verified.signer);
        if let Err(wait) = self.0.limits.check(&verified.authority, person) {
            return Answer::Rejected(too_many(wait));
        }
        let (mut effects, actor) = match self.decide(&mut verified).await {
            Ok(decided) => decided,
            Err(rejection) => return Answer::Rejected(rejection),
        };
        if !self.has_room() {
            if effects.iter().any(grows) {
                return self.without_room(verified, effects).await;
            }
            if self.is_nearly_full() {
                effects.iter_mut().for_each(slim);
            }
        }
        let server = verified.authority.clone();
        match self.perform(verified, effects, actor).await {
            Ok(done) => {
                if matches!(done.word, "relayed" | "hint" | "held") {
                    self.0.given.count(&server);
                }
                self.conclude_request(&server, done)
            }
            Err(error) => Answer::Rejected(store_trouble(&error)),
        }
    }

    /// What takes something out of the search is done although there is no room for the rest; that is to be sent again, and
    /// so it is not noted as seen.
    async fn without_room(&self, mut verified: Verified, mut effects: Vec<Effect>) -> Answer {
        effects.retain(|effect| matches!(effect, Effect::Withdraw(_) | Effect::Void(_) | Effect::Forget(_)));
        if effects.iter().any(|effect| !matches!(effect, Effect::Forget(_))) {
            verified.activity.id = None;
            if let Err(error) = self.perform(verified, effects, None).await {
                return Answer::Rejected(store_trouble(&error));
            }
        }
        Answer::Rejected(Rejection::later("disk", "the relay's disk has no room to keep this", 300))
    }

    /// Tells who has something to do now, and finds the answer.
    fn conclude_request(&self, server: &Authority, done: Outcome) -> Answer {
        if done.welcome.is_some() || matches!(done.word, "left" | "left-in-one-style" | "search-off") {
            (self.0.signals.control)();
            self.0.survey.notify_one();
        }
        match done.welcome {
            Some(Welcome::Reject(why)) => Answer::Rejected(not_admitted(why, &self.check_link(server))),
            _ => Answer::Accepted(done.word),
        }
    }

    /// What the activity means here, and, if it is a Follow, who follows.
    async fn decide(&self, verified: &mut Verified) -> Result<(Vec<Effect>, Option<Arc<RemoteActor>>), Rejection> {
        let following =
            self.0.store.get::<Following>(verified.signer.as_str()).map_err(|error| store_trouble(&error))?;
        let ids = &self.0.identity.ids;
        let (rules, now) = (self.0.rules.set(), self.0.clock.now());
        let author = verified.activity.actor.authority();
        let facts = Facts {
            subscriber: self.0.store.subscriber(&verified.authority),
            author: self.0.store.subscriber(&author),
            publishes: self.0.store.publishes(&verified.authority),
            author_publishes: author != verified.authority && self.0.store.publishes(&author),
            following,
            search: self.search_facts(verified, &author),
            rules: &rules,
            config: &self.0.config,
            origin: &ids.origin,
            actor: &ids.actor,
            now,
        };
        if proof_matters(verified, &facts) {
            verified.prover = Box::pin(self.prover(verified)).await;
        }
        let effects = route(verified, &facts);
        self.count_rules(&rules, verified, &effects, now);
        if !effects.iter().any(|effect| matches!(effect, Effect::Join { .. } | Effect::SearchOn)) {
            return Ok((effects, None));
        }
        let actor = self.0.peers.actor(&verified.signer).await.map_err(|fault| unreadable(&fault))?;
        Ok((effects, Some(actor)))
    }

    /// How the search stands to who sent this and to whose it is.
    fn search_facts(&self, verified: &Verified, author: &Authority) -> SearchFacts<'_> {
        let (on, actor) = (self.0.search.is_on(), &self.0.identity.search.actor);
        let servers = self.0.store.search_servers();
        let key = |server: &Authority| servers.get(server).filter(|_| on).cloned();
        // Only these take something out of the search; without a search there may still be something in it.
        let takes_out = matches!(verified.activity.kind, Kind::Update | Kind::Delete | Kind::Undo);
        let known = takes_out && self.is_found_or_counted(&verified.activity.actor);
        let joined = servers.contains_key(&verified.authority);
        let counted = self.0.trends.is_on();
        SearchFacts { on, actor, signer: key(&verified.authority), author: key(author), joined, known, counted }
    }

    /// Keeps for the server's admin what it was told. What they would ask about is written down soon.
    fn note_knock(&self, server: &Authority, answer: &Answer) {
        let (word, status, news) = match answer {
            Answer::Accepted(word) => (*word, 202, word.starts_with("join") || word.starts_with("search-")),
            Answer::Rejected(rejection) => (rejection.check, rejection.status, rejection.status < 429),
        };
        self.0.knocks.note(server, word, status, news, self.0.clock.now());
    }

    /// Counts the answer, and keeps a refusal for the operator.
    fn account(&self, answer: &Answer, named: Named) {
        let Named { claimed, network, signed } = named;
        let metrics = &self.0.metrics;
        match answer {
            Answer::Accepted(word) => {
                let took = matches!(
                    *word,
                    "relayed"
                        | "change-relayed"
                        | "deletion-relayed"
                        | "hint"
                        | "recheck"
                        | "joined"
                        | "held"
                        | "for-search"
                        | "boost-noted"
                        | "change-for-search"
                        | "deletion-for-search"
                        | "search-on"
                        | "search-off"
                        | "withdrawn"
                        | "readmitted"
                );
                let result = if took { "accepted" } else { "ignored" };
                metrics.inbound.with_label_values(&[result, word]).inc();
                tracing::debug!(peer.host = claimed, result, reason = word, "inbox");
            }
            Answer::Rejected(rejection) => {
                metrics.inbound.with_label_values(&["refused", rejection.check]).inc();
                tracing::debug!(peer.host = claimed, status = rejection.status, check = rejection.check, "refused");
                let is_here = claimed.as_deref().and_then(|name| Authority::parse(name).ok()).is_some_and(|server| {
                    self.0.store.subscriber(&server).is_some() || self.0.store.search_servers().contains_key(&server)
                });
                let refusal = Refusal {
                    at: self.0.clock.now(),
                    claimed,
                    check: rejection.check.to_owned(),
                    status: rejection.status,
                    detail: rejection.detail.clone(),
                    count: 1,
                    signed,
                };
                self.0.refusals.note(refusal, Origin { network, is_here });
            }
        }
    }

    /// Counts a request that never came as far as [`Relay::receive`]: too big, too many, of the wrong type.
    pub fn account_rejection(&self, rejection: &Rejection) {
        self.account(&Answer::Rejected(rejection.clone()), Named::default());
    }
}

/// Whom a request names, and whether it is proved that it was them.
#[derive(Default)]
struct Named {
    claimed: Option<String>,
    /// Where it came from, where that can be told.
    network: Option<IpAddr>,
    signed: bool,
}

/// What adds to what is kept. Deletions, farewells and answers must go through on a full disk too: there is a reserve.
const fn grows(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Relay(_)
            | Effect::Change(_)
            | Effect::Hint(_)
            | Effect::Boost(_)
            | Effect::Join { .. }
            | Effect::SearchOn
    )
}

/// When most of the reserve is gone a deletion is kept without its bytes: an id is enough to take back what was announced,
/// and a reserve that strangers may fill with what they like would be none.
fn slim(effect: &mut Effect) {
    if let Effect::Delete(draft) = effect {
        draft.carried = false;
        draft.body = bytes::Bytes::new();
    }
}

/// The host that a request names in its key id, for the operator's list. Nothing proves it.
fn claimed_host(received: &Received) -> Option<String> {
    let header = |name: &str| received.headers.get(name).and_then(|value| value.to_str().ok());
    let text = header("signature-input").or_else(|| header("signature"))?;
    let start = text.to_ascii_lowercase().find("keyid=\"")? + "keyid=\"".len();
    let key_id = text.get(start..)?.split('"').next()?;
    crate::ids::Iri::parse(key_id).ok().map(|iri| iri.authority().to_string())
}

/// What is heard at the search's inbox although there is no search: what is held of when there was one may go.
const fn takes_back(kind: &Kind) -> bool {
    matches!(kind, Kind::Undo | Kind::Block | Kind::Delete | Kind::Update)
}

fn no_search() -> Rejection {
    let detail = "search is off on this relay: it takes nothing for it".to_owned();
    let remedy = "Take this address out of your relays; /inbox is the relay's.";
    Rejection { status: 404, check: "search-off", detail, remedy, retry_after: None }
}

/// The link tells all that is known of the server, so it is given only to who signed as it.
fn not_admitted(why: &str, link: &str) -> Rejection {
    let remedy = "Ask the operator of this relay; its home page names a contact.";
    let detail = format!("{why} What is known of your server: {link}");
    Rejection { status: 403, check: "admission", detail, remedy, retry_after: None }
}

fn too_many(wait: Duration) -> Rejection {
    let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
    let detail = "more came from there than this relay takes in a minute".to_owned();
    let remedy = "Nothing is wrong with the request: send it again later.";
    Rejection { status: 429, check: "rate", detail, remedy, retry_after: Some(seconds) }
}

fn unreadable(fault: &PeerFault) -> Rejection {
    match fault {
        // One answer for all that we may have met at an address that they name: see the same of keys.
        PeerFault::TryLater(_) | PeerFault::Gone { .. } | PeerFault::Forbidden | PeerFault::Refused(_) => {
            Rejection::later("actor-unreadable", "your actor could not be read just now", 60)
        }
        PeerFault::Invalid(_) => Rejection {
            status: 401,
            check: "actor",
            detail: "your actor's document could not be read as an actor with an inbox of its own origin".to_owned(),
            remedy: "Publish the actor under its id as application/activity+json.",
            retry_after: None,
        },
    }
}

fn store_trouble(error: &StoreError) -> Rejection {
    if matches!(error, StoreError::Full) {
        let detail =
            "posts of your server wait for the operator of this relay, and more than these are not kept".to_owned();
        let remedy = "Send it again later. The operator of this relay can say more; its home page names a contact.";
        return Rejection { status: 429, check: "held-full", detail, remedy, retry_after: Some(3600) };
    }
    if !matches!(error, StoreError::Busy) {
        tracing::error!(%error, "the store refused work");
    }
    Rejection::later("overload", "the relay cannot promise to keep this just now", 30)
}

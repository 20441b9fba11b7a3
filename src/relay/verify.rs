//! From [`Received`] to [`Verified`]: only here is a `Verified` made, so holding one is the proof. Nothing has an effect
//! before it, and nothing is asked but for a key: once when it is new, and once per cool-down when it fails. (Such a look
//! is one request, or two where the key is in a document of its own; each twice where the host answers 400 or 401, because
//! some want the other profile of signatures; and redirects within the host.) A proof in the document (`Relay::prover`)
//! may cost another such look, later, when limits and rules have had their say.
//!
//! The order is that of cost: what can be refused from the bytes alone is refused before a key is looked up, and a
//! deletion of somebody we never heard of costs neither (there are very many of those; Mastodon does the same).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Relay;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};
use crate::peers::PeerFault;
use crate::policy::{Try, Verdict};
use crate::store::{SearchServer, Subscriber};
use crate::wire::activity::{Activity, ActivityFault, Kind};
use crate::wire::key::PublicKey;
use crate::wire::{http_sig, json, proof};

/// Control messages and messages about actors may be this old, and this far ahead of us. Content may be an hour off
/// either way: it is taken once whatever its date, whereas an old Follow replayed would join somebody again.
const CONTROL_PAST_MS: i64 = 3_600_000;
const CONTROL_FUTURE_MS: i64 = 300_000;

/// Which of our inboxes something came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Inbox {
    /// The relay's: what comes there goes to subscribers.
    #[default]
    Relay,
    /// The search actor's: what comes there goes to nobody.
    Search,
}

/// A request to the inbox, read to its end within its limits.
#[derive(Debug, Clone)]
pub struct Received {
    /// Which inbox.
    pub inbox: Inbox,
    /// The method.
    pub method: Method,
    /// Path and query as on the request line.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The address that it came from, where one can be told.
    pub from: Option<IpAddr>,
}

/// A request whose signer is known beyond doubt. What the body says is another question: see [`super::trust`].
#[derive(Debug, Clone)]
pub struct Verified {
    /// Where it came.
    pub inbox: Inbox,
    /// The actor whose key signed.
    pub signer: Iri,
    /// Its server.
    pub authority: Authority,
    /// What it says.
    pub activity: Activity,
    /// The same as JSON.
    pub document: Value,
    /// The same as bytes.
    pub body: Bytes,
    /// A hash of the signature: a replay is known by it.
    pub signature: String,
    /// Who owns the key whose proof (FEP-8b32) in the document holds. Looked for only where it matters.
    pub prover: Option<Iri>,
}

/// What the inbox answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Valid or not worth judging, and nothing is done: 202, and in a word why.
    Ignored(&'static str),
    /// Not taken.
    Rejected(Rejection),
}

/// A request that is not taken: what the other admin gets to read (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status.
    pub status: u16,
    /// The failed check of their request, one short word for their search engine.
    pub check: &'static str,
    /// What failed, in a sentence.
    pub detail: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Seconds after which to try again.
    pub retry_after: Option<u32>,
}

impl Rejection {
    /// Try again in `seconds`: it is our trouble, not theirs.
    #[must_use]
    pub fn later(check: &'static str, detail: &str, seconds: u32) -> Self {
        let remedy = "Nothing is wrong with the request: send it again later.";
        Self { status: 503, check, detail: detail.to_owned(), remedy, retry_after: Some(seconds) }
    }

    pub(super) fn new(status: u16, check: &'static str, detail: String, remedy: &'static str) -> Self {
        Self { status, check, detail, remedy, retry_after: None }
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl Relay {
    /// Checks everything about a request but its meaning.
    ///
    /// # Errors
    /// [`Refused`]: what to answer instead.
    pub async fn verify(&self, received: Received) -> Result<Verified, Refused> {
        let document = json::parse(&received.body).map_err(|fault| {
            Rejection::new(
                400,
                "json",
                fault.to_string(),
                "Send one JSON object, without duplicate keys, at most 32 deep.",
            )
        })?;
        if is_deletion_of_itself(&document) && !self.knows_actor_of(&document).await {
            return Err(Refused::Ignored("deletion-of-unknown-actor"));
        }
        let request =
            http_sig::Request { method: &received.method, target: &received.target, headers: &received.headers };
        let now = self.0.clock.now();
        let claim = http_sig::read(&request, &received.body, &self.0.identity.ids.origin, now)
            .map_err(|fault| Rejection::new(401, fault.check(), fault.to_string(), fault.remedy()))?;
        let key_id = Iri::parse(&claim.key_id).map_err(|fault| {
            Rejection::new(
                401,
                "key-id",
                format!("the keyId is no id we take: {fault}"),
                "Sign with a keyId that is an https URL.",
            )
        })?;
        self.refuse_blocked(&key_id.authority())?;
        let activity = read_activity(&document);
        // Not for the sake of what is wrong whoever signed it.
        if let Err(Refused::Rejected(rejection)) = activity {
            return Err(rejection.into());
        }
        let mut look = None;
        let signer = match self.check_signature(&claim, &key_id, received.from, &mut look).await {
            Err(refused) if is_deletion_of_itself(&document) => {
                self.last_words(&claim, &key_id).await.ok_or(refused)?
            }
            checked => checked?,
        };
        if let Some(look) = look {
            look.was_worth_it();
        }
        let activity = activity?;
        let span = tracing::Span::current();
        span.record("activity.id", activity.id.as_ref().map(Iri::as_str)).record("actor.id", activity.actor.as_str());
        refuse_stale_control(&activity, claim.at, now)?;
        let signature = format!("{:x?}", Sha256::digest(&claim.signature).as_slice());
        Ok(Verified {
            inbox: received.inbox,
            authority: signer.authority(),
            signer,
            activity,
            document,
            body: received.body,
            signature,
            prover: None,
        })
    }

    pub(super) fn refuse_blocked(&self, authority: &Authority) -> Result<(), Rejection> {
        let ruling = self.0.rules.set().name(authority, self.0.clock.now());
        if ruling.verdict != Verdict::Block {
            return Ok(());
        }
        ruling.count(&self.0.metrics);
        let remedy = "The operator of this relay does not deal with your server; its home page names a contact.";
        let why = if ruling.reason().is_empty() { String::new() } else { format!(": {}", ruling.reason()) };
        Err(Rejection::new(403, "blocked", format!("{authority} is blocked here{why}"), remedy))
    }

    /// The actor whose key made the signature. A key that fails is read again once per cool-down: it may have changed.
    ///
    /// Hosts are asked for keys so often and no oftener, whoever makes us ask. So that nobody uses up what is left to their
    /// honest users, each address may be wrong only so often in a minute where we would have to look. If we had to, that is
    /// counted in `look`.
    pub(super) async fn check_signature(
        &self,
        claim: &http_sig::Claim,
        key_id: &Iri,
        from: Option<IpAddr>,
        look: &mut Option<Try>,
    ) -> Result<Iri, Refused> {
        let begin = || from.map(|from| self.0.looks.begin(from)).transpose().map_err(looked_in_vain);
        let wrong = || {
            let detail = format!("the signature does not match the key {key_id}");
            let remedy = "Sign with the key that your actor publishes now; if it changed, this relay reads it again within ten minutes.";
            Rejection::new(401, "signature", detail, remedy)
        };
        if !self.0.peers.remembers_key(key_id).await {
            *look = begin()?;
        }
        let key = self.0.peers.key(key_id).await.map_err(|fault| {
            // Nobody was asked: nothing was used up.
            if let Some(look) = look.take_if(|_| fault.is_ours()) {
                look.was_worth_it();
            }
            key_refusal(key_id, &fault)
        })?;
        if self.holds(claim, &key.key) {
            return Ok(key.owner.clone());
        }
        if look.is_none() {
            *look = begin()?;
        }
        let fresh = self.0.peers.refetch_key(key_id).await.map_err(|fault| key_refusal(key_id, &fault))?;
        match fresh {
            Some(fresh) if self.holds(claim, &fresh.key) => {
                let of_subscriber = self.is_registered(&fresh.owner);
                tracing::info!(key.id = %key_id, actor.id = %fresh.owner, of_subscriber, "an actor has a new key");
                Ok(fresh.owner.clone())
            }
            _ => Err(wrong().into()),
        }
    }

    /// An account that is deleted says so with a key that its server no longer shows: where the answer is 410, the last
    /// key that we read there still counts for that.
    async fn last_words(&self, claim: &http_sig::Claim, key_id: &Iri) -> Option<Iri> {
        let key = self.0.peers.last_key(key_id).await?;
        self.holds(claim, &key.key).then(|| key.owner.clone())
    }

    fn holds(&self, claim: &http_sig::Claim, key: &PublicKey) -> bool {
        let _timer = self.0.metrics.signature_seconds.with_label_values(&["verify"]).start_timer();
        claim.verify(key)
    }

    /// Whose proof the document bears. What cannot be had or does not hold is no proof, and no fault either: the request
    /// was signed well. The key is read like any other, under the same budgets and in the same places; one that fails is
    /// not read again for the sake of a proof.
    pub(super) async fn prover(&self, verified: &Verified) -> Option<Iri> {
        match self.check_proof(verified).await {
            Ok(owner) => Some(owner),
            Err(why) => {
                tracing::debug!(%why, "a proof is not believed");
                None
            }
        }
    }

    async fn check_proof(&self, verified: &Verified) -> Result<Iri, String> {
        let claim = proof::read(&verified.document, self.0.clock.now()).map_err(|fault| fault.to_string())?;
        if !claim.method.same_origin(&verified.activity.actor) {
            return Err("the key is of another origin than the actor".to_owned());
        }
        let key = self.0.peers.key(&claim.method).await.map_err(|fault| fault.to_string())?;
        claim.verify_listed(&key).map_err(|fault| fault.to_string())?;
        Ok(key.owner.clone())
    }

    async fn knows_actor_of(&self, document: &Value) -> bool {
        let Some(actor) = id_in(document.get("actor")).and_then(|text| Iri::parse(text).ok()) else { return false };
        self.is_registered(&actor) || self.is_found_or_counted(&actor) || self.0.peers.known(&actor).await
    }

    /// Whether the ledger of the search has posts of this actor, or trends count any. What cannot be read may be there.
    pub(super) fn is_found_or_counted(&self, actor: &Iri) -> bool {
        let found = self.0.store.ledger().and_then(|ledger| ledger.author(actor));
        found.map_or(true, |author| author.is_some()) || self.0.store.has_ballots(actor).unwrap_or(true)
    }

    /// Whether this server joined, waits to, or said yes to the search.
    pub(super) fn is_here(&self, authority: &Authority) -> bool {
        self.0.store.subscriber(authority).is_some() || self.0.store.search_servers().contains_key(authority)
    }

    /// Whether this actor joined for its server, or switched search on for it.
    pub(super) fn is_registered(&self, actor: &Iri) -> bool {
        let authority = actor.authority();
        let joined = |one: Arc<Subscriber>| one.registrations.iter().any(|one| one.actor == *actor);
        let switched = |one: &Arc<SearchServer>| one.is_followed_by(actor);
        self.0.store.subscriber(&authority).is_some_and(joined)
            || self.0.store.search_servers().get(&authority).is_some_and(switched)
    }
}

fn read_activity(document: &Value) -> Result<Activity, Refused> {
    Activity::read(document).map_err(|fault| match fault {
        // Honest activities that no relay has a use for, such as a Flag that names several objects.
        ActivityFault::Object | ActivityFault::Collection => Refused::Ignored("shape-not-relayed"),
        ActivityFault::Addressees(_) => Refused::Ignored("too-many-addressees"),
        fault => {
            let remedy = "Send one plain ActivityStreams activity with an id, a type and an actor.";
            Rejection::new(400, "activity", fault.to_string(), remedy).into()
        }
    })
}

fn looked_in_vain(wait: Duration) -> Rejection {
    let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
    let detail = "too many requests from your address named keys that did not sign them".to_owned();
    let remedy = "Send it again later; requests signed with keys that are known here are taken all the while.";
    Rejection { status: 429, check: "key-rate", detail, remedy, retry_after: Some(seconds) }
}

/// A document that came and does not bear the key out is a 401: their request names it. All else is one and the same 503,
/// whatever we saw: a stranger names the address, and must not learn from us what answers there (a closed port, a 404, an
/// address that we do not go to, a server that says no to us).
fn key_refusal(key_id: &Iri, fault: &PeerFault) -> Rejection {
    tracing::debug!(key.id = %key_id, fault = %fault, "a key could not be had");
    let remedy =
        "Publish the key where its id says, in your actor's document, readable without a signature or with ours.";
    match fault {
        PeerFault::Invalid(_) => {
            Rejection::new(401, "key", format!("the key {key_id} could not be read and bound to an actor"), remedy)
        }
        PeerFault::TryLater(_) | PeerFault::Gone { .. } | PeerFault::Forbidden | PeerFault::Refused(_) => {
            Rejection { remedy, ..Rejection::later("key-unreadable", "your key could not be read just now", 60) }
        }
    }
}

fn is_deletion_of_itself(document: &Value) -> bool {
    let actor = id_in(document.get("actor"));
    document.get("type").and_then(Value::as_str) == Some("Delete")
        && actor.is_some()
        && id_in(document.get("object")) == actor
}

/// An id, bare or in an object.
fn id_in(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::String(text) => Some(text),
        Value::Object(object) => object.get("id").and_then(Value::as_str),
        _ => None,
    }
}

fn refuse_stale_control(activity: &Activity, at: Timestamp, now: Timestamp) -> Result<(), Rejection> {
    let age = now.millis().saturating_sub(at.millis());
    if !is_control(activity) || (-CONTROL_FUTURE_MS..=CONTROL_PAST_MS).contains(&age) {
        return Ok(());
    }
    let detail = format!(
        "the request is dated {at}, it is {now} here: messages of this kind may be an hour old and five minutes ahead"
    );
    Err(Rejection::new(401, "date", detail, "Set the server's clock (NTP) and send it again, freshly signed."))
}

/// Messages that change who is who: an old copy of one must change nothing.
pub(super) fn is_control(activity: &Activity) -> bool {
    matches!(activity.kind, Kind::Follow | Kind::Undo | Kind::Accept | Kind::Reject | Kind::Block | Kind::Move)
        || activity.target.id() == Some(&activity.actor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADA: &str = "https://a.example/users/ada";
    const NOTE: &str = "https://a.example/notes/1";
    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn activity(kind: &str, object: &Value) -> Activity {
        let body = json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": "https://a.example/activities/1", "type": kind,
            "actor": ADA, "object": object,
        });
        Activity::read(&body).unwrap()
    }

    #[test]
    fn somebodys_own_deletion_is_told_from_all_else_before_anything_is_known() {
        let check = |document: &Value, expected: bool| {
            assert_eq!(is_deletion_of_itself(document), expected, "{document}");
        };
        check(&json!({ "type": "Delete", "actor": ADA, "object": ADA }), true);
        check(&json!({ "type": "Delete", "actor": { "id": ADA }, "object": { "id": ADA, "type": "Person" } }), true);
        check(&json!({ "type": "Delete", "actor": ADA, "object": NOTE }), false);
        check(&json!({ "type": "Delete", "actor": ADA }), false);
        check(&json!({ "type": "Delete", "object": ADA }), false);
        check(&json!({ "type": "Delete" }), false);
        check(&json!({ "type": "Delete", "actor": [ADA], "object": [ADA] }), false);
        check(&json!({ "type": "Delete", "actor": { "url": ADA }, "object": { "url": ADA } }), false);
        check(&json!({ "type": "Undo", "actor": ADA, "object": ADA }), false);
        check(&json!({ "type": ["Delete"], "actor": ADA, "object": ADA }), false);
        check(&json!({ "actor": ADA, "object": ADA }), false);
        check(&json!(ADA), false);
    }

    #[test]
    fn what_changes_who_is_who_is_told_from_content() {
        let (note, itself) = (json!(NOTE), json!({ "id": ADA, "type": "Person" }));
        for kind in ["Follow", "Undo", "Accept", "Reject", "Block", "Move"] {
            assert!(is_control(&activity(kind, &note)), "{kind}");
        }
        for kind in ["Create", "Update", "Delete", "Announce", "Like", "Add"] {
            assert!(!is_control(&activity(kind, &note)), "{kind}");
            assert!(is_control(&activity(kind, &itself)), "{kind} of itself");
        }
    }

    #[test]
    fn what_changes_who_is_who_may_be_an_hour_old_and_five_minutes_ahead() {
        let hour = 3_600_000;
        for (ahead, good) in [
            (0, true),
            (300_000, true),
            (300_001, false),
            (-hour, true),
            (-hour - 1, false),
            (i64::MAX, false),
            (i64::MIN, false),
        ] {
            let at = Timestamp::from_millis(NOW.millis().saturating_add(ahead));
            let judged = refuse_stale_control(&activity("Follow", &json!(NOTE)), at, NOW);
            let check = judged.as_ref().err().map(|rejection| (rejection.status, rejection.check));
            assert_eq!(check, (!good).then_some((401, "date")), "{ahead} ms ahead");
            // How old content may be, its signature says.
            assert_eq!(refuse_stale_control(&activity("Create", &json!(NOTE)), at, NOW), Ok(()), "{ahead} ms ahead");
        }
    }

    #[test]
    fn a_key_that_came_and_is_none_is_their_fault_and_all_else_is_one_answer() {
        let key_id = Iri::parse("https://a.example/users/ada#main-key").unwrap();
        let invalid = key_refusal(&key_id, &PeerFault::Invalid("a secret".to_owned()));
        assert_eq!((invalid.status, invalid.check, invalid.retry_after), (401, "key", None));
        let faults = [
            PeerFault::TryLater("5xx"),
            PeerFault::Gone { status: 410 },
            PeerFault::Forbidden,
            PeerFault::Refused("127.0.0.1".to_owned()),
        ];
        let answers = faults.map(|fault| key_refusal(&key_id, &fault));
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!((answers[0].status, answers[0].retry_after), (503, Some(60)));
        for answer in [&invalid, &answers[0]] {
            assert!(answer.remedy.contains("Publish the key") && !answer.detail.contains("secret"), "{answer:?}");
        }
    }

    #[test]
    fn after_the_time_that_is_named_the_minute_of_vain_looks_is_over() {
        let check = |wait: Duration, expected: u32| {
            let rejection = looked_in_vain(wait);
            assert_eq!((rejection.status, rejection.check, rejection.retry_after), (429, "key-rate", Some(expected)));
        };
        check(Duration::ZERO, 1);
        check(Duration::from_millis(1), 1);
        check(Duration::from_secs(1), 2);
        check(Duration::from_millis(59_999), 60);
        check(Duration::from_secs(60), 61);
    }
}

//! The client that signs as our actor: reads ActivityPub documents from their origins and posts activities. Says of a
//! document that its origin serves it under its id (`fetched` judges that), not what it means.
//!
//! Promises: at most three redirects, each judged by the guard and signed anew for its own host, never to another scheme;
//! one deadline over the whole journey; a fetch for a key never leaves the key's origin; no more fetches under way than configured, in all and per host; a host that does
//! not answer gets a rest.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, Method};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::client::{Answer, Client, NetFault, Outgoing};
use super::fetched::{FetchFault, Fetched, JsonAnswer, JsonKind, Verdict, is_document, is_one_of, judge, status_fault};
use super::hosts::Hosts;
use super::keyring::KeyRing;
use super::shared::SharedSignatures;
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::ids::{Authority, Iri};
use crate::wire::http_sig::{self, Body, Scheme};
use crate::wire::json;
use crate::wire::key::SigningKey;

/// What we ask ActivityPub documents for (ActivityPub section 3.2, and the other spelling servers know).
const ACCEPT_DOCUMENT: HeaderValue = HeaderValue::from_static(
    "application/activity+json, application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"",
);

/// Redirects followed on one journey, the second look at a claimed id included.
const REDIRECTS: u32 = 3;

/// The deadline of a fetch for a stranger: unsigned requests cause these, and whoever serves slowly holds a place.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(4);

/// How much of the answer to a delivery is read. Nobody wants what it says, but a connection is of use again only when it
/// was read to its end; error pages of real servers fit in.
const POST_ANSWER_BYTES: usize = 64 * 1024;

/// Authorities whose signature profile is remembered in memory, and for how long. For deliveries it is a stored fact
/// elsewhere; here a loss costs one more request.
const SCHEMES: u64 = 10_000;
const SCHEME_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SignedClient {
    client: Client,
    keys: KeyRing,
    /// Whose key ids it signs under, where that is not the relay's actor.
    speaker: Option<Iri>,
    clock: Clock,
    hosts: Hosts,
    /// Who wants another profile than cavage first.
    schemes: Cache<Authority, Scheme>,
    shared: SharedSignatures,
    signers: Arc<Semaphore>,
    timeout: Duration,
    max_body: usize,
}

/// The longest `ETag` that is kept: servers make hashes of theirs.
const MAX_ETAG: usize = 256;

/// One fetch from its first request to its last: what it may still spend.
struct Journey {
    deadline: Instant,
    /// From its beginning to its deadline.
    limit: Duration,
    redirects: u32,
    /// No redirect to another origin is followed.
    at_home: bool,
    /// Holds one of the strangers' places.
    stranger: bool,
    /// The document is known as it was under this `ETag`, and only one that differs is wanted.
    unless: Option<HeaderValue>,
}

/// What was found at the end of the redirects.
struct Arrival {
    came_from: Iri,
    value: Value,
    bytes: Bytes,
    asked_at: Timestamp,
    etag: Option<HeaderValue>,
}

impl SignedClient {
    /// Signs with the RSA key that `keys` shows at that moment; limits are those of `[fetch]`.
    #[must_use]
    pub fn new(client: Client, keys: KeyRing, clock: Clock, fetch: &config::Fetch) -> Self {
        let schemes = Cache::builder()
            .max_capacity(SCHEMES)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(SCHEME_LIFE)
            .build();
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        Self {
            client,
            keys,
            speaker: None,
            hosts: Hosts::new(fetch.in_flight, fetch.in_flight_per_host, clock.clone()),
            clock,
            schemes,
            shared: SharedSignatures::default(),
            signers: Arc::new(Semaphore::new(cores)),
            timeout: fetch.timeout,
            max_body: usize::try_from(fetch.max_body.as_u64()).unwrap_or(usize::MAX),
        }
    }

    /// The same client, which signs as another of our actors: with the same keys, under that actor's key ids.
    #[must_use]
    pub fn speaking_as(&self, actor: &Iri) -> Self {
        Self { speaker: Some(actor.clone()), ..self.clone() }
    }

    /// The client underneath, for what needs no signature.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Our keys.
    #[must_use]
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Reads the ActivityPub document at this address (a fragment is left out).
    ///
    /// If the document claims another id on the same origin, that one is asked, once, and must be what it says.
    ///
    /// # Errors
    /// [`FetchFault`].
    pub async fn get(&self, address: &Iri) -> Result<Fetched, FetchFault> {
        self.get_on(address, self.journey()).await
    }

    /// The same for a document that a key is to be read from: not a single redirect to another origin is followed, since
    /// nothing there could be the key's. Who is not `familiar` has less time and shares half of the places.
    ///
    /// # Errors
    /// [`FetchFault`].
    pub async fn get_key(&self, address: &Iri, familiar: bool) -> Result<Fetched, FetchFault> {
        let limit = if familiar { self.timeout } else { self.timeout.min(STRANGER_TIMEOUT) };
        let deadline = Instant::now() + limit;
        let journey = Journey { deadline, limit, at_home: true, stranger: !familiar, ..self.journey() };
        self.get_on(address, journey).await
    }

    /// The same as [`SignedClient::get`] for a document that is known as it was under this `ETag`: if it is still the same,
    /// it is not sent (RFC 9110 section 13.1.2).
    ///
    /// # Errors
    /// [`FetchFault`]; [`FetchFault::Unchanged`].
    pub async fn get_changed(&self, address: &Iri, etag: HeaderValue) -> Result<Fetched, FetchFault> {
        self.get_on(address, Journey { unless: Some(etag), ..self.journey() }).await
    }

    async fn get_on(&self, address: &Iri, journey: Journey) -> Result<Fetched, FetchFault> {
        let kind = if journey.at_home { "key" } else { "document" };
        self.counted(kind, self.find(address, journey).await)
    }

    /// Counts what came of wanting a document.
    fn counted<T>(&self, kind: &'static str, outcome: Result<T, FetchFault>) -> Result<T, FetchFault> {
        let result = outcome.as_ref().map_or_else(FetchFault::word, |_found| "ok");
        self.client.metrics().fetches.with_label_values(&[kind, result]).inc();
        outcome
    }

    async fn find(&self, address: &Iri, mut journey: Journey) -> Result<Fetched, FetchFault> {
        let requested = address.without_fragment();
        let arrival = self.travel(&requested, &mut journey).await?;
        let id = id_of(&arrival)?;
        match judge(&requested, &arrival.came_from, &id, false) {
            Verdict::Take => Ok(arrival.under(id)),
            Verdict::Refuse => Err(elsewhere(&requested, &arrival.came_from, &id)),
            Verdict::AskAgain => {
                let arrival = self.travel(&id, &mut journey).await?;
                let again = id_of(&arrival)?;
                match judge(&id, &arrival.came_from, &again, true) {
                    Verdict::Take => Ok(arrival.under(again)),
                    Verdict::AskAgain | Verdict::Refuse => Err(elsewhere(&id, &arrival.came_from, &again)),
                }
            }
        }
    }

    /// Reads a JSON document that is no ActivityPub document. Not signed: these are public by their nature.
    ///
    /// # Errors
    /// [`FetchFault`].
    pub async fn get_json(&self, address: &Url, kind: JsonKind) -> Result<JsonAnswer, FetchFault> {
        self.counted("json", self.find_json(address, kind).await)
    }

    async fn find_json(&self, address: &Url, kind: JsonKind) -> Result<JsonAnswer, FetchFault> {
        let mut journey = self.journey();
        let mut here = canonical(address)?;
        loop {
            self.check(&here)?;
            let headers = vec![(ACCEPT, HeaderValue::from_static(kind.accept))];
            let answer = self.ask(&here, headers, kind.limit, &journey).await?;
            if let Some(next) = self.follow(&mut journey, &here, &answer).await? {
                here = next;
                continue;
            }
            let answer = whole(answer)?;
            let value = read(&answer, |content_type| is_one_of(content_type, kind.types))?;
            return Ok(JsonAnswer { url: here.url(), value });
        }
    }

    /// Posts an activity once, signed for this inbox. Any status is an answer; redirects are not followed.
    ///
    /// # Errors
    /// [`NetFault`] says why there is no answer.
    pub async fn post(
        &self,
        inbox: &Iri,
        body: &Bytes,
        digest: &Body,
        scheme: Scheme,
        timeout: Duration,
    ) -> Result<Answer, NetFault> {
        let headers = self.sign(scheme, Method::POST, inbox, Some(*digest)).await?;
        self.deliver(inbox.url(), body, headers, timeout).await
    }

    /// The same with a signature that names no host, and that all share to whom this is posted at the same path in the same
    /// second. For what anybody may have, to who takes it.
    ///
    /// # Errors
    /// As [`SignedClient::post`].
    pub async fn post_shared(
        &self,
        inbox: &Iri,
        body: &Bytes,
        digest: &Body,
        timeout: Duration,
    ) -> Result<Answer, NetFault> {
        let (key, url, at) = (self.key_for(inbox), inbox.url(), self.clock.now());
        let make = async {
            let (signer, path, over) = (key.clone(), url.clone(), *digest);
            self.signing(move || http_sig::sign_shared(&signer, &path, &over, at)).await
        };
        let headers = self.shared.get(digest, &url, at, key.key_id(), make).await?;
        self.deliver(url, body, headers.to_vec(), timeout).await
    }

    async fn deliver(
        &self,
        url: Url,
        body: &Bytes,
        headers: Vec<(HeaderName, HeaderValue)>,
        timeout: Duration,
    ) -> Result<Answer, NetFault> {
        let request = Outgoing {
            method: Method::POST,
            url,
            headers,
            body: Some(body.clone()),
            timeout,
            read_limit: POST_ANSWER_BYTES,
            strict: false,
        };
        self.client.send(request).await
    }

    fn journey(&self) -> Journey {
        Journey {
            deadline: Instant::now() + self.timeout,
            limit: self.timeout,
            redirects: REDIRECTS,
            at_home: false,
            stranger: false,
            unless: None,
        }
    }

    /// The client asks the guard as well; asked here, nothing is signed for and remembered of what it refuses.
    fn check(&self, here: &Iri) -> Result<(), FetchFault> {
        self.client.guard().check_url(&here.url()).map_err(FetchFault::Refused)
    }

    /// Where an answer leads on to, if it does. Whoever is led to has its budget charged, or strangers could turn us on it.
    async fn follow(&self, journey: &mut Journey, here: &Iri, answer: &Answer) -> Result<Option<Iri>, FetchFault> {
        let Some(next) = journey.redirected(here, answer)? else { return Ok(None) };
        self.check(&next)?;
        if next.authority() != here.authority() {
            self.hosts.led_to(&next.authority()).await.map_err(FetchFault::TryLater)?;
        }
        Ok(Some(next))
    }

    /// Follows redirects to a document.
    async fn travel(&self, from: &Iri, journey: &mut Journey) -> Result<Arrival, FetchFault> {
        let (mut here, asked_at) = (from.clone(), self.clock.now());
        loop {
            self.check(&here)?;
            let answer = self.knock(&here, journey).await?;
            if answer.status == 304 && journey.unless.is_some() {
                return Err(FetchFault::Unchanged);
            }
            // What is found elsewhere is another document.
            journey.unless = None;
            if let Some(next) = self.follow(journey, &here, &answer).await? {
                here = next;
                continue;
            }
            let answer = whole(answer)?;
            let value = read(&answer, is_document)?;
            let etag = answer.headers.get(ETAG).filter(|etag| etag.len() <= MAX_ETAG).cloned();
            return Ok(Arrival { came_from: here, value, bytes: answer.body, asked_at, etag });
        }
    }

    /// One signed GET; a second one with the other profile when the first was answered 400 or 401 (Akkoma authenticates
    /// with 400). Which profile worked is remembered.
    async fn knock(&self, here: &Iri, journey: &Journey) -> Result<Answer, FetchFault> {
        let authority = here.authority();
        let scheme = self.schemes.get(&authority).await.unwrap_or(Scheme::Cavage);
        let first = self.ask_signed(here, scheme, journey).await?;
        if !matches!(first.status, 400 | 401) {
            return Ok(first);
        }
        let second = self.ask_signed(here, scheme.other(), journey).await?;
        if matches!(second.status, 200..=399 | 404 | 410) {
            self.schemes.insert(authority, scheme.other()).await;
        }
        // Of two refusals the first is the one to report: it is about the profile that this server is known to take.
        Ok(if matches!(second.status, 400 | 401) { first } else { second })
    }

    async fn ask_signed(&self, here: &Iri, scheme: Scheme, journey: &Journey) -> Result<Answer, FetchFault> {
        let mut headers = self.sign(scheme, Method::GET, here, None).await?;
        headers.push((ACCEPT, ACCEPT_DOCUMENT));
        headers.extend(journey.unless.clone().map(|etag| (IF_NONE_MATCH, etag)));
        self.ask(here, headers, self.max_body, journey).await
    }

    /// One request, when the host's turn comes.
    async fn ask(
        &self,
        here: &Iri,
        headers: Vec<(HeaderName, HeaderValue)>,
        read_limit: usize,
        journey: &Journey,
    ) -> Result<Answer, FetchFault> {
        let turn = match timeout_at(journey.deadline, self.hosts.turn(&here.authority(), journey.stranger)).await {
            Ok(turn) => turn.map_err(FetchFault::TryLater)?,
            Err(_elapsed) => return Err(FetchFault::TryLater("busy")),
        };
        let timeout = journey.deadline.saturating_duration_since(Instant::now());
        // What was left of the time decides whether running out of it says anything about the host.
        let fair = timeout >= journey.limit / 2;
        let url = here.url();
        let request = Outgoing { method: Method::GET, url, headers, body: None, timeout, read_limit, strict: false };
        let outcome = self.client.send(request).await;
        match &outcome {
            Ok(_) => turn.went(true),
            Err(NetFault::Dns | NetFault::Connect | NetFault::Tls | NetFault::Protocol) => turn.went(false),
            // Once a connection stands it is about one page, and of a host there may always be some that are slow or cut
            // off: strangers, who choose pages, could give it a rest from everybody.
            Err(NetFault::Broken) if !journey.stranger => turn.went(false),
            Err(NetFault::Timeout) if fair && !journey.stranger => turn.went(false),
            Err(
                NetFault::Broken
                | NetFault::Timeout
                | NetFault::Exhausted
                | NetFault::Refused(_)
                | NetFault::TooBig
                | NetFault::Coding,
            ) => {}
        }
        Ok(outcome?)
    }

    /// A signature for one request to one server.
    async fn sign(
        &self,
        scheme: Scheme,
        method: Method,
        to: &Iri,
        body: Option<Body>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, NetFault> {
        let (key, url, at) = (self.key_for(to), to.url(), self.clock.now());
        self.signing(move || http_sig::sign(scheme, &key, &method, &url, body.as_ref(), at)).await
    }

    /// What signs a request to this server now.
    fn key_for(&self, to: &Iri) -> SigningKey {
        let keys = self.keys.signs_for(&to.authority());
        self.speaker.as_ref().map_or_else(|| keys.rsa.clone(), |actor| keys.rsa.of(actor))
    }

    /// RSA takes a quarter to half a millisecond: on a blocking thread, and never on more of them than there are cores.
    async fn signing(
        &self,
        sign: impl FnOnce() -> Vec<(HeaderName, HeaderValue)> + Send + 'static,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, NetFault> {
        let place = self.signers.clone().acquire_owned().await.map_err(|_closed| NetFault::Broken)?;
        let seconds = self.client.metrics().signature_seconds.with_label_values(&["sign"]);
        let signing = tokio::task::spawn_blocking(move || {
            let _place = place;
            let _timer = seconds.start_timer();
            sign()
        });
        signing.await.map_err(|_panic| NetFault::Broken)
    }
}

impl Arrival {
    fn under(self, id: Iri) -> Fetched {
        Fetched { id, value: self.value, bytes: self.bytes, asked_at: self.asked_at, etag: self.etag }
    }
}

impl Journey {
    /// Where an answer leads on to; `None` if it is no redirect.
    fn redirected(&mut self, here: &Iri, answer: &Answer) -> Result<Option<Iri>, FetchFault> {
        if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        if self.redirects == 0 {
            return Err(FetchFault::Invalid(format!("more than {REDIRECTS} redirects")));
        }
        self.redirects -= 1;
        let location = answer.header(&LOCATION).ok_or_else(|| invalid("a redirect without a location"))?;
        let mut next = here.url().join(location).map_err(|_cause| invalid("a redirect to no URL"))?;
        next.set_fragment(None);
        if next.scheme() != here.url().scheme() {
            return Err(invalid("a redirect to another scheme"));
        }
        let next = canonical(&next)?;
        if self.at_home && !next.same_origin(here) {
            return Err(invalid("a redirect to another origin"));
        }
        Ok(Some(next))
    }
}

fn canonical(url: &Url) -> Result<Iri, FetchFault> {
    Iri::parse(url.as_str()).map_err(|fault| FetchFault::Invalid(format!("a URL that we do not take: {fault}")))
}

fn invalid(what: &str) -> FetchFault {
    FetchFault::Invalid(what.to_owned())
}

/// A 200, complete and without a content coding (the client has undone gzip; we asked for no other).
fn whole(answer: Answer) -> Result<Answer, FetchFault> {
    if answer.status != 200 {
        return Err(status_fault(answer.status));
    }
    if answer.truncated {
        return Err(NetFault::TooBig.into());
    }
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !answer.headers.get_all(CONTENT_ENCODING).iter().all(plain) {
        return Err(invalid("it came in a content coding that we did not ask for"));
    }
    Ok(answer)
}

fn read(answer: &Answer, takes: impl Fn(Option<&str>) -> bool) -> Result<Value, FetchFault> {
    let content_type = single(&answer.headers, &CONTENT_TYPE);
    if !takes(content_type) {
        let shown: String = content_type.unwrap_or("none").chars().take(100).collect();
        return Err(FetchFault::Invalid(format!("its content type is not taken: {shown:?}")));
    }
    json::parse(&answer.body).map_err(|fault| FetchFault::Invalid(fault.to_string()))
}

/// Of two values different readers would take different ones.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

fn id_of(arrival: &Arrival) -> Result<Iri, FetchFault> {
    let id = arrival.value.get("id").and_then(Value::as_str).ok_or_else(|| invalid("the document has no id"))?;
    Iri::parse(id).map_err(|fault| FetchFault::Invalid(format!("the document's id is not taken: {fault}")))
}

fn elsewhere(requested: &Iri, came_from: &Iri, id: &Iri) -> FetchFault {
    FetchFault::Invalid(format!("asked for {requested}, {came_from} answered with a document that calls itself {id}"))
}

#[cfg(test)]
mod tests;

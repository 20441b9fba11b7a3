//! Reading actors. A document is kept under the id that its origin serves it under, never under one that somebody else
//! claimed for it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;

use super::memory::Kept;
use super::{PeerFault, Peers, READING_LIFE, Reading};
use crate::cache::Kind;
use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::net::{FetchFault, Fetched};
use crate::wire::actor::RemoteActor;
use crate::wire::json;

/// How long an origin is believed that a document did not change, before it is read whole again: some are wrong about it.
const ETAG_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// How long a 404 or 410 is believed of an id that we never read.
const NEVER_KNOWN_LIFE: Duration = Duration::from_secs(60);

/// What came of asking an origin for an actor.
pub(super) struct Read {
    pub(super) actor: Kept<Arc<RemoteActor>>,
    /// The newest that it said about being found. In hand, since memory may be told to forget it at any moment.
    pub(super) reading: Option<Arc<Reading>>,
}

impl Read {
    fn fault(actor: Kept<Arc<RemoteActor>>) -> Self {
        Self { actor, reading: None }
    }
}

impl Peers {
    /// From the disk if it is young enough there, else from its origin.
    pub(super) async fn load_actor(&self, id: &Iri) -> Kept<Arc<RemoteActor>> {
        let now = self.clock.now();
        if let Some(kept) = self.stored_actor(id).filter(|kept| now < kept.until) {
            return kept;
        }
        if let Some(kept) = self.stored_missing(id).filter(|kept| now < kept.until) {
            return kept;
        }
        self.fetch_actor(id).await.actor
    }

    /// From its origin; the outcome goes to disk.
    pub(super) async fn fetch_actor(&self, id: &Iri) -> Read {
        let asked_at = self.clock.now();
        let known = self.stored_actor(id).and_then(|_readable| self.disk.get(Kind::Etag, id.as_str()));
        let known = known.filter(|etag| asked_at.since(etag.at) < ETAG_LIFE);
        let etag = known.and_then(|etag| HeaderValue::from_bytes(&etag.bytes).ok());
        let fetched = match etag {
            Some(etag) => self.client.get_changed(id, etag).await,
            None => self.client.get(id).await,
        };
        match fetched {
            Err(FetchFault::Unchanged) => match self.unchanged(id, asked_at).await {
                Some(read) => read,
                // It was forgotten meanwhile.
                None => self.take_actor(id, self.client.get(id).await).await,
            },
            fetched => self.take_actor(id, fetched).await,
        }
    }

    /// The document that we have, which its origin says is the newest.
    async fn unchanged(&self, id: &Iri, asked_at: Timestamp) -> Option<Read> {
        let cached = self.disk.get(Kind::Actor, id.as_str())?;
        let value = json::parse(&cached.bytes).ok()?;
        let actor = RemoteActor::read(&value).ok().filter(|actor| actor.id == *id)?;
        let (until, size) = (asked_at.plus(self.lifetimes.actor), cached.bytes.len());
        let fetched = Fetched { id: id.clone(), value, bytes: cached.bytes, asked_at, etag: None };
        let (is_newest, reading) = self.note_reading(&fetched).await;
        if is_newest {
            // The `ETag` keeps the time of the last whole reading.
            self.disk.put(Kind::Actor, id.as_str(), &fetched.bytes, asked_at);
        }
        Some(Read { actor: Kept::value(Arc::new(actor), until, size), reading })
    }

    /// Judges what came for this id and writes it down.
    pub(super) async fn take_actor(&self, id: &Iri, fetched: Result<Fetched, FetchFault>) -> Read {
        let outcome = match fetched {
            Ok(fetched) => read_actor(id, &fetched.id, &fetched.value).map(|actor| (actor, fetched)),
            Err(fault) => Err(fault.into()),
        };
        match outcome {
            Ok((actor, fetched)) => self.keep_actor(actor, &fetched).await,
            Err(fault) => Read::fault(self.keep_fault(id, fault)),
        }
    }

    /// Writes down an actor that was just read from its origin, and what it says about being found: whatever it was read
    /// for, it is the newest word, unless somebody asked later and was answered sooner.
    pub(super) async fn keep_actor(&self, actor: RemoteActor, fetched: &Fetched) -> Read {
        let until = fetched.asked_at.plus(self.lifetimes.actor);
        let (is_newest, reading) = self.note_reading(fetched).await;
        if !is_newest && let Some(newer) = self.stored_actor(&fetched.id) {
            return Read { actor: newer, reading };
        }
        if is_newest {
            // An `ETag` never stands beside an older document than its own, whatever a crash leaves of this.
            self.disk.remove(Kind::Etag, fetched.id.as_str());
            self.disk.put(Kind::Actor, fetched.id.as_str(), &fetched.bytes, fetched.asked_at);
            if let Some(etag) = &fetched.etag {
                self.disk.put(Kind::Etag, fetched.id.as_str(), etag.as_bytes(), fetched.asked_at);
            }
            self.disk.remove(Kind::Missing, fetched.id.as_str());
        }
        Read { actor: Kept::value(Arc::new(actor), until, fetched.bytes.len()), reading }
    }

    /// A fault with its lifetime; a 404 or 410 of what we knew is written down. The document itself stays: who is gone may
    /// still have said goodbye with the key in it.
    ///
    /// What we never knew is believed to be missing for a minute only: strangers name ids before they exist.
    pub(super) fn keep_fault<T>(&self, id: &Iri, fault: PeerFault) -> Kept<T> {
        let now = self.clock.now();
        let mut life = self.lifetimes.of(&fault);
        if let PeerFault::Gone { status } = fault {
            if [Kind::Actor, Kind::KeyOwner].into_iter().any(|kind| self.disk.contains(kind, id.as_str())) {
                self.disk.put(Kind::Missing, id.as_str(), &status.to_be_bytes(), now);
            } else {
                life = life.min(NEVER_KNOWN_LIFE);
            }
        }
        let until = now.plus(life);
        Kept::fault(fault, until)
    }

    /// The actor on disk, however old: `until` tells.
    pub(super) fn stored_actor(&self, id: &Iri) -> Option<Kept<Arc<RemoteActor>>> {
        let cached = self.disk.get(Kind::Actor, id.as_str())?;
        let value = json::parse(&cached.bytes).ok()?;
        let actor = RemoteActor::read(&value).ok().filter(|actor| actor.id == *id)?;
        Some(Kept::value(Arc::new(actor), self.until(cached.at, self.lifetimes.actor), cached.bytes.len()))
    }

    /// That this id was missing when we asked last.
    pub(super) fn stored_missing<T>(&self, id: &Iri) -> Option<Kept<T>> {
        let cached = self.disk.get(Kind::Missing, id.as_str())?;
        let status = u16::from_be_bytes(cached.bytes.as_ref().try_into().ok()?);
        Some(Kept::fault(PeerFault::Gone { status }, self.until(cached.at, self.lifetimes.missing)))
    }

    /// Records from a future (of a clock that was wrong once) are too old, or they would be new until it comes.
    pub(super) fn until(&self, at: Timestamp, life: Duration) -> Timestamp {
        let now = self.clock.now();
        if at > now { now } else { at.plus(life) }
    }

    pub(super) async fn has_actor(&self, id: &Iri) -> bool {
        matches!(self.actors.get(id, self.clock.now()).await, Some(Ok(_)))
            || self.disk.contains(Kind::Actor, id.as_str())
    }

    /// Nothing that was read of it is new enough for anything from now on, but that it is known, and its keys.
    pub(super) async fn outdate_actor(&self, id: &Iri) {
        self.actors.remove(id).await;
        self.readings.remove(id).await;
        if let Some(cached) = self.disk.get(Kind::Actor, id.as_str()) {
            let old = self.clock.now().minus(self.lifetimes.actor.max(READING_LIFE));
            self.disk.put(Kind::Actor, id.as_str(), &cached.bytes, old.min(cached.at));
        }
    }

    pub(super) async fn forget_actor(&self, id: &Iri) {
        let kept = match self.actors.get(id, self.clock.now()).await {
            Some(Ok(actor)) => Some(actor),
            _ => self.stored_actor(id).and_then(|kept| kept.outcome.ok()),
        };
        for key in kept.iter().flat_map(|actor| &actor.keys) {
            self.forget_key(&key.id).await;
        }
        self.actors.remove(id).await;
        self.readings.remove(id).await;
        self.disk.remove(Kind::Etag, id.as_str());
        self.disk.remove(Kind::Actor, id.as_str());
        self.disk.remove(Kind::Missing, id.as_str());
    }
}

/// Reads the document that was found for `asked`. A Tombstone (ActivityPub section 6.4) in the actor's place is a 410 by
/// another name.
fn read_actor(asked: &Iri, id: &Iri, value: &Value) -> Result<RemoteActor, PeerFault> {
    if id != asked {
        return Err(PeerFault::Invalid(format!("{asked} is not an actor's id: it leads to {id}")));
    }
    if value.get("type").and_then(Value::as_str) == Some("Tombstone") {
        return Err(PeerFault::Gone { status: 410 });
    }
    Ok(RemoteActor::read(value)?)
}

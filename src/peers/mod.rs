//! Other servers' actors, keys, posts and software: from memory, then the cache on disk, then a fetch. One fetch at a time
//! per id, however many ask; failures are remembered for a while; nothing is believed but what its own origin serves.
//!
//! What peers may do is `policy`'s business; what their activities mean is `relay`'s. Nothing here is the only place where
//! a fact is kept: all of it can be read again.

mod actors;
mod budgets;
mod discovery;
pub mod errands;
mod fault;
mod keys;
mod memory;
pub mod queue;
mod readings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use fault::PeerFault;
pub use readings::{READING_LIFE, Reading};

use crate::cache::Cache;
use crate::clock::Clock;
use crate::config;
use crate::ids::{Authority, Iri};
use crate::net::SignedClient;
use crate::wire::actor::{ActorKey, RemoteActor};
use crate::wire::discovery::Software;
use budgets::{Budgets, Places};
use fault::Lifetimes;
use keys::Stored;
use memory::{Kept, Memory};

/// How long a failure to read a post is remembered. Short: a post may be announced to us before its server shows it. Who
/// tries again sooner learns nothing new.
pub const POST_FAULT_LIFE: Duration = Duration::from_secs(60);

/// How long a key that was read for a request counts as just read: longer than that request takes.
const FIRST_READ_LIFE: Duration = Duration::from_secs(10);

/// Bytes of memory for each kind of thing, about.
const ACTOR_MEMORY: u64 = 48 * 1024 * 1024;
const KEY_MEMORY: u64 = 24 * 1024 * 1024;
const SMALL_MEMORY: u64 = 8 * 1024 * 1024;

/// Whether we have dealings with a server. Asked for each key that we do not know: it must be cheap.
pub type IsFamiliar = Arc<dyn Fn(&Authority) -> bool + Send + Sync>;

#[derive(Clone)]
struct Familiar(IsFamiliar);

impl fmt::Debug for Familiar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Familiar")
    }
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peers {
    client: SignedClient,
    disk: Cache,
    clock: Clock,
    lifetimes: Lifetimes,
    budgets: Budgets,
    familiar: Familiar,
    places: Places,
    actors: Memory<Arc<RemoteActor>>,
    keys: Memory<Arc<ActorKey>>,
    /// Keys that were just read from their origin, for a request that is under way still.
    first_reads: Memory<()>,
    /// The latest second look at each key: what it gave.
    rereads: Memory<Option<Arc<ActorKey>>>,
    software: Memory<Software>,
    /// Who said not long ago that they changed.
    changes: Memory<()>,
    /// What authors said about being found.
    readings: Memory<Arc<Reading>>,
    /// Only failures; posts that can be read are not kept.
    post_faults: Memory<()>,
}

impl Peers {
    /// Reads through `client`, keeps in `cache`, by the lifetimes of `[fetch]`.
    #[must_use]
    pub fn new(client: SignedClient, cache: Cache, clock: Clock, fetch: &config::Fetch) -> Self {
        Self {
            client,
            disk: cache,
            clock,
            lifetimes: Lifetimes::new(fetch),
            budgets: Budgets::new(),
            familiar: Familiar(Arc::new(|_nobody| false)),
            places: Places::default(),
            actors: Memory::new(ACTOR_MEMORY),
            keys: Memory::new(KEY_MEMORY),
            first_reads: Memory::for_limits(SMALL_MEMORY),
            rereads: Memory::for_limits(SMALL_MEMORY),
            software: Memory::new(SMALL_MEMORY),
            changes: Memory::for_limits(SMALL_MEMORY),
            readings: Memory::for_limits(SMALL_MEMORY),
            post_faults: Memory::for_limits(SMALL_MEMORY),
        }
    }

    /// The same with a way to tell whom we know. Reading keys of the others has a deadline of 4 s and half of the places:
    /// else strangers' slow servers could keep new authors of familiar servers waiting. Without it, nobody is familiar.
    #[must_use]
    pub fn with_familiar(self, is_familiar: IsFamiliar) -> Self {
        Self { familiar: Familiar(is_familiar), ..self }
    }

    /// The actor with this id, at most `fetch.actor_ttl` old.
    ///
    /// # Errors
    /// [`PeerFault`]; remembered for a while, so that asking again is cheap.
    pub async fn actor(&self, id: &Iri) -> Result<Arc<RemoteActor>, PeerFault> {
        self.actors.get_or(id, self.clock.now(), Box::pin(self.load_actor(id))).await
    }

    /// The actor with this id, read from its origin now.
    ///
    /// # Errors
    /// [`PeerFault`].
    pub async fn actor_fresh(&self, id: &Iri) -> Result<Arc<RemoteActor>, PeerFault> {
        self.read_fresh(id).await.actor.outcome
    }

    async fn read_fresh(&self, id: &Iri) -> actors::Read {
        let read = Box::pin(self.fetch_actor(id)).await;
        self.actors.put(id, read.actor.clone()).await;
        read
    }

    /// Whether we have read this actor before and still have it, in memory or in the cache. Asks nobody.
    pub async fn known(&self, actor: &Iri) -> bool {
        self.has_actor(actor).await
    }

    /// Forgets all about an actor: its document, its keys, that it was missing.
    pub async fn forget(&self, actor: &Iri) {
        self.forget_actor(actor).await;
    }

    /// An actor says that it has changed: what we have of it is read again before it is believed. Its keys only once per
    /// `fetch.key_refetch`: it may say so with every request, and a key that fails is read again anyway.
    pub async fn changed(&self, actor: &Iri) {
        let now = self.clock.now();
        if self.changes.get(actor, now).await.is_some() {
            return self.outdate_actor(actor).await;
        }
        self.changes.put(actor, Kept::value((), now.plus(self.lifetimes.key_refetch), 0)).await;
        self.forget_actor(actor).await;
    }

    /// The key with this id, and who signs with it: its `owner`, by the owner's own document (wire rules of key binding:
    /// same origin, exactly this key id, exactly these key bytes).
    ///
    /// Kept as long as the owner's document; an origin that does not answer does not invalidate a key that we know.
    ///
    /// # Errors
    /// [`PeerFault`]; `TryLater("busy")` also when too many new keys of one host are asked for, and at once when too many
    /// requests wait for keys that we do not know: for those of one registrable domain as many as are left to the others,
    /// of a stranger's 8; 128 in all, 64 of them for strangers'.
    pub async fn key(&self, key_id: &Iri) -> Result<Arc<ActorKey>, PeerFault> {
        let now = self.clock.now();
        if let Some(outcome) = self.keys.get(key_id, now).await {
            self.first_reads.remove(key_id).await;
            return outcome;
        }
        let stored = self.stored_key(key_id);
        let authority = key_id.authority();
        let stranger = !self.is_familiar(&authority);
        let _place = match stored {
            Stored::Nothing => Some(self.places.take(&authority, stranger).ok_or(PeerFault::TryLater("busy"))?),
            Stored::Key { .. } | Stored::Missing(_) => None,
        };
        self.keys.get_or(key_id, now, Box::pin(self.load_key(key_id, stored))).await
    }

    /// Whether it is known from memory what [`Peers::key`] would say: a key, or that there is none. Asks nobody.
    pub async fn remembers_key(&self, key_id: &Iri) -> bool {
        self.keys.get(key_id, self.clock.now()).await.is_some()
    }

    /// A second look at a key, for a signature that failed: its owner may have a new one.
    ///
    /// Each key is read again at most once per `fetch.key_refetch`; who asks within that time gets what that one look
    /// gave. `None`: the latest call of [`Peers::key`] read it from its origin, seconds ago; there is nothing newer.
    ///
    /// # Errors
    /// [`PeerFault`]; `TryLater("busy")` when its host was asked too often just now; `Invalid` when the owner does not list the key any longer: then it is no longer believed either.
    pub async fn refetch_key(&self, key_id: &Iri) -> Result<Option<Arc<ActorKey>>, PeerFault> {
        let now = self.clock.now();
        if self.first_reads.get(key_id, now).await.is_some() {
            return Ok(None);
        }
        self.rereads.get_or(key_id, now, Box::pin(self.reread_key(key_id))).await
    }

    /// The key that we last read under this id, if its origin now answers 410 and we read it within 30 days. For goodbyes
    /// only. Asks nobody: [`Peers::key`] did.
    pub async fn last_key(&self, key_id: &Iri) -> Option<Arc<ActorKey>> {
        match self.keys.get(key_id, self.clock.now()).await {
            Some(Err(PeerFault::Gone { status: 410 })) => self.stored_last_key(key_id),
            _ => None,
        }
    }

    /// The document with this id, from its origin: a post, as a rule. Not kept. Its own `id` is verified and on the same
    /// origin, but may differ from `id` where that is only a way to it: use the document's.
    ///
    /// # Errors
    /// [`PeerFault`]; remembered for a minute.
    pub async fn document(&self, id: &Iri) -> Result<Value, PeerFault> {
        let now = self.clock.now();
        if let Some(Err(fault)) = self.post_faults.get(id, now).await {
            return Err(fault);
        }
        match Box::pin(self.client.get(id)).await {
            Ok(fetched) => Ok(fetched.value),
            Err(fault) => {
                let fault = PeerFault::from(fault);
                let life = self.lifetimes.of(&fault).min(POST_FAULT_LIFE);
                self.post_faults.put(id, Kept::fault(fault.clone(), now.plus(life))).await;
                Err(fault)
            }
        }
    }

    /// What a server runs, by its NodeInfo, at most a day old. `scheme` is that of its actors' ids.
    ///
    /// # Errors
    /// [`PeerFault`]; remembered for a while.
    pub async fn software(&self, authority: &Authority, scheme: &str) -> Result<Software, PeerFault> {
        let origin = discovery::origin(scheme, authority)?;
        self.software.get_or(&origin, self.clock.now(), Box::pin(self.load_software(&origin))).await
    }

    /// The same, read from the server now.
    ///
    /// # Errors
    /// [`PeerFault`].
    pub async fn software_fresh(&self, authority: &Authority, scheme: &str) -> Result<Software, PeerFault> {
        let origin = discovery::origin(scheme, authority)?;
        let kept = Box::pin(self.read_software(&origin)).await;
        self.software.put(&origin, kept.clone()).await;
        kept.outcome
    }

    /// The actor id that an operator means: `@user@host` or `user@host` by WebFinger, or an actor's URL taken as it is.
    ///
    /// # Errors
    /// [`PeerFault::Invalid`] says what is wrong with the text or the answer.
    pub async fn resolve_handle(&self, text: &str) -> Result<Iri, PeerFault> {
        Box::pin(self.find_actor(text.trim())).await
    }
}

#[cfg(test)]
mod tests;

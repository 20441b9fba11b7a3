//! Other servers' actors, keys, posts and software: from memory, then the cache on disk, then a fetch. One fetch at a time
//! per id, however many ask; failures are remembered for a while; nothing is believed but what its own origin serves.
//!
//! What peers may do is `policy`'s business; what their activities mean is `relay`'s. Nothing here is the only place where
//! a fact is kept: all of it can be read again.

mod actors;
mod budgets;
mod discovery;
mod fault;
mod keys;
mod memory;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use fault::PeerFault;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::config;
use crate::ids::{Authority, Iri};
use crate::net::SignedClient;
use crate::wire::actor::{ActorKey, RemoteActor};
use crate::wire::discovery::Software;
use budgets::Budgets;
use fault::Lifetimes;
use memory::{Kept, Memory};

/// How long a failure to read a post is remembered. Short: a post may be announced to us before its server shows it.
const POST_FAULT_LIFE: Duration = Duration::from_secs(60);

/// Bytes of memory for each kind of thing, about.
const ACTOR_MEMORY: u64 = 48 * 1024 * 1024;
const KEY_MEMORY: u64 = 24 * 1024 * 1024;
const SMALL_MEMORY: u64 = 8 * 1024 * 1024;

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peers {
    client: SignedClient,
    disk: Cache,
    clock: Clock,
    lifetimes: Lifetimes,
    budgets: Budgets,
    actors: Memory<Arc<RemoteActor>>,
    keys: Memory<Arc<ActorKey>>,
    /// The latest second look at each key: what it gave, or that there was no room for one.
    rereads: Memory<Option<Arc<ActorKey>>>,
    software: Memory<Software>,
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
            actors: Memory::new(ACTOR_MEMORY),
            keys: Memory::new(KEY_MEMORY),
            rereads: Memory::for_limits(SMALL_MEMORY),
            software: Memory::new(SMALL_MEMORY),
            post_faults: Memory::for_limits(SMALL_MEMORY),
        }
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
        let kept = Box::pin(self.fetch_actor(id)).await;
        self.actors.put(id, kept.clone()).await;
        kept.outcome
    }

    /// Whether we have read this actor before and still have it, in memory or in the cache. Asks nobody.
    pub async fn known(&self, actor: &Iri) -> bool {
        self.has_actor(actor).await
    }

    /// Forgets all about an actor: its document, its keys, that it was missing.
    pub async fn forget(&self, actor: &Iri) {
        self.forget_actor(actor).await;
    }

    /// The key with this id, and who signs with it: its `owner`, by the owner's own document (wire rules of key binding:
    /// same origin, exactly this key id, exactly these key bytes).
    ///
    /// Kept as long as the owner's document; an origin that does not answer does not invalidate a key that we know.
    ///
    /// # Errors
    /// [`PeerFault`]; `TryLater("busy")` also when too many new keys of one host are asked for.
    pub async fn key(&self, key_id: &Iri) -> Result<Arc<ActorKey>, PeerFault> {
        self.keys.get_or(key_id, self.clock.now(), Box::pin(self.load_key(key_id))).await
    }

    /// A second look at a key, for a signature that failed: its owner may have a new one.
    ///
    /// Each key is read again at most once per `fetch.key_refetch`; who asks within that time gets what that one look
    /// gave. `None`: there was no room for a look just now.
    ///
    /// # Errors
    /// [`PeerFault`]; `Invalid` when the owner does not list the key any longer: then it is no longer believed either.
    pub async fn refetch_key(&self, key_id: &Iri) -> Result<Option<Arc<ActorKey>>, PeerFault> {
        self.rereads.get_or(key_id, self.clock.now(), Box::pin(self.reread_key(key_id))).await
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

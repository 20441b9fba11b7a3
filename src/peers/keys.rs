//! Whose key is it? A key belongs to an actor when the actor's own document, read from the actor's own address, lists
//! exactly this key id with exactly these bytes. What the key's document says about its owner is only where to ask
//! (Fedify CVE-2026-96625 came of believing it).
//!
//! So a key is never kept by itself: on disk there is only who owns it, and the key is read from the owner's document.

use std::sync::Arc;
use std::time::Duration;

use super::memory::Kept;
use super::{FIRST_READ_LIFE, PeerFault, Peers};
use crate::cache::Kind;
use crate::ids::{Authority, Iri};
use crate::net::Fetched;
use crate::wire::actor::{ActorKey, KeyDocument, RemoteActor};
use crate::wire::key::PublicKey;

/// How old a document on disk may be for its keys to count while its origin does not answer.
const STALE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long such a key is used before its origin is asked again.
const STALE_RETRY: Duration = Duration::from_secs(5 * 60);

/// What a key takes in memory beside the id: RSA, parsed.
const KEY_BYTES: usize = 1024;

type KeptKey = Kept<Arc<ActorKey>>;

/// What the disk knows of a key.
pub(super) enum Stored {
    /// The key, in its owner's document.
    Key {
        owner: Iri,
        known: KeptKey,
    },
    /// That its document was missing not long ago.
    Missing(KeptKey),
    Nothing,
}

impl Peers {
    /// What the disk knows of a key, however old.
    pub(super) fn stored_key(&self, key_id: &Iri) -> Stored {
        let document = key_id.without_fragment();
        let owner = self.stored_owner(key_id).unwrap_or_else(|| document.clone());
        if let Some(known) = self.stored_actor(&owner).and_then(|kept| self.key_of(kept, key_id)) {
            return Stored::Key { owner, known };
        }
        let missing = self.stored_missing(&document).filter(|kept| self.clock.now() < kept.until);
        missing.map_or(Stored::Nothing, Stored::Missing)
    }

    /// The key in its owner's document on disk, unless that is too old for anything.
    pub(super) fn stored_last_key(&self, key_id: &Iri) -> Option<Arc<ActorKey>> {
        let Stored::Key { known, .. } = self.stored_key(key_id) else { return None };
        let read_at = known.until.minus(self.lifetimes.actor);
        if self.clock.now() < read_at.plus(STALE_LIFE) { known.outcome.ok() } else { None }
    }

    /// Whether we have dealings with this server.
    pub(super) fn is_familiar(&self, authority: &Authority) -> bool {
        (self.familiar.0)(authority)
    }

    /// From the documents we have, else from the key's address and its owner's.
    pub(super) async fn load_key(&self, key_id: &Iri, stored: Stored) -> KeptKey {
        let document = key_id.without_fragment();
        let now = self.clock.now();
        match stored {
            Stored::Key { known, .. } if now < known.until => return known,
            Stored::Key { owner, known } => return self.renew_key(key_id, &owner, known).await,
            Stored::Missing(missing) => return missing,
            Stored::Nothing => {}
        }
        if !self.budgets.new_key(&key_id.authority()).await {
            return Kept::fault(PeerFault::TryLater("busy"), now);
        }
        let found = self.find_key(key_id, &document).await;
        self.just_read(key_id, &found).await;
        found
    }

    /// Notes that a request has waited for this key to be read: a second look for its sake would find the same.
    async fn just_read(&self, key_id: &Iri, read: &KeptKey) {
        if read.outcome.is_ok() {
            let until = self.clock.now().plus(FIRST_READ_LIFE);
            self.first_reads.put(key_id, Kept::value((), until, 0)).await;
        }
    }

    /// A known key whose owner's document has grown old: read it again. An origin that does not answer changes nothing;
    /// one that answers decides.
    async fn renew_key(&self, key_id: &Iri, owner: &Iri, known: KeptKey) -> KeptKey {
        let now = self.clock.now();
        let usable = now < known.until.minus(self.lifetimes.actor).plus(STALE_LIFE);
        let renewed = if self.budgets.new_key(&key_id.authority()).await {
            self.read_owner(key_id, owner).await
        } else {
            Kept::fault(PeerFault::TryLater("busy"), now)
        };
        match &renewed.outcome {
            Err(PeerFault::TryLater(_)) if usable => known.believed_until(now.plus(STALE_RETRY)),
            _ => {
                self.just_read(key_id, &renewed).await;
                renewed
            }
        }
    }

    /// The second look: at the owner's address if we know it, else at the key's.
    pub(super) async fn reread_key(&self, key_id: &Iri) -> Kept<Option<Arc<ActorKey>>> {
        let now = self.clock.now();
        if !self.budgets.reread(&key_id.authority()).await {
            return Kept::fault(PeerFault::TryLater("busy"), now);
        }
        let looked = match self.stored_owner(key_id) {
            Some(owner) => self.read_owner(key_id, &owner).await,
            None => self.find_key(key_id, &key_id.without_fragment()).await,
        };
        match &looked.outcome {
            Ok(_) => self.keys.put(key_id, looked.clone()).await,
            Err(fault) if fault.is_ours() => return looked.map(Some).believed_until(now),
            Err(_) => {}
        }
        looked.map(Some).believed_until(now.plus(self.lifetimes.key_refetch))
    }

    pub(super) async fn forget_key(&self, key_id: &Iri) {
        self.keys.remove(key_id).await;
        self.first_reads.remove(key_id).await;
        self.disk.remove(Kind::KeyOwner, key_id.as_str());
    }

    /// Asks the key's address, and its owner where that is another document.
    async fn find_key(&self, key_id: &Iri, document: &Iri) -> KeptKey {
        let fetched = match self.client.get_key(document, self.is_familiar(&document.authority())).await {
            Ok(fetched) => fetched,
            Err(fault) => return self.keep_fault(document, fault.into()),
        };
        match claim(key_id, &fetched) {
            Ok(Claim::OfItself(actor)) => {
                let kept = self.keep_actor(actor, &fetched).await.actor;
                self.actors.put(&fetched.id, kept.clone()).await;
                self.owned(key_id, kept).await
            }
            Ok(Claim::OfAnother { owner, key }) => {
                let listed = self.read_owner(key_id, &owner).await;
                match &listed.outcome {
                    Ok(found) if found.key != key => {
                        self.disk.remove(Kind::KeyOwner, key_id.as_str());
                        self.keep_fault(key_id, invalid(key_id, "its owner lists another key under this id"))
                    }
                    _ => listed,
                }
            }
            Err(fault) => self.keep_fault(key_id, fault),
        }
    }

    /// Reads the owner's document, now, and takes the key from it.
    async fn read_owner(&self, key_id: &Iri, owner: &Iri) -> KeptKey {
        let fetched = self.client.get_key(owner, self.is_familiar(&owner.authority())).await;
        let kept = self.take_actor(owner, fetched).await.actor;
        // A fault of this moment does not displace a document that we have.
        if !matches!(kept.outcome, Err(PeerFault::TryLater(_))) {
            self.actors.put(owner, kept.clone()).await;
        }
        self.owned(key_id, kept).await
    }

    /// The key in its owner's document that was just read; writes down whose it is. A key that is not listed there is
    /// not believed any longer.
    async fn owned(&self, key_id: &Iri, kept: Kept<Arc<RemoteActor>>) -> KeptKey {
        if let Err(fault) = kept.outcome {
            return Kept::fault(fault, kept.until);
        }
        match self.key_of(kept, key_id) {
            Some(found) => {
                if let Ok(key) = &found.outcome {
                    let now = self.clock.now();
                    self.disk.put(Kind::KeyOwner, key_id.as_str(), key.owner.as_str().as_bytes(), now);
                }
                found
            }
            None => {
                self.forget_key(key_id).await;
                self.keep_fault(key_id, invalid(key_id, "its owner does not list it"))
            }
        }
    }

    /// The key with this id in an actor's own document; the rules of `wire` have bound its owner to the document.
    fn key_of(&self, kept: Kept<Arc<RemoteActor>>, key_id: &Iri) -> Option<KeptKey> {
        let actor = kept.outcome.ok()?;
        let key = actor.key(key_id.as_str())?;
        let ours = key.owner == actor.id && key_id.same_origin(&actor.id);
        ours.then(|| Kept::value(Arc::new(key.clone()), kept.until, KEY_BYTES))
    }

    fn stored_owner(&self, key_id: &Iri) -> Option<Iri> {
        let cached = self.disk.get(Kind::KeyOwner, key_id.as_str())?;
        let owner = Iri::parse(std::str::from_utf8(&cached.bytes).ok()?).ok()?;
        owner.same_origin(key_id).then_some(owner)
    }
}

/// What the document at a key's address says about it.
enum Claim {
    /// It is the actor's own document, and lists the key: nothing more to ask.
    OfItself(RemoteActor),
    /// It is a key, or an actor cut short: the owner has to confirm it.
    OfAnother { owner: Iri, key: PublicKey },
}

fn claim(key_id: &Iri, fetched: &Fetched) -> Result<Claim, PeerFault> {
    let document = KeyDocument::read(&fetched.value)?;
    let key = document.key(key_id.as_str()).ok_or_else(|| invalid(key_id, "the document at its address lacks it"))?;
    let owner = document.owner();
    if !owner.same_origin(key_id) || !fetched.id.same_origin(key_id) {
        return Err(invalid(key_id, "its owner is on another server"));
    }
    match document {
        KeyDocument::Actor(actor) if actor.id == fetched.id => Ok(Claim::OfItself(actor)),
        _ => Ok(Claim::OfAnother { owner: owner.clone(), key: key.clone() }),
    }
}

fn invalid(key_id: &Iri, what: &str) -> PeerFault {
    PeerFault::Invalid(format!("key {key_id}: {what}"))
}

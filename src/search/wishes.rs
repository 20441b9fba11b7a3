//! What people ask of the search about themselves: to be read again, to be taken out for good, to come back. They need no
//! account here and write nothing in public but a word in their own profile, which they may take out again.
//!
//! Promises: nothing is kept of who asked. A profile is read because somebody asked at most once in ten minutes, and only
//! where that can be of use: of an account that we know, or on a server that has switched search on. From the answers
//! nobody learns who said no to us.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::Search;
use super::authors::AuthorToRead;
use super::gather::{known, says};
use crate::clock::Timestamp;
use crate::consent::Reason;
use crate::ids::{Authority, Iri};
use crate::peers::PeerFault;
use crate::peers::queue::Key;
use crate::store::{StoreError, Tx, Wish};

/// Between two readings of one profile that somebody asked for.
pub const GAP: Duration = Duration::from_secs(600);
/// Profiles of one server read within that time because somebody asked.
const OF_SERVER: usize = 60;
/// And of all.
const IN_ALL: usize = 10_000;
/// How long an answer waits for the reading that it is about.
const PATIENCE: Duration = Duration::from_secs(12);

/// Why a wish is not granted, by what whoever asked can do about it.
#[derive(Debug, Error)]
pub enum WishFault {
    /// It names nobody.
    #[error("say whose: one handle (name@host), or the address of the account's own document (https://…)")]
    Nobody,
    /// A handle that we do not know.
    #[error("no posts are held of an account with this handle")]
    UnknownHandle,
    /// Nothing is held, and nothing would be.
    #[error("nothing is held of this account")]
    NothingHeld,
    /// The token is not the one of this account and wish.
    #[error("this is not the word that was given to this account for this")]
    WrongToken,
    /// Their profile does not show it.
    #[error("the word is not in the profile, as its own server shows it to us")]
    NotShown,
    /// It was read a moment ago because somebody asked.
    #[error("the profile was read a moment ago")]
    TooSoon {
        /// When it may be asked again.
        after: Duration,
    },
    /// Their server does not show it to us just now.
    #[error("the account's server does not show us its profile")]
    Unreadable,
    /// The account is gone: so is all that was held.
    #[error("the account's server says that there is no such account (any more)")]
    Gone,
    /// Ours to mend.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How somebody stands after they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAgain {
    /// Their posts may be found.
    pub indexed: bool,
    /// All that stands against it.
    pub reasons: Vec<Reason>,
    /// When they were read.
    pub read_at: Option<Timestamp>,
    /// Posts held.
    pub posts: u64,
}

/// Whom we read lately because somebody asked. In memory: a restart forgets it.
#[derive(Default)]
pub(super) struct Lately(Mutex<HashMap<Key, (Timestamp, Authority)>>);

impl Lately {
    /// Claims a reading.
    fn claim(&self, actor: &Iri, now: Timestamp) -> Result<(), WishFault> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (at, _)| now.since(*at) < GAP);
        if let Some((at, _)) = all.get(&actor.key()) {
            return Err(WishFault::TooSoon { after: GAP.saturating_sub(now.since(*at)) });
        }
        let server = actor.authority();
        if all.len() >= IN_ALL || all.values().filter(|(_, of)| *of == server).count() >= OF_SERVER {
            return Err(WishFault::TooSoon { after: GAP });
        }
        all.insert(actor.key(), (now, server));
        Ok(())
    }
}

impl Search {
    /// The word that this account shows in its profile to prove the wish. Asks nobody and keeps nothing.
    ///
    /// # Errors
    /// [`WishFault::Nobody`], [`WishFault::UnknownHandle`], [`WishFault::Store`].
    pub fn token_of(&self, who: &str, wish: Wish) -> Result<String, WishFault> {
        Ok(self.0.store.token(&self.somebody(who)?, wish))
    }

    /// Grants the wish if this is its word and the account's profile shows it now; how many posts went.
    ///
    /// # Errors
    /// [`WishFault`].
    pub async fn grant(&self, who: &str, wish: Wish, token: &str) -> Result<u64, WishFault> {
        let actor = self.somebody(who)?;
        let word = self.0.store.token(&actor, wish);
        if token.trim() != word {
            return Err(WishFault::WrongToken);
        }
        let on = self.0.store.search_servers().contains_key(&actor.authority());
        if !on && !self.is_held(&actor)? {
            return Err(WishFault::NothingHeld);
        }
        self.0.read_lately.claim(&actor, self.0.clock.now())?;
        match self.0.peers.shows_now(&actor, &word).await {
            Ok(true) => {}
            Ok(false) => return Err(WishFault::NotShown),
            Err(fault) => {
                // What follows from it follows for what is held as well.
                if self.is_held(&actor)? {
                    self.read_soon(&actor).await?;
                }
                return Err(match fault {
                    PeerFault::Gone { .. } => WishFault::Gone,
                    _ => WishFault::Unreadable,
                });
            }
        }
        let number = self.0.store.ledger()?.author(&actor)?.map(|author| author.number);
        let posts = number.map_or(Ok(0), |number| self.0.store.posts_of(number))?;
        let grant = move |tx: &mut Tx<'_>| match wish {
            Wish::Removal => {
                tx.withdraw_author(&actor)?;
                tx.note_removal(&actor)
            }
            Wish::Return => tx.lift_removal(&actor).map(drop),
        };
        self.0.store.write(grant).await?;
        self.count(match wish {
            Wish::Removal => "removed-by-proof",
            Wish::Return => "returned-by-proof",
        });
        Ok(posts)
    }

    /// Reads an account again whose posts are held, or that said no and may say yes now; how it stands then.
    ///
    /// # Errors
    /// [`WishFault`].
    pub async fn read_again(&self, who: &str) -> Result<ReadAgain, WishFault> {
        let actor = self.somebody(who)?;
        // Who blocks us, or asked to be left alone, is: for others that looks as if nothing was known of them.
        let may_change = self.0.store.refused(&actor)?.is_some_and(|no| !no.lasts());
        if !self.is_held(&actor)? && !may_change {
            return Err(WishFault::NothingHeld);
        }
        let asked_at = self.0.clock.now();
        self.0.read_lately.claim(&actor, asked_at)?;
        self.read_soon(&actor).await?;
        let read = async {
            while self.waits(&actor, asked_at)? {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok::<_, StoreError>(())
        };
        // Longer than that its server takes its time; it is asked for again by itself.
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(done) => done?,
            Err(_elapsed) => return Err(WishFault::Unreadable),
        }
        let author = self.0.store.ledger()?.author(&actor)?;
        let kept = self.0.peers.kept_reading(&actor).await.filter(|reading| reading.read_at >= asked_at);
        let refused = self.0.store.refused(&actor)?;
        let Some(reading) = kept else { return Err(WishFault::Unreadable) };
        let about = author.as_ref().map_or_else(Default::default, |author| known(author, refused.as_ref()));
        let reasons = self.reasons(&actor, says(&reading), about);
        let posts = author.as_ref().map_or(Ok(0), |author| self.0.store.posts_of(author.number))?;
        let indexed = reasons.is_empty() && author.is_some();
        Ok(ReadAgain { indexed, reasons, read_at: Some(reading.read_at), posts })
    }

    fn somebody(&self, who: &str) -> Result<Iri, WishFault> {
        let who = who.trim();
        if who.contains("://") {
            return Iri::parse(who).map_err(|_fault| WishFault::Nobody);
        }
        let (name, host) = who.trim_start_matches('@').split_once('@').ok_or(WishFault::Nobody)?;
        let (Ok(host), false) = (Authority::parse(host), name.is_empty()) else { return Err(WishFault::Nobody) };
        self.0.store.indexed_actor(&format!("{name}@{host}"))?.ok_or(WishFault::UnknownHandle)
    }

    /// Posts of theirs are held, or wait for them to be read.
    fn is_held(&self, actor: &Iri) -> Result<bool, StoreError> {
        let waits = self.0.store.get::<AuthorToRead>(&super::authors::row(actor.key()));
        Ok(self.0.store.ledger()?.author(actor)?.is_some() || self.0.store.sound(waits)?.is_some())
    }

    async fn read_soon(&self, actor: &Iri) -> Result<(), StoreError> {
        let (search, actor) = (self.clone(), actor.clone());
        self.0.store.write(move |tx| search.ask(tx, &actor, None, true)).await
    }

    /// Whether the reading that was asked for is still to come.
    fn waits(&self, actor: &Iri, asked_at: Timestamp) -> Result<bool, StoreError> {
        let row = self.0.store.get::<AuthorToRead>(&super::authors::row(actor.key()));
        Ok(self.0.store.sound(row)?.is_some_and(|row| row.due() <= asked_at.max(self.0.clock.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn actor(server: usize, number: usize) -> Iri {
        Iri::parse(&format!("https://s{server}.example/users/{number}")).unwrap()
    }

    #[test]
    fn a_profile_is_read_for_somebody_once_in_ten_minutes_and_a_server_and_all_are_spared() {
        let lately = Lately::default();
        let claim = |actor: &Iri, at: Timestamp| lately.claim(actor, at).is_ok();
        assert!(claim(&actor(0, 0), NOON));
        let soon = lately.claim(&actor(0, 0), NOON.plus(Duration::from_secs(540)));
        assert!(matches!(soon, Err(WishFault::TooSoon { after }) if after == Duration::from_secs(60)), "{soon:?}");
        assert!(claim(&actor(0, 0), NOON.plus(GAP)), "later again");
        let taken = (1..100).filter(|number| claim(&actor(0, *number), NOON.plus(GAP))).count();
        assert_eq!(taken, OF_SERVER - 1);
        assert!(claim(&actor(1, 0), NOON.plus(GAP)), "another server's are");
        let others = (2..IN_ALL + 100).filter(|server| claim(&actor(*server, 0), NOON.plus(GAP))).count();
        assert_eq!(others, IN_ALL - OF_SERVER - 1);
    }
}

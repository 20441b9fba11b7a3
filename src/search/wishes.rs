//! What people ask of the search about themselves: to be read again, to be taken out for good, to come back, to be found
//! with what they wrote before they said yes. They need no account here and write nothing in public but a word in their own
//! profile, which they may take out again.
//!
//! Promises: nothing is kept of who asked, but in memory for ten minutes a number that stands for their network. A profile
//! is read because somebody asked at most once a minute, and once in ten for one asker, and only where that can be of use:
//! of an account that we know, or on a server that has switched search on. Whoever asks for whatever, the word that takes
//! an account out is looked for and does: who tries to use up somebody's readings grants their wish. From the answers
//! nobody learns who said no to us.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
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
use crate::policy::limits::network;
use crate::store::{IndexedAuthor, StoreError, Tx, Wish};

/// Between two readings of one profile that the same asker asked for,
pub const GAP: Duration = Duration::from_secs(600);
/// and that different ones did.
const GAP_OF_OTHERS: Duration = Duration::from_secs(60);
/// Profiles of one server that are read within [`GAP`] because somebody asked: of accounts of which something is held,
const OF_SERVER: usize = 300;
/// and of others, which anybody can make up.
const OF_SERVER_UNHELD: usize = 60;
/// Of all servers, of either kind.
const IN_ALL: usize = 10_000;
/// Readings that one asker is given in that time.
const OF_ASKER: usize = 20;
/// How long a word is good that was given: this week and the next one.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
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

/// What was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// The account is out, for good; so many posts went.
    Removed {
        /// Posts.
        posts: u64,
    },
    /// Its profile counts again.
    Returned,
    /// Posts from before its consent are taken, too.
    OlderToo,
}

/// Whom we read lately because somebody asked. In memory: a restart forgets it.
#[derive(Default)]
pub(super) struct Lately {
    claims: Mutex<HashMap<(Key, u64), Claim>>,
    hasher: RandomState,
}

struct Claim {
    at: Timestamp,
    server: Authority,
    held: bool,
}

impl Lately {
    /// Claims a reading of `actor`, of whom something is held or not, for whoever asks from `from`.
    fn claim(&self, actor: &Iri, held: bool, from: Option<IpAddr>, now: Timestamp) -> Result<(), WishFault> {
        let asker = self.hasher.hash_one(from.map(network));
        let (key, server) = (actor.key(), actor.authority());
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|_, claim| now.since(claim.at) < GAP);
        let wait = |gap: Duration, at: Timestamp| gap.saturating_sub(now.since(at));
        let (mut after, mut of_asker, mut of_kind, mut of_server) = (Duration::ZERO, 0, 0, 0);
        for ((whose, whom), claim) in claims.iter() {
            if *whose == key {
                after = after.max(wait(if *whom == asker { GAP } else { GAP_OF_OTHERS }, claim.at));
            }
            of_asker += usize::from(*whom == asker);
            of_kind += usize::from(claim.held == held);
            of_server += usize::from(claim.held == held && claim.server == server);
        }
        let most = if held { OF_SERVER } else { OF_SERVER_UNHELD };
        if after.is_zero() && ((from.is_some() && of_asker >= OF_ASKER) || of_kind >= IN_ALL || of_server >= most) {
            after = GAP;
        }
        if !after.is_zero() {
            return Err(WishFault::TooSoon { after });
        }
        claims.insert((key, asker), Claim { at: now, server, held });
        Ok(())
    }
}

impl Search {
    /// The word that this account shows in its profile to prove the wish. Asks nobody and keeps nothing.
    ///
    /// # Errors
    /// [`WishFault::Nobody`], [`WishFault::UnknownHandle`], [`WishFault::Store`].
    pub fn token_of(&self, who: &str, wish: Wish) -> Result<String, WishFault> {
        Ok(self.0.store.token(&self.somebody(who)?, wish, self.0.clock.now()))
    }

    /// Grants the wish of whoever asks from this address, if this is its word and the account's profile shows it now. Where
    /// the profile shows the word of a removal, that is granted, whatever was asked for.
    ///
    /// # Errors
    /// [`WishFault`].
    pub async fn grant(&self, who: &str, wish: Wish, token: &str, from: Option<IpAddr>) -> Result<Granted, WishFault> {
        let actor = self.somebody(who)?;
        if !self.tokens(&actor, wish).iter().any(|word| word == token.trim()) {
            return Err(WishFault::WrongToken);
        }
        let (on, held) = (self.0.store.search_servers().contains_key(&actor.authority()), self.is_held(&actor)?);
        if !on && !held {
            return Err(WishFault::NothingHeld);
        }
        self.0.read_lately.claim(&actor, held, from, self.0.clock.now())?;
        let shown = self.wishes_shown(&actor).await?;
        if shown.contains(&Wish::Removal) {
            return self.remove(&actor).await;
        }
        if !shown.contains(&wish) {
            return Err(WishFault::NotShown);
        }
        if wish == Wish::Older {
            return self.take_older(actor).await;
        }
        self.0.store.write(move |tx| tx.lift_removal(&actor).map(drop)).await?;
        self.count("returned-by-proof");
        Ok(Granted::Returned)
    }

    async fn take_older(&self, actor: Iri) -> Result<Granted, WishFault> {
        let ever = Some(Timestamp::default());
        let note = move |tx: &mut Tx<'_>| match tx.indexed_author(&actor)? {
            Some(author) => tx.put_indexed_author(&actor, IndexedAuthor { since: ever, ..author }).map(|_row| true),
            None => Ok(false),
        };
        if !self.0.store.write(note).await? {
            return Err(WishFault::NothingHeld);
        }
        self.count("older-by-proof");
        Ok(Granted::OlderToo)
    }

    /// The words of this week and of the last one.
    fn tokens(&self, actor: &Iri, wish: Wish) -> [String; 2] {
        let now = self.0.clock.now();
        [now, now.minus(WEEK)].map(|at| self.0.store.token(actor, wish, at))
    }

    /// Reads the profile now; which wishes it shows.
    async fn wishes_shown(&self, actor: &Iri) -> Result<Vec<Wish>, WishFault> {
        let wishes = [Wish::Removal, Wish::Return, Wish::Older];
        let words = wishes.map(|wish| self.tokens(actor, wish)).concat();
        match self.0.peers.shows_now(actor, &words).await {
            Ok(shown) => {
                let each = wishes.into_iter().zip(shown.chunks(2));
                Ok(each.filter(|(_, two)| two.contains(&true)).map(|(wish, _)| wish).collect())
            }
            Err(fault) => {
                // What follows from it follows for what is held as well.
                if self.is_held(actor)? || self.to_be_read(actor)?.is_some() {
                    self.read_soon(actor, true).await?;
                }
                Err(match fault {
                    PeerFault::Gone { .. } => WishFault::Gone,
                    _ => WishFault::Unreadable,
                })
            }
        }
    }

    async fn remove(&self, actor: &Iri) -> Result<Granted, WishFault> {
        let number = self.0.store.ledger()?.author(actor)?.map(|author| author.number);
        let posts = number.map_or(Ok(0), |number| self.0.store.posts_of(number))?;
        let actor = actor.clone();
        let remove = move |tx: &mut Tx<'_>| {
            tx.withdraw_author(&actor)?;
            tx.take_back_author(&actor)?;
            tx.note_removal(&actor)
        };
        self.0.store.write(remove).await?;
        self.count("removed-by-proof");
        Ok(Granted::Removed { posts })
    }

    /// Reads an account again of which something is held; how it stands then. One that said no before is read as well, but
    /// whoever asks is told the same as of a stranger: nobody learns from it who did.
    ///
    /// # Errors
    /// [`WishFault`].
    pub async fn read_again(&self, who: &str, from: Option<IpAddr>) -> Result<ReadAgain, WishFault> {
        let actor = self.somebody(who)?;
        let now = self.0.clock.now();
        if !self.is_held(&actor)? {
            let on = self.0.store.search_servers().contains_key(&actor.authority());
            let said_no = self.0.store.refused(&actor)?.is_some_and(|no| !no.lasts());
            let may_change = on && (said_no || self.to_be_read(&actor)?.is_some());
            if may_change && self.0.read_lately.claim(&actor, false, from, now).is_ok() {
                self.read_soon(&actor, true).await?;
            }
            return Err(WishFault::NothingHeld);
        }
        let asked_at = now;
        self.0.read_lately.claim(&actor, true, from, asked_at)?;
        if self.wishes_shown(&actor).await?.contains(&Wish::Removal) {
            self.remove(&actor).await?;
            let reasons = vec![Reason::Removed];
            return Ok(ReadAgain { indexed: false, reasons, read_at: Some(self.0.clock.now()), posts: 0 });
        }
        // It was read just now; the reader of authors does what follows from that.
        self.read_soon(&actor, false).await?;
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

    /// Posts of theirs are held, or counted. That some wait for them to be read is not asked: it would tell who was read just now.
    fn is_held(&self, actor: &Iri) -> Result<bool, StoreError> {
        Ok(self.0.store.ledger()?.author(actor)?.is_some() || self.0.store.has_ballots(actor)?)
    }

    fn to_be_read(&self, actor: &Iri) -> Result<Option<AuthorToRead>, StoreError> {
        self.0.store.sound(self.0.store.get::<AuthorToRead>(&super::authors::row(actor.key())))
    }

    /// Has the account read by the worker that heeds what it says. `anew`: even if it was read just now.
    async fn read_soon(&self, actor: &Iri, anew: bool) -> Result<(), StoreError> {
        let (search, actor) = (self.clone(), actor.clone());
        let ask = move |tx: &mut Tx<'_>| {
            // One that waits for its next try is tried now.
            let waits = super::authors::to_read(tx, actor.key())?.is_some();
            search.ask(tx, &actor, None, anew || waits)
        };
        self.0.store.write(ask).await
    }

    /// Whether the reading that was asked for is still to come.
    fn waits(&self, actor: &Iri, asked_at: Timestamp) -> Result<bool, StoreError> {
        Ok(self.to_be_read(actor)?.is_some_and(|row| row.due() <= asked_at.max(self.0.clock.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn actor(server: usize, number: usize) -> Iri {
        Iri::parse(&format!("https://s{server}.example/users/{number}")).unwrap()
    }

    const ONE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn asker(number: usize) -> Option<IpAddr> {
        let [.., third, fourth] = u32::try_from(number).unwrap().to_be_bytes();
        Some(IpAddr::V4(std::net::Ipv4Addr::new(198, 18, third, fourth)))
    }

    #[test]
    fn nobody_can_keep_others_from_being_taken_out() {
        let lately = Lately::default();
        let claim = |from, after: u64| lately.claim(&actor(0, 0), true, from, NOON.plus(Duration::from_secs(after)));
        assert!(claim(ONE, 0).is_ok());
        let soon = claim(ONE, 540);
        assert!(matches!(soon, Err(WishFault::TooSoon { after }) if after == Duration::from_secs(60)), "{soon:?}");
        let lately = Lately::default();
        let claim = |from, after: u64| lately.claim(&actor(0, 0), true, from, NOON.plus(Duration::from_secs(after)));
        assert!(claim(ONE, 0).is_ok());
        let others = claim(asker(7), 20);
        assert!(matches!(others, Err(WishFault::TooSoon { after }) if after == Duration::from_secs(40)), "{others:?}");
        assert!(claim(asker(7), 60).is_ok(), "who is not the one that asked waits a minute and not ten");
        assert!(claim(ONE, 599).is_err() && claim(ONE, 600).is_ok());
    }

    #[test]
    fn made_up_accounts_use_up_no_ones_readings() {
        let lately = Lately::default();
        let claim = |who: Iri, held: bool, from| lately.claim(&who, held, from, NOON).is_ok();
        let made_up = (0..100).filter(|number| claim(actor(0, *number), false, ONE)).count();
        assert_eq!(made_up, OF_ASKER, "one asker has so many");
        let made_up = (100..300).filter(|number| claim(actor(0, *number), false, asker(*number))).count();
        assert_eq!(made_up, OF_SERVER_UNHELD - OF_ASKER, "and all together");
        let held = (1000..2000).filter(|number| claim(actor(0, *number), true, asker(*number))).count();
        assert_eq!(held, OF_SERVER, "which leaves those for whom there is something to be done");
        let others = (1..IN_ALL + 100).filter(|server| claim(actor(*server, 0), true, asker(server / 10))).count();
        assert_eq!(others, IN_ALL - OF_SERVER, "of all servers");
        assert!(claim(actor(IN_ALL + 500, 0), false, asker(9999)));
    }
}

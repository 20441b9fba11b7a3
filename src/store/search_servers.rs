//! Servers whose admin said yes to search: the second key beside each author's own. One row per server; no row is a no.
//!
//! Held in memory as well, because it is asked for every post that is taken in and every hit that is shown.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::{Record, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};

/// All of them.
pub type SearchServers = Arc<HashMap<Authority, Arc<SearchServer>>>;

/// Who said yes for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchedBy {
    /// Its own instance actor, which follows our search actor.
    Admin {
        /// The actor.
        actor: Iri,
        /// Its inbox.
        inbox: Iri,
        /// The Follow as it came.
        follow: Value,
    },
    /// The operator of this relay wrote it down; the reason says on whose word.
    Operator,
}

/// A server that search is switched on for. Keyed by its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchServer {
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: SwitchedBy,
    /// Why, in the operator's words; empty if its admin did it.
    #[serde(default)]
    pub reason: String,
    /// Other actors that speak for the server and follow too: each of them may switch it off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<SearchFollow>,
}

/// One actor's Follow of our search actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchFollow {
    /// The actor.
    pub actor: Iri,
    /// Its inbox.
    pub inbox: Iri,
    /// The Follow as it came.
    pub follow: Value,
}

impl SearchServer {
    /// Who follows for it, the first one first; nobody if the operator wrote it down.
    #[must_use]
    pub fn follows(&self) -> Vec<SearchFollow> {
        let first = match &self.by {
            SwitchedBy::Admin { actor, inbox, follow } => {
                Some(SearchFollow { actor: actor.clone(), inbox: inbox.clone(), follow: follow.clone() })
            }
            SwitchedBy::Operator => None,
        };
        first.into_iter().chain(self.also.iter().cloned()).collect()
    }

    /// Whether this actor is one of them.
    #[must_use]
    pub fn is_followed_by(&self, actor: &Iri) -> bool {
        matches!(&self.by, SwitchedBy::Admin { actor: first, .. } if first == actor)
            || self.also.iter().any(|one| one.actor == *actor)
    }

    /// The same with one more Follow. Who turned the switch keeps it, and a newer Follow takes the older one's place; what
    /// the operator wrote down is the admin's from then on.
    #[must_use]
    pub fn followed_by(mut self, new: SearchFollow) -> Self {
        match &mut self.by {
            SwitchedBy::Admin { actor, inbox, follow } if *actor == new.actor => {
                (*inbox, *follow) = (new.inbox, new.follow);
            }
            SwitchedBy::Admin { .. } => {
                self.also.retain(|one| one.actor != new.actor);
                self.also.push(new);
            }
            SwitchedBy::Operator => {
                let SearchFollow { actor, inbox, follow } = new;
                (self.by, self.reason) = (SwitchedBy::Admin { actor, inbox, follow }, String::new());
            }
        }
        self
    }
}

impl Record for SearchServer {
    const TABLE: &'static str = "search_servers";
}

/// Search was switched off for a server: whose consent began before that has ended, whether it is on again or not. Keyed by
/// its authority, until all of these are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The newest number that an author had then.
    pub up_to: u64,
}

impl Record for Leaving {
    const TABLE: &'static str = "search_leaving";
}

/// When search was switched off for a server: so that lines of an older export do not switch it on again. Keyed by its
/// authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedOff {
    /// When.
    pub at: Timestamp,
}

impl Record for SwitchedOff {
    const TABLE: &'static str = "search_switched_off";
}

impl Tx<'_> {
    /// Takes over that search was on for a server elsewhere, unless it was switched off here since.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub(super) fn import_search(&mut self, authority: &Authority, server: SearchServer) -> Result<(), StoreError> {
        let off = self.get::<SwitchedOff>(authority.as_str())?;
        if off.is_some_and(|off| off.at >= server.since) {
            return Ok(());
        }
        self.switch_search(authority, Some(server)).map(drop)
    }

    /// Takes over that it was switched off elsewhere, unless it was switched on here since.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub(super) fn import_search_off(&mut self, authority: &Authority, off: SwitchedOff) -> Result<(), StoreError> {
        if self.search_server(authority)?.is_some_and(|on| on.since > off.at) {
            return Ok(());
        }
        self.switch_search(authority, None)?;
        self.put(authority.as_str(), &off)
    }

    /// Whether the consent that an author of this server had under this number ended with the server's.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn has_left(&self, authority: &Authority, author_number: u64) -> Result<bool, StoreError> {
        let leaving = self.sound(self.get::<Leaving>(authority.as_str()))?;
        Ok(leaving.is_some_and(|leaving| author_number <= leaving.up_to))
    }
}

impl Store {
    /// Every server that search is switched on for, as of the last commit.
    #[must_use]
    pub fn search_servers(&self) -> SearchServers {
        self.0.search_servers.borrow().clone()
    }

    /// Tells of every change to [`Store::search_servers`].
    #[must_use]
    pub fn follow_search_servers(&self) -> watch::Receiver<SearchServers> {
        self.0.search_servers.subscribe()
    }

    pub(super) fn reload_search_servers(&self) -> Result<(), StoreError> {
        let rows = self.all::<SearchServer>()?.into_iter();
        let all = rows.filter_map(|(name, row)| Some((Authority::parse(&name).ok()?, Arc::new(row)))).collect();
        self.0.search_servers.send_replace(Arc::new(all));
        Ok(())
    }
}

impl Tx<'_> {
    /// How search stands for a server, as this transaction sees it.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn search_server(&self, authority: &Authority) -> Result<Option<SearchServer>, StoreError> {
        self.get(authority.as_str())
    }

    /// Switches search on for a server, or off (`None`); readers see it once it is durable. Whether it was on before.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn switch_search(&mut self, authority: &Authority, on: Option<SearchServer>) -> Result<bool, StoreError> {
        let before = self.search_server(authority)?;
        match &on {
            Some(server) => {
                self.remove::<SwitchedOff>(authority.as_str())?;
                self.put(authority.as_str(), server)?;
            }
            None if before.is_some() => {
                self.remove::<SearchServer>(authority.as_str())?;
                let up_to = self.authors_ever()?;
                self.put(authority.as_str(), &Leaving { up_to })?;
                self.put(authority.as_str(), &SwitchedOff { at: self.store.0.clock.now() })?;
            }
            None => {}
        }
        let authority = authority.clone();
        self.after_commit(move |store| {
            store.0.search_servers.send_modify(|all| {
                let all = Arc::make_mut(all);
                match on {
                    Some(server) => drop(all.insert(authority, Arc::new(server))),
                    None => drop(all.remove(&authority)),
                }
            });
        });
        Ok(before.is_some())
    }
}

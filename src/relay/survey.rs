//! Learns what software each subscriber runs, from its NodeInfo: by it posts are forwarded or announced, and other relays
//! are held for the operator. A server that just asked to join is looked at first, and then answered. Servers that search
//! is on for are looked at like those that joined: rules about software hold for them too.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::Relay;
use super::subscribe::{Welcome, by_software};
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::peers::PeerFault;
use crate::store::{AuthorityFacts, SearchServer, StoreError, Subscriber, SubscriberState};
use crate::supervise::Worker;

/// NodeInfo is read again after this long: servers are upgraded, and seldom change software.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// What could not be read of a server that joined is tried again after this long.
const RETRY: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_secs(30);
/// How long to leave a busy store alone.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Servers looked at together, and how many of those may be servers that wait for nothing: joiners always find a place.
const AT_ONCE: usize = 16;
const ROUTINE_AT_ONCE: usize = 8;

/// The worker.
pub struct Survey {
    relay: Relay,
    /// What the store knows of each server that is here, so that a round reads nothing.
    book: HashMap<Authority, Known>,
    looks: JoinSet<Look>,
    under_way: HashSet<Authority>,
    ended: Vec<Result<Look, JoinError>>,
    store_busy: bool,
}

/// A look that ended: at whom, and what is known now.
type Look = (Authority, Result<Known, StoreError>);

/// When a server was last looked at, and whether that told what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    read: Option<Timestamp>,
    software: bool,
}

impl Known {
    fn of(facts: &AuthorityFacts) -> Self {
        Self { read: facts.software_read, software: facts.software.is_some() }
    }

    /// Whether to look again. A server that waits for the operator is looked at daily: it is in no hurry.
    fn is_due(self, state: SubscriberState, now: Timestamp) -> bool {
        let limit = if self.software || state == SubscriberState::Pending { FRESH } else { RETRY };
        state == SubscriberState::Checking || self.read.is_none_or(|at| now.since(at) > limit)
    }
}

impl Survey {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self {
            relay,
            book: HashMap::new(),
            looks: JoinSet::new(),
            under_way: HashSet::new(),
            ended: Vec::new(),
            store_busy: false,
        }
    }
}

impl Worker for Survey {
    fn name(&self) -> &'static str {
        "survey"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        self.store_busy = false;
        while let Some(ended) = self.looks.try_join_next() {
            self.ended.push(ended);
        }
        let ended = std::mem::take(&mut self.ended);
        let some = !ended.is_empty();
        for one in ended {
            let (authority, look) = one?;
            self.under_way.remove(&authority);
            match look {
                Ok(known) => {
                    self.book.insert(authority, known);
                }
                Err(StoreError::Busy) => self.store_busy = true,
                Err(error) => return Err(error.into()),
            }
        }
        if self.store_busy {
            return Ok(false);
        }
        self.begin()?;
        Ok(some)
    }

    async fn wait(&mut self) {
        if self.store_busy {
            return tokio::time::sleep(BUSY_PAUSE).await;
        }
        tokio::select! {
            () = self.relay.0.survey.notified() => {}
            Some(ended) = self.looks.join_next(), if !self.looks.is_empty() => self.ended.push(ended),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

impl Survey {
    /// Begins looks as far as there are places: first at servers that wait for an answer, then at those whose last look
    /// is longest ago.
    fn begin(&mut self) -> Result<(), StoreError> {
        let store = &self.relay.0.store;
        let (now, subscribers, searched) = (self.relay.0.clock.now(), store.subscribers(), store.search_servers());
        self.book.retain(|authority, _| subscribers.contains_key(authority) || searched.contains_key(authority));
        let here = subscribers.values().map(|one| Here::joined(one));
        let also = searched.iter().filter(|(authority, _)| !subscribers.contains_key(*authority));
        let mut due = Vec::new();
        for one in here.chain(also.map(|(authority, server)| Here::searched(authority, server))) {
            let authority = &one.authority;
            let known = match self.book.get(authority) {
                Some(known) => *known,
                None => {
                    let known = Known::of(&self.relay.facts(authority)?);
                    self.book.insert(authority.clone(), known);
                    known
                }
            };
            if known.is_due(one.state, now) && !self.under_way.contains(authority) {
                due.push((one.state != SubscriberState::Checking, known.read, one));
            }
        }
        due.sort_by_key(|(routine, read, one)| (*routine, *read, one.since));
        for (routine, _, one) in due {
            if self.looks.len() >= if routine { ROUTINE_AT_ONCE } else { AT_ONCE } {
                break;
            }
            self.look(one);
        }
        Ok(())
    }

    fn look(&mut self, one: Here) {
        let Here { authority, origin, .. } = one;
        self.under_way.insert(authority.clone());
        let relay = self.relay.clone();
        self.looks.spawn(async move {
            let look = relay.look_at(authority.clone(), &origin).await;
            (authority, look)
        });
    }
}

/// A server that is to be looked at.
struct Here {
    authority: Authority,
    state: SubscriberState,
    since: Timestamp,
    /// Of one of its actors; empty if none is known.
    origin: String,
}

impl Here {
    fn joined(one: &Subscriber) -> Self {
        let origin = one.registrations.first().map(|one| one.actor.origin().to_owned()).unwrap_or_default();
        Self { authority: one.authority.clone(), state: one.state, since: one.joined_at, origin }
    }

    /// It waits for nothing: what rules are against it ends it whenever that is known.
    fn searched(authority: &Authority, server: &SearchServer) -> Self {
        let origin = server.follows().first().map(|one| one.actor.origin().to_owned()).unwrap_or_default();
        Self { authority: authority.clone(), state: SubscriberState::Active, since: server.since, origin }
    }
}

impl Relay {
    async fn look_at(&self, authority: Authority, origin: &str) -> Result<Known, StoreError> {
        let scheme = origin.split_once("://").map_or("https", |(scheme, _)| scheme);
        let found = self.0.peers.software(&authority, scheme).await;
        if let Err(fault) = &found {
            tracing::debug!(peer.host = %authority, %fault, "its NodeInfo could not be read");
        }
        let relay = self.clone();
        let known = self
            .0
            .store
            .write(move |tx| {
                let mut facts = tx.get::<AuthorityFacts>(authority.as_str())?.unwrap_or_default();
                facts.software_read = Some(relay.0.clock.now());
                match found {
                    Ok(software) => {
                        // Other software verifies otherwise. A new version seldom does, and what stands before it is the same.
                        if facts.software.as_deref().is_some_and(|known| known != software.name)
                            && facts.shared.take().is_some()
                        {
                            relay.0.metrics.shared_signatures.with_label_values(&["software"]).inc();
                        }
                        facts.software = Some(software.name);
                        facts.version = Some(software.version);
                    }
                    // It has none, or hides it: then it is no software that we know.
                    Err(PeerFault::Gone { .. } | PeerFault::Forbidden | PeerFault::Invalid(_)) => facts.software = None,
                    Err(PeerFault::TryLater(_) | PeerFault::Refused(_)) => {}
                }
                tx.put(authority.as_str(), &facts)?;
                let (rules, now) = (relay.0.rules.set(), relay.0.clock.now());
                let welcome = by_software(&authority, &facts, &relay.0.config, &rules, now);
                if let Welcome::Reject(why) = welcome {
                    // Whether it waits or joined long ago: it may have changed its software, or we the rules.
                    let ended = relay.end_search(tx, &authority, why)?;
                    if relay.evict(tx, &authority, why)? || ended {
                        rules.server_with(&authority, facts.software.as_deref(), now).count(&relay.0.metrics);
                        tracing::info!(peer.host = %authority, software = facts.software, "a rule turns it away");
                    }
                } else if tx.subscriber(&authority)?.is_some_and(|one| one.state == SubscriberState::Checking) {
                    relay.settle(tx, &authority, welcome)?;
                    tracing::info!(peer.host = %authority, software = facts.software, joined = welcome == Welcome::Accept, "a server asked to join");
                }
                let known = Known::of(&facts);
                let rules = relay.0.rules.clone();
                tx.after_commit(move |_store| rules.learn([(authority, facts.software)]));
                Ok(known)
            })
            .await?;
        (self.0.signals.control)();
        Ok(known)
    }
}

impl Relay {
    /// What we learned of a server.
    ///
    /// # Errors
    /// The store's.
    pub fn facts(&self, authority: &Authority) -> Result<AuthorityFacts, StoreError> {
        Ok(self.0.store.get::<AuthorityFacts>(authority.as_str())?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_looked_at_daily_and_those_that_joined_hourly_until_it_is_known_what_they_run() {
        let now = Timestamp::from_secs(1_787_486_400);
        let check = |state, software, hours: Option<u64>, expected| {
            let read = hours.map(|hours| now.minus(Duration::from_secs(hours * 3600)));
            let known = Known { read, software };
            assert_eq!(known.is_due(state, now), expected, "{state:?} {known:?}");
        };
        for state in [SubscriberState::Checking, SubscriberState::Pending, SubscriberState::Active] {
            check(state, false, None, true);
            check(state, true, Some(25), true);
            check(state, true, Some(23), state == SubscriberState::Checking);
        }
        check(SubscriberState::Active, false, Some(2), true);
        check(SubscriberState::Active, false, Some(0), false);
        check(SubscriberState::Pending, false, Some(2), false);
        check(SubscriberState::Pending, false, Some(25), true);
        check(SubscriberState::Checking, false, Some(0), true);
    }
}

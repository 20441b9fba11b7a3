//! Learns what software each subscriber runs, from its NodeInfo: by it posts are forwarded or announced, and other relays
//! are held for the operator. A server that just asked to join is looked at first, and then answered.

use std::time::Duration;

use super::Relay;
use super::subscribe::{Welcome, by_software};
use crate::ids::Authority;
use crate::peers::PeerFault;
use crate::store::{AuthorityFacts, StoreError, SubscriberState};
use crate::supervise::Worker;

/// NodeInfo is read again after this long: servers are upgraded, and seldom change software.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// What could not be read is tried again after this long.
const RETRY: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_secs(30);
/// Servers looked at together.
const AT_ONCE: usize = 8;

/// The worker.
pub struct Survey {
    relay: Relay,
}

impl Survey {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { relay }
    }
}

impl Worker for Survey {
    fn name(&self) -> &'static str {
        "survey"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let due = self.relay.due_for_survey()?;
        let some = !due.is_empty();
        let mut looks = tokio::task::JoinSet::new();
        for (authority, origin) in due.into_iter().take(AT_ONCE) {
            let relay = self.relay.clone();
            looks.spawn(async move { relay.look_at(authority, &origin).await });
        }
        while let Some(done) = looks.join_next().await {
            done??;
        }
        Ok(some)
    }

    async fn wait(&mut self) {
        let _ = tokio::time::timeout(POLL, self.relay.0.survey.notified()).await;
    }
}

impl Relay {
    /// Servers whose software is unknown or was learned long ago, those that wait for an answer first.
    fn due_for_survey(&self) -> Result<Vec<(Authority, String)>, StoreError> {
        let now = self.0.clock.now();
        let mut due = Vec::new();
        for subscriber in self.0.store.subscribers().values() {
            let facts = self.0.store.get::<AuthorityFacts>(subscriber.authority.as_str())?.unwrap_or_default();
            let age = facts.software_read.map(|at| now.since(at));
            let checking = subscriber.state == SubscriberState::Checking;
            let limit = if facts.software.is_some() { FRESH } else { RETRY };
            if checking || age.is_none_or(|age| age > limit) {
                let origin =
                    subscriber.registrations.first().map(|one| one.actor.origin().to_owned()).unwrap_or_default();
                due.push((!checking, subscriber.authority.clone(), origin));
            }
        }
        due.sort();
        Ok(due.into_iter().map(|(_, authority, origin)| (authority, origin)).collect())
    }

    async fn look_at(&self, authority: Authority, origin: &str) -> Result<(), StoreError> {
        let scheme = origin.split("://").next().unwrap_or("https");
        let found = self.0.peers.software(&authority, scheme).await;
        if let Err(fault) = &found {
            tracing::debug!(peer.host = %authority, %fault, "its NodeInfo could not be read");
        }
        let relay = self.clone();
        self.0
            .store
            .write(move |tx| {
                let mut facts = tx.get::<AuthorityFacts>(authority.as_str())?.unwrap_or_default();
                facts.software_read = Some(relay.0.clock.now());
                match found {
                    Ok(software) => {
                        facts.software = Some(software.name);
                        facts.version = Some(software.version);
                    }
                    // It has none, or hides it: then it is no software that we know.
                    Err(PeerFault::Gone { .. } | PeerFault::Forbidden | PeerFault::Invalid(_)) => facts.software = None,
                    Err(PeerFault::TryLater(_) | PeerFault::Refused(_)) => {}
                }
                tx.put(authority.as_str(), &facts)?;
                let checking = tx.subscriber(&authority)?.is_some_and(|one| one.state == SubscriberState::Checking);
                if checking {
                    let welcome = by_software(&facts, &relay.0.config);
                    relay.settle(tx, &authority, welcome)?;
                    tracing::info!(peer.host = %authority, software = facts.software, joined = welcome == Welcome::Accept, "a server asked to join");
                }
                Ok(())
            })
            .await?;
        (self.0.signals.control)();
        Ok(())
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

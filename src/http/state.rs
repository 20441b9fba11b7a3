//! What handlers may ask for: small handles, each taken out by the handler that wants it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRef;
use tokio::sync::Semaphore;

use super::admin::{Costly, Guesses, Imports, Probes};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::delivery::Delivery;
use crate::identity::Identity;
use crate::log::Log;
use crate::policy::tokens::Tokens;
use crate::policy::turns::{Shown, Turns};
use crate::relay::Relay;
use crate::search::Search;
use crate::store::{FollowState, Following, Store, StoreError};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;
use crate::trends::Trends;

/// All of it. Cheap to clone.
#[derive(Clone, FromRef)]
#[expect(missing_docs, reason = "each field is a service documented at its type")]
pub struct HttpState {
    pub config: Arc<Config>,
    pub identity: Identity,
    pub store: Store,
    pub log: Log,
    pub relay: Relay,
    pub delivery: Delivery,
    pub search: Search,
    pub trends: Trends,
    pub supervisor: Supervisor,
    pub metrics: Metrics,
    pub inbox_slots: InboxSlots,
    pub searchers: Searchers,
    pub watchers: Watchers,
    pub checkers: Checkers,
    pub tokens: Tokens,
    pub guesses: Guesses,
    pub probes: Probes,
    pub costly: Costly,
    pub imports: Imports,
    pub followed: Followed,
    pub clock: Clock,
}

impl HttpState {
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// How much the inbox takes on at once. Cheap to clone.
#[derive(Clone)]
pub struct InboxSlots {
    /// Requests that are worked on.
    pub requests: Arc<Semaphore>,
    /// Bytes of bodies that are held.
    pub bytes: Arc<Semaphore>,
}

impl InboxSlots {
    /// Bytes of all bodies together: a hundred of the largest, tens of thousands of the usual ones.
    const BYTES: usize = 128 << 20;

    /// Room for `requests` at once.
    #[must_use]
    pub fn new(requests: usize) -> Self {
        Self { requests: Arc::new(Semaphore::new(requests)), bytes: Arc::new(Semaphore::new(Self::BYTES)) }
    }

    /// Bytes of bodies that are held just now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        Self::BYTES.saturating_sub(self.bytes.available_permits())
    }
}

/// How much searching is taken on. Cheap to clone.
#[derive(Clone)]
pub struct Searchers {
    /// Searches under way: each has a thread and, at worst, 150 ms of it.
    pub places: Arc<Semaphore>,
    /// How often one of them may search.
    pub turns: Turns,
    /// How much one of them may be shown in a day.
    pub shown: Shown,
}

impl Searchers {
    /// `rate` searches a minute by one of them, and a few at once in all. 0: as often and as much as they like.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { places: Arc::new(Semaphore::new(16)), turns: Turns::new(rate), shown: Shown::new(rate > 0) }
    }
}

/// How often one of those who ask for trends may do so. Cheap to clone.
#[derive(Clone)]
pub struct Watchers(pub Turns);

/// How often one of those who ask how a server stands may do so. Cheap to clone.
#[derive(Clone)]
pub struct Checkers(pub Turns);

impl Checkers {
    /// Questions a minute from one address: enough to look again and again while mending something.
    const RATE: u32 = 30;
}

impl Default for Checkers {
    fn default() -> Self {
        Self(Turns::new(Self::RATE))
    }
}

/// How long [`Followed`] is shown before the table is read again.
const FOLLOWED_LIFE: Duration = Duration::from_secs(60);

/// Whom the relay follows, as the world sees it: read from the store once a minute, since anybody may ask at any rate.
#[derive(Clone)]
pub struct Followed {
    clock: Clock,
    last: Arc<Mutex<Option<Reading>>>,
}

/// When, and what was there.
type Reading = (Timestamp, Arc<Vec<String>>);

impl Followed {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: Arc::default() }
    }

    /// The actors that accepted our Follow, in order.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn actors(&self, store: &Store) -> Result<Arc<Vec<String>>, StoreError> {
        let now = self.clock.now();
        // Held while reading, so that of many who ask one reads.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, actors)) = &*last
            && *at <= now
            && now < at.plus(FOLLOWED_LIFE)
        {
            return Ok(actors.clone());
        }
        let rows = store.all_sound::<Following>()?.into_iter();
        let accepted = rows.filter(|(_, one)| one.state == FollowState::Accepted);
        let actors = Arc::new(accepted.map(|(actor, _)| actor).collect::<Vec<_>>());
        *last = Some((now, actors.clone()));
        Ok(actors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Iri;
    use crate::store::Style;

    #[tokio::test]
    async fn whom_the_relay_follows_is_read_once_a_minute_however_many_ask() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let followed = Followed::new(clock.clone());
        let follow = async |host: &str, state: FollowState| {
            let actor = Iri::parse(&format!("https://{host}/actor")).unwrap();
            let row = Following {
                inbox: actor.clone(),
                actor,
                style: Style::Litepub,
                follow_id: String::new(),
                state,
                by_operator: false,
                at: Timestamp::default(),
            };
            store.write(move |tx| tx.put(row.actor.as_str(), &row)).await.unwrap();
        };
        follow("a.example", FollowState::Accepted).await;
        follow("b.example", FollowState::Pending).await;
        assert_eq!(*followed.actors(&store).unwrap(), ["https://a.example/actor"]);
        follow("b.example", FollowState::Accepted).await;
        clock.advance(Duration::from_secs(59));
        assert_eq!(followed.actors(&store).unwrap().len(), 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(followed.actors(&store).unwrap().len(), 2);
    }
}

//! How many authors were met for the first time in each hour of the last week, for one server: what is usual there. Only
//! counts, no names. What an hour that is out of the usual means is for `policy` to say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, SeenSet, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};

/// Hours that are remembered beside the one that runs: a week.
pub const HOURS_KEPT: usize = 7 * 24;

const HOUR: i64 = 3_600_000;

/// One server, keyed by its authority. It belongs with the authors that this relay remembers, so it is not exported:
/// elsewhere all of them would be new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrivals {
    /// When the first post of the server came.
    pub since: Timestamp,
    /// When the row was last written.
    pub touched: Timestamp,
    /// The hour that `current` is about, counted from the epoch.
    pub hour: i64,
    /// Authors met for the first time in that hour.
    pub current: u32,
    /// The same for the hours before it, the latest first; hours before the server was known are not there.
    pub past: Vec<u32>,
    /// Until then nothing that is out of the usual matters: the operator has looked.
    #[serde(default)]
    pub quiet_until: Timestamp,
    /// Posts that came while the server was on probation.
    #[serde(default)]
    pub posts: u32,
}

impl Record for Arrivals {
    const TABLE: &'static str = "arrivals";
}

impl Store {
    /// From now on this server and these people count as known since then: for the demo, whose servers get ages of their own.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_since(&self, server: &Authority, people: Vec<Iri>, since: Timestamp) -> Result<(), StoreError> {
        let server = server.clone();
        let write = move |tx: &mut Tx<'_>| {
            tx.put(server.as_str(), &Arrivals::new(since))?;
            people.iter().try_for_each(|one| tx.note_since(SeenSet::Authors, &[one.as_str()], since))
        };
        self.write(write).await
    }
}

impl Arrivals {
    /// Of a server that was met just now.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            touched: now,
            hour: hour(now),
            current: 0,
            past: Vec::new(),
            quiet_until: Timestamp::default(),
            posts: 0,
        }
    }

    /// Moves on to the hour of `now`; never goes back.
    pub fn advance(&mut self, now: Timestamp) {
        let gone = usize::try_from(hour(now).saturating_sub(self.hour)).unwrap_or(0);
        if gone == 0 {
            return;
        }
        let mut past = vec![0; (gone - 1).min(HOURS_KEPT)];
        past.push(self.current);
        past.append(&mut self.past);
        past.truncate(HOURS_KEPT);
        (self.past, self.current, self.hour) = (past, 0, hour(now));
    }

    /// One more author was met for the first time.
    pub fn note(&mut self, now: Timestamp) {
        self.advance(now);
        self.current = self.current.saturating_add(1);
        self.touched = now;
    }

    /// How long the server has been known.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.since)
    }
}

fn hour(at: Timestamp) -> i64 {
    at.millis().div_euclid(HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_and_its_people_can_be_known_since_long_ago() {
        let now = Timestamp::from_secs(1_787_486_400);
        let (dir, clock) = (tempfile::tempdir().unwrap(), crate::clock::Clock::manual(now));
        let store = Store::open(dir.path(), clock).unwrap();
        let (ada, since) = (Iri::parse("https://a.example/ada").unwrap(), now.minus(Duration::from_secs(40 * 86_400)));
        store.known_since(&ada.authority(), vec![ada.clone()], since).await.unwrap();
        let days = store.write(move |tx| tx.seen_days(SeenSet::Authors, &[ada.as_str()])).await.unwrap();
        let day = |at: Timestamp| u32::try_from(at.day()).unwrap();
        assert_eq!(days, Some((day(since), day(since))));
        assert_eq!(store.get::<Arrivals>("a.example").unwrap().unwrap().since, since);
    }

    #[test]
    fn hours_move_on_and_a_week_is_kept() {
        let start = Timestamp::from_secs(1_787_486_400);
        let at = |hours: u64| start.plus(Duration::from_secs(3600 * hours));
        let mut arrivals = Arrivals::new(start);
        arrivals.note(at(0));
        arrivals.note(at(0));
        assert_eq!((arrivals.current, arrivals.past.as_slice()), (2, [].as_slice()));
        arrivals.note(at(1));
        arrivals.note(at(4));
        assert_eq!((arrivals.current, arrivals.past.as_slice()), (1, [0, 0, 1, 2].as_slice()));
        arrivals.note(at(3));
        assert_eq!((arrivals.current, arrivals.past.len()), (2, 4), "a clock that goes back counts for the same hour");
        arrivals.advance(at(10_000));
        assert_eq!((arrivals.current, arrivals.past.len()), (0, HOURS_KEPT));
        assert!(arrivals.past.iter().all(|count| *count == 0));
        arrivals.advance(Timestamp::from_millis(i64::MAX));
        assert_eq!(arrivals.past.len(), HOURS_KEPT);
    }
}

//! What was refused and why, for the operator to look at: kept a week, bounded in number, without bodies. Strangers cause
//! these rows, so they are gathered in memory and written at most a hundred at a time, one per sender and reason each
//! minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, Store, StoreError};
use crate::clock::Timestamp;

/// Rows that wait to be written; more are only counted.
const WAITING: usize = 1000;
const PER_WRITE: usize = 100;
/// How often rows that are too old are looked for where nothing else is to be done.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// One refusal, or several alike within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When first.
    pub at: Timestamp,
    /// Whom the request named: the server of its key, or of its actor. Nothing proves that it was them.
    pub claimed: Option<String>,
    /// The failed check: `digest`, `date`, `blocked`.
    pub check: String,
    /// The HTTP status that was answered.
    pub status: u16,
    /// One sentence: what failed.
    pub detail: String,
    /// How many alike.
    pub count: u32,
}

impl Record for Refusal {
    const TABLE: &'static str = "refusals";
}

/// Where refusals are noted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    rows: HashMap<(i64, Option<String>, String), Refusal>,
    lost: u64,
    /// The `oldest` of the last sweep; it moves with the clock.
    swept: Option<Timestamp>,
}

impl Waiting {
    /// Whether there is nothing to write, and the last sweep is less than a minute ago.
    fn is_idle(&self, oldest: Timestamp) -> bool {
        let next = self.swept.map(|swept| (swept, swept.plus(SWEEP_EVERY)));
        self.rows.is_empty() && next.is_some_and(|(swept, next)| swept <= oldest && oldest < next)
    }
}

impl Refusals {
    /// Notes one. Never waits; beyond what is kept in memory it is only counted.
    pub fn note(&self, refusal: Refusal) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (refusal.at.secs() / 60, refusal.claimed.clone(), refusal.check.clone());
        if let Some(known) = waiting.rows.get_mut(&key) {
            known.count = known.count.saturating_add(1);
        } else if waiting.rows.len() < WAITING {
            waiting.rows.insert(key, refusal);
        } else {
            waiting.lost = waiting.lost.saturating_add(1);
        }
    }

    /// Writes what waits, and drops what is older than `oldest` or beyond `most`; how many rows were written. Cheap where
    /// nothing waits: then it looks for old rows once a minute only.
    ///
    /// # Errors
    /// The store's; what was not written is lost, and that is all right here.
    pub async fn save(&self, store: &Store, oldest: Timestamp, most: usize) -> Result<usize, StoreError> {
        let rows: Vec<Refusal> = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_idle(oldest) {
                return Ok(0);
            }
            waiting.swept = Some(oldest);
            let keys: Vec<_> = waiting.rows.keys().take(PER_WRITE).cloned().collect();
            keys.iter().filter_map(|key| waiting.rows.remove(key)).collect()
        };
        let kept = store.keys::<Refusal>()?;
        let excess = (kept.len() + rows.len()).saturating_sub(most);
        let stale = |(index, key): &(usize, &String)| *index < excess || key.as_str() < key_of(oldest, 0).as_str();
        let dropped: Vec<String> = kept.iter().enumerate().filter(stale).map(|(_, key)| key.clone()).collect();
        let count = rows.len();
        if count == 0 && dropped.is_empty() {
            return Ok(0);
        }
        store
            .write(move |tx| {
                for key in &dropped {
                    tx.remove::<Refusal>(key)?;
                }
                for row in &rows {
                    let number = tx.next_number("refusals")?;
                    tx.put(&key_of(row.at, number), row)?;
                }
                Ok(())
            })
            .await?;
        Ok(count)
    }
}

fn key_of(at: Timestamp, number: u64) -> String {
    format!("{:015}-{number:012}", at.millis().max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn refusal(at: Timestamp, claimed: &str) -> Refusal {
        Refusal {
            at,
            claimed: Some(claimed.to_owned()),
            check: "digest".to_owned(),
            status: 401,
            detail: "the digest does not match the body".to_owned(),
            count: 1,
        }
    }

    #[tokio::test]
    async fn refusals_are_gathered_bounded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let refusals = Refusals::default();
        for _ in 0..50 {
            refusals.note(refusal(clock.now(), "a.example"));
        }
        for number in 0..2000 {
            refusals.note(refusal(clock.now(), &format!("{number}.example")));
        }
        let mut written = 0;
        for _ in 0..11 {
            written += refusals.save(&store, clock.now().minus(Duration::from_secs(60)), 120).await.unwrap();
        }
        assert_eq!(written, WAITING);
        let kept = store.all::<Refusal>().unwrap();
        assert_eq!(kept.len(), 120);
        assert!(kept.iter().all(|(_, row)| row.claimed.as_deref() != Some("a.example") || row.count == 50));
        refusals.save(&store, clock.now().plus(Duration::from_secs(1)), 120).await.unwrap();
        assert!(store.all::<Refusal>().unwrap().is_empty());
    }

    #[tokio::test]
    async fn while_nothing_is_refused_the_table_is_looked_at_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let refusals = Refusals::default();
        refusals.note(refusal(clock.now(), "a.example"));
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(refusals.save(&store, clock.now().minus(week), 120).await.unwrap(), 1);
        // A row from elsewhere shows whether it looks: it is beyond what may be kept.
        let row = refusal(clock.now(), "b.example");
        store.write(move |tx| tx.put(&key_of(row.at, 99), &row)).await.unwrap();
        clock.advance(Duration::from_secs(59));
        refusals.save(&store, clock.now().minus(week), 1).await.unwrap();
        assert_eq!(store.keys::<Refusal>().unwrap().len(), 2);
        clock.advance(Duration::from_secs(1));
        refusals.save(&store, clock.now().minus(week), 1).await.unwrap();
        assert_eq!(store.keys::<Refusal>().unwrap().len(), 1);
        clock.advance(Duration::from_secs(2));
        refusals.note(refusal(clock.now(), "c.example"));
        assert_eq!(refusals.save(&store, clock.now().minus(week), 120).await.unwrap(), 1, "what waits never waits");
    }
}

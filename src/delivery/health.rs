//! The life of a lane: healthy, failing, paused, dormant, gone. Pure changes to the record that the store keeps, and the
//! ledger that writes those records down, many at a time and never once per delivery.
//!
//! * *failing*: the last attempt did not go through; it is tried again after growing gaps.
//! * *paused*: it refused us (403) [`REFUSALS`] times in a row; one probe a day, so that nothing more is thrown away.
//! * *dormant*: failures on so many different days; one probe a day, and what comes meanwhile is skipped.
//! * *gone*: for so long that the subscription ends.
//!
//! A success, or a verified request from that server, ends each of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::store::{Health, Store, StoreError, Tx};

/// Answers 403 in a row, to what we say ourselves, that pause a lane.
pub(super) const REFUSALS: u32 = 20;
/// How often a lane is probed that is paused or dormant.
pub(super) const PROBE: Duration = Duration::from_secs(24 * 3600);
/// Inbox and actor must be found gone twice, so far apart.
const GONE_TWICE: Duration = Duration::from_secs(24 * 3600);
/// A success that changes nothing else is written down this often.
const SUCCESS_EVERY: Duration = Duration::from_secs(600);
/// Records written in one transaction: thousands may change in the second in which a network fails.
const AT_ONCE: usize = 256;

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LaneState {
    /// It delivers.
    Healthy,
    /// Its subscriber does not answer as it should; tried again after growing gaps.
    Failing,
    /// Its subscriber refuses us; probed once a day.
    Paused,
    /// Its subscriber has not answered for days; probed once a day.
    Dormant,
}

impl LaneState {
    /// All, for gauges.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Failing, Self::Paused, Self::Dormant];

    /// For labels and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::Dormant => "dormant",
        }
    }
}

/// When failing becomes dormant, and dormant gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) dormant_after_days: u32,
    pub(super) gone_after: Duration,
}

/// Where a lane with this record stands.
pub(super) fn state(health: &Health, limits: Limits) -> LaneState {
    if health.failed_days >= limits.dormant_after_days.max(1) {
        LaneState::Dormant
    } else if health.refused >= REFUSALS {
        LaneState::Paused
    } else if health.consecutive > 0 {
        LaneState::Failing
    } else {
        LaneState::Healthy
    }
}

/// An entry went through.
pub(super) fn succeeded(health: &mut Health, now: Timestamp) {
    let Health { last_failure, last_reason, delivered, dropped, expired, .. } = std::mem::take(health);
    let delivered = delivered.saturating_add(1);
    let last_success = Some(now);
    *health = Health { last_success, last_failure, last_reason, delivered, dropped, expired, ..Health::default() };
}

/// The lane failed. A server that asks for patience (`Retry-After`) lives: its days are not counted.
pub(super) fn failed(health: &mut Health, now: Timestamp, reason: &str, asked_for_patience: bool) {
    if !asked_for_patience {
        let another_day = health.failed_days == 0 || health.last_failure.is_none_or(|last| last.day() != now.day());
        health.failed_days = health.failed_days.saturating_add(u32::from(another_day));
    }
    health.consecutive = health.consecutive.saturating_add(1);
    health.failing_since.get_or_insert(now);
    note_reason(health, now, reason);
}

/// It answered 403 to something that we say ourselves. Whether that pauses the lane.
pub(super) fn refused(health: &mut Health, now: Timestamp, reason: &str) -> bool {
    health.refused = health.refused.saturating_add(1);
    if health.refused >= REFUSALS {
        health.failing_since.get_or_insert(now);
    }
    note_reason(health, now, reason);
    health.refused >= REFUSALS
}

/// It answered, if only to say no: whatever was wrong with the lane is over.
pub(super) fn answered(health: &mut Health) {
    health.not_before = None;
    if health.refused < REFUSALS {
        health.failing_since = None;
    }
    (health.consecutive, health.failed_days, health.gone_since) = (0, 0, None);
}

/// Inbox and actor are gone. Whether for the second time, a day or more after the first.
pub(super) fn found_gone(health: &mut Health, now: Timestamp) -> bool {
    let since = *health.gone_since.get_or_insert(now);
    now.since(since) >= GONE_TWICE
}

/// A verified request came from it: it lives, and is to be tried at once. A pause stays until something goes through, or a
/// server that refuses us would have twenty more entries thrown away at each of its own posts.
pub(super) fn woken(health: &mut Health) {
    let failures = health.consecutive.min(1);
    answered(health);
    health.consecutive = failures;
}

/// To be asked after a failure only, so that a relay that was off for a month gives everybody one more try.
pub(super) fn is_over(health: &Health, limits: Limits, now: Timestamp) -> bool {
    matches!(state(health, limits), LaneState::Dormant | LaneState::Paused)
        && health.failing_since.is_some_and(|since| now.since(since) >= limits.gone_after)
}

/// Keeps for people to see what went wrong.
pub(super) fn note_reason(health: &mut Health, now: Timestamp, reason: &str) {
    health.last_failure = Some(now);
    if health.last_reason.as_deref() != Some(reason) {
        health.last_reason = Some(reason.to_owned());
    }
}

/// Records that changed and are not yet written down. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ledger {
    store: Store,
    changed: Arc<Mutex<BTreeMap<Authority, (u32, Health)>>>,
}

impl Ledger {
    pub(super) fn new(store: Store) -> Self {
        Self { store, changed: Arc::default() }
    }

    /// Takes note of a record, to be written with the next [`Ledger::save`], if it says something new against `written`.
    /// Whether it did.
    pub(super) fn note(&self, authority: &Authority, slot: u32, health: &Health, written: &Health) -> bool {
        let totals = Health {
            last_success: written.last_success,
            delivered: written.delivered,
            dropped: written.dropped,
            expired: written.expired,
            ..health.clone()
        };
        let same_but_success = totals == *written;
        let recent = match (health.last_success, written.last_success) {
            (Some(now), Some(before)) => now.since(before) < SUCCESS_EVERY,
            (None, None) => true,
            _ => false,
        };
        if same_but_success && recent {
            return false;
        }
        self.changed().insert(authority.clone(), (slot, health.clone()));
        true
    }

    /// Writes what was noted, so many at a time that nobody who waits for the disk waits long. A server that left, or left
    /// and came again, is passed over.
    ///
    /// # Errors
    /// The store's; what was not written is written next time.
    pub(super) async fn save(&self) -> Result<usize, StoreError> {
        let mut rest: Vec<_> = std::mem::take(&mut *self.changed()).into_iter().collect();
        let mut count = 0;
        while !rest.is_empty() {
            let rows: Arc<[(Authority, (u32, Health))]> = rest.split_off(rest.len().saturating_sub(AT_ONCE)).into();
            let writing = rows.clone();
            match self.store.write(move |tx| write(tx, &writing)).await {
                Ok(written) => count += written,
                Err(error) => {
                    let mut newer = self.changed();
                    for (authority, row) in rows.iter().chain(&rest) {
                        newer.entry(authority.clone()).or_insert_with(|| row.clone());
                    }
                    return Err(error);
                }
            }
        }
        Ok(count)
    }

    fn changed(&self) -> std::sync::MutexGuard<'_, BTreeMap<Authority, (u32, Health)>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(tx: &mut Tx<'_>, rows: &[(Authority, (u32, Health))]) -> Result<usize, StoreError> {
    let mut count = 0;
    for (authority, (slot, health)) in rows {
        let Some(mut subscriber) = tx.subscriber(authority)? else { continue };
        if subscriber.slot == *slot && subscriber.health != *health {
            subscriber.health = health.clone();
            tx.put_subscriber(subscriber)?;
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, subscriber};
    use super::*;
    use crate::clock::Clock;

    const LIMITS: Limits = Limits { dormant_after_days: 7, gone_after: Duration::from_secs(30 * 86_400) };

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    #[test]
    fn seven_different_days_of_failure_make_a_lane_dormant_and_thirty_days_end_it() {
        let mut health = Health::default();
        assert_eq!(state(&health, LIMITS), LaneState::Healthy);
        for day in 0..6 {
            for hour in 0..3 {
                failed(&mut health, NOON.plus(days(day) + Duration::from_secs(hour * 3600)), "timeout", false);
            }
        }
        assert_eq!((state(&health, LIMITS), health.failed_days, health.consecutive), (LaneState::Failing, 6, 18));
        failed(&mut health, NOON.plus(days(6)), "HTTP 503", true);
        assert_eq!(state(&health, LIMITS), LaneState::Failing, "who asks for patience lives");
        failed(&mut health, NOON.plus(days(8)), "timeout", false);
        assert_eq!(state(&health, LIMITS), LaneState::Dormant);
        assert!(!is_over(&health, LIMITS, NOON.plus(days(29))));
        assert!(is_over(&health, LIMITS, NOON.plus(days(30))));
        let mut back = health.clone();
        woken(&mut back);
        assert_eq!((state(&back, LIMITS), back.failed_days), (LaneState::Failing, 0));
        succeeded(&mut health, NOON.plus(days(31)));
        assert_eq!((state(&health, LIMITS), health.failed_days), (LaneState::Healthy, 0));
        assert_eq!(health.last_reason.as_deref(), Some("timeout"), "kept for people to see");
        failed(&mut health, NOON.plus(days(31)), "timeout", false);
        assert_eq!(health.failed_days, 1);
    }

    #[test]
    fn twenty_refusals_in_a_row_pause_a_lane_until_something_goes_through() {
        let mut health = Health::default();
        for _ in 0..19 {
            assert!(!refused(&mut health, NOON, "HTTP 403"));
        }
        assert!(refused(&mut health, NOON, "HTTP 403"));
        assert_eq!(state(&health, LIMITS), LaneState::Paused);
        woken(&mut health);
        assert_eq!(state(&health, LIMITS), LaneState::Paused);
        assert!(is_over(&health, LIMITS, NOON.plus(days(30))));
        succeeded(&mut health, NOON);
        assert_eq!(state(&health, LIMITS), LaneState::Healthy);
    }

    #[test]
    fn gone_is_found_twice_a_day_apart() {
        let mut health = Health::default();
        assert!(!found_gone(&mut health, NOON));
        assert!(!found_gone(&mut health, NOON.plus(Duration::from_secs(86_399))));
        assert!(found_gone(&mut health, NOON.plus(days(1))));
        answered(&mut health);
        assert!(!found_gone(&mut health, NOON.plus(days(2))), "it answered in between");
    }

    #[tokio::test]
    async fn records_are_written_together_and_a_success_only_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let one = subscriber("one.example", 0);
        let (row, authority) = (one.clone(), one.authority.clone());
        store.write(move |tx| tx.put_subscriber(row)).await.unwrap();
        let ledger = Ledger::new(store.clone());
        let mut health = Health::default();
        succeeded(&mut health, NOON);
        assert!(ledger.note(&authority, 0, &health, &Health::default()));
        assert!(ledger.note(&Authority::parse("left.example").unwrap(), 1, &health, &Health::default()));
        assert_eq!(ledger.save().await.unwrap(), 1);
        assert_eq!(ledger.save().await.unwrap(), 0);
        let written = store.subscriber(&authority).unwrap().health.clone();
        assert_eq!(written.last_success, Some(NOON));
        succeeded(&mut health, NOON.plus(Duration::from_secs(599)));
        assert!(!ledger.note(&authority, 0, &health, &written));
        failed(&mut health, NOON, "timeout", false);
        assert!(ledger.note(&authority, 0, &health, &written));
    }
}

//! The audit log: who of the operator's people changed what, and why, with what was there before and after. A row is written
//! in the transaction of the change itself, so there is none without a change and no change without one. Kept for
//! [`KEPT`] and up to [`MOST`] rows.
//!
//! It does not travel with an export: it is about what was done at this relay, and a file could say anything.
//!
//! What is changed at the machine while the relay does not run is in it where a command writes to the store: an index that is
//! made anew, keys that are replaced. A backup of a relay that does not run leaves no row, and whoever can take one can read
//! the store anyway. Nor does an export over the Unix socket, which is taken every ten minutes.
//!
//! Of posts and of people who asked to be left alone it keeps their server and no name: whoever was taken out is not to be
//! found here instead.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Record, Store, StoreError, Tx};
use crate::clock::Timestamp;

/// How long rows are kept.
pub const KEPT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many; of more, the newest.
pub const MOST: usize = 50_000;
/// Bytes of what was before, and of what is after: a list of blocks may be long, and what it says is in the rules.
const MOST_SAID: usize = 4 << 10;
/// Bytes of the names of one row, where a change has many: all of a change of thousands of rules are kept, and how many rows
/// that takes is not left to whoever makes it.
pub(super) const MOST_NAMED: usize = 64 << 10;
/// Characters of why. Who acts is refused more beforehand; this is for whatever else writes a row.
const MOST_WHY: usize = super::MAX_REASON;
/// Bytes of what it is about: an id is no longer.
const MOST_TARGET: usize = 2 << 10;
/// Bytes of the rows that are read at once, but for the last of them: whoever looks what was done is not to be handed all of it.
const MOST_AT_ONCE: usize = 1 << 20;
/// Rows removed in one transaction.
const BATCH: usize = 500;

/// Somebody acts for the operator: who, and why. What changes something asks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// `local` for who came by the Unix socket, `token:NAME` for who showed a token.
    pub who: String,
    /// Why, in their words; may be empty.
    pub why: String,
    /// Which token it was: names of revoked ones may be given again.
    pub token: Option<String>,
}

impl Act {
    /// By who sits at the machine.
    #[must_use]
    pub fn local(why: &str) -> Self {
        Self { who: "local".to_owned(), why: why.trim().to_owned(), token: None }
    }

    /// By the relay itself.
    #[must_use]
    pub fn relay(why: &str) -> Self {
        Self { who: "relay".to_owned(), why: why.to_owned(), token: None }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who, as in [`Act`].
    pub who: String,
    /// Which token of that name it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What was done: `subscriber.approve`, `rule.put`.
    pub what: String,
    /// To whom or what.
    pub target: String,
    /// Why, in their words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What was there; null: nothing.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub before: Value,
    /// What is there now; null: nothing.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub after: Value,
}

impl Record for AuditEntry {
    const TABLE: &'static str = "audit";
}

impl Tx<'_> {
    /// Writes down what this job changes: `what` it does to `target`, and what is there before and after.
    ///
    /// # Errors
    /// The engine's.
    pub fn audit(
        &mut self,
        act: &Act,
        what: &str,
        target: &str,
        before: Value,
        after: Value,
    ) -> Result<(), StoreError> {
        self.audit_up_to(MOST_SAID, act, what, target, before, after)
    }

    /// The same with up to `most` bytes of what was before, and of what is after.
    pub(super) fn audit_up_to(
        &mut self,
        most: usize,
        act: &Act,
        what: &str,
        target: &str,
        before: Value,
        after: Value,
    ) -> Result<(), StoreError> {
        let at = self.store.0.clock.now();
        let Act { who, why, token } = act.clone();
        let (why, target) = (cut_chars(why, MOST_WHY), cut_bytes(target.to_owned(), MOST_TARGET));
        tracing::info!(who, what, target, why, "the operator changes something");
        let (before, after) = (in_short(before, most), in_short(after, most));
        let entry = AuditEntry { at, who, token, what: what.to_owned(), target, why, before, after };
        let number = self.next_number("audit")?;
        self.put(&key(at, number), &entry)
    }
}

/// What is too long to be kept is kept as the beginning of its text.
fn in_short(said: Value, most: usize) -> Value {
    let text = said.to_string();
    if text.len() <= most { said } else { Value::String(cut_bytes(text, most)) }
}

fn cut_bytes(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

fn cut_chars(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// How much a row takes where it is shown, about.
fn bytes_of(entry: &AuditEntry) -> usize {
    let said = entry.before.to_string().len() + entry.after.to_string().len();
    entry.who.len() + entry.target.len() + entry.why.len() + said
}

/// Rows in the order of their times, however many come at once.
fn key(at: Timestamp, number: u64) -> String {
    format!("{:015}-{number:012}", at.millis().max(0))
}

impl Store {
    /// At most `count` changes before the one with the key `before` (empty: all), the newest first, each with its key; those
    /// that `wanted` takes. Rows that cannot be read are passed over. Fewer than there are, where they are long.
    ///
    /// # Errors
    /// The engine's.
    pub fn audited(
        &self,
        before: &str,
        count: usize,
        wanted: impl Fn(&AuditEntry) -> bool,
    ) -> Result<Vec<(String, AuditEntry)>, StoreError> {
        Ok(self.audited_page(before, count, wanted)?.0)
    }

    /// The same, and whether there may be more.
    ///
    /// # Errors
    /// The engine's.
    pub fn audited_page(
        &self,
        before: &str,
        count: usize,
        wanted: impl Fn(&AuditEntry) -> bool,
    ) -> Result<(Vec<(String, AuditEntry)>, bool), StoreError> {
        let keys = self.keys::<AuditEntry>()?;
        let earlier = keys.into_iter().rev().filter(|key| before.is_empty() || key.as_str() < before);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for key in earlier {
            match self.get::<AuditEntry>(&key) {
                Ok(Some(entry)) if wanted(&entry) => {
                    if rows.len() >= count || bytes >= MOST_AT_ONCE {
                        return Ok((rows, true));
                    }
                    bytes += bytes_of(&entry);
                    rows.push((key, entry));
                }
                Ok(_) | Err(StoreError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((rows, false))
    }

    /// Drops what is older than `oldest`, and of more than `most` rows the oldest ones; how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_audit(&self, oldest: Timestamp, most: usize) -> Result<usize, StoreError> {
        let (keys, first) = (self.keys::<AuditEntry>()?, key(oldest, 0));
        let excess = keys.len().saturating_sub(most);
        let stale = |(index, key): &(usize, String)| *index < excess || *key < first;
        let gone: Vec<String> = keys.into_iter().enumerate().take_while(stale).map(|(_, key)| key).collect();
        for some in gone.chunks(BATCH) {
            let some = some.to_vec();
            self.write(move |tx| some.iter().try_for_each(|key| tx.remove::<AuditEntry>(key).map(drop))).await?;
        }
        Ok(gone.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;

    fn open() -> (tempfile::TempDir, Store, Clock) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        (dir, store, clock)
    }

    async fn note(store: &Store, target: &'static str) {
        let act = Act::local("because");
        store.write(move |tx| tx.audit(&act, "rule.put", target, Value::Null, json!(target))).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_that_is_taken_back_leaves_no_row_and_rows_come_the_newest_first() {
        let (_dir, store, clock) = open();
        for target in ["a", "b", "c"] {
            note(&store, target).await;
            clock.advance(Duration::from_secs(1));
        }
        let act = Act::local("");
        let declined = store
            .write(move |tx| {
                tx.audit(&act, "rule.put", "d", Value::Null, Value::Null)?;
                Err::<(), _>(StoreError::Declined("no".to_owned()))
            })
            .await;
        assert!(declined.is_err());
        let targets =
            |rows: &[(String, AuditEntry)]| rows.iter().map(|(_, one)| one.target.clone()).collect::<String>();
        let page = store.audited("", 2, |_| true).unwrap();
        assert_eq!(targets(&page), "cb");
        assert_eq!(targets(&store.audited(&page[1].0, 2, |_| true).unwrap()), "a");
        assert_eq!(targets(&store.audited("", 9, |one| one.target != "b").unwrap()), "ca");
    }

    #[tokio::test]
    async fn the_log_is_bounded_in_time_and_number_and_each_row_in_size() {
        let (_dir, store, clock) = open();
        for target in ["a", "b", "c", "d"] {
            note(&store, target).await;
            clock.advance(Duration::from_secs(10));
        }
        let now = clock.now();
        assert_eq!(store.forget_audit(now.minus(Duration::from_secs(35)), 10).await.unwrap(), 1);
        assert_eq!(store.forget_audit(now.minus(KEPT), 2).await.unwrap(), 1);
        assert_eq!(store.audited("", 9, |_| true).unwrap().len(), 2);
        let act = Act::local(&"ä".repeat(2 << 20));
        let (long, target) = (json!("ä".repeat(MOST_SAID)), "x".repeat(2 << 20));
        store.write(move |tx| tx.audit(&act, "list", &target, long, Value::Null)).await.unwrap();
        let row = store.audited("", 1, |_| true).unwrap().remove(0).1;
        assert!(row.before.as_str().unwrap().ends_with('…') && row.before.to_string().len() < 2 * MOST_SAID);
        assert_eq!((row.why.chars().count(), row.target.chars().count()), (MOST_WHY + 1, MOST_TARGET + 1));
    }

    /// A thousand rows of the longest would be a gigabyte of an answer.
    #[tokio::test]
    async fn a_page_of_the_log_ends_where_it_is_long_enough_and_the_next_one_goes_on() {
        let (_dir, store, _clock) = open();
        for _ in 0..5 {
            let (act, long) = (Act::local(""), json!("x".repeat(MOST_AT_ONCE / 2)));
            store.write(move |tx| tx.audit_up_to(MOST_AT_ONCE, &act, "list", "x", long, Value::Null)).await.unwrap();
        }
        let (mut from, mut pages) = (String::new(), Vec::new());
        loop {
            let (rows, more) = store.audited_page(&from, 100, |_| true).unwrap();
            pages.push(rows.len());
            from = rows.last().unwrap().0.clone();
            if !more {
                break;
            }
        }
        assert_eq!(pages, [2, 2, 1]);
    }
}

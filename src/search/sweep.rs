//! Nothing is held longer than by right: sweeps what is left of authors whose consent ended, ends that of authors whose
//! server was switched off or ruled out, and retires posts whose time is over. None of it is
//! needed for a withdrawal to count: what is still to be swept is found by nobody.
//!
//! Rows of the ledger that cannot be read are cleared away, with what hangs on them: as soon as somebody met one, and once a
//! day all are looked at.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Search;
use super::authors::AuthorToRead;
use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::policy::RuleSet;
use crate::store::{Hidden, IndexedAuthor, Leaving, Leftover, Record, SearchServers, StoreError, Tx, first_number_at};
use crate::supervise::Worker;

/// The worker's name.
pub const NAME: &str = "sweeper";
/// Posts erased in one transaction: the inbox waits for it.
const BATCH: usize = 500;
/// Rows looked at in one go.
const PAGE: usize = 500;
/// How often it is looked whether there is something.
const POLL: Duration = Duration::from_secs(1);
/// How often everything is looked through although nothing changed: a rule may have expired.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// How often all rows are looked at for damage that nobody met.
const MEND_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often it is written down that we are awake.
const AWAKE_EVERY: Duration = Duration::from_secs(600);
/// After so long a sleep nobody is shown before their profile was read anew: what they took back meanwhile was said to
/// nobody. It is also how a restored backup looks.
const LONG_SLEEP: Duration = Duration::from_secs(3600);
/// Where search is off, all that is held goes after this time: nobody has a use for it, and it may have been a slip.
const OFF_FOR: Duration = Duration::from_secs(24 * 3600);
/// Why an author is hidden then.
const ASLEEP: &str = "not-read-since-a-long-sleep";
/// When we were awake.
#[derive(Debug, Serialize, Deserialize)]
struct Awake {
    at: Timestamp,
}

impl Record for Awake {
    const TABLE: &'static str = "search_awake";
}

impl Awake {
    const ROW: &'static str = "last";
}

/// The store was put back from a backup: as after the longest sleep.
///
/// # Errors
/// The engine's.
pub fn oversleep(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.put(Awake::ROW, &Awake { at: Timestamp::default() })
}

/// The worker.
pub struct Sweeper {
    search: Search,
    /// By what the authors were looked through, and when.
    seen: Option<(Arc<RuleSet>, SearchServers)>,
    looked_at: Timestamp,
    mended_at: Timestamp,
    awake_at: Option<Timestamp>,
    /// When the last round ended: a round may take long, a rest may not.
    rested_at: Option<Timestamp>,
    /// When it was awake last, should it be off now.
    off_since: Timestamp,
    busy: bool,
}

impl Sweeper {
    /// A worker.
    #[must_use]
    pub fn new(search: Search) -> Self {
        let mended_at = search.0.clock.now();
        Self {
            search,
            seen: None,
            looked_at: Timestamp::default(),
            mended_at,
            awake_at: None,
            rested_at: None,
            off_since: mended_at,
            busy: false,
        }
    }

    async fn round(&mut self) -> Result<bool, StoreError> {
        self.wake().await?;
        let swept = self.leftovers().await?;
        let retired = self.retire().await?;
        self.look().await?;
        self.mend().await?;
        self.rested_at = Some(self.search.0.clock.now());
        Ok(swept || retired)
    }

    /// Writes down that we are awake. After a long sleep hides everybody until they were read anew.
    async fn wake(&mut self) -> Result<(), StoreError> {
        let (parts, now) = (self.search.0.clone(), self.search.0.clock.now());
        if self.awake_at.is_some_and(|at| now.since(at) < AWAKE_EVERY) {
            return Ok(());
        }
        // A machine may have slept, and this process with it.
        if self.rested_at.is_some_and(|at| self.search.is_on() && now.since(at) > LONG_SLEEP) {
            parts.awake.store(false, Ordering::Release);
            self.hide_all(now).await?;
            parts.awake.store(true, Ordering::Release);
        }
        if self.awake_at.is_none() {
            let last = parts.store.sound(parts.store.get::<Awake>(Awake::ROW))?;
            if last.as_ref().is_some_and(|last| now.since(last.at) > LONG_SLEEP) {
                self.hide_all(now).await?;
            }
            self.off_since = last.map_or(now, |last| last.at);
            parts.awake.store(true, Ordering::Release);
        }
        // While search is off nobody is read: then it sleeps.
        if !self.search.is_on() {
            self.awake_at = Some(now);
            return Ok(());
        }
        parts.store.write(move |tx| tx.put(Awake::ROW, &Awake { at: now })).await?;
        self.awake_at = Some(now);
        Ok(())
    }

    async fn hide_all(&self, now: Timestamp) -> Result<(), StoreError> {
        tracing::warn!(
            "the search slept for more than an hour, or a backup was put back: nobody is shown before their profile is read anew"
        );
        let mut from = String::new();
        loop {
            let page = self.search.0.store.sound_page::<IndexedAuthor>(&from, PAGE)?;
            let Some(next) = page.next else { return Ok(()) };
            from = next;
            let search = self.search.clone();
            let hide = move |tx: &mut Tx<'_>| {
                for (actor, _) in page.rows {
                    let Ok(actor) = Iri::parse(&actor) else { continue };
                    // Who left since the page was read stays out.
                    let Some(author) = tx.indexed_author(&actor)? else { continue };
                    search.ask(tx, &actor, None, true)?;
                    let hidden =
                        author.hidden.clone().or_else(|| Some(Hidden { since: now, reason: ASLEEP.to_owned() }));
                    tx.put_indexed_author(&actor, IndexedAuthor { hidden, ..author })?;
                }
                Ok(())
            };
            self.search.0.store.write(hide).await?;
        }
    }

    async fn leftovers(&self) -> Result<bool, StoreError> {
        let store = &self.search.0.store;
        let page = store.sound_page::<Leftover>("", PAGE)?;
        // The key says whose; whether the rest can be read does not matter.
        let keys: Vec<&String> = page.rows.iter().map(|(key, _)| key).chain(&page.damaged).collect();
        for key in &keys {
            let number = u64::from_str_radix(key, 16).unwrap_or(0);
            while store.write(move |tx| tx.sweep_posts(number, BATCH)).await? {}
        }
        Ok(!keys.is_empty())
    }

    async fn retire(&self) -> Result<bool, StoreError> {
        let parts = &self.search.0;
        let before = first_number_at(parts.clock.now().minus(parts.config.retention));
        if parts.store.oldest_post()?.is_none_or(|number| number >= before) {
            return Ok(false);
        }
        let retired = parts.store.write(move |tx| tx.retire_posts(before, BATCH)).await?;
        Ok(retired > 0)
    }

    /// Ends the consent of authors whose server said no, or of whom the operator did.
    async fn look(&mut self) -> Result<(), StoreError> {
        let parts = &self.search.0;
        let (rules, servers, now) = (parts.rules.set(), parts.store.search_servers(), parts.clock.now());
        let is_over = !self.search.is_on() && now.since(self.off_since) > OFF_FOR;
        let unchanged =
            self.seen.as_ref().is_some_and(|(seen, on)| Arc::ptr_eq(seen, &rules) && Arc::ptr_eq(on, &servers));
        if unchanged && now.since(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        let leaving = parts.store.sound_page::<Leaving>("", PAGE)?.rows;
        let left: HashMap<String, u64> = leaving.iter().map(|(server, row)| (server.clone(), row.up_to)).collect();
        let is_out = |actor: &Iri, author: &IndexedAuthor| {
            is_over
                || !self.search.may_search(actor)
                || left.get(actor.authority().as_str()).is_some_and(|up_to| author.number <= *up_to)
        };
        let mut from = String::new();
        loop {
            let page = parts.store.sound_page::<IndexedAuthor>(&from, PAGE)?;
            let Some(next) = page.next else { break };
            from = next;
            let authors = page.rows.into_iter().filter_map(|(actor, author)| Some((Iri::parse(&actor).ok()?, author)));
            let out: Vec<Iri> =
                authors.filter(|(actor, author)| is_out(actor, author)).map(|(actor, _)| actor).collect();
            if !out.is_empty() {
                let end = move |tx: &mut Tx<'_>| out.iter().try_for_each(|actor| tx.withdraw_author(actor).map(drop));
                parts.store.write(end).await?;
            }
            tokio::task::yield_now().await;
        }
        if is_over {
            parts.store.forget::<AuthorToRead>(|_row| true).await?;
        }
        let done = move |tx: &mut Tx<'_>| {
            leaving.iter().try_for_each(|(server, row)| {
                // It may have been switched once more.
                let is_same = tx.get::<Leaving>(server)?.is_some_and(|now| now == *row);
                if is_same { tx.remove::<Leaving>(server).map(drop) } else { Ok(()) }
            })
        };
        if !left.is_empty() {
            parts.store.write(done).await?;
        }
        (self.seen, self.looked_at) = (Some((rules, servers)), now);
        Ok(())
    }

    async fn remove<R: Record>(&self, keys: Vec<String>) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let remove = move |tx: &mut Tx<'_>| keys.iter().try_for_each(|key| tx.remove::<R>(key).map(drop));
        self.search.0.store.write(remove).await
    }

    /// Clears rows away that cannot be read: found by nobody, and nobody's to answer for.
    async fn mend(&mut self) -> Result<(), StoreError> {
        let (parts, now) = (self.search.0.clone(), self.search.0.clock.now());
        if !parts.store.met_damage() && now.since(self.mended_at) < MEND_EVERY {
            return Ok(());
        }
        let mut unreadable = self.mend_rows::<AuthorToRead>().await?;
        let damaged = self.damaged::<IndexedAuthor>().await?;
        unreadable += damaged.len();
        parts.store.write(move |tx| tx.mend_authors(&damaged)).await?;
        let mut from = Some(0);
        while let Some(number) = from {
            let view = parts.store.ledger()?;
            let page = view.posts(number, PAGE)?;
            let mut suspect = page.unreadable > 0;
            for (_, post) in &page.rows {
                suspect |= view.author(&post.author)?.is_none_or(|author| author.number != post.author_number);
            }
            from = page.next;
            drop(view);
            if suspect {
                let mended = parts.store.write(move |tx| tx.mend_posts(number, PAGE)).await?;
                unreadable += mended.unreadable;
                from = mended.next;
            }
            tokio::task::yield_now().await;
        }
        let mut from = Some(0);
        while let Some(id) = from {
            from = parts.store.write(move |tx| tx.mend_ids(id, BATCH)).await?;
        }
        // Those that were just cleared away.
        let _ = parts.store.met_damage();
        if unreadable > 0 {
            tracing::error!(unreadable, "rows of the ledger could not be read and are gone: is the disk failing?");
            parts.metrics.ledger_damage.inc_by(unreadable as u64);
        }
        self.mended_at = now;
        Ok(())
    }

    async fn mend_rows<R: Record>(&self) -> Result<usize, StoreError> {
        let damaged = self.damaged::<R>().await?;
        let count = damaged.len();
        self.remove::<R>(damaged).await?;
        Ok(count)
    }

    async fn damaged<R: Record>(&self) -> Result<Vec<String>, StoreError> {
        let (mut from, mut damaged) = (String::new(), Vec::new());
        loop {
            let page = self.search.0.store.sound_page::<R>(&from, PAGE)?;
            let Some(next) = page.next else { return Ok(damaged) };
            (from, damaged) = (next, [damaged, page.damaged].concat());
            tokio::task::yield_now().await;
        }
    }
}

impl Worker for Sweeper {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let worked = self.round().await;
        self.busy = matches!(worked, Err(StoreError::Busy));
        if self.busy { Ok(false) } else { Ok(worked?) }
    }

    async fn wait(&mut self) {
        tokio::time::sleep(POLL).await;
    }
}

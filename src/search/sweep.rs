//! Nothing is held longer than by right: sweeps what is left of authors whose consent ended, ends that of authors whose
//! server was switched off or ruled out, retires posts whose time is over, and forgets who said no long ago. None of it is
//! needed for a withdrawal to count: what is still to be swept is found by nobody.

use std::sync::Arc;
use std::time::Duration;

use super::Search;
use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::policy::RuleSet;
use crate::store::{IndexedAuthor, Leftover, Refused, SearchServers, StoreError, Tx, first_number_at};
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
/// How long a hash of somebody who said no is kept. Who blocks us or asked to be removed is kept until they take it back.
const REFUSED_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// The worker.
pub struct Sweeper {
    search: Search,
    /// By what the authors were looked through, and when.
    seen: Option<(Arc<RuleSet>, SearchServers)>,
    looked_at: Timestamp,
    busy: bool,
}

impl Sweeper {
    /// A worker.
    #[must_use]
    pub fn new(search: Search) -> Self {
        Self { search, seen: None, looked_at: Timestamp::default(), busy: false }
    }

    async fn round(&mut self) -> Result<bool, StoreError> {
        let swept = self.leftovers().await?;
        let retired = self.retire().await?;
        self.look().await?;
        Ok(swept || retired)
    }

    async fn leftovers(&self) -> Result<bool, StoreError> {
        let store = &self.search.0.store;
        let rows = store.page::<Leftover>("", PAGE)?;
        for (key, _) in &rows {
            let number = u64::from_str_radix(key, 16).unwrap_or(0);
            while store.write(move |tx| tx.sweep_posts(number, BATCH)).await? {}
        }
        Ok(!rows.is_empty())
    }

    async fn retire(&self) -> Result<bool, StoreError> {
        let parts = &self.search.0;
        let before = first_number_at(parts.clock.now().minus(parts.config.retention));
        if parts.store.indexed_posts(0, 1)?.first().is_none_or(|(number, _)| *number >= before) {
            return Ok(false);
        }
        let retired = parts.store.write(move |tx| tx.retire_posts(before, BATCH)).await?;
        Ok(retired > 0)
    }

    /// Ends the consent of authors whose server said no, or of whom the operator did.
    async fn look(&mut self) -> Result<(), StoreError> {
        let parts = &self.search.0;
        let (rules, servers, now) = (parts.rules.set(), parts.store.search_servers(), parts.clock.now());
        let unchanged =
            self.seen.as_ref().is_some_and(|(seen, on)| Arc::ptr_eq(seen, &rules) && Arc::ptr_eq(on, &servers));
        if unchanged && now.since(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        let mut from = String::new();
        loop {
            let page = parts.store.page::<IndexedAuthor>(&from, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("{last}\0");
            let authors = page.into_iter().filter_map(|(actor, _)| Iri::parse(&actor).ok());
            let out: Vec<Iri> = authors.filter(|actor| !self.search.may_search(actor)).collect();
            if !out.is_empty() {
                let end = move |tx: &mut Tx<'_>| out.iter().try_for_each(|actor| tx.withdraw_author(actor).map(drop));
                parts.store.write(end).await?;
            }
            tokio::task::yield_now().await;
        }
        self.forget_refusals(now).await?;
        (self.seen, self.looked_at) = (Some((rules, servers)), now);
        Ok(())
    }

    async fn forget_refusals(&self, now: Timestamp) -> Result<(), StoreError> {
        let store = &self.search.0.store;
        let mut from = String::new();
        loop {
            let page = store.page::<Refused>(&from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = format!("{last}\0");
            let old = page.into_iter().filter(|(_, no)| !no.lasting && now.since(no.at) > REFUSED_LIFE);
            let old: Vec<String> = old.map(|(key, _)| key).collect();
            if !old.is_empty() {
                let forget = move |tx: &mut Tx<'_>| old.iter().try_for_each(|key| tx.remove::<Refused>(key).map(drop));
                store.write(forget).await?;
            }
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

//! From the ledger to the index: a worker follows the journal of the ledger's changes, applies them, and commits four times
//! in three seconds together with the number of the last one; only then the journal is trimmed. To put a post in is to take
//! it out first, so a change that is applied twice changes nothing: after any crash the index goes on from its own number
//! and holds each post once.
//!
//! An index that is missing, damaged or older than the journal is moved aside and made anew from the ledger, while the
//! relay goes on; what is moved aside is deleted when the new one is there. What was removed is gone from the files
//! within a day ([`super::index::Writer::expunge`]). At the operator's word a new index is made beside the one in use,
//! which goes on meanwhile, and takes its place.
//!
//! The engine blocks: it is only called on threads for that, and on such as give way to everybody who searches or posts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Search;
use super::index::{Expunged, Index, Writer};
use super::shelf::{BATCH, Compared, Followed, Report, Shelf};
use crate::clock::Timestamp;
use crate::ids::{Authority, Seq};
use crate::store::{StoreError, Tx};
use crate::supervise::Worker;

/// The worker's name.
pub const NAME: &str = "indexer";
/// Changes forgotten in one transaction: the inbox waits for it.
const TRIM: usize = 1_000;
/// Between two commits: each costs tens of milliseconds, and a file that is to be merged.
const COMMIT_EVERY: Duration = Duration::from_millis(750);
/// How often it is looked what must be gone from the files.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What was removed is gone from the files after so long, at most, and the time that takes: half of the day promised.
const EXPUNGE_AFTER: Duration = Duration::from_secs(12 * 3600);
/// How nice the threads are that write the index: they get a third of what others get where there is not enough for all.
const NICE: i32 = 5;

/// Something that is to be done with the writer, between two commits.
pub(super) type Order = Box<dyn FnOnce(&Search, &mut Writer) + Send>;

/// How the making of a new index stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Rebuild {
    /// None was asked for since the relay started.
    #[default]
    None,
    /// It is being made.
    Running {
        /// Posts looked at so far.
        done: u64,
        /// Posts in all.
        total: u64,
    },
    /// It is in use.
    Done {
        /// Posts in it.
        posts: u64,
        /// When: RFC 3339.
        at: String,
    },
    /// It came to nothing; the old one is in use.
    Failed {
        /// Why.
        why: String,
    },
}

/// The worker.
pub struct Indexer {
    search: Search,
    changed: watch::Receiver<Seq>,
    writer: Option<Writer>,
    building: Option<Building>,
    committed: Instant,
    looked: Instant,
}

/// A new index that is being made beside.
struct Building {
    /// The journal is not trimmed beyond: what comes after it is not in the new one yet.
    from: Seq,
    cancelled: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<u64>>,
}

impl Drop for Building {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Runs `job` on a thread that gives way to others, as do those that it starts: of the engine that is all that write.
fn giving_way<T: Send>(job: impl FnOnce() -> T + Send) -> T {
    let nicely = || {
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "the index is written as eagerly as it is searched");
        }
        job()
    };
    std::thread::scope(|scope| scope.spawn(nicely).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

impl Indexer {
    /// A worker.
    #[must_use]
    pub fn new(search: Search) -> Self {
        let changed = search.0.store.follow_changes();
        let now = Instant::now();
        Self { search, changed, writer: None, building: None, committed: now, looked: now }
    }

    /// Runs `job` on the writer, on a thread that may block. If it fails, the writer is of no use any more.
    async fn on_writer<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Search, &mut Writer) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (search, writer) = (self.search.clone(), self.writer.take());
        let run = move || {
            let mut writer = match writer {
                Some(writer) => writer,
                None => search.open_index()?,
            };
            let done = job(&search, &mut writer)?;
            anyhow::Ok((writer, done))
        };
        let (writer, done) = tokio::task::spawn_blocking(|| giving_way(run)).await.context("the index fell")??;
        self.writer = Some(writer);
        Ok(done)
    }

    /// Closes an index in which a search met something that cannot be right. When it is opened again, all of it is verified.
    async fn doubt(&mut self) -> anyhow::Result<()> {
        if !self.search.0.doubted.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        tracing::warn!("a search met damage in the index: all of it is verified");
        let writer = self.writer.take();
        tokio::task::spawn_blocking(move || drop(writer)).await.context("the index fell")
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        self.on_writer(|search, writer| search.expunge_if_due(writer)).await
    }

    /// Does what was asked for; whether there was anything.
    async fn obey(&mut self) -> anyhow::Result<bool> {
        let orders = std::mem::take(&mut *self.search.0.orders.lock().unwrap_or_else(PoisonError::into_inner));
        let any = !orders.is_empty();
        for order in orders {
            let run = move |search: &Search, writer: &mut Writer| {
                order(search, writer);
                Ok(())
            };
            self.on_writer(run).await?;
        }
        Ok(any)
    }

    /// Begins to make a new index if that is wanted, and takes one that is finished into use.
    async fn rebuild(&mut self) -> anyhow::Result<()> {
        let state = &self.search.0.rebuild;
        let Some(building) = self.building.take_if(|building| building.task.is_finished()) else {
            let wanted = matches!(*state.borrow(), Rebuild::Running { .. });
            if wanted && self.building.is_none() {
                self.building = Some(self.search.build_beside()?);
            }
            return Ok(());
        };
        let end = match self.take_in(building).await {
            Ok(posts) => {
                tracing::info!(posts, "the new search index is in use");
                Rebuild::Done { posts, at: self.search.0.clock.now().rfc3339() }
            }
            Err(error) => Rebuild::Failed { why: format!("{error:#}") },
        };
        self.search.0.rebuild.send_replace(end);
        Ok(())
    }

    /// Takes a new index into use; how many posts are in it. If it comes to nothing, the old one is opened again.
    async fn take_in(&mut self, mut building: Building) -> anyhow::Result<u64> {
        let posts = (&mut building.task).await.context("making it fell")??;
        let (search, old) = (self.search.clone(), self.writer.take());
        let swap = move || {
            let (index, writer) = search.0.shelf.swap(old)?;
            search.0.index.send_replace(Some(index));
            anyhow::Ok(writer)
        };
        self.writer = Some(tokio::task::spawn_blocking(|| giving_way(swap)).await.context("the index fell")??);
        Ok(posts)
    }

    /// What waits until there is something to do beside the journal.
    async fn called(search: &Search) {
        let mut index = search.0.index.subscribe();
        let current = index.borrow_and_update().clone();
        let doubted = async {
            match &current {
                Some(index) => index.doubted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = search.0.ordered.notified() => {}
            () = doubted => search.0.doubted.store(true, Ordering::Relaxed),
        }
    }
}

impl Worker for Indexer {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let _ = self.changed.borrow_and_update();
        self.doubt().await?;
        let followed = self.on_writer(|search, writer| search.follow(writer)).await?;
        if followed.applied > 0 {
            self.committed = Instant::now();
        }
        let durable = self.building.as_ref().map_or(followed.position, |new| new.from.min(followed.position));
        self.search.trim_journal(durable).await?;
        let obeyed = self.obey().await?;
        self.rebuild().await?;
        self.look().await?;
        Ok(obeyed || followed.applied == BATCH)
    }

    async fn wait(&mut self) {
        // Whatever comes within a second shares a commit.
        let search = self.search.clone();
        let change = async {
            tokio::time::sleep_until(self.committed + COMMIT_EVERY).await;
            tokio::select! {
                _ = self.changed.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        tokio::select! {
            () = change => {}
            () = Self::called(&search) => {}
        }
    }
}

impl Search {
    /// Opens the index for writing, and for searching; makes it anew where it is of no use. Blocks.
    fn open_index(&self) -> anyhow::Result<Writer> {
        // There is none to search while it is not known whether it is whole.
        self.0.index.send_replace(None);
        let (index, writer) = self.0.shelf.open(&|done, total| {
            tracing::info!(done, total, "making the search index");
            !self.0.supervisor.stopping().is_cancelled()
        })?;
        self.0.index.send_replace(Some(index));
        Ok(writer)
    }

    /// Applies what changed and commits it. Blocks.
    fn follow(&self, writer: &mut Writer) -> anyhow::Result<Followed> {
        let view = self.0.store.ledger()?;
        let followed = self.0.shelf.follow(writer, &view)?;
        let (metrics, newest) = (&self.0.metrics, *self.0.store.follow_changes().borrow());
        metrics.index_lag.set(i64::try_from(newest.0.saturating_sub(followed.position.0)).unwrap_or(i64::MAX));
        followed.removals.iter().for_each(|took| metrics.purge_latency_seconds.observe(took.as_secs_f64()));
        Ok(followed)
    }

    async fn trim_journal(&self, durable: Seq) -> Result<(), StoreError> {
        while self.0.store.oldest_change()?.is_some_and(|seq| seq <= durable) {
            match self.0.store.write(move |tx: &mut Tx<'_>| tx.trim_changes(durable, TRIM)).await {
                // The next round comes soon.
                Err(StoreError::Busy) => return Ok(()),
                done => drop(done?),
            }
        }
        Ok(())
    }

    fn expunge_if_due(&self, writer: &mut Writer) -> anyhow::Result<()> {
        let Some(index) = self.index() else { return Ok(()) };
        let now = self.0.clock.now();
        let lag = self.note_stats(&index)?;
        if lag < EXPUNGE_AFTER {
            return Ok(());
        }
        self.expunge_now(writer, now).map(drop)
    }

    /// Tells the metrics; how long something that was removed is in the files already.
    fn note_stats(&self, index: &Index) -> anyhow::Result<Duration> {
        let (stats, now) = (index.stats()?, self.0.clock.now());
        let lag = stats.oldest_delete.map_or(Duration::ZERO, |since| now.since(since));
        self.0.metrics.erasure_lag_seconds.set(i64::try_from(lag.as_secs()).unwrap_or(i64::MAX));
        self.0.metrics.index_bytes.set(i64::try_from(stats.bytes).unwrap_or(i64::MAX));
        self.0.metrics.indexed_posts.set(i64::try_from(stats.docs).unwrap_or(i64::MAX));
        Ok(lag)
    }

    /// Has what was removed gone from the files. Blocks, for seconds.
    fn expunge_now(&self, writer: &mut Writer, now: Timestamp) -> anyhow::Result<Expunged> {
        let done = writer.expunge(now)?;
        tracing::info!(
            segments = done.segments,
            left = done.left,
            "removed posts are gone from the files of the index"
        );
        if let Some(index) = self.index() {
            self.note_stats(&index)?;
        }
        Ok(done)
    }

    fn build_beside(&self) -> Result<Building, StoreError> {
        let (search, cancelled) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let (from, stop) = (self.0.store.ledger()?.newest(), cancelled.clone());
        let task = tokio::task::spawn_blocking(move || {
            let progress = |done, total| {
                search.0.rebuild.send_replace(Rebuild::Running { done, total });
                !stop.load(Ordering::Relaxed)
            };
            let made = giving_way(|| search.0.shelf.build_beside(&progress));
            search.0.ordered.notify_one();
            made
        });
        Ok(Building { from, cancelled, task })
    }

    /// Has something done with the writer.
    async fn with_writer<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Search, &mut Writer) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        anyhow::ensure!(self.0.config.is_on(), "there is no search here: `search.api` is \"off\"");
        let (answer, answered) = oneshot::channel();
        let order: Order = Box::new(move |search, writer| drop(answer.send(job(search, writer))));
        self.0.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.0.ordered.notify_one();
        answered.await.context("the index cannot be used just now: the log says why")?
    }

    /// Ledger and index in numbers.
    ///
    /// # Errors
    /// The store's or the index's.
    pub fn report(&self) -> anyhow::Result<(Report, Rebuild)> {
        Ok((self.0.shelf.report(self.index().as_ref())?, self.0.rebuild.borrow().clone()))
    }

    /// Compares the ids in the index with those in the ledger, as of one moment, and reads all files of the index.
    ///
    /// # Errors
    /// That there is no search, or the index is damaged: then it is made anew.
    pub async fn check_index(&self) -> anyhow::Result<Compared> {
        let look = |search: &Search, writer: &mut Writer| {
            let index = search.index().context("there is no index just now")?;
            let taken = search.0.shelf.snapshot(&index, writer);
            if taken.is_err() {
                search.0.doubted.store(true, Ordering::Relaxed);
                search.0.ordered.notify_one();
            }
            taken
        };
        let (view, ids) = self.with_writer(look).await?;
        Ok(tokio::task::spawn_blocking(move || Shelf::compare(&view, ids)).await??)
    }

    /// Has what was removed gone from the files now.
    ///
    /// # Errors
    /// That there is no search, or the index's.
    pub async fn expunge_index(&self) -> anyhow::Result<Expunged> {
        let expunge = |search: &Search, writer: &mut Writer| {
            search.0.shelf.catch_up(writer)?;
            search.expunge_now(writer, search.0.clock.now())
        };
        self.with_writer(expunge).await
    }

    /// Has a new index made beside the one in use, unless that is under way.
    ///
    /// # Errors
    /// That there is no search.
    pub fn rebuild_index(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.config.is_on(), "there is no search here: `search.api` is \"off\"");
        self.0.rebuild.send_if_modified(|state| {
            let idle = !matches!(state, Rebuild::Running { .. });
            if idle {
                *state = Rebuild::Running { done: 0, total: 0 };
            }
            idle
        });
        self.0.ordered.notify_one();
        Ok(())
    }
}

/// A server in the index: half of a hash, so that nothing has to be remembered of it.
pub(super) fn server_number(authority: &Authority) -> u64 {
    let digest = Sha256::digest(authority.as_str().as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

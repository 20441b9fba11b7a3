//! From the ledger to the index: a worker follows the journal of the ledger's changes, applies them, and commits about
//! once a second together with the number of the last one; only then the journal is trimmed. To put a post in is to take
//! it out first, so a change that is applied twice changes nothing: after any crash the index goes on from its own number
//! and holds each post once.
//!
//! An index that is missing, damaged or older than the journal is moved aside and made anew from the ledger, while the
//! relay goes on; what is moved aside is deleted when the new one is there. What was removed is gone from the files
//! within a day ([`super::index::Writer::expunge`]).
//!
//! The engine blocks: it is only called on threads for that.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Search;
use super::index::{Index, IndexFault, Writer};
use super::schema::IndexDoc;
use crate::clock::Timestamp;
use crate::ids::{Authority, Seq};
use crate::store::{Change, IndexedPost, LedgerView, StoreError, Tx};
use crate::supervise::Worker;

/// The worker's name.
pub const NAME: &str = "indexer";
/// Changes applied with one commit.
const BATCH: usize = 10_000;
/// Posts read from the ledger in one go when the index is made anew.
const PAGE: usize = 1_000;
/// Changes forgotten in one transaction: the inbox waits for it.
const TRIM: usize = 1_000;
/// Between two commits: each costs tens of milliseconds, and a file that is to be merged.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked what must be gone from the files.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What was removed is gone from the files after so long, at most, and the time that takes: half of the day promised.
const EXPUNGE_AFTER: Duration = Duration::from_secs(12 * 3600);

/// The worker.
pub struct Indexer {
    search: Search,
    changed: watch::Receiver<Seq>,
    writer: Option<Writer>,
    committed: Instant,
    looked: Instant,
}

impl Indexer {
    /// A worker.
    #[must_use]
    pub fn new(search: Search) -> Self {
        let changed = search.0.store.follow_changes();
        let now = Instant::now();
        Self { search, changed, writer: None, committed: now, looked: now }
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
        let (writer, done) = tokio::task::spawn_blocking(run).await.context("the index fell")??;
        self.writer = Some(writer);
        Ok(done)
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        self.on_writer(|search, writer| search.expunge_if_due(writer)).await
    }
}

impl Worker for Indexer {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let _ = self.changed.borrow_and_update();
        let (applied, position) = self.on_writer(|search, writer| search.follow(writer)).await?;
        if applied > 0 {
            self.committed = Instant::now();
        }
        self.search.trim_journal(position).await?;
        self.look().await?;
        Ok(applied == BATCH)
    }

    async fn wait(&mut self) {
        // Whatever comes within a second shares a commit.
        tokio::time::sleep_until(self.committed + COMMIT_EVERY).await;
        tokio::select! {
            _ = self.changed.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

impl Search {
    /// The folder of the index.
    fn index_folder(&self) -> PathBuf {
        self.0.folder.clone()
    }

    /// Opens the index for writing; makes it anew where it is of no use. Blocks.
    fn open_index(&self) -> anyhow::Result<Writer> {
        let folder = self.index_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let opened = Index::open(&folder).and_then(|index| Ok((index.writer(self.heap())?, index)));
        let (mut writer, index) = match opened {
            Ok(opened) => opened,
            Err(fault @ IndexFault::Damaged(_)) => {
                tracing::error!(error = %anyhow::Error::from(fault), folder = %folder.display(), "the search index is made anew");
                Index::set_aside(&folder).context("moving the damaged index aside")?;
                let index = Index::open(&folder)?;
                (index.writer(self.heap())?, index)
            }
            Err(fault) => return Err(fault.into()),
        };
        if self.has_gap(&writer)? {
            self.rebuild_index(&mut writer)?;
        }
        // What was moved aside holds words of posts that may have been deleted since.
        Index::discard_aside(&folder).context("deleting the damaged index")?;
        self.0.index.send_replace(Some(index));
        Ok(writer)
    }

    fn heap(&self) -> usize {
        usize::try_from(self.0.config.heap.as_u64()).unwrap_or(usize::MAX)
    }

    /// Whether changes that this index has not seen are forgotten already.
    fn has_gap(&self, writer: &Writer) -> Result<bool, StoreError> {
        let first = self.0.store.changes(Seq(0), 1)?.first().map(|(seq, _)| *seq);
        let newest = *self.0.store.follow_changes().borrow();
        Ok(Seq(writer.position()) > newest || first.unwrap_or(newest.next()) > Seq(writer.position()).next())
    }

    /// Makes the index anew from the ledger.
    ///
    /// # Errors
    /// The store's or the index's; it is made anew again next time then.
    pub(super) fn rebuild_index(&self, writer: &mut Writer) -> anyhow::Result<u64> {
        // What changes meanwhile is in the journal after this number, and is applied afterwards.
        let newest = *self.0.store.follow_changes().borrow();
        writer.clear()?;
        let (mut from, mut count) = (0, 0);
        loop {
            let page = self.0.store.indexed_posts(from, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = last + 1;
            let view = self.0.store.ledger()?;
            for (number, post) in &page {
                if is_held(&view, post)? {
                    writer.add(&doc(*number, post))?;
                    count += 1;
                }
            }
            tracing::info!(posts = count, "making the search index");
        }
        writer.commit(newest.0, self.0.clock.now())?;
        Ok(count)
    }

    /// Applies what changed and commits it; how many changes, and the last one's number. Blocks.
    fn follow(&self, writer: &mut Writer) -> anyhow::Result<(usize, Seq)> {
        let changes = self.0.store.changes(Seq(writer.position()).next(), BATCH)?;
        let Some((last, _)) = changes.last() else { return Ok((0, Seq(writer.position()))) };
        let view = self.0.store.ledger()?;
        for (_, change) in &changes {
            match change {
                Change::Put(number) => match view.post(*number)? {
                    Some(post) if is_held(&view, &post)? => writer.put(&doc(*number, &post))?,
                    // It is gone since; the journal says so further on.
                    _ => writer.remove(*number),
                },
                Change::Drop(number) => writer.remove(*number),
                Change::DropAuthor(number) => writer.remove_author(*number),
            }
        }
        writer.commit(last.0, self.0.clock.now())?;
        let newest = *self.0.store.follow_changes().borrow();
        self.0.metrics.index_lag.set(i64::try_from(newest.0.saturating_sub(last.0)).unwrap_or(i64::MAX));
        Ok((changes.len(), *last))
    }

    async fn trim_journal(&self, durable: Seq) -> Result<(), StoreError> {
        while self.0.store.changes(Seq(0), 1)?.first().is_some_and(|(seq, _)| *seq <= durable) {
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
        let (stats, now) = (index.stats()?, self.0.clock.now());
        let lag = stats.oldest_delete.map_or(Duration::ZERO, |since| now.since(since));
        self.0.metrics.erasure_lag_seconds.set(i64::try_from(lag.as_secs()).unwrap_or(i64::MAX));
        self.0.metrics.indexed_posts.set(i64::try_from(stats.docs).unwrap_or(i64::MAX));
        if lag < EXPUNGE_AFTER {
            return Ok(());
        }
        self.expunge_now(writer, now)
    }

    /// Has what was removed gone from the files. Blocks, for seconds.
    fn expunge_now(&self, writer: &mut Writer, now: Timestamp) -> anyhow::Result<()> {
        let done = writer.expunge(now)?;
        tracing::info!(
            segments = done.segments,
            left = done.left,
            "removed posts are gone from the files of the index"
        );
        Ok(())
    }
}

/// Whether its author's row still has the number that it was taken under.
fn is_held(view: &LedgerView, post: &IndexedPost) -> Result<bool, StoreError> {
    Ok(view.author(&post.author)?.is_some_and(|author| author.number == post.author_number))
}

fn doc(number: u64, post: &IndexedPost) -> IndexDoc<'_> {
    IndexDoc {
        id: number,
        author: post.author_number,
        server: server_number(&post.object.authority()),
        language: &post.language,
        document: &post.document,
    }
}

/// A server in the index: half of a hash, so that nothing has to be remembered of it.
pub(super) fn server_number(authority: &Authority) -> u64 {
    let digest = Sha256::digest(authority.as_str().as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

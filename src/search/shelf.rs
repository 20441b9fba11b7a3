//! The index beside its ledger: opened, followed, made anew, compared. What the worker and the commands do with both,
//! whether a relay runs or not. Decides nothing about when.
//!
//! Promises: an index that `Shelf::follow` has brought up to a view of the ledger holds exactly the posts that are held in
//! that view; one that is made anew takes the place of the old one only when it is whole, and whenever that is cut short,
//! the next [`Shelf::open`] finds a whole one or makes it.
//!
//! All calls block, some for minutes: not for async threads.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::index::{Index, IndexFault, Stats, Writer};
use super::indexer::server_number;
use super::schema::IndexDoc;
use crate::clock::{Clock, Timestamp};
use crate::ids::Seq;
use crate::store::{Change, IndexedPost, LedgerView, Leftover, Store, StoreError};

/// Changes applied with one commit.
pub(super) const BATCH: usize = 10_000;
/// Posts read from the ledger in one go.
const PAGE: usize = 1_000;
/// Ids that a comparison names, of each kind; it counts all.
const NAMED: u64 = 20;
/// An index that files are deleted from meanwhile may look damaged; one that is stays so.
const LOOKS: usize = 3;

/// The ledger, and where its index is. Cheap to clone.
#[derive(Clone)]
pub struct Shelf {
    store: Store,
    folder: PathBuf,
    heap: usize,
    clock: Clock,
}

/// What was applied to the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Followed {
    /// So many changes.
    pub(super) applied: usize,
    /// The number of the last one.
    pub(super) position: Seq,
    /// How long ago each removal among them was written down, when it was final in the index.
    pub(super) removals: Vec<Duration>,
}

/// What is told while an index is made: posts so far, posts in all. Whether to go on.
pub type Progress<'a> = &'a dyn Fn(u64, u64) -> bool;

/// Ledger and index in numbers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Report {
    /// Posts in the ledger, those to be swept included.
    pub posts: u64,
    /// Authors.
    pub authors: u64,
    /// Authors whose posts are still to be swept.
    pub to_sweep: usize,
    /// Changes that are not in the index yet.
    pub waiting: u64,
    /// Posts in the index.
    pub indexed: u64,
    /// Posts that were removed and are still in its files.
    pub removed: u64,
    /// Since when, at most: RFC 3339.
    pub removed_since: Option<String>,
    /// Its segments.
    pub segments: usize,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of the store, the ledger and all else.
    pub store_bytes: u64,
}

/// The ids in the index beside those of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Compared {
    /// Posts that are held.
    pub held: u64,
    /// Posts in the index.
    pub indexed: u64,
    /// Held, and not in the index: so many.
    pub missing: u64,
    /// In the index, and not held.
    pub surplus: u64,
    /// More than once in the index.
    pub doubled: u64,
    /// Numbers of some of them, each with its fault.
    pub such_as: Vec<String>,
}

impl Compared {
    /// Whether nothing differs.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.missing == 0 && self.surplus == 0 && self.doubled == 0
    }

    fn note(&mut self, what: &str, number: u64) {
        let count = match what {
            "missing" => &mut self.missing,
            "surplus" => &mut self.surplus,
            _ => &mut self.doubled,
        };
        *count += 1;
        if *count <= NAMED {
            self.such_as.push(format!("{number} {what}"));
        }
    }
}

impl Shelf {
    /// The ledger in `store`, and its index in `folder`; the index sorts new posts in `heap` bytes.
    #[must_use]
    pub const fn new(store: Store, folder: PathBuf, heap: usize, clock: Clock) -> Self {
        Self { store, folder, heap, clock }
    }

    /// Whether there was ever an index here.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.folder.exists()
    }

    /// Opens the index for writing; makes it anew where it is of no use.
    ///
    /// # Errors
    /// The disk's, the store's, or that another process writes to it.
    pub fn open(&self, progress: Progress<'_>) -> anyhow::Result<(Index, Writer)> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        Index::finish_replacing(folder).context("looking for an index that was made beside")?;
        let opened = Index::open(folder).and_then(|index| Ok((index.writer(self.heap)?, index)));
        let (mut writer, index) = match opened {
            Ok(opened) => opened,
            Err(fault @ IndexFault::Damaged(_)) => {
                tracing::error!(error = %anyhow::Error::from(fault), folder = %folder.display(), "the search index is made anew");
                Index::set_aside(folder).context("moving the damaged index aside")?;
                let index = Index::open(folder)?;
                (index.writer(self.heap)?, index)
            }
            Err(fault) => return Err(fault.into()),
        };
        if self.has_gap(&writer)? {
            self.fill(&mut writer, progress)?;
        }
        // What lies beside holds words of posts that may have been deleted since.
        Index::clear_beside(folder).context("deleting what lies beside the index")?;
        Ok((index, writer))
    }

    /// Whether there are changes that this index has not seen and cannot see any more.
    fn has_gap(&self, writer: &Writer) -> Result<bool, StoreError> {
        let position = Seq(writer.position());
        let first = self.store.oldest_change()?;
        let newest = self.store.ledger()?.newest();
        let has_gap = position > newest || first.unwrap_or(newest.next()) > position.next();
        Ok(has_gap || !self.can_follow(position)?)
    }

    fn can_follow(&self, position: Seq) -> Result<bool, StoreError> {
        let mut from = position.next();
        loop {
            match self.store.changes(from, BATCH) {
                Ok(changes) => match changes.last() {
                    Some((last, _)) => from = last.next(),
                    None => return Ok(true),
                },
                Err(StoreError::Damaged(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Empties the index and fills it from the ledger; how many posts.
    ///
    /// # Errors
    /// The store's or the index's, or that `progress` did not want to go on; it is made anew again next time then.
    fn fill(&self, writer: &mut Writer, progress: Progress<'_>) -> anyhow::Result<u64> {
        // What changes meanwhile is in the journal after this number, and is applied afterwards.
        let newest = self.store.ledger()?.newest();
        let total = self.store.ledger_counts()?.posts;
        writer.clear()?;
        let (mut from, mut seen, mut count) = (0, 0, 0);
        loop {
            anyhow::ensure!(progress(seen, total), "it was not to go on");
            let view = self.store.ledger()?;
            let page = view.posts(from, PAGE)?;
            let Some(next) = page.next else { break };
            for (number, post) in &page.rows {
                if is_held(&view, post)? {
                    writer.add(&doc(*number, post))?;
                    count += 1;
                }
            }
            (from, seen) = (next, seen + page.rows.len() as u64);
        }
        writer.commit(newest.0, self.clock.now())?;
        tracing::info!(posts = count, "the search index is made");
        Ok(count)
    }

    /// Applies what changed up to `view`, and commits; at most [`BATCH`] changes.
    ///
    /// # Errors
    /// The store's or the index's.
    pub(super) fn follow(&self, writer: &mut Writer, view: &LedgerView) -> anyhow::Result<Followed> {
        let mut changes = self.store.changes(Seq(writer.position()).next(), BATCH)?;
        changes.retain(|(seq, _)| *seq <= view.newest());
        let Some((last, _)) = changes.last() else {
            return Ok(Followed { position: Seq(writer.position()), ..Followed::default() });
        };
        for (_, noted) in &changes {
            match noted.change {
                Change::Put(number) => match view.post(number)? {
                    Some(post) if is_held(view, &post)? => writer.put(&doc(number, &post))?,
                    // It is gone since; the journal says so further on.
                    _ => writer.remove(number),
                },
                Change::Drop(number) => writer.remove(number),
                Change::DropAuthor(number) => writer.remove_author(number),
            }
        }
        writer.commit(last.0, self.clock.now())?;
        let now = self.clock.now();
        let removals = changes.iter().filter(|(_, noted)| !matches!(noted.change, Change::Put(_)));
        // An older release did not say when.
        let removals = removals.filter(|(_, noted)| noted.at != Timestamp::default());
        let removals = removals.map(|(_, noted)| now.since(noted.at)).collect();
        Ok(Followed { applied: changes.len(), position: *last, removals })
    }

    /// Brings the index up to a view of the ledger as of now.
    ///
    /// # Errors
    /// The store's or the index's.
    pub(super) fn catch_up(&self, writer: &mut Writer) -> anyhow::Result<LedgerView> {
        loop {
            let view = self.store.ledger()?;
            while Seq(writer.position()) < view.newest() {
                if self.follow(writer, &view)?.applied == 0 {
                    break;
                }
            }
            // One commit may have let the view grow old; a short rest is done with it.
            if self.store.ledger()?.newest().0.saturating_sub(view.newest().0) < BATCH as u64 {
                return Ok(view);
            }
        }
    }

    /// Makes a new index beside the one in use; how many posts.
    ///
    /// # Errors
    /// The store's, the disk's, or that `progress` did not want to go on.
    pub fn build_beside(&self, progress: Progress<'_>) -> anyhow::Result<u64> {
        let beside = Index::beside(&self.folder);
        if beside.exists() {
            std::fs::remove_dir_all(&beside).context("deleting a new index that was not finished")?;
        }
        let index = Index::open(&beside)?;
        let mut writer = index.writer(self.heap)?;
        self.fill(&mut writer, progress)
    }

    /// Puts the index that was made beside in the place of the one in use, which `old` wrote to.
    ///
    /// # Errors
    /// The store's or the disk's: then one of them is opened next time.
    pub fn swap(&self, old: Option<Writer>) -> anyhow::Result<(Index, Writer)> {
        let beside = Index::beside(&self.folder);
        let index = Index::open(&beside)?;
        let mut writer = index.writer(self.heap)?;
        anyhow::ensure!(!self.has_gap(&writer)?, "the ledger's journal was trimmed too far for it");
        self.catch_up(&mut writer)?;
        drop((writer, index, old));
        Index::replace(&self.folder).context("putting the new index in its place")?;
        self.open(&|_, _| true)
    }

    /// Ids in the index, as of a view of the ledger: for [`Shelf::compare`].
    ///
    /// # Errors
    /// The store's, or that the index is damaged.
    pub fn snapshot(&self, index: &Index, writer: &mut Writer) -> anyhow::Result<(LedgerView, Vec<u64>)> {
        let mut verified = index.verify();
        for _ in 1..LOOKS {
            if verified.is_ok() {
                break;
            }
            verified = index.verify();
        }
        verified?;
        let view = self.catch_up(writer)?;
        Ok((view, index.ids()?))
    }

    /// Compares the ids of an index with the posts that are held in the view that it was brought up to.
    ///
    /// # Errors
    /// The store's.
    pub fn compare(view: &LedgerView, mut ids: Vec<u64>) -> Result<Compared, StoreError> {
        ids.sort_unstable();
        let mut found = Compared { indexed: ids.len() as u64, ..Compared::default() };
        let mut ids = ids.into_iter().peekable();
        let mut from = 0;
        loop {
            let page = view.posts(from, PAGE)?;
            let Some(next) = page.next else { break };
            for (number, post) in &page.rows {
                if !is_held(view, post)? {
                    continue;
                }
                found.held += 1;
                while let Some(id) = ids.next_if(|id| id < number) {
                    found.note("surplus", id);
                }
                if ids.next_if_eq(number).is_none() {
                    found.note("missing", *number);
                }
                while ids.next_if_eq(number).is_some() {
                    found.note("doubled", *number);
                }
            }
            from = next;
        }
        ids.for_each(|id| found.note("surplus", id));
        Ok(found)
    }

    /// Ledger and index in numbers; `index` if there is one open.
    ///
    /// # Errors
    /// The store's or the index's.
    pub fn report(&self, index: Option<&Index>) -> anyhow::Result<Report> {
        let (counts, none) = (self.store.ledger_counts()?, Stats::default());
        let stats = index.map_or(Ok(none), Index::stats)?;
        let position = index.map_or(Ok(0), Index::position)?;
        Ok(Report {
            posts: counts.posts,
            authors: counts.authors,
            to_sweep: self.store.sound_page::<Leftover>("", usize::MAX)?.rows.len(),
            waiting: self.store.ledger()?.newest().0.saturating_sub(position),
            indexed: stats.docs,
            removed: stats.deleted,
            removed_since: stats.oldest_delete.map(Timestamp::rfc3339),
            segments: stats.segments,
            bytes: stats.bytes,
            store_bytes: self.store.file_bytes(),
        })
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

//! The index on disk, and with the files beside it that it is made of the only place that knows the engine (tantivy). It
//! is never the authority: what may be shown is decided by whoever asks, hit by hit, and a lost index is made anew from
//! the ledger.
//!
//! Promises: after [`Writer::commit`] what was put is found, what was removed is not, and both survive a power cut
//! together with the number that says how far the journal was read; what was removed is gone from the files after
//! [`Writer::expunge`]; a damaged index is an error and not a crash. Searches hold no files between two calls.
//!
//! All calls block, some for seconds: not for async threads.

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tantivy::directory::MmapDirectory;
use tantivy::directory::error::OpenReadError;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, NoMergePolicy};
use tantivy::{IndexReader, IndexWriter, ReloadPolicy, TantivyError, Term};

use super::bounds::{Deadline, IdRange};
use super::collect::{self, Alive, Found};
use super::compile::Compiled;
use super::schema::{Fields, IndexDoc, VERSION, settings};
use crate::clock::Timestamp;

/// Results that can be paged through: a search is for finding, not for copying.
pub const MAX_RESULTS: usize = 400;

/// Segments with more posts are merged no further. Eight of this size make one of a quarter of a million, which an
/// expunge rewrites in about four seconds.
const MAX_DOCS_BEFORE_MERGE: usize = 32_000;
/// Share of deleted posts from which on a segment is rewritten before its turn.
const DELETED_RATIO: f32 = 0.2;
/// No search goes on for longer, whoever asks.
const MAX_TIME: Duration = Duration::from_secs(3600);
/// The engine refuses less.
const MIN_HEAP: usize = 15 << 20;
/// How long an expunge waits for merges that were under way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the index cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum IndexFault {
    /// It cannot be read, or not as what we write. Set it aside ([`Index::set_aside`]) and make it anew.
    #[error("the search index is damaged or of another version")]
    Damaged(#[source] Cause),
    /// Another process writes to it.
    #[error("the search index is in use by another process")]
    Busy(#[source] Cause),
    /// The disk or the system failed. The [`Writer`] is of no use any more: drop it and try again later.
    #[error("the search index could not be read or written")]
    Failed(#[source] Cause),
}

/// What lies behind an [`IndexFault`].
pub type Cause = Box<dyn Error + Send + Sync>;

/// The index, to be searched. Cheap to clone.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    engine: tantivy::Index,
    reader: IndexReader,
    fields: Fields,
}

/// Which part of what was found is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Only ids below this one: the last one of the page before.
    pub below: Option<u64>,
    /// Only ids above this one.
    pub above: Option<u64>,
    /// So many; at most [`MAX_RESULTS`].
    pub limit: usize,
}

/// The index in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Posts that can be found.
    pub docs: u64,
    /// Posts that were removed and are still in the files.
    pub deleted: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// Since when, at most, something that was removed is still in the files.
    pub oldest_delete: Option<Timestamp>,
}

/// What travels with each commit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Mark {
    /// How far the journal was read.
    position: u64,
    /// When the first removal was committed that no expunge has followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unexpunged: Option<Timestamp>,
}

impl Mark {
    /// With a checksum, which the engine's list of segments has not: a position that is wrong by one bit would leave
    /// posts out for ever.
    fn write(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string(self)?;
        Ok(format!("{} {text}", checksum(&text)))
    }

    fn read(payload: &str) -> Option<Self> {
        let (sum, text) = payload.split_once(' ')?;
        if sum == checksum(text) { serde_json::from_str(text).ok() } else { None }
    }
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Index {
    /// Opens the index within `dir`, or makes an empty one if there is none. Reads the structure of its files only; see
    /// [`Index::verify`].
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] if what is there cannot be opened, [`IndexFault::Failed`] if the disk fails.
    pub fn open(dir: &Path) -> Result<Self, IndexFault> {
        let folder = dir.join(VERSION);
        fs::create_dir_all(&folder).map_err(failed)?;
        guarded(|| Self::open_folder(folder))?
    }

    fn open_folder(folder: PathBuf) -> tantivy::Result<Result<Self, IndexFault>> {
        let (schema, fields) = Fields::build();
        let directory = MmapDirectory::open(&folder)?;
        let engine = if folder.join("meta.json").exists() {
            tantivy::Index::open(directory)?
        } else if holds_segments(&folder)? {
            return Ok(Err(IndexFault::Damaged("its list of segments is missing".into())));
        } else {
            let made = tantivy::Index::create(directory, schema.clone(), settings())?;
            sync(&folder)?;
            made
        };
        if engine.schema() != schema || engine.settings().sort_by_field != settings().sort_by_field {
            return Ok(Err(IndexFault::Damaged("its fields are not ours".into())));
        }
        let reader = engine.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let index = Self(Arc::new(Inner { folder, engine, reader, fields }));
        Ok(index.mark().map(|_mark| index))
    }

    /// How far the journal was read at the last commit; 0 if there was none.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn position(&self) -> Result<u64, IndexFault> {
        Ok(self.mark()?.position)
    }

    fn mark(&self) -> Result<Mark, IndexFault> {
        let meta = guarded(|| self.0.engine.load_metas())?;
        let Some(payload) = meta.payload else { return Ok(Mark::default()) };
        Mark::read(&payload).ok_or_else(|| IndexFault::Damaged("its position cannot be read".into()))
    }

    /// Reads all files and compares their checksums: about a second for a gigabyte.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn verify(&self) -> Result<(), IndexFault> {
        let broken = guarded(|| self.0.engine.validate_checksum())?;
        if broken.is_empty() {
            Ok(())
        } else {
            Err(IndexFault::Damaged(format!("{broken:?} are not as written").into()))
        }
    }

    /// The newest posts that `query` finds and `alive` lets pass, newest first, looking for at most `within`.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn newest(
        &self,
        query: &Compiled,
        page: Page,
        alive: Alive<'_>,
        within: Duration,
    ) -> Result<Found, IndexFault> {
        let ids = page.above.map_or(0, |id| id.saturating_add(1))..page.below.unwrap_or(u64::MAX);
        let deadline = deadline(within);
        guarded(|| {
            let searcher = self.0.reader.searcher();
            let bound = query.bind(&self.0.fields, &searcher, false, &deadline)?;
            collect::newest(&searcher, &bound, &ids, page.limit.min(MAX_RESULTS), alive, &deadline)
        })
    }

    /// The posts that fit `query` best and that `alive` lets pass, from the `skip`th on; at most [`MAX_RESULTS`] with
    /// those skipped. Of those that fit as well, the newest come first.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn best(
        &self,
        query: &Compiled,
        skip: usize,
        limit: usize,
        alive: Alive<'_>,
        within: Duration,
    ) -> Result<Found, IndexFault> {
        let skip = skip.min(MAX_RESULTS);
        let deadline = deadline(within);
        guarded(|| {
            let searcher = self.0.reader.searcher();
            let bound = query.bind(&self.0.fields, &searcher, true, &deadline)?;
            collect::best(&searcher, &bound, skip, limit.min(MAX_RESULTS - skip), alive, &deadline)
        })
    }

    /// The index in numbers.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn stats(&self) -> Result<Stats, IndexFault> {
        let meta = guarded(|| self.0.engine.load_metas())?;
        let deleted = meta.segments.iter().map(|segment| u64::from(segment.num_deleted_docs())).sum();
        let oldest_delete = if deleted > 0 { self.mark()?.unexpunged } else { None };
        let mut bytes = 0;
        for entry in fs::read_dir(&self.0.folder).map_err(failed)? {
            // One that is gone since was collected.
            bytes += entry.map_err(failed)?.metadata().map_or(0, |file| file.len());
        }
        Ok(Stats {
            docs: meta.segments.iter().map(|segment| u64::from(segment.num_docs())).sum(),
            deleted,
            segments: meta.segments.len(),
            bytes,
            oldest_delete,
        })
    }

    /// The one writer. Verifies the index first, and sorts out what a crash left behind: the engine deletes on threads of
    /// its own, where a panic about a damaged file would end the process.
    ///
    /// # Errors
    /// [`IndexFault::Busy`] while there is another one; [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn writer(&self, heap: usize) -> Result<Writer, IndexFault> {
        self.verify()?;
        let mark = self.mark()?;
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .memory_budget_per_thread(heap.max(MIN_HEAP))
            .num_merge_threads(1)
            .build();
        let engine: IndexWriter = guarded(|| self.0.engine.writer_with_options(options))?;
        engine.set_merge_policy(Box::new(merge_policy()));
        let writer = Writer { engine, index: self.clone(), mark, removed: false };
        writer.collect()?;
        Ok(writer)
    }

    /// Deletes what [`Index::set_aside`] moved.
    ///
    /// # Errors
    /// The disk's.
    pub fn discard_aside(dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir.join(format!("{VERSION}.damaged"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Moves the index within `dir` out of the way, in place of one that was moved before; where to. It holds words of
    /// posts: whoever calls this deletes it within the time in which deleted posts have to be gone.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_aside(dir: &Path) -> io::Result<PathBuf> {
        let aside = dir.join(format!("{VERSION}.damaged"));
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::rename(dir.join(VERSION), &aside)?;
        sync(dir)?;
        Ok(aside)
    }
}

/// The one that writes. What it is told takes effect with the next [`Writer::commit`]; dropped before, it never happened.
pub struct Writer {
    engine: IndexWriter,
    index: Index,
    mark: Mark,
    /// Something may have been removed since the last commit.
    removed: bool,
}

impl Writer {
    /// How far the journal was read at the last commit.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.mark.position
    }

    /// Puts a post in, in place of the one with the same id.
    ///
    /// # Errors
    /// [`IndexFault::Failed`].
    pub fn put(&mut self, doc: &IndexDoc<'_>) -> Result<(), IndexFault> {
        self.remove(doc.id);
        self.add(doc)
    }

    /// Puts a post in whose id is not there yet: for an index that is made anew, where looking for it costs time.
    ///
    /// # Errors
    /// [`IndexFault::Failed`].
    pub fn add(&mut self, doc: &IndexDoc<'_>) -> Result<(), IndexFault> {
        let document = self.index.0.fields.document(doc);
        guarded(|| self.engine.add_document(document)).map(|_opstamp| ())
    }

    /// Takes a post out.
    pub fn remove(&mut self, id: u64) {
        self.take_out(self.index.0.fields.id_term(id));
    }

    /// Takes all posts of an author out.
    pub fn remove_author(&mut self, author: u64) {
        self.take_out(Term::from_field_u64(self.index.0.fields.author, author));
    }

    /// Takes all posts of a server out.
    pub fn remove_server(&mut self, server: u64) {
        self.take_out(Term::from_field_u64(self.index.0.fields.server, server));
    }

    /// Takes out all posts with smaller ids: what is too old.
    ///
    /// # Errors
    /// [`IndexFault::Failed`].
    pub fn remove_below(&mut self, id: u64) -> Result<(), IndexFault> {
        self.removed = true;
        guarded(|| self.engine.delete_query(Box::new(IdRange(0..id)))).map(|_opstamp| ())
    }

    fn take_out(&mut self, term: Term) {
        self.removed = true;
        self.engine.delete_term(term);
    }

    /// Makes all of it durable and visible, together with how far the journal was read.
    ///
    /// # Errors
    /// [`IndexFault::Failed`]: it is not known whether it happened. Open the index again: its position says so.
    pub fn commit(&mut self, position: u64, now: Timestamp) -> Result<(), IndexFault> {
        let mut mark = Mark { position, unexpunged: self.mark.unexpunged };
        if self.removed {
            mark.unexpunged = mark.unexpunged.or(Some(now));
        } else if self.segments_with_deletes()?.is_empty() {
            mark.unexpunged = None;
        }
        self.commit_mark(mark)
    }

    fn commit_mark(&mut self, mark: Mark) -> Result<(), IndexFault> {
        let payload = mark.write().map_err(failed)?;
        guarded(|| {
            let mut commit = self.engine.prepare_commit()?;
            commit.set_payload(&payload);
            commit.commit()
        })?;
        // The engine renames its list of segments into place; only this makes the new name durable.
        sync(&self.index.0.folder).map_err(failed)?;
        guarded(|| self.index.0.reader.reload())?;
        (self.mark, self.removed) = (mark, false);
        Ok(())
    }

    /// Rewrites every segment that still has something that was removed, so that it is gone from the files, and commits.
    /// How many posts are rewritten in a second: about 60,000.
    ///
    /// # Errors
    /// [`IndexFault::Failed`], or [`IndexFault::Damaged`].
    pub fn expunge(&mut self, now: Timestamp) -> Result<Expunged, IndexFault> {
        self.commit(self.mark.position, now)?;
        self.engine.set_merge_policy(Box::new(NoMergePolicy));
        let rewritten = self.rewrite();
        self.engine.set_merge_policy(Box::new(merge_policy()));
        let segments = rewritten?;
        self.commit_mark(Mark { position: self.mark.position, unexpunged: None })?;
        self.collect()?;
        Ok(Expunged { segments, left: self.files_left().map_err(failed)? })
    }

    fn rewrite(&mut self) -> Result<usize, IndexFault> {
        let (mut count, until) = (0, Instant::now() + PATIENCE);
        loop {
            let segments = self.segments_with_deletes()?;
            if segments.is_empty() {
                return Ok(count);
            }
            for segment in segments {
                match guarded(|| self.engine.merge(&[segment]).wait()) {
                    Ok(_merged) => count += 1,
                    // It is part of a merge that was under way, which does the same for us.
                    Err(fault) if Instant::now() >= until => return Err(fault),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        }
    }

    fn segments_with_deletes(&self) -> Result<Vec<tantivy::index::SegmentId>, IndexFault> {
        let metas = guarded(|| self.index.0.engine.searchable_segment_metas())?;
        Ok(metas.iter().filter(|segment| segment.num_deleted_docs() > 0).map(tantivy::SegmentMeta::id).collect())
    }

    /// Deletes files that nothing refers to.
    fn collect(&self) -> Result<(), IndexFault> {
        guarded(|| self.engine.garbage_collect_files().wait())?;
        sync(&self.index.0.folder).map_err(failed)
    }

    /// Files of segments that are no more: a search that was going on held them.
    fn files_left(&self) -> io::Result<usize> {
        let metas = self.index.0.engine.searchable_segment_metas().map_err(io::Error::other)?;
        let live: BTreeSet<String> = metas.iter().map(|segment| segment.id().uuid_string()).collect();
        let mut left = 0;
        for entry in fs::read_dir(&self.index.0.folder)? {
            let name = entry?.file_name();
            let segment = name.to_str().and_then(segment_of);
            left += usize::from(segment.is_some_and(|id| !live.contains(id)));
        }
        Ok(left)
    }

    /// Empties the index, at position 0.
    ///
    /// # Errors
    /// [`IndexFault::Failed`].
    pub fn clear(&mut self) -> Result<(), IndexFault> {
        guarded(|| self.engine.delete_all_documents())?;
        self.commit_mark(Mark::default())?;
        self.collect()
    }
}

/// What an expunge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expunged {
    /// Segments rewritten.
    pub segments: usize,
    /// Files that should be gone and were still held by a search. Expunge again: it is cheap when nothing is to be done.
    pub left: usize,
}

fn merge_policy() -> LogMergePolicy {
    let mut policy = LogMergePolicy::default();
    policy.set_max_docs_before_merge(MAX_DOCS_BEFORE_MERGE);
    policy.set_del_docs_ratio_before_merge(DELETED_RATIO);
    policy
}

fn deadline(within: Duration) -> Arc<Deadline> {
    Arc::new(Deadline::at(Instant::now() + within.min(MAX_TIME)))
}

/// Does something with the engine. It panics where it meets bytes that it would not have written; that is a fault like
/// others.
fn guarded<T>(work: impl FnOnce() -> tantivy::Result<T>) -> Result<T, IndexFault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(IndexFault::from),
        Err(panic) => Err(IndexFault::Damaged(format!("the engine gave up: {}", words_of(panic.as_ref())).into())),
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

impl From<TantivyError> for IndexFault {
    fn from(error: TantivyError) -> Self {
        let of_disk = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
        };
        match &error {
            TantivyError::LockFailure(..) => Self::Busy(error.into()),
            TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) | TantivyError::IoError(io_error)
                if !of_disk(io_error) =>
            {
                Self::Failed(error.into())
            }
            TantivyError::OpenReadError(_)
            | TantivyError::IoError(_)
            | TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::SchemaError(_)
            | TantivyError::FieldNotFound(_)
            | TantivyError::InternalError(_)
            | TantivyError::InvalidArgument(_)
            | TantivyError::DeserializeError(_) => Self::Damaged(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

fn failed(error: impl Into<Cause>) -> IndexFault {
    IndexFault::Failed(error.into())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn holds_segments(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.file_name().to_str().is_some_and(|name| segment_of(name).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The segment that a file of this name belongs to.
fn segment_of(name: &str) -> Option<&str> {
    let (id, _kind) = name.split_once('.')?;
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

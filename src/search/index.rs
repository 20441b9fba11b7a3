//! The index on disk, and with the files beside it that it is made of the only place that knows the engine (tantivy). It
//! is never the authority: what may be shown is decided by whoever asks, hit by hit, and a lost index is made anew from
//! the ledger.
//!
//! Promises: after [`Writer::commit`] what was put is found, what was removed is not, and both survive a power cut
//! together with the number that says how far the journal was read; what was removed is gone from the files after
//! [`Writer::expunge`]; a damaged index is an error and not a crash. Searches hold no files between two calls.
//!
//! All calls block, some for seconds: not for async threads.

mod fault;
mod tags;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tantivy::directory::MmapDirectory;
use tantivy::{IndexReader, ReloadPolicy, Searcher};
use tokio::sync::Notify;

pub use fault::{Cause, IndexFault};
use fault::{failed, guarded};
use writer::Mark;
pub use writer::{Expunged, Writer};

use super::bounds::{Deadline, Ids, Span};
use super::collect::{self, Alive, Found};
use super::compile::Compiled;
use super::schema::{Fields, VERSION, settings};
use crate::clock::Timestamp;

/// Where the index lies that was replaced.
const BEFORE: &str = "before";

/// Results that can be paged through: a search is for finding, not for copying.
pub const MAX_RESULTS: usize = 400;

/// No search goes on for longer, whoever asks.
const MAX_TIME: Duration = Duration::from_secs(3600);

/// The index, to be searched. Cheap to clone.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    engine: tantivy::Index,
    reader: IndexReader,
    fields: Fields,
    /// The spans of the segments, and as of which commit. Numbers only: no file is held open for them.
    spans: Mutex<(u64, Arc<[Option<Span>]>)>,
    /// A search met damage.
    doubt: Notify,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
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
        // Commits are counted from 0: of none of them are these.
        let spans = Mutex::new((u64::MAX, Arc::default()));
        let index = Self(Arc::new(Inner { folder, engine, reader, fields, spans, doubt: Notify::new() }));
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
        self.heed(guarded(|| {
            let searcher = self.0.reader.searcher();
            let spans = self.spans(&searcher)?;
            let bound = query.bind(&self.0.fields, false, &deadline);
            collect::newest(&searcher, &spans, &bound, &ids, page.limit.min(MAX_RESULTS), alive, &deadline)
        }))
    }

    /// The spans of a searcher's segments, in its order of them: read once after each commit.
    fn spans(&self, searcher: &Searcher) -> tantivy::Result<Arc<[Option<Span>]>> {
        let commit = searcher.generation().generation_id();
        let mut kept = self.0.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != commit {
            let spans: Vec<_> = searcher.segment_readers().iter().map(Span::of).collect::<tantivy::Result<_>>()?;
            *kept = (commit, spans.into());
        }
        Ok(Arc::clone(&kept.1))
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
        self.heed(guarded(|| {
            let searcher = self.0.reader.searcher();
            let bound = query.bind(&self.0.fields, true, &deadline);
            collect::best(&searcher, &bound, skip, limit.min(MAX_RESULTS - skip), alive, &deadline)
        }))
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
            // A commit is on the disk a moment before searches see it.
            docs: self.0.reader.searcher().num_docs(),
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
        Writer::open(self, heap)
    }

    /// Whether there is one within `dir`, whole or not.
    #[must_use]
    pub fn exists(dir: &Path) -> bool {
        dir.join(VERSION).exists()
    }

    /// The ids of all posts that can be found, one segment after the other.
    ///
    /// # Errors
    /// [`IndexFault::Damaged`] or [`IndexFault::Failed`].
    pub fn ids(&self) -> Result<Vec<u64>, IndexFault> {
        guarded(|| {
            let mut found = Vec::new();
            for segment in self.0.reader.searcher().segment_readers() {
                let ids = Ids::of(segment)?;
                found.extend(segment.doc_ids_alive().map(|doc| ids.at(doc)));
            }
            Ok(found)
        })
    }

    /// Returns when a search met something that cannot be right, maybe long ago: once for any number of searches.
    pub async fn doubted(&self) {
        self.0.doubt.notified().await;
    }

    /// What a search found out; damage is told to whoever cares for the index.
    fn heed<T>(&self, found: Result<T, IndexFault>) -> Result<T, IndexFault> {
        if matches!(found, Err(IndexFault::Damaged(_))) {
            self.0.doubt.notify_one();
        }
        found
    }

    /// The folder in which an index is made that is to take the place of the one within `dir`.
    #[must_use]
    pub fn beside(dir: &Path) -> PathBuf {
        dir.join("next")
    }

    /// Puts the index that was made beside in the place of the one within `dir`. Neither may be open for writing; searches
    /// go on in the old one's files. Cut short, it is for [`Index::finish_replacing`] to finish.
    ///
    /// # Errors
    /// The disk's.
    pub fn replace(dir: &Path) -> io::Result<()> {
        let (current, before, beside) = (dir.join(VERSION), dir.join(BEFORE), Self::beside(dir));
        if before.exists() {
            fs::remove_dir_all(&before)?;
        }
        sync(&beside)?;
        if current.exists() {
            fs::rename(&current, &before)?;
        }
        fs::rename(beside.join(VERSION), &current)?;
        sync(dir)
    }

    /// Finishes an [`Index::replace`] that was cut short between its two steps.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish_replacing(dir: &Path) -> io::Result<()> {
        let (current, made) = (dir.join(VERSION), Self::beside(dir).join(VERSION));
        if !current.exists() && dir.join(BEFORE).exists() && made.exists() {
            fs::rename(made, current)?;
            sync(dir)?;
        }
        Ok(())
    }

    /// Deletes all within `dir` but the index: what was moved aside or replaced, one that was not finished, those of other
    /// schemas.
    ///
    /// # Errors
    /// The disk's.
    pub fn clear_beside(dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name() != VERSION && entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
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

fn deadline(within: Duration) -> Arc<Deadline> {
    Arc::new(Deadline::at(Instant::now() + within.min(MAX_TIME)))
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

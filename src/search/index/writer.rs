//! The one who writes to the index: puts posts in, takes them out, commits, and rewrites what still has words of posts
//! that were taken out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tantivy::error::DataCorruption;
use tantivy::index::SegmentId;
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy, NoMergePolicy};
use tantivy::query::{EnableScoring, Query as _, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{IndexWriter, SegmentMeta, TantivyError, Term};

use super::fault::{failed, guarded};
use super::{Index, IndexFault, segment_of, sync};
use crate::clock::Timestamp;
use crate::search::schema::IndexDoc;

/// Segments with more posts are merged no further. Eight of this size make one of a quarter of a million, which an
/// expunge rewrites in about four seconds.
const MAX_DOCS_BEFORE_MERGE: usize = 32_000;
/// Share of deleted posts from which on a segment is rewritten before its turn.
const DELETED_RATIO: f32 = 0.2;
/// The engine refuses less.
const MIN_HEAP: usize = 15 << 20;
/// How long an expunge waits for merges and searches that were under way.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long until it looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// The one that writes. What it is told takes effect with the next [`Writer::commit`]; dropped before, it never happened.
pub struct Writer {
    engine: IndexWriter,
    index: Index,
    mark: Mark,
    /// Something may have been removed since the last commit.
    removed: bool,
    /// What is to be removed with the next commit.
    leaving: Vec<Term>,
}

impl Writer {
    pub(super) fn open(index: &Index, heap: usize) -> Result<Self, IndexFault> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .memory_budget_per_thread(heap.max(MIN_HEAP))
            .num_merge_threads(1)
            .build();
        let engine: IndexWriter = guarded(|| index.0.engine.writer_with_options(options))?;
        engine.set_merge_policy(Box::new(merge_policy()));
        // Only now: before, another one could have written.
        let writer = Self { engine, index: index.clone(), mark: index.mark()?, removed: false, leaving: Vec::new() };
        writer.collect()?;
        Ok(writer)
    }

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

    fn take_out(&mut self, term: Term) {
        self.removed = true;
        self.leaving.push(term.clone());
        self.engine.delete_term(term);
    }

    /// Reads what the engine is about to read for what is removed. It does so on a thread of its own, where a panic about a
    /// damaged file ends the process: here it is a fault like others, and the engine does not get so far.
    fn rehearse(&mut self) -> Result<(), IndexFault> {
        let leaving = std::mem::take(&mut self.leaving);
        if leaving.is_empty() {
            return Ok(());
        }
        guarded(|| {
            // A merge may have ended since the last commit.
            self.index.0.reader.reload()?;
            let (searcher, schema) = (self.index.0.reader.searcher(), self.index.0.engine.schema());
            for term in leaving {
                let weight = TermQuery::new(term, IndexRecordOption::Basic)
                    .weight(EnableScoring::disabled_from_schema(&schema))?;
                for segment in searcher.segment_readers() {
                    let (posts, mut beyond) = (segment.max_doc(), false);
                    weight.for_each_no_score(segment, &mut |found| beyond |= found.iter().any(|doc| *doc >= posts))?;
                    if beyond {
                        return Err(TantivyError::DataCorruption(DataCorruption::comment_only(
                            "a post beyond the last",
                        )));
                    }
                }
            }
            Ok(())
        })
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
        self.rehearse()?;
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
        // No merge begins before the files are looked through: what it has not finished looks like something left behind.
        self.engine.set_merge_policy(Box::new(NoMergePolicy));
        let done = self.rewrite_and_look();
        self.engine.set_merge_policy(Box::new(merge_policy()));
        done
    }

    fn rewrite_and_look(&mut self) -> Result<Expunged, IndexFault> {
        let segments = self.rewrite()?;
        self.commit_mark(Mark { position: self.mark.position, unexpunged: None })?;
        let until = Instant::now() + PATIENCE;
        loop {
            self.collect()?;
            let left = self.files_left().map_err(failed)?;
            if left == 0 || Instant::now() >= until {
                return Ok(Expunged { segments, left });
            }
            std::thread::sleep(PAUSE);
        }
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
                    Err(_) => std::thread::sleep(PAUSE),
                }
            }
        }
    }

    fn segments_with_deletes(&self) -> Result<Vec<SegmentId>, IndexFault> {
        let metas = guarded(|| self.index.0.engine.searchable_segment_metas())?;
        Ok(metas.iter().filter(|segment| segment.num_deleted_docs() > 0).map(SegmentMeta::id).collect())
    }

    /// Deletes files that nothing refers to.
    fn collect(&self) -> Result<(), IndexFault> {
        guarded(|| self.engine.garbage_collect_files().wait())?;
        sync(&self.index.0.folder).map_err(failed)
    }

    /// Files of segments that are no more, or not yet: a search that was going on holds them, or a merge makes them.
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
    /// Files that should be gone and are still held by a search, or not finished by a merge. Expunge again: it is cheap when
    /// nothing is to be done.
    pub left: usize,
}

/// What travels with each commit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    /// How far the journal was read.
    pub(super) position: u64,
    /// When the first removal was committed that no expunge has followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unexpunged: Option<Timestamp>,
}

impl Mark {
    /// With a checksum, which the engine's list of segments has not: a position that is wrong by one bit would leave
    /// posts out for ever.
    fn write(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string(self)?;
        Ok(format!("{} {text}", checksum(&text)))
    }

    pub(super) fn read(payload: &str) -> Option<Self> {
        let (sum, text) = payload.split_once(' ')?;
        if sum == checksum(text) { serde_json::from_str(text).ok() } else { None }
    }
}

fn checksum(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn merge_policy() -> LogMergePolicy {
    let mut policy = LogMergePolicy::default();
    policy.set_max_docs_before_merge(MAX_DOCS_BEFORE_MERGE);
    policy.set_del_docs_ratio_before_merge(DELETED_RATIO);
    policy
}

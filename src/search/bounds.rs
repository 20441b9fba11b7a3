//! The bounds of a search, as queries of the engine: a range of ids, and a time by which it has to be over.
//!
//! Segments are sorted by id, newest first, so a range of ids is a range of documents: two binary searches, and no list
//! is read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tantivy::columnar::Column;
use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

/// The ids of a segment by its documents.
pub(super) struct Ids {
    column: Column<u64>,
    count: DocId,
}

impl Ids {
    pub(super) fn of(segment: &SegmentReader) -> tantivy::Result<Self> {
        Ok(Self { column: segment.fast_fields().u64("id")?, count: segment.max_doc() })
    }

    pub(super) fn at(&self, doc: DocId) -> u64 {
        self.column.first(doc).unwrap_or(0)
    }

    /// The documents whose ids are in `ids`.
    pub(super) fn docs(&self, ids: &Range<u64>) -> Range<DocId> {
        let from = if ids.end == u64::MAX { 0 } else { self.first(|id| id < ids.end) };
        let to = if ids.start == 0 { self.count } else { self.first(|id| id < ids.start) };
        from..to
    }

    /// The first document from which on all are `below`.
    fn first(&self, below: impl Fn(u64) -> bool) -> DocId {
        let mut docs = 0..self.count;
        while docs.start < docs.end {
            let middle = docs.start + (docs.end - docs.start) / 2;
            if below(self.at(middle)) { docs.end = middle } else { docs.start = middle + 1 }
        }
        docs.start
    }
}

/// The ids of a segment from end to end, known without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    oldest: u64,
    newest: u64,
}

impl Span {
    /// `None`: it has none.
    pub(super) fn of(segment: &SegmentReader) -> tantivy::Result<Option<Self>> {
        let ids = Ids::of(segment)?;
        Ok(ids.count.checked_sub(1).map(|last| Self { oldest: ids.at(last), newest: ids.at(0) }))
    }

    /// The newest id in `ids` that the segment may have; `None` if it has none of them.
    pub(super) fn newest_in(self, ids: &Range<u64>) -> Option<u64> {
        let newest = self.newest.min(ids.end.checked_sub(1)?);
        (newest >= ids.start && ids.end > self.oldest).then_some(newest)
    }
}

/// Posts whose ids are in this range.
#[derive(Debug, Clone)]
pub(super) struct IdRange(pub(super) Range<u64>);

impl Query for IdRange {
    fn weight(&self, _scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for IdRange {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let docs = Ids::of(reader)?.docs(&self.0);
        if docs.is_empty() { Ok(Box::new(EmptyScorer)) } else { Ok(Box::new(Run { docs, boost })) }
    }

    fn explain(&self, _reader: &SegmentReader, _doc: DocId) -> tantivy::Result<Explanation> {
        Err(unexplained())
    }
}

/// Documents one after another; never empty.
struct Run {
    docs: Range<DocId>,
    boost: Score,
}

impl DocSet for Run {
    fn advance(&mut self) -> DocId {
        self.seek(self.doc().saturating_add(1).min(TERMINATED))
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.docs.start = self.docs.start.max(target);
        self.doc()
    }

    fn doc(&self) -> DocId {
        if self.docs.is_empty() { TERMINATED } else { self.docs.start }
    }

    fn size_hint(&self) -> u32 {
        u32::try_from(self.docs.len()).unwrap_or(u32::MAX)
    }
}

impl Scorer for Run {
    fn score(&mut self) -> Score {
        self.boost
    }
}

/// The time by which a search is over, whatever it has found.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    over: AtomicBool,
}

impl Deadline {
    pub(super) const fn at(at: Instant) -> Self {
        Self { at, over: AtomicBool::new(false) }
    }

    /// Whether it has passed; from the first time on that somebody asks after it, for everybody.
    pub(super) fn is_over(&self) -> bool {
        let over = self.was_over() || Instant::now() >= self.at;
        if over {
            self.end();
        }
        over
    }

    /// It is over before its time.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether somebody noticed that it has passed: then what scorers say since means nothing.
    pub(super) fn was_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A query that ends when the time is over. Whoever reads it asks [`Deadline::was_over`] before believing what it says: a
/// condition that ended early may have stood behind a minus.
#[derive(Debug)]
pub(super) struct Timed {
    inner: Box<dyn Query>,
    deadline: Arc<Deadline>,
}

impl Timed {
    pub(super) fn new(inner: Box<dyn Query>, deadline: Arc<Deadline>) -> Self {
        Self { inner, deadline }
    }
}

impl Clone for Timed {
    fn clone(&self) -> Self {
        Self { inner: self.inner.box_clone(), deadline: Arc::clone(&self.deadline) }
    }
}

impl Query for Timed {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(TimedWeight { inner: self.inner.weight(scoring)?, deadline: Arc::clone(&self.deadline) }))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a tantivy::Term, bool)) {
        self.inner.query_terms(visitor);
    }
}

struct TimedWeight {
    inner: Box<dyn Weight>,
    deadline: Arc<Deadline>,
}

impl Weight for TimedWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        if self.deadline.is_over() {
            return Ok(Box::new(EmptyScorer));
        }
        let inner = self.inner.scorer(reader, boost)?;
        Ok(Box::new(TimedScorer { inner, deadline: Arc::clone(&self.deadline), steps: 0 }))
    }

    fn explain(&self, _reader: &SegmentReader, _doc: DocId) -> tantivy::Result<Explanation> {
        Err(unexplained())
    }
}

struct TimedScorer {
    inner: Box<dyn Scorer>,
    deadline: Arc<Deadline>,
    steps: u32,
}

impl TimedScorer {
    /// Steps between two looks at the clock.
    const STEPS: u32 = 32;

    fn is_over(&mut self) -> bool {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(Self::STEPS) { self.deadline.is_over() } else { self.deadline.was_over() }
    }
}

impl DocSet for TimedScorer {
    fn advance(&mut self) -> DocId {
        if self.is_over() { TERMINATED } else { self.inner.advance() }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.is_over() { TERMINATED } else { self.inner.seek(target) }
    }

    fn doc(&self) -> DocId {
        if self.deadline.was_over() { TERMINATED } else { self.inner.doc() }
    }

    fn size_hint(&self) -> u32 {
        self.inner.size_hint()
    }

    fn cost(&self) -> u64 {
        self.inner.cost()
    }
}

impl Scorer for TimedScorer {
    fn score(&mut self) -> Score {
        self.inner.score()
    }
}

pub(super) fn unexplained() -> TantivyError {
    TantivyError::InvalidArgument("nobody asks why a post was found".to_owned())
}

//! How words begin, as the engine's queries: which terms of a segment begin so is looked up when the segment's turn comes,
//! so that the newest posts cost no look into old ones.
//!
//! Promises: however many beginnings a query has, they share one allowance: so many terms looked at and so many lists of
//! posts opened in a segment, and so many lists in all. Where a segment has more, the most frequent terms are taken, and
//! the answer says so; where the last list is opened, the search is over as if its time was.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, TermQuery, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, Score, SegmentReader, Term};

use super::bounds::{Deadline, unexplained};
use super::compile::union;

/// Terms that one beginning stands for in a segment; each is a list of posts.
pub(super) const MAX_EXPANSIONS: usize = 512;
/// And all beginnings of a query together.
pub(super) const MAX_LISTS: usize = 2 * MAX_EXPANSIONS;
/// Terms of a segment that are looked at for each that is taken.
const SCANNED_FOR_ONE: usize = 8;
/// Lists that a search opens in all segments: about 1.5 kB each.
pub(super) const MAX_OPEN: usize = 12 * MAX_LISTS;
/// Terms between two looks at the clock.
const STEPS: usize = 128;

/// What the beginnings in one query may open.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Terms that each may stand for in a segment.
    each: usize,
    /// Lists that may still be opened.
    left: AtomicUsize,
    cut: AtomicBool,
    deadline: Arc<Deadline>,
}

impl Allowance {
    /// For a query with so many beginnings.
    pub(super) fn shared_by(stems: usize, deadline: &Arc<Deadline>) -> Self {
        let each = (MAX_LISTS / stems.max(1)).clamp(1, MAX_EXPANSIONS);
        let (left, cut) = (AtomicUsize::new(MAX_OPEN), AtomicBool::new(false));
        Self { each, left, cut, deadline: Arc::clone(deadline) }
    }

    /// Terms that one beginning may stand for in a segment.
    pub(super) fn most_of_one(&self) -> u32 {
        u32::try_from(self.each).unwrap_or(u32::MAX)
    }

    /// A beginning stood for more terms than were taken.
    pub(super) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Lists that may still be opened.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Leaves so many.
    #[cfg(test)]
    pub(super) fn leave(&self, lists: usize) {
        self.left.store(lists, Ordering::Relaxed);
    }

    /// Takes so many lists; whether there were as many. If not, the search is over: what it said is true, and there may be
    /// more.
    fn open(&self, lists: usize) -> bool {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(lists));
        if taken.is_err() {
            self.deadline.end();
        }
        taken.is_ok()
    }

    /// The terms of a segment that begin with `stem`, as many as may be opened; none when the time is over.
    fn terms(&self, segment: &SegmentReader, field: Field, stem: &str) -> tantivy::Result<Vec<Term>> {
        let index = segment.inverted_index(field)?;
        let mut stream = index.terms().range().ge(stem).into_stream()?;
        let mut found: Vec<(Reverse<u32>, Vec<u8>)> = Vec::new();
        while stream.advance() && stream.key().starts_with(stem.as_bytes()) {
            if found.len() == SCANNED_FOR_ONE * self.each {
                self.cut.store(true, Ordering::Relaxed);
                break;
            }
            if found.len().is_multiple_of(STEPS) && self.deadline.is_over() {
                return Ok(Vec::new());
            }
            found.push((Reverse(stream.value().doc_freq), stream.key().to_vec()));
        }
        if found.len() > self.each {
            self.cut.store(true, Ordering::Relaxed);
            found.sort_unstable();
            found.truncate(self.each);
        }
        let term = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(|text| Term::from_field_text(field, text));
        let terms: Vec<Term> = found.iter().filter_map(|(_, bytes)| term(bytes)).collect();
        Ok(if self.open(terms.len()) { terms } else { Vec::new() })
    }
}

/// Posts with a term that begins so; or with a phrase whose last word does.
#[derive(Debug)]
pub(super) struct Stem {
    field: Field,
    stem: String,
    phrase: Option<Box<dyn Query>>,
    allowance: Arc<Allowance>,
}

impl Stem {
    pub(super) fn new(field: Field, stem: &str, allowance: &Arc<Allowance>) -> Self {
        Self { field, stem: stem.to_owned(), phrase: None, allowance: Arc::clone(allowance) }
    }

    /// Of the phrase that `phrase` looks for, this is the last word.
    pub(super) fn last_of(field: Field, stem: &str, phrase: Box<dyn Query>, allowance: &Arc<Allowance>) -> Self {
        Self { phrase: Some(phrase), ..Self::new(field, stem, allowance) }
    }
}

impl Clone for Stem {
    fn clone(&self) -> Self {
        let phrase = self.phrase.as_ref().map(|phrase| phrase.box_clone());
        Self { phrase, ..Self::new(self.field, &self.stem, &self.allowance) }
    }
}

impl Query for Stem {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let phrase = self.phrase.as_ref().map(|phrase| phrase.weight(scoring)).transpose()?;
        let allowance = Arc::clone(&self.allowance);
        Ok(Box::new(StemWeight { field: self.field, stem: self.stem.clone(), phrase, allowance }))
    }

    fn query_terms<'a>(&'a self, visitor: &mut dyn FnMut(&'a Term, bool)) {
        if let Some(phrase) = &self.phrase {
            phrase.query_terms(visitor);
        }
    }
}

struct StemWeight {
    field: Field,
    stem: String,
    phrase: Option<Box<dyn Weight>>,
    allowance: Arc<Allowance>,
}

impl Weight for StemWeight {
    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let terms = self.allowance.terms(segment, self.field, &self.stem)?;
        match &self.phrase {
            _ if terms.is_empty() => Ok(Box::new(EmptyScorer)),
            Some(phrase) => phrase.scorer(segment, boost),
            None => {
                let term = |term| Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn Query>;
                let any = union(terms.into_iter().map(term).collect());
                any.weight(EnableScoring::disabled_from_schema(segment.schema()))?.scorer(segment, boost)
            }
        }
    }

    fn explain(&self, _segment: &SegmentReader, _doc: DocId) -> tantivy::Result<Explanation> {
        Err(unexplained())
    }
}

//! From a query to the ids of posts: the newest, or those that fit best. Whether one may be shown is asked here and not of
//! a finished page, so that pages are full; and both end when their time is over.
//!
//! The newest come out of the segments one at a time, as from a merge of sorted lists, and a segment is opened only when
//! its turn comes: what that costs depends on the page and not on how many posts there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use tantivy::query::{EnableScoring, Scorer, Weight};
use tantivy::{DocId, Score, Searcher, SegmentReader};

use super::bounds::{Deadline, Ids, Span};
use super::compile::Bound;

/// Candidates between two looks at the clock. One costs from a fraction of a microsecond to a look into the ledger.
const STEPS: u32 = 64;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The posts, in the order that was asked for.
    pub ids: Vec<u64>,
    /// The time was over before the page was full: there may be more, and of the newest none is missing between these.
    pub took_too_long: bool,
    /// A prefix stands for more words than were looked for: rare ones among them are not found.
    pub cut: bool,
}

/// Whether a post may be shown now.
pub type Alive<'a> = &'a (dyn Fn(u64) -> bool + Sync);

/// The `limit` newest posts with ids in `ids`. `spans` are those of the segments.
pub(super) fn newest(
    searcher: &Searcher,
    spans: &[Option<Span>],
    bound: &Bound,
    ids: &Range<u64>,
    limit: usize,
    alive: Alive<'_>,
    deadline: &Arc<Deadline>,
) -> tantivy::Result<Found> {
    let ids = ids.start.max(bound.ids.start)..ids.end.min(bound.ids.end);
    let weight = bound.query.weight(EnableScoring::disabled_from_searcher(searcher))?;
    let mut found = Found::default();
    // The segments whose turn has not come, by the newest id that they may have; then the lists that are open, by their next
    // one.
    let mut waiting = Vec::new();
    for (segment, span) in searcher.segment_readers().iter().zip(spans) {
        waiting.extend(span.and_then(|span| span.newest_in(&ids)).map(|newest| (newest, segment)));
    }
    waiting.sort_by_key(|(id, _)| *id);
    let mut open: BinaryHeap<Head> = BinaryHeap::new();
    let mut lists: Vec<List<'_>> = Vec::new();
    let mut steps = 0;
    while found.ids.len() < limit {
        while waiting.last().is_some_and(|(id, _)| open.peek().is_none_or(|head| head.id < *id)) {
            let Some((_, next)) = waiting.pop() else { break };
            if deadline.is_over() {
                break;
            }
            let mut list = List::open(next, &ids, weight.as_ref())?;
            if let Some(id) = list.id(list.scorer.doc()) {
                open.push(Head { id, list: lists.len() });
                lists.push(list);
            }
        }
        steps += 1;
        if deadline.was_over() || (steps % STEPS == 0 && deadline.is_over()) {
            found.took_too_long = true;
            break;
        }
        let Some(head) = open.pop() else { break };
        if found.ids.last() != Some(&head.id) && alive(head.id) {
            found.ids.push(head.id);
        }
        if let Some(list) = lists.get_mut(head.list) {
            let doc = list.scorer.advance();
            if let Some(id) = list.id(doc) {
                open.push(Head { id, list: head.list });
            }
        }
    }
    found.cut = bound.allowance.was_cut();
    Ok(found)
}

/// What a segment still has, newest first.
struct List<'a> {
    segment: &'a SegmentReader,
    column: Ids,
    end: DocId,
    scorer: Box<dyn Scorer>,
}

impl<'a> List<'a> {
    fn open(segment: &'a SegmentReader, ids: &Range<u64>, weight: &dyn Weight) -> tantivy::Result<Self> {
        let column = Ids::of(segment)?;
        let docs = column.docs(ids);
        let mut scorer = weight.scorer(segment, 1.0)?;
        if scorer.doc() < docs.start {
            scorer.seek(docs.start);
        }
        Ok(Self { segment, column, end: docs.end, scorer })
    }

    /// The id of the first document from `doc` on that is not deleted.
    fn id(&mut self, mut doc: DocId) -> Option<u64> {
        while doc < self.end && self.segment.is_deleted(doc) {
            doc = self.scorer.advance();
        }
        (doc < self.end).then(|| self.column.at(doc))
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    id: u64,
    list: usize,
}

/// The `limit` posts that fit best, from the `skip`th on; of those that fit as well, the newest.
pub(super) fn best(
    searcher: &Searcher,
    bound: &Bound,
    skip: usize,
    limit: usize,
    alive: Alive<'_>,
    deadline: &Arc<Deadline>,
) -> tantivy::Result<Found> {
    let kept = skip.saturating_add(limit);
    let weight = bound.query.weight(EnableScoring::enabled_from_searcher(searcher))?;
    // Many are among the best for a while, and nearly all that the index has may be shown: so those are asked about that
    // are the best in the end, and only where too few of them may be shown, all on their way.
    let some_more = kept + kept / 4 + 4;
    let ranked = rank(searcher, bound, weight.as_ref(), some_more, &|_| true, deadline)?;
    let was_all = ranked.len() < some_more;
    let mut ids: Vec<u64> = ranked.into_iter().filter(|id| alive(*id)).take(kept).collect();
    if ids.len() < kept && !was_all && !deadline.is_over() {
        ids = rank(searcher, bound, weight.as_ref(), kept, alive, deadline)?;
    }
    let ids = ids.into_iter().skip(skip).collect();
    Ok(Found { ids, took_too_long: deadline.was_over(), cut: bound.allowance.was_cut() })
}

/// The `kept` best of those that are `alive`, the best first.
fn rank(
    searcher: &Searcher,
    bound: &Bound,
    weight: &dyn Weight,
    kept: usize,
    alive: Alive<'_>,
    deadline: &Arc<Deadline>,
) -> tantivy::Result<Vec<u64>> {
    let mut top = Top { kept, heap: BinaryHeap::with_capacity(kept.min(1024)) };
    let mut steps = 0_u32;
    for segment in searcher.segment_readers() {
        let column = Ids::of(segment)?;
        let docs = column.docs(&bound.ids);
        if docs.is_empty() || deadline.is_over() {
            continue;
        }
        // The engine passes over nothing for its score. Its bounds of a block are no bounds: of hashtags, whose lists have no
        // frequencies, they are nought, and of words they were made with the mean length of one segment and not of all, so
        // that pages would miss posts. It would not even be faster: with a minus, which nearly every query has for
        // sensitive posts, the engine looks at every post whatever it is told.
        weight.for_each_pruning(Score::MIN, segment, &mut |doc, score| {
            steps += 1;
            if deadline.was_over() || (steps.is_multiple_of(STEPS) && deadline.is_over()) || doc >= docs.end {
                return Score::INFINITY;
            }
            if doc >= docs.start && top.may_want(score) && !segment.is_deleted(doc) {
                let id = column.at(doc);
                if top.wants(score, id) && alive(id) {
                    top.push(score, id);
                }
            }
            Score::MIN
        })?;
    }
    Ok(top.into_ids())
}

/// The best so far; the worst of them on top.
struct Top {
    kept: usize,
    heap: BinaryHeap<Reverse<Rank>>,
}

impl Top {
    fn worst(&self) -> Option<&Rank> {
        if self.heap.len() < self.kept { None } else { self.heap.peek().map(|Reverse(rank)| rank) }
    }

    /// Whether it might want a post with this score, by whichever id.
    fn may_want(&self, score: Score) -> bool {
        self.worst().is_none_or(|worst| worst.score <= score)
    }

    fn wants(&self, score: Score, id: u64) -> bool {
        self.kept > 0 && self.worst().is_none_or(|worst| *worst < Rank { score, id })
    }

    fn push(&mut self, score: Score, id: u64) {
        self.heap.push(Reverse(Rank { score, id }));
        if self.heap.len() > self.kept {
            self.heap.pop();
        }
    }

    fn into_ids(self) -> Vec<u64> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(rank)| rank.id).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Rank {
    score: Score,
    id: u64,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

//! Finding hashtags: those that posts bear which may be shown now, by how they begin. The exact one first, then those that
//! are used most. How much a tag is used is told only where enough people use it.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::Search;
use super::compile::Compiled;
use super::facets::LEAST_AUTHORS;
use super::find::{FindFault, Hit, Shown, WITHIN};
use super::index::{Index, MAX_RESULTS, Page};
use super::query::{Expr, Leaf, Query, Sort, says_something};
use crate::store::first_number_at;
use crate::wire::document::tag_key;

/// Tags that are looked at for one answer.
const MAX_CANDIDATES: usize = 200;
/// Days that uses are told of, today included.
pub const DAYS: i64 = 7;
const DAY_MS: i64 = 86_400_000;

/// A hashtag that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashtag {
    /// As the newest post spells it, without `#`.
    pub name: String,
    /// How much it was used on the last [`DAYS`] days, the newest first, of at most [`MAX_RESULTS`] posts; of a day on which
    /// fewer than [`LEAST_AUTHORS`] people used it, nothing.
    pub days: Vec<Uses>,
}

/// How much a tag was used on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Uses {
    /// The day, from 1970 in UTC.
    pub day: i64,
    /// By how many people.
    pub authors: usize,
    /// In how many posts.
    pub posts: usize,
}

impl Search {
    /// The hashtags that begin with `text`, from the `skip`th on. Blocks, for milliseconds.
    ///
    /// # Errors
    /// [`FindFault`]: [`FindFault::Everything`] also if it is no beginning of a tag.
    pub fn hashtags(&self, text: &str, skip: usize, limit: usize) -> Result<Vec<Hashtag>, FindFault> {
        let _timer = self.timer("hashtags");
        let stem = tag_key(text).filter(|stem| says_something(stem)).ok_or(FindFault::Everything)?;
        let index = self.index().ok_or(FindFault::NoIndex)?;
        let (shown, until) = (Shown::new(self)?, Instant::now() + WITHIN);
        let (mut found, mut passed) = (Vec::new(), 0);
        for key in index.tags(&stem, MAX_CANDIDATES)? {
            let left = until.saturating_duration_since(Instant::now());
            if found.len() >= limit || left.is_zero() {
                break;
            }
            let Some((newest, name)) = newest_of(&index, &shown, &key, left)? else { continue };
            passed += 1;
            if passed > skip {
                let days = self.uses(&index, &shown, &key, newest)?;
                found.push(Hashtag { name, days });
            }
        }
        Ok(found)
    }

    fn uses(&self, index: &Index, shown: &Shown<'_>, key: &str, newest: u64) -> Result<Vec<Uses>, FindFault> {
        let today = self.0.clock.now().day();
        let mut days: BTreeMap<i64, (usize, HashSet<u64>)> = BTreeMap::new();
        let begin = crate::clock::Timestamp::from_millis((today - DAYS + 1).saturating_mul(DAY_MS));
        let since = first_number_at(begin);
        if newest >= since {
            let page = Page { above: Some(since.saturating_sub(1)), below: None, limit: MAX_RESULTS };
            for hit in hits_of(index, shown, key, page, WITHIN)? {
                let (posts, authors) = days.entry(hit.post.published.day()).or_default();
                *posts += 1;
                authors.insert(hit.author.number);
            }
        }
        let told = |day| match days.get(&day) {
            Some((posts, authors)) if authors.len() >= LEAST_AUTHORS => {
                Uses { day, authors: authors.len(), posts: *posts }
            }
            _ => Uses { day, ..Uses::default() },
        };
        Ok((0..DAYS).map(|back| told(today - back)).collect())
    }
}

/// The newest post with this tag that may be shown, and how it spells it.
fn newest_of(
    index: &Index,
    shown: &Shown<'_>,
    key: &str,
    within: std::time::Duration,
) -> Result<Option<(u64, String)>, FindFault> {
    let page = Page { limit: 1, ..Page::default() };
    let hit = hits_of(index, shown, key, page, within)?.into_iter().next();
    Ok(hit.and_then(|hit| {
        let spelling = hit.post.document.tags.iter().find(|tag| tag_key(tag).as_deref() == Some(key))?.clone();
        Some((hit.number, spelling))
    }))
}

fn hits_of(
    index: &Index,
    shown: &Shown<'_>,
    key: &str,
    page: Page,
    within: std::time::Duration,
) -> Result<Vec<Hit>, FindFault> {
    let query = Query { root: Expr::Leaf(Leaf::Tag(key.to_owned())), sort: Sort::Newest };
    let compiled = Compiled::new(&query, shown, false);
    shown.newest(index, &compiled, page, within).map(|(hits, _found)| hits)
}

//! How many of the posts that are held a change of the rules would take out of the search: told before it is made.

use serde::Serialize;
use utoipa::ToSchema;

use super::Search;
use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::policy::{RuleSet, Verdict};
use crate::store::{IndexedAuthor, Rule, StoreError, Target};

/// Authors, and posts, that are looked at for it.
const LOOKED_AT: usize = 200_000;
/// Rows looked at in one go.
const PAGE: usize = 500;

/// What would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reach {
    /// Authors of whom nothing is found any more.
    pub authors: u64,
    /// Posts: theirs, and those of others that say a forbidden word.
    pub posts: u64,
    /// Whether that is all; else there is more than was looked at.
    pub complete: bool,
}

impl Search {
    /// What the rules `after` would take out that those of now do not. Blocks, on the disk, for as long as it takes to read
    /// who is in the search; where keywords change, the posts as well.
    ///
    /// # Errors
    /// The store's.
    pub fn would_take_out(&self, after: &RuleSet) -> Result<Reach, StoreError> {
        let (before, now) = (self.0.rules.set(), self.0.clock.now());
        let mut reach = Reach { authors: 0, posts: 0, complete: true };
        let goes = |author: &Iri, words: &str| {
            let found = |rules: &RuleSet| rules.searchable(author, words, now).verdict == Verdict::Allow;
            found(&before) && !found(after)
        };
        let (store, mut from, mut looked) = (&self.0.store, String::new(), 0);
        loop {
            let page = store.sound_page::<IndexedAuthor>(&from, PAGE)?;
            let Some(next) = page.next else { break };
            looked += page.rows.len();
            for (id, author) in page.rows {
                if Iri::parse(&id).is_ok_and(|id| goes(&id, "")) {
                    reach.authors += 1;
                    reach.posts += store.posts_of(author.number)?;
                }
            }
            if looked >= LOOKED_AT {
                reach.complete = false;
                break;
            }
            from = next;
        }
        if keywords(&before, now) != keywords(after, now) {
            let (mut from, mut looked) = (Some(0), 0);
            while let Some(number) = from {
                // A view of its own for each page: one that is held keeps the file from reusing what it sees.
                let page = store.ledger()?.posts(number, PAGE)?;
                looked += page.rows.len();
                let said = |post: &&crate::store::IndexedPost| {
                    goes(&post.author, &post.document.words()) && !goes(&post.author, "")
                };
                reach.posts += page.rows.iter().map(|(_, post)| post).filter(said).count() as u64;
                from = page.next;
                if looked >= LOOKED_AT {
                    reach.complete &= from.is_none();
                    break;
                }
            }
        }
        Ok(reach)
    }
}

/// The rules about words that say something.
fn keywords(rules: &RuleSet, now: Timestamp) -> Vec<&Rule> {
    let all = rules.iter().map(|one| &one.rule);
    all.filter(|rule| matches!(rule.target, Target::Keyword(_)) && !rule.dry_run && rule.is_in_force(now)).collect()
}

//! The lists that were handed out last, made from the journal once more: they must be equal byte for byte. They are made with
//! what the operator had said by then; where something else is not as it was, that is said instead ([`Replayed::differs`]).
//! Works on the files of a relay that does not run, and beside one that does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assess::Window;
use super::board::Board;
use super::lists::{Asked, List, list};
use super::rulings::Rulings;
use super::served::conditions;
use crate::clock::Timestamp;
use crate::config;
use crate::policy::RuleSet;
use crate::store::{Store, StoreError, Subject, TrendServed, hour_of};

/// A list can be made again in the hour in which it was made and in the next: then the oldest of its ballots are forgotten.
const HOURS: u32 = 1;

/// One list, made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    /// Which one: its subject, window and language.
    pub list: String,
    /// The same bytes came out.
    pub equal: bool,
    /// Changes of the journal since it was made.
    pub changes_since: u64,
    /// What else is not as it was: `rulings` (taken back or said anew since), `rules`, `config`, `evictions`, or `hours`, if
    /// it is so old that its ballots are forgotten.
    pub conditions_changed: Vec<String>,
    /// As it was served.
    pub served: List,
    /// As it is now.
    pub again: List,
}

impl Replayed {
    /// It differs, and nothing that is known of explains that: somebody is to look at it.
    #[must_use]
    pub const fn differs(&self) -> bool {
        !self.equal && self.changes_since == 0 && self.conditions_changed.is_empty()
    }
}

/// Makes all lists again that were served last.
///
/// # Errors
/// The store's, or that a list that was kept is none.
pub fn replay(
    store: &Store,
    config: &config::Trends,
    rules: &Arc<RuleSet>,
    now: Timestamp,
) -> anyhow::Result<Vec<Replayed>> {
    let memory = usize::try_from(config.memory.as_u64()).unwrap_or(usize::MAX);
    let (rulings, usual) = (Rulings::load(store, &config.deny, config.review)?, store.usual()?);
    let (kept, mut done) = (store.all::<TrendServed>()?, Vec::new());
    let Some(latest) = kept.iter().map(|(_, kept)| kept.at).max() else { return Ok(done) };
    let board = Board::load(store, memory, &config.grown, rules, latest)?;
    for (row, kept) in kept {
        let asked = asked(&row).ok_or_else(|| StoreError::Damaged(format!("there is no list {row:?}")))?;
        let served: List = serde_json::from_str(&kept.list)?;
        let rulings = rulings.as_of(kept.at);
        let again = list(board.counts(), &usual, &rulings, &asked, kept.at)?;
        let equal = serde_json::to_string(&again)? == kept.list;
        let changes_since = board.newest().saturating_sub(kept.newest);
        let known = conditions(config, &rulings, rules, board.evicted(), kept.at);
        let mut changed = kept.conditions.changes(&known);
        if hour_of(now) > hour_of(kept.at) + HOURS {
            changed.push("hours");
        }
        let conditions_changed = changed.into_iter().map(str::to_owned).collect();
        done.push(Replayed { list: row, equal, changes_since, conditions_changed, served, again });
    }
    Ok(done)
}

fn asked(row: &str) -> Option<Asked> {
    let mut parts = row.splitn(3, ':');
    let subject = Subject::named(parts.next()?)?;
    let window = Window::of_hours(parts.next()?.parse().ok()?)?;
    let language = parts.next().filter(|language| !language.is_empty()).map(str::to_owned);
    Some(Asked { subject, window, language })
}

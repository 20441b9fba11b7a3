//! What is written down of lists that were handed out, so that they can be made again and compared: the last one of each
//! kind that everybody gets if they ask for nothing else, every fifteen seconds at most and only if something on it changed;
//! with it the conditions that it was made under beside the journal. And how much is kept back, counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use super::assess::Window;
use super::lists::{Asked, List};
use super::rulings::{Rulings, Withheld, digest};
use super::{REFRESH, Trends};
use crate::clock::Timestamp;
use crate::config;
use crate::policy::RuleSet;
use crate::store::{Conditions, Subject, TrendServed, Tx};

/// The lists that everybody gets: hashtags by each window, links and posts by a day.
#[must_use]
pub fn of_everybody() -> Vec<Asked> {
    let tags = Window::ALL.map(|window| (Subject::Tag, window));
    let others = [Subject::Link, Subject::Post].map(|subject| (subject, Window::Day));
    tags.into_iter().chain(others).map(|(subject, window)| Asked { subject, window, language: None }).collect()
}

/// What a list is made under beside the journal.
#[must_use]
pub fn conditions(
    config: &config::Trends,
    rulings: &Rulings,
    rules: &RuleSet,
    evicted: u64,
    at: Timestamp,
) -> Conditions {
    let rules: Vec<_> = rules
        .iter()
        .map(|one| &one.rule)
        .filter(|rule| rule.expires.is_none_or(|expires| at < expires))
        .map(|rule| (&rule.target, rule.severity, rule.dry_run))
        .collect();
    Conditions {
        rulings: rulings.digest(at),
        rules: digest(&rules),
        config: digest(&(&config.grown, config.memory.as_u64())),
        evicted,
    }
}

/// What was written down last.
#[derive(Default)]
pub(super) struct Written {
    at: Option<Timestamp>,
    lists: HashMap<Asked, Arc<List>>,
}

impl Written {
    /// Writes down what was handed out since and is not the same.
    pub(super) async fn write(&mut self, trends: &Trends, now: Timestamp) -> anyhow::Result<()> {
        if self.at.is_some_and(|at| now.since(at) < REFRESH) {
            return Ok(());
        }
        let (mut rows, mut lists) = (Vec::new(), Vec::new());
        for asked in of_everybody() {
            let kept = trends.0.lists.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(kept) = kept.get(&asked) else { continue };
            let list = &kept.list;
            let is_known = self.lists.get(&asked).is_some_and(|known| is_same(known, list));
            let is_new = !is_known && (self.lists.contains_key(&asked) || !is_bare(list));
            if is_new {
                let conditions = conditions(&trends.0.config, &kept.rulings, &kept.rules, kept.evicted, list.at);
                let text = serde_json::to_string(&**list)?;
                rows.push((asked.row(), TrendServed { at: list.at, newest: kept.newest, list: text, conditions }));
                lists.push((asked, list.clone()));
            }
        }
        self.at = Some(now);
        if !rows.is_empty() {
            let write = move |tx: &mut Tx<'_>| rows.iter().try_for_each(|(row, served)| tx.put(row, served));
            trends.0.store.write(write).await?;
            self.lists.extend(lists);
        }
        Ok(())
    }
}

/// But for the moment at which they were made.
fn is_same(one: &List, other: &List) -> bool {
    one.entries == other.entries && one.withheld == other.withheld && one.language == other.language
}

/// Of nothing there is nothing to compare.
fn is_bare(list: &List) -> bool {
    list.entries.is_empty() && list.withheld.is_empty()
}

impl Trends {
    /// Counts what is kept back of all lists that are handed out: each thing once for each reason.
    pub(super) fn count_withheld(&self) {
        let mut held: BTreeMap<(Subject, Withheld), BTreeSet<String>> = BTreeMap::new();
        let lists = self.0.lists.lock().unwrap_or_else(PoisonError::into_inner);
        for (asked, kept) in lists.iter() {
            for (why, keys) in &kept.list.withheld {
                held.entry((asked.subject, *why)).or_default().extend(keys.iter().cloned());
            }
        }
        drop(lists);
        for subject in [Subject::Tag, Subject::Link, Subject::Post] {
            for why in Withheld::ALL {
                let count = held.get(&(subject, why)).map_or(0, BTreeSet::len);
                let gauge = self.0.metrics.trends_withheld.with_label_values(&[subject.as_str(), why.as_str()]);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn conditions_name_what_is_not_as_it_was() {
        let config = Config::embedded();
        let rules = RuleSet::of_config(&config.policy, &config.relay);
        let at = Timestamp::from_secs(1_787_486_400);
        let of = |config: &Config, evicted| {
            let rules = RuleSet::of_config(&config.policy, &config.relay);
            conditions(&config.trends, &Rulings::default(), &rules, evicted, at)
        };
        let then = conditions(&config.trends, &Rulings::default(), &rules, 0, at);
        assert!(then.changes(&of(&config, 0)).is_empty());
        let mut other = Config::embedded();
        other.trends.grown = vec!["old.example".to_owned()];
        assert_eq!(then.changes(&of(&other, 0)), ["config"]);
        other.policy.block = vec!["evil.example".to_owned()];
        assert_eq!(then.changes(&of(&other, 7)), ["rules", "config", "evictions"]);
        // What was forgotten for lack of room may be there again.
        assert_eq!(of(&config, 7).changes(&then), ["evictions"]);
        let bare = List::default();
        assert!(is_bare(&bare) && is_same(&bare, &List { at, ..List::default() }));
    }
}

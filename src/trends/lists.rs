//! Lists of what trends: which, in which order, made from the counts at one moment. The same counts give the same list,
//! byte for byte.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::assess::{Assessment, Counts, Look, Past, Window, assess};
use super::explain::{DayOf, MadeOf, kept_days, live_days};
use super::rulings::{Rulings, Withheld};
use super::score::MIN_PEOPLE;
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::store::{StoreError, Subject, Usual, hour_of, target};

/// Entries of a list at most.
pub const MOST_ENTRIES: usize = 200;
/// Of these, links to one site.
const MOST_OF_SITE: u32 = 3;

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asked {
    /// Of what.
    pub subject: Subject,
    /// How far back.
    pub window: Window,
    /// In which language; `None`: in all.
    pub language: Option<String>,
}

impl Asked {
    /// Whether everybody gets it who asks for nothing special: it is made by itself.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        let is_usual = self.subject == Subject::Tag || self.window == Window::Day;
        is_usual && self.language.is_none()
    }

    /// The row that it is kept under when it was served.
    #[must_use]
    pub fn row(&self) -> String {
        format!("{}:{}:{}", self.subject.as_str(), self.window.hours(), self.language.as_deref().unwrap_or_default())
    }
}

/// What trends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// As of when.
    pub at: Timestamp,
    /// The window in hours.
    pub within: u32,
    /// The language; empty: all.
    pub language: String,
    /// What, the first one first.
    pub entries: Vec<Entry>,
    /// What else trends and is not shown, by the reason: the keys, in the same order.
    pub withheld: BTreeMap<Withheld, Vec<String>>,
}

impl List {
    /// One with nothing on it.
    #[must_use]
    pub fn empty(window: Window, language: &str, at: Timestamp) -> Self {
        let (entries, withheld) = (Vec::new(), BTreeMap::new());
        Self { at, within: window.hours(), language: language.to_owned(), entries, withheld }
    }
}

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What all its spellings have in common.
    pub key: String,
    /// Its commonest spelling.
    pub name: String,
    /// People,
    pub people: u32,
    /// on servers that weigh something,
    pub servers: u32,
    /// and how far they reach, in millionths.
    pub reach: u64,
    /// On how many equal servers that would be, in millionths.
    pub spread: u64,
    /// Posts.
    pub uses: u32,
    /// What is usual.
    pub usual: Usual,
    /// The score.
    pub z: f64,
    /// From 1 to 100, on a scale that is the same everywhere.
    pub rank: u32,
    /// The last days, today first; nothing where nobody asked for them.
    pub history: Vec<DayOf>,
    /// What its place is made of.
    #[serde(skip)]
    pub made_of: MadeOf,
}

impl Entry {
    fn of(key: &str, name: &str, found: &Assessment) -> Self {
        Self {
            key: key.to_owned(),
            name: name.to_owned(),
            people: found.measure.people,
            servers: found.measure.servers,
            reach: found.measure.reach,
            spread: found.measure.spread,
            uses: found.count.uses,
            usual: found.usual(),
            z: found.score.z,
            rank: found.score.rank,
            history: Vec::new(),
            made_of: MadeOf::new(found.clone()),
        }
    }
}

/// Makes a list.
///
/// # Errors
/// The store's.
pub fn list(
    counts: Counts<'_>,
    usual: &impl Past,
    rulings: &Rulings,
    asked: &Asked,
    now: Timestamp,
) -> Result<List, StoreError> {
    finish(draft(counts, usual, rulings, asked, now)?, usual, asked)
}

/// The same without the days that are over, which are read from the store: for that nobody need wait.
pub(super) fn draft(
    counts: Counts<'_>,
    usual: &impl Past,
    rulings: &Rulings,
    asked: &Asked,
    now: Timestamp,
) -> Result<List, StoreError> {
    let (mut entries, mut sites) = (Vec::new(), HashMap::new());
    let mut withheld = BTreeMap::<Withheld, Vec<String>>::new();
    for (entry, why) in all(counts, usual, rulings, asked, now)? {
        match why {
            None if is_one_too_many(asked.subject, &entry.key, &mut sites) => {}
            None => entries.push(entry),
            Some(why) => withheld.entry(why).or_default().push(entry.key),
        }
    }
    entries.truncate(MOST_ENTRIES);
    for entry in &mut entries {
        let target = target(asked.subject, &entry.key);
        entry.history = live_days(counts, target, asked.language.as_deref(), now);
    }
    let language = asked.language.clone().unwrap_or_default();
    Ok(List { at: now, within: asked.window.hours(), language, entries, withheld })
}

/// With them.
pub(super) fn finish(mut list: List, usual: &impl Past, asked: &Asked) -> Result<List, StoreError> {
    for entry in &mut list.entries {
        let target = target(asked.subject, &entry.key);
        entry.history.extend(kept_days(usual, target, asked.language.as_deref(), list.at)?);
    }
    Ok(list)
}

/// A site has a few places: else whoever has one fills the list with it.
fn is_one_too_many(subject: Subject, key: &str, sites: &mut HashMap<String, u32>) -> bool {
    let host = if subject == Subject::Link { url::Url::parse(key).ok() } else { None };
    let Some(host) = host.and_then(|url| Authority::parse(url.host_str()?).ok()) else { return false };
    let count = sites.entry(host.registrable().to_owned()).or_default();
    *count += 1;
    *count > MOST_OF_SITE
}

/// All that trends, in order, and why it is not shown if it is not.
///
/// # Errors
/// The store's.
pub fn all(
    counts: Counts<'_>,
    usual: &impl Past,
    rulings: &Rulings,
    asked: &Asked,
    now: Timestamp,
) -> Result<Vec<(Entry, Option<Withheld>)>, StoreError> {
    let span = asked.window.span(hour_of(now));
    let language = asked.language.as_deref();
    let all = counts.votes.speaking(span, language, counts.servers, now);
    let look = Look { window: asked.window, language, now, all };
    let mut found = Vec::new();
    for (target, subject) in counts.votes.targets() {
        if subject != asked.subject || counts.votes.at_most(target, span) < MIN_PEOPLE as usize {
            continue;
        }
        let one = assess(counts, usual, target, &look, false)?;
        let Some((_, key)) = counts.votes.key(target).filter(|_| one.score.trends()) else { continue };
        let name = counts.votes.spelling(target, span, counts.servers, now).unwrap_or(key);
        found.push((Entry::of(key, name, &one), rulings.withheld(subject, key, &one.count, now)));
    }
    found.sort_by(|(one, _), (other, _)| {
        other.z.total_cmp(&one.z).then_with(|| other.people.cmp(&one.people)).then_with(|| one.key.cmp(&other.key))
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_site_has_a_few_places_on_a_list_of_links() {
        let mut sites = HashMap::new();
        let mut is_left_out = |subject, key: &str| is_one_too_many(subject, key, &mut sites);
        for number in 0..MOST_OF_SITE {
            assert!(!is_left_out(Subject::Link, &format!("https://x{number}.example.org/{number}")));
        }
        assert!(is_left_out(Subject::Link, "https://www.example.org/more"));
        assert!(!is_left_out(Subject::Link, "https://other.example/") && !is_left_out(Subject::Tag, "example"));
    }
}

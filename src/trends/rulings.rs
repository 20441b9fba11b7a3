//! What the operator says about things that may trend: hidden, with a reason and for a time, or let through although a
//! rule or a review would keep it back. What is hidden is counted as before, and not shown; whoever asks about it is told
//! why.
//!
//! Kept back without the operator: what trends only with accounts that are younger than a week, because names are made into
//! trends that way; and everything, until it was looked at, where `trends.review` is on.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rules::{link_key, tag};
use super::votes::Count;
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::store::{Act, Record as _, Store, StoreError, Subject, TrendRuling, ruling_key};

/// Characters of a reason.
const MAX_REASON: usize = 500;
/// Rulings that there may be.
pub const MOST_RULINGS: usize = 10_000;

/// Why something that trends is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withheld {
    /// The operator hides it.
    Hidden,
    /// Without accounts that are younger than a week it would not trend.
    YoungVoters,
    /// The operator looks at everything first, and did not yet.
    Review,
}

impl Withheld {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hidden, Self::YoungVoters, Self::Review];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::YoungVoters => "young-voters",
            Self::Review => "review",
        }
    }
}

/// All that was said, as of one moment.
#[derive(Debug, Default)]
pub struct Rulings {
    rows: HashMap<String, TrendRuling>,
    /// Everything is looked at first.
    review: bool,
}

impl Rulings {
    /// Those that the store keeps, and those of the configuration over which they stand.
    ///
    /// # Errors
    /// The store's.
    pub fn load(store: &Store, deny: &[String], review: bool) -> Result<Arc<Self>, StoreError> {
        let mut rows = HashMap::new();
        for text in deny {
            if let Ok(subject) = Ruled::parse(text) {
                let reason = "It is on this relay's list of what is never shown.".to_owned();
                rows.insert(subject.row(), TrendRuling { hidden: true, reason, at: Timestamp::default(), until: None });
            }
        }
        rows.extend(store.all::<TrendRuling>()?);
        Ok(Arc::new(Self { rows, review }))
    }

    /// What was said about a thing that holds now; about links also what was said about all of their site.
    #[must_use]
    pub fn of(&self, subject: Subject, key: &str, now: Timestamp) -> Option<&TrendRuling> {
        let holds = |row: &str| self.rows.get(row).filter(|ruling| ruling.until.is_none_or(|until| now < until));
        let site = || {
            let host = url::Url::parse(key).ok()?;
            let host = Authority::parse(host.host_str()?).ok()?;
            let mut name = host.host();
            loop {
                if let Some(found) = holds(&format!("{SITE}{name}")) {
                    return Some(found);
                }
                name = name.split_once('.')?.1;
            }
        };
        holds(&ruling_key(subject, key)).or_else(|| if subject == Subject::Link { site() } else { None })
    }

    /// Why something is not shown, if it is not.
    #[must_use]
    pub fn withheld(&self, subject: Subject, key: &str, count: &Count, now: Timestamp) -> Option<Withheld> {
        match self.of(subject, key, now) {
            Some(ruling) if ruling.hidden => Some(Withheld::Hidden),
            Some(_shown) => None,
            None if count.only_with_young => Some(Withheld::YoungVoters),
            None => self.review.then_some(Withheld::Review),
        }
    }

    /// All that hold now, by their rows, in order.
    #[must_use]
    pub fn all(&self, now: Timestamp) -> Vec<(&str, &TrendRuling)> {
        let mut all: Vec<(&str, &TrendRuling)> = self
            .rows
            .iter()
            .filter(|(_, ruling)| ruling.until.is_none_or(|until| now < until))
            .map(|(row, ruling)| (row.as_str(), ruling))
            .collect();
        all.sort_by(|one, other| one.0.cmp(other.0));
        all
    }
}

const SITE: &str = "site:";

/// What a ruling is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruled {
    /// A hashtag, by its key.
    Tag(String),
    /// A link, by its canonical address.
    Link(String),
    /// All links to a domain and those below it.
    Site(String),
}

impl Ruled {
    /// Reads what an operator writes: `cats`, `#cats`, `https://…`, `site:news.example`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        if let Some(site) = text.strip_prefix(SITE) {
            let host = Authority::parse(site).map_err(|fault| anyhow::anyhow!("{site:?} is no domain: {fault}"))?;
            return Ok(Self::Site(host.host().to_owned()));
        }
        if text.contains("://") {
            let nobody = Authority::parse("nobody.invalid")?;
            let key = link_key(text, &nobody).ok_or_else(|| anyhow::anyhow!("{text:?} is no link that counts"))?;
            return Ok(Self::Link(key));
        }
        tag(text.strip_prefix("tag:").unwrap_or(text)).map(Self::Tag).map_err(|_fault| {
            anyhow::anyhow!("{text:?} is no hashtag that counts, no link (https://…) and no site (site:news.example)")
        })
    }

    /// The row that it is kept under.
    #[must_use]
    pub fn row(&self) -> String {
        match self {
            Self::Tag(key) => ruling_key(Subject::Tag, key),
            Self::Link(key) => ruling_key(Subject::Link, key),
            Self::Site(domain) => format!("{SITE}{domain}"),
        }
    }
}

/// Writes a ruling down, or takes it back; whether anything changed.
///
/// # Errors
/// A sentence about it, or the store's.
pub async fn rule(store: &Store, subject: &Ruled, ruling: Option<TrendRuling>, act: &Act) -> anyhow::Result<bool> {
    let (row, act) = (subject.row(), act.clone());
    if let Some(ruling) = &ruling {
        let length = ruling.reason.chars().count();
        anyhow::ensure!((1..=MAX_REASON).contains(&length), "it needs a reason, of at most {MAX_REASON} characters");
    }
    let write = move |tx: &mut crate::store::Tx<'_>| match ruling {
        Some(ruling) => {
            if tx.count::<TrendRuling>()? >= MOST_RULINGS as u64 {
                return Err(StoreError::Declined(format!("there are {MOST_RULINGS} {} already", TrendRuling::TABLE)));
            }
            let before = tx.get::<TrendRuling>(&row)?;
            tx.audit(&act, "trend.rule", &row, json!(before), json!(ruling))?;
            tx.put(&row, &ruling)?;
            Ok(true)
        }
        None => {
            let Some(before) = tx.get::<TrendRuling>(&row)? else { return Ok(false) };
            tx.audit(&act, "trend.unrule", &row, json!(before), Value::Null)?;
            tx.remove::<TrendRuling>(&row)
        }
    };
    Ok(store.write(write).await?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn count(only_with_young: bool) -> Count {
        Count { only_with_young, ..Count::default() }
    }

    #[tokio::test]
    async fn what_the_operator_says_holds_for_its_time_and_over_every_other_rule() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let until = NOON.plus(Duration::from_secs(3600));
        let ruling = |hidden| TrendRuling { hidden, reason: "a name".to_owned(), at: NOON, until: Some(until) };
        assert!(rule(&store, &Ruled::parse("#Cats").unwrap(), Some(ruling(true)), &Act::local("")).await.unwrap());
        assert!(rule(&store, &Ruled::parse("birds").unwrap(), Some(ruling(false)), &Act::local("")).await.unwrap());
        assert!(
            rule(&store, &Ruled::parse("site:news.example").unwrap(), Some(ruling(true)), &Act::local(""))
                .await
                .unwrap()
        );
        assert!(!rule(&store, &Ruled::parse("fish").unwrap(), None, &Act::local("")).await.unwrap());
        let nameless = TrendRuling { reason: String::new(), ..ruling(true) };
        assert!(rule(&store, &Ruled::parse("fish").unwrap(), Some(nameless), &Act::local("")).await.is_err());
        let check = |rulings: &Rulings, subject, key: &str, count: &Count, now, expected| {
            assert_eq!(rulings.withheld(subject, key, count, now), expected, "{key}");
        };
        let (old, young) = (count(false), count(true));
        let open = Rulings::load(&store, &["dogs".to_owned()], false).unwrap();
        check(&open, Subject::Tag, "cats", &old, NOON, Some(Withheld::Hidden));
        check(&open, Subject::Tag, "cats", &old, until, None);
        check(&open, Subject::Tag, "cats", &young, until, Some(Withheld::YoungVoters));
        check(&open, Subject::Tag, "birds", &young, NOON, None);
        check(&open, Subject::Tag, "dogs", &old, until, Some(Withheld::Hidden));
        check(&open, Subject::Link, "https://www.news.example/1", &old, NOON, Some(Withheld::Hidden));
        check(&open, Subject::Link, "https://fakenews.example/1", &old, NOON, None);
        assert_eq!(open.all(until).len(), 1);
        let review = Rulings::load(&store, &[], true).unwrap();
        check(&review, Subject::Tag, "birds", &young, NOON, None);
        check(&review, Subject::Tag, "fish", &old, NOON, Some(Withheld::Review));
    }

    #[test]
    fn a_ruling_says_what_it_is_about() {
        for text in ["", "2026", "a b", "site:", "ftp://x.example/", "f\u{43e}x"] {
            assert!(Ruled::parse(text).is_err(), "{text}");
        }
        assert_eq!(Ruled::parse("https://a.example/?utm_source=x#y").unwrap().row(), "link:https://a.example/");
    }
}

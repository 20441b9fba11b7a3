//! What the operator says about things that may trend: hidden, with a reason and for a time, or let through although a
//! rule or a review would keep it back. What is hidden is counted as before, and not shown; whoever asks about it is told
//! why.
//!
//! What the configuration denies stays denied, also when a word of the operator about it has run out; one that holds stands
//! over it.
//!
//! Kept back without the operator: what trends only with accounts that are younger than a week, because names are made into
//! trends that way; and everything, until it was looked at, where `trends.review` is on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::rules::{link_key, tag};
use super::votes::Count;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};
use crate::store::{Act, Record as _, Store, StoreError, Subject, TrendRuling, ruling_key};

/// Characters of a reason.
const MAX_REASON: usize = 500;
/// Rulings that there may be.
pub const MOST_RULINGS: usize = 10_000;
/// What has run out is known for so long, because lists of then are made again by it.
const OVER: Duration = Duration::from_secs(49 * 3600);

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
#[derive(Debug, Clone, Default)]
pub struct Rulings {
    /// While the relay ran.
    said: HashMap<String, TrendRuling>,
    /// In the configuration.
    denied: HashMap<String, TrendRuling>,
    /// Everything is looked at first.
    review: bool,
}

impl Rulings {
    /// Those that the store keeps, and those of the configuration over which they stand while they hold.
    ///
    /// # Errors
    /// The store's, or that `trends.deny` names something that cannot be denied: better no start than a list that is not kept.
    pub fn load(store: &Store, deny: &[String], review: bool) -> Result<Arc<Self>, StoreError> {
        let mut denied = HashMap::new();
        for text in deny {
            let subject = Ruled::parse(text)
                .map_err(|fault| StoreError::Declined(format!("trends.deny: {text:?} cannot be denied: {fault:#}")))?;
            let reason = "It is on this relay's list of what is never shown.".to_owned();
            denied.insert(subject.row(), TrendRuling { hidden: true, reason, at: Timestamp::default(), until: None });
        }
        let said = store.all::<TrendRuling>()?.into_iter().collect();
        Ok(Arc::new(Self { said, denied, review }))
    }

    /// What was said about a thing that holds now; about links and posts also what was said about all of their site.
    #[must_use]
    pub fn of(&self, subject: Subject, key: &str, now: Timestamp) -> Option<&TrendRuling> {
        let site = || {
            let host = url::Url::parse(key).ok()?;
            let host = Authority::parse(host.host_str()?).ok()?;
            let mut name = host.host();
            loop {
                if let Some(found) = self.holds(&format!("{SITE}{name}"), now) {
                    return Some(found);
                }
                name = name.split_once('.')?.1;
            }
        };
        self.holds(&ruling_key(subject, key), now).or_else(|| if subject == Subject::Tag { None } else { site() })
    }

    fn holds(&self, row: &str, now: Timestamp) -> Option<&TrendRuling> {
        let said = self.said.get(row).filter(|ruling| ruling.holds(now));
        said.or_else(|| self.denied.get(row))
    }

    /// As they were at a moment, as far as they are still known: without what was said later. What was said over, or taken
    /// back, is not known any more.
    #[must_use]
    pub fn as_of(&self, at: Timestamp) -> Self {
        let said = self.said.iter().filter(|(_, ruling)| ruling.at <= at);
        let said = said.map(|(row, ruling)| (row.clone(), ruling.clone())).collect();
        Self { said, ..self.clone() }
    }

    /// A digest of all that holds at a moment: equal ones keep back the same.
    #[must_use]
    pub fn digest(&self, at: Timestamp) -> String {
        let said: Vec<(&str, bool)> = self.all(at).into_iter().map(|(row, ruling)| (row, ruling.hidden)).collect();
        digest(&(said, self.review))
    }

    /// How many things of a kind are hidden just now; of links and posts, sites are among them.
    #[must_use]
    pub fn hidden(&self, subject: Subject, now: Timestamp) -> usize {
        let kind = format!("{}:", subject.as_str());
        let is_of_kind = |row: &str| row.starts_with(&kind) || (subject != Subject::Tag && row.starts_with(SITE));
        self.all(now).iter().filter(|(row, ruling)| ruling.hidden && is_of_kind(row)).count()
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
        let rows: BTreeSet<&str> = self.said.keys().chain(self.denied.keys()).map(String::as_str).collect();
        rows.into_iter().filter_map(|row| Some((row, self.holds(row, now)?))).collect()
    }
}

/// A digest of what can be written down: 32 hexadecimal digits.
pub(super) fn digest(of: &impl Serialize) -> String {
    let text = serde_json::to_vec(of).unwrap_or_default();
    Sha256::digest(&text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

const SITE: &str = "site:";
const POST: &str = "post:";

/// What a ruling is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruled {
    /// A hashtag, by its key.
    Tag(String),
    /// A link, by its canonical address.
    Link(String),
    /// A post that is boosted, by its id; what an operator gives may be the address of its page.
    Post(String),
    /// All links to a domain and those below it, and all posts there.
    Site(String),
}

impl Ruled {
    /// Reads what an operator writes: `cats`, `#cats`, `https://…`, `post:https://…`, `site:news.example`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        if let Some(site) = text.strip_prefix(SITE) {
            let host = Authority::parse(site).map_err(|fault| anyhow::anyhow!("{site:?} is no domain: {fault}"))?;
            return Ok(Self::Site(host.host().to_owned()));
        }
        if let Some(post) = text.strip_prefix(POST) {
            let post = Iri::parse(post).map_err(|fault| anyhow::anyhow!("{post:?} is no post: {fault}"))?;
            return Ok(Self::Post(post.to_string()));
        }
        if text.contains("://") {
            let text = text.strip_prefix("link:").unwrap_or(text);
            let nobody = Authority::parse("nobody.invalid")?;
            let key = link_key(text, &nobody).ok_or_else(|| anyhow::anyhow!("{text:?} is no link that counts"))?;
            return Ok(Self::Link(key));
        }
        tag(text.strip_prefix("tag:").unwrap_or(text)).map(Self::Tag).map_err(|_fault| {
            let others = "no link (https://…), no post (post:https://…) and no site (site:news.example)";
            anyhow::anyhow!("{text:?} is no hashtag that counts, {others}")
        })
    }

    /// The row that it is kept under.
    #[must_use]
    pub fn row(&self) -> String {
        match self {
            Self::Tag(key) => ruling_key(Subject::Tag, key),
            Self::Link(key) => ruling_key(Subject::Link, key),
            Self::Post(id) => ruling_key(Subject::Post, id),
            Self::Site(domain) => format!("{SITE}{domain}"),
        }
    }
}

/// What is meant: a post that is named by the address of its page is the one of these, that count just now, which has it.
///
/// # Errors
/// The store's.
pub fn meant(store: &Store, subject: &Ruled, posts: &[String]) -> Result<Ruled, StoreError> {
    let Ruled::Post(address) = subject else { return Ok(subject.clone()) };
    if posts.contains(address) {
        return Ok(subject.clone());
    }
    let ledger = store.ledger()?;
    for id in posts {
        let number = Iri::parse(id).ok().and_then(|id| store.indexed_number(&id).transpose()).transpose()?;
        let Some(number) = number else { continue };
        if ledger.post(number)?.is_some_and(|post| post.document.url.as_ref() == Some(address)) {
            return Ok(Ruled::Post(id.clone()));
        }
    }
    Ok(subject.clone())
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
    let before = ruling.as_ref().map(|ruling| ruling.at.minus(OVER));
    let is_over = move |ruling: &TrendRuling| ruling.until.is_some_and(|until| before.is_some_and(|at| until < at));
    let kept = store.all::<TrendRuling>()?;
    let over: Vec<String> = kept.into_iter().filter(|(_, kept)| is_over(kept)).map(|(row, _)| row).collect();
    let write = move |tx: &mut crate::store::Tx<'_>| match ruling {
        Some(ruling) => {
            for row in &over {
                if tx.get::<TrendRuling>(row)?.is_some_and(|kept| is_over(&kept)) {
                    tx.remove::<TrendRuling>(row)?;
                }
            }
            if tx.get::<TrendRuling>(&row)?.is_none() && tx.count::<TrendRuling>()? >= MOST_RULINGS as u64 {
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
        check(&open, Subject::Post, "https://www.news.example/1", &old, NOON, Some(Withheld::Hidden));
        check(&open, Subject::Post, "https://fakenews.example/1", &old, NOON, None);
        let hidden = |subject| open.hidden(subject, NOON);
        assert_eq!([Subject::Tag, Subject::Link, Subject::Post].map(hidden), [2, 1, 1]);
        assert_eq!(open.all(until).len(), 1);
        let review = Rulings::load(&store, &[], true).unwrap();
        check(&review, Subject::Tag, "birds", &young, NOON, None);
        check(&review, Subject::Tag, "fish", &old, NOON, Some(Withheld::Review));
    }

    fn said(hidden: bool, at: Timestamp, until: Option<Timestamp>) -> Option<TrendRuling> {
        Some(TrendRuling { hidden, reason: "a name".to_owned(), at, until })
    }

    #[tokio::test]
    async fn what_the_configuration_denies_is_denied_again_when_a_word_about_it_has_run_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let hour = |hours: u64| NOON.plus(Duration::from_secs(hours * 3600));
        let dogs = Ruled::parse("dogs").unwrap();
        let act = Act::local("");
        let deny = ["dogs".to_owned()];
        let why = |now| {
            let rulings = Rulings::load(&store, &deny, false).unwrap();
            rulings.withheld(Subject::Tag, "dogs", &count(false), now)
        };
        assert_eq!(why(NOON), Some(Withheld::Hidden));
        for hidden in [false, true] {
            assert!(rule(&store, &dogs, said(hidden, NOON, Some(hour(1))), &act).await.unwrap());
            assert_eq!(why(NOON), hidden.then_some(Withheld::Hidden));
            assert_eq!(why(hour(1)), Some(Withheld::Hidden), "a word that has run out says nothing");
        }
        let wrong = Rulings::load(&store, &["a b".to_owned()], false).unwrap_err().to_string();
        assert!(wrong.contains("trends.deny") && wrong.contains("a b"), "{wrong}");
        // What ran out long ago is forgotten with the next word.
        let birds = Ruled::parse("birds").unwrap();
        assert!(rule(&store, &birds, said(true, hour(49), None), &act).await.unwrap());
        assert_eq!(store.all::<TrendRuling>().unwrap().len(), 2);
        assert!(rule(&store, &birds, said(true, hour(51), None), &act).await.unwrap());
        assert_eq!(store.all::<TrendRuling>().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_there_is_a_ruling_about_can_be_ruled_anew_though_there_are_as_many_as_there_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let one = said(true, NOON, None).unwrap();
        let fill = move |tx: &mut crate::store::Tx<'_>| {
            (0..MOST_RULINGS).try_for_each(|number| tx.put(&format!("tag:t{number}"), &one))
        };
        store.write(fill).await.unwrap();
        let (old, new) = (Ruled::parse("t7").unwrap(), Ruled::parse("birds").unwrap());
        assert!(rule(&store, &old, said(false, NOON, None), &Act::local("")).await.unwrap());
        assert!(rule(&store, &new, said(true, NOON, None), &Act::local("")).await.is_err());
    }

    #[tokio::test]
    async fn rulings_are_those_of_a_moment_as_far_as_they_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let digest = || Rulings::load(&store, &[], false).unwrap().as_of(NOON).digest(NOON);
        let cats = Ruled::parse("cats").unwrap();
        let none = digest();
        let later = NOON.plus(Duration::from_secs(60));
        rule(&store, &cats, said(true, later, None), &Act::local("")).await.unwrap();
        assert_eq!(digest(), none, "it was said later");
        rule(&store, &cats, said(true, NOON, None), &Act::local("")).await.unwrap();
        assert_ne!(digest(), none);
    }

    #[test]
    fn a_ruling_says_what_it_is_about() {
        for text in ["", "2026", "a b", "site:", "ftp://x.example/", "f\u{43e}x", "post:", "post:cats"] {
            assert!(Ruled::parse(text).is_err(), "{text}");
        }
        for (text, row) in [
            ("https://a.example/?utm_source=x#y", "link:https://a.example/"),
            ("link:https://a.example/", "link:https://a.example/"),
            ("post:https://a.example/notes/1", "post:https://a.example/notes/1"),
            ("tag:cats", "tag:cats"),
            ("site:a.example", "site:a.example"),
        ] {
            assert_eq!(Ruled::parse(text).unwrap().row(), row);
        }
    }
}

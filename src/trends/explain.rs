//! Everything that a place on a list comes from, for one thing: so that anybody can compute it again. As of now, or as of
//! the list that is handed out.
//!
//! Of what few speak of no number is told to anybody ([`is_told`]): asked again and again it would be about somebody. The
//! weights of servers are in steps of a twentieth, in the score itself, so that what is told is exact and names nobody.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Trends;
use super::assess::{Assessment, Counts, Look, Past, Window, assess, day_of};
use super::lists::{Asked, List};
use super::rulings::{Rulings, Withheld};
use super::votes::Span;
use crate::clock::Timestamp;
use crate::store::{StoreError, Subject, hour_of, target};

/// Days of a history.
pub const HISTORY_DAYS: u32 = 7;
/// Of which so many are counted from what is there now: what was moderated or deleted since is not in them.
const LIVE_DAYS: u32 = 2;
/// Of days that are over, what fewer people or fewer servers spoke of is not told: it would be about somebody.
pub const LEAST_PEOPLE: u32 = 3;
/// These servers.
pub const LEAST_SERVERS: u32 = 2;
const DAY: u32 = 24;
/// Numbers are told of so many people at least,
const TOLD_PEOPLE: u32 = 5;
/// on so many servers.
const TOLD_SERVERS: u32 = 3;

/// Whether so many are enough that numbers about them are about nobody.
#[must_use]
pub const fn is_told(people: u32, servers: u32) -> bool {
    people >= TOLD_PEOPLE && servers >= TOLD_SERVERS
}

/// What the place of an entry was made of. No part of the list as it is kept or compared.
#[derive(Debug, Clone, Default)]
pub struct MadeOf(Option<Arc<Assessment>>);

impl MadeOf {
    /// Of this.
    #[must_use]
    pub fn new(found: Assessment) -> Self {
        Self(Some(Arc::new(found)))
    }
}

impl PartialEq for MadeOf {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// One thing, explained.
#[derive(Debug, Clone)]
pub struct Explained {
    /// As of when.
    pub at: Timestamp,
    /// What kind of thing.
    pub subject: Subject,
    /// What all its spellings have in common.
    pub key: String,
    /// Its commonest spelling.
    pub name: String,
    /// The window,
    pub window: Window,
    /// and the hours that are counted from what is there now, of a week those of today and yesterday.
    pub span: Span,
    /// The language; `None`: all.
    pub language: Option<String>,
    /// All numbers.
    pub found: Assessment,
    /// Why it would not be shown, and what the operator says about that.
    pub withheld: Option<(Withheld, String)>,
    /// The last days, today first.
    pub history: Vec<DayOf>,
}

impl Explained {
    /// Whether numbers are told.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        is_told(self.found.measure.people, self.found.measure.servers)
    }
}

/// How a day (UTC) was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayOf {
    /// When it began.
    pub began: Timestamp,
    /// Posts.
    pub uses: u32,
    /// People.
    pub people: u32,
}

/// Explains how a thing stands, whether it trends or not.
///
/// # Errors
/// The store's.
pub fn explain(
    counts: Counts<'_>,
    usual: &impl Past,
    rulings: &Rulings,
    subject: Subject,
    key: &str,
    look: &Look<'_>,
) -> Result<Explained, StoreError> {
    let Look { window, language, now, .. } = *look;
    let (target, span) = (target(subject, key), window.span(hour_of(now)));
    let found = assess(counts, usual, target, look, true)?;
    let reason = |why| match why {
        Withheld::Hidden => rulings.of(subject, key, now).map_or_else(String::new, |ruling| ruling.reason.clone()),
        Withheld::YoungVoters => "It trends only with accounts that are younger than a week.".to_owned(),
        Withheld::Review => "The operator of this relay looks at everything before it is shown.".to_owned(),
    };
    Ok(Explained {
        at: now,
        subject,
        key: key.to_owned(),
        name: counts.votes.spelling(target, span, counts.servers, now).unwrap_or(key).to_owned(),
        window,
        span,
        language: language.map(str::to_owned),
        withheld: rulings.withheld(subject, key, &found.count, now).map(|why| (why, reason(why))),
        found,
        history: history(counts, usual, target, language, now)?,
    })
}

impl Trends {
    /// How something stands on the list that is handed out, if that is of this moment (as it says it itself) and has it.
    #[must_use]
    pub fn explain_as_listed(&self, asked: &Asked, key: &str, at: &str) -> Option<Explained> {
        self.ready(asked).filter(|list| list.at.rfc3339() == at).and_then(|list| as_listed(&list, asked, key))
    }
}

fn as_listed(list: &List, asked: &Asked, key: &str) -> Option<Explained> {
    let entry = list.entries.iter().find(|entry| entry.key == key)?;
    let found = entry.made_of.0.as_deref()?;
    Some(Explained {
        at: list.at,
        subject: asked.subject,
        key: key.to_owned(),
        name: entry.name.clone(),
        window: asked.window,
        span: asked.window.span(hour_of(list.at)),
        language: asked.language.clone(),
        found: found.clone(),
        withheld: None,
        history: entry.history.clone(),
    })
}

/// The last seven days of a thing, today first: today and yesterday as they are now. A day on which few spoke of it is one on
/// which nobody did.
///
/// # Errors
/// The store's.
pub fn history(
    counts: Counts<'_>,
    usual: &impl Past,
    target: u64,
    language: Option<&str>,
    now: Timestamp,
) -> Result<Vec<DayOf>, StoreError> {
    let mut days = live_days(counts, target, language, now);
    days.extend(kept_days(usual, target, language, now)?);
    Ok(days)
}

/// Today and yesterday.
#[must_use]
pub fn live_days(counts: Counts<'_>, target: u64, language: Option<&str>, now: Timestamp) -> Vec<DayOf> {
    let hour = hour_of(now);
    let day = |back| {
        let span = day_of(hour, back);
        let count = counts.votes.count(target, span, language, counts.servers, now);
        DayOf::told(span.from / DAY, count.uses, count.measure.people, count.measure.servers)
    };
    (0..LIVE_DAYS).map(day).collect()
}

/// Those before.
///
/// # Errors
/// The store's.
pub fn kept_days(
    usual: &impl Past,
    target: u64,
    language: Option<&str>,
    now: Timestamp,
) -> Result<Vec<DayOf>, StoreError> {
    let today = hour_of(now) / DAY;
    let day = |back| {
        let day = today.saturating_sub(back);
        let known = usual.day(day, target, language.unwrap_or_default())?;
        Ok(DayOf::told(day, known.uses, known.usual.people, known.usual.servers))
    };
    (LIVE_DAYS..HISTORY_DAYS).map(day).collect()
}

impl DayOf {
    fn told(day: u32, uses: u32, people: u32, servers: u32) -> Self {
        let began = Timestamp::from_secs(i64::from(day) * 86_400);
        if is_told(people, servers) { Self { began, uses, people } } else { Self { began, uses: 0, people: 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Authority, Seq};
    use crate::store::{Ballot, Choice, Place, Usual, UsualDay, UsualHour};
    use crate::trends::servers::Servers;
    use crate::trends::votes::Votes;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    /// Each day before today so many people were there, on as many servers.
    struct Days<'a>(&'a [u32]);

    impl Past for Days<'_> {
        fn hour(&self, _hour: u32, _target: u64, _language: &str) -> Result<UsualHour, StoreError> {
            Ok(UsualHour::default())
        }

        fn day(&self, day: u32, _target: u64, _language: &str) -> Result<UsualDay, StoreError> {
            let back = (hour_of(NOON) / DAY - day) as usize;
            let people = self.0.get(back - 1).copied().unwrap_or_default();
            let usual = Usual { people, servers: people, reach: u64::from(people) };
            Ok(UsualDay { usual, spread: 0, uses: 2 * people })
        }
    }

    /// So many people on as many servers spoke of it at noon.
    fn counted(choice: &Choice, people: u32) -> (Votes, Servers) {
        let (mut votes, mut servers) = (Votes::default(), Servers::default());
        votes.admit(choice, 0, &[]);
        for number in 0..people {
            let place = Place { number, since: Timestamp::default(), seen_on: 0 };
            servers.learn(&Authority::parse(&format!("s{number}.example")).unwrap(), &place, false);
            let (language, choices, hour) = ("en".to_owned(), vec![choice.clone()], hour_of(NOON));
            let author = u64::from(number);
            let ballot = Ballot { author, place: number, language, young: false, hour, seq: Seq(1), choices };
            votes.add(1, &ballot, choice);
        }
        (votes, servers)
    }

    #[test]
    fn a_history_is_told_of_days_on_which_many_spoke_and_of_links_too() {
        for subject in [Subject::Tag, Subject::Link] {
            let choice = Choice { subject, key: "https://news.example/1".to_owned(), shown: String::new() };
            let (votes, servers) = counted(&choice, 6);
            let counts = Counts { votes: &votes, servers: &servers, since: 0 };
            let days = history(counts, &Days(&[0, 9, 4, 0, 5]), choice.target(), None, NOON).unwrap();
            let days: Vec<(u32, u32)> = days.iter().map(|day| (day.people, day.uses)).collect();
            assert_eq!(days, [(6, 6), (0, 0), (9, 18), (0, 0), (0, 0), (5, 10), (0, 0)]);
        }
    }

    #[test]
    fn numbers_are_told_of_five_people_on_three_servers() {
        let cases = [(5, 3, true), (4, 4, false), (1000, 2, false), (0, 0, false)];
        assert!(cases.iter().all(|(people, servers, expected)| is_told(*people, *servers) == *expected));
    }

    #[test]
    fn a_week_is_explained_by_its_days_and_those_before() {
        let choice = Choice { subject: Subject::Tag, key: "cats".to_owned(), shown: String::new() };
        let (votes, servers) = counted(&choice, 8);
        let (counts, past) = (Counts { votes: &votes, servers: &servers, since: 0 }, Days(&[7; 13]));
        let explained = |window| {
            let look = Look { window, language: None, now: NOON, all: 0 };
            explain(counts, &past, &Rulings::default(), Subject::Tag, "cats", &look).unwrap()
        };
        let week = explained(Window::Week).found;
        let people = |days: &[UsualDay]| days.iter().map(|day| day.usual.people).collect::<Vec<_>>();
        assert_eq!((people(&week.days), people(&week.days_before)), (vec![8, 0, 7, 7, 7, 7, 7], vec![7; 7]));
        assert!(explained(Window::Six).found.days.is_empty());
    }
}

//! Everything that a place on a list comes from, for one thing: so that anybody can compute it again.

use serde::{Deserialize, Serialize};

use super::assess::{Assessment, Counts, Past, Window, assess};
use super::rulings::{Rulings, Withheld};
use super::votes::Span;
use crate::clock::Timestamp;
use crate::store::{StoreError, Subject, hour_of, target};

/// Days of a history.
pub const HISTORY_DAYS: u32 = 7;
const DAY: u32 = 24;

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
    /// and its hours, of a week those of its last day.
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
#[expect(clippy::too_many_arguments, reason = "each is a thing of its own, and the order is that of `list`")]
pub fn explain(
    counts: Counts<'_>,
    usual: &impl Past,
    rulings: &Rulings,
    subject: Subject,
    key: &str,
    window: Window,
    language: Option<&str>,
    now: Timestamp,
) -> Result<Explained, StoreError> {
    let (target, span) = (target(subject, key), window.span(hour_of(now)));
    let found = assess(counts, usual, target, window, language, now, true)?;
    let reason = |why| match why {
        Withheld::Hidden => rulings.of(subject, key, now).map_or_else(String::new, |ruling| ruling.reason.clone()),
        Withheld::YoungVoters => "Most who speak of it have accounts that are younger than a week.".to_owned(),
        Withheld::Review => "The operator of this relay looks at everything before it is shown.".to_owned(),
    };
    Ok(Explained {
        at: now,
        subject,
        key: key.to_owned(),
        name: counts.votes.spelling(target, span).unwrap_or(key).to_owned(),
        window,
        span,
        language: language.map(str::to_owned),
        withheld: rulings.withheld(subject, key, &found.count, now).map(|why| (why, reason(why))),
        found,
        history: history(counts, usual, target, language, now)?,
    })
}

/// The last seven days of a thing, today first: today and as far as ballots are kept as they are now.
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
    let (hour, today) = (hour_of(now), hour_of(now) / DAY);
    let began = |day: u32| Timestamp::from_secs(i64::from(day) * 86_400);
    let span = Span { from: today * DAY, to: hour };
    let counted = counts.votes.count(target, span, language, counts.servers, now);
    let mut days = vec![DayOf { began: began(today), uses: counted.uses, people: counted.measure.people }];
    for back in 1..HISTORY_DAYS {
        let day = today.saturating_sub(back);
        let known = usual.day(day, target, language.unwrap_or_default())?;
        days.push(DayOf { began: began(day), uses: known.uses, people: known.usual.people });
    }
    Ok(days)
}

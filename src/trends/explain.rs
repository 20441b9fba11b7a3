//! Everything that a place on a list comes from, for one thing: so that anybody can compute it again.

use serde::{Deserialize, Serialize};

use super::assess::{Assessment, Counts, Look, Past, Window, assess, day_of};
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

/// The last seven days of a thing, today first: today and yesterday as they are now.
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
        DayOf { began: began(span.from / DAY), uses: count.uses, people: count.measure.people }
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
        Ok(DayOf { began: began(day), uses: known.uses, people: known.usual.people })
    };
    (LIVE_DAYS..HISTORY_DAYS).map(day).collect()
}

fn began(day: u32) -> Timestamp {
    Timestamp::from_secs(i64::from(day) * 86_400)
}

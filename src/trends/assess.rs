//! One thing in one window: what is counted, what was usual, and what it is worth. Lists are made of this, and explained
//! by it.
//!
//! A window of so many hours is the hour that runs and so many whole ones before it. The window of a week is an ordinary day
//! of it: the last 24 hours and the six days before, each counted by itself, on average; what is usual for it is an
//! ordinary day of the week before. Nobody is followed through a week.
//!
//! Links and boosted posts were not there yesterday: nothing is usual for them, and what they are worth halves as they age.

use serde::{Deserialize, Serialize};

use super::score::{self, Measure, Score};
use super::servers::Servers;
use super::votes::{Count, Span, Votes};
use crate::clock::Timestamp;
use crate::store::{StoreError, Subject, Usual, UsualDay, UsualHour, UsualView, hour_of};

/// Hours in which a link is worth half as much.
const LINK_HALF_LIFE: f64 = 8.0;
/// The same of a post.
const POST_HALF_LIFE: f64 = 2.0;
const DAY: u32 = 24;
const WEEK: u32 = 168;
/// Days of an ordinary week.
const DAYS: u32 = 7;

/// How far back is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Window {
    /// An hour.
    Hour,
    /// Six hours.
    #[default]
    Six,
    /// A day.
    Day,
    /// A week.
    Week,
}

impl Window {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Six, Self::Day, Self::Week];

    /// In hours.
    #[must_use]
    pub const fn hours(self) -> u32 {
        match self {
            Self::Hour => 1,
            Self::Six => 6,
            Self::Day => DAY,
            Self::Week => WEEK,
        }
    }

    /// By its hours.
    #[must_use]
    pub fn of_hours(hours: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.hours() == hours)
    }

    /// The hours that are counted; of a week those of its last day.
    #[must_use]
    pub fn span(self, hour: u32) -> Span {
        Span { from: hour.saturating_sub(self.hours().min(DAY)), to: hour }
    }

    /// Its place in [`crate::store::UsualHour`].
    const fn place(self) -> usize {
        match self {
            Self::Hour => 0,
            Self::Six => 1,
            Self::Day | Self::Week => 2,
        }
    }
}

/// What is counted: who speaks of what, and from where.
#[derive(Clone, Copy)]
pub struct Counts<'a> {
    /// Who speaks of what.
    pub votes: &'a Votes,
    /// The servers.
    pub servers: &'a Servers,
}

/// What was usual before the last two days.
pub trait Past {
    /// In the windows that ended with this hour.
    ///
    /// # Errors
    /// The store's.
    fn hour(&self, hour: u32, target: u64, language: &str) -> Result<UsualHour, StoreError>;

    /// On this day.
    ///
    /// # Errors
    /// The store's.
    fn day(&self, day: u32, target: u64, language: &str) -> Result<UsualDay, StoreError>;
}

impl Past for UsualView {
    fn hour(&self, hour: u32, target: u64, language: &str) -> Result<UsualHour, StoreError> {
        self.hour(hour, target, language)
    }

    fn day(&self, day: u32, target: u64, language: &str) -> Result<UsualDay, StoreError> {
        self.day(day, target, language)
    }
}

/// Nothing was.
pub struct NoPast;

impl Past for NoPast {
    fn hour(&self, _hour: u32, _target: u64, _language: &str) -> Result<UsualHour, StoreError> {
        Ok(UsualHour::default())
    }

    fn day(&self, _day: u32, _target: u64, _language: &str) -> Result<UsualDay, StoreError> {
        Ok(UsualDay::default())
    }
}

/// What one thing is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// What was counted; of a week, in its last day.
    pub count: Count,
    /// What is judged: that, or an ordinary day of the week.
    pub measure: Measure,
    /// The same window a day ago.
    pub yesterday: Usual,
    /// The same window a week ago.
    pub last_week: Usual,
    /// What is left of its worth by its age: 1, or less for links and posts.
    pub fresh: f64,
    /// The score.
    pub score: Score,
}

impl Assessment {
    /// What is usual: of both the one that reaches farther.
    #[must_use]
    pub const fn usual(&self) -> Usual {
        if self.last_week.reach > self.yesterday.reach { self.last_week } else { self.yesterday }
    }
}

/// How a thing stands at a moment. What was usual is looked up only where that can matter, or for `all`.
///
/// # Errors
/// The store's.
pub fn assess(
    counts: Counts<'_>,
    usual: &impl Past,
    target: u64,
    window: Window,
    language: Option<&str>,
    now: Timestamp,
    all: bool,
) -> Result<Assessment, StoreError> {
    let hour = hour_of(now);
    let span = window.span(hour);
    let Counts { votes, servers } = counts;
    let subject = votes.key(target).map_or(Subject::Tag, |(subject, _)| subject);
    let count = |span| votes.count(target, span, language, servers, now);
    let counted = count(span);
    let (yesterday, last_week) = (Usual::default(), Usual::default());
    let mut found = Assessment {
        measure: counted.measure,
        count: counted,
        yesterday,
        last_week,
        fresh: 1.0,
        score: score::score(&Measure::default(), 0),
    };
    if subject == Subject::Tag {
        let language = language.unwrap_or_default();
        if window == Window::Week {
            found.week(usual, target, language, hour)?;
        } else {
            let worth_it = score::score(&found.measure, 0).trends();
            if worth_it || all {
                let before = Span { from: span.from.saturating_sub(DAY), to: span.to.saturating_sub(DAY) };
                found.yesterday = usual_of(&count(before).measure);
                let hours = usual.hour(hour.saturating_sub(WEEK), target, language)?;
                found.last_week = hours.windows.get(window.place()).copied().unwrap_or_default();
            }
        }
    } else {
        let half_life = if subject == Subject::Link { LINK_HALF_LIFE } else { POST_HALF_LIFE };
        let age = hour.saturating_sub(votes.first_hour(target).unwrap_or(hour));
        found.fresh = (-f64::from(age) / half_life).exp2();
    }
    found.score = score::score(&found.measure, found.usual().reach);
    if found.fresh < 1.0 {
        found.score = score::aged(found.score, found.fresh);
    }
    Ok(found)
}

impl Assessment {
    fn week(&mut self, usual: &impl Past, target: u64, language: &str, hour: u32) -> Result<(), StoreError> {
        let today = hour / DAY;
        let day = |back: u32| usual.day(today.saturating_sub(back), target, language);
        let mut week =
            vec![UsualDay { usual: usual_of(&self.measure), spread: self.measure.spread, uses: self.count.uses }];
        for back in 1..DAYS {
            week.push(day(back)?);
        }
        let before = (DAYS..2 * DAYS).map(day).collect::<Result<Vec<_>, _>>()?;
        let days = u64::from(DAYS);
        self.measure =
            Measure { spread: week.iter().map(|day| day.spread).sum::<u64>() / days, ..measure_of(&mean(&week)) };
        self.last_week = mean(&before);
        Ok(())
    }
}

/// An ordinary one of seven days, rounded down.
fn mean(days: &[UsualDay]) -> Usual {
    let of = |count: fn(&UsualDay) -> u64| days.iter().map(count).sum::<u64>() / u64::from(DAYS);
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    Usual {
        people: small(of(|day| day.usual.people.into())),
        servers: small(of(|day| day.usual.servers.into())),
        reach: of(|day| day.usual.reach),
    }
}

const fn measure_of(usual: &Usual) -> Measure {
    Measure { people: usual.people, servers: usual.servers, reach: usual.reach, spread: 0 }
}

/// What stays of a measure when its time is over.
#[must_use]
pub const fn usual_of(measure: &Measure) -> Usual {
    Usual { people: measure.people, servers: measure.servers, reach: measure.reach }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Authority, Seq};
    use crate::store::{Ballot, Choice, Place};

    #[test]
    fn a_window_is_the_hour_that_runs_and_whole_ones_before_it() {
        assert_eq!(Window::Hour.span(100), Span { from: 99, to: 100 });
        assert_eq!(Window::Six.span(100), Span { from: 94, to: 100 });
        assert_eq!(Window::Week.span(100), Window::Day.span(100));
        assert_eq!(Window::Day.span(3), Span { from: 0, to: 3 });
        for window in Window::ALL {
            assert_eq!(Window::of_hours(window.hours()), Some(window));
        }
        assert_eq!(Window::of_hours(0), None);
    }

    #[test]
    fn an_ordinary_day_is_the_mean_of_seven() {
        let day = |people| UsualDay { usual: Usual { people, servers: 2, reach: 7 }, spread: 0, uses: 0 };
        let days: Vec<UsualDay> = [7, 14, 0, 0, 0, 0, 0].map(day).to_vec();
        assert_eq!(mean(&days), Usual { people: 3, servers: 2, reach: 7 });
    }

    /// As it was a week ago, and on each of the days before.
    struct Before(Usual);

    impl Past for Before {
        fn hour(&self, hour: u32, _target: u64, _language: &str) -> Result<UsualHour, StoreError> {
            let there = hour == HOUR - WEEK;
            Ok(if there { UsualHour { windows: [self.0; 3] } } else { UsualHour::default() })
        }

        fn day(&self, day: u32, _target: u64, _language: &str) -> Result<UsualDay, StoreError> {
            let today = HOUR / DAY;
            let there = day < today && day + DAYS > today;
            Ok(if there { UsualDay { usual: self.0, spread: 10 * score::ONE, uses: 0 } } else { UsualDay::default() })
        }
    }

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);
    const HOUR: u32 = 496_524;

    #[test]
    fn what_is_said_every_week_is_usual_and_what_was_said_yesterday_too() {
        let (mut votes, mut servers) = (Votes::default(), Servers::default());
        let choice = Choice { subject: Subject::Tag, key: "caturday".to_owned(), shown: String::new() };
        votes.admit(&choice, 0, &[]);
        for author in 0..10_u32 {
            let place = Place { number: author, since: Timestamp::default(), seen_on: 0 };
            servers.learn(&Authority::parse(&format!("s{author}.example")).unwrap(), &place, false);
            let hours = if author < 4 { vec![HOUR, HOUR - DAY] } else { vec![HOUR] };
            for hour in hours {
                let (language, choices) = ("en".to_owned(), vec![choice.clone()]);
                let ballot =
                    Ballot { author: author.into(), place: author, language, young: false, hour, seq: Seq(1), choices };
                votes.add(1, &ballot, &choice);
            }
        }
        let counts = Counts { votes: &votes, servers: &servers };
        let of = |past: &Before, window| assess(counts, past, choice.target(), window, None, NOON, false).unwrap();
        let never = of(&Before(Usual::default()), Window::Six);
        assert_eq!((never.yesterday.people, never.usual().people), (4, 4));
        assert!(never.score.z > 2.6 && never.score.z < 2.7, "{:?}", never.score);
        let weekly = Usual { people: 9, servers: 9, reach: 9 * score::ONE };
        let known = of(&Before(weekly), Window::Six);
        assert_eq!((known.usual(), known.score.short), (weekly, Some(score::Short::Score)));
        // Of the week: six days of nine, and today of ten; nothing the week before.
        let week = of(&Before(weekly), Window::Week);
        assert_eq!((week.measure.people, week.measure.reach), (9, 64_000_000 / 7));
        assert_eq!((week.last_week.reach, week.score.trends()), (0, true));
    }
}

//! One thing in one window: what is counted, what was usual, and what it is worth. Lists are made of this, and explained
//! by it.
//!
//! A window of so many hours is the hour that runs and so many whole ones before it, and what is usual for it is as long: of
//! the hour that runs, yesterday, as much as of today's is over. The window of a week is an ordinary day of it: today so far
//! and the six days (UTC) before, each counted by itself, on average; what is usual for it is an ordinary day of the week
//! before. Nobody is followed through a week. Of a week, today and yesterday are counted from what is there now, and must
//! hold a quarter of what the week does: what was moderated or deleted meanwhile does not stay for its old days.
//!
//! What trends only with accounts that are young is told apart: without them nothing is hidden, and nothing is made of them.
//!
//! Links and boosted posts were not there yesterday: nothing is usual for them, and what they are worth halves as they age.

use serde::{Deserialize, Serialize};

use super::score::{self, Measure, Score, Short};
use super::servers::Servers;
use super::votes::{Count, Span, Votes};
use crate::clock::Timestamp;
use crate::store::{StoreError, Subject, Usual, UsualDay, UsualHour, UsualView, hour_of};

/// Hours in which a link is worth half as much.
const LINK_HALF_LIFE: f64 = 8.0;
/// The same of a post.
const POST_HALF_LIFE: f64 = 2.0;
/// Hours.
pub(super) const DAY: u32 = 24;
const WEEK: u32 = 168;
const MINUTES: u64 = 60;
/// Days of an ordinary week.
const DAYS: u32 = 7;
/// Days of the week that are counted from what is there now: ballots are kept for so long.
const LIVE_DAYS: u32 = 2;
/// These hold at least such a part of what an ordinary day of the week reaches: one in so many.
const LIVE_SHARE: u64 = 4;
/// Before trends have been on for so many days there is no list of a week: nothing could be usual for it.
const FIRST_WEEK: u32 = 8;

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

    /// The hours that are counted from what is there now: all, but of a week those of today and yesterday (UTC).
    #[must_use]
    pub fn span(self, hour: u32) -> Span {
        match self {
            Self::Week => Span { from: day_of(hour, LIVE_DAYS - 1).from, to: hour },
            other => Span { from: hour.saturating_sub(other.hours()), to: hour },
        }
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

/// The hours of the day (UTC) that was so many days ago.
#[must_use]
pub(super) fn day_of(hour: u32, back: u32) -> Span {
    let from = (hour / DAY).saturating_sub(back) * DAY;
    Span { from, to: from + DAY - 1 }
}

/// A question: what is looked at, and when.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// How far back.
    pub window: Window,
    /// In which language; `None`: all.
    pub language: Option<&'a str>,
    /// As of when.
    pub now: Timestamp,
    /// What all servers weigh together that speak of anything, in thousandths ([`Votes::speaking`]).
    pub all: u64,
}

/// What is counted: who speaks of what, and from where.
#[derive(Clone, Copy)]
pub struct Counts<'a> {
    /// Who speaks of what.
    pub votes: &'a Votes,
    /// The servers.
    pub servers: &'a Servers,
    /// The hour since which anything is counted here.
    pub since: u32,
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
    /// What was counted; of a week, today and yesterday. With accounts that are young only if it trends with them alone.
    pub count: Count,
    /// What is judged: that, or an ordinary day of the week.
    pub measure: Measure,
    /// As long a time a day ago.
    pub yesterday: Usual,
    /// As long a time a week ago.
    pub last_week: Usual,
    /// What all servers weigh together that speak of anything in this window, in thousandths (S).
    pub all: u64,
    /// Minutes of the hour that runs: so much of that hour is compared.
    pub minutes: u32,
    /// Of a week its seven days, today first,
    pub days: Vec<UsualDay>,
    /// and the seven before.
    pub days_before: Vec<UsualDay>,
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

    fn judge(&mut self) {
        let score = |measure: &Measure| {
            let score = score::score_among(measure, self.usual().reach, self.all);
            if self.fresh < 1.0 { score::aged(score, self.fresh) } else { score }
        };
        let without = score(&self.measure);
        let with = (!without.trends() && self.count.young > 0).then(|| score(&self.count.with_young));
        self.score = without;
        if let Some(with) = with.filter(Score::trends) {
            (self.score, self.measure) = (with, self.count.with_young);
            self.count.servers = std::mem::take(&mut self.count.servers_with_young);
            self.count.only_with_young = true;
        }
    }
}

/// How a thing stands at a moment. What was usual is looked up only where that can matter, or for `always`.
///
/// # Errors
/// The store's.
pub fn assess(
    counts: Counts<'_>,
    usual: &impl Past,
    target: u64,
    look: &Look<'_>,
    always: bool,
) -> Result<Assessment, StoreError> {
    let Look { window, language, now, all } = *look;
    let hour = hour_of(now);
    let span = window.span(hour);
    let Counts { votes, servers, .. } = counts;
    let subject = votes.key(target).map_or(Subject::Tag, |(subject, _)| subject);
    let count = |span| votes.count(target, span, language, servers, now);
    let counted = count(span);
    let minutes = u32::try_from(now.secs().rem_euclid(3600) / 60).unwrap_or(0);
    let (yesterday, last_week) = (Usual::default(), Usual::default());
    let mut found = Assessment {
        measure: counted.measure,
        count: counted,
        yesterday,
        last_week,
        all,
        minutes,
        days: Vec::new(),
        days_before: Vec::new(),
        fresh: 1.0,
        score: score::score(&Measure::default(), 0),
    };
    if subject != Subject::Tag {
        let half_life = if subject == Subject::Link { LINK_HALF_LIFE } else { POST_HALF_LIFE };
        let middle = if found.count.middle == 0 { hour } else { found.count.middle };
        found.fresh = (-f64::from(hour.saturating_sub(middle)) / half_life).exp2();
        found.judge();
        return Ok(found);
    }
    if window == Window::Week {
        found.week(counts, usual, target, look, always)?;
        return Ok(found);
    }
    found.judge();
    if found.score.trends() || always {
        let passed = u64::from(minutes);
        let before = Span { from: span.from.saturating_sub(DAY), to: span.to.saturating_sub(DAY) };
        let whole = Span { to: before.to.saturating_sub(1), ..before };
        let (with, without) = (count(before).measure, count(whole).measure);
        let reach = (without.reach * (MINUTES - passed) + with.reach * passed) / MINUTES;
        found.yesterday = Usual { reach, ..usual_of(&with) };
        let hours = usual.hour(hour.saturating_sub(WEEK), target, language.unwrap_or_default())?;
        let kept = hours.windows.get(window.place()).copied().unwrap_or_default();
        // What was kept is a window of whole hours.
        let long = u64::from(window.hours());
        let reach = kept.reach.saturating_mul(long * MINUTES + passed) / ((long + 1) * MINUTES);
        found.last_week = Usual { reach, ..kept };
        found.measure = found.count.measure;
        if found.count.only_with_young {
            found.count = count(span);
        }
        found.judge();
    }
    Ok(found)
}

impl Assessment {
    /// An ordinary day of this week. What is not spoken of any more costs no look at what is kept.
    fn week(
        &mut self,
        counts: Counts<'_>,
        usual: &impl Past,
        target: u64,
        look: &Look<'_>,
        always: bool,
    ) -> Result<(), StoreError> {
        let (hour, live) = (hour_of(look.now), self.measure);
        let too_soon = hour < counts.since.saturating_add(FIRST_WEEK * DAY);
        let is_spoken_of = live.people >= score::MIN_PEOPLE && live.servers >= score::MIN_SERVERS;
        if !always && (too_soon || !is_spoken_of) {
            self.score = score::score_among(&Measure::default(), 0, self.all);
            return Ok(());
        }
        let language = look.language.unwrap_or_default();
        let today = hour / DAY;
        let day = |back: u32| usual.day(today.saturating_sub(back), target, language);
        let mut week = Vec::new();
        for back in 0..LIVE_DAYS {
            let count = counts.votes.count(target, day_of(hour, back), look.language, counts.servers, look.now);
            week.push(UsualDay { usual: usual_of(&count.measure), spread: count.measure.spread, uses: count.uses });
        }
        for back in LIVE_DAYS..DAYS {
            week.push(day(back)?);
        }
        let before = (DAYS..2 * DAYS).map(day).collect::<Result<Vec<_>, _>>()?;
        let spread = week.iter().map(|day| day.spread).sum::<u64>() / u64::from(DAYS);
        self.measure = Measure { spread, weight: live.weight, ..measure_of(&mean(&week)) };
        self.last_week = mean(&before);
        self.score = score::score_among(&self.measure, self.usual().reach, self.all);
        (self.days, self.days_before) = (week, before);
        let is_here = live.reach.saturating_mul(LIVE_SHARE) >= self.measure.reach;
        if self.score.trends() && (too_soon || !is_here) {
            self.score = Score { short: Some(Short::Score), rank: 0, ..self.score };
        }
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
    Measure { people: usual.people, servers: usual.servers, weight: 0, reach: usual.reach, spread: 0 }
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
        assert_eq!(Window::Week.span(100), Span { from: 72, to: 100 }, "today and yesterday");
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

    /// As it was a week ago, and on each of the days before yesterday.
    struct Before(Usual);

    impl Past for Before {
        fn hour(&self, hour: u32, _target: u64, _language: &str) -> Result<UsualHour, StoreError> {
            let there = hour == HOUR - WEEK;
            Ok(if there { UsualHour { windows: [self.0; 3] } } else { UsualHour::default() })
        }

        fn day(&self, day: u32, _target: u64, _language: &str) -> Result<UsualDay, StoreError> {
            let today = HOUR / DAY;
            let there = day + 1 < today && day + DAYS > today;
            Ok(if there { UsualDay { usual: self.0, spread: 10 * score::ONE, uses: 0 } } else { UsualDay::default() })
        }
    }

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);
    const HOUR: u32 = 496_524;
    const NEVER: Usual = Usual { people: 0, servers: 0, reach: 0 };

    /// A tag, and who says it: authors from here to there, each on a server of their own (`on`), in these hours.
    #[derive(Default)]
    struct Said(Votes, Servers);

    impl Said {
        fn choice() -> Choice {
            Choice { subject: Subject::Tag, key: "caturday".to_owned(), shown: String::new() }
        }

        fn by(mut self, authors: std::ops::Range<u32>, on: impl Fn(u32) -> u32, young: bool, hours: &[u32]) -> Self {
            let choice = Self::choice();
            self.0.admit(&choice, 0, &[]);
            for author in authors {
                let number = on(author);
                let place = Place { number, since: Timestamp::default(), seen_on: 0 };
                self.1.learn(&Authority::parse(&format!("s{number}.example")).unwrap(), &place, false);
                for hour in hours {
                    let (language, choices) = ("en".to_owned(), vec![choice.clone()]);
                    let ballot = Ballot {
                        author: author.into(),
                        place: number,
                        language,
                        young,
                        hour: *hour,
                        seq: Seq(1),
                        choices,
                    };
                    self.0.add(1, &ballot, &choice);
                }
            }
            self
        }

        fn each(self, authors: std::ops::Range<u32>, hours: &[u32]) -> Self {
            self.by(authors, |author| author, false, hours)
        }

        fn at(&self, past: &Before, window: Window, minutes: i64, since: u32) -> Assessment {
            let counts = Counts { votes: &self.0, servers: &self.1, since };
            let now = Timestamp::from_secs(NOON.secs() + minutes * 60);
            let look = Look { window, language: None, now, all: 0 };
            assess(counts, past, Self::choice().target(), &look, false).unwrap()
        }
    }

    #[test]
    fn what_is_said_every_week_is_usual_and_what_was_said_yesterday_too() {
        let said = Said::default().each(0..10, &[HOUR]).each(0..4, &[HOUR - DAY - 1]);
        let never = said.at(&Before(NEVER), Window::Six, 0, 0);
        assert_eq!((never.yesterday.people, never.usual().people, never.usual().reach), (4, 4, 4 * score::ONE));
        assert!(never.score.z > 2.6 && never.score.z < 2.7, "{:?}", never.score);
        let weekly = Usual { people: 9, servers: 9, reach: 7 * score::ONE };
        let known = said.at(&Before(weekly), Window::Six, 0, 0);
        assert_eq!((known.usual().reach, known.score.short), (6 * score::ONE, Some(Short::Score)), "6 of 7 hours");
        // Of the week: five days of nine, four yesterday, ten today; nothing the week before.
        let nine = Usual { people: 9, servers: 9, reach: 9 * score::ONE };
        let week = said.at(&Before(nine), Window::Week, 0, 0);
        assert_eq!((week.measure.people, week.measure.reach), (8, (5 * 9 + 4 + 10) * score::ONE / 7));
        assert_eq!((week.last_week.reach, week.score.trends()), (0, true));
    }

    #[test]
    fn what_nobody_says_any_more_is_no_trend_of_the_week_and_before_eight_days_there_is_none() {
        let nine = Before(Usual { people: 90, servers: 90, reach: 90 * score::ONE });
        let said = Said::default().each(0..10, &[HOUR]);
        let moderated = said.at(&nine, Window::Week, 0, 0);
        assert_eq!((moderated.score.short, moderated.score.rank), (Some(Short::Score), 0), "{moderated:?}");
        let gone = Said::default().each(0..3, &[HOUR]).at(&nine, Window::Week, 0, 0);
        assert!(!gone.score.trends() && gone.last_week == NEVER);
        let said = Said::default().each(0..60, &[HOUR, HOUR - DAY]);
        assert!(said.at(&nine, Window::Week, 0, HOUR - 8 * DAY).score.trends());
        assert!(!said.at(&nine, Window::Week, 0, HOUR - 8 * DAY + 1).score.trends());
    }

    /// Ten people an hour on as many servers yesterday, thirty today: it is three times the usual at each minute.
    #[test]
    fn an_hour_that_has_begun_is_compared_with_as_much_of_yesterdays() {
        let yesterday = Said::default().each(0..10, &[HOUR - DAY - 1]).each(10..20, &[HOUR - DAY]);
        let said = yesterday.each(0..30, &[HOUR - 1]);
        let begun = said.at(&Before(NEVER), Window::Hour, 0, 0);
        assert_eq!((begun.usual().reach, begun.score.trends()), (10 * score::ONE, true));
        let said = said.each(30..59, &[HOUR]);
        let over = said.at(&Before(NEVER), Window::Hour, 59, 0);
        assert_eq!((over.usual().reach, over.minutes), (19_833_333, 59));
        assert!((over.score.z - begun.score.z).abs() < 3.0, "{} and {}", begun.score.z, over.score.z);
    }

    #[test]
    fn young_accounts_make_no_trend_and_hide_none() {
        let old = Said::default().each(0..6, &[HOUR]).at(&Before(NEVER), Window::Six, 0, 0);
        // A thousand of them on a server of their own, and some on each of the others.
        let flood = |said: Said| {
            said.by(100..1100, |_| 50, true, &[HOUR]).by(2000..2010, |author| author - 2000, true, &[HOUR])
        };
        let with = flood(Said::default().each(0..6, &[HOUR])).at(&Before(NEVER), Window::Six, 0, 0);
        assert_eq!((with.measure, with.score, with.count.only_with_young), (old.measure, old.score, false));
        assert_eq!(with.count.young, 1010);
        let alone = flood(Said::default().each(0..2, &[HOUR])).at(&Before(NEVER), Window::Six, 0, 0);
        assert!(alone.score.trends() && alone.count.only_with_young);
        assert_eq!((alone.measure.people, alone.count.servers.len()), (1012, 11));
    }

    #[test]
    fn a_crowd_on_one_server_makes_nothing_usual() {
        let said = Said::default().by(100..1100, |_| 50, false, &[HOUR - DAY]).each(0..6, &[HOUR]);
        let found = said.at(&Before(NEVER), Window::Six, 30, 0);
        assert_eq!((found.usual().reach, found.score.trends()), (0, true));
    }
}

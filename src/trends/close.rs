//! What is done when an hour is over: what was usual in it is written down, for the same hour a week later, and ballots that
//! are too old to count are forgotten.

use super::votes::Span;
use crate::clock::Timestamp;
use crate::store::{Subject, Usual, UsualDay, UsualHour};
use crate::trends::assess::{Counts, Window, usual_of};

/// Ballots are kept for this many hours beside the one that runs: a day, the day before to compare it with, and the hour
/// by which both are longer.
pub(super) const HOURS_KEPT: u32 = 49;
/// What was usual in an hour is kept for a week and a day,
pub(super) const USUAL_HOURS_KEPT: u32 = 8 * 24;
/// and what was usual on a day for two weeks.
pub(super) const USUAL_DAYS_KEPT: u32 = 15;
const DAY: u32 = 24;
/// What reaches less far than this is not worth a row: nothing is above three times of it that would not be above nothing.
const LEAST_REACH: u64 = 2 * super::score::ONE;

/// What was usual for some things: their numbers, a language or none, and how it was.
pub(super) type Rows<T> = Vec<(u64, String, T)>;

/// What was usual in the windows that ended with `hour`, for all that is worth a row.
#[must_use]
pub(super) fn usual_hours(counts: Counts<'_>, hour: u32, now: Timestamp) -> Rows<UsualHour> {
    let mut rows = Vec::new();
    each(counts, Window::Day.span(hour), &[Subject::Tag], |target, language| {
        let of = |window: Window| {
            usual_of(&counts.votes.count(target, window.span(hour), language, counts.servers, now).measure)
        };
        let day = of(Window::Day);
        if day.reach >= LEAST_REACH {
            let usual = UsualHour { windows: [of(Window::Hour), of(Window::Six), day] };
            rows.push((target, language.unwrap_or_default().to_owned(), usual));
        }
    });
    rows
}

/// How a day (UTC) was: also for links, whose history is shown though nothing is usual for them.
#[must_use]
pub(super) fn usual_days(counts: Counts<'_>, day: u32, now: Timestamp) -> Rows<UsualDay> {
    let span = Span { from: day * DAY, to: day * DAY + DAY - 1 };
    let mut rows = Vec::new();
    each(counts, span, &[Subject::Tag, Subject::Link], |target, language| {
        let count = counts.votes.count(target, span, language, counts.servers, now);
        let usual = usual_of(&count.measure);
        if usual != Usual::default() {
            let day = UsualDay { usual, spread: count.measure.spread, uses: count.uses };
            rows.push((target, language.unwrap_or_default().to_owned(), day));
        }
    });
    rows
}

/// Every thing that somebody spoke of, in all languages and in each.
fn each(counts: Counts<'_>, span: Span, of: &[Subject], mut see: impl FnMut(u64, Option<&str>)) {
    for (target, subject) in counts.votes.targets() {
        if !of.contains(&subject) || counts.votes.at_most(target, span) < 2 {
            continue;
        }
        see(target, None);
        for language in counts.votes.languages_of(target, span) {
            see(target, Some(language));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Authority, Seq};
    use crate::store::{Ballot, Choice, Place, target};
    use crate::trends::servers::Servers;
    use crate::trends::votes::Votes;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);
    const HOUR: u32 = 496_524;

    #[test]
    fn an_hour_that_is_over_leaves_numbers_about_many_and_about_nobody_else() {
        let (mut votes, mut servers) = (Votes::default(), Servers::default());
        let mut say = |author: u64, hour: u32, language: &str, key: &str| {
            let number = u32::try_from(author).unwrap() + 1;
            let place = Place { number, since: Timestamp::default(), seen_on: 0 };
            servers.learn(&Authority::parse(&format!("s{author}.example")).unwrap(), &place, false);
            let subject = if key.contains("://") { Subject::Link } else { Subject::Tag };
            let choice = Choice { subject, key: key.to_owned(), shown: String::new() };
            let (language, choices) = (language.to_owned(), vec![choice.clone()]);
            let ballot = Ballot { author, place: number, language, young: false, hour, seq: Seq(1), choices };
            votes.admit(&choice, 0, &[]);
            votes.add(1, &ballot, &choice);
        };
        for author in 0..4 {
            say(author, HOUR, "en", "cats");
            say(author + 4, HOUR - 3, "de", "cats");
        }
        say(1, HOUR, "en", "alone");
        let link = "https://news.example/1";
        (0..5).for_each(|author| say(author, HOUR, "en", link));
        let counts = Counts { votes: &votes, servers: &servers };
        let mut rows = usual_hours(counts, HOUR, NOON);
        rows.sort_by(|one, other| one.1.cmp(&other.1));
        assert!(rows.iter().all(|(number, ..)| *number == target(Subject::Tag, "cats")));
        let people = |windows: &UsualHour| windows.windows.map(|window| window.people);
        let found: Vec<(&str, [u32; 3])> =
            rows.iter().map(|(_, language, usual)| (language.as_str(), people(usual))).collect();
        assert_eq!(found, [("", [4, 8, 8]), ("de", [0, 4, 4]), ("en", [4, 4, 4])]);
        let days = usual_days(counts, HOUR / DAY, NOON);
        let all = days.iter().find(|(_, language, _)| language.is_empty()).unwrap();
        assert_eq!((all.2.usual.people, all.2.uses), (8, 8));
        assert!(usual_days(counts, HOUR / DAY - 1, NOON).is_empty());
        // Of a link each day is kept, and no hour: its history is shown, and nothing is usual for it.
        let linked = target(Subject::Link, link);
        assert!(rows.iter().all(|(number, ..)| *number != linked));
        let day = days.iter().find(|(number, language, _)| *number == linked && language.is_empty());
        assert_eq!(day.map(|(.., day)| (day.usual.people, day.uses)), Some((5, 5)));
    }
}

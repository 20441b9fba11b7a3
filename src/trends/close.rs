//! What is done when an hour is over, a day later: what was usual in it is written down, for the same hour a week later, and
//! ballots that are too old to count are forgotten. A day later, so that what was moderated, deleted or taken back in the
//! meantime is not in it.
//!
//! Written down is only what can matter, and nothing about few people: an hour of a thing that reached something, which
//! takes four servers, and a day of one that at least three people on two servers spoke of.

use crate::clock::Timestamp;
use crate::store::{Subject, Usual, UsualDay, UsualHour};
use crate::trends::assess::{Counts, Window, day_of, usual_of};
use crate::trends::explain::{LEAST_PEOPLE, LEAST_SERVERS};

/// Ballots are kept for this many hours beside the one that runs: a day, the day before to compare it with, and the hour
/// by which both are longer.
pub(super) const HOURS_KEPT: u32 = 49;
/// An hour is closed when so many others are over after it. Its longest window begins a day before it.
pub(super) const LATER: u32 = 24;
/// What was usual in an hour is kept for a week and a day,
pub(super) const USUAL_HOURS_KEPT: u32 = 8 * 24;
/// and what was usual on a day for two weeks.
pub(super) const USUAL_DAYS_KEPT: u32 = 15;
/// Rows of one hour, and of one day, at most: of those that reach farthest, and that most people spoke of.
const MOST_ROWS: usize = 20_000;

/// What was usual for some things: their numbers, a language or none, and how it was.
pub(super) type Rows<T> = Vec<(u64, String, T)>;

/// What was usual in the windows that ended with `hour`, for all that is worth a row.
#[must_use]
pub(super) fn usual_hours(counts: Counts<'_>, hour: u32, now: Timestamp) -> Rows<UsualHour> {
    let mut rows = Vec::new();
    each(counts, Window::Day.span(hour), &[Subject::Tag], |target, language| {
        let of = |window: Window| {
            let measure = counts.votes.count(target, window.span(hour), language, counts.servers, now).measure;
            if measure.reach > 0 { usual_of(&measure) } else { Usual::default() }
        };
        let day = of(Window::Day);
        if day.reach > 0 {
            let usual = UsualHour { windows: [of(Window::Hour), of(Window::Six), day] };
            rows.push((target, language.unwrap_or_default().to_owned(), usual));
        }
    });
    most(rows, |usual| usual.windows[2].reach)
}

/// How the day (UTC) of an hour was: also for links, whose history is shown though nothing is usual for them.
#[must_use]
pub(super) fn usual_days(counts: Counts<'_>, hour: u32, now: Timestamp) -> Rows<UsualDay> {
    let span = day_of(hour, 0);
    let mut rows = Vec::new();
    each(counts, span, &[Subject::Tag, Subject::Link], |target, language| {
        let count = counts.votes.count(target, span, language, counts.servers, now);
        let usual = usual_of(&count.measure);
        if usual.people >= LEAST_PEOPLE && usual.servers >= LEAST_SERVERS {
            let day = UsualDay { usual, spread: count.measure.spread, uses: count.uses };
            rows.push((target, language.unwrap_or_default().to_owned(), day));
        }
    });
    most(rows, |day| day.usual.people.into())
}

/// No more than there is room for; of two alike, the one with the smaller number.
fn most<T>(mut rows: Rows<T>, worth: impl Fn(&T) -> u64) -> Rows<T> {
    rows.sort_by(|one, other| {
        worth(&other.2).cmp(&worth(&one.2)).then_with(|| (one.0, &one.1).cmp(&(other.0, &other.1)))
    });
    rows.truncate(MOST_ROWS);
    rows
}

/// Every thing of these kinds that so many may speak of as it takes for a row, in all languages and in each.
fn each(counts: Counts<'_>, span: super::votes::Span, of: &[Subject], mut see: impl FnMut(u64, Option<&str>)) {
    for (target, subject) in counts.votes.targets() {
        if !of.contains(&subject) || counts.votes.at_most(target, span) < LEAST_PEOPLE as usize {
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
        // Three on as many servers: a day of it is told, but nothing is usual. Two in a language are nobody's business.
        (0..3).for_each(|author| say(author, HOUR, "en", "few"));
        (0..2).for_each(|author| say(author, HOUR, "eu", "fewer"));
        let counts = Counts { votes: &votes, servers: &servers, since: 0 };
        let mut rows = usual_hours(counts, HOUR, NOON);
        rows.sort_by(|one, other| one.1.cmp(&other.1));
        assert!(rows.iter().all(|(number, ..)| *number == target(Subject::Tag, "cats")));
        let people = |windows: &UsualHour| windows.windows.map(|window| window.people);
        let found: Vec<(&str, [u32; 3])> =
            rows.iter().map(|(_, language, usual)| (language.as_str(), people(usual))).collect();
        assert_eq!(found, [("", [4, 8, 8]), ("de", [0, 4, 4]), ("en", [4, 4, 4])]);
        let days = usual_days(counts, HOUR, NOON);
        let told_of = |number: u64| {
            let mut rows: Vec<_> = days.iter().filter(|row| row.0 == number).collect();
            rows.sort_by(|one, other| one.1.cmp(&other.1));
            rows.into_iter().map(|row| (row.1.as_str(), row.2.usual.people, row.2.uses)).collect::<Vec<_>>()
        };
        let told = |key: &str| told_of(target(Subject::Tag, key));
        assert_eq!(told("cats"), [("", 8, 8), ("de", 4, 4), ("en", 4, 4)]);
        assert_eq!((told("few"), told("fewer"), told("alone")), (vec![("", 3, 3), ("en", 3, 3)], vec![], vec![]));
        assert!(usual_days(counts, HOUR - 24, NOON).is_empty());
        // Of a link each day is kept, and no hour: its history is shown, and nothing is usual for it.
        let linked = target(Subject::Link, link);
        assert!(rows.iter().all(|(number, ..)| *number != linked));
        assert_eq!(told_of(linked), [("", 5, 5), ("en", 5, 5)]);
    }
}

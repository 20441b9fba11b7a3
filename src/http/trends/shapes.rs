//! What our own words about trends look like as JSON. Reach and spread are decimals with six digits, exact.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::store::{Subject, Usual, UsualDay};
use crate::trends::assess::Assessment;
use crate::trends::explain::{DayOf, Explained, is_told};
use crate::trends::lists::{Entry, List};
use crate::trends::score::{FULL, MIN_PEOPLE, MIN_SERVERS, MIN_Z, ONE, Short, needed_weight};

/// What trends.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct TrendList {
    /// `tag`, `link` or `post`.
    kind: &'static str,
    /// As of when.
    #[schema(format = "date-time")]
    at: String,
    /// The window in hours.
    within: u32,
    /// The language, where one was asked for.
    language: Option<String>,
    /// How many there are in all; of posts that is not counted.
    total: Option<usize>,
    trends: Vec<Trend>,
    /// How many more trend and are not shown, by the reason: `hidden` by the operator, `young-voters`, waiting for a `review`.
    withheld: BTreeMap<&'static str, usize>,
    /// How many things of this kind, and sites of links and posts, the operator hides just now, whether they trend or not.
    hidden: usize,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
struct Trend {
    /// Its commonest spelling.
    name: String,
    /// What all its spellings have in common.
    key: String,
    /// Why it is here, in a sentence.
    sentence: String,
    people: u32,
    servers: u32,
    /// R, N and E.
    reach: f64,
    spread: f64,
    usual: UsualCount,
    score: f64,
    /// From 1 to 100, on a scale that is the same everywhere.
    rank: u32,
}

/// What is usual. Fewer than five people, or people on fewer than three servers, are none.
#[derive(Debug, Serialize, ToSchema)]
struct UsualCount {
    people: u32,
    servers: u32,
    /// E.
    reach: f64,
}

impl TrendList {
    /// Some of its entries.
    pub(super) fn of<'e>(
        list: &List,
        subject: Subject,
        language: Option<&str>,
        entries: impl Iterator<Item = &'e Entry>,
        hidden: usize,
    ) -> Self {
        Self {
            kind: subject.as_str(),
            at: list.at.rfc3339(),
            within: list.within,
            language: language.map(str::to_owned),
            total: None,
            trends: entries.map(|one| Trend::of(one, list.within)).collect(),
            withheld: list.withheld.iter().map(|(why, keys)| (why.as_str(), keys.len())).collect(),
            hidden,
        }
    }

    /// And how many it has in all.
    pub(super) fn of_all(self, total: usize) -> Self {
        Self { total: Some(total), ..self }
    }
}

impl Trend {
    fn of(one: &Entry, within: u32) -> Self {
        Self {
            name: one.name.clone(),
            key: one.key.clone(),
            sentence: sentence(one.people, one.servers, within, one.usual),
            people: one.people,
            servers: one.servers,
            reach: whole(one.reach),
            spread: whole(one.spread),
            usual: UsualCount::of(one.usual),
            score: one.z,
            rank: one.rank,
        }
    }
}

impl UsualCount {
    fn of(usual: Usual) -> Self {
        let (people, servers) = told(usual);
        Self { people, servers, reach: whole(usual.reach) }
    }
}

/// People and servers, or that there are none if there are few.
const fn told(usual: Usual) -> (u32, u32) {
    if is_told(usual.people, usual.servers) { (usual.people, usual.servers) } else { (0, 0) }
}

/// Why something is where it is.
pub(super) fn sentence(people: u32, servers: u32, within: u32, usual: Usual) -> String {
    let count =
        |count: u32, one: &str, many: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
    let (people, servers) = (count(people, "person", "people"), count(servers, "server", "servers"));
    let time = match within {
        1 => "an hour".to_owned(),
        168 => "an ordinary day of this week".to_owned(),
        hours => format!("{hours} hours"),
    };
    match told(usual) {
        (0, _) => format!("{people} on {servers} in {time}; usually hardly anybody."),
        (usual_people, on) => format!("{people} on {servers} in {time}; usual are {usual_people} on {on}."),
    }
}

/// Every number that a score is made of.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Explanation {
    /// As of when.
    #[schema(format = "date-time")]
    at: String,
    /// `tag` or `link`.
    subject: &'static str,
    /// What all its spellings have in common.
    key: String,
    /// Its commonest spelling.
    name: String,
    language: Option<String>,
    window: WindowHours,
    sentence: String,
    /// What was counted; null where fewer than five people, or people on fewer than three servers, speak of it, as all that
    /// would tell of them.
    now: Option<Counted>,
    /// The same window a day ago and a week ago; E is the larger reach of both.
    yesterday: Option<UsualCount>,
    last_week: Option<UsualCount>,
    usual: Option<UsualCount>,
    /// Of a week its seven days (UTC), today first; R, N, people and servers are their means, rounded down.
    days: Vec<OneDay>,
    /// And the seven days before; their mean is what is usual.
    days_before: Vec<OneDay>,
    /// What is left of the score by the age of a link; 1 for hashtags.
    fresh: f64,
    /// (R − E) / √(E + 1), times `fresh`.
    score: Option<f64>,
    trends: bool,
    /// What it falls short of: `people`, `servers`, `share` (of what all servers weigh that speak) or `score`.
    #[schema(value_type = Option<String>)]
    short_of: Option<Short>,
    /// From 1 to 100 if it trends, else 0.
    rank: u32,
    needs: Needs,
    /// Why it would not be shown here.
    withheld: Option<NotShown>,
    /// The last seven days, today first.
    history: Vec<HistoryDay>,
    /// Posts with it that the search may show, the newest first.
    #[schema(value_type = Vec<String>)]
    examples: Vec<String>,
}

/// The hours that are counted.
#[derive(Debug, Serialize, ToSchema)]
struct WindowHours {
    hours: u32,
    /// The first moment that counts; of a week, that of yesterday (UTC), with which what is counted anew begins.
    #[schema(format = "date-time")]
    from: String,
}

/// What was counted.
#[derive(Debug, Serialize, ToSchema)]
struct Counted {
    /// People on servers that weigh something.
    people: u32,
    servers: u32,
    /// R: the sum of weight · √people, of no server more than the fourth largest.
    reach: f64,
    /// N: R² / the sum of the squares of that.
    spread: f64,
    /// Posts of these people.
    posts: u32,
    /// Those of them whose accounts are younger than a week, as far as they say so; null: fewer than five.
    young: Option<u32>,
    /// People on servers that are known for less than three days: they count nothing. Null: fewer than five.
    weightless: Option<u32>,
    /// The servers, without their names: so many of them (`servers`) have so many `people` each and this `weight`.
    of_servers: Vec<Group>,
}

/// Servers that are alike.
#[derive(Debug, Serialize, ToSchema)]
struct Group {
    servers: u32,
    people: u32,
    /// From 0 to 1, in steps of a twentieth.
    weight: f64,
}

/// One day of a week.
#[derive(Debug, Serialize, ToSchema)]
struct OneDay {
    people: u32,
    servers: u32,
    /// R and N of this day.
    reach: f64,
    spread: f64,
}

/// What it takes to trend.
#[derive(Debug, Serialize, ToSchema)]
struct Needs {
    people: u32,
    servers: u32,
    /// What these servers must weigh together: a fiftieth of `all_weigh`, ten at most; 0 where that is four or less.
    weight: f64,
    score: f64,
    /// S: what all servers weigh together that speak of anything in this window.
    all_weigh: f64,
}

/// Why it is not shown.
#[derive(Debug, Serialize, ToSchema)]
struct NotShown {
    /// `hidden`, `young-voters` or `review`.
    why: &'static str,
    /// In a sentence; of what is hidden, the operator's.
    reason: String,
}

/// A day (UTC).
#[derive(Debug, Serialize, ToSchema)]
struct HistoryDay {
    #[schema(format = "date-time")]
    day: String,
    posts: u32,
    people: u32,
}

impl Explanation {
    /// All of it; of what few speak of only that.
    pub(super) fn of(found: &Explained, examples: Vec<String>) -> Self {
        let Explained { found: one, window, .. } = found;
        let from = Timestamp::from_secs(i64::from(found.span.from) * 3600);
        let (measure, is_told) = (one.measure, found.is_told());
        let usual = |usual: Usual| is_told.then(|| UsualCount::of(usual));
        let days = |days: &[UsualDay]| days.iter().filter(|_| is_told).map(OneDay::of).collect();
        let few = "Fewer than 5 people, or people on fewer than 3 servers: too few to tell more.";
        Self {
            at: found.at.rfc3339(),
            subject: found.subject.as_str(),
            key: found.key.clone(),
            name: if is_told { &found.name } else { &found.key }.clone(),
            language: found.language.clone(),
            window: WindowHours { hours: window.hours(), from: from.rfc3339() },
            sentence: if is_told {
                sentence(measure.people, measure.servers, window.hours(), one.usual())
            } else {
                few.to_owned()
            },
            now: is_told.then(|| Counted::of(one)),
            yesterday: usual(one.yesterday),
            last_week: usual(one.last_week),
            usual: usual(one.usual()),
            days: days(&one.days),
            days_before: days(&one.days_before),
            fresh: if is_told { one.fresh } else { 1.0 },
            score: is_told.then_some(one.score.z),
            trends: one.score.trends(),
            short_of: one.score.short,
            rank: one.score.rank,
            needs: Needs {
                people: MIN_PEOPLE,
                servers: MIN_SERVERS,
                weight: whole(needed_weight(one.all) * 1000),
                score: MIN_Z,
                all_weigh: whole(one.all * 1000),
            },
            withheld: found
                .withheld
                .as_ref()
                .map(|(why, reason)| NotShown { why: why.as_str(), reason: reason.clone() }),
            history: found.history.iter().filter(|_| is_told).map(HistoryDay::of).collect(),
            examples,
        }
    }
}

impl Counted {
    fn of(one: &Assessment) -> Self {
        let (measure, many) = (one.measure, |people: u32| (people >= MIN_PEOPLE).then_some(people));
        Self {
            people: measure.people,
            servers: measure.servers,
            reach: whole(measure.reach),
            spread: whole(measure.spread),
            posts: one.count.uses,
            young: many(one.count.young),
            weightless: many(one.count.weightless),
            of_servers: groups(&one.count.servers),
        }
    }
}

impl OneDay {
    fn of(day: &UsualDay) -> Self {
        let (people, servers) = told(day.usual);
        Self { people, servers, reach: whole(day.usual.reach), spread: whole(day.spread) }
    }
}

impl HistoryDay {
    fn of(day: &DayOf) -> Self {
        Self { day: day.began.rfc3339(), posts: day.uses, people: day.people }
    }
}

/// Servers that are alike, together: the largest first.
fn groups(servers: &[(u32, u32)]) -> Vec<Group> {
    let mut alike: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for one in servers {
        *alike.entry(*one).or_default() += 1;
    }
    let group = |((people, weight), servers)| Group { servers, people, weight: f64::from(weight) / f64::from(FULL) };
    alike.into_iter().rev().map(group).collect()
}

/// Millionths as a number.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn whole(millionths: u64) -> f64 {
    millionths as f64 / ONE as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_how_many_and_what_is_usual() {
        let check = |people, servers, within, usual: (u32, u32), expected: &str| {
            let usual = Usual { people: usual.0, servers: usual.1, reach: 0 };
            assert_eq!(sentence(people, servers, within, usual), expected);
        };
        check(41, 17, 6, (6, 4), "41 people on 17 servers in 6 hours; usual are 6 on 4.");
        check(5, 5, 1, (0, 0), "5 people on 5 servers in an hour; usually hardly anybody.");
        check(9, 8, 24, (4, 4), "9 people on 8 servers in 24 hours; usually hardly anybody.");
        check(1, 1, 168, (5, 3), "1 person on 1 server in an ordinary day of this week; usual are 5 on 3.");
    }

    #[test]
    fn servers_that_are_alike_are_shown_together_and_without_names() {
        let shown = groups(&[(5, 1000), (2, 1000), (2, 1000), (2, 500)]);
        let shown: Vec<(u32, u32, f64)> = shown.iter().map(|one| (one.servers, one.people, one.weight)).collect();
        assert_eq!(shown, [(1, 5, 1.0), (2, 2, 1.0), (1, 2, 0.5)]);
    }
}

//! A day of posts as they are on a few hundred servers, two real events in it, and everything that people do to make a
//! trend: where each ends up. Pure, from one number; what counts and what it is worth is what the relay itself does.
//!
//! Two days are simulated, so that there is something usual. On the second one, at noon, all begins at once; two attacks
//! begin the day before. Every minute
//! for an hour, and every quarter of an hour for the rest of the day, the list of six hours is made.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::assess::{Counts, Look, NoPast, Window, assess};
use super::lists::{Asked, all};
use super::rules::choices;
use super::rulings::Rulings;
use super::score::{ONE, Short};
use super::servers::Servers;
use super::votes::{Span, Votes};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::store::{Ballot, MOST_THINGS, Place, Subject, hour_of, target};
use crate::wire::document::Document;

/// The first moment of the first day.
const BEGIN: Timestamp = Timestamp::from_secs(1_787_443_200);
const MINUTES_OF_A_DAY: u32 = 1440;
/// Noon of the second day.
const NOON: u32 = MINUTES_OF_A_DAY + 720;
/// Places of a list that people look at.
const TOP: usize = 20;
/// An event is to be there within so many minutes.
const SOON: u32 = 15;
/// For how long an attack or an event goes on.
const LASTS: u32 = 60;

/// How much honest traffic there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// 400 servers, 20,000 people, about 130,000 posts with hashtags in two days.
    Day,
    /// Three quarters of these servers, a seventh of these people and posts: for tests.
    Small,
}

/// Where something ended up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// What it is.
    pub what: &'static str,
    /// Whether it is real.
    pub is_event: bool,
    /// When it reached farthest: people on servers that weigh something,
    pub people: u32,
    /// those servers,
    pub servers: u32,
    /// R,
    #[serde(rename = "R")]
    pub reach: f64,
    /// N,
    #[serde(rename = "N")]
    pub spread: f64,
    /// and z.
    pub z: f64,
    /// What it fell short of then.
    pub short_of: Option<Short>,
    /// Its best place on a list; `None`: it was on none.
    pub best_place: Option<usize>,
    /// After how many minutes it was among the first twenty.
    pub after_minutes: Option<u32>,
    /// An attack is never among the first twenty; an event is within a quarter of an hour.
    pub as_it_should: bool,
}

/// Something that somebody does on the second day.
struct Act {
    what: &'static str,
    is_event: bool,
    /// The tag that it is about; more than one where variants of it are.
    tags: Vec<String>,
    posts: Vec<Post>,
}

/// A post: when, by whom, from where, with which tags.
struct Post {
    minute: u32,
    author: u64,
    place: u32,
    tags: Vec<String>,
    /// The account is young.
    young: bool,
}

/// What each author counted for on each day.
type Things = HashMap<(u64, u32), HashSet<u64>>;

/// Simulates.
#[must_use]
pub fn simulate(seed: u64, scale: Scale) -> Vec<Outcome> {
    let mut world = World::new(seed, scale);
    let mut posts = world.honest();
    let acts = world.acts();
    let mut board = (Votes::default(), std::mem::take(&mut world.servers));
    let mut found: Vec<Found> = acts.iter().map(|_| Found::default()).collect();
    posts.extend(acts.iter().flat_map(|act| &act.posts).map(|post| Post { tags: post.tags.clone(), ..*post }));
    posts.sort_by_key(|post| post.minute);
    let mut posts = posts.into_iter().peekable();
    let asked = Asked { subject: Subject::Tag, window: Window::Six, language: None };
    let (rulings, mut things) = (Rulings::default(), Things::new());
    for minute in 0..2 * MINUTES_OF_A_DAY {
        while let Some(post) = posts.next_if(|post| post.minute <= minute) {
            cast(&mut board.0, &mut things, &post);
        }
        let is_looked_at = minute >= NOON && (minute < NOON + LASTS || minute % 15 == 0);
        if !is_looked_at {
            continue;
        }
        let now = at(minute);
        board.0.expire(hour_of(now).saturating_sub(49));
        let counts = Counts { votes: &board.0, servers: &board.1, since: 0 };
        // The store is not asked, and so nothing fails.
        let list = all(counts, &NoPast, &rulings, &asked, now).unwrap_or_default();
        let list: Vec<String> = list.into_iter().filter(|(_, why)| why.is_none()).map(|(one, _)| one.key).collect();
        let span: Span = asked.window.span(hour_of(now));
        let speaking = board.0.speaking(span, None, &board.1, now);
        let look = Look { window: Window::Six, language: None, now, all: speaking };
        for (act, found) in acts.iter().zip(&mut found) {
            for tag in &act.tags {
                let place = list.iter().position(|key| key == tag);
                found.note(counts, tag, place, minute, &look);
            }
        }
    }
    acts.iter().zip(found).map(|(act, found)| found.outcome(act)).collect()
}

/// What became of an act so far.
#[derive(Default)]
struct Found {
    best_place: Option<usize>,
    after_minutes: Option<u32>,
    farthest: Option<super::assess::Assessment>,
}

impl Found {
    fn note(&mut self, counts: Counts<'_>, tag: &str, place: Option<usize>, minute: u32, look: &Look<'_>) {
        if let Some(place) = place {
            self.best_place = Some(self.best_place.map_or(place, |best| best.min(place)));
            if place < TOP && self.after_minutes.is_none() {
                self.after_minutes = Some(minute - NOON);
            }
        }
        let number = target(Subject::Tag, tag);
        if let Ok(here) = assess(counts, &NoPast, number, look, true)
            && self.farthest.as_ref().is_none_or(|known| farther(known) < farther(&here))
        {
            self.farthest = Some(here);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn outcome(self, act: &Act) -> Outcome {
        let whole = |millionths: u64| (millionths as f64 / ONE as f64 * 100.0).round() / 100.0;
        let soon = self.after_minutes.is_some_and(|minutes| minutes <= SOON);
        let (measure, score) = self.farthest.map(|one| (one.measure, Some(one.score))).unwrap_or_default();
        Outcome {
            what: act.what,
            is_event: act.is_event,
            people: measure.people,
            servers: measure.servers,
            reach: whole(measure.reach),
            spread: whole(measure.spread),
            z: score.map_or(0.0, |score| (score.z * 100.0).round() / 100.0),
            short_of: score.and_then(|score| score.short),
            best_place: self.best_place.map(|place| place + 1),
            after_minutes: self.after_minutes,
            as_it_should: if act.is_event { soon } else { self.after_minutes.is_none() },
        }
    }
}

/// How far something reached; of what reaches nothing, how many people speak of it.
const fn farther(one: &super::assess::Assessment) -> (u64, u32) {
    (one.measure.reach, one.measure.people)
}

fn at(minute: u32) -> Timestamp {
    Timestamp::from_secs(BEGIN.secs() + i64::from(minute) * 60)
}

/// As the store does it, whose own work is not simulated: of each author the first things of a day.
fn cast(votes: &mut Votes, things: &mut Things, post: &Post) {
    let document = Document { tags: post.tags.clone(), ..Document::of(&serde_json::Value::Null) };
    let Ok(author) = Iri::parse(&format!("https://s{}.example/users/{}", post.place, post.author)) else { return };
    let (language, hour) = ("en".to_owned(), hour_of(at(post.minute)));
    let mut choices = choices(&document, &[], &author);
    let theirs = things.entry((post.author, hour / 24)).or_default();
    choices.retain(|one| {
        let number = one.target();
        theirs.contains(&number) || theirs.len() < MOST_THINGS && theirs.insert(number)
    });
    let (author, place, young) = (post.author, post.place, post.young);
    let ballot = Ballot { author, place, language, young, hour, seq: Seq(1), choices };
    for choice in &ballot.choices {
        votes.admit(choice, 0, &[]);
        votes.add(1, &ballot, choice);
    }
}

/// Who there is, and chance.
struct World {
    chance: u64,
    servers: Servers,
    /// Of each old server, its number and its people.
    people: Vec<(u32, u64)>,
    next_place: u32,
    next_author: u64,
    posts: u32,
}

/// Old enough to count in full, in days.
const OLD: u64 = 400;

impl World {
    fn new(seed: u64, scale: Scale) -> Self {
        let (servers, people, posts) = match scale {
            Scale::Day => (400, 20_000, 65_000),
            Scale::Small => (300, 3_000, 9_000),
        };
        let mut world = Self {
            chance: seed.wrapping_add(1),
            servers: Servers::default(),
            people: Vec::new(),
            next_place: 1,
            next_author: 1,
            posts,
        };
        // As sizes of servers are: the tenth has a tenth of the people of the first.
        let all: f64 = (1..=servers).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in 1..=servers {
            let here = (f64::from(people) / f64::from(rank) / all).round().max(1.0);
            let place = world.server(&format!("honest{rank}.example"), OLD);
            world.people.push((place, to_count(here)));
            world.next_author += to_count(here);
        }
        world
    }

    fn server(&mut self, name: &str, days: u64) -> u32 {
        self.server_seen(name, days, 0)
    }

    /// One that is known for so many days, and was heard of so many ago.
    fn server_seen(&mut self, name: &str, days: u64, ago: i64) -> u32 {
        let number = self.next_place;
        self.next_place += 1;
        let since = BEGIN.minus(std::time::Duration::from_secs(days * 86_400));
        let place = Place { number, since, seen_on: BEGIN.day() - ago };
        let since = if place.is_lapsed(at(NOON)) { at(NOON) } else { since };
        if let Ok(authority) = Authority::parse(name) {
            self.servers.learn(&authority, &Place { since, ..place }, false);
        }
        number
    }

    /// Splitmix64: the same on every machine.
    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.random() % most.max(1)
    }

    /// Small numbers are likelier, as words are: about evenly over each doubling.
    fn likelier_small(&mut self, most: u32) -> u64 {
        let share = f64::from(u32::try_from(self.below(1 << 20)).unwrap_or(0)) / f64::from(1 << 20);
        to_count((f64::from(most).powf(share) - 1.0).max(0.0))
    }

    /// Somebody of an old server, by its size: who, and where.
    fn somebody(&mut self) -> (u64, u32) {
        let mut number = self.below(self.people.iter().map(|(_, people)| people).sum());
        let mut first = 1;
        for (place, people) in &self.people {
            if number < *people {
                return (first + number, *place);
            }
            number -= people;
            first += people;
        }
        (1, 1)
    }

    /// Two ordinary days: a few tags that many use every day, thousands that hardly anybody does, and each hour some that a
    /// handful of people happen to talk about.
    fn honest(&mut self) -> Vec<Post> {
        let mut posts = Vec::new();
        for day in 0..2 {
            for _post in 0..self.posts {
                // Fewer at night.
                let minute = u32::try_from((self.below(1440) + self.below(1440)) / 2).unwrap_or(0);
                let (author, place) = self.somebody();
                let count = 1 + self.below(3);
                let tags = (0..count).map(|_| format!("daily{}", self.likelier_small(3000))).collect();
                posts.push(Post { minute: day * MINUTES_OF_A_DAY + minute, author, place, tags, young: false });
            }
            for hour in 0..24 {
                for topic in 0..2 {
                    let tag = format!("talk{day}x{hour}x{topic}");
                    for _person in 0..4 + self.below(20) {
                        let (author, place) = self.somebody();
                        let minute = day * MINUTES_OF_A_DAY + hour * 60 + u32::try_from(self.below(60)).unwrap_or(0);
                        posts.push(Post { minute, author, place, tags: vec![tag.clone()], young: false });
                    }
                }
            }
        }
        posts
    }

    fn somebody_new(&mut self) -> u64 {
        self.next_author += 1;
        self.next_author
    }

    /// `count` new accounts on each of these servers post each once.
    fn accounts(&mut self, places: &[u32], count: u32, lasts: u32, tags: &[&str]) -> Vec<Post> {
        let mut posts = Vec::new();
        for place in places {
            for _account in 0..count {
                let minute = NOON + u32::try_from(self.below(lasts.into())).unwrap_or(0);
                let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
                posts.push(Post { minute, author: self.somebody_new(), place: *place, tags, young: false });
            }
        }
        posts
    }

    fn acts(&mut self) -> Vec<Act> {
        let mut acts = vec![self.spread_event(), self.big_server_event()];
        let act = |what, tag: &str, posts| Act { what, is_event: false, tags: vec![tag.to_owned()], posts };
        let old: Vec<u32> = (0..12).map(|number| self.server(&format!("old{number}.example"), OLD)).collect();

        let author = self.somebody_new();
        let flood = (0..10_000).map(|number| Post {
            minute: NOON + number % LASTS,
            author,
            place: old[0],
            tags: vec!["flood".to_owned()],
            young: false,
        });
        acts.push(act("one author, 10,000 posts", "flood", flood.collect()));
        let army = self.accounts(&old[..1], 1000, LASTS, &["army"]);
        acts.push(act("1,000 accounts on one server", "army", army));
        let below: Vec<u32> = (0..50).map(|number| self.server(&format!("x{number}.wild.example"), OLD)).collect();
        let below = self.accounts(&below, 20, LASTS, &["wildcard"]);
        acts.push(act("50 sub-domains, 20 accounts each", "wildcard", below));
        let new: Vec<u32> = (0..50).map(|number| self.server(&format!("new{number}.example"), 0)).collect();
        let new = self.accounts(&new, 20, LASTS, &["fresh"]);
        acts.push(act("50 new domains, 20 accounts each", "fresh", new));
        let ring = self.accounts(&old[..3], 200, LASTS, &["ring"]);
        acts.push(act("3 old servers together, 200 accounts each", "ring", ring));
        let drip = self.accounts(&old[..2], 400, MINUTES_OF_A_DAY - 720, &["drip"]);
        acts.push(act("slow drip on 2 servers, 800 accounts in 12 hours", "drip", drip));
        let many = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "a10", "stuffed"];
        let mut stuffed = self.accounts(&old, 10, LASTS, &many);
        stuffed.extend(self.accounts(&old, 10, LASTS, &["a1", "a2", "a3", "a4", "a5", "stuffed"]));
        acts.push(act("tag stuffing: the sixth of six, the last of eleven", "stuffed", stuffed));
        acts.push(self.doubles(&old));
        let mut ring = self.accounts(&old[..3], 200, LASTS, &["ringandone"]);
        ring.extend(self.accounts(&old[3..4], 1, 1, &["ringandone"]));
        acts.push(act("3 old servers, 200 accounts each, and 1 account on another", "ringandone", ring));
        let name = self.server("threedays.example", 2);
        let mut ring = self.accounts(&old[..3], 200, LASTS, &["ringandname"]);
        ring.extend(self.accounts(&[name], 200, 1, &["ringandname"]));
        acts.push(act("3 old servers and a name of three days, 200 accounts each", "ringandname", ring));
        acts.push(self.filling(&old[..5]));
        let lapsed: Vec<u32> =
            (0..5).map(|number| self.server_seen(&format!("lapsed{number}.example"), OLD, 60)).collect();
        let lapsed = self.accounts(&lapsed, 200, LASTS, &["lapsed"]);
        acts.push(act("5 old names that lapsed, 200 accounts each", "lapsed", lapsed));
        let given: Vec<u32> = (0..50).map(|number| self.server(&format!("n{number}.duckdns.org"), OLD)).collect();
        let given = self.accounts(&given, 20, LASTS, &["given"]);
        acts.push(act("50 names below one that gives them away, 20 accounts each", "given", given));
        acts.extend(self.kept_off(&old, name));
        acts
    }

    /// Five accounts on as many old servers post forty times with five tags each.
    fn filling(&mut self, old: &[u32]) -> Act {
        let tags: Vec<String> = (0..200).map(|number| format!("filling{number}")).collect();
        let mut posts = Vec::new();
        for place in old {
            let author = self.somebody_new();
            let some = tags.chunks(5).zip(NOON..);
            posts.extend(some.map(|(tags, minute)| Post {
                minute,
                author,
                place: *place,
                tags: tags.to_vec(),
                young: false,
            }));
        }
        Act { what: "5 accounts on 5 old servers fill the list, 200 tags", is_event: false, tags, posts }
    }

    /// Real events, and what people do to keep them off the list.
    fn kept_off(&mut self, old: &[u32], name: u32) -> Vec<Act> {
        let event = |what, tag: &str, posts| Act { what, is_event: true, tags: vec![tag.to_owned()], posts };
        let honest: Vec<u32> = self.people.iter().map(|(place, _)| *place).take(40).collect();
        let mut pumped = self.accounts(&old[..1], 1000, LASTS, &["pumped"]);
        pumped.iter_mut().for_each(|post| post.minute -= MINUTES_OF_A_DAY);
        pumped.extend(self.accounts(&honest, 1, SOON, &["pumped"]));
        let mut flooded = self.accounts(&[name], 2000, SOON, &["flooded"]);
        flooded.extend(self.accounts(&old[..1], 200, SOON, &["flooded"]));
        flooded.iter_mut().for_each(|post| post.young = true);
        flooded.extend(self.accounts(&honest, 1, SOON, &["flooded"]));
        let mut crowded = self.accounts(&old[..1], 240, SOON, &["crowded"]);
        crowded.extend(self.accounts(&honest[..24], 1, SOON, &["crowded"]));
        vec![
            event("an event that 1,000 accounts on one server made usual the day before", "pumped", pumped),
            event("an event, and 2,200 young accounts on 2 servers", "flooded", flooded),
            event("an event on 24 servers, and 240 accounts on one more", "crowded", crowded),
        ]
    }

    fn spread_event(&mut self) -> Act {
        let posts = (0..180).map(|_| {
            let minute = NOON + u32::try_from(self.below(LASTS.into())).unwrap_or(0);
            // People of small servers speak up as well as those of large ones.
            let number = usize::try_from(self.below(self.people.len() as u64)).unwrap_or(0);
            let place = self.people.get(number).map_or(1, |(place, _)| *place);
            Post { minute, author: self.somebody_new(), place, tags: vec!["Earthquake".to_owned()], young: false }
        });
        Act { what: "an event, spread", is_event: true, tags: vec!["earthquake".to_owned()], posts: posts.collect() }
    }

    fn big_server_event(&mut self) -> Act {
        let big = self.people.first().map_or(1, |(place, _)| *place);
        let posts = (0..240).map(|number| {
            let minute = NOON + u32::try_from(self.below(LASTS.into())).unwrap_or(0);
            let place = if number % 3 == 0 { self.somebody().1 } else { big };
            Post { minute, author: self.somebody_new(), place, tags: vec!["BigGame".to_owned()], young: false }
        });
        Act {
            what: "an event, mostly on one big server",
            is_event: true,
            tags: vec!["biggame".to_owned()],
            posts: posts.collect(),
        }
    }

    /// Letters of other scripts, marks, full width, invisible characters: to have one thing on the list many times.
    fn doubles(&mut self, old: &[u32]) -> Act {
        let variants = [
            "e\u{430}rthqu\u{430}ke",
            "\u{435}arthquak\u{435}",
            "earthqua\u{43a}e",
            "e\u{3b1}rthquake",
            "earth\u{200b}quake2",
            "e\u{301}arthqua\u{308}ke2",
            "ＥＡＲＴＨＱＵＡＫＥ２",
            "earth\u{202e}quake2",
        ];
        let mut posts = Vec::new();
        for variant in variants {
            posts.extend(self.accounts(&old[..3], 40, LASTS, &[variant]));
        }
        let tags = variants.iter().map(|variant| variant.to_lowercase()).chain(["earthquake2".to_owned()]).collect();
        Act { what: "doubles of an event's tag", is_event: false, tags, posts }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of a simulation, never negative")]
fn to_count(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_stay_out_of_the_top_twenty_and_events_are_in_within_a_quarter_of_an_hour() {
        for seed in 1..4 {
            for outcome in simulate(seed, Scale::Small) {
                assert!(outcome.as_it_should, "{seed}: {outcome:#?}");
            }
        }
    }

    #[test]
    fn the_same_number_gives_the_same_day() {
        assert_eq!(simulate(7, Scale::Small), simulate(7, Scale::Small));
    }
}

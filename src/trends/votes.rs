//! The exact counts of the last two days: who, by number, speaks of what, on which server, in which language, in which
//! hour. Pure: ballots in, numbers out, in any order; a ballot that is taken back leaves nothing.
//!
//! One vote is 24 bytes, whoever posts how often: an author counts once for each thing and window. Memory has a hard
//! bound; when it is reached, what the fewest people speak of goes first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::score::{Measure, measure};
use super::servers::Servers;
use crate::clock::Timestamp;
use crate::store::{Ballot, Choice, Subject};

/// Spellings of one thing that are told apart; more are taken for the key.
const MOST_SPELLINGS: usize = 64;
/// Languages that are told apart; more are taken for an unknown one.
const MOST_LANGUAGES: usize = 1000;
/// The language that is not known.
pub const UNKNOWN: &str = "und";
/// That the account is young, in a server's number.
const YOUNG: u32 = 1 << 31;
/// What one thing takes beside its votes and its texts, with its place in the map.
const OVERHEAD: usize = size_of::<Thing>() + 32;

/// Hours, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first one, since the epoch.
    pub from: u32,
    /// The last one.
    pub to: u32,
}

/// One author's posts for one thing in one hour, in one language and spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vote {
    author: u64,
    hour: u32,
    /// The server's number, and whether the account is young.
    server: u32,
    posts: u32,
    language: u16,
    spelling: u16,
}

impl Vote {
    const fn order(&self) -> (u32, u64, u16, u16, u32) {
        (self.hour, self.author, self.language, self.spelling, self.server)
    }
}

/// Something that is counted.
struct Thing {
    subject: Subject,
    key: Box<str>,
    spellings: Vec<Box<str>>,
    votes: Vec<Vote>,
    /// It was made from the journal as of this change: earlier ones are part of it.
    loaded: u64,
}

impl Thing {
    fn bytes(&self) -> usize {
        let texts = self.spellings.iter().map(|text| text.len() + 32).sum::<usize>();
        OVERHEAD + self.key.len() + texts + self.votes.capacity() * size_of::<Vote>()
    }

    fn spelling(&mut self, choice: &Choice) -> u16 {
        if choice.shown.is_empty() {
            return 0;
        }
        let known = self.spellings.iter().position(|text| **text == *choice.shown);
        let place = known.map(|place| place + 1).unwrap_or_else(|| {
            if self.spellings.len() >= MOST_SPELLINGS {
                return 0;
            }
            self.spellings.push(choice.shown.as_str().into());
            self.spellings.len()
        });
        u16::try_from(place).unwrap_or(0)
    }

    fn within(&self, span: Span) -> &[Vote] {
        let from = self.votes.partition_point(|vote| vote.hour < span.from);
        let to = self.votes.partition_point(|vote| vote.hour <= span.to);
        self.votes.get(from..to).unwrap_or_default()
    }
}

/// What was counted of one thing in one span.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    /// Of each server (registrable domain) that weighs something: its people and its weight in thousandths, the largest
    /// first.
    pub servers: Vec<(u32, u32)>,
    /// What that comes to.
    pub measure: Measure,
    /// Posts of these people.
    pub uses: u32,
    /// Those of these people whose accounts say that they are young.
    pub young: u32,
    /// People on servers that are known for too short a time to weigh anything.
    pub weightless: u32,
}

/// All counts.
pub struct Votes {
    things: HashMap<u64, Thing, BuildHasherDefault<AsItIs>>,
    languages: Vec<String>,
    bytes: usize,
}

impl Default for Votes {
    fn default() -> Self {
        Self { things: HashMap::default(), languages: vec![UNKNOWN.to_owned()], bytes: 0 }
    }
}

/// Numbers of things are hashes already.
#[derive(Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl Votes {
    /// Begins to count something, with what the journal holds of it as of this change.
    pub fn admit(&mut self, choice: &Choice, loaded: u64, ballots: &[Ballot]) {
        let target = choice.target();
        if self.things.contains_key(&target) {
            return;
        }
        let mut thing = Thing {
            subject: choice.subject,
            key: choice.key.as_str().into(),
            spellings: Vec::new(),
            votes: Vec::new(),
            loaded,
        };
        for ballot in ballots {
            let language = self.language(&ballot.language);
            let theirs = ballot.choices.iter().filter(|one| one.subject == choice.subject && one.key == choice.key);
            theirs.for_each(|one| add(&mut thing, ballot, one, language));
        }
        self.bytes += thing.bytes();
        self.things.insert(target, thing);
    }

    /// Whether it is counted.
    #[must_use]
    pub fn counts(&self, target: u64) -> bool {
        self.things.contains_key(&target)
    }

    /// Counts a ballot for one of its choices, if that is counted and change `number` is not part of it.
    pub fn add(&mut self, number: u64, ballot: &Ballot, choice: &Choice) {
        let language = self.language(&ballot.language);
        self.change(number, choice, |thing| add(thing, ballot, choice, language));
    }

    /// Takes one back.
    pub fn subtract(&mut self, number: u64, ballot: &Ballot, choice: &Choice) {
        let language = self.language(&ballot.language);
        let is_empty = self.change(number, choice, |thing| subtract(thing, ballot, choice, language));
        if is_empty {
            let gone = self.things.remove(&choice.target());
            self.bytes = self.bytes.saturating_sub(gone.map_or(0, |thing| thing.bytes()));
        }
    }

    /// Whether nothing is left of it.
    fn change(&mut self, number: u64, choice: &Choice, change: impl FnOnce(&mut Thing)) -> bool {
        let Some(thing) = self.things.get_mut(&choice.target()) else { return false };
        // Of two things with one number, which nobody finds, the first one counts.
        if number <= thing.loaded || thing.subject != choice.subject || *thing.key != *choice.key {
            return false;
        }
        let before = thing.bytes();
        change(thing);
        self.bytes = (self.bytes + thing.bytes()).saturating_sub(before);
        thing.votes.is_empty()
    }

    /// Forgets hours before this one.
    pub fn expire(&mut self, before: u32) {
        let mut bytes = 0;
        self.things.retain(|_, thing| {
            let old = thing.votes.partition_point(|vote| vote.hour < before);
            if old > 0 {
                thing.votes.drain(..old);
                thing.votes.shrink_to_fit();
            }
            let stays = !thing.votes.is_empty();
            bytes += if stays { thing.bytes() } else { 0 };
            stays
        });
        self.things.shrink_to_fit();
        self.bytes = bytes;
    }

    /// If more than `most` bytes are taken, forgets what has the fewest votes until an eighth is free; how many things.
    pub fn make_room(&mut self, most: usize) -> usize {
        if self.bytes <= most {
            return 0;
        }
        let mut all: Vec<(usize, u32, u64)> = self
            .things
            .iter()
            .map(|(target, thing)| (thing.votes.len(), thing.votes.last().map_or(0, |vote| vote.hour), *target))
            .collect();
        all.sort_unstable();
        let mut gone = 0;
        for (_, _, target) in all {
            if self.bytes <= most / 8 * 7 {
                break;
            }
            if let Some(thing) = self.things.remove(&target) {
                self.bytes = self.bytes.saturating_sub(thing.bytes());
                gone += 1;
            }
        }
        gone
    }

    /// Bytes that are taken, nearly.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many things are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// All things that are counted, by their numbers.
    pub fn targets(&self) -> impl Iterator<Item = (u64, Subject)> {
        self.things.iter().map(|(target, thing)| (*target, thing.subject))
    }

    /// What a number stands for.
    #[must_use]
    pub fn key(&self, target: u64) -> Option<(Subject, &str)> {
        self.things.get(&target).map(|thing| (thing.subject, &*thing.key))
    }

    /// An upper bound of the people who speak of it in this span.
    #[must_use]
    pub fn at_most(&self, target: u64, span: Span) -> usize {
        self.things.get(&target).map_or(0, |thing| thing.within(span).len())
    }

    /// The hour of the first vote for it that is kept.
    #[must_use]
    pub fn first_hour(&self, target: u64) -> Option<u32> {
        self.things.get(&target)?.votes.first().map(|vote| vote.hour)
    }

    /// The languages in which it is spoken of in this span.
    #[must_use]
    pub fn languages_of(&self, target: u64, span: Span) -> Vec<&str> {
        let Some(thing) = self.things.get(&target) else { return Vec::new() };
        let mut numbers: Vec<u16> = thing.within(span).iter().map(|vote| vote.language).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.iter().filter_map(|number| self.languages.get(usize::from(*number))).map(String::as_str).collect()
    }

    /// Counts people on servers: in one language, or in all (`None`).
    #[must_use]
    pub fn count(&self, target: u64, span: Span, language: Option<&str>, servers: &Servers, now: Timestamp) -> Count {
        let Some(thing) = self.things.get(&target) else { return Count::default() };
        let wanted = language.map(|name| self.languages.iter().position(|known| known == name));
        let mut people: Vec<(u32, u32, u64, bool)> = Vec::new();
        let mut count = Count::default();
        let mut last = None;
        for vote in thing.within(span) {
            if wanted.is_some_and(|wanted| wanted != Some(usize::from(vote.language))) {
                continue;
            }
            let place = vote.server & !YOUNG;
            // Most votes of one thing come from few servers, one after another they often come from the same.
            let weight = match last {
                Some((known, weight)) if known == place => weight,
                _ => servers.weigh(place, now),
            };
            last = Some((place, weight));
            let Some(weight) = weight else { continue };
            if weight.weight > 0 {
                count.uses = count.uses.saturating_add(vote.posts);
            }
            people.push((weight.domain, weight.weight, vote.author, vote.server & YOUNG != 0));
        }
        people.sort_unstable();
        // The same author twice: what was ever said of their age counts.
        people.dedup_by(|next, kept| {
            let same = (next.0, next.2) == (kept.0, kept.2);
            kept.3 |= same && next.3;
            same
        });
        let mut rest = people.as_slice();
        while let Some((domain, weight, _, _)) = rest.first().copied() {
            let end = rest.iter().position(|one| one.0 != domain).unwrap_or(rest.len());
            let (theirs, others) = rest.split_at(end);
            rest = others;
            let here = u32::try_from(theirs.len()).unwrap_or(u32::MAX);
            if weight == 0 {
                count.weightless = count.weightless.saturating_add(here);
                continue;
            }
            count.young += u32::try_from(theirs.iter().filter(|one| one.3).count()).unwrap_or(0);
            count.servers.push((here, weight));
        }
        count.servers.sort_unstable_by(|one, other| other.cmp(one));
        count.measure = measure(count.servers.iter().copied());
        count
    }

    /// Whether anything is counted in this language.
    #[must_use]
    pub fn knows(&self, language: &str) -> bool {
        self.languages.iter().any(|known| known == language)
    }

    /// The commonest spelling in this span, by people; of two, the one that comes first in order.
    #[must_use]
    pub fn spelling(&self, target: u64, span: Span) -> Option<&str> {
        let thing = self.things.get(&target)?;
        let mut said: Vec<(u16, u64)> = thing.within(span).iter().map(|vote| (vote.spelling, vote.author)).collect();
        said.sort_unstable();
        said.dedup();
        let mut people: HashMap<&str, u32> = HashMap::new();
        for (spelling, _) in said {
            let text = match spelling {
                0 => Some(&thing.key),
                other => thing.spellings.get(usize::from(other) - 1),
            };
            *people.entry(text.unwrap_or(&thing.key)).or_default() += 1;
        }
        people
            .into_iter()
            .max_by(|one, other| one.1.cmp(&other.1).then_with(|| other.0.cmp(one.0)))
            .map(|(text, _)| text)
    }

    fn language(&mut self, name: &str) -> u16 {
        let known = self.languages.iter().position(|known| known == name);
        let place = known.unwrap_or_else(|| {
            if self.languages.len() >= MOST_LANGUAGES {
                return 0;
            }
            self.languages.push(name.to_owned());
            self.languages.len() - 1
        });
        u16::try_from(place).unwrap_or(0)
    }
}

fn vote(thing: &mut Thing, ballot: &Ballot, choice: &Choice, language: u16) -> Vote {
    let server = ballot.place & !YOUNG | if ballot.young { YOUNG } else { 0 };
    let spelling = thing.spelling(choice);
    Vote { author: ballot.author, hour: ballot.hour, server, posts: 1, language, spelling }
}

fn add(thing: &mut Thing, ballot: &Ballot, choice: &Choice, language: u16) {
    let vote = vote(thing, ballot, choice, language);
    match thing.votes.binary_search_by_key(&vote.order(), Vote::order) {
        Ok(known) => {
            if let Some(known) = thing.votes.get_mut(known) {
                known.posts = known.posts.saturating_add(1);
            }
        }
        Err(place) => {
            // Room for an eighth more, not for twice as many: most things are spoken of by few.
            if thing.votes.len() == thing.votes.capacity() {
                thing.votes.reserve_exact(1 + thing.votes.len() / 8);
            }
            thing.votes.insert(place, vote);
        }
    }
}

fn subtract(thing: &mut Thing, ballot: &Ballot, choice: &Choice, language: u16) {
    let vote = vote(thing, ballot, choice, language);
    if let Ok(place) = thing.votes.binary_search_by_key(&vote.order(), Vote::order)
        && let Some(known) = thing.votes.get_mut(place)
    {
        known.posts -= 1;
        if known.posts == 0 {
            thing.votes.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Authority, Seq};
    use crate::store::Place;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);
    const HOUR: u32 = 496_524;
    const ALL: Span = Span { from: HOUR - 48, to: HOUR };

    fn servers(count: u32) -> Servers {
        let mut servers = Servers::default();
        for number in 1..=count {
            let place = Place { number, since: Timestamp::default(), seen_on: 0 };
            servers.learn(&Authority::parse(&format!("s{number}.example")).unwrap(), &place, false);
        }
        servers
    }

    fn tag(key: &str) -> Choice {
        Choice {
            subject: Subject::Tag,
            key: key.to_lowercase(),
            shown: if key == key.to_lowercase() { String::new() } else { key.to_owned() },
        }
    }

    fn ballot(author: u64, place: u32, hour: u32, language: &str, tags: &[&str]) -> Ballot {
        let choices = tags.iter().map(|key| tag(key)).collect();
        Ballot { author, place, language: language.to_owned(), young: false, hour, seq: Seq(1), choices }
    }

    fn cast(votes: &mut Votes, ballot: &Ballot) {
        for choice in &ballot.choices {
            votes.admit(choice, 0, &[]);
            votes.add(1, ballot, choice);
        }
    }

    fn take_back(votes: &mut Votes, ballot: &Ballot) {
        ballot.choices.iter().for_each(|choice| votes.subtract(1, ballot, choice));
    }

    fn count(votes: &Votes, key: &str, language: Option<&str>) -> Count {
        votes.count(tag(key).target(), ALL, language, &servers(9), NOON)
    }

    /// All that can be asked, in an order of its own.
    fn state(votes: &Votes) -> Vec<(String, Count, Option<String>, Vec<String>)> {
        let mut all: Vec<_> = votes
            .targets()
            .map(|(target, _)| {
                let languages = votes.languages_of(target, ALL).into_iter().map(str::to_owned);
                let mut languages: Vec<String> = languages.collect();
                languages.sort();
                (
                    votes.key(target).unwrap().1.to_owned(),
                    votes.count(target, ALL, None, &servers(9), NOON),
                    votes.spelling(target, ALL).map(str::to_owned),
                    languages,
                )
            })
            .collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }

    #[test]
    fn a_vote_is_24_bytes() {
        assert_eq!(size_of::<Vote>(), 24);
    }

    #[test]
    fn people_are_counted_once_for_each_thing_and_window() {
        let mut votes = Votes::default();
        for (author, place, hours, language) in
            [(1, 1, 0, "en"), (1, 1, 0, "en"), (1, 1, 3, "de"), (2, 1, 0, "en"), (3, 2, 30, "de"), (4, 3, 0, "de")]
        {
            cast(&mut votes, &ballot(author, place, HOUR - hours, language, &["cats"]));
        }
        let all = count(&votes, "cats", None);
        assert_eq!((all.measure.people, all.measure.servers, all.uses), (4, 3, 6));
        assert_eq!(all.servers, [(2, 1000), (1, 1000), (1, 1000)]);
        let german = count(&votes, "cats", Some("de"));
        assert_eq!((german.measure.people, german.uses), (3, 3));
        assert_eq!(count(&votes, "cats", Some("fr")), Count::default());
        let target = tag("cats").target();
        let six = votes.count(target, Span { from: HOUR - 6, to: HOUR }, None, &servers(9), NOON);
        assert_eq!(six.measure.people, 3);
        votes.expire(HOUR - 6);
        assert_eq!(count(&votes, "cats", None).measure.people, 3);
        votes.expire(HOUR + 1);
        assert!(votes.is_empty() && votes.bytes() == 0);
    }

    #[test]
    fn the_commonest_spelling_by_people_is_shown_whoever_shouts() {
        let mut votes = Votes::default();
        for (author, spelling) in [(1, "BlackCats"), (2, "BlackCats"), (3, "blackcats")] {
            cast(&mut votes, &ballot(author, 1, HOUR, "en", &[spelling]));
        }
        for _shout in 0..50 {
            cast(&mut votes, &ballot(4, 1, HOUR, "en", &["BLACKCATS"]));
        }
        assert_eq!(votes.spelling(tag("blackcats").target(), ALL), Some("BlackCats"));
    }

    #[test]
    fn young_accounts_and_servers_that_weigh_nothing_are_told_apart() {
        let mut servers = servers(2);
        let place = Place { number: 3, since: NOON, seen_on: 0 };
        servers.learn(&Authority::parse("new.example").unwrap(), &place, false);
        let mut votes = Votes::default();
        for (author, place, young) in [(1, 1, true), (1, 1, false), (2, 1, false), (3, 2, true), (4, 3, true)] {
            cast(&mut votes, &Ballot { young, ..ballot(author, place, HOUR, "en", &["cats"]) });
        }
        let count = votes.count(tag("cats").target(), ALL, None, &servers, NOON);
        assert_eq!((count.measure.people, count.young, count.weightless), (3, 2, 1));
    }

    #[test]
    fn there_is_a_hard_bound_and_what_few_speak_of_goes_first() {
        let mut votes = Votes::default();
        for author in 0..100 {
            cast(&mut votes, &ballot(author, 1, HOUR, "en", &["cats"]));
        }
        for number in 0..5_000 {
            cast(&mut votes, &ballot(number, 1, HOUR, "en", &[&format!("tag{number}")]));
        }
        let most = votes.bytes() / 2;
        let gone = votes.make_room(most);
        assert!((2_500..4_000).contains(&gone), "{gone}");
        assert!(votes.bytes() <= most && votes.counts(tag("cats").target()));
        assert_eq!(votes.make_room(most), 0);
    }

    fn ballots() -> impl Strategy<Value = Vec<Ballot>> {
        let one = (0_u64..6, 0_u32..4, 0..4_usize, prop::collection::vec(0..6_usize, 1..4), any::<bool>());
        prop::collection::vec(one, 1..60).prop_map(|all| {
            all.into_iter()
                .map(|(author, hours, language, tags, young)| {
                    let tags: Vec<&str> =
                        tags.iter().map(|tag| ["cats", "Cats", "birds", "Birds", "fish", "x"][*tag]).collect();
                    let mut seen = Vec::new();
                    let mut one = ballot(
                        author,
                        u32::try_from(author).unwrap() % 3 + 1,
                        HOUR - hours * 9,
                        ["en", "de", "und", "pt"][language],
                        &tags,
                    );
                    one.choices.retain(|choice| {
                        !seen.contains(&choice.key) && {
                            seen.push(choice.key.clone());
                            true
                        }
                    });
                    Ballot { young, ..one }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_order_of_events_is_irrelevant(all in ballots(), turn in any::<prop::sample::Index>()) {
            let (mut one, mut other) = (Votes::default(), Votes::default());
            all.iter().for_each(|ballot| cast(&mut one, ballot));
            let turn = turn.index(all.len());
            all[turn..].iter().chain(&all[..turn]).rev().for_each(|ballot| cast(&mut other, ballot));
            prop_assert_eq!(state(&one), state(&other));
        }

        #[test]
        fn taking_back_all_of_an_author_restores_the_state(all in ballots(), author in 0_u64..6) {
            let (mut without, mut with) = (Votes::default(), Votes::default());
            all.iter().filter(|ballot| ballot.author != author).for_each(|ballot| cast(&mut without, ballot));
            all.iter().for_each(|ballot| cast(&mut with, ballot));
            all.iter().filter(|ballot| ballot.author == author).for_each(|ballot| take_back(&mut with, ballot));
            prop_assert_eq!(state(&without), state(&with));
            all.iter().filter(|ballot| ballot.author != author).for_each(|ballot| take_back(&mut with, ballot));
            prop_assert!(with.is_empty() && with.bytes() == 0);
        }

        #[test]
        fn one_authors_flood_changes_nothing_but_the_number_of_posts(all in ballots(), times in 1..50_usize) {
            let mut votes = Votes::default();
            all.iter().for_each(|ballot| cast(&mut votes, ballot));
            let before = state(&votes);
            let flood = &all[0];
            (0..times).for_each(|_| cast(&mut votes, flood));
            let strip = |state: Vec<(String, Count, Option<String>, Vec<String>)>| {
                state.into_iter().map(|(key, count, spelling, languages)| (key, Count { uses: 0, ..count }, spelling, languages)).collect::<Vec<_>>()
            };
            prop_assert_eq!(strip(before), strip(state(&votes)));
        }

        #[test]
        fn what_is_let_in_late_counts_what_came_before(all in ballots(), at in any::<prop::sample::Index>()) {
            let (mut early, mut late) = (Votes::default(), Votes::default());
            all.iter().for_each(|ballot| cast(&mut early, ballot));
            let loaded = at.index(all.len());
            for choice in all.iter().flat_map(|ballot| &ballot.choices) {
                late.admit(choice, loaded as u64, &all[..loaded]);
            }
            for (number, ballot) in all.iter().enumerate() {
                ballot.choices.iter().for_each(|choice| late.add(number as u64 + 1, ballot, choice));
            }
            prop_assert_eq!(state(&early), state(&late));
        }
    }
}

//! The exact counts of the last two days: who, by number, speaks of what, on which server, in which language, in which
//! hour. Pure: ballots in, numbers out, in any order; a ballot that is taken back leaves nothing.
//!
//! One vote is 24 bytes, whoever posts how often: an author counts once for each thing and window, in the language of the
//! first vote there. Accounts that are young are counted apart, so that they make nothing and hide nothing. Memory has a
//! hard bound; when it is reached, what the fewest servers that weigh something speak of goes first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::languages;
use super::score::{Measure, adds, measure};
use super::servers::Servers;
use super::spellings::Spellings;
use crate::clock::Timestamp;
use crate::store::{Ballot, Choice, Subject};

/// That the account is young, in a server's number.
const YOUNG: u32 = 1 << 31;
/// What one thing takes beside its votes and its texts, with its place in the map, of which a half is free on average.
const OVERHEAD: usize = 2 * size_of::<Thing>();

/// Servers by number of which it is asked whether they speak; there are never so many.
const MOST_PLACES: usize = 1 << 24;

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
    /// Of its text, see [`Spellings`].
    spelling: u16,
}

impl Vote {
    const fn order(&self) -> (u32, u64, u16, u16, u32) {
        (self.hour, self.author, self.language, self.spelling, self.server)
    }

    const fn place(&self) -> u32 {
        self.server & !YOUNG
    }

    const fn is_young(&self) -> bool {
        self.server & YOUNG != 0
    }
}

/// Something that is counted.
struct Thing {
    subject: Subject,
    key: Box<str>,
    spellings: Spellings,
    votes: Vec<Vote>,
    /// It was made from the journal as of this change: earlier ones are part of it.
    loaded: u64,
}

impl Thing {
    fn bytes(&self) -> usize {
        OVERHEAD + self.key.len() + self.spellings.bytes() + self.votes.capacity() * size_of::<Vote>()
    }

    fn within(&self, span: Span) -> &[Vote] {
        let from = self.votes.partition_point(|vote| vote.hour < span.from);
        let to = self.votes.partition_point(|vote| vote.hour <= span.to);
        self.votes.get(from..to).unwrap_or_default()
    }

    /// Servers that spell it so: the more, the commoner.
    fn speakers(&self, spelling: u16) -> usize {
        let mut places: Vec<u32> =
            self.votes.iter().filter(|vote| vote.spelling == spelling).map(Vote::place).collect();
        places.sort_unstable();
        places.dedup();
        places.len()
    }

    fn is_spelled(&self, spelling: u16) -> bool {
        self.votes.iter().any(|vote| vote.spelling == spelling)
    }
}

/// What was counted of one thing in one span.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    /// Of each server (domain) that weighs something: its people and its weight in thousandths, the largest first. Without
    /// accounts that are young.
    pub servers: Vec<(u32, u32)>,
    /// What that comes to.
    pub measure: Measure,
    /// The same with accounts that are young; nothing where there is none.
    pub servers_with_young: Vec<(u32, u32)>,
    /// What that comes to.
    pub with_young: Measure,
    /// Posts of all these people.
    pub uses: u32,
    /// People on servers that weigh something whose accounts are young.
    pub young: u32,
    /// People on servers that are known for too short a time to weigh anything.
    pub weightless: u32,
    /// It is judged with accounts that are young: without them it would not trend. Said by whoever judges.
    pub only_with_young: bool,
    /// The hour in the middle: half of what is counted came then or before. 0 where nobody is.
    pub middle: u32,
}

/// All counts.
#[derive(Default)]
pub struct Votes {
    things: HashMap<u64, Thing, BuildHasherDefault<AsItIs>>,
    bytes: usize,
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

/// Somebody, in one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Person {
    domain: u32,
    author: u64,
    /// Of their first vote.
    hour: u32,
    language: u16,
    weight: u32,
    posts: u32,
    is_young: bool,
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
            spellings: Spellings::default(),
            votes: Vec::new(),
            loaded,
        };
        for ballot in ballots {
            let theirs = ballot.choices.iter().filter(|one| one.subject == choice.subject && one.key == choice.key);
            theirs.for_each(|one| add(&mut thing, ballot, one));
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
        self.change(number, choice, |thing| add(thing, ballot, choice));
    }

    /// Takes one back.
    pub fn subtract(&mut self, number: u64, ballot: &Ballot, choice: &Choice) {
        let is_empty = self.change(number, choice, |thing| subtract(thing, ballot, choice));
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
                let votes = &thing.votes;
                thing.spellings.retain(|spelling| votes.iter().any(|vote| vote.spelling == spelling));
            }
            let stays = !thing.votes.is_empty();
            bytes += if stays { thing.bytes() } else { 0 };
            stays
        });
        self.things.shrink_to_fit();
        self.bytes = bytes;
    }

    /// If more than `most` bytes are taken, forgets what the fewest servers that weigh something speak of, and of those what
    /// the fewest people do, until an eighth is free; how many things.
    pub fn make_room(&mut self, most: usize, servers: &Servers, now: Timestamp) -> usize {
        if self.bytes <= most {
            return 0;
        }
        let mut all: Vec<(usize, usize, u32, u64)> = self
            .things
            .iter()
            .map(|(target, thing)| {
                let (mut domains, mut people) = (Vec::new(), Vec::with_capacity(thing.votes.len()));
                let mut last = None;
                for vote in &thing.votes {
                    people.push(vote.author);
                    if last != Some(vote.place()) {
                        last = Some(vote.place());
                        let weight = servers.weigh(vote.place(), now).filter(|weight| weight.weight > 0);
                        domains.extend(weight.map(|weight| weight.domain));
                    }
                }
                people.sort_unstable();
                people.dedup();
                domains.sort_unstable();
                domains.dedup();
                (domains.len(), people.len(), thing.votes.last().map_or(0, |vote| vote.hour), *target)
            })
            .collect();
        all.sort_unstable();
        let mut gone = 0;
        for (.., target) in all {
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

    /// The languages in which it is spoken of in this span.
    #[must_use]
    pub fn languages_of(&self, target: u64, span: Span) -> Vec<&'static str> {
        let Some(thing) = self.things.get(&target) else { return Vec::new() };
        let mut numbers: Vec<u16> = thing.within(span).iter().map(|vote| vote.language).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(languages::code).collect()
    }

    /// Counts people on servers: in one language, or in all (`None`).
    #[must_use]
    pub fn count(&self, target: u64, span: Span, language: Option<&str>, servers: &Servers, now: Timestamp) -> Count {
        let Some(thing) = self.things.get(&target) else { return Count::default() };
        let wanted = language.map(languages::wanted);
        let mut count = Count::default();
        let people = people(thing.within(span), wanted, servers, now);
        let (mut theirs, mut rest) = (Vec::new(), people.as_slice());
        while let Some(Person { domain, weight, .. }) = rest.first().copied() {
            let end = rest.iter().position(|one| one.domain != domain).unwrap_or(rest.len());
            let (here, others) = rest.split_at(end);
            rest = others;
            let number = |people: usize| u32::try_from(people).unwrap_or(u32::MAX);
            if weight == 0 {
                count.weightless = count.weightless.saturating_add(number(here.len()));
                continue;
            }
            let young = here.iter().filter(|one| one.is_young).count();
            let grown = number(here.len() - young);
            count.young = count.young.saturating_add(number(young));
            count.uses = here.iter().fold(count.uses, |uses, one| uses.saturating_add(one.posts));
            if grown > 0 {
                count.servers.push((grown, weight));
                theirs.push((adds(grown, weight), here));
            }
            count.servers_with_young.push((number(here.len()), weight));
        }
        count.servers.sort_unstable_by(|one, other| other.cmp(one));
        count.measure = measure(count.servers.iter().copied());
        if count.young > 0 {
            count.servers_with_young.sort_unstable_by(|one, other| other.cmp(one));
            count.with_young = measure(count.servers_with_young.iter().copied());
        } else {
            count.servers_with_young.clear();
        }
        if thing.subject != Subject::Tag {
            count.middle = middle(theirs);
        }
        count
    }

    /// What all servers weigh together that speak of anything in this span, in thousandths (S). Of what is spoken of on one
    /// server alone nothing is kept here for certain, so it makes none of them one that speaks.
    #[must_use]
    pub fn speaking(&self, span: Span, language: Option<&str>, servers: &Servers, now: Timestamp) -> u64 {
        let wanted = language.map(languages::wanted);
        // Numbers of servers are given out one after the other.
        let mut places: Vec<bool> = Vec::new();
        for thing in self.things.values() {
            let first = thing.votes.first().and_then(|vote| servers.domain_of(vote.place()));
            let is_of_one = thing.votes.iter().all(|vote| servers.domain_of(vote.place()) == first);
            if is_of_one {
                continue;
            }
            let mut last = None;
            for vote in thing.within(span) {
                if last != Some(vote.place()) && wanted.is_none_or(|wanted| wanted == vote.language) {
                    last = Some(vote.place());
                    let place = vote.place() as usize;
                    if place >= places.len() && place < MOST_PLACES {
                        places.resize(place + 1, false);
                    }
                    if let Some(speaks) = places.get_mut(place) {
                        *speaks = true;
                    }
                }
            }
        }
        let domains: HashMap<u32, u32> = (0..)
            .zip(places)
            .filter_map(|(place, speaks)| servers.weigh(place, now).filter(|_| speaks))
            .map(|weight| (weight.domain, weight.weight))
            .collect();
        domains.into_values().map(u64::from).sum()
    }

    /// The commonest spelling in this span, by what the servers weigh that use it, then by people; of two, the one that comes
    /// first in order. Servers that weigh nothing have no say.
    #[must_use]
    pub fn spelling(&self, target: u64, span: Span, servers: &Servers, now: Timestamp) -> Option<&str> {
        let thing = self.things.get(&target)?;
        let mut said: Vec<(u16, u32, u32, u64)> = Vec::new();
        for vote in thing.within(span) {
            let weight = servers.weigh(vote.place(), now).filter(|weight| weight.weight > 0);
            said.extend(weight.map(|weight| (vote.spelling, weight.domain, weight.weight, vote.author)));
        }
        said.sort_unstable();
        said.dedup();
        let mut found: Option<(u64, usize, &str)> = None;
        for same in said.chunk_by(|one, other| one.0 == other.0) {
            let text = match same.first().map_or(0, |one| one.0) {
                0 => &*thing.key,
                spelling => match thing.spellings.text(spelling) {
                    Some(text) => text,
                    None => continue,
                },
            };
            let weight = same.chunk_by(|one, other| one.1 == other.1).filter_map(|here| here.first());
            let weight: u64 = weight.map(|one| u64::from(one.2)).sum();
            let is_commoner = found.is_none_or(|(most, people, known)| {
                (weight, same.len()) > (most, people) || ((weight, same.len()) == (most, people) && text < known)
            });
            if is_commoner {
                found = Some((weight, same.len(), text));
            }
        }
        Some(found.map_or(&*thing.key, |(_, _, text)| text))
    }
}

/// Who speaks, each once, by their servers; in one language, if that is the one of their first vote.
fn people(votes: &[Vote], wanted: Option<u16>, servers: &Servers, now: Timestamp) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::with_capacity(votes.len());
    let mut last = None;
    for vote in votes {
        let place = vote.place();
        // Most votes of one thing come from few servers, one after another they often come from the same.
        let weight = match last {
            Some((known, weight)) if known == place => weight,
            _ => servers.weigh(place, now),
        };
        last = Some((place, weight));
        let Some(weight) = weight else { continue };
        people.push(Person {
            domain: weight.domain,
            author: vote.author,
            hour: vote.hour,
            language: vote.language,
            weight: weight.weight,
            posts: if wanted.is_none_or(|wanted| wanted == vote.language) { vote.posts } else { 0 },
            is_young: vote.is_young(),
        });
    }
    people.sort_unstable();
    // The same author twice: the first vote says the language, and what was ever said of their age counts.
    people.dedup_by(|next, kept| {
        let same = (next.domain, next.author) == (kept.domain, kept.author);
        if same {
            kept.is_young |= next.is_young;
            kept.posts = kept.posts.saturating_add(next.posts);
        }
        same
    });
    people.retain(|one| wanted.is_none_or(|wanted| wanted == one.language));
    people
}

/// The hour by which half of what is counted was there. Each server counts as in the reach, no more than the fourth of them,
/// and each of its people for their share: so nobody makes a thing older or younger alone.
fn middle(mut servers: Vec<(u64, &[Person])>) -> u32 {
    servers.sort_by_key(|one| std::cmp::Reverse(one.0));
    let cap = servers.get(super::score::MIN_SERVERS as usize - 1).or(servers.last()).map_or(0, |one| one.0);
    let mut hours: Vec<(u32, u64)> = Vec::new();
    for (adds, here) in servers {
        let grown = here.iter().filter(|one| !one.is_young).count().max(1) as u64;
        hours.extend(here.iter().filter(|one| !one.is_young).map(|one| (one.hour, adds.min(cap) / grown)));
    }
    hours.sort_unstable();
    let half = hours.iter().map(|(_, share)| share).sum::<u64>() / 2;
    let mut before = 0;
    let middle = hours.iter().find(|(_, share)| {
        before += share;
        before >= half
    });
    middle.map_or(0, |(hour, _)| *hour)
}

fn vote(ballot: &Ballot, choice: &Choice) -> Vote {
    Vote {
        author: ballot.author,
        hour: ballot.hour,
        server: ballot.place & !YOUNG | if ballot.young { YOUNG } else { 0 },
        posts: 1,
        language: languages::number(&ballot.language),
        spelling: Spellings::number(&choice.shown),
    }
}

fn add(thing: &mut Thing, ballot: &Ballot, choice: &Choice) {
    let vote = vote(ballot, choice);
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
    if !thing.spellings.knows(vote.spelling) {
        let mut spellings = std::mem::take(&mut thing.spellings);
        spellings.learn(vote.spelling, &choice.shown, |spelling| thing.speakers(spelling));
        thing.spellings = spellings;
    }
}

fn subtract(thing: &mut Thing, ballot: &Ballot, choice: &Choice) {
    let vote = vote(ballot, choice);
    if let Ok(place) = thing.votes.binary_search_by_key(&vote.order(), Vote::order)
        && let Some(known) = thing.votes.get_mut(place)
    {
        known.posts -= 1;
        if known.posts == 0 {
            thing.votes.remove(place);
            if !thing.is_spelled(vote.spelling) {
                thing.spellings.forget(vote.spelling);
            }
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
                    votes.spelling(target, ALL, &servers(9), NOON).map(str::to_owned),
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
    fn who_speaks_several_languages_counts_in_that_of_the_first_vote() {
        let mut votes = Votes::default();
        // The first one spoke German first, then English; the second English alone.
        for (author, hours, language) in [(1, 3, "de"), (1, 0, "en"), (1, 0, "fr"), (2, 0, "en"), (3, 0, "made-up")] {
            cast(&mut votes, &ballot(author, 1, HOUR - hours, language, &["cats"]));
        }
        let people = |language| count(&votes, "cats", Some(language)).measure.people;
        assert_eq!(["de", "en", "fr", "und"].map(people), [1, 1, 0, 1]);
        assert_eq!(count(&votes, "cats", Some("de")).uses, 1);
        assert_eq!(votes.languages_of(tag("cats").target(), ALL), ["und", "de", "en", "fr"]);
    }

    #[test]
    fn the_spelling_of_most_servers_is_shown_whoever_shouts_and_however_many_they_are() {
        let mut votes = Votes::default();
        let name = |votes: &Votes, servers: &Servers| {
            votes.spelling(tag("blackcats").target(), ALL, servers, NOON).map(str::to_owned)
        };
        for (author, place, spelling) in [(1, 1, "BlackCats"), (2, 2, "BlackCats"), (3, 3, "blackcats")] {
            cast(&mut votes, &ballot(author, place, HOUR, "en", &[spelling]));
        }
        for author in 100..300 {
            cast(&mut votes, &ballot(author, 4, HOUR, "en", &["BLACKCATS"]));
        }
        assert_eq!(name(&votes, &servers(9)).as_deref(), Some("BlackCats"));
        // Names that are new have no say, by however many of them something is said.
        let mut servers = servers(4);
        for number in 5..9 {
            let place = Place { number, since: NOON, seen_on: 0 };
            servers.learn(&Authority::parse(&format!("new{number}.example")).unwrap(), &place, false);
            cast(&mut votes, &ballot(u64::from(number), number, HOUR, "en", &["BlAcKcAtS"]));
        }
        assert_eq!(name(&votes, &servers).as_deref(), Some("BlackCats"));
        // One account takes no more than a few places for its spellings, and gives way to what is common.
        for case in 0..200_u32 {
            let text: String = "blackcats"
                .chars()
                .enumerate()
                .map(|(at, c)| if case >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .collect();
            cast(&mut votes, &ballot(400, 1, HOUR - 1, "en", &[&text]));
        }
        for (author, place) in [(501, 1), (502, 2), (503, 3)] {
            cast(&mut votes, &ballot(author, place, HOUR, "en", &["BlackcatS"]));
        }
        assert_eq!(name(&votes, &servers).as_deref(), Some("BlackcatS"));
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
        assert_eq!((count.measure.people, count.with_young.people, count.young, count.weightless), (1, 3, 2, 1));
        assert_eq!((count.servers, count.servers_with_young), (vec![(1, 1000)], vec![(2, 1000), (1, 1000)]));
    }

    #[test]
    fn a_link_is_as_old_as_what_is_counted_of_it_whoever_was_first() {
        let (mut votes, mut servers) = (Votes::default(), servers(9));
        let place = Place { number: 20, since: NOON, seen_on: 0 };
        servers.learn(&Authority::parse("new.example").unwrap(), &place, false);
        let link = Choice { subject: Subject::Link, key: "https://news.example/".to_owned(), shown: String::new() };
        let mut say = |author: u64, place: u32, hours: u32| {
            let ballot = Ballot { choices: vec![link.clone()], ..ballot(author, place, HOUR - hours, "en", &[]) };
            cast(&mut votes, &ballot);
        };
        // Early: one that weighs nothing, and five hundred on one server.
        say(1, 20, 20);
        (100..600).for_each(|author| say(author, 1, 19));
        (2..8).for_each(|place| say(u64::from(place), place, 2));
        let count = votes.count(link.target(), ALL, None, &servers, NOON);
        assert_eq!((count.measure.servers, count.middle), (7, HOUR - 2));
    }

    #[test]
    fn all_that_speak_of_what_others_speak_of_weigh_together() {
        let mut votes = Votes::default();
        for (author, place, hours, language, key) in [
            (1, 1, 0, "en", "cats"),
            (2, 2, 0, "de", "cats"),
            (3, 3, 40, "en", "cats"),
            (4, 4, 0, "en", "alone"),
            (5, 4, 0, "en", "alone"),
        ] {
            cast(&mut votes, &ballot(author, place, HOUR - hours, language, &[key]));
        }
        let six = Span { from: HOUR - 6, to: HOUR };
        let of = |span, language| votes.speaking(span, language, &servers(9), NOON);
        assert_eq!([of(ALL, None), of(six, None), of(six, Some("de")), of(six, Some("eu"))], [3000, 2000, 1000, 0]);
    }

    #[test]
    fn there_is_a_hard_bound_and_what_few_servers_speak_of_goes_first() {
        let (mut votes, mut servers) = (Votes::default(), servers(9));
        let place = Place { number: 20, since: NOON, seen_on: 0 };
        servers.learn(&Authority::parse("new.example").unwrap(), &place, false);
        for author in 0..10 {
            cast(&mut votes, &ballot(author, u32::try_from(author % 5).unwrap() + 1, HOUR, "en", &["cats"]));
        }
        // Accounts of a name that weighs nothing, each with very many votes.
        for author in 100..140 {
            for hours in 0..40 {
                let tags: Vec<String> = (0..5).map(|number| format!("Filler{author}x{number}")).collect();
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                cast(&mut votes, &ballot(author, 20, HOUR - hours, "en", &tags));
            }
        }
        for number in 0..1000 {
            cast(&mut votes, &ballot(number, 1, HOUR, "en", &[&format!("tag{number}")]));
        }
        let most = votes.bytes() / 2;
        let gone = votes.make_room(most, &servers, NOON);
        assert!(gone >= 100, "{gone}");
        assert!(votes.bytes() <= most && votes.counts(tag("cats").target()));
        let filler =
            |votes: &Votes| votes.targets().filter(|(it, _)| votes.key(*it).unwrap().1.starts_with("filler")).count();
        let kept = votes.targets().filter(|(it, _)| votes.key(*it).unwrap().1.starts_with("tag")).count();
        assert!(filler(&votes) < 200 && kept == 1000, "{} and {kept}", filler(&votes));
        assert_eq!(votes.make_room(most, &servers, NOON), 0);
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

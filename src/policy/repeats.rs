//! Who said the same lately: for each text's fingerprint the authors of the last hour. In memory only: what a restart
//! forgets is known again after a few copies.
//!
//! Promise: never more than `2 * MOST` pairs of text and author. Beyond it the older half goes: a flood of different texts
//! shortens the memory and does not lengthen it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::Iri;

/// How long a text is remembered.
const WINDOW: Duration = Duration::from_secs(3600);
/// Pairs of text and author in each half.
const MOST: usize = 50_000;
/// Authors of one text that are told apart; more are as many.
pub const MOST_AUTHORS: usize = 1000;

/// Authors of one foreign domain that count: whoever runs a server can make up any number of them, and would have other
/// people's texts held.
const MOST_OF_A_DOMAIN: usize = 2;

type Half = HashMap<u128, Vec<Said>>;

/// One author of a text.
#[derive(Debug, Clone, Copy)]
struct Said {
    author: u64,
    /// The registrable domain of its server.
    domain: u64,
    at: Timestamp,
}

/// The memory.
#[derive(Debug, Default)]
pub struct Repeats {
    young: Half,
    old: Half,
    pairs: usize,
    turned: Timestamp,
    hasher: RandomState,
}

impl Repeats {
    /// Notes that `author` says the text with this fingerprint; how many different authors said it within the hour, this
    /// one included: all of its own domain, and of each other domain two at most.
    pub fn note(&mut self, fingerprint: u128, author: &Iri, now: Timestamp) -> usize {
        if self.pairs >= MOST || now.since(self.turned) >= WINDOW || now < self.turned {
            // What is in the old half was last said before the last turn: an hour ago, or too much has come since.
            self.old = std::mem::take(&mut self.young);
            (self.pairs, self.turned) = (0, now);
        }
        let hash = self.hasher.hash_one(author.as_str());
        let domain = self.hasher.hash_one(author.authority().registrable());
        let carried = self.old.remove(&fingerprint).unwrap_or_default();
        let authors = self.young.entry(fingerprint).or_default();
        let before = authors.len();
        authors.extend(carried);
        authors.retain(|said| now.since(said.at) < WINDOW);
        if let Some(known) = authors.iter_mut().find(|said| said.author == hash) {
            known.at = now;
        } else if authors.len() < MOST_AUTHORS {
            authors.push(Said { author: hash, domain, at: now });
        }
        self.pairs = (self.pairs + authors.len()).saturating_sub(before);
        let mut domains: HashMap<u64, usize> = HashMap::new();
        authors.iter().for_each(|said| *domains.entry(said.domain).or_default() += 1);
        let counted = |(of, count): (u64, usize)| if of == domain { count } else { count.min(MOST_OF_A_DOMAIN) };
        domains.into_iter().map(counted).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn author(number: usize) -> Iri {
        Iri::parse(&format!("https://a.example/users/{number}")).unwrap()
    }

    #[test]
    fn different_authors_within_an_hour_are_counted() {
        let mut repeats = Repeats::default();
        let start = Timestamp::from_secs(1_787_486_400);
        let at = |minutes: u64| start.plus(Duration::from_secs(60 * minutes));
        assert_eq!(repeats.note(1, &author(1), at(0)), 1);
        assert_eq!(repeats.note(1, &author(1), at(1)), 1, "one who repeats himself is one");
        assert_eq!(repeats.note(1, &author(2), at(30)), 2);
        assert_eq!(repeats.note(2, &author(3), at(31)), 1, "another text");
        assert_eq!(repeats.note(1, &author(3), at(60)), 3, "the first spoke again a minute later");
        assert_eq!(repeats.note(1, &author(4), at(61)), 3);
        assert_eq!(repeats.note(1, &author(5), at(95)), 3);
        assert_eq!(repeats.note(1, &author(1), at(500)), 1);
    }

    #[test]
    fn one_domain_cannot_have_other_peoples_texts_held() {
        let mut repeats = Repeats::default();
        let now = Timestamp::from_secs(1_787_486_400);
        let said = |server: &str, number: usize| Iri::parse(&format!("https://{server}/users/{number}")).unwrap();
        for number in 0..200 {
            let server = ["one.evil.example", "two.evil.example"][number % 2];
            assert_eq!(repeats.note(1, &said(server, number), now), number + 1, "for its own domain all count");
        }
        assert_eq!(repeats.note(1, &said("honest.example", 1), now), 3);
        assert_eq!(repeats.note(1, &said("other.example", 1), now), 4);
    }

    #[test]
    fn a_flood_of_texts_or_authors_is_bounded() {
        let mut repeats = Repeats::default();
        let now = Timestamp::from_secs(1_787_486_400);
        for number in 0..3 * MOST {
            repeats.note(number as u128, &author(1), now);
        }
        let pairs = |half: &Half| half.values().map(Vec::len).sum::<usize>();
        assert!(pairs(&repeats.young) + pairs(&repeats.old) <= 2 * MOST);
        for number in 0..2 * MOST_AUTHORS {
            assert!(repeats.note(u128::MAX, &author(number), now) <= MOST_AUTHORS);
        }
    }
}

//! The servers that ballots come from: which of them are one, since when each is known, and what each weighs at a moment.
//! Pure but for what it is told.
//!
//! Servers of one registrable domain are one, as old as the oldest of them: names below a domain are cheap. A server that
//! a rule of the operator keeps out weighs nothing while the rule stands, as if it had never been seen.

use std::collections::HashMap;

use super::score;
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::store::Place;

/// All of them.
#[derive(Default)]
pub struct Servers {
    places: HashMap<u32, Server>,
    domains: HashMap<String, u32>,
    since: Vec<Timestamp>,
    vouched: Vec<bool>,
    /// Domains whose servers the operator says are old.
    grown: Vec<String>,
}

struct Server {
    authority: Authority,
    domain: u32,
    is_out: bool,
}

/// What a ballot of a server counts, and with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The number of the registrable domain.
    pub domain: u32,
    /// In thousandths.
    pub weight: u32,
}

impl Servers {
    /// None yet; those below these domains count in full from the first day.
    #[must_use]
    pub fn new(grown: &[String]) -> Self {
        Self { grown: grown.to_vec(), ..Self::default() }
    }

    /// Takes note of one.
    pub fn learn(&mut self, authority: &Authority, place: &Place, is_out: bool) {
        let domain = self.domain(authority);
        if let Some(since) = self.since.get_mut(domain as usize) {
            *since = (*since).min(place.since);
        }
        self.places.insert(place.number, Server { authority: authority.clone(), domain, is_out });
    }

    fn domain(&mut self, authority: &Authority) -> u32 {
        let name = authority.registrable();
        if let Some(known) = self.domains.get(name) {
            return *known;
        }
        let number = u32::try_from(self.since.len()).unwrap_or(u32::MAX);
        self.domains.insert(name.to_owned(), number);
        self.since.push(Timestamp::from_millis(i64::MAX));
        self.vouched.push(self.grown.iter().any(|domain| authority.is_within(domain)));
        number
    }

    /// Asks anew which of them a rule keeps out; the numbers of those that one does.
    pub fn rule(&mut self, is_out: impl Fn(&Authority) -> bool) -> Vec<u32> {
        let mut out = Vec::new();
        for (number, server) in &mut self.places {
            server.is_out = is_out(&server.authority);
            if server.is_out {
                out.push(*number);
            }
        }
        out
    }

    /// Whether it is known.
    #[must_use]
    pub fn knows(&self, place: u32) -> bool {
        self.places.contains_key(&place)
    }

    /// The number of its registrable domain.
    #[must_use]
    pub fn domain_of(&self, place: u32) -> Option<u32> {
        self.places.get(&place).map(|server| server.domain)
    }

    /// What a ballot from there weighs at this moment; `None`: as if it had never been seen.
    #[must_use]
    pub fn weigh(&self, place: u32, now: Timestamp) -> Option<Weight> {
        let server = self.places.get(&place).filter(|server| !server.is_out)?;
        let domain = server.domain as usize;
        if self.vouched.get(domain).copied().unwrap_or_default() {
            return Some(Weight { domain: server.domain, weight: score::FULL });
        }
        let since = self.since.get(domain).copied().unwrap_or(now);
        let hours = u32::try_from(now.since(since).as_secs() / 3600).unwrap_or(u32::MAX);
        Some(Weight { domain: server.domain, weight: score::weight(hours) })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    #[test]
    fn names_below_one_domain_are_one_server_and_it_weighs_by_its_age() {
        let mut servers = Servers::new(&["vouched.example".to_owned()]);
        let mut number = 0;
        let mut learn = |servers: &mut Servers, name: &str, age: u64| {
            number += 1;
            let place = Place { number, since: NOON.minus(days(age)), seen_on: 0 };
            servers.learn(&Authority::parse(name).unwrap(), &place, false);
            number
        };
        let (old, below) = (learn(&mut servers, "a.example", 40), learn(&mut servers, "x.a.example", 1));
        let (new, middle) = (learn(&mut servers, "new.example", 1), learn(&mut servers, "b.example", 30));
        let vouched = learn(&mut servers, "x.vouched.example", 0);
        let (one, two) = (learn(&mut servers, "127.0.0.1:4001", 30), learn(&mut servers, "127.0.0.1:4002", 30));
        let weight = |place| servers.weigh(place, NOON).unwrap();
        assert_eq!(weight(old), weight(below));
        assert_eq!([old, new, middle, vouched].map(|place| weight(place).weight), [1000, 0, 1000, 1000]);
        assert_ne!(weight(one).domain, weight(two).domain, "an address counts with its port");
        assert_eq!(servers.weigh(999, NOON), None);
        let out = servers.rule(|name| name.is_within("x.a.example"));
        assert_eq!(out, [below]);
        assert!(servers.weigh(below, NOON).is_none() && servers.weigh(old, NOON).is_some());
        assert!(servers.rule(|_| false).is_empty() && servers.weigh(below, NOON).is_some());
    }
}

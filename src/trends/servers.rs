//! The servers that ballots come from: which of them are one, since when each is known, and what each weighs at a moment.
//! Pure but for what it is told.
//!
//! Servers of one domain are one, as old as the oldest of them: names below a domain are cheap. So are names that a service
//! gives away (`name.github.io`, the private part of the public suffix list): all below it are one, but for those that
//! the operator vouches for. A server that a rule of the operator keeps out weighs nothing while the rule stands, as if it
//! had never been seen. Whoever is known better counts with the larger weight, in whatever order servers were learned.

use std::collections::HashMap;

use super::score;
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::store::Place;

/// All of them.
#[derive(Default)]
pub struct Servers {
    places: HashMap<u32, Server>,
    numbers: HashMap<String, u32>,
    domains: Vec<Domain>,
    /// Domains whose servers the operator says are old.
    grown: Vec<String>,
}

struct Server {
    authority: Authority,
    domain: u32,
    since: Timestamp,
    is_vouched: bool,
    is_out: bool,
}

#[derive(Clone, Copy)]
struct Domain {
    since: Timestamp,
    is_vouched: bool,
}

impl Domain {
    const UNKNOWN: Self = Self { since: Timestamp::from_millis(i64::MAX), is_vouched: false };

    fn learn(&mut self, since: Timestamp, is_vouched: bool) {
        self.since = self.since.min(since);
        self.is_vouched |= is_vouched;
    }
}

/// What a ballot of a server counts, and with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// The number of the domain.
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

    /// Takes note of one, or of what is new about it.
    pub fn learn(&mut self, authority: &Authority, place: &Place, is_out: bool) {
        let is_vouched = self.grown.iter().any(|domain| authority.is_within(domain));
        let name = if is_vouched { authority.registrable() } else { party(authority) };
        let next = u32::try_from(self.domains.len()).unwrap_or(u32::MAX);
        let domain = *self.numbers.entry(name.to_owned()).or_insert(next);
        if domain == next {
            self.domains.push(Domain::UNKNOWN);
        }
        let server = Server { authority: authority.clone(), domain, since: place.since, is_vouched, is_out };
        let before = self.places.insert(place.number, server);
        if before.is_some_and(|before| before.since != place.since) {
            return self.weigh_anew();
        }
        if let Some(domain) = self.domains.get_mut(domain as usize) {
            domain.learn(place.since, is_vouched);
        }
    }

    /// Forgets some, by their numbers: nothing was seen of them for long.
    pub fn forget(&mut self, places: &[u32]) {
        places.iter().for_each(|place| drop(self.places.remove(place)));
        self.weigh_anew();
    }

    fn weigh_anew(&mut self) {
        self.domains.fill(Domain::UNKNOWN);
        for server in self.places.values() {
            if let Some(domain) = self.domains.get_mut(server.domain as usize) {
                domain.learn(server.since, server.is_vouched);
            }
        }
    }

    /// Asks anew which of them a rule keeps out; the numbers of those that one does, in order.
    pub fn rule(&mut self, is_out: impl Fn(&Authority) -> bool) -> Vec<u32> {
        let mut out = Vec::new();
        for (number, server) in &mut self.places {
            server.is_out = is_out(&server.authority);
            if server.is_out {
                out.push(*number);
            }
        }
        out.sort_unstable();
        out
    }

    /// Whether it is known.
    #[must_use]
    pub fn knows(&self, place: u32) -> bool {
        self.places.contains_key(&place)
    }

    /// The number of its domain.
    #[must_use]
    pub fn domain_of(&self, place: u32) -> Option<u32> {
        self.places.get(&place).map(|server| server.domain)
    }

    /// What a ballot from there weighs at this moment; `None`: as if it had never been seen.
    #[must_use]
    pub fn weigh(&self, place: u32, now: Timestamp) -> Option<Weight> {
        let server = self.places.get(&place).filter(|server| !server.is_out)?;
        let domain = self.domains.get(server.domain as usize).copied().unwrap_or(Domain::UNKNOWN);
        if domain.is_vouched {
            return Some(Weight { domain: server.domain, weight: score::FULL });
        }
        let hours = u32::try_from(now.since(domain.since).as_secs() / 3600).unwrap_or(u32::MAX);
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

/// Whose a name is, as far as anybody can see: the registrable domain, and of names that a service gives away the
/// service's own.
fn party(authority: &Authority) -> &str {
    let name = authority.registrable();
    let is_private =
        |name: &str| psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.typ() == Some(psl::Type::Private));
    let mut party = name;
    while is_private(party) {
        let Some((_, rest)) = party.split_once('.') else { break };
        // `github.io` is a private suffix, `io` none: the service is what stood before.
        if psl::domain(rest.as_bytes()).is_none() && !is_private(rest) {
            break;
        }
        party = rest;
    }
    party
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * 86_400)
    }

    fn place(number: u32, age: u64) -> Place {
        Place { number, since: NOON.minus(days(age)), seen_on: 0 }
    }

    fn name(name: &str) -> Authority {
        Authority::parse(name).unwrap()
    }

    #[test]
    fn names_below_one_domain_are_one_server_and_it_weighs_by_its_age() {
        let mut servers = Servers::new(&["vouched.example".to_owned()]);
        let mut number = 0;
        let mut learn = |servers: &mut Servers, host: &str, age: u64| {
            number += 1;
            servers.learn(&name(host), &place(number, age), false);
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
        // The old one is heard of no more: those below it are as old as they are.
        servers.forget(&[old]);
        assert_eq!((servers.weigh(old, NOON), servers.weigh(below, NOON).unwrap().weight), (None, 0));
        // And one that lapsed and came back begins anew.
        servers.learn(&name("b.example"), &place(middle, 0), false);
        assert_eq!(servers.weigh(middle, NOON).unwrap().weight, 0);
    }

    #[test]
    fn names_that_a_service_gives_away_are_one_server_but_for_those_that_are_vouched_for() {
        let mut servers = Servers::new(&["mine.github.io".to_owned()]);
        for (number, host) in (1_u32..).zip([
            "one.github.io",
            "two.github.io",
            "mine.github.io",
            "a.duckdns.org",
            "b.duckdns.org",
            "a.example.co.uk",
            "b.example.co.uk",
            "other.co.uk",
        ]) {
            servers.learn(&name(host), &place(number, 40), false);
        }
        let domain = |number: u32| servers.domain_of(number).unwrap();
        assert!(domain(1) == domain(2) && domain(4) == domain(5) && domain(6) == domain(7));
        assert!(domain(1) != domain(3) && domain(1) != domain(4) && domain(6) != domain(8));
    }

    #[test]
    fn in_whatever_order_servers_are_learned_they_weigh_the_same() {
        let hosts = [("x.a.example", 1, 1), ("old.a.example", 2, 20), ("vouched.b.example", 3, 0), ("b.example", 4, 1)];
        let weights = |order: &[usize]| {
            let mut servers = Servers::new(&["vouched.b.example".to_owned()]);
            for at in order {
                let (host, number, age) = hosts[*at];
                servers.learn(&name(host), &place(number, age), false);
            }
            [1, 2, 3, 4].map(|number| servers.weigh(number, NOON).unwrap().weight)
        };
        assert_eq!(weights(&[0, 1, 2, 3]), weights(&[3, 2, 1, 0]));
        assert_eq!(weights(&[3, 0, 2, 1])[3], 1000, "whoever is vouched for vouches for the name");
    }
}

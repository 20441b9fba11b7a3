//! How often somebody may search: token buckets that also say how full they are, so that a program can slow down before
//! it is told to. Addresses are kept nowhere else, and here only as a number, and only until their bucket is full again.
//!
//! Promise: memory is bounded however many ask, as in [`super::limits`].

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::limits::{CELLS, network};
use crate::ids::Authority;

/// A full bucket holds what comes in this part of a minute, and at least so much: a page loads several things at once.
const BURST_PART: u32 = 5;
const LEAST_BURST: NonZero<u32> = NonZero::new(10).unwrap();
/// Behind a server are many people.
const OF_A_SERVER: u32 = 10;

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Somebody at this address; of IPv6, in its /64: whoever has one address there has them all.
    Address(IpAddr),
    /// Who has the token with this public half.
    Token(String),
    /// A server that joined.
    Server(Authority),
}

/// How a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// How much it holds.
    pub limit: u32,
    /// How much is left.
    pub left: u32,
    /// In what time it is full again, if nobody takes from it.
    pub full_in: Duration,
}

/// It was one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How the bucket stands.
    pub turn: Turn,
    /// How long to wait.
    pub wait: Duration,
}

/// The buckets. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Option<Arc<Both<DefaultClock>>>);

struct Both<C: Clock> {
    people: Limiter<C>,
    servers: Limiter<C>,
    clock: C,
    hasher: RandomState,
}

type Limiter<C> = RateLimiter<u64, DashMapStateStore<u64>, C, StateInformationMiddleware>;

impl Turns {
    /// So many a minute, ten times that for a server; 0: no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self(Both::new(per_minute, &DefaultClock::default()).map(Arc::new))
    }

    /// Takes one turn. `None` where there is no limit.
    ///
    /// # Errors
    /// [`TooMany`]; then it counts for nothing.
    pub fn take(&self, asker: &Asker) -> Result<Option<Turn>, TooMany> {
        self.0.as_ref().map(|both| both.take(asker)).transpose()
    }
}

impl<C: Clock + Clone> Both<C> {
    fn new(per_minute: u32, clock: &C) -> Option<Self> {
        let limiter = |rate: NonZero<u32>| {
            let burst = NonZero::new(rate.get() / BURST_PART).unwrap_or(LEAST_BURST).max(LEAST_BURST);
            let quota = Quota::per_minute(rate).allow_burst(burst);
            RateLimiter::dashmap_with_clock(quota, clock.clone()).with_middleware::<StateInformationMiddleware>()
        };
        let rate = NonZero::new(per_minute)?;
        let of_server = rate.saturating_mul(NonZero::new(OF_A_SERVER).unwrap_or(NonZero::<u32>::MIN));
        let (people, servers) = (limiter(rate), limiter(of_server));
        Some(Self { people, servers, clock: clock.clone(), hasher: RandomState::new() })
    }

    fn take(&self, asker: &Asker) -> Result<Turn, TooMany> {
        let (limiter, hash) = match asker {
            Asker::Address(address) => (&self.people, self.hasher.hash_one(network(*address))),
            Asker::Token(id) => (&self.people, self.hasher.hash_one(("token", id))),
            Asker::Server(authority) => (&self.servers, self.hasher.hash_one(authority)),
        };
        match limiter.check_key(&(hash % CELLS)) {
            Ok(state) => Ok(turn(state.quota(), state.remaining_burst_capacity())),
            Err(until) => Err(TooMany { turn: turn(until.quota(), 0), wait: until.wait_time_from(self.clock.now()) }),
        }
    }
}

fn turn(quota: Quota, left: u32) -> Turn {
    let limit = quota.burst_size().get();
    let full_in = quota.replenish_interval().saturating_mul(limit.saturating_sub(left));
    Turn { limit, left, full_in }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn address(text: &str) -> Asker {
        Asker::Address(text.parse().unwrap())
    }

    #[test]
    fn a_bucket_says_how_full_it_is_until_it_is_empty_and_fills_again() {
        let clock = FakeRelativeClock::default();
        let both = Both::new(30, &clock).unwrap();
        let one = address("192.0.2.1");
        let left: Vec<u32> = (0..10).map(|_| both.take(&one).unwrap().left).collect();
        assert_eq!(left, (0..10).rev().collect::<Vec<_>>());
        let over = both.take(&one).unwrap_err();
        assert_eq!((over.turn.limit, over.turn.left, over.turn.full_in), (10, 0, Duration::from_secs(20)));
        assert!(over.wait > Duration::ZERO && over.wait <= Duration::from_secs(2), "{over:?}");
        clock.advance(over.wait);
        assert_eq!(both.take(&one).unwrap().left, 0);
        clock.advance(Duration::from_secs(60));
        assert_eq!(both.take(&one).unwrap().left, 9);
    }

    #[test]
    fn each_has_a_bucket_of_their_own_and_a_server_a_larger_one() {
        let both = Both::new(30, &FakeRelativeClock::default()).unwrap();
        let server = Asker::Server(Authority::parse("a.example").unwrap());
        for (asker, expected) in [
            (address("192.0.2.1"), 10),
            (address("192.0.2.2"), 10),
            (address("::ffff:192.0.2.2"), 0),
            (address("2001:db8::1"), 10),
            (address("2001:db8::ffff:1"), 0),
            (address("2001:db8:0:1::1"), 10),
            (Asker::Token("0".to_owned()), 10),
            (Asker::Token("1".to_owned()), 10),
            (server, 60),
        ] {
            let taken = (0..100).filter(|_| both.take(&asker).is_ok()).count();
            assert_eq!(taken, expected, "{asker:?}");
        }
    }

    #[test]
    fn a_rate_of_nought_is_no_limit() {
        let turns = Turns::new(0);
        assert!((0..1000).all(|_| turns.take(&address("192.0.2.1")) == Ok(None)));
    }
}

//! How often somebody may search: token buckets that also say how full they are, so that a program can slow down before
//! it is told to; and how much they may be shown in a day. Addresses are kept nowhere else, and here only as a number, and only until their bucket is full again.
//!
//! Promise: memory is bounded however many ask, as in [`super::limits`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
/// Posts and accounts that somebody may be shown in a day: a hundred full pages of the largest size. Higher, and one address
/// reads a whole small relay in a day.
pub const SHOWN_A_DAY: u32 = 4000;
/// So much more of a server that joined, and of a token: the operator knows whose they are.
const OF_WHO_IS_KNOWN: u32 = 10;
const DAY: Duration = Duration::from_secs(86_400);

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

/// How much each of them was shown today; a day begins with the process, and what was counted ends with it. Cheap to clone.
#[derive(Clone)]
pub struct Shown(Option<Arc<Today>>);

struct Today {
    begun: Instant,
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    day: u64,
    /// By whether it is somebody known, who may see more, and a hash of who it is.
    cells: HashMap<(bool, u64), u32>,
}

impl Shown {
    /// [`SHOWN_A_DAY`], or without a limit.
    #[must_use]
    pub fn new(limited: bool) -> Self {
        let today = || Today { begun: Instant::now(), hasher: RandomState::new(), counts: Mutex::default() };
        Self(limited.then(|| Arc::new(today())))
    }

    /// Counts so many posts and accounts that are about to be shown.
    ///
    /// # Errors
    /// How long until the day is over, if they are too many; then they count for nothing.
    pub fn take(&self, asker: &Asker, count: usize) -> Result<(), Duration> {
        self.0.as_ref().map_or(Ok(()), |today| today.take(asker, count, today.begun.elapsed()))
    }
}

impl Today {
    fn take(&self, asker: &Asker, count: usize, at: Duration) -> Result<(), Duration> {
        let (is_known, hash, most) = match asker {
            Asker::Address(address) => (false, self.hasher.hash_one(network(*address)), SHOWN_A_DAY),
            known => (true, self.hasher.hash_one(known), SHOWN_A_DAY * OF_WHO_IS_KNOWN),
        };
        let day = at.as_secs() / DAY.as_secs();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.day != day {
            *counts = Counts { day, cells: HashMap::new() };
        }
        let shown = counts.cells.entry((is_known, hash % CELLS)).or_default();
        let sum = u32::try_from(count).ok().and_then(|count| shown.checked_add(count)).filter(|sum| *sum <= most);
        let over = || DAY.saturating_sub(Duration::from_secs(at.as_secs() % DAY.as_secs()));
        *shown = sum.ok_or_else(over)?;
        Ok(())
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
    fn so_much_is_shown_in_a_day_and_no_more_and_ten_times_that_to_who_is_known() {
        let Shown(Some(today)) = Shown::new(true) else { panic!("limited") };
        let noon = DAY / 2;
        let (one, other) = (address("2001:db8::1"), address("2001:db8::2"));
        assert_eq!(today.take(&one, 3990, noon), Ok(()));
        assert_eq!(today.take(&other, 20, noon), Err(noon), "whoever has one address of a network has them all");
        assert_eq!(today.take(&other, 10, noon), Ok(()), "what was refused counts for nothing");
        assert_eq!(today.take(&one, 1, noon), Err(noon));
        assert_eq!(today.take(&address("192.0.2.1"), 4000, noon), Ok(()), "another's day");
        for known in [Asker::Token("1".to_owned()), Asker::Server(Authority::parse("a.example").unwrap())] {
            assert_eq!(today.take(&known, 40_000, noon), Ok(()));
            assert_eq!(today.take(&known, 1, noon), Err(noon));
        }
        assert_eq!(today.take(&one, 4000, DAY), Ok(()), "the next day");
        assert!(today.take(&one, usize::MAX, DAY).is_err());
        assert!((0..100).all(|_| Shown::new(false).take(&one, 4000).is_ok()));
    }

    #[test]
    fn a_rate_of_nought_is_no_limit() {
        let turns = Turns::new(0);
        assert!((0..1000).all(|_| turns.take(&address("192.0.2.1")) == Ok(None)));
    }
}

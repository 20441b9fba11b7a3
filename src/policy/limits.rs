//! How many requests one server, and one person on it, may send: token buckets, asked after the signature was verified,
//! so that nobody is limited for what others sign in their name. Before that there is only the address that a request came
//! from: it may make us look for keys in vain so often. What a refused request is answered is the
//! caller's.
//!
//! Promise: memory is bounded however many senders there are. Senders share `CELLS` buckets by a hash that nobody can
//! foresee; two who meet in one share its rate, which matters only if both send at full speed.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config;
use crate::ids::{Authority, Iri};

/// Buckets of each kind: about two megabytes if all are in use. With a thousand busy senders, one in a hundred shares.
pub(super) const CELLS: u64 = 1 << 17;

/// A full bucket holds what comes in this part of a minute: twelve seconds' worth at once. A server that was cut off
/// brings its backlog faster than its news.
const BURST_PART: u32 = 5;
/// However low the rate, so many at once: a post, its edit and its picture come together.
const LEAST_BURST: NonZero<u32> = NonZero::new(10).unwrap();

/// Both limits. In real time that never goes back: the wall clock may be set. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Pair<DefaultClock>>);

struct Pair<C: Clock> {
    servers: Option<Buckets<C>>,
    actors: Option<Buckets<C>>,
}

struct Buckets<C: Clock> {
    limiter: RateLimiter<u64, DashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    hasher: RandomState,
}

impl Limits {
    /// The limits of the config: `policy.server_rate` and `policy.actor_rate`.
    #[must_use]
    pub fn new(policy: &config::Policy) -> Self {
        Self(Arc::new(Pair::new(policy, &DefaultClock::default())))
    }

    /// Counts one verified request of `server`, signed by `actor`. `None` for an actor that speaks for its whole server
    /// (it joined for it, or is a relay that we follow): then only the server's limit counts.
    ///
    /// # Errors
    /// How long to wait when it is one too many; then it counts for nobody else's limit.
    pub fn check(&self, server: &Authority, actor: Option<&Iri>) -> Result<(), Duration> {
        self.0.check(server, actor)
    }
}

/// Whom an address stands for where addresses are counted: itself, or of IPv6 its /64, because whoever has one address
/// there has them all.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// How often a request of one address may make us look for something in vain in a minute. What is not in vain counts for
/// nothing, so a busy server has no limit here. Memory is bounded like that of the others. Cheap to clone.
#[derive(Clone)]
pub struct VainLimit(Arc<Vain>);

struct Vain {
    most: u32,
    hasher: RandomState,
    begun: Instant,
    counts: Mutex<Counts>,
}

/// The tries of this minute, those under way included.
#[derive(Default)]
struct Counts {
    minute: u64,
    cells: HashMap<u64, u32>,
}

/// One try; in vain unless it is said that it was not.
#[must_use]
pub struct Try {
    limit: VainLimit,
    minute: u64,
    cell: u64,
}

impl VainLimit {
    /// So many a minute.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let counts = Mutex::default();
        Self(Arc::new(Vain { most, hasher: RandomState::new(), begun: Instant::now(), counts }))
    }

    /// Begins a try for `address`, of IPv6 for its [`network`].
    ///
    /// # Errors
    /// How long to wait when it was in vain too often.
    pub fn begin(&self, address: IpAddr) -> Result<Try, Duration> {
        self.begin_at(address, self.0.begun.elapsed())
    }

    fn begin_at(&self, address: IpAddr, at: Duration) -> Result<Try, Duration> {
        let (minute, cell) = (at.as_secs() / 60, self.0.hasher.hash_one(network(address)) % CELLS);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.minute != minute {
            *counts = Counts { minute, cells: HashMap::new() };
        }
        let count = counts.cells.entry(cell).or_default();
        if *count >= self.0.most {
            return Err(Duration::from_secs((minute + 1) * 60).saturating_sub(at));
        }
        *count += 1;
        Ok(Try { limit: self.clone(), minute, cell })
    }
}

impl Try {
    /// It found what it looked for, or it was not the asker's fault that it did not: it counts no longer.
    pub fn was_worth_it(self) {
        let mut counts = self.limit.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.minute == self.minute
            && let Some(count) = counts.cells.get_mut(&self.cell)
        {
            *count = count.saturating_sub(1);
        }
    }
}

impl<C: Clock + Clone> Pair<C> {
    fn new(policy: &config::Policy, clock: &C) -> Self {
        Self { servers: Buckets::new(policy.server_rate, clock), actors: Buckets::new(policy.actor_rate, clock) }
    }

    /// The actor first: one who is over the limit uses up nothing of the neighbours' share.
    fn check(&self, server: &Authority, actor: Option<&Iri>) -> Result<(), Duration> {
        if let (Some(actors), Some(actor)) = (&self.actors, actor) {
            actors.take(actor)?;
        }
        self.servers.as_ref().map_or(Ok(()), |servers| servers.take(server))
    }
}

impl<C: Clock + Clone> Buckets<C> {
    /// `None` for a rate of 0: no limit.
    fn new(per_minute: u32, clock: &C) -> Option<Self> {
        let rate = NonZero::new(per_minute)?;
        let burst = NonZero::new(per_minute / BURST_PART).unwrap_or(LEAST_BURST).max(LEAST_BURST);
        let quota = Quota::per_minute(rate).allow_burst(burst);
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone());
        Some(Self { limiter, clock: clock.clone(), hasher: RandomState::new() })
    }

    fn take(&self, sender: impl Hash) -> Result<(), Duration> {
        let cell = self.hasher.hash_one(sender) % CELLS;
        self.limiter.check_key(&cell).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits(server_rate: u32, actor_rate: u32) -> (Pair<FakeRelativeClock>, FakeRelativeClock) {
        let (mut config, clock) = (config::Config::embedded(), FakeRelativeClock::default());
        (config.policy.server_rate, config.policy.actor_rate) = (server_rate, actor_rate);
        (Pair::new(&config.policy, &clock), clock)
    }

    fn actor(server: &str, name: &str) -> Iri {
        Iri::parse(&format!("https://{server}/users/{name}")).unwrap()
    }

    /// How many of 5,000 requests at once pass.
    fn passes(limits: &Pair<FakeRelativeClock>, sender: Option<&Iri>, server: &Authority) -> usize {
        (0..5000).filter(|_| limits.check(server, sender).is_ok()).count()
    }

    #[test]
    fn an_actor_over_the_limit_waits_and_its_neighbours_do_not() {
        let (limits, clock) = limits(3000, 300);
        let (ada, grace) = (actor("a.example", "ada"), actor("a.example", "grace"));
        let server = ada.authority();
        assert_eq!(passes(&limits, Some(&ada), &server), 60);
        let wait = limits.check(&server, Some(&ada)).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(200), "{wait:?}");
        assert_eq!(passes(&limits, Some(&grace), &server), 60, "refused requests use up nothing of the server's share");
        clock.advance(wait);
        assert_eq!(limits.check(&server, Some(&ada)), Ok(()));
        clock.advance(Duration::from_secs(60));
        assert_eq!(passes(&limits, Some(&ada), &server), 60);
    }

    #[test]
    fn a_server_over_the_limit_waits_whoever_signs_and_other_servers_do_not() {
        let (limits, clock) = limits(3000, 300);
        let server = Authority::parse("a.example").unwrap();
        assert_eq!(passes(&limits, None, &server), 600);
        assert!(limits.check(&server, Some(&actor("a.example", "ada"))).is_err());
        assert_eq!(passes(&limits, None, &Authority::parse("b.example").unwrap()), 600);
        clock.advance(Duration::from_secs(1));
        assert_eq!(passes(&limits, None, &server), 50);
    }

    #[test]
    fn a_rate_of_nought_is_no_limit_and_a_low_one_still_takes_a_few_at_once() {
        let (limits, _clock) = limits(0, 1);
        let ada = actor("a.example", "ada");
        assert_eq!(passes(&limits, None, &ada.authority()), 5000);
        assert_eq!(passes(&limits, Some(&ada), &ada.authority()), 10);
    }

    #[test]
    fn memory_is_bounded_however_many_senders_there_are() {
        let (limits, _clock) = limits(3000, 0);
        for number in 0..2 * CELLS {
            let _ = limits.check(&Authority::parse(&format!("s{number}.example")).unwrap(), None);
        }
        let kept = limits.servers.unwrap().limiter.len() as u64;
        assert!(kept > CELLS / 2 && kept <= CELLS, "{kept}");
    }

    #[test]
    fn an_address_of_ipv6_stands_for_its_64() {
        let check = |address: &str, expected: &str| {
            assert_eq!(network(address.parse().unwrap()).to_string(), expected, "{address}");
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::");
        check("2001:db8:1:3::1", "2001:db8:1:3::");
    }

    #[test]
    fn what_was_in_vain_counts_for_a_minute_and_what_was_not_counts_for_nothing() {
        let limit = VainLimit::new(3);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|address| address.parse::<IpAddr>().unwrap());
        let at = Duration::from_secs;
        for _ in 0..1000 {
            limit.begin_at(one, at(5)).unwrap().was_worth_it();
        }
        let under_way: Vec<Try> = [one, same, one].map(|who| limit.begin_at(who, at(10)).unwrap()).into();
        assert_eq!(limit.begin_at(same, at(20)).err(), Some(at(40)), "those under way count");
        assert!(limit.begin_at(other, at(20)).is_ok());
        drop(under_way);
        assert!(limit.begin_at(one, at(59)).is_err(), "they were in vain");
        let late = limit.begin_at(other, at(59)).unwrap();
        let next: Vec<Try> = [one, same, one].map(|who| limit.begin_at(who, at(60)).unwrap()).into();
        late.was_worth_it();
        assert!(limit.begin_at(one, at(61)).is_err() && next.len() == 3, "a try of the last minute gives nothing back");
    }
}

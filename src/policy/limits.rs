//! How many requests one server, and one person on it, may send: token buckets, asked after the signature was verified,
//! so that nobody is limited for what others sign in their name. What a refused request is answered is the inbox's.
//!
//! Promise: memory is bounded however many senders there are. Senders share `CELLS` buckets by a hash that nobody can
//! foresee; two who meet in one share its rate, which matters only if both send at full speed.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

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
}

//! Per host: how many fetches may be under way, how often others may lead us to it, and the breaker that gives a server which does not answer a rest. Decides
//! only whether a fetch may start; `signed` does the fetching. Deliveries have lanes and breakers of their own.
//!
//! Promises: however many hosts strangers name, the memory kept is bounded; a host forgotten too early merely starts with
//! a clean slate; nobody who has many hosts, joined or not, holds more than a quarter of the places.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, Timestamp};
use crate::ids::Authority;

/// Hosts remembered at once, and for how long after the last fetch: longer than the longest rest.
const HOSTS: u64 = 20_000;
const HOST_IDLE: Duration = Duration::from_secs(30 * 60);

/// Network failures in a row after which a host gets a rest.
const FAILURES: u32 = 5;

/// The first rest, which doubles up to the longest while failures go on.
const FIRST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(10 * 60);

/// Domains whose fetches are counted. One forgotten too early has its share twice.
const DOMAINS: u64 = HOSTS;

/// What the hosts of one registrable domain may hold of all places: one in so many.
const SHARE: usize = 4;

/// Fetches that may wait for one host's turn. More means somebody uses us against it, or it is very slow.
const WAITING_PER_HOST: usize = 64;

/// Redirects from other hosts that are followed to one host, per second: a host that somebody else points us at has not
/// asked for our visits.
const LED_PER_SECOND: NonZero<u32> = NonZero::new(10).unwrap();

/// All hosts. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    hosts: Cache<Authority, Arc<Host>>,
    /// What each registrable domain may hold of `all`.
    domains: Cache<String, Arc<Semaphore>>,
    all: Arc<Semaphore>,
    /// What fetches for strangers may hold of `all`.
    strangers: Arc<Semaphore>,
    per_host: usize,
    per_domain: usize,
    clock: Clock,
}

#[derive(Debug)]
struct Host {
    slots: Arc<Semaphore>,
    waiting: Semaphore,
    led: DefaultDirectRateLimiter,
    breaker: Mutex<Breaker>,
}

/// The right to have one fetch under way; gives its places back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    host: Arc<Host>,
    clock: Clock,
    _places: (OwnedSemaphorePermit, OwnedSemaphorePermit, Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
}

impl Turn {
    /// Says how it went: `false` is a network failure that is the host's own, `true` any answer at all.
    pub(super) fn went(&self, well: bool) {
        let mut breaker = self.host.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        *breaker = if well { Breaker::default() } else { breaker.after_failure(self.clock.now()) };
    }
}

impl Hosts {
    /// At most `in_flight` fetches in all, half of them for strangers, a quarter to one registrable domain, and `per_host`
    /// to one host.
    pub(super) fn new(in_flight: usize, per_host: usize, clock: Clock) -> Self {
        let hosts =
            Cache::builder().max_capacity(HOSTS).eviction_policy(EvictionPolicy::lru()).time_to_idle(HOST_IDLE).build();
        let domains = Cache::builder()
            .max_capacity(DOMAINS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(HOST_IDLE)
            .build();
        let most = in_flight.min(Semaphore::MAX_PERMITS);
        let places = |count: usize| Arc::new(Semaphore::new(count));
        let (all, strangers) = (places(most), places((most / 2).max(1)));
        let (per_host, per_domain) = (per_host.min(Semaphore::MAX_PERMITS), (most / SHARE).max(1));
        Self { hosts, domains, all, strangers, per_host, per_domain, clock }
    }

    /// Waits for a turn at this host, among strangers or not. Cancel-safe; the caller sets the deadline.
    ///
    /// # Errors
    /// One word: the host has a rest, or too many wait for it already.
    pub(super) async fn turn(&self, authority: &Authority, stranger: bool) -> Result<Turn, &'static str> {
        let host = self.host(authority).await;
        host.awake(self.clock.now())?;
        // The host's own place first, then its domain's: whoever waits for who is slow must not hold one of the places for all.
        let waiting = host.waiting.try_acquire().map_err(|_full| "busy")?;
        let own = host.slots.clone().acquire_owned().await.map_err(|_closed| "busy")?;
        drop(waiting);
        let domain = self.domain(authority).await.acquire_owned().await.map_err(|_closed| "busy")?;
        let strange =
            if stranger { Some(self.strangers.clone().acquire_owned().await.map_err(|_closed| "busy")?) } else { None };
        let shared = self.all.clone().acquire_owned().await.map_err(|_closed| "busy")?;
        // Those before us in the queue may have found out meanwhile.
        host.awake(self.clock.now())?;
        Ok(Turn { host, clock: self.clock.clone(), _places: (own, domain, strange, shared) })
    }

    /// Charges this host's budget for a redirect from another host.
    ///
    /// # Errors
    /// One word: it is used up.
    pub(super) async fn led_to(&self, authority: &Authority) -> Result<(), &'static str> {
        self.host(authority).await.led.check().map_err(|_used_up| "busy")
    }

    async fn host(&self, authority: &Authority) -> Arc<Host> {
        self.hosts.get_with_by_ref(authority, async { Arc::new(Host::new(self.per_host)) }).await
    }

    async fn domain(&self, authority: &Authority) -> Arc<Semaphore> {
        let places = async { Arc::new(Semaphore::new(self.per_domain)) };
        self.domains.get_with_by_ref(authority.registrable(), places).await
    }
}

impl Host {
    fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            waiting: Semaphore::new(WAITING_PER_HOST),
            led: DefaultDirectRateLimiter::direct(Quota::per_second(LED_PER_SECOND)),
            breaker: Mutex::new(Breaker::default()),
        }
    }

    fn awake(&self, now: Timestamp) -> Result<(), &'static str> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if breaker.rests(now) { Err("resting") } else { Ok(()) }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Breaker {
    failures: u32,
    rest_until: Timestamp,
    rest: Duration,
}

impl Breaker {
    fn rests(self, now: Timestamp) -> bool {
        now < self.rest_until
    }

    /// The failures of fetches that began before the rest did count once.
    fn after_failure(self, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        if failures < FAILURES || self.rests(now) {
            return Self { failures, ..self };
        }
        let rest = if self.rest.is_zero() { FIRST_REST } else { self.rest.saturating_mul(2).min(LONGEST_REST) };
        Self { failures, rest_until: now.plus(rest), rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_earn_a_rest_that_doubles() {
        let start = Timestamp::from_secs(1000);
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker = breaker.after_failure(start);
            assert!(!breaker.rests(start));
        }
        let mut now = start;
        for seconds in [60, 120, 240, 480, 600, 600] {
            breaker = breaker.after_failure(now).after_failure(now);
            assert!(breaker.rests(now.plus(Duration::from_millis(seconds * 1000 - 1))), "{seconds}");
            now = now.plus(Duration::from_secs(seconds));
            assert!(!breaker.rests(now), "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_host_takes_its_own_places_only_and_success_wipes_the_slate() {
        let clock = Clock::manual(Timestamp::from_secs(1000));
        let hosts = Hosts::new(8, 2, clock.clone());
        let (slow, other) = (Authority::parse("slow.example").unwrap(), Authority::parse("other.example").unwrap());
        let held = (hosts.turn(&slow, false).await.unwrap(), hosts.turn(&slow, false).await.unwrap());
        let third = tokio::time::timeout(Duration::from_millis(20), hosts.turn(&slow, false)).await;
        assert!(third.is_err(), "the third waits");
        let turn = hosts.turn(&other, false).await.unwrap();
        for _ in 0..4 {
            turn.went(false);
        }
        turn.went(true);
        turn.went(false);
        assert!(hosts.turn(&other, false).await.is_ok());
        drop(held);
        let turn = hosts.turn(&slow, false).await.unwrap();
        for _ in 0..5 {
            turn.went(false);
        }
        assert_eq!(hosts.turn(&slow, false).await.unwrap_err(), "resting");
        clock.advance(Duration::from_secs(60));
        assert!(hosts.turn(&slow, false).await.is_ok());
    }

    #[tokio::test]
    async fn strangers_take_half_of_the_places_at_most() {
        let hosts = Hosts::new(4, 4, Clock::manual(Timestamp::from_secs(1000)));
        let host = |name: &str| Authority::parse(name).unwrap();
        let _slow =
            (hosts.turn(&host("a.example"), true).await.unwrap(), hosts.turn(&host("b.example"), true).await.unwrap());
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, hosts.turn(&host("c.example"), true)).await.is_err(), "the third waits");
        let friend = tokio::time::timeout(soon, hosts.turn(&host("d.example"), false)).await;
        assert!(friend.is_ok_and(|turn| turn.is_ok()), "who is no stranger does not");
    }

    #[tokio::test]
    async fn the_hosts_of_one_domain_hold_a_quarter_of_the_places_at_most() {
        let hosts = Hosts::new(16, 4, Clock::manual(Timestamp::from_secs(1000)));
        let host = |name: &str| Authority::parse(name).unwrap();
        let mut held = Vec::new();
        for number in 0..4 {
            held.push(hosts.turn(&host(&format!("h{number}.evil.example")), number % 2 == 0).await.unwrap());
        }
        let soon = Duration::from_millis(20);
        for joined in ["h9.evil.example", "evil.example:8443"] {
            assert!(tokio::time::timeout(soon, hosts.turn(&host(joined), false)).await.is_err(), "{joined} waits");
        }
        for number in 0..12 {
            let good = host(&format!("good{number}.example"));
            let turn = tokio::time::timeout(soon, hosts.turn(&good, false)).await;
            held.push(turn.expect("others do not").unwrap());
        }
        held.clear();
        assert!(hosts.turn(&host("h9.evil.example"), false).await.is_ok());
    }
}

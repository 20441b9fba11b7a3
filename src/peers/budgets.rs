//! How often strangers can make us ask a host for keys: token buckets per host, in real time. Without them each bogus
//! `keyId` would be a request at a host of the attacker's choice (Fedify CVE-2026-34148).
//!
//! And who may wait for a key that we do not know. Such requests are unsigned as yet, and each holds a connection and
//! memory until another server has answered; without places of their own, one slow server would hold up the inbox for all.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::ids::Authority;

/// Keys not seen before, per host and second. A busy server's users come by ones and twos; the rest comes again.
const NEW_KEYS_PER_SECOND: NonZero<u32> = NonZero::new(10).unwrap();

/// The same for all hosts of one registrable domain: names below it cost nothing, and may all lead to one victim.
const NEW_KEYS_PER_DOMAIN_AND_SECOND: NonZero<u32> = NonZero::new(30).unwrap();

/// Second looks at known keys, per host and minute. Servers do not rotate keys by the dozen.
const REREADS_PER_MINUTE: NonZero<u32> = NonZero::new(30).unwrap();

/// Hosts remembered, and for how long after the last look: longer than any bucket takes to fill.
const HOSTS: u64 = 20_000;
const HOST_IDLE: Duration = Duration::from_secs(2 * 60);

/// Requests that may wait in all, and of these for keys of authorities that are not familiar.
const WAITING: usize = 128;
const WAITING_STRANGERS: usize = WAITING / 2;

/// The last places are for familiar authorities, whoever holds the others.
const KEPT_FREE: usize = WAITING / 8;

/// Requests that may wait for keys of one party, a registrable domain, that is not familiar. One that joined has many
/// people, and a restart forgets none of them but may have to read them all again: so it has no number of its own. But
/// nobody ever holds more places than are left to the others: the first takes half of all, the second half of the rest.
const WAITING_PER_STRANGER: usize = 8;

/// Both kinds of bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budgets {
    new_keys: Buckets,
    new_keys_of_domain: Buckets,
    rereads: Buckets,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self {
            new_keys: Buckets::new(Quota::per_second(NEW_KEYS_PER_SECOND)),
            new_keys_of_domain: Buckets::new(Quota::per_second(NEW_KEYS_PER_DOMAIN_AND_SECOND)),
            rereads: Buckets::new(Quota::per_minute(REREADS_PER_MINUTE)),
        }
    }

    /// Takes a place for a key not seen before.
    pub(super) async fn new_key(&self, host: &Authority) -> bool {
        self.new_keys.take(host.as_str()).await && self.new_keys_of_domain.take(host.registrable()).await
    }

    /// Takes a place for a second look.
    pub(super) async fn reread(&self, host: &Authority) -> bool {
        self.rereads.take(host.as_str()).await
    }
}

#[derive(Debug, Clone)]
struct Buckets {
    hosts: Cache<String, Arc<DefaultDirectRateLimiter>>,
    quota: Quota,
}

impl Buckets {
    fn new(quota: Quota) -> Self {
        let hosts =
            Cache::builder().max_capacity(HOSTS).eviction_policy(EvictionPolicy::lru()).time_to_idle(HOST_IDLE).build();
        Self { hosts, quota }
    }

    async fn take(&self, host: &str) -> bool {
        let full = async { Arc::new(DefaultDirectRateLimiter::direct(self.quota)) };
        self.hosts.get_with_by_ref(host, full).await.check().is_ok()
    }
}

/// All places. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    strangers: usize,
    /// By registrable domain. Only those who hold a place, so at most [`WAITING`].
    each: HashMap<String, usize>,
}

/// The right to wait; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    party: String,
    stranger: bool,
}

impl Places {
    /// A place, if there is one now. Nobody queues.
    pub(super) fn take(&self, authority: &Authority, stranger: bool) -> Option<Place> {
        let party = authority.registrable();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(party).copied().unwrap_or_default();
        let left = if stranger {
            (WAITING_STRANGERS.saturating_sub(taken.strangers)).min((WAITING - KEPT_FREE).saturating_sub(taken.all))
        } else {
            WAITING.saturating_sub(taken.all)
        };
        if own >= left || (stranger && own >= WAITING_PER_STRANGER) {
            return None;
        }
        taken.all += 1;
        taken.strangers += usize::from(stranger);
        taken.each.insert(party.to_owned(), own + 1);
        Some(Place { places: self.clone(), party: party.to_owned(), stranger })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        taken.strangers -= usize::from(self.stranger);
        if let Some(own) = taken.each.get_mut(&self.party) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thousand_names_of_one_domain_share_thirty_new_keys_a_second() {
        let (budgets, begun) = (Budgets::new(), std::time::Instant::now());
        let mut allowed = 0;
        for n in 0..1000 {
            let host = Authority::parse(&format!("n{n}.evil.example")).unwrap();
            allowed += usize::from(budgets.new_key(&host).await);
        }
        let most = 30 + usize::try_from(begun.elapsed().as_millis() * 30 / 1000).unwrap() + 1;
        assert!((30..=most).contains(&allowed), "{allowed}");
        assert!(budgets.new_key(&Authority::parse("honest.example").unwrap()).await, "others are not touched by it");
    }

    #[tokio::test]
    async fn a_hundred_thousand_hosts_leave_the_memory_for_them_bounded() {
        let buckets = Buckets::new(Quota::per_second(NEW_KEYS_PER_SECOND));
        for n in 0..100_000 {
            assert!(buckets.take(&format!("h{n}.example")).await);
        }
        buckets.hosts.run_pending_tasks().await;
        assert!(buckets.hosts.entry_count() <= HOSTS, "{}", buckets.hosts.entry_count());
    }

    #[test]
    fn few_wait_for_one_stranger_more_for_a_member_and_strangers_leave_room_for_the_others() {
        let places = Places::default();
        let host = |n: usize| Authority::parse(&format!("h{n}.example")).unwrap();
        let mut held: Vec<_> = (0..20).filter_map(|_| places.take(&host(0), true)).collect();
        assert_eq!(held.len(), 8);
        held.extend((1..500).filter_map(|n| places.take(&host(n), true)));
        assert_eq!(held.len(), 64);
        held.extend((500..999).filter_map(|n| places.take(&host(n), false)));
        assert_eq!(held.len(), 128);
        drop(held);
        assert!(places.0.lock().unwrap().each.is_empty());
        assert_eq!((0..200).filter_map(|_| places.take(&host(0), false)).collect::<Vec<_>>().len(), 64);
    }

    /// However many of them and their names are slow at once.
    #[test]
    fn two_servers_that_joined_leave_places_for_the_others() {
        let places = Places::default();
        let take = |domain: &str, stranger: bool| -> Vec<Place> {
            let name = |n: usize| Authority::parse(&format!("n{n}.{domain}")).unwrap();
            (0..500).filter_map(|n| places.take(&name(n), stranger)).collect()
        };
        let joined = [take("one.example", false), take("two.example", false)];
        assert_eq!(joined.each_ref().map(Vec::len), [64, 32]);
        assert_eq!(take("evil.example", true).len(), 8, "names below one domain are one party");
        let strangers: Vec<_> = (0..100).map(|n| take(&format!("evil{n}.example"), true)).collect();
        assert_eq!((strangers[0].len(), strangers.iter().map(Vec::len).sum::<usize>()), (8, 16));
        assert_eq!(take("honest.example", false).len(), 8, "and another of them finds as many as it leaves");
        drop(joined);
        assert_eq!(take("honest.example", false).len(), 56);
    }
}

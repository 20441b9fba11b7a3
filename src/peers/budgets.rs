//! How often strangers can make us ask a host for keys: token buckets per host, in real time. Without them each bogus
//! `keyId` would be a request at a host of the attacker's choice (Fedify CVE-2026-34148).

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::ids::Authority;

/// Keys not seen before, per host and second. A busy server's users come by ones and twos; the rest comes again.
const NEW_KEYS_PER_SECOND: NonZero<u32> = NonZero::new(10).unwrap();

/// Second looks at known keys, per host and minute. Servers do not rotate keys by the dozen.
const REREADS_PER_MINUTE: NonZero<u32> = NonZero::new(30).unwrap();

/// Hosts remembered, and for how long after the last look: longer than any bucket takes to fill.
const HOSTS: u64 = 20_000;
const HOST_IDLE: Duration = Duration::from_secs(2 * 60);

/// Both kinds of bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budgets {
    new_keys: Buckets,
    rereads: Buckets,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self {
            new_keys: Buckets::new(Quota::per_second(NEW_KEYS_PER_SECOND)),
            rereads: Buckets::new(Quota::per_minute(REREADS_PER_MINUTE)),
        }
    }

    /// Takes a place for a key not seen before.
    pub(super) async fn new_key(&self, host: &Authority) -> bool {
        self.new_keys.take(host).await
    }

    /// Takes a place for a second look.
    pub(super) async fn reread(&self, host: &Authority) -> bool {
        self.rereads.take(host).await
    }
}

#[derive(Debug, Clone)]
struct Buckets {
    hosts: Cache<Authority, Arc<DefaultDirectRateLimiter>>,
    quota: Quota,
}

impl Buckets {
    fn new(quota: Quota) -> Self {
        let hosts =
            Cache::builder().max_capacity(HOSTS).eviction_policy(EvictionPolicy::lru()).time_to_idle(HOST_IDLE).build();
        Self { hosts, quota }
    }

    async fn take(&self, host: &Authority) -> bool {
        let full = async { Arc::new(DefaultDirectRateLimiter::direct(self.quota)) };
        self.hosts.get_with_by_ref(host, full).await.check().is_ok()
    }
}

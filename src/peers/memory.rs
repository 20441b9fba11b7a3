//! What is remembered in memory: outcomes, good or bad, each with the moment until which it is believed. Bounded by
//! bytes; one loader at a time per id, whose outcome all who wait for it share.

use std::future::Future;

use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::PeerFault;
use crate::clock::Timestamp;
use crate::ids::Iri;

/// What one entry costs beside its value: id, bookkeeping, parsed form.
const ENTRY_BYTES: u32 = 512;

/// An outcome and until when it is believed.
#[derive(Debug, Clone)]
pub(super) struct Kept<T> {
    pub(super) outcome: Result<T, PeerFault>,
    pub(super) until: Timestamp,
    bytes: u32,
}

impl<T> Kept<T> {
    /// A value that takes about `bytes` of memory.
    pub(super) fn value(value: T, until: Timestamp, bytes: usize) -> Self {
        Self { outcome: Ok(value), until, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    pub(super) fn fault(fault: PeerFault, until: Timestamp) -> Self {
        let bytes = match &fault {
            PeerFault::Invalid(text) | PeerFault::Refused(text) => text.len(),
            _ => 0,
        };
        Self { outcome: Err(fault), until, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    /// The same outcome, believed until another moment.
    pub(super) fn believed_until(self, until: Timestamp) -> Self {
        Self { until, ..self }
    }

    /// The same with another value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Kept<U> {
        Kept { outcome: self.outcome.map(change), until: self.until, bytes: self.bytes }
    }
}

/// The memory for one kind of thing. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Memory<T: Clone + Send + Sync + 'static>(Cache<Iri, Kept<T>>);

impl<T: Clone + Send + Sync + 'static> Memory<T> {
    /// What is asked for often survives a flood of what is asked for once.
    pub(super) fn new(max_bytes: u64) -> Self {
        Self::with_policy(max_bytes, EvictionPolicy::tiny_lfu())
    }

    /// For limits: the newest entry is always taken, since an entry that is not kept is a limit that does not hold.
    pub(super) fn for_limits(max_bytes: u64) -> Self {
        Self::with_policy(max_bytes, EvictionPolicy::lru())
    }

    fn with_policy(max_bytes: u64, policy: EvictionPolicy) -> Self {
        let weigh = |id: &Iri, kept: &Kept<T>| {
            let id_bytes = u32::try_from(id.as_str().len()).unwrap_or(u32::MAX);
            ENTRY_BYTES.saturating_add(id_bytes).saturating_add(kept.bytes)
        };
        Self(Cache::builder().max_capacity(max_bytes).weigher(weigh).eviction_policy(policy).build())
    }

    /// The outcome for this id, if it is still believed.
    pub(super) async fn get(&self, id: &Iri, now: Timestamp) -> Option<Result<T, PeerFault>> {
        let kept = self.0.get(id).await?;
        (now < kept.until).then_some(kept.outcome)
    }

    /// The outcome for this id, loaded if there is none that is still believed.
    pub(super) async fn get_or(
        &self,
        id: &Iri,
        now: Timestamp,
        load: impl Future<Output = Kept<T>>,
    ) -> Result<T, PeerFault> {
        self.0.entry_by_ref(id).or_insert_with_if(load, |kept| kept.until <= now).await.into_value().outcome
    }

    pub(super) async fn put(&self, id: &Iri, kept: Kept<T>) {
        self.0.insert(id.clone(), kept).await;
    }

    pub(super) async fn remove(&self, id: &Iri) {
        self.0.invalidate(id).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_ids_leaves_memory_bounded_and_the_newest_limit_in_force() {
        let (memory, limits) = (Memory::new(100_000), Memory::for_limits(100_000));
        let (now, later) = (Timestamp::from_secs(0), Timestamp::from_secs(60));
        for n in 0..20_000 {
            let id = Iri::parse(&format!("https://h{n}.example/x")).unwrap();
            memory.put(&id, Kept::value((), later, 0)).await;
            limits.put(&id, Kept::value((), later, 0)).await;
            assert!(limits.get(&id, now).await.is_some());
        }
        for cache in [&memory.0, &limits.0] {
            cache.run_pending_tasks().await;
            assert!(cache.weighted_size() <= 100_000 && cache.entry_count() < 200, "{}", cache.entry_count());
        }
    }
}

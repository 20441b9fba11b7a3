//! What was seen before: ids of activities and objects, signatures of control messages, tombstones. Sets of 16-byte
//! keyed hashes in buckets of a day, forgotten by whole buckets and never for lack of room: a cache that evicts could be
//! flushed by a stranger, who then replays. Signatures are of use for little more than an hour: their buckets are hours,
//! so that what one server can say in that time is all that it can make us hold.
//!
//! A commit appends its hashes as one chunk. Buckets before the last one are sealed: sorted into rows of 4 KiB that are
//! asked one range query each, behind a Bloom filter in memory that answers "no" for nearly all of them. The present
//! bucket and the last one are held in memory whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use hmac::{Hmac, KeyInit as _, Mac as _};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use sha2::Sha256;

use super::{Store, StoreError, Tx, existing};
use crate::clock::Timestamp;
use crate::ids::Iri;

/// Chunks as they came: (set, bucket, number) → hashes one after the other.
const RECENT: TableDefinition<'static, (u8, u32, u64), &[u8]> = TableDefinition::new("seen_recent");
/// Sealed buckets: (set, bucket, first hash) → up to `ROW` hashes in order.
const SEALED: TableDefinition<'static, (u8, u32, u128), &[u8]> = TableDefinition::new("seen_sealed");
const ROW: usize = 256;
pub(super) const HASH: usize = 16;

/// The sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SeenSet {
    /// Activities, by origin and id: a repeated POST changes nothing.
    Activities = 0,
    /// Objects that were relayed: each once, whoever brings it.
    Objects = 1,
    /// Signatures of control messages: a replay changes nothing.
    Signatures = 2,
    /// Objects and actors that were deleted: a late copy does not come back.
    Tombstones = 3,
    /// Authors whose posts came here: who is not in it is new to us.
    Authors = 4,
    /// Authors by the hour in which their first post came; needed while they are new.
    Newcomers = 5,
}

impl SeenSet {
    const ALL: [Self; 6] =
        [Self::Activities, Self::Objects, Self::Signatures, Self::Tombstones, Self::Authors, Self::Newcomers];

    /// The bucket of a moment: the hour since the epoch for signatures, the day for all else. (Before the first release
    /// those of signatures were days too: as hours they are long past, and forgotten in the first round.)
    fn bucket(self, at: Timestamp) -> u32 {
        let bucket = match self {
            Self::Signatures => at.hour(),
            _ => at.day(),
        };
        u32::try_from(bucket).unwrap_or(0)
    }
}

/// How much a housekeeping round moved and forgot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Hashes put in order.
    pub sealed: usize,
    /// Buckets forgotten.
    pub forgotten: usize,
}

type Days = BTreeMap<u32, Day>;

/// A bucket, a day as a rule, is open, or sealed; or both, if the clock went back by days and ids were noted into it since. Those are sealed
/// with the rest in the next round.
#[derive(Default)]
struct Day {
    open: HashSet<u128>,
    sealed: Option<Bloom>,
}

/// The part that is in memory.
#[derive(Default)]
pub(super) struct Memory {
    days: HashMap<SeenSet, Days>,
}

/// What a transaction adds.
#[derive(Default)]
pub(super) struct Staged {
    new: BTreeMap<(SeenSet, u32), Vec<u128>>,
    all: HashSet<(SeenSet, u128)>,
}

impl Tx<'_> {
    /// Notes `parts` in `set`; `true` if it was not there, in this transaction or before.
    ///
    /// # Errors
    /// The engine's.
    pub fn note(&mut self, set: SeenSet, parts: &[&str]) -> Result<bool, StoreError> {
        let hash = hash(&self.store.0.secret, set, parts);
        if self.staged.all.contains(&(set, hash)) || self.store.seen_hash(set, hash)? {
            return Ok(false);
        }
        self.stage(set, hash);
        Ok(true)
    }

    /// Notes `parts` as if they had been seen at a moment before now.
    ///
    /// # Errors
    /// The engine's.
    pub fn note_since(&mut self, set: SeenSet, parts: &[&str], since: Timestamp) -> Result<(), StoreError> {
        let hash = hash(&self.store.0.secret, set, parts);
        if !self.staged.all.contains(&(set, hash)) && !self.store.seen_hash(set, hash)? {
            self.stage_on(set, set.bucket(since), hash);
        }
        Ok(())
    }

    /// Notes `parts` under today, although they may be there under an earlier day that is forgotten before long.
    pub fn renew(&mut self, set: SeenSet, parts: &[&str]) {
        let hash = hash(&self.store.0.secret, set, parts);
        if !self.staged.all.contains(&(set, hash)) {
            self.stage(set, hash);
        }
    }

    /// Whether this object was deleted.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn is_deleted(&self, object: &Iri) -> Result<bool, StoreError> {
        self.has_seen(SeenSet::Tombstones, &[object.as_str()])
    }

    /// Whether this actor's account was deleted.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn is_gone(&self, actor: &Iri) -> Result<bool, StoreError> {
        self.has_seen(SeenSet::Tombstones, &["actor", actor.as_str()])
    }

    /// Takes over what was deleted on a day, as hashes under the secret of this store.
    pub(super) fn take_tombstones(&mut self, day: u32, hashes: &[u128]) -> Result<(), StoreError> {
        let set = SeenSet::Tombstones;
        let day = day.min(set.bucket(self.store.0.clock.now()));
        for hash in hashes {
            if !self.staged.all.contains(&(set, *hash)) && !self.store.seen_hash(set, *hash)? {
                self.stage_on(set, day, *hash);
            }
        }
        Ok(())
    }

    fn stage(&mut self, set: SeenSet, hash: u128) {
        self.stage_on(set, set.bucket(self.store.0.clock.now()), hash);
    }

    fn stage_on(&mut self, set: SeenSet, day: u32, hash: u128) {
        self.staged.all.insert((set, hash));
        self.staged.new.entry((set, day)).or_default().push(hash);
        self.noted.push((set, day, hash));
    }

    /// The first and the last day, counted from the epoch, under which `parts` are remembered (of signatures, the hour);
    /// `None` if they are not.
    ///
    /// # Errors
    /// The engine's.
    pub fn seen_days(&self, set: SeenSet, parts: &[&str]) -> Result<Option<(u32, u32)>, StoreError> {
        let hash = hash(&self.store.0.secret, set, parts);
        let mut days = self.store.days_of(set, hash)?;
        if self.staged.all.contains(&(set, hash)) {
            days.push(set.bucket(self.store.0.clock.now()));
        }
        Ok(days.iter().min().copied().zip(days.iter().max().copied()))
    }

    /// Whether `parts` are in `set`, in this transaction or before.
    ///
    /// # Errors
    /// The engine's.
    pub fn has_seen(&self, set: SeenSet, parts: &[&str]) -> Result<bool, StoreError> {
        let hash = hash(&self.store.0.secret, set, parts);
        Ok(self.staged.all.contains(&(set, hash)) || self.store.seen_hash(set, hash)?)
    }
}

impl Store {
    /// Whether `parts` are in `set` as of the last commit.
    ///
    /// # Errors
    /// The engine's.
    pub fn has_seen(&self, set: SeenSet, parts: &[&str]) -> Result<bool, StoreError> {
        self.seen_hash(set, hash(&self.0.secret, set, parts))
    }

    /// What was deleted, by day, as hashes under the secret of this store.
    pub(super) fn tombstones(&self) -> Result<BTreeMap<u32, Vec<u128>>, StoreError> {
        let read = self.0.db.begin_read()?;
        let wanted = SeenSet::Tombstones as u8;
        let mut days: BTreeMap<u32, Vec<u128>> = BTreeMap::new();
        if let Some(table) = existing(read.open_table(RECENT))? {
            for row in table.range((wanted, 0, 0)..=(wanted, u32::MAX, u64::MAX))? {
                let (key, value) = row?;
                days.entry(key.value().1).or_default().extend(unpack(value.value()));
            }
        }
        if let Some(table) = existing(read.open_table(SEALED))? {
            for row in table.range((wanted, 0, 0)..=(wanted, u32::MAX, u128::MAX))? {
                let (key, value) = row?;
                days.entry(key.value().1).or_default().extend(unpack(value.value()));
            }
        }
        Ok(days)
    }

    /// By what lines of an export are known to be this relay's own. Says nothing about the secret.
    pub(super) fn mark(&self) -> String {
        format!("{:032x}", hash(&self.0.secret, SeenSet::Tombstones, &["mark of this relay"]))
    }

    /// Seals what is older than the last bucket and forgets what is older than `keep` says: in hours of signatures, in days
    /// of all else. Idempotent.
    ///
    /// # Errors
    /// The store's.
    pub async fn tidy_seen(&self, keep: impl Fn(SeenSet) -> u32) -> Result<Sealed, StoreError> {
        let now = self.0.clock.now();
        let mut done = Sealed::default();
        for set in SeenSet::ALL {
            let today = set.bucket(now);
            let oldest = today.saturating_sub(keep(set));
            let days: Vec<(u32, bool)> = {
                let memory = self.0.seen.read().unwrap_or_else(PoisonError::into_inner);
                let days = memory.days.get(&set).into_iter().flatten();
                days.map(|(day, content)| (*day, !content.open.is_empty())).collect()
            };
            for (day, open) in days {
                if day < oldest {
                    self.write(move |tx| forget_day(tx, set, day)).await?;
                    done.forgotten += 1;
                } else if open && day + 1 < today {
                    done.sealed += self.write(move |tx| seal_day(tx, set, day)).await?;
                }
            }
        }
        Ok(done)
    }

    /// All days under which `hash` is remembered.
    fn days_of(&self, set: SeenSet, hash: u128) -> Result<Vec<u32>, StoreError> {
        let (mut sure, mut candidates) = (Vec::new(), Vec::new());
        {
            let memory = self.0.seen.read().unwrap_or_else(PoisonError::into_inner);
            for (day, content) in memory.days.get(&set).into_iter().flatten() {
                if content.open.contains(&hash) {
                    sure.push(*day);
                } else if content.sealed.as_ref().is_some_and(|bloom| bloom.may_hold(hash)) {
                    candidates.push(*day);
                }
            }
        }
        for day in candidates {
            if sealed_holds(&self.0.db, set, day, hash)? {
                sure.push(day);
            }
        }
        Ok(sure)
    }

    fn seen_hash(&self, set: SeenSet, hash: u128) -> Result<bool, StoreError> {
        let candidates: Vec<u32> = {
            let memory = self.0.seen.read().unwrap_or_else(PoisonError::into_inner);
            let Some(days) = memory.days.get(&set) else { return Ok(false) };
            let mut candidates = Vec::new();
            for (day, content) in days {
                if content.open.contains(&hash) {
                    return Ok(true);
                }
                if content.sealed.as_ref().is_some_and(|bloom| bloom.may_hold(hash)) {
                    candidates.push(*day);
                }
            }
            candidates
        };
        for day in candidates {
            if sealed_holds(&self.0.db, set, day, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Staged {
    /// Takes back the last hash that was noted.
    pub(super) fn forget(&mut self, set: SeenSet, day: u32, hash: u128) {
        self.all.remove(&(set, hash));
        if let Some(hashes) = self.new.get_mut(&(set, day))
            && hashes.pop().is_some()
            && hashes.is_empty()
        {
            self.new.remove(&(set, day));
        }
    }

    pub(super) fn write(&self, engine: &WriteTransaction) -> Result<(), StoreError> {
        if self.new.is_empty() {
            return Ok(());
        }
        let mut table = engine.open_table(RECENT)?;
        for ((set, day), hashes) in &self.new {
            let last = table.range((*set as u8, *day, 0)..=(*set as u8, *day, u64::MAX))?.next_back();
            let number = last.transpose()?.map_or(0, |(key, _)| key.value().2 + 1);
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
            table.insert((*set as u8, *day, number), bytes.as_slice())?;
        }
        Ok(())
    }

    pub(super) fn remember(self, store: &Store) {
        let mut memory = store.0.seen.write().unwrap_or_else(PoisonError::into_inner);
        for ((set, day), hashes) in self.new {
            memory.days.entry(set).or_default().entry(day).or_default().open.extend(hashes);
        }
    }
}

impl Memory {
    pub(super) fn load(db: &Database) -> Result<Self, StoreError> {
        let mut memory = Self::default();
        let read = db.begin_read()?;
        if let Some(table) = existing(read.open_table(SEALED))? {
            let mut hashes: BTreeMap<(SeenSet, u32), Vec<u128>> = BTreeMap::new();
            for row in table.iter()? {
                let (key, value) = row?;
                let (set, day, _) = key.value();
                if let Some(set) = SeenSet::ALL.into_iter().find(|known| *known as u8 == set) {
                    hashes.entry((set, day)).or_default().extend(unpack(value.value()));
                }
            }
            for ((set, day), hashes) in hashes {
                let day = memory.days.entry(set).or_default().entry(day).or_default();
                day.sealed = Some(Bloom::of(&hashes));
            }
        }
        if let Some(table) = existing(read.open_table(RECENT))? {
            for row in table.iter()? {
                let (key, value) = row?;
                let (set, day, _) = key.value();
                let Some(set) = SeenSet::ALL.into_iter().find(|known| *known as u8 == set) else { continue };
                let day = memory.days.entry(set).or_default().entry(day).or_default();
                day.open.extend(unpack(value.value()));
            }
        }
        Ok(memory)
    }
}

fn seal_day(tx: &mut Tx<'_>, set: SeenSet, day: u32) -> Result<usize, StoreError> {
    let range = (set as u8, day, 0)..=(set as u8, day, u64::MAX);
    let mut hashes: Vec<u128> = Vec::new();
    {
        let mut recent = tx.engine().open_table(RECENT)?;
        for row in recent.range(range.clone())? {
            hashes.extend(unpack(row?.1.value()));
        }
        recent.retain_in(range, |_, _| false)?;
    }
    {
        // What was sealed before is put in order anew together with the rest: a look-up reads one row only.
        let mut sealed = tx.engine().open_table(SEALED)?;
        let range = (set as u8, day, 0)..=(set as u8, day, u128::MAX);
        for row in sealed.range(range.clone())? {
            hashes.extend(unpack(row?.1.value()));
        }
        sealed.retain_in(range, |_, _| false)?;
    }
    hashes.sort_unstable();
    hashes.dedup();
    {
        let mut sealed = tx.engine().open_table(SEALED)?;
        for row in hashes.chunks(ROW) {
            let bytes: Vec<u8> = row.iter().flat_map(|hash| hash.to_be_bytes()).collect();
            let first = row.first().copied().unwrap_or_default();
            sealed.insert((set as u8, day, first), bytes.as_slice())?;
        }
    }
    let (bloom, count) = (Bloom::of(&hashes), hashes.len());
    tx.after_commit(move |store| {
        let mut memory = store.0.seen.write().unwrap_or_else(PoisonError::into_inner);
        memory.days.entry(set).or_default().insert(day, Day { open: HashSet::new(), sealed: Some(bloom) });
    });
    Ok(count)
}

fn forget_day(tx: &mut Tx<'_>, set: SeenSet, day: u32) -> Result<(), StoreError> {
    let set_number = set as u8;
    tx.engine().open_table(RECENT)?.retain_in((set_number, day, 0)..=(set_number, day, u64::MAX), |_, _| false)?;
    tx.engine().open_table(SEALED)?.retain_in((set_number, day, 0)..=(set_number, day, u128::MAX), |_, _| false)?;
    tx.after_commit(move |store| {
        let mut memory = store.0.seen.write().unwrap_or_else(PoisonError::into_inner);
        memory.days.entry(set).or_default().remove(&day);
    });
    Ok(())
}

fn sealed_holds(db: &Database, set: SeenSet, day: u32, hash: u128) -> Result<bool, StoreError> {
    let read = db.begin_read()?;
    let Some(table) = existing(read.open_table(SEALED))? else { return Ok(false) };
    let row = table.range((set as u8, day, 0)..=(set as u8, day, hash))?.next_back().transpose()?;
    Ok(row.is_some_and(|(_, value)| unpack(value.value()).any(|one| one == hash)))
}

fn unpack(bytes: &[u8]) -> impl Iterator<Item = u128> + '_ {
    bytes.chunks_exact(HASH).map(|chunk| chunk.try_into().map_or(0, u128::from_be_bytes))
}

/// Keyed, so that nobody outside can make two ids collide; the length of each part is in it, so that parts do not run
/// into each other.
pub(super) fn hash(secret: &[u8; 32], set: SeenSet, parts: &[&str]) -> u128 {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key");
    mac.update(&[set as u8]);
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    let digest = mac.finalize().into_bytes();
    digest.get(..HASH).and_then(|half| half.try_into().ok()).map_or(0, u128::from_be_bytes)
}

/// A Bloom filter over hashes that are random already: ten bits each and four probes let about one in a hundred through.
struct Bloom {
    bits: Vec<u64>,
}

impl Bloom {
    fn of(hashes: &[u128]) -> Self {
        let mut bloom = Self { bits: vec![0; (hashes.len() * 10).div_ceil(64).max(1)] };
        for hash in hashes {
            for (word, bit) in bloom.probes(*hash) {
                if let Some(word) = bloom.bits.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        bloom
    }

    fn may_hold(&self, hash: u128) -> bool {
        self.probes(hash).iter().all(|(word, bit)| self.bits.get(*word).is_some_and(|have| have & bit != 0))
    }

    fn probes(&self, hash: u128) -> [(usize, u64); 4] {
        let size = self.bits.len() as u128 * 64;
        [0, 32, 64, 96].map(|shift| {
            // Only 32 bits feed each probe, spread over the whole size.
            let at = ((hash >> shift & 0xffff_ffff) * size) >> 32;
            (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    const DAY: Duration = Duration::from_secs(86_400);

    fn open(dir: &tempfile::TempDir, clock: &Clock) -> Store {
        Store::open(dir.path(), clock.clone()).unwrap()
    }

    async fn note(store: &Store, set: SeenSet, id: &str) -> bool {
        let id = id.to_owned();
        store.write(move |tx| tx.note(set, &[&id])).await.unwrap()
    }

    #[tokio::test]
    async fn an_id_is_new_once_across_sealing_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let mut store = open(&dir, &clock);
        for number in 0..1000 {
            assert!(note(&store, SeenSet::Objects, &format!("https://a.example/{number}")).await);
        }
        assert!(note(&store, SeenSet::Tombstones, "https://a.example/0").await, "sets are apart");
        for _ in 0..3 {
            clock.advance(DAY);
            store.tidy_seen(|_| 14).await.unwrap();
            assert!(!note(&store, SeenSet::Objects, "https://a.example/7").await);
            drop(store);
            store = reopen(&dir, &clock).await;
            assert!(!note(&store, SeenSet::Objects, "https://a.example/999").await);
        }
        let sealed = store.0.seen.read().unwrap().days[&SeenSet::Objects].values().any(|day| day.sealed.is_some());
        assert!(sealed, "the first day is sealed by now");
        for _ in 0..14 {
            clock.advance(DAY);
        }
        assert!(store.tidy_seen(|_| 14).await.unwrap().forgotten > 0);
        assert!(note(&store, SeenSet::Objects, "https://a.example/7").await, "forgotten after its time");
    }

    #[tokio::test]
    async fn the_days_of_an_id_are_told_and_one_that_is_noted_anew_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = open(&dir, &clock);
        let first = SeenSet::Authors.bucket(clock.now());
        let days = async |store: &Store| store.write(|tx| tx.seen_days(SeenSet::Authors, &["ada"])).await.unwrap();
        assert_eq!(days(&store).await, None);
        let noted = |tx: &mut Tx<'_>| {
            tx.note(SeenSet::Authors, &["ada"])?;
            tx.seen_days(SeenSet::Authors, &["ada"])
        };
        assert_eq!(store.write(noted).await.unwrap(), Some((first, first)));
        for number in 1..=3 {
            clock.advance(Duration::from_secs(86_400));
            store.tidy_seen(|_set| 90).await.unwrap();
            assert_eq!(days(&store).await, Some((first, first)), "after {number} days");
        }
        let renew = |tx: &mut Tx<'_>| {
            tx.renew(SeenSet::Authors, &["ada"]);
            tx.renew(SeenSet::Authors, &["ada"]);
            Ok(())
        };
        store.write(renew).await.unwrap();
        assert_eq!(days(&store).await, Some((first, first + 3)));
        clock.advance(Duration::from_secs(86_400));
        store.tidy_seen(|_set| 2).await.unwrap();
        drop(store);
        let store = reopen(&dir, &clock).await;
        assert_eq!(days(&store).await, Some((first + 3, first + 3)));
    }

    #[tokio::test]
    async fn signatures_are_forgotten_by_the_hour_and_known_while_a_replay_could_count() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400 + 3599));
        let mut store = open(&dir, &clock);
        assert!(note(&store, SeenSet::Signatures, "a Follow").await);
        assert!(note(&store, SeenSet::Objects, "a post").await);
        // One that is dated five minutes ahead of us is good for an hour and five minutes.
        for _ in 0..13 {
            clock.advance(Duration::from_secs(300));
            store.tidy_seen(|_set| 3).await.unwrap();
            assert!(store.has_seen(SeenSet::Signatures, &["a Follow"]).unwrap());
            drop(store);
            store = reopen(&dir, &clock).await;
            assert!(store.has_seen(SeenSet::Signatures, &["a Follow"]).unwrap(), "after a restart too");
        }
        clock.advance(Duration::from_secs(3 * 3600));
        assert_eq!(store.tidy_seen(|_set| 3).await.unwrap().forgotten, 1);
        assert!(!store.has_seen(SeenSet::Signatures, &["a Follow"]).unwrap(), "its hour is over");
        assert!(store.has_seen(SeenSet::Objects, &["a post"]).unwrap(), "all else is kept by the day");
        assert!(store.0.seen.read().unwrap().days[&SeenSet::Signatures].is_empty(), "and nothing is left in memory");
    }

    #[tokio::test]
    async fn an_id_noted_into_a_sealed_day_is_found_before_and_after_a_restart_and_sealed_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Timestamp::from_secs(1_787_486_400);
        let clock = Clock::manual(first);
        let mut store = open(&dir, &clock);
        for number in 0..600 {
            assert!(note(&store, SeenSet::Objects, &format!("https://a.example/{number}")).await);
        }
        clock.advance(DAY * 3);
        assert_eq!(store.tidy_seen(|_| 14).await.unwrap().sealed, 600);
        // The clock goes back by three days.
        drop(store);
        let back = Clock::manual(first);
        store = reopen(&dir, &back).await;
        for number in 600..900 {
            assert!(note(&store, SeenSet::Objects, &format!("https://a.example/{number}")).await);
        }
        let known = async |store: &Store, when: &str| {
            for number in 0..900 {
                let id = format!("https://a.example/{number}");
                assert!(store.has_seen(SeenSet::Objects, &[&id]).unwrap(), "{id} {when}");
            }
        };
        known(&store, "at once").await;
        drop(store);
        store = reopen(&dir, &back).await;
        known(&store, "after a restart").await;
        back.advance(DAY * 3);
        store.tidy_seen(|_| 14).await.unwrap();
        known(&store, "sealed again").await;
        drop(store);
        known(&reopen(&dir, &back).await, "sealed again, after a restart").await;
    }

    /// The writer thread lets go of the file a moment after the last handle.
    async fn reopen(dir: &tempfile::TempDir, clock: &Clock) -> Store {
        for _ in 0..200 {
            if let Ok(store) = Store::open(dir.path(), clock.clone()) {
                return store;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the file stays in use");
    }

    #[tokio::test]
    async fn of_many_at_once_exactly_one_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, &Clock::system());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let store = store.clone();
            tasks.spawn(async move { note(&store, SeenSet::Objects, "https://a.example/1").await });
        }
        let new = tasks.join_all().await.into_iter().filter(|new| *new).count();
        assert_eq!(new, 1);
    }

    #[test]
    fn the_filter_never_denies_what_it_holds_and_seldom_lies() {
        let secret = [7; 32];
        let id = |number: u32| hash(&secret, SeenSet::Objects, &[&number.to_string()]);
        let held: Vec<u128> = (0..20_000).map(id).collect();
        let bloom = Bloom::of(&held);
        assert!(held.iter().all(|hash| bloom.may_hold(*hash)));
        let lies = (20_000..40_000).filter(|number| bloom.may_hold(id(*number))).count();
        assert!(lies < 600, "{lies} of 20,000");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let secret = [7; 32];
        assert_ne!(hash(&secret, SeenSet::Objects, &["ab", "c"]), hash(&secret, SeenSet::Objects, &["a", "bc"]));
        assert_ne!(hash(&secret, SeenSet::Objects, &["a"]), hash(&secret, SeenSet::Activities, &["a"]));
    }
}

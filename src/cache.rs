//! The cache on disk, and the only file that knows sled: remote documents that can be fetched again, so that a restart
//! does not refetch the fediverse. What behaviour depends on is never kept here alone: sled 0.34 loses flushed records in
//! a power cut and its files may not open again (which is why `store` is another engine). Then the folder is moved aside
//! and the cache starts empty.
//!
//! Promises: a missing, damaged or full cache is a miss and never an error (a relay whose disk has no room for one runs
//! without); records written under the rules of another
//! [`NAMESPACE`] are never read; count, size of values, their sum and size on disk are bounded, while running too.
//!
//! The calls block, for microseconds from memory and the length of one read from disk: short enough for async threads.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

/// How often, and after what pause, a cache that is in use is tried again.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The name of the tree in use. Change it whenever the rules change by which documents are checked before they are kept:
/// what was believed under the older rules is then dropped at the next start.
pub const NAMESPACE: &str = "v1";

/// Longer values are not kept. Actors are 2 to 10 KB; whoever sends more is fetched again.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Records kept; beyond it, each new one pushes out one at random, which costs no bookkeeping.
const MAX_RECORDS: usize = 200_000;

/// Bytes of values kept; beyond it, new ones push out others as well.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Beyond this size on disk the cache starts anew: sled does not give space back on its own, and may need several times
/// the size of what it keeps.
const MAX_DISK_BYTES: u64 = 1024 * 1024 * 1024;

/// How often the size on disk is looked at, in bytes written.
const LOOK_EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// Records that one new record pushes out at most, so that no call takes long: it may be as big as many small ones.
const PUSHED_OUT: usize = 32;

/// Pages that sled keeps in memory.
const MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Broken folders that are kept to be looked at; then the last one is replaced.
const BROKEN_KEPT: u32 = 3;

/// What a record is; two kinds never share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An actor document, under its verified id.
    Actor,
    /// The `ETag` of that document, under the same id.
    Etag,
    /// The owner of a key, under the key id. The key itself is in the owner's document.
    KeyOwner,
    /// What a server said in NodeInfo, under its origin.
    Software,
    /// A 404 or 410, under the id asked for.
    Missing,
}

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Self::Actor => b'a',
            Self::Etag => b'e',
            Self::KeyOwner => b'k',
            Self::Software => b's',
            Self::Missing => b'm',
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// The value as it was put.
    pub bytes: Bytes,
    /// When it was put, by the clock of the one who put it.
    pub at: Timestamp,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    limits: Limits,
    /// `None`: there is no cache on disk. Whoever starts it anew holds the lock alone; for the others that is a miss.
    open: RwLock<Option<Open>>,
    chance: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    records: usize,
    bytes: u64,
    disk_bytes: u64,
    look_every: u64,
}

const LIMITS: Limits =
    Limits { records: MAX_RECORDS, bytes: MAX_BYTES, disk_bytes: MAX_DISK_BYTES, look_every: LOOK_EVERY_BYTES };

/// The files, open.
#[derive(Debug)]
struct Open {
    db: sled::Db,
    tree: sled::Tree,
    records: AtomicUsize,
    bytes: AtomicU64,
    pushed_out: AtomicU64,
    /// Since the size on disk was looked at.
    written: AtomicU64,
}

impl Cache {
    /// Opens the cache in this folder, or a new one if what is there does not open. Where not even that can be had (no
    /// permission, no space), nothing is kept.
    ///
    /// # Errors
    /// Another process has it open.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Self::open_with(dir, LIMITS)
    }

    fn open_with(dir: &Path, limits: Limits) -> anyhow::Result<Self> {
        let open = match open_when_free(dir) {
            Err(reason) if is_locked(&reason) => {
                anyhow::bail!("the cache {} is in use by another process", dir.display());
            }
            Ok(db) => Open::new(db),
            Err(reason) => start_over(dir, &reason),
        };
        let open = open.and_then(|open| if open.is_too_big(limits) { start_anew(dir, open) } else { Ok(open) });
        let open = open.inspect_err(|error| without(dir, error)).ok();
        Ok(Self(Arc::new(Inner { dir: dir.to_owned(), limits, open: RwLock::new(open), chance: RandomState::new() })))
    }

    /// The record, if there is one that can be read.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &str) -> Option<Cached> {
        let stored = self.with(|open| open.tree.get(place(kind, key)).ok()?)?;
        let (at, bytes) = stored.split_first_chunk::<8>()?;
        Some(Cached { bytes: Bytes::copy_from_slice(bytes), at: Timestamp::from_millis(i64::from_be_bytes(*at)) })
    }

    /// Whether there is a record; does not read its value.
    #[must_use]
    pub fn contains(&self, kind: Kind, key: &str) -> bool {
        self.with(|open| open.tree.contains_key(place(kind, key)).ok()).unwrap_or(false)
    }

    /// Keeps a record, in place of the one that was there. Values over [`MAX_VALUE_BYTES`] are not kept, and remove it.
    pub fn put(&self, kind: Kind, key: &str, bytes: &[u8], at: Timestamp) {
        if bytes.len() > MAX_VALUE_BYTES {
            self.remove(kind, key);
            return;
        }
        let mut stored = Vec::with_capacity(8 + bytes.len());
        stored.extend_from_slice(&at.millis().to_be_bytes());
        stored.extend_from_slice(bytes);
        let too_big = self.with(|open| {
            open.insert(place(kind, key), stored);
            for _ in 0..PUSHED_OUT {
                if !open.is_full(self.0.limits) {
                    break;
                }
                open.push_one_out(&self.0.chance);
            }
            Some(open.is_due(self.0.limits) && open.is_too_big(self.0.limits))
        });
        if too_big == Some(true) {
            self.restart();
        }
    }

    /// Forgets a record.
    pub fn remove(&self, kind: Kind, key: &str) {
        self.with(|open| {
            open.take_out(place(kind, key));
            Some(())
        });
    }

    /// How many records there are, about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|open| Some(open.records.load(Ordering::Relaxed))).unwrap_or_default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Does something with the files, if there are any and nobody exchanges them just now.
    fn with<T>(&self, act: impl FnOnce(&Open) -> Option<T>) -> Option<T> {
        act(self.0.open.try_read().ok()?.as_ref()?)
    }

    /// Exchanges files that have grown too big for new ones. Rare, and as long as it takes nobody else waits for it.
    fn restart(&self) {
        let mut open = self.0.open.write().unwrap_or_else(PoisonError::into_inner);
        // Of two who found it too big, the second finds it small.
        if let Some(big) = open.take_if(|open| open.is_too_big(self.0.limits)) {
            *open = start_anew(&self.0.dir, big).inspect_err(|error| without(&self.0.dir, error)).ok();
        }
    }
}

impl Open {
    fn new(db: sled::Db) -> anyhow::Result<Self> {
        drop_older(&db);
        let tree = db.open_tree(NAMESPACE).context("opening the cache")?;
        let (records, bytes) =
            tree.iter().values().flatten().fold((0, 0), |(records, bytes), value| (records + 1, bytes + size(&value)));
        let (records, bytes) = (AtomicUsize::new(records), AtomicU64::new(bytes));
        Ok(Self { db, tree, records, bytes, pushed_out: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    fn insert(&self, place: [u8; 32], stored: Vec<u8>) {
        let added = size(&stored);
        match self.tree.insert(place, stored) {
            Ok(before) => {
                self.bytes.fetch_add(added, Ordering::Relaxed);
                self.written.fetch_add(added, Ordering::Relaxed);
                match before {
                    Some(before) => drop(self.bytes.fetch_sub(size(&before), Ordering::Relaxed)),
                    None => drop(self.records.fetch_add(1, Ordering::Relaxed)),
                }
            }
            Err(error) => tracing::debug!(%error, "the cache did not take a record"),
        }
    }

    fn take_out(&self, place: impl AsRef<[u8]>) {
        if let Ok(Some(gone)) = self.tree.remove(place) {
            self.records.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(size(&gone), Ordering::Relaxed);
        }
    }

    fn is_full(&self, limits: Limits) -> bool {
        self.records.load(Ordering::Relaxed) > limits.records || self.bytes.load(Ordering::Relaxed) > limits.bytes
    }

    /// Places are hashes, so the record after a random place is a random record.
    fn push_one_out(&self, chance: &RandomState) {
        let from = chance.hash_one(self.pushed_out.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
        let found = self.tree.get_gt(from).ok().flatten().or_else(|| self.tree.first().ok().flatten());
        if let Some((place, _value)) = found {
            self.take_out(place);
        }
    }

    /// Whether it is time to look at the size on disk.
    fn is_due(&self, limits: Limits) -> bool {
        let due = self.written.load(Ordering::Relaxed) >= limits.look_every;
        if due {
            self.written.store(0, Ordering::Relaxed);
        }
        due
    }

    fn is_too_big(&self, limits: Limits) -> bool {
        self.db.size_on_disk().unwrap_or(u64::MAX) > limits.disk_bytes
    }
}

fn size(stored: &[u8]) -> u64 {
    u64::try_from(stored.len()).unwrap_or(u64::MAX)
}

/// An empty cache in place of one that has grown too big.
fn start_anew(dir: &Path, big: Open) -> anyhow::Result<Open> {
    // Closes it: the files cannot be exchanged under it.
    drop(big);
    tracing::info!(folder = %dir.display(), "the cache has grown too big and starts anew");
    std::fs::remove_dir_all(dir).with_context(|| format!("removing the cache {}", dir.display()))?;
    Open::new(open_sled(dir).map_err(anyhow::Error::msg)?)
}

/// An empty cache in place of one that does not open.
fn start_over(dir: &Path, reason: &str) -> anyhow::Result<Open> {
    let aside = move_aside(dir).with_context(|| format!("{reason}; moving the cache {} aside", dir.display()))?;
    tracing::warn!(folder = %dir.display(), aside = %aside.display(), %reason,
        "the cache does not open: moved aside, starting an empty one");
    Open::new(open_sled(dir).map_err(anyhow::Error::msg).context("starting an empty cache")?)
}

fn without(dir: &Path, error: &anyhow::Error) {
    let error = format!("{error:#}");
    tracing::warn!(folder = %dir.display(), %error, "no cache on disk can be had: running without one");
}

/// Where a record lies: a hash, so that keys have one length and no order that a stranger could choose.
fn place(kind: Kind, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([kind.tag(), 0]);
    hash.update(key.as_bytes());
    hash.finalize().into()
}

/// sled lets go of its lock from a thread of its own, a moment after its last handle, or when a child that was being
/// forked just then is gone: so "in use" is believed only after two seconds.
fn open_when_free(dir: &Path) -> Result<sled::Db, String> {
    let mut opened = open_sled(dir);
    for _ in 0..LOCK_TRIES {
        if !opened.as_ref().is_err_and(|reason| is_locked(reason)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        opened = open_sled(dir);
    }
    opened
}

fn is_locked(reason: &str) -> bool {
    reason.contains("could not acquire lock")
}

/// sled panics over some damaged files; a panic is one more way not to open.
fn open_sled(dir: &Path) -> Result<sled::Db, String> {
    let config = sled::Config::new().path(dir).cache_capacity(MEMORY_BYTES).flush_every_ms(Some(5_000));
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_panic) => Err("sled panicked".to_owned()),
    }
}

/// Drops the trees of older rules. What cannot be dropped stays unread.
fn drop_older(db: &sled::Db) {
    for name in db.tree_names() {
        if name != NAMESPACE.as_bytes() && name != b"__sled__default" {
            let _ = db.drop_tree(name);
        }
    }
}

/// Renames the folder to `<name>.broken-<n>`.
fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let name = |n: u32| {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".broken-{n}"));
        dir.with_file_name(name)
    };
    let aside = (1..BROKEN_KEPT).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(BROKEN_KEPT));
    if aside.is_dir() {
        std::fs::remove_dir_all(&aside)?;
    }
    std::fs::rename(dir, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn records_survive_a_restart_and_kinds_do_not_meet() {
        let dir = folder();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        cache.put(Kind::Actor, "https://a.example/x", b"{}", NOON);
        cache.put(Kind::KeyOwner, "https://a.example/x", b"owner", NOON);
        drop(cache);
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let found = cache.get(Kind::Actor, "https://a.example/x");
        assert_eq!(found, Some(Cached { bytes: Bytes::from_static(b"{}"), at: NOON }));
        assert_eq!(cache.len(), 2);
        cache.remove(Kind::Actor, "https://a.example/x");
        assert!(!cache.contains(Kind::Actor, "https://a.example/x"));
        assert!(cache.contains(Kind::KeyOwner, "https://a.example/x"));
        assert_eq!(cache.get(Kind::Missing, "https://a.example/x"), None);
    }

    #[test]
    fn records_of_older_rules_are_never_read() {
        let dir = folder();
        let path = dir.path().join("cache");
        let old = open_sled(&path).unwrap();
        let tree = old.open_tree("v0").unwrap();
        tree.insert(place(Kind::Actor, "x"), [0; 12].as_slice()).unwrap();
        old.insert(place(Kind::Actor, "x"), [0; 12].as_slice()).unwrap();
        drop((tree, old));
        let cache = Cache::open(&path).unwrap();
        assert_eq!(cache.get(Kind::Actor, "x"), None);
        drop(cache);
        let names = open_sled(&path).unwrap().tree_names();
        assert!(!names.iter().any(|name| name.as_ref() == b"v0"), "{names:?}");
    }

    #[test]
    fn a_damaged_cache_is_moved_aside_and_started_anew() {
        let dir = folder();
        let path = dir.path().join("cache");
        for round in 1..=5 {
            drop(Cache::open(&path).unwrap());
            std::fs::write(path.join("conf"), b"not what sled wrote").unwrap();
            let cache = Cache::open(&path).unwrap();
            assert!(cache.is_empty(), "round {round}");
            cache.put(Kind::Actor, "x", b"1", NOON);
            assert!(cache.contains(Kind::Actor, "x"));
            drop(cache);
        }
        let broken = std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("cache.broken-"));
        assert_eq!(broken.count(), 3);
    }

    #[test]
    fn a_cache_in_use_is_left_alone() {
        let dir = folder();
        let path = dir.path().join("cache");
        let first = Cache::open(&path).unwrap();
        first.put(Kind::Actor, "x", b"1", NOON);
        let error = Cache::open(&path).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        assert!(first.contains(Kind::Actor, "x") && path.exists());
    }

    #[test]
    fn count_and_size_are_bounded() {
        let dir = folder();
        let cache = Cache::open_with(&dir.path().join("cache"), Limits { records: 50, ..LIMITS }).unwrap();
        for n in 0..500 {
            cache.put(Kind::Actor, &format!("https://a.example/{n}"), b"{}", NOON);
        }
        assert_eq!((cache.len(), cache.with(|open| Some(open.tree.len()))), (50, Some(50)));
        cache.put(Kind::Actor, "big", b"small", NOON);
        cache.put(Kind::Actor, "big", &vec![b'x'; MAX_VALUE_BYTES + 1], NOON);
        assert!(!cache.contains(Kind::Actor, "big"), "an old value must not outlive its successor");
    }

    #[test]
    fn the_sum_of_values_is_bounded_and_known_after_a_restart() {
        let dir = folder();
        let path = dir.path().join("cache");
        let limits = Limits { bytes: 100_000, ..LIMITS };
        let bytes = |cache: &Cache| cache.with(|open| Some(open.bytes.load(Ordering::Relaxed))).unwrap();
        let cache = Cache::open_with(&path, limits).unwrap();
        for n in 0..100 {
            for value in [&[b'x'; 10][..], &[b'x'; 4000]] {
                cache.put(Kind::Actor, &format!("https://a.example/{n}"), value, NOON);
            }
        }
        assert!((80_000..=100_000).contains(&bytes(&cache)), "{}", bytes(&cache));
        let before = (bytes(&cache), cache.len());
        drop(cache);
        let cache = Cache::open_with(&path, limits).unwrap();
        assert_eq!((bytes(&cache), cache.len()), before);
    }

    #[test]
    fn a_cache_that_outgrows_the_disk_starts_anew_while_running() {
        let dir = folder();
        let path = dir.path().join("cache");
        let limits = Limits { disk_bytes: 2 * 1024 * 1024, look_every: 100_000, ..LIMITS };
        let cache = Cache::open_with(&path, limits).unwrap();
        let clone = cache.clone();
        // Bytes that do not compress: else there is little to be written.
        let noise: Vec<u8> = (0..128_u64).flat_map(|n| <[u8; 32]>::from(Sha256::digest(n.to_be_bytes()))).collect();
        for n in 0..2000 {
            cache.put(Kind::Actor, &format!("https://a.example/{n}"), &noise, NOON);
        }
        assert!(cache.len() < 1000, "{} records of 4 KB", cache.len());
        assert!(cache.with(|open| open.db.size_on_disk().ok()).unwrap() < 4 * 1024 * 1024);
        cache.put(Kind::Actor, "x", b"1", NOON);
        assert!(clone.contains(Kind::Actor, "x"), "all handles see the new one");
        assert!(Cache::open(&path).is_err(), "which is open");
    }

    #[test]
    fn where_no_cache_can_be_made_nothing_is_kept() {
        let dir = folder();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let cache = Cache::open(&file.join("cache")).unwrap();
        cache.put(Kind::Actor, "x", b"1", NOON);
        assert_eq!((cache.get(Kind::Actor, "x"), cache.len()), (None, 0));
    }
}

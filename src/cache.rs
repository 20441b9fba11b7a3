//! The cache on disk, and the only file that knows sled: remote documents that can be fetched again, so that a restart
//! does not refetch the fediverse. What behaviour depends on is never kept here alone: sled 0.34 loses flushed records in
//! a power cut and its files may not open again (which is why `store` is another engine). Then the folder is moved aside
//! and the cache starts empty.
//!
//! Promises: a missing, damaged or full cache is a miss and never an error; records written under the rules of another
//! [`NAMESPACE`] are never read; count, size of values and size on disk are bounded.
//!
//! The calls block, for microseconds from memory and the length of one read from disk: short enough for async threads.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

/// The name of the tree in use. Change it whenever the rules change by which documents are checked before they are kept:
/// what was believed under the older rules is then dropped at the next start.
pub const NAMESPACE: &str = "v1";

/// Longer values are not kept. Actors are 2 to 10 KB; whoever sends more is fetched again.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Records kept; beyond it, each new one pushes out one at random, which costs no bookkeeping.
const MAX_RECORDS: usize = 200_000;

/// Beyond this size at the start, the cache starts anew: sled does not give space back on its own.
const MAX_DISK_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Pages that sled keeps in memory.
const MEMORY_BYTES: u64 = 16 * 1024 * 1024;

/// Broken folders that are kept to be looked at; then the last one is replaced.
const BROKEN_KEPT: u32 = 3;

/// What a record is; two kinds never share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An actor document, under its verified id.
    Actor,
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
pub struct Cache {
    tree: sled::Tree,
    records: Arc<AtomicUsize>,
    max_records: usize,
    chance: RandomState,
}

impl Cache {
    /// Opens the cache in this folder, or a new one if what is there does not open.
    ///
    /// # Errors
    /// Another process has it open, or not even an empty cache can be made: no permission, no space.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Self::open_with(dir, MAX_RECORDS)
    }

    fn open_with(dir: &Path, max_records: usize) -> anyhow::Result<Self> {
        let db = match open_sled(dir) {
            Ok(db) if db.size_on_disk().unwrap_or(u64::MAX) <= MAX_DISK_BYTES => db,
            Ok(db) => {
                drop(db);
                tracing::info!(folder = %dir.display(), "the cache has grown too big and starts anew");
                std::fs::remove_dir_all(dir).with_context(|| format!("removing the cache {}", dir.display()))?;
                open_sled(dir).map_err(anyhow::Error::msg)?
            }
            Err(reason) if reason.contains("could not acquire lock") => {
                anyhow::bail!("the cache {} is in use by another process", dir.display());
            }
            Err(reason) => {
                let aside = move_aside(dir).with_context(|| format!("moving the cache {} aside", dir.display()))?;
                tracing::warn!(folder = %dir.display(), aside = %aside.display(), %reason,
                    "the cache does not open: moved aside, starting an empty one");
                open_sled(dir).map_err(anyhow::Error::msg).context("starting an empty cache")?
            }
        };
        drop_older(&db);
        let tree = db.open_tree(NAMESPACE).context("opening the cache")?;
        let records = Arc::new(AtomicUsize::new(tree.len()));
        Ok(Self { tree, records, max_records, chance: RandomState::new() })
    }

    /// The record, if there is one that can be read.
    #[must_use]
    pub fn get(&self, kind: Kind, key: &str) -> Option<Cached> {
        let stored = self.tree.get(place(kind, key)).ok()??;
        let (at, bytes) = stored.split_first_chunk::<8>()?;
        Some(Cached { bytes: Bytes::copy_from_slice(bytes), at: Timestamp::from_millis(i64::from_be_bytes(*at)) })
    }

    /// Whether there is a record; does not read its value.
    #[must_use]
    pub fn contains(&self, kind: Kind, key: &str) -> bool {
        self.tree.contains_key(place(kind, key)).unwrap_or(false)
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
        match self.tree.insert(place(kind, key), stored) {
            Ok(Some(_before)) => {}
            Ok(None) => {
                let count = self.records.fetch_add(1, Ordering::Relaxed) + 1;
                if count > self.max_records {
                    self.push_one_out(count);
                }
            }
            Err(error) => tracing::debug!(%error, "the cache did not take a record"),
        }
    }

    /// Forgets a record.
    pub fn remove(&self, kind: Kind, key: &str) {
        if let Ok(Some(_gone)) = self.tree.remove(place(kind, key)) {
            self.records.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many records there are, about.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Places are hashes, so the record after a random place is a random record.
    fn push_one_out(&self, count: usize) {
        let from = self.chance.hash_one(count).to_be_bytes();
        let found = self.tree.get_gt(from).ok().flatten().or_else(|| self.tree.first().ok().flatten());
        if let Some((key, _value)) = found
            && let Ok(Some(_gone)) = self.tree.remove(key)
        {
            self.records.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Where a record lies: a hash, so that keys have one length and no order that a stranger could choose.
fn place(kind: Kind, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([kind.tag(), 0]);
    hash.update(key.as_bytes());
    hash.finalize().into()
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
        let cache = Cache::open_with(&dir.path().join("cache"), 50).unwrap();
        for n in 0..500 {
            cache.put(Kind::Actor, &format!("https://a.example/{n}"), b"{}", NOON);
        }
        assert_eq!((cache.len(), cache.tree.len()), (50, 50));
        cache.put(Kind::Actor, "big", b"small", NOON);
        cache.put(Kind::Actor, "big", &vec![b'x'; MAX_VALUE_BYTES + 1], NOON);
        assert!(!cache.contains(Kind::Actor, "big"), "an old value must not outlive its successor");
    }
}

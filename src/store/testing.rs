//! What the tests of store and log share: golden bytes, a subscriber, and an engine that counts its flushes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use serde_json::json;

use super::{Health, Mode, Registration, Rule, Severity, Source, Style, Subscriber, SubscriberState};
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};

/// The bytes that version 1 of a record had on somebody's disk, from `tests/fixtures/records/v1`. They must be what this
/// build writes for the same record; once a record has a version 2, its old bytes are only read ([`older`]).
pub(crate) fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    golden_of(1, name, written)
}

fn record_path(version: u8, name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/records/v{version}/{name}.bin"))
}

/// What an older version of a record had on disk.
pub(crate) fn older(version: u8, name: &str) -> Vec<u8> {
    std::fs::read(record_path(version, name)).unwrap()
}

/// [`golden`], for the version of a record that this build writes.
pub(crate) fn golden_of(version: u8, name: &str, written: &[u8]) -> Vec<u8> {
    let path = record_path(version, name);
    if std::env::var_os("SHEARWATER_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, written).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(
        kept == written,
        "{} differs from what this build writes: stores out there would not be read.\nA new field needs a default or a \
         new version. If no release wrote the old bytes, make new ones:\n\
         SHEARWATER_WRITE_GOLDEN=1 cargo test --lib golden\n kept: {}\nwrote: {}",
        path.display(),
        String::from_utf8_lossy(&kept),
        String::from_utf8_lossy(written),
    );
    kept
}

/// A subscriber with something in every field.
pub(crate) fn subscriber(host: &str) -> Subscriber {
    let iri = |path: &str| Iri::parse(&format!("https://{host}{path}")).unwrap();
    let at = Timestamp::from_secs(1_787_486_400);
    let health = Health {
        last_success: Some(at),
        last_failure: Some(at),
        last_reason: Some("HTTP 500".to_owned()),
        consecutive: 3,
        failed_days: 2,
        failing_since: Some(at),
        refused: 1,
        gone_since: Some(at),
        not_before: None,
        delivered: 0,
        dropped: 0,
        expired: 0,
    };
    let registration = Registration {
        actor: iri("/actor"),
        style: Style::Mastodon,
        inbox: iri("/inbox"),
        actor_inbox: iri("/actor/inbox"),
        follow: (&json!({ "id": format!("https://{host}/follows/1"), "type": "Follow" })).into(),
        at,
        personal: false,
    };
    Subscriber {
        authority: iri("/").authority(),
        slot: 3,
        state: SubscriberState::Active,
        start: Seq(4711),
        mode: Mode::Announce,
        registrations: vec![registration],
        joined_at: at,
        seen_at: at,
        health,
        vouched_for: false,
        paused: None,
        posts: 0,
    }
}

/// A rule with something in every field.
pub(crate) fn rule() -> Rule {
    let at = Timestamp::from_secs(1_787_486_400);
    Rule {
        target: "evil.example".parse().unwrap(),
        severity: Severity::Block,
        reason: "spam".to_owned(),
        note: "ticket 7".to_owned(),
        since: at,
        expires: Some(at.plus(Duration::from_secs(86_400))),
        source: Source::List("dni".to_owned()),
        dry_run: true,
    }
}

/// A disk in memory that knows how often it was flushed, and whether something was written since. A flush takes two
/// milliseconds, as on a good disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct CountingDisk(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    disk: InMemoryBackend,
    flushes: AtomicUsize,
    unflushed: AtomicBool,
    broken: AtomicBool,
}

impl CountingDisk {
    /// From now on every flush fails.
    pub(crate) fn break_down(&self) {
        self.0.broken.store(true, Ordering::SeqCst);
    }

    /// Another disk with what is on this one now: as a crash would leave it.
    pub(crate) fn copy(&self) -> Self {
        let mut bytes = vec![0; usize::try_from(self.0.disk.len().unwrap()).unwrap()];
        self.0.disk.read(0, &mut bytes).unwrap();
        let copy = Self::default();
        copy.0.disk.set_len(bytes.len() as u64).unwrap();
        copy.0.disk.write(0, &bytes).unwrap();
        copy
    }

    pub(crate) fn flushes(&self) -> usize {
        self.0.flushes.load(Ordering::SeqCst)
    }

    /// Whether something was written that is not on the disk yet.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.0.unflushed.load(Ordering::SeqCst)
    }
}

impl StorageBackend for CountingDisk {
    fn len(&self) -> std::io::Result<u64> {
        self.0.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.disk.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        std::thread::sleep(Duration::from_millis(2));
        if self.0.broken.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the disk broke"));
        }
        self.0.unflushed.store(false, Ordering::SeqCst);
        self.0.flushes.fetch_add(1, Ordering::SeqCst);
        self.0.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.unflushed.store(true, Ordering::SeqCst);
        self.0.disk.write(offset, data)
    }
}

/// Puts a row there that cannot be read.
pub(crate) async fn spoil<R: crate::store::Record>(store: &crate::store::Store, key: &'static str) {
    store.write(move |tx| tx.insert(crate::store::table::<R>(), key, b"no".as_slice())).await.unwrap();
}

//! What was acknowledged: one redb file, one writer. Only `store` and `log` know the engine.
//!
//! Every change is a job for the writer thread. It takes all jobs that arrived while the last commit ran, does them in
//! one transaction, makes that durable with one fsync, and only then answers: so "state changed and entry appended" is
//! one step, and a thousand requests share one disk flush. A job that says no, because a row that it needs is damaged or
//! for a reason of its own, is taken back alone and the others go on ([`Tx`] says how). If the engine fails, or a commit,
//! nothing of its jobs happened, the store takes no more and says so ([`Store::failed`]): going on after a failed fsync
//! would be a lie.
//!
//! Readers never wait for the writer. What every request asks for (subscribers, seen ids) is also held in memory,
//! changed only after the commit that made it true.

mod arrivals;
mod audit;
mod authorities;
mod ballots;
mod catalogue;
mod check;
mod codec;
mod control;
mod cursors;
mod edited;
mod export;
mod file;
mod following;
mod held;
mod import;
mod knocks;
mod ledger;
mod lists;
mod publishers;
mod refusals;
mod refused;
mod room;
mod rules;
mod search_servers;
mod seen;
mod snapshot;
mod subscribers;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod trends;
mod tx;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use arrivals::{Arrivals, HOURS_KEPT};
pub use audit::{Act, AuditEntry, KEPT as AUDIT_KEPT, MOST as MOST_AUDITED};
pub use authorities::{AuthorityFacts, Sharing};
pub use ballots::{
    Ballot, BallotChange, BallotKey, BallotPage, BallotView, Choice, MOST_OF_AUTHOR, MOST_THINGS, Subject, Voted,
    hour_of, target,
};
pub use check::{Fault, Faults, TableSize};
pub use codec::{Record, decode, encode, frame, unframe};
pub use control::{ControlRow, ControlTally, Directive};
pub use cursors::{CursorBook, Position};
pub use edited::Edited;
pub use export::{Ended, Exported, Whole, export};
pub use file::{UNFINISHED, make_private};
pub use following::{FollowState, Following};
pub use held::{HeldKind, HeldPost, HeldTally, Hold, MAX_HELD, MAX_HELD_PER_SERVER};
pub use import::{NextPlace, foresee, import};
pub use knocks::{KNOCK_LIFE, Knock, Knocks, Said};
pub use ledger::{
    Change, Hidden, IndexedAuthor, IndexedPost, LedgerCounts, LedgerView, Leftover, Mended, Noted, PostPage,
    first_number_at,
};
pub use lists::{FeedState, ListFeed, ListText, ListVersion, MAX_FEEDS};
pub use publishers::{MAX_PUBLISHERS, Publisher};
pub use refusals::{MOST_OF_DOMAIN, NOT_KEPT, Origin, Refusal, Refusals};
pub use refused::{Refused, SearchKey, Suppressed, Wish};
pub use rules::{MAX_NOTE, MAX_REASON, Rule, RuleChange, Severity, Source, Target, TargetFault};
pub use search_servers::{Leaving, SearchFollow, SearchServer, SearchServers, SwitchedBy, SwitchedOff};
pub use seen::{Sealed, SeenSet};
pub use snapshot::{Moved, Snapshot, look_through, make_of_rows};
pub use subscribers::{
    Health, MAX_REGISTRATIONS, Mode, Packed, Paused, Registration, Style, Subscriber, SubscriberState,
};
pub use tokens::{ApiToken, MAX_TOKENS, Scope};
pub use trends::{
    Conditions, Place, TrendClosed, TrendRuling, TrendServed, Usual, UsualDay, UsualHour, UsualView, ruling_key,
};
pub use tx::Tx;

use crate::clock::Clock;
use crate::ids::{Authority, Seq};

/// Jobs that may wait for the writer. Beyond it the answer is [`StoreError::Busy`], and the client's 503.
const QUEUE: usize = 2048;
/// Jobs done in one transaction: enough to share an fsync, few enough to bound the wait and the memory.
const BATCH: usize = 512;

/// Rows looked at, and removed at once, when old ones are forgotten.
const FORGET_PAGE: usize = 500;

/// Up to this size of the file, a start reads all of it and checks every checksum: that takes fractions of a second. With
/// a million entries it would take ten and more, after a crash in any case; so from this size on commits also write down
/// which pages are in use, and a start reads next to nothing. That costs a second fsync and some ten kilobytes per commit
/// and gigabyte.
const LONG_REPAIR: u64 = 256 << 20;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// Why the store could not do it.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Too many jobs wait: try again in a second.
    #[error("the store has more work waiting than it takes")]
    Busy,
    /// The engine or the disk failed, or the store was closed. Nothing of the job happened.
    #[error("the store failed: {0}")]
    Failed(String),
    /// As much is kept back for the operator as may be: the sender tries again later. Nothing of the job happened.
    #[error("as many posts wait for the operator as are kept")]
    Full,
    /// A job said no for a reason of its own. Nothing of it happened, and the store goes on.
    #[error("{0}")]
    Declined(String),
    /// What a job was to change is not there. Nothing of it happened, and the store goes on.
    #[error("{0}")]
    Absent(String),
    /// A record is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// A later build wrote it.
    #[error("table {table} holds version {version}, from a later release: run that release")]
    Newer {
        /// The table.
        table: &'static str,
        /// The version found.
        version: u8,
    },
}

impl StoreError {
    /// After these nothing more can be promised; after all others the store goes on.
    const fn is_the_engines(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

macro_rules! engine_errors {
    ($($kind:ty),*) => {$(
        impl From<$kind> for StoreError {
            fn from(error: $kind) -> Self {
                Self::Failed(error.to_string())
            }
        }
    )*};
}
engine_errors!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

/// A handle to the store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Database,
    path: PathBuf,
    clock: Clock,
    secret: [u8; 32],
    search_key: RwLock<[u8; 32]>,
    jobs: mpsc::Sender<Job>,
    failed: CancellationToken,
    subscribers: watch::Sender<Arc<HashMap<Authority, Arc<Subscriber>>>>,
    search_servers: watch::Sender<SearchServers>,
    /// The newest change of the ledger.
    changed: watch::Sender<Seq>,
    /// Changes of ballots, for who counts.
    feed: ballots::Feed,
    /// A row of the ledger could not be read.
    damaged: AtomicBool,
    /// Tables of which it was said that rows cannot be read.
    told: Mutex<BTreeSet<&'static str>>,
    seen: RwLock<seen::Memory>,
    room: room::Room,
}

type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Result<Answer, StoreError> + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Store {
    /// Opens `dir/shearwater.redb`, making it if it is not there.
    ///
    /// # Errors
    /// A sentence with the path if the file is in use, damaged, or another program's.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = dir.join("shearwater.redb");
        Self::on(file::open(&path)?, path, clock)
    }

    /// The same, and every page of the file is verified, however large it is.
    ///
    /// # Errors
    /// As there.
    pub fn open_thoroughly(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = dir.join("shearwater.redb");
        Self::on(file::open_thoroughly(&path)?, path, clock)
    }

    fn on(db: Database, path: PathBuf, clock: Clock) -> Result<Self, StoreError> {
        let secret = file::prepare(&db, &path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let inner = Inner {
            secret,
            search_key: RwLock::default(),
            jobs,
            room: room::Room::on_disk(path.parent().unwrap_or(&path).to_owned()),
            path,
            failed: CancellationToken::new(),
            subscribers: watch::Sender::default(),
            search_servers: watch::Sender::default(),
            changed: watch::Sender::new(ledger::last_change(&db)?),
            feed: ballots::Feed::default(),
            damaged: AtomicBool::new(false),
            told: Mutex::default(),
            seen: RwLock::new(seen::Memory::load(&db)?),
            clock,
            db,
        };
        let store = Self(Arc::new(inner));
        store.reload_subscribers()?;
        store.reload_search_servers()?;
        store.load_search_key()?;
        start_writer(store.clone(), queue)?;
        Ok(store)
    }

    /// Does `job` in the next transaction; returns when it is durable.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if too many wait; otherwise what the job or the engine said. Nothing of it happened then.
    pub async fn write<R, F>(&self, job: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        let (job, answer) = pack(job);
        self.0.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        answer.await.map_err(|_dropped| closed())?
    }

    /// One record; `None` if there is none.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let read = self.0.db.begin_read()?;
        let Some(table) = existing(read.open_table(table::<R>()))? else { return Ok(None) };
        table.get(key)?.map(|row| decode(row.value())).transpose()
    }

    /// All records of a table in the order of their keys.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn all<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        self.page("", usize::MAX)
    }

    /// At most `count` records whose keys are `from` or later.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn page<R: Record>(&self, from: &str, count: usize) -> Result<Vec<(String, R)>, StoreError> {
        let read = self.0.db.begin_read()?;
        let Some(table) = existing(read.open_table(table::<R>()))? else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for row in table.range(from..)?.take(count) {
            let (key, value) = row?;
            rows.push((key.value().to_owned(), decode(value.value())?));
        }
        Ok(rows)
    }

    /// Those of at most `count` records whose keys are `from` or later that can be read.
    ///
    /// # Errors
    /// The engine's.
    pub fn sound_page<R: Record>(&self, from: &str, count: usize) -> Result<Page<R>, StoreError> {
        let read = self.0.db.begin_read()?;
        let mut page = Page { rows: Vec::new(), damaged: Vec::new(), next: None };
        let Some(table) = existing(read.open_table(table::<R>()))? else { return Ok(page) };
        for row in table.range(from..)?.take(count) {
            let (key, value) = row?;
            let key = key.value().to_owned();
            page.next = Some(format!("{key}\0"));
            match decode(value.value()) {
                Ok(record) => page.rows.push((key, record)),
                Err(StoreError::Damaged(_)) => page.damaged.push(key),
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    /// Removes the records that are old, a page at a time.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget<R: Record>(&self, is_old: impl Fn(&R) -> bool) -> Result<(), StoreError> {
        let mut from = String::new();
        loop {
            let page = self.sound_page::<R>(&from, FORGET_PAGE)?;
            let Some(next) = page.next else { return Ok(()) };
            from = next;
            let old = page.rows.into_iter().filter(|(_, row)| is_old(row)).map(|(key, _)| key);
            let old: Vec<String> = old.collect();
            if !old.is_empty() {
                self.write(move |tx| old.iter().try_for_each(|key| tx.remove::<R>(key).map(drop))).await?;
            }
        }
    }

    /// All records of a table that can be read, in the order of their keys: for what is shown, where one damaged row is not to
    /// hide all others. That there is one is logged once.
    ///
    /// # Errors
    /// The engine's, or that a later release wrote one.
    pub fn all_sound<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let page = self.sound_page::<R>("", usize::MAX)?;
        if !page.damaged.is_empty() {
            let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.insert(R::TABLE) {
                let count = page.damaged.len();
                tracing::error!(table = R::TABLE, count, "rows cannot be read: `shearwater check` names them");
            }
        }
        Ok(page.rows)
    }

    /// Whether there is a row of this key, readable or not.
    fn has<R: Record>(&self, key: &str) -> Result<bool, StoreError> {
        let read = self.0.db.begin_read()?;
        let Some(table) = existing(read.open_table(table::<R>()))? else { return Ok(false) };
        Ok(table.get(key)?.is_some())
    }

    /// All keys of a table in order; what lies under them is not read.
    fn keys<R: Record>(&self) -> Result<Vec<String>, StoreError> {
        let read = self.0.db.begin_read()?;
        let Some(table) = existing(read.open_table(table::<R>()))? else { return Ok(Vec::new()) };
        table.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
    }

    /// Fires when a commit failed and the store takes no more: the daemon must stop.
    #[must_use]
    pub fn failed(&self) -> &CancellationToken {
        &self.0.failed
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.0.path).map_or(0, |meta| meta.len())
    }

    /// What is free on the disk for us, in bytes, read four times a second at most. A disk that does not say is taken to
    /// be endless.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.0.room.free()
    }

    pub(crate) fn engine(&self) -> &Database {
        &self.0.db
    }
}

/// Some records in the order of their keys.
#[derive(Debug)]
pub struct Page<R> {
    /// Those that can be read.
    pub rows: Vec<(String, R)>,
    /// The keys of those that cannot.
    pub damaged: Vec<String>,
    /// Where to go on; `None`: there was none at all.
    pub next: Option<String>,
}

fn table<R: Record>() -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(R::TABLE)
}

/// A table that was never written reads as empty.
pub(crate) fn existing<T>(opened: Result<T, redb::TableError>) -> Result<Option<T>, StoreError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn closed() -> StoreError {
    StoreError::Failed("it was closed".to_owned())
}

fn pack<R, F>(job: F) -> (Job, oneshot::Receiver<Result<R, StoreError>>)
where
    R: Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    // A job that panics is a bug, and its own alone: it is taken back like one that says no. If the panic was the
    // engine's, the engine refuses the commit.
    let run = move |tx: &mut Tx<'_>| {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(tx)));
        done.unwrap_or_else(|_panic| Err(StoreError::Declined("the job panicked".to_owned())))
    };
    let job: Job = Box::new(move |tx| match run(tx) {
        Ok(result) => Ok(Box::new(move |committed: Result<(), StoreError>| {
            // Whoever asked may have gone; what was done stays done.
            let _ = tell.send(committed.map(|()| result));
        })),
        Err(error) => {
            let _ = tell.send(Err(error.clone()));
            Err(error)
        }
    });
    (job, told)
}

fn start_writer(store: Store, mut queue: mpsc::Receiver<Job>) -> Result<(), StoreError> {
    // The thread holds the store weakly: the last handle that goes closes the queue, and so ends the thread.
    let (weak, failed) = (Arc::downgrade(&store.0), store.0.failed.clone());
    drop(store);
    let run = move || {
        while let Some(first) = queue.blocking_recv() {
            let Some(inner) = weak.upgrade() else { break };
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(job) = queue.try_recv() else { break };
                batch.push(job);
            }
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write_batch(Store(inner), batch)));
            if !matches!(written, Ok(Ok(()))) {
                tracing::error!(result = ?written.map_err(|_panic| "panic"), "the store failed; nothing more is taken");
                failed.cancel();
                break;
            }
        }
    };
    std::thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(run)
        .map_err(|error| StoreError::Failed(format!("no thread for the writer: {error}")))?;
    Ok(())
}

/// One transaction for all: answers are given when it is durable, or has failed.
fn write_batch(store: Store, batch: Vec<Job>) -> Result<(), StoreError> {
    let mut answers = Vec::with_capacity(batch.len());
    let done = fill_and_commit(&store, batch, &mut answers);
    // Before it answers: whoever hears the last answer may drop the last handle and open the file anew.
    drop(store);
    for answer in answers {
        answer(done.clone());
    }
    done
}

fn fill_and_commit(store: &Store, batch: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
    let mut engine = store.0.db.begin_write()?;
    // The engine's default, said aloud because the 202 rests on it.
    engine.set_durability(redb::Durability::Immediate)?;
    engine.set_quick_repair(store.file_bytes() >= LONG_REPAIR);
    let mut tx = Tx::new(store, &engine);
    for job in batch {
        answers.extend(tx.run(job)?);
    }
    let (staged, hooks) = tx.finish();
    staged.write(&engine)?;
    engine.commit()?;
    staged.remember(store);
    for hook in hooks {
        hook(store);
    }
    Ok(())
}

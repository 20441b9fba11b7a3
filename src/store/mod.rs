//! What was acknowledged: one redb file, one writer. Only `store` and `log` know the engine.
//!
//! Every change is a job for the writer thread. It takes all jobs that arrived while the last commit ran, does them in
//! one transaction, makes that durable with one fsync, and only then answers: so "state changed and entry appended" is
//! one step, and a thousand requests share one disk flush. If a commit fails, nothing of its jobs happened, the store
//! takes no more and says so ([`Store::failed`]): going on after a failed fsync would be a lie.
//!
//! Readers never wait for the writer. What every request asks for (subscribers, seen ids) is also held in memory,
//! changed only after the commit that made it true.

mod authorities;
mod backup;
mod codec;
mod control;
mod cursors;
mod following;
mod refusals;
mod seen;
mod subscribers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use authorities::AuthorityFacts;
pub use backup::{Exported, export, import};
pub use codec::{Record, frame, unframe};
pub use control::{ControlRow, Directive};
pub use cursors::{CursorBook, Position};
pub use following::{FollowState, Following};
pub use refusals::{Refusal, Refusals};
pub use seen::{Sealed, SeenSet};
pub use subscribers::{Health, MAX_REGISTRATIONS, Mode, Registration, Style, Subscriber, SubscriberState};

use crate::clock::Clock;
use crate::ids::Authority;

/// Jobs that may wait for the writer. Beyond it the answer is [`StoreError::Busy`], and the client's 503.
const QUEUE: usize = 2048;
/// Jobs done in one transaction: enough to share an fsync, few enough to bound the wait and the memory.
const BATCH: usize = 512;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const LAYOUT: &[u8] = b"shearwater-1";

/// Why the store could not do it.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Too many jobs wait: try again in a second.
    #[error("the store has more work waiting than it takes")]
    Busy,
    /// The engine or the disk failed, or the store was closed. Nothing of the job happened.
    #[error("the store failed: {0}")]
    Failed(String),
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

macro_rules! engine_errors {
    ($($kind:ty),*) => {$(
        impl From<$kind> for StoreError {
            fn from(error: $kind) -> Self {
                Self::Failed(error.to_string())
            }
        }
    )*};
}
engine_errors!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError, redb::DatabaseError);

/// A handle to the store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Database,
    path: PathBuf,
    clock: Clock,
    secret: [u8; 32],
    jobs: mpsc::Sender<Job>,
    failed: CancellationToken,
    subscribers: watch::Sender<Arc<HashMap<Authority, Arc<Subscriber>>>>,
    seen: RwLock<seen::Memory>,
}

type Job = Box<dyn FnOnce(&mut Tx<'_>) -> Result<Answer, StoreError> + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Hook = Box<dyn FnOnce(&Store) + Send>;

/// The writer's transaction, as a job sees it: typed tables, the seen-sets, and what to do once it is durable.
pub struct Tx<'db> {
    store: &'db Store,
    engine: &'db WriteTransaction,
    staged: seen::Staged,
    hooks: Vec<Hook>,
}

impl Store {
    /// Opens `dir/shearwater.redb`, making it if it is not there.
    ///
    /// # Errors
    /// A sentence with the path if the file is in use, damaged, or another program's.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        let path = dir.join("shearwater.redb");
        let db = open_engine(&path)?;
        let secret = prepare(&db, &path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let inner = Inner {
            secret,
            jobs,
            path,
            failed: CancellationToken::new(),
            subscribers: watch::Sender::default(),
            seen: RwLock::new(seen::Memory::load(&db)?),
            clock,
            db,
        };
        let store = Self(Arc::new(inner));
        store.reload_subscribers()?;
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
        table.get(key)?.map(|row| codec::decode(row.value())).transpose()
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
            rows.push((key.value().to_owned(), codec::decode(value.value())?));
        }
        Ok(rows)
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

    pub(crate) fn engine(&self) -> &Database {
        &self.0.db
    }
}

impl Tx<'_> {
    /// One record as this transaction sees it.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let table = self.engine.open_table(table::<R>())?;
        let row = table.get(key)?;
        row.map(|row| codec::decode(row.value())).transpose()
    }

    /// Writes one record.
    ///
    /// # Errors
    /// The engine's.
    pub fn put<R: Record>(&mut self, key: &str, record: &R) -> Result<(), StoreError> {
        let bytes = codec::encode(record)?;
        self.engine.open_table(table::<R>())?.insert(key, bytes.as_slice())?;
        Ok(())
    }

    /// Removes one record; whether there was one.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove<R: Record>(&mut self, key: &str) -> Result<bool, StoreError> {
        let mut table = self.engine.open_table(table::<R>())?;
        let there = table.remove(key)?.is_some();
        Ok(there)
    }

    /// A counter that never repeats, durable with this transaction: 1, 2, 3, …
    ///
    /// # Errors
    /// The engine's.
    pub fn next_number(&mut self, name: &str) -> Result<u64, StoreError> {
        let mut meta = self.engine.open_table(META)?;
        let last = meta.get(name)?.map_or(0, |row| number(row.value()));
        let next = last.saturating_add(1);
        meta.insert(name, next.to_be_bytes().as_slice())?;
        Ok(next)
    }

    /// Runs `hook` after the commit, before anybody is told.
    pub fn after_commit(&mut self, hook: impl FnOnce(&Store) + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    pub(crate) fn engine(&self) -> &WriteTransaction {
        self.engine
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
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

/// A damaged file can make the engine panic while it opens; for the operator that is a sentence like any other.
#[expect(clippy::disallowed_methods, reason = "the one place that opens the store")]
fn open_engine(path: &Path) -> Result<Database, StoreError> {
    let create = std::panic::AssertUnwindSafe(|| Database::create(path));
    match std::panic::catch_unwind(create) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
            Err(StoreError::Failed(format!("{} is in use: another shearwater runs on this folder", path.display())))
        }
        Ok(Err(error)) => Err(StoreError::Damaged(format!("{}: {error}. Restore the backup.", path.display()))),
        Err(_panic) => Err(StoreError::Damaged(format!(
            "{}: the file is not readable as a store. Restore the backup.",
            path.display()
        ))),
    }
}

/// Marks a new file as ours, refuses another layout, and returns the secret that ids are hashed with.
fn prepare(db: &Database, path: &Path) -> Result<[u8; 32], StoreError> {
    let tx = db.begin_write()?;
    let secret = {
        let mut meta = tx.open_table(META)?;
        let layout = meta.get("layout")?.map(|row| row.value().to_vec());
        match layout.as_deref() {
            None => {
                meta.insert("layout", LAYOUT)?;
                meta.insert("secret", rand::random::<[u8; 32]>().as_slice())?;
            }
            Some(LAYOUT) => {}
            Some(other) => {
                let found = String::from_utf8_lossy(other).into_owned();
                return Err(StoreError::Failed(format!(
                    "{} has the layout {found:?}; this release reads {:?}",
                    path.display(),
                    String::from_utf8_lossy(LAYOUT),
                )));
            }
        }
        let row = meta.get("secret")?.map(|row| row.value().to_vec()).unwrap_or_default();
        <[u8; 32]>::try_from(row)
            .map_err(|_short| StoreError::Damaged(format!("{}: no secret in it", path.display())))?
    };
    tx.commit()?;
    Ok(secret)
}

fn pack<R, F>(job: F) -> (Job, oneshot::Receiver<Result<R, StoreError>>)
where
    R: Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Result<R, StoreError> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let job: Job = Box::new(move |tx| match job(tx) {
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
    let weak = Arc::downgrade(&store.0);
    drop(store);
    let run = move || {
        while let Some(first) = queue.blocking_recv() {
            let Some(inner) = weak.upgrade() else { break };
            let store = Store(inner);
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(job) = queue.try_recv() else { break };
                batch.push(job);
            }
            let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write_batch(&store, batch)));
            if !matches!(written, Ok(Ok(()))) {
                tracing::error!(result = ?written.map_err(|_panic| "panic"), "the store failed; nothing more is taken");
                store.0.failed.cancel();
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
fn write_batch(store: &Store, batch: Vec<Job>) -> Result<(), StoreError> {
    let mut answers = Vec::with_capacity(batch.len());
    let done = fill_and_commit(store, batch, &mut answers);
    for answer in answers {
        answer(done.clone());
    }
    done
}

fn fill_and_commit(store: &Store, batch: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), StoreError> {
    let engine = store.0.db.begin_write()?;
    let mut tx = Tx { store, engine: &engine, staged: seen::Staged::default(), hooks: Vec::new() };
    for job in batch {
        answers.push(job(&mut tx)?);
    }
    let Tx { staged, hooks, .. } = tx;
    staged.write(&engine)?;
    engine.commit()?;
    staged.remember(store);
    for hook in hooks {
        hook(store);
    }
    Ok(())
}

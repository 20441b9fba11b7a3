//! The activity log: one durable, append-only list that everything reads with a cursor of its own. An entry is appended
//! in the transaction that took note of what it is about, and only then does the inbox answer 202.
//!
//! Bodies are kept once, as they came. The newest entries are also held in memory, so that lanes that keep up never
//! touch the disk. [`Log::trim`] forgets old entries; the last one always stays, so that numbers never repeat. Where none is
//! left because a backup was put back, a number that is kept for that says where to go on ([`Log::begin_after`]).

mod check;
mod entry;

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use redb::{ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use tokio::sync::watch;

pub use entry::{Draft, Entry, Kind};

use crate::clock::Timestamp;
use crate::ids::Seq;
use crate::store::{Snapshot, Store, StoreError, Tx, existing};

const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
/// Announce ids that answer: the hash in the id → the entry it announces.
const ANNOUNCES: TableDefinition<'static, &str, u64> = TableDefinition::new("announces");
/// The newest entries in memory: at most so many, and so many bytes of body.
const TAIL_ENTRIES: usize = 8192;
const TAIL_BYTES: usize = 32 << 20;
/// The number below which no entry gets its place, although there is none. See [`Log::begin_after`].
const FLOOR: &str = "log_floor";
/// Entries forgotten in one transaction.
const TRIM_BATCH: usize = 1000;

/// A handle to the log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    store: Store,
    tail: Arc<RwLock<Tail>>,
    head: Arc<watch::Sender<Seq>>,
}

#[derive(Default)]
struct Tail {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Bytes of all bodies that were appended since the start.
    appended: u64,
}

impl Log {
    /// Opens the log of `store`.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let (head, _) = watch::channel(head_of(&store.snapshot()?)?);
        Ok(Self { store: store.clone(), tail: Arc::default(), head: Arc::new(head) })
    }

    /// Appends in the transaction `tx`; the entry's place. Readers see it once it is durable.
    ///
    /// # Errors
    /// The engine's.
    pub fn append(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<Seq, StoreError> {
        let seq = Self::next_in(tx)?;
        tx.insert(LOG, seq.0, draft.encode()?.as_slice())?;
        if draft.kind == Kind::Create {
            let hash = draft.announce_hash();
            // What came for the search alone takes no other entry's place: its author is known by it, and that is all.
            let is_free = draft.relayed || tx.engine().open_table(ANNOUNCES)?.get(hash.as_str())?.is_none();
            if is_free {
                tx.insert(ANNOUNCES, hash.as_str(), seq.0)?;
            }
        }
        let (log, entry) = (self.clone(), Arc::new(Entry { seq, draft }));
        tx.after_commit(move |_store| log.publish(entry));
        Ok(seq)
    }

    /// The place that the next entry of the transaction `tx` gets.
    ///
    /// # Errors
    /// The engine's.
    pub fn next_in(tx: &Tx<'_>) -> Result<Seq, StoreError> {
        let last = tx.engine().open_table(LOG)?.last()?.map(|(seq, _)| seq.value());
        Ok(Seq(last.map_or_else(|| tx.number(FLOOR), Ok)?).next())
    }

    /// From now on places come after `last`: the log is empty, and its numbers have been given out. Not for a log that holds
    /// anything.
    ///
    /// # Errors
    /// The engine's; [`StoreError::Declined`] if there are entries.
    pub fn begin_after(tx: &mut Tx<'_>, last: Seq) -> Result<(), StoreError> {
        if tx.engine().open_table(LOG)?.first()?.is_some() {
            return Err(StoreError::Declined("the log is not empty".to_owned()));
        }
        tx.set_number(FLOOR, last.0)
    }

    /// The last entry's place; 0 if there was never one.
    #[must_use]
    pub fn head(&self) -> Seq {
        *self.head.borrow()
    }

    /// Tells of every move of the head.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Seq> {
        self.head.subscribe()
    }

    /// The first entry at `from` or later; `None` if there is none yet. Places may be missing where entries were trimmed.
    ///
    /// # Errors
    /// The engine's, or a damaged entry.
    pub fn at_or_after(&self, from: Seq) -> Result<Option<Arc<Entry>>, StoreError> {
        {
            let tail = self.tail.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(first) = tail.entries.front()
                && first.seq <= from
            {
                let index = usize::try_from(from.0 - first.seq.0).unwrap_or(usize::MAX);
                return Ok(tail.entries.get(index).cloned());
            }
        }
        if from > self.head() {
            return Ok(None);
        }
        let read = self.store.engine().begin_read()?;
        let Some(table) = existing(read.open_table(LOG))? else { return Ok(None) };
        let row = table.range(from.0..)?.next().transpose()?;
        row.map(|(seq, bytes)| Entry::decode(Seq(seq.value()), bytes.value()).map(Arc::new)).transpose()
    }

    /// The entry that the Announce id with this hash speaks of, while the log keeps it; or one that came for the search
    /// alone and was never announced.
    ///
    /// # Errors
    /// The engine's, or a damaged entry.
    pub fn announced(&self, hash: &str) -> Result<Option<Arc<Entry>>, StoreError> {
        let read = self.store.engine().begin_read()?;
        let Some(table) = existing(read.open_table(ANNOUNCES))? else { return Ok(None) };
        let Some(seq) = table.get(hash)?.map(|row| Seq(row.value())) else { return Ok(None) };
        Ok(self.at_or_after(seq)?.filter(|entry| entry.seq == seq))
    }

    /// Forgets entries accepted before `before` whose place is below `keep_from`, a thousand at a time; how many. A damaged
    /// one among them goes too, whatever its age: nobody can read it.
    ///
    /// # Errors
    /// The store's.
    pub async fn trim(&self, before: Timestamp, keep_from: Seq) -> Result<usize, StoreError> {
        let limit = keep_from.min(self.head());
        self.store.write(move |tx| trim_batch(tx, before, limit)).await
    }

    /// Bytes of the bodies that were appended since the start.
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.tail.read().unwrap_or_else(std::sync::PoisonError::into_inner).appended
    }

    /// Entries kept.
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Result<u64, StoreError> {
        let read = self.store.engine().begin_read()?;
        existing(read.open_table(LOG))?.map_or(Ok(0), |table| Ok(table.len()?))
    }

    /// Whether nothing was ever appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head() == Seq(0)
    }

    /// Called in the writer thread, in order, after the commit.
    fn publish(&self, entry: Arc<Entry>) {
        let seq = entry.seq;
        {
            let mut tail = self.tail.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            tail.bytes += entry.body.len();
            tail.appended += entry.body.len() as u64;
            tail.entries.push_back(entry);
            while tail.entries.len() > TAIL_ENTRIES || (tail.bytes > TAIL_BYTES && tail.entries.len() > 1) {
                let gone = tail.entries.pop_front();
                tail.bytes -= gone.map_or(0, |gone| gone.body.len());
            }
        }
        self.head.send_replace(seq);
    }
}

/// The last place that was given out.
fn head_of(snapshot: &Snapshot) -> Result<Seq, StoreError> {
    let last = match existing(snapshot.read().open_table(LOG))? {
        Some(table) => table.last()?.map(|(seq, _)| seq.value()),
        None => None,
    };
    Ok(Seq(last.map_or_else(|| snapshot.number(FLOOR), Ok)?))
}

/// Everything is decided before anything is written, so that nothing has to be taken back.
fn trim_batch(tx: &mut Tx<'_>, before: Timestamp, limit: Seq) -> Result<usize, StoreError> {
    let mut old = Vec::new();
    let mut damaged = 0_u32;
    let mut table = tx.engine().open_table(LOG)?;
    for row in table.range(..limit.0)?.take(TRIM_BATCH) {
        let (seq, bytes) = row?;
        let seq = Seq(seq.value());
        match Entry::decode(seq, bytes.value()) {
            Ok(entry) if entry.at >= before => break,
            Ok(entry) => old.push((seq, (entry.kind == Kind::Create).then(|| entry.announce_hash()))),
            Err(StoreError::Damaged(why)) => {
                tracing::error!(log.seq = %seq, why, "a damaged entry is forgotten");
                damaged += 1;
                old.push((seq, None));
            }
            Err(error) => {
                // A later release wrote it and can read it: it stays until that one runs again.
                tracing::warn!(log.seq = %seq, %error, "the log is not trimmed beyond this entry");
                break;
            }
        }
    }
    if damaged > 0 {
        tracing::error!(damaged, "entries of the log could not be read: is the disk failing?");
    }
    let mut announces = tx.engine().open_table(ANNOUNCES)?;
    for (seq, hash) in &old {
        table.remove(seq.0)?;
        let Some(hash) = hash else { continue };
        // It may speak of a later entry: one that came for the search first, and then by the relay.
        let is_its_own = announces.get(hash.as_str())?.is_some_and(|row| row.value() == seq.0);
        if is_its_own {
            announces.remove(hash.as_str())?;
        }
    }
    Ok(old.len())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::ids::Iri;

    fn draft(at: Timestamp, number: u64) -> Draft {
        let iri = |text: String| Iri::parse(&text).unwrap();
        Draft {
            at,
            kind: Kind::Create,
            object: iri(format!("https://a.example/notes/{number}")),
            actor: iri("https://a.example/users/ada".to_owned()),
            activity: format!("https://a.example/notes/{number}/activity"),
            supplier: iri("https://a.example/".to_owned()).authority(),
            carried: true,
            published: None,
            relayed: true,
            body: bytes::Bytes::from(format!("{{\"n\":{number}}}")),
        }
    }

    #[tokio::test]
    async fn entries_are_numbered_read_trimmed_and_never_renumbered() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let log = Log::open(&store).unwrap();
        let mut head = log.follow();
        for number in 1..=5 {
            let (writer, draft) = (log.clone(), draft(clock.now(), number));
            let seq = store.write(move |tx| writer.append(tx, draft)).await.unwrap();
            assert_eq!(seq, Seq(number));
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(*head.borrow_and_update(), Seq(5));
        let cold = Log::open(&store).unwrap();
        for log in [&log, &cold] {
            let third = log.at_or_after(Seq(3)).unwrap().unwrap();
            assert_eq!((third.seq, &third.body[..]), (Seq(3), &b"{\"n\":3}"[..]));
            assert!(log.at_or_after(Seq(6)).unwrap().is_none());
            assert_eq!(log.announced(&third.announce_hash()).unwrap().unwrap().seq, Seq(3));
        }
        let hash = cold.at_or_after(Seq(1)).unwrap().unwrap().announce_hash();
        assert_eq!(cold.trim(clock.now(), Seq(4)).await.unwrap(), 3);
        assert_eq!(cold.trim(clock.now(), Seq(100)).await.unwrap(), 1, "the last one stays");
        assert_eq!(cold.at_or_after(Seq(1)).unwrap().unwrap().seq, Seq(5));
        assert!(cold.announced(&hash).unwrap().is_none());
        assert_eq!(Log::open(&store).unwrap().head(), Seq(5));
    }

    #[tokio::test]
    async fn an_empty_log_goes_on_where_it_was_told_to_and_one_with_entries_is_told_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        store.write(|tx| Log::begin_after(tx, Seq(4711))).await.unwrap();
        let log = Log::open(&store).unwrap();
        assert_eq!(log.head(), Seq(4711));
        assert!(log.at_or_after(Seq(1)).unwrap().is_none());
        for number in [4712, 4713] {
            let (writer, draft) = (log.clone(), draft(clock.now(), number));
            assert_eq!(store.write(move |tx| writer.append(tx, draft)).await.unwrap(), Seq(number));
        }
        assert_eq!(Log::open(&store).unwrap().head(), Seq(4713));
        assert_eq!(log.at_or_after(Seq(1)).unwrap().unwrap().seq, Seq(4712));
        assert!(store.write(|tx| Log::begin_after(tx, Seq(9000))).await.is_err());
    }

    #[tokio::test]
    async fn what_came_for_the_search_alone_takes_no_announces_place_and_gives_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let log = Log::open(&store).unwrap();
        let hash = draft(clock.now(), 1).announce_hash();
        let announced = || log.announced(&hash).unwrap().map(|entry| (entry.seq, entry.relayed));
        for (relayed, expected) in [(false, (Seq(1), false)), (true, (Seq(2), true)), (false, (Seq(2), true))] {
            let (writer, draft) = (log.clone(), Draft { relayed, ..draft(clock.now(), 1) });
            store.write(move |tx| writer.append(tx, draft)).await.unwrap();
            assert_eq!(announced(), Some(expected));
        }
        clock.advance(Duration::from_secs(1));
        log.trim(clock.now(), Seq(2)).await.unwrap();
        assert_eq!(announced(), Some((Seq(2), true)), "it goes with its own entry only");
        log.trim(clock.now(), Seq(3)).await.unwrap();
        assert_eq!(announced(), None);
    }

    #[tokio::test]
    async fn an_append_that_fails_is_seen_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::system()).unwrap();
        let log = Log::open(&store).unwrap();
        let (writer, first) = (log.clone(), draft(Timestamp::default(), 1));
        let failed: Result<(), _> = store
            .write(move |tx| {
                writer.append(tx, first)?;
                Err(StoreError::Declined("on purpose".to_owned()))
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(log.head(), Seq(0));
        assert!(Log::open(&store).unwrap().is_empty());
        assert!(log.announced(&draft(Timestamp::default(), 1).announce_hash()).unwrap().is_none());
        let writer = log.clone();
        let seq = store.write(move |tx| writer.append(tx, draft(Timestamp::default(), 2))).await;
        assert_eq!(seq.unwrap(), Seq(1), "and the store goes on");
    }

    #[tokio::test]
    async fn a_damaged_entry_is_trimmed_with_the_old_ones_and_one_of_a_later_release_kept() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let log = Log::open(&store).unwrap();
        for number in 1..=6 {
            let (writer, draft) = (log.clone(), draft(clock.now(), number));
            store.write(move |tx| writer.append(tx, draft)).await.unwrap();
        }
        let write = async |seq: u64, bytes: Vec<u8>| {
            store.write(move |tx| tx.insert(LOG, seq, bytes.as_slice())).await.unwrap();
        };
        write(2, b"no entry".to_vec()).await;
        write(4, crate::store::frame(99, b"from a later release")).await;
        clock.advance(Duration::from_secs(1));
        assert_eq!(log.trim(clock.now(), Seq(100)).await.unwrap(), 3);
        assert_eq!(log.trim(clock.now(), Seq(100)).await.unwrap(), 0);
        assert_eq!(log.len().unwrap(), 3);
    }
}

//! How far each subscriber has come in the log. Positions live in memory and are written packed, 512 to a row, in the
//! group commit, every `delivery.save_every` and whenever a lane asks for it: so store writes grow with activities plus
//! subscribers, never with their product. After a crash, what was delivered since the last save is delivered again, and
//! no more. Saves are numbered, so that a lane knows what it would repeat if everything ended now.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::{Notify, watch};

use super::{Store, StoreError, existing};
use crate::ids::Seq;

pub(super) const CURSORS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("cursors");
pub(super) const WORKERS: TableDefinition<'static, &str, u64> = TableDefinition::new("worker_cursors");
const VERSION: u8 = 1;
pub(super) const PER_ROW: u32 = 512;
const BYTES: usize = 16;

/// A subscriber's place: everything before `next` is done, and of the 64 entries from `next` on those whose bit is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The first entry that is not done.
    pub next: Seq,
    /// Bit `i`: entry `next + i` is done although an earlier one is not.
    pub ahead: u64,
}

impl Position {
    /// The widest gap between `next` and an entry that can be marked.
    pub const WINDOW: u64 = 64;

    /// A place before which everything is done.
    #[must_use]
    pub const fn at(next: Seq) -> Self {
        Self { next, ahead: 0 }
    }

    /// Whether `seq` is done.
    #[must_use]
    pub const fn is_done(&self, seq: Seq) -> bool {
        match seq.0.checked_sub(self.next.0) {
            None => true,
            Some(gap) => gap < Self::WINDOW && self.ahead >> gap & 1 == 1,
        }
    }

    /// Marks `seq` done and moves over what is contiguous. Marks beyond the window are not taken: whether it was.
    pub const fn mark(&mut self, seq: Seq) -> bool {
        let Some(gap) = seq.0.checked_sub(self.next.0) else { return true };
        if gap >= Self::WINDOW {
            return false;
        }
        self.ahead |= 1 << gap;
        while self.ahead & 1 == 1 {
            self.ahead >>= 1;
            self.next = self.next.next();
        }
        true
    }

    /// Gives up everything before `next`, and moves over what is contiguous from there. Never goes back.
    pub const fn skip_to(&mut self, next: Seq) {
        let Some(gap) = next.0.checked_sub(self.next.0) else { return };
        self.ahead = if gap < Self::WINDOW { self.ahead >> gap } else { 0 };
        self.next = next;
        while self.ahead & 1 == 1 {
            self.ahead >>= 1;
            self.next = self.next.next();
        }
    }
}

/// All positions, shared by the lanes. Cheap to clone.
#[derive(Clone)]
pub struct CursorBook {
    store: Store,
    pages: Arc<Mutex<Pages>>,
    saved: Arc<watch::Sender<u64>>,
    asked: Arc<Notify>,
}

#[derive(Default)]
struct Pages {
    positions: Vec<Position>,
    dirty: BTreeSet<u32>,
    /// Saves begun.
    begun: u64,
}

impl CursorBook {
    /// Reads all positions.
    ///
    /// # Errors
    /// The engine's; a row of the wrong length is damage.
    pub fn load(store: &Store) -> Result<Self, StoreError> {
        let mut positions = Vec::new();
        let read = store.engine().begin_read()?;
        if let Some(table) = existing(read.open_table(CURSORS))? {
            for row in table.iter()? {
                let (page, framed) = row?;
                let start = page.value() as usize * PER_ROW as usize;
                positions.resize(start, Position::default());
                positions.extend(unpack_row(framed.value())?);
            }
        }
        let pages = Pages { positions, ..Pages::default() };
        Ok(Self {
            store: store.clone(),
            pages: Arc::new(Mutex::new(pages)),
            saved: Arc::default(),
            asked: Arc::default(),
        })
    }

    /// Where `slot` stands.
    #[must_use]
    pub fn get(&self, slot: u32) -> Position {
        self.lock().positions.get(slot as usize).copied().unwrap_or_default()
    }

    /// Puts `slot` at `position`; the number of the save that it is written with.
    pub fn set(&self, slot: u32, position: Position) -> u64 {
        let mut pages = self.lock();
        let index = slot as usize;
        if pages.positions.len() <= index {
            pages.positions.resize(index + 1, Position::default());
        }
        if let Some(place) = pages.positions.get_mut(index)
            && *place != position
        {
            *place = position;
            pages.dirty.insert(slot / PER_ROW);
        }
        pages.begun + 1
    }

    /// The number of the last save that is durable, and with it everything set before that one began.
    #[must_use]
    pub fn saved(&self) -> watch::Receiver<u64> {
        self.saved.subscribe()
    }

    /// Somebody waits for the next save.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Returns when somebody asked.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Writes what changed since the last save; how many rows that took. One at a time.
    ///
    /// # Errors
    /// The store's; what was not written is written next time.
    pub async fn save(&self) -> Result<usize, StoreError> {
        let (number, rows) = self.take_dirty();
        if rows.is_empty() {
            self.saved.send_replace(number);
            return Ok(0);
        }
        let pages: Vec<u32> = rows.iter().map(|(page, _)| *page).collect();
        let count = rows.len();
        let written = self.store.write(move |tx| write_rows(tx, &rows)).await;
        if let Err(error) = written {
            self.lock().dirty.extend(pages);
            return Err(error);
        }
        self.saved.send_replace(number);
        Ok(count)
    }

    fn take_dirty(&self) -> (u64, Vec<(u32, Vec<u8>)>) {
        let mut pages = self.lock();
        pages.begun += 1;
        let dirty = std::mem::take(&mut pages.dirty);
        let pack_page = |page: u32| {
            let start = page as usize * PER_ROW as usize;
            let end = pages.positions.len().min(start + PER_ROW as usize);
            (page, pack_row(pages.positions.get(start..end).unwrap_or_default()))
        };
        (pages.begun, dirty.into_iter().map(pack_page).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_rows(tx: &mut super::Tx<'_>, rows: &[(u32, Vec<u8>)]) -> Result<(), StoreError> {
    rows.iter().try_for_each(|(page, bytes)| tx.insert(CURSORS, *page, bytes.as_slice()))
}

fn pack_row(positions: &[Position]) -> Vec<u8> {
    super::frame(VERSION, &positions.iter().flat_map(pack).collect::<Vec<u8>>())
}

pub(super) fn unpack_row(framed: &[u8]) -> Result<Vec<Position>, StoreError> {
    let (version, bytes) = super::unframe("cursors", framed)?;
    if version > VERSION {
        return Err(StoreError::Newer { table: "cursors", version });
    }
    Ok(bytes.chunks_exact(BYTES).map(unpack).collect())
}

fn pack(position: &Position) -> [u8; BYTES] {
    (u128::from(position.next.0) << 64 | u128::from(position.ahead)).to_be_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of what `pack` joined")]
fn unpack(bytes: &[u8]) -> Position {
    let both = bytes.try_into().map_or(0, u128::from_be_bytes);
    Position { next: Seq((both >> 64) as u64), ahead: both as u64 }
}

impl Store {
    /// Where the worker `name` stands in the log; `None` before its first move.
    ///
    /// # Errors
    /// The engine's.
    pub fn worker_cursor(&self, name: &str) -> Result<Option<Seq>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(table) = existing(read.open_table(WORKERS))? else { return Ok(None) };
        let row = table.get(name)?;
        Ok(row.map(|row| Seq(row.value())))
    }
}

impl super::Tx<'_> {
    /// Moves the worker `name` to `next`, in the transaction that holds its effects.
    ///
    /// # Errors
    /// The engine's.
    pub fn set_worker_cursor(&mut self, name: &str, next: Seq) -> Result<(), StoreError> {
        self.insert(WORKERS, name, next.0)
    }

    /// Forgets where the worker `name` was: it begins anew.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget_worker_cursor(&mut self, name: &str) -> Result<(), StoreError> {
        self.delete(WORKERS, name).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_moves_over_contiguous_completions_only() {
        let mut position = Position::at(Seq(10));
        assert!(position.mark(Seq(12)));
        assert_eq!(position.next, Seq(10));
        assert!(position.is_done(Seq(12)) && !position.is_done(Seq(11)) && position.is_done(Seq(9)));
        assert!(position.mark(Seq(10)));
        assert_eq!(position.next, Seq(11));
        assert!(position.mark(Seq(11)));
        assert_eq!(position, Position::at(Seq(13)));
        assert!(!position.mark(Seq(13 + 64)), "beyond the window");
        assert!(position.mark(Seq(13 + 63)));
        assert!(position.mark(Seq(3)), "long done");
        assert_eq!(position.next, Seq(13));
    }

    #[test]
    fn a_skip_keeps_what_was_done_beyond_it() {
        let mut position = Position::at(Seq(10));
        position.mark(Seq(14));
        position.mark(Seq(16));
        position.skip_to(Seq(13));
        assert!(position.next == Seq(13) && position.is_done(Seq(14)) && !position.is_done(Seq(15)));
        position.skip_to(Seq(14));
        assert_eq!(position.next, Seq(15));
        position.skip_to(Seq(12));
        assert_eq!(position.next, Seq(15), "never back");
        position.skip_to(Seq(400));
        assert_eq!(position, Position::at(Seq(400)));
    }

    #[test]
    fn a_full_window_collapses() {
        let mut position = Position::at(Seq(1));
        for seq in (1..=64).rev() {
            assert!(position.mark(Seq(seq)));
        }
        assert_eq!(position, Position::at(Seq(65)));
    }

    #[tokio::test]
    async fn a_save_holds_what_was_set_before_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::clock::Clock::system()).unwrap();
        let book = CursorBook::load(&store).unwrap();
        let saved = book.saved();
        let first = book.set(3, Position::at(Seq(5)));
        assert!(first > *saved.borrow());
        assert_eq!((book.save().await.unwrap(), *saved.borrow()), (1, first));
        let second = book.set(3, Position::at(Seq(5)));
        assert!(second > first, "nobody knows whether what was the same is on disk");
        assert_eq!((book.save().await.unwrap(), *saved.borrow()), (0, second));
        assert_eq!(CursorBook::load(&store).unwrap().get(3), Position::at(Seq(5)));
    }

    #[test]
    fn a_row_keeps_its_golden_bytes() {
        let row = [Position::at(Seq(1)), Position { next: Seq(4711), ahead: 0b1010 }, Position::default()];
        let kept = crate::store::testing::golden("cursors", &pack_row(&row));
        assert_eq!(unpack_row(&kept).unwrap(), row);
    }

    #[test]
    fn positions_survive_packing() {
        let position = Position { next: Seq(u64::MAX - 1), ahead: 0x8000_0000_0000_0001 };
        assert_eq!(unpack(&pack(&position)), position);
    }
}

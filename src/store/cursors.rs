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
const VERSION: u8 = 2;
pub(super) const PER_ROW: u32 = 512;
/// A position in version 1: `next`, and the 64 entries from there on.
const V1_BYTES: usize = 16;

/// A subscriber's place: everything before `next` is done, and of the entries from there on some. Small where all goes in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The first entry that is not done.
    pub next: Seq,
    /// Bit `i` of word `n`: entry `next + 64 * n + i` is done although an earlier one is not. The last word is not zero.
    ahead: Vec<u64>,
}

impl Position {
    /// The widest gap between `next` and an entry that can be marked: what comes in two minutes, the longest that an
    /// Announce is held, at eight posts a second.
    pub const WINDOW: u64 = 1024;

    /// A place before which everything is done.
    #[must_use]
    pub const fn at(next: Seq) -> Self {
        Self { next, ahead: Vec::new() }
    }

    /// Whether `seq` is done.
    #[must_use]
    pub fn is_done(&self, seq: Seq) -> bool {
        let Some(gap) = seq.0.checked_sub(self.next.0) else { return true };
        let (word, bit) = place(gap);
        self.ahead.get(word).is_some_and(|ahead| ahead >> bit & 1 == 1)
    }

    /// Marks `seq` done and moves over what is contiguous. Marks beyond the window are not taken: whether it was.
    pub fn mark(&mut self, seq: Seq) -> bool {
        let Some(gap) = seq.0.checked_sub(self.next.0) else { return true };
        if gap >= Self::WINDOW {
            return false;
        }
        let (word, bit) = place(gap);
        if self.ahead.len() <= word {
            self.ahead.resize(word + 1, 0);
        }
        if let Some(ahead) = self.ahead.get_mut(word) {
            *ahead |= 1 << bit;
        }
        self.move_over();
        true
    }

    /// Gives up everything before `next`, and moves over what is contiguous from there. Never goes back.
    pub fn skip_to(&mut self, next: Seq) {
        let Some(gap) = next.0.checked_sub(self.next.0) else { return };
        self.shift(gap);
        self.next = next;
        self.move_over();
    }

    /// How many of the first `gap` entries from `next` on are done.
    #[must_use]
    pub fn done_within(&self, gap: u64) -> u64 {
        let (words, bits) = place(gap);
        let whole: u32 = self.ahead.iter().take(words).map(|word| word.count_ones()).sum();
        let part = self.ahead.get(words).map_or(0, |word| (word & ((1 << bits) - 1)).count_ones());
        u64::from(whole + part)
    }

    fn move_over(&mut self) {
        let done = self.ahead.iter().position(|word| *word != u64::MAX).unwrap_or(self.ahead.len());
        let more = self.ahead.get(done).map_or(0, |word| word.trailing_ones());
        let gap = done as u64 * 64 + u64::from(more);
        self.shift(gap);
        self.next = Seq(self.next.0.saturating_add(gap));
    }

    /// Forgets the first `gap` entries.
    fn shift(&mut self, gap: u64) {
        let (words, bits) = place(gap);
        self.ahead.drain(..words.min(self.ahead.len()));
        if bits > 0 {
            for index in 0..self.ahead.len() {
                let above = self.ahead.get(index + 1).copied().unwrap_or_default();
                if let Some(word) = self.ahead.get_mut(index) {
                    *word = *word >> bits | above << (64 - bits);
                }
            }
        }
        while self.ahead.last() == Some(&0) {
            self.ahead.pop();
        }
    }
}

/// The word and the bit of an entry.
fn place(gap: u64) -> (usize, u32) {
    (usize::try_from(gap / 64).unwrap_or(usize::MAX), (gap % 64) as u32)
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
        self.lock().positions.get(slot as usize).cloned().unwrap_or_default()
    }

    /// Puts `slot` at `position`; the number of the save that it is written with.
    pub fn set(&self, slot: u32, position: &Position) -> u64 {
        let mut pages = self.lock();
        let index = slot as usize;
        if pages.positions.len() <= index {
            pages.positions.resize(index + 1, Position::default());
        }
        if let Some(place) = pages.positions.get_mut(index)
            && place != position
        {
            place.clone_from(position);
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
    let mut bytes = Vec::with_capacity(positions.len() * (V1_BYTES + 1));
    for position in positions {
        bytes.extend(position.next.0.to_be_bytes());
        bytes.push(u8::try_from(position.ahead.len()).unwrap_or(u8::MAX));
        bytes.extend(position.ahead.iter().flat_map(|word| word.to_be_bytes()));
    }
    super::frame(VERSION, &bytes)
}

pub(super) fn unpack_row(framed: &[u8]) -> Result<Vec<Position>, StoreError> {
    let (version, bytes) = super::unframe("cursors", framed)?;
    if version > VERSION {
        return Err(StoreError::Newer { table: "cursors", version });
    }
    let (mut rest, mut positions) = (bytes, Vec::new());
    while !rest.is_empty() {
        let position = if version == 1 { unpack_v1(&mut rest) } else { unpack(&mut rest) };
        positions.push(position.ok_or(StoreError::Damaged("cursors".to_owned()))?);
    }
    Ok(positions)
}

fn unpack_v1(rest: &mut &[u8]) -> Option<Position> {
    let (next, ahead) = (word(rest)?, word(rest)?);
    let mut position = Position { next: Seq(next), ahead: vec![ahead] };
    position.shift(0);
    Some(position)
}

/// `next`, how many words follow, and these.
fn unpack(rest: &mut &[u8]) -> Option<Position> {
    let next = Seq(word(rest)?);
    let (count, after) = rest.split_first()?;
    *rest = after;
    if u64::from(*count) * 64 > Position::WINDOW {
        return None;
    }
    let ahead = (0..*count).map(|_| word(rest)).collect::<Option<Vec<u64>>>()?;
    ahead.last().is_none_or(|last| *last != 0).then_some(Position { next, ahead })
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*word))
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
        assert!(!position.mark(Seq(13 + Position::WINDOW)), "beyond the window");
        assert!(position.mark(Seq(12 + Position::WINDOW)));
        assert_eq!((position.done_within(12), position.done_within(Position::WINDOW)), (0, 1));
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
        for seq in (1..=Position::WINDOW).rev() {
            assert!(position.mark(Seq(seq)));
        }
        assert_eq!(position, Position::at(Seq(Position::WINDOW + 1)));
    }

    #[tokio::test]
    async fn a_save_holds_what_was_set_before_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), crate::clock::Clock::system()).unwrap();
        let book = CursorBook::load(&store).unwrap();
        let saved = book.saved();
        let first = book.set(3, &Position::at(Seq(5)));
        assert!(first > *saved.borrow());
        assert_eq!((book.save().await.unwrap(), *saved.borrow()), (1, first));
        let second = book.set(3, &Position::at(Seq(5)));
        assert!(second > first, "nobody knows whether what was the same is on disk");
        assert_eq!((book.save().await.unwrap(), *saved.borrow()), (0, second));
        assert_eq!(CursorBook::load(&store).unwrap().get(3), Position::at(Seq(5)));
    }

    #[test]
    fn a_row_keeps_its_golden_bytes() {
        let position = |next, ahead: &[u64]| Position { next: Seq(next), ahead: ahead.to_vec() };
        let old = [position(1, &[]), position(4711, &[0b1010]), Position::default()];
        assert_eq!(unpack_row(&crate::store::testing::older(1, "cursors")).unwrap(), old);
        let row = [old.as_slice(), &[position(u64::MAX - 1, &[0, 0x8000_0000_0000_0001])]].concat();
        let kept = crate::store::testing::golden_of(2, "cursors", &pack_row(&row));
        assert_eq!(unpack_row(&kept).unwrap(), row);
        for wrong in
            [&kept[..kept.len() - 1], &[kept.as_slice(), &[0; 8]].concat(), &crate::store::frame(2, &[17; 200])]
        {
            assert!(matches!(unpack_row(wrong), Err(StoreError::Damaged(_))), "{wrong:?}");
        }
    }

    proptest::proptest! {
        /// As a set of numbers would.
        #[test]
        fn a_position_is_a_set_of_what_is_done(steps in proptest::collection::vec((0_u64..1200, 0..8), 0..400)) {
            let (mut position, mut done) = (Position::at(Seq(0)), BTreeSet::new());
            for (number, what) in steps {
                if what == 0 {
                    let to = position.next.0 + number / 8;
                    position.skip_to(Seq(to));
                    done.extend(0..to);
                } else if position.mark(Seq(number)) {
                    done.insert(number);
                }
                let first = (0..).find(|one| !done.contains(one)).unwrap();
                proptest::prop_assert_eq!(position.next.0, first);
                let done_ahead = done.iter().filter(|one| (first..first + 300).contains(one)).count();
                proptest::prop_assert_eq!(position.done_within(300), done_ahead as u64);
                proptest::prop_assert_eq!(position.is_done(Seq(number)), done.contains(&number));
                let packed = unpack_row(&pack_row(std::slice::from_ref(&position))).unwrap();
                proptest::prop_assert_eq!(packed, vec![position.clone()]);
            }
        }
    }
}

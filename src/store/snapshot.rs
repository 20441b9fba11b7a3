//! All rows as of one moment, as one stream of bytes, and a file made of such a stream. Nothing is locked meanwhile: the
//! engine keeps what the reader sees, so the relay goes on writing and the file grows by what it writes, no more.
//!
//! The stream names no engine. After one line of JSON, table after table: `T`, its shape and name; for each row `R`, key and
//! value with their lengths; at the end `E`, how many rows there were, and the SHA-256 of all that came before. So a stream
//! that was cut short or changed anywhere is noticed, and nothing of it is used. All numbers are big-endian.

use std::io::{BufRead, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, WriteTransaction};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{LONG_REPAIR, META, Record, Store, StoreError, codec, existing, file, table, tables, tx};
use crate::ids::Seq;

const FORMAT: &str = "shearwater-rows";
const VERSION: u32 = 1;
/// The longest first line, name, key and value that are read: the largest value is a body with its head.
const MAX_LINE: u64 = 4096;
const MAX_NAME: usize = 256;
const MAX_KEY: usize = 64 << 10;
const MAX_VALUE: usize = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: String,
    version: u32,
    layout: String,
    log_head: Seq,
}

/// What a stream held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Moved {
    /// Tables.
    pub tables: u64,
    /// Rows in all of them.
    pub rows: u64,
    /// How far the log had come. Its entries are not in the stream if the table was left out.
    pub log_head: Seq,
}

/// The store as of one moment. Not to be kept: the file cannot reuse what it sees.
pub struct Snapshot {
    read: ReadTransaction,
}

impl Store {
    /// All of it as of the last commit.
    ///
    /// # Errors
    /// The engine's.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { read: self.0.db.begin_read()? })
    }
}

impl Snapshot {
    pub(crate) const fn read(&self) -> &ReadTransaction {
        &self.read
    }

    /// The names of its tables.
    ///
    /// # Errors
    /// The engine's.
    pub fn tables(&self) -> Result<Vec<String>, StoreError> {
        let tables = self.read.list_tables()?;
        Ok(tables.map(|table| redb::TableHandle::name(&table).to_owned()).collect())
    }

    /// A number that is kept by name; 0 if none is.
    ///
    /// # Errors
    /// The engine's.
    pub fn number(&self, name: &str) -> Result<u64, StoreError> {
        let Some(meta) = existing(self.read.open_table(META))? else { return Ok(0) };
        Ok(meta.get(name)?.map_or(0, |row| tx::number(row.value())))
    }

    /// Hands over each record of a table that can be read, in the order of their keys; how many cannot.
    ///
    /// # Errors
    /// The engine's, that a later release wrote one, or that of `take`.
    pub(super) fn each<R: Record, E: From<StoreError>>(
        &self,
        mut take: impl FnMut(&str, R) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Some(table) = existing(self.read.open_table(table::<R>()))? else { return Ok(0) };
        let mut damaged = 0;
        for row in table.iter().map_err(StoreError::from)? {
            let (key, value) = row.map_err(StoreError::from)?;
            match codec::decode(value.value()) {
                Ok(record) => take(key.value(), record)?,
                Err(StoreError::Damaged(_)) => damaged += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(damaged)
    }

    /// Writes all tables but those that are left out. `log_head` is to be asked for after the snapshot was taken.
    ///
    /// Blocks: on the disk, and on `out`.
    ///
    /// # Errors
    /// The engine's, or the writer's: then what was written has no end, and is of no use.
    pub fn write(&self, left_out: &[&str], log_head: Seq, out: impl Write) -> anyhow::Result<Moved> {
        let mut out = Summed::new(out);
        let layout = file::LAYOUT.to_owned();
        let head = Head { format: FORMAT.to_owned(), version: VERSION, layout, log_head };
        serde_json::to_writer(&mut out, &head)?;
        out.write_all(b"\n")?;
        let mut moved = Moved { log_head, ..Moved::default() };
        for name in self.tables()?.into_iter().filter(|name| !left_out.contains(&name.as_str())) {
            let length = u16::try_from(name.len()).context("the name of a table")?;
            out.write_all(&[b'T', tables::shape_of(&self.read, &name)?])?;
            out.write_all(&length.to_be_bytes())?;
            out.write_all(name.as_bytes())?;
            moved.tables += 1;
            tables::each_row(&self.read, &name, &mut |key, value| {
                moved.rows += 1;
                out.write_all(b"R")?;
                for part in [key, value] {
                    out.write_all(&u32::try_from(part.len())?.to_be_bytes())?;
                }
                out.write_all(key)?;
                Ok(out.write_all(value)?)
            })?;
        }
        out.write_all(b"E")?;
        out.write_all(&moved.rows.to_be_bytes())?;
        let (sum, mut out) = out.finish();
        out.write_all(&sum)?;
        out.flush()?;
        Ok(moved)
    }
}

/// Reads a stream to its end; whether it is whole, and what it holds. Nothing is made of it.
///
/// # Errors
/// A sentence about what is wrong with it.
pub fn look_through(input: impl BufRead) -> anyhow::Result<Moved> {
    read_rows(input, None)
}

/// Makes `dir/shearwater.redb` of a stream, in one transaction: if this fails, the file holds nothing.
///
/// # Errors
/// What is wrong with the stream, that a later release wrote it, or the engine's.
pub fn make_of_rows(input: impl BufRead, bytes: u64, dir: &Path) -> anyhow::Result<Moved> {
    let path = dir.join("shearwater.redb");
    ensure!(!path.exists(), "{} is there already", path.display());
    let db: Database = file::open(&path)?;
    let mut write = db.begin_write()?;
    write.set_quick_repair(bytes >= LONG_REPAIR);
    // The engine takes it for granted that bytes have their table's shape, and panics where they have not.
    let read = std::panic::AssertUnwindSafe(|| read_rows(input, Some(&write)));
    let moved =
        std::panic::catch_unwind(read).unwrap_or_else(|_panic| bail!("a row does not have its table's shape"))?;
    write.commit()?;
    Ok(moved)
}

fn read_rows(input: impl BufRead, write: Option<&WriteTransaction>) -> anyhow::Result<Moved> {
    let mut input = Summed::new(input);
    let mut moved = Moved { log_head: read_head(&mut input)?, ..Moved::default() };
    let mut tag = input.bytes::<1>()?;
    loop {
        match &tag {
            b"T" => {
                let [shape] = input.bytes()?;
                let length = usize::from(u16::from_be_bytes(input.bytes()?));
                let mut name = Vec::new();
                input.take_into(&mut name, length, MAX_NAME)?;
                let name = String::from_utf8(name).context("the name of a table")?;
                moved.tables += 1;
                let mut next = |key: &mut Vec<u8>, value: &mut Vec<u8>| {
                    tag = input.bytes()?;
                    if tag != *b"R" {
                        return Ok(false);
                    }
                    let (keys, values) = (u32::from_be_bytes(input.bytes()?), u32::from_be_bytes(input.bytes()?));
                    input.take_into(key, keys as usize, MAX_KEY)?;
                    input.take_into(value, values as usize, MAX_VALUE)?;
                    moved.rows += 1;
                    Ok(true)
                };
                match write {
                    Some(write) => drop(tables::fill(write, &name, shape, &mut next)?),
                    None => {
                        let (mut key, mut value) = (Vec::new(), Vec::new());
                        while next(&mut key, &mut value)? {}
                    }
                }
            }
            b"E" => break,
            _ => bail!("it is not as it was written"),
        }
    }
    let rows = u64::from_be_bytes(input.bytes()?);
    let (sum, mut input) = input.finish();
    let mut written = [0; 32];
    input.read_exact(&mut written).context("it is cut short")?;
    ensure!(rows == moved.rows && sum == written, "it is not as it was written: its checksum differs");
    Ok(moved)
}

fn read_head<R: BufRead>(input: &mut Summed<R>) -> anyhow::Result<Seq> {
    let mut line = Vec::new();
    (&mut input.inner).take(MAX_LINE).read_until(b'\n', &mut line)?;
    input.sum.update(&line);
    let head: Head = serde_json::from_slice(&line).context("it does not begin as the rows of a backup do")?;
    ensure!(head.format == FORMAT, "it does not begin as the rows of a backup do");
    ensure!(head.version <= VERSION, "a later release wrote it (version {}): run that release", head.version);
    file::check_layout(head.layout.as_bytes(), "it")?;
    Ok(head.log_head)
}

/// Adds up what goes through.
struct Summed<T> {
    inner: T,
    sum: Sha256,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self { inner, sum: Sha256::new() }
    }

    fn finish(self) -> ([u8; 32], T) {
        (self.sum.finalize().into(), self.inner)
    }
}

impl<R: Read> Summed<R> {
    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).context("it is cut short")?;
        self.sum.update(bytes);
        Ok(bytes)
    }

    fn take_into(&mut self, buffer: &mut Vec<u8>, length: usize, most: usize) -> anyhow::Result<()> {
        ensure!(length <= most, "it is not as it was written: {length} bytes in one place");
        buffer.resize(length, 0);
        self.inner.read_exact(buffer).context("it is cut short")?;
        self.sum.update(&buffer);
        Ok(())
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.sum.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::testing;

    async fn filled(dir: &Path) -> Store {
        let store = Store::open(dir, Clock::manual(Timestamp::from_secs(1_787_486_400))).unwrap();
        let (subscriber, rule) = (testing::subscriber("small.example"), testing::rule());
        let fill = move |tx: &mut super::super::Tx<'_>| {
            tx.put(&rule.key(), &rule)?;
            tx.note(super::super::SeenSet::Objects, &["https://a.example/1"])?;
            tx.set_worker_cursor("resolver", Seq(7))?;
            tx.put_subscriber(subscriber)
        };
        store.write(fill).await.unwrap();
        store
    }

    fn rows(store: &Store) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.snapshot().unwrap().write(&["worker_cursors"], Seq(41), &mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_file_made_of_the_rows_holds_the_same_rows_but_those_left_out() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = filled(old.path()).await;
        let bytes = rows(&store);
        let moved = make_of_rows(bytes.as_slice(), bytes.len() as u64, new.path()).unwrap();
        assert_eq!(moved.log_head, Seq(41));
        let made = Store::open(new.path(), Clock::system()).unwrap();
        assert_eq!(rows(&made), bytes, "the secret of the hashes included");
        assert!(made.has_seen(super::super::SeenSet::Objects, &["https://a.example/1"]).unwrap());
        assert_eq!(made.worker_cursor("resolver").unwrap(), None);
        assert!(make_of_rows(bytes.as_slice(), 0, new.path()).is_err(), "nothing is written over a store");
    }

    #[tokio::test]
    async fn a_snapshot_is_of_one_moment_whatever_is_written_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path()).await;
        let (before, snapshot) = (rows(&store), store.snapshot().unwrap());
        store.write(|tx| tx.next_number("later").map(drop)).await.unwrap();
        let mut bytes = Vec::new();
        snapshot.write(&["worker_cursors"], Seq(41), &mut bytes).unwrap();
        assert_eq!(bytes, before);
        assert_ne!(rows(&store), before);
    }

    #[tokio::test]
    async fn rows_that_were_cut_short_or_changed_anywhere_make_no_store() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = rows(&filled(dir.path()).await);
        assert!(look_through(bytes.as_slice()).is_ok());
        let step = (bytes.len() / 400).max(1);
        for at in (0..bytes.len()).step_by(step) {
            assert!(look_through(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x20;
            assert!(look_through(changed.as_slice()).is_err(), "changed at {at}");
            if at % (step * 16) == 0 {
                let new = tempfile::tempdir().unwrap();
                assert!(make_of_rows(changed.as_slice(), 0, new.path()).is_err(), "changed at {at}");
            }
        }
    }

    #[tokio::test]
    async fn rows_of_a_later_release_are_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = rows(&filled(dir.path()).await);
        let text = String::from_utf8_lossy(&bytes[..200]).into_owned();
        for (old, new) in [("shearwater-1", "shearwater-2"), ("\"version\":1", "\"version\":2")] {
            let line = text.lines().next().unwrap().replace(old, new) + "\n";
            let error = format!("{:#}", look_through(line.as_bytes()).unwrap_err());
            assert!(error.contains("later release") && error.contains("run that release"), "{error}");
        }
    }
}

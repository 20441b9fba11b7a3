//! The tables of the file without what they mean: their names, their shapes, the bytes of their rows. What copies or
//! checks everything goes by this, so that no table is forgotten because a list of them was not kept up.

use anyhow::{Context as _, bail};
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition, TableError, Value, WriteTransaction,
};

/// Is shown each row: its key and its value as bytes.
pub(super) type See<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> anyhow::Result<()>;
/// Gives the next row into the two buffers; `false` after the last one.
pub(super) type Next<'a> = &'a mut dyn FnMut(&mut Vec<u8>, &mut Vec<u8>) -> anyhow::Result<bool>;

/// Each shape has a number, which is written down in backups: it never means another one.
macro_rules! shapes {
    ($($number:literal: $key:ty => $value:ty,)*) => {
        /// The number of a table's shape.
        ///
        /// # Errors
        /// The engine's; a shape that is not in the list above belongs into it.
        pub(super) fn shape_of(read: &ReadTransaction, name: &str) -> anyhow::Result<u8> {
            $(
                match read.open_table(TableDefinition::<$key, $value>::new(name)) {
                    Ok(_) => return Ok($number),
                    Err(TableError::TableTypeMismatch { .. }) => {}
                    Err(error) => return Err(error).with_context(|| format!("table {name}")),
                }
            )*
            bail!("table {name} has a shape that this release does not know")
        }

        /// Shows all rows of a table, in the order of their keys.
        ///
        /// # Errors
        /// The engine's, or what `see` says.
        pub(super) fn each_row(read: &ReadTransaction, name: &str, see: See<'_>) -> anyhow::Result<()> {
            match shape_of(read, name)? {
                $($number => rows_of(&read.open_table(TableDefinition::<$key, $value>::new(name))?, see),)*
                other => bail!("table {name}: no shape has the number {other}"),
            }
        }

        /// Fills a table of this shape; with how many rows.
        ///
        /// # Errors
        /// The engine's, or what `next` says.
        pub(super) fn fill(write: &WriteTransaction, name: &str, shape: u8, next: Next<'_>) -> anyhow::Result<u64> {
            match shape {
                $($number => fill_table(write, TableDefinition::<$key, $value>::new(name), next),)*
                other => bail!("table {name}: its shape ({other}) is one of a later release: run that release"),
            }
        }
    };
}

shapes! {
    0: &'static str => &'static [u8],
    1: u64 => &'static [u8],
    2: &'static str => u64,
    3: u32 => &'static [u8],
    4: u128 => u64,
    5: (u64, u64) => (),
    6: &'static str => &'static str,
    7: (u8, u32, u64) => &'static [u8],
    8: (u8, u32, u128) => &'static [u8],
    9: (u32, u64, &'static str) => &'static [u8],
    10: (u32, u128) => &'static [u8],
    11: u128 => u32,
    12: (u64, u128) => (),
    13: (u64, u32, u128) => u32,
}

fn rows_of<K: Key + 'static, V: Value + 'static>(table: &ReadOnlyTable<K, V>, see: See<'_>) -> anyhow::Result<()> {
    for row in table.iter()? {
        let (key, value) = row?;
        see(K::as_bytes(&key.value()).as_ref(), V::as_bytes(&value.value()).as_ref())?;
    }
    Ok(())
}

fn fill_table<K: Key + 'static, V: Value + 'static>(
    write: &WriteTransaction,
    definition: TableDefinition<'_, K, V>,
    next: Next<'_>,
) -> anyhow::Result<u64> {
    let mut table = write.open_table(definition)?;
    let (mut key, mut value, mut count) = (Vec::new(), Vec::new(), 0);
    while next(&mut key, &mut value)? {
        table.insert(K::from_bytes(&key), V::from_bytes(&value))?;
        count += 1;
    }
    Ok(count)
}

/// A key for people: text as it is, a number as a number, all else in hex.
pub(super) fn shown(shape: u8, key: &[u8]) -> String {
    let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map(u64::from_le_bytes).ok();
    match (shape, std::str::from_utf8(key), number(key)) {
        (0 | 2 | 6, Ok(text), _) => text.to_owned(),
        (1, _, Some(number)) => number.to_string(),
        _ => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

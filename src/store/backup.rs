//! The whole state as lines of JSON, and back: our way out of any engine, and how an operator moves house. Subscribers,
//! facts about servers, and whom we follow travel; the log, cursors and seen ids belong to one run of one relay and do not.

use std::io::{BufRead, Write};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AuthorityFacts, Following, Record, Store, StoreError, Subscriber, Tx};

/// How many records an export or import moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Exported {
    /// Servers that joined.
    pub subscribers: usize,
    /// Facts about servers.
    pub authorities: usize,
    /// Whom we follow.
    pub following: usize,
}

type Put = Box<dyn FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send>;

#[derive(Serialize, Deserialize)]
struct Line {
    kind: String,
    version: u8,
    key: String,
    record: Value,
}

/// Writes every record as one line `{"kind", "version", "key", "record"}`.
///
/// # Errors
/// The store's or the writer's.
pub fn export(store: &Store, out: &mut impl Write) -> anyhow::Result<Exported> {
    Ok(Exported {
        subscribers: export_table::<Subscriber>(store, out)?,
        authorities: export_table::<AuthorityFacts>(store, out)?,
        following: export_table::<Following>(store, out)?,
    })
}

fn export_table<R: Record>(store: &Store, out: &mut impl Write) -> anyhow::Result<usize> {
    let rows = store.all::<R>()?;
    for (key, record) in &rows {
        let line = Line {
            kind: R::TABLE.to_owned(),
            version: R::VERSION,
            key: key.clone(),
            record: serde_json::to_value(record)?,
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
    }
    Ok(rows.len())
}

/// Reads what [`export`] wrote into `store`, all or nothing. Records that are there already are overwritten; a
/// subscriber starts at the end of the log.
///
/// # Errors
/// The number of the first line that does not fit, and why; nothing is written then.
pub async fn import(store: &Store, input: &mut impl BufRead) -> anyhow::Result<Exported> {
    let mut done = Exported::default();
    let mut puts: Vec<Put> = Vec::new();
    for (index, text) in input.lines().enumerate() {
        let number = index + 1;
        let text = text.with_context(|| format!("line {number}"))?;
        if text.trim().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_str(&text).with_context(|| format!("line {number}"))?;
        let Line { key, record, .. } = line;
        match line.kind.as_str() {
            Subscriber::TABLE => {
                let mut subscriber: Subscriber = read(line.version, record, number)?;
                done.subscribers += 1;
                puts.push(Box::new(move |tx| {
                    subscriber.slot = tx.new_slot()?;
                    tx.put_subscriber(subscriber)
                }));
            }
            AuthorityFacts::TABLE => {
                let facts: AuthorityFacts = read(line.version, record, number)?;
                done.authorities += 1;
                puts.push(Box::new(move |tx| tx.put(&key, &facts)));
            }
            Following::TABLE => {
                let following: Following = read(line.version, record, number)?;
                done.following += 1;
                puts.push(Box::new(move |tx| tx.put(&key, &following)));
            }
            other => anyhow::bail!("line {number}: unknown kind {other:?}"),
        }
    }
    store.write(move |tx| puts.into_iter().try_for_each(|put| put(tx))).await?;
    Ok(done)
}

fn read<R: Record>(version: u8, record: Value, number: usize) -> anyhow::Result<R> {
    anyhow::ensure!(
        version == R::VERSION,
        "line {number}: version {version} of {}, this release reads {}",
        R::TABLE,
        R::VERSION
    );
    serde_json::from_value(record).with_context(|| format!("line {number}"))
}

//! Whether the log is what it should be: every entry can be read, every Announce id leads to its entry, and nobody who reads
//! the log stands beyond its end.

use redb::ReadableTable as _;

use super::{ANNOUNCES, Entry, Kind, LOG, Log, head_of};
use crate::ids::Seq;
use crate::store::{Faults, Snapshot, StoreError, existing};

impl Log {
    /// Reads all of it, as of one moment.
    ///
    /// # Errors
    /// The engine's.
    pub fn check(snapshot: &Snapshot, faults: &mut Faults) -> Result<(), StoreError> {
        let log = existing(snapshot.read().open_table(LOG))?;
        if let Some(log) = &log {
            for row in log.iter()? {
                let (seq, bytes) = row?;
                let seq = Seq(seq.value());
                match Entry::decode(seq, bytes.value()) {
                    Ok(_) => {}
                    Err(error @ StoreError::Newer { .. }) => {
                        faults.note("log", Faults::OF_A_LATER_RELEASE, format!("{seq}: {error}"));
                    }
                    Err(error) => faults.note("log", Faults::UNREADABLE, format!("{seq}: {error}")),
                }
            }
        }
        if let Some(announces) = existing(snapshot.read().open_table(ANNOUNCES))? {
            for row in announces.iter()? {
                let (hash, seq) = row?;
                let seq = Seq(seq.value());
                let entry = log.as_ref().map(|log| log.get(seq.0)).transpose()?.flatten();
                // One that cannot be read was named above.
                let leads = entry.is_some_and(|bytes| match Entry::decode(seq, bytes.value()) {
                    Ok(entry) => entry.kind == Kind::Create && entry.announce_hash() == hash.value(),
                    Err(_) => true,
                });
                if !leads {
                    faults.note("announces", "leads to no entry", hash.value());
                }
            }
        }
        let next = head_of(snapshot)?.next();
        for (who, place) in snapshot.places()?.into_iter().filter(|(_, place)| *place > next) {
            faults.note(
                "cursors",
                "stands beyond the end of the log",
                format!("{who} at {place}, the log ends before {next}"),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::log::Draft;
    use crate::store::{Fault, Store, Tx, frame, testing};

    async fn filled(dir: &tempfile::TempDir) -> Store {
        let store = Store::open(dir.path(), Clock::manual(Timestamp::from_secs(1_787_486_400))).unwrap();
        let log = Log::open(&store).unwrap();
        let iri = |text: &str| crate::ids::Iri::parse(text).unwrap();
        for number in 1..=3 {
            let draft = Draft {
                at: Timestamp::from_secs(1_787_486_400),
                kind: Kind::Create,
                object: iri(&format!("https://a.example/notes/{number}")),
                actor: iri("https://a.example/users/ada"),
                activity: String::new(),
                supplier: iri("https://a.example/").authority(),
                carried: true,
                published: None,
                relayed: true,
                body: bytes::Bytes::from_static(b"{}"),
            };
            let log = log.clone();
            store.write(move |tx| log.append(tx, draft)).await.unwrap();
        }
        store.write(|tx| tx.set_worker_cursor("resolver", Seq(4))).await.unwrap();
        store
    }

    fn found(store: &Store) -> Vec<Fault> {
        let mut faults = Faults::default();
        Log::check(&store.snapshot().unwrap(), &mut faults).unwrap();
        faults.list()
    }

    #[tokio::test]
    async fn a_log_that_is_sound_has_no_fault_and_what_is_wrong_is_named() {
        type Spoil = fn(&mut Tx<'_>) -> Result<(), StoreError>;
        let cases: [(&str, &str, Spoil); 5] = [
            ("log", Faults::UNREADABLE, |tx| tx.insert(LOG, 2, b"no entry".as_slice())),
            ("log", Faults::OF_A_LATER_RELEASE, |tx| tx.insert(LOG, 2, frame(99, b"{}").as_slice())),
            ("announces", "leads to no entry", |tx| tx.insert(ANNOUNCES, "0123", 2)),
            ("cursors", "stands beyond the end of the log", |tx| tx.set_worker_cursor("resolver", Seq(5))),
            ("cursors", "stands beyond the end of the log", |tx| tx.put_subscriber(testing::subscriber("a.example"))),
        ];
        for (table, fault, spoil) in cases {
            let dir = tempfile::tempdir().unwrap();
            let store = filled(&dir).await;
            assert_eq!(found(&store), []);
            store.write(spoil).await.unwrap();
            let found = found(&store);
            assert!(found.iter().any(|one| one.table == table && one.fault == fault), "{table} {fault}: {found:?}");
        }
    }
}

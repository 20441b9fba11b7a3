//! Every kind of record that this release keeps, with its version. What was written by a later release is refused when the
//! file is opened, before anything of it is read or changed: a rule that this release does not know would else be a rule
//! that is not kept. Records of other rooms (`search`, `relay`, `trends`) are not here; they are rows that can be made anew.

use std::collections::BTreeMap;

use super::ballots::{Ballot, BallotKey};
use super::refused::Lasting;
use super::{
    ApiToken, Arrivals, AuditEntry, AuthorityFacts, ControlRow, ControlTally, Edited, Following, HeldPost, HeldTally,
    Hold, IndexedAuthor, IndexedPost, Knock, Leaving, Leftover, ListFeed, ListText, Noted, Place, Publisher, Record,
    Refusal, Refused, Rule, SearchKey, SearchServer, StoreError, Subscriber, Suppressed, SwitchedOff, TrendClosed,
    TrendRuling, TrendServed, codec,
};

/// One kind of record.
pub(super) struct Kind {
    /// Its table.
    pub(super) table: &'static str,
    /// The version that this release writes.
    pub(super) version: u8,
    /// Whether a row can be read.
    pub(super) read: fn(&[u8]) -> Result<(), StoreError>,
}

macro_rules! kinds {
    ($($record:ty),* $(,)?) => {
        &[$(Kind {
            table: <$record>::TABLE,
            version: <$record>::VERSION,
            read: |row| codec::decode::<$record>(row).map(drop),
        }),*]
    };
}

/// All of them.
pub(super) const KINDS: &[Kind] = kinds![
    ApiToken,
    Arrivals,
    AuditEntry,
    AuthorityFacts,
    Ballot,
    BallotKey,
    ControlRow,
    ControlTally,
    Edited,
    Following,
    HeldPost,
    HeldTally,
    Hold,
    IndexedAuthor,
    IndexedPost,
    Knock,
    Lasting,
    Leaving,
    Leftover,
    ListFeed,
    ListText,
    Noted,
    Place,
    Publisher,
    Refusal,
    Refused,
    Rule,
    SearchKey,
    SearchServer,
    Subscriber,
    Suppressed,
    SwitchedOff,
    TrendClosed,
    TrendRuling,
    TrendServed,
];

/// The kind that is kept in this table.
pub(super) fn kind_of(table: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.table == table)
}

/// Compares what a file says of the versions in it, in `written`, with ours; what it is to say from now on. `whose` begins
/// the sentence.
///
/// # Errors
/// A later release wrote there.
pub(super) fn check_versions(written: &[u8], whose: &str) -> Result<Vec<u8>, StoreError> {
    let damaged =
        |error: serde_json::Error| StoreError::Damaged(format!("{whose}: the versions of its records: {error}"));
    // Files from before this was written down hold none that is later.
    let written = if written.is_empty() { "{}".as_bytes() } else { written };
    let written: BTreeMap<String, u8> = serde_json::from_slice(written).map_err(damaged)?;
    for (table, version) in &written {
        let ours = kind_of(table).map(|kind| kind.version);
        if ours.is_none_or(|ours| *version > ours) {
            let ours = ours.map_or("knows no such table".to_owned(), |ours| format!("reads up to {ours}"));
            return Err(StoreError::Failed(format!(
                "{whose}: a later release wrote {table} of version {version}, and this release {ours}: run that release, \
                 or restore a backup from before the upgrade"
            )));
        }
    }
    let ours: BTreeMap<&str, u8> = KINDS.iter().map(|kind| (kind.table, kind.version)).collect();
    serde_json::to_vec(&ours).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ids::Seq;
    use crate::store::{Faults, META, Store, Tx, make_of_rows, table, testing};

    /// A record that is not in the list would be carried back to an older release without a word.
    #[test]
    fn every_record_of_the_store_is_in_the_catalogue() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for rest in code.split("const TABLE: &'static str = \"").skip(1) {
                let table = rest.split('"').next().unwrap_or_default();
                assert!(kind_of(table).is_some(), "{}: {table} is not in KINDS", path.display());
            }
        }
        let mut tables: Vec<_> = KINDS.iter().map(|kind| kind.table).collect();
        tables.dedup();
        assert_eq!(tables.len(), KINDS.len());
    }

    #[tokio::test]
    async fn a_store_of_a_later_release_is_refused_with_a_sentence_and_left_as_it_is() {
        let later = [
            ("layout", "shearwater-2".to_owned(), "layout \"shearwater-2\""),
            ("versions", format!("{{\"rules\":{}}}", Rule::VERSION + 1), "wrote rules of version"),
            ("versions", "{\"murmurations\":1}".to_owned(), "wrote murmurations of version 1"),
        ];
        for (row, value, said) in later {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), Clock::system()).unwrap();
            store.write(move |tx| tx.insert(META, row, value.as_bytes())).await.unwrap();
            drop(store);
            let path = dir.path().join("shearwater.redb");
            let before = std::fs::read(&path).unwrap();
            let error = (0..200)
                .find_map(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    let error = Store::open(dir.path(), Clock::system()).err()?.to_string();
                    (!error.contains("in use")).then_some(error)
                })
                .unwrap();
            assert!(error.contains(said) && error.contains("run that release"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap().len(), before.len());
        }
    }

    /// The rows of an older release are read as they lie there, go into a backup as they are, and are found right.
    #[tokio::test]
    async fn what_an_older_release_wrote_is_read_checked_and_backed_up() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(old.path(), Clock::system()).unwrap();
        let row = testing::older(1, "rules");
        let rule: Rule = codec::decode(&row).unwrap();
        let (key, no) = (rule.key(), codec::frame(1, br#"{"at":0,"reason":"not-indexable","lasting":false}"#));
        let fill = move |tx: &mut Tx<'_>| {
            tx.delete(META, "versions")?;
            tx.insert(table::<Refused>(), "0123", no.as_slice())?;
            tx.insert(table::<Rule>(), key.as_str(), row.as_slice())
        };
        store.write(fill).await.unwrap();
        let mut rows = Vec::new();
        store.snapshot().unwrap().write(&[], Seq(0), &mut rows).unwrap();
        make_of_rows(rows.as_slice(), 0, new.path()).unwrap();
        let made = Store::open(new.path(), Clock::system()).unwrap();
        let mut faults = Faults::default();
        made.snapshot().unwrap().check(&mut faults).unwrap();
        assert_eq!(faults.list(), []);
        assert_eq!(made.all::<Rule>().unwrap(), [(rule.key(), rule)]);
        assert_eq!(made.all::<Refused>().unwrap()[0].1.words(), ["not-indexable"]);
    }

    #[tokio::test]
    async fn a_store_from_before_versions_were_written_down_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::system()).unwrap();
        store.write(|tx| tx.delete(META, "versions").map(drop)).await.unwrap();
        let (db, path) = (store.engine(), dir.path().join("shearwater.redb"));
        super::super::file::prepare(db, &path).unwrap();
        let read = store.snapshot().unwrap();
        let meta = read.read().open_table(META).unwrap();
        let written = meta.get("versions").unwrap().unwrap().value().to_vec();
        assert_eq!(check_versions(&written, "it").unwrap(), written);
        assert!(String::from_utf8(written).unwrap().contains("\"rules\":2"));
    }
}

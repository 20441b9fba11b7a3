//! Whether the store is what it should be: reads every row of every table, and looks whether what belongs together fits.
//! Changes nothing. What is found is said by table and in words that the operator can act on; how the log's own tables fit
//! is the log's to say ([`crate::log`] stands above).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use redb::{AccessGuard, ReadOnlyTable, ReadableTable};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ControlRow, ControlTally, HeldPost, HeldTally, IndexedAuthor, IndexedPost, Leftover, Position, Record, Refused,
    Rule, Snapshot, StoreError, Subscriber, ballots, catalogue, codec, control, cursors, existing, ledger, refused,
    seen, table, tables,
};
use crate::ids::{Iri, Seq};

/// Rows that are named of each fault; all are counted.
const NAMED: usize = 5;
/// What the log checks itself.
const OF_THE_LOG: [&str; 2] = ["log", "announces"];
/// What holds plain numbers, texts and packed hashes, none of them in a frame.
const BARE: [&str; 11] = [
    "meta",
    "worker_cursors",
    "ledger_ids",
    "ledger_by_author",
    "ledger_handles",
    "seen_recent",
    "seen_sealed",
    "trend_ballot_hours",
    "trend_ballots_by_author",
    "trend_ballots_by_target",
    "trend_first_hours",
];

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TableSize {
    /// Its name.
    pub table: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
}

/// Something that is wrong, and with how many rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// The table.
    pub table: String,
    /// What is wrong, in words.
    pub fault: String,
    /// With how many rows.
    pub count: u64,
    /// Some of them.
    pub such_as: Vec<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Faults(BTreeMap<(String, String), (u64, Vec<String>)>);

impl Faults {
    /// A row that is not what was written.
    pub const UNREADABLE: &'static str = "cannot be read";
    /// A row that this release does not know how to read.
    pub const OF_A_LATER_RELEASE: &'static str = "was written by a later release: run that release";

    /// One row more of which this is so.
    pub fn note(&mut self, table: &str, fault: &str, which: impl Display) {
        let (count, such_as) = self.0.entry((table.to_owned(), fault.to_owned())).or_default();
        *count += 1;
        if such_as.len() < NAMED {
            such_as.push(which.to_string());
        }
    }

    /// All of them, by table.
    #[must_use]
    pub fn list(self) -> Vec<Fault> {
        let fault = |((table, fault), (count, such_as))| Fault { table, fault, count, such_as };
        self.0.into_iter().map(fault).collect()
    }

    fn unless(&mut self, holds: bool, table: &str, fault: &str, which: impl Display) {
        if !holds {
            self.note(table, fault, which);
        }
    }
}

impl Snapshot {
    /// Reads everything; the size of each table.
    ///
    /// Blocks, for seconds where there is much.
    ///
    /// # Errors
    /// The engine's: then the file cannot be read on.
    pub fn check(&self, faults: &mut Faults) -> anyhow::Result<Vec<TableSize>> {
        let sizes = self.check_rows(faults)?;
        self.check_subscribers(faults)?;
        self.check_rules(faults)?;
        self.check_tallies(faults)?;
        self.check_ledger(faults)?;
        self.check_ballots(faults)?;
        Ok(sizes)
    }

    /// Who reads the log, and where each stands: workers by name, subscribers by host.
    ///
    /// # Errors
    /// The engine's.
    pub fn places(&self) -> Result<Vec<(String, Seq)>, StoreError> {
        let mut places = Vec::new();
        if let Some(workers) = existing(self.read().open_table(cursors::WORKERS))? {
            for row in workers.iter()? {
                let (name, place) = row?;
                places.push((name.value().to_owned(), Seq(place.value())));
            }
        }
        let mut positions: BTreeMap<u32, Position> = BTreeMap::new();
        if let Some(rows) = existing(self.read().open_table(cursors::CURSORS))? {
            for row in rows.iter()? {
                let (page, framed) = row?;
                let unpacked = cursors::unpack_row(framed.value()).unwrap_or_default();
                let slots = (page.value() * cursors::PER_ROW..).zip(unpacked);
                positions.extend(slots);
            }
        }
        for (host, subscriber) in self.sound::<Subscriber>()? {
            let place = positions.get(&subscriber.slot).map_or(Seq(0), |position| position.next);
            places.push((host, place.max(subscriber.start)));
        }
        Ok(places)
    }

    /// The records of a table that can be read.
    fn sound<R: Record>(&self) -> Result<Vec<(String, R)>, StoreError> {
        let mut rows = Vec::new();
        self.each_sound::<R>(|key, record| rows.push((key.to_owned(), record)))?;
        Ok(rows)
    }

    /// The same one by one: what is large is counted and not kept.
    fn each_sound<R: Record>(&self, mut take: impl FnMut(&str, R)) -> Result<(), StoreError> {
        let Some(table) = existing(self.read().open_table(table::<R>()))? else { return Ok(()) };
        for row in table.iter()? {
            let (key, value) = row?;
            if let Ok(record) = codec::decode(value.value()) {
                take(key.value(), record);
            }
        }
        Ok(())
    }

    fn check_rows(&self, faults: &mut Faults) -> anyhow::Result<Vec<TableSize>> {
        let mut sizes = Vec::new();
        for name in self.tables()? {
            let mut size = TableSize { table: name.clone(), rows: 0, bytes: 0 };
            let shape = tables::shape_of(self.read(), &name)?;
            tables::each_row(self.read(), &name, &mut |key, value| {
                size.rows += 1;
                size.bytes += (key.len() + value.len()) as u64;
                if let Err(error) = check_row(&name, value) {
                    let is_newer = matches!(error, StoreError::Newer { .. });
                    let fault = if is_newer { Faults::OF_A_LATER_RELEASE } else { Faults::UNREADABLE };
                    faults.note(&name, fault, format!("{}: {error}", tables::shown(shape, key)));
                }
                Ok(())
            })?;
            sizes.push(size);
        }
        sizes.sort_by(|one, other| one.table.cmp(&other.table));
        Ok(sizes)
    }

    fn check_subscribers(&self, faults: &mut Faults) -> Result<(), StoreError> {
        let mut slots = BTreeSet::new();
        for (key, subscriber) in self.sound::<Subscriber>()? {
            faults.unless(subscriber.authority.as_str() == key, Subscriber::TABLE, "stands under another's name", &key);
            faults.unless(slots.insert(subscriber.slot), Subscriber::TABLE, "shares its place in the log", &key);
        }
        Ok(())
    }

    fn check_rules(&self, faults: &mut Faults) -> Result<(), StoreError> {
        for (key, rule) in self.sound::<Rule>()? {
            faults.unless(rule.key() == key && rule.check().is_ok(), Rule::TABLE, "is no rule: unrule it", &key);
        }
        Ok(())
    }

    /// Counts that are kept beside what they count.
    fn check_tallies(&self, faults: &mut Faults) -> Result<(), StoreError> {
        let mut control: BTreeMap<String, u32> = BTreeMap::new();
        self.each_sound::<ControlRow>(|_, row| {
            control::tallies(&row.authority()).into_iter().for_each(|key| *control.entry(key).or_default() += 1);
        })?;
        let kept = self.sound::<ControlTally>()?.into_iter().map(|(key, tally)| (key, tally.messages)).collect();
        compare(faults, ControlTally::TABLE, &control, &kept);
        let mut held: BTreeMap<String, u32> = BTreeMap::new();
        self.each_sound::<HeldPost>(|_, post| *held.entry(post.server().as_str().to_owned()).or_default() += 1)?;
        let kept = self.sound::<HeldTally>()?.into_iter().map(|(key, tally)| (key, tally.posts)).collect();
        compare(faults, HeldTally::TABLE, &held, &kept);
        let mut lasting = 0;
        self.each_sound::<Refused>(|_, no| lasting += u64::from(no.lasts()))?;
        for (key, kept) in self.sound::<refused::Lasting>()? {
            faults.unless(kept.count == lasting, refused::Lasting::TABLE, "counts wrongly", &key);
        }
        Ok(())
    }

    /// Posts, the ways that lead to them, and whose they are.
    fn check_ledger(&self, faults: &mut Faults) -> Result<(), StoreError> {
        let read = self.read();
        let mut authors: BTreeMap<String, u64> = BTreeMap::new();
        self.each_sound::<IndexedAuthor>(|key, author| {
            authors.insert(key.to_owned(), author.number);
        })?;
        let leftovers: BTreeSet<String> = self.sound::<Leftover>()?.into_iter().map(|(key, _)| key).collect();
        let posts = existing(read.open_table(ledger::POSTS))?;
        let (ids, by_author) = (existing(read.open_table(ledger::IDS))?, existing(read.open_table(ledger::BY_AUTHOR))?);
        for row in rows(posts.as_ref())? {
            let (number, bytes) = row?;
            let number = number.value();
            let Ok(post) = codec::decode::<IndexedPost>(bytes.value()) else { continue };
            let id = ids.as_ref().map(|ids| ids.get(post.object.key())).transpose()?.flatten();
            let leads = id.is_some_and(|id| id.value() == number);
            faults.unless(leads, IndexedPost::TABLE, "is not led to by its id", number);
            let owned = by_author.as_ref().map(|table| table.get((post.author_number, number))).transpose()?.flatten();
            faults.unless(owned.is_some(), IndexedPost::TABLE, "is not among its author's", number);
            let is_somebodys = authors.get(post.author.as_str()).is_some_and(|number| *number == post.author_number)
                || leftovers.contains(&ledger::leftover_key(post.author_number));
            faults.unless(is_somebodys, IndexedPost::TABLE, "is of nobody who said yes", number);
        }
        let has = |number: u64| -> Result<bool, StoreError> {
            Ok(posts.as_ref().map(|posts| posts.get(number)).transpose()?.flatten().is_some())
        };
        for row in rows(ids.as_ref())? {
            let (key, number) = row?;
            faults.unless(has(number.value())?, "ledger_ids", "leads to no post", format!("{:032x}", key.value()));
        }
        for row in rows(by_author.as_ref())? {
            let (author, number) = row?.0.value();
            faults.unless(has(number)?, "ledger_by_author", "leads to no post", format!("{author}/{number}"));
        }
        if let Some(handles) = existing(read.open_table(ledger::HANDLES))? {
            for row in handles.iter()? {
                let (handle, actor) = row?;
                let known = authors.contains_key(actor.value()) && Iri::parse(actor.value()).is_ok();
                faults.unless(known, "ledger_handles", "is the name of nobody who said yes", handle.value());
            }
        }
        let newest = self.number(ledger::LAST_CHANGE)?;
        if let Some(changes) = existing(read.open_table(ledger::CHANGES))?
            && let Some((last, _)) = changes.last()?
        {
            faults.unless(
                last.value() <= newest,
                "ledger_changes",
                "has a number that is still to be given",
                last.value(),
            );
        }
        Ok(())
    }

    /// Ballots, and the ways that lead to them.
    fn check_ballots(&self, faults: &mut Faults) -> Result<(), StoreError> {
        let read = self.read();
        let ballots = existing(read.open_table(ballots::BALLOTS))?;
        let has = |hour: u32, post: u128| -> Result<bool, StoreError> {
            Ok(ballots.as_ref().map(|ballots| ballots.get((hour, post))).transpose()?.flatten().is_some())
        };
        let hours = existing(read.open_table(ballots::HOURS))?;
        for row in rows(hours.as_ref())? {
            let (post, hour) = row?;
            let (post, hour) = (post.value(), hour.value());
            faults.unless(has(hour, post)?, "trend_ballot_hours", "leads to no ballot", format!("{post:032x}"));
        }
        for row in rows(ballots.as_ref())? {
            let (hour, post) = row?.0.value();
            let found = hours.as_ref().map(|hours| hours.get(post)).transpose()?.flatten();
            let leads = found.is_some_and(|found| found.value() == hour);
            faults.unless(leads, "trend_ballots", "is not led to by its post", format!("{post:032x}"));
        }
        Ok(())
    }
}

/// A row of a table.
type Row<'a, K, V> = Result<(AccessGuard<'a, K>, AccessGuard<'a, V>), redb::StorageError>;

/// The rows of a table, none of one that was never written.
fn rows<K: redb::Key + 'static, V: redb::Value + 'static>(
    table: Option<&ReadOnlyTable<K, V>>,
) -> Result<impl Iterator<Item = Row<'_, K, V>>, StoreError> {
    Ok(table.map(ReadableTable::iter).transpose()?.into_iter().flatten())
}

/// Whether a row can be read, as far as that can be said of its table.
fn check_row(table: &str, value: &[u8]) -> Result<(), StoreError> {
    if let Some(kind) = catalogue::kind_of(table) {
        return (kind.read)(value);
    }
    match table {
        "cursors" => cursors::unpack_row(value).map(drop),
        "seen_recent" | "seen_sealed" if !value.len().is_multiple_of(seen::HASH) => {
            Err(StoreError::Damaged("the row is cut short".to_owned()))
        }
        table if BARE.contains(&table) || OF_THE_LOG.contains(&table) => Ok(()),
        "trend_hours" | "trend_days" => super::unframe(table, value).map(drop),
        // A record of another room: it is whole, and JSON.
        table => {
            let (_, payload) = super::unframe(table, value)?;
            let read: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(payload);
            read.map(drop).map_err(|error| StoreError::Damaged(format!("{table}: {error}")))
        }
    }
}

fn compare(faults: &mut Faults, table: &str, counted: &BTreeMap<String, u32>, kept: &BTreeMap<String, u32>) {
    let keys: BTreeSet<&String> = counted.keys().chain(kept.keys()).collect();
    for key in keys {
        faults.unless(counted.get(key) == kept.get(key), table, "counts wrongly", key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::ledger::testing as ledger_testing;
    use crate::store::{Directive, Store, Tx, testing};

    fn iri(text: &str) -> Iri {
        Iri::parse(text).unwrap()
    }

    async fn filled(dir: &tempfile::TempDir) -> Store {
        let store = Store::open(dir.path(), Clock::manual(Timestamp::from_secs(1_787_486_400))).unwrap();
        let (subscriber, rule) = (testing::subscriber("small.example"), testing::rule());
        let fill = move |tx: &mut Tx<'_>| {
            tx.put(&rule.key(), &rule)?;
            let inbox = iri("https://small.example/inbox");
            tx.queue_control(Directive { inbox, what: "accept".to_owned(), body: "{}".to_owned(), from: None })?;
            tx.note_removal(&iri("https://a.example/users/eve"))?;
            ledger_testing::hold(tx, &iri("https://a.example/users/ada"), &iri("https://a.example/notes/1"))?;
            tx.put_subscriber(subscriber)
        };
        store.write(fill).await.unwrap();
        store
    }

    fn found(store: &Store) -> Vec<Fault> {
        let mut faults = Faults::default();
        store.snapshot().unwrap().check(&mut faults).unwrap();
        faults.list()
    }

    #[tokio::test]
    async fn a_store_that_is_sound_has_no_fault_and_every_row_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(&dir).await;
        let mut faults = Faults::default();
        let sizes = store.snapshot().unwrap().check(&mut faults).unwrap();
        assert_eq!(faults.list(), []);
        let rows = |table: &str| sizes.iter().find(|size| size.table == table).map(|size| size.rows);
        assert_eq!((rows("subscribers"), rows("ledger_posts"), rows("control")), (Some(1), Some(1), Some(1)));
    }

    /// One way of being wrong each, and what is said of it.
    #[tokio::test]
    async fn what_is_wrong_is_named_by_table_and_row() {
        type Spoil = fn(&mut Tx<'_>) -> Result<(), StoreError>;
        let cases: [(&str, &str, Spoil); 9] = [
            ("rules", Faults::UNREADABLE, |tx| {
                tx.insert(table::<Rule>(), "domain:evil.example", super::super::frame(2, b"{}").as_slice())
            }),
            ("rules", Faults::OF_A_LATER_RELEASE, |tx| {
                tx.insert(table::<Rule>(), "domain:evil.example", super::super::frame(99, b"{}").as_slice())
            }),
            ("subscribers", Faults::UNREADABLE, |tx| {
                tx.insert(table::<Subscriber>(), "small.example", b"no".as_slice())
            }),
            ("subscribers", "shares its place in the log", |tx| {
                tx.put_subscriber(testing::subscriber("other.example"))
            }),
            ("control_tally", "counts wrongly", |tx| tx.put("small.example", &ControlTally { messages: 5 })),
            ("ledger_refused_lasting", "counts wrongly", |tx| tx.put("count", &refused::Lasting { count: 5 })),
            ("ledger_posts", "is not led to by its id", |tx| {
                tx.delete(ledger::IDS, iri("https://a.example/notes/1").key()).map(drop)
            }),
            ("ledger_ids", "leads to no post", |tx| tx.insert(ledger::IDS, 7, 7)),
            ("ledger_posts", "is of nobody who said yes", |tx| {
                tx.remove::<IndexedAuthor>("https://a.example/users/ada").map(drop)
            }),
        ];
        for (table, fault, spoil) in cases {
            let dir = tempfile::tempdir().unwrap();
            let store = filled(&dir).await;
            store.write(spoil).await.unwrap();
            let found = found(&store);
            let named = found.iter().any(|one| one.table == table && one.fault == fault && !one.such_as.is_empty());
            assert!(named, "{table} {fault}: {found:?}");
        }
    }

    #[tokio::test]
    async fn many_rows_with_one_fault_are_counted_and_some_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(&dir).await;
        let spoil = |tx: &mut Tx<'_>| (0..20).try_for_each(|number: u64| tx.insert(ledger::IDS, number.into(), number));
        store.write(spoil).await.unwrap();
        let found = found(&store);
        assert_eq!((found.len(), found[0].count, found[0].such_as.len()), (1, 20, NAMED));
    }
}

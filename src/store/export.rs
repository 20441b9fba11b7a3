//! The whole state as lines of JSON, and back (`import.rs`): our way out of any engine, and how an operator moves house. Subscribers,
//! facts about servers, whom we follow, who may send, the operator's rules, the lists that bring some of them, who is held
//! and the posts that wait travel; the log, cursors
//! and seen ids belong to one run of one relay and do not. Nor do arrivals: who counts as new depends on the authors seen.
//!
//! Of the search go along for which servers it is on, who said no and which posts are kept out, with the key of those
//! hashes; of trends, what the operator said and since when servers are known, and no votes. The posts that are found do not: whoever wrote them said yes to this relay as it was when they came, and may
//! have said no since the lines were written.
//!
//! What was deleted goes along for this relay's own sake, and what was edited: as hashes that no other relay can read. Where a
//! backup was put back, they take out of it what came to nothing since.

use std::io::Write;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AuthorityFacts, Edited, Following, HeldPost, Hold, ListFeed, Place, Publisher, Record, Refused, Rule, SearchKey,
    SearchServer, Snapshot, Store, Subscriber, Suppressed, SwitchedOff, TrendRuling,
};

/// How many records an export or import moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Exported {
    /// Servers that joined.
    pub subscribers: usize,
    /// Facts about servers.
    pub authorities: usize,
    /// Whom we follow.
    pub following: usize,
    /// Servers that may send without having joined.
    pub publishers: usize,
    /// Servers that are held.
    pub holds: usize,
    /// Posts that wait for the operator.
    pub held: usize,
    /// Rules of the operator.
    pub rules: usize,
    /// Lists that are followed.
    pub lists: usize,
    /// Servers that search is on for, and such as switched it off.
    pub search_servers: usize,
    /// What the operator said about trends, and since when servers are known to them.
    pub trends: usize,
    /// People who said no to being found, and posts that are kept out.
    pub refused: usize,
    /// What was deleted, and posts that were edited; of an import, those that another relay would not know are not counted.
    pub deleted: usize,
    /// Of an import: records that were here already, and are overwritten.
    pub overwritten: usize,
}

/// The kind of the line that says whose lines these are: only for the same relay its hashes mean something. It is the first.
pub(super) const RELAY: &str = "relay";
/// The kind of a line with hashes of what was deleted, keyed by the day.
pub(super) const DELETED: &str = "deleted";
/// The kind of the last line, which says how many there are before it: without it they were cut short.
pub(super) const END: &str = "end";
/// Hashes in one line.
const PER_LINE: usize = 1000;
/// Bytes of the last line.
const MAX_END: usize = 512;

/// A line.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    /// The table of its record, or what else it is.
    pub(super) kind: String,
    /// The version of the record.
    pub(super) version: u8,
    /// The record's key.
    pub(super) key: String,
    /// The record.
    pub(super) record: Value,
}

/// What the last line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ended {
    /// Lines before it.
    pub lines: u64,
    /// Records that could not be read, and are in none of them.
    pub damaged: u64,
}

/// Writes every record as one line `{"kind", "version", "key", "record"}`, and in the last one how many there were. All is of
/// one moment, and no more than a record is held in memory. A record that cannot be read is counted and passed over: who
/// said no is not to be lost for a row that has nothing to do with them.
///
/// Blocks.
///
/// # Errors
/// The store's or the writer's.
pub fn export(store: &Store, out: &mut impl Write) -> anyhow::Result<Exported> {
    let mut lines = Lines { from: store.snapshot()?, out, ended: Ended::default() };
    lines.write(RELAY, 1, "mark", store.mark().into())?;
    let done = Exported {
        subscribers: lines.table::<Subscriber>()?,
        authorities: lines.table::<AuthorityFacts>()?,
        following: lines.table::<Following>()?,
        publishers: lines.table::<Publisher>()?,
        holds: lines.table::<Hold>()?,
        held: lines.table::<HeldPost>()?,
        rules: lines.table::<Rule>()?,
        lists: lines.table::<ListFeed>()?,
        search_servers: lines.table::<SearchServer>()? + lines.table::<SwitchedOff>()?,
        trends: lines.table::<TrendRuling>()? + lines.table::<Place>()?,
        refused: {
            lines.record(SearchKey::ROW, &store.search_key_row())?;
            lines.table::<Refused>()? + lines.table::<Suppressed>()?
        },
        deleted: lines.deleted(store)? + lines.table::<Edited>()?,
        overwritten: 0,
    };
    let ended = lines.ended;
    if ended.damaged > 0 {
        tracing::error!(
            count = ended.damaged,
            "records cannot be read and are not exported; `shearwater check` names them"
        );
    }
    lines.write(END, 1, "", serde_json::to_value(ended)?)?;
    out.flush()?;
    Ok(done)
}

struct Lines<'a, W> {
    from: Snapshot,
    out: &'a mut W,
    ended: Ended,
}

impl<W: Write> Lines<'_, W> {
    fn table<R: Record>(&mut self) -> anyhow::Result<usize> {
        let (mut count, out, ended) = (0, &mut *self.out, &mut self.ended);
        let damaged = self.from.each::<R, anyhow::Error>(|key, record| {
            count += 1;
            ended.lines += 1;
            write_line(out, R::TABLE, R::VERSION, key, serde_json::to_value(record)?)
        })?;
        self.ended.damaged += damaged;
        Ok(count)
    }

    fn deleted(&mut self, store: &Store) -> anyhow::Result<usize> {
        let mut count = 0;
        for (day, hashes) in store.tombstones()? {
            for some in hashes.chunks(PER_LINE) {
                let hashes: Vec<String> = some.iter().map(|hash| format!("{hash:032x}")).collect();
                self.write(DELETED, 1, &day.to_string(), hashes.into())?;
                count += some.len();
            }
        }
        Ok(count)
    }

    fn record<R: Record>(&mut self, key: &str, record: &R) -> anyhow::Result<()> {
        self.write(R::TABLE, R::VERSION, key, serde_json::to_value(record)?)
    }

    fn write(&mut self, kind: &str, version: u8, key: &str, record: Value) -> anyhow::Result<()> {
        self.ended.lines += 1;
        write_line(self.out, kind, version, key, record)
    }
}

fn write_line(out: &mut impl Write, kind: &str, version: u8, key: &str, record: Value) -> anyhow::Result<()> {
    let line = Line { kind: kind.to_owned(), version, key: key.to_owned(), record };
    serde_json::to_writer(&mut *out, &line)?;
    Ok(out.write_all(b"\n")?)
}

/// Passes lines of an export on, and tells in the end whether all of them came.
pub struct Whole<W> {
    out: W,
    lines: u64,
    /// The line that comes, and the last one that came; the beginnings of them.
    line: Vec<u8>,
    last: Vec<u8>,
}

impl<W: Write> Whole<W> {
    /// To `out`.
    #[must_use]
    pub const fn new(out: W) -> Self {
        Self { out, lines: 0, line: Vec::new(), last: Vec::new() }
    }

    /// Hands over what is still here; what the last line says.
    ///
    /// # Errors
    /// If that was not the last line of an export, or not as many came before it as it says. The writer's.
    pub fn finish(&mut self) -> anyhow::Result<Ended> {
        self.out.flush()?;
        let line: Option<Line> = serde_json::from_slice(&self.last).ok();
        let ended = line.filter(|line| line.kind == END).and_then(|line| serde_json::from_value(line.record).ok());
        let is_whole = |ended: &Ended| self.line.is_empty() && ended.lines + 1 == self.lines;
        ended.filter(is_whole).context("the export was cut short: its last line is not there")
    }
}

impl<W: Write> Write for Whole<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        for part in bytes.get(..count).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_END.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or_default());
            if part.ends_with(b"\n") {
                self.lines += 1;
                self.last = std::mem::take(&mut self.line);
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::ids::{Authority, Iri, Seq};
    use crate::store::import::{foresee, import, read};
    use crate::store::ledger::testing as ledger_testing;
    use crate::store::{HeldKind, HeldTally, MAX_REASON, SeenSet, StoreError, SwitchedBy, Tx, Wish, testing};

    fn next_place(_tx: &Tx<'_>) -> Result<Seq, StoreError> {
        Ok(Seq(7))
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Tern {
        name: String,
        nests: u8,
    }

    impl Record for Tern {
        const TABLE: &'static str = "terns";
        const VERSION: u8 = 2;

        fn upgrade(version: u8, mut payload: Value) -> Option<Value> {
            payload.as_object_mut()?.insert("nests".to_owned(), 1.into());
            (version == 1).then_some(payload)
        }
    }

    #[tokio::test]
    async fn who_moves_house_starts_at_the_end_of_the_new_log() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let (old, new) =
            (Store::open(old.path(), clock.clone()).unwrap(), Store::open(new.path(), clock.clone()).unwrap());
        let subscriber = testing::subscriber("small.example");
        assert!(subscriber.start > Seq(7), "its old place lies beyond what the new log will reach for long");
        let moved = subscriber.clone();
        old.write(move |tx| tx.put_subscriber(moved)).await.unwrap();
        let mut lines = Vec::new();
        export(&old, &mut lines).unwrap();
        import(&new, &mut lines.as_slice(), next_place).await.unwrap();
        let arrived = new.subscriber(&subscriber.authority).unwrap();
        assert_eq!(arrived.start, Seq(7));
        assert_eq!(arrived.registrations, subscriber.registrations);
    }

    #[tokio::test]
    async fn who_is_held_and_what_waits_moves_along() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let (old, new) =
            (Store::open(old.path(), clock.clone()).unwrap(), Store::open(new.path(), clock.clone()).unwrap());
        let object = Iri::parse("https://small.example/posts/1").unwrap();
        let post = HeldPost {
            at: clock.now(),
            kind: HeldKind::Create,
            actor: Iri::parse("https://small.example/users/ada").unwrap(),
            activity: String::new(),
            supplier: object.authority(),
            object,
            carried: false,
            published: None,
            body: String::new(),
            reason: "hashtags".to_owned(),
            text: String::new(),
            for_search: false,
        };
        let hold = Hold { since: clock.now(), reason: "wave".to_owned(), by: "relay".to_owned() };
        let (row, server) = (post.clone(), hold.clone());
        old.write(move |tx| {
            tx.hold(row)?;
            tx.put("small.example", &server)
        })
        .await
        .unwrap();
        let mut lines = Vec::new();
        export(&old, &mut lines).unwrap();
        let done = import(&new, &mut lines.as_slice(), next_place).await.unwrap();
        assert_eq!((done.holds, done.held), (1, 1));
        assert_eq!(new.get::<Hold>("small.example").unwrap(), Some(hold));
        assert_eq!(new.held_of(&post.server()).unwrap(), [post]);
        assert_eq!(new.get::<HeldTally>("small.example").unwrap().map(|tally| tally.posts), Some(1));
    }

    /// One of every kind, out and in and out again.
    #[tokio::test]
    async fn the_whole_state_comes_out_as_it_went_in() {
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let open = |dir: &tempfile::TempDir| Store::open(dir.path(), clock.clone()).unwrap();
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [old, new] = [open(&dirs[0]), open(&dirs[1])];
        let at = clock.now();
        let version = crate::store::ListVersion { version: "0123456789ab".to_owned(), at };
        let feed = ListFeed {
            url: "https://lists.example/block.csv".to_owned(),
            severity: crate::store::Severity::Block,
            auto: true,
            skip_bad: false,
            added: at,
            etag: Some("\"1\"".to_owned()),
            asked_at: Some(at),
            failures: 0,
            trouble: None,
            fetched: Some(version.clone()),
            applied: Some(version),
        };
        let subscriber = testing::subscriber("small.example");
        old.write(move |tx| {
            tx.put_subscriber(subscriber)?;
            tx.put("small.example", &AuthorityFacts { software: Some("mastodon".to_owned()), ..Default::default() })?;
            let rule = testing::rule();
            tx.put(&rule.key(), &rule)?;
            tx.put("dni", &feed)?;
            tx.note_removal(&Iri::parse("https://small.example/users/ada").unwrap())
        })
        .await
        .unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let out = export(&old, &mut first).unwrap();
        assert_eq!((out.subscribers, out.authorities, out.rules, out.lists, out.refused), (1, 1, 1, 1, 1));
        let taken = import(&new, &mut first.as_slice(), next_place).await.unwrap();
        assert_eq!(export(&new, &mut second).unwrap(), out);
        assert_eq!(taken, out);
        // But for what belongs to one run of one relay: places in its log, what it fetched, and which it is.
        let without = |lines: &[u8]| -> Vec<Value> {
            let lines = std::str::from_utf8(lines).unwrap().lines();
            let mut lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
            lines.retain(|line| line["kind"] != "relay");
            for line in &mut lines {
                let record = line["record"].as_object_mut().unwrap();
                for own in ["slot", "start", "etag", "asked_at", "fetched"] {
                    record.remove(own);
                }
            }
            lines
        };
        assert_eq!(without(&first), without(&second));
        assert!(new.get::<ListFeed>("dni").unwrap().is_some_and(|feed| feed.asked_at.is_none()), "it is fetched anew");
        // Twice the same is the same.
        import(&new, &mut first.as_slice(), next_place).await.unwrap();
        let mut third = Vec::new();
        export(&new, &mut third).unwrap();
        assert_eq!(without(&first), without(&third));
    }

    #[tokio::test]
    async fn rules_move_house_and_one_that_is_none_stops_the_import() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let (old, new) = (Store::open(old.path(), clock.clone()).unwrap(), Store::open(new.path(), clock).unwrap());
        let rule = testing::rule();
        let moved = rule.clone();
        old.write(move |tx| tx.put(&moved.key(), &moved)).await.unwrap();
        let mut lines = Vec::new();
        assert_eq!(export(&old, &mut lines).unwrap().rules, 1);
        assert_eq!(import(&new, &mut lines.as_slice(), next_place).await.unwrap().rules, 1);
        assert_eq!(new.all::<Rule>().unwrap(), [(rule.key(), rule)]);
        let bad = String::from_utf8(lines).unwrap().replace("domain:evil.example", "domain:ev*l.example");
        let error = format!("{:#}", import(&new, &mut bad.as_bytes(), next_place).await.unwrap_err());
        assert!(error.contains("line 2") && error.contains("obfuscated"), "{error}");
    }

    #[tokio::test]
    async fn who_said_no_to_being_found_has_said_it_to_the_relay_wherever_it_runs() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let (old, fresh) =
            (Store::open(old.path(), clock.clone()).unwrap(), Store::open(new.path(), clock.clone()).unwrap());
        let iri = |text: &str| Iri::parse(text).unwrap();
        let (ada, post) = (iri("https://a.example/users/ada"), iri("https://a.example/notes/1"));
        let (host, on) = (
            ada.authority(),
            SearchServer { since: clock.now(), by: SwitchedBy::Operator, reason: "asked".to_owned(), also: Vec::new() },
        );
        let (who, what, server) = (ada.clone(), post.clone(), on.clone());
        old.write(move |tx| {
            tx.note_removal(&who)?;
            tx.suppress_post(&what)?;
            tx.switch_search(&who.authority(), Some(server)).map(drop)
        })
        .await
        .unwrap();
        let mut lines = Vec::new();
        export(&old, &mut lines).unwrap();
        assert!(!String::from_utf8_lossy(&lines).contains("ada"), "hashes, and a key that is not the store's own");
        let done = import(&fresh, &mut lines.as_slice(), next_place).await.unwrap();
        assert_eq!((done.search_servers, done.refused), (1, 2));
        assert_eq!(*fresh.search_servers()[&host], on);
        assert!(fresh.refused(&ada).unwrap().is_some_and(|no| no.removed));
        let what = post.clone();
        assert!(fresh.write(move |tx| tx.is_suppressed(&what)).await.unwrap());
        let token = |store: &Store| store.token(&ada, Wish::Return, Timestamp::default());
        assert_eq!(token(&fresh), token(&old), "so they can return");
        import(&fresh, &mut lines.as_slice(), next_place).await.unwrap();
        // Where others said no under another key, theirs would be lost.
        let other = tempfile::tempdir().unwrap();
        let other = Store::open(other.path(), clock).unwrap();
        let eve = iri("https://b.example/users/eve");
        let who = eve.clone();
        other.write(move |tx| tx.note_removal(&who)).await.unwrap();
        let error = import(&other, &mut lines.as_slice(), next_place).await.unwrap_err().to_string();
        assert!(error.contains("empty data_dir") && other.search_servers().is_empty(), "{error}");
        assert!(other.refused(&eve).unwrap().is_some());
    }

    /// Last night's folder came back, and today's lines bring the noes up to date.
    #[tokio::test]
    async fn a_no_that_is_imported_counts_for_what_is_held_and_weakens_none() {
        let (today, night) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let today = Store::open(today.path(), clock.clone()).unwrap();
        let iri = |text: &str| Iri::parse(text).unwrap();
        let (ada, bea, ours) =
            (iri("https://a.example/ada"), iri("https://a.example/bea"), iri("https://r.example/actor"));
        let (gone, stays) = (iri("https://a.example/notes/1"), iri("https://a.example/notes/2"));
        let (who, post, blocked, other) = (ada.clone(), gone.clone(), ours.clone(), bea.clone());
        today
            .write(move |tx| {
                tx.note_block(&who, &blocked)?;
                tx.refuse_author(&other, "not-indexable", Timestamp::default())?;
                tx.suppress_post(&post)
            })
            .await
            .unwrap();
        let mut lines = Vec::new();
        export(&today, &mut lines).unwrap();
        // The same key, for it is the same relay.
        let night = Store::open(night.path(), clock).unwrap();
        let key = today.search_key_row();
        night.write(move |tx| tx.take_search_key(&key)).await.unwrap();
        let rows = [
            (ada.clone(), iri("https://a.example/notes/3")),
            (bea.clone(), gone.clone()),
            (bea.clone(), stays.clone()),
        ];
        let removed = bea.clone();
        night
            .write(move |tx| {
                tx.note_removal(&removed)?;
                for (author, object) in &rows {
                    ledger_testing::hold(tx, author, object)?;
                }
                Ok(())
            })
            .await
            .unwrap();
        import(&night, &mut lines.as_slice(), next_place).await.unwrap();
        let held = |actor: &Iri| night.ledger().unwrap().author(actor).unwrap().is_some();
        assert!(!held(&ada), "who blocks us is out");
        assert!(!held(&bea) && night.refused(&bea).unwrap().is_some_and(|no| no.removed), "what is known stays known");
        assert_eq!(night.indexed_number(&gone).unwrap(), None);
        assert!(night.indexed_number(&stays).unwrap().is_some(), "it is swept with its author's others");
    }

    #[tokio::test]
    async fn a_server_that_switched_search_off_stays_off_after_a_restore_and_an_import() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(Timestamp::from_secs(1_787_486_400)));
        let host = Authority::parse("a.example").unwrap();
        let on = |since| SearchServer { since, by: SwitchedBy::Operator, reason: "asked".to_owned(), also: Vec::new() };
        let lines = |store: &Store| {
            let mut lines = Vec::new();
            export(store, &mut lines).unwrap();
            lines
        };
        let relay = Store::open(dir.path(), clock.clone()).unwrap();
        let (server, first) = (host.clone(), on(clock.now()));
        let row = first.clone();
        relay.write(move |tx| tx.switch_search(&server, Some(row))).await.unwrap();
        let night = lines(&relay);
        clock.advance(std::time::Duration::from_secs(3600));
        let server = host.clone();
        relay.write(move |tx| tx.switch_search(&server, None)).await.unwrap();
        let today = lines(&relay);
        // What was said last night does not switch it on again,
        import(&relay, &mut night.as_slice(), next_place).await.unwrap();
        assert!(relay.search_servers().is_empty());
        // nor does last night's folder, when today's lines come.
        let other = tempfile::tempdir().unwrap();
        let restored = Store::open(other.path(), clock.clone()).unwrap();
        let (server, row) = (host.clone(), first);
        restored.write(move |tx| tx.switch_search(&server, Some(row))).await.unwrap();
        import(&restored, &mut today.as_slice(), next_place).await.unwrap();
        assert!(restored.search_servers().is_empty());
        // Who switched it on since is not switched off by that.
        clock.advance(std::time::Duration::from_secs(3600));
        let (server, row) = (host, on(clock.now()));
        restored.write(move |tx| tx.switch_search(&server, Some(row))).await.unwrap();
        import(&restored, &mut today.as_slice(), next_place).await.unwrap();
        assert_eq!(restored.search_servers().len(), 1);
    }

    /// Last night's rows came back, and the newest lines say what came to nothing since.
    #[tokio::test]
    async fn what_was_deleted_or_edited_since_goes_from_what_was_put_back_and_from_no_other_relay() {
        let (today, night) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let relay = Store::open(today.path(), clock.clone()).unwrap();
        let iri = |text: &str| Iri::parse(text).unwrap();
        let (ada, bea, cyd) =
            (iri("https://a.example/ada"), iri("https://a.example/bea"), iri("https://a.example/cyd"));
        let posts = [
            (ada.clone(), iri("https://a.example/notes/deleted")),
            (ada.clone(), iri("https://a.example/notes/edited")),
            (ada.clone(), iri("https://a.example/notes/stays")),
            (bea.clone(), iri("https://a.example/notes/of-who-is-gone")),
        ];
        let rows = posts.clone();
        let waits = HeldPost {
            at: clock.now(),
            kind: HeldKind::Create,
            actor: cyd.clone(),
            activity: String::new(),
            supplier: cyd.authority(),
            object: iri("https://a.example/notes/held"),
            carried: false,
            published: None,
            body: String::new(),
            reason: "wave".to_owned(),
            text: String::new(),
            for_search: false,
        };
        let held = waits.clone();
        let fill = move |tx: &mut Tx<'_>| {
            for (author, object) in &rows {
                ledger_testing::hold(tx, author, object)?;
            }
            tx.hold(held)
        };
        relay.write(fill).await.unwrap();
        let mut bytes = Vec::new();
        relay.snapshot().unwrap().write(&[], Seq(9), &mut bytes).unwrap();
        crate::store::make_of_rows(bytes.as_slice(), 0, night.path()).unwrap();
        clock.advance(std::time::Duration::from_secs(3 * 86_400));
        let [deleted, edited, stays, gone] = posts.map(|(_, object)| object);
        let (one, two, three, who) = (deleted.clone(), edited.clone(), waits.object.clone(), bea.clone());
        let change = move |tx: &mut Tx<'_>| {
            tx.note(SeenSet::Tombstones, &[one.as_str()])?;
            tx.note(SeenSet::Tombstones, &[three.as_str()])?;
            tx.note(SeenSet::Tombstones, &["actor", who.as_str()])?;
            tx.void_versions(&two, Seq(40))
        };
        relay.write(change).await.unwrap();
        relay.tidy_seen(|_set| 90).await.unwrap();
        let mut lines = Vec::new();
        assert_eq!(export(&relay, &mut lines).unwrap().deleted, 4);
        assert!(!String::from_utf8_lossy(&lines).contains("notes/deleted"), "hashes only");

        let restored = Store::open(night.path(), clock.clone()).unwrap();
        assert_eq!(import(&restored, &mut lines.as_slice(), next_place).await.unwrap().deleted, 4);
        let is_held = |object: &Iri| restored.indexed_number(object).unwrap().is_some();
        assert!(!is_held(&deleted) && !is_held(&edited) && is_held(&stays));
        assert!(restored.ledger().unwrap().author(&bea).unwrap().is_none(), "{gone} is swept with its author's others");
        assert!(restored.held_of(&waits.server()).unwrap().is_empty());
        assert!(restored.has_seen(SeenSet::Tombstones, &[deleted.as_str()]).unwrap(), "and none comes again");

        let elsewhere = tempfile::tempdir().unwrap();
        let elsewhere = Store::open(elsewhere.path(), clock).unwrap();
        assert_eq!(import(&elsewhere, &mut lines.as_slice(), next_place).await.unwrap().deleted, 0);
        assert!(elsewhere.tombstones().unwrap().is_empty());
    }

    /// The file of ten minutes ago, which a full disk or a shell cut short: who said no would come back, without a word.
    #[tokio::test]
    async fn lines_that_were_cut_short_or_changed_are_refused_and_nothing_of_them_is_read_in() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
        let (old, new) = (Store::open(old.path(), clock.clone()).unwrap(), Store::open(new.path(), clock).unwrap());
        let (rule, publisher) =
            (testing::rule(), Publisher { since: Timestamp::default(), reason: "x".repeat(9999), by: "x".to_owned() });
        old.write(move |tx| {
            tx.put(&rule.key(), &rule)?;
            tx.put("blog.example", &publisher)
        })
        .await
        .unwrap();
        let mut lines = Vec::new();
        export(&old, &mut lines).unwrap();
        let text = String::from_utf8(lines).unwrap();
        let all: Vec<&str> = text.lines().collect();
        let joined = |some: &[&str]| some.iter().map(|line| format!("{line}\n")).collect::<String>();
        let last = all.len() - 1;
        let without_one = joined(&[&all[..1], &all[2..]].concat());
        for (lines, said) in [
            (String::new(), "cut short"),
            (joined(&all[..last]), "cut short"),
            (text[..text.len() - 1].to_owned(), "cut short"),
            (without_one, "lines before this one"),
            (joined(&all[1..]), "do not begin"),
            (format!("{text}{text}"), "behind the last line"),
            (text.replace("list:dni", "config"), "of the configuration"),
            (text.replace("\"key\":\"blog.example\"", "\"key\":\"no host\""), "line"),
        ] {
            let error = format!("{:#}", import(&new, &mut lines.as_bytes(), next_place).await.unwrap_err());
            assert!(error.contains(said), "{said}: {error}");
            assert!(new.all::<Rule>().unwrap().is_empty() && new.all::<Publisher>().unwrap().is_empty());
        }
        assert_eq!(foresee(&new, &mut text.as_bytes(), next_place).unwrap().overwritten, 0);
        assert!(new.all::<Rule>().unwrap().is_empty(), "it was only looked at");
        import(&new, &mut text.as_bytes(), next_place).await.unwrap();
        assert_eq!(foresee(&new, &mut text.as_bytes(), next_place).unwrap().overwritten, 2);
        assert_eq!(new.all::<Publisher>().unwrap()[0].1.reason.len(), MAX_REASON);
    }

    /// It reaches who said no all the same.
    #[tokio::test]
    async fn one_damaged_row_is_counted_and_all_others_are_exported() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(Timestamp::from_secs(1_787_486_400))).unwrap();
        let rule = testing::rule();
        store.write(move |tx| tx.put(&rule.key(), &rule)).await.unwrap();
        testing::spoil::<AuthorityFacts>(&store, "a.example").await;
        let mut lines = Whole::new(Vec::new());
        assert_eq!(export(&store, &mut lines).unwrap().rules, 1);
        assert_eq!(lines.finish().unwrap().damaged, 1);
    }

    #[test]
    fn a_line_of_an_older_release_is_carried_forward_and_one_of_a_later_refused() {
        let old = serde_json::json!({ "name": "arctic" });
        let tern: Tern = read(1, old.clone(), 3).unwrap();
        assert_eq!((tern.name.as_str(), tern.nests), ("arctic", 1));
        let error = format!("{:#}", read::<Tern>(3, old, 3).unwrap_err());
        assert!(error.contains("line 3") && error.contains("later release"), "{error}");
    }
}

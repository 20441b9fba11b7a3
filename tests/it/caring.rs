//! The search's index is cared for: by command, after damage to it or to its ledger, and so that what was removed is gone
//! from its files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableHandle as _};
use serde_json::{Value, json};
use shearwater::clock::Clock;
use shearwater::demo::{As, Family, Instance, PostSpec, Visibility};
use shearwater::ids::{Iri, Seq};
use shearwater::search::find::FindFault;
use shearwater::search::index::{Index, Page, Writer};
use shearwater::search::indexer::Rebuild;
use shearwater::search::schema::IndexDoc;
use shearwater::store::{IndexedAuthor, IndexedPost, Leftover, Store, Suppressed, Tx};
use shearwater::wire::document::Document;
use shearwater::wire::searchable::{ActorSignals, Profile};

use crate::searching::{eventually, found, gathered, held, member, searching, switch_on, tell_profile};
use crate::support::{TestRelay, authority, publish};

const HEAP: usize = 15 << 20;

/// What `shearwater index` says: its exit code, and the JSON or the words.
pub(crate) fn index(data_dir: &Path, args: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shearwater"));
    command.env_clear().env("SHEARWATER_DATA_DIR", data_dir).env("SHEARWATER_SEARCH__API", "public");
    command.env("SHEARWATER_PUBLIC_URL", "https://relay.example").arg("index").args(args);
    let output = command.output().expect("it runs");
    let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap_or(-1), json, words)
}

/// Puts posts of an author of this server into the ledger, as the gatherer would.
async fn shelve(relay: &TestRelay, instance: &Instance, name: &str, count: usize, text: &str) -> Vec<Iri> {
    let actor = Iri::parse(&instance.actor(&As::Author(name.to_owned()))).expect("an id");
    let (now, text) = (relay.server.app().state.clock.now(), text.to_owned());
    let mut ids = Vec::new();
    for batch in 0..count.div_ceil(200) {
        let range = batch * 200..count.min((batch + 1) * 200);
        let objects: Vec<Iri> = range.map(|n| Iri::parse(&format!("{actor}/shelved/{n}")).expect("an id")).collect();
        ids.extend(objects.clone());
        let (actor, text) = (actor.clone(), text.clone());
        let write = move |tx: &mut Tx<'_>| {
            let said = json!({ "id": actor.as_str(), "type": "Person", "indexable": true, "discoverable": true,
                               "preferredUsername": actor.as_str().rsplit('/').next() });
            let row = IndexedAuthor {
                number: 0,
                since: None,
                read_at: now,
                signals: ActorSignals::of(&said),
                profile: Profile::of(&said).expect("a profile"),
                hidden: None,
            };
            let author_number = tx.put_indexed_author(&actor, row)?.number;
            objects.into_iter().try_for_each(|object| {
                let document = Document { text: text.clone(), ..Document::default() };
                let (author, language) = (actor.clone(), "en".to_owned());
                tx.put_indexed_post(&IndexedPost {
                    object,
                    author,
                    author_number,
                    published: now,
                    seq: Seq(0),
                    language,
                    document,
                })
                .map(drop)
            })
        };
        relay.store().write(write).await.expect("written");
    }
    ids
}

async fn indexed(relay: &TestRelay, count: u64) {
    let all = || relay.search().report().is_ok_and(|(report, _)| report.indexed == count && report.waiting == 0);
    eventually(relay, &format!("{count} are indexed"), all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_looks_compares_and_purges_by_command() {
    let relay = searching().await;
    let (one, two) = (member(&relay, "one").await, member(&relay, "two").await);
    let dir = relay.config.data_dir.clone();
    let mut posts = Vec::new();
    for text in ["a shag", "a shag again", "a shag once more"] {
        posts.push(publish(&one, text).await.id);
    }
    let grace = one.post(PostSpec::public("a shag of hers").by("grace")).await.expect("an answer");
    let of_two = publish(&two, "a shag elsewhere").await;
    indexed(&relay, 5).await;

    let (code, stats, _) = index(&dir, &["stats", "--json"]);
    assert_eq!((code, &stats["posts"], &stats["authors"], &stats["indexed"]), (0, &json!(5), &json!(3), &json!(5)));
    let (code, _, table) = index(&dir, &["stats"]);
    assert!(code == 0 && table.contains("indexed: 5\n") && table.contains("removed_since: -\n"), "{table}");
    let (code, same, _) = index(&dir, &["check", "--json"]);
    assert_eq!(
        (code, &same["held"], &same["indexed"], &same["missing"]),
        (0, &json!(5), &json!(5), &json!(0)),
        "{same}"
    );

    // A post, which does not come again by an edit. Nothing is done without --yes.
    let (code, would, words) = index(&dir, &["purge", &posts[0], "--json"]);
    assert_eq!((code, &would["posts"], &would["done"]), (0, &json!(1), &json!(false)), "{words}");
    assert!(words.contains("--yes does it") && found(&relay, "shag").len() == 5, "{words}");
    let (code, done, words) = index(&dir, &["purge", &posts[0], "--yes", "--json"]);
    assert_eq!((code, &done["posts"], &done["done"]), (0, &json!(1), &json!(true)), "{words}");
    assert!(!found(&relay, "shag").contains(&posts[0]), "at once");
    assert_eq!(relay.store().all::<Suppressed>().expect("the store reads").len(), 1);
    one.edit(&posts[0], "a shag that tries again").await.expect("an answer");
    eventually(&relay, "its edit was looked at", || gathered(&relay, "deleted") == 1).await;
    assert_eq!(found(&relay, "shag").len(), 4);

    // An author, by handle: who still says yes may come again, and with --for-good not.
    let (handle, host) = (format!("@ada@{}", authority(&one)), authority(&two).to_string());
    let (_, would, _) = index(&dir, &["purge", &handle, "--dry-run", "--json"]);
    assert_eq!((&would["what"], &would["posts"], &would["done"]), (&json!("author"), &json!(2), &json!(false)));
    let (code, _, words) = index(&dir, &["purge", &handle, "--yes", "--for-good"]);
    assert!(code == 0 && words.contains("for_good: true"), "{words}");
    publish(&one, "a shag by who is out").await;
    eventually(&relay, "it was looked at", || gathered(&relay, "removed") == 1).await;
    let left = found(&relay, "shag");
    assert!(left.len() == 2 && left.contains(&grace.id) && left.contains(&of_two.id), "{left:?}");

    // A server. 127.0.0.1 is another one: ports count.
    let (code, done, words) = index(&dir, &["purge", &host, "--yes", "--json"]);
    assert_eq!((code, &done["authors"], &done["posts"]), (0, &json!(1), &json!(1)), "{words}");
    assert_eq!(found(&relay, "shag"), [grace.id]);
    for wrong in ["@who@a.example", "no host", "https://"] {
        let (code, _, words) = index(&dir, &["purge", wrong, "--yes"]);
        assert!(code == 1 && words.contains("shearwater: "), "{wrong}: {words}");
    }
    let (code, _, words) = index(&dir, &["purge", &host, "--yes", "--for-good"]);
    assert!(code == 1 && words.contains("admin no-search"), "{words}");

    eventually(&relay, "all is swept", || held(&relay) == (1, 1)).await;
    indexed(&relay, 1).await;
    // The index shows it a moment before it is counted.
    let counted = || relay.metric("shearwater_search_purge_latency_seconds_count") >= 3.0;
    eventually(&relay, "each is counted", counted).await;
    assert!(relay.metric("shearwater_search_purge_latency_seconds_sum") < 60.0);
    let (code, _, words) = index(&dir, &["expunge"]);
    assert!(code == 0 && words.contains("left: 0"), "{words}");
    let (_, stats, _) = index(&dir, &["stats", "--json"]);
    assert_eq!((&stats["removed"], &stats["removed_since"]), (&json!(0), &Value::Null), "{stats}");
    assert_eq!(index(&dir, &["check"]).0, 0);
}

fn open(data_dir: &Path) -> (Index, Writer) {
    let index = Index::open(&data_dir.join("search")).expect("the index");
    let writer = index.writer(HEAP).expect("the writer");
    (index, writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_between_index_and_ledger_is_told_and_a_new_index_mends_it() {
    let relay = searching().await;
    let one = member(&relay, "one").await;
    let ids = shelve(&relay, &one, "ada", 5, "a tropicbird").await;
    indexed(&relay, 5).await;
    let numbers: Vec<u64> =
        ids.iter().map(|id| relay.store().indexed_number(id).expect("reads").expect("a number")).collect();
    let relay = relay
        .restart_after(|data_dir| {
            let (_index, mut writer) = open(data_dir);
            writer.remove(numbers[0]);
            let document = Document { text: "a stranger".to_owned(), ..Document::default() };
            let stranger = |id| IndexDoc { id, author: 99, server: 1, language: "en", document: &document };
            writer.add(&stranger(7)).expect("added");
            writer.add(&stranger(numbers[1])).expect("added");
            writer.commit(writer.position(), Clock::system().now()).expect("committed");
            drop(writer);
            // Where no relay runs, the files are compared.
            let (code, told, words) = index(data_dir, &["check", "--json"]);
            assert_eq!(
                (code, &told["missing"], &told["surplus"], &told["doubled"]),
                (1, &json!(1), &json!(1), &json!(1))
            );
            assert!(words.contains("differ in 3 posts") && words.contains("index rebuild"), "{words}");
        })
        .await;
    let dir = relay.config.data_dir.clone();
    let (code, told, _) = index(&dir, &["check", "--json"]);
    let such_as =
        [json!("7 surplus"), json!(format!("{} missing", numbers[0])), json!(format!("{} doubled", numbers[1]))];
    assert!(
        code == 1 && such_as.iter().all(|one| told["such_as"].as_array().is_some_and(|all| all.contains(one))),
        "{told}"
    );
    let (code, done, words) = index(&dir, &["rebuild", "--json"]);
    assert_eq!((code, &done["posts"]), (0, &json!(5)), "{words}");
    assert_eq!(index(&dir, &["check"]).0, 0);
    assert_eq!(found(&relay, "tropicbird").len(), 5);
    assert_eq!(beside(&dir), Vec::<String>::new(), "nothing lies about");
    let relay = relay
        .restart_after(|data_dir| {
            for args in [["rebuild"], ["expunge"], ["check"], ["stats"]] {
                let (code, _, words) = index(data_dir, &args);
                assert_eq!(code, 0, "{args:?} without a relay: {words}");
            }
            let (code, _, words) = index(data_dir, &["purge", "a.example", "--yes"]);
            assert!(code == 1 && words.contains("no relay runs"), "{words}");
        })
        .await;
    eventually(&relay, "found again", || found(&relay, "tropicbird").len() == 5).await;
}

/// What lies beside the index in its folder.
fn beside(data_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(data_dir.join("search")).expect("the folder");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "v1")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_new_index_is_made_searches_go_on_and_what_comes_meanwhile_is_in_it() {
    let relay = searching().await;
    let one = member(&relay, "one").await;
    let ids = shelve(&relay, &one, "ada", 4000, "a storm petrel").await;
    indexed(&relay, 4000).await;
    relay.search().rebuild_index().expect("begun");
    let (mut searches, mut removed) = (0, Vec::new());
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let page = Page { limit: 3, ..Page::default() };
        match relay.search().find("petrel", page, 0, false) {
            Ok(results) => assert!(results.hits.len() == 3 || results.took_too_long, "{results:?}"),
            Err(FindFault::NoIndex) if searches > 0 => {} // Between two indexes: the moment of the swap.
            Err(fault) => panic!("{fault}"),
        }
        searches += 1;
        if let Some(id) = ids.get(removed.len() * 7) {
            let gone = id.clone();
            assert!(relay.store().write(move |tx| tx.drop_indexed_post(&gone)).await.expect("written"));
            removed.push(id.to_string());
        }
        match relay.search().report().expect("numbers").1 {
            Rebuild::Done { .. } => break,
            Rebuild::Running { .. } => assert!(Instant::now() < until, "it takes too long"),
            other => panic!("{other:?}"),
        }
    }
    assert!(searches > 3 && !removed.is_empty(), "{searches} searches, {} removals", removed.len());
    let later = publish(&one, "a petrel that came later").await;
    indexed(&relay, 4001 - removed.len() as u64).await;
    let same = relay.search().check_index().await.expect("compared");
    assert!(same.is_equal() && same.held == 4001 - removed.len() as u64, "{same:?}");
    assert_eq!(found(&relay, "\"came later\""), [later.id]);
    assert_eq!(beside(&relay.config.data_dir), Vec::<String>::new());
}

/// The largest file of the index with this ending.
fn largest(data_dir: &Path, kind: &str) -> PathBuf {
    let files =
        std::fs::read_dir(data_dir.join("search/v1")).expect("the index").map(|entry| entry.expect("a file").path());
    let ours = files.filter(|path| path.extension().is_some_and(|ending| ending == kind));
    ours.max_by_key(|path| std::fs::metadata(path).map_or(0, |file| file.len())).expect("a file")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_cut_short_flipped_or_in_pieces_is_made_anew_at_the_start() {
    let mut relay = searching().await;
    let one = member(&relay, "one").await;
    shelve(&relay, &one, "ada", 30, "a frigatebird").await;
    indexed(&relay, 30).await;
    let damages: [fn(&Path); 6] = [
        |dir| {
            let file = largest(dir, "idx");
            let bytes = std::fs::read(&file).expect("read");
            std::fs::write(file, &bytes[..bytes.len() / 2]).expect("cut short");
        },
        |dir| {
            let file = largest(dir, "pos");
            let mut bytes = std::fs::read(&file).expect("read");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(file, bytes).expect("flipped");
        },
        |dir| std::fs::write(largest(dir, "fast"), []).expect("emptied"),
        |dir| std::fs::remove_file(largest(dir, "term")).expect("removed"),
        |dir| std::fs::remove_file(dir.join("search/v1/meta.json")).expect("removed"),
        |dir| std::fs::remove_dir_all(dir.join("search")).expect("removed"),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        relay = relay.restart_after(damage).await;
        let host = authority(&one);
        eventually(&relay, &format!("found after damage {number}"), || found(&relay, "frigatebird").len() == 30).await;
        assert!(relay.server.app().supervisor().fatal().is_none() && !host.as_str().is_empty());
        let same = relay.search().check_index().await.expect("compared");
        assert!(same.is_equal() && same.held == 30, "{same:?}");
        assert_eq!(beside(&relay.config.data_dir), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_was_cut_short_between_its_two_steps_is_finished() {
    let relay = searching().await;
    let one = member(&relay, "one").await;
    shelve(&relay, &one, "ada", 3, "a skimmer").await;
    indexed(&relay, 3).await;
    let relay = relay
        .restart_after(|data_dir| {
            let search = data_dir.join("search");
            std::fs::create_dir(search.join("next")).expect("made");
            std::fs::rename(search.join("v1"), search.join("next/v1")).expect("moved");
            // The old one: it is not asked any more.
            std::fs::create_dir(search.join("before")).expect("made");
        })
        .await;
    eventually(&relay, "found", || found(&relay, "skimmer").len() == 3).await;
    assert_eq!(relay.metric("shearwater_search_index_lag"), 0.0);
    assert_eq!(beside(&relay.config.data_dir), Vec::<String>::new());
}

/// What is read of the index while it is in use may turn out not to be what was written.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_damaged_while_the_relay_runs_is_made_anew_and_the_relay_goes_on() {
    let relay = searching().await;
    let one = member(&relay, "one").await;
    shelve(&relay, &one, "ada", 30, "a noddy").await;
    indexed(&relay, 30).await;
    let dir = relay.config.data_dir.clone();
    for kind in ["term", "idx", "fast"] {
        let file = largest(&dir, kind);
        let length = std::fs::metadata(&file).expect("a file").len();
        // In place: the relay has it mapped into its memory.
        let open = std::fs::OpenOptions::new().write(true).open(&file).expect("opened");
        std::os::unix::fs::FileExt::write_all_at(&open, &vec![0xa5; usize::try_from(length).expect("small")], 0)
            .expect("written over");
        // Deletions and edits have the engine read it on a thread of its own.
        let (gone, again) = (publish(&one, "a noddy for a moment").await, publish(&one, "a noddy to stay").await);
        assert_eq!(one.delete(&gone.id).await.expect("an answer").status(), 202);
        eventually(&relay, "it is found all the same", || {
            let ids = found_or_none(&relay, "noddy");
            ids.len() >= 30 && ids.contains(&again.id) && !ids.contains(&gone.id)
        })
        .await;
        assert!(relay.server.app().supervisor().fatal().is_none());
        eventually(&relay, "index and ledger are the same", || index(&dir, &["check"]).0 == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_only_a_search_meets_is_made_good() {
    let relay = searching().await;
    let one = member(&relay, "one").await;
    shelve(&relay, &one, "ada", 30, "a noddy").await;
    indexed(&relay, 30).await;
    let file = largest(&relay.config.data_dir, "idx");
    let length = std::fs::metadata(&file).expect("a file").len();
    let open = std::fs::OpenOptions::new().write(true).open(&file).expect("opened");
    let noise = vec![0xa5; usize::try_from(length).expect("small")];
    std::os::unix::fs::FileExt::write_all_at(&open, &noise, 0).expect("written over");
    // Nothing comes and nothing goes: whoever writes to the index reads nothing of it.
    eventually(&relay, "it is found again", || found_or_none(&relay, "noddy").len() == 30).await;
    eventually(&relay, "index and ledger are the same", || index(&relay.config.data_dir, &["check"]).0 == 0).await;
}

/// Nothing while the index is damaged or being made.
fn found_or_none(relay: &TestRelay, query: &str) -> Vec<String> {
    let found = relay.search().find(query, Page { limit: 100, ..Page::default() }, 0, false);
    found.map_or_else(
        |_fault| Vec::new(),
        |found| found.hits.into_iter().map(|hit| hit.post.object.to_string()).collect(),
    )
}

const POSTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ledger_posts");
const AUTHORS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("ledger_authors");
const CHANGES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ledger_changes");
const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");

/// The store's file, with the engine that only the store uses: to damage rows, and to see all of them.
#[expect(clippy::disallowed_methods, reason = "no door of the relay's leads to a damaged row")]
fn engine(data_dir: &Path) -> Database {
    let file = data_dir.join("shearwater.redb");
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match Database::open(&file) {
            Ok(open) => return open,
            // The one before lets go of it a moment after its last word.
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_author_is_in_no_list_and_spoils_none() {
    let relay = searching().await;
    let (one, two) = (member(&relay, "one").await, member(&relay, "two").await);
    shelve(&relay, &one, "ada", 1, "a petrel").await;
    shelve(&relay, &two, "ada", 1, "a petrel").await;
    let lost = two.actor(&As::Author("ada".to_owned()));
    let relay = relay
        .restart_after(|data_dir| {
            let tx = engine(data_dir).begin_write().expect("a transaction");
            tx.open_table(AUTHORS).expect("authors").insert(lost.as_str(), b"no row".as_slice()).expect("damaged");
            tx.commit().expect("committed");
        })
        .await;
    // In the first moment nobody is shown.
    eventually(&relay, "it is open", || relay.search().people("ada", 0, 10).is_ok()).await;
    let people = relay.search().people("ada", 0, 10).expect("a list in spite of it");
    assert_eq!(people.len(), 1, "{people:?}");
    eventually(&relay, "it is cleared away", || held(&relay) == (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_ledger_that_cannot_be_read_hold_up_nobody_and_are_cleared_away() {
    let relay = searching().await;
    let (one, two) = (member(&relay, "one").await, member(&relay, "two").await);
    let ids = shelve(&relay, &one, "ada", 5, "a petrel").await;
    shelve(&relay, &two, "ada", 4, "a petrel").await;
    let kept = shelve(&relay, &one, "grace", 3, "a petrel").await;
    indexed(&relay, 12).await;
    let row = relay.store().indexed_number(&ids[2]).expect("reads").expect("a number");
    let lost = two.actor(&As::Author("ada".to_owned()));
    let relay = relay
        .restart_after(|data_dir| {
            let (engine, junk) = (engine(data_dir), b"this is no row".as_slice());
            let tx = engine.begin_write().expect("a transaction");
            tx.open_table(POSTS).expect("posts").insert(row, junk).expect("damaged");
            tx.open_table(AUTHORS).expect("authors").insert(lost.as_str(), junk).expect("damaged");
            let waiting: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("authors_to_read");
            tx.open_table(waiting).expect("rows").insert("0123456789abcdef0123456789abcdef", junk).expect("damaged");
            // And a change that the index has not seen.
            let newest = tx.open_table(POSTS).expect("posts").last().expect("reads").map(|(key, _)| key.value());
            assert!(newest.is_some());
            let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
            let mut meta = tx.open_table(meta).expect("meta");
            let next = meta
                .get("ledger_last_change")
                .expect("reads")
                .map_or(0, |row| u64::from_be_bytes(row.value().try_into().expect("a number")))
                + 1;
            meta.insert("ledger_last_change", next.to_be_bytes().as_slice()).expect("written");
            drop(meta);
            tx.open_table(CHANGES).expect("changes").insert(next, junk).expect("damaged");
            tx.commit().expect("committed");
        })
        .await;
    // 12, without the row that is damaged and the four of an author whose row is.
    eventually(&relay, "the others are found", || found(&relay, "petrel").len() == 7).await;
    let post = publish(&one, "a petrel in spite of it").await;
    let again = publish(&two, "a petrel by who was lost").await;
    let expected = [&post.id, &again.id];
    eventually(&relay, "and new ones", || {
        let ids = found(&relay, "petrel");
        ids.len() == 9 && expected.iter().all(|id| ids.contains(id))
    })
    .await;
    eventually(&relay, "what cannot be read is cleared away, with what hung on it", || {
        held(&relay) == (9, 3) && relay.store().all::<Leftover>().is_ok_and(|rows| rows.is_empty())
    })
    .await;
    // The row of an author who came again was written over.
    assert!(relay.metric("shearwater_search_ledger_damage_total") >= 2.0);
    assert!(relay.server.app().supervisor().fatal().is_none());
    for (name, worker) in relay.server.app().supervisor().status() {
        assert_eq!(worker.restarts, 0, "{name}: {worker:?}");
    }
    let gone = kept[0].clone();
    assert!(relay.store().write(move |tx| tx.drop_indexed_post(&gone)).await.expect("written"));
    indexed(&relay, 8).await;
    let same = relay.search().check_index().await.expect("compared");
    assert!(same.is_equal() && same.held == 8, "{same:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_of_the_log_is_passed_over_by_the_search() {
    let relay = searching().await;
    let one = member(&relay, "one").await;
    let first = publish(&one, "a dovekie").await;
    eventually(&relay, "it is found", || found(&relay, "dovekie") == [first.id.clone()]).await;
    let head = relay.server.app().state.log.head();
    let relay = relay
        .restart_after(|data_dir| {
            let engine = engine(data_dir);
            let tx = engine.begin_write().expect("a transaction");
            let mut log = tx.open_table(LOG).expect("the log");
            // As if the last entry had been damaged before the gatherer came to it.
            assert!(log.insert(head.0, b"no entry".as_slice()).expect("damaged").is_some());
            drop(log);
            tx.commit().expect("committed");
            drop(engine);
            rewind(data_dir, head);
        })
        .await;
    let second = publish(&one, "another dovekie").await;
    eventually(&relay, "what came after it is found", || found(&relay, "dovekie").contains(&second.id)).await;
    assert_eq!(gathered(&relay, "damaged"), 1);
    assert_eq!(relay.server.app().supervisor().status()["gatherer"].restarts, 0);
}

/// Has the gatherer begin at this entry.
fn rewind(data_dir: &Path, at: Seq) {
    let until = Instant::now() + Duration::from_secs(20);
    let store = loop {
        match Store::open(data_dir, Clock::system()) {
            Ok(store) => break store,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let set = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(store.write(move |tx| tx.set_worker_cursor("gatherer", at))).expect("written");
    });
    set.join().expect("it is set");
}

/// How many posts of each kind that must not be kept are posted: 3 as a rule; by hand
/// `SHEARWATER_ERASURE=1200 cargo test --test it nothing_of_what -- --nocapture` for ten thousand.
fn of_each_kind() -> usize {
    std::env::var("SHEARWATER_ERASURE").ok().and_then(|count| count.parse().ok()).unwrap_or(3)
}

/// Every term in the files of the index, of all fields and segments; of what is stored, all of it; and the files as they are.
fn readable(data_dir: &Path) -> (BTreeSet<Vec<u8>>, Vec<u8>) {
    let folder = data_dir.join("search/v1");
    let engine = tantivy::Index::open_in_dir(&folder).expect("the index");
    let (mut terms, mut rest) = (BTreeSet::new(), Vec::new());
    for segment in engine.reader().expect("a reader").searcher().segment_readers() {
        for (field, _) in engine.schema().fields() {
            let index = segment.inverted_index(field).expect("terms");
            let mut stream = index.terms().stream().expect("terms");
            while stream.advance() {
                terms.insert(stream.key().to_vec());
            }
        }
        let stored = segment.get_store_reader(1).expect("the store");
        for doc in 0..segment.max_doc() {
            let document: tantivy::TantivyDocument = stored.get(doc).expect("a document");
            rest.extend(format!("{document:?}").into_bytes());
        }
    }
    for entry in std::fs::read_dir(folder).expect("the folder") {
        rest.extend(std::fs::read(entry.expect("a file").path()).expect("read"));
    }
    (terms, rest)
}

/// All that stands in the rows of the ledger's tables.
fn rows(data_dir: &Path) -> Vec<u8> {
    let engine = engine(data_dir);
    let tx = engine.begin_read().expect("a transaction");
    let texts = [
        "ledger_authors",
        "ledger_refused",
        "ledger_refused_lasting",
        "ledger_edited",
        "ledger_leftovers",
        "ledger_suppressed",
        "authors_to_read",
    ];
    let mut all = Vec::new();
    for table in tx.list_tables().expect("tables") {
        let name = table.name().to_owned();
        if texts.contains(&name.as_str()) {
            let table = tx.open_table(TableDefinition::<&str, &[u8]>::new(&name)).expect("a table");
            for row in table.iter().expect("rows") {
                let (key, value) = row.expect("a row");
                all.extend_from_slice(key.value().as_bytes());
                all.extend_from_slice(value.value());
            }
        } else if ["ledger_posts", "ledger_changes"].contains(&name.as_str()) {
            let table = tx.open_table(TableDefinition::<u64, &[u8]>::new(&name)).expect("a table");
            for row in table.iter().expect("rows") {
                all.extend_from_slice(row.expect("a row").1.value());
            }
        } else if name == "ledger_handles" {
            let table = tx.open_table(TableDefinition::<&str, &str>::new(&name)).expect("a table");
            for row in table.iter().expect("rows") {
                let (key, value) = row.expect("a row");
                all.extend_from_slice(format!("{} {}", key.value(), value.value()).as_bytes());
            }
        } else {
            // Numbers and hashes; a table that is new here belongs above.
            let known = ["ledger_ids", "ledger_by_author"].contains(&name.as_str());
            assert!(known || !name.starts_with("ledger") && !name.starts_with("author_"), "what is in {name}?");
        }
    }
    all
}

/// Words that occur in `bytes`, of those that all begin with `start`.
fn marked(bytes: &[u8], start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for at in 0..bytes.len().saturating_sub(start.len()) {
        if bytes[at..].starts_with(start.as_bytes()) {
            let word = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric());
            found.insert(word.map(|byte| char::from(*byte)).collect());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_what_may_not_be_kept_is_in_the_files_after_an_expunge() {
    let relay = searching().await;
    let (yes, off) = (member(&relay, "yes").await, relay.joined(Family::Mastodon, "off").await);
    let leaving = member(&relay, "leaving").await;
    yes.set_profile("grace", json!({ "indexable": false }));
    let (each, mut number) = (of_each_kind(), 0);
    let mut word = |what: &str| {
        number += 1;
        format!("zqx{what}{number}end")
    };
    let mut kept = Vec::new();
    for _ in 0..each {
        let good = word("kept");
        publish(&yes, &good).await;
        kept.push(good);
        // Nobody said yes, or not here, or not to everybody.
        yes.post(PostSpec::public(&word("bad")).by("grace")).await.expect("an answer");
        publish(&off, &word("bad")).await;
        yes.post(PostSpec::public(&word("bad")).tagged(&["nosearch"])).await.expect("an answer");
        for visibility in [Visibility::Unlisted, Visibility::Followers, Visibility::Direct] {
            let composed = yes.compose(&PostSpec::public(&word("bad")).visible_to(visibility));
            yes.send_raw(composed.activity.to_string(), &composed.signer, &Default::default())
                .await
                .expect("an answer");
        }
        // Taken, and taken back.
        let deleted = publish(&yes, &word("bad")).await;
        let edited = publish(&yes, &word("bad")).await;
        publish(&leaving, &word("bad")).await;
        yes.delete(&deleted.id).await.expect("an answer");
        let good = word("kept");
        yes.edit(&edited.id, &good).await.expect("an answer");
        kept.push(good);
    }
    leaving.set_profile("ada", json!({ "indexable": false }));
    tell_profile(&leaving, "ada").await;
    let last = word("kept");
    publish(&yes, &last).await;
    kept.push(last.clone());
    let until = Instant::now() + Duration::from_secs(600);
    while found(&relay, &last).is_empty() || held(&relay) != (kept.len() as u64, 1) {
        assert!(Instant::now() < until, "{:?} {}", held(&relay), kept.len());
        assert!(each > 3 || Instant::now() + Duration::from_secs(540) < until, "{:?} {}", held(&relay), kept.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    indexed(&relay, kept.len() as u64).await;
    let before = Instant::now();
    relay.search().expunge_index().await.expect("expunged");
    println!("{} posts that may not be kept, {} that may; expunged in {:?}", each * 9, kept.len(), before.elapsed());
    relay
        .restart_after(|data_dir| {
            let (terms, rest) = readable(data_dir);
            let terms: Vec<u8> = terms.into_iter().flat_map(|term| [term, vec![b' ']].concat()).collect();
            let rows = rows(data_dir);
            for (what, bytes) in [("terms", &terms), ("files", &rest), ("rows", &rows)] {
                assert_eq!(marked(bytes, "zqxbad"), BTreeSet::new(), "in the {what}");
            }
            let expected: BTreeSet<String> = kept.iter().cloned().collect();
            assert_eq!(
                (marked(&terms, "zqxkept"), marked(&rows, "zqxkept")),
                (expected.clone(), expected),
                "what may be is"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_something_removed_is_in_the_files_is_told_and_half_a_day_is_the_most() {
    let clock = Clock::manual(Clock::system().now());
    let relay =
        TestRelay::start_at(clock.clone(), |config| config.search.api = shearwater::config::Access::Public).await;
    let one = relay.joined(Family::Mastodon, "one").await;
    switch_on(&relay, &one).await;
    // So many that one less is no reason to write them anew.
    let ids = shelve(&relay, &one, "ada", 30, "a gull").await;
    indexed(&relay, 30).await;
    let gone = ids[0].clone();
    relay.store().write(move |tx| tx.drop_indexed_post(&gone)).await.expect("written");
    let removed =
        || relay.search().report().is_ok_and(|(report, _)| report.removed == 1 && report.removed_since.is_some());
    eventually(&relay, "it is removed, and in the files", removed).await;
    assert_eq!(relay.search().expunge_index().await.expect("expunged").left, 0);
    let (report, _) = relay.search().report().expect("numbers");
    assert_eq!((report.removed, report.removed_since, report.indexed), (0, None, 29));
    assert_eq!(relay.metric("shearwater_search_erasure_lag_seconds"), 0.0);
    assert_eq!(relay.metric("shearwater_search_posts"), 29.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_posts_are_kept_goes_by_itself() {
    let clock = Clock::manual(Clock::system().now());
    let relay =
        TestRelay::start_at(clock.clone(), |config| config.search.api = shearwater::config::Access::Public).await;
    let one = relay.joined(Family::Mastodon, "one").await;
    switch_on(&relay, &one).await;
    shelve(&relay, &one, "ada", 700, "a gull of last month").await;
    indexed(&relay, 700).await;
    clock.advance(Duration::from_secs(29 * 86_400));
    shelve(&relay, &one, "grace", 3, "a gull of today").await;
    indexed(&relay, 703).await;
    clock.advance(Duration::from_secs(2 * 86_400));
    assert!(
        relay.search().find("month", Page { limit: 9, ..Page::default() }, 0, false).expect("found").hits.is_empty()
    );
    eventually(&relay, "they are gone", || held(&relay).0 == 3).await;
    indexed(&relay, 3).await;
    assert!(relay.search().check_index().await.expect("compared").is_equal());
}

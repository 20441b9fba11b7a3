//! What is backed up and put back: whole or not at all, of one moment, over nothing that is there; and what came to nothing
//! since does not come back.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use shearwater::backup::{LEFT_OUT, Manifest};
use shearwater::clock::Clock;
use shearwater::config::Access;
use shearwater::demo::{Family, PostSpec};
use shearwater::ids::Iri;
use shearwater::relay::resolver::WaitingHint;
use shearwater::store::{Act, AuthorityFacts, Record as _, Scope, Store, TrendServed};

use crate::searching::{eventually, found, member};
use crate::serving::shearwater;
use crate::support::{LONG, TestRelay, arrival, json, publish, receipts_of};

/// The folder in which the command line finds the relay.
fn home(relay: &TestRelay) -> PathBuf {
    relay.config.data_dir.parent().expect("a folder above").to_owned()
}

fn run(home: &Path, args: &[&str]) -> Output {
    shearwater(home).args(args).stdin(Stdio::null()).output().expect("it runs")
}

fn done(home: &Path, args: &[&str]) -> Value {
    let output = run(home, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    json(&output.stdout)
}

/// The same of a command that knows nothing but JSON.
fn done_with(home: &Path, args: &[&str]) -> Value {
    let output = run(home, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    json(&output.stdout)
}

fn refused(home: &Path, args: &[&str], said: &str) {
    let mut command = shearwater(home);
    let piped = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("it starts");
    let begun = Instant::now();
    // One that is not refused may run for ever.
    while child.try_wait().expect("a status").is_none() && begun.elapsed() < LONG {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("it ended");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains(said), "{args:?}: {said:?} in {text:?}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

/// The disk is lost. A relay that has just stopped may write a last file meanwhile.
fn lose(data: &Path) {
    for _ in 0..300 {
        let _ = std::fs::remove_dir_all(data);
        if !data.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} is still written to", data.display());
}

/// A relay with everything switched on, so that every table is there.
async fn everything() -> TestRelay {
    TestRelay::start_with(|config| {
        (config.search.api, config.search.rate) = (Access::Public, 0);
        (config.trends.api, config.trends.rate) = (Access::Public, 0);
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_runs_is_backed_up_and_one_that_is_put_back_goes_on_and_resends_nothing() {
    let relay = everything().await;
    let (home, yes) = (home(&relay), member(&relay, "yes").await);
    let other = relay.joined(Family::Mastodon, "other").await;
    let post = yes.post(PostSpec::public("a fulmar").tagged(&["seabirds"])).await.expect("an answer");
    arrival(&other, &post.id).await;
    eventually(&relay, "it is found", || found(&relay, "fulmar") == [post.id.clone()]).await;
    let actor = other.fetch(&format!("{}/actor", relay.url())).await.expect("an answer").body;

    token(&relay, "a reader").await;
    // Each of the tables that are left out is one: a new name for a table must not let it in. Rows of two come with time.
    let late = [WaitingHint::TABLE, TrendServed::TABLE];
    let tables = || relay.store().snapshot().expect("a snapshot").tables().expect("tables");
    let is_there = |name: &str| late.contains(&name) || tables().iter().any(|one| one == name);
    eventually(&relay, "all tables are there", || LEFT_OUT.iter().all(|name| is_there(name))).await;
    assert!(late.iter().all(|name| LEFT_OUT.contains(name)));

    let said = done(&home, &["backup", "b", "--index"]);
    assert_eq!((&said["online"], names(&home)), (&Value::Bool(true), vec!["b".to_owned(), "data".to_owned()]));
    let rows = std::fs::read(home.join("b/store.rows")).expect("rows");
    let holds = |text: &str| rows.windows(text.len()).any(|some| some == text.as_bytes());
    assert!(
        holds("subscribers") && !holds("trend_ballot_hours") && !holds("\"Create\""),
        "nothing that was on its way"
    );
    assert!(done(&home, &["check"])["ok"] == true);
    refused(&home, &["backup", "b"], "never written over");
    refused(&home, &["restore", "b"], "a relay runs on data_dir");

    let before = receipts_of(&other, &post.id).len();
    let relay = relay
        .restart_after(|data| {
            refused(&home, &["restore", "b"], "mv data data.before");
            std::fs::rename(data, home.join("data.before")).expect("moved aside");
            let said = done(&home, &["restore", "b"]);
            assert_eq!((&said["index"], &said["faults"]), (&Value::Bool(true), &Value::Array(Vec::new())));
            assert_eq!(names(data), ["keys", "search", "shearwater.redb"]);
            assert!(done(&home, &["check"])["ok"] == true);
            // An offline backup of it holds the same.
            let again = done(&home, &["backup", "again"]);
            assert_eq!(again["online"], false);
        })
        .await;
    let same = other.fetch(&format!("{}/actor", relay.url())).await.expect("an answer").body;
    assert_eq!(json(&same), json(&actor), "with its keys it is who it was");
    let next = publish(&yes, "a storm petrel").await;
    arrival(&other, &next.id).await;
    assert_eq!(receipts_of(&other, &post.id).len(), before, "nothing is sent again");
    let both = |ids: Vec<String>| ids.contains(&post.id);
    eventually(&relay, "what was held is found, once its author was read", || both(found(&relay, "fulmar"))).await;
    assert!(done(&home, &["check"])["ok"] == true);
}

/// Yesterday's backup, and lines of an export from just before the disk was lost.
#[tokio::test(flavor = "multi_thread")]
async fn who_said_no_and_what_was_deleted_since_the_backup_does_not_come_back() {
    let relay = everything().await;
    let (home, yes) = (home(&relay), member(&relay, "yes").await);
    let mut posts = Vec::new();
    for word in ["stays", "deleted", "edited"] {
        posts.push(publish(&yes, &format!("a kittiwake that {word}")).await.id);
    }
    eventually(&relay, "all are found", || found(&relay, "kittiwake").len() == 3).await;
    done(&home, &["backup", "b"]);

    yes.delete(&posts[1]).await.expect("an answer");
    yes.edit(&posts[2], "a razorbill").await.expect("an answer");
    eventually(&relay, "both are gone", || found(&relay, "kittiwake") == [posts[0].clone()]).await;
    assert!(run(&home, &["admin", "export", "--to", "newest"]).status.success());
    let lines = std::fs::read_to_string(home.join("newest")).expect("the file");
    assert!(!lines.contains(&posts[1]));
    let cut = lines.rsplit_once("{\"kind\":\"end\"").expect("a last line").0;
    std::fs::write(home.join("cut"), cut).expect("written");
    std::fs::write(home.join("empty"), "").expect("written");

    let relay = relay
        .restart_after(|data| {
            lose(data);
            for file in ["cut", "empty"] {
                refused(&home, &["restore", "b", "--newest", file], "cut short");
                assert!(!data.exists(), "nothing is put back without what was said since");
            }
            let looked = done_with(&home, &["admin", "import", "--dry-run", "newest"]);
            assert!(
                looked["found"]["deleted"] == 0 && !data.exists(),
                "to no other relay they mean something: {looked}"
            );
            let said = done(&home, &["restore", "b", "--newest", "newest"]);
            assert_eq!(said["newest"]["deleted"], 2);
        })
        .await;
    eventually(&relay, "what stays is found", || found(&relay, "kittiwake") == [posts[0].clone()]).await;
    let held = relay.store().indexed_number(&Iri::parse(&posts[1]).expect("an id")).expect("the store reads");
    assert_eq!(held, None, "not even hidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nobody_is_shown_before_their_profile_was_read_anew() {
    let relay = everything().await;
    let (home, yes, no) = (home(&relay), member(&relay, "yes").await, member(&relay, "no").await);
    let post = publish(&yes, "a gannet").await;
    publish(&no, "a gannet too").await;
    eventually(&relay, "both are found", || found(&relay, "gannet").len() == 2).await;
    done(&home, &["backup", "b"]);
    // Their server told us, and the backup does not know it.
    no.set_profile("ada", serde_json::json!({ "indexable": false }));
    let relay = relay
        .restart_after(|data| {
            lose(data);
            done(&home, &["restore", "b"]);
        })
        .await;
    let mut seen = Vec::new();
    eventually(&relay, "who says yes still is found", || {
        seen.extend(found(&relay, "gannet"));
        seen.contains(&post.id)
    })
    .await;
    eventually(&relay, "and who says no is gone", || crate::searching::held(&relay) == (1, 1)).await;
    assert!(seen.iter().all(|id| *id == post.id), "and was never shown: {seen:?}");
}

/// Yesterday's backup knows nothing of what happened to the laptop this morning.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_since_the_backup_opens_nothing_after_a_restore() {
    let relay = TestRelay::start().await;
    let home = home(&relay);
    let (stolen, kept) = (token(&relay, "laptop").await, token(&relay, "desk").await);
    done(&home, &["backup", "b"]);
    assert!(done(&home, &["admin", "token", "revoke", "laptop"])["revoked"] == "laptop");
    let relay = relay
        .restart_after(|data| {
            lose(data);
            let said = run(&home, &["restore", "b"]);
            let text = String::from_utf8_lossy(&said.stderr).into_owned();
            for one in ["token create", "keys rotate --now", "sha256:"] {
                assert!(said.status.success() && text.contains(one), "{one}: {text}");
            }
        })
        .await;
    let addr = relay.server.ops_addr().expect("an address");
    for token in [stolen, kept] {
        let headers = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(crate::asking::ask_with(addr, "GET", "/api/admin/v1/stats", &headers, "").await.status, 401);
    }
}

async fn token(relay: &TestRelay, name: &str) -> String {
    let tokens = &relay.server.app().state.tokens;
    tokens.make(name, Scope::Admin, None, &Act::local("a test")).await.expect("a token").token
}

/// A stopped relay with rows enough that a kill hits something.
async fn large(home: &Path) {
    let data = home.join("data");
    crate::support::place_keys(&data);
    std::fs::write(data.join("keys/created"), "2026-08-23T12:00:00Z\n").expect("written");
    let store = Store::open(&data, Clock::system()).expect("a store");
    for page in 0..40 {
        let fill = move |tx: &mut shearwater::store::Tx<'_>| {
            (0..500).try_for_each(|number| tx.put(&format!("s{page}-{number}.example"), &AuthorityFacts::default()))
        };
        store.write(fill).await.expect("written");
    }
}

/// Kills the command at twenty moments of its life, and once lets it be; how it looked afterwards each time.
fn killed_at_any_moment(home: &Path, args: &dyn Fn(usize) -> Vec<String>, look: &mut dyn FnMut(usize)) {
    let command = |number: usize| {
        let mut command: Command = shearwater(home);
        command.args(args(number)).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let begun = Instant::now();
    assert!(command(0).status().expect("it runs").success());
    let whole = begun.elapsed();
    look(0);
    for number in 1..=20 {
        let mut child = command(number).spawn().expect("it starts");
        std::thread::sleep(whole * u32::try_from(number).expect("small") / 20);
        // It may be over already.
        let _ = child.kill();
        child.wait().expect("it ended");
        look(number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_moment_a_backup_is_killed_at_it_is_a_whole_one_or_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().to_owned();
    large(&home).await;
    let args = |number: usize| vec!["backup".to_owned(), format!("b{number}")];
    let (mut whole, mut cut) = (0, 0);
    killed_at_any_moment(&home, &args, &mut |number| {
        let (backup, partial) = (home.join(format!("b{number}")), home.join(format!("b{number}.partial")));
        if backup.exists() {
            whole += 1;
            assert!(Manifest::verified(&backup).expect("it is whole").rows > 20_000);
        } else {
            cut += usize::from(partial.exists());
            // It lacks the name alone, or it is none.
            assert!(Manifest::verified(&partial).map_or(true, |manifest| manifest.rows > 20_000));
            // The next one begins anew in what is left.
            done(&home, &["backup", &format!("b{number}")]);
            assert!(Manifest::verified(&backup).is_ok() && !partial.exists());
        }
    });
    assert!(whole > 0 && cut > 0, "{whole} whole, {cut} cut short: nothing was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_moment_a_restore_is_killed_at_no_relay_starts_on_half_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().to_owned();
    large(&home).await;
    done(&home, &["backup", "b"]);
    std::fs::remove_dir_all(home.join("data")).expect("the disk is lost");
    let args = |_number: usize| vec!["restore".to_owned(), "b".to_owned()];
    let mut cut = 0;
    killed_at_any_moment(&home, &args, &mut |_number| {
        let data = home.join("data");
        if data.join("restoring").exists() {
            cut += 1;
            refused(&home, &["serve"], "restore into data_dir = data was cut short");
            refused(&home, &["check"], "restore");
            done(&home, &["restore", "b"]);
        } else if data.join("shearwater.redb").exists() {
            assert!(!data.join("restoring").exists());
        } else {
            return;
        }
        assert_eq!(names(&data), ["keys", "shearwater.redb"]);
        assert!(done(&home, &["check"])["ok"] == true);
        std::fs::remove_dir_all(&data).expect("for the next");
    });
    assert!(cut > 0, "nothing was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_changed_is_not_put_back_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().to_owned();
    large(&home).await;
    done(&home, &["backup", "b"]);
    std::fs::rename(home.join("data"), home.join("data.before")).expect("moved aside");
    let rows = home.join("b/store.rows");
    let mut bytes = std::fs::read(&rows).expect("rows");
    bytes[5000] ^= 1;
    std::fs::write(&rows, &bytes).expect("written");
    refused(&home, &["restore", "b"], "store.rows was changed since");
    refused(&home, &["restore", "nowhere"], "is no backup");
    assert!(!home.join("data").exists());
    refused(&home, &["check"], "there is no relay");
    std::fs::create_dir(home.join("data")).expect("a folder");
    std::fs::write(home.join("data/mine"), "").expect("written");
    refused(&home, &["restore", "b"], "nothing is restored over it");
    assert_eq!(names(&home.join("data")), ["mine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_wrong_and_exits_1() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path().to_owned();
    large(&home).await;
    assert!(done(&home, &["check"])["ok"] == true);
    std::fs::remove_file(home.join("data/keys/ed25519.pem")).expect("a key is lost");
    let output = run(&home, &["check", "--json"]);
    let report = json(&output.stdout);
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &Value::Bool(false)));
    let fault = &report["faults"][0];
    assert!(fault["table"] == "keys" && fault["such_as"][0].as_str().is_some_and(|said| said.contains("ed25519.pem")));
    let text = String::from_utf8(run(&home, &["check"]).stdout).expect("text");
    assert!(text.contains("keys: 1 row(s): cannot be used"), "{text}");
}

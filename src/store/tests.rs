//! What the store promises to whoever writes: durable before the answer, one flush for many, and that no job is lost to
//! another's mistake. And the golden bytes of each record.

use std::fmt::Debug;
use std::sync::mpsc;

use super::testing::{CountingDisk, golden_of, older, rule, subscriber};
use super::*;
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};
use crate::wire::http_sig::Scheme;

const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
    (dir, store)
}

#[expect(clippy::disallowed_methods, reason = "the store itself, on a disk that counts")]
fn on_disk(disk: &CountingDisk) -> Store {
    let db = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
    Store::on(db, PathBuf::from("memory"), Clock::manual(NOON)).unwrap()
}

fn facts(software: &str) -> AuthorityFacts {
    AuthorityFacts { software: Some(software.to_owned()), ..AuthorityFacts::default() }
}

fn software(store: &Store, key: &str) -> Option<String> {
    store.get::<AuthorityFacts>(key).unwrap().and_then(|facts| facts.software)
}

/// Does the three in one transaction: the writer is held until all wait.
async fn in_one_batch<A, B, C>(store: &Store, a: A, b: B, c: C) -> [Result<(), StoreError>; 3]
where
    A: FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
    B: FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
    C: FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send + 'static,
{
    let (release, held) = mpsc::channel::<()>();
    let hold = store.write(move |_tx| held.recv().map_err(|_gone| StoreError::Busy));
    let open = async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };
    let (_held, a, b, c, ()) = tokio::join!(biased; hold, store.write(a), store.write(b), store.write(c), open);
    [a, b, c]
}

#[test]
fn whoever_heard_the_last_answer_may_open_the_file_anew() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..100 {
        let store = Store::open(dir.path(), Clock::system()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let mut write = Box::pin(store.write(|tx| tx.next_number("numbers").map(drop)));
        // Asked without a pause, so that the answer is heard while the writer has hardly given it.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while write.as_mut().poll(&mut context).is_pending() {}
    }
}

#[tokio::test]
async fn a_job_that_says_no_takes_nobody_along_and_leaves_nothing() {
    let (_dir, store) = store();
    let host = Iri::parse("https://small.example/").unwrap().authority();
    store
        .write(|tx| {
            tx.put("kept", &facts("mastodon"))?;
            tx.put("overwritten", &facts("misskey"))?;
            tx.set_worker_cursor("resolver", Seq(1))?;
            tx.next_number("numbers").map(drop)
        })
        .await
        .unwrap();
    let seen = |id: &'static str| move |tx: &mut Tx<'_>| tx.note(SeenSet::Objects, &[id]).map(drop);
    let [before, no, after] = in_one_batch(
        &store,
        |tx| {
            tx.put("before", &facts("akkoma"))?;
            tx.note(SeenSet::Objects, &["before"]).map(drop)
        },
        |tx| {
            tx.put("overwritten", &facts("wrong"))?;
            tx.put("overwritten", &facts("wrong again"))?;
            assert!(tx.remove::<AuthorityFacts>("kept")?);
            tx.put("new", &facts("wrong"))?;
            tx.put("before", &facts("wrong"))?;
            tx.set_worker_cursor("resolver", Seq(99))?;
            assert_eq!(tx.next_number("numbers")?, 2);
            assert!(tx.note(SeenSet::Objects, &["no"])?);
            tx.put_subscriber(subscriber("small.example"))?;
            Err(StoreError::Declined("changed my mind".to_owned()))
        },
        |tx| {
            assert_eq!(tx.next_number("numbers")?, 2);
            assert!(tx.note(SeenSet::Objects, &["no"])?, "nobody noted it");
            tx.put("after", &facts("snac"))
        },
    )
    .await;
    assert!(before.is_ok() && after.is_ok(), "{before:?} {after:?}");
    assert!(matches!(no, Err(StoreError::Declined(_))), "{no:?}");
    let found = ["kept", "overwritten", "new", "before", "after"].map(|key| software(&store, key));
    let expected = [Some("mastodon"), Some("misskey"), None, Some("akkoma"), Some("snac")];
    assert_eq!(found, expected.map(|one| one.map(str::to_owned)));
    assert_eq!(store.worker_cursor("resolver").unwrap(), Some(Seq(1)));
    assert!(store.subscriber(&host).is_none() && store.get::<Subscriber>("small.example").unwrap().is_none());
    assert!(!store.failed().is_cancelled());
    store.write(seen("later")).await.unwrap();
}

#[tokio::test]
async fn one_damaged_row_is_one_job_refused_and_a_panic_is_one_job_lost() {
    let (_dir, store) = store();
    store.write(|tx| tx.insert(table::<AuthorityFacts>(), "damaged", b"rust".as_slice())).await.unwrap();
    let [damaged, panicked, good] = in_one_batch(
        &store,
        |tx| {
            tx.put("half", &facts("wrong"))?;
            tx.get::<AuthorityFacts>("damaged").map(drop)
        },
        |tx| {
            tx.put("half", &facts("wrong"))?;
            panic!("a bug")
        },
        |tx| tx.put("good", &facts("mitra")),
    )
    .await;
    assert!(matches!(damaged, Err(StoreError::Damaged(_))), "{damaged:?}");
    assert!(matches!(panicked, Err(StoreError::Declined(_))), "{panicked:?}");
    assert!(good.is_ok() && software(&store, "good").as_deref() == Some("mitra"));
    assert_eq!(software(&store, "half"), None);
    assert!(!store.failed().is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_on_the_disk_before_its_answer_and_many_share_a_flush() {
    let disk = CountingDisk::default();
    let store = on_disk(&disk);
    for number in 0..10 {
        let before = disk.flushes();
        store.write(move |tx| tx.put(&number.to_string(), &facts("one by one"))).await.unwrap();
        assert!(disk.flushes() > before, "a write that nobody shares has a flush of its own");
    }
    let (before, writes) = (disk.flushes(), 400);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..writes {
        let (store, disk) = (store.clone(), disk.clone());
        tasks.spawn(async move {
            let (tell, told) = mpsc::channel();
            let write = store.write(move |tx| {
                tx.put(&format!("many {number}"), &facts("many"))?;
                // In the writer's thread, before anybody is answered: no other transaction writes meanwhile.
                tx.after_commit(move |_store| tell.send(disk.is_unflushed()).unwrap());
                Ok(())
            });
            write.await.unwrap();
            told.try_recv().unwrap()
        });
    }
    let unflushed = tasks.join_all().await.into_iter().filter(|unflushed| *unflushed).count();
    assert_eq!(unflushed, 0, "answers before the flush");
    let flushes = disk.flushes() - before;
    assert!(flushes > 0 && flushes < writes / 2, "{flushes} flushes for {writes} writes");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the store itself, on disks that can be looked at")]
async fn a_large_store_is_not_read_whole_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    for (size, expected) in [(LONG_REPAIR - 1, true), (LONG_REPAIR, false)] {
        // How large it takes itself to be.
        let path = dir.path().join("size");
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        let disk = CountingDisk::default();
        let db = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
        let store = Store::on(db, path, Clock::manual(NOON)).unwrap();
        store.write(|tx| tx.put("one", &facts("kept"))).await.unwrap();
        let walked = Arc::new(AtomicBool::new(false));
        let seen = walked.clone();
        let mut builder = redb::Builder::new();
        builder.set_repair_callback(move |_| seen.store(true, std::sync::atomic::Ordering::SeqCst));
        let db = builder.create_with_backend(disk.copy()).unwrap();
        assert_eq!(walked.load(std::sync::atomic::Ordering::SeqCst), expected, "{size}");
        let store = Store::on(db, PathBuf::from("memory"), Clock::manual(NOON)).unwrap();
        assert_eq!(software(&store, "one").as_deref(), Some("kept"));
    }
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_promised_any_more() {
    let disk = CountingDisk::default();
    let store = on_disk(&disk);
    let breaking = disk.clone();
    let [a, b, c] = in_one_batch(
        &store,
        move |tx| {
            breaking.break_down();
            tx.put("a", &facts("a"))
        },
        |tx| tx.put("b", &facts("b")),
        |_tx| Err(StoreError::Declined("for a reason of its own".to_owned())),
    )
    .await;
    assert!(a.is_err() && b.is_err() && c.is_err(), "{a:?} {b:?} {c:?}");
    store.failed().cancelled().await;
    assert!(store.write(|tx| tx.put("later", &facts("later"))).await.is_err());
}

#[tokio::test]
async fn the_operators_word_on_a_subscriber_ends_a_downgrade_and_gives_shared_signatures_another_trial() {
    let (_dir, store) = store();
    let mut row = subscriber("small.example");
    row.mode = Mode::Auto;
    let authority = row.authority.clone();
    let shared = Some(Sharing::Refused);
    let downgraded = AuthorityFacts { announce_until: Some(NOON), shared, ..facts("mastodon") };
    let key = authority.as_str().to_owned();
    store
        .write(move |tx| {
            tx.put_subscriber(row)?;
            tx.put(&key, &downgraded)
        })
        .await
        .unwrap();
    let set = |authority: &Authority, mode| {
        let authority = authority.clone();
        store.write(move |tx| tx.set_mode(&authority, mode))
    };
    assert!(set(&authority, Mode::Forward).await.unwrap());
    assert_eq!(store.subscriber(&authority).unwrap().mode, Mode::Forward);
    assert_eq!(store.get::<AuthorityFacts>(authority.as_str()).unwrap(), Some(facts("mastodon")));
    let nobody = Iri::parse("https://nobody.example/").unwrap().authority();
    assert!(!set(&nobody, Mode::Auto).await.unwrap());
}

fn check<R: Record + Debug + PartialEq>(record: R) {
    let kept = golden_of(R::VERSION, R::TABLE, &encode(&record).unwrap());
    assert_eq!(decode::<R>(&kept).unwrap(), record);
    for version in 1..R::VERSION {
        assert_eq!(decode::<R>(&older(version, R::TABLE)).unwrap(), record, "version {version}");
    }
}

#[test]
fn records_keep_their_golden_bytes() {
    let iri = |path: &str| Iri::parse(&format!("https://small.example{path}")).unwrap();
    check(subscriber("small.example"));
    check(AuthorityFacts {
        software: Some("mastodon".to_owned()),
        version: Some("4.5.0".to_owned()),
        software_read: Some(NOON),
        scheme: Some(Scheme::Rfc9421),
        shared: Some(Sharing::Refused),
        announce_until: Some(NOON),
    });
    check(Following {
        actor: iri("/actor"),
        inbox: iri("/inbox"),
        style: Style::Litepub,
        follow_id: "https://relay.example/activities/follow/1".to_owned(),
        state: FollowState::Accepted,
        by_operator: true,
        at: NOON,
    });
    check(rule());
    check(ControlRow {
        inbox: iri("/inbox"),
        what: "accept".to_owned(),
        body: r#"{"type":"Accept"}"#.to_owned(),
        at: NOON,
        attempts: 2,
        due: NOON,
        from: None,
    });
    check(Refusal {
        at: NOON,
        claimed: Some("small.example".to_owned()),
        check: "digest".to_owned(),
        status: 401,
        detail: "the digest does not match the body".to_owned(),
        signed: false,
        count: 3,
    });
    check(Knock { at: NOON, said: vec![Said { word: "admission".to_owned(), status: 403, at: NOON, count: 2 }] });
    let version = |version: &str| Some(ListVersion { version: version.to_owned(), at: NOON });
    check(ListFeed {
        url: "https://lists.example/block.csv".to_owned(),
        severity: Severity::Block,
        auto: true,
        skip_bad: true,
        added: NOON,
        etag: Some("\"1\"".to_owned()),
        asked_at: Some(NOON),
        failures: 2,
        trouble: Some("its server answers 500".to_owned()),
        fetched: version("0123456789ab"),
        applied: version("987654321000"),
    });
    check(ListText { text: "evil.example\n".to_owned() });
    check(held("/posts/1", NOON));
    check(Hold { since: NOON, reason: "wave".to_owned(), by: "relay".to_owned() });
    check(ControlTally { messages: 3 });
    check(Publisher { since: NOON, reason: "a blog".to_owned(), by: "local".to_owned() });
    check(AuditEntry {
        at: NOON,
        who: "token:ada's laptop".to_owned(),
        token: None,
        what: "subscriber.mode".to_owned(),
        target: "small.example".to_owned(),
        why: "they asked".to_owned(),
        before: serde_json::json!({ "mode": "auto" }),
        after: serde_json::json!({ "mode": "announce" }),
    });
    check(HeldTally { posts: 3, since: NOON, reason: "hashtags".to_owned() });
    check(ApiToken {
        name: "a reader".to_owned(),
        scope: Scope::Search,
        hash: "00".repeat(32),
        made_at: NOON,
        expires_at: Some(NOON),
        used_on: Some(20_688),
    });
    check(Arrivals {
        since: NOON,
        touched: NOON,
        hour: 496_524,
        current: 2,
        past: vec![1, 0, 7],
        quiet_until: NOON,
        posts: 4,
    });
}

fn held(path: &str, at: Timestamp) -> HeldPost {
    let iri = |path: &str| Iri::parse(&format!("https://small.example{path}")).unwrap();
    HeldPost {
        at,
        kind: HeldKind::Create,
        object: iri(path),
        actor: iri("/users/ada"),
        activity: format!("https://small.example{path}/activity"),
        supplier: iri("/").authority(),
        carried: true,
        published: Some(NOON),
        body: r#"{"type":"Create"}"#.to_owned(),
        reason: "hashtags".to_owned(),
        text: "hello".to_owned(),
        for_search: false,
    }
}

fn tally(store: &Store) -> Option<(u32, Timestamp)> {
    store.get::<HeldTally>("small.example").unwrap().map(|tally| (tally.posts, tally.since))
}

#[tokio::test]
async fn held_posts_are_counted_with_what_happens_to_them() {
    let (_dir, store) = store();
    let (first, later) = (held("/posts/1", NOON), held("/posts/2", NOON.plus(std::time::Duration::from_secs(9))));
    let (one, two, object) = (first.clone(), later.clone(), first.object.clone());
    let hold = move |tx: &mut Tx<'_>| {
        tx.hold(two)?;
        tx.hold(one.clone())?;
        tx.hold(HeldPost { text: "edited".to_owned(), ..one })
    };
    store.write(hold).await.unwrap();
    assert_eq!(tally(&store), Some((2, NOON)));
    let texts: Vec<String> = store.held_of(&first.server()).unwrap().into_iter().map(|post| post.text).collect();
    assert_eq!(texts, ["edited", "hello"], "one row for each post, the oldest first");
    let refused = |tx: &mut Tx<'_>| {
        assert!(tx.unhold(&held("/posts/2", NOON).object)?);
        tx.hold(held("/posts/3", NOON))?;
        tx.hold(held("/posts/4", NOON))?;
        Err::<(), _>(StoreError::Full)
    };
    assert!(store.write(refused).await.is_err());
    assert_eq!(tally(&store), Some((2, NOON)), "a job that says no leaves no trace");
    let (gone, last) = (object.clone(), later.object.clone());
    assert!(store.write(move |tx| tx.unhold(&gone)).await.unwrap());
    assert_eq!(tally(&store).map(|(posts, _)| posts), Some(1));
    assert!(!store.write(move |tx| tx.unhold(&object)).await.unwrap());
    assert!(store.write(move |tx| tx.unhold(&last)).await.unwrap());
    assert_eq!(tally(&store), None);
}

fn third_post(number: u32) -> HeldPost {
    let iri = |path: &str| Iri::parse(&format!("https://third.example{path}")).unwrap();
    HeldPost { object: iri(&format!("/posts/{number}")), actor: iri("/users/ada"), ..held("/x", NOON) }
}

#[tokio::test]
async fn held_posts_are_bounded_for_each_server_and_each_in_size() {
    let (_dir, store) = store();
    let server = held("/", NOON).server();
    let fill = |tx: &mut Tx<'_>| (1..MAX_HELD_PER_SERVER).try_for_each(|n| tx.hold(held(&format!("/posts/{n}"), NOON)));
    store.write(fill).await.unwrap();
    let may = async |server: Authority| store.write(move |tx| tx.may_hold(&server)).await.unwrap();
    assert!(may(server.clone()).await);
    let long = HeldPost { body: "x".repeat(40_000), text: "ä".repeat(900), ..held("/posts/last", NOON) };
    store.write(move |tx| tx.hold(long)).await.unwrap();
    assert!(!may(server.clone()).await);
    let other = Authority::parse("other.example").unwrap();
    assert!(may(other.clone()).await);
    let last = held("/posts/last", NOON).object;
    let kept = store.get::<HeldPost>(&HeldPost::key(&last)).unwrap().unwrap();
    assert_eq!((kept.body.len(), kept.carried, kept.text.chars().count()), (0, false, 500));
    assert_eq!(store.held_of(&server).unwrap().len(), MAX_HELD_PER_SERVER as usize);
    assert!(store.write(move |tx| tx.may_hold_among(&other, MAX_HELD - 1)).await.unwrap());
    let third = Authority::parse("third.example").unwrap();
    let among = async |server: &Authority, all: u64| {
        let server = server.clone();
        store.write(move |tx| tx.may_hold_among(&server, all)).await.unwrap()
    };
    assert!(among(&third, MAX_HELD).await, "others have filled it: who has nothing there is not made to pay");
    assert!(!among(&third, 2 * MAX_HELD).await, "and of all servers together");
    store.write(|tx| (0..50).try_for_each(|n| tx.hold(third_post(n)))).await.unwrap();
    assert!(!among(&third, MAX_HELD).await);
}

//! Peers against servers on loopback: honest, hostile and broken ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::cache::Kind;
use crate::net::testing::{self, CANARY, NOON, OPEN, OTHER, Page, Site, raw_server};
use crate::wire::key::PublicKey;

const KEY: &str = include_str!("../../tests/fixtures/keys/author.rsa.spki.pem");
const OTHER_KEY: &str = include_str!("../../tests/fixtures/keys/subscriber.rsa.spki.pem");

/// A relay's view of the world, on a clock of its own.
struct World {
    peers: Peers,
    clock: Clock,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOON);
        Self { peers: Self::peers(&clock, &folder), clock, folder }
    }

    fn peers(clock: &Clock, folder: &tempfile::TempDir) -> Peers {
        let fetch = testing::fetch();
        let disk = Cache::open(&folder.path().join("cache")).unwrap();
        Peers::new(testing::signed_client(clock.clone(), &fetch), disk, clock.clone(), &fetch)
    }

    /// Everything in memory is lost.
    fn restart(self) -> Self {
        let Self { peers, clock, folder } = self;
        drop(peers);
        Self { peers: Self::peers(&clock, &folder), clock, folder }
    }
}

fn actor_with(id: &str, keys: Value) -> Page {
    let document = json!({
        "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"],
        "id": id, "type": "Person", "preferredUsername": "ada", "inbox": format!("{id}/inbox"), "publicKey": keys,
    });
    Page::document(document)
}

fn key(id: &str, owner: &str, pem: &str) -> Value {
    json!({ "id": id, "owner": owner, "publicKeyPem": pem })
}

/// An actor with one key at `#main-key`.
fn actor(id: &str, pem: &str) -> Page {
    actor_with(id, key(&format!("{id}#main-key"), id, pem))
}

/// The same with an `ETag`.
fn tagged(id: &Iri, pem: &str, etag: &str) -> Page {
    let mut page = actor(id.as_str(), pem);
    page.headers.push(("etag", etag.to_owned()));
    page
}

fn public(pem: &str) -> PublicKey {
    PublicKey::from_pem(pem).unwrap()
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_cause_one_fetch() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    site.set("/ada", actor(&site.url("/ada"), KEY));
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..300 {
        let (peers, id, key_id) = (world.peers.clone(), site.iri("/ada"), site.iri("/bob#main-key"));
        asking.spawn(async move {
            if n % 3 == 0 { peers.key(&key_id).await.is_err() } else { peers.actor(&id).await.is_ok() }
        });
    }
    assert!(asking.join_all().await.into_iter().all(|as_expected| as_expected));
    let mut asked = site.asked();
    asked.sort();
    assert_eq!(asked, ["/ada", "/bob"]);
}

#[tokio::test]
async fn actors_are_kept_for_a_day_across_restarts_and_read_fresh_on_demand() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/ada");
    site.set("/ada", actor(id.as_str(), KEY));
    assert!(!world.peers.known(&id).await);
    world.peers.actor(&id).await.unwrap();
    assert!(world.peers.known(&id).await);
    let world = world.restart();
    assert!(world.peers.known(&id).await);
    world.clock.advance(Duration::from_secs(23 * 3600));
    world.peers.actor(&id).await.unwrap();
    // The actor's key needs no fetch of its own.
    assert_eq!(world.peers.key(&site.iri("/ada#main-key")).await.unwrap().owner, id);
    assert_eq!(site.asked().len(), 1);
    world.clock.advance(Duration::from_secs(2 * 3600));
    world.peers.actor(&id).await.unwrap();
    assert_eq!(site.asked().len(), 2);
    world.peers.actor_fresh(&id).await.unwrap();
    assert_eq!(site.asked().len(), 3);
    world.peers.forget(&id).await;
    assert!(!world.peers.known(&id).await && !world.restart().peers.known(&id).await);
}

/// The answer to a question may have been under way while its author changed their mind.
#[tokio::test]
async fn a_reading_is_as_old_as_its_question_whatever_it_was_read_for() {
    let world = World::new();
    let listener = tokio::net::TcpListener::bind((OPEN, 0)).await.unwrap();
    let id = Iri::parse(&format!("http://{}/ada", listener.local_addr().unwrap())).unwrap();
    let (clock, page) = (world.clock.clone(), actor(id.as_str(), KEY));
    let answer = move || {
        // It takes a minute.
        clock.advance(Duration::from_secs(60));
        let page = page.clone();
        async move { ([("content-type", "application/activity+json")], page.body) }
    };
    testing::serve(listener, axum::Router::new().fallback(answer));
    assert_eq!(world.peers.reading_now(&id).await.unwrap().read_at, NOON);
    assert_eq!(world.restart().peers.kept_reading(&id).await.map(|kept| kept.read_at), Some(NOON), "on disk, too");
}

/// Everybody whose posts are found is read every week: who did not change is not sent again.
#[tokio::test]
async fn a_document_that_did_not_change_is_not_sent_again_and_counts_as_read() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/ada");
    let mut page = actor(id.as_str(), KEY);
    page.headers.push(("etag", "W/\"one\"".to_owned()));
    site.set("/ada", page);
    world.peers.reading_now(&id).await.unwrap();
    let world = world.restart();
    world.clock.advance(Duration::from_secs(7 * 86_400));
    site.set("/ada", Page::status(304));
    let reading = world.peers.reading_now(&id).await.unwrap();
    assert_eq!(site.headers_of("/ada")["if-none-match"], "W/\"one\"");
    assert_eq!((reading.read_at, world.peers.actor(&id).await.unwrap().id.clone()), (world.clock.now(), id.clone()));
    // Who was forgotten is read whole: a 304 says nothing to us then.
    world.peers.forget(&id).await;
    assert!(world.peers.reading_now(&id).await.is_err());
    assert!(site.headers_of("/ada").get("if-none-match").is_none());
    // Nor is a 304 from elsewhere believed.
    let mut page = actor(id.as_str(), KEY);
    page.headers.push(("etag", "\"two\"".to_owned()));
    site.set("/ada", page);
    world.clock.advance(Duration::from_secs(7 * 86_400));
    world.peers.reading_now(&id).await.unwrap();
    site.set("/ada", Page::redirect("/there"));
    site.set("/there", Page::status(304));
    assert!(world.peers.reading_now(&id).await.is_err());
}

/// Some origins are wrong about what did not change: after a month a document is read whole.
#[tokio::test]
async fn an_origin_is_believed_that_nothing_changed_for_a_month_and_no_longer() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/ada");
    site.set("/ada", tagged(&id, KEY, "\"one\""));
    world.peers.reading_now(&id).await.unwrap();
    let day = Duration::from_secs(86_400);
    for (days, sent) in [(7, true), (22, true), (1, false)] {
        world.clock.advance(days * day);
        site.set("/ada", if sent { Page::status(304) } else { tagged(&id, OTHER_KEY, "\"two\"") });
        assert_eq!(world.peers.reading_now(&id).await.unwrap().read_at, world.clock.now());
        let etag = site.headers_of("/ada").get("if-none-match").cloned();
        assert_eq!(etag.is_some(), sent, "{days} days later");
    }
    assert_eq!(world.peers.actor(&id).await.unwrap().keys[0].key, public(OTHER_KEY));
    world.clock.advance(day);
    site.set("/ada", Page::status(304));
    world.peers.reading_now(&id).await.unwrap();
    assert_eq!(site.headers_of("/ada")["if-none-match"], "\"two\"");
}

/// For a day, and after a restart.
#[tokio::test]
async fn what_did_not_change_is_as_good_as_new() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/ada");
    site.set("/ada", tagged(&id, KEY, "\"one\""));
    world.peers.actor(&id).await.unwrap();
    world.clock.advance(Duration::from_secs(7 * 86_400));
    site.set("/ada", Page::status(304));
    world.peers.actor(&id).await.unwrap();
    world.clock.advance(Duration::from_secs(23 * 3600));
    world.peers.actor(&id).await.unwrap();
    let world = world.restart();
    world.peers.actor(&id).await.unwrap();
    assert_eq!(site.asked().len(), 2);
    world.clock.advance(Duration::from_secs(3600));
    world.peers.actor(&id).await.unwrap();
    assert_eq!(site.asked().len(), 3);
}

#[tokio::test]
async fn of_two_readings_in_memory_the_newer_stays() {
    let world = World::new();
    let id = Iri::parse("https://a.example/ada").unwrap();
    let reading = |asked_at| {
        let value: Value = serde_json::from_str(&actor(id.as_str(), KEY).body).unwrap();
        crate::net::Fetched { id: id.clone(), bytes: value.to_string().into(), value, asked_at, etag: None }
    };
    world.clock.advance(Duration::from_secs(60));
    let now = world.clock.now();
    for (asked_at, is_newest) in [(now, true), (NOON, false), (now, true)] {
        assert_eq!(world.peers.note_reading(&reading(asked_at)).await.0, is_newest);
        assert_eq!(world.peers.kept_reading(&id).await.map(|kept| kept.read_at), Some(now));
    }
    // Nor is the older document written down.
    let late = reading(NOON);
    world.peers.keep_actor(RemoteActor::read(&late.value).unwrap(), &late).await;
    assert!(!world.peers.disk.contains(Kind::Actor, id.as_str()));
}

/// That nothing changed is an answer to that question, and about the document that we have.
#[tokio::test]
async fn nothing_is_believed_to_be_as_it_was_that_we_did_not_ask_about() {
    let etag = |site: &Site| site.headers_of("/ada").get("if-none-match").cloned();
    let known = async || {
        let (world, site) = (World::new(), Site::start(OPEN).await);
        let id = site.iri("/ada");
        site.set("/ada", tagged(&id, KEY, "\"one\""));
        world.peers.reading_now(&id).await.unwrap();
        world.clock.advance(Duration::from_secs(86_400));
        (world, site, id)
    };
    // It came without a tag the next time: the old one is not its own.
    let (world, site, id) = known().await;
    site.set("/ada", actor(id.as_str(), OTHER_KEY));
    world.peers.reading_now(&id).await.unwrap();
    site.set("/ada", Page::status(304));
    assert!(world.peers.reading_now(&id).await.is_err(), "nobody asked whether it changed");
    assert_eq!(etag(&site), None);
    // One that is longer than any that a server makes is none.
    let (world, site, id) = known().await;
    site.set("/ada", tagged(&id, KEY, &format!("\"{}\"", "x".repeat(300))));
    world.peers.reading_now(&id).await.unwrap();
    world.peers.reading_now(&id).await.unwrap();
    assert_eq!(etag(&site), None);
    // The document is lost, or cannot be read: what does not differ from it is of no use.
    for lost in [true, false] {
        let (world, site, id) = known().await;
        world.peers.disk.remove(Kind::Actor, id.as_str());
        if !lost {
            world.peers.disk.put(Kind::Actor, id.as_str(), b"{}", world.clock.now());
        }
        world.peers.reading_now(&id).await.unwrap();
        assert_eq!(etag(&site), None);
    }
    // Forgotten while the answer is under way.
    let (world, site, id) = known().await;
    let (disk, key, page) = (world.peers.disk.clone(), id.clone(), tagged(&id, OTHER_KEY, "\"two\""));
    let next = site.clone();
    site.set("/ada", Page::status(304));
    site.meanwhile(move || {
        disk.remove(Kind::Actor, key.as_str());
        next.set("/ada", page);
    });
    world.peers.reading_now(&id).await.unwrap();
    assert_eq!(world.peers.actor(&id).await.unwrap().keys[0].key, public(OTHER_KEY));
    // Whoever waits for a word in a profile is not told what it was yesterday.
    let (world, site, id) = known().await;
    world.peers.shows_now(&id, &["word".to_owned()]).await.unwrap();
    assert_eq!(etag(&site), None);
}

/// Two ask at once, and who asked first is answered last.
#[tokio::test]
async fn an_answer_that_comes_late_displaces_nothing_newer() {
    for late in [304, 200] {
        let (world, site) = (World::new(), Site::start(OPEN).await);
        let id = site.iri("/ada");
        site.set("/ada", tagged(&id, KEY, "\"one\""));
        world.peers.reading_now(&id).await.unwrap();
        world.clock.advance(Duration::from_secs(86_400));
        if late == 304 {
            site.set("/ada", Page::status(304));
        }
        let (disk, clock, newer) = (world.peers.disk.clone(), world.clock.clone(), actor(id.as_str(), OTHER_KEY));
        let key = id.clone();
        site.meanwhile(move || {
            clock.advance(Duration::from_secs(60));
            disk.put(Kind::Actor, key.as_str(), newer.body.as_bytes(), clock.now());
        });
        let read = world.peers.actor_fresh(&id).await.unwrap();
        assert_eq!(read.keys[0].key, public(OTHER_KEY), "{late}: whoever asks gets the newest");
        let now = world.clock.now();
        let kept = world.restart().peers.kept_reading(&id).await;
        assert_eq!(kept.map(|kept| kept.read_at), Some(now), "{late}: and it stays");
    }
}

/// What it wrote down would be new until the day comes that it spoke of.
#[tokio::test]
async fn what_a_wrong_clock_wrote_down_is_read_again() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/ada");
    let page = actor(id.as_str(), KEY);
    world.peers.disk.put(Kind::Actor, id.as_str(), page.body.as_bytes(), NOON.plus(Duration::from_secs(86_400 * 365)));
    assert_eq!(world.peers.kept_reading(&id).await, None);
    site.set("/ada", actor(id.as_str(), OTHER_KEY));
    assert_eq!(world.peers.actor(&id).await.unwrap().keys[0].key, public(OTHER_KEY));
    assert_eq!(world.peers.kept_reading(&id).await.map(|kept| kept.read_at), Some(NOON));
}

/// Keys are read from the document in which the author says yes or no.
#[tokio::test]
async fn what_was_read_for_a_key_is_the_newest_word_too() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    let said = |yes: bool| {
        let mut page = json!({ "id": id.as_str(), "type": "Person", "preferredUsername": "ada",
            "inbox": format!("{id}/inbox"), "indexable": yes,
            "publicKey": key(key_id.as_str(), id.as_str(), KEY) });
        page["@context"] = json!(["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1"]);
        Page::document(page)
    };
    site.set("/ada", said(true));
    assert!(world.peers.reading_now(&id).await.unwrap().signals.indexable.is_yes());
    site.set("/ada", said(false));
    world.clock.advance(Duration::from_secs(3600));
    world.peers.refetch_key(&key_id).await.unwrap();
    assert!(!world.peers.kept_reading(&id).await.unwrap().signals.indexable.is_yes());
}

/// The inbox forgets what a profile said once the Update is on disk. Whoever was told of it by the log may have read it by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_read_while_we_are_told_to_forget_them_is_read_all_the_same() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/ada");
    site.set("/ada", actor(id.as_str(), KEY));
    let (peers, told) = (world.peers.clone(), id.clone());
    let mut telling = tokio::task::JoinSet::new();
    telling.spawn(async move {
        loop {
            peers.changed(&told).await;
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..300 {
        world.peers.reading_now(&id).await.unwrap();
    }
}

/// Anybody can say with every request that they changed.
#[tokio::test]
async fn a_profile_that_changes_all_the_time_is_read_once_per_cool_down() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    site.set("/ada", actor(id.as_str(), KEY));
    for _ in 0..2 {
        let before = site.asked().len();
        for _ in 0..20 {
            world.peers.key(&key_id).await.unwrap();
            world.peers.changed(&id).await;
            assert_eq!(world.peers.kept_reading(&id).await, None, "what it said before counts no longer");
        }
        assert_eq!(site.asked().len(), before + 2);
        assert!(world.peers.known(&id).await, "who is known may say goodbye");
        world.peers.actor(&id).await.unwrap();
        assert_eq!(site.asked().len(), before + 3, "who needs the document reads the new one");
        world.peers.forget(&id).await;
        assert!(!world.peers.known(&id).await);
        world.clock.advance(Duration::from_secs(601));
    }
}

#[tokio::test]
async fn failures_are_remembered_each_for_its_time() {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    for (status, fault, life) in [
        (404, PeerFault::Gone { status: 404 }, minutes(1)),
        (410, PeerFault::Gone { status: 410 }, minutes(1)),
        (401, PeerFault::Forbidden, minutes(10)),
        (403, PeerFault::Forbidden, minutes(10)),
        (503, PeerFault::TryLater("5xx"), minutes(1)),
    ] {
        let (world, site) = (World::new(), Site::start(OPEN).await);
        site.set("/ada", Page::status(status));
        let id = site.iri("/ada");
        assert_eq!(world.peers.actor(&id).await.unwrap_err(), fault);
        let asked = site.asked().len();
        world.clock.advance(life - Duration::from_millis(1));
        assert_eq!(world.peers.actor(&id).await.unwrap_err(), fault);
        assert_eq!(site.asked().len(), asked, "{status}");
        world.clock.advance(Duration::from_millis(2));
        site.set("/ada", actor(id.as_str(), KEY));
        assert!(world.peers.actor(&id).await.is_ok(), "{status}");
        assert!(world.restart().peers.actor(&id).await.is_ok(), "what was missing and came back is not missing");
    }
}

#[tokio::test]
async fn what_was_known_and_goes_missing_is_not_asked_for_within_the_hour() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    site.set("/ada", actor(id.as_str(), KEY));
    world.peers.key(&key_id).await.unwrap();
    site.set("/ada", Page::status(410));
    let gone = PeerFault::Gone { status: 410 };
    assert_eq!(world.peers.actor_fresh(&id).await.unwrap_err(), gone);
    let asked = site.asked().len();
    world.clock.advance(Duration::from_secs(59 * 60));
    assert_eq!(world.peers.actor(&id).await.unwrap_err(), gone);
    assert_eq!(site.asked().len(), asked);
    world.clock.advance(Duration::from_secs(2 * 60));
    site.set("/ada", actor(id.as_str(), KEY));
    assert!(world.peers.actor_fresh(&id).await.is_ok());

    // What came back is there, also for who does not believe what we have; what is gone is gone after a restart, too.
    site.set("/ada", Page::status(410));
    world.peers.actor_fresh(&id).await.unwrap_err();
    site.set("/ada", actor(id.as_str(), KEY));
    world.peers.actor_fresh(&id).await.unwrap();
    world.peers.outdate_actor(&id).await;
    assert!(world.peers.actor(&id).await.is_ok());
    world.clock.advance(Duration::from_secs(25 * 3600));
    site.set("/ada", Page::status(410));
    assert_eq!(world.peers.actor(&id).await.unwrap_err(), gone);
    let (world, asked) = (world.restart(), site.asked().len());
    assert_eq!(world.peers.actor(&id).await.unwrap_err(), gone);
    assert_eq!(site.asked().len(), asked);
    let world = world.restart();
    world.clock.advance(Duration::from_secs(3600));
    site.set("/ada", actor(id.as_str(), KEY));
    assert!(world.peers.actor(&id).await.is_ok(), "for an hour");
}

#[tokio::test]
async fn an_actor_is_only_believed_at_its_own_address() {
    let (world, site, evil) = (World::new(), Site::start(OPEN).await, Site::start(OTHER).await);
    let victim = site.iri("/ada");
    site.set("/ada", actor(victim.as_str(), KEY));
    site.set("/@ada", actor(victim.as_str(), KEY));
    evil.set("/ada", actor(victim.as_str(), OTHER_KEY));
    site.set("/gone", Page::document(json!({ "id": site.url("/gone"), "type": "Tombstone" })));
    assert!(matches!(world.peers.actor(&evil.iri("/ada")).await, Err(PeerFault::Invalid(_))));
    assert!(matches!(world.peers.actor(&site.iri("/@ada")).await, Err(PeerFault::Invalid(_))));
    assert_eq!(world.peers.actor(&site.iri("/gone")).await, Err(PeerFault::Gone { status: 410 }));
    assert!(!world.peers.known(&victim).await, "a claimed id poisons nothing");
    let honest = world.peers.actor(&victim).await.unwrap();
    assert_eq!(honest.keys[0].key, public(KEY));
}

#[tokio::test]
async fn keys_are_found_in_all_the_places_where_servers_keep_them() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    // Nearly everyone: in the actor, under a fragment; several of them since Mastodon 4.6.
    let ada = site.url("/ada");
    let two = json!([key(&format!("{ada}#main-key"), &ada, KEY), key(&format!("{ada}#second"), &ada, OTHER_KEY)]);
    site.set("/ada", actor_with(&ada, two));
    // GoToSocial: path style, and its address shows an actor cut short.
    let (gts, gts_key) = (site.url("/gts"), site.url("/gts/main-key"));
    let stub =
        json!({ "id": gts, "type": "Person", "preferredUsername": "gts", "publicKey": key(&gts_key, &gts, KEY) });
    site.set("/gts/main-key", Page::document(stub));
    site.set("/gts", actor_with(&gts, key(&gts_key, &gts, KEY)));
    // A key as a document of its own.
    let (solo, solo_key) = (site.url("/solo"), site.url("/keys/1"));
    site.set("/keys/1", Page::document(key(&solo_key, &solo, KEY)));
    site.set("/solo", actor_with(&solo, key(&solo_key, &solo, KEY)));
    // A Multikey (FEP-521a) as a document of its own, which only its owner's `assertionMethod` makes somebody's.
    let (multi, multi_key) = (site.url("/multi"), site.url("/keys/2"));
    let multikey = json!({
        "@context": "https://w3id.org/security/multikey/v1", "id": multi_key, "type": "Multikey", "controller": multi,
        "publicKeyMultibase": public(OTHER_KEY).to_multibase(),
    });
    site.set("/keys/2", Page::document(&multikey));
    let document = json!({
        "id": multi, "type": "Service", "inbox": site.url("/multi/inbox"), "assertionMethod": [multikey],
    });
    site.set("/multi", Page::document(document));
    for (key_id, owner, pem) in [
        ("/ada#main-key", &ada, KEY),
        ("/ada#second", &ada, OTHER_KEY),
        ("/gts/main-key", &gts, KEY),
        ("/keys/1", &solo, KEY),
        ("/keys/2", &multi, OTHER_KEY),
    ] {
        let found = world.peers.key(&site.iri(key_id)).await.unwrap();
        assert_eq!((found.id.clone(), found.owner.as_str()), (site.iri(key_id), owner.as_str()));
        assert_eq!(found.key, public(pem));
    }
    let asked = site.asked();
    assert_eq!(asked, ["/ada", "/gts/main-key", "/gts", "/keys/1", "/solo", "/keys/2", "/multi"]);
    let world = world.restart();
    for key_id in ["/ada#second", "/gts/main-key", "/keys/1", "/keys/2"] {
        assert!(world.peers.key(&site.iri(key_id)).await.is_ok());
    }
    assert_eq!(site.asked(), asked, "after a restart nothing is read again");
}

#[tokio::test]
async fn a_key_that_its_owner_does_not_list_is_nobodys() {
    let (site, evil) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let victim = site.url("/ada");
    site.set("/ada", actor(&victim, KEY));
    let at = |path: &str| evil.url(path);
    // A2: a bare key that names the victim, here and on the victim's own server by an upload.
    evil.set("/bare", Page::document(key(&at("/bare"), &victim, OTHER_KEY)));
    site.set("/upload", Page::document(key(&site.url("/upload"), &victim, OTHER_KEY)));
    // A2: the attacker's actor dressed up with the victim's id, or with the victim as the key's owner.
    evil.set("/dressed", actor_with(&victim, key(&at("/dressed#k"), &victim, OTHER_KEY)));
    evil.set("/owner", actor_with(&at("/owner"), key(&at("/owner#k"), &victim, OTHER_KEY)));
    // An owner of its own that exists, and lists another key under that id, or none.
    evil.set("/swap", Page::document(key(&at("/swap"), &at("/swapper"), OTHER_KEY)));
    evil.set("/swapper", actor_with(&at("/swapper"), key(&at("/swap"), &at("/swapper"), KEY)));
    evil.set("/unlisted", Page::document(key(&at("/unlisted"), &at("/mallory"), OTHER_KEY)));
    evil.set("/mallory", actor(&at("/mallory"), OTHER_KEY));
    // A4: a document that calls itself another key than was asked for.
    evil.set("/misnamed", Page::document(key(&at("/mallory#main-key"), &at("/mallory"), OTHER_KEY)));
    // A3: the owner's address leads away, to a document that poses as it.
    evil.set("/led", Page::document(key(&at("/led"), &at("/away"), OTHER_KEY)));
    evil.set("/away", Page::redirect(&site.url("/posing")));
    site.set("/posing", actor_with(&at("/away"), key(&at("/led"), &at("/away"), OTHER_KEY)));
    // A2 again, with a Multikey: the victim's `assertionMethod` does not know it.
    let multikey = |id: String, controller: &str| {
        let text = public(OTHER_KEY).to_multibase();
        Page::document(json!({ "id": id, "type": "Multikey", "controller": controller, "publicKeyMultibase": text }))
    };
    evil.set("/multi", multikey(at("/multi"), &victim));
    site.set("/multi", multikey(site.url("/multi"), &victim));
    // GoToSocial's cut-down actor, dressed up; and one whose owner has another key.
    let stub = |id: &str, key_id: String, pem: &str| {
        Page::document(json!({ "id": id, "type": "Person", "publicKey": key(&key_id, id, pem) }))
    };
    evil.set("/stub/main-key", stub(&victim, at("/stub/main-key"), OTHER_KEY));
    site.set("/ada/main-key", stub(&victim, site.url("/ada/main-key"), OTHER_KEY));
    let attacks = [
        evil.iri("/multi"),
        site.iri("/multi"),
        evil.iri("/stub/main-key"),
        site.iri("/ada/main-key"),
        evil.iri("/bare"),
        site.iri("/upload"),
        evil.iri("/dressed#k"),
        evil.iri("/owner#k"),
        evil.iri("/swap"),
        evil.iri("/unlisted"),
        evil.iri("/misnamed"),
        evil.iri("/led"),
    ];
    for key_id in attacks {
        let world = World::new();
        let outcome = world.peers.key(&key_id).await;
        assert!(matches!(outcome, Err(PeerFault::Invalid(_))), "{key_id}: {outcome:?}");
        let honest = world.peers.key(&site.iri("/ada#main-key")).await.unwrap();
        assert_eq!((honest.owner.as_str(), &honest.key), (victim.as_str(), &public(KEY)), "{key_id}");
        let world = world.restart();
        assert!(matches!(world.peers.key(&key_id).await, Err(PeerFault::Invalid(_))), "{key_id} after a restart");
    }
}

#[tokio::test]
async fn a_victim_that_redirects_to_the_attacker_lends_it_no_name() {
    let (world, site, evil) = (World::new(), Site::start(OPEN).await, Site::start(OTHER).await);
    let victim = site.url("/ada");
    site.set("/ada", Page::redirect(&evil.url("/posing")));
    evil.set("/posing", actor(&victim, OTHER_KEY));
    assert!(matches!(world.peers.key(&site.iri("/ada#main-key")).await, Err(PeerFault::Invalid(_))));
    assert!(matches!(world.peers.actor(&site.iri("/ada")).await, Err(PeerFault::Invalid(_))));
}

#[tokio::test]
async fn ten_thousand_bad_signatures_make_one_second_look() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    site.set("/ada", actor(id.as_str(), KEY));
    world.peers.key(&key_id).await.unwrap();
    world.peers.key(&key_id).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let (peers, key_id) = (world.peers.clone(), key_id.clone());
        asking.spawn(async move { peers.refetch_key(&key_id).await.unwrap().unwrap().key.clone() });
    }
    assert!(asking.join_all().await.into_iter().all(|key| key == public(KEY)));
    assert_eq!(site.asked(), ["/ada", "/ada"]);
    world.clock.advance(Duration::from_secs(599));
    world.peers.refetch_key(&key_id).await.unwrap();
    assert_eq!(site.asked().len(), 2);
    world.clock.advance(Duration::from_secs(2));
    world.peers.refetch_key(&key_id).await.unwrap();
    assert_eq!(site.asked().len(), 3);
}

/// Some want the other profile of signatures and say so with a 401: so a look is two requests there, and no more.
#[tokio::test]
async fn a_host_that_refuses_every_look_is_asked_twice_and_no_oftener() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    for status in [400, 401] {
        let path = format!("/{status}");
        site.set(&path, Page::status(status));
        let key_id = site.iri(&format!("{path}#main-key"));
        let before = site.asked().len();
        for _ in 0..1000 {
            world.peers.key(&key_id).await.unwrap_err();
        }
        assert_eq!(site.asked().len() - before, 2, "{status}");
    }
    // One that shows a new key and refuses the second look: two looks, three requests.
    let key_id = site.iri("/ada#main-key");
    site.set("/ada", actor(&site.url("/ada"), KEY));
    world.peers.key(&key_id).await.unwrap();
    site.set("/ada", Page::status(401));
    let before = site.asked().len();
    for _ in 0..1000 {
        let _ = world.peers.key(&key_id).await;
        let _ = world.peers.refetch_key(&key_id).await;
    }
    assert_eq!(site.asked().len() - before, 2);
}

#[tokio::test]
async fn a_key_that_was_just_read_is_not_read_again_for_the_same_request() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    site.set("/ada", actor(id.as_str(), KEY));
    world.peers.key(&key_id).await.unwrap();
    assert_eq!(world.peers.refetch_key(&key_id).await, Ok(None));
    assert_eq!(site.asked(), ["/ada"]);
    // The next request finds it known.
    world.peers.key(&key_id).await.unwrap();
    for _ in 0..2 {
        assert!(world.peers.refetch_key(&key_id).await.unwrap().is_some(), "what the second look gave is for all");
    }
    assert_eq!(site.asked(), ["/ada", "/ada"]);
}

#[tokio::test]
async fn a_second_look_that_failed_is_not_made_again_within_ten_minutes() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    site.set("/ada", actor(id.as_str(), KEY));
    for _ in 0..2 {
        world.peers.key(&key_id).await.unwrap();
    }
    for (page, fault, asked) in [
        (Page::status(503), PeerFault::TryLater("5xx"), 2),
        (Page::status(403), PeerFault::Forbidden, 3),
        (Page::status(410), PeerFault::Gone { status: 410 }, 4),
    ] {
        site.set("/ada", page);
        for _ in 0..3 {
            assert_eq!(world.peers.refetch_key(&key_id).await, Err(fault.clone()));
            assert_eq!(site.asked().len(), asked, "{fault}");
        }
        let answered = !matches!(fault, PeerFault::TryLater(_));
        assert_eq!(world.peers.actor(&id).await.is_err(), answered, "only an answer displaces what we have: {fault}");
        world.clock.advance(Duration::from_secs(601));
    }
    site.set("/ada", actor(id.as_str(), OTHER_KEY));
    assert!(world.peers.refetch_key(&key_id).await.is_ok());
    let asked = site.asked().len();
    assert_eq!(world.peers.actor(&id).await.unwrap().keys[0].key, public(OTHER_KEY), "what it gave is for all");
    assert_eq!(site.asked().len(), asked);
}

#[tokio::test]
async fn a_second_look_that_the_budget_refuses_is_our_trouble() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let mut refused = Vec::new();
    for n in 0..40 {
        let key_id = site.iri(&format!("/{n}#main-key"));
        match world.peers.refetch_key(&key_id).await {
            Err(PeerFault::TryLater("busy")) => refused.push(key_id),
            other => assert_eq!(other, Err(PeerFault::Gone { status: 404 })),
        }
    }
    assert!((1..=10).contains(&refused.len()), "{refused:?}");
    // Nor is it held against the key: as soon as there is a place again, it is looked at.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(world.peers.refetch_key(&refused[0]).await, Err(PeerFault::Gone { status: 404 }));

    // The same where the host has a rest: when that is over, it is asked, though ten minutes are not.
    let (addr, hits) = raw_server(OTHER, b"no TLS at all\r\n\r\n").await;
    let key_id = |n: usize| Iri::parse(&format!("https://{addr}/{n}#main-key")).unwrap();
    for n in 0..5 {
        assert!(world.peers.refetch_key(&key_id(n)).await.is_err());
    }
    let before = hits.load(Ordering::SeqCst);
    assert_eq!(world.peers.refetch_key(&key_id(5)).await, Err(PeerFault::TryLater("resting")));
    assert_eq!(hits.load(Ordering::SeqCst), before);
    world.clock.advance(Duration::from_secs(61));
    assert_ne!(world.peers.refetch_key(&key_id(5)).await, Err(PeerFault::TryLater("resting")));
    assert!(hits.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn one_slow_key_holds_up_eight_requests_and_no_known_key() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    site.set("/ada", actor(&site.url("/ada"), KEY));
    world.peers.key(&site.iri("/ada#main-key")).await.unwrap();
    let world = world.restart();
    let (slow, _) = raw_server(OTHER, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nzzz").await;
    let slow = Iri::parse(&format!("http://{slow}/ada#main-key")).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (peers, key_id) = (world.peers.clone(), slow.clone());
        asking.spawn(async move { peers.key(&key_id).await });
    }
    for _ in 0..92 {
        let first = tokio::time::timeout(Duration::from_secs(2), asking.join_next()).await.expect("at once");
        assert_eq!(first.unwrap().unwrap(), Err(PeerFault::TryLater("busy")));
    }
    assert!(world.peers.key(&site.iri("/ada#main-key")).await.is_ok(), "from the disk");
    assert!(world.peers.key(&site.iri("/ada#main-key")).await.is_ok(), "from memory");
    let waited = asking.join_all().await;
    assert!(waited.len() == 8 && waited.iter().all(|outcome| *outcome == Err(PeerFault::TryLater("timeout"))));
    assert_eq!(world.peers.key(&slow).await, Err(PeerFault::TryLater("timeout")), "the places are given back");
}

#[tokio::test]
async fn many_slow_hosts_of_strangers_leave_room_for_the_servers_we_know() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    site.set("/ada", actor(&site.url("/ada"), KEY));
    let known = site.iri("/").authority();
    let peers = world.peers.clone().with_familiar(Arc::new(move |authority| *authority == known));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..80 {
        let (addr, _) = raw_server(OTHER, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nzzz").await;
        let (peers, key_id) = (peers.clone(), Iri::parse(&format!("http://{addr}/x#k")).unwrap());
        asking.spawn(async move { peers.key(&key_id).await });
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let soon = Duration::from_secs(2);
    let found = tokio::time::timeout(soon, peers.key(&site.iri("/ada#main-key"))).await.expect("at once");
    assert_eq!(found.unwrap().key, public(KEY));
}

#[tokio::test]
async fn where_strangers_have_taken_all_their_places_there_are_some_for_the_servers_we_know() {
    let (world, site, other) = (World::new(), Site::start(OPEN).await, Site::start(OTHER).await);
    site.set("/ada", actor(&site.url("/ada"), KEY));
    other.set("/bob", actor(&other.url("/bob"), KEY));
    let known = site.iri("/").authority();
    let peers = world.peers.clone().with_familiar(Arc::new(move |authority| *authority == known));
    let strangers = (0..).map(|n| Authority::parse(&format!("stranger{n}.example")).unwrap());
    let taken: Vec<_> = strangers.map_while(|stranger| peers.places.take(&stranger, true)).collect();
    assert_eq!(taken.len(), 64);
    assert_eq!(peers.key(&other.iri("/bob#main-key")).await, Err(PeerFault::TryLater("busy")));
    assert!(other.asked().is_empty());
    assert_eq!(peers.key(&site.iri("/ada#main-key")).await.unwrap().key, public(KEY));
    drop(taken);
    assert!(peers.key(&other.iri("/bob#main-key")).await.is_ok());
}

#[tokio::test]
async fn a_rotated_key_is_found_by_one_look_at_its_owner() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (solo, key_id) = (site.url("/solo"), site.iri("/keys/1"));
    let publish = |pem| {
        site.set("/keys/1", Page::document(key(key_id.as_str(), &solo, pem)));
        site.set("/solo", actor_with(&solo, key(key_id.as_str(), &solo, pem)));
    };
    publish(KEY);
    assert_eq!(world.peers.key(&key_id).await.unwrap().key, public(KEY));
    publish(OTHER_KEY);
    assert_eq!(world.peers.key(&key_id).await.unwrap().key, public(KEY));
    let before = site.asked().len();
    assert_eq!(world.peers.refetch_key(&key_id).await.unwrap().unwrap().key, public(OTHER_KEY));
    assert_eq!(site.asked()[before..], ["/solo"], "only the actor's own address can give a new key");
    assert_eq!(world.peers.key(&key_id).await.unwrap().key, public(OTHER_KEY));
    // Withdrawn: not believed any longer, after a restart neither.
    world.clock.advance(Duration::from_secs(601));
    site.set("/solo", actor_with(&solo, json!([])));
    assert!(matches!(world.peers.refetch_key(&key_id).await, Err(PeerFault::Invalid(_))));
    assert!(matches!(world.peers.key(&key_id).await, Err(PeerFault::Invalid(_))));
    assert!(matches!(world.restart().peers.key(&key_id).await, Err(PeerFault::Invalid(_))));
}

#[tokio::test]
async fn a_new_key_under_a_new_id_costs_one_fetch_and_leaves_the_old_one_to_its_owner() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let ada = site.url("/ada");
    let listed = |fragment: &str, pem| key(&format!("{ada}#{fragment}"), &ada, pem);
    site.set("/ada", actor_with(&ada, listed("main-key", KEY)));
    for _ in 0..2 {
        world.peers.key(&site.iri("/ada#main-key")).await.unwrap();
    }
    site.set("/ada", actor_with(&ada, listed("main-key-2", OTHER_KEY)));
    assert_eq!(world.peers.key(&site.iri("/ada#main-key-2")).await.unwrap().key, public(OTHER_KEY));
    assert_eq!(site.asked(), ["/ada", "/ada"]);
    // The old one is no longer listed: a signature by it that fails, or a day, and it is not believed any longer.
    assert!(matches!(world.peers.refetch_key(&site.iri("/ada#main-key")).await, Err(PeerFault::Invalid(_))));
    assert!(matches!(world.peers.key(&site.iri("/ada#main-key")).await, Err(PeerFault::Invalid(_))));
    assert_eq!(world.peers.key(&site.iri("/ada#main-key-2")).await.unwrap().key, public(OTHER_KEY));
}

#[tokio::test]
async fn an_origin_that_does_not_answer_does_not_take_back_its_keys() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
    site.set("/ada", actor(id.as_str(), KEY));
    world.peers.key(&key_id).await.unwrap();
    world.clock.advance(Duration::from_secs(25 * 3600));
    site.set("/ada", Page::status(503));
    assert_eq!(world.peers.key(&key_id).await.unwrap().key, public(KEY));
    assert_eq!(world.peers.actor(&id).await, Err(PeerFault::TryLater("5xx")), "but what it says is not fresh");
    assert_eq!(world.peers.refetch_key(&key_id).await, Err(PeerFault::TryLater("5xx")));
    assert_eq!(world.peers.key(&key_id).await.unwrap().key, public(KEY));
    let asked = site.asked().len();
    world.peers.key(&key_id).await.unwrap();
    assert_eq!(site.asked().len(), asked, "and it is not asked for each of them");
    site.set("/ada", Page::status(410));
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.peers.key(&key_id).await, Err(PeerFault::Gone { status: 410 }));
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    site.set("/ada", Page::status(503));
    assert_eq!(world.peers.key(&key_id).await, Err(PeerFault::TryLater("5xx")), "a month is too old");
}

#[tokio::test]
async fn bogus_key_ids_make_at_most_ten_requests_a_second_to_one_host() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let started = std::time::Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..2000 {
        let (peers, key_id) = (world.peers.clone(), site.iri(&format!("/bogus/{n}#main-key")));
        asking.spawn(async move { peers.key(&key_id).await });
    }
    let outcomes = asking.join_all().await;
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Err(PeerFault::Gone { .. } | PeerFault::TryLater("busy"))))
    );
    // A full bucket, and what has dripped into it meanwhile.
    let allowed = 10 + usize::try_from(started.elapsed().as_millis() / 100).unwrap() + 1;
    assert!(site.asked().len() <= allowed, "{} requests", site.asked().len());
}

#[tokio::test]
async fn a_key_id_leads_nowhere_inside() {
    let (canary, hits) = raw_server(CANARY, b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (world, site) = (World::new(), Site::start(OPEN).await);
    site.set("/led", Page::redirect(&format!("http://{canary}/")));
    let inside = Iri::parse(&format!("http://{canary}/ada#main-key")).unwrap();
    assert!(matches!(world.peers.key(&inside).await, Err(PeerFault::Refused(_))));
    assert!(matches!(world.peers.key(&site.iri("/led#main-key")).await, Err(PeerFault::Invalid(_))));
    assert!(matches!(world.peers.document(&site.iri("/led")).await, Err(PeerFault::Refused(_))));
    assert!(matches!(world.peers.document(&inside).await, Err(PeerFault::Refused(_))));
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

/// A server without end: every second answer is a 401, so that it is knocked at twice, and the others lead on.
async fn maze(answer: fn(&str, usize) -> Page) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind((OPEN, 0)).await.unwrap();
    let (addr, hits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = hits.clone();
    let router = axum::Router::new().fallback(move || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let page =
                if number.is_multiple_of(2) { Page::status(401) } else { answer(&format!("http://{addr}"), number) };
            let mut response = axum::response::Response::builder().status(page.status);
            for (name, value) in page.headers {
                response = response.header(name, value);
            }
            response.body(axum::body::Body::from(page.body)).unwrap()
        }
    });
    testing::serve(listener, router);
    (addr, hits)
}

/// B7, B8: what one trigger can cost, however the other side answers. Collections are not walked, and nothing that a
/// document names is read for its sake but a key's owner.
#[tokio::test]
async fn no_trigger_costs_more_than_twenty_requests() {
    let redirects = |_: &str, n: usize| Page::redirect(&format!("/{n}"));
    let other_ids = |origin: &str, n: usize| Page::document(json!({ "id": format!("{origin}/{n}"), "type": "Note" }));
    let owners = |origin: &str, n: usize| {
        let (id, owner) = (format!("{origin}/x#k"), format!("{origin}/{n}"));
        Page::document(json!({ "id": id, "owner": owner, "publicKeyPem": KEY }))
    };
    let pages = |origin: &str, n: usize| {
        let next = format!("{origin}/x?page={n}");
        let items = vec![format!("{origin}/item"); 1000];
        Page::document(
            json!({ "id": format!("{origin}/x"), "type": "OrderedCollectionPage", "next": next, "first": next,
            "items": items, "attributedTo": format!("{origin}/by"), "replies": next, "context": next,
            "@context": ["https://www.w3.org/ns/activitystreams", format!("{origin}/context")] }),
        )
    };
    for (what, answer, most_for_document, most_for_key) in [
        ("redirects", redirects as fn(&str, usize) -> Page, 8, 8),
        ("other ids", other_ids, 4, 4),
        ("owners without end", owners, 4, 8),
        ("pages without end", pages, 2, 2),
    ] {
        for key in [true, false] {
            let (world, (addr, hits)) = (World::new(), maze(answer).await);
            let iri = |path: &str| Iri::parse(&format!("http://{addr}{path}")).unwrap();
            if key {
                assert!(world.peers.key(&iri("/x#k")).await.is_err(), "{what}");
            } else {
                let _ = world.peers.document(&iri("/x")).await;
            }
            let (hits, most) = (hits.load(Ordering::SeqCst), if key { most_for_key } else { most_for_document });
            assert!(hits >= 1 && hits <= most, "{what}, key {key}: {hits}");
        }
    }
}

#[tokio::test]
async fn posts_are_read_each_time_and_their_failures_remembered_for_a_minute() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let id = site.iri("/post");
    assert_eq!(world.peers.document(&id).await, Err(PeerFault::Gone { status: 404 }));
    site.set("/post", Page::document(json!({ "id": id, "type": "Note" })));
    assert_eq!(world.peers.document(&id).await, Err(PeerFault::Gone { status: 404 }));
    world.clock.advance(Duration::from_secs(61));
    for _ in 0..2 {
        assert_eq!(world.peers.document(&id).await.unwrap()["type"], "Note");
    }
    assert_eq!(site.asked().len(), 3);
}

#[tokio::test]
async fn a_server_says_itself_what_it_runs() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let index = |href: &str| {
        let link = json!({ "rel": "http://nodeinfo.diaspora.software/ns/schema/2.1", "href": href });
        Page::typed("application/json; charset=utf-8", json!({ "links": [link] }))
    };
    let document = json!({ "version": "2.1", "software": { "name": "GoToSocial", "version": "0.20" } });
    site.set("/nodeinfo", Page::typed("application/json; profile=\"x\"", &document));
    other.set("/nodeinfo", Page::typed("application/json", &document));
    site.set("/away", Page::redirect(&other.url("/nodeinfo")));
    let authority = site.iri("/").authority();
    for bad in
        [other.url("/nodeinfo"), site.url("/away"), "data:application/json,{}".to_owned(), "file:///x".to_owned()]
    {
        site.set("/.well-known/nodeinfo", index(&bad));
        let outcome = World::new().peers.software(&authority, "http").await;
        assert!(matches!(outcome, Err(PeerFault::Invalid(_))), "{bad}: {outcome:?}");
    }
    site.set("/.well-known/nodeinfo", index(&site.url("/nodeinfo")));
    let world = World::new();
    let software = world.peers.software(&authority, "http").await.unwrap();
    assert_eq!((software.name.as_str(), software.version.as_str()), ("gotosocial", "0.20"));
    let asked = site.asked().len();
    let world = world.restart();
    assert_eq!(world.peers.software(&authority, "http").await, Ok(software));
    assert_eq!(site.asked().len(), asked);
    world.clock.advance(Duration::from_secs(25 * 3600));
    site.set("/.well-known/nodeinfo", Page::status(404));
    assert_eq!(world.peers.software(&authority, "http").await, Err(PeerFault::Gone { status: 404 }));
}

#[tokio::test]
async fn handles_are_resolved_by_webfinger_and_urls_taken_as_they_are() {
    let (world, site) = (World::new(), Site::start(OPEN).await);
    let jrd = json!({ "links": [{ "rel": "self", "type": "application/activity+json", "href": site.url("/ada") }] });
    let resource = format!("acct:ada@{}", site.addr).replace(':', "%3A").replace('@', "%40").replace('.', "%2E");
    site.set(&format!("/.well-known/webfinger?resource={resource}"), Page::typed("application/jrd+json", jrd));
    for text in [format!("@ada@{}", site.addr), format!(" ada@{} ", site.addr), format!("acct:ada@{}", site.addr)] {
        assert_eq!(world.peers.resolve_handle(&text).await, Ok(site.iri("/ada")), "{text}");
    }
    let asked = site.asked().len();
    assert_eq!(world.peers.resolve_handle(&site.url("/x")).await, Ok(site.iri("/x")));
    for text in
        ["", "ada", "@ada", "ada@", "@@x", "a b@x.example", "ada@x.example/y", "https://X.example/", "ftp://x/y"]
    {
        assert!(matches!(world.peers.resolve_handle(text).await, Err(PeerFault::Invalid(_))), "{text}");
    }
    assert_eq!(site.asked().len(), asked);
    assert!(matches!(world.peers.resolve_handle("ada@127.0.0.1").await, Err(PeerFault::Refused(_))));
    assert!(matches!(world.peers.resolve_handle("ada@localhost").await, Err(PeerFault::Refused(_))));
    let unknown = world.peers.resolve_handle(&format!("bob@{}", site.addr)).await;
    assert_eq!(unknown, Err(PeerFault::Gone { status: 404 }));
}

/// Who is gone may still have said goodbye: with the last key that we read, and only where the origin says 410.
#[tokio::test]
async fn the_last_key_of_who_is_gone_is_good_for_a_month_and_for_nobody_else() {
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    for (status, later, known) in
        [(410, 25, true), (410, 29 * 24, true), (410, 31 * 24, false), (404, 25, false), (403, 25, false)]
    {
        let (world, site) = (World::new(), Site::start(OPEN).await);
        let (id, key_id) = (site.iri("/ada"), site.iri("/ada#main-key"));
        site.set("/ada", actor(id.as_str(), KEY));
        world.peers.key(&key_id).await.unwrap();
        assert_eq!(world.peers.last_key(&key_id).await, None, "it is there");
        site.set("/ada", Page::status(status));
        world.clock.advance(hours(later));
        assert!(world.peers.key(&key_id).await.is_err());
        let asked = site.asked().len();
        let last = world.peers.last_key(&key_id).await;
        assert_eq!(last.map(|key| key.key.clone()), known.then(|| public(KEY)), "{status} after {later} h");
        assert_eq!(site.asked().len(), asked, "nobody is asked");
    }
    let (world, site) = (World::new(), Site::start(OPEN).await);
    site.set("/bob", Page::status(410));
    assert!(world.peers.key(&site.iri("/bob#main-key")).await.is_err());
    assert_eq!(world.peers.last_key(&site.iri("/bob#main-key")).await, None, "never known");
}

/// What is believed for a time is believed up to its last second, and no longer.
#[tokio::test]
async fn what_is_remembered_ends_on_the_second() {
    let second = Duration::from_secs(1);
    let (day, month) = (Duration::from_secs(24 * 3600), Duration::from_secs(30 * 24 * 3600));
    let known = async || {
        let (world, site) = (World::new(), Site::start(OPEN).await);
        site.set("/ada", actor(site.url("/ada").as_str(), KEY));
        world.peers.key(&site.iri("/ada#main-key")).await.unwrap();
        (world, site)
    };

    // A key, as long as its owner's document: a day.
    let (world, site) = known().await;
    for (later, asked) in [(day - second, 1), (second, 2)] {
        world.clock.advance(later);
        world.peers.key(&site.iri("/ada#main-key")).await.unwrap();
        assert_eq!(site.asked().len(), asked, "{later:?} later");
    }

    // The same while its origin does not answer, and the last words of who is gone: a month.
    for (later, good) in [(month - second, true), (month, false)] {
        let (world, site) = known().await;
        site.set("/ada", Page::status(503));
        world.clock.advance(later);
        assert_eq!(world.peers.key(&site.iri("/ada#main-key")).await.is_ok(), good, "{later:?} later");
        let (world, site) = known().await;
        site.set("/ada", Page::status(410));
        world.clock.advance(later);
        assert!(world.peers.key(&site.iri("/ada#main-key")).await.is_err());
        assert_eq!(world.peers.last_key(&site.iri("/ada#main-key")).await.is_some(), good, "{later:?} later");
    }

    // That a document is missing, whichever key in it is asked for: an hour, across a restart.
    let (world, site) = known().await;
    site.set("/ada", Page::status(410));
    assert!(world.peers.actor_fresh(&site.iri("/ada")).await.is_err());
    world.clock.advance(Duration::from_secs(3600) - second);
    let world = world.restart();
    for (later, asked) in [(Duration::ZERO, 2), (second, 3)] {
        world.clock.advance(later);
        let gone = Err(PeerFault::Gone { status: 410 });
        assert_eq!(world.peers.key(&site.iri("/ada#other")).await, gone);
        assert_eq!(site.asked().len(), asked, "{later:?} later");
    }
}

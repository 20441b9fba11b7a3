//! The second key: a server's admin, or the operator, switches search on and off for its posts; what comes for the search
//! alone goes to nobody; and who wants out of the search is out before the answer is given.

use std::process::Command;

use serde_json::{Value, json};
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Access;
use shearwater::demo::{Answer, As, Family, Fault, Instance, Options, Outcome, PostSpec, Tweaks, Visibility, Where};
use shearwater::ids::{Iri, Seq};
use shearwater::log::{Entry, Kind};
use shearwater::store::{
    Act, ControlRow, Following, IndexedAuthor, IndexedPost, Refused, Rule, RuleChange, SearchServer, Severity, Source,
    SwitchedBy,
};
use shearwater::wire::document::Document;
use shearwater::wire::searchable::{ActorSignals, Profile};

use crate::support::{LONG, TestRelay, arrival, authority, eventually, json as parse, publish, silence_about};

const AS2: &str = "https://www.w3.org/ns/activitystreams";
const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";

async fn searching() -> TestRelay {
    TestRelay::start_with(|config| config.search.api = Access::Public).await
}

/// The same, when its sweeper has looked whose server is on and looks no more until that changes: a row of somebody whose
/// server is not stays as long as nobody takes it out.
async fn searching_after_the_sweep() -> TestRelay {
    let relay = searching().await;
    let bait = indexed(&relay, &server(Family::Mastodon, "bait").await, &[]).await;
    switched_on(&relay, Family::Mastodon, "other").await;
    eventually("the sweeper has looked", || !has_author(&relay, &bait)).await;
    let rests = || relay.server.app().state.supervisor.status()["sweeper"].state == "waiting";
    eventually("at everybody", rests).await;
    relay
}

async fn server(family: Family, name: &str) -> Instance {
    Instance::start(family, Options { name: name.to_owned(), ..Options::default() }).await.expect("an instance")
}

/// A server whose admin has switched search on, in its own way.
async fn switched_on(relay: &TestRelay, family: Family, name: &str) -> Instance {
    let instance = server(family, name).await;
    let answer = instance.join_search(relay.url()).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(instance.wait_accepted(LONG).await, "{name} is accepted: {:#?}", instance.received());
    instance
}

fn search_of(relay: &TestRelay, instance: &Instance) -> Option<SearchServer> {
    relay.store().search_servers().get(&authority(instance)).map(|server| SearchServer::clone(server))
}

fn search_actor(relay: &TestRelay) -> String {
    format!("{}/search/actor", relay.url())
}

fn ada() -> As {
    As::Author("ada".to_owned())
}

async fn send(relay: &TestRelay, instance: &Instance, path: &str, who: &As, body: &Value) -> Answer {
    let url = Some(format!("{}{path}", relay.url()));
    instance.send_raw(body.to_string(), who, &Tweaks { url, ..Tweaks::default() }).await.expect("an answer")
}

fn activity(instance: &Instance, who: &As, kind: &str, id: &str, object: Value) -> Value {
    json!({ "@context": AS2, "id": format!("{}/{id}", instance.origin()), "type": kind, "actor": instance.actor(who),
            "object": object })
}

/// All entries about this object.
fn entries(relay: &TestRelay, object: &str) -> Vec<Entry> {
    let log = &relay.server.app().state.log;
    let (mut next, mut found) = (Seq(1), Vec::new());
    while let Some(entry) = log.at_or_after(next).expect("the log reads") {
        next = entry.seq.next();
        if entry.object.as_str() == object {
            found.push(Entry::clone(&entry));
        }
    }
    found
}

fn iri(text: &str) -> Iri {
    Iri::parse(text).expect("an id")
}

/// Puts an author of this server, and posts of theirs, into the ledger, as the gatherer would.
async fn indexed(relay: &TestRelay, instance: &Instance, posts: &[&str]) -> Iri {
    let author = iri(&instance.actor(&ada()));
    let objects: Vec<Iri> = posts.iter().map(|id| iri(id)).collect();
    let (actor, now) = (author.clone(), Clock::system().now());
    let write = move |tx: &mut shearwater::store::Tx<'_>| {
        // The gatherer runs: it would take a post of somebody who never said yes out again.
        let said = json!({ "id": actor.as_str(), "type": "Person", "indexable": true });
        let row = IndexedAuthor {
            number: 0,
            since: None,
            read_at: now,
            signals: ActorSignals::of(&said),
            profile: Profile::of(&said).expect("a profile"),
            hidden: None,
        };
        let author_number = tx.put_indexed_author(&actor, row)?.number;
        for object in objects {
            let (author, language) = (actor.clone(), "en".to_owned());
            let document = Document::default();
            let post = IndexedPost { object, author, author_number, published: now, seq: Seq(0), language, document };
            tx.put_indexed_post(&post)?;
        }
        Ok(())
    };
    relay.store().write(write).await.expect("written");
    author
}

fn has_author(relay: &TestRelay, author: &Iri) -> bool {
    relay.store().ledger().expect("the store reads").author(author).expect("the store reads").is_some()
}

fn has_post(relay: &TestRelay, object: &str) -> bool {
    relay.store().indexed_number(&iri(object)).expect("the store reads").is_some()
}

fn refused(relay: &TestRelay, author: &Iri) -> Option<Refused> {
    relay.store().refused(author).expect("the store reads")
}

/// Each judges the Accept by its own rules and with code of its own: Akkoma and GoToSocial believe nobody but the actor
/// that they followed.
#[tokio::test(flavor = "multi_thread")]
async fn every_family_switches_search_on_in_its_own_way_and_is_sent_nothing_but_the_answer() {
    let relay = searching().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let mut servers = Vec::new();
    for family in Family::ALL {
        servers.push(switched_on(&relay, family, &format!("{family:?}")).await);
    }
    for one in &servers {
        let search = search_of(&relay, one).expect("search is on");
        let by = |actor: &Iri| actor.as_str() == one.actor(&As::Server);
        assert!(matches!(&search.by, SwitchedBy::Admin { actor, .. } if by(actor)), "{search:?}");
        // It is written down a moment after it has counted.
        assert!(one.wait_received(LONG, |all| all.iter().any(|one| one.kind == "Accept")).await);
        let accept = one.received().into_iter().find(|one| one.kind == "Accept").expect("an Accept");
        assert_eq!(accept.outcome, Outcome::Joined);
        assert_eq!((accept.signer, accept.actor), (Some(search_actor(&relay)), Some(search_actor(&relay))));
        assert!(relay.store().subscriber(&authority(one)).is_none(), "it did not join the relay");
    }
    assert!(relay.store().all::<Following>().expect("rows").is_empty(), "nobody is followed in return");
    let (all, post) = (servers.iter().collect::<Vec<_>>(), publish(&poster, "for members").await);
    let reader = relay.joined(Family::Misskey, "reader").await;
    let next = publish(&poster, "for members too").await;
    arrival(&reader, &next.id).await;
    for one in all {
        assert!(one.received().iter().all(|one| one.kind == "Accept"), "{}: {:#?}", post.id, one.received());
    }
    let followers = poster.fetch(&format!("{}/search/followers", relay.url())).await.expect("an answer");
    let followers = parse(&followers.body);
    assert_eq!(followers["totalItems"], Family::ALL.len());
    assert!(followers.get("orderedItems").is_none(), "no list unless the operator wants one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_switches_it_off_in_every_form_at_either_inbox() {
    let relay = searching().await;
    for (family, path) in [(Family::Mastodon, "/search/inbox"), (Family::Akkoma, "/inbox")] {
        for form in 0..3 {
            let one = switched_on(&relay, family, &format!("{family:?} {form}")).await;
            let (me, id) = (one.actor(&As::Server), one.follow_id().expect("a Follow"));
            let followed = if path == "/inbox" { search_actor(&relay) } else { PUBLIC.to_owned() };
            let object = match form {
                0 => json!(id),
                1 => json!({ "id": id, "type": "Follow", "actor": me, "object": followed }),
                _ => json!({ "type": "Follow", "actor": me, "object": followed }),
            };
            let late = activity(&one, &As::Server, "Undo", "late", json!(format!("{}/older", one.origin())));
            assert_eq!(send(&relay, &one, path, &As::Server, &late).await.status, 202);
            let anothers = activity(&one, &ada(), "Undo", "anothers", object.clone());
            assert_eq!(send(&relay, &one, path, &ada(), &anothers).await.status, 202);
            assert!(search_of(&relay, &one).is_some(), "an older Follow, or somebody else's word, ends nothing");
            let undo = activity(&one, &As::Server, "Undo", "undo", object);
            assert_eq!(send(&relay, &one, path, &As::Server, &undo).await.status, 202);
            assert!(search_of(&relay, &one).is_none(), "{family:?} in form {form}");
        }
    }
    let one = switched_on(&relay, Family::GoToSocial, "leaves").await;
    assert_eq!(one.leave().await.expect("an answer").status, 202);
    assert!(search_of(&relay, &one).is_none());
}

/// A server may be both, by one Follow each: an Undo ends the one that it names.
#[tokio::test(flavor = "multi_thread")]
async fn joining_the_relay_and_the_search_are_two_things() {
    let relay = searching().await;
    let both = relay.joined(Family::Mastodon, "both").await;
    let follow = activity(&both, &As::Server, "Follow", "search", json!(PUBLIC));
    assert_eq!(send(&relay, &both, "/search/inbox", &As::Server, &follow).await.status, 202);
    assert!(search_of(&relay, &both).is_some());
    let is_member = || relay.store().subscriber(&authority(&both)).is_some_and(|one| one.is_active());
    let by_id = |id: &str, of: &str| activity(&both, &As::Server, "Undo", id, json!(of));
    let undo = by_id("undo", follow["id"].as_str().expect("an id"));
    assert_eq!(send(&relay, &both, "/inbox", &As::Server, &undo).await.status, 202);
    assert!(search_of(&relay, &both).is_none() && is_member());
    assert_eq!(
        send(&relay, &both, "/search/inbox", &As::Server, &activity(&both, &As::Server, "Follow", "2", json!(PUBLIC)))
            .await
            .status,
        202
    );
    let undo = by_id("undo-2", &both.follow_id().expect("a Follow"));
    assert_eq!(send(&relay, &both, "/search/inbox", &As::Server, &undo).await.status, 202);
    assert!(search_of(&relay, &both).is_some() && !is_member());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_follows_the_search_actor_does_not_speak_for_their_server() {
    let relay = searching().await;
    let one = server(Family::Mastodon, "one").await;
    let follow = activity(&one, &ada(), "Follow", "follow", json!(search_actor(&relay)));
    for path in ["/inbox", "/search/inbox"] {
        assert_eq!(send(&relay, &one, path, &ada(), &follow).await.status, 202);
    }
    assert!(search_of(&relay, &one).is_none());
    assert!(relay.store().all::<ControlRow>().expect("rows").is_empty(), "and is not answered");
    assert!(relay.metric("shearwater_inbound_total{reason=\"personal-follow\",result=\"ignored\"}") >= 1.0);
}

/// A server may have several actors that speak for it. Each may say no, and none takes that from another.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_later_does_not_take_the_switch_from_who_turned_it() {
    let relay = searching().await;
    for who_leaves in [As::Server, ada()] {
        let one = switched_on(&relay, Family::Mastodon, "one").await;
        one.set_profile("ada", json!({ "type": "Application" }));
        let follow = activity(&one, &ada(), "Follow", "second", json!(PUBLIC));
        assert_eq!(send(&relay, &one, "/search/inbox", &ada(), &follow).await.status, 202);
        let row = search_of(&relay, &one).expect("on");
        let who: Vec<String> = row.follows().iter().map(|one| one.actor.to_string()).collect();
        assert_eq!(who, [one.actor(&As::Server), one.actor(&ada())], "the first one first");
        let grace = As::Author("grace".to_owned());
        let of = |who: &As| {
            if *who == As::Server {
                one.follow_id().expect("a Follow")
            } else {
                follow["id"].as_str().expect("an id").to_owned()
            }
        };
        let anothers = activity(&one, &grace, "Undo", "anothers", json!(of(&As::Server)));
        assert_eq!(send(&relay, &one, "/search/inbox", &grace, &anothers).await.status, 202);
        assert!(search_of(&relay, &one).is_some());
        let undo = activity(&one, &who_leaves, "Undo", "undo", json!(of(&who_leaves)));
        assert_eq!(send(&relay, &one, "/search/inbox", &who_leaves, &undo).await.status, 202);
        assert!(search_of(&relay, &one).is_none(), "{who_leaves:?} may say no");
        let rejected = |receipts: &[shearwater::demo::Receipt]| receipts.iter().any(|one| one.kind == "Reject");
        assert!(one.wait_received(LONG, rejected).await, "and the other one is told");
    }
}

/// Whoever has an old copy of a Follow changes nothing with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_follow_does_not_switch_it_on_again() {
    let relay = searching().await;
    let one = server(Family::Mastodon, "one").await;
    let follow = activity(&one, &As::Server, "Follow", "follow", json!(PUBLIC));
    // Signed in the same second by the same key: the very same signature.
    let date = Some(Clock::system().now());
    let url = Some(format!("{}/search/inbox", relay.url()));
    let tweaks = Tweaks { url, date, ..Tweaks::default() };
    let follow_now = async || one.send_raw(follow.to_string(), &As::Server, &tweaks).await.expect("an answer").status;
    assert_eq!(follow_now().await, 202);
    assert!(search_of(&relay, &one).is_some());
    let undo = activity(&one, &As::Server, "Undo", "undo", follow["id"].clone());
    assert_eq!(send(&relay, &one, "/search/inbox", &As::Server, &undo).await.status, 202);
    let relay = relay.restart().await;
    assert_eq!(follow_now().await, 202);
    assert!(search_of(&relay, &one).is_none(), "it is known");
    assert!(relay.metric("shearwater_inbound_total{reason=\"replay\",result=\"ignored\"}") >= 1.0);
}

/// An Undo may overtake its Follow, and ends nothing then. Of who is here it is remembered all the same, or whoever has a
/// copy of it could end with it what began later.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_found_nothing_to_end_ends_nothing_when_it_is_replayed() {
    let relay = searching().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let searched = switched_on(&relay, Family::Mastodon, "searched").await;
    let replays = || relay.metric("shearwater_inbound_total{reason=\"replay\",result=\"ignored\"}");
    for (number, (one, path)) in [(&member, "/inbox"), (&searched, "/search/inbox")].into_iter().enumerate() {
        let follow = activity(one, &As::Server, "Follow", "later", json!(PUBLIC));
        let undo = activity(one, &As::Server, "Undo", "early", follow["id"].clone());
        // Signed in the same second by the same key: the very same signature.
        let date = Some(Clock::system().now());
        let tweaks = Tweaks { url: Some(format!("{}{path}", relay.url())), date, ..Tweaks::default() };
        let undo_now = async || one.send_raw(undo.to_string(), &As::Server, &tweaks).await.expect("an answer").status;
        assert_eq!(undo_now().await, 202);
        assert_eq!(send(&relay, one, path, &As::Server, &follow).await.status, 202);
        assert_eq!(undo_now().await, 202);
        assert_eq!(replays(), number as f64 + 1.0, "{path}");
    }
    assert!(relay.store().subscriber(&authority(&member)).is_some_and(|one| one.is_active()), "it is a member still");
    assert!(search_of(&relay, &searched).is_some(), "and this one is searched still");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_welcome_is_told_why() {
    let listed = TestRelay::start_with(|config| {
        config.search.api = Access::Public;
        config.relay.admission = shearwater::config::Admission::Allowlist;
        config.relay.allowlist = vec!["good.example".to_owned()];
    })
    .await;
    let one = server(Family::Akkoma, "one").await;
    let answer = one.join_search(listed.url()).await.expect("an answer");
    assert_eq!((answer.status, parse(&answer.body)["check"].as_str()), (403, Some("admission")));
    eventually("the Reject", || one.is_rejected()).await;
    let reject = one.received().into_iter().find(|one| one.kind == "Reject").expect("a Reject");
    assert_eq!(reject.signer, Some(search_actor(&listed)));
    assert!(reject.body.contains("operator's list"), "{}", reject.body);
    assert!(search_of(&listed, &one).is_none());

    let relay = searching().await;
    let evil = switched_on(&relay, Family::Mastodon, "evil").await;
    let rule = Rule::new(
        authority(&evil).as_str().parse().expect("a target"),
        Severity::Block,
        Source::Operator,
        Timestamp::default(),
    );
    let rule = Rule { reason: "You sent spam.".to_owned(), ..rule };
    let impact = relay.relay().change_rules(vec![RuleChange::Put(rule)], &Act::local("a test")).await.expect("a rule");
    assert_eq!(impact.search_ended, [authority(&evil)]);
    assert!(search_of(&relay, &evil).is_none(), "it is off before the call returns");
    eventually("the Reject", || evil.is_rejected()).await;
    let answer = evil.join_search(relay.url()).await.expect("an answer");
    assert_eq!((answer.status, parse(&answer.body)["check"].as_str()), (403, Some("blocked")));
    relay
        .relay()
        .record_search(&authority(&evil), "they asked", &Act::local("a test"))
        .await
        .expect_err("it is blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_search_is_off_there_is_no_search_actor() {
    let relay = TestRelay::start().await;
    let one = server(Family::Mastodon, "one").await;
    let get = async |path: &str| one.fetch(&format!("{}{path}", relay.url())).await.expect("an answer");
    let host = relay.url().trim_start_matches("http://").to_owned();
    let handle = format!("/.well-known/webfinger?resource=acct:search@{host}");
    for path in ["/search/actor", "/search/outbox", "/search/followers", "/search/following", &handle] {
        assert_eq!(get(path).await.status, 404, "{path}");
    }
    let answer = one.join_search(relay.url()).await.expect("an answer");
    let problem = parse(&answer.body);
    assert_eq!((answer.status, problem["check"].as_str()), (404, Some("search-off")), "{problem}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    relay
        .relay()
        .record_search(&authority(&one), "they asked", &Act::local("a test"))
        .await
        .expect_err("there is no search");

    let relay = relay.restart_with(|config| config.search.api = Access::Public).await;
    let get = async |path: &str| one.fetch(&format!("{}{path}", relay.url())).await.expect("an answer");
    let actor = parse(&get("/search/actor").await.body);
    assert_eq!((&actor["id"], &actor["preferredUsername"]), (&search_actor(&relay).into(), &"search".into()));
    for resource in [format!("acct:search@{host}"), search_actor(&relay)] {
        let jrd = parse(&get(&format!("/.well-known/webfinger?resource={resource}")).await.body);
        assert_eq!(jrd["links"][0]["href"], search_actor(&relay), "{resource}");
    }
    for member in ["outbox", "followers", "following"] {
        let collection = parse(&get(&format!("/search/{member}")).await.body);
        assert_eq!((&collection["id"], &collection["totalItems"]), (&actor[member], &0.into()));
    }
}

fn admin(relay: &TestRelay, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shearwater"));
    let command = command.env("SHEARWATER_DATA_DIR", &relay.config.data_dir).arg("admin").args(args);
    let output = command.output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_writes_it_down_and_takes_it_back_whoever_switched_it_on() {
    let relay = searching().await;
    let follows = switched_on(&relay, Family::Misskey, "follows").await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let (host, other) = (authority(&member).to_string(), authority(&follows).to_string());
    let check = |args: &[&str], good: bool, says: &[&str]| {
        let (success, text) = admin(&relay, args);
        assert!(success == good && says.iter().all(|one| text.contains(one)), "{args:?}: {text}");
    };
    check(&["search", "on", &host], false, &["--reason"]);
    check(&["search", "on", &host, "--reason", " "], false, &["on whose word"]);
    check(&["search", "on", &host, "--reason", "ada@member asked, 3 May"], true, &["search: on"]);
    let row = search_of(&relay, &member).expect("on");
    assert_eq!((row.by, row.reason.as_str()), (SwitchedBy::Operator, "ada@member asked, 3 May"));
    check(&["search", "on", &other, "--reason", "me too"], false, &["switched search on already"]);
    check(&["search", "list"], true, &[&host, "operator", "3 May", &other, "admin", &follows.actor(&As::Server)]);
    let (_, listed) = admin(&relay, &["search", "list", "--json"]);
    assert_eq!(parse(listed.as_bytes()).as_array().map(Vec::len), Some(2));
    let (_, subscribers) = admin(&relay, &["subscribers", "--json"]);
    let subscribers = parse(subscribers.as_bytes());
    assert_eq!(subscribers[0]["search"], "operator");
    assert_eq!(subscribers[0]["search_since"], row.since.rfc3339());
    // The admin does it himself: it was on all the while, and is his to take back now.
    let follow = activity(&member, &As::Server, "Follow", "follow", json!(PUBLIC));
    assert_eq!(send(&relay, &member, "/search/inbox", &As::Server, &follow).await.status, 202);
    let again = search_of(&relay, &member).expect("on");
    assert!(matches!(again.by, SwitchedBy::Admin { .. }) && again.since == row.since, "{again:?}");
    for name in [&host, &other] {
        check(&["search", "off", name], true, &["search: off"]);
        check(&["search", "off", name], false, &["is not on for"]);
    }
    eventually("its admin is told", || follows.is_rejected()).await;
    assert!(relay.store().search_servers().is_empty());
    assert!(relay.store().subscriber(&authority(&member)).is_some(), "it is a member still");
    // And what is written down outlives a restart.
    check(&["search", "on", &host, "--reason", "again"], true, &[]);
    let relay = relay.restart().await;
    assert!(search_of(&relay, &member).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_for_the_search_alone_is_kept_and_delivered_to_nobody() {
    let relay = searching().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Akkoma, "reader").await);
    let one = switched_on(&relay, Family::Mastodon, "one").await;
    let post = publish(&one, "to be found").await;
    let private = one.post(PostSpec::public("not for you").visible_to(Visibility::Followers)).await.expect("an answer");
    assert_eq!(private.status(), 202);
    assert!(entries(&relay, &private.id).is_empty(), "the same checks hold");
    let kept = entries(&relay, &post.id);
    assert_eq!(kept.len(), 1);
    assert!(!kept[0].relayed && !kept[0].carried && parse(&kept[0].body)["object"]["id"] == post.id, "{kept:?}");
    let announced = format!("{}/announces/{}", relay.url(), kept[0].announce_hash());
    assert_eq!(reader.fetch(&announced).await.expect("an answer").status, 404, "it was never announced");
    assert!(one.edit(&post.id, "to be found still").await.is_ok());
    assert!(one.delete(&post.id).await.is_ok());
    let kept = entries(&relay, &post.id);
    assert_eq!(kept.iter().map(|one| one.kind).collect::<Vec<_>>(), [Kind::Create, Kind::Update, Kind::Delete]);
    assert!(kept.iter().all(|one| !one.relayed));
    assert!(kept[2].body.is_empty() && parse(&kept[1].body)["type"] == "Update");
    // Late copies of it stay out.
    let late = one.compose(&PostSpec::public("late"));
    let deleted = activity(&one, &ada(), "Delete", "delete", json!(late.id));
    assert_eq!(send(&relay, &one, "/search/inbox", &ada(), &deleted).await.status, 202);
    assert_eq!(one.send(&late).await.expect("an answer").status(), 202);
    assert!(entries(&relay, &late.id).is_empty());
    silence_about(&post.id, &poster, &[&reader]).await;
    assert!(relay.metric("shearwater_inbound_total{reason=\"for-search\",result=\"accepted\"}") >= 1.0);
}

/// GoToSocial's instance actor speaks for its people, LitePub's relay actor announces: either is read from its origin.
#[tokio::test(flavor = "multi_thread")]
async fn a_hint_for_the_search_is_read_and_delivered_to_nobody() {
    let relay = searching().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Misskey, "reader").await);
    let gts = switched_on(&relay, Family::GoToSocial, "gts").await;
    let post = publish(&gts, "heard of").await;
    let pleroma = switched_on(&relay, Family::Akkoma, "pleroma").await;
    let told = pleroma.compose(&PostSpec::public("announced"));
    assert_eq!(send(&relay, &pleroma, "/search/inbox", &As::Server, &told.activity).await.status, 202);
    for id in [&post.id, &told.id] {
        let created = || entries(&relay, id).into_iter().find(|one| one.kind == Kind::Create);
        eventually("it is read", || created().is_some()).await;
        let created = created().expect("a post");
        assert!(!created.relayed && parse(&created.body)["id"] == id.as_str(), "{created:?}");
        silence_about(id, &poster, &[&reader]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pasted_both_addresses_is_relayed_once_whichever_comes_first() {
    let relay = searching().await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let both = relay.joined(Family::Mastodon, "both").await;
    let follow = activity(&both, &As::Server, "Follow", "search", json!(PUBLIC));
    assert_eq!(send(&relay, &both, "/search/inbox", &As::Server, &follow).await.status, 202);
    for paths in [["/inbox", "/search/inbox"], ["/search/inbox", "/inbox"]] {
        let composed = both.compose(&PostSpec::public("twice"));
        for path in paths {
            assert_eq!(send(&relay, &both, path, &composed.signer, &composed.activity).await.status, 202);
        }
        arrival(&reader, &composed.id).await;
        let kept = entries(&relay, &composed.id);
        assert_eq!(kept.iter().map(|one| one.relayed).collect::<Vec<_>>(), [true], "{paths:?}");
        assert!(!kept[0].body.is_empty(), "the search reads it from there");
        let deletion = both.compose_deletion(&composed.id).expect("its own");
        for path in paths {
            assert_eq!(send(&relay, &both, path, &deletion.signer, &deletion.activity).await.status, 202);
        }
        assert_eq!(entries(&relay, &composed.id).len(), 2, "and deleted once");
    }
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"comes-by-the-relay\",result=\"ignored\"}"), 2.0);
    // It gave its posts to the search first, and joins the relay then: they are relayed.
    let late = switched_on(&relay, Family::Mastodon, "late").await;
    let composed = late.compose(&PostSpec::public("now for all"));
    assert_eq!(late.send(&composed).await.expect("an answer").status(), 202);
    late.join(relay.url()).await.expect("an answer");
    assert!(late.wait_accepted(LONG).await);
    assert_eq!(late.send(&composed).await.expect("an answer").status(), 202);
    arrival(&reader, &composed.id).await;
    assert_eq!(entries(&relay, &composed.id).iter().map(|one| one.relayed).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_any_of_our_actors_takes_its_author_out_at_once() {
    let relay = searching_after_the_sweep().await;
    for (number, object) in [format!("{}/actor", relay.url()), search_actor(&relay)].iter().enumerate() {
        // A stranger: its server is neither a member nor switched on any longer.
        let one = server(Family::Mastodon, &format!("one {number}")).await;
        let post = one.compose(&PostSpec::public("found"));
        let author = indexed(&relay, &one, &[&post.id]).await;
        let block = activity(&one, &As::Server, "Block", "block-by-server", json!(object));
        assert_eq!(send(&relay, &one, "/inbox", &As::Server, &block).await.status, 202);
        assert!(has_author(&relay, &author), "an instance actor blocks for itself alone");
        let block = activity(&one, &ada(), "Block", "block", json!(object));
        assert_eq!(send(&relay, &one, "/inbox", &ada(), &block).await.status, 202);
        assert!(!has_author(&relay, &author), "out before the answer");
        let no = refused(&relay, &author).expect("remembered");
        assert!(no.lasts() && no.words() == ["blocked-us"], "{no:?}");
        let mut embedded = block.clone();
        embedded.as_object_mut().expect("an object").remove("@context");
        let undo = activity(&one, &ada(), "Undo", "unblock", embedded);
        assert_eq!(send(&relay, &one, "/search/inbox", &ada(), &undo).await.status, 202);
        assert_eq!(refused(&relay, &author), None);
        assert!(!has_author(&relay, &author), "what was found before is not found again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_author_deletes_is_out_at_once_whoever_knows_them() {
    let relay = searching_after_the_sweep().await;
    let one = server(Family::Mastodon, "one").await;
    let posts: Vec<_> = (0..3).map(|number| one.compose(&PostSpec::public(&format!("found {number}")))).collect();
    let ids: Vec<&str> = posts.iter().map(|post| post.id.as_str()).collect();
    let author = indexed(&relay, &one, &ids).await;
    let grace = As::Author("grace".to_owned());
    let anothers = activity(&one, &grace, "Delete", "forged", json!(ids[0]));
    assert_eq!(send(&relay, &one, "/inbox", &grace, &anothers).await.status, 202);
    assert!(has_post(&relay, ids[0]), "only its author");
    let delete = activity(&one, &ada(), "Delete", "delete", json!(ids[0]));
    assert_eq!(send(&relay, &one, "/inbox", &ada(), &delete).await.status, 202);
    assert!(!has_post(&relay, ids[0]) && has_post(&relay, ids[1]));
    assert_eq!(
        entries(&relay, ids[0]).iter().map(|one| (one.kind, one.relayed)).collect::<Vec<_>>(),
        [(Kind::Delete, false)]
    );
    // An edit for fewer eyes is a deletion.
    let mut quiet = posts[1].activity.clone();
    (quiet["type"], quiet["id"]) = ("Update".into(), format!("{}/quiet", one.origin()).into());
    (quiet["object"]["to"], quiet["object"]["cc"]) = (json!([]), json!([PUBLIC]));
    assert_eq!(send(&relay, &one, "/inbox", &ada(), &quiet).await.status, 202);
    assert!(!has_post(&relay, ids[1]) && has_author(&relay, &author));
    // The whole account. Nobody here ever read this actor but the ledger.
    let gone = activity(&one, &ada(), "Delete", "gone", json!(author));
    assert_eq!(send(&relay, &one, "/inbox", &ada(), &gone).await.status, 202);
    assert!(!has_author(&relay, &author));
    assert_eq!(refused(&relay, &author).expect("remembered").words(), ["deleted"]);
}

/// GoToSocial's instance actor says that a post is gone, and its origin agrees.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_origin_no_longer_has_is_out() {
    let relay = searching().await;
    let one = switched_on(&relay, Family::GoToSocial, "one").await;
    let (kept, gone) = (publish(&one, "stays").await, one.compose(&PostSpec::public("goes")));
    eventually("it is read", || entries(&relay, &kept.id).iter().any(|one| one.kind == Kind::Create)).await;
    indexed(&relay, &one, &[&kept.id, &gone.id]).await;
    let hint = activity(&one, &ada(), "Delete", "hint", json!(kept.id));
    assert_eq!(send(&relay, &one, "/search/inbox", &As::Server, &hint).await.status, 202);
    let _deleted = one.compose_deletion(&gone.id);
    let hint = activity(&one, &ada(), "Delete", "hint-2", json!(gone.id));
    assert_eq!(send(&relay, &one, "/search/inbox", &As::Server, &hint).await.status, 202);
    eventually("it is out", || !has_post(&relay, &gone.id)).await;
    // That it is gone was not true: it comes back when it was read.
    let again = || entries(&relay, &kept.id).iter().any(|one| one.kind == Kind::Update && !one.relayed);
    eventually("and the search looks again at what it says", again).await;
    eventually("it is back", || has_post(&relay, &kept.id)).await;
}

/// Some servers answer so for what is gone, others for what they show to few.
#[tokio::test(flavor = "multi_thread")]
async fn what_its_origin_does_not_show_any_longer_is_out() {
    let relay = searching().await;
    let one = switched_on(&relay, Family::GoToSocial, "one").await;
    // Whose word takes it out at once until it was read, and a neighbour's, by which it is only read.
    let tell = [(401, As::Server), (403, As::Server), (403, As::Author("grace".to_owned()))];
    for (number, (status, who)) in tell.into_iter().enumerate() {
        let post = one.compose(&PostSpec::public("found"));
        let author = indexed(&relay, &one, &[&post.id]).await;
        // Her key is to be known before its server shows nothing any more.
        let like = activity(&one, &who, "Like", &format!("like-{number}"), json!(post.id));
        assert_eq!(send(&relay, &one, "/search/inbox", &who, &like).await.status, 202);
        one.set_fault_at(Where::Documents, Fault::Status(status));
        let hint = activity(&one, &ada(), "Delete", &format!("hint-{number}"), json!(post.id));
        assert_eq!(send(&relay, &one, "/search/inbox", &who, &hint).await.status, 202);
        eventually("it is out", || !has_post(&relay, &post.id)).await;
        assert!(has_author(&relay, &author), "the post alone");
        one.set_fault_at(Where::Documents, Fault::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_profile_reaches_the_search_and_one_that_says_no_counts_at_once() {
    let relay = searching_after_the_sweep().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let follow = activity(&member, &As::Server, "Follow", "search", json!(PUBLIC));
    assert_eq!(send(&relay, &member, "/search/inbox", &As::Server, &follow).await.status, 202);
    let author = member.actor(&ada());
    let profile = |id: &str, indexable: Value| {
        activity(&member, &ada(), "Update", id, json!({ "id": author, "type": "Person", "indexable": indexable }))
    };
    assert_eq!(send(&relay, &member, "/inbox", &ada(), &profile("early", json!(true))).await.status, 202);
    assert!(entries(&relay, &author).is_empty(), "nobody has anything of hers");
    let actor = indexed(&relay, &member, &[]).await;
    assert_eq!(send(&relay, &member, "/inbox", &ada(), &profile("yes", json!(true))).await.status, 202);
    let kept = entries(&relay, &author);
    assert!(matches!(&kept[..], [one] if one.kind == Kind::Update && !one.relayed && one.body.is_empty()), "{kept:?}");
    assert!(has_author(&relay, &actor));
    assert_eq!(send(&relay, &member, "/inbox", &ada(), &profile("no", json!(false))).await.status, 202);
    assert!(!has_author(&relay, &actor));
    let no = refused(&relay, &actor).expect("remembered");
    assert!(!no.lasts() && no.words() == ["not-indexable"], "{no:?}");
    // At any server, member or not.
    let one = server(Family::Misskey, "one").await;
    let actor = indexed(&relay, &one, &[]).await;
    let object = json!({ "id": actor, "type": "Person", "suspended": true, "indexable": true });
    let suspended = activity(&one, &ada(), "Update", "suspended", object);
    assert_eq!(send(&relay, &one, "/inbox", &ada(), &suspended).await.status, 202);
    assert!(!has_author(&relay, &actor) && refused(&relay, &actor).is_some_and(|no| no.words() == ["suspended"]));
}

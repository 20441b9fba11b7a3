//! Edits: what a post said before is found no longer than its author lets it, whatever becomes of the new version; and a
//! no that crosses a yes on its way wins.

use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::Clock;
use shearwater::config::{Access, Config};
use shearwater::demo::{As, Family, Fault, Instance, Options, PostSpec, Tweaks, Where};
use shearwater::ids::Iri;
use shearwater::search::authors::AuthorToRead;
use shearwater::store::{HeldKind, HeldPost, Hold, MAX_HELD_PER_SERVER};

use crate::searching::{eventually, found, gathered, held, member, searching, switch_on, tell_profile};
use crate::support::{LONG, TestRelay, authority, publish};

const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";

fn ada() -> As {
    As::Author("ada".to_owned())
}

/// An edit of this post, sealed by nobody.
fn edit_of(instance: &Instance, post: &str, text: &str) -> Value {
    let composed = instance.compose_edit(post, text).expect("it is there");
    let mut activity = composed.activity;
    activity.as_object_mut().expect("an object").remove("signature");
    activity
}

async fn send(instance: &Instance, who: &As, activity: &Value) {
    let sent = instance.send_raw(activity.to_string(), who, &Tweaks::default()).await.expect("an answer");
    assert_eq!(sent.status, 202, "{}", sent.text());
}

fn refuse(instance: &Instance) {
    instance.set_fault_at(Where::Documents, Fault::Status(503));
}

/// Her profile has to be read anew, which cannot be done. Her key is known: a second change forgets none.
async fn unread(relay: &TestRelay, yes: &Instance) {
    let before = gathered(relay, "author-read");
    tell_profile(yes, "ada").await;
    eventually(relay, "she is read", || gathered(relay, "author-read") > before && !waits(relay)).await;
    refuse(yes);
    tell_profile(yes, "ada").await;
    eventually(relay, "she is to be read", || waits(relay)).await;
}

/// Has her profile read now.
async fn check(relay: &TestRelay, yes: &Instance) {
    let tweaks = Tweaks { url: Some(format!("{}/api/v1/search/check", relay.url())), ..Tweaks::default() };
    let ask = json!({ "actor": yes.actor(&ada()) }).to_string();
    assert_eq!(yes.send_raw(ask, &As::Server, &tweaks).await.expect("an answer").status, 200);
}

fn waits(relay: &TestRelay) -> bool {
    !relay.store().all::<AuthorToRead>().expect("the store reads").is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_not_taken_takes_the_old_version_out() {
    let relay = TestRelay::start_with(|config| {
        (config.search.api, config.search.rate) = (Access::Public, 0);
        config.policy.keywords = vec!["albatross".to_owned()];
    })
    .await;
    let yes = member(&relay, "yes").await;
    let many =
        |name: &str| (0..200).map(|n| json!({ "type": "Hashtag", "name": format!("#{name}{n}") })).collect::<Vec<_>>();
    let cases = ["long", "keyword", "asked", "tags", "kind", "author", "held", "bare", "unread"];
    for case in cases {
        let post = publish(&yes, &format!("a razorbill, {case}")).await;
        eventually(&relay, case, || found(&relay, &format!("razorbill {case}")) == [post.id.clone()]).await;
        let mut edit = edit_of(&yes, &post.id, "an edit");
        let mut who = ada();
        match case {
            "long" => edit["object"]["content"] = "very long ".repeat(4000).into(),
            "keyword" => edit["object"]["content"] = "an albatross".into(),
            "bare" => {
                edit["object"] = json!(post.id);
                refuse(&yes);
            }
            "tags" => edit["object"]["tag"] = many("tag").into(),
            "kind" => edit["object"]["type"] = "Offer".into(),
            "author" => edit["object"]["attributedTo"] = yes.actor(&As::Author("grace".to_owned())).into(),
            "unread" => unread(&relay, &yes).await,
            // The instance actor says that it changed, and its origin shows what we would not take.
            "asked" => {
                let _shown = yes.compose_edit(&post.id, "an albatross");
                (edit["object"], who) = (json!(post.id), As::Server);
            }
            _ => {
                let hold = Hold {
                    since: relay.server.app().state.clock.now(),
                    reason: "wave".to_owned(),
                    by: "test".to_owned(),
                };
                let server = authority(&yes);
                relay.store().write(move |tx| tx.put(server.as_str(), &hold)).await.expect("written");
            }
        }
        let sent = yes.send_raw(edit.to_string(), &who, &Tweaks::default()).await.expect("an answer");
        assert_eq!(sent.status, 202, "{case}: {}", sent.text());
        if case == "asked" {
            eventually(&relay, case, || found(&relay, &format!("razorbill {case}")).is_empty()).await;
        }
        assert!(found(&relay, &format!("razorbill {case}")).is_empty(), "{case}: from the moment of the answer");
        let server = authority(&yes);
        relay.store().write(move |tx| tx.remove::<Hold>(server.as_str())).await.expect("written");
        yes.set_fault_at(Where::Documents, Fault::None);
    }
    check(&relay, &yes).await;
    eventually(&relay, "the edit whose author was not read is found by its new words", || {
        !found(&relay, "edit").is_empty()
    })
    .await;
    // Until the index has followed, a new version may be found by an old word; the old one is shown to nobody.
    eventually(&relay, "by no old word", || found(&relay, "razorbill").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_author_takes_an_old_version_out() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "a dunlin").await;
    eventually(&relay, "it is found", || found(&relay, "dunlin") == [post.id.clone()]).await;
    let grace = As::Author("grace".to_owned());
    let mut forged = edit_of(&yes, &post.id, "hers");
    (forged["actor"], forged["object"]["attributedTo"]) = (yes.actor(&grace).into(), yes.actor(&grace).into());
    send(&yes, &grace, &forged).await;
    assert_eq!(found(&relay, "dunlin"), [post.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_says_no_is_not_undone_by_the_version_that_waited() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let first = publish(&yes, "a first one").await;
    eventually(&relay, "she is known", || found(&relay, "first") == [first.id.clone()]).await;
    unread(&relay, &yes).await;
    let post = publish(&yes, "a whimbrel").await;
    eventually(&relay, "it waits", || gathered(&relay, "author-unread") >= 3).await;
    let mut edit = edit_of(&yes, &post.id, "a whimbrel, privately");
    edit["object"]["tag"] = json!([{ "type": "Hashtag", "name": "#nosearch" }]);
    send(&yes, &ada(), &edit).await;
    yes.set_fault_at(Where::Documents, Fault::None);
    check(&relay, &yes).await;
    eventually(&relay, "the version that waited was looked at", || gathered(&relay, "edited-since") == 1).await;
    assert!(found(&relay, "whimbrel").is_empty());
    assert_eq!(gathered(&relay, "post-tag"), 1);
}

/// The reading that is under way may show what the profile said before.
#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_remembered_of_somebody_of_whom_nothing_is_held_yet() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    yes.set_profile("ada", json!({ "indexable": false }));
    tell_profile(&yes, "ada").await;
    let ada = Iri::parse(&yes.actor(&ada())).expect("an id");
    let no = relay.store().refused(&ada).expect("the store reads").expect("remembered");
    assert_eq!((no.words(), held(&relay)), (vec!["not-indexable"], (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_says_no_in_any_way_counts_at_once() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let whole = |more: &Value| {
        let mut said = json!({ "id": yes.actor(&ada()), "type": "Person", "inbox": format!("{}/inbox", yes.actor(&ada())),
            "indexable": true });
        for (key, value) in more.as_object().expect("an object") {
            said[key] = value.clone();
        }
        said
    };
    let ways = [
        json!({ "summary": "<p>#nosearch please</p>" }),
        json!({ "searchableBy": [] }),
        json!({ "noindex": true }),
        json!({ "indexable": null }),
        json!({ "memorial": true }),
    ];
    for (number, way) in ways.iter().enumerate() {
        yes.set_profile("ada", json!({ "indexable": true }));
        tell_profile(&yes, "ada").await;
        // What is dated to the second of the yes may be from before it.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let post = publish(&yes, "a turnstone").await;
        eventually(&relay, "it is found", || found(&relay, "turnstone") == [post.id.clone()]).await;
        refuse(&yes);
        let no = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/no/{number}", yes.origin()),
            "type": "Update", "actor": yes.actor(&ada()), "to": [PUBLIC], "object": whole(way) });
        send(&yes, &ada(), &no).await;
        assert!(found(&relay, "turnstone").is_empty(), "{way}");
        yes.set_fault_at(Where::Documents, Fault::None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_switches_search_off_and_on_again_starts_anew() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "a knot").await;
    eventually(&relay, "it is found", || found(&relay, "knot") == [post.id.clone()]).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let server = authority(&yes);
    relay.store().write(move |tx| tx.switch_search(&server, None)).await.expect("written");
    switch_on(&relay, &yes).await;
    assert!(found(&relay, "knot").is_empty(), "what its admin said yes to before is over");
    eventually(&relay, "nothing is left", || held(&relay) == (0, 0)).await;
    let again = publish(&yes, "a knot again").await;
    eventually(&relay, "what comes now is found", || found(&relay, "knot") == [again.id.clone()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_keeps_its_place_and_nobody_finds_it_by_counting() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "a curlew").await;
    let id = Iri::parse(&post.id).expect("an id");
    let number = || relay.store().indexed_number(&id).expect("the store reads");
    eventually(&relay, "it is found", || found(&relay, "curlew") == [post.id.clone()]).await;
    let before = number().expect("held");
    let _posted = yes.edit(&post.id, "a stilt").await.expect("an answer");
    eventually(&relay, "by its new words", || found(&relay, "stilt") == [post.id.clone()]).await;
    assert_eq!(number(), Some(before));
}

/// A server that gives its posts to the search, by its admin's own act, and to nobody else.
async fn searched_only(relay: &TestRelay) -> Instance {
    let options = Options { name: "yes".to_owned(), ..Options::default() };
    let instance = Instance::start(Family::Mastodon, options).await.expect("an instance");
    assert_eq!(instance.join_search(relay.url()).await.expect("an answer").status, 202);
    assert!(instance.wait_accepted(LONG).await);
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_by_the_actor_that_switched_search_on_switches_it_off() {
    let relay = searching().await;
    let one = searched_only(&relay).await;
    let post = publish(&one, "an avocet").await;
    eventually(&relay, "it is found", || found(&relay, "avocet") == [post.id.clone()]).await;
    let block = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/block", one.origin()),
        "type": "Block", "actor": one.actor(&As::Server), "object": format!("{}/search/actor", relay.url()) });
    send(&one, &As::Server, &block).await;
    assert!(relay.store().search_servers().is_empty() && found(&relay, "avocet").is_empty());
    eventually(&relay, "nothing is left", || held(&relay) == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_actor_that_switched_search_on_its_word_is_gone() {
    let relay = searching().await;
    let one = searched_only(&relay).await;
    let post = publish(&one, "a whinchat").await;
    eventually(&relay, "it is found", || found(&relay, "whinchat") == [post.id.clone()]).await;
    let server = one.actor(&As::Server);
    let delete = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{server}#delete"),
        "type": "Delete", "actor": server, "to": [PUBLIC], "object": server });
    send(&one, &As::Server, &delete).await;
    assert!(relay.store().search_servers().is_empty() && found(&relay, "whinchat").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_search_was_switched_off_a_no_is_heard_all_the_same() {
    let relay = searching().await;
    let yes = searched_only(&relay).await;
    for author in ["ada", "grace"] {
        yes.set_profile(author, json!({ "indexable": true }));
        assert_eq!(yes.post(PostSpec::public("a plover").by(author)).await.expect("an answer").status(), 202);
    }
    eventually(&relay, "both are found", || found(&relay, "plover").len() == 2).await;
    let relay = relay.restart_with(|config| config.search.api = Access::Off).await;
    let to_search = |id: &str, kind: &str, who: &As, object: Value| {
        let body = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/{id}", yes.origin()),
            "type": kind, "actor": yes.actor(who), "object": object });
        let tweaks = Tweaks { url: Some(format!("{}/search/inbox", relay.url())), ..Tweaks::default() };
        let (yes, who) = (&yes, who.clone());
        async move { yes.send_raw(body.to_string(), &who, &tweaks).await.expect("an answer").status }
    };
    let ours = json!(format!("{}/search/actor", relay.url()));
    assert_eq!(to_search("follow", "Follow", &As::Server, ours.clone()).await, 404);
    assert_eq!(to_search("block", "Block", &ada(), ours.clone()).await, 202);
    assert_eq!(held(&relay).1, 1, "who blocks us is out");
    let follow = yes.follow_id().expect("it followed");
    assert_eq!(to_search("undo", "Undo", &As::Server, json!(follow)).await, 202);
    eventually(&relay, "its admin's no is heard, too", || held(&relay) == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_searches_any_more_is_not_kept() {
    for (ago, left) in [(Duration::from_secs(2 * 3600), (1, 1)), (Duration::from_secs(30 * 3600), (0, 0))] {
        let clock = Clock::manual(Clock::system().now().minus(ago));
        let change = |config: &mut Config| (config.search.api, config.search.rate) = (Access::Public, 0);
        let relay = TestRelay::start_at(clock.clone(), change).await;
        let options = Options { name: "yes".to_owned(), clock, ..Options::default() };
        let yes = relay.joined_with(Family::Mastodon, options).await;
        switch_on(&relay, &yes).await;
        let post = publish(&yes, "a sanderling").await;
        eventually(&relay, "it is found", || found(&relay, "sanderling") == [post.id.clone()]).await;
        // It starts at the time of today.
        let relay = relay.restart_with(|config| config.search.api = Access::Off).await;
        eventually(&relay, "after a day nothing is left, and before it all: it may be a slip", || held(&relay) == left)
            .await;
        // It is looked at every second.
        for _ in 0..200 {
            assert_eq!(held(&relay), left);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// An operator is sent more to look at than there is room for, and an edit is to wait behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_for_which_there_is_no_room_to_wait_takes_the_old_version_out() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "a pochard").await;
    eventually(&relay, "it is found", || found(&relay, "pochard") == [post.id.clone()]).await;
    let (server, now) = (authority(&yes), relay.server.app().state.clock.now());
    let eve = Iri::parse(&yes.actor(&As::Author("grace".to_owned()))).expect("an id");
    let fill = move |tx: &mut shearwater::store::Tx<'_>| {
        tx.put(server.as_str(), &Hold { since: now, reason: "wave".to_owned(), by: "test".to_owned() })?;
        (0..MAX_HELD_PER_SERVER).try_for_each(|number| {
            tx.hold(HeldPost {
                at: now,
                kind: HeldKind::Create,
                object: Iri::parse(&format!("{eve}/{number}")).expect("an id"),
                actor: eve.clone(),
                activity: String::new(),
                supplier: server.clone(),
                carried: false,
                published: None,
                body: String::new(),
                reason: "wave".to_owned(),
                text: String::new(),
                for_search: false,
            })
        })
    };
    relay.store().write(fill).await.expect("written");
    let edit = edit_of(&yes, &post.id, "without her address");
    let sent = yes.send_raw(edit.to_string(), &ada(), &Tweaks::default()).await.expect("an answer");
    assert_eq!(sent.status, 429, "{}", sent.text());
    assert!(found(&relay, "pochard").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_not_released_in_a_version_that_its_author_took_back() {
    let relay = TestRelay::start_with(|config| {
        (config.search.api, config.search.rate) = (Access::Public, 0);
        config.policy.keywords = vec!["albatross".to_owned()];
    })
    .await;
    let yes = member(&relay, "yes").await;
    let (server, now) = (authority(&yes), relay.server.app().state.clock.now());
    let hold = Hold { since: now, reason: "wave".to_owned(), by: "test".to_owned() };
    let key = server.clone();
    relay.store().write(move |tx| tx.put(key.as_str(), &hold)).await.expect("written");
    let post = publish(&yes, "a gadwall").await;
    let held = || relay.store().held_of(&server).expect("the store reads");
    assert!(matches!(&held()[..], [one] if one.kind == HeldKind::Create));
    let edit = edit_of(&yes, &post.id, "an albatross");
    send(&yes, &ada(), &edit).await;
    assert!(matches!(&held()[..], [one] if one.kind == HeldKind::Hint && one.body.is_empty()), "{:?}", held());
}

/// What is too old to be relayed may still be found, and its edits be heard: GoToSocial sends them by its instance actor.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_an_old_post_that_comes_as_a_hint_is_taken() {
    let change = |config: &mut Config| {
        (config.search.api, config.search.rate) = (Access::Public, 0);
        config.relay.max_age = Duration::from_secs(2);
    };
    let relay = TestRelay::start_with(change).await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "a wigeon").await;
    eventually(&relay, "it is found", || found(&relay, "wigeon") == [post.id.clone()]).await;
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let mut edit = edit_of(&yes, &post.id, "a garganey");
    edit["object"] = json!(post.id);
    send(&yes, &As::Server, &edit).await;
    eventually(&relay, "it is found by its new words", || found(&relay, "garganey") == [post.id.clone()]).await;
    assert!(found(&relay, "wigeon").is_empty());
}

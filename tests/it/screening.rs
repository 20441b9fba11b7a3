//! What gives reason to is held for the operator: taken and kept, shown, and relayed or dropped by one command. Nothing
//! that is held reaches anybody, and nothing that is released does so twice.

use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::{Clock, Timestamp};
use shearwater::demo::{As, Author, Family, Instance, Options, PostSpec, Posted, Tweaks};
use shearwater::relay::held::{HeldServer, HeldTarget, Released};
use shearwater::relay::resolver::WaitingHint;
use shearwater::store::{Act, Arrivals, HeldKind, HeldPost, HeldTally, Hold, MAX_HELD_PER_SERVER};

use crate::support::{TestRelay, arrival, authority, eventually, publish, receipts_of, silence_about};

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Timestamp {
    Clock::system().now()
}

/// More hashtags than `policy.max_hashtags`: held, whoever says it.
fn shouting(text: &str) -> PostSpec {
    let tags: Vec<String> = (0..31).map(|number| format!("tag{number}")).collect();
    PostSpec { tags, ..PostSpec::public(text) }
}

async fn taken(instance: &Instance, spec: PostSpec) -> Posted {
    let posted = instance.post(spec).await.expect("the relay answers");
    assert_eq!(posted.status(), 202, "{posted:?}");
    posted
}

fn server(instance: &Instance) -> HeldTarget {
    HeldTarget::Server(authority(instance))
}

fn held(relay: &TestRelay, instance: &Instance) -> Vec<HeldPost> {
    relay.store().held_of(&authority(instance)).expect("the store reads")
}

fn servers(relay: &TestRelay) -> Vec<HeldServer> {
    relay.relay().held_servers().expect("the store reads")
}

fn decisions(relay: &TestRelay, reason: &str, mode: &str) -> f64 {
    relay.metric(&format!("shearwater_policy_decisions_total{{mode=\"{mode}\",reason=\"{reason}\"}}"))
}

/// As if the relay had known the server for two days.
async fn settle(relay: &TestRelay, instance: &Instance) {
    let known = Arrivals::new(now().minus(2 * DAY));
    let key = authority(instance).to_string();
    relay.store().write(move |tx| tx.put(&key, &known)).await.expect("written");
}

/// A poster of a server with several people that is known already, and a reader.
async fn crowd(relay: &TestRelay, name: &str, people: usize) -> Instance {
    let authors = (0..people).map(|number| Author::named(&format!("p{number}"))).collect();
    let options = Options { name: name.to_owned(), authors, ..Options::default() };
    let instance = relay.joined_with(Family::Mastodon, options).await;
    settle(relay, &instance).await;
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_post_survives_a_restart_is_listed_and_goes_on_once_when_it_is_released() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let composed = poster.compose(&shouting("look at me"));
    assert_eq!(poster.send(&composed).await.expect("an answer").status(), 202);
    silence_about(&composed.id, &poster, &[&reader]).await;
    assert_eq!((decisions(&relay, "hashtags", "hold"), relay.metric("shearwater_held_posts ")), (1.0, 1.0));

    let relay = relay.restart().await;
    let listed = servers(&relay);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].reason.as_str(), listed[0].posts, listed[0].held), ("hashtags", 1, false));
    let mut posts = held(&relay, &poster);
    assert_eq!((posts[0].object.as_str(), posts[0].text.starts_with("look at me")), (composed.id.as_str(), true));
    eventually("the gauge is right again", || relay.metric("shearwater_held_posts ") == 1.0).await;

    let released = relay.relay().release(&server(&poster), &Act::local("a test")).await.expect("released");
    assert_eq!(released, Released { released: 1, dropped: 0, hold_ended: false });
    assert_eq!(arrival(&reader, &composed.id).await[0].kind, "Create", "as its author signed it");
    assert!(relay.relay().release(&server(&poster), &Act::local("a test")).await.is_err(), "there is nothing left");
    assert!(relay.metric("shearwater_held_posts ").abs() < f64::EPSILON);
    // Were it held a second time, that would change nothing.
    let row = posts.remove(0);
    relay.store().write(move |tx| tx.hold(row)).await.expect("written");
    let again = relay.relay().release(&server(&poster), &Act::local("a test")).await.expect("released");
    assert_eq!((again.released, again.dropped), (0, 1));
    // Whoever brings it again, under whatever name: it is known.
    let mut again = composed.activity.clone();
    again["id"] = format!("{}/again", composed.activity_id).into();
    poster.send_raw(again.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
    let marker = publish(&poster, "a marker").await;
    arrival(&reader, &marker.id).await;
    assert_eq!(receipts_of(&reader, &composed.id).len(), 1);
    assert!(servers(&relay).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_reaches_a_held_post_and_an_edit_changes_it() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let (gone, edited) = (taken(&poster, shouting("regretted")).await, taken(&poster, shouting("misspelt")).await);
    poster.delete(&gone.id).await.expect("an answer");
    poster.edit(&edited.id, "misspelt").await.expect("an answer");
    let posts = held(&relay, &poster);
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert!(posts[0].text.starts_with("misspelt"), "{}", posts[0].text);
    relay.relay().release(&server(&poster), &Act::local("a test")).await.expect("released");
    // The bytes of the Create say what its author no longer does, so readers are sent to the origin.
    assert_eq!(arrival(&reader, &edited.id).await[0].kind, "Announce");
    eventually("the reader read it there", || reader.shown().iter().any(|one| one.id == edited.id)).await;
    silence_about(&gone.id, &poster, &[&reader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_author_deletes_or_edits_a_held_post() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let post = taken(&poster, shouting("ada's own").by("ada")).await;
    let (grace, public) = (As::Author("grace".to_owned()), "https://www.w3.org/ns/activitystreams#Public");
    for (kind, object) in [
        ("Delete", json!({ "id": post.id, "type": "Tombstone" })),
        ("Update", json!({ "id": post.id, "type": "Note", "content": "grace was here", "to": [public] })),
    ] {
        let activity = json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/{kind}/9", poster.origin()),
            "type": kind, "actor": poster.actor(&grace), "object": object, "to": [public],
        });
        let sent = poster.send_raw(activity.to_string(), &grace, &Tweaks::default()).await.expect("an answer");
        assert_eq!(sent.status, 202);
    }
    let posts = held(&relay, &poster);
    assert!(posts.len() == 1 && posts[0].text.starts_with("ada's own"), "{posts:?}");
}

/// Somebody's whole account is deleted: what waits of it goes too, and nothing of anybody else.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_account_its_held_posts_are_deleted() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    taken(&poster, shouting("ada's").by("ada")).await;
    taken(&poster, shouting("grace's").by("grace")).await;
    let (ada, public) = (As::Author("ada".to_owned()), "https://www.w3.org/ns/activitystreams#Public");
    let activity = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}#delete", poster.actor(&ada)),
        "type": "Delete", "actor": poster.actor(&ada), "object": poster.actor(&ada), "to": [public],
    });
    assert_eq!(poster.send_raw(activity.to_string(), &ada, &Tweaks::default()).await.expect("an answer").status, 202);
    let posts = held(&relay, &poster);
    assert!(posts.len() == 1 && posts[0].text.starts_with("grace's"), "{posts:?}");
}

/// The server's own actor says that a post is gone, and does not prove it: the post is read before anybody hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_post_that_may_be_gone_is_read_again_when_it_is_released() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let post = taken(&poster, shouting("ada's").by("ada")).await;
    let activity = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/delete/9", poster.origin()),
        "type": "Delete", "actor": poster.actor(&As::Author("ada".to_owned())), "object": post.id,
    });
    poster.send_raw(activity.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
    let posts = held(&relay, &poster);
    assert_eq!((posts[0].kind, posts[0].body.as_str(), posts[0].carried), (HeldKind::Hint, "", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_server_is_held_nobody_hears_of_its_changed_profiles() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    taken(&poster, PostSpec::public("hello").by("ada")).await;
    let (ada, head) = (As::Author("ada".to_owned()), || relay.server.app().state.log.head());
    let actor = poster.actor(&ada);
    let update = |number: u32| {
        json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{actor}#update-{number}"),
            "type": "Update", "actor": actor, "object": { "id": actor, "type": "Person" },
            "signature": { "type": "RsaSignature2017", "creator": poster.key_id(&ada), "signatureValue": "AAAA" },
        })
    };
    let before = head();
    poster.send_raw(update(1).to_string(), &ada, &Tweaks::default()).await.expect("an answer");
    assert_eq!(head(), before.next());
    let key = authority(&poster).to_string();
    let hold = Hold { since: now(), reason: "wave".to_owned(), by: "relay".to_owned() };
    relay.store().write(move |tx| tx.put(&key, &hold)).await.expect("written");
    poster.send_raw(update(2).to_string(), &ada, &Tweaks::default()).await.expect("an answer");
    assert_eq!(head(), before.next());
}

/// What was harmless when it was relayed need not stay so.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_screened_like_a_post() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let post = publish(&poster, "harmless").await;
    arrival(&reader, &post.id).await;
    let mut edit = poster.compose_edit(&post.id, "not so harmless").expect("an edit");
    let tags: Vec<Value> = (0..31).map(|n| json!({ "type": "Hashtag", "name": format!("#t{n}") })).collect();
    edit.activity["object"]["tag"] = tags.into();
    let sent = poster.send_raw(edit.activity.to_string(), &edit.signer, &Tweaks::default()).await.expect("an answer");
    assert_eq!(sent.status, 202);
    let marker = publish(&poster, "a marker").await;
    arrival(&reader, &marker.id).await;
    assert_eq!(receipts_of(&reader, &post.id).len(), 1, "the edit waits");
    relay.relay().release(&server(&poster), &Act::local("a test")).await.expect("released");
    let there = |receipts: &[shearwater::demo::Receipt]| receipts.iter().any(|one| one.kind == "Update");
    assert!(reader.wait_received(crate::support::LONG, there).await, "{:#?}", reader.received());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_holds_one_server_and_not_its_neighbour() {
    let relay = TestRelay::start_with(|config| config.policy.wave_floor = 3).await;
    let (flooded, neighbour) = (crowd(&relay, "flooded", 6).await, crowd(&relay, "neighbour", 2).await);
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let mut posts = Vec::new();
    for number in 0..6 {
        posts.push(taken(&flooded, PostSpec::public("buy").by(&format!("p{number}"))).await);
    }
    let late = taken(&flooded, PostSpec::public("one of the first again").by("p0")).await;
    for post in &posts[..3] {
        arrival(&reader, &post.id).await;
    }
    for post in posts[3..].iter().chain([&late]) {
        silence_about(&post.id, &neighbour, &[&reader]).await;
    }
    let listed = servers(&relay);
    assert_eq!((listed.len(), listed[0].held, listed[0].posts), (1, true, 4), "{listed:?}");
    assert_eq!((decisions(&relay, "wave", "hold"), relay.metric("shearwater_held_servers ")), (4.0, 1.0));

    let relay = relay.restart_with(|config| config.policy.wave_floor = 3).await;
    let still = taken(&flooded, PostSpec::public("after the restart").by("p1")).await;
    silence_about(&still.id, &neighbour, &[&reader]).await;
    let released = relay.relay().release(&server(&flooded), &Act::local("a test")).await.expect("released");
    assert_eq!(released, Released { released: 5, dropped: 0, hold_ended: true });
    for post in posts[3..].iter().chain([&late, &still]) {
        assert_eq!(arrival(&reader, &post.id).await.len(), 1);
    }
    // The operator has looked: the same hour holds nobody again.
    let after = taken(&flooded, PostSpec::public("and on").by("p5")).await;
    arrival(&reader, &after.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_servers_first_day_nobody_is_held_for_being_new() {
    let relay = TestRelay::start_with(|config| config.policy.wave_floor = 3).await;
    let authors = (0..6).map(|number| Author::named(&format!("p{number}"))).collect();
    let options = Options { name: "fresh".to_owned(), authors, ..Options::default() };
    let fresh = relay.joined_with(Family::Mastodon, options).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    for number in 0..6 {
        let post = taken(&fresh, linking(number, 4)).await;
        arrival(&reader, &post.id).await;
    }
    assert!(servers(&relay).is_empty());
}

fn linking(author: usize, links: usize) -> PostSpec {
    let text: String = (0..links).map(|number| format!("see https://shop.example/{number} ")).collect();
    PostSpec::public(&text).by(&format!("p{author}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_new_may_set_three_links_and_somebody_known_any_number() {
    let relay = TestRelay::start().await;
    let poster = crowd(&relay, "poster", 3).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let few = taken(&poster, linking(0, 3)).await;
    arrival(&reader, &few.id).await;
    let many = taken(&poster, linking(1, 4)).await;
    silence_about(&many.id, &poster, &[&reader]).await;
    assert!((decisions(&relay, "links-of-new-account", "hold") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_is_new_for_a_day_and_then_for_as_long_as_he_posts_never_again() {
    let clock = Clock::manual(now());
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let authors = vec![Author::named("p0"), Author::named("p1")];
    let options = Options { authors, clock: clock.clone(), ..Options::default() };
    let poster = relay.joined_with(Family::Mastodon, options).await;
    settle(&relay, &poster).await;
    let (hour, mut expected) = (Duration::from_secs(3600), 0);
    taken(&poster, linking(0, 1)).await;
    for (passed, is_new) in [(hour, true), (22 * hour, true), (2 * hour, false), (46 * DAY, false), (46 * DAY, false)] {
        clock.advance(passed);
        relay.relay().tidy().await.expect("tidy");
        let before = held(&relay, &poster).len();
        taken(&poster, linking(0, 4)).await;
        expected = before + usize::from(is_new);
        assert_eq!(held(&relay, &poster).len(), expected, "after {passed:?} more");
    }
    taken(&poster, linking(1, 4)).await;
    assert_eq!(held(&relay, &poster).len(), expected + 1, "and the server itself is still known");
}

/// Servers show different parts of one document.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyword_is_found_where_only_some_show_it() {
    let relay = TestRelay::start_with(|config| config.policy.keywords = vec!["albatross".to_owned()]).await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let ways = [
        ("_misskey_content", json!("an albatross")),
        ("contentMap", json!({ "en": "a bird", "de": "ein albatross" })),
        ("content", json!("<p>alba<span class='invisible'>x</span>tross</p>")),
    ];
    for (member, value) in &ways {
        let mut composed = poster.compose(&PostSpec::public("a bird"));
        composed.activity["object"][*member] = value.clone();
        let body = composed.activity.to_string();
        let sent = poster.send_raw(body, &composed.signer, &Tweaks::default()).await.expect("an answer");
        assert_eq!(sent.status, 202, "{member}");
        silence_about(&composed.id, &poster, &[&reader]).await;
    }
    let ignored = relay.metric("shearwater_inbound_total{reason=\"keyword\"");
    assert!((ignored - ways.len() as f64).abs() < f64::EPSILON, "{ignored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_many_new_people_repeat_is_held() {
    let relay = TestRelay::start().await;
    let poster = crowd(&relay, "poster", 6).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let text = |number: usize| format!("Join our wonderful server of friends, number {number}, before it is too late!");
    let mut posts = Vec::new();
    for number in 0..6 {
        posts.push(taken(&poster, PostSpec::public(&text(number)).by(&format!("p{number}"))).await);
    }
    for post in &posts[..4] {
        arrival(&reader, &post.id).await;
    }
    for post in &posts[4..] {
        silence_about(&post.id, &poster, &[&reader]).await;
    }
    assert!((decisions(&relay, "repeated-text", "hold") - 2.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_probation_receives_and_its_posts_wait_until_somebody_vouches_for_it() {
    let relay = TestRelay::start_with(|config| config.policy.probation = true).await;
    let (newcomer, member) =
        (relay.joined(Family::Mastodon, "newcomer").await, relay.joined(Family::Mastodon, "member").await);
    relay.relay().approve(&authority(&member), &Act::local("a test")).await.expect("approved");
    let waiting = taken(&newcomer, PostSpec::public("hello?")).await;
    let received = publish(&member, "hello").await;
    arrival(&newcomer, &received.id).await;
    assert!((decisions(&relay, "probation", "hold") - 1.0).abs() < f64::EPSILON);
    relay.relay().release(&server(&newcomer), &Act::local("a test")).await.expect("released");
    let marker = publish(&newcomer, "a marker").await;
    for post in [&waiting, &marker] {
        assert_eq!(arrival(&member, &post.id).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probation_ends_after_its_time_and_so_many_posts() {
    let change = |config: &mut shearwater::config::Config| {
        config.policy.probation = true;
        (config.policy.probation_for, config.policy.probation_posts) = (Duration::ZERO, 2);
    };
    let relay = TestRelay::start_with(change).await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let held_ones = [taken(&poster, PostSpec::public("one")).await, taken(&poster, PostSpec::public("two")).await];
    let third = publish(&poster, "three").await;
    arrival(&reader, &third.id).await;
    assert_eq!(held(&relay, &poster).len(), held_ones.len());

    let change = |config: &mut shearwater::config::Config| {
        config.policy.probation = true;
        (config.policy.probation_for, config.policy.probation_posts) = (DAY, 0);
    };
    let relay = TestRelay::start_with(change).await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    taken(&poster, PostSpec::public("no number of posts makes it shorter")).await;
    assert_eq!(held(&relay, &poster).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_holds_nothing_and_counts_all() {
    let relay = TestRelay::start_with(|config| {
        (config.policy.dry_run, config.policy.wave_floor) = (true, 1);
    })
    .await;
    let poster = crowd(&relay, "poster", 3).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let loud = taken(&poster, shouting("look").by("p0")).await;
    let wave = taken(&poster, PostSpec::public("second").by("p1")).await;
    for post in [&loud, &wave] {
        arrival(&reader, &post.id).await;
    }
    assert_eq!((decisions(&relay, "hashtags", "dry-run"), decisions(&relay, "wave", "dry-run")), (1.0, 1.0));
    assert!(servers(&relay).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_as_much_waits_as_is_kept_the_answer_is_429_and_nothing_was_promised() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let key = authority(&poster).to_string();
    let tally = HeldTally { posts: MAX_HELD_PER_SERVER, since: now(), reason: "hashtags".to_owned() };
    let full = key.clone();
    relay.store().write(move |tx| tx.put(&full, &tally)).await.expect("written");
    let composed = poster.compose(&shouting("one too many"));
    let refused = poster.send(&composed).await.expect("an answer").answer.expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("3600")));
    let harmless = publish(&poster, "nothing to hold").await;
    arrival(&reader, &harmless.id).await;
    relay.store().write(move |tx| tx.remove::<HeldTally>(&key)).await.expect("removed");
    assert_eq!(poster.send(&composed).await.expect("an answer").status(), 202, "the very same is taken later");
    assert_eq!(held(&relay, &poster).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_is_a_wave_even_where_no_more_is_kept() {
    let relay = TestRelay::start_with(|config| config.policy.wave_floor = 3).await;
    let flooded = crowd(&relay, "flooded", 6).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let (key, since) = (authority(&flooded).to_string(), now());
    let tally = HeldTally { posts: MAX_HELD_PER_SERVER, since, reason: "hashtags".to_owned() };
    let full = key.clone();
    relay.store().write(move |tx| tx.put(&full, &tally)).await.expect("written");
    for number in 0..3 {
        let post = taken(&flooded, PostSpec::public("buy").by(&format!("p{number}"))).await;
        arrival(&reader, &post.id).await;
    }
    for author in ["p3", "p4", "p0"] {
        let composed = flooded.compose(&PostSpec::public("buy more").by(author));
        assert_eq!(flooded.send(&composed).await.expect("an answer").status(), 429, "{author}");
    }
    assert!(servers(&relay)[0].held, "{:?}", servers(&relay));
    assert_eq!(relay.metric("shearwater_held_servers "), 1.0);
    relay.store().write(move |tx| tx.remove::<HeldTally>(&key)).await.expect("removed");
    taken(&flooded, PostSpec::public("when there is room").by("p0")).await;
    assert_eq!(held(&relay, &flooded).len(), 1);
    let released = relay.relay().release(&server(&flooded), &Act::local("a test")).await.expect("released");
    assert_eq!(released, Released { released: 1, dropped: 0, hold_ended: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_heard_of_is_screened_when_it_is_read_and_not_even_read_from_a_held_server() {
    let relay = TestRelay::start().await;
    let (akkoma, reader) =
        (relay.joined(Family::Akkoma, "akkoma").await, relay.joined(Family::Mastodon, "reader").await);
    let loud = taken(&akkoma, shouting("look")).await;
    eventually("it is held", || held(&relay, &akkoma).len() == 1).await;
    let key = authority(&akkoma).to_string();
    let hold = Hold { since: now(), reason: "wave".to_owned(), by: "operator".to_owned() };
    relay.store().write(move |tx| tx.put(&key, &hold)).await.expect("written");
    let unread = taken(&akkoma, PostSpec::public("unread")).await;
    assert_eq!(held(&relay, &akkoma).len(), 2);
    let path = unread.id.strip_prefix(akkoma.origin()).expect("its own post");
    assert_eq!(akkoma.fetches().get(path), None);
    let released = relay.relay().release(&server(&akkoma), &Act::local("a test")).await.expect("released");
    assert_eq!((released.released, released.hold_ended), (2, true));
    for post in [&loud, &unread] {
        assert_eq!(arrival(&reader, &post.id).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_of_waits_where_no_more_is_kept() {
    let relay = TestRelay::start().await;
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let key = authority(&akkoma).to_string();
    let tally = HeldTally { posts: MAX_HELD_PER_SERVER, since: now(), reason: "hashtags".to_owned() };
    relay.store().write(move |tx| tx.put(&key, &tally)).await.expect("written");
    taken(&akkoma, shouting("look")).await;
    let outcome = || relay.metric("shearwater_hints_total{outcome=\"held-full\"}");
    eventually("it was read and found no place", || outcome() == 1.0).await;
    assert_eq!(relay.store().all::<WaitingHint>().expect("the store reads").len(), 1, "it is tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_never_comes_back_and_a_dry_run_discards_nothing() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let composed = poster.compose(&shouting("rubbish"));
    poster.send(&composed).await.expect("an answer");
    let one = HeldTarget::parse(&composed.id).expect("an id");
    assert_eq!(relay.relay().discard(&one, true, &Act::local("a test")).await.expect("counted"), 1);
    assert_eq!(held(&relay, &poster).len(), 1);
    assert_eq!(relay.relay().discard(&one, false, &Act::local("a test")).await.expect("discarded"), 1);
    let mut again = composed.activity.clone();
    again["id"] = format!("{}/again", composed.activity_id).into();
    again["object"]["tag"] = json!([]);
    poster.send_raw(again.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
    silence_about(&composed.id, &poster, &[&reader]).await;
    assert!(servers(&relay).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_is_dropped_and_counted() {
    let clock = Clock::manual(now());
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    taken(&poster, shouting("old")).await;
    clock.advance(Duration::from_secs(7 * 86_400 - 60));
    relay.relay().tidy().await.expect("tidy");
    assert_eq!(held(&relay, &poster).len(), 1);
    clock.advance(Duration::from_secs(120));
    relay.relay().tidy().await.expect("tidy");
    assert!(held(&relay, &poster).is_empty());
    assert!((relay.metric("shearwater_held_posts_total{outcome=\"expired\"}") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_blocked_meanwhile_stays_where_it_is_and_old_bytes_are_announced() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let old = taken(&poster, shouting("from the day before yesterday")).await;
    let mut row = held(&relay, &poster).remove(0);
    row.at = now().minus(2 * DAY);
    relay.store().write(move |tx| tx.hold(row)).await.expect("written");
    let one = HeldTarget::parse(&old.id).expect("an id");
    relay.relay().release(&one, &Act::local("a test")).await.expect("released");
    assert_eq!(arrival(&reader, &old.id).await[0].kind, "Announce");
    let blocked = taken(&poster, shouting("rubbish")).await;
    let before = relay.server.app().state.log.head();
    let relay = relay.restart_with(|config| config.policy.silence = vec!["127.0.0.1".to_owned()]).await;
    let released = relay.relay().release(&server(&poster), &Act::local("a test")).await.expect("released");
    assert_eq!((released.released, released.dropped), (0, 1));
    assert_eq!(relay.server.app().state.log.head(), before);
    assert!(receipts_of(&reader, &blocked.id).is_empty());
}

//! Joining and leaving: every handshake that servers really use, and a reason for whoever is not let in.

use std::time::Duration;

use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Admission;
use shearwater::demo::{As, Family, Fault, Instance, Options, Outcome, Tweaks};
use shearwater::store::{
    Act, AuthorityFacts, ControlRow, Following, SearchServer, Style, SubscriberState, SwitchedBy, Tx,
};

use crate::support::{LONG, TestRelay, arrival, authority, eventually, json, publish, receipts_of};

/// Each family judges the Accept by its own rules: Mastodon by the id and a WebFinger round trip, Misskey by the embedded
/// Follow, Akkoma by `to`, and so on.
#[tokio::test(flavor = "multi_thread")]
async fn every_family_joins_by_its_own_handshake_and_receives() {
    let relay = TestRelay::start().await;
    let mut members = Vec::new();
    for family in Family::ALL {
        members.push(relay.joined(family, &format!("{family:?}")).await);
    }
    let post = publish(&members[0], "hello to all").await;
    for member in &members[1..] {
        assert_eq!(arrival(member, &post.id).await.len(), 1, "{} gets it once", member.name());
    }
    for member in &members {
        let subscriber = relay.store().subscriber(&authority(member)).expect("a subscriber");
        let style = if matches!(member.family(), Family::Mastodon | Family::Misskey) {
            Style::Mastodon
        } else {
            Style::Litepub
        };
        assert_eq!(subscriber.registrations[0].style, style, "{}", member.name());
    }
}

/// Pleroma's relay publishes nothing before it is followed back; a Mastodon instance actor would reject any Follow.
#[tokio::test(flavor = "multi_thread")]
async fn litepub_followers_are_followed_back_and_mastodon_ones_are_not() {
    let relay = TestRelay::start().await;
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let mastodon = relay.joined(Family::Mastodon, "mastodon").await;
    let key = akkoma.actor(&As::Server);
    eventually("the Accept of our Follow", || {
        let following = relay.store().get::<Following>(&key).expect("the store reads");
        following.is_some_and(|following| following.state == shearwater::store::FollowState::Accepted)
    })
    .await;
    let post = publish(&akkoma, "from akkoma").await;
    arrival(&mastodon, &post.id).await;
    let follows = mastodon.received().into_iter().filter(|one| one.kind == "Follow").count();
    assert_eq!(follows, 0, "Mastodon's instance actor rejects any Follow");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_ends_it_and_a_new_follow_begins_it_again() {
    let relay = TestRelay::start().await;
    let (stays, leaves) =
        (relay.joined(Family::Mastodon, "stays").await, relay.joined(Family::Misskey, "leaves").await);
    let answer = leaves.leave().await.expect("an answer");
    assert_eq!(answer.status, 202);
    assert!(relay.store().subscriber(&authority(&leaves)).is_none(), "it left");
    let post = publish(&stays, "while it is away").await;
    leaves.join(relay.url()).await.expect("an answer");
    assert!(leaves.wait_accepted(LONG).await, "it is accepted again, for its new Follow");
    let next = publish(&stays, "now that it is back").await;
    arrival(&leaves, &next.id).await;
    assert!(receipts_of(&leaves, &post.id).is_empty(), "what came before it joined again is not owed");
}

/// A repeated Follow by a member (the admin switched it off and on while we were away) is answered for its new id.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_follows_again_is_accepted_again() {
    let relay = TestRelay::start().await;
    let member = relay.joined(Family::Mastodon, "again").await;
    let first = member.follow_id();
    member.join(relay.url()).await.expect("an answer");
    assert!(member.wait_accepted(LONG).await);
    assert_ne!(first, member.follow_id());
    let subscriber = relay.store().subscriber(&authority(&member)).expect("a subscriber");
    assert_eq!(subscriber.registrations.len(), 1, "the new Follow takes the place of the old");
}

/// The three forms in which servers take a Follow back.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_is_understood_as_an_id_as_a_follow_and_as_a_follow_without_id() {
    let relay = TestRelay::start().await;
    for form in 0..3 {
        let member = relay.joined(Family::Mastodon, &format!("form {form}")).await;
        let (actor, follow_id) = (member.actor(&As::Server), member.follow_id().expect("a Follow"));
        let public = "https://www.w3.org/ns/activitystreams#Public";
        let object = match form {
            0 => serde_json::json!(follow_id),
            1 => serde_json::json!({ "id": follow_id, "type": "Follow", "actor": actor, "object": public }),
            _ => serde_json::json!({ "type": "Follow", "actor": actor, "object": public }),
        };
        let undo = serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/undo/{form}", member.origin()),
            "type": "Undo", "actor": actor, "object": object,
        });
        let answer = member.send_raw(undo.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
        assert_eq!(answer.status, 202, "form {form}");
        assert!(relay.store().subscriber(&authority(&member)).is_none(), "form {form} is understood");
    }
}

/// A user of a member may not end its membership, nor may another server.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_takes_a_follow_back() {
    let relay = TestRelay::start().await;
    let (member, other) =
        (relay.joined(Family::Mastodon, "member").await, relay.joined(Family::Mastodon, "other").await);
    let (actor, follow_id) = (member.actor(&As::Server), member.follow_id().expect("a Follow"));
    let undo = |host: &Instance, by: &As| {
        serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/undo/1", host.origin()), "type": "Undo",
            "actor": host.actor(by), "object": follow_id.clone(),
        })
        .to_string()
    };
    let author = As::Author("ada".to_owned());
    let forged = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/undo/2", member.origin()), "type": "Undo",
        "actor": actor, "object": follow_id,
    })
    .to_string();
    for (who, host, body) in [
        (&author, &member, undo(&member, &author)),
        (&As::Server, &other, undo(&other, &As::Server)),
        (&As::Server, &other, forged),
    ] {
        let answer = host.send_raw(body, who, &Tweaks::default()).await.expect("an answer");
        assert_eq!(answer.status, 202);
        assert!(relay.store().subscriber(&authority(&member)).is_some(), "still a member");
    }
}

/// One server, both styles: one message each, and either Follow can be taken back alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_under_both_styles_gets_each_post_once() {
    let relay = TestRelay::start().await;
    let (poster, both) = (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "both").await);
    let actor = both.actor(&As::Server);
    let follow = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/second", both.origin()), "type": "Follow",
        "actor": actor, "object": format!("{}/actor", relay.url()),
    });
    both.send_raw(follow.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
    eventually("both registrations", || {
        relay.store().subscriber(&authority(&both)).is_some_and(|one| one.registrations.len() == 2)
    })
    .await;
    let post = publish(&poster, "once, please").await;
    arrival(&both, &post.id).await;
    let marker = publish(&poster, "a marker").await;
    arrival(&both, &marker.id).await;
    assert_eq!(receipts_of(&both, &post.id).len(), 1);
    both.leave().await.expect("an answer");
    let left = relay.store().subscriber(&authority(&both)).expect("still a subscriber");
    assert_eq!(left.registrations.iter().map(|one| one.style).collect::<Vec<_>>(), [Style::Litepub]);
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_holds_a_server_until_the_operator_says_yes() {
    let relay = TestRelay::start_with(|config| config.relay.admission = Admission::Approval).await;
    let waits =
        Instance::start(Family::Misskey, Options { name: "waits".to_owned(), ..Options::default() }).await.unwrap();
    assert_eq!(waits.join(relay.url()).await.expect("an answer").status, 202);
    let host = authority(&waits);
    eventually("it waits", || relay.store().subscriber(&host).is_some_and(|one| one.state == SubscriberState::Pending))
        .await;
    let early = publish(&waits, "too early").await;
    relay.relay().approve(&host, &Act::local("a test")).await.expect("approved");
    assert!(waits.wait_accepted(LONG).await);
    let other = Instance::start(Family::Mastodon, Options { name: "turned away".to_owned(), ..Options::default() })
        .await
        .unwrap();
    other.join(relay.url()).await.expect("an answer");
    eventually("it waits", || relay.store().subscriber(&authority(&other)).is_some()).await;
    relay
        .relay()
        .reject(&authority(&other), "We are full of cats already.", &Act::local("a test"))
        .await
        .expect("rejected");
    eventually("the Reject", || other.is_rejected()).await;
    let reject = other.received().into_iter().find(|one| one.kind == "Reject").expect("a Reject");
    assert!(reject.body.contains("full of cats"), "the other admin can read why: {}", reject.body);
    assert!(relay.store().subscriber(&authority(&other)).is_none());
    assert_eq!(relay.metric("shearwater_log_head"), 0.0, "nothing of {} was kept while it waited", early.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowlist_turns_others_away_with_a_reason_in_the_answer_and_in_a_reject() {
    let relay = TestRelay::start_with(|config| {
        config.relay.admission = Admission::Allowlist;
        config.relay.allowlist = vec!["good.example".to_owned()];
    })
    .await;
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
    let answer = stranger.join(relay.url()).await.expect("an answer");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = json(&answer.body);
    assert_eq!(problem["check"], "admission");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("operator's list")), "{problem}");
    eventually("the Reject", || stranger.is_rejected()).await;
    assert!(
        stranger
            .received()
            .iter()
            .any(|one| one.outcome == Outcome::TurnedAway && one.body.contains("operator's list"))
    );
    let listed = TestRelay::start_with(|config| {
        config.relay.admission = Admission::Allowlist;
        config.relay.allowlist = vec!["127.0.0.1".to_owned()];
    })
    .await;
    listed.joined(Family::Mastodon, "listed").await;
}

/// A relay that joined a relay may make a loop: the operator decides.
#[tokio::test(flavor = "multi_thread")]
async fn another_relay_waits_for_the_operator_even_when_all_are_welcome() {
    let (relay, other) = (TestRelay::start().await, TestRelay::start().await);
    other
        .relay()
        .follow(&format!("{}/actor", relay.url()), Style::Litepub, &Act::local("a test"))
        .await
        .expect("a Follow is sent");
    let host = shearwater::ids::Authority::parse(other.url().trim_start_matches("http://")).unwrap();
    eventually("it waits", || relay.store().subscriber(&host).is_some_and(|one| one.state == SubscriberState::Pending))
        .await;
    let open = TestRelay::start_with(|config| config.relay.allow_relays = true).await;
    other
        .relay()
        .follow(&format!("{}/actor", open.url()), Style::Mastodon, &Act::local("a test"))
        .await
        .expect("a Follow is sent");
    eventually("it joins", || open.store().subscriber(&host).is_some_and(|one| one.state == SubscriberState::Active))
        .await;
}

fn follow_by(instance: &Instance, who: &As, relay: &TestRelay, id: &str) -> String {
    serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/{id}", instance.origin()), "type": "Follow",
        "actor": instance.actor(who), "object": format!("{}/actor", relay.url()),
    })
    .to_string()
}

/// A person who follows `@relay@…` from an app neither joins their server nor stands in its way, before or after.
#[tokio::test(flavor = "multi_thread")]
async fn people_who_follow_the_relay_change_nothing_for_their_server() {
    let relay = TestRelay::start().await;
    let person = As::Author("ada".to_owned());
    let early =
        Instance::start(Family::Mastodon, Options { name: "early".to_owned(), ..Options::default() }).await.unwrap();
    let url = || Tweaks { url: Some(format!("{}/inbox", relay.url())), ..Tweaks::default() };
    let host = authority(&early);
    assert_eq!(early.send_raw(follow_by(&early, &person, &relay, "p1"), &person, &url()).await.unwrap().status, 202);
    assert_eq!(relay.store().subscriber(&host).expect("held").state, SubscriberState::Pending);
    early.join(relay.url()).await.expect("an answer");
    assert!(early.wait_accepted(LONG).await, "the admin's own Follow is judged as if nobody had asked");
    let subscriber = relay.store().subscriber(&host).expect("a subscriber");
    assert!(
        subscriber.is_active()
            && subscriber.registrations.iter().all(|one| one.actor.as_str() == early.actor(&As::Server))
    );
    let answer = early.send_raw(follow_by(&early, &person, &relay, "p2"), &person, &url()).await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(String::from_utf8_lossy(&answer.body).contains("not by people"), "{}", answer.text());
    assert_eq!(relay.store().subscriber(&host).expect("a subscriber").registrations.len(), 1);
    assert!(relay.store().all::<Following>().expect("rows").is_empty(), "nobody is followed back");
    early.leave().await.expect("an answer");
    assert!(relay.store().subscriber(&host).is_none(), "and nobody keeps it here");
}

/// Mastodon retries an Undo for days: one that comes after the server joined again is about the old Follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_undo_of_an_older_follow_ends_nothing() {
    let relay = TestRelay::start().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let old = member.follow_id().expect("a Follow");
    member.join(relay.url()).await.expect("an answer");
    assert!(member.wait_accepted(LONG).await);
    let undo = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/late", member.origin()), "type": "Undo",
        "actor": member.actor(&As::Server),
        "object": { "id": old, "type": "Follow", "actor": member.actor(&As::Server), "object": "https://www.w3.org/ns/activitystreams#Public" },
    });
    assert_eq!(member.send_raw(undo.to_string(), &As::Server, &Tweaks::default()).await.unwrap().status, 202);
    assert!(relay.store().subscriber(&authority(&member)).is_some(), "still a member");
}

/// A server that was blocked after it joined is turned away at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_blocked_later_is_turned_away() {
    let relay = TestRelay::start().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let relay = relay.restart_with(|config| config.policy.block = vec!["127.0.0.1".to_owned()]).await;
    eventually("it is no subscriber", || relay.store().subscriber(&authority(&member)).is_none()).await;
    eventually("the Reject", || member.is_rejected()).await;
}

/// A stranger chooses how big a Follow is; what an Accept embeds is small.
#[tokio::test(flavor = "multi_thread")]
async fn a_follow_is_kept_small_and_embedded_whole() {
    let relay = TestRelay::start().await;
    let member = Instance::start(Family::Misskey, Options::default()).await.unwrap();
    let url = Some(format!("{}/inbox", relay.url()));
    let fat = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/fat", member.origin()), "type": "Follow",
        "actor": member.actor(&As::Server), "object": "https://www.w3.org/ns/activitystreams#Public",
        "padding": "x".repeat(500_000), "to": vec!["https://a.example/1"; 500],
    });
    assert_eq!(
        member.send_raw(fat.to_string(), &As::Server, &Tweaks { url, ..Tweaks::default() }).await.unwrap().status,
        202
    );
    let kept = relay.store().subscriber(&authority(&member)).expect("a subscriber").registrations[0].follow.clone();
    let kept = kept.value();
    assert!(kept.to_string().len() < 9000, "{} bytes", kept.to_string().len());
    assert_eq!(kept["id"], fat["id"]);
    assert_eq!(kept["object"], fat["object"]);
}

/// Each Follow queues an answer: a server that takes none of them gets no more, and is heard again when it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_cannot_keep_others_from_joining() {
    let relay = TestRelay::start().await;
    let deaf = relay.joined(Family::Mastodon, "deaf").await;
    deaf.set_fault(Fault::Status(503));
    let waiting = || relay.store().all::<ControlRow>().expect("rows").len();
    let mut refused = 0;
    for number in 0..25 {
        let follow = follow_by(&deaf, &As::Server, &relay, &format!("again-{number}"));
        let answer = deaf.send_raw(follow, &As::Server, &Tweaks::default()).await.expect("an answer");
        assert!(matches!(answer.status, 202 | 503), "{}", answer.text());
        refused += usize::from(answer.status == 503);
    }
    assert!(refused >= 5, "{refused} were told to come again later");
    assert!(waiting() <= 21, "{} messages wait for it", waiting());
    assert!(relay.store().subscriber(&authority(&deaf)).is_some_and(|one| one.is_active()), "it is no worse off");
    relay.joined(Family::Misskey, "other").await;
    deaf.set_fault(Fault::None);
    eventually("it takes what waits", || waiting() == 0).await;
    deaf.join(relay.url()).await.expect("an answer");
    assert!(deaf.wait_accepted(LONG).await, "and is answered again");
}

/// Whoever has many names could join, be looked at, and leave, with one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_of_a_server_that_left_is_forgotten_after_a_day() {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs()).expect("a time");
    let clock = Clock::manual(Timestamp::from_secs(now));
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let options = |name: &str| Options { name: name.to_owned(), clock: clock.clone(), ..Options::default() };
    let stays = relay.joined_with(Family::Mastodon, options("stays")).await;
    let leaves = relay.joined_with(Family::Misskey, options("leaves")).await;
    leaves.leave().await.expect("an answer");
    // Search is on for a third one, which never joined.
    let searched = Instance::start(Family::Misskey, options("searched")).await.expect("an instance");
    let (server, since) = (authority(&searched), clock.now());
    let on = SearchServer { since, by: SwitchedBy::Operator, reason: "asked".to_owned(), also: Vec::new() };
    let facts =
        AuthorityFacts { software_read: Some(since), software: Some("misskey".to_owned()), ..Default::default() };
    let write = move |tx: &mut Tx<'_>| {
        tx.put(server.as_str(), &facts)?;
        tx.switch_search(&server, Some(on))
    };
    relay.store().write(write).await.expect("written");
    let known = |of: &Instance| {
        let facts = relay.store().get::<AuthorityFacts>(authority(of).as_str()).expect("the store reads");
        (facts.is_some(), relay.relay().rules().set().runs(&authority(of)).is_some())
    };
    for (hours, remembered) in [(23, true), (2, false)] {
        clock.advance(Duration::from_secs(hours * 3600));
        assert_eq!(relay.relay().forget_strangers("").await.expect("tidied"), "", "one page was all");
        assert_eq!(known(&leaves), (remembered, remembered), "after {hours} more hours");
        assert_eq!(known(&stays), (true, true));
        assert!(known(&searched).0);
    }
}

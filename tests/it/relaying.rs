//! What is relayed, to whom, and in which form.

use std::time::Duration;

use shearwater::clock::{Clock, Timestamp};
use shearwater::demo::{As, Family, Instance, Options, PostSpec, Tweaks, Visibility};
use shearwater::ids::Seq;
use shearwater::log::Kind;
use shearwater::store::{Mode, SeenSet};

use crate::support::{LONG, TestRelay, arrival, authority, eventually, json, publish, receipts_of, silence_about};

#[tokio::test(flavor = "multi_thread")]
async fn a_public_post_reaches_everybody_once_and_does_not_come_home() {
    let relay = TestRelay::start().await;
    let mut members = Vec::new();
    for (index, family) in Family::ALL.into_iter().enumerate() {
        members.push(relay.joined(family, &format!("{index} {family:?}")).await);
    }
    let mut posts = Vec::new();
    for member in &members {
        posts.push((member.name().to_owned(), publish(member, "good morning").await));
    }
    for member in &members {
        for (author, post) in &posts {
            if author == member.name() {
                continue;
            }
            assert_eq!(arrival(member, &post.id).await.len(), 1, "{author} to {}", member.name());
        }
    }
    for (member, (_, post)) in members.iter().zip(&posts) {
        assert!(receipts_of(member, &post.id).is_empty(), "{} gets nothing of its own back", member.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_public_goes_nowhere_and_is_not_kept() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    for visibility in [Visibility::Unlisted, Visibility::Followers, Visibility::Direct] {
        let spec = PostSpec::public("CANARY that nobody may see").visible_to(visibility);
        let composed = poster.compose(&spec);
        // A server that tells the relay although it should not: the relay judges for itself.
        let sent = poster.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await.unwrap();
        assert_eq!(sent.status, 202, "not wanted is no error");
        silence_about(&composed.id, &poster, &[&reader]).await;
    }
    let mut folders = vec![relay.config.data_dir.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.is_file() {
                let bytes = std::fs::read(&entry).expect("a file");
                assert!(!bytes.windows(6).any(|window| window == b"CANARY"), "{} holds it", entry.display());
            }
        }
    }
}

/// Mastodon's and Misskey's families check LD signatures: they get the author's bytes, and the origin is spared a fetch
/// from each of them. Everybody else gets an Announce, addressed to the relay's followers.
#[tokio::test(flavor = "multi_thread")]
async fn signed_creates_are_forwarded_where_they_are_checked_and_announced_elsewhere() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let (mastodon, misskey) = (relay.joined(Family::Mastodon, "m").await, relay.joined(Family::Misskey, "k").await);
    let (akkoma, gotosocial) = (relay.joined(Family::Akkoma, "a").await, relay.joined(Family::GoToSocial, "g").await);
    let post = publish(&poster, "in two forms").await;
    for member in [&mastodon, &misskey] {
        let receipts = arrival(member, &post.id).await;
        assert_eq!(receipts[0].kind, "Create", "{}: {receipts:#?}", member.name());
    }
    for member in [&akkoma, &gotosocial] {
        let receipts = arrival(member, &post.id).await;
        assert_eq!(receipts[0].kind, "Announce", "{}", member.name());
        assert_eq!(receipts[0].to, [format!("{}/followers", relay.url())]);
    }
}

/// A server in secure mode sends posts without an LD signature: nobody could check the bytes, so they are announced.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_secure_mode_is_announced() {
    let relay = TestRelay::start().await;
    let secure = Options { name: "secure".to_owned(), secure_mode: true, ..Options::default() };
    let poster = relay.joined_with(Family::Mastodon, secure).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let post = publish(&poster, "behind a signature").await;
    assert_eq!(arrival(&reader, &post.id).await[0].kind, "Announce");
    eventually("the reader fetched it", || reader.shown().iter().any(|one| one.id == post.id)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_and_deletions_follow_as_the_bytes_their_author_signed() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let post = publish(&poster, "first").await;
    arrival(&reader, &post.id).await;
    arrival(&akkoma, &post.id).await;
    poster.edit(&post.id, "second").await.expect("an answer");
    let kinds = |member: &Instance| receipts_of(member, &post.id).into_iter().map(|one| one.kind).collect::<Vec<_>>();
    eventually("the edit", || kinds(&reader) == ["Create", "Update"]).await;
    poster.delete(&post.id).await.expect("an answer");
    eventually("the deletion", || kinds(&reader) == ["Create", "Update", "Delete"]).await;
    // Akkoma takes no forwarded bytes: our own Announce is taken back instead.
    eventually("the retraction", || {
        akkoma.received().iter().any(|one| one.kind == "Undo" && one.body.contains(&post.id))
    })
    .await;
    assert!(!kinds(&akkoma).contains(&"Update".to_owned()), "an edit has no Announce form");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_comes_first_keeps_the_post_away() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let create = poster.compose(&PostSpec::public("overtaken"));
    let delete = poster.compose_deletion(&create.id).expect("it is there");
    assert_eq!(poster.send(&delete).await.expect("an answer").status(), 202);
    assert_eq!(poster.send(&create).await.expect("an answer").status(), 202);
    silence_about(&create.id, &poster, &[&reader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_300_identical_posts_at_once_one_is_relayed() {
    let relay = TestRelay::start().await;
    let poster = std::sync::Arc::new(relay.joined(Family::Mastodon, "poster").await);
    let reader = relay.joined(Family::Akkoma, "reader").await;
    // Few may wait at once for a key that nobody here knows.
    publish(&poster, "the key is known now").await;
    let composed = std::sync::Arc::new(poster.compose(&PostSpec::public("again and again")));
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (poster, composed) = (poster.clone(), composed.clone());
        sending.spawn(async move { poster.send(&composed).await.expect("an answer").status() });
    }
    let statuses = sending.join_all().await;
    assert!(statuses.iter().all(|status| *status == 202), "{statuses:?}");
    arrival(&reader, &composed.id).await;
    let marker = publish(&poster, "a marker").await;
    arrival(&reader, &marker.id).await;
    assert_eq!(receipts_of(&reader, &composed.id).len(), 1);
}

/// A boost is about somebody else's post: it would only make traffic.
#[tokio::test(flavor = "multi_thread")]
async fn boosts_by_people_are_not_relayed() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let other = relay.joined(Family::Misskey, "other").await;
    let post = other.compose(&PostSpec::public("not yet told to anybody"));
    assert_eq!(poster.boost("ada", &post.id).await.expect("an answer").status(), 202);
    silence_about(&post.id, &poster, &[&reader]).await;
}

/// Akkoma announces and GoToSocial pushes through its instance actor: both are hints, and the origin's own document counts.
#[tokio::test(flavor = "multi_thread")]
async fn hints_are_read_from_the_origin_before_anything_is_said() {
    let relay = TestRelay::start().await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    for family in [Family::Akkoma, Family::GoToSocial] {
        let poster = relay.joined(family, &format!("{family:?}")).await;
        let post = publish(&poster, "by way of a hint").await;
        assert_eq!(arrival(&reader, &post.id).await[0].kind, "Announce");
        let secret = poster.compose(&PostSpec::public("not for all").visible_to(Visibility::Followers));
        let announce = serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/announce/1", poster.origin()),
            "type": "Announce", "actor": poster.actor(&As::Server), "object": secret.id, "to": [format!("{}/followers", poster.actor(&As::Server))],
            "published": "2026-01-01T00:00:00Z",
        });
        poster.send_raw(announce.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
        silence_about(&secret.id, &poster, &[&reader]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announce_of_ours_can_be_read_at_its_id() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Akkoma, "reader").await);
    let post = publish(&poster, "look it up").await;
    let receipt = arrival(&reader, &post.id).await.remove(0);
    let id = receipt.id.expect("an id");
    let answer = reader.fetch(&id).await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(json(&answer.body), json(receipt.body.as_bytes()), "it says what was delivered");
    assert_eq!(reader.fetch(&format!("{}/announces/{}", relay.url(), "0".repeat(32))).await.unwrap().status, 404);
    poster.delete(&post.id).await.expect("an answer");
    assert_eq!(reader.fetch(&id).await.expect("an answer").status, 404, "what was deleted is not offered any longer");
}

/// A server whose family says it checks LD signatures but refuses the forward gets the Announce at once, and Announces
/// from then on; that is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_forward_becomes_an_announce() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    // An Akkoma that the operator set to forwards: it answers 400 to them.
    let stubborn = relay.joined(Family::Akkoma, "stubborn").await;
    let host = authority(&stubborn);
    relay
        .store()
        .write({
            let host = host.clone();
            move |tx| {
                let mut subscriber = tx.subscriber(&host)?.expect("a subscriber");
                subscriber.mode = Mode::Forward;
                tx.put_subscriber(subscriber)
            }
        })
        .await
        .expect("written");
    let post = publish(&poster, "take it one way or the other").await;
    let taken = |receipts: &[shearwater::demo::Receipt]| {
        receipts.iter().any(|one| one.kind == "Announce" && one.outcome.is_taken())
    };
    assert!(stubborn.wait_received(LONG, taken).await, "{:#?}", stubborn.received());
    // One server's posts can be written to be refused: it takes two to decide how this one is served.
    assert!(relay.relay().facts(&host).is_ok_and(|facts| facts.announce_until.is_none()));
    let neighbour = relay.joined(Family::Mastodon, "neighbour").await;
    let second = publish(&neighbour, "or this one").await;
    arrival(&stubborn, &second.id).await;
    eventually("it is remembered", || relay.relay().facts(&host).is_ok_and(|facts| facts.announce_until.is_some()))
        .await;
    let next = publish(&poster, "and now?").await;
    assert_eq!(arrival(&stubborn, &next.id).await[0].kind, "Announce");
    let _ = post;
}

/// Only the author's server and the supplier are left out: a post that came by two ways is relayed once.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_post_by_two_ways_is_one_post() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Friendica, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let composed = poster.compose(&PostSpec::public("twice told"));
    poster.send(&composed).await.expect("an answer");
    arrival(&reader, &composed.id).await;
    let announce = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/announce/9", poster.origin()), "type": "Announce",
        "actor": poster.actor(&As::Server), "object": composed.id, "to": ["https://www.w3.org/ns/activitystreams#Public"],
    });
    poster.send_raw(announce.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
    let marker = publish(&poster, "a marker").await;
    arrival(&reader, &marker.id).await;
    assert_eq!(receipts_of(&reader, &composed.id).len(), 1);
}

/// An object is relayed once, under however many activity ids its author names it.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_post_under_two_activity_ids_is_one_post() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Akkoma, "reader").await);
    let composed = poster.compose(&PostSpec::public("said once"));
    poster.send(&composed).await.expect("an answer");
    let mut again = composed.activity.clone();
    again["id"] = format!("{}/again", composed.activity_id).into();
    let sent = poster.send_raw(again.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
    assert_eq!(sent.status, 202);
    let marker = publish(&poster, "a marker").await;
    arrival(&reader, &marker.id).await;
    assert_eq!(receipts_of(&reader, &composed.id).len(), 1);
    let entries = relay.metric("shearwater_inbound_total{reason=\"relayed\"");
    assert!((entries - 2.0).abs() < f64::EPSILON, "{entries} entries for two posts");
}

/// The log knows for three days whose a post is. Subscribers have it for longer, and so is its author remembered.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_deletion_counts_when_the_log_has_forgotten_the_post() {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs()).expect("a time");
    let clock = Clock::manual(Timestamp::from_secs(now));
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let options = |name: &str| Options { name: name.to_owned(), clock: clock.clone(), ..Options::default() };
    let poster = relay.joined_with(Family::Mastodon, options("poster")).await;
    let pusher = relay.joined_with(Family::GoToSocial, options("pusher")).await;
    let counted = |word: &str| relay.metric(&format!("shearwater_inbound_total{{reason=\"{word}\""));
    let hints = |word: &str| relay.metric(&format!("shearwater_hints_total{{outcome=\"{word}\""));
    let (post, pushed) = (publish(&poster, "Ada's").await, publish(&pusher, "pushed").await);
    eventually("both are relayed", || hints("relayed") == 1.0).await;
    let log = &relay.server.app().state.log;
    let entries = (1..=log.head().0).filter_map(|seq| log.at_or_after(Seq(seq)).expect("the log reads"));
    let creates: Vec<String> = entries.filter(|one| one.kind == Kind::Create).map(|one| one.announce_hash()).collect();
    let is_known = || creates.iter().any(|hash| log.announced(hash).expect("the log reads").is_some());
    assert!(creates.len() == 2 && is_known());
    clock.advance(Duration::from_secs(80 * 3600));
    publish(&poster, "a later one").await;
    for _ in 0..1500 {
        relay.relay().tidy().await.expect("tidy");
        if !is_known() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!is_known(), "the log has forgotten both");
    let grace = As::Author("grace".to_owned());
    let about = |instance: &Instance, who: &As, kind: &str, object: serde_json::Value| {
        let id = format!("{}/{kind}/{}", instance.origin(), instance.actor(who).len());
        let context = "https://www.w3.org/ns/activitystreams";
        serde_json::json!({ "@context": context, "id": id, "type": kind, "actor": instance.actor(who), "object": object })
    };
    let mut stolen = poster.compose(&PostSpec::public("Grace's").by("grace")).activity["object"].clone();
    stolen["id"] = post.id.clone().into();
    for activity in [about(&poster, &grace, "Delete", post.id.clone().into()), about(&poster, &grace, "Update", stolen)]
    {
        let sent = poster.send_raw(activity.to_string(), &grace, &Tweaks::default()).await.expect("an answer");
        assert_eq!(sent.status, 202);
    }
    assert_eq!((counted("deletion-of-anothers-object"), counted("change-of-anothers-object")), (1.0, 1.0));
    let is_deleted = |id: &str| relay.store().has_seen(SeenSet::Tombstones, &[id]).expect("the store reads");
    assert!(!is_deleted(&post.id));
    assert_eq!(poster.delete(&post.id).await.expect("an answer").status(), 202);
    assert!(is_deleted(&post.id) && counted("deletion-relayed") == 1.0, "its author can");
    // And so can its origin, whoever of it says so.
    let _deleted = pusher.compose_deletion(&pushed.id);
    let hint = about(&pusher, &grace, "Delete", pushed.id.clone().into());
    let sent = pusher.send_raw(hint.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
    assert_eq!(sent.status, 202);
    eventually("its origin has the last word", || is_deleted(&pushed.id)).await;
}

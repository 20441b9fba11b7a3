//! The relay subscribes too: to instances and to other relays, in both styles.

use shearwater::demo::{As, Family, Instance, Options, Tweaks};
use shearwater::store::{Act, FollowState, Following, Style};

use crate::support::{TestRelay, arrival, eventually, publish, silence_about};

fn state(relay: &TestRelay, actor: &str) -> Option<FollowState> {
    relay.store().get::<Following>(actor).expect("the store reads").map(|following| following.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_follows_by_id_and_by_handle_and_lets_go_again() {
    let relay = TestRelay::start().await;
    let akkoma = Instance::start(Family::Akkoma, Options::default()).await.unwrap();
    let actor = akkoma.actor(&As::Server);
    relay.relay().follow(&actor, Style::Litepub, &Act::local("a test")).await.expect("a Follow is sent");
    assert_eq!(state(&relay, &actor), Some(FollowState::Pending));
    eventually("the Follow arrives", || akkoma.received().iter().any(|one| one.kind == "Follow")).await;
    let follow = akkoma.received().into_iter().find(|one| one.kind == "Follow").expect("a Follow");
    for (kind, expected) in [("Accept", FollowState::Accepted), ("Reject", FollowState::Rejected)] {
        let answer = serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/{kind}", akkoma.origin()), "type": kind,
            "actor": actor, "object": follow.id,
        });
        let url = Some(format!("{}/inbox", relay.url()));
        akkoma
            .send_raw(answer.to_string(), &As::Server, &Tweaks { url, ..Tweaks::default() })
            .await
            .expect("an answer");
        assert_eq!(state(&relay, &actor), Some(expected));
    }
    relay.relay().unfollow(&actor, &Act::local("a test")).await.expect("an Undo is sent");
    assert_eq!(state(&relay, &actor), None);
    eventually("the Undo arrives", || akkoma.received().iter().any(|one| one.kind == "Undo")).await;
    // A handle is looked up by WebFinger, over https: where that cannot be had, the error names the handle.
    let handle = "@relay@127.0.0.1";
    let error =
        relay.relay().follow(handle, Style::Litepub, &Act::local("a test")).await.expect_err("nobody answers there");
    assert!(format!("{error:#}").contains(handle), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_relay_brings_posts_of_servers_that_never_joined_here() {
    let (near, far) =
        (TestRelay::start().await, TestRelay::start_with(|config| config.relay.allow_relays = true).await);
    let here = near.joined(Family::Mastodon, "here").await;
    let there = far.joined(Family::Mastodon, "there").await;
    let actor = format!("{}/actor", far.url());
    near.relay().follow(&actor, Style::Litepub, &Act::local("a test")).await.expect("a Follow is sent");
    eventually("the Accept", || state(&near, &actor) == Some(FollowState::Accepted)).await;
    let post = publish(&there, "from far away").await;
    arrival(&here, &post.id).await;
}

/// Both follow each other, and a third server is on both: everybody gets the post, and then there is silence.
#[tokio::test(flavor = "multi_thread")]
async fn two_relays_joined_to_each_other_end_in_silence() {
    let open = |config: &mut shearwater::config::Config| config.relay.allow_relays = true;
    let (one, two) = (TestRelay::start_with(open).await, TestRelay::start_with(open).await);
    for (from, to) in [(&one, &two), (&two, &one)] {
        let actor = format!("{}/actor", to.url());
        from.relay().follow(&actor, Style::Litepub, &Act::local("a test")).await.expect("a Follow is sent");
        eventually("the Accept", || state(from, &actor) == Some(FollowState::Accepted)).await;
    }
    let poster = one.joined(Family::Mastodon, "poster").await;
    let common = one.joined(Family::Mastodon, "common").await;
    common.join(two.url()).await.expect("an answer");
    eventually("it is on both", || two.store().subscribers().values().filter(|one| one.is_active()).count() == 2).await;
    let far = two.joined(Family::Misskey, "far").await;
    let post = publish(&poster, "round and round").await;
    arrival(&common, &post.id).await;
    arrival(&far, &post.id).await;
    let before = (one.server.app().state.log.head(), two.server.app().state.log.head());
    silence_about("https://nobody.example/1", &poster, &[&common]).await;
    let marker = publish(&poster, "the last").await;
    arrival(&far, &marker.id).await;
    let after = (one.server.app().state.log.head(), two.server.app().state.log.head());
    // Two more posts: each relay's log grows by the post or its hint and what came of it, and then by nothing.
    assert!(after.0.0 - before.0.0 <= 4 && after.1.0 - before.1.0 <= 4, "{before:?} {after:?}");
    assert!(crate::support::receipts_of(&poster, &post.id).is_empty(), "it does not come home");
    let common_got = crate::support::receipts_of(&common, &post.id).len();
    assert!(common_got <= 2, "each relay brings it once, not {common_got} times");
}

/// Who only passes things on may name any activity id it likes: that must not use up the author's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_followed_server_cannot_keep_an_authors_post_away() {
    let relay = TestRelay::start().await;
    let (author, reader) =
        (relay.joined(Family::Mastodon, "author").await, relay.joined(Family::Mastodon, "reader").await);
    let carrier = Instance::start(Family::Akkoma, Options::default()).await.unwrap();
    relay
        .relay()
        .follow(&carrier.actor(&As::Server), Style::Litepub, &Act::local("a test"))
        .await
        .expect("a Follow is sent");
    let post = author.compose(&shearwater::demo::PostSpec::public("mine"));
    let mut forged = post.activity.clone();
    forged["object"] = format!("{}/notes/missing", author.origin()).into();
    let url = Some(format!("{}/inbox", relay.url()));
    let sent = carrier.send_raw(forged.to_string(), &As::Server, &Tweaks { url, ..Tweaks::default() }).await.unwrap();
    assert_eq!(sent.status, 202);
    author.send(&post).await.expect("an answer");
    arrival(&reader, &post.id).await;
}

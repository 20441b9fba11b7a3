//! Nothing acknowledged is lost, and nobody is held up by another.

use std::time::Duration;

use shearwater::delivery::LaneState;
use shearwater::demo::{Family, Fault, Instance, Options};

use crate::support::{LONG, TestRelay, arrival, authority, eventually, publish, receipts_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_answers_500_for_a_while_gets_everything_once() {
    let relay = TestRelay::start().await;
    let (poster, troubled) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Akkoma, "troubled").await);
    troubled.set_fault(Fault::Status(500));
    let mut posts = Vec::new();
    for number in 0..5 {
        posts.push(publish(&poster, &format!("while it is in trouble {number}")).await);
    }
    eventually("a failure is seen", || !troubled.received().is_empty()).await;
    troubled.set_fault(Fault::None);
    for post in &posts {
        arrival(&troubled, &post.id).await;
    }
    let marker = publish(&poster, "a marker").await;
    arrival(&troubled, &marker.id).await;
    for post in &posts {
        let taken = receipts_of(&troubled, &post.id).into_iter().filter(|one| one.outcome.is_taken()).count();
        assert_eq!(taken, 1, "{}", post.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_or_silent_subscriber_delays_nobody() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let healthy = relay.joined(Family::Mastodon, "healthy").await;
    let (dead, silent) = (relay.joined(Family::Mastodon, "dead").await, relay.joined(Family::Misskey, "silent").await);
    dead.kill().await;
    silent.set_fault(Fault::Silent);
    for number in 0..20 {
        let post = publish(&poster, &format!("not held up {number}")).await;
        arrival(&healthy, &post.id).await;
    }
    dead.revive().await.expect("the port is free");
    let post = publish(&poster, "after it came back").await;
    arrival(&dead, &post.id).await;
}

/// A subscriber that is down while the relay is restarted gets what it missed; those that were up get nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resumes_where_each_subscriber_stood() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let (up, down) = (relay.joined(Family::Mastodon, "up").await, relay.joined(Family::Misskey, "down").await);
    down.kill().await;
    let mut posts = Vec::new();
    for number in 0..10 {
        posts.push(publish(&poster, &format!("kept {number}")).await);
    }
    for post in &posts {
        arrival(&up, &post.id).await;
    }
    let relay = relay.restart().await;
    down.revive().await.expect("the port is free");
    for post in &posts {
        arrival(&down, &post.id).await;
    }
    let marker = publish(&poster, "after the restart").await;
    arrival(&up, &marker.id).await;
    for post in &posts {
        assert_eq!(receipts_of(&up, &post.id).len(), 1, "nothing twice after a good stop");
    }
    drop(relay);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let relay = TestRelay::start().await;
    let (poster, busy) = (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "busy").await);
    busy.set_fault(Fault::Busy { status: 429, retry_after: 2 });
    let post = publish(&poster, "not so fast").await;
    eventually("the first attempt", || {
        !receipts_of(&busy, &post.id).is_empty() || busy.received().iter().any(|one| one.status == 429)
    })
    .await;
    let first = busy.received().into_iter().find(|one| one.status == 429).expect("a refusal").at;
    busy.set_fault(Fault::None);
    let second = arrival(&busy, &post.id).await.into_iter().find(|one| one.outcome.is_taken()).expect("taken").at;
    assert!(second.since(first) >= Duration::from_millis(1900), "it waited {:?}", second.since(first));
}

/// A server that wants RFC 9421 answers 401 to the first knock; the second one is remembered.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_knock_is_remembered() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let modern = relay
        .joined_with(Family::Mastodon, Options { name: "modern".to_owned(), rfc9421: true, ..Options::default() })
        .await;
    let post = publish(&poster, "knock knock").await;
    arrival(&modern, &post.id).await;
    eventually("it is remembered", || {
        relay.relay().facts(&authority(&modern)).is_ok_and(|facts| facts.scheme.is_some())
    })
    .await;
    let knocks = |instance: &Instance| instance.received().iter().filter(|one| one.status == 401).count();
    let before = knocks(&modern);
    for number in 0..5 {
        let post = publish(&poster, &format!("and again {number}")).await;
        arrival(&modern, &post.id).await;
    }
    assert_eq!(knocks(&modern), before, "no first knock in vain");
}

/// Answers that are final for one message are no reason to stop the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_refused_for_good_is_not_repeated() {
    let relay = TestRelay::start().await;
    let (poster, picky) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::GoToSocial, "picky").await);
    // The relay follows it back: that must not run into the fault.
    eventually("the Follow in return", || picky.received().iter().any(|one| one.kind == "Follow")).await;
    for status in [404, 413, 422, 501] {
        picky.set_fault(Fault::Status(status));
        let post = publish(&poster, &format!("refused with {status}")).await;
        eventually("the refusal", || {
            picky.received().iter().any(|one| one.object.as_deref() == Some(post.id.as_str()) || one.status == status)
        })
        .await;
        picky.set_fault(Fault::None);
        let marker = publish(&poster, "a marker").await;
        assert!(
            picky
                .wait_received(LONG, |all| all
                    .iter()
                    .any(|one| one.object.as_deref() == Some(marker.id.as_str()) && one.outcome.is_taken()))
                .await
        );
        let attempts = picky.received().into_iter().filter(|one| one.status == status).count();
        assert_eq!(attempts, 1, "{status}");
    }
}

/// Endless and dripping answers cost a bounded number of bytes and seconds.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_cut_short() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let (endless, healthy) =
        (relay.joined(Family::Mastodon, "endless").await, relay.joined(Family::Mastodon, "healthy").await);
    for fault in [Fault::Endless, Fault::Drip, Fault::Html] {
        endless.set_fault(fault.clone());
        let post = publish(&poster, "read this if you can").await;
        arrival(&healthy, &post.id).await;
    }
    endless.set_fault(Fault::None);
    let post = publish(&poster, "and now properly").await;
    arrival(&endless, &post.id).await;
}

/// A subscriber that was down gets no post that was deleted meanwhile: it would come after its own deletion.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_a_subscriber_was_down_is_not_brought_to_it() {
    let relay = TestRelay::start().await;
    let (poster, down) = (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "down").await);
    down.kill().await;
    let (gone, stays) = (publish(&poster, "regretted").await, publish(&poster, "kept").await);
    let lane = || {
        let lanes = relay.server.app().state.delivery.lanes();
        lanes.into_iter().find(|lane| lane.authority == authority(&down)).expect("a lane")
    };
    eventually("it was tried", || lane().state == LaneState::Failing).await;
    poster.delete(&gone.id).await.expect("an answer");
    // What left before the deletion came may arrive: it comes before it.
    eventually("nothing is under way to it", || lane().in_flight == 0).await;
    down.revive().await.expect("the port is free");
    arrival(&down, &stays.id).await;
    let marker = publish(&poster, "a marker").await;
    arrival(&down, &marker.id).await;
    let kinds: Vec<String> = receipts_of(&down, &gone.id).into_iter().map(|one| one.kind).collect();
    assert!(!kinds.iter().any(|kind| kind == "Create" || kind == "Announce"), "{kinds:?}");
}

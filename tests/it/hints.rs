//! What is only heard of is read from its origin, in the background, and a slow origin holds up nobody but itself.

use std::time::Duration;

use serde_json::json;
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Admission;
use shearwater::demo::{As, Family, Fault, Instance, Options, PostSpec, Where};
use shearwater::relay::housekeeping::Housekeeping;
use shearwater::relay::resolver::WaitingHint;
use shearwater::store::{Act, StoreError, SubscriberState};
use shearwater::supervise::Worker as _;
use tokio::task::JoinSet;

use crate::support::{LONG, TestRelay, arrival, authority, eventually, publish, receipts_of, silence_about};

/// Shorter than what a slow server costs here, longer than anything else takes on a busy machine.
const SOON: Duration = Duration::from_secs(15);

fn now() -> Timestamp {
    Clock::system().now()
}

fn hints_kept(relay: &TestRelay) -> usize {
    relay.store().all::<WaitingHint>().expect("the store reads").len()
}

/// The resolver stands behind the last entry of the log.
fn nothing_in_the_log_waits(relay: &TestRelay) -> bool {
    let next = relay.store().worker_cursor("resolver").expect("the store reads");
    next == Some(relay.server.app().state.log.head().next())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_slow_objects_hold_up_neither_the_log_nor_another_servers_hint() {
    let relay = TestRelay::start_with(|config| config.fetch.timeout = Duration::from_secs(60)).await;
    let (slow, quick) =
        (relay.joined(Family::GoToSocial, "slow").await, relay.joined(Family::GoToSocial, "quick").await);
    let reader = relay.joined(Family::Mastodon, "reader").await;
    slow.set_fault_at(Where::Documents, Fault::Silent);
    let mut posts = Vec::new();
    for number in 0..100 {
        posts.push(publish(&slow, &format!("slow {number}")).await);
    }
    eventually("the hints are in rows", || hints_kept(&relay) == 100 && nothing_in_the_log_waits(&relay)).await;
    let sent = now();
    let post = publish(&quick, "quick").await;
    arrival(&reader, &post.id).await;
    let took = now().since(sent);
    assert!(took < SOON, "it waited {took:?} for a server that it has nothing to do with");
    eventually("the log can be trimmed", || nothing_in_the_log_waits(&relay)).await;
    assert_eq!(hints_kept(&relay), 100);

    // What was heard of survives a restart, and is read once its server answers.
    let relay = relay.restart().await;
    slow.set_fault_at(Where::Documents, Fault::None);
    for post in &posts[90..] {
        arrival(&reader, &post.id).await;
    }
    eventually("all of them are read", || hints_kept(&relay) == 0).await;
}

/// How often the document with this id was asked for.
fn fetches(instance: &Instance, id: &str) -> u64 {
    let path = id.strip_prefix(instance.origin()).expect("its own post");
    instance.fetches().get(path).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_heard_of_again_before_it_is_read_is_read_once() {
    let relay = TestRelay::start().await;
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    akkoma.set_fault_at(Where::Documents, Fault::Slow(Duration::from_secs(4)));
    let mut composed = akkoma.compose(&PostSpec::public("said three times"));
    for number in 0..3 {
        composed.activity["id"] = json!(format!("{}/activities/again-{number}", akkoma.origin()));
        assert_eq!(akkoma.send(&composed).await.expect("an answer").status(), 202);
    }
    let outcome = |word: &str| relay.metric(&format!("shearwater_hints_total{{outcome=\"{word}\"}}"));
    eventually("it is relayed", || outcome("relayed") == 1.0 && hints_kept(&relay) == 0).await;
    assert_eq!((outcome("queued-before"), fetches(&akkoma, &composed.id)), (2.0, 1));
}

/// The answer may have been written before the change: a deletion that is heard of just then must not be lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_heard_of_a_relayed_post_while_it_is_read_makes_it_read_once_more() {
    let relay = TestRelay::start().await;
    let gotosocial = relay.joined(Family::GoToSocial, "gotosocial").await;
    let post = publish(&gotosocial, "changes often").await;
    eventually("it is relayed", || relay.metric("shearwater_hints_total{outcome=\"relayed\"}") == 1.0).await;
    assert_eq!(fetches(&gotosocial, &post.id), 1);
    gotosocial.set_fault_at(Where::Documents, Fault::Slow(Duration::from_secs(4)));
    gotosocial.edit(&post.id, "an edit").await.expect("an answer");
    eventually("it is being read again", || fetches(&gotosocial, &post.id) == 2).await;
    gotosocial.edit(&post.id, "another one").await.expect("an answer");
    eventually("it is read once more", || fetches(&gotosocial, &post.id) == 3).await;
    eventually("that is all", || hints_kept(&relay) == 0 && nothing_in_the_log_waits(&relay)).await;
    assert_eq!(fetches(&gotosocial, &post.id), 3);
}

/// The same before it was ever relayed: a change or deletion must not be lost because the first reading began before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_heard_of_while_a_post_is_first_read_is_not_lost() {
    let relay = TestRelay::start().await;
    let gotosocial = relay.joined(Family::GoToSocial, "gotosocial").await;
    gotosocial.set_fault_at(Where::Documents, Fault::Slow(Duration::from_secs(4)));
    let post = publish(&gotosocial, "regretted at once").await;
    eventually("it is being read", || fetches(&gotosocial, &post.id) == 1).await;
    let edited = gotosocial.edit(&post.id, "an edit").await.expect("an answer");
    assert_eq!(edited.status(), 202);
    let rechecks = || relay.metric("shearwater_inbound_total{reason=\"recheck\"");
    assert_eq!(rechecks(), 1.0, "{}", relay.server.app().state.metrics.render());
    eventually("it is read once more", || fetches(&gotosocial, &post.id) == 2).await;
    eventually("that is all", || hints_kept(&relay) == 0 && nothing_in_the_log_waits(&relay)).await;
    assert_eq!(fetches(&gotosocial, &post.id), 2);
}

/// B7: a relay needs no collections, so it walks none, however it is led to one.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_not_walked_and_nothing_a_post_names_is_fetched() {
    let relay = TestRelay::start().await;
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let mut composed = akkoma.compose(&PostSpec::public("announced is a collection"));
    let outbox = format!("{}/outbox", akkoma.actor(&As::Author("ada".to_owned())));
    composed.activity["object"] = json!(outbox);
    let before = akkoma.fetches();
    assert_eq!(akkoma.send(&composed).await.expect("an answer").status(), 202);
    let refused = || relay.metric("shearwater_hints_total{outcome=\"object-kind-not-relayed\"}") == 1.0;
    eventually("it is read and put away", refused).await;
    let mut after = akkoma.fetches();
    after.retain(|path, count| before.get(path) != Some(count));
    let path = outbox.strip_prefix(akkoma.origin()).expect("its own").to_owned();
    assert_eq!(after.into_iter().collect::<Vec<_>>(), [(path, 1)], "the collection itself, and no page of it");
    silence_about(&outbox, &akkoma, &[&reader]).await;
}

/// A server may announce a way to a post, such as its page: the post is relayed under its own id, and once.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_announced_under_another_id_is_relayed_under_its_own() {
    let relay = TestRelay::start().await;
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let composed = akkoma.compose(&PostSpec::public("known by two names"));
    let alias = format!("{}?from=timeline", composed.id);
    for (number, object) in [&alias, &composed.id, &alias].into_iter().enumerate() {
        let mut again = composed.clone();
        again.activity["id"] = json!(format!("{}/activities/alias-{number}", akkoma.origin()));
        again.activity["object"] = json!(object);
        assert_eq!(akkoma.send(&again).await.expect("an answer").status(), 202);
        arrival(&reader, &composed.id).await;
    }
    eventually("the hints are read", || hints_kept(&relay) == 0 && nothing_in_the_log_waits(&relay)).await;
    silence_about(&alias, &akkoma, &[&reader]).await;
    assert_eq!(receipts_of(&reader, &composed.id).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_whose_software_cannot_be_read_hold_up_no_joiner() {
    let clock = Clock::manual(now());
    let relay = TestRelay::start_at(clock.clone(), |config| config.fetch.timeout = Duration::from_secs(20)).await;
    let options = |name: String| Options { name, clock: clock.clone(), ..Options::default() };
    let mut slow = Vec::new();
    for number in 0..8 {
        slow.push(relay.joined_with(Family::Mastodon, options(format!("slow {number}"))).await);
    }
    clock.advance(Duration::from_secs(25 * 3600));
    for one in &slow {
        one.set_fault_at(Where::Documents, Fault::Silent);
    }
    let asked = |one: &&Instance| one.fetches().get("/.well-known/nodeinfo").is_some_and(|count| *count > 1);
    // The first one that joins wakes the survey, which is then busy with the others.
    relay.joined_with(Family::Mastodon, options("first".to_owned())).await;
    eventually("they are looked at again", || slow.iter().filter(asked).count() >= 7).await;
    let began = now();
    relay.joined_with(Family::Mastodon, options("second".to_owned())).await;
    let took = now().since(began);
    assert!(took < SOON, "it waited {took:?} for an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_not_answered_for_a_month_is_forgotten() {
    let clock = Clock::manual(now());
    let relay = TestRelay::start_at(clock.clone(), |config| config.relay.admission = Admission::Approval).await;
    let options = |name: &str| Options { name: name.to_owned(), clock: clock.clone(), ..Options::default() };
    let waits = Instance::start(Family::Mastodon, options("waits")).await.expect("an instance");
    let member = Instance::start(Family::Misskey, options("member")).await.expect("an instance");
    for one in [&waits, &member] {
        one.join(relay.url()).await.expect("an answer");
        let host = authority(one);
        let pending = || relay.store().subscriber(&host).is_some_and(|one| one.state == SubscriberState::Pending);
        eventually("it waits", pending).await;
    }
    relay.relay().approve(&authority(&member), &Act::local("a test")).await.expect("approved");
    clock.advance(Duration::from_secs(29 * 24 * 3600));
    relay.relay().tidy().await.expect("tidied");
    assert!(relay.store().subscriber(&authority(&waits)).is_some());
    clock.advance(Duration::from_secs(2 * 24 * 3600));
    relay.relay().tidy().await.expect("tidied");
    assert!(relay.store().subscriber(&authority(&waits)).is_none());
    assert!(relay.store().subscriber(&authority(&member)).is_some_and(|one| one.is_active()));
}

/// The writer is held and its queue filled while a hint, a look and a round of housekeeping want to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_busy_for_a_moment_makes_no_worker_fall() {
    let relay = TestRelay::start().await;
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let joiner = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    for one in [&akkoma, &joiner] {
        one.set_fault_at(Where::Documents, Fault::Slow(Duration::from_secs(2)));
    }
    joiner.join(relay.url()).await.expect("an answer");
    let post = publish(&akkoma, "read while the store is busy").await;
    eventually("the hint is being read", || fetches(&akkoma, &post.id) == 1).await;
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = tokio::sync::oneshot::channel();
    let mut writes = JoinSet::new();
    let store = relay.store().clone();
    writes.spawn(async move {
        let hold = move |_tx: &mut shearwater::store::Tx<'_>| {
            let _ = begin.send(());
            Ok(held.recv().is_err())
        };
        store.write(hold).await.map(|_gone| ())
    });
    begun.await.expect("the writer is held");
    for _ in 0..4000 {
        let store = relay.store().clone();
        writes.spawn(async move { store.write(|_tx| Ok(())).await });
    }
    let refused = writes.join_next().await.expect("they are many").expect("no panic");
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    let mut housekeeping = Housekeeping::new(relay.relay().clone());
    housekeeping.work().await.expect("busy is no failure");
    // No sign tells that a write was refused: longer than the origins take.
    tokio::time::sleep(Duration::from_secs(5)).await;
    release.send(()).expect("the writer waits");
    arrival(&reader, &post.id).await;
    assert!(joiner.wait_accepted(LONG).await);
    let status = relay.server.app().supervisor().status();
    for name in ["resolver", "survey", "housekeeping", "refusals"] {
        assert_eq!((status[name].restarts, &status[name].last_error), (0, &None), "{name}");
    }
}

//! The simulated fediverse against a stub relay and against hand-made requests: it is satisfied by what is right and
//! sees what is wrong.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use url::Url;

use super::client::Loopback;
use super::run::{Plan, run_against};
use super::stub_relay::StubRelay;
use super::{
    As, Family, Fault, Instance, Options, Outcome, PostSpec, Promise, Rotation, Show, Standing, Swarm, SwarmOptions,
    Tweaks, Via, Visibility, sign,
};
use crate::clock::Clock;

const LIMIT: Duration = Duration::from_secs(10);

async fn joined(family: Family, options: Options, relay: &StubRelay) -> Instance {
    let instance = Instance::start(family, options).await.expect("a loopback port");
    let answer = instance.join(relay.url()).await.expect("an answer");
    assert_eq!(answer.status, 202, "{family:?}");
    assert!(instance.wait_accepted(LIMIT).await, "{family:?}: {:?}", instance.received());
    instance
}

fn named(name: &str) -> Options {
    Options { name: name.to_owned(), ..Options::default() }
}

fn small(broken: Option<Promise>) -> Plan {
    let limit = Some(Duration::from_secs(40));
    Plan { instances: 10, posts: 48, rate: 60.0, limit, broken, show: Show::Nothing }
}

#[tokio::test]
async fn every_family_joins_posts_and_is_reached_by_the_others() {
    let relay = StubRelay::start().await;
    let mut instances = Vec::new();
    for family in Family::ALL {
        instances.push(joined(family, named(family.software()), &relay).await);
    }
    assert!(instances[2].wait_followed_back(LIMIT).await);
    for instance in &instances {
        let posted = instance.post(PostSpec::public("hello")).await.expect("an answer");
        assert_eq!(posted.status(), 202, "{}", instance.name());
        let here = |post: &super::Shown| post.id == posted.id && post.standing == Standing::Shown;
        for other in instances.iter().filter(|other| other.name() != instance.name()) {
            let came = async {
                while !other.shown().iter().any(here) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let came = tokio::time::timeout(LIMIT, came).await;
            assert!(came.is_ok(), "{} at {}: {:?}", posted.id, other.name(), other.shown());
        }
    }
    let forwarded = instances[0].shown().into_iter().filter(|post| post.via == Via::Forward).count();
    assert_eq!(forwarded, 2, "Misskey's and Friendica's bear signatures");
}

#[tokio::test]
async fn a_run_with_a_good_relay_keeps_every_promise() {
    let relay = StubRelay::start().await;
    let (summary, _scenario) = run_against(&small(None), relay.url()).await.expect("a run");
    assert!(summary.kept, "{summary}");
    assert_eq!(summary.deliveries.expected, summary.deliveries.received + summary.deliveries.missing);
    assert!(summary.deliveries.received > 100, "{summary}");
    let posts = &summary.posts;
    assert_eq!(posts.made, posts.public + posts.unlisted + posts.followers + posts.direct);
    assert!(posts.edits > 0 && posts.deletions > 0 && posts.boosts > 0, "{summary}");
}

async fn breaks(promise: Promise) {
    let relay = StubRelay::start().await;
    let plan = Plan { limit: Some(Duration::from_secs(14)), ..small(Some(promise)) };
    let (summary, _scenario) = run_against(&plan, relay.url()).await.expect("a run");
    let broken: Vec<_> = summary.promises.iter().filter(|kept| !kept.kept).map(|kept| kept.name).collect();
    assert!(!summary.kept && broken.contains(&promise), "{promise} was to break: {summary}");
}

#[tokio::test]
async fn every_promise_can_be_seen_to_break() {
    let mut runs = tokio::task::JoinSet::new();
    // The stub has no search: that promise is broken where the demo is run as its user runs it.
    for promise in Promise::ALL.into_iter().filter(|promise| *promise != Promise::Consent) {
        runs.spawn(breaks(promise));
    }
    while let Some(run) = runs.join_next().await {
        run.expect("a run that broke its promise");
    }
}

#[tokio::test]
async fn a_lie_of_any_kind_is_refused_and_written_down() {
    let relay = StubRelay::start().await;
    let misskey = joined(Family::Misskey, named("misskey"), &relay).await;
    let client = Loopback::new();
    let check = async |tweaks: Tweaks, outcome: Outcome, status: u16| {
        let body = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/a", relay.url()),
                           "type": "Announce", "actor": format!("{}/actor", relay.url()), "object": "x" });
        let url = Url::parse(&format!("{}/inbox", misskey.origin())).expect("a URL");
        let profile = Family::Misskey.profile();
        let now = Clock::system().now();
        let letter = sign::post(url, Bytes::from(body.to_string()), &relay.signer(), profile, now, &tweaks);
        assert_eq!(client.send(letter).await.expect("an answer").status, status, "{outcome:?}");
        assert_eq!(misskey.received().last().map(|receipt| receipt.outcome), Some(outcome));
    };
    let plain = Tweaks::default;
    let late = Clock::system().now().minus(Duration::from_secs(301));
    check(Tweaks { unsigned: true, ..plain() }, Outcome::Unsigned, 401).await;
    check(Tweaks { spoilt: true, ..plain() }, Outcome::BadSignature, 202).await;
    check(Tweaks { date: Some(late), ..plain() }, Outcome::Date, 401).await;
    check(Tweaks { body_swapped: Some(Bytes::from("{}")), ..plain() }, Outcome::Digest, 401).await;
    check(Tweaks { host: Some("elsewhere.example".to_owned()), ..plain() }, Outcome::Host, 401).await;
    check(Tweaks { key_id: Some(format!("{}/nobody#k", relay.url())), ..plain() }, Outcome::Key, 202).await;
    check(Tweaks { profile: Some(Family::modern_profile()), ..plain() }, Outcome::OtherProfile, 401).await;
    let covered = Some(vec!["(request-target)".to_owned(), "date".to_owned(), "digest".to_owned()]);
    check(Tweaks { covered, ..plain() }, Outcome::Uncovered, 401).await;
    check(plain(), Outcome::Post, 202).await;
}

#[tokio::test]
async fn a_secure_instance_shows_its_posts_to_signed_requests_only() {
    let secure = Options { secure_mode: true, ..named("secure") };
    let secure = Instance::start(Family::Mastodon, secure).await.expect("a port");
    let other = Instance::start(Family::GoToSocial, named("gts")).await.expect("a port");
    let post = secure.compose(&PostSpec::public("hello"));
    assert!(!post.embedded, "secure mode signs no new posts");
    let url = Url::parse(&post.id).expect("a URL");
    let plain = Loopback::new().get(url, "application/activity+json").await.expect("an answer");
    assert_eq!(plain.status, 401);
    assert_eq!(other.fetch(&post.id).await.expect("an answer").status, 200);
    let actor = Url::parse(&secure.actor(&As::Server)).expect("a URL");
    let plain = Loopback::new().get(actor, "application/activity+json").await.expect("an answer");
    assert_eq!(plain.status, 200, "or two secure servers could never meet");
    let private = secure.compose(&PostSpec::public("psst").visible_to(Visibility::Followers));
    assert_eq!(other.fetch(&private.id).await.expect("an answer").status, 404);
    assert!(secure.compose_deletion(&post.id).is_some_and(|deletion| deletion.embedded));
    assert_eq!(other.fetch(&post.id).await.expect("an answer").status, 410);
}

#[tokio::test]
async fn an_instance_dies_falters_and_comes_back() {
    let relay = StubRelay::start().await;
    let reader = joined(Family::Mastodon, named("reader"), &relay).await;
    let writer = joined(Family::Misskey, named("writer"), &relay).await;
    reader.set_fault(Fault::Busy { status: 429, retry_after: 1 });
    let first = writer.post(PostSpec::public("one")).await.expect("an answer");
    let faults = |outcome: Outcome| move |all: &[super::Receipt]| all.iter().any(|one| one.outcome == outcome);
    assert!(reader.wait_received(LIMIT, faults(Outcome::Fault)).await);
    reader.kill().await;
    assert!(writer.fetch(&format!("{}/actor", reader.origin())).await.is_err());
    reader.set_fault(Fault::None);
    reader.revive().await.expect("the same port");
    assert!(reader.wait_received(LIMIT, faults(Outcome::Post)).await);
    assert!(reader.shown().iter().any(|post| post.id == first.id));
}

#[tokio::test]
async fn a_rotated_key_is_found_by_asking_again_unless_it_is_kept_secret() {
    let reader = Instance::start(Family::Akkoma, named("reader")).await.expect("a port");
    let writer = Instance::start(Family::Misskey, named("writer")).await.expect("a port");
    let ada = As::Author("ada".to_owned());
    let check = async |outcome: Outcome| {
        let tweaks = Tweaks { url: Some(format!("{}/inbox", reader.origin())), ..Tweaks::default() };
        let body = json!({ "type": "Create", "actor": writer.actor(&ada) }).to_string();
        writer.send_raw(body, &ada, &tweaks).await.expect("an answer");
        assert_eq!(reader.received().last().map(|receipt| receipt.outcome), Some(outcome));
    };
    check(Outcome::Ignored).await;
    writer.rotate_key(&ada, Rotation::Published);
    check(Outcome::Ignored).await;
    writer.rotate_key(&ada, Rotation::Secret);
    check(Outcome::BadSignature).await;
}

#[tokio::test]
async fn a_swarm_joins_and_counts() {
    let relay = StubRelay::start().await;
    let swarm = Swarm::start(20, SwarmOptions::default()).await.expect("a port");
    assert_eq!(swarm.join_all(relay.url(), 8).await.expect("answers"), 20);
    assert!(swarm.wait_accepted(20, LIMIT).await);
    let writer = joined(Family::Mastodon, named("writer"), &relay).await;
    writer.post(PostSpec::public("hello")).await.expect("an answer");
    assert!(swarm.wait_received(20, LIMIT).await);
    assert!(swarm.per_subscriber().iter().all(|count| *count == 1));
}

//! What the inbox answers, and that a refusal says why, keeps nothing, and asks nobody more than once.

use std::sync::Arc;
use std::time::Duration;

use shearwater::clock::Clock;
use shearwater::demo::{
    Answer, As, Family, Fault, Instance, Options, PostSpec, Profile, Receipt, Rotation, Tweaks, Where,
};
use shearwater::store::Refusal;

use crate::support::{LIKE, TestRelay, arrival, eventually, json, publish, silence_about};

struct Scene {
    relay: TestRelay,
    sender: Instance,
    reader: Instance,
}

impl Scene {
    async fn set() -> Self {
        let relay = TestRelay::start().await;
        let (sender, reader) =
            (relay.joined(Family::Mastodon, "sender").await, relay.joined(Family::Mastodon, "reader").await);
        Self { relay, sender, reader }
    }

    /// Sends a good post with one thing wrong; it must be refused like this and reach nobody.
    async fn refused(&self, what: &str, tweaks: Tweaks, status: u16, check: &str) {
        let composed = self.sender.compose(&PostSpec::public(what));
        let answer =
            self.sender.send_raw(composed.activity.to_string(), &composed.signer, &tweaks).await.expect("an answer");
        assert_problem(what, &answer, status, check);
        silence_about(&composed.id, &self.sender, &[&self.reader]).await;
    }

    async fn send(&self, body: impl Into<bytes::Bytes>) -> Answer {
        self.sender.send_raw(body, &As::Author("ada".to_owned()), &Tweaks::default()).await.expect("an answer")
    }
}

fn assert_problem(what: &str, answer: &Answer, status: u16, check: &str) {
    assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = json(&answer.body);
    assert_eq!(problem["check"], check, "{what}: {problem}");
    for member in ["detail", "remedy", "title", "error"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{what}: {member} in {problem}");
    }
    assert_eq!(problem["status"], status, "{what}");
}

fn covered(names: &[&str]) -> Tweaks {
    Tweaks { covered: Some(names.iter().map(ToString::to_string).collect()), ..Tweaks::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_get_the_signature_wrong_is_a_401_that_names_it() {
    let scene = Scene::set().await;
    let now = Clock::system().now();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    scene.refused("unsigned", Tweaks { unsigned: true, ..Tweaks::default() }, 401, "unsigned").await;
    scene.refused("spoilt", Tweaks { spoilt: true, ..Tweaks::default() }, 401, "signature").await;
    scene.refused("another key", Tweaks { signed_with: Some(1), ..Tweaks::default() }, 401, "signature").await;
    let other = bytes::Bytes::from_static(b"{\"type\":\"Create\"}");
    scene.refused("body swapped", Tweaks { body_swapped: Some(other), ..Tweaks::default() }, 401, "digest").await;
    let digest = Some("SHA-256=AAAA".to_owned());
    scene.refused("false digest", Tweaks { digest, ..Tweaks::default() }, 401, "digest").await;
    scene.refused("two hours old", Tweaks { date: Some(now.minus(hours(2))), ..Tweaks::default() }, 401, "date").await;
    scene.refused("two hours ahead", Tweaks { date: Some(now.plus(hours(2))), ..Tweaks::default() }, 401, "date").await;
    scene
        .refused(
            "for another host",
            Tweaks { host: Some("other.example".to_owned()), ..Tweaks::default() },
            401,
            "host",
        )
        .await;
    for missing in ["(request-target)", "host", "date", "digest"] {
        let names: Vec<&str> =
            ["(request-target)", "host", "date", "digest"].into_iter().filter(|one| *one != missing).collect();
        scene.refused(&format!("without {missing}"), covered(&names), 401, "coverage").await;
    }
    let without = Tweaks { without: vec!["date".to_owned()], ..Tweaks::default() };
    let composed = scene.sender.compose(&PostSpec::public("date covered but not there"));
    let answer = scene.sender.send_raw(composed.activity.to_string(), &composed.signer, &without).await.unwrap();
    assert_eq!(answer.status, 401);
    let nowhere =
        Tweaks { key_id: Some(format!("{}/users/nobody#main-key", scene.sender.origin())), ..Tweaks::default() };
    scene.refused("a key that is not there", nowhere, 503, "key-unreadable").await;
    let odd = Tweaks { key_id: Some("not a url".to_owned()), ..Tweaks::default() };
    let composed = scene.sender.compose(&PostSpec::public("odd key id"));
    let answer = scene.sender.send_raw(composed.activity.to_string(), &composed.signer, &odd).await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_get_the_body_wrong_is_refused_before_anything_is_kept() {
    let scene = Scene::set().await;
    let actor = scene.sender.actor(&As::Author("ada".to_owned()));
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let wide = format!("[{}1]", "1,".repeat(20_001));
    let rows: Vec<(&str, String, u16, &str)> = vec![
        ("not JSON", "hello".to_owned(), 400, "json"),
        ("cut short", "{\"type\":\"Create\"".to_owned(), 400, "json"),
        ("trailing bytes", "{} {}".to_owned(), 400, "json"),
        (
            "duplicate keys",
            format!("{{\"type\":\"Create\",\"actor\":\"{actor}\",\"actor\":\"https://b.example/1\"}}"),
            400,
            "json",
        ),
        ("too deep", format!("{{\"type\":\"Create\",\"x\":{deep}}}"), 400, "json"),
        ("too many nodes", format!("{{\"type\":\"Create\",\"x\":{wide}}}"), 400, "json"),
        ("no actor", "{\"type\":\"Create\"}".to_owned(), 400, "activity"),
        ("actor a number", "{\"type\":\"Create\",\"actor\":5}".to_owned(), 400, "activity"),
        (
            "two actors",
            format!("{{\"type\":\"Create\",\"actor\":[\"{actor}\",\"https://b.example/1\"]}}"),
            400,
            "activity",
        ),
        ("two types", format!("{{\"type\":[\"Create\",\"Delete\"],\"actor\":\"{actor}\"}}"), 400, "activity"),
        ("a graph", format!("{{\"type\":\"Create\",\"actor\":\"{actor}\",\"@graph\":[]}}"), 400, "activity"),
        ("an array", "[]".to_owned(), 400, "activity"),
    ];
    for (what, body, status, check) in rows {
        assert_problem(what, &scene.send(body).await, status, check);
    }
    let big = format!("{{\"type\":\"Create\",\"actor\":\"{actor}\",\"x\":\"{}\"}}", "x".repeat(1 << 20));
    assert_problem("over 1 MiB", &scene.send(big).await, 413, "body-size");
    let send = async |tweaks: Tweaks| {
        scene.sender.send_raw("{}", &As::Author("ada".to_owned()), &tweaks).await.expect("an answer")
    };
    let typed = |content_type: &str| Tweaks { content_type: Some(content_type.to_owned()), ..Tweaks::default() };
    assert_problem("text/html", &send(typed("text/html")).await, 415, "content-type");
    let zipped = Tweaks { headers: vec![("content-encoding".to_owned(), "gzip".to_owned())], ..Tweaks::default() };
    assert_problem("gzip", &send(zipped).await, 415, "content-encoding");
    assert_eq!(scene.relay.metric("shearwater_log_head"), 0.0, "nothing was kept");
    assert_eq!(scene.relay.metric("shearwater_panics_total"), 0.0);
}

/// What is valid and not wanted is 202: a 4xx would make Akkoma think that we are unreachable.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_valid_and_not_wanted_is_202() {
    let scene = Scene::set().await;
    let actor = scene.sender.actor(&As::Author("ada".to_owned()));
    let origin = scene.sender.origin();
    for kind in ["Like", "Flag", "Move", "Add", "EmojiReact", "Block", "Listen"] {
        let body = serde_json::json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{origin}/{kind}"), "type": kind, "actor": actor, "object": "https://b.example/1" });
        assert_eq!(scene.send(body.to_string()).await.status, 202, "{kind}");
    }
    let flag = serde_json::json!({ "id": format!("{origin}/flag"), "type": "Flag", "actor": actor, "object": ["https://b.example/1", "https://b.example/2"] });
    assert_eq!(scene.send(flag.to_string()).await.status, 202, "a report names several objects");
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
    let composed = stranger.compose(&PostSpec::public("never joined"));
    let tweaks = Tweaks { url: Some(format!("{}/inbox", scene.relay.url())), ..Tweaks::default() };
    assert_eq!(stranger.send_raw(composed.activity.to_string(), &composed.signer, &tweaks).await.unwrap().status, 202);
    silence_about(&composed.id, &scene.sender, &[&scene.reader]).await;
}

/// The sender signs as itself and writes another's name into the activity.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_speaks_in_anothers_name() {
    let scene = Scene::set().await;
    let mallory = scene.relay.joined(Family::Mastodon, "mallory").await;
    let victims = scene.sender.compose(&PostSpec::public("said by the victim"));
    let answer = mallory
        .send_raw(victims.activity.to_string(), &As::Author("ada".to_owned()), &Tweaks::default())
        .await
        .unwrap();
    assert_eq!(answer.status, 202, "a valid signature by somebody else: dropped");
    silence_about(&victims.id, &mallory, &[&scene.reader]).await;
    // Nor does that forged copy keep the real one away.
    scene.sender.send(&victims).await.expect("an answer");
    arrival(&scene.reader, &victims.id).await;
    // A post of one's own under an activity id of another origin would poison what we remember: it is dropped.
    let mut poison = mallory.compose(&PostSpec::public("poison"));
    let next = scene.sender.compose(&PostSpec::public("the victim's next post"));
    poison.activity["id"] = next.activity_id.clone().into();
    assert_eq!(
        mallory.send_raw(poison.activity.to_string(), &poison.signer, &Tweaks::default()).await.unwrap().status,
        202
    );
    scene.sender.send(&next).await.expect("an answer");
    arrival(&scene.reader, &next.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_server_is_told_so_and_never_asked_for_its_key() {
    let relay = TestRelay::start_with(|config| config.policy.block = vec!["127.0.0.1".to_owned()]).await;
    let blocked = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
    let answer = blocked.join(relay.url()).await.expect("an answer");
    assert_problem("blocked", &answer, 403, "blocked");
    assert!(!blocked.fetches().keys().any(|path| path.starts_with("/actor")), "{:?}", blocked.fetches());
}

/// There are very many deletions of accounts that nobody here ever heard of: they cost no fetch and no signature work.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_an_unknown_actor_costs_nothing() {
    let scene = Scene::set().await;
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
    let actor = stranger.actor(&As::Author("ada".to_owned()));
    let body =
        serde_json::json!({ "id": format!("{actor}#delete"), "type": "Delete", "actor": actor, "object": actor });
    for unsigned in [true, false] {
        let tweaks = Tweaks {
            unsigned,
            spoilt: !unsigned,
            url: Some(format!("{}/inbox", scene.relay.url())),
            ..Tweaks::default()
        };
        let answer = stranger.send_raw(body.to_string(), &As::Author("ada".to_owned()), &tweaks).await.unwrap();
        assert_eq!(answer.status, 202);
    }
    assert!(stranger.fetches().is_empty(), "{:?}", stranger.fetches());
}

/// What was read of an actor may be lost at any time; that it joined may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_who_joined_is_heard_even_when_nothing_is_left_of_what_was_read_of_it() {
    let Scene { relay, sender, reader } = Scene::set().await;
    let relay =
        relay.restart_after(|data_dir| std::fs::remove_dir_all(data_dir.join("cache")).expect("it was there")).await;
    let actor = sender.actor(&As::Server);
    let deletion = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{actor}#delete"), "type": "Delete",
        "actor": actor, "to": ["https://www.w3.org/ns/activitystreams#Public"], "object": actor,
        "signature": { "type": "RsaSignature2017", "creator": sender.key_id(&As::Server), "signatureValue": "x" },
    });
    let answer = sender.send_raw(deletion.to_string(), &As::Server, &Tweaks::default()).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"deletion-of-unknown-actor\""), 0.0);
    let told = |one: &Receipt| one.kind == "Delete" && one.object.as_deref() == Some(actor.as_str());
    eventually("the reader is told", || reader.received().iter().any(told)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_read_once_and_believed() {
    let scene = Scene::set().await;
    let author = As::Author("ada".to_owned());
    publish(&scene.sender, "with the old key").await;
    scene.sender.rotate_key(&author, Rotation::Published);
    let post = publish(&scene.sender, "with the new key").await;
    arrival(&scene.reader, &post.id).await;
}

/// Ten thousand bad signatures would be ten thousand fetches at somebody's door.
#[tokio::test(flavor = "multi_thread")]
async fn bad_signatures_make_at_most_one_second_look_at_the_key() {
    // Nobody else here: a reader would look at the author too.
    let relay = TestRelay::start().await;
    let sender = relay.joined(Family::Mastodon, "sender").await;
    let author = As::Author("ada".to_owned());
    publish(&sender, "the key is known now").await;
    sender.rotate_key(&author, Rotation::Secret);
    let path = sender.actor(&author).trim_start_matches(sender.origin()).to_owned();
    let looks = || sender.fetches().get(&path).copied().unwrap_or_default();
    let before = looks();
    for number in 0..50 {
        let composed = sender.compose(&PostSpec::public(&format!("bad {number}")));
        assert_eq!(sender.send(&composed).await.unwrap().status(), 401);
    }
    assert_eq!(looks() - before, 1);
}

/// Our own trouble with a key is a 503: a 401 would make Mastodon 4.7 and Fedify knock with another profile for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_read_just_now_is_a_503_to_be_tried_again() {
    let relay = TestRelay::start().await;
    let sender = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
    sender.set_fault_at(Where::Documents, Fault::Status(500));
    let answer = sender.join(relay.url()).await.expect("an answer");
    assert_problem("key unreadable", &answer, 503, "key-unreadable");
    assert!(answer.retry_after().is_some());
}

/// Whoever names a key's address must not learn from us what answers there: port scans through a relay are an old trick.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_we_meet_where_a_key_should_be_the_answer_is_the_same_to_the_byte() {
    let relay = TestRelay::start_with(|config| {
        config.fetch.allow_private = vec!["127.0.0.1/32".parse().expect("a network")];
        config.fetch.timeout = Duration::from_secs(1);
    })
    .await;
    let sender = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let send = async |key_id: String| {
        let tweaks = Tweaks { key_id: Some(key_id), url: Some(format!("{}/inbox", relay.url())), ..Tweaks::default() };
        sender.send_raw(LIKE, &As::Server, &tweaks).await.expect("an answer")
    };
    let mut answers = Vec::new();
    for (what, fault) in [
        ("silent", Fault::Silent),
        ("500", Fault::Status(500)),
        ("403", Fault::Status(403)),
        ("401", Fault::Status(401)),
        ("410", Fault::Status(410)),
        ("404", Fault::Status(404)),
        ("429", Fault::Status(429)),
        ("hangs up", Fault::HangsUp),
        ("drips", Fault::Drip),
    ] {
        let host = Instance::start(Family::Mastodon, Options::default()).await.unwrap();
        host.set_fault_at(Where::Documents, fault);
        answers.push((what, send(format!("{}/users/ada#main-key", host.origin())).await));
    }
    answers.push(("closed", send(format!("http://{closed}/users/ada#main-key")).await));
    answers.push(("an address inside", send("http://127.0.0.9:81/users/ada#main-key".to_owned()).await));
    answers.push(("cloud metadata", send("http://169.254.169.254/latest#main-key".to_owned()).await));
    answers.push(("a name without address", send("https://nowhere.invalid/ada#main-key".to_owned()).await));
    answers.push(("a port of a system service", send("https://a.example:22/ada#main-key".to_owned()).await));
    let (_, first) = &answers[0];
    assert_problem("the first", first, 503, "key-unreadable");
    let seen = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        headers.remove("date");
        (answer.status, headers, answer.body.clone())
    };
    for (what, answer) in &answers {
        assert_eq!(seen(answer), seen(first), "{what}: {}", answer.text());
    }
}

/// E7: what a flood of requests that nobody signed makes us do at the host whose keys they name.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_made_up_keys_of_one_host_are_ten_fetches_a_second_and_one_key_a_thousand_times_is_one() {
    let relay = TestRelay::start().await;
    let victim = Arc::new(Instance::start(Family::Mastodon, Options::default()).await.unwrap());
    let (url, begun) = (format!("{}/inbox", relay.url()), std::time::Instant::now());
    let claims = |key_id: String| Tweaks { key_id: Some(key_id), url: Some(url.clone()), ..Tweaks::default() };
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (victim, tweaks) = (victim.clone(), claims(format!("{}/users/ghost-{number}#main-key", victim.origin())));
        flood.spawn(async move { victim.send_raw(LIKE, &As::Server, &tweaks).await.unwrap().status });
    }
    assert!(flood.join_all().await.into_iter().all(|status| status == 503));
    let ghosts = |name: &str| -> u64 {
        victim.fetches().iter().filter(|(path, _)| path.contains(name)).map(|(_, count)| count).sum()
    };
    let allowed = 10 + u64::try_from(begun.elapsed().as_millis()).unwrap() / 100 + 1;
    assert!((1..=allowed).contains(&ghosts("ghost-")), "{} fetches, {allowed} allowed", ghosts("ghost-"));
    let begun = std::time::Instant::now();
    let mut flood = tokio::task::JoinSet::new();
    for lane in 0..20 {
        let (victim, tweaks) = (victim.clone(), claims(format!("{}/users/phantom#main-key", victim.origin())));
        flood.spawn(async move {
            for number in 0..50 {
                let body = LIKE.replace("example/1", &format!("example/{lane}-{number}"));
                assert_eq!(victim.send_raw(body, &As::Server, &tweaks).await.unwrap().status, 503);
            }
        });
    }
    flood.join_all().await;
    let allowed = 1 + begun.elapsed().as_secs() / 60;
    assert!((1..=allowed).contains(&ghosts("phantom")), "{} fetches", ghosts("phantom"));
}

/// More than anybody reads is valid, and not wanted.
#[tokio::test(flavor = "multi_thread")]
async fn an_activity_with_too_many_addressees_or_tags_is_taken_and_not_relayed() {
    let scene = Scene::set().await;
    let entries = |most: usize| vec![serde_json::json!({ "type": "Hashtag", "name": "#x" }); most];
    let count = |reason: &str| scene.relay.metric(&format!("shearwater_inbound_total{{reason=\"{reason}\""));
    for (nth, (member, most)) in [("tag", 100), ("attachment", 32)].into_iter().enumerate() {
        let mut composed = scene.sender.compose(&PostSpec::public(member));
        composed.activity["object"][member] = entries(most + 1).into();
        assert_eq!(scene.sender.send(&composed).await.unwrap().status(), 202, "{member}");
        silence_about(&composed.id, &scene.sender, &[&scene.reader]).await;
        assert_eq!(count("object-kind-not-relayed"), nth as f64 + 1.0, "{member}");
    }
    for (nth, member) in ["to", "cc"].into_iter().enumerate() {
        let mut composed = scene.sender.compose(&PostSpec::public(member));
        let mut addressees = vec![serde_json::json!("https://a.example/u"); 1000];
        addressees.push("https://www.w3.org/ns/activitystreams#Public".into());
        composed.activity[member] = addressees.into();
        assert_eq!(scene.sender.send(&composed).await.unwrap().status(), 202, "{member}");
        silence_about(&composed.id, &scene.sender, &[&scene.reader]).await;
        assert_eq!(count("too-many-addressees"), nth as f64 + 1.0, "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc_9421_is_taken_as_well_as_cavage() {
    let relay = TestRelay::start().await;
    let modern = relay
        .joined_with(Family::Mastodon, Options { name: "modern".to_owned(), rfc9421: true, ..Options::default() })
        .await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let post = publish(&modern, "signed the new way").await;
    arrival(&reader, &post.id).await;
    let stripped =
        Profile::Rfc9421 { label: "sig1", post: &["@method", "@target-uri"], get: &["@method", "@target-uri"] };
    let composed = modern.compose(&PostSpec::public("without a digest"));
    let tweaks = Tweaks { profile: Some(stripped), ..Tweaks::default() };
    let answer = modern.send_raw(composed.activity.to_string(), &composed.signer, &tweaks).await.unwrap();
    assert_problem("no content-digest", &answer, 401, "coverage");
}

/// An old Follow replayed after an Undo would join a server again that left.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_follow_changes_nothing() {
    let relay = TestRelay::start().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let at = Clock::system().now();
    let follow = serde_json::json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/replayed", member.origin()), "type": "Follow",
        "actor": member.actor(&As::Server), "object": "https://www.w3.org/ns/activitystreams#Public",
    })
    .to_string();
    // RSA PKCS#1 v1.5 is deterministic: the same body at the same second is the same request, byte for byte.
    let url = Some(format!("{}/inbox", relay.url()));
    let same = Tweaks { date: Some(at), url: url.clone(), ..Tweaks::default() };
    member.send_raw(follow.clone(), &As::Server, &same).await.expect("an answer");
    member.leave().await.expect("an answer");
    let host = crate::support::authority(&member);
    eventually("one registration is left at most", || {
        relay.store().subscriber(&host).is_none_or(|one| one.registrations.len() <= 1)
    })
    .await;
    let undo = serde_json::json!({ "id": format!("{}/undo/all", member.origin()), "type": "Undo", "actor": member.actor(&As::Server), "object": format!("{}/replayed", member.origin()) });
    member.send_raw(undo.to_string(), &As::Server, &Tweaks { url, ..Tweaks::default() }).await.expect("an answer");
    assert!(relay.store().subscriber(&host).is_none(), "it left");
    assert_eq!(member.send_raw(follow, &As::Server, &same).await.expect("an answer").status, 202);
    assert!(relay.store().subscriber(&host).is_none(), "the replay changes nothing");
    assert!(relay.metric("shearwater_inbound_total{reason=\"replay\"") >= 1.0);
}

/// Content may be an hour off either way; what changes who is who may not.
#[tokio::test(flavor = "multi_thread")]
async fn control_messages_have_a_narrower_window() {
    let relay = TestRelay::start().await;
    let ahead = Instance::start(
        Family::Mastodon,
        Options { name: "ahead".to_owned(), clock: Clock::skewed(1_200_000), ..Options::default() },
    )
    .await
    .unwrap();
    let answer = ahead.join(relay.url()).await.expect("an answer");
    assert_problem("a Follow 20 minutes ahead", &answer, 401, "date");
    let behind = relay
        .joined_with(
            Family::Mastodon,
            Options { name: "behind".to_owned(), clock: Clock::skewed(-200_000), ..Options::default() },
        )
        .await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    arrival(&reader, &publish(&behind, "three minutes late").await.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_kept_for_the_operator_without_bodies() {
    let scene = Scene::set().await;
    let tweaks = Tweaks { spoilt: true, ..Tweaks::default() };
    let composed = scene.sender.compose(&PostSpec::public("CANARY in a refused body"));
    scene.sender.send_raw(composed.activity.to_string(), &composed.signer, &tweaks).await.expect("an answer");
    let host = crate::support::authority(&scene.sender).to_string();
    let kept = || {
        scene
            .relay
            .store()
            .all::<Refusal>()
            .expect("the store reads")
            .into_iter()
            .map(|(_, one)| one)
            .find(|one| one.check == "signature")
    };
    eventually("the refusal is written", || kept().is_some()).await;
    let refusal = kept().expect("a refusal");
    assert_eq!((refusal.status, refusal.claimed.as_deref()), (401, Some(host.as_str())));
    assert!(!serde_json::to_string(&refusal).expect("JSON").contains("CANARY"));
}

/// One author who floods is told to slow down; the rest of the server is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_a_429_with_retry_after_for_its_author_alone() {
    let relay = TestRelay::start_with(|config| config.policy.actor_rate = 30).await;
    let sender = relay.joined(Family::Mastodon, "sender").await;
    let mut refused = None;
    for number in 0..40 {
        let composed = sender.compose(&PostSpec::public(&format!("flood {number}")));
        let answer =
            sender.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await.unwrap();
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert_problem("a flood", &refused, 429, "rate");
    assert!(refused.retry_after().is_some());
    let other = sender.compose(&PostSpec::public("by somebody else").by("grace"));
    assert_eq!(sender.send(&other).await.unwrap().status(), 202);
    // Nor for the actor that joined: it speaks for all of its server.
    for number in 0..40 {
        let like = serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/likes/{number}", sender.origin()),
            "type": "Like", "actor": sender.actor(&As::Server), "object": other.id,
        });
        let answer = sender.send_raw(like.to_string(), &As::Server, &Tweaks::default()).await.unwrap();
        assert_eq!(answer.status, 202, "{number}: {}", String::from_utf8_lossy(&answer.body));
    }
}

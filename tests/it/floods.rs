//! Attacks that are many requests, or a slow one: what one alone shows stands in the corpus (`attacks`).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use shearwater::clock::Clock;
use shearwater::config::Access;
use shearwater::demo::{Answer, As, Family, Fault, Instance, Options, Outcome, PostSpec, Tweaks, Where};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{LIKE, LONG, TestRelay, arrival, authority, eventually, publish};

fn to_inbox(relay: &TestRelay, tweaks: Tweaks) -> Tweaks {
    Tweaks { url: Some(format!("{}/inbox", relay.url())), ..tweaks }
}

/// Ghost's service fell when it looked up each of 1,450 deletions of strangers before it answered.
#[tokio::test(flavor = "multi_thread")]
async fn deletions_of_strangers_cost_nothing_however_many_come() {
    let relay = TestRelay::start().await;
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let head = relay.server.app().state.log.head();
    let tweaks = to_inbox(&relay, Tweaks { unsigned: true, ..Tweaks::default() });
    for number in 0..1000 {
        // Every other one lives where somebody would answer.
        let origin = if number % 2 == 0 { stranger.origin() } else { "https://unknown.example" };
        let actor = format!("{origin}/users/nobody{number}");
        let body = json!({ "id": format!("{actor}#delete"), "type": "Delete", "actor": actor, "object": actor });
        let answer = stranger.send_raw(body.to_string(), &As::Server, &tweaks).await.expect("an answer");
        assert_eq!(answer.status, 202);
    }
    assert!(stranger.fetches().is_empty(), "{:?}", stranger.fetches());
    assert_eq!(relay.server.app().state.log.head(), head);
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"deletion-of-unknown-actor\""), 1000.0);
}

/// Everybody may say goodbye, block us and change their profile. Where that changes nothing it costs no transaction, and is
/// not remembered: strangers say it by the million. It is tried while the one thread that writes stands still.
#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_say_that_changes_nothing_is_written_nowhere() {
    let relay = TestRelay::start_with(|config| config.search.api = Access::Public).await;
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let ours = format!("{}/actor", relay.url());
    let activity = |who: &str, kind: &str, id: &str, object: serde_json::Value| {
        let actor = stranger.actor(&As::Author(who.to_owned()));
        let id = format!("{}/{id}", stranger.origin());
        let context = "https://www.w3.org/ns/activitystreams";
        json!({ "@context": context, "id": id, "type": kind, "actor": actor, "object": object })
    };
    let date = Some(Clock::system().now());
    let send = async |who: &str, path: &str, body: &serde_json::Value| {
        let tweaks = Tweaks { url: Some(format!("{}{path}", relay.url())), date, ..Tweaks::default() };
        let who = As::Author(who.to_owned());
        let sent = stranger.send_raw(body.to_string(), &who, &tweaks);
        let answer = tokio::time::timeout(LONG, sent).await.expect("it waits for nobody").expect("an answer");
        assert_eq!(answer.status, 202, "{body}");
    };
    let counted = |word: &str| relay.metric(&format!("shearwater_inbound_total{{reason=\"{word}\""));
    send("ada", "/inbox", &activity("ada", "Block", "block", json!(ours))).await;
    assert_eq!(counted("withdrawn"), 1.0);
    // A person's Follow is looked at, and changes nothing.
    let follow = activity("ada", "Follow", "follow", json!(format!("{}/search/actor", relay.url())));
    for _ in 0..2 {
        send("ada", "/inbox", &follow).await;
    }
    assert_eq!((counted("personal-follow"), counted("replay")), (2.0, 0.0));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (store, mut writer) = (relay.store().clone(), tokio::task::JoinSet::new());
    writer.spawn(async move { store.write(move |_tx| Ok(held.recv().is_err())).await });
    let me = stranger.actor(&As::Author("ada".to_owned()));
    let follow = json!({ "type": "Follow", "actor": me, "object": ours });
    for path in ["/inbox", "/search/inbox"] {
        send("ada", path, &activity("ada", "Undo", "undo", json!(format!("{}/follow", stranger.origin())))).await;
        send("ada", path, &activity("ada", "Undo", "undo-2", follow.clone())).await;
    }
    assert_eq!(counted("not-a-subscriber"), 4.0);
    send("ada", "/inbox", &activity("ada", "Block", "block-2", json!(ours))).await;
    assert_eq!(counted("blocked-before"), 1.0);
    let block = activity("grace", "Block", "block-3", json!(ours));
    send("grace", "/inbox", &activity("grace", "Undo", "unblock", block)).await;
    assert_eq!(counted("undo-of-unknown-block"), 1.0);
    send("ada", "/inbox", &activity("ada", "Update", "update", json!({ "id": me, "type": "Person" }))).await;
    assert_eq!(counted("not-a-subscriber"), 5.0);
    drop(release);
    assert!(writer.join_all().await.into_iter().all(|written| written.is_ok()));
}

/// Each bogus key id would be a request at a host of the attacker's choice. One after another, so that it is the rate that
/// holds and not the number of those who may wait.
#[tokio::test(flavor = "multi_thread")]
async fn bogus_key_ids_one_after_another_make_ten_requests_a_second_to_a_host() {
    let relay = TestRelay::start().await;
    let host = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let began = Clock::system().now();
    for number in 0..300 {
        let key_id = Some(format!("{}/bogus/{number}#main-key", host.origin()));
        let tweaks = to_inbox(&relay, Tweaks { key_id, ..Tweaks::default() });
        let answer = host.send_raw(LIKE, &As::Server, &tweaks).await.expect("an answer");
        assert!(matches!(answer.status, 401 | 503), "{}", answer.text());
    }
    let took = Clock::system().now().since(began);
    // A full bucket, and what has dripped into it meanwhile.
    let allowed = 11 + u64::try_from(took.as_millis() / 100).expect("a number");
    let asked: u64 = host.fetches().values().sum();
    assert!(asked <= allowed, "{asked} requests in {took:?}");
}

/// That rate is shared by all who name the host. Whoever only uses it up is stopped, by the address it comes from, long
/// before the host's new authors would have to wait.
#[tokio::test(flavor = "multi_thread")]
async fn who_names_bogus_keys_uses_up_its_own_share_and_not_the_servers() {
    let relay = TestRelay::start().await;
    let host = relay.joined(Family::Mastodon, "host").await;
    // A proxy on this machine says whom it heard.
    let from = |address: &str| vec![("X-Forwarded-For".to_owned(), address.to_owned())];
    let attack = async |number: usize| {
        let key_id = Some(format!("{}/bogus/{number}#main-key", host.origin()));
        let tweaks = to_inbox(&relay, Tweaks { key_id, headers: from("192.0.2.66"), ..Tweaks::default() });
        host.send_raw(LIKE, &As::Server, &tweaks).await.expect("an answer")
    };
    let begun = Clock::system().now();
    let mut number = 0;
    let stopped = loop {
        number += 1;
        let answer = attack(number).await;
        if answer.status == 429 {
            break answer;
        }
        assert!(Clock::system().now().since(begun) < LONG, "it is never stopped");
    };
    assert!(stopped.text().contains("key-rate") && stopped.retry_after().is_some(), "{}", stopped.text());
    let bogus = || host.fetches().iter().filter(|(path, _)| path.starts_with("/bogus/")).map(|(_, n)| *n).sum::<u64>();
    let before = bogus();
    assert!(before <= 60, "{before}");
    for more in 0..50 {
        assert_eq!(attack(number + 1 + more).await.status, 429);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bogus(), before, "the host's share is not touched any more");
    // Its own new authors find it, from another address; and who is known is heard whatever its address did.
    for (who, address) in [("ada", "192.0.2.1"), ("ada", "192.0.2.66")] {
        let composed = host.compose(&PostSpec::public("from somebody new").by(who));
        let tweaks = Tweaks { headers: from(address), ..Tweaks::default() };
        let sent = host.send_raw(composed.activity.to_string(), &composed.signer, &tweaks).await.expect("an answer");
        assert_eq!(sent.status, 202, "{}", sent.text());
    }
}

/// What is wrong whoever signed it is refused before anybody is asked for a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_nobody_may_send_costs_no_look_for_a_key() {
    let relay = TestRelay::start().await;
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let id = format!("{}/1", stranger.origin());
    let actor = stranger.actor(&As::Server);
    for body in [
        json!({ "@context": "https://www.w3.org/ns/activitystreams", "@graph": [], "id": id, "type": "Like", "actor": actor, "object": id }),
        json!({ "id": id, "type": "Like", "actor": [actor, actor], "object": id }),
        json!({ "id": id, "type": ["Like"], "object": id }),
    ] {
        let tweaks = to_inbox(&relay, Tweaks::default());
        let answer = stranger.send_raw(body.to_string(), &As::Server, &tweaks).await.expect("an answer");
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert!(stranger.fetches().is_empty(), "{:?}", stranger.fetches());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_cut_at_the_limit() {
    let relay = TestRelay::start().await;
    let mut stream = TcpStream::connect(relay.server.http_addr().expect("an address")).await.expect("a connection");
    let head = "POST /inbox HTTP/1.1\r\nHost: relay\r\nContent-Type: application/activity+json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let chunk = [format!("{:x}\r\n", 64 << 10).into_bytes(), vec![b'x'; 64 << 10], b"\r\n".to_vec()].concat();
    let (mut reading, mut writing) = stream.into_split();
    let endless = async {
        let mut sent = 0_usize;
        while writing.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
        }
        sent
    };
    // Who is cut off in the middle of a word may not hear why.
    let hear = async {
        let mut said = Vec::new();
        let _ = reading.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    };
    let (sent, said) = tokio::time::timeout(LONG, async { tokio::join!(endless, hear) }).await.expect("it ends");
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 413"), "{said}");
    // A mebibyte is read; the rest is what the system keeps between two sockets.
    assert!(sent < 64 << 20, "{sent} bytes went through");
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"body-size\""), 1.0);
}

/// Two hundred slow ones; an honest server does not notice, and the slow ones are cut.
#[tokio::test(flavor = "multi_thread")]
async fn many_half_sent_requests_hold_up_no_honest_one() {
    let relay = TestRelay::start_with(|config| {
        config.http.trusted_proxies = Vec::new();
        config.http.connections_per_address = 1000;
        config.http.head_timeout = Duration::from_secs(3);
        config.http.body_timeout = Duration::from_secs(3);
    })
    .await;
    let sender = relay.joined(Family::Mastodon, "sender").await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let addr = relay.server.http_addr().expect("an address");
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        let length = if number % 2 == 0 {
            "Content-Type: application/activity+json\r\nContent-Length: 1000\r\n\r\n{"
        } else {
            ""
        };
        stream.write_all(format!("POST /inbox HTTP/1.1\r\nHost: relay\r\n{length}").as_bytes()).await.expect("sent");
        slow.push(stream);
    }
    let began = Clock::system().now();
    arrival(&reader, &publish(&sender, "in between").await.id).await;
    let took = Clock::system().now().since(began);
    assert!(took < Duration::from_secs(3), "it took {took:?}: as long as a slow one is listened to");
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it is cut");
    }
}

/// Anybody can name a server in a key id; only a signature that holds says that it lives.
#[tokio::test(flavor = "multi_thread")]
async fn an_unverified_request_wakes_no_lane() {
    let relay = TestRelay::start_with(|config| config.delivery.retry = vec![Duration::from_secs(3600)]).await;
    let sender = relay.joined(Family::Mastodon, "sender").await;
    let asleep = relay.joined(Family::Mastodon, "asleep").await;
    asleep.set_fault(Fault::Status(500));
    publish(&sender, "does not get through").await;
    let attempts = || asleep.received().iter().filter(|one| one.outcome == Outcome::Fault).count();
    eventually("it was tried", || attempts() == 1).await;
    let host = authority(&asleep);
    let lanes = || relay.server.app().state.delivery.lanes();
    let rest = || {
        let next = lanes().into_iter().find(|lane| lane.authority == host).and_then(|lane| lane.next_attempt);
        next.map_or(Duration::ZERO, |next| next.since(Clock::system().now()))
    };
    let half = Duration::from_secs(1800);
    eventually("its lane rests for an hour", || rest() > half).await;
    let like = json!({
        "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/like", asleep.origin()), "type": "Like",
        "actor": asleep.actor(&As::Server), "object": "https://a.example/1",
    });
    let send = async |tweaks: Tweaks| asleep.send_raw(like.to_string(), &As::Server, &tweaks).await.expect("an answer");
    for tweaks in [Tweaks { spoilt: true, ..Tweaks::default() }, Tweaks { unsigned: true, ..Tweaks::default() }] {
        assert_eq!(send(tweaks).await.status, 401);
    }
    // A lane that is woken hears of it in a moment; no sign tells that it was not.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(rest() > half, "nobody proved that it lives");
    assert_eq!(attempts(), 1);
    assert_eq!(send(Tweaks::default()).await.status, 202);
    eventually("a proven sign of life wakes it", || attempts() == 2).await;
}

/// Whoever has us look for a key learns nothing from the answer about what we found there: no port scanner.
#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_with_a_fetch_of_ours_is_one_word_whatever_it_was() {
    let relay = TestRelay::start_with(|config| config.fetch.timeout = Duration::from_secs(1)).await;
    let mut answers: Vec<(&str, Answer)> = Vec::new();
    for (what, fault) in [
        ("silent", Fault::Silent),
        ("hangs up", Fault::HangsUp),
        ("500", Fault::Status(500)),
        ("429", Fault::Status(429)),
    ] {
        let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
        stranger.set_fault_at(Where::Documents, fault);
        let tweaks = to_inbox(&relay, Tweaks::default());
        answers.push((what, stranger.send_raw(LIKE, &As::Server, &tweaks).await.expect("an answer")));
    }
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let closed = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr: SocketAddr = closed.local_addr().expect("an address");
    drop(closed);
    let tweaks = to_inbox(&relay, Tweaks { key_id: Some(format!("http://{addr}/key")), ..Tweaks::default() });
    answers.push(("refused", stranger.send_raw(LIKE, &As::Server, &tweaks).await.expect("an answer")));
    let (_, first) = &answers[0];
    assert_eq!(first.status, 503);
    for (what, answer) in &answers {
        assert_eq!(
            (answer.status, &answer.body, answer.retry_after()),
            (503, &first.body, first.retry_after()),
            "{what}"
        );
    }
}

/// The same post again and again: the same bytes under one id, and other bytes under that id.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_sent_again_is_relayed_once_whatever_its_second_copy_says() {
    let relay = TestRelay::start().await;
    let sender = relay.joined(Family::Mastodon, "sender").await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let mut composed = sender.compose(&PostSpec::public("the one and only"));
    assert_eq!(sender.send(&composed).await.expect("an answer").status(), 202);
    arrival(&reader, &composed.id).await;
    let head = relay.server.app().state.log.head();
    for number in 0..5 {
        composed.activity["object"]["content"] = json!(format!("another text, the {number}th"));
        assert_eq!(sender.send(&composed).await.expect("an answer").status(), 202);
        composed.activity["id"] = json!(format!("{}/again/{number}", sender.origin()));
        assert_eq!(sender.send(&composed).await.expect("an answer").status(), 202);
    }
    assert_eq!(relay.server.app().state.log.head(), head);
}

//! A disk that runs full: nothing that was promised is lost, and what needs no room goes on.

use std::time::Duration;

use shearwater::config::Access;
use shearwater::demo::{As, Family, Fault, Instance, Options, PostSpec, Tweaks, Where};
use shearwater::ids::Iri;
use shearwater::relay::resolver::WaitingHint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::searching::{found, member, searching, switch_on};
use crate::support::{TestRelay, arrival, authority, eventually, json, publish, receipts_of};

/// What the operator's listener says.
async fn ops(relay: &TestRelay, path: &str) -> String {
    let addr = relay.server.ops_addr().expect("an address");
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("an answer");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_posts_are_refused_and_deletions_deliveries_and_the_operator_go_on() {
    let relay = TestRelay::start_with(|config| config.search.api = Access::Public).await;
    let (sender, reader) =
        (relay.joined(Family::Mastodon, "sender").await, relay.joined(Family::Mastodon, "reader").await);
    let litepub = relay.joined(Family::Akkoma, "litepub").await;
    let before = publish(&sender, "while there was room").await;
    arrival(&reader, &before.id).await;
    assert!(ops(&relay, "/health/ready").await.starts_with("HTTP/1.1 200"));

    // Twice what is free: below the reserve, and not below a quarter of it.
    let free = relay.store().free_bytes();
    let relay = relay.restart_with(move |config| config.store.reserve = bytesize::ByteSize::b(free * 2)).await;
    let head = relay.server.app().state.log.head();
    for (who, text) in [(&sender, "a post"), (&litepub, "a hint")] {
        let composed = who.compose(&PostSpec::public(text));
        let answer =
            who.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
        assert_eq!((answer.status, json(&answer.body)["check"].as_str()), (503, Some("disk")), "{text}");
        assert!(answer.retry_after().is_some(), "{text}");
    }
    let edit = sender.edit(&before.id, "an edit").await.expect("an answer");
    assert_eq!(edit.status(), 503);
    let late = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    assert_eq!(late.join(relay.url()).await.expect("an answer").status, 503, "nobody joins");
    assert_eq!(late.join_search(relay.url()).await.expect("an answer").status, 503);
    let state = &relay.server.app().state;
    assert_eq!(state.log.head(), head, "nothing was kept");
    assert!(relay.store().subscriber(&authority(&late)).is_none() && relay.store().search_servers().is_empty());
    let ready = ops(&relay, "/health/ready").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\"reason\":\"disk-full\""), "{ready}");
    assert!(ops(&relay, "/metrics").await.contains("shearwater_store_free_bytes "));
    let deletion = sender.delete(&before.id).await.expect("an answer");
    assert_eq!(deletion.status(), 202, "deletions go on");
    let gone = || receipts_of(&reader, &before.id).iter().any(|one| one.kind == "Delete" || one.kind == "Undo");
    eventually("the deletion is delivered", gone).await;
    relay.relay().tidy().await.expect("housekeeping goes on");
    assert_eq!(reader.leave().await.expect("an answer").status, 202, "and so do farewells");

    // What says no is heard although it cannot be kept; it is sent again, and taken whole, when there is room.
    switch_on(&relay, &sender).await;
    let ada = Iri::parse(&sender.actor(&As::Author("ada".to_owned()))).expect("an id");
    let no = sender.compose_profile("ada").map(|mut composed| {
        composed.activity["object"]["indexable"] = false.into();
        composed
    });
    let no = no.expect("an author");
    let tell = async || {
        let sent = sender.send_raw(no.activity.to_string(), &no.signer, &Tweaks::default()).await;
        sent.expect("an answer").status
    };
    let refused = || relay.store().refused(&ada).expect("the store reads").is_some();
    assert!(!refused());
    assert_eq!((tell().await, refused()), (503, true));

    let relay = relay.restart_with(|config| config.store.reserve = bytesize::ByteSize::b(0)).await;
    assert_ne!(sender.send(&no).await.expect("an answer").status(), 503, "sent again");
    assert_eq!(publish(&sender, "there is room again").await.status(), 202);
    assert!(ops(&relay, "/health/ready").await.starts_with("HTTP/1.1 200"));
}

/// What an author takes back is out, whether there is room for the new version or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_takes_the_old_version_out_although_there_is_no_room_for_the_new_one() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "a bittern").await;
    eventually("it is found", || found(&relay, "bittern") == [post.id.clone()]).await;
    let free = relay.store().free_bytes();
    let relay = relay.restart_with(move |config| config.store.reserve = bytesize::ByteSize::b(free * 2)).await;
    eventually("it is found after the restart", || found(&relay, "bittern") == [post.id.clone()]).await;
    let edit = yes.compose_edit(&post.id, "an egret").expect("it is there");
    let send = async || {
        let sent = yes.send_raw(edit.activity.to_string(), &edit.signer, &Tweaks::default()).await;
        sent.expect("an answer").status
    };
    assert_eq!(send().await, 503);
    assert!(found(&relay, "bittern").is_empty() && found(&relay, "egret").is_empty());
    let relay = relay.restart_with(|config| config.store.reserve = bytesize::ByteSize::b(0)).await;
    assert_eq!(send().await, 202, "sent again");
    eventually("it is found by its new words", || found(&relay, "egret") == [post.id.clone()]).await;
    assert!(found(&relay, "bittern").is_empty());
}

/// What is read for a hint would be kept: it waits where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_waits_is_read_when_there_is_room_and_not_before() {
    let relay = TestRelay::start_with(|config| config.fetch.timeout = Duration::from_secs(60)).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let litepub = relay.joined(Family::Akkoma, "litepub").await;
    litepub.set_fault_at(Where::Documents, Fault::Silent);
    let post = publish(&litepub, "a hint").await;
    let waits = || relay.store().all::<WaitingHint>().expect("the store reads").len() == 1;
    eventually("it is in its row", waits).await;
    let free = relay.store().free_bytes();
    let relay = relay.restart_with(move |config| config.store.reserve = bytesize::ByteSize::b(free * 2)).await;
    litepub.set_fault_at(Where::Documents, Fault::None);
    let path = post.id.strip_prefix(litepub.origin()).expect("its own post");
    let asked = || litepub.fetches().get(path).copied().unwrap_or_default();
    let before = asked();
    for _ in 0..100 {
        assert_eq!(asked(), before);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _relay = relay.restart_with(|config| config.store.reserve = bytesize::ByteSize::b(0)).await;
    arrival(&reader, &post.id).await;
    assert!(asked() > before);
}

//! The listeners: slow, many and half-sent.

use std::net::SocketAddr;
use std::time::Duration;

use shearwater::demo::{As, Family, Fault, Instance, Options, Tweaks, Where};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{LONG, TestRelay, eventually};

/// Reads until the other side closes; what it said.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(LONG, stream.read_to_end(&mut text)).await.expect("it is closed");
    let _ = read;
    String::from_utf8_lossy(&text).into_owned()
}

async fn dial(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_head_and_a_half_sent_body_are_cut() {
    let relay = TestRelay::start_with(|config| {
        config.http.trusted_proxies = Vec::new();
        config.http.head_timeout = Duration::from_millis(300);
        config.http.body_timeout = Duration::from_millis(300);
    })
    .await;
    let addr = relay.server.http_addr().expect("an address");
    let mut head = dial(addr).await;
    head.write_all(b"POST /inbox HTTP/1.1\r\nHost: relay").await.expect("sent");
    until_closed(&mut head).await;
    let mut body = dial(addr).await;
    body.write_all(b"POST /inbox HTTP/1.1\r\nHost: relay\r\nContent-Type: application/activity+json\r\nContent-Length: 100\r\n\r\n{").await.expect("sent");
    let said = until_closed(&mut body).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    // A body that says it is too big is refused by its length, before it is read.
    let mut big = dial(addr).await;
    big.write_all(b"POST /inbox HTTP/1.1\r\nHost: relay\r\nContent-Type: application/activity+json\r\nContent-Length: 99999999\r\n\r\n").await.expect("sent");
    let mut start = [0; 12];
    tokio::time::timeout(LONG, big.read_exact(&mut start)).await.expect("an answer").expect("an answer");
    assert!(matches!(&start, b"HTTP/1.1 413" | b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&start));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_from_one_address_are_counted() {
    let relay = TestRelay::start_with(|config| {
        config.http.trusted_proxies = Vec::new();
        config.http.connections_per_address = 4;
    })
    .await;
    let addr = relay.server.http_addr().expect("an address");
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = dial(addr).await;
        stream.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: relay\r\n\r\n").await.expect("sent");
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.expect("an answer");
        held.push(stream);
    }
    let mut fifth = dial(addr).await;
    let _ = fifth.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: relay\r\n\r\n").await;
    assert_eq!(until_closed(&mut fifth).await, "", "closed without a word");
    drop(held);
    eventually("room again", || relay.metric("shearwater_connections ") < 4.0).await;
    let mut next = dial(addr).await;
    next.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await.expect("sent");
    assert!(until_closed(&mut next).await.starts_with("HTTP/1.1 200"));
}

/// The place that a request takes up is given back when its work is done, not when its sender hangs up.
#[tokio::test(flavor = "multi_thread")]
async fn overload_is_a_503_with_retry_after_even_if_senders_hang_up() {
    let relay = TestRelay::start_with(|config| {
        config.http.inbox_in_flight = 1;
        config.fetch.timeout = Duration::from_secs(2);
    })
    .await;
    let sender = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    sender.set_fault_at(Where::Documents, Fault::Silent);
    let tweaks = Tweaks { url: Some(format!("{}/inbox", relay.url())), ..Tweaks::default() };
    // Its key is looked for and never comes; the sender does not wait for that.
    let hasty = sender.send_raw("{\"type\":\"Like\"}", &As::Server, &tweaks);
    assert!(tokio::time::timeout(Duration::from_millis(500), hasty).await.is_err(), "no answer yet");
    let answer = sender.send_raw("{\"type\":\"Like\"}", &As::Server, &tweaks).await.expect("an answer");
    assert_eq!(answer.status, 503, "the one place is taken");
    assert!(answer.retry_after().is_some());
    eventually("the place is given back", || relay.metric("shearwater_inbound_total{reason=\"key-unreadable\"") >= 1.0)
        .await;
    sender.set_fault_at(Where::Documents, Fault::None);
    let answer = sender.send_raw("{}", &As::Server, &Tweaks { unsigned: true, ..tweaks }).await.expect("an answer");
    assert_eq!(answer.status, 401, "and taken again");
}

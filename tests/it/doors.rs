//! The listeners: slow, many and half-sent.

use std::net::SocketAddr;
use std::time::Duration;

use shearwater::demo::{As, Family, Fault, Instance, Options, Tweaks, Where};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{LIKE, LONG, TestRelay, eventually};

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

/// Neither silence before, between nor inside requests holds a connection, nor does one that asks and never listens.
#[tokio::test(flavor = "multi_thread")]
async fn slow_connections_are_cut_and_an_honest_client_does_not_notice_them() {
    let relay = TestRelay::start_with(|config| {
        config.http.trusted_proxies = Vec::new();
        config.http.connections_per_address = 1000;
        config.http.head_timeout = Duration::from_secs(1);
    })
    .await;
    let addr = relay.server.http_addr().expect("an address");
    let mut slow = Vec::new();
    for number in 0..300 {
        let mut stream = dial(addr).await;
        let said: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /robots.txt HTTP/1.1\r\nHost: relay\r\nX-Slow: ",
            _ => b"GET /robots.txt HTTP/1.1\r\nHost: relay\r\n\r\n",
        };
        stream.write_all(said).await.expect("sent");
        slow.push(stream);
    }
    let begun = std::time::Instant::now();
    let mut honest = dial(addr).await;
    honest.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await.expect("sent");
    assert!(until_closed(&mut honest).await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited {:?}", begun.elapsed());
    for mut stream in slow {
        until_closed(&mut stream).await;
    }
    eventually("all places are free", || relay.metric("shearwater_connections ") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_on_and_on_and_never_reads_the_answers_is_cut() {
    let relay = TestRelay::start().await;
    let mut stream = dial(relay.server.http_addr().expect("an address")).await;
    let page = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n".repeat(100);
    // Until the buffers of both sides are full.
    while tokio::time::timeout(Duration::from_secs(3), stream.write_all(&page)).await.is_ok_and(|sent| sent.is_ok()) {}
    eventually("its place is free", || relay.metric("shearwater_connections ") == 0.0).await;
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_in_size_and_in_number_of_lines() {
    let relay = TestRelay::start().await;
    let addr = relay.server.http_addr().expect("an address");
    for (what, lines, taken) in [
        ("ninety lines", "X-A: b\r\n".repeat(90), true),
        ("a hundred and one lines", "X-A: b\r\n".repeat(101), false),
        ("a line of 8 KiB", format!("X-A: {}\r\n", "b".repeat(8 << 10)), true),
        ("a line of 64 KiB", format!("X-A: {}\r\n", "b".repeat(64 << 10)), false),
        ("a line without end", "X-A: ".to_owned() + &"b".repeat(1 << 20), false),
        ("two lengths", "Content-Length: 1\r\nContent-Length: 2\r\n".to_owned(), false),
    ] {
        let mut stream = dial(addr).await;
        let head = format!("GET /robots.txt HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{lines}\r\n");
        // It may be cut off before it has said it all.
        let _ = stream.write_all(head.as_bytes()).await;
        let said = until_closed(&mut stream).await;
        assert_eq!(said.starts_with("HTTP/1.1 200"), taken, "{what}: {said:.60}");
    }
}

/// A body must come at a kilobyte a second, and what is held of all of them is counted and given back.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_stall_are_cut_and_what_was_held_of_them_is_given_back() {
    let relay = TestRelay::start_with(|config| {
        config.http.trusted_proxies = Vec::new();
        config.http.connections_per_address = 1000;
        config.http.body_timeout = Duration::from_secs(600);
    })
    .await;
    let addr = relay.server.http_addr().expect("an address");
    let slots = relay.server.app().state.inbox_slots.clone();
    let mut stalled = Vec::new();
    const PIECE: usize = 1000;
    for _ in 0..200 {
        let mut stream = dial(addr).await;
        let head = "POST /inbox HTTP/1.1\r\nHost: relay\r\nContent-Type: application/activity+json\r\nContent-Length: 500000\r\n\r\n";
        stream.write_all([head.as_bytes(), &[b' '; PIECE]].concat().as_slice()).await.expect("sent");
        stalled.push(stream);
    }
    eventually("they are held", || slots.held_bytes() > 0).await;
    assert!(slots.held_bytes() <= 200 * PIECE, "what arrived, not what was promised: {}", slots.held_bytes());
    for stream in &mut stalled {
        let said = until_closed(stream).await;
        assert!(said.starts_with("HTTP/1.1 408"), "{said:.60}");
    }
    eventually("all of it is given back", || slots.held_bytes() == 0).await;
}

/// What has arrived buys no patience for the rest: else a mebibyte less one byte would be held for as long as a body may
/// take, and a hundred of them would be all that is held of bodies.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_all_but_the_last_byte_is_cut_as_soon() {
    let relay = TestRelay::start_with(|config| config.http.body_timeout = Duration::from_secs(600)).await;
    let mut stream = dial(relay.server.http_addr().expect("an address")).await;
    let size = 500_000;
    let head = format!(
        "POST /inbox HTTP/1.1\r\nHost: relay\r\nContent-Type: application/activity+json\r\nContent-Length: {size}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), &vec![b' '; size - 1]].concat()).await.expect("sent");
    let slots = relay.server.app().state.inbox_slots.clone();
    let said = until_closed(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said:.60}");
    eventually("it is given back", || slots.held_bytes() == 0).await;
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
    let hasty = sender.send_raw(LIKE, &As::Server, &tweaks);
    assert!(tokio::time::timeout(Duration::from_millis(500), hasty).await.is_err(), "no answer yet");
    let answer = sender.send_raw(LIKE, &As::Server, &tweaks).await.expect("an answer");
    assert_eq!(answer.status, 503, "the one place is taken");
    assert!(answer.retry_after().is_some());
    eventually("the place is given back", || relay.metric("shearwater_inbound_total{reason=\"key-unreadable\"") >= 1.0)
        .await;
    sender.set_fault_at(Where::Documents, Fault::None);
    let answer = sender.send_raw("{}", &As::Server, &Tweaks { unsigned: true, ..tweaks }).await.expect("an answer");
    assert_eq!(answer.status, 401, "and taken again");
}

//! What the outbound client promises, with servers on loopback that are as bad as any.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::HandshakeKind;

use super::super::fetched::FetchFault;
use super::super::testing::{
    CANARY, NOON, OPEN, Page, Site, Tickets, beside, fetch, raw_server, signed_client, tls_acceptor, tls_config,
    tls_server,
};
use super::*;
use crate::clock::Clock;
use crate::telemetry::Usage;

fn client(names: Names) -> Client {
    Client::with_names(&config::Config::embedded().net, &fetch(), "shearwater/test", names).unwrap()
}

fn get(url: &str) -> Outgoing {
    Outgoing {
        method: Method::GET,
        url: Url::parse(url).unwrap(),
        headers: Vec::new(),
        body: None,
        timeout: Duration::from_secs(5),
        read_limit: 1024,
        strict: true,
    }
}

fn post(url: &str) -> Outgoing {
    Outgoing { method: Method::POST, body: Some(Bytes::from_static(b"{}")), ..get(url) }
}

#[tokio::test]
async fn an_answer_is_an_answer_whatever_its_status_and_redirects_are_not_followed() {
    let (canary, hits) = raw_server(CANARY, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let text = format!("HTTP/1.1 302 Found\r\nlocation: http://{canary}/\r\ncontent-length: 2\r\n\r\nhi");
    let (addr, _) = raw_server(OPEN, text.leak().as_bytes()).await;
    let answer = client(Names::System).send(get(&format!("http://{addr}/"))).await.unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.truncated), (302, &b"hi"[..], false));
    assert_eq!(hits.load(Ordering::SeqCst), 0);
    let refused = client(Names::System).send(get(&format!("http://{canary}/"))).await;
    assert_eq!(refused.unwrap_err(), NetFault::Refused(Refused::IpHost));
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_we_post_asks_for_no_coding_and_bears_our_name() {
    let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    beside(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 8192];
        let n = socket.read(&mut buffer).await.unwrap();
        sent.send(String::from_utf8_lossy(&buffer[..n]).to_lowercase()).unwrap();
        socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    let mut post = post(&format!("http://{addr}/inbox?x=1"));
    post.headers = vec![(http::header::HOST, HeaderValue::from_str(&addr.to_string()).unwrap())];
    assert_eq!(client(Names::System).send(post).await.unwrap().status, 202);
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("post /inbox?x=1 http/1.1\r\n"), "{head}");
    for line in ["accept: */*", "accept-encoding: identity", "user-agent: shearwater/test", "content-length: 2"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    assert_eq!(head.matches("host:").count(), 1, "{head}");
}

#[tokio::test]
async fn bytes_are_counted_while_they_arrive() {
    let (addr, _) = raw_server(OPEN, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n...").await;
    let url = format!("http://{addr}/");
    assert_eq!(client(Names::System).send(get(&url)).await.unwrap_err(), NetFault::TooBig);
    let lenient = Outgoing { strict: false, read_limit: 100, ..get(&url) };
    let answer = client(Names::System).send(lenient).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (100, true));
    let (exact, _) = raw_server(OPEN, b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour").await;
    let fits = Outgoing { read_limit: 4, ..get(&format!("http://{exact}/")) };
    assert_eq!(&client(Names::System).send(fits).await.unwrap().body[..], b"four");
}

fn zip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// What a GET makes of this body under these header lines; the limit is 1,000 bytes.
async fn coded(status: &str, lines: &str, body: &[u8]) -> Result<Answer, NetFault> {
    let head = format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n", body.len());
    let (addr, _) = raw_server(OPEN, [head.as_bytes(), body].concat().leak()).await;
    client(Names::System).send(Outgoing { read_limit: 1000, ..get(&format!("http://{addr}/")) }).await
}

#[tokio::test]
async fn gzip_is_undone_and_counted_after_it_was_undone() {
    let text = "a document ".repeat(90);
    for name in ["gzip", "GZip", "x-gzip", " gzip "] {
        let line = format!("content-encoding: {name}\r\n");
        let answer = coded("200 OK", &line, &zip(text.as_bytes())).await.unwrap();
        assert_eq!((&answer.body[..], answer.truncated), (text.as_bytes(), false), "{name}");
        assert!(!answer.headers.contains_key("content-encoding"), "it is undone");
    }
    let (gzip, most) = ("content-encoding: gzip\r\n", zip(&[b' '; 1000]));
    assert_eq!(coded("200 OK", gzip, &most).await.unwrap().body.len(), 1000, "as much as is allowed");
    assert_eq!(coded("200 OK", gzip, &zip(&[b' '; 1001])).await.unwrap_err(), NetFault::TooBig, "one byte more");
}

#[tokio::test]
async fn a_bomb_is_over_at_the_limit_and_takes_no_more_memory_than_that() {
    let bomb = zip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000, "a thousand to one");
    let mut sink = Sink::gzip(1000);
    let mut taken = 0;
    for piece in bomb.chunks(100) {
        taken += piece.len();
        if !sink.take(piece).unwrap() {
            break;
        }
    }
    assert!(taken <= 300, "it ends early: after {taken} bytes");
    let Sink::Gzip(decoder) = &sink else { unreachable!() };
    assert!(decoder.get_ref().bytes.capacity() <= 4096, "{}", decoder.get_ref().bytes.capacity());
    assert_eq!(sink.bytes().len(), 1000);
    let gzip = "content-encoding: gzip\r\n";
    assert_eq!(coded("200 OK", gzip, &bomb).await.unwrap_err(), NetFault::TooBig);
    // One in which nothing ever comes out: what comes in is counted as well.
    let mut silent = zip(b"");
    silent.truncate(10);
    silent.extend(std::iter::repeat_n([0, 0, 0, 0xff, 0xff], 100_000).flatten());
    assert_eq!(coded("200 OK", gzip, &silent).await.unwrap_err(), NetFault::TooBig);
}

#[tokio::test]
async fn a_broken_gzip_is_refused_however_it_is_broken() {
    let good = zip(&b"a document ".repeat(50));
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let broken = [
        ("nothing", Vec::new()),
        ("not gzip", b"{}".to_vec()),
        ("half a head", with(|bytes| bytes.truncate(5))),
        ("cut in the middle", with(|bytes| bytes.truncate(bytes.len() / 2))),
        ("no check sum", with(|bytes| bytes.truncate(bytes.len() - 8))),
        ("half a length", with(|bytes| bytes.truncate(bytes.len() - 2))),
        ("a wrong length", with(|bytes| *bytes.last_mut().unwrap() ^= 1)),
        (
            "a wrong check sum",
            with(|bytes| {
                let at = bytes.len() - 5;
                bytes[at] ^= 1
            }),
        ),
        ("something after it", with(|bytes| bytes.extend(b"more"))),
        ("a second one after it", with(|bytes| bytes.extend(bytes.clone()))),
        ("another method", with(|bytes| bytes[2] = 7)),
        ("garbage within", with(|bytes| bytes[12..20].fill(0xff))),
    ];
    for (what, body) in broken {
        let fault = coded("200 OK", "content-encoding: gzip\r\n", &body).await.unwrap_err();
        assert_eq!(fault, NetFault::Coding, "{what}");
    }
}

#[tokio::test]
async fn no_other_coding_is_undone_nor_gzip_where_nobody_reads_it() {
    let (once, twice) = (zip(b"{}"), zip(&zip(b"{}")));
    for lines in [
        "content-encoding: gzip, gzip\r\n",
        "content-encoding: gzip\r\ncontent-encoding: gzip\r\n",
        "content-encoding: br\r\n",
        "content-encoding: deflate\r\n",
        "content-encoding: zstd\r\n",
        "content-encoding: gzip, identity\r\n",
        "content-encoding: gzip2\r\n",
    ] {
        let answer = coded("200 OK", lines, &twice).await.unwrap();
        assert!(answer.body == twice && answer.headers.contains_key("content-encoding"), "{lines}");
    }
    let inner = coded("200 OK", "content-encoding: gzip\r\n", &twice).await.unwrap();
    assert_eq!(&inner.body[..], once, "one layer, and no more");
    let unasked = coded("200 OK", "", &once).await.unwrap();
    assert_eq!(&unasked.body[..], once, "nothing is guessed from the bytes");
    let missing = coded("404 Not Found", "content-encoding: gzip\r\n", b"no gzip at all").await.unwrap();
    assert_eq!(missing.status, 404, "what a server says of a missing document is not spoilt by its body");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", once.len());
    let (addr, _) = raw_server(OPEN, [head.as_bytes(), &once].concat().leak()).await;
    let post = Outgoing { method: Method::POST, ..get(&format!("http://{addr}/")) };
    assert_eq!(&client(Names::System).send(post).await.unwrap().body[..], once, "the answer to a POST");
}

#[tokio::test]
async fn a_slow_answer_ends_with_the_deadline() {
    for bytes in [&b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nzzz"[..], b"zzz"] {
        let (addr, _) = raw_server(OPEN, if bytes.len() > 3 { bytes } else { b"HTTP/1.1 200 OK\r\nzzz" }).await;
        let hasty = Outgoing { timeout: Duration::from_millis(200), ..get(&format!("http://{addr}/")) };
        assert_eq!(client(Names::System).send(hasty).await.unwrap_err(), NetFault::Timeout);
    }
}

#[tokio::test]
async fn faults_are_told_apart() {
    let (garbage, _) = raw_server(OPEN, b"SSH-2.0-OpenSSH_9.9\r\n").await;
    let closed = TcpListener::bind((OPEN, 0)).await.unwrap().local_addr().unwrap();
    let empty = Names::Scripted(Arc::new(|_| Vec::new()));
    for (client, url, fault) in [
        (client(Names::System), format!("http://{garbage}/"), NetFault::Broken),
        (client(Names::System), format!("http://{closed}/"), NetFault::Connect),
        (client(empty), "https://a.example/".to_owned(), NetFault::Dns),
    ] {
        assert_eq!(client.send(get(&url)).await.unwrap_err(), fault, "{url}");
        assert_eq!(client.reading.pools.fill().hosts, 0, "nothing is kept of who does not answer: {url}");
    }
}

#[tokio::test]
async fn a_name_that_leads_also_inside_is_refused_whole() {
    let (canary, hits) = raw_server(CANARY, b"").await;
    let url = format!("https://mixed.example:{}/", canary.port());
    for inside in [CANARY, "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.2"] {
        let names = Names::Scripted(Arc::new(move |_| vec![OPEN.parse().unwrap(), inside.parse().unwrap()]));
        let expected = Refused::Address(inside.parse().unwrap());
        assert_eq!(client(names).send(get(&url)).await.unwrap_err(), NetFault::Refused(expected));
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_answer_never_leads_inside() {
    let canary = TcpListener::bind((CANARY, 0)).await.unwrap();
    let port = canary.local_addr().unwrap().port();
    let open = TcpListener::bind((OPEN, port)).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let names = Names::Scripted(Arc::new(move |_| {
        let inside = count.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        vec![if inside { CANARY } else { OPEN }.parse().unwrap()]
    }));
    let client = client(names);
    let url = format!("https://rebind.example:{port}/");
    for _ in 0..500 {
        // First answer allowed: dialled there (and hung up on: TLS fails). Second answer: refused, not dialled.
        let (first, _) = tokio::join!(client.send(get(&url)), async { drop(open.accept().await) });
        assert!(matches!(first, Err(NetFault::Connect | NetFault::Broken)), "{first:?}");
        client.forget("rebind.example");
        let second = client.send(get(&url)).await.unwrap_err();
        assert_eq!(second, NetFault::Refused(Refused::Address(CANARY.parse().unwrap())));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1000, "one look-up for each request, no second one behind the guard");
    let knock = tokio::time::timeout(Duration::from_millis(50), canary.accept()).await;
    assert!(knock.is_err(), "nobody knocked at the canary");
}

/// The test below runs this one in a process with a proxy in its environment (ours cannot change its own).
#[tokio::test]
#[ignore = "run by a_proxy_in_the_environment_is_not_used"]
async fn child_of_the_proxy_test() {
    let (addr, hits) = raw_server(OPEN, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client(Names::System).send(get(&format!("http://{addr}/"))).await.unwrap().status, 200);
    assert_eq!(hits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let (proxy, hits) = raw_server(CANARY, b"HTTP/1.1 418 Proxy\r\ncontent-length: 0\r\n\r\n").await;
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    in_a_process("child_of_the_proxy_test", names.map(|name| (name, format!("http://{proxy}"))).to_vec()).await;
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

/// The test below runs this one in a process of its own: the limit holds for all of it.
#[tokio::test]
#[ignore = "run by a_process_without_descriptors_blames_nobody"]
async fn child_of_the_descriptors_test() {
    let site = Site::start(OPEN).await;
    site.set("/a", Page::document(json!({ "id": site.url("/a"), "type": "Note" })));
    let client = signed_client(Clock::manual(NOON), &fetch());
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limits }).unwrap();
    for _ in 0..20 {
        let fault = client.get(&site.iri("/a")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::TryLater("busy")), "{fault:?}");
    }
    setrlimit(Resource::Nofile, limits).unwrap();
    client.get(&site.iri("/a")).await.expect("the host has no rest to take");
}

#[tokio::test]
async fn a_process_without_descriptors_blames_nobody() {
    in_a_process("child_of_the_descriptors_test", Vec::new()).await;
}

/// Runs a test of this file in a process with more in its environment.
async fn in_a_process(test: &'static str, environment: Vec<(&'static str, String)>) {
    let child = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args([&format!("net::client::tests::{test}"), "--exact", "--ignored"]).envs(environment);
        command.output().unwrap()
    });
    let output = child.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn over_tls_the_server_must_be_who_it_is_called() {
    let port = tls_server().await;
    let names = Names::Scripted(Arc::new(|_| vec![OPEN.parse().unwrap()]));
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let net = config::Net { extra_roots: vec![ca.into()], ..config::Config::embedded().net };
    let trusting = Client::with_names(&net, &fetch(), "shearwater/test", names.clone()).unwrap();
    let answer = trusting.send(get(&format!("https://tls.example:{port}/"))).await.unwrap();
    assert_eq!(&answer.body[..], b"tls");
    let other_name = trusting.send(get(&format!("https://other.example:{port}/"))).await;
    assert_eq!(other_name.unwrap_err(), NetFault::Tls);
    let unknown_ca = client(names).send(get(&format!("https://tls.example:{port}/"))).await;
    assert_eq!(unknown_ca.unwrap_err(), NetFault::Tls);
}

/// A client that knows the test CA, with `change` made to its settings.
fn trusting(names: Names, change: impl FnOnce(&mut config::Net)) -> Client {
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let mut net = config::Net { extra_roots: vec![ca.into()], ..config::Config::embedded().net };
    change(&mut net);
    Client::with_names(&net, &fetch(), "shearwater/test", names).unwrap()
}

fn lead_to(address: &'static str) -> Names {
    Names::Scripted(Arc::new(move |_| vec![address.parse().unwrap()]))
}

fn counted(client: &Client, event: &'static str) -> u64 {
    client.metrics.outbound_connections.with_label_values(&[event]).get()
}

#[tokio::test]
async fn a_server_that_takes_nothing_but_http_2_is_spoken_to_so_and_that_is_counted() {
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let (port, acceptor) = (listener.local_addr().unwrap().port(), tls_acceptor(&["h2"]));
    beside(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(socket).await else { continue };
            beside(async move {
                let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let text = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(text))
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(tls), answer).await;
            });
        }
    });
    let client = trusting(lead_to(OPEN), |_| {});
    for path in ["/inbox", "/again"] {
        for request in [get, post] {
            let answer = client.send(request(&format!("https://tls.example:{port}{path}"))).await.unwrap();
            assert_eq!(answer.body, format!("HTTP/2.0 {path}"));
            assert_eq!(counted(&client, "http2"), 1, "it is remembered, also when its connections are gone");
            for way in [&client.reading, &client.delivering] {
                way.pools.forget(&format!("tls.example:{port}"));
            }
        }
    }
}

#[tokio::test]
async fn over_http_2_no_more_may_come_unread_than_over_http_1() {
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let (port, acceptor) = (listener.local_addr().unwrap().port(), tls_acceptor(&["h2"]));
    let client = trusting(lead_to(OPEN), |_| {});
    let server = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut tls) = acceptor.accept(socket).await else { continue };
            let mut preface = [0; 24];
            tls.read_exact(&mut preface).await.unwrap();
            // Its settings, then how much more the connection may carry: RFC 9113 sections 6.5.2 and 6.9.1.
            let (mut windows, mut connection) = (Vec::new(), 65_535);
            while connection == 65_535 {
                let mut head = [0; 9];
                tls.read_exact(&mut head).await.unwrap();
                let mut frame = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                tls.read_exact(&mut frame).await.unwrap();
                let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
                match head[3] {
                    4 => windows.extend(frame.chunks(6).filter(|one| one[1] == 4).map(|one| number(&one[2..]))),
                    8 => connection += number(&frame),
                    _ => {}
                }
            }
            return (windows, connection);
        }
    };
    let request = post(&format!("https://tls.example:{port}/inbox"));
    let (_, (windows, connection)) = tokio::join!(client.send(request), server);
    assert!(windows.iter().all(|window| *window <= 64 << 10) && connection <= 256 << 10, "{windows:?} {connection}");
}

#[tokio::test]
async fn http_1_is_spoken_where_there_is_a_choice_and_who_speaks_neither_is_told_apart() {
    let serve = async |alpn: &'static [&'static str]| {
        let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
        let (port, acceptor) = (listener.local_addr().unwrap().port(), tls_acceptor(alpn));
        beside(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(socket).await else { continue };
                let chosen = String::from_utf8_lossy(tls.get_ref().1.alpn_protocol().unwrap_or_default()).into_owned();
                let _ = tls.read(&mut [0; 8192]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{chosen}", chosen.len());
                let _ = tls.write_all(head.as_bytes()).await;
                let _ = tls.shutdown().await;
            }
        });
        format!("https://tls.example:{port}/")
    };
    let client = trusting(lead_to(OPEN), |_| {});
    let answer = client.send(get(&serve(&["h2", "http/1.1"]).await)).await.unwrap();
    assert_eq!(answer.body, "http/1.1", "whatever the server likes better");
    let neither = serve(&["spdy/3"]).await;
    for _ in 0..3 {
        assert_eq!(client.send(get(&neither)).await.unwrap_err(), NetFault::Protocol);
    }
    assert_eq!(counted(&client, "http2"), 0);
}

/// A TLS server that closes each connection after an answer, with so many certificates that nobody needs; its port, and
/// which kinds of handshakes it saw.
async fn closing_tls_server(more: usize) -> (u16, Arc<Mutex<Vec<HandshakeKind>>>) {
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let mut config = tls_config(&[], more);
    config.ticketer = Arc::new(Tickets(1000));
    config.send_tls13_tickets = 8;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (port, kinds) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let seen = kinds.clone();
    beside(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(socket).await else { continue };
            seen.lock().unwrap().extend(tls.get_ref().1.handshake_kind());
            let _ = tls.read(&mut [0; 8192]).await;
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            let _ = tls.shutdown().await;
        }
    });
    (port, kinds)
}

#[tokio::test]
async fn sessions_are_resumed_with_more_servers_than_rustls_remembers_by_itself() {
    let (port, kinds) = closing_tls_server(0).await;
    let client = trusting(lead_to(OPEN), |_| {});
    for _ in 0..2 {
        for number in 0..40 {
            let host = format!("s{number}.tls.example:{port}");
            client.send(post(&format!("https://{host}/"))).await.unwrap();
            client.delivering.pools.forget(&host);
        }
    }
    assert_eq!(kinds.lock().unwrap()[..40], [HandshakeKind::Full; 40]);
    assert_eq!(kinds.lock().unwrap()[40..], [HandshakeKind::Resumed; 40], "also when a pool is gone");
    assert_eq!(counted(&client, "closed"), 80, "the server says so each time");
    // Whom we only read from is not known again.
    for _ in 0..2 {
        client.send(get(&format!("https://reading.tls.example:{port}/"))).await.unwrap();
    }
    assert_eq!(kinds.lock().unwrap()[80..], [HandshakeKind::Full; 2]);
}

/// The test below runs this one in a process of its own: it is about the memory of all of it.
#[tokio::test]
#[ignore = "run by a_stranger_fills_no_memory_with_tickets"]
async fn child_of_the_tickets_test() {
    let (port, kinds) = closing_tls_server(100).await;
    let client = trusting(lead_to(OPEN), |_| {});
    let visit = async |names: std::ops::Range<usize>| {
        for number in names {
            let url = format!("https://n{number}.tls.example:{port}/");
            client.send(get(&url)).await.unwrap();
            client.send(post(&url)).await.unwrap();
        }
    };
    visit(0..50).await;
    let resident = || Usage::now().resident_bytes.unwrap();
    let before = resident();
    visit(50..350).await;
    let grown = resident().saturating_sub(before);
    // Kept, they would be 8 times 300 times the chain.
    assert!(grown < 40 << 20, "{grown} bytes");
    assert!(client.delivering.pools.fill().sessions < 1 << 20);
    assert_eq!(kinds.lock().unwrap().len(), 700);
}

#[tokio::test]
async fn a_stranger_fills_no_memory_with_tickets() {
    in_a_process("child_of_the_tickets_test", Vec::new()).await;
}

/// A server that keeps connections: a POST is answered 202, after a moment if it is to `/late` and never if it is to
/// `/slow`; a GET is hung up on. How many connections it saw.
async fn keeping_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let (addr, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    beside(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            beside(async move {
                let mut head = [0; 8192];
                while let Ok(bytes) = socket.read(&mut head).await
                    && head[..bytes].starts_with(b"POST")
                {
                    if head.starts_with(b"POST /slow") {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    } else if head.starts_with(b"POST /late") {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    let _ = socket.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    (format!("http://{addr}"), count)
}

#[tokio::test]
async fn a_strangers_fetch_leaves_the_connections_of_deliveries_alone() {
    let (server, connections) = keeping_server().await;
    let client = trusting(Names::System, |_| {});
    client.send(post(&format!("{server}/inbox"))).await.unwrap();
    for number in 0..5 {
        let fault = client.send(get(&format!("{server}/wp-login.php?{number}"))).await.unwrap_err();
        assert_eq!(fault, NetFault::Broken);
    }
    let before = connections.load(Ordering::SeqCst);
    client.send(post(&format!("{server}/inbox"))).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), before, "the delivery has its connection still");
}

#[tokio::test]
async fn who_is_slow_once_keeps_its_other_connections() {
    let (server, connections) = keeping_server().await;
    let client = trusting(Names::System, |_| {});
    let late = || client.send(post(&format!("{server}/late")));
    let (one, two) = tokio::join!(late(), late());
    assert!(one.is_ok() && two.is_ok());
    let slow = Outgoing { timeout: Duration::from_millis(200), ..post(&format!("{server}/slow")) };
    assert_eq!(client.send(slow).await.unwrap_err(), NetFault::Timeout);
    client.send(post(&format!("{server}/inbox"))).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2, "the one that hung is gone, the other is not");
}

#[tokio::test]
async fn where_a_name_leads_is_forgotten_when_a_delivery_cannot_connect_and_for_nothing_else() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let client = trusting(
        Names::Scripted(Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            vec![OPEN.parse().unwrap()]
        })),
        |_| {},
    );
    let closed = TcpListener::bind((OPEN, 0)).await.unwrap().local_addr().unwrap().port();
    // Connections to it stand, and nobody takes them.
    let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
    let hanging = listener.local_addr().unwrap().port();
    let url = |port: u16| format!("https://tls.example:{port}/");
    let looked_up = || asked.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(client.send(get(&url(closed))).await.unwrap_err(), NetFault::Connect);
    }
    assert_eq!(looked_up(), 1, "strangers choose whom we read from, ports included");
    let hasty = Outgoing { timeout: Duration::from_millis(100), ..post(&url(hanging)) };
    assert_eq!(client.send(hasty).await.unwrap_err(), NetFault::Timeout);
    assert_eq!(client.send(post(&url(closed))).await.unwrap_err(), NetFault::Connect);
    assert_eq!(looked_up(), 1);
    assert_eq!(client.send(post(&url(closed))).await.unwrap_err(), NetFault::Connect);
    assert_eq!(looked_up(), 2, "it may have moved");
}

#[tokio::test]
async fn idle_connections_to_all_hosts_stay_within_the_budget_the_oldest_closed_first() {
    let mut hosts = Vec::new();
    for _ in 0..8 {
        let listener = TcpListener::bind((OPEN, 0)).await.unwrap();
        let (addr, open) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        hosts.push((addr, open.clone()));
        beside(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let open = open.clone();
                open.fetch_add(1, Ordering::SeqCst);
                beside(async move {
                    while socket.read(&mut [0; 8192]).await.is_ok_and(|count| count > 0) {
                        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }
    // One is for reading; two for one host, one each for two others.
    let client = trusting(Names::System, |net| net.connections = 5);
    for (addr, _) in &hosts {
        client.send(post(&format!("http://{addr}/"))).await.unwrap();
    }
    let open = || hosts.iter().map(|(_, open)| open.load(Ordering::SeqCst)).collect::<Vec<_>>();
    let waited = Instant::now();
    while open() != [0, 0, 0, 0, 1, 1, 1, 1] {
        assert!(waited.elapsed() < Duration::from_secs(20), "{:?}", open());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(counted(&client, "budget"), 4);
    let gauge = |gauge: &crate::telemetry::Gauges| gauge.with_label_values(&["delivering"]).get();
    assert_eq!((gauge(&client.metrics.outbound_hosts), gauge(&client.metrics.outbound_kept)), (4, 4), "as one sees");
    // Those that stayed are used again.
    for (addr, _) in &hosts[4..] {
        client.send(post(&format!("http://{addr}/"))).await.unwrap();
    }
    assert_eq!(open()[4..], [1; 4]);
    assert_eq!(counted(&client, "budget"), 4);
}

/// A proxy that makes tunnels to [`OPEN`], whatever it is asked for; what it was asked.
async fn tunnels() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((CANARY, 0)).await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let heard = asked.clone();
    beside(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let heard = heard.clone();
            beside(async move {
                let mut head = [0; 8192];
                let count = socket.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..count]).into_owned();
                let line = head.lines().next().unwrap_or_default().to_owned();
                let port = line.split(' ').nth(1).and_then(|to| to.rsplit(':').next()?.parse::<u16>().ok());
                heard.lock().unwrap().push(line);
                let mut onward = TcpStream::connect((OPEN, port.unwrap())).await.unwrap();
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut onward).await;
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn by_a_proxy_names_are_its_to_look_up_and_what_leads_inside_is_still_refused() {
    let (proxy, asked) = tunnels().await;
    let port = tls_server().await;
    // Who is behind such a proxy may know no name but its own.
    let names = Names::Scripted(Arc::new(|name: &str| match name {
        "tls.example" => Vec::new(),
        "inside.tls.example" => vec!["10.0.0.1".parse().unwrap()],
        "proxy.lan" => vec![CANARY.parse().unwrap()],
        _ => vec![OPEN.parse().unwrap()],
    }));
    for address in [CANARY, "proxy.lan"] {
        let client = trusting(names.clone(), |net| net.proxy = format!("http://{address}:{proxy}"));
        let answer = client.send(get(&format!("https://tls.example:{port}/"))).await.unwrap();
        assert_eq!(&answer.body[..], b"tls");
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), [format!("CONNECT tls.example:{port} HTTP/1.1")]);
        for (url, refused) in [
            (format!("https://inside.tls.example:{port}/"), Refused::Address("10.0.0.1".parse().unwrap())),
            (format!("https://proxy.lan:{port}/"), Refused::Address(CANARY.parse().unwrap())),
            (format!("https://10.0.0.1:{port}/"), Refused::IpHost),
            (format!("https://localhost:{port}/"), Refused::LocalName),
        ] {
            let fault = client.send(get(&url)).await.unwrap_err();
            assert_eq!(fault, NetFault::Refused(refused), "{url} by {address}");
        }
        assert_eq!(asked.lock().unwrap().len(), 0, "it is not even asked");
    }
}

#[test]
fn extra_roots_that_are_no_certificates_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let net = config::Net { extra_roots: vec![path.clone()], ..config::Config::embedded().net };
    let refused = |net: &config::Net| format!("{:#}", Client::new(net, &fetch(), "x").unwrap_err());
    assert!(refused(&net).contains("ca.pem"));
    std::fs::write(&path, "no certificate").unwrap();
    assert!(refused(&net).contains("ca.pem"));
}

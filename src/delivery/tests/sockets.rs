//! Real connections, and inboxes that misbehave.

use super::*;

#[tokio::test]
async fn over_a_real_connection_posts_are_signed_and_answers_understood() {
    let (dir, clock, world) = noon();
    let site = Site::start("127.0.0.2").await;
    site.set("/inbox", Page::status(202));
    let config = Config::embedded();
    let mut rig = Rig::open(dir.path(), &clock, &world, |_| {});
    let supervisor = Supervisor::new(clock.clone());
    let delivery = Delivery::new(Services {
        config: config.delivery.clone(),
        audience: config.relay.announce_audience,
        policy: policy::Rules::new(&config.policy, &config.relay),
        store: rig.store.clone(),
        log: rig.log.clone(),
        signed: crate::net::testing::signed_client(clock.clone(), &crate::net::testing::fetch()),
        ids: Arc::new(OurIds::new("https://relay.example", "/actor", "main-key", "relay").unwrap()),
        clock: clock.clone(),
        supervisor: supervisor.clone(),
        metrics: Metrics::new(),
    })
    .unwrap();
    let host = site.addr.to_string();
    // The scripted delivery of the rig serves the same subscriber in its own world; only the real one is looked at.
    let mut row = subscriber("sub.example", 0);
    row.authority = Authority::parse(&host).unwrap();
    row.start = Seq(1);
    row.registrations[0].inbox = site.iri("/inbox");
    rig.store.write(move |tx| tx.put_subscriber(row)).await.unwrap();
    delivery.start();
    site.demand(Some((Scheme::Rfc9421, 401)));
    rig.append_many(3).await;
    let lane = || delivery.lanes().into_iter().find(|lane| lane.authority.as_str() == host);
    let started = std::time::Instant::now();
    while lane().is_none_or(|lane| lane.lag > 0) {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", lane());
        sleep(Duration::from_millis(20)).await;
    }
    let headers = site.headers_of("/inbox");
    assert_eq!(headers["content-type"], "application/activity+json");
    assert!(headers.contains_key("signature-input") && headers.contains_key("content-digest"));
    let facts: AuthorityFacts = rig.store.get(&host).unwrap().unwrap();
    assert_eq!(facts.scheme, Some(Scheme::Rfc9421));
    assert!(supervisor.stop(Duration::from_secs(5)).await);
    rig.stop().await;
}

/// Waits in real time.
async fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn whatever_an_inbox_does_instead_of_answering_is_a_counted_failure_with_a_named_reason() {
    const BOMB: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-encoding: gzip\r\ncontent-length: 20\r\n\r\n\
        \x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    const CHUNKS: &[u8] = b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n";
    let (dir, clock, _) = noon();
    let (canary, knocks) = raw_server(CANARY, b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let away = format!("HTTP/1.1 301 Moved\r\nlocation: http://{canary}/\r\ncontent-length: 0\r\n\r\n");
    let plain = async |answer: &'static [u8]| raw_server(OPEN, answer).await.0;
    let redirects = plain(away.leak().as_bytes()).await;
    let short = plain(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\nnot so many").await;
    let silent = plain(b"HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\nzzz").await;
    let bomb = plain(BOMB).await;
    let (body, body_taken) = hose(OPEN, CHUNKS, b"1000\r\n").await;
    let (lines, lines_taken) =
        hose(OPEN, b"HTTP/1.1 202 Accepted\r\n", b"x-more: and more and more and more\r\n").await;
    let (line, line_taken) = hose(OPEN, b"HTTP/1.1 202 Accepted\r\nx-long: ", &[b'x'; 4096]).await;
    // It has a certificate for `tls.example`, a name that leads outside once, and from then on inside.
    let tls = tls_server().await;
    let good = plain(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let closed = tokio::net::TcpListener::bind((OPEN, 0)).await.unwrap().local_addr().unwrap();
    let inboxes = [
        (format!("http://{redirects}"), "HTTP 301"),
        (format!("http://{body}"), "too_big"),
        (format!("http://{silent}"), "timeout"),
        (format!("http://{lines}"), "broken"),
        (format!("http://{line}"), "broken"),
        (format!("http://{}", resetting(OPEN).await), "broken"),
        (format!("http://{closed}"), "connect"),
        (format!("http://{short}"), "broken"),
        (format!("http://{bomb}"), "coding"),
        (format!("https://other.example:{tls}"), "tls"),
        (format!("https://tls.example:{tls}"), "refused"),
        (format!("http://{good}"), ""),
    ];
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let names = Names::Scripted(Arc::new(move |name| {
        let inside = name == "tls.example" && asked.fetch_add(1, Ordering::SeqCst) > 0;
        vec![if inside { CANARY } else { OPEN }.parse().unwrap()]
    }));
    let fetch = crate::net::testing::fetch();
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let net = config::Net { extra_roots: vec![ca.into()], ..Config::embedded().net };
    let client = Client::with_names(&net, &fetch, "shearwater/test", names).unwrap();
    let resolver = client.clone();
    let keys = KeyRing::new(Standing::only(crate::net::testing::keys()));
    let signed = SignedClient::new(client, keys, clock.clone(), &fetch);
    let mut rig = Rig::carried_by(Courier::Signed(Box::new(signed)), dir.path(), &clock, |config| {
        config.timeout = Duration::from_secs(2);
        config.retry = vec![Duration::from_secs(3600)];
    });
    let mut hosts = Vec::new();
    for (slot, (origin, reason)) in inboxes.iter().enumerate() {
        let mut row = subscriber("sub.example", u32::try_from(slot).unwrap());
        row.authority = iri(&format!("{origin}/inbox")).authority();
        row.registrations[0].inbox = iri(&format!("{origin}/inbox"));
        row.registrations[0].actor = iri(&format!("{origin}/actor"));
        hosts.push((row.authority.as_str().to_owned(), *reason));
        let facts = AuthorityFacts { software: Some("mastodon".to_owned()), ..AuthorityFacts::default() };
        let put = rig.store.write(move |tx| {
            tx.put(row.authority.as_str(), &facts)?;
            tx.put_subscriber(row)
        });
        put.await.unwrap();
    }
    let before = resident();
    rig.append_many(1).await;
    let turning = format!("tls.example:{tls}");
    soon("what turns has taken one post", || rig.lane(&turning).is_some_and(|lane| lane.lag == 0)).await;
    resolver.forget("tls.example");
    rig.append_many(1).await;
    let started = std::time::Instant::now();
    for (host, reason) in hosts.iter().filter(|(_, reason)| !reason.is_empty()) {
        let failed = || rig.lane(host).is_some_and(|lane| lane.state == LaneState::Failing);
        soon(&format!("{host} ({reason}) is found failing"), failed).await;
        assert_eq!(rig.lane(host).and_then(|lane| lane.last_reason).as_deref(), Some(*reason), "{host}");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "each within its deadline: {:?}", started.elapsed());
    soon("the good one has all", || rig.lane(&good.to_string()).is_some_and(|lane| lane.lag == 0)).await;
    for (host, reason) in hosts.iter().filter(|(_, reason)| !reason.is_empty()) {
        let noted = || rig.row(host).is_some_and(|row| row.health.last_reason.as_deref() == Some(*reason));
        soon(&format!("{host} ({reason}) is written down"), noted).await;
        assert!(rig.row(host).is_some_and(|row| row.health.consecutive == 1), "{host}: counted once");
    }
    let later = rig.delivery.0.metrics.deliveries.with_label_values(&["later"]).get();
    assert!(later >= 11, "{later} attempts to be tried again");
    for (what, taken) in [("body", body_taken), ("lines", lines_taken), ("line", line_taken)] {
        // What was on its way when the connection was closed waits in buffers of the kernel.
        let taken = taken.load(Ordering::SeqCst);
        assert!(taken < 16 << 20, "an endless {what}: {taken} bytes were taken");
    }
    assert!(resident() < before + (24 << 20), "memory: {before} bytes before, {} after", resident());
    assert_eq!(knocks.load(Ordering::SeqCst), 0, "nobody is led inside");
    rig.stop().await;
}

/// Memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

//! What signed requests promise, with servers on loopback.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::super::guard::Refused;
use super::super::keyring::{Standing, Untold};
use super::super::testing::{self, CANARY, NOON, OPEN, OTHER, Page, Site, raw_server};
use super::*;
use crate::telemetry::Metrics;
use crate::wire::http_sig::Request;

fn client() -> SignedClient {
    testing::signed_client(Clock::manual(NOON), &testing::fetch())
}

fn note(id: &str) -> Page {
    Page::document(json!({ "id": id, "type": "Note" }))
}

#[tokio::test]
async fn every_hop_is_signed_for_its_own_host() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    site.set("/a?x=1", Page::redirect(&other.url("/b")));
    other.set("/b", Page::redirect(&site.url("/c")));
    site.set("/c", note(&site.url("/c")));
    let fetched = client().get(&site.iri("/a?x=1#part")).await.unwrap();
    assert_eq!(fetched.id, site.iri("/c"));
    for (site, path) in [(&site, "/a?x=1"), (&other, "/b"), (&site, "/c")] {
        let headers = site.headers_of(path);
        assert_eq!(headers["accept"], ACCEPT_DOCUMENT);
        assert_eq!(headers["accept-encoding"], "gzip");
        assert!(!headers.contains_key("digest"));
        let request = Request { method: &Method::GET, target: path, headers: &headers };
        let claim = http_sig::read(&request, b"", &site.url(""), NOON).unwrap();
        assert_eq!(claim.key_id, "https://relay.example/actor#main-key");
        assert!(claim.verify(&testing::keys().rsa.public()), "{path}");
    }
}

#[tokio::test]
async fn redirects_end_after_three_and_never_change_the_scheme_or_lead_inside() {
    let (canary, hits) = raw_server(CANARY, b"HTTP/1.1 200 OK\r\n\r\n").await;
    let site = Site::start(OPEN).await;
    for n in 0..9 {
        site.set(&format!("/{n}"), Page::redirect(&format!("/{}", n + 1)));
    }
    site.set("/9", note(&site.url("/9")));
    site.set("/loop", Page::redirect("/loop"));
    site.set("/tls", Page::redirect(&format!("https://{}/9", site.addr)));
    site.set("/file", Page::redirect("file:///etc/passwd"));
    site.set("/nowhere", Page::status(302));
    site.set("/inside", Page::redirect(&format!("http://{canary}/")));
    site.set("/name", Page::redirect("//localhost/"));
    assert_eq!(client().get(&site.iri("/6")).await.unwrap().id, site.iri("/9"));
    for path in ["/5", "/loop", "/tls", "/file", "/nowhere"] {
        let fault = client().get(&site.iri(path)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Invalid(_)), "{path}: {fault:?}");
    }
    assert_eq!(client().get(&site.iri("/inside")).await.unwrap_err(), FetchFault::Refused(Refused::IpHost));
    assert!(matches!(client().get(&site.iri("/name")).await.unwrap_err(), FetchFault::Refused(_)));
    assert_eq!(site.asked().iter().filter(|path| *path == "/loop").count(), 4);
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_hop_of_a_journey_leads_inside_whatever_is_fetched() {
    let (canary, hits) = raw_server(CANARY, b"HTTP/1.1 200 OK\r\n\r\n").await;
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let inside = [
        format!("http://{canary}/"),
        format!("http://2130706433:{}/", canary.port()),
        format!("http://0x7f.1:{}/", canary.port()),
        format!("//127.1:{}/", canary.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", canary.port()),
        format!("http://[::1]:{}/", canary.port()),
        format!("http://0.0.0.0:{}/", canary.port()),
        format!("http://user@{canary}/"),
        format!("http://{}@{canary}/", site.addr),
        format!("http://localhost:{}/", canary.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ];
    for target in &inside {
        for (hops, status) in [(1, 301), (2, 302), (3, 307), (3, 308), (1, 303)] {
            for hop in 1..hops {
                let next =
                    if hop % 2 == 0 { site.url(&format!("/{}", hop + 1)) } else { other.url(&format!("/{}", hop + 1)) };
                (if hop % 2 == 0 { &other } else { &site }).set(&format!("/{hop}"), Page::redirect(&next));
            }
            let last = if hops % 2 == 0 { &other } else { &site };
            last.set(&format!("/{hops}"), Page { status, ..Page::redirect(target) });
            let start = site.iri("/1");
            for fault in [
                client().get(&start).await.unwrap_err(),
                client().get_key(&start, true).await.unwrap_err(),
                client().get_key(&start, false).await.unwrap_err(),
                client().get_json(&start.url(), JsonKind::NODEINFO).await.unwrap_err(),
            ] {
                assert!(matches!(fault, FetchFault::Refused(_) | FetchFault::Invalid(_)), "{target} {hops}: {fault:?}");
            }
        }
    }
    // A claimed id on the way is no door either.
    site.set("/claims", note(&format!("http://{canary}/")));
    assert!(matches!(client().get(&site.iri("/claims")).await, Err(FetchFault::Invalid(_))));
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_id_that_differs_is_asked_once_and_must_then_hold() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    site.set("/alias", note(&site.url("/real")));
    site.set("/real", note(&site.url("/real")));
    site.set("/chain", note(&site.url("/alias")));
    site.set("/theft", note(&other.url("/real")));
    site.set("/missing", note(&site.url("/nothing")));
    site.set("/anonymous", Page::document(json!({ "type": "Note" })));
    site.set("/abroad", Page::redirect(&other.url("/posing")));
    other.set("/posing", note(&site.url("/abroad")));
    other.set("/real", note(&other.url("/real")));
    assert_eq!(client().get(&site.iri("/alias")).await.unwrap().id, site.iri("/real"));
    for path in ["/chain", "/theft", "/anonymous", "/abroad"] {
        let fault = client().get(&site.iri(path)).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Invalid(_)), "{path}: {fault:?}");
    }
    assert_eq!(client().get(&site.iri("/missing")).await.unwrap_err(), FetchFault::Gone { status: 404 });
    assert_eq!(other.asked(), ["/posing"], "a foreign id is not even asked for");

    // It must be what it claimed, and not what that leads to.
    site.set("/claims", note(&site.url("/leads")));
    site.set("/leads", Page::redirect("/real"));
    assert!(matches!(client().get(&site.iri("/claims")).await.unwrap_err(), FetchFault::Invalid(_)));

    // Fragments name nothing that could be asked for: these are one request each.
    site.set("/led", Page::redirect("/real#part"));
    for (path, expected) in [("/real#part", &["/real"][..]), ("/led", &["/led", "/real"])] {
        let before = site.asked().len();
        assert_eq!(client().get(&site.iri(path)).await.unwrap().id, site.iri("/real"), "{path}");
        assert_eq!(site.asked()[before..], *expected, "{path}");
    }
    // The second look has what the first left of the redirects.
    for (from, to) in [("/1", "/2"), ("/2", "/alias-of-3"), ("/3", "/4"), ("/4", "/5")] {
        site.set(from, Page::redirect(to));
    }
    site.set("/alias-of-3", note(&site.url("/3")));
    site.set("/5", note(&site.url("/3")));
    assert_eq!(client().get(&site.iri("/2")).await.unwrap().id, site.iri("/3"));
    assert!(matches!(client().get(&site.iri("/1")).await.unwrap_err(), FetchFault::Invalid(_)));
}

#[tokio::test]
async fn only_a_whole_plain_document_is_read() {
    let site = Site::start(OPEN).await;
    let body = json!({ "id": site.url("/x"), "type": "Note" });
    let coded = |coding: &str| {
        let mut page = Page::document(&body);
        page.headers.push(("content-encoding", coding.to_owned()));
        page
    };
    let mut two_types = Page::document(&body);
    two_types.headers.push(("content-type", "text/html".to_owned()));
    let with_status = |status| Page { status, ..Page::document(&body) };
    for bad in [
        Page::typed("text/html", &body),
        Page::typed("application/json", &body),
        Page::typed("application/ld+json", &body),
        two_types,
        coded("br"),
        coded("gzip"),
        coded("gzip, gzip"),
        Page::document("{\"id\":\"x\",\"id\":\"y\"}"),
        Page::document(format!("{{\"id\":{}{}}}", "[".repeat(200), "]".repeat(200))),
        Page::document("{"),
        Page::document(format!("{body}{}", " ".repeat(1024 * 1024))),
        with_status(201),
        with_status(206),
    ] {
        site.set("/x", bad.clone());
        let fault = client().get(&site.iri("/x")).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Invalid(_)), "{bad:?}: {fault:?}");
    }
    for good in [
        Page::document(&body),
        Page::typed("application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"", &body),
        coded("identity"),
        Page::document(format!("{body}{}", " ".repeat(1024 * 1024 - 200))),
    ] {
        site.set("/x", good);
        assert_eq!(client().get(&site.iri("/x")).await.unwrap().id, site.iri("/x"));
    }
    for (status, fault) in [
        (404, FetchFault::Gone { status: 404 }),
        (410, FetchFault::Gone { status: 410 }),
        (401, FetchFault::Forbidden { status: 401 }),
        (403, FetchFault::Forbidden { status: 403 }),
        (429, FetchFault::TryLater("429")),
        (503, FetchFault::TryLater("5xx")),
    ] {
        site.set("/x", with_status(status));
        assert_eq!(client().get(&site.iri("/x")).await.unwrap_err(), fault);
    }
}

#[tokio::test]
async fn endless_and_slow_documents_end() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/activity+json\r\n";
    let endless = [head, &b"transfer-encoding: chunked\r\n\r\nffffff\r\n..."[..]].concat();
    let (addr, _) = raw_server(OPEN, endless.leak()).await;
    let iri = |addr| Iri::parse(&format!("http://{addr}/x")).unwrap();
    assert!(matches!(client().get(&iri(addr)).await.unwrap_err(), FetchFault::Invalid(_)));
    let slow = [head, &b"content-length: 100\r\n\r\n{zzz"[..]].concat();
    let (addr, _) = raw_server(OPEN, slow.leak()).await;
    let mut fetch = testing::fetch();
    fetch.timeout = Duration::from_millis(200);
    let hasty = testing::signed_client(Clock::manual(NOON), &fetch);
    assert_eq!(hasty.get(&iri(addr)).await.unwrap_err(), FetchFault::TryLater("timeout"));
}

#[tokio::test]
async fn a_server_that_refuses_cavage_is_knocked_once_more_and_remembered() {
    let site = Site::start(OPEN).await;
    for path in ["/1", "/2"] {
        site.set(path, note(&site.url(path)));
    }
    for status in [400, 401] {
        let client = client();
        site.demand(Some((Scheme::Rfc9421, status)));
        let before = site.asked().len();
        client.get(&site.iri("/1")).await.unwrap();
        client.get(&site.iri("/2")).await.unwrap();
        assert_eq!(site.asked()[before..], ["/1", "/1", "/2"], "{status}");
        assert!(site.last_headers().contains_key("signature-input"));
        // It changes its mind: knocked the other way round.
        site.demand(Some((Scheme::Cavage, status)));
        client.get(&site.iri("/1")).await.unwrap();
        client.get(&site.iri("/2")).await.unwrap();
        assert_eq!(site.asked()[before + 3..], ["/1", "/1", "/2"], "{status}");
        site.demand(None);
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_gets_a_rest() {
    let clock = Clock::manual(NOON);
    let client = testing::signed_client(clock.clone(), &testing::fetch());
    let (addr, hits) = raw_server(OPEN, b"nonsense\r\n\r\n").await;
    let iri = Iri::parse(&format!("http://{addr}/x")).unwrap();
    for _ in 0..5 {
        assert_eq!(client.get(&iri).await.unwrap_err(), FetchFault::TryLater("broken"));
    }
    let before = hits.load(Ordering::SeqCst);
    assert_eq!(client.get(&iri).await.unwrap_err(), FetchFault::TryLater("resting"));
    assert_eq!(hits.load(Ordering::SeqCst), before);
    clock.advance(Duration::from_secs(61));
    assert_eq!(client.get(&iri).await.unwrap_err(), FetchFault::TryLater("broken"));
}

#[tokio::test]
async fn a_stranger_gives_no_host_a_rest_by_pages_that_are_slow_or_cut_off() {
    let mut fetch = testing::fetch();
    fetch.timeout = Duration::from_millis(300);
    let client = testing::signed_client(Clock::manual(NOON), &fetch);
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nzzz"] {
        let (addr, _) = raw_server(OPEN, answer).await;
        let iri = |page: usize| Iri::parse(&format!("http://{addr}/proxy?{page}#key")).unwrap();
        for page in 0..10 {
            let fault = client.get_key(&iri(page), false).await.unwrap_err();
            assert!(matches!(fault, FetchFault::TryLater("broken" | "timeout")), "{page}: {fault:?}");
        }
        // Who is familiar has begun with a clean slate, and finds out for itself.
        let mut rests = false;
        for page in 0..20 {
            let fault = client.get_key(&iri(page), true).await.unwrap_err();
            rests = fault == FetchFault::TryLater("resting");
            assert!(!rests || page >= 5, "{page}: {fault:?}");
            if rests {
                break;
            }
        }
        assert!(rests);
    }
    // That nobody is there is the host's own fault, whoever asks.
    let closed = tokio::net::TcpListener::bind((OPEN, 0)).await.unwrap().local_addr().unwrap();
    let iri = Iri::parse(&format!("http://{closed}/a#key")).unwrap();
    for _ in 0..5 {
        assert_eq!(client.get_key(&iri, false).await.unwrap_err(), FetchFault::TryLater("connect"));
    }
    assert_eq!(client.get_key(&iri, false).await.unwrap_err(), FetchFault::TryLater("resting"));
}

#[tokio::test]
async fn a_post_is_signed_with_its_digest_and_follows_nothing() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    site.set("/inbox", Page { status: 307, ..Page::redirect(&other.url("/inbox")) });
    let body = Bytes::from_static(b"{\"type\":\"Accept\"}");
    for scheme in [Scheme::Cavage, Scheme::Rfc9421] {
        let timeout = Duration::from_secs(5);
        let answer = client().post(&site.iri("/inbox"), &body, &Body::of(&body), scheme, timeout).await.unwrap();
        assert_eq!(answer.status, 307);
        let headers = site.last_headers();
        assert!(headers["content-type"] == "application/activity+json" && headers["accept"] == "*/*");
        let request = Request { method: &Method::POST, target: "/inbox", headers: &headers };
        let claim = http_sig::read(&request, &body, &site.url(""), NOON).unwrap();
        assert!(claim.scheme == scheme && claim.verify(&testing::keys().rsa.public()));
    }
    assert!(other.asked().is_empty());
    let (canary, hits) = raw_server(CANARY, b"HTTP/1.1 202 Accepted\r\n\r\n").await;
    for status in [301, 302, 307, 308] {
        site.set("/inbox", Page { status, ..Page::redirect(&format!("http://{canary}/inbox")) });
        let timeout = Duration::from_secs(5);
        let answer =
            client().post(&site.iri("/inbox"), &body, &Body::of(&body), Scheme::Cavage, timeout).await.unwrap();
        assert_eq!(answer.status, status, "an answer like any other");
    }
    assert_eq!(hits.load(Ordering::SeqCst), 0);
    let inside = Iri::parse("http://127.0.0.1:9/inbox").unwrap();
    let refused = client().post(&inside, &body, &Body::of(&body), Scheme::Cavage, Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(NetFault::Refused(_))));
}

#[tokio::test]
async fn one_signature_serves_all_who_have_an_inbox_at_the_same_path_and_names_none_of_them() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let metrics = Metrics::new();
    let client = client();
    let client = SignedClient { client: client.client.clone().counted_in(metrics.clone()), ..client };
    let body = Bytes::from_static(b"{}");
    let digest = Body::of(&body);
    let post = async |site: &Site, path: &str| {
        let answer = client.post_shared(&site.iri(path), &body, &digest, Duration::from_secs(5)).await.unwrap();
        assert_eq!(answer.status, 404, "these pages are not set");
        site.headers_of(path)
    };
    // At the same moment: all wait for the one that is made.
    let (one, two, ..) =
        tokio::join!(post(&site, "/inbox"), post(&other, "/inbox"), post(&site, "/inbox"), post(&other, "/inbox"),);
    assert_eq!(one["signature"], two["signature"]);
    let signature = one["signature"].to_str().unwrap();
    assert!(signature.contains(r#"headers="(request-target) date digest content-type""#), "{signature}");
    assert_eq!((&one["host"], &two["host"]), (&site.host(), &other.host()), "each is still called by its name");
    let made = || metrics.signature_seconds.with_label_values(&["sign"]).get_sample_count();
    assert_eq!(made(), 1);
    let elsewhere = post(&site, "/actor/inbox").await;
    assert_ne!(elsewhere["signature"], one["signature"]);
    assert_eq!(made(), 2);
    let own = client.post(&site.iri("/inbox"), &body, &digest, Scheme::Cavage, Duration::from_secs(5)).await;
    own.unwrap();
    assert_ne!(site.headers_of("/inbox")["signature"], one["signature"]);
}

/// A server that was not told of the new key yet is not among those that share what the new one signs.
#[tokio::test]
async fn who_knows_only_the_leaving_key_shares_its_signature_with_the_likes_of_it() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let (old, new) = (testing::keys(), testing::other_keys());
    let standing = Standing {
        leaving: Some(Arc::new(old.clone())),
        untold: Untold::These(HashSet::from([site.iri("/").authority()])),
        ..Standing::only(new.clone())
    };
    let client = testing::signed_client_with(KeyRing::new(standing), Clock::manual(NOON), &testing::fetch());
    let body = Bytes::from_static(b"{}");
    for (site, key) in [(&site, &old), (&other, &new)] {
        client.post_shared(&site.iri("/inbox"), &body, &Body::of(&body), Duration::from_secs(5)).await.unwrap();
        let headers = site.headers_of("/inbox");
        let signature = headers["signature"].to_str().unwrap();
        assert!(signature.contains(&format!("keyId=\"{}\"", key.rsa.key_id())), "{signature}");
    }
}

#[tokio::test]
async fn which_key_signs_is_asked_at_each_signature() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let keys = KeyRing::new(Standing::only(testing::keys()));
    let client = testing::signed_client_with(keys.clone(), Clock::manual(NOON), &testing::fetch());
    let body = Bytes::from_static(b"{}");
    let signed_with = async |site: &Site| {
        let (inbox, digest, limit) = (site.iri("/inbox"), Body::of(&body), Duration::from_secs(5));
        client.post(&inbox, &body, &digest, Scheme::Cavage, limit).await.unwrap();
        let headers = site.last_headers();
        let request = Request { method: &Method::POST, target: "/inbox", headers: &headers };
        http_sig::read(&request, &body, &site.url(""), NOON).unwrap().key_id
    };
    let (old, new) = ("https://relay.example/actor#main-key", "https://relay.example/actor#main-key-2");
    assert_eq!(signed_with(&site).await, old);
    let (signs, leaving) = (Arc::new(testing::other_keys()), Some(Arc::new(testing::keys())));
    let untold = Untold::These(HashSet::from([site.iri("/").authority()]));
    keys.set(Standing { signs, coming: None, leaving, untold });
    assert_eq!((signed_with(&site).await.as_str(), signed_with(&other).await.as_str()), (old, new));
    keys.set_untold(Untold::Nobody);
    assert_eq!(signed_with(&site).await, new);
}

#[tokio::test]
async fn plain_json_is_unsigned_and_may_be_elsewhere() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let kind = JsonKind::WEBFINGER;
    site.set("/jrd", Page::redirect(&other.url("/jrd")));
    other.set("/jrd", Page::typed("application/jrd+json; charset=utf-8", json!({ "links": [] })));
    let answer = client().get_json(&site.iri("/jrd").url(), kind).await.unwrap();
    assert_eq!((answer.url.as_str(), answer.value), (other.url("/jrd").as_str(), json!({ "links": [] })));
    assert!(!other.last_headers().contains_key("signature"));
    other.set("/jrd", Page::typed("text/html", "{}"));
    assert!(matches!(client().get_json(&site.iri("/jrd").url(), kind).await, Err(FetchFault::Invalid(_))));
    other.set("/jrd", Page::typed("application/json", format!("{{}}{}", " ".repeat(64 * 1024))));
    assert!(matches!(client().get_json(&site.iri("/jrd").url(), kind).await, Err(FetchFault::Invalid(_))));
}

#[tokio::test]
async fn a_key_is_not_looked_for_at_another_origin() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    site.set("/away", Page::redirect(&other.url("/x")));
    site.set("/moved", Page::redirect(&site.url("/x")));
    site.set("/x", note(&site.url("/x")));
    for familiar in [true, false] {
        let fault = client().get_key(&site.iri("/away"), familiar).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Invalid(_)), "{fault:?}");
        assert_eq!(client().get_key(&site.iri("/moved"), familiar).await.unwrap().id, site.iri("/x"));
    }
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_host_that_others_redirect_to_is_visited_ten_times_a_second_at_most() {
    let (site, other) = (Site::start(OPEN).await, Site::start(OTHER).await);
    let (client, started) = (client(), std::time::Instant::now());
    site.set("/away", Page::redirect(&other.url("/x")));
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..60 {
        let (client, from) = (client.clone(), site.iri("/away"));
        asking.spawn(async move {
            if n % 2 == 0 {
                client.get(&from).await.unwrap_err()
            } else {
                client.get_json(&from.url(), JsonKind::NODEINFO).await.unwrap_err()
            }
        });
    }
    let outcomes = asking.join_all().await;
    let allowed = 10 + usize::try_from(started.elapsed().as_millis() / 100).unwrap() + 1;
    assert!(other.asked().len() <= allowed, "{} visits", other.asked().len());
    assert!(outcomes.contains(&FetchFault::TryLater("busy")) && outcomes.contains(&FetchFault::Gone { status: 404 }));
}

#[tokio::test]
async fn a_stranger_who_serves_slowly_has_four_seconds() {
    let (addr, _) = raw_server(OPEN, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{zzz").await;
    let mut fetch = testing::fetch();
    fetch.timeout = Duration::from_secs(60);
    let client = testing::signed_client(Clock::manual(NOON), &fetch);
    let iri = Iri::parse(&format!("http://{addr}/x")).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(client.get_key(&iri, false).await.unwrap_err(), FetchFault::TryLater("timeout"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

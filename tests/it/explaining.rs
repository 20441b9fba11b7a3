//! Why not? What was refused is explained to the other admin, and to the operator; and nobody learns more than they may, nor
//! makes us knock where nobody knocked here.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Admission;
use shearwater::demo::{As, Family, Fault, Instance, Options, PostSpec, Tweaks, Visibility, Where};
use shearwater::relay::check::{LOOK_GAP, SHOWN_AFTER};
use shearwater::relay::probe::{Depth, Outcome};
use shearwater::store::{Act, MOST_OF_DOMAIN, NOT_KEPT, Refusal, Rule, RuleChange, Severity, Source};

use crate::asking::{Answer, ask};
use crate::support::{LIKE, TestRelay, authority, eventually};

fn now() -> Timestamp {
    Clock::system().now()
}

/// What `/check` says of a server, as JSON, with what else is asked.
async fn check(relay: &TestRelay, domain: &str, and: &str) -> Value {
    let answer = page(relay, &format!("/check?domain={domain}{and}"), "Accept: application/json\r\n").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// Each question from an address of its own: how often one may ask is another promise.
async fn page(relay: &TestRelay, path: &str, headers: &str) -> Answer {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let from = std::net::Ipv4Addr::from_bits(0xC612_0000 + ASKED.fetch_add(1, Ordering::Relaxed));
    let headers = format!("X-Forwarded-For: {from}\r\n{headers}");
    ask(relay.server.http_addr().expect("an address"), "GET", path, &headers).await
}

fn found<'a>(told: &'a Value, about: &str) -> Vec<&'a str> {
    let steps = told["steps"].as_array().expect("steps");
    steps.iter().filter(|one| one["about"] == about).map(|one| one["found"].as_str().expect("a sentence")).collect()
}

async fn instance(clock: &Clock, family: Family, name: &str) -> Instance {
    let options = Options { name: name.to_owned(), clock: clock.clone(), ..Options::default() };
    Instance::start(family, options).await.expect("an instance")
}

/// The parameter that shows everything.
fn with_code(relay: &TestRelay, one: &Instance) -> String {
    let link = relay.relay().check_link(&authority(one));
    format!("&{}", link.rsplit('&').next().expect("a code"))
}

async fn put(relay: &TestRelay, rule: Rule) {
    relay.relay().change_rules(vec![RuleChange::Put(rule)], &Act::local("a test")).await.expect("the rule is made");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_is_told_what_was_refused_and_what_to_mend() {
    let relay = TestRelay::start().await;
    let bad = instance(&Clock::system(), Family::Mastodon, "bad").await;
    let url = Some(format!("{}/inbox", relay.url()));
    let spoilt = Tweaks { url: url.clone(), spoilt: true, ..Tweaks::default() };
    let late = now().minus(Duration::from_secs(3 * 3600));
    let stale = Tweaks { url, date: Some(late), ..Tweaks::default() };
    for tweaks in [&spoilt, &spoilt, &stale] {
        let author = As::Author("ada".to_owned());
        bad.send_raw(LIKE, &author, tweaks).await.expect("an answer");
    }
    let host = authority(&bad);
    let mut told = Value::Null;
    for _ in 0..600 {
        told = check(&relay, host.as_str(), "").await;
        if found(&told, "requests").len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let requests = found(&told, "requests").join("\n");
    assert!(requests.contains("does not match the key") && requests.contains("401 (signature)"), "{told:#}");
    assert!(requests.contains("too far from this server's clock") && requests.contains("(date)"), "{told:#}");
    let steps = told["steps"].as_array().expect("steps");
    let spoilt = steps.iter().find(|one| one["found"].as_str().is_some_and(|text| text.contains("(signature)")));
    let spoilt = spoilt.expect("a step");
    assert_eq!((&spoilt["count"], &spoilt["outcome"]), (&2.into(), &"bad".into()));
    assert!(spoilt["remedy"].as_str().is_some_and(|text| text.contains("wait ten minutes")), "{told:#}");
    assert!(!told.to_string().contains("/users/"), "nothing about people: {told}");

    let html = page(&relay, &format!("/check?domain={host}"), "Accept: text/html\r\n").await;
    assert!(html.body.contains("does not match the key") && html.body.contains("2 times"), "{}", html.body);
    assert!(!html.body.contains("<script") && html.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!((html.header("cache-control"), html.header("x-robots-tag")), ("no-store", "noindex"));
    let empty = page(&relay, "/check", "").await;
    assert!(empty.status == 200 && empty.body.contains("<form"), "{}", empty.body);
    for (query, says) in [
        ("?domain=two+words", "no name of a server"),
        ("?domain=%3Cscript%3Ealert(1)%3C/script%3E", "&#60;script"),
        (&format!("?domain={}", relay.url()), "this relay itself"),
    ] {
        let wrong = page(&relay, &format!("/check{query}"), "").await;
        assert!(wrong.status == 400 && wrong.body.contains(says), "{query}: {}", wrong.body);
        assert!(!wrong.body.contains("<script"), "{}", wrong.body);
    }
    let nothing = page(&relay, "/check", "Accept: application/json\r\n").await;
    assert_eq!((nothing.status, nothing.json()["error"].is_string()), (400, true));
}

/// Whether a server joined is its own business: the answers about it and about a name that nobody ever heard of differ in
/// the name alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_tell_who_joined_and_the_servers_own_link_tells_all() {
    let relay = TestRelay::start().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let host = authority(&member);
    member.post(PostSpec::public("for the followers").visible_to(Visibility::Unlisted)).await.expect("an answer");
    let silence = Rule::new(host.as_str().parse().expect("a target"), Severity::Silence, Source::Operator, now());
    put(&relay, Rule { reason: "Too loud.".to_owned(), note: "ticket 7".to_owned(), ..silence }).await;
    let nobody = "127.0.0.1:1";
    let about_member = check(&relay, host.as_str(), "").await.to_string().replace(host.as_str(), "X");
    let about_nobody = check(&relay, nobody, "").await.to_string().replace(nobody, "X");
    assert_eq!(about_member, about_nobody);
    let guessed = check(&relay, host.as_str(), &format!("&code={}", "0".repeat(32))).await.to_string();
    assert_eq!(guessed.replace(host.as_str(), "X"), about_nobody);

    let whole = check(&relay, host.as_str(), &with_code(&relay, &member)).await;
    assert_eq!(whole["whole"], true);
    assert_eq!(found(&whole, "joining"), ["It has joined."]);
    assert!(found(&whole, "rules")[0].contains("passes nothing on") && found(&whole, "rules")[0].contains("Too loud."));
    assert!(!whole.to_string().contains("ticket 7"), "a note is the operator's: {whole}");
    let received = found(&whole, "received");
    assert!(received.iter().any(|text| text.contains("asked to join")), "{whole:#}");
    assert!(received.iter().any(|text| text.contains("unlisted")), "{whole:#}");
    assert_eq!(found(&whole, "deliveries").len(), 1);
    let other = instance(&Clock::system(), Family::Mastodon, "other").await;
    let told = check(&relay, host.as_str(), &with_code(&relay, &other)).await;
    assert_eq!(told["whole"], false, "each server has a code of its own");

    let open = TestRelay::start_with(|config| config.relay.show_subscribers = true).await;
    let member = open.joined(Family::Mastodon, "member").await;
    assert_eq!(found(&check(&open, authority(&member).as_str(), "").await, "joining"), ["It has joined."]);
    assert_eq!(found(&check(&open, nobody, "").await, "joining"), ["It has not joined."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_or_is_turned_away_or_blocked_is_told_so() {
    let relay = TestRelay::start_with(|config| config.relay.admission = Admission::Approval).await;
    let waits = instance(&Clock::system(), Family::Mastodon, "waits").await;
    waits.join(relay.url()).await.expect("an answer");
    let host = authority(&waits);
    eventually("it waits", || relay.relay().facts(&host).is_ok_and(|facts| facts.software_read.is_some())).await;
    let read = || -> u64 {
        waits.fetches().iter().filter(|(path, _)| path.starts_with("/nodeinfo/")).map(|(_, count)| *count).sum()
    };
    let before = read();
    let told = check(&relay, host.as_str(), "").await;
    assert!(found(&told, "joining")[0].contains("waits for the operator"), "{told:#}");
    eventually("it was looked at for this, to the last step", || read() == before + 1).await;

    let block = Rule::new(host.as_str().parse().expect("a target"), Severity::Block, Source::Operator, now());
    put(&relay, Rule { reason: "You sent spam.".to_owned(), note: "ticket 8".to_owned(), ..block }).await;
    let whole = check(&relay, host.as_str(), &with_code(&relay, &waits)).await;
    assert!(found(&whole, "received")[0].contains("turned away"), "{whole:#}");
    let fetched = waits.fetches();
    let told = check(&relay, host.as_str(), "").await;
    assert!(found(&told, "rules")[0].contains("You sent spam."), "{told:#}");
    assert!(!told.to_string().contains("ticket 8"), "{told}");
    assert_eq!(told["look"]["state"], "not-due", "a blocked server is not looked at");
    assert_eq!(waits.fetches(), fetched);

    let listed = TestRelay::start_with(|config| config.relay.admission = Admission::Allowlist).await;
    let refused = waits.join(listed.url()).await.expect("an answer");
    let detail = crate::support::json(&refused.body)["detail"].as_str().expect("a text").to_owned();
    let link = detail.split_whitespace().last().expect("a link").strip_prefix(listed.url()).expect("ours").to_owned();
    let whole = page(&listed, &link, "Accept: application/json\r\n").await.json();
    assert_eq!(whole["whole"], true, "who signed as the server is given its link: {detail}");
    assert!(found(&whole, "received").iter().any(|text| text.contains("turned down")), "{whole:#}");
    assert_eq!(found(&whole, "joining"), ["It has not joined."]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knocked_is_looked_at_once_in_ten_minutes_and_how_fast_it_answered_is_not_told() {
    let clock = Clock::manual(now());
    let relay = TestRelay::start_at(clock.clone(), |config| config.relay.admission = Admission::Approval).await;
    let quiet = instance(&clock, Family::Mastodon, "quiet").await;
    let told = check(&relay, authority(&quiet).as_str(), "").await;
    assert_eq!(told["look"]["state"], "not-due");
    let knocks = instance(&clock, Family::Mastodon, "knocks").await;
    knocks.join(relay.url()).await.expect("an answer");
    let host = authority(&knocks);
    eventually("it waits", || relay.relay().facts(&host).is_ok_and(|facts| facts.software_read.is_some())).await;
    let looks = |one: &Instance| one.fetches().get("/.well-known/nodeinfo").copied().unwrap_or_default();
    let before = looks(&knocks);
    let told = check(&relay, host.as_str(), "").await;
    assert_eq!(told["look"]["state"], "under-way");
    eventually("it is looked at", || looks(&knocks) == before + 1).await;
    for _ in 0..5 {
        let told = check(&relay, host.as_str(), "").await;
        assert_eq!(told["look"]["state"], "under-way", "it has answered long ago, and that is not told");
    }
    clock.advance(SHOWN_AFTER);
    let told = check(&relay, host.as_str(), "").await;
    assert_eq!(told["look"]["state"], "done", "{told:#}");
    let steps = told["look"]["steps"].as_array().expect("steps");
    let outcomes: Vec<_> = steps.iter().map(|one| (one["what"].as_str(), one["outcome"].as_str())).collect();
    let good = Some("good");
    let expected = [(Some("rules"), good), (Some("actor"), good), (Some("webfinger"), good), (Some("nodeinfo"), good)];
    assert_eq!(outcomes, expected, "{told:#}");
    assert!(!told.to_string().contains("\"detail\""), "{told}");
    assert_eq!(looks(&knocks), before + 1);
    clock.advance(LOOK_GAP - SHOWN_AFTER);
    assert_eq!(check(&relay, host.as_str(), "").await["look"]["state"], "under-way", "ten minutes are over");
    eventually("it is looked at again", || looks(&knocks) == before + 2).await;
    assert!(quiet.fetches().is_empty(), "nobody was asked who did not knock: {:?}", quiet.fetches());
    // A week later it is a stranger again, though it waits still.
    clock.advance(Duration::from_secs(8 * 24 * 3600));
    assert_eq!(check(&relay, host.as_str(), "").await["look"]["state"], "not-due");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_to_wait() {
    let relay = TestRelay::start().await;
    let mut answers = Vec::new();
    for _ in 0..40 {
        let addr = relay.server.http_addr().expect("an address");
        answers.push(ask(addr, "GET", "/check?domain=small.example", "X-Forwarded-For: 192.0.2.1\r\n").await);
    }
    let late = answers.iter().find(|one| one.status == 429).expect("one too many");
    assert!(late.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
    assert_eq!(answers[0].status, 200);
}

fn refusal(at: Timestamp, claimed: Option<&str>, check: &str) -> Refusal {
    Refusal {
        at,
        claimed: claimed.map(str::to_owned),
        check: check.to_owned(),
        status: 503,
        detail: "it failed".to_owned(),
        count: 1,
        signed: true,
    }
}

async fn write_refusals(relay: &TestRelay, rows: Vec<Refusal>) {
    let keyed = |(number, row): (usize, &Refusal)| (format!("{:015}-{number:012}", row.at.millis()), row.clone());
    let rows: Vec<_> = rows.iter().enumerate().map(keyed).collect();
    relay.store().write(move |tx| rows.iter().try_for_each(|(key, row)| tx.put(key, row))).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_refusals_were_not_kept_nobody_is_told_that_there_were_none() {
    let clock = Clock::manual(now());
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let says = async |domain: &str| found(&check(&relay, domain, "").await, "requests").join(" ");
    assert!(says("x.crowded.example").await.contains("was refused in the last seven days"));
    let of_domain = |number: usize| refusal(clock.now(), Some(&format!("s{number}.crowded.example")), "digest");
    write_refusals(&relay, (0..MOST_OF_DOMAIN).map(of_domain).collect()).await;
    clock.advance(Duration::from_secs(6));
    assert!(says("x.crowded.example").await.contains("not all of it was kept"), "its domain has used up its share");
    assert!(says("other.example").await.contains("No request that named this server was refused"));
    write_refusals(&relay, vec![refusal(clock.now(), None, NOT_KEPT)]).await;
    clock.advance(Duration::from_secs(6));
    let told = check(&relay, "other.example", "").await;
    assert!(found(&told, "requests")[0].contains("not all of it was kept"), "{told:#}");
    assert_eq!(told["look"]["state"], "not-due");
    assert!(says("s1.crowded.example").await.contains("digest"), "what is known is told");
}

/// While the disk is full a stranger's post is answered 202 as ever, and a member's 503: so that shows who joined.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_who_joined_can_be_refused_for_is_told_to_nobody_else() {
    let relay = TestRelay::start().await;
    let member = instance(&Clock::system(), Family::Mastodon, "member").await;
    let (host, nobody) = (authority(&member), "127.0.0.1:1");
    let rows = ["disk", "overload", "held-full"].map(|check| refusal(now(), Some(host.as_str()), check));
    write_refusals(&relay, rows.to_vec()).await;
    let about_member = check(&relay, host.as_str(), "").await.to_string().replace(host.as_str(), "X");
    let about_nobody = check(&relay, nobody, "").await.to_string().replace(nobody, "X");
    assert_eq!(about_member, about_nobody);
    let whole = check(&relay, host.as_str(), &with_code(&relay, &member)).await;
    assert_eq!(found(&whole, "requests").len(), 3, "{whole:#}");
}

/// What the operator sees when they look at a server.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_tells_each_step_and_changes_nothing() {
    let relay = TestRelay::start().await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let host = authority(&member);
    let subscriber = relay.store().subscriber(&host);
    let probe = relay.relay().probe(&host, Depth::Deliver).await;
    let steps: Vec<_> = probe.steps.iter().map(|one| (one.what, one.outcome)).collect();
    let expected = ["rules", "actor", "webfinger", "nodeinfo", "delivery"].map(|what| (what, Outcome::Good));
    assert_eq!(steps, expected, "{probe:#?}");
    assert!(probe.is_well());
    assert_eq!(member.received().iter().filter(|one| one.kind == "Update").count(), 1);
    assert_eq!(relay.store().subscriber(&host), subscriber);
    assert_eq!(relay.metric("shearwater_log_head"), 0.0);

    let step = async |what: &str| {
        let probe = relay.relay().probe(&host, Depth::Deliver).await;
        probe.steps.iter().find(|one| one.what == what).cloned().unwrap_or_else(|| panic!("no {what}: {probe:#?}"))
    };
    member.set_fault_at(Where::Documents, Fault::Status(403));
    let actor = step("actor").await;
    assert_eq!(actor.outcome, Outcome::Bad);
    assert!(actor.found.contains("401 or 403") && actor.remedy.contains("firewall"), "{actor:?}");
    assert_eq!(step("delivery").await.outcome, Outcome::Skipped);
    member.set_fault_at(Where::Documents, Fault::None);
    member.set_fault(Fault::Status(401));
    let delivery = step("delivery").await;
    assert!(delivery.outcome == Outcome::Bad && delivery.found.contains("cannot verify our signature"), "{delivery:?}");
    member.set_fault(Fault::None);

    let stranger = instance(&Clock::system(), Family::Mastodon, "stranger").await;
    let known = relay.relay().probe(&authority(&stranger), Depth::AsStranger).await;
    assert_eq!(known.steps[0].what, "rules");
    assert!(stranger.received().is_empty(), "nothing is sent for a stranger's wish");
    let block = Rule::new(host.as_str().parse().expect("a target"), Severity::Block, Source::Operator, now());
    put(&relay, block).await;
    let fetched = member.fetches();
    let probe = relay.relay().probe(&host, Depth::Deliver).await;
    assert_eq!((probe.steps.len(), probe.steps[0].outcome), (1, Outcome::Bad));
    assert_eq!(member.fetches(), fetched, "a blocked server is not asked");
}

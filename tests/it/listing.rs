//! Lists of others, refusals and long answers as the operator meets them: by the commands and by the API.

use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Admission;
use shearwater::demo::{Family, Fault};
use shearwater::store::{Origin, Refusal, Scope};

use crate::asking::Answer;
use crate::lists::{Publisher, names};
use crate::operating::{admin, call, token};
use crate::support::{TestRelay, authority, eventually, publish};

/// Runs a command on the relay's machine; it must end so, and say this.
fn check(relay: &TestRelay, args: &[&str], good: bool, says: &[&str]) -> String {
    let (success, text) = admin(relay, &[], args);
    assert!(success == good && says.iter().all(|one| text.contains(one)), "{args:?}: {text}");
    text
}

fn count_of(relay: &TestRelay, source: &str) -> usize {
    let rules = relay.relay().rules().set();
    rules.iter().filter(|one| one.rule.source.to_string() == source).count()
}

/// The command that a review prints.
fn printed(review: &str) -> Vec<String> {
    let line = review.lines().find_map(|line| line.strip_prefix("To apply it: shearwater admin "));
    line.expect("a command").split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_followed_looked_at_and_applied_by_command_and_the_command_that_is_printed_works() {
    let relay = TestRelay::start().await;
    let commented = format!("#domain,#severity,#public_comment\n{}", names(9).replace('\n', ",suspend,spam\n"));
    let publisher = Publisher::start(&commented).await;
    let (url, run) =
        (publisher.url.clone(), |args: &[&str], good: bool, says: &[&str]| check(&relay, args, good, says));
    run(&["lists", "add", &url, "--name", "dni", "--reason", "a friend says so"], true, &["state: waits", "rules: 0"]);
    run(&["lists", "add", &url, "--name", "dni"], false, &["is followed already"]);
    run(&["lists", "add", "https://10.0.0.1/", "--name", "in"], false, &["no address that is asked"]);
    run(&["lists"], true, &["dni", "waits", "lists review dni"]);
    run(&["stats"], true, &["The list dni wants to be looked at"]);
    let metrics = crate::observing::metrics(&relay).await;
    assert!(metrics.contains("shearwater_lists{state=\"waits\"} 1"), "{metrics}");
    run(&["lists", "apply", "dni"], false, &["100 %", "has to be approved"]);
    run(&["lists", "apply", "dni", "--approve"], false, &["--reviewed"]);
    run(&["lists", "fetch", "dni"], false, &["half a minute"]);
    let review =
        run(&["lists", "review", "dni"], true, &["+ block domain:evil001.example, comment \"spam\"", "--approve"]);
    let command = printed(&review);
    assert_eq!(count_of(&relay, "list:dni"), 0, "it was only looked at");
    run(&command.iter().map(String::as_str).collect::<Vec<_>>(), true, &["9 new", "Done at once"]);
    assert_eq!(count_of(&relay, "list:dni"), 9);
    run(&["lists", "review", "dni"], true, &["Nothing waits"]);
    run(&["lists", "set", "dni", "--auto", "true", "--skip-bad", "true"], true, &["auto: true", "skip_bad: true"]);

    // What stands in the way is said, and taken out of the way by the command that is printed.
    let other = Publisher::start("*l.example\nco.uk\nbad.example\n").await;
    run(&["lists", "add", &other.url, "--name", "bad", "--severity", "silence"], true, &["waits"]);
    run(&["lists", "apply", "bad"], false, &["line 1, column domain", "line 2, column domain", "public suffix"]);
    let review = run(
        &["lists", "review", "bad"],
        true,
        &["stand in the way", "--approve --skip-bad", "silence domain:bad.example"],
    );
    let command = printed(&review);
    run(&command.iter().map(String::as_str).collect::<Vec<_>>(), true, &["1 new"]);
    run(&["lists", "remove", "bad", "--dry-run"], true, &["Nothing was changed"]);
    assert_eq!(count_of(&relay, "list:bad"), 1);
    run(&["lists", "remove", "bad"], true, &["Done at once"]);
    run(&["lists", "remove", "dni", "--keep-rules"], true, &[]);
    assert_eq!((count_of(&relay, "list:bad"), count_of(&relay, "list:dni")), (0, 9));
    run(&["lists", "review", "dni"], false, &["no list called dni is followed"]);
    run(
        &["log", "--what", "list"],
        true,
        &["list.follow", "a friend says so", "list.apply", "list.set", "list.unfollow"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_lists_over_the_api_bears_the_name_of_who_did_it() {
    let relay = TestRelay::start().await;
    let all = token(&relay, Scope::Moderate).await;
    let publisher = Publisher::start(&names(3)).await;
    let ask = async |method: &str, path: &str, body: Value| call(&relay, &all, method, path, body).await;
    let why = |more: Value| {
        let mut body = json!({ "reason": "because" });
        more.as_object().into_iter().flatten().for_each(|(key, value)| body[key] = value.clone());
        body
    };
    let new = ask("POST", "/lists", why(json!({ "name": "dni", "url": publisher.url }))).await;
    assert_eq!((new.status, &new.json()["state"]), (200, &json!("waits")), "{}", new.body);
    let review = ask("GET", "/lists/dni/review", Value::Null).await.json();
    let version = review["version"].as_str().expect("a version");
    assert_eq!((version.len(), &review["needs_approval"]), (64, &json!(true)));
    let apply = |body: Value| ask("POST", "/lists/dni/apply", why(body));
    for (body, status) in [
        (json!({ "approve": true }), 400),
        (json!({}), 409),
        (json!({ "approve": true, "version": &version[..12] }), 409),
        (json!({ "approve": true, "version": version, "dry_run": true }), 400),
        (json!({ "approve": true, "version": version }), 200),
    ] {
        let answer = apply(body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    for (method, path, body, status) in [
        ("POST", "/lists/dni", why(json!({ "severity": "loud" })), 400),
        ("POST", "/lists/dni", why(json!({ "auto": true })), 200),
        ("POST", "/lists/nobody", why(json!({})), 404),
        ("POST", "/lists/dni/fetch", why(json!({})), 409),
        ("GET", "/lists/nobody/review", Value::Null, 404),
        ("DELETE", "/lists/nobody", Value::Null, 404),
        ("DELETE", "/lists/dni?dry_run=true", Value::Null, 200),
        ("DELETE", "/lists/dni?reason=because", Value::Null, 200),
        ("GET", "/lists", Value::Null, 200),
    ] {
        let answer = ask(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    }
    let rows = ask("GET", "/log?what=list", Value::Null).await.json();
    let rows = rows.as_array().expect("rows");
    assert!(rows.iter().all(|row| row["who"] == "token:moderate" && row["why"] == "because"), "{rows:?}");
    let mut what: Vec<_> = rows.iter().map(|row| row["what"].as_str().expect("a word")).collect();
    what.sort_unstable();
    assert_eq!(what, ["list.apply", "list.follow", "list.set", "list.unfollow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_taken_in_anew_has_the_brake_of_those_that_are_followed() {
    let relay = TestRelay::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("mine.txt");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    let path = file.display().to_string();
    write(&names(50));
    check(&relay, &["rules", "import", &path, "--replace"], true, &["50 new"]);
    // Cut short on its way.
    write(&names(20));
    check(
        &relay,
        &["rules", "import", &path, "--replace", "--dry-run"],
        true,
        &["30 taken out", "Nothing was changed"],
    );
    check(&relay, &["rules", "import", &path, "--replace"], false, &["60 %", "--approve"]);
    assert_eq!(count_of(&relay, "list:mine"), 50);
    check(&relay, &["rules", "import", &path], true, &["20 as before"]);
    assert_eq!(count_of(&relay, "list:mine"), 50, "what is only added to takes nothing out");
    check(&relay, &["rules", "import", &path, "--replace", "--approve"], true, &["30 taken out"]);
    assert_eq!(count_of(&relay, "list:mine"), 20);
    check(&relay, &["block", "evil.example", "--reason", "=spam"], true, &[]);
    let mine = check(&relay, &["rules", "export", "--source", "operator"], true, &["evil.example,suspend", ",spam,"]);
    assert!(!mine.contains("evil001.example"), "{mine}");
    check(&relay, &["rules", "export", "--source", "nobody"], false, &["no name for a list"]);
}

fn next_page(answer: &Answer) -> Option<String> {
    let (query, _) = answer.header("link").strip_prefix('<')?.split_once('>')?;
    Some(query.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_come_in_pages_and_filters_take_what_people_type() {
    let relay = TestRelay::start_with(|config| config.policy.block = vec!["file.example".to_owned()]).await;
    let all = token(&relay, Scope::Moderate).await;
    let now = Clock::system().now();
    let at = |minutes: u64| now.minus(Duration::from_secs(60 * minutes));
    for (minutes, claimed, what) in [
        (50, "old.example", "digest"),
        (40, "small.example", "digest"),
        (30, "small.example", "date"),
        (20, "xn--bcher-kva.example", "date"),
    ] {
        let row = Refusal {
            at: at(minutes),
            claimed: Some(claimed.to_owned()),
            check: what.to_owned(),
            status: 401,
            detail: "it failed".to_owned(),
            count: 1,
            signed: false,
        };
        relay.relay().refusals().note(row, Origin::default());
    }
    let get = async |path: &str| call(&relay, &all, "GET", path, Value::Null).await;
    let claimed = |answer: &Answer| -> Vec<String> {
        let rows = answer.json();
        rows.as_array().expect("rows").iter().map(|row| row["claimed"].as_str().expect("a name").to_owned()).collect()
    };
    let written = || relay.store().all::<Refusal>().expect("rows").len() == 4;
    eventually("they are written", written).await;
    let newest = ["xn--bcher-kva.example", "small.example", "small.example", "old.example"];
    let first = get("/refusals?limit=3").await;
    assert_eq!(claimed(&first), newest[..3]);
    let second = get(&format!("/refusals{}", next_page(&first).expect("a next page"))).await;
    assert_eq!((claimed(&second), next_page(&second)), (vec!["old.example".to_owned()], None));
    for (query, expected) in [
        ("host=Small.Example", &newest[1..3]),
        ("host=https://small.example/users/ada", &newest[1..3]),
        ("host=b%C3%BCcher.example", &newest[..1]),
        ("check=DATE", &newest[..2]),
        ("host=nobody.example", &[]),
    ] {
        assert_eq!(claimed(&get(&format!("/refusals?{query}")).await), expected, "{query}");
    }
    let time = |at: Timestamp| at.rfc3339().replace('+', "%2B");
    let query = format!("/refusals?since={}&until={}", time(at(45)), time(at(25)));
    assert_eq!(claimed(&get(&query).await), newest[1..3]);
    for nonsense in ["host=two+words", "since=yesterday", "limit=0", "hosts=x"] {
        assert_eq!(get(&format!("/refusals?{nonsense}")).await.status, 400, "{nonsense}");
    }
    check(
        &relay,
        &["refusals", "--limit", "1", "--since", "35m"],
        true,
        &["xn--bcher-kva.example", "There are more: --after"],
    );
    check(&relay, &["refusals", "https://small.example/", "--check", "date"], true, &["small.example", "NTP"]);
    let stands = get("/check/small.example").await.json();
    assert!(stands["link"].as_str().is_some_and(|link| link.contains("code=")), "{stands}");
    check(
        &relay,
        &["check", "small.example"],
        true,
        &["The digest does not fit the body.", "For its admin, and nobody else"],
    );

    for target in ["a.example", "b.example", "keyword:buy", "keyword:buy now"] {
        check(&relay, &["block", target], true, &[]);
    }
    let (mut query, mut seen) = ("?limit=2".to_owned(), Vec::new());
    loop {
        let page = get(&format!("/rules{query}")).await;
        for row in page.json().as_array().expect("rows") {
            seen.push(row["target"].as_str().expect("a target").to_owned());
        }
        match next_page(&page) {
            Some(next) => query = next,
            None => break,
        }
    }
    let expected = ["domain:file.example", "domain:a.example", "domain:b.example", "keyword:buy", "keyword:buy now"];
    assert_eq!(seen, expected);
    check(&relay, &["rules", "--limit", "1"], true, &["file.example", "There are more: --after"]);
    check(&relay, &["rules", "A.Example"], true, &["domain:a.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_servers_are_dealt_with_by_one_command_and_who_is_behind_is_found() {
    let relay = TestRelay::start_with(|config| config.relay.admission = Admission::Open).await;
    let all = token(&relay, Scope::Moderate).await;
    let [one, two] = [relay.joined(Family::Mastodon, "one").await, relay.joined(Family::Mastodon, "two").await];
    let hosts = [&one, &two].map(|server| authority(server).to_string());
    two.set_fault(Fault::Status(503));
    publish(&one, "it waits").await;
    let get = async |path: &str| {
        let rows = call(&relay, &all, "GET", path, Value::Null).await.json();
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| row["host"].as_str().expect("a host").to_owned()).collect::<Vec<_>>()
    };
    let behind = async || get("/deliveries?behind=true").await == hosts[1..];
    for _ in 0..600 {
        if behind().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(behind().await, "who does not take it is behind, and nobody else");
    assert_eq!(get("/subscribers?by_lag=true").await[0], hosts[1]);
    assert_eq!(get("/subscribers?software=Mastodon").await.len(), 2);
    assert_eq!(get("/subscribers?unseen_since=2020-01-01T00:00:00Z").await, [""; 0]);
    check(
        &relay,
        &["subscribers", "--unseen-since", "2100-01-01T00:00:00Z", "--by-lag"],
        true,
        &hosts.each_ref().map(String::as_str),
    );
    check(&relay, &["pause", &hosts[0], &hosts[1], "--reason", "both"], true, &["paused"]);
    let refused =
        check(&relay, &["remove", &hosts[0], "nobody.example", &hosts[1]], false, &["1 of 3 failed", "nobody.example"]);
    assert!(refused.matches("done: removed").count() == 2, "{refused}");
    eventually("both are gone", || relay.store().subscribers().is_empty()).await;
    check(&relay, &["release", "a.example", "b.example"], false, &["2 of 2 failed"]);
    check(&relay, &["publisher", "add", "blog.example", "news.example"], true, &["blog.example", "news.example"]);
    check(&relay, &["block", "blog.example", "--dry-run"], true, &["turn away 1 publisher (blog.example)"]);
    let now = json!({ "target": "evil.example", "severity": "block", "expires_in": "0s" });
    assert_eq!(call(&relay, &all, "POST", "/rules", now).await.status, 400, "it would be over at once");
}

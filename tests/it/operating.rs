//! The operator's day by the API and its commands: who may do what, what is written down of it, and that it does what it
//! says. By a real relay and simulated servers.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Admission;
use shearwater::demo::{Composed, Family, Fault, Instance, Options, PostSpec, Tweaks};
use shearwater::store::{Act, Scope, SubscriberState};

use crate::asking::{Answer, ask_with};
use crate::support::{TestRelay, arrival, authority, eventually, publish, receipts_of, silence_about};

const ROOT: &str = "/api/admin/v1";
/// A server that is not here: nobody answers at this port.
const NOBODY: &str = "127.0.0.1:1";

pub(crate) async fn token(relay: &TestRelay, scope: Scope) -> String {
    let tokens = &relay.server.app().state.tokens;
    tokens.make(scope.as_str(), scope, None, &Act::local("a test")).await.expect("a token").token
}

/// Asks `ops.listen`.
pub(crate) async fn call(relay: &TestRelay, token: &str, method: &str, path: &str, body: Value) -> Answer {
    let addr = relay.server.ops_addr().expect("an address");
    let login = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let headers = format!("{login}Content-Type: application/json\r\n");
    ask_with(addr, method, &format!("{ROOT}{path}"), &headers, &text).await
}

/// Every operation that the relay describes: method, path below the root with its holes filled, and the scope it names.
async fn operations(relay: &TestRelay, token: &str) -> Vec<(String, String, String)> {
    let described = call(relay, token, "GET", "/openapi.json", Value::Null).await.json();
    let mut all = Vec::new();
    for (path, item) in described["paths"].as_object().expect("paths") {
        let path = path.strip_prefix(ROOT).expect("below the root").replace("{host}", NOBODY);
        for (method, operation) in item.as_object().expect("methods") {
            let scope = operation["security"][1]["token"][0].as_str().expect("a scope").to_owned();
            all.push((method.to_uppercase(), path.clone(), scope));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_opens_to_its_scope_and_those_above_and_to_nobody_else() {
    let relay = TestRelay::start().await;
    let mut tokens = Vec::new();
    for scope in [Scope::Search, Scope::Trends, Scope::Read, Scope::Moderate, Scope::Admin] {
        tokens.push((scope, token(&relay, scope).await));
    }
    let all = operations(&relay, &tokens[4].1).await;
    assert!(all.len() > 40, "{}", all.len());
    for (method, path, wanted) in &all {
        let none = call(&relay, "", method, path, Value::Null).await;
        assert_eq!(none.status, 401, "{method} {path}: {}", none.body);
        for (scope, token) in &tokens {
            let opens = matches!(
                (wanted.as_str(), scope),
                ("read", Scope::Read | Scope::Moderate) | ("moderate", Scope::Moderate) | (_, Scope::Admin)
            );
            let answer = call(&relay, token, method, path, Value::Null).await;
            if opens {
                assert!(!matches!(answer.status, 401 | 403 | 405), "{method} {path} {scope:?}: {}", answer.body);
                assert!(answer.status < 500, "{method} {path} {scope:?}: {}", answer.body);
            } else {
                assert_eq!(answer.status, 403, "{method} {path} {scope:?}: {}", answer.body);
                assert!(answer.json()["remedy"].as_str().is_some_and(|remedy| remedy.contains("--scope")));
            }
        }
    }
    // The world's listener has none of it.
    let world = relay.server.http_addr().expect("an address");
    let headers = format!("Authorization: Bearer {}\r\n", tokens[4].1);
    assert_eq!(ask_with(world, "GET", &format!("{ROOT}/subscribers"), &headers, "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_opens_nothing_and_guessing_is_limited_while_a_good_one_still_opens() {
    let clock = Clock::manual(Timestamp::from_secs(1_787_486_400));
    let relay = TestRelay::start_at(clock.clone(), |_config| {}).await;
    let good = token(&relay, Scope::Read).await;
    let tokens = &relay.server.app().state.tokens;
    let hour = Some(Duration::from_secs(3600));
    let short = tokens.make("short", Scope::Admin, hour, &Act::local("")).await.expect("a token").token;
    let gone = tokens.make("gone", Scope::Admin, None, &Act::local("")).await.expect("a token").token;
    assert!(tokens.revoke("gone", &Act::local("")).await.expect("revoked"));
    let get = async |token: &str| call(&relay, token, "GET", "/stats", Value::Null).await;
    assert_eq!(get(&short).await.status, 200);
    clock.advance(Duration::from_secs(3600));
    for wrong in [&short, &gone, &good.replace("shearwater_", "shearwater_0"), &good[..good.len() - 1]] {
        let answer = get(wrong).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (401, "application/problem+json"),
            "{}",
            answer.body
        );
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        assert!(answer.json()["remedy"].as_str().is_some_and(|remedy| remedy.contains("token create")));
    }
    let mut late = None;
    for _ in 0..60 {
        let answer = get("shearwater_0000000000000000_0").await;
        if answer.status == 429 {
            late = Some(answer);
            break;
        }
    }
    let late = late.expect("too many in the end");
    assert!(late.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{}", late.body);
    assert_eq!(get(&good).await.status, 200, "whoever has a good one is not kept out by who guesses");
    let used = relay.server.app().state.tokens.list().expect("tokens").into_iter().find(|(_, one)| one.name == "read");
    assert_eq!(used.expect("it is there").1.used_on, Some(clock.now().day()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_made_over_a_token_does_not_outlive_it() {
    let relay = TestRelay::start().await;
    let tokens = &relay.server.app().state.tokens;
    let day = Some(Duration::from_secs(86_400));
    let mine = tokens.make("mine", Scope::Admin, day, &Act::local("")).await.expect("a token");
    for (name, body) in [
        ("for ever", json!({ "name": "for ever", "scope": "admin" })),
        ("a year", json!({ "name": "a year", "scope": "admin", "seconds": 31_536_000 })),
    ] {
        let made = call(&relay, &mine.token, "POST", "/tokens", body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        assert!(made.json()["token"].as_str().is_some_and(|token| token.starts_with("shearwater_")));
        let row = tokens.list().expect("tokens").into_iter().find(|(_, one)| one.name == name).expect("it is there").1;
        assert!(row.expires_at.is_some_and(|at| Some(at) <= mine.record.expires_at), "{row:?}");
    }
    let rows = call(&relay, &mine.token, "GET", "/tokens", Value::Null).await;
    assert!(!rows.body.contains("hash") && !rows.body.contains("\"token\""), "{}", rows.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_or_done_is_refused_with_a_status_to_act_on_and_nothing_is_changed() {
    let relay = TestRelay::start_with(|config| config.policy.block = vec!["file.example".to_owned()]).await;
    let (all, here) = (token(&relay, Scope::Admin).await, relay.joined(Family::Mastodon, "here").await);
    let host = authority(&here).to_string();
    let before = relay.store().audited("", 100, |_| true).expect("rows").len();
    let rule = |target: &str| json!({ "target": target, "severity": "block" });
    for (method, path, body, status) in [
        ("POST", format!("/subscribers/{host}/mode"), json!({ "mode": "loud" }), 400),
        ("POST", format!("/subscribers/{host}/mode"), json!({ "mode": "forward", "dryrun": true }), 400),
        ("POST", format!("/subscribers/{host}/mode"), Value::Null, 400),
        ("POST", format!("/subscribers/{host}/pause"), json!({ "reason": "x".repeat(501) }), 400),
        ("POST", format!("/subscribers/{host}/reject"), json!({ "reason": "x".repeat(1 << 20) }), 400),
        ("POST", "/held/release".to_owned(), json!({ "target": host, "reason": "\u{1b}[2J" }), 400),
        ("POST", "/publishers/blog.example".to_owned(), json!({ "reason": "a\u{9b}b" }), 400),
        ("DELETE", format!("/subscribers/{host}?reason={}", "x".repeat(501)), Value::Null, 400),
        ("DELETE", format!("/subscribers/{host}?because=x"), Value::Null, 400),
        ("POST", "/subscribers/not%20a%20host/approve".to_owned(), Value::Null, 400),
        ("GET", "/subscribers?state=lost".to_owned(), Value::Null, 400),
        ("GET", "/subscribers?limit=many".to_owned(), Value::Null, 400),
        ("POST", "/rules".to_owned(), json!({ "target": host, "severity": "block", "dry-run": true }), 400),
        ("POST", "/rules".to_owned(), rule("ev*l.example"), 400),
        ("POST", "/rules".to_owned(), rule(relay.url().trim_start_matches("http://")), 422),
        ("POST", "/rules".to_owned(), json!({ "target": "keyword:x", "severity": "silence" }), 422),
        ("DELETE", "/rules?target=file.example".to_owned(), Value::Null, 409),
        ("DELETE", "/rules?target=nobody.example".to_owned(), Value::Null, 404),
        ("POST", "/subscribers/nobody.example/approve".to_owned(), Value::Null, 404),
        ("POST", "/subscribers/nobody.example/pause".to_owned(), Value::Null, 404),
        ("DELETE", "/subscribers/nobody.example".to_owned(), Value::Null, 404),
        ("GET", "/subscribers/nobody.example".to_owned(), Value::Null, 404),
        ("POST", format!("/subscribers/{host}/resume"), Value::Null, 409),
        ("DELETE", "/publishers/nobody.example".to_owned(), Value::Null, 404),
        ("POST", "/publishers/file.example".to_owned(), Value::Null, 409),
        ("POST", "/deliveries/nobody.example/retry".to_owned(), Value::Null, 404),
        ("POST", "/announce".to_owned(), json!({ "target": "no id" }), 400),
        ("POST", "/announce".to_owned(), json!({ "target": "https://nobody.example/posts/1" }), 409),
        ("POST", "/held/release".to_owned(), json!({ "target": host }), 404),
        ("POST", "/tokens".to_owned(), json!({ "name": "admin", "scope": "admin" }), 409),
        ("POST", "/tokens".to_owned(), json!({ "name": "x", "scope": "everything" }), 400),
        ("POST", "/tokens".to_owned(), json!({ "name": "x", "scope": "read", "seconds": 0 }), 400),
        ("DELETE", "/tokens?name=nobody".to_owned(), Value::Null, 404),
        ("POST", format!("/search/servers/{host}"), json!({ "reason": "they asked" }), 422),
        ("GET", "/rules/check?target=keyword:x".to_owned(), Value::Null, 422),
        ("PUT", "/rules".to_owned(), Value::Null, 405),
        ("GET", "/nothing".to_owned(), Value::Null, 404),
    ] {
        let answer = call(&relay, &all, method, &path, body.clone()).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        let problem = answer.json();
        assert_eq!((answer.header("content-type"), &problem["status"]), ("application/problem+json", &json!(status)));
        for member in ["title", "detail", "remedy"] {
            assert!(problem[member].as_str().is_some_and(|text| text.len() > 3), "{method} {path}: {problem}");
        }
    }
    let addr = relay.server.ops_addr().expect("an address");
    let login = format!("Authorization: Bearer {all}\r\n");
    let path = format!("{ROOT}/rules");
    for (headers, body, status) in [
        (format!("{login}Content-Type: application/json\r\n"), "{".to_owned(), 400),
        (format!("{login}Content-Type: text/plain\r\n"), "{}".to_owned(), 415),
    ] {
        assert_eq!(ask_with(addr, "POST", &path, &headers, &body).await.status, status, "{headers}");
    }
    assert_eq!(relay.store().audited("", 100, |_| true).expect("rows").len(), before, "nothing was changed");
    assert!(relay.store().subscriber(&authority(&here)).is_some_and(|one| one.is_active() && one.paused.is_none()));
}

/// A server by itself.
async fn alone(name: &str) -> Instance {
    let options = Options { name: name.to_owned(), ..Options::default() };
    Instance::start(Family::Mastodon, options).await.expect("an instance")
}

/// One that asked to join and waits for the operator.
async fn waiting(relay: &TestRelay, name: &str) -> Instance {
    let server = alone(name).await;
    server.join(relay.url()).await.expect("the relay answers");
    let host = authority(&server);
    let waits = || relay.store().subscriber(&host).is_some_and(|one| one.state == SubscriberState::Pending);
    eventually("it waits", waits).await;
    server
}

/// Each change that there is, in an order in which each can be done.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_written_down_with_who_and_why_and_what_was_before() {
    let relay = TestRelay::start_with(|config| {
        config.relay.admission = Admission::Approval;
        config.search.api = shearwater::config::Access::Public;
    })
    .await;
    let all = token(&relay, Scope::Admin).await;
    let mut hosts = Vec::new();
    let mut servers = Vec::new();
    for name in ["one", "two"] {
        let server = waiting(&relay, name).await;
        hosts.push(authority(&server).to_string());
        servers.push(server);
    }
    let (one, two) = (&hosts[0], &hosts[1]);
    let actor = servers[0].actor(&shearwater::demo::As::Server);
    let mut left: BTreeSet<(String, String)> = operations(&relay, &all)
        .await
        .into_iter()
        .filter(|(method, ..)| method != "GET")
        .map(|(method, path, _)| (method, path))
        .collect();
    let mut checked = 0;
    while checked != 200 {
        // The index is made a moment after the start.
        checked = call(&relay, &all, "POST", "/index/check", Value::Null).await.status;
        assert!(matches!(checked, 200 | 422), "{checked}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let why = json!({ "reason": "because" });
    let with = |more: Value| {
        let mut body = why.clone();
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        body
    };
    let q = "reason=because";
    for (method, path, body, what) in [
        ("POST", format!("/subscribers/{one}/approve"), why.clone(), "subscriber.approve"),
        ("POST", format!("/subscribers/{two}/reject"), why.clone(), "subscriber.reject"),
        ("POST", format!("/subscribers/{one}/mode"), with(json!({ "mode": "announce" })), "subscriber.mode"),
        ("POST", format!("/subscribers/{one}/pause"), why.clone(), "subscriber.pause"),
        ("POST", format!("/subscribers/{one}/resume"), why.clone(), "subscriber.resume"),
        ("POST", "/publishers/blog.example".to_owned(), why.clone(), "publisher.add"),
        ("DELETE", format!("/publishers/blog.example?{q}"), Value::Null, "publisher.remove"),
        ("POST", "/following".to_owned(), with(json!({ "target": actor, "style": "litepub" })), "following.follow"),
        ("DELETE", format!("/following?target={actor}&{q}"), Value::Null, "following.unfollow"),
        ("POST", format!("/search/servers/{one}"), why.clone(), "search.on"),
        ("DELETE", format!("/search/servers/{one}?{q}"), Value::Null, "search.off"),
        ("POST", "/rules".to_owned(), with(json!({ "target": "evil.example", "severity": "block" })), "rule.put"),
        ("POST", "/rules/note".to_owned(), with(json!({ "target": "evil.example", "note": "ticket 7" })), "rule.put"),
        ("DELETE", format!("/rules?target=evil.example&{q}"), Value::Null, "rule.remove"),
        ("POST", "/trends/rulings".to_owned(), with(json!({ "target": "cats", "hidden": true })), "trend.rule"),
        ("DELETE", format!("/trends/rulings?target=cats&{q}"), Value::Null, "trend.unrule"),
        ("POST", "/tokens".to_owned(), with(json!({ "name": "new", "scope": "read" })), "token.create"),
        ("DELETE", format!("/tokens?name=new&{q}"), Value::Null, "token.revoke"),
        ("POST", format!("/deliveries/{one}/retry"), why.clone(), "delivery.retry"),
        ("POST", format!("/servers/{one}/probe"), with(json!({ "deliver": false })), "server.probe"),
        ("POST", "/index/purge".to_owned(), with(json!({ "target": "gone.example", "dry_run": false })), "index.purge"),
        ("POST", "/index/rebuild".to_owned(), why.clone(), "index.rebuild"),
        ("POST", "/index/expunge".to_owned(), why.clone(), "index.expunge"),
        ("POST", "/announce".to_owned(), with(json!({ "target": format!("http://{one}/posts/never") })), "announce"),
        ("DELETE", format!("/subscribers/{one}?{q}"), Value::Null, "subscriber.remove"),
    ] {
        let answer = call(&relay, &all, method, &path, body).await;
        assert!(matches!(answer.status, 200..=202), "{method} {path}: {} {}", answer.status, answer.body);
        let rows = call(&relay, &all, "GET", "/log?limit=1", Value::Null).await.json();
        let row = &rows[0];
        assert!(row["what"].as_str().is_some_and(|has| has.starts_with(what)), "{method} {path}: {row}");
        assert_eq!((&row["who"], &row["why"]), (&json!("token:admin"), &json!("because")), "{row}");
        assert!(row["token"].as_str().is_some_and(|id| all.contains(&format!("shearwater_{id}"))), "which one: {row}");
        let path = path.split('?').next().unwrap_or_default().replace(one.as_str(), NOBODY);
        left.remove(&(method.to_owned(), path.replace(two.as_str(), NOBODY).replace("blog.example", NOBODY)));
    }
    // What changes nothing, and what has a test of its own.
    for done in ["/index/check", "/rules/import", "/lists", "/held/", "/keys/rotate"] {
        left.retain(|(_, path)| !path.starts_with(done));
    }
    assert!(left.is_empty(), "say above what these leave in the log: {left:?}");
    let rows = relay.store().audited("", 100, |row| row.what == "subscriber.mode").expect("rows");
    let row = &rows[0].1;
    assert_eq!(
        (&row.target, &row.before, &row.after),
        (one, &json!({ "mode": "auto" }), &json!({ "mode": "announce" }))
    );
    let purge = relay.store().audited("", 1, |row| row.what.starts_with("index.purge")).expect("rows");
    assert_eq!(purge[0].1.target, "gone.example");
    let page = call(&relay, &all, "GET", "/log?what=subscriber&limit=2", Value::Null).await;
    assert_eq!(page.json().as_array().map(Vec::len), Some(2));
    let next = page.header("link").split_once('>').expect("a next page").0.trim_start_matches('<').to_owned();
    assert!(next.contains("what=subscriber"), "{next}");
    let more = call(&relay, &all, "GET", &format!("/log{next}"), Value::Null).await.json();
    assert_eq!(more[0]["what"], "subscriber.pause", "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_subscriber_is_sent_nothing_and_gets_what_waited_when_it_is_resumed() {
    let relay = TestRelay::start().await;
    let all = token(&relay, Scope::Moderate).await;
    let (from, quiet) = (relay.joined(Family::Mastodon, "from").await, relay.joined(Family::Mastodon, "quiet").await);
    let control = relay.joined(Family::Akkoma, "control").await;
    let host = authority(&quiet).to_string();
    let first = publish(&from, "before").await;
    arrival(&quiet, &first.id).await;
    let paused =
        call(&relay, &all, "POST", &format!("/subscribers/{host}/pause"), json!({ "reason": "they move" })).await;
    assert_eq!(paused.status, 200, "{}", paused.body);
    let waits = publish(&from, "meanwhile").await;
    arrival(&control, &waits.id).await;
    // What it sends itself is taken.
    let its = publish(&quiet, "still here").await;
    arrival(&control, &its.id).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(receipts_of(&quiet, &waits.id).is_empty(), "nothing is sent to it");
    let row = call(&relay, &all, "GET", &format!("/subscribers/{host}"), Value::Null).await.json();
    assert_eq!(
        (&row["health"], &row["paused_for"], &row["posts_in"]),
        (&json!("paused"), &json!("they move"), &json!(1))
    );
    let again = call(&relay, &all, "POST", &format!("/subscribers/{host}/pause"), Value::Null).await;
    assert_eq!(again.status, 409, "{}", again.body);
    // It outlives a restart.
    let relay = relay.restart().await;
    let more = publish(&from, "after the restart").await;
    arrival(&control, &more.id).await;
    assert!(receipts_of(&quiet, &more.id).is_empty());
    let resumed = call(&relay, &all, "POST", &format!("/subscribers/{host}/resume"), Value::Null).await;
    assert_eq!(resumed.status, 200, "{}", resumed.body);
    for id in [&waits.id, &more.id] {
        arrival(&quiet, id).await;
    }
}

/// Posts to the relay's inbox without having joined; the post's id.
async fn push(relay: &TestRelay, from: &Instance, said: &Composed) -> String {
    let tweaks = Tweaks { url: Some(format!("{}/inbox", relay.url())), ..Tweaks::default() };
    let answer = from.send_raw(said.activity.to_string(), &said.signer, &tweaks).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    said.id.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_never_follows_is_relayed_and_sent_nothing_until_that_is_taken_back() {
    let relay = TestRelay::start().await;
    let all = token(&relay, Scope::Moderate).await;
    let reader = relay.joined(Family::Mastodon, "reader").await;
    let blog = alone("blog").await;
    let host = authority(&blog).to_string();
    let unknown = push(&relay, &blog, &blog.compose(&PostSpec::public("nobody knows me"))).await;
    let added = call(&relay, &all, "POST", &format!("/publishers/{host}"), json!({ "reason": "ada's blog" })).await;
    assert_eq!(added.status, 200, "{}", added.body);
    let known = push(&relay, &blog, &blog.compose(&PostSpec::public("now I am"))).await;
    arrival(&reader, &known).await;
    assert!(receipts_of(&reader, &unknown).is_empty());
    push(&relay, &blog, &blog.compose_edit(&known, "now I am, edited").expect("its post")).await;
    eventually("its edit too", || receipts_of(&reader, &known).len() >= 2).await;
    let theirs = publish(&reader, "is anybody there").await;
    assert!(relay.store().subscriber(&authority(&blog)).is_none(), "it is no subscriber");
    let row = call(&relay, &all, "GET", "/publishers", Value::Null).await.json();
    assert_eq!(
        (&row[0]["host"], &row[0]["reason"], &row[0]["by"]),
        (&json!(host), &json!("ada's blog"), &json!("token:moderate"))
    );
    // A rule is stronger.
    let rule = json!({ "target": host, "severity": "silence" });
    assert_eq!(call(&relay, &all, "POST", "/rules", rule).await.status, 200);
    let silenced = push(&relay, &blog, &blog.compose(&PostSpec::public("silenced"))).await;
    assert_eq!(call(&relay, &all, "DELETE", &format!("/rules?target={host}"), Value::Null).await.status, 200);
    assert_eq!(call(&relay, &all, "DELETE", &format!("/publishers/{host}"), Value::Null).await.status, 200);
    let late = push(&relay, &blog, &blog.compose(&PostSpec::public("nobody knows me any more"))).await;
    let other = relay.joined(Family::Mastodon, "other").await;
    for id in [&silenced, &late] {
        silence_about(id, &other, &[&reader]).await;
    }
    assert!(receipts_of(&blog, &theirs.id).is_empty(), "it is sent nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_the_operator_names_is_read_from_its_origin_and_passed_on_once() {
    let relay = TestRelay::start().await;
    let all = token(&relay, Scope::Moderate).await;
    let (from, reader) = (relay.joined(Family::Mastodon, "from").await, relay.joined(Family::Mastodon, "reader").await);
    let missed = from.compose(&PostSpec::public("it never came"));
    let announce = async |id: &str| call(&relay, &all, "POST", "/announce", json!({ "target": id })).await;
    assert_eq!(announce(&missed.id).await.status, 202);
    arrival(&reader, &missed.id).await;
    assert_eq!(announce(&missed.id).await.status, 409, "once");
    let stranger = alone("stranger").await;
    let theirs = stranger.compose(&PostSpec::public("I did not ask for that"));
    let no = announce(&theirs.id).await;
    assert!(no.status == 409 && no.body.contains("neither joined"), "{}", no.body);
    assert_eq!(stranger.fetches().values().sum::<u64>(), 0, "nothing is asked of who did not join");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_tells_step_by_step_what_works_and_changes_nothing() {
    let relay = TestRelay::start().await;
    let all = token(&relay, Scope::Moderate).await;
    let server = relay.joined(Family::Mastodon, "server").await;
    let (host, before) = (authority(&server), relay.store().audited("", 9, |_| true).expect("rows").len());
    let look = async |body: Value| call(&relay, &all, "POST", &format!("/servers/{host}/probe"), body).await.json();
    let outcomes = |look: &Value| -> Vec<String> {
        let steps = look["steps"].as_array().expect("steps").iter();
        steps
            .map(|step| format!("{}:{}", step["what"].as_str().unwrap_or(""), step["outcome"].as_str().unwrap_or("")))
            .collect()
    };
    let good = look(Value::Null).await;
    assert!(outcomes(&good).contains(&"delivery:good".to_owned()), "{good}");
    let read = look(json!({ "deliver": false })).await;
    assert!(!outcomes(&read).iter().any(|step| step.starts_with("delivery")), "{read}");
    server.set_fault(Fault::Status(403));
    let bad = look(Value::Null).await;
    assert!(outcomes(&bad).contains(&"delivery:bad".to_owned()), "{bad}");
    let written = relay.store().audited("", 9, |_| true).expect("rows");
    assert_eq!(written.len(), before + 3, "that it was looked at, and nothing else");
    assert!(written.iter().take(3).all(|(_, row)| row.what == "server.probe" && row.target == host.to_string()));
    let again = call(&relay, &all, "POST", &format!("/servers/{host}/probe"), Value::Null).await;
    assert_eq!(again.status, 429, "{}", again.body);
    assert!(again.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
    assert!(relay.store().subscriber(&host).is_some_and(|one| one.health.consecutive == 0));
}

pub(crate) fn admin(relay: &TestRelay, env: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let here = relay.config.data_dir.display().to_string();
    let env = if env.is_empty() { vec![("SHEARWATER_DATA_DIR", here.as_str())] } else { env.to_vec() };
    run(&env, &[&["admin"], args].concat())
}

fn run(env: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shearwater"));
    let output = command.envs(env.to_vec()).args(args).output().expect("it runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_do_it_on_this_machine_without_a_token_and_elsewhere_with_one() {
    let relay = TestRelay::start_with(|config| config.relay.admission = Admission::Approval).await;
    let mut servers = Vec::new();
    for name in ["waits", "comes", "stays"] {
        servers.push(waiting(&relay, name).await);
    }
    let hosts: Vec<String> = servers.iter().map(|one| authority(one).to_string()).collect();
    let check = |env: &[(&str, &str)], args: &[&str], good: bool, says: &[&str]| -> String {
        let (success, text) = admin(&relay, env, args);
        assert!(success == good && says.iter().all(|one| text.contains(one)), "{args:?}: {text}");
        text
    };
    check(&[], &["pending"], true, &[&hosts[0], &hosts[1], &hosts[2], "SOFTWARE"]);
    check(&[], &["stats"], true, &["3 servers. `shearwater admin pending`"]);
    check(&[], &["approve", &hosts[2], "--reason", "a friend"], true, &["approved"]);
    check(&[], &["reject", &hosts[0], "--reason", "We are full."], true, &["rejected", "We are full."]);
    eventually("its admin is told", || servers[0].is_rejected()).await;
    let (url, made) = (
        format!("http://{}", relay.server.ops_addr().expect("an address")),
        check(
            &[],
            &["token", "create", "--name", "laptop", "--scope", "moderate", "--expires", "1d", "--json"],
            true,
            &[],
        ),
    );
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let token = made["token"].as_str().expect("a token");
    let there = [("SHEARWATER_ADMIN_URL", url.as_str()), ("SHEARWATER_ADMIN_TOKEN", token)];
    check(&there, &["approve", &hosts[1]], true, &["approved"]);
    eventually("it is accepted", || {
        relay.store().subscriber(&authority(&servers[1])).is_some_and(|one| one.is_active())
    })
    .await;
    let page = check(&there, &["subscribers", "--limit", "1"], true, &["There are more: --after "]);
    let after = page.rsplit("--after ").next().unwrap_or_default().trim().to_owned();
    check(&there, &["subscribers", "--limit", "1", "--after", &after], true, &[]);
    check(&there, &["subscribers", "--state", "active", "--json"], true, &[&hosts[1], &hosts[2]]);
    check(&there, &["deliveries"], true, &["healthy", &hosts[1]]);
    check(&there, &["subscriber", &hosts[1]], true, &["state: active", "posts_in: 0"]);
    check(&there, &["pause", &hosts[1], "--reason", "they move"], true, &["paused"]);
    check(&there, &["remove", &hosts[1], "--reason", "Goodbye."], true, &["removed"]);
    eventually("its admin is told", || servers[1].is_rejected()).await;
    check(&there, &["workers"], true, &["dispatcher", "housekeeping"]);
    check(&there, &["probe", &hosts[2], "--read-only"], true, &["ok  actor"]);
    check(&there, &["log", "--what", "subscriber"], true, &["token:laptop", "local", "Goodbye.", "subscriber.pause"]);
    check(&there, &["token", "create", "--name", "x"], false, &["--scope admin"]);
    check(&there, &["export"], false, &["this takes a token of scope admin"]);
    check(&[], &["export"], true, &[&hosts[2], "\"kind\":\"end\""]);
    let file = relay.config.data_dir.join("newest.ndjson").display().to_string();
    check(&[], &["export", "--to", &file], true, &[]);
    let good = std::fs::read_to_string(&file).expect("the file");
    check(&there, &["export", "--to", &file], false, &["this takes a token of scope admin", "is as it was"]);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), good);
    let exports = || relay.store().audited("", 9, |row| row.what == "export").expect("rows").len();
    assert_eq!(exports(), 0, "one every ten minutes would push what was changed out of the log");
    assert_eq!(call(&relay, &self::token(&relay, Scope::Admin).await, "GET", "/export", Value::Null).await.status, 200);
    assert_eq!(exports(), 1, "who takes the whole state elsewhere is written down");
    let wrong = [there[0], ("SHEARWATER_ADMIN_TOKEN", "shearwater_0_0")];
    check(&wrong, &["stats"], false, &["there is no such token"]);
    check(&there[..1], &["stats"], false, &["SHEARWATER_ADMIN_TOKEN is not set"]);
    let clear = [("SHEARWATER_ADMIN_URL", "http://relay.example"), there[1]];
    check(&clear, &["stats"], false, &["a token is sent by https"]);
}

/// Whoever names a relay elsewhere means that one: what cannot be undone is not done to the one here instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_a_relay_elsewhere_never_touches_the_one_on_this_machine() {
    let with_search = |config: &mut shearwater::config::Config| config.search.api = shearwater::config::Access::Public;
    let (here, there) = (TestRelay::start_with(with_search).await, TestRelay::start_with(with_search).await);
    let (all, data) = (token(&there, Scope::Admin).await, here.config.data_dir.display().to_string());
    let url = format!("http://{}", there.server.ops_addr().expect("an address"));
    while call(&there, &all, "POST", "/index/check", Value::Null).await.status != 200 {
        // The index is made a moment after the start.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let changed = |relay: &TestRelay| {
        let rows = relay.store().audited("", 99, |row| row.what != "token.create").expect("rows");
        rows.into_iter().map(|(_, row)| (row.what, row.why)).collect::<Vec<_>>()
    };
    let local = [("SHEARWATER_DATA_DIR", data.as_str()), ("SHEARWATER_ADMIN_TOKEN", all.as_str())];
    let by_habit = [local[0], local[1], ("SHEARWATER_ADMIN_URL", url.as_str())];
    let purge = ["index", "purge", "gone.example", "--yes", "--reason", "they asked"];
    for (env, args) in [
        (&local[..], &[&purge[..], &["--url", &url]].concat()[..]),
        (&by_habit[..], &purge[..]),
        (&local[..], &["index", "expunge", "--reason", "they asked", "--url", &url]),
        (&by_habit[..], &["trends", "replay"]),
        (&by_habit[..], &["index", "stats"]),
    ] {
        let (_, text) = run(env, args);
        assert!(!text.contains("no relay runs") && !text.contains("SHEARWATER_"), "{args:?}: {text}");
    }
    let done = changed(&there);
    assert_eq!(done.iter().filter(|(what, _)| what.starts_with("index.purge")).count(), 2, "{done:?}");
    assert!(done.iter().any(|(what, why)| what == "index.expunge" && why == "they asked"), "{done:?}");
    // Where nobody answers there, nothing is done here.
    let nobody = format!("http://{NOBODY}");
    for args in [
        &["index", "purge", "gone.example", "--yes", "--url", &nobody][..],
        &["index", "rebuild", "--url", &nobody],
        &["trends", "replay", "--url", &nobody],
        &["keys", "rotate", "--now", "--url", &nobody],
    ] {
        let (success, text) = run(&local, args);
        assert!(!success && text.contains("asking http://127.0.0.1:1"), "{args:?}: {text}");
    }
    // What works on files is refused: they are not those of the relay that is meant.
    let backup = here.config.data_dir.join("b").display().to_string();
    for args in [
        &["backup", &backup][..],
        &["restore", &backup],
        &["check"],
        &["keys", "show"],
        &["keys", "rotate", "--dry-run"],
        &["admin", "import", "/dev/null"],
    ] {
        let (success, text) = run(&by_habit, args);
        assert!(!success && (text.contains("this machine")), "{args:?}: {text}");
    }
    assert_eq!(changed(&here), []);
    // And they are no settings: whatever reads the configuration goes on.
    for args in [&["config", "check"][..], &["config", "show"]] {
        let env = [by_habit[0], by_habit[1], by_habit[2], ("SHEARWATER_PUBLIC_URL", "https://relay.example")];
        let (success, text) = run(&env, args);
        assert!(success, "{args:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_for_a_servers_admin_is_told_to_who_may_moderate() {
    let relay = TestRelay::start().await;
    let (reads, moderates) = (token(&relay, Scope::Read).await, token(&relay, Scope::Moderate).await);
    let link = async |token: &str| {
        call(&relay, token, "GET", "/check/small.example", Value::Null).await.json()["link"].clone()
    };
    assert_eq!(link(&reads).await, Value::Null);
    assert!(link(&moderates).await.as_str().is_some_and(|link| link.contains("code=")));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_health_are_not_read_by_a_name_that_somebody_has_lead_here() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let relay = TestRelay::start().await;
    let addr = relay.server.ops_addr().expect("an address");
    for (path, host, status) in [
        ("/metrics", "evil.example:9464", "421"),
        ("/health/ready", "evil.example", "421"),
        ("/metrics", "localhost:9464", "200"),
        ("/health/live", "127.0.0.1", "200"),
        // It takes a token, which no page has.
        ("/api/admin/v1/stats", "evil.example", "401"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{path} {host}: {text}");
    }
}

/// `SCHEMATHESIS=/path/to/schemathesis cargo test --test it -- --ignored every_answer_of_the_operators --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis, which CONTRIBUTING.md says how to install"]
async fn every_answer_of_the_operators_api_is_one_that_the_description_names() {
    let program = std::env::var("SCHEMATHESIS").expect("SCHEMATHESIS names the program");
    let relay = TestRelay::start_with(|config| config.search.api = shearwater::config::Access::Public).await;
    let _member = relay.joined(Family::Mastodon, "member").await;
    let all = token(&relay, Scope::Admin).await;
    let url = format!("http://{}{ROOT}/openapi.json", relay.server.ops_addr().expect("an address"));
    let mut command = Command::new(&program);
    command.args(["run", &url, "--max-examples", "50", "--no-color", "--continue-on-failure"]);
    command.args(["--header", &format!("Authorization: Bearer {all}")]);
    // What it made up may be refused although it fits the description; and without a token the socket's description holds.
    command.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance,ignored_auth"]);
    // Any text is a list of names to it, whatever it calls the type; the list of keys takes a second for each.
    command.args(["--exclude-operation-id", "import_rules", "--exclude-operation-id", "rotate_keys"]);
    let done = tokio::task::spawn_blocking(move || command.status()).await.expect("it ran");
    assert!(done.expect("it runs").success(), "what it found stands above");
}

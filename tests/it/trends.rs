//! What trends, and why: what people on several servers speak of, for as long as they stand by it; by a real relay that gets
//! their posts from simulated servers.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shearwater::config::{Access, Config};
use shearwater::demo::{As, Author, Family, Instance, Options, PostSpec, Tweaks};
use shearwater::store::{
    Act, Rule, RuleChange, Severity, Source, Subject, TrendClosed, TrendRuling, Tx, Usual, UsualDay, hour_of, target,
};
use shearwater::trends::assess::Window;
use shearwater::trends::rulings::Ruled;

use crate::asking::{Answer, get, link};
use crate::searching::{switch_on, tell_profile};
use crate::support::{TestRelay, eventually};

/// A relay whose servers are old.
pub(crate) async fn counting(change: impl FnOnce(&mut Config)) -> TestRelay {
    TestRelay::start_with(|config| {
        (config.trends.api, config.trends.rate) = (Access::Public, 0);
        config.trends.grown = vec!["127.0.0.1".to_owned()];
        change(config);
    })
    .await
}

/// Servers that joined, of two people each.
pub(crate) async fn servers(relay: &TestRelay, count: usize) -> Vec<Instance> {
    let mut servers = Vec::new();
    for number in 0..count {
        let authors = ["ada", "grace"].map(Author::named).to_vec();
        let options = Options { name: format!("s{number}"), authors, ..Options::default() };
        servers.push(relay.joined_with(Family::Mastodon, options).await);
    }
    servers
}

/// Somebody says something with this tag; the post's id.
pub(crate) async fn say(server: &Instance, who: &str, tags: &[&str]) -> String {
    let spec = PostSpec::public("hear, hear").by(who).tagged(tags);
    let posted = server.post(spec).await.expect("an answer");
    assert_eq!(posted.status(), 202, "{posted:?}");
    posted.id
}

/// All of them say it.
pub(crate) async fn all_say(servers: &[Instance], tag: &str) -> Vec<String> {
    let mut posts = Vec::new();
    for server in servers {
        for who in ["ada", "grace"] {
            posts.push(say(server, who, &[tag]).await);
        }
    }
    posts
}

pub(crate) fn people(relay: &TestRelay, tag: &str) -> u32 {
    let found = relay.trends().explain(Subject::Tag, tag, Window::Six, None);
    found.map_or(0, |found| found.found.measure.people)
}

pub(crate) async fn counted(relay: &TestRelay, tag: &str, expected: u32) {
    let what = format!("{expected} people say {tag}, {}", relay.server.app().state.metrics.render());
    eventually(&what, || people(relay, tag) == expected).await;
}

pub(crate) fn names(answer: &Answer) -> Vec<String> {
    let tags = answer.json();
    tags.as_array().expect("a list").iter().map(|tag| tag["name"].as_str().expect("a name").to_owned()).collect()
}

/// Waits until this is the list.
pub(crate) async fn listed(relay: &TestRelay, expected: &[&str]) -> Answer {
    listed_so(relay, &format!("{expected:?}"), |answer| names(answer) == expected).await
}

/// Waits until the list is as it is wanted: it is made anew a moment after what it is made of.
pub(crate) async fn listed_so(relay: &TestRelay, what: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let waited = tokio::time::timeout(crate::support::LONG, async {
        loop {
            let answer = get(relay, "/api/v1/trends/tags").await;
            if answer.status == 200 && is_so(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} never was the list"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_on_several_servers_speak_of_trends_and_says_why() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    all_say(&servers, "BlackPetrels").await;
    say(&servers[0], "ada", &["blackpetrels", "alone"]).await;
    counted(&relay, "blackpetrels", 10).await;
    let today = |answer: &Answer| answer.json()[0]["history"][0].clone();
    let answer = listed_so(&relay, "BlackPetrels, by all who say it", |answer| {
        (&today(answer)["accounts"], &today(answer)["uses"]) == (&json!("10"), &json!("11"))
    })
    .await;
    assert_eq!(names(&answer), ["BlackPetrels"]);
    assert_eq!(answer.json()[0]["history"].as_array().map(Vec::len), Some(7));
    assert_eq!(answer.header("cache-control"), "public, max-age=15");
    assert_eq!(names(&get(&relay, "/api/v1/trends").await), ["BlackPetrels"], "by the older path");
    assert!(names(&get(&relay, "/api/v1/trends/tags?language=fr").await).is_empty());
    assert_eq!(names(&get(&relay, "/api/v1/trends/tags?language=en&within=24").await), ["BlackPetrels"]);
    let why = get(&relay, "/api/v1/trends/explain?tag=%23BLACKPETRELS").await.json();
    assert_eq!(why["sentence"], "10 people on 5 servers in 6 hours; usually hardly anybody.");
    assert_eq!(
        (&why["now"]["reach"], &why["now"]["spread"], &why["trends"]),
        (&json!(7.071065), &json!(5.0), &json!(true))
    );
    let not = get(&relay, "/api/v1/trends/explain?tag=alone").await.json();
    assert_eq!((&not["trends"], &not["short_of"], &not["now"]), (&json!(false), &json!("people"), &Value::Null));
    for wrong in
        ["explain", "explain?tag=", "explain?tag=2026", "explain?tag=a&link=b", "tags?within=7", "tags?limit=x"]
    {
        assert_eq!(get(&relay, &format!("/api/v1/trends/{wrong}")).await.status, 400, "{wrong}");
    }
    let feed = get(&relay, "/api/v1/trends/tags.rss").await;
    assert!(
        feed.header("content-type").starts_with("application/rss+xml")
            && feed.body.contains("<title>#BlackPetrels</title>")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_lead_to_each_other() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    for tag in ["one", "two", "three"] {
        all_say(&servers, tag).await;
    }
    listed(&relay, &["one", "three", "two"]).await;
    let first = get(&relay, "/api/v1/trends/tags?limit=2").await;
    assert_eq!((names(&first), link(&relay, &first, "prev")), (vec!["one".to_owned(), "three".to_owned()], None));
    let second = get(&relay, &link(&relay, &first, "next").expect("a next page")).await;
    assert_eq!((names(&second), link(&relay, &second, "next")), (vec!["two".to_owned()], None));
    let back = get(&relay, &link(&relay, &second, "prev").expect("a page before")).await;
    assert_eq!(names(&back), names(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_as_if_it_had_never_been_seen() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 6).await;
    let posts = all_say(&servers, "petrels").await;
    counted(&relay, "petrels", 12).await;
    let down_to =
        |expected: u32| assert_eq!(people(&relay, "petrels"), expected, "from the moment at which it was acknowledged");
    assert_eq!(servers[0].delete(&posts[0]).await.expect("an answer").status(), 202);
    down_to(11);
    // An edit is one without the tag until it was read anew, and this one has none any more.
    servers[0].edit(&posts[1], "nothing to be heard").await.expect("an answer");
    eventually("the edit counts", || people(&relay, "petrels") <= 11).await;
    say(&servers[0], "grace", &["petrels"]).await;
    counted(&relay, "petrels", 11).await;
    // A profile that says no to both.
    servers[1].set_profile("ada", json!({ "indexable": false, "discoverable": false }));
    tell_profile(&servers[1], "ada").await;
    down_to(10);
    say(&servers[1], "ada", &["petrels"]).await;
    // Somebody blocks our actor.
    let ada = servers[2].actor(&As::Author("ada".to_owned()));
    let block = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{ada}#block"), "type": "Block",
        "actor": ada, "object": format!("{}/actor", relay.url()) });
    let sent = servers[2].send_raw(block.to_string(), &As::Author("ada".to_owned()), &Tweaks::default()).await;
    assert_eq!(sent.expect("an answer").status, 202);
    down_to(9);
    // A rule on a server.
    let rule = Rule { severity: Severity::NoSearch, ..rule(&crate::support::authority(&servers[3]).to_string()) };
    relay.relay().change_rules(vec![RuleChange::Put(rule)], &Act::local("a test")).await.expect("a rule");
    down_to(7);
    let view = || relay.store().ballots().expect("the store reads").len().expect("it counts");
    eventually("it is out of the journal, too", || view() == 8).await;
}

fn rule(target: &str) -> Rule {
    Rule {
        target: target.parse().expect("a target"),
        severity: Severity::Block,
        reason: String::new(),
        note: String::new(),
        source: Source::Operator,
        since: shearwater::clock::Timestamp::default(),
        expires: None,
        dry_run: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_say_yes_does_not_count_and_neither_do_bots_or_stuffed_posts() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    let no = json!({ "indexable": false, "discoverable": false });
    for (server, profile) in servers.iter().zip([
        no.clone(),
        json!({ "indexable": null, "discoverable": null }),
        json!({ "type": "Service" }),
        json!({ "summary": "<p>birds, #nobot</p>" }),
        json!({ "indexable": false, "discoverable": true }),
    ]) {
        server.set_profile("ada", profile);
    }
    for server in &servers {
        say(server, "ada", &["petrels"]).await;
    }
    counted(&relay, "petrels", 0).await;
    let many: Vec<String> = (0..11).map(|number| format!("tag{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for server in &servers {
        say(server, "grace", &many).await;
        say(server, "grace", &["a1", "a2", "a3", "a4", "a5", "sixth"]).await;
        say(server, "grace", &["p\u{435}trels", "2026", "marker"]).await;
    }
    counted(&relay, "marker", 5).await;
    for (tag, expected) in [("tag0", 0), ("a5", 5), ("sixth", 0), ("p\u{435}trels", 0), ("2026", 0)] {
        assert_eq!(people(&relay, tag), expected, "{tag}");
    }
    // One person may be counted; only what two servers speak of is kept in memory.
    say(&servers[0], "grace", &["petrels"]).await;
    counted(&relay, "petrels", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gives_the_same_list_byte_for_byte_and_so_does_the_journal() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    for tag in ["petrels", "Gannets"] {
        all_say(&servers, tag).await;
    }
    say(&servers[0], "ada", &["petrels"]).await;
    listed(&relay, &["Gannets", "petrels"]).await;
    let replayed = |relay: &TestRelay| relay.trends().replay().expect("the store reads");
    let are_of_now =
        |all: &[shearwater::trends::replay::Replayed]| all.len() == 3 && all.iter().all(|one| one.changes_since == 0);
    eventually("the lists of now were written down", || are_of_now(&replayed(&relay))).await;
    // Of a week there is none yet.
    let before = replayed(&relay);
    assert!(before.iter().all(|one| one.equal && one.served == one.again), "{before:#?}");
    let of = |list: &[shearwater::trends::replay::Replayed]| {
        let six = list.iter().find(|one| one.list == "tag:6:").expect("the list of six hours");
        serde_json::to_string(&six.served.entries).expect("JSON")
    };
    let first = of(&before);
    assert!(first.contains("\"Gannets\""), "{first}");
    let relay = relay.restart().await;
    listed(&relay, &["Gannets", "petrels"]).await;
    eventually("it is the same again", || {
        let after = replayed(&relay);
        after.iter().all(|one| one.equal) && of(&after) == first
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_hides_is_not_shown_and_whoever_asks_is_told_why() {
    let relay = counting(|config| config.trends.review = true).await;
    let servers = servers(&relay, 5).await;
    all_say(&servers, "petrels").await;
    counted(&relay, "petrels", 10).await;
    listed(&relay, &[]).await;
    let rule = async |hidden: bool, reason: &str| {
        let at = relay.trends().now();
        let ruling = TrendRuling { hidden, reason: reason.to_owned(), at, until: None };
        relay
            .trends()
            .rule(&Ruled::parse("petrels").expect("a tag"), Some(ruling), &Act::local("a test"))
            .await
            .expect("written");
    };
    let why = async || get(&relay, "/api/v1/trends/explain?tag=petrels").await.json()["withheld"]["why"].clone();
    assert_eq!(why().await, "review");
    rule(false, "looked at").await;
    listed(&relay, &["petrels"]).await;
    rule(true, "harassment of a person").await;
    assert!(names(&get(&relay, "/api/v1/trends/tags").await).is_empty(), "it holds for whoever asks next");
    let told = get(&relay, "/api/v1/trends/explain?tag=petrels").await.json();
    assert_eq!(told["withheld"], json!({ "why": "hidden", "reason": "harassment of a person" }));
    let list = get(&relay, "/api/v1/trends/list").await.json();
    assert_eq!((&list["total"], &list["withheld"]), (&json!(0), &json!({ "hidden": 1 })));
    relay.trends().rule(&Ruled::parse("petrels").expect("a tag"), None, &Act::local("a test")).await.expect("written");
    assert_eq!(why().await, "review");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_young_accounts_speak_of_waits_for_the_operator() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    let now = relay.trends().now();
    for server in &servers {
        server.set_profile("ada", json!({ "published": now.rfc3339() }));
        say(server, "ada", &["newcomers"]).await;
    }
    say(&servers[0], "grace", &["newcomers"]).await;
    counted(&relay, "newcomers", 6).await;
    let told = get(&relay, "/api/v1/trends/explain?tag=newcomers").await.json();
    assert_eq!(
        (&told["trends"], &told["now"]["young"], &told["withheld"]["why"]),
        (&json!(true), &json!(5), &json!("young-voters"))
    );
    assert!(names(&get(&relay, "/api/v1/trends/tags").await).is_empty());
}

/// What an account says of its own age need not be so.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_met_for_the_first_time_is_young_but_where_the_operator_vouches() {
    for vouched in [false, true] {
        let relay = counting(|config| config.trends.grown.retain(|_| vouched)).await;
        let servers = servers(&relay, 2).await;
        all_say(&servers, "petrels").await;
        let ballots = || relay.store().ballots().and_then(|view| view.page((0, 0), 10)).expect("the store reads").rows;
        eventually("all are counted", || ballots().len() == 4).await;
        assert!(ballots().iter().all(|(_, ballot)| ballot.young != vouched), "{vouched}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_boosted_posts_trend_too() {
    let relay = counting(|config| (config.search.api, config.search.rate) = (Access::Public, 0)).await;
    let servers = servers(&relay, 6).await;
    let post = linked_and_boosted(&relay, &servers).await;
    first_is(&relay, "/api/v1/trends/links", "url", "https://news.example/1").await;
    first_is(&relay, "/api/v1/trends/statuses", "uri", &post).await;
    let all = |link: &Value| link["provider_name"] == "news.example" && link["history"][0]["accounts"] == "12";
    first_becomes(&relay, "/api/v1/trends/links", "a link of all twelve", all).await;
    assert_eq!(servers[0].delete(&post).await.expect("an answer").status(), 202);
    assert_eq!(get(&relay, "/api/v1/trends/statuses").await.json(), json!([]), "it may not be shown any more");
    let boosters = relay.trends().explain(Subject::Post, &post, Window::Day, None).expect("it counts");
    assert_eq!(boosters.found.measure.people, 0, "and its boosts went with it");
}

/// Everybody links to one page and boosts one post, which the search may show; its id.
pub(crate) async fn linked_and_boosted(relay: &TestRelay, servers: &[Instance]) -> String {
    switch_on(relay, &servers[0]).await;
    let post = say(&servers[0], "ada", &["first"]).await;
    eventually("it may be found", || relay.store().ledger_counts().is_ok_and(|counts| counts.posts == 1)).await;
    for (number, server) in servers.iter().enumerate() {
        for who in ["ada", "grace"] {
            let text = format!("https://news.example/1?utm_source={number}#{who}");
            let content = format!("<p><a href=\"{text}\">news</a></p>");
            let mut spec = PostSpec::public("news").by(who);
            spec.extra.insert("content".to_owned(), json!(content));
            server.post(spec).await.expect("an answer");
            let boosted = server.boost(who, &post).await.expect("an answer");
            assert_eq!(boosted.status(), 202);
        }
    }
    post
}

/// Waits until what is first on a list is this.
pub(crate) async fn first_is(relay: &TestRelay, path: &str, key: &str, expected: &str) {
    first_becomes(relay, path, expected, |first| first[key] == expected).await;
}

async fn first_becomes(relay: &TestRelay, path: &str, expected: &str, is: impl Fn(&Value) -> bool) {
    let waited = tokio::time::timeout(crate::support::LONG, async {
        loop {
            let answer = get(relay, path).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let list = answer.json();
            let list = if list.is_array() { list } else { list["trends"].clone() };
            if is(&list[0]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{expected} is not the first of {path}"));
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recompute_trends.py");

async fn python(args: &[&str]) -> std::process::Output {
    let mut command = Command::new("python3");
    command.arg(SCRIPT).args(args);
    tokio::task::spawn_blocking(move || command.output()).await.expect("it ran").expect("python3 is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn some_lines_of_python_compute_each_list_again() {
    let relay = counting(|_config| {}).await;
    // As if trends had been on for long, and this had been said on some days: in the first days there is no list of a week.
    let (hour, store) = (hour_of(relay.trends().now()), relay.store());
    eventually("the first hours were closed", || {
        store.get::<TrendClosed>(TrendClosed::ROW).is_ok_and(|row| row.is_some())
    })
    .await;
    let usual = Usual { people: 9, servers: 8, reach: 8_500_000 };
    let before = move |tx: &mut Tx<'_>| {
        tx.put(TrendClosed::ROW, &TrendClosed { hour: hour - 1, since: hour - 30 * 24 })?;
        let row = [(target(Subject::Tag, "petrels"), String::new(), UsualDay { usual, spread: 8_000_000, uses: 9 })];
        [1, 2, 3, 4, 5, 6, 9].into_iter().try_for_each(|back| tx.put_usual_days(hour / 24 - back, &row))
    };
    store.write(before).await.expect("written");
    let relay = relay.restart().await;
    let servers = servers(&relay, 6).await;
    all_say(&servers[..5], "petrels").await;
    all_say(&servers, "gannets").await;
    listed(&relay, &["gannets", "petrels"]).await;
    for (hours, language) in [("1", ""), ("6", "en"), ("24", ""), ("168", "")] {
        let said = python(&[relay.url(), hours, language]).await;
        assert!(said.status.success(), "{hours} h: {}", String::from_utf8_lossy(&said.stderr));
        let again: Value = crate::support::json(&said.stdout);
        let tags: Vec<&str> =
            again["tags"].as_array().expect("a list").iter().filter_map(|one| one["tag"].as_str()).collect();
        let expected: &[&str] = if hours == "168" { &["petrels"] } else { &["gannets", "petrels"] };
        assert_eq!((&again["equal"], tags.as_slice()), (&json!(true), expected), "{hours} h");
        if hours != "168" {
            assert_eq!((&again["tags"][0]["people"], &again["tags"][0]["servers"]), (&json!(12), &json!(6)));
        }
    }
    let lines = std::fs::read_to_string(SCRIPT).expect("it is there").lines().count();
    assert!(lines <= 34, "{lines} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_not_what_the_counts_give_is_named() {
    let group = json!({ "servers": 5, "people": 2, "weight": 1.0 });
    let usual = json!({ "people": 0, "servers": 0, "reach": 0.0 });
    let told = json!({ "at": "2026-08-21T12:00:00Z", "key": "cats", "days": [], "days_before": [], "fresh": 1.0,
        "now": { "people": 10, "servers": 5, "of_servers": [group] }, "yesterday": usual, "last_week": usual });
    let listed = |reach: f64| {
        let one = json!({ "key": "cats", "people": 10, "servers": 5, "reach": reach, "spread": 5.0, "usual": usual,
            "score": 7.071065, "rank": 13 });
        json!({ "at": "2026-08-21T12:00:00Z", "trends": [one] })
    };
    for (reach, is_right) in [(7.071_065, true), (8.0, false)] {
        let (list, told) = (listed(reach).to_string(), told.to_string());
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", server.local_addr().expect("an address"));
        #[expect(clippy::disallowed_methods, reason = "a test's servers fall with its runtime")]
        let answering = tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut asked = vec![0; 4096];
                let read = stream.read(&mut asked).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
                let empty = json!({ "at": "2026-08-21T12:00:00Z", "trends": [] }).to_string();
                let body = if asked.contains("/explain?") {
                    &told
                } else if asked.contains("offset=100") {
                    &empty
                } else {
                    &list
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _sent = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        let said = python(&[&base]).await;
        answering.abort();
        let why = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(i32::from(!is_right)), "{why}");
        assert!(is_right || why.contains("#cats: reach is 7.071065, listed is 8.0"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mastodon.py: tests/clients/run"]
async fn what_programs_read_trends_with() {
    let relay = counting(|config| (config.search.api, config.search.rate) = (Access::Public, 0)).await;
    let servers = servers(&relay, 6).await;
    let post = linked_and_boosted(&relay, &servers).await;
    all_say(&servers, "Petrels").await;
    listed(&relay, &["Petrels"]).await;
    first_is(&relay, "/api/v1/trends/links", "url", "https://news.example/1").await;
    first_is(&relay, "/api/v1/trends/statuses", "uri", &post).await;
    let python = std::env::var("CLIENTS").expect("CLIENTS names the Python that has Mastodon.py");
    let mut command = Command::new(python);
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/trends.py"), relay.url()]);
    let said = tokio::task::spawn_blocking(move || command.output()).await.expect("it ran").expect("it runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let read: Value = crate::support::json(&said.stdout);
    assert_eq!(read["tags"][0][0], "Petrels", "{read}");
    assert_eq!(read["tags"][0][2].as_array().map(Vec::len), Some(7), "{read}");
    assert_eq!(read["tags"][0][2][0][2], 12, "{read}");
    let link = json!(["https://news.example/1", "https://news.example/1", "link", 0, 7, 12]);
    assert_eq!(read["links"], json!([link]), "url, title, type, authors, days, people today");
    assert_eq!((&read["statuses"][0][0], read["statuses"].as_array().map(Vec::len)), (&json!(post), Some(1)), "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_trends_nothing_is_counted_and_what_was_is_forgotten() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 2).await;
    all_say(&servers, "petrels").await;
    counted(&relay, "petrels", 4).await;
    let relay = relay.restart_with(|config| config.trends.api = Access::Off).await;
    let ballots = || relay.store().ballots().expect("the store reads").len().expect("it counts");
    eventually("it is forgotten", || ballots() == 0).await;
    assert_eq!(get(&relay, "/api/v1/trends/tags").await.status, 404);
    all_say(&servers, "petrels").await;
    assert_eq!(ballots(), 0);
    // And if there are again, they begin with what comes then.
    let relay = relay.restart_with(|config| config.trends.api = Access::Public).await;
    all_say(&servers, "gannets").await;
    counted(&relay, "gannets", 4).await;
    assert_eq!(people(&relay, "petrels"), 0);
}

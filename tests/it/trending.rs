//! How trends are answered: what caches may keep, which fields programs find, which numbers nobody is told, what the operator
//! keeps back of each kind, and that lists which were handed out can be made again.

use serde_json::{Value, json};
use shearwater::config::{Access, Config};
use shearwater::store::{Act, Subject, TrendRuling};
use shearwater::trends::assess::Window;
use shearwater::trends::replay::Replayed;
use shearwater::trends::rulings::Ruled;

use crate::asking::{Answer, get, link};
use crate::support::{TestRelay, eventually};
use crate::trends::{all_say, counted, counting, first_is, linked_and_boosted, listed, say, servers};

fn searching(config: &mut Config) {
    (config.search.api, config.search.rate) = (Access::Public, 0);
}

async fn rule(relay: &TestRelay, target: &str, hidden: Option<bool>) -> bool {
    let at = relay.trends().now();
    let ruling = hidden.map(|hidden| TrendRuling { hidden, reason: "a test".to_owned(), at, until: None });
    let target = Ruled::parse(target).expect("a target");
    relay.trends().rule(&target, ruling, &Act::local("a test")).await.expect("written")
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_keep_nothing_that_has_to_do_with_posts_and_nothing_about_who_asked() {
    let relay = counting(|config| config.trends.rate = 6000).await;
    let rates = |answer: &Answer| answer.header("x-ratelimit-remaining").to_owned();
    eventually("there are trends", || relay.trends().list(&six()).is_ok()).await;
    for path in ["tags", "links", "list", "list?kind=link", "tags.rss"] {
        let answer = get(&relay, &format!("/api/v1/trends/{path}")).await;
        assert_eq!((answer.header("cache-control"), rates(&answer).as_str()), ("public, max-age=15", ""), "{path}");
        assert_eq!(answer.header("vary"), "Authorization");
    }
    for path in ["statuses", "explain?tag=cats", "list?kind=post"] {
        let answer = get(&relay, &format!("/api/v1/trends/{path}")).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(!rates(&answer).is_empty(), "{path}");
    }
}

fn six() -> shearwater::trends::lists::Asked {
    shearwater::trends::lists::Asked { subject: Subject::Tag, window: Window::Six, language: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_trends_has_its_own_language_and_can_be_hidden_or_let_through() {
    let relay = counting(|config| {
        searching(config);
        config.trends.review = true;
    })
    .await;
    let servers = servers(&relay, 6).await;
    let post = linked_and_boosted(&relay, &servers).await;
    let statuses = async |query: &str| {
        let answer = get(&relay, &format!("/api/v1/trends/statuses{query}")).await;
        let list = answer.json();
        list.as_array()
            .expect("a list")
            .iter()
            .map(|one| one["uri"].as_str().expect("an id").to_owned())
            .collect::<Vec<String>>()
    };
    let none: Vec<String> = Vec::new();
    let of_kind = async |kind: &str| {
        let list = get(&relay, &format!("/api/v1/trends/list?kind={kind}")).await.json();
        (list["trends"].as_array().map_or(0, Vec::len), list["withheld"].clone(), list["hidden"].clone())
    };
    for kind in ["post", "link"] {
        let asked = async || of_kind(kind).await.1 == json!({ "review": 1 });
        let waited = tokio::time::timeout(crate::support::LONG, async {
            while !asked().await {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("a {kind} waits for the operator"));
    }
    assert_eq!(statuses("").await, none);
    let withheld = |kind: &str, why: &str| {
        relay.metric(&format!("shearwater_trends_withheld{{kind=\"{kind}\",reason=\"{why}\"}}"))
    };
    let counts = || [withheld("post", "review"), withheld("link", "review"), withheld("tag", "review")];
    eventually("each kind is counted by itself, and each thing once", || counts() == [1.0, 1.0, 0.0]).await;
    // By its id: let through.
    rule(&relay, &format!("post:{post}"), Some(false)).await;
    first_is(&relay, "/api/v1/trends/statuses", "uri", &post).await;
    assert_eq!(statuses("?language=en").await, std::slice::from_ref(&post));
    assert_eq!(statuses("?language=fr").await, none);
    assert_eq!(of_kind("post").await, (1, json!({}), json!(0)));
    first_is(&relay, "/api/v1/trends/list?kind=post", "key", &post).await;
    // By the address of its page: the ruling is about the post.
    let page = get(&relay, "/api/v1/trends/statuses").await.json()[0]["url"].as_str().expect("an address").to_owned();
    assert_ne!(page, post);
    rule(&relay, &format!("post:{page}"), Some(true)).await;
    assert_eq!(statuses("").await, none, "it holds for whoever asks next");
    assert_eq!(of_kind("post").await, (0, json!({ "hidden": 1 }), json!(1)));
    assert!(rule(&relay, &format!("post:{post}"), None).await, "it was written under the post's id");
    // All of a site.
    rule(&relay, &format!("post:{post}"), Some(false)).await;
    assert_eq!(statuses("").await, std::slice::from_ref(&post));
    assert!(rule(&relay, &format!("post:{post}"), None).await);
    let host = url::Url::parse(&post).expect("an id").host_str().expect("a host").to_owned();
    rule(&relay, &format!("site:{host}"), Some(true)).await;
    assert_eq!(of_kind("post").await, (0, json!({ "hidden": 1 }), json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_feeds_lead_to_what_they_are_about() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    for tag in ["one", "two"] {
        all_say(&servers, tag).await;
    }
    listed(&relay, &["one", "two"]).await;
    first_is(&relay, "/api/v1/trends/tags?within=24&language=en", "name", "one").await;
    let list = get(&relay, "/api/v1/trends/tags?within=24&language=en").await.json();
    let url = list[0]["url"].as_str().expect("a link").to_owned();
    assert!(url.ends_with("/explain?tag=one&within=24&language=en"), "{url}");
    let why = get(&relay, url.strip_prefix(relay.url()).expect("a path here")).await.json();
    assert_eq!((&why["window"]["hours"], &why["language"]), (&json!(24), &json!("en")));
    let feed = get(&relay, "/api/v1/trends/tags.rss?within=24&limit=1").await;
    let this = format!("<atom:link href=\"{}/api/v1/trends/tags.rss?limit=1&amp;within=24\"", relay.url());
    let this = [this.clone(), this.replace("&amp;", "&#38;")];
    assert!(this.iter().any(|this| feed.body.contains(this)), "{}", feed.body);
    assert!(feed.body.contains("isPermaLink=\"false\"") && feed.body.contains("<pubDate>"), "{}", feed.body);
    let next = link(&relay, &feed, "next").expect("a next page");
    assert!(get(&relay, &next).await.body.contains("<title>#two</title>"));
    let beyond = get(&relay, "/api/v1/trends/tags?offset=900&limit=1").await;
    let before = link(&relay, &beyond, "prev").expect("a page before");
    assert_eq!(get(&relay, &before).await.json()[0]["name"], "two", "the last page, not an empty one");
    // A link's list is one of a day, and so is its explanation.
    let why = get(&relay, "/api/v1/trends/explain?link=https://news.example/1").await.json();
    assert_eq!(why["window"]["hours"], 24);
    assert_eq!(get(&relay, "/api/v1/trends/list?kind=people").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_few_speak_of_no_number_is_told() {
    let relay = counting(searching).await;
    let servers = servers(&relay, 5).await;
    crate::searching::switch_on(&relay, &servers[0]).await;
    let explained = async |tag: &str| get(&relay, &format!("/api/v1/trends/explain?tag={tag}")).await.json();
    for server in &servers[..4] {
        say(server, "ada", &["Few"]).await;
    }
    counted(&relay, "few", 4).await;
    let few = explained("FEW").await;
    for name in ["now", "yesterday", "last_week", "usual", "score"] {
        assert_eq!(few[name], Value::Null, "{name}: {few}");
    }
    for name in ["history", "days", "examples"] {
        assert_eq!(few[name], json!([]), "{name}: {few}");
    }
    assert_eq!((&few["short_of"], &few["name"], &few["rank"]), (&json!("people"), &json!("few"), &json!(0)));
    // Of what nobody speaks of the same is said, but for its name.
    let mut nothing = explained("nothing").await;
    for name in ["at", "key", "name"] {
        nothing[name] = few[name].clone();
    }
    assert_eq!(nothing, few);
    say(&servers[4], "ada", &["few"]).await;
    counted(&relay, "few", 5).await;
    let many = explained("few").await;
    assert_eq!((&many["now"]["people"], &many["now"]["weightless"]), (&json!(5), &Value::Null));
    assert_eq!(many["usual"], json!({ "people": 0, "servers": 0, "reach": 0.0 }));
    let examples = async || explained("few").await["examples"].as_array().map_or(0, Vec::len);
    let waited = tokio::time::timeout(crate::support::LONG, async {
        while examples().await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    waited.await.expect("an example is named");
    rule(&relay, "few", Some(true)).await;
    assert_eq!(examples().await, 0, "none of what is hidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_may_be_asked_as_of_the_list_that_is_handed_out() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 6).await;
    all_say(&servers[..5], "petrels").await;
    listed(&relay, &["petrels"]).await;
    let list = get(&relay, "/api/v1/trends/list").await.json();
    let at = list["at"].as_str().expect("a moment");
    let as_listed = relay.trends().explain_as_listed(&six(), "petrels", at);
    // It may have been made anew in between.
    if let Some(found) = as_listed {
        assert_eq!(found.at.rfc3339(), at);
        assert_eq!(list["trends"][0]["people"], found.found.measure.people);
    }
    let other = relay.trends().explain_as_listed(&six(), "petrels", "2020-01-01T00:00:00Z");
    assert!(other.is_none(), "of another moment there is none");
    let now = get(&relay, "/api/v1/trends/explain?tag=petrels&at=2020-01-01T00:00:00Z").await.json();
    assert_eq!((&now["key"], now["at"] == "2020-01-01T00:00:00Z"), (&json!("petrels"), false));
}

fn replayed(relay: &TestRelay) -> Vec<Replayed> {
    relay.trends().replay().expect("the store reads")
}

/// The list of six hours, made again.
fn of_six(list: &[Replayed]) -> &Replayed {
    list.iter().find(|one| one.list == "tag:6:").expect("the list of six hours")
}

async fn written(relay: &TestRelay, what: &str, is_so: impl Fn(&Replayed) -> bool) {
    eventually(what, || replayed(relay).iter().any(|one| one.list == "tag:6:" && is_so(one))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_made_again_with_what_was_said_then_or_it_is_named_what_is_not_as_it_was() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    all_say(&servers, "petrels").await;
    let is_whole = |one: &Replayed| one.served.entries.iter().any(|entry| entry.people == 10) && one.equal;
    written(&relay, "the list was written down", is_whole).await;
    // A word of the operator: with what was said by then it is the same, though what is shown now is not.
    rule(&relay, "petrels", Some(true)).await;
    let again = replayed(&relay);
    let one = of_six(&again);
    assert!(is_whole(one) || one.served.entries.is_empty(), "{one:#?}");
    assert!(one.equal && one.conditions_changed.is_empty() && !one.differs(), "{one:#?}");
    // What is hidden is written down as such; taken back, that is not known any more.
    written(&relay, "what is hidden", |one| one.served.withheld.values().flatten().any(|key| key == "petrels")).await;
    rule(&relay, "petrels", None).await;
    let again = replayed(&relay);
    let one = again.iter().find(|one| !one.served.withheld.is_empty());
    if let Some(one) = one {
        assert!(!one.equal && one.conditions_changed == ["rulings"] && !one.differs(), "{one:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_is_named_when_a_list_is_made_again() {
    let relay = counting(|_config| {}).await;
    let servers = servers(&relay, 5).await;
    all_say(&servers, "petrels").await;
    let is_whole = |one: &Replayed| one.served.entries.iter().any(|entry| entry.people == 10);
    written(&relay, "the list was written down", is_whole).await;
    let state = relay.server.app().state.clone();
    let mut config = relay.config.trends.clone();
    config.grown = Vec::new();
    let rules = std::sync::Arc::new(shearwater::policy::RuleSet::of_config(&relay.config.policy, &relay.config.relay));
    let again = |config: &shearwater::config::Trends| {
        shearwater::trends::replay::replay(&state.store, config, &rules, state.clock.now()).expect("lists")
    };
    let all = again(&config);
    let one = of_six(&all);
    assert!(!one.equal && one.conditions_changed == ["config"] && !one.differs(), "{one:#?}");
    // With less room things are forgotten that were known.
    let mut config = relay.config.trends.clone();
    config.memory = bytesize::ByteSize::b(200);
    let all = again(&config);
    assert_eq!(of_six(&all).conditions_changed, ["config", "evictions"]);
    assert!(again(&relay.config.trends).iter().all(|one| !one.differs()));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_words_said_at_the_same_time_none_is_lost() {
    let relay = counting(|_config| {}).await;
    for round in 0..5 {
        let trends = relay.trends().clone();
        let mut all = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (trends, target) = (trends.clone(), Ruled::parse(&format!("tag{round}x{number}")).expect("a tag"));
            all.spawn(async move {
                let at = trends.now();
                let ruling = TrendRuling { hidden: true, reason: "a test".to_owned(), at, until: None };
                trends.rule(&target, Some(ruling), &Act::local("a test")).await.expect("written");
                let Ruled::Tag(key) = target else { panic!("a tag") };
                assert!(trends.rulings().of(Subject::Tag, &key, at).is_some(), "{key} holds once it is acknowledged");
            });
        }
        all.join_all().await;
    }
    assert_eq!(relay.trends().rulings().all(relay.trends().now()).len(), 40);
}

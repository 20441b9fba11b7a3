//! What is found, and what is not: only posts of authors who said yes, on servers whose admins did, for as long as both
//! say so; by a real relay that gets them from simulated servers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use shearwater::clock::Timestamp;
use shearwater::config::Access;
use shearwater::demo::{Family, Instance, PostSpec, Tweaks, Visibility};
use shearwater::search::find::FindFault;
use shearwater::search::index::Page;
use shearwater::store::{Act, Leftover, Rule, RuleChange, SearchServer, Severity, Source, SwitchedBy};

use crate::support::{TestRelay, authority, publish};

pub(crate) async fn searching() -> TestRelay {
    // Tests search as often as they like; the one about floods says what is allowed.
    TestRelay::start_with(|config| (config.search.api, config.search.rate) = (Access::Public, 0)).await
}

pub(crate) async fn switch_on(relay: &TestRelay, instance: &Instance) {
    let (server, since) = (authority(instance), relay.server.app().state.clock.now());
    let on = SearchServer { since, by: SwitchedBy::Operator, reason: "its admin asked".to_owned(), also: Vec::new() };
    relay.store().write(move |tx| tx.switch_search(&server, Some(on))).await.expect("written");
}

/// A server that has joined, and whose admin wants search.
pub(crate) async fn member(relay: &TestRelay, name: &str) -> Instance {
    let instance = relay.joined(Family::Mastodon, name).await;
    switch_on(relay, &instance).await;
    instance
}

/// The ids of the posts that are found, newest first.
pub(crate) fn found(relay: &TestRelay, query: &str) -> Vec<String> {
    let page = Page { limit: 100, ..Page::default() };
    match relay.search().find(query, page, 0, false) {
        Ok(results) => results.hits.into_iter().map(|hit| hit.post.object.to_string()).collect(),
        Err(FindFault::NoIndex) => Vec::new(),
        Err(fault) => panic!("{query}: {fault}"),
    }
}

/// Waits for a condition; what the search says of itself is in the message of a wait that fails.
pub(crate) async fn eventually(relay: &TestRelay, what: &str, done: impl FnMut() -> bool) {
    if !crate::support::comes_true(done).await {
        let state = &relay.server.app().state;
        let numbers = state.metrics.render();
        // A fetch that failed is tried again after a minute, which is longer than anybody waits here.
        let told = ["shearwater_search_", "shearwater_fetches_total", "shearwater_requests_sent_total"];
        let is_told = |line: &&str| told.iter().any(|name| line.starts_with(name)) && !line.contains("_bucket{");
        let numbers: Vec<&str> = numbers.lines().filter(is_told).collect();
        panic!("{what} never came true; {numbers:#?} {:#?} {:#?}", held(relay), state.supervisor.status());
    }
}

/// How often the gatherer came to this.
pub(crate) fn gathered(relay: &TestRelay, word: &'static str) -> u64 {
    relay.server.app().state.metrics.gathered.with_label_values(&[word]).get()
}

pub(crate) fn held(relay: &TestRelay) -> (u64, u64) {
    let counts = relay.store().ledger_counts().expect("the store reads");
    (counts.posts, counts.authors)
}

pub(crate) async fn tell_profile(instance: &Instance, name: &str) {
    let update = instance.compose_profile(name).expect("an author");
    let sent = instance.send_raw(update.activity.to_string(), &update.signer, &Tweaks::default()).await;
    assert_eq!(sent.expect("an answer").status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_found_if_its_author_and_its_server_said_yes_and_not_otherwise() {
    let relay = searching().await;
    let (yes, no) = (member(&relay, "yes").await, relay.joined(Family::Mastodon, "no").await);
    yes.set_profile("grace", json!({ "indexable": false }));
    let post = publish(&yes, "a petrel over the bay").await;
    let refused = yes.post(PostSpec::public("a petrel in secret").by("grace")).await.expect("an answer");
    publish(&no, "a petrel elsewhere").await;
    for visibility in [Visibility::Unlisted, Visibility::Followers, Visibility::Direct] {
        let composed = yes.compose(&PostSpec::public("a petrel, quietly").visible_to(visibility));
        yes.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
    }
    eventually(&relay, "it is found", || found(&relay, "petrel") == [post.id.clone()]).await;
    eventually(&relay, "the others were looked at", || {
        gathered(&relay, "not-indexable") == 1 && gathered(&relay, "server-off") == 1
    })
    .await;
    let only = [post.id];
    assert_eq!(found(&relay, "petrel"), only);
    assert_eq!(held(&relay), (1, 1), "of the others nothing is kept");
    assert!(!refused.id.is_empty());
    for query in ["bay petrel", "\"over the bay\"", "PETREL -secret", "pet*"] {
        assert_eq!(found(&relay, query), only, "{query}");
    }
    for query in ["petrel secret", "\"the over\"", "petrel -bay", "albatross"] {
        assert!(found(&relay, query).is_empty(), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_found_by_its_new_words_only_and_a_deletion_by_none() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let post = publish(&yes, "an auk").await;
    eventually(&relay, "it is found", || found(&relay, "auk") == [post.id.clone()]).await;
    yes.edit(&post.id, "a fulmar").await.expect("an answer");
    eventually(&relay, "by its new words", || found(&relay, "fulmar") == [post.id.clone()]).await;
    assert!(found(&relay, "auk").is_empty());
    assert_eq!(held(&relay), (1, 1), "it is the same post");
    assert_eq!(yes.delete(&post.id).await.expect("an answer").status(), 202);
    assert!(found(&relay, "fulmar").is_empty(), "from the moment at which it was acknowledged");
    assert_eq!(held(&relay).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_consent_back_is_not_found_any_more_and_later_posts_only_after_a_new_yes() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let mut posts = Vec::new();
    for number in 0..20 {
        posts.push(publish(&yes, &format!("a gannet, number {number}")).await);
    }
    eventually(&relay, "all are found", || found(&relay, "gannet").len() == posts.len()).await;
    yes.set_profile("ada", json!({ "indexable": false }));
    tell_profile(&yes, "ada").await;
    eventually(&relay, "none is found", || found(&relay, "gannet").is_empty()).await;
    eventually(&relay, "nothing is left", || {
        held(&relay) == (0, 0) && relay.store().all::<Leftover>().expect("the store reads").is_empty()
    })
    .await;
    let refused = publish(&yes, "a gannet after the no").await;
    eventually(&relay, "it was looked at", || gathered(&relay, "not-indexable") >= 1).await;
    assert!(found(&relay, "gannet").is_empty());
    yes.set_profile("ada", json!({ "indexable": true }));
    tell_profile(&yes, "ada").await;
    eventually(&relay, "the new yes was read", || gathered(&relay, "author-read") >= 1).await;
    let later = publish(&yes, "a gannet after the new yes").await;
    eventually(&relay, "what is written from then on is found", || found(&relay, "gannet") == [later.id.clone()]).await;
    assert!(!found(&relay, "gannet").contains(&refused.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_goes_on_after_a_restart_and_is_made_anew_when_it_is_lost() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let first = publish(&yes, "a skua").await;
    eventually(&relay, "it is found", || found(&relay, "skua") == [first.id.clone()]).await;
    let relay = relay.restart().await;
    let second = publish(&yes, "another skua").await;
    // Posts say when they were written to the second: which of two in the same one comes first is open.
    let both = BTreeSet::from([second.id.clone(), first.id.clone()]);
    let skuas = |relay: &TestRelay| found(relay, "skua").into_iter().collect::<BTreeSet<_>>();
    eventually(&relay, "both are found", || skuas(&relay) == both).await;
    let folder = relay.config.data_dir.join("search");
    let relay =
        relay.restart_with(move |_config| std::fs::remove_dir_all(&folder).expect("the folder of the index")).await;
    eventually(&relay, "both are found again", || skuas(&relay) == both).await;
    let segments = std::fs::read_dir(relay.config.data_dir.join("search/v1")).expect("the index");
    let segment = segments
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|kind| kind == "term"))
        .expect("a segment");
    let relay = relay
        .restart_with(move |_config| {
            let mut bytes = std::fs::read(&segment).expect("a file");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            std::fs::write(&segment, bytes).expect("a file");
        })
        .await;
    eventually(&relay, "a damaged index is made anew", || skuas(&relay) == both).await;
    assert!(!relay.config.data_dir.join("search/v1.damaged").exists(), "what was moved aside is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_switched_off_or_ruled_out_is_found_no_more() {
    let relay = searching().await;
    let (one, two) = (member(&relay, "one").await, member(&relay, "two").await);
    let (of_one, of_two) = (publish(&one, "a tern").await, publish(&two, "a tern as well").await);
    eventually(&relay, "both are found", || found(&relay, "tern").len() == 2).await;
    let server = authority(&one);
    relay.store().write(move |tx| tx.switch_search(&server, None)).await.expect("written");
    assert_eq!(found(&relay, "tern"), [of_two.id], "at once");
    eventually(&relay, "what was held of it is gone", || held(&relay) == (1, 1)).await;
    assert!(!of_one.id.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_asks_for_something_and_not_for_all_that_somebody_wrote() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    yes.set_profile("grace", json!({ "discoverable": false }));
    let (ada, grace) = (
        publish(&yes, "a razorbill").await,
        yes.post(PostSpec::public("a razorbill too").by("grace")).await.expect("an answer"),
    );
    eventually(&relay, "both are found", || found(&relay, "razorbill").len() == 2).await;
    let host = authority(&yes);
    let page = Page { limit: 10, ..Page::default() };
    let fault = |query: &str| relay.search().find(query, page, 0, false).expect_err(query).to_string();
    for query in ["", "a", "domain:example.org", "-razorbill", "has:media", "is:reply"] {
        assert!(fault(query).contains("asks for everything"), "{query}: {}", fault(query));
    }
    assert!(fault(&format!("from:grace@{host}")).contains("all that somebody wrote"));
    assert_eq!(found(&relay, &format!("from:grace@{host} razorbill")), [grace.id]);
    assert_eq!(found(&relay, &format!("from:ada@{host}")), [ada.id], "who is discoverable may be browsed");
    for query in [
        format!("from:grace@{host} (the OR razorbill OR a)"),
        format!("from:grace@{host} razor*"),
        format!("domain:{host} the OR razorbill"),
    ] {
        assert!(fault(&query).contains("not one of several"), "common words open nothing: {query}: {}", fault(&query));
    }
    assert_eq!(
        found(&relay, &format!("from:ada@{host} (the OR razorbill)")),
        found(&relay, &format!("from:ada@{host}"))
    );
    assert!(fault("petrel (").contains("At character 8"), "{}", fault("petrel ("));
    assert!(fault(&"x".repeat(1 << 20)).contains("too long"));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_search_over_http_in_our_words_and_in_mastodons() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let first = publish(&yes, "a puffin <b>bold</b>").await;
    // Of posts of one second no order is promised.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let posts = [first, publish(&yes, "a puffin again").await];
    eventually(&relay, "both are found", || found(&relay, "puffin").len() == 2).await;
    let get = async |path: String| yes.fetch(&format!("{}{path}", relay.url())).await.expect("an answer");
    let ours = get("/api/v1/search?q=puffin&limit=1".to_owned()).await;
    assert_eq!(ours.status, 200, "{}", ours.text());
    let first = crate::support::json(&ours.body);
    assert_eq!(first["hits"][0]["uri"], posts[1].id.as_str());
    assert_eq!(first["hits"][0]["why"]["signal"], "indexable");
    let next = first["next"].as_str().expect("there is more").to_owned();
    let second = crate::support::json(&get(format!("/api/v1/search?q=puffin&limit=1&below={next}")).await.body);
    assert_eq!(second["hits"][0]["uri"], posts[0].id.as_str());
    let mastodon = crate::support::json(&get("/api/v2/search?q=puffin&type=statuses&offset=1".to_owned()).await.body);
    let status = &mastodon["statuses"][0];
    assert_eq!((&status["uri"], mastodon["statuses"].as_array().map(Vec::len)), (&json!(posts[0].id), Some(1)));
    assert!(!status["content"].to_string().contains("<b>"), "{status}");
    let id = status["id"].as_str().expect("an id");
    assert_eq!(crate::support::json(&get(format!("/api/v1/statuses/{id}")).await.body)["uri"], posts[0].id.as_str());
    let ask = async |who: String| crate::support::json(&get(format!("/api/v1/search/consent?acct={who}")).await.body);
    let (host, off) = (authority(&yes), relay.joined(Family::Mastodon, "off").await);
    let ada = ask(format!("ada@{host}")).await;
    assert_eq!((&ada["indexed"], &ada["posts"]), (&json!(true), &json!(2)), "{ada}");
    let stranger = ask(format!("ada@{}", authority(&off))).await;
    assert_eq!((&stranger["indexed"], &stranger["reasons"][0]["reason"]), (&json!(false), &json!("server-off")));
    for (path, status) in [
        ("/api/v1/search/consent?acct=ada", 400),
        ("/api/v1/statuses/1", 404),
        ("/api/v1/statuses/x", 404),
        ("/api/v1/search?q=", 400),
        ("/api/v1/search?q=(", 400),
        ("/api/v1/search?q=puffin&limit=x", 400),
        ("/api/v2/search?q=puffin&limit=-1", 400),
        ("/api/v2/search?q=puffin&account_id=7", 400),
    ] {
        assert_eq!(get(path.to_owned()).await.status, status, "{path}");
    }
}

/// A rule that comes later hides what is held already, wherever in the post the word is.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyword_hides_what_is_held_by_its_warning_too() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let mut composed = yes.compose(&PostSpec::public("a razorbill"));
    composed.activity["object"]["summary"] = "about an albatross".into();
    composed.activity["object"]["sensitive"] = true.into();
    yes.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
    eventually(&relay, "it is found", || found(&relay, "albatross is:sensitive").contains(&composed.id)).await;
    let target = "keyword:albatross".parse().expect("a target");
    let rule = Rule::new(target, Severity::NoSearch, Source::Operator, Timestamp::default());
    relay.relay().change_rules(vec![RuleChange::Put(rule)], &Act::local("a test")).await.expect("a rule");
    assert!(found(&relay, "razorbill is:sensitive").is_empty() && found(&relay, "albatross is:sensitive").is_empty());
}

/// What looks like markup in a post is text, and is shown as text.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_wrote_is_shown_as_text_whatever_it_looks_like() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    let mut composed = yes.compose(&PostSpec::public("a murre"));
    let said = "<p>a murre &lt;script&gt;x&lt;/script&gt; &amp;lt;b&amp;gt; <b onclick=\"x\">bold</b></p>";
    composed.activity["object"]["content"] = said.into();
    yes.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await.expect("an answer");
    eventually(&relay, "it is found", || found(&relay, "murre") == [composed.id.clone()]).await;
    let path = format!("{}/api/v2/search?q=murre&type=statuses", relay.url());
    let answer = yes.fetch(&path).await.expect("an answer");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let content = crate::support::json(&answer.body)["statuses"][0]["content"].as_str().expect("HTML").to_owned();
    assert_eq!(content, "<p>a murre &lt;script&gt;x&lt;/script&gt; &amp;lt;b&amp;gt; bold</p>");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_may_search_so_often_and_no_oftener() {
    let relay = TestRelay::start_with(|config| (config.search.api, config.search.rate) = (Access::Public, 1)).await;
    let one = relay.joined(Family::Mastodon, "one").await;
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let path = format!("{}/api/v1/search/consent?acct=ada@one.example", relay.url());
        statuses.push(one.fetch(&path).await.expect("an answer").status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    assert!(statuses[10..].iter().all(|status| *status == 429), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_search_is_off_nothing_is_taken_and_nobody_may_search() {
    let relay = TestRelay::start().await;
    let yes = member(&relay, "yes").await;
    publish(&yes, "a dovekie").await;
    for path in ["/api/v1/search?q=dovekie", "/api/v2/search?q=dovekie", "/api/v1/statuses/1"] {
        let answer = yes.fetch(&format!("{}{path}", relay.url())).await.expect("an answer");
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    assert_eq!(held(&relay), (0, 0));
    assert!(!relay.config.data_dir.join("search").exists());
}

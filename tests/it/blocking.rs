//! The operator's rules: what is decided holds at once and everywhere, for what comes, what waits and what is shown; it
//! survives a restart, and it ends when it is taken back.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use shearwater::clock::Timestamp;
use shearwater::config::Access;
use shearwater::demo::{As, Family, Fault, Instance, Options, PostSpec, Tweaks, Where};
use shearwater::ids::{Iri, Seq};
use shearwater::relay::enforce::Impact;
use shearwater::relay::resolver::WaitingHint;
use shearwater::store::{Act, ControlRow, Directive, Following, Rule, RuleChange, Severity, Source, Style, Target};

use crate::support::{LONG, TestRelay, arrival, authority, eventually, publish, receipts_of};

fn rule(target: &str, severity: Severity) -> Rule {
    let target: Target = target.parse().expect("a target");
    Rule::new(target, severity, Source::Operator, Timestamp::default())
}

fn on(instance: &Instance, severity: Severity) -> Rule {
    rule(authority(instance).as_str(), severity)
}

async fn put(relay: &TestRelay, rule: Rule) -> Impact {
    relay.relay().change_rules(vec![RuleChange::Put(rule)], &Act::local("a test")).await.expect("the rule is made")
}

async fn take_out(relay: &TestRelay, target: &str) {
    let change = RuleChange::Remove(target.parse().expect("a target"), Source::Operator);
    relay.relay().change_rules(vec![change], &Act::local("a test")).await.expect("the rule is taken out");
}

async fn stranger(family: Family, name: &str) -> Instance {
    Instance::start(family, Options { name: name.to_owned(), ..Options::default() }).await.expect("an instance")
}

/// A server that only gives to the search never asked to join, and what it runs is looked at all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_blocked_software_is_not_searched_either() {
    let relay = TestRelay::start_with(|config| {
        config.search.api = Access::Public;
        config.policy.block_software = vec!["misskey".to_owned()];
    })
    .await;
    let is_on = |one: &Instance| relay.store().search_servers().contains_key(&authority(one));
    let (misskey, mastodon) =
        (stranger(Family::Misskey, "misskey").await, stranger(Family::Mastodon, "mastodon").await);
    for one in [&misskey, &mastodon] {
        assert_eq!(one.join_search(relay.url()).await.expect("an answer").status, 202, "nothing is known yet");
    }
    assert!(reject_at(&misskey).await.contains("software"));
    eventually("it is off", || !is_on(&misskey)).await;
    let knows = || relay.relay().facts(&authority(&mastodon)).is_ok_and(|facts| facts.software.is_some());
    eventually("the other one was looked at", knows).await;
    assert!(is_on(&mastodon));
    assert_eq!(misskey.join_search(relay.url()).await.expect("an answer").status, 403, "it is known now");
    // What was learned of it is kept while it is here, so that a rule that comes later finds it.
    relay.relay().forget_strangers("").await.expect("tidied");
    put(&relay, rule("software:mastodon", Severity::Block)).await;
    assert!(!is_on(&mastodon), "before the call returns");
}

/// The Reject that this server got.
async fn reject_at(instance: &Instance) -> String {
    let reject = || instance.received().into_iter().find(|one| one.kind == "Reject");
    eventually("the Reject", || reject().is_some()).await;
    reject().expect("a Reject").body
}

/// Where the relay shows its Announce of this post.
fn announce_url(relay: &TestRelay, post: &str) -> String {
    let log = &relay.server.app().state.log;
    let mut next = Seq(1);
    while let Some(entry) = log.at_or_after(next).expect("the log reads") {
        if entry.object.as_str() == post {
            return format!("{}/announces/{}", relay.url(), entry.announce_hash());
        }
        next = entry.seq.next();
    }
    panic!("{post} is not in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocking_a_domain_takes_effect_at_once_everywhere() {
    let relay = TestRelay::start().await;
    let (poster, evil) = (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "evil").await);
    let (reader, slow) = (relay.joined(Family::Misskey, "reader").await, relay.joined(Family::Mastodon, "slow").await);
    slow.set_fault(Fault::Status(503));
    let mut bad = Vec::new();
    for number in 0..3 {
        bad.push(publish(&evil, &format!("buy this {number}")).await);
    }
    let good = publish(&poster, "a good one").await;
    for post in bad.iter().chain([&good]) {
        arrival(&reader, &post.id).await;
    }
    eventually("the slow one was tried", || slow.received().iter().any(|one| one.status == 503)).await;
    let shown = announce_url(&relay, &bad[0].id);
    assert_eq!(reader.fetch(&shown).await.expect("an answer").status, 200);

    // What it would do is told, and nothing is done.
    let change = [RuleChange::Put(on(&evil, Severity::Block))];
    let after = relay.relay().rules_after(&change).expect("a good rule");
    let told = relay.relay().impact(&after).expect("the store reads");
    assert_eq!(told.removed, [authority(&evil)]);
    let waits = relay.server.app().state.delivery.would_keep_back(&after).await.expect("the log reads");
    assert_eq!(waits, (3, true), "three posts wait for the slow one");
    assert!(relay.store().subscriber(&authority(&evil)).is_some());

    // A message of another kind waits for it, and its posts wait for another.
    let inbox = Iri::parse(&format!("{}/inbox", evil.origin())).expect("an id");
    let accept = Directive {
        inbox,
        what: "accept".to_owned(),
        body: "{\"type\":\"Accept\",\"marked\":1}".to_owned(),
        from: None,
    };
    evil.set_fault(Fault::Status(503));
    relay.store().write(move |tx| tx.queue_control(accept)).await.expect("written");
    let told = put(&relay, Rule { reason: "You sent spam.".to_owned(), ..on(&evil, Severity::Block) }).await;
    assert_eq!(told.removed, [authority(&evil)]);
    assert!(relay.store().subscriber(&authority(&evil)).is_none(), "it is out before the call returns");
    let rows = relay.store().all::<ControlRow>().expect("rows");
    assert!(!rows.iter().any(|(_, row)| row.what == "accept"), "what waited for it is let go of, and never sent");
    assert_eq!(reader.fetch(&shown).await.expect("an answer").status, 404, "and its posts are not shown");
    let refused = evil.post(PostSpec::public("let me in")).await.expect("an answer");
    assert_eq!(refused.status(), 403);
    let text = refused.answer.expect("an answer").text();
    assert!(text.contains("\"blocked\"") && text.contains("You sent spam."), "{text}");

    // It is told, and nothing else is said to it.
    evil.set_fault(Fault::None);
    assert!(reject_at(&evil).await.contains("You sent spam."));

    // What waited for the slow one is passed over; what is not of the blocked server arrives.
    slow.set_fault(Fault::None);
    arrival(&slow, &good.id).await;
    let marker = publish(&poster, "a marker").await;
    arrival(&slow, &marker.id).await;
    arrival(&reader, &marker.id).await;
    for post in &bad {
        let came = receipts_of(&slow, &post.id).into_iter().filter(|one| one.outcome.is_taken()).count();
        assert_eq!(came, 0, "{} was kept back", post.id);
    }
    assert!(receipts_of(&evil, &marker.id).is_empty(), "it gets nothing");
    assert!(!evil.received().iter().any(|one| one.body.contains("marked")), "nor what waited for it");
    assert!(relay.metric("shearwater_deliveries_total{result=\"blocked\"}") >= 3.0);
    assert!(relay.metric("shearwater_rules_total{effect=\"enforced\",severity=\"block\",target=\"domain\"}") >= 1.0);

    // Nobody is asked about it.
    let fetched = evil.fetches();
    let url = Some(format!("{}/inbox", relay.url()));
    evil.send_raw("{}", &As::Author("nobody we saw".to_owned()), &Tweaks { url, ..Tweaks::default() }).await.ok();
    relay
        .relay()
        .follow(&evil.actor(&As::Server), Style::Litepub, &Act::local("a test"))
        .await
        .expect_err("it is blocked");
    assert_eq!(evil.fetches(), fetched);

    // And when it is taken back, all is as it was.
    take_out(&relay, authority(&evil).as_str()).await;
    evil.join(relay.url()).await.expect("an answer");
    assert!(evil.wait_accepted(LONG).await, "{:#?}", evil.received());
    let post = publish(&evil, "I am sorry").await;
    arrival(&reader, &post.id).await;
}

/// A blocked server may follow again and again and take none of the answers: the newest are enough.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_waits_for_a_blocked_server_the_newest_is_kept() {
    let relay = TestRelay::start().await;
    // Nobody listens there.
    let queue = |host: &str, number: usize| {
        let inbox = Iri::parse(&format!("http://{host}:1/inbox")).expect("an id");
        Directive { inbox, what: "reject".to_owned(), body: format!("{{\"number\":{number}}}"), from: None }
    };
    for host in ["127.0.0.3", "127.0.0.4"] {
        for number in 0..120 {
            let row = queue(host, number);
            relay.store().write(move |tx| tx.queue_control(row)).await.expect("written");
        }
    }
    put(&relay, rule("127.0.0.3:1", Severity::Block)).await;
    let waits = |host: &str| -> Vec<String> {
        let rows = relay.store().all::<ControlRow>().expect("rows").into_iter();
        rows.filter(|(_, row)| row.authority().host() == host).map(|(_, row)| row.body).collect()
    };
    assert_eq!(waits("127.0.0.3"), (112..120).map(|number| format!("{{\"number\":{number}}}")).collect::<Vec<_>>());
    assert_eq!(waits("127.0.0.4").len(), 120);
}

/// A hint names a post that is read from its origin: not from one that is blocked, nor on the word of one.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_blocked_server_says_or_holds_is_not_read() {
    let relay = TestRelay::start().await;
    let (good, reader) = (relay.joined(Family::Mastodon, "good").await, relay.joined(Family::Mastodon, "reader").await);
    let evil = stranger(Family::Mastodon, "evil").await;
    let carrier = stranger(Family::Akkoma, "carrier").await;
    relay
        .relay()
        .follow(&carrier.actor(&As::Server), Style::Litepub, &Act::local("a test"))
        .await
        .expect("a Follow is sent");
    let announce = async |object: &str, name: &str| {
        let announce = serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{}/announce/{name}", carrier.origin()),
            "type": "Announce", "actor": carrier.actor(&As::Server), "object": object,
            "to": ["https://www.w3.org/ns/activitystreams#Public"],
        });
        let url = Some(format!("{}/inbox", relay.url()));
        let tweaks = Tweaks { url, ..Tweaks::default() };
        carrier.send_raw(announce.to_string(), &As::Server, &tweaks).await.expect("an answer").status
    };
    put(&relay, on(&evil, Severity::Block)).await;
    let post = evil.compose(&PostSpec::public("behind the wall"));
    assert_eq!(announce(&post.id, "1").await, 202);
    let marker = good.compose(&PostSpec::public("a marker"));
    assert_eq!(announce(&marker.id, "2").await, 202);
    arrival(&reader, &marker.id).await;
    assert!(receipts_of(&reader, &post.id).is_empty());
    assert_eq!(evil.fetches().values().sum::<u64>(), 0, "nothing is asked of a blocked server");

    // The carrier itself is blocked: our Follow of it ends, and it is told so.
    let told = put(&relay, on(&carrier, Severity::Block)).await;
    assert_eq!(told.unfollowed.len(), 1);
    assert!(relay.store().all::<Following>().expect("rows").is_empty());
    eventually("the Undo", || carrier.received().iter().any(|one| one.kind == "Undo")).await;
    assert_eq!(announce(&good.compose(&PostSpec::public("more")).id, "3").await, 403);
}

/// A hint that was taken before the rule, and could not be read yet, is not read after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_waits_when_its_server_is_blocked_is_not_read() {
    let relay = TestRelay::start().await;
    let (evil, reader) =
        (relay.joined(Family::GoToSocial, "evil").await, relay.joined(Family::Mastodon, "reader").await);
    evil.set_fault_at(Where::Documents, Fault::Status(503));
    let post = publish(&evil, "read me later").await;
    let tried = || relay.metric("shearwater_hints_total{outcome=\"later\"}") >= 1.0;
    eventually("it cannot be read yet", tried).await;
    put(&relay, on(&evil, Severity::Block)).await;
    evil.set_fault_at(Where::Documents, Fault::None);
    // At a start, everything that waits is looked at again once it is due; a new hint of it is due at once.
    let hint = post.id.clone();
    let log = relay.server.app().state.log.clone();
    let entry = log.at_or_after(Seq(1)).expect("the log reads").expect("the hint");
    assert_eq!(entry.object.as_str(), hint);
    let draft = entry.draft.clone();
    relay.store().write(move |tx| log.append(tx, draft)).await.expect("appended");
    eventually("it is let go of", || relay.metric("shearwater_hints_total{outcome=\"origin-not-relayed\"}") >= 1.0)
        .await;
    assert!(relay.store().all::<WaitingHint>().expect("rows").is_empty());
    assert!(receipts_of(&reader, &post.id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn software_is_turned_away_wherever_it_is_and_when_it_comes() {
    let relay = TestRelay::start().await;
    let (misskey, mastodon) =
        (relay.joined(Family::Misskey, "misskey").await, relay.joined(Family::Mastodon, "mastodon").await);
    let told = put(&relay, rule("software:misskey", Severity::Block)).await;
    assert_eq!(told.removed, [authority(&misskey)]);
    assert!(relay.store().subscriber(&authority(&misskey)).is_none());
    eventually("the Reject", || misskey.is_rejected()).await;

    let late = stranger(Family::Misskey, "late").await;
    assert_eq!(late.join(relay.url()).await.expect("an answer").status, 202, "it is looked at first");
    assert!(reject_at(&late).await.contains("your software"));
    assert!(relay.store().subscriber(&authority(&late)).is_none());
    assert_eq!(late.join(relay.url()).await.expect("an answer").status, 403, "now it is known");
    relay.joined(Family::Mastodon, "another").await;

    // An exemption by name, and the end of the rule.
    put(&relay, on(&late, Severity::Allow)).await;
    late.join(relay.url()).await.expect("an answer");
    eventually("it is a subscriber", || relay.store().subscriber(&authority(&late)).is_some_and(|one| one.is_active()))
        .await;
    take_out(&relay, "software:misskey").await;
    misskey.join(relay.url()).await.expect("an answer");
    eventually("it is back", || relay.store().subscriber(&authority(&misskey)).is_some_and(|one| one.is_active()))
        .await;

    // Silenced software receives and does not send.
    let told = put(&relay, rule("software:misskey", Severity::Silence)).await;
    assert_eq!(told.silenced, [authority(&misskey)], "the exempt one is not among them");
    let unheard = publish(&misskey, "hello?").await;
    let marker = publish(&mastodon, "a marker").await;
    arrival(&misskey, &marker.id).await;
    assert!(receipts_of(&mastodon, &unheard.id).is_empty());
    let heard = publish(&late, "hello!").await;
    arrival(&mastodon, &heard.id).await;
    assert!(receipts_of(&mastodon, &unheard.id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_actor_is_not_relayed_and_its_neighbours_are() {
    let relay = TestRelay::start().await;
    let (poster, slow) = (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "slow").await);
    slow.set_fault(Fault::Status(503));
    let spec = PostSpec::public("waiting");
    let waiting = poster.post(spec.clone()).await.expect("an answer");
    eventually("the slow one was tried", || slow.received().iter().any(|one| one.status == 503)).await;
    let actor = poster.compose(&spec).activity["actor"].as_str().expect("an actor").to_owned();
    let other = "grace";
    assert_ne!(poster.actor(&As::Author(other.to_owned())), actor);
    put(&relay, rule(&actor, Severity::Block)).await;
    slow.set_fault(Fault::None);
    let again = poster.post(spec).await.expect("an answer");
    assert_eq!(again.status(), 202);
    let marker = poster.post(PostSpec::public("a marker").by(other)).await.expect("an answer");
    arrival(&slow, &marker.id).await;
    for post in [&waiting, &again] {
        let came = receipts_of(&slow, &post.id).into_iter().filter(|one| one.outcome.is_taken()).count();
        assert_eq!(came, 0, "{}", post.id);
    }
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"blocked-actor\""), 1.0);
    assert!(relay.store().subscriber(&authority(&poster)).is_some(), "its server has done nothing");
    // Nor is what its server's relay actor announces: whose post it is, is known when it is read.
    let akkoma = relay.joined(Family::Akkoma, "akkoma").await;
    let author = akkoma.actor(&As::Author("ada".to_owned()));
    put(&relay, rule(&author, Severity::Block)).await;
    let unread = akkoma.post(PostSpec::public("announced")).await.expect("an answer");
    eventually("it is judged", || relay.metric("shearwater_hints_total{outcome=\"blocked-actor\"}") >= 1.0).await;
    let marker = poster.post(PostSpec::public("another marker").by(other)).await.expect("an answer");
    arrival(&slow, &marker.id).await;
    assert!(receipts_of(&slow, &unread.id).is_empty());
    // What others have of it may still be taken back.
    assert_eq!(poster.delete(&waiting.id).await.expect("an answer").status(), 202);
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"blocked-actor\""), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_survive_a_restart_and_those_of_the_file_stand_beside_them() {
    let relay = TestRelay::start().await;
    let (evil, loud) = (relay.joined(Family::Mastodon, "evil").await, relay.joined(Family::Mastodon, "loud").await);
    put(&relay, on(&evil, Severity::Block)).await;
    let host = authority(&loud).to_string();
    let relay = relay.restart_with(|config| config.policy.silence = vec![host]).await;
    assert_eq!(relay.relay().rules().set().len(), 2);
    assert_eq!(evil.post(PostSpec::public("let me in")).await.expect("an answer").status(), 403);
    assert_eq!(loud.post(PostSpec::public("hear me")).await.expect("an answer").status(), 202);
    assert_eq!(relay.metric("shearwater_inbound_total{reason=\"silenced\""), 1.0);
    assert_eq!(relay.metric("shearwater_log_head"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_trial_changes_nothing_and_counts() {
    let relay = TestRelay::start().await;
    let (poster, reader) =
        (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "reader").await);
    let told = put(&relay, Rule { dry_run: true, ..on(&poster, Severity::Block) }).await;
    assert_eq!(told, Impact::default());
    let post = publish(&poster, "as ever").await;
    arrival(&reader, &post.id).await;
    assert_eq!(relay.metric("shearwater_rules_total{effect=\"would\",severity=\"block\",target=\"domain\"}"), 1.0);
    assert_eq!(relay.metric("shearwater_rules_total{effect=\"enforced\""), 0.0);
    let rules = relay.relay().rules().set();
    assert_eq!(rules.iter().map(|one| one.hits()).sum::<u64>(), 1);
}

/// What is under way to a server when it is blocked is cut off: a slow one must not get the rest of it, nor hold up a stop.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_to_a_blocked_server_is_cut_off() {
    let relay = TestRelay::start_with(|config| config.delivery.timeout = Duration::from_secs(300)).await;
    let (poster, evil) = (relay.joined(Family::Mastodon, "poster").await, relay.joined(Family::Mastodon, "evil").await);
    evil.set_fault(Fault::Silent);
    publish(&poster, "on its way").await;
    let lanes = || relay.server.app().state.delivery.lanes();
    eventually("it is on its way", || {
        lanes().iter().any(|lane| lane.authority == authority(&evil) && lane.in_flight > 0)
    })
    .await;
    // What reached it while it was silent is never answered; this is how long it may take to get there.
    tokio::time::sleep(Duration::from_millis(500)).await;
    evil.set_fault(Fault::None);
    put(&relay, on(&evil, Severity::Block)).await;
    eventually("the Reject", || evil.is_rejected()).await;
    assert!(relay.server.shutdown(LONG).await, "nothing waits for the blocked server");
}

/// A rule on ourselves, or one that asks for what cannot be, is refused whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_would_hit_the_relay_itself_is_refused() {
    let relay = TestRelay::start().await;
    let own = relay.url().trim_start_matches("http://").to_owned();
    let wrong =
        [rule(&own, Severity::Block), rule("127.0.0.1", Severity::Silence), rule("keyword:x", Severity::Silence)];
    for rule in wrong {
        let changes =
            vec![RuleChange::Put(on(&stranger(Family::Mastodon, "s").await, Severity::Block)), RuleChange::Put(rule)];
        relay.relay().change_rules(changes, &Act::local("a test")).await.expect_err("refused");
    }
    assert!(relay.relay().rules().set().is_empty() && relay.store().all::<Rule>().expect("rows").is_empty());
}

fn admin(data_dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shearwater"));
    command.env("SHEARWATER_DATA_DIR", data_dir).arg("admin").args(args).output().expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The operator's evening: try, do, look, exchange lists, take back.
#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_once_do_not_make_more_keywords_than_may_be() {
    let relay = TestRelay::start().await;
    let act = Act::local("a test");
    let words = |name: &str| -> Vec<RuleChange> {
        (0..150).map(|n| RuleChange::Put(rule(&format!("keyword:{name}{n}"), Severity::Block))).collect()
    };
    let (one, other) =
        tokio::join!(relay.relay().change_rules(words("one"), &act), relay.relay().change_rules(words("other"), &act));
    assert_eq!((one.is_ok(), other.is_ok()), (true, false), "{one:?} {other:?}");
    assert_eq!(relay.relay().rules().set().keywords(), 150);
    relay.relay().change_rules(words("one"), &Act::local("a test")).await.expect("the same again");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_tell_what_they_would_do_and_do_it() {
    let relay = TestRelay::start_with(|config| config.policy.block = vec!["file.example".to_owned()]).await;
    let evil = relay.joined(Family::Mastodon, "evil").await;
    let (host, dir) = (authority(&evil).to_string(), relay.config.data_dir.clone());
    let run = |args: &[&str]| {
        let output = admin(&dir, args);
        (output.status.success(), said(&output))
    };
    let check = |args: &[&str], good: bool, says: &[&str]| {
        let (success, text) = run(args);
        assert!(success == good && says.iter().all(|one| text.contains(one)), "{args:?}: {text}");
    };
    let removes = format!("remove 1 subscriber ({host})");
    let kept_out = format!("kept out of search 1 subscriber ({host})");
    check(&["no-search", &host], true, &[&format!("The rule is: no-search domain:{host}"), &kept_out]);
    check(&["rules", "check", &host], true, &["verdict: allow", "may_be_found: false", "no-search"]);
    assert!(relay.store().subscriber(&authority(&evil)).is_some());
    check(&["unrule", &host], true, &[&format!("let into search 1 subscriber ({host})")]);
    check(&["block", &host, "--dry-run"], true, &["Nothing was changed", &removes]);
    assert!(relay.store().subscriber(&authority(&evil)).is_some());
    let make = ["block", &host, "--reason", "spam", "--note", "ticket 7", "--expires", "30d"];
    check(&make, true, &["Done at once", "removed 1 subscriber", "until 2"]);
    assert!(relay.store().subscriber(&authority(&evil)).is_none());
    check(&["rules"], true, &["file.example", "config", &host, "operator", "spam", "ticket 7"]);
    check(&["rules", "list", "file.ex", "--source", "config"], true, &["domain:file.example"]);
    check(&["rules", "check", &host], true, &["verdict: block", "spam"]);
    check(&["rules", "--json"], true, &["\"in_force\":true"]);
    check(&["allow", &host, "--dry-run"], true, &["Nothing was changed"]);
    check(&["allow", "file.example"], false, &["a rule of config", "does not lift"]);
    check(&["unrule", "file.example"], false, &["stands in the configuration file"]);
    check(&["unrule", "nobody.example"], false, &["no such rule"]);
    check(&["block", "ev*l.example"], false, &["obfuscated"]);
    check(&["silence", "keyword:x"], false, &["blocked"]);
    check(&["unrule", &host], true, &["Done at once"]);

    let list = dir.join("Domain Blocks.csv");
    let write = |text: &str| std::fs::write(&list, text).expect("written");
    let path = list.to_str().expect("a path");
    write(
        "#domain,#severity,#public_comment\nbad.example,suspend,spam\nloud.example,silence,\nl*ud.example,silence,\n",
    );
    check(
        &["rules", "import", path, "--dry-run"],
        true,
        &["+ block domain:bad.example", "2 new", "unreadable with `*`"],
    );
    check(&["rules", "list", "bad.example"], true, &["None."]);
    check(&["rules", "import", path], false, &["line 4, column domain", "l*ud.example", "nothing is changed"]);
    check(&["rules", "list", "bad.example"], true, &["None."]);
    check(&["rules", "import", path, "--skip-bad"], true, &["+ silence domain:loud.example", "Done at once"]);
    check(&["rules", "note", "bad.example", "ticket 9", "--source", "list:domain-blocks"], true, &["ticket 9"]);
    check(&["rules", "list", "loud"], true, &["list:domain-blocks"]);
    check(&["rules", "export"], true, &["#domain,#severity", "bad.example,suspend,false,false,spam,false"]);
    write("#domain,#severity\nbad.example,destroy\nworse.example,suspend\n");
    check(&["rules", "import", path], false, &["line 2", "column severity", "nothing is changed"]);
    let replace = ["rules", "import", path, "--replace", "--skip-bad", "--approve"];
    check(&replace[..5], false, &["+ block domain:worse.example", "- silence", "has to be approved"]);
    check(&replace, true, &["+ block domain:worse.example", "- silence"]);
    check(&["rules", "list", "loud"], true, &["None."]);
    let dir = relay.config.data_dir.clone();
    assert!(relay.server.shutdown(LONG).await);
    let gone = admin(&dir, &["block", "late.example"]);
    assert!(!gone.status.success() && said(&gone).contains("no relay answers at"), "{}", said(&gone));
}

//! What people search with finds what may be found, and nothing else; and what others' libraries make of our signatures:
//! `tests/clients/run`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shearwater::config::Access;
use shearwater::demo::{As, Family, Instance, Options, PostSpec, Tweaks, Visibility};
use shearwater::store::{Act, Scope, Style};

use crate::searching::{eventually, found, gathered, held, member, tell_profile};
use crate::sharing::{Arrived, Habit, Listening};
use crate::support::{TestRelay, json as parse, publish};

/// How an author's profile and a post stand to being found, and whether it may be.
struct Stance {
    what: &'static str,
    profile: Value,
    visibility: Visibility,
    post: Value,
    yes: bool,
}

fn stance(what: &'static str, yes: bool, profile: Value) -> Stance {
    Stance { what, profile, visibility: Visibility::Public, post: json!({}), yes }
}

/// Everybody's profile says yes but for what is named.
fn stances() -> Vec<Stance> {
    let post = |what, post: Value| Stance { post, ..stance(what, false, json!({})) };
    let seen_by = |what, visibility| Stance { visibility, ..stance(what, false, json!({})) };
    vec![
        stance("a plain yes", true, json!({})),
        stance("who is not discoverable can be searched all the same", true, json!({ "discoverable": false })),
        stance("a locked account", true, json!({ "manuallyApprovesFollowers": true })),
        stance("an account that is automated", true, json!({ "type": "Service" })),
        stance(
            "whose searchers are everybody",
            true,
            json!({ "searchableBy": ["https://www.w3.org/ns/activitystreams#Public"] }),
        ),
        stance("a plain no", false, json!({ "indexable": false })),
        stance("nothing said", false, json!({ "indexable": null })),
        stance("a text is no yes", false, json!({ "indexable": "true" })),
        stance("noindex", false, json!({ "noindex": true })),
        stance("#nobot in the bio", false, json!({ "summary": "<p>birds, #nobot</p>" })),
        stance("#nosearch in the name", false, json!({ "name": "Ada #nosearch" })),
        stance("searchable by followers", false, json!({ "searchableBy": ["https://a.example/followers"] })),
        stance("searchable by nobody", false, json!({ "canSearch": [] })),
        stance("suspended", false, json!({ "suspended": true })),
        stance("in memory", false, json!({ "memorial": true })),
        stance("moved", false, json!({ "movedTo": "https://b.example/users/ada" })),
        post("#noindex at the post", json!({ "tag": [{ "type": "Hashtag", "name": "#noindex" }] })),
        post("a post for few searchers", json!({ "searchableBy": [] })),
        post("a post that is not to be indexed", json!({ "indexable": false })),
        seen_by("unlisted", Visibility::Unlisted),
        seen_by("for followers", Visibility::Followers),
        seen_by("direct", Visibility::Direct),
    ]
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().expect("an object") {
        into[key] = value.clone();
    }
}

/// What each of the clients finds.
async fn ask(relay: &TestRelay, token: &str, query: &str) -> Vec<(String, BTreeSet<String>)> {
    let python = std::env::var("CLIENTS").expect("CLIENTS names the Python that has both");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/ask.py");
    let mut command = Command::new(python);
    command.args([script, relay.url(), token, query]);
    let said = tokio::task::spawn_blocking(move || command.output()).await.expect("it ran").expect("it runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let uris = |list: &Value| {
        list.as_array().expect("a list").iter().map(|uri| uri.as_str().expect("an id").to_owned()).collect()
    };
    parse(&said.stdout).as_object().expect("one each").iter().map(|(who, list)| (who.clone(), uris(list))).collect()
}

/// Posts by one author of each stance; the ids of those that may be found.
async fn sample(instance: &Instance, may_any: bool) -> BTreeSet<String> {
    let mut yes = BTreeSet::new();
    for (number, stance) in stances().iter().enumerate() {
        let name = format!("person{number}");
        let mut profile = json!({ "indexable": true });
        merge(&mut profile, &stance.profile);
        instance.set_profile(&name, profile);
        let text = format!("a storm petrel: {}", stance.what);
        let mut composed = instance.compose(&PostSpec::public(&text).by(&name).visible_to(stance.visibility));
        merge(&mut composed.activity["object"], &stance.post);
        composed.activity.as_object_mut().expect("an object").remove("signature");
        // Ten new keys of a server are read in a second: it is asked to come again, as servers do.
        let mut status = 503;
        for _ in 0..50 {
            let author = As::Author(name.clone());
            let sent = instance.send_raw(composed.activity.to_string(), &author, &Tweaks::default()).await;
            status = sent.expect("an answer").status;
            if status != 503 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(status, 202, "{}", stance.what);
        if stance.yes && may_any {
            yes.insert(composed.id);
        }
    }
    yes
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Mastodon.py and toot: tests/clients/run"]
async fn what_people_search_with_finds_what_may_be_found_and_nothing_else() {
    let relay = TestRelay::start_with(|config| (config.search.api, config.search.rate) = (Access::Tokens, 0)).await;
    let token = relay
        .server
        .app()
        .state
        .tokens
        .make("clients", Scope::Search, None, &Act::local("a test"))
        .await
        .expect("a token")
        .token;
    let authors = || (0..stances().len()).map(|n| shearwater::demo::Author::named(&format!("person{n}"))).collect();
    let server = |name: &str| Options { name: name.to_owned(), authors: authors(), ..Options::default() };
    let on = relay.joined_with(Family::Mastodon, server("on")).await;
    crate::searching::switch_on(&relay, &on).await;
    let off = relay.joined_with(Family::Mastodon, server("off")).await;
    let mut expected = sample(&on, true).await;
    sample(&off, false).await;
    // Edited, deleted, boosted.
    let yes = member(&relay, "more").await;
    for (text, then) in
        [("a petrel first", "edit"), ("a petrel that goes", "delete"), ("a petrel in need of a boost", "boost")]
    {
        let post = yes.post(PostSpec::public(text)).await.expect("an answer");
        eventually(&relay, text, || found(&relay, &format!("\"{text}\"")) == [post.id.clone()]).await;
        match then {
            "edit" => {
                assert_eq!(yes.edit(&post.id, "a petrel, second version").await.expect("an answer").status(), 202)
            }
            "delete" => assert_eq!(yes.delete(&post.id).await.expect("an answer").status(), 202),
            _ => drop(yes.boost("ada", &post.id).await.expect("an answer")),
        }
        if then != "delete" {
            expected.insert(post.id);
        }
    }
    let all = stances().len() as u64;
    let looked_at = || gathered(&relay, "server-off") >= all - 3 && found(&relay, "petrel").len() == expected.len();
    eventually(&relay, "all were looked at", looked_at).await;
    println!("posts of {} stances on a server with search on and on one without; {} may be found", all, expected.len());
    for (who, uris) in ask(&relay, &token, "petrel").await {
        println!("{who}: {} found, of which {} may be", uris.len(), uris.intersection(&expected).count());
        assert_eq!(uris, expected, "{who}");
    }

    // Somebody takes it back.
    let theirs = found(&relay, "\"a plain yes\"");
    assert_eq!(theirs.len(), 1);
    on.set_profile("person0", json!({ "indexable": false }));
    let began = Instant::now();
    tell_profile(&on, "person0").await;
    assert!(found(&relay, "petrel").len() == expected.len() - 1, "gone when the change was acknowledged");
    println!("withdrawn: acknowledged, and in no result, after {} ms", began.elapsed().as_millis());
    let posts = expected.len() as u64 - 1;
    let swept = || relay.search().report().is_ok_and(|(report, _)| report.indexed == posts && report.waiting == 0);
    eventually(&relay, "it is out of the index", swept).await;
    println!("out of the index after {} ms", began.elapsed().as_millis());
    eventually(&relay, "its row is erased", || held(&relay).0 == posts).await;
    let (code, _, said) = crate::caring::index(&relay.config.data_dir, &["expunge"]);
    assert_eq!(code, 0, "{said}");
    println!("out of the files after {} ms", began.elapsed().as_millis());
    for (who, uris) in ask(&relay, &token, "petrel").await {
        assert!(!uris.contains(&theirs[0]) && uris.len() == expected.len() - 1, "{who}");
        println!("{who}: {} found", uris.len());
    }
}

/// A request for the verifiers: as it came over the wire.
fn shown(what: &str, server: &Listening, request: &Arrived) -> Value {
    json!({
        "what": what, "method": request.method, "origin": server.origin, "target": request.target, "headers": request.headers,
        "body": STANDARD.encode(&request.body),
    })
}

/// Requests as the relay sends them to listening inboxes, and its key as its actor shows it. Each genuine one is to be
/// accepted, and refused with another body, path, host or date; what a library cannot judge, and why, the script says.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs libraries of PyPI and npm: tests/clients/run"]
async fn what_verifiers_of_others_make_of_our_signatures() {
    let relay = TestRelay::start().await;
    let poster = relay.joined(Family::Mastodon, "poster").await;
    let (own, modern, shared) = (
        Listening::start(Habit::Takes).await,
        Listening::start(Habit::Modern).await,
        Listening::start(Habit::Takes).await,
    );
    for (server, software) in [(&own, "akkoma"), (&modern, "akkoma"), (&shared, "mastodon")] {
        server.join(&relay, software).await;
    }
    let actor = format!("{}/actor", own.origin);
    // It has none: what matters is how we asked.
    relay.relay().follow(&actor, Style::Litepub, &Act::local("a test")).await.expect_err("there is no such actor");
    publish(&poster, "to be verified").await;
    let last = |server: &Listening, method: &str| server.received().into_iter().rfind(|one| one.method == method);
    let is_modern = |one: &Arrived| one.headers.contains_key("signature-input");
    eventually(&relay, "all have it", || {
        last(&own, "POST").is_some()
            && last(&shared, "POST").is_some()
            && last(&modern, "POST").is_some_and(|one| is_modern(&one))
    })
    .await;
    let requests: Vec<_> =
        [("own", &own, "POST"), ("modern", &modern, "POST"), ("shared", &shared, "POST"), ("get", &own, "GET")]
            .map(|(what, server, method)| shown(what, server, &last(server, method).expect("it came")))
            .into();
    let actor = poster.fetch(&format!("{}/actor", relay.url())).await.expect("the actor");
    let asked = json!({ "actor": parse(&actor.body), "requests": requests }).to_string();

    let program = std::env::var("CLIENTS").expect("CLIENTS names the Python that has the libraries");
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
    let mut verifiers = vec![(program, format!("{here}/signatures.py"))];
    match std::env::var("FEDIFY") {
        Ok(folder) => verifiers.push(("node".to_owned(), format!("{folder}/signatures.mjs"))),
        Err(_unset) => println!("SKIPPED: Fedify. There is no Node.js here, or npm cannot be reached."),
    }
    for (program, script) in verifiers {
        let mut child =
            Command::new(program).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("its input").write_all(asked.as_bytes()).expect("it reads");
        let said =
            tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("it ran").expect("it ends");
        println!("{}", String::from_utf8_lossy(&said.stdout));
        assert!(said.status.success(), "a verifier does not say what it should");
    }
}

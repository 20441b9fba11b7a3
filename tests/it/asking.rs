//! How programs search: who may, how often, what they are answered and in which headers; by a real relay that got its
//! posts from simulated servers.

use std::collections::HashMap;

use serde_json::{Value, json};
use shearwater::config::Access;
use shearwater::demo::{As, Author, Family, Instance, Options, PostSpec};
use shearwater::ids::Iri;
use shearwater::store::{Act, IndexedPost, Scope, Tx};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::searching::{found, member, searching};
use crate::serving::{Running, shearwater};
use crate::support::{TestRelay, authority, eventually, publish};

/// An answer, with its headers by lower-case name.
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|fault| panic!("{fault}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Asks without a signature, with these header lines.
pub(crate) async fn ask(addr: std::net::SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    ask_with(addr, method, path, headers, "").await
}

/// The same with a body.
pub(crate) async fn ask_with(
    addr: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{length}{headers}\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status: status.expect("a status"), headers, body: body.to_owned() }
}

pub(crate) async fn get(relay: &TestRelay, path: &str) -> Answer {
    ask(relay.server.http_addr().expect("an address"), "GET", path, "").await
}

/// What a `Link` header says of one direction, as a path on this relay.
pub(crate) fn link(relay: &TestRelay, answer: &Answer, rel: &str) -> Option<String> {
    let part = answer.header("link").split(", ").find(|part| part.ends_with(&format!("rel=\"{rel}\"")))?.to_owned();
    let url = part.split_once('>')?.0.trim_start_matches('<').to_owned();
    Some(url.strip_prefix(relay.url()).unwrap_or_else(|| panic!("{url} leads elsewhere")).to_owned())
}

fn ids(answer: &Answer) -> Vec<String> {
    let hits = answer.json()["hits"].as_array().expect("hits").clone();
    hits.iter().map(|hit| hit["uri"].as_str().expect("an id").to_owned()).collect()
}

fn texts(list: &Value, name: &str) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|one| one[name].as_str().expect("a text").to_owned()).collect()
}

/// A server of several people who all want to be found.
async fn crowd(relay: &TestRelay, name: &str, people: usize) -> Instance {
    let authors = (0..people).map(|number| Author::named(&format!("person{number}")));
    let options = Options { name: name.to_owned(), authors: authors.collect(), ..Options::default() };
    let instance = relay.joined_with(Family::Mastodon, options).await;
    crate::searching::switch_on(relay, &instance).await;
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn only_servers_that_joined_search_where_it_is_for_subscribers() {
    let relay =
        TestRelay::start_with(|config| (config.search.api, config.search.rate) = (Access::Subscribers, 0)).await;
    let (yes, akkoma) = (member(&relay, "yes").await, relay.joined(Family::Akkoma, "akkoma").await);
    let stranger = Instance::start(Family::Mastodon, Options::default()).await.expect("an instance");
    let post = publish(&yes, "a kittiwake").await;
    eventually("it is found", || found(&relay, "kittiwake") == [post.id.clone()]).await;
    let url = format!("{}/api/v1/search?q=kittiwake", relay.url());
    for instance in [&yes, &akkoma] {
        let answer = instance.fetch(&url).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}: {}", instance.name(), answer.text());
        assert_eq!(crate::support::json(&answer.body)["hits"][0]["uri"], post.id.as_str());
    }
    let by_a_person = yes.fetch_as(&url, &As::Author("ada".to_owned())).await.expect("an answer");
    assert_eq!(by_a_person.status, 403, "{}", by_a_person.text());
    assert!(by_a_person.text().contains("does not stand for"), "{}", by_a_person.text());
    let refused = stranger.fetch(&url).await.expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("has not joined") && refused.text().contains("joins with it first"));
    assert!(stranger.fetches().is_empty(), "nothing was read from it: {:?}", stranger.fetches());
    let unsigned = get(&relay, "/api/v1/search?q=kittiwake").await;
    assert_eq!((unsigned.status, unsigned.header("www-authenticate")), (401, "Signature"), "{}", unsigned.body);
    assert!(unsigned.json()["remedy"].as_str().is_some_and(|remedy| remedy.contains("Sign the GET")));
    for path in ["/api/v2/search?q=kittiwake", "/api/v1/statuses/1"] {
        assert_eq!(get(&relay, path).await.status, 401, "{path}");
    }
    let standing = get(&relay, &format!("/api/v1/search/consent?acct=ada@{}", authority(&yes))).await;
    assert_eq!(standing.json()["posts"], 1, "how oneself stands anybody may ask: {}", standing.body);
    let server = authority(&yes);
    relay.store().write(move |tx| tx.remove_subscriber(&server)).await.expect("written");
    assert_eq!(yes.fetch(&url).await.expect("an answer").status, 403, "who left searches no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_the_search_until_it_is_revoked_and_is_shown_once() {
    let dir = tempfile::tempdir().expect("a folder");
    crate::support::place_keys(&dir.path().join("data"));
    let relay = Running::start(dir.path(), |command| {
        command.env("SHEARWATER_SEARCH__API", "tokens").env("SHEARWATER_SEARCH__RATE", "0");
    });
    let addr = relay.url().trim_start_matches("http://").parse().expect("an address");
    let path = "/api/v1/search?q=guillemot";
    let run = |args: &[&str]| {
        let output = shearwater(dir.path()).args(args).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let unknown = ask(addr, "GET", path, "").await;
    assert_eq!((unknown.status, unknown.header("www-authenticate")), (401, "Bearer"), "{}", unknown.body);
    assert!(unknown.json()["remedy"].as_str().is_some_and(|remedy| remedy.contains("Authorization: Bearer")));
    let (made, text) = run(&["admin", "token", "create", "--name", "ada's phone", "--expires", "90d", "--json"]);
    assert!(made, "{text}");
    let made: Value = serde_json::from_str(&text).expect("JSON");
    let token = made["token"].as_str().expect("a token").to_owned();
    let with = |token: &str| format!("Authorization: Bearer {token}\r\n");
    // The index is made a moment after the start: until then it is a 503, for who may come in.
    let mut status = 0;
    for _ in 0..300 {
        status = ask(addr, "GET", path, &with(&token)).await.status;
        if status == 200 {
            break;
        }
        assert_eq!(status, 503);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(status, 200);
    let lower = ask(addr, "GET", path, &format!("authorization: bearer {token}\r\n")).await;
    assert_eq!(lower.status, 200, "{}", lower.body);
    let wrong = ask(addr, "GET", path, &with(&token.replace("shearwater_", "shearwater_0"))).await;
    assert_eq!((wrong.status, wrong.header("www-authenticate")), (401, "Bearer error=\"invalid_token\""));
    assert_eq!(ask(addr, "GET", path, &format!("Authorization: Basic {token}\r\n")).await.status, 401);
    let (listed, table) = run(&["admin", "token", "list"]);
    assert!(listed && table.contains("ada's phone") && !table.contains(&token), "{table}");
    let (_, rows) = run(&["admin", "token", "list", "--json"]);
    let row = &serde_json::from_str::<Value>(&rows).expect("JSON")[0];
    assert_eq!(row["last_used"].as_str().map(str::len), Some("2026-08-23".len()), "the day and no more: {row}");
    assert!(!run(&["admin", "token", "create", "--name", "ada's phone"]).0, "each name once");
    assert!(run(&["admin", "token", "revoke", "ada's phone"]).0);
    assert_eq!(ask(addr, "GET", path, &with(&token)).await.status, 401);
    assert!(!run(&["admin", "token", "revoke", "ada's phone"]).0, "there is none any more");
    let (_, exported) = run(&["admin", "export"]);
    assert!(!exported.contains("api_tokens"), "tokens do not travel");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_found_if_they_are_discoverable_and_posts_of_theirs_are_held() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    yes.set_profile(
        "ada",
        json!({ "name": "Ada Storm", "summary": "<p>Counts murres</p>",
                                   "tag": [{ "type": "Hashtag", "name": "#SeaWatch" }] }),
    );
    yes.set_profile("grace", json!({ "name": "Grace Storm", "discoverable": false }));
    let posts = [
        yes.post(PostSpec::public("a murre").by("ada")).await.expect("an answer").id,
        yes.post(PostSpec::public("a murre too").by("grace")).await.expect("an answer").id,
    ];
    eventually("both are found", || found(&relay, "murre").len() == posts.len()).await;
    let host = authority(&yes);
    let people = async |q: &str| {
        let answer = get(&relay, &format!("/api/v1/search?kind=accounts&q={q}")).await;
        texts(&answer.json()["accounts"], "handle")
    };
    let ada = [format!("ada@{host}")];
    for q in ["storm", "ada", "ada%20storm", "%40ada", "murres", "%23SeaWatch", &ada[0], &format!("%40ada@{host}")] {
        assert_eq!(people(q).await, ada, "{q}");
    }
    for q in ["grace", "nobody", &format!("grace@{host}"), &format!("nobody@{host}"), "127.0.0.1"] {
        assert!(people(q).await.is_empty(), "{q}");
    }
    let shown = &get(&relay, "/api/v1/search?kind=accounts&q=storm").await.json()["accounts"][0];
    assert_eq!((&shown["name"], &shown["why"]["signal"]), (&json!("Ada Storm"), &json!("discoverable")), "{shown}");
    assert_eq!(get(&relay, "/api/v1/search?kind=accounts&q=a").await.status, 400, "one letter is everybody");
    let mastodon = get(&relay, "/api/v2/search?type=accounts&q=storm").await.json();
    assert_eq!(texts(&mastodon["accounts"], "acct"), ada, "{mastodon}");
    assert_eq!(mastodon["statuses"], json!([]));
    let all = get(&relay, &format!("/api/v2/search?q=%40ada@{host}")).await;
    assert_eq!(texts(&all.json()["accounts"], "acct"), ada, "a handle without a type: {}", all.body);
    yes.set_profile("ada", json!({ "discoverable": false }));
    let update = yes.compose_profile("ada").expect("an author");
    yes.send_raw(update.activity.to_string(), &update.signer, &shearwater::demo::Tweaks::default())
        .await
        .expect("an answer");
    let actor = Iri::parse(&yes.actor(&As::Author("ada".to_owned()))).expect("an id");
    eventually("the new word was read", || {
        let author = relay.store().ledger().and_then(|ledger| ledger.author(&actor)).expect("the store reads");
        author.is_some_and(|author| !author.signals.discoverable.is_yes())
    })
    .await;
    assert!(people("storm").await.is_empty(), "at once, though the list is older");
    let server = authority(&yes);
    relay.store().write(move |tx| tx.switch_search(&server, None)).await.expect("written");
    assert!(people(&ada[0]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hashtags_are_found_by_their_beginning_and_counted_only_where_enough_people_use_them() {
    let relay = searching().await;
    let yes = crowd(&relay, "crowd", 5).await;
    for person in 0..5 {
        let mut spec = PostSpec::public("a small one").by(&format!("person{person}"));
        spec.tags =
            if person == 0 { vec!["puffling".to_owned(), "puff".to_owned()] } else { vec!["puffling".to_owned()] };
        yes.post(spec).await.expect("an answer");
    }
    eventually("all are found", || found(&relay, "#puffling").len() == 5).await;
    let tags = async |q: &str| {
        let answer = get(&relay, &format!("/api/v2/search?type=hashtags&q={q}")).await;
        answer.json()["hashtags"].clone()
    };
    let both = tags("puff").await;
    assert_eq!(texts(&both, "name"), ["puff", "puffling"], "the exact one first: {both}");
    assert_eq!(texts(&tags("%23Puffl").await, "name"), ["puffling"]);
    let day = |tag: &Value| (tag["history"][0]["accounts"].clone(), tag["history"][0]["uses"].clone());
    assert_eq!(day(&both[0]), (json!("0"), json!("0")), "one person is not counted");
    assert_eq!(day(&both[1]), (json!("5"), json!("5")), "{both}");
    assert_eq!(both[1]["history"].as_array().map(Vec::len), Some(7));
    let ours = get(&relay, "/api/v1/search?kind=hashtags&q=puffling").await.json();
    assert_eq!((&ours["hashtags"][0]["days"][0]["authors"], &ours["hits"]), (&json!(5), &json!([])), "{ours}");
    assert_eq!(get(&relay, "/api/v1/search?kind=hashtags&q=p").await.status, 400);
    assert_eq!(tags("nothing").await, json!([]));
    let facets = get(&relay, "/api/v1/search?q=%23puffling&facets=1&limit=1").await.json();
    assert_eq!((&facets["facets"]["of"], &facets["facets"]["more"]), (&json!(5), &json!(false)), "{facets}");
    assert_eq!(texts(&facets["facets"]["tag"], "value"), ["puffling"], "{facets}");
    assert_eq!(facets["facets"]["domain"][0], json!({ "value": authority(&yes), "posts": 5 }), "{facets}");
    assert!(get(&relay, "/api/v1/search?q=%23puffling").await.json().get("facets").is_none(), "only on request");
    let server = authority(&yes);
    relay.store().write(move |tx| tx.switch_search(&server, None)).await.expect("written");
    assert_eq!(tags("puff").await, json!([]), "no tag is left of who may not be shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_turned_forth_and_back_by_links_and_none_is_short() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    for number in 0..5 {
        publish(&yes, &format!("a dunlin, number {number}")).await;
    }
    eventually("all are found", || found(&relay, "dunlin").len() == 5).await;
    // Of posts of one second no order is promised, but that it is always the same.
    let posts = found(&relay, "dunlin");
    let mut path = "/api/v1/search?q=dunlin&limit=2".to_owned();
    let mut pages = Vec::new();
    let last = loop {
        let answer = get(&relay, &path).await;
        pages.push(ids(&answer));
        match link(&relay, &answer, "next") {
            Some(next) => path = next,
            None => break answer,
        }
    };
    assert_eq!(pages, [&posts[..2], &posts[2..4], &posts[4..]]);
    assert_eq!(last.json()["next"], Value::Null);
    let back = get(&relay, &link(&relay, &last, "prev").expect("a page before")).await;
    assert_eq!(ids(&back), posts[2..4], "the page right before, and not the newest of all");
    let first = get(&relay, &link(&relay, &back, "prev").expect("a page before")).await;
    assert_eq!(ids(&first), posts[..2]);
    let by_fit = get(&relay, "/api/v1/search?q=dunlin%20sort:relevance&limit=2").await;
    assert_eq!((&by_fit.json()["next"], &by_fit.json()["next_skip"]), (&Value::Null, &json!(2)));
    let after = get(&relay, &link(&relay, &by_fit, "next").expect("more")).await;
    assert!(ids(&after).len() == 2 && ids(&after)[0] != ids(&by_fit)[0]);
    let mastodon = get(&relay, "/api/v2/search?q=dunlin&type=statuses&limit=2&offset=2").await;
    assert_eq!(texts(&mastodon.json()["statuses"], "uri"), posts[2..4]);
    let next = get(&relay, &link(&relay, &mastodon, "next").expect("more")).await;
    assert_eq!(texts(&next.json()["statuses"], "uri"), posts[4..]);
    assert!(link(&relay, &next, "next").is_none());
    let before = get(&relay, &link(&relay, &mastodon, "prev").expect("a page before")).await;
    assert_eq!(texts(&before.json()["statuses"], "uri"), posts[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_marked_and_says_by_whose_word_it_is_shown() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    publish(&yes, "Über der Bucht: a Whimbrel, whimbrels").await;
    eventually("it is found", || found(&relay, "whimbrel").len() == 1).await;
    let hit = &get(&relay, "/api/v1/search?q=bucht%20whimbrel").await.json()["hits"][0];
    assert_eq!((&hit["text_from"], &hit["text_is_cut"]), (&json!(0), &json!(false)), "{hit}");
    let text: Vec<char> = hit["text"].as_str().expect("a text").chars().collect();
    let marked = hit["highlights"].as_array().expect("marks").iter().map(|mark| {
        let place = |index: usize| usize::try_from(mark[index].as_u64().expect("a place")).expect("small");
        text[place(0)..place(1)].iter().collect::<String>()
    });
    assert_eq!(marked.collect::<Vec<_>>(), ["Bucht", "Whimbrel"]);
    assert_eq!(hit["why"]["signal"], "indexable");
    assert_eq!(hit["why"]["server"]["by"], "operator", "{hit}");
    assert!(hit["why"]["read_at"].is_string() && hit["why"]["server"]["since"].is_string(), "{hit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_private_and_say_how_much_is_left() {
    let relay = TestRelay::start_with(|config| (config.search.api, config.search.rate) = (Access::Public, 30)).await;
    let addr = relay.server.http_addr().expect("an address");
    let consent = "/api/v1/search/consent?acct=ada@one.example";
    for (number, path) in ["/api/v2/instance", consent, "/api/v1/search?q=("].into_iter().enumerate() {
        let answer = get(&relay, path).await;
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-robots-tag", "noindex, noarchive, nosnippet"),
            ("access-control-allow-origin", "*"),
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", &(9 - number).to_string()),
        ] {
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
        assert!(answer.header("x-ratelimit-reset").ends_with('Z'), "{:?}", answer.headers);
        assert!(answer.header("access-control-expose-headers").contains("X-RateLimit-Remaining"));
    }
    let preflight = ask(addr, "OPTIONS", "/api/v2/search?q=x", "Origin: https://elsewhere.example\r\n").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "*"));
    assert_eq!(preflight.header("access-control-allow-headers"), "Authorization");
    let posted = ask(addr, "POST", "/api/v1/search", "Content-Length: 0\r\n").await;
    assert_eq!(posted.status, 405);
    for _ in 3..10 {
        assert_eq!(get(&relay, consent).await.status, 200, "preflights count for nothing");
    }
    let over = get(&relay, consent).await;
    assert_eq!((over.status, over.header("x-ratelimit-remaining")), (429, "0"), "{}", over.body);
    let wait: u64 = over.header("retry-after").parse().expect("seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    assert!(over.json()["remedy"].is_string());
    let robots = get(&relay, "/robots.txt").await.body;
    assert!(robots.contains("Disallow: /api/"), "{robots}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_tokens_is_slow() {
    let relay = TestRelay::start_with(|config| (config.search.api, config.search.rate) = (Access::Tokens, 1)).await;
    let addr = relay.server.http_addr().expect("an address");
    let mut statuses = Vec::new();
    for number in 0..12 {
        let guess = format!("Authorization: Bearer shearwater_{number:016x}_{number:064x}\r\n");
        statuses.push(ask(addr, "GET", "/api/v1/search?q=guillemot", &guess).await.status);
    }
    assert!(statuses[..10].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(statuses[10..], [429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_know_by_the_instance_that_they_can_use_the_second_search() {
    let relay = searching().await;
    for path in ["/api/v1/instance", "/api/v1/instance/", "/api/v2/instance", "/api/v2/instance/"] {
        let answer = get(&relay, path).await;
        let version = answer.json()["version"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status == 200 && version.starts_with("4."), "{path}: {}", answer.body);
        assert!(version.contains("compatible; Shearwater"), "{version}");
    }
    let described = get(&relay, "/api/v1/openapi.json").await.json();
    assert!(described["paths"]["/api/v1/search"]["get"]["responses"]["429"].is_object());
    let off = TestRelay::start().await;
    for path in
        ["/api/v1/instance", "/api/v2/instance", "/api/v1/openapi.json", "/api/v1/search/consent?acct=a@b.example"]
    {
        assert_eq!(get(&off, path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_page_says_for_whom_there_is_search() {
    for (api, expected) in [
        (Access::Off, None),
        (Access::Subscribers, Some("by servers that joined")),
        (Access::Tokens, Some("by who has a token")),
        (Access::Public, Some("by anybody")),
    ] {
        let relay = TestRelay::start_with(|config| config.search.api = api).await;
        let page = get(&relay, "/").await.body;
        match expected {
            None => assert!(!page.contains("can be searched"), "{page}"),
            Some(words) => assert!(page.contains(words), "{page}"),
        }
        // With a search, posts are shown to whoever searches.
        assert_eq!(page.contains("; nothing is shown here"), expected.is_none(), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_end_at_a_depth_however_they_are_paged_through() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    publish(&yes, "a dotterel").await;
    eventually("it is found", || found(&relay, "dotterel").len() == 1).await;
    for path in [
        "/api/v1/search?q=dotterel%20sort:relevance&skip=400",
        "/api/v1/search?q=dotterel&skip=401",
        "/api/v1/search?q=dotterel&limit=41",
        "/api/v1/search?q=domain:example.org",
        "/api/v1/search?q=has:media&facets=1",
        "/api/v1/search?kind=hashtags&q=%23",
        "/api/v1/search?kind=accounts&q=%40",
        "/api/v1/search?kind=everything&q=dotterel",
        "/api/v2/search?q=domain:example.org&type=statuses",
        "/api/v2/search?q=dotterel&type=everything",
        "/api/v2/search?q=",
    ] {
        let answer = get(&relay, path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert!(answer.json()["error"].is_string(), "{path}: {}", answer.body);
    }
    let beyond = get(&relay, "/api/v2/search?q=dotterel&type=statuses&offset=400").await;
    assert_eq!((beyond.status, &beyond.json()["statuses"]), (200, &json!([])));
    let everything = get(&relay, "/api/v2/search?q=domain:example.org").await.json();
    assert_eq!(everything, json!({ "accounts": [], "statuses": [], "hashtags": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_hundredth_result_is_the_last_whatever_id_somebody_begins_at() {
    let relay = searching().await;
    many_dotterels(&relay).await;
    let mut path = Some("/api/v1/search?q=dotterel&limit=40".to_owned());
    let mut all = Vec::new();
    let mut last = String::new();
    while let Some(next) = path {
        let answer = get(&relay, &next).await;
        assert_eq!(answer.status, 200, "{next}: {}", answer.body);
        all.extend(ids(&answer));
        last = answer.json()["hits"].as_array().and_then(|hits| hits.last()).expect("hits")["id"].to_string();
        path = link(&relay, &answer, "next");
    }
    assert_eq!(all.len(), 400);
    let beyond = format!("/api/v1/search?q=dotterel&below={}", last.trim_matches('"'));
    let beyond = get(&relay, &beyond).await;
    assert!(beyond.status == 400 && beyond.body.contains("400 results"), "{}: {}", beyond.status, beyond.body);
    let mastodon = format!("/api/v2/search?q=dotterel&type=statuses&max_id={}", last.trim_matches('"'));
    assert_eq!(get(&relay, &mastodon).await.json()["statuses"], json!([]));
}

/// However one asks: dates begin the four hundred anew, ids can be guessed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_to_one_asker_in_a_day_is_bounded() {
    let often = |config: &mut shearwater::config::Config| {
        (config.search.api, config.search.rate) = (Access::Public, 60_000);
    };
    let relay = TestRelay::start_with(often).await;
    many_dotterels(&relay).await;
    let addr = relay.server.http_addr().expect("an address");
    for _ in 0..99 {
        let page = get(&relay, "/api/v1/search?q=dotterel&limit=40").await;
        assert_eq!((page.status, ids(&page).len()), (200, 40));
    }
    let mastodon = get(&relay, "/api/v2/search?q=dotterel&type=statuses&limit=35").await;
    assert_eq!(mastodon.json()["statuses"].as_array().map(Vec::len), Some(35));
    for id in 1..=4 {
        assert_eq!(get(&relay, &format!("/api/v1/statuses/{id}")).await.status, 404, "a guess costs as much as a find");
    }
    let over = get(&relay, "/api/v1/search?q=dotterel&limit=2").await;
    assert_eq!(over.status, 429, "{}", over.body);
    let wait: u64 = over.header("retry-after").parse().expect("seconds");
    assert!((80_000..=86_400).contains(&wait) && over.body.contains("in a day"), "{wait} {}", over.body);
    assert_eq!(get(&relay, "/api/v1/search?q=dotterel&limit=1").await.status, 200, "one is left");
    for path in [
        "/api/v1/search?q=dotterel&limit=1",
        "/api/v1/statuses/5",
        "/api/v2/search?q=dotterel&limit=1",
        "/api/v1/search?q=ada&kind=accounts",
        "/api/v2/search?q=ada&type=accounts",
    ] {
        assert_eq!(get(&relay, path).await.status, 429, "{path}");
    }
    assert_eq!(get(&relay, "/api/v1/search?q=nothing").await.status, 200, "what finds nothing shows nothing");
    let other = ask(addr, "GET", "/api/v1/search?q=dotterel", "X-Forwarded-For: 192.0.2.9\r\n").await;
    assert_eq!((other.status, ids(&other).len()), (200, 20));
}

/// Texts that are none: a lone surrogate, a byte that is in no UTF-8; and a NUL, which is a character like others.
/// What a stranger writes into the header of a proxy is no address of its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_trusted_proxy_says_nothing_about_whom_it_speaks_for() {
    let relay = TestRelay::start_with(|config| {
        (config.search.api, config.search.rate) = (Access::Public, 1);
        config.http.trusted_proxies = Vec::new();
    })
    .await;
    let addr = relay.server.http_addr().expect("an address");
    let mut statuses = Vec::new();
    for number in 0..12 {
        let behind = format!("X-Forwarded-For: 192.0.2.{number}\r\n");
        let path = "/api/v1/search/consent?acct=ada@one.example";
        statuses.push(ask(addr, "GET", path, &behind).await.status);
    }
    assert_eq!((&statuses[..10], &statuses[10..]), (&[200; 10][..], &[429; 2][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_a_query_or_a_refusal() {
    let relay = searching().await;
    let yes = member(&relay, "yes").await;
    publish(&yes, "a sanderling").await;
    eventually("it is found", || found(&relay, "sanderling").len() == 1).await;
    for q in ["%ED%A0%80", "%FF", "%00", "sanderling%00", "sanderling%FF", "%ED%A0%80%ED%B0%80", "%", "%zz", "%C0%80"] {
        for path in [
            "/api/v1/search?q=",
            "/api/v1/search?kind=accounts&q=",
            "/api/v1/search?kind=hashtags&q=",
            "/api/v2/search?q=",
        ] {
            let answer = get(&relay, &format!("{path}{q}")).await;
            assert!([200, 400].contains(&answer.status), "{path}{q}: {} {}", answer.status, answer.body);
            assert!(answer.status == 200 || answer.json()["error"].is_string(), "{path}{q}: {}", answer.body);
        }
        let consent = get(&relay, &format!("/api/v1/search/consent?acct={q}@a.example")).await;
        assert!([200, 400].contains(&consent.status), "{q}: {} {}", consent.status, consent.body);
    }
    assert_eq!(ids(&get(&relay, "/api/v1/search?q=sanderling%00").await).len(), 1, "a NUL is no part of a word");
}

/// More posts than are shown for a query.
async fn many_dotterels(relay: &TestRelay) {
    let yes = member(relay, "yes").await;
    publish(&yes, "a dotterel").await;
    eventually("it is found", || found(relay, "dotterel").len() == 1).await;
    let (_, first) =
        relay.store().ledger().and_then(|ledger| ledger.posts(0, 1)).expect("the store reads").rows.remove(0);
    let fill = move |tx: &mut Tx<'_>| {
        for number in 0..420 {
            let object = Iri::parse(&format!("{}/{number}", first.object)).expect("an id");
            tx.put_indexed_post(&IndexedPost { object, ..first.clone() })?;
        }
        Ok(())
    };
    relay.store().write(fill).await.expect("written");
    eventually("there are as many as are shown", || deep(relay)).await;
}

/// Whether the deepest page that is shown is full.
fn deep(relay: &TestRelay) -> bool {
    let page = shearwater::search::index::Page { limit: 400, ..shearwater::search::index::Page::default() };
    relay.search().find("dotterel", page, 0, false).is_ok_and(|results| results.hits.len() == 400)
}

/// `SCHEMATHESIS=/path/to/schemathesis cargo test --test it -- --ignored every_answer --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis, which CONTRIBUTING.md says how to install"]
async fn every_answer_is_one_that_the_description_names() {
    let program = std::env::var("SCHEMATHESIS").expect("SCHEMATHESIS names the program");
    for api in [Access::Public, Access::Tokens] {
        let relay = TestRelay::start_with(|config| (config.search.api, config.search.rate) = (api, 0)).await;
        let yes = crowd(&relay, "crowd", 6).await;
        for number in 0..60 {
            let mut spec = PostSpec::public("a petrel over the bay").by(&format!("person{}", number % 6));
            spec.tags = vec!["petrel".to_owned()];
            spec.picture = number % 5 == 0;
            yes.post(spec).await.expect("an answer");
        }
        eventually("all are found", || found(&relay, "petrel").len() == 60).await;
        let made = relay
            .server
            .app()
            .state
            .tokens
            .make("schemathesis", Scope::Search, None, &Act::local("a test"))
            .await
            .expect("a token");
        let url = format!("{}/api/v1/openapi.json", relay.url());
        let mut command = std::process::Command::new(&program);
        command.args(["run", &url, "--max-examples", "200", "--no-color", "--continue-on-failure"]);
        command.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance,ignored_auth"]);
        if api == Access::Tokens {
            command.args(["--header", &format!("Authorization: Bearer {}", made.token)]);
        }
        let done = tokio::task::spawn_blocking(move || command.status()).await.expect("it ran");
        assert!(done.expect("it runs").success(), "{api:?}: what it found stands above");
    }
}

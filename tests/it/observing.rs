//! What the operator sees: the numbers, what reads them (dashboard, alerts), and what is wrong in words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use serde_json::Value;
use shearwater::config::Access;
use shearwater::demo::{Family, Instance};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{LIKE, TestRelay, arrival, eventually, publish};

/// Names of metrics, each with its labels, and of each label the values that are there.
type Numbers = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["job", "instance"];

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted_under_the_words_of_the_house() {
    let (relay, sender, reader) = busy().await;
    let (host, text) = (reader.origin().trim_start_matches("http://").to_owned(), metrics(&relay).await);
    assert!(!text.contains(&host) && !text.contains(sender.name()), "the numbers name a server: {text}");
    for (line, least) in [
        ("shearwater_inbound_total{reason=\"relayed\",result=\"accepted\"}", 1.0),
        ("shearwater_inbound_total{reason=\"unsigned\",result=\"refused\"}", 1.0),
        ("shearwater_inbound_seconds_count", 3.0),
        ("shearwater_signature_seconds_count{work=\"verify\"}", 3.0),
        ("shearwater_signature_seconds_count{work=\"sign\"}", 3.0),
        ("shearwater_deliveries_total{result=\"delivered\"}", 1.0),
        ("shearwater_delivery_lag_seconds_count", 1.0),
        ("shearwater_requests_sent_total{method=\"post\",result=\"2xx\"}", 3.0),
        ("shearwater_request_seconds_count{method=\"get\"}", 2.0),
        ("shearwater_fetches_total{kind=\"key\",result=\"ok\"}", 2.0),
        ("shearwater_fetches_total{kind=\"json\",result=\"ok\"}", 2.0),
        ("shearwater_consent_refusals_total{reason=\"server-off\",use=\"search\"}", 1.0),
        ("shearwater_lanes{state=\"healthy\"}", 2.0),
        ("shearwater_subscribers{state=\"active\"}", 2.0),
        ("shearwater_log_entries", 1.0),
        ("shearwater_log_appended_bytes_total", 500.0),
        ("shearwater_store_bytes", 4096.0),
        ("shearwater_store_free_bytes", 1.0),
        ("shearwater_worker_units_total{worker=\"housekeeping\"}", 1.0),
        ("shearwater_ready", 1.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 10.0),
        ("process_max_fds", 256.0),
        ("process_threads", 2.0),
        ("process_start_time_seconds", 1.7e9),
    ] {
        assert!(number(&text, line) >= least, "{line} is less than {least}\n{text}");
    }
    for (line, expected) in [
        ("shearwater_delivery_backlog{state=\"healthy\"}", 0.0),
        ("shearwater_delivery_oldest_seconds{state=\"healthy\"}", 0.0),
        ("shearwater_reader_lag_seconds{reader=\"resolver\"}", 0.0),
        ("shearwater_worker_restarts_total{worker=\"housekeeping\"}", 0.0),
        ("shearwater_troubles{reason=\"disk-full\"}", 0.0),
    ] {
        assert_eq!(number(&text, line), expected, "{line}\n{text}");
    }
    let states = text.lines().filter(|line| line.starts_with("shearwater_worker_state{") && line.ends_with(" 1"));
    assert_eq!(states.count(), relay.server.app().supervisor().status().len(), "each worker is in one state");
}

/// A panel or an alert whose number has another name looks as if nothing were wrong.
#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_every_alert_reads_numbers_that_are_there() {
    let (relay, ..) = busy().await;
    let there = parse(&metrics(&relay).await);
    let (dashboard, alerts) = (panels(), expressions_of_alerts());
    let mut wrong = Vec::new();
    for (title, expression) in dashboard.iter().chain(&alerts) {
        wrong.extend(faults(expression, &there).into_iter().map(|fault| format!("{title}: {fault}")));
    }
    assert!(dashboard.len() > 60 && alerts.len() >= 20, "{} expressions, {} alerts", dashboard.len(), alerts.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

    let shown: BTreeSet<String> =
        dashboard.iter().flat_map(|(_, one)| used(one)).map(|one| family(&one.name)).collect();
    let unseen: Vec<_> = there.keys().filter(|name| !shown.contains(*name)).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
}

#[test]
fn an_expression_that_reads_what_is_not_there_is_seen() {
    let there = parse(
        "# TYPE shearwater_a_total counter\nshearwater_a_total{result=\"x\"} 1\n\
        # TYPE shearwater_b histogram\nshearwater_b_bucket{le=\"1\"} 1\nshearwater_b_sum 1\nshearwater_b_count 1\n",
    );
    let check = |expression: &str, expected: usize| {
        let found = faults(expression, &there);
        assert_eq!(found.len(), expected, "{expression}: {found:?}");
    };
    check("sum by (instance, result) (rate(shearwater_a_total{job=\"s\", result=~\"x\"}[5m]))", 0);
    check("rate(shearwater_gone_total[5m])", 1);
    check("sum by (result) (rate(shearwater_gone_total[5m]))", 2);
    check("shearwater_a_total{outcome=\"x\"}", 1);
    check("shearwater_a_total{result!=\"y\"}", 1);
    check("sum by (outcome) (shearwater_a_total)", 1);
    check("histogram_quantile(0.9, sum by (le) (rate(shearwater_b_bucket[5m])))", 0);
    check("rate(shearwater_b_total[5m])", 1);
}

#[test]
fn every_alert_is_tried_and_says_what_to_do() {
    let (alerts, tests) = (deploy("alerts.yaml"), deploy("alerts.test.yaml"));
    let mut names = 0;
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        assert_eq!(tests.matches(&format!("alertname: {name}")).count(), 2, "{name} is tried when silent and when not");
        assert!(deploy("../docs/OPERATING.md").contains(&format!("`{name}`")), "docs/OPERATING.md explains {name}");
        names += 1;
    }
    assert!(names >= 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_is_wrong_in_words_and_what_to_do() {
    let relay = TestRelay::start().await;
    let (status, live) = ops(&relay, "/health/live").await;
    assert_eq!((status, &live["live"], &live["version"]), (200, &true.into(), &env!("CARGO_PKG_VERSION").into()));
    eventually("the workers are there", || relay.server.app().supervisor().status().len() > 5).await;
    let (status, ready) = ops(&relay, "/health/ready").await;
    assert_eq!(
        (status, &ready["ready"], &ready["troubles"]),
        (200, &true.into(), &Value::Array(Vec::new())),
        "{ready}"
    );
    assert!(ready["workers"]["dispatcher"]["state"].is_string(), "{ready}");

    // Half of what is free: enough, and little.
    let free = relay.store().free_bytes();
    let relay = relay.restart_with(move |config| config.store.reserve = bytesize::ByteSize::b(free / 4 * 3)).await;
    let (status, ready) = ops(&relay, "/health/ready").await;
    assert_eq!((status, &ready["ready"], words(&ready)), (200, &true.into(), vec![("disk-low", false)]), "{ready}");

    let relay = relay.restart_with(move |config| config.store.reserve = bytesize::ByteSize::b(free * 2)).await;
    let (status, ready) = ops(&relay, "/health/ready").await;
    assert_eq!((status, &ready["ready"], words(&ready)), (503, &false.into(), vec![("disk-full", true)]), "{ready}");
    let trouble = &ready["troubles"][0];
    assert!(trouble["detail"].as_str().is_some_and(|said| said.contains("store.reserve")), "{trouble}");
    assert!(trouble["remedy"].as_str().is_some_and(|said| said.contains("Make room")), "{trouble}");
    assert_eq!(ops(&relay, "/health/live").await.0, 200, "nobody starts it anew for that");
    let text = metrics(&relay).await;
    assert_eq!(
        (number(&text, "shearwater_ready"), number(&text, "shearwater_troubles{reason=\"disk-full\"}")),
        (0.0, 1.0)
    );
}

/// With Prometheus' own tool, of the Debian package `prometheus`: `PROMTOOL=promtool cargo test --test it -- --ignored
/// promtool`. It lints the numbers of a relay, tries the alerts, and parses the expression of every panel.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs promtool: PROMTOOL says where it is"]
async fn promtool_finds_nothing_to_mend() {
    let promtool = std::env::var("PROMTOOL").expect("PROMTOOL says where promtool is");
    let (relay, ..) = busy().await;
    let dir = tempfile::tempdir().expect("a folder");
    let (numbers, rules) = (dir.path().join("metrics.txt"), dir.path().join("panels.yaml"));
    std::fs::write(&numbers, metrics(&relay).await).expect("written");
    let run = |arguments: &[&str], stdin: Option<&Path>| {
        let mut command = Command::new(&promtool);
        command.args(arguments).current_dir(folder());
        if let Some(path) = stdin {
            command.stdin(std::fs::File::open(path).expect("a file"));
        }
        let output = command.output().expect("promtool runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(run(&["check", "metrics"], Some(&numbers)), (true, String::new()));
    for arguments in [
        ["check", "rules", "alerts.yaml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts.test.yaml"],
    ] {
        let (well, said) = run(&arguments, None);
        assert!(well, "{said}");
    }
    let mut text = "groups:\n- name: panels\n  rules:\n".to_owned();
    for (index, (_, expression)) in panels().into_iter().enumerate() {
        let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
        let quoted = serde_json::to_string(&expression).expect("JSON is YAML");
        text.push_str(&format!("  - record: panel:{index}\n    expr: {quoted}\n"));
    }
    std::fs::write(&rules, text).expect("written");
    let (well, said) = run(&["check", "rules", rules.to_str().expect("a path")], None);
    assert!(well, "{said}");
}

/// A relay with search and trends that took a post, delivered it, and refused something.
async fn busy() -> (TestRelay, Instance, Instance) {
    let relay = TestRelay::start_with(|config| {
        config.search.api = Access::Public;
        config.trends.api = Access::Public;
    })
    .await;
    let sender = relay.joined(Family::Mastodon, "sender").await;
    let reader = relay.joined(Family::Akkoma, "reader").await;
    let post = publish(&sender, "one post").await;
    arrival(&reader, &post.id).await;
    let refused = post_raw(&relay, "/inbox", LIKE).await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let settled = || {
        relay.metric("shearwater_deliveries_total{result=\"delivered\"}") >= 1.0
            && relay.metric("shearwater_consent_refusals_total{reason=\"server-off\",use=\"search\"}") >= 1.0
            && relay.metric("shearwater_lanes{state=\"healthy\"}") >= 2.0
            && relay.server.app().supervisor().status().get("housekeeping").is_some_and(|one| one.units > 0)
            && relay.server.app().state.delivery.waiting().iter().all(|one| one.entries == 0)
    };
    eventually("all of it is counted", settled).await;
    // The places that readers have reached are written a moment later.
    let read = || {
        relay.relay().readers().all(|name| {
            relay
                .store()
                .worker_cursor(name)
                .expect("the store reads")
                .is_some_and(|next| next > relay.server.app().state.log.head())
        })
    };
    eventually("all of it is read", read).await;
    (relay, sender, reader)
}

pub(crate) async fn metrics(relay: &TestRelay) -> String {
    let (head, body) =
        ask(relay.server.ops_addr(), "GET /metrics HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    body
}

async fn ops(relay: &TestRelay, path: &str) -> (u16, Value) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    let (head, body) = ask(relay.server.ops_addr(), &request).await;
    assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
    (head[9..12].parse().expect("a status"), serde_json::from_str(&body).expect("JSON"))
}

async fn post_raw(relay: &TestRelay, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: relay\r\nContent-Type: application/activity+json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    ask(relay.server.http_addr(), &request).await.0
}

/// Head and body of the answer; bodies are small enough to come with a length.
async fn ask(address: Option<std::net::SocketAddr>, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address.expect("an address")).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    // Who answers before it has read all resets the connection afterwards; the answer has come by then.
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// What is wrong, in its words, and whether it is grave.
fn words(answer: &Value) -> Vec<(&str, bool)> {
    let troubles = answer["troubles"].as_array().expect("a list");
    troubles.iter().map(|one| (one["reason"].as_str().unwrap_or("?"), one["grave"] == true)).collect()
}

fn number(text: &str, line: &str) -> f64 {
    let found = text.lines().filter_map(|one| one.strip_prefix(line)?.strip_prefix(' ')?.parse::<f64>().ok()).next();
    found.unwrap_or(f64::NAN)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn deploy(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect("a file of deploy/")
}

/// Each expression of the dashboard with the title of its panel; those of its variables too.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&deploy("grafana.json")).expect("JSON");
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{title} asks for nothing");
        all.extend(
            targets.iter().map(|one| (title.to_owned(), one["expr"].as_str().expect("an expression").to_owned())),
        );
    }
    for note in dashboard["annotations"]["list"].as_array().expect("annotations") {
        all.extend(note["expr"].as_str().map(|expression| ("an annotation".to_owned(), expression.to_owned())));
    }
    all
}

/// What stands under `expr:`, over one or several lines.
fn expressions_of_alerts() -> Vec<(String, String)> {
    let text = deploy("alerts.yaml");
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let expression = rule.split_once("expr:").expect("an expression").1;
        let end = expression.find("\n        for:").or_else(|| expression.find("\n        labels:")).expect("an end");
        (rule.lines().next().unwrap_or_default().to_owned(), expression[..end].to_owned())
    });
    rules.collect()
}

/// One use of a metric in an expression.
struct Use {
    name: String,
    matchers: Vec<(String, String)>,
}

fn used(expression: &str) -> Vec<Use> {
    let metric = Regex::new(r"\b((?:shearwater|process)_[a-z0-9_]+)(?:\{([^}]*)\})?").expect("a pattern");
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).expect("a pattern");
    let matchers = |text: &str| matcher.captures_iter(text).map(|one| (one[1].to_owned(), one[2].to_owned())).collect();
    let uses = metric
        .captures_iter(expression)
        .map(|one| Use { name: one[1].to_owned(), matchers: matchers(one.get(2).map_or("", |text| text.as_str())) });
    uses.collect()
}

/// What of an expression is not there.
fn faults(expression: &str, there: &Numbers) -> Vec<String> {
    let (uses, mut wrong) = (used(expression), Vec::new());
    if uses.is_empty() && !expression.contains("up{") {
        wrong.push(format!("it reads nothing of ours: {expression}"));
    }
    for Use { name, matchers } in &uses {
        let Some(labels) = there.get(&family(name)).filter(|_| is_whole(name, there)) else {
            wrong.push(format!("there is no {name}"));
            continue;
        };
        for (label, values) in matchers.iter().filter(|(label, _)| !ADDED.contains(&label.as_str())) {
            let known = labels.get(label);
            let missing = values.split('|').filter(|value| !known.is_some_and(|known| known.contains(*value)));
            wrong.extend(missing.map(|value| format!("{name} never has {label}=\"{value}\"")));
        }
    }
    let grouping = Regex::new(r"by \(([^)]*)\)").expect("a pattern");
    for group in grouping.captures_iter(expression) {
        for label in group[1].split(',').map(str::trim).filter(|label| !label.is_empty() && !ADDED.contains(label)) {
            let has = |one: &Use| there.get(&family(&one.name)).is_some_and(|labels| labels.contains_key(label));
            if !uses.iter().any(has) {
                wrong.push(format!("nothing there has the label {label}"));
            }
        }
    }
    wrong
}

/// The metric that a series belongs to: a histogram has three kinds.
fn family(name: &str) -> String {
    let parts = ["_bucket", "_sum", "_count"];
    parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned()
}

/// A histogram is read by its parts, all else by its name.
fn is_whole(name: &str, there: &Numbers) -> bool {
    let is_histogram = there.get(&family(name)).is_some_and(|labels| labels.contains_key("le"));
    is_histogram == (family(name) != name)
}

/// Reads the text format.
fn parse(text: &str) -> Numbers {
    let series = Regex::new(r"^([a-z_]+)(?:\{(.*)\})? \S+$").expect("a pattern");
    let label = Regex::new(r#"(\w+)="([^"]*)""#).expect("a pattern");
    let mut all = Numbers::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let found = series.captures(line).unwrap_or_else(|| panic!("no line of a number: {line}"));
        let labels = all.entry(family(&found[1])).or_default();
        for one in label.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            labels.entry(one[1].to_owned()).or_default().insert(one[2].to_owned());
        }
    }
    all
}

/// In a program with the feature alone: `cargo test --features otlp --test it -- collector`.
#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_spans_of_what_came_and_went_with_names_of_servers_and_not_a_word_of_what_was_said() {
    let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let traces = format!("http://{}/v1/traces", collector.local_addr().expect("an address"));
    let collected = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let all = collected.clone();
    #[expect(clippy::disallowed_methods, reason = "a test's servers fall with its runtime")]
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = collector.accept().await {
            let (mut piece, mut came) = ([0; 16_384], Vec::new());
            while let Ok(count @ 1..) = stream.read(&mut piece).await {
                came.extend_from_slice(&piece[..count]);
                let text = String::from_utf8_lossy(&came).to_ascii_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            all.lock().expect("sound").extend(came);
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    }));
    let dir = tempfile::tempdir().expect("a folder");
    crate::support::place_keys(&dir.path().join("data"));
    let mut running = crate::serving::Running::start(dir.path(), |command| {
        command.env("SHEARWATER_OPS__TRACES", &traces);
    });
    let poster = crate::crash::joined(&running.url(), Family::Mastodon, "poster").await;
    let reader = crate::crash::joined(&running.url(), Family::Mastodon, "reader").await;
    let posted = publish(&poster, "a word that nobody else is to read").await;
    arrival(&reader, &posted.id).await;
    let stopped = Command::new("kill").args(["-TERM", &running.child.id().to_string()]).status().expect("kill runs");
    assert!(stopped.success() && running.child.wait().expect("a status").success());
    let came = collected.lock().expect("sound");
    let text = String::from_utf8_lossy(&came);
    for word in ["shearwater", "inbox", "delivery", "peer.host", "log.seq"] {
        assert!(text.contains(word), "{word} in {} bytes", came.len());
    }
    assert!(!text.contains("nobody else"), "what was said went along");
}

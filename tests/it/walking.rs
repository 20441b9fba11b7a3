//! An operator's day from end to end, with the real program, by the command line alone: `tests/walk/run`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use shearwater::demo::{Family, Instance, Options};

use crate::serving::{Running, shearwater};
use crate::support::{LONG, arrival, authority, eventually, json, publish};

/// What the other admin must not get to read.
const PRIVATE: &str = "ticket 4711";

/// A command as the operator types it.
fn operator(home: &Path, args: &[&str]) -> Output {
    shearwater(home).args(args).stdin(Stdio::null()).output().expect("it runs")
}

/// What is typed, for who watches.
fn say(program: &str, args: &[&str]) {
    let _ = writeln!(std::io::stderr(), "$ {program} {}", args.join(" "));
}

/// What a command says as JSON; it must succeed.
fn told(home: &Path, args: &[&str]) -> Value {
    let output = operator(home, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    say("shearwater", args);
    json(&output.stdout)
}

/// A tool of somebody else's; what it says is shown.
fn tool(variable: &str, args: &[&str], input: &[u8]) {
    let program = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names it: run tests/walk/run"));
    say(&program, args);
    let root = env!("CARGO_MANIFEST_DIR");
    let mut child =
        Command::new(program).args(args).current_dir(root).stdin(Stdio::piped()).spawn().expect("the tool starts");
    child.stdin.take().expect("a pipe").write_all(input).expect("it reads");
    assert!(child.wait().expect("it ends").success(), "{args:?} is not content");
}

fn relay(home: &Path, listen: Option<&str>) -> Running {
    Running::start(home, |command| {
        command.env("SHEARWATER_RELAY__ADMISSION", "approval");
        if let Some(listen) = listen {
            command.env("SHEARWATER_HTTP__LISTEN", listen);
        }
    })
}

/// The rows of a list, in whatever way it is paged.
fn rows(list: &Value) -> Vec<Value> {
    let within = list.as_object().and_then(|object| object.values().find(|member| member.is_array()));
    list.as_array().or_else(|| within.and_then(Value::as_array)).cloned().unwrap_or_default()
}

fn state_of(home: &Path, host: &str) -> Option<String> {
    let list = told(home, &["admin", "subscribers"]);
    let row = rows(&list).into_iter().find(|row| row["host"] == host)?;
    row["state"].as_str().map(str::to_owned)
}

/// Asks for a page: the status, and the body.
fn get(url: &str, accept: &str) -> (u16, String) {
    let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("it listens");
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

async fn joined(home: &Path, instance: &Instance, url: &str) {
    let host = authority(instance).to_string();
    assert_eq!(instance.join(url).await.expect("an answer").status, 202);
    eventually("it waits", || state_of(home, &host).as_deref() == Some("pending")).await;
    told(home, &["admin", "approve", &host]);
    assert!(instance.wait_accepted(LONG).await, "it is told so");
    assert_eq!(state_of(home, &host).as_deref(), Some("active"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/walk/run has the tools for it"]
async fn walking_an_operators_day_from_join_to_restore() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path();
    let running = relay(home, None);
    let (url, ops) = (running.url(), running.endpoints["ops"].as_str().expect("an address").to_owned());
    let start = async |name: &str| {
        let options = Options { name: name.to_owned(), ..Options::default() };
        Instance::start(Family::Mastodon, options).await.expect("an instance")
    };
    let (ada, bea) = (start("ada").await, start("bea").await);
    let host = authority(&ada).to_string();

    // A server asks to join, waits, and is let in; what it posts reaches the other.
    joined(home, &ada, &url).await;
    joined(home, &bea, &url).await;
    let post = publish(&ada, "a first post").await;
    arrival(&bea, &post.id).await;

    // Blocked: first on trial, which changes nothing; then in earnest, with a reason and a note of our own.
    let block = ["admin", "block", host.as_str(), "--reason", "adverts by the hundred", "--note", PRIVATE];
    let trial = told(home, &[&block[..], &["--dry-run"]].concat());
    assert!(trial.to_string().contains(&host), "it says who would go: {trial}");
    assert_eq!(state_of(home, &host).as_deref(), Some("active"), "a trial changes nothing");
    told(home, &block);
    assert_eq!(state_of(home, &host), None);

    // And can find out why, by itself; what is the operator's own stays the operator's.
    let check = format!("{url}/check?domain={host}");
    for accept in ["application/json", "text/html"] {
        let (status, body) = get(&check, accept);
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("adverts by the hundred") && !body.contains(PRIVATE), "{accept}: {body}");
    }
    let log = told(home, &["admin", "log"]).to_string();
    assert!(log.contains("approve") && log.contains("block") && log.contains("local"), "{log}");
    told(home, &["admin", "unrule", &host]);
    joined(home, &ada, &url).await;

    // Well, and at a glance.
    let (status, metrics) = get(&format!("http://{ops}/metrics"), "*/*");
    assert_eq!(status, 200);
    tool("PROMTOOL", &["check", "metrics"], metrics.as_bytes());
    tool("PROMTOOL", &["check", "rules", "deploy/alerts.yaml"], b"");
    tool("PROMTOOL", &["test", "rules", "deploy/alerts.test.yaml"], b"");
    assert_eq!(get(&format!("http://{ops}/health/ready"), "*/*").0, 200);

    // Backed up while it runs, killed, lost, restored, checked.
    let backup = told(home, &["backup", "backup"]);
    assert_eq!(backup["online"], true);
    std::fs::write(home.join("newest"), operator(home, &["admin", "export"]).stdout).expect("written");
    assert!(!operator(home, &["restore", "backup"]).status.success(), "not over a relay that runs");
    let listen = running.endpoints["http"].as_str().expect("an address").to_owned();
    drop(running);
    assert!(!operator(home, &["restore", "backup"]).status.success(), "not over what is there");
    std::fs::remove_dir_all(home.join("data")).expect("the disk is lost");
    told(home, &["restore", "backup", "--newest", "newest"]);
    assert_eq!(told(home, &["check"])["ok"], true);

    // It is who it was, and goes on.
    let running = relay(home, Some(&listen));
    assert_eq!(running.url(), url);
    assert_eq!(state_of(home, &host).as_deref(), Some("active"));
    let post = publish(&ada, "a second post").await;
    arrival(&bea, &post.id).await;
    assert_eq!(told(home, &["check"])["ok"], true);

    // Last, because of what it may do to a relay: everything that the description of the admin API allows.
    let ops = running.endpoints["ops"].as_str().expect("an address").to_owned();
    let token = told(home, &["admin", "token", "create", "--name", "walk", "--scope", "admin", "--expires", "1d"]);
    let token = token["token"].as_str().expect("shown once").to_owned();
    let description = format!("http://{ops}/api/admin/v1/openapi.json");
    tool(
        "SCHEMATHESIS",
        &[
            "run",
            &description,
            "--header",
            &format!("Authorization: Bearer {token}"),
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
             response_headers_conformance",
            "--max-examples",
            "40",
            "--request-timeout",
            "30",
            "--suppress-health-check",
            "all",
            // The same each time: `every_answer_of_the_operators_api…` is the one that looks elsewhere.
            "--generation-deterministic",
        ],
        b"",
    );
    let (status, said) = get(&format!("http://{ops}/health/live"), "*/*");
    assert_eq!(status, 200, "and it lives: {said}");
}

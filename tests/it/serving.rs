//! The program as an operator runs it: names, exit codes, files, and the documents that other servers read.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{TestRelay, json, place_keys};

pub(crate) fn shearwater(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shearwater"));
    command.current_dir(dir).env_clear();
    for (key, value) in [
        ("SHEARWATER_DATA_DIR", "data"),
        ("SHEARWATER_HTTP__LISTEN", "127.0.0.1:0"),
        ("SHEARWATER_OPS__LISTEN", "127.0.0.1:0"),
        ("SHEARWATER_FETCH__ALLOW_PRIVATE", "127.0.0.0/8"),
        ("SHEARWATER_FETCH__ALLOW_HTTP", "true"),
        ("SHEARWATER_DELIVERY__RETRY", "100ms,200ms,400ms"),
    ] {
        command.env(key, value);
    }
    command
}

/// The real program, running; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) endpoints: Value,
}

impl Running {
    pub(crate) fn start(dir: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let file = dir.join("data/endpoints.json");
        let _ = std::fs::remove_file(&file);
        let mut command = shearwater(dir);
        command.arg("serve").stdout(Stdio::null()).stderr(Stdio::null());
        change(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let begun = Instant::now();
        loop {
            if let Ok(text) = std::fs::read(&file) {
                return Self { child, endpoints: json(&text) };
            }
            if let Some(status) = child.try_wait().expect("a status") {
                panic!("it ended with {status}");
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it never became ready");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn url(&self) -> String {
        self.endpoints["public_url"].as_str().expect("a URL").to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(dir: &Path, args: &[&str]) -> Output {
    shearwater(dir).args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_config_names_every_wrong_key_and_exits_78() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(
        dir.path().join("relay.toml"),
        "colour = 1\n[http]\nhead_timeout = \"soon\"\n[relay]\nadmission = \"maybe\"\n",
    )
    .expect("written");
    for args in [["config", "check", "--config", "relay.toml"], ["config", "show", "--config", "relay.toml"]] {
        let output = run(dir.path(), &args);
        assert_eq!(output.status.code(), Some(78));
        let said = text(&output.stderr);
        for key in ["colour", "http.head_timeout", "relay.admission"] {
            assert!(said.contains(key), "{key} in {said}");
        }
    }
    let output = shearwater(dir.path()).args(["serve", "--config", "relay.toml"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    let output =
        shearwater(dir.path()).arg("serve").env("SHEARWATER_HTTP__LISTEN", "nowhere").output().expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("http.listen"), "{}", text(&output.stderr));
}

#[test]
fn the_printed_default_is_a_config() {
    let dir = tempfile::tempdir().expect("a folder");
    let default = run(dir.path(), &["config", "default"]);
    assert!(default.status.success());
    std::fs::write(dir.path().join("relay.toml"), &default.stdout).expect("written");
    assert!(run(dir.path(), &["config", "check", "--config", "relay.toml"]).status.success());
    let show = run(dir.path(), &["config", "show"]);
    assert!(text(&show.stdout).contains("http.listen  from"), "it says where values came from: {}", text(&show.stdout));
}

#[test]
fn the_first_start_makes_keys_that_only_the_owner_reads() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(dir.path(), &["keys", "show"]);
    // Without a public URL there is no key id; with one the keys are made.
    assert!(!output.status.success() || text(&output.stdout).contains("#main-key"));
    let output = shearwater(dir.path())
        .args(["keys", "show"])
        .env("SHEARWATER_PUBLIC_URL", "https://relay.example")
        .output()
        .expect("it runs");
    let said = text(&output.stdout);
    assert!(
        said.contains("https://relay.example/actor#main-key") && said.contains("BEGIN PUBLIC KEY"),
        "{said}{}",
        text(&output.stderr)
    );
    for name in ["rsa.pem", "ed25519.pem"] {
        let path = dir.path().join("data/keys").join(name);
        assert_eq!(std::fs::metadata(&path).expect("a key").permissions().mode() & 0o777, 0o600, "{name}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
        let refused = shearwater(dir.path()).arg("serve").output().expect("it runs");
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("chmod 600"), "{}", text(&refused.stderr));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed back");
    }
}

/// `serve`, then the commands that talk to it, then a stop that leaves nothing half done.
#[test]
fn a_relay_is_started_asked_and_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    let mut running = Running::start(dir.path(), |_command| {});
    let workers = run(dir.path(), &["admin", "workers", "--json"]);
    let table = json(&workers.stdout);
    for worker in ["resolver", "survey", "housekeeping", "refusals", "control", "cursors"] {
        assert!(table[worker]["state"].is_string(), "{worker} in {table}");
    }
    assert!(text(&run(dir.path(), &["admin", "subscribers"]).stdout).contains("None"));
    assert!(text(&run(dir.path(), &["following"]).stdout).contains("None"));
    let wrong = run(dir.path(), &["admin", "approve", "nobody.example"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("did not ask to join"), "{}", text(&wrong.stderr));
    let second = shearwater(dir.path()).arg("serve").output().expect("it runs");
    assert!(!second.status.success() && text(&second.stderr).contains("in use"), "{}", text(&second.stderr));
    let pid = running.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert!(running.child.wait().expect("a status").success(), "a good stop is a success");
    let gone = run(dir.path(), &["admin", "workers"]);
    assert!(text(&gone.stderr).contains("is `shearwater serve` running"), "{}", text(&gone.stderr));
}

#[test]
fn a_truncated_or_flipped_store_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    drop(Running::start(dir.path(), |_command| {}));
    let file = dir.path().join("data/shearwater.redb");
    let whole = std::fs::read(&file).expect("the store");
    for (what, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("garbage", vec![0x5a; whole.len()]),
        ("another's", b"SQLite format 3\0".to_vec()),
    ] {
        std::fs::write(&file, bytes).expect("written");
        let output = shearwater(dir.path())
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = output.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{what}");
        assert!(text(&output.stderr).contains("shearwater.redb"), "{what}: {}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_that_servers_read_are_what_they_expect() {
    let relay = TestRelay::start().await;
    let (url, host) = (relay.url().to_owned(), relay.url().trim_start_matches("http://").to_owned());
    let get = |path: String| {
        let mut answer = std::net::TcpStream::connect(host.as_str()).expect("a connection");
        std::io::Write::write_all(
            &mut answer,
            format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/activity+json\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )
        .expect("sent");
        let mut said = String::new();
        answer.read_to_string(&mut said).expect("read");
        let (head, body) = said.split_once("\r\n\r\n").expect("a head");
        (head.to_lowercase(), body.to_owned())
    };
    let (head, body) = get("/actor".to_owned());
    assert!(head.contains("content-type: application/activity+json\r\n") && head.contains("vary: accept"), "{head}");
    let actor: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((actor["type"].as_str(), actor["preferredUsername"].as_str()), (Some("Application"), Some("relay")));
    assert_eq!(actor["inbox"], format!("{url}/inbox"));
    assert_eq!(actor["endpoints"]["sharedInbox"], actor["inbox"], "what admins paste is what the actor says");
    assert_eq!(actor["publicKey"]["id"], format!("{url}/actor#main-key"));
    assert!(
        actor["publicKey"]["publicKeyPem"].as_str().is_some_and(|pem| pem.starts_with("-----BEGIN PUBLIC KEY-----"))
    );
    for name in ["outbox", "followers", "following"] {
        let (head, body) = get(format!("/{name}"));
        assert!(head.contains("application/activity+json"), "{name}: {head}");
        let collection: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((collection["id"].as_str(), collection["totalItems"].as_u64()), (actor[name].as_str(), Some(0)));
    }
    for resource in [format!("acct:relay@{host}"), format!("acct:RELAY@{host}").to_lowercase(), format!("{url}/actor")]
    {
        let (head, body) = get(format!("/.well-known/webfinger?resource={resource}"));
        assert!(head.starts_with("http/1.1 200") && head.contains("application/jrd+json"), "{resource}: {head}");
        let jrd: Value = serde_json::from_str(&body).expect("JSON");
        assert!(
            jrd["links"]
                .as_array()
                .is_some_and(|links| links.iter().any(|link| link["rel"] == "self" && link["href"] == actor["id"])),
            "{jrd}"
        );
    }
    let (_, body) = get(format!("/.well-known/webfinger?resource={url}/"));
    assert!(body.contains("https://www.w3.org/ns/activitystreams#Service"), "FEP-d556: {body}");
    assert!(
        get("/.well-known/webfinger?resource=acct:root@elsewhere.example".to_owned()).0.starts_with("http/1.1 404")
    );
    assert!(get("/.well-known/webfinger".to_owned()).0.starts_with("http/1.1 400"));
    assert!(get("/.well-known/host-meta".to_owned()).1.contains("/.well-known/webfinger?resource={uri}"));
    let (_, links) = get("/.well-known/nodeinfo".to_owned());
    assert!(links.contains("https://www.w3.org/ns/activitystreams#Application"), "FEP-2677: {links}");
    for version in ["2.0", "2.1"] {
        let (head, body) = get(format!("/nodeinfo/{version}"));
        assert!(head.contains(&format!("schema/{version}#")), "{head}");
        let nodeinfo: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (nodeinfo["version"].as_str(), nodeinfo["software"]["name"].as_str()),
            (Some(version), Some("shearwater"))
        );
    }
    let (head, page) = get("/".to_owned());
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(
        page.contains(&format!("{url}/inbox")) && page.contains(&format!("{url}/actor")),
        "the two addresses to paste"
    );
    assert!(get("/nothing".to_owned()).0.starts_with("http/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn state_travels_as_lines_of_json() {
    let (one, two) = (TestRelay::start().await, TestRelay::start().await);
    let member = one.joined(shearwater::demo::Family::Akkoma, "member").await;
    let mut lines = Vec::new();
    let written = shearwater::store::export(one.store(), &mut lines).expect("exported");
    assert_eq!((written.subscribers, written.following), (1, 1));
    let read = shearwater::store::import(two.store(), &mut lines.as_slice()).await.expect("imported");
    assert_eq!(read, written);
    let host = crate::support::authority(&member);
    let (there, here) =
        (two.store().subscriber(&host).expect("a subscriber"), one.store().subscriber(&host).expect("a subscriber"));
    assert_eq!(there.registrations, here.registrations);
    let broken = [lines.as_slice(), b"{\"kind\":\"subscribers\"}\n"].concat();
    let third = TestRelay::start().await;
    let error = shearwater::store::import(third.store(), &mut broken.as_slice()).await.expect_err("refused");
    assert!(format!("{error:#}").contains("line "), "{error:#}");
    assert!(third.store().subscribers().is_empty(), "all or nothing");
}

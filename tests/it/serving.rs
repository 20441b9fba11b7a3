//! The program as an operator runs it: names, exit codes, files, and the documents that other servers read.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shearwater::clock::Timestamp;
use shearwater::demo::{Family, Instance, Options, PostSpec};
use shearwater::log::Log;
use shearwater::store::AuthorityFacts;

use crate::support::{LONG, TestRelay, arrival, json, place_keys, publish};

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
        ("SHEARWATER_POLICY__ACTOR_RATE", "0"),
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
fn texts_in_the_environment_may_look_like_numbers() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = shearwater(dir.path())
        .args(["config", "show"])
        .env("SHEARWATER_SITE__NAME", "2024")
        .env("SHEARWATER_SITE__SUMMARY", "true")
        .env("SHEARWATER_SITE__CONTACT", "007")
        .env("SHEARWATER_IDENTITY__USERNAME", "1.50")
        .env("SHEARWATER_HTTP__MAX_BODY", "65536")
        .env("SHEARWATER_HTTP__CONNECTIONS", "12")
        .output()
        .expect("it runs");
    let said = text(&output.stdout);
    for line in [
        "name = \"2024\"",
        "summary = \"true\"",
        "contact = \"007\"",
        "username = \"1.50\"",
        "max_body = \"64.0 KiB\"",
        "connections = 12",
    ] {
        assert!(said.contains(line), "{line} in {said}{}", text(&output.stderr));
    }
    let origin = said.lines().find(|line| line.contains("site.name  from"));
    assert!(origin.is_some_and(|line| line.contains("environment")), "{said}");
}

#[test]
fn the_data_folder_is_private_whoever_makes_it_first() {
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let lines = "{\"kind\":\"relay\",\"version\":1,\"key\":\"mark\",\"record\":\"x\"}\n\
                 {\"kind\":\"end\",\"version\":1,\"key\":\"\",\"record\":{\"lines\":1,\"damaged\":0}}\n";
    std::fs::write(dir.path().join("lines"), lines).expect("written");
    let import = shearwater(dir.path()).args(["admin", "import", "lines"]).output().expect("it runs");
    assert!(import.status.success(), "{}", text(&import.stderr));
    assert_eq!((mode(&data), mode(&data.join("shearwater.redb"))), (0o700, 0o600), "made by an import");
    std::fs::remove_dir_all(&data).expect("removed");
    let keys = shearwater(dir.path()).args(["keys", "show"]).env("SHEARWATER_PUBLIC_URL", "https://r.example").output();
    assert!(keys.expect("it runs").status.success());
    assert_eq!(mode(&data), 0o700, "made by `keys show`");
    for open in [0o755, 0o710] {
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(open)).expect("changed");
        let refused = run(dir.path(), &["serve"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("chmod 700 data"), "{}", text(&refused.stderr));
    }
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
        assert!(
            table.as_array().is_some_and(|rows| rows.iter().any(|row| row["worker"] == worker)),
            "{worker} in {table}"
        );
    }
    assert!(text(&run(dir.path(), &["admin", "subscribers"]).stdout).contains("None"));
    assert!(text(&run(dir.path(), &["following"]).stdout).contains("None"));
    let wrong = run(dir.path(), &["admin", "approve", "nobody.example"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("did not ask to join"), "{}", text(&wrong.stderr));
    let wrong = run(dir.path(), &["admin", "mode", "nobody.example", "forward"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("did not ask to join"), "{}", text(&wrong.stderr));
    let pid = running.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert!(running.child.wait().expect("a status").success(), "a good stop is a success");
    let gone = run(dir.path(), &["admin", "workers"]);
    assert!(text(&gone.stderr).contains("is `shearwater serve` running"), "{}", text(&gone.stderr));
}

#[test]
fn a_second_relay_on_the_same_folder_refuses_to_start_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    let mut running = Running::start(dir.path(), |_command| {});
    let mut second = shearwater(dir.path());
    let mut second =
        second.arg("serve").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let ended = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        second.try_wait().expect("a status").is_some()
    });
    if !ended {
        second.kill().expect("killed");
    }
    let output = second.wait_with_output().expect("it ended");
    assert!(ended && output.status.code() == Some(1), "two relays run on one folder");
    assert!(text(&output.stderr).contains("in use"), "{}", text(&output.stderr));
    assert!(running.child.try_wait().expect("a status").is_none(), "the first one is not disturbed");
    assert!(run(dir.path(), &["admin", "workers"]).status.success());
}

#[test]
fn a_truncated_or_flipped_store_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().expect("a folder");
    place_keys(&dir.path().join("data"));
    drop(Running::start(dir.path(), |_command| {}));
    let file = dir.path().join("data/shearwater.redb");
    let whole = std::fs::read(&file).expect("the store");
    // Far below what is in use: the relay was killed, and the end of a file that has just grown may be empty.
    let little = 8 << 10;
    assert!(whole.len() > 4 * little, "{}", whole.len());
    for (what, bytes) in [
        ("cut", whole[..little].to_vec()),
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
async fn the_operator_sets_what_a_subscriber_gets_and_ends_a_downgrade() {
    let relay = TestRelay::start().await;
    let host = crate::support::authority(&relay.joined(Family::Mastodon, "member").await);
    let key = host.as_str().to_owned();
    let downgrade = relay.store().write(move |tx| {
        let mut facts = tx.get::<AuthorityFacts>(&key)?.unwrap_or_default();
        facts.announce_until = Timestamp::from_rfc3339("2099-01-01T00:00:00Z");
        tx.put(&key, &facts)
    });
    downgrade.await.expect("written");
    let admin = |args: &[&str]| {
        let mut command = shearwater(&relay.config.data_dir);
        let output = command.env("SHEARWATER_DATA_DIR", ".").arg("admin").args(args).output().expect("it runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let before = admin(&["subscribers", "--long"]);
    assert!(before.contains("ANNOUNCE UNTIL") && before.contains("2099-01-01") && before.contains("auto"), "{before}");
    assert!(admin(&["mode", host.as_str(), "forward"]).contains("mode: forward"));
    let after = admin(&["subscribers", "--long"]);
    assert!(after.contains("forward") && !after.contains("2099"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_lists_releases_and_discards_what_is_held() {
    let relay = TestRelay::start_with(|config| config.policy.max_hashtags = 1).await;
    let member = relay.joined(Family::Mastodon, "member").await;
    let host = crate::support::authority(&member);
    let mut posts = Vec::new();
    for words in ["first", "second", "third"] {
        posts.push(member.post(PostSpec::public(words).tagged(&["a", "b"])).await.expect("an answer"));
    }
    let admin = |args: &[&str]| {
        let mut command = shearwater(&relay.config.data_dir);
        let output = command.env("SHEARWATER_DATA_DIR", ".").arg("admin").args(args).output().expect("it runs");
        (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
    };
    let (_, servers) = admin(&["held"]);
    assert!(servers.contains("HOST") && servers.contains(host.as_str()) && servers.contains("hashtags"), "{servers}");
    let (_, listed) = admin(&["held", host.as_str()]);
    assert!(listed.contains(&posts[0].id) && !listed.contains("first"), "{listed}");
    assert!(admin(&["held", host.as_str(), "--text"]).1.contains("first"));
    let json: Value = serde_json::from_str(&admin(&["held", host.as_str(), "--json"]).1).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    assert!(admin(&["discard", &posts[0].id, "--dry-run"]).1.contains("would_discard: 1"));
    assert!(admin(&["discard", &posts[0].id]).1.contains("discarded: 1"));
    assert!(admin(&["release", &posts[1].id]).1.contains("released: 1"));
    assert!(admin(&["release", host.as_str()]).1.contains("released: 1"));
    assert!(admin(&["held"]).1.contains("None"));
    let (done, wrong) = admin(&["release", host.as_str()]);
    assert!(!done && wrong.contains("is held"), "{wrong}");
    assert!(!admin(&["release", "no host"]).0);
}

/// Taking the place of another relay: whatever its addresses were, this one answers at those that its actor names.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_an_actor_of_its_own_answers_where_its_actor_says() {
    let relay = TestRelay::start_with(|config| {
        config.identity.actor_path = "/users/relay".to_owned();
        config.identity.key_fragment = "the-key".to_owned();
        config.identity.username = "old-relay".to_owned();
    })
    .await;
    let (url, host) = (relay.url().to_owned(), relay.url().trim_start_matches("http://").to_owned());
    let ask = |method: &str, path: &str| {
        let mut answer = std::net::TcpStream::connect(host.as_str()).expect("a connection");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/activity+json\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        std::io::Write::write_all(&mut answer, head.as_bytes()).expect("sent");
        let mut said = String::new();
        answer.read_to_string(&mut said).expect("read");
        let status: u16 = said.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, said.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body"))
    };
    let (status, body) = ask("GET", "/users/relay");
    assert_eq!(status, 200, "{body}");
    let actor: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(actor["id"], format!("{url}/users/relay"));
    assert_eq!(actor["publicKey"]["id"], format!("{url}/users/relay#the-key"));
    assert_eq!(actor["preferredUsername"], "old-relay");
    for name in ["outbox", "followers", "following"] {
        let id = actor[name].as_str().expect("an id");
        let (status, body) = ask("GET", id.strip_prefix(&url).expect("ours"));
        assert_eq!((status, json(body.as_bytes())["id"].as_str()), (200, Some(id)), "{name}");
    }
    let inbox = actor["inbox"].as_str().and_then(|id| id.strip_prefix(&url)).expect("an inbox");
    let (status, body) = ask("POST", inbox);
    assert_eq!(status, 400, "no activity, but an inbox: {body}");
    assert_eq!((ask("GET", "/actor").0, ask("POST", "/inbox").0), (404, 404));
    let (status, jrd) = ask("GET", &format!("/.well-known/webfinger?resource=acct:old-relay@{host}"));
    assert!(status == 200 && jrd.contains(&format!("{url}/users/relay")), "{jrd}");
    // And servers whose admins paste that inbox are served.
    let mut joined = Vec::new();
    for name in ["ada", "bea"] {
        let options = Options { name: name.to_owned(), ..Options::default() };
        let instance = Instance::start(Family::Mastodon, options).await.expect("an instance");
        instance.join(&format!("{url}/users")).await.expect("an answer");
        assert!(instance.wait_accepted(LONG).await, "{name} is accepted");
        joined.push(instance);
    }
    let post = publish(&joined[0], "at an old address").await;
    arrival(&joined[1], &post.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_that_servers_read_are_what_they_expect() {
    let relay = TestRelay::start_with(|config| config.site.name = "Terns <script> & gulls".to_owned()).await;
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
    assert!(!page.contains("<script") && page.contains("<h1>Terns &#60;script&#62; &#38; gulls</h1>"), "{page}");
    assert!(get("/nothing".to_owned()).0.starts_with("http/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn state_travels_as_lines_of_json() {
    let (one, two) = (TestRelay::start().await, TestRelay::start().await);
    let member = one.joined(Family::Akkoma, "member").await;
    let mut lines = Vec::new();
    let written = shearwater::store::export(one.store(), &mut lines).expect("exported");
    assert_eq!((written.subscribers, written.following), (1, 1));
    let read = shearwater::store::import(two.store(), &mut lines.as_slice(), Log::next_in).await.expect("imported");
    assert_eq!(read, written);
    let host = crate::support::authority(&member);
    let (there, here) =
        (two.store().subscriber(&host).expect("a subscriber"), one.store().subscriber(&host).expect("a subscriber"));
    assert_eq!(there.registrations, here.registrations);
    let broken = [lines.as_slice(), b"{\"kind\":\"subscribers\"}\n"].concat();
    let third = TestRelay::start().await;
    let error =
        shearwater::store::import(third.store(), &mut broken.as_slice(), Log::next_in).await.expect_err("refused");
    assert!(format!("{error:#}").contains("line "), "{error:#}");
    assert!(third.store().subscribers().is_empty(), "all or nothing");
}

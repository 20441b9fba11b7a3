//! The corpus in `tests/fixtures/attacks`, sent to a real relay: forged, malformed and malicious requests of every kind
//! that `docs/THREATS.md` names. Whatever one of them is answered, it must have no effect: nothing goes to the log or to
//! another server, nobody joins or leaves, no guarded address is dialled, few requests go out, and nothing panics.
//!
//! The valid requests that the attacks are made from stand in `0-controls.toml` and must have their effect: a relay that
//! refuses everything passes no test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use shearwater::clock::{Clock, Timestamp};
use shearwater::config::Listen;
use shearwater::demo::{Family, Instance, Options};
use shearwater::ids::{Authority, Seq};
use shearwater::store::Act;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::support::{TestRelay, eventually};

mod case;
mod hosts;
mod letter;
mod proving;

use case::{Case, Serve, Written, read_all};
use hosts::{Canary, Host, Page};
use letter::{Answer, Key, Plain};
use proving::Prove;

const PUBLIC: &str = "https://www.w3.org/ns/activitystreams#Public";

/// The public internet of this test: everything else on loopback is what must never be dialled.
const OPEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const BLOCKED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const SILENCED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

/// Requests that the scripted hosts may get on account of one case that does not say how many.
const FETCHES: usize = 4;

/// Everybody who has a name: whose host it is, the path, the kind of actor, and the key.
const CAST: [(&str, &str, &str, &str, &str); 14] = [
    ("ada", "member", "/users/ada", "Person", "honest"),
    ("bob", "member", "/users/bob", "Person", "honest"),
    ("member_actor", "member", "/actor", "Application", "honest"),
    ("lea", "lite", "/users/lea", "Person", "honest"),
    ("lite_actor", "lite", "/relay", "Application", "honest"),
    ("mal", "rogue", "/users/mal", "Person", "evil"),
    ("rogue_actor", "rogue", "/actor", "Application", "evil"),
    ("eve", "fresh", "/users/eve", "Person", "evil"),
    ("fresh_actor", "fresh", "/actor", "Application", "evil"),
    ("bea", "blocked", "/users/bea", "Person", "evil"),
    ("blocked_actor", "blocked", "/actor", "Application", "evil"),
    ("sil", "silenced", "/users/sil", "Person", "evil"),
    ("silenced_actor", "silenced", "/actor", "Application", "evil"),
    ("pre", "prefix", "/users/pre", "Person", "evil"),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attacks")
}

/// The threats that the corpus has cases of, each with the file that they stand in.
pub(crate) fn threats() -> BTreeSet<(String, String)> {
    let cases = read_all(&corpus());
    let of = |case: &'_ Written| case.threats().map(|id| (case.file().to_owned(), id.to_owned())).collect::<Vec<_>>();
    attacks(&cases).flat_map(of).collect()
}

fn attacks(cases: &[Written]) -> impl Iterator<Item = &Written> {
    cases.iter().filter(|case| !case.is_control())
}

/// A relay, the servers around it, and what they know.
struct Scene {
    relay: TestRelay,
    tasks: TaskTracker,
    reader: Instance,
    hosts: HashMap<&'static str, Host>,
    canary: Canary,
    keys: HashMap<&'static str, Key>,
    /// The ids of the Follows by which the hosts joined.
    follows: HashMap<&'static str, String>,
    /// A post of Ada's that was relayed.
    known: String,
    number: usize,
}

impl Scene {
    async fn set() -> Self {
        let relay = TestRelay::start_with(|config| {
            config.http.listen = Listen::Tcp((OPEN, 0).into());
            let open = [OPEN, BLOCKED, SILENCED].map(|address| format!("{address}/32").parse().expect("a network"));
            config.fetch.allow_private = open.to_vec();
            config.policy.block = vec![BLOCKED.to_string()];
            config.policy.silence = vec![SILENCED.to_string()];
            config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        })
        .await;
        let tasks = TaskTracker::new();
        let options = Options { name: "reader".to_owned(), bind: OPEN.into(), ..Options::default() };
        let reader = relay.joined_with(Family::Mastodon, options).await;
        let (member, prefix) = member_and_prefix(&tasks).await;
        let mut hosts = HashMap::from([("member", member), ("prefix", prefix)]);
        for (name, address) in [("lite", OPEN), ("rogue", OPEN), ("blocked", BLOCKED), ("silenced", SILENCED)] {
            hosts.insert(name, Host::start(address, &tasks).await);
        }
        hosts.insert("fresh", Host::start(OPEN, &tasks).await);
        let canary = Canary::start(&tasks).await;
        let (keys, follows, known) = (letter::keys(), HashMap::new(), String::new());
        let mut scene = Self { relay, tasks, reader, hosts, canary, keys, follows, known, number: 0 };
        for name in ["member", "lite", "rogue", "blocked", "silenced", "prefix", "fresh"] {
            scene.furnish(name);
        }
        for host in ["member", "lite", "rogue", "silenced"] {
            scene.join(host).await;
        }
        scene
    }

    /// Gives a host its actors.
    fn furnish(&self, name: &str) {
        for (_, _, path, kind, key) in CAST.iter().filter(|(_, host, ..)| *host == name) {
            self.hosts[name].serve_actor(path, kind, &self.keys[key]);
        }
    }

    async fn join(&mut self, host: &'static str) {
        let who = format!("{host}_actor");
        let written =
            json!({ "name": "joins", "threats": [], "base": "follow", "by": who, "expect": { "status": 202 } });
        let case = Written::new(written, "joining").read(&|word| self.meaning(word));
        let answer = self.send(&case).await;
        assert_eq!(answer.status, 202, "{host}: {answer:?}");
        let authority = self.authority(host);
        let joined = || self.relay.store().subscriber(&authority).is_some_and(|one| one.is_active());
        eventually("the host is a subscriber", joined).await;
        self.follows.insert(host, format!("{}/activities/{}", self.hosts[host].origin, self.tag()));
        self.number += 1;
    }

    fn authority(&self, host: &str) -> Authority {
        Authority::parse(self.hosts[host].origin.trim_start_matches("http://")).expect("a host")
    }

    /// What the ids of this case end in.
    fn tag(&self) -> String {
        format!("a{}", self.number)
    }

    /// What a word means in the case at hand.
    fn meaning(&self, word: &str) -> Option<String> {
        if let Some(host) = self.hosts.get(word) {
            return Some(host.origin.clone());
        }
        if let Some((_, host, path, ..)) = CAST.iter().find(|(name, ..)| *name == word) {
            return Some(format!("{}{path}", self.hosts[host].origin));
        }
        if let Some((count, text)) = word.split_once('*') {
            return Some(text.repeat(count.parse().ok()?));
        }
        if let Some((host, "follow")) = word.split_once('.') {
            return self.follows.get(host).cloned();
        }
        if let Some((host, "host")) = word.split_once('.') {
            return Some(self.meaning(host)?.trim_start_matches("http://").to_owned());
        }
        if let Some(file) = word.strip_prefix("pem:") {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keys");
            return std::fs::read_to_string(folder.join(file)).ok();
        }
        let canary = self.canary.addr;
        Some(match word {
            "public" => PUBLIC.to_owned(),
            "relay" => self.relay.url().to_owned(),
            "relay_actor" => format!("{}/actor", self.relay.url()),
            "reader" => self.reader.origin().to_owned(),
            "canary" => format!("http://{canary}"),
            "canary_port" => canary.port().to_string(),
            "known" => self.known.clone(),
            "n" => self.tag(),
            "quote" => "\"".to_owned(),
            "lf" => "\n".to_owned(),
            "cr" => "\r".to_owned(),
            "nul" => "\0".to_owned(),
            "bom" => "\u{feff}".to_owned(),
            other => moment(other)?,
        })
    }

    /// A valid activity of somebody.
    fn activity(&self, base: &str, by: &str) -> Value {
        let (_, host, ..) = CAST.iter().find(|(name, ..)| *name == by).unwrap_or_else(|| panic!("who is {by}?"));
        let (actor, origin, tag) = (self.meaning(by), &self.hosts[host].origin, self.tag());
        let now = Clock::system().now().rfc3339();
        let mut activity = json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{origin}/activities/{tag}"), "actor": actor,
        });
        let members = match base {
            "create" => json!({ "type": "Create", "published": now, "to": [PUBLIC], "object": self.note(host, by) }),
            "update" => json!({ "type": "Update", "to": [PUBLIC], "object": self.note(host, by) }),
            "delete" => {
                json!({ "type": "Delete", "to": [PUBLIC], "object": { "id": self.known, "type": "Tombstone" } })
            }
            "announce" => json!({ "type": "Announce", "to": [PUBLIC], "object": format!("{origin}/notes/{tag}") }),
            "like" => json!({ "type": "Like", "object": self.known }),
            "follow" if by == "lite_actor" => json!({ "type": "Follow", "object": self.meaning("relay_actor") }),
            "follow" => json!({ "type": "Follow", "object": PUBLIC }),
            "undo" => {
                let follow = self.follows.get(host).cloned().unwrap_or_else(|| format!("{origin}/follow"));
                json!({ "type": "Undo", "object": { "id": follow, "type": "Follow", "actor": actor, "object": PUBLIC } })
            }
            "accept" | "reject" => {
                let follow = json!({ "type": "Follow", "actor": self.meaning("relay_actor"), "object": actor });
                json!({ "type": if base == "accept" { "Accept" } else { "Reject" }, "object": follow })
            }
            other => panic!("no such activity: {other}"),
        };
        merge(&mut activity, members);
        activity
    }

    /// A public post of somebody.
    fn note(&self, host: &str, by: &str) -> Value {
        let id = format!("{}/notes/{}", self.hosts[host].origin, self.tag());
        json!({
            "id": id, "type": "Note", "attributedTo": self.meaning(by), "content": format!("<p>attack {}</p>", self.tag()),
            "published": Clock::system().now().rfc3339(), "to": [PUBLIC], "cc": [format!("{}/followers", self.meaning(by).unwrap_or_default())],
        })
    }

    /// Puts the pages of a case where they belong.
    fn serve(&self, serve: &Serve) {
        let host = &self.hosts[serve.host.as_str()];
        let key = &self.keys[serve.key.as_deref().unwrap_or("evil")];
        let by = CAST.iter().find(|(_, host, _, kind, _)| *host == serve.host && *kind == "Person");
        let mut document = match (serve.like.as_str(), by) {
            ("", _) => json!({}),
            ("actor", _) => host.actor(&serve.path, "Person", key),
            ("server", _) => host.actor(&serve.path, "Application", key),
            ("note", Some((by, ..))) => self.note(&serve.host, by),
            (other, _) => panic!("no such document: {other}"),
        };
        if serve.like == "note" {
            document["@context"] = json!("https://www.w3.org/ns/activitystreams");
        }
        bend(&mut document, &serve.set, &serve.remove);
        let text = serve.text.clone().unwrap_or_else(|| document.to_string());
        let mut headers = serve.headers.clone();
        if !serve.content_type.is_empty() {
            headers.push(("Content-Type".to_owned(), serve.content_type.clone()));
        }
        let body = letter::replace(text, &serve.replace).into_bytes();
        host.set(&serve.path, Page { status: serve.status, headers, body });
    }

    /// The bytes of a case's request.
    fn request(&self, case: &Case) -> Vec<u8> {
        if let Some(raw) = &case.raw {
            return raw.clone().into_bytes();
        }
        let body = case.body.clone().unwrap_or_else(|| {
            let mut activity = self.activity(&case.base, &case.by);
            bend(&mut activity, &case.set, &case.remove);
            if let Some(prove) = &case.prove {
                self.prove(&mut activity, prove, &case.by);
            }
            activity.to_string()
        });
        let body = letter::replace(body, &case.replace).into_bytes();
        let signer = case.signer.as_deref().unwrap_or(&case.by);
        let (.., key) = CAST.iter().find(|(name, ..)| *name == signer).unwrap_or_else(|| panic!("who is {signer}?"));
        let now = Clock::system().now();
        let origin = self.relay.url();
        let plain = Plain {
            inbox: "/inbox",
            host: origin.trim_start_matches("http://"),
            origin,
            key_id: &format!("{}#main-key", self.meaning(signer).unwrap_or_default()),
            key: &self.keys[case.key.as_deref().unwrap_or(key)],
            http_date: &now.http_date(),
            unix: now.secs(),
            body,
        };
        letter::write(case, &plain)
    }

    /// Puts a proof of `by` into an activity, as a case says.
    fn prove(&self, activity: &mut Value, prove: &Prove, by: &str) {
        let (.., key) = CAST.iter().find(|(name, ..)| *name == by).unwrap_or_else(|| panic!("who is {by}?"));
        let (key, method) =
            (prove.key.as_deref().unwrap_or(key), format!("{}#ed25519-key", self.meaning(by).unwrap_or_default()));
        let now = Clock::system().now().rfc3339();
        let part = activity.pointer_mut(&prove.part).unwrap_or_else(|| panic!("nothing at {} to prove", prove.part));
        let proof = proving::proof(part, prove, key, &method, &now, |proof| bend(proof, &prove.set, &prove.remove));
        part["proof"] = proof;
        bend(activity, &prove.then, &prove.then_remove);
    }

    async fn send(&self, case: &Case) -> Answer {
        let addr = self.relay.server.http_addr().expect("an address");
        letter::send(addr, &self.request(case)).await
    }

    /// Does what a case says; what was otherwise than it expects.
    async fn play(&mut self, written: &Written) -> Vec<String> {
        self.number += 1;
        if written.mentions(&["fresh", "eve"]) {
            let host = Host::start(OPEN, &self.tasks).await;
            self.hosts.insert("fresh", host);
            self.furnish("fresh");
        }
        let case = written.read(&|word| self.meaning(word));
        for serve in &case.serve {
            self.serve(serve);
        }
        let (mut before, mut wrong) = (self.look(), Vec::new());
        for _ in 0..case.times {
            let mut answer = self.send(&case).await;
            // A host is asked for ten new keys a second at most: the corpus comes faster than that.
            if answer.status == 503 && case.expect.status != 503 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                before = self.look();
                answer = self.send(&case).await;
            }
            wrong.extend(judge_answer(&case, &answer));
        }
        let authority = self.authority("fresh");
        if case.expect.joins {
            let joined = || self.relay.store().subscriber(&authority).is_some_and(|one| one.is_active());
            eventually("the host is a subscriber", joined).await;
            wrong.extend(self.served_elsewhere(&authority));
            self.relay.relay().reject(&authority, "that was a test", &Act::local("a test")).await.expect("it leaves");
        }
        if case.expect.hint.is_some() {
            let read = || self.relay.metric("shearwater_hints_total{") > before.hints.values().sum();
            eventually("the hint is read", read).await;
        }
        wrong.extend(self.compare(&case, &before));
        if written.is_control() && case.base == "create" && case.by == "ada" {
            let (path, host) = (format!("/notes/{}", self.tag()), &self.hosts["member"]);
            self.known = format!("{}{path}", host.origin);
            host.set(&path, Page::document(&self.note("member", "ada")));
        }
        wrong
    }

    /// Inboxes of a subscriber that are not its own.
    fn served_elsewhere(&self, authority: &Authority) -> Vec<String> {
        let origin = format!("{}/", self.hosts["fresh"].origin);
        let registrations = self.relay.store().subscriber(authority).map(|one| one.registrations.clone());
        let inboxes = registrations.into_iter().flatten().flat_map(|one| [one.inbox, one.actor_inbox]);
        let elsewhere = inboxes.filter(|inbox| !inbox.as_str().starts_with(&origin));
        elsewhere.map(|inbox| format!("it is to be served at {inbox}")).collect()
    }

    /// What must not change.
    fn look(&self) -> Look {
        let store = self.relay.store();
        let subscribers = store.subscribers();
        let describe = |registration: &shearwater::store::Registration| {
            format!(
                "{} {:?} {} {}",
                registration.actor,
                registration.style,
                registration.inbox,
                registration.follow.value()
            )
        };
        Look {
            head: self.relay.server.app().state.log.head(),
            subscribers: subscribers
                .values()
                .map(|one| {
                    let registrations: Vec<String> = one.registrations.iter().map(describe).collect();
                    (one.authority.to_string(), format!("{:?} {registrations:?}", one.state))
                })
                .collect(),
            inbound: self.counters("shearwater_inbound_total{"),
            hints: self.counters("shearwater_hints_total{"),
            panics: self.relay.metric("shearwater_panics_total"),
            canary: self.canary.touched(),
            fetches: self.hosts.values().map(|host| host.gets().len()).sum(),
        }
    }

    /// The lines of one counter, by their labels.
    fn counters(&self, name: &str) -> BTreeMap<String, f64> {
        let text = self.relay.server.app().state.metrics.render();
        let line = |line: &str| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once("} ")?;
            Some((labels.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    fn compare(&self, case: &Case, before: &Look) -> Vec<String> {
        let (after, expect) = (self.look(), &case.expect);
        let mut wrong = Vec::new();
        let grown = |before: &BTreeMap<String, f64>, after: BTreeMap<String, f64>| -> Vec<String> {
            let old = |labels: &str| before.get(labels).copied().unwrap_or_default();
            after.into_iter().filter(|(labels, value)| *value > old(labels)).map(|(labels, _)| labels).collect()
        };
        let counted = grown(&before.inbound, after.inbound);
        let (result, reason) = match counted.first().map(String::as_str).map(labels) {
            Some(one) if counted.len() == 1 => one,
            None => ("", ""),
            Some(_) => return vec![format!("counted as {counted:?}")],
        };
        if expect.status == 202 && reason != expect.word {
            wrong.push(format!("202 because of {reason:?}, not of {:?}", expect.word));
        }
        if result == "accepted" && expect.log.is_empty() && !expect.joins {
            wrong.push("counted as accepted".to_owned());
        }
        let hints = grown(&before.hints, after.hints);
        let hint: Vec<&str> = hints.iter().map(|one| labels(one).0).collect();
        if hint != expect.hint.iter().map(String::as_str).collect::<Vec<_>>() {
            wrong.push(format!("the hint came to {hint:?}, not to {:?}", expect.hint));
        }
        let log = self.log_between(before.head, after.head);
        if log != expect.log {
            wrong.push(format!("the log got {log:?}, not {:?}", expect.log));
        }
        if !expect.joins && after.subscribers != before.subscribers {
            wrong.push(format!("the subscribers changed from {:#?} to {:#?}", before.subscribers, after.subscribers));
        }
        if after.canary > before.canary {
            wrong.push("a guarded address was dialled".to_owned());
        }
        if after.panics > before.panics {
            wrong.push("something panicked".to_owned());
        }
        let fetches = after.fetches - before.fetches;
        if expect.fetches.is_some_and(|expected| fetches != expected) || expect.fetches.is_none() && fetches > FETCHES {
            wrong.push(format!("{fetches} requests went out, not {:?}", expect.fetches));
        }
        wrong
    }

    fn log_between(&self, old: Seq, new: Seq) -> Vec<String> {
        let log = &self.relay.server.app().state.log;
        let kind = |at: u64| log.at_or_after(Seq(at)).expect("the log reads").map(|entry| format!("{:?}", entry.kind));
        (old.0 + 1..=new.0).filter_map(kind).collect()
    }

    /// Nobody got anything that came of an attack. A last honest post shows that whatever was on its way has arrived.
    async fn nobody_was_reached(&mut self, allowed: &BTreeSet<String>) {
        let members = json!({ "name": "the last post", "threats": [], "expect": { "status": 202, "word": "relayed", "log": ["Create"] } });
        let wrong = self.play(&Written::new(members, "0-controls.toml")).await;
        assert!(wrong.is_empty(), "{wrong:?}");
        let last = format!("{}/notes/{}", self.hosts["member"].origin, self.tag());
        let arrived = |receipts: &[shearwater::demo::Receipt]| {
            receipts.iter().any(|one| one.object.as_deref() == Some(last.as_str()))
        };
        assert!(self.reader.wait_received(Duration::from_secs(30), arrived).await, "the last post arrives");
        for receipt in self.reader.received() {
            let about = receipt.object.unwrap_or_default();
            let expected = about == last || allowed.contains(&about) || receipt.kind == "Accept";
            assert!(expected, "the reader got {} about {about}: {}", receipt.kind, receipt.body);
        }
        for (name, host) in &self.hosts {
            for body in host.posts() {
                let fine = body.contains(&last) || allowed.iter().any(|id| body.contains(id.as_str()));
                let answer = ["\"Accept\"", "\"Reject\"", "\"Follow\""].iter().any(|kind| body.contains(kind));
                assert!(fine || answer, "{name} got {body}");
            }
        }
    }
}

struct Look {
    head: Seq,
    subscribers: BTreeMap<String, String>,
    inbound: BTreeMap<String, f64>,
    hints: BTreeMap<String, f64>,
    panics: f64,
    canary: usize,
    fetches: usize,
}

/// The values of the labels `result` and `reason`, or of `outcome`.
fn labels(text: &str) -> (&str, &str) {
    let value = |name: &str| text.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
    match value("outcome") {
        Some(outcome) => (outcome, ""),
        None => (value("result").unwrap_or_default(), value("reason").unwrap_or_default()),
    }
}

fn judge_answer(case: &Case, answer: &Answer) -> Vec<String> {
    let expect = &case.expect;
    let mut wrong = Vec::new();
    if answer.status != expect.status {
        wrong.push(format!(
            "answered {} {}, not {}",
            answer.head.lines().next().unwrap_or_default(),
            answer.body,
            expect.status
        ));
    } else if expect.status >= 400 && !expect.word.is_empty() && answer.check().as_deref() != Some(&expect.word) {
        wrong.push(format!("refused because of {:?}, not of {:?}: {}", answer.check(), expect.word, answer.body));
    }
    if answer.status >= 500 && answer.status != 503 {
        wrong.push("a fault of the relay's own".to_owned());
    }
    wrong
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn bend(document: &mut Value, set: &serde_json::Map<String, Value>, remove: &[String]) {
    for (pointer, value) in set {
        case::set(document, pointer, value.clone());
    }
    for pointer in remove {
        case::remove(document, pointer);
    }
}

/// `now-2h`, `http+5m`, `unix`: RFC 3339, the form of a `Date` header, seconds.
fn moment(word: &str) -> Option<String> {
    let at = word.find(['+', '-']).unwrap_or(word.len());
    let (form, shift) = word.split_at(at);
    let now = Clock::system().now();
    let at: Timestamp = match shift.split_at(shift.len().min(1)) {
        ("+", span) => now.plus(span_of(span)?),
        ("-", span) => now.minus(span_of(span)?),
        _ => now,
    };
    match form {
        "now" => Some(at.rfc3339()),
        "http" => Some(at.http_date()),
        "unix" => Some(at.secs().to_string()),
        _ => None,
    }
}

fn span_of(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()? * unit))
}

/// Two hosts of which the one's name begins with the other's.
async fn member_and_prefix(tasks: &TaskTracker) -> (Host, Host) {
    for _ in 0..50 {
        let member = TcpListener::bind((OPEN, 0)).await.expect("a free port");
        let port = member.local_addr().expect("an address").port();
        if let Ok(prefix) = TcpListener::bind((OPEN, port / 10)).await {
            return (Host::on(member, tasks), Host::on(prefix, tasks));
        }
    }
    panic!("no two ports of which one begins with the other are free");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_the_corpus_has_an_effect() {
    let cases = read_all(&corpus());
    let mut scene = Scene::set().await;
    let (mut failed, mut allowed) = (Vec::new(), BTreeSet::new());
    let only = std::env::var("ATTACK").unwrap_or_default();
    assert!(attacks(&cases).any(|case| case.name().contains(&only)), "no case is called {only:?}");
    for written in cases.iter().filter(|case| case.is_control() || case.name().contains(&only)) {
        let wrong = scene.play(written).await;
        if written.is_control() {
            allowed.extend(scene.hosts.values().map(|host| format!("{}/notes/{}", host.origin, scene.tag())));
            assert!(wrong.is_empty(), "{}: {}", written.name(), wrong.join("\n"));
        }
        if !wrong.is_empty() {
            failed.push(format!("{}: {}:\n    {}", written.file(), written.name(), wrong.join("\n    ")));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
    scene.nobody_was_reached(&allowed).await;
    let metrics = scene.relay.server.app().state.metrics.render();
    assert!(!metrics.contains("127.0.0"), "the numbers name a stranger: {metrics}");
    assert!(metrics.lines().count() < 1000, "strangers make series: {metrics}");
    for (name, worker) in scene.relay.server.app().supervisor().status() {
        assert_eq!((worker.restarts, &worker.last_error), (0, &None), "{name}");
    }
}

#[test]
fn the_corpus_is_large_and_covers_what_it_says() {
    let cases = read_all(&corpus());
    let count = attacks(&cases).count();
    assert!(count >= 300, "only {count} cases");
    let names: BTreeSet<&str> = cases.iter().map(Written::name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let readme = std::fs::read_to_string(corpus().join("README.md")).expect("the README");
    let list = readme.split("Threats covered here: ").nth(1).and_then(|rest| rest.split('.').next());
    let claimed: BTreeSet<String> = list.expect("the list").split(',').map(|id| id.trim().to_owned()).collect();
    assert_eq!(
        threats().into_iter().map(|(_, id)| id).collect::<BTreeSet<_>>(),
        claimed,
        "the README claims other threats than the cases have"
    );
}

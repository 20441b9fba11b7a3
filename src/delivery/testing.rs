//! What the tests of this room are made of: entries, subscribers, and a world that answers as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::attempt::{Found, Reply};
use super::outgoing::Message;
use super::sharing::Manner;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::log::{Draft, Entry, Kind};
use crate::net::NetFault;
use crate::store::{Health, Mode, Registration, Style, Subscriber, SubscriberState};
use crate::wire::http_sig::Scheme;

/// 2026-08-23T12:00:00Z.
pub(super) const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

pub(super) fn iri(text: &str) -> Iri {
    Iri::parse(text).unwrap()
}

/// A post of `author.example`, carried to us by its own server, with what `change` makes of it.
pub(super) fn draft(number: u64, change: impl FnOnce(&mut Draft)) -> Draft {
    let mut draft = Draft {
        at: NOON,
        kind: Kind::Create,
        object: iri(&format!("https://author.example/notes/{number}")),
        actor: iri("https://author.example/users/ada"),
        activity: format!("https://author.example/notes/{number}/activity"),
        supplier: Authority::parse("author.example").unwrap(),
        carried: true,
        published: None,
        relayed: true,
        body: format!("{{\"n\":{number}}}").into(),
    };
    change(&mut draft);
    draft
}

pub(super) fn entry(number: u64, change: impl FnOnce(&mut Draft)) -> Entry {
    Entry { seq: Seq(number), draft: draft(number, change) }
}

/// An active subscriber in Mastodon's style, owed everything.
pub(super) fn subscriber(authority: &str, slot: u32) -> Subscriber {
    let at = |path: &str| iri(&format!("https://{authority}{path}"));
    Subscriber {
        authority: Authority::parse(authority).unwrap(),
        slot,
        state: SubscriberState::Active,
        start: Seq(1),
        mode: Mode::Auto,
        registrations: vec![Registration {
            actor: at("/actor"),
            style: Style::Mastodon,
            inbox: at("/inbox"),
            actor_inbox: at("/actor/inbox"),
            follow: (&json!({})).into(),
            at: NOON,
            personal: false,
        }],
        joined_at: NOON,
        seen_at: NOON,
        health: Health::default(),
        vouched_for: false,
        paused: None,
        posts: 0,
    }
}

/// A request that the world saw.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) host: String,
    pub(super) body: Value,
    pub(super) manner: Manner,
    pub(super) status: u16,
    pub(super) at: tokio::time::Instant,
}

/// A world that answers as it is told, in words: a status, `429 7` (with `Retry-After`), `hang` (no answer before the
/// timeout), `refuse` (no connection), `exhausted` (no descriptor of ours is left), `slow 5` (202 after so many seconds),
/// `refuses 5` (401 after so many). Hosts without a word answer 202 after 20 ms.
#[derive(Default)]
pub(super) struct World {
    script: Mutex<Vec<String>>,
    habits: Mutex<HashMap<String, String>>,
    posts: Mutex<Vec<Post>>,
    actors: Mutex<HashMap<Iri, Found>>,
}

impl World {
    /// The first requests are answered so, whoever they go to.
    pub(super) fn scripted(answers: &[&str]) -> Arc<Self> {
        let world = Self::default();
        world.script.lock().unwrap().extend(answers.iter().rev().map(ToString::to_string));
        Arc::new(world)
    }

    /// From now on this host answers so.
    pub(super) fn set(&self, host: &str, habit: &str) {
        self.habits.lock().unwrap().insert(host.to_owned(), habit.to_owned());
    }

    pub(super) fn set_actor(&self, id: &Iri, found: Found) {
        self.actors.lock().unwrap().insert(id.clone(), found);
    }

    pub(super) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// Forgets the requests it saw.
    pub(super) fn forget(&self) {
        self.posts.lock().unwrap().clear();
    }

    pub(super) fn count(&self) -> usize {
        self.posts.lock().unwrap().len()
    }

    /// What this host said 2xx to: of forwards the object's number, of Announces the object.
    pub(super) fn delivered(&self, host: &str) -> Vec<Value> {
        let posts = self.posts.lock().unwrap();
        posts.iter().filter(|post| post.host == host && post.status == 202).map(|post| post.body.clone()).collect()
    }

    pub(super) async fn post(
        &self,
        inbox: &Iri,
        message: &Message,
        manner: Manner,
        timeout: Duration,
    ) -> Result<Reply, NetFault> {
        let host = inbox.authority().to_string();
        let scripted = self.script.lock().unwrap().pop();
        let word = scripted.or_else(|| self.habits.lock().unwrap().get(&host).cloned()).unwrap_or("202".to_owned());
        let (first, rest) = word.split_once(' ').unwrap_or((&word, ""));
        let (status, takes) = match first {
            "hang" => (0, timeout),
            "refuse" | "exhausted" => (0, Duration::ZERO),
            "slow" => (202, Duration::from_secs(rest.parse().unwrap())),
            "refuses" => (401, Duration::from_secs(rest.parse().unwrap())),
            // A server that speaks RFC 9421 only.
            "new" => (if manner == Manner::Own(Scheme::Rfc9421) { 202 } else { 401 }, Duration::from_millis(20)),
            // A server that takes no signature but its own.
            "alone" => (if manner == Manner::Shared { 401 } else { 202 }, Duration::from_millis(20)),
            // A server that takes no forwards.
            "own" => (if message.body.starts_with(b"{\"n\"") { 403 } else { 202 }, Duration::from_millis(20)),
            status => (status.parse().unwrap(), Duration::from_millis(20)),
        };
        let late = takes >= timeout;
        tokio::time::sleep(takes.min(timeout)).await;
        let status = if late { 0 } else { status };
        let body = serde_json::from_slice(&message.body).unwrap();
        let at = tokio::time::Instant::now();
        self.posts.lock().unwrap().push(Post { host, body, manner, status, at });
        match status {
            0 if first == "refuse" => Err(NetFault::Connect),
            0 if first == "exhausted" => Err(NetFault::Exhausted),
            0 => Err(NetFault::Timeout),
            _ => Ok(Reply {
                status,
                retry_after: (first.parse::<u16>().is_ok() && !rest.is_empty()).then(|| rest.to_owned()),
            }),
        }
    }

    pub(super) fn actor(&self, id: &Iri) -> Found {
        self.actors.lock().unwrap().get(id).cloned().unwrap_or(Found::Unclear)
    }
}

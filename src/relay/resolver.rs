//! Reads what hints speak of. An Announce by a server's relay actor, or a push by its instance actor, names an object;
//! what may be believed of it is what its own origin says. So a worker with a cursor of its own reads each named object,
//! checks it, and appends what may be relayed. An object that turns out to be gone is a deletion.
//!
//! Several are read at once. A slow origin holds up nobody for longer than one fetch: what cannot be read now becomes a
//! row that is tried again later, for two days.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::Relay;
use super::route::{Facts, relayable};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::log::{Draft, Entry, Kind};
use crate::peers::PeerFault;
use crate::policy::Verdict;
use crate::store::{Position, Record, SeenSet, StoreError, Tx};
use crate::supervise::Worker;
use crate::wire::object::Post;

/// The worker's name, also that of its cursor.
pub const NAME: &str = "resolver";
/// Hints read at once.
const AT_ONCE: usize = 32;
/// Gaps between tries of one hint, in seconds; the last repeats until [`HORIZON`].
const GAPS: [u64; 5] = [30, 120, 600, 3600, 4 * 3600];
const HORIZON: Duration = Duration::from_secs(48 * 3600);
/// How often rows that wait are looked at, and a cursor that only skipped is written.
const POLL: Duration = Duration::from_secs(5);

/// A hint that could not be resolved yet. The key begins with the time it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingHint {
    object: Iri,
    actor: Iri,
    activity: String,
    supplier: Authority,
    at: Timestamp,
    attempts: u32,
}

impl Record for WaitingHint {
    const TABLE: &'static str = "hints";
}

/// The worker.
pub struct Resolver {
    relay: Relay,
    head: watch::Receiver<Seq>,
    position: Option<Position>,
    taken: Seq,
    saved: Seq,
    polled: Timestamp,
    running: JoinSet<(Task, Finding)>,
    rows: HashSet<String>,
    finished: Vec<Result<(Task, Finding), JoinError>>,
}

/// One hint under way: from a place in the log, or from a row.
enum Source {
    Log(Seq),
    Row(String),
}

struct Task {
    source: Source,
    hint: WaitingHint,
}

/// What the origin said.
enum Finding {
    Post(Box<Post>, Value),
    Gone,
    Never(&'static str),
    Later,
}

impl Resolver {
    /// A worker that begins where the last one stopped.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self {
            head: relay.0.log.follow(),
            relay,
            position: None,
            taken: Seq(0),
            saved: Seq(0),
            polled: Timestamp::default(),
            running: JoinSet::new(),
            rows: HashSet::new(),
            finished: Vec::new(),
        }
    }
}

impl Worker for Resolver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        self.load_position()?;
        while let Some(done) = self.running.try_join_next() {
            self.finished.push(done);
        }
        let finished = std::mem::take(&mut self.finished);
        let mut busy = !finished.is_empty();
        for done in finished {
            let (task, finding) = done?;
            self.settle(task, finding).await?;
        }
        busy |= self.read_log()?;
        let now = self.relay.0.clock.now();
        if now.since(self.polled) >= POLL {
            self.polled = now;
            busy |= self.read_rows(now)?;
            self.save_position().await?;
        }
        Ok(busy)
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.head.changed() => {}
            Some(done) = self.running.join_next(), if !self.running.is_empty() => self.finished.push(done),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

impl Resolver {
    fn load_position(&mut self) -> Result<(), StoreError> {
        if self.position.is_none() {
            let next = self.relay.0.store.worker_cursor(NAME)?.unwrap_or(Seq(1));
            self.position = Some(Position::at(next));
            self.taken = next;
            self.saved = next;
        }
        Ok(())
    }

    /// Takes up hints from the log as far as the window and the number at once allow; whether it got any further.
    fn read_log(&mut self) -> Result<bool, StoreError> {
        let Some(mut position) = self.position else { return Ok(false) };
        let mut further = false;
        while self.running.len() < AT_ONCE {
            let Some(entry) = self.relay.0.log.at_or_after(self.taken)? else { break };
            if position.next == self.taken {
                // Everything taken up is done: places that were trimmed between here and the entry are too.
                position = Position::at(entry.seq);
            }
            if entry.seq.0 >= position.next.0 + Position::WINDOW {
                break;
            }
            self.taken = entry.seq.next();
            further = true;
            if entry.kind == Kind::Hint {
                self.begin(Task { source: Source::Log(entry.seq), hint: WaitingHint::of(&entry) });
            } else {
                position.mark(entry.seq);
            }
        }
        self.position = Some(position);
        Ok(further)
    }

    /// Takes up rows whose time has come.
    fn read_rows(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let mut begun = false;
        for (key, hint) in self.relay.0.store.page::<WaitingHint>("", AT_ONCE * 2)? {
            if key > row_key(now, u64::MAX) || self.running.len() >= AT_ONCE {
                break;
            }
            if self.rows.insert(key.clone()) {
                self.begin(Task { source: Source::Row(key), hint });
                begun = true;
            }
        }
        Ok(begun)
    }

    async fn save_position(&mut self) -> Result<(), StoreError> {
        let Some(Position { next, .. }) = self.position else { return Ok(()) };
        if next != self.saved {
            self.relay.0.store.write(move |tx| tx.set_worker_cursor(NAME, next)).await?;
            self.saved = next;
        }
        Ok(())
    }

    fn begin(&mut self, task: Task) {
        let relay = self.relay.clone();
        self.running.spawn(async move {
            let finding = relay.find_out(&task.hint).await;
            (task, finding)
        });
    }

    /// Writes down what came of a hint, in one transaction with the move of the cursor.
    async fn settle(&mut self, task: Task, finding: Finding) -> Result<(), StoreError> {
        let mut position = self.position.unwrap_or_default();
        let row = match task.source {
            Source::Log(seq) => {
                position.mark(seq);
                None
            }
            Source::Row(key) => Some(key),
        };
        let (relay, hint, key, next) = (self.relay.clone(), task.hint, row.clone(), position.next);
        let outcome = self
            .relay
            .0
            .store
            .write(move |tx| {
                tx.set_worker_cursor(NAME, next)?;
                if let Some(key) = &key {
                    tx.remove::<WaitingHint>(key)?;
                }
                relay.conclude(tx, hint, finding)
            })
            .await?;
        self.relay.0.metrics.hints.with_label_values(&[outcome]).inc();
        self.position = Some(position);
        self.saved = next;
        if let Some(key) = row {
            self.rows.remove(&key);
        }
        Ok(())
    }
}

impl WaitingHint {
    fn of(entry: &Entry) -> Self {
        Self {
            object: entry.object.clone(),
            actor: entry.actor.clone(),
            activity: entry.activity.clone(),
            supplier: entry.supplier.clone(),
            at: entry.at,
            attempts: 0,
        }
    }
}

impl Relay {
    /// Reads the object from its origin.
    async fn find_out(&self, hint: &WaitingHint) -> Finding {
        if self.0.rules.verdict(&hint.object.authority()) != Verdict::Allow {
            return Finding::Never("origin-not-relayed");
        }
        match self.0.peers.document(&hint.object).await {
            Ok(document) if document.get("type").and_then(Value::as_str) == Some("Tombstone") => Finding::Gone,
            Ok(document) => match Post::read(&document) {
                Ok(post) if post.id == hint.object => Finding::Post(Box::new(post), document),
                Ok(_) => Finding::Never("another-id"),
                Err(_fault) => Finding::Never("object-kind-not-relayed"),
            },
            Err(PeerFault::Gone { .. }) => Finding::Gone,
            Err(PeerFault::TryLater(_)) => Finding::Later,
            Err(PeerFault::Forbidden) => Finding::Never("forbidden"),
            Err(PeerFault::Invalid(_) | PeerFault::Refused(_)) => Finding::Never("unreadable"),
        }
    }

    fn conclude(&self, tx: &mut Tx<'_>, hint: WaitingHint, finding: Finding) -> Result<&'static str, StoreError> {
        match finding {
            Finding::Never(why) => Ok(why),
            Finding::Later => self.wait_for(tx, hint),
            Finding::Gone => self.withdraw(tx, &hint),
            Finding::Post(post, document) => match self.judge(&hint, &post, &document) {
                Ok(draft) => self.relay(tx, draft),
                Err("not-public") => self.withdraw(tx, &hint),
                Err(why) => Ok(why),
            },
        }
    }

    fn wait_for(&self, tx: &mut Tx<'_>, mut hint: WaitingHint) -> Result<&'static str, StoreError> {
        let now = self.0.clock.now();
        if now.since(hint.at) > HORIZON {
            return Ok("expired");
        }
        let gap = GAPS.get(hint.attempts as usize).or(GAPS.last()).copied().unwrap_or(30);
        hint.attempts += 1;
        let number = tx.next_number("hints")?;
        tx.put(&row_key(now.plus(Duration::from_secs(gap)), number), &hint)?;
        Ok("later")
    }

    /// What was relayed is taken back: its origin says that it is gone, or no longer public.
    fn withdraw(&self, tx: &mut Tx<'_>, hint: &WaitingHint) -> Result<&'static str, StoreError> {
        if !tx.has_seen(SeenSet::Objects, &[hint.object.as_str()])? {
            return Ok("gone-or-not-public");
        }
        let mut draft = self.draft(hint, Kind::Delete, hint.actor.clone(), Bytes::new());
        if let Some(posted) = self.0.log.announced(&draft.announce_hash())? {
            draft.actor = posted.actor.clone();
        }
        self.delete(tx, draft)
    }

    fn judge(&self, hint: &WaitingHint, post: &Post, document: &Value) -> Result<Draft, &'static str> {
        let ids = &self.0.identity.ids;
        let facts = Facts {
            subscriber: None,
            following: None,
            rules: &self.0.rules,
            config: &self.0.config,
            origin: &ids.origin,
            actor: &ids.actor,
            now: self.0.clock.now(),
        };
        let owner = post.owner.clone().ok_or("no-author")?;
        if !owner.same_origin(&post.id) {
            return Err("author-of-another-origin");
        }
        relayable(post, None, &facts)?;
        let body = serde_json::to_vec(document).unwrap_or_default();
        let mut draft = self.draft(hint, Kind::Create, owner, body.into());
        draft.published = post.published;
        Ok(draft)
    }

    fn draft(&self, hint: &WaitingHint, kind: Kind, actor: Iri, body: Bytes) -> Draft {
        Draft {
            at: self.0.clock.now(),
            kind,
            object: hint.object.clone(),
            actor,
            activity: hint.activity.clone(),
            supplier: hint.supplier.clone(),
            carried: false,
            published: None,
            body,
        }
    }
}

fn row_key(due: Timestamp, number: u64) -> String {
    format!("{:015}-{number:020}", due.millis().max(0))
}

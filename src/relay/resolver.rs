//! Reads what hints speak of. An Announce by a server's relay actor, or a push by its instance actor, names an object;
//! what may be believed of it is what its own origin says. So a worker with a cursor of its own reads each named object,
//! checks it, and appends what may be relayed. An object that turns out to be gone is a deletion.
//!
//! A hint moves from the log into a row at once, in the transaction that moves the cursor: so the log can be trimmed, and
//! a slow origin holds up nobody (a queue says whose turn it is). What cannot be read now is tried again for two days.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::Relay;
use super::route::{Facts, MAX_CARRIED, SearchFacts, relayable};
use super::screening::FULL;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::log::{Draft, Entry, Kind};
use crate::peers::errands::Errands;
use crate::peers::queue::{Key, Standing};
use crate::peers::{POST_FAULT_LIFE, PeerFault};
use crate::policy::Verdict;
use crate::store::{Record, SeenSet, StoreError, Tx, Voted};
use crate::supervise::Worker;
use crate::wire::object::Post;
use crate::wire::text::Features;

/// The worker's name, also that of its cursor.
pub const NAME: &str = "resolver";
/// Log entries looked at in one unit of work, so that those whose time has come are begun in between.
const BATCH: usize = 256;
/// Hints read at once. Half of `fetch.in_flight`, so that keys find a place too.
const AT_ONCE: usize = 32;
/// Rows read at once while the index is made.
const PAGE: usize = 1000;
/// Gaps between tries of one hint, in seconds; the last repeats until [`HORIZON`]. The first is longer than a failure is
/// remembered, or that try would be none.
const GAPS: [u64; 5] = [65, 180, 600, 3600, 4 * 3600];
const _: () = assert!(GAPS[0] > POST_FAULT_LIFE.as_secs());
const HORIZON: Duration = Duration::from_secs(48 * 3600);
/// How often a cursor that only skipped is written, and the longest wait.
const POLL: Duration = Duration::from_secs(5);
/// How long to leave a busy store alone.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A hint that is not resolved yet. The key is the hash of the object's id: one row per object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingHint {
    object: Iri,
    actor: Iri,
    activity: String,
    supplier: Authority,
    at: Timestamp,
    attempts: u32,
    #[serde(default)]
    due: Timestamp,
    /// Somebody told us of it for the search alone, and nobody otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    for_search: bool,
}

impl Record for WaitingHint {
    const TABLE: &'static str = "hints";
}

/// The worker.
pub struct Resolver {
    relay: Relay,
    head: watch::Receiver<Seq>,
    /// Everything before it is in a row, or was none of ours; `None` until the rows are loaded.
    next: Option<Seq>,
    saved: Seq,
    polled: Timestamp,
    errands: Errands<WaitingHint, Finding>,
    /// What was found and is not written down yet.
    done: Vec<Arc<Done>>,
    store_busy: bool,
}

struct Done {
    key: Key,
    hint: WaitingHint,
    finding: Finding,
}

/// What the origin said.
enum Finding {
    Post(Box<Post>, Value, Box<Features>),
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
            next: None,
            saved: Seq(0),
            polled: Timestamp::default(),
            errands: Errands::new(AT_ONCE),
            done: Vec::new(),
            store_busy: false,
        }
    }
}

impl Worker for Resolver {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let worked = self.round().await;
        self.store_busy = matches!(worked, Err(StoreError::Busy));
        if self.store_busy { Ok(false) } else { Ok(worked?) }
    }

    async fn wait(&mut self) {
        if self.store_busy || !self.relay.has_room() {
            return tokio::time::sleep(BUSY_PAUSE).await;
        }
        let now = self.relay.0.clock.now();
        let nap = self.errands.queue.next_due().map_or(POLL, |due| due.since(now).min(POLL));
        tokio::select! {
            _ = self.head.changed() => {}
            () = self.errands.next_end() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
}

impl Resolver {
    /// One unit. Whatever the store refuses as busy is still there to be done in the next one.
    async fn round(&mut self) -> Result<bool, StoreError> {
        let next = self.open().await?;
        let settled = self.settle().await?;
        let further = self.take_in(next).await?;
        let begun = self.begin()?;
        Ok(settled || further || begun)
    }

    /// Makes the index of the rows, and finds the place in the log.
    async fn open(&mut self) -> Result<Seq, StoreError> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let store = &self.relay.0.store;
        let next = store.worker_cursor(NAME)?.unwrap_or(Seq(1));
        let (mut from, mut misplaced) = (String::new(), Vec::new());
        loop {
            let page = store.page::<WaitingHint>(&from, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("{last}\0");
            for (text, hint) in page {
                let key = hint.object.key();
                self.errands.queue.put(key, &hint.object.authority(), hint.due);
                if text != row(key) {
                    misplaced.push((text, hint));
                }
            }
            tokio::task::yield_now().await;
        }
        if !misplaced.is_empty() {
            // Before the first release the key was the time when the row was due.
            let moved = move |tx: &mut Tx<'_>| {
                misplaced.iter().try_for_each(|(old, hint)| {
                    tx.remove::<WaitingHint>(old)?;
                    tx.put(&row(hint.object.key()), hint)
                })
            };
            store.write(moved).await?;
        }
        (self.next, self.saved) = (Some(next), next);
        Ok(next)
    }

    /// Moves hints from the log into rows, and the cursor over them, in one transaction; whether it got any further.
    async fn take_in(&mut self, from: Seq) -> Result<bool, StoreError> {
        let (mut next, mut rows, mut new) = (from, HashMap::new(), Vec::new());
        for _ in 0..BATCH {
            let Some(entry) = self.relay.0.log.at_or_after(next)? else { break };
            next = entry.seq.next();
            if entry.kind != Kind::Hint {
                continue;
            }
            let (key, server) = (entry.object.key(), entry.object.authority());
            let mut hint = WaitingHint::of(&entry);
            match self.errands.queue.standing(key, &server) {
                Standing::New => {
                    self.errands.queue.put(key, &server, hint.due);
                    new.push(key);
                }
                // The newest counts, and is tried at once: its sender thinks that the object can be read now.
                Standing::Waiting(due) => {
                    hint.due = hint.due.min(due);
                    self.errands.queue.put(key, &server, hint.due);
                    self.count("queued-before");
                }
                // What is relayed already, or said to have changed, may have done so since its reading began.
                Standing::Running
                    if entry.is_recheck()
                        || (entry.relayed && self.is_read_for_search(key))
                        || self.relay.0.store.has_seen(SeenSet::Objects, &[entry.object.as_str()])? =>
                {
                    self.errands.queue.repeat(key);
                }
                Standing::Running => {
                    self.count("queued-before");
                    continue;
                }
                Standing::Full => {
                    self.count("full");
                    continue;
                }
            }
            // Who told the relay of it means everybody, whoever else tells us.
            hint.for_search &= rows.get(&key).is_none_or(|before: &WaitingHint| before.for_search);
            rows.insert(key, hint);
        }
        let now = self.relay.0.clock.now();
        let pause = now.since(self.polled) < POLL;
        if next != self.saved && !(rows.is_empty() && pause) {
            let put = move |tx: &mut Tx<'_>| {
                for (key, hint) in &mut rows {
                    let key = row(*key);
                    hint.for_search &= tx.get::<WaitingHint>(&key)?.is_none_or(|before| before.for_search);
                    tx.put(&key, hint)?;
                }
                tx.set_worker_cursor(NAME, next)
            };
            if let Err(error) = self.relay.0.store.write(put).await {
                new.into_iter().for_each(|key| self.errands.queue.remove(key));
                return Err(error);
            }
            (self.saved, self.polled) = (next, now);
        }
        self.next = Some(next);
        Ok(next != from)
    }

    /// Whether it is being read for the search alone.
    fn is_read_for_search(&self, key: Key) -> bool {
        self.errands.running(key).is_some_and(|hint| hint.for_search)
    }

    /// Begins to read what is due, as far as the queue allows.
    fn begin(&mut self) -> Result<bool, StoreError> {
        // What is found would be appended: it waits in its row until the disk has room.
        if !self.relay.has_room() {
            return Ok(false);
        }
        let (relay, now) = (&self.relay, self.relay.0.clock.now());
        let read = |hint: WaitingHint| {
            let relay = relay.clone();
            async move { relay.find_out(&hint).await }
        };
        self.errands.begin(now, |key| relay.0.store.get::<WaitingHint>(&row(key)), read)
    }

    /// Writes down what came of hints, and whether their rows stay; whether there were any.
    async fn settle(&mut self) -> Result<bool, StoreError> {
        self.gather();
        if self.done.is_empty() {
            return Ok(false);
        }
        let repeats: Vec<bool> = self.done.iter().map(|one| self.errands.queue.repeats(one.key)).collect();
        let (relay, done) = (self.relay.clone(), self.done.clone());
        let conclude = move |tx: &mut Tx<'_>| {
            let all = done.iter().zip(repeats);
            all.map(|(one, repeat)| relay.conclude(tx, one, repeat)).collect::<Result<Vec<_>, _>>()
        };
        let ends = self.relay.0.store.write(conclude).await?;
        for (one, (outcome, due)) in std::mem::take(&mut self.done).iter().zip(ends) {
            self.errands.queue.finish(one.key, due);
            self.count(outcome);
        }
        Ok(true)
    }

    /// Takes up readings that ended. One that fell counts as a try, and the others go on.
    fn gather(&mut self) {
        let metrics = &self.relay.0.metrics;
        let ends = self.errands.ends(|error| {
            metrics.panics.inc();
            tracing::error!(%error, "the reading of a hint fell");
        });
        let done = ends
            .into_iter()
            .map(|(key, hint, finding)| Arc::new(Done { key, hint, finding: finding.unwrap_or(Finding::Later) }));
        self.done.extend(done);
    }

    fn count(&self, outcome: &'static str) {
        self.relay.0.metrics.hints.with_label_values(&[outcome]).inc();
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
            due: entry.at,
            for_search: !entry.relayed,
        }
    }
}

impl Relay {
    /// Reads the object from its origin, unless a rule is against it or against who told us.
    async fn find_out(&self, hint: &WaitingHint) -> Finding {
        let object = &hint.object;
        let ruling = self.0.rules.set().post(&hint.actor, object, &hint.supplier, self.0.clock.now());
        ruling.count_dry(&self.0.metrics);
        if ruling.verdict != Verdict::Allow {
            ruling.count(&self.0.metrics);
            return Finding::Never("origin-not-relayed");
        }
        match self.0.peers.document(object).await {
            Ok(document) if document.get("type").and_then(Value::as_str) == Some("Tombstone") => Finding::Gone,
            Ok(document) => match Post::read(&document) {
                Ok(post) => {
                    let features = Box::new(Features::of(&document));
                    if self.says_forbidden_words(&features.words()) {
                        return Finding::Never("keyword");
                    }
                    Finding::Post(Box::new(post), document, features)
                }
                Err(_fault) => Finding::Never("object-kind-not-relayed"),
            },
            Err(PeerFault::Gone { .. }) => Finding::Gone,
            Err(PeerFault::TryLater(_)) => Finding::Later,
            Err(PeerFault::Forbidden) => Finding::Never("forbidden"),
            Err(PeerFault::Invalid(_) | PeerFault::Refused(_)) => Finding::Never("unreadable"),
        }
    }

    /// Does what follows from a finding; in a word, what came of it, and until when the row waits if it stays. If it
    /// `repeats`, what is in the row now is newer than what was read for.
    fn conclude(
        &self,
        tx: &mut Tx<'_>,
        done: &Done,
        repeats: bool,
    ) -> Result<(&'static str, Option<Timestamp>), StoreError> {
        let mut hint = done.hint.clone();
        let mut due = repeats.then(|| self.0.clock.now());
        let outcome = match &done.finding {
            // A rule against who told us says nothing of the post; one against its author is the sweeper's to see.
            Finding::Never(why @ "origin-not-relayed") => why,
            Finding::Never(why) => Self::hide(tx, &hint, why)?,
            Finding::Later if repeats => "later",
            Finding::Later => {
                due = self.next_try(&mut hint);
                if due.is_some() { "later" } else { Self::hide(tx, &hint, "expired")? }
            }
            Finding::Gone => self.withdraw(tx, &hint)?,
            Finding::Post(post, ..) if !post.id.same_origin(&hint.object) => Self::hide(tx, &hint, "another-id")?,
            Finding::Post(post, document, features) => {
                // The hint's id may be only a way to the post, such as its page: the origin's own id is the one that
                // counts, or it would be relayed once under each.
                hint.object = post.id.clone();
                match self.judge(&hint, post, document) {
                    // Too old to be relayed, but not to be found.
                    Ok((draft, Err(why))) => match self.refresh(tx, draft)? {
                        "change-for-search" => "change-for-search",
                        _ => why,
                    },
                    Ok((draft, Ok(()))) => {
                        let word = match self.relay(tx, draft.clone(), features)? {
                            "relayed-before" | "taken-before" => self.refresh(tx, draft)?,
                            word => word,
                        };
                        if word == FULL && !repeats {
                            due = self.next_try(&mut hint);
                        }
                        word
                    }
                    Err("not-public") => self.withdraw(tx, &hint)?,
                    Err(why @ ("origin-not-relayed" | "blocked-actor")) => why,
                    Err(why) => Self::hide(tx, &hint, why)?,
                }
            }
        };
        let key = row(done.key);
        match due {
            None => tx.remove::<WaitingHint>(&key).map(|_there| ())?,
            Some(_) if repeats => {}
            Some(_) => tx.put(&key, &hint)?,
        }
        Ok((outcome, due))
    }

    /// When to try again, noted in the hint; `None` if it is too old for that.
    fn next_try(&self, hint: &mut WaitingHint) -> Option<Timestamp> {
        let now = self.0.clock.now();
        if now.since(hint.at) > HORIZON {
            return None;
        }
        let gap = GAPS.get(hint.attempts as usize).or(GAPS.last()).copied().unwrap_or(30);
        hint.attempts = hint.attempts.saturating_add(1);
        hint.due = now.plus(Duration::from_secs(gap));
        Some(hint.due)
    }

    /// What its origin does not show us when we ask, because it was said to have changed or gone, is not found any longer,
    /// nor what we would not take as it is now; it may come back when it can be read again. It is no deletion: others keep
    /// what they have.
    fn hide(tx: &mut Tx<'_>, hint: &WaitingHint, why: &'static str) -> Result<&'static str, StoreError> {
        tx.drop_indexed_post(&hint.object)?;
        tx.take_back_post(Voted::Post(&hint.object))?;
        Ok(why)
    }

    /// What was read again and is still there may say something else now: the search is told.
    fn refresh(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        let is_searched = self.0.store.search_servers().contains_key(&draft.actor.authority());
        if !(is_searched || self.0.trends.is_on()) || !Self::is_theirs(tx, &draft.actor, &draft.object)? {
            return Ok("relayed-before");
        }
        Self::void_earlier(tx, &draft.actor, &draft.object)?;
        self.0.log.append(tx, Draft { kind: Kind::Update, relayed: false, ..draft })?;
        Ok("change-for-search")
    }

    /// What was relayed, or may be found, is taken back: its origin says that it is gone, or no longer public.
    fn withdraw(&self, tx: &mut Tx<'_>, hint: &WaitingHint) -> Result<&'static str, StoreError> {
        let relayed = tx.has_seen(SeenSet::Objects, &[hint.object.as_str()])?;
        if !relayed && !Self::is_searched(tx, &hint.object)? {
            return Ok("gone-or-not-public");
        }
        let mut draft = self.draft(hint, Kind::Delete, hint.actor.clone(), Bytes::new());
        // Who told us need not be the author, and nobody here may know any longer who is: its origin has the last word.
        if let Some(posted) = self.0.log.announced(&draft.announce_hash())? {
            draft.actor = posted.actor.clone();
        } else if let Some((_, post)) = tx.indexed_post(&hint.object)? {
            draft.actor = post.author;
        }
        self.erase(tx, draft)
    }

    /// The post as it may be appended, and whether it may be relayed: one that is only too old, or a reply, may be held.
    fn judge(
        &self,
        hint: &WaitingHint,
        post: &Post,
        document: &Value,
    ) -> Result<(Draft, Result<(), &'static str>), &'static str> {
        let ids = &self.0.identity.ids;
        let (rules, now) = (self.0.rules.set(), self.0.clock.now());
        let facts = Facts {
            subscriber: None,
            author: None,
            publishes: false,
            author_publishes: false,
            following: None,
            search: SearchFacts::none(&self.0.identity.search.actor),
            rules: &rules,
            config: &self.0.config,
            origin: &ids.origin,
            actor: &ids.actor,
            now,
        };
        let owner = post.owner.clone().ok_or("no-author")?;
        if !owner.same_origin(&post.id) {
            return Err("author-of-another-origin");
        }
        // Again: the rules may have changed while it was read, and only now its author is known.
        let ruling = rules.post(&owner, &post.id, &hint.supplier, now);
        ruling.count_dry(&self.0.metrics);
        if ruling.verdict != Verdict::Allow {
            ruling.count(&self.0.metrics);
            let of_actor = ruling.by.is_some_and(|one| one.rule.target.kind() == "actor");
            return Err(if of_actor { "blocked-actor" } else { "origin-not-relayed" });
        }
        let relayable = match relayable(post, None, &facts) {
            Err(why @ ("too-old" | "reply")) => Err(why),
            other => other.map(Ok)?,
        };
        let is_searched = self.0.search.is_on() && self.0.store.search_servers().contains_key(&owner.authority());
        if hint.for_search && !is_searched {
            return Err("search-not-on");
        }
        // Search and trends alone have a use for it: whoever it is announced to reads it from its origin.
        let body = if is_searched || self.0.trends.is_on() {
            serde_json::to_vec(document).unwrap_or_default()
        } else {
            Vec::new()
        };
        let body = if body.len() <= MAX_CARRIED { body } else { Vec::new() };
        let mut draft = self.draft(hint, Kind::Create, owner, body.into());
        draft.published = post.published;
        Ok((draft, relayable))
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
            relayed: !hint.for_search,
            body,
        }
    }
}

/// Whether a hint about this object waits or is being read. One that is still in the log alone does not count: its reading
/// has not begun.
pub(super) fn waits(tx: &Tx<'_>, object: &Iri) -> Result<bool, StoreError> {
    Ok(tx.get::<WaitingHint>(&row(object.key()))?.is_some())
}

fn row(key: Key) -> String {
    format!("{key:032x}")
}

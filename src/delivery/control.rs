//! Messages to one server (Accept, Reject, Follow, Undo, Update of our actor): a worker of their own carries them, one at a time and in the
//! order they were made to each server, to several servers at once. They are few and each matters, so each is a row in the
//! store until it has a final answer or is too old, and a failure is tried again after the same gaps as a lane's.
//!
//! Promise: servers that do not answer hold up others' messages for no longer than one attempt takes. Who has waited longest
//! goes first, however long ago a message was made, and one registrable domain has few of the places however many names it
//! has below it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Notify, mpsc};

use super::attempt::{self, Letter, Outcome, Report};
use super::outgoing::Message;
use super::sharing::Manner;
use super::{Shared, backoff};
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::policy::Verdict;
use crate::store::{AuthorityFacts, ControlRow, StoreError};
use crate::supervise::Worker;
use crate::wire::http_sig::Scheme;

/// Messages under way at once.
const IN_FLIGHT: usize = 16;
/// Of these, to the servers of one registrable domain. More, and one wildcard name whose servers hang has every place.
const IN_FLIGHT_OF_DOMAIN: usize = 2;
/// Rows read in one go.
const PAGE: usize = 256;
/// The longest that a row waits unnoticed, should nobody say that it is there.
const ROUND: Duration = Duration::from_secs(1);
/// A server that has shown that it lives is tried again at once, but not more often than this.
const REVIVAL: Duration = Duration::from_secs(10);
/// Mastodon before 4.4 says 401 when it could not read our key just then, so that is believed only after so many times.
const UNVERIFIED: u32 = 5;

/// What the others see of this worker: how it is woken.
#[derive(Default)]
pub(super) struct Errands {
    woken: Notify,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    /// A message is under way to them.
    busy: HashSet<Authority>,
    /// A message to them failed and waits.
    late: HashSet<Authority>,
    /// They were late and have shown that they live.
    revived: Vec<Authority>,
}

impl Errands {
    /// Rows were written.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// A verified request came from this server.
    pub(super) fn revive(&self, authority: &Authority) {
        let mut servers = self.servers();
        if servers.late.remove(authority) {
            servers.revived.push(authority.clone());
            self.woken.notify_one();
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker. It holds of each row only where it goes and when.
pub(super) struct Control {
    shared: Arc<Shared>,
    rows: BTreeMap<String, Row>,
    last: String,
    tell: mpsc::Sender<(String, Option<Timestamp>)>,
    told: mpsc::Receiver<(String, Option<Timestamp>)>,
}

struct Row {
    authority: Authority,
    due: Timestamp,
    tried: Option<Timestamp>,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (tell, told) = mpsc::channel(2 * IN_FLIGHT);
        Self { shared, rows: BTreeMap::new(), last: String::new(), tell, told }
    }

    /// Takes note of rows written since the last look.
    fn load(&mut self) -> Result<(), StoreError> {
        loop {
            let from = if self.last.is_empty() { String::new() } else { format!("{}\0", self.last) };
            let page = self.shared.store.page::<ControlRow>(&from, PAGE)?;
            let full = page.len() == PAGE;
            for (key, row) in page {
                self.last.clone_from(&key);
                self.rows.insert(key, Row { authority: row.authority(), due: row.due, tried: None });
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Takes note of how one message fared: until when it waits, or that it is settled.
    fn settle(&mut self, key: &str, due: Option<Timestamp>) {
        match (due, self.rows.get_mut(key)) {
            (Some(due), Some(row)) => {
                (row.due, row.tried) = (due, Some(self.shared.clock.now()));
                self.shared.errands.servers().late.insert(row.authority.clone());
            }
            _ => {
                let settled = self.rows.remove(key);
                // The last of a server's messages takes the note that it is late with it.
                let mut servers = self.shared.errands.servers();
                if let Some(row) = settled
                    && servers.late.contains(&row.authority)
                    && !self.rows.values().any(|other| other.authority == row.authority)
                {
                    servers.late.remove(&row.authority);
                }
            }
        }
    }

    fn revive(&mut self) {
        let revived: HashSet<Authority> = self.shared.errands.servers().revived.drain(..).collect();
        let now = self.shared.clock.now();
        for row in self.rows.values_mut().filter(|row| revived.contains(&row.authority)) {
            let earliest = row.tried.map_or(now, |tried| tried.plus(REVIVAL).max(now));
            row.due = row.due.min(earliest);
        }
    }

    /// Sends what is due: of each server its oldest message, and first to whom it has been due for longest.
    fn launch(&self) -> bool {
        let now = self.shared.clock.now();
        let mut due = Vec::new();
        {
            let mut servers = self.shared.errands.servers();
            let mut passed = HashSet::new();
            let mut waiting: Vec<_> = self.rows.iter().filter(|(_, row)| passed.insert(&row.authority)).collect();
            waiting.retain(|(_, row)| row.due <= now && !servers.busy.contains(&row.authority));
            // Of those due at the same moment, the one made first.
            waiting.sort_by_key(|(_, row)| row.due);
            let mut of_domain = HashMap::<_, usize>::new();
            for busy in &servers.busy {
                *of_domain.entry(busy.registrable().to_owned()).or_default() += 1;
            }
            for (key, row) in waiting {
                if servers.busy.len() >= IN_FLIGHT {
                    break;
                }
                let count = of_domain.entry(row.authority.registrable().to_owned()).or_default();
                if *count < IN_FLIGHT_OF_DOMAIN {
                    *count += 1;
                    servers.busy.insert(row.authority.clone());
                    servers.late.remove(&row.authority);
                    due.push((key.clone(), row.authority.clone()));
                }
            }
        }
        let any = !due.is_empty();
        for (key, authority) in due {
            let errand = Errand { shared: self.shared.clone(), key, authority };
            let tell = self.tell.clone();
            let cut = self.shared.supervisor.cut().clone();
            drop(self.shared.supervisor.spawn(async move {
                if let Some(due) = cut.run_until_cancelled(errand.run()).await {
                    // A worker made anew reads it from the store.
                    let _ = tell.send((errand.key.clone(), due)).await;
                }
                drop(errand);
            }));
        }
        any
    }
}

impl Worker for Control {
    fn name(&self) -> &'static str {
        "control"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        while let Ok((key, due)) = self.told.try_recv() {
            self.settle(&key, due);
        }
        self.load().context("reading messages to single servers")?;
        self.revive();
        Ok(self.launch())
    }

    async fn wait(&mut self) {
        let now = self.shared.clock.now();
        let next = self.rows.values().map(|row| row.due.since(now)).filter(|wait| !wait.is_zero()).min();
        let shared = self.shared.clone();
        tokio::select! {
            Some((key, due)) = self.told.recv() => self.settle(&key, due),
            () = shared.errands.woken.notified() => {}
            () = tokio::time::sleep(next.unwrap_or(ROUND).min(ROUND)) => {}
        }
    }
}

/// One message on its way.
struct Errand {
    shared: Arc<Shared>,
    key: String,
    authority: Authority,
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.shared.errands.servers().busy.remove(&self.authority);
        self.shared.errands.wake();
    }
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is settled: a word for the counter.
    Settled(&'static str),
    /// It is tried again after this.
    Again(Duration),
}

/// How often a server may say that it cannot verify a message before that is believed. An Update of our actor is signed
/// with the old key: who does not know that any longer has read our actor anew and needs no telling.
fn patience(what: &str) -> u32 {
    if what == "update" { 1 } else { UNVERIFIED }
}

/// Decides on a row that was sent `attempts` times before this report. `unverified`: how often a server may say that it
/// cannot verify us.
fn fate(outcome: Outcome, attempts: u32, unverified: u32, gap: Duration) -> Fate {
    match outcome {
        Outcome::Delivered => Fate::Settled("delivered"),
        Outcome::Later { after, .. } => Fate::Again(after.unwrap_or(gap)),
        Outcome::Ours => Fate::Again(gap),
        Outcome::Unverified if attempts + 1 < unverified => Fate::Again(gap),
        Outcome::Unverified
        | Outcome::Done
        | Outcome::Downgrade
        | Outcome::Forbidden
        | Outcome::Gone
        | Outcome::Moved => Fate::Settled("refused"),
    }
}

impl Errand {
    /// Sends the row, and writes down what became of it: when it is due again, or `None` when it is settled.
    async fn run(&self) -> Option<Timestamp> {
        let now = self.shared.clock.now();
        let retry_soon = Some(now.plus(Duration::from_secs(30)));
        let row = match self.shared.store.get::<ControlRow>(&self.key) {
            Ok(row) => row?,
            Err(error) => {
                tracing::error!(peer.host = %self.authority, %error, "a message to it cannot be read");
                return retry_soon;
            }
        };
        let (fate, reason) = if now.since(row.at) > self.shared.config.control_horizon {
            (Fate::Settled("expired"), "too old".into())
        } else if self.is_blocked(&row, now) {
            (Fate::Settled("blocked"), "a rule is against it".into())
        } else {
            let report = self.send(&row).await;
            let gap = backoff::gap(&self.shared.config.retry, row.attempts.saturating_add(1), backoff::roll());
            (fate(report.outcome, row.attempts, patience(&row.what), gap), report.reason)
        };
        let (result, due) = match fate {
            Fate::Settled(result) => (result, None),
            Fate::Again(gap) => ("later", Some(self.shared.clock.now().plus(gap))),
        };
        self.shared.metrics.control.with_label_values(&[kind(&row.what), result]).inc();
        match result {
            "delivered" => tracing::debug!(peer.host = %self.authority, what = row.what, "delivered"),
            "later" => {
                tracing::info!(peer.host = %self.authority, what = row.what, %reason, attempt = row.attempts + 1, "later");
            }
            _ => tracing::warn!(peer.host = %self.authority, what = row.what, %reason, result, "not delivered"),
        }
        match self.write_down(row, due).await {
            Ok(()) => due,
            Err(error) => {
                tracing::warn!(peer.host = %self.authority, %error, "a message's fate was not written: it is sent again");
                retry_soon
            }
        }
    }

    /// A blocked server is told that it is over, and nothing else.
    fn is_blocked(&self, row: &ControlRow, now: Timestamp) -> bool {
        let rules = self.shared.rules.policy.set();
        rules.verdict(&self.authority, now) == Verdict::Block && !row.is_parting()
    }

    async fn send(&self, row: &ControlRow) -> Report {
        let facts = self.shared.store.get::<AuthorityFacts>(self.authority.as_str());
        let scheme = facts.ok().flatten().and_then(|facts| facts.scheme).unwrap_or(Scheme::Cavage);
        let message = Message::new(row.body.clone().into());
        let from = row.from.as_ref();
        // It is one server's business: its signature is for that server alone.
        let manner = Manner::Own(scheme);
        let letter = Letter { inbox: &row.inbox, message: &message, forwarded: false, manner, from };
        let timeout = self.shared.config.timeout;
        let knocks = attempt::send(&self.shared.courier, &letter, timeout, &self.shared.clock);
        // Each knock has a timeout of its own; all of one attempt have one as well, as a lane's have.
        let report = tokio::time::timeout(timeout * 3 / 2, knocks).await.unwrap_or(Report {
            outcome: Outcome::Later { after: None, answered: false },
            reason: Cow::Borrowed("timeout"),
            learned: None,
            heard: None,
        });
        if let Some(scheme) = report.learned {
            self.shared.remember(&self.authority, move |facts| facts.scheme = Some(scheme)).await;
        }
        report
    }

    async fn write_down(&self, mut row: ControlRow, due: Option<Timestamp>) -> Result<(), StoreError> {
        row.attempts = row.attempts.saturating_add(1);
        let key = self.key.clone();
        let written = self.shared.store.write(move |tx| match due {
            Some(due) if tx.get::<ControlRow>(&key)?.is_some() => tx.put(&key, &ControlRow { due, ..row }),
            Some(_) => Ok(()),
            None => tx.remove_control(&key).map(|_there| ()),
        });
        written.await
    }
}

/// The label of a message: a fixed word.
fn kind(what: &str) -> &'static str {
    match what {
        "accept" => "accept",
        "reject" => "reject",
        "follow" => "follow",
        "undo" => "undo",
        "update" => "update",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_settled_by_a_final_answer_and_else_tried_again() {
        let gap = Duration::from_secs(30);
        let later = |after: Option<u64>| Outcome::Later { after: after.map(Duration::from_secs), answered: true };
        assert_eq!(fate(Outcome::Delivered, 0, UNVERIFIED, gap), Fate::Settled("delivered"));
        assert_eq!(fate(later(None), 40, UNVERIFIED, gap), Fate::Again(gap));
        assert_eq!(fate(later(Some(7)), 0, UNVERIFIED, gap), Fate::Again(Duration::from_secs(7)));
        assert_eq!(fate(Outcome::Unverified, 3, UNVERIFIED, gap), Fate::Again(gap));
        assert_eq!(fate(Outcome::Unverified, 4, UNVERIFIED, gap), Fate::Settled("refused"));
        assert_eq!(fate(Outcome::Unverified, 0, patience("update"), gap), Fate::Settled("refused"));
        assert_eq!(fate(Outcome::Unverified, 0, patience("accept"), gap), Fate::Again(gap));
        for outcome in [Outcome::Done, Outcome::Forbidden, Outcome::Gone, Outcome::Moved] {
            assert_eq!(fate(outcome, 0, UNVERIFIED, gap), Fate::Settled("refused"), "{outcome:?}");
        }
    }
}

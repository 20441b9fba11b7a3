//! Reads authors: those whose posts wait for it, those whose profile changed, and everyone of whom posts are held once a
//! week, because a consent that nobody has looked at for longer is none. One row per author, kept until it was read.
//!
//! What their own document says then counts at once for all that is held of them. Who is gone is forgotten; who does not
//! show themselves to us is hidden, and forgotten if that is so again a day later; whose server does not answer is hidden
//! after two weeks and forgotten after thirty days.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Search;
use super::gather::Found;
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};
use crate::peers::errands::Errands;
use crate::peers::queue::{Key, Standing};
use crate::peers::{PeerFault, Reading};
use crate::store::{Hidden, IndexedAuthor, Record, StoreError, Tx};
use crate::supervise::Worker;

/// The worker's name.
pub const NAME: &str = "author-reader";
/// Authors read at once. A quarter of `fetch.in_flight`: keys and hints find places too.
const AT_ONCE: usize = 16;
/// Rows looked at in one go.
const PAGE: usize = 500;
/// Posts of one author that wait for it to be read; what comes after them is found when it is edited, or not.
const MOST_POSTS: usize = 64;
/// Gaps between tries, in seconds; the last repeats.
const GAPS: [u64; 5] = [65, 180, 600, 3600, 4 * 3600];
/// After this long the posts that wait are given up: what is found so late is no news.
const PATIENCE: Duration = Duration::from_secs(48 * 3600);
/// Everyone is read again after so long, give or take a tenth, so that they do not come all at once.
const REREAD: Duration = Duration::from_secs(6 * 24 * 3600);
const SPREAD: u64 = 24 * 3600;
/// How often it is looked whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Between two refusals of the origin, before the second counts.
const SECOND_REFUSAL: Duration = Duration::from_secs(24 * 3600);
/// Not read for so long: hidden, then forgotten.
const HIDE_AFTER: Duration = Duration::from_secs(14 * 24 * 3600);
const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// Why an author is hidden.
const FORBIDDEN: &str = "forbidden";
const UNREACHABLE: &str = "unreachable";
/// The longest wait.
const POLL: Duration = Duration::from_secs(5);

/// An author that is to be read. Keyed by a hash of the id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorToRead {
    actor: Iri,
    at: Timestamp,
    due: Timestamp,
    attempts: u32,
    /// Log entries that wait for it.
    posts: Vec<Seq>,
}

impl Record for AuthorToRead {
    const TABLE: &'static str = "authors_to_read";
}

impl AuthorToRead {
    /// Asks for this author to be read now, for the sake of a post in the log or of the author themself.
    pub(super) fn ask(tx: &mut Tx<'_>, actor: &Iri, post: Option<Seq>, now: Timestamp) -> Result<(), StoreError> {
        let key = row(key_of(actor));
        let mut known = tx.get::<Self>(&key)?.unwrap_or_else(|| Self {
            actor: actor.clone(),
            at: now,
            due: now,
            attempts: 0,
            posts: Vec::new(),
        });
        // A post may be the first sign that its server answers again, but does not make us ask it for every one.
        if post.is_none() {
            known.due = now;
        }
        known.posts.extend(post.filter(|_| known.posts.len() < MOST_POSTS));
        tx.put(&key, &known)
    }
}

/// The worker.
pub struct AuthorReader {
    search: Search,
    errands: Errands<AuthorToRead, Finding>,
    done: Vec<Arc<Done>>,
    looked_at: Timestamp,
    loaded: bool,
    busy: bool,
}

struct Done {
    key: Key,
    row: AuthorToRead,
    finding: Finding,
}

/// What the origin said, and what that makes of the posts that wait.
enum Finding {
    Read(Arc<Reading>, Vec<Found>),
    Gone,
    Forbidden,
    Unreadable,
    Later,
}

impl AuthorReader {
    /// A worker.
    #[must_use]
    pub fn new(search: Search) -> Self {
        let errands = Errands::new(AT_ONCE);
        Self { search, errands, done: Vec::new(), looked_at: Timestamp::default(), loaded: false, busy: false }
    }

    async fn round(&mut self) -> Result<bool, StoreError> {
        let settled = self.settle().await?;
        self.look().await?;
        self.load()?;
        let (search, now) = (self.search.clone(), self.search.0.clock.now());
        let read = |row: AuthorToRead| {
            let search = search.clone();
            async move { search.find_out(&row).await }
        };
        let begun = self.errands.begin(now, |key| search.0.store.get::<AuthorToRead>(&row(key)), read)?;
        Ok(settled || begun)
    }

    /// Puts rows that are new into the queue.
    fn load(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.loaded, true) {
            return Ok(());
        }
        let mut from = String::new();
        loop {
            let page = self.search.0.store.page::<AuthorToRead>(&from, PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = format!("{last}\0");
            for (_, row) in page {
                let (key, server) = (key_of(&row.actor), row.actor.authority());
                match self.errands.queue.standing(key, &server) {
                    Standing::New | Standing::Waiting(_) => self.errands.queue.put(key, &server, row.due),
                    Standing::Running => self.errands.queue.repeat(key),
                    Standing::Full => {}
                }
            }
        }
    }

    /// Once an hour: whose reading is about a week old?
    async fn look(&mut self) -> Result<(), StoreError> {
        let now = self.search.0.clock.now();
        if now.since(self.looked_at) < LOOK_EVERY {
            return Ok(());
        }
        let mut from = String::new();
        loop {
            let page = self.search.0.store.page::<IndexedAuthor>(&from, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = format!("{last}\0");
            let old: Vec<Iri> = page
                .into_iter()
                .filter_map(|(actor, author)| Some((Iri::parse(&actor).ok()?, author)))
                .filter(|(actor, author)| now.since(author.read_at) > reread_after(actor))
                .map(|(actor, _)| actor)
                .collect();
            if old.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let ask = move |tx: &mut Tx<'_>| {
                old.iter().try_for_each(|actor| {
                    // One that does not answer waits in its row for its next try.
                    if tx.get::<AuthorToRead>(&row(key_of(actor)))?.is_none() {
                        AuthorToRead::ask(tx, actor, None, now)?;
                    }
                    Ok(())
                })
            };
            self.search.0.store.write(ask).await?;
        }
        self.looked_at = now;
        self.loaded = false;
        Ok(())
    }

    /// Writes down what came of readings; whether there were any.
    async fn settle(&mut self) -> Result<bool, StoreError> {
        let metrics = &self.search.0.metrics;
        let ends = self.errands.ends(|error| {
            metrics.panics.inc();
            tracing::error!(%error, "the reading of an author fell");
        });
        self.done.extend(
            ends.into_iter()
                .map(|(key, row, finding)| Arc::new(Done { key, row, finding: finding.unwrap_or(Finding::Later) })),
        );
        if self.done.is_empty() {
            return Ok(false);
        }
        let repeats: Vec<bool> = self.done.iter().map(|one| self.errands.queue.repeats(one.key)).collect();
        let (search, done) = (self.search.clone(), self.done.clone());
        let conclude = move |tx: &mut Tx<'_>| {
            let all = done.iter().zip(repeats);
            all.map(|(one, repeat)| search.conclude(tx, one, repeat)).collect::<Result<Vec<_>, _>>()
        };
        let ends = self.search.0.store.write(conclude).await?;
        for (one, (words, due)) in std::mem::take(&mut self.done).iter().zip(ends) {
            self.errands.queue.finish(one.key, due);
            words.into_iter().for_each(|word| self.search.count(word));
        }
        Ok(true)
    }
}

impl Worker for AuthorReader {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let worked = self.round().await;
        self.busy = matches!(worked, Err(StoreError::Busy));
        if self.busy { Ok(false) } else { Ok(worked?) }
    }

    async fn wait(&mut self) {
        if self.busy {
            return tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let now = self.search.0.clock.now();
        let nap = self.errands.queue.next_due().map_or(POLL, |due| due.since(now).min(POLL));
        let search = self.search.clone();
        tokio::select! {
            () = search.0.to_read.notified() => self.loaded = false,
            () = self.errands.next_end() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
}

impl Search {
    /// Reads an author, and what their posts that wait are to the search.
    async fn find_out(&self, row: &AuthorToRead) -> Finding {
        // For a post, a reading of today does; when they are to be looked at themselves, only a new one.
        let reading = match row.posts.is_empty() {
            true => self.0.peers.reading_now(&row.actor).await,
            false => self.0.peers.reading(&row.actor).await,
        };
        match reading {
            Ok(reading) => {
                let entries = row.posts.iter().filter_map(|seq| self.0.log.at_or_after(*seq).ok()?);
                let entries = entries.filter(|entry| entry.actor == row.actor && row.posts.contains(&entry.seq));
                let found = entries.filter_map(|entry| self.judge(&entry, reading.clone())).collect();
                Finding::Read(reading, found)
            }
            Err(PeerFault::Gone { .. }) => Finding::Gone,
            Err(PeerFault::Forbidden) => Finding::Forbidden,
            Err(PeerFault::TryLater(_)) => Finding::Later,
            Err(PeerFault::Invalid(_) | PeerFault::Refused(_)) => Finding::Unreadable,
        }
    }

    /// Does what follows from a finding; in words, what came of it, and until when the row waits if it stays.
    fn conclude(
        &self,
        tx: &mut Tx<'_>,
        done: &Done,
        repeats: bool,
    ) -> Result<(Vec<&'static str>, Option<Timestamp>), StoreError> {
        let now = self.0.clock.now();
        let actor = &done.row.actor;
        let key = row(done.key);
        let (mut words, mut due) = (Vec::new(), None);
        match &done.finding {
            Finding::Read(reading, found) => {
                words.push(self.renew(tx, actor, reading)?);
                for one in found {
                    words.push(self.take(tx, one.clone())?);
                }
            }
            Finding::Gone => words.push(Self::forget(tx, actor, "gone")?),
            Finding::Unreadable => words.push(Self::forget(tx, actor, "unreadable")?),
            Finding::Forbidden => {
                let hidden = tx.indexed_author(actor)?.and_then(|author| author.hidden);
                let first = hidden.filter(|hidden| hidden.reason == FORBIDDEN);
                match first {
                    Some(first) if now.since(first.since) >= SECOND_REFUSAL => {
                        words.push(Self::forget(tx, actor, FORBIDDEN)?);
                    }
                    Some(first) => due = Some(first.since.plus(SECOND_REFUSAL)),
                    None => due = Self::hide(tx, actor, FORBIDDEN, now)?.then(|| now.plus(SECOND_REFUSAL)),
                }
            }
            Finding::Later => {
                due = Some(now.plus(gap(done.row.attempts)));
                match tx.indexed_author(actor)? {
                    Some(author) if now.since(author.read_at) > FORGET_AFTER => {
                        words.push(Self::forget(tx, actor, UNREACHABLE)?);
                        due = None;
                    }
                    Some(author) if now.since(author.read_at) > HIDE_AFTER && author.hidden.is_none() => {
                        Self::hide(tx, actor, UNREACHABLE, now)?;
                    }
                    Some(_held) => {}
                    None if now.since(done.row.at) > PATIENCE => {
                        words.push("given-up");
                        due = None;
                    }
                    None => {}
                }
            }
        }
        if repeats {
            // Something was asked for since this reading began.
            return Ok((words, Some(now)));
        }
        match due {
            None => drop(tx.remove::<AuthorToRead>(&key)?),
            Some(due) => {
                let late = now.since(done.row.at) > PATIENCE;
                let posts = if late { Vec::new() } else { done.row.posts.clone() };
                let attempts = done.row.attempts.saturating_add(1);
                tx.put(&key, &AuthorToRead { due, attempts, posts, ..done.row.clone() })?;
            }
        }
        Ok((words, due))
    }

    /// What an author's own document says now, of whom posts may be held.
    fn renew(&self, tx: &mut Tx<'_>, actor: &Iri, reading: &Reading) -> Result<&'static str, StoreError> {
        if self.heed(tx, actor, reading)? {
            return Ok("author-said-no");
        }
        if let Some(author) = tx.indexed_author(actor)?.filter(|author| author.read_at <= reading.read_at) {
            tx.put_indexed_author(actor, author.renewed(reading))?;
        }
        Ok("author-read")
    }

    fn forget(tx: &mut Tx<'_>, actor: &Iri, reason: &'static str) -> Result<&'static str, StoreError> {
        if tx.withdraw_author(actor)? {
            tx.refuse_author(actor, reason, false)?;
        }
        Ok(reason)
    }

    /// Whether there is anything to hide.
    fn hide(tx: &mut Tx<'_>, actor: &Iri, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
        let Some(author) = tx.indexed_author(actor)? else { return Ok(false) };
        let hidden = Some(Hidden { since: now, reason: reason.to_owned() });
        tx.put_indexed_author(actor, IndexedAuthor { hidden, ..author })?;
        Ok(true)
    }
}

impl IndexedAuthor {
    /// The same author by what their document says now. Whoever can be read is not hidden.
    pub(super) fn renewed(self, reading: &Reading) -> Self {
        let (signals, profile) = (reading.signals.clone(), reading.profile.clone());
        Self { read_at: reading.read_at, signals, profile, hidden: None, ..self }
    }
}

fn gap(attempts: u32) -> Duration {
    Duration::from_secs(GAPS.get(attempts as usize).or(GAPS.last()).copied().unwrap_or(65))
}

/// Between six and seven days: each author has a day of their own in the week.
fn reread_after(actor: &Iri) -> Duration {
    let share = u64::try_from(key_of(actor) % u128::from(SPREAD)).unwrap_or(0);
    REREAD + Duration::from_secs(share)
}

fn key_of(actor: &Iri) -> Key {
    let digest = Sha256::digest(actor.as_str().as_bytes());
    digest.iter().take(16).fold(0, |key, byte| key << 8 | Key::from(*byte))
}

fn row(key: Key) -> String {
    format!("{key:032x}")
}

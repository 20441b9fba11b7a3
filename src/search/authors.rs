//! Reads authors: those whose posts wait for it, those whose profile changed, and everyone of whom posts are held once a
//! week, because a consent that nobody has looked at for longer is none. One row per author, kept until it was read.
//!
//! What their own document says then counts at once for all that is held of them. Who is gone is forgotten; who does not
//! show themselves to us is hidden, and forgotten if that is so again a day later; whose server does not answer is hidden
//! after two weeks and forgotten after thirty days.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Search;
use super::gather::Found;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
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
    /// How often it was asked for: whoever asks while it is being read is answered by another reading.
    asks: u64,
    /// For the author's own sake: a reading of earlier today does not do.
    anew: bool,
    /// Log entries that wait for it.
    posts: Vec<Seq>,
}

impl Record for AuthorToRead {
    const TABLE: &'static str = "authors_to_read";
}

impl AuthorToRead {
    /// When it is to be read next.
    pub(super) const fn due(&self) -> Timestamp {
        self.due
    }

    fn of(actor: &Iri, now: Timestamp) -> Self {
        Self { actor: actor.clone(), at: now, due: now, attempts: 0, asks: 0, anew: false, posts: Vec::new() }
    }

    /// What stays of this row if it was asked for since the reading of `begun` began: that may be older than what it was
    /// asked for. `None`: it was not.
    fn asked_again(mut self, begun: &Self, is_read: bool, now: Timestamp) -> Option<Self> {
        if self.asks == begun.asks {
            return None;
        }
        if is_read {
            self.posts.retain(|post| !begun.posts.contains(post));
        }
        self.due = now;
        Some(self)
    }
}

/// Authors to be read that the queue does not know yet: whose they are, and when they are due.
pub(super) type Asked = HashMap<Key, (Authority, Timestamp)>;

/// The worker.
pub struct AuthorReader {
    search: Search,
    errands: Errands<AuthorToRead, Finding>,
    done: Vec<Arc<Done>>,
    /// When all rows were looked through; until then the queue does not know those of earlier runs.
    looked_at: Option<Timestamp>,
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
        Self { search, errands, done: Vec::new(), looked_at: None, busy: false }
    }

    async fn round(&mut self) -> Result<bool, StoreError> {
        let settled = self.settle().await?;
        self.look().await?;
        for (key, (server, due)) in self.search.asked() {
            self.enqueue(key, &server, due);
        }
        let (search, now) = (self.search.clone(), self.search.0.clock.now());
        let read = |row: AuthorToRead| {
            let search = search.clone();
            async move { search.find_out(&row).await }
        };
        let load = |key| search.0.store.sound(search.0.store.get::<AuthorToRead>(&row(key)));
        let begun = self.errands.begin(now, load, read)?;
        Ok(settled || begun)
    }

    /// One that is being read comes again by its row, if there is reason to.
    fn enqueue(&mut self, key: Key, server: &Authority, due: Timestamp) {
        match self.errands.queue.standing(key, server) {
            Standing::New | Standing::Waiting(_) => self.errands.queue.put(key, server, due),
            Standing::Running | Standing::Full => {}
        }
    }

    /// Puts all rows into the queue: those of an earlier run, and those for which there was no room.
    fn load(&mut self) -> Result<(), StoreError> {
        let mut from = String::new();
        loop {
            let page = self.search.0.store.sound_page::<AuthorToRead>(&from, PAGE)?;
            let Some(next) = page.next else { return Ok(()) };
            from = next;
            for (_, row) in page.rows {
                self.enqueue(row.actor.key(), &row.actor.authority(), row.due);
            }
        }
    }

    /// Once an hour: whose reading is about a week old?
    async fn look(&mut self) -> Result<(), StoreError> {
        let now = self.search.0.clock.now();
        if self.looked_at.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return Ok(());
        }
        let mut from = String::new();
        loop {
            let page = self.search.0.store.sound_page::<IndexedAuthor>(&from, PAGE)?;
            let Some(next) = page.next else { break };
            from = next;
            let old: Vec<Iri> = page
                .rows
                .into_iter()
                .filter_map(|(actor, author)| Some((Iri::parse(&actor).ok()?, author)))
                .filter(|(actor, author)| now.since(author.read_at) > reread_after(actor))
                .map(|(actor, _)| actor)
                .collect();
            if old.is_empty() {
                tokio::task::yield_now().await;
                continue;
            }
            let search = self.search.clone();
            let ask = move |tx: &mut Tx<'_>| {
                old.iter().try_for_each(|actor| {
                    // One that does not answer waits in its row for its next try.
                    let waits = to_read(tx, actor.key())?.is_some();
                    if waits { Ok(()) } else { search.ask(tx, actor, None, true) }
                })
            };
            self.search.0.store.write(ask).await?;
        }
        self.looked_at = Some(now);
        self.load()
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
        let (search, done) = (self.search.clone(), self.done.clone());
        let conclude =
            move |tx: &mut Tx<'_>| done.iter().map(|one| search.conclude(tx, one)).collect::<Result<Vec<_>, _>>();
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
            () = search.0.to_read.notified() => {}
            () = self.errands.next_end() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
}

impl Search {
    /// Has an author read, for a post in the log that waits as the case may be. `anew`: a reading of earlier today does not
    /// do, because there is a newer word of theirs.
    pub(super) fn ask(&self, tx: &mut Tx<'_>, actor: &Iri, post: Option<Seq>, anew: bool) -> Result<(), StoreError> {
        let (key, now) = (actor.key(), self.0.clock.now());
        let mut known = to_read(tx, key)?.unwrap_or_else(|| AuthorToRead::of(actor, now));
        known.asks += 1;
        // A post may be the first sign that its server answers again, but does not make us ask it for every one.
        if anew {
            (known.anew, known.due) = (true, now);
        }
        known.posts.extend(post.filter(|_| known.posts.len() < MOST_POSTS));
        tx.put(&row(key), &known)?;
        let (search, server, due) = (self.clone(), actor.authority(), known.due);
        tx.after_commit(move |_store| {
            search.0.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (server, due));
            search.0.to_read.notify_one();
        });
        Ok(())
    }

    /// Who was asked for since the last call, and when they are due.
    fn asked(&self) -> Asked {
        std::mem::take(&mut *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads an author, and what their posts that wait are to the search.
    async fn find_out(&self, row: &AuthorToRead) -> Finding {
        let reading = match row.anew {
            true => self.0.peers.reading_now(&row.actor).await,
            false => self.0.peers.reading(&row.actor).await,
        };
        match reading {
            Ok(reading) => match self.judge_all(row, &reading) {
                Ok(found) => Finding::Read(reading, found),
                Err(error) => {
                    tracing::warn!(%error, "posts that wait for their author could not be read");
                    Finding::Later
                }
            },
            Err(PeerFault::Gone { .. }) => Finding::Gone,
            Err(PeerFault::Forbidden) => Finding::Forbidden,
            Err(PeerFault::TryLater(_)) => Finding::Later,
            Err(PeerFault::Invalid(_) | PeerFault::Refused(_)) => Finding::Unreadable,
        }
    }

    fn judge_all(&self, row: &AuthorToRead, reading: &Arc<Reading>) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        for seq in &row.posts {
            // One that was trimmed meanwhile is no news any more.
            let entry = match self.0.log.at_or_after(*seq) {
                Err(StoreError::Damaged(_)) => None,
                entry => entry?.filter(|entry| entry.seq == *seq),
            };
            if let Some(entry) = entry {
                found.extend(self.judge(&entry, Some(reading.clone()))?);
            }
        }
        Ok(found)
    }

    /// Does what follows from a finding; in words, what came of it, and until when the row waits if it stays.
    fn conclude(&self, tx: &mut Tx<'_>, done: &Done) -> Result<(Vec<&'static str>, Option<Timestamp>), StoreError> {
        let now = self.0.clock.now();
        let actor = &done.row.actor;
        let key = row(done.key);
        let (mut words, mut due) = (Vec::new(), None);
        match &done.finding {
            // What follows is done when the row is settled: it may be asked for again.
            Finding::Read(..) => {}
            Finding::Gone => words.push(Self::forget(tx, actor, "gone", now)?),
            Finding::Unreadable => words.push(Self::forget(tx, actor, "unreadable", now)?),
            Finding::Forbidden => {
                let hidden = tx.indexed_author(actor)?.and_then(|author| author.hidden);
                let first = hidden.filter(|hidden| hidden.reason == FORBIDDEN);
                match first {
                    Some(first) if now.since(first.since) >= SECOND_REFUSAL => {
                        words.push(Self::forget(tx, actor, FORBIDDEN, now)?);
                    }
                    Some(first) => due = Some(first.since.plus(SECOND_REFUSAL)),
                    None => due = Self::hide(tx, actor, FORBIDDEN, now)?.then(|| now.plus(SECOND_REFUSAL)),
                }
            }
            Finding::Later => {
                due = Some(now.plus(gap(done.row.attempts)));
                match tx.indexed_author(actor)? {
                    Some(author) if now.since(author.read_at) > FORGET_AFTER => {
                        words.push(Self::forget(tx, actor, UNREACHABLE, now)?);
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
        let is_read = matches!(done.finding, Finding::Read(..));
        let current = to_read(tx, done.key)?;
        if let Some(again) = current.and_then(|row| row.asked_again(&done.row, is_read, now)) {
            tx.put(&key, &again)?;
        } else if let Some(due) = due {
            let late = now.since(done.row.at) > PATIENCE;
            let posts = if late { Vec::new() } else { done.row.posts.clone() };
            let attempts = done.row.attempts.saturating_add(1);
            tx.put(&key, &AuthorToRead { due, attempts, posts, ..done.row.clone() })?;
        } else {
            tx.remove::<AuthorToRead>(&key)?;
        }
        if let Finding::Read(reading, found) = &done.finding {
            words.push(self.renew(tx, actor, reading)?);
            for one in found {
                words.push(self.take(tx, one.clone())?);
            }
        }
        Ok((words, to_read(tx, done.key)?.map(|row| row.due)))
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

    fn forget(tx: &mut Tx<'_>, actor: &Iri, reason: &'static str, now: Timestamp) -> Result<&'static str, StoreError> {
        if tx.indexed_author(actor)?.is_some() {
            tx.refuse_author(actor, reason, now)?;
            tx.withdraw_author(actor)?;
            tx.take_back_author(actor)?;
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
    /// The same author by what their document says now. Whoever could be read since is not hidden.
    pub(super) fn renewed(self, reading: &Reading) -> Self {
        let (signals, profile) = (reading.signals.clone(), reading.profile.clone());
        let hidden = self.hidden.clone().filter(|hidden| reading.read_at < hidden.since);
        Self { read_at: reading.read_at, signals, profile, hidden, ..self }
    }
}

fn gap(attempts: u32) -> Duration {
    Duration::from_secs(GAPS.get(attempts as usize).or(GAPS.last()).copied().unwrap_or(65))
}

/// Between six and seven days: each author has a day of their own in the week.
fn reread_after(actor: &Iri) -> Duration {
    let share = u64::try_from(actor.key() % u128::from(SPREAD)).unwrap_or(0);
    REREAD + Duration::from_secs(share)
}

pub(super) fn row(key: Key) -> String {
    format!("{key:032x}")
}

/// The row of an author that is to be read; one that cannot be read is none, and is cleared away by the sweeper.
pub(super) fn to_read(tx: &Tx<'_>, key: Key) -> Result<Option<AuthorToRead>, StoreError> {
    tx.sound(tx.get(&row(key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::searchable::{ActorSignals, Profile};

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    #[test]
    fn who_is_asked_for_while_they_are_being_read_is_read_once_more() {
        let ada = Iri::parse("https://a.example/users/ada").unwrap();
        let begun = AuthorToRead { asks: 1, posts: vec![Seq(7)], ..AuthorToRead::of(&ada, NOON) };
        assert_eq!(begun.clone().asked_again(&begun, true, NOON), None);
        let later = NOON.plus(Duration::from_secs(1));
        // A second post, and a change of the profile, came meanwhile.
        let current = AuthorToRead { asks: 3, anew: true, posts: vec![Seq(7), Seq(9)], ..begun.clone() };
        let again = current.clone().asked_again(&begun, true, later).unwrap();
        assert_eq!((again.anew, again.due, again.posts), (true, later, vec![Seq(9)]), "what was judged is not again");
        let unread = current.asked_again(&begun, false, later).unwrap();
        assert_eq!(unread.posts, [Seq(7), Seq(9)], "nothing was judged");
    }

    #[tokio::test]
    async fn what_was_read_earlier_makes_nobody_older_than_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let search = crate::search::gather::tests::search(&dir, |_config| {}).await;
        let ada = Iri::parse("https://a.example/users/ada").unwrap();
        let said = serde_json::json!({ "id": ada.as_str(), "type": "Person", "indexable": true });
        let (signals, profile) = (ActorSignals::of(&said), Profile::of(&said).unwrap());
        let author = IndexedAuthor {
            number: 0,
            since: None,
            read_at: NOON,
            signals: signals.clone(),
            profile: profile.clone(),
            hidden: None,
        };
        for (read_at, expected) in [(NOON.minus(Duration::from_secs(60)), NOON), (NOON.plus(POLL), NOON.plus(POLL))] {
            let reading = Reading { signals: signals.clone(), profile: profile.clone(), read_at };
            let (this, who, row) = (search.clone(), ada.clone(), author.clone());
            let renew = move |tx: &mut Tx<'_>| {
                tx.put_indexed_author(&who, row)?;
                this.renew(tx, &who, &reading)?;
                tx.indexed_author(&who)
            };
            let row = search.0.store.write(renew).await.unwrap().unwrap();
            assert_eq!(row.read_at, expected);
        }
    }

    #[test]
    fn nobody_is_shown_again_by_what_was_read_before_they_were_hidden() {
        let said = serde_json::json!({ "id": "https://a.example/users/ada", "type": "Person", "indexable": true });
        let hidden = Hidden { since: NOON, reason: FORBIDDEN.to_owned() };
        let author = IndexedAuthor {
            number: 1,
            since: None,
            read_at: NOON.minus(Duration::from_secs(600)),
            signals: ActorSignals::of(&said),
            profile: Profile::of(&said).unwrap(),
            hidden: Some(hidden.clone()),
        };
        let read = |read_at| Reading { signals: author.signals.clone(), profile: author.profile.clone(), read_at };
        let before = author.clone().renewed(&read(NOON.minus(Duration::from_secs(60))));
        assert_eq!(before.hidden, Some(hidden));
        assert_eq!(author.clone().renewed(&read(NOON)).hidden, None);
    }

    #[test]
    fn everybody_is_read_again_between_six_and_seven_days_and_not_all_at_once() {
        let days: Vec<Duration> =
            (0..100).map(|n| reread_after(&Iri::parse(&format!("https://a.example/users/{n}")).unwrap())).collect();
        assert!(days.iter().all(|after| *after >= REREAD && *after < REREAD + Duration::from_secs(SPREAD)));
        let early = days.iter().filter(|after| **after < REREAD + Duration::from_secs(SPREAD / 2)).count();
        assert!((25..75).contains(&early), "{early}");
    }
}

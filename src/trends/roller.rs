//! From the log to ballots: a worker with a cursor of its own looks at each new or edited post and each boost, asks
//! `consent`, and writes down what it counts for. Its place and the ballots are moved in one transaction.
//!
//! Where the author's document was not read within a day, the post waits for it, in memory, and the place that is written
//! down is that of the oldest that waits: after a crash all of them are looked at again, and nothing counts twice. Who
//! cannot be read within an hour is not counted: the hour that the vote belongs to is over, and trends are about now. Of
//! more than can wait, those do not whose domain has most of what waits (`waiting`).
//!
//! What is taken back is not its business, but for what it learns from a document: an author who says no there is out of
//! all counts.
//!
//! Beside that, the worker does what is due by the clock: closes hours, makes lists anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::close;
use super::judge::{Finding, Found, Looked};
use super::lists::Asked;
use super::served::{self, Written};
use super::waiting::Room;
use super::{MOST_WANTED, REFRESH, Trends, TrendsFault, WANTED_FOR};
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};
use crate::peers::errands::Errands;
use crate::peers::queue::Standing;
use crate::policy::{RuleSet, Verdict};
use crate::store::{Store, StoreError, Subject, Target, TrendClosed, Tx, hour_of};
use crate::supervise::Worker;

/// The worker's name, also that of its cursor.
pub const NAME: &str = "trend-roller";
/// Entries looked at in one unit of work.
const BATCH: usize = 128;
/// How often a cursor that only skipped is written, and the longest wait.
const POLL: Duration = Duration::from_secs(5);
/// How long to leave a busy store alone.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Authors read at once; as for the search, a share of `fetch.in_flight`.
const AT_ONCE: usize = 16;
/// How long posts wait for their authors.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Gaps between tries, in seconds; the last repeats.
const GAPS: [u64; 3] = [65, 180, 600];
/// Between two makings of the lists, if something changed: at least this, and so many times as long as one took, so that
/// making them takes a hundredth of the time.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const PAUSES: u32 = 100;
/// Lists that only some asked for are made anew for so long at a time: the log waits meanwhile.
const LISTS_BUDGET: Duration = Duration::from_millis(500);
/// Rows written in one transaction: the inbox waits for it.
const ROWS: usize = 500;
/// Boosts taken back in one.
const BOOSTS: usize = 200;

/// The worker.
pub struct Roller {
    trends: Trends,
    head: watch::Receiver<Seq>,
    changes: watch::Receiver<u64>,
    next: Option<Seq>,
    saved: Seq,
    saved_at: Timestamp,
    errands: Errands<Iri, Finding>,
    waiting: Room,
    /// What came of readings, to be written.
    ready: Vec<Found>,
    /// The last hour that was closed,
    closed: Option<u32>,
    /// and the rules by which ballots were taken back last.
    ruled: Option<Arc<RuleSet>>,
    /// of these servers, by their numbers.
    out: HashSet<u32>,
    /// When lists were made last, of which changes, and how long that took.
    listed_at: Option<Timestamp>,
    listed: u64,
    cost: Duration,
    written: Written,
    /// The counts are our own, not those of whoever followed before and heard not all of it.
    is_fresh: bool,
    busy: bool,
}

impl Roller {
    /// A worker that begins where the last one stopped.
    #[must_use]
    pub fn new(trends: Trends) -> Self {
        let (head, changes) = (trends.0.log.follow(), trends.0.store.follow_ballots());
        Self {
            trends,
            head,
            changes,
            next: None,
            saved: Seq(0),
            saved_at: Timestamp::default(),
            errands: Errands::new(AT_ONCE),
            waiting: Room::default(),
            ready: Vec::new(),
            closed: None,
            ruled: None,
            out: HashSet::new(),
            listed_at: None,
            listed: 0,
            cost: Duration::ZERO,
            written: Written::default(),
            is_fresh: false,
            busy: false,
        }
    }

    async fn round(&mut self) -> anyhow::Result<bool> {
        self.count_all().await?;
        self.settle()?;
        let moved = self.read_log().await?;
        self.read_authors()?;
        self.by_the_clock().await?;
        Ok(moved)
    }

    /// Makes the counts from the journal: at the start, and if they were lost.
    async fn count_all(&mut self) -> anyhow::Result<()> {
        let (trends, anew) = (self.trends.clone(), !self.is_fresh);
        let load = move || -> Result<(), StoreError> {
            if anew {
                *trends.lock() = None;
            }
            if trends.lock().is_some() {
                return Ok(());
            }
            let board = trends.load(&trends.0.rules.set())?;
            *trends.lock() = Some(board);
            Ok(())
        };
        tokio::task::spawn_blocking(load).await??;
        self.is_fresh = true;
        Ok(())
    }

    /// Looks at the next entries, and writes down what came of them and of readings.
    async fn read_log(&mut self) -> Result<bool, StoreError> {
        let trends = self.trends.clone();
        let parts = &trends.0;
        let from = match self.next {
            Some(next) => next,
            // What was relayed before there were trends is not counted afterwards.
            None => parts.store.worker_cursor(NAME)?.unwrap_or_else(|| parts.log.head().next()),
        };
        let (mut next, mut found, mut unread) = (from, Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let entry = match parts.log.at_or_after(next) {
                Err(StoreError::Damaged(why)) => {
                    tracing::error!(log.seq = next.0, why, "an entry of the log is damaged");
                    next = next.next();
                    continue;
                }
                entry => entry?,
            };
            let Some(entry) = entry else { break };
            next = entry.seq.next();
            match trends.look(&entry).await? {
                Looked::Nothing => {}
                Looked::Found(one) => found.push(one),
                Looked::Unread { author, post } => unread.push((author, post, entry.at)),
            }
        }
        let now = parts.clock.now();
        // What came of readings comes first, and is not lost where the log cannot be read.
        found.splice(..0, std::mem::take(&mut self.ready));
        for (author, post, at) in unread {
            found.extend(self.wait_for(author, post, at, now));
        }
        self.next = Some(next);
        let place = self.waiting.oldest().unwrap_or(next).min(next);
        if found.is_empty() && (place == self.saved || now.since(self.saved_at) < POLL) {
            return Ok(next != from);
        }
        let (room, kept) = (trends.clone(), Arc::new(found));
        let writing = kept.clone();
        let write = move |tx: &mut Tx<'_>| {
            let words = writing.iter().map(|one| room.take(tx, one)).collect::<Result<Vec<_>, _>>()?;
            tx.set_worker_cursor(NAME, place)?;
            Ok(words)
        };
        match parts.store.write(write).await {
            Ok(words) => words.into_iter().for_each(|word| trends.count(word)),
            Err(error) => {
                // It is written with the next ones.
                self.ready = kept.to_vec();
                return Err(error);
            }
        }
        (self.saved, self.saved_at) = (place, now);
        Ok(next != from)
    }

    /// Somebody is to be read first: for a post, or because there is a newer word of theirs. Where there is no room for a
    /// post, it does not count; where there is none to read that newer word, nothing of theirs does until there is.
    fn wait_for(&mut self, author: Iri, post: Option<Seq>, since: Timestamp, now: Timestamp) -> Option<Found> {
        let (key, server, anew) = (author.key(), author.authority(), post.is_none());
        let is_late = post.is_some() && now.since(since) > PATIENCE;
        if is_late || (!anew && !self.waiting.has_room(&server)) {
            self.trends.count("author-not-read");
            return None;
        }
        match self.errands.queue.standing(key, &server) {
            Standing::New => self.errands.queue.put(key, &server, now),
            // Whose server did not answer is asked again in its time, unless there is something new.
            Standing::Waiting(_) if anew => self.errands.queue.put(key, &server, now),
            Standing::Waiting(_) | Standing::Running => {}
            Standing::Full if anew => return Some(Found::Gone { author, word: "author-not-read" }),
            Standing::Full => {
                self.trends.count("author-not-read");
                return None;
            }
        }
        self.waiting.put(author, post, anew, now);
        None
    }

    fn read_authors(&mut self) -> Result<(), StoreError> {
        let (trends, now) = (self.trends.clone(), self.trends.0.clock.now());
        let waiting = &self.waiting;
        let load = |key| Ok::<_, StoreError>(waiting.get(key).map(|one| one.actor.clone()));
        let anew = waiting.anew();
        let read = move |actor: Iri| {
            let (trends, anew) = (trends.clone(), anew.contains(&actor.key()));
            async move { trends.read(&actor, anew).await }
        };
        self.errands.begin(now, load, read).map(drop)
    }

    /// Takes up what came of readings.
    fn settle(&mut self) -> Result<(), StoreError> {
        let trends = self.trends.clone();
        let now = trends.0.clock.now();
        let ends = self.errands.ends(|error| {
            trends.0.metrics.panics.inc();
            tracing::error!(%error, "the reading of an author fell");
        });
        for (key, author, finding) in ends {
            let Some(mut waiting) = self.waiting.take(key) else {
                self.errands.queue.finish(key, None);
                continue;
            };
            let (mut due, word) = match finding.unwrap_or(Finding::Later) {
                Finding::Read(reading) if waiting.anew.is_some_and(|at| reading.read_at < at) => {
                    (Some(now), "author-read-again")
                }
                Finding::Read(reading) => {
                    self.ready.extend(trends.judge_all(&author, &waiting.posts, &reading)?);
                    (None, "author-read")
                }
                Finding::Refused => {
                    self.ready.push(Found::Gone { author: author.clone(), word: "author-refused" });
                    (None, "author-refused")
                }
                Finding::Unreadable => (None, "author-unreadable"),
                Finding::Later => {
                    let gap = GAPS.get(waiting.attempts).or(GAPS.last()).copied().unwrap_or(65);
                    (Some(now.plus(Duration::from_secs(gap))), "author-later")
                }
            };
            waiting.attempts += 1;
            if now.since(waiting.since) > PATIENCE {
                // There was a newer word of theirs, and nobody knows what it says: it may be a no.
                if due.is_some() && waiting.anew.is_some() {
                    self.ready.push(Found::Gone { author, word: "author-not-read" });
                }
                due = None;
            }
            trends.count(if due.is_none() && word == "author-later" { "author-not-read" } else { word });
            self.errands.queue.finish(key, due);
            if due.is_some() {
                self.waiting.put_back(key, waiting);
            }
        }
        Ok(())
    }

    /// What is due: hours that are over, rules that changed, lists.
    async fn by_the_clock(&mut self) -> anyhow::Result<()> {
        let now = self.trends.0.clock.now();
        let rules = self.trends.0.rules.set();
        if self.closed != Some(hour_of(now)) {
            self.close_hours(now).await?;
            // A rule may have expired.
            (self.closed, self.ruled) = (Some(hour_of(now)), None);
        }
        let ruled = self.ruled.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &rules));
        if ruled {
            self.take_back_ruled(&rules, now).await?;
            self.ruled = Some(rules);
        }
        let newest = *self.changes.borrow();
        let pause = if newest == self.listed { REFRESH } else { (self.cost * PAUSES).clamp(LEAST_PAUSE, REFRESH) };
        if ruled || self.listed_at.is_none_or(|at| now.since(at) >= pause) {
            let started = std::time::Instant::now();
            self.make_lists(now).await?;
            (self.listed_at, self.listed, self.cost) = (Some(now), newest, started.elapsed());
        }
        Ok(())
    }

    /// Writes down what was usual in the hours that have been over for a day, forgets what is too old.
    async fn close_hours(&self, now: Timestamp) -> anyhow::Result<()> {
        let (trends, hour) = (self.trends.clone(), hour_of(now));
        let store = &trends.0.store;
        let closed = store.get::<TrendClosed>(TrendClosed::ROW)?;
        let since = closed.map_or(hour, |closed| closed.since);
        let done = hour.saturating_sub(1 + close::LATER);
        let first = closed.map_or(done, |closed| closed.hour).saturating_add(1);
        for over in first.max(hour.saturating_sub(close::HOURS_KEPT))..=done {
            let room = trends.clone();
            let made = tokio::task::spawn_blocking(move || {
                room.with_board(|board| {
                    // A day, when its last hour is closed.
                    let days = (over % 24 == 23).then(|| close::usual_days(board.counts(), over, now));
                    Ok((close::usual_hours(board.counts(), over, now), days.unwrap_or_default()))
                })
            });
            let (hours, days) = made.await??;
            for rows in hours.chunks(ROWS) {
                let rows = rows.to_vec();
                store.write(move |tx| tx.put_usual_hours(over, &rows)).await?;
            }
            for rows in days.chunks(ROWS) {
                let rows = rows.to_vec();
                store.write(move |tx| tx.put_usual_days(over / 24, &rows)).await?;
            }
        }
        let done = closed.map_or(done, |closed| closed.hour.max(done));
        store.write(move |tx| tx.put(TrendClosed::ROW, &TrendClosed { hour: done, since })).await?;
        let before = hour.saturating_sub(close::HOURS_KEPT);
        while store.write(move |tx| tx.expire_ballots(before, ROWS)).await? {}
        let (hours, days) =
            (hour.saturating_sub(close::USUAL_HOURS_KEPT), (hour / 24).saturating_sub(close::USUAL_DAYS_KEPT));
        while store.write(move |tx| tx.expire_usual(hours, days, ROWS)).await? {}
        while store.write(|tx| tx.forget_places(ROWS)).await? {}
        let room = trends.clone();
        let expire = move || {
            room.with_board(|board| {
                board.votes.expire(before);
                let posts = board.votes.targets().filter(|(_, subject)| *subject == Subject::Post);
                let posts = posts.filter_map(|(target, _)| board.votes.key(target)).map(|(_, key)| key.to_owned());
                Ok((board.votes.len(), board.bytes(), board.evicted(), posts.collect::<Vec<_>>()))
            })
        };
        let (things, bytes, evicted, posts) = tokio::task::spawn_blocking(expire).await??;
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        trends.0.metrics.trend_things.set(gauge(things as u64));
        trends.0.metrics.trend_bytes.set(gauge(bytes as u64));
        trends.0.metrics.trend_evicted.set(gauge(evicted));
        take_back_boosts_of_what_went(store, &posts).await?;
        Ok(())
    }

    /// What the operator's rules keep out is taken out of the journal as well: servers, and actors by name.
    async fn take_back_ruled(&mut self, rules: &Arc<RuleSet>, now: Timestamp) -> anyhow::Result<()> {
        let trends = self.trends.clone();
        let store = &trends.0.store;
        let actors: Vec<Iri> = rules
            .iter()
            .filter_map(|one| if let Target::Actor(actor) = &one.rule.target { Some(actor.clone()) } else { None })
            .filter(|actor| rules.searchable(actor, "", now).verdict == Verdict::Block)
            .collect();
        for some in actors.chunks(50) {
            let some = some.to_vec();
            store.write(move |tx| some.iter().try_for_each(|actor| tx.take_back_author(actor).map(drop))).await?;
        }
        let (room, by) = (trends.clone(), rules.clone());
        let rule = move || room.with_board(|board| Ok(board.rule(&by, now)));
        let out: HashSet<u32> = tokio::task::spawn_blocking(rule).await??.into_iter().collect();
        // What was out before has nothing there: it is not taken in.
        let new: Vec<u32> = out.difference(&self.out).copied().collect();
        store.take_back_places(&new).await?;
        self.out = out;
        Ok(())
    }

    /// Makes the lists anew that everybody gets, and writes them down; then, as far as there is time, some that are asked for.
    async fn make_lists(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let trends = self.trends.clone();
        let everybody = served::of_everybody();
        let wanted = {
            let lists = trends.0.lists.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let few = lists
                .iter()
                .filter(|(asked, kept)| !asked.is_for_everybody() && now.since(kept.asked_at) <= WANTED_FOR);
            let mut few: Vec<(Timestamp, Asked)> = few.map(|(asked, kept)| (kept.asked_at, asked.clone())).collect();
            few.sort_by(|one, other| other.cmp(one));
            few.into_iter().take(MOST_WANTED).map(|(_, asked)| asked).collect::<Vec<_>>()
        };
        let room = trends.clone();
        let make = move || {
            everybody.iter().try_for_each(|asked| room.make(asked).map(drop))?;
            let started = std::time::Instant::now();
            for asked in wanted {
                if started.elapsed() > LISTS_BUDGET {
                    break;
                }
                room.make(&asked)?;
            }
            Ok::<_, TrendsFault>(())
        };
        tokio::task::spawn_blocking(make).await??;
        self.trends.count_withheld();
        self.written.write(&self.trends, now).await
    }
}

/// Boosts of posts that the search holds no more count no more: they were deleted, or their author went.
async fn take_back_boosts_of_what_went(store: &Store, posts: &[String]) -> Result<(), StoreError> {
    for post in posts {
        let is_held = Iri::parse(post).is_ok_and(|post| store.indexed_number(&post).is_ok_and(|held| held.is_some()));
        if is_held {
            continue;
        }
        loop {
            let post = post.clone();
            if !store.write(move |tx| tx.take_back_target(Subject::Post, &post, BOOSTS)).await? {
                break;
            }
        }
    }
    Ok(())
}

impl Worker for Roller {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let worked = self.round().await;
        self.busy = worked.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(StoreError::Busy)));
        if self.busy { Ok(false) } else { worked }
    }

    async fn wait(&mut self) {
        if self.busy {
            return tokio::time::sleep(BUSY_PAUSE).await;
        }
        let now = self.trends.0.clock.now();
        let pause = if *self.changes.borrow() == self.listed { POLL } else { LEAST_PAUSE };
        let nap = self.errands.queue.next_due().map_or(pause, |due| due.since(now).min(pause));
        let trends = self.trends.clone();
        tokio::select! {
            _ = self.head.changed() => {}
            _ = self.changes.changed() => {}
            () = trends.0.ruled.notified() => self.listed_at = None,
            () = self.errands.next_end() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
}

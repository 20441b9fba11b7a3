//! What people talk about, and why it says so: hashtags and links that more people on more servers speak of than usual.
//! The room reads the log with a place of its own ([`roller`]), as far as `consent` allows, and keeps one ballot per post in
//! the store; all counts are made from those ([`board`], [`votes`]) and can be taken back. What a count is worth is one pure
//! function ([`score`]), and every number that goes into it can be asked for ([`explain`]). `docs/TRENDS.md` has the rules.
//!
//! Promises: nobody's posts are kept, and after two days nobody's votes. Who says no, deletes, edits or is turned away is
//! out of every count with the request that says so, and out of every list when that is made anew, which takes seconds.
//! Other rooms are not known here.

pub mod assess;
pub mod board;
mod close;
pub mod explain;
mod judge;
pub mod languages;
pub mod lists;
mod past;
pub mod replay;
pub mod roller;
pub mod rules;
pub mod rulings;
pub mod score;
pub mod served;
pub mod servers;
pub mod simulate;
pub mod sketch;
pub mod spellings;
mod turns;
pub mod votes;
mod waiting;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;

use self::assess::{Look, Window};
use self::board::Board;
use self::explain::Explained;
use self::lists::{Asked, Entry, List};
use self::past::{Days, KeptPast};
use self::rulings::{Ruled, Rulings, Withheld};
use self::turns::Turns;
use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::consent::Reason;
use crate::log::Log;
use crate::peers::Peers;
use crate::policy::{RuleSet, Rules};
use crate::store::{Act, BallotKey, Store, StoreError, Subject, TrendClosed, TrendRuling, TrendServed, hour_of};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

/// A list is made anew after this time at the latest, and when a rule changes.
pub const REFRESH: Duration = Duration::from_secs(15);
/// A list that nobody made anew is still shown for so long: whoever asks does not wait.
const STALE: Duration = Duration::from_secs(60);
/// The same of a list that is not made by itself.
const STALE_OF_FEW: Duration = Duration::from_secs(30);
/// Lists that are made anew by themselves, beside those that everybody gets: those that somebody asked for within this
/// time,
const WANTED_FOR: Duration = Duration::from_secs(600);
/// and so many of them, the ones that were asked for last. All others are made when somebody asks.
const MOST_WANTED: usize = 8;
/// Lists in memory: windows, kinds and languages that are asked for. Beyond it goes the one that was asked for longest ago.
const MOST_LISTS: usize = 256;
/// Questions about single things that wait for the counts, each on a thread.
const MOST_ASKING: usize = 16;
/// Windows and languages of which it is remembered for a moment how much speaks in them.
const MOST_SPEAKING: usize = 1000;

/// By window and language: as of when, and how much.
type Speaking = HashMap<(Window, Option<String>), (Timestamp, u64)>;

/// What the room needs from the house. Cheap to clone.
#[derive(Clone)]
pub struct Trends(Arc<Parts>);

struct Parts {
    config: config::Trends,
    store: Store,
    log: Log,
    peers: Peers,
    rules: Rules,
    clock: Clock,
    supervisor: Supervisor,
    metrics: Metrics,
    /// The counts; none before the journal was read.
    board: Mutex<Option<Board>>,
    rulings: RwLock<Arc<Rulings>>,
    lists: Mutex<HashMap<Asked, Kept>>,
    /// Whose turn it is to make one.
    turns: Turns,
    /// Days that are over.
    days: Mutex<Days>,
    /// What all servers weigh that speak in a window and a language, and as of when.
    speaking: Mutex<Speaking>,
    /// Who asks about single things.
    asking: AtomicUsize,
    /// One ruling at a time: what was written last is what holds.
    ruling: tokio::sync::Mutex<()>,
    /// The operator said something.
    ruled: Notify,
}

/// A list that was made.
struct Kept {
    list: Arc<List>,
    made_at: Timestamp,
    asked_at: Timestamp,
    rulings: Arc<Rulings>,
    rules: Arc<RuleSet>,
    /// The newest change of the journal that is counted in it,
    newest: u64,
    /// and how many things were forgotten by then.
    evicted: u64,
}

/// What [`Trends::new`] is given.
#[expect(missing_docs, reason = "each field is a service documented at its type")]
pub struct Services {
    pub config: config::Trends,
    pub store: Store,
    pub log: Log,
    pub peers: Peers,
    pub rules: Rules,
    pub clock: Clock,
    pub supervisor: Supervisor,
    pub metrics: Metrics,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum TrendsFault {
    /// The journal is being read: in a moment.
    #[error("the trends are being counted")]
    Counting,
    /// Ours to mend.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Trends {
    /// Puts the room together; nothing runs yet.
    ///
    /// # Errors
    /// The store's.
    pub fn new(services: Services) -> Result<Self, StoreError> {
        let Services { config, store, log, peers, rules, clock, supervisor, metrics } = services;
        let rulings = Rulings::load(&store, &config.deny, config.review)?;
        Ok(Self(Arc::new(Parts {
            config,
            store,
            log,
            peers,
            rules,
            clock,
            supervisor,
            metrics,
            board: Mutex::default(),
            rulings: RwLock::new(rulings),
            lists: Mutex::default(),
            turns: Turns::default(),
            days: Mutex::default(),
            speaking: Mutex::default(),
            asking: AtomicUsize::new(0),
            ruling: tokio::sync::Mutex::default(),
            ruled: Notify::new(),
        })))
    }

    /// Starts the room's worker; where there are no trends, the one that forgets what is left of when there were.
    pub fn start(&self) {
        let trends = self.clone();
        if self.is_on() {
            self.0.supervisor.start(move || roller::Roller::new(trends.clone()));
        } else {
            self.0.supervisor.spawn(async move {
                if let Err(error) = trends.forget_all().await {
                    tracing::warn!(%error, "what is left of trends could not be forgotten");
                }
            });
        }
    }

    /// Whether there are trends here.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.config.is_on()
    }

    /// A list, if there is one that needs not be made first. In a language that is none nothing is said.
    #[must_use]
    pub fn ready(&self, asked: &Asked) -> Option<Arc<List>> {
        let (now, rulings, rules) = (self.0.clock.now(), self.rulings(), self.0.rules.set());
        if let Some(language) = asked.language.as_deref().filter(|language| !languages::is_known(language)) {
            return Some(Arc::new(List::empty(asked.window, language, now)));
        }
        let mut lists = self.0.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lists.get_mut(asked)?;
        kept.asked_at = now;
        let holds = Arc::ptr_eq(&kept.rulings, &rulings) && Arc::ptr_eq(&kept.rules, &rules);
        let stale = if asked.is_for_everybody() { STALE } else { STALE_OF_FEW };
        (holds && now.since(kept.made_at) <= stale).then(|| kept.list.clone())
    }

    /// A list. Reads and counts: not for an async thread. Where others are being made already it may be too much to ask.
    ///
    /// # Errors
    /// [`TrendsFault`].
    pub fn list(&self, asked: &Asked) -> Result<Arc<List>, TrendsFault> {
        if let Some(ready) = self.ready(asked) {
            return Ok(ready);
        }
        let _turn = self.0.turns.take(asked).ok_or(TrendsFault::Counting)?;
        // Whoever had the turn before may have made it.
        if let Some(ready) = self.ready(asked) {
            return Ok(ready);
        }
        self.make(asked)
    }

    /// Makes a list anew.
    fn make(&self, asked: &Asked) -> Result<Arc<List>, TrendsFault> {
        let (now, rulings, rules) = (self.0.clock.now(), self.rulings(), self.0.rules.set());
        let (draft, newest, evicted, usual) = self.with_board(|board| {
            let usual = self.past(now)?;
            let draft = lists::draft(board.counts(), &usual, &rulings, asked, now)?;
            Ok((draft, board.newest(), board.evicted(), usual))
        })?;
        let list = Arc::new(lists::finish(draft, &usual, asked)?);
        let mut lists = self.0.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let asked_at = lists.get(asked).map_or(now, |kept| kept.asked_at);
        lists.retain(|_, kept| now.since(kept.asked_at) <= WANTED_FOR);
        if lists.len() >= MOST_LISTS && !lists.contains_key(asked) {
            let few = lists.iter().filter(|(asked, _)| !asked.is_for_everybody());
            if let Some(oldest) = few.min_by_key(|(_, kept)| kept.asked_at).map(|(asked, _)| asked.clone()) {
                lists.remove(&oldest);
            }
        }
        let kept = Kept { list: list.clone(), made_at: now, asked_at, rulings, rules, newest, evicted };
        lists.insert(asked.clone(), kept);
        Ok(list)
    }

    fn past(&self, now: Timestamp) -> Result<KeptPast<'_>, StoreError> {
        Ok(KeptPast::new(self.0.store.usual()?, &self.0.days, hour_of(now)))
    }

    /// All that trends and is not shown, and why.
    ///
    /// # Errors
    /// [`TrendsFault`].
    pub fn held_back(&self, asked: &Asked) -> Result<Vec<(Entry, Withheld)>, TrendsFault> {
        let (now, rulings) = (self.0.clock.now(), self.rulings());
        let _turn = self.0.turns.take(asked).ok_or(TrendsFault::Counting)?;
        self.with_board(|board| {
            let all = lists::all(board.counts(), &self.past(now)?, &rulings, asked, now)?;
            Ok(all.into_iter().filter_map(|(entry, why)| Some((entry, why?))).collect())
        })
    }

    /// How one thing stands, with every number.
    ///
    /// # Errors
    /// [`TrendsFault`].
    pub fn explain(
        &self,
        subject: Subject,
        key: &str,
        window: Window,
        language: Option<&str>,
    ) -> Result<Explained, TrendsFault> {
        let (now, rulings) = (self.0.clock.now(), self.rulings());
        let _asking = Asking::begin(&self.0.asking).ok_or(TrendsFault::Counting)?;
        self.with_board(|board| {
            let all = self.speaking(board, window, language, now);
            let look = Look { window, language, now, all };
            Ok(explain::explain(board.counts(), &self.past(now)?, &rulings, subject, key, &look)?)
        })
    }

    /// What all servers weigh that speak in this window, remembered for a moment: counting it looks at everything.
    fn speaking(&self, board: &Board, window: Window, language: Option<&str>, now: Timestamp) -> u64 {
        let key = (window, language.map(str::to_owned));
        let mut known = self.0.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, all)) = known.get(&key)
            && now.since(*at) < REFRESH
        {
            return *all;
        }
        let all = board.votes.speaking(window.span(hour_of(now)), language, &board.servers, now);
        if known.len() >= MOST_SPEAKING {
            known.clear();
        }
        known.insert(key, (now, all));
        all
    }

    /// Does something with the counts as they are now. Waits for others who do, and reads: not for an async thread.
    fn with_board<T>(&self, with: impl FnOnce(&mut Board) -> Result<T, TrendsFault>) -> Result<T, TrendsFault> {
        let mut board = self.lock();
        let Some(counts) = board.as_mut() else { return Err(TrendsFault::Counting) };
        if let Err(error) = self.catch_up(counts) {
            // What was to be counted is lost: all of it is read anew.
            *board = None;
            return Err(error.into());
        }
        with(counts)
    }

    fn catch_up(&self, board: &mut Board) -> Result<(), StoreError> {
        let (now, rules) = (self.0.clock.now(), self.0.rules.set());
        if !board.is_ruled_by(&rules) {
            board.rule(&rules, now);
        }
        match self.0.store.ballot_changes() {
            Some(changes) => board.follow(&changes, &self.0.store, now)?,
            None => *board = self.load(&rules)?,
        }
        Ok(())
    }

    fn load(&self, rules: &Arc<RuleSet>) -> Result<Board, StoreError> {
        let memory = usize::try_from(self.0.config.memory.as_u64()).unwrap_or(usize::MAX);
        Board::load(&self.0.store, memory, &self.0.config.grown, rules, self.0.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Board>> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the operator said.
    #[must_use]
    pub fn rulings(&self) -> Arc<Rulings> {
        self.0.rulings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What time it is here.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The operator hides something, lets it through, or takes back what was said (`None`). It holds for whoever asks next.
    ///
    /// # Errors
    /// A sentence about it, or the store's.
    pub async fn rule(&self, subject: &Ruled, ruling: Option<TrendRuling>, act: &Act) -> anyhow::Result<bool> {
        let subject = self.meant(subject).await?;
        let row = subject.row();
        match &ruling {
            Some(one) => tracing::info!(
                subject = row, hidden = one.hidden, reason = one.reason, until = ?one.until, "the operator rules on a trend"
            ),
            None => tracing::info!(subject = row, "the operator takes back a ruling on a trend"),
        }
        let _one_at_a_time = self.0.ruling.lock().await;
        let changed = rulings::rule(&self.0.store, &subject, ruling, act).await?;
        let all = Rulings::load(&self.0.store, &self.0.config.deny, self.0.config.review)?;
        *self.0.rulings.write().unwrap_or_else(PoisonError::into_inner) = all;
        self.0.ruled.notify_one();
        Ok(changed)
    }

    /// A post may be named by its page; nothing but posts that count just now is looked through.
    async fn meant(&self, subject: &Ruled) -> anyhow::Result<Ruled> {
        let (trends, subject) = (self.clone(), subject.clone());
        let find = move || {
            let posts = match trends.lock().as_ref() {
                Some(board) if matches!(subject, Ruled::Post(_)) => board.posts(),
                _ => Vec::new(),
            };
            rulings::meant(&trends.0.store, &subject, &posts)
        };
        Ok(tokio::task::spawn_blocking(find).await??)
    }

    /// Makes the lists again that were served last, from the journal.
    ///
    /// # Errors
    /// The store's.
    pub fn replay(&self) -> anyhow::Result<Vec<replay::Replayed>> {
        replay::replay(&self.0.store, &self.0.config, &self.0.rules.set(), self.0.clock.now())
    }

    /// Where there are no trends any more nothing is kept of them; if there are again, they begin with what comes then.
    async fn forget_all(&self) -> Result<(), StoreError> {
        let store = &self.0.store;
        let was_on =
            store.worker_cursor(roller::NAME)?.is_some() || store.get::<TrendClosed>(TrendClosed::ROW)?.is_some();
        if !was_on && store.all::<BallotKey>()?.is_empty() && store.all::<TrendServed>()?.is_empty() {
            return Ok(());
        }
        store
            .write(|tx| {
                tx.forget_worker_cursor(roller::NAME)?;
                tx.remove::<TrendClosed>(TrendClosed::ROW).map(drop)
            })
            .await?;
        store.forget::<TrendServed>(|_served| true).await?;
        while store.write(|tx| tx.expire_ballots(u32::MAX, 500)).await? {}
        while store.write(|tx| tx.expire_usual(u32::MAX, u32::MAX, 500)).await? {}
        Ok(())
    }

    fn count(&self, word: &'static str) {
        self.0.metrics.rolled.with_label_values(&[word]).inc();
        if Reason::is_word(word) {
            self.0.metrics.consent_refusals.with_label_values(&["trends", word]).inc();
        }
    }
}

/// Somebody who asks about one thing; no more when dropped.
struct Asking<'a>(&'a AtomicUsize);

impl<'a> Asking<'a> {
    fn begin(all: &'a AtomicUsize) -> Option<Self> {
        let asking = Self(all);
        if all.fetch_add(1, Ordering::SeqCst) < MOST_ASKING { Some(asking) } else { None }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

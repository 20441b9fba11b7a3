//! Which posts wait for the operator: gathers how author and server stand, asks [`screen`], and writes down what is held,
//! in the transaction that would otherwise have appended it. Only there is "the author's first post" exact.
//!
//! What becomes of held posts later is in [`super::held`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Relay;
use crate::clock::Timestamp;
use crate::config::{self, Config};
use crate::ids::{Authority, Iri};
use crate::log::Draft;
use crate::policy::repeats::Repeats;
use crate::policy::screen::{Reason, Screened, Standing, screen};
use crate::policy::{Verdict, wave};
use crate::store::{Arrivals, HeldKind, HeldPost, Hold, SeenSet, StoreError, Tx};
use crate::wire::text::Features;

/// The word for a post that could not even be held: the sender tries again later.
pub(super) const FULL: &str = "held-full";
/// How long an author who posts no more is remembered. One who does is noted anew after half of it.
pub(super) const AUTHOR_DAYS: u32 = 90;
/// How long the hour of an author's first post is remembered: as long as it may make a difference.
pub(super) const NEWCOMER_DAYS: u32 = 2;
/// Servers whose arrivals are counted; for those beyond it every day is their first.
const MAX_SERVERS: u64 = 20_000;

/// What the room keeps for it.
pub(super) struct Screening {
    pub(super) policy: config::Policy,
    pub(super) forward_horizon: Duration,
    /// When rows of servers that fell silent were last looked for.
    pub(super) swept: Mutex<Timestamp>,
    repeats: Mutex<Repeats>,
}

impl Screening {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            policy: config.policy.clone(),
            forward_horizon: config.delivery.forward_horizon,
            swept: Mutex::default(),
            repeats: Mutex::default(),
        }
    }
}

impl Relay {
    /// Judges a post or an edit; why it is to be held, if it is. In a dry run nothing is, but all is counted.
    pub(super) fn screen(
        &self,
        tx: &mut Tx<'_>,
        draft: &Draft,
        features: &Features,
    ) -> Result<Option<Reason>, StoreError> {
        let policy = &self.0.screening.policy;
        let standing = self.standing(tx, &draft.actor, features)?;
        let Screened::Hold(reason) = screen(features, &standing, policy) else { return Ok(None) };
        if policy.dry_run {
            self.count_decision(tx, reason, "dry-run");
            tracing::info!(peer.host = %draft.actor.authority(), object = %draft.object, reason = reason.word(),
                "would hold: {reason}");
            return Ok(None);
        }
        Ok(Some(reason))
    }

    /// Whether one of the operator's keywords matches: such a post goes nowhere. Not for the one thread that writes: there
    /// may be many keywords.
    pub(super) fn says_forbidden_words(&self, text: &str) -> bool {
        if text.is_empty() {
            return false;
        }
        let ruling = self.0.rules.set().text(text, self.0.clock.now());
        ruling.count_dry(&self.0.metrics);
        ruling.count(&self.0.metrics);
        ruling.verdict == Verdict::Block
    }

    /// How author and server stand, this post included, which is noted.
    fn standing(&self, tx: &mut Tx<'_>, author: &Iri, features: &Features) -> Result<Standing, StoreError> {
        let (server, now) = (author.authority(), self.0.clock.now());
        let met = Self::meet(tx, author, now)?;
        let arrivals = self.arrivals(tx, &server, met, now)?;
        let on_probation = self.on_probation(tx, &server, arrivals.as_ref(), now)?;
        let repeated_by = features.fingerprint.map_or(0, |print| {
            let mut repeats = self.0.screening.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            repeats.note(print, author, now)
        });
        Ok(Standing {
            is_held: self.is_held(tx, &server, arrivals.as_ref(), now)?,
            on_probation,
            is_new: met.is_new(),
            is_settled: arrivals.is_some_and(|arrivals| wave::is_settled(&arrivals, now)),
            repeated_by,
        })
    }

    /// Whether we know the author, who is remembered from now on.
    fn meet(tx: &mut Tx<'_>, author: &Iri, now: Timestamp) -> Result<Met, StoreError> {
        let id = author.as_str();
        let hour = now.secs().div_euclid(3600);
        let mark = |hour: i64| hour.to_string();
        let Some((first, last)) = tx.seen_days(SeenSet::Authors, &[id])? else {
            tx.note(SeenSet::Authors, &[id])?;
            tx.note(SeenSet::Newcomers, &[&mark(hour), id])?;
            return Ok(Met::First);
        };
        let ago = |day: u32| now.day().saturating_sub(i64::from(day));
        if ago(last) > i64::from(AUTHOR_DAYS / 2) {
            tx.renew(SeenSet::Authors, &[id]);
            return Ok(Met::Again);
        }
        if ago(first) > 1 {
            return Ok(Met::Known);
        }
        for earlier in 0..24 {
            if tx.has_seen(SeenSet::Newcomers, &[&mark(hour - earlier), id])? {
                return Ok(Met::Lately);
            }
        }
        Ok(Met::Known)
    }

    /// The server's row, brought up to date; `None` if there are too many servers.
    fn arrivals(
        &self,
        tx: &mut Tx<'_>,
        server: &Authority,
        met: Met,
        now: Timestamp,
    ) -> Result<Option<Arrivals>, StoreError> {
        let (mut arrivals, is_there) = match tx.get::<Arrivals>(server.as_str())? {
            Some(arrivals) => (arrivals, true),
            None if tx.count::<Arrivals>()? >= MAX_SERVERS => return Ok(None),
            None => (Arrivals::new(now), false),
        };
        arrivals.advance(now);
        match met {
            Met::First => arrivals.note(now),
            Met::Again => arrivals.touched = now,
            Met::Lately | Met::Known => {}
        }
        if !is_there || matches!(met, Met::First | Met::Again) {
            tx.put(server.as_str(), &arrivals)?;
        }
        Ok(Some(arrivals))
    }

    /// Whether the server is held; it is from now on if what comes from it is a wave.
    fn is_held(
        &self,
        tx: &mut Tx<'_>,
        server: &Authority,
        arrivals: Option<&Arrivals>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if tx.get::<Hold>(server.as_str())?.is_some() {
            return Ok(true);
        }
        let policy = &self.0.screening.policy;
        let Some(arrivals) = arrivals.filter(|arrivals| wave::is_wave(arrivals, policy, now)) else { return Ok(false) };
        if policy.dry_run {
            return Ok(true);
        }
        let hold = Hold { since: now, reason: Reason::Wave.word().to_owned(), by: "relay".to_owned() };
        let (new, usual) = (arrivals.current, wave::level(arrivals, policy, now));
        tracing::info!(peer.host = %server, new_authors = new, usual_at_most = usual, "a wave");
        self.begin_hold(tx, server, &hold)?;
        Ok(true)
    }

    fn begin_hold(&self, tx: &mut Tx<'_>, server: &Authority, hold: &Hold) -> Result<(), StoreError> {
        tx.put(server.as_str(), hold)?;
        let (gauge, server) = (self.0.metrics.held_servers.clone(), server.clone());
        tx.after_commit(move |_store| {
            gauge.inc();
            tracing::warn!(peer.host = %server,
                "{server} is held: far more of its authors are new than usual. `shearwater admin held {server}` shows its \
                 posts, `shearwater admin release {server}` lets them go");
        });
        Ok(())
    }

    /// Holds a server although the post that showed the wave found no room and all else about it was taken back: else
    /// what its known authors say would go on, and nobody would hear of the wave, as long as there is no room.
    pub(super) async fn hold_all_the_same(&self, server: Authority, hold: Hold) -> Result<(), StoreError> {
        let relay = self.clone();
        let write = move |tx: &mut Tx<'_>| match tx.get::<Hold>(server.as_str())? {
            Some(_) => Ok(()),
            None => relay.begin_hold(tx, &server, &hold),
        };
        self.0.store.write(write).await
    }

    /// Whether the server joined lately and nobody vouched for it. Counts the post.
    fn on_probation(
        &self,
        tx: &mut Tx<'_>,
        server: &Authority,
        arrivals: Option<&Arrivals>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let policy = &self.0.screening.policy;
        let Some(subscriber) = self.0.store.subscriber(server).filter(|_| policy.probation) else { return Ok(false) };
        if subscriber.vouched_for || self.0.rules.set().is_listed(server, now) {
            return Ok(false);
        }
        let posts = arrivals.map_or(u32::MAX, |arrivals| arrivals.posts);
        if now.since(subscriber.joined_at) >= policy.probation_for && posts >= policy.probation_posts {
            return Ok(false);
        }
        if let Some(arrivals) = arrivals {
            tx.put(server.as_str(), &Arrivals { posts: posts.saturating_add(1), ..arrivals.clone() })?;
        }
        Ok(true)
    }

    /// Whether everything of this server is held.
    pub(super) fn holds_server(&self, tx: &Tx<'_>, server: &Authority) -> Result<bool, StoreError> {
        Ok(!self.0.screening.policy.dry_run && tx.get::<Hold>(server.as_str())?.is_some())
    }

    /// Writes down what is held, in place of what was held of the same object. [`FULL`] if there is no room for it.
    pub(super) fn hold_back(
        &self,
        tx: &mut Tx<'_>,
        draft: Draft,
        kind: HeldKind,
        reason: Reason,
        text: &str,
    ) -> Result<&'static str, StoreError> {
        let is_there = tx.held(&draft.object)?.is_some();
        if !is_there && !tx.may_hold(&draft.object.authority())? {
            self.0.metrics.held_posts_total.with_label_values(&["refused"]).inc();
            return Ok(FULL);
        }
        tracing::debug!(object = %draft.object, reason = reason.word(), "held: {reason}");
        tx.hold(HeldPost {
            at: draft.at,
            kind,
            object: draft.object,
            actor: draft.actor,
            activity: draft.activity,
            supplier: draft.supplier,
            carried: draft.carried,
            published: draft.published,
            // What may be forwarded, or is for the search: all else is announced by its id, and came without.
            body: String::from_utf8_lossy(&draft.body).into_owned(),
            reason: reason.word().to_owned(),
            text: text.to_owned(),
            for_search: !draft.relayed,
        })?;
        if !is_there {
            let metrics = self.0.metrics.clone();
            tx.after_commit(move |_store| {
                metrics.held_posts.inc();
                metrics.held_posts_total.with_label_values(&["held"]).inc();
            });
        }
        self.count_decision(tx, reason, "hold");
        Ok("held")
    }

    fn count_decision(&self, tx: &mut Tx<'_>, reason: Reason, mode: &'static str) {
        let counter = self.0.metrics.policy_decisions.with_label_values(&[reason.word(), mode]);
        tx.after_commit(move |_store| counter.inc());
    }
}

/// How well we know an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// Never heard of.
    First,
    /// Since less than a day.
    Lately,
    /// For longer.
    Known,
    /// For long, and noted anew, so that he is not forgotten.
    Again,
}

impl Met {
    const fn is_new(self) -> bool {
        matches!(self, Self::First | Self::Lately)
    }
}

//! What a lane makes of an attempt's end: the entry is done, or waits, or the lane waits, pauses, ends. Each outcome's
//! consequence for entry, lane and health stands here, and nowhere else.

use std::time::Duration;

use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::super::attempt::Outcome;
use super::super::backoff;
use super::super::flight::Landing;
use super::super::health::{self, LaneState, PROBE};
use super::super::reread::{Reread, reread};
use super::super::window::Trouble;
use super::Lane;
use crate::clock::Timestamp;
use crate::ids::Seq;
use crate::store::AuthorityFacts;
use crate::wire::http_sig::Scheme;

/// How long a refused forward makes us announce.
const DOWNGRADE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Lane {
    /// Takes note of how an attempt ended.
    pub(super) async fn land(&mut self, landed: Result<(Id, Landing), JoinError>) {
        let (id, landing) = match landed {
            Ok((id, landing)) => (id, Some(landing)),
            Err(error) => {
                tracing::error!(peer.host = %self.authority, %error, "an attempt fell");
                (error.id(), None)
            }
        };
        let Some((seq, _since)) = self.carried.remove(&id) else { return };
        match landing {
            Some(landing) => self.judge(landing).await,
            None => {
                let outcome = Outcome::Later { after: None, answered: false };
                self.fail(seq, outcome, "a fault of ours");
            }
        }
        let save = self.save_place();
        if self.window.position().is_done(seq) {
            self.owe_save(save);
        }
        self.note();
    }

    async fn judge(&mut self, landing: Landing) {
        let Landing { seq, at, outcome, reason, learned, downgraded, took } = landing;
        let now = self.shared.clock.now();
        if learned.is_some() || downgraded {
            Box::pin(self.learn(learned, downgraded.then(|| now.plus(DOWNGRADE)))).await;
        }
        if !matches!(outcome, Outcome::Later { answered: false, .. }) {
            self.usual = if self.usual.is_zero() { took } else { (self.usual * 4 + took) / 5 };
        }
        match outcome {
            Outcome::Delivered => {
                self.shared.count("delivered", 1);
                self.shared.metrics.lag_seconds.observe(now.since(at).as_secs_f64());
                self.window.done(seq, true);
                self.retrying = false;
                health::succeeded(&mut self.health, now);
            }
            Outcome::Done | Outcome::Unverified | Outcome::Downgrade => {
                self.health.refused = 0;
                self.drop_entry(seq, &reason);
            }
            Outcome::Forbidden => self.refuse(seq, &reason, now),
            // Boxed: rare, and a fetch is big; every lane would carry its size.
            Outcome::Gone | Outcome::Moved if self.resume.is_none() => {
                Box::pin(self.find(seq, outcome, &reason, now)).await;
            }
            Outcome::Gone | Outcome::Moved => {
                self.fail(seq, Outcome::Later { after: None, answered: false }, &reason);
            }
            Outcome::Later { .. } => self.fail(seq, outcome, &reason),
        }
    }

    /// The server gave a final no to this entry: it answers, and the lane goes on.
    fn drop_entry(&mut self, seq: Seq, reason: &str) {
        self.shared.count("dropped", 1);
        tracing::debug!(peer.host = %self.authority, log.seq = seq.0, reason, "not delivered, and not tried again");
        self.window.done(seq, false);
        self.retrying = false;
        self.handle.say(reason);
        health::answered(&mut self.health);
    }

    /// It said no to our own words: once more means it has something against us.
    fn refuse(&mut self, seq: Seq, reason: &str, now: Timestamp) {
        let paused = health::refused(&mut self.health, now, reason);
        self.drop_entry(seq, reason);
        if paused {
            tracing::warn!(peer.host = %self.authority, reason, "it refuses us again and again: paused");
            self.pause_for(self.pause());
            self.end_if_over(now);
        }
    }

    fn fail(&mut self, seq: Seq, outcome: Outcome, reason: &str) {
        let Outcome::Later { after, answered } = outcome else { return };
        let now = self.shared.clock.now();
        self.handle.say(reason);
        match self.window.failed(seq, answered) {
            Trouble::Poison => {
                self.shared.count("dropped", 1);
                tracing::warn!(peer.host = %self.authority, log.seq = seq.0, reason, "given up: others go through");
            }
            Trouble::Entry(failures) if after.is_none() => {
                self.shared.count("later", 1);
                let gap = backoff::gap(&self.shared.config.retry, failures, backoff::roll());
                self.window.delay(seq, now.plus(gap));
            }
            Trouble::Entry(_) | Trouble::Lane => {
                self.shared.count("later", 1);
                self.fail_lane(after, reason, now);
            }
        }
    }

    /// The lane waits. What was under way when it failed fails with it, and counts once.
    fn fail_lane(&mut self, after: Option<Duration>, reason: &str, now: Timestamp) {
        self.retrying = true;
        if self.resume.is_none() {
            health::failed(&mut self.health, now, reason, after.is_some());
            if self.health.consecutive == 1 {
                tracing::info!(peer.host = %self.authority, reason, "it does not answer as it should");
            }
            self.pause_for(self.pause());
            self.end_if_over(now);
        }
        if let Some(after) = after {
            self.asked = true;
            self.resume = Some(Instant::now() + after);
        }
    }

    /// Asks the actor where its inbox is now.
    async fn find(&mut self, seq: Seq, outcome: Outcome, reason: &str, now: Timestamp) {
        let subscriber = self.shared.store.subscriber(&self.authority);
        let found = match subscriber.as_ref().and_then(|one| one.served()) {
            Some(served) => reread(&self.shared.courier, &self.shared.store, &self.authority, served).await,
            None => Ok(Reread::Unclear),
        };
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(peer.host = %self.authority, %error, "its new inbox was not written down");
            Reread::Unclear
        });
        if found == Reread::Same && outcome == Outcome::Gone {
            // The actor lives and means this very inbox, which wants nothing from us.
            return self.refuse(seq, reason, now);
        }
        self.fail(seq, Outcome::Later { after: None, answered: false }, reason);
        if found == Reread::Gone && outcome == Outcome::Gone {
            if health::found_gone(&mut self.health, now) {
                self.end("inbox and actor are gone");
            }
            self.pause_for(probe_pause());
        }
    }

    fn pause_for(&mut self, pause: Duration) {
        self.resume = Some(Instant::now() + pause);
    }

    /// The pause that this lane's health asks for.
    pub(super) fn pause(&self) -> Duration {
        match self.state() {
            LaneState::Dormant | LaneState::Paused => probe_pause(),
            LaneState::Healthy | LaneState::Failing => {
                backoff::gap(&self.shared.config.retry, self.health.consecutive, backoff::roll())
            }
        }
    }

    fn end_if_over(&mut self, now: Timestamp) {
        if health::is_over(&self.health, self.shared.limits, now) {
            self.end("nothing has gone through for too long");
        }
    }

    fn end(&self, why: &'static str) {
        tracing::warn!(peer.host = %self.authority, why, "the subscription ends");
        self.shared.end_subscription(self.authority.clone(), self.slot);
    }

    /// Remembers for good what was learned of this server.
    async fn learn(&mut self, scheme: Option<Scheme>, announce_until: Option<Timestamp>) {
        let set = move |facts: &mut AuthorityFacts| {
            facts.scheme = scheme.or(facts.scheme);
            facts.announce_until = announce_until.or(facts.announce_until);
        };
        set(&mut self.facts);
        if announce_until.is_some() {
            self.shared.count("downgraded", 1);
            tracing::info!(peer.host = %self.authority, "it refuses forwarded posts: they are announced to it");
        }
        self.shared.remember(&self.authority, set).await;
    }

    /// Has the ledger write down how the lane fares, if that is news.
    pub(super) fn note(&mut self) {
        if self.shared.ledger.note(&self.authority, self.slot, &self.health, &self.written) {
            self.written = self.health.clone();
        }
    }
}

/// A day and a little more, so that probes do not meet.
fn probe_pause() -> Duration {
    PROBE + PROBE.mul_f64(backoff::roll() / 4.0)
}

//! How a lane steers: when it waits, what it does next, and what it makes of each answer. A pure state machine over a
//! [`Window`] and a record of health; time and chance come in as [`Now`], and what is to be sent, read or written down is
//! for the lane to do.
//!
//! Promises: an entry is marked done only for a final answer, or when it is given up and counted; a lane that failed waits,
//! and then tries with one request at a time; what one author's posts meet at a server never decides alone how that server
//! is served from then on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::attempt::Outcome;
use super::backoff;
use super::health::{self, LaneState, Limits, PROBE};
use super::reread::Reread;
use super::window::{Next, Trouble, Window};
use crate::clock::Timestamp;
use crate::ids::{Authority, Seq};
use crate::store::{Health, Position};

/// Verified requests revive a lane at most so often; one that refuses us, more rarely.
const WAKE_GAP: Duration = Duration::from_secs(1);
const PAUSED_WAKE_GAP: Duration = Duration::from_secs(600);
/// The longest that a server may ask us to wait. A clock that was set back must not make it longer.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);
/// For how long at least a lane has one request under way when something was wanting here, such as descriptors; and how long it
/// waits when not even one got through.
const OURS_PAUSE: Duration = Duration::from_secs(2);
/// Refusals of posts of one registrable domain count as one for so long: anybody can write posts that a filter refuses, and
/// twenty of them in a minute would pause a lane for all others. Longer: a server that refuses us is found out later.
const REFUSALS_APART: Duration = Duration::from_secs(180);

/// The moment at which something is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// On the clock that never goes back: waiting is measured on it.
    pub(super) instant: Instant,
    /// On the wall: what is written down.
    pub(super) wall: Timestamp,
    /// A random number from 0 to 1, to spread retries.
    pub(super) roll: f64,
}

/// How an attempt ended, as far as steering goes.
#[derive(Debug, Clone)]
pub(super) struct Landed<'a> {
    /// The entry.
    pub(super) seq: Seq,
    /// What came of it.
    pub(super) outcome: Outcome,
    /// In a word, for people.
    pub(super) reason: &'a str,
    /// The server of the entry's author.
    pub(super) author: &'a Authority,
}

/// Why a lane waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Something was wanting here, and nothing else is the matter.
    Ours,
    /// Its server failed, or refuses us.
    Failed,
    /// Its server asked for it (`Retry-After`).
    Asked,
}

/// What an answer made of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// It went through.
    Delivered,
    /// It is done with, and was not taken.
    Dropped,
    /// The same, and the server refuses so much that the lane is paused.
    Paused,
    /// It is given up: others go through.
    GivenUp,
    /// It will be tried again; whether the lane failed with it, for the first time.
    Later {
        /// The lane's first failure since something went through.
        first: bool,
    },
    /// Its actor must be read before anything can be said: [`Helm::found`] goes on from there.
    Ask,
}

/// The state.
#[derive(Debug)]
pub(super) struct Helm {
    window: Window,
    health: Health,
    limits: Limits,
    gaps: Arc<[Duration]>,
    /// The lane waits until then.
    resume: Option<(Instant, Why)>,
    /// Something failed and nothing has gone through since: one request at a time.
    retrying: bool,
    /// Something was wanting here: one request at a time, over the connection that there is, until one is answered after this.
    ours: Option<Instant>,
    last_launch: Option<Instant>,
    /// Whose posts were last refused, and when that was last counted.
    refused: Option<(Authority, Instant)>,
    /// Whose forwarded post was refused, with none taken since.
    forward_refused: Option<Authority>,
}

impl Helm {
    /// Steers from `position` on, with at most `most` requests under way. A lane that was failing before the relay was
    /// started goes on waiting where it was.
    pub(super) fn new(
        position: Position,
        most: usize,
        health: Health,
        limits: Limits,
        gaps: Arc<[Duration]>,
        now: Now,
    ) -> Self {
        let mut helm = Self {
            window: Window::new(position, most),
            retrying: health.consecutive > 0,
            ours: None,
            health,
            limits,
            gaps,
            resume: None,
            last_launch: None,
            refused: None,
            forward_refused: None,
        };
        if helm.state() != LaneState::Healthy
            && let Some(last) = helm.health.last_failure
        {
            helm.wait(now, helm.pause(now).saturating_sub(now.wall.since(last)), Why::Failed);
        }
        let asked = helm.health.not_before.map_or(Duration::ZERO, |until| until.since(now.wall)).min(LONGEST_ASKED);
        if !asked.is_zero() {
            let pause = helm.resume().map_or(Duration::ZERO, |until| until - now.instant);
            helm.wait(now, asked.max(pause), Why::Asked);
        }
        helm
    }

    /// Where the lane stands.
    pub(super) fn state(&self) -> LaneState {
        health::state(&self.health, self.limits)
    }

    /// Its record.
    pub(super) const fn health(&self) -> &Health {
        &self.health
    }

    /// What is done.
    pub(super) const fn position(&self) -> &Position {
        self.window.position()
    }

    /// Its window.
    pub(super) const fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// How many requests may be under way, and how many are.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.window.limit(), self.window.flying())
    }

    /// Until when the lane waits.
    pub(super) fn resume(&self) -> Option<Instant> {
        self.resume.map(|(until, _)| until)
    }

    /// Whether no more may be under way than is.
    pub(super) fn is_full(&self) -> bool {
        self.window.is_full(self.goes_singly())
    }

    /// Whether nothing has gone through since something failed.
    pub(super) const fn is_retrying(&self) -> bool {
        self.retrying
    }

    /// What to do, when the log ends at `head`; and how many entries were given up on the way: a dormant lane probes with
    /// the newest.
    pub(super) fn next(&mut self, now: Now, head: Seq) -> (Next, u64) {
        if let Some(until) = self.resume().filter(|until| *until > now.instant) {
            return (Next::Wait(now.wall.plus(until - now.instant)), 0);
        }
        let mut given_up = 0;
        if self.resume.take().is_some() && self.state() == LaneState::Dormant {
            given_up = self.give_up_before(head);
        }
        (self.window.next(now.wall, self.goes_singly(), head), given_up)
    }

    /// The entry leaves.
    pub(super) fn start(&mut self, seq: Seq, now: Now) {
        self.window.start(seq);
        self.last_launch = Some(now.instant);
    }

    /// Nothing before `seq` is wanted any more; how many entries that were not done this gives up.
    pub(super) fn give_up_before(&mut self, seq: Seq) -> u64 {
        let count = self.window.give_up_before(seq);
        self.health.expired = self.health.expired.saturating_add(count);
        count
    }

    /// The log has nothing before `seq` any more: what was not done there is given up; how many.
    pub(super) fn missing_to(&mut self, seq: Seq) -> u64 {
        let count = self.window.missing_to(seq);
        self.health.expired = self.health.expired.saturating_add(count);
        count
    }

    /// Forgets what can be read again.
    pub(super) fn slim(&mut self) {
        self.window.slim();
    }

    /// The entry is too old, and is not sent.
    pub(super) fn expire(&mut self, seq: Seq) {
        self.health.expired = self.health.expired.saturating_add(1);
        self.window.skip(seq);
    }

    /// Takes note of how an attempt ended.
    pub(super) fn land(&mut self, landed: &Landed<'_>, now: Now) -> Event {
        match landed.outcome {
            Outcome::Delivered => {
                self.window.done(landed.seq, true);
                self.refused = None;
                self.answered(now, |health| health::succeeded(health, now.wall));
                Event::Delivered
            }
            Outcome::Done => {
                self.health.refused = 0;
                self.drop_entry(landed.seq, now);
                Event::Dropped
            }
            Outcome::Downgrade => {
                self.drop_entry(landed.seq, now);
                Event::Dropped
            }
            Outcome::Forbidden | Outcome::Unverified => self.refuse(landed, now),
            Outcome::Ours => {
                self.window.put_back(landed.seq);
                self.ours = Some(now.instant + OURS_PAUSE);
                // Others that are under way have what this one did not get.
                if !self.waits_for_them() && self.window.flying() == 0 {
                    self.wait(now, OURS_PAUSE, Why::Ours);
                }
                Event::Later { first: false }
            }
            Outcome::Gone | Outcome::Moved if !self.waits_for_them() => Event::Ask,
            Outcome::Gone | Outcome::Moved => self.fail(landed, None, false, now),
            Outcome::Later { after, answered } => self.fail(landed, after, answered, now),
        }
    }

    /// Goes on after [`Event::Ask`]: what the actor says of its inbox. Whether it is gone for good.
    pub(super) fn found(&mut self, landed: &Landed<'_>, found: Reread, now: Now) -> (Event, bool) {
        let gone = landed.outcome == Outcome::Gone;
        if found == Reread::Same && gone {
            // The actor lives and means this very inbox, which wants nothing from us.
            return (self.refuse(landed, now), false);
        }
        let event = self.fail(landed, None, false, now);
        if found != Reread::Gone || !gone {
            return (event, false);
        }
        self.wait(now, probe_pause(now), Why::Failed);
        (event, health::found_gone(&mut self.health, now.wall))
    }

    /// A forward was refused, or taken. Whether the server is to be announced to from now on: when it refused the posts
    /// of two servers with none taken between, since one can be written so that it is refused.
    pub(super) fn judge_forwards(&mut self, refused: bool, author: &Authority) -> bool {
        if !refused {
            self.forward_refused = None;
            return false;
        }
        match &self.forward_refused {
            Some(before) => before.registrable() != author.registrable(),
            None => {
                self.forward_refused = Some(author.clone());
                false
            }
        }
    }

    /// Whether the subscription is over. To be asked after a failure.
    pub(super) fn is_over(&self, now: Now) -> bool {
        health::is_over(&self.health, self.limits, now.wall)
    }

    /// A verified request came from this server, or, `forced`, the operator wants it tried. What a dormant lane is not
    /// owed any more is given up: how many entries; `None` if nothing changes.
    pub(super) fn wake(&mut self, forced: bool, head: Seq, now: Now) -> Option<u64> {
        let state = self.state();
        let Some((resume, why)) = self.resume else {
            // It was due, and nothing was there to try it with: it lives all the same, and is owed everything from now on.
            let is_idle = state == LaneState::Dormant && self.window.flying() == 0;
            return is_idle.then(|| {
                health::woken(&mut self.health);
                self.give_up_before(head.next())
            });
        };
        if forced {
            self.health.refused = 0;
            self.last_launch = None;
        }
        // It may be well again by an answer that was under way when another one asked for patience.
        if why == Why::Asked && !forced && matches!(state, LaneState::Healthy | LaneState::Failing) {
            return None;
        }
        // What came while it was dormant is skipped; from now on it is owed everything again.
        let given_up = if state == LaneState::Dormant { self.give_up_before(head.next()) } else { 0 };
        let gap = if state == LaneState::Paused { PAUSED_WAKE_GAP } else { WAKE_GAP };
        let earliest = self.last_launch.map_or(now.instant, |last| last + gap);
        self.resume = Some((resume.min(earliest), if why == Why::Asked { Why::Failed } else { why }));
        health::woken(&mut self.health);
        Some(given_up)
    }

    /// The server gave a final no to this entry: it answers, and the lane goes on.
    fn drop_entry(&mut self, seq: Seq, now: Now) {
        self.window.done(seq, false);
        self.answered(now, health::answered);
        self.health.dropped = self.health.dropped.saturating_add(1);
    }

    /// It said no to our own words, or to each of our signatures: again and again means it has something against us.
    fn refuse(&mut self, landed: &Landed<'_>, now: Now) -> Event {
        let counted = self.refused.as_ref().is_none_or(|(author, at)| {
            author.registrable() != landed.author.registrable() || now.instant.duration_since(*at) >= REFUSALS_APART
        });
        let paused = if counted {
            self.refused = Some((landed.author.clone(), now.instant));
            health::refused(&mut self.health, now.wall, landed.reason)
        } else {
            health::note_reason(&mut self.health, now.wall, landed.reason);
            self.state() == LaneState::Paused
        };
        self.drop_entry(landed.seq, now);
        if !paused {
            return Event::Dropped;
        }
        self.wait(now, self.pause(now), Why::Failed);
        Event::Paused
    }

    fn fail(&mut self, landed: &Landed<'_>, after: Option<Duration>, answered: bool, now: Now) -> Event {
        match self.window.failed(landed.seq, answered) {
            Trouble::Poison => {
                self.health.dropped = self.health.dropped.saturating_add(1);
                Event::GivenUp
            }
            Trouble::Entry(failures) if after.is_none() => {
                self.window.delay(landed.seq, now.wall.plus(backoff::gap(&self.gaps, failures, now.roll)));
                Event::Later { first: false }
            }
            Trouble::Entry(_) | Trouble::Lane => Event::Later { first: self.fail_lane(landed.reason, after, now) },
        }
    }

    /// The lane waits. What was under way when it failed fails with it, and counts once.
    fn fail_lane(&mut self, reason: &str, after: Option<Duration>, now: Now) -> bool {
        self.retrying = true;
        let alone = !self.waits_for_them();
        if alone {
            health::failed(&mut self.health, now.wall, reason, after.is_some());
            self.wait(now, self.pause(now), Why::Failed);
        }
        if let Some(after) = after {
            self.wait(now, after, Why::Asked);
            self.health.not_before = Some(now.wall.plus(after));
        }
        alone && self.health.consecutive == 1
    }

    /// It answers, which is noted in its record. What it asked for with another answer, it still wants.
    fn answered(&mut self, now: Now, note: impl FnOnce(&mut Health)) {
        self.retrying = false;
        self.ours = self.ours.filter(|until| *until > now.instant);
        let not_before = self.health.not_before.filter(|_| matches!(self.resume, Some((_, Why::Asked))));
        note(&mut self.health);
        self.health.not_before = not_before;
    }

    /// Whether one request at a time is under way.
    fn goes_singly(&self) -> bool {
        self.retrying || self.ours.is_some() || self.state() != LaneState::Healthy
    }

    /// Whether it waits for its server, and not just for something that was wanting here.
    fn waits_for_them(&self) -> bool {
        self.resume.is_some_and(|(_, why)| why != Why::Ours)
    }

    fn wait(&mut self, now: Now, pause: Duration, why: Why) {
        self.resume = Some((now.instant + pause, why));
    }

    /// The pause that this lane's health asks for.
    fn pause(&self, now: Now) -> Duration {
        match self.state() {
            LaneState::Dormant | LaneState::Paused => probe_pause(now),
            LaneState::Healthy | LaneState::Failing => backoff::gap(&self.gaps, self.health.consecutive, now.roll),
        }
    }
}

/// A day and a little more, so that probes do not meet.
fn probe_pause(now: Now) -> Duration {
    PROBE + PROBE.mul_f64(now.roll.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests;

//! One entry on its way to one inbox: as planned, and in our own words if the forward is refused. A task of its own that
//! knows nothing of the lane; it lands with all that the lane wants to know.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::Shared;
use super::attempt::{self, Letter, Outcome};
use super::outgoing::Outgoing;
use super::plan::{Plan, instead_of_forward, is_kept_back};
use super::sharing::{Heard, Manner};
use super::slots::Slot;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};
use crate::log::Kind;
use crate::wire::http_sig::Scheme;

/// One attempt on its way: all it needs, and nothing of the lane.
pub(super) struct Flight {
    pub(super) shared: Arc<Shared>,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) plan: Plan,
    pub(super) inbox: Iri,
    pub(super) manner: Manner,
}

/// How it went.
pub(super) struct Landing {
    pub(super) seq: Seq,
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    pub(super) reason: Cow<'static, str>,
    pub(super) learned: Option<Scheme>,
    pub(super) heard: Option<Heard>,
    /// The bytes of the author were taken.
    pub(super) forwarded: bool,
    /// They were refused, and our own words for them taken. Never so of a deletion: what a server makes of one says nothing
    /// about posts.
    pub(super) downgraded: bool,
    pub(super) took: Duration,
    /// The server of the entry's author.
    pub(super) author: Authority,
}

impl Flight {
    /// Flies in its place, and says how it went.
    pub(super) async fn fly(self, slot: Slot) -> Landing {
        let started = Instant::now();
        let (seq, at) = (self.outgoing.entry.seq, self.outgoing.entry.at);
        let author = self.outgoing.entry.actor.authority();
        // Each request has a timeout of its own; all that belong to one entry, knocks and announcements, have one as well.
        let whole = self.shared.config.timeout * 3 / 2;
        let host = self.inbox.authority();
        let span = tracing::debug_span!("delivery", peer.host = %host, log.seq = seq.0);
        // Boxed, or the task is made by moving its size about three times.
        let exchange = Box::pin(self.exchange()).instrument(span);
        let (landing, reason) = match slot.run(tokio::time::timeout(whole, exchange)).await {
            Some(Ok(landing)) => (Some(landing), ""),
            Some(Err(_elapsed)) => (None, "timeout"),
            None => (None, "slow"),
        };
        let landing = landing.unwrap_or(Landing {
            seq,
            at,
            outcome: Outcome::Later { after: None, answered: false },
            reason: Cow::Borrowed(reason),
            learned: None,
            heard: None,
            forwarded: false,
            downgraded: false,
            took: Duration::ZERO,
            author,
        });
        Landing { took: started.elapsed(), ..landing }
    }

    async fn exchange(&self) -> Landing {
        let mut report = self.say(self.plan, self.manner).await;
        let mut downgraded = false;
        if report.outcome == Outcome::Downgrade {
            let (rules, now) = (self.shared.rules.policy.set(), self.shared.clock.now());
            let kept_back = is_kept_back(&self.outgoing.entry, &rules, now);
            if let Some(plan) = instead_of_forward(&self.outgoing.entry).filter(|_| !kept_back) {
                // What was refused with every signature would be so again; and an Undo is ours to say, to each.
                let heard = report.heard;
                let is_own = heard.is_some() || (plan == Plan::UndoAnnounce && self.manner == Manner::Shared);
                let manner = if is_own { Manner::Own(Scheme::Cavage) } else { self.manner };
                report = self.say(plan, manner).await;
                report.heard = report.heard.or(heard);
                // Who takes neither does not refuse forwards: it could not read our key, perhaps.
                downgraded = self.outgoing.entry.kind != Kind::Delete && report.outcome == Outcome::Delivered;
            }
        }
        Landing {
            seq: self.outgoing.entry.seq,
            at: self.outgoing.entry.at,
            outcome: report.outcome,
            reason: report.reason,
            learned: report.learned,
            heard: report.heard,
            forwarded: self.plan == Plan::Forward && !downgraded && report.outcome == Outcome::Delivered,
            downgraded,
            took: Duration::ZERO,
            author: self.outgoing.entry.actor.authority(),
        }
    }

    async fn say(&self, plan: Plan, manner: Manner) -> attempt::Report {
        let Some(message) = self.shared.outbox.message(&self.outgoing, plan) else {
            let reason = Cow::Borrowed("nothing to say");
            return attempt::Report { outcome: Outcome::Done, reason, learned: None, heard: None };
        };
        let forwarded = plan == Plan::Forward;
        let letter = Letter { inbox: &self.inbox, message, forwarded, manner, from: None };
        attempt::send(&self.shared.courier, &letter, self.shared.config.timeout, &self.shared.clock).await
    }
}

//! What a lane does about an attempt's end. What it means is [`Helm`](super::super::helm::Helm)'s to say; here it is
//! counted, told and written down.

use std::time::Duration;

use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::super::attempt::Outcome;
use super::super::flight::Landing;
use super::super::helm::{Event, Landed};
use super::super::reread::{Reread, reread};
use super::super::sharing::Heard;
use super::Lane;
use crate::clock::Timestamp;
use crate::store::{AuthorityFacts, Sharing};
use crate::wire::http_sig::Scheme;

/// How long a server that refuses forwards is announced to.
const DOWNGRADE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long nothing is signed for many after a refusal that said nothing about that.
const VAIN_REST: Duration = Duration::from_secs(3600);
/// Which profile of signatures a server wants is written down so often at most: one that wants the other each time would have
/// us write for each delivery.
const PROFILE_APART: Duration = Duration::from_secs(3600);

/// What an answer taught us of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Learned {
    scheme: Option<Scheme>,
    shared: Option<Sharing>,
    announce_until: Option<Timestamp>,
    /// What it ran then, if that was known: of what replaced that, nothing was learned.
    software: Option<String>,
}

impl Learned {
    pub(super) fn is_empty(&self) -> bool {
        (self.scheme, self.shared, self.announce_until) == (None, None, None)
    }

    pub(super) fn apply(&self, facts: &mut AuthorityFacts) {
        if !self.is_empty() && (self.software.is_none() || facts.software == self.software) {
            facts.scheme = self.scheme.or(facts.scheme);
            facts.shared = self.shared.or(facts.shared);
            facts.announce_until = self.announce_until.or(facts.announce_until);
        }
    }

    /// This, and what is newer.
    fn and(self, newer: Self) -> Self {
        if self.software.is_some() && self.software != newer.software {
            return newer;
        }
        Self {
            scheme: newer.scheme.or(self.scheme),
            shared: newer.shared.or(self.shared),
            announce_until: newer.announce_until.or(self.announce_until),
            software: newer.software,
        }
    }
}

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
        self.trial = self.trial.filter(|one| *one != seq);
        match landing {
            Some(landing) => self.judge(landing).await,
            None => {
                let outcome = Outcome::Later { after: None, answered: false };
                let author = self.authority.clone();
                let landed = Landed { seq, outcome, reason: "a fault of ours", author: &author };
                let event = self.helm.land(&landed, self.now());
                self.take_note(event, &landed);
            }
        }
        let save = self.save_place();
        if self.helm.position().is_done(seq) {
            self.owe_save(save);
        }
        self.note();
    }

    async fn judge(&mut self, landing: Landing) {
        let now = self.now();
        let Landing { seq, at, outcome, ref reason, learned, heard, forwarded, downgraded, took, ref author } = landing;
        let announce = (forwarded || downgraded) && self.helm.judge_forwards(downgraded, author);
        let shared = heard.and_then(|heard| self.hear(heard));
        if heard.is_some_and(Heard::is_vain) {
            self.own_until = Some(now.instant + VAIN_REST);
        }
        if learned.is_some() || announce || shared.is_some() {
            let (announce_until, software) = (announce.then(|| now.wall.plus(DOWNGRADE)), self.facts.software.clone());
            Box::pin(self.learn(Learned { scheme: learned, shared, announce_until, software })).await;
        }
        if !matches!(outcome, Outcome::Later { answered: false, .. } | Outcome::Ours) {
            self.usual = if self.usual.is_zero() { took } else { (self.usual * 4 + took) / 5 };
        }
        let landed = Landed { seq, outcome, reason, author };
        match self.helm.land(&landed, now) {
            // Boxed: rare, and a fetch is big; every lane would carry its size.
            Event::Ask => Box::pin(self.ask(&landed)).await,
            event => {
                if event == Event::Delivered {
                    self.shared.metrics.lag_seconds.observe(now.wall.since(at).as_secs_f64());
                }
                self.take_note(event, &landed);
            }
        }
    }

    /// Asks the actor where its inbox is now.
    async fn ask(&mut self, landed: &Landed<'_>) {
        let subscriber = self.shared.store.subscriber(&self.authority);
        let found = match subscriber.as_ref().and_then(|one| one.served()) {
            Some(served) => reread(&self.shared.courier, &self.shared.store, &self.authority, served).await,
            None => Ok(Reread::Unclear),
        };
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(peer.host = %self.authority, %error, "its new inbox was not written down");
            Reread::Unclear
        });
        let (event, gone) = self.helm.found(landed, found, self.now());
        self.take_note(event, landed);
        if gone {
            self.end("inbox and actor are gone");
        }
    }

    /// Counts, and tells.
    fn take_note(&mut self, event: Event, landed: &Landed<'_>) {
        let Landed { seq, reason, .. } = landed;
        let host = &self.authority;
        let result = match event {
            Event::Delivered => "delivered",
            Event::Dropped | Event::Paused | Event::GivenUp => "dropped",
            Event::Later { .. } | Event::Ask => "later",
        };
        self.shared.count(result, 1);
        match event {
            Event::Delivered | Event::Ask => return,
            Event::Dropped => {
                tracing::debug!(peer.host = %host, log.seq = seq.0, reason, "not delivered, and not tried again");
            }
            Event::Paused => tracing::warn!(peer.host = %host, reason, "it refuses us again and again: paused"),
            Event::GivenUp => {
                tracing::warn!(peer.host = %host, log.seq = seq.0, reason, "given up: others go through");
            }
            Event::Later { first: true } => {
                tracing::info!(peer.host = %host, reason, "it does not answer as it should");
            }
            Event::Later { first: false } => {}
        }
        self.handle.say(reason);
        let was_theirs = landed.outcome != Outcome::Ours;
        if was_theirs && matches!(event, Event::Paused | Event::Later { .. }) && self.helm.is_over(self.now()) {
            self.end("nothing has gone through for too long");
        }
    }

    fn end(&self, why: &'static str) {
        tracing::warn!(peer.host = %self.authority, why, "the subscription ends");
        self.shared.end_subscription(self.authority.clone(), self.slot);
    }

    /// Counts what it made of a shared signature; what of that is news.
    fn hear(&self, heard: Heard) -> Option<Sharing> {
        let known = self.facts.shared;
        self.shared.metrics.shared_signatures.with_label_values(&[heard.word(known)]).inc();
        heard.news(known)
    }

    /// Remembers for good what was learned of this server.
    async fn learn(&mut self, learned: Learned) {
        learned.apply(&mut self.facts);
        if learned.shared == Some(Sharing::Refused) {
            tracing::info!(peer.host = %self.authority, "it refuses shared signatures: it gets its own from now on");
        }
        if learned.announce_until.is_some() {
            self.shared.count("downgraded", 1);
            tracing::info!(peer.host = %self.authority, "it refuses forwarded posts: they are announced to it");
        }
        let now = Instant::now();
        let is_soon = |at: Instant| now.duration_since(at) < PROFILE_APART;
        if learned.scheme.is_some() && !self.profile_learned.is_some_and(is_soon) {
            self.profile_learned = Some(now);
        } else if learned.shared.is_none() && learned.announce_until.is_none() {
            // For this lane alone, until it looks at what is known again.
            return;
        }
        self.unwritten = std::mem::take(&mut self.unwritten).and(learned);
        self.write_down().await;
    }

    /// Writes down what was learned. What a busy store does not take is kept, and written when the lane next looks at what is
    /// known.
    pub(super) async fn write_down(&mut self) {
        let learned = self.unwritten.clone();
        if self.shared.remember(&self.authority, move |facts| learned.apply(facts)).await {
            self.unwritten = Learned::default();
        }
    }

    /// Has the ledger write down how the lane fares, if that is news.
    pub(super) fn note(&mut self) {
        if self.shared.ledger.note(&self.authority, self.slot, self.helm.health(), &self.written) {
            self.written = self.helm.health().clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(software: &str, shared: Option<Sharing>, scheme: Option<Scheme>) -> Learned {
        Learned { scheme, shared, announce_until: None, software: Some(software.to_owned()) }
    }

    #[test]
    fn what_was_learned_of_one_software_says_nothing_of_what_replaced_it() {
        let refused = learned("mastodon", Some(Sharing::Refused), None);
        let facts_of = |software: &str| {
            let mut facts = AuthorityFacts { software: Some(software.to_owned()), ..AuthorityFacts::default() };
            refused.apply(&mut facts);
            facts.shared
        };
        assert_eq!((facts_of("mastodon"), facts_of("misskey")), (Some(Sharing::Refused), None));
        let later = learned("mastodon", None, Some(Scheme::Rfc9421));
        let both = refused.clone().and(later);
        assert_eq!(both, learned("mastodon", Some(Sharing::Refused), Some(Scheme::Rfc9421)));
        let other = learned("misskey", None, Some(Scheme::Rfc9421));
        assert_eq!(both.and(other.clone()), other);
    }
}

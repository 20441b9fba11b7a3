//! What an author says about being found, as their own document said it when it was last read, and when that was. For the
//! search, which takes no post on a word that is older than a day.

use std::sync::Arc;
use std::time::Duration;

use super::memory::Kept;
use super::{PeerFault, Peers};
use crate::cache::Kind;
use crate::clock::Timestamp;
use crate::ids::Iri;
use crate::net::Fetched;
use crate::wire::json;
use crate::wire::searchable::{ActorSignals, Profile, shows_word};

/// How old a reading may be when a post is taken in.
pub const READING_LIFE: Duration = Duration::from_secs(24 * 3600);

/// One reading of an actor's document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it said about being found.
    pub signals: ActorSignals,
    /// What it shows.
    pub profile: Profile,
    /// When its origin was asked for it: what it said later we do not know.
    pub read_at: Timestamp,
}

impl Peers {
    /// The last reading of this actor, if it is less than a day old. Asks nobody.
    pub async fn kept_reading(&self, actor: &Iri) -> Option<Arc<Reading>> {
        if let Some(kept) = self.readings.get(actor, self.clock.now()).await {
            return kept.ok();
        }
        let cached = self.disk.get(Kind::Actor, actor.as_str())?;
        let now = self.clock.now();
        // A clock that was wrong once may have written it.
        if cached.at > now || now.since(cached.at) >= READING_LIFE {
            return None;
        }
        let document = json::parse(&cached.bytes).ok()?;
        self.keep_reading(actor, &document, cached.at, cached.bytes.len()).await
    }

    /// A reading of this actor that is less than a day old.
    ///
    /// # Errors
    /// [`PeerFault`]; remembered for a while.
    pub async fn reading(&self, actor: &Iri) -> Result<Arc<Reading>, PeerFault> {
        match self.kept_reading(actor).await {
            Some(kept) => Ok(kept),
            None => self.reading_now(actor).await,
        }
    }

    /// A reading of this actor from its origin, now.
    ///
    /// # Errors
    /// [`PeerFault`].
    pub async fn reading_now(&self, actor: &Iri) -> Result<Arc<Reading>, PeerFault> {
        let asked_at = self.clock.now();
        let read = self.read_fresh(actor).await;
        read.actor.outcome?;
        read.reading.filter(|reading| reading.read_at >= asked_at).ok_or(PeerFault::TryLater("busy"))
    }

    /// Reads this actor from its origin, now and whole, whatever its origin thinks has not changed; for each of these words,
    /// whether its profile shows it.
    ///
    /// # Errors
    /// [`PeerFault`].
    pub async fn shows_now(&self, actor: &Iri, words: &[String]) -> Result<Vec<bool>, PeerFault> {
        self.disk.remove(Kind::Etag, actor.as_str());
        let reading = self.reading_now(actor).await?;
        let kept = self.disk.get(Kind::Actor, actor.as_str()).filter(|kept| kept.at >= reading.read_at);
        let document = kept.and_then(|kept| json::parse(&kept.bytes).ok()).ok_or(PeerFault::TryLater("not kept"))?;
        Ok(words.iter().map(|word| shows_word(&document, word)).collect())
    }

    /// Takes note of what a document said that was just fetched; whether it is the newest that we have, and what the newest
    /// says that is in memory.
    pub(super) async fn note_reading(&self, fetched: &Fetched) -> (bool, Option<Arc<Reading>>) {
        if let Some(Ok(kept)) = self.readings.get(&fetched.id, self.clock.now()).await
            && kept.read_at > fetched.asked_at
        {
            return (false, Some(kept));
        }
        // What was forgotten in memory is on disk still, with its time.
        let (asked_at, now) = (fetched.asked_at, self.clock.now());
        if self.disk.get(Kind::Actor, fetched.id.as_str()).is_some_and(|kept| kept.at > asked_at && kept.at <= now) {
            return (false, None);
        }
        (true, self.keep_reading(&fetched.id, &fetched.value, fetched.asked_at, fetched.bytes.len()).await)
    }

    async fn keep_reading(
        &self,
        actor: &Iri,
        document: &serde_json::Value,
        read_at: Timestamp,
        bytes: usize,
    ) -> Option<Arc<Reading>> {
        let (signals, profile) = (ActorSignals::of(document), Profile::of(document)?);
        let reading = Arc::new(Reading { signals, profile, read_at });
        self.readings.put(actor, Kept::value(reading.clone(), read_at.plus(READING_LIFE), bytes.min(4096))).await;
        Some(reading)
    }
}

//! Nothing is kept longer than its use: the log is trimmed, old ids, tombstones and servers that the operator never
//! answered are forgotten, and so is who said no long ago; held posts that waited too long are dropped, refusals are written in batches and dropped after
//! their week.
//!
//! A store that is busy just now is no failure: the next round comes soon.

use std::time::Duration;

use super::Relay;
use super::screening::{AUTHOR_DAYS, NEWCOMER_DAYS};
use super::subscribe::SOFTWARE_LIFE;
use crate::clock::Timestamp;
use crate::consent::MAX_RETENTION;
use crate::ids::{Authority, Seq};
use crate::store::{
    AUDIT_KEPT, Act, AuthorityFacts, Edited, MOST_AUDITED, Refused, RuleChange, SeenSet, Source, StoreError,
    Subscriber, SubscriberState, Suppressed, SwitchedOff, Tx,
};
use crate::supervise::Worker;

const EVERY: Duration = Duration::from_secs(60);
/// How long the log waits for a worker that reads it.
const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);
const REFUSALS_EVERY: Duration = Duration::from_secs(2);
/// How long signatures of control messages are remembered: longer than any of them is taken (an hour and five minutes).
const SIGNATURE_HOURS: u32 = 3;
/// How long a server waits for the operator before its Follow is forgotten. Its admin may ask again.
const PENDING_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How often it is looked who said no so long ago that it may be forgotten, and what of the audit log may.
const NOES_EVERY: Duration = Duration::from_secs(3600);
/// How long a hash of somebody who said no is kept. Who blocks us or asked to be removed is kept until they take it back.
const REFUSED_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How long a rule is kept after it expired, and how many are taken out in one go: as many as the audit log names one by one.
const EXPIRED_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const EXPIRED_AT_ONCE: usize = 20;

/// Servers of which a round asks whether they are to be forgotten, in one go and in all.
const FACTS_PAGE: usize = 500;
const FACTS_PAGES: usize = 20;

/// Trims the log and forgets old ids.
pub struct Housekeeping {
    relay: Relay,
    done: bool,
    /// When who said no long ago was forgotten last.
    noes_at: Option<Timestamp>,
    /// Where the round through what is known of servers goes on.
    facts_from: String,
}

impl Housekeeping {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { relay, done: false, noes_at: None, facts_from: String::new() }
    }
}

impl Worker for Housekeeping {
    fn name(&self) -> &'static str {
        "housekeeping"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        if std::mem::take(&mut self.done) {
            return Ok(false);
        }
        self.done = true;
        unless_busy(self.relay.tidy().await)?;
        unless_busy(self.relay.write_down_given().await)?;
        unless_busy(self.tidy_facts().await)?;
        unless_busy(self.tidy_noes().await)?;
        Ok(true)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(EVERY).await;
    }
}

impl Housekeeping {
    async fn tidy_noes(&mut self) -> Result<(), StoreError> {
        let now = self.relay.0.clock.now();
        if self.noes_at.is_none_or(|at| now.since(at) >= NOES_EVERY) {
            self.relay.forget_noes(now).await?;
            self.relay.0.store.forget_audit(now.minus(AUDIT_KEPT), MOST_AUDITED).await?;
            self.relay.forget_expired_rules(now).await;
            self.noes_at = Some(now);
        }
        Ok(())
    }

    async fn tidy_facts(&mut self) -> Result<(), StoreError> {
        for _ in 0..FACTS_PAGES {
            self.facts_from = self.relay.forget_strangers(&self.facts_from).await?;
            if self.facts_from.is_empty() {
                break;
            }
        }
        Ok(())
    }
}

/// Writes down what was refused, and what servers were told.
pub struct RefusalKeeper {
    relay: Relay,
}

impl RefusalKeeper {
    /// A worker.
    #[must_use]
    pub fn new(relay: Relay) -> Self {
        Self { relay }
    }
}

impl Worker for RefusalKeeper {
    fn name(&self) -> &'static str {
        "refusals"
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let parts = &self.relay.0;
        let oldest = parts.clock.now().minus(parts.keep.refusals);
        let saved = parts.refusals.save(&parts.store, oldest, parts.keep.refusals_max).await;
        unless_busy(saved.map(|_rows| ()))?;
        unless_busy(parts.knocks.save(&parts.store, parts.clock.now()).await.map(|_rows| ()))?;
        Ok(false)
    }

    async fn wait(&mut self) {
        tokio::time::sleep(REFUSALS_EVERY).await;
    }
}

impl Relay {
    /// One round of housekeeping.
    ///
    /// # Errors
    /// The store's.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let parts = &self.0;
        self.forget_who_waited().await?;
        self.tidy_held().await?;
        // A rule may have expired that was an exemption.
        self.enforce().await?;
        self.trim_log().await?;
        let days = |span: Duration| u32::try_from(span.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX);
        let (remember, tombstones) = (days(parts.keep.remember), days(parts.keep.tombstones));
        let sealed = parts
            .store
            .tidy_seen(|set| match set {
                SeenSet::Activities | SeenSet::Objects => remember,
                SeenSet::Signatures => SIGNATURE_HOURS,
                SeenSet::Tombstones => tombstones,
                SeenSet::Authors => AUTHOR_DAYS,
                SeenSet::Newcomers => NEWCOMER_DAYS,
            })
            .await?;
        if sealed.sealed + sealed.forgotten > 0 {
            tracing::debug!(sealed = sealed.sealed, forgotten = sealed.forgotten, "ids put in order");
        }
        parts.metrics.log_entries.set(i64::try_from(parts.log.len()?).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Not beyond the places of those who read the log: they follow the head closely, as what has to wait is in rows of
    /// their own. One that stands still does not fill the disk: after a week it loses its place, and that is told.
    async fn trim_log(&self) -> Result<(), StoreError> {
        let (parts, now) = (&self.0, self.0.clock.now());
        let places: Vec<Option<Seq>> =
            self.readers().map(|name| parts.store.worker_cursor(name)).collect::<Result<_, StoreError>>()?;
        let keep_from = places.into_iter().map(Option::unwrap_or_default).min().unwrap_or_default();
        while parts.log.trim(now.minus(parts.keep.retention), keep_from).await? > 0 {}
        let longest = parts.keep.retention.max(LONGEST_WAIT);
        let mut lost = 0;
        loop {
            match parts.log.trim(now.minus(longest), parts.log.head()).await? {
                0 => break,
                more => lost += more,
            }
        }
        if lost > 0 {
            tracing::error!(lost, "a worker has not read the log for a week: entries are gone that it has not seen");
        }
        Ok(())
    }

    /// Forgets what was learned of servers that are not here and were not looked at for a day: whoever has many names
    /// would have us remember each. One page from the key `from`; where the next one begins, empty after the last.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_strangers(&self, from: &str) -> Result<String, StoreError> {
        let before = self.0.clock.now().minus(SOFTWARE_LIFE);
        let is_old = move |facts: &AuthorityFacts| facts.software_read.is_none_or(|at| at < before);
        let page = self.0.store.page::<AuthorityFacts>(from, FACTS_PAGE)?;
        let next = page.last().filter(|_| page.len() == FACTS_PAGE).map(|(last, _)| format!("{last}\0"));
        let (here, searched) = (self.0.store.subscribers(), self.0.store.search_servers());
        let is_here = |name: &Authority| here.contains_key(name) || searched.contains_key(name);
        let old = page.into_iter().filter(|(_, facts)| is_old(facts));
        let old = old.filter_map(|(name, _)| Authority::parse(&name).ok()).filter(|name| !is_here(name));
        let strangers: Vec<Authority> = old.collect();
        if !strangers.is_empty() {
            let rules = self.0.rules.clone();
            let forget = move |tx: &mut Tx<'_>| {
                let mut gone = Vec::new();
                for name in strangers {
                    // It may have joined since, or was looked at.
                    let old = tx.get::<AuthorityFacts>(name.as_str())?.is_some_and(|facts| is_old(&facts));
                    if old && tx.subscriber(&name)?.is_none() && tx.search_server(&name)?.is_none() {
                        tx.remove::<AuthorityFacts>(name.as_str())?;
                        gone.push((name, None));
                    }
                }
                tx.after_commit(move |_store| rules.learn(gone));
                Ok(())
            };
            self.0.store.write(forget).await?;
        }
        Ok(next.unwrap_or_default())
    }

    /// Forgets who said no to being found or counted long ago, and versions of posts that are void and gone from the log.
    async fn forget_noes(&self, now: Timestamp) -> Result<(), StoreError> {
        let parts = &self.0;
        if let Ok(oldest) = parts.log.at_or_after(Seq(0)).map(|entry| entry.map(|entry| entry.seq)) {
            parts.store.forget::<Edited>(|edited| oldest.is_none_or(|oldest| edited.before <= oldest)).await?;
        }
        parts.store.forget::<Refused>(|no| !no.lasts() && now.since(no.at) > REFUSED_LIFE).await?;
        parts.store.forget::<SwitchedOff>(|off| now.since(off.at) > MAX_RETENTION).await?;
        // What is older is taken from nobody.
        parts.store.forget::<Suppressed>(|post| now.since(post.at) > MAX_RETENTION).await
    }

    /// Takes out rules that have meant nothing for a while; the audit log says so. What hinders that is no reason to stop.
    async fn forget_expired_rules(&self, now: Timestamp) {
        let before = now.minus(EXPIRED_LIFE);
        let rules = self.0.rules.set();
        let old = rules.iter().map(|one| &one.rule);
        let old = old.filter(|rule| rule.source != Source::Config && rule.expires.is_some_and(|until| until < before));
        let old: Vec<RuleChange> = old
            .take(EXPIRED_AT_ONCE)
            .map(|rule| RuleChange::Remove(rule.target.clone(), rule.source.clone()))
            .collect();
        if old.is_empty() {
            return;
        }
        let act = Act::relay("it expired over a month ago");
        if let Err(error) = self.change_rules(old, &act).await {
            tracing::warn!(error = format!("{error:#}"), "rules that expired could not be taken out");
        }
    }

    /// Forgets servers that asked to join and were not answered in time.
    async fn forget_who_waited(&self) -> Result<(), StoreError> {
        let before = self.0.clock.now().minus(PENDING_LIFE);
        let all = self.0.store.subscribers();
        let stale = all.values().filter(|one| waited_since(one, before)).map(|one| one.authority.clone());
        let stale: Vec<Authority> = stale.collect();
        if stale.is_empty() {
            return Ok(());
        }
        let rules = self.0.rules.clone();
        let forget = move |tx: &mut Tx<'_>| {
            for authority in stale {
                // It may have been answered, or asked again, since.
                if tx.subscriber(&authority)?.is_some_and(|one| waited_since(&one, before)) {
                    tx.remove_subscriber(&authority)?;
                    tx.remove::<AuthorityFacts>(authority.as_str())?;
                    tracing::info!(peer.host = %authority, "forgotten: it waited for an answer for a month");
                    let rules = rules.clone();
                    tx.after_commit(move |_store| rules.learn([(authority, None)]));
                }
            }
            Ok(())
        };
        self.0.store.write(forget).await
    }
}

/// Whether a server waits for the operator and last asked before `before`.
fn waited_since(subscriber: &Subscriber, before: Timestamp) -> bool {
    let asked = subscriber.registrations.iter().map(|one| one.at).max().unwrap_or(subscriber.joined_at);
    subscriber.state == SubscriberState::Pending && asked < before
}

fn unless_busy(done: Result<(), StoreError>) -> Result<(), StoreError> {
    if matches!(done, Err(StoreError::Busy)) { Ok(()) } else { done }
}

//! With whom the operator does not deal ([`rules`]), how much anybody may send ([`limits`]) and ask ([`turns`]), which
//! programs are let in ([`tokens`]), and which posts the operator looks at first ([`screen`], with what [`wave`] and
//! [`repeats`] count). Each is asked at every use (joining, sending, receiving, fetching), so that a rule takes effect
//! everywhere as soon as it is made.
//!
//! [`Rules`] holds the rules that count now: those of the configuration, and over them those that were made by command,
//! which the store keeps. What a change means for those who are here already is `relay`'s to do.

pub mod limits;
pub mod lists;
pub mod repeats;
pub mod rules;
pub mod screen;
pub mod tokens;
pub mod turns;
pub mod wave;

use std::sync::{Arc, PoisonError, RwLock};

pub use limits::{Limits, Try, VainLimit, network};
pub use rules::{Active, MAX_KEYWORDS, RuleSet, Ruling, Verdict};

use crate::config;
use crate::ids::Authority;
use crate::store::{Act, AuthorityFacts, Rule, RuleChange, Store, StoreError, Tx};

/// Changes written in one transaction: the inbox waits for it.
pub const PER_WRITE: usize = 2000;

/// What is written with a change of the rules.
pub type Also = Box<dyn FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send>;

/// A long change was written in part.
#[derive(Debug, thiserror::Error)]
#[error("{written} of {all} changes were written and count, the others were not; make all of them again")]
pub struct Halfway {
    /// How many count.
    pub written: usize,
    /// Of how many.
    pub all: usize,
    /// Why not the others.
    #[source]
    pub cause: StoreError,
}

/// The rules in force, shared by all who ask. Cheap to clone; every clone sees a change at once.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    now: RwLock<Arc<RuleSet>>,
    /// Held while rules are changed, so that no change is made of what another one is about to replace.
    changing: tokio::sync::Mutex<()>,
}

impl Rules {
    /// The rules of the config alone.
    #[must_use]
    pub fn new(policy: &config::Policy, relay: &config::Relay) -> Self {
        let set = Arc::new(RuleSet::of_config(policy, relay));
        Self(Arc::new(Shared { now: RwLock::new(set), changing: tokio::sync::Mutex::default() }))
    }

    /// Takes in the rules that `store` keeps, and what it knows of servers' software.
    ///
    /// # Errors
    /// The store's.
    pub fn load(&self, store: &Store) -> Result<(), StoreError> {
        let rows = store.all::<Rule>()?.into_iter().map(|(_, rule)| RuleChange::Put(rule)).collect::<Vec<_>>();
        let known = store.all::<AuthorityFacts>()?.into_iter();
        let known = known.filter_map(|(name, facts)| Some((Authority::parse(&name).ok()?, facts.software)));
        let set = self.set().with(&rows);
        set.learn(known);
        *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        Ok(())
    }

    /// What counts now: a value that stays as it is while it is used.
    #[must_use]
    pub fn set(&self) -> Arc<RuleSet> {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes `changes` down if `may` has nothing against what the rules are then; when it returns they are durable, and
    /// count for whoever asks from now on. `may` is asked when no other change can come between. `also` is written with the
    /// last of them. What the rules are then is found out off the async threads: there may be hundreds of thousands.
    ///
    /// # Errors
    /// That of `may`, and nothing has happened. The store's; of a few thousand changes, [`Halfway`]: those written before it
    /// count then. Making them all again does no harm.
    pub async fn change(
        &self,
        store: &Store,
        changes: Arc<Vec<RuleChange>>,
        act: &Act,
        also: Option<Also>,
        may: impl FnOnce(&RuleSet) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        let (before, all) = (self.set(), changes.clone());
        let weigh = move || {
            let after = before.with(&all);
            may(&after).map(|()| after)
        };
        let after = tokio::task::spawn_blocking(weigh).await??;
        let (mut written, mut also) = (0, also);
        loop {
            let (part, start, act) = (changes.clone(), written, act.clone());
            let end = changes.len().min(start + PER_WRITE);
            let also = if end == changes.len() { also.take() } else { None };
            let write = move |tx: &mut Tx<'_>| {
                let part = part.get(start..end).unwrap_or_default();
                if !part.is_empty() {
                    tx.audit_rules(&act, part)?;
                }
                part.iter().try_for_each(|change| tx.change_rule(change))?;
                also.map_or(Ok(()), |also| also(tx))
            };
            if let Err(cause) = store.write(write).await {
                if written == 0 {
                    return Err(cause.into());
                }
                let (before, all) = (self.set(), changes.clone());
                let part = move || before.with(all.get(..written).unwrap_or_default());
                self.put(tokio::task::spawn_blocking(part).await?);
                return Err(Halfway { written, all: changes.len(), cause }.into());
            }
            written = end;
            if written == changes.len() {
                self.put(after);
                return Ok(());
            }
        }
    }

    fn put(&self, set: RuleSet) {
        let mut now = self.0.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(set);
    }

    /// Takes note of what servers run; `None`: it is not known, or forgotten.
    pub fn learn(&self, known: impl IntoIterator<Item = (Authority, Option<String>)>) {
        self.set().learn(known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::{Severity, Source};

    #[tokio::test]
    async fn of_a_change_that_fails_halfway_what_was_written_counts_and_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_787_486_400);
        let store = Store::open(dir.path(), Clock::manual(now)).unwrap();
        let config = config::Config::embedded();
        let rules = Rules::new(&config.policy, &config.relay);
        let rule = |number: usize| {
            let target = format!("s{number}.example").parse().unwrap();
            RuleChange::Put(Rule::new(target, Severity::Block, Source::Operator, now))
        };
        let change = async |count: usize| {
            let also: Also = Box::new(|_tx| Err(StoreError::Declined("no".to_owned())));
            let changes = Arc::new((0..count).map(rule).collect());
            rules.change(&store, changes, &Act::local(""), Some(also), |_after| Ok(())).await.unwrap_err()
        };
        assert!(change(5).await.is::<StoreError>(), "nothing was written");
        assert_eq!((rules.set().len(), store.all::<Rule>().unwrap().len()), (0, 0));
        let error = change(PER_WRITE + 5).await;
        let halfway = error.downcast_ref::<Halfway>().expect("some were written");
        assert_eq!((halfway.written, halfway.all), (PER_WRITE, PER_WRITE + 5));
        assert_eq!((rules.set().len(), store.all::<Rule>().unwrap().len()), (PER_WRITE, PER_WRITE));
        let keyword =
            RuleChange::Put(Rule::new("keyword:spam".parse().unwrap(), Severity::Block, Source::Operator, now));
        rules.change(&store, Arc::new(vec![keyword]), &Act::local(""), None, |_after| Ok(())).await.unwrap();
        rules.change(&store, Arc::new(vec![rule(9_999_999)]), &Act::local(""), None, |_after| Ok(())).await.unwrap();
        assert_eq!(rules.set().text("spam", now).verdict, Verdict::Block, "a keyword outlives other changes");
    }
}

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
const PER_WRITE: usize = 2000;

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
    /// count for whoever asks from now on. `may` is asked when no other change can come between.
    ///
    /// # Errors
    /// That of `may`, and nothing has happened. The store's: of a few thousand changes, those written before it count
    /// then; making them all again does no harm.
    pub async fn change(
        &self,
        store: &Store,
        changes: Vec<RuleChange>,
        act: &Act,
        may: impl FnOnce(&RuleSet) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        may(&self.set().with(&changes))?;
        let changes = Arc::new(changes);
        let (mut written, mut done) = (0, Ok(()));
        while done.is_ok() && written < changes.len() {
            let (part, start, act) = (changes.clone(), written, act.clone());
            let write = move |tx: &mut Tx<'_>| {
                let part = part.get(start..part.len().min(start + PER_WRITE)).unwrap_or_default();
                tx.audit_rules(&act, part)?;
                part.iter().try_for_each(|change| tx.change_rule(change))
            };
            done = store.write(write).await;
            if done.is_ok() {
                written = changes.len().min(start + PER_WRITE);
            }
        }
        let set = self.set().with(changes.get(..written).unwrap_or_default());
        let mut now = self.0.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(set);
        Ok(done?)
    }

    /// Takes note of what servers run; `None`: it is not known, or forgotten.
    pub fn learn(&self, known: impl IntoIterator<Item = (Authority, Option<String>)>) {
        self.set().learn(known);
    }
}

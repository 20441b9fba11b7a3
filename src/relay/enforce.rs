//! A change of the operator's rules takes effect at once: when [`Relay::change_rules`] returns, the rule is durable,
//! everybody who asks hears it, servers that are blocked by it are no subscribers any more, and what was still to be said
//! to them is not said, but for the Reject that tells them. What lies in the log is judged by the rules again just before
//! it leaves; that is delivery's.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::Relay;
use super::route::Effect;
use super::verify::Verified;
use crate::clock::{Clock, Timestamp};
use crate::ids::{Authority, Iri};
use crate::log::Draft;
use crate::policy::{Also, Halfway, MAX_KEYWORDS, RuleSet, Rules, Verdict};
use crate::store::{Act, ControlRow, Following, MAX_REGISTRATIONS, Publisher, RuleChange, Severity, StoreError, Tx};

/// Messages read in one go.
const PAGE: usize = 100;

/// How many Rejects, and how many Undos, wait for a blocked server: one for each Follow that there can have been. Of
/// more, the newest; the others repeat them.
const PARTINGS: usize = MAX_REGISTRATIONS;

/// Changes that are logged one by one; of a long list, the first.
const LOGGED: usize = 20;

/// What a change of the rules means for those who are here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Impact {
    /// Subscribers that are turned away, those that wait for the operator included.
    pub removed: Vec<Authority>,
    /// Subscribers whose posts are not relayed any more.
    pub silenced: Vec<Authority>,
    /// Subscribers whose posts are relayed again.
    pub freed: Vec<Authority>,
    /// Subscribers whose posts are still relayed, and not to be found any more.
    pub unsearched: Vec<Authority>,
    /// Subscribers whose posts no rule keeps out of search any more.
    pub searchable: Vec<Authority>,
    /// Servers that search is switched off for, because they are turned away.
    pub search_ended: Vec<Authority>,
    /// Servers that may send although they never follow, and whose posts are not taken any more.
    pub publishers: Vec<Authority>,
    /// The same whose posts are taken again.
    pub publishers_freed: Vec<Authority>,
    /// Follows of ours that end.
    pub unfollowed: Vec<Iri>,
    /// Messages to blocked servers that are not sent any more.
    pub messages_dropped: usize,
}

impl Impact {
    /// How many who are here it touches, whether it takes something from them or gives it back.
    #[must_use]
    pub const fn touched(&self) -> usize {
        self.removed.len()
            + self.silenced.len()
            + self.freed.len()
            + self.unsearched.len()
            + self.searchable.len()
            + self.search_ended.len()
            + self.publishers.len()
            + self.publishers_freed.len()
            + self.unfollowed.len()
    }
}

/// Who is here that the rules do not want here.
#[derive(Default)]
struct Unwanted {
    subscribers: Vec<(Authority, String)>,
    searched: Vec<(Authority, String)>,
    following: Vec<Following>,
    messages: Vec<String>,
}

impl Relay {
    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// The clock that rules expire by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The rules as `changes` would make them.
    ///
    /// # Errors
    /// A sentence about the change that cannot be: a rule on ourselves, or one that asks for what its target cannot give.
    pub fn rules_after(&self, changes: &[RuleChange]) -> anyhow::Result<RuleSet> {
        for change in changes {
            if let RuleChange::Put(rule) = change {
                rule.check()?;
            }
        }
        let after = self.0.rules.set().with(changes);
        self.may_be(&after)?;
        Ok(after)
    }

    /// Whether the rules may be `after`, whatever else was changed meanwhile.
    fn may_be(&self, after: &RuleSet) -> anyhow::Result<()> {
        let (before, now) = (self.0.rules.set(), self.0.clock.now());
        let own = self.0.identity.ids.actor.authority();
        let spared = |rules: &RuleSet| rules.name(&own, now).verdict == Verdict::Allow;
        anyhow::ensure!(!spared(&before) || spared(after), "{own} is this relay itself: a rule on it is a mistake");
        anyhow::ensure!(
            after.keywords() <= MAX_KEYWORDS.max(before.keywords()),
            "there may be {MAX_KEYWORDS} keywords: each is tried on each post"
        );
        Ok(())
    }

    /// Whether a rule on `name` would cover this relay itself.
    #[must_use]
    pub fn is_ours(&self, name: &Authority) -> bool {
        let own = self.0.identity.ids.actor.authority();
        own == *name || own.is_within(name.as_str())
    }

    /// What would follow if the rules were `after`.
    ///
    /// # Errors
    /// The store's.
    pub fn impact(&self, after: &RuleSet) -> Result<Impact, StoreError> {
        let (before, now) = (self.0.rules.set(), self.0.clock.now());
        let unwanted = self.unwanted(after, now)?;
        let mut impact = Impact {
            removed: unwanted.subscribers.into_iter().map(|(authority, _why)| authority).collect(),
            search_ended: unwanted.searched.into_iter().map(|(authority, _why)| authority).collect(),
            unfollowed: unwanted.following.into_iter().map(|one| one.actor).collect(),
            messages_dropped: unwanted.messages.len(),
            ..Impact::default()
        };
        for authority in self.0.store.subscribers().keys() {
            match (before.verdict(authority, now), after.verdict(authority, now)) {
                (Verdict::Allow, Verdict::Silence) => impact.silenced.push(authority.clone()),
                (Verdict::Silence, Verdict::Allow) => impact.freed.push(authority.clone()),
                (_, Verdict::Allow) => {
                    let found = |rules: &RuleSet| rules.searchable_server(authority, now).verdict == Verdict::Allow;
                    match (found(&before), found(after)) {
                        (true, false) => impact.unsearched.push(authority.clone()),
                        (false, true) => impact.searchable.push(authority.clone()),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        for (host, _) in self.0.store.sound_page::<Publisher>("", usize::MAX)?.rows {
            let Ok(authority) = Authority::parse(&host) else { continue };
            let allowed = |rules: &RuleSet| rules.verdict(&authority, now) == Verdict::Allow;
            match (allowed(&before), allowed(after)) {
                (true, false) => impact.publishers.push(authority),
                (false, true) => impact.publishers_freed.push(authority),
                _ => {}
            }
        }
        impact.unsearched.sort();
        impact.searchable.sort();
        impact.removed.sort();
        impact.search_ended.sort();
        impact.silenced.sort();
        impact.freed.sort();
        Ok(impact)
    }

    /// What the rules would be after `changes`, and what would follow. Off the async threads and one at a time: there may be
    /// hundreds of thousands of rules.
    ///
    /// # Errors
    /// As [`Relay::rules_after`], and the store's.
    pub async fn weigh(&self, changes: Arc<Vec<RuleChange>>) -> anyhow::Result<(RuleSet, Impact)> {
        let _one_at_a_time = self.0.lists.weighing.lock().await;
        let relay = self.clone();
        let weigh = move || {
            let after = relay.rules_after(&changes)?;
            let impact = relay.impact(&after)?;
            anyhow::Ok((after, impact))
        };
        tokio::task::spawn_blocking(weigh).await?
    }

    /// Changes the rules, and carries out what follows; what that was.
    ///
    /// # Errors
    /// As [`Relay::rules_after`], and the store's. What was written of a long change is carried out all the same, and said:
    /// [`crate::policy::Halfway`].
    pub async fn change_rules(&self, changes: Vec<RuleChange>, act: &Act) -> anyhow::Result<Impact> {
        self.change_rules_with(changes, act, None).await
    }

    /// The same, with something that is written together with the last of them.
    pub(super) async fn change_rules_with(
        &self,
        changes: Vec<RuleChange>,
        act: &Act,
        also: Option<Also>,
    ) -> anyhow::Result<Impact> {
        let changes = Arc::new(changes);
        let (_after, impact) = self.weigh(changes.clone()).await?;
        tracing::info!(count = changes.len(), "the operator changes rules; the audit log has all of them");
        // What lets somebody in first: whoever hides one among many does not choose which are logged.
        let lets_in = |change: &&RuleChange| match change {
            RuleChange::Remove(..) => true,
            RuleChange::Put(rule) => rule.severity == Severity::Allow,
        };
        for change in changes.iter().filter(lets_in).chain(changes.iter().filter(|one| !lets_in(one))).take(LOGGED) {
            tracing::info!(rule = ?change, "a rule changes");
        }
        // Asked again: another change may have come between.
        let relay = self.clone();
        let may = move |after: &RuleSet| relay.may_be(after);
        let changed = self.0.rules.change(&self.0.store, changes, act, also, may).await;
        if changed.as_ref().is_err_and(|error| !error.is::<Halfway>()) {
            return changed.map(|()| impact);
        }
        // A Follow that was judged by the old rules may be on its way to the disk. It is there once this write is.
        let turned_away = self.turn_away(self.unwanted(&self.0.rules.set(), self.0.clock.now())?).await;
        changed?;
        turned_away?;
        self.enforce().await?;
        Ok(impact)
    }

    /// Turns away who is here against the rules. Nothing to do, most of the time.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn enforce(&self) -> Result<(), StoreError> {
        let unwanted = self.unwanted(&self.0.rules.set(), self.0.clock.now())?;
        if unwanted.is_empty() { Ok(()) } else { self.turn_away(unwanted).await }
    }

    fn unwanted(&self, rules: &RuleSet, now: Timestamp) -> Result<Unwanted, StoreError> {
        let blocks = |authority: &Authority| rules.verdict(authority, now) == Verdict::Block;
        let mut unwanted = Unwanted::default();
        if !rules.iter().any(|one| one.rule.severity == Severity::Block && !one.rule.dry_run) {
            return Ok(unwanted);
        }
        let turned_away = |authority: &Authority| {
            let ruling = rules.server(authority, now);
            let why =
                if ruling.reason().is_empty() { "This relay does not deal with your server." } else { ruling.reason() };
            (ruling.verdict == Verdict::Block).then(|| (authority.clone(), why.to_owned()))
        };
        unwanted.subscribers = self.0.store.subscribers().keys().filter_map(turned_away).collect();
        unwanted.searched = self.0.store.search_servers().keys().filter_map(turned_away).collect();
        for (_, following) in self.0.store.all_sound::<Following>()? {
            if blocks(&following.actor.authority()) {
                unwanted.following.push(following);
            }
        }
        unwanted.messages = self.unwanted_messages(blocks)?;
        Ok(unwanted)
    }

    /// The keys of messages that are for nobody any more, where `blocks` tells who is blocked.
    fn unwanted_messages(&self, blocks: impl Fn(&Authority) -> bool) -> Result<Vec<String>, StoreError> {
        let (mut unwanted, mut from) = (Vec::new(), String::new());
        let mut partings: HashMap<(Authority, String), VecDeque<String>> = HashMap::new();
        loop {
            let page = self.0.store.page::<ControlRow>(&from, PAGE)?;
            let full = page.len() == PAGE;
            for (key, row) in page {
                from = format!("{key}\0");
                let authority = row.authority();
                if !blocks(&authority) {
                    continue;
                }
                if !row.is_parting() {
                    unwanted.push(key);
                    continue;
                }
                let kept = partings.entry((authority, row.what)).or_default();
                kept.push_back(key);
                if kept.len() > PARTINGS {
                    unwanted.extend(kept.pop_front());
                }
            }
            if !full {
                return Ok(unwanted);
            }
        }
    }

    async fn turn_away(&self, unwanted: Unwanted) -> Result<(), StoreError> {
        let relay = self.clone();
        let write = move |tx: &mut Tx<'_>| {
            for key in &unwanted.messages {
                tx.remove_control(key)?;
            }
            for (authority, why) in &unwanted.subscribers {
                if relay.evict(tx, authority, why)? {
                    tracing::info!(peer.host = %authority, "a rule turns it away");
                }
            }
            for (authority, why) in &unwanted.searched {
                if relay.end_search(tx, authority, why)? {
                    tracing::info!(peer.host = %authority, "a rule switches search off");
                }
            }
            for following in &unwanted.following {
                // It may have ended with the subscription.
                if tx.get::<Following>(following.actor.as_str())?.is_some() {
                    relay.send_unfollow(tx, following)?;
                }
            }
            Ok(())
        };
        self.0.store.write(write).await?;
        (self.0.signals.control)();
        Ok(())
    }

    /// Whether the rules keep what is said in `draft` from others, now.
    #[must_use]
    pub fn keeps_back(&self, draft: &Draft) -> bool {
        let (rules, now) = (self.0.rules.set(), self.0.clock.now());
        rules.post(&draft.actor, &draft.object, &draft.supplier, now).verdict != Verdict::Allow
    }

    /// Counts what the rules did to a request, or would have done.
    pub(super) fn count_rules(&self, rules: &RuleSet, verified: &Verified, effects: &[Effect], now: Timestamp) {
        let actor = &verified.activity.actor;
        let ruling = rules.post(actor, verified.activity.target.id().unwrap_or(actor), &verified.authority, now);
        let by_rule = |effect: &Effect| {
            matches!(effect, Effect::Ignore("silenced" | "blocked" | "blocked-actor" | "origin-not-relayed"))
        };
        if effects.iter().any(by_rule) {
            ruling.count(&self.0.metrics);
        } else if !effects.iter().all(|effect| matches!(effect, Effect::Ignore(_))) {
            ruling.count_dry(&self.0.metrics);
        }
    }
}

impl Unwanted {
    fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.searched.is_empty() && self.following.is_empty() && self.messages.is_empty()
    }
}

//! The second key: search is switched on for a server by its admin, whose instance actor follows our search actor, or by
//! the operator, who writes down on whose word. It is switched off by an Undo of that Follow, by the operator, or by a rule
//! that blocks the server.
//!
//! Whoever follows the search actor gives and is never sent anything but the answer: no subscriber, no lane, no Follow in
//! return. The answer comes from the search actor, because LitePub servers believe nobody else about a Follow of it.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Relay;
use super::effects::Outcome;
use super::subscribe::{
    MOST_ANSWERS, MOST_ANSWERS_OF_DOMAIN, MOST_ANSWERS_OF_SERVER, MOST_SERVERS, PER_DOMAIN, Welcome, essence,
    speaks_for_its_server, text, unique,
};
use super::verify::Verified;
use crate::clock::Timestamp;
use crate::config::{self, Admission};
use crate::ids::{Authority, Iri};
use crate::policy::{RuleSet, Verdict};
use crate::store::{
    Act, AuthorityFacts, Directive, MAX_REASON, MAX_REGISTRATIONS, SearchFollow, SearchServer, StoreError, Subscriber,
    SwitchedBy, Tx,
};
use crate::wire::actor::RemoteActor;
use crate::wire::author;

/// What is known of a server whose admin wants its people to be found.
pub struct Candidate<'a> {
    /// The server.
    pub authority: &'a Authority,
    /// Search is on for it already, or it is an active subscriber: somebody looked at it before.
    pub is_known: bool,
    /// What it runs, if it was read.
    pub software: Option<&'a str>,
    /// Other servers of the same registrable domain that search is on for.
    pub neighbours: usize,
}

/// Whether search may be switched on: as for joining, but that there is no waiting for the operator, who has a command for
/// it. Pure.
///
/// # Errors
/// Why not: a sentence for the other admin.
pub fn may_switch_on(
    candidate: &Candidate<'_>,
    config: &config::Relay,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<(), &'static str> {
    let authority = candidate.authority;
    if rules.name(authority, now).verdict == Verdict::Block {
        return Err("This relay does not deal with your server.");
    }
    if rules.server_with(authority, candidate.software, now).verdict == Verdict::Block {
        return Err("This relay does not take servers that run your software.");
    }
    if candidate.is_known || rules.is_listed(authority, now) {
        return Ok(());
    }
    match config.admission {
        Admission::Allowlist => Err("This relay takes only servers that are on its operator's list."),
        Admission::Approval => Err("The operator of this relay decides which servers are searched here: please ask."),
        Admission::Open if candidate.neighbours >= PER_DOMAIN => {
            Err("Search is on for too many servers of your domain already; the operator of this relay can help.")
        }
        Admission::Open => Ok(()),
    }
}

/// One server that search is switched on for, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Switched {
    /// The server.
    pub host: Authority,
    /// Since when.
    pub since: String,
    /// `admin` (its own) or `operator`.
    pub by: &'static str,
    /// The instance actor that follows, if its admin did it.
    pub actor: Option<Iri>,
    /// Why, if the operator did it.
    pub reason: String,
}

impl Switched {
    /// A row of the list.
    #[must_use]
    pub fn of(host: Authority, server: &SearchServer) -> Self {
        let (by, actor) = match &server.by {
            SwitchedBy::Admin { actor, .. } => ("admin", Some(actor.clone())),
            SwitchedBy::Operator => ("operator", None),
        };
        Self { host, since: server.since.rfc3339(), by, actor, reason: server.reason.clone() }
    }
}

impl Relay {
    /// A Follow of the search actor. By the server's own actor it is the admin's act; a person's is none.
    pub(super) fn search_on(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        actor: &RemoteActor,
    ) -> Result<Outcome, StoreError> {
        let (authority, now) = (&verified.authority, self.0.clock.now());
        if !speaks_for_its_server(actor, authority) {
            return Ok("personal-follow".into());
        }
        let (follow, before) = (essence(&verified.document), tx.search_server(authority)?);
        let follows = SearchFollow { actor: actor.id.clone(), inbox: actor.inbox.clone(), follow: follow.clone() };
        let is_one_more = before.as_ref().is_some_and(|before| !before.is_followed_by(&actor.id));
        let crowded = before.is_none() && self.0.store.search_servers().len() >= MOST_SERVERS;
        if crowded || tx.waiting_control()? >= MOST_ANSWERS {
            return Err(StoreError::Busy);
        }
        let (own, of_domain) = tx.waiting_control_for(&actor.inbox.authority())?;
        let deaf = own >= MOST_ANSWERS_OF_SERVER || of_domain >= MOST_ANSWERS_OF_DOMAIN;
        let facts = tx.get::<AuthorityFacts>(authority.as_str())?;
        let candidate = Candidate {
            authority,
            is_known: before.is_some() || tx.subscriber(authority)?.as_ref().is_some_and(Subscriber::is_active),
            software: facts.as_ref().and_then(|facts| facts.software.as_deref()),
            neighbours: self.search_neighbours(authority),
        };
        let rules = self.0.rules.set();
        let may = may_switch_on(&candidate, &self.0.config, &rules, now);
        let many = is_one_more && before.as_ref().is_some_and(|before| before.also.len() + 1 >= MAX_REGISTRATIONS);
        let may = if many { may.and(Err("Too many actors of your server follow this one already.")) } else { may };
        if let Err(why) = may {
            rules.server_with(authority, candidate.software, now).count(&self.0.metrics);
            if !deaf {
                tx.queue_control(self.search_answer("reject", &follow, &actor.id, &actor.inbox, Some(why)))?;
            }
            return Ok(Outcome { word: "search-refused", welcome: Some(Welcome::Reject(why)) });
        }
        if deaf {
            return Err(StoreError::Busy);
        }
        tx.queue_control(self.search_answer("accept", &follow, &actor.id, &actor.inbox, None))?;
        // It may follow again, or do itself what the operator wrote down: it was on all the while. Another of its actors
        // does not take the switch from the first one.
        let server = before.unwrap_or_else(|| SearchServer {
            since: now,
            by: SwitchedBy::Operator,
            reason: String::new(),
            also: Vec::new(),
        });
        tx.switch_search(authority, Some(server.followed_by(follows)))?;
        tracing::info!(peer.host = %authority, actor.id = %actor.id, "its admin switches search on");
        Ok(Outcome { word: "search-on", welcome: Some(Welcome::Accept) })
    }

    /// An Undo of such a Follow, by the actor that made it; `follow` names which, if the sender said. Whoever of several
    /// says no, that counts; the others are told.
    pub(super) fn search_off(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        follow: Option<&Iri>,
    ) -> Result<&'static str, StoreError> {
        let authority = &verified.authority;
        let Some(server) = tx.search_server(authority)? else { return Ok("search-not-on") };
        if server.by == SwitchedBy::Operator {
            return Ok("search-on-by-operator");
        }
        // An Undo that names another Follow is about an older one, delivered late: it ends nothing.
        let named = |ours: &Value| match (follow, ours.get("id").and_then(Value::as_str)) {
            (Some(id), Some(ours)) => ours == id.as_str(),
            (Some(_), None) | (None, _) => true,
        };
        let actor = &verified.activity.actor;
        let (gone, others): (Vec<_>, Vec<_>) = server.follows().into_iter().partition(|one| one.actor == *actor);
        if !gone.iter().any(|one| named(&one.follow)) {
            return Ok("undo-of-unknown-follow");
        }
        let why = "Another actor of your server switched search off.";
        for one in &others {
            tx.queue_control(self.search_answer("reject", &one.follow, &one.actor, &one.inbox, Some(why)))?;
        }
        tx.switch_search(authority, None)?;
        tracing::info!(peer.host = %authority, actor.id = %actor, "its admin switches search off");
        Ok("search-off")
    }

    /// An actor that switched search on is deleted: so is its word.
    pub(super) fn search_ends_with(tx: &mut Tx<'_>, actor: &Iri) -> Result<(), StoreError> {
        let authority = actor.authority();
        match tx.search_server(&authority)? {
            Some(server) if server.is_followed_by(actor) => tx.switch_search(&authority, None).map(|_was_on| ()),
            _ => Ok(()),
        }
    }

    /// Switches search off from our side; whether it was on. Who follows is told why.
    pub(super) fn end_search(&self, tx: &mut Tx<'_>, authority: &Authority, why: &str) -> Result<bool, StoreError> {
        let Some(server) = tx.search_server(authority)? else { return Ok(false) };
        for one in server.follows() {
            tx.queue_control(self.search_answer("reject", &one.follow, &one.actor, &one.inbox, Some(why)))?;
        }
        tx.switch_search(authority, None)
    }

    /// Servers that search is switched on for, by name.
    #[must_use]
    pub fn search_switched_on(&self) -> Vec<Switched> {
        let all = self.0.store.search_servers();
        let mut rows: Vec<Switched> = all.iter().map(|(host, server)| Switched::of(host.clone(), server)).collect();
        rows.sort_by(|one, other| one.host.cmp(&other.host));
        rows
    }

    /// The operator switches search on for a server, on somebody's word: `reason` says whose.
    ///
    /// # Errors
    /// A sentence: there is no search, no reason, a rule against the server, or its admin did it already.
    pub async fn record_search(&self, authority: &Authority, reason: &str, act: &Act) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.search.is_on(), "there is no search here: `search.api` is \"off\"");
        let reason = reason.trim();
        anyhow::ensure!(!reason.is_empty(), "say on whose word: --reason \"their admin asked by mail, 3 May\"");
        anyhow::ensure!(reason.chars().count() <= MAX_REASON, "a reason has at most {MAX_REASON} characters");
        self.refuse_to_ask(authority)?;
        let (key, reason, now, act) = (authority.clone(), reason.to_owned(), self.0.clock.now(), act.clone());
        let switch = move |tx: &mut Tx<'_>| {
            let before = tx.search_server(&key)?;
            if before.as_ref().is_some_and(|before| matches!(before.by, SwitchedBy::Admin { .. })) {
                return Err(StoreError::Declined(format!("the admin of {key} switched search on already")));
            }
            let was = json!(before.as_ref().map(|before| json!({ "since": before.since.rfc3339(), "by": "operator" })));
            let since = before.map_or(now, |before| before.since);
            tx.switch_search(&key, Some(SearchServer { since, by: SwitchedBy::Operator, reason, also: Vec::new() }))?;
            tx.audit(&act, "search.on", key.as_str(), was, json!({ "since": since.rfc3339(), "by": "operator" }))
        };
        self.0.store.write(switch).await?;
        tracing::info!(peer.host = %authority, "the operator switches search on");
        Ok(())
    }

    /// The operator switches search off for a server, whoever switched it on.
    ///
    /// # Errors
    /// If it is not on.
    pub async fn forget_search(&self, authority: &Authority, act: &Act) -> Result<(), StoreError> {
        let (relay, key, act) = (self.clone(), authority.clone(), act.clone());
        let why = "The operator of this relay switched search off for your server.";
        let end = move |tx: &mut Tx<'_>| {
            let none = || {
                StoreError::Absent(format!(
                    "search is not on for {key}; `shearwater admin search list` says for whom it is"
                ))
            };
            let row = Switched::of(key.clone(), &tx.search_server(&key)?.ok_or_else(none)?);
            relay.end_search(tx, &key, why)?;
            tx.audit(&act, "search.off", key.as_str(), json!({ "since": row.since, "by": row.by }), Value::Null)
        };
        self.0.store.write(end).await?;
        tracing::info!(peer.host = %authority, "the operator switches search off");
        (self.0.signals.control)();
        Ok(())
    }

    fn search_answer(&self, what: &str, follow: &Value, actor: &Iri, inbox: &Iri, why: Option<&str>) -> Directive {
        let ids = &self.0.identity.search;
        let id = ids.activity(what, &unique());
        let body = match what {
            "accept" => author::accept(ids, &id, follow, actor),
            _ => author::reject(ids, &id, follow, actor, why),
        };
        let from = Some(ids.actor.clone());
        Directive { inbox: inbox.clone(), what: what.to_owned(), body: text(body), from }
    }

    /// Other servers under the same registrable domain that search is on for: names are cheap below it.
    fn search_neighbours(&self, authority: &Authority) -> usize {
        let (domain, servers) = (authority.registrable(), self.0.store.search_servers());
        let near = servers.keys().filter(|one| *one != authority && one.is_within(domain));
        near.filter(|one| one.registrable() == domain).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn search_is_switched_on_by_the_rules_of_joining() {
        let now = Timestamp::from_secs(1_787_486_400);
        let check = |change: fn(&mut Config), is_known: bool, neighbours: usize, expected: bool| {
            let mut config = Config::embedded();
            change(&mut config);
            let rules = RuleSet::of_config(&config.policy, &config.relay);
            let authority = Authority::parse("a.small.example").unwrap();
            let candidate = Candidate { authority: &authority, is_known, software: Some("mastodon"), neighbours };
            let judged = may_switch_on(&candidate, &config.relay, &rules, now);
            assert_eq!(judged.is_ok(), expected, "{judged:?}");
        };
        let block: fn(&mut Config) = |config| config.policy.block = vec!["small.example".to_owned()];
        let software: fn(&mut Config) = |config| config.policy.block_software = vec!["mastodon".to_owned()];
        let approval: fn(&mut Config) = |config| config.relay.admission = Admission::Approval;
        let allowlist: fn(&mut Config) = |config| config.relay.admission = Admission::Allowlist;
        let listed: fn(&mut Config) = |config| {
            config.relay.admission = Admission::Allowlist;
            config.relay.allowlist = vec!["small.example".to_owned()];
        };
        check(|_| {}, false, 0, true);
        check(|_| {}, false, 9, true);
        check(|_| {}, false, 10, false);
        check(|_| {}, true, 10, true);
        for known in [false, true] {
            check(block, known, 0, false);
            check(software, known, 0, false);
            check(approval, known, 0, known);
            check(allowlist, known, 0, known);
            check(listed, known, 0, true);
        }
    }
}

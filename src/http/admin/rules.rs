//! The operator's rules, as the command line asks about them: listed, made, taken out, exchanged as lists. What a change
//! would mean is told before it is made, if `dry_run` is said.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer;
use crate::clock::Timestamp;
use crate::delivery::Delivery;
use crate::policy::{Active, RuleSet, Ruling, Verdict, lists};
use crate::relay::Relay;
use crate::relay::enforce::Impact;
use crate::store::{Rule, RuleChange, Severity, Source, Target};

/// The largest list that is read.
pub(in crate::http) const IMPORT_BYTES: usize = lists::MAX_BYTES;

#[derive(Deserialize)]
pub(in crate::http) struct Filter {
    /// Only rules whose target holds this.
    #[serde(default)]
    like: String,
    /// Only rules of this source.
    #[serde(default)]
    source: String,
}

/// Every rule, those of the configuration included.
pub(in crate::http) async fn list(State(relay): State<Relay>, Query(filter): Query<Filter>) -> Response {
    let (rules, now) = (relay.rules().set(), relay.clock().now());
    let wanted = |one: &&std::sync::Arc<Active>| {
        (filter.source.is_empty() || one.rule.source.to_string() == filter.source)
            && (filter.like.is_empty() || one.rule.target.to_string().contains(&filter.like))
    };
    Json(rules.iter().filter(wanted).map(|one| row(one, now)).collect::<Vec<_>>()).into_response()
}

fn row(one: &Active, now: Timestamp) -> Value {
    let Rule { target, severity, reason, note, since, expires, source, dry_run } = &one.rule;
    let made = (*source != Source::Config).then(|| since.rfc3339());
    json!({
        "target": target,
        "severity": severity,
        "source": source,
        "dry_run": dry_run,
        "in_force": one.rule.is_in_force(now),
        "hits": one.hits(),
        "since": made,
        "expires": expires.map(Timestamp::rfc3339),
        "reason": reason,
        "note": note,
    })
}

#[derive(Deserialize)]
pub(in crate::http) struct NewRule {
    target: String,
    severity: Severity,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    note: String,
    /// How long it is in force: "30d".
    #[serde(default, with = "humantime_serde")]
    expires_in: Option<Duration>,
    /// The rule is on trial: it counts and does nothing.
    #[serde(default)]
    trial: bool,
    /// Nothing is changed: the answer says what would be.
    #[serde(default)]
    dry_run: bool,
}

/// Makes a rule, in place of what the operator said of this target before.
pub(in crate::http) async fn put(
    State(relay): State<Relay>,
    State(delivery): State<Delivery>,
    Json(new): Json<NewRule>,
) -> Response {
    answer(put_rule(&relay, &delivery, new).await)
}

async fn put_rule(relay: &Relay, delivery: &Delivery, new: NewRule) -> anyhow::Result<Value> {
    let now = relay.clock().now();
    let rule = Rule {
        reason: new.reason.trim().to_owned(),
        note: new.note.trim().to_owned(),
        expires: new.expires_in.map(|span| now.plus(span)),
        dry_run: new.trial,
        ..Rule::new(new.target.parse::<Target>()?, new.severity, Source::Operator, now)
    };
    let changes = vec![RuleChange::Put(rule.clone())];
    let after = relay.rules_after(&changes)?;
    if let (Severity::Allow, false, Target::Domain(name)) = (rule.severity, rule.dry_run, &rule.target) {
        let left = after.name(name, now);
        let by = left.by.as_ref().map_or(String::new(), |one| one.rule.source.to_string());
        anyhow::ensure!(
            left.verdict == Verdict::Allow,
            "{name} itself is named by a rule of {by}, which an allow does not lift: take that rule out"
        );
    }
    change(relay, delivery, changes, &after, new.dry_run).await
}

#[derive(Deserialize)]
pub(in crate::http) struct Unwanted {
    target: String,
    /// Only the rule of this source; else those of all, but for the configuration's.
    #[serde(default)]
    source: String,
    #[serde(default)]
    dry_run: bool,
}

/// Takes out the rules on a target.
pub(in crate::http) async fn remove(
    State(relay): State<Relay>,
    State(delivery): State<Delivery>,
    Query(unwanted): Query<Unwanted>,
) -> Response {
    answer(remove_rules(&relay, &delivery, &unwanted).await)
}

async fn remove_rules(relay: &Relay, delivery: &Delivery, unwanted: &Unwanted) -> anyhow::Result<Value> {
    let target = unwanted.target.parse::<Target>()?;
    let before = relay.rules().set();
    let on_target: Vec<Source> =
        before.iter().filter(|one| one.rule.target == target).map(|one| one.rule.source.clone()).collect();
    let wanted = |source: &&Source| unwanted.source.is_empty() || source.to_string() == unwanted.source;
    let changes: Vec<RuleChange> = on_target
        .iter()
        .filter(wanted)
        .filter(|source| **source != Source::Config)
        .map(|source| RuleChange::Remove(target.clone(), source.clone()))
        .collect();
    if changes.is_empty() {
        anyhow::ensure!(
            !on_target.contains(&Source::Config),
            "the rule on {target} stands in the configuration file: take it out there and restart the relay"
        );
        anyhow::bail!("there is no such rule on {target}; `shearwater admin rules` lists all");
    }
    let after = before.with(&changes);
    change(relay, delivery, changes, &after, unwanted.dry_run).await
}

/// Makes the changes, or says what they would mean.
async fn change(
    relay: &Relay,
    delivery: &Delivery,
    changes: Vec<RuleChange>,
    after: &RuleSet,
    dry_run: bool,
) -> anyhow::Result<Value> {
    let (kept_back, complete) = delivery.would_keep_back(after).await?;
    let words: Vec<String> = changes.iter().map(said).collect();
    let impact = if dry_run { relay.impact(after)? } else { relay.change_rules(changes).await? };
    Ok(report(dry_run, &words, &impact, kept_back, complete))
}

fn report(dry_run: bool, changes: &[String], impact: &Impact, kept_back: u64, complete: bool) -> Value {
    json!({
        "dry_run": dry_run,
        "changes": changes,
        "impact": impact,
        "deliveries_kept_back": kept_back,
        "deliveries_all_counted": complete,
    })
}

fn said(change: &RuleChange) -> String {
    match change {
        RuleChange::Put(rule) => put_in_words(rule),
        RuleChange::Remove(target, source) => format!("no rule of {source} on {target}"),
    }
}

fn put_in_words(rule: &Rule) -> String {
    let trial = if rule.dry_run { " (on trial)" } else { "" };
    let until = rule.expires.map_or(String::new(), |at| format!(" until {}", at.rfc3339()));
    format!("{} {}{until}{trial}", rule.severity.as_str(), rule.target)
}

#[derive(Deserialize)]
pub(in crate::http) struct About {
    target: String,
}

/// What the rules say of a server or an actor, and which rule says it.
pub(in crate::http) async fn check(State(relay): State<Relay>, Query(about): Query<About>) -> Response {
    let (rules, now) = (relay.rules().set(), relay.clock().now());
    let checked = about.target.parse::<Target>().map_err(anyhow::Error::from).and_then(|target| match target {
        Target::Domain(name) => {
            let software = rules.runs(&name).map(|name| name.to_string());
            let search = rules.searchable_server(&name, now);
            Ok(verdict(&about.target, [&rules.server(&name, now), &search], software, rules.is_listed(&name, now)))
        }
        Target::Actor(id) => {
            let (post, search) = (rules.post(&id, &id, &id.authority(), now), rules.searchable(&id, "", now));
            Ok(verdict(&about.target, [&post, &search], None, false))
        }
        Target::Software(_) | Target::Keyword(_) => anyhow::bail!("give a server or an actor's id"),
    });
    answer(checked)
}

fn verdict(target: &str, [ruling, search]: [&Ruling; 2], software: Option<String>, listed: bool) -> Value {
    let verdict = match ruling.verdict {
        Verdict::Allow => "allow",
        Verdict::Silence => "silence",
        Verdict::Block => "block",
    };
    let named = |one: &Option<std::sync::Arc<Active>>| {
        one.as_ref().map(|one| format!("{} (by {})", put_in_words(&one.rule), one.rule.source))
    };
    json!({
        "target": target,
        "verdict": verdict,
        "rule": named(&ruling.by),
        "rule_on_trial": named(&ruling.would),
        "reason": ruling.reason(),
        "may_be_found": search.verdict == Verdict::Allow,
        "rule_on_search": named(&search.by).filter(|_| search.verdict != Verdict::Allow),
        "software": software,
        "on_the_list_of_those_who_may_join": listed,
    })
}

#[derive(Deserialize)]
pub(in crate::http) struct Import {
    /// The list's name: its rules are known by it.
    name: String,
    /// What rows ask for that do not say.
    #[serde(default = "block")]
    severity: Severity,
    /// Take out what the list does not have any more.
    #[serde(default)]
    replace: bool,
    /// Take the good rows although there are bad ones.
    #[serde(default)]
    skip_bad: bool,
    #[serde(default)]
    dry_run: bool,
}

const fn block() -> Severity {
    Severity::Block
}

/// What a list holds that is not taken.
#[derive(Serialize)]
struct Left {
    bad: Vec<lists::BadRow>,
    bad_count: usize,
    obfuscated: usize,
    noop: usize,
    repeated: usize,
    ours: usize,
}

/// Takes in a list, or says what it would change.
pub(in crate::http) async fn import(
    State(relay): State<Relay>,
    State(delivery): State<Delivery>,
    Query(import): Query<Import>,
    body: Bytes,
) -> Response {
    answer(import_list(&relay, &delivery, &import, &body).await)
}

async fn import_list(relay: &Relay, delivery: &Delivery, import: &Import, body: &[u8]) -> anyhow::Result<Value> {
    let source = Source::list(&import.name)?;
    let mut list = lists::parse(body)?;
    let rows = list.rows.len();
    // Somebody's list may name us, or a domain above us. That is for us to know and not to do.
    list.rows.retain(|row| !relay.is_ours(&row.name));
    let ours = rows - list.rows.len();
    let before = relay.rules().set();
    let diff = lists::diff(&list, &source, import.severity, import.replace, &before, relay.clock().now());
    let left = Left {
        bad: list.bad,
        bad_count: list.bad_count,
        obfuscated: list.obfuscated,
        noop: list.noop,
        repeated: list.repeated,
        ours,
    };
    if left.bad_count > 0 && !import.skip_bad && !import.dry_run {
        anyhow::bail!("{} rows are bad, so nothing is changed:\n{}", left.bad_count, bad_rows(&left.bad));
    }
    let changes = diff.changes();
    let after = relay.rules_after(&changes)?;
    let words = |rules: &[Rule]| rules.iter().map(put_in_words).collect::<Vec<_>>();
    let parts = (words(&diff.add), words(&diff.change), words(&diff.remove));
    let mut done = change(relay, delivery, changes, &after, import.dry_run).await?;
    if let Some(members) = done.as_object_mut() {
        members.remove("changes");
    }
    (done["add"], done["change"], done["remove"]) = (json!(parts.0), json!(parts.1), json!(parts.2));
    (done["list"], done["same"], done["left_out"]) = (json!(import.name), json!(diff.same), json!(left));
    Ok(done)
}

fn bad_rows(bad: &[lists::BadRow]) -> String {
    let line = |row: &lists::BadRow| {
        let column = row.column.map_or(String::new(), |name| format!(", column {name}"));
        format!("  line {}{column}: {}", row.line, row.why)
    };
    bad.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The domain rules as the CSV that Mastodon reads.
pub(in crate::http) async fn export(State(relay): State<Relay>) -> Response {
    let text = lists::export(&relay.rules().set(), relay.clock().now());
    ([("content-type", "text/csv; charset=utf-8")], text).into_response()
}

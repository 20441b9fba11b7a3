//! The operator's rules: listed, made, taken out, exchanged as lists. What a change would mean is told before it is made, if
//! `dry_run` is said.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRef, FromRequest, Request, State};
use axum::http::{HeaderName, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use super::asked::{Asked, Rows, Told, limit};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::clock::Timestamp;
use crate::delivery::Delivery;
use crate::http::state::HttpState;
use crate::policy::lists::BRAKE;
use crate::policy::{Active, Ruling, Verdict, lists};
use crate::relay::Relay;
use crate::relay::enforce::Impact;
use crate::relay::lists::{Left, share_of};
use crate::search::Search;
use crate::search::reach::Reach;
use crate::store::{Act, Rule, RuleChange, Severity, Source, Target};

/// The largest list that is read.
pub(in crate::http) const IMPORT_BYTES: usize = lists::MAX_BYTES;

/// Who is asked what a change of the rules means.
#[derive(Clone)]
pub(in crate::http) struct Rooms {
    pub(super) relay: Relay,
    delivery: Delivery,
    search: Search,
}

impl FromRef<HttpState> for Rooms {
    fn from_ref(state: &HttpState) -> Self {
        Self { relay: state.relay.clone(), delivery: state.delivery.clone(), search: state.search.clone() }
    }
}

/// Which rules.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Filter {
    /// Only rules whose target holds this.
    #[serde(default)]
    like: String,
    /// Only rules of this source.
    #[serde(default)]
    source: String,
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    after: Option<String>,
}

/// A rule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rule)]
pub(in crate::http) struct Shown {
    /// Whom or what it is about: `domain:evil.example`, `actor:https://…`, `software:name`, `keyword:pattern`.
    target: String,
    /// What it asks for.
    severity: Severity,
    /// Who brought it: `config`, `operator`, `list:NAME`.
    source: String,
    /// It is on trial: it counts and does nothing.
    dry_run: bool,
    /// It has not expired.
    in_force: bool,
    /// How often it did something since the relay started, or would have.
    hits: u64,
    /// When it was made.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// From when on it means nothing.
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// Why, for those it concerns.
    reason: String,
    /// Why, for the operator alone.
    note: String,
}

impl Shown {
    fn of(one: &Active, now: Timestamp) -> Self {
        let Rule { target, severity, reason, note, since, expires, source, dry_run } = &one.rule;
        Self {
            target: target.to_string(),
            severity: *severity,
            source: source.to_string(),
            dry_run: *dry_run,
            in_force: one.rule.is_in_force(now),
            hits: one.hits(),
            since: (*source != Source::Config).then(|| since.rfc3339()),
            expires: expires.map(Timestamp::rfc3339),
            reason: reason.clone(),
            note: note.clone(),
        }
    }
}

/// List the rules, those of the configuration included.
#[utoipa::path(
    get,
    path = "/api/admin/v1/rules",
    tag = "rules",
    operation_id = "list_rules",
    params(Filter),
    responses((status = 200, description = "Those that fit. `Link` has the next page.", body = Vec<Shown>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(relay): State<Relay>,
    uri: Uri,
    Asked(filter): Asked<Filter>,
) -> Result<Rows<Shown>, Problem> {
    let (rules, now) = (relay.rules().set(), relay.clock().now());
    let like = filter.like.to_lowercase();
    let look = move || {
        let wanted = |(_, one): &(&str, &Arc<Active>)| {
            (filter.source.is_empty() || one.rule.source.to_string() == filter.source)
                && (like.is_empty() || one.rule.target.to_string().to_lowercase().contains(&like))
        };
        let all: Vec<(&str, &Arc<Active>)> = rules.entries().filter(wanted).collect();
        let key = |(key, _): &(&str, &Arc<Active>)| (*key).to_owned();
        Rows::cut(all, key, (filter.after.as_deref(), filter.limit), &uri, |(_, one)| Shown::of(one, now))
    };
    Ok(tokio::task::spawn_blocking(look).await?)
}

/// A rule that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewRule {
    /// Whom or what it is about.
    target: String,
    /// What it asks for.
    severity: Severity,
    /// Why, for those it concerns: they are told.
    #[serde(default)]
    reason: String,
    /// Why, for the operator alone.
    #[serde(default)]
    note: String,
    /// How long it is in force: "30d".
    #[serde(default, with = "humantime_serde")]
    #[schema(value_type = Option<String>)]
    expires_in: Option<Duration>,
    /// The rule is on trial: it counts and does nothing.
    #[serde(default)]
    trial: bool,
    /// Nothing is changed: the answer says what would be.
    #[serde(default)]
    dry_run: bool,
}

/// Make a rule, in place of what the operator said of this target before.
#[utoipa::path(
    post,
    path = "/api/admin/v1/rules",
    tag = "rules",
    operation_id = "put_rule",
    request_body = NewRule,
    responses((status = 200, description = "What it did, or would do.", body = Changed), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn put(
    State(rooms): State<Rooms>,
    operator: Operator,
    Told(new): Told<NewRule>,
) -> Result<Json<Changed>, Problem> {
    let act = operator.act(&new.reason)?;
    let now = rooms.relay.clock().now();
    if new.expires_in.is_some_and(|span| span.is_zero()) {
        return Err(Problem::unread("expires_in is nothing: the rule would be over at once"));
    }
    let rule = Rule {
        reason: new.reason.trim().to_owned(),
        note: new.note.trim().to_owned(),
        expires: new.expires_in.map(|span| now.plus(span)),
        dry_run: new.trial,
        ..Rule::new(target(&new.target)?, new.severity, Source::Operator, now)
    };
    let changes = vec![RuleChange::Put(rule.clone())];
    let (after, _impact) = rooms.relay.weigh(Arc::new(changes.clone())).await?;
    if let (Severity::Allow, false, Target::Domain(name)) = (rule.severity, rule.dry_run, &rule.target) {
        let left = after.name(name, now);
        let by = left.by.as_ref().map_or(String::new(), |one| one.rule.source.to_string());
        if left.verdict != Verdict::Allow {
            return Err(Problem::conflict(format!(
                "{name} itself is named by a rule of {by}, which an allow does not lift: take that rule out"
            )));
        }
    }
    change(&rooms, changes, Trial(new.dry_run), &act).await.map(Json)
}

/// Which rules are to go.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Unwanted {
    /// Whom or what they are about.
    target: String,
    /// Only the rule of this source; else those of all, but for the configuration's.
    #[serde(default)]
    source: String,
    /// Nothing is changed: the answer says what would be.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Take out the rules on a target.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/rules",
    tag = "rules",
    operation_id = "remove_rules",
    params(Unwanted),
    responses((status = 200, description = "What it did, or would do.", body = Changed), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn remove(
    State(rooms): State<Rooms>,
    operator: Operator,
    Asked(unwanted): Asked<Unwanted>,
) -> Result<Json<Changed>, Problem> {
    let target = target(&unwanted.target)?;
    let before = rooms.relay.rules().set();
    let on_target: Vec<Source> =
        before.iter().filter(|one| one.rule.target == target).map(|one| one.rule.source.clone()).collect();
    let wanted = |source: &&Source| unwanted.source.is_empty() || source.to_string() == unwanted.source;
    let changes: Vec<RuleChange> = on_target
        .iter()
        .filter(wanted)
        .filter(|source| **source != Source::Config)
        .map(|source| RuleChange::Remove(target.clone(), source.clone()))
        .collect();
    if changes.is_empty() && on_target.contains(&Source::Config) {
        return Err(Problem::conflict(format!(
            "the rule on {target} stands in the configuration file: take it out there and restart the relay"
        )));
    }
    if changes.is_empty() {
        return Err(Problem::absent(format!("there is no such rule on {target}; `shearwater admin rules` lists all")));
    }
    change(&rooms, changes, Trial(unwanted.dry_run), &operator.act(&unwanted.reason)?).await.map(Json)
}

/// A note on a rule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewNote {
    /// Whom or what the rule is about.
    target: String,
    /// Whose rule: `operator`, or `list:NAME`.
    #[serde(default = "by_operator")]
    #[schema(value_type = Option<String>)]
    source: String,
    /// Why, for the operator alone. Empty: no note.
    note: String,
    /// Why it is noted, for the audit log.
    #[serde(default)]
    reason: String,
}

fn by_operator() -> String {
    Source::Operator.to_string()
}

/// Note something on a rule, for the operator alone. It stays when the list that brought the rule is applied again.
#[utoipa::path(
    post,
    path = "/api/admin/v1/rules/note",
    tag = "rules",
    operation_id = "note_rule",
    request_body = NewNote,
    responses((status = 200, description = "The rule.", body = Shown), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn note(
    State(relay): State<Relay>,
    operator: Operator,
    Told(new): Told<NewNote>,
) -> Result<Json<Shown>, Problem> {
    let (target, now) = (target(&new.target)?, relay.clock().now());
    let rules = relay.rules().set();
    let is_meant = |one: &&Arc<Active>| one.rule.target == target && one.rule.source.to_string() == new.source;
    let Some(one) = rules.iter().find(is_meant) else {
        return Err(Problem::absent(format!("there is no rule of {} on {target}", new.source)));
    };
    if one.rule.source == Source::Config {
        return Err(Problem::conflict("the rule stands in the configuration file: note it there"));
    }
    let rule = Rule { note: new.note.trim().to_owned(), ..one.rule.clone() };
    relay.change_rules(vec![RuleChange::Put(rule.clone())], &operator.act(&new.reason)?).await?;
    let rules = relay.rules().set();
    let noted = rules.iter().find(|one| one.rule.key() == rule.key());
    noted.map(|one| Json(Shown::of(one, now))).ok_or_else(|| Problem::absent("the rule was taken out meanwhile"))
}

fn target(text: &str) -> Result<Target, Problem> {
    text.parse::<Target>().map_err(|fault| Problem::unread(fault.to_string()))
}

/// What a change of the rules did, or would do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RulesChanged)]
pub(in crate::http) struct Changed {
    /// Nothing was changed.
    dry_run: bool,
    /// The rules as they are now, or would be, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
    /// What that means for those who are here.
    impact: Impact,
    /// Deliveries that wait and are not made.
    deliveries_kept_back: u64,
    /// Those are all; else there may be more.
    deliveries_all_counted: bool,
    /// What goes out of the search.
    search: Reach,
}

impl Changed {
    /// The same, told otherwise.
    pub(super) fn without_changes(self) -> Self {
        Self { changes: Vec::new(), ..self }
    }

    /// The same after it was done, which meant this.
    pub(super) fn done(self, impact: Impact) -> Self {
        Self { impact, ..self }
    }
}

/// Whether it is only asked what would be.
#[derive(Clone, Copy)]
pub(super) struct Trial(pub(super) bool);

/// Makes the changes, or says what they would mean.
async fn change(rooms: &Rooms, changes: Vec<RuleChange>, trial: Trial, act: &Act) -> Result<Changed, Problem> {
    let told = weighed(rooms, changes.clone(), trial).await?;
    if trial.0 {
        return Ok(told);
    }
    Ok(told.done(rooms.relay.change_rules(changes, act).await?))
}

/// What the changes would mean.
pub(super) async fn weighed(rooms: &Rooms, changes: Vec<RuleChange>, trial: Trial) -> Result<Changed, Problem> {
    let changes = Arc::new(changes);
    let (after, impact) = rooms.relay.weigh(changes.clone()).await?;
    let (deliveries_kept_back, deliveries_all_counted) = rooms.delivery.would_keep_back(&after).await?;
    let (search, rules) = (rooms.search.clone(), after.clone());
    let search = tokio::task::spawn_blocking(move || search.would_take_out(&rules)).await??;
    let changes = changes.iter().map(said).collect();
    Ok(Changed { dry_run: trial.0, changes, impact, deliveries_kept_back, deliveries_all_counted, search })
}

fn said(change: &RuleChange) -> String {
    match change {
        RuleChange::Put(rule) => rule.in_words(),
        RuleChange::Remove(target, source) => format!("no rule of {source} on {target}"),
    }
}

/// Of whom.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct About {
    /// A server, or an actor's id.
    target: String,
}

/// What the rules say of somebody.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RulesSaid)]
pub(in crate::http) struct Said {
    /// Of whom.
    target: String,
    /// `allow`, `silence` or `block`.
    verdict: &'static str,
    /// The rule that says it.
    rule: Option<String>,
    /// A rule on trial that would say more.
    rule_on_trial: Option<String>,
    /// Why, as they are told.
    reason: String,
    /// No rule keeps it out of search and trends.
    may_be_found: bool,
    /// The rule that does.
    rule_on_search: Option<String>,
    /// What the server runs, if that is known.
    software: Option<String>,
    /// An allow names it, or the configuration's list.
    on_the_list_of_those_who_may_join: bool,
}

impl Said {
    fn of(target: &str, [ruling, search]: [&Ruling; 2], software: Option<String>, listed: bool) -> Self {
        let verdict = match ruling.verdict {
            Verdict::Allow => "allow",
            Verdict::Silence => "silence",
            Verdict::Block => "block",
        };
        let named = |one: &Option<Arc<Active>>| {
            one.as_ref().map(|one| format!("{} (by {})", one.rule.in_words(), one.rule.source))
        };
        Self {
            target: target.to_owned(),
            verdict,
            rule: named(&ruling.by),
            rule_on_trial: named(&ruling.would),
            reason: ruling.reason().to_owned(),
            may_be_found: search.verdict == Verdict::Allow,
            rule_on_search: named(&search.by).filter(|_| search.verdict != Verdict::Allow),
            software,
            on_the_list_of_those_who_may_join: listed,
        }
    }
}

/// What the rules say of a server or an actor, and which rule says it.
#[utoipa::path(
    get,
    path = "/api/admin/v1/rules/check",
    tag = "rules",
    operation_id = "check_rules",
    params(About),
    responses((status = 200, description = "What they say.", body = Said), Changing, Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn check(
    State(relay): State<Relay>,
    Asked(about): Asked<About>,
) -> Result<Json<Said>, Problem> {
    let (rules, now) = (relay.rules().set(), relay.clock().now());
    match target(&about.target)? {
        Target::Domain(name) => {
            let software = rules.runs(&name).map(|name| name.to_string());
            let search = rules.searchable_server(&name, now);
            let listed = rules.is_listed(&name, now);
            Ok(Json(Said::of(&about.target, [&rules.server(&name, now), &search], software, listed)))
        }
        Target::Actor(id) => {
            let (post, search) = (rules.post(&id, &id, &id.authority(), now), rules.searchable(&id, "", now));
            Ok(Json(Said::of(&about.target, [&post, &search], None, false)))
        }
        Target::Software(_) | Target::Keyword(_) => Err(Problem::unfit("give a server or an actor's id")),
    }
}

/// How a list is taken in.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Import {
    /// The list's name: its rules are known by it.
    name: String,
    /// What rows ask for that do not say.
    #[serde(default = "block")]
    #[param(value_type = Option<Severity>)]
    severity: Severity,
    /// Take out what the list does not have any more.
    #[serde(default)]
    replace: bool,
    /// Take the good rows although there are bad or obfuscated ones.
    #[serde(default)]
    skip_bad: bool,
    /// Although `replace` would change more than 10 % of what the list brought before.
    #[serde(default)]
    approve: bool,
    /// Nothing is changed: the answer says what would be.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// How many lists are read at once, and how long one may take to come: it is of megabytes, and nobody limits how many are
/// sent. Cheap to clone.
#[derive(Clone)]
pub struct Imports(Arc<Semaphore>);

impl Imports {
    const AT_ONCE: usize = 2;
    const PATIENCE: Duration = Duration::from_secs(60);
}

impl Default for Imports {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::AT_ONCE)))
    }
}

/// A list, as it is sent. It holds one of the places as long as it is there.
pub(in crate::http) struct SentList(Bytes, OwnedSemaphorePermit);

impl FromRequest<HttpState> for SentList {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &HttpState) -> Result<Self, Problem> {
        let busy = || Problem::later(StatusCode::SERVICE_UNAVAILABLE, "other lists are being taken in just now", 10);
        let place = state.imports.0.clone().try_acquire_owned().map_err(|_full| busy())?;
        let read = tokio::time::timeout(Imports::PATIENCE, Bytes::from_request(request, state)).await;
        let late = |_elapsed| Problem::unread(format!("the list did not come within {:?}", Imports::PATIENCE));
        Ok(Self(read.map_err(late)??, place))
    }
}

pub(super) const fn block() -> Severity {
    Severity::Block
}

/// What a list changed, or would change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListTaken)]
pub(in crate::http) struct Taken {
    /// What follows from it.
    #[serde(flatten)]
    changed: Changed,
    /// The list.
    list: String,
    /// Rules that are new.
    add: Vec<String>,
    /// Rules that change.
    change: Vec<String>,
    /// Rules that go.
    remove: Vec<String>,
    /// How many are as before.
    same: usize,
    /// What is not taken.
    left_out: Left,
}

/// Take in a list: Mastodon's domain blocks (CSV), or one name in each line.
///
/// A row that is bad, or that was made unreadable with `*`, stops it all, unless `skip_bad` is said; so does, with `replace`,
/// a change of more than 10 % of what the list brought, unless `approve` is said.
#[utoipa::path(
    post,
    path = "/api/admin/v1/rules/import",
    tag = "rules",
    operation_id = "import_rules",
    params(Import),
    request_body(content = String, content_type = "text/csv"),
    responses((status = 200, description = "What it changed, or would change.", body = Taken), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn import(
    State(rooms): State<Rooms>,
    operator: Operator,
    Asked(import): Asked<Import>,
    SentList(text, _place): SentList,
) -> Result<Json<Taken>, Problem> {
    let act = operator.act(&import.reason)?;
    let source = Source::list(&import.name).map_err(|fault| Problem::unread(fault.to_string()))?;
    let (relay, severity, replace) = (rooms.relay.clone(), import.severity, import.replace);
    let read = move || relay.plan(&text, &source, severity, replace);
    let plan = tokio::task::spawn_blocking(read).await??;
    if plan.left.is_in_the_way() && !import.skip_bad && !import.dry_run {
        return Err(Problem::unfit(plan.left.said()));
    }
    let has_brought = plan.diff.same + plan.diff.change.len() + plan.diff.remove.len() > 0;
    if replace && has_brought && plan.diff.share() > BRAKE && !import.approve && !import.dry_run {
        return Err(Problem::conflict(format!(
            "{} would change {}, and more than {BRAKE} % has to be approved. Look at it with --dry-run, then say --approve",
            import.name,
            share_of(&plan.diff)
        )));
    }
    let done = change(&rooms, plan.diff.changes(), Trial(import.dry_run), &act).await?;
    let [add, change, remove] = plan.diff.in_words();
    Ok(Json(Taken {
        changed: done.without_changes(),
        list: import.name,
        add,
        change,
        remove,
        same: plan.diff.same,
        left_out: plan.left,
    }))
}

/// Which rules are written down.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Exports {
    /// Only those of this source: `operator`, `config`, `list:NAME`.
    source: Option<String>,
}

/// The domain rules as the CSV that Mastodon reads.
#[utoipa::path(
    get,
    path = "/api/admin/v1/rules/export",
    tag = "rules",
    operation_id = "export_rules",
    params(Exports),
    responses((status = 200, description = "The list.", body = String, content_type = "text/csv"), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn export(
    State(relay): State<Relay>,
    Asked(wanted): Asked<Exports>,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Problem> {
    let source = wanted.source.map(Source::try_from).transpose();
    let source = source.map_err(|fault| Problem::unread(fault.to_string()))?;
    let (rules, now) = (relay.rules().set(), relay.clock().now());
    let text = tokio::task::spawn_blocking(move || lists::export(&rules, source.as_ref(), now)).await?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text))
}

const _: () = assert!(BRAKE == 10, "the descriptions above say ten percent");

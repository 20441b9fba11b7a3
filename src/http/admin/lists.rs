//! Lists of servers that others publish: followed by their address, looked at, applied.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Why;
use super::asked::{Asked, Rows, Told};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use super::rules::{Changed, Rooms, Trial, block, weighed};
use crate::policy::lists::BRAKE;
use crate::relay::lists::{Consent, Left, ListError, Review, Wishes};
use crate::store::{FeedState, ListFeed, Severity, Source};

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Unknown(_) => Self::absent(error.to_string()),
            ListError::Conflict(_) => Self::conflict(error.to_string()),
            ListError::Unsaid(_) => Self::unread(error.to_string()),
            ListError::Unfit(_) => Self::unfit(error.to_string()),
            ListError::Other(cause) => cause.into(),
        }
    }
}

/// The list that the path names.
pub(in crate::http) struct Name(String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        named.map(|Path(name)| Self(name)).map_err(|rejection| Problem::unread(rejection.body_text()))
    }
}

/// A list that is followed.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct FollowedList {
    /// Its name: its rules are known by it.
    name: String,
    /// Where it is published.
    url: String,
    /// How it stands.
    state: FeedState,
    /// Rules that it brought.
    rules: usize,
    /// What rows ask for that do not say so themselves.
    severity: Severity,
    /// What only adds and sharpens, changes little, and nobody who is here, is applied without being looked at.
    auto: bool,
    /// Rows that cannot be read are left out.
    skip_bad: bool,
    /// What is wrong, or what is to be done.
    trouble: Option<String>,
    /// When it was asked for last.
    #[schema(format = DateTime)]
    asked_at: Option<String>,
    /// Which text is here.
    version: Option<String>,
    /// When it came.
    #[schema(format = DateTime)]
    fetched_at: Option<String>,
    /// The text that the rules were made of.
    applied_version: Option<String>,
    /// When that was.
    #[schema(format = DateTime)]
    applied_at: Option<String>,
    /// Since when it is followed.
    #[schema(format = DateTime)]
    since: String,
}

impl FollowedList {
    fn of(rooms: &Rooms, name: String, feed: ListFeed) -> Self {
        let state = feed.state();
        let source = Source::list(&name);
        let of_list = |source: Source| rooms.relay.rules().set().iter().filter(|one| one.rule.source == source).count();
        let rules = source.map_or(0, of_list);
        let at = |one: &Option<crate::store::ListVersion>| one.as_ref().map(|one| one.at.rfc3339());
        Self {
            state,
            rules,
            severity: feed.severity,
            auto: feed.auto,
            skip_bad: feed.skip_bad,
            asked_at: feed.asked_at.map(crate::clock::Timestamp::rfc3339),
            fetched_at: at(&feed.fetched),
            applied_at: at(&feed.applied),
            version: feed.fetched.map(|one| one.version),
            applied_version: feed.applied.map(|one| one.version),
            since: feed.added.rfc3339(),
            trouble: feed.trouble,
            url: feed.url,
            name,
        }
    }
}

/// List the lists that are followed.
#[utoipa::path(
    get,
    path = "/api/admin/v1/lists",
    tag = "rules",
    operation_id = "list_lists",
    responses((status = 200, description = "All of them.", body = Vec<FollowedList>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(State(rooms): State<Rooms>) -> Result<Rows<FollowedList>, Problem> {
    // Each looks through all rules.
    let look = move || {
        let feeds = rooms.relay.feeds()?;
        Ok(Rows::all(feeds.into_iter().map(|(name, feed)| FollowedList::of(&rooms, name, feed)).collect()))
    };
    tokio::task::spawn_blocking(look).await?
}

/// A list that is to be followed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewList {
    /// What it is to be called.
    name: String,
    /// Where it is published: Mastodon's domain blocks (CSV), or one name in each line.
    url: String,
    /// What rows ask for that do not say so themselves.
    #[serde(default = "block")]
    #[schema(value_type = Option<Severity>)]
    severity: Severity,
    /// Apply what only adds and sharpens, changes at most 10 % of what it brought and nobody who is here, without being
    /// looked at; its comments are told to nobody before somebody read them.
    #[serde(default)]
    auto: bool,
    /// Leave out rows that cannot be read, instead of taking nothing.
    #[serde(default)]
    skip_bad: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Follow a list. It is fetched now and once a day; nothing of it counts before it is applied.
#[utoipa::path(
    post,
    path = "/api/admin/v1/lists",
    tag = "rules",
    operation_id = "follow_list",
    request_body = NewList,
    responses((status = 200, description = "How it stands.", body = FollowedList), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn follow(
    State(rooms): State<Rooms>,
    operator: Operator,
    Told(new): Told<NewList>,
) -> Result<Json<FollowedList>, Problem> {
    let feed = ListFeed {
        url: new.url.trim().to_owned(),
        severity: new.severity,
        auto: new.auto,
        skip_bad: new.skip_bad,
        added: rooms.relay.clock().now(),
        etag: None,
        asked_at: None,
        failures: 0,
        trouble: None,
        fetched: None,
        applied: None,
    };
    let followed = rooms.relay.follow_list(&new.name, feed, &operator.act(&new.reason)?).await?;
    let feed = match rooms.relay.fetch_list(&new.name, None).await {
        Ok(feed) => feed,
        // The worker was quicker, or the address was asked just now for another list: how it stands is known all the same.
        Err(ListError::Conflict(_)) => rooms.relay.followed(&new.name).unwrap_or(followed),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(FollowedList::of(&rooms, new.name, feed)))
}

/// How a list is to be followed from now on. What is not said stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ListWishes {
    /// Where it is published.
    #[serde(default)]
    url: Option<String>,
    /// What rows ask for that do not say so themselves.
    #[serde(default)]
    severity: Option<Severity>,
    /// Apply what only adds and sharpens, changes at most 10 % of what it brought and nobody who is here, without being
    /// looked at.
    #[serde(default)]
    auto: Option<bool>,
    /// Leave out rows that cannot be read, instead of taking nothing.
    #[serde(default)]
    skip_bad: Option<bool>,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Change how a list is followed. What it says then waits to be looked at, where that may be something else.
#[utoipa::path(
    post,
    path = "/api/admin/v1/lists/{name}",
    tag = "rules",
    operation_id = "set_list",
    params(("name" = String, Path, description = "The list.")),
    request_body = ListWishes,
    responses((status = 200, description = "How it stands.", body = FollowedList), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn set(
    State(rooms): State<Rooms>,
    operator: Operator,
    Name(name): Name,
    Told(wishes): Told<ListWishes>,
) -> Result<Json<FollowedList>, Problem> {
    let ListWishes { url, severity, auto, skip_bad, reason } = wishes;
    let url = url.map(|url| url.trim().to_owned());
    let feed = rooms.relay.set_list(&name, Wishes { url, severity, auto, skip_bad }, &operator.act(&reason)?).await?;
    Ok(Json(FollowedList::of(&rooms, name, feed)))
}

/// How a list is let go.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Unwanted {
    /// Leave the rules that it brought.
    #[serde(default)]
    keep_rules: bool,
    /// Nothing is changed: the answer says what would be.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Follow a list no more. The rules that it brought go with it, unless they are to be kept.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/lists/{name}",
    tag = "rules",
    operation_id = "unfollow_list",
    params(("name" = String, Path, description = "The list."), Unwanted),
    responses((status = 200, description = "What that did, or would do.", body = Changed), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn unfollow(
    State(rooms): State<Rooms>,
    operator: Operator,
    Name(name): Name,
    Asked(unwanted): Asked<Unwanted>,
) -> Result<Json<Changed>, Problem> {
    let Unwanted { keep_rules, dry_run, reason } = unwanted;
    // Whether it is followed at all, first.
    rooms.relay.followed(&name)?;
    let changes = if keep_rules { Vec::new() } else { rooms.relay.rules_of(&name)? };
    let told = weighed(&rooms, changes, Trial(dry_run)).await?;
    if dry_run {
        return Ok(Json(told));
    }
    let impact = rooms.relay.unfollow_list(&name, keep_rules, &operator.act(&reason)?).await?;
    Ok(Json(told.done(impact)))
}

/// Fetch a list now.
#[utoipa::path(
    post,
    path = "/api/admin/v1/lists/{name}/fetch",
    tag = "rules",
    operation_id = "fetch_list",
    params(("name" = String, Path, description = "The list.")),
    request_body(content = Option<Why>),
    responses((status = 200, description = "How it stands.", body = FollowedList), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn fetch(
    State(rooms): State<Rooms>,
    operator: Operator,
    Name(name): Name,
    Told(why): Told<Why>,
) -> Result<Json<FollowedList>, Problem> {
    let feed = rooms.relay.fetch_list(&name, Some(&operator.act(&why.reason)?)).await?;
    Ok(Json(FollowedList::of(&rooms, name, feed)))
}

/// What a list would change.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ReviewedList {
    /// What follows from it for those who are here.
    #[serde(flatten)]
    changed: Changed,
    /// The list.
    list: String,
    /// Which text; applying it may name it.
    version: Option<String>,
    /// Percent of what the list brought that it changes.
    share: u32,
    /// It changes so much that it has to be approved.
    needs_approval: bool,
    /// It holds rows that cannot be read, and it was not said that those are left out.
    needs_skip_bad: bool,
    /// Rules that are new, with the comments that those it concerns would be told.
    add: Vec<String>,
    /// Rules that change, and what they say before.
    change: Vec<String>,
    /// Rules that go.
    remove: Vec<String>,
    /// How many are as before.
    same: usize,
    /// What is not taken.
    left_out: Left,
}

impl ReviewedList {
    fn of(list: String, review: Option<Review>, changed: Changed) -> Self {
        let needs_approval = review.as_ref().is_some_and(Review::is_over_the_brake);
        let needs_skip_bad = review.as_ref().is_some_and(Review::is_hindered);
        let version = review.as_ref().map(|review| review.version.version.clone());
        let plan = review.map(|review| review.plan).unwrap_or_default();
        let [add, change, remove] = plan.diff.in_words();
        Self {
            changed,
            list,
            version,
            share: plan.diff.share(),
            needs_approval,
            needs_skip_bad,
            add,
            change,
            remove,
            same: plan.diff.same,
            left_out: plan.left,
        }
    }
}

/// Look at what a list would change. Nothing is changed.
#[utoipa::path(
    get,
    path = "/api/admin/v1/lists/{name}/review",
    tag = "rules",
    operation_id = "review_list",
    params(("name" = String, Path, description = "The list.")),
    responses((status = 200, description = "What waits; nothing, if its rules are what it says.", body = ReviewedList), Changing, Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn review(
    State(rooms): State<Rooms>,
    Name(name): Name,
) -> Result<Json<ReviewedList>, Problem> {
    let review = rooms.relay.review(&name).await?;
    let changes = review.as_ref().map(|review| review.plan.diff.changes()).unwrap_or_default();
    let told = weighed(&rooms, changes, Trial(true)).await?;
    Ok(Json(ReviewedList::of(name, review, told.without_changes())))
}

/// How a list is applied.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ApplyList {
    /// Only if it is this text, by its whole version.
    #[serde(default)]
    version: Option<String>,
    /// Although it changes more than 10 % of what it brought. Takes a `version`: nobody approves what they have not seen.
    #[serde(default)]
    approve: bool,
    /// Take its good rows although there are bad or obfuscated ones.
    #[serde(default)]
    skip_bad: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Apply what a list says.
///
/// A bad or obfuscated row stops it all, unless the list is followed with `skip_bad` or that is said here; so does a change of more than 10 % of
/// what the list brought, unless it is approved.
#[utoipa::path(
    post,
    path = "/api/admin/v1/lists/{name}/apply",
    tag = "rules",
    operation_id = "apply_list",
    params(("name" = String, Path, description = "The list.")),
    request_body = ApplyList,
    responses((status = 200, description = "What it did.", body = ReviewedList), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn apply(
    State(rooms): State<Rooms>,
    operator: Operator,
    Name(name): Name,
    Told(apply): Told<ApplyList>,
) -> Result<Json<ReviewedList>, Problem> {
    let ApplyList { version, approve, skip_bad, reason } = apply;
    let consent = Consent { version, approve, skip_bad };
    let planned = rooms.relay.may_apply(&name, &consent).await?;
    let told = weighed(&rooms, planned.plan.diff.changes(), Trial(false)).await?;
    // The very text that was weighed.
    let consent = Consent { version: Some(planned.version.version), ..consent };
    let (review, impact) = rooms.relay.apply_list(&name, &consent, &operator.act(&reason)?).await?;
    Ok(Json(ReviewedList::of(name, Some(review), told.done(impact).without_changes())))
}

const _: () = assert!(BRAKE == 10, "the descriptions above say ten percent");

//! The search's index: how it stands, whether it is right, to make it anew, to have words gone from its files, to take
//! something out.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::asked::Told;
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use super::{Why, noted};
use crate::search::Search;
use crate::search::indexer::Rebuild;
use crate::search::purge::Purged;
use crate::search::shelf::{Compared, Report};
use crate::store::Store;

/// Ledger and index in numbers, and how the making of a new one stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IndexStats)]
pub(in crate::http) struct Stats {
    /// The numbers.
    #[serde(flatten)]
    report: Report,
    /// How the making of a new one stands.
    rebuild: Rebuild,
}

/// Ledger and index in numbers.
#[utoipa::path(
    get,
    path = "/api/admin/v1/index",
    tag = "index",
    operation_id = "index_stats",
    responses((status = 200, description = "How both stand.", body = Stats), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn stats(State(search): State<Search>) -> Result<Json<Stats>, Problem> {
    let (report, rebuild) = tokio::task::spawn_blocking(move || search.report()).await??;
    Ok(Json(Stats { report, rebuild }))
}

/// Read all files of the index and compare its posts with those of the ledger.
#[utoipa::path(
    post,
    path = "/api/admin/v1/index/check",
    tag = "index",
    operation_id = "check_index",
    responses((status = 200, description = "What differs.", body = Compared), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn check(State(search): State<Search>) -> Result<Json<Compared>, Problem> {
    Ok(Json(search.check_index().await?))
}

/// A new index is being made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RebuildBegun)]
pub(in crate::http) struct Begun {
    /// `begun`.
    rebuild: &'static str,
}

/// Begin to make a new index beside the one in use.
///
/// How that goes on, the numbers say.
#[utoipa::path(
    post,
    path = "/api/admin/v1/index/rebuild",
    tag = "index",
    operation_id = "rebuild_index",
    request_body(content = Option<Why>),
    responses((status = 200, description = "It began, or is under way.", body = Begun), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn rebuild(
    State(search): State<Search>,
    State(store): State<Store>,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Begun>, Problem> {
    there_is(&search)?;
    noted(&store, operator.act(&why.reason)?, "index.rebuild", "the index", Value::Null).await?;
    search.rebuild_index()?;
    Ok(Json(Begun { rebuild: "begun" }))
}

/// Words that are gone from the files.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Expunged)]
pub(in crate::http) struct Gone {
    /// Segments rewritten.
    segments: usize,
    /// Files that should be gone and were still held by a search: ask again.
    left: usize,
}

/// Have the words of removed posts gone from the files of the index now.
#[utoipa::path(
    post,
    path = "/api/admin/v1/index/expunge",
    tag = "index",
    operation_id = "expunge_index",
    request_body(content = Option<Why>),
    responses((status = 200, description = "They are gone.", body = Gone), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn expunge(
    State(search): State<Search>,
    State(store): State<Store>,
    operator: Operator,
    Told(why): Told<Why>,
) -> Result<Json<Gone>, Problem> {
    there_is(&search)?;
    noted(&store, operator.act(&why.reason)?, "index.expunge", "the index", Value::Null).await?;
    let done = search.expunge_index().await?;
    Ok(Json(Gone { segments: done.segments, left: done.left }))
}

fn there_is(search: &Search) -> Result<(), Problem> {
    if search.is_on() { Ok(()) } else { Err(Problem::unfit("there is no search here: `search.api` is \"off\"")) }
}

/// What is to be taken out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PurgeWish)]
pub(in crate::http) struct Purge {
    /// A post, an author (an id or `@name@host`), or a server with those below its name.
    target: String,
    /// The author asked to be left alone: nothing is taken of them again until they take that back themselves.
    #[serde(default)]
    for_good: bool,
    /// Only say what would go.
    dry_run: bool,
    /// Why, for the audit log, which keeps the server and nobody's name: do not say it here either.
    #[serde(default)]
    reason: String,
}

/// Take posts out of the search: one post, all of an author, all of a server.
#[utoipa::path(
    post,
    path = "/api/admin/v1/index/purge",
    tag = "index",
    operation_id = "purge",
    request_body = Purge,
    responses((status = 200, description = "What went, or would go.", body = Purged), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn purge(
    State(search): State<Search>,
    operator: Operator,
    Told(asked): Told<Purge>,
) -> Result<Json<Purged>, Problem> {
    Ok(Json(search.purge(&asked.target, asked.for_good, asked.dry_run, &operator.act(&asked.reason)?).await?))
}

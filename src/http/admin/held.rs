//! What is held back for the operator to look at.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Host, Rows, Told};
use super::costly::Costly;
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::ids::{Authority, Iri};
use crate::relay::Relay;
use crate::relay::held::{HeldServer, HeldTarget, Released};
use crate::store::{HeldKind, HeldPost, Store};

/// How much of them.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Which {
    /// What the posts say, too.
    #[serde(default)]
    text: bool,
}

/// A post that waits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HeldPost)]
pub(in crate::http) struct Waiting {
    /// Its id.
    id: Iri,
    /// Whose it is.
    author: Iri,
    /// Whether it is new, an edit, or only heard of.
    kind: HeldKind,
    /// Why it waits, in a word.
    reason: String,
    /// Since when.
    #[schema(format = DateTime)]
    at: String,
    /// What it says, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Waiting {
    fn of(post: HeldPost, text: bool) -> Self {
        Self {
            id: post.object,
            author: post.actor,
            kind: post.kind,
            reason: post.reason,
            at: post.at.rfc3339(),
            text: text.then_some(post.text),
        }
    }
}

/// List the servers of which something is held back, and why.
#[utoipa::path(
    get,
    path = "/api/admin/v1/held",
    tag = "held",
    operation_id = "list_held_servers",
    responses((status = 200, description = "All of them, since when the longest first.", body = Vec<HeldServer>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn servers(State(relay): State<Relay>) -> Result<Rows<HeldServer>, Problem> {
    Ok(Rows::all(tokio::task::spawn_blocking(move || relay.held_servers()).await??))
}

/// List the posts of a server that are held back, the oldest first.
#[utoipa::path(
    get,
    path = "/api/admin/v1/held/{host}",
    tag = "held",
    operation_id = "list_held_posts",
    params(("host" = Authority, Path, description = "The server."), Which),
    responses((status = 200, description = "All of them; none, if nothing of it is held.", body = Vec<Waiting>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn posts(
    State(store): State<Store>,
    State(costly): State<Costly>,
    operator: Operator,
    Host(host): Host,
    Asked(which): Asked<Which>,
) -> Result<Rows<Waiting>, Problem> {
    // A thousand posts with their bodies are read for it, thirty megabytes.
    let posts = costly.read(&operator, move || store.held_of(&host)).await?;
    Ok(Rows::all(posts.into_iter().map(|post| Waiting::of(post, which.text)).collect()))
}

/// What is to be let go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReleaseWish)]
pub(in crate::http) struct Let {
    /// The server (`small.example`), or the id of one post.
    target: String,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// End the hold of a server and relay its held posts after all, or relay one post.
#[utoipa::path(
    post,
    path = "/api/admin/v1/held/release",
    tag = "held",
    operation_id = "release",
    request_body = Let,
    responses((status = 200, description = "It is done.", body = Released), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn release(
    State(relay): State<Relay>,
    operator: Operator,
    Told(wish): Told<Let>,
) -> Result<Json<Released>, Problem> {
    let target = HeldTarget::parse(&wish.target).map_err(|fault| Problem::unread(fault.to_string()))?;
    Ok(Json(relay.release(&target, &operator.act(&wish.reason)?).await?))
}

/// What is to be dropped.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DiscardWish)]
pub(in crate::http) struct Drop {
    /// The server (`small.example`), or the id of one post.
    target: String,
    /// Only say how many posts it would be.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// What was dropped, or would have been.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Discarded)]
pub(in crate::http) struct Dropped {
    /// So many posts.
    #[serde(skip_serializing_if = "Option::is_none")]
    discarded: Option<u64>,
    /// So many it would have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_discard: Option<u64>,
}

/// Drop held posts of a server, or one post, for good.
///
/// A hold of the server goes on.
#[utoipa::path(
    post,
    path = "/api/admin/v1/held/discard",
    tag = "held",
    operation_id = "discard",
    request_body = Drop,
    responses((status = 200, description = "It is done, or would be.", body = Dropped), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn discard(
    State(relay): State<Relay>,
    operator: Operator,
    Told(wish): Told<Drop>,
) -> Result<Json<Dropped>, Problem> {
    let target = HeldTarget::parse(&wish.target).map_err(|fault| Problem::unread(fault.to_string()))?;
    let count = relay.discard(&target, wish.dry_run, &operator.act(&wish.reason)?).await?;
    Ok(Json(match wish.dry_run {
        true => Dropped { would_discard: Some(count), ..Dropped::default() },
        false => Dropped { discarded: Some(count), ..Dropped::default() },
    }))
}

//! Whom the relay follows: an instance's or another relay's actor.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::{Asked, Paging, Rows, Told};
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::ids::Iri;
use crate::relay::Relay;
use crate::store::{FollowState, Following, Store, Style};

/// A Follow of ours.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Followed {
    /// Whom.
    actor: Iri,
    /// How.
    style: Style,
    /// What was answered.
    state: FollowState,
    /// The operator wanted it; else it follows in return.
    by_operator: bool,
    /// Since when.
    #[schema(format = DateTime)]
    at: String,
}

impl From<Following> for Followed {
    fn from(one: Following) -> Self {
        let Following { actor, style, state, by_operator, at, .. } = one;
        Self { actor, style, state, by_operator, at: at.rfc3339() }
    }
}

/// List whom the relay follows.
#[utoipa::path(
    get,
    path = "/api/admin/v1/following",
    tag = "relay",
    operation_id = "list_following",
    params(Paging),
    responses((status = 200, description = "By their ids. `Link` has the next page.", body = Vec<Followed>), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn list(
    State(store): State<Store>,
    uri: Uri,
    Asked(paging): Asked<Paging>,
) -> Result<Rows<Followed>, Problem> {
    let page = tokio::task::spawn_blocking(move || store.sound_page::<Following>("", usize::MAX)).await??;
    let key = |(key, _): &(String, Following)| key.clone();
    Ok(Rows::cut(page.rows, key, (paging.after.as_deref(), paging.limit), &uri, |(_, one)| one.into()))
}

/// Whom to follow, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FollowWish)]
pub(in crate::http) struct Wish {
    /// The actor: its id, or its handle (`@relay@relay.example`).
    target: String,
    /// `litepub` follows the actor, `mastodon` the public collection at its inbox.
    style: Style,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// Follow an instance's or another relay's actor, so that its posts come here.
#[utoipa::path(
    post,
    path = "/api/admin/v1/following",
    tag = "relay",
    operation_id = "follow",
    request_body = Wish,
    responses((status = 200, description = "It was asked.", body = Followed), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn follow(
    State(relay): State<Relay>,
    operator: Operator,
    Told(wish): Told<Wish>,
) -> Result<Json<Followed>, Problem> {
    let followed = relay.follow(&wish.target, wish.style, &operator.act(&wish.reason)?).await?;
    Ok(Json(followed.into()))
}

/// Whom not to follow any more.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Unwanted {
    /// As it was given to follow it.
    target: String,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// A Follow that ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FollowEnded)]
pub(in crate::http) struct Ended {
    /// Whom the relay follows no more.
    unfollowed: String,
}

/// End such a Follow.
#[utoipa::path(
    delete,
    path = "/api/admin/v1/following",
    tag = "relay",
    operation_id = "unfollow",
    params(Unwanted),
    responses((status = 200, description = "It is ended.", body = Ended), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn unfollow(
    State(relay): State<Relay>,
    operator: Operator,
    Asked(unwanted): Asked<Unwanted>,
) -> Result<Json<Ended>, Problem> {
    relay.unfollow(&unwanted.target, &operator.act(&unwanted.reason)?).await?;
    Ok(Json(Ended { unfollowed: unwanted.target }))
}

//! One post, passed on by hand.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asked::Told;
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::ids::Iri;
use crate::relay::Relay;

/// Which post.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnnounceWish)]
pub(in crate::http) struct Wish {
    /// Its id, as its origin spells it.
    #[schema(format = "uri")]
    target: String,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// A post that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct OnItsWay {
    /// Which.
    announcing: Iri,
    /// What happens now.
    next: &'static str,
}

/// Pass a post of a server that joined on to everybody, as if it had come just now.
///
/// It is read from its origin, and goes out if it is public there, not too old and no rule stands against it. It is no way to
/// say something to subscribers.
#[utoipa::path(
    post,
    path = "/api/admin/v1/announce",
    tag = "relay",
    operation_id = "announce",
    request_body = Wish,
    responses((status = 202, description = "It is on its way.", body = OnItsWay), Changing, Usual),
    security((), ("token" = ["moderate"]))
)]
pub(in crate::http) async fn announce(
    State(relay): State<Relay>,
    operator: Operator,
    Told(wish): Told<Wish>,
) -> Result<(StatusCode, Json<OnItsWay>), Problem> {
    let id = Iri::parse(&wish.target);
    let id = id.map_err(|fault| Problem::unread(format!("{:?} is no id of a post: {fault}", wish.target)))?;
    relay.announce(&id, &operator.act(&wish.reason)?).await?;
    let next = "it is read from its origin; what is public there goes to every subscriber";
    Ok((StatusCode::ACCEPTED, Json(OnItsWay { announcing: id, next })))
}

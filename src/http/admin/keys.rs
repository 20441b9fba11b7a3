//! The relay's keys, replaced.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::asked::Told;
use super::noted;
use super::operator::Operator;
use super::problem::{Changing, Problem, Usual};
use crate::clock::Clock;
use crate::identity::{HOLD, Identity, KeyStatus, Rotate, new_pair};
use crate::store::Store;

/// How to rotate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotationWish)]
pub(in crate::http) struct Wanted {
    /// The keys are stolen or lost: drop all of them and sign with a new pair at once.
    now: bool,
    /// Why, for the audit log.
    #[serde(default)]
    reason: String,
}

/// A rotation that began.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Rotated {
    /// What happens and when, in sentences.
    said: Vec<String>,
    /// How the keys stand.
    keys: KeyStatus,
}

/// Replace the relay's keys.
///
/// They are on the disk when it answers. The new pair is listed at once and signs after 48 hours; the old one stays listed a
/// week longer.
#[utoipa::path(
    post,
    path = "/api/admin/v1/keys/rotate",
    tag = "relay",
    operation_id = "rotate_keys",
    request_body = Wanted,
    responses((status = 200, description = "It began.", body = Rotated), Changing, Usual),
    security((), ("token" = ["admin"]))
)]
pub(in crate::http) async fn rotate(
    State(identity): State<Identity>,
    State(store): State<Store>,
    State(clock): State<Clock>,
    operator: Operator,
    Told(wanted): Told<Wanted>,
) -> Result<Json<Rotated>, Problem> {
    let how = if wanted.now { Rotate::Now } else { Rotate::After(HOLD) };
    let said = identity.rotation.foretell(how, clock.now())?;
    let act = operator.act(&wanted.reason)?;
    noted(&store, act.clone(), "keys.rotate", "this relay", json!({ "now": wanted.now, "said": said })).await?;
    let rotate = move || {
        identity.rotation.rotate(how, clock.now(), new_pair)?;
        identity.rotation.status()
    };
    // Making an RSA key takes a second.
    match tokio::task::spawn_blocking(rotate).await? {
        Ok(keys) => Ok(Json(Rotated { said, keys })),
        Err(error) => {
            noted(&store, act, "keys.rotate.failed", "this relay", Value::Null).await?;
            Err(error.into())
        }
    }
}

//! What a backup is made of, while the relay runs: the rows of the store as of one moment; and whether all of it is what it
//! should be. Only over the Unix socket: the rows hold the secret of every hash here, and what waits for the operator.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, header};
use serde_json::Value;

use super::asked::Asked;
use super::costly::Costly;
use super::operator::Operator;
use super::problem::{Problem, Usual};
use super::stream::streamed;
use super::{Because, noted};
use crate::backup::{Findings, LEFT_OUT, check as check_all};
use crate::identity::Identity;
use crate::log::Log;
use crate::store::Store;

/// The rows of the store, all of one moment, as they lie in a backup.
pub(in crate::http) async fn rows(
    State(store): State<Store>,
    State(log): State<Log>,
    State(costly): State<Costly>,
    operator: Operator,
    Asked(because): Asked<Because>,
) -> Result<([(HeaderName, &'static str); 1], Body), Problem> {
    let (act, place) = (operator.act(&because.reason)?, costly.place(&operator)?);
    noted(&store, act, "backup", "the rows of the store", Value::Null).await?;
    let write = move |out: &mut super::stream::Pieces| {
        let snapshot = store.snapshot()?;
        snapshot.write(&LEFT_OUT, log.head(), out).map(drop)
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], streamed(place, "a backup", write)))
}

/// Read everything that is kept, and say what is not as it should be.
///
/// Every row of the store, what belongs together in it, the log and who reads it, the keys. Takes seconds where there is much.
/// The index of the search is compared by `index/check`.
#[utoipa::path(
    get,
    path = "/api/admin/v1/store/check",
    tag = "relay",
    operation_id = "check_store",
    responses((status = 200, description = "What was found; `ok` if nothing is wrong.", body = Findings), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn check(
    State(store): State<Store>,
    State(identity): State<Identity>,
    State(costly): State<Costly>,
    operator: Operator,
) -> Result<Json<Findings>, Problem> {
    let read = move || check_all(&store.snapshot()?, identity.rotation.status());
    costly.read(&operator, read).await.map(Json)
}

//! The operator's API: every route on this page, by what it takes; one file per noun with its handlers and shapes. Over the
//! Unix socket in `data_dir` without a token, on `ops.listen` with one; never on the world's listener.
//!
//! Promises: a route stands in one of the three groups, so that none is open by mistake; what changes something writes a row
//! of the audit log in the same transaction, or before it begins where it is no one transaction; a refusal has the shape and
//! the statuses of [`problem`]; all of it is described by [`openapi`], which a test compares with the routes.

pub(super) mod announce;
pub(super) mod asked;
pub(super) mod audit;
pub(super) mod backup;
pub(super) mod check;
pub(super) mod costly;
pub(super) mod deliveries;
pub(super) mod export;
pub(super) mod following;
pub(super) mod held;
pub(super) mod index;
pub(super) mod keys;
pub(super) mod lists;
pub(super) mod openapi;
pub(super) mod operator;
pub(super) mod probe;
pub(super) mod problem;
pub(super) mod publishers;
pub(super) mod refusals;
pub(super) mod rules;
pub(super) mod search;
pub(super) mod stats;
mod stream;
pub(super) mod subscribers;
pub(super) mod tokens;
pub(super) mod trends;
pub(super) mod workers;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

pub use costly::Costly;
pub use operator::Guesses;
pub use probe::Probes;
pub use problem::GENERAL_REMEDIES;
pub use rules::Imports;

use super::state::HttpState;
use crate::ids::Authority;
use crate::store::{Act, Scope, Store, StoreError};

/// Where all of it is.
pub(super) const ROOT: &str = "/api/admin/v1";

/// Every route; who comes in is for the caller to say, by [`operator::by_socket`] or [`operator::by_token`].
pub(super) fn routes() -> Router<HttpState> {
    let routes = reading()
        .route_layer(from_fn_with_state(Scope::Read, operator::at_least))
        .merge(moderating().route_layer(from_fn_with_state(Scope::Moderate, operator::at_least)))
        .merge(administering().route_layer(from_fn_with_state(Scope::Admin, operator::at_least)));
    Router::new().nest(ROOT, routes)
}

/// For `read` and more: nothing is changed.
fn reading() -> Router<HttpState> {
    Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/stats", get(stats::all))
        .route("/subscribers", get(subscribers::list))
        .route("/subscribers/{host}", get(subscribers::one))
        .route("/publishers", get(publishers::list))
        .route("/deliveries", get(deliveries::list))
        .route("/following", get(following::list))
        .route("/refusals", get(refusals::list))
        .route("/check/{host}", get(check::server))
        .route("/held", get(held::servers))
        .route("/held/{host}", get(held::posts))
        .route("/rules", get(rules::list))
        .route("/rules/check", get(rules::check))
        .route("/rules/export", get(rules::export))
        .route("/lists", get(lists::list))
        .route("/lists/{name}/review", get(lists::review))
        .route("/search/servers", get(search::list))
        .route("/tokens", get(tokens::list))
        .route("/index", get(index::stats))
        .route("/trends", get(trends::list))
        .route("/trends/rulings", get(trends::rulings))
        .route("/trends/withheld", get(trends::withheld))
        .route("/trends/replay", get(trends::replay))
        .route("/workers", get(workers::list))
        .route("/log", get(audit::list))
        .route("/store/check", get(backup::check))
}

/// For `moderate` and more: what is done every day.
fn moderating() -> Router<HttpState> {
    Router::new()
        .route("/subscribers/{host}", delete(subscribers::remove))
        .route("/subscribers/{host}/approve", post(subscribers::approve))
        .route("/subscribers/{host}/reject", post(subscribers::reject))
        .route("/subscribers/{host}/mode", post(subscribers::mode))
        .route("/subscribers/{host}/pause", post(subscribers::pause))
        .route("/subscribers/{host}/resume", post(subscribers::resume))
        .route("/publishers/{host}", post(publishers::add).delete(publishers::remove))
        .route("/deliveries/{host}/retry", post(deliveries::retry))
        .route("/servers/{host}/probe", post(probe::probe))
        .route("/announce", post(announce::announce))
        .route("/held/release", post(held::release))
        .route("/held/discard", post(held::discard))
        .route("/rules", post(rules::put).delete(rules::remove))
        .route("/rules/note", post(rules::note))
        .route("/rules/import", post(rules::import).layer(DefaultBodyLimit::max(rules::IMPORT_BYTES)))
        .route("/lists", post(lists::follow))
        .route("/lists/{name}", post(lists::set).delete(lists::unfollow))
        .route("/lists/{name}/fetch", post(lists::fetch))
        .route("/lists/{name}/apply", post(lists::apply))
        .route("/search/servers/{host}", post(search::on).delete(search::off))
        .route("/trends/rulings", post(trends::rule).delete(trends::unrule))
}

/// For `admin`: who may what, who we are, and what cannot be taken back.
fn administering() -> Router<HttpState> {
    Router::new()
        .route("/following", post(following::follow).delete(following::unfollow))
        .route("/tokens", post(tokens::make).delete(tokens::revoke))
        .route("/keys/rotate", post(keys::rotate))
        .route("/index/check", post(index::check))
        .route("/index/rebuild", post(index::rebuild))
        .route("/index/purge", post(index::purge))
        .route("/index/expunge", post(index::expunge))
        .route("/export", get(export::all))
}

/// For who sits at the machine alone: what is no answer to a program, and would take all secrets elsewhere.
pub(super) fn on_this_machine() -> Router<HttpState> {
    Router::new().nest(ROOT, Router::new().route("/backup", get(backup::rows)))
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Why {
    /// Why. Who is turned away reads it; otherwise it is for the audit log alone.
    #[serde(default)]
    pub(in crate::http) reason: String,
}

/// Why, where there is no body.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Because {
    /// Why. Who is turned away reads it; otherwise it is for the audit log alone.
    #[serde(default)]
    pub(in crate::http) reason: String,
}

/// A change of one server, done.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Done {
    /// What was done: `approved`.
    pub(in crate::http) done: &'static str,
    /// To whom.
    pub(in crate::http) host: Authority,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::http) reason: String,
}

/// Notes what is about to be done and is no change of the store: of keys, or of the index.
async fn noted(store: &Store, act: Act, what: &'static str, target: &str, after: Value) -> Result<(), StoreError> {
    let target = target.to_owned();
    store.write(move |tx| tx.audit(&act, what, &target, Value::Null, after)).await
}

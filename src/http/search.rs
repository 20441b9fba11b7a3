//! The doors of the search: `GET /api/v1/search` in our own words, and as much of Mastodon's API (documentation of July
//! 2026) as programs need that search by it. All of it is there only while `search.api` is not `off`.
//!
//! Promises: what is asked for is not written down anywhere; an address is kept in memory alone, for its limit; answers ask
//! not to be stored or indexed by others. Nothing is fetched because somebody asked, but the key of a server that joined.

mod instance;
mod mastodon;
mod openapi;
mod own;
mod query;
mod shapes;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::get;

use super::state::HttpState;
use super::{answer, door};

/// The routes: those behind the door that `search.api` sets, and those for everybody.
pub(super) fn routes(state: &HttpState) -> Router<HttpState> {
    if !state.config.search.is_on() {
        return if state.config.trends.is_on() { described(state) } else { Router::new() };
    }
    let searching = Router::new()
        .route("/api/v1/search", get(own::search).options(answer::preflight))
        .route("/api/v2/search", get(mastodon::search).options(answer::preflight))
        .route("/api/v1/statuses/{id}", get(mastodon::status).options(answer::preflight))
        .route_layer(from_fn_with_state(state.clone(), door::for_searchers));
    let open = Router::new()
        .route("/api/v1/search/consent", get(own::consent).options(answer::preflight))
        .route_layer(from_fn_with_state(state.clone(), door::for_all));
    searching.merge(open).layer(map_response(answer::keep_private)).merge(described(state))
}

/// What programs read before anything else, wherever there is something to be asked.
fn described(state: &HttpState) -> Router<HttpState> {
    Router::new()
        .route("/api/v1/instance", get(instance::v1).options(answer::preflight))
        .route("/api/v1/instance/", get(instance::v1).options(answer::preflight))
        .route("/api/v2/instance", get(instance::v2).options(answer::preflight))
        .route("/api/v2/instance/", get(instance::v2).options(answer::preflight))
        .route("/api/v1/openapi.json", get(openapi::document).options(answer::preflight))
        .route_layer(from_fn_with_state(state.clone(), door::for_all))
        .layer(map_response(answer::keep_private))
}

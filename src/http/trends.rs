//! The doors of the trends: Mastodon's paths for programs that know one, and our own with every number. All of it is there
//! only while `trends.api` is not `off`, and open to whom that names.
//!
//! Answers are made from lists in memory, so that asking costs nothing; where everybody may ask, caches may keep them for a
//! few seconds, but none that has to do with posts: those may be deleted in the next moment. No text of a post is kept for trends: an example that is shown is one that the search may show, to whoever
//! asks.

pub(super) mod feed;
pub(super) mod mastodon;
pub(super) mod own;
mod query;
mod shapes;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::get;

use super::state::HttpState;
use super::{answer, door};
use crate::config::Access;

/// The routes.
pub(super) fn routes(state: &HttpState) -> Router<HttpState> {
    if !state.config.trends.is_on() {
        return Router::new();
    }
    let is_public = state.config.trends.api == Access::Public;
    let keep = move |response: Response| async move { for_a_while(response, is_public) };
    Router::new()
        .route("/api/v1/trends", get(mastodon::tags_as_before).options(answer::preflight))
        .route("/api/v1/trends/tags", get(mastodon::tags).options(answer::preflight))
        .route("/api/v1/trends/links", get(mastodon::links).options(answer::preflight))
        .route("/api/v1/trends/list", get(own::list).options(answer::preflight))
        .route("/api/v1/trends/tags.rss", get(feed::feed).options(answer::preflight))
        .route_layer(map_response(keep))
        .route("/api/v1/trends/statuses", get(mastodon::statuses).options(answer::preflight))
        .route("/api/v1/trends/explain", get(own::explain).options(answer::preflight))
        .route_layer(from_fn_with_state(state.clone(), door::for_watchers))
        .layer(map_response(vary))
        .layer(map_response(answer::keep_private))
}

/// What everybody may ask for may be kept by caches until it is made anew.
fn for_a_while(mut response: Response, is_public: bool) -> Response {
    if is_public && response.status() == StatusCode::OK && response.extensions().get::<answer::OnlyNow>().is_none() {
        response.extensions_mut().insert(answer::ForAWhile);
    }
    response
}

/// Who has a token may be answered otherwise.
async fn vary(mut response: Response) -> Response {
    response.headers_mut().entry(header::VARY).or_insert(HeaderValue::from_static("Authorization"));
    response
}

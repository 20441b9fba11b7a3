//! The doors. Every route stands on this page, grouped by who calls it; handlers parse, ask one room, and answer.

mod admin;
mod answer;
mod check;
mod door;
mod entities;
mod error;
mod federation;
mod listen;
mod ops;
mod pages;
mod removal;
mod search;
mod state;
mod trends;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use admin::{Costly, GENERAL_REMEDIES, Guesses, Imports, Probes};
pub use listen::{Limits, Listener};
pub use state::{Checkers, Followed, HttpState, InboxSlots, Searchers, Watchers};

use crate::ids::Iri;
use crate::telemetry::Metrics;

/// What the world may call: other servers, and people with a browser. What belongs to the actor answers at the addresses
/// that the actor names.
pub fn public(state: HttpState) -> Router {
    let ids = state.identity.ids.clone();
    Router::new()
        // Other servers.
        .route(&path(&ids.inbox), post(federation::inbox))
        .route(&path(&ids.actor), get(federation::actor))
        .route(&path(&ids.outbox), get(federation::outbox))
        .route(&path(&ids.followers), get(federation::followers))
        .route(&path(&ids.following), get(federation::following))
        .merge(search_actor(&state))
        .route("/announces/{hash}", get(federation::announce))
        .route("/.well-known/webfinger", get(federation::webfinger))
        .route("/.well-known/host-meta", get(federation::host_meta))
        .route("/.well-known/nodeinfo", get(federation::nodeinfo_links))
        .route("/nodeinfo/{version}", get(federation::nodeinfo))
        // Programs that search, people's own among them.
        .merge(search::routes(&state))
        .merge(trends::routes(&state))
        .merge(removal::routes())
        // People.
        .route("/", get(pages::home))
        .route("/check", get(check::check))
        .route("/robots.txt", get(pages::robots))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(catch_panics(state.metrics().clone()))
        .with_state(state)
}

/// What belongs to the search actor. While search is off there is none, but who says no to it is heard.
fn search_actor(state: &HttpState) -> Router<HttpState> {
    let ids = &state.identity.search;
    let inbox = Router::new().route(&path(&ids.inbox), post(federation::search_inbox));
    if !state.config.search.is_on() {
        return inbox;
    }
    inbox
        .route(&path(&ids.actor), get(federation::search_actor))
        .route(&path(&ids.outbox), get(federation::search_outbox))
        .route(&path(&ids.followers), get(federation::search_followers))
        .route(&path(&ids.following), get(federation::search_following))
}

fn path(id: &Iri) -> String {
    id.url().path().to_owned()
}

/// What the operator's tools look at, on `ops.listen`, and the operator's API for who has a token.
pub fn ops(state: HttpState) -> Router {
    let looked_at = Router::new()
        .route("/metrics", get(ops::metrics))
        .route("/health/live", get(ops::live))
        .route("/health/ready", get(ops::ready))
        .route_layer(from_fn_with_state(state.clone(), ops::by_known_names));
    looked_at
        .merge(admin::routes().route_layer(from_fn_with_state(state.clone(), admin::operator::by_token)))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(catch_panics(state.metrics().clone()))
        .with_state(state)
}

/// The operator's API for who can open the Unix socket in `data_dir`.
pub fn admin(state: HttpState) -> Router {
    admin::routes()
        .merge(admin::on_this_machine())
        .route_layer(from_fn(admin::operator::by_socket))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(catch_panics(state.metrics().clone()))
        .with_state(state)
}

#[derive(Clone)]
struct OnPanic(Metrics);

impl tower_http::catch_panic::ResponseForPanic for OnPanic {
    type ResponseBody = axum::body::Body;

    fn response_for_panic(&mut self, _cause: Box<dyn std::any::Any + Send + 'static>) -> Response {
        self.0.panics.inc();
        tracing::error!("a handler panicked");
        error::internal()
    }
}

fn catch_panics(metrics: Metrics) -> CatchPanicLayer<OnPanic> {
    CatchPanicLayer::custom(OnPanic(metrics))
}

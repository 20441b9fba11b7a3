//! The doors. Every route stands on this page, grouped by who calls it; handlers parse, ask one room, and answer.

mod admin;
mod answer;
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
use axum::extract::DefaultBodyLimit;
use axum::response::Response;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use listen::{Limits, Listener};
pub use state::{Followed, HttpState, InboxSlots, Searchers, Watchers};

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

/// What the operator's tools look at, on `ops.listen`.
pub fn ops(state: HttpState) -> Router {
    Router::new()
        .route("/metrics", get(ops::metrics))
        .route("/health/live", get(ops::live))
        .route("/health/ready", get(ops::ready))
        .fallback(error::not_found)
        .layer(catch_panics(state.metrics().clone()))
        .with_state(state)
}

/// What the command line calls, on the Unix socket in `data_dir`.
pub fn admin(state: HttpState) -> Router {
    Router::new()
        .route("/api/admin/v1/subscribers", get(admin::subscribers))
        .route("/api/admin/v1/subscribers/{authority}/approve", post(admin::approve))
        .route("/api/admin/v1/subscribers/{authority}/reject", post(admin::reject))
        .route("/api/admin/v1/subscribers/{authority}/mode", post(admin::mode))
        .route("/api/admin/v1/following", get(admin::following).post(admin::follow).delete(admin::unfollow))
        .route("/api/admin/v1/refusals", get(admin::refusals))
        .route("/api/admin/v1/held", get(admin::held))
        .route("/api/admin/v1/held/release", post(admin::release))
        .route("/api/admin/v1/held/discard", post(admin::discard))
        .route("/api/admin/v1/rules", get(admin::rules::list).post(admin::rules::put).delete(admin::rules::remove))
        .route("/api/admin/v1/rules/check", get(admin::rules::check))
        .route("/api/admin/v1/rules/export", get(admin::rules::export))
        .route(
            "/api/admin/v1/rules/import",
            post(admin::rules::import).layer(DefaultBodyLimit::max(admin::rules::IMPORT_BYTES)),
        )
        .route("/api/admin/v1/search/servers", get(admin::search::list))
        .route("/api/admin/v1/search/servers/{authority}", post(admin::search::on).delete(admin::search::off))
        .route("/api/admin/v1/tokens", get(admin::tokens::list).post(admin::tokens::make).delete(admin::tokens::revoke))
        .route("/api/admin/v1/index", get(admin::index::stats))
        .route("/api/admin/v1/index/check", post(admin::index::check))
        .route("/api/admin/v1/index/rebuild", post(admin::index::rebuild))
        .route("/api/admin/v1/index/purge", post(admin::index::purge))
        .route("/api/admin/v1/index/expunge", post(admin::index::expunge))
        .route("/api/admin/v1/trends", get(admin::trends::list))
        .route(
            "/api/admin/v1/trends/rulings",
            get(admin::trends::rulings).post(admin::trends::rule).delete(admin::trends::unrule),
        )
        .route("/api/admin/v1/trends/withheld", get(admin::trends::withheld))
        .route("/api/admin/v1/trends/replay", get(admin::trends::replay))
        .route("/api/admin/v1/workers", get(admin::workers))
        .route("/api/admin/v1/keys/rotate", post(admin::rotate_keys))
        .route("/api/admin/v1/export", get(admin::export))
        .fallback(error::not_found)
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

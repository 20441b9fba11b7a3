//! What the operator's tools look at: numbers and health. On a listener of its own, never for the world. What is wrong is
//! said in [`health`]; what numbers are looked up when they are asked for, in [`gauges`].

mod gauges;
pub(in crate::http) mod health;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use self::health::{Facts, Trouble};
use super::error;
use super::state::HttpState;
use crate::config::Config;
use crate::ids::Authority;
use crate::supervise::{Supervisor, Workers};

/// The door before all of these: they take no token, and so must not be read by a page that somebody beside the relay, or at
/// the other end of a tunnel, looks at. Such a page can have a name of its own lead here (DNS rebinding), and no other.
pub(super) async fn by_known_names(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    if is_known(&state.config, &state.identity.ids.host(), request.headers()) {
        return next.run(request).await;
    }
    let said =
        "this is not asked for by that name; `ops.hosts` in the relay's configuration lists names that may be used\n";
    (StatusCode::MISDIRECTED_REQUEST, said).into_response()
}

fn is_known(config: &Config, own: &Authority, headers: &HeaderMap) -> bool {
    // Browsers always say one.
    let Some(value) = headers.get(header::HOST) else { return true };
    let Some(named) = value.to_str().ok().and_then(|text| Authority::parse(text).ok()) else { return false };
    let name = named.host();
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let is_listed = || config.ops.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(name));
    // Nobody can have a name without a dot lead anywhere in the world's DNS.
    is_address || !name.contains('.') || name == own.host() || is_listed()
}

/// Everything in the text format of Prometheus.
pub(super) async fn metrics(State(state): State<HttpState>) -> Response {
    // Looking reads the disk a little, and every lane.
    let looked = tokio::task::spawn_blocking(move || {
        gauges::look(&state);
        state.metrics.render()
    });
    let Ok(text) = looked.await else { return error::internal() };
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

#[derive(Serialize)]
struct Live {
    live: bool,
    version: &'static str,
    troubles: Vec<Trouble>,
}

/// The process answers: 200. Otherwise it has given up and ends by itself: 503, over connections that are open still. What
/// only a person can mend does not make it dead: whoever starts dead programs anew would not help.
pub(super) async fn live(State(supervisor): State<Supervisor>) -> Response {
    let troubles: Vec<Trouble> = supervisor.fatal().map(Trouble::gave_up).into_iter().collect();
    let live = troubles.is_empty();
    told(live, &Live { live, version: env!("CARGO_PKG_VERSION"), troubles })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    version: &'static str,
    /// What is wrong, the worst first. Those that are not `grave` leave it ready.
    troubles: Vec<Trouble>,
    workers: Workers,
}

/// It takes and keeps what it is sent, and every worker works: 200; otherwise 503 and what is wrong.
pub(super) async fn ready(State(state): State<HttpState>) -> Response {
    let Ok(facts) = tokio::task::spawn_blocking(move || Facts::gather(&state)).await else { return error::internal() };
    let troubles = facts.troubles();
    let ready = health::is_ready(&troubles);
    told(ready, &Ready { ready, version: env!("CARGO_PKG_VERSION"), troubles, workers: facts.workers })
}

fn told(well: bool, body: &impl Serialize) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(body)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_has_its_own_name_lead_here_reads_nothing() {
        let mut config = Config::embedded();
        config.ops.hosts = vec!["relay.internal".to_owned()];
        let own = Authority::parse("relay.example").unwrap();
        let check = |host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            assert_eq!(is_known(&config, &own, &headers), expected, "{host}");
        };
        for known in [
            "127.0.0.1:9464",
            "127.0.0.1",
            "[::1]:9464",
            "10.0.0.7:9464",
            "localhost:9464",
            "shearwater:9464",
            "relay.example",
            "Relay.Internal:9464",
        ] {
            check(known, true);
        }
        for other in ["evil.example", "evil.example:9464", "a.relay.internal", "127.0.0.1.evil.example", ""] {
            check(other, false);
        }
        assert!(is_known(&config, &own, &HeaderMap::new()));
    }
}

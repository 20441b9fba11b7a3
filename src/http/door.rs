//! Who may come in, and how often. For the search it is whom `search.api` names, for trends whom `trends.api` does: everybody,
//! who has a token, or a server that joined and signs. Asking how oneself stands, and what this is, is open to all.
//!
//! Who is let in takes a turn of their own bucket; who is not takes one of their address's, so that guessing is slow.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;

use super::answer::{failed, refuse, refuse_for};
use super::listen::Client;
use super::state::{HttpState, Searchers};
use crate::config::Access;
use crate::policy::tokens::TokenFault;
use crate::policy::turns::{Asker, TooMany, Turn, Turns};
use crate::relay::verify::Rejection;
use crate::store::Scope;

const ASK_FOR_A_TOKEN: &str = "Send `Authorization: Bearer TOKEN`, with a token from the operator of this relay.";

/// One of the doors.
struct Door {
    /// What is behind it.
    scope: Scope,
    access: Access,
    turns: Turns,
}

impl Door {
    fn to_search(state: &HttpState) -> Self {
        Self { scope: Scope::Search, access: state.config.search.api, turns: state.searchers.turns.clone() }
    }

    fn to_trends(state: &HttpState) -> Self {
        Self { scope: Scope::Trends, access: state.config.trends.api, turns: state.watchers.0.clone() }
    }

    const fn what(&self) -> &'static str {
        match self.scope {
            Scope::Trends => "trends",
            _ => "search",
        }
    }
}

/// Lets those in whom `search.api` names.
pub(super) async fn for_searchers(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    enter(&state, &Door::to_search(&state), request, next).await
}

/// Lets those in whom `trends.api` names.
pub(super) async fn for_watchers(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    enter(&state, &Door::to_trends(&state), request, next).await
}

/// Lets everybody in.
pub(super) async fn for_all(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    if !reads(request.method()) {
        return next.run(request).await;
    }
    let asker = address(&request).map(Asker::Address);
    in_turn(&state, &Door::to_search(&state), asker, request, next).await
}

async fn enter(state: &HttpState, door: &Door, request: Request, next: Next) -> Response {
    if !reads(request.method()) {
        return next.run(request).await;
    }
    let address = address(&request);
    let (target, headers) = (request.uri().clone(), request.headers().clone());
    match asker(state, door, address, &target, &headers).await {
        Ok(asker) => in_turn(state, door, asker, request, next).await,
        Err(refusal) => match take(door, address.map(Asker::Address)) {
            Ok(_) => refusal,
            Err(too_many) => one_too_many(state, door, too_many),
        },
    }
}

/// All else is answered without asking anything: a preflight, or that this is no method here.
fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Client>().and_then(|client| client.of(request.headers()))
}

/// Who it is, if they may come in; nobody in particular on a Unix socket that is open to all.
async fn asker(
    state: &HttpState,
    door: &Door,
    address: Option<IpAddr>,
    target: &Uri,
    headers: &HeaderMap,
) -> Result<Option<Asker>, Response> {
    match door.access {
        Access::Public => Ok(address.map(Asker::Address)),
        Access::Tokens => token(state, door, headers).await.map(Some),
        Access::Subscribers => {
            let target = target.path_and_query().map_or("/", |target| target.as_str());
            let server = state.relay.subscriber_asking(target, headers, address).await;
            server.map(|server| Some(Asker::Server(server))).map_err(|rejection| as_refusal(&rejection))
        }
        Access::Off => Err(refuse(StatusCode::NOT_FOUND, format!("there is no {} here", door.what()), "")),
    }
}

async fn token(state: &HttpState, door: &Door, headers: &HeaderMap) -> Result<Asker, Response> {
    let Some(shown) = bearer(headers) else {
        return Err(challenge(&format!("the {} here is for who has a token", door.what()), "Bearer"));
    };
    match state.tokens.check(shown, door.scope).await {
        Ok(holder) => Ok(Asker::Token(holder.id)),
        Err(fault @ (TokenFault::Unknown | TokenFault::Expired(_))) => {
            Err(challenge(&fault.to_string(), "Bearer error=\"invalid_token\""))
        }
        Err(fault @ TokenFault::OtherScope) => Err(refuse(StatusCode::FORBIDDEN, fault.to_string(), ASK_FOR_A_TOKEN)),
        Err(TokenFault::Store(error)) => {
            tracing::error!(%error, "a token could not be looked up");
            Err(failed())
        }
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn challenge(error: &str, scheme: &'static str) -> Response {
    let mut response = refuse(StatusCode::UNAUTHORIZED, error, ASK_FOR_A_TOKEN);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    response
}

fn as_refusal(rejection: &Rejection) -> Response {
    let status = StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = refuse(status, rejection.detail.clone(), rejection.remedy);
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Signature"));
    }
    if let Some(seconds) = rejection.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Who was let in, for handlers that show something.
#[derive(Debug, Clone)]
pub(super) struct Whom(Option<Asker>);

impl Whom {
    /// Counts what is about to be shown to them; the refusal, if it is too much.
    pub(super) fn show(&self, searchers: &Searchers, count: usize) -> Option<Response> {
        let wait = searchers.shown.take(self.0.as_ref()?, count).err()?;
        let (error, remedy) = (
            "as much as is shown to one asker in a day was shown",
            "Wait as long as Retry-After says, or ask for fewer results: a few may be left.",
        );
        Some(refuse_for(StatusCode::TOO_MANY_REQUESTS, error, remedy, wait))
    }
}

async fn in_turn(state: &HttpState, door: &Door, asker: Option<Asker>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Whom(asker.clone()));
    match take(door, asker) {
        Ok(None) => next.run(request).await,
        Ok(Some(turn)) => told(next.run(request).await, state, turn),
        Err(too_many) => one_too_many(state, door, too_many),
    }
}

fn take(door: &Door, asker: Option<Asker>) -> Result<Option<Turn>, TooMany> {
    asker.map_or(Ok(None), |asker| door.turns.take(&asker))
}

fn one_too_many(state: &HttpState, door: &Door, TooMany { turn, wait }: TooMany) -> Response {
    let what = match door.scope {
        Scope::Search => "searches",
        _ => "requests",
    };
    let (error, remedy) = (format!("too many {what} in so short a time"), "Wait as long as Retry-After says.");
    told(refuse_for(StatusCode::TOO_MANY_REQUESTS, error, remedy, wait), state, turn)
}

/// In the headers that programs know from Mastodon.
fn told(mut response: Response, state: &HttpState, turn: Turn) -> Response {
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(turn.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(turn.left));
    let full_at = state.clock.now().plus(turn.full_in).rfc3339();
    if let Ok(full_at) = HeaderValue::from_str(&full_at) {
        headers.insert("x-ratelimit-reset", full_at);
    }
    response
}

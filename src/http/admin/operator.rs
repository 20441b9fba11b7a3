//! Who of the operator's people asks, and what they may: over the Unix socket whoever can open it, which is the operator;
//! elsewhere who shows a token. Which level a route takes stands where the routes are; a handler that changes something
//! takes the [`Operator`], because the change wants to know whose it is.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;
use crate::clock::Timestamp;
use crate::http::door::bearer;
use crate::http::listen::Client;
use crate::http::state::HttpState;
use crate::policy::network;
use crate::policy::tokens::{Holder, TokenFault};
use crate::policy::turns::{Asker, Turns};
use crate::store::{Act, MAX_REASON, Scope};

const ASK_FOR_A_TOKEN: &str = "Send `Authorization: Bearer TOKEN`; `shearwater admin token create --scope read|moderate|admin` \
                               on the relay's machine makes one.";

/// Wrong tokens that may come from one address in a minute. A secret of 256 bits is not guessed at any rate: this keeps the
/// log readable and the store unasked.
const WRONG_A_MINUTE: u32 = 30;

/// How often somebody may be wrong. Cheap to clone.
#[derive(Clone)]
pub struct Guesses {
    turns: Turns,
    /// The minute, counted from the epoch, in which the log told of one last.
    told: Arc<AtomicI64>,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { turns: Turns::new(WRONG_A_MINUTE), told: Arc::new(AtomicI64::new(i64::MIN)) }
    }
}

impl Guesses {
    /// Tells the log of wrong tokens, once a minute.
    fn tell(&self, now: Timestamp, address: Option<IpAddr>, fault: &str) {
        let minute = now.secs().div_euclid(60);
        if self.told.swap(minute, Ordering::Relaxed) != minute {
            let from = address.map(network);
            tracing::warn!(
                ?from,
                fault,
                "a wrong token was shown to the operator's API; more in this minute are only counted"
            );
        }
    }
}

/// Whoever came by the Unix socket. No token is called so: theirs begin with `token:`.
const LOCAL: &str = "local";

/// Who asks.
#[derive(Debug, Clone)]
pub(in crate::http) struct Operator {
    who: String,
    /// Which token, where one was shown: names may be given again.
    token: Option<String>,
    scope: Scope,
    /// When their token expires.
    until: Option<Timestamp>,
}

impl Operator {
    /// Who came by the Unix socket: only the operator can open it, and whoever can may read the whole store anyway.
    pub(in crate::http) fn local() -> Self {
        Self { who: LOCAL.to_owned(), token: None, scope: Scope::Admin, until: None }
    }

    /// Whether they came by the Unix socket.
    pub(in crate::http) fn is_local(&self) -> bool {
        self.who == LOCAL
    }

    fn holding(holder: Holder) -> Self {
        let token = Some(short(&holder.id).to_owned());
        Self { who: format!("token:{}", holder.name), token, scope: holder.scope, until: holder.expires_at }
    }

    /// What they do, and why they say they do it.
    ///
    /// It is kept with what it is about, for a year in the audit log, and some of it is sent to others. So it has an end, and
    /// nothing in it that is no text.
    pub(in crate::http) fn act(&self, why: &str) -> Result<Act, Problem> {
        let why = why.trim();
        if why.chars().count() > MAX_REASON {
            return Err(Problem::unread(format!("the reason is longer than {MAX_REASON} characters")));
        }
        if why.chars().any(|c| c.is_control() && c != '\n') {
            return Err(Problem::unread("the reason holds control characters"));
        }
        Ok(Act { who: self.who.clone(), why: why.to_owned(), token: self.token.clone() })
    }

    /// Whether they may do what `scope` may.
    pub(in crate::http) fn may(&self, scope: Scope) -> bool {
        self.scope.opens(scope)
    }

    /// When what they may is over: what they make for somebody else must not outlive it.
    pub(in crate::http) fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // A route that is behind no door is a mistake, and opens to nobody.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "it is not known who asks", ASK_FOR_A_TOKEN))
    }
}

/// The door where no token is asked for.
pub(in crate::http) async fn by_socket(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Operator::local());
    next.run(request).await
}

/// The door where one is.
pub(in crate::http) async fn by_token(State(state): State<HttpState>, mut request: Request, next: Next) -> Response {
    let Some(shown) = bearer(request.headers()) else {
        return unknown("this is for who has a token", "Bearer");
    };
    match state.tokens.check(shown, Scope::Read).await {
        Ok(holder) => {
            request.extensions_mut().insert(Operator::holding(holder));
            next.run(request).await
        }
        Err(fault @ (TokenFault::Unknown | TokenFault::Expired(_))) => {
            challenge(&state, &request, &fault.to_string(), "Bearer error=\"invalid_token\"")
        }
        Err(TokenFault::OtherScope) => too_little(Scope::Read),
        Err(TokenFault::Store(error)) => Problem::from(error).into_response(),
    }
}

/// Lets through who may as much as `scope`.
pub(in crate::http) async fn at_least(
    State(scope): State<Scope>,
    operator: Operator,
    request: Request,
    next: Next,
) -> Response {
    if operator.may(scope) { next.run(request).await } else { too_little(scope) }
}

/// The beginning of the public half of a token: enough to tell those of one name apart.
pub(in crate::http) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn too_little(scope: Scope) -> Response {
    let scope = scope.as_str();
    let remedy = format!("Use a token that was made with `--scope {scope}` or more.");
    Problem::new(StatusCode::FORBIDDEN, format!("this takes a token of scope {scope}"), remedy).into_response()
}

/// Says that a token is wrong, or that too many were. Who has a good token is never turned away for what others
/// guess: behind a proxy all have one address.
fn challenge(state: &HttpState, request: &Request, error: &str, scheme: &'static str) -> Response {
    let client = request.extensions().get::<Client>();
    let address = client.and_then(|client| client.of(request.headers()));
    state.metrics.wrong_tokens.inc();
    state.guesses.tell(state.clock.now(), address, error);
    if let Some(Err(too_many)) = address.map(|address| state.guesses.turns.take(&Asker::Address(address))) {
        let wait = u32::try_from(too_many.wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let late = Problem::later(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from this address", wait);
        return late.into_response();
    }
    unknown(error, scheme)
}

fn unknown(error: &str, scheme: &'static str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, error, ASK_FOR_A_TOKEN).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_has_an_end_and_is_text() {
        let operator = Operator::local();
        let long = "ä".repeat(MAX_REASON);
        assert_eq!(operator.act(&format!("  {long}\n")).unwrap().why, long);
        assert_eq!(operator.act("two\nlines").unwrap().why, "two\nlines");
        for why in
            [format!("{long}x"), "x".repeat(2 << 20), "a\u{1b}[2J".to_owned(), "a\u{9b}b".to_owned(), "a\0".to_owned()]
        {
            assert!(operator.act(&why).is_err(), "{}", why.len());
        }
    }
}

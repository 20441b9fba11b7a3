//! What all answers of search and trends have in common: refusals that say what to do, headers that keep results from being stored
//! or indexed, and leave for browsers to read them from any page.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use url::form_urlencoded;
use utoipa::{IntoResponses, ToSchema};

/// Why there is no answer, and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refusal {
    /// What is wrong, in a sentence.
    error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'static str,
}

/// For who may not search here.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `refuse` makes them")]
pub(super) enum NotLetIn {
    /// A token or a signature is needed, or is not right.
    #[response(status = 401, headers(("WWW-Authenticate" = String, description = "What is needed.")))]
    Unknown(Refusal),
    /// Not for this server, or not with this token.
    #[response(status = 403)]
    Known(Refusal),
}

/// For who asks too often.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `refuse_for` makes them")]
pub(super) enum TooOften {
    /// Too many requests in so short a time.
    #[response(
        status = 429,
        headers(
            ("Retry-After" = u32, description = "How many seconds to wait."),
            ("X-RateLimit-Limit" = u32, description = "How many requests may be made at once."),
            ("X-RateLimit-Remaining" = u32, description = "How many of them are left: none."),
            ("X-RateLimit-Reset" = String, description = "When all of them are there again."),
        )
    )]
    TooMany(Refusal),
}

/// Not their fault.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `refuse_for` makes them")]
pub(super) enum NotNow {
    /// The relay failed.
    #[response(status = 500)]
    Failed(Refusal),
    /// The index is being made, many search just now, or the key of the server that asks cannot be read.
    #[response(status = 503, headers(("Retry-After" = u32, description = "How many seconds to wait.")))]
    Busy(Refusal),
}

/// A refusal as a response.
pub(super) fn refuse(status: StatusCode, error: impl Into<String>, remedy: &'static str) -> Response {
    (status, axum::Json(Refusal { error: error.into(), remedy })).into_response()
}

/// One that is over after `wait`.
pub(super) fn refuse_for(
    status: StatusCode,
    error: impl Into<String>,
    remedy: &'static str,
    wait: Duration,
) -> Response {
    let mut response = refuse(status, error, remedy);
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

pub(super) fn bad(error: impl Into<String>) -> Response {
    refuse(StatusCode::BAD_REQUEST, error, "")
}

pub(super) fn failed() -> Response {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "the relay failed while answering this", "Try again later.")
}

/// Other pages of an answer: parameters for `path`, each with what it leads to.
pub(super) fn with_links(
    mut response: Response,
    base: &str,
    pages: &[(&'static str, Vec<(&str, String)>)],
) -> Response {
    let links: Vec<String> = pages
        .iter()
        .map(|(rel, parameters)| {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
            format!("<{base}?{query}>; rel=\"{rel}\"")
        })
        .collect();
    if let Some(value) = HeaderValue::from_str(&links.join(", ")).ok().filter(|_| !links.is_empty()) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}

/// What a browser asks before a page of another site may send a token.
pub(super) async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Marks an answer that is for everybody and may be kept for a few seconds.
#[derive(Clone, Copy)]
pub(super) struct ForAWhile;

/// Keeps it from being marked so: it is made of posts, which may be deleted in the next moment.
#[derive(Clone, Copy)]
pub(super) struct OnlyNow;

/// How many turns somebody has left is said to them alone: nobody else is to be told it by a cache.
const OF_THE_ASKER: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// Results are for who asked: not for caches, not for other search engines, and no page learns where they led from.
pub(super) async fn keep_private(mut response: Response) -> Response {
    let is_for_all = response.extensions().get::<ForAWhile>().is_some();
    if is_for_all {
        OF_THE_ASKER.iter().for_each(|name| drop(response.headers_mut().remove(*name)));
    }
    for (name, value) in [
        (header::CACHE_CONTROL, if is_for_all { "public, max-age=15" } else { "no-store" }),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            "Link, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset",
        ),
        (HeaderName::from_static("x-robots-tag"), "noindex, noarchive, nosnippet"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

//! Refusals as `application/problem+json` (RFC 9457): what failed of *their* request, and what to do about it. About our
//! own insides they hold nothing.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::relay::verify::Rejection;

/// A refusal as a response.
pub(super) fn problem(rejection: &Rejection) -> Response {
    let status = StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Refused"),
        "status": status.as_u16(),
        "detail": rejection.detail,
        "check": rejection.check,
        "remedy": rejection.remedy,
        // Mastodon writes the member `error` of an answer into its log.
        "error": format!("{}: {}", rejection.check, rejection.detail),
    });
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = rejection.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn plain(status: u16, check: &'static str, detail: &str, remedy: &'static str) -> Response {
    problem(&Rejection { status, check, detail: detail.to_owned(), remedy, retry_after: None })
}

pub(super) async fn not_found() -> Response {
    plain(404, "path", "there is nothing here", "The home page / says which addresses to use.")
}

pub(super) async fn method_not_allowed() -> Response {
    plain(405, "method", "this address does not take this method", "The inbox takes POST, all else takes GET.")
}

pub(super) fn internal() -> Response {
    plain(500, "internal", "the relay failed while answering this", "Try again later.")
}

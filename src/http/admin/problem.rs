//! Why the admin API says no: one shape (RFC 9457), a status that a program can act on, a sentence for a person, and what to
//! do about it.
//!
//! | status | means |
//! |---|---|
//! | 400 | it cannot be read: no JSON, an unknown parameter, no host |
//! | 401, 403 | who asks is not known, or may not |
//! | 404 | what it is about is not here |
//! | 409 | it is here, and stands against what is asked |
//! | 413, 415 | the body is too long, or of another kind |
//! | 422 | it was understood and cannot be done; the sentence says why |
//! | 429, 503 | later: `Retry-After` |
//! | 500 | the relay failed; never for what the caller did |

use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::policy::Halfway;
use crate::policy::lists::ListFault;
use crate::search::index::IndexFault;
use crate::store::StoreError;
use crate::trends::TrendsFault;

const UNREAD: &str = "Correct the request; /api/admin/v1/openapi.json describes each.";
const ABSENT: &str = "List what there is, and name one of it.";
const CONFLICT: &str = "Change what stands against it, then ask again.";
const UNFIT: &str = "Change what is asked for as the detail says.";
/// Remedies that are true of every refusal of their kind, and so tell a person nothing that the detail does not.
pub const GENERAL_REMEDIES: [&str; 4] = [UNREAD, ABSENT, CONFLICT, UNFIT];

/// A refusal.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(in crate::http) struct Problem {
    /// `about:blank`: the status says what kind it is.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, in a sentence.
    detail: String,
    /// What to do about it.
    remedy: String,
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// Answers that every route may give.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `Problem` makes them")]
pub(in crate::http) enum Usual {
    /// A parameter or the body cannot be read.
    #[response(status = 400, content_type = "application/problem+json")]
    Unread(Problem),
    /// A token is needed, or is not right.
    #[response(
        status = 401,
        content_type = "application/problem+json",
        headers(("WWW-Authenticate" = String, description = "What is needed."))
    )]
    Unknown(Problem),
    /// The token is for less than this.
    #[response(status = 403, content_type = "application/problem+json")]
    TooLittle(Problem),
    /// Too many wrong tokens came from this address, or one server was looked at too often.
    #[response(
        status = 429,
        content_type = "application/problem+json",
        headers(("Retry-After" = u32, description = "How many seconds to wait."))
    )]
    TooMany(Problem),
    /// The relay failed.
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(Problem),
    /// The store has too much to do just now, or as much is being read as may be at once.
    #[response(
        status = 503,
        content_type = "application/problem+json",
        headers(("Retry-After" = u32, description = "How many seconds to wait."))
    )]
    Busy(Problem),
}

/// For what may not be here.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `Problem` makes them")]
pub(in crate::http) enum Absent {
    /// What it is about is not here.
    #[response(status = 404, content_type = "application/problem+json")]
    Absent(Problem),
}

/// Answers of routes that change something.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `Problem` makes them")]
pub(in crate::http) enum Changing {
    /// What it is about is not here.
    #[response(status = 404, content_type = "application/problem+json")]
    Absent(Problem),
    /// Something that is here stands against it.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    OtherKind(Problem),
    /// It was understood, and cannot be done.
    #[response(status = 422, content_type = "application/problem+json")]
    Unfit(Problem),
}

impl Problem {
    /// One with this status.
    pub(in crate::http) fn new(status: StatusCode, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Refused"),
            status: status.as_u16(),
            detail: detail.into(),
            remedy: remedy.into(),
            retry_after: None,
        }
    }

    /// It cannot be read.
    pub(in crate::http) fn unread(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail, UNREAD)
    }

    /// What it is about is not here.
    pub(in crate::http) fn absent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail, ABSENT)
    }

    /// Something stands against it.
    pub(in crate::http) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail, CONFLICT)
    }

    /// It cannot be done.
    pub(in crate::http) fn unfit(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail, UNFIT)
    }

    /// Later.
    pub(in crate::http) fn later(status: StatusCode, detail: impl Into<String>, seconds: u32) -> Self {
        let late = Self::new(status, detail, "Ask again after as many seconds as Retry-After says.");
        Self { retry_after: Some(seconds), ..late }
    }

    /// The relay failed; what happened is for its log.
    pub(in crate::http) fn failed(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "the admin API failed");
        let detail = "the relay failed while answering this";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail, "Look into the relay's log for the cause.")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = self.retry_after;
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Absent(_) => Self::absent(error.to_string()),
            StoreError::Declined(_) => Self::conflict(error.to_string()),
            StoreError::Busy => Self::later(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), 1),
            StoreError::Full => Self::later(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), 60),
            StoreError::Failed(_) | StoreError::Damaged(_) | StoreError::Newer { .. } => Self::failed(&error),
        }
    }
}

impl From<anyhow::Error> for Problem {
    /// Rooms say what is wrong with a wish in a sentence of their own, or with the fault that they met. What is neither is
    /// a failure of ours.
    fn from(error: anyhow::Error) -> Self {
        if let Some(halfway) = error.downcast_ref::<Halfway>() {
            return Self::later(StatusCode::SERVICE_UNAVAILABLE, format!("{halfway}: {}", halfway.cause), 60);
        }
        if let Some(of_store) = error.chain().find_map(|cause| cause.downcast_ref::<StoreError>()) {
            return of_store.clone().into();
        }
        let ours = error.chain().any(|cause| {
            cause.is::<std::io::Error>() || cause.is::<tokio::task::JoinError>() || cause.is::<IndexFault>()
        });
        if ours {
            return Self::failed(&format!("{error:#}"));
        }
        Self::unfit(format!("{error:#}"))
    }
}

impl From<TrendsFault> for Problem {
    fn from(fault: TrendsFault) -> Self {
        match fault {
            TrendsFault::Counting => Self::later(StatusCode::SERVICE_UNAVAILABLE, fault.to_string(), 5),
            TrendsFault::Store(error) => error.into(),
        }
    }
}

impl From<ListFault> for Problem {
    fn from(fault: ListFault) -> Self {
        Self::unfit(fault.to_string())
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::failed(&error)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::unread(rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        match status {
            StatusCode::UNPROCESSABLE_ENTITY => Self::unread(rejection.body_text()),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Self::new(status, rejection.body_text(), "Send it as `content-type: application/json`.")
            }
            _ => Self::new(status, rejection.body_text(), "Correct the body; it is one JSON object."),
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text(), "Send less in one request.")
    }
}

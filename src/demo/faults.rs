//! What can be wrong with an instance: ways of not answering properly ([`Fault`]), and ways in which the demo itself
//! breaks a promise between the relay and an instance, to show that the checker notices ([`Tamper`]).

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::serve::{self, HangUp, Reply};

/// A way of not answering properly. `None` is health.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Fault {
    /// Answers as it should.
    #[default]
    None,
    /// Answers as it should, after this long. A sender that hangs up before leaves no trace.
    Slow(Duration),
    /// Answers this status, and does nothing.
    Status(u16),
    /// Answers this status with `Retry-After` in seconds, and does nothing.
    Busy {
        /// 429 or 503.
        status: u16,
        /// The header's value.
        retry_after: u64,
    },
    /// Answers 301 to this place.
    Moved(String),
    /// Reads the request and never answers.
    Silent,
    /// Answers 200 and a body that never ends, as fast as it is read.
    Endless,
    /// Answers 200 and a body of one byte a second.
    Drip,
    /// Answers 200 and a login page.
    Html,
    /// Closes the connection without an answer.
    HangsUp,
    /// Does what was asked, then closes the connection without an answer.
    LosesAnswer,
    /// Answers as it should, and closes each connection, as it says.
    Closes,
    /// Takes no signature but one that covers `Host`.
    WantsItsName,
    /// Stands behind a proxy that adds a parameter to the content type.
    Rewrites,
}

/// What a fault does to a request, once it had its time.
pub(super) enum Verdict {
    /// Handle it.
    Go,
    /// Handle it, then hang up.
    GoSilently,
    /// Do not handle it; this is the answer, and the status to note down.
    Stop(Result<Reply, HangUp>, u16),
}

impl Fault {
    pub(super) async fn strike(&self) -> Verdict {
        let status = |code: u16| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match self {
            Self::None | Self::Closes | Self::WantsItsName | Self::Rewrites => Verdict::Go,
            Self::Slow(span) => {
                tokio::time::sleep(*span).await;
                Verdict::Go
            }
            Self::Status(code) => Verdict::Stop(Ok(serve::text(status(*code), "simulated fault")), *code),
            Self::Busy { status: code, retry_after } => {
                let mut reply = serve::text(status(*code), "simulated overload");
                reply.headers_mut().insert("retry-after", HeaderValue::from(*retry_after));
                Verdict::Stop(Ok(reply), *code)
            }
            Self::Moved(place) => {
                let mut reply = serve::text(StatusCode::MOVED_PERMANENTLY, "");
                if let Ok(place) = HeaderValue::from_str(place) {
                    reply.headers_mut().insert("location", place);
                }
                Verdict::Stop(Ok(reply), 301)
            }
            Self::Silent => std::future::pending().await,
            Self::Endless => Verdict::Stop(Ok(serve::endless(&[b'a'; 4096], Duration::ZERO)), 200),
            Self::Drip => Verdict::Stop(Ok(serve::endless(b"a", Duration::from_secs(1))), 200),
            Self::Html => {
                let page = "<!doctype html><title>Log in</title><p>Please log in.";
                Verdict::Stop(Ok(serve::reply(StatusCode::OK, "text/html", page)), 200)
            }
            Self::HangsUp => Verdict::Stop(Err(HangUp), 0),
            Self::LosesAnswer => Verdict::GoSilently,
        }
    }
}

/// What stands between the relay and an instance and breaks a promise on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tamper {
    /// Nothing.
    #[default]
    None,
    /// Every new post arrives a second time.
    Twice,
    /// Every third new post is answered and lost.
    Loses,
    /// A byte of the first few bodies is changed on the way.
    Alters,
    /// Everything arrives as if it had been ten minutes on the way.
    Delays,
    /// Accepts are lost.
    LosesAccepts,
    /// Edits and deletions are lost.
    LosesFollowUps,
}

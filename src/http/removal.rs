//! For people who are in the search, or do not want to be: `POST /api/v1/search/remove` and `POST /api/v1/search/check`. As
//! JSON, or as plain words where `Accept` asks for `text/plain`; the request as JSON or as a form. Every refusal says what to
//! do instead.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use super::error::{internal, not_found};
use super::listen::Client;
use super::state::{HttpState, Searchers};
use crate::clock::Timestamp;
use crate::consent::Reason;
use crate::policy::turns::{Asker, TooMany};
use crate::search::Search;
use crate::search::wishes::{Granted, WishFault};
use crate::store::{StoreError, Wish};

/// What somebody sends who asks about themselves, at most.
const BYTES: usize = 8 << 10;

/// The routes.
pub(super) fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/v1/search/remove", post(remove).layer(DefaultBodyLimit::max(BYTES)))
        .route("/api/v1/search/check", post(check).layer(DefaultBodyLimit::max(BYTES)))
}

/// What somebody asks about themselves.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AboutOneself)]
pub(super) struct Asked {
    /// Whose: `name@host`, or the address of the account's own document.
    #[schema(example = "ada@small.example")]
    acct: String,
    /// The same under the name that developers look for.
    actor: String,
    /// Of a removal: the word that was given before, and stands in the profile now.
    token: String,
    /// Of a removal: `remove`, `return` to take one back, or `older` to be found with posts from before one said yes.
    wish: String,
}

/// How far a wish has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Wish)]
struct Came {
    /// `asked`, `removed`, `returned` or `older`.
    state: &'static str,
    /// The word to show in the profile, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// How many posts went.
    #[serde(skip_serializing_if = "Option::is_none")]
    posts: Option<u64>,
    /// The same in words.
    message: String,
}

/// How an account stands that was read again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReadAgain)]
struct Read {
    /// Its posts may be found.
    indexed: bool,
    /// Everything that stands against it.
    reasons: Vec<Against>,
    /// When it was read.
    #[schema(format = DateTime)]
    read_at: Option<String>,
    /// How many posts are held.
    posts: u64,
    /// The same in words.
    message: String,
}

/// Something that stands against it.
#[derive(Debug, Serialize, ToSchema)]
struct Against {
    /// In a word.
    reason: &'static str,
    /// In a sentence.
    meaning: &'static str,
}

/// Why a wish is not granted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WishRefusal)]
struct Why {
    /// What is wrong, in a sentence.
    error: String,
    /// The same in a word.
    reason: &'static str,
    /// What to do about it.
    remedy: &'static str,
}

/// Refusals of both.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only described: `Words::fault` makes them")]
enum Refused {
    /// It names nobody, or cannot be read.
    #[response(status = 400)]
    Unclear(Why),
    /// The handle is not known here, or nothing is held of the account. Who said no is told the same.
    #[response(status = 404)]
    Unknown(Why),
    /// The account is gone from its server: what was held of it goes.
    #[response(status = 410)]
    Gone(Why),
    /// Longer than 8 KiB.
    #[response(status = 413, content_type = "text/plain")]
    Long(String),
    /// Too soon after another reading of this profile, or too many requests from this address.
    #[response(status = 429, headers(("Retry-After" = u32, description = "How many seconds to wait.")))]
    Soon(Why),
    /// The relay failed.
    #[response(status = 500)]
    Failed(serde_json::Value),
    /// The account's server does not show us its profile.
    #[response(status = 502, headers(("Retry-After" = u32, description = "How many seconds to wait.")))]
    Unreadable(Why),
    /// The relay is busy.
    #[response(status = 503, headers(("Retry-After" = u32, description = "How many seconds to wait.")))]
    Busy(Why),
}

impl Asked {
    fn who(&self) -> &str {
        if self.acct.is_empty() { &self.actor } else { &self.acct }
    }
}

/// Be taken out of the search for good, return, or be found with older posts.
///
/// In two steps: without `token` the answer is a word that the account's owner puts into its profile; with it, the profile is
/// read once and the wish is granted if it shows the word. A word is good for a week or two. Where the profile shows the word
/// of a removal, that is granted, whatever was asked for.
#[utoipa::path(
    post,
    path = "/api/v1/search/remove",
    tag = "search",
    operation_id = "remove",
    request_body(content(
        (Asked = "application/x-www-form-urlencoded"),
        (Asked = "application/json"),
    )),
    responses(
        (status = 200, description = "How far it has come.", body = Came),
        (status = 403, description = "This is not the word that was given.", body = Why),
        (
            status = 422,
            description = "The profile does not show the word.",
            body = Why,
            headers(("Retry-After" = u32, description = "How many seconds to wait."))
        ),
        Refused,
    )
)]
pub(super) async fn remove(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let words = Words::of(&headers);
    let asked = match admit(&search, &searchers, &client, &headers, &body, words).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    let wish = match asked.wish.as_str() {
        "" | "remove" => Wish::Removal,
        "return" => Wish::Return,
        "older" => Wish::Older,
        _ => {
            return words.refuse(
                StatusCode::BAD_REQUEST,
                "wish",
                "wish is \"remove\", \"return\" or \"older\"",
                "Leave it out to be removed.",
                None,
            );
        }
    };
    if asked.token.is_empty() {
        return match search.token_of(asked.who(), wish) {
            Ok(token) => words.came(asked_for(wish, &token), "asked", Some(token), None),
            Err(fault) => words.fault(fault),
        };
    }
    match search.grant(asked.who(), wish, &asked.token, client.of(&headers)).await {
        Ok(Granted::Removed { posts }) => words.came(REMOVED.to_owned(), "removed", None, Some(posts)),
        Ok(Granted::Returned) => words.came(RETURNED.to_owned(), "returned", None, None),
        Ok(Granted::OlderToo) => words.came(OLDER.to_owned(), "older", None, None),
        Err(fault) => words.fault(fault),
    }
}

const REMOVED: &str = "Done: nothing of your account is found here from this moment on, its words leave the files within a \
    day, and nothing is taken again. You can take the word out of your profile now. To come back, send wish=return.";
const RETURNED: &str = "Done: from now on your profile is asked again. What was here before does not come back. Take the \
    word out of your profile now: while it stands there, whoever asks for it could take a later removal back.";

const OLDER: &str = "Done: posts of yours from before you said yes are taken too when they come here again, edited or boosted, \
    but none from before your server's admin said yes. Nobody goes and gets them. You can take the word out of your profile now.";

fn asked_for(wish: Wish, token: &str) -> String {
    let what = match wish {
        Wish::Removal => "be taken out of this search, and stay out whatever your profile says",
        Wish::Return => "be let into this search again as far as your profile says so",
        Wish::Older => "be found with what you wrote before you said yes, too",
    };
    format!(
        "To {what}, put this word anywhere into your profile (bio or a field), save it, and send the same request again with \
         token={token}, within a week. Your server is asked for your profile then, once in ten minutes at most if it is you \
         who asks. Afterwards you can take the word out again."
    )
}

/// Be read again.
///
/// Reads the profile of an account of which something is held, once, and says how it stands then. What the profile says counts
/// at once, and the word of a removal takes the account out.
#[utoipa::path(
    post,
    path = "/api/v1/search/check",
    tag = "search",
    operation_id = "check",
    request_body(content(
        (Asked = "application/x-www-form-urlencoded"),
        (Asked = "application/json"),
    )),
    responses(
        (status = 200, description = "How it stands.", body = Read),
        Refused,
    )
)]
pub(super) async fn check(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let words = Words::of(&headers);
    let asked = match admit(&search, &searchers, &client, &headers, &body, words).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal,
    };
    match search.read_again(asked.who(), client.of(&headers)).await {
        Ok(now) => {
            let sentences: Vec<&str> = now.reasons.iter().map(|reason| reason.sentence()).collect();
            let message = match (now.indexed, sentences.is_empty()) {
                (true, _) => {
                    format!("Your profile was read: posts of yours may be found here, and {} are held.", now.posts)
                }
                (false, true) => {
                    "Your profile was read: nothing stands against it, and what you post from now on may be found here."
                        .to_owned()
                }
                (false, false) => {
                    format!("Your profile was read: nothing of yours is found here. {}", sentences.join(" "))
                }
            };
            let against = |reason: &Reason| Against { reason: reason.as_str(), meaning: reason.sentence() };
            let body = Read {
                indexed: now.indexed,
                reasons: now.reasons.iter().map(against).collect(),
                read_at: now.read_at.map(Timestamp::rfc3339),
                posts: now.posts,
                message: message.clone(),
            };
            words.respond(StatusCode::OK, &body, &message, None)
        }
        Err(fault) => words.fault(fault),
    }
}

/// Whether there is a search, the address may ask, and the request can be read.
async fn admit(
    search: &Search,
    searchers: &Searchers,
    client: &Client,
    headers: &HeaderMap,
    body: &[u8],
    words: Words,
) -> Result<Asked, Response> {
    if !search.is_on() {
        return Err(not_found().await);
    }
    let turn = client.of(headers).map_or(Ok(None), |address| searchers.turns.take(&Asker::Address(address)));
    turn.map_err(|TooMany { wait, .. }| {
        words.refuse(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many",
            "too many requests from this address",
            "Try again later.",
            Some(wait),
        )
    })?;
    let is_json = body.trim_ascii_start().first() == Some(&b'{');
    let asked = if is_json { serde_json::from_slice(body).ok() } else { read_form(body) };
    asked.ok_or_else(|| {
        let remedy = "Send acct=name@host as a form, or {\"acct\": \"name@host\"} as JSON.";
        words.refuse(StatusCode::BAD_REQUEST, "unreadable", "the request cannot be read", remedy, None)
    })
}

fn read_form(body: &[u8]) -> Option<Asked> {
    let mut asked = Asked::default();
    for (name, value) in url::form_urlencoded::parse(body) {
        let place = match name.as_ref() {
            "acct" => &mut asked.acct,
            "actor" => &mut asked.actor,
            "token" => &mut asked.token,
            "wish" => &mut asked.wish,
            _ => return None,
        };
        *place = value.into_owned();
    }
    Some(asked)
}

/// How the answer is worded.
#[derive(Debug, Clone, Copy)]
enum Words {
    Json,
    Plain,
}

impl Words {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let first = accept.split(',').next().unwrap_or_default();
        if first.split(';').next().unwrap_or_default().trim() == "text/plain" { Self::Plain } else { Self::Json }
    }

    fn came(self, message: String, state: &'static str, token: Option<String>, posts: Option<u64>) -> Response {
        let body = Came { state, token, posts, message };
        self.respond(StatusCode::OK, &body, &body.message, None)
    }

    fn refuse(
        self,
        status: StatusCode,
        reason: &'static str,
        why: &str,
        remedy: &'static str,
        wait: Option<Duration>,
    ) -> Response {
        let first: String = why.chars().take(1).flat_map(char::to_uppercase).collect();
        let said = format!("{first}{}. {remedy}", why.chars().skip(1).collect::<String>());
        self.respond(status, &Why { error: why.to_owned(), reason, remedy }, &said, wait)
    }

    fn fault(self, fault: WishFault) -> Response {
        let (status, error, remedy, wait) = match &fault {
            WishFault::Nobody => {
                (StatusCode::BAD_REQUEST, "nobody", "Send acct=name@host, such as acct=ada@small.example.", None)
            }
            WishFault::UnknownHandle => (
                StatusCode::NOT_FOUND,
                "unknown-handle",
                "Accounts go by the host of their own address here, which some servers hide behind a shorter handle: send the \
                 address of your account's own document, such as https://your.example/users/you. To stay out in any case, \
                 write #nosearch in your profile.",
                None,
            ),
            WishFault::NothingHeld => (
                StatusCode::NOT_FOUND,
                "nothing-held",
                "There is nothing to be done. To stay out in any case, write #nosearch in your profile. If your profile said \
                 no before and says yes now, what you post from now on is taken. If you block this relay, or asked to be removed, \
                 that stands until you take it back: undo the block, or ask /api/v1/search/remove with wish=return.",
                None,
            ),
            WishFault::WrongToken => {
                (StatusCode::FORBIDDEN, "wrong-token", "Send the request without a token to be given the word.", None)
            }
            WishFault::NotShown => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "not-shown",
                "Put the word into your bio or a field of your profile, save it, look at your public page whether it is there, \
                 and ask again in ten minutes. For a return, no word of a removal may stand there.",
                Some(crate::search::wishes::GAP),
            ),
            WishFault::TooSoon { after } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too-soon",
                "Ask again after as long as Retry-After says.",
                Some(*after),
            ),
            WishFault::Unreadable => (
                StatusCode::BAD_GATEWAY,
                "unreadable-profile",
                "Whether it is down or refuses us: what it does not show us for long goes out of the search by itself. Ask again \
                 in ten minutes, or write to the operator; the address is on the home page.",
                Some(crate::search::wishes::GAP),
            ),
            WishFault::Gone => (StatusCode::GONE, "gone", "What was held of it is removed.", None),
            WishFault::Store(StoreError::Busy) => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", "Try again in a moment.", Some(Duration::from_secs(5)))
            }
            WishFault::Store(_) => {
                tracing::error!(error = %fault, "a wish could not be granted");
                return internal();
            }
        };
        self.refuse(status, error, &fault.to_string(), remedy, wait)
    }

    fn respond(self, status: StatusCode, body: &impl Serialize, said: &str, wait: Option<Duration>) -> Response {
        let mut response = match self {
            Self::Json => (status, axum::Json(body)).into_response(),
            Self::Plain => (status, format!("{said}\n")).into_response(),
        };
        let headers = response.headers_mut();
        if let Some(wait) = wait {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (HeaderName::from_static("x-robots-tag"), "noindex"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

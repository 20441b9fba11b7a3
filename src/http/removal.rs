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
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{internal, not_found};
use super::listen::Client;
use super::state::{HttpState, Searchers};
use crate::policy::turns::{Asker, TooMany};
use crate::search::Search;
use crate::search::wishes::WishFault;
use crate::store::{StoreError, Wish};

/// What somebody sends who asks about themselves, at most.
const BYTES: usize = 8 << 10;

/// The routes.
pub(super) fn routes() -> Router<HttpState> {
    Router::new()
        .route("/api/v1/search/remove", post(remove).layer(DefaultBodyLimit::max(BYTES)))
        .route("/api/v1/search/check", post(check).layer(DefaultBodyLimit::max(BYTES)))
}

/// What is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    /// Whose: `name@host`, or the address of the account's own document.
    acct: String,
    /// The same under the name that developers look for.
    actor: String,
    /// The word that was given before, and stands in the profile now.
    token: String,
    /// `return`: take a removal back.
    wish: String,
}

impl Asked {
    fn who(&self) -> &str {
        if self.acct.is_empty() { &self.actor } else { &self.acct }
    }
}

/// Takes an account out of the search for good, or lets it return, in two steps: the first gives a word that its owner puts
/// into their profile, the second, with `token`, looks whether it is there.
async fn remove(
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
        _ => {
            return words.refuse(
                StatusCode::BAD_REQUEST,
                "wish",
                "wish is \"remove\" or \"return\"",
                "Leave it out to be removed.",
                None,
            );
        }
    };
    if asked.token.is_empty() {
        return match search.token_of(asked.who(), wish) {
            Ok(token) => {
                let what = match wish {
                    Wish::Removal => "be taken out of this search, and stay out whatever your profile says",
                    Wish::Return => "be let into this search again as far as your profile says so",
                };
                let said = format!(
                    "To {what}, put this word anywhere into your profile (bio or a field), save it, and send the same request \
                     again with token={token}. Your server is asked for your profile then, once in ten minutes at most. \
                     Afterwards you can take the word out again."
                );
                words.answer(&said, json!({ "state": "asked", "token": token }))
            }
            Err(fault) => words.fault(fault),
        };
    }
    match search.grant(asked.who(), wish, &asked.token).await {
        Ok(posts) => match wish {
            Wish::Removal => words.answer(
                "Done: nothing of your account is found here from this moment on, its words leave the files within a day, and \
                 nothing is taken again. You can take the word out of your profile now. To come back, send wish=return.",
                json!({ "state": "removed", "posts": posts }),
            ),
            Wish::Return => words.answer(
                "Done: from now on your profile is asked again. What was here before does not come back. You can take the word \
                 out of your profile now.",
                json!({ "state": "returned" }),
            ),
        },
        Err(fault) => words.fault(fault),
    }
}

/// Reads an account again that is known to the search, and says how it stands.
async fn check(
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
    match search.read_again(asked.who()).await {
        Ok(now) => {
            let reasons: Vec<Value> = now
                .reasons
                .iter()
                .map(|reason| json!({ "reason": reason.as_str(), "meaning": reason.sentence() }))
                .collect();
            let sentences: Vec<&str> = now.reasons.iter().map(|reason| reason.sentence()).collect();
            let said = match (now.indexed, sentences.is_empty()) {
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
            let read_at = now.read_at.map(crate::clock::Timestamp::rfc3339);
            let body = json!({ "indexed": now.indexed, "reasons": reasons, "read_at": read_at, "posts": now.posts });
            words.answer(&said, body)
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

    fn answer(self, said: &str, mut body: Value) -> Response {
        body["message"] = said.into();
        self.respond(StatusCode::OK, &body, said, None)
    }

    fn refuse(self, status: StatusCode, error: &str, why: &str, remedy: &str, wait: Option<Duration>) -> Response {
        let first: String = why.chars().take(1).flat_map(char::to_uppercase).collect();
        let said = format!("{first}{}. {remedy}", why.chars().skip(1).collect::<String>());
        self.respond(status, &json!({ "error": why, "reason": error, "remedy": remedy }), &said, wait)
    }

    fn fault(self, fault: WishFault) -> Response {
        let (status, error, remedy, wait) = match &fault {
            WishFault::Nobody => {
                (StatusCode::BAD_REQUEST, "nobody", "Send acct=name@host, such as acct=ada@small.example.", None)
            }
            WishFault::UnknownHandle => (
                StatusCode::NOT_FOUND,
                "unknown-handle",
                "If you have posted lately, send the address of your account's own document, such as \
                 https://your.example/users/you. To stay out in any case, write #nosearch in your profile.",
                None,
            ),
            WishFault::NothingHeld => (
                StatusCode::NOT_FOUND,
                "nothing-held",
                "There is nothing to be done. To stay out in any case, write #nosearch in your profile. If you block this \
                 relay, or asked to be removed, that stands until you take it back: undo the block, or ask /api/v1/search/remove \
                 with wish=return.",
                None,
            ),
            WishFault::WrongToken => {
                (StatusCode::FORBIDDEN, "wrong-token", "Send the request without a token to be given the word.", None)
            }
            WishFault::NotShown => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "not-shown",
                "Put the word into your bio or a field of your profile, save it, look at your public page whether it is there, \
                 and ask again in ten minutes.",
                Some(crate::search::wishes::GAP),
            ),
            WishFault::TooSoon { after } => {
                (StatusCode::TOO_MANY_REQUESTS, "too-soon", "Ask again when ten minutes are over.", Some(*after))
            }
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

    fn respond(self, status: StatusCode, body: &Value, said: &str, wait: Option<Duration>) -> Response {
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

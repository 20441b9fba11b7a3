//! Searching: `GET /api/v1/search` in our own words, and `GET /api/v2/search` with `GET /api/v1/statuses/:id` in those of
//! Mastodon's API (documentation of July 2026), so that programs which know one know the other. Only where `search.api`
//! says so.
//!
//! Promises: what is asked for is not written down anywhere; an address is kept in memory alone, for its limit; answers ask
//! not to be stored or indexed by others. Nothing is fetched because somebody asked.

use std::net::IpAddr;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{internal, not_found};
use super::listen::Client;
use super::state::Searchers;
use crate::search::Search;
use crate::search::find::{FindFault, Hit, Results};
use crate::search::index::Page;
use crate::wire::document::{MediaKind, Prop};

/// Posts of a page, if nothing else is asked for, and at most.
const PAGE: usize = 20;
const MAX_PAGE: usize = 40;
/// Characters of a text in our own answer: enough to see what it is about. The rest is at home.
const EXCERPT: usize = 500;

/// What our own search is asked.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    limit: Option<usize>,
    /// Only posts with smaller ids: `next` of the page before.
    below: Option<u64>,
    /// Only posts with greater ids.
    above: Option<u64>,
    /// Of those that fit best, so many are passed over.
    skip: Option<usize>,
    /// Sensitive posts too.
    #[serde(default)]
    sensitive: bool,
}

/// `GET /api/v1/search`.
pub(super) async fn search(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(asked)) = asked else { return refuse(StatusCode::BAD_REQUEST, "the parameters cannot be read", None) };
    let page = Page { below: asked.below, above: asked.above, limit: asked.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE) };
    let (skip, sensitive) = (asked.skip.unwrap_or(0), asked.sensitive);
    match find(search, &searchers, client.of(&headers), asked.q, page, skip, sensitive).await {
        Ok(results) => {
            let full = results.hits.len() == page.limit || results.took_too_long;
            let next = results.hits.last().filter(|_| full).map(|hit| hit.number.to_string());
            let hits: Vec<Value> = results.hits.iter().map(ours).collect();
            private(json!({ "hits": hits, "next": next, "took_too_long": results.took_too_long, "cut": results.cut }))
        }
        Err(refusal) => refusal,
    }
}

/// What Mastodon's search is asked, as far as it means something here.
#[derive(Debug, Deserialize)]
pub(super) struct MastodonAsked {
    #[serde(default)]
    q: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
    max_id: Option<u64>,
    min_id: Option<u64>,
    account_id: Option<String>,
}

/// `GET /api/v2/search`. Accounts and hashtags are not searched yet: those lists are empty.
pub(super) async fn as_mastodon(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    asked: Result<Query<MastodonAsked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let bad = |why| refuse(StatusCode::BAD_REQUEST, why, None);
    let Ok(Query(asked)) = asked else { return bad("the parameters cannot be read") };
    let (limit, offset) = (asked.limit.unwrap_or(20), asked.offset.unwrap_or(0));
    let (Ok(limit), Ok(offset)) = (usize::try_from(limit), usize::try_from(offset)) else {
        return bad("limit and offset must not be negative");
    };
    if asked.account_id.is_some_and(|id| !id.is_empty()) {
        return bad("account_id means nothing here: write from:name@host into q");
    }
    let nothing = json!({ "accounts": [], "statuses": [], "hashtags": [] });
    if asked.kind.as_deref().is_some_and(|kind| kind != "statuses") {
        return private(nothing);
    }
    // As Mastodon does, offsets are for a list of one kind.
    let offset = if asked.kind.is_some() { offset } else { 0 };
    let wanted = limit.clamp(1, MAX_PAGE);
    let page = Page { below: asked.max_id, above: asked.min_id, limit: wanted.saturating_add(offset) };
    match find(search, &searchers, client.of(&headers), asked.q, page, 0, false).await {
        Ok(results) => {
            let statuses: Vec<Value> = results.hits.iter().skip(offset).take(wanted).map(status_of).collect();
            private(json!({ "accounts": [], "statuses": statuses, "hashtags": [] }))
        }
        Err(refusal) => refusal,
    }
}

/// `GET /api/v1/statuses/:id` of what was found.
pub(super) async fn status(State(search): State<Search>, Path(id): Path<String>) -> Response {
    if !search.is_public() {
        return not_found().await;
    }
    let Ok(number) = id.parse() else { return refuse(StatusCode::NOT_FOUND, "Record not found", None) };
    match tokio::task::spawn_blocking(move || search.post(number)).await {
        Ok(Ok(Some(hit))) => private(status_of(&hit)),
        Ok(Ok(None)) => refuse(StatusCode::NOT_FOUND, "Record not found", None),
        Ok(Err(_)) | Err(_) => internal(),
    }
}

/// Whose standing is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Whose {
    #[serde(default)]
    acct: String,
}

/// `GET /api/v1/search/consent`: how one account stands with the search, and why.
pub(super) async fn consent(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Query(whose): Query<Whose>,
) -> Response {
    if let Err(refusal) = admit(&search, &searchers, client.of(&headers)).await {
        return refusal;
    }
    let standing = tokio::task::spawn_blocking(move || search.standing(&whose.acct));
    let Ok(Ok(standing)) = standing.await else { return internal() };
    let Some(standing) = standing else {
        return refuse(StatusCode::BAD_REQUEST, "acct must be one handle: name@host", None);
    };
    let reasons: Vec<Value> = standing
        .reasons
        .iter()
        .map(|reason| json!({ "reason": reason.as_str(), "meaning": reason.sentence() }))
        .collect();
    let read_at = standing.read_at.map(crate::clock::Timestamp::rfc3339);
    private(json!({ "indexed": standing.indexed, "reasons": reasons, "read_at": read_at, "posts": standing.posts }))
}

/// Whether somebody may search here, and not too often.
async fn admit(search: &Search, searchers: &Searchers, address: Option<IpAddr>) -> Result<(), Response> {
    if !search.is_public() {
        return Err(not_found().await);
    }
    match address.map_or(Ok(()), |address| searchers.rate.check(address)) {
        Ok(()) => Ok(()),
        Err(wait) => Err(refuse(StatusCode::TOO_MANY_REQUESTS, "too many searches from this address", Some(wait))),
    }
}

async fn find(
    search: Search,
    searchers: &Searchers,
    address: Option<IpAddr>,
    text: String,
    page: Page,
    skip: usize,
    sensitive: bool,
) -> Result<Results, Response> {
    admit(&search, searchers, address).await?;
    let busy = Duration::from_secs(1);
    let Ok(place) = searchers.places.clone().try_acquire_owned() else {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "many search just now", Some(busy)));
    };
    let found = tokio::task::spawn_blocking(move || {
        let _place = place;
        search.find(&text, page, skip, sensitive)
    });
    let fault = match found.await {
        Ok(Ok(results)) => return Ok(results),
        Ok(Err(fault)) => fault,
        Err(_fell) => return Err(internal()),
    };
    Err(match fault {
        FindFault::Query(_) | FindFault::Everything | FindFault::NotBrowsable => {
            refuse(StatusCode::BAD_REQUEST, &fault.to_string(), None)
        }
        FindFault::NoIndex => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, &fault.to_string(), Some(Duration::from_secs(60)))
        }
        FindFault::Index(_) | FindFault::Store(_) => {
            tracing::error!(error = %anyhow::Error::from(fault), "a search failed");
            internal()
        }
    })
}

/// A hit in our own words: where it is, what it is about, whose it is, and why it may be shown.
fn ours(hit: &Hit) -> Value {
    let (post, author) = (&hit.post, &hit.author);
    let text: String = post.document.text.chars().take(EXCERPT).collect();
    json!({
        "id": hit.number.to_string(),
        "uri": post.object,
        "url": post.document.url.as_deref().unwrap_or(post.object.as_str()),
        "published": post.published.rfc3339(),
        "language": post.language,
        "title": post.document.title,
        "warning": post.document.warning,
        "text": text,
        "tags": post.document.tags,
        "properties": post.document.props.iter().map(Prop::as_str).collect::<Vec<_>>(),
        "author": { "uri": post.author, "handle": hit.handle(), "name": author.profile.name, "url": author.profile.url },
        "why": { "signal": "indexable", "read_at": author.read_at.rfc3339() },
    })
}

/// A hit as Mastodon's `Status`. What nobody told us (counts, pictures) is empty or nought.
fn status_of(hit: &Hit) -> Value {
    let (post, document) = (&hit.post, &hit.post.document);
    let media: Vec<Value> = document
        .media
        .iter()
        .enumerate()
        .map(|(number, media)| {
            let kind = match media.kind {
                MediaKind::Image => "image",
                MediaKind::Video => "video",
                MediaKind::Audio => "audio",
                MediaKind::File => "unknown",
            };
            json!({ "id": format!("{}-{number}", hit.number), "type": kind, "url": null, "preview_url": null,
                    "remote_url": null, "meta": {}, "description": media.alt, "blurhash": null })
        })
        .collect();
    let tags: Vec<Value> =
        document.tags.iter().map(|tag| json!({ "name": tag, "url": post.author.origin() })).collect();
    json!({
        "id": hit.number.to_string(),
        "created_at": post.published.rfc3339(),
        "edited_at": null,
        "in_reply_to_id": null,
        "in_reply_to_account_id": null,
        "sensitive": document.props.has(Prop::Sensitive),
        "spoiler_text": document.warning,
        "visibility": "public",
        "language": (post.language != "und").then_some(&post.language),
        "uri": post.object,
        "url": document.url.as_deref().unwrap_or(post.object.as_str()),
        "replies_count": 0,
        "reblogs_count": 0,
        "favourites_count": 0,
        "content": paragraphs(&document.text),
        "reblog": null,
        "account": account_of(hit),
        "media_attachments": media,
        "mentions": [],
        "tags": tags,
        "emojis": [],
        "card": null,
        "poll": null,
        "application": null,
    })
}

fn account_of(hit: &Hit) -> Value {
    let profile = &hit.author.profile;
    let name = if profile.name.is_empty() { &profile.username } else { &profile.name };
    json!({
        "id": hit.author.number.to_string(),
        "username": profile.username,
        "acct": hit.handle(),
        "display_name": name,
        "locked": hit.author.signals.locked,
        "bot": hit.author.signals.bot,
        "discoverable": hit.author.signals.discoverable.is_yes(),
        "indexable": true,
        "group": false,
        "created_at": "1970-01-01T00:00:00.000Z",
        "note": paragraphs(&profile.summary),
        "uri": hit.post.author,
        "url": profile.url,
        "avatar": "",
        "avatar_static": "",
        "header": "",
        "header_static": "",
        "followers_count": 0,
        "following_count": 0,
        "statuses_count": 0,
        "last_status_at": null,
        "emojis": [],
        "fields": [],
    })
}

/// A plain text as HTML: nothing of it is markup.
fn paragraphs(text: &str) -> String {
    text.lines().map(|line| format!("<p>{}</p>", html_escape::encode_text(line))).collect()
}

fn private(body: Value) -> Response {
    let mut response = axum::Json(body).into_response();
    keep_private(response.headers_mut());
    response
}

fn refuse(status: StatusCode, why: &str, wait: Option<Duration>) -> Response {
    let mut response = (status, axum::Json(json!({ "error": why }))).into_response();
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    keep_private(response.headers_mut());
    response
}

/// Results are for who asked: not for caches, not for other search engines, and no page learns where they led from.
fn keep_private(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (HeaderName::from_static("x-robots-tag"), "noindex, noarchive, nosnippet"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

//! Mastodon's `GET /api/v2/search` and `GET /api/v1/statuses/:id`, for programs that know one. What they know and what
//! means nothing here is passed over: `resolve`, because nothing is fetched for who asks, and `following`, because nobody
//! here follows anybody.

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::own::{refusal, within};
use super::query::{MAX_PAGE, MastodonAsked, MastodonKind, PAGE, read};
use crate::http::answer::{NotLetIn, NotNow, Refusal, TooOften, bad, failed, refuse, with_links};
use crate::http::door::Whom;
use crate::http::entities::{Found, Status, Tag};
use crate::http::state::Searchers;
use crate::identity::Identity;
use crate::search::Search;
use crate::search::find::FindFault;
use crate::search::index::{MAX_RESULTS, Page};

/// Search as on a Mastodon server.
///
/// The same as `/api/v1/search` in the shapes of Mastodon's API, where `type` is `statuses`, `accounts` or `hashtags`.
/// Without it, all three, and then a query that means nothing to one of them finds nothing there.
#[utoipa::path(
    get,
    path = "/api/v2/search",
    tag = "mastodon",
    operation_id = "search_as_mastodon",
    params(MastodonAsked),
    responses(
        (status = 200, description = "What was found. `Link` has the pages before and after, where one kind was asked for.", body = Found),
        (status = 400, description = "The query or a parameter cannot be read, or asks for too much.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(super) async fn search(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    State(identity): State<Identity>,
    Extension(whom): Extension<Whom>,
    asked: Result<Parameters<MastodonAsked>, QueryRejection>,
) -> Response {
    let asked = match read(asked) {
        Ok(asked) if asked.account_id.as_ref().is_none_or(String::is_empty) => asked,
        Ok(_) => return bad("account_id means nothing here: write from:name@host into q"),
        Err(wrong) => return bad(wrong),
    };
    let origin = identity.ids.origin.clone();
    let base = format!("{origin}/api/v2/search");
    let found = match within(&searchers, move || look(&search, &origin, &asked).map(|found| (found, asked))).await {
        Ok(Ok(found)) => found,
        Ok(Err(fault)) => return refusal(fault),
        Err(refusal) => return refusal,
    };
    let (found, asked) = found;
    if let Some(refusal) = whom.show(&searchers, found.statuses.len() + found.accounts.len()) {
        return refusal;
    }
    let pages = pages(&asked, &found);
    with_links(axum::Json(found).into_response(), &base, &pages)
}

fn look(search: &Search, origin: &str, asked: &MastodonAsked) -> Result<Found, FindFault> {
    let (limit, offset) = window(asked);
    let mut found = Found::default();
    if asked.kind.is_none_or(|kind| kind == MastodonKind::Statuses) {
        let page = Page { below: asked.max_id, above: asked.min_id, limit: limit.saturating_add(offset) };
        match search.find(&asked.q, page, 0, false) {
            Ok(results) => {
                found.statuses =
                    results.hits.iter().skip(offset).take(limit).map(|hit| Status::of(hit, origin)).collect();
            }
            // As on Mastodon, the end of the results is an empty page.
            Err(FindFault::TooDeep) => {}
            // It may be somebody's handle.
            Err(FindFault::Everything) if asked.kind.is_none() => {}
            Err(fault) => return Err(fault),
        }
    }
    if asked.kind.is_none_or(|kind| kind == MastodonKind::Accounts) {
        let people = nothing_if_it_says_nothing(search.people(&asked.q, offset, limit))?;
        found.accounts = people.iter().map(Into::into).collect();
    }
    if asked.kind.is_none_or(|kind| kind == MastodonKind::Hashtags) {
        let tags = nothing_if_it_says_nothing(search.hashtags(&asked.q, offset, limit))?;
        found.hashtags = tags.iter().map(|tag| Tag::of(tag, origin)).collect();
    }
    Ok(found)
}

/// What is no name, or no tag, is none that anybody has.
fn nothing_if_it_says_nothing<T>(found: Result<Vec<T>, FindFault>) -> Result<Vec<T>, FindFault> {
    match found {
        Err(FindFault::Everything) => Ok(Vec::new()),
        found => found,
    }
}

/// How many, and how many are passed over: as on Mastodon, offsets are for a list of one kind.
fn window(asked: &MastodonAsked) -> (usize, usize) {
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    (limit, if asked.kind.is_some() { asked.offset.unwrap_or(0) } else { 0 })
}

/// The pages before and after, by the parameters that lead there.
fn pages(asked: &MastodonAsked, found: &Found) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let Some(kind) = asked.kind else { return Vec::new() };
    let (limit, offset) = window(asked);
    let to = |offset: usize| {
        let mut parameters = vec![("q", asked.q.clone()), ("type", kind.as_str().to_owned())];
        parameters.push(("limit", limit.to_string()));
        for (name, id) in [("max_id", asked.max_id), ("min_id", asked.min_id)] {
            parameters.extend(id.map(|id| (name, id.to_string())));
        }
        parameters.push(("offset", offset.to_string()));
        parameters
    };
    let count = found.accounts.len() + found.statuses.len() + found.hashtags.len();
    let mut pages = Vec::new();
    if count == limit && offset + limit < MAX_RESULTS {
        pages.push(("next", to(offset + limit)));
    }
    if offset > 0 {
        pages.push(("prev", to(offset.saturating_sub(limit))));
    }
    pages
}

/// Read one post that was found.
///
/// By the id that it has here.
#[utoipa::path(
    get,
    path = "/api/v1/statuses/{id}",
    tag = "mastodon",
    operation_id = "status",
    params(("id" = String, Path, description = "The post's id here.", min_length = 1)),
    responses(
        (status = 200, description = "The post.", body = Status),
        NotLetIn,
        (status = 404, description = "There is no such post that may be shown.", body = Refusal),
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(super) async fn status(
    State(search): State<Search>,
    State(searchers): State<Searchers>,
    State(identity): State<Identity>,
    Extension(whom): Extension<Whom>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    // Ids can be guessed: a guess costs as much as a find.
    if let Some(refusal) = whom.show(&searchers, 1) {
        return refusal;
    }
    let missing = || refuse(StatusCode::NOT_FOUND, "Record not found", "");
    let Some(number) = id.ok().and_then(|Path(id)| id.parse().ok()) else { return missing() };
    match tokio::task::spawn_blocking(move || search.post(number)).await {
        Ok(Ok(Some(hit))) => axum::Json(Status::of(&hit, &identity.ids.origin)).into_response(),
        Ok(Ok(None)) => missing(),
        Ok(Err(fault)) => refusal(fault.into()),
        Err(_fell) => failed(),
    }
}

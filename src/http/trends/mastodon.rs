//! Mastodon's `GET /api/v1/trends/tags`, `/statuses` and `/links` (documentation of July 2026), and the path that the first
//! of them had before.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::own::{may_show, posts, ready};
use super::query::{LINKS, STATUSES, TAGS, Wanted};
use crate::config::Config;
use crate::http::answer::{NotLetIn, NotNow, Refusal, TooOften, bad, with_links};
use crate::http::door::Whom;
use crate::http::entities::{Link, Status, Tag};
use crate::http::state::Searchers;
use crate::identity::Identity;
use crate::search::Search;
use crate::store::Subject;
use crate::trends::Trends;
use crate::trends::lists::{Asked as Which, List};

type Asked = Result<Parameters<Wanted>, QueryRejection>;

/// Hashtags that trend.
///
/// The first one first, with the last seven days of each, today first.
#[utoipa::path(
    get,
    path = "/api/v1/trends/tags",
    tag = "trends",
    operation_id = "trending_tags",
    params(Wanted),
    responses(
        (status = 200, description = "A page of them. `Link` has those before and after.", body = Vec<Tag>),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn tags(trends: State<Trends>, identity: State<Identity>, asked: Asked) -> Response {
    page_of_tags(trends.0, &identity.0, asked, "/api/v1/trends/tags").await
}

/// Hashtags that trend, by the older path.
#[utoipa::path(
    get,
    path = "/api/v1/trends",
    tag = "trends",
    operation_id = "trending_tags_as_before",
    params(Wanted),
    responses(
        (status = 200, description = "As `/api/v1/trends/tags`.", body = Vec<Tag>),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn tags_as_before(
    trends: State<Trends>,
    identity: State<Identity>,
    asked: Asked,
) -> Response {
    page_of_tags(trends.0, &identity.0, asked, "/api/v1/trends").await
}

async fn page_of_tags(trends: Trends, identity: &Identity, asked: Asked, path: &str) -> Response {
    let origin = &identity.ids.origin;
    page(trends, asked, (Subject::Tag, TAGS), &format!("{origin}{path}"), |list, which, offset, limit| {
        let tags = list.entries.iter().skip(offset).take(limit);
        tags.map(|one| Tag::trending(&one.key, &one.name, &one.history, origin, which)).collect::<Vec<_>>()
    })
    .await
}

/// Links that trend.
///
/// Nothing is fetched from them: a title is not known here. What they are worth halves every eight hours.
#[utoipa::path(
    get,
    path = "/api/v1/trends/links",
    tag = "trends",
    operation_id = "trending_links",
    params(Wanted),
    responses(
        (status = 200, description = "A page of them. `Link` has those before and after.", body = Vec<Link>),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn links(
    State(trends): State<Trends>,
    State(identity): State<Identity>,
    asked: Asked,
) -> Response {
    let base = format!("{}/api/v1/trends/links", identity.ids.origin);
    page(trends, asked, (Subject::Link, LINKS), &base, |list, _which, offset, limit| {
        let links = list.entries.iter().skip(offset).take(limit);
        links.map(|one| Link::trending(&one.key, &one.history)).collect::<Vec<_>>()
    })
    .await
}

async fn page<T: Serialize>(
    trends: Trends,
    asked: Asked,
    (subject, usual): (Subject, usize),
    base: &str,
    show: impl FnOnce(&List, &Which, usize, usize) -> Vec<T>,
) -> Response {
    let wanted = match asked {
        Ok(Parameters(wanted)) => wanted,
        Err(rejection) => return bad(rejection.body_text()),
    };
    let which = wanted.list(subject);
    match ready(trends, which.clone()).await {
        Ok(list) => {
            let (offset, limit) = (wanted.offset(), wanted.limit(usual));
            let pages = wanted.pages(limit, list.entries.len());
            with_links(axum::Json(show(&list, &which, offset, limit)).into_response(), base, &pages)
        }
        Err(fault) => fault,
    }
}

/// Posts that trend.
///
/// By distinct people whose boosts came here. Shown are those that the search may show, to whom it may show them; what
/// they are worth halves every two hours. `language` is that of the post.
#[utoipa::path(
    get,
    path = "/api/v1/trends/statuses",
    tag = "trends",
    operation_id = "trending_statuses",
    params(Wanted),
    responses(
        (status = 200, description = "A page of them. `Link` has those before and after.", body = Vec<Status>),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn statuses(
    State(trends): State<Trends>,
    State(search): State<Search>,
    State(config): State<Arc<Config>>,
    State(identity): State<Identity>,
    State(searchers): State<Searchers>,
    Extension(whom): Extension<Whom>,
    asked: Asked,
) -> Response {
    let wanted = match asked {
        Ok(Parameters(wanted)) => wanted,
        Err(rejection) => return bad(rejection.body_text()),
    };
    let (offset, limit) = (wanted.offset(), wanted.limit(STATUSES));
    // One more than the page has says whether there is a next one.
    let most = if may_show(&config) { offset.saturating_add(limit).saturating_add(1) } else { 0 };
    let (_list, found) = match posts(trends, search, &wanted, most).await {
        Ok(found) => found,
        Err(fault) => return fault,
    };
    let origin = &identity.ids.origin;
    let pages = wanted.pages(limit, found.len());
    let page: Vec<Status> = found.iter().skip(offset).take(limit).map(|hit| Status::of(hit, origin)).collect();
    if let Some(refusal) = whom.show(&searchers, page.len()) {
        return refusal;
    }
    with_links(axum::Json(page).into_response(), &format!("{origin}/api/v1/trends/statuses"), &pages)
}

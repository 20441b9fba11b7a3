//! Mastodon's `GET /api/v1/trends/tags`, `/statuses` and `/links` (documentation of July 2026), and the path that the first
//! of them had before.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::own::{may_show, ready};
use super::query::Wanted;
use crate::config::Config;
use crate::http::answer::{NotLetIn, NotNow, Refusal, TooOften, bad, failed, with_links};
use crate::http::door::Whom;
use crate::http::entities::{Link, Status, Tag};
use crate::http::state::Searchers;
use crate::identity::Identity;
use crate::ids::Iri;
use crate::search::Search;
use crate::store::{Store, Subject};
use crate::trends::Trends;
use crate::trends::assess::Window;
use crate::trends::lists::List;

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
    page(trends, asked, Subject::Tag, Window::Six, &format!("{origin}{path}"), |list, offset, limit| {
        let tags = list.entries.iter().skip(offset).take(limit);
        tags.map(|one| Tag::trending(&one.name, &one.history, origin)).collect::<Vec<_>>()
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
    page(trends, asked, Subject::Link, Window::Day, &base, |list, offset, limit| {
        let links = list.entries.iter().skip(offset).take(limit);
        links.map(|one| Link::trending(&one.key, &one.history)).collect::<Vec<_>>()
    })
    .await
}

async fn page<T: Serialize>(
    trends: Trends,
    asked: Asked,
    subject: Subject,
    window: Window,
    base: &str,
    show: impl FnOnce(&List, usize, usize) -> Vec<T>,
) -> Response {
    let wanted = match asked {
        Ok(Parameters(wanted)) => wanted,
        Err(rejection) => return bad(rejection.body_text()),
    };
    match ready(trends, wanted.list(subject, window)).await {
        Ok(list) => {
            let (offset, limit) = (wanted.offset(), wanted.limit());
            let pages = wanted.pages(limit, list.entries.len());
            with_links(axum::Json(show(&list, offset, limit)).into_response(), base, &pages)
        }
        Err(fault) => fault,
    }
}

/// Posts that trend.
///
/// By distinct people whose boosts came here. Shown are those that the search may show, to whom it may show them; what
/// they are worth halves every two hours.
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
#[expect(clippy::too_many_arguments, reason = "each is a service or a part of the request")]
pub(in crate::http) async fn statuses(
    State(trends): State<Trends>,
    State(search): State<Search>,
    State(store): State<Store>,
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
    let list = match ready(trends, wanted.list(Subject::Post, Window::Day)).await {
        Ok(list) => list,
        Err(fault) => return fault,
    };
    let (origin, limit) = (identity.ids.origin.clone(), wanted.limit());
    let base = format!("{origin}/api/v1/trends/statuses");
    let shown = may_show(&config);
    // The right to show each is asked now, and pages are made of what may be shown.
    let find = move || {
        let posts = list.entries.iter().filter(|_| shown).filter_map(|one| {
            let number = store.indexed_number(&Iri::parse(&one.key).ok()?).ok()??;
            search.post(number).ok().flatten()
        });
        posts.map(|hit| Status::of(&hit, &origin)).collect::<Vec<_>>()
    };
    let Ok(mut posts) = tokio::task::spawn_blocking(find).await else { return failed() };
    let pages = wanted.pages(limit, posts.len());
    let page: Vec<Status> = posts.drain(..).skip(wanted.offset()).take(limit).collect();
    if let Some(refusal) = whom.show(&searchers, page.len()) {
        return refusal;
    }
    with_links(axum::Json(page).into_response(), &base, &pages)
}

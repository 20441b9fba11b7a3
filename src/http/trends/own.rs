//! Trends in our own words: a list with its numbers, one thing with every number that its place comes from, and a feed.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::query::{Questioned, Wanted};
use super::shapes::{Explanation, TrendList, sentence};
use crate::config::{Access, Config};
use crate::http::answer::{NotLetIn, NotNow, Refusal, TooOften, bad, failed, refuse_for, with_links};
use crate::http::entities::explain_url;
use crate::identity::Identity;
use crate::ids::Authority;
use crate::search::Search;
use crate::search::index::Page;
use crate::store::Subject;
use crate::trends::assess::Window;
use crate::trends::lists::{Asked, List};
use crate::trends::rules::{link_key, tag};
use crate::trends::{REFRESH, Trends, TrendsFault};

/// Posts that are named as examples.
const EXAMPLES: usize = 3;

/// The list, made if it is not there.
pub(super) async fn ready(trends: Trends, asked: Asked) -> Result<Arc<List>, Response> {
    if let Some(list) = trends.ready(&asked) {
        return Ok(list);
    }
    match tokio::task::spawn_blocking(move || trends.list(&asked)).await {
        Ok(made) => made.map_err(|fault| refusal(&fault)),
        Err(_fell) => Err(failed()),
    }
}

/// Why there is no answer, as one.
pub(super) fn refusal(fault: &TrendsFault) -> Response {
    match fault {
        TrendsFault::Counting => {
            let remedy = "Try again in a moment.";
            refuse_for(StatusCode::SERVICE_UNAVAILABLE, fault.to_string(), remedy, REFRESH / 5)
        }
        TrendsFault::Store(error) => {
            tracing::error!(%error, "trends could not be read");
            failed()
        }
    }
}

/// Whether whoever may ask for trends may be shown posts as well.
pub(super) fn may_show(config: &Config) -> bool {
    config.search.is_on() && (config.search.api == Access::Public || config.search.api == config.trends.api)
}

/// Hashtags that trend, with their numbers.
///
/// Also how many trend and are not shown, and why.
#[utoipa::path(
    get,
    path = "/api/v1/trends/list",
    tag = "trends",
    operation_id = "trends_list",
    params(Wanted),
    responses(
        (status = 200, description = "The list. `Link` has the pages before and after.", body = TrendList),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn list(
    State(trends): State<Trends>,
    State(identity): State<Identity>,
    asked: Result<Parameters<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match asked {
        Ok(Parameters(wanted)) => wanted,
        Err(rejection) => return bad(rejection.body_text()),
    };
    match ready(trends, wanted.list(Subject::Tag, Window::Six)).await {
        Ok(list) => {
            let limit = wanted.own_limit();
            let shown = TrendList::of(&list, wanted.offset(), limit);
            let pages = wanted.pages(limit, list.entries.len());
            let base = format!("{}/api/v1/trends/list", identity.ids.origin);
            with_links(axum::Json(shown).into_response(), &base, &pages)
        }
        Err(fault) => fault,
    }
}

/// Why something trends, or does not.
///
/// Every number that its score is made of, so that anybody can compute it again: `docs/recompute_trends.py` does.
#[utoipa::path(
    get,
    path = "/api/v1/trends/explain",
    tag = "trends",
    operation_id = "explain_trend",
    params(Questioned),
    responses(
        (status = 200, description = "All numbers.", body = Explanation),
        (status = 400, description = "A parameter cannot be read, or it is no hashtag or link that counts.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn explain(
    State(trends): State<Trends>,
    State(search): State<Search>,
    State(config): State<Arc<Config>>,
    asked: Result<Parameters<Questioned>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Parameters(asked)) => asked,
        Err(rejection) => return bad(rejection.body_text()),
    };
    let (subject, key) = match subject(&asked) {
        Ok(subject) => subject,
        Err(wrong) => return bad(wrong),
    };
    let shown = subject == Subject::Tag && may_show(&config);
    let explain = move || {
        let window = asked.within.unwrap_or_default();
        let found = trends.explain(subject, &key, window, asked.language.as_deref())?;
        let page = Page { limit: EXAMPLES, ..Page::default() };
        // Where the search has no answer just now there is no example.
        let hits = if shown { search.find(&format!("#{key}"), page, 0, false).ok() } else { None };
        let examples = hits.map(|results| results.hits.iter().map(|hit| hit.post.object.to_string()).collect());
        Ok(Explanation::of(&found, examples.unwrap_or_default()))
    };
    match tokio::task::spawn_blocking(explain).await {
        Ok(Ok(explanation)) => axum::Json(explanation).into_response(),
        Ok(Err(fault)) => refusal(&fault),
        Err(_fell) => failed(),
    }
}

/// What is asked about: one thing.
fn subject(asked: &Questioned) -> Result<(Subject, String), &'static str> {
    match (&asked.tag, &asked.link) {
        (Some(text), None) => {
            let key = tag(text).map_err(|_fault| "this is no hashtag that counts (docs/TRENDS.md says which do)")?;
            Ok((Subject::Tag, key))
        }
        (None, Some(link)) => {
            let nobody = Authority::parse("nobody.invalid").map_err(|_fault| "this is no link that counts")?;
            let key = link_key(link, &nobody).ok_or("this is no link that counts")?;
            Ok((Subject::Link, key))
        }
        _ => Err("say what: tag=… or link=…, one of them"),
    }
}

#[derive(Template)]
#[template(path = "trends.xml")]
struct Feed {
    title: String,
    home: String,
    this: String,
    about: String,
    at: String,
    items: Vec<Item>,
}

struct Item {
    title: String,
    link: String,
    about: String,
}

/// Hashtags that trend, as a feed.
///
/// RSS 2.0; each entry says why it is there.
#[utoipa::path(
    get,
    path = "/api/v1/trends/tags.rss",
    tag = "trends",
    operation_id = "trends_feed",
    params(Wanted),
    responses(
        (status = 200, description = "The feed.", body = String, content_type = "application/rss+xml"),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
pub(in crate::http) async fn feed(
    State(trends): State<Trends>,
    State(config): State<Arc<Config>>,
    State(identity): State<Identity>,
    asked: Result<Parameters<Wanted>, QueryRejection>,
) -> Response {
    let wanted = match asked {
        Ok(Parameters(wanted)) => wanted,
        Err(rejection) => return bad(rejection.body_text()),
    };
    let list = match ready(trends, wanted.list(Subject::Tag, Window::Six)).await {
        Ok(list) => list,
        Err(fault) => return fault,
    };
    let (origin, host) = (&identity.ids.origin, identity.ids.host());
    let name = if config.site.name.is_empty() { format!("Relay at {host}") } else { config.site.name.clone() };
    let shown = list.entries.iter().skip(wanted.offset()).take(wanted.own_limit());
    let feed = Feed {
        title: format!("What people talk about: {name}"),
        home: format!("{origin}/"),
        this: format!("{origin}/api/v1/trends/tags.rss"),
        about: "Hashtags that more people on more servers speak of than usual.".to_owned(),
        at: list.at.http_date(),
        items: shown
            .map(|one| Item {
                title: format!("#{}", one.name),
                link: explain_url(origin, &one.name),
                about: sentence(one.people, one.servers, list.within, one.usual),
            })
            .collect(),
    };
    match feed.render() {
        Ok(xml) => ([(header::CONTENT_TYPE, "application/rss+xml; charset=utf-8")], xml).into_response(),
        Err(error) => {
            tracing::error!(%error, "a feed could not be made");
            failed()
        }
    }
}

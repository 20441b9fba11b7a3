//! Trends in our own words: a list with its numbers, and one thing with every number that its place comes from.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::query::{OfKind, Questioned, Wanted, usual_window};
use super::shapes::{Explanation, TrendList};
use crate::config::{Access, Config};
use crate::http::answer::{NotLetIn, NotNow, OnlyNow, Refusal, TooOften, bad, failed, refuse_for, with_links};
use crate::http::door::Whom;
use crate::http::state::Searchers;
use crate::identity::Identity;
use crate::ids::{Authority, Iri};
use crate::search::Search;
use crate::search::find::Hit;
use crate::search::index::Page;
use crate::store::{StoreError, Subject};
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

/// The list of posts, and those `most` of it at most that the search may show just now, in the language that was asked for.
/// That a post's page is hidden is asked here as well: rulings may name it.
pub(super) async fn posts(
    trends: Trends,
    search: Search,
    wanted: &Wanted,
    most: usize,
) -> Result<(Arc<List>, Vec<Hit>), Response> {
    // A boost has no language; the post has one.
    let asked = Asked { language: None, ..wanted.list(Subject::Post) };
    let list = ready(trends.clone(), asked).await?;
    if most == 0 {
        return Ok((list, Vec::new()));
    }
    let (kept, language) = (list.clone(), wanted.language().map(str::to_owned));
    let find = move || {
        let (rulings, now) = (trends.rulings(), trends.now());
        let ids = list.entries.iter().filter_map(|one| Iri::parse(&one.key).ok());
        search.posts(ids, most, |hit| {
            let page = hit.post.document.url.as_deref();
            let is_hidden =
                page.is_some_and(|page| rulings.of(Subject::Post, page, now).is_some_and(|said| said.hidden));
            !is_hidden && language.as_deref().is_none_or(|language| hit.post.language == language)
        })
    };
    match tokio::task::spawn_blocking(find).await {
        Ok(Ok(found)) => Ok((kept, found)),
        Ok(Err(StoreError::Busy)) => Err(refusal(&TrendsFault::Counting)),
        Ok(Err(error)) => Err(refusal(&error.into())),
        Err(_fell) => Err(failed()),
    }
}

/// Whether whoever may ask for trends may be shown posts as well.
pub(super) fn may_show(config: &Config) -> bool {
    config.search.is_on() && (config.search.api == Access::Public || config.search.api == config.trends.api)
}

/// What trends, with its numbers.
///
/// Also how many more trend and are not shown, and why.
#[utoipa::path(
    get,
    path = "/api/v1/trends/list",
    tag = "trends",
    operation_id = "trends_list",
    params(OfKind, Wanted),
    responses(
        (status = 200, description = "The list. `Link` has the pages before and after.", body = TrendList),
        (status = 400, description = "A parameter cannot be read.", body = Refusal),
        NotLetIn,
        TooOften,
        NotNow,
    ),
    security((), ("token" = []), ("signature" = []))
)]
#[expect(clippy::too_many_arguments, reason = "each is a service or a part of the request")]
pub(in crate::http) async fn list(
    State(trends): State<Trends>,
    State(search): State<Search>,
    State(config): State<Arc<Config>>,
    State(identity): State<Identity>,
    State(searchers): State<Searchers>,
    Extension(whom): Extension<Whom>,
    kind: Result<Parameters<OfKind>, QueryRejection>,
    asked: Result<Parameters<Wanted>, QueryRejection>,
) -> Response {
    let (subject, wanted) = match (kind, asked) {
        (Ok(Parameters(kind)), Ok(Parameters(wanted))) => (kind.subject(), wanted),
        (Err(rejection), _) | (_, Err(rejection)) => return bad(rejection.body_text()),
    };
    let base = format!("{}/api/v1/trends/list", identity.ids.origin);
    let (offset, limit) = (wanted.offset(), wanted.own_limit());
    let hidden = trends.rulings().hidden(subject, trends.now());
    let (shown, mut pages) = if subject == Subject::Post {
        let most = if may_show(&config) { offset.saturating_add(limit).saturating_add(1) } else { 0 };
        let (list, found) = match posts(trends, search, &wanted, most).await {
            Ok(found) => found,
            Err(fault) => return fault,
        };
        let on_page: Vec<&str> = found.iter().skip(offset).take(limit).map(|hit| hit.post.object.as_str()).collect();
        if let Some(refusal) = whom.show(&searchers, on_page.len()) {
            return refusal;
        }
        let entries = list.entries.iter().filter(|one| on_page.contains(&one.key.as_str()));
        (TrendList::of(&list, subject, wanted.language(), entries, hidden), wanted.pages(limit, found.len()))
    } else {
        let list = match ready(trends, wanted.list(subject)).await {
            Ok(list) => list,
            Err(fault) => return fault,
        };
        let entries = list.entries.iter().skip(offset).take(limit);
        let shown = TrendList::of(&list, subject, wanted.language(), entries, hidden);
        (shown.of_all(list.entries.len()), wanted.pages(limit, list.entries.len()))
    };
    if subject != Subject::Tag {
        pages.iter_mut().for_each(|(_, parameters)| parameters.insert(0, ("kind", subject.as_str().to_owned())));
    }
    let mut response = with_links(axum::Json(shown).into_response(), &base, &pages);
    if subject == Subject::Post {
        response.extensions_mut().insert(OnlyNow);
    }
    response
}

/// Why something trends, or does not.
///
/// Every number that its score is made of, so that anybody can compute it again: `docs/recompute_trends.py` does. Of what
/// fewer than five people speak of, or people on fewer than three servers, there is no number: they would be numbers about
/// somebody.
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
    let may_show = subject == Subject::Tag && may_show(&config);
    let explain = move || {
        let window = asked.within.unwrap_or(usual_window(subject));
        let which = Asked { subject, window, language: asked.language };
        let as_listed = asked.at.as_deref().and_then(|at| trends.explain_as_listed(&which, &key, at));
        let found = match as_listed {
            Some(found) => found,
            None => trends.explain(subject, &key, window, which.language.as_deref())?,
        };
        let page = Page { limit: EXAMPLES, ..Page::default() };
        // Where the search has no answer just now there is no example; of what is not shown, neither.
        let examples = may_show && found.is_told() && found.withheld.is_none();
        let hits = if examples { search.find(&format!("#{key}"), page, 0, false).ok() } else { None };
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

//! `GET /api/v1/search`, our own, and `GET /api/v1/search/consent`: how one account stands.

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::query::{Asked, Kind, PAGE, Whose, read};
use super::shapes::{Answer, ShownAccount, ShownHit, ShownStanding};
use crate::http::answer::{NotLetIn, NotNow, Refusal, TooOften, bad, failed, refuse, refuse_for, with_links};
use crate::http::door::Whom;
use crate::http::state::Searchers;
use crate::identity::Identity;
use crate::search::Search;
use crate::search::find::FindFault;
use crate::search::index::Page;
use crate::search::people::MAX_PEOPLE;
use crate::search::query::{Query, Sort};
use crate::store::StoreError;

/// Search posts, accounts or hashtags.
///
/// Posts are those whose authors' profiles say `indexable`, on servers whose admins switched search on; accounts those that
/// say `discoverable`, and of whom such posts are held; hashtags those of such posts. Not answered: queries for everything
/// or for all that somebody wrote who does not want to be browsed. At most 400 posts deep, 80 accounts.
#[utoipa::path(
    get,
    path = "/api/v1/search",
    tag = "search",
    operation_id = "search",
    params(Asked),
    responses(
        (status = 200, description = "What was found. `Link` has the pages before and after.", body = Answer),
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
    asked: Result<Parameters<Asked>, QueryRejection>,
) -> Response {
    let asked = match read(asked) {
        Ok(asked) => asked,
        Err(wrong) => return bad(wrong),
    };
    let base = format!("{}/api/v1/search", identity.ids.origin);
    let found = match within(&searchers, move || answer(&search, &asked).map(|answer| (answer, asked))).await {
        Ok(Ok(found)) => found,
        Ok(Err(fault)) => return refusal(fault),
        Err(refusal) => return refusal,
    };
    let (answer, asked) = found;
    if let Some(refusal) = whom.show(&searchers, answer.hits.len() + answer.accounts.len()) {
        return refusal;
    }
    let pages = pages(&asked, &answer);
    with_links(axum::Json(answer).into_response(), &base, &pages)
}

fn answer(search: &Search, asked: &Asked) -> Result<Answer, FindFault> {
    let (limit, skip) = (asked.limit.unwrap_or(PAGE), asked.skip.unwrap_or(0));
    let next_skip = |found: usize, most: usize| Some(skip + found).filter(|next| found == limit && *next < most);
    match asked.kind {
        Kind::Posts => posts(search, asked, limit, skip),
        Kind::Accounts => {
            let people = search.people(&asked.q, skip, limit)?;
            let accounts: Vec<_> = people.iter().map(|person| ShownAccount::of(search, person)).collect();
            Ok(Answer { next_skip: next_skip(accounts.len(), MAX_PEOPLE), accounts, ..Answer::default() })
        }
        Kind::Hashtags => {
            let tags = search.hashtags(&asked.q, skip, limit)?;
            let hashtags: Vec<_> = tags.into_iter().map(Into::into).collect();
            let most = crate::search::index::MAX_RESULTS;
            Ok(Answer { next_skip: next_skip(hashtags.len(), most), hashtags, ..Answer::default() })
        }
    }
}

fn posts(search: &Search, asked: &Asked, limit: usize, skip: usize) -> Result<Answer, FindFault> {
    let query = Query::read(&asked.q)?;
    let page = Page { below: asked.below, above: asked.above, limit };
    let results = search.find(&asked.q, page, skip, asked.sensitive)?;
    let facets = if asked.facets { Some(search.facets(&asked.q, asked.sensitive)?.into()) } else { None };
    let hits: Vec<ShownHit> = results.hits.iter().map(|hit| ShownHit::of(search, hit, &query)).collect();
    let last = results.hits.last().filter(|_| results.more).map(|hit| hit.number.to_string());
    let (next, next_skip) = match query.sort {
        Sort::Newest => (last, None),
        Sort::Relevance => (None, last.map(|_| skip + hits.len())),
    };
    let (took_too_long, cut) = (results.took_too_long, results.cut);
    Ok(Answer { hits, next, next_skip, facets, took_too_long, cut, ..Answer::default() })
}

/// The pages before and after, by the parameters that lead there.
fn pages(asked: &Asked, answer: &Answer) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let limit = asked.limit.unwrap_or(PAGE);
    let to = |name: &'static str, value: String| {
        let mut parameters = vec![("q", asked.q.clone()), ("kind", asked.kind.as_str().to_owned())];
        parameters.push(("limit", limit.to_string()));
        if asked.sensitive {
            parameters.push(("sensitive", "true".to_owned()));
        }
        parameters.push((name, value));
        parameters
    };
    let mut pages = Vec::new();
    if let Some(next) = &answer.next {
        pages.push(("next", to("below", next.clone())));
    } else if let Some(next) = answer.next_skip {
        pages.push(("next", to("skip", next.to_string())));
    }
    let skip = asked.skip.unwrap_or(0);
    if (asked.below.is_some() || asked.above.is_some())
        && let Some(first) = answer.hits.first()
    {
        pages.push(("prev", to("above", first.id().to_owned())));
    } else if skip > 0 {
        pages.push(("prev", to("skip", skip.saturating_sub(limit).to_string())));
    }
    pages
}

/// Ask how an account stands.
///
/// For exactly one handle or account's address: whether its posts may be found, everything that stands against it, when its
/// profile was last read, and how many posts are held. For everybody, whoever may search. Asks nobody.
#[utoipa::path(
    get,
    path = "/api/v1/search/consent",
    tag = "search",
    operation_id = "consent",
    params(Whose),
    responses(
        (status = 200, description = "How it stands.", body = ShownStanding),
        (status = 400, description = "That is no handle and no address.", body = Refusal),
        TooOften,
        (status = 500, description = "The relay failed.", body = Refusal),
    )
)]
pub(super) async fn consent(
    State(search): State<Search>,
    whose: Result<Parameters<Whose>, QueryRejection>,
) -> Response {
    let whose = match read(whose) {
        Ok(whose) => whose,
        Err(wrong) => return bad(wrong),
    };
    match tokio::task::spawn_blocking(move || search.standing(&whose.acct)).await {
        Ok(Ok(Some(standing))) => axum::Json(ShownStanding::from(standing)).into_response(),
        Ok(Ok(None)) => {
            bad("acct must be one handle, name@host, or the address of the account's own document, https://...")
        }
        Ok(Err(_)) | Err(_) => failed(),
    }
}

/// Does a search on a thread of its own, of which there are so many at once.
pub(super) async fn within<T: Send + 'static>(
    searchers: &Searchers,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    let Ok(place) = searchers.places.clone().try_acquire_owned() else {
        let wait = std::time::Duration::from_secs(1);
        return Err(refuse_for(
            StatusCode::SERVICE_UNAVAILABLE,
            "many search just now",
            "Try again in a moment.",
            wait,
        ));
    };
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        job()
    });
    done.await.map_err(|_fell| failed())
}

/// Why a search has no answer, as one.
pub(super) fn refusal(fault: FindFault) -> Response {
    match fault {
        FindFault::Query(_) | FindFault::Everything | FindFault::NotBrowsable | FindFault::TooDeep => {
            refuse(StatusCode::BAD_REQUEST, fault.to_string(), "")
        }
        FindFault::NoIndex | FindFault::Store(StoreError::Busy) => {
            let wait = std::time::Duration::from_secs(60);
            refuse_for(StatusCode::SERVICE_UNAVAILABLE, fault.to_string(), "Try again in a minute.", wait)
        }
        FindFault::Index(_) | FindFault::Store(_) => {
            tracing::error!(error = %anyhow::Error::from(fault), "a search failed");
            failed()
        }
    }
}

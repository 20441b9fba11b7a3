//! Hashtags that trend as a feed (RSS 2.0). Whoever follows it is told of a hashtag once on each day (UTC) on which it trends,
//! however its spelling changes.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use url::form_urlencoded;

use super::own::ready;
use super::query::Wanted;
use super::shapes::sentence;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::http::answer::{NotLetIn, NotNow, Refusal, TooOften, bad, failed, with_links};
use crate::http::entities::explain_url;
use crate::identity::Identity;
use crate::store::Subject;
use crate::trends::Trends;
use crate::trends::lists::{Asked, Entry, List};

const DAY: i64 = 86_400;

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
    id: String,
    day: String,
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
        (status = 200, description = "The feed. `Link` has the pages before and after.", body = String,
            content_type = "application/rss+xml"),
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
    let which = wanted.list(Subject::Tag);
    let list = match ready(trends, which.clone()).await {
        Ok(list) => list,
        Err(fault) => return fault,
    };
    let (origin, host) = (&identity.ids.origin, identity.ids.host());
    let name = if config.site.name.is_empty() { format!("Relay at {host}") } else { config.site.name.clone() };
    let base = format!("{origin}/api/v1/trends/tags.rss");
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(wanted.again()).finish();
    let shown = list.entries.iter().skip(wanted.offset()).take(wanted.own_limit());
    let feed = Feed {
        title: format!("What people talk about: {name}"),
        home: format!("{origin}/"),
        this: if query.is_empty() { base.clone() } else { format!("{base}?{query}") },
        about: "Hashtags that more people on more servers speak of than usual.".to_owned(),
        at: list.at.http_date(),
        items: shown.map(|one| Item::of(one, &list, &which, origin)).collect(),
    };
    match feed.render() {
        Ok(xml) => {
            let xml = ([(header::CONTENT_TYPE, "application/rss+xml; charset=utf-8")], xml).into_response();
            with_links(xml, &base, &wanted.pages(wanted.own_limit(), list.entries.len()))
        }
        Err(error) => {
            tracing::error!(%error, "a feed could not be made");
            failed()
        }
    }
}

impl Item {
    fn of(one: &Entry, list: &List, which: &Asked, origin: &str) -> Self {
        let day = list.at.secs().div_euclid(DAY);
        let language = which.language.as_deref().unwrap_or_default();
        let key: String = form_urlencoded::byte_serialize(one.key.as_bytes()).collect();
        Self {
            title: format!("#{}", one.name),
            link: explain_url(origin, &one.name, which),
            id: format!("{origin}/trends/{}/{language}/{key}/{day}", which.window.hours()),
            day: Timestamp::from_secs(day * DAY).http_date(),
            about: sentence(one.people, one.servers, list.within, one.usual),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Usual;
    use crate::trends::assess::Window;

    #[test]
    fn a_reader_is_told_of_a_hashtag_once_a_day_however_it_is_spelled() {
        let which = Asked { subject: Subject::Tag, window: Window::Day, language: Some("de".to_owned()) };
        let item = |name: &str, at: i64| {
            let entry = Entry { key: "cats".to_owned(), name: name.to_owned(), ..Entry::default() };
            let at = Timestamp::from_secs(at);
            let list = List { at, within: 24, ..List::default() };
            assert_eq!(entry.usual, Usual::default());
            Item::of(&entry, &list, &which, "https://r.example")
        };
        let noon = 1_787_486_400;
        let (first, again, next) = (item("Cats", noon), item("CATS", noon + 3600), item("Cats", noon + DAY));
        assert_eq!((&first.id, &first.day), (&again.id, &again.day));
        assert_ne!(first.id, next.id);
        assert_eq!(first.link, "https://r.example/api/v1/trends/explain?tag=Cats&within=24&language=de");
    }
}

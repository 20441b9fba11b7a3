//! Mastodon's `Tag` and `Trends::Link`, with the fields that its serializers write (`REST::TagSerializer`,
//! `REST::PreviewCardSerializer` and `REST::Trends::LinkSerializer`, Mastodon 4.5). `following` and `featuring` are there
//! only for who is logged in, and nobody is here.

use serde::Serialize;
use utoipa::ToSchema;

use super::tag_url;
use crate::search::hashtags::{Hashtag, Uses};
use crate::store::{Subject, target};
use crate::trends::assess::Window;
use crate::trends::explain::DayOf;
use crate::trends::lists::Asked;
use crate::wire::document::tag_key;

/// Mastodon's `Tag`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Tag {
    /// A number that stands for all its spellings.
    id: String,
    name: String,
    /// Where the posts with it are, or why it trends.
    #[schema(format = "uri")]
    url: String,
    history: Vec<Day>,
}

/// Mastodon's `Trends::Link`. Nothing is fetched from it, so nothing is known but where it leads.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Link {
    #[schema(format = "uri")]
    url: String,
    title: String,
    description: String,
    language: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    author_name: String,
    author_url: String,
    provider_name: String,
    provider_url: String,
    html: String,
    width: u32,
    height: u32,
    image: Option<String>,
    image_description: String,
    embed_url: String,
    blurhash: Option<String>,
    published_at: Option<String>,
    /// Nobody is known to have written it.
    #[schema(value_type = Vec<Object>)]
    authors: [(); 0],
    history: Vec<Day>,
}

/// A day of a `Tag` or a `Link`; its numbers are texts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Day {
    day: String,
    accounts: String,
    uses: String,
}

impl Tag {
    /// A hashtag, for a relay at `origin`.
    pub(in crate::http) fn of(tag: &Hashtag, origin: &str) -> Self {
        let day = |uses: &Uses| Day {
            day: uses.day.saturating_mul(86_400).to_string(),
            accounts: uses.authors.to_string(),
            uses: uses.posts.to_string(),
        };
        let key = tag_key(&tag.name);
        Self {
            id: id(key.as_deref().unwrap_or(&tag.name)),
            url: tag_url(origin, &tag.name),
            name: tag.name.clone(),
            history: tag.days.iter().map(day).collect(),
        }
    }

    /// One that trends on the list that was asked for.
    pub(in crate::http) fn trending(key: &str, name: &str, history: &[DayOf], origin: &str, asked: &Asked) -> Self {
        let url = explain_url(origin, name, asked);
        Self { id: id(key), url, name: name.to_owned(), history: history.iter().map(Day::of).collect() }
    }
}

/// Fits into 63 bits: programs keep it as a number.
fn id(key: &str) -> String {
    (target(Subject::Tag, key) >> 1).to_string()
}

impl Day {
    fn of(day: &DayOf) -> Self {
        Self { day: day.began.secs().to_string(), accounts: day.people.to_string(), uses: day.uses.to_string() }
    }
}

impl Link {
    /// A link that trends.
    pub(in crate::http) fn trending(link: &str, history: &[DayOf]) -> Self {
        let host = url::Url::parse(link).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        Self {
            url: link.to_owned(),
            title: link.to_owned(),
            description: String::new(),
            language: None,
            kind: "link",
            author_name: String::new(),
            author_url: String::new(),
            provider_name: host,
            provider_url: String::new(),
            html: String::new(),
            width: 0,
            height: 0,
            image: None,
            image_description: String::new(),
            embed_url: String::new(),
            blurhash: None,
            published_at: None,
            authors: [],
            history: history.iter().map(Day::of).collect(),
        }
    }
}

/// Why a tag is on the list that was asked for: there is no page of it here.
pub(in crate::http) fn explain_url(origin: &str, name: &str, asked: &Asked) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("tag", name);
    if asked.window != Window::default() {
        query.append_pair("within", &asked.window.hours().to_string());
    }
    if let Some(language) = &asked.language {
        query.append_pair("language", language);
    }
    format!("{origin}/api/v1/trends/explain?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Timestamp;

    /// The file has what Mastodon writes: the same names, and for each the same kind of value.
    #[test]
    fn a_tag_and_a_link_have_the_fields_that_mastodon_gives_them() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/fixtures/mastodon/trends.json")).unwrap();
        let asked = Asked { subject: Subject::Tag, window: Window::Day, language: Some("de".to_owned()) };
        let history = [
            DayOf { began: Timestamp::from_secs(1_787_443_200), uses: 11, people: 10 },
            DayOf { uses: 0, people: 0, began: Timestamp::from_secs(1_787_356_800) },
        ];
        let tag = Tag::trending("blackpetrels", "BlackPetrels", &history, "https://relay.example", &asked);
        let link = Link::trending("https://news.example/1", &history);
        assert_eq!(json!({ "tag": tag, "link": link }), golden);
    }

    #[test]
    fn an_explanation_is_asked_for_the_list_that_a_tag_was_found_on() {
        let check = |window, language: Option<&str>, expected: &str| {
            let asked = Asked { subject: Subject::Tag, window, language: language.map(str::to_owned) };
            let url = explain_url("https://r.example", "a b&c", &asked);
            assert_eq!(url, format!("https://r.example/api/v1/trends/explain?tag=a+b%26c{expected}"));
        };
        check(Window::Six, None, "");
        check(Window::Hour, None, "&within=1");
        check(Window::Week, Some("pt"), "&within=168&language=pt");
    }
}

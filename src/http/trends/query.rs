//! What is asked of the trends: the parameters, read strictly, as those of the search are.

use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::store::Subject;
use crate::trends::assess::Window;
use crate::trends::lists::Asked;

/// Entries of a page, if nothing else is asked for, and at most: as Mastodon has it.
const PAGE: usize = 10;
const MAX_PAGE: usize = 20;
/// Of our own lists, and of feeds.
const MAX_OWN: usize = 100;

/// Which page of which list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Wanted {
    /// Entries of a page; more than there may be are as good as that.
    #[serde(default, deserialize_with = "count")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 999_999_999, default = 10)]
    limit: Option<usize>,
    /// So many of the first ones are passed over.
    #[serde(default, deserialize_with = "count")]
    #[param(value_type = Option<u32>, minimum = 0, maximum = 999_999_999)]
    offset: Option<usize>,
    /// The window in hours: 1, 6, 24 or 168.
    #[serde(default, deserialize_with = "window")]
    #[param(value_type = Option<u32>, example = 6)]
    within: Option<Window>,
    /// Only what is said in this language, as `pt`.
    #[serde(default, deserialize_with = "language")]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z]{2,3}([-_].*)?$", example = "pt")]
    language: Option<String>,
    /// The same, as programs for Mastodon say it.
    #[serde(default, deserialize_with = "language")]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z]{2,3}([-_].*)?$")]
    lang: Option<String>,
}

impl Wanted {
    /// Entries of a page of Mastodon's.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE)
    }

    /// Entries of one of ours.
    pub(super) fn own_limit(&self) -> usize {
        self.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_OWN)
    }

    /// How many are passed over.
    pub(super) fn offset(&self) -> usize {
        self.offset.unwrap_or(0)
    }

    /// Which list.
    pub(super) fn list(&self, subject: Subject, window: Window) -> Asked {
        let language = self.language.clone().or_else(|| self.lang.clone());
        Asked { subject, window: self.within.unwrap_or(window), language }
    }

    /// The parameters that lead to the page that begins with entry `offset`.
    pub(super) fn page(&self, offset: usize, limit: usize) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("limit", limit.to_string())];
        parameters.extend(self.within.map(|window| ("within", window.hours().to_string())));
        let languages = [("language", &self.language), ("lang", &self.lang)];
        parameters.extend(languages.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        parameters.push(("offset", offset.to_string()));
        parameters
    }

    /// The pages before and after one of a list of `total`.
    pub(super) fn pages(&self, limit: usize, total: usize) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
        let offset = self.offset();
        let mut pages = Vec::new();
        if offset.saturating_add(limit) < total {
            pages.push(("next", self.page(offset + limit, limit)));
        }
        if offset > 0 {
            pages.push(("prev", self.page(offset.saturating_sub(limit), limit)));
        }
        pages
    }
}

/// What is to be explained.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Questioned {
    /// A hashtag, in any spelling, with or without `#`.
    #[param(min_length = 1, max_length = 200, example = "petrels")]
    pub(super) tag: Option<String>,
    /// Or a link.
    #[param(min_length = 1, max_length = 2000)]
    pub(super) link: Option<String>,
    /// The window in hours: 1, 6, 24 or 168.
    #[serde(default, deserialize_with = "window")]
    #[param(value_type = Option<u32>, example = 6)]
    pub(super) within: Option<Window>,
    /// Only what is said in this language, as `pt`.
    #[serde(default, deserialize_with = "language")]
    #[param(value_type = Option<String>, pattern = "^[A-Za-z]{2,3}([-_].*)?$", example = "pt")]
    pub(super) language: Option<String>,
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number =
        text.parse().ok().filter(|number| *number <= 999_999_999 && text.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(Some).ok_or_else(|| serde::de::Error::custom("this must be a number from 0 to 999999999"))
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Window>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let window = text.parse().ok().and_then(Window::of_hours);
    window.map(Some).ok_or_else(|| serde::de::Error::custom("within must be 1, 6, 24 or 168 hours"))
}

/// The primary subtag.
fn language<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let primary = text.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let is_one = (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_one { Ok(Some(primary)) } else { Err(serde::de::Error::custom("language must be a language, as `pt`")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &str) -> Result<Wanted, String> {
        let uri = format!("/api/v1/trends/tags?{query}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).map(|query| query.0).map_err(|rejection| rejection.body_text())
    }

    #[test]
    fn parameters_are_read_and_what_is_none_is_refused() {
        let all = wanted("limit=15&offset=5&within=24&language=pt-BR").unwrap();
        assert_eq!((all.limit(), all.offset()), (15, 5));
        let asked = all.list(Subject::Tag, Window::Six);
        assert_eq!((asked.window, asked.language.as_deref()), (Window::Day, Some("pt")));
        let bare = wanted("").unwrap();
        assert_eq!((bare.limit(), bare.offset(), bare.list(Subject::Tag, Window::Six).window), (10, 0, Window::Six));
        assert_eq!(wanted("limit=500").unwrap().limit(), 20);
        assert_eq!(wanted("lang=de").unwrap().list(Subject::Tag, Window::Six).language.as_deref(), Some("de"));
        for wrong in ["limit=x", "limit=-1", "offset=", "within=0", "within=5", "language=english", "language=1"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_lead_to_the_pages_before_and_after_and_to_no_other() {
        let check = |query: &str, total: usize, expected: &[(&str, &str)]| {
            let wanted = wanted(query).unwrap();
            let pages = wanted.pages(wanted.limit(), total);
            let pages: Vec<(&str, String)> = pages
                .into_iter()
                .map(|(rel, parameters)| {
                    let text: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    (rel, text.join("&"))
                })
                .collect();
            let pages: Vec<(&str, &str)> = pages.iter().map(|(rel, query)| (*rel, query.as_str())).collect();
            assert_eq!(pages, expected, "{query} of {total}");
        };
        check("", 10, &[]);
        check("", 11, &[("next", "limit=10&offset=10")]);
        check("offset=10", 11, &[("prev", "limit=10&offset=0")]);
        check("limit=5&offset=5", 20, &[("next", "limit=5&offset=10"), ("prev", "limit=5&offset=0")]);
        check("limit=5&offset=3&within=24", 5, &[("prev", "limit=5&within=24&offset=0")]);
        check("offset=900", 11, &[("prev", "limit=10&offset=890")]);
    }
}

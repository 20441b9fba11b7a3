//! What is asked of the trends: the parameters, read strictly, as those of the search are.

use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use crate::store::Subject;
use crate::trends::assess::Window;
use crate::trends::lists::Asked;

/// Entries of a page, if nothing else is asked for: as Mastodon has it, where at most twice as many are given.
pub(super) const TAGS: usize = 10;
/// The same of links,
pub(super) const LINKS: usize = 10;
/// and of posts.
pub(super) const STATUSES: usize = 20;
/// Of our own lists and of feeds,
const OWN: usize = 20;
/// and at most.
const MAX_OWN: usize = 100;

/// Which page of which list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Wanted {
    /// Entries of a page; more than there may be are as good as that. Without it, 10 hashtags or links, or 20 posts, and at
    /// most twice as many; of our own lists 20, and at most 100.
    #[serde(default, deserialize_with = "count")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 999_999_999)]
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
    /// Entries of a page of Mastodon's that usually has so many.
    pub(super) fn limit(&self, usual: usize) -> usize {
        self.limit.unwrap_or(usual).clamp(1, 2 * usual)
    }

    /// Entries of one of ours.
    pub(super) fn own_limit(&self) -> usize {
        self.limit.unwrap_or(OWN).clamp(1, MAX_OWN)
    }

    /// How many are passed over.
    pub(super) fn offset(&self) -> usize {
        self.offset.unwrap_or(0)
    }

    /// Which list.
    pub(super) fn list(&self, subject: Subject) -> Asked {
        Asked {
            subject,
            window: self.within.unwrap_or(usual_window(subject)),
            language: self.language().map(str::to_owned),
        }
    }

    /// The language that was asked for.
    pub(super) fn language(&self) -> Option<&str> {
        self.language.as_deref().or(self.lang.as_deref())
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

    /// All that was asked for, as it is asked for again.
    pub(super) fn again(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("limit", self.limit.map(|limit| limit.to_string()))];
        parameters.push(("within", self.within.map(|window| window.hours().to_string())));
        parameters.extend([("language", self.language.clone()), ("lang", self.lang.clone())]);
        parameters.push(("offset", self.offset.map(|offset| offset.to_string())));
        parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The pages before and after one of a list of `total`. Before what is beyond the end is the last page.
    pub(super) fn pages(&self, limit: usize, total: usize) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
        let offset = self.offset();
        let mut pages = Vec::new();
        if offset.saturating_add(limit) < total {
            pages.push(("next", self.page(offset + limit, limit)));
        }
        if offset > 0 {
            let last = total.saturating_sub(1) / limit * limit;
            pages.push(("prev", self.page(offset.saturating_sub(limit).min(last), limit)));
        }
        pages
    }
}

/// Which kind of thing a list of ours is of.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OfKind {
    /// `tag`, `link` or `post`. A post is given by its id, and only if the search may show it.
    #[serde(default, deserialize_with = "kind")]
    #[param(value_type = Option<String>, example = "tag")]
    kind: Option<Subject>,
}

impl OfKind {
    /// Hashtags, if nothing else is asked for.
    pub(super) fn subject(&self) -> Subject {
        self.kind.unwrap_or(Subject::Tag)
    }
}

/// The window of a list, if none is asked for. Links and posts have no usual, and what they are worth falls within hours
/// anyway.
pub(super) const fn usual_window(subject: Subject) -> Window {
    match subject {
        Subject::Tag => Window::Six,
        Subject::Link | Subject::Post => Window::Day,
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
    /// The `at` of the list that is to be checked: while that list is handed out, and has it, the numbers are those that its
    /// place was made of; else those of now. The answer's own `at` says which.
    #[param(max_length = 40, example = "2026-08-21T12:00:00Z")]
    pub(super) at: Option<String>,
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number =
        text.parse().ok().filter(|number| *number <= 999_999_999 && text.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(Some).ok_or_else(|| serde::de::Error::custom("this must be a number from 0 to 999999999"))
}

fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Subject>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Subject::named(&text).map(Some).ok_or_else(|| serde::de::Error::custom("kind must be tag, link or post"))
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
        assert_eq!((all.limit(TAGS), all.offset()), (15, 5));
        let asked = all.list(Subject::Tag);
        assert_eq!((asked.window, asked.language.as_deref()), (Window::Day, Some("pt")));
        let bare = wanted("").unwrap();
        assert_eq!((bare.limit(TAGS), bare.limit(STATUSES), bare.offset()), (10, 20, 0));
        assert_eq!([Subject::Tag, Subject::Post].map(|one| bare.list(one).window), [Window::Six, Window::Day]);
        let many = wanted("limit=500").unwrap();
        assert_eq!(
            (many.limit(LINKS), many.limit(STATUSES), many.own_limit()),
            (20, 40, 100),
            "Mastodon gives twice as many"
        );
        assert_eq!(wanted("lang=de").unwrap().list(Subject::Tag).language.as_deref(), Some("de"));
        for wrong in ["limit=x", "limit=-1", "offset=", "within=0", "within=5", "language=english", "language=1"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn links_lead_to_the_pages_before_and_after_and_to_no_other() {
        let check = |query: &str, total: usize, expected: &[(&str, &str)]| {
            let wanted = wanted(query).unwrap();
            let pages = wanted.pages(wanted.limit(TAGS), total);
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
        check("offset=900", 11, &[("prev", "limit=10&offset=10")]);
        check("offset=900", 0, &[("prev", "limit=10&offset=0")]);
    }
}

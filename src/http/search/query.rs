//! What is asked: the parameters, read strictly, because a value that is passed over makes somebody believe an answer to
//! another question. Numbers that name posts travel as texts of digits, since programs read JSON numbers as doubles.

use axum::extract::rejection::QueryRejection;
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use crate::search::query::MAX_BYTES;

/// Results of a page, if nothing else is asked for, and at most.
pub(super) const PAGE: usize = 20;
pub(super) const MAX_PAGE: usize = 40;

/// What is searched for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Posts.
    #[default]
    Posts,
    /// Accounts that want to be discovered.
    Accounts,
    /// Hashtags.
    Hashtags,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Posts => "posts",
            Self::Accounts => "accounts",
            Self::Hashtags => "hashtags",
        }
    }
}

/// What our own search is asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// What to look for. Of posts, in the query language of `docs/SEARCH.md`: words, "phrases", `-not`, `OR`, `#tag`,
    /// `from:` and so on. Of accounts, words of a name or bio, or a handle. Of hashtags, how one begins.
    #[serde(deserialize_with = "words")]
    #[param(value_type = String, min_length = 1, max_length = 1024, example = "petrel")]
    pub(super) q: String,
    /// What to look for it among.
    #[serde(default)]
    #[param(inline, required = false)]
    pub(super) kind: Kind,
    /// Results of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 40, default = 20)]
    pub(super) limit: Option<usize>,
    /// Of posts by date: only those before the one with this id, as `next` of the page before says.
    #[serde(default, deserialize_with = "id")]
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,19}$")]
    pub(super) below: Option<u64>,
    /// Of posts by date: the next ones after the one with this id.
    #[serde(default, deserialize_with = "id")]
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,19}$")]
    pub(super) above: Option<u64>,
    /// So many of the best results are passed over: posts by relevance, accounts, hashtags.
    #[serde(default, deserialize_with = "skip")]
    #[param(value_type = Option<u32>, minimum = 0, maximum = 400)]
    pub(super) skip: Option<usize>,
    /// Posts that are marked as sensitive too.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = bool, required = false)]
    pub(super) sensitive: bool,
    /// Of posts: also how many there are by language, server, hashtag and month. Of the first page; it costs as much as ten pages.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = bool, required = false)]
    pub(super) facets: bool,
}

/// What Mastodon's search is asked, as far as it means something here.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MastodonAsked {
    /// What to look for.
    #[serde(deserialize_with = "words")]
    #[param(value_type = String, min_length = 1, max_length = 1024, example = "petrel")]
    pub(super) q: String,
    /// One kind of results only.
    #[serde(rename = "type")]
    #[param(inline)]
    pub(super) kind: Option<MastodonKind>,
    /// Results of each kind; more than 40 are as good as 40.
    #[serde(default, deserialize_with = "any_count")]
    #[param(value_type = Option<u32>, minimum = 0, maximum = 999_999_999, default = 20)]
    pub(super) limit: Option<usize>,
    /// So many of the results are passed over, where one kind is asked for.
    #[serde(default, deserialize_with = "any_count")]
    #[param(value_type = Option<u32>, minimum = 0, maximum = 999_999_999)]
    pub(super) offset: Option<usize>,
    /// Only posts before the one with this id.
    #[serde(default, deserialize_with = "id")]
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,19}$")]
    pub(super) max_id: Option<u64>,
    /// The next posts after the one with this id.
    #[serde(default, deserialize_with = "id")]
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,19}$")]
    pub(super) min_id: Option<u64>,
    /// Means nothing here and is refused: write `from:name@host` into `q`.
    #[param(max_length = 0)]
    pub(super) account_id: Option<String>,
}

/// Mastodon's kinds of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum MastodonKind {
    /// Accounts.
    Accounts,
    /// Hashtags.
    Hashtags,
    /// Posts.
    Statuses,
}

impl MastodonKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Hashtags => "hashtags",
            Self::Statuses => "statuses",
        }
    }
}

/// Whose standing is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// One handle, `name@host`, or the address of the account's own document, `https://...`.
    #[param(min_length = 3, max_length = 1024, example = "ada@small.example")]
    pub(super) acct: String,
}

/// The parameters, or what is wrong with them.
pub(super) fn read<T>(asked: Result<axum::extract::Query<T>, QueryRejection>) -> Result<T, String> {
    asked.map(|asked| asked.0).map_err(|rejection| rejection.body_text())
}

/// What is looked for. Of posts, the query itself has a limit in bytes.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fits = !text.is_empty() && text.chars().nth(MAX_BYTES).is_none();
    let wrong = || serde::de::Error::custom(format!("q must have from 1 to {MAX_BYTES} characters"));
    if fits { Ok(text) } else { Err(wrong()) }
}

/// A count from `least` to `most`, in digits only.
fn count<'de, D>(deserializer: D, least: usize, most: usize) -> Result<Option<usize>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    let wrong = || serde::de::Error::custom(format!("this must be a number from {least} to {most}"));
    number.filter(|_| text.bytes().all(|byte| byte.is_ascii_digit())).map(Some).ok_or_else(wrong)
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer, 1, MAX_PAGE)
}

fn skip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer, 0, crate::search::index::MAX_RESULTS)
}

fn any_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    count(deserializer, 0, 999_999_999)
}

/// The id of a post.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.parse().ok().filter(|_| text.len() <= 19 && text.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(Some).ok_or_else(|| serde::de::Error::custom("this must be the id of a post: up to 19 digits"))
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(serde::de::Error::custom("this must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, String> {
        let uri = format!("/api/v1/search?{query}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).map(|query| query.0).map_err(|rejection| rejection.body_text())
    }

    #[test]
    fn parameters_are_read_and_what_is_none_is_refused_and_not_passed_over() {
        let all = asked("q=a&kind=accounts&limit=40&below=18446744073709551&above=0&skip=400&sensitive=1&facets=true");
        let all = all.unwrap();
        assert_eq!(
            (all.kind, all.limit, all.below, all.above),
            (Kind::Accounts, Some(40), Some(18_446_744_073_709_551), Some(0))
        );
        assert_eq!((all.skip, all.sensitive, all.facets), (Some(400), true, true));
        let bare = asked("q=a").unwrap();
        assert_eq!(
            (bare.kind, bare.limit, bare.below, bare.sensitive, bare.facets),
            (Kind::Posts, None, None, false, false)
        );
        assert!(
            asked(&format!("q={}", "a".repeat(1025))).is_err() && asked(&format!("q={}", "a".repeat(1024))).is_ok()
        );
        for wrong in [
            "",
            "q=",
            "q=a&limit=",
            "q=a&below=",
            "q=a&sensitive=",
            "q=a&limit=0",
            "q=a&limit=41",
            "q=a&limit=-1",
            "q=a&limit=%2B1",
            "q=a&limit=x",
            "q=a&below=x",
            "q=a&below=12345678901234567890",
            "q=a&skip=401",
            "q=a&sensitive=yes",
            "q=a&kind=people",
            "q=a&q=b",
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
        assert!(asked("q=a&limit=0").unwrap_err().contains("from 1 to 40"));
    }
}

//! What requests of the admin API carry, read strictly: an unknown member is a mistake and nothing is done, because a
//! `dry_run` that is misspelt would be done. And pages: a list's answer names the next one in `Link` (RFC 8288).

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use url::form_urlencoded;

use super::problem::Problem;
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::store::Target;

/// Rows of a page, if nothing else is asked for, and at most.
pub(in crate::http) const PAGE: u32 = 100;
/// See [`PAGE`].
pub(in crate::http) const MAX_PAGE: u32 = 1000;

/// The parameters of a request.
pub(in crate::http) struct Asked<T>(pub(in crate::http) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(Self(Query::<T>::from_request_parts(parts, state).await?.0))
    }
}

/// The body of a request: a JSON object. No body is an empty one.
pub(in crate::http) struct Told<T>(pub(in crate::http) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = request.headers().get(header::CONTENT_TYPE).cloned();
        let bytes = Bytes::from_request(request, state).await?;
        if bytes.is_empty() {
            return serde_json::from_slice(b"{}")
                .map(Self)
                .map_err(|fault| Problem::unread(format!("the body: {fault}")));
        }
        // A list would be taken for the members of an object, in their order.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|first| *first != b'{') {
            return Err(Problem::unread("the body is to be one JSON object"));
        }
        let mut again = Request::new(axum::body::Body::from(bytes));
        if let Some(kind) = is_json {
            again.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        Ok(Self(Json::<T>::from_request(again, state).await?.0))
    }
}

/// The server that the path names.
pub(in crate::http) struct Host(pub(in crate::http) Authority);

impl<S: Send + Sync> FromRequestParts<S> for Host {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = named.map_err(|rejection| Problem::unread(rejection.body_text()))?;
        host(&text).map(Self)
    }
}

/// A server, as somebody wrote it.
pub(in crate::http) fn host(text: &str) -> Result<Authority, Problem> {
    Authority::parse(text).map_err(|fault| Problem::unread(format!("{text:?} is no host: {fault}")))
}

/// A server as people write it, by its name or the address of one of its pages, as a filter: rows have its name.
pub(in crate::http) fn server(text: &str) -> Result<Authority, Problem> {
    match text.parse::<Target>() {
        Ok(Target::Domain(name)) => Ok(name),
        Ok(Target::Actor(id)) => Ok(id.authority()),
        Ok(Target::Software(_) | Target::Keyword(_)) => Err(Problem::unread(format!("{text:?} is no server's name"))),
        Err(fault) => Err(Problem::unread(fault.to_string())),
    }
}

/// Reads a time: RFC 3339.
pub(in crate::http) fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(from)?;
    let at = Timestamp::from_rfc3339(&text);
    at.map(Some).ok_or_else(|| D::Error::custom(format!("{text:?} is no time: write it as 2026-08-21T12:00:00Z")))
}

/// Rows of a list, the page that is asked for: what every list takes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Paging {
    /// Rows of a page.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub(in crate::http) limit: Option<u32>,
    /// As in `Link`: what comes after the last row of the page before.
    pub(in crate::http) after: Option<String>,
}

/// A page of rows.
pub(in crate::http) struct Rows<T> {
    rows: Vec<T>,
    next: Option<String>,
}

impl<T> Rows<T> {
    /// All there are.
    pub(in crate::http) fn all(rows: Vec<T>) -> Self {
        Self { rows, next: None }
    }

    /// The rows after the key `after`, `limit` of them at most, of `all` in the order of their keys.
    pub(in crate::http) fn cut<R>(
        all: Vec<R>,
        key: impl Fn(&R) -> String,
        (after, limit): (Option<&str>, Option<u32>),
        uri: &Uri,
        show: impl FnMut(R) -> T,
    ) -> Self {
        let mut rest =
            all.into_iter().skip_while(|row| after.is_some_and(|after| key(row).as_str() <= after)).peekable();
        let (mut page, mut last) = (Vec::new(), String::new());
        while let Some(row) = rest.next_if(|_| page.len() < limit_of(limit)) {
            last = key(&row);
            page.push(row);
        }
        let next = rest.peek().is_some().then(|| page_after(uri, &last));
        Self { rows: page.into_iter().map(show).collect(), next }
    }

    /// These, and where more are: the key of the last one, if there may be more.
    pub(in crate::http) fn up_to(rows: Vec<T>, last: Option<&str>, uri: &Uri) -> Self {
        Self { rows, next: last.map(|last| page_after(uri, last)) }
    }
}

/// Reads how many rows are asked for.
pub(in crate::http) fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(from)?;
    let rows = text.parse().ok().filter(|rows| (1..=MAX_PAGE).contains(rows));
    rows.map(Some).ok_or_else(|| D::Error::custom(format!("a page has 1 to {MAX_PAGE} rows, not {text:?}")))
}

/// Rows of a page.
pub(in crate::http) fn limit_of(limit: Option<u32>) -> usize {
    usize::try_from(limit.unwrap_or(PAGE)).unwrap_or(1)
}

/// The same question about what comes after `last`, as a reference relative to the one that was asked.
fn page_after(uri: &Uri, last: &str) -> String {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let pairs = pairs.filter(|(name, _)| name != "after");
    form_urlencoded::Serializer::for_suffix("?".to_owned(), 1).extend_pairs(pairs).append_pair("after", last).finish()
}

impl<T: Serialize> IntoResponse for Rows<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.rows).into_response();
        let link = self.next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
        if let Some(link) = link {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_keep_what_was_asked() {
        let uri: Uri = "/x?state=active&after=a&limit=2".parse().unwrap();
        let all = || ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let cut = |after: Option<&str>, limit| Rows::cut(all(), String::clone, (after, limit), &uri, |row| row);
        let page = cut(Some("a"), Some(2));
        assert_eq!(
            (page.rows, page.next.as_deref()),
            (vec!["b".to_owned(), "c".to_owned()], Some("?state=active&limit=2&after=c"))
        );
        let page = cut(Some("c"), Some(2));
        assert_eq!((page.rows.len(), page.next), (1, None));
        let page = cut(None, Some(4));
        assert_eq!((page.rows.len(), page.next), (4, None));
        assert_eq!((limit_of(None), limit_of(Some(9))), (100, 9));
    }
}

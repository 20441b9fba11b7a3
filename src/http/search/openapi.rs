//! The description of the API (OpenAPI 3.1), made from the handlers and the types that they answer with. `docs/openapi.json`
//! is a copy of it, which a test compares, so that a change of the API is seen in review.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{instance, mastodon, own};
use crate::http::answer::TooOften;
use crate::http::{removal, trends};

/// All of it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Shearwater: search and trends",
        description = "Search for posts whose authors asked to be found. The operator's `search.api` says who may search: \
                       everybody, who has a token, or servers that joined and sign their requests. Trends, with every \
                       number that they come from, for whom `trends.api` names.",
    ),
    paths(
        own::search,
        own::consent,
        removal::remove,
        removal::check,
        mastodon::search,
        mastodon::status,
        trends::mastodon::tags,
        trends::mastodon::tags_as_before,
        trends::mastodon::statuses,
        trends::mastodon::links,
        trends::own::list,
        trends::own::explain,
        trends::feed::feed,
        instance::v1,
        instance::v2,
        document
    ),
    tags(
        (name = "search", description = "In our own words."),
        (name = "trends", description = "What people talk about, and why it says so."),
        (name = "mastodon", description = "As much of Mastodon's API as programs need that search by it."),
    ),
    modifiers(&Keys)
)]
struct Api;

struct Keys;

impl Modify for Keys {
    fn modify(&self, description: &mut Description) {
        let Some(components) = description.components.as_mut() else { return };
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let about = "An HTTP signature by the actor that a server joined with, where `search.api` or `trends.api` is `subscribers`.";
        let signature = ApiKey::Header(ApiKeyValue::with_description("Signature", about));
        components.add_security_scheme("signature", SecurityScheme::ApiKey(signature));
    }
}

/// Read this description.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "search",
    operation_id = "description",
    responses(
        (status = 200, description = "This document.", body = serde_json::Value),
        TooOften,
    )
)]
pub(super) async fn document() -> Response {
    axum::Json(Api::openapi()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_in_docs_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let written = format!("{}\n", Api::openapi().to_pretty_json().unwrap());
        if std::env::var_os("SHEARWATER_WRITE_GOLDEN").is_some() {
            std::fs::write(path, &written).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == written,
            "the API's description changed. If it was meant to, write the copy anew and read what it says:\n\
             SHEARWATER_WRITE_GOLDEN=1 cargo test --lib openapi && git diff docs/openapi.json"
        );
    }

    #[test]
    fn every_route_of_the_search_is_described_and_every_operation_has_a_summary() {
        let described = Api::openapi();
        for path in [
            "/api/v1/search",
            "/api/v1/search/consent",
            "/api/v1/search/remove",
            "/api/v1/search/check",
            "/api/v2/search",
            "/api/v1/statuses/{id}",
            "/api/v1/trends",
            "/api/v1/trends/tags",
            "/api/v1/trends/statuses",
            "/api/v1/trends/links",
            "/api/v1/trends/list",
            "/api/v1/trends/explain",
            "/api/v1/trends/tags.rss",
            "/api/v1/instance",
            "/api/v2/instance",
            "/api/v1/openapi.json",
        ] {
            let item = described.paths.paths.get(path).unwrap_or_else(|| panic!("{path} is not described"));
            let asked = item.get.as_ref().or(item.post.as_ref()).unwrap();
            assert!(asked.summary.is_some() && asked.responses.responses.contains_key("429"), "{path}");
            assert_eq!(asked.request_body.is_some(), item.post.is_some(), "{path}");
        }
        assert_eq!(described.paths.paths.len(), 16, "name the new ones above");
    }
}

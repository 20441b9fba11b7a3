//! The description of the admin API (OpenAPI 3.1), made from the handlers and the types that they answer with.
//! `docs/openapi-admin.json` is a copy of it, which a test compares, so that a change of the API is seen in review.

use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::{Problem, Usual};
use super::{
    announce, audit, backup, check, deliveries, export, following, held, index, keys, lists, probe, publishers,
    refusals, rules, search, stats, subscribers, tokens, trends, workers,
};

/// All of it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Shearwater: administration",
        description = "For the operator of the relay and their programs: who joined, who waits, rules, what is held, \
                       search, trends, tokens, and what was changed by whom. Over the Unix socket `admin.sock` in `data_dir` \
                       without a token; on `ops.listen` with one, whose scope (`read`, `moderate`, `admin`: each opens what \
                       those before it do) stands at each operation. Lists come in pages; `Link` names the next one. \
                       Refusals are `application/problem+json` and say what to do.",
    ),
    paths(
        document,
        stats::all,
        subscribers::list,
        subscribers::one,
        subscribers::remove,
        subscribers::pause,
        subscribers::resume,
        subscribers::approve,
        subscribers::reject,
        subscribers::mode,
        publishers::list,
        publishers::add,
        publishers::remove,
        deliveries::list,
        deliveries::retry,
        probe::probe,
        announce::announce,
        following::list,
        following::follow,
        following::unfollow,
        refusals::list,
        held::servers,
        held::posts,
        held::release,
        held::discard,
        rules::list,
        rules::put,
        rules::remove,
        rules::check,
        rules::import,
        rules::export,
        rules::note,
        lists::list,
        lists::follow,
        lists::set,
        lists::unfollow,
        lists::fetch,
        lists::review,
        lists::apply,
        check::server,
        search::list,
        search::on,
        search::off,
        tokens::list,
        tokens::make,
        tokens::revoke,
        index::stats,
        index::check,
        index::rebuild,
        index::expunge,
        index::purge,
        trends::list,
        trends::withheld,
        trends::rulings,
        trends::rule,
        trends::unrule,
        trends::replay,
        audit::list,
        backup::check,
        workers::list,
        keys::rotate,
        export::all,
    ),
    components(schemas(Problem)),
    tags(
        (name = "subscribers", description = "Who joined, and who waits."),
        (name = "publishers", description = "Who may send although it never follows."),
        (name = "deliveries", description = "What leaves, and what waits."),
        (name = "rules", description = "With whom the relay deals."),
        (name = "refusals", description = "Who was refused, and why."),
        (name = "held", description = "What waits for the operator."),
        (name = "search", description = "Whose posts may be found."),
        (name = "index", description = "The search's index."),
        (name = "trends", description = "What people talk about."),
        (name = "tokens", description = "Which programs may come in."),
        (name = "log", description = "Who changed what."),
        (name = "relay", description = "The relay itself."),
    ),
    modifiers(&Keys)
)]
struct Api;

struct Keys;

impl Modify for Keys {
    fn modify(&self, description: &mut Description) {
        let Some(components) = description.components.as_mut() else { return };
        let about = "A token made by `shearwater admin token create --scope read|moderate|admin`.";
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

/// Read this description.
#[utoipa::path(
    get,
    path = "/api/admin/v1/openapi.json",
    tag = "relay",
    operation_id = "description",
    responses((status = 200, description = "This document.", body = serde_json::Value), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn document() -> Response {
    axum::Json(Api::openapi()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::http::admin::ROOT;

    #[test]
    fn the_copy_in_docs_is_what_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi-admin.json");
        let written = format!("{}\n", Api::openapi().to_pretty_json().unwrap());
        if std::env::var_os("SHEARWATER_WRITE_GOLDEN").is_some() {
            std::fs::write(path, &written).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == written,
            "the API's description changed. If it was meant to, write the copy anew and read what it says:\n\
             SHEARWATER_WRITE_GOLDEN=1 cargo test --lib openapi && git diff docs/openapi-admin.json"
        );
    }

    /// Two types of one name would be described as one of them.
    #[test]
    fn every_name_in_the_description_means_one_thing() {
        let described = serde_json::to_string(&Api::openapi()).unwrap();
        let named: BTreeSet<&str> = described.split("#/components/schemas/").skip(1).collect();
        let named: BTreeSet<&str> = named.into_iter().filter_map(|rest| rest.split('"').next()).collect();
        let there = Api::openapi().components.unwrap().schemas;
        for name in named {
            assert!(there.contains_key(name), "{name} is named and not described");
        }
        let (mut seen, mut count) = (BTreeSet::new(), 0);
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/admin")).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for derived in text.split(" ToSchema)]\n").skip(1) {
                let lines = || derived.lines().take(4);
                let renamed = lines().find_map(|line| line.strip_prefix("#[schema(as = ")?.strip_suffix(")]"));
                let plain = lines().find_map(|line| line.split_once("struct ").or_else(|| line.split_once("enum ")));
                let name = renamed.or_else(|| plain?.1.split(' ').next()).unwrap();
                count += 1;
                assert!(seen.insert(name.to_owned()), "{name} stands there twice: give one `#[schema(as = Other)]`");
            }
        }
        assert!(count > 30, "{count}");
    }

    /// The page of routes is read as text: each is written `.route("/path", method(handler)…)`.
    #[test]
    fn every_route_is_described_at_the_level_that_it_stands_at() {
        let page: String = include_str!("mod.rs").split_whitespace().collect();
        let (mut routed, described) = (BTreeSet::new(), serde_json::to_value(Api::openapi()).unwrap());
        for (group, level) in [("fnreading", "read"), ("fnmoderating", "moderate"), ("fnadministering", "admin")] {
            let body = page.split(group).nth(1).unwrap();
            let body = &body[..body.find("}///").unwrap_or(body.len())];
            for route in body.split(".route(\"").skip(1) {
                let (path, rest) = route.split_once('"').unwrap();
                for method in ["get", "post", "delete", "put"] {
                    if rest.contains(&format!("{method}(")) {
                        routed.insert(format!("{method} {ROOT}{path} {level}"));
                    }
                }
            }
        }
        let mut told = BTreeSet::new();
        for (path, item) in described["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let level = operation["security"][1]["token"][0].as_str().unwrap_or("nobody");
                told.insert(format!("{method} {path} {level}"));
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                let codes: Vec<&str> = operation["responses"].as_object().unwrap().keys().map(String::as_str).collect();
                for code in ["400", "401", "403", "500"] {
                    assert!(codes.contains(&code), "{method} {path}: {code} is not described");
                }
                assert!(*method == "get" || codes.contains(&"422"), "{method} {path}: 422 is not described");
                let is_text = |body: &Value| body["content"].get("application/json").is_some() || body.is_null();
                assert!(is_text(&operation["requestBody"]) || path.ends_with("import"), "{method} {path}");
            }
        }
        assert_eq!(routed, told, "the page of routes, and what is described");
        assert!(routed.len() > 30, "{}", routed.len());
    }
}

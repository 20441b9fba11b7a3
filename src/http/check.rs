//! `GET /check?domain=`: what this relay last saw of a server, for its admin: a page, or JSON for programs. Who is told what,
//! and when a server is looked at, is decided by [`crate::relay::check`]; here it is asked so often and shown.
//!
//! Plain HTML, escaped by default, no script, nothing loaded from anywhere, as the home page.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::answer::refuse_for;
use super::error::internal;
use super::listen::Client;
use super::pages::site_name;
use super::state::Checkers;
use crate::config::Config;
use crate::identity::Identity;
use crate::policy::turns::Asker;
use crate::relay::Relay;
use crate::relay::check::{Look, Standing};
use crate::store::Target;

/// The longest name that is read, and the longest code.
const MAX_NAME: usize = 255;
const MAX_CODE: usize = 64;

const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "check.html")]
struct Page {
    name: String,
    contact: String,
    origin: String,
    /// What was typed, to be mended.
    typed: String,
    /// The name that it means; empty if nothing was asked.
    domain: String,
    fault: String,
    refresh: bool,
    standing: Option<Standing>,
}

pub(super) async fn check(
    State(config): State<Arc<Config>>,
    State(identity): State<Identity>,
    State(relay): State<Relay>,
    State(checkers): State<Checkers>,
    request: Request,
) -> Response {
    let asked = Asked::read(request.uri().query().unwrap_or_default());
    let from = request.extensions().get::<Client>().and_then(|client| client.of(request.headers()));
    if let Some(from) = from
        && let Err(too_many) = checkers.0.take(&Asker::Address(from))
    {
        let (error, remedy) = ("you asked too often in so short a time", "Wait as long as Retry-After says.");
        return refuse_for(StatusCode::TOO_MANY_REQUESTS, error, remedy, too_many.wait);
    }
    let as_json = wants_json(request.headers());
    let (status, fault, standing) = match asked.domain() {
        None if as_json => (StatusCode::BAD_REQUEST, "say which server: /check?domain=your.example".to_owned(), None),
        None => (StatusCode::OK, String::new(), None),
        Some(Err(fault)) => (StatusCode::BAD_REQUEST, fault, None),
        Some(Ok(name)) if relay.is_ours(&name) => {
            (StatusCode::BAD_REQUEST, format!("{name} is this relay itself, or a name above it"), None)
        }
        Some(Ok(name)) => {
            let (relay, code, looks) = (relay.clone(), asked.code.clone(), request.method() == Method::GET);
            let find = move || {
                if looks { relay.check_server(&name, code.as_deref(), from) } else { relay.known(&name, false) }
            };
            match tokio::task::spawn_blocking(find).await {
                Ok(Ok(standing)) => (StatusCode::OK, String::new(), Some(standing)),
                Ok(Err(error)) => {
                    tracing::error!(%error, "what is known of a server could not be read");
                    return internal();
                }
                Err(_fell) => return internal(),
            }
        }
    };
    let mut response = if as_json {
        match standing {
            Some(standing) => axum::Json(standing).into_response(),
            None => super::answer::refuse(status, fault, "Give the name of a server, such as your.example."),
        }
    } else {
        let page = Page {
            name: site_name(&config, &identity),
            contact: config.site.contact.clone(),
            origin: identity.ids.origin.clone(),
            domain: standing.as_ref().map(|one| one.domain.to_string()).unwrap_or_default(),
            typed: asked.domain.unwrap_or_default(),
            fault,
            refresh: standing.as_ref().is_some_and(|one| matches!(one.look, Look::UnderWay { .. })),
            standing,
        };
        match page.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!(%error, "the page of a check could not be made");
                return internal();
            }
        }
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "Accept"),
        (header::HeaderName::from_static("x-robots-tag"), "noindex"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What is asked. Read strictly from the first of each, cut where it is too long to mean anything.
#[derive(Default)]
struct Asked {
    domain: Option<String>,
    code: Option<String>,
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let (place, most) = match name.as_ref() {
                "domain" => (&mut asked.domain, MAX_NAME),
                "code" => (&mut asked.code, MAX_CODE),
                _ => continue,
            };
            if place.is_none() {
                *place = Some(value.chars().take(most + 1).collect());
            }
        }
        asked
    }

    /// Whom it means, as people write servers: a name, the address of a page, a handle.
    fn domain(&self) -> Option<Result<crate::ids::Authority, String>> {
        let typed = self.domain.as_deref()?.trim();
        if typed.is_empty() {
            return None;
        }
        let no = || Err(format!("{:?} is no name of a server", typed.chars().take(MAX_NAME).collect::<String>()));
        let name = typed.rsplit_once('@').map_or(typed, |(_, host)| host);
        if typed.len() > MAX_NAME {
            return Some(no());
        }
        Some(match name.parse::<Target>() {
            Ok(Target::Domain(name)) => Ok(name),
            Ok(Target::Actor(id)) => Ok(id.authority()),
            Ok(Target::Software(_) | Target::Keyword(_)) | Err(_) => no(),
        })
    }
}

/// Browsers name HTML first; programs that name JSON, and no HTML, get it.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("json") && !accept.contains("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_people_name_it() {
        let check = |query: &str, expected: Option<&str>| {
            let asked = Asked::read(query).domain();
            let name = asked.map(|asked| asked.map_or_else(|_fault| "refused".to_owned(), |name| name.to_string()));
            assert_eq!(name.as_deref(), expected, "{query}");
        };
        check("", None);
        check("domain=", None);
        check("domain=+&x=1", None);
        check("domain=Small.Example", Some("small.example"));
        check("domain=https%3A%2F%2Fsmall.example%2F", Some("small.example"));
        check("domain=https://small.example/users/ada", Some("small.example"));
        check("domain=%40ada%40small.example", Some("small.example"));
        check("domain=b%C3%BCcher.example", Some("xn--bcher-kva.example"));
        check("domain=a.example&domain=b.example", Some("a.example"));
        for bad in ["two words", "keyword:spam", "software:x", "<b>", "*.x*y.example", &"x".repeat(400)] {
            check(&format!("domain={bad}"), Some("refused"));
        }
        assert_eq!(
            Asked::read(&format!("domain=a.example&code={}", "0".repeat(999))).code.map(|code| code.len()),
            Some(65)
        );
    }

    #[test]
    fn programs_get_json_and_browsers_a_page() {
        let check = |accept: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wants_json(&headers), expected, "{accept}");
        };
        check("application/json", true);
        check("application/problem+json", true);
        check("text/html,application/xhtml+xml,application/json;q=0.5,*/*;q=0.1", false);
        check("*/*", false);
        assert!(!wants_json(&HeaderMap::new()));
    }
}

//! What people see: the home page, which tells an admin what to paste where. Plain HTML from one template, escaped by
//! default, no script, nothing loaded from anywhere.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use crate::config::{Access, Admission, Config};
use crate::identity::Identity;
use crate::store::Store;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    name: String,
    handle: String,
    summary: String,
    contact: String,
    inbox: String,
    actor: String,
    admission: &'static str,
    search: &'static str,
    count: usize,
    hosts: Vec<String>,
    version: &'static str,
}

pub(super) async fn home(
    State(config): State<Arc<Config>>,
    State(identity): State<Identity>,
    State(store): State<Store>,
) -> Response {
    let ids = &identity.ids;
    let host = ids.host().to_string();
    let subscribers = store.subscribers();
    let mut hosts: Vec<String> =
        subscribers.values().filter(|one| one.is_active()).map(|one| one.authority.to_string()).collect();
    hosts.sort();
    let page = Home {
        name: site_name(&config, &identity),
        handle: format!("@{}@{host}", ids.username),
        summary: config.site.summary.clone(),
        contact: config.site.contact.clone(),
        inbox: ids.inbox.to_string(),
        actor: ids.actor.to_string(),
        admission: match config.relay.admission {
            Admission::Open => "Any server may join; other relays wait for the operator.",
            Admission::Approval => "The operator looks at each server that asks before it joins.",
            Admission::Allowlist => "Only servers on the operator's list may join.",
        },
        search: match config.search.api {
            Access::Off => "",
            Access::Subscribers => "Posts whose authors asked for it can be searched here, by servers that joined.",
            Access::Tokens => {
                "Posts whose authors asked for it can be searched here, by who has a token from the operator."
            }
            Access::Public => "Posts whose authors asked for it can be searched here, by anybody.",
        },
        count: hosts.len(),
        hosts: if config.relay.show_subscribers { hosts } else { Vec::new() },
        version: env!("CARGO_PKG_VERSION"),
    };
    match page.render() {
        Ok(html) => {
            let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
            let headers = [
                (header::CONTENT_SECURITY_POLICY, policy),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::REFERRER_POLICY, "no-referrer"),
                (header::CACHE_CONTROL, "public, max-age=60"),
            ];
            (headers, Html(html)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the home page could not be made");
            super::error::internal()
        }
    }
}

/// What the relay is called.
pub(super) fn site_name(config: &Config, identity: &Identity) -> String {
    if config.site.name.is_empty() { format!("Relay at {}", identity.ids.host()) } else { config.site.name.clone() }
}

/// The home page may be found; nothing else here is for search engines.
pub(super) async fn robots() -> &'static str {
    "User-agent: *\nAllow: /$\nDisallow: /api/\nDisallow: /\n"
}

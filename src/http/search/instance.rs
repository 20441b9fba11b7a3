//! `GET /api/v1/instance` and `GET /api/v2/instance`: what programs read first, to know what they talk to. There are no
//! accounts here and nothing can be posted; what they need is that the version begins with one of Mastodon's, by which
//! they choose the second version of its search.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::Config;
use crate::http::answer::TooOften;
use crate::identity::Identity;
use crate::store::Store;

/// The version of Mastodon whose search and instance documents these are, and ours.
const VERSION: &str = concat!("4.4.0 (compatible; Shearwater ", env!("CARGO_PKG_VERSION"), ")");
/// Where the software is from.
const SOURCE: &str = env!("CARGO_PKG_REPOSITORY");

/// Mastodon's `V1::Instance`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceV1 {
    uri: String,
    title: String,
    short_description: String,
    description: String,
    email: String,
    version: &'static str,
    urls: Urls,
    stats: Stats,
    thumbnail: Option<String>,
    languages: Vec<String>,
    registrations: bool,
    approval_required: bool,
    invites_enabled: bool,
    configuration: Configuration,
    #[schema(value_type = Option<Object>)]
    contact_account: Option<()>,
    #[schema(value_type = Vec<Object>)]
    rules: [(); 0],
}

/// Mastodon's `Instance`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceV2 {
    domain: String,
    title: String,
    version: &'static str,
    source_url: &'static str,
    description: String,
    usage: Usage,
    thumbnail: Thumbnail,
    #[schema(value_type = Vec<Object>)]
    icon: [(); 0],
    languages: Vec<String>,
    configuration: Configuration,
    registrations: Registrations,
    contact: Contact,
    #[schema(value_type = Vec<Object>)]
    rules: [(); 0],
    api_versions: Versions,
}

/// There is no streaming.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Urls {
    streaming_api: String,
}

/// How much there is.
#[derive(Debug, Serialize, ToSchema)]
struct Stats {
    user_count: usize,
    status_count: usize,
    /// Servers that joined.
    domain_count: usize,
}

/// What may be posted: nothing.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Configuration {
    statuses: Statuses,
    translation: Translation,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Statuses {
    max_characters: u32,
    max_media_attachments: u32,
    characters_reserved_per_url: u32,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Translation {
    enabled: bool,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Usage {
    users: Users,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Users {
    active_month: u32,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Thumbnail {
    url: String,
}

/// Nobody can register.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Registrations {
    enabled: bool,
    approval_required: bool,
    message: Option<String>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct Contact {
    email: String,
    #[schema(value_type = Option<Object>)]
    account: Option<()>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Versions {
    mastodon: u32,
}

/// Read what this is, as from an older Mastodon server.
#[utoipa::path(
    get,
    path = "/api/v1/instance",
    tag = "mastodon",
    operation_id = "instance_v1",
    responses(
        (status = 200, description = "What this is.", body = InstanceV1),
        TooOften,
    )
)]
pub(super) async fn v1(
    State(config): State<Arc<Config>>,
    State(identity): State<Identity>,
    State(store): State<Store>,
) -> Response {
    let active = store.subscribers().values().filter(|one| one.is_active()).count();
    axum::Json(InstanceV1 {
        uri: identity.ids.host().to_string(),
        title: title(&config, &identity),
        short_description: config.site.summary.clone(),
        description: config.site.summary.clone(),
        email: email(&config),
        version: VERSION,
        urls: Urls::default(),
        stats: Stats { user_count: 0, status_count: 0, domain_count: active },
        thumbnail: None,
        languages: Vec::new(),
        registrations: false,
        approval_required: false,
        invites_enabled: false,
        configuration: Configuration::default(),
        contact_account: None,
        rules: [],
    })
    .into_response()
}

/// Read what this is, as from a Mastodon server.
#[utoipa::path(
    get,
    path = "/api/v2/instance",
    tag = "mastodon",
    operation_id = "instance_v2",
    responses(
        (status = 200, description = "What this is.", body = InstanceV2),
        TooOften,
    )
)]
pub(super) async fn v2(State(config): State<Arc<Config>>, State(identity): State<Identity>) -> Response {
    axum::Json(InstanceV2 {
        domain: identity.ids.host().to_string(),
        title: title(&config, &identity),
        version: VERSION,
        source_url: SOURCE,
        description: config.site.summary.clone(),
        usage: Usage::default(),
        thumbnail: Thumbnail::default(),
        icon: [],
        languages: Vec::new(),
        configuration: Configuration::default(),
        registrations: Registrations::default(),
        contact: Contact { email: email(&config), account: None },
        rules: [],
        api_versions: Versions { mastodon: 5 },
    })
    .into_response()
}

fn title(config: &Config, identity: &Identity) -> String {
    let host = identity.ids.host();
    if config.site.name.is_empty() { format!("Relay at {host}") } else { config.site.name.clone() }
}

/// The contact, if it is an address.
fn email(config: &Config) -> String {
    let contact = config.site.contact.trim_start_matches("mailto:");
    if contact.contains('@') && !contact.contains("://") { contact.to_owned() } else { String::new() }
}

//! Mastodon's entities, as far as we can fill them. What nobody told us (counts, pictures, when somebody joined) is empty,
//! nought or the beginning of time, in the form that programs expect.

use serde::Serialize;
use utoipa::ToSchema;

pub(super) use self::trending::{Link, Tag, explain_url};
use crate::ids::Iri;
use crate::search::find::Hit;
use crate::search::people::Person;
use crate::store::IndexedAuthor;
use crate::wire::document::{Media, MediaKind, Prop};

mod trending;

/// A moment before all that is known.
const LONG_AGO: &str = "1970-01-01T00:00:00.000Z";

/// Mastodon's `Search`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Found {
    /// Accounts.
    pub(super) accounts: Vec<Account>,
    /// Posts.
    pub(super) statuses: Vec<Status>,
    /// Hashtags.
    pub(super) hashtags: Vec<Tag>,
}

/// Mastodon's `Status`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    id: String,
    #[schema(format = DateTime)]
    created_at: String,
    edited_at: Option<String>,
    in_reply_to_id: Option<String>,
    in_reply_to_account_id: Option<String>,
    sensitive: bool,
    spoiler_text: String,
    visibility: &'static str,
    language: Option<String>,
    #[schema(format = "uri")]
    uri: String,
    #[schema(format = "uri")]
    url: String,
    replies_count: u32,
    reblogs_count: u32,
    favourites_count: u32,
    content: String,
    #[schema(value_type = Option<Object>)]
    reblog: Option<()>,
    account: Account,
    media_attachments: Vec<Attachment>,
    #[schema(value_type = Vec<Object>)]
    mentions: [(); 0],
    tags: Vec<TagOfStatus>,
    #[schema(value_type = Vec<Object>)]
    emojis: [(); 0],
    #[schema(value_type = Option<Object>)]
    card: Option<()>,
    #[schema(value_type = Option<Object>)]
    poll: Option<()>,
    #[schema(value_type = Option<Object>)]
    application: Option<()>,
}

/// Mastodon's `Account`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Account {
    id: String,
    username: String,
    acct: String,
    display_name: String,
    locked: bool,
    bot: bool,
    discoverable: bool,
    indexable: bool,
    group: bool,
    #[schema(format = DateTime)]
    created_at: &'static str,
    note: String,
    #[schema(format = "uri")]
    uri: String,
    #[schema(format = "uri")]
    url: String,
    avatar: &'static str,
    avatar_static: &'static str,
    header: &'static str,
    header_static: &'static str,
    followers_count: u32,
    following_count: u32,
    statuses_count: u32,
    last_status_at: Option<String>,
    #[schema(value_type = Vec<Object>)]
    emojis: [(); 0],
    #[schema(value_type = Vec<Object>)]
    fields: [(); 0],
}

/// Mastodon's `MediaAttachment`, without the file.
#[derive(Debug, Serialize, ToSchema)]
struct Attachment {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    url: Option<String>,
    preview_url: Option<String>,
    remote_url: Option<String>,
    #[schema(value_type = Object)]
    meta: std::collections::BTreeMap<String, String>,
    description: String,
    blurhash: Option<String>,
}

/// Mastodon's `Status::Tag`.
#[derive(Debug, Serialize, ToSchema)]
struct TagOfStatus {
    name: String,
    #[schema(format = "uri")]
    url: String,
}

impl Status {
    /// A hit, for a relay at `origin`.
    pub(super) fn of(hit: &Hit, origin: &str) -> Self {
        let (post, document) = (&hit.post, &hit.post.document);
        let media = document.media.iter().enumerate();
        Self {
            id: hit.number.to_string(),
            created_at: post.published.rfc3339(),
            edited_at: None,
            in_reply_to_id: None,
            in_reply_to_account_id: None,
            sensitive: document.props.has(Prop::Sensitive),
            spoiler_text: document.warning.clone(),
            visibility: "public",
            language: (post.language != "und").then(|| post.language.clone()),
            uri: post.object.to_string(),
            url: document.url.clone().unwrap_or_else(|| post.object.to_string()),
            replies_count: 0,
            reblogs_count: 0,
            favourites_count: 0,
            content: paragraphs(&document.text),
            reblog: None,
            account: Account::of(&post.author, &hit.author),
            media_attachments: media.map(|(place, media)| Attachment::of(hit.number, place, media)).collect(),
            mentions: [],
            tags: document
                .tags
                .iter()
                .map(|name| TagOfStatus { url: tag_url(origin, name), name: name.clone() })
                .collect(),
            emojis: [],
            card: None,
            poll: None,
            application: None,
        }
    }
}

impl Account {
    fn of(actor: &Iri, author: &IndexedAuthor) -> Self {
        let profile = &author.profile;
        let name = if profile.name.is_empty() { &profile.username } else { &profile.name };
        Self {
            id: author.number.to_string(),
            username: profile.username.clone(),
            acct: author.handle(actor),
            display_name: name.clone(),
            locked: author.signals.locked,
            bot: author.signals.bot,
            discoverable: author.signals.discoverable.is_yes(),
            indexable: author.signals.indexable.is_yes(),
            group: false,
            created_at: LONG_AGO,
            note: paragraphs(&profile.summary),
            uri: actor.to_string(),
            url: profile.url.to_string(),
            avatar: "",
            avatar_static: "",
            header: "",
            header_static: "",
            followers_count: 0,
            following_count: 0,
            statuses_count: 0,
            last_status_at: None,
            emojis: [],
            fields: [],
        }
    }
}

impl From<&Person> for Account {
    fn from(person: &Person) -> Self {
        Self::of(&person.actor, &person.author)
    }
}

impl Attachment {
    fn of(post: u64, place: usize, media: &Media) -> Self {
        Self {
            id: format!("{post}-{place}"),
            kind: match media.kind {
                MediaKind::Image => "image",
                MediaKind::Video => "video",
                MediaKind::Audio => "audio",
                MediaKind::File => "unknown",
            },
            url: None,
            preview_url: None,
            remote_url: None,
            meta: std::collections::BTreeMap::new(),
            description: media.alt.clone(),
            blurhash: None,
        }
    }
}

/// The posts with a tag, as a search: there is no page of it here.
fn tag_url(origin: &str, name: &str) -> String {
    let q: String = url::form_urlencoded::byte_serialize(format!("#{name}").as_bytes()).collect();
    format!("{origin}/api/v2/search?type=statuses&q={q}")
}

/// A plain text as HTML: nothing of it is markup.
fn paragraphs(text: &str) -> String {
    text.lines().map(|line| format!("<p>{}</p>", html_escape::encode_text(line))).collect()
}

//! What a post says to people: all that is kept of it to find it and to show it. Its markup is gone, and so are the
//! handles of the people it speaks to, who may not have agreed to be found. Whether it may be kept is not asked here.
//!
//! Every field has a bound, and reading takes time in proportion to the post.

mod people;
mod props;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::char::is_combining_mark;

pub use self::people::handle_length;
use self::people::{People, is_handle};
pub use self::props::{Media, MediaKind, Prop, Props};
use crate::ids::Iri;
use crate::wire::activity::id_of;
use crate::wire::fold::fold;
use crate::wire::object::single_text;
use crate::wire::text::{Link, MAX_TEXT, Plain, Tags, cut, has_scheme, said};

/// Characters of a title, and of a content warning.
pub const MAX_TITLE: usize = 500;
/// Characters of the description of a picture, sound or film; Mastodon takes as many.
pub const MAX_ALT: usize = 1500;
/// Pictures, sounds and films of one post.
pub const MAX_MEDIA: usize = 16;
/// Options of a poll.
pub const MAX_OPTIONS: usize = 20;
/// Characters of an option.
pub const MAX_OPTION: usize = 200;
/// Hashtags of one post.
pub const MAX_TAGS: usize = 30;
/// Characters of a hashtag: a longer one is none.
pub const MAX_TAG: usize = 100;
/// Entries of a list that are looked at.
const MAX_ENTRIES: usize = 1000;

/// What is kept of a post to find and to show it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Document {
    /// `name`, at most [`MAX_TITLE`] characters. Notes have none.
    pub title: String,
    /// The content warning, as long at most. `summary` of an article is its abstract and no warning, unless the post is
    /// marked as sensitive.
    pub warning: String,
    /// `content` without markup, paragraphs and lines parted by `\n`; about [`MAX_TEXT`] bytes at most. Of an article
    /// without content, its abstract.
    pub text: String,
    /// The options of a poll, in order: at most [`MAX_OPTIONS`] of at most [`MAX_OPTION`] characters.
    pub options: Vec<String>,
    /// What is attached to be seen or heard, at most [`MAX_MEDIA`].
    pub media: Vec<Media>,
    /// Hashtags of `tag` as spelt, without `#`, each [`tag_key`] once, at most [`MAX_TAGS`].
    pub tags: Vec<String>,
    /// The language the author declared, as primary subtag in lower case (`pt`). Never guessed.
    pub language: Option<String>,
    /// What kind of post it is.
    pub props: Props,
    /// Where people read it, if that is on the post's own origin.
    pub url: Option<String>,
}

impl Document {
    /// All that a post is found by: title, warning, text, options of a poll, descriptions of media. One after another.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let alts = self.media.iter().map(|media| &media.alt);
        let parts = [&self.title, &self.warning, &self.text].into_iter().chain(&self.options).chain(alts);
        parts.map(String::as_str)
    }

    /// The same in one, a part to a line, and the hashtags: what a keyword is looked for in.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = String::new();
        for part in self.parts().filter(|part| !part.is_empty()) {
            words.push_str(part);
            words.push('\n');
        }
        for tag in &self.tags {
            words.push('#');
            words.push_str(tag);
            words.push('\n');
        }
        words
    }

    /// Reads a post's own document. What is not there or has another shape is left empty.
    #[must_use]
    pub fn of(post: &Value) -> Self {
        let id = post.get("id").and_then(Value::as_str).and_then(|id| Iri::parse(id).ok());
        let kind = single_text(post.get("type")).unwrap_or_default();
        let tags = Tags::of(post, id.as_ref());
        let field = |name: &str, by_language: &str| said(post, name, by_language).unwrap_or_default();
        let sensitive = post.get("sensitive").and_then(Value::as_bool) == Some(true);

        let mut content = body(field("content", "contentMap"), post);
        let mut warning = Plain::shown(field("summary", "summaryMap")).text;
        if !matches!(kind, "Note" | "Question") && !sensitive {
            let summary = std::mem::take(&mut warning);
            if content.text.is_empty() {
                content.text = summary;
            }
        }
        let quoted = quoted(post);
        let people = People::of(post, &content, &tags);
        let (text, has_link) = said_by_the_author(&content, &tags, quoted.as_ref(), &people);
        let short = |text: &str, most: usize| first(people.leave_out(text.to_owned()), most);

        let options = options(post);
        let options: Vec<String> = options.map(|text| short(&Plain::verbatim(text).text, MAX_OPTION)).collect();
        let (media, links_card) = media(post, |alt| short(alt, MAX_ALT));
        let mut document = Self {
            title: short(&Plain::shown(field("name", "nameMap")).text, MAX_TITLE),
            warning: short(&warning, MAX_TITLE),
            text,
            options,
            media,
            tags: hashtags(post),
            language: language(post),
            props: Props::default(),
            url: id.as_ref().and_then(|id| url(post, id)),
        };
        let holds = |medium: MediaKind| document.media.iter().any(|item| item.kind == medium);
        let props = [
            (Prop::Media, !document.media.is_empty() || matches!(kind, "Video" | "Audio" | "Image")),
            (Prop::Image, holds(MediaKind::Image) || kind == "Image"),
            (Prop::Video, holds(MediaKind::Video) || kind == "Video"),
            (Prop::Audio, holds(MediaKind::Audio) || kind == "Audio"),
            (Prop::Poll, !document.options.is_empty()),
            (Prop::Link, has_link || links_card),
            (Prop::Reply, post.get("inReplyTo").and_then(id_of).is_some_and(|id| !id.is_empty())),
            (Prop::Sensitive, sensitive || !document.warning.is_empty()),
            (Prop::Quote, quoted.is_some()),
        ];
        document.props = props.into_iter().filter_map(|(prop, is)| is.then_some(prop)).collect();
        document
    }
}

/// Where a post leads to, in its order: links that its author wrote and attached, not those to people, hashtags or the post
/// that is quoted.
#[must_use]
pub fn links(post: &Value) -> Vec<String> {
    let id = post.get("id").and_then(Value::as_str).and_then(|id| Iri::parse(id).ok());
    let tags = Tags::of(post, id.as_ref());
    let content = body(said(post, "content", "contentMap").unwrap_or_default(), post);
    let quoted = quoted(post);
    let people = People::of(post, &content, &tags);
    let written = own_links(&content, &tags, quoted.as_ref(), &people);
    let attached = entries(post.get("attachment"))
        .filter(|item| matches!(single_text(item.get("type")), Some("Link" | "Page")))
        .filter_map(|item| item.get("href").or_else(|| item.get("url"))?.as_str().map(str::to_owned));
    written.into_iter().map(|link| link.to.clone()).chain(attached).collect()
}

/// What two spellings of a hashtag have in common: NFKC, lower case, folded, without `#`. `None` for what is no hashtag:
/// empty, digits only, longer than [`MAX_TAG`] characters, or with anything in it that ends one.
#[must_use]
pub fn tag_key(tag: &str) -> Option<String> {
    let tag = tag.trim().trim_start_matches(['#', '＃']);
    if tag.chars().take(MAX_TAG + 1).count() > MAX_TAG {
        return None;
    }
    let key = fold(tag);
    // Mastodon allows the middle dot of Catalan inside of a tag, others the hyphen.
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '·' | '-') || is_combining_mark(c);
    let says_something = key.chars().any(|c| c.is_alphabetic());
    (says_something && key.chars().all(fits)).then_some(key)
}

/// Content in the form its `mediaType` says: PeerTube's is Markdown, which reads like text. Everybody else's is HTML.
fn body(content: &str, post: &Value) -> Plain {
    let kind = post.get("mediaType").and_then(Value::as_str).unwrap_or_default();
    if kind.starts_with("text/") && !kind.starts_with("text/html") {
        return Plain::verbatim(content);
    }
    Plain::shown(content)
}

/// The text without handles and without the line that stands for a quoted post; and whether it links to anything.
fn said_by_the_author(
    content: &Plain,
    tags: &Tags<'_>,
    quoted: Option<&Quoted<'_>>,
    people: &People,
) -> (String, bool) {
    let quote_lines = quote_lines(content, quoted);
    let has_link = !own_links(content, tags, quoted, people).is_empty();
    let text = if quote_lines.is_empty() {
        content.text.clone()
    } else {
        let lines: Vec<&str> = content.text.lines().filter(|line| quote_line(line).is_none()).collect();
        lines.join("\n")
    };
    (cut(&people.leave_out(text), MAX_TEXT).trim_end().to_owned(), has_link)
}

fn quote_lines<'a>(content: &'a Plain, quoted: Option<&Quoted<'_>>) -> HashSet<&'a str> {
    match quoted {
        Some(_) => content.text.lines().filter_map(quote_line).collect(),
        None => HashSet::new(),
    }
}

/// Links that are neither a person nor a hashtag nor the post that is quoted.
fn own_links<'a>(content: &'a Plain, tags: &Tags<'_>, quoted: Option<&Quoted<'_>>, people: &People) -> Vec<&'a Link> {
    let quote_lines = quote_lines(content, quoted);
    let to_quoted = |to: &str, label: &str| {
        quoted.is_some_and(|quoted| quoted.0 == to) || quote_lines.contains(label) || quote_lines.contains(to)
    };
    let is_own = |link: &&Link| {
        let label = link.label.trim();
        let is_tag = label.starts_with('#') && tags.names.contains(&label.to_lowercase());
        let is_person = is_handle(label) || people.have(&link.to);
        !is_tag && !is_person && !tags.explains(link) && !to_quoted(&link.to, label)
    };
    content.links.iter().filter(is_own).collect()
}

/// The URL of a line that says which post is quoted, for servers that do not show quotes: `RE: https://…` (Mastodon,
/// Misskey), `QT: …` (Fedibird, Pleroma's family).
fn quote_line(line: &str) -> Option<&str> {
    let url = line.trim().strip_prefix("RE:").or_else(|| line.trim().strip_prefix("QT:"))?;
    let url = url.trim().trim_start_matches('[').trim_end_matches(']');
    (has_scheme(url) && !url.contains(char::is_whitespace)).then_some(url)
}

/// The post that is quoted.
struct Quoted<'a>(&'a str);

/// In all its spellings: FEP-044f (Mastodon 4.5), Fedibird, Misskey and its family, and FEP-e232's link in `tag`.
fn quoted(post: &Value) -> Option<Quoted<'_>> {
    let fields = ["quote", "quoteUrl", "quoteUri", "quoteURL", "_misskey_quote"];
    let field = fields.iter().find_map(|name| id_of(post.get(*name)?)).filter(|id| !id.is_empty());
    let linked = || {
        entries(post.get("tag")).find_map(|tag| {
            let kind = tag.get("mediaType").and_then(Value::as_str).unwrap_or_default();
            let is_object = kind.contains("activitystreams") || kind.starts_with("application/activity+json");
            let is_link = is_object && single_text(tag.get("type")) == Some("Link");
            tag.get("href").filter(|_| is_link)?.as_str()
        })
    };
    field.or_else(linked).map(Quoted)
}

fn entries(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    let list = match list {
        None => &[],
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    list.iter().take(MAX_ENTRIES)
}

fn options(post: &Value) -> impl Iterator<Item = &str> {
    let both = ["oneOf", "anyOf"].into_iter().flat_map(|name| entries(post.get(name)));
    both.filter_map(|option| option.get("name")?.as_str()).filter(|name| !name.trim().is_empty()).take(MAX_OPTIONS)
}

/// What is attached, and whether a link is among it (Lemmy attaches what a post is about).
fn media(post: &Value, short: impl Fn(&str) -> String) -> (Vec<Media>, bool) {
    let mut found = Vec::new();
    let mut link = false;
    for item in entries(post.get("attachment")) {
        let media_type = item.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        let kind = match (media_type.split('/').next(), single_text(item.get("type")).unwrap_or_default()) {
            (_, "Link" | "Page") => {
                link = true;
                continue;
            }
            (Some("image"), _) | (_, "Image") => MediaKind::Image,
            (Some("video"), _) | (_, "Video") => MediaKind::Video,
            (Some("audio"), _) | (_, "Audio") => MediaKind::Audio,
            (_, "Document") => MediaKind::File,
            // Rows of a table on a profile, and what is yet to be invented.
            _ => continue,
        };
        if found.len() < MAX_MEDIA {
            let says = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
            let alt = says("name").or_else(|| says("summary")).unwrap_or_default();
            found.push(Media { kind, alt: short(&Plain::verbatim(alt).text) });
        }
    }
    (found, link)
}

fn hashtags(post: &Value) -> Vec<String> {
    let mut keys = HashSet::new();
    let tags = entries(post.get("tag")).filter(|tag| single_text(tag.get("type")) == Some("Hashtag"));
    let names = tags.filter_map(|tag| tag.get("name")?.as_str());
    let new = names.filter(|name| tag_key(name).is_some_and(|key| keys.insert(key)));
    new.map(|name| name.trim().trim_start_matches(['#', '＃']).to_owned()).take(MAX_TAGS).collect()
}

/// From `contentMap` (its one key, or the key of what `content` says), `language` as a text or an object (PeerTube,
/// Lemmy), or `@language` of the context (Pleroma, Akkoma).
fn language(post: &Value) -> Option<String> {
    let content = post.get("content").and_then(Value::as_str);
    let mapped = || {
        let map = post.get("contentMap")?.as_object()?;
        let same = |text: &Value| content.is_none() || text.as_str() == content;
        let one = if map.len() == 1 { map.keys().next() } else { None };
        one.or_else(|| map.iter().find(|(_, text)| same(text)).map(|(key, _)| key)).map(String::as_str)
    };
    let said = || match post.get("language")? {
        Value::String(code) => Some(code.as_str()),
        other => other.get("identifier")?.as_str(),
    };
    let in_context = || entries(post.get("@context")).find_map(|part| part.get("@language")?.as_str());
    let read = |tag: Option<&str>| tag.and_then(primary_subtag);
    read(mapped()).or_else(|| read(said())).or_else(|| read(in_context()))
}

/// `pt` of `pt-BR`; `None` for what is no language.
fn primary_subtag(tag: &str) -> Option<String> {
    let primary = tag.trim().split(['-', '_']).next()?.to_ascii_lowercase();
    let is_code = (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    (is_code && !["und", "mul", "zxx"].contains(&primary.as_str())).then_some(primary)
}

/// The address that people read it at: the page among several (PeerTube), never of another server.
fn url(post: &Value, id: &Iri) -> Option<String> {
    let href = |link: &Value| Some(link.as_str().or_else(|| link.get("href")?.as_str())?.to_owned());
    let is_page = |link: &Value| {
        let kind = link.get("mediaType").and_then(Value::as_str);
        link.is_string() || kind.is_none_or(|kind| kind.starts_with("text/html"))
    };
    let address = entries(post.get("url")).filter(|link| is_page(link)).find_map(href)?;
    Iri::parse(&address).ok().filter(|url| url.same_origin(id)).map(|url| url.as_str().to_owned())
}

/// The first `most` characters.
fn first(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.truncate(text.trim_end().len());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn note(more: &Value) -> Document {
        let mut note = json!({ "id": "https://a.example/1", "type": "Note" });
        note.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Document::of(&note)
    }

    fn posted(activity: &str) -> Document {
        let activity: Value = serde_json::from_str(activity).expect("JSON");
        Document::of(activity.get("object").expect("an object"))
    }

    /// The object of an activity that a real server sent.
    macro_rules! fixture {
        ($name:literal) => {
            posted(include_str!(concat!("../../tests/fixtures/activities/", $name)))
        };
    }

    fn props(document: &Document) -> String {
        document.props.iter().map(Prop::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_real_servers_send_is_read() {
        let mastodon = fixture!("mastodon/create-note.json");
        assert_eq!(mastodon.text, "The herons are back. #birds");
        assert_eq!(mastodon.media, [Media { kind: MediaKind::Image, alt: "A heron".into() }]);
        assert_eq!(
            (mastodon.tags.as_slice(), mastodon.language.as_deref()),
            (["birds".to_owned()].as_slice(), Some("en"))
        );
        assert_eq!(mastodon.url.as_deref(), Some("https://mastodon.example/@ada/114"));
        assert_eq!(props(&mastodon), "media image");
        assert_eq!(props(&fixture!("mastodon/create-unlisted-reply.json")), "media image reply");

        let akkoma = fixture!("akkoma/create-note.json");
        assert_eq!((akkoma.text.as_str(), akkoma.language.as_deref(), akkoma.url), ("Good day.", Some("en"), None));
        assert_eq!(fixture!("friendica/create-note.json").text, "An old friend.");
        let misskey = fixture!("misskey/create-note.json");
        assert_eq!((misskey.text.as_str(), misskey.language), ("Nya.", None));

        let video = fixture!("peertube/create-video.json");
        assert_eq!((video.title.as_str(), video.text.as_str()), ("Herons at dawn", "At dawn."));
        assert_eq!(video.url.as_deref(), Some("https://peertube.example/videos/watch/0f3c"));
        assert_eq!((video.tags.as_slice(), props(&video).as_str()), (["herons".to_owned()].as_slice(), "media video"));

        let article = fixture!("wordpress/create-article.json");
        assert_eq!((article.title.as_str(), article.warning.as_str()), ("A long read", ""));
        assert_eq!((article.text.as_str(), props(&article).as_str()), ("A long read.", "media image"));
    }

    #[test]
    fn markup_of_many_servers_becomes_text() {
        let check = |content: &str, expected: &str| {
            assert_eq!(note(&json!({ "content": content })).text, expected, "{content}")
        };
        check("<p>one</p><p>two<br />three</p>", "one\ntwo\nthree");
        check("<blockquote><p>said</p></blockquote><ul><li>a</li><li>b</li></ul>", "said\na\nb");
        check("<pre><code>let x = 1;\nx &lt; 2</code></pre>", "let x = 1; x < 2");
        check(
            r#"<a href="https://c.example/a/long/path" rel="nofollow"><span class="invisible">https://</span><span class="ellipsis">c.example/a/lo</span><span class="invisible">ng/path</span></a>"#,
            "https://c.example/a/long/path",
        );
        check("<p><span>nya </span>:blobcat:<i>~</i></p>", "nya :blobcat:~");
        check("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c");
        check(
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} می\u{200c}خواهم v\u{200b}i\u{202e}a",
            "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f} می\u{200c}خواهم via",
        );
        check("<script>x</script><style>y</style>z", "z");
        let both = note(
            &json!({ "content": "<p>nya</p>", "source": { "content": "$[spin nya]", "mediaType": "text/x.misskeymarkdown" } }),
        );
        assert_eq!(both.text, "nya");
        let markdown = json!({ "mediaType": "text/markdown", "content": "a <b> c\n\nhttps://c.example" });
        assert_eq!(
            (note(&markdown).text.as_str(), props(&note(&markdown)).as_str()),
            ("a <b> c\nhttps://c.example", "link")
        );
    }

    #[test]
    fn people_who_are_spoken_to_are_left_out() {
        let tags = json!([
            { "type": "Mention", "href": "https://b.example/users/bo", "name": "@bo@b.example" },
            { "type": "Mention", "href": "https://a.example/users/al", "name": "@al" },
        ]);
        let check = |content: &str, expected: &str| {
            let read = note(
                &json!({ "content": content, "tag": tags, "summary": content, "attachment": { "type": "Image", "name": "@bo" } }),
            );
            assert_eq!(read.text, expected, "{content}");
            assert!(!props(&read).contains("link") && read.media.iter().all(|item| item.alt.is_empty()), "{read:?}");
        };
        check(
            r#"<p><span class="h-card"><a href="https://b.example/@bo" class="u-url mention">@<span>bo</span></a></span> <a href="https://a.example/@al">@al</a> good morning</p>"#,
            "good morning",
        );
        check("good morning @bo, how are you?", "good morning , how are you?");
        check("good morning @BO@B.example.", "good morning .");
        check("see\n@al\nthere", "see there");
        check("<p>see</p><p>@al</p><p>there</p>", "see\nthere");
        check(r#"<a href="https://c.example/@stranger">@stranger</a> hi, stranger"#, "hi, stranger");
        check("@stranger@c.example hi", "hi");
        check("meet @home at 5, mail al@b.example", "meet @home at 5, mail al@b.example");
        check(r#"@<a href="https://b.example/users/bo">bo</a> hi"#, "hi");
        check("＠bo hi ＠ @ @@bo", "hi ＠ @ @");
    }

    #[test]
    fn warnings_options_titles_and_descriptions_are_read() {
        let read = note(&json!({
            "summary": "spoiler &amp; more", "content": "<p>x</p>", "oneOf": [{ "name": "1 < 2 > 0" }, 7, {}, { "name": " " }],
            "anyOf": { "name": "other" },
            "attachment": [
                { "type": "Document", "mediaType": "video/mp4", "name": " a\n\nfilm " }, { "type": "Audio", "summary": "song" },
                { "type": "Document", "mediaType": "application/pdf" }, { "type": "PropertyValue", "name": "x" }, 7,
            ],
        }));
        assert_eq!(
            (read.warning.as_str(), read.options.as_slice()),
            ("spoiler & more", ["1 < 2 > 0".to_owned(), "other".to_owned()].as_slice())
        );
        let media: Vec<_> = read.media.iter().map(|item| (item.kind, item.alt.as_str())).collect();
        assert_eq!(media, [(MediaKind::Video, "a\nfilm"), (MediaKind::Audio, "song"), (MediaKind::File, "")]);
        assert_eq!(props(&read), "media video audio poll sensitive");
        let abstracts = |sensitive: bool, content: &str| {
            let read =
                note(&json!({ "type": "Article", "summary": "short", "sensitive": sensitive, "content": content }));
            (read.warning, read.text)
        };
        let pair = |warning: &str, text: &str| (warning.to_owned(), text.to_owned());
        assert_eq!(abstracts(false, "long"), pair("", "long"));
        assert_eq!(abstracts(false, ""), pair("", "short"));
        assert_eq!(abstracts(true, "long"), pair("short", "long"));
    }

    #[test]
    fn properties_are_those_of_the_post() {
        let check = |more: Value, expected: &str| assert_eq!(props(&note(&more)), expected, "{more}");
        check(json!({}), "");
        check(json!({ "content": "<a href=\"https://c.example/\">c</a>" }), "link");
        check(json!({ "content": "see https://c.example/" }), "link");
        let tag = json!({ "type": "Hashtag", "name": "#Birds" });
        check(json!({ "tag": tag, "content": "<a href=\"https://other.example/tags/birds\">#birds</a>" }), "");
        check(json!({ "content": "<a href=\"https://c.example/\">#birds</a>" }), "link");
        check(json!({ "attachment": [{ "type": "Link", "href": "https://c.example/" }] }), "link");
        check(json!({ "inReplyTo": { "id": "https://b.example/2" } }), "reply");
        check(json!({ "inReplyTo": null, "sensitive": "true", "oneOf": [] }), "");
        check(json!({ "sensitive": true }), "sensitive");
        check(json!({ "type": "Image" }), "media image");
        for prop in Prop::ALL {
            assert_eq!(Prop::named(prop.as_str()), Some(prop));
            assert_eq!(Props::default().with(prop).iter().collect::<Vec<_>>(), [prop]);
        }
        assert_eq!(Prop::named("embed"), None);
    }

    #[test]
    fn a_quoted_post_is_no_part_of_this_one() {
        let q = "https://b.example/2";
        let mastodon = format!(
            r#"<p class="quote-inline">RE: <a href="{q}"><span class="invisible">https://</span>b.example/2</a></p><p>so true</p>"#
        );
        let misskey = format!(r#"<p>so true<span class="quote-inline"><br><br>RE: <a href="{q}">{q}</a></span></p>"#);
        for (more, content) in [
            (json!({ "quote": q }), &mastodon),
            (json!({ "quote": { "id": q }, "quoteUri": q }), &mastodon),
            (json!({ "_misskey_quote": q, "quoteUrl": q }), &misskey),
            (
                json!({ "tag": { "type": "Link", "href": q, "mediaType": "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"" } }),
                &misskey,
            ),
        ] {
            let mut more = more;
            more["content"] = json!(content);
            let read = note(&more);
            assert_eq!((read.text.as_str(), props(&read).as_str()), ("so true", "quote"), "{more}");
        }
        let unquoted = note(&json!({ "content": misskey }));
        assert_eq!((unquoted.text.as_str(), props(&unquoted).as_str()), ("so true\nRE: https://b.example/2", "link"));
        let more = note(&json!({ "quote": q, "content": format!("RE: {q} and https://c.example") }));
        assert_eq!(props(&more), "link quote");
    }

    #[test]
    fn hashtags_are_named_once() {
        let tag = |name: &str| json!({ "type": "Hashtag", "name": name });
        let names = ["#Café", "cafe", "＃CAFÉ", "#foo_bar", "#2024", "#", "# a b", "#東京", "#हिन्दी"];
        let mut tags: Vec<Value> = names.into_iter().map(tag).collect();
        tags.push(json!({ "type": "Emoji", "name": ":x:" }));
        assert_eq!(note(&json!({ "tag": tags })).tags, ["Café", "foo_bar", "東京", "हिन्दी"]);
        let check = |tag: &str, key: Option<&str>| assert_eq!(tag_key(tag).as_deref(), key, "{tag}");
        check("#FooBar", Some("foobar"));
        check("ＦｏｏＢａｒ", Some("foobar"));
        check("foo_bar", Some("foo_bar"));
        check("2024a", Some("2024a"));
        check("col·lecció", Some("col·leccio"));
        for none in ["", "#", "2024", "_", "a b", "a.b", "#a#b", "👍", "\u{200b}", "a\0"] {
            check(none, None);
        }
        check(&"x".repeat(MAX_TAG), Some(&"x".repeat(MAX_TAG)));
        check(&"x".repeat(MAX_TAG + 1), None);
    }

    #[test]
    fn only_a_declared_language_counts() {
        let check =
            |more: Value, expected: Option<&str>| assert_eq!(note(&more).language.as_deref(), expected, "{more}");
        check(json!({ "content": "Guten Tag allerseits" }), None);
        check(json!({ "contentMap": { "pt-BR": "x" } }), Some("pt"));
        check(json!({ "content": "y", "contentMap": { "EN": "x" } }), Some("en"));
        check(json!({ "content": "y", "contentMap": { "en": "x", "de": "y" } }), Some("de"));
        check(json!({ "content": "z", "contentMap": { "en": "x", "de": "y" } }), None);
        check(json!({ "language": { "identifier": "fr", "name": "French" } }), Some("fr"));
        check(json!({ "language": "zh_Hant" }), Some("zh"));
        check(json!({ "@context": ["https://a.example", { "@language": "nl" }] }), Some("nl"));
        for none in ["und", "mul", "", "x", "english", "e1", "é"] {
            check(json!({ "@context": { "@language": none } }), None);
        }
        check(json!({ "contentMap": { "und": "x" }, "language": "es" }), Some("es"));
    }

    #[test]
    fn an_address_is_of_the_posts_own_server() {
        let check = |url: Value, expected: Option<&str>| {
            assert_eq!(note(&json!({ "url": url })).url.as_deref(), expected, "{url}")
        };
        check(json!("https://a.example/@u/1"), Some("https://a.example/@u/1"));
        check(json!({ "type": "Link", "href": "https://a.example/1" }), Some("https://a.example/1"));
        check(
            json!([{ "mediaType": "video/mp4", "href": "https://a.example/v" }, { "mediaType": "text/html", "href": "https://a.example/w" }]),
            Some("https://a.example/w"),
        );
        for other in [
            json!("https://b.example/1"),
            json!("javascript:alert(1)"),
            json!(7),
            json!([]),
            json!("http://a.example/1"),
        ] {
            check(other, None);
        }
    }

    #[test]
    fn everything_is_bounded_and_done_in_a_moment() {
        let many = |value: Value, number: usize| Value::Array(vec![value; number]);
        let tags: Vec<Value> =
            (0..100_000).map(|number| json!({ "type": "Hashtag", "name": format!("#t{number}") })).collect();
        let read = note(&json!({
            "tag": tags, "name": "n".repeat(1 << 20), "summary": "é".repeat(1 << 20), "content": "字".repeat(1 << 20),
            "attachment": many(json!({ "type": "Image", "name": "a".repeat(2000) }), 1000),
            "oneOf": many(json!({ "name": "o".repeat(10_000) }), 1000),
        }));
        assert_eq!((read.title.chars().count(), read.warning.chars().count()), (MAX_TITLE, MAX_TITLE));
        let late = format!("{}late", " ".repeat(MAX_TEXT));
        let behind = note(&json!({ "oneOf": [{ "name": late }], "content": late, "name": late }));
        assert!(!behind.words().contains("late"), "what comes behind the bound is not read");
        assert!(read.text.len() <= MAX_TEXT && read.tags.len() == MAX_TAGS);
        assert!(read.media.len() == MAX_MEDIA && read.media.iter().all(|item| item.alt.len() == MAX_ALT));
        assert!(read.options.len() == MAX_OPTIONS && read.options.iter().all(|option| option.len() == MAX_OPTION));
        for html in [
            format!("{}x{}", "<div>".repeat(10_000), "</div>".repeat(10_000)),
            "@".repeat(1 << 20),
            "@a".repeat(1 << 19),
            "@a@b ".repeat(1 << 18),
            "RE: https://b.example/1\n<br>".repeat(1 << 15),
            "<a href=https://b.example>@bo</a>".repeat(1 << 15),
            "https://b.example/1 ".repeat(1 << 15),
            "RE: https://b.example/1<br>https://c.example ".repeat(1 << 14),
        ] {
            let begun = Instant::now();
            let read = note(&json!({ "content": html, "summary": html, "name": html, "quote": "https://b.example/2" }));
            let start = html.get(..10).unwrap_or_default();
            assert!(read.text.len() <= MAX_TEXT && begun.elapsed().as_secs() < 20, "{start}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let names = "id|type|name|nameMap|summary|content|contentMap|tag|attachment|oneOf|language|url|quote|mediaType|href|inReplyTo|sensitive|@context|@language|identifier";
        let text = "[@#a-c<>/é字👍\u{200d} \n.]{0,20}|Note|Article|Hashtag|Mention|Image|Link|text/html|https://a\\.example/1|<a href='https://b\\.example'>@bo</a>";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((names, inner), 0..10)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_makes_it_fall(post in any_json()) {
            let read = Document::of(&post);
            for text in [&read.title, &read.warning, &read.text] {
                prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && text.trim() == text, "{text:?}");
            }
            prop_assert!(read.tags.iter().all(|tag| tag_key(tag).is_some()));
            let stored = serde_json::to_string(&read).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Document>(&stored).expect("ours"), read);
        }

        #[test]
        fn no_handle_with_a_server_is_kept(words in "([a-c字 \n.,:]{1,4}(@bo@b\\.example|@bo|al@b\\.example)?){0,8}") {
            let read = note(&json!({ "content": words, "summary": words }));
            prop_assert!(!read.text.contains("@bo@") || words.contains("c@bo@") || read.text.split("@bo@").next().is_some_and(|before| before.ends_with(char::is_alphanumeric)), "{}", read.text);
        }

        #[test]
        fn a_key_is_its_own_key(tag in "\\PC{0,20}") {
            if let Some(key) = tag_key(&tag) {
                prop_assert_eq!(tag_key(&key), Some(key.clone()));
            }
        }
    }
}

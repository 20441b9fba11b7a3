//! What a post says, as far as a machine that looks for spam needs to know: its plain text, how many people, tags and
//! links it names, and a fingerprint that stays the same when only names, links and numbers change.
//!
//! Servers show different parts of one document, and make different text of one HTML. What most show is
//! [`Features::text`]; what only some do is [`Features::elsewhere`], so that a word that anybody may get to read can be
//! found. HTML is cut into tags, comments and text as browsers do it: a reader that differs there is one that can be hidden
//! from.
//!
//! Nothing here renders anything, and nothing is judged. Every step is one pass over at most [`MAX_TEXT`] bytes of each
//! field, without recursion: what HTML a stranger writes costs time in proportion to its length and no more.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::ids::Iri;
use crate::wire::object::single_text;

mod entities;
mod html;

pub(super) use html::{Link, Plain, has_scheme};

/// Bytes of a field that are looked at; what comes after them is not read.
pub const MAX_TEXT: usize = 64 << 10;
/// Bytes of [`Features::text`] that words are looked for in.
const MAX_WORDS: usize = 32 << 10;
/// Bytes of [`Features::elsewhere`], and those of them that one field may fill, so that it leaves room for the next.
const MAX_ELSEWHERE: usize = 32 << 10;
const MAX_PIECE: usize = 8 << 10;
/// Characters that a normalised text needs for a fingerprint: below it many people say the same by chance.
pub const FINGERPRINT_CHARS: usize = 40;

/// What stands out about a post.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Entries of `tag` that are hashtags.
    pub hashtags: usize,
    /// Entries of `tag` that mention somebody.
    pub mentions: usize,
    /// Links in the text that are neither mention nor hashtag.
    pub links: usize,
    /// Title, content warning, content and poll options without markup, a line each.
    pub text: String,
    /// What only some servers show, a line each: the text of elements that Mastodon drops with their content, the source
    /// that Misskey shows in place of the content, other languages, descriptions of media.
    pub elsewhere: String,
    /// The same for texts that differ only in case, spacing, names, links and numbers; `None` for short ones.
    pub fingerprint: Option<u128>,
}

impl Features {
    /// Reads a post's document.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let host = document.get("id").and_then(Value::as_str).and_then(|id| Iri::parse(id).ok());
        let tags = Tags::of(document, host.as_ref());
        let mut features = Self { hashtags: tags.hashtags, mentions: tags.mentions, ..Self::default() };
        let words = FIELDS.iter().filter_map(|(plain, by_language)| said(document, plain, by_language));
        let options = ["oneOf", "anyOf"].iter().filter_map(|name| document.get(*name)?.as_array());
        // As Mastodon does it, which takes any number.
        let options =
            options.flatten().filter_map(|option| filled(option, "name").or_else(|| filled(option, "content")));
        let shown: Vec<&str> = words.chain(options).collect();
        let mut others = Vec::new();
        for html in &shown {
            let plain = Plain::of(html);
            features.links += plain.links.iter().filter(|link| !tags.explains(link)).count();
            push_line(&mut features.text, &plain.text);
            let read = |reading| Plain::read(html, reading).text;
            others.extend(plain.differs().map(read).filter(|text| *text != plain.text));
        }
        features.fingerprint = fingerprint(&features.text);
        features.elsewhere = elsewhere(document, &shown, others);
        features
    }

    /// All words that somebody may get to read, as far as they are looked at.
    #[must_use]
    pub fn words(&self) -> Cow<'_, str> {
        let text = cut(&self.text, MAX_WORDS);
        if self.elsewhere.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut words = text.to_owned();
        push_line(&mut words, &self.elsewhere);
        Cow::Owned(words)
    }
}

/// What is shown of a post, and its variant by language.
const FIELDS: [(&str, &str); 3] = [("name", "nameMap"), ("summary", "summaryMap"), ("content", "contentMap")];

fn filled<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A text that may be HTML as people would read it, a line for each block; of the first [`MAX_TEXT`] bytes.
pub(super) fn plain_text(html: &str) -> String {
    Plain::of(html).text
}

/// A field as a text, or the first text of its variant by language, as Mastodon reads it.
pub(super) fn said<'a>(document: &'a Value, plain: &str, by_language: &str) -> Option<&'a str> {
    filled(document, plain).or_else(|| document.get(by_language)?.as_object()?.values().find_map(Value::as_str))
}

/// What is shown by some and not by most, where the other readings of what is shown come first.
fn elsewhere(document: &Value, shown: &[&str], mut pieces: Vec<String>) -> String {
    // Misskey shows its own source, which is no HTML, and takes the content only where there is none.
    let source = document.get("source").and_then(|source| filled(source, "content"));
    for text in filled(document, "_misskey_content").into_iter().chain(source) {
        let literal = Plain::literal(text).text;
        let plain = Plain::of(text).text;
        pieces.extend((plain != literal).then_some(plain));
        pieces.push(literal);
    }
    let languages = FIELDS.iter().filter_map(|(_, by_language)| document.get(*by_language)?.as_object());
    let languages = languages.flat_map(serde_json::Map::values).filter_map(Value::as_str);
    let media = match document.get("attachment") {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let media = media.iter().flat_map(|one| [filled(one, "name"), filled(one, "summary")]).flatten();
    pieces.extend(languages.chain(media).filter(|text| !shown.contains(text)).map(|html| Plain::of(html).text));
    let mut said = HashSet::new();
    let mut all = String::new();
    for piece in &pieces {
        let piece = cut(piece, MAX_PIECE.min(MAX_ELSEWHERE.saturating_sub(all.len() + 1)));
        if said.insert(piece) {
            push_line(&mut all, piece);
        }
    }
    all
}

fn push_line(text: &mut String, line: &str) {
    if !text.is_empty() && !line.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

/// What `tag` explains about the links of the content. That a link says of itself that it is a mention, by its class,
/// counts for nothing: whoever wants to hide one would write that.
pub(super) struct Tags<'a> {
    host: Option<&'a Iri>,
    hashtags: usize,
    mentions: usize,
    /// Names in lower case, with their sign: `#bird`, `@bo@b.example` and `@bo`.
    pub(super) names: HashSet<String>,
}

impl<'a> Tags<'a> {
    pub(super) fn of(document: &Value, host: Option<&'a Iri>) -> Self {
        let entries = match document.get("tag") {
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        let mut tags = Self { host, hashtags: 0, mentions: 0, names: HashSet::new() };
        for tag in entries {
            let name = tag.get("name").and_then(Value::as_str).unwrap_or_default().to_lowercase();
            match single_text(tag.get("type")) {
                Some("Hashtag") => {
                    tags.hashtags += 1;
                    tags.names.insert(format!("#{}", name.trim_start_matches('#')));
                }
                Some("Mention") => {
                    tags.mentions += 1;
                    let name = name.trim_start_matches('@');
                    tags.names.insert(format!("@{}", name.split('@').next().unwrap_or_default()));
                    tags.names.insert(format!("@{name}"));
                }
                _ => {}
            }
        }
        tags
    }

    /// A mention reads as the name of its tag, with or without the server; a hashtag too, and leads to its own server.
    pub(super) fn explains(&self, link: &Link) -> bool {
        let label = link.label.trim().to_lowercase();
        let at_home = || Iri::parse(&link.to).ok().zip(self.host).is_some_and(|(to, host)| to.same_origin(host));
        let is_named = label.len() > 1 && self.names.contains(&label);
        is_named && (label.starts_with('@') || at_home())
    }
}

/// The first `most` bytes, or a little less so that no character is cut.
pub(super) fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

fn fingerprint(text: &str) -> Option<u128> {
    let mut folded = String::with_capacity(text.len());
    let mut letters = 0;
    for word in text.split_whitespace() {
        if word.starts_with('@') || has_scheme(word) {
            continue;
        }
        if !folded.is_empty() && !folded.ends_with(' ') {
            folded.push(' ');
        }
        for c in word.chars().filter(|c| c.is_alphabetic()).flat_map(char::to_lowercase) {
            folded.push(c);
            letters += 1;
        }
    }
    if letters < FINGERPRINT_CHARS {
        return None;
    }
    let digest = Sha256::digest(folded.trim_end().as_bytes());
    Some(digest.iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::html::Reading;
    use super::*;

    fn post(content: &str, tags: &Value) -> Features {
        Features::of(&json!({ "id": "https://a.example/1", "type": "Note", "content": content, "tag": tags }))
    }

    #[test]
    fn links_are_counted_that_are_neither_mention_nor_hashtag() {
        let tags = json!([
            { "type": "Mention", "href": "https://b.example/users/bo", "name": "@bo@b.example" },
            { "type": "Hashtag", "href": "https://a.example/tags/Bird", "name": "#Bird" },
            { "type": "Emoji", "name": ":x:" },
        ]);
        let check = |content: &str, expected: usize| assert_eq!(post(content, &tags).links, expected, "{content}");
        assert_eq!((post("", &tags).hashtags, post("", &tags).mentions), (1, 1));
        check(r#"<a href="https://b.example/@bo" class="u-url mention">@<span>bo</span></a>"#, 0);
        check(r#"<a href="https://b.example/@bo">@bo@b.example</a>"#, 0);
        check(r#"<a href="https://a.example/tags/Bird" rel="tag">#<span>bird</span></a>"#, 0);
        check(r#"<a href="https://c.example/x">c.example/x</a>"#, 1);
        check(r#"<a href="https://c.example/x" class="mention">look</a>"#, 1);
        check(r#"<a class="mention hashtag" rel="tag" href="https://c.example/x">#bird</a>"#, 1);
        check(r#"<a href="https://c.example/x">@somebody</a>"#, 1);
        check(r#"<a href=https://c.example/x>one</a> <A HREF='HTTP://d.example'>two</A>"#, 2);
        check(r#"<a href="https://c.example/x">https://c.example/x</a>"#, 1);
        check(r#"<a href="&#104;ttps://c.example/x">x"#, 1);
        check("see https://c.example/x and http://d.example", 2);
        check(r##"<a href="#top">x</a> <a name="y">z</a> <a href="mailto:a@b.example">m</a>"##, 0);
        check(r#"<a data-href="https://c.example/">x</a>"#, 0);
    }

    #[test]
    fn all_that_is_shown_is_read() {
        let features = Features::of(&json!({
            "id": "https://a.example/1", "name": "Title", "summary": "<b>warning</b>",
            "contentMap": { "en": "<p>text</p>" }, "oneOf": [{ "name": "yes https://c.example" }, 7, {}],
            "tag": { "type": "Mention", "name": "@x" },
        }));
        assert_eq!(features.text, "Title\nwarning\ntext\nyes https://c.example");
        assert_eq!((features.links, features.mentions, features.hashtags), (1, 1, 0));
        assert_eq!((features.elsewhere.as_str(), features.words()), ("", features.text.as_str().into()));
        for odd in [json!(null), json!(7), json!([]), json!({ "tag": "x", "content": [], "oneOf": {} })] {
            assert_eq!(Features::of(&odd), Features::default());
        }
    }

    /// Where some show another part of the document, or another reading of it, words are looked for there too.
    #[test]
    fn what_only_some_show_is_read_too_and_counts_for_nothing_else() {
        let check = |members: &Value, elsewhere: &str| {
            let mut document = json!({ "id": "https://a.example/1", "content": "<p>shown</p>" });
            document.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let features = Features::of(&document);
            assert_eq!((features.text.as_str(), features.elsewhere.as_str()), ("shown", elsewhere), "{members}");
            assert_eq!((features.links, features.mentions), (0, 0));
            assert!(features.words().contains(elsewhere));
        };
        check(&json!({}), "");
        check(&json!({ "contentMap": { "en": "<p>shown</p>", "de": "gezeigt" } }), "gezeigt");
        check(&json!({ "summaryMap": { "en": 7 }, "nameMap": [] }), "");
        check(&json!({ "_misskey_content": "$[x **wo**rd] https://a.example" }), "$[x **wo**rd] https://a.example");
        check(&json!({ "source": { "content": "word", "mediaType": "text/x.misskeymarkdown" } }), "word");
        check(
            &json!({ "source": { "content": "<i>wo</i>rd <x" }, "_misskey_content": "shown?" }),
            "shown?\nword\n<i>wo</i>rd <x",
        );
        check(&json!({ "source": "word", "_misskey_content": {} }), "");
        check(&json!({ "attachment": [{ "name": "a word", "summary": "more" }, { "name": 7 }, 7] }), "a word\nmore");
        check(&json!({ "attachment": { "name": "a word" } }), "a word");
        check(&json!({ "content": "<p>shown<script>word</script></p>" }), "shownword");

        // What only some show makes no other post of it.
        let print = |tail: &str| post(&format!("{}{tail}", "letters ".repeat(10)), &json!([])).fingerprint;
        assert!(print("").is_some());
        assert_eq!(print("<script>one</script>"), print("<img alt='two'>"));
        // Nor does one field leave no room for the next.
        let long = "x".repeat(MAX_TEXT);
        let features = Features::of(&json!({
            "content": long, "_misskey_content": long, "source": { "content": format!("word {long}") },
            "contentMap": (0..9).map(|n| (n.to_string(), format!("{n}{long}").into())).collect::<serde_json::Map<_, Value>>(),
        }));
        assert!(features.elsewhere.contains("word") && features.elsewhere.len() <= MAX_ELSEWHERE);
        assert!(features.words().len() <= MAX_WORDS + 1 + MAX_ELSEWHERE);
    }

    #[test]
    fn a_fingerprint_ignores_names_numbers_links_and_spacing() {
        let print = |content: &str| post(content, &json!([])).fingerprint;
        let plain = print("Buy our wonderful shiny things today, dear friends of the sea!");
        assert!(plain.is_some());
        for same in [
            "<p>buy OUR wonderful   shiny things today,</p><p>dear friends of the sea</p>",
            "@bo@b.example Buy our wonderful shiny things today dear friends of the sea 4711 https://c.example/17",
            "Buy o\u{200b}ur wonderful shiny things today, dear friends of the sea 🐟",
        ] {
            assert_eq!(print(same), plain, "{same}");
        }
        assert_ne!(print("Buy our wonderful shiny things today, dear friends of the sky!"), plain);
        assert_eq!(print("good morning, everybody"), None);
        assert_eq!(print(&"a".repeat(39)), None);
        assert!(print(&"a".repeat(40)).is_some());
        assert_eq!(print(&"1".repeat(400)), None);
    }

    #[test]
    fn what_is_pathological_is_cut_and_each_byte_is_looked_at_a_few_times() {
        let mega = 1 << 20;
        for html in [
            "<".repeat(mega),
            "<a ".repeat(mega / 3),
            "<a href=\"".repeat(mega / 9),
            "&".repeat(mega),
            "&#".repeat(mega / 2),
            "<!--".repeat(mega / 4),
            "<div>".repeat(mega / 5),
            "<script>".repeat(mega / 8),
            "ä".repeat(mega / 2),
            "<a href=https://x.example>".repeat(mega / 26),
            "<script></".repeat(mega / 10),
            "<!--->".repeat(mega / 6),
            "</ <!".repeat(mega / 5),
        ] {
            for reading in [Reading::Usual, Reading::Bare, Reading::Veiled] {
                let plain = Plain::read(&html, reading);
                let what = (html.get(..10).unwrap_or_default(), plain.text.len(), plain.looked_at);
                assert!(plain.text.len() <= MAX_TEXT && plain.looked_at <= 3 * MAX_TEXT, "{what:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall(content in ".{0,300}", soup in "[<>a/\"'=&#;! -]{0,200}") {
            for html in [&content, &soup] {
                let plain = Plain::of(html);
                prop_assert!(plain.text.chars().all(|c| c == '\n' || !c.is_control()));
                let _ = post(html, &json!([{ "type": "Hashtag", "name": content.as_str() }]));
            }
        }
    }
}

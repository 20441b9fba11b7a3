//! What a post says, as far as a machine that looks for spam needs to know: its plain text, how many people, tags and
//! links it names, and a fingerprint that stays the same when only names, links and numbers change.
//!
//! The walk over HTML (`Plain`) is the only one: what a post says to people ([`super::document`]) goes through it too.
//! Nothing here renders anything, and nothing is judged. Every step is one pass over at most [`MAX_TEXT`] bytes of each
//! field, without recursion: what HTML a stranger writes costs time in proportion to its length and no more.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::ids::Iri;
use crate::wire::fold::is_invisible;
use crate::wire::object::single_text;

/// Bytes of a field that are looked at; what comes after them is not read.
pub const MAX_TEXT: usize = 64 << 10;
/// Characters that a normalised text needs for a fingerprint: below it many people say the same by chance.
pub const FINGERPRINT_CHARS: usize = 40;
/// Options of a poll that are read.
const OPTIONS: usize = 20;

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
        let fields = [("name", "nameMap"), ("summary", "summaryMap"), ("content", "contentMap")];
        let words = fields.iter().filter_map(|(plain, by_language)| said(document, plain, by_language));
        let options = ["oneOf", "anyOf"].iter().filter_map(|name| document.get(*name)?.as_array());
        let options = options.flatten().take(OPTIONS).filter_map(|option| option.get("name")?.as_str());
        for html in words.chain(options) {
            let plain = Plain::of(html, Joiners::Drop);
            features.links += plain.links.iter().filter(|link| !tags.explains(link)).count();
            if !features.text.is_empty() && !plain.text.is_empty() {
                features.text.push('\n');
            }
            features.text.push_str(&plain.text);
        }
        features.fingerprint = fingerprint(&features.text);
        features
    }
}

/// A field as a text, or the first text of its variant by language, as Mastodon reads it.
pub(super) fn said<'a>(document: &'a Value, plain: &str, by_language: &str) -> Option<&'a str> {
    let text = document.get(plain).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.or_else(|| document.get(by_language)?.as_object()?.values().find_map(Value::as_str))
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

/// A link and what it reads.
pub(super) struct Link {
    pub(super) to: String,
    pub(super) label: String,
}

/// What becomes of the invisible characters that spelling needs: those that join emoji, choose their colour, or keep
/// letters of Persian apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Joiners {
    /// A text to be compared: they could hide a word.
    #[default]
    Drop,
    /// A text to be shown.
    Keep,
}

/// HTML without its markup.
#[derive(Default)]
pub(super) struct Plain {
    pub(super) text: String,
    pub(super) links: Vec<Link>,
    joiners: Joiners,
    /// The link that is open, and where in `text` its label begins.
    open: Option<(String, usize)>,
    /// Inside of an element whose text nobody is shown.
    hidden: Option<&'static str>,
}

impl Plain {
    pub(super) fn of(html: &str, joiners: Joiners) -> Self {
        let mut plain = Self { joiners, ..Self::default() };
        let mut rest = cut(html, MAX_TEXT);
        while let Some(at) = rest.find('<') {
            let (before, tag) = rest.split_at(at);
            plain.say(before);
            let Some(length) = tag_length(tag) else {
                match tag.get(1..).filter(|_| !opens_a_tag(tag)) {
                    // A lone `<` is text.
                    Some(after) => {
                        plain.say("<");
                        rest = after;
                        continue;
                    }
                    // A tag that never ends: browsers show nothing of it.
                    None => return plain.close(),
                }
            };
            let (tag, after) = tag.split_at(length);
            plain.take(tag);
            rest = after;
        }
        plain.say(rest);
        plain.close()
    }

    /// A text that has no markup, in the same form.
    pub(super) fn verbatim(text: &str, joiners: Joiners) -> Self {
        let mut plain = Self { joiners, ..Self::default() };
        for (number, line) in cut(text, MAX_TEXT).lines().enumerate() {
            if number > 0 {
                plain.space('\n');
            }
            plain.write(line);
        }
        plain.close()
    }

    fn close(mut self) -> Self {
        self.end_link();
        self.text.truncate(self.text.trim_end().len());
        self
    }

    fn say(&mut self, run: &str) {
        if self.hidden.is_some() || run.is_empty() {
            return;
        }
        let run: Cow<'_, str> = html_escape::decode_html_entities(run);
        self.write(&run);
    }

    fn write(&mut self, run: &str) {
        if self.open.is_none() {
            // Where the sender did not make links of them, some readers' apps do.
            let bare = run.split_whitespace().filter(|word| has_scheme(word));
            self.links.extend(bare.map(|word| Link { to: word.to_owned(), label: String::new() }));
        }
        for c in run.chars() {
            if c.is_whitespace() {
                self.space(' ');
            } else if !c.is_control() && (!is_invisible(c) || (self.joiners == Joiners::Keep && is_joiner(c))) {
                self.text.push(c);
            }
        }
    }

    /// One space or line break between words, none at the start.
    fn space(&mut self, space: char) {
        match self.text.chars().next_back() {
            None | Some('\n') => {}
            Some(' ') if space == '\n' => {
                self.text.pop();
                self.text.push('\n');
            }
            Some(' ') => {}
            Some(_) => self.text.push(space),
        }
    }

    fn take(&mut self, tag: &str) {
        let name = tag_name(tag);
        let is = |one: &&str| name.eq_ignore_ascii_case(one);
        let ends = tag.starts_with("</");
        if let Some(hidden) = self.hidden {
            if ends && name.eq_ignore_ascii_case(hidden) {
                self.hidden = None;
            }
            return;
        }
        if let (Some(hidden), false) = (HIDDEN.into_iter().find(|one| is(one)), ends) {
            self.hidden = Some(hidden);
        } else if BLOCKS.iter().any(is) {
            self.space('\n');
        } else if name.eq_ignore_ascii_case("a") {
            self.end_link();
            let to = if ends { None } else { attribute(tag, "href") };
            self.open = to.filter(|to| has_scheme(to)).map(|to| (to, self.text.len()));
        }
    }

    fn end_link(&mut self) {
        if let Some((to, start)) = self.open.take() {
            // A space that a line break took the place of may lie before `start`.
            let label = self.text.get(start..).unwrap_or_default().to_owned();
            self.links.push(Link { to, label });
        }
    }
}

/// Elements after which a new line begins, and before.
const BLOCKS: [&str; 22] = [
    "p",
    "br",
    "div",
    "li",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "blockquote",
    "pre",
    "hr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "table",
    "tr",
    "td",
    "th",
];
/// Elements whose content is no text.
const HIDDEN: [&str; 4] = ["script", "style", "template", "noscript"];

fn opens_a_tag(text: &str) -> bool {
    text.as_bytes().get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?'))
}

/// The bytes from `<` to the end of the tag or comment; `None` if it is none, or never ends.
fn tag_length(text: &str) -> Option<usize> {
    if !opens_a_tag(text) {
        return None;
    }
    if text.starts_with("<!--") {
        return text.find("-->").map(|at| at + 3);
    }
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn tag_name(tag: &str) -> &str {
    let name = tag.trim_start_matches(['<', '/']);
    name.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}

/// The value of an attribute of a tag, decoded.
fn attribute(tag: &str, wanted: &str) -> Option<String> {
    let mut rest = tag.trim_start_matches('<').get(tag_name(tag).len()..)?;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/' || c == '=');
        let end = rest.find(|c: char| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return None;
        }
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            rest = after;
            continue;
        };
        let (value, after) = match value.chars().next()? {
            quote @ ('"' | '\'') => value.get(1..)?.split_once(quote)?,
            _ => value.split_at(value.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(value.len())),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(html_escape::decode_html_entities(value).trim().to_owned());
        }
        rest = after;
    }
}

pub(super) fn has_scheme(text: &str) -> bool {
    let start = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    start("https://") || start("http://")
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' | '\u{e0020}'..='\u{e007f}')
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

    use super::*;

    #[test]
    fn markup_goes_and_words_stay() {
        let check = |html: &str, expected: &str| assert_eq!(Plain::of(html, Joiners::Drop).text, expected, "{html}");
        check("", "");
        check("plain", "plain");
        check("<p>one</p><p>two<br>three</p>", "one\ntwo\nthree");
        check("<p>a  b\n\tc</p>", "a b c");
        check("a &amp; b &lt;c&gt; &#x41;&#66;", "a & b <c> AB");
        check("&amp;lt;", "&lt;");
        check("<span class=\"invisible\">https://</span><span>a.example/x</span>", "https://a.example/x");
        check("1 < 2 and 3 > 2", "1 < 2 and 3 > 2");
        check("<3 you", "<3 you");
        check("a<!-- <b>hidden</b> -->b", "ab");
        check("a<script>if (a < b) { \"</p>\" }</script>b<style>p{}</style>c", "abc");
        check("<a title=\"a > b\" href='x'>y</a>", "y");
        check("before<a href=\"never closed", "before");
        check("v\u{200b}i\u{ad}a\u{202e}g", "viag");
        check("a\u{0}\u{7}b", "ab");
        check("<UL><LI>x<li>y</UL>", "x\ny");
        check("日本<br/>語 &hearts;", "日本\n語 ♥");
    }

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
        for odd in [json!(null), json!(7), json!([]), json!({ "tag": "x", "content": [], "oneOf": {} })] {
            assert_eq!(Features::of(&odd), Features::default());
        }
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
    fn what_is_pathological_is_cut_and_done_in_a_moment() {
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
        ] {
            let begun = std::time::Instant::now();
            let plain = Plain::of(&html, Joiners::Drop);
            assert!(plain.text.len() <= MAX_TEXT);
            assert!(begun.elapsed().as_secs() < 20, "{}", html.get(..10).unwrap_or_default());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall(content in ".{0,300}", soup in "[<>a/\"'=&#;! -]{0,200}") {
            for html in [&content, &soup] {
                let plain = Plain::of(html, Joiners::Drop);
                prop_assert!(plain.text.chars().all(|c| c == '\n' || !c.is_control()));
                let _ = post(html, &json!([{ "type": "Hashtag", "name": content.as_str() }]));
            }
        }
    }
}

//! What of a post counts: which hashtags, which links. Pure; whether its author wants to be counted at all was asked of
//! `consent` before.
//!
//! * Of a post with more than ten hashtags none counts, else the first five: who stuffs a post with tags says nothing
//!   about any.
//! * A tag counts by what its spellings have in common ([`tag_key`]: compatibility forms, case, diacritics, invisible
//!   characters and such as turn the direction of writing), without what only joins words (`_`, `-`, `·`). No tag is what
//!   is empty, digits or emoji only, longer than a hundred characters, or what mixes letters of scripts that are taken for
//!   each other, or has such as only look like others: no word does, and doubles of other tags do.
//! * A link counts without what only tracks who follows it, and not if it leads back to its author's own server: the
//!   first two of a post.
//! * A boost counts for the post that is boosted.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;
use unicode_script::{Script, UnicodeScript as _};
use url::Url;

use crate::ids::{Authority, Iri};
use crate::store::{Choice, Subject};
use crate::trends::spellings::MAX_TEXT;
use crate::wire::document::{Document, tag_key};

/// Tags of a post that count.
pub const MOST_TAGS: usize = 5;
/// A post with more counts for none.
pub const TOO_MANY_TAGS: usize = 10;
/// Links of a post that count.
pub const MOST_LINKS: usize = 2;
/// Bytes of a link; longer ones are made for one person.
const MAX_LINK: usize = 500;

/// Why a hashtag counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TagFault {
    /// It is none: empty, digits only, too long, or with characters that end one.
    NoTag,
    /// Its letters are of scripts that no word mixes.
    MixedScripts,
}

/// What all spellings of a tag are counted under.
///
/// # Errors
/// [`TagFault`].
pub fn tag(spelling: &str) -> Result<String, TagFault> {
    let mut key = tag_key(spelling).ok_or(TagFault::NoTag)?;
    if mixes_scripts(&key) || key.chars().any(only_looks_like_another) {
        return Err(TagFault::MixedScripts);
    }
    key.retain(|c| !joins_words(c));
    Ok(key)
}

/// `_name`, `na-me` and `na·me` are one.
const fn joins_words(c: char) -> bool {
    matches!(c, '_' | '-' | '·')
}

/// How a tag is shown where this spelling of it is the commonest: without what is invisible, turns the direction of writing
/// or is piled upon letters. Empty: like the key.
fn shown(spelling: &str, key: &str) -> String {
    let fits = |c: &char| c.is_alphanumeric() || joins_words(*c) || key.contains(*c);
    let shown: String = spelling.trim_start_matches(['#', '＃']).nfkc().filter(fits).collect();
    if shown == key || shown.len() > MAX_TEXT || tag(&shown).as_deref() != Ok(key) { String::new() } else { shown }
}

/// What a post counts for, in the order in which it says it.
#[must_use]
pub fn choices(document: &Document, links: &[String], author: &Iri) -> Vec<Choice> {
    let mut choices = Vec::new();
    if document.tags.len() <= TOO_MANY_TAGS {
        for spelling in document.tags.iter().take(MOST_TAGS) {
            let Ok(key) = tag(spelling) else { continue };
            if !choices.iter().any(|known: &Choice| known.key == key) {
                let shown = shown(spelling, &key);
                choices.push(Choice { subject: Subject::Tag, key, shown });
            }
        }
    }
    let server = author.authority();
    let mut counted = 0;
    for link in links {
        let Some(key) = link_key(link, &server) else { continue };
        if counted < MOST_LINKS && !choices.iter().any(|choice| choice.key == key) {
            choices.push(Choice { subject: Subject::Link, key, shown: String::new() });
            counted += 1;
        }
    }
    choices
}

/// Parameters that say who follows a link, and nothing about what is there.
const TRACKING: [&str; 14] = [
    "fbclid", "gclid", "dclid", "msclkid", "yclid", "igshid", "igsh", "mc_cid", "mc_eid", "ref_src", "si", "spm",
    "_hsenc", "_hsmi",
];

/// The address that a link is counted under; `None` for what is none, or leads to the author's own server.
#[must_use]
pub fn link_key(link: &str, server: &Authority) -> Option<String> {
    let mut url = Url::parse(link).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let host = Authority::parse(url.host_str()?).ok()?;
    if host.registrable() == server.registrable() {
        return None;
    }
    url.set_fragment(None);
    // One page, whichever way it was written down.
    if url.scheme() == "http" && url.port().is_none() && url.set_scheme("https").is_err() {
        return None;
    }
    if url.path().len() > 1 && url.path().ends_with('/') {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
    }
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !name.starts_with("utm_") && !TRACKING.contains(&name.as_ref()))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    let key = url.to_string();
    (key.len() <= MAX_LINK).then_some(key)
}

/// Whether letters of scripts stand in one word that are taken for each other. Latin goes with those of East and South Asia
/// and of the Middle East, as people write; anything else by itself.
fn mixes_scripts(key: &str) -> bool {
    let mut found: Vec<Script> = Vec::new();
    for c in key.chars() {
        let script = c.script();
        if !matches!(script, Script::Common | Script::Inherited | Script::Unknown) && !found.contains(&script) {
            found.push(script);
        }
    }
    let goes_with_latin =
        |script: &Script| *script == Script::Latin || is_east_asian(*script) || LOOKS_LIKE_NONE.contains(script);
    found.len() > 1
        && !found.iter().all(|script| is_east_asian(*script))
        && !(found.contains(&Script::Latin) && found.iter().all(goes_with_latin))
}

const fn is_east_asian(script: Script) -> bool {
    matches!(script, Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo)
}

/// Scripts that stand beside Latin in what people write, and none of whose letters is taken for one of it.
const LOOKS_LIKE_NONE: [Script; 18] = [
    Script::Arabic,
    Script::Bengali,
    Script::Devanagari,
    Script::Ethiopic,
    Script::Gujarati,
    Script::Gurmukhi,
    Script::Hebrew,
    Script::Kannada,
    Script::Khmer,
    Script::Lao,
    Script::Malayalam,
    Script::Myanmar,
    Script::Sinhala,
    Script::Syriac,
    Script::Tamil,
    Script::Telugu,
    Script::Thai,
    Script::Tibetan,
];

/// Letters of the Latin script that no language is written in but that look like others: small capitals, and those of
/// phonetic and medieval texts.
const fn only_looks_like_another(c: char) -> bool {
    matches!(c,
        '\u{1d00}'..='\u{1dbf}' | '\u{ab30}'..='\u{ab6f}' | '\u{a730}' | '\u{a731}' | '\u{a7ae}' | '\u{a7af}' | '\u{a7fa}'
        | '\u{262}' | '\u{26a}' | '\u{274}' | '\u{276}' | '\u{280}' | '\u{281}' | '\u{28f}' | '\u{299}' | '\u{29b}' | '\u{29c}'
        | '\u{29f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tag_is_folded_or_refused_by_a_stated_rule() {
        let check = |spelling: &str, expected: Result<&str, TagFault>| {
            assert_eq!(tag(spelling).as_deref().map_err(|fault| *fault), expected, "{spelling:?}");
        };
        for spelling in ["cats", "#Cats", "CATS", "ｃａｔｓ", "c\u{200b}ats", "ca\u{202e}ts", "ca\u{2066}ts", "cäts"]
        {
            check(spelling, Ok("cats"));
        }
        for spelling in
            ["", "#", "2026", "٢٠٢٦", "👍👍", "\u{200b}", "\u{202e}", "a b", &"x".repeat(101), &"x".repeat(10_000)]
        {
            check(spelling, Err(TagFault::NoTag));
        }
        // With a Cyrillic a, es, o; a Greek omicron.
        for spelling in ["c\u{430}ts", "\u{441}ats", "f\u{3bf}otball", "k\u{456}no"] {
            check(spelling, Err(TagFault::MixedScripts));
        }
        // Small capitals; Lisu, Coptic and Canadian syllables that look like Latin letters, beside some.
        for spelling in ["ʙᴇʀʟɪɴ", "ᴄᴀᴛs", "ꓐerlin", "\u{2c82}erlin", "ᑲats", "ꬰats", "քats"] {
            check(spelling, Err(TagFault::MixedScripts));
        }
        for (spelling, key) in [
            ("кино", "кино"),
            ("東京Tokyo", "東京tokyo"),
            ("日本の海", "日本の海"),
            ("K팝", "k팝"),
            ("ไทยPBS", "ไทยpbs"),
            ("col·lecció", "colleccio"),
            ("_ca-ts_", "cats"),
        ] {
            check(spelling, Ok(key));
        }
    }

    #[test]
    fn a_tag_is_shown_without_what_is_invisible_or_piled_upon_it() {
        let check = |spelling: &str, expected: &str| {
            let key = tag(spelling).unwrap();
            assert_eq!(shown(spelling, &key), expected, "{spelling:?}");
        };
        check("#BlackCats", "BlackCats");
        check("Black_Cats", "Black_Cats");
        check("cats", "");
        check("C\u{202e}a\u{200b}ts", "Cats");
        check("C\u{316}\u{317}a\u{300}ts", "Càts");
        check("ＣＡＴＳ", "CATS");
        check("Crème", "Crème");
        check("हिन्दी", "");
        assert_eq!(shown(&"\u{1e9e}".repeat(90), &"ss".repeat(90)), "", "longer than a spelling may be");
        let ada = Iri::parse("https://a.example/users/ada").unwrap();
        let twice = choices(&post(&["Cats".to_owned(), "_cats".to_owned(), "ca-ts".to_owned()]), &[], &ada);
        assert_eq!(keys(&twice), ["cats"]);
    }

    fn post(tags: &[String]) -> Document {
        Document { tags: tags.to_vec(), ..Document::of(&serde_json::Value::Null) }
    }

    fn keys(choices: &[Choice]) -> Vec<&str> {
        choices.iter().map(|choice| choice.key.as_str()).collect()
    }

    #[test]
    fn the_first_five_tags_count_and_of_more_than_ten_none() {
        let ada = Iri::parse("https://a.example/users/ada").unwrap();
        for (count, expected) in [(0, 0), (3, 3), (5, 5), (6, 5), (10, 5), (11, 0), (30, 0)] {
            let tags: Vec<String> = (0..count).map(|number| format!("Tag{number}")).collect();
            let choices = choices(&post(&tags), &[], &ada);
            assert_eq!(choices.len(), expected, "{count}");
            assert!(
                choices.iter().zip(&tags).all(|(choice, tag)| choice.shown == *tag && choice.key == tag.to_lowercase())
            );
        }
    }

    #[test]
    fn a_link_counts_without_what_tracks_and_not_to_ones_own_server() {
        let ada = Iri::parse("https://social.a.example/users/ada").unwrap();
        let check = |link: &str, expected: Option<&str>| {
            assert_eq!(link_key(link, &ada.authority()).as_deref(), expected, "{link}");
        };
        check("https://news.example/1?utm_source=x&id=7&fbclid=y#top", Some("https://news.example/1?id=7"));
        check("https://NEWS.example:443/1?utm_medium=x", Some("https://news.example/1"));
        check("http://news.example/1/", Some("https://news.example/1"));
        check("http://news.example", Some("https://news.example/"));
        check("http://news.example:8080/", Some("http://news.example:8080/"));
        for none in
            ["https://a.example/1", "https://blog.a.example/1", "ftp://news.example/", "mailto:a@news.example", "x"]
        {
            check(none, None);
        }
        check(&format!("https://news.example/{}", "x".repeat(500)), None);
        check("https://me:secret@news.example/", None);
        let links = ["https://x.example/1", "https://x.example/1#a", "https://y.example/", "https://z.example/"];
        let links = links.map(str::to_owned);
        let counted = choices(&post(&[]), &links, &ada);
        assert_eq!(keys(&counted), ["https://x.example/1", "https://y.example/"]);
    }

    proptest! {
        #[test]
        fn no_tag_and_no_link_makes_it_fall(text in any::<String>(), many in prop::collection::vec(any::<String>(), 0..40)) {
            let ada = Iri::parse("https://a.example/users/ada").unwrap();
            let _ = tag(&text);
            let counted = choices(&post(&many), &many, &ada);
            prop_assert!(counted.len() <= MOST_TAGS + MOST_LINKS);
        }
    }
}

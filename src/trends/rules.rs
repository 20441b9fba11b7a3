//! What of a post counts: which hashtags, which links. Pure; whether its author wants to be counted at all was asked of
//! `consent` before.
//!
//! * Of a post with more than ten hashtags none counts, else the first five: who stuffs a post with tags says nothing
//!   about any.
//! * A tag counts by what its spellings have in common ([`tag_key`]: compatibility forms, case, diacritics, invisible
//!   characters and such as turn the direction of writing). No tag is what is empty, digits or emoji only, longer than a
//!   hundred characters, or what mixes Latin, Greek and Cyrillic letters: no word does, and doubles of other tags do.
//! * A link counts without what only tracks who follows it, and not if it leads back to its author's own server: the
//!   first two of a post.
//! * A boost counts for the post that is boosted.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::ids::{Authority, Iri};
use crate::store::{Choice, Subject};
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
    let key = tag_key(spelling).ok_or(TagFault::NoTag)?;
    if mixes_scripts(&key) { Err(TagFault::MixedScripts) } else { Ok(key) }
}

/// What a post counts for, in the order in which it says it.
#[must_use]
pub fn choices(document: &Document, links: &[String], author: &Iri) -> Vec<Choice> {
    let mut choices = Vec::new();
    if document.tags.len() <= TOO_MANY_TAGS {
        let tags = document.tags.iter().take(MOST_TAGS);
        choices.extend(tags.filter_map(|spelling| {
            let key = tag(spelling).ok()?;
            let shown = if key == *spelling { String::new() } else { spelling.clone() };
            Some(Choice { subject: Subject::Tag, key, shown })
        }));
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

/// Whether letters of two of those scripts that look alike stand in one word.
fn mixes_scripts(key: &str) -> bool {
    let mut scripts = key.chars().filter_map(script);
    let Some(first) = scripts.next() else { return false };
    scripts.any(|one| one != first)
}

/// Of scripts whose letters are taken for each other.
const fn script(c: char) -> Option<char> {
    match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{250}'..='\u{2af}' | '\u{1e00}'..='\u{1eff}' => Some('L'),
        '\u{370}'..='\u{3ff}' | '\u{1f00}'..='\u{1fff}' => Some('G'),
        '\u{400}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}' | '\u{2de0}'..='\u{2dff}' | '\u{a640}'..='\u{a69f}' => {
            Some('C')
        }
        '\u{530}'..='\u{58f}' => Some('A'),
        '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}' => Some('K'),
        _ => None,
    }
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
        for (spelling, key) in
            [("кино", "кино"), ("東京Tokyo", "東京tokyo"), ("日本の海", "日本の海"), ("col·lecció", "col·leccio")]
        {
            check(spelling, Ok(key));
        }
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

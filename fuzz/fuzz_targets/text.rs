//! What a post says, taken out of its HTML: bounded, without markup or control characters, and its fingerprint does not
//! change with case and space.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use shearwater::wire::text::{Features, MAX_TEXT};

/// Title, content warning, content and the options of a poll, each with its line end.
const MOST: usize = 4 * MAX_TEXT;

fuzz_target!(|data: &[u8]| {
    let Ok(html) = std::str::from_utf8(data) else { return };
    let post = |content: &str| json!({ "id": "https://a.example/1", "type": "Note", "content": content });
    let features = Features::of(&post(html));
    assert!(features.text.len() <= MOST, "{} bytes", features.text.len());
    let odd =
        features.text.chars().chain(features.elsewhere.chars()).find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(odd, None, "a control character comes through");
    // Without markup and references the text is the text.
    if !html.contains(['<', '&']) {
        if !html.to_ascii_lowercase().contains("http") {
            assert_eq!(features.links, 0, "a link without markup");
        }
        let spaced = Features::of(&post(&html.replace(' ', "  ")));
        if html.len() < MAX_TEXT / 2 {
            assert_eq!(spaced.fingerprint, features.fingerprint, "space makes another text");
        }
    }
    assert_eq!((features.hashtags, features.mentions), (0, 0), "there are no tags");
    assert_eq!(Features::of(&post(html)), features, "it depends on nothing else");
});

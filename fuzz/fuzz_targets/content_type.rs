//! What may be believed of an answer: the first line is its content type, the next three are the URL asked for, the URL
//! it came from, and the id it claims.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shearwater::ids::Iri;
use shearwater::net::JsonKind;
use shearwater::net::fetched::{Verdict, is_document, is_one_of, judge};

const PROFILE: &str = "https://www.w3.org/ns/activitystreams";

fn check_type(text: &str) {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let taken = is_document(Some(text));
    match essence.as_str() {
        "application/activity+json" => assert!(taken),
        "application/ld+json" => assert!(!taken || text.contains(PROFILE)),
        _ => assert!(!taken, "{essence} passes for a document"),
    }
    assert_eq!(taken, is_document(Some(&format!("{text}; charset=utf-8"))) && taken, "a charset makes the difference");
    assert!(!is_document(Some(&format!("x{}", text.trim_start()))));
    assert!(!is_document(Some(&format!("text/html, {text}"))));
    assert!(!is_document(Some(&format!("text/html; {text}"))));
    for kind in [JsonKind::WEBFINGER, JsonKind::NODEINFO] {
        assert_eq!(is_one_of(Some(text), kind.types), kind.types.contains(&essence.as_str()));
        assert!(!taken || !is_one_of(Some(text), kind.types), "one answer is two kinds of document");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some([content_type, requested, came_from, id]) = shearwater_fuzz::lines::<4>(data) else { return };
    check_type(content_type);
    let (Ok(requested), Ok(came_from), Ok(id)) = (Iri::parse(requested), Iri::parse(came_from), Iri::parse(id)) else {
        return;
    };
    let origins = [&requested, &came_from, &id].map(|iri| iri.url().origin());
    for again in [false, true] {
        match judge(&requested, &came_from, &id, again) {
            Verdict::Take => {
                assert!(origins[0] == origins[1] && origins[1] == origins[2], "believed across servers");
                assert!(id == requested || !again && id == came_from);
            }
            Verdict::AskAgain => assert!(!again && origins[0] == origins[2] && id != requested),
            Verdict::Refuse => assert!(origins[0] != origins[1] || id != requested),
        }
    }
    // Asking again for a claimed id ends there, whatever comes back.
    assert_ne!(judge(&requested, &came_from, &id, true), Verdict::AskAgain);
});

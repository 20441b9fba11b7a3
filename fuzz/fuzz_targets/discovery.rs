//! WebFinger and NodeInfo, theirs read and ours asked for: an input is a document, or (if it is none) a `resource`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shearwater::ids::Iri;
use shearwater::wire::author::OurIds;
use shearwater::wire::discovery::{
    family, is_relay, parse_nodeinfo, parse_nodeinfo_links, parse_webfinger_self, webfinger,
};

static IDS: LazyLock<OurIds> =
    LazyLock::new(|| OurIds::new("https://relay.example", "/actor", "main-key", "relay").unwrap());

fn links(document: &Value) -> &[Value] {
    document["links"].as_array().map_or(&[], Vec::as_slice)
}

fn check_document(document: &Value) {
    if let Some(href) = parse_nodeinfo_links(document) {
        assert!(Iri::parse(&href).is_ok(), "{href}");
        let said = |link: &&Value| link["href"] == *href;
        let is_nodeinfo = |link: &Value| {
            link["rel"].as_str().is_some_and(|rel| rel.contains("nodeinfo.diaspora.software/ns/schema/2."))
        };
        assert!(links(document).iter().filter(said).any(is_nodeinfo), "{href}");
    }
    if let Some(software) = parse_nodeinfo(document) {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        assert!((1..=64).contains(&software.name.len()) && software.name.chars().all(fits), "{software:?}");
        assert!(software.version.len() <= 64 && software.version.chars().all(|c| (' '..='~').contains(&c)));
        let loud = software.name.to_ascii_uppercase();
        assert_eq!((family(&loud), is_relay(&loud)), (family(&software.name), is_relay(&software.name)));
    }
    if let Some(actor) = parse_webfinger_self(document) {
        let named = |link: &Value| link["rel"] == "self" && link["href"] == *actor.as_str();
        assert!(links(document).iter().any(named), "an actor that no link names");
    }
}

fn check_resource(resource: &str) {
    let Some(answer) = webfinger(&IDS, resource) else { return };
    // Only who asks for us gets an answer, and it is about us alone. Of a URL tabs and line breaks are no part.
    let plain = resource.to_ascii_lowercase().replace(['\t', '\n', '\r'], "");
    assert!(plain.contains("relay") || plain.contains('%') || !plain.is_ascii());
    assert!(matches!(answer["subject"].as_str(), Some("acct:relay@relay.example" | "https://relay.example/")));
    assert_eq!(parse_webfinger_self(&answer).as_ref(), Some(&IDS.actor));
    assert!(links(&answer).iter().all(|link| link["href"].as_str().unwrap().starts_with("https://relay.example/")));
}

fuzz_target!(|data: &[u8]| {
    if let Some(document) = shearwater_fuzz::json(data) {
        check_document(&document);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        check_resource(text);
    }
});

//! A look over a document for JSON-LD that would make other servers read something else than we do. We read plain
//! JSON; Mastodon, Misskey and others read the same bytes through a JSON-LD processor. Where the two could differ, the
//! document is refused. History: Mastodon CVE-2026-46349, Fedify CVE-2026-42462 (`@graph`, `@included` and `@reverse`
//! turn an `Undo` of an `Announce` into an `Announce`), Misskey CVE-2026-46713.
//!
//! Contexts named by URL are taken on trust and never fetched: what matters to us is that a reader who knows the
//! ActivityStreams context finds the same ids, actors, objects and audiences that we find.

use serde_json::{Map, Value};

/// Where ActivityStreams terms live.
const AS2: &str = "https://www.w3.org/ns/activitystreams#";

/// Keywords that move nodes about: refused wherever they stand (JSON-LD 1.1 sections 4.9, 4.8, 4.7 and 4.5).
const RESTRUCTURING: [&str; 4] = ["@graph", "@included", "@reverse", "@nest"];

/// The properties whose meaning we act on. (Not `items`: ActivityStreams itself gives it a second name, `orderedItems`, and
/// no collection is read here.)
const PROPERTIES: [&str; 27] = [
    "actor",
    "object",
    "target",
    "result",
    "origin",
    "instrument",
    "to",
    "cc",
    "bto",
    "bcc",
    "audience",
    "attributedTo",
    "inReplyTo",
    "content",
    "published",
    "updated",
    "attachment",
    "tag",
    "name",
    "nameMap",
    "summary",
    "summaryMap",
    "contentMap",
    "mediaType",
    "url",
    "inbox",
    "endpoints",
];

/// The types whose meaning we act on.
const TYPES: [&str; 34] = [
    "Create",
    "Update",
    "Delete",
    "Announce",
    "Undo",
    "Follow",
    "Accept",
    "Reject",
    "Block",
    "Move",
    "Add",
    "Remove",
    "Like",
    "Flag",
    "Note",
    "Article",
    "Question",
    "Page",
    "Video",
    "Audio",
    "Image",
    "Event",
    "Document",
    "Tombstone",
    "Person",
    "Group",
    "Organization",
    "Service",
    "Application",
    "Collection",
    "OrderedCollection",
    "CollectionPage",
    "OrderedCollectionPage",
    "Public",
];

/// What in `doc` a JSON-LD processor would read differently from us, as half a sentence fit for the other server's
/// log; `None` if nothing. The inline contexts that servers really send (extensions such as `toot:`, `Hashtag`,
/// `movedTo`) pass.
#[must_use]
pub fn restructured(doc: &Value) -> Option<String> {
    match doc {
        Value::Array(items) => items.iter().find_map(restructured),
        Value::Object(members) => members.iter().find_map(|(key, value)| in_member(members, key, value)),
        _ => None,
    }
}

fn in_member(members: &Map<String, Value>, key: &str, value: &Value) -> Option<String> {
    if key == "@context" {
        return in_context(value);
    }
    // `{"@value": …, "@type": …}` is a literal and moves nothing.
    let literal =
        matches!(key, "@value" | "@language" | "@direction") || key == "@type" && members.contains_key("@value");
    if key.starts_with('@') && !literal {
        return Some(format!("it uses {}", shown(key)));
    }
    if core_term(key).is_some_and(|term| term.len() < key.len()) {
        return Some(format!("it spells a core property as {}", shown(key)));
    }
    restructured(value)
}

fn in_context(context: &Value) -> Option<String> {
    match context {
        Value::String(_) => None,
        Value::Array(parts) => parts.iter().find_map(in_context),
        Value::Object(terms) => terms.iter().find_map(|(term, meaning)| in_term(term, meaning)),
        _ => Some("one of its contexts is neither an address nor an object".to_owned()),
    }
}

fn in_term(term: &str, meaning: &Value) -> Option<String> {
    if let Some(fault) = buried(meaning) {
        return Some(fault);
    }
    let iri = match meaning {
        Value::String(iri) => Some(iri.as_str()),
        Value::Object(parts) => parts.get("@id").and_then(Value::as_str),
        _ => None,
    };
    match term {
        "@vocab" => return iri.is_some_and(|iri| iri != AS2 && leads_into_as2(iri)).then(|| redefines(term)),
        "@language" | "@version" | "@base" | "@type" | "@protected" | "@direction" | "@propagate" => return None,
        _ if term.starts_with('@') => return Some(format!("its context uses {}", shown(term))),
        "as" => return (iri != Some(AS2)).then(|| redefines(term)),
        "id" => return (iri != Some("@id")).then(|| redefines(term)),
        "type" => return (iri != Some("@type")).then(|| redefines(term)),
        _ => {}
    }
    if is_core(term) {
        let own = iri.and_then(core_term).is_some_and(|named| named == term && iri != Some(term));
        return (!own || !plain_definition(meaning)).then(|| redefines(term));
    }
    let alias = iri.is_some_and(|iri| iri.starts_with('@') || matches!(iri, "id" | "type") || core_term(iri).is_some());
    if alias || iri.is_some_and(leads_into_as2) {
        return Some(format!("its context gives a core term the second name {}", shown(term)));
    }
    None
}

/// Looks inside a term definition: restructuring keywords, graph containers, scoped contexts.
fn buried(meaning: &Value) -> Option<String> {
    let Value::Object(parts) = meaning else { return None };
    for (key, value) in parts {
        if RESTRUCTURING.contains(&key.as_str()) || key == "@import" {
            return Some(format!("its context uses {}", shown(key)));
        }
        let mentions = |word: &str| match value {
            Value::String(text) => text == word,
            Value::Array(items) => items.iter().any(|item| item.as_str() == Some(word)),
            _ => false,
        };
        if key == "@container" && mentions("@graph") {
            return Some("its context uses a `@graph` container".to_owned());
        }
        if key == "@context"
            && let Some(fault) = in_context(value)
        {
            return Some(fault);
        }
    }
    None
}

/// A core term may be defined again as itself, with a type and a container, nothing more. `@json` would hide its value
/// from JSON-LD readers.
fn plain_definition(meaning: &Value) -> bool {
    match meaning {
        Value::String(_) => true,
        Value::Object(parts) => parts.iter().all(|(key, value)| match key.as_str() {
            "@id" => true,
            "@type" => value.as_str().is_some_and(|kind| !matches!(kind, "@json" | "@none" | "@vocab")),
            "@container" => value.as_str().is_some_and(|kind| matches!(kind, "@set" | "@list" | "@language")),
            _ => false,
        }),
        _ => false,
    }
}

/// The core term that `name` means: a bare term, `as:term`, or the whole IRI.
fn core_term(name: &str) -> Option<&str> {
    let term = name.strip_prefix("as:").or_else(|| name.strip_prefix(AS2)).unwrap_or(name);
    is_core(term).then_some(term)
}

fn is_core(term: &str) -> bool {
    PROPERTIES.contains(&term) || TYPES.contains(&term)
}

/// With `iri` as a prefix, core terms could be spelt in a way we would not see: it leads to the namespace, is the
/// namespace, or is the namespace and the first letters of a core term.
fn leads_into_as2(iri: &str) -> bool {
    let rest = iri.strip_prefix("as:").or_else(|| iri.strip_prefix(AS2));
    match rest {
        Some(rest) => PROPERTIES.iter().chain(&TYPES).any(|term| term.starts_with(rest)),
        None => !iri.is_empty() && AS2.starts_with(iri),
    }
}

fn redefines(term: &str) -> String {
    format!("its context redefines {}", shown(term))
}

/// A name from their document, cut to a length that fits a log line.
fn shown(name: &str) -> String {
    format!("`{}`", name.chars().filter(char::is_ascii_graphic).take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_context(context: &Value) -> Value {
        json!({
            "@context": ["https://www.w3.org/ns/activitystreams", "https://w3id.org/security/v1", context],
            "id": "https://a.example/1", "type": "Create", "actor": "https://a.example/u",
            "object": {"id": "https://a.example/2", "type": "Note", "content": "hi"},
        })
    }

    #[test]
    fn contexts_that_real_servers_send_pass() {
        let contexts = [
            // Mastodon 4.3 to 4.6, posts and actors.
            json!({"ostatus": "http://ostatus.org#", "atomUri": "ostatus:atomUri",
                "inReplyToAtomUri": "ostatus:inReplyToAtomUri", "conversation": "ostatus:conversation",
                "sensitive": "as:sensitive", "toot": "http://joinmastodon.org/ns#", "votersCount": "toot:votersCount",
                "Hashtag": "as:Hashtag", "Emoji": "toot:Emoji",
                "focalPoint": {"@container": "@list", "@id": "toot:focalPoint"}, "blurhash": "toot:blurhash"}),
            json!({"manuallyApprovesFollowers": "as:manuallyApprovesFollowers",
                "featured": {"@id": "toot:featured", "@type": "@id"},
                "alsoKnownAs": {"@id": "as:alsoKnownAs", "@type": "@id"},
                "movedTo": {"@id": "as:movedTo", "@type": "@id"}, "schema": "http://schema.org#",
                "PropertyValue": "schema:PropertyValue", "value": "schema:value",
                "attributionDomains": {"@id": "toot:attributionDomains", "@type": "@id"},
                "quote": {"@id": "https://w3id.org/fep/044f#quote", "@type": "@id"},
                "interactionPolicy": {"@id": "gts:interactionPolicy", "@type": "@id"}}),
            // Misskey.
            json!({"Key": "sec:Key", "quoteUrl": "as:quoteUrl", "misskey": "https://misskey-hub.net/ns#",
                "_misskey_content": "misskey:_misskey_content", "isCat": "misskey:isCat",
                "vcard": "http://www.w3.org/2006/vcard/ns#"}),
            // Pleroma and Akkoma put only this beside their own context's address.
            json!({"@language": "und"}),
            // GoToSocial.
            json!({"gts": "https://gotosocial.org/ns#", "canLike": {"@id": "gts:canLike", "@type": "@id"},
                "always": {"@id": "gts:always", "@type": "@id"}, "hidesToPublicFromUnauthedWeb": "gts:hidesToPublicFromUnauthedWeb"}),
            // PeerTube.
            json!({"pt": "https://joinpeertube.org/ns#", "sc": "http://schema.org/", "category": "sc:category",
                "language": "sc:inLanguage", "views": {"@type": "sc:Number", "@id": "pt:views"},
                "icons": "as:icon", "likes": {"@id": "as:likes", "@type": "@id"},
                "shares": {"@id": "as:shares", "@type": "@id"}}),
            // Friendica.
            json!({"dfrn": "http://purl.org/macgirvin/dfrn/1.0/", "diaspora": "https://diasporafoundation.org/ns/",
                "litepub": "http://litepub.social/ns#", "directMessage": "litepub:directMessage"}),
            // WordPress.
            json!({"webfinger": "https://webfinger.net/#", "lemmy": "https://join-lemmy.org/ns#",
                "moderators": {"@id": "lemmy:moderators", "@type": "@id"},
                "implements": {"@id": "https://w3id.org/fep/844e/implements", "@type": "@id", "@container": "@list"}}),
            // Lemmy.
            json!({"stickied": "lemmy:stickied", "expires": "as:endTime", "ChatMessage": "litepub:ChatMessage"}),
            // The ActivityStreams context itself, inlined.
            json!({"@vocab": "_:", "as": "https://www.w3.org/ns/activitystreams#", "id": "@id", "type": "@type",
                "actor": {"@id": "as:actor", "@type": "@id"}, "Create": "as:Create",
                "published": {"@id": "as:published", "@type": "xsd:dateTime"},
                "to": {"@id": "as:to", "@type": "@id", "@container": "@set"},
                "orderedItems": {"@id": "as:items", "@type": "@id", "@container": "@list"}}),
        ];
        for context in contexts {
            assert_eq!(restructured(&with_context(&context)), None, "{context}");
        }
    }

    #[test]
    fn what_is_named_is_cut_and_holds_no_control_characters() {
        let said = |context: &Value| restructured(&with_context(context)).expect("a fault");
        assert_eq!(said(&json!({ "object": "toot:object" })), "its context redefines `object`");
        let long = format!("@{}\u{7}\n\u{202e}{}", "x".repeat(20), "y".repeat(500));
        let cut = format!("its context uses `@{}{}`", "x".repeat(20), "y".repeat(19));
        assert_eq!(said(&json!({ long: {} })), cut);
    }

    #[test]
    fn a_context_that_changes_what_we_act_on_is_named() {
        let contexts = [
            json!({"object": "toot:object"}),
            json!({"object": null}),
            json!({"object": "as:target"}),
            json!({"object": "object"}),
            json!({"object": {"@type": "@id"}}),
            json!({"object": {"@id": "as:object", "@type": "@json"}}),
            json!({"object": {"@id": "as:object", "@container": "@graph"}}),
            json!({"object": {"@id": "as:object", "@context": {"x": "ex:x"}}}),
            json!({"actor": {"@reverse": "as:actor"}}),
            json!({"to": "as:bto"}),
            json!({"cc": {"@id": "https://www.w3.org/ns/activitystreams#to"}}),
            json!({"Undo": "as:Announce"}),
            json!({"Public": "ex:Public"}),
            json!({"id": "as:id"}),
            json!({"type": "ex:type"}),
            json!({"kind": "@type"}),
            json!({"uri": "@id"}),
            json!({"uri": {"@id": "@id"}}),
            json!({"uri": "id"}),
            json!({"kind": "type"}),
            json!({"victim": "as:object"}),
            json!({"victim": {"@id": "https://www.w3.org/ns/activitystreams#object", "@type": "@id"}}),
            json!({"victim": "object"}),
            json!({"Innocent": "as:Delete"}),
            json!({"as": "https://evil.example/ns#"}),
            json!({"as": null}),
            json!({"x": "https://www.w3.org/ns/activitystreams#", "victim": "x:object"}),
            json!({"x": "https://www.w3.org/ns/", "victim": "x:activitystreams#object"}),
            json!({"x": {"@id": "https:", "@prefix": true}}),
            json!({"@vocab": "https://www.w3.org/ns/activity"}),
            json!({"@vocab": "https://www.w3.org/ns/activitystreams#obj"}),
            json!({"@vocab": "as:obj"}),
            json!({"x": "as:", "y": "x:object"}),
            json!({"x": "as:obj"}),
            json!({"x": {"@id": "https://www.w3.org/ns/activitystreams#obj", "@prefix": true}}),
            json!({"x": {"@id": "as:Cre"}}),
            json!({"x": "https:"}),
            json!({"x": {"@id": "ex:x", "@context": [{"y": {"@id": "ex:y", "@context": {"victim": "as:object"}}}]}}),
            json!({"x": {"@id": "ex:x", "@reverse": "as:object"}}),
            json!({"x": {"@id": "ex:x", "@type": "@id", "@container": ["@graph", "@id"]}}),
            json!({"x": {"@id": "ex:x", "@container": "@graph"}}),
            json!({"x": {"@id": "ex:x", "@container": ["@graph"]}}),
            json!({"@graph": {}}),
            json!({"@included": "x"}),
            json!({"@reverse": "x"}),
            json!({"actor": "as:object", "object": "as:actor"}),
            json!({"actor": {"@id": "as:actor", "@nest": "x"}}),
            json!({"actor": {"@id": "as:actor", "@index": "x"}}),
            json!({"to": {"@id": "as:to", "@container": "@index"}}),
            json!({"Create": null}),
            json!({"Note": "as:Tombstone"}),
            json!({"Tombstone": "as:Note"}),
            json!({"attributedTo": "schema:author"}),
            json!({"name": "schema:name"}),
            json!({"summary": "ex:abstract"}),
            json!({"url": "schema:url"}),
            json!({"inbox": "ex:inbox"}),
            json!({"endpoints": {"@id": "as:endpoints", "@context": {"sharedInbox": "ex:x"}}}),
            json!({"nameMap": {"@id": "ex:name", "@container": "@language"}}),
            json!({"summaryMap": null}),
            json!({"contentMap": {"@id": "as:content", "@type": "@json"}}),
            json!({"mediaType": "schema:encodingFormat"}),
            json!({"caption": "as:summary"}),
            json!({"inReplyTo": {"@id": "as:inReplyTo", "@type": "@json"}}),
            json!({"@import": "https://evil.example/context"}),
            json!({"wrapper": "@nest"}),
            json!({"wrapper": "@included"}),
            json!({"group": {"@id": "ex:group", "@container": ["@graph", "@set"]}}),
            json!({"group": {"@id": "ex:group", "@nest": "wrapper"}}),
            json!({"Note": {"@id": "as:Note", "@context": {"content": "ex:c"}}}),
            json!({"Custom": {"@id": "ex:Custom", "@context": {"object": "ex:o"}}}),
            json!(null),
            json!(7),
            json!([[{"object": "ex:o"}]]),
        ];
        for context in contexts {
            assert!(restructured(&with_context(&context)).is_some(), "{context}");
        }
    }

    #[test]
    fn keywords_that_move_nodes_are_named_at_any_depth() {
        let docs = [
            json!({"@graph": []}),
            json!({"type": "Create", "object": {"@included": []}}),
            json!({"type": "Create", "object": [{"tag": [{"@reverse": {"object": {}}}]}]}),
            json!({"type": "Create", "x": {"@nest": {"object": {}}}}),
            json!({"@id": "https://a.example/2", "id": "https://a.example/1"}),
            json!({"type": "Note", "@type": "Delete"}),
            json!({"to": {"@set": ["as:Public"]}}),
            json!({"to": {"@list": ["as:Public"]}}),
            json!({"@index": "x"}),
            json!({"@json": "x"}),
            json!({"as:object": "https://a.example/2"}),
            json!({"https://www.w3.org/ns/activitystreams#to": "as:Public"}),
            json!([{"object": {"@context": {"object": "ex:o"}}}]),
            json!({"object": {"@context": null}}),
        ];
        for doc in docs {
            assert!(restructured(&doc).is_some(), "{doc}");
        }
        // Each thing that moves or renames, as deep as documents go.
        let deep = |inner: &Value, levels: usize| {
            (0..levels).fold(inner.clone(), |inner, level| match level % 3 {
                0 => json!({ "object": inner }),
                1 => json!({ "tag": [{ "type": "Note" }, inner] }),
                _ => json!([{ "attachment": inner }]),
            })
        };
        for inner in [
            json!({"@graph": []}),
            json!({"@included": {}}),
            json!({"@reverse": {}}),
            json!({"@nest": {}}),
            json!({"@id": "https://a.example/1"}),
            json!({"@type": "Note"}),
            json!({"as:actor": "https://a.example/u"}),
            json!({"https://www.w3.org/ns/activitystreams#actor": "https://a.example/u"}),
            json!({"@context": {"uri": "@id"}}),
            json!({"@context": [{"kind": "@type"}]}),
            json!({"@context": {"actor": "ex:actor"}}),
            json!({"@context": ["https://www.w3.org/ns/activitystreams", {"victim": "as:object"}]}),
            json!({"@context": {"x": {"@id": "ex:x", "@context": {"id": "ex:id"}}}}),
        ] {
            for levels in 0..12 {
                assert!(restructured(&deep(&inner, levels)).is_some(), "{levels} above {inner}");
                assert_eq!(restructured(&deep(&json!({"content": "x"}), levels)), None);
            }
        }
        let plain = json!({"content": {"@value": "x", "@language": "en"}, "when": {"@value": "1", "@type": "xsd:int"}});
        assert_eq!(restructured(&plain), None);
    }
}

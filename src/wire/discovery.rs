//! How servers find each other: WebFinger (RFC 7033), host-meta (RFC 6415), NodeInfo (FEP-f1d5), and the two ways to a
//! server's actor (FEP-d556, FEP-2677). Our answers, and the reading of theirs.

use serde_json::{Value, json};
use url::Url;

use crate::ids::Iri;
use crate::wire::author::OurIds;

const ACTIVITY_JSON: &str = "application/activity+json";
const LD_JSON: &str = "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"";
const SERVICE_REL: &str = "https://www.w3.org/ns/activitystreams#Service";
const APPLICATION_REL: &str = "https://www.w3.org/ns/activitystreams#Application";
const NODEINFO_REL: &str = "http://nodeinfo.diaspora.software/ns/schema/";

/// What we call ourselves in NodeInfo.
pub const SOFTWARE: &str = "shearwater";

/// The most links of a JRD or NodeInfo index we look at.
const MAX_LINKS: usize = 64;

/// The longest software name or version we keep, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The answer to `?resource=…` (percent-decoded once) about one of our actors; `None` if it is about anybody else.
/// Mastodon will not accept a relay whose `self` link does not lead back to the actor.
#[must_use]
pub fn webfinger(ids: &OurIds, resource: &str) -> Option<Value> {
    let home = format!("{}/", ids.origin);
    if is_our_account(ids, resource) || same_url(resource, ids.actor.as_str()) {
        return Some(json!({
            "subject": format!("acct:{}@{}", ids.username, ids.host()),
            "aliases": [ids.actor, home],
            "links": [
                { "rel": "self", "type": ACTIVITY_JSON, "href": ids.actor },
                { "rel": "http://webfinger.net/rel/profile-page", "type": "text/html", "href": home },
            ],
        }));
    }
    // FEP-d556: who asks for the origin wants the server's actor.
    same_url(resource, &home).then(|| {
        json!({
            "subject": home,
            "links": [
                { "rel": SERVICE_REL, "type": ACTIVITY_JSON, "href": ids.actor },
                { "rel": "self", "type": ACTIVITY_JSON, "href": ids.actor },
            ],
        })
    })
}

fn is_our_account(ids: &OurIds, resource: &str) -> bool {
    let account = match resource.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("acct") => rest,
        _ => resource,
    };
    let account = account.strip_prefix('@').unwrap_or(account);
    account.rsplit_once('@').is_some_and(|(name, host)| {
        name.eq_ignore_ascii_case(&ids.username) && host.eq_ignore_ascii_case(ids.host().as_str())
    })
}

/// Compares as URLs: host and scheme in any case, the default port, a missing slash after the host.
fn same_url(resource: &str, ours: &str) -> bool {
    match (Url::parse(resource), Url::parse(ours)) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    }
}

/// host-meta, as XRD: Mastodon's fallback when WebFinger answers 404.
#[must_use]
pub fn host_meta(ids: &OurIds) -> String {
    let origin = &ids.origin;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <XRD xmlns=\"http://docs.oasis-open.org/ns/xri/xrd-1.0\">\n  \
         <Link rel=\"lrdd\" template=\"{origin}/.well-known/webfinger?resource={{uri}}\"/>\n\
         </XRD>\n"
    )
}

/// The index at `/.well-known/nodeinfo`, with FEP-2677's link to the server's actor.
#[must_use]
pub fn nodeinfo_links(ids: &OurIds) -> Value {
    let link = |version: &str| json!({ "rel": format!("{NODEINFO_REL}{version}"), "href": format!("{}/nodeinfo/{version}", ids.origin) });
    json!({ "links": [link("2.1"), link("2.0"), { "rel": APPLICATION_REL, "href": ids.actor }] })
}

/// The NodeInfo document, `"2.0"` or else 2.1. No users: a relay has none, and zeros would be a claim.
#[must_use]
pub fn nodeinfo(version: &str, ids: &OurIds, software_version: &str, name: &str, description: &str) -> Value {
    let software = if version == "2.0" {
        json!({ "name": SOFTWARE, "version": software_version })
    } else {
        json!({ "name": SOFTWARE, "version": software_version, "homepage": format!("{}/", ids.origin) })
    };
    json!({
        "version": if version == "2.0" { "2.0" } else { "2.1" },
        "software": software,
        "protocols": ["activitypub"],
        "services": { "inbound": [], "outbound": [] },
        "openRegistrations": false,
        "usage": { "users": {} },
        "metadata": { "nodeName": name, "nodeDescription": description, "federation": { "enabled": true } },
    })
}

/// The address of the newest NodeInfo document of schema 2.x in a server's index. An `http` or `https` URL; whether it
/// is on that server is for the caller to check (a `data:` URL here was CVE-2026-62857 in Fedify).
#[must_use]
pub fn parse_nodeinfo_links(index: &Value) -> Option<String> {
    let links = index.get("links")?.as_array()?;
    let documents = links.iter().take(MAX_LINKS).filter_map(|link| {
        let rel = link.get("rel")?.as_str()?;
        let version = rel.strip_prefix(NODEINFO_REL).or_else(|| {
            // Some write the schema's name with https.
            rel.strip_prefix("https").and_then(|rest| rest.strip_prefix(&NODEINFO_REL["http".len()..]))
        })?;
        let minor: u8 = version.strip_prefix("2.")?.parse().ok()?;
        let href = link.get("href")?.as_str()?;
        Iri::parse(href).ok().map(|href| (minor, href.as_str().to_owned()))
    });
    documents.max_by_key(|(minor, _href)| *minor).map(|(_minor, href)| href)
}

/// What a server runs, as its NodeInfo says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Lower case; letters, digits, `-`, `_` and `.` only, at most 64.
    pub name: String,
    /// Printable ASCII, at most 64 characters; empty if not told.
    pub version: String,
}

/// Reads a NodeInfo document's `software`; `None` if it has none or one whose name is no name.
#[must_use]
pub fn parse_nodeinfo(document: &Value) -> Option<Software> {
    let software = document.get("software")?;
    let name = software.get("name")?.as_str()?.trim().to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(fits) {
        return None;
    }
    let version = software.get("version").and_then(Value::as_str).unwrap_or_default();
    let version = version.chars().filter(|c| matches!(c, ' '..='~')).take(MAX_NAME_CHARS).collect();
    Some(Software { name, version })
}

/// The actor that a WebFinger answer's `self` link leads to, by the types that Mastodon looks for.
#[must_use]
pub fn parse_webfinger_self(jrd: &Value) -> Option<Iri> {
    let links = jrd.get("links")?.as_array()?;
    links.iter().take(MAX_LINKS).find_map(|link| {
        if link.get("rel")?.as_str()? != "self" || !matches!(link.get("type")?.as_str()?, ACTIVITY_JSON | LD_JSON) {
            return None;
        }
        Iri::parse(link.get("href")?.as_str()?).ok()
    })
}

/// What a server's software lets us send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Checks LD signatures on forwarded posts.
    Mastodon,
    /// Checks them too, and before 2026.5 shows Announces as renotes by the relay.
    Misskey,
    /// Announce to it.
    Other,
}

/// The family of a software, by its NodeInfo name. Iceshrimp.NET calls itself `iceshrimp.net` and is none of Misskey's.
#[must_use]
pub fn family(software: &str) -> Family {
    match software.to_ascii_lowercase().as_str() {
        "mastodon" | "glitch-soc" | "hometown" | "kmyblue" | "fedibird" => Family::Mastodon,
        "misskey" | "sharkey" | "firefish" | "cherrypick" | "foundkey" | "iceshrimp" | "catodon" => Family::Misskey,
        _ => Family::Other,
    }
}

/// Whether a software is a relay, by its NodeInfo name: such followers wait for the operator, since two relays that
/// feed each other are a loop.
#[must_use]
pub fn is_relay(software: &str) -> bool {
    matches!(
        software.to_ascii_lowercase().as_str(),
        SOFTWARE
            | "activity-relay"
            | "activityrelay"
            | "activity-pub-relay"
            | "aoderelay"
            | "aode-relay"
            | "buzzrelay"
            | "fedi-buzz"
            | "fedibuzz"
            | "feditools-relay"
            | "pub-relay"
            | "relay"
            | "selective-relay"
            | "social.seattle.wa.us-relay"
            | "unciarelay"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    fn ids() -> OurIds {
        OurIds::new("https://relay.example", "/actor", "main-key", "relay").expect("ids")
    }

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).expect("JSON")
    }

    #[test]
    fn webfinger_knows_our_actor_by_all_its_names_and_nobody_else() {
        let account = value(include_str!("../../tests/fixtures/signed/webfinger-acct.json"));
        let host = value(include_str!("../../tests/fixtures/signed/webfinger-host.json"));
        let table = [
            ("acct:relay@relay.example", Some(&account)),
            ("ACCT:Relay@Relay.Example", Some(&account)),
            ("relay@relay.example", Some(&account)),
            ("@relay@relay.example", Some(&account)),
            ("https://relay.example/actor", Some(&account)),
            ("https://RELAY.example:443/actor", Some(&account)),
            ("https://relay.example/", Some(&host)),
            ("https://relay.example", Some(&host)),
            ("https://Relay.Example", Some(&host)),
            ("http://relay.example/", None),
            ("https://relay.example/actor/", None),
            ("https://relay.example/actor#main-key", None),
            ("https://relay.example/?x", None),
            ("https://relay.example.evil/actor", None),
            ("acct:other@relay.example", None),
            ("acct:relay@other.example", None),
            ("acct:relay@relay.example@other.example", None),
            ("acct:relay", None),
            ("relay", None),
            ("", None),
            ("mailto:relay@relay.example", None),
        ];
        for (resource, expected) in table {
            assert_eq!(webfinger(&ids(), resource).as_ref(), expected, "{resource}");
        }
        assert_eq!(parse_webfinger_self(&account), Iri::parse("https://relay.example/actor").ok());
        let odd = OurIds::new("http://127.0.0.1:4101", "/actor", "main-key", "relay").expect("ids");
        assert!(webfinger(&odd, "acct:relay@127.0.0.1:4101").is_some());
        assert!(webfinger(&odd, "acct:relay@127.0.0.1").is_none());
    }

    #[test]
    fn our_other_answers_are_those_of_the_vectors() {
        assert_eq!(host_meta(&ids()), include_str!("../../tests/fixtures/signed/host-meta.xml"));
        assert_eq!(nodeinfo_links(&ids()), value(include_str!("../../tests/fixtures/signed/nodeinfo-discovery.json")));
        for (version, vector) in [
            ("2.0", include_str!("../../tests/fixtures/signed/nodeinfo-2.0.json")),
            ("2.1", include_str!("../../tests/fixtures/signed/nodeinfo-2.1.json")),
        ] {
            let made =
                nodeinfo(version, &ids(), "0.1.0", "relay.example", "Public-post relay and opt-in search indexer");
            let mut expected = value(vector);
            expected["software"]["name"] = json!("shearwater");
            if let Some(software) = expected["software"].as_object_mut() {
                software.remove("repository");
            }
            assert_eq!(made, expected);
            let software = parse_nodeinfo(&made).expect("software");
            assert_eq!((software.name.as_str(), software.version.as_str()), ("shearwater", "0.1.0"));
        }
        let newest = parse_nodeinfo_links(&nodeinfo_links(&ids()));
        assert_eq!(newest.as_deref(), Some("https://relay.example/nodeinfo/2.1"));
    }

    #[test]
    fn their_nodeinfo_is_read_with_care() {
        let link = |rel: &str, href: &str| json!({"rel": rel, "href": href});
        let schema = |version: &str| format!("http://nodeinfo.diaspora.software/ns/schema/{version}");
        let a = "https://a.example/n/";
        let table = [
            (json!({"links": [link(&schema("2.0"), a)]}), Some(a)),
            (json!({"links": [link(&schema("2.0"), "https://a.example/0"), link(&schema("2.1"), a)]}), Some(a)),
            (json!({"links": [link(&schema("2.2"), a), link(&schema("2.1"), "https://a.example/1")]}), Some(a)),
            (json!({"links": [link("https://nodeinfo.diaspora.software/ns/schema/2.0", a)]}), Some(a)),
            (json!({"links": [7, null, {"rel": 1}, link(&schema("2.0"), a)]}), Some(a)),
            (json!({"links": [link(&schema("2.1"), "data:application/json,{}"), link(&schema("2.0"), a)]}), Some(a)),
            (json!({"links": [link(&schema("1.0"), a)]}), None),
            (json!({"links": [link(&schema("2.x"), a)]}), None),
            (json!({"links": [link(&schema("2.0"), "/nodeinfo/2.0")]}), None),
            (json!({"links": [link(&schema("2.0"), "file:///etc/passwd")]}), None),
            (json!({"links": {}}), None),
            (json!([]), None),
        ];
        for (index, expected) in table {
            assert_eq!(parse_nodeinfo_links(&index).as_deref(), expected, "{index}");
        }
        let table = [
            (json!({"software": {"name": "Mastodon", "version": "4.5.15"}}), Some(("mastodon", "4.5.15"))),
            (json!({"software": {"name": "Iceshrimp.NET", "version": "2025.1"}}), Some(("iceshrimp.net", "2025.1"))),
            (json!({"software": {"name": " glitch-soc "}}), Some(("glitch-soc", ""))),
            (json!({"software": {"name": "x", "version": "1\u{1b}[31m\n2"}}), Some(("x", "1[31m2"))),
            (json!({"software": {"name": "x", "version": "1\u{202e}2 \u{e9}\u{200b}3"}}), Some(("x", "12 3"))),
            (json!({"software": {"name": "x", "version": 7}}), Some(("x", ""))),
            (json!({"software": {"name": "a b"}}), None),
            (json!({"software": {"name": "ä"}}), None),
            (json!({"software": {"name": ""}}), None),
            (json!({"software": {"name": "x".repeat(65)}}), None),
            (json!({"software": {"name": 7}}), None),
            (json!({"software": "mastodon"}), None),
            (json!({}), None),
        ];
        for (document, expected) in table {
            let read = parse_nodeinfo(&document);
            let read = read.as_ref().map(|software| (software.name.as_str(), software.version.as_str()));
            assert_eq!(read, expected, "{document}");
        }
        let long = parse_nodeinfo(&json!({"software": {"name": "x", "version": "9".repeat(500)}})).expect("software");
        assert_eq!(long.version.len(), MAX_NAME_CHARS);
    }

    #[test]
    fn a_self_link_must_be_of_a_type_that_counts() {
        let jrd =
            |kind: &str, href: &str| json!({"links": [{"rel": "x"}, {"rel": "self", "type": kind, "href": href}]});
        let a = "https://a.example/actor";
        assert_eq!(parse_webfinger_self(&jrd(ACTIVITY_JSON, a)), Iri::parse(a).ok());
        assert_eq!(parse_webfinger_self(&jrd(LD_JSON, a)), Iri::parse(a).ok());
        for (kind, href) in [("application/json", a), ("text/html", a), (ACTIVITY_JSON, "actor"), (ACTIVITY_JSON, "")] {
            assert_eq!(parse_webfinger_self(&jrd(kind, href)), None, "{kind} {href}");
        }
        for jrd in [json!({}), json!([]), json!({"links": 7}), json!({"links": [null]})] {
            assert_eq!(parse_webfinger_self(&jrd), None, "{jrd}");
        }
    }

    #[test]
    fn software_is_told_by_its_name() {
        let table = [
            ("mastodon", Family::Mastodon, false),
            ("Mastodon", Family::Mastodon, false),
            ("kmyblue", Family::Mastodon, false),
            ("sharkey", Family::Misskey, false),
            ("iceshrimp", Family::Misskey, false),
            ("iceshrimp.net", Family::Other, false),
            ("akkoma", Family::Other, false),
            ("gotosocial", Family::Other, false),
            ("shearwater", Family::Other, true),
            ("aoderelay", Family::Other, true),
            ("activity-relay", Family::Other, true),
            ("ActivityRelay", Family::Other, true),
            ("buzzrelay", Family::Other, true),
            ("", Family::Other, false),
        ];
        for (name, expected, relay) in table {
            assert_eq!((family(name), is_relay(name)), (expected, relay), "{name}");
        }
    }
}

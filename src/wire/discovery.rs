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
    /// Printable, at most 64 characters; empty if not told.
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
    let version = version.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
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
    )
}

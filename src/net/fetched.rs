//! What may be believed of a document that came back: its content type, and whether its id fits the URLs it was asked for
//! and came from. Pure; the one place where requested URL, final URL and id are compared (Misskey compared them in two
//! places, CVE-2024-52591 and CVE-2025-25306 came of it). The fetching is `signed`'s.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;
use thiserror::Error;
use url::Url;

use super::client::NetFault;
use super::guard::Refused;
use crate::clock::Timestamp;
use crate::ids::Iri;

/// The profile that makes JSON-LD an ActivityPub document (ActivityPub section 3.2).
const AS2_PROFILE: &str = "https://www.w3.org/ns/activitystreams";

/// A document that its own origin serves under its own id.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The document's `id`, verified: what it may be remembered under. Same origin as the URL asked for; differs from it
    /// only where that URL leads to the document (GoToSocial's key URLs, `/@name` pages).
    pub id: Iri,
    /// The document, read strictly.
    pub value: Value,
    /// Its bytes as they came.
    pub bytes: Bytes,
    /// When it was asked for: what it says may be as old as that.
    pub asked_at: Timestamp,
    /// Its `ETag` (RFC 9110 section 8.8.3), if it has one of a length that is worth keeping: to ask whether it changed.
    pub etag: Option<HeaderValue>,
}

/// JSON that is no ActivityPub document: WebFinger, NodeInfo.
#[derive(Debug, Clone)]
pub struct JsonAnswer {
    /// Where it came from in the end, redirects followed.
    pub url: Url,
    /// The document, read strictly.
    pub value: Value,
}

/// A kind of plain JSON document: what to ask for, what to take, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct JsonKind {
    /// The `Accept` header.
    pub accept: &'static str,
    /// Content types taken, lower case, without parameters.
    pub types: &'static [&'static str],
    /// Bytes read at most.
    pub limit: usize,
}

impl JsonKind {
    /// WebFinger (RFC 7033 section 10.2).
    pub const WEBFINGER: Self = Self {
        accept: "application/jrd+json, application/json",
        types: &["application/jrd+json", "application/json"],
        limit: 64 * 1024,
    };

    /// NodeInfo and its discovery document.
    pub const NODEINFO: Self =
        Self { accept: "application/json", types: &["application/json", "application/jrd+json"], limit: 256 * 1024 };
}

/// Why there is no document. What the origin answered is told apart from what we could not find out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchFault {
    /// It does not exist: 404, or 410, which alone says that it is gone for good.
    #[error("the origin answers {status}")]
    Gone {
        /// 404 or 410.
        status: u16,
    },
    /// It is not for us: 401 or 403, with both signature profiles.
    #[error("the origin answers {status}")]
    Forbidden {
        /// 401 or 403.
        status: u16,
    },
    /// Nothing is known; the word says why: a network fault, `5xx`, `429`, `resting`, `busy`.
    #[error("not readable just now: {0}")]
    TryLater(&'static str),
    /// We do not go there; nothing was sent.
    #[error("refused: {0}")]
    Refused(Refused),
    /// It came, and is not to be believed.
    #[error("{0}")]
    Invalid(String),
    /// It is as it was, and that was asked.
    #[error("it did not change")]
    Unchanged,
}

impl FetchFault {
    /// One word for metrics labels.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Gone { .. } => "gone",
            Self::Forbidden { .. } => "forbidden",
            Self::TryLater(word) => word,
            Self::Refused(_) => "refused",
            Self::Invalid(_) => "invalid",
            Self::Unchanged => "unchanged",
        }
    }
}

impl From<NetFault> for FetchFault {
    fn from(fault: NetFault) -> Self {
        match fault {
            NetFault::Refused(refused) => Self::Refused(refused),
            NetFault::Exhausted => Self::TryLater("busy"),
            NetFault::TooBig => Self::Invalid("the document is too big".to_owned()),
            NetFault::Coding => Self::Invalid(fault.to_string()),
            NetFault::Dns
            | NetFault::Connect
            | NetFault::Tls
            | NetFault::Protocol
            | NetFault::Timeout
            | NetFault::Broken => Self::TryLater(fault.word()),
        }
    }
}

/// What a status other than 200 means.
pub(super) fn status_fault(status: u16) -> FetchFault {
    match status {
        404 | 410 => FetchFault::Gone { status },
        401 | 403 => FetchFault::Forbidden { status },
        429 => FetchFault::TryLater("429"),
        408 | 425 => FetchFault::TryLater("timeout"),
        500..=599 => FetchFault::TryLater("5xx"),
        _ => FetchFault::Invalid(format!("the origin answers {status}")),
    }
}

/// Whether a content type is that of an ActivityPub document: `application/activity+json`, or `application/ld+json` with
/// the AS2 profile. Nothing more lenient: uploads on media hosts could be passed off as documents (GHSA-jhrq-qvrm-qr36).
#[must_use]
pub fn is_document(content_type: Option<&str>) -> bool {
    let Some((essence, parameters)) = content_type.map(split_type) else { return false };
    match essence.as_str() {
        "application/activity+json" => true,
        "application/ld+json" => {
            parameters.split(';').filter_map(|parameter| parameter.split_once('=')).any(|(name, value)| {
                let value = value.trim().trim_matches('"');
                name.trim().eq_ignore_ascii_case("profile") && value.split_ascii_whitespace().any(|p| p == AS2_PROFILE)
            })
        }
        _ => false,
    }
}

/// Whether a content type is one of these.
#[must_use]
pub fn is_one_of(content_type: Option<&str>, types: &[&str]) -> bool {
    content_type.is_some_and(|text| types.contains(&split_type(text).0.as_str()))
}

fn split_type(text: &str) -> (String, &str) {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    (essence.trim().to_ascii_lowercase(), parameters)
}

/// What to do with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is what its id says.
    Take,
    /// It may be: ask for its id, and believe only that.
    AskAgain,
    /// It is not of the origin that was asked, or claims an id that leads elsewhere.
    Refuse,
}

/// Compares the three names of a document: the URL asked for, the URL it came from after redirects, and its `id`.
/// `again`: this is already the second request, made for the id that the first document claimed.
///
/// A document is believed when its own origin, and no other, served it under its id.
#[must_use]
pub fn judge(requested: &Iri, came_from: &Iri, id: &Iri, again: bool) -> Verdict {
    let at_home = came_from.same_origin(requested);
    if at_home && id == requested {
        return Verdict::Take;
    }
    if again {
        return Verdict::Refuse;
    }
    if at_home && id == came_from {
        return Verdict::Take;
    }
    // Its claimed id was asked for already, and led elsewhere.
    if id == requested || !id.same_origin(requested) {
        return Verdict::Refuse;
    }
    Verdict::AskAgain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_activitypub_content_types_are_documents() {
        let profile = "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams\"";
        let taken = [
            "application/activity+json",
            "application/activity+json; charset=utf-8",
            "Application/Activity+JSON;charset=UTF-8",
            " application/activity+json ",
            profile,
            "application/ld+json;profile=\"https://www.w3.org/ns/activitystreams\"; charset=utf-8",
            "application/ld+json; charset=utf-8; PROFILE=\"https://www.w3.org/ns/activitystreams\"",
            "APPLICATION/LD+JSON; profile=https://www.w3.org/ns/activitystreams",
            "application/ld+json; profile=\"https://example.org/p https://www.w3.org/ns/activitystreams\"",
        ];
        for text in taken {
            assert!(is_document(Some(text)), "{text}");
        }
        let refused = [
            "",
            "application/json",
            "application/json; profile=\"https://www.w3.org/ns/activitystreams\"",
            "application/ld+json",
            "application/ld+json; charset=utf-8",
            "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams#\"",
            "application/ld+json; profile=\"https://www.w3.org/ns/activitystreams/evil\"",
            "application/ld+json; x-profile=\"https://www.w3.org/ns/activitystreams\"",
            "application/ld+json; profile=\"\"",
            "application/activity+json2",
            "application/activity",
            "application/x-activity+json",
            "application/jrd+json",
            "application/octet-stream",
            "text/html",
            "text/plain",
            "text/plain; application/activity+json",
            "text/json",
            "image/png",
            "*/*",
            "application/activity+json, text/html",
        ];
        for text in refused {
            assert!(!is_document(Some(text)), "{text}");
        }
        assert!(!is_document(None));
        assert!(is_one_of(Some("Application/JRD+json; charset=utf-8"), JsonKind::WEBFINGER.types));
        assert!(!is_one_of(Some("text/html"), JsonKind::WEBFINGER.types));
    }

    #[test]
    fn what_is_no_document_of_ours_is_read_in_small() {
        assert_eq!((JsonKind::WEBFINGER.limit, JsonKind::NODEINFO.limit), (65_536, 262_144));
    }

    #[test]
    fn a_document_is_believed_only_where_its_own_origin_serves_it_under_its_id() {
        use Verdict::{AskAgain, Refuse, Take};
        let table = [
            // requested, came from, id, first time, second time
            ("https://a/1", "https://a/1", "https://a/1", Take, Take),
            // GoToSocial's key URL, a page's URL: the id is elsewhere on the same origin.
            ("https://a/1", "https://a/1", "https://a/2", AskAgain, Refuse),
            // Somebody else's id.
            ("https://a/1", "https://a/1", "https://b/1", Refuse, Refuse),
            ("https://a/1", "https://a/1", "http://a/1", Refuse, Refuse),
            ("https://a/1", "https://a/1", "https://a:8443/1", Refuse, Refuse),
            // A redirect at home, to the canonical URL or back to an alias.
            ("https://a/1", "https://a/2", "https://a/2", Take, Refuse),
            ("https://a/1", "https://a/2", "https://a/1", Take, Take),
            ("https://a/1", "https://a/2", "https://a/3", AskAgain, Refuse),
            ("https://a/1", "https://a/2", "https://b/3", Refuse, Refuse),
            // A redirect abroad (GHSA-8863-8468-7hq7): the answer speaks for the other origin, never for this one.
            ("https://a/1", "https://b/1", "https://a/1", Refuse, Refuse),
            ("https://a/1", "https://b/1", "https://b/1", Refuse, Refuse),
            ("https://a/1", "https://b/1", "https://a/2", AskAgain, Refuse),
            ("https://a/1", "https://b/1", "https://c/1", Refuse, Refuse),
            ("https://a/1", "https://a.b/1", "https://a.b/1", Refuse, Refuse),
        ];
        let iri = |text| Iri::parse(text).unwrap();
        for (requested, came_from, id, first, second) in table {
            let (r, c, i) = (iri(requested), iri(came_from), iri(id));
            assert_eq!(judge(&r, &c, &i, false), first, "{requested} {came_from} {id}");
            assert_eq!(judge(&r, &c, &i, true), second, "again: {requested} {came_from} {id}");
        }
    }

    #[test]
    fn statuses_say_what_is_known() {
        assert_eq!(status_fault(404), FetchFault::Gone { status: 404 });
        assert_eq!(status_fault(410), FetchFault::Gone { status: 410 });
        assert_eq!(status_fault(403), FetchFault::Forbidden { status: 403 });
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert!(matches!(status_fault(status), FetchFault::TryLater(_)), "{status}");
        }
        for status in [201, 204, 206, 300, 304, 400, 405, 406, 418, 451] {
            assert!(matches!(status_fault(status), FetchFault::Invalid(_)), "{status}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_believed_across_origins(
            names in prop::array::uniform3("https?://[ab]\\.example(:8443)?/[12]"),
            again: bool,
        ) {
            let [requested, came_from, id] = names.map(|name| Iri::parse(&name).unwrap());
            match judge(&requested, &came_from, &id, again) {
                Verdict::Take => {
                    prop_assert!(id.same_origin(&requested) && id.same_origin(&came_from));
                    prop_assert!(id == requested || !again && id == came_from);
                }
                Verdict::AskAgain => prop_assert!(!again && id.same_origin(&requested) && id != requested),
                Verdict::Refuse => prop_assert!(id != requested || !id.same_origin(&came_from)),
            }
        }

        #[test]
        fn a_content_type_counts_by_its_essence(text in "[a-z/+; =\"-]{0,30}", tail in ".{0,20}") {
            prop_assert!(!is_document(Some(&text)) || text.trim_start().starts_with("application/"));
            prop_assert!(!is_document(Some(&format!("text/html;{tail}"))), "by a parameter");
            prop_assert!(is_document(Some(&format!("application/activity+json;{tail}"))), "by a parameter");
            prop_assert!(!is_document(Some(&format!("application/ld+json;{text}"))), "by a parameter");
        }
    }
}

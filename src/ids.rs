//! Names of things, parsed once at the edge and trusted afterwards: [`Iri`] (an id as its origin spells it),
//! [`Authority`] (host and port: what subscribers, keys, breakers and caches are keyed by) and [`Seq`] (a place in the
//! log).
//!
//! Ids are compared byte for byte and never normalised (FEP-fe34, and because other servers do the same): an id whose
//! origin is not already spelt canonically is refused instead of repaired, so that two spellings can never mean one
//! thing here and two things there.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use url::Url;
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};

/// The longest id we take, in bytes.
pub const MAX_IRI_BYTES: usize = 2048;

/// The three spellings of the public audience that servers really send (ActivityPub section 5.6; `as:Public` and
/// `Public` come out of compact JSON-LD).
pub const PUBLIC: [&str; 3] = ["https://www.w3.org/ns/activitystreams#Public", "as:Public", "Public"];

/// Whether `id` names the public audience in any of its spellings.
#[must_use]
pub fn is_public(id: &str) -> bool {
    PUBLIC.contains(&id)
}

/// Why a string is not an id we take. The text is fit for the other server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IriFault {
    /// Over [`MAX_IRI_BYTES`].
    #[error("longer than 2048 bytes")]
    TooLong,
    /// Not an absolute URL.
    #[error("not an absolute URL")]
    NotAUrl,
    /// A scheme other than http and https.
    #[error("its scheme is neither https nor http")]
    Scheme,
    /// A user name or password in the authority.
    #[error("it carries credentials")]
    Credentials,
    /// The origin is not spelt canonically: upper case, default port, trailing dot, odd number forms, raw IDN.
    #[error("its origin is not in canonical form")]
    NotCanonical,
    /// White space, control characters, backslashes, or dot segments.
    #[error("it holds white space, control characters, backslashes or dot segments")]
    BadCharacter,
}

/// An `http(s)` id exactly as its origin spells it, with its origin known. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Iri {
    text: Arc<str>,
    origin_len: u16,
}

impl Iri {
    /// Takes an id.
    ///
    /// # Errors
    /// [`IriFault`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, IriFault> {
        if text.len() > MAX_IRI_BYTES {
            return Err(IriFault::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || turns(c) || c == '\\') {
            return Err(IriFault::BadCharacter);
        }
        let url = Url::parse(text).map_err(|_cause| IriFault::NotAUrl)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(IriFault::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(IriFault::Credentials);
        }
        let origin = url.origin().ascii_serialization();
        if url.host_str().is_none_or(|host| host.is_empty() || host.ends_with('.')) || !text.starts_with(&origin) {
            return Err(IriFault::NotCanonical);
        }
        let rest = &text[origin.len()..];
        if !(rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
            return Err(IriFault::NotCanonical);
        }
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        if path.split('/').any(is_dot_segment) {
            return Err(IriFault::BadCharacter);
        }
        let origin_len = u16::try_from(origin.len()).map_err(|_cause| IriFault::TooLong)?;
        Ok(Self { text: text.into(), origin_len })
    }

    /// The id, byte for byte.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host and port: `https://host` or `https://host:8443`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.text[..usize::from(self.origin_len)]
    }

    /// Host and, where it is not the scheme's default, port.
    #[must_use]
    pub fn authority(&self) -> Authority {
        let origin = self.origin();
        let start = origin.find("://").map_or(0, |at| at + 3);
        Authority(origin[start..].into())
    }

    /// The two have the same scheme, host and port (FEP-fe34).
    #[must_use]
    pub fn same_origin(&self, other: &Self) -> bool {
        self.origin() == other.origin()
    }

    /// This id without its fragment: the document it is found in.
    #[must_use]
    pub fn without_fragment(&self) -> Self {
        match self.text.find('#') {
            Some(at) => Self { text: self.text[..at].into(), origin_len: self.origin_len },
            None => self.clone(),
        }
    }

    /// The first half of a SHA-256 of it, for tables: two ids of one key are nothing that anybody finds.
    #[must_use]
    pub fn key(&self) -> u128 {
        let digest = Sha256::digest(self.text.as_bytes());
        digest.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
    }

    /// As a URL to fetch.
    #[must_use]
    pub fn url(&self) -> Url {
        #[expect(clippy::expect_used, reason = "`parse` took this very text through the same parser")]
        Url::parse(&self.text).expect("an Iri is a URL")
    }
}

/// Characters that turn the direction of writing: an id with one is not what it looks like.
pub(crate) const fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character may stand in a stranger's text where it is shown: it moves no cursor, begins no command to a terminal
/// (those of eight bits among them), and turns no writing round.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !c.is_control() && !turns(c)
}

/// A stranger's words as they may be shown: in place of what is not plain stands a mark, so that it is seen that something was
/// there.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

fn is_dot_segment(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

impl fmt::Display for Iri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Iri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl utoipa::PartialSchema for Iri {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::Custom("uri".to_owned());
        let about = "An id, exactly as its origin spells it.";
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).description(Some(about)).into()
    }
}

impl utoipa::ToSchema for Iri {}

impl utoipa::PartialSchema for Authority {
    fn schema() -> RefOr<Schema> {
        let about = "A server: its name, and its port if that is not 443.";
        ObjectBuilder::new().schema_type(Type::String).description(Some(about)).examples(["small.example"]).into()
    }
}

impl utoipa::ToSchema for Authority {}

impl Serialize for Iri {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Iri {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Host and port of a server, lower case, punycode, default port left out: `social.example`, `127.0.0.1:4101`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority(Arc<str>);

impl TryFrom<String> for Authority {
    type Error = IriFault;

    /// Reads what [`Authority::as_str`] wrote. Not quite what people type: of an `http` id on port 443 the port is part of
    /// the name.
    fn try_from(text: String) -> Result<Self, IriFault> {
        match Iri::parse(&format!("http://{text}/")).map(|iri| iri.authority()) {
            Ok(authority) if authority.as_str() == text => Ok(authority),
            _ => Self::parse(&text),
        }
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        authority.0.as_ref().to_owned()
    }
}

impl Authority {
    /// Reads what an operator typed: `social.example` or `social.example:8443`, in any case, IDN allowed.
    ///
    /// # Errors
    /// [`IriFault`] if it is no host name.
    pub fn parse(text: &str) -> Result<Self, IriFault> {
        let url = Url::parse(&format!("https://{}/", text.trim())).map_err(|_cause| IriFault::NotAUrl)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(IriFault::NotAUrl);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(IriFault::Credentials);
        }
        Ok(Iri::parse(url.as_str())?.authority())
    }

    /// `host` or `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host alone, brackets kept on IPv6.
    #[must_use]
    pub fn host(&self) -> &str {
        match self.0.rfind(':') {
            Some(at) if !self.0[at..].contains(']') => &self.0[..at],
            _ => &self.0,
        }
    }

    /// The registrable domain (public suffix list, ICANN and private part); the host itself where there is none, such as
    /// for an address, which then counts with its port as servers on loopback do.
    #[must_use]
    pub fn registrable(&self) -> &str {
        let host = self.host();
        if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
            return &self.0;
        }
        psl::domain_str(host).unwrap_or(host)
    }

    /// Whether the host is an address, or a name as servers really have: labels of letters, digits, `-` and `_`. URLs
    /// allow others, and empty labels.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(plain);
        self.host().starts_with('[') || self.host().split('.').all(label)
    }

    /// Whether this is `domain` or one of its subdomains. Compares whole labels: `example.co` is not `example.com`.
    #[must_use]
    pub fn is_within(&self, domain: &str) -> bool {
        let host = self.host();
        host == domain || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in the activity log: 1 is the first entry ever written; 0 is before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_taken_as_spelt_or_not_at_all() {
        let taken = [
            "https://a.example/users/x",
            "https://a.example",
            "https://a.example/users/x#main-key",
            "https://a.example/%7Ex/ゆ?q=1",
            "http://127.0.0.1:4101/actor",
            "https://[2001:db8::1]:8443/a",
            "https://xn--bcher-kva.example/a",
        ];
        for text in taken {
            assert_eq!(Iri::parse(text).map(|iri| iri.as_str().to_owned()), Ok(text.to_owned()), "{text}");
        }
        let refused = [
            ("https://A.example/x", IriFault::NotCanonical),
            ("HTTPS://a.example/x", IriFault::NotCanonical),
            ("https://a.example:443/x", IriFault::NotCanonical),
            ("https://a.example./x", IriFault::NotCanonical),
            ("https://bücher.example/x", IriFault::NotCanonical),
            ("https://2130706433/x", IriFault::NotCanonical),
            ("https://0x7f.1/x", IriFault::NotCanonical),
            ("https://u@a.example/x", IriFault::Credentials),
            ("https://u:p@a.example/x", IriFault::Credentials),
            ("ftp://a.example/x", IriFault::Scheme),
            ("data:text/plain,x", IriFault::Scheme),
            ("/users/x", IriFault::NotAUrl),
            ("", IriFault::NotAUrl),
            ("https://a.example/x y", IriFault::BadCharacter),
            ("https:\\\\a.example/x", IriFault::BadCharacter),
            ("https://a.example/u/\u{202e}ada", IriFault::BadCharacter),
            ("https://a.example/u/ada\u{2066}", IriFault::BadCharacter),
            ("https://a.example/u/\u{200e}ada", IriFault::BadCharacter),
            ("https://a.example/?\u{61c}", IriFault::BadCharacter),
            ("https://a.example/u/../v", IriFault::BadCharacter),
            ("https://a.example/u/%2E%2e/v", IriFault::BadCharacter),
            ("https:/a.example/x", IriFault::NotCanonical),
        ];
        for (text, fault) in refused {
            assert_eq!(Iri::parse(text), Err(fault), "{text}");
        }
        assert_eq!(Iri::parse(&format!("https://a.example/{}", "x".repeat(3000))), Err(IriFault::TooLong));
    }

    #[test]
    fn origins_are_compared_whole() {
        let iri = |text| Iri::parse(text).expect("test id");
        assert!(iri("https://a.example/1").same_origin(&iri("https://a.example/2")));
        for other in
            ["https://a.example.evil/1", "http://a.example/1", "https://a.example:8443/1", "https://a.exampl/1"]
        {
            assert!(!iri("https://a.example/1").same_origin(&iri(other)), "{other}");
        }
        assert!(!iri("http://127.0.0.1:910/1").same_origin(&iri("http://127.0.0.1:9101/1")));
    }

    #[test]
    fn an_authority_reads_what_people_type() {
        let read = |text| Authority::parse(text).map(|a| a.as_str().to_owned());
        assert_eq!(read("Social.Example"), Ok("social.example".into()));
        assert_eq!(read("bücher.example"), Ok("xn--bcher-kva.example".into()));
        assert_eq!(read("social.example:443"), Ok("social.example".into()));
        assert!(read("social.example/x").is_err());
        assert!(read("a@b").is_err());
        assert_eq!(Authority::parse("127.0.0.1:80").map(|a| a.host().to_owned()), Ok("127.0.0.1".into()));
        assert_eq!(Authority::parse("[::1]").map(|a| a.host().to_owned()), Ok("[::1]".into()));
    }

    #[test]
    fn an_authority_is_read_back_as_it_was_written() {
        for text in [
            "https://a.example/",
            "https://a.example:80/",
            "http://a.example/",
            "http://a.example:443/",
            "http://[::1]:443/",
            "http://127.0.0.1:4101/",
        ] {
            let authority = Iri::parse(text).unwrap().authority();
            let written = serde_json::to_string(&authority).unwrap();
            assert_eq!(serde_json::from_str::<Authority>(&written).unwrap(), authority, "{text}");
        }
        for text in ["", "a b", "a.example/x", "u@a.example", "a.example?x"] {
            assert!(serde_json::from_str::<Authority>(&format!("\"{text}\"")).is_err(), "{text}");
        }
    }

    #[test]
    fn the_registrable_domain_is_what_somebody_paid_for() {
        let check = |text: &str, expected: &str| assert_eq!(Authority::parse(text).unwrap().registrable(), expected);
        check("a.b.example.com:8443", "example.com");
        check("example.co.uk", "example.co.uk");
        check("x.example.co.uk", "example.co.uk");
        check("one.github.io", "one.github.io");
        check("localhost", "localhost");
        check("127.0.0.1:4101", "127.0.0.1:4101");
        check("[2001:db8::1]", "[2001:db8::1]");
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_as_it_stands_or_none(text in ".{0,40}", tail in "[a-zA-Z0-9.:/?#@%\\\\\\[\\]\u{e9}\u{3002} -]{0,30}") {
            for text in [text.clone(), format!("https://{tail}"), format!("http://a.example{tail}"), tail] {
                let _ = Authority::parse(&text).map(|authority| {
                    assert_eq!(Authority::parse(authority.as_str()), Ok(authority.clone()));
                    assert!(authority.is_within(authority.host()));
                    assert!(authority.as_str().contains(authority.registrable()));
                });
                let Ok(iri) = Iri::parse(&text) else { continue };
                prop_assert_eq!(iri.as_str(), &text);
                prop_assert_eq!(iri.url().origin().ascii_serialization(), iri.origin());
                prop_assert!(iri.same_origin(&iri.without_fragment()));
                prop_assert!(!iri.without_fragment().as_str().contains('#'));
            }
        }

        #[test]
        fn origins_are_compared_as_the_url_standard_does(
            a in "https?://[ab]\\.example(:[1-9][0-9]{0,3})?(/[a-z]{0,3})?",
            b in "https?://[ab]\\.example(:[1-9][0-9]{0,3})?(/[a-z]{0,3})?",
        ) {
            if let (Ok(a), Ok(b)) = (Iri::parse(&a), Iri::parse(&b)) {
                prop_assert_eq!(a.same_origin(&b), a.url().origin() == b.url().origin());
                prop_assert_eq!(a.same_origin(&b), b.same_origin(&a));
            }
        }
    }

    #[test]
    fn a_plain_name_has_labels_as_servers_have_them() {
        let check =
            |text: &str, expected: bool| assert_eq!(Authority::parse(text).unwrap().is_plain(), expected, "{text}");
        for text in
            ["a.example", "x_y.a-b.example:8443", "bücher.example", "127.0.0.1:81", "[2001:db8::1]:81", "localhost"]
        {
            check(text, true);
        }
        for text in [".\"", "..example", "a..example", "a!b.example", &format!("{}.example", "x".repeat(64))] {
            check(text, false);
        }
    }

    #[test]
    fn subdomains_are_whole_labels() {
        let a = |text| Authority::parse(text).expect("test authority");
        assert!(a("x.example.com").is_within("example.com"));
        assert!(a("example.com:8443").is_within("example.com"));
        assert!(!a("badexample.com").is_within("example.com"));
        assert!(!a("example.co").is_within("example.com"));
    }
}

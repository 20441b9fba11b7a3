//! The sections as structs. What each key means stands in `config/default.toml`, which a test holds equal to these.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `[http]`: the public listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Http {
    pub listen: Listen,
    #[serde(with = "humantime_serde")]
    pub head_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    pub max_body: ByteSize,
    pub connections: usize,
    pub connections_per_address: usize,
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<IpNet>,
    pub inbox_in_flight: usize,
}

/// `[ops]`: what the operator looks at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Ops {
    pub listen: Listen,
    #[serde(deserialize_with = "list")]
    pub hosts: Vec<String>,
    pub log: String,
    pub log_format: LogFormat,
    pub traces: String,
}

/// `[identity]`: the relay's actor and keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Identity {
    pub actor_path: String,
    pub username: String,
    pub key_fragment: String,
    pub rsa_key_file: PathBuf,
    pub ed25519_key_file: PathBuf,
}

/// `[relay]`: joining and relaying.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Relay {
    pub admission: Admission,
    #[serde(deserialize_with = "list")]
    pub allowlist: Vec<String>,
    pub allow_relays: bool,
    pub announce_audience: AnnounceAudience,
    pub replies: bool,
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    pub show_subscribers: bool,
}

/// `[policy]`: whom not to deal with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Policy {
    #[serde(deserialize_with = "list")]
    pub block: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub silence: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub no_search: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub block_software: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub block_actors: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub keywords: Vec<String>,
    pub server_rate: u32,
    pub actor_rate: u32,
    pub dry_run: bool,
    pub max_hashtags: u32,
    pub new_account_mentions: u32,
    pub new_account_links: u32,
    pub repeated_text_authors: u32,
    pub wave_floor: u32,
    pub wave_factor: u32,
    pub probation: bool,
    #[serde(with = "humantime_serde")]
    pub probation_for: Duration,
    pub probation_posts: u32,
    #[serde(with = "humantime_serde")]
    pub held_for: Duration,
}

/// `[fetch]`: reading remote documents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Fetch {
    /// Names that lead to an address without anybody being asked, also over http where that is allowed. No key of the file:
    /// for the demo, whose servers have names of their own on this machine.
    #[serde(skip)]
    pub names: BTreeMap<String, IpAddr>,
    #[serde(deserialize_with = "list")]
    pub allow_private: Vec<IpNet>,
    pub allow_http: bool,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    pub max_body: ByteSize,
    pub in_flight: usize,
    pub in_flight_per_host: usize,
    #[serde(with = "humantime_serde")]
    pub actor_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub missing_ttl: Duration,
    #[serde(with = "humantime_serde")]
    pub key_refetch: Duration,
}

/// `[net]`: the outbound client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Net {
    #[serde(deserialize_with = "list")]
    pub extra_roots: Vec<PathBuf>,
    pub connections: usize,
    pub proxy: String,
}

/// `[delivery]`: sending.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Delivery {
    #[serde(deserialize_with = "spans", serialize_with = "write_spans")]
    pub retry: Vec<Duration>,
    #[serde(with = "humantime_serde")]
    pub horizon: Duration,
    #[serde(with = "humantime_serde")]
    pub forward_horizon: Duration,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    pub in_flight: usize,
    pub in_flight_per_host: usize,
    pub origin_fetch_rate: u32,
    #[serde(with = "humantime_serde")]
    pub save_every: Duration,
    #[serde(with = "humantime_serde")]
    pub ramp: Duration,
    pub dormant_after_days: u32,
    #[serde(with = "humantime_serde")]
    pub gone_after: Duration,
    #[serde(with = "humantime_serde")]
    pub control_horizon: Duration,
    pub shared_signature: SharedSignature,
}

/// `[store]`: keeping.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Store {
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    #[serde(with = "humantime_serde")]
    pub remember: Duration,
    #[serde(with = "humantime_serde")]
    pub tombstones: Duration,
    #[serde(with = "humantime_serde")]
    pub refusals: Duration,
    pub refusals_max: usize,
    pub reserve: ByteSize,
}

/// `[search]`: posts whose authors asked to be found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Search {
    pub api: Access,
    pub username: String,
    pub consent: Strictness,
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    pub heap: ByteSize,
    pub rate: u32,
}

impl Search {
    /// Whether there is any search here at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.api != Access::Off
    }
}

/// `[trends]`: what people talk about.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Trends {
    pub api: Access,
    pub memory: ByteSize,
    pub review: bool,
    #[serde(deserialize_with = "list")]
    pub deny: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub grown: Vec<String>,
    pub rate: u32,
}

impl Trends {
    /// Whether there are any trends here at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.api != Access::Off
    }
}

/// `[site]`: what people read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml documents each key")]
pub struct Site {
    pub name: String,
    pub summary: String,
    pub contact: String,
}

/// Who may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// Any server that asks.
    Open,
    /// The operator says yes or no to each.
    Approval,
    /// Only those in `relay.allowlist`.
    Allowlist,
}

/// Who may search here, or ask for trends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// There is no such thing here: nothing is taken for it, and its actor does not exist.
    Off,
    /// Servers that joined: their instance actor signs the request.
    Subscribers,
    /// Who has a token that the operator made.
    Tokens,
    /// Anybody.
    Public,
}

/// How much an author must have said to be found. Each asks for what the one before it asks for, and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strictness {
    /// Both keys, and nothing against it.
    #[default]
    Standard,
    /// Also `discoverable: true`, and the account is not locked: on many servers `indexable` is on unless somebody takes it
    /// off.
    Strict,
    /// Also an act of the person: to follow the search actor, to ask it for it, or to write `#searchable` in the profile.
    Explicit,
}

/// Whether one signature may be for many servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedSignature {
    /// Where the server's software takes it, as long as it does.
    Auto,
    /// Each delivery is signed for its own server.
    Off,
}

/// Whom our Announces address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnounceAudience {
    /// The relay's followers collection: quiet on servers that would show boosts.
    Followers,
    /// The public.
    Public,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// Where to listen: an address and port, or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err("unix: needs a path".to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        text.parse().map(Self::Tcp).map_err(|_cause| {
            format!("{text:?} is neither an address and port such as \"127.0.0.1:8080\" nor \"unix:/path\"")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A list in a file; in the environment one string, comma-separated.
#[derive(Deserialize)]
#[serde(untagged)]
enum ListOrText {
    List(Vec<String>),
    Text(String),
}

impl ListOrText {
    fn items(self) -> Vec<String> {
        match self {
            Self::List(items) => items,
            Self::Text(text) => {
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
            }
        }
    }
}

fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: fmt::Display,
{
    let items = ListOrText::deserialize(deserializer)?.items();
    items
        .into_iter()
        .map(|item| item.parse().map_err(|error: T::Err| serde::de::Error::custom(format!("{item:?}: {error}"))))
        .collect()
}

fn spans<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let items = ListOrText::deserialize(deserializer)?.items();
    items.into_iter().map(|item| humantime_serde::deserialize(item.into_deserializer())).collect()
}

fn write_spans<S: Serializer>(spans: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Span(#[serde(with = "humantime_serde")] Duration);
    serializer.collect_seq(spans.iter().map(|span| Span(*span)))
}

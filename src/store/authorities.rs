//! What we learned of a server and act upon: its software, the signatures it takes, whether it refuses forwards.
//! Facts, not cache: behaviour depends on them, so they survive a restart and are exported.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::clock::Timestamp;
use crate::wire::http_sig::Scheme;

/// One server, keyed by its authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityFacts {
    /// NodeInfo's software name, lower case.
    #[serde(default)]
    pub software: Option<String>,
    /// NodeInfo's software version.
    #[serde(default)]
    pub version: Option<String>,
    /// When NodeInfo was last read, with whatever result.
    #[serde(default)]
    pub software_read: Option<Timestamp>,
    /// The signature profile that it answered 2xx to after refusing the other.
    #[serde(default)]
    pub scheme: Option<Scheme>,
    /// What it made of signatures that are shared with others. Forgotten when its software changes, and when the operator
    /// sets its mode.
    #[serde(default)]
    pub shared: Option<Sharing>,
    /// Until when forwarded bodies are announced instead, because it refused one.
    #[serde(default)]
    pub announce_until: Option<Timestamp>,
}

/// What a server made of signatures that name no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// It took one.
    Taken,
    /// It refused one, and took the same message signed for it alone.
    Refused,
}

impl Sharing {
    /// `taken` or `refused`, as people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
        }
    }
}

impl Record for AuthorityFacts {
    const TABLE: &'static str = "authorities";
}

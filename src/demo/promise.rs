//! The promises by name, and how an instance may fare while they are kept. [`super::check`] judges them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the demo proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Each instance becomes a subscriber by its own family's rules, and is followed back where it needs that.
    Handshake,
    /// Each public post reaches every subscriber that is alive.
    Everyone,
    /// None of them gets it twice.
    ExactlyOnce,
    /// Nothing but public posts leaves: no quiet, followers-only or direct post, and no boost.
    Private,
    /// Every request of the relay verifies by the receiving family's rules, embedded signatures included.
    Signature,
    /// Every request of the relay is dated within five minutes of its arrival.
    FreshDate,
    /// Nobody gets their own posts back.
    NotBack,
    /// Edits and deletions that bear their author's signature reach those who can check it, once, after the post.
    FollowUps,
    /// What is found are the posts of those who said yes on servers whose admins did, and nothing else; a no counts at once.
    Consent,
}

impl Promise {
    /// All of them, in the order of the summary.
    pub const ALL: [Self; 9] = [
        Self::Handshake,
        Self::Everyone,
        Self::ExactlyOnce,
        Self::Private,
        Self::Signature,
        Self::FreshDate,
        Self::NotBack,
        Self::FollowUps,
        Self::Consent,
    ];

    /// The name, as `--break` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Everyone => "everyone",
            Self::ExactlyOnce => "exactly-once",
            Self::Private => "private",
            Self::Signature => "signature",
            Self::FreshDate => "fresh-date",
            Self::NotBack => "not-back",
            Self::FollowUps => "follow-ups",
            Self::Consent => "consent",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Promise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|promise| promise.name() == text)
            .ok_or_else(|| format!("there is no such promise; there are: {}", names()))
    }
}

/// How an instance fares during the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Always well.
    Well,
    /// Answers late.
    Slow,
    /// Answers 500 for a while, then is well.
    Flaky,
    /// Dies after it joined.
    Dead,
}

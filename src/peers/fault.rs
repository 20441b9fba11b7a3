//! Why a peer's document is not to be had, in the words of the caller's decision, and how long each answer is believed.

use std::time::Duration;

use thiserror::Error;

use crate::config;
use crate::net::FetchFault;
use crate::wire::actor::ActorFault;

/// How long a refusal (401, 403) is believed: an admin may change their mind within the hour.
const FORBIDDEN_LIFE: Duration = Duration::from_secs(10 * 60);

/// How long a document that cannot be believed is not asked for again.
const INVALID_LIFE: Duration = Duration::from_secs(10 * 60);

/// How long a network failure is believed. The breaker of `net` makes the rests longer if it goes on.
const NETWORK_LIFE: Duration = Duration::from_secs(60);

/// Why there is no document. For our own log and decisions: the other server learns one opaque word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerFault {
    /// The origin says that it does not exist. Only a 410 says that it is gone for good (wire rules of deletion).
    #[error("the origin answers {status}")]
    Gone {
        /// 404 or 410.
        status: u16,
    },
    /// The origin does not show it to us.
    #[error("the origin does not show it to us")]
    Forbidden,
    /// Nothing is known just now; the word says why.
    #[error("not readable just now: {0}")]
    TryLater(&'static str),
    /// It came, and is not to be believed.
    #[error("{0}")]
    Invalid(String),
    /// We do not go there.
    #[error("refused: {0}")]
    Refused(String),
}

impl From<FetchFault> for PeerFault {
    fn from(fault: FetchFault) -> Self {
        match fault {
            FetchFault::Gone { status } => Self::Gone { status },
            FetchFault::Forbidden { .. } => Self::Forbidden,
            FetchFault::TryLater(word) => Self::TryLater(word),
            FetchFault::Refused(refused) => Self::Refused(refused.to_string()),
            FetchFault::Invalid(text) => Self::Invalid(text),
            // Only who asked for that is told so.
            FetchFault::Unchanged => Self::TryLater("unchanged"),
        }
    }
}

impl From<ActorFault> for PeerFault {
    fn from(fault: ActorFault) -> Self {
        Self::Invalid(format!("not an actor or key document: {fault}"))
    }
}

impl PeerFault {
    /// Whether nobody was asked: our own limits, not the peer, are the reason.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::TryLater("busy" | "resting"))
    }
}

/// How long things are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    /// An actor document, and the keys in it.
    pub(super) actor: Duration,
    /// A 404 or 410.
    pub(super) missing: Duration,
    /// One second look per key in this time.
    pub(super) key_refetch: Duration,
}

impl Lifetimes {
    pub(super) const fn new(fetch: &config::Fetch) -> Self {
        Self { actor: fetch.actor_ttl, missing: fetch.missing_ttl, key_refetch: fetch.key_refetch }
    }

    /// How long a fault is believed; not at all where the reason is ours.
    pub(super) fn of(&self, fault: &PeerFault) -> Duration {
        match fault {
            ours if ours.is_ours() => Duration::ZERO,
            PeerFault::Gone { .. } => self.missing,
            PeerFault::Forbidden => FORBIDDEN_LIFE,
            PeerFault::TryLater(_) => NETWORK_LIFE,
            PeerFault::Invalid(_) | PeerFault::Refused(_) => INVALID_LIFE,
        }
    }
}

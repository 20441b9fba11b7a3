//! What an instance remembers of every request to its inboxes, and the shape in which it serves that at `GET /ledger`.
//! The checker believes this and nothing else: never the relay's own counters.

use serde::{Deserialize, Serialize};

use super::family::Family;
use crate::clock::Timestamp;

/// The signature profile of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// draft-cavage-http-signatures-12.
    Cavage,
    /// RFC 9421.
    Rfc9421,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// An Accept that made us a subscriber by our family's own rules.
    Joined,
    /// A Reject of our Follow.
    TurnedAway,
    /// A Follow of our relay actor (LitePub's second half); answered.
    FollowedBack,
    /// A post that is new here: announced or forwarded.
    Post,
    /// A post that is here already: delivered more than once.
    Known,
    /// An edit of a post.
    Edit,
    /// The deletion of a post.
    Deletion,
    /// The relay took back an Announce of its own.
    Retraction,
    /// Valid and without effect here.
    Ignored,
    /// The other signature profile is wanted: the sender may knock again.
    OtherProfile,
    /// No signature.
    Unsigned,
    /// A signature that is not the signer's.
    BadSignature,
    /// The body is not what the digest says.
    Digest,
    /// Something that must be signed is not.
    Uncovered,
    /// Meant for another host.
    Host,
    /// Too old, or from the future.
    Date,
    /// The key could not be had, or does not belong to the signer.
    Key,
    /// Somebody else's activity, in a form that this family does not take from a relay.
    Forward,
    /// Longer than this family reads.
    TooLarge,
    /// A content type that this family does not read.
    ContentType,
    /// Unreadable.
    Malformed,
    /// Refused because of a fault that was switched on here.
    Fault,
}

impl Outcome {
    /// The request had an effect, or would have had one had it come first.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        matches!(
            self,
            Self::Joined
                | Self::TurnedAway
                | Self::FollowedBack
                | Self::Post
                | Self::Known
                | Self::Edit
                | Self::Deletion
                | Self::Retraction
        )
    }

    /// The request was not verified or not read.
    #[must_use]
    pub const fn is_refused(self) -> bool {
        !self.is_taken() && !matches!(self, Self::Ignored)
    }

    /// The request's signature, or what a signature vouches for, was wrong by this family's rules.
    #[must_use]
    pub const fn is_untrue(self) -> bool {
        matches!(self, Self::Unsigned | Self::BadSignature | Self::Digest | Self::Uncovered | Self::Host | Self::Key)
    }

    /// The name as JSON and tables show it.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// One request to an inbox of an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// Counted from 1 within the instance.
    pub seq: u64,
    /// When it arrived, by this machine's true clock.
    pub at: Timestamp,
    /// The inbox's path.
    pub path: String,
    /// What the request's `Date` header says.
    pub date: Option<Timestamp>,
    /// The profile it was signed with, as far as it was read.
    pub scheme: Option<Scheme>,
    /// The actor that signed, once verified.
    pub signer: Option<String>,
    /// The activity's `type`.
    pub kind: String,
    /// The activity's id.
    pub id: Option<String>,
    /// The activity's actor.
    pub actor: Option<String>,
    /// The id of the activity's object.
    pub object: Option<String>,
    /// The activity's `to`.
    pub to: Vec<String>,
    /// The status we answered.
    pub status: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// The reason, in words.
    pub detail: String,
    /// The body as received.
    pub body: String,
}

/// How a post came to be on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// Announced, then fetched from its origin.
    Announce,
    /// Forwarded with its author's embedded signature.
    Forward,
}

/// Where a post stands on an instance that received it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum Standing {
    /// Being fetched from its origin.
    Fetching,
    /// Visible to readers.
    Shown,
    /// The origin says that it is gone (404 or 410).
    Gone,
    /// The origin could not be read.
    Failed(String),
    /// Deleted by its author.
    Deleted,
}

/// A post on an instance that received it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// The post's id.
    pub id: String,
    /// How it came.
    pub via: Via,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
    /// How many edits were applied.
    pub edits: u32,
}

/// What `GET /ledger?since=N` answers: the state of an instance, and its receipts with a number above N.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ledger {
    /// The instance's name.
    pub name: String,
    /// What it imitates.
    pub family: Family,
    /// `http://127.0.0.1:PORT`.
    pub origin: String,
    /// It is a subscriber by its family's own rules.
    pub accepted: bool,
    /// The relay follows its relay actor.
    pub followed_back: bool,
    /// Receipts since.
    pub receipts: Vec<Receipt>,
    /// All posts it received.
    pub posts: Vec<Shown>,
    /// How many documents it served to others.
    pub served: u64,
}

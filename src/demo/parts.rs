//! What an instance is asked and what it answers: its options, who of it signs, what it made ready and what it sent.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Answer;
use super::faults::Fault;
use super::posts::Visibility;
use crate::clock::Clock;

/// Somebody who posts.
#[derive(Clone, Debug)]
pub struct Author {
    /// `preferredUsername`, ASCII letters and digits.
    pub name: String,
    /// Consents to being found by search (FEP-5feb).
    pub indexable: bool,
    /// Wants to be recommended.
    pub discoverable: bool,
    /// Is a program.
    pub bot: bool,
}

impl Author {
    /// An ordinary person who wants to be found.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), indexable: true, discoverable: true, bot: false }
    }
}

/// How an instance differs from the plain one of its family.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name in reports; also what its ids and keys are chosen by.
    pub name: String,
    /// Its domain, below `.example`; without one it is known by its address.
    pub domain: Option<String>,
    /// The loopback address to listen on.
    pub bind: IpAddr,
    /// Its own clock, which may be wrong.
    pub clock: Clock,
    /// What is wrong with its inboxes from the start.
    pub fault: Fault,
    /// Its authors; there should be one.
    pub authors: Vec<Author>,
    /// Mastodon's `AUTHORIZED_FETCH`: unsigned GETs get 401, new posts and edits carry no embedded signature.
    pub secure_mode: bool,
    /// Sends RFC 9421, and answers 401 to anything else at its inboxes.
    pub rfc9421: bool,
    /// Authors attach embedded signatures where their family does.
    pub embedded_signatures: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "instance".to_owned(),
            domain: None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            clock: Clock::system(),
            fault: Fault::None,
            authors: vec![Author::named("ada"), Author::named("grace")],
            secure_mode: false,
            rfc9421: false,
            embedded_signatures: true,
        }
    }
}

/// Who of an instance signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum As {
    /// The actor that follows the relay.
    Server,
    /// The actor that signs GETs; the same one, but for Akkoma.
    Fetcher,
    /// An author, by name.
    Author(String),
}

/// An activity that is ready to be sent. Public fields: tests bend them before they send.
#[derive(Clone, Debug)]
pub struct Composed {
    /// The post's id.
    pub id: String,
    /// The activity's id.
    pub activity_id: String,
    /// Who may see the post.
    pub visibility: Visibility,
    /// Whose key signs the request.
    pub signer: As,
    /// It bears its author's embedded signature.
    pub embedded: bool,
    /// The activity.
    pub activity: Value,
}

/// What was sent, and what the relay said.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The post's id.
    pub id: String,
    /// The activity's id.
    pub activity_id: String,
    /// Who may see the post.
    pub visibility: Visibility,
    /// It bears its author's embedded signature.
    pub embedded: bool,
    /// The relay's answer; `None` where this family tells no relay.
    pub answer: Option<Answer>,
}

impl Posted {
    /// The relay's status; 0 if nothing was sent.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.answer.as_ref().map_or(0, |answer| answer.status)
    }
}

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Where {
    /// POSTs to the inboxes.
    Inbox,
    /// GETs of actors, posts and discovery documents.
    Documents,
}

/// How a new key comes into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// The actor's document shows it from now on.
    Published,
    /// The document still shows the old one: requests are signed with a key that nobody can know.
    Secret,
}

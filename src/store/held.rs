//! Posts that were taken and wait for the operator, and servers that are held as a whole. A row here is as good as one in
//! the log: the sender was told 202, so it is there after a crash. Who is held and why is decided above.
//!
//! Promise: a post has one row, found by its id, so that its author's deletion reaches it; there are never more than
//! [`MAX_HELD_PER_SERVER`] of a server and [`MAX_HELD`] in all, and the counts are written in the same transaction.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Record, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};

/// Posts of one server that may wait although all places are taken, up to twice as many places.
const SPARE: u32 = 50;
/// Posts of one server that wait at most. More would be no use: nobody reads a thousand before deciding.
pub const MAX_HELD_PER_SERVER: u32 = 1000;
/// Posts that wait at most, of all servers together.
pub const MAX_HELD: u64 = 20_000;
/// Bytes of a body that are kept. A longer one is announced when it is released, not forwarded.
const MAX_BODY: usize = 32 << 10;
/// Characters of the plain text that the operator is shown.
const MAX_EXCERPT: usize = 500;

/// A server of which everything is held until the operator says otherwise, keyed by its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Why, in a word: `wave`.
    pub reason: String,
    /// Who decided: `relay`, or `operator`.
    pub by: String,
}

impl Record for Hold {
    const TABLE: &'static str = "holds";
}

/// What is held: it decides how it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeldKind {
    /// A new post.
    Create,
    /// An edit of a post that was relayed before.
    Update,
    /// An id that was heard of and not read.
    Hint,
}

/// A post that waits, keyed by its server and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPost {
    /// When it was taken.
    pub at: Timestamp,
    /// What it is.
    pub kind: HeldKind,
    /// The post.
    pub object: Iri,
    /// Its author; for a hint, who told us.
    pub actor: Iri,
    /// The activity's id, as it came.
    pub activity: String,
    /// The server that brought it.
    pub supplier: Authority,
    /// The body may be forwarded as it is.
    pub carried: bool,
    /// When it was published, if it says so.
    pub published: Option<Timestamp>,
    /// The bytes as they came; empty if they are too many or of no use.
    pub body: String,
    /// Why, in a word.
    pub reason: String,
    /// The beginning of its plain text.
    #[serde(default)]
    pub text: String,
    /// It came for the search alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_search: bool,
}

impl Record for HeldPost {
    const TABLE: &'static str = "held";
}

impl HeldPost {
    /// The post's own server.
    #[must_use]
    pub fn server(&self) -> Authority {
        self.object.authority()
    }

    /// Its key.
    #[must_use]
    pub fn key(object: &Iri) -> String {
        format!("{} {object}", object.authority())
    }

    /// The bytes are of no use any more: what is released is an Announce.
    pub fn drop_body(&mut self) {
        self.carried = false;
        self.body.clear();
    }

    /// Brings text and body down to what is kept.
    pub fn trim(&mut self) {
        if self.body.len() > MAX_BODY {
            self.drop_body();
        }
        if let Some((end, _)) = self.text.char_indices().nth(MAX_EXCERPT) {
            self.text.truncate(end);
        }
    }
}

/// How many posts of a server wait, keyed by its authority. There is no row where none does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTally {
    /// How many.
    pub posts: u32,
    /// No later than when the oldest was taken.
    pub since: Timestamp,
    /// Why the last one is held, in a word.
    pub reason: String,
}

impl Record for HeldTally {
    const TABLE: &'static str = "held_tally";
}

impl Tx<'_> {
    /// A post that waits.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn held(&self, object: &Iri) -> Result<Option<HeldPost>, StoreError> {
        self.get(&HeldPost::key(object))
    }

    /// Whether one more post of `server` may wait.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn may_hold(&self, server: &Authority) -> Result<bool, StoreError> {
        self.may_hold_among(server, self.count::<HeldPost>()?)
    }

    /// The same where so many posts wait in all.
    pub(super) fn may_hold_among(&self, server: &Authority, all: u64) -> Result<bool, StoreError> {
        let posts = self.get::<HeldTally>(server.as_str())?.map_or(0, |tally| tally.posts);
        // Where a few servers have filled it, a server with hardly anything waiting is not made to pay for them.
        let full = all >= MAX_HELD && !(posts < SPARE && all < 2 * MAX_HELD);
        Ok(posts < MAX_HELD_PER_SERVER && !full)
    }

    /// Writes a post that waits, or a new version of one.
    ///
    /// # Errors
    /// The engine's.
    pub fn hold(&mut self, mut post: HeldPost) -> Result<(), StoreError> {
        post.trim();
        let (server, key) = (post.server(), HeldPost::key(&post.object));
        let new = u32::from(self.get::<HeldPost>(&key)?.is_none());
        let tally = self.get::<HeldTally>(server.as_str())?;
        let tally = HeldTally {
            posts: tally.as_ref().map_or(0, |tally| tally.posts).saturating_add(new),
            since: tally.map_or(post.at, |tally| tally.since.min(post.at)),
            reason: post.reason.clone(),
        };
        self.put(server.as_str(), &tally)?;
        self.put(&key, &post)
    }

    /// Takes a post out; whether it was there.
    ///
    /// # Errors
    /// The engine's.
    pub fn unhold(&mut self, object: &Iri) -> Result<bool, StoreError> {
        if !self.remove::<HeldPost>(&HeldPost::key(object))? {
            return Ok(false);
        }
        let server = object.authority();
        if let Some(mut tally) = self.get::<HeldTally>(server.as_str())? {
            tally.posts = tally.posts.saturating_sub(1);
            if tally.posts == 0 {
                self.remove::<HeldTally>(server.as_str())?;
            } else {
                self.put(server.as_str(), &tally)?;
            }
        }
        Ok(true)
    }
}

impl Store {
    /// Posts of `server` that wait as of the last commit, the oldest first.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn held_of(&self, server: &Authority) -> Result<Vec<HeldPost>, StoreError> {
        let prefix = format!("{server} ");
        let rows = self.page::<HeldPost>(&prefix, MAX_HELD_PER_SERVER as usize)?;
        let mut posts: Vec<HeldPost> =
            rows.into_iter().take_while(|(key, _)| key.starts_with(&prefix)).map(|(_, post)| post).collect();
        posts.sort_by_key(|post| post.at);
        Ok(posts)
    }
}

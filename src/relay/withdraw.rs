//! An author goes out of the search, or a post does: in the transaction of the request that says so, so that the next
//! search finds nothing of it. What the index and its files still hold is swept by others; the ledger has the last word.
//!
//! Neither needs a subscriber: who blocks one of our actors, and who deletes what is theirs, is heard whoever they are.

use super::Relay;
use crate::ids::Iri;
use crate::log::Draft;
use crate::store::{Refused, SeenSet, StoreError, Tx};

/// People of whom it is remembered that they said no, at most: strangers can say it by the million. Of those whose posts
/// are held it is always.
const MOST_REFUSED: u64 = 1_000_000;

impl Relay {
    /// Ends an author's consent: their profile or their server says so. Remembered if there was one.
    pub(super) fn withdraw_from_search(tx: &mut Tx<'_>, actor: &Iri, why: &str) -> Result<&'static str, StoreError> {
        if !tx.withdraw_author(actor)? {
            return Ok("not-in-search");
        }
        tx.refuse_author(actor, why)?;
        Ok("withdrawn")
    }

    /// Somebody blocked this actor of ours.
    pub(super) fn blocked_by(tx: &mut Tx<'_>, actor: &Iri, ours: &Iri) -> Result<&'static str, StoreError> {
        let was_held = tx.withdraw_author(actor)?;
        if !was_held && tx.count::<Refused>()? >= MOST_REFUSED {
            return Ok("refusal-not-kept");
        }
        tx.note_block(actor, ours)?;
        Ok("withdrawn")
    }

    /// And took it back: their profile counts again, from now on. Another no of theirs stands, a Block of our other actor
    /// included.
    pub(super) fn unblocked_by(tx: &mut Tx<'_>, actor: &Iri, ours: &Iri) -> Result<&'static str, StoreError> {
        Ok(if tx.lift_block(actor, ours)? { "readmitted" } else { "undo-of-unknown-block" })
    }

    /// Takes what a deletion is about out of the search; whether it was there. Only what is its author's.
    pub(super) fn unindex(tx: &mut Tx<'_>, draft: &Draft) -> Result<bool, StoreError> {
        if draft.object == draft.actor {
            Self::search_ends_with(tx, &draft.actor)?;
            return Ok(Self::withdraw_from_search(tx, &draft.actor, "deleted")? == "withdrawn");
        }
        let is_theirs = tx.indexed_post(&draft.object)?.is_some_and(|(_, post)| post.author == draft.actor);
        if is_theirs { tx.drop_indexed_post(&draft.object) } else { Ok(false) }
    }

    /// Whether the search has this post, or had it from us and reads it in a moment.
    pub(super) fn is_searched(tx: &Tx<'_>, object: &Iri) -> Result<bool, StoreError> {
        Ok(Self::came_for_search(tx, object)? || tx.indexed_post(object)?.is_some())
    }

    /// Whether this post was taken for the search alone.
    pub(super) fn came_for_search(tx: &Tx<'_>, object: &Iri) -> Result<bool, StoreError> {
        tx.has_seen(SeenSet::Objects, &for_search(object))
    }

    /// Remembers that.
    pub(super) fn note_for_search(tx: &mut Tx<'_>, object: &Iri) -> Result<(), StoreError> {
        tx.note(SeenSet::Objects, &for_search(object)).map(|_new| ())
    }
}

/// Beside the ids of what was relayed, and never taken for one of them.
fn for_search(object: &Iri) -> [&str; 2] {
    ["search", object.as_str()]
}

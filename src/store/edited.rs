//! Versions of a post that an edit made void. The search takes none that came before the edit, wherever it waited in the
//! meantime, and whatever became of the edit itself: one that says no may be one that is not taken.

use serde::{Deserialize, Serialize};

use super::{Record, StoreError, Tx};
use crate::ids::{Iri, Seq};

/// Where the log stood when a post was edited. Keyed by a keyed hash of the post's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// What stands before this place in the log is void. Once the log has forgotten all of that, so may we this.
    pub before: Seq,
}

impl Record for Edited {
    const TABLE: &'static str = "ledger_edited";
}

impl Tx<'_> {
    /// From now on only versions of this post count that stand in the log at `before` or later.
    ///
    /// # Errors
    /// The engine's.
    pub fn void_versions(&mut self, object: &Iri, before: Seq) -> Result<(), StoreError> {
        self.put(&self.store.edited_key(object), &Edited { before })
    }

    /// Whether the version of this post that stands at `seq` is void. What cannot be read is taken for a yes.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_void(&self, object: &Iri, seq: Seq) -> Result<bool, StoreError> {
        match self.get::<Edited>(&self.store.edited_key(object)) {
            Err(StoreError::Damaged(_)) => Ok(true),
            row => Ok(row?.is_some_and(|edited| seq < edited.before)),
        }
    }
}

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
        self.is_void_row(&self.store.edited_key(object), seq)
    }

    /// From now on only boosts of this post by this person count that stand in the log at `before` or later.
    ///
    /// # Errors
    /// The engine's.
    pub fn void_boosts(&mut self, object: &Iri, by: &Iri, before: Seq) -> Result<(), StoreError> {
        self.put(&self.store.unboosted_key(object, by), &Edited { before })
    }

    /// Whether the boost of this post by this person that stands at `seq` is void.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_void_boost(&self, object: &Iri, by: &Iri, seq: Seq) -> Result<bool, StoreError> {
        self.is_void_row(&self.store.unboosted_key(object, by), seq)
    }

    fn is_void_row(&self, key: &str, seq: Seq) -> Result<bool, StoreError> {
        match self.get::<Edited>(key) {
            Err(StoreError::Damaged(_)) => Ok(true),
            row => Ok(row?.is_some_and(|edited| seq < edited.before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::Store;

    /// One that still waits for its booster to be read has no ballot that could be taken back.
    #[tokio::test]
    async fn a_boost_that_was_undone_before_it_counted_is_void_and_the_next_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(Timestamp::from_secs(1_787_486_400))).unwrap();
        let undone = |tx: &mut Tx<'_>| {
            let iri = |text: &str| Iri::parse(text).unwrap();
            let (post, ada) = (iri("https://a.example/notes/1"), iri("https://b.example/users/ada"));
            tx.void_boosts(&post, &ada, Seq(7))?;
            let is_void = |seq| tx.is_void_boost(&post, &ada, Seq(seq));
            assert!(!tx.is_void(&post, Seq(6))?, "the post itself is not");
            assert!(!tx.is_void_boost(&post, &iri("https://b.example/users/bo"), Seq(6))?, "nor anybody else's");
            Ok((is_void(6)?, is_void(7)?))
        };
        assert_eq!(store.write(undone).await.unwrap(), (true, false));
    }
}

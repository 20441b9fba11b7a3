//! Messages to one server: Accept, Reject, Follow, Undo. They are few, each matters, and they are nobody else's business,
//! so they are rows of their own beside the log, kept until delivered or too old.

use redb::ReadableTableMetadata as _;
use serde::{Deserialize, Serialize};

use super::{Record, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};

/// A message to send, before it has a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Where to.
    pub inbox: Iri,
    /// What: `accept`, `reject`, `follow`, `undo`; for people and counters.
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
}

/// A message under way, keyed by its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRow {
    /// Where to.
    pub inbox: Iri,
    /// What it is.
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// When it was made.
    pub at: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next one is due.
    pub due: Timestamp,
}

impl Record for ControlRow {
    const TABLE: &'static str = "control";
}

impl ControlRow {
    /// The server it goes to.
    #[must_use]
    pub fn authority(&self) -> Authority {
        self.inbox.authority()
    }
}

impl Tx<'_> {
    /// Messages that wait.
    ///
    /// # Errors
    /// The engine's.
    pub fn waiting_control(&self) -> Result<u64, StoreError> {
        Ok(self.engine().open_table(super::table::<ControlRow>())?.len()?)
    }

    /// Queues a message. Rows are numbered, so that messages to one server go out in the order they were made.
    ///
    /// # Errors
    /// The engine's.
    pub fn queue_control(&mut self, directive: Directive) -> Result<(), StoreError> {
        let at = self.store.0.clock.now();
        let number = self.next_number("control")?;
        let Directive { inbox, what, body } = directive;
        self.put(&format!("{number:020}"), &ControlRow { inbox, what, body, at, attempts: 0, due: at })
    }
}

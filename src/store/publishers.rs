//! Servers that may send although they never follow: WordPress and others that only push. The operator writes them down; to
//! them nothing is sent.

use serde::{Deserialize, Serialize};

use super::{Act, Record, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::Authority;

/// How many there may be.
pub const MAX_PUBLISHERS: u64 = 10_000;

/// A server that may send, keyed by its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// Since when.
    pub since: Timestamp,
    /// On whose word, or what it is.
    pub reason: String,
    /// Who wrote it down, as in [`Act`].
    pub by: String,
}

impl Record for Publisher {
    const TABLE: &'static str = "publishers";
}

impl Store {
    /// Whether this server may send without having joined. What cannot be read is no.
    #[must_use]
    pub fn publishes(&self, server: &Authority) -> bool {
        self.get::<Publisher>(server.as_str()).is_ok_and(|row| row.is_some())
    }
}

impl Tx<'_> {
    /// Writes down that a server may send.
    ///
    /// # Errors
    /// [`StoreError::Declined`] if there are as many as may be; the engine's, or a damaged record.
    pub fn add_publisher(&mut self, server: &Authority, act: &Act) -> Result<Publisher, StoreError> {
        let before = self.get::<Publisher>(server.as_str())?;
        if before.is_none() && self.count::<Publisher>()? >= MAX_PUBLISHERS {
            return Err(StoreError::Declined(format!(
                "there are {MAX_PUBLISHERS} publishers already: remove some first"
            )));
        }
        let since = before.as_ref().map_or(self.store.0.clock.now(), |before| before.since);
        let row = Publisher { since, reason: act.why.clone(), by: act.who.clone() };
        self.audit(act, "publisher.add", server.as_str(), serde_json::json!(before), serde_json::json!(row))?;
        self.put(server.as_str(), &row)?;
        Ok(row)
    }

    /// A server may send no more.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if it is none; the engine's, or a damaged record.
    pub fn remove_publisher(&mut self, server: &Authority, act: &Act) -> Result<(), StoreError> {
        let Some(before) = self.get::<Publisher>(server.as_str())? else {
            let none = format!("{server} is no publisher; `shearwater admin publisher list` lists them");
            return Err(StoreError::Absent(none));
        };
        self.audit(act, "publisher.remove", server.as_str(), serde_json::json!(before), serde_json::Value::Null)?;
        self.remove::<Publisher>(server.as_str()).map(|_there| ())
    }
}

//! Messages to one server: Accept, Reject, Follow, Undo, Update of our actor. They are few, each matters, and they are nobody else's business,
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
    /// What: `accept`, `reject`, `follow`, `undo`, `update`; for people and counters.
    pub what: String,
    /// The body, as JSON text.
    pub body: String,
    /// The actor of ours that says it, where that is not the relay's.
    pub from: Option<Iri>,
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
    /// The actor of ours that signs it, where that is not the relay's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Iri>,
}

impl Record for ControlRow {
    const TABLE: &'static str = "control";
}

/// How many messages wait for a server (keyed by its authority), or for all servers of a registrable domain (keyed by
/// that, with `*.` before it). There is no row where none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlTally {
    /// How many.
    pub messages: u32,
}

impl Record for ControlTally {
    const TABLE: &'static str = "control_tally";
}

impl ControlRow {
    /// Whether it ends something: such a message is for a blocked server too.
    #[must_use]
    pub fn is_parting(&self) -> bool {
        matches!(self.what.as_str(), "reject" | "undo")
    }

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

    /// Messages that wait for `server`, and for all servers of its registrable domain together.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn waiting_control_for(&self, server: &Authority) -> Result<(u32, u32), StoreError> {
        let [own, domain] = tallies(server);
        Ok((self.control_tally(&own)?, self.control_tally(&domain)?))
    }

    /// Queues a message. Rows are numbered, so that messages to one server go out in the order they were made.
    ///
    /// # Errors
    /// The engine's.
    pub fn queue_control(&mut self, directive: Directive) -> Result<(), StoreError> {
        let at = self.store.0.clock.now();
        let number = self.next_number("control")?;
        let Directive { inbox, what, body, from } = directive;
        for key in tallies(&inbox.authority()) {
            let messages = self.control_tally(&key)?.saturating_add(1);
            self.put(&key, &ControlTally { messages })?;
        }
        self.put(&format!("{number:020}"), &ControlRow { inbox, what, body, at, attempts: 0, due: at, from })
    }

    /// Takes a message out, by its key: it is settled. Whether it was there.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn remove_control(&mut self, key: &str) -> Result<bool, StoreError> {
        let Some(row) = self.get::<ControlRow>(key)? else { return Ok(false) };
        for key in tallies(&row.authority()) {
            let messages = self.control_tally(&key)?.saturating_sub(1);
            if messages == 0 {
                self.remove::<ControlTally>(&key)?;
            } else {
                self.put(&key, &ControlTally { messages })?;
            }
        }
        self.remove::<ControlRow>(key)
    }

    fn control_tally(&self, key: &str) -> Result<u32, StoreError> {
        Ok(self.get::<ControlTally>(key)?.map_or(0, |tally| tally.messages))
    }
}

/// Where a message to `server` is counted.
pub(super) fn tallies(server: &Authority) -> [String; 2] {
    [server.as_str().to_owned(), format!("*.{}", server.registrable())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;

    #[tokio::test]
    async fn messages_are_counted_for_each_server_and_domain_until_they_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::system()).unwrap();
        let queue = |tx: &mut Tx<'_>, host: &str| {
            let inbox = Iri::parse(&format!("https://{host}/inbox")).unwrap();
            tx.queue_control(Directive { inbox, what: "reject".to_owned(), body: "{}".to_owned(), from: None })
        };
        let fill = move |tx: &mut Tx<'_>| {
            ["a.x.example", "b.x.example", "a.x.example"].iter().try_for_each(|host| queue(tx, host))
        };
        store.write(fill).await.unwrap();
        let waiting = async |host: &str| {
            let host = Authority::parse(host).unwrap();
            store.write(move |tx| tx.waiting_control_for(&host)).await.unwrap()
        };
        assert_eq!(waiting("a.x.example").await, (2, 3));
        assert_eq!(waiting("c.x.example").await, (0, 3));
        assert_eq!(waiting("y.example").await, (0, 0));
        let keys: Vec<String> = store.all::<ControlRow>().unwrap().into_iter().map(|(key, _)| key).collect();
        let refused = keys.clone();
        let taken_back = store.write(move |tx| {
            tx.remove_control(&refused[0])?;
            Err::<(), _>(StoreError::Full)
        });
        assert!(taken_back.await.is_err());
        assert_eq!(waiting("a.x.example").await, (2, 3), "a job that says no leaves no trace");
        for key in keys {
            let settle = move |tx: &mut Tx<'_>| Ok((tx.remove_control(&key)?, tx.remove_control(&key)?));
            assert_eq!(store.write(settle).await.unwrap(), (true, false));
        }
        assert!(store.all::<ControlTally>().unwrap().is_empty(), "no row where none waits");
    }
}

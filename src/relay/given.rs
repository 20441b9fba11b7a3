//! How many posts each server brought that were taken: counted in memory, and added to the subscriber's row once a minute.
//! A stop loses up to a minute's worth; nothing but a list for the operator rests on it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Relay;
use crate::ids::Authority;
use crate::store::{StoreError, Tx};

/// Servers counted between two minutes; those beyond are not.
const MOST: usize = 100_000;

/// What was counted and is not written down.
#[derive(Default)]
pub(super) struct Given(Mutex<HashMap<Authority, u64>>);

impl Given {
    /// One more.
    pub(super) fn count(&self, server: &Authority) {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(server) {
            *count = count.saturating_add(1);
        } else if counts.len() < MOST {
            counts.insert(server.clone(), 1);
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Authority, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// Posts of this server that were taken and are not in its row yet.
    #[must_use]
    pub fn given_lately(&self, server: &Authority) -> u64 {
        self.0.given.counts().get(server).copied().unwrap_or(0)
    }

    /// Adds what was counted to the rows of subscribers.
    ///
    /// # Errors
    /// The store's; then it is done next time.
    pub async fn write_down_given(&self) -> Result<(), StoreError> {
        let counted = self.0.given.counts().clone();
        if counted.is_empty() {
            return Ok(());
        }
        let written = counted.clone();
        let add = move |tx: &mut Tx<'_>| {
            for (server, count) in &written {
                if let Some(mut subscriber) = tx.subscriber(server)? {
                    subscriber.posts = subscriber.posts.saturating_add(*count);
                    tx.put_subscriber(subscriber)?;
                }
            }
            Ok(())
        };
        self.0.store.write(add).await?;
        self.0.given.counts().retain(|server, count| {
            *count = count.saturating_sub(counted.get(server).copied().unwrap_or(0));
            *count > 0
        });
        Ok(())
    }
}

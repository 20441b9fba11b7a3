//! Readings that are under way for a worker: begun as the [`Queue`] says, each a task of its own, their ends taken up when
//! the worker comes round. What a reading is and what follows from it is the worker's business.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

use super::queue::{Key, Queue};
use crate::clock::Timestamp;

/// Rows of type `R` that wait, and readings that give an `F`.
#[derive(Debug)]
pub struct Errands<R, F: 'static> {
    /// Whose turn it is.
    pub queue: Queue,
    running: JoinSet<F>,
    tasks: HashMap<Id, (Key, R)>,
    ended: Vec<Result<(Id, F), JoinError>>,
}

impl<R: Clone, F: Send + 'static> Errands<R, F> {
    /// None, of which so many may run at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { queue: Queue::new(at_once), running: JoinSet::new(), tasks: HashMap::new(), ended: Vec::new() }
    }

    /// Begins what is due, as far as the queue allows; whether anything was. `load` finds the row of a key; what has none
    /// any more is forgotten.
    ///
    /// # Errors
    /// What `load` said; what was begun before goes on.
    pub fn begin<E, T>(
        &mut self,
        now: Timestamp,
        load: impl Fn(Key) -> Result<Option<R>, E>,
        read: impl Fn(R) -> T,
    ) -> Result<bool, E>
    where
        T: Future<Output = F> + Send + 'static,
    {
        let mut begun = false;
        while let Some(key) = self.queue.take(now) {
            let Some(row) = load(key)? else {
                self.queue.finish(key, None);
                continue;
            };
            let task = self.running.spawn(read(row.clone()));
            self.tasks.insert(task.id(), (key, row));
            begun = true;
        }
        Ok(begun)
    }

    /// The row that is being read under this key.
    #[must_use]
    pub fn running(&self, key: Key) -> Option<&R> {
        self.tasks.values().find_map(|(reads, row)| (*reads == key).then_some(row))
    }

    /// What ended since the last call. No finding: the reading fell, which is a bug, told to `fallen`.
    pub fn ends(&mut self, fallen: impl Fn(&JoinError)) -> Vec<(Key, R, Option<F>)> {
        while let Some(ended) = self.running.try_join_next_with_id() {
            self.ended.push(ended);
        }
        let mut ends = Vec::new();
        for ended in std::mem::take(&mut self.ended) {
            let (id, found) = match ended {
                Ok((id, found)) => (id, Some(found)),
                Err(error) => {
                    fallen(&error);
                    (error.id(), None)
                }
            };
            ends.extend(self.tasks.remove(&id).map(|(key, row)| (key, row, found)));
        }
        ends
    }

    /// Waits for the next end; for ever if nothing runs. Cancelling it loses nothing.
    pub async fn next_end(&mut self) {
        match self.running.join_next_with_id().await {
            Some(ended) => self.ended.push(ended),
            None => std::future::pending().await,
        }
    }
}

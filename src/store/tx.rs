//! The writer's transaction as one job sees it: typed reads and writes. A job happens as a whole or not at all, and one
//! that says no takes nobody along: its writes are taken back, those of the others stay, and all is committed once.
//!
//! To that end each write notes how it is undone. redb's savepoints would not do: one is made at the start of a
//! transaction only, before anything is written. Nor would running the others again after an abort: jobs move what
//! they write into the transaction, so there is nothing left to run. And if writes were gathered and applied at a job's
//! end, each of its reads would have to look in two places.

use redb::{ReadableTable as _, ReadableTableMetadata as _, TableDefinition, WriteTransaction};

use super::{Answer, Job, META, Record, SeenSet, Store, StoreError, codec, seen, table};

type Hook = Box<dyn FnOnce(&Store) + Send>;
type Undo = Box<dyn FnOnce(&WriteTransaction) -> Result<(), StoreError>>;

/// What a job works on: typed tables, the seen-sets, and what to do once it is durable.
pub struct Tx<'db> {
    pub(super) store: &'db Store,
    pub(super) staged: seen::Staged,
    /// What this job noted in the seen-sets, in order.
    pub(super) noted: Vec<(SeenSet, u32, u128)>,
    engine: &'db WriteTransaction,
    hooks: Vec<Hook>,
    undo: Vec<Undo>,
}

impl<'db> Tx<'db> {
    pub(super) fn new(store: &'db Store, engine: &'db WriteTransaction) -> Self {
        Self { store, engine, staged: seen::Staged::default(), noted: Vec::new(), hooks: Vec::new(), undo: Vec::new() }
    }

    /// Does one job. `None` if it said no: it was told, and nothing of it is left.
    pub(super) fn run(&mut self, job: Job) -> Result<Option<Answer>, StoreError> {
        let hooks = self.hooks.len();
        self.undo.clear();
        self.noted.clear();
        match job(self) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_the_engines() => Err(error),
            Err(error) => {
                tracing::debug!(%error, "a job was taken back");
                self.hooks.truncate(hooks);
                while let Some((set, day, hash)) = self.noted.pop() {
                    self.staged.forget(set, day, hash);
                }
                while let Some(undo) = self.undo.pop() {
                    undo(self.engine)?;
                }
                Ok(None)
            }
        }
    }

    pub(super) fn finish(self) -> (seen::Staged, Vec<Hook>) {
        (self.staged, self.hooks)
    }

    /// One record as this transaction sees it.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn get<R: Record>(&self, key: &str) -> Result<Option<R>, StoreError> {
        let table = self.engine.open_table(table::<R>())?;
        let row = table.get(key)?;
        row.map(|row| codec::decode(row.value())).transpose()
    }

    /// How many records a table holds.
    ///
    /// # Errors
    /// The engine's.
    pub fn count<R: Record>(&self) -> Result<u64, StoreError> {
        Ok(self.engine.open_table(table::<R>())?.len()?)
    }

    /// Writes one record.
    ///
    /// # Errors
    /// The engine's.
    pub fn put<R: Record>(&mut self, key: &str, record: &R) -> Result<(), StoreError> {
        let bytes = codec::encode(record)?;
        self.insert(table::<R>(), key, bytes.as_slice())
    }

    /// Removes one record; whether there was one.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove<R: Record>(&mut self, key: &str) -> Result<bool, StoreError> {
        self.delete(table::<R>(), key)
    }

    /// A counter that never repeats, durable with this transaction: 1, 2, 3, …
    ///
    /// # Errors
    /// The engine's.
    pub fn next_number(&mut self, name: &str) -> Result<u64, StoreError> {
        let next = self.number(name)?.saturating_add(1);
        self.set_number(name, next)?;
        Ok(next)
    }

    /// A number that is kept by name; 0 if none is.
    ///
    /// # Errors
    /// The engine's.
    pub fn number(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.engine.open_table(META)?.get(name)?.map_or(0, |row| number(row.value())))
    }

    /// Keeps a number by name.
    ///
    /// # Errors
    /// The engine's.
    pub fn set_number(&mut self, name: &str, value: u64) -> Result<(), StoreError> {
        self.insert(META, name, value.to_be_bytes().as_slice())
    }

    /// How often this job has written so far: whether something changed between two moments of it.
    pub(crate) fn writes(&self) -> usize {
        self.undo.len() + self.noted.len()
    }

    /// Runs `hook` after the commit, before anybody is told.
    pub fn after_commit(&mut self, hook: impl FnOnce(&Store) + Send + 'static) {
        self.hooks.push(Box::new(hook));
    }

    /// Writes one row of any table.
    pub(crate) fn insert<K, V>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        key: K::SelfType<'_>,
        value: V::SelfType<'_>,
    ) -> Result<(), StoreError>
    where
        K: redb::Key + 'static,
        V: redb::Value + 'static,
    {
        let before = {
            let mut open = self.engine.open_table(table)?;
            let before = open.insert(&key, &value)?;
            before.map(|row| V::as_bytes(&row.value()).as_ref().to_vec())
        };
        let key = K::as_bytes(&key).as_ref().to_vec();
        self.undo.push(Box::new(move |engine| {
            let mut open = engine.open_table(table)?;
            match before {
                Some(before) => drop(open.insert(K::from_bytes(&key), V::from_bytes(&before))?),
                None => drop(open.remove(K::from_bytes(&key))?),
            }
            Ok(())
        }));
        Ok(())
    }

    /// Removes one row of any table; whether there was one.
    pub(crate) fn delete<K, V>(
        &mut self,
        table: TableDefinition<'static, K, V>,
        key: K::SelfType<'_>,
    ) -> Result<bool, StoreError>
    where
        K: redb::Key + 'static,
        V: redb::Value + 'static,
    {
        let before = {
            let mut open = self.engine.open_table(table)?;
            let before = open.remove(&key)?;
            before.map(|row| V::as_bytes(&row.value()).as_ref().to_vec())
        };
        let Some(before) = before else { return Ok(false) };
        let key = K::as_bytes(&key).as_ref().to_vec();
        self.undo.push(Box::new(move |engine| {
            engine.open_table(table)?.insert(K::from_bytes(&key), V::from_bytes(&before))?;
            Ok(())
        }));
        Ok(true)
    }

    /// The engine's transaction: for reads, and for writes of jobs that decide everything before they write, because
    /// what is written past this type is not taken back.
    pub(crate) fn engine(&self) -> &WriteTransaction {
        self.engine
    }
}

pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

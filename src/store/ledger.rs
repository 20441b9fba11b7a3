//! The ledger of the search: which posts are held, whose they are, and by what right. It is the authority; the search
//! engine's index is made from it and asked about nothing else than where a word stands.
//!
//! A post is found only while its row is here *and* its author's row bears the number that the post was taken under. So a
//! deletion is one row less, and a consent that is withdrawn is one row less too, whatever the author wrote: both count
//! for the next search. What is left of a withdrawn author is swept by [`Tx::sweep_posts`], row by row.
//!
//! Each change also appends a numbered [`Change`] to the journal, in the same transaction: the indexer follows that with a
//! place of its own, and [`Tx::trim_changes`] forgets what is durable in the index.

use redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{META, Record, SeenSet, Store, StoreError, Tx, codec, existing, seen, table, tx};
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};
use crate::wire::document::Document;
use crate::wire::searchable::{ActorSignals, Profile};

/// Posts by number, as [`HeldText`] records.
const POSTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ledger_posts");
/// A post's id, hashed → its number.
const IDS: TableDefinition<'static, u128, u64> = TableDefinition::new("ledger_ids");
/// (an author's number, a post's number): what is to be swept when the author goes.
const BY_AUTHOR: TableDefinition<'static, (u64, u64), ()> = TableDefinition::new("ledger_by_author");
/// Changes by number.
const CHANGES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ledger_changes");
/// The counters of [`Tx::next_number`].
const AUTHORS_EVER: &str = "ledger_authors_ever";
const LAST_CHANGE: &str = "ledger_last_change";
/// Numbers tried for a post of one millisecond before it is given up.
const TRIES: u64 = 64;

/// A post that may be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedPost {
    /// Its id at home.
    pub object: Iri,
    /// Whose it is.
    pub author: Iri,
    /// The number that its author's row had when the post was taken: with another one it is not shown.
    pub author_number: u64,
    /// When it was written, never later than when it was taken.
    pub published: Timestamp,
    /// When it was taken, or its newest edit.
    pub taken_at: Timestamp,
    /// Its language as the index knows it: declared, found out, or `und`.
    pub language: String,
    /// What it says.
    pub document: Document,
}

impl Record for IndexedPost {
    const TABLE: &'static str = "ledger_posts";
}

/// Somebody who said yes, and of whom posts are held. Keyed by the actor's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedAuthor {
    /// Given anew with each consent: posts that were taken under another number are gone.
    pub number: u64,
    /// Posts dated earlier are not taken: the author had said no until then.
    pub since: Timestamp,
    /// When the actor was last read from its origin.
    pub read_at: Timestamp,
    /// What it said about being found.
    pub signals: ActorSignals,
    /// What is shown beside its posts.
    pub profile: Profile,
    /// Its origin would not show it to us, since when: nothing of it is found meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Hidden>,
}

impl Record for IndexedAuthor {
    const TABLE: &'static str = "ledger_authors";
}

/// Since when an author's posts are not shown, and why, in a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Since when.
    pub since: Timestamp,
    /// `forbidden` or `unreachable`.
    pub reason: String,
}

/// That somebody said no, as a keyed hash of their id: who blocks us is not asked again, and who says yes later has said it
/// from then on, not before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When.
    pub at: Timestamp,
    /// Why, in a word.
    pub reason: String,
    /// It stands until the author takes it back, whatever their profile says: a Block, or a removal they asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lasting: bool,
}

impl Record for Refused {
    const TABLE: &'static str = "ledger_refused";
}

/// An author's number whose posts are still to be swept. Keyed by the number as 16 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// When the consent ended.
    pub since: Timestamp,
}

impl Record for Leftover {
    const TABLE: &'static str = "ledger_leftovers";
}

/// What the index has to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// This post is new, or says something else now.
    Put(u64),
    /// This post is gone.
    Drop(u64),
    /// Everything that was taken under this author's number is gone.
    DropAuthor(u64),
}

impl Record for Change {
    const TABLE: &'static str = "ledger_changes";
}

/// How much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LedgerCounts {
    /// Posts, those to be swept included.
    pub posts: u64,
    /// Authors.
    pub authors: u64,
    /// Changes that the index has not made durable.
    pub changes: u64,
}

/// The ledger as of one moment. Cheap to make; not to be kept, because the file cannot reuse what it sees.
pub struct LedgerView {
    posts: Option<ReadOnlyTable<u64, &'static [u8]>>,
    authors: Option<ReadOnlyTable<&'static str, &'static [u8]>>,
}

impl LedgerView {
    /// The post with this number, whether it may be shown or not.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn post(&self, number: u64) -> Result<Option<IndexedPost>, StoreError> {
        let Some(posts) = &self.posts else { return Ok(None) };
        posts.get(number)?.map(|row| codec::decode(row.value())).transpose()
    }

    /// An author of whom posts are held.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn author(&self, actor: &Iri) -> Result<Option<IndexedAuthor>, StoreError> {
        let Some(authors) = &self.authors else { return Ok(None) };
        authors.get(actor.as_str())?.map(|row| codec::decode(row.value())).transpose()
    }
}

impl Store {
    /// The ledger as of the last commit.
    ///
    /// # Errors
    /// The engine's.
    pub fn ledger(&self) -> Result<LedgerView, StoreError> {
        let read = self.engine().begin_read()?;
        let authors = existing(read.open_table(table::<IndexedAuthor>()))?;
        Ok(LedgerView { posts: existing(read.open_table(POSTS))?, authors })
    }

    /// The number of the post with this id, if one is held.
    ///
    /// # Errors
    /// The engine's.
    pub fn indexed_number(&self, object: &Iri) -> Result<Option<u64>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(ids) = existing(read.open_table(IDS))? else { return Ok(None) };
        Ok(ids.get(id_key(object))?.map(|row| row.value()))
    }

    /// At most `count` posts whose numbers are `from` or later, in order.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn indexed_posts(&self, from: u64, count: usize) -> Result<Vec<(u64, IndexedPost)>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(posts) = existing(read.open_table(POSTS))? else { return Ok(Vec::new()) };
        let rows = posts.range(from..)?.take(count);
        rows.map(|row| {
            row.map_err(StoreError::from).and_then(|(key, row)| Ok((key.value(), codec::decode(row.value())?)))
        })
        .collect()
    }

    /// How many posts were taken under this author's number and are still there.
    ///
    /// # Errors
    /// The engine's.
    pub fn posts_of(&self, author_number: u64) -> Result<u64, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(table) = existing(read.open_table(BY_AUTHOR))? else { return Ok(0) };
        Ok(table.range((author_number, 0)..=(author_number, u64::MAX))?.count() as u64)
    }

    /// At most `count` changes whose numbers are `from` or later, in order.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn changes(&self, from: Seq, count: usize) -> Result<Vec<(Seq, Change)>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(changes) = existing(read.open_table(CHANGES))? else { return Ok(Vec::new()) };
        let rows = changes.range(from.0..)?.take(count);
        rows.map(|row| {
            row.map_err(StoreError::from).and_then(|(key, row)| Ok((Seq(key.value()), codec::decode(row.value())?)))
        })
        .collect()
    }

    /// Tells of every move of the newest change.
    #[must_use]
    pub fn follow_changes(&self) -> watch::Receiver<Seq> {
        self.0.changed.subscribe()
    }

    /// How much is held.
    ///
    /// # Errors
    /// The engine's.
    pub fn ledger_counts(&self) -> Result<LedgerCounts, StoreError> {
        let read = self.engine().begin_read()?;
        Ok(LedgerCounts {
            posts: existing(read.open_table(POSTS))?.map_or(Ok(0), |table| table.len())?,
            authors: existing(read.open_table(table::<IndexedAuthor>()))?.map_or(Ok(0), |table| table.len())?,
            changes: existing(read.open_table(CHANGES))?.map_or(Ok(0), |table| table.len())?,
        })
    }

    /// Whether, when and why this actor said no.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn refused(&self, actor: &Iri) -> Result<Option<Refused>, StoreError> {
        self.get(&self.refused_key(actor))
    }

    fn refused_key(&self, actor: &Iri) -> String {
        format!("{:032x}", seen::hash(&self.0.secret, SeenSet::Tombstones, &["refused", actor.as_str()]))
    }
}

impl Tx<'_> {
    /// The author's row, if posts of this actor are held.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn indexed_author(&self, actor: &Iri) -> Result<Option<IndexedAuthor>, StoreError> {
        self.get(actor.as_str())
    }

    /// Writes down that this actor consents, or how its profile stands now. A consent that is new gets a number of its own.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn put_indexed_author(&mut self, actor: &Iri, mut author: IndexedAuthor) -> Result<IndexedAuthor, StoreError> {
        author.number = match self.indexed_author(actor)? {
            Some(known) => known.number,
            None => self.next_number(AUTHORS_EVER)?,
        };
        self.put(actor.as_str(), &author)?;
        Ok(author)
    }

    /// The post with this id, and its number, if it is held.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn indexed_post(&self, object: &Iri) -> Result<Option<(u64, IndexedPost)>, StoreError> {
        let Some(number) = self.number_of(object)? else { return Ok(None) };
        let posts = self.engine().open_table(POSTS)?;
        let row = posts.get(number)?;
        row.map(|row| Ok((number, codec::decode(row.value())?))).transpose()
    }

    fn number_of(&self, object: &Iri) -> Result<Option<u64>, StoreError> {
        Ok(self.engine().open_table(IDS)?.get(id_key(object))?.map(|row| row.value()))
    }

    /// Takes a post in, or what it says now; its number, which grows with the time when it was published. The first
    /// number that an id got stays, whatever date an edit claims.
    ///
    /// # Errors
    /// The engine's, or a damaged record. [`StoreError::Declined`] if too many posts claim the same millisecond.
    pub fn put_indexed_post(&mut self, post: &IndexedPost) -> Result<u64, StoreError> {
        let number = match self.indexed_post(&post.object)? {
            Some((number, before)) => {
                // It may have been taken under a number that its author no longer has.
                self.delete(BY_AUTHOR, (before.author_number, number))?;
                number
            }
            None => self.free_number(&post.object, post.published)?,
        };
        self.insert(POSTS, number, codec::encode(post)?.as_slice())?;
        self.insert(IDS, id_key(&post.object), number)?;
        self.insert(BY_AUTHOR, (post.author_number, number), ())?;
        self.note_change(Change::Put(number))?;
        Ok(number)
    }

    /// The time in milliseconds, and 16 bits that tell posts of one millisecond apart.
    fn free_number(&self, object: &Iri, published: Timestamp) -> Result<u64, StoreError> {
        let posts = self.engine().open_table(POSTS)?;
        let millis = u64::try_from(published.millis()).unwrap_or(0) << 16;
        let first = u64::try_from(id_key(object) & 0xffff).unwrap_or(0);
        for step in 0..TRIES {
            let number = millis | ((first + step) & 0xffff);
            if number != 0 && posts.get(number)?.is_none() {
                return Ok(number);
            }
        }
        Err(StoreError::Declined("too many posts claim the same millisecond".to_owned()))
    }

    /// Forgets a post; whether it was held.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn drop_indexed_post(&mut self, object: &Iri) -> Result<bool, StoreError> {
        let Some((number, post)) = self.indexed_post(object)? else { return Ok(false) };
        self.erase(number, &post)?;
        self.note_change(Change::Drop(number))?;
        Ok(true)
    }

    fn erase(&mut self, number: u64, post: &IndexedPost) -> Result<(), StoreError> {
        self.delete(POSTS, number)?;
        self.delete(IDS, id_key(&post.object))?;
        self.delete(BY_AUTHOR, (post.author_number, number))?;
        Ok(())
    }

    /// Ends an author's consent: nothing that was taken of them is found from the next moment on, whether much or little.
    /// Whether there was anything.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn withdraw_author(&mut self, actor: &Iri) -> Result<bool, StoreError> {
        let Some(author) = self.indexed_author(actor)? else { return Ok(false) };
        self.remove::<IndexedAuthor>(actor.as_str())?;
        let since = self.store.0.clock.now();
        self.put(&leftover_key(author.number), &Leftover { since })?;
        self.note_change(Change::DropAuthor(author.number))?;
        Ok(true)
    }

    /// Remembers that this actor said no, by a hash.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn refuse_author(&mut self, actor: &Iri, reason: &str, lasting: bool) -> Result<(), StoreError> {
        let key = self.store.refused_key(actor);
        let before: Option<Refused> = self.get(&key)?;
        // What lasts is not made less by a passing no; and one that is known is not written for every post.
        if before.is_some_and(|before| before.lasting || (!lasting && before.reason == reason)) {
            return Ok(());
        }
        self.put(&key, &Refused { at: self.store.0.clock.now(), reason: reason.to_owned(), lasting })
    }

    /// Takes that back; what was remembered.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn readmit_author(&mut self, actor: &Iri) -> Result<Option<Refused>, StoreError> {
        let key = self.store.refused_key(actor);
        let before = self.get(&key)?;
        if before.is_some() {
            self.remove::<Refused>(&key)?;
        }
        Ok(before)
    }

    /// Erases at most `count` posts that were taken under a number whose consent is over; whether more are left.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn sweep_posts(&mut self, author_number: u64, count: usize) -> Result<bool, StoreError> {
        let numbers: Vec<u64> = {
            let table = self.engine().open_table(BY_AUTHOR)?;
            let rows = table.range((author_number, 0)..=(author_number, u64::MAX))?.take(count);
            rows.map(|row| row.map(|(key, _)| key.value().1)).collect::<Result<_, _>>()?
        };
        for number in &numbers {
            let post: Option<IndexedPost> = {
                let posts = self.engine().open_table(POSTS)?;
                let row = posts.get(*number)?;
                row.map(|row| codec::decode(row.value())).transpose()?
            };
            match post {
                Some(post) => self.erase(*number, &post)?,
                None => drop(self.delete(BY_AUTHOR, (author_number, *number))?),
            }
        }
        if numbers.len() < count {
            self.remove::<Leftover>(&leftover_key(author_number))?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Forgets at most `count` of the oldest posts whose numbers are below `before`; how many.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn retire_posts(&mut self, before: u64, count: usize) -> Result<usize, StoreError> {
        let old: Vec<(u64, IndexedPost)> = {
            let posts = self.engine().open_table(POSTS)?;
            let rows = posts.range(..before)?.take(count);
            rows.map(|row| {
                row.map_err(StoreError::from).and_then(|(key, row)| Ok((key.value(), codec::decode(row.value())?)))
            })
            .collect::<Result<_, _>>()?
        };
        for (number, post) in &old {
            self.erase(*number, post)?;
            self.note_change(Change::Drop(*number))?;
        }
        Ok(old.len())
    }

    fn note_change(&mut self, change: Change) -> Result<(), StoreError> {
        let number = self.next_number(LAST_CHANGE)?;
        self.insert(CHANGES, number, codec::encode(&change)?.as_slice())?;
        self.after_commit(move |store| {
            store.0.changed.send_replace(Seq(number));
        });
        Ok(())
    }

    /// Forgets at most `count` changes up to `durable`, which the index has written down; how many.
    ///
    /// # Errors
    /// The engine's.
    pub fn trim_changes(&mut self, durable: Seq, count: usize) -> Result<usize, StoreError> {
        let done: Vec<u64> = {
            let table = self.engine().open_table(CHANGES)?;
            let rows = table.range(..=durable.0)?.take(count);
            rows.map(|row| row.map(|(key, _)| key.value())).collect::<Result<_, _>>()?
        };
        for number in &done {
            self.delete(CHANGES, *number)?;
        }
        Ok(done.len())
    }
}

/// The number of the newest change that there ever was.
pub(super) fn last_change(db: &Database) -> Result<Seq, StoreError> {
    let read = db.begin_read()?;
    let Some(meta) = existing(read.open_table(META))? else { return Ok(Seq(0)) };
    Ok(Seq(meta.get(LAST_CHANGE)?.map_or(0, |row| tx::number(row.value()))))
}

/// The number of the oldest post that was published at `at` or later.
#[must_use]
pub fn first_number_at(at: Timestamp) -> u64 {
    u64::try_from(at.millis()).unwrap_or(0) << 16
}

fn leftover_key(number: u64) -> String {
    format!("{number:016x}")
}

/// Half a SHA-256 of the id: two ids of one hash are nothing that anybody finds.
fn id_key(object: &Iri) -> u128 {
    let digest = Sha256::digest(object.as_str().as_bytes());
    digest.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}

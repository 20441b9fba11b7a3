//! The ledger of the search: which posts are held, whose they are, and by what right. It is the authority; the search
//! engine's index is made from it and asked about nothing else than where a word stands.
//!
//! A post is found only while its row is here *and* its author's row bears the number that the post was taken under. So a
//! deletion is one row less, and a consent that is withdrawn is one row less too, whatever the author wrote: both count
//! for the next search. What is left of a withdrawn author is swept by [`Tx::sweep_posts`], row by row.
//!
//! Each change also appends a numbered [`Change`] to the journal, in the same transaction: the indexer follows that with a
//! place of its own, and [`Tx::trim_changes`] forgets what is durable in the index.
//!
//! A row of a post or an author that cannot be read is taken for none: it is found by nobody, and holds up no transaction
//! of others. That there was one is remembered ([`Store::met_damage`]), and [`Tx::mend_posts`] clears it away.

use std::sync::atomic::Ordering;

use std::time::Duration;

use redb::{
    Database, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{META, Record, Store, StoreError, Tx, codec, existing, table, tx};
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};
use crate::wire::document::Document;
use crate::wire::searchable::{ActorSignals, Profile};

/// Posts by number, as [`HeldText`] records.
pub(super) const POSTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ledger_posts");
/// A post's id, hashed → its number.
pub(super) const IDS: TableDefinition<'static, u128, u64> = TableDefinition::new("ledger_ids");
/// (an author's number, a post's number): what is to be swept when the author goes.
pub(super) const BY_AUTHOR: TableDefinition<'static, (u64, u64), ()> = TableDefinition::new("ledger_by_author");
/// `name@host` in lower case → the actor's id.
pub(super) const HANDLES: TableDefinition<'static, &str, &str> = TableDefinition::new("ledger_handles");
/// Changes by number.
pub(super) const CHANGES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ledger_changes");
/// The counters of [`Tx::next_number`].
const AUTHORS_EVER: &str = "ledger_authors_ever";
pub(super) const LAST_CHANGE: &str = "ledger_last_change";
/// Milliseconds in which room is looked for, for posts that claim one and the same: four million of them.
const CROWDED_MILLIS: u64 = 64;
/// Places looked at in each of them.
const PLACES: u32 = 7;

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
    /// The log entry that it was read from: an older one does not replace it.
    pub seq: Seq,
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
    /// Posts dated earlier are not taken: the author had said no until then. `None`: they never did, as far as we know. The
    /// beginning of time: they asked for their older posts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
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

impl IndexedAuthor {
    /// `name@host`, in lower case.
    #[must_use]
    pub fn handle(&self, actor: &Iri) -> String {
        format!("{}@{}", self.profile.username, actor.authority()).to_lowercase()
    }
}

/// Since when an author's posts are not shown, and why, in a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Since when.
    pub since: Timestamp,
    /// `forbidden` or `unreachable`.
    pub reason: String,
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

/// A line of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// When it was written.
    pub at: Timestamp,
    /// What changed.
    pub change: Change,
}

impl Record for Noted {
    const TABLE: &'static str = "ledger_changes";
    const VERSION: u8 = 2;

    /// Version 1 did not say when.
    fn upgrade(version: u8, payload: Value) -> Option<Value> {
        (version == 1).then(|| json!({ "at": Timestamp::default(), "change": payload }))
    }
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
    store: Store,
    posts: Option<ReadOnlyTable<u64, &'static [u8]>>,
    authors: Option<ReadOnlyTable<&'static str, &'static [u8]>>,
    newest: Seq,
}

impl LedgerView {
    /// The post with this number, whether it may be shown or not.
    ///
    /// # Errors
    /// The engine's.
    pub fn post(&self, number: u64) -> Result<Option<IndexedPost>, StoreError> {
        let Some(posts) = &self.posts else { return Ok(None) };
        self.store.sound(posts.get(number)?.map(|row| codec::decode(row.value())).transpose())
    }

    /// An author of whom posts are held.
    ///
    /// # Errors
    /// The engine's.
    pub fn author(&self, actor: &Iri) -> Result<Option<IndexedAuthor>, StoreError> {
        let Some(authors) = &self.authors else { return Ok(None) };
        self.store.sound(authors.get(actor.as_str())?.map(|row| codec::decode(row.value())).transpose())
    }

    /// At most `count` rows of posts whose numbers are `from` or later, in order.
    ///
    /// # Errors
    /// The engine's.
    pub fn posts(&self, from: u64, count: usize) -> Result<PostPage, StoreError> {
        let Some(posts) = &self.posts else { return Ok(PostPage::default()) };
        let mut page = PostPage::default();
        for row in posts.range(from..)?.take(count) {
            let (key, bytes) = row?;
            page.next = key.value().checked_add(1);
            match self.store.sound(codec::decode(bytes.value()).map(Some))? {
                Some(post) => page.rows.push((key.value(), post)),
                None => page.unreadable += 1,
            }
        }
        Ok(page)
    }

    /// The number of the newest change that is part of it.
    #[must_use]
    pub const fn newest(&self) -> Seq {
        self.newest
    }
}

/// Some posts in the order of their numbers.
#[derive(Debug, Default)]
pub struct PostPage {
    /// Those that can be read.
    pub rows: Vec<(u64, IndexedPost)>,
    /// How many cannot.
    pub unreadable: usize,
    /// Where to go on; `None`: there was no row at all.
    pub next: Option<u64>,
}

impl Store {
    /// The ledger as of the last commit.
    ///
    /// # Errors
    /// The engine's.
    pub fn ledger(&self) -> Result<LedgerView, StoreError> {
        let read = self.engine().begin_read()?;
        let (posts, authors) =
            (existing(read.open_table(POSTS))?, existing(read.open_table(table::<IndexedAuthor>()))?);
        let newest = match existing(read.open_table(META))? {
            Some(meta) => newest_in(&meta)?,
            None => Seq(0),
        };
        Ok(LedgerView { store: self.clone(), posts, authors, newest })
    }

    /// The number of the post with this id, if one is held.
    ///
    /// # Errors
    /// The engine's.
    pub fn indexed_number(&self, object: &Iri) -> Result<Option<u64>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(ids) = existing(read.open_table(IDS))? else { return Ok(None) };
        Ok(ids.get(object.key())?.map(|row| row.value()))
    }

    /// The author with this handle, `name@host`, of whom posts are held.
    ///
    /// # Errors
    /// The engine's.
    pub fn indexed_actor(&self, handle: &str) -> Result<Option<Iri>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(handles) = existing(read.open_table(HANDLES))? else { return Ok(None) };
        Ok(handles.get(handle.to_lowercase().as_str())?.and_then(|row| Iri::parse(row.value()).ok()))
    }

    /// The number of the oldest post, whether it can be read or not.
    ///
    /// # Errors
    /// The engine's.
    pub fn oldest_post(&self) -> Result<Option<u64>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(posts) = existing(read.open_table(POSTS))? else { return Ok(None) };
        Ok(posts.first()?.map(|(key, _)| key.value()))
    }

    /// Whether a row of the ledger could not be read since this was asked last.
    #[must_use]
    pub fn met_damage(&self) -> bool {
        self.0.damaged.swap(false, Ordering::Relaxed)
    }

    /// A row that cannot be read is none.
    pub(crate) fn sound<T>(&self, read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Err(StoreError::Damaged(why)) => {
                tracing::debug!(why, "a row of the ledger cannot be read");
                self.0.damaged.store(true, Ordering::Relaxed);
                Ok(None)
            }
            read => read,
        }
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
    pub fn changes(&self, from: Seq, count: usize) -> Result<Vec<(Seq, Noted)>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(changes) = existing(read.open_table(CHANGES))? else { return Ok(Vec::new()) };
        let rows = changes.range(from.0..)?.take(count);
        rows.map(|row| {
            row.map_err(StoreError::from).and_then(|(key, row)| Ok((Seq(key.value()), codec::decode(row.value())?)))
        })
        .collect()
    }

    /// The number of the oldest change that is kept.
    ///
    /// # Errors
    /// The engine's.
    pub fn oldest_change(&self) -> Result<Option<Seq>, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(changes) = existing(read.open_table(CHANGES))? else { return Ok(None) };
        Ok(changes.first()?.map(|(key, _)| Seq(key.value())))
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
}

impl Tx<'_> {
    /// A row that cannot be read is none.
    pub(crate) fn sound<T>(&self, read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        self.store.sound(read)
    }

    /// The author's row, if posts of this actor are held.
    ///
    /// # Errors
    /// The engine's.
    pub fn indexed_author(&self, actor: &Iri) -> Result<Option<IndexedAuthor>, StoreError> {
        self.store.sound(self.get(actor.as_str()))
    }

    /// Writes down that this actor consents, or how its profile stands now. A consent that is new gets a number of its own.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn put_indexed_author(&mut self, actor: &Iri, mut author: IndexedAuthor) -> Result<IndexedAuthor, StoreError> {
        author.number = match self.indexed_author(actor)? {
            Some(known) => {
                self.drop_handle(actor, &known)?;
                known.number
            }
            None => self.next_number(AUTHORS_EVER)?,
        };
        self.insert(HANDLES, author.handle(actor).as_str(), actor.as_str())?;
        self.put(actor.as_str(), &author)?;
        Ok(author)
    }

    /// Forgets an author's handle. Another actor of the same name may hold it by now: then it stays theirs.
    fn drop_handle(&mut self, actor: &Iri, author: &IndexedAuthor) -> Result<(), StoreError> {
        let handle = author.handle(actor);
        let holder = self.engine().open_table(HANDLES)?.get(handle.as_str())?.map(|row| row.value().to_owned());
        if holder.as_deref() == Some(actor.as_str()) {
            self.delete(HANDLES, handle.as_str())?;
        }
        Ok(())
    }

    /// The post with this id, and its number, if it is held.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn indexed_post(&self, object: &Iri) -> Result<Option<(u64, IndexedPost)>, StoreError> {
        let Some(number) = self.number_of(object)? else { return Ok(None) };
        Ok(self.post_row(number)?.map(|post| (number, post)))
    }

    fn post_row(&self, number: u64) -> Result<Option<IndexedPost>, StoreError> {
        let posts = self.engine().open_table(POSTS)?;
        let row = posts.get(number)?;
        self.store.sound(row.map(|row| codec::decode(row.value())).transpose())
    }

    fn number_of(&self, object: &Iri) -> Result<Option<u64>, StoreError> {
        Ok(self.engine().open_table(IDS)?.get(object.key())?.map(|row| row.value()))
    }

    /// Takes a post in, or what it says now; its number, which grows with the time when it was published. The first
    /// number that an id got stays, whatever date an edit claims.
    ///
    /// # Errors
    /// The engine's, or a damaged record. [`StoreError::Declined`] if too many posts claim the same moment; nothing is
    /// written then.
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
        self.insert(IDS, post.object.key(), number)?;
        self.insert(BY_AUTHOR, (post.author_number, number), ())?;
        self.note_change(Change::Put(number))?;
        Ok(number)
    }

    fn free_number(&self, object: &Iri, published: Timestamp) -> Result<u64, StoreError> {
        let posts = self.engine().open_table(POSTS)?;
        for number in self.places(object, published) {
            if posts.get(number)?.is_none() {
                return Ok(number);
            }
        }
        Err(StoreError::Declined("too many posts claim the same moment".to_owned()))
    }

    /// The numbers that a post may get, the first one first: the time in milliseconds, and 16 bits of a keyed hash of its id,
    /// because most servers date posts to the second. So who comes back, after an edit for example, finds the old place,
    /// and nobody reads out what is held by counting. Where the places of a millisecond are taken, those of the next ones.
    fn places(&self, object: &Iri, published: Timestamp) -> impl Iterator<Item = u64> + use<> {
        let hash = self.store.place_hash(object);
        (0..CROWDED_MILLIS).flat_map(move |later| {
            let first = first_number_at(published.plus(Duration::from_millis(later)));
            // No post has number 0.
            (0..PLACES).map(move |place| (first | (hash >> (16 * place)) as u64 & 0xffff).max(1))
        })
    }

    /// Takes the places that this post would get in so many milliseconds from `at` on.
    #[cfg(test)]
    pub(crate) fn crowd(&mut self, object: &Iri, at: Timestamp, millis: u64) -> Result<(), StoreError> {
        let taken: Vec<u64> =
            self.places(object, at).take_while(|number| number >> 16 < at.millis() as u64 + millis).collect();
        taken.into_iter().try_for_each(|number| self.insert(POSTS, number, [].as_slice()))
    }

    /// Numbers of authors up to this one were given already.
    pub(super) fn authors_ever(&self) -> Result<u64, StoreError> {
        self.number(AUTHORS_EVER)
    }

    /// Forgets a post; whether it was held.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn drop_indexed_post(&mut self, object: &Iri) -> Result<bool, StoreError> {
        let Some(number) = self.number_of(object)? else { return Ok(false) };
        self.delete(IDS, object.key())?;
        let was_held = self.erase(number)?;
        if was_held {
            self.note_change(Change::Drop(number))?;
        }
        Ok(was_held)
    }

    /// Whether there was a row. What else is kept of one that cannot be read goes when the ledger is mended.
    fn erase(&mut self, number: u64) -> Result<bool, StoreError> {
        let post = self.post_row(number)?;
        if let Some(post) = post {
            self.delete(IDS, post.object.key())?;
            self.delete(BY_AUTHOR, (post.author_number, number))?;
        }
        self.delete(POSTS, number)
    }

    /// Ends an author's consent: nothing that was taken of them is found from the next moment on, whether much or little.
    /// Whether there was anything.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn withdraw_author(&mut self, actor: &Iri) -> Result<bool, StoreError> {
        let Some(author) = self.indexed_author(actor)? else { return Ok(false) };
        self.remove::<IndexedAuthor>(actor.as_str())?;
        self.drop_handle(actor, &author)?;
        let since = self.store.0.clock.now();
        self.put(&leftover_key(author.number), &Leftover { since })?;
        self.note_change(Change::DropAuthor(author.number))?;
        Ok(true)
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
            // It may have been taken again since, by an edit under a new consent.
            if self.post_row(*number)?.is_none_or(|post| post.author_number == author_number) {
                self.erase(*number)?;
            }
            self.delete(BY_AUTHOR, (author_number, *number))?;
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
        let old: Vec<u64> = {
            let posts = self.engine().open_table(POSTS)?;
            let rows = posts.range(..before)?.take(count);
            rows.map(|row| row.map(|(key, _)| key.value())).collect::<Result<_, _>>()?
        };
        for number in &old {
            self.erase(*number)?;
            self.note_change(Change::Drop(*number))?;
        }
        Ok(old.len())
    }

    /// Looks at `count` rows of posts from `from` on, and clears away what nobody answers for: rows that cannot be read, and
    /// posts whose author's row is gone without a withdrawal, because it could not be read.
    ///
    /// # Errors
    /// The engine's.
    pub fn mend_posts(&mut self, from: u64, count: usize) -> Result<Mended, StoreError> {
        let mut mended = Mended::default();
        let rows: Vec<u64> = {
            let posts = self.engine().open_table(POSTS)?;
            let rows = posts.range(from..)?.take(count);
            rows.map(|row| row.map(|(key, _)| key.value())).collect::<Result<_, _>>()?
        };
        mended.next = rows.last().and_then(|last| last.checked_add(1));
        for number in rows {
            let Some(post) = self.post_row(number)? else {
                self.delete(POSTS, number)?;
                self.note_change(Change::Drop(number))?;
                mended.unreadable += 1;
                continue;
            };
            if self.indexed_author(&post.author)?.is_some_and(|author| author.number == post.author_number) {
                continue;
            }
            let key = leftover_key(post.author_number);
            if !matches!(self.get::<Leftover>(&key), Ok(None)) {
                continue;
            }
            self.put(&key, &Leftover { since: self.store.0.clock.now() })?;
            self.note_change(Change::DropAuthor(post.author_number))?;
            mended.orphaned += 1;
        }
        Ok(mended)
    }

    /// Everybody of whom posts are held.
    pub(super) fn indexed_actors(&self) -> Result<Vec<Iri>, StoreError> {
        let authors = self.engine().open_table(table::<IndexedAuthor>())?;
        let mut actors = Vec::new();
        for row in authors.iter()? {
            actors.extend(Iri::parse(row?.0.value()).ok());
        }
        Ok(actors)
    }

    /// Takes out the rows of authors that cannot be read, whose keys the caller found, and handles that nobody has.
    ///
    /// # Errors
    /// The engine's.
    pub fn mend_authors(&mut self, damaged: &[String]) -> Result<(), StoreError> {
        for actor in damaged {
            self.remove::<IndexedAuthor>(actor)?;
        }
        let mut nobodys = Vec::new();
        {
            let (handles, authors) =
                (self.engine().open_table(HANDLES)?, self.engine().open_table(table::<IndexedAuthor>())?);
            for row in handles.iter()? {
                let (handle, actor) = row?;
                if authors.get(actor.value())?.is_none() {
                    nobodys.push(handle.value().to_owned());
                }
            }
        }
        nobodys.iter().try_for_each(|handle| self.delete(HANDLES, handle.as_str()).map(drop))
    }

    /// The same as [`Tx::mend_posts`] for `count` ids from `from` on, those of posts that are no more.
    ///
    /// # Errors
    /// The engine's.
    pub fn mend_ids(&mut self, from: u128, count: usize) -> Result<Option<u128>, StoreError> {
        let (next, dangling) = {
            let (ids, posts) = (self.engine().open_table(IDS)?, self.engine().open_table(POSTS)?);
            let (mut next, mut dangling) = (None, Vec::new());
            for row in ids.range(from..)?.take(count) {
                let (key, number) = row?;
                next = key.value().checked_add(1);
                if posts.get(number.value())?.is_none() {
                    dangling.push(key.value());
                }
            }
            (next, dangling)
        };
        for id in dangling {
            self.delete(IDS, id)?;
        }
        Ok(next)
    }

    fn note_change(&mut self, change: Change) -> Result<(), StoreError> {
        let number = self.next_number(LAST_CHANGE)?;
        let noted = Noted { at: self.store.0.clock.now(), change };
        self.insert(CHANGES, number, codec::encode(&noted)?.as_slice())?;
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

/// What [`Tx::mend_posts`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mended {
    /// Rows that could not be read, and are gone.
    pub unreadable: usize,
    /// Authors without a row, whose posts are now swept.
    pub orphaned: usize,
    /// Where to go on; `None`: there was no row at all.
    pub next: Option<u64>,
}

/// The number of the newest change that there ever was.
pub(super) fn last_change(db: &Database) -> Result<Seq, StoreError> {
    let read = db.begin_read()?;
    existing(read.open_table(META))?.map_or(Ok(Seq(0)), |meta| newest_in(&meta))
}

fn newest_in(meta: &ReadOnlyTable<&'static str, &'static [u8]>) -> Result<Seq, StoreError> {
    Ok(Seq(meta.get(LAST_CHANGE)?.map_or(0, |row| tx::number(row.value()))))
}

/// The number of the oldest post that was published at `at` or later.
#[must_use]
pub fn first_number_at(at: Timestamp) -> u64 {
    u64::try_from(at.millis()).unwrap_or(0) << 16
}

pub(super) fn leftover_key(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Somebody who said yes.
    pub(crate) fn author(actor: &Iri, read_at: Timestamp) -> IndexedAuthor {
        let said = json!({ "id": actor.as_str(), "type": "Person", "name": "Ada" });
        IndexedAuthor {
            number: 0,
            since: None,
            read_at,
            signals: ActorSignals::default(),
            profile: Profile::of(&said).unwrap(),
            hidden: None,
        }
    }

    /// Writes down a post of theirs, and them.
    pub(crate) fn hold(tx: &mut Tx<'_>, actor: &Iri, object: &Iri) -> Result<u64, StoreError> {
        let now = tx.store.0.clock.now();
        let author_number = tx.put_indexed_author(actor, author(actor, now))?.number;
        tx.put_indexed_post(&IndexedPost {
            object: object.clone(),
            author: actor.clone(),
            author_number,
            published: now,
            seq: Seq(1),
            language: "en".to_owned(),
            document: Document { text: "a petrel".to_owned(), ..Document::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn iri(text: &str) -> Iri {
        Iri::parse(text).unwrap()
    }

    fn ada() -> Iri {
        iri("https://a.example/users/ada")
    }

    fn author() -> IndexedAuthor {
        testing::author(&ada(), NOON)
    }

    fn post(number: u64, text: &str) -> IndexedPost {
        IndexedPost {
            object: iri(&format!("https://a.example/notes/{number}")),
            author: ada(),
            author_number: 1,
            published: NOON.plus(Duration::from_secs(number)),
            seq: Seq(number),
            language: "en".to_owned(),
            document: Document { text: text.to_owned(), ..Document::default() },
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        (dir, store)
    }

    /// The writer lets go of the file a moment after its last handle.
    fn reopen(dir: &std::path::Path) -> Store {
        let open = || Store::open(dir, Clock::manual(NOON)).ok();
        let pause = || std::thread::sleep(Duration::from_millis(10));
        (0..500)
            .find_map(|_| {
                open().or_else(|| {
                    pause();
                    None
                })
            })
            .unwrap()
    }

    async fn fill(store: &Store, posts: std::ops::Range<u64>) -> Vec<u64> {
        let put = move |tx: &mut Tx<'_>| {
            let number = tx.put_indexed_author(&ada(), author())?.number;
            let posts = posts.map(|n| IndexedPost { author_number: number, ..post(n, "a petrel") });
            posts.map(|post| tx.put_indexed_post(&post)).collect::<Result<Vec<_>, _>>()
        };
        store.write(put).await.unwrap()
    }

    fn changes(store: &Store) -> Vec<Change> {
        store.changes(Seq(0), 100).unwrap().into_iter().map(|(_, noted)| noted.change).collect()
    }

    #[tokio::test]
    async fn numbers_grow_with_time_and_an_edit_keeps_its_own() {
        let (_dir, store) = store();
        let numbers = fill(&store, 0..3).await;
        assert!(numbers.is_sorted() && numbers.iter().all(|number| *number >= first_number_at(NOON)), "{numbers:?}");
        let mut edit = post(1, "a shearwater");
        edit.published = Timestamp::from_secs(1);
        let number = store.write(move |tx| tx.put_indexed_post(&edit)).await.unwrap();
        assert_eq!(number, numbers[1], "whatever date it claims");
        let view = store.ledger().unwrap();
        assert_eq!(view.post(number).unwrap().unwrap().document.text, "a shearwater");
        assert_eq!(store.indexed_number(&iri("https://a.example/notes/1")).unwrap(), Some(number));
        let puts: Vec<Change> = [numbers[0], numbers[1], numbers[2], number].map(Change::Put).into();
        assert_eq!(changes(&store), puts);
        assert_eq!(store.ledger_counts().unwrap(), LedgerCounts { posts: 3, authors: 1, changes: 4 });
    }

    #[tokio::test]
    async fn posts_of_one_millisecond_have_different_numbers() {
        let (_dir, store) = store();
        let put = |tx: &mut Tx<'_>| {
            (0..50).map(|n| tx.put_indexed_post(&IndexedPost { published: NOON, ..post(n, "x") })).collect()
        };
        let mut numbers: Vec<u64> =
            store.write::<Result<Vec<u64>, StoreError>, _>(move |tx| Ok(put(tx))).await.unwrap().unwrap();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }

    /// Anybody may date as many posts as they like to one moment.
    #[tokio::test]
    async fn a_moment_that_is_full_holds_up_nobody() {
        let (_dir, store) = store();
        let taken = |published, millis| {
            let store = store.clone();
            async move {
                let post = IndexedPost { published, ..post(millis, "x") };
                let object = post.object.clone();
                store.write(move |tx| tx.crowd(&object, NOON, millis)).await.unwrap();
                store.write(move |tx| tx.put_indexed_post(&post)).await.map(|number| number >> 16 << 16)
            }
        };
        for millis in [1, 2, CROWDED_MILLIS - 1] {
            let next = NOON.plus(Duration::from_millis(millis));
            assert_eq!(taken(NOON, millis).await.unwrap(), first_number_at(next), "the next one with room");
        }
        assert!(matches!(taken(NOON, CROWDED_MILLIS).await, Err(StoreError::Declined(_))));
        let later = NOON.plus(Duration::from_millis(CROWDED_MILLIS));
        assert_eq!(taken(later, CROWDED_MILLIS).await.unwrap(), first_number_at(later));
    }

    #[tokio::test]
    async fn a_post_that_comes_back_finds_its_place_and_no_other_takes_it() {
        let (_dir, store) = store();
        let number_of = |n: u64| {
            let (store, post) = (store.clone(), IndexedPost { published: NOON, ..post(n, "x") });
            async move { store.write(move |tx| tx.put_indexed_post(&post)).await.unwrap() }
        };
        let first = number_of(0).await;
        store.write(|tx| tx.drop_indexed_post(&iri("https://a.example/notes/0"))).await.unwrap();
        for n in 1..200 {
            assert_ne!(number_of(n).await, first);
        }
        assert_eq!(number_of(0).await, first);
        assert_ne!(first & 0xffff, 0, "and nobody finds it by counting");
    }

    #[tokio::test]
    async fn a_deletion_leaves_nothing_and_is_told() {
        let (_dir, store) = store();
        let numbers = fill(&store, 0..2).await;
        let object = iri("https://a.example/notes/0");
        let gone = object.clone();
        assert!(store.write(move |tx| tx.drop_indexed_post(&gone)).await.unwrap());
        assert!(!store.write(move |tx| tx.drop_indexed_post(&object)).await.unwrap(), "once");
        assert_eq!(store.ledger().unwrap().post(numbers[0]).unwrap(), None);
        assert_eq!(store.posts_of(1).unwrap(), 1);
        assert_eq!(changes(&store).last(), Some(&Change::Drop(numbers[0])));
    }

    #[tokio::test]
    async fn an_author_who_withdraws_is_gone_at_once_and_a_new_consent_brings_nothing_back() {
        let (_dir, store) = store();
        let numbers = fill(&store, 0..1200).await;
        assert!(store.write(|tx| tx.withdraw_author(&ada())).await.unwrap());
        let view = store.ledger().unwrap();
        assert_eq!(view.author(&ada()).unwrap(), None, "no row, so nothing of theirs is shown");
        assert!(view.post(numbers[0]).unwrap().is_some(), "although what they wrote is still to be swept");
        assert_eq!(changes(&store).len(), 100);
        let again = store.write(|tx| tx.put_indexed_author(&ada(), author())).await.unwrap();
        let old = store.ledger().unwrap().post(numbers[0]).unwrap().unwrap();
        assert_ne!(old.author_number, again.number, "not shown under the new consent");
        let mut rounds = 1;
        while store.write(move |tx| tx.sweep_posts(old.author_number, 500)).await.unwrap() {
            rounds += 1;
        }
        assert_eq!((rounds, store.ledger_counts().unwrap().posts), (3, 0));
        assert!(store.all::<Leftover>().unwrap().is_empty());
    }

    /// Two actors of one server may say that they have the same name.
    #[tokio::test]
    async fn a_handle_belongs_to_whoever_holds_it() {
        let (_dir, store) = store();
        let named = |id: &str| {
            let said = serde_json::json!({ "id": id, "type": "Person", "preferredUsername": "ada" });
            (iri(id), IndexedAuthor { profile: Profile::of(&said).unwrap(), ..author() })
        };
        let ((old, of_old), (new, of_new)) = (named("https://a.example/users/ada"), named("https://a.example/u/ada"));
        let holder = || store.indexed_actor("ada@a.example").unwrap();
        for (actor, row) in [(old.clone(), of_old.clone()), (new.clone(), of_new)] {
            store.write(move |tx| tx.put_indexed_author(&actor, row)).await.unwrap();
        }
        assert_eq!(holder(), Some(new.clone()), "the newest word counts");
        let gone = old.clone();
        store.write(move |tx| tx.withdraw_author(&gone)).await.unwrap();
        assert_eq!(holder(), Some(new.clone()), "who goes takes only their own");
        let (back, renamed) = (old.clone(), old.clone());
        store.write(move |tx| tx.put_indexed_author(&back, of_old)).await.unwrap();
        assert_eq!(holder(), Some(old.clone()));
        store.write(move |tx| tx.withdraw_author(&new)).await.unwrap();
        assert_eq!(holder(), Some(old));
        store.write(move |tx| tx.withdraw_author(&renamed)).await.unwrap();
        assert_eq!(holder(), None);
    }

    #[tokio::test]
    async fn old_posts_are_retired_by_number() {
        let (_dir, store) = store();
        fill(&store, 0..10).await;
        let before = first_number_at(NOON.plus(Duration::from_secs(4)));
        assert_eq!(store.write(move |tx| tx.retire_posts(before, 3)).await.unwrap(), 3);
        assert_eq!(store.write(move |tx| tx.retire_posts(before, 3)).await.unwrap(), 1);
        assert_eq!(store.write(move |tx| tx.retire_posts(before, 3)).await.unwrap(), 0);
        assert_eq!((store.ledger_counts().unwrap().posts, store.posts_of(1).unwrap()), (6, 6));
    }

    #[tokio::test]
    async fn changes_are_trimmed_and_never_renumbered() {
        let (dir, store) = store();
        fill(&store, 0..5).await;
        let mut follow = store.follow_changes();
        assert_eq!(*follow.borrow_and_update(), Seq(5));
        assert_eq!(store.write(|tx| tx.trim_changes(Seq(5), 100)).await.unwrap(), 5);
        drop((store, follow));
        let store = reopen(dir.path());
        assert_eq!(*store.follow_changes().borrow(), Seq(5), "after a restart too");
        fill(&store, 5..6).await;
        assert_eq!(store.changes(Seq(0), 9).unwrap().first().map(|(seq, _)| *seq), Some(Seq(6)));
    }

    #[tokio::test]
    async fn a_job_that_says_no_takes_its_posts_back() {
        let (_dir, store) = store();
        let numbers = fill(&store, 0..2).await;
        let no = |tx: &mut Tx<'_>| {
            tx.put_indexed_post(&post(7, "x"))?;
            tx.drop_indexed_post(&iri("https://a.example/notes/0"))?;
            tx.withdraw_author(&ada())?;
            tx.retire_posts(u64::MAX, 100)?;
            tx.trim_changes(Seq(100), 100)?;
            Err::<(), _>(StoreError::Declined("no".to_owned()))
        };
        assert!(store.write(no).await.is_err());
        assert_eq!(store.ledger_counts().unwrap(), LedgerCounts { posts: 2, authors: 1, changes: 2 });
        assert_eq!((store.posts_of(1).unwrap(), changes(&store)), (2, numbers.into_iter().map(Change::Put).collect()));
        assert_eq!(*store.follow_changes().borrow(), Seq(2));
    }
}

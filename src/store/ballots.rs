//! What posts count for in trends: one [`Ballot`] per post, for two days. It says which author, under a number that nobody
//! can turn back into a name and that changes every week, from which server, for which tags; nothing of what the post
//! said. It is the journal of the trends: all counts are made from it, and can be again.
//!
//! A ballot is found by its post, by its author and by what it counts for, so that it can be taken back: by
//! [`Tx::take_back_post`] and [`Tx::take_back_author`], in the transaction of whatever takes it back. Then it is as if the
//! post had never been seen. What changed is told to who counts ([`Store::ballot_changes`]), numbered, so that counting
//! from the journal and following it never count twice.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use redb::{ReadOnlyTable, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{META, Place, Record, SeenSet, Store, StoreError, Tx, codec, existing, seen, tx};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};

/// (hour, post) → ballot.
pub(super) const BALLOTS: TableDefinition<'static, (u32, u128), &[u8]> = TableDefinition::new("trend_ballots");
/// Post → hour.
pub(super) const HOURS: TableDefinition<'static, u128, u32> = TableDefinition::new("trend_ballot_hours");
/// (author, post).
const BY_AUTHOR: TableDefinition<'static, (u64, u128), ()> = TableDefinition::new("trend_ballots_by_author");
/// Post → the hour in which it was first cast, of one that was taken back since. An edit, and a boost that is said once
/// more, are as old as what they stand for.
const FIRST: TableDefinition<'static, u128, u32> = TableDefinition::new("trend_first_hours");
/// (what it counts for, hour, post) → the server's number.
const BY_TARGET: TableDefinition<'static, (u64, u32, u128), u32> = TableDefinition::new("trend_ballots_by_target");
/// The counter of changes.
const CHANGES: &str = "trend_ballot_changes";

/// Ballots of one author at a time. More would count for no more people; what they are for is bounding what one author
/// costs, and what it costs to take them back in a request.
pub const MOST_OF_AUTHOR: usize = 200;
/// Things of each kind that one author counts for in a day: the first ones. Else five people fill a list.
pub const MOST_THINGS: usize = 20;
/// Bytes of changes that wait to be counted; beyond it whoever counts starts anew from the journal.
const MOST_WAITING: usize = 4 << 20;
/// Rows looked at in one go.
const PAGE: usize = 500;
/// Hours of an author's number.
const WEEK: u32 = 168;
const DAY: u32 = 24;

/// What kind of thing is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A hashtag, by its key.
    #[serde(rename = "t")]
    Tag,
    /// A link, by its canonical address.
    #[serde(rename = "l")]
    Link,
    /// A post that is boosted, by its id.
    #[serde(rename = "p")]
    Post,
}

impl Subject {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Link => "link",
            Self::Post => "post",
        }
    }

    /// By its word.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Tag, Self::Link, Self::Post].into_iter().find(|one| one.as_str() == name)
    }
}

/// Something that a post counts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// What kind of thing.
    #[serde(rename = "s")]
    pub subject: Subject,
    /// What all its spellings have in common.
    #[serde(rename = "k")]
    pub key: String,
    /// As the post spells it; empty: like the key.
    #[serde(rename = "w", default, skip_serializing_if = "String::is_empty")]
    pub shown: String,
}

impl Choice {
    /// The number that it is counted under.
    #[must_use]
    pub fn target(&self) -> u64 {
        target(self.subject, &self.key)
    }

    /// As it is spelled.
    #[must_use]
    pub fn spelling(&self) -> &str {
        if self.shown.is_empty() { &self.key } else { &self.shown }
    }
}

/// The number that something is counted under.
#[must_use]
pub fn target(subject: Subject, key: &str) -> u64 {
    let digest = Sha256::new().chain_update([subject as u8]).chain_update(key.as_bytes()).finalize();
    digest.first_chunk::<8>().map_or(0, |half| u64::from_be_bytes(*half))
}

/// What one post counts for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The author's number in this week.
    #[serde(rename = "a")]
    pub author: u64,
    /// The number of the author's server ([`super::Place`]).
    #[serde(rename = "p")]
    pub place: u32,
    /// The post's language, or `und`.
    #[serde(rename = "l")]
    pub language: String,
    /// The account says that it was less than a week old.
    #[serde(rename = "y", default, skip_serializing_if = "std::ops::Not::not")]
    pub young: bool,
    /// The hour since the epoch in which the relay took the post.
    #[serde(rename = "h")]
    pub hour: u32,
    /// Its place in the log: an older version does not replace it.
    #[serde(rename = "q")]
    pub seq: Seq,
    /// What it counts for.
    #[serde(rename = "c")]
    pub choices: Vec<Choice>,
}

impl Record for Ballot {
    const TABLE: &'static str = "trend_ballots";
}

/// The key of authors' numbers in one week, made by chance and forgotten when no ballot of that week is left: then nobody can
/// tell whose they were, not even whoever has the disk. Keyed by the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotKey {
    /// 64 hex digits.
    pub key: String,
}

impl Record for BallotKey {
    const TABLE: &'static str = "trend_keys";
}

/// A ballot came, or was taken back; or something is new about the servers that they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BallotChange {
    /// It counts from now on.
    Cast(Ballot),
    /// It never did.
    TakenBack(Ballot),
    /// A server that was not known, or that is known since another time.
    Met(Authority, Place),
    /// Servers, by their numbers, of which nothing was seen for long.
    Forgotten(Vec<u32>),
}

impl BallotChange {
    /// Bytes of memory, nearly.
    fn bytes(&self) -> usize {
        let more = match self {
            Self::Cast(ballot) | Self::TakenBack(ballot) => {
                let texts = ballot.choices.iter().map(|one| one.key.len() + one.shown.len() + size_of::<Choice>());
                texts.sum::<usize>() + ballot.language.len()
            }
            Self::Met(server, _) => server.as_str().len(),
            Self::Forgotten(places) => size_of_val(places.as_slice()),
        };
        size_of::<Self>() + 32 + more
    }
}

/// Changes for who counts.
pub(super) struct Feed {
    waiting: Mutex<Waiting>,
    told: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    is_followed: bool,
    is_lost: bool,
    bytes: usize,
    changes: Vec<(u64, BallotChange)>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { waiting: Mutex::default(), told: watch::Sender::new(0) }
    }
}

impl Feed {
    fn push(&self, number: u64, change: BallotChange) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_followed {
            return;
        }
        waiting.bytes += change.bytes();
        if waiting.bytes > MOST_WAITING {
            waiting.changes = Vec::new();
            waiting.is_lost = true;
        }
        if !waiting.is_lost {
            waiting.changes.push((number, change));
        }
        drop(waiting);
        self.told.send_replace(number);
    }
}

/// The journal as of one moment. Not to be kept: the file cannot reuse what it sees.
pub struct BallotView {
    ballots: Option<ReadOnlyTable<(u32, u128), &'static [u8]>>,
    by_target: Option<ReadOnlyTable<(u64, u32, u128), u32>>,
    newest: u64,
}

impl BallotView {
    /// The number of the newest change that is part of it.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// Shows everything that is counted, by its number, with the servers of its ballots, which may be there twice.
    ///
    /// # Errors
    /// The engine's.
    pub fn targets(&self, mut see: impl FnMut(u64, &[u32])) -> Result<(), StoreError> {
        let Some(table) = &self.by_target else { return Ok(()) };
        let (mut current, mut places) = (None, Vec::new());
        for row in table.iter()? {
            let (key, place) = row?;
            let target = key.value().0;
            if current != Some(target) {
                if let Some(before) = current {
                    see(before, &places);
                }
                current = Some(target);
                places.clear();
            }
            places.push(place.value());
        }
        if let Some(last) = current {
            see(last, &places);
        }
        Ok(())
    }

    /// All ballots for one thing. Those that cannot be read are none.
    ///
    /// # Errors
    /// The engine's.
    pub fn of(&self, target: u64) -> Result<Vec<Ballot>, StoreError> {
        let (Some(table), Some(ballots)) = (&self.by_target, &self.ballots) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for row in table.range((target, 0, 0)..=(target, u32::MAX, u128::MAX))? {
            let (_, hour, post) = row?.0.value();
            if let Some(bytes) = ballots.get((hour, post))? {
                found.extend(sound(codec::decode(bytes.value()))?);
            }
        }
        Ok(found)
    }

    /// At most `count` ballots with their posts' keys, from this key on, in order; and where to go on.
    ///
    /// # Errors
    /// The engine's.
    pub fn page(&self, from: (u32, u128), count: usize) -> Result<BallotPage, StoreError> {
        let mut page = BallotPage { rows: Vec::new(), next: None };
        let Some(ballots) = &self.ballots else { return Ok(page) };
        for row in ballots.range(from..)?.take(count) {
            let (key, bytes) = row?;
            let (hour, post) = key.value();
            page.next = Some(post.checked_add(1).map_or((hour.saturating_add(1), 0), |post| (hour, post)));
            page.rows.extend(sound(codec::decode(bytes.value()))?.map(|ballot| (post, ballot)));
        }
        Ok(page)
    }

    /// How many there are.
    ///
    /// # Errors
    /// The engine's.
    pub fn len(&self) -> Result<u64, StoreError> {
        self.ballots.as_ref().map_or(Ok(0), |ballots| Ok(ballots.len()?))
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }
}

/// Some ballots in order.
#[derive(Debug)]
pub struct BallotPage {
    /// With the keys of their posts.
    pub rows: Vec<(u128, Ballot)>,
    /// Where to go on; `None`: there was none at all.
    pub next: Option<(u32, u128)>,
}

/// One that cannot be read is none.
fn sound(read: Result<Ballot, StoreError>) -> Result<Option<Ballot>, StoreError> {
    match read {
        Err(StoreError::Damaged(why)) => {
            tracing::warn!(why, "a ballot of the trends cannot be read");
            Ok(None)
        }
        read => read.map(Some),
    }
}

impl Store {
    /// The journal as of the last commit.
    ///
    /// # Errors
    /// The engine's.
    pub fn ballots(&self) -> Result<BallotView, StoreError> {
        let read = self.engine().begin_read()?;
        let newest = match existing(read.open_table(META))? {
            Some(meta) => meta.get(CHANGES)?.map_or(0, |row| tx::number(row.value())),
            None => 0,
        };
        Ok(BallotView {
            ballots: existing(read.open_table(BALLOTS))?,
            by_target: existing(read.open_table(BY_TARGET))?,
            newest,
        })
    }

    /// From now on changes are kept for [`Store::ballot_changes`], and told.
    #[must_use]
    pub fn follow_ballots(&self) -> watch::Receiver<u64> {
        let mut waiting = self.0.feed.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Waiting { is_followed: true, ..Waiting::default() };
        self.0.feed.told.subscribe()
    }

    /// What changed since the last call, in the order of the commits; `None`: so much that the journal has to be read anew.
    #[must_use]
    pub fn ballot_changes(&self) -> Option<Vec<(u64, BallotChange)>> {
        let mut waiting = self.0.feed.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = std::mem::take(&mut waiting.changes);
        waiting.bytes = 0;
        if std::mem::take(&mut waiting.is_lost) { None } else { Some(changes) }
    }

    /// Whether anything of this actor counts.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn has_ballots(&self, actor: &Iri) -> Result<bool, StoreError> {
        let read = self.engine().begin_read()?;
        let Some(table) = existing(read.open_table(BY_AUTHOR))? else { return Ok(false) };
        for (_, key) in self.all::<BallotKey>()? {
            let author = number_of(&key, actor);
            if table.range((author, 0)..=(author, u128::MAX))?.next().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// It is as if nothing of these servers, by their numbers, had ever been seen; how many posts counted.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_back_places(&self, places: &[u32]) -> Result<usize, StoreError> {
        let (mut from, mut taken) = ((0, 0), 0);
        let places: HashSet<u32> = places.iter().copied().collect();
        while !places.is_empty() {
            let page = self.ballots()?.page(from, PAGE)?;
            let Some(next) = page.next else { break };
            from = next;
            let theirs = page.rows.iter().filter(|(_, ballot)| places.contains(&ballot.place));
            let theirs: Vec<u128> = theirs.map(|(post, _)| *post).collect();
            if !theirs.is_empty() {
                taken += self.write(move |tx| tx.take_back_keys(&theirs)).await?;
            }
            tokio::task::yield_now().await;
        }
        Ok(taken)
    }

    fn post_key(&self, parts: &[&str]) -> u128 {
        seen::hash(&self.0.secret, SeenSet::Objects, parts)
    }
}

/// The author's number under a week's key.
fn number_of(key: &BallotKey, actor: &Iri) -> u64 {
    let digest = Sha256::new().chain_update(key.key.as_bytes()).chain_update(actor.as_str().as_bytes()).finalize();
    digest.first_chunk::<8>().map_or(0, |half| u64::from_be_bytes(*half))
}

/// The week of an author's number. Each begins at an hour of the author's own, so that there is no hour in which everybody
/// who speaks on both sides of it counts twice; and at one that only this relay knows, so that nobody chooses their names by
/// it.
fn week(store: &Store, actor: &Iri, hour: u32) -> u32 {
    let own = u32::try_from(store.post_key(&["week", actor.as_str()]) % u128::from(WEEK)).unwrap_or(0);
    (hour + own) / WEEK
}

fn week_key(week: u32) -> String {
    format!("{week:010}")
}

/// A post, or one person's boost of one.
#[derive(Debug, Clone, Copy)]
pub enum Voted<'a> {
    /// A post of one's own.
    Post(&'a Iri),
    /// A boost of this post by this person.
    Boost(&'a Iri, &'a Iri),
}

impl Voted<'_> {
    fn key(self, store: &Store) -> u128 {
        match self {
            Self::Post(object) => store.post_key(&["ballot", object.as_str()]),
            Self::Boost(object, by) => store.post_key(&["boost", object.as_str(), by.as_str()]),
        }
    }
}

impl Tx<'_> {
    /// The number that an author has in the week of this hour.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn ballot_author(&mut self, actor: &Iri, hour: u32) -> Result<u64, StoreError> {
        let row = week_key(week(self.store, actor, hour));
        let key = match self.get::<BallotKey>(&row) {
            Ok(Some(key)) => key,
            Ok(None) | Err(StoreError::Damaged(_)) => {
                let made = rand::random::<[u8; 32]>();
                let key = BallotKey { key: made.iter().map(|byte| format!("{byte:02x}")).collect() };
                self.put(&row, &key)?;
                key
            }
            Err(error) => return Err(error),
        };
        Ok(number_of(&key, actor))
    }

    /// The hour that a post counts in: that in which it was first cast, or else this one.
    ///
    /// # Errors
    /// The engine's.
    pub fn ballot_hour(&mut self, voted: Voted<'_>, hour: u32) -> Result<u32, StoreError> {
        let post = voted.key(self.store);
        let cast = self.engine().open_table(HOURS)?.get(post)?.map(|row| row.value());
        let first = self.engine().open_table(FIRST)?.get(post)?.map(|row| row.value());
        Ok(cast.into_iter().chain(first).fold(hour, u32::min))
    }

    /// Counts a post; what it counted for before counts no more. Whether it counts: not if it is an older version, or one
    /// too many of its author. Of what it counts for, only what is not one thing too many of the author's day.
    ///
    /// # Errors
    /// The engine's.
    pub fn cast(&mut self, voted: Voted<'_>, mut ballot: Ballot) -> Result<bool, StoreError> {
        let post = voted.key(self.store);
        if let Some(before) = self.ballot(post)? {
            if before.seq >= ballot.seq {
                return Ok(false);
            }
            self.take_back(post, before)?;
        }
        let posts = self.posts_of_author(ballot.author)?;
        if posts.len() >= MOST_OF_AUTHOR {
            return Ok(false);
        }
        let mut things: HashSet<(Subject, u64)> = HashSet::new();
        for post in posts {
            let theirs = self.ballot(post)?.filter(|one| one.hour.abs_diff(ballot.hour) < DAY);
            things.extend(theirs.iter().flat_map(|one| &one.choices).map(|one| (one.subject, one.target())));
        }
        ballot.choices.retain(|choice| {
            let thing = (choice.subject, choice.target());
            let many = things.iter().filter(|(subject, _)| *subject == choice.subject).count();
            things.contains(&thing) || many < MOST_THINGS && things.insert(thing)
        });
        if ballot.choices.is_empty() {
            return Ok(false);
        }
        let bytes = codec::encode(&ballot)?;
        self.insert(BALLOTS, (ballot.hour, post), bytes.as_slice())?;
        self.insert(HOURS, post, ballot.hour)?;
        self.insert(BY_AUTHOR, (ballot.author, post), ())?;
        for choice in &ballot.choices {
            self.insert(BY_TARGET, (choice.target(), ballot.hour, post), ballot.place)?;
        }
        self.tell(BallotChange::Cast(ballot))?;
        Ok(true)
    }

    /// It is as if this post had never been seen; whether it counted.
    ///
    /// # Errors
    /// The engine's.
    pub fn take_back_post(&mut self, voted: Voted<'_>) -> Result<bool, StoreError> {
        let post = voted.key(self.store);
        let Some(ballot) = self.ballot(post)? else { return Ok(false) };
        self.take_back(post, ballot)?;
        Ok(true)
    }

    /// It is as if nothing of this author had ever been seen; how many posts counted.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn take_back_author(&mut self, actor: &Iri) -> Result<usize, StoreError> {
        let mut keys = Vec::new();
        for row in self.engine().open_table(super::table::<BallotKey>())?.iter()? {
            keys.extend(codec::decode::<BallotKey>(row?.1.value()).ok());
        }
        let mut taken = 0;
        for key in keys {
            for post in self.posts_of_author(number_of(&key, actor))? {
                if let Some(ballot) = self.ballot(post)? {
                    self.take_back(post, ballot)?;
                    taken += 1;
                }
            }
        }
        Ok(taken)
    }

    /// It is as if nobody had counted for this thing: of at most `count` ballots; whether there may be more.
    ///
    /// # Errors
    /// The engine's.
    pub fn take_back_target(&mut self, subject: Subject, key: &str, count: usize) -> Result<bool, StoreError> {
        let target = target(subject, key);
        let posts: Vec<u128> = {
            let table = self.engine().open_table(BY_TARGET)?;
            let rows = table.range((target, 0, 0)..=(target, u32::MAX, u128::MAX))?.take(count);
            rows.map(|row| row.map(|(key, _)| key.value().2)).collect::<Result<_, _>>()?
        };
        self.take_back_keys(&posts)?;
        Ok(posts.len() == count)
    }

    fn take_back_keys(&mut self, posts: &[u128]) -> Result<usize, StoreError> {
        let mut taken = 0;
        for post in posts {
            if let Some(ballot) = self.ballot(*post)? {
                self.take_back(*post, ballot)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Forgets at most `count` ballots of hours before `before`: they are too old to count. Whoever counts knows by the clock.
    /// Then, once none is left, the keys of weeks that are over. Whether there may be more.
    ///
    /// # Errors
    /// The engine's.
    pub fn expire_ballots(&mut self, before: u32, count: usize) -> Result<bool, StoreError> {
        let old: Vec<(u32, u128)> = {
            let table = self.engine().open_table(BALLOTS)?;
            let rows = table.range(..(before, 0))?.take(count);
            rows.map(|row| row.map(|(key, _)| key.value())).collect::<Result<_, _>>()?
        };
        for (hour, post) in &old {
            match self.ballot(*post)? {
                Some(ballot) => self.erase_ballot(*post, &ballot)?,
                None => drop(self.delete(BALLOTS, (*hour, *post))?),
            }
        }
        let first: Vec<u128> = {
            let table = self.engine().open_table(FIRST)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (post, hour) = row?;
                if hour.value() < before && rows.len() < count {
                    rows.push(post.value());
                }
            }
            rows
        };
        first.iter().try_for_each(|post| self.delete(FIRST, *post).map(drop))?;
        if old.len() == count || first.len() == count {
            return Ok(true);
        }
        // Nobody's week is behind that of who begins theirs with the epoch's.
        let gone = week_key(before / WEEK);
        let over: Vec<String> = {
            let table = self.engine().open_table(super::table::<BallotKey>())?;
            let rows = table.range::<&str>(..gone.as_str())?;
            rows.map(|row| row.map(|(key, _)| key.value().to_owned())).collect::<Result<_, _>>()?
        };
        over.iter().try_for_each(|key| self.remove::<BallotKey>(key).map(drop))?;
        Ok(false)
    }

    fn ballot(&self, post: u128) -> Result<Option<Ballot>, StoreError> {
        let Some(hour) = self.engine().open_table(HOURS)?.get(post)?.map(|row| row.value()) else { return Ok(None) };
        let table = self.engine().open_table(BALLOTS)?;
        let Some(row) = table.get((hour, post))? else { return Ok(None) };
        sound(codec::decode(row.value()))
    }

    fn posts_of_author(&self, author: u64) -> Result<Vec<u128>, StoreError> {
        let table = self.engine().open_table(BY_AUTHOR)?;
        let rows = table.range((author, 0)..=(author, u128::MAX))?;
        Ok(rows.map(|row| row.map(|(key, _)| key.value().1)).collect::<Result<_, _>>()?)
    }

    fn take_back(&mut self, post: u128, ballot: Ballot) -> Result<(), StoreError> {
        self.erase_ballot(post, &ballot)?;
        self.insert(FIRST, post, ballot.hour)?;
        self.tell(BallotChange::TakenBack(ballot))
    }

    fn erase_ballot(&mut self, post: u128, ballot: &Ballot) -> Result<(), StoreError> {
        self.delete(BALLOTS, (ballot.hour, post))?;
        self.delete(HOURS, post)?;
        self.delete(BY_AUTHOR, (ballot.author, post))?;
        for choice in &ballot.choices {
            self.delete(BY_TARGET, (choice.target(), ballot.hour, post))?;
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, change: BallotChange) -> Result<(), StoreError> {
        let number = self.next_number(CHANGES)?;
        self.after_commit(move |store| store.0.feed.push(number, change));
        Ok(())
    }
}

/// The hour since the epoch.
#[must_use]
pub fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.hour()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn iri(text: &str) -> Iri {
        Iri::parse(text).unwrap()
    }

    fn ballot(author: u64, seq: u64, tags: &[&str]) -> Ballot {
        let choice = |key: &&str| Choice { subject: Subject::Tag, key: (*key).to_owned(), shown: String::new() };
        Ballot {
            author,
            place: 1,
            language: "en".to_owned(),
            young: false,
            hour: hour_of(NOON),
            seq: Seq(seq),
            choices: tags.iter().map(choice).collect(),
        }
    }

    fn rows(store: &Store) -> Vec<Ballot> {
        let page = store.ballots().unwrap().page((0, 0), 100).unwrap();
        page.rows.into_iter().map(|(_, ballot)| ballot).collect()
    }

    #[tokio::test]
    async fn what_is_taken_back_leaves_nothing_and_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let told = store.follow_ballots();
        let (post, other) = (iri("https://a.example/notes/1"), iri("https://a.example/notes/2"));
        let ada = iri("https://a.example/users/ada");
        let (first, second, writer) = (post.clone(), other.clone(), ada.clone());
        let cast = move |tx: &mut Tx<'_>| {
            let author = tx.ballot_author(&writer, hour_of(NOON))?;
            tx.cast(Voted::Post(&first), ballot(author, 1, &["cats", "birds"]))?;
            tx.cast(Voted::Post(&second), ballot(author, 2, &["cats"]))?;
            // The same post at the same place again, an older version, and a newer one.
            assert!(!tx.cast(Voted::Post(&second), ballot(author, 2, &["cats"]))?);
            assert!(!tx.cast(Voted::Post(&second), ballot(author, 1, &["dogs"]))?);
            assert!(tx.cast(Voted::Post(&second), ballot(author, 3, &["fish"]))?);
            Ok(())
        };
        store.write(cast).await.unwrap();
        assert!(store.has_ballots(&ada).unwrap() && !store.has_ballots(&post).unwrap());
        assert_eq!(*told.borrow(), 4, "two came, one went for a newer one");
        assert_eq!(store.ballot_changes().unwrap().len(), 4);
        assert_eq!(rows(&store).len(), 2);
        let view = store.ballots().unwrap();
        assert_eq!((view.newest(), view.len().unwrap()), (4, 2));
        assert_eq!(view.of(target(Subject::Tag, "fish")).unwrap().len(), 1);
        assert!(view.of(target(Subject::Tag, "dogs")).unwrap().is_empty());
        drop(view);
        let gone = post.clone();
        assert!(store.write(move |tx| tx.take_back_post(Voted::Post(&gone))).await.unwrap());
        let gone = ada.clone();
        assert_eq!(store.write(move |tx| tx.take_back_author(&gone)).await.unwrap(), 1);
        assert!(rows(&store).is_empty() && !store.has_ballots(&ada).unwrap());
        let mut seen = 0;
        store.ballots().unwrap().targets(|_, _| seen += 1).unwrap();
        assert_eq!(seen, 0);
        let back = store.ballot_changes().unwrap();
        assert!(back.iter().all(|(_, change)| matches!(change, BallotChange::TakenBack(_))), "{back:?}");
    }

    #[tokio::test]
    async fn one_author_has_so_many_ballots_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let cast = |tx: &mut Tx<'_>| {
            let posts = (0..MOST_OF_AUTHOR + 50).map(|number| iri(&format!("https://a.example/notes/{number}")));
            posts.map(|post| tx.cast(Voted::Post(&post), ballot(7, 1, &["cats"]))).collect::<Result<Vec<_>, _>>()
        };
        let counted = store.write(cast).await.unwrap();
        assert_eq!(counted.iter().filter(|counts| **counts).count(), MOST_OF_AUTHOR);
    }

    /// Five people with forty posts each would else be a whole list.
    #[tokio::test]
    async fn one_author_counts_for_twenty_things_of_a_kind_in_a_day_the_first_ones() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let cast = |tx: &mut Tx<'_>| {
            let mut say = |number: u64, hour: u32, tags: &[&str]| {
                let post = iri(&format!("https://a.example/notes/{number}"));
                tx.cast(Voted::Post(&post), Ballot { hour, ..ballot(7, 1, tags) })
            };
            let now = hour_of(NOON);
            for number in 0..4 {
                let tags: Vec<String> = (0..5).map(|tag| format!("tag{number}x{tag}")).collect();
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                assert!(say(number, now, &tags)?);
            }
            assert!(!say(10, now, &["more"])?, "the twenty-first");
            assert!(say(11, now, &["more", "tag0x0"])?, "what was counted before is counted again");
            assert!(say(12, now + DAY, &["more"])?, "another day");
            let link = Choice { subject: Subject::Link, key: "https://n.example/".to_owned(), shown: String::new() };
            let other = Ballot { choices: vec![link], ..ballot(7, 1, &[]) };
            tx.cast(Voted::Post(&iri("https://a.example/notes/13")), other)
        };
        assert!(store.write(cast).await.unwrap(), "of each kind");
        let counted = store.ballots().unwrap().of(target(Subject::Tag, "more")).unwrap();
        assert_eq!(counted.len(), 1);
    }

    #[tokio::test]
    async fn an_edit_and_a_boost_that_is_said_again_keep_the_hour_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let first = hour_of(NOON);
        let cast = move |tx: &mut Tx<'_>| {
            let (post, ada) = (iri("https://a.example/notes/1"), iri("https://a.example/users/ada"));
            for voted in [Voted::Post(&post), Voted::Boost(&post, &ada)] {
                assert_eq!(tx.ballot_hour(voted, first)?, first);
                tx.cast(voted, ballot(7, 1, &["cats"]))?;
                assert_eq!(tx.ballot_hour(voted, first + 5)?, first);
                tx.take_back_post(voted)?;
                assert_eq!(tx.ballot_hour(voted, first + 5)?, first, "an edit takes back what was there at once");
            }
            tx.expire_ballots(first + 1, 10)?;
            tx.ballot_hour(Voted::Post(&post), first + 60)
        };
        assert_eq!(store.write(cast).await.unwrap(), first + 60, "after two days it is forgotten");
    }

    #[tokio::test]
    async fn all_that_counted_for_a_thing_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let cast = |tx: &mut Tx<'_>| {
            for number in 0..5 {
                let post = iri(&format!("https://a.example/notes/{number}"));
                tx.cast(Voted::Post(&post), ballot(number, 1, &["cats"]))?;
            }
            Ok((tx.take_back_target(Subject::Tag, "cats", 3)?, tx.take_back_target(Subject::Tag, "cats", 3)?))
        };
        assert_eq!(store.write(cast).await.unwrap(), (true, false));
        assert!(rows(&store).is_empty());
    }

    #[tokio::test]
    async fn what_waits_to_be_counted_is_bounded_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let _told = store.follow_ballots();
        let long = "x".repeat(400);
        let cast = move |tx: &mut Tx<'_>| {
            (0..8000_u64).try_for_each(|number| {
                let post = iri(&format!("https://a.example/notes/{number}"));
                tx.cast(Voted::Post(&post), ballot(number, 1, &[&long])).map(drop)
            })
        };
        store.write(cast).await.unwrap();
        assert_eq!(store.ballot_changes(), None, "whoever counts reads the journal anew");
        assert_eq!(store.ballot_changes(), Some(Vec::new()));
    }

    #[tokio::test]
    async fn old_ballots_go_and_the_keys_of_their_weeks_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let ada = iri("https://a.example/users/ada");
        let (writer, now) = (ada.clone(), hour_of(NOON));
        let cast = move |tx: &mut Tx<'_>| {
            let author = tx.ballot_author(&writer, now)?;
            tx.cast(Voted::Post(&iri("https://a.example/notes/1")), ballot(author, 1, &["cats"]))?;
            assert_eq!(tx.ballot_author(&writer, now)?, author);
            assert_ne!(tx.ballot_author(&writer, now + 2 * WEEK)?, author, "another week, another number");
            Ok(())
        };
        store.write(cast).await.unwrap();
        assert!(!store.write(move |tx| tx.expire_ballots(now, 10)).await.unwrap());
        assert_eq!(rows(&store).len(), 1, "the hour itself is not over");
        store.write(move |tx| tx.expire_ballots(now + 1, 10)).await.unwrap();
        assert!(rows(&store).is_empty());
        assert_eq!(store.all::<BallotKey>().unwrap().len(), 2);
        store.write(move |tx| tx.expire_ballots(now + 2 * WEEK, 10)).await.unwrap();
        assert_eq!(store.all::<BallotKey>().unwrap().len(), 1);
    }

    #[test]
    fn a_ballot_keeps_its_golden_bytes() {
        let mut golden = ballot(7, 3, &["cats"]);
        golden.young = true;
        golden.choices.push(Choice {
            subject: Subject::Link,
            key: "https://n.example/".to_owned(),
            shown: String::new(),
        });
        golden.choices.push(Choice { subject: Subject::Tag, key: "birds".to_owned(), shown: "Birds".to_owned() });
        let kept = crate::store::testing::golden(Ballot::TABLE, &codec::encode(&golden).unwrap());
        assert_eq!(codec::decode::<Ballot>(&kept).unwrap(), golden);
    }
}

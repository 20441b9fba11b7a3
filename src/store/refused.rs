//! Who said no to being found, and what is kept out of the search for good. By keyed hashes only: nobody who gets hold of
//! the table learns whose they are, and nobody but this relay can ask it.
//!
//! The key of the hashes is the search's own. It moves house with them ([`SearchKey`]): a list of hashes is worth nothing
//! without it, and who said no here said it to the relay, wherever it runs.
//!
//! A no that passes is what a profile or a server said last; it stands until they say otherwise. A no that lasts was an
//! act of the person's own, and each stands by itself: a Block of one of our actors is lifted by its Undo and by nothing
//! else, a removal that was asked for only by who asked for it.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{HeldPost, Record, SeenSet, Store, StoreError, Tx, codec, seen, table};
use crate::clock::Timestamp;
use crate::ids::{Iri, Seq};

/// Rows of people whose profile said no, at most; those whose no lasts are counted apart. Tests write so many, and have not
/// the time for a million.
const MOST_PASSING: u64 = if cfg!(test) { 1000 } else { 1_000_000 };
/// The one row of [`Lasting`].
pub(super) const LASTING_ROW: &str = "count";
/// What is remembered of who came back, until their profile is read.
const RETURNED: &str = "returned";

/// What a token proves: that whoever shows it in their profile wants this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be taken out, and kept out.
    Removal,
    /// To be asked again by their profile, after a removal.
    Return,
    /// That posts from before their consent are taken, too.
    Older,
}

impl Wish {
    /// Its word in tokens.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Removal => "remove",
            Self::Return => "return",
            Self::Older => "older",
        }
    }
}

/// That somebody said no, under a keyed hash of their id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refused {
    /// When the newest was said. Whoever says yes later has said it from then on, not before.
    pub at: Timestamp,
    /// What their profile or their server said, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passing: Option<String>,
    /// Our actors that they block, by id; empty text: one that was not written down.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub blocks: BTreeSet<String>,
    /// They asked to be removed, and proved that it was theirs to ask; or the operator wrote it down for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

impl Refused {
    /// The word of a Block.
    pub const BLOCKED: &'static str = "blocked-us";
    /// The word of a removal.
    pub const REMOVED: &'static str = "removed";

    /// It stands until the person takes it back, whatever their profile says.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.removed || !self.blocks.is_empty()
    }

    /// All that was said, in words; what lasts comes first.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        let removed = self.removed.then_some(Self::REMOVED);
        let blocked = (!self.blocks.is_empty()).then_some(Self::BLOCKED);
        removed.into_iter().chain(blocked).chain(self.passing.as_deref()).collect()
    }
}

impl Record for Refused {
    const TABLE: &'static str = "ledger_refused";
    const VERSION: u8 = 2;

    /// Version 1 knew one reason, and whether it lasts.
    fn upgrade(version: u8, payload: Value) -> Option<Value> {
        let (at, reason) = (payload.get("at")?, payload.get("reason")?.as_str()?);
        let lasting = payload.get("lasting").and_then(Value::as_bool).unwrap_or_default();
        (version == 1).then(|| match (lasting, reason) {
            (true, Self::BLOCKED) => json!({ "at": at, "blocks": [""] }),
            (true, _) => json!({ "at": at, "removed": true }),
            (false, reason) => json!({ "at": at, "passing": reason }),
        })
    }
}

/// How many of them last, in one row: strangers can say no by the million, and what profiles say must leave room for what
/// people did. Counted once if it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lasting {
    pub(super) count: u64,
}

impl Record for Lasting {
    const TABLE: &'static str = "ledger_refused_lasting";
}

/// The key of the search's hashes, where it was brought along from another folder; else it is made from the store's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchKey {
    /// 64 hex digits.
    pub key: String,
}

impl Record for SearchKey {
    const TABLE: &'static str = "search_key";
}

impl SearchKey {
    /// Its one row.
    pub const ROW: &'static str = "key";

    fn of(key: &[u8; 32]) -> Self {
        Self { key: key.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    fn bytes(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        let digits = self.key.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }
}

/// A post that is kept out, whoever brings it again. Keyed by a keyed hash of its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// Since when. A year later nothing so old is taken in any case.
    pub at: Timestamp,
}

impl Record for Suppressed {
    const TABLE: &'static str = "ledger_suppressed";
}

impl Store {
    pub(super) fn load_search_key(&self) -> Result<(), StoreError> {
        let row = self.get::<SearchKey>(SearchKey::ROW)?;
        let bad = || StoreError::Damaged("the key of the search's hashes".to_owned());
        let key = match row {
            Some(row) => row.bytes().ok_or_else(bad)?,
            None => {
                let half = |word| seen::hash(&self.0.secret, SeenSet::Tombstones, &["search key", word]).to_be_bytes();
                let mut key = [0; 32];
                key[..16].copy_from_slice(&half("one"));
                key[16..].copy_from_slice(&half("two"));
                key
            }
        };
        *self.0.search_key.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    fn search_key(&self) -> [u8; 32] {
        *self.0.search_key.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of the search's hashes, to be taken along.
    pub(super) fn search_key_row(&self) -> SearchKey {
        SearchKey::of(&self.search_key())
    }

    /// Whether, when and why this actor said no. What cannot be read is taken for a no that lasts: whoever said it may have
    /// meant it.
    ///
    /// # Errors
    /// The engine's.
    pub fn refused(&self, actor: &Iri) -> Result<Option<Refused>, StoreError> {
        self.or_a_no(self.get(&self.refused_key(actor)))
    }

    /// What this actor shows in their profile to prove that a wish is theirs, in the week of `at`: what was left standing
    /// there long ago proves nothing of today. Nothing is kept of it: it is made from the id and the store's secret.
    #[must_use]
    pub fn token(&self, actor: &Iri, wish: Wish, at: Timestamp) -> String {
        let week = at.day().div_euclid(7).to_string();
        let hash = seen::hash(&self.search_key(), SeenSet::Tombstones, &["token", wish.word(), &week, actor.as_str()]);
        // 80 bits: nobody guesses it by asking, and a profile has room for it.
        format!("shearwater-{}-{:020x}", wish.word(), hash >> 48)
    }

    /// Tells posts of one moment apart.
    pub(super) fn place_hash(&self, object: &Iri) -> u128 {
        seen::hash(&self.search_key(), SeenSet::Tombstones, &["place", object.as_str()])
    }

    pub(super) fn edited_key(&self, object: &Iri) -> String {
        format!("{:032x}", seen::hash(&self.search_key(), SeenSet::Tombstones, &["edited", object.as_str()]))
    }

    pub(super) fn unboosted_key(&self, object: &Iri, by: &Iri) -> String {
        let parts = ["unboosted", object.as_str(), by.as_str()];
        format!("{:032x}", seen::hash(&self.search_key(), SeenSet::Tombstones, &parts))
    }

    fn refused_key(&self, actor: &Iri) -> String {
        format!("{:032x}", seen::hash(&self.search_key(), SeenSet::Tombstones, &["refused", actor.as_str()]))
    }

    fn suppressed_key(&self, object: &Iri) -> String {
        format!("{:032x}", seen::hash(&self.search_key(), SeenSet::Tombstones, &["suppressed", object.as_str()]))
    }

    fn or_a_no(&self, read: Result<Option<Refused>, StoreError>) -> Result<Option<Refused>, StoreError> {
        match read {
            Err(StoreError::Damaged(_)) => {
                Ok(Some(Refused { at: self.0.clock.now(), removed: true, ..Refused::default() }))
            }
            read => read,
        }
    }
}

impl Tx<'_> {
    /// Whether, when and why this actor said no, as this transaction sees it; see [`Store::refused`].
    ///
    /// # Errors
    /// The engine's.
    pub fn refused_author(&self, actor: &Iri) -> Result<Option<Refused>, StoreError> {
        self.store.or_a_no(self.get(&self.store.refused_key(actor)))
    }

    /// Remembers what their profile or their server said, in a word, and when. One that is known is not written for every
    /// post, and where a million are remembered no other is: then what somebody wrote before they said yes may be taken.
    ///
    /// # Errors
    /// The engine's.
    pub fn refuse_author(&mut self, actor: &Iri, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        let is_full = self.count::<Refused>()?.saturating_sub(self.lasting_refusals()?) >= MOST_PASSING;
        // Of whom posts are held it is always remembered: it is said before they are withdrawn.
        if is_full && self.refused_author(actor)?.is_none() && self.indexed_author(actor)?.is_none() {
            return Ok(());
        }
        self.change_refusal(actor, at, |no| no.passing = Some(reason.to_owned()))
    }

    /// How many people are remembered whose no lasts.
    ///
    /// # Errors
    /// The engine's.
    pub fn lasting_refusals(&self) -> Result<u64, StoreError> {
        match self.get::<Lasting>(LASTING_ROW) {
            Ok(Some(lasting)) => Ok(lasting.count),
            Ok(None) | Err(StoreError::Damaged(_)) => {
                let rows = self.engine().open_table(table::<Refused>())?;
                let lasts = |row: &[u8]| codec::decode::<Refused>(row).map_or(true, |no| no.lasts());
                let mut count = 0;
                for row in rows.iter()? {
                    count += u64::from(lasts(row?.1.value()));
                }
                Ok(count)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a refusal down, or that there is none any more.
    fn set_refusal(&mut self, key: &str, before: Option<&Refused>, no: &Refused) -> Result<(), StoreError> {
        let lasting = self.lasting_refusals()?;
        let count = lasting + u64::from(no.lasts()) - u64::from(before.is_some_and(Refused::lasts)).min(lasting);
        self.put(LASTING_ROW, &Lasting { count })?;
        if no.words().is_empty() { self.remove::<Refused>(key).map(drop) } else { self.put(key, no) }
    }

    /// Takes a refusal over that was written down elsewhere: it adds to what is known here and takes nothing away.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn import_refusal(&mut self, key: &str, other: Refused) -> Result<(), StoreError> {
        let before = self.store.or_a_no(self.get::<Refused>(key))?;
        let mut no = before.clone().unwrap_or_default();
        no.at = no.at.max(other.at);
        no.removed |= other.removed;
        no.blocks.extend(other.blocks);
        no.passing = no.passing.or(other.passing);
        self.set_refusal(key, before.as_ref(), &no)
    }

    /// Remembers that they block one of our actors.
    ///
    /// # Errors
    /// The engine's.
    pub fn note_block(&mut self, actor: &Iri, ours: &Iri) -> Result<(), StoreError> {
        self.change_refusal(actor, self.store.0.clock.now(), |no| {
            no.blocks.insert(ours.as_str().to_owned());
        })
    }

    /// Remembers that they want to be kept out.
    ///
    /// # Errors
    /// The engine's.
    pub fn note_removal(&mut self, actor: &Iri) -> Result<(), StoreError> {
        self.change_refusal(actor, self.store.0.clock.now(), |no| no.removed = true)
    }

    /// Takes out what is held of people whose no lasts, posts that are kept out, what was deleted, and what stands before the
    /// place in `edited`, which is keyed as [`super::Edited`] is: all this may have been said elsewhere, or since a backup.
    pub(super) fn heed_what_was_said(&mut self, edited: &HashMap<String, Seq>) -> Result<(), StoreError> {
        let view = self.store.ledger()?;
        let mut from = Some(0);
        while let Some(number) = from {
            let page = view.posts(number, 500)?;
            from = page.next;
            for (_, post) in page.rows {
                let before = edited.get(&self.store.edited_key(&post.object));
                if before.is_some_and(|before| post.seq < *before)
                    || self.is_suppressed(&post.object)?
                    || self.is_deleted(&post.object)?
                {
                    self.drop_indexed_post(&post.object)?;
                }
            }
        }
        for (_, post) in self.store.all::<HeldPost>()? {
            if self.is_deleted(&post.object)? || self.is_gone(&post.actor)? {
                self.unhold(&post.object)?;
            }
        }
        for actor in self.indexed_actors()? {
            if self.refused_author(&actor)?.is_some_and(|no| no.lasts()) || self.is_gone(&actor)? {
                self.withdraw_author(&actor)?;
            }
        }
        Ok(())
    }

    /// Whoever says the same again says it later: a yes in between is over.
    fn change_refusal(
        &mut self,
        actor: &Iri,
        at: Timestamp,
        change: impl FnOnce(&mut Refused),
    ) -> Result<(), StoreError> {
        let before = self.refused_author(actor)?;
        let mut no = before.clone().unwrap_or_default();
        change(&mut no);
        no.at = no.at.max(at);
        if before.as_ref() == Some(&no) {
            return Ok(());
        }
        self.set_refusal(&self.store.refused_key(actor), before.as_ref(), &no)
    }

    /// A Block of ours is taken back; whether there was one. Whatever else they said stands.
    ///
    /// # Errors
    /// The engine's.
    pub fn lift_block(&mut self, actor: &Iri, ours: &Iri) -> Result<bool, StoreError> {
        self.lift(actor, |no| no.blocks.remove(ours.as_str()) | no.blocks.remove(""))
    }

    /// A removal is taken back; whether there was one. Whatever else they said stands, and what was written before their
    /// profile is read again is not taken.
    ///
    /// # Errors
    /// The engine's.
    pub fn lift_removal(&mut self, actor: &Iri) -> Result<bool, StoreError> {
        self.lift(actor, |no| {
            let was_removed = std::mem::take(&mut no.removed);
            if was_removed && !no.lasts() {
                no.passing.get_or_insert_with(|| RETURNED.to_owned());
            }
            was_removed
        })
    }

    /// What their profile said is over: it says yes now. Whatever lasts stands.
    ///
    /// # Errors
    /// The engine's.
    pub fn readmit_author(&mut self, actor: &Iri) -> Result<bool, StoreError> {
        self.lift(actor, |no| no.passing.take().is_some())
    }

    fn lift(&mut self, actor: &Iri, change: impl FnOnce(&mut Refused) -> bool) -> Result<bool, StoreError> {
        let Some(before) = self.refused_author(actor)? else { return Ok(false) };
        let mut no = before.clone();
        if !change(&mut no) {
            return Ok(false);
        }
        self.set_refusal(&self.store.refused_key(actor), Some(&before), &no)?;
        Ok(true)
    }

    /// Whether a change of this actor's document matters to the search: posts of theirs are held, or they said no and may
    /// say yes now.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn knows_to_search(&self, actor: &Iri) -> Result<bool, StoreError> {
        Ok(self.indexed_author(actor)?.is_some() || self.refused_author(actor)?.is_some_and(|no| !no.lasts()))
    }

    /// Keeps a post out from now on; it is to be dropped as well.
    ///
    /// # Errors
    /// The engine's.
    pub fn suppress_post(&mut self, object: &Iri) -> Result<(), StoreError> {
        self.put(&self.store.suppressed_key(object), &Suppressed { at: self.store.0.clock.now() })
    }

    /// Takes the key of the search's hashes over from another folder.
    ///
    /// # Errors
    /// [`StoreError::Declined`] if somebody said no here under another key: their hashes would mean nobody any more.
    pub(super) fn take_search_key(&mut self, row: &SearchKey) -> Result<(), StoreError> {
        let Some(key) = row.bytes() else { return Err(StoreError::Declined("the search's key is none".to_owned())) };
        if key == self.store.search_key() {
            return Ok(());
        }
        if self.count::<Refused>()? + self.count::<Suppressed>()? > 0 {
            let why = "people said no to being found here already, under another key: import into an empty data_dir";
            return Err(StoreError::Declined(why.to_owned()));
        }
        self.put(SearchKey::ROW, row)?;
        self.after_commit(move |store| *store.0.search_key.write().unwrap_or_else(PoisonError::into_inner) = key);
        Ok(())
    }

    /// Whether this post is kept out. A row that cannot be read is one all the same.
    ///
    /// # Errors
    /// The engine's.
    pub fn is_suppressed(&self, object: &Iri) -> Result<bool, StoreError> {
        match self.get::<Suppressed>(&self.store.suppressed_key(object)) {
            Err(StoreError::Damaged(_)) => Ok(true),
            row => Ok(row?.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::codec;
    use crate::store::ledger::testing;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn iri(text: &str) -> Iri {
        Iri::parse(text).unwrap()
    }

    fn ada() -> Iri {
        iri("https://a.example/users/ada")
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn each_no_is_lifted_by_its_own_undo_and_by_nothing_else() {
        let (_dir, store) = store();
        let (relay, search) = (iri("https://r.example/actor"), iri("https://r.example/search/actor"));
        let (one, other) = (relay.clone(), search.clone());
        store
            .write(move |tx| {
                tx.refuse_author(&ada(), "not-indexable", NOON)?;
                tx.note_block(&ada(), &one)?;
                tx.note_block(&ada(), &other)?;
                tx.note_removal(&ada())
            })
            .await
            .unwrap();
        let words = || {
            store
                .refused(&ada())
                .unwrap()
                .map_or_else(Vec::new, |no| no.words().into_iter().map(str::to_owned).collect())
        };
        assert_eq!(words(), ["removed", "blocked-us", "not-indexable"]);
        let rows = store.all::<Refused>().unwrap();
        assert!(rows.len() == 1 && !rows[0].0.contains("ada"), "{rows:?}");
        let (one, other) = (relay.clone(), search.clone());
        assert!(store.write(move |tx| tx.lift_block(&ada(), &one)).await.unwrap());
        assert_eq!(words(), ["removed", "blocked-us", "not-indexable"], "the other one is blocked still");
        assert!(store.write(move |tx| tx.lift_block(&ada(), &other)).await.unwrap());
        assert!(!store.write(move |tx| tx.lift_block(&ada(), &search)).await.unwrap(), "once");
        assert_eq!(words(), ["removed", "not-indexable"], "no Undo of a Block lifts a removal");
        assert!(store.write(|tx| tx.readmit_author(&ada())).await.unwrap());
        assert_eq!(words(), ["removed"], "nor does a profile");
        assert!(store.write(|tx| tx.lift_removal(&ada())).await.unwrap());
        assert_eq!(words(), ["returned"], "from now on");
        assert!(store.write(|tx| tx.readmit_author(&ada())).await.unwrap());
        assert_eq!(store.refused(&ada()).unwrap(), None);
    }

    #[tokio::test]
    async fn a_no_of_an_older_release_stands_and_one_that_cannot_be_read_as_well() {
        let (_dir, store) = store();
        let check = async |payload: &str, expected: &[&str]| {
            let (key, bytes) = (store.refused_key(&ada()), codec::frame(1, payload.as_bytes()));
            let put = move |tx: &mut Tx<'_>| tx.insert(table::<Refused>(), key.as_str(), bytes.as_slice());
            store.write(put).await.unwrap();
            assert_eq!(store.refused(&ada()).unwrap().unwrap().words(), expected, "{payload}");
        };
        check(r#"{"at":1787486400000,"reason":"not-indexable"}"#, &["not-indexable"]).await;
        check(r#"{"at":1787486400000,"reason":"blocked-us","lasting":true}"#, &["blocked-us"]).await;
        check(r#"{"at":1787486400000,"reason":"removed","lasting":true}"#, &["removed"]).await;
        check("???", &["removed"]).await;
        let anyone = iri("https://r.example/actor");
        store.write(|tx| tx.lift_removal(&ada())).await.unwrap();
        check(r#"{"at":1787486400000,"reason":"blocked-us","lasting":true}"#, &["blocked-us"]).await;
        assert!(store.write(move |tx| tx.lift_block(&ada(), &anyone)).await.unwrap());
    }

    #[test]
    fn tokens_differ_by_person_wish_relay_and_week_and_are_the_same_each_time() {
        let ((_a, one), (_b, other)) = (store(), store());
        let monday = Timestamp::from_secs(1_787_486_400);
        let token = one.token(&ada(), Wish::Removal, monday);
        assert!(token.len() < 50 && token.starts_with("shearwater-remove-"), "{token}");
        assert_eq!(token, one.token(&ada(), Wish::Removal, monday));
        let others = [
            one.token(&ada(), Wish::Return, monday),
            other.token(&ada(), Wish::Removal, monday),
            one.token(&iri("https://a.example/users/eve"), Wish::Removal, monday),
            one.token(&ada(), Wish::Removal, monday.plus(std::time::Duration::from_secs(7 * 86_400))),
        ];
        assert!(!others.contains(&token), "{others:?}");
    }

    #[tokio::test]
    async fn a_no_that_is_said_again_is_newer_than_the_yes_in_between() {
        let (_dir, store) = store();
        let at = || store.refused(&ada()).unwrap().unwrap().at;
        for later in [0, 60, 30] {
            let said = NOON.plus(std::time::Duration::from_secs(later));
            store.write(move |tx| tx.refuse_author(&ada(), "not-indexable", said)).await.unwrap();
        }
        assert_eq!(at(), NOON.plus(std::time::Duration::from_secs(60)));
    }

    /// Anybody may have a profile that says no, and many have.
    #[tokio::test]
    async fn what_profiles_say_leaves_room_for_what_people_did() {
        let (_dir, store) = store();
        let person = |n: u64| iri(&format!("https://a.example/users/{n}"));
        let ours = iri("https://r.example/actor");
        let count = async || store.write(|tx| tx.lasting_refusals()).await.unwrap();
        store
            .write(move |tx| (0..50).try_for_each(|n| tx.refuse_author(&person(n), "not-indexable", NOON)))
            .await
            .unwrap();
        assert_eq!(count().await, 0);
        let (one, other) = (ours.clone(), ours.clone());
        store.write(move |tx| (40..60).try_for_each(|n| tx.note_block(&person(n), &one))).await.unwrap();
        store.write(move |tx| (50..55).try_for_each(|n| tx.note_removal(&person(n)))).await.unwrap();
        assert_eq!(count().await, 20, "each once");
        store.write(move |tx| (45..60).try_for_each(|n| tx.lift_block(&person(n), &other).map(drop))).await.unwrap();
        assert_eq!(count().await, 10, "five block us still, and five are removed");
        store.write(|tx| tx.remove::<Lasting>(LASTING_ROW)).await.unwrap();
        assert_eq!(count().await, 10, "counted anew where nobody wrote it down");
    }

    #[tokio::test]
    async fn what_profiles_say_has_a_bound_and_what_people_did_takes_nothing_of_it() {
        let (_dir, store) = store();
        let person = |n: u64| iri(&format!("https://a.example/users/{n}"));
        let ours = iri("https://r.example/actor");
        store.write(move |tx| (0..MOST_PASSING).try_for_each(|n| tx.note_block(&person(n), &ours))).await.unwrap();
        let refuse = async |who: Iri| {
            let row = who.clone();
            store.write(move |tx| tx.refuse_author(&row, "not-indexable", NOON)).await.unwrap();
            store.refused(&who).unwrap().is_some_and(|no| no.passing.is_some())
        };
        let profiles = MOST_PASSING..2 * MOST_PASSING;
        store
            .write(move |tx| profiles.clone().try_for_each(|n| tx.refuse_author(&person(n), "not-indexable", NOON)))
            .await
            .unwrap();
        assert!(store.refused(&person(2 * MOST_PASSING - 1)).unwrap().is_some(), "there was room for all of these");
        assert!(!refuse(person(2 * MOST_PASSING)).await, "and for no more");
        assert!(refuse(person(0)).await, "of whom something is remembered, the rest is too");
        let held = person(3 * MOST_PASSING);
        let who = held.clone();
        let hold = move |tx: &mut Tx<'_>| testing::hold(tx, &who, &iri("https://a.example/notes/1"));
        store.write(hold).await.unwrap();
        assert!(refuse(held).await, "and of whom posts are held, always");
    }

    #[tokio::test]
    async fn a_suppressed_post_is_known_by_a_hash() {
        let (_dir, store) = store();
        let post = iri("https://a.example/notes/7");
        let kept = post.clone();
        store.write(move |tx| tx.suppress_post(&kept)).await.unwrap();
        assert!(!store.all::<Suppressed>().unwrap()[0].0.contains("notes"));
        let (this, that) = (post, iri("https://a.example/notes/8"));
        let known = store.write(move |tx| Ok((tx.is_suppressed(&this)?, tx.is_suppressed(&that)?))).await.unwrap();
        assert_eq!(known, (true, false));
    }
}

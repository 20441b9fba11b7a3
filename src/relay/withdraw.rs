//! An author goes out of the search, or a post does: in the transaction of the request that says so, so that the next
//! search finds nothing of it. What the index and its files still hold is swept by others; the ledger has the last word.
//! With it goes what trends count of it, as if it had never been seen.
//!
//! Neither needs a subscriber: who blocks one of our actors, and who deletes what is theirs, is heard whoever they are.

use super::Relay;
use crate::ids::Iri;
use crate::log::{Draft, Log};
use crate::store::{SeenSet, StoreError, Subject, Tx, Voted};

/// People of whom it is remembered that they said no, at most: strangers can say it by the million. Of those whose posts
/// are held it is always.
const MOST_REFUSED: u64 = if cfg!(test) { 2000 } else { 1_000_000 };
/// The same of people whose server is not here: names that somebody made up leave room for those that matter. Tests write
/// so many, and have not the time for a million.
const MOST_REFUSED_STRANGERS: u64 = if cfg!(test) { 1000 } else { 100_000 };

/// Boosts of a post that are taken back with it in the request that deletes it.
const BOOSTS_AT_ONCE: usize = 100;

impl Relay {
    /// Ends an author's consent: their profile or their server says so. Remembered if there was one, or may be soon: their
    /// profile may be under way to us as it was before.
    pub(super) fn withdraw_from_search(
        &self,
        tx: &mut Tx<'_>,
        actor: &Iri,
        why: &str,
    ) -> Result<&'static str, StoreError> {
        let is_held = tx.indexed_author(actor)?.is_some();
        if is_held || tx.search_server(&actor.authority())?.is_some() {
            tx.refuse_author(actor, why, self.0.clock.now())?;
        }
        let was_held = tx.withdraw_author(actor)?;
        Ok(if was_held { "withdrawn" } else { "not-in-search" })
    }

    /// Ends an author's consent to being counted: their profile or their server says so. Remembered, as for the search.
    pub(super) fn uncount(&self, tx: &mut Tx<'_>, actor: &Iri, why: &str) -> Result<&'static str, StoreError> {
        if self.0.trends.is_on() {
            tx.refuse_author(actor, why, self.0.clock.now())?;
        }
        Ok(if tx.take_back_author(actor)? > 0 { "withdrawn" } else { "not-counted" })
    }

    /// Its author edits a post: whatever the new version says, and whether it is taken or not, no earlier one is found any
    /// longer, nor taken from where it waits.
    pub(super) fn void_earlier(tx: &mut Tx<'_>, actor: &Iri, object: &Iri) -> Result<&'static str, StoreError> {
        if !Self::is_theirs(tx, actor, object)? {
            return Ok("not-in-search");
        }
        tx.drop_indexed_post(object)?;
        tx.take_back_post(Voted::Post(object))?;
        tx.void_versions(object, Log::next_in(tx)?)?;
        Ok("edited")
    }

    /// Whether this is the author of a post that is held, or that came from here.
    pub(super) fn is_theirs(tx: &Tx<'_>, actor: &Iri, object: &Iri) -> Result<bool, StoreError> {
        match tx.indexed_post(object)? {
            Some((_, post)) => Ok(post.author == *actor),
            None => tx.has_seen(SeenSet::Objects, &by(actor, object)),
        }
    }

    fn most_refused(tx: &Tx<'_>, actor: &Iri) -> Result<u64, StoreError> {
        let server = actor.authority();
        let is_here = tx.subscriber(&server)?.is_some() || tx.search_server(&server)?.is_some();
        Ok(if is_here { MOST_REFUSED } else { MOST_REFUSED_STRANGERS })
    }

    /// Whether search is on for a server by this actor's word.
    pub(super) fn keeps_search_on(&self, actor: &Iri) -> bool {
        self.0.store.search_servers().get(&actor.authority()).is_some_and(|server| server.is_followed_by(actor))
    }

    /// Whether that is so already, and nothing of theirs is held.
    pub(super) fn is_blocked_by(&self, actor: &Iri, ours: &Iri) -> Result<bool, StoreError> {
        let stands = self.0.store.refused(actor)?.is_some_and(|no| no.blocks.contains(ours.as_str()));
        Ok(stands && !self.is_found_or_counted(actor))
    }

    /// Somebody blocked this actor of ours. Who switched search on for their server says no for all of it.
    pub(super) fn blocked_by(tx: &mut Tx<'_>, actor: &Iri, ours: &Iri) -> Result<&'static str, StoreError> {
        Self::search_ends_with(tx, actor)?;
        let was_counted = tx.take_back_author(actor)? > 0;
        let was_held = tx.withdraw_author(actor)? || was_counted;
        if !was_held && tx.lasting_refusals()? >= Self::most_refused(tx, actor)? {
            return Ok("refusal-not-kept");
        }
        tx.note_block(actor, ours)?;
        Ok("withdrawn")
    }

    /// And took it back: their profile counts again, from now on. Another no of theirs stands, a Block of our other actor
    /// included.
    pub(super) fn unblocked_by(tx: &mut Tx<'_>, actor: &Iri, ours: &Iri) -> Result<&'static str, StoreError> {
        Ok(if tx.lift_block(actor, ours)? { "readmitted" } else { "undo-of-unknown-block" })
    }

    /// Takes what a deletion is about out of the search; whether it was there. Only what is its author's.
    pub(super) fn unindex(&self, tx: &mut Tx<'_>, draft: &Draft) -> Result<bool, StoreError> {
        if draft.object == draft.actor {
            Self::search_ends_with(tx, &draft.actor)?;
            tx.take_back_author(&draft.actor)?;
            return Ok(self.withdraw_from_search(tx, &draft.actor, "deleted")? == "withdrawn");
        }
        // Whoever could not take it back was turned away before. Of a great many boosts the roller takes back the rest.
        tx.take_back_post(Voted::Post(&draft.object))?;
        tx.take_back_target(Subject::Post, draft.object.as_str(), BOOSTS_AT_ONCE)?;
        let is_theirs = tx.indexed_post(&draft.object)?.is_some_and(|(_, post)| post.author == draft.actor);
        if is_theirs { tx.drop_indexed_post(&draft.object) } else { Ok(false) }
    }

    /// Somebody boosts a post. Only what may be shown is counted: what nobody gets to see needs no count.
    pub(super) fn boost(&self, tx: &mut Tx<'_>, draft: Draft) -> Result<&'static str, StoreError> {
        if tx.indexed_post(&draft.object)?.is_none() || tx.has_seen(SeenSet::Tombstones, &[draft.object.as_str()])? {
            return Ok("boost");
        }
        self.0.log.append(tx, draft)?;
        Ok("boost-noted")
    }

    /// And takes it back; also one that still waits for its booster to be read. That can only be of a post that may be
    /// shown: nothing else is written down for.
    pub(super) fn unboost(tx: &mut Tx<'_>, actor: &Iri, object: &Iri) -> Result<&'static str, StoreError> {
        if tx.indexed_post(object)?.is_some() {
            tx.void_boosts(object, actor, Log::next_in(tx)?)?;
        }
        Ok(if tx.take_back_post(Voted::Boost(object, actor))? { "boost-taken-back" } else { "undo-of-unknown-boost" })
    }

    /// Whether the search has this post, or had it from us and reads it in a moment.
    pub(super) fn is_searched(tx: &Tx<'_>, object: &Iri) -> Result<bool, StoreError> {
        Ok(Self::came_for_search(tx, object)? || tx.indexed_post(object)?.is_some())
    }

    /// Whether this post was taken for the search alone.
    pub(super) fn came_for_search(tx: &Tx<'_>, object: &Iri) -> Result<bool, StoreError> {
        tx.has_seen(SeenSet::Objects, &for_search(object))
    }

    /// Remembers that.
    pub(super) fn note_for_search(tx: &mut Tx<'_>, object: &Iri) -> Result<(), StoreError> {
        tx.note(SeenSet::Objects, &for_search(object)).map(|_new| ())
    }
}

/// Whose a post is: beside the ids of what was relayed, and never taken for one of them.
pub(super) fn by<'a>(actor: &'a Iri, object: &'a Iri) -> [&'a str; 3] {
    ["by", actor.as_str(), object.as_str()]
}

/// Beside the ids of what was relayed, and never taken for one of them.
fn for_search(object: &Iri) -> [&str; 2] {
    ["search", object.as_str()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::store::{IndexedAuthor, SearchServer, Store, SwitchedBy};
    use crate::wire::searchable::{ActorSignals, Profile};

    fn author(actor: &Iri, read_at: Timestamp) -> IndexedAuthor {
        let said = serde_json::json!({ "id": actor.as_str(), "type": "Person" });
        let (signals, profile) = (ActorSignals::default(), Profile::of(&said).unwrap());
        IndexedAuthor { number: 0, since: None, read_at, signals, profile, hidden: None }
    }

    /// Anybody has as many names as they like, and may block us under each.
    #[tokio::test]
    async fn made_up_people_who_block_us_leave_room_for_those_whose_server_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_787_486_400);
        let store = Store::open(dir.path(), Clock::manual(now)).unwrap();
        let person = |server: &str, n: u64| Iri::parse(&format!("https://{server}/users/{n}")).unwrap();
        let server = person("here.example", 0).authority();
        let on = SearchServer { since: now, by: SwitchedBy::Operator, reason: String::new(), also: Vec::new() };
        let ours = person("relay.example", 0);
        let blocked = ours.clone();
        let fill = move |tx: &mut Tx<'_>| {
            tx.switch_search(&server, Some(on))?;
            // What profiles say takes none of this room.
            (0..500).try_for_each(|n| tx.refuse_author(&person("quiet.example", n), "not-indexable", now))?;
            (1..MOST_REFUSED_STRANGERS).try_for_each(|n| tx.note_block(&person("evil.example", n), &blocked))
        };
        store.write(fill).await.unwrap();
        let block = async |who: Iri| {
            let ours = ours.clone();
            store.write(move |tx| Relay::blocked_by(tx, &who, &ours)).await.unwrap()
        };
        assert_eq!(block(person("evil.example", 0)).await, "withdrawn");
        assert_eq!(block(person("other.example", 1)).await, "refusal-not-kept", "it was the last of the strangers'");
        assert_eq!(store.refused(&person("other.example", 1)).unwrap(), None);
        assert_eq!(block(person("here.example", 1)).await, "withdrawn");
        assert!(store.refused(&person("here.example", 1)).unwrap().is_some());

        let blocked = ours.clone();
        let held = person("other.example", 2);
        let fill = move |tx: &mut Tx<'_>| {
            tx.put_indexed_author(&held, author(&held, now))?;
            let count = tx.lasting_refusals()?;
            (count..MOST_REFUSED).try_for_each(|n| tx.note_block(&person("here.example", n), &blocked))
        };
        store.write(fill).await.unwrap();
        assert_eq!(block(person("here.example", MOST_REFUSED)).await, "refusal-not-kept", "theirs has an end as well");
        assert_eq!(block(person("other.example", 2)).await, "withdrawn", "of whom posts are held it has none");
        assert!(store.refused(&person("other.example", 2)).unwrap().is_some());
    }
}

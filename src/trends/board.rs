//! The counts in memory, kept true to the journal: made from it at a start, and moved on by its changes. What only one
//! server speaks of is not counted ([`Sketch`]); once a second one does, what the journal holds of it is read, so that
//! nothing is missing that came before.

use std::sync::Arc;

use super::assess::Counts;
use super::servers::Servers;
use super::sketch::Sketch;
use super::votes::Votes;
use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::policy::{RuleSet, Verdict};
use crate::store::{BallotChange, BallotView, Choice, Place, Store, StoreError, Subject, TrendClosed, hour_of};

/// The share of the memory that the sketch has.
const SKETCH_SHARE: usize = 4;
/// After so many things that were let in at a start it is looked whether there is room.
const LOOK_EVERY: usize = 1000;

/// The counts.
pub struct Board {
    /// Who speaks of what.
    pub votes: Votes,
    /// From where.
    pub servers: Servers,
    sketch: Sketch,
    newest: u64,
    most: usize,
    /// Things that were forgotten for lack of room, ever.
    evicted: u64,
    rules: Arc<RuleSet>,
    /// The hour since which anything is counted here.
    since: u32,
}

impl Board {
    /// Makes the counts from the journal.
    ///
    /// # Errors
    /// The store's.
    pub fn load(
        store: &Store,
        memory: usize,
        grown: &[String],
        rules: &Arc<RuleSet>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let sketch = Sketch::new(memory / SKETCH_SHARE);
        let closed = store.get::<TrendClosed>(TrendClosed::ROW)?;
        let mut board = Self {
            votes: Votes::default(),
            servers: Servers::new(grown),
            most: memory.saturating_sub(sketch.bytes()),
            sketch,
            newest: 0,
            evicted: 0,
            rules: rules.clone(),
            since: closed.map_or_else(|| hour_of(now), |closed| closed.since),
        };
        let view = store.ballots()?;
        board.learn_places(store, now)?;
        let mut several = Vec::new();
        view.targets(|target, places| {
            let mut others = false;
            for place in places {
                others |= board.sketch.note(target, board.servers.domain_of(*place).unwrap_or(*place));
            }
            if others {
                several.push(target);
            }
        })?;
        for (count, target) in several.into_iter().enumerate() {
            board.admit(&view, target, None)?;
            if count % LOOK_EVERY == 0 {
                board.make_room(now);
            }
        }
        board.newest = view.newest();
        board.make_room(now);
        Ok(board)
    }

    /// Moves on by what changed.
    ///
    /// # Errors
    /// The store's.
    pub fn follow(&mut self, changes: &[(u64, BallotChange)], store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let mut view = None;
        for (number, change) in changes {
            self.newest = self.newest.max(*number);
            match change {
                BallotChange::TakenBack(ballot) => {
                    ballot.choices.iter().for_each(|choice| self.votes.subtract(*number, ballot, choice));
                }
                BallotChange::Met(server, place) => self.learn(server, place, now),
                BallotChange::Forgotten(places) => self.servers.forget(places),
                BallotChange::Cast(ballot) => {
                    let domain = self.servers.domain_of(ballot.place).unwrap_or(ballot.place);
                    for choice in &ballot.choices {
                        let target = choice.target();
                        if self.votes.counts(target) {
                            self.votes.add(*number, ballot, choice);
                        } else if self.sketch.note(target, domain) {
                            if view.is_none() {
                                view = Some(store.ballots()?);
                            }
                            if let Some(view) = &view {
                                self.admit(view, target, Some(choice))?;
                            }
                        }
                    }
                }
            }
        }
        self.make_room(now);
        Ok(())
    }

    fn admit(&mut self, view: &BallotView, target: u64, wanted: Option<&Choice>) -> Result<(), StoreError> {
        let ballots = view.of(target)?;
        let found = ballots.iter().flat_map(|ballot| &ballot.choices).find(|choice| choice.target() == target);
        if let Some(choice) = wanted.or(found).filter(|_| !ballots.is_empty()) {
            self.votes.admit(choice, view.newest(), &ballots);
        }
        Ok(())
    }

    fn learn_places(&mut self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        let mut from = String::new();
        loop {
            let page = store.sound_page::<Place>(&from, 1000)?;
            let Some(next) = page.next else { return Ok(()) };
            from = next;
            // Of which nothing was seen for long is known anew when something is.
            for (name, place) in page.rows.into_iter().filter(|(_, place)| !place.is_lapsed(now)) {
                if let Ok(authority) = Authority::try_from(name) {
                    self.learn(&authority, &place, now);
                }
            }
        }
    }

    fn learn(&mut self, authority: &Authority, place: &Place, now: Timestamp) {
        let is_out = is_out(&self.rules, authority, now);
        self.servers.learn(authority, place, is_out);
    }

    /// Asks anew which servers a rule keeps out; the numbers of those.
    pub fn rule(&mut self, rules: &Arc<RuleSet>, now: Timestamp) -> Vec<u32> {
        self.rules = rules.clone();
        self.servers.rule(|authority| is_out(rules, authority, now))
    }

    /// Whether these are the rules that it counts by.
    #[must_use]
    pub fn is_ruled_by(&self, rules: &Arc<RuleSet>) -> bool {
        Arc::ptr_eq(&self.rules, rules)
    }

    fn make_room(&mut self, now: Timestamp) {
        let gone = self.votes.make_room(self.most, &self.servers, now) as u64;
        if gone > 0 {
            self.evicted += gone;
            tracing::warn!(gone, "trends: more things are spoken of than trends.memory has room for");
        }
    }

    /// The newest change of the journal that is counted.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// Things that were forgotten for lack of room, since the start.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The posts that are boosted, by their ids.
    #[must_use]
    pub fn posts(&self) -> Vec<String> {
        let posts = self.votes.targets().filter(|(_, subject)| *subject == Subject::Post);
        posts.filter_map(|(target, _)| Some(self.votes.key(target)?.1.to_owned())).collect()
    }

    /// What is counted.
    #[must_use]
    pub const fn counts(&self) -> Counts<'_> {
        Counts { votes: &self.votes, servers: &self.servers, since: self.since }
    }

    /// Bytes of memory, nearly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.votes.bytes() + self.sketch.bytes()
    }
}

fn is_out(rules: &RuleSet, authority: &Authority, now: Timestamp) -> bool {
    rules.searchable_server(authority, now).verdict == Verdict::Block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::ids::{Iri, Seq};
    use crate::store::{Ballot, Tx, Voted, hour_of};
    use crate::trends::votes::Span;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn ballot(tx: &mut Tx<'_>, number: u64, tags: &[&str]) -> Result<bool, StoreError> {
        let server = format!("s{}.example", number % 4);
        let author = Iri::parse(&format!("https://{server}/users/{number}")).unwrap();
        let place = tx.place(&author.authority())?.number;
        let hour = hour_of(NOON);
        let choices =
            tags.iter().map(|key| Choice { subject: Subject::Tag, key: (*key).to_owned(), shown: String::new() });
        let choices = choices.collect();
        let author = tx.ballot_author(&author, hour)?;
        let post = Iri::parse(&format!("https://{server}/notes/{number}")).unwrap();
        let ballot =
            Ballot { author, place, language: "en".to_owned(), young: false, hour, seq: Seq(number + 1), choices };
        tx.cast(Voted::Post(&post), ballot)
    }

    fn people(board: &Board, tag: &str) -> u32 {
        let span = Span { from: 0, to: u32::MAX };
        let count = board.votes.count(crate::store::target(Subject::Tag, tag), span, None, &board.servers, NOON);
        count.measure.people + count.weightless
    }

    #[tokio::test]
    async fn counts_that_follow_the_journal_are_those_that_are_made_from_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let config = Config::embedded();
        let rules = Arc::new(RuleSet::of_config(&config.policy, &config.relay));
        let load = || Board::load(&store, 1 << 20, &[], &rules, NOON).unwrap();
        let _told = store.follow_ballots();
        let mut board = load();
        let follow = |board: &mut Board| board.follow(&store.ballot_changes().unwrap(), &store, NOON).unwrap();
        // One server: not counted, and nothing is lost when the second one comes.
        store.write(|tx| (0..3).try_for_each(|n| ballot(tx, n * 4, &["cats"]).map(drop))).await.unwrap();
        follow(&mut board);
        assert_eq!((people(&board, "cats"), board.votes.len()), (0, 0));
        // What is committed while the changes wait is counted once.
        store.write(|tx| ballot(tx, 1, &["cats", "birds"]).map(drop)).await.unwrap();
        store.write(|tx| ballot(tx, 2, &["cats"]).map(drop)).await.unwrap();
        follow(&mut board);
        assert_eq!(people(&board, "cats"), 5);
        let gone = Iri::parse("https://s0.example/users/4").unwrap();
        assert_eq!(store.write(move |tx| tx.take_back_author(&gone)).await.unwrap(), 1);
        follow(&mut board);
        assert_eq!((people(&board, "cats"), people(&board, "birds")), (4, 0));
        // A server that comes later is known by the change that tells of it, and one that a rule keeps out is not counted.
        let new = Iri::parse("https://s9.example/users/9").unwrap();
        let place = store.write(move |tx| tx.place(&new.authority())).await.unwrap();
        assert!(!board.servers.knows(place.number));
        follow(&mut board);
        assert!(board.servers.knows(place.number));
        let anew = load();
        assert_eq!((people(&anew, "cats"), anew.votes.len(), anew.newest()), (4, board.votes.len(), board.newest()));
    }

    #[tokio::test]
    async fn a_start_takes_no_more_memory_than_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let config = Config::embedded();
        let rules = Arc::new(RuleSet::of_config(&config.policy, &config.relay));
        let fill = |tx: &mut Tx<'_>| {
            (0..3000_u64).try_for_each(|number| {
                let tags: Vec<String> = (0..5).map(|tag| format!("tag{}", number / 2 * 5 + tag)).collect();
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                ballot(tx, number, &tags).map(drop)
            })
        };
        store.write(fill).await.unwrap();
        let memory = 1 << 20;
        let board = Board::load(&store, memory, &[], &rules, NOON).unwrap();
        assert!(board.evicted() > 1000 && board.bytes() <= memory, "{} bytes", board.bytes());
    }
}

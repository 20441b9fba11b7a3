//! From the log to the ledger: a worker with a cursor of its own looks at each new or edited post, asks `consent`, and
//! writes down what may be kept; of the rest a number in a counter remains. Its place and what it kept are moved in one
//! transaction, so a crash neither loses a post nor takes one twice.
//!
//! Where the author's document was not read within a day, the post waits for [`super::authors`] to read it. Deletions are
//! not its business: they act on the ledger in the transaction of the inbox.
//!
//! Promise: what is judged here is judged again in that transaction, by what the ledger knows then. A consent that flips
//! while a post is under way counts from the moment at which it was read.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Search;
use crate::clock::Timestamp;
use crate::consent::{self, Decision, Occasion, Reason};
use crate::ids::{Iri, Seq};
use crate::log::{Entry, Kind};
use crate::peers::Reading;
use crate::store::{IndexedAuthor, IndexedPost, Refused, SeenSet, StoreError, Tx};
use crate::supervise::Worker;
use crate::wire::document::{Document, Prop};
use crate::wire::language;
use crate::wire::searchable::ObjectSignals;

/// The worker's name, also that of its cursor.
pub const NAME: &str = "gatherer";
/// Entries looked at in one unit of work.
const BATCH: usize = 128;
/// How often a cursor that only skipped is written, and the longest wait.
const POLL: Duration = Duration::from_secs(5);
/// How long to leave a busy store alone.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// The worker.
pub struct Gatherer {
    search: Search,
    head: watch::Receiver<Seq>,
    next: Option<Seq>,
    saved: Seq,
    saved_at: Timestamp,
    store_busy: bool,
}

/// A post as it came, and what its author's document said.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    post: IndexedPost,
    signals: ObjectSignals,
    reading: Arc<Reading>,
}

/// What is to be done about an entry.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// A post that may be kept, as far as can be told outside of the transaction.
    Post(Box<Candidate>),
    /// One that may not: if an earlier edit of it is held, that goes. If the reason is its author's, so does all of theirs.
    Refused { object: Iri, author: Iri, reason: Reason, reading: Option<Arc<Reading>> },
    /// The author is to be read first: for this entry, or because their profile changed.
    Unread { author: Iri, entry: Option<Seq> },
}

impl Gatherer {
    /// A worker that begins where the last one stopped.
    #[must_use]
    pub fn new(search: Search) -> Self {
        let head = search.0.log.follow();
        Self { search, head, next: None, saved: Seq(0), saved_at: Timestamp::default(), store_busy: false }
    }

    async fn round(&mut self) -> Result<bool, StoreError> {
        let parts = &self.search.0;
        let from = match self.next {
            Some(next) => next,
            // What was relayed before there was a search is not gathered afterwards.
            None => parts.store.worker_cursor(NAME)?.unwrap_or_else(|| parts.log.head().next()),
        };
        let (mut next, mut found) = (from, Vec::new());
        for _ in 0..BATCH {
            let entry = match parts.log.at_or_after(next) {
                // What cannot be read is passed over, lest it hold up all that follows.
                Err(StoreError::Damaged(why)) => {
                    tracing::error!(log.seq = next.0, why, "an entry of the log is damaged");
                    self.search.count("damaged");
                    next = next.next();
                    continue;
                }
                entry => entry?,
            };
            let Some(entry) = entry else { break };
            next = entry.seq.next();
            found.extend(self.search.look(&entry).await?);
        }
        let now = parts.clock.now();
        self.next = Some(next);
        if found.is_empty() && (next == self.saved || now.since(self.saved_at) < POLL) {
            return Ok(next != from);
        }
        let search = self.search.clone();
        let write = move |tx: &mut Tx<'_>| {
            let words = found.into_iter().map(|one| search.take(tx, one)).collect::<Result<Vec<_>, _>>()?;
            tx.set_worker_cursor(NAME, next)?;
            Ok(words)
        };
        match self.search.0.store.write(write).await {
            Ok(words) => words.into_iter().for_each(|word| self.search.count(word)),
            Err(error) => {
                // All of it is looked at again.
                self.next = Some(from);
                return Err(error);
            }
        }
        (self.saved, self.saved_at) = (next, now);
        Ok(next != from)
    }
}

impl Worker for Gatherer {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn work(&mut self) -> anyhow::Result<bool> {
        let worked = self.round().await;
        self.store_busy = matches!(worked, Err(StoreError::Busy));
        if self.store_busy { Ok(false) } else { Ok(worked?) }
    }

    async fn wait(&mut self) {
        if self.store_busy {
            return tokio::time::sleep(BUSY_PAUSE).await;
        }
        tokio::select! {
            _ = self.head.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

impl Search {
    /// What an entry is to the search; nothing, as a rule.
    async fn look(&self, entry: &Entry) -> Result<Option<Found>, StoreError> {
        if !matches!(entry.kind, Kind::Create | Kind::Update) {
            return Ok(None);
        }
        let author = &entry.actor;
        if entry.object == *author {
            // Only of those whose posts are held, or who said no and may say yes now.
            let held = self.0.store.ledger()?.author(author)?.is_some();
            let of_use = held || self.0.store.refused(author)?.is_some_and(|no| !no.lasts());
            return Ok(of_use.then(|| Found::Unread { author: author.clone(), entry: None }));
        }
        if !self.may_search(author) {
            self.count(Reason::ServerOff.as_str());
            return Ok(None);
        }
        // Who blocks us or asked to be left alone is not even read.
        if let Some(no) = self.0.store.refused(author)?.filter(Refused::lasts) {
            self.count(if no.removed { Reason::Removed.as_str() } else { Reason::Blocked.as_str() });
            return Ok(None);
        }
        self.judge(entry, self.0.peers.kept_reading(author).await)
    }

    /// What a post is to the search, by what its author's document says. What is refused anyway is no reason to read that.
    pub(super) fn judge(&self, entry: &Entry, reading: Option<Arc<Reading>>) -> Result<Option<Found>, StoreError> {
        let (object, author) = (entry.object.clone(), entry.actor.clone());
        let Some(document) = entry.document() else {
            self.count("no-body");
            return Ok(None);
        };
        let signals = ObjectSignals::of(&document);
        // Whether it was deleted, and who said no, is asked in the transaction.
        let held = self.0.store.ledger()?.author(&author)?;
        let known = held.as_ref().map_or_else(consent::Author::default, |held| known(held, None));
        let post = consent::Post { signals: &signals, deleted: false };
        let says = reading.as_deref().map(says);
        if let Decision::Deny(reason) = self.consent(&author, "", says, known, Some(post), Occasion::Taking)
            && reason != Reason::Unread
        {
            return Ok(Some(Found::Refused { object, author, reason, reading }));
        }
        let Some(reading) = reading else { return Ok(Some(Found::Unread { author, entry: Some(entry.seq) })) };
        let published = signals.published.unwrap_or(entry.at).min(entry.at);
        let mut document = Document::of(&document);
        if reading.signals.bot {
            document.props = document.props.with(Prop::Bot);
        }
        let language = document.language.clone().unwrap_or_else(|| language::detect(&document.text).to_owned());
        let post = IndexedPost { object, author, author_number: 0, published, seq: entry.seq, language, document };
        Ok(Some(Found::Post(Box::new(Candidate { post, signals, reading }))))
    }

    /// Does what follows; in a word, what came of it.
    pub(super) fn take(&self, tx: &mut Tx<'_>, found: Found) -> Result<&'static str, StoreError> {
        match found {
            Found::Post(candidate) => self.keep(tx, *candidate),
            Found::Refused { object, author, reason, reading } => {
                // It may say no to what is held of it.
                if tx.indexed_post(&object)?.is_some_and(|(_, held)| held.author == author) {
                    tx.drop_indexed_post(&object)?;
                }
                if let Some(reading) = reading {
                    self.heed(tx, &author, &reading)?;
                }
                Ok(reason.as_str())
            }
            Found::Unread { author, entry } => {
                self.ask(tx, &author, entry, entry.is_none())?;
                Ok("author-unread")
            }
        }
    }

    fn keep(&self, tx: &mut Tx<'_>, candidate: Candidate) -> Result<&'static str, StoreError> {
        let Candidate { mut post, signals, reading } = candidate;
        let (object, actor) = (&post.object, post.author.clone());
        // It waited for its author to be read, and an edit was quicker.
        if tx.is_void(object, post.seq)? {
            return Ok("edited-since");
        }
        // Who is still to be swept out, since their server was off and on again, comes anew.
        if let Some(held) = tx.indexed_author(&actor)?
            && tx.has_left(&actor.authority(), held.number)?
        {
            tx.withdraw_author(&actor)?;
        }
        let refused = tx.refused_author(&actor)?;
        // The newest word of the author counts, whoever heard it.
        let author = match tx.indexed_author(&actor)? {
            Some(held) if held.read_at >= reading.read_at => held,
            Some(held) => held.renewed(&reading),
            None if refused.as_ref().is_some_and(|no| no.at >= reading.read_at) => {
                self.ask(tx, &actor, Some(post.seq), true)?;
                return Ok("author-unread");
            }
            None => IndexedAuthor {
                number: 0,
                since: Some(consent::consent_since(reading.read_at, refused.is_some())),
                read_at: reading.read_at,
                signals: reading.signals.clone(),
                profile: reading.profile.clone(),
                hidden: None,
            },
        };
        let deleted = tx.is_suppressed(object)?
            || tx.has_seen(SeenSet::Tombstones, &[object.as_str()])?
            || tx.has_seen(SeenSet::Tombstones, &["actor", actor.as_str()])?;
        let known = known(&author, refused.as_ref());
        let newest = consent::Reading { signals: &author.signals, at: author.read_at };
        let this = consent::Post { signals: &signals, deleted };
        if let Decision::Deny(reason) =
            self.consent(&actor, &post.document.words(), Some(newest), known, Some(this), Occasion::Taking)
        {
            tx.drop_indexed_post(object)?;
            return Ok(reason.as_str());
        }
        if let Some((_, before)) = tx.indexed_post(object)? {
            if before.author != actor {
                return Ok("change-of-anothers-object");
            }
            if before.seq > post.seq {
                return Ok("edited-since");
            }
        }
        if refused.is_some() {
            tx.readmit_author(&actor)?;
        }
        post.author_number = tx.put_indexed_author(&actor, author)?.number;
        match tx.put_indexed_post(&post) {
            Ok(_number) => Ok("indexed"),
            // Whoever dates millions of posts to one moment loses these, and holds up nobody else's.
            Err(StoreError::Declined(_)) => Ok("crowded-moment"),
            Err(error) => Err(error),
        }
    }

    /// What an author's own document says of all their posts: if it is a no, what is held of them goes, unless somebody
    /// heard a newer word. Whether it was a no. Who moved is not: nothing new is taken of them, and what is held stays while
    /// their old account still says yes.
    pub(super) fn heed(&self, tx: &mut Tx<'_>, author: &Iri, reading: &Reading) -> Result<bool, StoreError> {
        let held = tx.indexed_author(author)?;
        let occasion = if held.is_some() { Occasion::Keeping } else { Occasion::Taking };
        let known = consent::Author::default();
        let Decision::Deny(reason) = self.consent(author, "", Some(says(reading)), known, None, occasion) else {
            return Ok(false);
        };
        // What comes before in the order of reasons is not the author's to say.
        if reason <= Reason::Stale {
            return Ok(false);
        }
        if held.is_none_or(|held| held.read_at <= reading.read_at) {
            tx.refuse_author(author, reason.as_str(), reading.read_at)?;
            tx.withdraw_author(author)?;
            if consent::profile_says_no(consent::Use::Trends, &reading.signals).is_some() {
                tx.take_back_author(author)?;
            }
        }
        Ok(true)
    }
}

pub(super) fn says(reading: &Reading) -> consent::Reading<'_> {
    consent::Reading { signals: &reading.signals, at: reading.read_at }
}

/// What is known of an author apart from their document.
pub(super) fn known(author: &IndexedAuthor, refused: Option<&Refused>) -> consent::Author {
    consent::Author {
        removed: refused.is_some_and(|no| no.removed),
        blocks: refused.is_some_and(|no| !no.blocks.is_empty()),
        since: author.since,
        ..consent::Author::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cache::Cache;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::log::Log;
    use crate::net::testing;
    use crate::peers::Peers;
    use crate::policy::Rules;
    use crate::search::Services;
    use crate::store::{SearchServer, Store, SwitchedBy};
    use crate::supervise::Supervisor;
    use crate::telemetry::Metrics;
    use crate::wire::searchable::{ActorSignals, Profile};

    const NOON: Timestamp = testing::NOON;
    const ADA: &str = "https://a.example/users/ada";

    fn iri(text: &str) -> Iri {
        Iri::parse(text).unwrap()
    }

    /// A search with these rules that is on for Ada's server. No worker of it runs.
    pub(in crate::search) async fn search(dir: &tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Search {
        let (mut config, clock) = (Config::embedded(), Clock::manual(NOON));
        config.search.api = crate::config::Access::Public;
        change(&mut config);
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let since = NOON.minus(Duration::from_secs(3600));
        let on = SearchServer { since, by: SwitchedBy::Operator, reason: String::new(), also: Vec::new() };
        store.write(move |tx| tx.switch_search(&iri(ADA).authority(), Some(on))).await.unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        let fetch = testing::fetch();
        Search::new(Services {
            folder: dir.path().join("search"),
            log: Log::open(&store).unwrap(),
            peers: Peers::new(testing::signed_client(clock.clone(), &fetch), cache, clock.clone(), &fetch),
            rules: Rules::new(&config.policy, &config.relay),
            supervisor: Supervisor::new(clock.clone()),
            metrics: Metrics::new(),
            config: config.search,
            store,
            clock,
        })
    }

    /// Ada's post, and that she says yes.
    fn found(number: u64, published: Timestamp, said: &Value) -> Found {
        let object = iri(&format!("https://a.example/notes/{number}"));
        let mut note = json!({
            "id": object.as_str(), "type": "Note", "attributedTo": ADA, "content": "a petrel",
            "to": ["https://www.w3.org/ns/activitystreams#Public"], "published": published.rfc3339(),
        });
        for (key, value) in said.as_object().unwrap() {
            note[key] = value.clone();
        }
        let actor = json!({ "id": ADA, "type": "Person", "preferredUsername": "ada", "indexable": true });
        let (signals, profile) = (ActorSignals::of(&actor), Profile::of(&actor).unwrap());
        let reading = Arc::new(Reading { signals, profile, read_at: NOON });
        let (author, language) = (iri(ADA), "en".to_owned());
        let document = Document::of(&note);
        let post = IndexedPost { object, author, author_number: 0, published, seq: Seq(number), language, document };
        Found::Post(Box::new(Candidate { post, signals: ObjectSignals::of(&note), reading }))
    }

    async fn take(search: &Search, all: Vec<Found>) -> Vec<&'static str> {
        let this = search.clone();
        let take = move |tx: &mut Tx<'_>| all.into_iter().map(|one| this.take(tx, one)).collect::<Result<Vec<_>, _>>();
        search.0.store.write(take).await.unwrap()
    }

    #[tokio::test]
    async fn one_post_that_cannot_be_taken_leaves_its_batch_alone() {
        let dir = tempfile::tempdir().unwrap();
        let search = search(&dir, |_config| {}).await;
        let (crowded, quiet) = (NOON.minus(Duration::from_secs(1)), NOON.minus(Duration::from_secs(2)));
        let second = iri("https://a.example/notes/2");
        search.0.store.write(move |tx| tx.crowd(&second, crowded, 100)).await.unwrap();
        let all = [(1, quiet), (2, crowded), (3, quiet)].map(|(number, at)| found(number, at, &json!({})));
        assert_eq!(take(&search, all.into()).await, ["indexed", "crowded-moment", "indexed"]);
        let number = |number: u64| search.0.store.indexed_number(&iri(&format!("https://a.example/notes/{number}")));
        assert_eq!([1, 2, 3].map(|n| number(n).unwrap().is_some()), [true, false, true]);
    }

    #[tokio::test]
    async fn a_keyword_is_looked_for_in_all_that_is_found_by() {
        let dir = tempfile::tempdir().unwrap();
        let search = search(&dir, |config| config.policy.keywords = vec!["albatross".to_owned()]).await;
        let at = NOON.minus(Duration::from_secs(1));
        let picture = |alt: &str| json!([{ "type": "Image", "mediaType": "image/png", "url": "https://a.example/1.png", "name": alt }]);
        let said = [
            json!({}),
            json!({ "content": "an albatross" }),
            json!({ "name": "Of an albatross", "type": "Article" }),
            json!({ "summary": "albatross", "sensitive": true }),
            json!({ "type": "Question", "oneOf": [{ "type": "Note", "name": "an albatross" }] }),
            json!({ "attachment": picture("an albatross in flight") }),
            json!({ "attachment": picture("a petrel in flight") }),
            json!({ "tag": [{ "type": "Hashtag", "name": "#albatross" }] }),
        ];
        let all = said.iter().zip(1..).map(|(said, number)| found(number, at, said)).collect();
        let ruled = Reason::Ruled.as_str();
        assert_eq!(take(&search, all).await, ["indexed", ruled, ruled, ruled, ruled, ruled, "indexed", ruled]);
    }

    /// A reading was under way while its author said no.
    #[tokio::test]
    async fn a_reading_that_is_older_than_a_no_brings_nobody_in() {
        for (said, expected) in [(NOON.minus(Duration::from_secs(60)), "indexed"), (NOON, "author-unread")] {
            let dir = tempfile::tempdir().unwrap();
            let search = search(&dir, |_config| {}).await;
            search.0.store.write(move |tx| tx.refuse_author(&iri(ADA), "not-indexable", said)).await.unwrap();
            assert_eq!(take(&search, vec![found(1, NOON, &json!({}))]).await, [expected]);
        }
    }

    /// The newest word of an author counts, whichever came last.
    #[tokio::test]
    async fn an_older_reading_takes_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let search = search(&dir, |_config| {}).await;
        let at = NOON.minus(Duration::from_secs(1));
        let later = NOON.plus(Duration::from_secs(60));
        assert_eq!(take(&search, vec![found(1, at, &json!({}))]).await, ["indexed"]);
        let said = |indexable: bool, read_at| {
            let actor = json!({ "id": ADA, "type": "Person", "preferredUsername": "ada", "indexable": indexable });
            Reading { signals: ActorSignals::of(&actor), profile: Profile::of(&actor).unwrap(), read_at }
        };
        let heard = async |reading: Reading| {
            let this = search.clone();
            let heed = move |tx: &mut Tx<'_>| {
                this.heed(tx, &iri(ADA), &reading)?;
                tx.indexed_author(&iri(ADA))
            };
            search.0.store.write(heed).await.unwrap()
        };
        let newer = said(true, later);
        let renew = move |tx: &mut Tx<'_>| {
            let author = tx.indexed_author(&iri(ADA))?.unwrap();
            tx.put_indexed_author(&iri(ADA), author.renewed(&newer)).map(drop)
        };
        search.0.store.write(renew).await.unwrap();
        assert!(heard(said(false, NOON)).await.is_some(), "an older no");
        let newer = said(false, later);
        let renew = move |tx: &mut Tx<'_>| {
            let author = tx.indexed_author(&iri(ADA))?.unwrap();
            tx.put_indexed_author(&iri(ADA), author.renewed(&newer)).map(drop)
        };
        search.0.store.write(renew).await.unwrap();
        assert_eq!(take(&search, vec![found(2, at, &json!({}))]).await, ["not-indexable"], "an older yes");
        assert_eq!(heard(said(false, later)).await, None, "a new no");
    }

    #[tokio::test]
    async fn who_is_still_to_be_swept_out_comes_anew() {
        let dir = tempfile::tempdir().unwrap();
        let search = search(&dir, |_config| {}).await;
        let at = NOON.minus(Duration::from_secs(1));
        let number = || search.0.store.ledger().unwrap().author(&iri(ADA)).unwrap().unwrap().number;
        assert_eq!(take(&search, vec![found(1, at, &json!({}))]).await, ["indexed"]);
        let before = number();
        let server = iri(ADA).authority();
        let on = search.0.store.search_servers()[&server].as_ref().clone();
        let again = move |tx: &mut Tx<'_>| {
            tx.switch_search(&server, None)?;
            tx.switch_search(&server, Some(on)).map(drop)
        };
        search.0.store.write(again).await.unwrap();
        assert_eq!(take(&search, vec![found(2, at, &json!({}))]).await, ["indexed"]);
        assert_ne!(number(), before, "what was taken under the old number is found no longer");
    }
}

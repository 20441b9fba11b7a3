//! What an entry of the log is to the trends: whether it counts, for what, and what follows from what its author's document
//! says. Asked twice, outside of the transaction and in it, because what is known may change between.

use std::sync::Arc;
use std::time::Duration;

use super::Trends;
use super::close;
use super::languages::{self, UNKNOWN};
use super::rules::choices;
use crate::clock::Timestamp;
use crate::consent::{self, Case, Decision, Occasion, Reason, Strictness, Terms, Use};
use crate::ids::{Iri, Seq};
use crate::log::{Entry, Kind};
use crate::peers::{PeerFault, Reading};
use crate::policy::Verdict;
use crate::store::{Ballot, Choice, Refused, SeenSet, StoreError, Subject, Tx, Voted, hour_of};
use crate::wire::document::{self, Document};
use crate::wire::language;
use crate::wire::searchable::ObjectSignals;

/// What a post claims may be so much older than its arrival: a longer way is none that news come by.
const OLDEST: Duration = Duration::from_secs(24 * 3600);
/// An account is young for so long, by what it says itself,
const YOUNG: Duration = Duration::from_secs(7 * 24 * 3600);
/// and by when this relay first met it, in days.
const YOUNG_DAYS: i64 = 7;

/// What the origin said.
pub(super) enum Finding {
    Read(Arc<Reading>),
    /// It is gone, or not shown to us.
    Refused,
    Unreadable,
    Later,
}

/// What is to be done about an entry.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// It counts, as far as can be told outside of the transaction.
    Vote(Box<Candidate>),
    /// It does not; if an earlier version did, that goes. If the reason is its author's, so does all of theirs.
    Nothing { object: Iri, author: Iri, reason: Reason },
    /// All of an author goes.
    Gone { author: Iri, word: &'static str },
}

/// A vote as it came, and what its author's document said.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    object: Iri,
    author: Iri,
    boost: bool,
    at: Timestamp,
    seq: Seq,
    language: String,
    young: bool,
    choices: Vec<Choice>,
    words: String,
    read_at: Timestamp,
}

/// What an entry is to the trends.
pub(super) enum Looked {
    Nothing,
    Found(Found),
    /// The author is to be read first: for this entry, or because their profile changed.
    Unread {
        author: Iri,
        post: Option<Seq>,
    },
}

impl Trends {
    /// What an entry is to the trends; nothing, as a rule.
    pub(super) async fn look(&self, entry: &Entry) -> Result<Looked, StoreError> {
        if !matches!(entry.kind, Kind::Create | Kind::Update | Kind::Boost) {
            return Ok(Looked::Nothing);
        }
        let author = &entry.actor;
        if entry.object == *author {
            let counts = self.0.store.has_ballots(author)?;
            return Ok(if counts { Looked::Unread { author: author.clone(), post: None } } else { Looked::Nothing });
        }
        // Who blocks us or asked to be left alone is not even read.
        if self.0.store.refused(author)?.is_some_and(|no| no.lasts()) {
            self.count(Reason::Blocked.as_str());
            return Ok(Looked::Nothing);
        }
        Ok(self.judge(entry, self.0.peers.kept_reading(author).await.as_deref()))
    }

    /// The same by what its author's document says. What counts for nothing anyway is no reason to read that.
    fn judge(&self, entry: &Entry, reading: Option<&Reading>) -> Looked {
        let (object, author) = (entry.object.clone(), entry.actor.clone());
        let hour = hour_of(entry.at);
        if hour + close::HOURS_KEPT < hour_of(self.0.clock.now()) {
            self.count("too-late");
            return Looked::Nothing;
        }
        let (choices, language, words) = if entry.kind == Kind::Boost {
            let boosted = Choice { subject: Subject::Post, key: object.as_str().to_owned(), shown: String::new() };
            (vec![boosted], UNKNOWN.to_owned(), String::new())
        } else {
            let Some(said) = entry.document() else {
                self.count("no-body");
                return Looked::Nothing;
            };
            let signals = ObjectSignals::of(&said);
            let post = consent::Post { signals: &signals, deleted: false };
            if let Decision::Deny(reason) = self.consent(&author, "", reading, consent::Author::default(), Some(post))
                && reason != Reason::Unread
            {
                return Looked::Found(Found::Nothing { object, author, reason });
            }
            if signals.published.is_some_and(|published| entry.at.since(published) > OLDEST) {
                return Looked::Found(Found::Nothing { object, author, reason: Reason::TooOld });
            }
            let document = Document::of(&said);
            let choices = choices(&document, &document::links(&said), &author);
            let said = document.language.clone().unwrap_or_else(|| language::detect(&document.text).to_owned());
            let language = if languages::is_known(&said) { said } else { UNKNOWN.to_owned() };
            (choices, language, document.words())
        };
        if choices.is_empty() {
            self.count("no-tags");
            return Looked::Nothing;
        }
        let Some(reading) = reading else { return Looked::Unread { author, post: Some(entry.seq) } };
        if entry.kind == Kind::Boost
            && let Decision::Deny(reason) = self.consent(&author, "", Some(reading), consent::Author::default(), None)
        {
            // What is boosted is somebody else's, and counts as before.
            return Looked::Found(Found::Gone { author, word: reason.as_str() });
        }
        let young = reading.signals.created.is_some_and(|created| entry.at.since(created) < YOUNG);
        Looked::Found(Found::Vote(Box::new(Candidate {
            object,
            author,
            boost: entry.kind == Kind::Boost,
            at: entry.at,
            seq: entry.seq,
            language,
            young,
            choices,
            words,
            read_at: reading.read_at,
        })))
    }

    pub(super) fn judge_all(&self, author: &Iri, posts: &[Seq], reading: &Reading) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        // Said of all they wrote, whether something waits or not.
        let known = consent::Author::default();
        if let Decision::Deny(reason) = self.consent(author, "", Some(reading), known, None)
            && reason > Reason::Stale
        {
            found.push(Found::Gone { author: author.clone(), word: reason.as_str() });
            return Ok(found);
        }
        for seq in posts {
            let entry = match self.0.log.at_or_after(*seq) {
                Err(StoreError::Damaged(_)) => None,
                entry => entry?.filter(|entry| entry.seq == *seq),
            };
            if let Some(entry) = entry
                && let Looked::Found(one) = self.judge(&entry, Some(reading))
            {
                found.push(one);
            }
        }
        Ok(found)
    }

    /// Does what follows; in a word, what came of it.
    pub(super) fn take(&self, tx: &mut Tx<'_>, found: &Found) -> Result<&'static str, StoreError> {
        match found {
            Found::Vote(candidate) => self.cast(tx, candidate),
            Found::Nothing { object, author, reason } => {
                tx.take_back_post(Voted::Post(object))?;
                if *reason > Reason::Stale && *reason != Reason::OtherAuthor {
                    tx.take_back_author(author)?;
                }
                Ok(reason.as_str())
            }
            Found::Gone { author, word } => {
                tx.take_back_author(author)?;
                Ok(word)
            }
        }
    }

    fn cast(&self, tx: &mut Tx<'_>, vote: &Candidate) -> Result<&'static str, StoreError> {
        let Candidate { object, author, .. } = vote;
        // It waited for its author to be read, and an edit was quicker, or an Undo; or what it was is gone meanwhile.
        let is_void =
            if vote.boost { tx.is_void_boost(object, author, vote.seq)? } else { tx.is_void(object, vote.seq)? };
        if is_void {
            return Ok("edited-since");
        }
        let refused = tx.refused_author(author)?;
        if refused.as_ref().is_some_and(|no| !no.lasts() && no.at >= vote.read_at) {
            return Ok("said-no-since");
        }
        if tx.has_seen(SeenSet::Tombstones, &[object.as_str()])?
            || tx.has_seen(SeenSet::Tombstones, &["actor", author.as_str()])?
        {
            return Ok(Reason::Deleted.as_str());
        }
        if refused.as_ref().is_some_and(Refused::lasts) {
            return Ok(Reason::Blocked.as_str());
        }
        if self.0.rules.set().searchable(author, &vote.words, self.0.clock.now()).verdict == Verdict::Block {
            return Ok(Reason::Ruled.as_str());
        }
        let voted = if vote.boost { Voted::Boost(object, author) } else { Voted::Post(object) };
        let hour = tx.ballot_hour(voted, hour_of(vote.at))?;
        if hour + close::HOURS_KEPT < hour_of(self.0.clock.now()) {
            return Ok("too-late");
        }
        // What is boosted is in the language of its author.
        let boosted = if vote.boost { tx.indexed_post(object)? } else { None };
        let language = boosted.map(|(_, post)| post.language).filter(|language| languages::is_known(language));
        let ballot = Ballot {
            author: tx.ballot_author(author, hour)?,
            place: tx.place(&author.authority())?.number,
            language: language.unwrap_or_else(|| vote.language.clone()),
            young: vote.young || self.is_new_here(tx, author)?,
            hour,
            seq: vote.seq,
            choices: vote.choices.clone(),
        };
        Ok(if tx.cast(voted, ballot)? { "counted" } else { "counted-before" })
    }

    /// Whether this relay met somebody lately: what an account says of its own age need not be so. Of servers that the
    /// operator vouches for it is believed.
    fn is_new_here(&self, tx: &Tx<'_>, author: &Iri) -> Result<bool, StoreError> {
        let server = author.authority();
        if self.0.config.grown.iter().any(|domain| server.is_within(domain)) {
            return Ok(false);
        }
        let met = tx.seen_days(SeenSet::Authors, &[author.as_str()])?;
        let today = self.0.clock.now().day();
        Ok(met.is_some_and(|(first, _)| today - i64::from(first) < YOUNG_DAYS))
    }

    fn consent(
        &self,
        actor: &Iri,
        words: &str,
        reading: Option<&Reading>,
        author: consent::Author,
        post: Option<consent::Post<'_>>,
    ) -> Decision {
        let now = self.0.clock.now();
        let ruling = self.0.rules.set().searchable(actor, words, now);
        let server = consent::Server { ruled_out: ruling.verdict == Verdict::Block, ..consent::Server::default() };
        let terms = Terms {
            now,
            occasion: Occasion::Taking,
            strictness: Strictness::Standard,
            read_within: consent::READ_TO_TAKE,
            // How old it may be is said by when it came.
            retention: consent::MAX_RETENTION,
        };
        let reading = reading.map(|reading| consent::Reading { signals: &reading.signals, at: reading.read_at });
        consent::consent(Use::Trends, &Case { reading, author, server, post, terms })
    }

    pub(super) async fn read(&self, actor: &Iri, anew: bool) -> Finding {
        let reading = if anew { self.0.peers.reading_now(actor).await } else { self.0.peers.reading(actor).await };
        match reading {
            Ok(reading) => Finding::Read(reading),
            Err(PeerFault::Gone { .. } | PeerFault::Forbidden) => Finding::Refused,
            Err(PeerFault::TryLater(_)) => Finding::Later,
            Err(PeerFault::Invalid(_) | PeerFault::Refused(_)) => Finding::Unreadable,
        }
    }
}

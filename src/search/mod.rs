//! The search room: posts whose authors asked to be found, and finding them. Its parts meet in the ledger, which the store
//! keeps; what arrives comes from the log. Other rooms are not known here.
//!
//! Two workers fill the ledger: [`gather`] judges posts, [`authors`] reads what their authors say. [`sweep`] empties it
//! again, and [`indexer`] makes the [`index`] from it, which is no authority: [`find`] asks both, and so do [`hashtags`] and
//! [`people`]. Pure are how a text
//! becomes terms ([`tokens`]), and how what somebody typed becomes a [`query`].

pub mod authors;
mod bounds;
pub mod collect;
pub mod compile;
pub mod facets;
pub mod find;
pub mod gather;
pub mod hashtags;
pub mod highlight;
pub mod index;
pub mod indexer;
pub mod people;
pub mod purge;
pub mod query;
pub mod reach;
pub mod schema;
pub mod shelf;
mod stems;
pub mod sweep;
pub mod tokens;
pub mod wishes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};

use self::index::Index;
use self::indexer::Rebuild;
use self::shelf::Shelf;

use crate::clock::Clock;
use crate::config;
use crate::consent::{self, Case, Decision, Occasion, Reason, Terms, Use};
use crate::ids::Iri;
use crate::log::Log;
use crate::peers::Peers;
use crate::policy::{Rules, Verdict};
use crate::store::Store;
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

/// What the room needs from the house. Cheap to clone.
#[derive(Clone)]
pub struct Search(Arc<Parts>);

struct Parts {
    config: config::Search,
    store: Store,
    log: Log,
    peers: Peers,
    rules: Rules,
    clock: Clock,
    supervisor: Supervisor,
    metrics: Metrics,
    /// There are authors to be read,
    to_read: Notify,
    /// and these are new.
    asked: Mutex<authors::Asked>,
    /// Whether it is known for how long we slept: before that nobody is shown.
    awake: AtomicBool,
    /// The ledger and its index,
    shelf: Shelf,
    /// which is open here,
    index: watch::Sender<Option<Index>>,
    people: people::People,
    /// and in which a search met something that cannot be right.
    doubted: AtomicBool,
    /// What is to be done with its writer,
    orders: Mutex<Vec<indexer::Order>>,
    /// and that there is something.
    ordered: Notify,
    /// How the making of a new one stands.
    rebuild: watch::Sender<Rebuild>,
    /// Whom we read because somebody asked.
    read_lately: wishes::Lately,
}

/// What [`Search::new`] is given.
#[expect(missing_docs, reason = "each field is a service documented at its type")]
pub struct Services {
    pub config: config::Search,
    pub folder: PathBuf,
    pub store: Store,
    pub log: Log,
    pub peers: Peers,
    pub rules: Rules,
    pub clock: Clock,
    pub supervisor: Supervisor,
    pub metrics: Metrics,
}

impl Search {
    /// Puts the room together; nothing runs yet.
    #[must_use]
    pub fn new(services: Services) -> Self {
        let Services { config, folder, store, log, peers, rules, clock, supervisor, metrics } = services;
        let heap = usize::try_from(config.heap.as_u64()).unwrap_or(usize::MAX);
        let shelf = Shelf::new(store.clone(), folder, heap, clock.clone());
        Self(Arc::new(Parts {
            config,
            store,
            log,
            peers,
            rules,
            clock,
            supervisor,
            metrics,
            to_read: Notify::new(),
            asked: Mutex::default(),
            people: people::People::default(),
            awake: AtomicBool::new(false),
            shelf,
            index: watch::Sender::default(),
            doubted: AtomicBool::new(false),
            orders: Mutex::default(),
            ordered: Notify::new(),
            rebuild: watch::Sender::default(),
            read_lately: wishes::Lately::default(),
        }))
    }

    /// Starts the room's workers. Where there is no search, those that empty it, as long as something is held of when there
    /// was one.
    pub fn start(&self) {
        let supervisor = &self.0.supervisor;
        if self.is_on() {
            let search = self.clone();
            supervisor.start(move || gather::Gatherer::new(search.clone()));
            let search = self.clone();
            supervisor.start(move || authors::AuthorReader::new(search.clone()));
        } else if !self.0.shelf.is_there() {
            return;
        }
        let search = self.clone();
        supervisor.start(move || sweep::Sweeper::new(search.clone()));
        let search = self.clone();
        supervisor.start(move || indexer::Indexer::new(search.clone()));
    }

    /// Whether there is a search here.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.config.is_on()
    }

    /// Whether it is known for how long we slept.
    fn is_awake(&self) -> bool {
        self.0.awake.load(Ordering::Acquire)
    }

    /// Whether posts of this actor may be searched as far as their server and the operator are concerned.
    fn may_search(&self, actor: &Iri) -> bool {
        let server = self.server(actor, "");
        server.on_since.is_some() && !server.ruled_out
    }

    /// How search stands for an actor's server, and for a post with these words.
    fn server(&self, actor: &Iri, words: &str) -> consent::Server {
        let on = self.0.store.search_servers().get(&actor.authority()).cloned();
        let ruling = self.0.rules.set().searchable(actor, words, self.0.clock.now());
        consent::Server { on_since: on.map(|server| server.since), ruled_out: ruling.verdict == Verdict::Block }
    }

    /// Asks `consent` about a post, or about an author's posts in general.
    fn consent(
        &self,
        actor: &Iri,
        words: &str,
        reading: Option<consent::Reading<'_>>,
        author: consent::Author,
        post: Option<consent::Post<'_>>,
        occasion: Occasion,
    ) -> Decision {
        let case = Case { reading, author, server: self.server(actor, words), post, terms: self.terms(occasion) };
        consent::consent(Use::Posts, &case)
    }

    /// Everything that stands against an author's posts in general.
    fn reasons(&self, actor: &Iri, reading: consent::Reading<'_>, author: consent::Author) -> Vec<Reason> {
        let (server, terms) = (self.server(actor, ""), self.terms(Occasion::Keeping));
        let case = Case { reading: Some(reading), author, server, post: None, terms };
        consent::reasons(Use::Posts, &case).collect()
    }

    fn terms(&self, occasion: Occasion) -> Terms {
        Terms {
            now: self.0.clock.now(),
            occasion,
            strictness: self.0.config.consent,
            read_within: consent::READ_TO_KEEP,
            retention: self.0.config.retention,
        }
    }

    fn count(&self, word: &'static str) {
        self.0.metrics.gathered.with_label_values(&[word]).inc();
        if Reason::is_word(word) {
            self.0.metrics.consent_refusals.with_label_values(&["search", word]).inc();
        }
    }
}

//! Finding: from a query to posts that may be shown now. Whether one may is asked of the ledger, of the operator's rules
//! and of `consent` for every candidate, inside of the search: so what was deleted or withdrawn a moment ago is not found
//! although the index still has it, and a page is full if there is enough to fill it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::Search;
use super::compile::{Compiled, Names};
use super::gather::known;
use super::index::{Index, IndexFault, Page};
use super::indexer::server_number;
use super::query::{Fault, Query, Reach, Sort};
use crate::clock::Timestamp;
use crate::config::SearchApi;
use crate::consent::{self, Decision, Occasion, Reason};
use crate::ids::{Authority, Iri};
use crate::store::{IndexedAuthor, IndexedPost, LedgerView, StoreError, first_number_at};
use crate::wire::searchable::Said;

/// How long one search may look.
const WITHIN: Duration = Duration::from_millis(150);

/// A post that was found and may be shown.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Its number: grows with time, and is what pages begin and end with.
    pub number: u64,
    /// The post.
    pub post: IndexedPost,
    /// Whose it is.
    pub author: Arc<IndexedAuthor>,
}

impl Hit {
    /// The author's handle, `name@host`.
    #[must_use]
    pub fn handle(&self) -> String {
        self.author.handle(&self.post.author)
    }
}

/// What a search found.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// The posts, in the order that was asked for.
    pub hits: Vec<Hit>,
    /// The time was over before the page was full.
    pub took_too_long: bool,
    /// A prefix stood for more words than were looked for.
    pub cut: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum FindFault {
    /// The query cannot be read.
    #[error(transparent)]
    Query(#[from] Fault),
    /// It asks for nothing in particular.
    #[error("this query asks for everything: give it a word, a phrase or a hashtag of two letters or more")]
    Everything,
    /// It asks for all that somebody wrote who is not to be browsed.
    #[error("this query asks for all that somebody wrote: give it a word as well")]
    NotBrowsable,
    /// There is no index just now: it is being made.
    #[error("the index is being made; try again in a minute")]
    NoIndex,
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// The ledger cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Search {
    /// Whether anybody may search here.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.0.config.api == SearchApi::Public
    }

    /// The index, once there is one.
    pub(super) fn index(&self) -> Option<Index> {
        self.0.index.borrow().clone()
    }

    /// The page of what `text` asks for. Sensitive posts only if the query names them, or `sensitive` says so. Blocks, for
    /// milliseconds.
    ///
    /// # Errors
    /// [`FindFault`].
    pub fn find(&self, text: &str, page: Page, skip: usize, sensitive: bool) -> Result<Results, FindFault> {
        let query = Query::read(text)?;
        let index = self.index().ok_or(FindFault::NoIndex)?;
        let shown = Shown::new(self)?;
        match query.reach() {
            Reach::Text => {}
            Reach::Authors(names) => {
                if !names.iter().all(|name| shown.is_browsable(name)) {
                    return Err(FindFault::NotBrowsable);
                }
            }
            Reach::Everything => return Err(FindFault::Everything),
        }
        let compiled = Compiled::new(&query, &shown, sensitive || query.wants_sensitive());
        let alive = |number| shown.hit(number).is_some();
        let found = match query.sort {
            Sort::Newest => index.newest(&compiled, page, &alive, WITHIN)?,
            Sort::Relevance => index.best(&compiled, skip, page.limit, &alive, WITHIN)?,
        };
        let hits = found.ids.iter().filter_map(|number| shown.hit(*number)).collect();
        Ok(Results { hits, took_too_long: found.took_too_long, cut: found.cut })
    }

    /// One post by its number, if it may be shown.
    ///
    /// # Errors
    /// The store's.
    pub fn post(&self, number: u64) -> Result<Option<Hit>, StoreError> {
        Ok(Shown::new(self)?.hit(number))
    }
}

/// How somebody stands with the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Posts of theirs may be found.
    pub indexed: bool,
    /// Everything that stands against it, as far as it is known without asking their server.
    pub reasons: Vec<Reason>,
    /// When their profile was last read.
    pub read_at: Option<Timestamp>,
    /// How many posts are held.
    pub posts: u64,
}

impl Search {
    /// How the account with this handle, `name@host`, stands. Asks nobody: of whom nothing is held, only what is known of
    /// their server is told.
    ///
    /// # Errors
    /// The store's. `None`: that is no handle.
    pub fn standing(&self, handle: &str) -> Result<Option<Standing>, StoreError> {
        let Some((name, host)) = handle.trim_start_matches('@').split_once('@') else { return Ok(None) };
        let (Ok(authority), false) = (Authority::parse(host), name.is_empty()) else { return Ok(None) };
        let actor = self.0.store.indexed_actor(&format!("{name}@{authority}"))?;
        let author = actor.as_ref().map(|actor| self.0.store.ledger()?.author(actor)).transpose()?.flatten();
        let Some((actor, author)) = actor.zip(author) else {
            let on = self.0.store.search_servers().contains_key(&authority);
            let reason = if on { Reason::Unread } else { Reason::ServerOff };
            return Ok(Some(Standing { indexed: false, reasons: vec![reason], read_at: None, posts: 0 }));
        };
        let says = consent::Reading { signals: &author.signals, at: author.read_at };
        let mut reasons = self.reasons(&actor, says, known(&author, None));
        reasons.extend(author.hidden.is_some().then_some(Reason::Refused));
        let posts = self.0.store.posts_of(author.number)?;
        Ok(Some(Standing { indexed: reasons.is_empty(), reasons, read_at: Some(author.read_at), posts }))
    }
}

/// What may be shown, as of one moment; remembers what it looked up.
pub(super) struct Shown<'a> {
    search: &'a Search,
    view: LedgerView,
    /// Posts with smaller numbers are too old.
    oldest: u64,
    authors: Mutex<HashMap<Iri, Option<Arc<IndexedAuthor>>>>,
}

impl<'a> Shown<'a> {
    fn new(search: &'a Search) -> Result<Self, StoreError> {
        let oldest = first_number_at(search.0.clock.now().minus(search.0.config.retention));
        Ok(Self { search, view: search.0.store.ledger()?, oldest, authors: Mutex::default() })
    }

    /// The post, if it may be shown. A row that cannot be read is shown to nobody.
    fn hit(&self, number: u64) -> Option<Hit> {
        if number < self.oldest {
            return None;
        }
        let post = self.view.post(number).ok()??;
        let author = self.author(&post.author)?;
        let ruled_out = self.search.server(&post.author, &post.document.words()).ruled_out;
        (author.number == post.author_number && !ruled_out).then_some(Hit { number, post, author })
    }

    /// The author, if their posts may be shown.
    fn author(&self, actor: &Iri) -> Option<Arc<IndexedAuthor>> {
        let mut authors = self.authors.lock().unwrap_or_else(PoisonError::into_inner);
        authors.entry(actor.clone()).or_insert_with(|| self.look_up(actor)).clone()
    }

    fn look_up(&self, actor: &Iri) -> Option<Arc<IndexedAuthor>> {
        let author = self.view.author(actor).ok()??;
        if author.hidden.is_some() {
            return None;
        }
        let says = consent::Reading { signals: &author.signals, at: author.read_at };
        match self.search.consent(actor, "", Some(says), known(&author, None), None, Occasion::Keeping) {
            Decision::Allow => Some(Arc::new(author)),
            Decision::Deny(_) => None,
        }
    }

    /// Whether somebody may go through all that this author wrote: only if they want to be discovered.
    fn is_browsable(&self, name: &str) -> bool {
        let actor = self.search.0.store.indexed_actor(name).ok().flatten();
        let author = actor.and_then(|actor| self.author(&actor));
        author.is_none_or(|author| author.signals.discoverable == Said::Yes)
    }
}

impl Names for Shown<'_> {
    fn authors(&self, who: &str) -> Vec<u64> {
        let actor = self.search.0.store.indexed_actor(who).ok().flatten();
        actor.and_then(|actor| self.author(&actor)).map(|author| author.number).into_iter().collect()
    }

    fn servers(&self, host: &str) -> Vec<u64> {
        Authority::parse(host).map(|authority| server_number(&authority)).into_iter().collect()
    }
}

//! Finding: from a query to posts that may be shown now. Whether one may is asked of the ledger, of the operator's rules
//! and of `consent` for every candidate, inside of the search: so what was deleted or withdrawn a moment ago is not found
//! although the index still has it, and a page is full if there is enough to fill it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::HistogramTimer;
use thiserror::Error;

use super::Search;
use super::collect::{Alive, Found};
use super::compile::{Compiled, Names};
use super::facets::{self, Facets, LEAST_AUTHORS};
use super::gather::known;
use super::index::{Index, IndexFault, MAX_RESULTS, Page};
use super::indexer::server_number;
use super::people::Person;
use super::query::{Fault, Query, Reach, Sort};
use crate::clock::Timestamp;
use crate::consent::{self, Case, Decision, Occasion, Reason, Use};
use crate::ids::{Authority, Iri};
use crate::store::{IndexedAuthor, IndexedPost, LedgerView, Refused, SearchServer, StoreError, first_number_at};
use crate::wire::searchable::Said;

/// How long one search may look.
pub(super) const WITHIN: Duration = Duration::from_millis(150);

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
    /// There may be more after these, and they may be asked for.
    pub more: bool,
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
    #[error(
        "this query asks for all that somebody wrote: give it a whole word as well, and not one of several joined by OR"
    )]
    NotBrowsable,
    /// It asks for what lies deeper than results are shown.
    #[error("{MAX_RESULTS} results are shown at most: ask for something narrower")]
    TooDeep,
    /// There is no index just now, or it is not known yet for how long there was none.
    #[error("the search is being opened; try again in a minute")]
    NoIndex,
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] IndexFault),
    /// The ledger cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Search {
    /// The index, once there is one, and it is known for how long we slept.
    pub(super) fn index(&self) -> Option<Index> {
        self.0.index.borrow().clone().filter(|_| self.is_awake())
    }

    /// Whether there is an index to search in.
    #[must_use]
    pub fn has_index(&self) -> bool {
        self.index().is_some()
    }

    /// Tells how long a search took, when it is dropped.
    pub(super) fn timer(&self, kind: &'static str) -> HistogramTimer {
        self.0.metrics.search_seconds.with_label_values(&[kind]).start_timer()
    }

    /// The page of what `text` asks for. Of the newest, `page.above` means the next ones above that id and not the newest
    /// of all, so that somebody can turn pages back. Sensitive posts only if the query names them, or `sensitive` says so.
    /// Blocks, for milliseconds.
    ///
    /// # Errors
    /// [`FindFault`].
    pub fn find(&self, text: &str, page: Page, skip: usize, sensitive: bool) -> Result<Results, FindFault> {
        let _timer = self.timer("posts");
        let asked = Asked::new(self, text, sensitive)?;
        match asked.query.sort {
            Sort::Newest => asked.newest(page),
            Sort::Relevance => asked.best(skip, page.limit),
        }
    }

    /// What `text` finds, counted.
    ///
    /// # Errors
    /// [`FindFault`].
    pub fn facets(&self, text: &str, sensitive: bool) -> Result<Facets, FindFault> {
        let _timer = self.timer("facets");
        Asked::new(self, text, sensitive)?.facets()
    }

    /// Who switched search on for an author's server, and when: the second key.
    #[must_use]
    pub fn second_key(&self, author: &Iri) -> Option<Arc<SearchServer>> {
        self.0.store.search_servers().get(&author.authority()).cloned()
    }

    /// One post by its number, if it may be shown.
    ///
    /// # Errors
    /// The store's.
    pub fn post(&self, number: u64) -> Result<Option<Hit>, StoreError> {
        Ok(Shown::new(self)?.hit(number))
    }
}

impl Search {
    /// Those of these posts that may be shown and are wanted, in this order, all as of one moment; `most` of them at most,
    /// and no more are looked at.
    ///
    /// # Errors
    /// The store's.
    pub fn posts(
        &self,
        ids: impl IntoIterator<Item = Iri>,
        most: usize,
        is_wanted: impl Fn(&Hit) -> bool,
    ) -> Result<Vec<Hit>, StoreError> {
        let (shown, mut hits) = (Shown::new(self)?, Vec::new());
        for id in ids {
            if hits.len() >= most {
                break;
            }
            let number = self.0.store.indexed_number(&id)?;
            hits.extend(number.and_then(|number| shown.hit(number)).filter(&is_wanted));
        }
        Ok(hits)
    }
}

/// A query that may be answered, with what it is asked of.
struct Asked<'a> {
    query: Query,
    index: Index,
    shown: Shown<'a>,
    compiled: Compiled,
    /// How long each look at the index may take.
    within: Duration,
}

impl<'a> Asked<'a> {
    fn new(search: &'a Search, text: &str, sensitive: bool) -> Result<Self, FindFault> {
        let query = Query::read(text)?;
        let index = search.index().ok_or(FindFault::NoIndex)?;
        let shown = Shown::new(search)?;
        let reach = match query.reach() {
            Reach::Text if shown.is_about_few(&query) => query.reach_among_few(),
            Reach::Everything => return Err(FindFault::Everything),
            reach => reach,
        };
        match reach {
            Reach::Text => {}
            Reach::Authors(names) if names.iter().all(|name| shown.is_browsable(name)) => {}
            Reach::Authors(_) | Reach::Everything => return Err(FindFault::NotBrowsable),
        }
        let compiled = Compiled::new(&query, &shown, sensitive || query.wants_sensitive());
        Ok(Self { query, index, shown, compiled, within: WITHIN })
    }

    fn newest(&self, page: Page) -> Result<Results, FindFault> {
        let Some(depth) = self.depth(page.below)? else {
            // How deep it lies is not known, so nothing of it is shown; asked for again it may be.
            return Ok(Results { hits: Vec::new(), more: false, took_too_long: true, cut: false });
        };
        if depth >= MAX_RESULTS {
            return Err(FindFault::TooDeep);
        }
        let limit = page.limit.min(MAX_RESULTS - depth);
        let back = page.above.is_some() && page.below.is_none();
        let page = Page { limit: if back { MAX_RESULTS } else { limit }, ..page };
        let (mut hits, found) = self.shown.newest(&self.index, &self.compiled, page, self.within)?;
        if back {
            hits.drain(..hits.len().saturating_sub(limit));
        }
        let full = hits.len() == limit && depth + limit < MAX_RESULTS;
        let more = limit > 0 && (full || found.took_too_long);
        Ok(Results { hits, more, took_too_long: found.took_too_long, cut: found.cut })
    }

    /// How many results lie above this id, the deleted ones that the index still has included. Counted, and not told by
    /// whoever asks, because they might not tell the truth. `None`: there was not enough time to count them.
    fn depth(&self, below: Option<u64>) -> Result<Option<usize>, FindFault> {
        let Some(below) = below else { return Ok(Some(0)) };
        let page = Page { above: below.checked_sub(1), below: None, limit: MAX_RESULTS };
        Ok(counted(&self.index.newest(&self.compiled, page, &|_| true, self.within)?))
    }

    fn best(&self, skip: usize, limit: usize) -> Result<Results, FindFault> {
        if skip >= MAX_RESULTS {
            return Err(FindFault::TooDeep);
        }
        let limit = limit.min(MAX_RESULTS - skip);
        let (hits, found) =
            self.shown.look_up(|alive| self.index.best(&self.compiled, skip, limit, alive, self.within))?;
        let more = limit > 0 && hits.len() == limit && skip + limit < MAX_RESULTS;
        Ok(Results { hits, more, took_too_long: found.took_too_long, cut: found.cut })
    }

    fn facets(&self) -> Result<Facets, FindFault> {
        let page = Page { limit: MAX_RESULTS, ..Page::default() };
        let (hits, found) = self.shown.newest(&self.index, &self.compiled, page, self.within)?;
        Ok(facets::count(&hits, found.took_too_long || hits.len() >= MAX_RESULTS))
    }
}

/// How many were found; what took too long to count may be any number, but for one that is enough as it is.
const fn counted(found: &Found) -> Option<usize> {
    let count = found.ids.len();
    if found.took_too_long && count < MAX_RESULTS { None } else { Some(count) }
}

/// How somebody stands with the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Something is held of them. If not, what their profile says is not known, and nobody is told whether they said no.
    pub held: bool,
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
    /// How the account with this handle, `name@host`, stands, or with this actor's id. Asks nobody: of whom nothing is held,
    /// only what is known of their server is told.
    ///
    /// # Errors
    /// The store's. `None`: that is neither.
    pub fn standing(&self, who: &str) -> Result<Option<Standing>, StoreError> {
        let who = who.trim();
        let (actor, authority) = if who.contains("://") {
            let Ok(actor) = Iri::parse(who) else { return Ok(None) };
            let authority = actor.authority();
            (Some(actor), authority)
        } else {
            let Some((name, host)) = who.trim_start_matches('@').split_once('@') else { return Ok(None) };
            let (Ok(authority), false) = (Authority::parse(host), name.is_empty()) else { return Ok(None) };
            (self.0.store.indexed_actor(&format!("{name}@{authority}"))?, authority)
        };
        let author = actor.as_ref().map(|actor| self.0.store.ledger()?.author(actor)).transpose()?.flatten();
        let Some((actor, author)) = actor.zip(author) else {
            let off = !self.0.store.search_servers().contains_key(&authority);
            let reasons = off.then_some(Reason::ServerOff).into_iter().collect();
            return Ok(Some(Standing { held: false, indexed: false, reasons, read_at: None, posts: 0 }));
        };
        let says = consent::Reading { signals: &author.signals, at: author.read_at };
        let refused = self.0.store.refused(&actor)?;
        let reasons = self.reasons(&actor, says, known_now(&author, refused.as_ref()));
        let posts = self.0.store.posts_of(author.number)?;
        Ok(Some(Standing { held: true, indexed: reasons.is_empty(), reasons, read_at: Some(author.read_at), posts }))
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
    /// Nobody is shown before it is known for how long we slept.
    pub(super) fn new(search: &'a Search) -> Result<Self, StoreError> {
        if !search.is_awake() {
            return Err(StoreError::Busy);
        }
        let oldest = first_number_at(search.0.clock.now().minus(search.0.config.retention));
        Ok(Self { search, view: search.0.store.ledger()?, oldest, authors: Mutex::default() })
    }

    /// The newest posts that `compiled` finds and that may be shown, as [`Index::newest`].
    pub(super) fn newest(
        &self,
        index: &Index,
        compiled: &Compiled,
        page: Page,
        within: Duration,
    ) -> Result<(Vec<Hit>, Found), FindFault> {
        self.look_up(|alive| index.newest(compiled, page, alive, within))
    }

    /// The posts that `search` finds of those that may be shown; each is read once.
    fn look_up(
        &self,
        search: impl FnOnce(Alive<'_>) -> Result<Found, IndexFault>,
    ) -> Result<(Vec<Hit>, Found), FindFault> {
        let looked_up: Mutex<HashMap<u64, Hit>> = Mutex::default();
        let alive = |number| {
            let hit = self.hit(number);
            let may_be_shown = hit.is_some();
            if let Some(hit) = hit {
                looked_up.lock().unwrap_or_else(PoisonError::into_inner).insert(number, hit);
            }
            may_be_shown
        };
        let found = search(&alive)?;
        let mut looked_up = looked_up.into_inner().unwrap_or_else(PoisonError::into_inner);
        let hits = found.ids.iter().filter_map(|number| looked_up.remove(number)).collect();
        Ok((hits, found))
    }

    /// The account, if it may be shown.
    pub(super) fn person(&self, actor: &Iri) -> Option<Person> {
        let author = self.view.author(actor).ok()??;
        self.is_listed(actor, &author).then(|| Person { actor: actor.clone(), author: Arc::new(author) })
    }

    /// Whether this account may be found as such.
    pub(super) fn is_listed(&self, actor: &Iri, author: &IndexedAuthor) -> bool {
        self.lists(actor, author).unwrap_or(false)
    }

    fn lists(&self, actor: &Iri, author: &IndexedAuthor) -> Option<bool> {
        // The operator's words count for what a profile says, too.
        let words = format!("{} {}", author.profile.name, author.profile.summary);
        let case = Case {
            reading: Some(consent::Reading { signals: &author.signals, at: author.read_at }),
            author: known_now(author, self.refused(actor)?.as_ref()),
            server: self.search.server(actor, &words),
            post: None,
            terms: self.search.terms(Occasion::Keeping),
        };
        Some(consent::consent(Use::Account, &case).is_allowed())
    }

    /// The post, if it may be shown. A row that cannot be read is shown to nobody.
    fn hit(&self, number: u64) -> Option<Hit> {
        if number < self.oldest {
            return None;
        }
        let post = self.view.post(number).ok()??;
        let author = self.author(&post.author)?;
        let server = self.search.server(&post.author, &post.document.words());
        // Switched off and on again, what was taken before is not what its admin says yes to now.
        let is_newer = server.on_since.is_some_and(|since| post.published.secs() >= since.secs());
        let may_be_shown = author.number == post.author_number && is_newer && !server.ruled_out;
        may_be_shown.then_some(Hit { number, post, author })
    }

    /// The author, if their posts may be shown.
    fn author(&self, actor: &Iri) -> Option<Arc<IndexedAuthor>> {
        let mut authors = self.authors.lock().unwrap_or_else(PoisonError::into_inner);
        authors.entry(actor.clone()).or_insert_with(|| self.read_author(actor)).clone()
    }

    fn read_author(&self, actor: &Iri) -> Option<Arc<IndexedAuthor>> {
        let author = self.view.author(actor).ok()??;
        let says = consent::Reading { signals: &author.signals, at: author.read_at };
        let known = known_now(&author, self.refused(actor)?.as_ref());
        match self.search.consent(actor, "", Some(says), known, None, Occasion::Keeping) {
            Decision::Allow => Some(Arc::new(author)),
            Decision::Deny(_) => None,
        }
    }

    /// Whether they said no by an act of their own; nothing if that cannot be known.
    fn refused(&self, actor: &Iri) -> Option<Option<Refused>> {
        self.search.0.store.refused(actor).ok()
    }

    /// Whether somebody may go through all that this author wrote: only if they want to be discovered.
    fn is_browsable(&self, name: &str) -> bool {
        let actor = self.search.0.store.indexed_actor(name).ok().flatten();
        let author = actor.and_then(|actor| self.author(&actor));
        author.is_none_or(|author| author.signals.discoverable == Said::Yes)
    }

    /// Whether the query names somebody who is not to be browsed, or a server of so few authors that its posts are theirs.
    fn is_about_few(&self, query: &Query) -> bool {
        let about = query.about();
        let is_small = |host: &str| Authority::parse(host).is_ok_and(|server| self.has_few_authors(&server));
        about.authors.iter().any(|name| !self.is_browsable(name)) || about.servers.iter().any(|host| is_small(host))
    }

    /// Fewer than totals are told of. Of none, too: that there is one is not told by another answer.
    fn has_few_authors(&self, server: &Authority) -> bool {
        let authors = ["https", "http"].into_iter().map(|scheme| {
            let begin = format!("{scheme}://{server}/");
            let page = self.search.0.store.sound_page::<IndexedAuthor>(&begin, LEAST_AUTHORS);
            page.map_or(0, |page| page.rows.iter().filter(|(actor, _)| actor.starts_with(&begin)).count())
        });
        authors.sum::<usize>() < LEAST_AUTHORS
    }
}

/// What is known of an author, their being hidden included.
fn known_now(author: &IndexedAuthor, refused: Option<&Refused>) -> consent::Author {
    consent::Author { refused: author.hidden.is_some(), ..known(author, refused) }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::search::gather::tests::search;
    use crate::search::schema::IndexDoc;
    use crate::wire::document::Document;

    /// A search whose index has one post, of which nothing is held.
    async fn with_one_post(dir: &tempfile::TempDir) -> Search {
        let search = search(dir, |_config| {}).await;
        let index = Index::open(&dir.path().join("index")).unwrap();
        let mut writer = index.writer(15 << 20).unwrap();
        let document = Document { text: "a petrel".to_owned(), ..Document::default() };
        writer.put(&IndexDoc { id: 7, author: 1, server: 1, language: "en", document: &document }).unwrap();
        writer.commit(1, search.0.clock.now()).unwrap();
        search.0.index.send_replace(Some(index));
        search.0.awake.store(true, Ordering::Release);
        search
    }

    #[tokio::test]
    async fn each_search_for_posts_has_a_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let search = with_one_post(&dir).await;
        let asked = |text: &str| Asked::new(&search, text, false).unwrap();
        let page = Page { limit: 20, ..Page::default() };
        assert_eq!(asked("petrel").within, WITHIN);
        for (within, is_over) in [(Duration::from_secs(600), false), (Duration::ZERO, true)] {
            let asked = |text: &str| Asked { within, ..asked(text) };
            assert_eq!(asked("petrel").newest(page).unwrap().took_too_long, is_over, "{within:?}");
            assert_eq!(asked("petrel sort:relevance").best(0, 20).unwrap().took_too_long, is_over, "{within:?}");
            assert_eq!(asked("petrel").facets().unwrap().more, is_over, "{within:?}");
        }
    }

    #[tokio::test]
    async fn nobody_is_shown_before_it_is_known_for_how_long_we_slept() {
        let dir = tempfile::tempdir().unwrap();
        let search = with_one_post(&dir).await;
        assert!(search.index().is_some() && search.post(7).is_ok());
        search.0.awake.store(false, Ordering::Release);
        assert!(search.index().is_none() && matches!(search.post(7), Err(StoreError::Busy)));
    }

    #[tokio::test]
    async fn a_depth_that_could_not_be_counted_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let search = with_one_post(&dir).await;
        let below = Page { limit: 20, below: Some(5), ..Page::default() };
        let page_below = |within| Asked { within, ..Asked::new(&search, "petrel", false).unwrap() }.newest(below);
        assert!(!page_below(Duration::from_secs(600)).unwrap().took_too_long, "one lies above");
        // Of a page whose depth is not known, nothing is shown, nor that there is more.
        let late = page_below(Duration::ZERO).unwrap();
        assert_eq!((late.hits.len(), late.more, late.took_too_long), (0, false, true));
        let mut found = Found { ids: vec![9, 8, 7], ..Found::default() };
        assert_eq!(counted(&found), Some(3));
        found.took_too_long = true;
        assert_eq!(counted(&found), None);
        found.ids = vec![1; MAX_RESULTS];
        assert_eq!(counted(&found), Some(MAX_RESULTS));
    }
}

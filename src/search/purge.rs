//! What the operator takes out of the search by command: a post, all of an author, all of a server. It counts for the next
//! search; the workers see to the rest, as with every withdrawal.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Search;
use crate::ids::{Authority, Iri};
use crate::store::{Act, IndexedAuthor, StoreError, Tx, Voted};

/// Authors taken out in one transaction: the inbox waits for it.
const BATCH: usize = 100;
/// Rows looked at in one go.
const PAGE: usize = 500;
/// Why, in a word, as it is remembered of an author who may come again.
const PURGED: &str = "purged";

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// One post. Whether it is held or not, it does not come again.
    Post(Iri),
    /// All posts of an author, by the author's id.
    Author(Iri),
    /// All authors of a server and of those below its name.
    Server(Authority),
}

/// What went, or would have gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Purged {
    /// `post`, `author` or `server`.
    pub what: &'static str,
    /// Which one, by its id or name.
    pub target: String,
    /// Authors of whom posts were held.
    pub authors: u64,
    /// Posts of theirs.
    pub posts: u64,
    /// What they post from now on is not taken either; of a single post, it does not come again.
    pub for_good: bool,
    /// It is done; else it was only asked what would be.
    pub done: bool,
}

impl Search {
    /// Takes out what `target` names: a post's id, an author's id or handle (`@name@host`), a server with those below its
    /// name. `for_good`: an author stays out until they prove that they want to return, whatever their profile says.
    /// `dry_run`: only says what would go.
    ///
    /// # Errors
    /// A sentence about the target, or the store's.
    pub async fn purge(&self, target: &str, for_good: bool, dry_run: bool, act: &Act) -> anyhow::Result<Purged> {
        let target = self.target(target.trim())?;
        let (what, name) = match &target {
            Target::Post(id) => ("post", id.to_string()),
            Target::Author(id) => ("author", id.to_string()),
            Target::Server(host) => ("server", host.to_string()),
        };
        anyhow::ensure!(
            !(for_good && what == "server"),
            "a server is kept out by a rule: `shearwater admin no-search {name}`, which takes out what is held of it as well"
        );
        let found = self.held_of(&target)?;
        let posts = match &target {
            Target::Post(id) => u64::from(self.0.store.indexed_number(id)?.is_some()),
            _ => found.iter().map(|(_, author)| self.0.store.posts_of(author.number)).sum::<Result<u64, _>>()?,
        };
        let authors = if what == "post" { 0 } else { found.len() as u64 };
        if !dry_run {
            self.note_purge(&target, json!({ "posts": posts, "authors": authors, "for_good": for_good }), act).await?;
            self.take_out(target, found, for_good).await?;
            tracing::info!(what, authors, posts, for_good, "the operator purges");
            self.count("purged");
        }
        Ok(Purged { what, target: name, authors, posts, for_good: for_good || what == "post", done: !dry_run })
    }

    /// Before it is done, which takes several transactions: one that is cut short was begun. Whom it was about is not kept.
    async fn note_purge(&self, target: &Target, what: Value, act: &Act) -> Result<(), StoreError> {
        let (word, server) = match target {
            Target::Post(id) => ("index.purge.post", id.authority()),
            Target::Author(id) => ("index.purge.author", id.authority()),
            Target::Server(host) => ("index.purge.server", host.clone()),
        };
        let act = act.clone();
        self.0.store.write(move |tx| tx.audit(&act, word, server.as_str(), what, Value::Null)).await
    }

    fn target(&self, text: &str) -> anyhow::Result<Target> {
        if text.contains("://") {
            let id = Iri::parse(text).map_err(|fault| anyhow::anyhow!("{text:?} is no address: {fault}"))?;
            let is_author = self.0.store.ledger()?.author(&id)?.is_some();
            return Ok(if is_author { Target::Author(id) } else { Target::Post(id) });
        }
        if text.contains('@') {
            let found = self.0.store.indexed_actor(text.trim_start_matches('@'))?;
            return found.map(Target::Author).ok_or_else(|| {
                let none = format!(
                    "no posts are held of {text}; if you mean an account by another name, give its address (https://…)"
                );
                StoreError::Absent(none).into()
            });
        }
        let host = Authority::parse(text)
            .map_err(|fault| anyhow::anyhow!("{text:?} is no post, author or server: {fault}"))?;
        Ok(Target::Server(host))
    }

    fn held_of(&self, target: &Target) -> Result<Vec<(Iri, IndexedAuthor)>, StoreError> {
        let store = &self.0.store;
        let domain = match target {
            Target::Post(_) => return Ok(Vec::new()),
            Target::Author(id) => {
                return Ok(store.ledger()?.author(id)?.map(|author| (id.clone(), author)).into_iter().collect());
            }
            Target::Server(host) => host,
        };
        let (mut from, mut found) = (String::new(), Vec::new());
        loop {
            let page = store.sound_page::<IndexedAuthor>(&from, PAGE)?;
            let Some(next) = page.next else { return Ok(found) };
            from = next;
            let authors = page.rows.into_iter().filter_map(|(id, author)| Some((Iri::parse(&id).ok()?, author)));
            found.extend(authors.filter(|(id, _)| {
                let host = id.authority();
                host == *domain || host.is_within(domain.as_str())
            }));
        }
    }

    async fn take_out(
        &self,
        target: Target,
        found: Vec<(Iri, IndexedAuthor)>,
        for_good: bool,
    ) -> Result<(), StoreError> {
        let store = &self.0.store;
        if let Target::Post(id) = target {
            return store
                .write(move |tx| {
                    tx.drop_indexed_post(&id)?;
                    tx.take_back_post(Voted::Post(&id))?;
                    tx.take_back_author(&id)?;
                    // It may be an account of which nothing is held, and which is to be kept out.
                    if for_good {
                        tx.note_removal(&id)?;
                    }
                    tx.suppress_post(&id)
                })
                .await;
        }
        if let Target::Server(host) = &target {
            let places = store.places_within(host)?;
            store.take_back_places(&places).await?;
        }
        let ids: Vec<Iri> = found.into_iter().map(|(id, _)| id).collect();
        for some in ids.chunks(BATCH) {
            let (some, now) = (some.to_vec(), self.0.clock.now());
            let end = move |tx: &mut Tx<'_>| {
                some.iter().try_for_each(|id| {
                    tx.withdraw_author(id)?;
                    tx.take_back_author(id)?;
                    if for_good { tx.note_removal(id) } else { tx.refuse_author(id, PURGED, now) }
                })
            };
            store.write(end).await?;
        }
        Ok(())
    }
}

//! What our own search answers with: hits with where their words stand and why they may be shown, accounts, hashtags and
//! counts. These types are what the description of the API is made from.

use std::ops::Range;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::consent::Reason;
use crate::search::Search;
use crate::search::facets::{Count, Facets};
use crate::search::find::{Hit, Standing};
use crate::search::hashtags::{Hashtag, Uses};
use crate::search::highlight::marks;
use crate::search::people::Person;
use crate::search::query::Query;
use crate::store::{IndexedAuthor, SwitchedBy};
use crate::wire::document::Prop;

/// Characters of an excerpt: enough to see what it is about. The rest is at home.
const EXCERPT: usize = 500;
/// Characters of it before the first word that was found, if that is not near the beginning.
const BEFORE: usize = 100;

/// A page of what was found. Only the list that was asked for has anything in it.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Answer {
    /// Posts.
    pub(super) hits: Vec<ShownHit>,
    /// Accounts.
    pub(super) accounts: Vec<ShownAccount>,
    /// Hashtags, the exact one first.
    pub(super) hashtags: Vec<ShownTag>,
    /// Of posts by date: `below` of the next page, if there may be one.
    pub(super) next: Option<String>,
    /// Of all else: `skip` of the next page, if there may be one.
    pub(super) next_skip: Option<usize>,
    /// The counts, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) facets: Option<ShownFacets>,
    /// The time for a search was over before the page was full.
    pub(super) took_too_long: bool,
    /// The beginning of a word stood for more words than were looked for.
    pub(super) cut: bool,
}

/// A post.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownHit {
    /// Its id here: grows with time.
    #[schema(pattern = "^[0-9]{1,20}$")]
    id: String,
    /// Its id at home.
    #[schema(format = "uri")]
    uri: String,
    /// Where people read it.
    #[schema(format = "uri")]
    url: String,
    /// When it was published.
    #[schema(format = DateTime)]
    published: String,
    /// Its language: a code, or `und`.
    language: String,
    /// Its title; notes have none.
    title: String,
    /// Its content warning.
    warning: String,
    /// An excerpt of its text, at most 500 characters, with what was asked for in it if it is in the text.
    text: String,
    /// Where in the text the excerpt begins, in characters.
    text_from: usize,
    /// There is more of the text than the excerpt.
    text_is_cut: bool,
    /// Where in the excerpt what was asked for stands: from and to, in characters (Unicode code points).
    #[schema(value_type = Vec<Vec<usize>>)]
    highlights: Vec<[usize; 2]>,
    /// Hashtags, without `#`.
    tags: Vec<String>,
    /// What kind of post it is.
    properties: Vec<&'static str>,
    /// Whose it is.
    author: Author,
    /// Why it may be shown.
    why: Why,
}

/// Whose a post is.
#[derive(Debug, Serialize, ToSchema)]
struct Author {
    /// The actor.
    #[schema(format = "uri")]
    uri: String,
    /// `name@host`.
    handle: String,
    /// What they call themselves.
    name: String,
    /// The page of their profile.
    #[schema(format = "uri")]
    url: String,
}

/// By which two words it may be shown: the author's, and that of their server's admin.
#[derive(Debug, Serialize, ToSchema)]
struct Why {
    /// What the author's profile says yes to.
    signal: &'static str,
    /// When the profile was last read.
    #[schema(format = DateTime)]
    read_at: String,
    /// Who switched search on for the server; null if it was switched off a moment ago.
    server: Option<SecondKey>,
}

/// The yes of a server.
#[derive(Debug, Serialize, ToSchema)]
struct SecondKey {
    /// `admin`: its own actor follows the search actor. `operator`: the operator of this relay wrote it down.
    by: &'static str,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownAccount {
    /// The actor.
    #[schema(format = "uri")]
    uri: String,
    /// `name@host`.
    handle: String,
    /// What they call themselves.
    name: String,
    /// The page of their profile.
    #[schema(format = "uri")]
    url: String,
    /// The bio as plain text, without the handles of others.
    summary: String,
    /// Hashtags of the profile.
    tags: Vec<String>,
    /// It says that it is automated.
    bot: bool,
    /// Why it may be shown.
    why: Why,
}

/// A hashtag.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownTag {
    /// As the newest post spells it, without `#`.
    name: String,
    /// How much it was used of late, the newest day first.
    days: Vec<ShownUses>,
}

/// How much a hashtag was used on a day.
#[derive(Debug, Serialize, ToSchema)]
struct ShownUses {
    /// The day, in UTC.
    #[schema(format = Date)]
    day: String,
    /// By how many people; 0 if they were fewer than 5.
    authors: usize,
    /// In how many posts; 0 if they were by fewer than 5 people.
    posts: usize,
}

/// What was found, counted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownFacets {
    /// Posts that were counted: at most 400, the newest.
    of: usize,
    /// There are more posts than were counted.
    more: bool,
    /// By language.
    language: Vec<ShownCount>,
    /// By the author's server.
    domain: Vec<ShownCount>,
    /// By hashtag.
    tag: Vec<ShownCount>,
    /// By month, the newest first.
    month: Vec<ShownCount>,
}

/// A value and how many posts have it. What fewer than 5 people wrote is not counted.
#[derive(Debug, Serialize, ToSchema)]
struct ShownCount {
    /// The value.
    value: String,
    /// Posts.
    posts: usize,
}

/// How an account stands with the search.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownStanding {
    /// Its posts may be found.
    indexed: bool,
    /// Everything that stands against it, as far as it is known without asking its server.
    reasons: Vec<ShownReason>,
    /// When its profile was last read.
    #[schema(format = DateTime)]
    read_at: Option<String>,
    /// How many posts are held.
    posts: u64,
    /// What that means where nothing is held, and what to do to know more.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// A reason.
#[derive(Debug, Serialize, ToSchema)]
struct ShownReason {
    /// In a word.
    reason: &'static str,
    /// In a sentence.
    meaning: &'static str,
}

impl ShownHit {
    /// Its id here.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A hit of `query`.
    pub(super) fn of(search: &Search, hit: &Hit, query: &Query) -> Self {
        let (post, document) = (&hit.post, &hit.post.document);
        let excerpt = Excerpt::of(&document.text, &marks(query, &document.text));
        Self {
            id: hit.number.to_string(),
            uri: post.object.to_string(),
            url: document.url.clone().unwrap_or_else(|| post.object.to_string()),
            published: post.published.rfc3339(),
            language: post.language.clone(),
            title: document.title.clone(),
            warning: document.warning.clone(),
            text: excerpt.text,
            text_from: excerpt.from,
            text_is_cut: excerpt.is_cut,
            highlights: excerpt.marks,
            tags: document.tags.clone(),
            properties: document.props.iter().map(Prop::as_str).collect(),
            author: Author {
                uri: post.author.to_string(),
                handle: hit.handle(),
                name: hit.author.profile.name.clone(),
                url: hit.author.profile.url.to_string(),
            },
            why: Why::of(search, &post.author, &hit.author, "indexable"),
        }
    }
}

impl ShownAccount {
    pub(super) fn of(search: &Search, person: &Person) -> Self {
        let profile = &person.author.profile;
        Self {
            uri: person.actor.to_string(),
            handle: person.handle(),
            name: profile.name.clone(),
            url: profile.url.to_string(),
            summary: profile.summary.clone(),
            tags: profile.tags.clone(),
            bot: person.author.signals.bot,
            why: Why::of(search, &person.actor, &person.author, "discoverable"),
        }
    }
}

impl Why {
    fn of(search: &Search, actor: &crate::ids::Iri, author: &IndexedAuthor, signal: &'static str) -> Self {
        let server = search.second_key(actor).map(|server| SecondKey {
            by: match server.by {
                SwitchedBy::Admin { .. } => "admin",
                SwitchedBy::Operator => "operator",
            },
            since: server.since.rfc3339(),
        });
        Self { signal, read_at: author.read_at.rfc3339(), server }
    }
}

impl From<Hashtag> for ShownTag {
    fn from(tag: Hashtag) -> Self {
        let day = |day: i64| Timestamp::from_millis(day.saturating_mul(86_400_000)).rfc3339();
        let shown = |Uses { day: number, authors, posts }| {
            let day = day(number).chars().take("2026-08-23".len()).collect();
            ShownUses { day, authors, posts }
        };
        Self { name: tag.name, days: tag.days.into_iter().map(shown).collect() }
    }
}

impl From<Facets> for ShownFacets {
    fn from(facets: Facets) -> Self {
        let counts = |counts: Vec<Count>| {
            counts.into_iter().map(|Count { value, posts }| ShownCount { value, posts }).collect::<Vec<_>>()
        };
        let Facets { of, more, language, domain, tag, month } = facets;
        Self { of, more, language: counts(language), domain: counts(domain), tag: counts(tag), month: counts(month) }
    }
}

/// For who is not known, who said no and who was removed alike.
const NOTHING_HELD: &str = "Nothing is held of an account by this name: no post of it came here, or something was said against \
    it, which is told to nobody. Accounts go by the host of their own address here, which some servers hide behind a shorter \
    handle: ask with that address, as acct=https://your.example/users/you. What a profile would have to say is in \
    docs/PRIVACY.md.";

impl From<Standing> for ShownStanding {
    fn from(standing: Standing) -> Self {
        let shown = |reason: &Reason| ShownReason { reason: reason.as_str(), meaning: reason.sentence() };
        Self {
            indexed: standing.indexed,
            reasons: standing.reasons.iter().map(shown).collect(),
            read_at: standing.read_at.map(Timestamp::rfc3339),
            posts: standing.posts,
            note: (!standing.held).then_some(NOTHING_HELD),
        }
    }
}

/// A part of a text, with what was found in it.
#[derive(Debug, PartialEq, Eq)]
struct Excerpt {
    text: String,
    from: usize,
    is_cut: bool,
    marks: Vec<[usize; 2]>,
}

impl Excerpt {
    /// From the beginning, if the first mark is near it; else from a word before that mark.
    fn of(text: &str, marks: &[Range<usize>]) -> Self {
        let chars_before = |byte: usize| text.get(..byte).map_or(0, |before| before.chars().count());
        let first = marks.first().map_or(0, |mark| chars_before(mark.end));
        let start = marks.first().map_or(0, |mark| chars_before(mark.start)).saturating_sub(BEFORE);
        let from = if first <= EXCERPT { 0 } else { word_after(text, start) };
        let shown: String = text.chars().skip(from).take(EXCERPT).collect();
        let length = shown.chars().count();
        let within = |mark: &Range<usize>| {
            let (start, end) = (chars_before(mark.start), chars_before(mark.end));
            let (start, end) = (start.checked_sub(from)?, end.saturating_sub(from).min(length));
            (start < end).then_some([start, end])
        };
        let is_cut = from > 0 || text.chars().nth(from + length).is_some();
        Self { text: shown, from, is_cut, marks: marks.iter().filter_map(within).collect() }
    }
}

/// The first character after a space that follows character `at`; `at` if there is none nearby.
fn word_after(text: &str, at: usize) -> usize {
    let space = text.chars().skip(at).take(BEFORE / 2).position(char::is_whitespace);
    space.map_or(at, |space| at + space + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_holds_what_was_found_and_says_where() {
        let query = Query::read("petrel").unwrap();
        let excerpt = |text: &str| Excerpt::of(text, &marks(&query, text));
        let short = excerpt("ein Bär, a petrel");
        assert_eq!(
            short,
            Excerpt { text: "ein Bär, a petrel".to_owned(), from: 0, is_cut: false, marks: vec![[11, 17]] }
        );
        let long = format!("{}petrel{}", "äöü ".repeat(1000), " x".repeat(1000));
        let found = excerpt(&long);
        assert_eq!(found.text.chars().count(), EXCERPT);
        let [[from, to]] = found.marks.as_slice() else { panic!("{:?}", found.marks) };
        assert_eq!(found.text.chars().skip(*from).take(to - from).collect::<String>(), "petrel");
        assert!(found.is_cut && found.text.starts_with('ä') && found.from > 3800, "{found:?}");
        let dense = format!("{}petrel", "ä".repeat(2000) + " ");
        let found = excerpt(&dense);
        assert!(found.text.ends_with("petrel") && found.marks.len() == 1, "{found:?}");
        let nothing = excerpt(&"y ".repeat(1000));
        assert_eq!((nothing.from, nothing.is_cut, nothing.marks.len()), (0, true, 0));
        let at_the_edge = format!("{}petrel petrel", "x".repeat(EXCERPT - 8) + " ");
        assert_eq!(excerpt(&at_the_edge).marks, [[EXCERPT - 7, EXCERPT - 1]]);
    }
}

//! Finding accounts: authors of whom posts are held and who want to be discovered, by handle, name, hashtags of the profile
//! and words of the bio. Nobody else is found: an account of which no post is held has never been asked about, and nothing
//! is fetched because somebody typed a name. Their servers alone find nobody: that would be a list of who is there.
//!
//! What is searched is a list in memory, made from the ledger when somebody asks and it is out of date. Whether somebody may
//! be shown is asked of the ledger for each, then: who withdrew a moment ago is not found although the list has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::Search;
use super::find::{FindFault, Shown, WITHIN};
use super::query::says_something;
use super::tokens::{Reading, fold, tokens};
use crate::ids::{Iri, Seq};
use crate::store::{IndexedAuthor, StoreError};
use crate::wire::document::tag_key;

/// People that can be paged through: a search is for finding somebody, and not for a list of all.
pub const MAX_PEOPLE: usize = 80;
/// Words of a query that are looked for; all of them must fit.
const MAX_WORDS: usize = 8;
/// People on the list: with more, the last in the order of ids are found by their handle only.
const MAX_LISTED: usize = 200_000;
/// Of them, people of one registrable domain: names below it cost nothing.
const MAX_OF_DOMAIN: usize = 5000;
/// Words of one of them, the most telling first.
const MAX_WORDS_OF_ONE: usize = 64;
/// Bytes of words, and of where they lead, of all of them. With half of it in use no more bios are read, with all of it
/// nothing but handles.
const MAX_BYTES: usize = 32 << 20;
/// What a word costs beside its letters, and what it costs that it leads to somebody.
const WORD_COST: usize = 64;
const PLACE_COST: usize = 8;
/// Places that one word of a query may lead to.
const MAX_POSTINGS: usize = 50_000;
/// Authors that are read at once.
const PAGE: usize = 1000;
/// Making the list anew may take this part of the time, and need not be done oftener than this, nor later than that.
const SHARE: u32 = 20;
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(300);

/// Somebody who was found.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their actor's id.
    pub actor: Iri,
    /// What is held of them.
    pub author: Arc<IndexedAuthor>,
}

impl Person {
    /// Their handle, `name@host`.
    #[must_use]
    pub fn handle(&self) -> String {
        self.author.handle(&self.actor)
    }
}

impl Search {
    /// The people whom `text` fits best, from the `skip`th on. Blocks, for milliseconds; for longer where many are listed
    /// anew.
    ///
    /// # Errors
    /// [`FindFault::Everything`] if it says nothing; the store's.
    pub fn people(&self, text: &str, skip: usize, limit: usize) -> Result<Vec<Person>, FindFault> {
        let _timer = self.timer("accounts");
        let shown = Shown::new(self)?;
        let text: String = text.chars().take(500).collect();
        let text = text.trim();
        if is_handle(text) {
            let actor = self.0.store.indexed_actor(text.trim_start_matches('@'))?;
            let person = actor.and_then(|actor| shown.person(&actor));
            return Ok(person.into_iter().skip(skip).take(limit).collect());
        }
        let name = text.trim_start_matches('@');
        if !says_something(name) {
            return Err(FindFault::Everything);
        }
        let until = Instant::now() + WITHIN;
        let listed = self.listed()?;
        let limit = limit.min(MAX_PEOPLE.saturating_sub(skip));
        let fitting = listed.find(name).into_iter().filter_map(|index| listed.actors.get(index));
        let fitting = fitting.take_while(|_| Instant::now() < until);
        Ok(fitting.filter_map(|actor| shown.person(actor)).skip(skip).take(limit).collect())
    }

    fn listed(&self) -> Result<Arc<Listed>, StoreError> {
        let newest = *self.0.store.follow_changes().borrow();
        let held = self.0.people.held();
        if let Some(listed) = held.as_ref().filter(|listed| listed.is_fresh(newest)) {
            return Ok(listed.clone());
        }
        let _making = match (held, self.0.people.making.try_lock()) {
            // Somebody makes it just now; until then the old one will do.
            (Some(old), Err(TryLockError::WouldBlock)) => return Ok(old),
            (_, Ok(making)) => making,
            (_, Err(_)) => self.0.people.making.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if let Some(listed) = self.0.people.held().filter(|listed| listed.is_fresh(newest)) {
            return Ok(listed);
        }
        let listed = Arc::new(Listed::make(self, newest)?);
        *self.0.people.list.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed.clone());
        Ok(listed)
    }
}

/// The list, once somebody asked.
#[derive(Default)]
pub(super) struct People {
    list: Mutex<Option<Arc<Listed>>>,
    /// Held by who makes it anew.
    making: Mutex<()>,
}

impl People {
    fn held(&self) -> Option<Arc<Listed>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where a word of somebody's was read, the most telling place first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Handle,
    Name,
    Tag,
    Bio,
}

struct Listed {
    /// The ledger's newest change at that time.
    as_of: Seq,
    made: Instant,
    took: Duration,
    actors: Vec<Iri>,
    /// From words to places in `actors`.
    words: BTreeMap<String, Vec<(u32, Field)>>,
    /// Bytes of these.
    bytes: usize,
    /// How many people are of which registrable domain.
    domains: HashMap<String, usize>,
}

impl Listed {
    fn make(search: &Search, as_of: Seq) -> Result<Self, StoreError> {
        let (made, shown) = (Instant::now(), Shown::new(search)?);
        let mut list = Self::empty(as_of, made);
        let mut from = String::new();
        while list.actors.len() < MAX_LISTED {
            // A row that cannot be read is nobody's; read by itself once more, it is cleared away by the sweeper.
            let page = search.0.store.sound_page::<IndexedAuthor>(&from, PAGE)?;
            for key in &page.damaged {
                search.0.store.sound(search.0.store.get::<IndexedAuthor>(key))?;
            }
            let Some(next) = page.next else { break };
            from = next;
            for (id, author) in &page.rows {
                if let Ok(actor) = Iri::parse(id)
                    && shown.is_listed(&actor, author)
                {
                    list.add(actor, author);
                }
            }
        }
        list.domains = HashMap::new();
        list.took = made.elapsed();
        Ok(list)
    }

    fn empty(as_of: Seq, made: Instant) -> Self {
        let (took, actors, words, domains) = (Duration::ZERO, Vec::new(), BTreeMap::new(), HashMap::new());
        Self { as_of, made, took, actors, words, bytes: 0, domains }
    }

    fn is_fresh(&self, newest: Seq) -> bool {
        let age = self.made.elapsed();
        age < LATEST && (self.as_of == newest || age < self.took.saturating_mul(SHARE).max(SOONEST))
    }

    fn add(&mut self, actor: Iri, author: &IndexedAuthor) {
        let Ok(index) = u32::try_from(self.actors.len()) else { return };
        let of_domain = self.domains.entry(actor.authority().registrable().to_owned()).or_default();
        if *of_domain == MAX_OF_DOMAIN {
            return;
        }
        *of_domain += 1;
        self.actors.push(actor);
        let profile = &author.profile;
        let mut left = MAX_WORDS_OF_ONE;
        let mut add = |word: &str, field: Field| self.lead(word, index, field, &mut left);
        add(&fold(&profile.username), Field::Handle);
        for (text, field) in [(&profile.username, Field::Handle), (&profile.name, Field::Name)] {
            tokens(text, |token| add(token.text, field));
        }
        for key in profile.tags.iter().filter_map(|tag| tag_key(tag)) {
            add(&key, Field::Tag);
        }
        tokens(&profile.summary, |token| add(token.text, Field::Bio));
    }

    /// Has a word of somebody lead to them, if there is room; `left` is how many more of theirs may.
    fn lead(&mut self, word: &str, index: u32, field: Field, left: &mut usize) {
        let room = match field {
            Field::Handle => usize::MAX,
            Field::Name | Field::Tag => MAX_BYTES,
            Field::Bio => MAX_BYTES / 2,
        };
        if *left == 0 || self.bytes >= room {
            return;
        }
        let places = match self.words.get_mut(word) {
            Some(places) => places,
            None => {
                self.bytes += word.len() + WORD_COST;
                self.words.entry(word.to_owned()).or_default()
            }
        };
        // The most telling field comes first, and once is enough.
        if places.last().is_none_or(|(last, _)| *last != index) {
            places.push((index, field));
            self.bytes += PLACE_COST;
            *left -= 1;
        }
    }

    /// The places in `actors` of those whom all words fit, the best first.
    fn find(&self, text: &str) -> Vec<usize> {
        let mut fitting: Option<HashMap<u32, u32>> = None;
        for (word, is_beginning) in asked(text) {
            let ranks = self.ranks(&word, is_beginning);
            fitting = Some(match fitting {
                None => ranks,
                Some(before) => {
                    let both = |(person, rank)| Some((person, rank + ranks.get(&person)?));
                    before.into_iter().filter_map(both).collect()
                }
            });
        }
        let mut fitting: Vec<(u32, u32)> =
            fitting.unwrap_or_default().into_iter().map(|(person, rank)| (rank, person)).collect();
        fitting.sort_unstable();
        fitting.into_iter().filter_map(|(_, person)| usize::try_from(person).ok()).collect()
    }

    /// How well one word fits whom: smaller is better.
    fn ranks(&self, word: &str, is_beginning: bool) -> HashMap<u32, u32> {
        let mut ranks: HashMap<u32, u32> = HashMap::new();
        let matching = self
            .words
            .range(word.to_owned()..)
            .take_while(|(one, _)| if is_beginning { one.starts_with(word) } else { one.as_str() == word });
        let mut looked_at = 0;
        for (one, places) in matching {
            for (person, field) in places {
                let rank = 2 * (*field as u32) + u32::from(one != word);
                let best = ranks.entry(*person).or_insert(rank);
                *best = rank.min(*best);
            }
            looked_at += places.len();
            if looked_at > MAX_POSTINGS {
                break;
            }
        }
        ranks
    }
}

/// The words of a query, each with whether it may be the beginning of one.
fn asked(text: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    tokens(text, |token| {
        if words.len() < MAX_WORDS && !matches!(token.reading, Reading::Part | Reading::Tail) {
            let is_long = token.text.chars().nth(1).is_some();
            let is_beginning = token.reading == Reading::Single || (token.reading == Reading::Word && is_long);
            words.push((token.text.to_owned(), is_beginning));
        }
    });
    words
}

/// `name@host`, with or without an `@` before it.
fn is_handle(text: &str) -> bool {
    let (name, host) = text.trim_start_matches('@').split_once('@').unwrap_or_default();
    !name.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;
    use crate::store::Record;
    use crate::wire::searchable::{ActorSignals, Profile};

    fn listed(people: &[(&str, &str, &str)]) -> Listed {
        let mut list = Listed::empty(Seq(1), Instant::now());
        for (handle, name, summary) in people {
            let (id, author) = somebody("a.example", handle, name, summary);
            list.add(id, &author);
        }
        list
    }

    fn somebody(host: &str, handle: &str, name: &str, summary: &str) -> (Iri, IndexedAuthor) {
        let id = format!("https://{host}/users/{handle}");
        let tag = json!([{ "type": "Hashtag", "name": "#SeaBirds" }]);
        let document = json!({ "id": id, "type": "Person", "preferredUsername": handle, "name": name, "summary": summary, "tag": tag });
        let author = IndexedAuthor {
            number: 1,
            since: None,
            read_at: Timestamp::default(),
            signals: ActorSignals::of(&document),
            profile: Profile::of(&document).unwrap(),
            hidden: None,
        };
        (Iri::parse(&id).unwrap(), author)
    }

    /// What stands where an author should, and is none.
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Broken {
        pieces: u8,
    }

    impl Record for Broken {
        const TABLE: &'static str = IndexedAuthor::TABLE;
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_spoils_no_list() {
        let dir = tempfile::tempdir().unwrap();
        let search = crate::search::gather::tests::search(&dir, |_config| {}).await;
        search.0.awake.store(true, std::sync::atomic::Ordering::Release);
        let put = |tx: &mut crate::store::Tx<'_>| tx.put("https://a.example/users/lost", &Broken { pieces: 2 });
        search.0.store.write(put).await.unwrap();
        assert!(search.0.store.get::<IndexedAuthor>("https://a.example/users/lost").is_err());
        assert!(Listed::make(&search, Seq(1)).unwrap().actors.is_empty());
    }

    #[test]
    fn the_list_of_people_is_bounded_in_words_and_by_server() {
        let bio = |person: usize| (0..90).map(|word| format!("w{person}x{word}")).collect::<Vec<_>>().join(" ");
        let mut list = Listed::empty(Seq(1), Instant::now());
        let add = |list: &mut Listed, host: &str, person: usize, bio: &str| {
            let (id, author) = somebody(host, &format!("p{person}"), "A Name", bio);
            list.add(id, &author);
        };
        add(&mut list, "a.example", 0, &bio(0));
        assert_eq!(list.words.len(), MAX_WORDS_OF_ONE, "one has so many words");
        assert_eq!(list.find("seabirds"), [0], "and the most telling are among them");
        for person in 1..6000 {
            add(&mut list, &format!("s{person}.a.example"), person, "");
        }
        assert_eq!(list.actors.len(), MAX_OF_DOMAIN);
        for person in 6000..10_000 {
            add(&mut list, &format!("d{}.example", person), person, &bio(person));
        }
        let before = list.bytes;
        assert!(before > MAX_BYTES / 3 && before < MAX_BYTES, "{before}");
        list.bytes = MAX_BYTES / 2;
        add(&mut list, "b.example", 10_000, "unheardof");
        assert!(list.find("unheardof").is_empty() && list.find("p10000").len() == 1, "bios go first");
        list.bytes = MAX_BYTES;
        let (id, author) = somebody("c.example", "zoe", "Unheardof", "");
        list.add(id, &author);
        assert!(list.find("unheardof").is_empty() && list.find("zoe").len() == 1, "and handles never");
    }

    #[test]
    fn people_are_found_by_handle_name_tag_and_bio_and_the_most_telling_first() {
        let list = listed(&[
            ("zoe", "Zoë Petrel", "counts auks"),
            ("petrel", "Somebody", ""),
            ("ada", "Ada", "likes a petrel"),
            ("petrel_fan", "Émile", ""),
            ("rin", "東京の鳥", ""),
        ]);
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = list.find(text).into_iter().map(|index| list.actors[index].to_string()).collect();
            let found: Vec<&str> = found.iter().filter_map(|id| id.rsplit('/').next()).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("petrel", &["petrel", "petrel_fan", "zoe", "ada"]);
        check("petrel_fan", &["petrel_fan"]);
        check("pet", &["petrel", "petrel_fan", "zoe", "ada"]);
        check("ZOE petrel", &["zoe"]);
        check("emile", &["petrel_fan"]);
        check("petrel auks", &["zoe"]);
        check("東京", &["rin"]);
        check("鳥", &["rin"]);
        check("seabirds", &["zoe", "petrel", "ada", "petrel_fan", "rin"]);
        check("nobody", &[]);
        check("a.example", &[]);
        check("", &[]);
    }

    #[test]
    fn a_handle_is_told_from_words() {
        for (text, expected) in [
            ("ada@a.example", true),
            ("@ada@a.example", true),
            ("@ada", false),
            ("ada", false),
            ("ada @a.example", false),
            ("@@a.example", false),
        ] {
            assert_eq!(is_handle(text), expected, "{text}");
        }
    }

    #[test]
    fn a_list_is_made_anew_when_it_is_out_of_date_and_not_all_the_time() {
        let mut list = listed(&[]);
        assert!(list.is_fresh(Seq(1)) && list.is_fresh(Seq(2)), "a moment old");
        list.made = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        assert!(list.is_fresh(Seq(1)) && !list.is_fresh(Seq(2)));
        list.took = Duration::from_secs(1);
        assert!(list.is_fresh(Seq(2)), "it costs too much to make");
        list.made = Instant::now().checked_sub(Duration::from_secs(301)).unwrap();
        assert!(!list.is_fresh(Seq(1)));
    }
}

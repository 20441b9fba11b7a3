//! What a search found, counted: how many posts in which language, from which server, with which tag, in which month. Over
//! the results that can be paged through and no further, so a count is what somebody who turns all pages would count.
//!
//! A number that only a few people are behind points at them, so what fewer than [`LEAST_AUTHORS`] wrote is not counted.

use std::collections::{HashMap, HashSet};

use super::find::Hit;
use crate::clock::Timestamp;
use crate::wire::document::tag_key;

/// So many people must have written what is counted.
pub const LEAST_AUTHORS: usize = 5;
/// Values of one facet that are told, those with most posts.
const MAX_VALUES: usize = 20;

/// A value and how many posts have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The value.
    pub value: String,
    /// Posts.
    pub posts: usize,
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// Posts that were counted.
    pub of: usize,
    /// There were more posts than were counted.
    pub more: bool,
    /// By language: a code, or `und`.
    pub language: Vec<Count>,
    /// By the author's server.
    pub domain: Vec<Count>,
    /// By hashtag, in the spelling of the newest post.
    pub tag: Vec<Count>,
    /// By month in UTC, `2026-08`; the newest first.
    pub month: Vec<Count>,
}

/// Counts `hits`, of which there may be `more`.
#[must_use]
pub(super) fn count(hits: &[Hit], more: bool) -> Facets {
    let (mut language, mut domain, mut month, mut tag) =
        (Tally::default(), Tally::default(), Tally::default(), Tally::default());
    for hit in hits {
        let author = hit.author.number;
        language.add(&hit.post.language, &hit.post.language, author);
        let server = hit.post.author.authority();
        domain.add(server.as_str(), server.as_str(), author);
        let at = month_of(hit.post.published);
        month.add(&at, &at, author);
        for spelling in &hit.post.document.tags {
            if let Some(key) = tag_key(spelling) {
                tag.add(&key, spelling, author);
            }
        }
    }
    let mut month = month.told();
    month.sort_by(|one, other| other.value.cmp(&one.value));
    Facets { of: hits.len(), more, language: language.told(), domain: domain.told(), tag: tag.told(), month }
}

/// Posts and their authors by value.
#[derive(Default)]
struct Tally(HashMap<String, (String, usize, HashSet<u64>)>);

impl Tally {
    fn add(&mut self, key: &str, shown: &str, author: u64) {
        let entry = self.0.entry(key.to_owned()).or_insert_with(|| (shown.to_owned(), 0, HashSet::new()));
        entry.1 += 1;
        entry.2.insert(author);
    }

    fn told(self) -> Vec<Count> {
        let enough = self.0.into_values().filter(|(_, _, authors)| authors.len() >= LEAST_AUTHORS);
        let mut counts: Vec<Count> = enough.map(|(value, posts, _)| Count { value, posts }).collect();
        counts.sort_by(|one, other| other.posts.cmp(&one.posts).then_with(|| one.value.cmp(&other.value)));
        counts.truncate(MAX_VALUES);
        counts
    }
}

fn month_of(at: Timestamp) -> String {
    at.rfc3339().chars().take("2026-08".len()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::{Iri, Seq};
    use crate::store::{IndexedAuthor, IndexedPost};
    use crate::wire::document::Document;
    use crate::wire::searchable::{ActorSignals, Profile};

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn hit(number: u64, author: u64, language: &str, tags: &[&str]) -> Hit {
        let actor = Iri::parse(&format!("https://a{}.example/users/{author}", author % 2)).unwrap();
        let profile = Profile::of(&serde_json::json!({ "id": actor.as_str(), "type": "Person" })).unwrap();
        let author_row = IndexedAuthor {
            number: author,
            since: None,
            read_at: NOON,
            signals: ActorSignals::default(),
            profile,
            hidden: None,
        };
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let post = IndexedPost {
            object: Iri::parse(&format!("https://a.example/{number}")).unwrap(),
            author: actor,
            author_number: author,
            published: NOON,
            seq: Seq(1),
            language: language.to_owned(),
            document: Document { tags, ..Document::default() },
        };
        Hit { number, post, author: Arc::new(author_row) }
    }

    fn of(value: &str, posts: usize) -> Count {
        Count { value: value.to_owned(), posts }
    }

    #[test]
    fn what_few_people_wrote_is_not_counted() {
        let mut hits: Vec<Hit> = (0..10).map(|n| hit(n, n, "en", &["Birds"])).collect();
        hits.extend((10..30).map(|n| hit(n, n % 4, "de", &["birds", "Vögel"])));
        let facets = count(&hits, true);
        assert_eq!((facets.of, facets.more), (30, true));
        assert_eq!(facets.language, [of("en", 10)], "twenty posts in German, by four people");
        assert_eq!(facets.tag, [of("Birds", 30)]);
        assert_eq!(facets.domain, [of("a0.example", 15), of("a1.example", 15)]);
        assert_eq!(facets.month, [of("2026-08", 30)]);
        assert_eq!(count(&hits[..4], false), Facets { of: 4, ..Facets::default() });
    }

    #[test]
    fn so_many_values_are_told_and_no_more() {
        let hits: Vec<Hit> = (0..500).map(|n| hit(n, n % 10, &format!("{:03}", n / 10), &[])).collect();
        let facets = count(&hits, false);
        assert_eq!(facets.language.len(), MAX_VALUES);
        assert!(facets.language.iter().all(|count| count.posts == 10));
    }
}

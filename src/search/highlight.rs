//! Where in a text the words of a query stand, so that whoever shows a hit can show why it is one. Pure: the same reader
//! that makes terms of texts says where each of them came from.
//!
//! What was asked not to be there, who wrote it, dates and the like mark nothing. A hashtag that was asked for is marked
//! where it is written as one, but for those in scripts without spaces, which are read like text.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::compile::terms;
use super::query::{Expr, Leaf, Query};
use super::tokens::{Reading, tokens};
use crate::wire::document::tag_key;

/// Marks of one text. Who asks for a word that is on every line does not need all of them.
pub const MAX_MARKS: usize = 100;
/// Marks that are gathered before they are put in order.
const MAX_GATHERED: usize = 8 * MAX_MARKS;
/// Tokens of a text that phrases are looked for among. Hardly a text has more words than that.
const MAX_PLACES: usize = 8192;
/// Words that are compared for the phrases of a query, all together: a page of results is marked while somebody waits, and
/// whoever asks for many phrases that nearly stand in a text has each marked less far.
const MAX_STEPS: usize = 16_384;

/// Where what `query` asks for stands in `text`: ranges of bytes between characters, in order, apart from each other. Takes
/// time that grows with the text, whatever the query is.
#[must_use]
pub fn marks(query: &Query, text: &str) -> Vec<Range<usize>> {
    counted(query, text).0
}

/// The marks, and how many words were compared for phrases.
fn counted(query: &Query, text: &str) -> (Vec<Range<usize>>, usize) {
    let mut wanted = Wanted::default();
    wanted.collect(&query.root);
    let (mut marks, places) = wanted.read(text);
    let each = MAX_STEPS / wanted.phrases.len().max(1);
    let steps = wanted.phrases.iter().map(|phrase| phrase.find(&places, each, &mut marks)).sum();
    (joined(marks), steps)
}

/// What is looked for.
#[derive(Default)]
struct Wanted {
    /// Single words,
    words: HashSet<String>,
    /// and how single ones begin.
    stems: Stems,
    /// Words side by side.
    phrases: Vec<Phrase>,
    /// All words of these but those that may go on,
    of_phrases: HashSet<String>,
    /// and those.
    ends: Stems,
    tags: HashSet<String>,
    tag_stems: Stems,
}

/// Two words or more; the last may be how one begins.
struct Phrase {
    words: Vec<(usize, String)>,
    open: bool,
}

/// A token that is part of a phrase.
struct Place {
    text: String,
    from: usize,
    to: usize,
}

/// What is part of phrases, by where it stands in the order of words: of a tag and its parts, which stand at one place, all.
type Places = BTreeMap<usize, Vec<Place>>;

impl Wanted {
    fn collect(&mut self, expr: &Expr) {
        match expr {
            Expr::All(members) | Expr::Any(members) => members.iter().for_each(|member| self.collect(member)),
            Expr::Leaf(Leaf::Word(text) | Leaf::Phrase(text)) => self.run(text, false),
            Expr::Leaf(Leaf::Prefix(text)) => self.run(text, true),
            Expr::Leaf(Leaf::Tag(key)) => drop(self.tags.insert(key.clone())),
            Expr::Leaf(Leaf::TagPrefix(stem)) => self.tag_stems.add(stem),
            Expr::Not(_) | Expr::Leaf(_) => {}
        }
    }

    /// As `compile` does it.
    fn run(&mut self, text: &str, prefix: bool) {
        let mut words = terms(text);
        let Some((place, last, reading)) = words.pop() else { return };
        let open = reading == Reading::Single || (prefix && reading == Reading::Word);
        match (words.is_empty(), open) {
            (true, true) => self.stems.add(&last),
            (true, false) => {
                self.words.insert(last);
            }
            (false, _) => {
                self.of_phrases.extend(words.iter().map(|(_, word, _)| word.clone()));
                if open {
                    self.ends.add(&last);
                } else {
                    self.of_phrases.insert(last.clone());
                }
                let words = words.into_iter().map(|(place, word, _)| (place, word)).chain([(place, last)]);
                self.phrases.push(Phrase { words: words.collect(), open });
            }
        }
    }

    /// The marks of single words and hashtags, and what is part of phrases.
    fn read(&self, text: &str) -> (Vec<Range<usize>>, Places) {
        let (mut marks, mut places, mut count) = (Vec::new(), Places::new(), 0);
        tokens(text, |token| {
            let written = text.get(token.from..token.to).unwrap_or_default();
            let (single, stem) = (self.words.contains(token.text), self.stems.of(token.text));
            let tag = token.reading == Reading::Word && self.is_tag(written);
            if marks.len() < MAX_GATHERED {
                if single || tag {
                    marks.push(token.from..token.to);
                } else if let Some(stem) = stem {
                    marks.push(token.from..token.from + length(written, token.reading, stem));
                }
            }
            let end = self.ends.of(token.text);
            if count < MAX_PLACES && (end.is_some() || self.of_phrases.contains(token.text)) {
                count += 1;
                let position = usize::try_from(token.position).unwrap_or(usize::MAX);
                let to = token.from + end.map_or(written.len(), |stem| length(written, token.reading, stem));
                places.entry(position).or_default().push(Place { text: token.text.to_owned(), from: token.from, to });
            }
        });
        (marks, places)
    }

    fn is_tag(&self, written: &str) -> bool {
        if (self.tags.is_empty() && self.tag_stems.is_empty()) || !written.starts_with(['#', '＃']) {
            return false;
        }
        tag_key(written).is_some_and(|key| self.tags.contains(&key) || self.tag_stems.of(&key).is_some())
    }
}

/// Bytes of what was asked for: a single character of a script without spaces begins a pair, of which only that character
/// was.
fn length(written: &str, reading: Reading, stem: &str) -> usize {
    let alone = reading == Reading::Bigram && stem.chars().nth(1).is_none();
    written.chars().next().filter(|_| alone).map_or(written.len(), char::len_utf8)
}

/// How words begin: in order, and none of them the beginning of another, so that one look says whether a word begins so.
#[derive(Default)]
struct Stems(Vec<String>);

impl Stems {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, stem: &str) {
        if self.of(stem).is_none() {
            self.0.retain(|one| !one.starts_with(stem));
            let place = self.0.partition_point(|one| one.as_str() < stem);
            self.0.insert(place, stem.to_owned());
        }
    }

    /// The one that `word` begins with.
    fn of(&self, word: &str) -> Option<&str> {
        let before = self.0.partition_point(|one| one.as_str() <= word).checked_sub(1)?;
        self.0.get(before).map(String::as_str).filter(|stem| word.starts_with(stem))
    }
}

impl Phrase {
    /// Adds where it stands, as far as so many comparisons go; how many there were.
    fn find(&self, places: &Places, most: usize, marks: &mut Vec<Range<usize>>) -> usize {
        let (mut steps, mut found) = (0, 0);
        for position in places.keys() {
            if steps >= most || found == MAX_MARKS {
                break;
            }
            if let Some(stands) = self.stands_at(*position, places, &mut steps) {
                marks.extend(stands);
                found += 1;
            }
        }
        steps
    }

    fn fits(&self, index: usize, word: &str, place: &Place) -> bool {
        let is_last = index + 1 == self.words.len();
        place.text == word || (self.open && is_last && place.text.starts_with(word))
    }

    /// Where its words stand if the first is at `position`.
    fn stands_at(&self, position: usize, places: &Places, steps: &mut usize) -> Option<Vec<Range<usize>>> {
        let words = self.words.iter().enumerate().map(|(index, (offset, word))| {
            *steps += 1;
            let here = places.get(&position.checked_add(*offset)?)?;
            // Of a tag and its parts, the one that was meant.
            let place = here.iter().find(|place| self.fits(index, word, place))?;
            Some(place.from..place.to)
        });
        words.collect()
    }
}

/// In order, and those that touch as one.
fn joined(mut marks: Vec<Range<usize>>) -> Vec<Range<usize>> {
    marks.sort_by_key(|mark| (mark.start, mark.end));
    let mut apart: Vec<Range<usize>> = Vec::new();
    for mark in marks {
        match apart.last_mut() {
            Some(last) if mark.start <= last.end => last.end = last.end.max(mark.end),
            _ => apart.push(mark),
        }
    }
    apart.truncate(MAX_MARKS);
    apart
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked(query: &str, text: &str) -> String {
        let marks = marks(&Query::read(query).unwrap(), text);
        let mut shown = text.to_owned();
        for mark in marks.iter().rev() {
            shown.insert(mark.end, ']');
            shown.insert(mark.start, '[');
        }
        shown
    }

    #[test]
    fn what_was_asked_for_is_marked_as_it_is_written() {
        let check = |query: &str, text: &str, expected: &str| assert_eq!(marked(query, text), expected, "{query}");
        check("cafe", "Le Café, un café. Decaf", "Le [Café], un [café]. Decaf");
        check("a petrel", "A petrel and a tern", "[A] [petrel] and [a] tern");
        check("\"a petrel\"", "A petrel and a tern", "[A] [petrel] and a tern");
        check("\"petrel tern\"", "petrel and tern", "petrel and tern");
        check("pet*", "petrel, pet, carpet", "[petrel], [pet], carpet");
        check("petrel OR tern", "petrel tern auk", "[petrel] [tern] auk");
        check("(petrel OR -auk) -tern", "petrel tern auk", "[petrel] tern auk");
        check("l'homme", "l'homme et l'eau", "[l]'[homme] et l'eau");
        check("東京", "東京タワー 京東", "[東京]タワー 京東");
        check("東京タワー", "東京タワー", "[東京タワー]");
        check("東", "東京と東", "[東]京と[東]");
        check("🐦", "a 🐦 b", "a [🐦] b");
        check("#foo", "foo #Foo #FooBar", "foo [#Foo] #FooBar");
        check("#foo*", "foo #Foo #FooBar", "foo [#Foo] [#FooBar]");
        check("#foo_bar", "see #Foo_Bar", "see [#Foo_Bar]");
        check("bar", "see #FooBar", "see #Foo[Bar]");
        check("foobar", "see #FooBar", "see [#FooBar]");
        check("from:ada@a.example domain:a.example before:2026-08-23 petrel", "ada petrel", "ada [petrel]");
        check("petrel", "", "");
    }

    #[test]
    fn there_are_so_many_marks_and_no_more() {
        let text = "petrel, ".repeat(8000);
        assert_eq!(marks(&Query::read("petrel").unwrap(), &text).len(), MAX_MARKS);
        assert!(marks(&Query::read("#petrel").unwrap(), &"#petrel ".repeat(8000)).len() <= MAX_MARKS);
    }

    #[test]
    fn marking_takes_time_in_proportion_whatever_the_query() {
        // Each of 63 phrases nearly stands at each of 15,000 places.
        let phrases: Vec<String> = (0..63).map(|n| format!("\"a b{n}\"")).collect();
        let query = Query::read(&format!("hello OR {}", phrases.join(" OR "))).unwrap();
        let text = format!("hello {}", "a ".repeat(15_000));
        let (found, steps) = counted(&query, &text);
        let ends = |found: &[Range<usize>]| found.iter().map(|mark| (mark.start, mark.end)).collect::<Vec<_>>();
        assert_eq!(ends(&found), [(0, 5)]);
        assert!(steps <= MAX_STEPS + 2 * 63, "{steps}");
        // What is asked for alone is looked for in a text of a usual length to its end.
        let (found, _) = counted(&Query::read("\"a b7\"").unwrap(), &format!("{}a b7", "a ".repeat(6000)));
        assert_eq!(ends(&found), [(12_000, 12_001), (12_002, 12_004)]);
    }

    #[test]
    fn one_look_says_whether_a_word_begins_so() {
        let mut stems = Stems::default();
        for stem in ["petr", "auk", "pe", "petrel", "a", "au", "tern", "東"] {
            stems.add(stem);
        }
        assert_eq!(stems.0, ["a", "pe", "tern", "東"]);
        for (word, expected) in
            [("petrel", Some("pe")), ("auk", Some("a")), ("p", None), ("東京", Some("東")), ("", None)]
        {
            assert_eq!(stems.of(word), expected, "{word}");
        }
    }

    proptest! {
        #[test]
        fn marks_are_between_characters_in_order_and_apart(query in "\\PC{0,20}", text in "\\PC{0,200}") {
            let Ok(query) = Query::read(&query) else { return Ok(()) };
            let mut before = 0;
            for (index, mark) in marks(&query, &text).iter().enumerate() {
                prop_assert!(mark.start < mark.end && text.get(mark.clone()).is_some(), "{mark:?}");
                prop_assert!(index == 0 || mark.start > before);
                before = mark.end;
            }
        }
    }
}

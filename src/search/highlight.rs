//! Where in a text the words of a query stand, so that whoever shows a hit can show why it is one. Pure: the same reader
//! that makes terms of texts says where each of them came from.
//!
//! What was asked not to be there, who wrote it, dates and the like mark nothing. A hashtag that was asked for is marked
//! where it is written as one, but for those in scripts without spaces, which are read like text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::compile::terms;
use super::query::{Expr, Leaf, Query};
use super::tokens::{Reading, tokens};
use crate::wire::document::tag_key;

/// Marks of one text. Who asks for a word that is on every line does not need all of them.
pub const MAX_MARKS: usize = 100;

/// Where what `query` asks for stands in `text`: ranges of bytes between characters, in order, apart from each other.
#[must_use]
pub fn marks(query: &Query, text: &str) -> Vec<Range<usize>> {
    let mut wanted = Wanted::default();
    wanted.collect(&query.root);
    wanted.find(text)
}

/// What is looked for.
#[derive(Default)]
struct Wanted {
    /// Words side by side; the last may be how one begins.
    runs: Vec<Run>,
    tags: HashSet<String>,
    tag_stems: Vec<String>,
}

struct Run {
    words: Vec<(usize, String, Reading)>,
    open: bool,
}

/// A token that matters.
struct Place {
    text: String,
    from: usize,
    to: usize,
}

impl Wanted {
    fn collect(&mut self, expr: &Expr) {
        match expr {
            Expr::All(members) | Expr::Any(members) => members.iter().for_each(|member| self.collect(member)),
            Expr::Leaf(Leaf::Word(text) | Leaf::Phrase(text)) => self.run(text, false),
            Expr::Leaf(Leaf::Prefix(text)) => self.run(text, true),
            Expr::Leaf(Leaf::Tag(key)) => drop(self.tags.insert(key.clone())),
            Expr::Leaf(Leaf::TagPrefix(stem)) => self.tag_stems.push(stem.clone()),
            Expr::Not(_) | Expr::Leaf(_) => {}
        }
    }

    /// As `compile` does it.
    fn run(&mut self, text: &str, prefix: bool) {
        let words = terms(text);
        let last = words.last().map(|(_, _, reading)| *reading);
        let open = last == Some(Reading::Single) || (prefix && last == Some(Reading::Word));
        if !words.is_empty() {
            self.runs.push(Run { words, open });
        }
    }

    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let (places, mut marks) = self.read(text);
        for run in &self.runs {
            let Some((_, first, _)) = run.words.first() else { continue };
            for (position, here) in &places {
                let begins = here.iter().any(|place| run.fits(0, first, place));
                if begins && marks.len() < 8 * MAX_MARKS {
                    marks.extend(run.stands_at(*position, &places).unwrap_or_default());
                }
            }
        }
        joined(marks)
    }

    /// The tokens of `text` that are part of anything, by their places; and the hashtags that were asked for.
    fn read(&self, text: &str) -> (HashMap<usize, Vec<Place>>, Vec<Range<usize>>) {
        let exact: HashSet<&str> =
            self.runs.iter().flat_map(|run| &run.words).map(|(_, word, _)| word.as_str()).collect();
        let open = self.runs.iter().filter(|run| run.open);
        let stems: Vec<&str> = open.filter_map(|run| run.words.last()).map(|(_, word, _)| word.as_str()).collect();
        let (mut places, mut marks): (HashMap<usize, Vec<Place>>, Vec<_>) = Default::default();
        tokens(text, |token| {
            let written = text.get(token.from..token.to).unwrap_or_default();
            if token.reading == Reading::Word && self.is_tag(written) && marks.len() < MAX_MARKS {
                marks.push(token.from..token.to);
            }
            if exact.contains(token.text) || stems.iter().any(|stem| token.text.starts_with(stem)) {
                let position = usize::try_from(token.position).unwrap_or(usize::MAX);
                places.entry(position).or_default().push(Place {
                    text: token.text.to_owned(),
                    from: token.from,
                    to: first_of(written, token.reading, &stems, token.text).map_or(token.to, |size| token.from + size),
                });
            }
        });
        (places, marks)
    }

    fn is_tag(&self, written: &str) -> bool {
        if (self.tags.is_empty() && self.tag_stems.is_empty()) || !written.starts_with(['#', '＃']) {
            return false;
        }
        let Some(key) = tag_key(written) else { return false };
        self.tags.contains(&key) || self.tag_stems.iter().any(|stem| key.starts_with(stem.as_str()))
    }
}

/// A single character of a script without spaces begins a pair, of which only that character was asked for: its bytes.
fn first_of(written: &str, reading: Reading, stems: &[&str], term: &str) -> Option<usize> {
    let alone = |stem: &&&str| stem.chars().nth(1).is_none() && term.starts_with(**stem);
    let asked = reading == Reading::Bigram && stems.iter().any(|stem| alone(&stem));
    written.chars().next().filter(|_| asked).map(char::len_utf8)
}

impl Run {
    fn fits(&self, index: usize, word: &str, place: &Place) -> bool {
        let is_last = index + 1 == self.words.len();
        place.text == word || (self.open && is_last && place.text.starts_with(word))
    }

    /// Where its words stand if the first is at `position`.
    fn stands_at(&self, position: usize, places: &HashMap<usize, Vec<Place>>) -> Option<Vec<Range<usize>>> {
        let words = self.words.iter().enumerate().map(|(index, (offset, word, _))| {
            let here = places.get(&position.checked_add(*offset)?)?;
            // Of a tag and its parts, which lie at one place, the one that was meant.
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

//! What is asked: words, phrases and hashtags of posts that are there, picked by lot, so that frequent words are asked for
//! often.

use shearwater::clock::Timestamp;
use shearwater::search::query::Query;
use shearwater::wire::document::tag_key;

use crate::corpus::{Chance, Corpus, Post};

const DAY: i64 = 24 * 3600 * 1000;
/// How many posts are looked at for one that fits.
const TRIES: u64 = 200;

/// A kind of query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    Words,
    Phrase,
    Dense,
    Hashtag,
    Days,
    Language,
    Prefix,
    BestWord,
    BestWords,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Word,
        Self::Words,
        Self::Phrase,
        Self::Dense,
        Self::Hashtag,
        Self::Days,
        Self::Language,
        Self::Prefix,
        Self::BestWord,
        Self::BestWords,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Word => "one word, newest first",
            Self::Words => "two words, newest first",
            Self::Phrase => "phrase of two words",
            Self::Dense => "3 to 5 characters of Chinese or Japanese",
            Self::Hashtag => "hashtag",
            Self::Days => "one word, within 1 to 7 days",
            Self::Language => "one word, in its language",
            Self::Prefix => "how a word begins (3 letters)",
            Self::BestWord => "one word, best first",
            Self::BestWords => "two words, best first",
        }
    }
}

/// One query.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// As somebody would type it.
    pub(crate) text: String,
    /// Its words without operators, or the key of its hashtag.
    pub(crate) words: String,
    /// Its dates, in milliseconds since the epoch.
    pub(crate) from: i64,
    pub(crate) until: i64,
}

impl Asked {
    /// So many of each kind.
    pub(crate) fn of_each(corpus: &Corpus, count: usize) -> Vec<Self> {
        let kinds = Kind::ALL.into_iter().enumerate();
        let all = kinds.flat_map(|(place, kind)| {
            let mut chance = Chance::of(place as u64 + 1);
            (0..count).filter_map(move |_| (0..TRIES).find_map(|_| Self::pick(corpus, kind, &mut chance)))
        });
        // What cannot be read, or says too little, nobody would be answered.
        all.filter(|one| Query::read(&one.text).is_ok()).collect()
    }

    /// A query that a post picked by lot answers; `None` if it has nothing to ask for.
    fn pick(corpus: &Corpus, kind: Kind, chance: &mut Chance) -> Option<Self> {
        let post = corpus.post(chance.below(corpus.size()));
        let is_dense = matches!(post.language, "zh" | "ja");
        let body = post.document.text.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = body.split(' ').map(|word| word.trim_end_matches(',')).collect();
        let word = |place: usize| words.get(place).copied().filter(|word| says_something(word));
        let place = chance.index(words.len());
        let (first, second) = (word(place), word((place + 1 + chance.index(words.len())) % words.len().max(1)));
        let (first, second) = if is_dense || post.language == "th" { (None, None) } else { (first, second) };
        let pair = first.zip(second).filter(|(first, second)| first != second);
        let (text, words) = match kind {
            Kind::Word | Kind::Days => (first?.to_owned(), first?.to_owned()),
            Kind::Language => (format!("{} language:{}", first?, post.language), first?.to_owned()),
            Kind::BestWord => (format!("{} sort:relevance", first?), first?.to_owned()),
            Kind::Words => (format!("{} {}", pair?.0, pair?.1), format!("{} {}", pair?.0, pair?.1)),
            Kind::BestWords => (format!("{} {} sort:relevance", pair?.0, pair?.1), format!("{} {}", pair?.0, pair?.1)),
            Kind::Phrase => {
                let phrase = format!("{} {}", first?, word(place + 1)?);
                (format!("\"{phrase}\""), phrase)
            }
            Kind::Dense => {
                let run = body.split(['、', ' ']).find(|run| is_dense && run.chars().count() >= 5)?;
                let some: String = run.chars().take(3 + chance.index(3)).collect();
                (some.clone(), some)
            }
            Kind::Hashtag => {
                let tag = post.document.tags.first()?;
                (format!("#{tag}"), tag_key(tag)?)
            }
            Kind::Prefix => {
                let begin: String = first?.chars().take(3).collect();
                let begin = Some(begin).filter(|begin| begin.is_ascii() && begin.len() == 3)?;
                (format!("{begin}*"), begin)
            }
        };
        Some(Self { kind, text, words, from: 0, until: i64::MAX }.within(&post, chance))
    }

    /// With dates around that of the post, where the kind has them.
    fn within(mut self, post: &Post, chance: &mut Chance) -> Self {
        if self.kind == Kind::Days {
            let days = i64::try_from(1 + chance.below(7)).unwrap_or(1);
            let first = post.published.div_euclid(DAY);
            (self.from, self.until) = (first * DAY, (first + days) * DAY);
            let day = |number: i64| Timestamp::from_millis(number * DAY).rfc3339().chars().take(10).collect::<String>();
            self.text = format!("{} after:{} before:{}", self.text, day(first - 1), day(first + days));
        }
        self
    }
}

fn says_something(word: &str) -> bool {
    word.chars().count() >= 2 && word.chars().all(char::is_alphabetic)
}

//! The language that posts are searched in: from what somebody typed to a [`Query`], or to a sentence that names the
//! character where it went wrong. Pure; what the parts of a query mean to the index is in `compile`.
//!
//! Every operator of Mastodon's search means here what it means there; on top come OR, brackets, several values
//! (`language:en,de`), `domain:`, prefixes (`word*`) and `sort:`. All words must be in a post; `OR` joins its two
//! neighbours, so `language:en cat OR dog` asks for English posts with one of the two.
//!
//! Promises: any text whatsoever becomes a query or a [`Fault`], in time that grows with its length only, which is
//! bounded as depth and count of clauses are; a query that is printed and read again is the same query.

mod read;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display as _};

use super::tokens::{Reading, tokens};
use crate::wire::document::Prop;

/// Bytes of a query. People type less than a tenth of this; what is longer is a program.
pub const MAX_BYTES: usize = 1024;
/// Brackets within brackets.
pub const MAX_DEPTH: usize = 32;
/// Words, phrases, tags and operators in one query: each costs a look into every segment of the index.
pub const MAX_CLAUSES: usize = 64;

/// A query as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What posts must be like. An empty [`Expr::All`] asks for nothing, see [`Query::reach`].
    pub root: Expr,
    /// Which of them come first.
    pub sort: Sort,
}

/// A condition on posts. As read, [`Expr::All`] and [`Expr::Any`] never have a single member or a member of their own
/// kind, and [`Expr::Not`] never holds another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// All of these hold.
    All(Vec<Expr>),
    /// At least one of these holds.
    Any(Vec<Expr>),
    /// This does not hold.
    Not(Box<Expr>),
    /// One thing that was asked for.
    Leaf(Leaf),
}

/// One thing that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// A word in lower case. What the tokenizer makes several terms of must stand together.
    Word(String),
    /// `word*`: how a word begins, in lower case.
    Prefix(String),
    /// `"some words"`: these words side by side.
    Phrase(String),
    /// `#tag`, by its key (`wire::document::tag_key`).
    Tag(String),
    /// `#tag*`: how a tag's key begins.
    TagPrefix(String),
    /// `from:`: who wrote it, in lower case and without the first `@`: `me`, `name` or `name@host`.
    From(String),
    /// `domain:`: the author's server, in lower case.
    Domain(String),
    /// `language:`: the primary subtag in lower case, or `und`.
    Language(String),
    /// `has:` and `is:`.
    Prop(Prop),
    /// `before:`: published before this moment, in milliseconds since the epoch.
    Before(i64),
    /// `after:`: published after this moment. Days begin and end in UTC; `after:2026-08-23` begins with the 24th.
    After(i64),
    /// `in:library`: what the searcher wrote or took part in. Nobody has a library here, so it holds for no post.
    Library,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// The newest, as everywhere in the fediverse.
    #[default]
    Newest,
    /// The one that fits best.
    Relevance,
}

/// What asks for nothing.
const NOTHING: Expr = Expr::All(Vec::new());

/// How far a query reaches, which decides whether it may be answered: a search is for something, and not for all that
/// somebody or a whole server ever wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Every post it finds has a word, phrase or tag that was asked for.
    Text,
    /// It may find posts only because of who wrote them: these authors, as in [`Leaf::From`]. To be answered only where
    /// each of them may be browsed.
    Authors(Vec<String>),
    /// It asks for nothing in particular, or only for single letters. Not to be answered.
    Everything,
}

/// Whom a query names, but for those behind a minus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Authors.
    pub authors: Vec<&'a str>,
    /// Servers.
    pub servers: Vec<&'a str>,
}

/// What is wrong with a query. Says it as a sentence, without repeating what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("At character {at}: {wrong}")]
pub struct Fault {
    /// The character that it is about, counted from 1.
    pub at: usize,
    /// What is wrong there.
    pub wrong: Wrong,
}

/// What can be wrong with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Longer than [`MAX_BYTES`].
    #[error("this query is too long; {MAX_BYTES} bytes are read at most.")]
    TooLong,
    /// Deeper than [`MAX_DEPTH`].
    #[error("too many brackets within brackets; {MAX_DEPTH} are read at most.")]
    TooDeep,
    /// More than [`MAX_CLAUSES`].
    #[error("too many words and operators; {MAX_CLAUSES} are read at most.")]
    TooMany,
    /// A quote without its partner.
    #[error("this quote is not closed.")]
    OpenQuote,
    /// A bracket without its partner.
    #[error("this bracket is not closed.")]
    OpenBracket,
    /// A closing bracket without its partner.
    #[error("this bracket closes nothing.")]
    StrayBracket,
    /// `OR` with nothing before or after it.
    #[error("OR needs something on both sides. To search for the word, put it into quotes.")]
    LoneOr,
    /// An operator with nothing after its colon.
    #[error("this operator needs a value right after its colon.")]
    NoValue,
    /// No date.
    #[error("this is not a date. Write 2026-08-23, 2026-08, or milliseconds since 1970.")]
    Date,
    /// A property nobody knows.
    #[error("has: and is: know media, image, video, audio, poll, link, embed, quote, reply, sensitive and bot.")]
    Property,
    /// An order nobody knows.
    #[error("sort: knows newest and relevance.")]
    Sort,
    /// `-sort:`, or `sort:` in brackets.
    #[error("sort: is about the whole query: write it without brackets, minus or OR.")]
    SortWithin,
}

impl Query {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// Where it cannot be understood, or is beyond a limit.
    pub fn read(text: &str) -> Result<Self, Fault> {
        read::read(text, &read::Limits { bytes: MAX_BYTES, depth: MAX_DEPTH, clauses: MAX_CLAUSES })
    }

    /// How far it reaches.
    #[must_use]
    pub fn reach(&self) -> Reach {
        reach(&self.root, false)
    }

    /// How far it reaches if it is about so few people that common words would find all that they wrote: only whole words,
    /// phrases and tags count as text, and no alternatives of them.
    #[must_use]
    pub fn reach_among_few(&self) -> Reach {
        reach(&self.root, true)
    }

    /// The authors and the servers that it may be about, as in [`Leaf::From`] and [`Leaf::Domain`].
    #[must_use]
    pub fn about(&self) -> About<'_> {
        fn gather<'a>(expr: &'a Expr, minus: bool, about: &mut About<'a>) {
            match expr {
                Expr::All(members) | Expr::Any(members) => {
                    members.iter().for_each(|member| gather(member, minus, about));
                }
                Expr::Not(inner) => gather(inner, !minus, about),
                Expr::Leaf(Leaf::From(who)) if !minus => about.authors.push(who),
                Expr::Leaf(Leaf::Domain(host)) if !minus => about.servers.push(host),
                Expr::Leaf(_) => {}
            }
        }
        let mut about = About::default();
        gather(&self.root, false, &mut about);
        about
    }

    /// Whether it asks for sensitive posts by name (`is:sensitive`), so that they must not be left out.
    #[must_use]
    pub fn wants_sensitive(&self) -> bool {
        fn wants(expr: &Expr) -> bool {
            match expr {
                Expr::All(members) | Expr::Any(members) => members.iter().any(wants),
                Expr::Not(_) => false,
                Expr::Leaf(leaf) => *leaf == Leaf::Prop(Prop::Sensitive),
            }
        }
        wants(&self.root)
    }
}

/// The least that every post found is anchored by: of what must all hold the best counts, of alternatives the worst.
fn reach(expr: &Expr, few: bool) -> Reach {
    match expr {
        Expr::Leaf(Leaf::Prefix(_) | Leaf::TagPrefix(_)) if few => Reach::Everything,
        // A single ideograph is asked for as the beginning of words.
        Expr::Leaf(Leaf::Word(text) | Leaf::Phrase(text)) if few && !says(text, |_| false) => Reach::Everything,
        Expr::Leaf(Leaf::Word(text) | Leaf::Prefix(text) | Leaf::Phrase(text)) if says_something(text) => Reach::Text,
        Expr::Leaf(Leaf::Tag(key) | Leaf::TagPrefix(key)) if says_something(key) => Reach::Text,
        Expr::Leaf(Leaf::From(who)) => Reach::Authors(vec![who.clone()]),
        Expr::Leaf(Leaf::Library) => Reach::Text, // finds nothing
        Expr::Leaf(_) | Expr::Not(_) => Reach::Everything,
        Expr::All(members) => {
            members.iter().map(|member| reach(member, few)).fold(Reach::Everything, |best, next| match (best, next) {
                (Reach::Text, _) | (_, Reach::Text) => Reach::Text,
                (Reach::Authors(mut some), Reach::Authors(more)) => {
                    some.extend(more);
                    Reach::Authors(some)
                }
                (Reach::Everything, other) | (other, Reach::Everything) => other,
            })
        }
        Expr::Any(members) => {
            let worst =
                members.iter().map(|member| reach(member, few)).fold(Reach::Text, |worst, next| match (worst, next) {
                    (Reach::Everything, _) | (_, Reach::Everything) => Reach::Everything,
                    (Reach::Authors(mut some), Reach::Authors(more)) => {
                        some.extend(more);
                        Reach::Authors(some)
                    }
                    (Reach::Text, other) | (other, Reach::Text) => other,
                });
            // `the OR to OR and ...` is in all that anybody writes.
            if few && worst == Reach::Text { Reach::Everything } else { worst }
        }
    }
}

/// Two letters, or one character that is a word by itself: an ideograph, an emoji. A lone kana is in every text.
pub(super) fn says_something(text: &str) -> bool {
    says(text, is_ideograph)
}

/// The same, where only these single characters say something.
fn says(text: &str, single: fn(char) -> bool) -> bool {
    let mut says = false;
    tokens(text, |token| {
        says |= match token.reading {
            Reading::Bigram | Reading::Emoji => true,
            Reading::Word => token.text.chars().nth(1).is_some(),
            Reading::Single => token.text.chars().all(single),
            Reading::Part | Reading::Tail => false,
        };
    });
    says
}

const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Expr::All(members) => print(f, members, " ")?,
            other => other.fmt(f)?,
        }
        match self.sort {
            Sort::Newest => Ok(()),
            Sort::Relevance if self.root == NOTHING => f.write_str("sort:relevance"),
            Sort::Relevance => f.write_str(" sort:relevance"),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (members, between) = match self {
            Self::Leaf(leaf) => return leaf.fmt(f),
            Self::Not(inner) => return write!(f, "-{inner}"),
            Self::All(members) => (members, " "),
            Self::Any(members) => (members, " OR "),
        };
        f.write_str("(")?;
        print(f, members, between)?;
        f.write_str(")")
    }
}

fn print(f: &mut fmt::Formatter<'_>, members: &[Expr], between: &str) -> fmt::Result {
    for (index, member) in members.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        member.fmt(f)?;
    }
    Ok(())
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Prefix(word) => write!(f, "{word}*"),
            Self::Phrase(words) => write!(f, "\"{words}\""),
            Self::Tag(key) => write!(f, "#{key}"),
            Self::TagPrefix(key) => write!(f, "#{key}*"),
            Self::From(who) => write!(f, "from:\"{who}\""),
            Self::Domain(host) => write!(f, "domain:\"{host}\""),
            Self::Language(code) => write!(f, "language:\"{code}\""),
            Self::Prop(prop) => write!(f, "is:{}", prop.as_str()),
            Self::Before(millis) => write!(f, "before:{millis}"),
            Self::After(millis) => write!(f, "after:{millis}"),
            Self::Library => f.write_str("in:library"),
        }
    }
}

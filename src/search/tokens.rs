//! How a text becomes the terms that it is found by. A query goes through the same function, so whatever words of a
//! text somebody types are among its terms. No dictionaries, no stems, no languages: the same rules for everyone, and
//! what one script needs does no harm to another.
//!
//! * Words are runs of letters, digits and their marks, folded ([`crate::wire::fold`]). Everything else parts them,
//!   apostrophes too: `l'homme` is found by `homme`, and `don't` is a phrase of two words in text and query alike.
//! * Scripts without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) give overlapping pairs of characters, a character
//!   being a letter with its marks.
//! * An emoji is one token, however many characters it is made of.
//! * `#FooBar` and `#foo_bar` give the whole and the parts. A tag in a script without spaces is read like text.
//! * A URL loses `https://` and `www.`: what remains is a phrase of its host and its words, so that `example.com` finds
//!   it wherever it is written.
//! * `@handles` give nothing: nobody is found by being spoken to. The words of an e-mail address are words.
//!
//! Pure and linear, without an allocation per token; what a stranger can make long is cut.

use unicode_normalization::char::is_combining_mark;
use unicode_properties::UnicodeEmoji as _;

use crate::wire::document::handle_length;
pub use crate::wire::fold::fold;
use crate::wire::fold::{self, Letters, is_invisible};

/// What a token is, for whoever makes a query of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// A word of a script that puts spaces between words, or a number; of a hashtag, the whole of it.
    Word,
    /// A part of a hashtag, besides its `Word`: `foo` of `#FooBar`. A query passes over it.
    Part,
    /// Two neighbouring characters of a script without spaces; a run of them is a phrase.
    Bigram,
    /// A character of such a script that stands alone: in a query, a prefix of bigrams.
    Single,
    /// The last character of a run of bigrams, so that a prefix finds it too. A query passes over it.
    Tail,
    /// An emoji, the whole sequence, without skin tone and variation selectors.
    Emoji,
}

/// A term and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What is indexed and looked up: folded, never empty, of at most [`MAX_TOKEN`] bytes.
    pub text: &'a str,
    /// What it is.
    pub reading: Reading,
    /// Its place for phrases: neighbours differ by one. The parts of a hashtag lie side by side, its whole at the
    /// first of them. Never less than that of the token before.
    pub position: u32,
    /// Where it begins in the original text, in bytes; always between two characters. Never less than that of the
    /// token before.
    pub from: usize,
    /// Where it ends: more than `from`.
    pub to: usize,
}

/// Bytes of a token: what is longer is cut, in texts and queries alike, so that a prefix of a word of a megabyte still
/// finds it. 32 letters of the scripts that need most bytes.
pub const MAX_TOKEN: usize = 96;
/// Tokens of one text: what comes after them is not found. More than 64 KiB of any script give.
pub const MAX_TOKENS: usize = 32 << 10;
/// Parts of one hashtag; what follows is only in its whole.
const MAX_PARTS: usize = 16;
/// Bytes of one character of a script without spaces; marks beyond are passed over.
const MAX_UNIT: usize = 32;

/// Calls `each` for every token of `text`, in order.
pub fn tokens(text: &str, each: impl FnMut(Token<'_>)) {
    let mut reader = Reader {
        text,
        each,
        letters: fold::letters(text),
        left: MAX_TOKENS,
        position: 0,
        run: Run::None,
        term: String::with_capacity(2 * MAX_TOKEN),
        from: 0,
        to: 0,
        second: None,
    };
    let mut at = 0;
    while reader.left > 0 && at < text.len() {
        at = reader.step(at);
    }
    reader.end();
}

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    None,
    Word,
    /// Of a script without spaces.
    Dense,
}

/// A walk through a text.
struct Reader<'t, F> {
    text: &'t str,
    each: F,
    letters: Letters<'t>,
    /// How many tokens may still be given.
    left: usize,
    position: u32,
    run: Run,
    /// The run so far, folded; of a dense one, its last one or two characters.
    term: String,
    /// Where `term` begins in the text.
    from: usize,
    /// Where the last run ends, or what is open of it.
    to: usize,
    /// Where the second character begins in `term` and in the text, if there are two.
    second: Option<(usize, usize)>,
}

impl<F: FnMut(Token<'_>)> Reader<'_, F> {
    /// Reads on from byte `at`, at least one character; where it came to.
    fn step(&mut self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let Some(c) = rest.chars().next() else { return self.text.len() };
        if c.is_ascii_alphanumeric() && self.run != Run::Word {
            if let Some(skipped) = self.scheme(rest, at) {
                return at + skipped;
            }
            let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            // Before anything else than ASCII it may be a part of what follows.
            if rest.as_bytes().get(length).is_none_or(u8::is_ascii) {
                return self.plain_word(at, length);
            }
        }
        if let Some(length) = keycap(rest) {
            self.start(Run::None, at);
            self.term.clear();
            self.term.extend([c, KEYCAP]);
            self.give(Reading::Emoji, at, at + length);
            return at + length;
        }
        let begins = self.run == Run::None && (at == 0 || self.to != at);
        match c {
            '#' | '＃' if begins => self.hashtag(at, c.len_utf8()),
            '@' | '＠' if begins => at + handle_length(rest).max(c.len_utf8()),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => self.part(at + 1),
            // They would become letters, and a part of the word before them.
            '™' | '℠' | '©' | '®' => self.part(at + c.len_utf8()),
            _ if is_emoji(c) => self.emoji(at, rest),
            _ => self.cluster(at),
        }
    }

    fn part(&mut self, next: usize) -> usize {
        self.end();
        next
    }

    /// A word of ASCII and nothing else.
    fn plain_word(&mut self, at: usize, length: usize) -> usize {
        self.start(Run::None, at);
        let word = self.text.get(at..at + length.min(MAX_TOKEN)).unwrap_or_default();
        self.term.clear();
        self.term.push_str(word);
        self.term.make_ascii_lowercase();
        self.to = at + length;
        self.give(Reading::Word, at, self.to);
        self.to
    }

    /// How much to pass over where a URL begins.
    fn scheme(&self, rest: &str, at: usize) -> Option<usize> {
        let starts =
            |text: &str, start: &str| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
        if !starts(rest, "http") || (at > 0 && self.to == at) {
            return None;
        }
        let length = ["https://", "http://"].into_iter().find(|scheme| starts(rest, scheme))?.len();
        Some(length + if starts(rest.get(length..)?, "www.") { 4 } else { 0 })
    }

    /// One cluster: a letter of whatever script with its marks, or something that parts words.
    fn cluster(&mut self, at: usize) -> usize {
        self.letters.go_to(at);
        while let Some(letter) = self.letters.next() {
            self.feed(letter);
            if let Some(end) = self.letters.cluster_end() {
                return end;
            }
        }
        self.text.len()
    }

    fn feed(&mut self, letter: fold::Letter) {
        match Class::of(letter.c) {
            Class::Break => self.end(),
            Class::Nothing => {}
            Class::Mark => {
                let begin = self.second.map_or(0, |(begin, _)| begin);
                let full = match self.run {
                    Run::None => return,
                    Run::Word => self.term.len() >= MAX_TOKEN,
                    Run::Dense => self.term.len() - begin >= MAX_UNIT,
                };
                if !full {
                    fold::push(letter.c, &mut self.term);
                }
                self.to = letter.to;
            }
            Class::Word => {
                if self.run != Run::Word {
                    self.start(Run::Word, letter.from);
                }
                if self.term.len() < MAX_TOKEN {
                    fold::push(letter.c, &mut self.term);
                }
                self.to = letter.to;
            }
            Class::Dense => self.dense(letter),
        }
    }

    fn dense(&mut self, letter: fold::Letter) {
        if self.run != Run::Dense {
            self.start(Run::Dense, letter.from);
        } else if !self.is_stacked() {
            if let Some((begin, at)) = self.second {
                self.give(Reading::Bigram, self.from, self.to);
                self.term.drain(..begin);
                self.from = at;
            }
            self.second = Some((self.term.len(), letter.from));
        }
        self.term.push(letter.c);
        self.to = letter.to;
    }

    /// Does a consonant come that is written below the one before it (the coeng of Khmer, the virama of Myanmar)?
    fn is_stacked(&self) -> bool {
        let begin = self.second.map_or(0, |(begin, _)| begin);
        self.term.ends_with(['\u{17d2}', '\u{1039}']) && self.term.len() - begin < MAX_UNIT
    }

    /// Ends what is open, and begins a run.
    fn start(&mut self, run: Run, from: usize) {
        self.end();
        self.run = run;
        self.from = from;
        self.term.clear();
    }

    /// Gives what is left of the run that is open.
    fn end(&mut self) {
        match (self.run, self.second.take()) {
            (Run::None, _) => return,
            (Run::Word, _) => self.give(Reading::Word, self.from, self.to),
            (Run::Dense, None) => self.give(Reading::Single, self.from, self.to),
            (Run::Dense, Some((begin, at))) => {
                self.give(Reading::Bigram, self.from, self.to);
                self.term.drain(..begin);
                self.give(Reading::Tail, at, self.to);
            }
        }
        self.run = Run::None;
    }

    /// Gives `term`, unless nothing is left of it, and moves on by one position.
    fn give(&mut self, reading: Reading, from: usize, to: usize) {
        if self.give_here(reading, from, to) {
            self.position += 1;
        }
    }

    fn give_here(&mut self, reading: Reading, from: usize, to: usize) -> bool {
        let text = cut(&self.term);
        if text.is_empty() || self.left == 0 {
            return false;
        }
        self.left -= 1;
        (self.each)(Token { text, reading, position: self.position, from, to });
        true
    }

    /// `at` is that of the sign.
    fn hashtag(&mut self, at: usize, sign: usize) -> usize {
        let from = at + sign;
        let rest = self.text.get(from..).unwrap_or_default();
        let mut dense = false;
        let length = rest.find(|c: char| match Class::of(c) {
            Class::Dense => {
                dense = true;
                false
            }
            Class::Break => c != '_',
            _ => is_emoji(c),
        });
        let end = length.map_or(self.text.len(), |length| from + length);
        let body = self.text.get(from..end).unwrap_or_default();
        if dense || body.is_empty() {
            return from;
        }
        self.to = end;
        self.spell(body);
        if !self.give_here(Reading::Word, at, end) {
            return end;
        }
        let parts = Parts::of(body);
        let parts = parts.as_slice();
        if parts.len() > 1 {
            for (part_from, part_to) in parts {
                self.spell(body.get(*part_from..*part_to).unwrap_or_default());
                self.give(Reading::Part, from + part_from, from + part_to);
            }
        } else {
            self.position += 1;
        }
        end
    }

    /// `term` becomes this, folded, letters and digits only.
    fn spell(&mut self, word: &str) {
        self.term.clear();
        for letter in fold::letters(word) {
            if self.term.len() >= MAX_TOKEN {
                break;
            }
            if matches!(Class::of(letter.c), Class::Word | Class::Mark | Class::Dense) {
                fold::push(letter.c, &mut self.term);
            }
        }
    }

    /// The sequence that begins at `at`: flags, families, keycaps are one.
    fn emoji(&mut self, at: usize, rest: &str) -> usize {
        self.start(Run::None, at);
        let mut length = 0;
        let mut joined = true;
        let mut flag = 0;
        for c in rest.chars() {
            match c {
                '\u{1f1e6}'..='\u{1f1ff}' if flag < 2 && (length == 0 || flag == 1) => {
                    flag += 1;
                    joined = false;
                    self.term.push(c);
                }
                '\u{fe0e}' | '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' => {}
                '\u{200d}' => joined = true,
                // The tags of the flags of England, Scotland and Wales.
                '\u{e0020}'..='\u{e007f}' if length > 0 => self.term.push(c),
                _ if joined && is_emoji(c) && self.term.len() < MAX_TOKEN - 8 => {
                    if !self.term.is_empty() {
                        self.term.push('\u{200d}');
                    }
                    self.term.push(c);
                    joined = false;
                }
                _ => break,
            }
            length += c.len_utf8();
        }
        self.give(Reading::Emoji, at, at + length);
        at + length
    }
}

/// What a character does to words. Of normalised ones.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Parts words.
    Break,
    /// Belongs to what stands before it.
    Mark,
    Word,
    /// Of a script without spaces.
    Dense,
    /// Is not there.
    Nothing,
}

impl Class {
    fn of(c: char) -> Self {
        match c {
            '\0'..='\u{7f}' if c.is_ascii_alphanumeric() => Self::Word,
            '\0'..='\u{7f}' => Self::Break,
            _ if is_invisible(c) => Self::Nothing,
            // Modifier letters that people use as apostrophes.
            '\u{2b9}'..='\u{2c1}' => Self::Break,
            '\u{80}'..'\u{300}' | '\u{400}'..'\u{483}' if c.is_alphanumeric() => Self::Word,
            '\u{4e00}'..='\u{9fff}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' => Self::Dense,
            _ if is_combining_mark(c) => Self::Mark,
            _ if !c.is_alphanumeric() => Self::Break,
            _ if is_dense(c) => Self::Dense,
            _ => Self::Word,
        }
    }
}

/// Is a letter of Thai, Lao, Myanmar, Khmer, Kana, Bopomofo or Han? Digits of theirs are not.
fn is_dense(c: char) -> bool {
    match c {
        '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{a9e0}'..='\u{a9ff}'
        | '\u{aa60}'..='\u{aa7f}' => !c.is_numeric(),
        '\u{3005}'..='\u{3007}'
        | '\u{3021}'..='\u{303c}'
        | '\u{3041}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}'
        | '\u{1aff0}'..='\u{1b16f}'
        | '\u{20000}'..='\u{3ffff}' => true,
        _ => false,
    }
}

fn is_emoji(c: char) -> bool {
    c > '\u{2100}' && !matches!(c, '\u{3400}'..='\u{ffff}') && c.is_emoji_char() && c != '™'
}

const KEYCAP: char = '\u{20e3}';

/// The bytes of a digit in a box, if one begins here.
fn keycap(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix(|c: char| c.is_ascii_digit() || matches!(c, '#' | '*'))?;
    let after = after.strip_prefix('\u{fe0f}').unwrap_or(after);
    Some(rest.len() - after.strip_prefix(KEYCAP)?.len())
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TOKEN)).unwrap_or_default()
}

/// The words that a hashtag is made of: `foo|bar`, `Foo|Bar`, `HTML|Parser`, `foo|2024`.
struct Parts {
    spans: [(usize, usize); MAX_PARTS],
    count: usize,
}

/// What a letter is for the borders of parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    /// Or without case.
    Lower,
    Digit,
}

impl Parts {
    fn of(body: &str) -> Self {
        let mut parts = Self { spans: [(0, 0); MAX_PARTS], count: 0 };
        // The part that is open: its beginning, its last letter's beginning and case, and that of the one before.
        let mut open: Option<(usize, usize, Case, Option<Case>)> = None;
        for (at, c) in body.char_indices() {
            let case = match c {
                _ if !c.is_alphanumeric() && Class::of(c) == Class::Break => {
                    if let Some((from, ..)) = open.take() {
                        parts.add(from, at);
                    }
                    continue;
                }
                _ if c.is_numeric() => Case::Digit,
                _ if c.is_uppercase() => Case::Upper,
                _ if c.is_alphanumeric() => Case::Lower,
                _ => continue,
            };
            open = Some(match open {
                None => (at, at, case, None),
                Some((from, last, before, earlier)) => match (before, case) {
                    (Case::Upper, Case::Lower) if earlier == Some(Case::Upper) => {
                        parts.add(from, last);
                        (last, at, case, Some(before))
                    }
                    (Case::Lower, Case::Upper) | (Case::Digit, Case::Upper | Case::Lower) | (_, Case::Digit)
                        if before != case =>
                    {
                        parts.add(from, at);
                        (at, at, case, None)
                    }
                    _ => (from, at, case, Some(before)),
                },
            });
        }
        if let Some((from, ..)) = open {
            parts.add(from, body.len());
        }
        parts
    }

    fn add(&mut self, from: usize, to: usize) {
        if let Some(span) = self.spans.get_mut(self.count) {
            *span = (from, to);
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[(usize, usize)] {
        self.spans.get(..self.count).unwrap_or_default()
    }
}

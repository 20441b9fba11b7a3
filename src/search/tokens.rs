//! How a text becomes the terms that it is found by. A query goes through the same function, so whatever words of a
//! text somebody types are among its terms.

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
    /// What is indexed and looked up: folded, of at most [`MAX_TOKEN`] bytes.
    pub text: &'a str,
    /// What it is.
    pub reading: Reading,
    /// Its place for phrases: neighbours differ by one. The parts of a hashtag lie side by side, its whole at the
    /// first of them.
    pub position: u32,
    /// Where it begins in the original text, in bytes; always between two characters.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
}

/// Bytes of a token: what is longer is cut, in texts and queries alike.
pub const MAX_TOKEN: usize = 96;
/// Tokens of one text: what comes after them is not found.
pub const MAX_TOKENS: usize = 32 << 10;

/// Calls `each` for every token of `text`, in order.
pub fn tokens(text: &str, mut each: impl FnMut(Token<'_>)) {
    let mut position = 0;
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let from = word.as_ptr().addr() - text.as_ptr().addr();
        let folded = fold(word);
        let cut = folded.get(..folded.floor_char_boundary(MAX_TOKEN)).unwrap_or_default();
        each(Token { text: cut, reading: Reading::Word, position, from, to: from + word.len() });
        position += 1;
    }
}

/// A word as it is compared: compatibility forms, case and diacritics made one.
#[must_use]
pub fn fold(word: &str) -> String {
    word.to_lowercase()
}

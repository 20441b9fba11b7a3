//! What each character is for the borders of words: the only place that knows scripts.

use unicode_normalization::char::is_combining_mark;
use unicode_properties::UnicodeEmoji as _;

use crate::wire::fold::is_invisible;

/// What a character does to words. Of normalised ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Parts words.
    Break,
    /// Belongs to what stands before it.
    Mark,
    /// A letter of a script with spaces, or a digit.
    Word,
    /// Of a script without spaces.
    Dense,
    /// Is not there.
    Nothing,
}

impl Class {
    pub(super) fn of(c: char) -> Self {
        match c {
            '\0'..='\u{7f}' if c.is_ascii_alphanumeric() => Self::Word,
            '\0'..='\u{7f}' => Self::Break,
            _ if is_invisible(c) => Self::Nothing,
            // Modifier letters that people use as apostrophes.
            '\u{2b9}'..='\u{2c1}' => Self::Break,
            '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}' | '\u{ac00}'..='\u{d7a3}' => Self::Word,
            '\u{80}'..'\u{300}' | '\u{400}'..'\u{483}' if c.is_alphanumeric() => Self::Word,
            '\u{4e00}'..='\u{9fff}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{e01}'..='\u{e30}' => {
                Self::Dense
            }
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

/// Is it one of the pictures, whether or not it is shown in colour?
pub(super) fn is_emoji(c: char) -> bool {
    c > '\u{2100}' && !matches!(c, '\u{3400}'..='\u{ffff}') && c.is_emoji_char() && c != '™'
}

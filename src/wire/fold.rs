//! How words are made equal that people take for the same: compatibility forms (NFKC), case, the diacritics of Latin
//! and Greek, the vowel points of Hebrew and Arabic. Where words begin and end is not known here, and there are no
//! dictionaries, no languages and no stems.
//!
//! A letter keeps its place in the original text ([`letters`]), because what is found is shown there. Everything takes
//! time in proportion to the text, and nothing here can fail.

use std::iter::once;

use unicode_normalization::char::{decompose_canonical, is_combining_mark};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfkc_quick};

/// Characters of one cluster (a letter and its marks) that are read. The longest honest ones have about eight; what
/// follows in the same cluster is passed over.
const MAX_CLUSTER: usize = 32;

/// A word as it is compared. Two spellings of what people take for one word give the same:
///
/// * compatibility forms (NFKC): full and half width, ligatures, circled numbers, presentation forms;
/// * case, final sigma, `ß` and `ss`, and all four `i` of Turkish: `İstanbul`, `ISTANBUL`, `ıstanbul` are one. Without
///   a language nobody knows which of them a capital `I` belongs to;
/// * diacritics of Latin and Greek, and accents that were put on other letters one by one. Not those that make another
///   letter in Cyrillic (`й`), except that `ё` is written `е` by most;
/// * Hebrew points; Arabic vowel signs and tatweel, the forms of alef, of yeh and of kaf, ta marbuta and ha;
/// * digits of all scripts that people post numbers in.
///
/// Marks that spell vowels (Devanagari, Thai and so on) stay.
#[must_use]
pub fn fold(word: &str) -> String {
    let mut folded = String::with_capacity(word.len());
    for letter in letters(word) {
        push(letter.c, &mut folded);
    }
    folded
}

/// A character of a normalised text, and the bytes of the original that it comes from. Several may come from the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// The character, in NFKC.
    pub c: char,
    /// Where its cluster begins, in bytes of the original.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
}

/// The characters of a text in NFKC, with case and diacritics as they are.
#[must_use]
pub fn letters(text: &str) -> Letters<'_> {
    Letters { text, at: 0, from: 0, ready: Vec::new(), next: 0 }
}

/// See [`letters`].
#[derive(Debug, Clone)]
pub struct Letters<'a> {
    text: &'a str,
    at: usize,
    /// Where the cluster that is `ready` begins; it ends at `at`.
    from: usize,
    ready: Vec<char>,
    next: usize,
}

impl Letters<'_> {
    /// Goes on at byte `at` of the text.
    pub fn go_to(&mut self, at: usize) {
        (self.at, self.next) = (at, self.ready.len());
    }

    /// The end of the cluster that the last letter came from, once all its letters were given.
    #[must_use]
    pub fn cluster_end(&self) -> Option<usize> {
        (self.next >= self.ready.len()).then_some(self.at)
    }
}

impl Iterator for Letters<'_> {
    type Item = Letter;

    fn next(&mut self) -> Option<Letter> {
        if let Some(c) = self.ready.get(self.next) {
            self.next += 1;
            return Some(Letter { c: *c, from: self.from, to: self.at });
        }
        self.from = self.at;
        let mut rest = self.text.get(self.at..)?.chars();
        let base = rest.next()?;
        self.at += base.len_utf8();
        let mut more = 0;
        while let Some(c) = rest.next().filter(|c| joins(*c)) {
            self.at += c.len_utf8();
            more += 1;
        }
        if more == 0 && is_plain(base) {
            return Some(Letter { c: base, from: self.from, to: self.at });
        }
        let cluster = self.text.get(self.from..self.at)?.chars().take(MAX_CLUSTER);
        self.ready.clear();
        self.ready.extend(cluster.nfkc());
        self.next = 0;
        self.next()
    }
}

/// Does a character become one with what stands before it, or may it?
fn joins(c: char) -> bool {
    match c {
        '\0'..'\u{300}' => false,
        _ if is_common(c) => false,
        _ if is_combining_mark(c) => true,
        _ => match is_nfkc_quick(once(c)) {
            IsNormalized::Yes => false,
            IsNormalized::Maybe => true,
            // What it stands for may: vowels of Korean typed one by one, voicing marks of half-width Katakana.
            IsNormalized::No => once(c).nfkd().next().is_some_and(|first| first != c && joins(first)),
        },
    }
}

/// Is a character without marks its own normal form?
fn is_plain(c: char) -> bool {
    match c {
        '\0'..'\u{a0}' | 'À'..='ž' if !matches!(c, 'Ĳ' | 'ĳ' | 'Ŀ' | 'ŀ' | 'ŉ') => true,
        _ if is_common(c) => true,
        _ => is_nfkc_quick(once(c)) == IsNormalized::Yes,
    }
}

/// Letters that most texts are made of and that are their own normal form, known without a table: Cyrillic, Arabic,
/// Thai, Kana, Han, Hangul.
const fn is_common(c: char) -> bool {
    matches!(c, '\u{400}'..='\u{482}' | '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}' | '\u{e01}'..='\u{e30}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// Appends a normalised character as it is compared: nothing, itself, or up to a few others.
pub fn push(c: char, folded: &mut String) {
    if c.is_ascii() {
        folded.push(c.to_ascii_lowercase());
        return;
    }
    for c in c.to_lowercase().filter(|c| !is_dropped(*c)) {
        match c {
            'À'..='ɏ' | 'Ḁ'..='ỿ' | 'Ͱ'..='Ͽ' | 'ἀ'..='῾' => decompose_canonical(c, |part| {
                if !is_combining_mark(part) {
                    folded.push_str(spelt_out(part).unwrap_or(part.encode_utf8(&mut [0; 4])));
                }
            }),
            _ => folded.push(same(c)),
        }
    }
}

/// Letters of Latin that are no other letter with a mark, as those write them who lack them; and final sigma.
const fn spelt_out(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        'ø' => "o",
        'đ' | 'ð' => "d",
        'ł' => "l",
        'ħ' => "h",
        'ı' => "i",
        'ŋ' => "n",
        'ŧ' => "t",
        'ς' => "σ",
        _ => return None,
    })
}

/// The one of several letters or digits that stands for all of them.
fn same(c: char) -> char {
    match c {
        'ё' | 'ѐ' => 'е',
        'ѝ' => 'и',
        'آ' | 'أ' | 'إ' | 'ٱ' => 'ا',
        // The last is the yeh of Persian and Urdu.
        'ى' | 'ی' => 'ي',
        'ک' => 'ك',
        'ة' => 'ه',
        _ if !('\u{660}'..'\u{1800}').contains(&c) => c,
        _ => ZEROS.iter().find_map(|zero| digit(c, *zero)).unwrap_or(c),
    }
}

/// Arabic, Persian, Devanagari, Bengali, Gurmukhi, Gujarati, Tamil, Telugu, Kannada, Malayalam, Thai, Lao, Myanmar,
/// Khmer.
const ZEROS: [char; 14] = [
    '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{be6}', '\u{c66}', '\u{ce6}', '\u{d66}',
    '\u{e50}', '\u{ed0}', '\u{1040}', '\u{17e0}',
];

fn digit(c: char, zero: char) -> Option<char> {
    u32::from(c).checked_sub(u32::from(zero)).and_then(|value| char::from_digit(value, 10))
}

/// Marks that many leave out and that tell few words apart, and what cannot be seen.
fn is_dropped(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{487}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}'
        // Hebrew: points and marks of cantillation.
        | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}'
        // Arabic: vowel signs, tatweel, marks of the Quran.
        | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{6d6}'..='\u{6dc}'
        | '\u{6df}'..='\u{6e4}' | '\u{6e7}' | '\u{6e8}' | '\u{6ea}'..='\u{6ed}' | '\u{8d3}'..='\u{8ff}')
        || is_invisible(c)
}

/// Characters that show nothing (Unicode's `Default_Ignorable_Code_Point`): put between letters they would hide a word.
#[must_use]
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_word_are_one() {
        let check = |expected: &str, spellings: &[&str]| {
            for spelling in spellings {
                assert_eq!(fold(spelling), expected, "{spelling}");
            }
        };
        check("", &["", "\u{200b}", "\u{301}", "ـ"]);
        check("cafe", &["Café", "CAFÉ", "cafe\u{301}", "ｃａｆé", "ca\u{ad}fe"]);
        check("strasse", &["Straße", "STRASSE", "STRAẞE", "straſse"]);
        check("istanbul", &["İstanbul", "ISTANBUL", "ıstanbul", "istanbul", "i\u{307}stanbul"]);
        check("aether oeuvre", &["Æther Œuvre"]);
        check("lodz smorrebrod", &["Łódź smørrebrød"]);
        check("thorn ad", &["Þorn að"]);
        check("nguyen viet", &["Nguyễn Việt", "Nguye\u{302}\u{303}n Vie\u{323}\u{302}t"]);
        check("ofﬁce".replace('ﬁ', "fi").as_str(), &["oﬃce", "OFFICE"]);
        check("οδοσ", &["Ὁδός", "ΟΔΟΣ", "οδός", "ὁδὸς"]);
        check("еще", &["ещё", "ЕЩЕ", "еще\u{301}", "еще\u{308}".strip_suffix('\u{308}').unwrap()]);
        check("мой", &["Мой", "мои\u{306}"]);
        check("їжак", &["Їжак"]);
        check("محمد", &["مُحَمَّد", "محـــمد"]);
        check("اسلام", &["إسلام", "أسلام", "آسلام", "ٱسلام", "ا\u{654}سلام"]);
        check("مدرسه", &["مدرسة", "مدرسه"]);
        check("علي", &["على", "علی", "علي"]);
        check("كتاب", &["کتاب", "ﻛﺘﺎﺏ"]);
        check("שלום", &["שָׁלוֹם", "שׁלום"]);
        check("हिन्दी", &["हिन्दी", "हिन्\u{200d}दी"]);
        check("क\u{93c}", &["\u{958}", "क\u{93c}"]);
        check("ガギ", &["ｶﾞｷﾞ", "カ\u{3099}キ\u{3099}"]);
        check("한국", &["한국", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}"]);
        check("다", &["ㄷㅏ", "ﾧￂ", "다"]);
        check("株式会社", &["㍿"]);
        check("2024", &["２０２４", "٢٠٢٤", "۲۰۲۴", "२०२४", "๒๐๒๔"]);
    }

    #[test]
    fn a_letter_knows_where_it_stood() {
        let all: Vec<_> = letters("aé\u{302}㍿ｶﾞ").map(|letter| (letter.c, letter.from, letter.to)).collect();
        let company = ['株', '式', '会', '社'].map(|c| (c, 5, 8));
        let mut expected = vec![('a', 0, 1), ('é', 1, 5), ('\u{302}', 1, 5)];
        expected.extend(company);
        expected.push(('ガ', 8, 14));
        assert_eq!(all, expected);
    }

    #[test]
    fn a_hundred_thousand_marks_are_one_cluster() {
        let text = format!("a{}b", "\u{301}\u{323}".repeat(50_000));
        assert_eq!(fold(&text), "ab");
        assert!(letters(&text).count() < 40);
    }

    #[test]
    fn whatever_joins_the_letter_before_it_is_one_with_it() {
        for c in (char::MIN..=char::MAX).filter(|c| is_nfkc_quick(once(*c)) != IsNormalized::Yes) {
            for base in ["a", "ㄷ", "가", "ｶ", "क", "ا"] {
                let text = format!("{base}{c}");
                let all: String = letters(&text).map(|letter| letter.c).collect();
                assert_eq!(all, text.nfkc().collect::<String>(), "{base} and U+{:04X}", u32::from(c));
            }
        }
    }

    proptest! {
        #[test]
        fn letters_are_the_normal_form_and_lie_in_order(text in "\\PC{0,40}") {
            let all: Vec<Letter> = letters(&text).collect();
            let normal: String = text.nfkc().collect();
            prop_assert_eq!(all.iter().map(|letter| letter.c).collect::<String>(), normal);
            let mut last = 0;
            for Letter { from, to, .. } in all {
                prop_assert!(last <= from && from < to && text.get(from..to).is_some());
                last = from;
            }
        }

        #[test]
        fn what_is_folded_stays(text in any::<String>()) {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }
    }
}

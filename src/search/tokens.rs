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

mod class;
mod parts;

use self::class::{Class, is_emoji};
use self::parts::Parts;
use crate::wire::document::handle_length;
pub use crate::wire::fold::fold;
use crate::wire::fold::{self, Letters};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parts::MAX_PARTS;
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Owned {
        text: String,
        reading: Reading,
        position: u32,
        from: usize,
        to: usize,
    }

    fn all(text: &str) -> Vec<Owned> {
        let mut found = Vec::new();
        tokens(text, |Token { text, reading, position, from, to }| {
            found.push(Owned { text: text.to_owned(), reading, position, from, to });
        });
        found
    }

    /// Words as they are, parts of hashtags as `(foo)`, bigrams as `ab`, what stands alone as `a.`, tails as `a~`; a
    /// token at the place of the one before it follows `/` instead of a space.
    fn read(text: &str) -> String {
        let mut line = String::new();
        let mut last = None;
        for Owned { text, reading, position, .. } in all(text) {
            line.push_str(match last {
                None => "",
                Some(last) if last == position => "/",
                Some(last) => {
                    assert_eq!(position, last + 1, "{line} {text}");
                    " "
                }
            });
            last = Some(position);
            line.push_str(&match reading {
                Reading::Word | Reading::Bigram | Reading::Emoji => text,
                Reading::Part => format!("({text})"),
                Reading::Single => format!("{text}."),
                Reading::Tail => format!("{text}~"),
            });
        }
        line
    }

    #[test]
    fn words_of_scripts_with_spaces() {
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("", "");
        check(" \t\n.,;!?—…()«»", "");
        check("One two, THREE.", "one two three");
        check("a-b_c/d", "a b c d");
        check("don't l’homme Anna's", "don t l homme anna s");
        check("3.14 2024-05-01 v2 x²", "3 14 2024 05 01 v2 x2");
        check("Café café CAFE\u{301}", "cafe cafe cafe");
        check("Zażółć gęślą jaźń", "zazolc gesla jazn");
        check("Straße STRASSE", "strasse strasse");
        check("İstanbul ISPARTA ıspanak", "istanbul isparta ispanak");
        check("ｆｕｌｌ　ｗｉｄｔｈ", "full width");
        check("ﬁnd ½ ① ㎏", "find 1 2 1 kg");
        check("Brand™ ©2024", "brand 2024");
        check("so\u{ad}ft zero\u{200b}width \u{202e}bidi\u{202c}", "soft zerowidth bidi");
        check("nul\0l", "nul l");
        check("Ὁ λόγος ΛΟΓΟΣ", "ο λογοσ λογοσ");
        check("Ёж ещё мой и\u{306}", "еж еще мой й");
        check("м'ята мʼята", "м ята м ята");
        check("السَّلامُ عليـــكم", "السلام عليكم");
        check("إلى آخر مدرسة می\u{200c}خواهم", "الي اخر مدرسه ميخواهم");
        check("١٢٣ ۴۵۶", "123 456");
        check("שָׁלוֹם עֲלֵיכֶם", "שלום עליכם");
        check("हिन्दी में लिखा", "हिन्दी में लिखा");
        check("क्\u{200d}ष क्ष", "क्ष क्ष");
        check("தமிழ் বাংলা", "தமிழ் বাংলা");
        check("한국어를 배워요", "한국어를 배워요");
        check("\u{1112}\u{1161}\u{11ab}", "한");
        check("Հայերեն ქართული አማርኛ", "հայերեն ქართული አማርኛ");
        check("naïve\u{301}\u{302}", "naive");
        check("\u{301}\u{301} a", "a");
    }

    #[test]
    fn pairs_of_scripts_without_spaces() {
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("字", "字.");
        check("大学", "大学 学~");
        check("大学生、猫", "大学 学生 生~ 猫.");
        check("食べる", "食べ べる る~");
        check("カタカナ ｶﾀｶﾅ", "カタ タカ カナ ナ~ カタ タカ カナ ナ~");
        check("ｶﾞｷﾞ", "ガギ ギ~");
        check("スーパー", "スー ーパ パー ー~");
        check("㍿", "株式 式会 会社 社~");
        check("人々", "人々 々~");
        check("東京Tower2 大", "東京 京~ tower2 大.");
        check("iPhone用ケース", "iphone 用ケ ケー ース ス~");
        check("熱力学", "熱力 力学 学~");
        check("ภาษาไทย", "ภา าษ ษา าไ ไท ทย ย~");
        check("ที่นี่", "ที่นี่ นี่~");
        check("น้ำ", "น้\u{e4d}า า~");
        check("๒๕๖๗ ปี", "2567 ปี.");
        check("ພາສາລາວ", "ພາ າສ ສາ າລ ລາ າວ ວ~");
        check("ខ្មែរ", "ខ្មែរ រ~");
        check("မြန်မာ", "မြန် န်မာ မာ~");
        check("𠮷野家", "𠮷野 野家 家~");
        check("ㄅㄆ", "ㄅㄆ ㄆ~");
        check("語\u{fe00}語\u{e0100}", "語語 語~");
    }

    #[test]
    fn an_emoji_is_one_token() {
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("👍", "👍");
        check("👍🏽👍", "👍 👍");
        check("❤️ ❤", "❤ ❤");
        check("👨‍👩‍👧‍👦", "👨‍👩‍👧‍👦");
        check("👩🏽‍🚀", "👩‍🚀");
        check("🏳️‍🌈", "🏳‍🌈");
        check("🇩🇪🇫🇷 🇩", "🇩🇪 🇫🇷 🇩");
        check(
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        );
        check("1️⃣ #️⃣ *⃣ 12️⃣", "1⃣ #⃣ *⃣ 1 2⃣");
        check("hi👋there", "hi 👋 there");
        check("東京🗼京都", "東京 京~ 🗼 京都 都~");
        check("\u{1f3fd} \u{fe0f} \u{200d}", "");
        check(":blob_cat: :heart:", "blob cat heart");
    }

    #[test]
    fn hashtags_are_found_whole_and_by_their_parts() {
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("#foo bar", "foo bar");
        check("see #FooBar now", "see foobar/(foo) (bar) now");
        check("#foo_bar", "foobar/(foo) (bar)");
        check("#foo2024", "foo2024/(foo) (2024)");
        check("#HTMLParser", "htmlparser/(html) (parser)");
        check("#iPhone15Pro", "iphone15pro/(i) (phone) (15) (pro)");
        check("#2024", "2024");
        check("#CaféCrème", "cafecreme/(cafe) (creme)");
        check("#ДоброеУтро", "доброеутро/(доброе) (утро)");
        check("#हिन्दी #اللغة_العربية", "हिन्दी اللغهالعربيه/(اللغه) (العربيه)");
        check("＃ＦｏｏＢａｒ", "foobar/(foo) (bar)");
        check("#東京タワー", "東京 京タ タワ ワー ー~");
        check("#ｶﾀｶﾅ", "カタ タカ カナ ナ~");
        check("#東京Tower", "東京 京~ tower");
        check("C# a#FooBar", "c a foobar");
        check("#a#b # ##c #", "a b c");
        check("#foo👍#bar", "foo 👍 bar");
        check("#___ #_a_", "a");
        check("(#tag),", "tag");
        check(&format!("#{}", "Ab".repeat(40)), &format!("{}/{}", "ab".repeat(40), ["(ab)"; MAX_PARTS].join(" ")));
    }

    #[test]
    fn urls_are_their_hosts_and_words_and_handles_are_nothing() {
        let check = |text: &str, expected: &str| assert_eq!(read(text), expected, "{text}");
        check("https://www.Example.com/Some/Page-1?q=x#Part", "example com some page 1 q x part");
        check("HTTP://example.com", "example com");
        check("(https://例え.example)", "例え え~ example");
        check("example.com http https:", "example com http https");
        check("xhttps://a.example", "xhttps a example");
        check("bo@b.example", "bo b example");
        check("hi @bo and @al@b.example, bye", "hi and bye");
        check("＠bo@b.example", "");
        check("@ bo @@ @. @-", "bo");
        check("https://b.example/@bo/114", "b example 114");
        check("@bo@münchen.example!", "");
        check("@東京", "東京 京~");
    }

    #[test]
    fn offsets_lead_to_the_original() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> =
                all(text).iter().map(|token| text.get(token.from..token.to).expect("chars")).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("Zażółć e\u{301}té!", &["Zażółć", "e\u{301}té"]);
        check("ｶﾞｷﾞ大", &["ｶﾞｷﾞ", "ｷﾞ大", "大"]);
        check("x㍿", &["x", "㍿", "㍿", "㍿", "㍿"]);
        check("a #FooBar", &["a", "#FooBar", "Foo", "Bar"]);
        check("👩🏽‍🚀1️⃣", &["👩🏽‍🚀", "1️⃣"]);
        check("ﬁnﬁ", &["ﬁnﬁ"]);
    }

    #[test]
    fn what_has_no_end_is_cut() {
        let bytes = 1 << 16;
        for (unit, most) in [
            ("a", 1),
            ("A1", 1),
            ("é", 1),
            ("\u{301}", 0),
            ("ﷺ", MAX_TOKENS),
            ("字", MAX_TOKENS),
            ("a ", MAX_TOKENS),
            ("#", 0),
            ("@a", MAX_TOKENS),
            ("#a", MAX_TOKENS),
            ("#Aa", MAX_TOKENS),
            ("#字", MAX_TOKENS),
            ("1\u{20e3}", MAX_TOKENS),
            ("👍", MAX_TOKENS),
            ("👍\u{200d}", MAX_TOKENS),
            ("\u{1f1e6}", MAX_TOKENS),
            ("http://", MAX_TOKENS),
            ("http", 1),
            ("\u{1780}\u{17d2}", MAX_TOKENS),
            ("\u{200b}", 0),
            ("\u{202e}", 0),
            ("\0", 0),
        ] {
            for head in ["", "é"] {
                let text = format!("{head}{}", unit.repeat(bytes / unit.len()));
                let mut count = 0;
                tokens(&text, |token| {
                    count += 1;
                    assert!(token.text.len() <= MAX_TOKEN && token.from < token.to, "{head}{unit}");
                });
                assert!(count <= (most + MAX_PARTS + 4).min(MAX_TOKENS), "{head}{unit}: {count}");
            }
        }
        let mut count = 0;
        tokens(&"a ".repeat(MAX_TOKENS + 100), |_token| count += 1);
        assert_eq!(count, MAX_TOKENS);
        let text = format!("a{} b", "\u{301}\u{323}".repeat(50_000));
        assert_eq!(read(&text), "a b");
        let long = "x".repeat(MAX_TOKEN);
        assert_eq!(read(&"x".repeat(1 << 20)), long);
        assert_eq!(read(&format!("é{}", "x".repeat(1 << 20))), format!("e{}", &long[1..]));
    }

    /// Posts in ten languages, as Mastodon sends them.
    const POSTS: [&str; 10] = [
        r#"<p>The herons are back at the lake this morning, and nobody knows where they spent the winter. <a href="https://a.example/tags/BirdWatching" class="mention hashtag" rel="tag">#<span>BirdWatching</span></a> 🐦</p>"#,
        "<p>Heute wird das Wetter sehr schön, und wir gehen mit den Kindern in den Park.<br>Größe: 3&nbsp;km</p>",
        r#"<p><a href="https://b.example/@bo" class="u-url mention">@<span>bo</span></a> nous avons acheté des légumes.</p>"#,
        "<p>Сегодня мы ходили на рынок и купили овощи на всю неделю, но забыли про хлеб.</p>",
        "<p>今日はとても天気が良いので、公園を散歩してからコーヒーを飲みました。明日も晴れるといいですね。</p>",
        "<p>今天天气很好，我们去公园散步，然后喝了一杯咖啡。希望明天也是晴天。</p>",
        "<p>ذهبنا اليوم إلى السوق واشترينا الخضروات لكل الأسبوع ولكننا نسينا الخبز</p>",
        "<p>วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะ แล้วดื่มกาแฟ</p>",
        "<p>오늘은 날씨가 좋아서 공원을 산책하고 커피를 마셨어요. 내일도 맑았으면 좋겠네요.</p>",
        r#"<p>Read: <a href="https://c.example/2026/a-long-story"><span class="invisible">https://</span><span class="ellipsis">c.example/2026/a-lo</span><span class="invisible">ng-story</span></a></p>"#,
    ];

    #[test]
    #[ignore = "a measurement: cargo test --release --lib posts_per_second -- --ignored --nocapture"]
    fn posts_per_second() {
        use crate::wire::document::Document;
        use crate::wire::language::detect;

        let post =
            |content| serde_json::json!({ "id": "https://a.example/1", "type": "Note", "content": content, "tag": [] });
        let posts: Vec<_> = POSTS.map(post).into();
        let texts: Vec<String> = posts.iter().map(|post| Document::of(post).text).collect();
        let count: usize = texts.iter().map(|text| all(text).len()).sum();
        eprintln!("{} bytes and {} tokens a post", texts.concat().len() / posts.len(), count / posts.len());
        let measure = |name: &str, rounds: usize, one: &mut dyn FnMut(usize)| {
            let begun = std::time::Instant::now();
            (0..rounds * posts.len()).for_each(|number| one(number % posts.len()));
            eprintln!("{name}: {:.0} posts/s", (rounds * posts.len()) as f64 / begun.elapsed().as_secs_f64());
        };
        let mut sum = 0;
        measure("document", 10_000, &mut |post| sum += Document::of(&posts[post]).text.len());
        measure("tokens", 10_000, &mut |post| tokens(&texts[post], |token| sum += token.text.len()));
        measure("detect", 1000, &mut |post| sum += detect(&texts[post]).len());
        measure("document and tokens", 10_000, &mut |post| {
            tokens(&Document::of(&posts[post]).text, |token| sum += token.text.len());
        });
        measure("all three", 1000, &mut |post| {
            let document = Document::of(&posts[post]);
            tokens(&document.text, |token| sum += token.text.len());
            sum += detect(&document.text).len();
        });
        assert_ne!(sum, 0);
    }

    const PIECES: &str = "[a-cA-Cß_é\u{301}İ大かｶﾞ㍿ก้ខ្한هة\u{64b}ـк👍🏽‍🇩️⃣1² \n.'#@/:]{0,30}";

    proptest! {
        #[test]
        fn nothing_makes_it_fall(text in prop_oneof![any::<String>(), PIECES.prop_map(String::from)]) {
            let mut last = (0, 0);
            for token in all(&text) {
                prop_assert!(!token.text.is_empty() && token.text.len() <= MAX_TOKEN);
                prop_assert!(token.from < token.to && text.get(token.from..token.to).is_some());
                prop_assert!(last.0 <= token.position && token.position <= last.0 + 1);
                prop_assert!(last.1 <= token.from);
                last = (token.position, token.from);
            }
        }

        #[test]
        fn what_somebody_types_is_among_the_tokens_of_a_text_that_has_it(
            before in PIECES, query in prop_oneof![any::<String>(), PIECES.prop_map(String::from)], after in PIECES
        ) {
            let known: std::collections::HashSet<_> =
                all(&format!("{before} {query} {after}")).into_iter().map(|token| (token.text, token.reading)).collect();
            for token in all(&query) {
                prop_assert!(known.contains(&(token.text.clone(), token.reading)), "{:?} of {:?}", token, query);
            }
        }

        #[test]
        fn a_part_of_a_text_without_spaces_is_found_by_its_pairs(text in "[大学生命科語かなカ]{2,20}", from in 0..10_usize, most in 2..10_usize) {
            let part: String = text.chars().skip(from).take(most).collect();
            let known: Vec<_> = all(&text);
            for token in all(&part) {
                let found = |other: &Owned| match token.reading {
                    Reading::Single => other.text.starts_with(&token.text),
                    _ => other.text == token.text && other.reading == token.reading,
                };
                prop_assert!(token.reading == Reading::Tail || known.iter().any(found), "{token:?}");
            }
        }

        #[test]
        fn a_word_is_a_token_of_its_folded_self(word in "[a-zA-ZäÖßéñЁйαΣ]{1,20}") {
            prop_assert_eq!(read(&word), fold(&word));
        }
    }
}

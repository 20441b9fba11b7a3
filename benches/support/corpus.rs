//! Posts for the search, as many as are wanted, made and not kept: the same number is the same post, on every machine.
//!
//! What they are like: twelve languages in nine scripts; words by Zipf's law, the frequent ones short; 150 characters and
//! some 25 words on average; two hashtags for three posts; one author for sixteen posts on servers of which few are large;
//! one every five seconds for sixty days, if it is a million. Besides, one author wrote [`PROLIFIC`] of them.
//!
//! The words mean nothing. What is measured with them holds for lengths, frequencies and scripts, not for what people say.

use shearwater::search::schema::first_id;
use shearwater::wire::document::{Document, Media, MediaKind, Prop};

/// Change it, and all figures are of other posts.
const SEED: u64 = 0x5ea2_c4ed;
/// From the first post to the last.
const SPAN_MILLIS: i64 = 60 * 24 * 3600 * 1000;
/// Posts of the author with the number 0, if there are four times as many; otherwise a quarter of all.
pub(crate) const PROLIFIC: u64 = 10_000;
/// The hashtag on all of those, and on no others.
pub(crate) const PROLIFIC_TAG: &str = "DailyShearwater";
const SERVERS: u64 = 4_000;
const TAGS: u64 = 20_000;
const EMOJI: [&str; 12] = ["🐦", "😀", "🎉", "❤️", "👍🏽", "🌊", "☕", "📚", "🐈", "🌻", "🚲", "🇵🇹"];

/// All posts, of which there are as many as its size says; those beyond are what comes afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Corpus {
    size: u64,
    /// Of the last post, in milliseconds since the epoch.
    until: i64,
}

/// A post.
#[derive(Debug)]
pub(crate) struct Post {
    /// In milliseconds since the epoch; no two are of the same one.
    pub(crate) published: i64,
    pub(crate) author: u64,
    /// The author's server.
    pub(crate) server: u64,
    pub(crate) language: &'static str,
    pub(crate) document: Document,
}

impl Post {
    /// What the index knows it by.
    pub(crate) fn id(&self) -> u64 {
        first_id(self.published)
    }
}

impl Corpus {
    pub(crate) const fn new(size: u64, until: i64) -> Self {
        Self { size, until }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// How many authors there are.
    pub(crate) const fn authors(&self) -> u64 {
        self.size / 16 + 2
    }

    /// The server that an author is on: of the largest are about 8 %, as Zipf would have it.
    pub(crate) fn server_of(author: u64) -> u64 {
        Chance::of(author ^ SEED.rotate_left(32)).zipf(SERVERS)
    }

    /// The post with this number.
    pub(crate) fn post(&self, number: u64) -> Post {
        let mut chance = Chance::of(number ^ SEED);
        let tongue = Tongue::any(&mut chance);
        let is_prolific = number % (self.size / PROLIFIC).max(4) == 1;
        // Two dice, the lower one counts: some write more than others.
        let author = match is_prolific {
            true => 0,
            false => 1 + chance.below(self.authors() - 1).min(chance.below(self.authors() - 1)),
        };
        let step = SPAN_MILLIS / i64::try_from(self.size.max(1)).unwrap_or(i64::MAX);
        let place = i64::try_from(number).unwrap_or(i64::MAX) + 1;
        let published = self.until - SPAN_MILLIS + step * place;
        let document = tongue.document(&mut chance, is_prolific);
        Post { published, author, server: Self::server_of(author), language: tongue.code, document }
    }
}

/// A language, as far as anybody can tell who does not speak it.
struct Tongue {
    code: &'static str,
    /// Of a hundred posts.
    share: u64,
    script: Script,
    /// Different words.
    words: u64,
    /// Nothing stands between words.
    dense: bool,
}

enum Script {
    /// A syllable is one of these and one of those.
    Pairs(&'static [&'static str], &'static [&'static str]),
    /// A syllable is a character: so many, from this one on, each so far from the one before.
    Blocks(&'static [(u32, u32, u32)]),
}

const SOUNDS: [&str; 20] =
    ["n", "t", "s", "r", "l", "d", "m", "k", "p", "b", "v", "f", "g", "h", "st", "tr", "ch", "br", "w", "z"];
const RUSSIAN: [&str; 20] =
    ["н", "т", "с", "р", "л", "д", "м", "к", "п", "б", "в", "ф", "г", "х", "ст", "тр", "ч", "бр", "ш", "з"];
const GREEK: [&str; 16] = ["ν", "τ", "σ", "ρ", "λ", "δ", "μ", "κ", "π", "β", "φ", "γ", "χ", "θ", "στ", "ξ"];
const ARABIC: [&str; 24] = [
    "ا", "ل", "م", "ن", "ر", "ب", "ت", "س", "ع", "ق", "ف", "ك", "ح", "ج", "د", "ش", "ص", "خ", "ط", "ز", "غ", "ذ", "ه",
    "أ",
];
const HINDI: [&str; 20] =
    ["न", "त", "स", "र", "ल", "द", "म", "क", "प", "ब", "व", "ग", "ह", "ज", "च", "य", "श", "ट", "भ", "थ"];
const THAI: [&str; 20] =
    ["น", "ต", "ส", "ร", "ล", "ด", "ม", "ก", "ป", "บ", "ว", "ค", "ห", "จ", "ช", "ย", "ท", "พ", "ข", "อ"];

const TONGUES: [Tongue; 12] = [
    spaced("en", 30, &SOUNDS, &["e", "a", "o", "i", "ea", "ou", "er", "on", "y"]),
    spaced("de", 10, &SOUNDS, &["en", "e", "er", "i", "ä", "ü", "ei", "ö", "au"]),
    spaced("es", 10, &SOUNDS, &["a", "o", "es", "e", "á", "ión", "os", "ué", "í"]),
    spaced("pt", 8, &SOUNDS, &["o", "a", "ão", "e", "ç", "ei", "ó", "õe", "as"]),
    spaced("ru", 6, &RUSSIAN, &["о", "а", "и", "е", "я", "ой", "ы", "ю", "ть"]),
    spaced("el", 2, &GREEK, &["α", "ο", "ι", "ε", "ά", "ου", "ης", "ω", "ό"]),
    spaced("ar", 4, &ARABIC, &["", "ا", "ي", "و", "ة", "ل"]),
    spaced("hi", 3, &HINDI, &["", "ा", "ी", "े", "ो", "ि", "ं"]),
    Tongue { code: "ko", share: 4, script: Script::Blocks(&[(0xac00, 13, 800)]), words: 100_000, dense: false },
    Tongue {
        code: "ja",
        share: 17,
        script: Script::Blocks(&[(0x3042, 1, 40), (0x4e00, 11, 1000), (0x30a2, 1, 60)]),
        words: 60_000,
        dense: true,
    },
    Tongue { code: "zh", share: 4, script: Script::Blocks(&[(0x4e00, 7, 1500)]), words: 60_000, dense: true },
    Tongue {
        code: "th",
        share: 2,
        script: Script::Pairs(&THAI, &["า", "", "ี", "ิ", "ู", "ัน", "ะ"]),
        words: 60_000,
        dense: true,
    },
];
const fn spaced(
    code: &'static str,
    share: u64,
    heads: &'static [&'static str],
    tails: &'static [&'static str],
) -> Tongue {
    Tongue { code, share, script: Script::Pairs(heads, tails), words: 250_000, dense: false }
}

impl Tongue {
    fn any(chance: &mut Chance) -> &'static Self {
        let mut left = chance.below(100);
        for tongue in &TONGUES {
            if left < tongue.share {
                return tongue;
            }
            left -= tongue.share;
        }
        &TONGUES[0]
    }

    /// The word of this rank: the first ones have one syllable, and so on.
    fn word(&self, mut rank: u64, into: &mut String) {
        let syllables = self.script.syllables();
        loop {
            self.script.syllable(rank % syllables, into);
            if rank < syllables {
                return;
            }
            rank = rank / syllables - 1;
        }
    }

    fn words(&self, chance: &mut Chance, count: u64) -> String {
        let mut text = String::new();
        for word in 0..count {
            match (word, self.dense) {
                (0, _) => {}
                (_, true) if chance.below(8) == 0 => text.push('、'),
                (_, true) => {}
                (_, false) if chance.below(12) == 0 => text.push_str(", "),
                (_, false) => text.push(' '),
            }
            self.word(chance.zipf(self.words), &mut text);
        }
        text
    }

    fn document(&self, chance: &mut Chance, is_prolific: bool) -> Document {
        let count = 10 + chance.below(16) + if self.dense { chance.below(20) } else { chance.below(14) };
        let mut document = Document { language: Some(self.code.to_owned()), ..Document::default() };
        document.text = self.words(chance, count);
        if chance.below(8) == 0 {
            document.text.push(' ');
            document.text.push_str(chance.one_of(&EMOJI));
        }
        for _ in 0..[0, 0, 0, 0, 0, 0, 1, 1, 2, 3][chance.index(10)] {
            let mut tag = String::new();
            self.word(20 + chance.zipf(TAGS), &mut tag);
            self.word(chance.below(20), &mut tag);
            document.tags.push(tag);
        }
        if is_prolific {
            document.tags.push(PROLIFIC_TAG.to_owned());
        }
        for tag in &document.tags {
            document.text.push_str(" #");
            document.text.push_str(tag);
        }
        let mut props = Vec::new();
        if chance.below(20) == 0 {
            document.warning = self.words(chance, 3);
            props.push(Prop::Sensitive);
        }
        if chance.below(7) == 0 {
            let alt = if chance.below(2) == 0 { self.words(chance, 12) } else { String::new() };
            document.media.push(Media { kind: MediaKind::Image, alt });
            props.extend([Prop::Media, Prop::Image]);
        }
        if chance.below(50) == 0 {
            document.options = (0..3).map(|_| self.words(chance, 2)).collect();
            props.push(Prop::Poll);
        }
        for (prop, one_of) in [(Prop::Link, 4), (Prop::Reply, 3)] {
            if chance.below(one_of) == 0 {
                props.push(prop);
            }
        }
        document.props = props.into_iter().collect();
        document
    }
}

impl Script {
    fn syllables(&self) -> u64 {
        match self {
            Self::Pairs(heads, tails) => (heads.len() * tails.len()) as u64,
            Self::Blocks(blocks) => blocks.iter().map(|(_, _, count)| u64::from(*count)).sum(),
        }
    }

    fn syllable(&self, number: u64, into: &mut String) {
        match self {
            Self::Pairs(heads, tails) => {
                let number = usize::try_from(number).unwrap_or_default();
                into.push_str(heads[number % heads.len()]);
                into.push_str(tails[number / heads.len() % tails.len()]);
            }
            Self::Blocks(blocks) => {
                let mut left = u32::try_from(number).unwrap_or_default();
                for (first, step, count) in *blocks {
                    if left < *count {
                        into.extend(char::from_u32(first + step * left));
                        return;
                    }
                    left -= count;
                }
            }
        }
    }
}

/// Dice that always fall in the same way (SplitMix64), whatever version of which library is in use.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    fn one_of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from.get(self.index(from.len())).copied().unwrap_or_default()
    }

    /// A rank below `count`, each as likely as one divided by it plus one (Zipf's law with the exponent 1).
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "53 bits of chance are enough, and a rank is small"
    )]
    fn zipf(&mut self, count: u64) -> u64 {
        let chance = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let rank = ((count + 1) as f64).powf(chance) as u64;
        rank.saturating_sub(1).min(count - 1)
    }
}

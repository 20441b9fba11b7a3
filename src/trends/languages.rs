//! Languages that are told apart: those of ISO 639-1, and living ones of three letters that people post in. A fixed list, so
//! that nobody uses up the room by making some up, and a restart numbers them as before. All else is `und`.

/// The language that is not known.
pub const UNKNOWN: &str = "und";

/// In order. A language's number is its place here, from 1.
const ALL: [&str; 245] = [
    "aa", "ab", "ae", "af", "ak", "am", "an", "ar", "arz", "as", "ast", "av", "ay", "az", "ba", "ban", "bar", "bcl",
    "be", "bg", "bh", "bi", "bm", "bn", "bo", "br", "bs", "ca", "ce", "ceb", "ch", "chr", "ckb", "cnr", "co", "cr",
    "cs", "csb", "cu", "cv", "cy", "da", "de", "dsb", "dv", "dz", "ee", "el", "en", "eo", "es", "et", "eu", "ext",
    "fa", "ff", "fi", "fil", "fj", "fo", "fr", "frp", "fur", "fy", "ga", "gd", "gl", "gn", "gsw", "gu", "gv", "ha",
    "haw", "he", "hi", "ho", "hr", "hsb", "ht", "hu", "hy", "hz", "ia", "id", "ie", "ig", "ii", "ik", "ilo", "io",
    "is", "it", "iu", "ja", "jam", "jbo", "jv", "ka", "kab", "kg", "ki", "kj", "kk", "kl", "km", "kmr", "kn", "ko",
    "kr", "ks", "ku", "kv", "kw", "ky", "la", "lb", "lfn", "lg", "li", "lij", "lld", "lmo", "ln", "lo", "lt", "lu",
    "lv", "mg", "mh", "mhr", "mi", "mk", "ml", "mn", "moh", "mr", "ms", "mt", "mwl", "my", "na", "nah", "nap", "nb",
    "nd", "nds", "ne", "ng", "nl", "nn", "no", "nr", "nv", "ny", "oc", "oj", "om", "or", "os", "pa", "pap", "pcd",
    "pdc", "pi", "pl", "pms", "ps", "pt", "qu", "rm", "rn", "ro", "rom", "ru", "rue", "rup", "rw", "sa", "sc", "scn",
    "sco", "sd", "se", "sg", "sgs", "sh", "si", "sk", "sl", "sm", "sma", "smj", "smn", "sms", "sn", "so", "sq", "sr",
    "ss", "st", "su", "sv", "sw", "szl", "ta", "te", "tet", "tg", "th", "ti", "tk", "tl", "tn", "to", "tok", "tpi",
    "tr", "ts", "tt", "tw", "ty", "udm", "ug", "uk", "ur", "uz", "ve", "vec", "vep", "vi", "vo", "vro", "wa", "war",
    "wo", "xal", "xh", "yi", "yo", "yue", "za", "zba", "zgh", "zh", "zu",
];

/// The number of a language; 0 for what is none.
#[must_use]
pub fn number(code: &str) -> u16 {
    ALL.binary_search(&code).ok().and_then(|place| u16::try_from(place + 1).ok()).unwrap_or(0)
}

/// The number that is looked for where this language is asked for: that of nothing for what is none.
#[must_use]
pub fn wanted(code: &str) -> u16 {
    if is_known(code) { number(code) } else { u16::MAX }
}

/// The language of a number.
#[must_use]
pub fn code(number: u16) -> &'static str {
    usize::from(number).checked_sub(1).and_then(|place| ALL.get(place)).copied().unwrap_or(UNKNOWN)
}

/// Whether it is told apart; `und` is.
#[must_use]
pub fn is_known(code: &str) -> bool {
    code == UNKNOWN || number(code) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_a_fixed_list_and_what_is_made_up_is_none() {
        assert!(ALL.is_sorted(), "it is searched");
        for (place, language) in ALL.iter().enumerate() {
            assert_eq!((usize::from(number(language)), code(number(language))), (place + 1, *language));
        }
        for unknown in ["", "qq", "xxx", "EN", "und", "english"] {
            assert_eq!(number(unknown), 0, "{unknown}");
        }
        assert!(is_known("und") && is_known("eu") && !is_known("qq"));
        assert_eq!(code(wanted("qq")), UNKNOWN);
        assert!(wanted("und") == 0 && wanted("qq") == u16::MAX);
    }
}

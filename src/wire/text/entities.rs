//! Character references in HTML text, as browsers read them (HTML section 13.2.5.72): numbers and a hundred old names
//! count without their semicolon too, so `v&#105agra` is a word.

use std::borrow::Cow;

/// `text` with its references undone.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let (meant, length) = match after.strip_prefix('#') {
            Some(number) => {
                numbered(number).map_or((None, 0), |(c, length)| (Some(Cow::from(c.to_string())), length + 1))
            }
            None => named(after),
        };
        match meant {
            Some(meant) => plain.push_str(&meant),
            None => plain.push('&'),
        }
        rest = after.get(length..).unwrap_or_default();
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// The character of the number that `text` begins with, and the bytes that it takes, a semicolon included.
fn numbered(text: &str) -> Option<(char, usize)> {
    let (digits, radix) = match text.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let count = digits.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
    let number = digits.get(..count).filter(|digits| !digits.is_empty())?;
    let length = text.len() - digits.len() + count;
    let length = length + usize::from(text.as_bytes().get(length) == Some(&b';'));
    // What is too big for the type is too big for a character.
    let number = u32::from_str_radix(number, radix).unwrap_or(u32::MAX);
    let c = match number {
        0x80..=0x9f => WINDOWS_1252.chars().nth(number as usize - 0x80),
        0 => None,
        other => char::from_u32(other),
    };
    Some((c.unwrap_or(char::REPLACEMENT_CHARACTER), length))
}

/// The same for a name.
fn named(text: &str) -> (Option<Cow<'_, str>>, usize) {
    let length = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let Some(name) = text.get(..length).filter(|name| !name.is_empty()) else { return (None, 0) };
    if text.as_bytes().get(length) == Some(&b';') && length <= LONGEST {
        let whole = format!("&{name};");
        let meant = html_escape::decode_html_entities(&whole);
        if meant != whole.as_str() {
            return (Some(Cow::Owned(meant.into_owned())), length + 1);
        }
    }
    let latin = LATIN_1.iter().zip('\u{a0}'..).map(|(old, c)| (*old, c));
    let old = latin.chain(OLD).filter(|(old, _)| name.starts_with(old)).max_by_key(|(old, _)| old.len());
    old.map_or((None, 0), |(old, c)| (Some(Cow::from(c.to_string())), old.len()))
}

/// The longest name there is, `CounterClockwiseContourIntegral`, has 31 letters.
const LONGEST: usize = 31;

/// Names that count without a semicolon, beside those of [`LATIN_1`].
const OLD: [(&str, char); 10] = [
    ("amp", '&'),
    ("AMP", '&'),
    ("lt", '<'),
    ("LT", '<'),
    ("gt", '>'),
    ("GT", '>'),
    ("quot", '"'),
    ("QUOT", '"'),
    ("COPY", '©'),
    ("REG", '®'),
];

/// The names of U+00A0 to U+00FF.
const LATIN_1: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf", "laquo", "not", "shy",
    "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro", "para", "middot", "cedil", "sup1", "ordm",
    "raquo", "frac14", "frac12", "frac34", "iquest", "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig",
    "Ccedil", "Egrave", "Eacute", "Ecirc", "Euml", "Igrave", "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve",
    "Oacute", "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute", "THORN",
    "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil", "egrave", "eacute", "ecirc",
    "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde", "ograve", "oacute", "ocirc", "otilde", "ouml",
    "divide", "oslash", "ugrave", "uacute", "ucirc", "uuml", "yacute", "thorn", "yuml",
];

/// What the numbers 128 to 159 mean: characters of an old code page, and controls where that has none.
const WINDOWS_1252: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_browsers_read_them() {
        let check = |text: &str, expected: &str| assert_eq!(decode(text), expected, "{text}");
        check("plain", "plain");
        check("a &amp; b &lt;c&gt; &#x41;&#66;", "a & b <c> AB");
        check("&amp;lt;", "&lt;");
        check("v&#105agra v&#x69;agra v&#X69 agra", "viagra viagra vi agra");
        check("&#118&#105&#97", "via");
        check("vi&shyagra &eacute;t&eacute &hearts;", "vi\u{ad}agra été ♥");
        check("&notit; &notin; &not; &copyright", "¬it; ∉ ¬ ©right");
        check("&nosuchname; &; & &# &#x &#; &#xg;", "&nosuchname; &; & &# &#x &#; &#xg;");
        check("&#0; &#128; &#x110000; &#xd800; &#99999999999999;", "\u{fffd} € \u{fffd} \u{fffd} \u{fffd}");
        check("&", "&");
        check("&ltgt;&LT;", "<gt;<");
        check("ä&ä;ä&auml;", "ä&ä;ää");
        assert_eq!(WINDOWS_1252.chars().count(), 32);
        for (at, name) in LATIN_1.iter().enumerate() {
            let c = char::from_u32(0xa0 + u32::try_from(at).unwrap()).unwrap();
            assert_eq!(html_escape::decode_html_entities(&format!("&{name};")), c.to_string());
            assert_eq!(decode(&format!("&{name} ")), format!("{c} "));
        }
    }
}

//! Reads a query: one character after another, by hand, in a few functions that call each other only for brackets. What
//! comes out is in the shape that [`Expr`] promises.

use super::{Expr, Fault, Leaf, NOTHING, Query, Sort, Wrong};
use crate::clock::Timestamp;
use crate::search::tokens::{Reading, tokens};
use crate::wire::document::{Prop, tag_key};

/// See [`super::MAX_BYTES`] and its neighbours.
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) depth: usize,
    pub(super) clauses: usize,
}

/// Reads `text` within `limits`.
pub(super) fn read(text: &str, limits: &Limits) -> Result<Query, Fault> {
    if text.len() > limits.bytes {
        let kept = text.get(..text.floor_char_boundary(limits.bytes)).unwrap_or_default();
        return Err(Fault { at: kept.chars().count() + 1, wrong: Wrong::TooLong });
    }
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader { chars: &chars, place: 0, depth: 0, clauses: 0, sort: Sort::default(), limits };
    let root = reader.group()?;
    match reader.peek() {
        Some(_) => Err(fault(reader.place, Wrong::StrayBracket)),
        None => Ok(Query { root, sort: reader.sort }),
    }
}

struct Reader<'a> {
    chars: &'a [char],
    place: usize,
    depth: usize,
    clauses: usize,
    sort: Sort,
    limits: &'a Limits,
}

impl Reader<'_> {
    /// Clauses up to the end or a closing bracket, which is left standing.
    fn group(&mut self) -> Result<Expr, Fault> {
        let mut members = Vec::new();
        loop {
            self.skip_space();
            match self.peek() {
                None | Some(')') => return Ok(all(members)),
                _ if self.skip_keyword("OR") => return Err(fault(self.place - 2, Wrong::LoneOr)),
                _ if self.skip_keyword("AND") => {}
                _ => members.push(self.alternatives()?),
            }
        }
    }

    /// A clause, and those that `OR` joins to it.
    fn alternatives(&mut self) -> Result<Expr, Fault> {
        let mut members = vec![self.clause()?];
        loop {
            self.skip_space();
            let keyword = self.place;
            if !self.skip_keyword("OR") {
                return Ok(any(members));
            }
            self.skip_space();
            if matches!(self.peek(), None | Some(')')) || self.at_keyword("OR") {
                return Err(fault(keyword, Wrong::LoneOr));
            }
            members.push(self.clause()?);
        }
    }

    /// Something with or without a minus. What says nothing (`:-)`, an empty phrase) is an empty [`Expr::All`].
    fn clause(&mut self) -> Result<Expr, Fault> {
        let mut minus = false;
        while let Some('-' | '+') = self.peek() {
            minus |= self.peek() == Some('-');
            self.place += 1;
        }
        let (begin, sort) = (self.place, self.sort);
        let expr = match self.peek() {
            Some('(') => self.brackets()?,
            Some('"') => self.phrase()?.map_or(NOTHING, Expr::Leaf),
            _ => self.run()?,
        };
        if minus && self.sort != sort {
            return Err(fault(begin, Wrong::SortWithin));
        }
        Ok(if minus { not(expr) } else { expr })
    }

    fn brackets(&mut self) -> Result<Expr, Fault> {
        let open = self.place;
        if self.depth == self.limits.depth {
            return Err(fault(self.place, Wrong::TooDeep));
        }
        self.depth += 1;
        self.place += 1;
        let expr = self.group()?;
        self.depth -= 1;
        if self.peek() != Some(')') {
            return Err(fault(open, Wrong::OpenBracket));
        }
        self.place += 1;
        Ok(expr)
    }

    /// A phrase; `None` if no words are within.
    fn phrase(&mut self) -> Result<Option<Leaf>, Fault> {
        let open = self.place;
        let text = self.quoted()?;
        if !has_tokens(&text) {
            return Ok(None);
        }
        self.count(open)?;
        Ok(Some(Leaf::Phrase(text)))
    }

    /// What is not in quotes or brackets: up to a space, a quote, or a bracket that closes one around it.
    fn run(&mut self) -> Result<Expr, Fault> {
        let begin = self.place;
        let (mut open, mut spoken) = (0_usize, false);
        while let Some(c) = self.peek() {
            match c {
                '"' => break,
                c if is_space(c) => break,
                // Of `f(x)` both belong to the word; smileys open and close nothing.
                '(' if spoken && !self.closes_soon() => break,
                '(' => open += 1,
                ')' if open == 0 && (self.depth > 0 || spoken) => break,
                ')' => open = open.saturating_sub(1),
                c => spoken |= c.is_alphanumeric(),
            }
            self.place += 1;
        }
        let text: String = self.chars.get(begin..self.place).unwrap_or_default().iter().collect();
        if let Some(at) = text.chars().position(|c| plain(c) == ':')
            && !is_web_address(&text)
            && let name = text.chars().take(at).map(plain).collect::<String>().to_lowercase()
            && let Some(operator) = Operator::named(&name)
        {
            let mut value: String = text.chars().skip(at + 1).collect();
            if value.is_empty() && self.peek() == Some('"') {
                value = self.quoted()?;
            }
            return self.operator(operator, &value, begin, begin + at + 1);
        }
        let mut members = self.words(&text, begin)?;
        if text.chars().last().is_some_and(|c| plain(c) == ':')
            && self.peek() == Some('"')
            && let Some(phrase) = self.phrase()?
        {
            members.push(Expr::Leaf(phrase));
        }
        Ok(all(members))
    }

    /// From a quote to the next one, whichever glyphs they are.
    fn quoted(&mut self) -> Result<String, Fault> {
        let open = self.place;
        let text: String = self.chars.iter().skip(open + 1).take_while(|c| plain(**c) != '"').collect();
        self.place += 1 + text.chars().count();
        if self.peek().is_none() {
            return Err(fault(open, Wrong::OpenQuote));
        }
        self.place += 1;
        Ok(text)
    }

    /// Whether the bracket here is closed before the next space or quote.
    fn closes_soon(&self) -> bool {
        let mut open = 0_usize;
        for c in self.chars.iter().skip(self.place).copied().map(plain).take_while(|c| *c != '"' && !is_space(*c)) {
            match c {
                '(' => open += 1,
                ')' if open == 1 => return true,
                ')' => open -= 1,
                _ => {}
            }
        }
        false
    }

    fn operator(&mut self, operator: Operator, value: &str, begin: usize, at: usize) -> Result<Expr, Fault> {
        if matches!(operator, Operator::Sort | Operator::In) {
            return self.setting(operator, value, begin, at);
        }
        let (mut members, mut place) = (Vec::new(), at);
        for one in value.split([',', '，', '、']) {
            let length = one.chars().count();
            let one = one.trim_start_matches(|c: char| c == '@' || c.is_whitespace()).trim_end().to_lowercase();
            if !one.is_empty() {
                self.count(begin)?;
                members.push(operator.leaf(&one).map_err(|wrong| fault(place, wrong))?);
            }
            place += length + 1;
        }
        if members.is_empty() {
            return Err(fault(begin, Wrong::NoValue));
        }
        Ok(any(members))
    }

    /// Operators that are no condition on posts, or were none where they come from.
    fn setting(&mut self, operator: Operator, value: &str, begin: usize, at: usize) -> Result<Expr, Fault> {
        let value = value.to_lowercase();
        match (operator, value.as_str()) {
            (Operator::In, "library") => {
                self.count(begin)?;
                return Ok(Expr::Leaf(Leaf::Library));
            }
            (Operator::In, _) => return Ok(NOTHING),
            (_, "") => return Err(fault(begin, Wrong::NoValue)),
            (_, "newest" | "desc") => self.sort = Sort::Newest,
            (_, "relevance") => self.sort = Sort::Relevance,
            _ => return Err(fault(at, Wrong::Sort)),
        }
        if self.depth > 0 { Err(fault(begin, Wrong::SortWithin)) } else { Ok(NOTHING) }
    }

    /// The words of a run: as Mastodon has it, `foo:bar` are two. Signs that would mean something elsewhere are left out.
    fn words(&mut self, text: &str, begin: usize) -> Result<Vec<Expr>, Fault> {
        let pieces: Vec<&str> = text
            .split(|c| matches!(plain(c), '(' | ')'))
            .flat_map(|part| part.split(|c| plain(c) == ':' && !is_web_address(part)))
            .collect();
        let mut members = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let word = piece.trim_end_matches(|c| plain(c) == '*');
            let starred = word.len() < piece.len() && index + 1 == pieces.len() && !is_web_address(word);
            let tag = word.chars().next().filter(|c| plain(*c) == '#').and_then(|sign| word.strip_prefix(sign));
            let word = word.trim_start_matches(|c| matches!(plain(c), '-' | '+' | '#' | '*')).to_lowercase();
            let leaf = match tag.and_then(|tag| tag_key(tag.trim_end_matches(is_full_stop))) {
                Some(key) if starred => Leaf::TagPrefix(key),
                Some(key) => Leaf::Tag(key),
                None if !has_tokens(&word) => continue,
                None if starred => Leaf::Prefix(word),
                None => Leaf::Word(word),
            };
            self.count(begin)?;
            members.push(Expr::Leaf(leaf));
        }
        Ok(members)
    }

    fn count(&mut self, place: usize) -> Result<(), Fault> {
        self.clauses += 1;
        if self.clauses > self.limits.clauses { Err(fault(place, Wrong::TooMany)) } else { Ok(()) }
    }

    /// The next character, by what it means to the grammar.
    fn peek(&self) -> Option<char> {
        self.chars.get(self.place).map(|c| plain(*c))
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.place += 1;
        }
    }

    fn at_keyword(&self, word: &str) -> bool {
        let rest = self.chars.get(self.place..).unwrap_or_default();
        let after = rest.get(word.len()).copied().map(plain);
        rest.iter().take(word.len()).copied().eq(word.chars())
            && after.is_none_or(|c| is_space(c) || matches!(c, '(' | ')' | '"'))
    }

    fn skip_keyword(&mut self, word: &str) -> bool {
        let there = self.at_keyword(word);
        if there {
            self.place += word.len();
        }
        there
    }
}

/// A fault at this place, which is counted from 0.
const fn fault(place: usize, wrong: Wrong) -> Fault {
    Fault { at: place + 1, wrong }
}

#[derive(Clone, Copy)]
enum Operator {
    From,
    Domain,
    Language,
    Property,
    Before,
    After,
    During,
    In,
    Sort,
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "from" => Self::From,
            "domain" => Self::Domain,
            "language" => Self::Language,
            "has" | "is" => Self::Property,
            "before" => Self::Before,
            "after" => Self::After,
            "during" => Self::During,
            "in" => Self::In,
            "sort" | "order" => Self::Sort,
            _ => return None,
        })
    }

    /// What one value of it means. The value is in lower case and not empty.
    fn leaf(self, value: &str) -> Result<Expr, Wrong> {
        let leaf = match self {
            Self::From => Leaf::From(value.to_owned()),
            Self::Domain => Leaf::Domain(value.to_owned()),
            // Mastodon compares base languages: pt-BR finds pt.
            Self::Language => {
                let base = value.split(['-', '_']).next().filter(|base| !base.is_empty());
                Leaf::Language(base.unwrap_or(value).to_owned())
            }
            Self::Property => Leaf::Prop(prop(value).ok_or(Wrong::Property)?),
            Self::Before | Self::After | Self::During | Self::In | Self::Sort => {
                let (first, next) = span(value).ok_or(Wrong::Date)?;
                match self {
                    Self::Before => Leaf::Before(first),
                    Self::After => Leaf::After(next - 1),
                    _ if first == 0 => Leaf::Before(next),
                    _ => {
                        let bounds = [Leaf::After(first - 1), Leaf::Before(next)];
                        return Ok(Expr::All(bounds.map(Expr::Leaf).to_vec()));
                    }
                }
            }
        };
        Ok(Expr::Leaf(leaf))
    }
}

fn prop(name: &str) -> Option<Prop> {
    // What Mastodon calls an embed is a link whose preview plays; we make no previews, and know the link.
    Prop::named(if name == "embed" { "link" } else { name })
}

/// The milliseconds that a day, a month or a moment spans: the first, and the first that is no more of it. UTC, and
/// never before 1970 or after 9999.
fn span(value: &str) -> Option<(i64, i64)> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        let millis = value.parse::<i64>().ok()?.min(LAST_MILLI);
        return Some((millis, millis + 1));
    }
    let day = |date: &str| Timestamp::from_rfc3339(&format!("{date}T00:00:00Z")).map(Timestamp::millis);
    let (first, next) = match value.as_bytes() {
        [_, _, _, _, b'-', _, _] => {
            let (year, month) = value.split_once('-')?;
            let (year, month) = (year.parse::<u16>().ok()?, month.parse::<u8>().ok()?);
            let (later_year, later) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            let next =
                if later_year > 9999 { Some(LAST_MILLI) } else { day(&format!("{later_year:04}-{later:02}-01")) };
            (day(&format!("{year:04}-{month:02}-01"))?, next?)
        }
        [_, _, _, _, b'-', _, _, b'-', _, _] => {
            let first = day(value)?;
            (first, first + 86_400_000)
        }
        _ => {
            let millis = Timestamp::from_rfc3339(&value.to_uppercase())?.millis();
            (millis, millis + 1)
        }
    };
    Some((first.clamp(0, LAST_MILLI), next.clamp(1, LAST_MILLI + 1)))
}

/// The end of the year 9999.
const LAST_MILLI: i64 = 253_402_300_799_999;

fn all(members: Vec<Expr>) -> Expr {
    let mut flat = Vec::with_capacity(members.len());
    for member in members {
        match member {
            Expr::All(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    one_of(flat, Expr::All)
}

fn any(members: Vec<Expr>) -> Expr {
    let mut flat = Vec::with_capacity(members.len());
    for member in members {
        match member {
            Expr::Any(inner) => flat.extend(inner),
            other if other == NOTHING => {}
            other => flat.push(other),
        }
    }
    one_of(flat, Expr::Any)
}

fn one_of(mut members: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match members.len() {
        0 => NOTHING,
        1 => members.swap_remove(0),
        _ => many(members),
    }
}

fn not(expr: Expr) -> Expr {
    match expr {
        Expr::Not(inner) => *inner,
        expr if expr == NOTHING => expr,
        expr => Expr::Not(Box::new(expr)),
    }
}

fn has_tokens(text: &str) -> bool {
    let mut some = false;
    tokens(text, |token| some |= !matches!(token.reading, Reading::Part | Reading::Tail));
    some
}

fn is_web_address(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// What ends a sentence, and is no part of a tag in front of it.
const fn is_full_stop(c: char) -> bool {
    matches!(c, '.' | ',' | ';' | '!' | '?' | '。' | '、' | '，' | '！' | '？' | '…')
}

/// Spaces, and what is not visible at all.
fn is_space(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// A character by what it means here: all quotes are one, and the wide signs of East Asian keyboards are the narrow ones.
const fn plain(c: char) -> char {
    match c {
        '„' | '“' | '”' | '‟' | '«' | '»' | '「' | '」' | '『' | '』' | '《' | '》' | '〈' | '〉' | '‹' | '›'
        | '〝' | '〞' | '〟' | '＂' | '｢' | '｣' | '﹁' | '﹂' | '﹃' | '﹄' => '"',
        '（' => '(',
        '）' => ')',
        '：' => ':',
        '＃' => '#',
        '＊' => '*',
        '－' | '−' => '-',
        '＋' => '+',
        other => other,
    }
}

//! Lists of servers that somebody publishes, as bytes: the CSV that Mastodon exports and reads (columns by name, in any
//! order), and plain lists with one name per line. Pure; which rules come of a list is told before anything is changed
//! ([`diff`]).
//!
//! Promises: any bytes are read or refused, never a panic; sizes are bounded; each bad row is named by its line; a name
//! that was made unreadable (`ev*l.example`) is refused, named and counted, never guessed.
//!
//! **The brake.** What a list that is followed would change at once is measured against what it has brought ([`Diff::share`]):
//! over [`BRAKE`] percent it takes a person to say yes, since a list may be emptied, replaced or taken over where it is
//! published.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use csv::{ByteRecord, ReaderBuilder, StringRecord, Trim};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::rules::RuleSet;
use crate::clock::Timestamp;
use crate::ids::{Authority, turns};
use crate::store::{MAX_REASON, Rule, RuleChange, Severity, Source, Target};

/// The largest list, in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// The most rows.
pub const MAX_ROWS: usize = 100_000;
/// The most columns of a row.
const MAX_COLUMNS: usize = 32;
/// Rows of more fields are not even taken apart: the reader notes where each field ends, and a row may be as long as a list.
const MAX_TAKEN_APART: usize = 1000;
/// The longest field, in bytes.
const MAX_FIELD: usize = 4096;
/// Bad rows that are named; more are only counted.
const MAX_NAMED: usize = 100;
/// Percent of what a list brought that an update may change without being approved.
pub const BRAKE: u32 = 10;
/// What is shown of a bad name.
const SHOWN: usize = 80;

/// Why a list is not read at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListFault {
    /// Over [`MAX_BYTES`].
    #[error("the list is over {MAX_BYTES} bytes")]
    TooBig,
    /// Over [`MAX_ROWS`].
    #[error("line {line}: the list has more than {MAX_ROWS} rows")]
    TooManyRows {
        /// Where it was noticed.
        line: u64,
    },
    /// Not text.
    #[error("line {line}: this is no UTF-8 text; save the list as UTF-8")]
    NotText {
        /// The line with the first bad byte.
        line: u64,
    },
    /// The head of the columns is not one we know.
    #[error("line {line}: {why}")]
    Head {
        /// Its line.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// One row that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BadRow {
    /// Its line, from 1.
    pub line: u64,
    /// The column, by name, where there are columns.
    pub column: Option<&'static str>,
    /// What is wrong with it.
    pub why: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The server.
    pub name: Authority,
    /// What the list asks for; `None` where it does not say.
    pub severity: Option<Severity>,
    /// Its public comment.
    pub comment: String,
    /// Its line.
    pub line: u64,
}

/// A list that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The good rows, each name once, in the order of the list.
    pub rows: Vec<Row>,
    /// The bad ones: the first hundred.
    pub bad: Vec<BadRow>,
    /// How many bad ones there are.
    pub bad_count: usize,
    /// Rows whose name was made unreadable: the first hundred.
    pub obfuscated: Vec<BadRow>,
    /// How many of them there are.
    pub obfuscated_count: usize,
    /// Rows that ask for nothing (`noop`).
    pub noop: usize,
    /// Names that came again; the harsher row counts.
    pub repeated: usize,
}

/// Reads a list of either kind.
///
/// # Errors
/// [`ListFault`] if it is too big, no text, or has a head without a column `#domain`.
pub fn parse(bytes: &[u8]) -> Result<List, ListFault> {
    if bytes.len() > MAX_BYTES {
        return Err(ListFault::TooBig);
    }
    let text = std::str::from_utf8(bytes).map_err(|fault| {
        let before = bytes.get(..fault.valid_up_to()).unwrap_or_default();
        ListFault::NotText { line: lines_in(before) }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match head(text)? {
        Some(head) => columns(text, &head),
        None => plain(text),
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    1 + bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Where the columns are that mean something here.
struct Head {
    /// The head's own line: what follows are rows.
    line: u64,
    width: usize,
    domain: usize,
    severity: Option<usize>,
    comment: Option<usize>,
    flags: Vec<(usize, &'static str)>,
}

/// The head, if the first line that is not empty is one: the only line in which a field is called `#domain`.
fn head(text: &str) -> Result<Option<Head>, ListFault> {
    let Some((index, first)) = text.lines().enumerate().find(|(_, line)| !line.trim().is_empty()) else {
        return Ok(None);
    };
    let line = index as u64 + 1;
    let fault = |why: String| Err(ListFault::Head { line, why });
    if first.len() > MAX_FIELD {
        return fault(format!("the first line is over {MAX_FIELD} bytes"));
    }
    let mut record = StringRecord::new();
    let read =
        ReaderBuilder::new().has_headers(false).trim(Trim::All).from_reader(first.as_bytes()).read_record(&mut record);
    if !matches!(read, Ok(true)) {
        return Ok(None);
    }
    let plain = |name: &str| name.trim_start_matches('#').trim().to_ascii_lowercase();
    let names: Vec<String> = record.iter().map(plain).collect();
    let find = |wanted: &str| names.iter().position(|name| name == wanted);
    let Some(domain) = find("domain") else {
        // The head of some other table, such as accounts.
        let known = ["severity", "public_comment", "reject_media"].iter().any(|name| find(name).is_some());
        return if known { fault("the head has no column #domain".to_owned()) } else { Ok(None) };
    };
    if names.len() > MAX_COLUMNS {
        return fault(format!("more than {MAX_COLUMNS} columns"));
    }
    let named: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    if named.iter().collect::<HashSet<_>>().len() != named.len() {
        return fault("two columns have the same name".to_owned());
    }
    let flag = |name: &'static str| find(name).map(|at| (at, name));
    let flags = [flag("reject_media"), flag("reject_reports"), flag("obfuscate")].into_iter().flatten().collect();
    let (severity, comment) = (find("severity"), find("public_comment"));
    Ok(Some(Head { line, width: names.len(), domain, severity, comment, flags }))
}

fn columns(text: &str, head: &Head) -> Result<List, ListFault> {
    let (text, wide) = without_wide_rows(text.as_bytes());
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).trim(Trim::All).from_reader(text.as_ref());
    let (mut list, mut record, mut count) = (Gathered::default(), ByteRecord::new(), 0);
    let mut lines = Lines::of(&text);
    for start in wide {
        let why = format!("more than {MAX_TAKEN_APART} fields: is this a list of servers?");
        list.refuse(lines.at(start as u64), None, why);
    }
    let mut lines = Lines::of(&text);
    // Neither can fail in memory and flexibly; if one does, the rest is unreadable, and that is a bad row.
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                list.refuse(lines.at(reader.position().byte()), None, error.to_string());
                break;
            }
        }
        let line = lines.at(record.position().map_or(0, csv::Position::byte));
        if line <= head.line {
            continue;
        }
        count += 1;
        if count > MAX_ROWS {
            return Err(ListFault::TooManyRows { line });
        }
        read_row(&mut list, head, &record, line);
    }
    Ok(list.done())
}

/// The text with rows of too many fields made blank, each byte of them but for line ends, and where they began. It goes by
/// fields and quotation marks as the reader does.
fn without_wide_rows(text: &[u8]) -> (Cow<'_, [u8]>, Vec<usize>) {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Row,
        Field,
        Plain,
        Quoted,
        /// Behind a mark within marks: it ends the field, or is one of two.
        Mark,
    }
    let (mut at, mut start, mut fields, mut wide) = (At::Row, 0, 1, Vec::new());
    for (place, byte) in text.iter().chain(b"\n").enumerate() {
        if at == At::Row && !matches!(byte, b'\r' | b'\n') {
            (at, start, fields) = (At::Field, place, 1);
        }
        at = match (at, byte) {
            (At::Quoted, b'"') => At::Mark,
            (At::Quoted, _) => At::Quoted,
            (At::Field | At::Mark, b'"') => At::Quoted,
            (At::Row, _) => At::Row,
            (_, b'\r' | b'\n') => {
                if fields > MAX_TAKEN_APART {
                    wide.push(start..place);
                }
                At::Row
            }
            (_, b',') => {
                fields += 1;
                At::Field
            }
            _ => At::Plain,
        };
    }
    // A mark that is never closed: the row goes to the end.
    if at == At::Quoted && fields > MAX_TAKEN_APART {
        wide.push(start..text.len());
    }
    if wide.is_empty() {
        return (Cow::Borrowed(text), Vec::new());
    }
    let mut blank = text.to_vec();
    for row in &wide {
        let bytes = blank.get_mut(row.clone()).unwrap_or_default();
        bytes.iter_mut().filter(|byte| !matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    }
    (Cow::Owned(blank), wide.into_iter().map(|row| row.start).collect())
}

/// Counts lines up to a place that only moves forward. The reader's own count leaves out what it skips: empty lines, and
/// the second half of a CRLF.
struct Lines<'a> {
    rest: &'a [u8],
    at: u64,
    line: u64,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self { rest: text, at: 0, line: 1 }
    }

    /// The line of the first byte from `place` on that ends no line.
    fn at(&mut self, place: u64) -> u64 {
        while let Some((byte, rest)) = self.rest.split_first() {
            if self.at >= place && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(*byte == b'\n');
            (self.rest, self.at) = (rest, self.at + 1);
        }
        self.line
    }
}

fn read_row(list: &mut Gathered, head: &Head, record: &ByteRecord, line: u64) {
    if record.iter().all(<[u8]>::is_empty) {
        return;
    }
    let field = |at: usize| record.get(at).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    if record.iter().any(|field| field.len() > MAX_FIELD) {
        return list.refuse(line, None, format!("a field is over {MAX_FIELD} bytes: is a quotation mark missing?"));
    }
    let name = field(head.domain);
    if name.starts_with('#') {
        return;
    }
    if record.len() > head.width {
        let why = format!("{} fields under {} columns: is a comma in a comment not quoted?", record.len(), head.width);
        return list.refuse(line, None, why);
    }
    for (at, flag) in &head.flags {
        if !["", "true", "false"].contains(&field(*at).to_ascii_lowercase().as_str()) {
            return list.refuse(line, Some(flag), format!("{:?} is neither true nor false", shown(field(*at))));
        }
    }
    let severity = match head.severity.map(|at| field(at).to_ascii_lowercase()).as_deref() {
        None => None,
        Some("suspend") => Some(Severity::Block),
        Some("silence") => Some(Severity::Silence),
        Some("no-search") => Some(Severity::NoSearch),
        Some("noop") => {
            list.list.noop += 1;
            return;
        }
        Some(other) => {
            let why = format!("{:?} is none of suspend, silence, no-search, noop", shown(other));
            return list.refuse(line, Some("severity"), why);
        }
    };
    list.take(name, severity, head.comment.map(field).unwrap_or_default(), line);
}

fn plain(text: &str) -> Result<List, ListFault> {
    let mut list = Gathered::default();
    let mut count = 0;
    for (index, text) in text.lines().enumerate() {
        let line = index as u64 + 1;
        let name = text.split('#').next().unwrap_or_default().trim();
        if name.is_empty() {
            continue;
        }
        count += 1;
        if count > MAX_ROWS {
            return Err(ListFault::TooManyRows { line });
        }
        if name.contains([',', ';', '\t']) {
            list.refuse(line, None, "several columns, and no head that names them (#domain,#severity,…)".to_owned());
        } else {
            list.take(name, None, "", line);
        }
    }
    Ok(list.done())
}

/// A list in the making.
#[derive(Default)]
struct Gathered {
    list: List,
    /// Where each name stands among the rows.
    places: BTreeMap<Authority, usize>,
}

impl Gathered {
    fn refuse(&mut self, line: u64, column: Option<&'static str>, why: String) {
        self.list.bad_count += 1;
        if self.list.bad.len() < MAX_NAMED {
            self.list.bad.push(BadRow { line, column, why });
        }
    }

    fn take(&mut self, text: &str, severity: Option<Severity>, comment: &str, line: u64) {
        if text.contains('*') {
            self.list.obfuscated_count += 1;
            if self.list.obfuscated.len() < MAX_NAMED {
                let why = format!("{:?} is obfuscated: nobody can know which server is meant", shown(text));
                self.list.obfuscated.push(BadRow { line, column: Some("domain"), why });
            }
            return;
        }
        let name = match server(text) {
            Ok(name) => name,
            Err(why) => return self.refuse(line, Some("domain"), format!("{:?} {why}", shown(text))),
        };
        // It is shown in tables and told in sentences: what would end a line, or turn its order round, is a space.
        let plain = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
        let comment = comment.chars().map(plain).take(MAX_REASON).collect();
        let row = Row { name, severity, comment, line };
        match self.places.get(&row.name).and_then(|at| self.list.rows.get_mut(*at)) {
            None => {
                self.places.insert(row.name.clone(), self.list.rows.len());
                self.list.rows.push(row);
            }
            Some(before) => {
                self.list.repeated += 1;
                if row.severity > before.severity {
                    *before = row;
                }
            }
        }
    }

    fn done(mut self) -> List {
        self.list.bad.sort_by_key(|row| row.line);
        self.list
    }
}

/// A list names servers by domain: an address, a port, a whole top-level domain or another name that anybody may have one
/// below (`co.uk`, `github.io`) in one is a mistake, and a costly one.
fn server(text: &str) -> Result<Authority, &'static str> {
    if text.len() > 255 {
        return Err("is too long for a server's name");
    }
    let Ok(Target::Domain(name)) = format!("domain:{text}").parse() else { return Err("is no server's name") };
    let host = name.host();
    if host.len() != name.as_str().len() {
        return Err("has a port: give the name alone");
    }
    if host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok() {
        return Err("is an address, not a name");
    }
    if !host.contains('.') {
        return Err("is a whole top-level domain: block it by command if you mean it");
    }
    if psl::domain_str(host).is_none() {
        return Err("is a public suffix, below which anybody may have a server: block it by command if you mean it");
    }
    Ok(name)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// A rule that is to say something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// What it says.
    pub before: Rule,
    /// What it would say.
    pub after: Rule,
}

/// What a list would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Rules that are new.
    pub add: Vec<Rule>,
    /// Rules that say something else than before.
    pub change: Vec<Altered>,
    /// Rules that stay as they are.
    pub same: usize,
    /// Rules of this list that it does not have any more.
    pub remove: Vec<Rule>,
}

impl Diff {
    /// How much of what the list has brought is changed, in percent, rounded up. Where it has brought nothing yet, all.
    #[must_use]
    pub fn share(&self) -> u32 {
        let changed = self.add.len() + self.change.len() + self.remove.len();
        let before = self.same + self.change.len() + self.remove.len();
        match (changed, before) {
            (0, _) => 0,
            (_, 0) => 100,
            (changed, before) => u32::try_from((changed * 100).div_ceil(before)).unwrap_or(u32::MAX),
        }
    }

    /// The same as changes to make.
    #[must_use]
    pub fn changes(&self) -> Vec<RuleChange> {
        let put = self.add.iter().chain(self.change.iter().map(|one| &one.after)).cloned().map(RuleChange::Put);
        let remove = self.remove.iter().map(|rule| RuleChange::Remove(rule.target.clone(), rule.source.clone()));
        put.chain(remove).collect()
    }

    /// How many of them take back something: rules that go, that say less than before, or that exempt.
    #[must_use]
    pub fn milder(&self) -> usize {
        let exempts = self.add.iter().filter(|rule| rule.severity == Severity::Allow).count();
        let less = self.change.iter().filter(|one| one.after.severity < one.before.severity).count();
        self.remove.len() + exempts + less
    }

    /// The same without words of the publisher that nobody has looked at: what is new has no comment, what is changed keeps
    /// the one it has. And how many comments that leaves out.
    #[must_use]
    pub fn without_comments(&self) -> (Self, usize) {
        let (mut quiet, mut left_out) = (self.clone(), 0);
        for rule in &mut quiet.add {
            left_out += usize::from(!rule.reason.is_empty());
            rule.reason.clear();
        }
        for one in &mut quiet.change {
            left_out += usize::from(one.after.reason != one.before.reason);
            one.after.reason.clone_from(&one.before.reason);
        }
        let all = quiet.change.len();
        quiet.change.retain(|one| one.after.severity != one.before.severity || one.before.expires.is_some());
        quiet.same += all - quiet.change.len();
        (quiet, left_out)
    }

    /// What is new, what changes and what goes, in words. Comments stand there as they would be told, since they are told in
    /// the operator's name.
    #[must_use]
    pub fn in_words(&self) -> [Vec<String>; 3] {
        let new = |rule: &Rule| match rule.reason.as_str() {
            "" => rule.in_words(),
            comment => format!("{}, comment {comment:?}", rule.in_words()),
        };
        let changed = |Altered { before, after }: &Altered| {
            let mut text = after.in_words();
            if before.severity != after.severity {
                text.push_str(&format!(" (was {})", before.severity.as_str()));
            }
            if before.expires.is_some() {
                text.push_str(", without an end again");
            }
            if before.reason != after.reason {
                text.push_str(&format!(", comment {:?} → {:?}", before.reason, after.reason));
            }
            text
        };
        [
            self.add.iter().map(new).collect(),
            self.change.iter().map(changed).collect(),
            self.remove.iter().map(Rule::in_words).collect(),
        ]
    }
}

/// How `list` differs from what `source` brought before. Rows that do not say ask for `otherwise`; `replace` takes out
/// what the list does not have any more. What others said of the same servers is left alone.
#[must_use]
pub fn diff(list: &List, source: &Source, otherwise: Severity, replace: bool, rules: &RuleSet, now: Timestamp) -> Diff {
    let known: BTreeMap<&Target, &Rule> =
        rules.iter().filter(|one| one.rule.source == *source).map(|one| (&one.rule.target, &one.rule)).collect();
    let (mut diff, mut named) = (Diff::default(), HashSet::new());
    for row in &list.rows {
        let target = Target::Domain(row.name.clone());
        let severity = row.severity.unwrap_or(otherwise);
        let rule = Rule { reason: row.comment.clone(), ..Rule::new(target.clone(), severity, source.clone(), now) };
        match known.get(&target) {
            None => diff.add.push(rule),
            Some(before) if before.severity == severity && before.reason == rule.reason && before.is_in_force(now) => {
                diff.same += 1;
            }
            Some(before) => {
                let after = Rule { note: before.note.clone(), dry_run: before.dry_run, ..rule };
                diff.change.push(Altered { before: (*before).clone(), after });
            }
        }
        named.insert(target);
    }
    if replace {
        diff.remove =
            known.into_iter().filter(|(target, _)| !named.contains(target)).map(|(_, rule)| rule.clone()).collect();
    }
    diff
}

/// The domain rules in force as the CSV that Mastodon reads, of one source or of all. What it has no word for (allow,
/// no-search, ports, addresses, actors, software, keywords, rules on trial) is left out, and so is what no list may name.
#[must_use]
pub fn export(rules: &RuleSet, source: Option<&Source>, now: Timestamp) -> Vec<u8> {
    let mut rows: BTreeMap<&str, &Rule> = BTreeMap::new();
    let wanted =
        |rule: &Rule| rule.is_in_force(now) && !rule.dry_run && source.is_none_or(|source| rule.source == *source);
    for one in rules.iter().filter(|one| wanted(&one.rule)) {
        let Target::Domain(name) = &one.rule.target else { continue };
        if matches!(one.rule.severity, Severity::Allow | Severity::NoSearch) || server(name.as_str()).is_err() {
            continue;
        }
        let kept = rows.entry(name.as_str()).or_insert(&one.rule);
        if (one.rule.severity, !one.rule.source.is_list()) > (kept.severity, !kept.source.is_list()) {
            *kept = &one.rule;
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = ["#domain", "#severity", "#reject_media", "#reject_reports", "#public_comment", "#obfuscate"];
    // Writing to memory does not fail.
    let _ = writer.write_record(head);
    for (name, rule) in rows {
        let severity = if rule.severity == Severity::Block { "suspend" } else { "silence" };
        // What a list wrote goes to whoever opens this in a spreadsheet, where such a text would be a formula.
        let comment = rule.reason.trim_start_matches(|c: char| "=+-@".contains(c) || c.is_whitespace());
        let _ = writer.write_record([name, severity, "false", "false", comment, "false"]);
    }
    writer.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);
    const HEAD: &str = "#domain,#severity,#reject_media,#reject_reports,#public_comment,#obfuscate";

    fn names(list: &List) -> Vec<(&str, Option<Severity>)> {
        list.rows.iter().map(|row| (row.name.as_str(), row.severity)).collect()
    }

    fn bad_lines(list: &List) -> Vec<u64> {
        list.bad.iter().map(|row| row.line).collect()
    }

    #[test]
    fn the_export_of_mastodon_is_read_whatever_its_columns_and_line_ends() {
        let text = format!(
            "\u{feff}{HEAD}\r\nevil.example,suspend,True,true,\"spam, and \"\"worse\"\"\",false\r\n\
             Loud.Example,silence,FALSE,False,,TRUE\r\n\r\nfine.example,noop,false,false,,false\r\n\
             ev*l.exa**le,suspend,false,false,,true\r\nbücher.example,suspend,,,,\r\n"
        );
        let list = parse(text.as_bytes()).unwrap();
        let (block, silence) = (Some(Severity::Block), Some(Severity::Silence));
        let ours = parse(b"domain,severity\nquiet.example,no-search\n").unwrap();
        assert_eq!(names(&ours), [("quiet.example", Some(Severity::NoSearch))]);
        assert_eq!(
            names(&list),
            [("evil.example", block), ("loud.example", silence), ("xn--bcher-kva.example", block)]
        );
        assert_eq!(list.rows[0].comment, "spam, and \"worse\"");
        assert_eq!((list.noop, list.obfuscated_count, list.bad_count), (1, 1, 0));
        assert_eq!(list.obfuscated.iter().map(|row| row.line).collect::<Vec<_>>(), [6], "{:?}", list.obfuscated);
        let turned =
            "public_comment,extra,severity,domain\n,1,suspend,evil.example\n# a comment,,,\n,,silence,#off.example";
        let list = parse(turned.as_bytes()).unwrap();
        assert_eq!(names(&list), [("evil.example", block)]);
        // The second is a row without severity and domain: the comment stands in another column.
        assert_eq!(bad_lines(&list), [3]);
        let list = parse(b"#domain\nevil.example\n").unwrap();
        assert_eq!(names(&list), [("evil.example", None)]);
    }

    #[test]
    fn a_plain_list_has_one_name_per_line_and_comments() {
        let text = "\u{feff}# servers we had trouble with\r\nevil.example\r\n\r\n  Loud.example.  # loud\r\n.dot.example\n\
                    ev*l.example\n*.star.example\nbücher.example";
        let list = parse(text.as_bytes()).unwrap();
        let expected = ["evil.example", "loud.example", "dot.example", "xn--bcher-kva.example"];
        assert_eq!(names(&list), expected.map(|name| (name, None)));
        assert_eq!((list.obfuscated_count, list.bad_count), (2, 0));
        assert_eq!(list.obfuscated.iter().map(|row| row.line).collect::<Vec<_>>(), [6, 7]);
        assert_eq!(parse(b"").unwrap(), List::default());
        assert_eq!(parse(b"\xef\xbb\xbf\r\n# nothing\r\n").unwrap(), List::default());
    }

    #[test]
    fn a_bad_row_is_named_by_line_and_column_and_the_others_are_read() {
        let check = |row: &str, column: Option<&str>, says: &str| {
            let text = format!("{HEAD}\nfirst.example,suspend,,,,\n{row}\nlast.example,silence,,,,\n");
            let list = parse(text.as_bytes()).unwrap();
            assert_eq!(list.rows.len(), 2, "{row}: {list:?}");
            let [bad] = list.bad.as_slice() else { panic!("{row}: {list:?}") };
            assert_eq!((bad.line, bad.column), (3, column), "{row}: {bad:?}");
            assert!(bad.why.contains(says), "{row}: {bad:?}");
        };
        check("evil.example,destroy,,,,", Some("severity"), "none of suspend");
        check("evil.example", Some("severity"), "none of suspend");
        check("evil.example,suspend,perhaps,,,", Some("reject_media"), "neither true nor false");
        check("evil.example,suspend,,,,2", Some("obfuscate"), "neither true nor false");
        check("evil.example,suspend,,,a, comma,", None, "not quoted");
        check("https://evil.example/,suspend,,,,", Some("domain"), "no server's name");
        check("evil example,suspend,,,,", Some("domain"), "no server's name");
        check(",suspend,,,,", Some("domain"), "no server's name");
        check("example,suspend,,,,", Some("domain"), "top-level");
        check("co.uk,suspend,,,,", Some("domain"), "public suffix");
        check("GitHub.io,suspend,,,,", Some("domain"), "public suffix");
        check(&format!("evil.example{}", ",".repeat(5000)), None, "more than 1000 fields");
        check(&format!("evil.example{}", ",\"a\n\",,".repeat(3000)), None, "more than 1000 fields");
        check("evil.example:8443,suspend,,,,", Some("domain"), "port");
        check("127.0.0.1,suspend,,,,", Some("domain"), "address");
        check("2130706433,suspend,,,,", Some("domain"), "address");
        check("[::1],suspend,,,,", Some("domain"), "address");
        check(&format!("{}.example,suspend,,,,", "x".repeat(300)), Some("domain"), "too long");
        check(&format!("evil.example,suspend,,,{},", "x".repeat(5000)), None, "4096");
        let list = parse(b"evil.example,suspend\nfine.example\n").unwrap();
        assert_eq!((names(&list), bad_lines(&list)), (vec![("fine.example", None)], vec![1]));
    }

    #[test]
    fn what_is_no_list_is_refused_whole() {
        assert_eq!(parse(&vec![b'x'; MAX_BYTES + 1]), Err(ListFault::TooBig));
        assert_eq!(parse(b"a.example\nb\xff.example\n"), Err(ListFault::NotText { line: 2 }));
        assert_eq!(parse(b"\xff\xfea\0.\0"), Err(ListFault::NotText { line: 1 }));
        let many = "*\n".repeat(MAX_ROWS + 1);
        assert_eq!(parse(many.as_bytes()), Err(ListFault::TooManyRows { line: MAX_ROWS as u64 + 1 }));
        let many = format!("#domain\n{}", "*\n".repeat(MAX_ROWS + 1));
        assert!(matches!(parse(many.as_bytes()), Err(ListFault::TooManyRows { .. })));
        let columns: String = (0..MAX_COLUMNS).map(|column| format!(",x{column}")).collect();
        let long = "x".repeat(MAX_FIELD + 1);
        for head in ["name,severity", "#domain,domain", &format!("domain{columns}"), &long] {
            assert!(matches!(parse(head.as_bytes()), Err(ListFault::Head { line: 1, .. })), "{head}");
        }
    }

    #[test]
    fn of_a_name_that_comes_twice_the_harsher_row_counts_and_bad_rows_are_counted_beyond_what_is_named() {
        let list = parse(b"domain,severity\na.example,silence\nA.example,suspend\na.example,silence\n").unwrap();
        assert_eq!(names(&list), [("a.example", Some(Severity::Block))]);
        assert_eq!(list.repeated, 2);
        let list = parse("two words\n".repeat(500).as_bytes()).unwrap();
        assert_eq!((list.bad.len(), list.bad_count), (MAX_NAMED, 500));
    }

    #[test]
    fn a_list_changes_only_what_it_brought_itself() {
        let source = Source::list("dni").unwrap();
        let rule = |target: &str, severity, source: &Source| {
            RuleChange::Put(Rule::new(target.parse().unwrap(), severity, source.clone(), NOW))
        };
        let rules = RuleSet::default().with(&[
            rule("same.example", Severity::Block, &source),
            rule("changed.example", Severity::Silence, &source),
            rule("gone.example", Severity::Block, &source),
            rule("mine.example", Severity::Allow, &Source::Operator),
            rule("other.example", Severity::Block, &Source::list("other").unwrap()),
        ]);
        let list = parse(b"same.example\nchanged.example\nnew.example\nmine.example\n").unwrap();
        let targets = |rules: &[Rule]| rules.iter().map(|one| one.target.to_string()).collect::<Vec<_>>();
        let kept = diff(&list, &source, Severity::Block, false, &rules, NOW);
        assert_eq!(targets(&kept.add), ["domain:new.example", "domain:mine.example"]);
        assert_eq!(
            kept.change.iter().map(|one| one.after.target.to_string()).collect::<Vec<_>>(),
            ["domain:changed.example"]
        );
        assert_eq!((kept.same, kept.remove.len()), (1, 0));
        let replaced = diff(&list, &source, Severity::Block, true, &rules, NOW);
        assert_eq!(targets(&replaced.remove), ["domain:gone.example"]);
        let after = rules.with(&replaced.changes());
        let says = |name: &str| after.verdict(&Authority::parse(name).unwrap(), NOW);
        assert_eq!(says("mine.example"), crate::policy::Verdict::Allow, "the operator's word counts");
        assert_eq!(says("gone.example"), crate::policy::Verdict::Allow);
        assert_eq!(says("other.example"), crate::policy::Verdict::Block);
        assert_eq!(diff(&list, &source, Severity::Block, true, &after, NOW).changes(), []);
    }

    #[test]
    fn what_a_list_changes_is_measured_against_what_it_brought() {
        let diff = |add: usize, change: usize, same: usize, remove: usize| {
            let rules = |count| {
                (0..count).map(|_| Rule::new("a.example".parse().unwrap(), Severity::Block, Source::Operator, NOW))
            };
            let change = rules(change).map(|rule| Altered { before: rule.clone(), after: rule }).collect();
            Diff { add: rules(add).collect(), change, same, remove: rules(remove).collect() }
        };
        for (add, change, same, remove, expected) in [
            (0, 0, 0, 0, 0),
            (0, 0, 50, 0, 0),
            (1, 0, 0, 0, 100),
            (10, 0, 100, 0, 10),
            (11, 0, 100, 0, 11),
            (5, 5, 95, 0, 10),
            (0, 0, 95, 5, 5),
            (1, 0, 1001, 0, 1),
            (0, 0, 0, 7, 100),
            (300, 0, 100, 0, 300),
        ] {
            assert_eq!(diff(add, change, same, remove).share(), expected, "{add} {change} {same} {remove}");
        }
    }

    /// They are told to those it concerns, in the operator's name.
    #[test]
    fn comments_are_shown_before_they_are_told_and_are_told_by_nobody_unseen() {
        let source = Source::list("dni").unwrap();
        let rule = |target: &str, severity, reason: &str| {
            let rule = Rule::new(target.parse().unwrap(), severity, source.clone(), NOW);
            RuleChange::Put(Rule { reason: reason.to_owned(), ..rule })
        };
        let rules = RuleSet::default().with(&[
            rule("same.example", Severity::Block, "spam"),
            rule("worded.example", Severity::Block, "spam"),
            rule("harsher.example", Severity::Silence, "loud"),
            rule("milder.example", Severity::Block, ""),
            rule("gone.example", Severity::Block, "spam"),
        ]);
        let text = "#domain,#severity,#public_comment\nsame.example,suspend,spam\nworded.example,suspend,pay us\n\
                    harsher.example,suspend,louder\nmilder.example,silence,\nnew.example,suspend,\"say \u{202e}so\"\n";
        let diff = diff(&parse(text.as_bytes()).unwrap(), &source, Severity::Block, true, &rules, NOW);
        let [add, change, remove] = diff.in_words();
        assert_eq!(add, ["block domain:new.example, comment \"say  so\""], "nothing turns the order round");
        assert_eq!(
            change,
            [
                "block domain:worded.example, comment \"spam\" → \"pay us\"",
                "block domain:harsher.example (was silence), comment \"loud\" → \"louder\"",
                "silence domain:milder.example (was block)",
            ]
        );
        assert_eq!(remove, ["block domain:gone.example"]);
        assert_eq!(diff.milder(), 2);
        let (quiet, left_out) = diff.without_comments();
        assert_eq!((left_out, quiet.same, quiet.change.len()), (3, 2, 2));
        let after = rules.with(&quiet.changes());
        let told = |name: &str| after.server(&Authority::parse(name).unwrap(), NOW).reason().to_owned();
        assert_eq!(["worded.example", "harsher.example", "new.example"].map(told), ["spam", "loud", ""]);
    }

    #[test]
    fn what_is_exported_is_no_formula_and_of_one_source_if_that_is_asked() {
        let rule = |target: &str, source: Source, reason: &str| {
            let rule = Rule::new(target.parse().unwrap(), Severity::Block, source, NOW);
            RuleChange::Put(Rule { reason: reason.to_owned(), ..rule })
        };
        let list = Source::list("dni").unwrap();
        let rules = RuleSet::default().with(&[
            rule("evil.example", list.clone(), "=HYPERLINK(\"https://evil.example\")"),
            rule("loud.example", list, " @SUM(1)"),
            rule("mine.example", Source::Operator, "-spam"),
            rule("co.uk", Source::Operator, ""),
        ]);
        let text = String::from_utf8(export(&rules, None, NOW)).unwrap();
        assert!(text.contains(",HYPERLINK(") || text.contains(",\"HYPERLINK("), "{text}");
        assert!(text.contains(",SUM(1)") && text.contains(",spam,") && !text.contains("co.uk"), "{text}");
        let text = String::from_utf8(export(&rules, Some(&Source::Operator), NOW)).unwrap();
        assert!(text.contains("mine.example") && !text.contains("evil.example"), "{text}");
    }

    #[test]
    fn what_is_exported_is_read_again() {
        let rule = |target: &str, severity| Rule::new(target.parse().unwrap(), severity, Source::Operator, NOW);
        let spam = Rule { reason: "spam, \"of course\"\nand more".to_owned(), ..rule("evil.example", Severity::Block) };
        let trial = Rule { dry_run: true, ..rule("trial.example", Severity::Block) };
        let past = Rule { expires: Some(NOW), ..rule("past.example", Severity::Block) };
        let all = [
            spam,
            trial,
            past,
            rule("loud.example", Severity::Silence),
            rule("good.example", Severity::Allow),
            rule("quiet.example", Severity::NoSearch),
            rule("127.0.0.1:81", Severity::Block),
            rule("software:x", Severity::Block),
        ];
        let rules = RuleSet::default().with(&all.map(RuleChange::Put));
        let text = export(&rules, None, NOW);
        assert!(text.starts_with(HEAD.as_bytes()), "{}", String::from_utf8_lossy(&text));
        let list = parse(&text).unwrap();
        assert_eq!(list.bad, []);
        assert_eq!(names(&list), [("evil.example", Some(Severity::Block)), ("loud.example", Some(Severity::Silence))]);
        assert_eq!(list.rows[0].comment, "spam, \"of course\" and more");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_rows_are_read_or_refused(rows in "(#domain,#severity,obfuscate\n)?([\"a-c.*#,:/\\[\\]é \n\r]{0,40}\n){0,8}") {
            if let Ok(list) = parse(rows.as_bytes()) {
                proptest::prop_assert!(list.rows.iter().all(|row| server(row.name.as_str()).is_ok()));
            }
        }
    }
}

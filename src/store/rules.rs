//! The operator's rules as rows: with whom the relay does not deal, why, since when and until when, and who brought the
//! rule. What a rule means is `policy`'s to say; here it is read, named and kept.
//!
//! One row per target and source, so that a list which is taken out takes out what it brought and nothing else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use utoipa::ToSchema;

use super::audit::MOST_NAMED;
use super::{Act, Record, StoreError, Tx};
use crate::clock::Timestamp;
use crate::config::Keyword;
use crate::ids::{Authority, Iri};

/// The most characters of a reason, which others are sent, and of a note, which only the operator reads.
pub const MAX_REASON: usize = 500;
/// See [`MAX_REASON`].
pub const MAX_NOTE: usize = 2000;
/// Changes made together of which the audit log keeps each in a row of its own, with all that it says; of more, each in a few
/// words.
const AUDITED_ONE_BY_ONE: usize = 20;
/// Bytes of a row of the audit log beside the names in it.
const ROOM_FOR_COUNTS: usize = 256;
/// The longest name of software and of a list, in bytes.
const MAX_NAME: usize = 64;

/// Whom or what a rule is about. As text, here and in commands: `domain:evil.example`, `actor:https://…`,
/// `software:name`, `keyword:pattern`; the first two also without their prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A server and its subdomains, in punycode and lower case. With a port, that one server alone; an address has no
    /// subdomains.
    Domain(Authority),
    /// One person or bot, by its id.
    Actor(Iri),
    /// All servers that run it, by NodeInfo's name in lower case.
    Software(String),
    /// Posts whose plain text it matches: a regular expression that [`Keyword::parse`] takes.
    Keyword(String),
}

/// Why a text is no target: a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct TargetFault(pub String);

impl FromStr for Target {
    type Err = TargetFault;

    fn from_str(text: &str) -> Result<Self, TargetFault> {
        let text = text.trim();
        let fault = |why: String| Err(TargetFault(why));
        match text.split_once(':') {
            Some(("domain", name)) => domain(name),
            Some(("actor", id)) => match Iri::parse(id) {
                Ok(id) => Ok(Self::Actor(id)),
                Err(why) => fault(format!("{id:?} is no actor's id: {why}")),
            },
            Some(("software", name)) => software(name),
            Some(("keyword", pattern)) => match Keyword::parse(pattern) {
                Ok(keyword) => Ok(Self::Keyword(keyword.as_str().to_owned())),
                Err(why) => fault(why),
            },
            Some(("https" | "http", _rest)) => match Iri::parse(text) {
                // A pasted address of a server means the server.
                Ok(id) if id.as_str().strip_prefix(id.origin()).is_some_and(|path| matches!(path, "" | "/")) => {
                    domain(id.authority().as_str())
                }
                Ok(id) => Ok(Self::Actor(id)),
                Err(why) => fault(format!("{text:?} is no actor's id: {why}")),
            },
            _ if text.contains('@') => fault(format!(
                "{text:?}: give the actor's id (https://…), as it stands in its document, not its handle"
            )),
            _ => domain(text),
        }
    }
}

/// A server as people write it: in any case, as an IDN, with `*.` or a dot before it or a dot after it.
fn domain(text: &str) -> Result<Target, TargetFault> {
    let text = text.trim();
    let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text).trim_end_matches('.');
    if name.contains('*') {
        let why = format!("{text:?} is obfuscated: nobody can know which server is meant, so none is assumed");
        return Err(TargetFault(why));
    }
    match Authority::parse(name) {
        Ok(authority) if authority.is_plain() => Ok(Target::Domain(authority)),
        Ok(_) => Err(TargetFault(format!("{text:?} is no server's name: letters, digits, `-` and `_` between dots"))),
        Err(why) => Err(TargetFault(format!("{text:?} is no server's name: {why}"))),
    }
}

fn software(text: &str) -> Result<Target, TargetFault> {
    let name = text.trim().to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        let why = format!("{text:?} is no name of software: letters, digits, `_`, `.` and `-`, as NodeInfo gives it");
        return Err(TargetFault(why));
    }
    Ok(Target::Software(name))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => write!(f, "domain:{name}"),
            Self::Actor(id) => write!(f, "actor:{id}"),
            Self::Software(name) => write!(f, "software:{name}"),
            Self::Keyword(pattern) => write!(f, "keyword:{pattern}"),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetFault;

    fn try_from(text: String) -> Result<Self, TargetFault> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl Target {
    /// What kind it is: a fixed word, for counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Domain(_) => "domain",
            Self::Actor(_) => "actor",
            Self::Software(_) => "software",
            Self::Keyword(_) => "keyword",
        }
    }
}

/// What a rule asks for, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A server is exempt from what is said of the domain above it, and stands on the list of those who may join.
    Allow,
    /// Its posts are relayed, but neither indexed nor shown by search, nor counted for trends; of an actor or a keyword:
    /// such posts are not.
    NoSearch,
    /// It receives only: its posts are not relayed.
    Silence,
    /// It may not join, send or receive; of an actor or a keyword: such posts are not relayed.
    Block,
}

impl Severity {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::NoSearch => "no-search",
            Self::Silence => "silence",
            Self::Block => "block",
        }
    }
}

/// Who brought a rule. As text: `config`, `operator`, `list:name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// The configuration file: only who edits it takes the rule out. Never a row.
    Config,
    /// A command of the operator.
    Operator,
    /// A list that was imported, by its name.
    List(String),
}

impl Source {
    /// The list called `name`: lower case letters, digits, `_`, `.` and `-`.
    ///
    /// # Errors
    /// A sentence.
    pub fn list(name: &str) -> Result<Self, TargetFault> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.-".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            let why = format!("{name:?} is no name for a list: lower case letters, digits, `_`, `.` and `-`");
            return Err(TargetFault(why));
        }
        Ok(Self::List(name.to_owned()))
    }

    /// Whether it is a list, whose word counts less than the operator's own.
    #[must_use]
    pub const fn is_list(&self) -> bool {
        matches!(self, Self::List(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Operator => f.write_str("operator"),
            Self::List(name) => write!(f, "list:{name}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = TargetFault;

    fn try_from(text: String) -> Result<Self, TargetFault> {
        match text.as_str() {
            "config" => Ok(Self::Config),
            "operator" => Ok(Self::Operator),
            other => Self::list(other.strip_prefix("list:").unwrap_or_default()),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whom or what it is about.
    pub target: Target,
    /// What it asks for.
    pub severity: Severity,
    /// Why, for those it concerns: they are told.
    #[serde(default)]
    pub reason: String,
    /// Why, for the operator alone.
    #[serde(default)]
    pub note: String,
    /// When it was made.
    pub since: Timestamp,
    /// From when on it means nothing any more.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// Who brought it.
    pub source: Source,
    /// It is counted what it would have done, and it does nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl Record for Rule {
    const TABLE: &'static str = "rules";
    /// 2: `no-search` may stand in `severity`. Else nothing changed; an older build refuses the row with a sentence instead
    /// of calling it damaged.
    const VERSION: u8 = 2;

    fn upgrade(version: u8, payload: Value) -> Option<Value> {
        (version == 1).then_some(payload)
    }
}

impl Rule {
    /// A rule without words or end, in force from `since` on.
    #[must_use]
    pub const fn new(target: Target, severity: Severity, source: Source, since: Timestamp) -> Self {
        Self {
            target,
            severity,
            reason: String::new(),
            note: String::new(),
            since,
            expires: None,
            source,
            dry_run: false,
        }
    }

    /// The key of its row. The source comes first: all rows of a list lie together.
    #[must_use]
    pub fn key(&self) -> String {
        Self::key_of(&self.target, &self.source)
    }

    /// The key of the row that `source` has on `target`.
    #[must_use]
    pub fn key_of(target: &Target, source: &Source) -> String {
        format!("{source} {target}")
    }

    /// In a few words: `block domain:evil.example until …`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let trial = if self.dry_run { " (on trial)" } else { "" };
        let until = self.expires.map_or(String::new(), |at| format!(" until {}", at.rfc3339()));
        format!("{} {}{until}{trial}", self.severity.as_str(), self.target)
    }

    /// Whether it asks for less than `before` did: a milder word, only on trial, or not for as long.
    #[must_use]
    pub fn is_milder(&self, before: &Self) -> bool {
        let end = |rule: &Self| rule.expires.map_or(i64::MAX, Timestamp::millis);
        self.severity < before.severity || (self.dry_run && !before.dry_run) || end(self) < end(before)
    }

    /// Whether it has not expired at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|until| now < until)
    }

    /// What is wrong with it as a whole.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn check(&self) -> Result<(), TargetFault> {
        let fits = match self.target {
            Target::Domain(_) => true,
            Target::Software(_) => self.severity != Severity::Allow,
            Target::Actor(_) | Target::Keyword(_) => matches!(self.severity, Severity::Block | Severity::NoSearch),
        };
        if !fits {
            let (severity, kind) = (self.severity.as_str(), self.target.kind());
            let may = if kind == "software" { "blocked, silenced or no-search" } else { "blocked or no-search" };
            return Err(TargetFault(format!(
                "{severity} means nothing for {}: a rule on {kind} says {may}",
                self.target
            )));
        }
        for (what, text, most) in [("reason", &self.reason, MAX_REASON), ("note", &self.note, MAX_NOTE)] {
            if text.chars().count() > most {
                return Err(TargetFault(format!("the {what} is longer than {most} characters")));
            }
            if text.chars().any(|c| c.is_control() && c != '\n') {
                return Err(TargetFault(format!("the {what} holds control characters")));
            }
        }
        Ok(())
    }
}

/// A change in a few words.
struct ToldInShort {
    /// It lets somebody in, or through.
    milder: bool,
    words: String,
}

/// A change of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleChange {
    /// This rule, in place of what its source said of its target before.
    Put(Rule),
    /// No rule of this source on this target any more.
    Remove(Target, Source),
}

impl RuleChange {
    /// The key of the row it changes.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Put(rule) => rule.key(),
            Self::Remove(target, source) => Rule::key_of(target, source),
        }
    }

    /// Who says it.
    #[must_use]
    pub const fn source(&self) -> &Source {
        match self {
            Self::Put(rule) => &rule.source,
            Self::Remove(_, source) => source,
        }
    }
}

impl Tx<'_> {
    /// Notes changes of the rules that are about to be written: each by itself; of many, each in a few words. None is left out,
    /// or whoever makes twenty others with it would hide it.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn audit_rules(&mut self, act: &Act, changes: &[RuleChange]) -> Result<(), StoreError> {
        if changes.len() > AUDITED_ONE_BY_ONE {
            return self.audit_many_rules(act, changes);
        }
        for change in changes {
            let before = json!(self.get::<Rule>(&change.key())?);
            match change {
                RuleChange::Put(rule) => {
                    self.audit(act, "rule.put", &rule.target.to_string(), before, json!(rule))?;
                }
                RuleChange::Remove(target, _) => {
                    self.audit(act, "rule.remove", &target.to_string(), before, Value::Null)?;
                }
            }
        }
        Ok(())
    }

    /// Each of many changes in a few words, in as few rows as take them all. What lets somebody in comes first: what is taken
    /// out, what is said more mildly than before, who is exempt.
    fn audit_many_rules(&mut self, act: &Act, changes: &[RuleChange]) -> Result<(), StoreError> {
        let mut told = Vec::with_capacity(changes.len());
        for change in changes {
            told.push(self.told_in_short(change)?);
        }
        told.sort_by_key(|one| !one.milder);
        let milder = told.iter().filter(|one| one.milder).count();
        let removed = changes.iter().filter(|change| matches!(change, RuleChange::Remove(..))).count();
        let source = changes.first().map(|change| change.source().to_string()).unwrap_or_default();
        let counts = json!({ "put": changes.len() - removed, "removed": removed, "milder": milder });
        let (mut names, mut bytes) = (Vec::new(), 0);
        for one in told {
            let more = one.words.len() + 8;
            if bytes + more > MOST_NAMED - ROOM_FOR_COUNTS {
                self.audit_names(act, &source, &counts, std::mem::take(&mut names))?;
                bytes = 0;
            }
            bytes += more;
            names.push(one.words);
        }
        self.audit_names(act, &source, &counts, names)
    }

    fn audit_names(&mut self, act: &Act, source: &str, counts: &Value, names: Vec<String>) -> Result<(), StoreError> {
        let mut after = counts.clone();
        after["changes"] = names.into();
        // Twice the bytes: what has to be escaped in a text is counted once above.
        self.audit_up_to(2 * MOST_NAMED, act, "rules.change", source, Value::Null, after)
    }

    fn told_in_short(&self, change: &RuleChange) -> Result<ToldInShort, StoreError> {
        // One that cannot be read was something.
        let before = match self.get::<Rule>(&change.key()) {
            Err(StoreError::Damaged(_)) => None,
            read => read?,
        };
        let was = before.as_ref().map_or_else(|| "nothing".to_owned(), Rule::in_words);
        Ok(match change {
            RuleChange::Remove(..) => ToldInShort { milder: true, words: format!("- {was}") },
            RuleChange::Put(rule) => {
                let milder = before.as_ref().map_or(rule.severity == Severity::Allow, |before| rule.is_milder(before));
                let words = rule.in_words();
                let words = match &before {
                    None => format!("+ {words}"),
                    Some(_) if was == words => format!("~ {words}"),
                    Some(_) => format!("~ {words}; was {was}"),
                };
                ToldInShort { milder, words }
            }
        })
    }

    /// Writes a change of the rules. What it means for those who are here is for `relay` to do.
    ///
    /// # Errors
    /// The engine's.
    pub fn change_rule(&mut self, change: &RuleChange) -> Result<(), StoreError> {
        match change {
            RuleChange::Put(rule) => self.put(&change.key(), rule),
            RuleChange::Remove(..) => self.remove::<Rule>(&change.key()).map(|_there| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;

    /// Twenty harmless changes, and in the middle of them one that lets a blocked server in.
    #[tokio::test]
    async fn of_many_changes_the_log_keeps_each_and_first_what_lets_somebody_in() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_787_486_400);
        let store = Store::open(dir.path(), Clock::manual(now)).unwrap();
        let source = Source::list("dni").unwrap();
        let rule = |name: &str, severity| {
            Rule::new(format!("domain:{name}").parse().unwrap(), severity, Source::list("dni").unwrap(), now)
        };
        let old = ["evil.example", "milder.example", "trial.example"].map(|name| rule(name, Severity::Block));
        let rows = old.clone();
        store.write(move |tx| rows.iter().try_for_each(|rule| tx.put(&rule.key(), rule))).await.unwrap();
        let mut changes: Vec<_> = (0..3000)
            .map(|n| RuleChange::Put(rule(&format!("n{n}.a-rather-long-name.example"), Severity::Block)))
            .collect();
        changes.push(RuleChange::Put(rule("friend.example", Severity::Allow)));
        changes.insert(1500, RuleChange::Remove(old[0].target.clone(), source));
        changes.push(RuleChange::Put(rule("milder.example", Severity::Silence)));
        changes.push(RuleChange::Put(Rule { dry_run: true, ..old[2].clone() }));
        let act = Act::local("because");
        store.write(move |tx| tx.audit_rules(&act, &changes)).await.unwrap();
        let mut rows = store.audited("", 100, |_| true).unwrap();
        rows.reverse();
        assert!((2..6).contains(&rows.len()), "{}", rows.len());
        let mut names = Vec::new();
        for (_, row) in &rows {
            assert_eq!(
                (row.what.as_str(), row.target.as_str(), row.why.as_str()),
                ("rules.change", "list:dni", "because")
            );
            assert_eq!(
                (&row.after["put"], &row.after["removed"], &row.after["milder"]),
                (&json!(3003), &json!(1), &json!(4))
            );
            names.extend(
                row.after["changes"].as_array().expect("names").iter().map(|one| one.as_str().unwrap().to_owned()),
            );
        }
        assert_eq!(names.len(), 3004);
        names.truncate(4);
        names.sort();
        assert_eq!(
            names,
            [
                "+ allow domain:friend.example",
                "- block domain:evil.example",
                "~ block domain:trial.example (on trial); was block domain:trial.example",
                "~ silence domain:milder.example; was block domain:milder.example",
            ]
        );
    }

    #[test]
    fn a_target_is_what_people_type_and_reads_back_as_it_is_written() {
        let check = |text: &str, expected: &str| {
            let target: Target = text.parse().unwrap_or_else(|fault| panic!("{text}: {fault}"));
            assert_eq!(target.to_string(), expected, "{text}");
            assert_eq!(expected.parse::<Target>().unwrap(), target, "{expected}");
        };
        check("Evil.Example", "domain:evil.example");
        check(" *.evil.example. ", "domain:evil.example");
        check(".evil.example", "domain:evil.example");
        check("bücher.example", "domain:xn--bcher-kva.example");
        check("evil.example:443", "domain:evil.example");
        check("127.0.0.1:4101", "domain:127.0.0.1:4101");
        check("[2001:DB8::1]", "domain:[2001:db8::1]");
        check("domain:software", "domain:software");
        check("https://evil.example/", "domain:evil.example");
        check("https://evil.example", "domain:evil.example");
        check("http://evil.example:443", "domain:evil.example");
        check("https://evil.example/users/eve", "actor:https://evil.example/users/eve");
        check("actor:https://evil.example/users/eve", "actor:https://evil.example/users/eve");
        check("software:ActivityRelay", "software:activityrelay");
        check("keyword:buy (now|today)", "keyword:buy (now|today)");
    }

    #[test]
    fn what_is_no_target_is_refused_with_a_sentence() {
        for (text, says) in [
            ("", "no server's name"),
            ("ev*l.example", "obfuscated"),
            ("domain:*****.example", "obfuscated"),
            ("evil.example/path", "no server's name"),
            ("evil example", "no server's name"),
            ("evil..example", "no server's name"),
            (".\"", "no server's name"),
            ("@eve@evil.example", "not its handle"),
            ("https://Evil.example/users/eve", "canonical"),
            // Pasted with the bracket behind it: written down, it could not be read again.
            ("https://evil.example)", "no server's name"),
            ("actor:evil.example", "no actor's id"),
            ("software:", "no name of software"),
            ("software:two words", "no name of software"),
            ("keyword:(", "no regular expression"),
            ("keyword:", "matches everything"),
        ] {
            let fault = text.parse::<Target>().expect_err(text).to_string();
            assert!(fault.contains(says), "{text}: {fault}");
        }
    }

    #[test]
    fn a_rule_asks_only_for_what_its_target_can_give() {
        let check = |target: &str, severity, fits: bool| {
            let rule = Rule::new(target.parse().unwrap(), severity, Source::Operator, Timestamp::default());
            assert_eq!(rule.check().is_ok(), fits, "{target} {severity:?}");
        };
        for severity in [Severity::Allow, Severity::NoSearch, Severity::Silence, Severity::Block] {
            let of_posts = matches!(severity, Severity::Block | Severity::NoSearch);
            check("a.example", severity, true);
            check("software:x", severity, severity != Severity::Allow);
            check("https://a.example/users/eve", severity, of_posts);
            check("keyword:x+", severity, of_posts);
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.as_str());
        }
        let mut rule = Rule::new("a.example".parse().unwrap(), Severity::Block, Source::Operator, Timestamp::default());
        rule.reason = "x".repeat(MAX_REASON + 1);
        assert!(rule.check().is_err());
        rule.reason = "bell\u{7}".to_owned();
        assert!(rule.check().is_err());
    }

    #[test]
    fn a_list_has_a_plain_name_and_its_rows_lie_together() {
        for name in ["", "Two", "a b", "a:b", "a/b", &"x".repeat(65)] {
            assert!(Source::list(name).is_err(), "{name:?}");
        }
        let target: Target = "a.example".parse().unwrap();
        assert_eq!(Rule::key_of(&target, &Source::list("dni-1.0").unwrap()), "list:dni-1.0 domain:a.example");
        assert_eq!(Source::try_from("list:x".to_owned()).unwrap().to_string(), "list:x");
        assert!(Source::try_from("stranger".to_owned()).is_err());
    }
}

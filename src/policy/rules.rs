//! What the rules in force say of a server, an actor, a text. Pure: a [`RuleSet`] is a value that never changes, times
//! come as arguments; [`super::Rules`] holds the one that counts now.
//!
//! **Who wins.** A name is looked up from itself to its parents: `host:port` if it has a port, `a.evil.example`,
//! `evil.example`, `example`. The harshest word on the way counts, but an `allow` ends the way: it exempts its name, and
//! what is below it, from everything said of the names above, and of the software it runs. An `allow` by a list exempts only
//! from what lists say: no list lifts what the operator said. On one and the same name a
//! list counts only where the operator (by file or command) says nothing; of the operator's own words the harshest counts.
//! So a block in the file cannot be lifted by an `allow` for the same name, and one on a list can.
//!
//! **Two questions.** Whether posts are relayed, and whether they may be found ([`RuleSet::searchable`]). For the first,
//! `no-search` says nothing at all; for the second it says no, and so does what keeps posts from being relayed.
//!
//! Promises: what a look-up costs depends on the labels of the name, not on the number of rules; an expired rule says
//! nothing; a dry-run rule decides nothing, and is told apart.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::Timestamp;
use crate::config::{self, Keyword};
use crate::ids::{Authority, Iri};
use crate::store::{Rule, RuleChange, Severity, Source, Target};
use crate::telemetry::Metrics;

/// The part of a text, in bytes, that keywords are looked for in: no less than what of a post is worth it
/// ([`crate::wire::text::Features::words`]).
const TEXT_BYTES: usize = 65 << 10;
/// The most keywords: each is tried on each post.
pub const MAX_KEYWORDS: usize = 200;

/// What the rules say of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing against it.
    Allow,
    /// It may receive; its posts are not relayed.
    Silence,
    /// It may not join, send or receive. Asked about search: it is not found.
    Block,
}

/// What the rules are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Whether posts come in and go out.
    Relaying,
    /// Whether they may be found.
    Search,
}

impl Asked {
    fn hears(self, severity: Severity) -> bool {
        self == Self::Search || severity != Severity::NoSearch
    }

    const fn verdict(self, severity: Severity) -> Verdict {
        match (self, severity) {
            (_, Severity::Allow) | (Self::Relaying, Severity::NoSearch) => Verdict::Allow,
            (Self::Relaying, Severity::Silence) => Verdict::Silence,
            (_, Severity::NoSearch | Severity::Silence | Severity::Block) => Verdict::Block,
        }
    }
}

/// A rule at work, and how often it was acted upon since the start.
#[derive(Debug)]
pub struct Active {
    /// What it says.
    pub rule: Rule,
    hits: AtomicU64,
}

impl Active {
    /// How often it was acted upon, or would have been, since the start.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

/// What the rules say, and which rule says it.
#[derive(Debug, Clone)]
pub struct Ruling {
    /// What counts.
    pub verdict: Verdict,
    /// The rule that decided; `None` if none speaks.
    pub by: Option<Arc<Active>>,
    /// The dry-run rule that would have made it harsher, or milder.
    pub would: Option<Arc<Active>>,
}

impl Ruling {
    const NOTHING: Self = Self { verdict: Verdict::Allow, by: None, would: None };

    /// The public reason of the rule that decided; empty if it gives none.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.by.as_ref().map_or("", |one| one.rule.reason.as_str())
    }

    /// Counts that it was acted upon.
    pub fn count(&self, metrics: &Metrics) {
        if let Some(one) = self.by.as_ref().filter(|_| self.verdict != Verdict::Allow) {
            tally(one, "enforced", metrics);
        }
    }

    /// Counts that a dry-run rule would have decided otherwise.
    pub fn count_dry(&self, metrics: &Metrics) {
        if let Some(one) = &self.would {
            tally(one, "would", metrics);
        }
    }

    fn harsher(self, other: Self) -> Self {
        let would = self.would.clone().or_else(|| other.would.clone());
        let worst = if other.verdict > self.verdict || self.by.is_none() { other } else { self };
        Self { would, ..worst }
    }
}

fn tally(one: &Active, effect: &'static str, metrics: &Metrics) {
    one.hits.fetch_add(1, Ordering::Relaxed);
    metrics.rules.with_label_values(&[one.rule.target.kind(), one.rule.severity.as_str(), effect]).inc();
}

/// All rules at one moment, and what servers run as it is learned. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    index: Arc<Index>,
    /// What servers run, as far as it is known.
    runs: Arc<RwLock<HashMap<Authority, Arc<str>>>>,
}

#[derive(Debug, Default)]
struct Index {
    /// By the key of the row.
    all: BTreeMap<String, Arc<Active>>,
    names: HashMap<Box<str>, Vec<Arc<Active>>>,
    actors: HashMap<Iri, Vec<Arc<Active>>>,
    software: HashMap<Box<str>, Vec<Arc<Active>>>,
    keywords: Vec<(Keyword, Arc<Active>)>,
    /// Whether a rule is dry: else nothing needs to be looked up twice.
    some_dry: bool,
}

impl RuleSet {
    /// The rules of the config alone. They were checked when it was read; what is no rule all the same is left out.
    #[must_use]
    pub fn of_config(policy: &config::Policy, relay: &config::Relay) -> Self {
        let lists = [
            ("domain:", &policy.block, Severity::Block),
            ("domain:", &policy.silence, Severity::Silence),
            ("domain:", &policy.no_search, Severity::NoSearch),
            ("domain:", &relay.allowlist, Severity::Allow),
            ("actor:", &policy.block_actors, Severity::Block),
            ("software:", &policy.block_software, Severity::Block),
            ("keyword:", &policy.keywords, Severity::Block),
        ];
        let mut all = BTreeMap::new();
        for (prefix, texts, severity) in lists {
            for text in texts.iter().filter(|text| !text.trim().is_empty()) {
                match format!("{prefix}{text}").parse::<Target>() {
                    Ok(target) => {
                        let rule = Rule::new(target, severity, Source::Config, Timestamp::default());
                        // One name may stand in several lists of the file.
                        all.insert(format!("{} {}", rule.key(), severity.as_str()), active(rule));
                    }
                    Err(fault) => tracing::error!(%fault, "a rule of the configuration is left out"),
                }
            }
        }
        Self { index: Arc::new(Index::of(all, &[])), runs: Arc::default() }
    }

    /// These rules after `changes`; those that stay keep their counts.
    #[must_use]
    pub fn with(&self, changes: &[RuleChange]) -> Self {
        let mut all = self.index.all.clone();
        for change in changes {
            match change {
                RuleChange::Put(rule) => all.insert(change.key(), active(rule.clone())),
                RuleChange::Remove(..) => all.remove(&change.key()),
            };
        }
        Self { index: Arc::new(Index::of(all, &self.index.keywords)), runs: self.runs.clone() }
    }

    /// Takes note of what servers run, for all that were made of one set; `None`: it is not known, or forgotten.
    pub fn learn(&self, known: impl IntoIterator<Item = (Authority, Option<String>)>) {
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        for (authority, software) in known {
            match software {
                Some(software) => runs.insert(authority, software.into()),
                None => runs.remove(&authority),
            };
        }
    }

    /// What is known of the software of `authority`.
    #[must_use]
    pub fn runs(&self, authority: &Authority) -> Option<Arc<str>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).get(authority).cloned()
    }

    /// All rules, in the order of their keys: config, lists, operator.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Active>> {
        self.index.all.values()
    }

    /// The same, each with its key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Arc<Active>)> {
        self.index.all.iter().map(|(key, one)| (key.as_str(), one))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.all.is_empty()
    }

    /// How many keywords there are.
    #[must_use]
    pub fn keywords(&self) -> usize {
        self.index.keywords.len()
    }

    /// What they say of `authority`, its name and its software.
    #[must_use]
    pub fn verdict(&self, authority: &Authority, now: Timestamp) -> Verdict {
        let asked = (Asked::Relaying, now, false);
        self.judge(authority, self.runs(authority).as_deref(), asked).0
    }

    /// The same, with the rule that says so.
    #[must_use]
    pub fn server(&self, authority: &Authority, now: Timestamp) -> Ruling {
        self.ruling(authority, self.runs(authority).as_deref(), Asked::Relaying, now)
    }

    /// What they say of the name of `authority` alone. A server that is blocked for its software may knock all the same:
    /// it may run something else by now.
    #[must_use]
    pub fn name(&self, authority: &Authority, now: Timestamp) -> Ruling {
        self.ruling(authority, None, Asked::Relaying, now)
    }

    /// What they say of `authority` if it runs `software`.
    #[must_use]
    pub fn server_with(&self, authority: &Authority, software: Option<&str>, now: Timestamp) -> Ruling {
        self.ruling(authority, software, Asked::Relaying, now)
    }

    /// What they say of one person or bot; of the server it is on, [`RuleSet::server`] tells.
    #[must_use]
    pub fn actor(&self, actor: &Iri, now: Timestamp) -> Ruling {
        self.of_actor(actor, Asked::Relaying, now)
    }

    /// Whether what `author` posts, with these words, may be found: [`Verdict::Allow`], or [`Verdict::Block`] with the rule
    /// that keeps it out. Asked with no words it tells about the author alone.
    #[must_use]
    pub fn searchable(&self, author: &Iri, words: &str, now: Timestamp) -> Ruling {
        if self.is_empty() {
            return Ruling::NOTHING;
        }
        let server = author.authority();
        let of_server = self.ruling(&server, self.runs(&server).as_deref(), Asked::Search, now);
        let of_author = self.of_actor(author, Asked::Search, now).harsher(of_server);
        if words.is_empty() { of_author } else { of_author.harsher(self.of_words(words, Asked::Search, now)) }
    }

    /// Whether what is posted on `authority` may be found, as far as its name and its software go; see
    /// [`RuleSet::searchable`].
    #[must_use]
    pub fn searchable_server(&self, authority: &Authority, now: Timestamp) -> Ruling {
        self.ruling(authority, self.runs(authority).as_deref(), Asked::Search, now)
    }

    fn of_actor(&self, actor: &Iri, asked: Asked, now: Timestamp) -> Ruling {
        let Some(rules) = self.index.actors.get(actor) else { return Ruling::NOTHING };
        let heard = || rules.iter().filter(|one| asked.hears(one.rule.severity) && one.rule.is_in_force(now));
        let speaks = |dry: bool| heard().find(|one| one.rule.dry_run == dry).cloned();
        match speaks(false) {
            Some(one) => Ruling { verdict: Verdict::Block, by: Some(one), would: None },
            None => Ruling { would: speaks(true), ..Ruling::NOTHING },
        }
    }

    /// What they say of a post or a deletion: the harshest of what they say of its actor, of the servers of actor and
    /// object, and of the server that brought it. Anything but [`Verdict::Allow`]: it is not passed on.
    #[must_use]
    pub fn post(&self, actor: &Iri, object: &Iri, supplier: &Authority, now: Timestamp) -> Ruling {
        if self.is_empty() {
            return Ruling::NOTHING;
        }
        let (author, origin) = (actor.authority(), object.authority());
        let mut ruling = self.actor(actor, now).harsher(self.server(&author, now));
        if origin != author {
            ruling = ruling.harsher(self.server(&origin, now));
        }
        if *supplier != author && *supplier != origin {
            ruling = ruling.harsher(self.server(supplier, now));
        }
        ruling
    }

    /// What the keywords say of the plain text of a post.
    #[must_use]
    pub fn text(&self, text: &str, now: Timestamp) -> Ruling {
        self.of_words(text, Asked::Relaying, now)
    }

    fn of_words(&self, text: &str, asked: Asked, now: Timestamp) -> Ruling {
        let text = &text[..text.floor_char_boundary(TEXT_BYTES)];
        let mut would = None;
        for (keyword, one) in &self.index.keywords {
            if !asked.hears(one.rule.severity)
                || !one.rule.is_in_force(now)
                || (one.rule.dry_run && would.is_some())
                || !keyword.is_in(text)
            {
                continue;
            }
            if !one.rule.dry_run {
                return Ruling { verdict: Verdict::Block, by: Some(one.clone()), would };
            }
            would = Some(one.clone());
        }
        Ruling { would, ..Ruling::NOTHING }
    }

    /// Whether `authority` stands on the list of those who may join: an `allow` for it or a domain above it.
    #[must_use]
    pub fn is_listed(&self, authority: &Authority, now: Timestamp) -> bool {
        let allows =
            |one: &Arc<Active>| one.rule.severity == Severity::Allow && !one.rule.dry_run && one.rule.is_in_force(now);
        levels(authority).filter_map(|level| self.index.names.get(level)).any(|rules| rules.iter().any(allows))
    }

    fn ruling(&self, authority: &Authority, software: Option<&str>, asked: Asked, now: Timestamp) -> Ruling {
        if self.is_empty() {
            return Ruling::NOTHING;
        }
        let (verdict, by) = self.judge(authority, software, (asked, now, false));
        let mut would = None;
        if self.index.some_dry {
            let (dry, by) = self.judge(authority, software, (asked, now, true));
            would = by.filter(|_| dry != verdict);
        }
        Ruling { verdict, by: by.cloned(), would: would.cloned() }
    }

    /// The look-up, for a question at a moment; the flag says whether dry-run rules speak.
    fn judge(
        &self,
        authority: &Authority,
        software: Option<&str>,
        asked: (Asked, Timestamp, bool),
    ) -> (Verdict, Option<&Arc<Active>>) {
        let mut worst: (Verdict, Option<&Arc<Active>>) = (Verdict::Allow, None);
        let mut lists = true;
        for rules in levels(authority).filter_map(|level| self.index.names.get(level)) {
            let Some(said) = said(rules, asked, lists) else { continue };
            worst = harsher(worst, said.harshest, asked.0);
            match said.exempt {
                Some(Exempt::Wholly) => return worst,
                Some(Exempt::FromLists) => lists = false,
                None => {}
            }
        }
        let rules = software.and_then(|name| self.index.software.get(name));
        rules.and_then(|rules| said(rules, asked, lists)).map_or(worst, |said| harsher(worst, said.harshest, asked.0))
    }
}

impl Index {
    /// `known`: keywords that were made before, which is what costs most of all of this.
    fn of(all: BTreeMap<String, Arc<Active>>, known: &[(Keyword, Arc<Active>)]) -> Self {
        let mut index = Self::default();
        let known: HashMap<&str, &Keyword> = known.iter().map(|(keyword, _)| (keyword.as_str(), keyword)).collect();
        for one in all.values() {
            index.some_dry |= one.rule.dry_run;
            match &one.rule.target {
                Target::Domain(name) => index.names.entry(name.as_str().into()).or_default().push(one.clone()),
                Target::Actor(id) => index.actors.entry(id.clone()).or_default().push(one.clone()),
                Target::Software(name) => index.software.entry(name.as_str().into()).or_default().push(one.clone()),
                Target::Keyword(pattern) => match known
                    .get(pattern.as_str())
                    .map_or_else(|| Keyword::parse(pattern), |known| Ok((*known).clone()))
                {
                    Ok(keyword) => index.keywords.push((keyword, one.clone())),
                    Err(why) => tracing::error!(why, "a keyword is left out"),
                },
            }
        }
        index.all = all;
        index
    }
}

fn active(rule: Rule) -> Arc<Active> {
    Arc::new(Active { rule, hits: AtomicU64::new(0) })
}

/// What the rules on one name say.
struct Said<'a> {
    harshest: &'a Arc<Active>,
    exempt: Option<Exempt>,
}

/// What an `allow` exempts from, of what is said further up.
enum Exempt {
    Wholly,
    FromLists,
}

fn said(rules: &[Arc<Active>], (asked, now, dry): (Asked, Timestamp, bool), lists: bool) -> Option<Said<'_>> {
    let speaks =
        |one: &&Arc<Active>| (dry || !one.rule.dry_run) && asked.hears(one.rule.severity) && one.rule.is_in_force(now);
    // Where the operator says something, lists are silent.
    let by_hand = rules.iter().filter(speaks).any(|one| !one.rule.source.is_list());
    let lists = lists && !by_hand;
    let heard = || rules.iter().filter(speaks).filter(|one| lists || !one.rule.source.is_list());
    let harshest = heard().max_by_key(|one| one.rule.severity)?;
    let allows = heard().any(|one| one.rule.severity == Severity::Allow);
    let exempt = allows.then_some(if by_hand { Exempt::Wholly } else { Exempt::FromLists });
    Some(Said { harshest, exempt })
}

fn harsher<'a>(
    worst: (Verdict, Option<&'a Arc<Active>>),
    one: &'a Arc<Active>,
    asked: Asked,
) -> (Verdict, Option<&'a Arc<Active>>) {
    let verdict = asked.verdict(one.rule.severity);
    if worst.1.is_none() || verdict > worst.0 { (verdict, Some(one)) } else { worst }
}

/// The names that a rule may have to cover `authority`, itself first. An address has no parents.
fn levels(authority: &Authority) -> impl Iterator<Item = &str> {
    let (whole, host) = (authority.as_str(), authority.host());
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    let with_port = (whole.len() != host.len()).then_some(whole);
    let names = std::iter::successors(Some(host), |name| name.split_once('.').map(|(_label, rest)| rest));
    with_port.into_iter().chain(names.take(if is_address { 1 } else { usize::MAX }))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn host(text: &str) -> Authority {
        Authority::parse(text).unwrap()
    }

    fn put(target: &str, severity: Severity) -> RuleChange {
        RuleChange::Put(Rule::new(target.parse().unwrap(), severity, Source::Operator, NOW))
    }

    fn listed(target: &str, severity: Severity) -> RuleChange {
        let source = Source::list("dni").unwrap();
        RuleChange::Put(Rule::new(target.parse().unwrap(), severity, source, NOW))
    }

    fn dry(target: &str, severity: Severity) -> RuleChange {
        let rule = Rule::new(target.parse().unwrap(), severity, Source::Operator, NOW);
        RuleChange::Put(Rule { dry_run: true, ..rule })
    }

    fn of_file(block: &[&str], silence: &[&str], allow: &[&str]) -> RuleSet {
        let mut config = config::Config::embedded();
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        (config.policy.block, config.policy.silence, config.relay.allowlist) =
            (owned(block), owned(silence), owned(allow));
        RuleSet::of_config(&config.policy, &config.relay)
    }

    fn check(rules: &RuleSet, text: &str, expected: Verdict) {
        assert_eq!(rules.verdict(&host(text), NOW), expected, "{text}");
    }

    #[test]
    fn rules_cover_subdomains_and_nothing_that_only_looks_alike() {
        let rules = of_file(&["Evil.example", "*.bad.example", "127.0.0.2", "127.0.0.3:81"], &[".loud.example"], &[]);
        for text in ["evil.example", "evil.example:8443", "a.b.evil.example", "bad.example", "x.bad.example:81"] {
            check(&rules, text, Verdict::Block);
        }
        check(&rules, "loud.example", Verdict::Silence);
        for text in ["notevil.example", "evil.example.org", "evil.exampl", "example"] {
            check(&rules, text, Verdict::Allow);
        }
        check(&rules, "127.0.0.2:4101", Verdict::Block);
        check(&rules, "127.0.0.3:81", Verdict::Block);
        check(&rules, "127.0.0.3:82", Verdict::Allow);
        check(&rules, "127.0.0.3", Verdict::Allow);
        let odd = RuleSet::default().with(&[put("domain:0.0.1", Severity::Block)]);
        check(&odd, "127.0.0.1", Verdict::Allow);
    }

    #[test]
    fn the_harshest_word_counts_and_an_allow_ends_the_way() {
        let rules = of_file(&["evil.example"], &["x.evil.example", "loud.example"], &["good.evil.example"]);
        check(&rules, "x.evil.example", Verdict::Block);
        check(&rules, "good.evil.example", Verdict::Allow);
        check(&rules, "a.good.evil.example", Verdict::Allow);
        check(&rules, "notgood.evil.example", Verdict::Block);
        let rules = rules.with(&[
            put("bad.good.evil.example", Severity::Block),
            put("loud.example", Severity::Block),
            put("evil.example", Severity::Allow),
            put("loud.evil.example", Severity::Silence),
            put("domain:one.loud.example:81", Severity::Allow),
        ]);
        check(&rules, "bad.good.evil.example", Verdict::Block);
        check(&rules, "loud.example", Verdict::Block);
        check(&rules, "evil.example", Verdict::Block);
        check(&rules, "loud.evil.example", Verdict::Block);
        check(&rules, "one.loud.example:81", Verdict::Allow);
        check(&rules, "one.loud.example", Verdict::Block);
    }

    #[test]
    fn a_list_is_silent_where_the_operator_speaks() {
        let rules = RuleSet::default().with(&[
            listed("a.example", Severity::Block),
            listed("b.example", Severity::Block),
            listed("c.example", Severity::Block),
            put("b.example", Severity::Allow),
            put("c.example", Severity::Silence),
        ]);
        check(&rules, "a.example", Verdict::Block);
        check(&rules, "b.example", Verdict::Allow);
        check(&rules, "c.example", Verdict::Silence);
        let source = Source::list("dni").unwrap();
        let rules = rules.with(&[
            RuleChange::Remove("a.example".parse().unwrap(), source),
            RuleChange::Remove("b.example".parse().unwrap(), Source::Operator),
        ]);
        check(&rules, "a.example", Verdict::Allow);
        check(&rules, "b.example", Verdict::Block);
    }

    #[test]
    fn no_list_lifts_what_the_operator_said_of_a_name_above() {
        let rules = RuleSet::default().with(&[
            put("evil.example", Severity::Block),
            listed("a.evil.example", Severity::Allow),
            put("software:spamware", Severity::Block),
            listed("spam.example", Severity::Allow),
            listed("big.example", Severity::Block),
            listed("b.big.example", Severity::Allow),
            listed("c.evil.example", Severity::Allow),
            put("c.evil.example", Severity::Allow),
        ]);
        rules.learn([(host("spam.example"), Some("spamware".to_owned()))]);
        check(&rules, "a.evil.example", Verdict::Block);
        check(&rules, "x.a.evil.example", Verdict::Block);
        check(&rules, "spam.example", Verdict::Block);
        check(&rules, "x.big.example", Verdict::Block);
        check(&rules, "b.big.example", Verdict::Allow);
        check(&rules, "c.evil.example", Verdict::Allow);
        assert_eq!(rules.searchable_server(&host("a.evil.example"), NOW).verdict, Verdict::Block);
    }

    #[test]
    fn an_expired_rule_says_nothing_whatever_it_said() {
        let until = |target: &str, severity, expires| {
            let rule = Rule::new(target.parse().unwrap(), severity, Source::Operator, NOW);
            RuleChange::Put(Rule { expires: Some(expires), ..rule })
        };
        let later = NOW.plus(Duration::from_secs(60));
        let eve = Iri::parse("https://b.example/eve").unwrap();
        let rules = RuleSet::default().with(&[
            until("a.example", Severity::Block, later),
            put("b.example", Severity::Block),
            until("x.b.example", Severity::Allow, later),
            until(eve.as_str(), Severity::Block, later),
            until("keyword:spam", Severity::Block, later),
        ]);
        let at = |now: Timestamp| {
            let verdict = |text: &str| rules.verdict(&host(text), now);
            let listed = rules.is_listed(&host("x.b.example"), now);
            let others = [rules.actor(&eve, now).verdict, rules.text("spam", now).verdict];
            (verdict("a.example"), verdict("x.b.example"), listed, others)
        };
        assert_eq!(at(NOW), (Verdict::Block, Verdict::Allow, true, [Verdict::Block; 2]));
        assert_eq!(at(later), (Verdict::Allow, Verdict::Block, false, [Verdict::Allow; 2]));
    }

    #[test]
    fn software_counts_for_those_known_to_run_it_unless_they_are_exempt() {
        let rules = RuleSet::default().with(&[
            put("software:spamware", Severity::Block),
            put("software:loudware", Severity::Silence),
            put("good.example", Severity::Allow),
            put("quiet.example", Severity::Silence),
        ]);
        rules.learn(
            ["a.example", "good.example", "quiet.example"].map(|name| (host(name), Some("spamware".to_owned()))),
        );
        rules.learn([(host("b.example"), Some("loudware".to_owned()))]);
        check(&rules, "a.example", Verdict::Block);
        check(&rules, "x.a.example", Verdict::Allow);
        check(&rules, "good.example", Verdict::Allow);
        check(&rules, "quiet.example", Verdict::Block);
        check(&rules, "b.example", Verdict::Silence);
        assert_eq!(rules.name(&host("a.example"), NOW).verdict, Verdict::Allow, "by its name alone");
        let changed = rules.with(&[]);
        rules.learn([(host("a.example"), None), (host("b.example"), Some("spamware".to_owned()))]);
        for rules in [&rules, &changed] {
            check(rules, "a.example", Verdict::Allow);
            check(rules, "b.example", Verdict::Block);
        }
    }

    #[test]
    fn a_post_is_as_bad_as_the_worst_of_all_it_comes_from() {
        let iri = |text: &str| Iri::parse(text).unwrap();
        let eve = "https://a.example/users/eve";
        let rules = RuleSet::default().with(&[
            put(eve, Severity::Block),
            put("evil.example", Severity::Block),
            put("loud.example", Severity::Silence),
        ]);
        let check = |actor: &str, object: &str, supplier: &str, expected: Verdict| {
            let ruling = rules.post(&iri(actor), &iri(object), &host(supplier), NOW);
            assert_eq!(ruling.verdict, expected, "{actor} {object} {supplier}");
        };
        let (ada, note) = ("https://a.example/users/ada", "https://a.example/notes/1");
        check(ada, note, "a.example", Verdict::Allow);
        check(eve, note, "a.example", Verdict::Block);
        check("https://a.example/users/eve/", note, "a.example", Verdict::Allow);
        check("https://evil.example/u", note, "a.example", Verdict::Block);
        check(ada, "https://evil.example/n", "a.example", Verdict::Block);
        check(ada, note, "evil.example", Verdict::Block);
        check(ada, note, "loud.example", Verdict::Silence);
        check(ada, "https://evil.example/n", "loud.example", Verdict::Block);
        assert_eq!(rules.server(&iri(eve).authority(), NOW).verdict, Verdict::Allow, "her server has done nothing");
    }

    #[test]
    fn keywords_look_at_plain_text_of_any_size_and_script() {
        let rules = RuleSet::default().with(&[put("keyword:casino", Severity::Block)]);
        let check = |text: &str, expected: Verdict| assert_eq!(rules.text(text, NOW).verdict, expected);
        check("the best CASINO in town", Verdict::Block);
        check("nothing", Verdict::Allow);
        check(&format!("{}casino", "x".repeat(TEXT_BYTES)), Verdict::Allow);
        check(&format!("{}casino", "ゆ".repeat(TEXT_BYTES / 3)), Verdict::Allow);
        check(&format!("{}casino", "x".repeat(TEXT_BYTES - 6)), Verdict::Block);
    }

    #[test]
    fn a_dry_run_rule_decides_nothing_and_is_named() {
        let eve = Iri::parse("https://b.example/eve").unwrap();
        let rules = RuleSet::default().with(&[
            dry("evil.example", Severity::Block),
            put("loud.example", Severity::Silence),
            dry("loud.example", Severity::Block),
            put("bad.example", Severity::Block),
            dry("good.bad.example", Severity::Allow),
            dry("software:spamware", Severity::Block),
            dry(eve.as_str(), Severity::Block),
            dry("keyword:spam", Severity::Block),
            dry("listed.example", Severity::Allow),
        ]);
        rules.learn([(host("s.example"), Some("spamware".to_owned()))]);
        let check = |ruling: &Ruling, verdict: Verdict, would: Option<&str>| {
            let named = ruling.would.as_ref().map(|one| one.rule.target.to_string());
            assert_eq!((ruling.verdict, named.as_deref()), (verdict, would));
        };
        let server = |text: &str| rules.server(&host(text), NOW);
        check(&server("evil.example"), Verdict::Allow, Some("domain:evil.example"));
        // One row per target and source: the dry one took the place of the other.
        check(&server("loud.example"), Verdict::Allow, Some("domain:loud.example"));
        check(&server("x.bad.example"), Verdict::Block, None);
        check(&server("good.bad.example"), Verdict::Block, Some("domain:good.bad.example"));
        check(&server("s.example"), Verdict::Allow, Some("software:spamware"));
        check(&rules.actor(&eve, NOW), Verdict::Allow, Some("actor:https://b.example/eve"));
        check(&rules.text("spam", NOW), Verdict::Allow, Some("keyword:spam"));
        let post = rules.post(&eve, &eve, &host("b.example"), NOW);
        check(&post, Verdict::Allow, Some("actor:https://b.example/eve"));
        assert!(!rules.is_listed(&host("listed.example"), NOW));
        let metrics = Metrics::new();
        let ruling = server("evil.example");
        ruling.count(&metrics);
        ruling.count_dry(&metrics);
        assert_eq!(ruling.would.as_ref().map(|one| one.hits()), Some(1));
        let text = metrics.render();
        assert!(text.contains("rules_total{effect=\"would\",severity=\"block\",target=\"domain\"} 1"), "{text}");
        let enforced = text.lines().filter(|line| line.contains("effect=\"enforced\""));
        assert!(enforced.clone().all(|line| line.ends_with(" 0")), "{text}");
    }

    #[test]
    fn no_search_keeps_posts_from_being_found_and_from_nothing_else() {
        let eve = Iri::parse("https://e.example/users/eve").unwrap();
        let rules = RuleSet::default().with(&[
            put("quiet.example", Severity::NoSearch),
            put("good.quiet.example", Severity::Allow),
            put("loud.example", Severity::Silence),
            put("evil.example", Severity::Block),
            put("both.example", Severity::NoSearch),
            listed("both.example", Severity::Block),
            listed("listed.example", Severity::NoSearch),
            listed("freed.example", Severity::NoSearch),
            put("freed.example", Severity::Allow),
            put("software:bridge", Severity::NoSearch),
            put(eve.as_str(), Severity::NoSearch),
            put("keyword:casino", Severity::NoSearch),
            dry("trial.example", Severity::NoSearch),
        ]);
        rules.learn([(host("b.example"), Some("bridge".to_owned()))]);
        for (name, relayed, found) in [
            ("a.example", Verdict::Allow, Verdict::Allow),
            ("quiet.example", Verdict::Allow, Verdict::Block),
            ("x.quiet.example", Verdict::Allow, Verdict::Block),
            ("good.quiet.example", Verdict::Allow, Verdict::Allow),
            ("loud.example", Verdict::Silence, Verdict::Block),
            ("evil.example", Verdict::Block, Verdict::Block),
            // The operator's `no-search` does not silence the list that blocks.
            ("both.example", Verdict::Block, Verdict::Block),
            ("listed.example", Verdict::Allow, Verdict::Block),
            ("freed.example", Verdict::Allow, Verdict::Allow),
            ("b.example", Verdict::Allow, Verdict::Block),
            ("trial.example", Verdict::Allow, Verdict::Allow),
        ] {
            check(&rules, name, relayed);
            assert_eq!(rules.searchable_server(&host(name), NOW).verdict, found, "{name}");
            let author = Iri::parse(&format!("https://{name}/users/ada")).unwrap();
            assert_eq!(rules.searchable(&author, "", NOW).verdict, found, "{name}");
        }
        assert_eq!(rules.actor(&eve, NOW).verdict, Verdict::Allow);
        assert_eq!(rules.post(&eve, &eve, &host("e.example"), NOW).verdict, Verdict::Allow);
        assert_eq!(rules.searchable(&eve, "", NOW).verdict, Verdict::Block);
        let bo = Iri::parse("https://e.example/users/bo").unwrap();
        assert_eq!(rules.text("casino", NOW).verdict, Verdict::Allow);
        assert_eq!(rules.searchable(&bo, "birds", NOW).verdict, Verdict::Allow);
        assert_eq!(rules.searchable(&bo, "casino", NOW).verdict, Verdict::Block);
        let trial = Iri::parse("https://trial.example/u").unwrap();
        let would = rules.searchable(&trial, "", NOW).would.map(|one| one.rule.target.to_string());
        assert_eq!(would.as_deref(), Some("domain:trial.example"));
        let by = rules.searchable(&eve, "casino", NOW).by.map(|one| one.rule.target.to_string());
        assert_eq!(by.as_deref(), Some("actor:https://e.example/users/eve"));
        assert!(!rules.is_listed(&host("quiet.example"), NOW));
    }

    #[test]
    fn what_is_not_relayed_is_never_found() {
        let severities = [Severity::Allow, Severity::NoSearch, Severity::Silence, Severity::Block];
        for above in severities {
            for by_hand in severities {
                for by_list in severities {
                    let rules = [put("example", above), put("a.example", by_hand), listed("a.example", by_list)];
                    let rules = RuleSet::default().with(&rules);
                    let relayed = rules.verdict(&host("a.example"), NOW) == Verdict::Allow;
                    let found = rules.searchable_server(&host("a.example"), NOW).verdict == Verdict::Allow;
                    assert!(found <= relayed, "{above:?} {by_hand:?} {by_list:?}");
                }
            }
        }
    }

    #[test]
    fn the_list_of_those_who_may_join_covers_subdomains() {
        let rules = of_file(&[], &[], &["good.example", "127.0.0.1:4101"]);
        let check = |text: &str, expected: bool| assert_eq!(rules.is_listed(&host(text), NOW), expected, "{text}");
        check("good.example", true);
        check("a.good.example:8443", true);
        check("notgood.example", false);
        check("127.0.0.1:4101", true);
        check("127.0.0.1:4102", false);
    }

    #[test]
    fn a_look_up_walks_the_labels_and_nothing_else() {
        let names = |text: &str| levels(&host(text)).map(str::to_owned).collect::<Vec<_>>();
        let expected = ["a.b.evil.example:8443", "a.b.evil.example", "b.evil.example", "evil.example", "example"];
        assert_eq!(names("a.b.evil.example:8443"), expected);
        assert_eq!(names("127.0.0.1:81"), ["127.0.0.1:81", "127.0.0.1"]);
        assert_eq!(names("[2001:db8::1]"), ["[2001:db8::1]"]);
        let many: Vec<_> = (0..100_000).map(|n| listed(&format!("s{n}.example"), Severity::Block)).collect();
        let rules = RuleSet::default().with(&many);
        assert_eq!(rules.len(), 100_000);
        // A scan would take two thousand million steps.
        let started = Instant::now();
        for n in 0..20_000 {
            let expected = if n % 2 == 0 { Verdict::Block } else { Verdict::Allow };
            let name = if n % 2 == 0 { format!("a.b.s{n}.example:81") } else { format!("a.b.t{n}.example:81") };
            assert_eq!(rules.verdict(&host(&name), NOW), expected);
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}

//! What a query means to the index: from words to terms, from names to the ledger's numbers, from dates to ids. The
//! result is a [`Compiled`], which still knows nothing of the engine's state; binding makes the engine's query
//! of it for one look at the index.

use std::ops::Range;
use std::sync::Arc;

use tantivy::Term;
use tantivy::query::{
    AllQuery, BooleanQuery, ConstScoreQuery, EmptyQuery, Occur, PhrasePrefixQuery, PhraseQuery, Query as EngineQuery,
    TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::bounds::{Deadline, IdRange, Timed};
use super::query::{Expr, Leaf, Query};
use super::schema::{Fields, first_id};
use super::stems::{Allowance, Stem};
use super::tokens::{Reading, tokens};
use crate::wire::document::Prop;

/// Who and what the names in a query are, by the ledger's numbers.
pub trait Names {
    /// The authors that `from:` means: `me`, `name` or `name@host`, in lower case. Nobody if it is not known.
    fn authors(&self, who: &str) -> Vec<u64>;
    /// The servers that `domain:` means, in lower case.
    fn servers(&self, host: &str) -> Vec<u64>;
}

/// A query, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    plan: Plan,
    /// The ids that the dates of the query leave, where they hold for all that it finds.
    ids: Range<u64>,
}

/// A condition in terms of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Nothing,
    All(Vec<Plan>),
    Any(Vec<Plan>),
    Not(Box<Plan>),
    /// A word of the text.
    Text(String),
    /// Words of the text by their places.
    Phrase(Vec<(usize, String)>),
    /// The same; the last is how a word begins.
    PhrasePrefix(Vec<(usize, String)>),
    /// How a word of the text begins.
    TextPrefix(String),
    Tag(String),
    TagPrefix(String),
    Language(String),
    Prop(Prop),
    Authors(Vec<u64>),
    Servers(Vec<u64>),
    Ids(Range<u64>),
}

/// What the engine is asked.
pub(super) struct Bound {
    pub(super) query: Box<dyn EngineQuery>,
    pub(super) ids: Range<u64>,
    /// What its prefixes may open, and whether that was enough.
    pub(super) allowance: Arc<Allowance>,
}

impl Compiled {
    /// Compiles `query`. Sensitive posts are left out unless `sensitive` says so.
    #[must_use]
    pub fn new(query: &Query, names: &dyn Names, sensitive: bool) -> Self {
        let mut ids = 0..u64::MAX;
        let mut members = Vec::new();
        for member in conditions(&query.root) {
            match member {
                Expr::Leaf(Leaf::Before(millis)) => ids.end = ids.end.min(first_id(*millis)),
                Expr::Leaf(Leaf::After(millis)) => ids.start = ids.start.max(after(*millis)),
                other => members.push(plan(other, names)),
            }
        }
        if members.is_empty() && query.root == Expr::All(Vec::new()) {
            members.push(Plan::Nothing);
        }
        if !sensitive {
            members.push(Plan::Not(Box::new(Plan::Prop(Prop::Sensitive))));
        }
        Self { plan: all(members), ids }
    }

    pub(super) fn bind(&self, fields: &Fields, scored: bool, deadline: &Arc<Deadline>) -> Bound {
        let allowance = Arc::new(Allowance::shared_by(self.plan.stems(), deadline));
        let binder = Binder { fields, scored, deadline, allowance: &allowance };
        let query = binder.query(&self.plan);
        Bound { query, ids: self.ids.clone(), allowance }
    }
}

impl Plan {
    /// How many of its conditions are how something begins.
    fn stems(&self) -> usize {
        match self {
            Self::All(members) | Self::Any(members) => members.iter().map(Self::stems).sum(),
            Self::Not(inner) => inner.stems(),
            Self::PhrasePrefix(_) | Self::TextPrefix(_) | Self::TagPrefix(_) => 1,
            _ => 0,
        }
    }
}

fn conditions(root: &Expr) -> &[Expr] {
    match root {
        Expr::All(members) => members,
        other => std::slice::from_ref(other),
    }
}

fn plan(expr: &Expr, names: &dyn Names) -> Plan {
    match expr {
        Expr::All(members) => all(members.iter().map(|member| plan(member, names)).collect()),
        Expr::Any(members) => Plan::Any(members.iter().map(|member| plan(member, names)).collect()),
        Expr::Not(inner) => Plan::Not(Box::new(plan(inner, names))),
        Expr::Leaf(leaf) => match leaf {
            Leaf::Word(text) => word(text),
            Leaf::Prefix(text) => prefix(text),
            Leaf::Phrase(text) => phrase(text),
            Leaf::Tag(key) => Plan::Tag(key.clone()),
            Leaf::TagPrefix(key) => Plan::TagPrefix(key.clone()),
            Leaf::From(who) => Plan::Authors(names.authors(who)),
            Leaf::Domain(host) => Plan::Servers(names.servers(host)),
            Leaf::Language(code) => Plan::Language(code.clone()),
            Leaf::Prop(prop) => Plan::Prop(*prop),
            Leaf::Before(millis) => Plan::Ids(0..first_id(*millis)),
            Leaf::After(millis) => Plan::Ids(after(*millis)..u64::MAX),
            Leaf::Library => Plan::Nothing,
        },
    }
}

fn after(millis: i64) -> u64 {
    first_id(millis.saturating_add(1))
}

fn all(mut members: Vec<Plan>) -> Plan {
    if members.len() == 1 { members.swap_remove(0) } else { Plan::All(members) }
}

pub(super) type Terms = Vec<(usize, String, Reading)>;

/// The terms of a text by their places, the first at 0.
pub(super) fn terms(text: &str) -> Terms {
    let mut found: Terms = Vec::new();
    tokens(text, |token| {
        if !matches!(token.reading, Reading::Part | Reading::Tail) {
            found.push((usize::try_from(token.position).unwrap_or(usize::MAX), token.text.to_owned(), token.reading));
        }
    });
    let first = found.first().map_or(0, |(place, _, _)| *place);
    for (place, _, _) in &mut found {
        *place = place.saturating_sub(first);
    }
    found
}

/// What the tokenizer makes several terms of stands together: `foo-bar`, or a run of characters without spaces.
fn word(text: &str) -> Plan {
    phrase(text)
}

fn phrase(text: &str) -> Plan {
    let found = terms(text);
    // A character that stands alone begins a longer run in most texts.
    let open = found.last().is_some_and(|(_, _, reading)| *reading == Reading::Single);
    side_by_side(found, open)
}

fn prefix(text: &str) -> Plan {
    let found = terms(text);
    let open = found.last().is_some_and(|(_, _, reading)| matches!(reading, Reading::Word | Reading::Single));
    side_by_side(found, open)
}

fn side_by_side(mut found: Terms, open: bool) -> Plan {
    match (found.len(), open) {
        (0, _) => Plan::Nothing,
        (1, true) => Plan::TextPrefix(found.swap_remove(0).1),
        (1, false) => Plan::Text(found.swap_remove(0).1),
        (_, open) => {
            let words = found.into_iter().map(|(place, text, _)| (place, text)).collect();
            if open { Plan::PhrasePrefix(words) } else { Plan::Phrase(words) }
        }
    }
}

struct Binder<'a> {
    fields: &'a Fields,
    /// Whether how well a post fits is asked for.
    scored: bool,
    deadline: &'a Arc<Deadline>,
    allowance: &'a Arc<Allowance>,
}

impl Binder<'_> {
    fn query(&self, plan: &Plan) -> Box<dyn EngineQuery> {
        let fields = self.fields;
        match plan {
            Plan::Nothing => Box::new(EmptyQuery),
            Plan::All(members) => self.all(members),
            Plan::Not(_) => self.all(std::slice::from_ref(plan)),
            Plan::Any(members) => union(members.iter().map(|member| self.query(member)).collect()),
            Plan::Text(text) => {
                let read = if self.scored { IndexRecordOption::WithFreqs } else { IndexRecordOption::Basic };
                Box::new(TermQuery::new(Term::from_field_text(fields.text, text), read))
            }
            Plan::Phrase(words) => self.timed(Box::new(PhraseQuery::new_with_offset(self.words(words)))),
            Plan::PhrasePrefix(words) => {
                let mut query = PhrasePrefixQuery::new_with_offset(self.words(words));
                query.set_max_expansions(self.allowance.most_of_one());
                let last = words.last().map_or("", |(_, last)| last);
                let query = Stem::last_of(fields.text, last, Box::new(query), self.allowance);
                self.timed(Box::new(query))
            }
            Plan::TextPrefix(stem) => self.prefix(fields.text, stem),
            Plan::Tag(key) => {
                Box::new(TermQuery::new(Term::from_field_text(fields.tag, key), IndexRecordOption::Basic))
            }
            Plan::TagPrefix(stem) => self.prefix(fields.tag, stem),
            Plan::Language(code) => self.filter(vec![Term::from_field_text(fields.language, code)]),
            Plan::Prop(prop) => self.filter(vec![Term::from_field_text(fields.prop, prop.as_str())]),
            Plan::Authors(ids) => self.filter(ids.iter().map(|id| Term::from_field_u64(fields.author, *id)).collect()),
            Plan::Servers(ids) => self.filter(ids.iter().map(|id| Term::from_field_u64(fields.server, *id)).collect()),
            Plan::Ids(ids) => self.unscored(Box::new(IdRange(ids.clone()))),
        }
    }

    fn all(&self, members: &[Plan]) -> Box<dyn EngineQuery> {
        let mut clauses = Vec::with_capacity(members.len() + 1);
        for member in members {
            clauses.push(match member {
                Plan::Not(inner) => (Occur::MustNot, self.query(inner)),
                other => (Occur::Must, self.query(other)),
            });
        }
        if clauses.iter().all(|(occur, _)| *occur == Occur::MustNot) {
            clauses.push((Occur::Must, self.unscored(Box::new(AllQuery))));
        }
        if let [(Occur::Must, _)] = clauses.as_slice() {
            return clauses.swap_remove(0).1;
        }
        Box::new(BooleanQuery::new(clauses))
    }

    fn words(&self, words: &[(usize, String)]) -> Vec<(usize, Term)> {
        words.iter().map(|(place, text)| (*place, Term::from_field_text(self.fields.text, text))).collect()
    }

    /// Conditions that say nothing of how well a post fits.
    fn filter(&self, terms: Vec<Term>) -> Box<dyn EngineQuery> {
        let term = |term| Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn EngineQuery>;
        self.unscored(union(terms.into_iter().map(term).collect()))
    }

    fn unscored(&self, query: Box<dyn EngineQuery>) -> Box<dyn EngineQuery> {
        if self.scored { Box::new(ConstScoreQuery::new(query, 0.0)) } else { query }
    }

    /// Phrases are what a search can take long over.
    fn timed(&self, query: Box<dyn EngineQuery>) -> Box<dyn EngineQuery> {
        Box::new(Timed::new(query, Arc::clone(self.deadline)))
    }

    fn prefix(&self, field: Field, stem: &str) -> Box<dyn EngineQuery> {
        let query: Box<dyn EngineQuery> = Box::new(Stem::new(field, stem, self.allowance));
        if self.scored { Box::new(ConstScoreQuery::new(query, 1.0)) } else { query }
    }
}

pub(super) fn union(mut members: Vec<Box<dyn EngineQuery>>) -> Box<dyn EngineQuery> {
    match members.len() {
        0 => Box::new(EmptyQuery),
        1 => members.swap_remove(0),
        _ => Box::new(BooleanQuery::union(members)),
    }
}

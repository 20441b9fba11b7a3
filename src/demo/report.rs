//! The summary: one value for people (a table) and for programs (JSON). Its counts add up: what was expected is what
//! was received and what is missing.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::check::{Findings, Made, Member, quantile};
use super::family::Family;
use super::posts::Visibility;
use super::promise::{Health, Promise};
use super::searching::Searched;
use super::trending::Trended;

/// How many cases of a broken promise are told in words.
const TOLD: usize = 3;

/// What a run of the demo showed.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The relay's public URL.
    pub relay: String,
    /// Every promise was kept.
    pub kept: bool,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// What the instances did.
    pub posts: Posts,
    /// What came of it.
    pub deliveries: Deliveries,
    /// Requests that instances refused, by reason. `other-profile` and `fault` belong to the plan.
    pub refusals: BTreeMap<String, u64>,
    /// From post to arrival, at instances that were well all the time; GoToSocial, to which relays must keep to one
    /// request a second, is left out.
    pub lag_ms: Lag,
    /// What the search found.
    pub search: Searched,
    /// What became of what everybody spoke of.
    pub trends: Trended,
    /// One line per instance.
    pub instances: Vec<Line>,
    /// The promises.
    pub promises: Vec<Kept>,
}

/// What was posted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Posts {
    /// All posts: the sum of the four kinds.
    pub made: u64,
    /// For everybody.
    pub public: u64,
    /// Quiet public.
    pub unlisted: u64,
    /// For followers.
    pub followers: u64,
    /// For those mentioned.
    pub direct: u64,
    /// Boosts of others' posts, not counted as posts.
    pub boosts: u64,
    /// Edits.
    pub edits: u64,
    /// Deletions.
    pub deletions: u64,
    /// Public posts that the relay answered 2xx.
    pub acknowledged: u64,
}

/// (post, subscriber) pairs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Deliveries {
    /// Those that must come: public, acknowledged, to subscribers alive other than the origin; of deleted posts, those
    /// that came.
    pub expected: u64,
    /// Those that came and can be read.
    pub received: u64,
    /// `expected` less `received`.
    pub missing: u64,
    /// Pairs that came more than once.
    pub duplicates: u64,
    /// Private posts and boosts that came.
    pub leaks: u64,
}

/// Lag in milliseconds; null if nothing came.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Lag {
    /// The median.
    pub p50: Option<u64>,
    /// The 99th percentile.
    pub p99: Option<u64>,
}

impl Lag {
    fn of(values: &[u64]) -> Self {
        Self { p50: quantile(values, 0.5), p99: quantile(values, 0.99) }
    }
}

/// One instance.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// What it imitates.
    pub software: &'static str,
    /// How it fared.
    pub health: Health,
    /// It became a subscriber.
    pub joined: bool,
    /// Posts and boosts by its authors.
    pub posted: u64,
    /// Posts that must come to it.
    pub expected: u64,
    /// Posts that came to it.
    pub received: u64,
    /// Requests that it refused.
    pub refused: u64,
    /// From post to arrival.
    pub lag_ms: Lag,
}

/// A promise, and whether it was kept.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// Which.
    pub name: Promise,
    /// Whether.
    pub kept: bool,
    /// How often not, and the first cases.
    pub detail: String,
}

pub(super) fn summary(
    relay: &str,
    seconds: f64,
    made: &[Made],
    members: &[Member],
    found: &Findings,
    (search, trends): (Searched, Trended),
) -> Summary {
    let promise = |name: &Promise| {
        let cases = found.broken.get(name).map_or(&[][..], Vec::as_slice);
        let mut told = cases.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
        if cases.len() > TOLD {
            let _ = write!(told, "; and {} more", cases.len() - TOLD);
        }
        Kept { name: *name, kept: cases.is_empty(), detail: told }
    };
    let line = |(member, row): (&Member, &super::check::Row)| Line {
        name: member.name.clone(),
        software: member.family.software(),
        health: member.health,
        joined: member.joined,
        posted: row.posted,
        expected: row.expected,
        received: row.received,
        refused: row.refused,
        lag_ms: Lag::of(&row.lags),
    };
    Summary {
        relay: relay.to_owned(),
        kept: found.all_kept(),
        seconds,
        posts: posts(made),
        deliveries: Deliveries {
            expected: found.expected,
            received: found.received,
            missing: found.expected - found.received,
            duplicates: found.count(Promise::ExactlyOnce),
            leaks: found.count(Promise::Private),
        },
        refusals: found.refusals.iter().map(|(reason, count)| (reason.name(), *count)).collect(),
        lag_ms: Lag::of(&found.lags),
        search,
        trends,
        instances: members.iter().zip(&found.rows).map(line).collect(),
        promises: Promise::ALL.iter().map(promise).collect(),
    }
}

fn posts(made: &[Made]) -> Posts {
    let mut posts = Posts::default();
    for post in made {
        for follow_up in &post.follow_ups {
            if follow_up.is_deletion { posts.deletions += 1 } else { posts.edits += 1 }
        }
        if post.is_boost {
            posts.boosts += 1;
            continue;
        }
        posts.made += 1;
        match post.visibility {
            Visibility::Public => {
                posts.public += 1;
                posts.acknowledged += u64::from((200..300).contains(&post.status));
            }
            Visibility::Unlisted => posts.unlisted += 1,
            Visibility::Followers => posts.followers += 1,
            Visibility::Direct => posts.direct += 1,
        }
    }
    posts
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (posts, sent, lag) = (&self.posts, &self.deliveries, |lag: Lag| {
            let show = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            format!("{} / {}", show(lag.p50), show(lag.p99))
        });
        writeln!(
            f,
            "{:<14} {:<11} {:<6} {:>7} {:>13} {:>8} {:>16}",
            "instance", "software", "health", "posted", "received", "refused", "lag p50/p99 ms"
        )?;
        for line in &self.instances {
            let health = format!("{:?}", line.health).to_lowercase();
            let received = format!("{} of {}", line.received, line.expected);
            writeln!(
                f,
                "{:<14} {:<11} {health:<6} {:>7} {received:>13} {:>8} {:>16}",
                line.name,
                line.software,
                line.posted,
                line.refused,
                lag(line.lag_ms)
            )?;
        }
        if self.instances.iter().any(|line| line.software == Family::GoToSocial.software()) {
            writeln!(
                f,
                "(GoToSocial is sent at most 300 requests in five minutes, as its rate limit asks; the total lag leaves it out)"
            )?;
        }
        writeln!(
            f,
            "\n{} posts: {} public, {} unlisted, {} followers-only, {} direct; {} boosts, {} edits, {} deletions",
            posts.made,
            posts.public,
            posts.unlisted,
            posts.followers,
            posts.direct,
            posts.boosts,
            posts.edits,
            posts.deletions
        )?;
        writeln!(
            f,
            "{} deliveries expected: {} received, {} missing, {} twice, {} leaked; lag {} ms; {:.1} s",
            sent.expected,
            sent.received,
            sent.missing,
            sent.duplicates,
            sent.leaks,
            lag(self.lag_ms),
            self.seconds
        )?;
        if self.search.instances > 0 {
            let Searched { instances, expected, found, withdrawn_ms } = self.search;
            write!(f, "search: {found} of {expected} posts of who said yes are found, on {instances} instances")?;
            match withdrawn_ms {
                Some(ms) => writeln!(f, "; who said no afterwards was gone in {ms} ms")?,
                None => writeln!(f)?,
            }
        }
        if self.trends.rank > 0 {
            let Trended { tag, people, servers, rank, rise, listed_after_ms, .. } = &self.trends;
            let rise = rise.iter().filter(|people| **people > 0).map(u64::to_string).collect();
            write!(f, "trends: #{tag}, {people} people on {servers} servers, rank {rank}; rose by ")?;
            write!(f, "{}", join_or(rise, "one step"))?;
            match listed_after_ms {
                Some(ms) => writeln!(f, "; on the list {ms} ms after the first of them")?,
                None => writeln!(f)?,
            }
        }
        let refusals = self.refusals.iter().map(|(reason, count)| format!("{count} {reason}"));
        writeln!(f, "refused by instances: {}", join_or(refusals.collect(), "nothing"))?;
        for promise in &self.promises {
            let (mark, name) = (if promise.kept { "kept  " } else { "BROKEN" }, promise.name.name());
            writeln!(f, "{mark} {name:<13} {}", promise.detail)?;
        }
        Ok(())
    }
}

fn join_or(parts: Vec<String>, none: &str) -> String {
    if parts.is_empty() { none.to_owned() } else { parts.join(", ") }
}

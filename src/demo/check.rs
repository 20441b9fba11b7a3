//! The promises, and the judgement whether they were kept. Pure: what was posted, who takes part, and what the
//! instances' ledgers say. Nothing here has ever seen the relay.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::family::Family;
use super::ledger::{Ledger, Outcome, Receipt, Standing};
use super::posts::Visibility;
use super::promise::{Health, Promise};
use crate::clock::Timestamp;

/// How old a relay's `Date` may be, in seconds: the strictest families' window (Misskey, Friendica, Iceshrimp.NET).
const FRESH: u64 = 300;

/// An instance that takes part.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) health: Health,
    /// Became a subscriber (and was followed back where needed).
    pub(super) joined: bool,
    /// What the relay said to it, where that was a no.
    pub(super) refused: Option<String>,
}

/// A post that was made, or a boost.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) activity_id: String,
    /// The number of its instance.
    pub(super) from: usize,
    /// Its author's name there.
    pub(super) author: String,
    pub(super) visibility: Visibility,
    pub(super) is_boost: bool,
    /// It bears the hashtag that everybody speaks of.
    pub(super) tagged: bool,
    /// A word that is in this post's text and in no other's.
    pub(super) marker: String,
    pub(super) at: Timestamp,
    /// The relay's last answer.
    pub(super) status: u16,
    pub(super) follow_ups: Vec<FollowUp>,
}

/// An edit or a deletion that was sent.
#[derive(Clone, Debug)]
pub(super) struct FollowUp {
    pub(super) activity_id: String,
    pub(super) is_deletion: bool,
    pub(super) embedded: bool,
    pub(super) status: u16,
}

impl Made {
    pub(super) fn acknowledged(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn deleted(&self) -> bool {
        self.follow_ups.iter().any(|follow_up| follow_up.is_deletion)
    }

    pub(super) fn is_relayable(&self) -> bool {
        !self.is_boost && self.visibility == Visibility::Public
    }
}

/// Everything that was found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// (post, subscriber) pairs that were to be served.
    pub(super) expected: u64,
    pub(super) received: u64,
    /// Milliseconds from post to arrival, at instances that were well all the time. GoToSocial is left out: relays must
    /// keep to 300 requests in five minutes there.
    pub(super) lags: Vec<u64>,
    pub(super) rows: Vec<Row>,
    /// Requests that instances refused, by reason.
    pub(super) refusals: BTreeMap<Outcome, u64>,
    pub(super) broken: BTreeMap<Promise, Vec<String>>,
}

/// One instance's part.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) posted: u64,
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) refused: u64,
    pub(super) lags: Vec<u64>,
}

impl Findings {
    pub(super) fn breaks(&mut self, promise: Promise, what: String) {
        self.broken.entry(promise).or_default().push(what);
    }

    /// Every promise is kept.
    pub(super) fn all_kept(&self) -> bool {
        self.broken.is_empty()
    }

    /// Nothing is missing: waiting longer can only bring what must not come.
    pub(super) fn all_came(&self) -> bool {
        self.count(Promise::Everyone) == 0 && self.count(Promise::FollowUps) == 0
    }

    /// How often a promise was broken.
    pub(super) fn count(&self, promise: Promise) -> u64 {
        self.broken.get(&promise).map_or(0, |cases| cases.len() as u64)
    }
}

/// Judges. `ledgers` are in the members' order; a dead member's may be missing.
pub(super) fn judge(made: &[Made], members: &[Member], ledgers: &[Option<Ledger>]) -> Findings {
    let mut findings = Findings { rows: vec![Row::default(); members.len()], ..Findings::default() };
    for member in members.iter().filter(|member| !member.joined) {
        let why = member.refused.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let what = format!("{} ({}) did not become a subscriber{why}", member.name, member.family.software());
        findings.breaks(Promise::Handshake, what);
    }
    for post in made {
        if let Some(row) = findings.rows.get_mut(post.from) {
            row.posted += 1;
        }
        if post.is_relayable() && !post.acknowledged() {
            findings.breaks(Promise::Everyone, format!("the relay answered {} to {}", post.status, post.id));
        }
    }
    for (index, (member, ledger)) in members.iter().zip(ledgers).enumerate() {
        let Some(ledger) = ledger else { continue };
        for receipt in &ledger.receipts {
            request(&mut findings, index, member, receipt);
        }
        leaks(&mut findings, made, index, member, &ledger.receipts);
        if member.joined && member.health != Health::Dead {
            deliveries(&mut findings, made, index, member, ledger);
        }
    }
    if findings.expected == 0 {
        findings.breaks(Promise::Everyone, "no public post came to be: nothing is proved".to_owned());
    }
    findings
}

/// What can be said about one request alone.
fn request(findings: &mut Findings, index: usize, member: &Member, receipt: &Receipt) {
    let name = &member.name;
    if receipt.outcome.is_refused() {
        *findings.refusals.entry(receipt.outcome).or_default() += 1;
        if let Some(row) = findings.rows.get_mut(index) {
            row.refused += 1;
        }
    }
    if receipt.outcome.is_untrue() || receipt.outcome == Outcome::Malformed {
        let what = format!("{name} refused a {}: {}", receipt.kind, receipt.detail);
        findings.breaks(Promise::Signature, what);
    }
    let age = receipt.date.map_or(0, |date| date.millis().abs_diff(receipt.at.millis()) / 1000);
    if receipt.outcome == Outcome::Date || age > FRESH {
        findings.breaks(Promise::FreshDate, format!("{name} got a {} dated {age} seconds off", receipt.kind));
    }
}

/// Private posts and boosts that arrived, and posts that came home.
fn leaks(findings: &mut Findings, made: &[Made], index: usize, member: &Member, receipts: &[Receipt]) {
    let own: HashSet<&str> =
        made.iter().filter(|post| post.from == index && !post.is_boost).map(|post| post.id.as_str()).collect();
    let secret: Vec<&Made> = made.iter().filter(|post| !post.is_relayable()).collect();
    for receipt in receipts {
        if receipt.object.as_deref().is_some_and(|object| own.contains(object)) {
            let what = format!("{} got its own {} back", member.name, receipt.object.as_deref().unwrap_or_default());
            findings.breaks(Promise::NotBack, what);
        }
        let told = |post: &&&Made| {
            // A boost's object may be public; only the boost itself must stay away.
            let id = if post.is_boost { &post.activity_id } else { &post.id };
            receipt.body.contains(id.as_str()) || (!post.is_boost && receipt.body.contains(post.marker.as_str()))
        };
        for post in secret.iter().filter(told) {
            let kind = if post.is_boost { "a boost".to_owned() } else { format!("a {:?} post", post.visibility) };
            let what = format!("{} got {} ({kind})", member.name, post.activity_id);
            findings.breaks(Promise::Private, what);
        }
    }
}

/// Whether each public post arrived, once, and what followed it.
fn deliveries(findings: &mut Findings, made: &[Made], index: usize, member: &Member, ledger: &Ledger) {
    let mut posts: HashMap<&str, Vec<&Receipt>> = HashMap::new();
    let mut follow_ups: HashMap<&str, Vec<&Receipt>> = HashMap::new();
    for receipt in &ledger.receipts {
        match (receipt.outcome, receipt.object.as_deref(), receipt.id.as_deref()) {
            (Outcome::Post | Outcome::Known, Some(object), _) => posts.entry(object).or_default().push(receipt),
            (Outcome::Edit | Outcome::Deletion, _, Some(id)) => follow_ups.entry(id).or_default().push(receipt),
            _ => {}
        }
    }
    let standing: HashMap<&str, &Standing> =
        ledger.posts.iter().map(|post| (post.id.as_str(), &post.standing)).collect();
    for post in made.iter().filter(|post| post.from != index && post.is_relayable() && post.acknowledged()) {
        let arrived = posts.get(post.id.as_str()).map_or(&[][..], Vec::as_slice);
        let trouble = trouble(post, arrived, standing.get(post.id.as_str()).copied());
        // A relay need not bring what is gone again already.
        if !(post.deleted() && arrived.is_empty()) {
            let lag = arrived.first().map(|first| first.at.since(post.at).as_millis() as u64);
            count(findings, index, member, trouble.is_none(), lag);
        }
        if let Some(why) = trouble {
            findings.breaks(Promise::Everyone, format!("{} at {}: {why}", post.id, member.name));
        }
        if arrived.len() > 1 {
            findings.breaks(Promise::ExactlyOnce, format!("{} at {}: {} times", post.id, member.name, arrived.len()));
        }
        if matches!(member.family, Family::Mastodon | Family::Misskey) && !arrived.is_empty() {
            followed(findings, post, member, arrived, &follow_ups);
        }
    }
}

/// Why a post does not count as received; `None` if it does.
fn trouble(post: &Made, arrived: &[&Receipt], standing: Option<&Standing>) -> Option<String> {
    if arrived.is_empty() {
        return (!post.deleted()).then(|| "never came".to_owned());
    }
    match standing {
        Some(Standing::Shown | Standing::Deleted) => None,
        Some(Standing::Gone) if post.deleted() => None,
        Some(Standing::Gone) => Some("its origin does not know it".to_owned()),
        Some(Standing::Failed(_)) if post.deleted() => None,
        Some(Standing::Failed(why)) => Some(why.clone()),
        Some(Standing::Fetching) => Some("still being fetched".to_owned()),
        None => Some("came and was lost".to_owned()),
    }
}

fn count(findings: &mut Findings, index: usize, member: &Member, received: bool, lag: Option<u64>) {
    findings.expected += 1;
    findings.received += u64::from(received);
    if member.health == Health::Well && member.family != Family::GoToSocial {
        findings.lags.extend(lag);
    }
    if let Some(row) = findings.rows.get_mut(index) {
        row.expected += 1;
        row.received += u64::from(received);
        row.lags.extend(lag);
    }
}

fn followed(
    findings: &mut Findings,
    post: &Made,
    member: &Member,
    arrived: &[&Receipt],
    receipts: &HashMap<&str, Vec<&Receipt>>,
) {
    let first = arrived.first().map_or(0, |receipt| receipt.seq);
    for follow_up in &post.follow_ups {
        let found = receipts.get(follow_up.activity_id.as_str()).map_or(&[][..], Vec::as_slice);
        let due = follow_up.embedded && (200..300).contains(&follow_up.status);
        let what = match found {
            [] if due => "never came",
            [] => continue,
            [one] if one.seq < first => "came before the post",
            [_] => continue,
            _ => "came more than once",
        };
        findings.breaks(Promise::FollowUps, format!("{} at {}: {what}", follow_up.activity_id, member.name));
    }
}

/// The value below which `share` (0 to 1) of the values lie; `None` of nothing.
pub(super) fn quantile(values: &[u64], share: f64) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    sorted.get(((last as f64) * share).round() as usize).copied()
}

#[cfg(test)]
mod tests;

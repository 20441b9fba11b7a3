//! The demo's trend: everybody speaks of one thing besides their own, and it must rise to the list, with as many people on as
//! many servers as said it. Asked over HTTP, as anybody could. Servers have domains and ages of their own; who is on one that
//! is too young to weigh anything is not expected.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::cast::YOUNG;
use super::check::{Findings, Made};
use super::promise::{Health, Promise};
use super::scenario::Scenario;

/// What everybody speaks of. Every other post does.
pub(super) const TAG: &str = "Regatta";
/// How long it may take until all who said it are counted.
const PATIENCE: Duration = Duration::from_secs(15);
/// What it takes to trend.
const LEAST: u64 = 5;

/// What became of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Trended {
    /// The hashtag.
    pub tag: &'static str,
    /// People who said it, on servers that were always well,
    pub expected: u64,
    /// and who were counted: these, and perhaps such as are on servers that faltered.
    pub people: u64,
    /// Servers.
    pub servers: u64,
    /// Its rank, from 1 to 100; 0: it does not trend.
    pub rank: u64,
    /// How many people were counted each time that it was looked at while people posted.
    pub rise: Vec<u64>,
    /// From the first post about it until it was on the list; null if it never was.
    pub listed_after_ms: Option<u64>,
}

/// What the relay says of it.
#[derive(Deserialize)]
struct Explanation {
    /// None while few say it.
    now: Option<Counted>,
    trends: bool,
    rank: u64,
}

#[derive(Default, Deserialize)]
struct Counted {
    people: u64,
    servers: u64,
}

impl Scenario {
    /// Looks at how far it has risen.
    pub(super) async fn watch_trend(&mut self, relay: &str) {
        let Some(found) = self.explained(relay).await else { return };
        let people = found.now.map_or(0, |now| now.people);
        if self.trended.rise.last() != Some(&people) {
            self.trended.rise.push(people);
        }
        if found.trends && self.trended.listed_after_ms.is_none() {
            let first = self.made.iter().filter(|post| says_it(post)).map(|post| post.at).min();
            let since = first.map(|at| self.clock.now().since(at));
            self.trended.listed_after_ms = since.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        }
    }

    /// Waits until everybody who said it is counted.
    pub(super) async fn trend(&mut self, relay: &str, found: &mut Findings) -> Trended {
        // LitePub servers tell relays of no deletion: what the relay was not told, it cannot know.
        let is_told =
            |post: &Made| post.follow_ups.iter().any(|one| one.is_deletion && (200..300).contains(&one.status));
        let all = self.who_said_it(|_health| true, |post| !is_told(post)).len() as u64;
        let is_well = |health| matches!(health, Health::Well | Health::Slow);
        let well = self.who_said_it(is_well, |post| !post.deleted()).len() as u64;
        (self.trended.tag, self.trended.expected) = (TAG, well);
        if self.explained(relay).await.is_none() {
            return std::mem::take(&mut self.trended);
        }
        let deadline = (Instant::now() + PATIENCE).min(self.deadline);
        // Of fewer than these no number is told.
        let fits = |people: u64| (well..=all).contains(&people) || (people == 0 && well < LEAST);
        loop {
            self.watch_trend(relay).await;
            if let Some(now) = self.explained(relay).await {
                self.trended.rank = now.rank;
                let counted = now.now.unwrap_or_default();
                (self.trended.people, self.trended.servers) = (counted.people, counted.servers);
            }
            let is_there = self.trended.rank > 0 || well < LEAST;
            if (fits(self.trended.people) && is_there) || Instant::now() >= deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let people = self.trended.people;
        if !fits(people) {
            let said = format!("{people} people are counted for #{TAG}, and from {well} to {all} said it");
            found.breaks(Promise::Consent, said);
        }
        std::mem::take(&mut self.trended)
    }

    async fn explained(&self, relay: &str) -> Option<Explanation> {
        let url = Url::parse(&format!("{relay}/api/v1/trends/explain?tag={TAG}&within=1")).ok()?;
        let answer = self.client.get(url, "application/json").await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// By instance and name; those whose posts about it are all gone are none.
    fn who_said_it(&self, of: impl Fn(Health) -> bool, stands: impl Fn(&Made) -> bool) -> BTreeSet<(usize, &str)> {
        let is_here = |post: &&Made| {
            let from = self.cast.get(post.from).filter(|actor| actor.age >= YOUNG);
            from.is_some_and(|actor| of(actor.member.health))
                && says_it(post)
                && post.is_relayable()
                && post.acknowledged()
                && stands(post)
        };
        self.made.iter().filter(is_here).map(|post| (post.from, post.author.as_str())).collect()
    }
}

fn says_it(post: &Made) -> bool {
    post.tagged && !post.is_boost
}

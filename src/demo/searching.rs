//! The demo's search: some admins and half of the authors say yes, and what is found must be exactly what was posted
//! where both did. In the end one author takes it back. Asked over HTTP, as anybody could.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::check::{Findings, Made};
use super::parts::As;
use super::promise::{Health, Promise};
use super::scenario::Scenario;
use super::sign::Tweaks;

/// How long what was posted may take until it is found, and what was taken back until it is not.
const PATIENCE: Duration = Duration::from_secs(15);
/// Results of a page, and pages: more is shown to nobody.
const PAGE: usize = 40;
const MOST: usize = 400;

/// What the search found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Searched {
    /// Instances whose admin switched search on.
    pub instances: u64,
    /// Posts that may be found: public, by authors who said yes, on these instances, and not deleted.
    pub expected: u64,
    /// Those that were found. What was found besides stands under the promise.
    pub found: u64,
    /// From an author's no to the last of their posts that was found; null if nobody had posted.
    pub withdrawn_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    hits: Vec<Hit>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Hit {
    uri: String,
}

impl Scenario {
    /// Of each instance the first author says yes and the others no; admins of those that are always well, and whose clock
    /// is not behind, switch search on. What a clock that is behind dates to before the yes is taken from nobody.
    pub(super) async fn consent(&mut self, relay: &str, broken: Option<Promise>) {
        for actor in &self.cast {
            for (number, author) in actor.authors.iter().enumerate() {
                // To break it, everybody does, and the check goes by what they should have said.
                let says_yes = number == 0 || broken == Some(Promise::Consent);
                actor.instance.set_profile(author, json!({ "indexable": says_yes }));
            }
        }
        let actor = format!("{relay}/search/actor");
        let has_search = match Url::parse(&actor) {
            Ok(url) => self.client.get(url, "application/activity+json").await.is_ok_and(|answer| answer.is_ok()),
            Err(_) => false,
        };
        for actor in self.cast.iter_mut().filter(|_| has_search) {
            if actor.member.health != Health::Well || actor.is_behind || !actor.member.joined {
                continue;
            }
            let origin = actor.instance.origin().to_owned();
            let follow = json!({ "@context": "https://www.w3.org/ns/activitystreams", "id": format!("{origin}/search-on"),
                "type": "Follow", "actor": actor.instance.actor(&As::Server), "object": format!("{relay}/search/actor") });
            let tweaks = Tweaks { url: Some(format!("{relay}/search/inbox")), ..Tweaks::default() };
            let answer = actor.instance.send_raw(follow.to_string(), &As::Server, &tweaks).await;
            actor.is_searched = answer.is_ok_and(|answer| answer.is_ok());
        }
    }

    /// Compares what is found with what may be, and has one author take the consent back.
    pub(super) async fn search(&mut self, relay: &str, found: &mut Findings) -> Searched {
        self.view.say("searching");
        let instances = self.cast.iter().filter(|actor| actor.is_searched).count() as u64;
        let expected = self.may_be_found();
        let mut searched = Searched { instances, expected: expected.len() as u64, ..Searched::default() };
        if instances == 0 {
            return searched;
        }
        let deadline = (Instant::now() + PATIENCE).min(self.deadline);
        let hits = loop {
            let hits = self.all_found(relay).await;
            if hits.is_superset(&self.newest(&expected)) || Instant::now() >= deadline {
                break hits;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        searched.found = hits.intersection(&expected).count() as u64;
        for id in self.newest(&expected).difference(&hits) {
            found.breaks(Promise::Consent, format!("{id} is not found, though its author and its admin said yes"));
        }
        for id in hits.difference(&expected) {
            found.breaks(Promise::Consent, format!("{id} is found, though somebody did not say yes"));
        }
        searched.withdrawn_ms = self.withdraw(relay, found).await;
        searched
    }

    /// The first author with a post that is found says no; how long that took.
    async fn withdraw(&mut self, relay: &str, found: &mut Findings) -> Option<u64> {
        let expected = self.may_be_found();
        let number = self.made.iter().find(|post| expected.contains(&post.id))?.from;
        let (instance, author) = (self.cast[number].instance.clone(), self.cast[number].authors.first()?.clone());
        instance.set_profile(&author, json!({ "indexable": false }));
        let composed = instance.compose_profile(&author)?;
        let theirs: BTreeSet<String> = self
            .made
            .iter()
            .filter(|post| post.from == number && post.author == author && !post.is_boost)
            .map(|post| post.id.clone())
            .collect();
        let began = Instant::now();
        let sent = instance.send_raw(composed.activity.to_string(), &composed.signer, &Tweaks::default()).await;
        if !sent.is_ok_and(|answer| answer.is_ok()) {
            found.breaks(Promise::Consent, format!("the relay did not take the no of {author}"));
            return None;
        }
        loop {
            let left = self.all_found(relay).await.intersection(&theirs).count();
            if left == 0 {
                return Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            }
            if began.elapsed() >= PATIENCE {
                found.breaks(Promise::Consent, format!("{left} posts of {author} are found, who said no"));
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The ids of all posts that may be found.
    fn may_be_found(&self) -> BTreeSet<String> {
        let allowed = |post: &&Made| {
            self.cast.get(post.from).is_some_and(|actor| actor.is_searched && may_be_found(post, actor.authors.first()))
        };
        self.made.iter().filter(allowed).map(|post| post.id.clone()).collect()
    }

    /// Of each instance as many as are shown for one query.
    fn newest(&self, of: &BTreeSet<String>) -> BTreeSet<String> {
        let mut count = vec![0; self.cast.len()];
        let mut newest = BTreeSet::new();
        for post in self.made.iter().rev().filter(|post| of.contains(&post.id)) {
            count[post.from] += 1;
            if count[post.from] <= MOST {
                newest.insert(post.id.clone());
            }
        }
        newest
    }

    /// The ids of all that is found: by a word that stands in every post, and by the name of each instance.
    async fn all_found(&self, relay: &str) -> BTreeSet<String> {
        let mut hits = BTreeSet::new();
        let names =
            self.cast.iter().filter(|actor| actor.is_searched).map(|actor| format!("\"of {}\"", actor.member.name));
        for query in names.chain(["no".to_owned()]) {
            let mut below: Option<String> = None;
            for _page in 0..MOST / PAGE {
                let Ok(mut url) = Url::parse(&format!("{relay}/api/v1/search?limit={PAGE}&sensitive=true")) else {
                    break;
                };
                url.query_pairs_mut().append_pair("q", &query);
                if let Some(below) = &below {
                    url.query_pairs_mut().append_pair("below", below);
                }
                // There is no index in the first moment.
                let Ok(answer) = self.client.get(url, "application/json").await else { break };
                let Ok(page) = serde_json::from_slice::<Page>(&answer.body) else { break };
                hits.extend(page.hits.into_iter().map(|hit| hit.uri));
                let Some(next) = page.next else { break };
                below = Some(next);
            }
        }
        hits
    }
}

fn may_be_found(post: &Made, author: Option<&String>) -> bool {
    post.is_relayable() && post.acknowledged() && !post.deleted() && author == Some(&post.author)
}

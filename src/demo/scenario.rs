//! What happens in the demo: the instances join, post for a while, edit, delete and boost; the faulty ones falter and
//! come back; then everybody waits until all has arrived. The judgement is [`super::check`]'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use url::Url;

use super::cast::Actor;
use super::check::{self, Findings, FollowUp, Made, Member};
use super::client::{Answer, Loopback};
use super::family::Family;
use super::faults::{Fault, Tamper};
use super::instance::Instance;
use super::ledger::Ledger;
use super::parts::{As, Composed};
use super::posts::{Visibility, corpus};
use super::promise::{Health, Promise};
use super::sign::Tweaks;
use super::trending::{TAG, Trended};
use super::view::View;
use crate::clock::Clock;

/// How long a handshake may take.
const JOINING: Duration = Duration::from_secs(10);
/// How long after the last post edits and deletions come.
const LATER: Duration = Duration::from_millis(1_500);
/// How long all must be quiet before duplicates and leaks are no longer waited for.
const GRACE: Duration = Duration::from_secs(2);
/// How long nothing may arrive before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// A run of the demo under way.
pub(super) struct Scenario {
    pub(super) cast: Vec<Actor>,
    pub(super) made: Vec<Made>,
    pub(super) view: View,
    pub(super) deadline: Instant,
    ledgers: Vec<Option<Ledger>>,
    pub(super) client: Loopback,
    pub(super) clock: Clock,
    pub(super) trended: Trended,
}

impl Scenario {
    pub(super) fn new(cast: Vec<Actor>, view: View, deadline: Instant) -> Self {
        let ledgers = cast.iter().map(|_| None).collect();
        let (made, client, clock) = (Vec::new(), Loopback::new(), Clock::system());
        Self { cast, made, view, deadline, ledgers, client, clock, trended: Trended::default() }
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.cast.iter().map(|actor| actor.member.clone()).collect()
    }

    /// All join at once. Whoever is not accepted in time stays outside; the check will say so.
    pub(super) async fn join(&mut self, relay: &str, broken: Option<Promise>) {
        self.view.say("joining");
        if let (Some(Promise::Handshake), Some(victim)) = (broken, self.cast.first()) {
            victim.instance.set_tamper(Tamper::LosesAccepts);
        }
        let limit = JOINING.min(self.deadline.saturating_duration_since(Instant::now()));
        let mut joining = JoinSet::new();
        for (index, actor) in self.cast.iter().enumerate() {
            let (instance, relay) = (Arc::clone(&actor.instance), relay.to_owned());
            joining.spawn(async move {
                let asked = instance.join(&relay).await;
                let refused = asked.as_ref().ok().filter(|answer| !answer.is_ok()).map(refusal);
                let accepted = asked.is_ok_and(|answer| answer.is_ok()) && instance.wait_accepted(limit).await;
                let complete = instance.family() != Family::Akkoma || instance.wait_followed_back(limit).await;
                (index, accepted && complete, refused)
            });
        }
        while let Some(done) = joining.join_next().await {
            if let Ok((index, joined, refused)) = done
                && let Some(actor) = self.cast.get_mut(index)
            {
                (actor.member.joined, actor.member.refused) = (joined, refused);
                self.show("joining").await;
            }
        }
    }

    /// The dead one dies, the flaky one starts to answer 500, and the promise that is to break gets its saboteur.
    pub(super) async fn faults(&mut self, broken: Option<Promise>) {
        for actor in &self.cast {
            match actor.member.health {
                Health::Dead => actor.instance.kill().await,
                Health::Flaky => actor.instance.set_fault(Fault::Status(500)),
                Health::Well | Health::Slow => {}
            }
        }
        let tamper = match broken {
            Some(Promise::Everyone) => Tamper::Loses,
            Some(Promise::ExactlyOnce) => Tamper::Twice,
            Some(Promise::Signature) => Tamper::Alters,
            Some(Promise::FreshDate) => Tamper::Delays,
            Some(Promise::FollowUps) => Tamper::LosesFollowUps,
            _ => Tamper::None,
        };
        if let Some(victim) = self.cast.first() {
            victim.instance.set_tamper(tamper);
        }
    }

    /// `count` posts at `rate` per second, with what comes after them; the flaky one recovers half-way.
    pub(super) async fn post(&mut self, relay: &str, count: usize, rate: f64, broken: Option<Promise>) {
        let authors: Vec<usize> = (0..self.cast.len()).filter(|index| self.can_post(*index)).collect();
        if authors.is_empty() {
            return;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.clamp(0.1, 10_000.0)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut sending, mut due) = (JoinSet::new(), Vec::new());
        let mut shown = Instant::now();
        for number in 0..count {
            if tokio::time::timeout_at(self.deadline, ticks.tick()).await.is_err() {
                break;
            }
            if number == count / 2 {
                self.recover();
            }
            // Shifted by one in every eight, or an instance would always make the same kind of post.
            let from = authors[(number + number / 8) % authors.len()];
            sending.spawn(self.one_post(from, number));
            if number % 12 == 11 {
                self.boost(&mut sending, from);
            }
            while let Some(made) = sending.try_join_next() {
                self.keep(made, &mut due);
            }
            self.follow_up(&mut due, Instant::now()).await;
            if shown.elapsed() > Duration::from_millis(500) {
                self.show("posting").await;
                self.watch_trend(relay).await;
                shown = Instant::now();
            }
        }
        while let Some(made) = sending.join_next().await {
            self.keep(made, &mut due);
        }
        self.recover();
        tokio::time::sleep(LATER.min(self.deadline.saturating_duration_since(Instant::now()))).await;
        self.follow_up(&mut due, Instant::now() + LATER).await;
        self.sabotage(broken).await;
    }

    fn can_post(&self, index: usize) -> bool {
        self.cast.get(index).is_some_and(|actor| actor.member.joined && actor.member.health != Health::Dead)
    }

    fn recover(&self) {
        for actor in self.cast.iter().filter(|actor| actor.member.health == Health::Flaky) {
            actor.instance.set_fault(Fault::None);
        }
    }

    /// Composes a post now and sends it beside: a slow answer must not slow the others.
    fn one_post(&self, from: usize, number: usize) -> impl Future<Output = Made> + Send + use<> {
        let actor = &self.cast[from];
        let marker = format!("no. {number} of {}", actor.member.name);
        let author = &actor.authors[number / self.cast.len() % actor.authors.len()];
        let mut spec = corpus(number).by(author);
        spec.text = format!("{} ({marker})", spec.text);
        spec.visibility = match number % 8 {
            3 => Visibility::Unlisted,
            6 => Visibility::Followers,
            _ if number % 16 == 15 => Visibility::Direct,
            _ => Visibility::Public,
        };
        let tagged = number.is_multiple_of(2);
        spec.tags.extend(tagged.then(|| TAG.to_owned()));
        let composed = actor.instance.compose(&spec);
        let made = Made { tagged, ..self.made_of(from, author, &composed, marker, false) };
        let instance = Arc::clone(&actor.instance);
        async move { Made { status: send(&instance, &composed).await, ..made } }
    }

    fn made_of(&self, from: usize, author: &str, composed: &Composed, marker: String, is_boost: bool) -> Made {
        Made {
            id: composed.id.clone(),
            activity_id: composed.activity_id.clone(),
            from,
            author: author.to_owned(),
            visibility: composed.visibility,
            is_boost,
            tagged: false,
            marker,
            at: self.clock.now(),
            status: 0,
            follow_ups: Vec::new(),
        }
    }

    /// Somebody boosts the latest public post of another instance: real, public, and not to be relayed.
    fn boost(&self, sending: &mut JoinSet<Made>, from: usize) {
        let theirs = |post: &&Made| post.from != from && !post.is_boost && post.visibility == Visibility::Public;
        let Some(object) = self.made.iter().rev().find(theirs).map(|post| post.id.clone()) else { return };
        let actor = &self.cast[from];
        // LitePub servers tell relays nothing of boosts.
        let Some(author) = actor.authors.first().filter(|_| actor.member.family != Family::Akkoma) else { return };
        let composed = actor.instance.compose_boost(author, &object);
        let made = self.made_of(from, author, &composed, String::new(), true);
        let instance = Arc::clone(&actor.instance);
        sending.spawn(async move { Made { status: send(&instance, &composed).await, ..made } });
    }

    /// Notes a post down. Of each instance's public posts the first is edited and the third deleted, and so on in fours.
    fn keep(&mut self, made: Result<Made, tokio::task::JoinError>, due: &mut Vec<(Instant, usize, bool)>) {
        let Ok(made) = made else { return };
        let is_public = |post: &Made| post.visibility == Visibility::Public && !post.is_boost;
        let earlier = self.made.iter().filter(|post| post.from == made.from && is_public(post)).count();
        match earlier % 4 {
            _ if !is_public(&made) => {}
            0 => due.push((Instant::now() + LATER, self.made.len(), false)),
            2 => due.push((Instant::now() + LATER, self.made.len(), true)),
            _ => {}
        }
        self.made.push(made);
    }

    /// Sends the edits and deletions whose time has come.
    async fn follow_up(&mut self, due: &mut Vec<(Instant, usize, bool)>, now: Instant) {
        let (ripe, later) = std::mem::take(due).into_iter().partition(|(at, ..)| *at <= now);
        *due = later;
        let ripe: Vec<(Instant, usize, bool)> = ripe;
        for (_, place, is_deletion) in ripe {
            let Some(post) = self.made.get_mut(place) else { continue };
            let instance = Arc::clone(&self.cast[post.from].instance);
            let composed = if is_deletion {
                instance.compose_deletion(&post.id)
            } else {
                instance.compose_edit(&post.id, &format!("{} (corrected)", post.marker))
            };
            let Some(composed) = composed else { continue };
            let (activity_id, embedded) = (composed.activity_id.clone(), composed.embedded);
            let status = send(&instance, &composed).await;
            post.follow_ups.push(FollowUp { activity_id, is_deletion, embedded, status });
        }
    }

    /// Breaks those promises that no tampering with a delivery can break: a private post goes around the relay, or a
    /// post goes home.
    async fn sabotage(&self, broken: Option<Promise>) {
        let wanted = |post: &&Made| match broken {
            Some(Promise::Private) => post.visibility == Visibility::Followers,
            Some(Promise::NotBack) => post.from == 0 && post.visibility == Visibility::Public && !post.is_boost,
            _ => false,
        };
        let Some(post) = self.made.iter().find(wanted) else { return };
        let (Some(victim), sender) = (self.cast.first(), &self.cast[post.from]) else { return };
        let victim = match broken {
            Some(Promise::Private) if post.from == 0 => self.cast.get(1).unwrap_or(victim),
            _ => victim,
        };
        let body = serde_json::json!({ "id": post.activity_id, "type": "Create", "object": { "id": post.id } });
        let url = Some(format!("{}/inbox", victim.instance.origin()));
        let author = As::Author(sender.authors.first().cloned().unwrap_or_default());
        let tweaks = Tweaks { url, ..Tweaks::default() };
        let sent = sender.instance.send_raw(body.to_string(), &author, &tweaks).await;
        tracing::debug!(ok = sent.is_ok(), "broke a promise on purpose");
    }

    /// Waits until all that must come has come and it stays quiet for a while, or nothing moves any more, or time is up.
    pub(super) async fn settle(&mut self) -> Findings {
        let (mut last, mut moved, mut quiet_since) = (0, Instant::now(), None);
        loop {
            let found = self.show("settling").await;
            let now = Instant::now();
            let total = self.ledgers.iter().flatten().map(|ledger| ledger.receipts.len()).sum();
            if total != last {
                (last, moved, quiet_since) = (total, now, None);
            }
            let since = *quiet_since.get_or_insert(now);
            let done = found.all_came() && now.duration_since(since) >= GRACE;
            if done || now.duration_since(moved) >= PATIENCE || now >= self.deadline {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Reads what the instances received, judges it, and shows it.
    async fn show(&mut self, phase: &str) -> Findings {
        self.read().await;
        let members = self.members();
        let found = check::judge(&self.made, &members, &self.ledgers);
        self.view.update(phase, &members, &found);
        found
    }

    /// Over HTTP, as anybody could: only what is new since last time.
    async fn read(&mut self) {
        for (actor, ledger) in self.cast.iter().zip(&mut self.ledgers) {
            let since = ledger.as_ref().and_then(|ledger| ledger.receipts.last()).map_or(0, |receipt| receipt.seq);
            let url = format!("{}/ledger?since={since}", actor.instance.origin());
            let Ok(url) = Url::parse(&url) else { continue };
            // The dead do not answer.
            let Ok(answer) = self.client.get(url, "application/json").await else { continue };
            let Ok(mut news) = serde_json::from_slice::<Ledger>(&answer.body) else { continue };
            if let Some(known) = ledger.take() {
                let mut receipts = known.receipts;
                receipts.append(&mut news.receipts);
                news.receipts = receipts;
            }
            *ledger = Some(news);
        }
    }
}

/// What a relay says in a refusal, for people.
fn refusal(answer: &Answer) -> String {
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let detail = said.get("detail").and_then(serde_json::Value::as_str).unwrap_or("no reason given");
    format!("{} {}", answer.status, detail.chars().take(200).collect::<String>())
}

/// Sends as real servers do: an overloaded relay is asked again. The last status; 0 if there was no answer at all.
async fn send(instance: &Instance, composed: &Composed) -> u16 {
    let mut status = 0;
    for _attempt in 0..6 {
        let wait = match instance.send(composed).await {
            Ok(posted) => {
                status = posted.status();
                match posted.answer {
                    Some(answer) if matches!(status, 429 | 500..=599) => answer.retry_after(),
                    _ => return status,
                }
            }
            Err(_) => None,
        };
        tokio::time::sleep(wait.unwrap_or(Duration::from_millis(500)).min(Duration::from_secs(5))).await;
    }
    status
}

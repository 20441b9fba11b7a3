//! What becomes of posts that are held: the operator lets them go or drops them, their author deletes or edits them, or
//! their time is over. Why they are held is in `screening`.
//!
//! Promise: what is released goes the way of every post, once, and not if it was deleted or its server blocked meanwhile.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Relay;
use super::screening::AUTHOR_DAYS;
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri};
use crate::log::{Draft, Kind};
use crate::policy::Verdict;
use crate::policy::wave::FIRST_DAY;
use crate::store::{Act, Arrivals, HeldKind, HeldPost, HeldTally, Hold, SeenSet, StoreError, Tx};
use crate::wire::text::Features;

/// Posts dealt with in one transaction.
const BATCH: usize = 100;
/// How often rows of servers that fell silent are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// What the operator speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldTarget {
    /// Everything of one server.
    Server(Authority),
    /// One post.
    Post(Iri),
}

impl HeldTarget {
    /// Reads `small.example` or `https://small.example/posts/1`.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.contains("://") {
            return Iri::parse(text).map(Self::Post).map_err(|fault| anyhow::anyhow!("{text:?} is no id: {fault}"));
        }
        let server = Authority::parse(text).map_err(|fault| anyhow::anyhow!("{text:?} is no host: {fault}"))?;
        Ok(Self::Server(server))
    }

    /// Whose it is: all that the audit log keeps.
    fn server(&self) -> Authority {
        match self {
            Self::Server(server) => server.clone(),
            Self::Post(id) => id.authority(),
        }
    }
}

/// What a release did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Released {
    /// Posts that go on.
    pub released: u64,
    /// Posts that do not: deleted, relayed or blocked meanwhile.
    pub dropped: u64,
    /// A server was held as a whole, and is no more.
    pub hold_ended: bool,
}

/// One server of which something is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldServer {
    /// The server.
    pub host: Authority,
    /// It is held as a whole; otherwise only the posts are that gave reason to.
    pub held: bool,
    /// Why, in a word; without a hold of the server, of the post that was held last.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// How many posts wait.
    pub posts: u32,
}

impl Relay {
    /// Servers of which something is held.
    ///
    /// # Errors
    /// The store's.
    pub fn held_servers(&self) -> Result<Vec<HeldServer>, StoreError> {
        let store = &self.0.store;
        let mut tallies: std::collections::BTreeMap<String, HeldTally> =
            store.all_sound::<HeldTally>()?.into_iter().collect();
        let mut rows = Vec::new();
        let mut push = |key: &str, held: bool, reason: String, since: Timestamp, posts: u32| {
            if let Ok(host) = Authority::parse(key) {
                rows.push(HeldServer { host, held, reason, since: since.rfc3339(), posts });
            }
        };
        for (key, hold) in store.all_sound::<Hold>()? {
            let posts = tallies.remove(&key).map_or(0, |tally| tally.posts);
            push(&key, true, hold.reason, hold.since, posts);
        }
        for (key, tally) in tallies {
            push(&key, false, tally.reason, tally.since, tally.posts);
        }
        rows.sort_by(|one, other| (&one.since, &one.host).cmp(&(&other.since, &other.host)));
        Ok(rows)
    }

    /// Ends the hold and relays what waits. A server that is released is left alone by the rule about waves for a day,
    /// and is on probation no longer.
    ///
    /// # Errors
    /// If nothing of it is held; the store's.
    pub async fn release(&self, target: &HeldTarget, act: &Act) -> anyhow::Result<Released> {
        let mut done = Released::default();
        if let HeldTarget::Server(server) = target {
            let (relay, server, act) = (self.clone(), server.clone(), act.clone());
            let end = move |tx: &mut Tx<'_>| {
                let ended = relay.end_hold(tx, &server)?;
                if ended {
                    tx.audit(&act, "held.end", server.as_str(), json!({ "held": true }), Value::Null)?;
                }
                Ok(ended)
            };
            done.hold_ended = self.0.store.write(end).await?;
        }
        let posts = self.held_posts(target)?;
        if !done.hold_ended && posts.is_empty() {
            return Err(nothing_held(target).into());
        }
        for batch in posts.chunks(BATCH) {
            let (relay, count, batch) = (self.clone(), batch.len() as u64, batch.to_vec());
            let (server, act) = (target.server(), act.clone());
            let release = move |tx: &mut Tx<'_>| {
                let mut gone_on = 0;
                for object in &batch {
                    gone_on += u64::from(relay.let_go(tx, object)?);
                }
                tx.audit(
                    &act,
                    "held.release",
                    server.as_str(),
                    json!({ "posts": batch.len() }),
                    json!({ "released": gone_on }),
                )?;
                Ok(gone_on)
            };
            let gone_on = self.0.store.write(release).await?;
            done.released += gone_on;
            done.dropped += count - gone_on;
        }
        tracing::info!(?target, released = done.released, dropped = done.dropped, "held posts were released");
        Ok(done)
    }

    /// Drops what waits; how many. They do not come back, whoever brings them. A hold of the server goes on.
    ///
    /// # Errors
    /// If nothing of it is held; the store's.
    pub async fn discard(&self, target: &HeldTarget, dry_run: bool, act: &Act) -> anyhow::Result<u64> {
        let posts = self.held_posts(target)?;
        if posts.is_empty() {
            return Err(nothing_held(target).into());
        }
        if dry_run {
            return Ok(posts.len() as u64);
        }
        let mut discarded = 0;
        for batch in posts.chunks(BATCH) {
            let (relay, batch, server, act) = (self.clone(), batch.to_vec(), target.server(), act.clone());
            let discard = move |tx: &mut Tx<'_>| {
                let mut discarded = 0;
                for object in &batch {
                    let Some(post) = tx.held(object)? else { continue };
                    if post.kind != HeldKind::Update {
                        tx.note(SeenSet::Tombstones, &[object.as_str()])?;
                    }
                    relay.take_out(tx, object, "discarded")?;
                    discarded += 1;
                }
                tx.audit(&act, "held.discard", server.as_str(), json!({ "posts": discarded }), Value::Null)?;
                Ok(discarded)
            };
            discarded += self.0.store.write(discard).await?;
        }
        tracing::info!(?target, discarded, "held posts were discarded");
        Ok(discarded)
    }

    fn held_posts(&self, target: &HeldTarget) -> Result<Vec<Iri>, StoreError> {
        Ok(match target {
            HeldTarget::Server(server) => self.0.store.held_of(server)?.into_iter().map(|post| post.object).collect(),
            HeldTarget::Post(id) => {
                let there = self.0.store.get::<HeldPost>(&HeldPost::key(id))?;
                there.into_iter().map(|post| post.object).collect()
            }
        })
    }

    fn end_hold(&self, tx: &mut Tx<'_>, server: &Authority) -> Result<bool, StoreError> {
        let key = server.as_str();
        if let Some(arrivals) = tx.get::<Arrivals>(key)? {
            tx.put(key, &Arrivals { quiet_until: self.0.clock.now().plus(FIRST_DAY), ..arrivals })?;
        }
        Self::vouch_for(tx, server)?;
        let there = tx.remove::<Hold>(key)?;
        if there {
            let gauge = self.0.metrics.held_servers.clone();
            tx.after_commit(move |_store| gauge.dec());
        }
        Ok(there)
    }

    /// A person said yes to this server: it is on probation no longer.
    pub(super) fn vouch_for(tx: &mut Tx<'_>, server: &Authority) -> Result<(), StoreError> {
        match tx.subscriber(server)? {
            Some(mut subscriber) if !subscriber.vouched_for => {
                subscriber.vouched_for = true;
                tx.put_subscriber(subscriber)
            }
            _ => Ok(()),
        }
    }

    /// One post goes the way of every post; whether it goes on.
    fn let_go(&self, tx: &mut Tx<'_>, object: &Iri) -> Result<bool, StoreError> {
        let Some(mut post) = tx.held(object)? else { return Ok(false) };
        let now = self.0.clock.now();
        if now.since(post.at) > self.0.screening.forward_horizon / 3 {
            // What it carries was signed long ago, and a lane may be behind by as long again.
            post.drop_body();
        }
        let ruling = self.0.rules.set().post(&post.actor, object, &post.supplier, now);
        // A rule that was made since counts too.
        let is_allowed = ruling.verdict == Verdict::Allow && !self.says_forbidden_words(&post.text);
        let kind = post.kind;
        let draft = draft(post, now);
        let word = match kind {
            _ if !is_allowed => "origin-not-relayed",
            HeldKind::Create => self.append_post(tx, draft)?,
            HeldKind::Update => self.append_change(tx, draft)?,
            HeldKind::Hint => self.append_hint(tx, draft)?,
        };
        let gone_on = matches!(word, "relayed" | "change-relayed" | "for-search" | "change-for-search" | "hint");
        self.take_out(tx, object, if gone_on { "released" } else { "dropped" })?;
        Ok(gone_on)
    }

    /// Takes a post out, and counts why.
    pub(super) fn take_out(&self, tx: &mut Tx<'_>, object: &Iri, why: &'static str) -> Result<(), StoreError> {
        if tx.unhold(object)? {
            let metrics = self.0.metrics.clone();
            tx.after_commit(move |_store| {
                metrics.held_posts.dec();
                metrics.held_posts_total.with_label_values(&[why]).inc();
            });
        }
        Ok(())
    }

    /// An edit of a post that waits: what is shown to the operator and, later, to the world is the new version.
    pub(super) fn change_held(
        &self,
        tx: &mut Tx<'_>,
        mut post: HeldPost,
        draft: &Draft,
        features: Option<&Features>,
    ) -> Result<&'static str, StoreError> {
        match post.kind {
            // It is read from its origin anyway.
            HeldKind::Hint => return Ok("held-before"),
            _ if post.actor != draft.actor => return Ok("change-of-anothers-object"),
            // The bytes of the edit are no Create: those who get it read the post from its origin.
            HeldKind::Create => post.drop_body(),
            HeldKind::Update => {
                post.drop_body();
                post.activity.clone_from(&draft.activity);
                post.at = draft.at;
                post.carried = draft.carried;
                post.body = String::from_utf8_lossy(&draft.body).into_owned();
            }
        }
        post.text = features.map(|features| features.words().into_owned()).unwrap_or_default();
        tx.hold(post)?;
        Ok("held")
    }

    /// Its server says, without its author's word, that a post that waits has changed or is gone: it is read again before
    /// anybody is told of it.
    pub(super) fn doubt_held(tx: &mut Tx<'_>, mut post: HeldPost) -> Result<&'static str, StoreError> {
        post.drop_body();
        post.kind = HeldKind::Hint;
        tx.hold(post)?;
        Ok("held")
    }

    /// Its author edits a post that waits, and the new version is not taken: what waits is read again, too.
    pub(super) fn doubt_version_held(tx: &mut Tx<'_>, actor: &Iri, object: &Iri) -> Result<(), StoreError> {
        match tx.held(object)? {
            Some(post) if post.kind != HeldKind::Hint && post.actor == *actor => Self::doubt_held(tx, post).map(drop),
            _ => Ok(()),
        }
    }

    /// A deletion reaches what waits; whether it may go on to all else.
    pub(super) fn delete_held(&self, tx: &mut Tx<'_>, draft: &Draft) -> Result<bool, StoreError> {
        if let Some(post) = tx.held(&draft.object)? {
            if post.kind != HeldKind::Hint && post.actor != draft.actor {
                return Ok(false);
            }
            self.take_out(tx, &draft.object, "deleted")?;
        }
        let server = draft.actor.authority();
        if draft.object == draft.actor && tx.get::<HeldTally>(server.as_str())?.is_some() {
            // What the same transaction held is not among them: it does not outlive the tombstone when it is released.
            for post in self.0.store.held_of(&server)?.into_iter().filter(|post| post.actor == draft.actor) {
                self.take_out(tx, &post.object, "deleted")?;
            }
        }
        Ok(true)
    }

    /// Drops what waited too long, forgets servers that fell silent, and sets the gauges right.
    pub(super) async fn tidy_held(&self) -> Result<(), StoreError> {
        let (parts, now) = (&self.0, self.0.clock.now());
        let before = now.minus(parts.screening.policy.held_for);
        let tallies = parts.store.all_sound::<HeldTally>()?;
        let waiting = tallies.iter().map(|(_, tally)| i64::from(tally.posts)).sum();
        parts.metrics.held_posts.set(waiting);
        parts.metrics.held_servers.set(i64::try_from(parts.store.all_sound::<Hold>()?.len()).unwrap_or(i64::MAX));
        for (key, _) in tallies.iter().filter(|(_, tally)| tally.since < before) {
            let Ok(server) = Authority::parse(key) else { continue };
            let posts = parts.store.held_of(&server)?;
            let (old, kept): (Vec<_>, Vec<_>) = posts.into_iter().partition(|post| post.at < before);
            let oldest = kept.first().map_or(now, |post| post.at);
            let relay = self.clone();
            let expire = move |tx: &mut Tx<'_>| {
                for post in &old {
                    // It may have been edited since.
                    if tx.held(&post.object)?.is_some_and(|post| post.at < before) {
                        relay.take_out(tx, &post.object, "expired")?;
                    }
                }
                if let Some(mut tally) = tx.get::<HeldTally>(server.as_str())? {
                    tally.since = oldest;
                    tx.put(server.as_str(), &tally)?;
                }
                Ok(old.len())
            };
            let expired = parts.store.write(expire).await?;
            tracing::info!(peer.host = key, expired, "held posts waited too long for the operator and were dropped");
        }
        self.forget_silent_servers(now).await
    }

    async fn forget_silent_servers(&self, now: Timestamp) -> Result<(), StoreError> {
        {
            let mut swept = self.0.screening.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if now.since(*swept) < SWEEP_EVERY {
                return Ok(());
            }
            *swept = now;
        }
        let before = now.minus(Duration::from_secs(u64::from(AUTHOR_DAYS) * 86_400));
        let rows = self.0.store.all_sound::<Arrivals>()?;
        let silent: Vec<String> =
            rows.into_iter().filter(|(_, arrivals)| arrivals.touched < before).map(|(key, _)| key).collect();
        if silent.is_empty() {
            return Ok(());
        }
        let forget = move |tx: &mut Tx<'_>| {
            for key in &silent {
                if tx.get::<Arrivals>(key)?.is_some_and(|arrivals| arrivals.touched < before) {
                    tx.remove::<Arrivals>(key)?;
                }
            }
            Ok(())
        };
        self.0.store.write(forget).await
    }
}

fn nothing_held(target: &HeldTarget) -> StoreError {
    let what = match target {
        HeldTarget::Server(server) => format!("nothing of {server}"),
        HeldTarget::Post(id) => format!("no post {id}"),
    };
    StoreError::Absent(format!("{what} is held; `shearwater admin held` lists what is"))
}

fn draft(post: HeldPost, now: Timestamp) -> Draft {
    let kind = match post.kind {
        HeldKind::Create => Kind::Create,
        HeldKind::Update => Kind::Update,
        HeldKind::Hint => Kind::Hint,
    };
    Draft {
        at: now,
        kind,
        object: post.object,
        actor: post.actor,
        activity: post.activity,
        supplier: post.supplier,
        carried: post.carried,
        published: post.published,
        relayed: !post.for_search,
        body: Bytes::from(post.body),
    }
}

//! Joining and leaving, both handshakes (FEP-ae0c), and the relay's own Follows.
//!
//! A server is one subscriber, however many of its actors follow and in whichever style. The one Accept that fits all
//! embeds the whole Follow (Misskey cannot match a bare id) and has `to` (Pleroma validates it). Who follows our actor is
//! followed back: Pleroma, Akkoma, snac and Mitra send nothing otherwise.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Relay;
use super::verify::Verified;
use crate::clock::Timestamp;
use crate::config::{self, Admission};
use crate::ids::{Authority, Iri};
use crate::log::Log;
use crate::policy::{RuleSet, Verdict};
use crate::store::{
    Act, AuthorityFacts, Directive, FollowState, Following, Health, MAX_REGISTRATIONS, Mode, Paused, Publisher,
    Registration, StoreError, Style, Subscriber, SubscriberState, Tx,
};
use crate::wire::actor::{ActorKind, RemoteActor};
use crate::wire::{author, discovery};

/// The most that is kept of a Follow.
const FOLLOW_BYTES: usize = 8 << 10;

/// Subscribers of one registrable domain, or of one address where there is no domain; more wait for the operator.
pub(super) const PER_DOMAIN: usize = 10;

/// Servers of one registrable domain that are known at all, those that wait for the operator included.
const MOST_OF_DOMAIN: usize = 100;

/// Servers that are known at all, and answers that wait to be sent: beyond either, a Follow is answered 503. Each costs
/// memory and disk, and strangers could make them by the million.
pub(super) const MOST_SERVERS: usize = 50_000;
pub(super) const MOST_ANSWERS: u64 = 50_000;

/// Messages that wait for one server, and for the servers of one registrable domain. Whoever does not take our answers
/// gets no more of them, and keeps nobody else from theirs: its Follow is answered 503, or the refusal that it would be.
pub(super) const MOST_ANSWERS_OF_SERVER: u32 = 20;
pub(super) const MOST_ANSWERS_OF_DOMAIN: u32 = 500;

/// An actor that was followed this recently is not followed again.
const FOLLOW_GAP: Duration = Duration::from_secs(600);

/// What a server that is turned away for its software runs is read again when it asks after this long.
pub(super) const SOFTWARE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What becomes of a Follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// It joins.
    Accept,
    /// Its NodeInfo is read first.
    Check,
    /// The operator decides.
    Hold,
    /// No, and why: a sentence for the other admin.
    Reject(&'static str),
}

/// What is known of a server that asks.
pub struct Applicant<'a> {
    /// Its server.
    pub authority: &'a Authority,
    /// The actor that follows.
    pub actor: &'a RemoteActor,
    /// The server, if it asked before.
    pub subscriber: Option<&'a Subscriber>,
    /// What we learned of the server.
    pub facts: Option<&'a AuthorityFacts>,
    /// Other subscribers of the same registrable domain.
    pub neighbours: usize,
}

/// Judges a Follow. Pure.
#[must_use]
pub fn welcome(applicant: &Applicant<'_>, config: &config::Relay, rules: &RuleSet, now: Timestamp) -> Welcome {
    if rules.name(applicant.authority, now).verdict == Verdict::Block {
        return Welcome::Reject("This relay does not deal with your server.");
    }
    let facts = applicant.facts.filter(|facts| facts.software_read.is_some());
    match facts.map(|facts| (facts, by_software(applicant.authority, facts, config, rules, now))) {
        // It may have changed: that is looked at once a day, or anybody could make us read NodeInfo again and again.
        Some((facts, Welcome::Reject(_))) if facts.software_read.is_some_and(|at| now.since(at) > SOFTWARE_LIFE) => {
            return Welcome::Check;
        }
        Some((_, no @ Welcome::Reject(_))) => return no,
        _ => {}
    }
    let id = &applicant.actor.id;
    // People's Follows neither speak for their server nor stand in its way.
    let known = applicant.subscriber.filter(|known| known.registrations.iter().any(|one| !one.personal));
    if config.admission == Admission::Allowlist
        && !known.is_some_and(Subscriber::is_active)
        && !rules.is_listed(applicant.authority, now)
    {
        return Welcome::Reject("This relay takes only servers that are on its operator's list.");
    }
    if applicant.subscriber.is_none() && applicant.neighbours >= MOST_OF_DOMAIN {
        return Welcome::Reject("Too many servers of your domain ask for this relay already.");
    }
    if !speaks_for_its_server(applicant.actor, applicant.authority) {
        let approved = applicant
            .subscriber
            .is_some_and(|known| known.is_active() && known.registrations.iter().any(|one| one.actor == *id));
        return match known {
            None if approved => Welcome::Accept,
            None => Welcome::Hold,
            Some(_) => Welcome::Reject("Relays are joined by servers, not by people; yours has joined already."),
        };
    }
    let again = known.is_some_and(|known| known.registrations.iter().any(|one| one.actor == *id));
    if !again && known.is_some_and(|known| known.registrations.len() >= MAX_REGISTRATIONS) {
        return Welcome::Reject("Too many actors of your server follow this relay already.");
    }
    if known.is_some_and(Subscriber::is_active) {
        return Welcome::Accept;
    }
    if known.is_some_and(|known| known.state == SubscriberState::Pending) || config.admission == Admission::Approval {
        return Welcome::Hold;
    }
    if applicant.neighbours >= PER_DOMAIN {
        return Welcome::Hold;
    }
    facts.map_or(Welcome::Check, |facts| by_software(applicant.authority, facts, config, rules, now))
}

/// The last step, once NodeInfo was read or could not be: software that the operator does not want is turned away, other
/// relays wait, because two of them can make a loop.
#[must_use]
pub fn by_software(
    authority: &Authority,
    facts: &AuthorityFacts,
    config: &config::Relay,
    rules: &RuleSet,
    now: Timestamp,
) -> Welcome {
    if rules.server_with(authority, facts.software.as_deref(), now).verdict == Verdict::Block {
        return Welcome::Reject("This relay does not take servers that run your software.");
    }
    let relay = facts.software.as_deref().is_some_and(discovery::is_relay);
    if relay && !config.allow_relays { Welcome::Hold } else { Welcome::Accept }
}

/// A Follow should come from the server's own actor, not from one of its people or their bots (Mastodon types those
/// Service). Names are those that servers really use: Misskey's `relay.actor` and Pleroma's `relay` were typed Person for
/// years. Where people choose names, none has a dot in it; but a plain one anybody may have, so it counts only at the
/// address that Pleroma and Friendica give their own actor, and nobody else.
pub(super) fn speaks_for_its_server(actor: &RemoteActor, authority: &Authority) -> bool {
    let name = actor.username.as_deref().unwrap_or_default();
    let is_at_root = || actor.id.as_str().strip_prefix(actor.id.origin()) == Some(&format!("/{name}"));
    actor.kind == ActorKind::Application
        || matches!(name, "relay.actor" | "instance.actor")
        || (matches!(name, "relay" | "friendica") && is_at_root())
        || name == authority.as_str()
        || name == authority.host()
}

/// What we keep of a Follow: what an Accept or Reject embeds, and no more. A stranger chose its size.
pub(super) fn essence(follow: &Value) -> Value {
    let kept = ["id", "type", "actor", "to", "object"]
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), follow.get(key)?.clone())));
    let kept: serde_json::Map<String, Value> = kept.collect();
    let small = |value: &Value| value.to_string().len() <= FOLLOW_BYTES;
    let kept = Value::Object(kept);
    if small(&kept) {
        return kept;
    }
    // An audience that long is no Follow of a relay: it can do without.
    let mut kept = kept;
    if let Some(members) = kept.as_object_mut() {
        members.remove("to");
        members.retain(|_, value| small(value));
    }
    kept
}

impl Relay {
    /// Judges a Follow by what the transaction `tx` sees, writes it down and queues the answer.
    pub(super) fn join(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        actor: &RemoteActor,
        style: Style,
    ) -> Result<Welcome, StoreError> {
        let (authority, follow, now) = (&verified.authority, essence(&verified.document), self.0.clock.now());
        let known = tx.subscriber(authority)?;
        let crowded = known.is_none() && self.0.store.subscribers().len() >= MOST_SERVERS;
        if crowded || tx.waiting_control()? >= MOST_ANSWERS {
            return Err(StoreError::Busy);
        }
        let facts = tx.get::<AuthorityFacts>(authority.as_str())?;
        let (own, of_domain) = tx.waiting_control_for(&actor.inbox.authority())?;
        let deaf = own >= MOST_ANSWERS_OF_SERVER || of_domain >= MOST_ANSWERS_OF_DOMAIN;
        // Who is here was counted when it came. People do not count as their server.
        let is_here = known.as_ref().is_some_and(|known| known.registrations.iter().any(|one| !one.personal));
        let neighbours = if is_here { 0 } else { self.neighbours(authority) };
        let applicant = Applicant { authority, actor, subscriber: known.as_ref(), facts: facts.as_ref(), neighbours };
        let rules = self.0.rules.set();
        let welcome = welcome(&applicant, &self.0.config, &rules, now);
        if let Welcome::Reject(why) = welcome {
            rules.server_with(authority, facts.and_then(|facts| facts.software).as_deref(), now).count(&self.0.metrics);
            if !deaf {
                tx.queue_control(self.rejection(&follow, &actor.id, &actor.inbox, why))?;
            }
            return Ok(welcome);
        }
        if deaf {
            return Err(StoreError::Busy);
        }
        let registration = Registration {
            actor: actor.id.clone(),
            style,
            inbox: match (style, &actor.shared_inbox) {
                (Style::Mastodon, Some(shared)) => shared.clone(),
                _ => actor.inbox.clone(),
            },
            actor_inbox: actor.inbox.clone(),
            follow: (&follow).into(),
            at: now,
            personal: !speaks_for_its_server(actor, authority),
        };
        let mut subscriber = match known {
            Some(known) => known,
            None => Subscriber {
                authority: authority.clone(),
                slot: tx.new_slot()?,
                state: SubscriberState::Checking,
                start: Log::next_in(tx)?,
                mode: Mode::Auto,
                registrations: Vec::new(),
                joined_at: now,
                seen_at: now,
                health: Health::default(),
                vouched_for: false,
                paused: None,
                posts: 0,
            },
        };
        subscriber.seen_at = now;
        if !registration.personal {
            self.make_way(tx, &mut subscriber)?;
        }
        subscriber.registrations.retain(|one| one.actor != registration.actor || one.style != registration.style);
        if registration.personal {
            // One of the people at a time: the newest.
            subscriber.registrations.retain(|one| !one.personal || subscriber.state == SubscriberState::Active);
        }
        subscriber.registrations.push(registration.clone());
        match welcome {
            Welcome::Accept => self.activate(tx, subscriber, std::slice::from_ref(&registration))?,
            Welcome::Check => tx.put_subscriber(subscriber)?,
            Welcome::Hold => {
                subscriber.state = SubscriberState::Pending;
                tx.put_subscriber(subscriber)?;
            }
            Welcome::Reject(_) => {}
        }
        Ok(welcome)
    }

    /// Other subscribers under the same registrable domain: names are cheap below it, and each is sent every post.
    fn neighbours(&self, authority: &Authority) -> usize {
        let domain = authority.registrable();
        let subscribers = self.0.store.subscribers();
        // Whole labels are compared first: that is cheap, and looking up the suffix of everybody is not.
        let near = subscribers.keys().filter(|one| *one != authority && one.is_within(domain));
        near.filter(|one| one.registrable() == domain).count()
    }

    /// The server itself follows: what its people asked for is turned down, and it is judged as if they had not.
    fn make_way(&self, tx: &mut Tx<'_>, subscriber: &mut Subscriber) -> Result<(), StoreError> {
        let (people, servers): (Vec<_>, Vec<_>) = subscriber.registrations.drain(..).partition(|one| one.personal);
        for one in &people {
            let why = "Your server joins this relay itself; people need not.";
            tx.queue_control(self.rejection(&one.follow.value(), &one.actor, &one.actor_inbox, why))?;
            self.unfollow_in_return(tx, &one.actor)?;
        }
        subscriber.registrations = servers;
        if subscriber.registrations.is_empty() && subscriber.state == SubscriberState::Pending {
            subscriber.state = SubscriberState::Checking;
        }
        Ok(())
    }

    /// Makes a subscriber active and answers `registrations` of it.
    fn activate(
        &self,
        tx: &mut Tx<'_>,
        mut subscriber: Subscriber,
        registrations: &[Registration],
    ) -> Result<(), StoreError> {
        if !subscriber.is_active() {
            subscriber.state = SubscriberState::Active;
            subscriber.start = Log::next_in(tx)?;
        }
        tx.put_subscriber(subscriber)?;
        for registration in registrations {
            tx.queue_control(self.acceptance(registration))?;
            if registration.style == Style::Litepub {
                self.follow_in_return(tx, registration)?;
            }
        }
        Ok(())
    }

    /// Follows back, again for each new Follow: a server that was set up anew knows nothing of the old one. But not twice
    /// within [`FOLLOW_GAP`]: two relays would follow each other back for ever.
    fn follow_in_return(&self, tx: &mut Tx<'_>, registration: &Registration) -> Result<(), StoreError> {
        let known = tx.get::<Following>(registration.actor.as_str())?;
        let now = self.0.clock.now();
        if known.as_ref().is_some_and(|known| known.state != FollowState::Rejected && now.since(known.at) < FOLLOW_GAP)
        {
            return Ok(());
        }
        let by_operator = known.is_some_and(|known| known.by_operator);
        self.send_follow(tx, registration.actor.clone(), registration.actor_inbox.clone(), Style::Litepub, by_operator)
    }

    fn send_follow(
        &self,
        tx: &mut Tx<'_>,
        actor: Iri,
        inbox: Iri,
        style: Style,
        by_operator: bool,
    ) -> Result<(), StoreError> {
        let ids = &self.0.identity.ids;
        let follow_id = ids.activity("follow", &unique());
        let object = match style {
            Style::Litepub => actor.as_str(),
            Style::Mastodon => crate::ids::PUBLIC[0],
        };
        let body = text(author::follow(ids, &follow_id, object, &actor));
        tx.queue_control(Directive { inbox: inbox.clone(), what: "follow".to_owned(), body, from: None })?;
        let state = FollowState::Pending;
        let at = self.0.clock.now();
        let key = actor.as_str().to_owned();
        tx.put(&key, &Following { actor, inbox, style, follow_id, state, by_operator, at })
    }

    /// Takes back a Follow of the actor that signed. Its last registration gone, the server is no subscriber any more.
    pub(super) fn leave(
        &self,
        tx: &mut Tx<'_>,
        verified: &Verified,
        follow: Option<&Iri>,
        style: Option<Style>,
    ) -> Result<&'static str, StoreError> {
        let Some(mut subscriber) = tx.subscriber(&verified.authority)? else { return Ok("not-a-subscriber") };
        let actor = &verified.activity.actor;
        let before = subscriber.registrations.len();
        let names = |one: &Registration| {
            // An Undo that names another Follow is about an older one, delivered late: it ends nothing.
            let ours = one.follow.value();
            let named = match (follow, ours.get("id").and_then(Value::as_str)) {
                (Some(id), Some(ours)) => ours == id.as_str(),
                _ => style == Some(one.style),
            };
            one.actor == *actor && named
        };
        let (gone, kept): (Vec<_>, Vec<_>) = subscriber.registrations.drain(..).partition(names);
        subscriber.registrations = kept;
        if subscriber.registrations.len() == before {
            return Ok("undo-of-unknown-follow");
        }
        for registration in gone.iter().filter(|one| one.style == Style::Litepub) {
            self.unfollow_in_return(tx, &registration.actor)?;
        }
        if subscriber.registrations.is_empty() {
            tx.remove_subscriber(&subscriber.authority)?;
            return Ok("left");
        }
        tx.put_subscriber(subscriber)?;
        Ok("left-in-one-style")
    }

    fn unfollow_in_return(&self, tx: &mut Tx<'_>, actor: &Iri) -> Result<(), StoreError> {
        match tx.get::<Following>(actor.as_str())? {
            Some(following) if !following.by_operator => self.send_unfollow(tx, &following),
            _ => Ok(()),
        }
    }

    pub(super) fn send_unfollow(&self, tx: &mut Tx<'_>, following: &Following) -> Result<(), StoreError> {
        let ids = &self.0.identity.ids;
        let object = match following.style {
            Style::Litepub => following.actor.as_str(),
            Style::Mastodon => crate::ids::PUBLIC[0],
        };
        let id = ids.activity("undo", &unique());
        let body = text(author::undo_follow(ids, &id, &following.follow_id, object, &following.actor));
        tx.queue_control(Directive { inbox: following.inbox.clone(), what: "undo".to_owned(), body, from: None })?;
        tx.remove::<Following>(following.actor.as_str()).map(|_there| ())
    }

    /// The other side answered our Follow.
    pub(super) fn answered(tx: &mut Tx<'_>, actor: &Iri, accepted: bool) -> Result<&'static str, StoreError> {
        let Some(mut following) = tx.get::<Following>(actor.as_str())? else { return Ok("answer-to-nothing") };
        following.state = if accepted { FollowState::Accepted } else { FollowState::Rejected };
        tx.put(actor.as_str(), &following)?;
        Ok(if accepted { "follow-accepted" } else { "follow-rejected" })
    }

    fn acceptance(&self, registration: &Registration) -> Directive {
        let ids = &self.0.identity.ids;
        let id = ids.activity("accept", &unique());
        let body = text(author::accept(ids, &id, &registration.follow.value(), &registration.actor));
        Directive { inbox: registration.actor_inbox.clone(), what: "accept".to_owned(), body, from: None }
    }

    fn rejection(&self, follow: &Value, actor: &Iri, inbox: &Iri, why: &str) -> Directive {
        let ids = &self.0.identity.ids;
        let id = ids.activity("reject", &unique());
        let body = text(author::reject(ids, &id, follow, actor, Some(why)));
        Directive { inbox: inbox.clone(), what: "reject".to_owned(), body, from: None }
    }

    /// The operator lets a waiting server in, or ends the probation of one that is in.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if it did not ask; the store's.
    pub async fn approve(&self, authority: &Authority, act: &Act) -> Result<(), StoreError> {
        let (relay, key, act) = (self.clone(), authority.clone(), act.clone());
        let approve = move |tx: &mut Tx<'_>| {
            let before = tx.subscriber(&key)?.ok_or_else(|| did_not_ask(&key))?;
            relay.settle(tx, &key, Welcome::Accept)?;
            Self::vouch_for(tx, &key)?;
            let after = tx.subscriber(&key)?;
            tx.audit(&act, "subscriber.approve", key.as_str(), standing(&before), json!(after.as_ref().map(standing)))
        };
        self.0.store.write(approve).await?;
        (self.0.signals.control)();
        Ok(())
    }

    /// The operator turns a waiting server away, or removes one that joined; `why` reaches the other admin.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if it is no subscriber; the store's.
    pub async fn reject(&self, authority: &Authority, why: &str, act: &Act) -> Result<(), StoreError> {
        let (relay, key, why, act) = (self.clone(), authority.clone(), why.to_owned(), act.clone());
        let reject = move |tx: &mut Tx<'_>| {
            let before = tx.subscriber(&key)?.ok_or_else(|| no_subscriber(&key))?;
            let what = if before.is_active() { "subscriber.remove" } else { "subscriber.reject" };
            relay.evict(tx, &key, &why)?;
            tx.audit(&act, what, key.as_str(), standing(&before), Value::Null)
        };
        self.0.store.write(reject).await?;
        (self.0.signals.control)();
        Ok(())
    }

    /// Sets what a subscriber gets, and ends a downgrade.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if it is no subscriber; the store's.
    pub async fn set_mode(&self, authority: &Authority, mode: Mode, act: &Act) -> Result<(), StoreError> {
        let (key, act) = (authority.clone(), act.clone());
        let set = move |tx: &mut Tx<'_>| {
            let before = tx.subscriber(&key)?.ok_or_else(|| did_not_ask(&key))?;
            tx.set_mode(&key, mode)?;
            let (before, after) = (json!({ "mode": before.mode }), json!({ "mode": mode }));
            tx.audit(&act, "subscriber.mode", key.as_str(), before, after)
        };
        self.0.store.write(set).await
    }

    /// Has nothing sent to a subscriber until it is resumed, or sent again. What it misses waits for it up to
    /// `delivery.horizon`; what it sends is taken as before.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if it is no subscriber, [`StoreError::Declined`] if that is so already; the store's.
    pub async fn pause(&self, authority: &Authority, pause: bool, act: &Act) -> Result<(), StoreError> {
        let (key, act, now) = (authority.clone(), act.clone(), self.0.clock.now());
        let change = move |tx: &mut Tx<'_>| {
            let mut subscriber = tx.subscriber(&key)?.ok_or_else(|| no_subscriber(&key))?;
            let before = json!(subscriber.paused);
            if subscriber.paused.is_some() == pause {
                let stands = if pause { "paused already" } else { "not paused by you" };
                return Err(StoreError::Declined(format!("{key} is {stands}")));
            }
            subscriber.paused = pause.then(|| Paused { since: now, reason: act.why.clone() });
            let (what, after) =
                (if pause { "subscriber.pause" } else { "subscriber.resume" }, json!(subscriber.paused));
            tx.put_subscriber(subscriber)?;
            tx.audit(&act, what, key.as_str(), before, after)
        };
        self.0.store.write(change).await
    }

    /// Lets a server send although it never follows; `act` says why. Nothing is sent to it.
    ///
    /// # Errors
    /// [`StoreError::Declined`] if it is blocked here, or there are too many; the store's.
    pub async fn add_publisher(&self, authority: &Authority, act: &Act) -> Result<Publisher, StoreError> {
        if self.is_ours(authority) {
            return Err(StoreError::Declined(format!("{authority} is this relay itself")));
        }
        if self.0.rules.set().verdict(authority, self.0.clock.now()) == Verdict::Block {
            let blocked =
                format!("{authority} is blocked here; `shearwater admin rules check {authority}` says by what");
            return Err(StoreError::Declined(blocked));
        }
        let (key, act) = (authority.clone(), act.clone());
        self.0.store.write(move |tx| tx.add_publisher(&key, &act)).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if it was none; the store's.
    pub async fn remove_publisher(&self, authority: &Authority, act: &Act) -> Result<(), StoreError> {
        let (key, act) = (authority.clone(), act.clone());
        self.0.store.write(move |tx| tx.remove_publisher(&key, &act)).await
    }

    /// Ends the waiting of a server: in, or on to the operator. Whether it was there.
    pub(super) fn settle(&self, tx: &mut Tx<'_>, authority: &Authority, welcome: Welcome) -> Result<bool, StoreError> {
        let Some(mut subscriber) = tx.subscriber(authority)? else { return Ok(false) };
        if subscriber.is_active() {
            return Ok(true);
        }
        if welcome == Welcome::Accept {
            let registrations = subscriber.registrations.clone();
            self.activate(tx, subscriber, &registrations)?;
        } else {
            subscriber.state = SubscriberState::Pending;
            tx.put_subscriber(subscriber)?;
        }
        Ok(true)
    }

    /// Ends a subscription; whether there was one. The other admin reads why.
    pub(super) fn evict(&self, tx: &mut Tx<'_>, authority: &Authority, why: &str) -> Result<bool, StoreError> {
        let Some(subscriber) = tx.subscriber(authority)? else { return Ok(false) };
        for one in &subscriber.registrations {
            tx.queue_control(self.rejection(&one.follow.value(), &one.actor, &one.actor_inbox, why))?;
            self.unfollow_in_return(tx, &one.actor)?;
        }
        // For its admin, who may ask: the Reject is not shown by every software.
        self.0.knocks.note(authority, "turned-away", 403, true, self.0.clock.now());
        tx.remove_subscriber(authority)
    }

    /// Makes the relay's actor follow an instance's or another relay's actor: its id, or `@name@host`.
    ///
    /// # Errors
    /// If it cannot be found, or is blocked here.
    pub async fn follow(&self, target: &str, style: Style, act: &Act) -> anyhow::Result<Following> {
        let actor = self.find(target).await?;
        self.refuse_to_ask(&actor.id.authority())?;
        let (relay, id, inbox, act) = (self.clone(), actor.id.clone(), actor.inbox.clone(), act.clone());
        let follow = move |tx: &mut Tx<'_>| {
            let before = tx.get::<Following>(id.as_str())?.map(|one| json!({ "state": one.state }));
            tx.audit(&act, "following.follow", id.as_str(), json!(before), json!({ "style": style }))?;
            relay.send_follow(tx, id, inbox, style, true)
        };
        self.0.store.write(follow).await?;
        (self.0.signals.control)();
        self.0.store.get(actor.id.as_str())?.context("the Follow is not there after it was written")
    }

    /// Ends a Follow of ours.
    ///
    /// # Errors
    /// If the relay does not follow it.
    pub async fn unfollow(&self, target: &str, act: &Act) -> anyhow::Result<()> {
        let known = |id: &Iri| self.0.store.get::<Following>(id.as_str());
        let id = match Iri::parse(target) {
            Ok(id) if known(&id)?.is_some() => id,
            _ => self.find(target).await?.id.clone(),
        };
        let none =
            || StoreError::Absent(format!("the relay does not follow {id}; `shearwater following` lists whom it does"));
        let following = known(&id)?.ok_or_else(none)?;
        let (relay, act) = (self.clone(), act.clone());
        let unfollow = move |tx: &mut Tx<'_>| {
            let before = json!({ "style": following.style, "state": following.state });
            tx.audit(&act, "following.unfollow", following.actor.as_str(), before, Value::Null)?;
            relay.send_unfollow(tx, &following)
        };
        self.0.store.write(unfollow).await?;
        (self.0.signals.control)();
        Ok(())
    }

    /// Nobody is asked about a server that is blocked.
    pub(super) fn refuse_to_ask(&self, authority: &Authority) -> anyhow::Result<()> {
        let blocked = self.0.rules.set().verdict(authority, self.0.clock.now()) == Verdict::Block;
        anyhow::ensure!(
            !blocked,
            "{authority} is blocked here; `shearwater admin rules check {authority}` says by what"
        );
        Ok(())
    }

    async fn find(&self, target: &str) -> anyhow::Result<Arc<RemoteActor>> {
        let named = Iri::parse(target).map(|id| id.authority());
        let named = named.or_else(|_handle| Authority::parse(target.rsplit('@').next().unwrap_or_default()));
        if let Ok(authority) = named {
            self.refuse_to_ask(&authority)?;
        }
        let id = self.0.peers.resolve_handle(target).await.with_context(|| format!("looking up {target}"))?;
        self.0.peers.actor_fresh(&id).await.with_context(|| format!("reading the actor {id}"))
    }
}

fn did_not_ask(authority: &Authority) -> StoreError {
    StoreError::Absent(format!("{authority} did not ask to join; `shearwater admin subscribers` lists who did"))
}

fn no_subscriber(authority: &Authority) -> StoreError {
    StoreError::Absent(format!("{authority} is no subscriber; `shearwater admin subscribers` lists them"))
}

/// What the audit log keeps of a subscriber.
fn standing(subscriber: &Subscriber) -> Value {
    let actors: Vec<&Iri> = subscriber.registrations.iter().map(|one| &one.actor).collect();
    json!({ "state": subscriber.state, "mode": subscriber.mode, "vouched_for": subscriber.vouched_for, "actors": actors })
}

pub(super) fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap_or_default()
}

/// 128 random bits as hex: nobody can guess the id of a Follow of ours, and Mastodon takes an Accept on the id alone.
pub(super) fn unique() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_person_named_relay_does_not_speak_for_their_server() {
        let key = include_str!("../../tests/fixtures/keys/author.rsa.spki.pem");
        let check = |kind: &str, path: &str, name: &str, expected: bool| {
            let id = format!("https://a.example{path}");
            let actor = RemoteActor::read(&json!({
                "@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": kind,
                "preferredUsername": name, "inbox": format!("{id}/inbox"),
                "publicKey": { "id": format!("{id}#main-key"), "owner": id, "publicKeyPem": key },
            }));
            let actor = actor.unwrap();
            assert_eq!(speaks_for_its_server(&actor, &actor.id.authority()), expected, "{kind} {path} {name}");
        };
        // What servers really send: Mastodon, Misskey of now and then, Pleroma of now and then, Friendica, GoToSocial.
        check("Application", "/actor", "a.example", true);
        check("Application", "/users/9", "relay.actor", true);
        check("Person", "/users/9", "relay.actor", true);
        check("Application", "/users/9", "system.relay", true);
        check("Application", "/relay", "relay", true);
        check("Person", "/relay", "relay", true);
        check("Application", "/friendica", "friendica", true);
        check("Person", "/friendica", "friendica", true);
        check("Application", "/users/a.example", "a.example", true);
        for kind in ["Person", "Service", "Group", "Organization"] {
            for name in ["relay", "friendica"] {
                for path in ["/users/", "/@", "/u/", "/relay/", "/users/relay/", "/Relay/"] {
                    check(kind, &format!("{path}{name}"), name, false);
                }
                check(kind, "/", name, false);
                check(kind, "/relay2", name, false);
            }
            check(kind, "/relay", "ada", false);
            check(kind, "/friendica", "relay", false);
        }
    }

    #[test]
    fn names_below_one_domain_are_kept_up_to_a_number_and_then_turned_away() {
        let id = "https://n1.evil.example/actor";
        let key = include_str!("../../tests/fixtures/keys/author.rsa.spki.pem");
        let document = json!({
            "@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": "Application",
            "preferredUsername": "relay", "inbox": "https://n1.evil.example/inbox",
            "publicKey": { "id": format!("{id}#main-key"), "owner": id, "publicKeyPem": key },
        });
        let actor = RemoteActor::read(&document).unwrap();
        let authority = actor.id.authority();
        let mut config = Config::embedded();
        for admission in [Admission::Open, Admission::Approval] {
            config.relay.admission = admission;
            let rules = RuleSet::of_config(&config.policy, &config.relay);
            let judged = |neighbours| {
                let of = Applicant { authority: &authority, actor: &actor, subscriber: None, facts: None, neighbours };
                welcome(&of, &config.relay, &rules, Timestamp::from_secs(1_787_486_400))
            };
            let first = if admission == Admission::Open { Welcome::Check } else { Welcome::Hold };
            assert_eq!((judged(9), judged(10), judged(99)), (first, Welcome::Hold, Welcome::Hold));
            assert!(matches!(judged(100), Welcome::Reject(_)));
        }
    }
}

//! Who joined: one row per server. A server may have registered more than once, in both styles; it is one subscriber
//! all the same and gets each post once.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::{AuthorityFacts, Record, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::ids::{Authority, Iri, Seq};

/// Registrations of one server that we remember; more are refused.
pub const MAX_REGISTRATIONS: usize = 8;

/// How a server follows us (FEP-ae0c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// Follow of the public collection: Mastodon, Misskey, Iceshrimp.NET.
    Mastodon,
    /// Follow of the relay's actor: Pleroma, Akkoma, GoToSocial, Friendica, Mitra, snac.
    Litepub,
}

/// What a subscriber gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Forward where its software checks embedded signatures, announce otherwise.
    #[default]
    Auto,
    /// Always announce.
    Announce,
    /// Always forward what can be forwarded.
    Forward,
}

/// Where a subscriber stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubscriberState {
    /// It asked; its NodeInfo is being read before the answer.
    Checking,
    /// It asked; the operator has not answered.
    Pending,
    /// It sends and receives.
    Active,
}

/// JSON that is seldom looked at, kept as text: a tree of it takes ten times the memory, for each of thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed(Box<str>);

impl Packed {
    /// What it says.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for Packed {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Value::deserialize(from).map(|value| Self::from(&value))
    }
}

/// One Follow of ours by one actor of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The actor that follows.
    pub actor: Iri,
    /// How.
    pub style: Style,
    /// Where this registration is served: the server's shared inbox for the Mastodon style, the actor's own for LitePub
    /// (GoToSocial honours relay traffic nowhere else).
    pub inbox: Iri,
    /// The actor's own inbox, where answers to its Follow go.
    pub actor_inbox: Iri,
    /// The Follow as it came, to be embedded in Accept and Reject.
    pub follow: Packed,
    /// When.
    pub at: Timestamp,
    /// It came from one of the server's people, not from the server's own actor: the operator decides, and it counts only
    /// while the server itself has not joined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub personal: bool,
}

/// How delivery fares. Durable, so that a restart forgets nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The last 2xx.
    pub last_success: Option<Timestamp>,
    /// The last failure.
    pub last_failure: Option<Timestamp>,
    /// What it was: `timeout`, `HTTP 500`.
    pub last_reason: Option<String>,
    /// Failures since the last success.
    pub consecutive: u32,
    /// Different days with a failure since the last success.
    pub failed_days: u32,
    /// The first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// Answers 403 in a row to what we say ourselves; enough of them pause the lane.
    #[serde(default)]
    pub refused: u32,
    /// When inbox and actor were first found gone (410, then 404 or 410).
    #[serde(default)]
    pub gone_since: Option<Timestamp>,
    /// It asked to be left alone until then (`Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Entries it took, all in all. Written down with what else is news: a crash loses up to ten minutes' worth.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub delivered: u64,
    /// Entries it gave a final no to, or that were given up while others went through.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub dropped: u64,
    /// Entries that it did not get because they had become too old, or it was dormant.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub expired: u64,
}

const fn is_nought(count: &u64) -> bool {
    *count == 0
}

/// A server that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// The server: origin of its actors.
    pub authority: Authority,
    /// Its place among the cursors.
    pub slot: u32,
    /// Where it stands.
    pub state: SubscriberState,
    /// The first log entry that it is owed: what came before it joined is not.
    #[serde(default)]
    pub start: Seq,
    /// What it gets.
    #[serde(default)]
    pub mode: Mode,
    /// Its Follows; never empty.
    pub registrations: Vec<Registration>,
    /// When it first asked.
    pub joined_at: Timestamp,
    /// When we last saw a verified request from it.
    pub seen_at: Timestamp,
    /// How delivery fares.
    #[serde(default)]
    pub health: Health,
    /// A person let it in, or looked at its posts and released them: it is not on probation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vouched_for: bool,
    /// The operator lets nothing be sent to it for now. What it misses waits for it, as for one that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Posts that it brought and that were taken, all in all. A stop loses up to a minute's worth.
    #[serde(default, skip_serializing_if = "is_nought")]
    pub posts: u64,
}

/// A pause, by the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Timestamp,
    /// Why, for the operator.
    #[serde(default)]
    pub reason: String,
}

impl Record for Subscriber {
    const TABLE: &'static str = "subscribers";
}

impl Subscriber {
    /// The registration that is served: the Mastodon style first (one message per server).
    #[must_use]
    pub fn served(&self) -> Option<&Registration> {
        self.registrations.iter().find(|one| one.style == Style::Mastodon).or_else(|| self.registrations.first())
    }

    /// Whether it sends and receives.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == SubscriberState::Active
    }
}

impl Store {
    /// Everybody who joined, pending ones included, as of the last commit.
    #[must_use]
    pub fn subscribers(&self) -> Arc<HashMap<Authority, Arc<Subscriber>>> {
        self.0.subscribers.borrow().clone()
    }

    /// One server that joined.
    #[must_use]
    pub fn subscriber(&self, authority: &Authority) -> Option<Arc<Subscriber>> {
        self.0.subscribers.borrow().get(authority).cloned()
    }

    /// Tells of every change to [`Store::subscribers`].
    #[must_use]
    pub fn follow_subscribers(&self) -> watch::Receiver<Arc<HashMap<Authority, Arc<Subscriber>>>> {
        self.0.subscribers.subscribe()
    }

    pub(super) fn reload_subscribers(&self) -> Result<(), StoreError> {
        let rows = self.all::<Subscriber>()?;
        let map = rows.into_iter().map(|(_, one)| (one.authority.clone(), Arc::new(one.trimmed()))).collect();
        self.set_subscribers(|all| *all = map);
        Ok(())
    }

    fn set_subscribers(&self, change: impl FnOnce(&mut HashMap<Authority, Arc<Subscriber>>)) {
        self.0.subscribers.send_modify(|all| change(Arc::make_mut(all)));
    }
}

impl Subscriber {
    /// The same in as little memory: all of them are held at all times, and a list that was read has room for four.
    fn trimmed(mut self) -> Self {
        self.registrations.shrink_to_fit();
        self
    }
}

impl Tx<'_> {
    /// Writes a subscriber; readers see it once it is durable.
    ///
    /// # Errors
    /// The engine's.
    pub fn put_subscriber(&mut self, subscriber: Subscriber) -> Result<(), StoreError> {
        self.put(subscriber.authority.as_str(), &subscriber)?;
        self.after_commit(move |store| {
            store.set_subscribers(|all| {
                all.insert(subscriber.authority.clone(), Arc::new(subscriber.trimmed()));
            });
        });
        Ok(())
    }

    /// Forgets a subscriber; whether there was one.
    ///
    /// # Errors
    /// The engine's.
    pub fn remove_subscriber(&mut self, authority: &Authority) -> Result<bool, StoreError> {
        let there = self.remove::<Subscriber>(authority.as_str())?;
        let authority = authority.clone();
        self.after_commit(move |store| {
            store.set_subscribers(|all| {
                all.remove(&authority);
            });
        });
        Ok(there)
    }

    /// A subscriber as this transaction sees it.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn subscriber(&self, authority: &Authority) -> Result<Option<Subscriber>, StoreError> {
        self.get(authority.as_str())
    }

    /// What the operator wants a subscriber to get, from now on: what the relay decided upon is over too, a downgrade to
    /// Announces and that it gets signatures of its own.
    /// Whether there is such a subscriber.
    ///
    /// # Errors
    /// The engine's, or a damaged record.
    pub fn set_mode(&mut self, authority: &Authority, mode: Mode) -> Result<bool, StoreError> {
        let Some(mut subscriber) = self.subscriber(authority)? else { return Ok(false) };
        subscriber.mode = mode;
        self.put_subscriber(subscriber)?;
        if let Some(mut facts) = self.get::<AuthorityFacts>(authority.as_str())?
            && (facts.announce_until.take().is_some() | facts.shared.take().is_some())
        {
            self.put(authority.as_str(), &facts)?;
        }
        Ok(true)
    }

    /// Every subscriber begins at `start`: the place that it had was one in a log that is no more.
    ///
    /// # Errors
    /// The engine's.
    pub fn start_all_at(&mut self, start: Seq) -> Result<(), StoreError> {
        for subscriber in self.store.subscribers().values() {
            self.put_subscriber(Subscriber { start, ..Subscriber::clone(subscriber) })?;
        }
        Ok(())
    }

    /// A place among the cursors that nobody had before.
    ///
    /// # Errors
    /// The engine's; [`StoreError::Declined`] after four thousand million subscribers.
    pub fn new_slot(&mut self) -> Result<u32, StoreError> {
        let number = self.next_number("slots")?;
        u32::try_from(number - 1).map_err(|_full| StoreError::Declined("no slots are left".to_owned()))
    }
}

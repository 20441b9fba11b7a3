//! The relay's own room: what comes in is verified ([`verify`]), judged ([`trust`], [`route`]), and becomes effects in one
//! store transaction ([`effects`]). Joining and leaving ([`subscribe`]) are part of that. Two workers finish what must not
//! hold up an answer: the [`resolver`] reads what hints speak of from its origin, the [`survey`] learns what software a
//! server runs and then answers its Follow. A change of the operator's rules is carried out at once ([`enforce`]); lists that others publish bring such changes ([`lists`]) and are fetched (`feeds`).
//!
//! A post that gives reason to is held for the operator instead (`screening`, [`held`]).
//!
//! What comes for the search comes this way too: servers switch it on and off ([`switch`]), posts are taken for it alone,
//! and authors go out of it, and out of what trends count (`withdraw`). What is done with them is the business of others, who read the log.
//!
//! Servers that joined may also ask for something ([`reader`]): their requests are signed by whom they joined as. How a server
//! looks from here is found out by a [`probe`]; what it was told, and why ([`explain`]), its admin is told again by a [`check`].
//!
//! Nothing here sends a post: that is what delivery reads the log for.

mod announce;
pub mod check;
pub mod effects;
pub mod enforce;
pub mod explain;
mod feeds;
mod given;
pub mod held;
pub mod housekeeping;
pub mod inbox;
pub mod lists;
pub mod probe;
pub mod reader;
pub mod resolver;
pub mod route;
mod screening;
pub mod subscribe;
pub mod survey;
pub mod switch;
pub mod trust;
pub mod verify;
mod withdraw;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::identity::Identity;
use crate::ids::Authority;
use crate::log::Log;
use crate::net::SignedClient;
use crate::peers::Peers;
use crate::policy::{Limits, Rules, VainLimit};
use crate::store::{Knocks, Refusals, Store};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;

/// How often a request from one address may make us look for a key that did not sign it, in a minute: a tenth of what one
/// host may be asked for. Honest servers come here by their authors' deleted accounts, and by keys that they changed.
const VAIN_LOOKS_PER_MINUTE: u32 = 60;

/// What the room needs from the house. Cheap to clone.
#[derive(Clone)]
pub struct Relay(Arc<Parts>);

struct Parts {
    store: Store,
    log: Log,
    peers: Peers,
    signed: SignedClient,
    identity: Identity,
    rules: Rules,
    limits: Limits,
    looks: VainLimit,
    config: config::Relay,
    search: config::Search,
    trends: config::Trends,
    clock: Clock,
    supervisor: Supervisor,
    metrics: Metrics,
    refusals: Refusals,
    knocks: Knocks,
    desk: check::Desk,
    lists: feeds::Desk,
    signals: Signals,
    readers: Vec<&'static str>,
    survey: Notify,
    keep: config::Store,
    screening: screening::Screening,
    given: given::Given,
}

/// How the room tells the others that there is something to do, without knowing them.
pub struct Signals {
    /// A verified request came from this server: it lives.
    pub alive: Box<dyn Fn(&Authority) + Send + Sync>,
    /// A message to one server waits to be sent.
    pub control: Box<dyn Fn() + Send + Sync>,
}

/// What [`Relay::new`] is given.
#[expect(missing_docs, reason = "each field is a service documented at its type")]
pub struct Services {
    pub store: Store,
    pub log: Log,
    pub peers: Peers,
    pub signed: SignedClient,
    pub identity: Identity,
    pub rules: Rules,
    pub clock: Clock,
    pub supervisor: Supervisor,
    pub metrics: Metrics,
    pub signals: Signals,
    /// Workers of other rooms that read the log: it is not trimmed beyond their places.
    pub readers: Vec<&'static str>,
}

impl Relay {
    /// Puts the room together; nothing runs yet.
    #[must_use]
    pub fn new(config: &Config, services: Services) -> Self {
        let Services { store, log, peers, signed, identity, rules, clock, supervisor, metrics, signals, readers } =
            services;
        Self(Arc::new(Parts {
            store,
            log,
            peers,
            signed,
            identity,
            rules,
            limits: Limits::new(&config.policy),
            looks: VainLimit::new(VAIN_LOOKS_PER_MINUTE),
            config: config.relay.clone(),
            search: config.search.clone(),
            trends: config.trends.clone(),
            clock,
            supervisor,
            metrics,
            refusals: Refusals::default(),
            knocks: Knocks::default(),
            desk: check::Desk::default(),
            lists: feeds::Desk::default(),
            signals,
            readers,
            survey: Notify::new(),
            keep: config.store.clone(),
            screening: screening::Screening::new(config),
            given: given::Given::default(),
        }))
    }

    /// Starts the room's workers.
    pub fn start(&self) {
        let supervisor = &self.0.supervisor;
        let relay = self.clone();
        supervisor.spawn(async move {
            if let Err(error) = relay.enforce().await {
                tracing::warn!(%error, "servers that are blocked now could not be turned away");
            }
        });
        let relay = self.clone();
        supervisor.start(move || resolver::Resolver::new(relay.clone()));
        let relay = self.clone();
        supervisor.start(move || survey::Survey::new(relay.clone()));
        let relay = self.clone();
        supervisor.start(move || housekeeping::Housekeeping::new(relay.clone()));
        let relay = self.clone();
        supervisor.start(move || housekeeping::RefusalKeeper::new(relay.clone()));
        let relay = self.clone();
        supervisor.start(move || feeds::ListKeeper::new(relay.clone()));
    }

    /// Whether the disk has more room than the reserve, which is for deletions, deliveries and the operator.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.store.free_bytes() >= self.0.keep.reserve.as_u64()
    }

    /// Whether most of the reserve is gone as well.
    fn is_nearly_full(&self) -> bool {
        self.0.store.free_bytes() < self.0.keep.reserve.as_u64() / 4
    }

    /// Who reads the log, by the names that their places are kept under.
    pub fn readers(&self) -> impl Iterator<Item = &'static str> {
        [resolver::NAME].into_iter().chain(self.0.readers.iter().copied())
    }

    /// What was refused lately.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }
}

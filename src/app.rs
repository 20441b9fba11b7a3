//! The composition root: from a [`Config`] to every part, put together. The only place that knows them all; it opens
//! files and binds nothing.

use std::sync::Arc;

use axum::extract::FromRef as _;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::{self, Delivery};
use crate::http::{Checkers, Costly, Guesses, HttpState, Imports, InboxSlots, Probes, Searchers, Watchers};
use crate::identity::{Identity, KeyKeeper};
use crate::ids::Authority;
use crate::log::Log;
use crate::net::{Client, SignedClient, user_agent};
use crate::peers::Peers;
use crate::policy::Rules;
use crate::policy::tokens::Tokens;
use crate::policy::turns::Turns;
use crate::relay::{Relay, Services, Signals};
use crate::search::{self, Search};
use crate::store::{Store, make_private};
use crate::supervise::Supervisor;
use crate::telemetry::Metrics;
use crate::trends::{self, Trends};

/// Every part of one daemon.
#[derive(Clone)]
pub struct App {
    /// What handlers may ask for.
    pub state: HttpState,
}

impl App {
    /// Puts everything together for the public origin `public_url`; nothing runs yet.
    ///
    /// # Errors
    /// A sentence about the file, folder or key that is in the way.
    pub fn build(config: Config, public_url: &str, clock: Clock) -> anyhow::Result<Self> {
        let dir = &config.data_dir;
        make_private(dir)?;
        let store = Store::open(dir, clock.clone())?;
        let log = Log::open(&store)?;
        let cache = Cache::open(&dir.join("cache"))?;
        let identity = Identity::load_or_create(&config, public_url, clock.now())?;
        let supervisor = Supervisor::new(clock.clone());
        let metrics = Metrics::new();
        metrics.started.set(clock.now().secs());
        let client = Client::new(&config.net, &config.fetch, &user_agent(public_url))?.counted_in(metrics.clone());
        let signed = SignedClient::new(client, identity.keys.clone(), clock.clone(), &config.fetch);
        let joined = store.clone();
        let is_familiar = Arc::new(move |authority: &Authority| {
            // Who only asked to join is a stranger still.
            joined.subscriber(authority).is_some_and(|one| one.is_active())
                || joined.search_servers().contains_key(authority)
        });
        let peers = Peers::new(signed.clone(), cache, clock.clone(), &config.fetch).with_familiar(is_familiar);
        let rules = Rules::new(&config.policy, &config.relay);
        rules.load(&store)?;
        let delivery = Delivery::new(delivery::Services {
            config: config.delivery.clone(),
            audience: config.relay.announce_audience,
            policy: rules.clone(),
            store: store.clone(),
            log: log.clone(),
            signed: signed.clone(),
            ids: identity.ids.clone(),
            clock: clock.clone(),
            supervisor: supervisor.clone(),
            metrics: metrics.clone(),
        })?;
        let (alive, control) = (delivery.clone(), delivery.clone());
        let signals = Signals {
            alive: Box::new(move |authority| alive.wake(authority)),
            control: Box::new(move || control.wake_control()),
        };
        let relay = Relay::new(
            &config,
            Services {
                store: store.clone(),
                log: log.clone(),
                peers: peers.clone(),
                signed,
                identity: identity.clone(),
                rules: rules.clone(),
                clock: clock.clone(),
                supervisor: supervisor.clone(),
                metrics: metrics.clone(),
                signals,
                readers: readers(&config),
            },
        );
        let search = Search::new(search::Services {
            config: config.search.clone(),
            folder: dir.join("search"),
            store: store.clone(),
            log: log.clone(),
            peers: peers.clone(),
            rules: rules.clone(),
            clock: clock.clone(),
            supervisor: supervisor.clone(),
            metrics: metrics.clone(),
        });
        let trends = Trends::new(trends::Services {
            config: config.trends.clone(),
            store: store.clone(),
            log: log.clone(),
            peers,
            rules,
            clock: clock.clone(),
            supervisor: supervisor.clone(),
            metrics: metrics.clone(),
        })?;
        let searchers = Searchers::new(config.search.rate);
        let watchers = Watchers(Turns::new(config.trends.rate));
        let tokens = Tokens::new(store.clone(), clock.clone());
        let inbox_slots = InboxSlots::new(config.http.inbox_in_flight);
        let state = HttpState {
            config: Arc::new(config),
            identity,
            store,
            log,
            relay,
            delivery,
            search,
            trends,
            supervisor,
            metrics,
            inbox_slots,
            searchers,
            watchers,
            checkers: Checkers::default(),
            tokens,
            guesses: Guesses::default(),
            probes: Probes::default(),
            costly: Costly::default(),
            imports: Imports::default(),
            followed: crate::http::Followed::new(clock.clone()),
            clock,
        };
        Ok(Self { state })
    }

    /// Starts all workers.
    pub fn start(&self) {
        self.state.relay.start();
        self.state.delivery.start();
        self.state.search.start();
        self.state.trends.start();
        let (identity, store, clock) =
            (self.state.identity.clone(), self.state.store.clone(), self.state.clock.clone());
        self.state.supervisor.start(move || KeyKeeper::new(identity.clone(), store.clone(), clock.clone()));
        let (supervisor, failed) = (self.state.supervisor.clone(), self.state.store.failed().clone());
        let stop = supervisor.stopping().clone();
        self.state.supervisor.spawn(async move {
            if stop.run_until_cancelled(failed.cancelled()).await.is_some() {
                supervisor.give_up("the store failed; what was acknowledged is on disk".to_owned());
            }
        });
    }

    /// One of the parts.
    #[must_use]
    pub fn supervisor(&self) -> Supervisor {
        Supervisor::from_ref(&self.state)
    }
}

/// The workers of other rooms that read the log.
fn readers(config: &Config) -> Vec<&'static str> {
    let search = config.search.is_on().then_some(search::gather::NAME);
    let trends = config.trends.is_on().then_some(trends::roller::NAME);
    search.into_iter().chain(trends).collect()
}

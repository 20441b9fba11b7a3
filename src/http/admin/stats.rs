//! The relay at a glance: the numbers that matter, and what wants the operator's attention.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, Usual};
use crate::clock::{Clock, Timestamp};
use crate::delivery::{Delivery, LaneState};
use crate::log::Log;
use crate::relay::Relay;
use crate::store::{HeldTally, Hold, Publisher, Store, Subscriber, SubscriberState};
use crate::supervise::Supervisor;

/// A delivery that waits longer than this while its server answers is worth a look.
const LATE_MINUTES: u64 = 30;

/// Subscribers by where they stand.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Subscribers {
    /// They send and receive.
    active: usize,
    /// They wait for the operator.
    pending: usize,
    /// Their NodeInfo is being read.
    checking: usize,
    /// Active ones that the operator paused.
    paused: usize,
}

/// Lanes by how they fare.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Lanes {
    /// They deliver.
    healthy: usize,
    /// They are tried again.
    failing: usize,
    /// They refuse us, or the operator paused them.
    paused: usize,
    /// They have not answered for days.
    dormant: usize,
    /// The most entries that a healthy one is behind.
    most_lag: u64,
}

/// The relay at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Stats {
    /// The version that runs.
    version: &'static str,
    /// The time here.
    #[schema(format = DateTime)]
    at: String,
    /// What wants the operator's attention, each a sentence with the command; empty: nothing.
    attention: Vec<String>,
    /// Subscribers.
    subscribers: Subscribers,
    /// Servers that may send although they never follow.
    publishers: usize,
    /// Lanes.
    deliveries: Lanes,
    /// When the oldest entry was taken that somebody who answers has not got.
    #[schema(format = DateTime)]
    oldest_undelivered: Option<String>,
    /// Servers that are held.
    held_servers: usize,
    /// Posts that wait for the operator.
    held_posts: u64,
    /// Rules in force or not.
    rules: usize,
    /// Servers that search is on for.
    searched: usize,
    /// The last place in the log.
    log_head: u64,
    /// Entries in it.
    log_entries: u64,
    /// Bytes of the store.
    store_bytes: u64,
    /// Bytes that are free on its disk.
    free_bytes: u64,
    /// Workers that do not work.
    fallen_workers: Vec<&'static str>,
}

/// Read the relay's state at a glance.
#[utoipa::path(
    get,
    path = "/api/admin/v1/stats",
    tag = "relay",
    operation_id = "stats",
    responses((status = 200, description = "How it stands.", body = Stats), Usual),
    security((), ("token" = ["read"]))
)]
pub(in crate::http) async fn all(
    State(store): State<Store>,
    State(relay): State<Relay>,
    State(delivery): State<Delivery>,
    State(log): State<Log>,
    State(supervisor): State<Supervisor>,
    State(clock): State<Clock>,
) -> Result<Json<Stats>, Problem> {
    let fallen = supervisor.status().into_iter();
    let fallen = fallen.filter(|(_, one)| matches!(one.state, "failed" | "restarting" | "stopped"));
    let fallen = fallen.map(|(name, _)| name).collect();
    let look = move || look(&store, &relay, &delivery, &log, fallen, clock.now());
    Ok(Json(tokio::task::spawn_blocking(look).await??))
}

fn look(
    store: &Store,
    relay: &Relay,
    delivery: &Delivery,
    log: &Log,
    fallen_workers: Vec<&'static str>,
    now: Timestamp,
) -> Result<Stats, Problem> {
    let (all, lanes) = (store.subscribers(), delivery.lanes());
    let count = |wanted: &dyn Fn(&Subscriber) -> bool| all.values().filter(|one| wanted(one)).count();
    let faring = |state| lanes.iter().filter(|lane| lane.state == state).count();
    let healthy = lanes.iter().filter(|lane| lane.state == LaneState::Healthy);
    let oldest = delivery.oldest_undelivered();
    let held = store.all_sound::<HeldTally>()?;
    let mut stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        at: now.rfc3339(),
        attention: Vec::new(),
        subscribers: Subscribers {
            active: count(&Subscriber::is_active),
            pending: count(&|one| one.state == SubscriberState::Pending),
            checking: count(&|one| one.state == SubscriberState::Checking),
            paused: count(&|one| one.paused.is_some()),
        },
        publishers: store.sound_page::<Publisher>("", usize::MAX)?.rows.len(),
        deliveries: Lanes {
            healthy: faring(LaneState::Healthy),
            failing: faring(LaneState::Failing),
            paused: faring(LaneState::Paused),
            dormant: faring(LaneState::Dormant),
            most_lag: healthy.map(|lane| lane.lag).max().unwrap_or(0),
        },
        oldest_undelivered: oldest.map(Timestamp::rfc3339),
        held_servers: store.all_sound::<Hold>()?.len(),
        held_posts: held.iter().map(|(_, tally)| u64::from(tally.posts)).sum(),
        rules: relay.rules().set().iter().count(),
        searched: store.search_servers().len(),
        log_head: log.head().0,
        log_entries: log.len()?,
        store_bytes: store.file_bytes(),
        free_bytes: store.free_bytes(),
        fallen_workers,
    };
    stats.attention = attention(&stats, oldest.map(|at| now.since(at).as_secs() / 60), relay.has_room());
    Ok(stats)
}

/// What wants a person.
fn attention(stats: &Stats, late: Option<u64>, has_room: bool) -> Vec<String> {
    let mut said = Vec::new();
    let several = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    if !has_room {
        said.push(
            "The disk is full: nothing new is taken. Make room; `store.reserve` says how much is kept free.".to_owned(),
        );
    }
    if !stats.fallen_workers.is_empty() {
        said.push(format!("Not working: {}. `shearwater admin workers` says why.", stats.fallen_workers.join(", ")));
    }
    if stats.subscribers.pending > 0 {
        let waiting = several(stats.subscribers.pending as u64, "server");
        said.push(format!("To be let in or turned away: {waiting}. `shearwater admin pending` lists who asks."));
    }
    if stats.held_posts > 0 || stats.held_servers > 0 {
        let (posts, servers) = (several(stats.held_posts, "post"), several(stats.held_servers as u64, "whole server"));
        said.push(format!("Held for you to look at: {posts}, {servers}. `shearwater admin held` lists them."));
    }
    if let Some(minutes) = late.filter(|minutes| *minutes >= LATE_MINUTES) {
        said.push(format!(
            "The oldest delivery that could be made waits for {minutes} minutes. `shearwater admin deliveries --behind` says to whom."
        ));
    }
    said
}

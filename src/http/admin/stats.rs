//! The relay at a glance: the numbers that matter, and what wants the operator's attention.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, Usual};
use crate::clock::Timestamp;
use crate::delivery::LaneState;
use crate::http::ops::health::{Facts, Reason, Trouble};
use crate::http::state::HttpState;
use crate::store::{FeedState, HeldTally, Hold, ListFeed, Publisher, Subscriber, SubscriberState};

/// Of so many lanes it is worth a look when a quarter fail: fewer fail together now and then.
const MANY: usize = 8;

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
pub(in crate::http) async fn all(State(state): State<HttpState>) -> Result<Json<Stats>, Problem> {
    Ok(Json(tokio::task::spawn_blocking(move || look(&state)).await??))
}

fn look(state: &HttpState) -> Result<Stats, Problem> {
    let HttpState { store, relay, delivery, log, .. } = state;
    let facts = Facts::gather(state);
    let now = facts.now;
    let fallen = facts.workers.iter().filter(|(_, one)| matches!(one.state, "failed" | "restarting" | "stopped"));
    let fallen_workers = fallen.map(|(name, _)| *name).collect();
    let (all, lanes) = (store.subscribers(), delivery.lanes());
    let count = |wanted: &dyn Fn(&Subscriber) -> bool| all.values().filter(|one| wanted(one)).count();
    let faring = |state| lanes.iter().filter(|lane| lane.state == state).count();
    let healthy = lanes.iter().filter(|lane| lane.state == LaneState::Healthy);
    let oldest = delivery.oldest_undelivered();
    let held = store.all_sound::<HeldTally>()?;
    let lists = relay.feeds()?;
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
    stats.attention = attention(&stats, &facts.troubles(), &lists);
    Ok(stats)
}

/// What wants a person: what health knows, and what no program mends.
fn attention(stats: &Stats, troubles: &[Trouble], lists: &[(String, ListFeed)]) -> Vec<String> {
    let several = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let where_to_look = |reason: Reason| match reason {
        Reason::Worker => " `shearwater admin workers` says how all of them fare.",
        Reason::DeliveryLate => " `shearwater admin deliveries --behind` says who waits.",
        _ => "",
    };
    let mut said: Vec<String> =
        troubles.iter().map(|one| format!("{}{}", one.said(), where_to_look(one.reason))).collect();
    let lanes = &stats.deliveries;
    let all = lanes.healthy + lanes.failing + lanes.paused + lanes.dormant;
    if all >= MANY && lanes.failing * 4 > all {
        said.push(format!(
            "{} of {all} subscribers do not take what is sent: it may be your own network, name server or key. `shearwater \
             admin deliveries --health failing` shows the reasons.",
            lanes.failing
        ));
    }
    if stats.subscribers.pending > 0 {
        let waiting = several(stats.subscribers.pending as u64, "server");
        said.push(format!("To be let in or turned away: {waiting}. `shearwater admin pending` lists who asks."));
    }
    if stats.held_posts > 0 || stats.held_servers > 0 {
        let (posts, servers) = (several(stats.held_posts, "post"), several(stats.held_servers as u64, "whole server"));
        said.push(format!("Held for you to look at: {posts}, {servers}. `shearwater admin held` lists them."));
    }
    for (name, feed) in lists {
        let trouble = feed.trouble.as_deref().unwrap_or("a new text waits");
        match feed.state() {
            FeedState::Waits => said.push(format!("The list {name} wants to be looked at: {trouble}.")),
            FeedState::Failing => said.push(format!(
                "The list {name} could not be fetched, {} in a row: {trouble}. `shearwater admin lists` shows all.",
                several(u64::from(feed.failures), "time")
            )),
            FeedState::Current | FeedState::Empty => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Severity;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn well() -> Stats {
        Stats {
            version: "0",
            at: NOON.rfc3339(),
            attention: Vec::new(),
            subscribers: Subscribers { active: 10, pending: 0, checking: 0, paused: 0 },
            publishers: 0,
            deliveries: Lanes { healthy: 10, failing: 0, paused: 0, dormant: 0, most_lag: 0 },
            oldest_undelivered: None,
            held_servers: 0,
            held_posts: 0,
            rules: 0,
            searched: 0,
            log_head: 0,
            log_entries: 0,
            store_bytes: 0,
            free_bytes: 0,
            fallen_workers: Vec::new(),
        }
    }

    #[test]
    fn attention_is_what_health_knows_and_what_no_program_mends() {
        assert_eq!(attention(&well(), &[], &[]), Vec::<String>::new());
        let full = Facts { now: NOON, free: 1, reserve: 2, ..Facts::default() };
        let said = attention(&well(), &full.troubles(), &[]);
        assert!(said.len() == 1 && said[0].contains("store.reserve") && said[0].contains("Make room"), "{said:?}");
        let lanes = |failing, healthy| {
            let deliveries = Lanes { healthy, failing, paused: 0, dormant: 0, most_lag: 0 };
            attention(&Stats { deliveries, ..well() }, &[], &[]).len()
        };
        assert_eq!([lanes(3, 8), lanes(3, 7), lanes(2, 2), lanes(0, 9)], [1, 1, 0, 0]);
        let feed = ListFeed {
            url: "https://lists.example/".to_owned(),
            severity: Severity::Block,
            auto: false,
            skip_bad: false,
            added: NOON,
            etag: None,
            asked_at: None,
            failures: 3,
            trouble: Some("its server answers 404".to_owned()),
            fetched: None,
            applied: None,
        };
        let waits = crate::store::ListVersion { version: "1".to_owned(), at: NOON };
        let waiting = ListFeed { fetched: Some(waits), trouble: None, failures: 0, ..feed.clone() };
        let said = attention(&well(), &[], &[("gone".to_owned(), feed), ("new".to_owned(), waiting)]);
        assert!(said[0].contains("gone") && said[0].contains("3 times in a row: its server answers 404"), "{said:?}");
        assert!(said[1].contains("new wants to be looked at"), "{said:?}");
    }
}

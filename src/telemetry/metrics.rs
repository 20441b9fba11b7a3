//! The numbers at `/metrics`. Counters end in `_total`, times are in seconds, sizes in bytes. Label values are words of the
//! program: a stranger cannot make a new series.
//!
//! One table lists them all: what a line says above a number is its help text. Dashboards and alerts read these names
//! (`deploy/`), so a name that goes takes a panel with it; a test knows which.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use prometheus::{Counter, Encoder as _, Gauge, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

use super::series::{Counters, Gauges, Histograms, Listed, Number, Spans};

/// From a millisecond to an hour: requests, and what they wait for.
const SECONDS: &[f64] =
    &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0];
/// From a fiftieth of a millisecond on: arithmetic with keys.
const CRYPTO: &[f64] = &[0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.02, 0.1];
/// To the end of `delivery.horizon`: a subscriber that was off for a day still gets what it was promised.
const DELIVERY: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0, 14_400.0, 43_200.0, 172_800.0,
];

/// One line each: what it counts, what we call it, its kind, its name for the world, and what it is told apart by.
macro_rules! numbers {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal
        $(by [$($label:literal),+])? $(in $buckets:ident)?;)+) => {
        /// Every number by its name in this program.
        pub struct Numbers {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        impl Numbers {
            fn new() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let $field = <$kind as Number>::make(&Listed {
                        name: $name,
                        help: concat!($($help),+).trim(),
                        labels: &[$($($label),+)?],
                        buckets: &[$($buckets)?],
                    })?;
                    registry.register($field.collector())?;
                )+
                Ok(Self { registry, $($field),+ })
            }
        }
    };
}

numbers! {
    // What comes in.
    /// Requests to the inbox by result (accepted, ignored, refused) and reason.
    inbound: Counters = "shearwater_inbound_total" by ["result", "reason"];
    /// Time to verify, decide and store one request of the inbox, in seconds.
    inbound_seconds: Histogram = "shearwater_inbound_seconds" in SECONDS;
    /// Time of one signature, in seconds, made (sign) or checked (verify); waiting for a thread or a key is not in it.
    signature_seconds: Histograms = "shearwater_signature_seconds" by ["work"] in CRYPTO;
    /// Bytes of request bodies held in memory.
    inbox_bytes: IntGauge = "shearwater_inbox_bytes";
    /// Open connections from the world.
    connections: IntGauge = "shearwater_connections";
    /// Connections closed because there were too many.
    connections_refused: IntCounter = "shearwater_connections_refused_total";
    /// What became of posts that others told us of, by outcome.
    hints: Counters = "shearwater_hints_total" by ["outcome"];

    // What goes out.
    /// Entries by what became of them at one subscriber: delivered, dropped (a final no), later (tried again), expired
    /// (too old), blocked (a rule keeps it back); downgraded: a server that gets no more forwards for a month.
    deliveries: Counters = "shearwater_deliveries_total" by ["result"];
    /// Deliveries with a signature that is for many servers, by what became of it: taken, refused (the first that a server
    /// got), refused-later (by one that had taken them before), all-refused (so was one for that server alone: something
    /// else is wrong), unclear (to that one came neither yes nor no); software: a server is tried anew because it runs something else now.
    shared_signatures: Counters = "shearwater_shared_signatures_total" by ["result"];
    /// Time from accepted to delivered, in seconds, first attempt or not.
    lag_seconds: Histogram = "shearwater_delivery_lag_seconds" in DELIVERY;
    /// Age of the oldest entry that a subscriber has not got yet, in seconds, by the state of its lane; 0: none waits.
    oldest_seconds: Spans = "shearwater_delivery_oldest_seconds" by ["state"];
    /// Entries that wait, one for each subscriber that has not got it, by the state of its lane. Some may not be for it.
    backlog: Gauges = "shearwater_delivery_backlog" by ["state"];
    /// Delivery lanes, one for each subscriber, by state.
    lanes: Gauges = "shearwater_lanes" by ["state"];
    /// Messages to one server (accept, reject, follow, undo, update) by kind and result.
    control: Counters = "shearwater_control_total" by ["kind", "result"];
    /// Requests that we sent, by method and what was answered: 2xx to 5xx, or why nothing was.
    requests_sent: Counters = "shearwater_requests_sent_total" by ["method", "result"];
    /// Time from a request of ours to its whole answer, in seconds, by method.
    request_seconds: Histograms = "shearwater_request_seconds" by ["method"] in SECONDS;
    /// Connections to other servers: closed (the server closes it after its answer), budget (a host's were closed because
    /// there were as many as net.connections), http2 (a server that takes nothing but HTTP/2 is spoken to so).
    outbound_connections: Counters = "shearwater_outbound_connections_total" by ["event"];
    /// Servers that connections are kept to, by what they are for (delivering, reading).
    outbound_hosts: Gauges = "shearwater_outbound_hosts" by ["use"];
    /// How many connections may be kept open to them while nothing is sent (net.connections is the most), by what they are
    /// for.
    outbound_kept: Gauges = "shearwater_outbound_connections_kept" by ["use"];
    /// Bytes of the TLS sessions by which servers are known again.
    outbound_session_bytes: IntGauge = "shearwater_outbound_session_bytes";
    /// Documents that we wanted to read, by kind (document, key, json) and result.
    fetches: Counters = "shearwater_fetches_total" by ["kind", "result"];

    // Who is there, and by which rules.
    /// Subscribers by state.
    subscribers: Gauges = "shearwater_subscribers" by ["state"];
    /// Decisions to hold a post by reason and mode (hold, dry-run).
    policy_decisions: Counters = "shearwater_policy_decisions_total" by ["reason", "mode"];
    /// What became of held posts: held, released, dropped, discarded, deleted, expired, refused.
    held_posts_total: Counters = "shearwater_held_posts_total" by ["outcome"];
    /// Posts that wait for the operator.
    held_posts: IntGauge = "shearwater_held_posts";
    /// Lists of servers that others publish and the operator follows, by how they stand.
    lists: Gauges = "shearwater_lists" by ["state"];
    /// Servers held as a whole until the operator releases them.
    held_servers: IntGauge = "shearwater_held_servers";
    /// What the operator's rules did (enforced), or would have done were they not on trial (would), by target and severity.
    rules: Counters = "shearwater_rules_total" by ["target", "severity", "effect"];

    // What is kept.
    /// The place of the last log entry: entries ever taken.
    log_head: IntGauge = "shearwater_log_head";
    /// Entries that the log keeps.
    log_entries: IntGauge = "shearwater_log_entries";
    /// Bytes of the bodies that were added to the log since the start.
    log_bytes: IntCounter = "shearwater_log_appended_bytes_total";
    /// Age of the oldest entry that the log keeps, in seconds. Much more than store.retention: a reader is behind.
    log_oldest_seconds: Gauge = "shearwater_log_oldest_seconds";
    /// Age of the first entry that a reader of the log has not done, in seconds; 0 if it keeps up.
    reader_lag_seconds: Spans = "shearwater_reader_lag_seconds" by ["reader"];
    /// Size of the store's file in bytes.
    store_bytes: IntGauge = "shearwater_store_bytes";
    /// Bytes free on the store's disk.
    store_free_bytes: IntGauge = "shearwater_store_free_bytes";
    /// Bytes that are to stay free (store.reserve): below it posts, edits and joins are not taken.
    store_reserve_bytes: IntGauge = "shearwater_store_reserve_bytes";

    // Search.
    /// What search made of posts and authors, in a word: indexed, or why not.
    gathered: Counters = "shearwater_search_gathered_total" by ["outcome"];
    /// Posts and authors that may not be found (use search) or counted (use trends), by the reason that stands against it.
    consent_refusals: Counters = "shearwater_consent_refusals_total" by ["use", "reason"];
    /// Time of one search, in seconds, by what was searched for (posts, facets, accounts, hashtags).
    search_seconds: Histograms = "shearwater_search_seconds" by ["kind"] in SECONDS;
    /// Posts in the search index.
    indexed_posts: IntGauge = "shearwater_search_posts";
    /// Size of the index's files in bytes.
    index_bytes: IntGauge = "shearwater_search_index_bytes";
    /// Changes of the ledger that are not in the index yet.
    index_lag: IntGauge = "shearwater_search_index_lag";
    /// How long something that was removed is in the files of the index already, in seconds.
    erasure_lag_seconds: IntGauge = "shearwater_search_erasure_lag_seconds";
    /// Time from a removal in the ledger, final for every search, to its commit in the index, in seconds.
    purge_latency_seconds: Histogram = "shearwater_search_purge_latency_seconds" in SECONDS;
    /// Rows of the ledger that could not be read, and are cleared away. Any is a failing disk, or a bug: please report it.
    ledger_damage: IntCounter = "shearwater_search_ledger_damage_total";

    // Trends.
    /// What trends made of posts and authors, in a word: counted, or why not.
    rolled: Counters = "shearwater_trends_rolled_total" by ["outcome"];
    /// Hashtags and links that are counted.
    trend_things: IntGauge = "shearwater_trends_things";
    /// Memory of the counts in bytes, nearly.
    trend_bytes: IntGauge = "shearwater_trends_bytes";
    /// Things forgotten since the start because trends.memory had no room for more.
    trend_evicted: IntGauge = "shearwater_trends_evicted";
    /// Things that trend and are not shown, by their kind and the reason: each once, whatever lists it would be on.
    trends_withheld: Gauges = "shearwater_trends_withheld" by ["kind", "reason"];

    // The daemon itself.
    /// Whether it takes and keeps what it is sent, and every worker works: what /health/ready says.
    ready: IntGauge = "shearwater_ready";
    /// What is wrong, by the words of /health/ready: 1 if it is so.
    troubles: Gauges = "shearwater_troubles" by ["reason"];
    /// Workers by state: 1 at the state that each is in.
    workers: Gauges = "shearwater_worker_state" by ["worker", "state"];
    /// Times that a worker fell and was made anew.
    worker_restarts: Counters = "shearwater_worker_restarts_total" by ["worker"];
    /// Units of work that a worker did.
    worker_units: Counters = "shearwater_worker_units_total" by ["worker"];
    /// Panics caught in a request. Any is a bug: please report it.
    panics: IntCounter = "shearwater_panics_total";
    /// Wrong tokens that were shown to the operator's API.
    wrong_tokens: IntCounter = "shearwater_admin_wrong_tokens_total";
    /// The release that runs; always 1.
    build: Gauges = "shearwater_build_info" by ["version"];

    // By the names that every program has them under.
    /// Memory in use, in bytes.
    resident_bytes: IntGauge = "process_resident_memory_bytes";
    /// Descriptors in use: files and connections.
    open_descriptors: IntGauge = "process_open_fds";
    /// How many descriptors there may be.
    most_descriptors: IntGauge = "process_max_fds";
    /// Threads.
    threads: IntGauge = "process_threads";
    /// Time on processors, in seconds.
    processor_seconds: Counter = "process_cpu_seconds_total";
    /// When the daemon was started, in seconds since 1970.
    started: IntGauge = "process_start_time_seconds";
}

impl Numbers {
    /// All exist from the start, with the words that are looked at for their increase: the first one that counts would be
    /// missed else, and a panel would be empty instead of at zero.
    fn begin(&self) {
        let counters: [(&Counters, &[&[&'static str]]); 14] = [
            (
                &self.deliveries,
                &[&["delivered"], &["dropped"], &["later"], &["expired"], &["blocked"], &["downgraded"]],
            ),
            (
                &self.shared_signatures,
                &[&["taken"], &["refused"], &["refused-later"], &["all-refused"], &["unclear"], &["software"]],
            ),
            (
                &self.inbound,
                &[&["accepted", "relayed"], &["refused", "overload"], &["refused", "disk"], &["refused", "date"]],
            ),
            (&self.hints, &[&["relayed"]]),
            (&self.control, &[&["accept", "delivered"]]),
            (&self.requests_sent, &[&["get", "2xx"], &["post", "2xx"], &["post", "4xx"], &["post", "5xx"]]),
            (&self.outbound_connections, &[&["closed"], &["budget"], &["http2"]]),
            (&self.fetches, &[&["document", "ok"], &["key", "ok"], &["json", "ok"]]),
            (&self.policy_decisions, &[&["wave", "hold"]]),
            (&self.held_posts_total, &[&["held"], &["released"]]),
            (&self.rules, &[&["domain", "block", "enforced"]]),
            (&self.gathered, &[&["indexed"]]),
            (&self.consent_refusals, &[&["search", "not-indexable"], &["trends", "not-discoverable"]]),
            (&self.rolled, &[&["counted"]]),
        ];
        for (counter, series) in counters {
            series.iter().for_each(|words| counter.with_label_values(words).inc_by(0));
        }
        for work in ["sign", "verify"] {
            let _ = self.signature_seconds.with_label_values(&[work]);
        }
        for method in ["get", "post"] {
            let _ = self.request_seconds.with_label_values(&[method]);
        }
        for kind in ["posts", "facets", "accounts", "hashtags"] {
            let _ = self.search_seconds.with_label_values(&[kind]);
        }
        for serves in ["delivering", "reading"] {
            self.outbound_hosts.with_label_values(&[serves]).set(0);
            self.outbound_kept.with_label_values(&[serves]).set(0);
        }
        self.trends_withheld.with_label_values(&["tag", "hidden"]).set(0);
        self.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    }
}

/// All numbers of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Numbers>);

impl Metrics {
    /// All at zero, in a registry of their own: a process may hold several daemons.
    ///
    /// # Panics
    /// Never: names and labels are fixed and differ.
    #[must_use]
    #[expect(clippy::expect_used, reason = "fixed names that differ; a test makes one")]
    pub fn new() -> Self {
        let all = Numbers::new().expect("every number has a valid name of its own");
        all.begin();
        Self(Arc::new(all))
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Deref for Metrics {
    type Target = Numbers;

    fn deref(&self) -> &Numbers {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rendered_under_their_names() {
        let metrics = Metrics::new();
        metrics.inbound.with_label_values(&["refused", "digest"]).inc();
        metrics.signature_seconds.with_label_values(&["sign"]).observe(0.000_3);
        let text = metrics.render();
        for line in [
            "# HELP shearwater_deliveries_total Entries by what became of them at one subscriber: delivered, dropped",
            "# TYPE shearwater_delivery_lag_seconds histogram",
            "shearwater_inbound_total{reason=\"digest\",result=\"refused\"} 1\n",
            "shearwater_inbound_total{reason=\"relayed\",result=\"accepted\"} 0\n",
            "shearwater_signature_seconds_bucket{work=\"sign\",le=\"0.0005\"} 1\n",
            "shearwater_signature_seconds_bucket{work=\"sign\",le=\"0.0002\"} 0\n",
            "shearwater_delivery_lag_seconds_bucket{le=\"172800\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}

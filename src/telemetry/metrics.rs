//! The numbers at `/metrics`. Counters end in `_total`, times are in seconds. Label values come from enums and fixed words
//! only: a stranger cannot make a new series.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// Buckets of times from a millisecond to an hour, in seconds.
const SECONDS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0];

/// All numbers of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests to the inbox by result (`accepted`, `ignored`, `refused`) and reason (`relayed`, `digest`, `overload`).
    pub inbound: IntCounterVec,
    /// Time to verify and store one request of the inbox.
    pub inbound_seconds: Histogram,
    /// Attempts to deliver by result (`delivered`, `dropped`, `later`, `expired`, `downgraded`), and
    /// entries that a rule keeps back (`blocked`).
    pub deliveries: IntCounterVec,
    /// Time from accepted to delivered, first attempt or not.
    pub lag_seconds: Histogram,
    /// Control messages by kind and result.
    pub control: IntCounterVec,
    /// Subscribers by state.
    pub subscribers: IntGaugeVec,
    /// Lanes by state.
    pub lanes: IntGaugeVec,
    /// Hints by outcome.
    pub hints: IntCounterVec,
    /// Decisions to hold a post by reason and mode (`hold`, `dry-run`).
    pub policy_decisions: IntCounterVec,
    /// What became of held posts (`held`, `released`, `dropped`, `discarded`, `deleted`, `expired`, `refused`).
    pub held_posts_total: IntCounterVec,
    /// Posts that wait for the operator.
    pub held_posts: IntGauge,
    /// Servers held as a whole.
    pub held_servers: IntGauge,
    /// What the operator's rules did (`enforced`), or would have done were they not on trial (`would`), by target and
    /// severity.
    pub rules: IntCounterVec,
    /// The place of the last log entry.
    pub log_head: IntGauge,
    /// Entries that the log keeps.
    pub log_entries: IntGauge,
    /// Size of the store's file.
    pub store_bytes: IntGauge,
    /// Bytes free on the store's disk. Below `store.reserve` posts are not taken.
    pub store_free_bytes: IntGauge,
    /// Bytes of request bodies held in memory.
    pub inbox_bytes: IntGauge,
    /// Open connections from the world.
    pub connections: IntGauge,
    /// Connections closed because there were too many.
    pub connections_refused: IntCounter,
    /// What search made of posts and authors, in a word: `indexed`, or why not.
    pub gathered: IntCounterVec,
    /// Posts in the search index.
    pub indexed_posts: IntGauge,
    /// Changes of the ledger that are not in the index yet.
    pub index_lag: IntGauge,
    /// How long something that was removed is in the index's files already.
    pub erasure_lag_seconds: IntGauge,
    /// Time from a removal in the ledger to its commit in the index.
    pub purge_latency_seconds: Histogram,
    /// Rows of the ledger that could not be read, and are cleared away.
    pub ledger_damage: IntCounter,
    /// What trends made of posts and authors, in a word: `counted`, or why not.
    pub rolled: IntCounterVec,
    /// Things that are counted.
    pub trend_things: IntGauge,
    /// Memory of the counts.
    pub trend_bytes: IntGauge,
    /// Things forgotten for lack of room since the start.
    pub trend_evicted: IntGauge,
    /// Things that trend and are not shown, by the reason.
    pub trends_withheld: IntGaugeVec,
    /// Panics caught in a request.
    pub panics: IntCounter,
}

impl Metrics {
    /// All at zero, in a registry of their own: a process may hold several daemons.
    ///
    /// # Panics
    /// Never: names and labels are fixed and differ.
    #[must_use]
    #[expect(clippy::expect_used, reason = "fixed names that differ; a test makes one")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let add = |metric: Box<dyn prometheus::core::Collector>| registry.register(metric).expect("a name of its own");
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric =
                IntCounterVec::new(Opts::new(format!("shearwater_{name}"), help), labels).expect("a valid name");
            add(Box::new(metric.clone()));
            metric
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntGaugeVec::new(Opts::new(format!("shearwater_{name}"), help), labels).expect("a valid name");
            add(Box::new(metric.clone()));
            metric
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(format!("shearwater_{name}"), help).expect("a valid name");
            add(Box::new(metric.clone()));
            metric
        };
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(format!("shearwater_{name}"), help).expect("a valid name");
            add(Box::new(metric.clone()));
            metric
        };
        let seconds = |name: &str, help: &str| {
            let opts = HistogramOpts::new(format!("shearwater_{name}"), help).buckets(SECONDS.to_vec());
            let metric = Histogram::with_opts(opts).expect("a valid name");
            add(Box::new(metric.clone()));
            metric
        };
        Self {
            inbound: counters("inbound_total", "Requests to the inbox by result and reason.", &["result", "reason"]),
            inbound_seconds: seconds("inbound_seconds", "Time to verify and store one request of the inbox."),
            deliveries: counters("deliveries_total", "Attempts to deliver by result.", &["result"]),
            lag_seconds: seconds("delivery_lag_seconds", "Time from accepted to delivered."),
            control: counters("control_total", "Control messages by kind and result.", &["kind", "result"]),
            subscribers: gauges("subscribers", "Subscribers by state.", &["state"]),
            lanes: gauges("lanes", "Delivery lanes by state.", &["state"]),
            hints: counters("hints_total", "Hints by outcome.", &["outcome"]),
            policy_decisions: counters(
                "policy_decisions_total",
                "Decisions to hold a post by reason and mode.",
                &["reason", "mode"],
            ),
            held_posts_total: counters("held_posts_total", "What became of held posts.", &["outcome"]),
            held_posts: gauge("held_posts", "Posts that wait for the operator."),
            held_servers: gauge("held_servers", "Servers held as a whole until the operator releases them."),
            rules: counters(
                "rules_total",
                "What the operator's rules did, or would have done, by target and severity.",
                &["target", "severity", "effect"],
            ),
            log_head: gauge("log_head", "The place of the last log entry."),
            log_entries: gauge("log_entries", "Entries that the log keeps."),
            store_bytes: gauge("store_bytes", "Size of the store's file in bytes."),
            store_free_bytes: gauge(
                "store_free_bytes",
                "Bytes free on the store's disk. Below store.reserve posts are not taken.",
            ),
            inbox_bytes: gauge("inbox_bytes", "Bytes of request bodies held in memory."),
            connections: gauge("connections", "Open connections from the world."),
            connections_refused: counter(
                "connections_refused_total",
                "Connections closed because there were too many.",
            ),
            gathered: counters("search_gathered_total", "What search made of posts and authors.", &["outcome"]),
            indexed_posts: gauge("search_posts", "Posts in the search index."),
            index_lag: gauge("search_index_lag", "Changes of the ledger that are not in the index yet."),
            erasure_lag_seconds: gauge(
                "search_erasure_lag_seconds",
                "How long something that was removed is in the files of the index already.",
            ),
            purge_latency_seconds: seconds(
                "search_purge_latency_seconds",
                "Time from a removal in the ledger, final for every search, to its commit in the index.",
            ),
            ledger_damage: counter(
                "search_ledger_damage_total",
                "Rows of the ledger that could not be read. Any is a failing disk, or a bug: please report it.",
            ),
            rolled: counters("trends_rolled_total", "What trends made of posts and authors.", &["outcome"]),
            trend_things: gauge("trends_things", "Hashtags and links that are counted."),
            trend_bytes: gauge("trends_bytes", "Memory of the counts in bytes, nearly."),
            trend_evicted: gauge(
                "trends_evicted",
                "Things forgotten since the start because trends.memory had no room for more.",
            ),
            trends_withheld: gauges(
                "trends_withheld",
                "Things that trend and are not shown, by the reason.",
                &["reason"],
            ),
            panics: counter("panics_total", "Panics caught in a request. Any is a bug: please report it."),
            registry,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rendered_under_their_names() {
        let metrics = Metrics::new();
        metrics.inbound.with_label_values(&["refused", "digest"]).inc();
        let text = metrics.render();
        assert!(text.contains("shearwater_inbound_total{reason=\"digest\",result=\"refused\"} 1"), "{text}");
    }
}

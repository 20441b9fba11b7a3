//! Numbers that nobody has to count: they are looked up when somebody asks for `/metrics`. What is counted as it happens
//! is counted beside the code that does it.

use std::time::Duration;

use prometheus::IntCounter;

use super::health::{Facts, Reason, is_ready};
use crate::http::state::HttpState;
use crate::store::{FeedState, SubscriberState};
use crate::supervise::STATES;
use crate::telemetry::{Metrics, Usage};

/// Looks all of them up. Reads the disk a little, and every lane: not for an async thread.
pub(super) fn look(state: &HttpState) {
    let (metrics, facts) = (&state.metrics, Facts::gather(state));
    subscribers(state);
    lists(state);
    log_and_store(state, &facts);
    delivery(metrics, &facts);
    workers(metrics, &facts);
    process(metrics, &facts.usage);
    metrics.inbox_bytes.set(int(state.inbox_slots.held_bytes() as u64));
    let troubles = facts.troubles();
    metrics.ready.set(i64::from(is_ready(&troubles)));
    for reason in Reason::ALL {
        let is_so = troubles.iter().any(|trouble| trouble.reason == reason);
        metrics.troubles.with_label_values(&[reason.word()]).set(i64::from(is_so));
    }
}

fn subscribers(state: &HttpState) {
    let all = state.store.subscribers();
    for (word, of) in [
        ("active", SubscriberState::Active),
        ("pending", SubscriberState::Pending),
        ("checking", SubscriberState::Checking),
    ] {
        let count = all.values().filter(|one| one.state == of && one.paused.is_none()).count();
        state.metrics.subscribers.with_label_values(&[word]).set(int(count as u64));
    }
    let paused = all.values().filter(|one| one.paused.is_some()).count();
    state.metrics.subscribers.with_label_values(&["paused"]).set(int(paused as u64));
}

fn lists(state: &HttpState) {
    // What cannot be read is told by those who need it.
    let Ok(feeds) = state.relay.feeds() else { return };
    for word in FeedState::ALL {
        let count = feeds.iter().filter(|(_, feed)| feed.state() == word).count();
        state.metrics.lists.with_label_values(&[word.as_str()]).set(int(count as u64));
    }
}

fn log_and_store(state: &HttpState, facts: &Facts) {
    let (metrics, log, store) = (&state.metrics, &state.log, &state.store);
    metrics.log_head.set(int(log.head().0));
    raise(&metrics.log_bytes, log.appended_bytes());
    // What cannot be read is told by those who need it.
    if let Ok(entries) = log.len() {
        metrics.log_entries.set(int(entries));
    }
    if let Ok(oldest) = log.at_or_after(crate::ids::Seq(0)) {
        let age = oldest.map_or(Duration::ZERO, |entry| facts.now.since(entry.at));
        metrics.log_oldest_seconds.set(age.as_secs_f64());
    }
    for (reader, lag) in &facts.readers {
        metrics.reader_lag_seconds.with_label_values(&[reader]).set(lag.as_secs_f64());
    }
    metrics.store_bytes.set(int(store.file_bytes()));
    metrics.store_free_bytes.set(int(facts.free));
    metrics.store_reserve_bytes.set(int(facts.reserve));
}

fn delivery(metrics: &Metrics, facts: &Facts) {
    for waiting in &facts.waiting {
        let state = waiting.state.as_str();
        let age = waiting.oldest.map_or(Duration::ZERO, |at| facts.now.since(at));
        metrics.backlog.with_label_values(&[state]).set(int(waiting.entries));
        metrics.oldest_seconds.with_label_values(&[state]).set(age.as_secs_f64());
    }
}

fn workers(metrics: &Metrics, facts: &Facts) {
    for (name, status) in &facts.workers {
        for state in STATES {
            metrics.workers.with_label_values(&[name, state]).set(i64::from(status.state == state));
        }
        raise(&metrics.worker_restarts.with_label_values(&[name]), u64::from(status.restarts));
        raise(&metrics.worker_units.with_label_values(&[name]), status.units);
    }
}

fn process(metrics: &Metrics, usage: &Usage) {
    for (gauge, read) in [
        (&metrics.resident_bytes, usage.resident_bytes),
        (&metrics.open_descriptors, usage.open_descriptors),
        (&metrics.most_descriptors, usage.most_descriptors),
        (&metrics.threads, usage.threads),
    ] {
        if let Some(read) = read {
            gauge.set(int(read));
        }
    }
    metrics.processor_seconds.inc_by((usage.processor.as_secs_f64() - metrics.processor_seconds.get()).max(0.0));
}

/// A count that is kept elsewhere. Two who ask at once may add the same step twice, so what is ahead stays where it is
/// until the count has caught up: it never goes back.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

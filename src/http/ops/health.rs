//! What is wrong with the daemon, as far as it can tell: for each trouble a word for programs, a sentence, and what to do.
//! [`Facts::gather`] looks; [`Facts::troubles`] judges, purely.
//!
//! *Grave* is what keeps it from taking and keeping what it is sent: then it is not ready. The rest is told beforehand, so
//! that somebody can act before it becomes grave.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::delivery::{LaneState, Waiting};
use crate::http::state::HttpState;
use crate::supervise::Workers;
use crate::telemetry::Usage;

/// An entry that a subscriber which answers has waited for so long: it is we who do not get on. Announces are spread over
/// two minutes, and some servers take one request a second.
const LATE: Duration = Duration::from_secs(15 * 60);
/// A reader of the log that is so far behind does not keep up.
const BEHIND: Duration = Duration::from_secs(3600);

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Reason {
    /// It is being stopped.
    Stopping,
    /// It stops by itself.
    GaveUp,
    /// The store takes nothing any more.
    StoreFailed,
    /// Less is free than `store.reserve`.
    DiskFull,
    /// A worker is not there.
    Worker,
    /// Little more is free than `store.reserve`.
    DiskLow,
    /// A reader of the log does not keep up.
    ReaderBehind,
    /// There is no index to search in.
    NoIndex,
    /// Subscribers that answer wait for entries.
    DeliveryLate,
    /// Few descriptors are left.
    Descriptors,
}

impl Reason {
    /// The worst first.
    pub(in crate::http) const ALL: [Self; 10] = [
        Self::Stopping,
        Self::GaveUp,
        Self::StoreFailed,
        Self::DiskFull,
        Self::Worker,
        Self::DiskLow,
        Self::ReaderBehind,
        Self::NoIndex,
        Self::DeliveryLate,
        Self::Descriptors,
    ];

    /// For programs, and labels.
    pub(in crate::http) const fn word(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::GaveUp => "gave-up",
            Self::StoreFailed => "store-failed",
            Self::DiskFull => "disk-full",
            Self::Worker => "worker",
            Self::DiskLow => "disk-low",
            Self::ReaderBehind => "reader-behind",
            Self::NoIndex => "no-index",
            Self::DeliveryLate => "delivery-late",
            Self::Descriptors => "descriptors",
        }
    }

    const fn is_grave(self) -> bool {
        matches!(self, Self::Stopping | Self::GaveUp | Self::StoreFailed | Self::DiskFull | Self::Worker)
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Stopping => "Nothing, if that was wanted; otherwise start it again.",
            Self::GaveUp => {
                "Read the log for what came before. It is started again by systemd; if that repeats, stop it and run \
                 `shearwater check`."
            }
            Self::StoreFailed => {
                "Look after the disk (the kernel's log names it), then restart the relay. `shearwater check` reads \
                 everything and says whether it is whole."
            }
            Self::DiskFull | Self::DiskLow => {
                "Make room on the disk of data_dir, or move it to a larger one. It goes on by itself when there is room."
            }
            Self::Worker => {
                "It is started anew by itself. The log says at `a worker fell` what happened; if it stays so, restart the \
                 relay, and report those lines."
            }
            Self::ReaderBehind => {
                "The log is kept longer for it meanwhile. Look at processor and disk, and in the log for what it waits for."
            }
            Self::NoIndex => {
                "Wait: it is opened, verified or made anew from the ledger, and the log says how far it is. \
                 `shearwater index stats` shows it."
            }
            Self::DeliveryLate => {
                "Look at processor and network, at the time that requests take (shearwater_request_seconds), and whether \
                 delivery.in_flight is too low for so many subscribers."
            }
            Self::Descriptors => "Raise LimitNOFILE in the systemd unit, or lower http.connections.",
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Trouble {
    /// One word.
    pub(in crate::http) reason: Reason,
    /// It keeps the relay from taking and keeping what it is sent.
    grave: bool,
    /// A sentence.
    detail: String,
    /// What to do.
    remedy: &'static str,
}

impl Trouble {
    fn new(reason: Reason, detail: String) -> Self {
        Self { reason, grave: reason.is_grave(), detail, remedy: reason.remedy() }
    }

    /// What is wrong and what to do, in a line.
    pub(in crate::http) fn said(&self) -> String {
        format!("{} {}", self.detail, self.remedy)
    }

    /// The daemon ends by itself.
    pub(in crate::http) fn gave_up(why: String) -> Self {
        Self::new(Reason::GaveUp, format!("The relay stops by itself: {why}"))
    }
}

/// Whether it may be sent something.
pub(in crate::http) fn is_ready(troubles: &[Trouble]) -> bool {
    !troubles.iter().any(|trouble| trouble.grave)
}

/// How the daemon stands at one moment.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Facts {
    pub(in crate::http) now: Timestamp,
    pub(in crate::http) stopping: bool,
    pub(in crate::http) gave_up: Option<String>,
    pub(in crate::http) store_failed: bool,
    /// Bytes that are free, and that are to stay free.
    pub(in crate::http) free: u64,
    pub(in crate::http) reserve: u64,
    pub(in crate::http) workers: Workers,
    /// How far each reader of the log is behind.
    pub(in crate::http) readers: Vec<(&'static str, Duration)>,
    /// Whether there is an index to search in; `None` where there is no search.
    pub(in crate::http) has_index: Option<bool>,
    /// What waits, by the state of lanes.
    pub(in crate::http) waiting: Vec<Waiting>,
    pub(in crate::http) usage: Usage,
}

impl Facts {
    /// Looks. Reads the disk a little: not for an async thread.
    pub(in crate::http) fn gather(state: &HttpState) -> Self {
        Self {
            now: state.clock.now(),
            stopping: state.supervisor.stopping().is_cancelled(),
            gave_up: state.supervisor.fatal(),
            store_failed: state.store.failed().is_cancelled(),
            free: state.store.free_bytes(),
            reserve: state.config.store.reserve.as_u64(),
            workers: state.supervisor.status(),
            readers: state.relay.readers().map(|name| (name, behind(state, name))).collect(),
            has_index: state.search.is_on().then(|| state.search.has_index()),
            waiting: state.delivery.waiting(),
            usage: Usage::now(),
        }
    }

    /// What is wrong, the worst first.
    pub(in crate::http) fn troubles(&self) -> Vec<Trouble> {
        Reason::ALL.into_iter().flat_map(|reason| self.about(reason)).collect()
    }

    fn about(&self, reason: Reason) -> Vec<Trouble> {
        let if_so = |so: bool, detail: String| if so { vec![detail] } else { Vec::new() };
        let (free, reserve) = (ByteSize::b(self.free), ByteSize::b(self.reserve));
        let details = match reason {
            // The reason why it stops tells more.
            Reason::Stopping => if_so(
                self.stopping && self.gave_up.is_none(),
                "The relay is being stopped: it takes nothing new and ends what it has begun.".to_owned(),
            ),
            Reason::GaveUp => return self.gave_up.clone().map(Trouble::gave_up).into_iter().collect(),
            Reason::StoreFailed => if_so(
                self.store_failed,
                "The store failed and takes nothing any more; what was answered 202 is on disk.".to_owned(),
            ),
            Reason::DiskFull => if_so(
                self.free < self.reserve,
                format!(
                    "{free} are free on the store's disk, less than store.reserve ({reserve}): posts, edits and joins are \
                     answered 503 until there is room, deletions and deliveries go on."
                ),
            ),
            Reason::DiskLow => if_so(
                self.reserve > 0 && self.free >= self.reserve && self.free / 2 < self.reserve,
                format!("{free} are free on the store's disk; below {reserve} (store.reserve) posts are not taken."),
            ),
            Reason::Worker => self.fallen(),
            Reason::ReaderBehind => self.behind(),
            Reason::NoIndex => if_so(
                self.has_index == Some(false),
                "There is no search index just now: searches are answered 503, posts are kept for it.".to_owned(),
            ),
            Reason::DeliveryLate => self.late(),
            Reason::Descriptors => if_so(
                self.usage.is_short_of_descriptors(),
                format!(
                    "{} of {} descriptors are in use: connections will find none.",
                    self.usage.open_descriptors.unwrap_or_default(),
                    self.usage.most_descriptors.unwrap_or_default()
                ),
            ),
        };
        details.into_iter().map(|detail| Trouble::new(reason, detail)).collect()
    }

    fn fallen(&self) -> Vec<String> {
        // At a stop workers end because they should.
        let fallen = self.workers.iter().filter(|(_, status)| {
            matches!(status.state, "failed" | "restarting") || (status.state == "stopped" && !self.stopping)
        });
        let tell = |(name, status): (&&str, &crate::supervise::WorkerStatus)| {
            let why = status.last_error.as_deref().unwrap_or("it did not say why");
            format!("The worker {name} is {}: {why}", status.state)
        };
        fallen.map(tell).collect()
    }

    fn behind(&self) -> Vec<String> {
        let behind = self.readers.iter().filter(|(_, lag)| *lag > BEHIND);
        let tell = |(name, lag): &(&str, Duration)| {
            format!("The worker {name} has not done entries of the log that are {} minutes old.", lag.as_secs() / 60)
        };
        behind.map(tell).collect()
    }

    fn late(&self) -> Vec<String> {
        let healthy = self.waiting.iter().filter(|waiting| waiting.state == LaneState::Healthy);
        let oldest = healthy.filter_map(|waiting| waiting.oldest).min();
        let late = oldest.map(|at| self.now.since(at)).filter(|age| *age > LATE);
        let tell = |age: Duration| {
            format!("Subscribers that answer have waited for {} minutes for something.", age.as_secs() / 60)
        };
        late.map(tell).into_iter().collect()
    }
}

/// The age of the first entry that a reader of the log has not done.
fn behind(state: &HttpState, name: &str) -> Duration {
    let next = state.store.worker_cursor(name).ok().flatten().filter(|next| *next <= state.log.head());
    let entry = next.and_then(|next| state.log.at_or_after(next).ok().flatten());
    entry.map_or(Duration::ZERO, |entry| state.clock.now().since(entry.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::WorkerStatus;

    const NOW: Timestamp = Timestamp::from_secs(1_787_486_400);
    const MIB: u64 = 1 << 20;

    fn well() -> Facts {
        let usage = Usage { open_descriptors: Some(100), most_descriptors: Some(1024), ..Usage::default() };
        Facts { now: NOW, free: 1000 * MIB, reserve: 256 * MIB, has_index: Some(true), usage, ..Facts::default() }
    }

    fn worker(state: &'static str) -> Workers {
        let status = WorkerStatus { state, units: 1, restarts: 1, last_error: Some("no luck".to_owned()), since: NOW };
        Workers::from([("indexer", status)])
    }

    fn owed(state: LaneState, minutes: u64) -> Vec<Waiting> {
        vec![Waiting { state, entries: 1, oldest: Some(NOW.minus(Duration::from_secs(minutes * 60))) }]
    }

    /// Facts, whether it is ready, and the words of what is wrong.
    #[test]
    fn each_trouble_has_its_word_a_sentence_and_a_remedy() {
        let check = |facts: Facts, ready: bool, expected: &[&str]| {
            let troubles = facts.troubles();
            let words: Vec<_> = troubles.iter().map(|one| one.reason.word()).collect();
            assert_eq!((is_ready(&troubles), &words[..]), (ready, expected), "{facts:?}");
            for one in &troubles {
                assert!(one.detail.len() > 20 && one.remedy.len() > 20 && !one.detail.contains("  "), "{one:?}");
            }
        };
        check(well(), true, &[]);
        check(Facts { stopping: true, ..well() }, false, &["stopping"]);
        check(Facts { stopping: true, workers: worker("stopped"), ..well() }, false, &["stopping"]);
        check(Facts { stopping: true, gave_up: Some("a worker fell".to_owned()), ..well() }, false, &["gave-up"]);
        check(Facts { store_failed: true, ..well() }, false, &["store-failed"]);
        check(Facts { free: 255 * MIB, ..well() }, false, &["disk-full"]);
        check(Facts { free: 511 * MIB, ..well() }, true, &["disk-low"]);
        check(Facts { free: 512 * MIB, ..well() }, true, &[]);
        check(Facts { free: 0, reserve: 0, ..well() }, true, &[]);
        check(Facts { free: u64::MAX, reserve: u64::MAX, ..well() }, true, &["disk-low"]);
        for state in ["failed", "restarting", "stopped"] {
            check(Facts { workers: worker(state), ..well() }, false, &["worker"]);
        }
        for state in ["working", "waiting"] {
            check(Facts { workers: worker(state), ..well() }, true, &[]);
        }
        check(Facts { readers: vec![("gatherer", Duration::from_secs(3601))], ..well() }, true, &["reader-behind"]);
        check(Facts { readers: vec![("gatherer", Duration::from_secs(60))], ..well() }, true, &[]);
        check(Facts { has_index: Some(false), ..well() }, true, &["no-index"]);
        check(Facts { has_index: None, ..well() }, true, &[]);
        check(Facts { waiting: owed(LaneState::Healthy, 16), ..well() }, true, &["delivery-late"]);
        check(Facts { waiting: owed(LaneState::Healthy, 2), ..well() }, true, &[]);
        check(Facts { waiting: owed(LaneState::Failing, 600), ..well() }, true, &[]);
        let usage = Usage { open_descriptors: Some(1000), most_descriptors: Some(1024), ..Usage::default() };
        check(Facts { usage, ..well() }, true, &["descriptors"]);
        // Of several the worst comes first.
        let both = Facts { free: 0, has_index: Some(false), store_failed: true, ..well() };
        check(both, false, &["store-failed", "disk-full", "no-index"]);
    }
}

//! Everything that runs in the background: one small trait, one list, one table of how it fares.
//!
//! A [`Worker`] does one unit of work, or waits for there to be one. It may be stopped between any two units and run
//! twice without harm. If it fails or panics it is made anew after a pause; if that does not help, the daemon asks to be
//! stopped with an error, because a relay that only half works loses what it promised.
//!
//! Stopping is soft, then hard: first no new unit is begun, then (a second signal, or the grace is over) waits are cut.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, Timestamp};

/// Pause before the first restart of a worker; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Failures in a row after which the daemon stops. With the pauses above that takes about two minutes.
const TRIES: u32 = 8;

/// Something that goes on in the background.
pub trait Worker: Send + 'static {
    /// Its name in tables, metrics and logs.
    fn name(&self) -> &'static str;

    /// Does one unit; whether there was one to do.
    fn work(&mut self) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Returns when there may be work again. Cut short at a stop.
    fn wait(&mut self) -> impl Future<Output = ()> + Send;
}

/// The states that a worker can be in.
pub const STATES: [&str; 5] = ["working", "waiting", "restarting", "stopped", "failed"];

/// How a worker fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// One of [`STATES`].
    pub state: &'static str,
    /// Units done.
    pub units: u64,
    /// Times it was made anew.
    pub restarts: u32,
    /// The last failure.
    pub last_error: Option<String>,
    /// When it last changed.
    pub since: Timestamp,
}

/// How all of them fare, by their names.
pub type Workers = BTreeMap<&'static str, WorkerStatus>;

/// Starts, watches and stops all that runs in the background. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    clock: Clock,
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    table: Arc<Mutex<Workers>>,
    fatal: Arc<Mutex<Option<String>>>,
}

impl Supervisor {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tracker: TaskTracker::new(),
            table: Arc::default(),
            fatal: Arc::default(),
        }
    }

    /// Runs the worker that `make` makes, and makes it anew when it falls.
    pub fn start<W: Worker>(&self, make: impl Fn() -> W + Send + Sync + 'static) {
        let supervisor = self.clone();
        let make = Arc::new(make);
        self.spawn(async move {
            let mut failures = 0;
            loop {
                let worker = make();
                let name = worker.name();
                let worked = Arc::new(AtomicBool::new(false));
                let Err(error) = supervisor.guard(worker, worked.clone()).await else { break };
                failures = if worked.load(Ordering::Relaxed) { 1 } else { failures + 1 };
                if supervisor.soft.is_cancelled() {
                    break;
                }
                supervisor.note(name, |status| {
                    status.state = "restarting";
                    status.restarts += 1;
                    status.last_error = Some(format!("{error:#}"));
                });
                tracing::error!(worker = name, failures, error = format!("{error:#}"), "a worker fell");
                if failures >= TRIES {
                    supervisor.note(name, |status| status.state = "failed");
                    supervisor.give_up(format!("worker {name} fell {failures} times in a row: {error:#}"));
                    break;
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(10)).min(LONGEST_PAUSE);
                if supervisor.soft.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    break;
                }
            }
        });
    }

    /// Runs `task` to its end; a stop waits for it until the grace is over. For work that must not be left half done when
    /// the client that asked for it hangs up.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.tracker.spawn(task)
    }

    /// Fires when no new work is to be begun.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.soft
    }

    /// Fires when waits are to be cut.
    #[must_use]
    pub fn cut(&self) -> &CancellationToken {
        &self.hard
    }

    /// Asks for a stop because going on would break promises; `why` becomes the error that the daemon ends with.
    pub fn give_up(&self, why: String) {
        tracing::error!(why, "giving up");
        lock(&self.fatal).get_or_insert(why);
        self.soft.cancel();
    }

    /// Why the daemon gave up, if it did.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        lock(&self.fatal).clone()
    }

    /// How each worker fares.
    #[must_use]
    pub fn status(&self) -> Workers {
        lock(&self.table).clone()
    }

    /// Soft stop, then after `grace` hard stop; returns when all has ended. Whether it all ended within the grace.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.soft.cancel();
        self.tracker.close();
        let in_time = tokio::time::timeout(grace, self.tracker.wait()).await.is_ok();
        self.hard.cancel();
        // What ignores the hard stop is left behind: the process ends, and what was acknowledged is on disk.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.tracker.wait()).await;
        in_time
    }

    /// Runs a worker in a task of its own, so that its panic is an error like any other.
    async fn guard<W: Worker>(&self, worker: W, worked: Arc<AtomicBool>) -> anyhow::Result<()> {
        let supervisor = self.clone();
        match self.spawn(async move { supervisor.run(worker, &worked).await }).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(anyhow::anyhow!("it panicked: {}", panic_text(error.into_panic()))),
            Err(error) => Err(error.into()),
        }
    }

    /// `worked` becomes true with the first look that did not fail. One that finds nothing to do counts too: there are
    /// workers that never have more than that to report, and their failures are far apart, not in a row.
    async fn run<W: Worker>(&self, mut worker: W, worked: &AtomicBool) -> anyhow::Result<()> {
        let name = worker.name();
        while !self.soft.is_cancelled() {
            self.note(name, |status| status.state = "working");
            let done = self.hard.run_until_cancelled(worker.work()).await;
            if matches!(done, Some(Ok(_))) {
                worked.store(true, Ordering::Relaxed);
            }
            match done {
                None => break,
                Some(Ok(true)) => self.note(name, |status| status.units += 1),
                Some(Ok(false)) => {
                    self.note(name, |status| status.state = "waiting");
                    self.soft.run_until_cancelled(worker.wait()).await;
                }
                Some(Err(error)) => return Err(error),
            }
        }
        self.note(name, |status| status.state = "stopped");
        Ok(())
    }

    fn note(&self, name: &'static str, change: impl FnOnce(&mut WorkerStatus)) {
        let now = self.clock.now();
        let mut table = lock(&self.table);
        let status = table.entry(name).or_insert_with(|| WorkerStatus {
            state: "waiting",
            units: 0,
            restarts: 0,
            last_error: None,
            since: now,
        });
        change(status);
        status.since = now;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    struct Clumsy {
        runs: Arc<AtomicU32>,
        falls: u32,
    }

    impl Worker for Clumsy {
        fn name(&self) -> &'static str {
            "clumsy"
        }

        async fn work(&mut self) -> anyhow::Result<bool> {
            let run = self.runs.fetch_add(1, Ordering::SeqCst);
            if run < self.falls {
                assert!(run.is_multiple_of(2), "an odd fall");
                anyhow::bail!("an even fall");
            }
            Ok(run == self.falls)
        }

        async fn wait(&mut self) {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_falls_is_made_anew() {
        let supervisor = Supervisor::new(Clock::system());
        let runs = Arc::new(AtomicU32::new(0));
        let shared = runs.clone();
        supervisor.start(move || Clumsy { runs: shared.clone(), falls: 4 });
        tokio::time::sleep(Duration::from_secs(60)).await;
        let status = supervisor.status();
        assert_eq!((status["clumsy"].state, status["clumsy"].units, status["clumsy"].restarts), ("waiting", 1, 4));
        assert!(supervisor.stop(Duration::from_secs(1)).await);
        assert_eq!(supervisor.fatal(), None);
        assert_eq!(supervisor.status()["clumsy"].state, "stopped");
    }

    /// Never has a unit to report, and falls at every other look.
    struct Stumbling {
        looks: Arc<AtomicU32>,
    }

    impl Worker for Stumbling {
        fn name(&self) -> &'static str {
            "stumbling"
        }

        async fn work(&mut self) -> anyhow::Result<bool> {
            anyhow::ensure!(self.looks.fetch_add(1, Ordering::SeqCst).is_multiple_of(2), "every other time");
            Ok(false)
        }

        async fn wait(&mut self) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_are_not_in_a_row_stop_nothing_however_many() {
        let supervisor = Supervisor::new(Clock::system());
        let looks = Arc::new(AtomicU32::new(0));
        let shared = looks.clone();
        supervisor.start(move || Stumbling { looks: shared.clone() });
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(looks.load(Ordering::SeqCst) > 2 * TRIES, "it goes on");
        assert_eq!(supervisor.fatal(), None);
        assert!(supervisor.stop(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_falls_for_ever_stops_the_daemon() {
        let supervisor = Supervisor::new(Clock::system());
        supervisor.start(move || Clumsy { runs: Arc::default(), falls: u32::MAX });
        supervisor.stopping().cancelled().await;
        assert!(supervisor.fatal().is_some_and(|why| why.contains("clumsy")));
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_must_not_be_left_half_done() {
        let supervisor = Supervisor::new(Clock::system());
        let done = Arc::new(AtomicU32::new(0));
        let shared = done.clone();
        supervisor.spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            shared.store(1, Ordering::SeqCst);
        });
        assert!(supervisor.stop(Duration::from_secs(5)).await);
        assert_eq!(done.load(Ordering::SeqCst), 1);
    }
}

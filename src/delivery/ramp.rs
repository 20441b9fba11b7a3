//! No stampede after a start: what had been waiting leaves at a rate that grows from nothing to the full one over
//! `delivery.ramp`. Entries that came after the start do not wait for it: fresh first. Who then gets a place is for
//! `slots` to say.
//!
//! A small backlog is no stampede: one attempt for each place of `delivery.in_flight` leaves at once, so that an upgrade
//! at an ordinary moment is not slowed down.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::ids::Seq;

/// The full rate, in attempts per second for each place: what comes through it if servers answer in a tenth of a second.
const PER_PLACE: f64 = 10.0;

/// The ramp of one start.
#[derive(Debug)]
pub(super) struct Ramp {
    started: Instant,
    span: Duration,
    /// The last entry that was in the log at the start.
    last_old: Seq,
    at_once: f64,
    full: f64,
    /// Attempts let through. Whoever holds it is the next to go: first come, first served, and so round robin, since each
    /// lane waits with one attempt.
    passed: Mutex<u32>,
}

impl Ramp {
    /// Begins now. `last_old`: the log's end; `in_flight`: places in all.
    pub(super) fn new(span: Duration, last_old: Seq, in_flight: usize) -> Self {
        let at_once = f64::from(u32::try_from(in_flight).unwrap_or(u32::MAX));
        Self { started: Instant::now(), span, last_old, at_once, full: at_once * PER_PLACE, passed: Mutex::new(0) }
    }

    /// Waits until an attempt with the entry `seq` may leave. Cancel-safe, but the place in the queue is lost.
    pub(super) async fn turn(&self, seq: Seq) {
        if seq > self.last_old || self.started.elapsed() >= self.span {
            return;
        }
        let mut passed = self.passed.lock().await;
        sleep_until(self.started + self.due(*passed)).await;
        *passed = passed.saturating_add(1);
    }

    /// When, counted from the start, one more may leave after `passed` have. The rate grows in proportion to time, so what
    /// has left by `t` is `full * t² / (2 * span)`, beside those that leave at once.
    fn due(&self, passed: u32) -> Duration {
        let waiting = f64::from(passed) - self.at_once;
        if waiting < 0.0 {
            return Duration::ZERO;
        }
        let seconds = (2.0 * self.span.as_secs_f64() * waiting / self.full.max(1.0)).sqrt();
        self.span.min(Duration::try_from_secs_f64(seconds).unwrap_or(self.span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn after_a_start_the_backlog_leaves_at_a_rate_that_grows_to_the_full_one() {
        let ramp = Ramp::new(MINUTE, Seq(1_000_000), 100);
        let check = |passed, seconds: f64| {
            let due = ramp.due(passed).as_secs_f64();
            assert!((due - seconds).abs() < 0.01, "{passed}: {due}");
        };
        check(0, 0.0);
        check(99, 0.0);
        check(100 + 300, 6.0);
        check(100 + 7_500, 30.0);
        check(100 + 30_000, 60.0);
        check(u32::MAX, 60.0);
        let began = Instant::now();
        for seq in 0..400 {
            ramp.turn(Seq(seq)).await;
        }
        assert_eq!(began.elapsed().as_secs(), 5);
        tokio::time::sleep(MINUTE).await;
        let began = Instant::now();
        for seq in 0..100_000 {
            ramp.turn(Seq(seq)).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_after_the_start_does_not_wait_behind_the_backlog() {
        let ramp = Ramp::new(MINUTE, Seq(1_000), 1);
        let began = Instant::now();
        let (old, fresh) = tokio::join!(
            async {
                for seq in 0..30 {
                    ramp.turn(Seq(seq)).await;
                }
                began.elapsed()
            },
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                ramp.turn(Seq(1_001)).await;
                began.elapsed()
            }
        );
        assert_eq!(fresh, Duration::from_secs(1));
        assert!(old > Duration::from_secs(10), "{old:?}");
        let at_once = Ramp::new(Duration::ZERO, Seq(1_000), 1);
        let began = Instant::now();
        for seq in 0..1_000 {
            at_once.turn(Seq(seq)).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "no ramp");
    }
}

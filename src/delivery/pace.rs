//! When Announces leave. An Announce makes every subscriber fetch the post from its origin, so a small server whose post
//! goes to a thousand others would be knocked over by its own success. So the Announces of one origin's posts queue for
//! their turns: one origin sees at most `delivery.origin_fetch_rate` fetches a second, after a first burst; but nobody waits
//! longer than [`LONGEST`], and where the queue is so long that this would not do, the rate rises. Each origin has a queue of
//! its own, so who posts little never waits behind who posts much. Forwards cause no fetch and are never held up.
//!
//! A turn is asked for when an Announce could leave, whatever the age of the post: what was owed for an hour, to many, leaves
//! at the same rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::Authority;

/// What leaves at once before turns are given, in tenths of a second's fetches: fifty at twenty a second.
const BURST_TENTHS: u64 = 25;
/// The longest that an Announce is held, in microseconds: two minutes.
const LONGEST: i64 = 120_000_000;
/// From half of that on the rate rises.
const HALF: i64 = LONGEST / 2;
/// Origins with a queue, at most; beyond it all others have one together.
const ORIGINS: usize = 4096;
/// How often queues that are empty are looked for, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// The queues of all origins.
pub(super) struct Pace {
    /// Microseconds between two fetches; 0: nobody waits.
    gap: i64,
    /// What may leave at once, in microseconds of gaps.
    burst: i64,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    of: HashMap<Authority, Queue>,
    of_all_others: Queue,
    swept: Timestamp,
}

/// A bucket (GCRA): the moment at which it will be full again, in microseconds.
#[derive(Debug, Default, Clone, Copy)]
struct Queue(i64);

impl Pace {
    /// `rate` in fetches a second; 0: nobody waits.
    pub(super) fn new(rate: u32) -> Self {
        let gap = 1_000_000_i64.checked_div(i64::from(rate)).unwrap_or_default();
        let burst = gap.saturating_mul(i64::try_from(u64::from(rate) * BURST_TENTHS / 10).unwrap_or(i64::MAX));
        Self { gap, burst, queues: Mutex::default() }
    }

    /// When the Announce of a post of `origin` may leave that could leave `now`; two minutes later at the latest.
    pub(super) fn turn(&self, origin: &Authority, now: Timestamp) -> Timestamp {
        if self.gap == 0 {
            return now;
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Queues { of, of_all_others, swept } = &mut *queues;
        if of.len() >= ORIGINS && (now.since(*swept) >= SWEEP || *swept > now) {
            *swept = now;
            of.retain(|_, queue| queue.0 > micros(now));
        }
        let has_room = of.len() < ORIGINS || of.contains_key(origin);
        let queue = if has_room { of.entry(origin.clone()).or_default() } else { of_all_others };
        let wait = queue.take(micros(now), self.gap, self.burst);
        now.plus(Duration::from_micros(u64::try_from(wait).unwrap_or_default()))
    }
}

impl Queue {
    /// Takes the next turn; how long it is until then. What waits for the turn before is at most [`LONGEST`] away, also if
    /// the clock was set back meanwhile.
    fn take(&mut self, now: i64, gap: i64, burst: i64) -> i64 {
        let waits = self.0.saturating_sub(now).clamp(0, LONGEST + burst);
        // The longer the queue beyond the half, the shorter the gap: nobody gets to its end.
        let left = (LONGEST - (waits - burst)).min(HALF);
        let gap = if left < HALF {
            (i128::from(gap) * i128::from(left).pow(2) / i128::from(HALF).pow(2)) as i64
        } else {
            gap
        };
        let waits = waits + gap;
        self.0 = now.saturating_add(waits);
        (waits - burst).max(0)
    }
}

const fn micros(at: Timestamp) -> i64 {
    at.millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::super::testing::NOON;
    use super::*;

    fn host(name: &str) -> Authority {
        Authority::parse(name).unwrap()
    }

    /// How long so many wait who ask at once, in milliseconds.
    fn waits(pace: &Pace, origin: &str, now: Timestamp, readers: usize) -> Vec<u128> {
        (0..readers).map(|_| pace.turn(&host(origin), now).since(now).as_millis()).collect()
    }

    #[test]
    fn an_origin_sees_at_most_its_rate_after_a_first_burst() {
        let pace = Pace::new(20);
        let waits = waits(&pace, "a.example", NOON, 1250);
        assert!(waits[..50].iter().all(|wait| *wait == 0));
        assert_eq!((waits[50], waits[51], waits[1249]), (50, 100, 60_000));
        for second in 0..60 {
            let within = waits[50..].iter().filter(|wait| (second * 1000..(second + 1) * 1000).contains(*wait)).count();
            assert!(within <= 20, "{within} in second {second}");
        }
    }

    #[test]
    fn nobody_waits_longer_than_two_minutes_and_the_rate_rises_without_a_stampede() {
        let pace = Pace::new(20);
        let waits = waits(&pace, "a.example", NOON, 20_000);
        assert!(waits.is_sorted());
        let last = waits[19_999];
        assert!((100_000..=120_000).contains(&last), "{last}");
        let within =
            |second: u128| waits.iter().filter(|wait| (second * 1000..(second + 1) * 1000).contains(*wait)).count();
        assert!(within(59) <= 20 && (21..60).contains(&within(75)), "{} {}", within(59), within(75));
        // The queue of ten thousand readers more than its two minutes hold is not owed to what comes after them.
        let later = NOON.plus(Duration::from_secs(130));
        assert_eq!(pace.turn(&host("a.example"), later), later);
    }

    #[test]
    fn what_was_owed_for_long_leaves_at_the_same_rate_and_a_straggler_changes_nothing() {
        let pace = Pace::new(20);
        let first = waits(&pace, "a.example", NOON, 250);
        let later = NOON.plus(Duration::from_secs(3));
        let straggler = pace.turn(&host("a.example"), later).since(NOON).as_millis();
        assert_eq!(straggler, first[249] + 50, "behind all who wait");
    }

    #[test]
    fn who_posts_little_does_not_wait_behind_who_posts_much() {
        let pace = Pace::new(20);
        assert!(waits(&pace, "busy.example", NOON, 10_000).last() > Some(&60_000));
        assert_eq!(waits(&pace, "small.example", NOON, 50), [0; 50]);
    }

    #[test]
    fn the_operator_says_how_many_fetches_a_second_and_zero_is_no_limit() {
        let last = |rate| *waits(&Pace::new(rate), "a.example", NOON, 250).last().unwrap();
        assert_eq!([0, 20, 40, 100, u32::MAX].map(last), [0, 10_000, 3_750, 0, 0]);
        assert!((100_000..=120_000).contains(&last(1)), "{}", last(1));
    }

    #[test]
    fn a_clock_that_was_set_back_by_hours_holds_nobody_up_for_hours() {
        let pace = Pace::new(20);
        waits(&pace, "a.example", NOON, 500);
        let before = NOON.minus(Duration::from_secs(10_800));
        assert!(waits(&pace, "a.example", before, 2000).iter().all(|wait| *wait <= 120_000));
    }

    #[test]
    fn however_many_origins_there_are_a_bounded_number_has_a_queue_and_the_others_have_one_together() {
        let pace = Pace::new(20);
        for number in 0..ORIGINS * 2 {
            pace.turn(&host(&format!("o{number}.example")), NOON);
        }
        assert_eq!(pace.queues.lock().unwrap().of.len(), ORIGINS);
        assert!(waits(&pace, "one-more.example", NOON, 1)[0] > 0);
        let later = NOON.plus(Duration::from_secs(10));
        assert_eq!(waits(&pace, "one-more.example", later, 1), [0]);
        assert_eq!(pace.queues.lock().unwrap().of.len(), 1, "the empty ones are gone");
    }
}

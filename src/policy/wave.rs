//! Spam waves: in February 2024 and again in October scripts signed up on many small servers at once and mentioned people
//! by the thousand. What gives such a server away is not any one post but how many of its authors nobody ever heard of
//! before. So each server's new authors of this hour are measured against its own week. Pure arithmetic.
//!
//! On a server's first day here everybody is new: until it has been known for [`FIRST_DAY`], it takes [`HARD`] times the
//! figure to hold it. Its usual is the median of all hours, or, if that is more, of the same time of day: servers whose
//! people live in one time zone are quiet half the day.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config;
use crate::store::Arrivals;

/// How long a server is known before its authors can be told into new and old.
pub const FIRST_DAY: Duration = Duration::from_secs(24 * 3600);
/// So many times the figure counts for those who cannot be judged by it: servers on their first day.
pub const HARD: u32 = 10;

/// Whether `arrivals` is known for long enough.
#[must_use]
pub fn is_settled(arrivals: &Arrivals, now: Timestamp) -> bool {
    arrivals.age(now) >= FIRST_DAY
}

/// Whether this hour's new authors are out of the usual.
#[must_use]
pub fn is_wave(arrivals: &Arrivals, policy: &config::Policy, now: Timestamp) -> bool {
    // The floor first: hardly any hour reaches it, and the rest is not worked out then.
    let above = |level: u32| arrivals.current > level;
    policy.wave_floor > 0
        && above(policy.wave_floor)
        && now >= arrivals.quiet_until
        && above(level(arrivals, policy, now))
}

/// How many new authors in an hour are still usual for the server.
#[must_use]
pub fn level(arrivals: &Arrivals, policy: &config::Policy, now: Timestamp) -> u32 {
    if !is_settled(arrivals, now) {
        return policy.wave_floor.saturating_mul(HARD);
    }
    let usual = median(arrivals.past.clone()).max(median(same_time_of_day(&arrivals.past)));
    policy.wave_floor.max(usual.saturating_mul(policy.wave_factor))
}

/// The same hour on earlier days, and the hours beside it.
fn same_time_of_day(past: &[u32]) -> Vec<u32> {
    let days = (1..=past.len().div_ceil(24)).flat_map(|day| [24 * day - 2, 24 * day - 1, 24 * day]);
    days.filter_map(|index| past.get(index).copied()).collect()
}

fn median(mut counts: Vec<u32>) -> u32 {
    counts.sort_unstable();
    counts.get(counts.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn policy() -> config::Policy {
        config::Config::embedded().policy
    }

    /// A server known since `hours` ago with the same number of new authors in each of them, and `current` in this one.
    fn with(hours: usize, each: u32, current: u32) -> Arrivals {
        let now = at(8 * 86_400);
        let mut arrivals = Arrivals::new(now);
        arrivals.since = now.minus(Duration::from_secs(3600 * hours as u64));
        (arrivals.past, arrivals.current) = (vec![each; hours.min(168)], current);
        arrivals
    }

    #[test]
    fn an_hour_is_measured_against_the_servers_own_week() {
        let check = |arrivals: Arrivals, expected: bool| {
            assert_eq!(is_wave(&arrivals, &policy(), at(8 * 86_400)), expected, "{arrivals:?}");
        };
        check(with(168, 0, 30), false);
        check(with(168, 0, 31), true);
        check(with(168, 20, 100), false);
        check(with(168, 20, 101), true);
        check(with(24, 0, 31), true);
        check(with(23, 0, 31), false);
        check(with(23, 0, 300), false);
        check(with(23, 0, 301), true);
        check(with(0, 0, 300), false);
        let mut looked_at = with(168, 0, 500);
        looked_at.quiet_until = at(8 * 86_400 + 1);
        check(looked_at.clone(), false);
        looked_at.quiet_until = at(8 * 86_400);
        check(looked_at, true);
        let off = config::Policy { wave_floor: 0, ..policy() };
        assert!(!is_wave(&with(168, 0, 5000), &off, at(8 * 86_400)));
    }

    #[test]
    fn a_busy_time_of_day_is_usual_at_that_time_of_day() {
        let mut arrivals = with(168, 0, 60);
        for day in 1..=7 {
            for index in [24 * day - 2, 24 * day - 1, 24 * day] {
                if let Some(hour) = arrivals.past.get_mut(index) {
                    *hour = 15;
                }
            }
        }
        assert_eq!(level(&arrivals, &policy(), at(8 * 86_400)), 75);
        arrivals.past.rotate_left(12);
        assert_eq!(level(&arrivals, &policy(), at(8 * 86_400)), 30, "the same at another time of day");
    }

    /// What chance there is here: the same in every run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn below(&mut self, limit: usize) -> usize {
            (self.roll() * limit as f64) as usize
        }

        fn poisson(&mut self, mean: f64) -> usize {
            let (limit, mut product, mut count) = ((-mean).exp(), self.roll(), 0);
            while product > limit {
                product *= self.roll();
                count += 1;
            }
            count
        }
    }

    /// 300 small servers, each with a quiet week behind it; 200 accounts on each post 20 times within the hour.
    #[test]
    fn a_wave_is_held_within_a_minute() {
        let (policy, mut dice) = (policy(), Dice(7));
        let begin = 8 * 86_400;
        let (mut held, mut missed, mut early) = (0, 0, 0);
        for _ in 0..300 {
            let mut arrivals = with(168, u32::from(dice.roll() < 0.2), 0);
            let mut posts: Vec<(u64, usize)> =
                (0..200 * 20).map(|number| (dice.below(3600) as u64, number % 200)).collect();
            posts.sort_unstable();
            let (mut known, mut is_held) = (HashSet::new(), false);
            for (second, author) in posts {
                let now = at(begin + second);
                if known.insert(author) {
                    arrivals.note(now);
                }
                is_held = is_held || is_wave(&arrivals, &policy, now);
                match (is_held, second < 60) {
                    (true, _) => held += 1,
                    (false, true) => early += 1,
                    (false, false) => missed += 1,
                }
            }
        }
        let after = f64::from(held) / f64::from(held + missed);
        assert!(after >= 0.99, "{held} held, {missed} missed after the first minute, {early} before");
    }

    /// Servers of 1 to 2000 people with a daily cycle, from the first day on, and people who join them.
    #[test]
    fn an_honest_week_is_left_alone() {
        let (policy, mut dice) = (policy(), Dice(11));
        let (mut posts, mut held) = (0_u64, 0_u64);
        for people in [1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 800, 1200, 2000] {
            for zone in [0.0, 5.0, 12.0, 19.0] {
                let mut arrivals = Arrivals::new(at(0));
                let (mut known, mut is_held) = (HashSet::new(), false);
                for hour in 0..9 * 24_u32 {
                    let now = at(u64::from(hour) * 3600 + 1800);
                    let population = people + people * hour as usize / (24 * 50);
                    // From nearly nobody at night to twice the mean in the evening; each posts once a day.
                    let day = (f64::from(hour) + zone) / 24.0 * std::f64::consts::TAU;
                    let mean = population as f64 / 24.0 * (1.0 + 0.98 * day.sin());
                    for _ in 0..dice.poisson(mean) {
                        // Some post much more than others.
                        let author = (dice.roll() * dice.roll() * population as f64) as usize;
                        posts += 1;
                        if known.insert(author) {
                            arrivals.note(now);
                        }
                        is_held = is_held || is_wave(&arrivals, &policy, now);
                        held += u64::from(is_held);
                    }
                }
            }
        }
        assert!(held * 1000 <= posts, "{held} of {posts} posts were held");
        assert!(posts > 100_000, "{posts}");
    }
}

//! How long to wait before trying again: the configured gaps, varied so that those who failed together do not come back
//! together, or what the other server asked for. Only numbers; who waits is for the lane to say.

use std::time::Duration;

use crate::clock::Timestamp;

/// A `Retry-After` below or beyond these is read as the nearer one.
const SHORTEST_REQUEST: Duration = Duration::from_secs(1);
const LONGEST_REQUEST: Duration = Duration::from_secs(24 * 3600);

/// The pause after the `failures`th failure in a row (from 1): a gap of `gaps`, of which the last one repeats, varied by
/// up to a quarter either way. `roll` is a random number from 0 to 1.
pub(super) fn gap(gaps: &[Duration], failures: u32, roll: f64) -> Duration {
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let gap = gaps.get(index).or(gaps.last()).copied().unwrap_or(Duration::from_secs(30));
    vary(gap, roll)
}

/// `span` plus or minus up to a quarter.
pub(super) fn vary(span: Duration, roll: f64) -> Duration {
    span.mul_f64(0.75 + roll.clamp(0.0, 1.0) / 2.0)
}

/// Chance, for nothing but spreading retries: the one place in this room that throws dice.
pub(super) fn roll() -> f64 {
    rand::random()
}

/// What a `Retry-After` header asks for (RFC 9110 section 10.2.3: seconds, or an HTTP date), from 1 s to 24 h; `None` if
/// it cannot be read.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean "very long" as well.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        Timestamp::from_http_date(value)?.since(now)
    };
    Some(asked.clamp(SHORTEST_REQUEST, LONGEST_REQUEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_follow_the_list_and_the_last_one_repeats() {
        let gaps = [30, 120, 600].map(Duration::from_secs);
        let check = |failures, roll, seconds: f64| {
            let expected = Duration::from_secs_f64(seconds);
            assert_eq!(gap(&gaps, failures, roll), expected, "{failures} {roll}");
        };
        check(1, 0.5, 30.0);
        check(0, 0.5, 30.0);
        check(2, 0.0, 90.0);
        check(2, 1.0, 150.0);
        check(3, 0.5, 600.0);
        check(4, 0.5, 600.0);
        check(u32::MAX, 7.0, 750.0);
        assert_eq!(gap(&[], 1, 0.5), Duration::from_secs(30));
        assert!((0..100).all(|_| (0.0..=1.0).contains(&roll())));
    }

    #[test]
    fn retry_after_is_read_in_both_notations_and_kept_within_reason() {
        let now = Timestamp::from_secs(1_787_486_400);
        let check = |value: &str, seconds: Option<u64>| {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("0", Some(1));
        check("99999999", Some(86_400));
        check("99999999999999999999999999", Some(86_400));
        check("Sun, 23 Aug 2026 12:01:00 GMT", Some(60));
        check("Sun, 23 Aug 2026 11:01:00 GMT", Some(1));
        check("Sun, 23 Aug 2099 11:01:00 GMT", Some(86_400));
        check("soon", None);
        check("-5", None);
        check("1.5", None);
        check("", None);
    }
}

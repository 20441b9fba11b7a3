//! When Announces leave. An Announce makes every subscriber fetch the post from its origin, so a small server whose post
//! goes to a thousand others would be knocked over by its own success. Each post's Announces are spread so that one
//! origin sees at most [`RATE`] fetches a second, after a first [`BURST`]; but nobody waits longer than [`LONGEST`], and
//! if that is too short the rate rises. Forwards cause no fetch and are never held up.
//!
//! Each subscriber has its place in the spread by a hash, so a lane needs to remember nothing, and a restart changes
//! nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::log::{Entry, Kind};

/// Fetches a second that one origin is to see.
const RATE: u32 = 20;
/// Announces that leave at once, before the spread begins.
const BURST: u32 = 50;
/// The longest that an Announce is held.
const LONGEST: Duration = Duration::from_secs(120);
/// Origins whose posts are being spread, at most; beyond it each post is spread by itself.
const ORIGINS: usize = 4096;

/// The time over which one entry's Announces leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    from: Timestamp,
    over: Duration,
    salt: u64,
}

impl Spread {
    /// When the Announce to `subscriber` may leave; never later than [`LONGEST`] from `now`, also if the clock was set back
    /// since the entry came.
    pub(super) fn release(&self, subscriber: &Authority, now: Timestamp) -> Timestamp {
        if self.over.is_zero() {
            return self.from.min(now);
        }
        let mut hasher = DefaultHasher::new();
        (self.salt, subscriber).hash(&mut hasher);
        #[expect(clippy::cast_precision_loss, reason = "a fraction needs no more than 53 bits")]
        let place = hasher.finish() as f64 / u64::MAX as f64;
        self.from.plus(self.over.mul_f64(place.clamp(0.0, 1.0))).min(now.plus(LONGEST))
    }
}

/// How many are announced to, and until when each origin is busy.
#[derive(Default)]
pub(super) struct Pace {
    everybody: AtomicUsize,
    announced_always: AtomicUsize,
    busy: Mutex<HashMap<Authority, Timestamp>>,
}

impl Pace {
    /// Tells how many lanes there are, and to how many of them even posts that can be forwarded are announced.
    pub(super) fn set_audience(&self, everybody: usize, announced_always: usize) {
        self.everybody.store(everybody, Ordering::Relaxed);
        self.announced_always.store(announced_always, Ordering::Relaxed);
    }

    /// The spread of `entry`, behind what of its origin is being announced already.
    pub(super) fn spread(&self, entry: &Entry) -> Spread {
        let audience = if entry.carried { &self.announced_always } else { &self.everybody };
        let readers = u32::try_from(audience.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        if entry.kind != Kind::Create || readers == 0 {
            return Spread { from: entry.at, over: Duration::ZERO, salt: entry.seq.0 };
        }
        let origin = entry.object.authority();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.len() >= ORIGINS {
            busy.retain(|_, until| *until > entry.at);
        }
        let (spread, until) = queue(entry.at, busy.get(&origin).copied(), readers);
        if busy.len() < ORIGINS || busy.contains_key(&origin) {
            busy.insert(origin, until);
        }
        Spread { salt: entry.seq.0, ..spread }
    }
}

/// The spread of an entry taken at `at` for `readers`, and until when its origin is busy with it. The allowance is a
/// bucket of [`BURST`] fetches that fills at [`RATE`]: `busy` is when it will be full again.
fn queue(at: Timestamp, busy: Option<Timestamp>, readers: u32) -> (Spread, Timestamp) {
    let full_again = busy.map_or(at, |until| until.max(at));
    let until = full_again.plus(span(readers));
    // What fits into the bucket leaves at once, the rest as it fills.
    let end = until.minus(span(BURST)).max(at);
    let from = full_again.minus(span(BURST)).max(at);
    let last = at.plus(LONGEST);
    // Beyond the longest hold the rate rises, over the second half of it rather than in one moment at its end; and that
    // is not owed to later posts.
    let (from, end) = if end <= last { (from, end) } else { (from.min(at.plus(LONGEST / 2)), last) };
    let until = until.min(last.plus(span(BURST)));
    (Spread { from, over: end.since(from), salt: 0 }, until)
}

fn span(fetches: u32) -> Duration {
    Duration::from_secs(1).saturating_mul(fetches) / RATE
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, entry};
    use super::*;

    fn seconds(spread: &Spread) -> (u64, u64) {
        (spread.from.since(NOON).as_secs(), spread.over.as_secs())
    }

    #[test]
    fn few_readers_are_told_at_once_and_many_are_spread() {
        let check = |readers, expected| assert_eq!(seconds(&queue(NOON, None, readers).0), expected, "{readers}");
        check(1, (0, 0));
        check(50, (0, 0));
        check(250, (0, 10));
        check(2450, (0, 120));
        check(10_000, (0, 120));
        check(u32::MAX, (0, 120));
    }

    #[test]
    fn posts_of_one_origin_queue_up_but_nobody_waits_longer_than_two_minutes() {
        let (first, busy) = queue(NOON, None, 850);
        assert_eq!(seconds(&first), (0, 40));
        let (second, busy) = queue(NOON, Some(busy), 850);
        assert_eq!(seconds(&second), (40, 42));
        let (third, busy) = queue(NOON, Some(busy), 850);
        assert_eq!(seconds(&third), (60, 60), "the rate rises");
        let (fourth, _) = queue(NOON, Some(busy), 850);
        assert_eq!(seconds(&fourth), (60, 60));
        let later = NOON.plus(Duration::from_secs(600));
        assert_eq!(queue(later, Some(busy), 850).0.from, later);
    }

    #[test]
    fn subscribers_have_their_places_in_the_spread() {
        let pace = Pace::default();
        pace.set_audience(250, 0);
        let carried = entry(1, |_| {});
        let announced = entry(2, |draft| draft.carried = false);
        assert_eq!(pace.spread(&carried).over, Duration::ZERO, "nobody has it announced");
        let spread = pace.spread(&announced);
        let release = |number| {
            let subscriber = Authority::parse(&format!("s{number}.example")).unwrap();
            spread.release(&subscriber, NOON).since(NOON).as_millis()
        };
        let mut places: Vec<u128> = (0..200).map(release).collect();
        assert_eq!(release(7), release(7));
        let (subscriber, before) = (Authority::parse("s7.example").unwrap(), NOON.minus(Duration::from_secs(10_800)));
        let held = spread.release(&subscriber, before).since(before);
        assert!(held <= LONGEST, "a clock that was set back by hours holds nobody up for hours: {held:?}");
        places.sort_unstable();
        assert!(places[199] <= 10_000);
        // Any second of the ten holds about a tenth.
        for second in 0..10 {
            let range = second * 1000..(second + 1) * 1000;
            let count = places.iter().filter(|place| range.contains(*place)).count();
            assert!((5..=40).contains(&count), "{count} in second {second}");
        }
    }
}

//! When Announces leave. An Announce makes every subscriber fetch the post from its origin, so a small server whose post
//! goes to a thousand others would be knocked over by its own success. Each post's Announces are spread so that one
//! origin sees at most `delivery.origin_fetch_rate` fetches a second, after a first burst; but nobody waits longer than
//! [`LONGEST`], and if that is too short the rate rises. Each origin has a rate of its own, so who posts little never waits
//! behind who posts much. Forwards cause no fetch and are never held up.
//!
//! Each subscriber has its place in the spread by a hash, so a lane needs to remember nothing, and a restart changes
//! nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::Authority;
use crate::log::{Entry, Kind};

/// What leaves at once before the spread begins, in tenths of a second's fetches: fifty at twenty a second.
const BURST_TENTHS: u32 = 25;
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
pub(super) struct Pace {
    rate: Option<Rate>,
    everybody: AtomicUsize,
    announced_always: AtomicUsize,
    busy: Mutex<HashMap<Authority, Timestamp>>,
}

/// Fetches a second that one origin is to see.
#[derive(Debug, Clone, Copy)]
struct Rate(NonZeroU32);

impl Rate {
    /// How long so many fetches take.
    fn span(self, fetches: u32) -> Duration {
        Duration::from_secs(1).saturating_mul(fetches) / self.0.get()
    }

    fn burst(self) -> Duration {
        self.span(self.0.get().saturating_mul(BURST_TENTHS) / 10)
    }
}

impl Pace {
    /// `rate` in fetches a second; 0: nothing is spread.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            rate: NonZeroU32::new(rate).map(Rate),
            everybody: AtomicUsize::new(0),
            announced_always: AtomicUsize::new(0),
            busy: Mutex::default(),
        }
    }

    /// Tells how many lanes there are, and to how many of them even posts that can be forwarded are announced.
    pub(super) fn set_audience(&self, everybody: usize, announced_always: usize) {
        self.everybody.store(everybody, Ordering::Relaxed);
        self.announced_always.store(announced_always, Ordering::Relaxed);
    }

    /// The spread of `entry`, behind what of its origin is being announced already.
    pub(super) fn spread(&self, entry: &Entry) -> Spread {
        let audience = if entry.carried { &self.announced_always } else { &self.everybody };
        let readers = u32::try_from(audience.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let rate = self.rate.filter(|_rate| entry.kind == Kind::Create && readers > 0);
        let Some(rate) = rate else { return Spread { from: entry.at, over: Duration::ZERO, salt: entry.seq.0 } };
        let origin = entry.object.authority();
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.len() >= ORIGINS {
            busy.retain(|_, until| *until > entry.at);
        }
        let (spread, until) = queue(rate, entry.at, busy.get(&origin).copied(), readers);
        if busy.len() < ORIGINS || busy.contains_key(&origin) {
            busy.insert(origin, until);
        }
        Spread { salt: entry.seq.0, ..spread }
    }
}

/// The spread of an entry taken at `at` for `readers`, and until when its origin is busy with it. The allowance is a
/// bucket of a burst that fills at `rate`: `busy` is when it will be full again.
fn queue(rate: Rate, at: Timestamp, busy: Option<Timestamp>, readers: u32) -> (Spread, Timestamp) {
    let full_again = busy.map_or(at, |until| until.max(at));
    let until = full_again.plus(rate.span(readers));
    // What fits into the bucket leaves at once, the rest as it fills.
    let end = until.minus(rate.burst()).max(at);
    let from = full_again.minus(rate.burst()).max(at);
    let last = at.plus(LONGEST);
    // Beyond the longest hold the rate rises, over the second half of it rather than in one moment at its end; and that
    // is not owed to later posts.
    let (from, end) = if end <= last { (from, end) } else { (from.min(at.plus(LONGEST / 2)), last) };
    let until = until.min(last.plus(rate.burst()));
    (Spread { from, over: end.since(from), salt: 0 }, until)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOON, entry};
    use super::*;
    use crate::ids::Iri;

    const TWENTY: Rate = Rate(NonZeroU32::new(20).unwrap());

    fn queue(at: Timestamp, busy: Option<Timestamp>, readers: u32) -> (Spread, Timestamp) {
        super::queue(TWENTY, at, busy, readers)
    }

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
    fn the_operator_says_how_many_fetches_a_second_and_zero_is_no_limit() {
        let over = |rate| {
            let pace = Pace::new(rate);
            pace.set_audience(250, 0);
            pace.spread(&entry(1, |draft| draft.carried = false)).over.as_secs_f64()
        };
        assert_eq!([0, 1, 20, 40, 100].map(over), [0.0, 120.0, 10.0, 3.75, 0.0]);
        assert_eq!(over(u32::MAX), 0.0);
    }

    #[test]
    fn who_posts_little_does_not_wait_behind_who_posts_much() {
        let pace = Pace::new(20);
        pace.set_audience(850, 0);
        let of = |seq, host: &str| {
            let object = format!("https://{host}/notes/{seq}");
            pace.spread(&entry(seq, |draft| {
                draft.carried = false;
                draft.object = Iri::parse(&object).unwrap();
            }))
        };
        let first = of(1, "busy.example");
        for seq in 2..40 {
            assert!(of(seq, "busy.example").from > first.from, "{seq}");
        }
        let small = of(40, "small.example");
        assert_eq!((small.from, small.over), (first.from, first.over));
        assert_eq!(of(41, "busy.example").from.since(small.from), LONGEST / 2);
    }

    #[test]
    fn subscribers_have_their_places_in_the_spread() {
        let pace = Pace::new(20);
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

//! Time comes in by the door. Everything that needs to know the time holds a [`Clock`]; tests hold one that they move
//! themselves. Nothing else in the crate may ask the operating system (`clippy.toml` forbids it).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z. Ordered, cheap to copy, stored as a plain number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the epoch, as signatures carry them (`created`, RFC 9421 section 2.3). Saturates.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The day this moment falls on, counted from the epoch in UTC.
    #[must_use]
    pub const fn day(self) -> i64 {
        self.0.div_euclid(86_400_000)
    }

    /// The hour this moment falls on, counted from the epoch.
    #[must_use]
    pub const fn hour(self) -> i64 {
        self.0.div_euclid(3_600_000)
    }

    /// This moment and `span` more. Saturates.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment less `span`. Saturates.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads an RFC 3339 time as ActivityStreams documents carry it (`published`); `None` if it is none. The last hours of
    /// the year 9999 read as the last moment that is one in every zone.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let at = match text.parse::<jiff::Timestamp>() {
            Ok(at) => at,
            Err(_) if text.starts_with("9999-12-3") => {
                let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
                pieces.time().and(pieces.offset()).map(|_whole| jiff::Timestamp::MAX)?
            }
            Err(_) => return None,
        };
        Some(Self(at.as_millisecond()))
    }

    /// RFC 3339 in UTC with whole seconds: `2026-08-23T12:00:00Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_second(self.secs()) {
            Ok(at) => at.to_string(),
            Err(_) => "0000-01-01T00:00:00Z".to_owned(),
        }
    }

    /// Reads an HTTP date (RFC 9110 section 5.6.7); `None` if it is none.
    #[must_use]
    pub fn from_http_date(text: &str) -> Option<Self> {
        let at = httpdate::parse_http_date(text).ok()?;
        let millis = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
        i64::try_from(millis).ok().map(Self)
    }

    /// An HTTP date (RFC 9110 section 5.6.7): `Sun, 23 Aug 2026 12:00:00 GMT`. Times before 1970 read as 1970.
    #[must_use]
    pub fn http_date(self) -> String {
        let secs = u64::try_from(self.secs()).unwrap_or(0);
        // httpdate panics after the year 9999.
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs.min(253_402_300_799)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A handle to the time: the system's, or one that a test moves.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(Arc<AtomicI64>),
    Skewed(i64),
}

impl Clock {
    /// The operating system's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands still at `at` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(at: Timestamp) -> Self {
        Self(Kind::Manual(Arc::new(AtomicI64::new(at.0))))
    }

    /// The system's clock, wrong by `millis`: how the demo's instances get clocks that differ.
    #[must_use]
    pub const fn skewed(millis: i64) -> Self {
        Self(Kind::Skewed(millis))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System => system_now(),
            Kind::Manual(at) => Timestamp(at.load(Ordering::SeqCst)),
            Kind::Skewed(millis) => Timestamp(system_now().0.saturating_add(*millis)),
        }
    }

    /// Moves a manual clock forward. Does nothing to the others: nobody moves those.
    pub fn advance(&self, span: Duration) {
        if let Kind::Manual(at) = &self.0 {
            at.fetch_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the operating system")]
fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_both_notations() {
        let at = Timestamp::from_secs(1_787_486_400);
        assert_eq!(at.http_date(), "Sun, 23 Aug 2026 12:00:00 GMT");
        assert_eq!(at.rfc3339(), "2026-08-23T12:00:00Z");
        assert_eq!(Timestamp::from_http_date(&at.http_date()), Some(at));
        assert_eq!(Timestamp::from_rfc3339("2026-08-23T14:00:00.5+02:00"), Some(at.plus(Duration::from_millis(500))));
        assert_eq!(Timestamp::from_rfc3339("yesterday"), None);
        let of = |text: &str| Timestamp::from_rfc3339(text).map(Timestamp::secs);
        assert_eq!(of("0000-01-01T00:00:00Z"), Some(-62_167_219_200));
        assert_eq!(of("9999-12-30T22:00:00Z"), Some(253_402_207_200));
        for last in ["9999-12-30T23:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999-12:00"] {
            assert_eq!(of(last), Some(253_402_207_200), "{last}");
        }
        for none in ["9999-12-31", "9999-12-31T23:59:59", "9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z"] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn extreme_moments_neither_panic_nor_wrap() {
        for at in [Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX), Timestamp::from_secs(i64::MAX)] {
            let _ = (at.http_date(), at.rfc3339(), at.plus(Duration::MAX), at.minus(Duration::MAX), at.day());
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_secs(10));
        assert_eq!(clock.now(), clock.now());
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), Timestamp::from_secs(15));
    }
}

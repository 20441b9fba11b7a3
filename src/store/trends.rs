//! What trends remember beside ballots: since when each server is known, what was usual for a thing in each hour of the
//! last week and on each of the last days, what the operator said about a thing, and the lists that were served last.
//!
//! What was usual are numbers about many, made when an hour or a day was over. Nobody is in them any more, so nobody can be
//! taken out of them; they are forgotten after a week and after a fortnight.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Arrivals, BallotChange, Record, Store, StoreError, Subject, Subscriber, SubscriberState, Tx, existing, frame,
    unframe,
};
use crate::clock::Timestamp;
use crate::ids::Authority;

/// (hour, what, language) → what was usual in the windows that ended with it. Language empty: all.
const HOURS: TableDefinition<'static, (u32, u64, &'static str), &[u8]> = TableDefinition::new("trend_hours");
/// (day, what, language) → how the day was.
const DAYS: TableDefinition<'static, (u32, u64, &'static str), &[u8]> = TableDefinition::new("trend_days");
const VERSION: u8 = 1;
/// The counter of servers' numbers.
const PLACES_EVER: &str = "trend_places_ever";
/// A server of which nothing was seen for so many days begins anew: a name that lapsed belongs to somebody else.
const GAP_DAYS: i64 = 14;
/// One of which nothing was seen for so many days is forgotten.
const FORGOTTEN_DAYS: i64 = 90;
const HOURS_OF_A_DAY: i64 = 24;

/// A server from which something counted. Keyed by its authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number in ballots.
    pub number: u32,
    /// Since when this relay knows it: its weight grows with that.
    pub since: Timestamp,
    /// The last day (from 1970, UTC) on which something came from it.
    pub seen_on: i64,
}

impl Place {
    /// Whether nothing was seen of it for so long that it begins anew.
    #[must_use]
    pub const fn is_lapsed(&self, now: Timestamp) -> bool {
        now.day().saturating_sub(self.seen_on) > GAP_DAYS
    }
}

impl Record for Place {
    const TABLE: &'static str = "trend_places";
}

/// What the operator said about something that may trend. Keyed by its subject and key, as in `tag:cats`; `site:` and a
/// domain is about all links to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendRuling {
    /// It is not shown; else it is, although a rule or a review would keep it back.
    pub hidden: bool,
    /// Why, for whoever asks.
    pub reason: String,
    /// When it was said.
    pub at: Timestamp,
    /// Until when it holds; `None`: until it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl TrendRuling {
    /// Whether it holds still.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Record for TrendRuling {
    const TABLE: &'static str = "trend_rulings";
}

/// How far hours are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendClosed {
    /// The last hour that was closed.
    pub hour: u32,
    /// The hour since which anything is counted here; 0: for long.
    #[serde(default)]
    pub since: u32,
}

impl TrendClosed {
    /// The one row.
    pub const ROW: &'static str = "last";
}

impl Record for TrendClosed {
    const TABLE: &'static str = "trend_closed";
}

/// The list that was served last, so that it can be compared with one that is made from the journal again. Keyed by subject,
/// window and language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendServed {
    /// As of when.
    pub at: Timestamp,
    /// The newest change of the journal that was counted.
    pub newest: u64,
    /// The list as JSON, byte for byte.
    pub list: String,
    /// What it was made under beside the journal.
    #[serde(default)]
    pub conditions: Conditions,
}

/// What a list is made under beside the journal, as digests: equal ones make the same of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// What the operator said of things.
    pub rulings: String,
    /// Whom rules keep out.
    pub rules: String,
    /// The configuration, as far as it matters.
    pub config: String,
    /// How many things had been forgotten for lack of room.
    pub evicted: u64,
}

impl Conditions {
    /// What is otherwise there, in words.
    #[must_use]
    pub fn changes(&self, there: &Self) -> Vec<&'static str> {
        [
            ("rulings", self.rulings != there.rulings),
            ("rules", self.rules != there.rules),
            ("config", self.config != there.config),
            // What was forgotten here may be known there, and the other way round.
            ("evictions", self.evicted > 0 || there.evicted > 0),
        ]
        .into_iter()
        .filter_map(|(word, is_so)| is_so.then_some(word))
        .collect()
    }
}

impl Record for TrendServed {
    const TABLE: &'static str = "trend_served";
}

/// What was usual for one thing: windows of an hour, of six and of a day that ended together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsualHour {
    /// One for each.
    pub windows: [Usual; 3],
}

/// People, servers, and the reach in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Usual {
    /// People.
    pub people: u32,
    /// Servers.
    pub servers: u32,
    /// Reach.
    pub reach: u64,
}

/// One day (UTC) of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsualDay {
    /// People, servers, reach.
    pub usual: Usual,
    /// Spread in millionths.
    pub spread: u64,
    /// Posts.
    pub uses: u32,
}

impl Usual {
    const BYTES: usize = 16;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.people.to_be_bytes());
        bytes.extend_from_slice(&self.servers.to_be_bytes());
        bytes.extend_from_slice(&self.reach.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (people, rest) = bytes.split_first_chunk()?;
        let (servers, rest) = rest.split_first_chunk()?;
        let (people, servers) = (u32::from_be_bytes(*people), u32::from_be_bytes(*servers));
        Some(Self { people, servers, reach: u64::from_be_bytes(*rest.first_chunk()?) })
    }
}

impl UsualHour {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.windows.iter().for_each(|window| window.write(&mut bytes));
        frame(VERSION, &bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, payload) = unframe("trend_hours", bytes).ok()?;
        let mut windows = payload.chunks_exact(Usual::BYTES).filter(|_| version == VERSION).map(Usual::read);
        Some(Self { windows: [windows.next()??, windows.next()??, windows.next()??] })
    }
}

impl UsualDay {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.usual.write(&mut bytes);
        bytes.extend_from_slice(&self.spread.to_be_bytes());
        bytes.extend_from_slice(&self.uses.to_be_bytes());
        frame(VERSION, &bytes)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, payload) = unframe("trend_days", bytes).ok()?;
        let (usual, rest) = payload.split_at_checked(Usual::BYTES).filter(|_| version == VERSION)?;
        let (spread, rest) = rest.split_first_chunk()?;
        let uses = u32::from_be_bytes(*rest.first_chunk()?);
        Some(Self { usual: Usual::read(usual)?, spread: u64::from_be_bytes(*spread), uses })
    }
}

type Kept = redb::ReadOnlyTable<(u32, u64, &'static str), &'static [u8]>;

/// What was usual, as of one moment. What cannot be read was nothing.
pub struct UsualView {
    hours: Option<Kept>,
    days: Option<Kept>,
}

impl UsualView {
    /// In the windows that ended with this hour.
    ///
    /// # Errors
    /// The engine's.
    pub fn hour(&self, hour: u32, target: u64, language: &str) -> Result<UsualHour, StoreError> {
        let Some(hours) = &self.hours else { return Ok(UsualHour::default()) };
        let row = hours.get((hour, target, language))?;
        Ok(row.and_then(|row| UsualHour::decode(row.value())).unwrap_or_default())
    }

    /// On this day.
    ///
    /// # Errors
    /// The engine's.
    pub fn day(&self, day: u32, target: u64, language: &str) -> Result<UsualDay, StoreError> {
        let Some(days) = &self.days else { return Ok(UsualDay::default()) };
        let row = days.get((day, target, language))?;
        Ok(row.and_then(|row| UsualDay::decode(row.value())).unwrap_or_default())
    }
}

impl Store {
    /// What was usual, as of the last commit.
    ///
    /// # Errors
    /// The engine's.
    pub fn usual(&self) -> Result<UsualView, StoreError> {
        let read = self.engine().begin_read()?;
        Ok(UsualView { hours: existing(read.open_table(HOURS))?, days: existing(read.open_table(DAYS))? })
    }
}

impl Store {
    /// The numbers of a server and of those below its name.
    ///
    /// # Errors
    /// The engine's.
    pub fn places_within(&self, domain: &Authority) -> Result<Vec<u32>, StoreError> {
        let (mut from, mut found) = (String::new(), Vec::new());
        loop {
            let page = self.sound_page::<Place>(&from, 1000)?;
            let Some(next) = page.next else { return Ok(found) };
            from = next;
            let theirs = page.rows.into_iter().filter(|(name, _)| {
                let name = Authority::try_from(name.clone());
                name.is_ok_and(|name| name == *domain || name.is_within(domain.as_str()))
            });
            found.extend(theirs.map(|(_, place)| place.number));
        }
    }
}

impl Tx<'_> {
    /// The number of a server in ballots. It is known since something of it first counted, and anew if nothing of it did for
    /// a fortnight.
    ///
    /// # Errors
    /// The engine's.
    pub fn place(&mut self, server: &Authority) -> Result<Place, StoreError> {
        let now = self.store.0.clock.now();
        let known = self.sound(self.get::<Place>(server.as_str()))?;
        if let Some(place) = known {
            if place.seen_on >= now.day() {
                return Ok(place);
            }
            let since = if place.is_lapsed(now) { now } else { place.since };
            let place = Place { seen_on: now.day(), since, ..place };
            self.put_place(server, &place)?;
            return Ok(place);
        }
        let since = if self.trends_are_new(now)? { self.known_before(server, now)? } else { now };
        let number = u32::try_from(self.next_number(PLACES_EVER)?)
            .map_err(|_many| StoreError::Declined("there are no numbers left for servers".to_owned()))?;
        let place = Place { number, since, seen_on: now.day() };
        self.put_place(server, &place)?;
        Ok(place)
    }

    fn put_place(&mut self, server: &Authority, place: &Place) -> Result<(), StoreError> {
        self.put(server.as_str(), place)?;
        self.tell(BallotChange::Met(server.clone(), place.clone()))
    }

    /// Whether trends were switched on lately.
    fn trends_are_new(&self, now: Timestamp) -> Result<bool, StoreError> {
        let closed = self.sound(self.get::<TrendClosed>(TrendClosed::ROW))?;
        Ok(closed.is_none_or(|closed| now.hour() < i64::from(closed.since) + GAP_DAYS * HOURS_OF_A_DAY))
    }

    /// Since when the relay itself knows a server: for those that speak when trends are switched on. Later nobody gets older
    /// by waiting in silence.
    fn known_before(&self, server: &Authority, now: Timestamp) -> Result<Timestamp, StoreError> {
        let joined = self.sound(self.get::<Subscriber>(server.as_str()))?;
        let joined = joined.filter(|one| one.state == SubscriberState::Active).map(|one| one.joined_at);
        let arrived = self.sound(self.get::<Arrivals>(server.as_str()))?.map(|one| one.since);
        Ok(arrived.or(joined).unwrap_or(now).min(now))
    }

    /// Forgets at most `count` servers of which nothing was seen for long; whether there may be more.
    ///
    /// # Errors
    /// The engine's.
    pub fn forget_places(&mut self, count: usize) -> Result<bool, StoreError> {
        let before = self.store.0.clock.now().day() - FORGOTTEN_DAYS;
        let mut old = Vec::new();
        for row in self.engine().open_table(super::table::<Place>())?.iter()? {
            let (name, place) = row?;
            let place = super::codec::decode::<Place>(place.value()).ok();
            old.extend(place.filter(|one| one.seen_on < before).map(|one| (name.value().to_owned(), one.number)));
            if old.len() == count {
                break;
            }
        }
        old.iter().try_for_each(|(name, _)| self.remove::<Place>(name).map(drop))?;
        if !old.is_empty() {
            self.tell(BallotChange::Forgotten(old.iter().map(|(_, number)| *number).collect()))?;
        }
        Ok(old.len() == count)
    }

    /// Takes over since when a server is known elsewhere; it gets a number of its own here.
    pub(super) fn import_place(&mut self, server: &Authority, place: &Place) -> Result<(), StoreError> {
        let here = self.place(server)?;
        let since = here.since.min(place.since);
        self.put_place(server, &Place { since, ..here })
    }

    /// Writes down what was usual for some things in the windows that ended with this hour.
    ///
    /// # Errors
    /// The engine's.
    pub fn put_usual_hours(&mut self, hour: u32, rows: &[(u64, String, UsualHour)]) -> Result<(), StoreError> {
        rows.iter().try_for_each(|(target, language, usual)| {
            self.insert(HOURS, (hour, *target, language.as_str()), usual.encode().as_slice())
        })
    }

    /// The same of a day.
    ///
    /// # Errors
    /// The engine's.
    pub fn put_usual_days(&mut self, day: u32, rows: &[(u64, String, UsualDay)]) -> Result<(), StoreError> {
        rows.iter().try_for_each(|(target, language, usual)| {
            self.insert(DAYS, (day, *target, language.as_str()), usual.encode().as_slice())
        })
    }

    /// Forgets at most `count` rows of hours before `hour` and of days before `day`; whether there may be more.
    ///
    /// # Errors
    /// The engine's.
    pub fn expire_usual(&mut self, hour: u32, day: u32, count: usize) -> Result<bool, StoreError> {
        let mut more = false;
        for (table, before) in [(HOURS, hour), (DAYS, day)] {
            let old: Vec<(u32, u64, String)> = {
                let open = self.engine().open_table(table)?;
                let rows = open.range(..(before, 0, ""))?.take(count);
                rows.map(|row| {
                    row.map(|(key, _)| {
                        let (when, target, language) = key.value();
                        (when, target, language.to_owned())
                    })
                })
                .collect::<Result<_, _>>()?
            };
            more |= old.len() == count;
            for (when, target, language) in &old {
                self.delete(table, (*when, *target, language.as_str()))?;
            }
        }
        Ok(more)
    }
}

/// The row that something is ruled, or served, under.
#[must_use]
pub fn ruling_key(subject: Subject, key: &str) -> String {
    format!("{}:{key}", subject.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::store::testing;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    fn usual(people: u32) -> Usual {
        Usual { people, servers: 2, reach: 3_000_000 }
    }

    #[test]
    fn what_was_usual_keeps_its_golden_bytes() {
        let hour = UsualHour { windows: [usual(1), usual(2), usual(3)] };
        assert_eq!(UsualHour::decode(&testing::golden("trend_hours", &hour.encode())), Some(hour));
        let day = UsualDay { usual: usual(4), spread: 5, uses: 6 };
        assert_eq!(UsualDay::decode(&testing::golden("trend_days", &day.encode())), Some(day));
        for bytes in [&[][..], &[1], &hour.encode()[..20], &frame(2, &[0; 48]), &frame(1, &[0; 15])] {
            assert_eq!((UsualHour::decode(bytes), UsualDay::decode(bytes)), (None, None));
        }
    }

    #[tokio::test]
    async fn what_was_usual_is_found_by_its_hour_and_forgotten_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let hour = UsualHour { windows: [usual(1), usual(2), usual(3)] };
        let day = UsualDay { usual: usual(4), spread: 5, uses: 6 };
        let put = move |tx: &mut Tx<'_>| {
            tx.put_usual_hours(100, &[(7, String::new(), hour), (7, "en".to_owned(), hour)])?;
            tx.put_usual_days(4, &[(7, String::new(), day)])
        };
        store.write(put).await.unwrap();
        let view = store.usual().unwrap();
        assert_eq!((view.hour(100, 7, "en").unwrap(), view.day(4, 7, "").unwrap()), (hour, day));
        assert_eq!(view.hour(100, 7, "de").unwrap(), UsualHour::default());
        assert!(!store.write(|tx| tx.expire_usual(100, 4, 10)).await.unwrap());
        assert_eq!(store.usual().unwrap().hour(100, 7, "en").unwrap(), hour);
        store.write(|tx| tx.expire_usual(101, 5, 10)).await.unwrap();
        let view = store.usual().unwrap();
        assert_eq!((view.hour(100, 7, "en").unwrap(), view.day(4, 7, "").unwrap()), Default::default());
    }

    #[tokio::test]
    async fn a_name_that_lapsed_or_waited_in_silence_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOON);
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let since = u32::try_from(NOON.hour()).unwrap();
        store.write(move |tx| tx.put(TrendClosed::ROW, &TrendClosed { hour: since, since })).await.unwrap();
        let name = |name: &str| Authority::parse(name).unwrap();
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let place = async |host: &str| {
            let host = name(host);
            store.write(move |tx| tx.place(&host)).await.unwrap()
        };
        place("steady.example").await;
        for _fortnight in 0..2 {
            clock.advance(days(14));
            assert_eq!(place("steady.example").await.since, NOON, "it was heard of each fortnight");
        }
        // Its first word came a month ago, and counted for nothing.
        let waited = name("waited.example");
        store.write(move |tx| tx.put(waited.as_str(), &Arrivals::new(NOON))).await.unwrap();
        let now = NOON.plus(days(28));
        assert_eq!(place("waited.example").await.since, now);
        clock.advance(days(15));
        assert_eq!(
            place("steady.example").await,
            Place { number: 1, since: now.plus(days(15)), seen_on: now.day() + 15 }
        );
        clock.advance(days(91));
        let _told = store.follow_ballots();
        assert!(!store.write(|tx| tx.forget_places(10)).await.unwrap());
        assert!(store.all::<Place>().unwrap().is_empty());
        let told = store.ballot_changes().unwrap();
        assert!(matches!(&told[..], [(_, BallotChange::Forgotten(gone))] if gone.len() == 2), "{told:?}");
    }

    #[tokio::test]
    async fn a_server_is_known_since_the_relay_first_heard_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOON);
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let (old, new) = (Authority::parse("old.example").unwrap(), Authority::parse("new.example").unwrap());
        let first_post = NOON.minus(Duration::from_secs(40 * 86_400));
        let name = old.clone();
        store.write(move |tx| tx.put(name.as_str(), &Arrivals::new(first_post))).await.unwrap();
        let place = async |server: &Authority| {
            let server = server.clone();
            store.write(move |tx| tx.place(&server)).await.unwrap()
        };
        assert_eq!(place(&old).await, Place { number: 1, since: first_post, seen_on: NOON.day() });
        assert_eq!(place(&new).await, Place { number: 2, since: NOON, seen_on: NOON.day() });
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(place(&new).await, Place { number: 2, since: NOON, seen_on: NOON.day() + 1 });
    }

    #[test]
    fn records_of_the_trends_keep_their_golden_bytes() {
        fn check<R: Record + PartialEq + std::fmt::Debug>(record: &R) {
            let kept = testing::golden(R::TABLE, &crate::store::encode(record).unwrap());
            assert_eq!(crate::store::decode::<R>(&kept).unwrap(), *record);
        }
        check(&Place { number: 1, since: NOON, seen_on: 20_688 });
        check(&TrendRuling { hidden: true, reason: "harassment".to_owned(), at: NOON, until: Some(NOON) });
        check(&TrendClosed { hour: 496_524, since: 496_000 });
        let conditions =
            Conditions { rulings: "0a".to_owned(), rules: "0b".to_owned(), config: "0c".to_owned(), evicted: 1 };
        check(&TrendServed { at: NOON, newest: 7, list: "[]".to_owned(), conditions });
        check(&crate::store::BallotKey { key: "00".repeat(32) });
    }
}

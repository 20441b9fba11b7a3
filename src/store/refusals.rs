//! What was refused and why, for the operator to look at: kept a week, bounded in number, without bodies. Strangers cause
//! these rows, so they are gathered in memory and written at most a hundred at a time, one per sender and reason each
//! minute.
//!
//! **Who finds room.** Anybody may name any server in a request that is refused. So one registrable domain has a share, one
//! network may name so many servers in a minute, and where there is no more room those go first that no signature vouches
//! for and that were never heard of; then those of servers that are here or knocked; then what was really signed. That rows
//! went for want of room is a row itself ([`NOT_KEPT`]), so that nobody is told that there were none.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Knock, Record, Store, StoreError};
use crate::clock::Timestamp;
use crate::ids::Authority;

/// Rows that wait to be written; more are only counted.
const WAITING: usize = 4000;
const PER_WRITE: usize = 100;
/// How often rows that are too old are looked for where nothing else is to be done.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Rows of servers of one registrable domain, kept and waiting. Where there are so many, there may have been more.
pub const MOST_OF_DOMAIN: usize = 100;
/// Rows that name no server.
const MOST_NAMELESS: usize = 1000;
/// Servers that requests from one network (of IPv6, its /64) may name in a minute without proof. The names of more are not
/// kept: no server speaks for so many, and of a hoster's many few are refused at once.
const NAMES_OF_NETWORK: usize = 20;
/// Networks of which that is counted.
const NETWORKS: usize = 2000;
/// The `check` of a row that says how many refusals of an hour were not kept for want of room.
pub const NOT_KEPT: &str = "not-kept";

/// One refusal, or several alike within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When first.
    pub at: Timestamp,
    /// Whom the request named: the server of its key, or of its actor. Only where it is `signed` is it proved that it was
    /// them.
    pub claimed: Option<String>,
    /// The failed check: `digest`, `date`, `blocked`; or [`NOT_KEPT`].
    pub check: String,
    /// The HTTP status that was answered; 0 in a row that is [`NOT_KEPT`].
    pub status: u16,
    /// One sentence: what failed.
    pub detail: String,
    /// How many alike.
    pub count: u32,
    /// Whether the signature held: what was refused came after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed: bool,
}

impl Record for Refusal {
    const TABLE: &'static str = "refusals";
}

/// How much there is to say for a row. The least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Worth {
    /// Somebody named somebody.
    Claimed,
    /// It names a server that is here, or that knocked.
    Familiar,
    /// It was signed.
    Signed,
    /// It says what was not kept.
    Count,
}

/// Where a request came from, as far as it matters for what is kept of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin {
    /// The network of the sender, where one can be told.
    pub network: Option<IpAddr>,
    /// The server that it names is here.
    pub is_here: bool,
}

/// Where refusals are noted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Parts>);

#[derive(Default)]
struct Parts {
    waiting: Mutex<Waiting>,
    /// What is on disk, in the order in which it goes. Read when it is first needed.
    kept: tokio::sync::Mutex<Option<Kept>>,
}

type Key = (i64, Option<String>, String, bool);

#[derive(Default)]
struct Waiting {
    rows: HashMap<Key, (Worth, Refusal)>,
    of_domain: HashMap<String, usize>,
    /// The minute that names are counted in, and by whom which were named.
    minute: i64,
    names: HashMap<IpAddr, HashSet<String>>,
    lost: u32,
    /// The `oldest` of the last sweep; it moves with the clock.
    swept: Option<Timestamp>,
}

impl Waiting {
    /// Whether there is nothing to write, and the last sweep is less than a minute ago.
    fn is_idle(&self, oldest: Timestamp) -> bool {
        let next = self.swept.map(|swept| (swept, swept.plus(SWEEP_EVERY)));
        self.rows.is_empty() && self.lost == 0 && next.is_some_and(|(swept, next)| swept <= oldest && oldest < next)
    }

    /// Whether requests from there named so many others in this minute that nothing is believed of them.
    fn names_too_many(&mut self, minute: i64, network: IpAddr, claimed: &str) -> bool {
        if self.minute != minute {
            (self.minute, self.names) = (minute, HashMap::new());
        }
        if self.names.len() >= NETWORKS && !self.names.contains_key(&network) {
            return false;
        }
        let names = self.names.entry(network).or_default();
        if names.contains(claimed) {
            return false;
        }
        let too_many = names.len() >= NAMES_OF_NETWORK;
        if !too_many {
            names.insert(claimed.to_owned());
        }
        too_many
    }

    /// Whether there is a place for a row of this domain, which something of less worth may have to give up.
    fn finds_room(&mut self, domain: &str, worth: Worth) -> bool {
        let full = self.rows.len() >= WAITING;
        let crowded = self.of_domain.get(domain).is_some_and(|count| *count >= share(domain));
        if !full && !crowded {
            return true;
        }
        let is_of_it = |row: &Refusal| !crowded || domain_of(row) == domain;
        let less = self.rows.iter().find(|(_, (has, row))| *has < worth && is_of_it(row)).map(|(key, _)| key.clone());
        if !crowded {
            self.lost = self.lost.saturating_add(1);
        }
        less.is_some_and(|key| self.take(&key).is_some())
    }

    fn take(&mut self, key: &Key) -> Option<Refusal> {
        let (_, row) = self.rows.remove(key)?;
        if let Some(count) = self.of_domain.get_mut(domain_of(&row)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_domain.remove(domain_of(&row));
            }
        }
        Some(row)
    }

    /// What is written next: of what there is most to say for, the oldest.
    fn next(&mut self) -> Vec<Refusal> {
        let mut keys: Vec<_> =
            self.rows.iter().map(|(key, (worth, row))| ((std::cmp::Reverse(*worth), row.at), key.clone())).collect();
        keys.sort_unstable();
        keys.into_iter().take(PER_WRITE).filter_map(|(_, key)| self.take(&key)).collect()
    }
}

/// The registrable domain of the server that a row names; empty if it names none.
fn domain_of(row: &Refusal) -> &str {
    row.claimed.as_deref().map_or("", registrable)
}

/// As [`Authority::registrable`], of a name as rows have it.
fn registrable(name: &str) -> &str {
    let parsed = Authority::parse(name).ok();
    let domain = parsed.as_ref().map_or(name, Authority::registrable);
    // It is the end of the name, but for a port: so it can be borrowed from there.
    name.find(domain).and_then(|start| name.get(start..start + domain.len())).unwrap_or(name)
}

fn share(domain: &str) -> usize {
    if domain.is_empty() { MOST_NAMELESS } else { MOST_OF_DOMAIN }
}

/// What is on disk.
#[derive(Default)]
struct Kept {
    rows: BTreeMap<String, (Worth, String)>,
    by_worth: BTreeSet<(Worth, String)>,
    of_domain: HashMap<String, BTreeSet<(Worth, String)>>,
}

impl Kept {
    fn read(store: &Store) -> Result<Self, StoreError> {
        let mut kept = Self::default();
        let page = store.sound_page::<Refusal>("", usize::MAX)?;
        for (key, row) in page.rows {
            let (worth, domain) = (worth_of(store, &row), domain_of(&row).to_owned());
            kept.insert(key, worth, domain);
        }
        // What cannot be read goes first.
        page.damaged.into_iter().for_each(|key| kept.insert(key, Worth::Claimed, String::new()));
        Ok(kept)
    }

    fn insert(&mut self, key: String, worth: Worth, domain: String) {
        self.by_worth.insert((worth, key.clone()));
        if worth != Worth::Count {
            self.of_domain.entry(domain.clone()).or_default().insert((worth, key.clone()));
        }
        self.rows.insert(key, (worth, domain));
    }

    /// How many there are, without those that only count.
    fn held(&self) -> usize {
        let counts = self.by_worth.range((Worth::Count, String::new())..).count();
        self.rows.len() - counts
    }

    fn remove(&mut self, key: &str) {
        let Some((worth, domain)) = self.rows.remove(key) else { return };
        let row = (worth, key.to_owned());
        self.by_worth.remove(&row);
        if let Some(of_domain) = self.of_domain.get_mut(&domain) {
            of_domain.remove(&row);
            if of_domain.is_empty() {
                self.of_domain.remove(&domain);
            }
        }
    }

    /// Makes room for a row: the keys of those that go for it, and whether it is kept. `lost` counts what no share of a
    /// domain explains.
    fn take_in(&mut self, key: &str, worth: Worth, domain: &str, most: usize, lost: &mut u32) -> (Vec<String>, bool) {
        let (mut gone, new) = (Vec::new(), (worth, key.to_owned()));
        let of_domain = self.of_domain.get(domain);
        if let Some(least) = of_domain.filter(|rows| rows.len() >= share(domain)).and_then(BTreeSet::first).cloned() {
            if new < least {
                return (gone, false);
            }
            self.remove(&least.1);
            gone.push(least.1);
        }
        if self.held() >= most {
            *lost = lost.saturating_add(1);
            match self.by_worth.first().cloned() {
                Some(least) if least < new => {
                    self.remove(&least.1);
                    gone.push(least.1);
                }
                _ => return (gone, false),
            }
        }
        self.insert(new.1, worth, domain.to_owned());
        (gone, true)
    }

    /// What is older than `oldest`, and what is beyond `most`: out of here, and its keys.
    fn tidy(&mut self, oldest: &str, most: usize, lost: &mut u32) -> Vec<String> {
        let mut gone: Vec<String> = self.rows.range(..oldest.to_owned()).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.remove(key));
        while self.held() > most {
            let Some((_, key)) = self.by_worth.first().cloned() else { break };
            *lost = lost.saturating_add(1);
            self.remove(&key);
            gone.push(key);
        }
        gone
    }
}

fn worth_of(store: &Store, row: &Refusal) -> Worth {
    let is_familiar = |name: &str| {
        Authority::parse(name).is_ok_and(|server| {
            store.subscriber(&server).is_some()
                || store.search_servers().contains_key(&server)
                || store.get::<Knock>(server.as_str()).is_ok_and(|knock| knock.is_some())
        })
    };
    match &row.claimed {
        _ if row.check == NOT_KEPT => Worth::Count,
        _ if row.signed => Worth::Signed,
        Some(name) if is_familiar(name) => Worth::Familiar,
        _ => Worth::Claimed,
    }
}

impl Refusals {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one. Never waits; beyond what is kept in memory it is only counted.
    pub fn note(&self, mut refusal: Refusal, from: Origin) {
        let mut waiting = self.waiting();
        let minute = refusal.at.secs() / 60;
        if let (Some(network), Some(claimed), false) = (from.network, &refusal.claimed, refusal.signed)
            && waiting.names_too_many(minute, network, claimed)
        {
            refusal.claimed = None;
            waiting.lost = waiting.lost.saturating_add(1);
        }
        let worth = match (refusal.signed, from.is_here && refusal.claimed.is_some()) {
            (true, _) => Worth::Signed,
            (false, true) => Worth::Familiar,
            (false, false) => Worth::Claimed,
        };
        let key = (minute, refusal.claimed.clone(), refusal.check.clone(), refusal.signed);
        if let Some((_, known)) = waiting.rows.get_mut(&key) {
            known.count = known.count.saturating_add(1);
            return;
        }
        let domain = domain_of(&refusal).to_owned();
        if waiting.finds_room(&domain, worth) {
            *waiting.of_domain.entry(domain).or_default() += 1;
            waiting.rows.insert(key, (worth, refusal));
        }
    }

    /// Writes what waits, and drops what is older than `oldest` or beyond `most`; how many rows were written. Cheap where
    /// nothing waits: then it looks for old rows once a minute only.
    ///
    /// # Errors
    /// The store's; what was not written is lost, and that is all right here.
    pub async fn save(&self, store: &Store, oldest: Timestamp, most: usize) -> Result<usize, StoreError> {
        let (rows, mut lost) = {
            let mut waiting = self.waiting();
            if waiting.is_idle(oldest) {
                return Ok(0);
            }
            waiting.swept = Some(oldest);
            (waiting.next(), std::mem::take(&mut waiting.lost))
        };
        let mut known = self.0.kept.lock().await;
        // Put back when all of it is on disk: else it is read again.
        let mut kept = match known.take() {
            Some(kept) => kept,
            None => Kept::read(store)?,
        };
        let mut dropped = kept.tidy(&key_of(oldest, 0), most, &mut lost);
        let numbered = rows.len() as u64;
        let write = move |tx: &mut super::Tx<'_>| {
            let first = tx.number("refusals")?.saturating_add(1);
            tx.set_number("refusals", first.saturating_add(numbered))?;
            let mut count = 0;
            for (row, number) in rows.into_iter().zip(first..) {
                let (key, worth) = (key_of(row.at, number), worth_of(tx.store, &row));
                let (gone, is_kept) = kept.take_in(&key, worth, domain_of(&row), most, &mut lost);
                dropped.extend(gone);
                if is_kept {
                    tx.put(&key, &row)?;
                    count += 1;
                }
            }
            for key in &dropped {
                tx.remove::<Refusal>(key)?;
            }
            if lost > 0 {
                let key = tx.note_lost(lost)?;
                kept.insert(key, Worth::Count, String::new());
            }
            Ok((count, kept))
        };
        let (count, kept) = store.write(write).await?;
        *known = Some(kept);
        Ok(count)
    }
}

impl super::Tx<'_> {
    /// Counts what was not kept in this hour: in a row, which is shown with the others.
    fn note_lost(&mut self, lost: u32) -> Result<String, StoreError> {
        let hour = Timestamp::from_secs(self.store.0.clock.now().secs() / 3600 * 3600);
        let key = key_of(hour, 0);
        let known = self.get::<Refusal>(&key)?.map_or(0, |row| row.count);
        let row = Refusal {
            at: hour,
            claimed: None,
            check: NOT_KEPT.to_owned(),
            status: 0,
            detail: "so much was refused that not all of it was kept".to_owned(),
            count: known.saturating_add(lost),
            signed: false,
        };
        self.put(&key, &row)?;
        Ok(key)
    }
}

fn key_of(at: Timestamp, number: u64) -> String {
    format!("{:015}-{number:012}", at.millis().max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::testing;

    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const SOMEWHERE: Origin = Origin { network: None, is_here: false };

    fn refusal(at: Timestamp, claimed: &str) -> Refusal {
        Refusal {
            at,
            claimed: Some(claimed.to_owned()),
            check: "digest".to_owned(),
            status: 401,
            detail: "the digest does not match the body".to_owned(),
            count: 1,
            signed: false,
        }
    }

    async fn save_all(refusals: &Refusals, store: &Store, most: usize) -> usize {
        let mut written = 0;
        for _ in 0..=WAITING / PER_WRITE {
            written += refusals.save(store, NOON.minus(WEEK), most).await.unwrap();
        }
        written
    }

    fn names(store: &Store) -> Vec<String> {
        let rows = store.all::<Refusal>().unwrap().into_iter();
        rows.map(|(_, row)| row.claimed.unwrap_or(row.check)).collect()
    }

    #[tokio::test]
    async fn refusals_are_gathered_bounded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        let refusals = Refusals::default();
        for _ in 0..50 {
            refusals.note(refusal(NOON, "a.example"), SOMEWHERE);
        }
        for number in 0..2 * WAITING {
            refusals.note(refusal(NOON, &format!("{number}.test{number}.example")), SOMEWHERE);
        }
        assert_eq!(refusals.waiting().rows.len(), WAITING);
        assert_eq!(save_all(&refusals, &store, 120).await, WAITING);
        let kept = store.all::<Refusal>().unwrap();
        assert_eq!(kept.iter().filter(|(_, row)| row.check == "digest").count(), 120);
        assert!(kept.iter().all(|(_, row)| row.claimed.as_deref() != Some("a.example") || row.count == 50));
        refusals.save(&store, NOON.plus(Duration::from_secs(1)), 120).await.unwrap();
        assert!(store.all::<Refusal>().unwrap().is_empty());
    }

    /// Whoever names others by the thousand pushes out nobody who was really here, and that something went is not hidden.
    #[tokio::test]
    async fn strangers_fill_no_more_than_their_share_and_what_went_for_want_of_room_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Clock::manual(NOON)).unwrap();
        store.write(|tx| tx.put_subscriber(testing::subscriber("here.example"))).await.unwrap();
        let refusals = Refusals::default();
        refusals.note(Refusal { signed: true, ..refusal(NOON, "signed.example") }, SOMEWHERE);
        refusals.note(refusal(NOON, "here.example"), Origin { is_here: true, ..SOMEWHERE });
        assert_eq!(save_all(&refusals, &store, 150).await, 2);
        let later = NOON.plus(Duration::from_secs(60));
        for number in 0..1000 {
            refusals.note(refusal(later, &format!("s{number}.evil.example")), SOMEWHERE);
        }
        assert_eq!(refusals.waiting().rows.len(), MOST_OF_DOMAIN, "one domain has a share of what waits");
        save_all(&refusals, &store, 150).await;
        let later = later.plus(Duration::from_secs(60));
        for number in 0..50 {
            refusals.note(refusal(later, &format!("t{number}.evil.example")), SOMEWHERE);
        }
        save_all(&refusals, &store, 150).await;
        assert_eq!(names(&store).len(), MOST_OF_DOMAIN + 2, "and of what is kept");
        assert!(names(&store).contains(&"t49.evil.example".to_owned()), "of its own the oldest go");
        for number in 0..1000 {
            refusals.note(refusal(later, &format!("u{number}.test{number}.example")), SOMEWHERE);
        }
        save_all(&refusals, &store, 150).await;
        let left = names(&store);
        assert_eq!(left.len(), 151);
        for kept in ["signed.example", "here.example", NOT_KEPT] {
            assert!(left.iter().any(|name| name == kept), "{kept}: {left:?}");
        }
        // What was learned by reading is the same after a restart.
        let again = Refusals::default();
        for number in 0..200 {
            again.note(refusal(later, &format!("v{number}.test{number}.example")), SOMEWHERE);
        }
        save_all(&again, &store, 150).await;
        let left = names(&store);
        assert!(left.contains(&"signed.example".to_owned()) && left.contains(&"here.example".to_owned()), "{left:?}");
        let counts = store.all::<Refusal>().unwrap().into_iter().filter(|(_, row)| row.check == NOT_KEPT);
        assert_eq!(counts.map(|(_, row)| row.count).collect::<Vec<_>>().len(), 1, "one row in an hour says how many");
    }

    #[tokio::test]
    async fn one_network_names_so_many_servers_in_a_minute_and_no_more() {
        let refusals = Refusals::default();
        let from = Origin { network: Some("192.0.2.1".parse().unwrap()), is_here: false };
        for number in 0..100 {
            refusals.note(refusal(NOON, &format!("s{number}.test{number}.example")), from);
        }
        refusals.note(refusal(NOON, "honest.example"), Origin { network: Some("192.0.2.2".parse().unwrap()), ..from });
        refusals.note(Refusal { signed: true, ..refusal(NOON, "signed.example") }, from);
        let waiting = refusals.waiting();
        let named = |row: &Refusal| row.claimed.is_some();
        assert_eq!(waiting.rows.values().filter(|(_, row)| named(row)).count(), NAMES_OF_NETWORK + 2);
        assert_eq!((waiting.rows.len(), waiting.lost), (NAMES_OF_NETWORK + 3, 80));
    }

    #[tokio::test]
    async fn while_nothing_is_refused_the_table_is_looked_at_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOON);
        let store = Store::open(dir.path(), clock.clone()).unwrap();
        let refusals = Refusals::default();
        let is_there = |name: &str| names(&store).iter().any(|one| one == name);
        refusals.note(refusal(clock.now(), "a.example"), SOMEWHERE);
        assert_eq!(refusals.save(&store, clock.now().minus(WEEK), 120).await.unwrap(), 1);
        // That it may be kept no more shows whether it looks.
        clock.advance(Duration::from_secs(59));
        refusals.save(&store, clock.now().minus(WEEK), 0).await.unwrap();
        assert!(is_there("a.example"));
        clock.advance(Duration::from_secs(1));
        refusals.save(&store, clock.now().minus(WEEK), 0).await.unwrap();
        assert!(!is_there("a.example"));
        clock.advance(Duration::from_secs(2));
        refusals.note(refusal(clock.now(), "c.example"), SOMEWHERE);
        assert_eq!(refusals.save(&store, clock.now().minus(WEEK), 120).await.unwrap(), 1, "what waits never waits");
    }
}

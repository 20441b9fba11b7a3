//! Lines that [`export`](super::export()) wrote, read in: all or nothing, and nothing of what was cut short or changed. What commands
//! check before they write, is checked here as well.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, Read as _};

use anyhow::Context as _;
use serde_json::Value;

use super::codec::carry_forward;
use super::export::{DELETED, END, Ended, Exported, Line, RELAY};
use super::{
    AuthorityFacts, Edited, Following, HeldPost, Hold, ListFeed, MAX_FEEDS, MAX_PUBLISHERS, MAX_REASON, Place,
    Publisher, Record, Refused, Rule, SearchKey, SearchServer, Source, Store, StoreError, Subscriber, Suppressed,
    SwitchedOff, TrendRuling, Tx,
};
use crate::ids::{Authority, Seq};

/// Bytes of a line that is read: the longest is that of a held post, whose body may become twice as long in it.
const MAX_LINE: u64 = 8 << 20;

type Put = Box<dyn FnOnce(&mut Tx<'_>) -> Result<(), StoreError> + Send>;

/// The place that the log's next entry gets. The log stands above the store, so whoever imports brings it: `Log::next_in`.
pub type NextPlace = fn(&Tx<'_>) -> Result<Seq, StoreError>;

/// Reads what [`export`](super::export()) wrote into `store`, from this release or an older one, all or nothing. Records that are there
/// already are overwritten; to who said no is added, and nothing taken away. Then what is held of these people goes. A
/// subscriber starts at the end of this log: the place it had was one in another. What another relay deleted is passed over.
///
/// # Errors
/// The number of the first line that does not fit, and why, or that they were cut short; nothing is written then.
pub async fn import(store: &Store, input: &mut impl BufRead, next: NextPlace) -> anyhow::Result<Exported> {
    let Found { done, puts, edited } = read_lines(store, input, next)?;
    store.write(move |tx| puts.into_iter().try_for_each(|put| put(tx))).await?;
    if done.refused + done.deleted > 0 {
        store.write(move |tx| tx.heed_what_was_said(&edited)).await?;
    }
    Ok(done)
}

/// What [`import`] would do. Nothing is written.
///
/// # Errors
/// As there.
pub fn foresee(store: &Store, input: &mut impl BufRead, next: NextPlace) -> anyhow::Result<Exported> {
    Ok(read_lines(store, input, next)?.done)
}

/// What lines say.
struct Found {
    done: Exported,
    puts: Vec<Put>,
    edited: HashMap<String, Seq>,
}

/// The next line, without its end; whether there was one. One that is too long is no line of ours.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> anyhow::Result<bool> {
    line.clear();
    (&mut *input).take(MAX_LINE).read_until(b'\n', line)?;
    if line.is_empty() {
        return Ok(false);
    }
    anyhow::ensure!(line.pop() == Some(b'\n'), "the line is cut short, or too long");
    Ok(true)
}

fn read_lines(store: &Store, input: &mut impl BufRead, next: NextPlace) -> anyhow::Result<Found> {
    let mut done = Exported::default();
    let mut puts: Vec<Put> = Vec::new();
    let (mut is_ours, mut edited) = (false, HashMap::new());
    let mut feeds: BTreeSet<String> = store.keys::<ListFeed>()?.into_iter().collect();
    let mut publishers: BTreeSet<String> = store.keys::<Publisher>()?.into_iter().collect();
    let (mut text, mut number, mut ended) = (Vec::new(), 0, false);
    while next_line(input, &mut text).with_context(|| format!("line {}", number + 1))? {
        number += 1;
        anyhow::ensure!(!ended, "line {number}: it stands behind the last line");
        let line: Line = serde_json::from_slice(&text).with_context(|| format!("line {number}"))?;
        anyhow::ensure!(number > 1 || line.kind == RELAY, "line 1: these lines do not begin as an export does");
        let Line { key, record, .. } = line;
        match line.kind.as_str() {
            Subscriber::TABLE => {
                let mut subscriber: Subscriber = read(line.version, record, number)?;
                done.subscribers += 1;
                done.overwritten += usize::from(store.has::<Subscriber>(subscriber.authority.as_str())?);
                puts.push(Box::new(move |tx| {
                    subscriber.slot = tx.new_slot()?;
                    subscriber.start = next(tx)?;
                    tx.put_subscriber(subscriber)
                }));
            }
            AuthorityFacts::TABLE => {
                let facts: AuthorityFacts = read(line.version, record, number)?;
                host(&key, number)?;
                done.authorities += 1;
                done.overwritten += usize::from(store.has::<AuthorityFacts>(&key)?);
                puts.push(Box::new(move |tx| tx.put(&key, &facts)));
            }
            Following::TABLE => {
                let following: Following = read(line.version, record, number)?;
                anyhow::ensure!(following.actor.as_str() == key, "line {number}: {key:?} is not whom it is about");
                done.following += 1;
                done.overwritten += usize::from(store.has::<Following>(&key)?);
                puts.push(Box::new(move |tx| tx.put(&key, &following)));
            }
            Publisher::TABLE => {
                let mut publisher: Publisher = read(line.version, record, number)?;
                host(&key, number)?;
                publisher.reason = publisher.reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
                done.publishers += 1;
                done.overwritten += usize::from(!publishers.insert(key.clone()));
                puts.push(Box::new(move |tx| tx.put(&key, &publisher)));
            }
            Hold::TABLE => {
                let hold: Hold = read(line.version, record, number)?;
                host(&key, number)?;
                done.holds += 1;
                done.overwritten += usize::from(store.has::<Hold>(&key)?);
                puts.push(Box::new(move |tx| tx.put(&key, &hold)));
            }
            HeldPost::TABLE => {
                let post: HeldPost = read(line.version, record, number)?;
                done.held += 1;
                puts.push(Box::new(move |tx| tx.hold(post)));
            }
            Rule::TABLE => {
                let rule: Rule = read(line.version, record, number)?;
                rule.check().with_context(|| format!("line {number}"))?;
                anyhow::ensure!(
                    rule.source != Source::Config,
                    "line {number}: rules of the configuration stand there, and no command takes out one that stands here"
                );
                done.rules += 1;
                done.overwritten += usize::from(store.has::<Rule>(&rule.key())?);
                puts.push(Box::new(move |tx| tx.put(&rule.key(), &rule)));
            }
            ListFeed::TABLE => {
                let feed: ListFeed = read(line.version, record, number)?;
                let known = Source::list(&key).with_context(|| format!("line {number}"))?;
                anyhow::ensure!(known.is_list(), "line {number}: {key:?} is no name of a list");
                done.lists += 1;
                done.overwritten += usize::from(!feeds.insert(key.clone()));
                // What it said is not here: it is fetched again.
                let feed = ListFeed { etag: None, asked_at: None, fetched: None, ..feed };
                puts.push(Box::new(move |tx| tx.put(&key, &feed)));
            }
            SearchServer::TABLE => {
                let server: SearchServer = read(line.version, record, number)?;
                let host = Authority::parse(&key).with_context(|| format!("line {number}"))?;
                done.search_servers += 1;
                puts.push(Box::new(move |tx| tx.import_search(&host, server)));
            }
            SwitchedOff::TABLE => {
                let off: SwitchedOff = read(line.version, record, number)?;
                let host = Authority::parse(&key).with_context(|| format!("line {number}"))?;
                done.search_servers += 1;
                puts.push(Box::new(move |tx| tx.import_search_off(&host, off)));
            }
            TrendRuling::TABLE => {
                let ruling: TrendRuling = read(line.version, record, number)?;
                done.trends += 1;
                puts.push(Box::new(move |tx| tx.put(&key, &ruling)));
            }
            Place::TABLE => {
                let place: Place = read(line.version, record, number)?;
                let host = Authority::try_from(key).with_context(|| format!("line {number}"))?;
                done.trends += 1;
                puts.push(Box::new(move |tx| tx.import_place(&host, &place)));
            }
            SearchKey::TABLE => {
                let row: SearchKey = read(line.version, record, number)?;
                puts.push(Box::new(move |tx| tx.take_search_key(&row)));
            }
            Refused::TABLE => {
                let no: Refused = read(line.version, record, number)?;
                done.refused += 1;
                puts.push(Box::new(move |tx| tx.import_refusal(&key, no)));
            }
            Suppressed::TABLE => {
                let post: Suppressed = read(line.version, record, number)?;
                done.refused += 1;
                puts.push(Box::new(move |tx| tx.put(&key, &post)));
            }
            END => {
                let said: Ended = serde_json::from_value(record).with_context(|| format!("line {number}"))?;
                let before = number - 1;
                anyhow::ensure!(
                    said.lines == before as u64,
                    "line {number}: there were {} lines before this one, and {before} are here",
                    said.lines
                );
                ended = true;
            }
            RELAY => is_ours = record.as_str() == Some(store.mark().as_str()),
            // Of another relay: they mean nobody here.
            DELETED | Edited::TABLE if !is_ours => {}
            DELETED => {
                let day: u32 = key.parse().with_context(|| format!("line {number}"))?;
                let hashes: Vec<String> = serde_json::from_value(record).with_context(|| format!("line {number}"))?;
                let hashes: Result<Vec<u128>, _> = hashes.iter().map(|hash| u128::from_str_radix(hash, 16)).collect();
                let hashes = hashes.with_context(|| format!("line {number}"))?;
                done.deleted += hashes.len();
                puts.push(Box::new(move |tx| tx.take_tombstones(day, &hashes)));
            }
            Edited::TABLE => {
                let row: Edited = read(line.version, record, number)?;
                done.deleted += 1;
                edited.insert(key, row.before);
            }
            other => anyhow::bail!("line {number}: unknown kind {other:?}"),
        }
    }
    anyhow::ensure!(
        ended,
        "the lines were cut short: the last one, which says how many there are, is not there. Nothing was read in; take an \
         earlier file"
    );
    let (of_lists, of_publishers) = (feeds.len() as u64, publishers.len() as u64);
    anyhow::ensure!(of_lists <= MAX_FEEDS, "there may be {MAX_FEEDS} lists, and these would be {of_lists}");
    anyhow::ensure!(
        of_publishers <= MAX_PUBLISHERS,
        "there may be {MAX_PUBLISHERS} publishers, and these would be {of_publishers}"
    );
    Ok(Found { done, puts, edited })
}

/// A key that is to be a server's name.
fn host(key: &str, number: usize) -> anyhow::Result<()> {
    let parsed = Authority::parse(key).with_context(|| format!("line {number}"))?;
    anyhow::ensure!(parsed.as_str() == key, "line {number}: {key:?} is written {parsed}");
    Ok(())
}

pub(super) fn read<R: Record>(version: u8, record: Value, number: usize) -> anyhow::Result<R> {
    carry_forward(version, record).with_context(|| format!("line {number}"))
}

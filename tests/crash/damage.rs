//! A store that is cut short, or in which a bit flipped: it is refused with a sentence, or what is read from it is what
//! was written, or the reader is told. Never something else, never a panic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use shearwater::clock::Clock;
use shearwater::ids::Seq;
use shearwater::log::{Draft, Log};
use shearwater::store::{CursorBook, Store, StoreError};

use crate::Call;
use crate::stage::{Setting, Stage};

/// How many of the damaged files the program itself is started on.
const BY_PROGRAM: usize = 12;

/// What came of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Refused,
    /// Some of it could not be read, and said so.
    Told,
    Unharmed,
    /// Something else than was written was read.
    Deceived,
    Panicked,
}

/// `damage COUNT`: so many flips, and a quarter as many cuts.
pub(crate) fn damage(call: &Call) -> anyhow::Result<String> {
    let mut stage = Stage::set(Setting::of(4))?;
    stage.post(60)?;
    stage.drain()?;
    let (status, _) = stage.stop()?;
    ensure!(status.success(), "it stopped with {status}");
    let whole = std::fs::read(stage.data().join("shearwater.redb"))?;
    let truth = read_all(&stage.data())?.context("the whole file is not whole")?;
    let used: Vec<usize> = (0..whole.len()).filter(|index| whole[*index] != 0).collect();

    let aside = tempfile::tempdir()?;
    let file = aside.path().join("shearwater.redb");
    let mut fates: BTreeMap<(&str, Fate), usize> = BTreeMap::new();
    let mut bad = Vec::new();
    std::panic::set_hook(Box::new(|_panic| {}));
    for number in 0..call.count + call.count / 4 {
        let (what, where_, bytes) = if number < call.count {
            // Most of a file is unused: flips go where something is.
            let index = used[rand::random_range(0..used.len())];
            let mut bytes = whole.clone();
            bytes[index] ^= 1 << rand::random_range(0..8);
            ("flipped", index, bytes)
        } else {
            let length = rand::random_range(0..whole.len());
            ("cut", length, whole[..length].to_vec())
        };
        std::fs::write(&file, bytes)?;
        let fate = match catch_unwind(AssertUnwindSafe(|| read_all(aside.path()))) {
            Err(_panic) => Fate::Panicked,
            Ok(Err(_)) => Fate::Refused,
            Ok(Ok(None)) => Fate::Told,
            Ok(Ok(Some(read))) if read == truth => Fate::Unharmed,
            Ok(Ok(Some(_))) => Fate::Deceived,
        };
        *fates.entry((what, fate)).or_default() += 1;
        if matches!(fate, Fate::Panicked | Fate::Deceived) {
            bad.push(format!("{what} at {where_} of {}: {fate:?}", whole.len()));
            if let Ok(Ok(Some((entries, members, places)))) = catch_unwind(AssertUnwindSafe(|| read_all(aside.path())))
            {
                let same = (entries == truth.0, members == truth.1, places == truth.2);
                bad.push(format!("  entries, members, places as they were: {same:?}"));
            }
        }
    }
    let _ = std::panic::take_hook();
    let seen: Vec<String> = fates.iter().map(|((what, fate), count)| format!("{what} {fate:?} {count}")).collect();
    ensure!(bad.is_empty(), "{}\n{}", seen.join(", "), bad.join("\n"));
    let refused = by_program(&mut stage, &whole)?;
    Ok(format!(
        "  {}\n  the program refused {refused} of {BY_PROGRAM} files that were cut, with a sentence",
        seen.join(", ")
    ))
}

type Truth = (Vec<Option<Draft>>, Vec<String>, Vec<u64>);

/// All that is in a store: `None` if a part of it is known to be damaged.
fn read_all(dir: &Path) -> Result<Option<Truth>, StoreError> {
    let store = Store::open(dir, Clock::system())?;
    let log = Log::open(&store)?;
    let book = CursorBook::load(&store)?;
    let mut entries = Vec::new();
    for seq in 1..=80 {
        match log.at_or_after(Seq(seq)) {
            Ok(entry) => entries.push(entry.filter(|entry| entry.seq == Seq(seq)).map(|entry| entry.draft.clone())),
            Err(_told) => return Ok(None),
        }
    }
    let members = store.subscribers();
    let mut subscribers: Vec<String> = members.values().map(|one| format!("{one:?}")).collect();
    subscribers.sort();
    let places = (0..8).map(|slot| book.get(slot).next.0).collect();
    Ok(Some((entries, subscribers, places)))
}

fn by_program(stage: &mut Stage, whole: &[u8]) -> anyhow::Result<usize> {
    let file = stage.data().join("shearwater.redb");
    for number in 0..BY_PROGRAM {
        let length = whole.len() / BY_PROGRAM * number;
        std::fs::write(&file, &whole[..length.max(1)])?;
        match stage.try_start()? {
            Some(status) => {
                ensure!(status.code() == Some(1), "cut to {length}: {status}");
                ensure!(stage.said().contains("shearwater.redb"), "cut to {length}: {}", stage.said());
            }
            None => bail!("cut to {length} of {}, it runs", whole.len()),
        }
    }
    Ok(BY_PROGRAM)
}

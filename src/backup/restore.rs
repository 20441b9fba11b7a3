//! Puts a backup back. Everything is made in `data_dir/restoring` and moved to its place when it is whole; while that folder
//! is there, no relay starts on this `data_dir` ([`make_private`](crate::store::make_private)).
//!
//! A backup is of its moment, and the world went on. So what was on its way then is not in it, every subscriber begins at the
//! end of the log, and numbers that the relay may have given out since are not given out again. Who said no since, and what
//! was deleted or edited, is in the newest export, if there is one.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::check::check_store;
use super::manifest::{claim, copy_file, files_below, make_folder, settle, settle_below};
use super::{INDEX, KEYS, Manifest, ROWS};
use crate::clock::Clock;
use crate::identity::copy_keys;
use crate::ids::Seq;
use crate::log::Log;
use crate::store::{
    Act, Exported, Fault, Faults, Store, StoreError, Tx, UNFINISHED, import, make_of_rows, make_private,
};

/// The store's file.
const STORE: &str = "shearwater.redb";
/// Places of the log that are passed over: more than the relay can have given out between backup and loss.
const GAP: u64 = 1 << 32;
/// Links to links that are followed.
const LINKS: usize = 8;
/// How long a store is waited for that was closed.
const CLOSING: Duration = Duration::from_secs(10);

/// What is to be put back, and where.
pub struct Wanted<'a> {
    /// The backup.
    pub from: &'a Path,
    /// The relay's folder: not there yet, or empty.
    pub data_dir: &'a Path,
    /// Lines of the newest export.
    pub newest: Option<&'a mut dyn BufRead>,
    /// Now.
    pub clock: Clock,
    /// What other rooms have to say to a store that slept.
    pub wake: fn(&mut Tx<'_>) -> Result<(), StoreError>,
}

/// What was put back.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// As of when it is.
    pub made_at: String,
    /// The release that made it.
    pub release: String,
    /// The relay's origin then.
    pub public_url: String,
    /// Rows of the store.
    pub rows: u64,
    /// The index came along; else it is made anew.
    pub index: bool,
    /// What the newest export brought.
    pub newest: Option<Exported>,
    /// What is wrong with it, and was when the backup was made.
    pub faults: Vec<Fault>,
}

/// Puts it back.
///
/// # Errors
/// A sentence about what is in the way, and what to do. Then `data_dir` is as it was, or refuses to be used until a restore
/// has come to its end.
pub async fn restore(wanted: Wanted<'_>) -> anyhow::Result<Restored> {
    let (from, real) = (wanted.from, real(wanted.data_dir)?);
    let dir = real.as_path();
    ensure_free(dir)?;
    let manifest = Manifest::verified(from)?;
    ensure!(manifest.holds(ROWS) && manifest.holds(KEYS), "{} is no backup of a relay", from.display());
    let was_there = dir.exists();
    let made = dir.join(UNFINISHED);
    if !made.exists() {
        make_private(dir)?;
    }
    let claimed = claim(&made)?;
    // What an earlier restore moved to its place before it was cut short.
    clear(dir)?;
    let filled = fill(&manifest, dir, &made, wanted).await;
    if filled.is_err() {
        // Nothing was moved yet: it was not begun.
        let _ = std::fs::remove_dir_all(&made);
        if !was_there {
            let _ = std::fs::remove_dir(dir);
        }
    }
    let (newest, faults) = filled?;
    for name in [KEYS, INDEX, STORE] {
        let (from, to) = (made.join(name), dir.join(name));
        if from.exists() {
            std::fs::rename(&from, &to).with_context(|| format!("putting {} in its place", to.display()))?;
        }
    }
    settle(dir)?;
    std::fs::remove_dir(&made).with_context(|| format!("deleting {}", made.display()))?;
    settle(dir)?;
    drop(claimed);
    Ok(Restored {
        made_at: manifest.made_at.rfc3339(),
        index: manifest.holds(INDEX),
        release: manifest.release,
        public_url: manifest.public_url,
        rows: manifest.rows,
        newest,
        faults,
    })
}

/// Everything, on the disk, in a folder of its own.
async fn fill(
    manifest: &Manifest,
    dir: &Path,
    made: &Path,
    wanted: Wanted<'_>,
) -> anyhow::Result<(Option<Exported>, Vec<Fault>)> {
    let from = wanted.from;
    copy_keys(&from.join(KEYS), &made.join(KEYS))?;
    if manifest.holds(INDEX) {
        copy_tree(&from.join(INDEX), &made.join(INDEX))?;
    }
    let filled = make_store(manifest, made, wanted).await?;
    give_to_owner_of(dir, made)?;
    settle_below(made)?;
    settle(dir)?;
    Ok(filled)
}

/// The folder itself where `data_dir` is a link, as systemd's `DynamicUser=` makes it. Whoever moves the link aside has moved
/// nothing, and a folder that is made in its place is none that systemd takes: so what is said, and what is made, is about
/// the place that the link leads to, whether anything is there or not.
fn real(data_dir: &Path) -> anyhow::Result<PathBuf> {
    // Without a slash at the end, which would lead through the link.
    let mut dir: PathBuf = data_dir.components().collect();
    for _ in 0..LINKS {
        let Ok(to) = std::fs::read_link(&dir) else { return Ok(dir) };
        dir = dir.parent().unwrap_or(Path::new("")).join(to);
    }
    bail!("data_dir = {}: it is a link to a link, on and on", data_dir.display())
}

/// Nothing is there, or what a restore left that was cut short.
fn ensure_free(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    let is_running = std::os::unix::net::UnixStream::connect(dir.join("admin.sock")).is_ok();
    ensure!(
        !is_running,
        "a relay runs on data_dir = {shown}: stop it, move the folder aside (mv {shown} {shown}.before), and restore again"
    );
    if dir.join(UNFINISHED).exists() {
        return Ok(());
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {shown}")),
    };
    for entry in entries {
        let name = entry?.file_name();
        // Where a disk of its own is mounted.
        if name == "lost+found" {
            continue;
        }
        let what = if name == STORE || name == KEYS { "a relay's data" } else { "something" };
        bail!(
            "data_dir = {shown} holds {what} ({}), and nothing is restored over it: move it aside (mv {shown} \
             {shown}.before), and restore again",
            name.display()
        );
    }
    Ok(())
}

fn clear(dir: &Path) -> anyhow::Result<()> {
    for name in [KEYS, INDEX, STORE] {
        let path = dir.join(name);
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("deleting {}, which was left over", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn make_store(
    manifest: &Manifest,
    made: &Path,
    wanted: Wanted<'_>,
) -> anyhow::Result<(Option<Exported>, Vec<Fault>)> {
    let rows = wanted.from.join(ROWS);
    let reading = || format!("reading {}", rows.display());
    let file = File::open(&rows).with_context(reading)?;
    let bytes = file.metadata()?.len();
    let moved = make_of_rows(BufReader::with_capacity(1 << 20, file), bytes, made).with_context(reading)?;
    ensure!(moved.rows == manifest.rows, "{} has {} rows, not {}", rows.display(), moved.rows, manifest.rows);
    let store = Store::open(made, wanted.clock).context("opening what was restored")?;
    let (wake, of) = (wanted.wake, format!("the backup of {}", manifest.made_at.rfc3339()));
    let begin = move |tx: &mut Tx<'_>| {
        Log::begin_after(tx, Seq(moved.log_head.0.saturating_add(GAP)))?;
        tx.start_all_at(Log::next_in(tx)?)?;
        // A backup of an early release holds some.
        tx.forget_tokens()?;
        tx.audit(&Act::local(""), "restore", &of, Value::Null, Value::Null)?;
        wake(tx)
    };
    store.write(begin).await?;
    let newest = match wanted.newest {
        Some(mut lines) => Some(import(&store, &mut lines, Log::next_in).await.context("reading the newest export")?),
        None => None,
    };
    let faults = check_store(&store.snapshot()?)?.1.list();
    let is_newer = faults.iter().any(|fault| fault.fault == Faults::OF_A_LATER_RELEASE);
    ensure!(
        !is_newer,
        "release {} made this backup, and this one is older: restore with that release",
        manifest.release
    );
    drop(store);
    closed(&made.join(STORE)).await?;
    Ok((newest, faults))
}

/// Returns when the writer thread has let go of the file.
async fn closed(path: &Path) -> anyhow::Result<()> {
    let file = File::open(path)?;
    let wait = async {
        while file.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(CLOSING, wait).await.context("the store was not closed in time")
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in files_below(from)? {
        let copy = to.join(file.strip_prefix(from)?);
        make_folder(copy.parent().unwrap_or(to))?;
        copy_file(&file, &copy)?;
    }
    Ok(())
}

/// Root may have typed the command, and the relay must be able to read what was restored.
fn give_to_owner_of(dir: &Path, made: &Path) -> anyhow::Result<()> {
    let owner = std::fs::metadata(dir)?;
    let mut paths = files_below(made)?;
    let folders = paths.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect::<Vec<_>>();
    paths.extend(folders);
    for path in paths {
        let about = std::fs::metadata(&path)?;
        if (about.uid(), about.gid()) != (owner.uid(), owner.gid()) {
            chown(&path, Some(owner.uid()), Some(owner.gid()))
                .with_context(|| format!("giving {} to the owner of {}", path.display(), dir.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As under a unit with `DynamicUser=` and `StateDirectory=`: `lib/shearwater` leads to `private/shearwater`.
    #[test]
    fn where_the_folder_is_a_link_the_words_and_the_work_are_about_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("private/shearwater")).unwrap();
        std::os::unix::fs::symlink("private/shearwater", at("shearwater")).unwrap();
        let folder = at("private/shearwater");
        assert_eq!(real(&at("shearwater")).unwrap(), folder);
        assert_eq!(real(&at("shearwater/")).unwrap(), folder);
        assert_eq!(real(&folder).unwrap(), folder);
        std::fs::write(folder.join(STORE), "").unwrap();
        let said = ensure_free(&real(&at("shearwater")).unwrap()).unwrap_err().to_string();
        let (folder, mv) = (folder.display(), "mv");
        assert!(said.contains(&format!("{mv} {folder} {folder}.before")), "{said}");
        // Moved aside as it says, the link leads nowhere, and that is where the relay is put back.
        std::fs::rename(at("private/shearwater"), at("private/shearwater.before")).unwrap();
        let real = real(&at("shearwater")).unwrap();
        ensure_free(&real).unwrap();
        make_private(&real).unwrap();
        assert!(at("shearwater").join("..").join("shearwater").is_dir());
        std::os::unix::fs::symlink(at("round"), at("round")).unwrap();
        assert!(super::real(&at("round")).is_err());
    }
}

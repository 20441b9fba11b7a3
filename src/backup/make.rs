//! Makes a backup: in a folder beside the one that was asked for, which gets its name when everything in it is on the disk.

use std::fs::{DirBuilder, File};
use std::io::{BufReader, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::manifest::{claim, copy_file, make_folder, new_file, settle, settle_below};
use super::{INDEX, KEYS, Manifest, ROWS};
use crate::clock::Timestamp;
use crate::identity::copy_keys;
use crate::store::look_through;

/// How often an index is looked at that changes while it is copied.
const LOOKS: usize = 10;
/// The file of an index that names all others.
const META: &str = "meta.json";

/// What is to be backed up, and where to.
pub struct Plan<'a> {
    /// The backup. Not there yet, or an empty folder.
    pub to: &'a Path,
    /// The relay's folder.
    pub data_dir: &'a Path,
    /// The relay's origin.
    pub public_url: &'a str,
    /// The relay runs.
    pub online: bool,
    /// The index goes along.
    pub index: bool,
    /// Now.
    pub now: Timestamp,
}

/// Makes the backup. `rows` writes the rows of the store, as [`Snapshot::write`](crate::store::Snapshot::write) does.
///
/// Blocks.
///
/// # Errors
/// A sentence about what is in the way. Then there is no backup of that name, and nothing is left of it; after a kill, the next one deletes
/// what was begun.
pub fn make(plan: &Plan<'_>, rows: impl FnOnce(&mut File) -> anyhow::Result<()>) -> anyhow::Result<Manifest> {
    let to = plan.to;
    let is_free = !to.exists() || std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(is_free, "{} is there already: a backup is never written over another; name a new folder", to.display());
    let partial = partial(to)?;
    ensure_ours(&partial)?;
    let claimed = claim(&partial)?;
    let made = fill(plan, &partial, rows);
    if made.is_err() {
        // The disk may be full of it.
        let _ = std::fs::remove_dir_all(&partial);
    }
    let manifest = made?;
    std::fs::rename(&partial, to).with_context(|| format!("giving {} its name", to.display()))?;
    settle(&parent(to))?;
    drop(claimed);
    Ok(manifest)
}

/// Makes the folder, or sees that the one that is there is one that a backup of ours left: whoever made another could write
/// into the backup, or lead it elsewhere. Where everybody may write, a folder of ours stays ours.
fn ensure_ours(folder: &Path) -> anyhow::Result<()> {
    let making = || format!("making the folder {}", folder.display());
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made.with_context(making),
    }
    let there = std::fs::symlink_metadata(folder).with_context(making)?;
    let is_private = there.is_dir() && there.permissions().mode() & 0o077 == 0;
    ensure!(
        is_private && there.uid() == rustix::process::geteuid().as_raw(),
        "{} is there, and is not what a backup of yours left: a link, another's, or open to others. See whose it is, delete \
         it, and take backups in a folder where nobody else may write",
        folder.display()
    );
    Ok(())
}

/// Everything, on the disk.
fn fill(
    plan: &Plan<'_>,
    folder: &Path,
    rows: impl FnOnce(&mut File) -> anyhow::Result<()>,
) -> anyhow::Result<Manifest> {
    make_folder(&folder.join(KEYS))?;
    copy_keys(&plan.data_dir.join(KEYS), &folder.join(KEYS))?;
    // Before the rows: an index that is behind its ledger follows it, one that is ahead is made anew.
    if plan.index {
        copy_index(&plan.data_dir.join(INDEX), &folder.join(INDEX))?;
    }
    let path = folder.join(ROWS);
    let mut file = new_file(&path)?;
    rows(&mut file).with_context(|| format!("writing {}", path.display()))?;
    file.sync_all().with_context(|| format!("writing {} to the disk", path.display()))?;
    let written = look_through(BufReader::new(File::open(&path)?));
    let rows = written.with_context(|| format!("reading {} again", path.display()))?.rows;
    let manifest = Manifest::write(folder, plan.now, plan.public_url, plan.online, rows)?;
    settle_below(folder)?;
    Ok(manifest)
}

/// Where it is made.
fn partial(to: &Path) -> anyhow::Result<PathBuf> {
    let Some(name) = to.file_name().and_then(|name| name.to_str()) else {
        bail!("{} is no name for a backup: name a folder that is not there yet", to.display());
    };
    let parent = parent(to);
    ensure!(parent.is_dir(), "there is no folder {} to make the backup in", parent.display());
    Ok(parent.join(format!("{name}.partial")))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Copies an index that may be written to meanwhile: its files never change, but come and go. None is no fault: it is made
/// anew from the ledger.
fn copy_index(from: &Path, to: &Path) -> anyhow::Result<()> {
    for version in std::fs::read_dir(from).into_iter().flatten() {
        let version = version?;
        if !version.path().join(META).is_file() {
            continue;
        }
        let to = to.join(version.file_name());
        let mut copied = copy_segments(&version.path(), &to);
        for _ in 1..LOOKS {
            if copied.is_ok() {
                break;
            }
            copied = copy_segments(&version.path(), &to);
        }
        copied.context(
            "the index changes too fast to be copied: leave --index out, and it is made anew from the ledger",
        )?;
    }
    Ok(())
}

fn copy_segments(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    make_folder(to)?;
    let meta = std::fs::read(from.join(META))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_lock = name.to_str().is_some_and(|name| name.ends_with(".lock"));
        if entry.file_type()?.is_file() && !is_lock {
            copy_file(&entry.path(), &to.join(name))?;
        }
    }
    ensure!(std::fs::read(from.join(META))? == meta, "the index changed meanwhile");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_not_written_over_anything_and_needs_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let (there, missing) = (dir.path().join("there"), dir.path().join("missing/b"));
        std::fs::create_dir(&there).unwrap();
        std::fs::write(there.join("mine"), "").unwrap();
        for (to, said) in
            [(there.as_path(), "never written over"), (missing.as_path(), "there is no folder"), (Path::new("/"), "")]
        {
            let now = Timestamp::default();
            let plan = Plan { to, data_dir: dir.path(), public_url: "", online: false, index: false, now };
            let error = format!("{:#}", make(&plan, |_file| panic!("nothing is begun")).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
        assert!(there.join("mine").exists());
    }

    #[test]
    fn a_folder_that_somebody_else_put_there_is_not_made_a_backup() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, theirs) = (dir.path().join("data"), dir.path().join("theirs"));
        make_folder(&data_dir.join(KEYS)).unwrap();
        std::fs::create_dir(&theirs).unwrap();
        std::fs::write(theirs.join("precious"), "").unwrap();
        std::os::unix::fs::symlink(&theirs, dir.path().join("link.partial")).unwrap();
        std::fs::create_dir(dir.path().join("open.partial")).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path().join("open.partial"), open).unwrap();
        for name in ["link", "open"] {
            let (to, now) = (dir.path().join(name), Timestamp::default());
            let plan = Plan { to: &to, data_dir: &data_dir, public_url: "", online: false, index: false, now };
            let error = format!("{:#}", make(&plan, |_file| panic!("nothing is begun")).unwrap_err());
            assert!(error.contains("not what a backup of yours left"), "{error}");
        }
        assert!(theirs.join("precious").exists());
        // One that a kill left is taken over.
        ensure_ours(&dir.path().join("mine.partial")).unwrap();
        ensure_ours(&dir.path().join("mine.partial")).unwrap();
    }

    #[test]
    fn of_a_backup_that_came_to_nothing_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        make_folder(&data_dir.join(KEYS)).unwrap();
        let to = dir.path().join("b");
        let now = Timestamp::default();
        let plan = Plan { to: &to, data_dir: &data_dir, public_url: "", online: false, index: true, now };
        let full = make(&plan, |file| {
            std::io::Write::write_all(file, b"some rows")?;
            bail!("the disk is full")
        });
        assert!(format!("{:#}", full.unwrap_err()).contains("the disk is full"));
        let cut = make(&plan, |file| Ok(std::io::Write::write_all(file, b"{}")?));
        assert!(format!("{:#}", cut.unwrap_err()).contains("reading"), "rows without an end");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["data"]);
    }
}

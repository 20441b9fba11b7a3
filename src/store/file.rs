//! The folder and the file, before there is a store: made for their owner only, opened, marked as ours.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use redb::backends::FileBackend;
use redb::{Database, ReadableTable as _};

use super::{LONG_REPAIR, META, StoreError, catalogue};

/// How the file is laid out. Another number where a release cannot read what this one writes, however it carries records
/// forward.
pub(super) const LAYOUT: &str = "shearwater-1";
/// The row of [`META`] that says which versions of records were written here.
const VERSIONS: &str = "versions";
/// In the data folder while a backup is put back into it: what else is there may be half of it.
pub const UNFINISHED: &str = "restoring";
/// Bytes of the file that the engine keeps in memory, beside what the operating system does: left to itself it would keep
/// a GiB. Smaller: look-ups that come back to the same pages read them again.
const PAGES: usize = 8 << 20;

/// Makes the data folder, which nobody but its owner may enter: the keys and the store lie in it. Whatever writes there
/// first calls this.
///
/// # Errors
/// If it cannot be made, or if it is there and others may enter it; with the remedy.
pub fn make_private(dir: &Path) -> anyhow::Result<()> {
    let making = || format!("making the folder data_dir = {}", dir.display());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(making)?;
    let mode = std::fs::metadata(dir).with_context(making)?.permissions().mode() & 0o777;
    let path = dir.display();
    ensure!(
        mode & 0o077 == 0,
        "others may enter data_dir = {path}, where keys are (mode {mode:03o}): chmod 700 {path}"
    );
    ensure!(
        !dir.join(UNFINISHED).exists(),
        "a restore into data_dir = {path} was cut short, and what is there is not whole: run `shearwater restore` again"
    );
    Ok(())
}

/// Opens the file, or makes it, readable by its owner only. A new one gets its name when the engine has made it: one that
/// is half made, because the power failed meanwhile, is nobody's store and is made anew.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    open_up_to(path, LONG_REPAIR)
}

/// The same, and reads all of the file, however large it is.
pub(super) fn open_thoroughly(path: &Path) -> Result<Database, StoreError> {
    open_up_to(path, u64::MAX)
}

/// Files below the size `verified` are read whole.
fn open_up_to(path: &Path, verified: u64) -> Result<Database, StoreError> {
    let trouble = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
    if path.try_exists().map_err(trouble)? {
        let file = open_or_make(path).map_err(trouble)?;
        if file.metadata().map_err(trouble)?.len() == 0 {
            // The engine would begin a new store in it, and all that was promised would be forgotten without a word.
            return Err(StoreError::Damaged(format!("{}: the file is empty. Restore the backup.", path.display())));
        }
        return open_file(path, file, verified);
    }
    let unfinished = path.with_extension("redb.new");
    let file = open_or_make(&unfinished).map_err(trouble)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(path)),
        Err(TryLockError::Error(error)) => return Err(trouble(error)),
    }
    if path.try_exists().map_err(trouble)? {
        // Another one was quicker; whether it still runs shows when its file is opened.
        return open_file(path, open_or_make(path).map_err(trouble)?, verified);
    }
    file.set_len(0).map_err(trouble)?;
    let db = open_file(path, file, verified)?;
    std::fs::rename(&unfinished, path).map_err(trouble)?;
    let folder = path.parent().map_or_else(|| File::open("."), File::open);
    folder.and_then(|folder| folder.sync_all()).map_err(trouble)?;
    Ok(db)
}

fn open_or_make(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn in_use(path: &Path) -> StoreError {
    StoreError::Failed(format!("{} is in use: another shearwater runs on this folder", path.display()))
}

/// Hands the file to the engine; `path` is for what is said about it. A damaged file can make the engine panic while it
/// opens; for the operator that is a sentence like any other.
#[expect(clippy::disallowed_methods, reason = "the one place that opens the store")]
fn open_file(path: &Path, file: File, verified: u64) -> Result<Database, StoreError> {
    let create = std::panic::AssertUnwindSafe(|| {
        let mut builder = redb::Builder::new();
        // Every page's checksum, while that takes a moment; beyond it, damage shows when it is read.
        builder.set_cache_size(PAGES);
        builder.set_check_integrity_on_open(file.metadata()?.len() < verified);
        builder.create_with_backend(FileBackend::new(file)?)
    });
    match std::panic::catch_unwind(create) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(in_use(path)),
        Ok(Err(error)) => Err(StoreError::Damaged(format!("{}: {error}. Restore the backup.", path.display()))),
        Err(_panic) => Err(StoreError::Damaged(format!(
            "{}: the file is not readable as a store. Restore the backup.",
            path.display()
        ))),
    }
}

/// Refuses another layout than ours; `whose` begins the sentence.
pub(super) fn check_layout(found: &[u8], whose: &str) -> Result<(), StoreError> {
    if found == LAYOUT.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(found);
    let number = |layout: &str| layout.strip_prefix("shearwater-").and_then(|number| number.parse::<u32>().ok());
    let what = if number(&found) > number(LAYOUT) {
        "a later release wrote it: run that release, or restore a backup from before the upgrade"
    } else {
        "no release of shearwater wrote that"
    };
    Err(StoreError::Failed(format!("{whose} has the layout {found:?}, and this release reads {LAYOUT:?}: {what}")))
}

/// Marks a new file as ours, refuses another layout and records of a later release, and returns the secret that ids are hashed with.
pub(super) fn prepare(db: &Database, path: &Path) -> Result<[u8; 32], StoreError> {
    let tx = db.begin_write()?;
    let mut is_changed = false;
    let secret = {
        let mut meta = tx.open_table(META)?;
        let layout = meta.get("layout")?.map(|row| row.value().to_vec());
        match layout.as_deref() {
            None => {
                is_changed = true;
                meta.insert("layout", LAYOUT.as_bytes())?;
                meta.insert("secret", rand::random::<[u8; 32]>().as_slice())?;
            }
            Some(found) => check_layout(found, &path.display().to_string())?,
        }
        let versions = meta.get(VERSIONS)?.map(|row| row.value().to_vec()).unwrap_or_default();
        let ours = catalogue::check_versions(&versions, &path.display().to_string())?;
        if versions != ours {
            is_changed = true;
            meta.insert(VERSIONS, ours.as_slice())?;
        }
        let row = meta.get("secret")?.map(|row| row.value().to_vec()).unwrap_or_default();
        <[u8; 32]>::try_from(row)
            .map_err(|_short| StoreError::Damaged(format!("{}: no secret in it", path.display())))?
    };
    // A commit that changes nothing would undo what spares the next start a walk through the whole file.
    if is_changed {
        tx.commit()?
    } else {
        tx.abort()?
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;

    #[test]
    fn a_store_whose_making_was_cut_short_is_made_anew_and_a_cut_store_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, unfinished) = (dir.path().join("shearwater.redb"), dir.path().join("shearwater.redb.new"));
        std::fs::write(&unfinished, [0; 4096]).unwrap();
        drop(Store::open(dir.path(), Clock::system()).unwrap());
        assert!(path.exists() && !unfinished.exists());
        let running = Store::open(dir.path(), Clock::system()).unwrap();
        let second = Store::open(dir.path(), Clock::system()).err().map(|error| error.to_string());
        assert!(second.is_some_and(|said| said.contains("in use")));
        drop(running);
        std::fs::write(&path, []).unwrap();
        assert!(matches!(Store::open(dir.path(), Clock::system()), Err(StoreError::Damaged(_))), "not made anew");
    }

    #[test]
    fn folder_and_file_are_their_owners_only() {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("deep/data");
        make_private(&dir).unwrap();
        make_private(&dir).unwrap();
        let _store = Store::open(&dir, Clock::system()).unwrap();
        assert_eq!((mode(&dir), mode(&dir.join("shearwater.redb"))), (0o700, 0o600));
        for open in [0o755, 0o750, 0o701] {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(open)).unwrap();
            let error = make_private(&dir).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 700 {}", dir.display())), "{open:o}: {error}");
        }
    }
}

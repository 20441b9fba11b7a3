//! The folder and the file, before there is a store: made for their owner only, opened, marked as ours.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, ensure};
use redb::backends::FileBackend;
use redb::{Database, ReadableTable as _};

use super::{META, StoreError};

const LAYOUT: &[u8] = b"shearwater-1";

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
    Ok(())
}

/// Opens the file, or makes it, readable by its owner only. A damaged file can make the engine panic while it opens; for
/// the operator that is a sentence like any other.
#[expect(clippy::disallowed_methods, reason = "the one place that opens the store")]
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| StoreError::Failed(format!("{}: {error}", path.display())))?;
    let create = std::panic::AssertUnwindSafe(|| redb::Builder::new().create_with_backend(FileBackend::new(file)?));
    match std::panic::catch_unwind(create) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
            Err(StoreError::Failed(format!("{} is in use: another shearwater runs on this folder", path.display())))
        }
        Ok(Err(error)) => Err(StoreError::Damaged(format!("{}: {error}. Restore the backup.", path.display()))),
        Err(_panic) => Err(StoreError::Damaged(format!(
            "{}: the file is not readable as a store. Restore the backup.",
            path.display()
        ))),
    }
}

/// Marks a new file as ours, refuses another layout, and returns the secret that ids are hashed with.
pub(super) fn prepare(db: &Database, path: &Path) -> Result<[u8; 32], StoreError> {
    let tx = db.begin_write()?;
    let secret = {
        let mut meta = tx.open_table(META)?;
        let layout = meta.get("layout")?.map(|row| row.value().to_vec());
        match layout.as_deref() {
            None => {
                meta.insert("layout", LAYOUT)?;
                meta.insert("secret", rand::random::<[u8; 32]>().as_slice())?;
            }
            Some(LAYOUT) => {}
            Some(other) => {
                let found = String::from_utf8_lossy(other).into_owned();
                return Err(StoreError::Failed(format!(
                    "{} has the layout {found:?}; this release reads {:?}",
                    path.display(),
                    String::from_utf8_lossy(LAYOUT),
                )));
            }
        }
        let row = meta.get("secret")?.map(|row| row.value().to_vec()).unwrap_or_default();
        <[u8; 32]>::try_from(row)
            .map_err(|_short| StoreError::Damaged(format!("{}: no secret in it", path.display())))?
    };
    tx.commit()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Store;

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

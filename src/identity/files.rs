//! Files that only their owner reads, whole and on the disk or not there at all.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use anyhow::ensure;
use zeroize::Zeroizing;

/// The largest key file read: an RSA key of 8192 bits is a tenth of it.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What the names of files begin with that are not whole yet.
pub(super) const NEW: &str = ".new-";

/// A folder that only its owner may enter, and its parents where they are missing.
pub(super) fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Reads a file that nobody else may read.
pub(super) fn read_private(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    ensure!(about.is_file(), "it is no file");
    let mode = about.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "others may read it (mode {mode:03o}): chmod 600 {}", path.display());
    ensure!(about.len() <= MAX_FILE_BYTES, "it is too long for a key");
    Ok(Zeroizing::new(std::io::read_to_string(file)?))
}

/// Creates a file with mode 0600, whole and on the disk, or not at all. `false`: there is one already, left as it is.
pub(super) fn create(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    match written(path, bytes)?.persist_noclobber(path) {
        Ok(_file) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.error),
    }
    settle(path)?;
    Ok(true)
}

/// The same in place of what was there: whoever reads, now or after a power cut, finds the old or the new, whole.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    written(path, bytes)?.persist(path).map_err(|error| error.error)?;
    settle(path)
}

/// Removes a file, on the disk too. One that is not there is removed already.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => settle(path),
    }
}

/// A temporary file beside `path` with mode 0600, removed again if we do not get to the end. It belongs to whom the folder
/// belongs: root may have typed the command, and the relay must be able to read what it made.
fn written(path: &Path, bytes: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(folder)?;
    let (ours, theirs) = (file.as_file().metadata()?, std::fs::metadata(folder)?);
    if ours.uid() != theirs.uid() {
        fchown(file.as_file(), Some(theirs.uid()), Some(theirs.gid()))?;
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Writes the folder's list of names to the disk.
fn settle(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_for_its_owner_only_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap(), "an existing file is never overwritten");
        assert_eq!(&**read_private(&path).unwrap(), "one");
        replace(&path, b"three").unwrap();
        assert_eq!(&**read_private(&path).unwrap(), "three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half-made stays behind");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "x".repeat(65 * 1024)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("too long"));
        assert!(read_private(dir.path()).unwrap_err().to_string().contains("no file"));
    }
}

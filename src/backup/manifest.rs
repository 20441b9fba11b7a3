//! What a backup says of itself: from which release and relay, of when, and each of its files with size and SHA-256. It is
//! written last, so that a folder without one is no backup.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

/// Its file.
const NAME: &str = "manifest.json";
/// The form that this release writes.
const FORMAT: u32 = 1;
/// The largest one that is read: an index has some hundred files.
const MAX_BYTES: u64 = 4 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this file.
    pub format: u32,
    /// The release that made the backup.
    pub release: String,
    /// As of when.
    pub made_at: Timestamp,
    /// The relay's origin.
    pub public_url: String,
    /// The relay ran meanwhile.
    pub online: bool,
    /// Rows of the store.
    pub rows: u64,
    /// All files but this one, by path.
    pub files: Vec<Listed>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Relative to the backup's folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
}

impl Manifest {
    /// Lists what is in `folder`, and writes the list there, on the disk.
    pub(super) fn write(
        folder: &Path,
        made_at: Timestamp,
        public_url: &str,
        online: bool,
        rows: u64,
    ) -> anyhow::Result<Self> {
        let (release, public_url) = (env!("CARGO_PKG_VERSION").to_owned(), public_url.to_owned());
        let files = list(folder)?;
        let manifest = Self { format: FORMAT, release, made_at, public_url, online, rows, files };
        let mut file = new_file(&folder.join(NAME))?;
        file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
        file.sync_all()?;
        Ok(manifest)
    }

    /// Reads the list in `folder` and compares every file with it: none is missing, changed, or there without being listed.
    ///
    /// # Errors
    /// A sentence about the first thing that differs.
    pub fn verified(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(NAME);
        let file = File::open(&path).with_context(|| {
            format!("{} is no backup, or one that was cut short: it has no {NAME}", folder.display())
        })?;
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let reading = || format!("reading {}", path.display());
        let Form { format } = serde_json::from_slice(&text).with_context(reading)?;
        ensure!(
            format <= FORMAT,
            "{}: a later release made this backup (form {format}): run that release",
            path.display()
        );
        let manifest: Self = serde_json::from_slice(&text).with_context(reading)?;
        let found = list(folder)?;
        for listed in &manifest.files {
            let is_plain = Path::new(&listed.path).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(is_plain, "{}: {:?} is no path within a backup", path.display(), listed.path);
            match found.iter().find(|file| file.path == listed.path) {
                None => bail!("{} is missing from the backup", folder.join(&listed.path).display()),
                Some(file) if file != listed => {
                    bail!("{} was changed since the backup was made", folder.join(&listed.path).display())
                }
                Some(_) => {}
            }
        }
        if let Some(file) = found.iter().find(|file| !manifest.files.iter().any(|listed| listed.path == file.path)) {
            bail!("{} is not of this backup: its manifest does not list it", folder.join(&file.path).display());
        }
        Ok(manifest)
    }

    /// Whether it holds something within this folder.
    pub(super) fn holds(&self, folder: &str) -> bool {
        self.files.iter().any(|file| Path::new(&file.path).starts_with(folder))
    }
}

/// Every file below `folder` but the manifest, by path.
fn list(folder: &Path) -> anyhow::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for path in files_below(folder)? {
        let reading = || format!("reading {}", path.display());
        let name = path.strip_prefix(folder)?.to_str().with_context(reading)?.to_owned();
        if name == NAME {
            continue;
        }
        let mut file = BufReader::with_capacity(256 << 10, File::open(&path).with_context(reading)?);
        let (mut sum, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            let count = file.read(&mut buffer).with_context(reading)?;
            if count == 0 {
                break;
            }
            sum.update(buffer.get(..count).unwrap_or_default());
            bytes += count as u64;
        }
        let sha256 = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        files.push(Listed { path: name, bytes, sha256 });
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// Every file below `folder`. What is neither a file nor a folder is refused: a link may lead anywhere.
pub(super) fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let reading = || format!("reading {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let kind = entry.file_type().with_context(reading)?;
            ensure!(kind.is_dir() || kind.is_file(), "{} is neither a file nor a folder", entry.path().display());
            if kind.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    Ok(files)
}

/// A file that is not there yet, for its owner only.
pub(super) fn new_file(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("making {}", path.display()))
}

/// Copies a file to a place where none is, on the disk.
pub(super) fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copying = || format!("copying {} to {}", from.display(), to.display());
    let mut file = File::open(from).with_context(copying)?;
    let mut copy = new_file(to)?;
    std::io::copy(&mut file, &mut copy).with_context(copying)?;
    copy.sync_all().with_context(copying)
}

/// A folder for its owner only, and those above it where they are missing.
pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making the folder {}", path.display()))
}

/// Writes a folder's list of names to the disk.
pub(super) fn settle(folder: &Path) -> anyhow::Result<()> {
    let settled = File::open(folder).and_then(|folder| folder.sync_all());
    settled.with_context(|| format!("writing {} to the disk", folder.display()))
}

/// The same for a folder and all below it that hold files.
pub(super) fn settle_below(folder: &Path) -> anyhow::Result<()> {
    let files = files_below(folder)?;
    let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).chain([folder]).collect();
    folders.into_iter().try_for_each(settle)
}

/// Makes a folder that one process works in at a time; what an earlier one left there is deleted. Held until it is dropped,
/// or the process ends in whatever way.
pub(super) fn claim(folder: &Path) -> anyhow::Result<File> {
    make_folder(folder)?;
    let lock = File::open(folder).with_context(|| format!("opening {}", folder.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another process works in {} at this moment", folder.display()),
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", folder.display())),
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        gone.with_context(|| format!("deleting {}, which was left over", path.display()))?;
    }
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("keys")).unwrap();
        std::fs::write(dir.path().join("keys/rsa.pem"), "a key").unwrap();
        std::fs::write(dir.path().join("store.rows"), "rows").unwrap();
        Manifest::write(dir.path(), Timestamp::from_secs(1_787_486_400), "https://relay.example", true, 3).unwrap();
        dir
    }

    #[test]
    fn a_backup_that_was_changed_in_any_way_is_noticed_and_the_file_named() {
        assert!(Manifest::verified(backup().path()).unwrap().holds("keys"));
        type Change = fn(&Path);
        let cases: [(&str, &str, Change); 6] = [
            ("keys/rsa.pem", "was changed", |dir| std::fs::write(dir.join("keys/rsa.pem"), "b key").unwrap()),
            ("store.rows", "was changed", |dir| std::fs::write(dir.join("store.rows"), "row").unwrap()),
            ("store.rows", "is missing", |dir| std::fs::remove_file(dir.join("store.rows")).unwrap()),
            ("keys/mine", "does not list", |dir| std::fs::write(dir.join("keys/mine"), "").unwrap()),
            ("keys/link", "neither a file", |dir| std::os::unix::fs::symlink("/etc", dir.join("keys/link")).unwrap()),
            ("", "no manifest.json", |dir| std::fs::remove_file(dir.join(NAME)).unwrap()),
        ];
        for (file, said, change) in cases {
            let dir = backup();
            change(dir.path());
            let error = format!("{:#}", Manifest::verified(dir.path()).unwrap_err());
            assert!(error.contains(file) && error.contains(said), "{file}: {error}");
        }
    }

    #[test]
    fn a_list_that_leads_out_of_the_backup_or_is_of_a_later_release_is_refused() {
        for (old, new, said) in
            [("store.rows", "../store.rows", "no path within"), ("\"format\": 1", "\"format\": 2", "later release")]
        {
            let dir = backup();
            let path = dir.path().join(NAME);
            let text = std::fs::read_to_string(&path).unwrap().replace(old, new);
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Manifest::verified(dir.path()).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_folder_is_for_one_at_a_time_and_what_was_left_there_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("b.partial");
        let first = claim(&folder).unwrap();
        std::fs::write(folder.join("half"), "").unwrap();
        assert!(claim(&folder).unwrap_err().to_string().contains("another process"));
        assert!(folder.join("half").exists());
        drop(first);
        let _second = claim(&folder).unwrap();
        assert!(!folder.join("half").exists());
    }
}

//! A copy of the folder of keys, for a backup or from one, while a rotation may be under way.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::files::{NEW, create, make_folder, read_private};
use super::folder::BOOK;

/// How often the folder is looked at that changes meanwhile: a rotation takes a step in weeks.
const LOOKS: usize = 5;

/// Copies every key file, the book and the moment of the first start from one folder to another, which is made. Together
/// they are as of one moment: a book never names a key that is not there.
///
/// # Errors
/// A sentence about a file.
pub fn copy_keys(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copying = || format!("copying the keys from {} to {}", from.display(), to.display());
    for _ in 0..LOOKS {
        let before = book(from).with_context(copying)?;
        if to.exists() {
            std::fs::remove_dir_all(to).with_context(copying)?;
        }
        let copied = copy_all(from, to);
        if book(from).with_context(copying)? == before {
            return copied.with_context(copying);
        }
    }
    bail!("{}: a rotation is under way; try again", copying())
}

fn book(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(BOOK);
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(read_private(&path)?.to_string()))
}

fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    make_folder(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.ends_with(".pem") || name == BOOK || name == "created");
        if !is_ours || name.as_encoded_bytes().starts_with(NEW.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let reading = || format!("reading {}", path.display());
        // The moment of the first start is no secret, and may lie there as one.
        let text = if name == "created" {
            std::fs::read_to_string(&path).map(zeroize::Zeroizing::new).with_context(reading)?
        } else {
            read_private(&path).with_context(reading)?
        };
        create(&to.join(&name), text.as_bytes()).with_context(|| format!("writing {}", to.join(&name).display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_book_and_first_start_are_copied_and_nothing_half_made_or_of_the_operators() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("keys"), dir.path().join("copy"));
        make_folder(&from).unwrap();
        for name in ["rsa.pem", "ed25519-2.pem", BOOK, "created", ".new-abc.pem", "notes.txt"] {
            create(&from.join(name), name.as_bytes()).unwrap();
        }
        copy_keys(&from, &to).unwrap();
        copy_keys(&from, &to).unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["created", "ed25519-2.pem", BOOK, "rsa.pem"]);
        assert_eq!(read_private(&to.join("rsa.pem")).unwrap().as_str(), "rsa.pem");
    }
}

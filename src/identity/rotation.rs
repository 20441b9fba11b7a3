//! Replacing our keys: a new pair is made and listed, signs after 48 hours, and the old one stays listed for a week more; or,
//! for a stolen key, at once. Always both keys of a pair: they lie in one folder, and who read one has read the other.
//!
//! Promises: each step is on the disk before anything is signed by it; a crash at any moment leaves a book that names keys
//! which are there; two rotations never overlap. Why so: `docs/decisions/0006-a-new-key-has-a-new-id.md`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use utoipa::ToSchema;

use super::book::{Book, FAREWELL, Term};
use super::folder::KeyFolder;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::ids::Iri;
use crate::net::{KeyRing, Keys};
use crate::wire::key::{KeyFault, SigningKey};

/// When a new pair begins to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotate {
    /// After it was listed for so long: [`HOLD`](super::HOLD), as a rule.
    After(Duration),
    /// At once, and all other pairs are dropped: for a stolen or a lost key.
    Now,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Rotation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: KeyFolder,
    book: Mutex<Book>,
    /// The keys of the running relay; none where only files are dealt with.
    ring: Option<KeyRing>,
}

/// One key, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeyLine {
    /// Its id.
    pub id: Iri,
    /// SHA-256 of its `SubjectPublicKeyInfo`, in hexadecimal.
    pub fingerprint: String,
    /// The key: PEM for RSA, multibase for Ed25519.
    pub public: String,
}

/// One pair, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PairLine {
    /// Since when it signs, from when it will, or until when it is listed. RFC 3339.
    pub at: String,
    /// Its RSA key.
    pub rsa: KeyLine,
    /// Its Ed25519 key.
    pub ed25519: KeyLine,
}

/// How our keys stand, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeyStatus {
    /// The pair that signs; `at`: since when.
    pub signs: PairLine,
    /// The pair that will sign; `at`: from when.
    pub coming: Option<PairLine>,
    /// The pair that signed before; `at`: until when it is listed.
    pub leaving: Option<PairLine>,
}

/// Makes a pair under these ids, the RSA key's first. Takes a second or so.
///
/// # Errors
/// [`KeyFault::NotMade`].
pub fn new_pair(rsa: Iri, ed25519: Iri) -> Result<Keys, KeyFault> {
    let mut rng = rand::rng();
    Ok(Keys {
        rsa: SigningKey::generate_rsa(rsa, &mut rng)?,
        ed25519: SigningKey::generate_ed25519(ed25519, &mut rng)?,
    })
}

impl Rotation {
    pub(super) fn new(folder: KeyFolder, book: Book, ring: Option<KeyRing>) -> Self {
        Self(Arc::new(Inner { folder, book: Mutex::new(book), ring }))
    }

    /// The files of a relay that does not run. The caller sees to that: two at once would not know of each other.
    ///
    /// # Errors
    /// A sentence about a file, or that there are no keys yet.
    pub fn of_files(config: &Config, public_url: &str) -> anyhow::Result<Self> {
        let folder = KeyFolder::open(config, public_url)?;
        let created = folder.created()?;
        let created = created.context("there are no keys yet; `shearwater serve` makes them at its first start")?;
        let book = folder.book()?.unwrap_or_else(|| Book::first(created));
        Ok(Self::new(folder, book, None))
    }

    /// Makes a pair with `make` and begins a rotation, or replaces all pairs at once. On the disk when it returns.
    ///
    /// Blocks, on the disk and while the keys are made.
    ///
    /// # Errors
    /// A sentence: a rotation is under way, the keys are the operator's own, or something about a file.
    pub fn rotate(
        &self,
        how: Rotate,
        now: Timestamp,
        make: impl FnOnce(Iri, Iri) -> Result<Keys, KeyFault>,
    ) -> anyhow::Result<()> {
        let mut book = self.book();
        let next = self.next(&book, how, now)?;
        let pair = next.coming.unwrap_or(next.signs).pair;
        self.0.folder.make(pair, make)?;
        self.settle(&mut book, next)
    }

    /// What [`rotate`](Self::rotate) would do, in sentences; nothing is done.
    ///
    /// # Errors
    /// As there.
    pub fn foretell(&self, how: Rotate, now: Timestamp) -> anyhow::Result<Vec<String>> {
        let book = self.book();
        let next = self.next(&book, how, now)?;
        let ids = |pair: u32| self.0.folder.ids.keys(pair).map(|(rsa, ed25519)| format!("{rsa} and {ed25519}"));
        let (old, folder) = (ids(book.signs.pair)?, self.0.folder.path().display());
        let mut said = Vec::new();
        if let Some(coming) = next.coming {
            said.push(format!("A new pair of keys is made: {}.", ids(coming.pair)?));
            said.push(format!(
                "Until {} the old pair ({old}) goes on signing, and the actor lists both. Back up {folder} in that time.",
                coming.at
            ));
            said.push(format!(
                "Then the new pair signs, each subscriber is told by an Update that the old key signs, and until {} the \
                 actor still lists the old pair. After that its files are removed.",
                coming.at.plus(FAREWELL)
            ));
        } else {
            said.push(format!("A new pair of keys is made and signs at once: {}.", ids(next.signs.pair)?));
            for term in std::iter::once(book.signs).chain(book.coming).chain(book.leaving) {
                said.push(format!("{}: no longer listed, files removed.", ids(term.pair)?));
            }
            said.push(
                "Each subscriber is told by an Update that the new key signs. Nobody can make the others forget the old \
                 key: most servers read ours anew at the first message from the relay, others believe the old key until \
                 they next look at the actor, a day or so. Watch for posts in the relay's name that it did not send."
                    .to_owned(),
            );
            said.push(format!("Back up {folder}."));
        }
        Ok(said)
    }

    /// How the keys stand.
    ///
    /// # Errors
    /// A sentence about a file.
    pub fn status(&self) -> anyhow::Result<KeyStatus> {
        let book = self.book().clone();
        let line = |term: Term| -> anyhow::Result<PairLine> {
            let keys = self.0.folder.keys(term.pair)?;
            let (rsa, ed25519) = (keys.rsa.public(), keys.ed25519.public());
            let key = |id: &Iri, fingerprint, public| KeyLine { id: id.clone(), fingerprint, public };
            Ok(PairLine {
                at: term.at.rfc3339(),
                rsa: key(keys.rsa.key_id(), rsa.fingerprint(), rsa.to_spki_pem()),
                ed25519: key(keys.ed25519.key_id(), ed25519.fingerprint(), ed25519.to_multibase()),
            })
        };
        Ok(KeyStatus {
            signs: line(book.signs)?,
            coming: book.coming.map(line).transpose()?,
            leaving: book.leaving.map(line).transpose()?,
        })
    }

    /// Does what the clock asks for, one step. Whether there was one.
    pub(super) fn advance(&self, now: Timestamp) -> anyhow::Result<bool> {
        let mut book = self.book();
        let Some(next) = book.advance(now) else { return Ok(false) };
        let (pair, leaving) = (next.signs.pair, next.leaving.map(|term| term.pair));
        self.settle(&mut book, next)?;
        tracing::info!(pair, leaving, "keys rotated by one step");
        Ok(true)
    }

    /// Removes what a crash has left behind.
    pub(super) fn tidy(&self) -> anyhow::Result<()> {
        let book = self.book();
        self.0.folder.clear()?;
        if self.0.folder.book()?.is_some() { self.0.folder.sweep(&book) } else { Ok(()) }
    }

    /// The pair that subscribers are still to be told of.
    pub(super) fn untold(&self) -> Option<u32> {
        let book = self.book();
        book.untold.then_some(book.signs.pair)
    }

    /// The messages that tell subscribers of this pair are written.
    pub(super) fn told(&self, pair: u32) -> anyhow::Result<()> {
        let mut book = self.book();
        if book.signs.pair == pair {
            let next = book.told();
            self.0.folder.write(&next)?;
            *book = next;
        }
        Ok(())
    }

    /// The book after the step, or why there is none.
    fn next(&self, book: &Book, how: Rotate, now: Timestamp) -> anyhow::Result<Book> {
        if let Some(own) = self.0.folder.own() {
            bail!(
                "{own} names a key of your own, which is yours to replace: write a new key into a new file with mode 600, \
                 let {own} name it, give identity.key_fragment a value it never had (such as \"main-key-2\": servers \
                 that keep keys by their id must see a new one), and restart"
            );
        }
        let book = book.past(self.0.folder.highest()?);
        let next = match how {
            Rotate::After(hold) => {
                if let Some(coming) = book.coming {
                    bail!("a rotation is under way: the new pair signs from {} on", coming.at);
                }
                if let Some(leaving) = book.leaving {
                    bail!("a rotation is under way: the old pair stays listed until {}", leaving.at);
                }
                // It must be there to sign meanwhile.
                self.0.folder.keys(book.signs.pair)?;
                book.begin(now.plus(hold))
            }
            Rotate::Now => book.replace(now),
        };
        next.context("there are no numbers left for a pair")
    }

    /// Shows the book's keys to who signs, then removes files that it names no longer.
    fn settle(&self, book: &mut Book, next: Book) -> anyhow::Result<()> {
        // All that can fail comes first: the keys that sign and what is written down never differ.
        let standing = self.0.ring.as_ref().map(|ring| (ring, self.0.folder.standing(&next)));
        let standing = match standing {
            Some((ring, standing)) => Some((ring, standing?)),
            None => None,
        };
        self.0.folder.write(&next)?;
        *book = next;
        if let Some((ring, mut standing)) = standing {
            if !book.untold && standing.leaving.is_some() {
                standing.untold = ring.standing().untold.clone();
            }
            ring.set(standing);
        }
        if let Err(error) = self.0.folder.sweep(book) {
            tracing::warn!(
                error = format!("{error:#}"),
                "key files that are out of use were not removed; the next start does"
            );
        }
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::super::book::HOLD;
    use super::super::testing::{NOON, data, load, second_pair, third_pair};
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn ids(status: &KeyStatus) -> (&str, Option<&str>, Option<&str>) {
        let id = |line: &PairLine| line.rsa.id.as_str().rsplit_once('#').unwrap().1.to_owned().leak() as &str;
        (id(&status.signs), status.coming.as_ref().map(id), status.leaving.as_ref().map(id))
    }

    fn copy(from: &Path, to: &Path) {
        for name in names(from) {
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }

    #[test]
    fn a_rotation_lists_both_switches_by_the_clock_and_outlives_restarts() {
        let (_dir, config) = data();
        let folder = config.data_dir.join("keys");
        let identity = load(&config, NOON).unwrap();
        let old = identity.keys.signs();
        identity.rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
        assert_eq!(ids(&identity.rotation.status().unwrap()), ("main-key", Some("main-key-2"), None));
        assert_eq!(identity.keys.signs().rsa.public(), old.rsa.public(), "the old one signs");
        assert_eq!(identity.document()["publicKey"]["id"], "https://relay.example/actor#main-key");
        assert_eq!(identity.document()["assertionMethod"].as_array().unwrap().len(), 3);
        for name in ["rsa-2.pem", "ed25519-2.pem", "rotation.json"] {
            let mode = std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
        }

        // Nothing happens before its time, restart or not.
        let almost = NOON.plus(HOLD).minus(Duration::from_secs(1));
        let identity = load(&config, almost).unwrap();
        assert!(!identity.rotation.advance(almost).unwrap());
        assert_eq!(identity.keys.signs().rsa.public(), old.rsa.public());

        let switch = NOON.plus(HOLD);
        assert!(identity.rotation.advance(switch).unwrap());
        assert!(!identity.rotation.advance(switch).unwrap());
        assert_eq!(identity.rotation.untold(), Some(2));
        for identity in [identity, load(&config, switch).unwrap()] {
            assert_eq!(ids(&identity.rotation.status().unwrap()), ("main-key-2", None, Some("main-key")));
            assert_eq!(identity.keys.signs().rsa.key_id().as_str(), "https://relay.example/actor#main-key-2");
            let host = crate::ids::Authority::parse("a.example").unwrap();
            let told = identity.keys.signs_for(&host).rsa.key_id().to_string();
            assert_eq!(told, "https://relay.example/actor#main-key", "nobody was told yet");
            let document = identity.document();
            assert_eq!(document["publicKey"]["id"], "https://relay.example/actor#main-key-2");
            assert!(document["assertionMethod"].to_string().contains("actor#main-key\""));
        }

        let identity = load(&config, switch).unwrap();
        identity.rotation.told(2).unwrap();
        assert!(!identity.rotation.advance(switch.plus(FAREWELL).minus(DAY)).unwrap());
        assert!(identity.rotation.advance(switch.plus(FAREWELL)).unwrap());
        let identity = load(&config, switch.plus(FAREWELL)).unwrap();
        assert_eq!(ids(&identity.rotation.status().unwrap()), ("main-key-2", None, None));
        assert_eq!(names(&folder), ["created", "ed25519-2.pem", "rotation.json", "rsa-2.pem"]);
        identity.rotation.rotate(Rotate::After(HOLD), NOON, third_pair).unwrap();
        assert_eq!(ids(&identity.rotation.status().unwrap()), ("main-key-2", Some("main-key-3"), None));
    }

    #[test]
    fn a_second_rotation_waits_for_the_first() {
        let (_dir, config) = data();
        let identity = load(&config, NOON).unwrap();
        let rotate = |now| identity.rotation.rotate(Rotate::After(HOLD), now, second_pair);
        rotate(NOON).unwrap();
        let said = rotate(NOON.plus(DAY)).unwrap_err().to_string();
        assert!(said.contains("a rotation is under way") && said.contains("2026-08-25T12:00:00Z"), "{said}");
        identity.rotation.advance(NOON.plus(HOLD)).unwrap();
        let said = rotate(NOON.plus(HOLD)).unwrap_err().to_string();
        assert!(said.contains("2026-09-01T12:00:00Z"), "{said}");
        assert!(identity.rotation.foretell(Rotate::After(HOLD), NOON).is_err(), "a dry run says so too");
        let before = names(&config.data_dir.join("keys"));
        assert!(!identity.rotation.foretell(Rotate::Now, NOON).unwrap().is_empty());
        assert_eq!(names(&config.data_dir.join("keys")), before, "a dry run changes nothing");
    }

    #[test]
    fn a_stolen_pair_is_dropped_at_once_with_its_files() {
        for steps in 0..3 {
            let (_dir, config) = data();
            let identity = load(&config, NOON).unwrap();
            let old = identity.keys.signs();
            if steps > 0 {
                identity.rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
            }
            if steps > 1 {
                identity.rotation.advance(NOON.plus(HOLD)).unwrap();
            }
            identity.rotation.rotate(Rotate::Now, NOON, third_pair).unwrap();
            let pair = if steps == 0 { 2 } else { 3 };
            for identity in [identity, load(&config, NOON).unwrap()] {
                let standing = identity.keys.standing();
                assert_eq!(standing.listed().count(), 1);
                assert_eq!(
                    standing.signs.rsa.key_id().as_str(),
                    format!("https://relay.example/actor#main-key-{pair}")
                );
                assert_ne!(standing.signs.ed25519.public(), old.ed25519.public(), "the other key of the pair too");
                assert_eq!(identity.rotation.untold(), Some(pair));
            }
            let expected = ["created".to_owned(), format!("ed25519-{pair}.pem"), "rotation.json".to_owned()];
            assert_eq!(names(&config.data_dir.join("keys"))[..3], expected);
            assert_eq!(names(&config.data_dir.join("keys")).len(), 4);
        }
    }

    #[test]
    fn a_lost_key_is_replaced_by_a_relay_that_does_not_run() {
        let (_dir, config) = data();
        let files = || Rotation::of_files(&config, "https://relay.example");
        assert!(files().unwrap_err().to_string().contains("no keys yet"));
        load(&config, NOON).unwrap();
        std::fs::remove_file(config.data_dir.join("keys/rsa.pem")).unwrap();
        let slow = files().unwrap().rotate(Rotate::After(HOLD), NOON, second_pair);
        assert!(format!("{:#}", slow.unwrap_err()).contains("rsa.pem: it is gone"));
        files().unwrap().rotate(Rotate::Now, NOON, second_pair).unwrap();
        let identity = load(&config, NOON).unwrap();
        assert_eq!(ids(&identity.rotation.status().unwrap()), ("main-key-2", None, None));
    }

    #[test]
    fn the_operators_own_key_is_not_replaced() {
        let (_dir, mut config) = data();
        config.identity.rsa_key_file = config.data_dir.join("keys/rsa.pem");
        let identity = load(&config, NOON).unwrap();
        for how in [Rotate::After(HOLD), Rotate::Now] {
            let said = identity.rotation.rotate(how, NOON, second_pair).unwrap_err().to_string();
            assert!(said.contains("identity.rsa_key_file") && said.contains("key_fragment"), "{said}");
        }
        assert_eq!(names(&config.data_dir.join("keys")), ["created", "ed25519.pem", "rsa.pem"]);
        // Named in the middle of a rotation: two pairs would need two files.
        config.identity.rsa_key_file = PathBuf::new();
        load(&config, NOON).unwrap().rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
        config.identity.rsa_key_file = config.data_dir.join("keys/rsa.pem");
        assert!(load(&config, NOON).unwrap_err().to_string().contains("rotation is under way"));
    }

    #[test]
    fn others_may_not_read_the_new_files_either() {
        for name in ["rsa-2.pem", "ed25519-2.pem", "rotation.json"] {
            let (_dir, config) = data();
            load(&config, NOON).unwrap().rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
            let path = config.data_dir.join("keys").join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            let error = format!("{:#}", load(&config, NOON).unwrap_err());
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    /// A kill leaves some of the files that a step changes, in the order in which it changes them. Every such moment must
    /// find keys, the same before and after a look, and let a rotation go on.
    #[test]
    fn killed_at_any_moment_there_is_a_key_and_the_rotation_goes_on() {
        let (_dir, config) = data();
        let folder = config.data_dir.join("keys");
        let identity = load(&config, NOON).unwrap();
        let (switch, end) = (NOON.plus(HOLD), NOON.plus(HOLD).plus(FAREWELL));
        let snapshot = || {
            let dir = tempfile::tempdir().unwrap();
            copy(&folder, dir.path());
            dir
        };
        let mut states = vec![snapshot()];
        identity.rotation.rotate(Rotate::After(HOLD), NOON, second_pair).unwrap();
        states.push(snapshot());
        identity.rotation.advance(switch).unwrap();
        states.push(snapshot());
        identity.rotation.told(2).unwrap();
        identity.rotation.advance(end).unwrap();
        states.push(snapshot());
        identity.rotation.rotate(Rotate::Now, end, third_pair).unwrap();
        states.push(snapshot());

        let mut moments = 0;
        for step in states.windows(2) {
            let [before, after] = step else { unreachable!() };
            let (old, new) = (names(before.path()), names(after.path()));
            let keys = |name: &&String| name.ends_with(".pem");
            let added: Vec<_> = new.iter().filter(|name| !old.contains(name)).filter(keys).collect();
            let gone: Vec<_> = old.iter().filter(|name| !new.contains(name)).filter(keys).collect();
            // New keys one by one, then the book, then old keys go one by one.
            for done in 0..=added.len() + 1 + gone.len() {
                let (_dir, config) = data();
                let folder = config.data_dir.join("keys");
                for name in names(&folder) {
                    std::fs::remove_file(folder.join(name)).unwrap();
                }
                copy(before.path(), &folder);
                for name in added.iter().take(done) {
                    std::fs::copy(after.path().join(name), folder.join(name)).unwrap();
                }
                if done > added.len() {
                    std::fs::copy(after.path().join("rotation.json"), folder.join("rotation.json")).unwrap();
                }
                for name in gone.iter().take(done.saturating_sub(added.len() + 1)) {
                    std::fs::remove_file(folder.join(name)).unwrap();
                }
                std::fs::write(folder.join(".new-abc"), "half a file").unwrap();

                let identity = load(&config, end).unwrap();
                let signs = identity.keys.signs().rsa.key_id().clone();
                assert!(!identity.keys.signs().rsa.sign(b"m").is_empty());
                identity.rotation.tidy().unwrap();
                assert!(!folder.join(".new-abc").exists());
                let identity = load(&config, end).unwrap();
                assert_eq!(identity.keys.signs().rsa.key_id(), &signs, "a look changes nothing");
                while identity.rotation.advance(end.plus(FAREWELL)).unwrap() {}
                while identity.rotation.advance(end.plus(FAREWELL).plus(FAREWELL)).unwrap() {}
                identity.rotation.rotate(Rotate::After(HOLD), end, third_pair).unwrap();
                assert!(load(&config, end).unwrap().keys.standing().coming.is_some());
                moments += 1;
            }
        }
        assert!(moments >= 12, "{moments}");
    }
}

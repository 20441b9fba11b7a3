//! Who we are: the ids of our actor and the keys it signs with; made at the first start and read at every other. What the
//! actor document says is `wire::author`'s; rotating keys is not here yet.
//!
//! Promises: a key file is created whole or not at all, readable by its owner only, and is on the disk before anything is
//! signed with it: other servers remember the first key they see. A key that others can read stops the start.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::ids::Iri;
use crate::net::Keys;
use crate::wire::author::OurIds;
use crate::wire::key::{KeyFault, SigningKey};

/// The largest key file read: an RSA key of 8192 bits is a tenth of it.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Our actor. Cheap to clone; `Debug` shows no secrets.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The ids of the actor and what belongs to it.
    pub ids: Arc<OurIds>,
    /// Its keys.
    pub keys: Arc<Keys>,
    /// Since when it exists: the actor's `published`.
    pub created: Timestamp,
}

impl Identity {
    /// Reads the keys, or makes those that are not there: `rsa.pem` and `ed25519.pem` in `data_dir/keys`, unless
    /// `identity.rsa_key_file` and `identity.ed25519_key_file` name others, which must exist.
    ///
    /// Blocks: on the disk, and for a second or so where an RSA key is made. For the start.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood, one that others may read, or an actor path that makes no id;
    /// each with the path and what to do.
    pub fn load_or_create(config: &Config, public_url: &str, now: Timestamp) -> anyhow::Result<Self> {
        let settings = &config.identity;
        let ids = OurIds::new(public_url, &settings.actor_path, &settings.key_fragment, &settings.username)
            .with_context(|| format!("making the relay's ids from {public_url:?} and `identity.actor_path`"))?;
        ensure!(
            ids.key_id != ids.ed25519_key_id,
            "identity.key_fragment: {:?} is the name of the Ed25519 key; choose another",
            settings.key_fragment
        );
        let folder = config.data_dir.join("keys");
        make_folder(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let rsa = Slot { folder: &folder, configured: &settings.rsa_key_file, name: "rsa.pem", ed25519: false };
        let ed25519 =
            Slot { folder: &folder, configured: &settings.ed25519_key_file, name: "ed25519.pem", ed25519: true };
        let keys = Keys { rsa: rsa.key(&ids.key_id)?, ed25519: ed25519.key(&ids.ed25519_key_id)? };
        let created = created(&folder.join("created"), now)?;
        Ok(Self { ids: Arc::new(ids), keys: Arc::new(keys), created })
    }
}

/// The place of one key.
struct Slot<'a> {
    folder: &'a Path,
    /// The operator's own file; empty if there is none.
    configured: &'a Path,
    name: &'a str,
    ed25519: bool,
}

impl Slot<'_> {
    fn key(&self, id: &Iri) -> anyhow::Result<SigningKey> {
        let path = self.path();
        let reading = || format!("reading the key {}", path.display());
        if !path.exists() {
            ensure!(self.configured.as_os_str().is_empty(), "{}: there is no such file", reading());
            let key = self.make(id).with_context(|| format!("making the key {}", path.display()))?;
            let written = create(&path, key.to_pem().as_bytes());
            if written.with_context(|| format!("writing the key {}", path.display()))? {
                tracing::info!(path = %path.display(), key.id = %id, "made a key: back it up, it is who we are");
            }
            // Read back in any case: if another process was faster, its key is the one.
        }
        let text = read_private(&path).with_context(reading)?;
        let key = SigningKey::from_pem(id.clone(), &text).with_context(reading)?;
        if key.is_ed25519() != self.ed25519 {
            bail!("{}: it is no {} key", reading(), if self.ed25519 { "Ed25519" } else { "RSA" });
        }
        Ok(key)
    }

    fn path(&self) -> PathBuf {
        if self.configured.as_os_str().is_empty() { self.folder.join(self.name) } else { self.configured.to_owned() }
    }

    fn make(&self, id: &Iri) -> Result<SigningKey, KeyFault> {
        let mut rng = rand::rng();
        if self.ed25519 {
            SigningKey::generate_ed25519(id.clone(), &mut rng)
        } else {
            SigningKey::generate_rsa(id.clone(), &mut rng)
        }
    }
}

/// A folder that only its owner may enter, and its parents where they are missing.
fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Reads a file that nobody else may read.
fn read_private(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    ensure!(about.is_file(), "it is no file");
    let mode = about.permissions().mode() & 0o777;
    ensure!(mode & 0o077 == 0, "others may read it (mode {mode:03o}): chmod 600 {}", path.display());
    ensure!(about.len() <= MAX_FILE_BYTES, "it is too long for a key");
    Ok(Zeroizing::new(std::io::read_to_string(file)?))
}

/// Creates a file with mode 0600, whole and on the disk, or not at all. `false`: there is one already, left as it is.
fn create(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // Made with mode 0600, and removed again if we do not get to the end.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_file) => {}
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.error),
    }
    File::open(folder)?.sync_all()?;
    Ok(true)
}

/// The moment of the first start, written down then.
fn created(path: &Path, now: Timestamp) -> anyhow::Result<Timestamp> {
    if !path.exists() {
        create(path, format!("{}\n", now.rfc3339()).as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Timestamp::from_rfc3339(text.trim())
        .with_context(|| format!("{} holds no time such as {}", path.display(), now.rfc3339()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../tests/fixtures/keys/relay.rsa.pk8.pem");
    const ED25519: &str = include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem");
    const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

    /// A data folder with an RSA key, since making one takes too long here.
    fn data() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::embedded();
        config.data_dir = dir.path().join("deep/data");
        make_folder(&config.data_dir.join("keys")).unwrap();
        assert!(create(&config.data_dir.join("keys/rsa.pem"), RSA.as_bytes()).unwrap());
        (dir, config)
    }

    fn load(config: &Config, now: Timestamp) -> anyhow::Result<Identity> {
        Identity::load_or_create(config, "https://relay.example", now)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_for_their_owner_only() {
        let (_dir, config) = data();
        let keys = config.data_dir.join("keys");
        let first = load(&config, NOON).unwrap();
        let again = load(&config, NOON.plus(std::time::Duration::from_secs(86_400))).unwrap();
        assert_eq!(first.keys.ed25519.public(), again.keys.ed25519.public());
        assert_eq!((first.created, again.created), (NOON, NOON));
        assert_eq!(first.keys.rsa.key_id().as_str(), "https://relay.example/actor#main-key");
        assert_eq!(first.keys.ed25519.key_id(), &first.ids.ed25519_key_id);
        assert_eq!((mode(&keys), mode(&keys.join("ed25519.pem"))), (0o700, 0o600));
        assert_eq!(mode(&config.data_dir), 0o700, "the folder above them too");
        let mut names: Vec<_> = std::fs::read_dir(&keys).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["created", "ed25519.pem", "rsa.pem"], "nothing half-made stays behind");
    }

    #[test]
    fn a_key_that_others_may_read_stops_the_start() {
        for bad in [0o640, 0o604, 0o660, 0o644, 0o601] {
            let (_dir, config) = data();
            let path = config.data_dir.join("keys/rsa.pem");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bad)).unwrap();
            let error = format!("{:#}", load(&config, NOON).unwrap_err());
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{bad:o}: {error}");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
            assert!(load(&config, NOON).is_ok());
        }
    }

    #[test]
    fn the_operators_own_keys_are_used_and_must_be_there() {
        let (dir, mut config) = data();
        let own = dir.path().join("own.pem");
        config.identity.ed25519_key_file = own.clone();
        let error = format!("{:#}", load(&config, NOON).unwrap_err());
        assert!(error.contains("own.pem") && error.contains("no such file"), "{error}");
        create(&own, ED25519.as_bytes()).unwrap();
        let identity = load(&config, NOON).unwrap();
        let expected = SigningKey::from_pem(identity.ids.ed25519_key_id.clone(), ED25519).unwrap();
        assert_eq!(identity.keys.ed25519.public(), expected.public());
        assert!(!config.data_dir.join("keys/ed25519.pem").exists());
    }

    #[test]
    fn what_is_no_key_is_named_with_its_path() {
        let wrong_kind = "it is no RSA key";
        for (text, expected) in [("", "not PEM"), ("not a key", "not PEM"), (ED25519, wrong_kind)] {
            let (_dir, config) = data();
            std::fs::write(config.data_dir.join("keys/rsa.pem"), text).unwrap();
            let error = format!("{:#}", load(&config, NOON).unwrap_err());
            assert!(error.contains("keys/rsa.pem") && error.contains(expected), "{error}");
        }
        let (_dir, mut config) = data();
        config.identity.key_fragment = "ed25519-key".to_owned();
        assert!(load(&config, NOON).unwrap_err().to_string().contains("key_fragment"));
    }

    #[test]
    fn an_existing_file_is_never_overwritten_and_secrets_are_never_shown() {
        let (_dir, config) = data();
        let path = config.data_dir.join("keys/rsa.pem");
        assert!(!create(&path, b"other").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), RSA);
        let shown = format!("{:?}", load(&config, NOON).unwrap());
        assert!(!shown.contains("PRIVATE") && !shown.contains(&RSA[60..80]), "{shown}");
    }
}

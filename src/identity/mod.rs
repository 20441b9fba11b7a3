//! Who we are: the ids of our actors, what people read about them, and the keys they sign with; made at the first start, read
//! at every other, replaced by [`Rotation`]. How the actor document is put is `wire::author`'s.
//!
//! Promises: a key file is created whole or not at all, readable by its owner only, and is on the disk before anything is
//! signed with it: other servers remember the first key they see. A key that others can read stops the start, and so does
//! one that is gone: a new key under its id would be taken for a forgery.

mod book;
mod copy;
mod files;
mod folder;
mod keeper;
mod rotation;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

pub use book::{FAREWELL, HOLD};
pub use copy::copy_keys;
pub use keeper::KeyKeeper;
pub use rotation::{KeyLine, KeyStatus, PairLine, Rotate, Rotation, new_pair};

use crate::clock::Timestamp;
use crate::config::{Admission, Config};
use crate::net::KeyRing;
use crate::wire::author::{self, ListedKey, OurIds, Profile};
use crate::wire::key::SigningKey;
use book::Book;
use folder::KeyFolder;

/// Where the search actor is.
const SEARCH_ACTOR: &str = "/search/actor";

/// Our actors: the relay's, and the one that servers switch search on by. Cheap to clone; `Debug` shows no secrets.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The ids of the relay's actor and what belongs to it.
    pub ids: Arc<OurIds>,
    /// The ids of the search actor. Whether there is one is the configuration's: who blocked it once means it still.
    pub search: Arc<OurIds>,
    /// The relay's keys, as they stand at each moment; the search actor has the same under ids of its own.
    pub keys: KeyRing,
    /// How its keys are replaced.
    pub rotation: Rotation,
    /// Since when it exists: the actor's `published`.
    pub created: Timestamp,
    profile: Arc<Profile>,
    search_profile: Arc<Profile>,
}

impl Identity {
    /// Reads the keys. At the first start makes those that are not there: `rsa.pem` and `ed25519.pem` in `data_dir/keys`,
    /// unless `identity.rsa_key_file` and `identity.ed25519_key_file` name others, which must exist.
    ///
    /// Blocks: on the disk, and for a second or so where an RSA key is made. For the start.
    ///
    /// # Errors
    /// A file that cannot be read, written or understood, one that others may read, or an actor path that makes no id;
    /// each with the path and what to do.
    pub fn load_or_create(config: &Config, public_url: &str, now: Timestamp) -> anyhow::Result<Self> {
        let folder = KeyFolder::open(config, public_url)?;
        let book = folder.book()?;
        if folder.created()?.is_none() {
            ensure!(
                book.is_none(),
                "{}/created is gone: restore it from a backup, or write the moment of the first start into it",
                folder.path().display()
            );
            folder.begin(now)?;
        }
        let Some(created) = folder.created()? else { bail!("{}/created is gone", folder.path().display()) };
        if book.is_none() && folder.highest()? > 1 {
            tracing::warn!(
                folder = %folder.path().display(),
                "there are key files of a rotation that `rotation.json` should tell of and does not: if that file was lost, \
                 restore it from a backup; else they are left over and not used"
            );
        }
        let book = book.unwrap_or_else(|| Book::first(created));
        let keys = KeyRing::new(folder.standing(&book)?);
        let ids = folder.ids.clone();
        let search = OurIds::new(public_url, SEARCH_ACTOR, &config.identity.key_fragment, &config.search.username)
            .context("making the ids of the search actor")?;
        let (profile, search_profile) = (profile(config, &ids, created), search_profile(config, &search, created));
        let rotation = Rotation::new(folder, book, Some(keys.clone()));
        Ok(Self {
            ids,
            search: Arc::new(search),
            keys,
            rotation,
            created,
            profile: Arc::new(profile),
            search_profile: Arc::new(search_profile),
        })
    }

    /// The relay's actor document, as it stands now.
    #[must_use]
    pub fn document(&self) -> Value {
        self.put(&self.ids, &self.profile)
    }

    /// The search actor's document, as it stands now.
    #[must_use]
    pub fn search_document(&self) -> Value {
        self.put(&self.search, &self.search_profile)
    }

    fn put(&self, ids: &OurIds, profile: &Profile) -> Value {
        let standing = self.keys.standing();
        let listed = |key: &SigningKey| ListedKey { id: key.of(&ids.actor).key_id().clone(), key: key.public() };
        let mut others = vec![listed(&standing.signs.ed25519)];
        for pair in standing.listed().skip(1) {
            others.extend([listed(&pair.rsa), listed(&pair.ed25519)]);
        }
        author::actor(ids, profile, &listed(&standing.signs.rsa), &others)
    }
}

fn profile(config: &Config, ids: &OurIds, published: Timestamp) -> Profile {
    let name = &config.site.name;
    Profile {
        name: if name.is_empty() { format!("Relay at {}", ids.host()) } else { name.clone() },
        summary: format!("<p>{}</p>", escape(&config.site.summary)),
        published,
        manually_approves: config.relay.admission != Admission::Open,
    }
}

fn search_profile(config: &Config, ids: &OurIds, published: Timestamp) -> Profile {
    let name = &config.site.name;
    Profile {
        name: if name.is_empty() { format!("Search at {}", ids.host()) } else { format!("{name}: search") },
        summary:
            "<p>Takes public posts for a search: of authors whose profile says that they may be found, on servers \
                  whose admin follows this account. It never sends any. Block it, and nothing of yours is found.</p>"
                .to_owned(),
        published,
        manually_approves: config.relay.admission != Admission::Open,
    }
}

/// The operator's words go into HTML: other servers show the summary as such. Misskey refuses an empty one.
fn escape(text: &str) -> String {
    let text = if text.trim().is_empty() { "A relay." } else { text };
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::files::create;
    use super::testing::{NOON, RSA, data, load};
    use crate::wire::key::SigningKey;

    const ED25519: &str = include_str!("../../tests/fixtures/keys/relay.ed25519.pk8.pem");

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_once_for_their_owner_only() {
        let (_dir, config) = data();
        let keys = config.data_dir.join("keys");
        let first = load(&config, NOON).unwrap();
        let again = load(&config, NOON.plus(std::time::Duration::from_secs(86_400))).unwrap();
        assert_eq!(first.keys.signs().ed25519.public(), again.keys.signs().ed25519.public());
        assert_eq!((first.created, again.created), (NOON, NOON));
        assert_eq!(first.keys.signs().rsa.key_id().as_str(), "https://relay.example/actor#main-key");
        assert_eq!(first.keys.signs().ed25519.key_id(), &first.ids.ed25519_key_id);
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
        assert_eq!(identity.keys.signs().ed25519.public(), expected.public());
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
    fn a_key_that_is_gone_stops_the_start_and_is_not_made_anew_under_its_id() {
        for name in ["rsa.pem", "ed25519.pem"] {
            let (_dir, config) = data();
            load(&config, NOON).unwrap();
            std::fs::remove_file(config.data_dir.join("keys").join(name)).unwrap();
            let error = format!("{:#}", load(&config, NOON).unwrap_err());
            assert!(error.contains(name) && error.contains("backup") && error.contains("keys rotate --now"), "{error}");
            assert!(!config.data_dir.join("keys").join(name).exists());
        }
    }

    #[test]
    fn the_search_actor_has_the_same_keys_under_ids_of_its_own() {
        let (_dir, config) = data();
        let identity = load(&config, NOON).unwrap();
        let (relay, search) = (identity.document(), identity.search_document());
        assert_eq!(search["id"], "https://relay.example/search/actor");
        assert_eq!(search["inbox"], "https://relay.example/search/inbox");
        assert_eq!((&search["type"], &search["preferredUsername"]), (&"Application".into(), &"search".into()));
        assert_eq!(search["publicKey"]["id"], "https://relay.example/search/actor#main-key");
        assert_eq!(search["publicKey"]["owner"], search["id"]);
        assert_eq!(search["publicKey"]["publicKeyPem"], relay["publicKey"]["publicKeyPem"]);
        let other = &search["assertionMethod"][0];
        assert_eq!(other["id"], "https://relay.example/search/actor#ed25519-key");
        assert_eq!(other["controller"], search["id"]);
        assert_eq!(other["publicKeyMultibase"], relay["assertionMethod"][0]["publicKeyMultibase"]);
    }

    #[test]
    fn secrets_are_never_shown() {
        let (_dir, config) = data();
        let shown = format!("{:?}", load(&config, NOON).unwrap());
        assert!(!shown.contains("PRIVATE") && !shown.contains(&RSA[60..80]), "{shown}");
    }
}

//! The folder `data_dir/keys`: pairs of key files by number, `rotation.json` which says which pair does what, and the moment
//! of the first start. A pair's files are written before the book names them and removed after it names them no longer,
//! so whatever moment the power goes, the book that is found names keys that are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use super::book::{Book, Term};
use super::files::{NEW, create, make_folder, read_private, remove, replace};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::ids::Iri;
use crate::net::{Keys, Standing, Untold};
use crate::wire::author::OurIds;
use crate::wire::key::{KeyFault, SigningKey};

/// The book's file.
pub(super) const BOOK: &str = "rotation.json";

/// The folder, and which keys are not in it.
#[derive(Debug)]
pub(super) struct KeyFolder {
    path: PathBuf,
    pub(super) ids: Arc<OurIds>,
    /// The operator's own files; empty where there is none.
    own_rsa: PathBuf,
    own_ed25519: PathBuf,
}

/// The two keys of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    Ed25519,
}

impl Kind {
    const fn stem(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::Ed25519 => "Ed25519",
        }
    }
}

impl KeyFolder {
    /// The folder of this configuration, made if it is not there.
    pub(super) fn open(config: &Config, public_url: &str) -> anyhow::Result<Self> {
        let settings = &config.identity;
        let ids = OurIds::new(public_url, &settings.actor_path, &settings.key_fragment, &settings.username)
            .with_context(|| format!("making the relay's ids from {public_url:?} and `identity.actor_path`"))?;
        ensure!(
            !settings.key_fragment.starts_with("ed25519-key"),
            "identity.key_fragment: {:?} is the name of an Ed25519 key; choose another",
            settings.key_fragment
        );
        let path = config.data_dir.join("keys");
        make_folder(&path).with_context(|| format!("creating {}", path.display()))?;
        let (own_rsa, own_ed25519) = (settings.rsa_key_file.clone(), settings.ed25519_key_file.clone());
        Ok(Self { path, ids: Arc::new(ids), own_rsa, own_ed25519 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The setting that names a key which is not ours to replace.
    pub(super) fn own(&self) -> Option<&'static str> {
        let named = |kind: Kind, setting: &'static str| self.own_file(kind).map(|_file| setting);
        named(Kind::Rsa, "identity.rsa_key_file").or_else(|| named(Kind::Ed25519, "identity.ed25519_key_file"))
    }

    fn own_file(&self, kind: Kind) -> Option<&Path> {
        let own = match kind {
            Kind::Rsa => &self.own_rsa,
            Kind::Ed25519 => &self.own_ed25519,
        };
        (!own.as_os_str().is_empty()).then_some(own)
    }

    /// The book; `None` before the first rotation.
    pub(super) fn book(&self) -> anyhow::Result<Option<Book>> {
        let path = self.path.join(BOOK);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_private(&path).with_context(|| format!("reading {}", path.display()))?;
        match Book::read(&text) {
            Ok(book) => Ok(Some(book)),
            Err(why) => bail!("reading {}: {why}. Restore it from a backup, together with the keys", path.display()),
        }
    }

    pub(super) fn write(&self, book: &Book) -> anyhow::Result<()> {
        let path = self.path.join(BOOK);
        replace(&path, book.text().as_bytes()).with_context(|| format!("writing {}", path.display()))
    }

    /// The moment of the first start, if there was one.
    pub(super) fn created(&self) -> anyhow::Result<Option<Timestamp>> {
        let path = self.path.join("created");
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let at = Timestamp::from_rfc3339(text.trim());
        at.map(Some).with_context(|| format!("{} holds no time such as 2026-08-23T12:00:00Z", path.display()))
    }

    /// The first start: makes the first pair, and notes the moment when it is there.
    pub(super) fn begin(&self, now: Timestamp) -> anyhow::Result<()> {
        let (rsa, ed25519) = self.ids.keys(1)?;
        let mut rng = rand::rng();
        let missing = |kind: Kind| self.own_file(kind).is_none() && !self.file(kind, 1).exists();
        if missing(Kind::Rsa) {
            self.put(Kind::Rsa, 1, &SigningKey::generate_rsa(rsa, &mut rng)?)?;
        }
        if missing(Kind::Ed25519) {
            self.put(Kind::Ed25519, 1, &SigningKey::generate_ed25519(ed25519, &mut rng)?)?;
        }
        // With keys that cannot be read it was no start.
        self.keys(1)?;
        let path = self.path.join("created");
        create(&path, format!("{}\n", now.rfc3339()).as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(())
    }

    /// Makes a pair and writes it down. Its number must be new.
    pub(super) fn make(&self, pair: u32, make: impl FnOnce(Iri, Iri) -> Result<Keys, KeyFault>) -> anyhow::Result<()> {
        let (rsa, ed25519) = self.ids.keys(pair)?;
        let keys = make(rsa, ed25519)?;
        for (kind, key) in [(Kind::Rsa, &keys.rsa), (Kind::Ed25519, &keys.ed25519)] {
            ensure!(self.put(kind, pair, key)?, "{} is there already", self.file(kind, pair).display());
        }
        Ok(())
    }

    /// `false`: another process was faster, its key is the one.
    fn put(&self, kind: Kind, pair: u32, key: &SigningKey) -> anyhow::Result<bool> {
        let path = self.file(kind, pair);
        let written =
            create(&path, key.to_pem().as_bytes()).with_context(|| format!("writing the key {}", path.display()))?;
        if written {
            tracing::info!(path = %path.display(), key.id = %key.key_id(), "made a key: back it up, it is who we are");
        }
        Ok(written)
    }

    /// A pair. A file of it that is not there is never made anew here: other servers know the key that was in it.
    pub(super) fn keys(&self, pair: u32) -> anyhow::Result<Keys> {
        let (rsa, ed25519) = self.ids.keys(pair)?;
        Ok(Keys { rsa: self.key(Kind::Rsa, pair, rsa)?, ed25519: self.key(Kind::Ed25519, pair, ed25519)? })
    }

    fn key(&self, kind: Kind, pair: u32, id: Iri) -> anyhow::Result<SigningKey> {
        let (path, id) = match (self.own_file(kind), kind) {
            (None, _) => (self.file(kind, pair), id),
            // Their ids do not count: who replaces such a key gives it another fragment.
            (Some(own), Kind::Rsa) => (own.to_owned(), self.ids.key_id.clone()),
            (Some(own), Kind::Ed25519) => (own.to_owned(), self.ids.ed25519_key_id.clone()),
        };
        let reading = || format!("reading the key {}", path.display());
        if !path.exists() {
            ensure!(self.own_file(kind).is_none(), "{}: there is no such file", reading());
            bail!(
                "{}: it is gone, and other servers know this relay by it. Restore it from a backup; if there is none, \
                 `shearwater keys rotate --now` makes a new pair",
                reading()
            );
        }
        let text = read_private(&path).with_context(reading)?;
        let key = SigningKey::from_pem(id, &text).with_context(reading)?;
        ensure!(key.is_ed25519() == (kind == Kind::Ed25519), "{}: it is no {} key", reading(), kind.name());
        Ok(key)
    }

    /// All pairs that the book names. Who was told of the one that signs is not in it: nobody, until somebody looks.
    pub(super) fn standing(&self, book: &Book) -> anyhow::Result<Standing> {
        let more = |term: Option<Term>| term.map(|term| self.keys(term.pair).map(Arc::new)).transpose();
        let (coming, leaving) = (more(book.coming)?, more(book.leaving)?);
        if let (Some(own), true) = (self.own(), coming.is_some() || leaving.is_some()) {
            bail!("{own} names a key of your own while a rotation is under way: set it when that has ended");
        }
        let untold = if leaving.is_some() { Untold::Everybody } else { Untold::Nobody };
        Ok(Standing { signs: Arc::new(self.keys(book.signs.pair)?), coming, leaving, untold })
    }

    /// The highest number of which there is a file, named by the book or left over.
    pub(super) fn highest(&self) -> anyhow::Result<u32> {
        Ok(self.numbered()?.into_iter().map(|(pair, _path)| pair).max().unwrap_or(1))
    }

    /// Removes the pairs that the book, which must be on the disk, does not name: dropped ones, and those of a rotation that
    /// did not get as far as the book.
    pub(super) fn sweep(&self, book: &Book) -> anyhow::Result<()> {
        let kept: Vec<u32> = book.pairs().collect();
        for (_pair, path) in self.numbered()?.into_iter().filter(|(pair, _path)| !kept.contains(pair)) {
            remove(&path).with_context(|| format!("removing {}", path.display()))?;
            tracing::info!(path = %path.display(), "removed a key that is used no longer");
        }
        Ok(())
    }

    /// Removes files that a kill left half written. For the one process that writes here.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        let reading = || format!("reading {}", self.path.display());
        for entry in std::fs::read_dir(&self.path).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            if entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) {
                remove(&entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    fn file(&self, kind: Kind, pair: u32) -> PathBuf {
        let kind = kind.stem();
        self.path.join(if pair == 1 { format!("{kind}.pem") } else { format!("{kind}-{pair}.pem") })
    }

    /// Our key files and their pairs. Files of any other name are the operator's and none of our business.
    fn numbered(&self) -> anyhow::Result<Vec<(u32, PathBuf)>> {
        let reading = || format!("reading {}", self.path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(stem) = name.strip_suffix(".pem") else { continue };
            let rest = stem.strip_prefix("rsa").or_else(|| stem.strip_prefix("ed25519"));
            let pair = match rest {
                Some("") => Some(1),
                Some(rest) => rest.strip_prefix('-').and_then(|digits| digits.parse().ok()).filter(|pair| *pair > 1),
                None => None,
            };
            found.extend(pair.map(|pair| (pair, path)));
        }
        Ok(found)
    }
}

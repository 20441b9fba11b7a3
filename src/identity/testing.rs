//! For tests of this room: a data folder with keys, and pairs that were made before.

use super::files::{create, make_folder};
use super::*;
use crate::ids::Iri;
use crate::net::Keys;
use crate::wire::key::KeyFault;

pub(super) const RSA: &str = include_str!("../../tests/fixtures/keys/relay.rsa.pk8.pem");
pub(super) const NOON: Timestamp = Timestamp::from_secs(1_787_486_400);

/// A data folder with an RSA key, since making one takes too long here.
pub(super) fn data() -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::embedded();
    config.data_dir = dir.path().join("deep/data");
    make_folder(&config.data_dir.join("keys")).unwrap();
    assert!(create(&config.data_dir.join("keys/rsa.pem"), RSA.as_bytes()).unwrap());
    (dir, config)
}

pub(super) fn load(config: &Config, now: Timestamp) -> anyhow::Result<Identity> {
    Identity::load_or_create(config, "https://relay.example", now)
}

/// A pair whose RSA key is at hand.
pub(super) fn second_pair(rsa: Iri, ed25519: Iri) -> Result<Keys, KeyFault> {
    Ok(Keys {
        rsa: SigningKey::from_pem(rsa, include_str!("../../tests/fixtures/keys/author.rsa.pk8.pem"))?,
        ed25519: SigningKey::generate_ed25519(ed25519, &mut rand::rng())?,
    })
}

/// The same with another RSA key.
pub(super) fn third_pair(rsa: Iri, ed25519: Iri) -> Result<Keys, KeyFault> {
    let pem = include_str!("../../tests/fixtures/keys/subscriber.rsa.pk8.pem");
    Ok(Keys { rsa: SigningKey::from_pem(rsa, pem)?, ..second_pair(ed25519.clone(), ed25519)? })
}

//! A small pool of throw-away RSA-2048 keys that all simulated actors share, so that a hundred instances start in an
//! instant. They are worthless: they were made for this file, are public, and sign nothing outside of loopback.
//!
//! Signing and verifying happen here with `aws-lc-rs` directly and not through the crate's own protocol code: the demo
//! is an independent witness of what the relay does.

use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};

const PEMS: [&str; 6] = [
    include_str!("keys/a.pem"),
    include_str!("keys/b.pem"),
    include_str!("keys/c.pem"),
    include_str!("keys/d.pem"),
    include_str!("keys/e.pem"),
    include_str!("keys/f.pem"),
];

#[expect(clippy::expect_used, reason = "the PEM files are part of the binary; the tests load them all")]
static POOL: LazyLock<Vec<Key>> =
    LazyLock::new(|| PEMS.iter().map(|text| Key::read(text).expect("an embedded key is readable")).collect());

/// One key pair of the pool.
pub(super) struct Key {
    pair: KeyPair,
    public_pem: String,
}

/// The key at `index`, counted around the pool.
pub(super) fn key(index: usize) -> &'static Key {
    let pool: &'static [Key] = POOL.as_slice();
    &pool[index % pool.len()]
}

impl Key {
    fn read(text: &str) -> Option<Self> {
        let der = pem::parse(text).ok()?;
        let pair = KeyPair::from_pkcs8(der.contents()).ok()?;
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).ok()?;
        let block = pem::Pem::new("PUBLIC KEY", spki.as_ref());
        let public_pem = pem::encode_config(&block, pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF));
        Some(Self { pair, public_pem })
    }

    /// The public half as servers publish it: SPKI, PEM.
    pub(super) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// RSA PKCS#1 v1.5 with SHA-256 over `message`. Empty only if the system has no randomness left for blinding.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        match self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature) {
            Ok(()) => signature,
            Err(_) => Vec::new(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(throw-away)")
    }
}

/// Whether `signature` over `message` was made with the private half of the key in `public_pem` (SPKI or PKCS#1).
pub(super) fn holds(public_pem: &str, message: &[u8], signature: &[u8]) -> bool {
    pem::parse(public_pem).is_ok_and(|block| {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, block.contents()).verify(message, signature).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_pool_verifies_what_it_signed_and_no_other_does() {
        for index in 0..PEMS.len() {
            let signature = key(index).sign(b"hello");
            assert!(holds(key(index).public_pem(), b"hello", &signature));
            assert!(!holds(key(index).public_pem(), b"hullo", &signature));
            assert!(!holds(key(index + 1).public_pem(), b"hello", &signature));
        }
    }
}

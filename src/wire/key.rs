//! Keys: reading the odd forms in which servers publish them, checking signatures with them, and our own, which sign.
//!
//! The `rsa` crate makes keys and nothing else; `aws-lc-rs` reads, writes, signs and verifies (constant time, and ten
//! times faster). The algorithm follows from the key, never from a label beside the signature. Secrets are zeroed when
//! dropped wherever a copy is ours to zero, and no `Debug` shows them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian, AsDer};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, RsaParameters, UnparsedPublicKey,
};
use rand::CryptoRng;
use rsa::pkcs8::EncodePrivateKey as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ids::Iri;

/// Length of the RSA keys we make, in bits. WordPress picks the hash from the key size (3072 and more means another
/// one than SHA-256), so a longer key would be refused there.
pub const RSA_BITS: usize = 2048;

/// The longest PEM or multibase text we look at, in bytes: twice what an RSA key of 8192 bits with its secret needs.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Multicodec prefix of an Ed25519 public key (FEP-521a).
const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];

/// Multicodec prefix of an RSA public key, a PKCS#1 `RSAPublicKey` in DER (`rsa-pub`, 0x1205).
const RSA_MULTICODEC: [u8; 2] = [0x85, 0x24];

/// The longest multibase text we decode, in characters: base58 costs the square of its length, and an RSA key of 8192
/// bits has 1421.
const MAX_MULTIBASE: usize = 1500;

/// An Ed25519 `SubjectPublicKeyInfo` without its 32 key bytes (RFC 8410 section 4).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 PKCS#8 version 1 document without its 32 secret bytes (RFC 8410 section 7), as `openssl genpkey` writes.
const ED25519_PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why a key is not taken. The texts are fit for the other server's admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// No PEM block, or its contents are not base64.
    #[error("the key is not PEM")]
    NotPem,
    /// Not a multibase base58btc key of Ed25519 (`z6Mk…`) or RSA (`z4MX…`).
    #[error("the key is not a base58btc Multikey of Ed25519 or RSA")]
    NotMultibase,
    /// Neither RSA nor Ed25519, or damaged.
    #[error("the key is neither an RSA nor an Ed25519 key")]
    Unreadable,
    /// RSA, but shorter than 2048 or longer than 8192 bits.
    #[error("the RSA key has {0} bits; 2048 to 8192 are taken")]
    Size(u32),
    /// The generator or the crypto library gave up.
    #[error("a key could not be made")]
    NotMade,
}

/// What a signature is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what nearly everyone signs with.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-512: verified (GoToSocial, Friendica know it), never made.
    RsaSha512,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// Somebody's public key. Cheap to clone; equal when the key itself is equal, however it was written.
#[derive(Clone)]
pub enum PublicKey {
    /// RSA of 2048 to 8192 bits.
    Rsa(RsaKey),
    /// Ed25519.
    Ed25519(Ed25519Key),
}

/// An RSA public key, parsed once.
#[derive(Clone)]
pub struct RsaKey {
    /// `SubjectPublicKeyInfo`, DER.
    spki: Arc<[u8]>,
    parsed: Arc<ParsedPublicKey>,
}

/// An Ed25519 public key.
#[derive(Clone)]
pub struct Ed25519Key {
    raw: [u8; 32],
}

impl PublicKey {
    /// Reads a PEM block as servers publish them: SPKI or PKCS#1 whatever the label says, any line width, CRLF, blanks,
    /// text before the block. Only the first block counts.
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong with it.
    pub fn from_pem(text: &str) -> Result<Self, KeyFault> {
        Self::from_der(&pem_contents(text)?)
    }

    /// Reads DER: `SubjectPublicKeyInfo` of RSA or Ed25519, or a PKCS#1 `RSAPublicKey`.
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong with it.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyFault> {
        if let Some(raw) = der.strip_prefix(&ED25519_SPKI) {
            return Self::ed25519(raw).ok_or(KeyFault::Unreadable);
        }
        let key = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_cause| KeyFault::Unreadable)?;
        let bits = RsaParameters::public_modulus_len(key.as_ref()).map_err(|_cause| KeyFault::Unreadable)?;
        if !(2048..=8192).contains(&bits) {
            return Err(KeyFault::Size(bits));
        }
        let spki = key.as_der().map_err(|_cause| KeyFault::Unreadable)?;
        // A key is exactly its bytes: aws-lc lets pass what follows it, a key that is for RSA-PSS alone, odd parameters.
        if der != spki.as_ref() && der != pkcs1(spki.as_ref()) {
            return Err(KeyFault::Unreadable);
        }
        let parsed =
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, spki.as_ref()).map_err(|_cause| KeyFault::Unreadable)?;
        Ok(Self::Rsa(RsaKey { spki: spki.as_ref().into(), parsed: Arc::new(parsed) }))
    }

    /// Reads a Multikey (FEP-521a): base58btc with the prefix of Ed25519 (`z6Mk…`) or RSA (`z4MX…`: Mitra's and ours).
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong with it.
    pub fn from_multibase(text: &str) -> Result<Self, KeyFault> {
        let digits = text.strip_prefix('z').filter(|digits| digits.len() < MAX_MULTIBASE);
        let bytes = bs58::decode(digits.ok_or(KeyFault::NotMultibase)?).into_vec();
        let bytes = bytes.map_err(|_cause| KeyFault::NotMultibase)?;
        match bytes.strip_prefix(&RSA_MULTICODEC) {
            Some(der) => Self::from_der(der).and_then(|key| match key {
                Self::Rsa(_) => Ok(key),
                Self::Ed25519(_) => Err(KeyFault::NotMultibase),
            }),
            None => bytes.strip_prefix(&ED25519_MULTICODEC).and_then(Self::ed25519).ok_or(KeyFault::NotMultibase),
        }
    }

    fn ed25519(raw: &[u8]) -> Option<Self> {
        let raw: [u8; 32] = raw.try_into().ok()?;
        ParsedPublicKey::new(&ED25519, raw).ok()?;
        Some(Self::Ed25519(Ed25519Key { raw }))
    }

    /// The key as a `PUBLIC KEY` PEM block with 64 columns, LF and a final newline: the form every server reads (Lemmy
    /// refuses PKCS#1).
    #[must_use]
    pub fn to_spki_pem(&self) -> String {
        match self {
            Self::Rsa(key) => pem_text("PUBLIC KEY", &key.spki),
            Self::Ed25519(key) => pem_text("PUBLIC KEY", &[&ED25519_SPKI[..], &key.raw].concat()),
        }
    }

    /// The key as a Multikey value (FEP-521a).
    #[must_use]
    pub fn to_multibase(&self) -> String {
        let bytes = match self {
            Self::Rsa(key) => [&RSA_MULTICODEC[..], pkcs1(&key.spki)].concat(),
            Self::Ed25519(key) => [&ED25519_MULTICODEC[..], &key.raw].concat(),
        };
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`, in hexadecimal: for people who compare keys.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = match self {
            Self::Rsa(key) => Sha256::digest(&key.spki),
            Self::Ed25519(key) => Sha256::digest([&ED25519_SPKI[..], &key.raw].concat()),
        };
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The algorithm this key signs with unless told otherwise.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::RsaSha256,
            Self::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// The key itself, for comparing: `SubjectPublicKeyInfo` DER of an RSA key, the 32 raw bytes of an Ed25519 key.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(key) => &key.spki,
            Self::Ed25519(key) => &key.raw,
        }
    }

    /// Whether `signature` was made over `message` with this key's secret half. False when the algorithm does not
    /// belong to this kind of key.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Rsa(key), Algorithm::RsaSha256) => key.parsed.verify_sig(message, signature).is_ok(),
            (Self::Rsa(key), Algorithm::RsaSha512) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA512, &key.spki).verify(message, signature).is_ok()
            }
            (Self::Ed25519(key), Algorithm::Ed25519) => {
                UnparsedPublicKey::new(&ED25519, key.raw).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?}, {} bytes)", self.algorithm(), self.bytes().len())
    }
}

/// One of our keys: an id under which its public half is published, and the secret half. Cheap to clone.
#[derive(Clone)]
pub struct SigningKey {
    key_id: Iri,
    secret: Arc<Secret>,
    public: PublicKey,
}

enum Secret {
    Rsa(aws_lc_rs::rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Makes an RSA key of [`RSA_BITS`] bits. Takes a second or so.
    ///
    /// # Errors
    /// [`KeyFault::NotMade`].
    pub fn generate_rsa<R: CryptoRng + ?Sized>(key_id: Iri, rng: &mut R) -> Result<Self, KeyFault> {
        let key = rsa::PrivateKey::new(rng, RSA_BITS).map_err(|_cause| KeyFault::NotMade)?;
        let der = key.to_pkcs8_der().map_err(|_cause| KeyFault::NotMade)?;
        Self::from_der(key_id, der.as_bytes())
    }

    /// Makes an Ed25519 key.
    ///
    /// # Errors
    /// [`KeyFault::NotMade`].
    pub fn generate_ed25519<R: CryptoRng + ?Sized>(key_id: Iri, rng: &mut R) -> Result<Self, KeyFault> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rng.fill_bytes(&mut *seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_cause| KeyFault::NotMade)?;
        Self::from_ed25519(key_id, pair)
    }

    /// Reads a private key: PKCS#8 or PKCS#1 for RSA, PKCS#8 for Ed25519, whatever the PEM label says.
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong with it.
    pub fn from_pem(key_id: Iri, text: &str) -> Result<Self, KeyFault> {
        Self::from_der(key_id, &pem_contents(text)?)
    }

    fn from_der(key_id: Iri, der: &[u8]) -> Result<Self, KeyFault> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Self::from_ed25519(key_id, pair);
        }
        let pair = aws_lc_rs::rsa::KeyPair::from_pkcs8(der)
            .or_else(|_cause| aws_lc_rs::rsa::KeyPair::from_der(der))
            .map_err(|_cause| KeyFault::Unreadable)?;
        let public = PublicKey::from_der(pair.public_key().as_ref())?;
        Ok(Self { key_id, secret: Arc::new(Secret::Rsa(pair)), public })
    }

    fn from_ed25519(key_id: Iri, pair: Ed25519KeyPair) -> Result<Self, KeyFault> {
        let public = PublicKey::ed25519(pair.public_key().as_ref()).ok_or(KeyFault::Unreadable)?;
        Ok(Self { key_id, secret: Arc::new(Secret::Ed25519(pair)), public })
    }

    /// The secret key as a PKCS#8 (version 1) PEM block, zeroed when dropped.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        // Writing a key that was read cannot fail short of memory running out; an empty file would be refused on
        // reading, so it is the harmless answer.
        let der = match &*self.secret {
            Secret::Rsa(pair) => {
                AsDer::as_der(pair).map(|der| Zeroizing::new(der.as_ref().to_vec())).unwrap_or_default()
            }
            Secret::Ed25519(pair) => match pair.seed().and_then(|seed| seed.as_be_bytes()) {
                Ok(seed) => Zeroizing::new([&ED25519_PKCS8[..], seed.as_ref()].concat()),
                Err(_) => Zeroizing::default(),
            },
        };
        Zeroizing::new(pem_text("PRIVATE KEY", &der))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// The id under which the public half is published.
    #[must_use]
    pub const fn key_id(&self) -> &Iri {
        &self.key_id
    }

    /// The same key under the same fragment of another of our actors: each publishes it as its own.
    #[must_use]
    pub fn of(&self, actor: &Iri) -> Self {
        let fragment = self.key_id.as_str().split_once('#').map_or("main-key", |(_, fragment)| fragment);
        // Only an id that grows too long is none, and no actor of ours is that long.
        let key_id = Iri::parse(&format!("{actor}#{fragment}")).unwrap_or_else(|_too_long| self.key_id.clone());
        Self { key_id, ..self.clone() }
    }

    /// Whether this is an Ed25519 key (else RSA).
    #[must_use]
    pub const fn is_ed25519(&self) -> bool {
        matches!(self.public, PublicKey::Ed25519(_))
    }

    /// Signs `message`: RSASSA-PKCS1-v1_5 with SHA-256, or Ed25519. An empty signature, which nobody accepts, if the
    /// crypto library runs out of memory.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &*self.secret {
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                match pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature) {
                    Ok(()) => signature,
                    Err(_) => Vec::new(),
                }
            }
            Secret::Ed25519(pair) => pair.try_sign(message).map(|made| made.as_ref().to_vec()).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {:?})", self.key_id, self.public.algorithm())
    }
}

/// The PKCS#1 `RSAPublicKey` in the BIT STRING of this `SubjectPublicKeyInfo`. For RSA of 2048 to 8192 bits each of the
/// two heads before it takes four bytes (`30 82 xx xx`), and the algorithm is always the same 15.
fn pkcs1(spki: &[u8]) -> &[u8] {
    const BEFORE: usize = 4 + 15 + 4 + 1;
    spki.get(BEFORE..).unwrap_or_default()
}

/// The bytes of the first PEM block in `text`, however its lines are cut.
fn pem_contents(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(KeyFault::NotPem);
    }
    let block = pem::parse(text).map_err(|_cause| KeyFault::NotPem)?;
    Ok(Zeroizing::new(block.into_contents()))
}

fn pem_text(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("../../tests/fixtures/keys/", $name))
        };
    }

    fn id() -> Iri {
        Iri::parse("https://small.example/actor#main-key").expect("an id")
    }

    fn body(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with("---")).collect()
    }

    fn wrapped(text: &str, width: usize, end: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(width).map(|line| line.iter().collect::<String>() + end).collect()
    }

    #[test]
    fn a_public_key_is_read_however_it_was_written_down() {
        let spki = body(pem!("subscriber.rsa.spki.pem"));
        let pkcs1 = body(pem!("subscriber.rsa.pkcs1-public.pem"));
        let expected = PublicKey::from_pem(pem!("subscriber.rsa.spki.pem")).expect("the plain form");
        let block = |label: &str, text: &str| format!("-----BEGIN {label}-----\n{text}-----END {label}-----\n");
        let odd = [
            ("PKCS#1", pem!("subscriber.rsa.pkcs1-public.pem").to_owned()),
            ("SPKI labelled PKCS#1", block("RSA PUBLIC KEY", &wrapped(&spki, 64, "\n"))),
            ("PKCS#1 labelled SPKI", block("PUBLIC KEY", &wrapped(&pkcs1, 64, "\n"))),
            ("CRLF", pem!("subscriber.rsa.spki.pem").replace('\n', "\r\n")),
            ("no final newline", pem!("subscriber.rsa.spki.pem").trim_end().to_owned()),
            ("76 columns", block("PUBLIC KEY", &wrapped(&spki, 76, "\n"))),
            ("one line", block("PUBLIC KEY", &format!("{spki}\n"))),
            ("no line breaks at all", format!("-----BEGIN PUBLIC KEY-----{spki}-----END PUBLIC KEY-----")),
            ("trailing blanks", block("PUBLIC KEY", &wrapped(&spki, 64, "  \t\n"))),
            ("leading blanks", block("PUBLIC KEY", &format!("   {}", wrapped(&spki, 64, "\n   ")))),
            ("text before", format!("Bag Attributes: none\nkey of @x\n{}", pem!("subscriber.rsa.spki.pem"))),
            ("text behind", format!("{}and so on", pem!("subscriber.rsa.spki.pem"))),
            ("blank lines", format!("\n\n{}\n\n", pem!("subscriber.rsa.spki.pem"))),
            ("two blocks", pem!("subscriber.rsa.spki.pem").to_owned() + pem!("relay.rsa.spki.pem")),
        ];
        for (name, text) in odd {
            let key = PublicKey::from_pem(&text).map_err(|fault| fault.to_string());
            assert_eq!(key.as_ref(), Ok(&expected), "{name}");
            assert_eq!(key.expect(name).to_spki_pem(), pem!("subscriber.rsa.spki.pem"), "{name}");
        }
    }

    #[test]
    fn keys_of_other_sizes_and_kinds_are_told_apart() {
        let table = [
            (pem!("rsa4096.spki.pem"), Ok(Algorithm::RsaSha256)),
            (pem!("rsa8192.spki.pem"), Ok(Algorithm::RsaSha256)),
            (pem!("rsa2048-e3.spki.pem"), Ok(Algorithm::RsaSha256)),
            (pem!("relay.ed25519.spki.pem"), Ok(Algorithm::Ed25519)),
            (pem!("rsa1024.spki.pem"), Err(KeyFault::Size(1024))),
            (pem!("rsa2047-fake.spki.pem"), Err(KeyFault::Size(2047))),
            (pem!("rsa16384-fake.spki.pem"), Err(KeyFault::Size(16384))),
            (pem!("rsa2048-e1-fake.spki.pem"), Err(KeyFault::Unreadable)),
            (pem!("rsa2048-even-fake.spki.pem"), Err(KeyFault::Unreadable)),
            (pem!("rsa2048-hugee-fake.spki.pem"), Err(KeyFault::Unreadable)),
            (pem!("rsa2048-trailing-fake.spki.pem"), Err(KeyFault::Unreadable)),
            (pem!("ec-p256.spki.pem"), Err(KeyFault::Unreadable)),
            (pem!("x25519.spki.pem"), Err(KeyFault::Unreadable)),
            (pem!("subscriber.rsa.pk8.pem"), Err(KeyFault::Unreadable)),
            ("", Err(KeyFault::NotPem)),
            ("-----BEGIN PUBLIC KEY-----", Err(KeyFault::NotPem)),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", Err(KeyFault::NotPem)),
            ("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", Err(KeyFault::Unreadable)),
            ("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----", Err(KeyFault::Unreadable)),
        ];
        for (text, expected) in table {
            assert_eq!(PublicKey::from_pem(text).map(|key| key.algorithm()), expected, "{text}");
        }
        assert_eq!(PublicKey::from_pem(&"x".repeat(20_000)), Err(KeyFault::NotPem));
    }

    #[test]
    fn multikeys_are_read_and_written() {
        let text = "z6MkqGeV4MKLRwSHkNsRNNB3V5iDY2nA1S6697rQLZxUDJW2";
        let key = PublicKey::from_multibase(text).expect("a key");
        assert_eq!(key.to_multibase(), text);
        assert_eq!(Ok(&key), PublicKey::from_pem(pem!("relay.ed25519.spki.pem")).as_ref());
        assert_eq!(PublicKey::from_pem(&key.to_spki_pem()), Ok(key));
        for rsa in [pem!("relay.rsa.spki.pem"), pem!("rsa4096.spki.pem"), pem!("rsa8192.spki.pem")] {
            let key = PublicKey::from_pem(rsa).expect("a key");
            assert_eq!(PublicKey::from_multibase(&key.to_multibase()), Ok(key));
        }
        let ours = PublicKey::from_pem(pem!("relay.rsa.spki.pem")).expect("a key").to_multibase();
        assert!(ours.starts_with("z4MX"), "as FEP-521a and Mitra write an RSA key of 2048 bits: {ours}");
        let pkcs1 = PublicKey::from_pem(pem!("subscriber.rsa.pkcs1-public.pem")).expect("a key").to_multibase();
        let expected =
            [&RSA_MULTICODEC[..], &pem_contents(pem!("subscriber.rsa.pkcs1-public.pem")).expect("DER")].concat();
        assert_eq!(pkcs1, format!("z{}", bs58::encode(expected).into_string()));
        let wrong_kind = [&RSA_MULTICODEC[..], &ED25519_SPKI, &[7; 32]].concat();
        let wrong_kind = format!("z{}", bs58::encode(wrong_kind).into_string());
        assert!(PublicKey::from_multibase(&wrong_kind).is_err());
        let small = [&RSA_MULTICODEC[..], &pem_contents(pem!("rsa1024.spki.pem")).expect("DER")].concat();
        let small = PublicKey::from_multibase(&format!("z{}", bs58::encode(small).into_string()));
        assert_eq!(small, Err(KeyFault::Size(1024)));
        let rest = &text[1..];
        let bad =
            ["", "z", rest, &format!("u{rest}"), &format!("z{rest}1"), &format!("z1{rest}"), "z0OIl", &text[..40]];
        for bad in bad {
            assert_eq!(PublicKey::from_multibase(bad), Err(KeyFault::NotMultibase), "{bad}");
        }
        assert_eq!(PublicKey::from_multibase(&format!("z{}", "6".repeat(10_000))), Err(KeyFault::NotMultibase));
    }

    #[test]
    fn our_secret_keys_survive_a_file_and_never_a_log() {
        for (text, ed25519) in [
            (pem!("subscriber.rsa.pk8.pem"), false),
            (pem!("subscriber.rsa.pkcs1.pem"), false),
            (pem!("rsa4096.pk8.pem"), false),
            (pem!("relay.ed25519.pk8.pem"), true),
        ] {
            let key = SigningKey::from_pem(id(), text).expect("a key");
            let again = SigningKey::from_pem(id(), &key.to_pem()).expect("a key");
            assert_eq!(key.public(), again.public());
            assert_eq!((key.is_ed25519(), key.key_id()), (ed25519, &id()));
            let signature = again.sign(b"message");
            assert!(key.public().verify(key.public().algorithm(), b"message", &signature));
            assert!(!key.public().verify(key.public().algorithm(), b"massage", &signature));
            assert!(format!("{key:?}").len() < 80, "{key:?}");
        }
        // What openssl wrote, we write.
        let key = SigningKey::from_pem(id(), pem!("relay.ed25519.pk8.pem")).expect("a key");
        assert_eq!(*key.to_pem(), pem!("relay.ed25519.pk8.pem"));
        let key = SigningKey::from_pem(id(), pem!("subscriber.rsa.pkcs1.pem")).expect("a key");
        assert_eq!(*key.to_pem(), pem!("subscriber.rsa.pk8.pem"));
        assert_eq!(key.public().to_spki_pem(), pem!("subscriber.rsa.spki.pem"));

        let fault = |text: &str| SigningKey::from_pem(id(), text).expect_err("no key");
        assert_eq!(fault(pem!("rsa1024.pk8.pem")), KeyFault::Unreadable);
        assert_eq!(fault(pem!("subscriber.rsa.spki.pem")), KeyFault::Unreadable);
        assert_eq!(fault(pem!("ec-p256.spki.pem")), KeyFault::Unreadable);
        assert_eq!(fault("no key"), KeyFault::NotPem);
    }

    #[test]
    fn an_ed25519_key_is_made_from_the_generator_it_is_given() {
        use rand::SeedableRng as _;
        let make = |seed| {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            SigningKey::generate_ed25519(id(), &mut rng).expect("a key").public()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn an_algorithm_of_another_kind_of_key_verifies_nothing() {
        let rsa = SigningKey::from_pem(id(), pem!("subscriber.rsa.pk8.pem")).expect("a key");
        let ed25519 = SigningKey::from_pem(id(), pem!("relay.ed25519.pk8.pem")).expect("a key");
        let signature = rsa.sign(b"m");
        assert!(!rsa.public().verify(Algorithm::Ed25519, b"m", &signature));
        assert!(!rsa.public().verify(Algorithm::RsaSha512, b"m", &signature));
        assert!(!ed25519.public().verify(Algorithm::RsaSha256, b"m", &ed25519.sign(b"m")));
        assert!(!ed25519.public().verify(Algorithm::Ed25519, b"m", &[]));
    }

    /// DER by hand: keys that no tool would make.
    mod der {
        pub(super) fn of(tag: u8, contents: &[u8]) -> Vec<u8> {
            let length = contents.len();
            let head = match length {
                0..=127 => vec![length as u8],
                128..=255 => vec![0x81, length as u8],
                _ => vec![0x82, (length >> 8) as u8, length as u8],
            };
            [&[tag], &*head, contents].concat()
        }

        pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
            of(0x30, &parts.concat())
        }

        /// A number that is not negative.
        pub(super) fn number(bytes: &[u8]) -> Vec<u8> {
            of(2, &[&[0][..usize::from(bytes.first().is_none_or(|first| *first > 127))], bytes].concat())
        }

        pub(super) fn pkcs1(n: &[u8], e: &[u8]) -> Vec<u8> {
            sequence(&[number(n), number(e)])
        }

        /// `SubjectPublicKeyInfo` with this last part of 1.2.840.113549.1.1 as the algorithm.
        pub(super) fn info(algorithm: u8, parameters: &[u8], unused_bits: u8, key: &[u8]) -> Vec<u8> {
            let oid = of(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, algorithm]);
            sequence(&[sequence(&[oid, parameters.to_vec()]), of(3, &[&[unused_bits], key].concat())])
        }

        pub(super) fn spki(n: &[u8], e: &[u8]) -> Vec<u8> {
            info(1, &[5, 0], 0, &pkcs1(n, e))
        }
    }

    /// What an attacker, or a broken server, may put where a key should be. The algorithm follows from the key; the cost of
    /// checking with it is bounded.
    #[test]
    fn odd_keys_are_refused_and_those_taken_are_checked_in_five_milliseconds() {
        const E: &[u8] = &[1, 0, 1];
        let n = |pem: &str| {
            let spki = pem_contents(pem).expect("DER");
            let skip = 24 + 8 + 1;
            spki[skip..spki.len() - 5].to_vec()
        };
        let (n2048, n4096, n8192) =
            (n(pem!("relay.rsa.spki.pem")), n(pem!("rsa4096.spki.pem")), n(pem!("rsa8192.spki.pem")));
        assert_eq!((n2048.len(), n4096.len(), n8192.len()), (256, 512, 1024));
        // An odd number of so many bits.
        let bits = |count: usize| {
            let mut bytes = vec![0xff; count.div_ceil(8)];
            bytes[0] >>= (8 - count % 8) % 8;
            bytes
        };
        let with = |n: &[u8], change: fn(&mut Vec<u8>)| {
            let mut n = n.to_vec();
            change(&mut n);
            n
        };
        let good = der::spki(&n2048, E);
        let inner = der::pkcs1(&n2048, E);
        let edited = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            bytes
        };
        let ed25519 = pem_contents(pem!("relay.ed25519.spki.pem")).expect("DER").to_vec();
        let (rsa, unreadable) = (Ok(Algorithm::RsaSha256), Err(KeyFault::Unreadable));
        let size = |bits| Err(KeyFault::Size(bits));
        let corpus: Vec<(&str, Vec<u8>, Result<Algorithm, KeyFault>)> = vec![
            ("SPKI", good.clone(), rsa),
            ("PKCS#1", inner.clone(), rsa),
            ("4096 bits", der::spki(&n4096, E), rsa),
            ("8192 bits", der::spki(&n8192, E), rsa),
            ("8192 bits, PKCS#1", der::pkcs1(&n8192, E), rsa),
            ("2056 bits", der::spki(&bits(2056), E), rsa),
            ("8191 bits", der::spki(&bits(8191), E), rsa),
            ("exponent 3", der::spki(&n2048, &[3]), rsa),
            ("exponent 17", der::spki(&n2048, &[17]), rsa),
            ("exponent of 33 bits", der::spki(&n8192, &[1, 0, 0, 0, 1]), rsa),
            ("Ed25519", ed25519.clone(), Ok(Algorithm::Ed25519)),
            ("512 bits", der::spki(&bits(512), E), size(512)),
            ("1024 bits", der::spki(&bits(1024), E), size(1024)),
            ("2047 bits", der::spki(&bits(2047), E), size(2047)),
            ("8193 bits", der::spki(&bits(8193), E), size(8193)),
            ("16384 bits", der::spki(&bits(16384), E), size(16384)),
            ("1024 bits, PKCS#1", der::pkcs1(&bits(1024), E), size(1024)),
            ("modulus 0", der::spki(&[0], E), unreadable),
            ("modulus even", der::spki(&with(&n2048, |n| n[255] &= 0xfe), E), unreadable),
            (
                "modulus negative",
                der::info(1, &[5, 0], 0, &der::sequence(&[der::of(2, &n2048), der::number(E)])),
                unreadable,
            ),
            ("modulus with zeros before it", der::spki(&[&[0, 0], &*n2048].concat(), E), unreadable),
            ("exponent 0", der::spki(&n2048, &[0]), unreadable),
            ("exponent 1", der::spki(&n2048, &[1]), unreadable),
            ("exponent 2", der::spki(&n2048, &[2]), unreadable),
            ("exponent even", der::spki(&n2048, &[1, 0, 0]), unreadable),
            (
                "exponent negative",
                der::info(1, &[5, 0], 0, &der::sequence(&[der::number(&n2048), der::of(2, &[0xff])])),
                unreadable,
            ),
            ("exponent of 34 bits", der::spki(&n2048, &[2, 0, 0, 0, 1]), unreadable),
            ("exponent as long as the modulus", der::spki(&n2048, &with(&n2048, |n| n[0] = 0x7f)), unreadable),
            ("exponent missing", der::info(1, &[5, 0], 0, &der::sequence(&[der::number(&n2048)])), unreadable),
            ("bytes after it", edited(&|der| der.push(0)), unreadable),
            ("bytes after PKCS#1", [&*inner, &[0]].concat(), unreadable),
            ("two of them", [&*good, &*good].concat(), unreadable),
            (
                "a third number",
                der::info(1, &[5, 0], 0, &der::sequence(&[der::number(&n2048), der::number(E), der::number(E)])),
                unreadable,
            ),
            ("bytes after the numbers", der::info(1, &[5, 0], 0, &[&*inner, &[0]].concat()), unreadable),
            ("a third part", der::sequence(&[der::of(0x30, &[]), good[4..].to_vec()]), unreadable),
            ("unused bits", der::info(1, &[5, 0], 1, &inner), unreadable),
            ("parameters that are none", der::info(1, &[4, 1, 0], 0, &inner), unreadable),
            ("RSA-PSS", der::info(10, &[], 0, &inner), unreadable),
            ("an RSA signature's algorithm", der::info(11, &[5, 0], 0, &inner), unreadable),
            ("EC P-256", pem_contents(pem!("ec-p256.spki.pem")).expect("DER").to_vec(), unreadable),
            ("X25519", pem_contents(pem!("x25519.spki.pem")).expect("DER").to_vec(), unreadable),
            ("Ed25519 too short", ed25519[..43].to_vec(), unreadable),
            ("Ed25519 too long", [&*ed25519, &[0]].concat(), unreadable),
            ("a private key", pem_contents(pem!("relay.rsa.pk8.pem")).expect("DER").to_vec(), unreadable),
            ("indefinite length", [&[0x30, 0x80], &good[4..], &[0, 0]].concat(), unreadable),
            ("length longer than needed", [&[0x30, 0x83, 0, good[2], good[3]], &good[4..]].concat(), unreadable),
            ("length of 4 GiB", edited(&|der| drop(der.splice(1..4, [0x84, 0xff, 0xff, 0xff, 0xff]))), unreadable),
            ("cut short", good[..good.len() - 1].to_vec(), unreadable),
            ("a set", edited(&|der| der[0] = 0x31), unreadable),
            ("nothing", Vec::new(), unreadable),
            ("a tag", vec![0x30], unreadable),
        ];
        assert!(corpus.len() >= 40);
        let mut wrong = Vec::new();
        for (name, der, expected) in corpus {
            let key = PublicKey::from_der(&der);
            let found = key.as_ref().map(PublicKey::algorithm).map_err(|fault| *fault);
            let labelled = PublicKey::from_pem(&pem_text("RSA PUBLIC KEY", &der)).map(|key| key.algorithm());
            if (found, labelled) != (expected, expected) {
                wrong.push(format!("{name}: {found:?}, with a label that says nothing {labelled:?}; not {expected:?}"));
            }
            let Ok(key) = key else { continue };
            // The best of some, since others use this machine as well.
            let verify = |_| {
                let begun = std::time::Instant::now();
                assert!(!key.verify(key.algorithm(), b"message", &vec![1; key.bytes().len() & !127]), "{name}");
                begun.elapsed()
            };
            let took = (0..8).map(verify).min().expect("some");
            assert!(took < std::time::Duration::from_millis(5), "{name}: {took:?}");
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_key_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,80}") {
            let _ = PublicKey::from_der(&bytes);
            let _ = PublicKey::from_multibase(&text);
            let _ = PublicKey::from_pem(&text);
            let _ = SigningKey::from_der(id(), &bytes);
            let _ = PublicKey::from_pem(&pem_text("PUBLIC KEY", &bytes));
        }

        #[test]
        fn a_damaged_key_is_refused_or_another_key(at in 33_usize..294, bit in 0_u8..8) {
            let good = PublicKey::from_pem(pem!("subscriber.rsa.spki.pem")).expect("a key");
            let mut der = good.bytes().to_vec();
            der[at] ^= 1 << bit;
            if let Ok(key) = PublicKey::from_der(&der) {
                prop_assert_ne!(key, good);
            }
        }
    }
}

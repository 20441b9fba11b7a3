//! Keys as text (PEM, Multikey) and as DER: what is taken is a key of a size we take, reads the same when written again,
//! and confirms nothing that its owner did not sign.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shearwater::wire::key::{Algorithm, PublicKey};

fn check(key: &PublicKey, data: &[u8]) {
    assert_eq!(PublicKey::from_pem(&key.to_spki_pem()).as_ref(), Ok(key));
    match key {
        PublicKey::Ed25519(_) => {
            assert_eq!(key.bytes().len(), 32);
            let text = key.to_multibase();
            assert_eq!(PublicKey::from_multibase(&text).as_ref(), Ok(key));
        }
        PublicKey::Rsa(_) => {
            assert!((290..=2100).contains(&key.bytes().len()), "{} bytes", key.bytes().len());
            assert_eq!(PublicKey::from_der(key.bytes()).as_ref(), Ok(key));
        }
    }
    for algorithm in [Algorithm::RsaSha256, Algorithm::RsaSha512, Algorithm::Ed25519] {
        for signature in [data, b"", &[0; 64], &[0; 256], &[1; 256]] {
            assert!(!key.verify(algorithm, b"shearwater", signature), "anybody may sign for {key:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = PublicKey::from_der(data) {
        check(&key, data);
        // A key is exactly its bytes.
        assert!(PublicKey::from_der(&[data, &[0]].concat()).is_err());
        assert!(PublicKey::from_der(&data[..data.len() - 1]).is_err());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = PublicKey::from_pem(text) {
        check(&key, data);
    }
    if let Ok(key) = PublicKey::from_multibase(text) {
        check(&key, data);
        assert_eq!(key.to_multibase(), text, "two spellings of one key");
    }
});

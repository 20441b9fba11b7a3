//! How records lie on disk: one byte of version, eight of checksum, then the payload. A truncated or flipped record is
//! refused with a sentence, never read as something else; an older version is carried forward step by step.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::StoreError;

const HEAD: usize = 9;

/// Something kept under a text key, as JSON: rows that people may have to read, export and migrate.
pub trait Record: Serialize + DeserializeOwned + Send + 'static {
    /// The table's name, and the `kind` of an exported line.
    const TABLE: &'static str;
    /// The version that this build writes.
    const VERSION: u8 = 1;

    /// Carries a payload written as `version` to the next one; `None` if there is no way.
    #[must_use]
    fn upgrade(version: u8, payload: serde_json::Value) -> Option<serde_json::Value> {
        let _ = (version, payload);
        None
    }
}

/// Frames `payload`.
#[must_use]
pub fn frame(version: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.push(version);
    bytes.extend_from_slice(&checksum(version, payload));
    bytes.extend_from_slice(payload);
    bytes
}

/// Takes a frame apart.
///
/// # Errors
/// [`StoreError::Damaged`] if it is short or its checksum differs.
pub fn unframe<'a>(what: &str, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), StoreError> {
    let damaged = |why: &str| StoreError::Damaged(format!("{what}: {why}"));
    let (head, payload) = bytes.split_at_checked(HEAD).ok_or_else(|| damaged("the record is cut short"))?;
    let (version, sum) = head.split_first().ok_or_else(|| damaged("the record is empty"))?;
    if sum != checksum(*version, payload) {
        return Err(damaged("the checksum does not match: the file was changed or the disk is failing"));
    }
    Ok((*version, payload))
}

/// A record as bytes.
///
/// # Errors
/// [`StoreError::Damaged`] if it cannot be written as JSON, which no record of ours can.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(record).map_err(|error| StoreError::Damaged(format!("{}: {error}", R::TABLE)))?;
    Ok(frame(R::VERSION, &json))
}

/// Bytes as a record.
///
/// # Errors
/// [`StoreError::Damaged`] as [`unframe`] says; [`StoreError::Newer`] if a later build wrote it.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, StoreError> {
    let (version, payload) = unframe(R::TABLE, bytes)?;
    let damaged = |error: serde_json::Error| StoreError::Damaged(format!("{}: {error}", R::TABLE));
    if version == R::VERSION {
        return serde_json::from_slice(payload).map_err(damaged);
    }
    carry_forward(version, serde_json::from_slice(payload).map_err(damaged)?)
}

/// A payload of any version up to ours as a record.
///
/// # Errors
/// [`StoreError::Damaged`] if it does not fit; [`StoreError::Newer`] if a later build wrote it.
pub(super) fn carry_forward<R: Record>(version: u8, mut value: serde_json::Value) -> Result<R, StoreError> {
    if version > R::VERSION {
        return Err(StoreError::Newer { table: R::TABLE, version });
    }
    for step in version..R::VERSION {
        value = R::upgrade(step, value)
            .ok_or_else(|| StoreError::Damaged(format!("{}: no way from version {step}", R::TABLE)))?;
    }
    serde_json::from_value(value).map_err(|error| StoreError::Damaged(format!("{}: {error}", R::TABLE)))
}

fn checksum(version: u8, payload: &[u8]) -> [u8; 8] {
    let digest = Sha256::new().chain_update([version]).chain_update(payload).finalize();
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Bird {
        name: String,
        wings: u8,
    }

    impl Record for Bird {
        const TABLE: &'static str = "birds";
        const VERSION: u8 = 2;

        fn upgrade(version: u8, mut payload: serde_json::Value) -> Option<serde_json::Value> {
            payload.as_object_mut()?.insert("wings".to_owned(), 2.into());
            (version == 1).then_some(payload)
        }
    }

    #[test]
    fn an_old_record_is_carried_forward_and_a_newer_one_refused() {
        let bird = Bird { name: "shearwater".to_owned(), wings: 2 };
        assert_eq!(decode::<Bird>(&encode(&bird).unwrap()).unwrap(), bird);
        assert_eq!(decode::<Bird>(&frame(1, br#"{"name":"shearwater"}"#)).unwrap(), bird);
        assert!(matches!(decode::<Bird>(&frame(0, b"{}")), Err(StoreError::Damaged(_))));
        assert!(matches!(decode::<Bird>(&frame(3, b"{}")), Err(StoreError::Newer { version: 3, .. })));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&Bird { name: "petrel".to_owned(), wings: 2 }).unwrap();
        for at in 0..bytes.len() {
            assert!(decode::<Bird>(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode::<Bird>(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}

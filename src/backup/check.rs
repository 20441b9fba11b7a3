//! Whether everything that a relay keeps is what it should be: each row of the store can be read, what belongs together
//! fits, the log and those who read it agree, and the keys are there. Changes nothing. The index of the search is compared
//! with its ledger elsewhere (`search::shelf`); it can be made anew in any case.

use serde::Serialize;
use utoipa::ToSchema;

use crate::identity::KeyStatus;
use crate::log::Log;
use crate::store::{Fault, Faults, Snapshot, TableSize};

/// What was found.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Findings {
    /// Nothing is wrong.
    pub ok: bool,
    /// Every table, with its size.
    pub tables: Vec<TableSize>,
    /// What is wrong, with how many rows.
    pub faults: Vec<Fault>,
}

/// Reads everything as of one moment. `keys` is how they stand, or why that cannot be told.
///
/// Blocks, for seconds where there is much.
///
/// # Errors
/// The file cannot be read on.
pub fn check(snapshot: &Snapshot, keys: anyhow::Result<KeyStatus>) -> anyhow::Result<Findings> {
    let (tables, mut faults) = check_store(snapshot)?;
    if let Err(error) = keys {
        faults.note("keys", "cannot be used", format!("{error:#}"));
    }
    let faults = faults.list();
    Ok(Findings { ok: faults.is_empty(), tables, faults })
}

/// The same of the store alone.
pub(super) fn check_store(snapshot: &Snapshot) -> anyhow::Result<(Vec<TableSize>, Faults)> {
    let mut faults = Faults::default();
    let tables = snapshot.check(&mut faults)?;
    Log::check(snapshot, &mut faults)?;
    Ok((tables, faults))
}

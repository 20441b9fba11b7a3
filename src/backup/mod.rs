//! A relay's state looked through, taken to a folder, and put back: the rows of the store as of one moment, the keys, and if asked for the
//! index of the search. What a backup is and is not, and why, is in `docs/decisions/0010-a-backup-is-what-a-relay-is.md`.
//!
//! Promises: a folder that bears the name of a backup is a whole one, whatever was killed while it was made; one that was
//! changed since is not put back; nothing is put back over a relay, and whatever is killed meanwhile, no relay starts on
//! half of it; a relay that was put back sends nothing that was on its way then, shows nobody before their profile was
//! read anew, and opens to no token.

mod check;
mod make;
mod manifest;
mod restore;

pub use check::{Findings, check};
pub use make::{Plan, make};
pub use manifest::{Listed, Manifest};
pub use restore::{Restored, Wanted, restore};

/// The rows of the store, in a backup.
const ROWS: &str = "store.rows";
/// The folder of keys, in a backup and in `data_dir`.
const KEYS: &str = "keys";
/// The folder of the index, likewise.
const INDEX: &str = "search";

/// Tables that no backup holds. What is on its way belongs to its moment: a week later others have it, or deleted it. That
/// trends throw the key away with which a vote was anyone's is a promise that a copy of it would break. And a token that was
/// revoked since would open again.
pub const LEFT_OUT: [&str; 13] = [
    "api_tokens",
    "log",
    "announces",
    "cursors",
    "worker_cursors",
    "hints",
    "trend_ballots",
    "trend_ballot_hours",
    "trend_ballots_by_author",
    "trend_ballots_by_target",
    "trend_first_hours",
    "trend_keys",
    "trend_served",
];

//! The search room: posts whose authors asked to be found, and finding them. Its parts meet in the ledger; what arrives
//! comes from the log. Other rooms are not known here.
//!
//! Pure: how a text becomes terms ([`tokens`]) and which language it is in ([`language`]).

pub mod language;
pub mod tokens;

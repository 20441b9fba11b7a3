//! The search room: posts whose authors asked to be found, and finding them. Its parts meet in the ledger; what arrives
//! comes from the log. Other rooms are not known here.
//!
//! Pure: how a text becomes terms ([`tokens`]) and which language it is in ([`language`]), and how what somebody typed
//! becomes a [`query`]. The [`index`] finds what a query asks for; it is made of terms, and is no authority.

mod bounds;
pub mod collect;
pub mod compile;
pub mod index;
pub mod language;
pub mod query;
pub mod schema;
pub mod tokens;

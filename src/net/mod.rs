//! Talking to other servers: the address guard, the one outbound client behind it, and the client that signs as us and
//! reads documents. What the documents mean is `peers`' business; who gets deliveries is `delivery`'s.
//!
//! Promises: nothing in here dials an address that [`Guard`] does not permit, follows a redirect unseen, reads more bytes
//! than it was told, or waits longer than its deadline.

pub mod client;
pub mod fetched;
pub mod guard;
mod hosts;
mod keyring;
mod names;
mod pools;
mod sessions;
mod shared;
mod signed;
#[cfg(test)]
pub(crate) mod testing;

pub use client::{Answer, Client, NetFault, Outgoing, user_agent};
pub use fetched::{FetchFault, Fetched, JsonAnswer, JsonKind};
pub use guard::{Guard, Refused};
pub use keyring::{KeyRing, Keys, Standing, Untold};
pub use names::{Names, Script};
pub use signed::SignedClient;

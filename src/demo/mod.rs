//! The simulated fediverse: instances on loopback with actors, keys, inboxes that remember, personalities and faults. One
//! piece of code for `shearwater demo`, for tests (where an [`Instance`] is the fake peer) and for benches ([`Swarm`]).
//!
//! It is an independent witness. It shares no protocol code with the relay: requests are signed and verified here with
//! code of its own ([`Tweaks`] are the ways to forge them), the receiving instances judge with their family's
//! strictness, and the checker reads what they received over HTTP, never the relay's counters. It uses `ids`, `clock`
//! and, in one file, the public face of server and config.
//!
//! What it simulates and what not: the shapes, handshakes, audiences, key forms, statuses, windows and limits are those
//! of the real servers; embedded signatures have the real shape, keys and owners but a simpler hash. Nothing here speaks
//! to anything but loopback.
//!
//! Files, in reading order: `run` (the story), `scenario`, `cast`, `promise`, `check`, `report`, `view`; `instance` (the
//! handle), `parts`, `state`, `actors`, `inbox`, `judge`, `outgoing`, `remote`; `family`, `posts`, `shapes`, `faults`,
//! `ledger`; `sign`, `verify`, `ld`, `proofs`, `keys`; `client`, `serve`; `swarm`.

mod actors;
mod cast;
mod check;
mod client;
mod family;
mod faults;
mod inbox;
mod instance;
mod judge;
mod keys;
mod ld;
mod ledger;
mod outgoing;
mod parts;
mod posts;
mod promise;
mod proofs;
mod remote;
mod report;
mod run;
mod scenario;
mod searching;
mod serve;
mod shapes;
mod sign;
mod state;
mod swarm;
mod trending;
mod verify;
mod view;

pub use client::{Answer, Trouble};
pub use family::Family;
pub use faults::{Fault, Tamper};
pub use instance::Instance;
pub use ledger::{Ledger, Outcome, Receipt, Scheme, Shown, Standing, Via};
pub use parts::{As, Author, Composed, Options, Posted, Rotation, Where};
pub use posts::{PostSpec, Visibility, corpus};
pub use promise::{Health, Promise};
pub use report::{Deliveries, Kept, Lag, Line, Posts, Summary};
pub use run::{Demo, Plan, run};
pub use searching::Searched;
pub use sign::{Profile, Tweaks};
pub use swarm::{Arrival, MAX_SWARM, Swarm, SwarmOptions, TLS_SHARE};
pub use view::Show;

#[cfg(test)]
mod stub_relay;
#[cfg(test)]
mod tests;

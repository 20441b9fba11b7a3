//! Shearwater: a fediverse relay and opt-in search indexer. `docs/ARCHITECTURE.md` is the map; this is its miniature.

pub mod app;
pub mod backup;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
pub mod delivery;
pub mod demo;
pub mod http;
pub mod identity;
pub mod ids;
pub mod log;
pub mod net;
pub mod peers;
pub mod policy;
pub mod relay;
pub mod search;
pub mod server;
pub mod store;
pub mod supervise;
pub mod telemetry;
pub mod trends;
pub mod wire;

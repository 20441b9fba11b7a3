//! How the daemon tells what it does: log lines ([`logs`]), numbers ([`Metrics`]) and, if asked for, spans ([`traces`]). None
//! holds bodies, keys, tokens or queries, and no number is labelled with a host name: label values come from closed sets.

pub mod logs;
mod metrics;
mod process;
mod series;
pub mod traces;

pub use metrics::{Metrics, Numbers};
pub use process::{Taker, Usage, most_descriptors, raise_descriptors};
pub use series::{Counters, Gauges, Histograms, Spans};

//! stub
use serde::{Deserialize, Serialize};
/// stub
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ActorSignals {
    /// x
    pub indexable: bool,
}
/// stub
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Profile {
    /// x
    pub name: String,
}

//! stub
use serde::{Deserialize, Serialize};
/// stub
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Document {
    /// x
    pub text: String,
}

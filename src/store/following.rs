//! Whom the relay's actor follows: LitePub subscribers in return (they send nothing otherwise), and whom the operator
//! named.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Record, Style};
use crate::clock::Timestamp;
use crate::ids::Iri;

/// What the other side said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FollowState {
    /// Nothing yet.
    Pending,
    /// Yes.
    Accepted,
    /// No.
    Rejected,
}

/// One Follow of ours, keyed by the actor we follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// Whom.
    pub actor: Iri,
    /// Its inbox.
    pub inbox: Iri,
    /// Follow of the actor, or of the public collection.
    pub style: Style,
    /// The id of our Follow.
    pub follow_id: String,
    /// What they said.
    pub state: FollowState,
    /// The operator asked for it: what it sends is relayed even if it is about others' posts. A Follow in return of a
    /// subscriber's carries no such trust.
    pub by_operator: bool,
    /// When.
    pub at: Timestamp,
}

impl Record for Following {
    const TABLE: &'static str = "following";
}

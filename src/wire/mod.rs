//! Stub.
/// Stub.
pub mod http_sig {
    /// Stub.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    pub enum Scheme {
        /// Stub.
        Cavage,
        /// Stub.
        Rfc9421,
    }
}

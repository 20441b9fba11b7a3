//! What can be wrong with a signature, said to the other server's admin: one sentence about *their* request, and what
//! to do. "Stuck on waiting for approval" is the most common complaint about relays, and no other relay says why.

use thiserror::Error;

/// The check of the sender's request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SigFault {
    /// No signature at all.
    #[error("the request is not signed")]
    Unsigned,
    /// More than one signature, or a header that must be there once is there twice.
    #[error("the header {name} appears more than once")]
    Repeated {
        /// The header, lower case.
        name: String,
    },
    /// An RFC 9421 request that carries several labels.
    #[error("the request carries more than one signature")]
    Several,
    /// Something cannot be parsed.
    #[error("{what} cannot be read")]
    Malformed {
        /// What, as the start of a sentence.
        what: &'static str,
    },
    /// A parameter of the signature header is there twice.
    #[error("the signature names its parameter {name} twice")]
    RepeatedParameter {
        /// The parameter.
        name: String,
    },
    /// A parameter of the signature header is absent.
    #[error("the signature lacks its parameter {name}")]
    MissingParameter {
        /// The parameter.
        name: &'static str,
    },
    /// An algorithm that we do not verify.
    #[error("the signature's algorithm is not one we verify")]
    Algorithm,
    /// The signature leaves out something it must cover.
    #[error("the signature does not cover {missing}")]
    Coverage {
        /// What is left out.
        missing: &'static str,
    },
    /// The signature covers a component that we cannot reconstruct.
    #[error("the signature covers {name}, which we do not know")]
    UnknownComponent {
        /// The component as sent.
        name: String,
    },
    /// The signature covers a header that the request does not carry.
    #[error("the signature covers the header {name}, which the request does not carry")]
    Missing {
        /// The header.
        name: String,
    },
    /// The request was signed for another server.
    #[error("the signed Host is not this server's name")]
    Host,
    /// The signed time is too far from ours.
    #[error("the signed time is {seconds} seconds away from this server's clock; 3600 are tolerated")]
    Date {
        /// The difference, in seconds.
        seconds: u64,
    },
    /// `expires` has passed.
    #[error("the signature has expired")]
    Expired,
    /// `expires` is more than a day away.
    #[error("the signature wants to be valid for more than a day")]
    TooLongLived,
    /// A digest does not match the body.
    #[error("the {header} header does not match the body")]
    Digest {
        /// `Digest` or `Content-Digest`.
        header: &'static str,
    },
    /// The covered digest names no algorithm that we know.
    #[error("the signed digest is neither SHA-256 nor SHA-512")]
    UnknownDigest,
}

impl SigFault {
    /// A short stable word for the failed check: for problem documents, logs and metrics.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Repeated { .. } | Self::Several | Self::RepeatedParameter { .. } => "repeated",
            Self::Malformed { .. } | Self::MissingParameter { .. } => "malformed",
            Self::Algorithm => "algorithm",
            Self::Coverage { .. } | Self::UnknownComponent { .. } | Self::Missing { .. } => "coverage",
            Self::Host => "host",
            Self::Date { .. } => "date",
            Self::Expired | Self::TooLongLived => "expires",
            Self::Digest { .. } | Self::UnknownDigest => "digest",
        }
    }

    /// What the sender can do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Unsigned => "Sign the request as the sending actor, with draft-cavage or RFC 9421.",
            Self::Repeated { .. } => "Send this header once; look for a proxy that adds a second one.",
            Self::Several => "Send one signature of one profile per request.",
            Self::Malformed { .. } | Self::RepeatedParameter { .. } | Self::MissingParameter { .. } => {
                "Look for a proxy that rewrites headers; else the signing library needs fixing."
            }
            Self::Algorithm => "Sign with rsa-sha256 (RSA of 2048 bits or more) or with Ed25519.",
            Self::Coverage { .. } => {
                "Cover (request-target), host, date and, with a body, digest; \
                 in RFC 9421 @method, @target-uri, content-digest and created."
            }
            Self::UnknownComponent { .. } => {
                "Cover plain headers, @method, @target-uri, @authority, @path and @query only."
            }
            Self::Missing { .. } => "Look for a proxy that removes this header.",
            Self::Host => "Send to the address in our actor document; look for a proxy that rewrites Host.",
            Self::Date { .. } => "Set the sending server's clock (NTP), and sign each attempt anew.",
            Self::Expired => "Sign each attempt anew, and set the sending server's clock (NTP).",
            Self::TooLongLived => "Let signatures expire within a day, or leave expires out.",
            Self::Digest { .. } => {
                "Compute the digest over the exact bytes sent; look for a proxy that changes the body."
            }
            Self::UnknownDigest => "Send a SHA-256 digest.",
        }
    }
}

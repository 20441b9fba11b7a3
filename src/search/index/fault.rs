//! What can be wrong with the index, by what is to be done about it; and the engine held so that its panics are faults
//! like others.

use std::any::Any;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tantivy::TantivyError;
use tantivy::directory::error::OpenReadError;

/// Why the index cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum IndexFault {
    /// It cannot be read, or not as what we write. Set it aside ([`super::Index::set_aside`]) and make it anew.
    #[error("the search index is damaged or of another version")]
    Damaged(#[source] Cause),
    /// Another process writes to it.
    #[error("the search index is in use by another process")]
    Busy(#[source] Cause),
    /// The disk or the system failed. The [`super::Writer`] is of no use any more: drop it and try again later.
    #[error("the search index could not be read or written")]
    Failed(#[source] Cause),
}

/// What lies behind an [`IndexFault`].
pub type Cause = Box<dyn Error + Send + Sync>;

/// Does something with the engine. It panics where it meets bytes that it would not have written; that is a fault like
/// others.
pub(super) fn guarded<T>(work: impl FnOnce() -> tantivy::Result<T>) -> Result<T, IndexFault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(IndexFault::from),
        Err(panic) => Err(IndexFault::Damaged(format!("the engine gave up: {}", words_of(panic.as_ref())).into())),
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

impl From<TantivyError> for IndexFault {
    fn from(error: TantivyError) -> Self {
        let of_disk = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
        };
        match &error {
            TantivyError::LockFailure(..) => Self::Busy(error.into()),
            TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) | TantivyError::IoError(io_error)
                if !of_disk(io_error) =>
            {
                Self::Failed(error.into())
            }
            TantivyError::OpenReadError(_)
            | TantivyError::IoError(_)
            | TantivyError::DataCorruption(_)
            | TantivyError::IncompatibleIndex(_)
            | TantivyError::SchemaError(_)
            | TantivyError::FieldNotFound(_)
            | TantivyError::InternalError(_)
            | TantivyError::InvalidArgument(_)
            | TantivyError::DeserializeError(_) => Self::Damaged(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

pub(super) fn failed(error: impl Into<Cause>) -> IndexFault {
    IndexFault::Failed(error.into())
}

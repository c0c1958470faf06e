//! What can go wrong.

use crate::error::StorageError;
use std::path::PathBuf;

/// Why a database did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another part of this one, has the database open.
    #[error("{}: in use: whoever has it open must close it first", path.display())]
    InUse {
        /// The database's directory.
        path: PathBuf,
    },
    /// A key or value is too long, or a key is empty. Nothing was written.
    #[error("a {what} of {bytes} bytes: from {least} to {most} are allowed")]
    Size {
        /// Key, value, name, or batch.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The shortest allowed.
        least: usize,
        /// The longest allowed.
        most: usize,
    },
    /// The tree was removed by [`Db::remove_tree`](crate::db::Db::remove_tree). Nothing was written.
    #[error("the tree was removed")]
    Removed,
    /// The value to be counted up is not eight bytes long, or the sum does not fit. Nothing was written.
    #[error("not a counter: {why}")]
    NotACounter {
        /// What is wrong.
        why: &'static str,
    },
    /// A setting makes no sense.
    #[error("{what}")]
    Setting {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The background thread failed and takes no more work; what was written stays readable. Open the database again.
    #[error("the database takes no more writes until it is opened again: {cause}")]
    Failed {
        /// Why.
        cause: StorageError,
    },
    /// From disk, log or tables.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<crate::error::DiskError> for Error {
    fn from(error: crate::error::DiskError) -> Error {
        Error::Storage(error.into())
    }
}

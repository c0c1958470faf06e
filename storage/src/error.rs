//! What can go wrong, with what a person needs to act.

use ringkv_wire::ids::ShardId;
use std::sync::Arc;

/// The disk refused or failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DiskError {
    /// No such file.
    #[error("{path}: not found")]
    NotFound {
        /// The path, relative to the disk's root.
        path: String,
    },
    /// No space left.
    #[error("{path}: no space left on the disk")]
    NoSpace {
        /// The path.
        path: String,
    },
    /// Fewer bytes were written than asked for.
    #[error("{path}: at {offset}: wrote {got} of {wanted} bytes")]
    ShortWrite {
        /// The path.
        path: String,
        /// Where.
        offset: u64,
        /// Bytes wanted.
        wanted: usize,
        /// Bytes written.
        got: usize,
    },
    /// A mapped section failed its check.
    #[error("{path}: the section at {offset} of {bytes} bytes fails its check")]
    Section {
        /// The path.
        path: String,
        /// Where it starts.
        offset: u64,
        /// Its length.
        bytes: u64,
    },
    /// Anything else the system says.
    #[error("{path}: {what}: {source}")]
    Io {
        /// The path.
        path: String,
        /// The operation.
        what: &'static str,
        /// The system's word.
        source: Arc<std::io::Error>,
    },
}

/// What the system says when a device fails.
const EIO: i32 = 5;

impl DiskError {
    /// An error of the system, told apart where one can act on it.
    pub fn io(path: &str, what: &'static str, source: std::io::Error) -> DiskError {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::NotFound => DiskError::NotFound { path },
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => DiskError::NoSpace { path },
            _ => DiskError::Io { path, what, source: Arc::new(source) },
        }
    }
}

impl StorageError {
    /// Whether what stands on the disk is rotten, gone, or cannot be read by the device: a thing of the bytes at rest, not of
    /// a full disk, a missing permission or a newer format.
    pub fn is_damage(&self) -> bool {
        match self {
            StorageError::Damaged { .. } | StorageError::Disk(DiskError::Section { .. }) => true,
            StorageError::Disk(DiskError::Io { source, .. }) => source.raw_os_error() == Some(EIO),
            _ => false,
        }
    }
}

/// The log or the engine cannot go on, or cannot answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// From the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes at rest are not what was written.
    #[error("{path}: damaged at offset {offset}: expected {expected}, got {got}")]
    Damaged {
        /// The file, relative to the disk's root.
        path: String,
        /// Where.
        offset: u64,
        /// What should stand there.
        expected: String,
        /// What does.
        got: String,
    },
    /// Written by a newer ringkv.
    #[error("{path}: format version {got}, this build reads up to {known}: use a newer ringkv")]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        got: u32,
        /// The newest this build reads.
        known: u32,
    },
    /// No space even for the records by which the log frees segments. Tried again.
    #[error("no space left for the log")]
    DiskFull,
    /// An entry that does not continue its shard's log. Nothing of it was written.
    #[error("{shard}: entry {got} does not continue the log, which takes {first} to {next}")]
    Gap {
        /// The shard.
        shard: ShardId,
        /// The lowest index that can be written (and truncates).
        first: u64,
        /// The next index.
        next: u64,
        /// The entry's index.
        got: u64,
    },
    /// A term that goes back, or another vote within a term. Nothing of it was written.
    #[error("{shard}: term or vote goes back")]
    Backwards {
        /// The shard.
        shard: ShardId,
    },
    /// An entry or a hard state of a shard whose state was never logged.
    #[error("{shard}: not in this log: its state must be logged first")]
    UnknownShard {
        /// The shard.
        shard: ShardId,
    },
    /// The log failed a write or a sync and takes no more until it is opened again.
    #[error("the log is poisoned: {cause}; restart the node to reopen it through recovery")]
    Poisoned {
        /// The first error.
        cause: Arc<DiskError>,
    },
    /// A step whose outcome is unknown was given up half way; nothing may follow it.
    #[error("{what} was given up half way: reopen the store")]
    Interrupted {
        /// What was given up.
        what: &'static str,
    },
    /// A table of a snapshot is not held here, or did not come as announced.
    #[error("table {table}: expected {expected}, got {got}")]
    Transfer {
        /// The table's id, in hex.
        table: String,
        /// What should have come.
        expected: String,
        /// What did.
        got: String,
    },
}

//! The log of an embedded database: what was written, before a table holds it (FORMAT.md §6).
//!
//! One [`Writer`] appends into the mapping of a preallocated segment, so that an append survives the death of the process
//! without a system call. Any thread asks [`Shared::sync_to`] for what must survive the death of the machine. A driver
//! calls [`Shared::prepare`] to keep segments ready and [`Shared::release`] when a flush made them needless.

mod frame;
mod head;
mod recover;
mod segment;
mod shared;
#[cfg(test)]
pub(super) mod tests;
mod writer;

pub(crate) use frame::{BATCH_BYTES_MAX, batch_bytes};
pub(crate) use recover::{create, open};
pub(crate) use segment::{Segment, SyncPages};
pub(crate) use shared::Shared;
pub(crate) use writer::Writer;

use ringkv_wire::ids::KeyspaceId;

/// One change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op<'a> {
    pub keyspace: KeyspaceId,
    /// At most [`ringkv_wire::limits::KEY_BYTES_MAX`].
    pub key: &'a [u8],
    /// At most [`ringkv_wire::limits::VALUE_BYTES_MAX`]; none: deleted.
    pub value: Option<&'a [u8]>,
    /// Time from which on the value is gone, ms; [`crate::sst::NEVER_MS`]: it stays. Not kept for a deletion.
    pub expiry_ms: u64,
}

/// A place in the log: behind the record of this sequence number, from 1. 0: the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(pub u64);

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogOptions {
    /// Size of a segment file, a multiple of 4,096, at least [`SEGMENT_BYTES_MIN`]. A batch that does not fit gets a
    /// segment of its own size.
    pub segment_bytes: u64,
    /// Segments kept ready ahead of the writer; as many released ones are kept to be used again.
    pub ahead: usize,
    /// Random bits that no other opening of this directory has used: salts are made from them.
    pub seed: u64,
}

/// Smallest segment.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 8192;

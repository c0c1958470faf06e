//! Tables: sorted, immutable files of one tree (FORMAT.md §2).

pub mod block;
pub mod builder;
pub mod compress;
pub mod filter;
pub mod footer;
mod guide;
pub mod index;
mod old;
pub mod properties;
mod proved;
pub mod reader;
pub mod scan;
pub mod scrub;
mod varint;
pub mod verify;
pub mod view;
pub mod writer;

use crate::error::StorageError;
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::fmt;

/// 128 random bits that name a table for its lifetime and seed its checksums.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableId(pub [u8; 16]);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TableId {
    /// What the table's filter knows a key by. The id is in it, so that nobody can choose keys that share a place in the
    /// filter.
    pub fn filter_hash(&self, key_hash: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        key_hash ^ u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
    /// Where the checksum of bytes at `offset` of this table starts.
    pub fn seed(&self, offset: u64) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.0), &offset.to_le_bytes())
    }
    /// The checksum of `bytes`, which begin at `offset`.
    pub fn checksum(&self, offset: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.seed(offset), bytes)
    }
}

/// A key in its tree: the tree's order is the order of this pair.
pub type TreeKey<'k> = (KeyspaceId, &'k [u8]);

/// The expiry of what never expires.
pub const NEVER_MS: u64 = u64::MAX;

/// What a tree holds of a key: one version, a value or its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'r> {
    /// Log index of the write.
    pub version: u64,
    /// The value, unless deleted.
    pub value: Option<&'r [u8]>,
    /// Log time from which on the value is gone, ms; [`NEVER_MS`]: it stays.
    pub expiry_ms: u64,
}

impl<'r> Record<'r> {
    /// A value that stays, or a deletion.
    pub fn new(version: u64, value: Option<&'r [u8]>) -> Record<'r> {
        Record { version, value, expiry_ms: NEVER_MS }
    }

    /// What it is at a log time: a deletion, once it expired.
    #[inline]
    pub fn at(self, log_time_ms: u64) -> Record<'r> {
        if self.expiry_ms <= log_time_ms { Record::new(self.version, None) } else { self }
    }

    /// Whether it will expire.
    pub fn expires(&self) -> bool {
        self.expiry_ms != NEVER_MS
    }

    /// The value, to be kept; none when deleted.
    pub(crate) fn to_value(self) -> Option<Value> {
        let Record { version, value, expiry_ms } = self;
        Some(Value { value: Bytes::copy_from_slice(value?), version, expiry_ms })
    }
}

/// A value and the log index that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes. Those of a walk share the memory of a block: copy what is kept for long.
    pub value: Bytes,
    /// Log index of the write.
    pub version: u64,
    /// As in [`Record`].
    pub expiry_ms: u64,
}

impl Value {
    /// Whether it has not expired; the time is asked for only when it matters.
    pub(crate) fn is_alive(&self, now_ms: impl FnOnce() -> u64) -> bool {
        self.expiry_ms == NEVER_MS || self.expiry_ms > now_ms()
    }
}

/// Bytes at `offset` of `path` are not what was written.
pub(crate) fn damaged(path: &str, offset: u64, expected: impl fmt::Display, got: impl fmt::Display) -> StorageError {
    StorageError::Damaged { path: path.to_owned(), offset, expected: expected.to_string(), got: got.to_string() }
}

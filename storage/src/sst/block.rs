//! A block: entries in order, an offset array, a trailer (FORMAT.md §2.1).

use crate::error::StorageError;
use crate::sst::{Record, TableId, TreeKey, damaged};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::cmp::Ordering;
use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block's trailer.
pub const TRAILER_BYTES: usize = size_of::<Trailer>();
/// Bytes of an entry before its key.
pub const ENTRY_HEAD_BYTES: usize = size_of::<EntryHead>();
/// Largest target size of a block: offsets are 16 bits.
pub const BLOCK_TARGET_MAX: usize = 32_768;
const KIND_VALUE: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Trailer {
    count: U16,
    kind: u8,
    zero: u8,
    crc: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryHead {
    keyspace: U32,
    value_bytes: U32,
    version: U64,
    key_bytes: U16,
    kind: u8,
    zero: u8,
}

const _: () = assert!(size_of::<Trailer>() == 8);
const _: () = assert!(size_of::<EntryHead>() == 20);
const _: () = assert!(std::mem::offset_of!(EntryHead, key_bytes) == 16);

/// Collects the entries of one block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    bytes: Vec<u8>,
    offsets: Vec<U16>,
}

impl BlockBuilder {
    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Length of the finished block, were this entry added.
    pub fn bytes_with(&self, key: &[u8], value: Option<&[u8]>) -> usize {
        let entry = ENTRY_HEAD_BYTES + key.len() + value.map_or(0, <[u8]>::len);
        self.bytes.len() + entry + (self.offsets.len() + 1) * size_of::<U16>() + TRAILER_BYTES
    }

    /// Appends an entry; keys must come in the tree's order.
    pub fn add(&mut self, key: TreeKey<'_>, version: u64, value: Option<&[u8]>) {
        let offset =
            u16::try_from(self.bytes.len()).expect("a block is closed before its target, at most 32,768 bytes");
        self.offsets.push(U16::new(offset));
        let value_bytes = u32::try_from(value.map_or(0, <[u8]>::len)).expect("values are limited to 16 MiB");
        let head = EntryHead {
            keyspace: U32::new(key.0.0),
            value_bytes: U32::new(value_bytes),
            version: U64::new(version),
            key_bytes: U16::new(u16::try_from(key.1.len()).expect("keys are limited to 65,535 bytes")),
            kind: if value.is_some() { KIND_VALUE } else { KIND_TOMBSTONE },
            zero: 0,
        };
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(key.1);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// Appends the finished block, which will stand at `offset` of table `id`, to `out` and starts anew. Answers its length.
    pub fn finish(&mut self, id: &TableId, offset: u64, out: &mut Vec<u8>) -> usize {
        assert!(!self.is_empty(), "a block has at least one entry");
        let start = out.len();
        let count = u16::try_from(self.offsets.len()).expect("entries of 20 bytes in at most 32,768");
        out.append(&mut self.bytes);
        out.extend_from_slice(self.offsets.as_bytes());
        self.offsets.clear();
        let mut trailer = Trailer { count: U16::new(count), kind: 0, zero: 0, crc: U32::new(0) };
        out.extend_from_slice(&trailer.as_bytes()[..4]);
        trailer.crc = U32::new(id.checksum(offset, &out[start..]));
        out.extend_from_slice(&trailer.as_bytes()[4..]);
        out.len() - start
    }
}

/// A block whose checksum and structure were verified: all its offsets lie inside.
#[derive(Clone, Debug)]
pub struct Block {
    bytes: Bytes,
    offsets_start: usize,
    count: usize,
}

/// An entry of a block.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'b> {
    /// Its place in the tree.
    pub key: TreeKey<'b>,
    /// Log index of the write.
    pub version: u64,
    key_start: usize,
    /// Bytes of the value; none when deleted.
    value_bytes: Option<usize>,
}

impl Entry<'_> {
    fn key_range(&self) -> Range<usize> {
        self.key_start..self.key_start + self.key.1.len()
    }
    fn value_range(&self) -> Option<Range<usize>> {
        let start = self.key_range().end;
        self.value_bytes.map(|bytes| start..start + bytes)
    }
}

impl Block {
    /// Verifies the bytes of the block at `offset` of table `id`, stored in `path`.
    pub fn verify(bytes: Bytes, id: &TableId, offset: u64, path: &str) -> Result<Block, StorageError> {
        let problem = |expected: &str, got: String| damaged(path, offset, expected, got);
        let Some(body_end) = bytes.len().checked_sub(TRAILER_BYTES) else {
            return Err(problem("a block", format!("{} bytes", bytes.len())));
        };
        let trailer = Trailer::read_from_bytes(&bytes[body_end..]).map_err(|_| problem("a trailer", "none".into()))?;
        let crc = id.checksum(offset, &bytes[..bytes.len() - size_of::<U32>()]);
        if crc != trailer.crc.get() {
            return Err(problem(&format!("crc {:#010x}", trailer.crc.get()), format!("{crc:#010x}")));
        }
        if trailer.kind != 0 {
            return Err(problem("block kind 0", trailer.kind.to_string()));
        }
        let count = usize::from(trailer.count.get());
        let offsets_start = body_end.checked_sub(count * size_of::<U16>()).filter(|_| count > 0);
        let Some(offsets_start) = offsets_start else {
            return Err(problem("entries", format!("{count} in {} bytes", bytes.len())));
        };
        let block = Block { bytes, offsets_start, count };
        match block.first_gap() {
            None => Ok(block),
            Some(entry) => Err(problem("entries without gaps", format!("entry {entry} out of place"))),
        }
    }

    /// The first entry that does not end where the next one starts.
    fn first_gap(&self) -> Option<usize> {
        let mut expected = 0;
        for at in 0..self.count {
            let entry = self.entry(at);
            let fits = self.offset(at) == Some(expected) && entry.is_some();
            if !fits {
                return Some(at);
            }
            expected = entry.map_or(0, |e| e.value_range().map_or(e.key_range().end, |range| range.end));
        }
        (expected != self.offsets_start).then_some(self.count)
    }

    fn offset(&self, at: usize) -> Option<usize> {
        let start = self.offsets_start + at * size_of::<U16>();
        let bytes = self.bytes.get(start..start + size_of::<U16>()).filter(|_| at < self.count)?;
        U16::read_from_bytes(bytes).ok().map(|offset| usize::from(offset.get()))
    }

    /// Number of entries, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Entry number `at`; none behind the last.
    pub fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let entries = self.bytes.get(self.offset(at)?..self.offsets_start)?;
        let (head, rest) = EntryHead::ref_from_prefix(entries).ok()?;
        let (key_bytes, value_bytes) = (usize::from(head.key_bytes.get()), head.value_bytes.get() as usize);
        let key = rest.get(..key_bytes)?;
        rest.get(key_bytes..key_bytes + value_bytes)?;
        let value_bytes = match head.kind {
            KIND_VALUE => Some(value_bytes),
            KIND_TOMBSTONE if value_bytes == 0 => None,
            _ => return None,
        };
        Some(Entry {
            key: (KeyspaceId(head.keyspace.get()), key),
            version: head.version.get(),
            key_start: self.offset(at)? + ENTRY_HEAD_BYTES,
            value_bytes,
        })
    }

    /// The entry of `key`, by binary search over the offsets.
    pub fn find(&self, key: TreeKey<'_>) -> Option<Entry<'_>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            match entry.key.cmp(&key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(entry),
            }
        }
        None
    }

    /// The value of an entry of this block, sharing its memory; none when deleted.
    pub fn value(&self, entry: &Entry<'_>) -> Option<Bytes> {
        entry.value_range().map(|range| self.bytes.slice(range))
    }

    /// Entry number `at` as a record that shares the block's memory.
    pub fn record(&self, at: usize) -> Option<Record> {
        let entry = self.entry(at)?;
        Some(Record {
            keyspace: entry.key.0,
            key: self.bytes.slice(entry.key_range()),
            version: entry.version,
            value: self.value(&entry),
        })
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

//! A block: entries in order, an offset and a tag for each, a trailer (FORMAT.md §2.1).

use crate::error::StorageError;
use crate::sst::compress::{Compression, Compressor};
use crate::sst::view::{
    ENTRY_TAIL_BYTES, Entry, KEYSPACE_BYTES, KIND_BITS, KIND_EXPIRING, KIND_TOMBSTONE, KIND_VALUE, View, key_of,
    lay_key, tag,
};
use crate::sst::{NEVER_MS, Record, TableId, TreeKey, damaged, varint};
use bytes::Bytes;
use ringkv_wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block's trailer.
pub const TRAILER_BYTES: usize = size_of::<Trailer>();
/// Largest target size of a block: offsets are 16 bits.
pub const BLOCK_TARGET_MAX: usize = 32_768;
/// Longest beginning that the keys of a block share without repeating it.
pub const PREFIX_BYTES_MAX: usize = 1024;
/// No block is larger, as it is: one entry, and what goes with it.
const RAW_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 64;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Trailer {
    base: U64,
    raw_bytes: U32,
    count: U16,
    prefix_bytes: U16,
    compression: u8,
    zero: [u8; 3],
    crc: U32,
}

const _: () = assert!(size_of::<Trailer>() == 24);
const _: () = assert!(std::mem::offset_of!(Trailer, compression) == 16);

/// Bytes of a value's length and of its expiry.
fn length_bytes(record: &Record<'_>) -> usize {
    let expiry = if record.expires() { varint::bytes_of(record.expiry_ms) } else { 0 };
    record.value.map_or(0, |value| varint::bytes_of(value.len() as u64)) + expiry
}

/// How a block was made smaller, by the trailer that ends its bytes; nothing is verified.
pub(crate) fn compression_of(bytes: &[u8]) -> Option<Compression> {
    let (_, trailer) = Trailer::read_from_suffix(bytes).ok()?;
    Compression::of_kind(trailer.compression)
}

/// An entry that waits for its block to be closed.
#[derive(Debug)]
struct Waiting {
    /// Bytes of the laid key; they and the value stand in the builder's bytes.
    key_bytes: usize,
    value_bytes: Option<usize>,
    version: u64,
    expiry_ms: u64,
    tag: u8,
}

impl Waiting {
    fn kind(&self) -> u64 {
        match self.value_bytes {
            None => KIND_TOMBSTONE,
            Some(_) if self.expiry_ms == NEVER_MS => KIND_VALUE,
            Some(_) => KIND_EXPIRING,
        }
    }
}

/// Collects the entries of one block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    entries: Vec<Waiting>,
    bytes: Vec<u8>,
    /// Bytes that all keys share so far.
    shared: usize,
    /// Bytes of the lengths of all values, and of their expiries.
    lengths: usize,
    versions: Option<(u64, u64)>,
    /// Made anew for each block.
    raw: Vec<u8>,
}

impl BlockBuilder {
    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn first_key(&self) -> &[u8] {
        self.entries.first().map_or(&[], |first| &self.bytes[..first.key_bytes])
    }

    /// Bytes that all keys share, this one added.
    #[inline]
    fn shared_with(&self, key: TreeKey<'_>) -> usize {
        let Some((keyspace, first)) = key_of(self.first_key()) else { return KEYSPACE_BYTES + key.1.len() };
        if keyspace != key.0 {
            let (a, b) = (keyspace.0.to_be_bytes(), key.0.0.to_be_bytes());
            return a.iter().zip(&b).take(self.shared).take_while(|(a, b)| a == b).count();
        }
        let shared = &first[..self.shared.saturating_sub(KEYSPACE_BYTES)];
        if key.1.starts_with(shared) {
            return self.shared;
        }
        KEYSPACE_BYTES + shared.iter().zip(key.1).take_while(|(a, b)| a == b).count()
    }

    /// At most the length of the finished block, were this entry added and nothing compressed.
    #[inline]
    pub fn bytes_with(&self, key: TreeKey<'_>, record: &Record<'_>) -> usize {
        let Record { version, value, .. } = *record;
        let (least, most) = self.versions.unwrap_or((version, version));
        let shared = if self.is_empty() { 0 } else { self.shared_with(key) };
        let head = varint::bytes_of((key.1.len() as u64) << KIND_BITS | KIND_VALUE);
        let each = head + varint::bytes_of(most.max(version) - least.min(version)) + ENTRY_TAIL_BYTES;
        let count = self.entries.len() + 1;
        let added = KEYSPACE_BYTES + key.1.len() + value.map_or(0, <[u8]>::len) + length_bytes(record);
        self.bytes.len() + self.lengths + added + count * each - (count - 1) * shared + TRAILER_BYTES
    }

    /// Appends an entry; keys must come in the tree's order. `hash` is the key's.
    pub fn add(&mut self, key: TreeKey<'_>, hash: u64, record: &Record<'_>) {
        let Record { version, value, expiry_ms } = *record;
        assert!(value.is_some() || !record.expires(), "a deletion stays");
        assert!(key.1.len() <= KEY_BYTES_MAX, "keys are limited");
        assert!(value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX), "values are limited");
        let key_bytes = KEYSPACE_BYTES + key.1.len();
        self.shared = self.shared_with(key);
        let (least, most) = self.versions.unwrap_or((version, version));
        self.versions = Some((least.min(version), most.max(version)));
        self.lengths += length_bytes(record);
        lay_key(key, &mut self.bytes);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        let value_bytes = value.map(<[u8]>::len);
        self.entries.push(Waiting { key_bytes, value_bytes, version, expiry_ms, tag: tag(hash) });
    }

    /// Appends the finished block, which will stand at `offset` of table `id`, to `out` and starts anew. Answers its length.
    pub fn finish(&mut self, id: &TableId, offset: u64, compressor: &mut Compressor, out: &mut Vec<u8>) -> usize {
        assert!(!self.is_empty(), "a block has at least one entry");
        let prefix_bytes = self.shared.min(PREFIX_BYTES_MAX);
        let base = self.versions.map_or(0, |(least, _)| least);
        self.lay(prefix_bytes, base);
        let (compression, stored) = compressor.make(&self.raw);
        let start = out.len();
        out.extend_from_slice(stored);
        let mut trailer = Trailer {
            base: U64::new(base),
            raw_bytes: U32::new(u32::try_from(self.raw.len()).expect("a block is below 17 MiB")),
            count: U16::new(u16::try_from(self.entries.len()).expect("entries of 5 bytes in at most 32,768")),
            prefix_bytes: U16::new(prefix_bytes as u16),
            compression,
            zero: [0; 3],
            crc: U32::new(0),
        };
        out.extend_from_slice(&trailer.as_bytes()[..TRAILER_BYTES - size_of::<U32>()]);
        trailer.crc = U32::new(id.checksum(offset, &out[start..]));
        out.extend_from_slice(trailer.crc.as_bytes());
        self.entries.clear();
        self.bytes.clear();
        (self.versions, self.lengths) = (None, 0);
        out.len() - start
    }

    /// Makes the raw block: prefix, offsets, tags, entries. What a search reads first stands together.
    fn lay(&mut self, prefix_bytes: usize, base: u64) {
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        raw.extend_from_slice(&self.bytes[..prefix_bytes]);
        raw.resize(prefix_bytes + self.entries.len() * size_of::<u16>(), 0);
        raw.extend(self.entries.iter().map(|entry| entry.tag));
        let (start, mut from) = (raw.len(), 0);
        for (number, entry) in self.entries.iter().enumerate() {
            let offset = u16::try_from(raw.len() - start).expect("a block is closed before its target");
            let at = prefix_bytes + number * size_of::<u16>();
            raw[at..at + size_of::<u16>()].copy_from_slice(&offset.to_le_bytes());
            let suffix_bytes = entry.key_bytes - prefix_bytes;
            varint::put((suffix_bytes as u64) << KIND_BITS | entry.kind(), &mut raw);
            if let Some(bytes) = entry.value_bytes {
                varint::put(bytes as u64, &mut raw);
            }
            varint::put(entry.version - base, &mut raw);
            if entry.kind() == KIND_EXPIRING {
                varint::put(entry.expiry_ms, &mut raw);
            }
            // Suffix and value stand side by side.
            let end = from + entry.key_bytes + entry.value_bytes.unwrap_or(0);
            raw.extend_from_slice(&self.bytes[from + prefix_bytes..end]);
            from = end;
        }
        self.raw = raw;
    }
}

/// A block whose checksum and structure were verified: all its offsets lie inside.
#[derive(Clone, Debug)]
pub struct Block {
    raw: Bytes,
    base: u64,
    prefix_bytes: usize,
    count: usize,
}

impl Block {
    /// Verifies the bytes of the block at `offset` of table `id`, stored in `path`, and undoes their compression.
    pub fn verify(bytes: Bytes, id: &TableId, offset: u64, path: &str) -> Result<Block, StorageError> {
        let problem = |expected: &str, got: String| damaged(path, offset, expected, got);
        let Some(stored_bytes) = bytes.len().checked_sub(TRAILER_BYTES) else {
            return Err(problem("a block", format!("{} bytes", bytes.len())));
        };
        let trailer =
            Trailer::read_from_bytes(&bytes[stored_bytes..]).map_err(|_| problem("a trailer", "none".into()))?;
        let crc = id.checksum(offset, &bytes[..bytes.len() - size_of::<U32>()]);
        if crc != trailer.crc.get() {
            return Err(problem(&format!("crc {:#010x}", trailer.crc.get()), format!("{crc:#010x}")));
        }
        let Some(compression) = Compression::of_kind(trailer.compression) else {
            return Err(problem("compression 0, 1 or 2", trailer.compression.to_string()));
        };
        let raw_bytes = trailer.raw_bytes.get() as usize;
        let most = RAW_BYTES_MAX.min(compression.most_bytes(stored_bytes));
        if raw_bytes > most {
            return Err(problem(&format!("a block of at most {most} bytes"), raw_bytes.to_string()));
        }
        let raw = match compression {
            Compression::None => (stored_bytes == raw_bytes).then(|| bytes.slice(..stored_bytes)),
            way => way.undo(&bytes[..stored_bytes], raw_bytes).map(Bytes::from),
        };
        let Some(raw) = raw else {
            return Err(problem(&format!("{raw_bytes} bytes stored by {compression:?}"), "others".into()));
        };
        let (count, prefix_bytes) = (usize::from(trailer.count.get()), usize::from(trailer.prefix_bytes.get()));
        let block = Block { raw, base: trailer.base.get(), prefix_bytes, count };
        match block.view().map(|view| view.first_gap()) {
            Some(None) => Ok(block),
            Some(Some(entry)) => Err(problem("entries without gaps", format!("entry {entry} out of place"))),
            None => Err(problem("entries", format!("{count} in {raw_bytes} bytes"))),
        }
    }

    /// To look into it.
    #[inline]
    pub fn view(&self) -> Option<View<'_>> {
        View::new(&self.raw, self.base, self.prefix_bytes, self.count)
    }

    /// The block that a view looks at, copied.
    pub(crate) fn of(view: View<'_>) -> Block {
        let (raw, base, prefix_bytes, count) = view.parts();
        Block { raw, base, prefix_bytes, count }
    }

    /// Number of entries, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Prefix, offsets, tags, entries.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// What all its keys begin with, laid.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.raw[..self.prefix_bytes]
    }

    /// What [`View::new`] takes besides.
    pub(crate) fn shape(&self) -> (u64, usize, usize) {
        (self.base, self.prefix_bytes, self.count)
    }

    /// Entry number `at`; none behind the last.
    #[inline]
    pub fn entry(&self, at: usize) -> Option<Entry<'_>> {
        self.view()?.entry(at)
    }

    /// Where in [`Block::raw`] bytes of it stand.
    #[inline]
    pub(crate) fn place_of(&self, part: &[u8]) -> Range<usize> {
        let from = part.as_ptr().addr().saturating_sub(self.raw.as_ptr().addr());
        from..from + part.len()
    }

    /// Some of its bytes, sharing their memory.
    pub(crate) fn slice(&self, range: Range<usize>) -> Bytes {
        self.raw.slice(range)
    }

    /// The value of an entry of this block, sharing its memory; none when deleted.
    pub fn value(&self, entry: &Entry<'_>) -> Option<Bytes> {
        entry.record.value.map(|value| self.raw.slice_ref(value))
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

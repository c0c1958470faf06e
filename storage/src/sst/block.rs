//! A block: entries in order, an offset and a tag for each, a trailer (FORMAT.md §2.1).

use crate::error::StorageError;
use crate::sst::compress::{Compression, Compressor};
use crate::sst::{TableId, TreeKey, damaged, varint};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::cmp::Ordering;
use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block's trailer.
pub const TRAILER_BYTES: usize = size_of::<Trailer>();
/// Largest target size of a block: offsets are 16 bits.
pub const BLOCK_TARGET_MAX: usize = 32_768;
/// Longest beginning that the keys of a block share without repeating it.
pub const PREFIX_BYTES_MAX: usize = 1024;
/// What an entry costs besides its bytes: offset and tag.
const ENTRY_TAIL_BYTES: usize = size_of::<U16>() + 1;
/// Bytes of a keyspace in front of its keys.
const KEYSPACE_BYTES: usize = 4;
/// No block is larger, as it is: one entry, and what goes with it.
const RAW_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 64;

const KIND_BITS: u32 = 2;
const KIND_VALUE: u64 = 1;
const KIND_TOMBSTONE: u64 = 2;

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

/// One byte of a key's hash: entries whose tag differs are not looked at. Its lowest: the highest are the same all over a shard.
fn tag(hash: u64) -> u8 {
    hash as u8
}

/// A key with its keyspace in front, as bytes whose order is the tree's.
pub(crate) fn lay_key(key: TreeKey<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&key.0.0.to_be_bytes());
    out.extend_from_slice(key.1);
}

/// The key that [`lay_key`] laid; none when it is too short.
pub(crate) fn key_of(laid: &[u8]) -> Option<TreeKey<'_>> {
    let (keyspace, key) = laid.split_first_chunk::<KEYSPACE_BYTES>()?;
    Some((KeyspaceId(u32::from_be_bytes(*keyspace)), key))
}

fn length_bytes(value: Option<&[u8]>) -> usize {
    value.map_or(0, |value| varint::bytes_of(value.len() as u64))
}

/// An entry that waits for its block to be closed.
#[derive(Debug)]
struct Waiting {
    /// Bytes of the laid key; they and the value stand in the builder's bytes.
    key_bytes: usize,
    value_bytes: Option<usize>,
    version: u64,
    tag: u8,
}

/// Collects the entries of one block.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    entries: Vec<Waiting>,
    bytes: Vec<u8>,
    /// Bytes that all keys share so far.
    shared: usize,
    /// Bytes of the lengths of all values.
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

    /// Bytes that the first key shares with another one.
    fn shared_with(&self, key: TreeKey<'_>) -> usize {
        let laid = key.0.0.to_be_bytes();
        self.first_key().iter().zip(laid.iter().chain(key.1)).take(self.shared).take_while(|(a, b)| a == b).count()
    }

    /// At most the length of the finished block, were this entry added and nothing compressed.
    pub fn bytes_with(&self, key: TreeKey<'_>, version: u64, value: Option<&[u8]>) -> usize {
        let (least, most) = self.versions.unwrap_or((version, version));
        let shared = if self.is_empty() { 0 } else { self.shared_with(key) };
        let head = varint::bytes_of((key.1.len() as u64) << KIND_BITS | KIND_VALUE);
        let each = head + varint::bytes_of(most.max(version) - least.min(version)) + ENTRY_TAIL_BYTES;
        let count = self.entries.len() + 1;
        let added = KEYSPACE_BYTES + key.1.len() + value.map_or(0, <[u8]>::len) + length_bytes(value);
        self.bytes.len() + self.lengths + added + count * each - (count - 1) * shared + TRAILER_BYTES
    }

    /// Appends an entry; keys must come in the tree's order. `hash` is the key's.
    pub fn add(&mut self, key: TreeKey<'_>, hash: u64, version: u64, value: Option<&[u8]>) {
        assert!(key.1.len() <= KEY_BYTES_MAX, "keys are limited");
        assert!(value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX), "values are limited");
        let key_bytes = KEYSPACE_BYTES + key.1.len();
        self.shared = if self.is_empty() { key_bytes } else { self.shared_with(key) };
        let (least, most) = self.versions.unwrap_or((version, version));
        self.versions = Some((least.min(version), most.max(version)));
        self.lengths += length_bytes(value);
        lay_key(key, &mut self.bytes);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.entries.push(Waiting { key_bytes, value_bytes: value.map(<[u8]>::len), version, tag: tag(hash) });
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

    /// Makes the raw block: prefix, entries, offsets, tags.
    fn lay(&mut self, prefix_bytes: usize, base: u64) {
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        raw.extend_from_slice(&self.bytes[..prefix_bytes]);
        let (mut offsets, mut from) = (Vec::with_capacity(self.entries.len()), 0);
        for entry in &self.entries {
            offsets.push(U16::new(u16::try_from(raw.len()).expect("a block is closed before its target")));
            let suffix = &self.bytes[from + prefix_bytes..from + entry.key_bytes];
            let kind = if entry.value_bytes.is_some() { KIND_VALUE } else { KIND_TOMBSTONE };
            varint::put((suffix.len() as u64) << KIND_BITS | kind, &mut raw);
            if let Some(bytes) = entry.value_bytes {
                varint::put(bytes as u64, &mut raw);
            }
            varint::put(entry.version - base, &mut raw);
            raw.extend_from_slice(suffix);
            from += entry.key_bytes;
            let value_end = from + entry.value_bytes.unwrap_or(0);
            raw.extend_from_slice(&self.bytes[from..value_end]);
            from = value_end;
        }
        raw.extend_from_slice(offsets.as_bytes());
        raw.extend(self.entries.iter().map(|entry| entry.tag));
        self.raw = raw;
    }
}

/// A block whose checksum and structure were verified: all its offsets lie inside.
#[derive(Clone, Debug)]
pub struct Block {
    /// Prefix, entries, offsets, tags.
    raw: Bytes,
    base: u64,
    prefix_bytes: usize,
    offsets_start: usize,
    count: usize,
}

/// An entry of a block.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'b> {
    /// What its laid key has behind the block's prefix.
    suffix: &'b [u8],
    /// Log index of the write.
    pub version: u64,
    /// The value; none when deleted.
    pub value: Option<&'b [u8]>,
    end: usize,
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
        let count = usize::from(trailer.count.get());
        let prefix_bytes = usize::from(trailer.prefix_bytes.get());
        let offsets_start = raw_bytes.checked_sub(count * ENTRY_TAIL_BYTES).filter(|_| count > 0);
        let Some(offsets_start) = offsets_start.filter(|start| prefix_bytes <= *start) else {
            return Err(problem("entries", format!("{count} in {raw_bytes} bytes")));
        };
        let block = Block { raw, base: trailer.base.get(), prefix_bytes, offsets_start, count };
        match block.first_gap() {
            None => Ok(block),
            Some(entry) => Err(problem("entries without gaps", format!("entry {entry} out of place"))),
        }
    }

    /// The first entry that does not end where the next one starts, or has too short a key.
    fn first_gap(&self) -> Option<usize> {
        let mut expected = self.prefix_bytes;
        for at in 0..self.count {
            let entry = self.entry(at).filter(|entry| {
                let key_bytes = self.prefix_bytes + entry.suffix.len();
                (KEYSPACE_BYTES..=KEYSPACE_BYTES + KEY_BYTES_MAX).contains(&key_bytes)
            });
            let Some(entry) = entry.filter(|_| self.offset(at) == Some(expected)) else { return Some(at) };
            expected = entry.end;
        }
        (expected != self.offsets_start).then_some(self.count)
    }

    #[inline]
    fn offset(&self, at: usize) -> Option<usize> {
        let start = self.offsets_start + at * size_of::<U16>();
        let bytes = self.raw.get(start..start + size_of::<U16>()).filter(|_| at < self.count)?;
        U16::read_from_bytes(bytes).ok().map(|offset| usize::from(offset.get()))
    }

    /// Number of entries, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }

    fn prefix(&self) -> &[u8] {
        &self.raw[..self.prefix_bytes]
    }

    fn tags(&self) -> &[u8] {
        &self.raw[self.offsets_start + self.count * size_of::<U16>()..]
    }

    /// Entry number `at`; none behind the last.
    #[inline]
    pub fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let mut rest = self.raw.get(self.offset(at)?..self.offsets_start)?;
        let head = varint::take(&mut rest)?;
        let value_bytes = match head & ((1 << KIND_BITS) - 1) {
            KIND_VALUE => Some(usize::try_from(varint::take(&mut rest)?).ok()?),
            KIND_TOMBSTONE => None,
            _ => return None,
        };
        let version = self.base.checked_add(varint::take(&mut rest)?)?;
        let (suffix, rest) = rest.split_at_checked(usize::try_from(head >> KIND_BITS).ok()?)?;
        let (value, left) = rest.split_at_checked(value_bytes.unwrap_or(0))?;
        let value = value_bytes.map(|_| value);
        Some(Entry { suffix, version, value, end: self.offsets_start - left.len() })
    }

    /// The key of an entry of this block.
    pub fn key(&self, entry: &Entry<'_>) -> Option<(KeyspaceId, Bytes)> {
        let mut laid = Vec::new();
        self.lay_key_of(entry, &mut laid);
        key_of(&laid).map(|(keyspace, key)| (keyspace, Bytes::copy_from_slice(key)))
    }

    /// Lays the key of an entry of this block into `out`, as [`lay_key`] does.
    pub(crate) fn lay_key_of(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(entry.suffix);
    }

    /// The order of an entry's key and another, laid one.
    fn compare(&self, entry: &Entry<'_>, laid: &[u8]) -> Ordering {
        let prefix = self.prefix();
        let (front, rest) = laid.split_at(prefix.len().min(laid.len()));
        prefix.cmp(front).then_with(|| entry.suffix.cmp(rest))
    }

    /// What a key has behind this block's prefix; none when it does not begin with it.
    #[inline]
    fn suffix_of<'k>(&self, key: TreeKey<'k>) -> Option<&'k [u8]> {
        let (keyspace, rest) = self.prefix().split_first_chunk::<KEYSPACE_BYTES>()?;
        if u32::from_be_bytes(*keyspace) != key.0.0 {
            return None;
        }
        key.1.strip_prefix(rest)
    }

    /// The number of the entry of `key`, whose hash is `hash`: only entries with its tag are looked at.
    #[inline]
    pub fn position(&self, key: TreeKey<'_>, hash: u64) -> Option<usize> {
        let mut tagged = memchr::memchr_iter(tag(hash), self.tags());
        if self.prefix_bytes < KEYSPACE_BYTES {
            // A block with several keyspaces: rare.
            let mut laid = Vec::with_capacity(KEYSPACE_BYTES + key.1.len());
            lay_key(key, &mut laid);
            return tagged
                .find(|at| self.entry(*at).is_some_and(|entry| self.compare(&entry, &laid) == Ordering::Equal));
        }
        let suffix = self.suffix_of(key)?;
        tagged.find(|at| self.entry(*at).is_some_and(|entry| entry.suffix == suffix))
    }

    /// The entry of `key`, whose hash is `hash`.
    pub fn find(&self, key: TreeKey<'_>, hash: u64) -> Option<Entry<'_>> {
        self.entry(self.position(key, hash)?)
    }

    /// The number of the first entry whose key is not less than a laid key; [`Block::count`] when all are less.
    pub(crate) fn first_from(&self, laid: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let less = self.entry(middle).is_some_and(|entry| self.compare(&entry, laid) == Ordering::Less);
            (low, high) = if less { (middle + 1, high) } else { (low, middle) };
        }
        low
    }

    /// The value of an entry of this block, sharing its memory; none when deleted.
    pub fn value(&self, entry: &Entry<'_>) -> Option<Bytes> {
        let range = |value: &[u8]| Range { start: entry.end - value.len(), end: entry.end };
        entry.value.map(|value| self.raw.slice(range(value)))
    }

    /// Asks for the memory where a search begins.
    pub(crate) fn prefetch(&self) {
        crate::memory::prefetch(self.raw.get(self.offsets_start));
        crate::memory::prefetch(self.raw.get(self.offsets_start + 64));
        crate::memory::prefetch(self.raw.first());
    }

    /// Goes on: asks for the memory of the entry that is probably the one.
    pub(crate) fn prefetch_entry(&self, hash: u64) {
        if let Some(at) = memchr::memchr(tag(hash), self.tags())
            && let Some(start) = self.offset(at)
        {
            crate::memory::prefetch(self.raw.get(start));
            crate::memory::prefetch(self.raw.get(start + 64));
            crate::memory::prefetch(self.raw.get(start + 127));
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

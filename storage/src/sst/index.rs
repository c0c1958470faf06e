//! The sparse index: one fixed-size entry per block, searched where it is mapped (FORMAT.md §2.2).

use crate::memory::prefetch;
use crate::sst::TreeKey;
use crate::sst::guide::Guide;
use ringkv_wire::ids::KeyspaceId;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// So many prefixes are not searched but counted through: nobody can guess where a search turns.
const COUNTED: usize = 8;

/// Bytes of a block in the index: its prefix and its entry.
pub const INDEX_ENTRY_BYTES: usize = size_of::<U64>() + size_of::<IndexEntry>();

/// One block and the separator before it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndexEntry {
    block_offset: U64,
    block_bytes: U32,
    keyspace: U32,
    key_start: U32,
    key_bytes: U16,
    zero: U16,
}

const _: () = assert!(size_of::<IndexEntry>() == 24);
const _: () = assert!(std::mem::offset_of!(IndexEntry, key_start) == 16);

/// Where a block stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// Its number in the table, from 0.
    pub number: usize,
    /// Where it starts.
    pub offset: u64,
    /// Its length, trailer included.
    pub bytes: u32,
}

impl BlockPlace {
    /// Where it ends.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.bytes)
    }
}

/// The 8 bytes behind the first `skip` as a number that compares as the keys do, up to equality, when they share what is skipped.
#[inline]
pub(crate) fn prefix(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or_default();
    match (rest.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), _) => u64::from_be_bytes(*first),
        // Those in front pushed out: bytes that are copied to be read at once are waited for.
        (None, Some(last)) if !rest.is_empty() => u64::from_be_bytes(*last) << (u64::BITS as usize - 8 * rest.len()),
        _ => {
            rest.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)).unbounded_shl(64 - 8 * rest.len() as u32)
        }
    }
}

/// How many leading bytes all keys from `least` to `greatest` share: none when there are several keyspaces.
pub fn shared_bytes(least: TreeKey<'_>, greatest: TreeKey<'_>) -> u16 {
    if least.0 != greatest.0 {
        return 0;
    }
    let shared = least.1.iter().zip(greatest.1).take_while(|(a, b)| a == b).count();
    u16::try_from(shared).expect("keys are limited to 65,535 bytes")
}

/// The shortest prefix of `first` that is greater than `before`.
fn separator<'k>(before: Option<TreeKey<'_>>, first: TreeKey<'k>) -> TreeKey<'k> {
    match before {
        Some((keyspace, key)) if keyspace == first.0 => {
            let common = key.iter().zip(first.1).take_while(|(a, b)| a == b).count();
            (first.0, &first.1[..(common + 1).min(first.1.len())])
        }
        _ => (first.0, &[]),
    }
}

/// Collects the index while blocks are made.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    entries: Vec<IndexEntry>,
    keys: Vec<u8>,
}

impl IndexBuilder {
    /// Adds a block; `before` is the last key of the block before it, `first` its own first.
    pub fn add(&mut self, before: Option<TreeKey<'_>>, first: TreeKey<'_>, offset: u64, bytes: usize) {
        let (keyspace, key) = separator(before, first);
        self.entries.push(IndexEntry {
            block_offset: U64::new(offset),
            block_bytes: U32::new(u32::try_from(bytes).expect("a block is below 17 MiB")),
            keyspace: U32::new(keyspace.0),
            key_start: U32::new(u32::try_from(self.keys.len()).expect("separators of one table are below 4 GiB")),
            key_bytes: U16::new(u16::try_from(key.len()).expect("keys are limited to 65,535 bytes")),
            zero: U16::new(0),
        });
        self.keys.extend_from_slice(key);
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.entries.len()
    }

    /// Appends the section; all keys of the table share `skip` bytes, which separators are kept without.
    pub fn finish(self, skip: u16, out: &mut Vec<u8>) {
        let skip = usize::from(skip);
        let (mut entries, mut keys) = (self.entries, Vec::with_capacity(self.keys.len()));
        let mut prefixes = Vec::with_capacity(entries.len());
        for entry in &mut entries {
            let start = entry.key_start.get() as usize;
            let key = &self.keys[start..start + usize::from(entry.key_bytes.get())];
            // The first separator is empty.
            let kept = key.get(skip..).unwrap_or_default();
            prefixes.push(U64::new(prefix(kept, 0)));
            entry.key_start = U32::new(keys.len() as u32);
            entry.key_bytes = U16::new(kept.len() as u16);
            keys.extend_from_slice(kept);
        }
        out.extend_from_slice(prefixes.as_bytes());
        out.extend_from_slice(entries.as_bytes());
        out.extend_from_slice(&keys);
    }
}

/// An index in place. Cheap to make over a section that [`Index::verify`] accepted.
#[derive(Clone, Copy, Debug)]
pub struct Index<'m> {
    /// Side by side, so that a search stays in few cache lines.
    prefixes: &'m [U64],
    entries: &'m [IndexEntry],
    keys: &'m [u8],
    skip: usize,
    guide: Option<&'m Guide>,
}

impl<'m> Index<'m> {
    /// The index of `blocks` entries in `section`, all of whose keys share `skip` bytes; none when it cannot hold them.
    #[inline]
    pub fn new(section: &'m [u8], blocks: usize, skip: u16) -> Option<Index<'m>> {
        let (prefixes, rest) = section.split_at_checked(blocks.checked_mul(size_of::<U64>())?)?;
        let (entries, keys) = rest.split_at_checked(blocks.checked_mul(size_of::<IndexEntry>())?)?;
        Some(Index {
            prefixes: <[U64]>::ref_from_bytes(prefixes).ok()?,
            entries: <[IndexEntry]>::ref_from_bytes(entries).ok()?,
            keys,
            skip: usize::from(skip),
            guide: None,
        })
    }

    /// The same, searched with its guide.
    #[inline]
    pub(crate) fn guided(self, guide: &'m Guide) -> Index<'m> {
        Index { guide: Some(guide), ..self }
    }

    /// What makes its searches shorter.
    pub(crate) fn guide(&self) -> Guide {
        match self.entries {
            // Else they are not in order.
            [first, .., last] if first.keyspace == last.keyspace => Guide::new(self.prefixes),
            _ => Guide::default(),
        }
    }

    /// Whether every separator lies inside and ascends, and every block lies below `blocks_end`, in order.
    pub fn verify(&self, blocks_end: u64) -> bool {
        let (mut end, mut before) = (0, None);
        for (number, (entry, first)) in self.entries.iter().zip(self.prefixes).enumerate() {
            let (Some(place), Some(key)) = (self.place(number), self.key_of(entry)) else { return false };
            let in_order = before.is_none_or(|before| before < key);
            let in_place = place.offset >= end && place.bytes > 0 && prefix(key.1, 0) == first.get();
            if !in_order || !in_place || place.offset.checked_add(u64::from(place.bytes)).is_none_or(|e| e > blocks_end)
            {
                return false;
            }
            (end, before) = (place.end(), Some(key));
        }
        !self.entries.is_empty()
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.entries.len()
    }

    /// Where block `number` stands.
    pub fn place(&self, number: usize) -> Option<BlockPlace> {
        let entry = self.entries.get(number)?;
        Some(BlockPlace { number, offset: entry.block_offset.get(), bytes: entry.block_bytes.get() })
    }

    /// The number of the first block that ends behind `offset`.
    pub fn first_behind(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| {
            entry.block_offset.get().saturating_add(u64::from(entry.block_bytes.get())) <= offset
        })
    }

    /// The separator before block `number`, without what all keys share.
    pub fn separator(&self, number: usize) -> Option<TreeKey<'m>> {
        self.key_of(self.entries.get(number)?)
    }

    fn key_of(&self, entry: &IndexEntry) -> Option<TreeKey<'m>> {
        let start = entry.key_start.get() as usize;
        let key = self.keys.get(start..start.checked_add(usize::from(entry.key_bytes.get()))?)?;
        Some((KeyspaceId(entry.keyspace.get()), key))
    }

    /// A search for the block that [`Index::find`] finds, by the first bytes that decide; none when they cannot.
    #[inline]
    pub(crate) fn seek(&self, key: TreeKey<'_>) -> Option<Seek<'m>> {
        let [first, .., last] = self.entries else { return None };
        // The last block may go on into another keyspace than it begins with.
        if first.keyspace != last.keyspace || first.keyspace.get() != key.0.0 {
            return None;
        }
        let wanted = prefix(key.1, self.skip);
        let step = self.guide.map_or(0, |guide| guide.begin(wanted));
        Some(Seek { prefixes: self.prefixes, guide: self.guide, wanted, at: step, left: 0 })
    }

    /// The number of the block that holds `key` if any does: the last one whose separator is not greater. `key` lies between the
    /// table's least and greatest.
    #[inline]
    pub fn find(&self, key: TreeKey<'_>) -> Option<usize> {
        let rest = key.1.get(self.skip..).unwrap_or_default();
        let Some(mut seek) = self.seek(key) else {
            let before = |entry: &IndexEntry| self.key_of(entry).is_none_or(|separator| separator <= (key.0, rest));
            // The first separator is less than every key of the table.
            let behind = self.entries.get(1..).map_or(0, |entries| entries.partition_point(before));
            return (!self.entries.is_empty()).then_some(behind);
        };
        seek.enter();
        let at = seek.last_up_to();
        if self.prefixes[at].get() != seek.wanted {
            return Some(at);
        }
        // Separators that begin like the key: the rest decides.
        let same = self.prefixes[..=at].partition_point(|prefix| prefix.get() < seek.wanted);
        let before = |entry: &IndexEntry| self.key_of(entry).is_none_or(|(_, bytes)| bytes <= rest);
        (same + self.entries[same..=at].partition_point(before)).checked_sub(1)
    }
}

/// A search for a key that others go along with: each step is made in all before the next one, so that what they wait for comes
/// together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seek<'m> {
    prefixes: &'m [U64],
    guide: Option<&'m Guide>,
    wanted: u64,
    /// The guide's step; then where the search begins.
    at: usize,
    /// Among how many.
    left: usize,
}

impl Seek<'_> {
    /// Learns where to look, and asks for the memory there.
    #[inline]
    pub(crate) fn enter(&mut self) {
        let count = self.prefixes.len();
        let (from, to) = self.guide.map_or((0, count), |guide| guide.ends(self.at, count));
        (self.at, self.left) = (from, to.min(count).saturating_sub(from));
        prefetch(self.prefixes.get(from));
        prefetch(self.prefixes.get(from + COUNTED - 1));
    }

    /// The last prefix that is not above what is wanted; the first when all are.
    #[inline]
    fn last_up_to(&self) -> usize {
        let here = &self.prefixes[self.at..];
        let below = match here.first_chunk::<COUNTED>() {
            // Those behind the ones in question are all above.
            Some(few) if self.left <= COUNTED => up_to(few, self.wanted).saturating_sub(1),
            _ => last_up_to(&here[..self.left], self.wanted),
        };
        self.at + below
    }

    /// The block it comes to; none when whole keys must decide.
    #[inline]
    pub(crate) fn number(&self) -> Option<usize> {
        let at = self.last_up_to();
        self.prefixes.get(at).filter(|prefix| prefix.get() != self.wanted).map(|_| at)
    }
}

/// How many of these numbers are not above `wanted`.
#[inline]
fn up_to(prefixes: &[U64; COUNTED], wanted: u64) -> usize {
    prefixes.iter().map(|prefix| usize::from(prefix.get() <= wanted)).sum()
}

/// The last of these numbers, in order, that is not above `wanted`; the first when all are.
#[inline]
fn last_up_to(prefixes: &[U64], wanted: u64) -> usize {
    let (mut at, mut left) = (0, prefixes.len());
    // Without a branch on what is compared: nobody can guess it, and searches of several keys overlap.
    while left > 1 {
        let half = left / 2;
        at = if prefixes[at + half].get() <= wanted { at + half } else { at };
        left -= half;
    }
    at
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;

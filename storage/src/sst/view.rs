//! Looking into a block, wherever its bytes stand.

use crate::memory::prefetch;
use crate::sst::{NEVER_MS, Record, TreeKey, varint};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::limits::KEY_BYTES_MAX;
use std::cmp::Ordering;

/// What an entry costs besides its bytes: offset and tag.
pub(super) const ENTRY_TAIL_BYTES: usize = size_of::<u16>() + 1;
/// Bytes of a keyspace in front of its keys.
pub(super) const KEYSPACE_BYTES: usize = 4;
pub(super) const KIND_BITS: u32 = 2;
pub(super) const KIND_VALUE: u64 = 1;
pub(super) const KIND_TOMBSTONE: u64 = 2;
pub(super) const KIND_EXPIRING: u64 = 3;

/// One byte of a key's hash: entries whose tag differs are not looked at. Its lowest: the highest are the same all over a shard.
pub(super) fn tag(hash: u64) -> u8 {
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

/// An entry of a block.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'b> {
    /// What its laid key has behind the block's prefix.
    suffix: &'b [u8],
    /// What it says of its key.
    pub record: Record<'b>,
    /// Where it ends among the entries.
    end: usize,
}

impl Entry<'_> {
    /// What its laid key has behind the block's prefix.
    #[inline]
    pub(super) fn suffix(&self) -> &[u8] {
        self.suffix
    }
}

/// A verified block: prefix, offsets, tags, entries.
#[derive(Clone, Copy, Debug)]
pub struct View<'b> {
    prefix: &'b [u8],
    offsets: &'b [[u8; 2]],
    tags: &'b [u8],
    entries: &'b [u8],
    base: u64,
}

impl<'b> View<'b> {
    /// A block's parts; none when it has no entries or no room for what is said.
    #[inline]
    pub(crate) fn new(raw: &'b [u8], base: u64, prefix_bytes: usize, count: usize) -> Option<View<'b>> {
        let (prefix, rest) = raw.split_at_checked(prefix_bytes)?;
        let (offsets, rest) = rest.split_at_checked(count * size_of::<u16>())?;
        let (tags, entries) = rest.split_at_checked(count)?;
        let (offsets, _) = offsets.as_chunks::<2>();
        (count > 0).then_some(View { prefix, offsets, tags, entries, base })
    }

    /// What [`View::new`] takes, the bytes copied.
    pub(super) fn parts(&self) -> (Bytes, u64, usize, usize) {
        let mut raw = Vec::with_capacity(self.prefix.len() + self.tags.len() * ENTRY_TAIL_BYTES + self.entries.len());
        raw.extend_from_slice(self.prefix);
        raw.extend_from_slice(self.offsets.as_flattened());
        raw.extend_from_slice(self.tags);
        raw.extend_from_slice(self.entries);
        (raw.into(), self.base, self.prefix.len(), self.tags.len())
    }

    /// The first entry that does not end where the next one starts, or has too short a key.
    pub(super) fn first_gap(&self) -> Option<usize> {
        let mut expected = 0;
        for at in 0..self.tags.len() {
            let entry = self.entry(at).filter(|entry| {
                let key_bytes = self.prefix.len() + entry.suffix.len();
                (KEYSPACE_BYTES..=KEYSPACE_BYTES + KEY_BYTES_MAX).contains(&key_bytes)
            });
            let Some(entry) = entry.filter(|_| self.offset(at) == Some(expected)) else { return Some(at) };
            expected = entry.end;
        }
        (expected != self.entries.len()).then_some(self.tags.len())
    }

    #[inline]
    fn offset(&self, at: usize) -> Option<usize> {
        self.offsets.get(at).map(|offset| usize::from(u16::from_le_bytes(*offset)))
    }

    /// Number of entries, at least 1.
    pub fn count(&self) -> usize {
        self.tags.len()
    }

    /// Entry number `at`; none behind the last.
    #[inline]
    pub fn entry(&self, at: usize) -> Option<Entry<'b>> {
        self.entry_here(at)
    }

    /// The same as part of whoever calls it: for walks, to whom a call is a good part of what an entry costs.
    #[expect(clippy::inline_always, reason = "measured: left alone, the compiler makes a call of it")]
    #[inline(always)]
    pub(super) fn entry_here(&self, at: usize) -> Option<Entry<'b>> {
        let mut rest = self.entries.get(self.offset(at)?..)?;
        let head = varint::take(&mut rest)?;
        let kind = head & ((1 << KIND_BITS) - 1);
        let value_bytes = match kind {
            KIND_VALUE | KIND_EXPIRING => Some(usize::try_from(varint::take(&mut rest)?).ok()?),
            KIND_TOMBSTONE => None,
            _ => return None,
        };
        let version = self.base.checked_add(varint::take(&mut rest)?)?;
        let expiry_ms = match kind {
            KIND_EXPIRING => varint::take(&mut rest).filter(|expiry_ms| *expiry_ms != NEVER_MS)?,
            _ => NEVER_MS,
        };
        let (suffix, rest) = rest.split_at_checked(usize::try_from(head >> KIND_BITS).ok()?)?;
        let (value, left) = rest.split_at_checked(value_bytes.unwrap_or(0))?;
        let record = Record { version, value: value_bytes.map(|_| value), expiry_ms };
        Some(Entry { suffix, record, end: self.entries.len() - left.len() })
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
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(entry.suffix);
    }

    /// The order of an entry's key and another, laid one.
    fn compare(&self, entry: &Entry<'_>, laid: &[u8]) -> Ordering {
        let (front, rest) = laid.split_at(self.prefix.len().min(laid.len()));
        self.prefix.cmp(front).then_with(|| entry.suffix.cmp(rest))
    }

    /// What a key has behind this block's prefix; none when it does not begin with it.
    #[inline]
    fn suffix_of<'k>(&self, key: TreeKey<'k>) -> Option<&'k [u8]> {
        let (keyspace, rest) = self.prefix.split_first_chunk::<KEYSPACE_BYTES>()?;
        if u32::from_be_bytes(*keyspace) != key.0.0 {
            return None;
        }
        key.1.strip_prefix(rest)
    }

    /// The number of the entry of `key`, whose hash is `hash`: only entries with its tag are looked at.
    pub fn position(&self, key: TreeKey<'_>, hash: u64) -> Option<usize> {
        self.find_from(0, key, hash).map(|(at, _)| at)
    }

    /// The entry of `key`, whose hash is `hash`.
    pub fn find(&self, key: TreeKey<'_>, hash: u64) -> Option<Entry<'b>> {
        self.find_from(0, key, hash).map(|(_, entry)| entry)
    }

    /// The same with its number, when it is not in front of number `from`.
    #[expect(clippy::inline_always, reason = "measured: an entry that a call gives back in memory is waited for")]
    #[inline(always)]
    pub(crate) fn find_from(&self, from: usize, key: TreeKey<'_>, hash: u64) -> Option<(usize, Entry<'b>)> {
        if self.prefix.len() < KEYSPACE_BYTES {
            return self.position_by_laid(from, key, hash).and_then(|at| Some((at, self.entry_here(at)?)));
        }
        let suffix = self.suffix_of(key)?;
        self.first_tagged(from, hash, |entry| entry.suffix == suffix)
    }

    /// The number alone, in a block with several keyspaces.
    #[cold]
    fn position_by_laid(&self, from: usize, key: TreeKey<'_>, hash: u64) -> Option<usize> {
        let mut laid = Vec::with_capacity(KEYSPACE_BYTES + key.1.len());
        lay_key(key, &mut laid);
        self.first_tagged(from, hash, |entry| self.compare(entry, &laid) == Ordering::Equal).map(|(at, _)| at)
    }

    #[expect(clippy::inline_always, reason = "as above")]
    #[inline(always)]
    fn first_tagged(&self, mut from: usize, hash: u64, is: impl Fn(&Entry<'_>) -> bool) -> Option<(usize, Entry<'b>)> {
        loop {
            // Where a hint leads there is no more to search for.
            if *self.tags.get(from)? != tag(hash) {
                from += memchr::memchr(tag(hash), &self.tags[from..])?;
            }
            match self.entry_here(from) {
                Some(entry) if is(&entry) => return Some((from, entry)),
                _ => from += 1,
            }
        }
    }

    /// The number of the first entry whose key is not less than a laid key; [`View::count`] when all are less.
    pub(crate) fn first_from(&self, laid: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let less = self.entry(middle).is_some_and(|entry| self.compare(&entry, laid) == Ordering::Less);
            (low, high) = if less { (middle + 1, high) } else { (low, middle) };
        }
        low
    }

    /// The number of the first entry that may be of a key with this hash, its memory asked for.
    #[inline]
    pub(crate) fn hint(&self, hash: u64) -> Option<usize> {
        let at = memchr::memchr(tag(hash), self.tags)?;
        let start = self.offset(at)?;
        prefetch(self.entries.get(start));
        prefetch(self.entries.get(start + 64));
        prefetch(self.entries.get(start + 120));
        Some(at)
    }
}

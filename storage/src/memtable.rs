//! The memtable: the newest writes of one tree. Points are found through a hash index over an arena of records, several times
//! faster than through an ordered map; the order of keys is made when somebody walks it.

mod arena;
mod index;
pub(crate) mod shared;
mod walk;

pub(crate) use walk::Walk;

use crate::gate::Pace;
use crate::memory::PagePool;
use crate::sst::{NEVER_MS, Record, TreeKey};
use arena::{Arena, Kind, Written, record_bytes};
use bytes::Bytes;
use index::Index;
use ringkv_wire::ring::hash::key_hash;
use std::cell::OnceCell;
use std::rc::Rc;

/// What an entry costs besides its record: its share of the index, which is between a quarter and a half full.
const ENTRY_OVERHEAD_BYTES: usize = 24;
/// A value from this length on stays the block that it came in; a shorter one is copied, so that it does not hold its message.
const LARGE_BYTES: usize = 64 << 10;

/// Where a search begins: what is known of a key before its record was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    tag: u32,
    /// The first record with this tag; 0: none.
    place: u32,
}

/// Writes not yet in a table.
#[derive(Clone, Debug, Default)]
pub struct Memtable {
    arena: Arena,
    index: Index,
    /// Values that are blocks of their own.
    large: Vec<Bytes>,
    bytes: usize,
    entries: usize,
    version_max: u64,
    /// The order of its keys, once somebody walked.
    sorted: OnceCell<Rc<[u32]>>,
}

impl Memtable {
    /// Empty, of the tree with this number: see [`Arena::new`]. `seed` is the store's secret, for the index.
    pub fn new(tree: u32, seed: u64, pool: &Rc<PagePool>) -> Memtable {
        Memtable { arena: Arena::new(tree, pool.clone()), index: Index::new(seed), ..Memtable::default() }
    }

    /// As [`Memtable::new`], with room for so many keys: an index that grows under writes makes one of them wait for all that
    /// are there.
    pub fn with_room(tree: u32, seed: u64, pool: &Rc<PagePool>, keys: usize) -> Memtable {
        let mut memtable = Memtable::new(tree, seed, pool);
        memtable.index.make_room(keys, pool);
        memtable
    }

    /// Writes a value that stays, or a tombstone; see [`Memtable::write_until`].
    pub fn write(&mut self, version: u64, key: TreeKey<'_>, value: Option<Bytes>) -> isize {
        self.write_until(version, key, value, NEVER_MS)
    }

    /// Writes a value that is gone from log time `expiry_ms` on, or a tombstone, which stays. Answers by how many bytes the
    /// memtable grew.
    pub fn write_until(&mut self, version: u64, key: TreeKey<'_>, value: Option<Bytes>, expiry_ms: u64) -> isize {
        assert!(self.sorted.get().is_none(), "who walks it has frozen it");
        let before = self.bytes;
        let tag = self.index.tag(key_hash(key.0, key.1));
        let found = self.index.find(tag, |place| self.arena.at(place).key() == key);
        if let Some((_, place)) = found {
            self.drop_large(place);
        }
        let fits = |value: &Bytes| value.len() < LARGE_BYTES;
        let small = value.as_ref().filter(|value| fits(value));
        let kind = if value.is_some() { Kind::Value } else { Kind::Deleted };
        let expiry_ms = if value.is_some() { expiry_ms } else { NEVER_MS };
        let what = Written { version, value: small.map_or(&[], |value| &value[..]), expiry_ms };
        match found {
            Some((_, place)) if small.is_some() == value.is_some() && what.room() <= self.room(place) => {
                self.arena.overwrite(place, kind, &what);
            }
            _ => {
                let place = match &value {
                    Some(value) if !fits(value) => self.append_large(key, value, &what),
                    _ => self.append(kind, key, &what, None),
                };
                match found {
                    Some((slot, old)) => {
                        self.arena.void(old);
                        self.index.replace(slot, place);
                    }
                    None => {
                        self.index.insert(tag, place);
                        self.entries += 1;
                        self.bytes += ENTRY_OVERHEAD_BYTES;
                    }
                }
            }
        }
        self.version_max = self.version_max.max(version);
        self.bytes as isize - before as isize
    }

    fn room(&self, place: u32) -> usize {
        self.arena.at(place).head.room.get() as usize
    }

    fn append(&mut self, kind: Kind, key: TreeKey<'_>, what: &Written<'_>, number: Option<u32>) -> u32 {
        self.bytes += record_bytes(key.1.len(), what.room());
        self.arena.push(kind, key, what, number)
    }

    /// Appends a record whose value is a block of its own.
    fn append_large(&mut self, key: TreeKey<'_>, value: &Bytes, what: &Written<'_>) -> u32 {
        self.bytes += value.len();
        self.large.push(value.clone());
        self.append(Kind::Large, key, what, Some(self.large.len() as u32 - 1))
    }

    /// Lets go of the block that a record's value is, since the record gets another one.
    fn drop_large(&mut self, place: u32) {
        let head = self.arena.at(place).head;
        if head.kind() == Kind::Large {
            self.bytes -= std::mem::take(&mut self.large[head.value.get() as usize]).len();
        }
    }

    /// The newest write of a key, if it is here.
    pub fn get(&self, key: TreeKey<'_>, hash: u64) -> Option<Record<'_>> {
        let (_, place) = self.index.find(self.index.tag(hash), |place| self.arena.at(place).key() == key)?;
        Some(self.slot(place))
    }

    /// Begins a search: the index will be at hand when [`Memtable::hint`] asks it. `hash` is the key's, as below.
    pub fn prepare(&self, hash: u64) {
        self.index.prefetch(self.index.tag(hash));
    }

    /// Goes on: the record will be at hand when [`Memtable::get_hinted`] reads it.
    pub fn hint(&self, hash: u64) -> Hint {
        let tag = self.index.tag(hash);
        let place = self.index.find(tag, |_| true).map_or(0, |(_, place)| place);
        if place != 0 {
            self.arena.prefetch(place);
        }
        Hint { tag, place }
    }

    /// [`Memtable::get`] after these two steps.
    pub fn get_hinted(&self, key: TreeKey<'_>, hint: Hint) -> Option<Record<'_>> {
        if hint.place == 0 {
            return None;
        }
        if self.arena.at(hint.place).key() == key {
            return Some(self.slot(hint.place));
        }
        let (_, place) = self.index.find(hint.tag, |place| self.arena.at(place).key() == key)?;
        Some(self.slot(place))
    }

    fn slot(&self, place: u32) -> Record<'_> {
        let stored = self.arena.at(place);
        let value = match stored.head.kind() {
            Kind::Value => Some(stored.value()),
            Kind::Large => self.large.get(stored.head.value.get() as usize).map(|value| &value[..]),
            Kind::Deleted | Kind::Void => None,
        };
        Record { version: stored.head.version.get(), value, expiry_ms: stored.expiry_ms() }
    }

    /// Frees it in slices: its memory goes to the pool. `used_bytes` are what other memtables hold.
    pub async fn free(self, used_bytes: usize) {
        let mut pace = Pace::default();
        let (chunks, pool) = self.arena.into_chunks();
        // The index first: it is the largest piece.
        for pages in [self.index.into_pages()].into_iter().chain(chunks) {
            pool.give(pages, used_bytes, &mut pace).await;
        }
        for value in self.large {
            pace.step(value.len()).await;
            drop(value);
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
    /// Number of keys.
    pub fn entries(&self) -> usize {
        self.entries
    }
    /// Memory it holds: records, also those that newer ones replaced, values, and what each entry costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    /// The highest version written.
    pub fn version_max(&self) -> u64 {
        self.version_max
    }
}

#[cfg(test)]
mod tests;

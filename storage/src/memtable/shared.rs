//! The newest writes of a database: one thread writes, any number read at the same time, nobody waits.
//!
//! Records stand one behind the other in one piece of memory and never change once the index names them; a newer record of a key
//! points at the one it replaces, so that a reader finds the version that its snapshot may see. The engine's own memtable is another
//! one (`super`): it is its thread's alone, writes over what is replaced, and begins small, because a store has
//! thousands.

mod order;

pub(crate) use order::Walk;

use crate::memory::shared::SharedWords;
use crate::memory::{Pages, prefetch};
use crate::mix::mix;
use crate::sst::{NEVER_MS, Record, TreeKey};
use order::Order;
use ringkv_wire::ids::KeyspaceId;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Words in front of a record: version; keyspace and the place of the record before; lengths and kind.
const HEAD_WORDS: usize = 3;
/// Bytes of an expiry, in front of the key.
const EXPIRY_BYTES: usize = size_of::<u64>();
/// Bytes of memory for which the index has one slot.
const BYTES_PER_SLOT: usize = 64;
/// Of 8 slots so many are taken at most.
const TAKEN_OF_8: usize = 5;
/// Cache lines of a record that are fetched ahead of its reading.
const PREFETCH_LINES: usize = 3;

/// Words of the system's smallest page.
const PAGE_WORDS: usize = 4096 / size_of::<u64>();
/// An index gets its memory when more words than this are written or soon will be.
const SLOTS_FIRST: usize = 1 << 16;
/// The fewest slots.
const SLOTS_MIN: usize = 1 << 10;

const VALUE: u64 = 1;
const TOMBSTONE: u64 = 2;
const EXPIRING: u64 = 3;

/// Writes not yet in a table.
pub(crate) struct Memtable {
    arena: SharedWords,
    /// Words of the arena that hold whole records.
    used: AtomicUsize,
    /// Tag and place of each key's newest record; 0: free.
    slots: SharedWords,
    /// log2 of the slots.
    bits: u32,
    /// Turns hashes into tags: a secret, and odd.
    factor: u64,
    entries: AtomicUsize,
    /// Words that are known to have memory.
    populated: AtomicUsize,
    /// The order of its keys, as far as somebody walked.
    order: Mutex<Order>,
}

/// The right to write to a memtable: there is one.
pub(crate) struct Pen {
    memtable: Arc<Memtable>,
    used: usize,
    entries: usize,
}

/// Memory of a memtable, before or after its life.
pub(crate) struct Blank {
    arena: Pages,
    /// Zeros.
    slots: Pages,
    /// Whether the system has given all of it.
    touched: bool,
}

impl Blank {
    /// For records of so many bytes together, heads included.
    pub fn new(bytes: usize) -> Blank {
        assert!(words_for(bytes) < 1 << 32, "a memtable of {bytes} bytes");
        let slots = (bytes / BYTES_PER_SLOT).next_power_of_two().max(SLOTS_MIN);
        Blank { arena: Pages::zeroed(words_for(bytes)), slots: Pages::zeroed(slots), touched: false }
    }

    /// What [`Blank::new`] is to be told for so many records of so many bytes together.
    pub fn size_for(records: usize, bytes: usize) -> usize {
        bytes.max((records + 1).div_ceil(TAKEN_OF_8) * 8 * BYTES_PER_SLOT)
    }

    /// Whether [`Blank::new`] made it for so many bytes.
    pub fn is_for(&self, bytes: usize) -> bool {
        self.arena.words().len() == words_for(bytes)
    }

    /// With all its memory given by the system, which clears it at the first touch.
    pub fn touched(mut self) -> Blank {
        for pages in [&mut self.arena, &mut self.slots] {
            pages.words_mut().iter_mut().step_by(PAGE_WORDS).for_each(|word| *word = 0);
        }
        Blank { touched: true, ..self }
    }

    /// All its memory, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.arena.bytes().len() + self.slots.bytes().len()
    }
}

/// Words of an arena; nobody's place is 0.
fn words_for(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<u64>()) + 1
}

/// What a record takes, bytes.
pub(crate) fn record_bytes(key_bytes: usize, value_bytes: usize, expires: bool) -> usize {
    words_of(key_bytes + value_bytes + if expires { EXPIRY_BYTES } else { 0 }) * size_of::<u64>()
}

fn words_of(bytes: usize) -> usize {
    HEAD_WORDS + bytes.div_ceil(size_of::<u64>())
}

/// A record where it stands.
#[derive(Clone, Copy)]
struct Stored<'m> {
    version: u64,
    prev: u32,
    key: TreeKey<'m>,
    record: Record<'m>,
    words: usize,
}

impl Memtable {
    /// Empty, in this memory, with the only pen for it. `seed` is a secret: nobody can choose keys that share a tag.
    pub fn new(blank: Blank, seed: u64) -> (Arc<Memtable>, Pen) {
        let bits = blank.slots.words().len().trailing_zeros();
        let memtable = Arc::new(Memtable {
            arena: SharedWords::new(blank.arena),
            used: AtomicUsize::new(1),
            slots: SharedWords::new(blank.slots),
            bits,
            factor: mix(seed) | 1,
            entries: AtomicUsize::new(0),
            populated: AtomicUsize::new(if blank.touched { usize::MAX } else { 0 }),
            order: Mutex::default(),
        });
        (memtable.clone(), Pen { memtable, used: 1, entries: 0 })
    }

    /// Its memory, for the next one.
    pub fn into_blank(self) -> Blank {
        let mut slots = self.slots.into_pages();
        slots.words_mut().fill(0);
        Blank { arena: self.arena.into_pages(), slots, touched: true }
    }

    /// Has the system give memory up to so many bytes behind what is written, which may go on meanwhile: it clears what it gives, and
    /// whoever writes there first waits for it.
    pub fn populate_ahead(&self, bytes: usize) {
        let (from, all) = (self.populated.load(Ordering::Relaxed), self.arena.words().len());
        let upto = (self.used.load(Ordering::Relaxed) + bytes / size_of::<u64>()).min(all);
        if from == 0 && upto > SLOTS_FIRST {
            self.slots.populate(0..self.slots.words().len());
        }
        if upto > from {
            self.arena.populate(from..upto);
            self.populated.store(upto, Ordering::Relaxed);
        }
    }

    /// Number of keys.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        (self.used.load(Ordering::Relaxed) - 1) * size_of::<u64>()
    }

    #[inline]
    fn tag(&self, hash: u64) -> u32 {
        (hash.wrapping_mul(self.factor) >> 32) as u32
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        (tag >> (32 - self.bits)) as usize
    }

    /// Begins a search: the index will be at hand.
    #[inline]
    pub fn prepare(&self, hash: u64) {
        prefetch(self.slots.words().get(self.home(self.tag(hash))));
    }

    /// Goes on: the record will be at hand, when there is one.
    #[inline]
    pub fn hint(&self, hash: u64) {
        let tag = self.tag(hash);
        let word = self.slots.words()[self.home(tag)].load(Ordering::Acquire);
        if (word >> 32) as u32 == tag {
            self.fetch(word as u32);
        }
    }

    /// Asks for the memory of a record.
    #[inline]
    fn fetch(&self, place: u32) {
        for line in 0..PREFETCH_LINES {
            prefetch(self.arena.words().get(place as usize + 8 * line));
        }
    }

    /// The newest write of a key with a version up to `version`, if it is here. `hash` is the key's.
    #[inline]
    pub fn get(&self, key: TreeKey<'_>, hash: u64, version: u64) -> Option<Record<'_>> {
        if self.entries() == 0 {
            // Its index is large, and each look into it would wait for memory.
            return None;
        }
        let (_, place) = self.find(key, hash)?;
        self.visible(place, version).map(|(_, record)| record)
    }

    /// The version of a key's newest write, if it is here.
    pub fn newest(&self, key: TreeKey<'_>, hash: u64) -> Option<u64> {
        let (_, place) = self.find(key, hash)?;
        Some(self.at(place).version)
    }

    /// The slot that names a key's newest record, and that record's place; none with the slot where it would be.
    #[inline]
    fn search(&self, key: TreeKey<'_>, tag: u32) -> (usize, Option<u32>) {
        let slots = self.slots.words();
        let mut at = self.home(tag);
        loop {
            let word = slots[at].load(Ordering::Acquire);
            if word == 0 {
                return (at, None);
            }
            if (word >> 32) as u32 == tag && self.at(word as u32).key == key {
                return (at, Some(word as u32));
            }
            at = (at + 1) & (slots.len() - 1);
        }
    }

    #[inline]
    fn find(&self, key: TreeKey<'_>, hash: u64) -> Option<(usize, u32)> {
        let (slot, place) = self.search(key, self.tag(hash));
        place.map(|place| (slot, place))
    }

    /// Of a record and those it replaced the first with a version up to `version`, and its place.
    #[inline]
    fn visible(&self, mut place: u32, version: u64) -> Option<(u32, Record<'_>)> {
        loop {
            let stored = self.at(place);
            if stored.version <= version {
                return Some((place, stored.record));
            }
            place = Some(stored.prev).filter(|prev| *prev != 0)?;
        }
    }

    /// The record at a place that a slot or `used` told of.
    #[inline]
    fn at(&self, place: u32) -> Stored<'_> {
        let place = place as usize;
        let head = &self.arena.words()[place..place + HEAD_WORDS];
        let [version, link, shape] = [0, 1, 2].map(|at: usize| head[at].load(Ordering::Relaxed));
        let (value_bytes, key_bytes, kind) = (shape as u32 as usize, (shape >> 32) as u16 as usize, shape >> 48);
        let (expiry_words, expiry_ms) = match kind {
            EXPIRING => (1, self.arena.words()[place + HEAD_WORDS].load(Ordering::Relaxed)),
            _ => (0, NEVER_MS),
        };
        // SAFETY: the record was written whole before its place was published with `Release`, which whoever knows the place has
        // acquired, and is never written again.
        let bytes = unsafe { self.arena.bytes(place + HEAD_WORDS + expiry_words, key_bytes + value_bytes) };
        let (key, rest) = bytes.split_at(key_bytes);
        let value = (kind != TOMBSTONE).then_some(rest);
        Stored {
            version,
            prev: (link >> 32) as u32,
            key: (KeyspaceId(link as u32), key),
            record: Record { version, value, expiry_ms },
            words: words_of(expiry_words * EXPIRY_BYTES + bytes.len()),
        }
    }
}

impl Pen {
    /// What is written to.
    pub fn memtable(&self) -> &Arc<Memtable> {
        &self.memtable
    }

    /// Whether so many more records of so many bytes together have room.
    #[inline]
    pub fn has_room(&self, records: usize, bytes: usize) -> bool {
        let slots = self.memtable.slots.words().len();
        self.used + bytes / size_of::<u64>() <= self.memtable.arena.words().len()
            && self.entries + records <= slots / 8 * TAKEN_OF_8
    }

    /// Writes a value that is gone from `expiry_ms` on, or a tombstone. `version` is above all written before; `hash` is the key's.
    ///
    /// # Panics
    /// When there is no room: see [`Pen::has_room`].
    #[inline]
    pub fn write(&mut self, version: u64, key: TreeKey<'_>, hash: u64, value: Option<&[u8]>, expiry_ms: u64) {
        let memtable = &*self.memtable;
        let tag = memtable.tag(hash);
        let (slot, before) = memtable.search(key, tag);
        let place = self.used;
        let (kind, expiry_words) = match value {
            None => (TOMBSTONE, 0),
            Some(_) if expiry_ms == NEVER_MS => (VALUE, 0),
            Some(_) => (EXPIRING, 1),
        };
        let (key_bytes, value_bytes) = (key.1.len(), value.map_or(0, <[u8]>::len));
        let words = words_of(expiry_words * EXPIRY_BYTES + key_bytes + value_bytes);
        let head = &memtable.arena.words()[place..place + words];
        let shape = value_bytes as u64 | (key_bytes as u64) << 32 | kind << 48;
        let link = u64::from(key.0.0) | u64::from(before.unwrap_or(0)) << 32;
        for (word, to) in [version, link, shape].into_iter().zip(head) {
            to.store(word, Ordering::Relaxed);
        }
        if expiry_words > 0 {
            head[HEAD_WORDS].store(expiry_ms, Ordering::Relaxed);
        }
        // SAFETY: these words lie behind `used`: no place in them was ever told to anybody, and this is the only pen.
        let bytes = unsafe { memtable.arena.bytes_mut(place + HEAD_WORDS + expiry_words, key_bytes + value_bytes) };
        let (key_to, value_to) = bytes.split_at_mut(key_bytes);
        key_to.copy_from_slice(key.1);
        value_to.copy_from_slice(value.unwrap_or(&[]));
        self.used = place + words;
        // What was written comes before the places that tell of it: readers load both with `Acquire`.
        memtable.used.store(self.used, Ordering::Release);
        memtable.slots.words()[slot].store(u64::from(tag) << 32 | place as u64, Ordering::Release);
        if before.is_none() {
            self.entries += 1;
            memtable.entries.store(self.entries, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;

//! The block cache of a store: verified blocks, by table and number, within a budget of bytes that may change.
//!
//! Blocks stand in slots of one page each, side by side in huge pages: a block at a page of its own somewhere costs a walk over the
//! page tables for each look. Each table knows in which slots its blocks are ([`Places`]), so that a hit asks no map; the map, which
//! decides who stays, hears of hits later, some at each insertion.

use crate::memory::{Pages, prefetch};
use crate::mix::mix;
use crate::sst::block::Block;
use crate::sst::view::View;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A table's handle, and the number of a block in it.
type Key = (u64, u64);

/// What a block costs besides its bytes: the cache's own records of it, and of what it remembers of evicted ones.
const BLOCK_OVERHEAD_BYTES: usize = 160;
/// Bytes of a slot.
const SLOT_BYTES: usize = 4096;
/// Slots that are made at once: one huge page.
const CHUNK_SLOTS: usize = 512;

/// Most slots of which it is remembered that they were hit.
const TOUCHED_MAX: usize = 1024;
/// Hits that the map hears of at one insertion.
const TOLD_AT_ONCE: usize = 32;

/// In front of a block in its slot.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    base: U64,
    raw_bytes: U16,
    prefix_bytes: U16,
    count: U16,
    zero: U16,
}
const HEAD_BYTES: usize = size_of::<Head>();
const _: () = assert!(HEAD_BYTES == 16);

/// Where the blocks of one table are, by their number: a slot's number + 1, or one of two other words. Only who holds the cache
/// reads or changes one.
pub struct Places(Box<[AtomicU32]>);

/// Not in the cache.
const NOWHERE: u32 = 0;
/// In the cache, but in no slot.
const ON_HEAP: u32 = u32::MAX;

impl Places {
    /// Of a table with so many blocks, none of which is in the cache.
    pub fn new(blocks: usize) -> Places {
        Places((0..blocks).map(|_| AtomicU32::new(NOWHERE)).collect())
    }

    /// Whether a block is in the cache, when nobody changes that meanwhile.
    pub(crate) fn have(&self, block: usize) -> bool {
        self.get(block) != NOWHERE
    }

    #[inline]
    fn get(&self, block: usize) -> u32 {
        self.0.get(block).map_or(NOWHERE, |place| place.load(Relaxed))
    }

    /// Asks for the memory that tells of a block.
    #[inline]
    pub(crate) fn prefetch(&self, block: usize) {
        prefetch(self.0.get(block));
    }

    fn set(&self, block: usize, place: u32) {
        if let Some(cell) = self.0.get(block) {
            cell.store(place, Relaxed);
        }
    }
}

/// Numbers of free slots. Behind a lock, because a cache may move to another thread with all that is kept in it.
type Free = Arc<Mutex<Vec<u32>>>;

fn lock(free: &Free) -> MutexGuard<'_, Vec<u32>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block that is kept, until this is dropped.
struct Held {
    places: Arc<Places>,
    block: usize,
    kept: Kept,
}

enum Kept {
    Slot {
        number: u32,
        free: Free,
    },
    /// It is larger than a slot.
    Heap(Block),
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.set(self.block, NOWHERE);
        if let Kept::Slot { number, free } = &self.kept {
            lock(free).push(*number);
        }
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Held> for Weight {
    fn weight(&self, _: &Key, held: &Held) -> u64 {
        let bytes = match &held.kept {
            Kept::Slot { .. } => SLOT_BYTES,
            // The block may share the pages it was read into.
            Kept::Heap(block) => block.raw().len().next_multiple_of(crate::disk::ALIGN) + crate::disk::ALIGN,
        };
        (bytes + BLOCK_OVERHEAD_BYTES) as u64
    }
}

/// A hasher that gives the same order in every run of one seed.
#[derive(Clone)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = Mixer;
    fn build_hasher(&self) -> Mixer {
        Mixer(self.0)
    }
}

/// [`mix`] over each word.
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The memory of all slots.
#[derive(Default)]
struct Slots {
    chunks: Vec<Pages>,
    /// Memory of the chunk after them, made ready by somebody who has the time.
    next: Option<Pages>,
    /// Who is in each slot.
    of: Vec<Key>,
    /// Whether it was hit since the map heard of it: by itself, for every hit looks here.
    hit: Vec<Cell<bool>>,
}

impl Slots {
    #[inline]
    fn bytes(&self, number: u32) -> &[u8] {
        let (chunk, at) = (number as usize / CHUNK_SLOTS, number as usize % CHUNK_SLOTS * SLOT_BYTES);
        &self.chunks[chunk].bytes()[at..at + SLOT_BYTES]
    }

    /// Makes more of them; the first is given away, the others are free.
    fn grow(&mut self, free: &mut Vec<u32>) -> u32 {
        let first = self.of.len();
        self.chunks.push(self.next.take().unwrap_or_else(chunk));
        self.of.resize(first + CHUNK_SLOTS, (0, 0));
        self.hit.resize_with(first + CHUNK_SLOTS, Cell::default);
        free.extend((first as u32 + 1..(first + CHUNK_SLOTS) as u32).rev());
        first as u32
    }

    /// Gives the last chunk back, when the free slots in others have room for what it holds. Answers who moved where.
    fn shrink(&mut self, free: &mut Vec<u32>) -> Option<Vec<(Key, u32)>> {
        let first = self.of.len().checked_sub(CHUNK_SLOTS)? as u32;
        let (gone, mut kept): (Vec<u32>, Vec<u32>) = free.iter().partition(|number| **number >= first);
        let gone: BTreeSet<u32> = gone.into_iter().collect();
        let movers = (first..self.of.len() as u32).filter(|number| !gone.contains(number));
        if kept.len() < CHUNK_SLOTS - gone.len() {
            return None;
        }
        let chunk = self.chunks.pop()?;
        let mut moved = Vec::new();
        for (number, to) in movers.zip(std::iter::from_fn(|| kept.pop())) {
            let from = (number - first) as usize * SLOT_BYTES;
            self.slot_mut(to).copy_from_slice(&chunk.bytes()[from..from + SLOT_BYTES]);
            let key = self.of[number as usize];
            self.of[to as usize] = key;
            self.hit[to as usize].set(false);
            moved.push((key, to));
        }
        self.of.truncate(first as usize);
        self.hit.truncate(first as usize);
        *free = kept;
        Some(moved)
    }

    fn slot_mut(&mut self, number: u32) -> &mut [u8] {
        let (chunk, at) = (number as usize / CHUNK_SLOTS, number as usize % CHUNK_SLOTS * SLOT_BYTES);
        &mut self.chunks[chunk].bytes_mut()[at..at + SLOT_BYTES]
    }

    /// Copies a block into a slot.
    fn lay(&mut self, number: u32, key: Key, block: &Block) {
        let (base, prefix_bytes, count) = block.shape();
        let head = Head {
            base: U64::new(base),
            raw_bytes: U16::new(block.raw().len() as u16),
            prefix_bytes: U16::new(prefix_bytes as u16),
            count: U16::new(count as u16),
            zero: U16::new(0),
        };
        let slot = self.slot_mut(number);
        slot[..HEAD_BYTES].copy_from_slice(head.as_bytes());
        slot[HEAD_BYTES..HEAD_BYTES + block.raw().len()].copy_from_slice(block.raw());
        self.of[number as usize] = key;
        self.hit[number as usize].set(false);
    }
}

/// Memory of as many slots as are made at once.
fn chunk() -> Pages {
    Pages::zeroed(CHUNK_SLOTS * SLOT_BYTES / size_of::<u64>())
}

/// The same, given by the system: at the first touch it clears it, and looks for a huge page meanwhile.
pub(crate) fn touched_chunk() -> Pages {
    let chunk = chunk();
    chunk.populate(0..chunk.words().len());
    chunk
}

/// Whether a block is kept in a slot, copied; else with its own memory.
pub(crate) fn is_for_slot(block: &Block) -> bool {
    HEAD_BYTES + block.raw().len() <= SLOT_BYTES
}

/// Keeps blocks: [`BlockCache`], or several of them.
pub trait Blocks {
    /// Looks into a block of the table with this handle, if it is here.
    fn look<T>(&self, table: (u64, &Places), number: usize, into: impl FnOnce(View<'_>) -> T) -> Option<T>;
    /// Keeps a block of the table with this handle, making room; one larger than an eighth of the budget is not kept.
    fn insert(&self, table: (u64, &Arc<Places>), number: usize, block: &Block);
}

/// Keeps blocks for walks too.
pub(crate) trait Near: Send + Sync {
    /// A block of the table with this handle, if it is here.
    fn copy(&self, table: (u64, &Places), number: usize) -> Option<Block>;
    /// As [`Blocks::insert`].
    fn keep(&self, table: (u64, &Arc<Places>), number: usize, block: &Block);
}

/// Blocks of all tables of a store.
pub struct BlockCache {
    /// Who stays.
    map: RefCell<Cache<Key, Held, Weight, Seeded>>,
    slots: RefCell<Slots>,
    /// Slots that hold nothing.
    free: Free,
    /// Slots that were hit and that the map is to hear of.
    touched: RefCell<Vec<u32>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl BlockCache {
    /// At most `budget` bytes.
    pub fn new(budget: usize, seed: u64) -> BlockCache {
        let mut options = OptionsBuilder::new();
        options
            .estimated_items_capacity(budget / (SLOT_BYTES + BLOCK_OVERHEAD_BYTES))
            .weight_capacity(budget as u64)
            .shards(1);
        let options = options.build().expect("both capacities are given");
        BlockCache {
            map: RefCell::new(Cache::with_options(options, Weight, Seeded(seed), DefaultLifecycle::default())),
            slots: RefCell::default(),
            free: Free::default(),
            touched: RefCell::default(),
            hits: Cell::new(0),
            misses: Cell::new(0),
        }
    }

    /// For lookups. While it lives, nothing can be kept.
    pub fn reader(&self) -> Reader<'_> {
        Reader { cache: self, map: self.map.borrow(), slots: self.slots.borrow() }
    }

    fn hold(&self, table: (u64, &Arc<Places>), number: usize, block: &Block) {
        let mut map = self.map.borrow_mut();
        self.tell_hits(&map);
        let (key, most) = ((table.0, number as u64), map.capacity() / 8);
        let kept = if !is_for_slot(block) {
            Kept::Heap(block.clone())
        } else if most as usize >= SLOT_BYTES + BLOCK_OVERHEAD_BYTES {
            let mut slots = self.slots.borrow_mut();
            let taken = lock(&self.free).pop();
            let slot = taken.unwrap_or_else(|| slots.grow(&mut lock(&self.free)));
            slots.lay(slot, key, block);
            Kept::Slot { number: slot, free: self.free.clone() }
        } else {
            return;
        };
        let held = Held { places: table.1.clone(), block: number, kept };
        if Weight.weight(&key, &held) <= most {
            let at = if let Kept::Slot { number, .. } = held.kept { number + 1 } else { ON_HEAP };
            map.insert(key, held);
            // What stood there before is dropped by now, and it may not have been admitted.
            let stays = map.peek(&key).is_some();
            table.1.set(number, if stays { at } else { NOWHERE });
        }
        assert!(map.weight() <= map.capacity(), "the cache stays within its budget");
    }

    /// At most `budget` bytes from now on: what is too much goes, its memory too.
    pub fn set_budget(&self, budget: usize) {
        let mut map = self.map.borrow_mut();
        if map.capacity() == budget as u64 {
            return;
        }
        map.set_capacity(budget as u64);
        // It may be beyond what there is room for now.
        self.slots.borrow_mut().next = None;
        loop {
            let (mut slots, mut free) = (self.slots.borrow_mut(), lock(&self.free));
            // One more than what moves: memory is not given back and taken again with each block.
            let Some(moved) = (free.len() > CHUNK_SLOTS).then(|| slots.shrink(&mut free)).flatten() else { return };
            self.touched.borrow_mut().retain(|number| (*number as usize) < slots.of.len());
            for (key, to) in moved {
                if let Some(mut held) = map.peek_mut(&key) {
                    held.places.set(held.block, to + 1);
                    held.kept = Kept::Slot { number: to, free: self.free.clone() };
                }
            }
        }
    }

    /// Memory that its slots have.
    pub(crate) fn chunks(&self) -> usize {
        self.slots.borrow().chunks.len()
    }

    /// Whether it will take more memory as blocks come, and has none ready. It is to keep `most_bytes` of them at most; a cache that
    /// nobody has used wants nothing.
    pub(crate) fn wants_chunk(&self, most_bytes: u64) -> bool {
        let slots = self.slots.borrow();
        let room = self.map.borrow().capacity() / (SLOT_BYTES + BLOCK_OVERHEAD_BYTES) as u64;
        let most = room.min(most_bytes / SLOT_BYTES as u64);
        let has = slots.of.len();
        slots.next.is_none() && has > 0 && (has as u64) < most && lock(&self.free).len() < CHUNK_SLOTS
    }

    /// Takes a [`touched_chunk`], if it still wants one.
    pub(crate) fn give_chunk(&self, chunk: Pages) {
        if self.wants_chunk(u64::MAX) {
            self.slots.borrow_mut().next = Some(chunk);
        }
    }

    /// Some of the hits since the last insertion.
    fn tell_hits(&self, map: &Cache<Key, Held, Weight, Seeded>) {
        let slots = self.slots.borrow();
        let mut touched = self.touched.borrow_mut();
        let from = touched.len().saturating_sub(TOLD_AT_ONCE);
        for number in touched.drain(from..) {
            slots.hit[number as usize].set(false);
            map.get(&slots.of[number as usize]);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.map.borrow().weight()
    }

    /// Lookups that found their block, and that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }
}

impl Blocks for BlockCache {
    fn look<T>(&self, table: (u64, &Places), number: usize, into: impl FnOnce(View<'_>) -> T) -> Option<T> {
        let reader = self.reader();
        let view = reader.get(table, number).and_then(Spot::view);
        view.map(into)
    }

    fn insert(&self, table: (u64, &Arc<Places>), number: usize, block: &Block) {
        self.hold(table, number, block);
    }
}

/// Looks blocks up where they are.
pub struct Reader<'c> {
    cache: &'c BlockCache,
    map: Ref<'c, Cache<Key, Held, Weight, Seeded>>,
    slots: Ref<'c, Slots>,
}

impl Reader<'_> {
    /// A block of the table with this handle.
    #[inline]
    pub fn get(&self, table: (u64, &Places), number: usize) -> Option<Spot<'_>> {
        let spot = match table.1.get(number) {
            NOWHERE => None,
            ON_HEAP => self.map.get(&(table.0, number as u64)).and_then(|held| match &held.kept {
                Kept::Heap(block) => Some(Spot::Heap(block)),
                Kept::Slot { .. } => None,
            }),
            at => {
                self.touch(at - 1);
                Some(Spot::Slot(self.slots.bytes(at - 1)))
            }
        };
        let counter = if spot.is_some() { &self.cache.hits } else { &self.cache.misses };
        counter.set(counter.get() + 1);
        spot
    }

    #[inline]
    fn touch(&self, number: u32) {
        let hit = &self.slots.hit[number as usize];
        if !hit.replace(true) {
            let mut touched = self.cache.touched.borrow_mut();
            if touched.len() < TOUCHED_MAX {
                touched.push(number);
            } else {
                hit.set(false);
            }
        }
    }
}

/// Where a block stands, not yet looked at.
#[derive(Clone, Copy)]
pub enum Spot<'c> {
    /// A head and a block.
    Slot(&'c [u8]),
    /// A block.
    Heap(&'c Block),
}

impl<'c> Spot<'c> {
    /// The same, the memory where a search begins asked for.
    #[inline]
    pub fn prefetched(self) -> Spot<'c> {
        if let Spot::Slot(slot) = self {
            [0, 64, 128].into_iter().for_each(|at| prefetch(slot.get(at)));
        }
        self
    }

    /// The block.
    #[inline]
    pub fn view(self) -> Option<View<'c>> {
        match self {
            Spot::Slot(slot) => {
                let (head, rest) = Head::ref_from_prefix(slot).ok()?;
                let raw = rest.get(..usize::from(head.raw_bytes.get()))?;
                let (prefix_bytes, count) = (usize::from(head.prefix_bytes.get()), usize::from(head.count.get()));
                View::new(raw, head.base.get(), prefix_bytes, count)
            }
            Spot::Heap(block) => block.view(),
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
pub(crate) mod tests;

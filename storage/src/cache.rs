//! The block cache of a store: verified blocks, by table and offset, within a budget of bytes.

use crate::mix::mix;
use crate::sst::block::Block;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher};

type Key = (u64, u64);

/// What a block costs besides its bytes: the cache's own records of it, of what it remembers of evicted ones, and the
/// buffer's header.
const BLOCK_OVERHEAD_BYTES: u64 = 192;

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Block> for Weight {
    fn weight(&self, _: &Key, block: &Block) -> u64 {
        // The block shares the pages it was read into.
        block.bytes().next_multiple_of(crate::disk::ALIGN) as u64 + BLOCK_OVERHEAD_BYTES
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

/// Blocks of all tables of a store.
pub struct BlockCache {
    blocks: RefCell<Cache<Key, Block, Weight, Seeded>>,
    hits: Cell<u64>,
    misses: Cell<u64>,
}

impl BlockCache {
    /// At most `budget` bytes; blocks have about `block_bytes`.
    pub fn new(budget: usize, block_bytes: usize, seed: u64) -> BlockCache {
        let mut options = OptionsBuilder::new();
        options
            .estimated_items_capacity(budget / (block_bytes + BLOCK_OVERHEAD_BYTES as usize))
            .weight_capacity(budget as u64)
            .shards(1);
        let options = options.build().expect("both capacities are given");
        let blocks = RefCell::new(Cache::with_options(options, Weight, Seeded(seed), DefaultLifecycle::default()));
        BlockCache { blocks, hits: Cell::new(0), misses: Cell::new(0) }
    }

    /// The block at `offset` of the table with this handle.
    pub fn get(&self, handle: u64, offset: u64) -> Option<Block> {
        let block = self.blocks.borrow_mut().get(&(handle, offset)).cloned();
        let counter = if block.is_some() { &self.hits } else { &self.misses };
        counter.set(counter.get() + 1);
        block
    }

    /// Keeps a block, making room; one larger than an eighth of the budget is not kept.
    pub fn insert(&self, handle: u64, offset: u64, block: Block) {
        let mut blocks = self.blocks.borrow_mut();
        if Weight.weight(&(handle, offset), &block) <= blocks.capacity() / 8 {
            blocks.insert((handle, offset), block);
        }
        assert!(blocks.weight() <= blocks.capacity(), "the cache stays within its budget");
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.blocks.borrow().weight()
    }

    /// Lookups that found their block, and that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.get(), self.misses.get())
    }
}

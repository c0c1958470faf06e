//! The block cache of a database: several caches, each behind a lock of its own, so that readers seldom meet.

use crate::cache::{BlockCache, Blocks, Near, Places};
use crate::mix::mix;
use crate::sst::block::Block;
use crate::sst::view::View;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most parts.
const PARTS_MAX: usize = 16;
/// A part has at least so many bytes, if there is more than one.
const PART_BYTES_MIN: usize = 4 << 20;

/// Blocks of all tables.
pub(crate) struct SharedCache {
    parts: Box<[Mutex<BlockCache>]>,
}

impl SharedCache {
    /// At most `budget` bytes.
    pub fn new(budget: usize, seed: u64) -> SharedCache {
        let parts = (budget / PART_BYTES_MIN).clamp(1, PARTS_MAX);
        let part = |n: usize| Mutex::new(BlockCache::new(budget / parts, mix(seed ^ n as u64)));
        SharedCache { parts: (0..parts).map(part).collect() }
    }

    /// At most `budget` bytes from now on.
    pub fn set_budget(&self, budget: usize) {
        self.parts.iter().for_each(|part| locked(part).set_budget(budget / self.parts.len()));
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| locked(part).bytes()).sum()
    }

    /// Lookups that found their block, and that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let of = self.parts.iter().map(|part| locked(part).hits_and_misses());
        of.fold((0, 0), |(hits, misses), (more_hits, more_misses)| (hits + more_hits, misses + more_misses))
    }

    #[inline]
    fn part(&self, table: u64, number: usize) -> MutexGuard<'_, BlockCache> {
        let hash = mix(table << 32 ^ number as u64);
        locked(&self.parts[((hash >> 32) as usize * self.parts.len()) >> 32])
    }
}

fn locked(part: &Mutex<BlockCache>) -> MutexGuard<'_, BlockCache> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Near for SharedCache {
    fn copy(&self, table: (u64, &Places), number: usize) -> Option<Block> {
        self.look(table, number, Block::of)
    }

    fn keep(&self, table: (u64, &Arc<Places>), number: usize, block: &Block) {
        self.insert(table, number, block);
    }
}

impl Blocks for SharedCache {
    #[inline]
    fn look<T>(&self, table: (u64, &Places), number: usize, into: impl FnOnce(View<'_>) -> T) -> Option<T> {
        self.part(table.0, number).look(table, number, into)
    }

    fn insert(&self, table: (u64, &Arc<Places>), number: usize, block: &Block) {
        self.part(table.0, number).insert(table, number, block);
    }
}

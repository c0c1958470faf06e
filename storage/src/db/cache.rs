//! The block cache of a database: several caches, each behind a lock of its own, so that readers seldom meet.

use crate::cache::{BlockCache, Blocks, Near, Places, touched_chunk};
use crate::mix::mix;
use crate::sst::block::Block;
use crate::sst::view::View;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

/// Most parts.
const PARTS_MAX: usize = 16;
/// A part has at least so many bytes, if there is more than one.
const PART_BYTES_MIN: usize = 4 << 20;

/// Blocks of all tables.
pub(crate) struct SharedCache {
    parts: Box<[Mutex<BlockCache>]>,
    /// Who makes memory ready.
    preparer: OnceLock<Thread>,
}

impl SharedCache {
    /// At most `budget` bytes.
    pub fn new(budget: usize, seed: u64) -> SharedCache {
        let parts = (budget / PART_BYTES_MIN).clamp(1, PARTS_MAX);
        let part = |n: usize| Mutex::new(BlockCache::new(budget / parts, mix(seed ^ n as u64)));
        SharedCache { parts: (0..parts).map(part).collect(), preparer: OnceLock::new() }
    }

    /// This thread will call [`SharedCache::make_ready`], and is woken when there may be something to do.
    pub fn prepared_by(&self, preparer: Thread) {
        let _ = self.preparer.set(preparer);
    }

    /// Makes memory ready for one part that has begun its last piece of it, unless the parts have enough for `most_bytes` of blocks.
    /// False when none is wanted. Readers do not wait for it: who needs memory before takes it from the system.
    pub fn make_ready(&self, most_bytes: u64) -> bool {
        let most_bytes = most_bytes / self.parts.len() as u64;
        let Some(part) = self.parts.iter().find(|part| locked(part).wants_chunk(most_bytes)) else { return false };
        let chunk = touched_chunk();
        locked(part).give_chunk(chunk);
        true
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
        let part = self.part(table.0, number);
        let before = part.chunks();
        part.insert(table, number, block);
        let grew = part.chunks() > before;
        drop(part);
        if grew {
            self.preparer.get().into_iter().for_each(Thread::unpark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sst::block::BlockBuilder;
    use crate::sst::compress::Compressor;
    use crate::sst::{Record, TableId};
    use bytes::Bytes;
    use ringkv_wire::ids::KeyspaceId;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    fn block() -> Block {
        let (mut builder, mut out, id) = (BlockBuilder::default(), Vec::new(), TableId([1; 16]));
        builder.add((KeyspaceId(1), b"key"), 1, &Record::new(1, Some(&[1; 3000])));
        builder.finish(&id, 0, &mut Compressor::default(), &mut out);
        Block::verify(Bytes::from(out), &id, 0, "t").expect("just made")
    }

    #[test]
    fn memory_is_made_ready_for_parts_in_use_and_for_what_is_stored() {
        let (cache, places) = (SharedCache::new(16 << 20, 1), Arc::new(Places::new(100)));
        assert!(!cache.make_ready(u64::MAX), "nobody has used it");
        let (woken, hears) = channel();
        let sleeper = thread::Builder::new().spawn(move || {
            thread::park();
            woken.send(()).expect("the test waits");
        });
        cache.prepared_by(sleeper.expect("a thread").thread().clone());
        cache.insert((1, &places), 0, &block());
        hears.recv_timeout(Duration::from_secs(20)).expect("who makes memory ready is woken");
        assert!(!cache.make_ready(4 << 20), "there is memory for all blocks of the tables");
        assert!(cache.make_ready(u64::MAX), "the part in use gets more");
        assert!(!cache.make_ready(u64::MAX), "and no more than that");
        cache.set_budget(1 << 20);
        cache.set_budget(16 << 20);
        assert!(cache.make_ready(u64::MAX), "a change of the budget takes it");
    }
}

use super::*;
use crate::sst::block::BlockBuilder;
use crate::sst::compress::Compressor;
use crate::sst::{Record, TableId};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;

const BLOCKS: usize = 4000;
const K: KeyspaceId = KeyspaceId(1);

fn key(block: usize) -> [u8; 8] {
    (block as u64).to_be_bytes()
}

/// A block with one key and some bytes that belong to it.
fn block(number: usize) -> Block {
    block_of(number, 3000)
}

fn block_of(number: usize, bytes: usize) -> Block {
    let (mut builder, mut out, id) = (BlockBuilder::default(), Vec::new(), TableId([1; 16]));
    builder.add((K, &key(number)), number as u64, &Record::new(number as u64 + 1, Some(&vec![number as u8; bytes])));
    builder.finish(&id, 0, &mut Compressor::default(), &mut out);
    Block::verify(Bytes::from(out), &id, 0, "t").expect("just made")
}

/// How many blocks are there, each being what it should be.
fn count(cache: &BlockCache, places: &Arc<Places>) -> usize {
    let there = |number: &usize| {
        let version = cache.look((1, places), *number, |view| {
            let entry = view.find((K, &key(*number)), *number as u64).expect("the block of this key");
            assert_eq!(entry.record.value, Some(&[*number as u8; 3000][..]), "block {number}");
            entry.record.version
        });
        version.inspect(|version| assert_eq!(*version, *number as u64 + 1)).is_some()
    };
    (0..BLOCKS).filter(there).count()
}

#[test]
fn a_smaller_budget_takes_memory_and_no_block_for_another() {
    let (cache, places) = (BlockCache::new(12 << 20, 3), Arc::new(Places::new(BLOCKS)));
    (0..BLOCKS).for_each(|number| cache.insert((1, &places), number, &block(number)));
    let chunks = |cache: &BlockCache| cache.slots.borrow().chunks.len();
    let (many, before) = (count(&cache, &places), chunks(&cache));
    assert!(many > 2000 && before >= 5, "{many} blocks in {before} chunks");
    for budget in [9 << 20, 3 << 20, 1 << 20] {
        cache.set_budget(budget);
        let left = count(&cache, &places);
        assert!(cache.bytes() <= budget as u64 && left > budget / 8192, "{left} blocks in {budget} bytes");
        let most = budget / (CHUNK_SLOTS * SLOT_BYTES) + 2;
        assert!(chunks(&cache) <= most, "{} chunks for {budget} bytes", chunks(&cache));
    }
    cache.set_budget(12 << 20);
    (0..BLOCKS).for_each(|number| cache.insert((1, &places), number, &block(number)));
    assert!(count(&cache, &places) > 2000, "what it gave back it may have again");
}

/// Several tables whose blocks have the same numbers, in slots and beside them: all are there, and none is another one's.
pub(crate) fn tables_do_not_share_blocks(cache: &impl Blocks) {
    let tables: Vec<_> = (1..4).map(|handle| (handle, Arc::new(Places::new(60)))).collect();
    let of = |handle: u64, at: usize| handle as usize * 60 + at;
    let bytes = |at: usize| if at.is_multiple_of(2) { 3000 } else { 5000 };
    for at in 0..60 {
        tables.iter().for_each(|(handle, places)| {
            cache.insert((*handle, places), at, &block_of(of(*handle, at), bytes(at)));
        });
    }
    for (at, (handle, places)) in (0..60).flat_map(|at| tables.iter().map(move |table| (at, table))) {
        let number = of(*handle, at);
        let found = cache.look((*handle, places), at, |view| {
            let entry = view.find((K, &key(number)), number as u64);
            entry.and_then(|entry| entry.record.value.map(<[u8]>::to_vec))
        });
        let found = found.unwrap_or_else(|| panic!("block {at} of table {handle} is not there"));
        assert!(found == Some(vec![number as u8; bytes(at)]), "block {at} of table {handle} is another one");
    }
}

#[test]
fn no_block_is_taken_for_that_of_another_table() {
    tables_do_not_share_blocks(&BlockCache::new(12 << 20, 3));
}

#[test]
fn memory_made_ready_is_used_and_within_the_budget() {
    let (cache, places) = (BlockCache::new(12 << 20, 3), Arc::new(Places::new(BLOCKS)));
    assert!(!cache.wants_chunk(u64::MAX), "nobody has used it");
    let mut made = 0;
    for number in 0..BLOCKS {
        let before = cache.chunks();
        cache.insert((1, &places), number, &block(number));
        assert!(cache.slots.borrow().next.is_none() || cache.chunks() == before, "what is ready is taken first");
        if cache.wants_chunk(u64::MAX) {
            made += 1;
            let mut chunk = touched_chunk();
            chunk.words_mut()[CHUNK_SLOTS * SLOT_BYTES / size_of::<u64>() - 1] = made;
            cache.give_chunk(chunk);
            assert!(!cache.wants_chunk(u64::MAX), "one is enough");
        }
    }
    let (chunks, room) = (cache.chunks(), (12 << 20) / (SLOT_BYTES + BLOCK_OVERHEAD_BYTES));
    assert_eq!(chunks, room.div_ceil(CHUNK_SLOTS), "as many as without");
    assert_eq!(made as usize, chunks - 1, "all but the first, and none too many");
    assert!(cache.slots.borrow().next.is_none());
    let last = |pages: &Pages| pages.words().last().copied();
    assert!(cache.slots.borrow().chunks.iter().skip(1).zip(1..).all(|(pages, mark)| last(pages) == Some(mark)));
    assert!(count(&cache, &places) > 2000);

    let (small, places) = (BlockCache::new(12 << 20, 3), Arc::new(Places::new(BLOCKS)));
    small.insert((1, &places), 0, &block(0));
    assert!(small.wants_chunk(3 << 20) && !small.wants_chunk(2 << 20), "not for more than there is");
    small.give_chunk(touched_chunk());
    small.set_budget(1 << 20);
    assert!(small.slots.borrow().next.is_none(), "a smaller budget takes it");
    small.give_chunk(touched_chunk());
    assert!(small.slots.borrow().next.is_none(), "what is not wanted is not kept");
}

//! What the log's tests are made of.

use super::{HardState, Log, LogOptions, Record, Recovered, ReplicaState, ShardState};
use crate::disk::Disk;
use crate::disk::fault::{FaultDisk, block_on};
use crate::error::StorageError;
use bytes::Bytes;
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, ShardId, StoreId};

/// A new voter's state.
pub(crate) fn shard_state(shard: u32) -> ShardState {
    ShardState {
        shard: ShardId(shard),
        generation: Generation(1),
        state: ReplicaState::Voter,
        hard: HardState::default(),
        floor_index: 0,
        floor_term: 0,
        flushed_index: 0,
        acknowledged_index: 0,
        config_index: 0,
        config: Bytes::new(),
    }
}

/// The smallest segments, so that tests see many; one is kept for followers.
pub(crate) fn options() -> LogOptions {
    let segment_bytes = super::segment::SEGMENT_BYTES_MIN;
    LogOptions { segment_bytes, keep_bytes: segment_bytes, ..LogOptions::new([7; 16]) }
}

/// Opens the log of the tests.
pub(crate) fn open<D: Disk>(disk: &D) -> Result<(Log<D>, Recovered), StorageError> {
    block_on(Log::open(disk.clone(), "store-0000/log", options()))
}

/// An entry whose body is `bytes` long and tells index and term.
pub(crate) fn entry(shard: u32, index: u64, term: u64, bytes: usize) -> Entry {
    let pattern = [index as u8, term as u8, (index >> 8) as u8, shard as u8];
    let body: Vec<u8> = pattern.into_iter().cycle().take(bytes).collect();
    let body = Bytes::from(body);
    Entry {
        shard: ShardId(shard),
        generation: Generation(1),
        term,
        index,
        log_time_ms: 1_000 + index,
        kind: EntryKind::Operations,
        body_crc: crc32c::crc32c(&body),
        body,
    }
}

/// An entry to commit.
pub(crate) fn logged(shard: u32, index: u64, term: u64, bytes: usize) -> Record {
    Record::Entry(entry(shard, index, term, bytes))
}

/// A term to commit, with a vote for store 1/0.
pub(crate) fn hard(shard: u32, term: u64) -> Record {
    let hard = HardState { term, vote: Some(StoreId::new(1, 0)) };
    Record::HardState { shard: ShardId(shard), generation: Generation(1), hard }
}

/// A new log with shards 1..=n.
pub(crate) fn with_shards(disk: &FaultDisk, n: u32) -> Log<FaultDisk> {
    let (log, recovered) = open(disk).expect("a new disk");
    assert!(recovered.shards.is_empty());
    let states = (1..=n).map(|shard| Record::ShardState(shard_state(shard))).collect();
    block_on(log.commit(states)).expect("a new disk");
    log
}

/// Index and term of each entry of a shard.
pub(crate) fn indexes(recovered: &Recovered, shard: u32) -> Vec<(u64, u64)> {
    let found = recovered.shards.iter().find(|s| s.state.shard == ShardId(shard));
    found.map_or(Vec::new(), |s| s.entries.iter().map(|e| (e.index, e.term)).collect())
}

/// The log's files, sorted.
pub(crate) fn segments(disk: &FaultDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.contains("/segment-")).collect()
}

//! What rests on disk: a good store with bytes edited, opened and read.

use crate::edits::edits;
use bytes::Bytes;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::manifest::Flushed;
use ringkv_storage::wal::{HardState, Log, LogOptions, Record, ReplicaState, ShardState};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, KeyspaceId, ShardId, StoreId};
use std::cell::OnceCell;

const IDENTITY: [u8; 16] = [7; 16];
const SECTOR: usize = 512;
/// Bytes of a sector that carry something.
const PAYLOAD: u64 = 496;
const LOG_DIR: &str = "store-0000/log";
const SHARD: ShardId = ShardId(1);
const KEYSPACE: KeyspaceId = KeyspaceId(1);
const KEYS: u32 = 300;

/// A good log and a good tree, made once: each input edits a copy.
fn good(make: fn() -> FaultDisk, kept: &'static std::thread::LocalKey<OnceCell<FaultDisk>>) -> FaultDisk {
    kept.with(|disk| disk.get_or_init(make).fork(1))
}

thread_local! {
    static LOG: OnceCell<FaultDisk> = const { OnceCell::new() };
    static TREE: OnceCell<FaultDisk> = const { OnceCell::new() };
}

fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 128 << 10, keep_bytes: 128 << 10, ..LogOptions::new(IDENTITY) }
}

fn entry(index: u64) -> Entry {
    Entry {
        shard: SHARD,
        generation: Generation(1),
        term: 1 + index / 10,
        index,
        log_time_ms: index,
        kind: EntryKind::Empty,
        body: Bytes::new(),
        body_crc: crc32c::crc32c(&[]),
    }
}

fn good_log() -> FaultDisk {
    let disk = FaultDisk::new(1);
    let state = ShardState {
        shard: SHARD,
        generation: Generation(1),
        state: ReplicaState::Voter,
        hard: HardState::default(),
        floor_index: 0,
        floor_term: 0,
        flushed_index: 0,
        acknowledged_index: 0,
        config_index: 0,
        config: Bytes::new(),
    };
    block_on(async {
        let (log, _) = Log::open(disk.clone(), LOG_DIR, log_options()).await.expect("a new log opens");
        log.commit(vec![Record::ShardState(state)]).await.expect("a good disk");
        for index in 1..=30 {
            let hard = HardState { term: 1 + index / 10, vote: Some(StoreId::new(2, 0)) };
            let hard = Record::HardState { shard: SHARD, generation: Generation(1), hard };
            log.commit(vec![hard, Record::Entry(entry(index))]).await.expect("a good disk");
        }
    });
    disk.crash_process()
}

/// Recovery of a log whose segments were edited: it opens or says why not, and never panics. Sealed edits correct the checksum
/// of the sectors they touch, as a store that writes nonsense would.
pub fn log(input: &[u8]) {
    let disk = good(good_log, &LOG);
    let files: Vec<String> = disk.paths().into_iter().filter(|name| name.contains("segment-")).collect();
    for edit in edits(input) {
        let Some(path) = files.get(edit.file % files.len().max(1)) else { return };
        disk.poke(path, edit.offset % (128 << 10), edit.bytes);
        if edit.sealed {
            seal_sectors(&disk, path, (edit.offset % (128 << 10)) as usize, edit.bytes.len());
        }
    }
    recover_twice(&disk);
}

/// What opens was told to a fresh process once more.
fn recover_twice(disk: &FaultDisk) {
    let Ok((log, first)) = block_on(Log::open(disk.clone(), LOG_DIR, log_options())) else { return };
    drop(log);
    let disk = disk.crash_process();
    let (_, second) = block_on(Log::open(disk, LOG_DIR, log_options())).expect("what was recovered can be recovered");
    for (one, two) in first.shards.iter().zip(&second.shards) {
        assert_eq!(one.entries, two.entries, "a second recovery finds other entries");
    }
}

/// The same with every batch that an edit touched made whole again, its chain and those of all behind it included: so the decoders
/// of records see the edits. Offsets count what sectors carry.
pub fn records(input: &[u8]) {
    let disk = good(good_log, &LOG);
    let files: Vec<String> = disk.paths().into_iter().filter(|name| name.contains("segment-")).collect();
    for edit in edits(input) {
        let Some(path) = files.get(edit.file % files.len().max(1)) else { return };
        for (at, byte) in (edit.offset % (124 << 10)..).zip(edit.bytes) {
            disk.poke(path, at / PAYLOAD * SECTOR as u64 + at % PAYLOAD, &[*byte]);
        }
    }
    let mut chain = None;
    files.iter().for_each(|path| chain = seal_batches(&disk, path, chain));
    recover_twice(&disk);
}

/// Corrects all batches of a segment (FORMAT.md §1.2), the first of which follows the one with this chain; answers the last one's.
fn seal_batches(disk: &FaultDisk, path: &str, mut chain: Option<u32>) -> Option<u32> {
    let Some(mut content) = disk.peek(path) else { return chain };
    let number =
        |bytes: &[u8], at: usize| bytes[at..at + 4].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let mut at = 0;
    while let Some(head) = content.get(at..at + 64) {
        let end = at.saturating_add(number(head, 32).saturating_mul(SECTOR));
        let record_bytes = number(head, 36);
        let batch = content.get_mut(at..end).filter(|batch| batch.starts_with(b"RKLB") && !batch.is_empty());
        let Some(batch) = batch.filter(|batch| 64 + record_bytes <= batch.len() / SECTOR * PAYLOAD as usize) else {
            at += 8 * SECTOR;
            continue;
        };
        if let Some(before) = chain {
            batch[44..48].copy_from_slice(&before.to_le_bytes());
        }
        let payload: Vec<u8> = batch.chunks(SECTOR).flat_map(|sector| &sector[..PAYLOAD as usize]).copied().collect();
        let made = crc32c::crc32c_append(crc32c::crc32c(&payload[..48]), &payload[64..64 + record_bytes]);
        batch[48..52].copy_from_slice(&made.to_le_bytes());
        chain = Some(made);
        let bytes = end - at;
        disk.poke(path, at as u64, batch);
        seal_sectors(disk, path, at, bytes);
        at = end;
    }
    chain
}

/// Corrects the checksums of the sectors that `bytes` bytes at `offset` touch (FORMAT.md §1.1).
fn seal_sectors(disk: &FaultDisk, path: &str, offset: usize, bytes: usize) {
    let Some(content) = disk.peek(path) else { return };
    let first = offset / SECTOR * SECTOR;
    for start in (first..offset + bytes).step_by(SECTOR) {
        let Some(sector) = content.get(start..start + SECTOR) else { return };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&IDENTITY), &sector[..SECTOR - 4]);
        disk.poke(path, (start + SECTOR - 4) as u64, &crc.to_le_bytes());
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("key/{number:05}").into_bytes()
}

fn value(number: u32) -> Bytes {
    Bytes::from(format!("the value of {number}, {}", "x".repeat(number as usize % 60)))
}

fn engine_options() -> EngineOptions {
    EngineOptions { cache_bytes: 1 << 20, ..EngineOptions::default() }
}

fn good_tree() -> FaultDisk {
    let disk = FaultDisk::new(2);
    block_on(async {
        let engine = Engine::open(disk.clone(), "store-0000", engine_options()).await.expect("a new engine opens");
        let tree = engine.tree(SHARD);
        for number in 0..KEYS {
            tree.put(u64::from(number) + 1, KEYSPACE, &key(number), value(number));
        }
        let at = Flushed { index: u64::from(KEYS), term: 1, log_time_ms: 1, config_index: 0, config: Bytes::new() };
        tree.flush(at, Vec::new()).await.expect("a good disk");
    });
    disk.crash_process()
}

/// Manifest, pointer and table, edited: the engine opens or says why not; every value that is read is the one that was written.
pub fn tree(input: &[u8]) {
    let disk = good(good_tree, &TREE);
    let files = disk.paths();
    for edit in edits(input) {
        let Some(path) = files.get(edit.file % files.len().max(1)) else { return };
        let length = disk.peek(path).map_or(0, |content| content.len()).max(1) as u64;
        disk.poke(path, edit.offset % length, edit.bytes);
    }
    let Ok(engine) = block_on(Engine::open(disk, "store-0000", engine_options())) else { return };
    let tree = engine.tree(SHARD);
    for number in (0..KEYS).step_by(7) {
        if let Ok(Some(found)) = block_on(tree.get(KEYSPACE, &key(number))) {
            assert_eq!(found.value, value(number), "wrong data for key {number}");
        }
    }
    let mut all = tree.iter();
    while let Ok(Some((_, name, found))) = block_on(all.next()) {
        let number = std::str::from_utf8(&name[4..]).ok().and_then(|digits| digits.parse().ok());
        assert_eq!(number.map(value), Some(found.value), "wrong data in a walk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_good_ones_are_good() {
        let (_, recovered) = block_on(Log::open(good(good_log, &LOG), LOG_DIR, log_options())).expect("it is good");
        assert_eq!(recovered.shards[0].entries.len(), 30);
        let disk = good(good_tree, &TREE);
        let engine = block_on(Engine::open(disk, "store-0000", engine_options())).expect("it is good");
        let found = block_on(engine.tree(SHARD).get(KEYSPACE, &key(7))).expect("it is good");
        assert_eq!(found.map(|found| found.value), Some(value(7)));
    }

    #[test]
    fn sealing_all_batches_changes_nothing_of_a_good_log() {
        let disk = good(good_log, &LOG);
        let files: Vec<String> = disk.paths().into_iter().filter(|name| name.contains("segment-")).collect();
        let all = || files.iter().map(|path| disk.peek(path)).collect::<Vec<_>>();
        let (before, mut chain) = (all(), None);
        files.iter().for_each(|path| chain = seal_batches(&disk, path, chain));
        assert!(chain.is_some() && all() == before);
    }

    #[test]
    fn sealing_a_sector_makes_it_whole() {
        let disk = good(good_log, &LOG);
        let path = disk.paths().into_iter().find(|name| name.contains("segment-")).expect("a segment");
        let before = disk.peek(&path).expect("it is there");
        seal_sectors(&disk, &path, 4096, 1);
        assert_eq!(disk.peek(&path).expect("it is there"), before, "a good sector already has this checksum");
    }
}

//! What rests on disk: a good store with bytes edited, opened and read; and the sections of a table by themselves.

use bytes::Bytes;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::manifest::Flushed;
use ringkv_storage::sst::TableId;
use ringkv_storage::sst::block::{Block, TRAILER_BYTES};
use ringkv_storage::sst::filter::Filter;
use ringkv_storage::sst::footer::Footer;
use ringkv_storage::sst::index::Index;
use ringkv_storage::sst::properties::Properties;
use ringkv_storage::wal::{HardState, Log, LogOptions, Record, ReplicaState, ShardState};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, KeyspaceId, ShardId, StoreId};
use ringkv_wire::ring::hash::key_hash;
use std::cell::OnceCell;

const IDENTITY: [u8; 16] = [7; 16];
const SECTOR: usize = 512;
const LOG_DIR: &str = "store-0000/log";
const SHARD: ShardId = ShardId(1);
const KEYSPACE: KeyspaceId = KeyspaceId(1);
const KEYS: u32 = 300;
/// Files and offsets beyond this are edited rarely by chance; everything of interest stands in front.
const EDITS_MAX: usize = 32;

/// A good log and a good tree, made once: each input edits a copy.
fn good(make: fn() -> FaultDisk, kept: &'static std::thread::LocalKey<OnceCell<FaultDisk>>) -> FaultDisk {
    kept.with(|disk| disk.get_or_init(make).fork(1))
}

thread_local! {
    static LOG: OnceCell<FaultDisk> = const { OnceCell::new() };
    static TREE: OnceCell<FaultDisk> = const { OnceCell::new() };
}

/// An edit: which file, where, and the bytes. From 6 + n bytes of input: file u8, offset u24, sealed u8, n u8, n bytes.
struct Edit<'b> {
    file: usize,
    offset: u64,
    sealed: bool,
    bytes: &'b [u8],
}

fn edits(mut input: &[u8]) -> Vec<Edit<'_>> {
    let mut edits = Vec::new();
    while let ([file, a, b, c, sealed, count, rest @ ..], true) = (input, edits.len() < EDITS_MAX) {
        let (bytes, behind) = rest.split_at(rest.len().min(usize::from(*count)));
        let offset = u64::from(u32::from_le_bytes([*a, *b, *c, 0]));
        edits.push(Edit { file: usize::from(*file), offset, sealed: sealed & 1 == 1, bytes });
        input = behind;
    }
    edits
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
/// of the sectors they touch, as a store that writes nonsense would. What opens was told to a fresh process once more.
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
    let Ok((log, first)) = block_on(Log::open(disk.clone(), LOG_DIR, log_options())) else { return };
    drop(log);
    let disk = disk.crash_process();
    let (_, second) = block_on(Log::open(disk, LOG_DIR, log_options())).expect("what was recovered can be recovered");
    for (one, two) in first.shards.iter().zip(&second.shards) {
        assert_eq!(one.entries, two.entries, "a second recovery finds other entries");
    }
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

/// The sections of a table by themselves, as a table that lies behind right checksums would bring them. First byte: how many
/// blocks or pieces the footer claims; the block's trailer is corrected.
pub fn sections(input: &[u8]) {
    let Some((claimed, section)) = input.split_first() else { return };
    let claimed = usize::from(*claimed);
    if let Some(index) = Index::new(section, claimed, claimed as u16).filter(|index| index.verify(1 << 20)) {
        for number in 0..index.blocks() {
            assert!(index.place(number).is_some_and(|place| place.end() <= 1 << 20));
            assert!(index.separator(number).is_some());
        }
        let _none_is_fine = index.find((KEYSPACE, section));
    }
    if let Some(filter) = Filter::new(section, claimed as u32).filter(|filter| filter.verify()) {
        for hash in 0..64u64 {
            let _either = filter.may_contain(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }
    if let Some(properties) = Properties::decode(section) {
        let mut again = Vec::new();
        properties.encode(&mut again);
        assert_eq!(Properties::decode(&again), Some(properties));
    }
    let _either = Footer::decode(section, section.len() as u64, "fuzz");
    block(section);
}

fn block(section: &[u8]) {
    let id = TableId([3; 16]);
    let mut sealed = section.to_vec();
    if let Some(at) = sealed.len().checked_sub(4).filter(|_| sealed.len() >= TRAILER_BYTES) {
        let crc = id.checksum(0, &sealed[..at]).to_le_bytes();
        sealed[at..].copy_from_slice(&crc);
    }
    let Ok(block) = Block::verify(Bytes::from(sealed), &id, 0, "fuzz") else { return };
    let block = block.view().expect("a verified block has entries");
    for at in 0..block.count() {
        let entry = block.entry(at).expect("a verified block has all its entries");
        let (keyspace, key) = block.key(&entry).expect("a verified entry has a key");
        let _one_of_equal_keys = block.find((keyspace, &key), key_hash(keyspace, &key));
    }
}

/// A few edits, in the form that [`log`] and [`tree`] read.
pub fn sample_edits() -> Vec<Vec<u8>> {
    let edit = |file: u8, offset: u32, sealed: u8, bytes: &[u8]| {
        let [a, b, c, _] = offset.to_le_bytes();
        [&[file, a, b, c, sealed, bytes.len() as u8], bytes].concat()
    };
    vec![
        edit(0, 0, 0, b"x"),
        edit(0, 4096, 1, b"RKLB\x01\0\x03\0"),
        edit(0, 4096 + 496, 1, &9u64.to_le_bytes()),
        [edit(0, 8192 + 64, 1, &[2, 3, 0, 0, 255, 255, 0, 0]), edit(0, 8192 + 48, 1, &[0; 4])].concat(),
        edit(1, 100, 0, &[0; 64]),
        edit(2, 16, 0, b"\xff\xff"),
    ]
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
    fn sealing_a_sector_makes_it_whole() {
        let disk = good(good_log, &LOG);
        let path = disk.paths().into_iter().find(|name| name.contains("segment-")).expect("a segment");
        let before = disk.peek(&path).expect("it is there");
        seal_sectors(&disk, &path, 4096, 1);
        assert_eq!(disk.peek(&path).expect("it is there"), before, "a good sector already has this checksum");
    }
}

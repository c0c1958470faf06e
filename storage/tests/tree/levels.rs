//! Trees of several levels made of few bytes, and what their files say of them.

use crate::harness::{self, DIR, Replica, SHARD, table_files};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::EngineOptions;
use ringkv_storage::manifest::{TreeRecord, look};
use ringkv_storage::sst::compress::Compression;
use ringkv_storage::sst::footer::{FOOTER_BYTES, Footer};
use ringkv_storage::sst::properties::Properties;
use std::collections::BTreeMap;

/// Keys of [`base`].
pub const KEYS: u8 = 128;

/// A flush is enough for a merge, and tables are as small as files can be: 250 KB are enough for a level between.
pub fn options(seed: u64) -> EngineOptions {
    let (compression, last_compression) = (Compression::None, Compression::None);
    EngineOptions { runs_max: 1, table_bytes: 4096, compression, last_compression, ..harness::options(seed) }
}

/// Far from the key before and behind it, so that tables have room between them.
pub fn key(n: u8) -> [u8; 3] {
    [b'k', n, 0]
}

/// A tree whose every key lies in the last level.
pub fn base() -> Replica {
    let mut replica = Replica::with(FaultDisk::new(1), options(0));
    // Twice: what lies above nothing is moved as the one table that it is.
    for bytes in [100, 2000] {
        for n in 0..KEYS {
            replica.write(1, &key(n), Some(&vec![n; bytes]));
        }
        replica.flush().expect("flushes");
        block_on(replica.tree.settle()).expect("merges");
    }
    replica
}

/// What the manifest says of the tree.
pub fn record(disk: &FaultDisk) -> TreeRecord {
    let trees = block_on(look(disk, DIR, true)).expect("a sound manifest");
    trees.get(&SHARD).cloned().unwrap_or_default()
}

/// The level of each table file.
pub fn levels(disk: &FaultDisk) -> BTreeMap<u64, u8> {
    record(disk).tables.into_iter().map(|table| (table.place.number, table.level)).collect()
}

/// The footer of a table file.
pub fn footer_of(bytes: &[u8]) -> Footer {
    Footer::decode(&bytes[bytes.len() - FOOTER_BYTES..], bytes.len() as u64, "").expect("a footer")
}

fn properties_of(disk: &FaultDisk, path: &str) -> Properties {
    let bytes = disk.peek(path).expect("there");
    let range = footer_of(&bytes).properties.range;
    Properties::decode(&bytes[range.start as usize..range.end as usize]).expect("properties")
}

/// Tombstones in all table files.
pub fn tombstones(disk: &FaultDisk) -> u64 {
    table_files(disk).iter().map(|path| properties_of(disk, path).tombstones).sum()
}

/// The directory holds what the manifest names and nothing else.
pub fn assert_no_strangers(disk: &FaultDisk) {
    let trees = block_on(look(disk, DIR, true)).expect("a sound manifest");
    let tables = trees.values().flat_map(|tree| &tree.tables);
    let mut named: Vec<String> = tables.map(|table| format!("{DIR}/tables/{:016x}.sst", table.place.number)).collect();
    named.sort();
    assert_eq!(table_files(disk), named, "tables");
    let others: Vec<String> = disk.paths().into_iter().filter(|path| !path.contains("/tables/")).collect();
    let manifests = others.iter().filter(|path| path.contains("/MANIFEST-")).count();
    assert_eq!((manifests, others.len()), (1, 2), "one manifest and CURRENT: {others:?}");
}

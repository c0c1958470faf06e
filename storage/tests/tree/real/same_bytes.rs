//! The bytes that rest do not depend on the disk: the same history makes the same files on each of them.

use super::block_on;
use crate::harness::{DIR, at, options, sealed};
use bytes::Bytes;
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::disk::uring::UringDisk;
use ringkv_storage::disk::uring::ring::{Ring, RingOptions};
use ringkv_storage::disk::{Disk, DiskBuf, OpenMode};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::manifest::look;
use ringkv_wire::ids::{KeyspaceId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

type Files = BTreeMap<String, Vec<u8>>;

const SHARDS: u32 = 3;
const ROUNDS: u64 = 36;
/// Writes of a round, to each tree.
const WRITES: u64 = 40;

fn engine_options(boot: u64) -> EngineOptions {
    EngineOptions { runs_max: 2, table_bytes: 4096, ..options(77 + boot) }
}

/// What write number `n` of a tree is: some keys come again and again, some go, some values get smaller by compression.
fn write(shard: u32, n: u64) -> (KeyspaceId, [u8; 8], Option<Bytes>) {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17 + shard);
    let key = (mixed % (400 + u64::from(shard) * 50)).to_be_bytes();
    let bytes = (mixed >> 20) as usize % if n.is_multiple_of(97) { 20_000 } else { 500 };
    let value = (0..bytes).map(|at| if n.is_multiple_of(2) { n as u8 } else { (mixed >> (at % 57)) as u8 ^ at as u8 });
    (KeyspaceId(1 + (mixed >> 60) as u32 % 2), key, (!n.is_multiple_of(7)).then(|| value.collect()))
}

/// Rounds of writes to several trees, flushes, merges over levels, and an opening in the middle.
async fn history<D: Disk>(disk: &D) {
    for boot in 0..2 {
        let engine = Engine::open(disk.clone(), DIR, engine_options(boot)).await.expect("opens");
        for round in boot * ROUNDS / 2..(boot + 1) * ROUNDS / 2 {
            for shard in 0..SHARDS {
                let (tree, first) = (engine.tree(ShardId(shard)), round * WRITES + 1);
                for n in first..first + WRITES {
                    match write(shard, n) {
                        (keyspace, key, Some(value)) => tree.put(n, keyspace, &key, value),
                        (keyspace, key, None) => tree.delete(n, keyspace, &key),
                    }
                }
                tree.flush(at(first + WRITES - 1), sealed(first + WRITES - 1)).await.expect("flushes");
                while tree.wants_merge() {
                    tree.merge().await.expect("merges");
                }
            }
        }
        if boot == 1 {
            engine.tree(ShardId(0)).settle().await.expect("merges");
        }
    }
}

async fn read_all<D: Disk>(disk: &D) -> Files {
    let mut files = Files::new();
    for dir in [DIR.to_owned(), format!("{DIR}/tables")] {
        for name in disk.list(&dir).await.expect("listed").into_iter().filter(|name| name != "tables") {
            let path = format!("{dir}/{name}");
            let file = disk.open(&path, OpenMode::Read).await.expect("opens");
            let size = disk.size(&file).await.expect("a size") as usize;
            let (read, buf) = disk.read_at(&file, 0, DiskBuf::zeroed(size)).await;
            assert_eq!(read.expect("readable"), size, "{path}");
            files.insert(path, buf.to_vec());
        }
    }
    files
}

async fn made<D: Disk>(disk: D) -> Files {
    history(&disk).await;
    read_all(&disk).await
}

fn assert_same(expected: &Files, got: &Files, what: &str) {
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (path, bytes) in expected {
        let differs = got[path].iter().zip(bytes).position(|(a, b)| a != b);
        assert!(differs.is_none() && got[path].len() == bytes.len(), "{what}: {path} differs at {differs:?}");
    }
}

/// On the fault disk: what all others must make as well.
fn expected() -> Files {
    let disk = FaultDisk::new(1);
    let files = block_on(made(disk.clone()));
    let trees = block_on(look(&disk, DIR, true)).expect("a manifest");
    let levels: BTreeSet<u8> = trees.values().flat_map(|tree| &tree.tables).map(|table| table.level).collect();
    assert!(trees.len() as u32 == SHARDS && levels.len() > 1, "several trees and levels: {levels:?}");
    let tables = files.keys().filter(|path| path.ends_with(".sst")).count();
    assert!(tables > 20 && files.len() == tables + 2, "{tables} tables, one manifest, CURRENT: {:?}", files.keys());
    files
}

#[test]
fn whatever_the_order_of_the_disk() {
    let expected = expected();
    for seed in [2, 3] {
        let disk = FaultDisk::new(seed);
        disk.set_yields(seed as u32);
        assert_same(&expected, &block_on(made(disk.clone())), "operations that take their time");
        // Nothing of it was in the page cache only. Names that were removed may come back until the next opening.
        let mut left = block_on(read_all(&disk.crash_power()));
        left.retain(|path, _| expected.contains_key(path));
        assert_same(&expected, &left, "after a power loss");
    }
}

#[test]
fn on_the_plain_and_the_uring_disk() {
    let (expected, dir) = (expected(), tempfile::tempdir().expect("a directory"));
    let disk = PlainDisk::open(dir.path()).expect("opens");
    assert_same(&expected, &block_on(made(disk)), "the plain disk");
    let ring = match Ring::new(RingOptions { submissions: 16, completions: 64 }) {
        Ok(ring) => ring,
        Err(error) => return eprintln!("skipped: the uring disk: {error}"),
    };
    let dir = tempfile::tempdir().expect("a directory");
    let disk = UringDisk::open(dir.path(), ring.clone()).expect("opens");
    if !disk.direct() {
        return eprintln!("skipped: the uring disk: O_DIRECT is refused in {}", dir.path().display());
    }
    assert_same(&expected, &ring.block_on(made(disk)).expect("the ring turns"), "the uring disk");
    ring.shutdown().expect("shuts down");
}

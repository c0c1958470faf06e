//! The plain way of a write.

use crate::harness::{Looked, look, versioned};
use bytes::Bytes;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::sst::NEVER_MS;
use ringkv_storage::tree::{Flushed, Lookup, Sought, Tree, Value};
use ringkv_wire::ids::{KeyspaceId, ShardId};

const K: KeyspaceId = KeyspaceId(1);
const SHARD: ShardId = ShardId(3);

fn options(seed: u64) -> EngineOptions {
    EngineOptions { cache_bytes: 1 << 20, seed, ..EngineOptions::default() }
}

fn open(disk: &FaultDisk, seed: u64) -> Engine<FaultDisk> {
    block_on(Engine::open(disk.clone(), "store-0000", options(seed))).expect("opens")
}

fn at(index: u64) -> Flushed {
    Flushed { index, term: 2, log_time_ms: index * 10, config_index: 1, config: Bytes::from_static(b"config") }
}

fn get(tree: &Tree<FaultDisk>, key: &str) -> Option<(Vec<u8>, u64)> {
    let now = look(tree, K, key.as_bytes());
    let got = block_on(tree.get(K, key.as_bytes())).expect("readable");
    match now {
        Looked::Found(found) => assert_eq!(got.as_ref().map(versioned), Some(found)),
        Looked::Absent => assert_eq!(got, None),
        Looked::Disk => {}
    }
    got.map(|Value { value, version, .. }| (value.to_vec(), version))
}

fn put(tree: &Tree<FaultDisk>, index: u64, key: &str, value: &str) {
    tree.put(index, K, key.as_bytes(), Bytes::copy_from_slice(value.as_bytes()));
}

#[test]
fn memtable_table_reopen_merge() {
    let disk = FaultDisk::new(1);
    let engine = open(&disk, 1);
    let tree = engine.tree(SHARD);
    assert_eq!((get(&tree, "a"), tree.flushed(), engine.memtable_bytes()), (None, None, 0));
    put(&tree, 1, "a", "one");
    put(&tree, 2, "b", "two");
    assert_eq!(get(&tree, "a"), Some((b"one".to_vec(), 1)));
    let sealed = vec![(KeyspaceId(0), Bytes::from_static(b"sessions"), Bytes::from_static(b"table"))];
    block_on(tree.flush(at(2), sealed)).unwrap();
    assert_eq!((tree.flushed(), tree.memtable_bytes(), engine.memtable_bytes()), (Some(at(2)), 0, 0));
    assert_eq!(get(&tree, "a"), Some((b"one".to_vec(), 1)));
    tree.delete(3, K, b"a");
    put(&tree, 4, "c", "");
    assert_eq!(get(&tree, "a"), None);
    block_on(tree.flush(at(4), vec![])).unwrap();
    drop((tree, engine));

    let engine = open(&disk.crash_power(), 2);
    let tree = engine.tree(SHARD);
    for merged in [false, true] {
        assert_eq!((get(&tree, "a"), get(&tree, "b")), (None, Some((b"two".to_vec(), 2))));
        assert_eq!(get(&tree, "c"), Some((vec![], 4)));
        let sealed = block_on(tree.get(KeyspaceId(0), b"sessions")).unwrap();
        assert_eq!(sealed, Some(Value { value: Bytes::from_static(b"table"), version: 2, expiry_ms: NEVER_MS }));
        assert_eq!(tree.flushed(), Some(at(4)));
        if !merged {
            assert_eq!(tree.table_count(), 2);
            block_on(tree.settle()).unwrap();
        }
    }
    assert_eq!(tree.table_count(), 1);
    let files = disk.paths().into_iter().filter(|path| path.ends_with(".sst")).count();
    assert_eq!((files, engine.stats().trash), (1, 0), "the old files are gone");
}

#[test]
fn a_batch_of_any_size_is_told_in_order() {
    let disk = FaultDisk::new(5);
    let engine = open(&disk, 1);
    let tree = engine.tree(SHARD);
    // Each third key in the memtable, each third in one that is being flushed, each third nowhere.
    (0..300).step_by(3).for_each(|n| put(&tree, n + 1, &format!("k{n}"), &format!("v{n}")));
    let flush = tree.flush(at(301), vec![]);
    (1..300).step_by(3).for_each(|n| put(&tree, 400 + n, &format!("k{n}"), &format!("v{n}")));
    let expected = |n: u64| (n % 3 < 2).then(|| format!("v{n}").into_bytes());
    let keys: Vec<Vec<u8>> = (0..300).map(|n| format!("k{n}").into_bytes()).collect();
    for count in [0, 1, 2, 15, 16, 17, 31, 32, 33, 300] {
        let mut told = Vec::new();
        tree.look(keys[..count].iter().map(|key| Sought::new(K, key)), |found| {
            told.push(if let Lookup::Found { value, .. } = found { Some(value.to_vec()) } else { None });
        });
        assert_eq!(told, (0..count as u64).map(expected).collect::<Vec<_>>(), "{count} keys");
    }
    block_on(flush).unwrap();
}

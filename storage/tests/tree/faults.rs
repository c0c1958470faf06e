//! Errors, races and extremes while the engine runs.

use crate::harness::{DIR, Replica, SHARD, at, check_gets, sealed, table_files, walk};
use crate::harness::{Looked, look};
use bytes::Bytes;
use ringkv_storage::disk::fault::testing::Tasks;
use ringkv_storage::disk::fault::{Fault, FaultDisk, Injection, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::error::{DiskError, StorageError};
use ringkv_wire::ids::{KeyspaceId, ShardId};
use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Waker};

fn filled(tables: u8) -> Replica {
    let mut replica = Replica::new(FaultDisk::new(8));
    for round in 0..tables {
        for key in 0..50u8 {
            replica.write(1, &[key, round % 3], Some(&[round; 70]));
        }
        replica.flush().expect("flushes");
    }
    replica
}

#[test]
fn one_unreadable_block_fails_what_needs_it_and_merges_do_not_loop() {
    let mut replica = filled(5);
    let oldest = table_files(&replica.disk).remove(0);
    replica.reopen(replica.disk.alive()).unwrap();
    assert!(replica.tree.wants_merge());
    replica.disk.set_bad_range(&oldest, 0..512);
    let error = block_on(replica.tree.settle()).unwrap_err();
    assert!(matches!(error, StorageError::Disk(DiskError::Io { .. })), "{error}");
    assert_eq!(replica.tree.table_count(), 5, "nothing changed");
    assert!(replica.tree.wants_merge(), "4 tables above the damaged one are more than 3");
    block_on(replica.tree.settle()).unwrap();
    assert_eq!(replica.tree.table_count(), 2);
    assert!(!replica.tree.wants_merge());
    block_on(replica.tree.settle()).unwrap();
    assert_eq!(replica.tree.table_count(), 2, "asked again it does nothing");
    // A key of an intact table is answered.
    let got = block_on(replica.tree.get(KeyspaceId(1), &[3, 1])).unwrap().unwrap();
    assert_eq!(got.value[..], [4; 70]);
    replica.disk.heal();
    replica.reopen(replica.disk.alive()).unwrap();
    replica.check();
    block_on(replica.tree.settle()).unwrap();
    assert_eq!(replica.tree.table_count(), 1, "a new opening tries again");
    replica.check();
}

#[test]
fn a_damaged_block_names_its_place_and_fails_only_its_keys() {
    let mut replica = filled(1);
    let path = table_files(&replica.disk).remove(0);
    replica.disk.flip_bit(&path, 520, 3);
    replica.reopen(replica.disk.alive()).unwrap();
    let (mut damaged, mut right) = (0, 0);
    for key in 0..50u8 {
        match block_on(replica.tree.get(KeyspaceId(1), &[key, 0])) {
            Err(StorageError::Damaged { path: file, offset, expected, got }) => {
                assert_eq!(file, path);
                assert!((8..=520).contains(&offset), "the block that holds the byte starts at {offset}");
                assert!(expected.starts_with("crc ") && expected != got);
                damaged += 1;
            }
            got => {
                assert_eq!(got.unwrap().unwrap().value[..], [0; 70]);
                right += 1;
            }
        }
    }
    assert!(damaged > 0 && right > 40, "{damaged} damaged, {right} right");
    // Alone it is not merged; with newer tables above, those are.
    assert!(!replica.tree.wants_merge());
}

#[test]
fn a_failed_flush_loses_nothing_and_the_next_one_takes_all() {
    for changes in 0.. {
        let mut replica = filled(1);
        replica.write(1, b"first", Some(b"1"));
        replica.disk.fail_after(changes);
        let flushed = replica.flush();
        if flushed.is_ok() {
            assert!(changes >= 4);
            break;
        }
        replica.write(1, b"first", None);
        replica.write(1, b"second", Some(b"2"));
        replica.check();
        assert_eq!(replica.tree.flushed(), Some(at(50)), "not ahead of what is durable");
        replica.disk.heal();
        replica.flush().unwrap();
        assert_eq!((replica.tree.memtable_bytes(), replica.engine.memtable_bytes()), (0, 0));
        assert_eq!(replica.tree.table_count(), 2);
        replica.check();
        block_on(replica.engine.sweep());
        assert_eq!(table_files(&replica.disk).len(), 2, "the failed table is gone");
        replica.reopen(replica.disk.crash_power()).unwrap();
        replica.check();
    }
}

#[test]
fn a_failed_sync_of_the_manifest_is_never_believed() {
    for fault in [Fault::FailedSync, Fault::TornWrite, Fault::ShortWrite, Fault::Eio, Fault::NoSpace] {
        for path in ["MANIFEST", "CURRENT", ".sst"] {
            for skip in 0..3 {
                let mut replica = filled(2);
                replica.disk.inject(Injection { path: path.into(), skip, fault });
                replica.write(1, b"a", Some(b"1"));
                let _ = replica.flush();
                replica.write(1, b"b", Some(b"2"));
                let _ = block_on(replica.tree.settle());
                let _ = replica.flush();
                replica.check();
                replica.disk.heal();
                replica.flush().unwrap();
                replica.reopen(replica.disk.crash_power()).unwrap();
                replica.check();
            }
        }
    }
}

#[test]
fn futures_dropped_anywhere_lose_nothing() {
    let mut finished = false;
    let base = filled(4);
    for polls in (0..200).step_by(2) {
        let mut replica = base.fork(polls);
        replica.disk.set_yields(1);
        replica.write(1, b"k", Some(b"v"));
        let (flush, merge) = (replica.tree.flush(at(replica.index()), sealed(replica.index())), replica.tree.settle());
        let mut jobs: Vec<std::pin::Pin<Box<dyn Future<Output = _>>>> = vec![Box::pin(flush), Box::pin(merge)];
        for _ in 0..polls {
            jobs.retain_mut(|job| job.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        finished |= jobs.is_empty();
        drop(jobs);
        replica.check();
        // A switch of CURRENT given up half way stops the engine; anything else does not.
        replica.write(1, b"l", Some(b"w"));
        match replica.flush() {
            Ok(()) => assert_eq!(replica.tree.memtable_bytes(), 0),
            Err(error) => assert!(matches!(error, StorageError::Interrupted { .. }), "{error}"),
        }
        replica.reopen(replica.disk.crash_power()).unwrap();
        replica.check();
        assert_eq!(table_files(&replica.disk).len(), replica.tree.table_count());
    }
    assert!(finished, "some run was long enough for both jobs");
}

#[test]
fn no_space_is_survived_and_ends_by_itself() {
    let mut replica = filled(4);
    replica.write(1, b"k", Some(&[1; 2000]));
    replica.disk.set_capacity(Some(replica.disk.used() + 2048));
    let error = replica.flush().unwrap_err();
    assert!(matches!(error, StorageError::Disk(DiskError::NoSpace { .. })), "{error}");
    assert!(block_on(replica.tree.settle()).is_err());
    replica.check();
    assert!(replica.tree.wants_merge(), "no space is not damage: the merge is tried again");
    replica.disk.set_capacity(None);
    replica.flush().unwrap();
    block_on(replica.tree.settle()).unwrap();
    replica.check();
    assert_eq!(replica.tree.table_count(), 1);
}

#[test]
fn a_full_disk_does_not_keep_the_engine_from_opening() {
    let mut replica = filled(2);
    let disk = replica.disk.crash_power();
    disk.set_capacity(Some(disk.used()));
    replica.reopen(disk.clone()).expect("opens to read");
    replica.check();
    replica.write(1, b"k", Some(b"v"));
    assert!(replica.flush().is_err());
    replica.check();
    disk.set_capacity(None);
    replica.flush().unwrap();
    replica.reopen(disk.crash_power()).unwrap();
    replica.check();
}

#[test]
fn merge_flush_gets_and_walks_side_by_side() {
    for seed in 0..20 {
        let mut replica = filled(4);
        replica.disk.set_yields(1 + (seed % 4) as u32);
        replica.write(1, &[200, seed as u8], Some(b"new"));
        replica.write(1, &[7, 0], None);
        let index = replica.index();
        let expected = replica.expected(200);
        let (tree, log) = (replica.tree.clone(), replica.log.clone());
        let mut walk = tree.iter();
        let reads = Cell::new(0);
        let mut tasks = Tasks::new();
        tasks.spawn(async { tree.settle().await.unwrap() });
        tasks.spawn(async { tree.flush(at(index), sealed(index)).await.unwrap() });
        tasks.spawn(async { tree.settle().await.unwrap() });
        tasks.spawn(async {
            for write in log.iter().rev().take(120) {
                let want = expected.get(&(write.keyspace, write.key.clone()));
                assert_eq!(tree.get(write.keyspace, &write.key).await.unwrap().as_ref(), want);
                reads.set(reads.get() + 1);
            }
        });
        let (walked, expected) = (Cell::new(0), &expected);
        let walked_ref = &walked;
        tasks.spawn(async move {
            let mut left = expected.iter();
            while let Some((keyspace, key, value)) = walk.next().await.unwrap() {
                assert_eq!(left.next(), Some((&(keyspace, key), &value)), "the walk sees the tree as it was");
                walked_ref.set(walked_ref.get() + 1);
            }
            assert_eq!(left.next(), None);
        });
        tasks.run();
        drop(tasks);
        assert_eq!((reads.get(), walked.get()), (120, expected.len()));
        replica.acknowledged = index;
        replica.check();
        block_on(replica.engine.sweep());
        assert_eq!(table_files(&replica.disk).len(), replica.tree.table_count());
        replica.reopen(replica.disk.crash_power()).unwrap();
        replica.check();
    }
}

#[test]
fn flushes_take_effect_in_the_order_of_the_calls() {
    let mut replica = filled(1);
    replica.disk.set_yields(2);
    replica.write(1, b"k", Some(b"1"));
    let first = replica.tree.flush(at(51), sealed(51));
    replica.write(1, b"k", Some(b"2"));
    let second = replica.tree.flush(at(52), sealed(52));
    let (mut first, mut second) = (pin!(first), pin!(second));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..50 {
        assert!(second.as_mut().poll(&mut context).is_pending(), "the second waits for the first");
    }
    block_on(first.as_mut()).unwrap();
    assert_eq!(replica.tree.flushed(), Some(at(51)));
    block_on(second.as_mut()).unwrap();
    assert_eq!((replica.tree.flushed(), replica.tree.table_count()), (Some(at(52)), 3));
    replica.check();
    // One that comes too late does nothing.
    block_on(replica.tree.flush(at(51), vec![])).unwrap();
    assert_eq!((replica.tree.flushed(), replica.tree.table_count()), (Some(at(52)), 3));
}

#[test]
fn a_flush_of_nothing_moves_the_index_only() {
    let replica = filled(1);
    block_on(replica.tree.flush(at(70), vec![])).unwrap();
    assert_eq!((replica.tree.flushed(), replica.tree.table_count()), (Some(at(70)), 1));
}

#[test]
fn long_jobs_let_others_run() {
    let mut replica = Replica::new(FaultDisk::new(3));
    for n in 0..3000u32 {
        replica.write(1, &n.to_be_bytes(), Some(&[1; 100]));
    }
    let mut polls = 0;
    let mut flush = pin!(replica.tree.flush(at(3000), vec![]));
    while flush.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        polls += 1;
    }
    // 700 KB of work in slices of 64 KiB, on a disk that answers at once.
    assert!(polls >= 9, "{polls} yields");
    let mut walk = replica.tree.iter();
    let mut all = pin!(async { while walk.next().await.expect("readable").is_some() {} });
    let mut polls = 0;
    while all.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        polls += 1;
    }
    assert!(polls >= 4, "{polls} yields");
}

#[test]
fn values_of_nothing_and_of_16_mib_and_the_longest_key() {
    let mut replica = Replica::new(FaultDisk::new(1));
    let big: Vec<u8> = (0..16u32 << 20).map(|n| ((n * 7) >> 8) as u8).collect();
    let key = vec![0xff; 65_535];
    replica.write(1, b"empty", Some(b""));
    replica.write(1, b"big", Some(&big));
    replica.write(1, &key, Some(b"long key"));
    replica.write(2, &key, None);
    replica.flush().unwrap();
    replica.check();
    replica.reopen(replica.disk.crash_power()).unwrap();
    assert_eq!(look(&replica.tree, KeyspaceId(1), b"big"), Looked::Disk);
    replica.check();
    replica.write(1, b"more", Some(b"x"));
    replica.flush().unwrap();
    block_on(replica.tree.settle()).unwrap();
    replica.check();
    assert!(replica.engine.stats().cache_bytes <= 64 << 10, "a block beyond the budget is not kept");
}

#[test]
fn the_cache_stays_within_its_budget_and_serves() {
    let mut replica = filled(4);
    for _ in 0..3 {
        replica.check();
        let stats = replica.engine.stats();
        assert!(stats.cache_bytes <= 64 << 10, "{stats:?}");
    }
    let key = (KeyspaceId(1), [9u8, 0]);
    assert!(block_on(replica.tree.get(key.0, &key.1)).unwrap().is_some());
    assert!(matches!(look(&replica.tree, key.0, &key.1), Looked::Found(_)), "read once, answered at once");
    assert!(replica.engine.stats().cache_hits > 0);
    replica.reopen(replica.disk.alive()).unwrap();
    assert_eq!(look(&replica.tree, key.0, &key.1), Looked::Disk);
    assert_eq!(look(&replica.tree, key.0, b"no such key"), Looked::Absent);
}

#[test]
fn orphans_are_removed_at_opening_and_strangers_in_current_too() {
    let mut replica = filled(2);
    let orphan = format!("{DIR}/tables/{:016x}.sst", 900);
    block_on(async {
        use ringkv_storage::disk::{Disk, OpenMode};
        replica.disk.open(&orphan, OpenMode::Create).await.unwrap();
        replica.disk.open(&format!("{DIR}/CURRENT-00000000000000ff"), OpenMode::Create).await.unwrap();
        replica.disk.open(&format!("{DIR}/MANIFEST-00000000000000fe"), OpenMode::Create).await.unwrap();
    });
    replica.reopen(replica.disk.alive()).unwrap();
    assert_eq!(table_files(&replica.disk).len(), 2);
    let others: Vec<_> = replica.disk.paths().into_iter().filter(|path| !path.ends_with(".sst")).collect();
    assert_eq!(others, [format!("{DIR}/CURRENT"), format!("{DIR}/MANIFEST-0000000000000100")]);
    replica.check();
    replica.write(1, b"k", Some(b"v"));
    replica.flush().unwrap();
    replica.check();
}

#[test]
fn many_edits_of_many_trees_stay_bounded() {
    let disk = FaultDisk::new(4);
    let open = |seed| block_on(Engine::open(disk.clone(), "", EngineOptions { seed, ..EngineOptions::default() }));
    let engine = open(1).unwrap();
    for round in 1..=6u64 {
        for shard in 0..100 {
            let tree = engine.tree(ShardId(shard));
            tree.put(round, KeyspaceId(1), &shard.to_be_bytes(), Bytes::from(round.to_string()));
            block_on(tree.flush(at(round), vec![])).unwrap();
        }
    }
    let stats = engine.stats();
    assert!(stats.manifest_bytes < 1300 << 10, "600 edits of a page: {} bytes", stats.manifest_bytes);
    assert_eq!((stats.trees, stats.tables, stats.flushes, stats.failures), (100, 600, 600, 0));
    assert_eq!(disk.paths().iter().filter(|path| path.starts_with("MANIFEST")).count(), 1);
    drop(engine);
    let engine = open(2).unwrap();
    assert_eq!(engine.shards().len(), 100);
    for shard in 0..100u32 {
        let got = block_on(engine.tree(ShardId(shard)).get(KeyspaceId(1), &shard.to_be_bytes())).unwrap().unwrap();
        assert_eq!((got.value, got.version), (Bytes::from_static(b"6"), 6));
    }
}

#[test]
fn trees_share_nothing_but_the_store() {
    let mut replica = filled(1);
    let other = replica.engine.tree(ShardId(9));
    other.put(1, KeyspaceId(1), &[3, 0], Bytes::from_static(b"other"));
    block_on(other.flush(at(1), vec![])).unwrap();
    replica.check();
    assert_eq!(walk(&other).unwrap().len(), 1);
    check_gets(&replica.engine.tree(SHARD), &replica.expected(50), &replica.log);
    replica.reopen(replica.disk.crash_power()).unwrap();
    assert_eq!(walk(&replica.engine.tree(ShardId(9))).unwrap().len(), 1);
}

#[test]
#[should_panic(expected = "redo begins behind the flushed index 50")]
fn a_write_at_a_flushed_index_is_a_bug() {
    filled(1).tree.put(50, KeyspaceId(1), b"k", Bytes::new());
}

#[test]
fn without_room_in_the_cache_it_works() {
    let disk = FaultDisk::new(1);
    let options = EngineOptions { cache_bytes: 0, ..EngineOptions::default() };
    let engine = block_on(Engine::open(disk, DIR, options)).unwrap();
    let tree = engine.tree(SHARD);
    tree.put(1, KeyspaceId(1), b"k", Bytes::from_static(b"v"));
    block_on(tree.flush(at(1), vec![])).unwrap();
    assert!(block_on(tree.get(KeyspaceId(1), b"k")).unwrap().is_some());
    assert_eq!((look(&tree, KeyspaceId(1), b"k"), engine.stats().cache_bytes), (Looked::Disk, 0));
}

#[test]
fn absent_keys_need_no_block() {
    let mut replica = filled(3);
    replica.reopen(replica.disk.alive()).unwrap();
    assert_eq!(replica.engine.stats().tables_without_filter, 0);
    // Inside the range of every table's keys, and in none.
    let absent = (0..=u8::MAX).flat_map(|n| [[20, 100, n], [30, 100, n]]);
    let read = absent.filter(|key| look(&replica.tree, KeyspaceId(1), key) == Looked::Disk).count();
    assert!(read < 30, "{read} of 512 absent keys would read a block in one of 3 tables");
}

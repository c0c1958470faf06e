use super::*;
use crate::disk::fault::{FaultDisk, block_on};
use crate::engine::{Engine, EngineOptions};
use crate::manifest::Flushed;
use bytes::Bytes;
use ringkv_wire::ids::ShardId;

type At = Engine<FaultDisk>;

const KEYSPACES: std::ops::Range<u32> = 1..8;
const GONE: [KeyspaceId; 4] = [KeyspaceId(2), KeyspaceId(4), KeyspaceId(5), KeyspaceId(6)];

fn open(disk: &FaultDisk, seed: u64) -> Result<(At, Tree<FaultDisk>), StorageError> {
    let engine = block_on(Engine::open(disk.clone(), "", EngineOptions { seed, ..EngineOptions::default() }))?;
    let tree = engine.tree(ShardId(0));
    Ok((engine, tree))
}

fn value(keyspace: u32, key: u8, round: u8) -> Bytes {
    [&[keyspace as u8, key, round][..], &[7; 300]].concat().into()
}

/// Tables of all keyspaces, and of some of them, whose edges are gone or not, in the last level and in flushes above.
fn fill(tree: &Tree<FaultDisk>) {
    let rounds = [1..8, 1..8, 2..3, 4..6, 6..8, 2..5].into_iter().enumerate();
    for (round, keyspaces) in rounds {
        let index = round as u64 + 1;
        for (keyspace, key) in keyspaces.flat_map(|keyspace| (0..20).map(move |key| (keyspace, key))) {
            tree.put(index, KeyspaceId(keyspace), &[key], value(keyspace, key, round as u8));
        }
        block_on(tree.flush(Flushed { index, ..Flushed::default() }, Vec::new())).expect("flushed");
        if round == 0 {
            block_on(tree.settle()).expect("merged");
        }
    }
}

fn narrow(tree: &Tree<FaultDisk>) -> BTreeSet<KeyspaceId> {
    tree.narrow(|keyspace, _| !GONE.contains(&keyspace));
    BTreeSet::from(GONE)
}

/// Each key has its newest value, or none when it is no more; `all`: those too.
fn check(tree: &Tree<FaultDisk>, all: bool) {
    for keyspace in KEYSPACES {
        let newest = match keyspace {
            6 | 7 => 4,
            5 => 3,
            2..=4 => 5,
            _ => 1,
        };
        for key in 0..20 {
            let found = block_on(tree.get(KeyspaceId(keyspace), &[key])).expect("read").map(|value| value.value);
            let stays = all || !GONE.contains(&KeyspaceId(keyspace));
            assert_eq!(found, stays.then(|| value(keyspace, key, newest)), "{keyspace}/{key}");
        }
    }
}

/// Whether tables hold something of a keyspace.
fn has(tree: &Tree<FaultDisk>, keyspace: KeyspaceId) -> bool {
    let version = tree.state.version();
    version.members().any(|member| block_on(holds(member, &BTreeSet::from([keyspace]))).expect("read"))
}

#[test]
fn tables_are_rid_of_what_is_gone_and_of_nothing_else() {
    let disk = FaultDisk::new(1);
    let (engine, tree) = open(&disk, 1).expect("opened");
    fill(&tree);
    check(&tree, true);
    let before = tree.table_count();
    let gone = narrow(&tree);
    block_on(tree.shed(&gone)).expect("shed");
    check(&tree, false);
    assert_eq!(KEYSPACES.filter(|id| has(&tree, KeyspaceId(*id))).collect::<Vec<_>>(), [1, 3, 7]);
    assert_eq!(tree.table_count(), before - 2, "two held nothing else");
    // A second time there is nothing to be done.
    let written = engine.stats().merged_bytes;
    block_on(tree.shed(&gone)).expect("shed");
    assert_eq!(engine.stats().merged_bytes, written);
    drop((engine, tree));
    let (_engine, tree) = open(&disk.crash_power(), 2).expect("opened");
    check(&tree, false);
}

/// Wherever it ends: what stays is there, and the next one does the rest.
#[test]
fn a_crash_at_every_change_loses_nothing_that_stays() {
    let mut crashes = 0;
    for power in [false, true] {
        for changes in 0.. {
            let disk = FaultDisk::new(changes);
            let (engine, tree) = open(&disk, 1).expect("opened");
            fill(&tree);
            let gone = narrow(&tree);
            disk.crash_after_writes(changes);
            let done = block_on(tree.shed(&gone)).is_ok();
            drop((engine, tree));
            let disk = if power { disk.crash_power() } else { disk.crash_process() };
            let (_engine, tree) = open(&disk, 2).expect("recovers");
            narrow(&tree);
            check(&tree, false);
            block_on(tree.shed(&gone)).expect("shed");
            check(&tree, false);
            assert!(GONE.iter().all(|id| !has(&tree, *id)), "after {changes} changes");
            if done {
                break;
            }
            crashes += 1;
        }
    }
    assert!(crashes > 20, "{crashes} crashes");
}

/// A table that cannot be read goes when nothing else is in it, and stands in nobody's way otherwise.
#[test]
fn damage_keeps_nobody() {
    let disk = FaultDisk::new(3);
    let (_engine, tree) = open(&disk, 1).expect("opened");
    fill(&tree);
    let paths: Vec<(String, bool)> = {
        let (version, gone) = (tree.state.version(), BTreeSet::from(GONE));
        version.members().map(|m| (tree.engine.table_path(m.entry.place.number), is_whole(m, &gone))).collect()
    };
    assert!(paths.iter().any(|(_, whole)| *whole));
    drop((_engine, tree));
    for (path, _) in &paths {
        block_on(disk.remove(path)).expect("removed");
    }
    let (_engine, tree) = open(&disk.crash_process(), 2).expect("opened");
    assert!(tree.damage().is_some());
    let gone = narrow(&tree);
    block_on(tree.shed(&gone)).expect("shed");
    assert_eq!(tree.table_count(), paths.iter().filter(|(_, whole)| !whole).count());
}

//! Shipping a tree from one engine to another.

use crate::harness::{Replica, at, table_files, walk};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::{Receiver, TableSet};

fn leader() -> Replica {
    let mut leader = Replica::new(FaultDisk::new(1));
    for round in 0..3u8 {
        for key in 0..60u8 {
            leader.write(1, &[key % 40, round], (key % 7 != 0).then_some(&[key; 90]));
        }
        leader.flush().expect("flushes");
    }
    leader
}

fn follower() -> Replica {
    let mut follower = Replica::new(FaultDisk::new(2));
    for key in 0..20u8 {
        follower.write(2, &[key], Some(b"of another past"));
        if key == 10 {
            follower.flush().expect("flushes");
        }
    }
    follower
}

/// Ships `pieces` pieces of 3,000 bytes; whether that was all.
pub fn ship(from: &TableSet<FaultDisk>, to: &Receiver<FaultDisk>, mut pieces: usize) -> Result<bool, StorageError> {
    for table in from.list() {
        let mut offset = 0;
        while offset < table.bytes {
            if pieces == 0 {
                return Ok(false);
            }
            pieces -= 1;
            let bytes = block_on(from.read(table.id, offset, 3000))?;
            block_on(to.write(table.id, table.bytes, offset, &bytes))?;
            // What came twice does no harm.
            block_on(to.write(table.id, table.bytes, offset, &bytes))?;
            offset += bytes.len() as u64;
            assert_eq!(to.received(table.id), offset);
        }
    }
    Ok(true)
}

pub fn ids(set: &TableSet<FaultDisk>) -> Vec<[u8; 16]> {
    set.list().iter().map(|table| table.id).collect()
}

#[test]
fn installed_it_is_the_leaders_tree() {
    let (mut leader, mut follower) = (leader(), follower());
    let set = leader.tree.tables();
    let expected = walk(&leader.tree).unwrap();
    // The leader goes on: the pinned set does not change, and its files stay.
    let (index, before) = (leader.index(), leader.log.clone());
    leader.write(1, b"later", Some(b"x"));
    leader.flush().unwrap();
    block_on(leader.tree.settle()).unwrap();
    assert_eq!((set.list().len(), table_files(&leader.disk).len()), (3, 4));

    let receiver = follower.tree.receive();
    assert!(ship(&set, &receiver, usize::MAX).unwrap());
    block_on(receiver.install(set.at(), &ids(&set))).unwrap();
    assert_eq!(follower.tree.flushed(), Some(at(index)));
    assert_eq!(walk(&follower.tree).unwrap(), expected);
    assert_eq!((follower.tree.memtable_bytes(), follower.engine.memtable_bytes()), (0, 0));
    assert_eq!(table_files(&follower.disk).len(), 3, "its own table is gone");
    assert_eq!(ids(&follower.tree.tables()), ids(&set), "tables keep their ids");

    drop(set);
    block_on(leader.engine.sweep());
    assert_eq!(table_files(&leader.disk).len(), 1, "unpinned, the merged tables are gone");

    (follower.log, follower.acknowledged) = (before, index);
    follower.reopen(follower.disk.crash_power()).unwrap();
    follower.check();
    follower.write(1, b"and", Some(b"on"));
    follower.flush().unwrap();
    follower.check();
}

#[test]
fn interrupted_at_every_piece_it_changes_nothing() {
    let leader = leader();
    let set = leader.tree.tables();
    for pieces in 0.. {
        let mut follower = follower();
        let receiver = follower.tree.receive();
        if ship(&set, &receiver, pieces).unwrap() {
            assert!(pieces > 8);
            break;
        }
        let crashed = pieces % 2 == 0;
        if crashed {
            follower.reopen(follower.disk.crash_power()).unwrap();
        } else {
            let error = block_on(receiver.install(set.at(), &ids(&set)));
            assert!(matches!(error, Err(StorageError::Transfer { .. })), "{error:?}");
        }
        follower.check();
        assert_eq!(table_files(&follower.disk).len(), 1, "parts are gone");
    }
}

#[test]
fn a_crash_at_every_change_of_an_install_leaves_old_or_new() {
    let leader = leader();
    let (set, index) = (leader.tree.tables(), leader.index());
    let (mut old, mut new) = (0, 0);
    for changes in 0.. {
        let mut follower = follower();
        let receiver = follower.tree.receive();
        ship(&set, &receiver, usize::MAX).unwrap();
        follower.disk.crash_after_writes(changes);
        let installed = block_on(receiver.install(set.at(), &ids(&set))).is_ok();
        if !follower.disk.is_down() {
            assert!(installed);
            break;
        }
        let disk = follower.disk.crash_power();
        let engine = crate::harness::open(&disk, 77).unwrap();
        let at = engine.tree(crate::harness::SHARD).flushed().map_or(0, |at| at.index);
        if at == index {
            assert_eq!(walk(&engine.tree(crate::harness::SHARD)).unwrap(), walk(&leader.tree).unwrap());
            new += 1;
        } else {
            assert!(!installed, "an install that was acknowledged stays");
            follower.reopen(disk).unwrap();
            follower.check();
            old += 1;
        }
    }
    assert!(old >= 4 && new >= 1, "{old} old, {new} new");
}

#[test]
fn damage_on_the_way_or_at_rest_is_refused() {
    let leader = leader();
    let set = leader.tree.tables();
    let bytes = set.list()[0].bytes as usize;
    for offset in (0..bytes).step_by(97) {
        let follower = follower();
        let receiver = follower.tree.receive();
        let mut harmless = true;
        for table in set.list() {
            let mut whole = block_on(set.read(table.id, 0, table.bytes as usize)).unwrap().to_vec();
            if table.id == set.list()[0].id {
                let zeros = |part: &[u8]| part.iter().all(|b| *b == 0);
                harmless = zeros(&whole[offset.saturating_sub(16)..=offset])
                    || zeros(&whole[offset..(offset + 16).min(bytes)]);
                whole[offset] ^= 4;
            }
            block_on(receiver.write(table.id, table.bytes, 0, &whole)).unwrap();
        }
        match block_on(receiver.install(set.at(), &ids(&set))) {
            Err(StorageError::Damaged { .. }) => follower.check(),
            Ok(()) => assert!(harmless, "byte {offset} is not padding"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn pieces_that_make_no_sense_are_refused() {
    let (leader, follower) = (leader(), follower());
    let set = leader.tree.tables();
    let table = set.list()[0];
    let receiver = follower.tree.receive();
    let refused = |total: u64, offset: u64, bytes: &[u8]| {
        matches!(block_on(receiver.write(table.id, total, offset, bytes)), Err(StorageError::Transfer { .. }))
    };
    assert!(refused(100, 0, b"x") && refused(0, 0, b"") && refused(u64::MAX, 0, b"x"), "lengths");
    assert!(!refused(table.bytes, 0, b"first"));
    assert!(refused(table.bytes, 6, b"gap"));
    assert!(refused(table.bytes + 4096, 5, b"another length"));
    assert!(refused(table.bytes, table.bytes, b"behind the end") && refused(table.bytes, u64::MAX, b"overflow"));
    assert!(matches!(block_on(set.read([9; 16], 0, 10)), Err(StorageError::Transfer { .. })));
    drop(receiver);
    block_on(follower.engine.sweep());
    assert_eq!(table_files(&follower.disk).len(), 1);
}

#[test]
fn an_empty_tree_ships_as_nothing() {
    let leader = Replica::new(FaultDisk::new(1));
    let follower = follower();
    let set = leader.tree.tables();
    assert!(set.list().is_empty());
    block_on(follower.tree.receive().install(at(99), &[])).unwrap();
    assert!(walk(&follower.tree).unwrap().is_empty());
    assert_eq!(follower.tree.flushed(), Some(at(99)));
}

/// Found by installing a tree of three levels into itself: versions of tables that overlap interleave between any two levels.
#[test]
fn a_tree_of_many_levels_is_taken_as_it_is() {
    let mut leader = Replica::new(FaultDisk::new(4));
    for round in 0..120u32 {
        for key in 0..60u32 {
            let key = (key * 7919 + round * 104_729) % 3000;
            leader.write(1, &key.to_be_bytes(), (key % 11 != 0).then_some(&[round as u8; 120]));
        }
        leader.flush().unwrap();
        while leader.tree.wants_merge() {
            block_on(leader.tree.merge()).unwrap();
        }
        if round % 20 == 19 {
            let (set, follower) = (leader.tree.tables(), follower());
            let receiver = follower.tree.receive();
            ship(&set, &receiver, usize::MAX).unwrap();
            block_on(receiver.install(set.at(), &ids(&set))).unwrap();
            assert_eq!(walk(&follower.tree).unwrap(), walk(&leader.tree).unwrap());
        }
    }
    leader.check();
}

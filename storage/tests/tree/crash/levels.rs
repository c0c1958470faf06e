//! A crash at every change of the disk while a tree of several levels is flushed, merged, moved and opened.

use super::crash;
use crate::harness::{Replica, at, open_as, walk};
use crate::levels::{assert_no_strangers, base, key, levels, options, tombstones};
use bytes::Bytes;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::Flushed;
use ringkv_wire::ids::{KeyspaceId, ShardId};

/// A tree whose flushes carry so much that the manifest has to move soon.
const OTHER: ShardId = ShardId(9);

/// What the script did, seen from the manifest.
#[derive(Debug, Default)]
struct Seen {
    /// Tables that went to another level as they were.
    moved: usize,
    /// Merges into the level between, and into the last one.
    between: usize,
    last: usize,
    /// Merges that left tombstones out.
    dropped: usize,
}

impl Seen {
    /// Does the most urgent merge and looks at what it did.
    fn merge(&mut self, replica: &Replica) -> Result<(), StorageError> {
        let before = (levels(&replica.disk), tombstones(&replica.disk));
        block_on(replica.tree.merge())?;
        let after = (levels(&replica.disk), tombstones(&replica.disk));
        self.moved +=
            after.0.iter().filter(|(number, level)| before.0.get(number).is_some_and(|l| l != *level)).count();
        let made = |wanted: u8| {
            usize::from(after.0.iter().any(|(number, level)| !before.0.contains_key(number) && *level == wanted))
        };
        self.between += made(5);
        self.last += made(6);
        self.dropped += usize::from(after.1 < before.1);
        Ok(())
    }
}

/// Flushes of a few neighbours each, and all merges that they want.
fn script(
    replica: &mut Replica,
    mut merge: impl FnMut(&Replica) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    for round in 0..18u8 {
        for n in [0, 1, 2] {
            let value = [round ^ n; 3000];
            let deleted = n == 1 && round % 2 == 0;
            replica.write(1, &key(round * 7 + n), (!deleted).then_some(value.as_slice()));
        }
        if round == 5 {
            // Where nothing lies below.
            replica.write(7, b"alone", Some(b"in its keyspace"));
        }
        replica.flush()?;
        while replica.tree.wants_merge() {
            merge(replica)?;
        }
    }
    Ok(())
}

fn merge(replica: &Replica) -> Result<(), StorageError> {
    block_on(replica.tree.merge())
}

/// Everything durable is there, nothing else is, and the tree goes on: a flush, its merges, a power loss.
fn recovers(replica: &mut Replica, disk: FaultDisk) {
    replica.reopen(disk).expect("recovers");
    replica.check();
    assert_no_strangers(&replica.disk);
    replica.write(1, &key(64), Some(b"after the crash"));
    replica.flush().expect("flushes");
    while replica.tree.wants_merge() {
        merge(replica).expect("merges");
    }
    replica.reopen(replica.disk.crash_power()).expect("recovers");
    replica.check();
}

/// Another one from the same past, whose disk stops after so many changes.
fn stopping(base: &Replica, seed: u64, changes: u64) -> Replica {
    let replica = base.fork(seed);
    replica.disk.crash_after_writes(changes);
    replica
}

#[test]
fn the_script_does_all_that_a_tree_of_levels_does() {
    let (mut replica, mut seen) = (base().fork(1), Seen::default());
    script(&mut replica, |replica| seen.merge(replica)).expect("a good disk");
    replica.check();
    assert!(seen.moved >= 3 && seen.between >= 1 && seen.last >= 2 && seen.dropped >= 1, "{seen:?}");
    assert_eq!(levels(&replica.disk).values().filter(|level| **level == 0).count(), 0);
}

#[test]
fn at_every_change() {
    let base = base();
    for power in [false, true] {
        let mut visited = 0;
        for changes in 0.. {
            let mut replica = stopping(&base, changes * 2 + u64::from(power), changes);
            if script(&mut replica, merge).is_ok() && !replica.disk.is_down() {
                break;
            }
            visited += 1;
            let disk = crash(&replica.disk, power);
            recovers(&mut replica, disk);
        }
        assert!(visited > 300, "{visited} crashes");
    }
}

#[test]
fn at_every_change_of_the_openings_that_follow() {
    let (base, mut visited) = (base(), 0);
    for first in (5..300).step_by(37) {
        for changes in 0.. {
            let power = (first + changes) % 2 == 0;
            let mut replica = stopping(&base, first * 100 + changes, first);
            script(&mut replica, merge).expect_err("the machine stops");
            let mut disk = crash(&replica.disk, !power);
            let mut opened = true;
            // The second opening stops somewhere else than the first.
            for stop in [changes, changes / 2] {
                disk.crash_after_writes(stop);
                opened = open_as(&disk, options(500 + stop)).is_ok();
                assert!(opened || disk.is_down(), "nothing but the crash fails");
                visited += u64::from(disk.is_down());
                disk = crash(&disk, power);
            }
            replica.reopen(disk).expect("recovers");
            replica.check();
            assert_no_strangers(&replica.disk);
            if opened && changes > 8 {
                break;
            }
        }
    }
    assert!(visited > 80, "{visited} crashes");
}

fn manifest(replica: &Replica) -> Option<String> {
    replica.disk.paths().into_iter().find(|path| path.contains("/MANIFEST-"))
}

/// Fills the manifest up to where the next edit moves to a fresh one.
fn fill_manifest(replica: &Replica) {
    let other = replica.engine.tree(OTHER);
    let before = manifest(replica);
    for index in 1..=6 {
        other.put(index, KeyspaceId(1), b"other", Bytes::copy_from_slice(&index.to_le_bytes()));
        let config = Bytes::from(vec![index as u8; 200_000]);
        block_on(other.flush(Flushed { config, ..at(index) }, Vec::new())).expect("flushes");
    }
    assert_eq!(manifest(replica), before, "the next one moves");
}

#[test]
fn at_every_change_of_a_move_to_a_fresh_manifest() {
    let base = base();
    for power in [false, true] {
        let mut visited = 0;
        for changes in 0.. {
            let mut replica = base.fork(900 + changes);
            fill_manifest(&replica);
            let before = manifest(&replica);
            replica.disk.crash_after_writes(changes);
            replica.write(1, &key(3), Some(b"moves the manifest"));
            if replica.flush().is_ok() && !replica.disk.is_down() {
                assert_ne!(manifest(&replica), before, "it moved");
                break;
            }
            visited += 1;
            let disk = crash(&replica.disk, power);
            recovers(&mut replica, disk);
            let other = replica.engine.tree(OTHER);
            assert_eq!(other.flushed().map(|at| (at.index, at.config.len())), Some((6, 200_000)));
            assert_eq!(walk(&other).expect("readable").len(), 1);
        }
        assert!(visited >= 12, "{visited} crashes");
    }
}

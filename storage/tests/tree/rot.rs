//! One flipped bit anywhere: an error that says where, or no harm. Never a panic, never wrong data.

mod parts;
mod regions;

use crate::harness::{DIR, Replica, SHARD, open, table_files, walk};
use ringkv_storage::disk::fault::{Fault, FaultDisk, Injection, block_on};
use ringkv_storage::error::StorageError;
use std::collections::BTreeSet;

/// Two tables of several blocks each, one with a filter of its own, and tombstones.
fn store() -> Replica {
    let mut replica = Replica::new(FaultDisk::new(5));
    for round in 0..2u8 {
        for key in 0..30u8 {
            let value = [round; 60];
            replica.write(1, &[key, key], (key % 9 != round).then_some(value.as_slice()));
        }
        replica.flush().expect("flushes");
    }
    replica
}

/// Opens and reads all, also keys that nobody wrote; answers the first thing found wrong. Wrong data is a panic.
fn read_all(disk: &FaultDisk, sound: &Replica) -> Option<StorageError> {
    let expected = sound.expected(sound.index());
    let is_damage = |error: &StorageError| assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    let tree = match open(disk, 9) {
        Ok(engine) => engine.tree(SHARD),
        Err(error) => {
            is_damage(&error);
            return Some(error);
        }
    };
    let mut found = None;
    match walk(&tree) {
        Ok(map) => assert!(map == expected, "wrong data"),
        Err(error) => {
            is_damage(&error);
            found = Some(error);
        }
    }
    let written: BTreeSet<_> = sound.log.iter().map(|write| (write.keyspace, write.key.to_vec())).collect();
    for (keyspace, key) in written {
        for key in [key.clone(), [key, vec![1]].concat()] {
            let want = expected.get(&(keyspace, key.clone().into()));
            match block_on(tree.get(keyspace, &key)) {
                Ok(got) => assert!(got.as_ref() == want, "key {key:?}: {got:?} instead of {want:?}"),
                Err(error) => is_damage(&error),
            }
        }
    }
    found
}

/// Flips a bit of every `step`-th byte of a file from `from` on; answers how many of them were noticed.
fn flip_all(sound: &Replica, path: &str, from: u64, to: u64, step: usize) -> (usize, usize) {
    let (mut noticed, mut flips) = (0, 0);
    for offset in (from..to).step_by(step) {
        let disk = sound.disk.fork(offset);
        assert!(disk.flip_bit(path, offset, (offset % 8) as u8));
        flips += 1;
        noticed += usize::from(read_all(&disk, sound).is_some());
    }
    (noticed, flips)
}

#[test]
fn in_every_byte_of_a_table() {
    let sound = store();
    assert!(read_all(&sound.disk.fork(0), &sound).is_none(), "nothing is wrong before");
    for (path, step) in table_files(&sound.disk).into_iter().zip([2, 11]) {
        let bytes = sound.disk.peek(&path).expect("there");
        // Zeros between the sections mean nothing; all else is noticed when everything is read.
        let (noticed, flips) = flip_all(&sound, &path, 0, bytes.len() as u64, step);
        let padding = longest_zeros(&bytes);
        assert_eq!(flips, bytes.len().div_ceil(step));
        assert!(noticed + padding / step + 4 >= flips, "{noticed} of {flips} noticed, {padding} bytes are padding");
    }
}

/// Bytes in runs of more than 40 zeros, which no section of this store has.
fn longest_zeros(bytes: &[u8]) -> usize {
    bytes.chunk_by(|a, b| *a == 0 && *b == 0).map(|run| run.len()).filter(|run| *run > 16).sum()
}

#[test]
fn in_the_manifest_and_in_current() {
    let sound = store();
    let current = format!("{DIR}/CURRENT");
    let (noticed, flips) = flip_all(&sound, &current, 0, 4096, 5);
    assert_eq!(noticed, flips, "CURRENT");
    let manifest = sound.disk.paths().into_iter().find(|path| path.contains("MANIFEST")).expect("there");
    // The first edit and two more, one page each: every byte. Never written zeros behind: some.
    let bytes = sound.disk.peek(&manifest).expect("there").len() as u64;
    let (noticed, flips) = flip_all(&sound, &manifest, 0, 3 * 4096, 3);
    assert_eq!(noticed, flips, "edits");
    let (noticed, flips) = flip_all(&sound, &manifest, 3 * 4096, bytes, 501);
    assert_eq!(noticed, flips, "no crash leaves such a sector");
}

#[test]
fn a_block_read_from_the_wrong_place_or_table_is_noticed() {
    let sound = store();
    let files = table_files(&sound.disk);
    let disk = sound.disk.fork(1);
    let block = disk.peek(&files[0]).expect("there")[512..1024].to_vec();
    disk.poke(&files[0], 0, &block);
    assert!(read_all(&disk, &sound).is_some(), "a neighbour's bytes");
    let disk = sound.disk.fork(2);
    let whole = disk.peek(&files[0]).expect("there");
    disk.poke(&files[1], 0, &whole);
    assert!(read_all(&disk, &sound).is_some(), "another table's bytes");
}

#[test]
fn a_missing_file_is_damage() {
    let sound = store();
    for path in sound.disk.paths() {
        let disk = sound.disk.fork(3);
        block_on(ringkv_storage::disk::Disk::remove(&disk, &path)).expect("removed");
        let damage = match open(&disk, 9) {
            Ok(engine) => engine.tree(SHARD).damage(),
            Err(error) => Some(error),
        };
        assert!(matches!(damage, Some(StorageError::Damaged { .. })), "{path}: {damage:?}");
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let sound = store();
    let path = format!("{DIR}/CURRENT");
    let mut bytes = sound.disk.peek(&path).expect("there");
    bytes[4] = 3;
    let crc = crc32c::crc32c(&bytes[..4092]);
    bytes[4092..].copy_from_slice(&crc.to_le_bytes());
    sound.disk.poke(&path, 0, &bytes);
    assert!(matches!(open(&sound.disk, 9), Err(StorageError::Newer { got: 3, known: 2, .. })));
}

/// Faults that the disk does not report. What is found is damage, or the log up to some flush. (A manifest whose last edit the disk
/// answered and dropped is the one thing that one copy cannot notice: FORMAT.md §3.4.)
#[test]
fn a_lying_disk_is_found_out_or_harmless() {
    let faults = [Fault::LostWrite, Fault::LostSync, Fault::MisdirectedWrite, Fault::Rot, Fault::MisdirectedRead];
    let (mut damaged, mut older) = (0, 0);
    for fault in faults {
        for path in ["MANIFEST", "CURRENT", ".sst"] {
            for skip in 0..12 {
                let mut replica = Replica::new(FaultDisk::new(skip));
                replica.disk.inject(Injection { path: path.into(), skip, fault });
                let mut history = || -> Result<(), StorageError> {
                    for round in 0..4u8 {
                        for key in 0..20u8 {
                            replica.write(1, &[key % 11, round / 2], (key % 9 != round).then_some(&[key; 60]));
                        }
                        replica.flush()?;
                        if round == 2 {
                            block_on(replica.tree.settle())?;
                        }
                    }
                    Ok(())
                };
                let noticed = history().is_err();
                let disk = replica.disk.crash_power();
                disk.heal();
                let engine = match open(&disk, 9) {
                    Ok(engine) => engine,
                    Err(error) => {
                        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
                        damaged += 1;
                        continue;
                    }
                };
                let tree = engine.tree(SHARD);
                let index = tree.flushed().map_or(0, |at| at.index);
                assert!(index.is_multiple_of(20), "flushed at {index}");
                replica.log.truncate(index as usize);
                match walk(&tree) {
                    Ok(map) => assert!(map == replica.expected(index), "{fault:?} {path} {skip}: wrong data"),
                    Err(error) => {
                        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
                        damaged += 1;
                    }
                }
                let lost = index < replica.acknowledged;
                assert!(!lost || noticed || path == "MANIFEST" || path == "CURRENT", "{fault:?} {path} {skip}");
                older += usize::from(lost);
            }
        }
    }
    assert!(damaged > 8, "{damaged} damaged");
    assert!(older < 12, "{older} older states taken");
}

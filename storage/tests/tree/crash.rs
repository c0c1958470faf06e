//! A crash at every change of the disk, and again while recovering.

mod levels;

use crate::harness::{Replica, table_files};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::error::StorageError;

/// Flushes, a merge, a flush on top: all kinds of changes.
fn script(replica: &mut Replica) -> Result<(), StorageError> {
    for round in 0..4u8 {
        for key in 0..12u8 {
            let value = vec![round; 50 + usize::from(key)];
            replica.write(1, &[key % 7, key], (key % 5 != round).then_some(value.as_slice()));
        }
        replica.flush()?;
        if round == 2 {
            block_on(replica.tree.settle())?;
        }
    }
    Ok(())
}

fn crash(disk: &FaultDisk, power: bool) -> FaultDisk {
    if power { disk.crash_power() } else { disk.crash_process() }
}

#[test]
fn at_every_change() {
    let mut crashes = 0;
    for (power, seed) in [(false, 1), (true, 2), (true, 3), (true, 4)] {
        for changes in 0.. {
            let disk = FaultDisk::new(seed * 1000 + changes);
            let mut replica = Replica::new(disk.clone());
            disk.crash_after_writes(changes);
            if script(&mut replica).is_ok() {
                break;
            }
            crashes += 1;
            replica.reopen(crash(&disk, power)).expect("recovers");
            replica.check();
            assert_eq!(table_files(&replica.disk).len(), replica.tree.table_count());
            // And it goes on working.
            replica.write(1, b"after", Some(b"crash"));
            replica.flush().expect("flushes");
            replica.reopen(replica.disk.crash_power()).expect("recovers");
            replica.check();
        }
    }
    assert!(crashes > 120, "{crashes} crashes");
}

#[test]
fn at_every_change_of_the_first_opening() {
    for power in [false, true] {
        let mut opened = false;
        for changes in 0..40 {
            let disk = FaultDisk::new(changes + 7);
            disk.crash_after_writes(changes);
            opened = crate::harness::open(&disk, 1).is_ok();
            let mut replica = Replica::new(crash(&disk, power));
            replica.write(1, b"k", Some(b"v"));
            replica.flush().expect("flushes");
            replica.reopen(replica.disk.crash_power()).expect("recovers");
            replica.check();
        }
        assert!(opened, "40 changes are enough to open");
    }
}

#[test]
fn at_every_change_of_a_recovery_again_and_again() {
    for changes in (0..60).step_by(3) {
        let disk = FaultDisk::new(changes);
        let mut replica = Replica::new(disk.clone());
        disk.crash_after_writes(changes);
        let _ = script(&mut replica);
        let mut disk = crash(&disk, true);
        for again in 0..12 {
            disk.crash_after_writes(again);
            let opened = crate::harness::open(&disk, 100 + again);
            assert!(opened.is_ok() || disk.is_down(), "{:?}", opened.err());
            disk = crash(&disk, again % 2 == 0);
        }
        replica.reopen(disk).expect("recovers");
        replica.check();
    }
}

use crate::disk::fault::{FaultDisk, block_on};
use crate::error::StorageError;
use crate::wal::inspect::{Inspected, Logged, inspect};
use crate::wal::testing::{hard, indexes, logged, open, segments, with_shards};
use ringkv_wire::ids::ShardId;

const LOG: &str = "store-0000/log";

/// Of each entry heard of: shard, index, the batches in which it begins and ends.
type Heard = Vec<(u32, u64, u64, u64)>;

/// All files with their bytes.
fn all(disk: &FaultDisk) -> Vec<(String, Option<Vec<u8>>)> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.peek(&path))).collect()
}

/// Inspects the log and sees that nothing changed.
fn inspected(disk: &FaultDisk) -> (Result<Inspected, StorageError>, Heard) {
    let (before, mut entries) = (all(disk), Heard::new());
    let found = block_on(inspect(disk, LOG, [7; 16], |standing| {
        if let Logged::Entry(entry) = standing.record {
            entries.push((entry.shard.0, entry.index, standing.at.number, standing.ends));
        }
    }));
    assert!(all(disk) == before, "an inspection changes nothing");
    (found, entries)
}

/// A log over several segments: truncated, reopened, with an entry in fragments and one never synced.
fn eventful() -> FaultDisk {
    let disk = FaultDisk::new(1);
    let log = with_shards(&disk, 2);
    for index in 1..=60 {
        block_on(log.commit(vec![logged(1, index, 1, 3000), logged(2, index, 1, 3000)])).unwrap();
        block_on(log.maintain()).unwrap();
    }
    block_on(log.commit(vec![hard(2, 5), logged(2, 40, 5, 20_000)])).unwrap();
    drop(log);
    let disk = disk.crash_power();
    let (log, _) = open(&disk).unwrap();
    block_on(log.commit(vec![logged(1, 61, 2, 10)])).unwrap();
    disk.crash_after_writes(1);
    let _cut_off = block_on(log.commit(vec![logged(1, 62, 2, 40_000)]));
    disk.crash_power()
}

#[test]
fn an_inspection_finds_what_a_recovery_then_does() {
    let disk = eventful();
    let (found, entries) = inspected(&disk);
    let found = found.unwrap();
    let (_, opened) = open(&disk.fork(1)).unwrap();
    assert_eq!(found.recovered.shards, opened.shards);
    assert_eq!(found.recovered.report.batches, opened.report.batches);
    assert_eq!((found.recovered.report.rewritten, found.recovered.report.removed), (0, 0));
    assert!(found.segments.len() > 2 && found.synced <= found.last, "{found:?}");
    assert_eq!(indexes(&found.recovered, 2).last(), Some(&(40, 5)));
    // What was truncated and what was written again was heard of too, and an entry in fragments ends in a later batch.
    let of = |shard, index| entries.iter().filter(|heard| (heard.0, heard.1) == (shard, index)).count();
    assert!(of(2, 40) >= 2 && of(2, 60) >= 1, "{entries:?}");
    assert!(entries.iter().any(|(.., began, ends)| began < ends), "{entries:?}");
}

#[test]
fn damage_is_told_as_a_recovery_tells_it_and_what_stands_before_it_is_heard() {
    let disk = eventful();
    let file = segments(&disk).swap_remove(1);
    let (_, sound) = inspected(&disk);
    assert!(disk.flip_bit(&file, 30_000, 3));
    let (found, heard) = inspected(&disk);
    let (found, opened) = (found.map(|_| ()).unwrap_err(), open(&disk.fork(1)).map(|_| ()).unwrap_err());
    assert_eq!(found.to_string(), opened.to_string());
    assert!(matches!(found, StorageError::Damaged { .. }), "{found}");
    assert!(!heard.is_empty() && heard.len() < sound.len() && sound.starts_with(&heard));
}

#[test]
fn a_torn_tail_is_told_and_left() {
    let disk = FaultDisk::new(2);
    let log = with_shards(&disk, 1);
    block_on(log.commit(vec![logged(1, 1, 1, 3000)])).unwrap();
    disk.crash_after_writes(1);
    assert!(block_on(log.commit(vec![logged(1, 2, 1, 30_000)])).is_err());
    let torn = (0..50).map(|seed| disk.fork(seed).crash_power()).find_map(|disk| {
        let found = inspected(&disk).0.unwrap();
        found.recovered.report.cut.map(|cut| (disk, cut, found))
    });
    let (disk, (segment, sector), found) = torn.expect("one of fifty power cuts tears the write");
    assert_eq!(found.recovered.shards[0].state.shard, ShardId(1));
    assert_eq!(indexes(&found.recovered, 1), [(1, 1)]);
    assert_eq!(segment, found.segments.last().unwrap().sequence);
    assert!(sector * 512 >= found.segments.last().unwrap().end);
    assert_eq!(open(&disk).unwrap().1.report.cut, Some((segment, sector)));
}

#[test]
fn no_log_is_no_damage_for_one_who_only_looks() {
    let (found, _) = inspected(&FaultDisk::new(3));
    assert!(matches!(found, Err(StorageError::Disk(_))), "{found:?}");
}

use crate::disk::fault::{Fault, FaultDisk, Injection, block_on};
use crate::error::StorageError;
use crate::wal::segment::sector::{SECTOR_BYTES, Seed, Seen, look};
use crate::wal::testing::{entry, hard, indexes, logged, open, options, segments, with_shards};
use crate::wal::{Log, LogOptions, Record};
use ringkv_wire::ids::ShardId;

/// A log of ten entries in ten batches, closed; the file they are in.
fn ten(seed: u64) -> (FaultDisk, String) {
    let disk = FaultDisk::new(seed);
    let log = with_shards(&disk, 1);
    for index in 1..=10 {
        block_on(log.commit(vec![logged(1, index, 1, 3000)])).unwrap();
    }
    let file = segments(&disk).pop().unwrap();
    (disk, file)
}

/// Offsets of the batches in a segment file: (number, first byte, bytes).
fn batches(disk: &FaultDisk, file: &str) -> Vec<(u64, u64, u64)> {
    let bytes = disk.peek(file).unwrap();
    let mut out: Vec<(u64, u64, u64)> = Vec::new();
    for (index, sector) in bytes.as_chunks::<SECTOR_BYTES>().0.iter().enumerate() {
        let Seen::Whole { number, .. } = look(sector, index as u32, Seed::new(&[7; 16])) else { continue };
        match out.last_mut() {
            Some((last, _, bytes)) if *last == number => *bytes += SECTOR_BYTES as u64,
            _ => out.push((number, (index * SECTOR_BYTES) as u64, SECTOR_BYTES as u64)),
        }
    }
    out
}

fn damage_at(disk: &FaultDisk) -> (String, u64) {
    match open(disk) {
        Err(StorageError::Damaged { path, offset, .. }) => (path, offset),
        Err(other) => panic!("{other}"),
        Ok((_, recovered)) => panic!("opened with {:?}", indexes(&recovered, 1)),
    }
}

#[test]
fn any_flipped_bit_in_a_synced_batch_is_damage_also_in_the_last_one_and_is_never_cut() {
    let (disk, file) = ten(1);
    let disk = disk.crash_power();
    let all = batches(&disk, &file);
    assert!(all.len() >= 10, "{all:?}");
    for (_, first, bytes) in all {
        for offset in (first..first + bytes).step_by(397) {
            let copy = disk.fork(offset);
            assert!(copy.flip_bit(&file, offset, (offset % 8) as u8));
            let sector = offset / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
            assert_eq!(damage_at(&copy), (file.clone(), sector));
        }
    }
}

#[test]
fn a_torn_tail_is_cut_silently_wherever_it_is_torn() {
    let (disk, file) = ten(2);
    let disk = disk.crash_power();
    let (number, first, bytes) = *batches(&disk, &file).last().unwrap();
    for torn in 0..bytes / SECTOR_BYTES as u64 {
        // The sector is as it was before the write.
        let copy = disk.fork(torn);
        assert!(copy.poke(&file, first + torn * SECTOR_BYTES as u64, &[0; SECTOR_BYTES]));
        let (_, recovered) = open(&copy).unwrap();
        assert_eq!(indexes(&recovered, 1), (1..=9).map(|i| (i, 1)).collect::<Vec<_>>(), "batch {number} is torn");
        assert!(recovered.report.cut.is_some() == (bytes > SECTOR_BYTES as u64));
    }
}

#[test]
fn a_synced_batch_that_vanished_is_damage_when_a_later_one_vouches_for_it() {
    let (disk, file) = ten(3);
    let disk = disk.crash_power();
    let all = batches(&disk, &file);
    let zeros = vec![0; 64 << 10];
    for (number, first, bytes) in &all[..all.len() - 5] {
        let copy = disk.fork(*number);
        assert!(copy.poke(&file, *first, &zeros[..*bytes as usize]));
        let (path, _) = damage_at(&copy);
        assert_eq!(path, file, "batch {number}");
    }
}

#[test]
fn lost_and_misdirected_writes_are_noticed() {
    for (fault, seed) in [(Fault::LostWrite, 4), (Fault::MisdirectedWrite, 5), (Fault::MisdirectedWrite, 6)] {
        let disk = FaultDisk::new(seed);
        let log = with_shards(&disk, 1);
        disk.inject(Injection { path: "segment".into(), skip: 2, fault });
        for index in 1..=10 {
            block_on(log.commit(vec![logged(1, index, 1, 3000)])).unwrap();
        }
        assert_eq!(disk.pending_injections(), 0);
        damage_at(&disk.crash_power());
    }
}

#[test]
fn a_misdirected_last_write_is_noticed_though_nothing_vouches_for_it() {
    let mut noticed = 0;
    for seed in 0..10 {
        let disk = FaultDisk::new(seed);
        let log = with_shards(&disk, 1);
        disk.inject(Injection { path: "segment".into(), skip: 0, fault: Fault::MisdirectedWrite });
        block_on(log.commit(vec![logged(1, 1, 1, 100)])).unwrap();
        noticed += u64::from(open(&disk.crash_power()).is_err());
    }
    assert_eq!(noticed, 10);
}

#[test]
fn reads_at_run_time_verify_what_the_disk_gives() {
    for fault in [Fault::Rot, Fault::MisdirectedRead, Fault::Eio] {
        let (disk, _) = ten(7);
        let (log, _) = open(&disk).unwrap();
        for index in 11..=30 {
            block_on(log.commit(vec![logged(1, index, 1, 3000)])).unwrap();
        }
        disk.inject(Injection { path: "segment".into(), skip: 0, fault });
        let result = block_on(log.read_entries(ShardId(1), 1, 1 << 20));
        match (fault, result) {
            (Fault::Eio, Err(StorageError::Disk(_))) | (Fault::MisdirectedRead, Err(StorageError::Damaged { .. })) => {
                let read = block_on(log.read_entries(ShardId(1), 1, 1 << 20)).unwrap();
                assert_eq!(read.len(), 30);
            }
            (Fault::Rot, Err(StorageError::Damaged { .. })) => assert!(log.poisoned().is_none()),
            // One bit of what was read rotted, where no batch was asked for.
            (Fault::Rot, Ok(read)) => assert!(read.iter().zip(1..).all(|(e, i)| *e == entry(1, i, 1, 3000))),
            (fault, other) => panic!("{fault:?}: {other:?}"),
        }
    }
}

#[test]
fn a_lost_segment_file_is_damage_and_a_recycled_one_is_not() {
    let disk = FaultDisk::new(8);
    let log = with_shards(&disk, 1);
    for index in 1..=60 {
        block_on(log.commit(vec![logged(1, index, 1, 8000)])).unwrap();
        block_on(log.maintain()).unwrap();
    }
    assert!(log.stats().segments >= 4);
    let live = log.stats().segments as usize;
    drop(log);
    let files = segments(&disk);
    for file in &files[..live - 1] {
        let copy = disk.fork(1);
        block_on(crate::disk::Disk::remove(&copy, file)).unwrap();
        assert!(matches!(open(&copy), Err(StorageError::Damaged { .. })), "{file} is gone");
    }
    let (log, _) = open(&disk.fork(2)).unwrap();
    log.note_flushed(ShardId(1), 60);
    block_on(log.maintain()).unwrap();
    assert!(log.stats().segments < live as u64);
}

#[test]
fn another_stores_log_and_a_newer_one_are_refused() {
    let (disk, file) = ten(9);
    let disk = disk.crash_power();
    let other = LogOptions { store_identity: [8; 16], ..options() };
    let refused = block_on(Log::open(disk.clone(), "store-0000/log", other)).map(|_| ()).unwrap_err();
    assert!(matches!(&refused, StorageError::Damaged { got, .. } if got.contains("another store")), "{refused}");

    let mut sector: [u8; SECTOR_BYTES] = disk.peek(&file).unwrap()[..SECTOR_BYTES].try_into().unwrap();
    let number = crate::wal::segment::sector::number_of(&sector);
    sector[4] = 2;
    crate::wal::segment::sector::seal(&mut sector, number, 0, true, Seed::new(&[7; 16]));
    assert!(disk.poke(&file, 0, &sector));
    let refused = open(&disk).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StorageError::Newer { got: 2, known: 1, .. }), "{refused}");
}

#[test]
fn opening_changes_nothing_when_it_refuses() {
    let (disk, file) = ten(10);
    let disk = disk.crash_power();
    disk.flip_bit(&file, 600, 1);
    let before: Vec<_> = segments(&disk).into_iter().map(|f| disk.peek(&f)).collect();
    damage_at(&disk);
    let after: Vec<_> = segments(&disk).into_iter().map(|f| disk.peek(&f)).collect();
    assert!(before == after);
}

#[test]
fn bytes_of_a_client_never_pass_for_a_header() {
    // A body full of what a batch header looks like, torn in the middle.
    let disk = FaultDisk::new(11);
    let log = with_shards(&disk, 1);
    let mut fake = entry(1, 1, 1, 12_000);
    let mut body = fake.body.to_vec();
    for chunk in body.chunks_mut(16) {
        chunk.copy_from_slice(&b"RKLB\x01\0\0\0\xff\xff\0\0\0\0\0\0"[..chunk.len()]);
    }
    fake.body = body.into();
    fake.body_crc = crc32c::crc32c(&fake.body);
    block_on(log.commit(vec![hard(1, 1)])).unwrap();
    disk.crash_after_writes(1);
    assert!(block_on(log.commit(vec![Record::Entry(fake)])).is_err());
    let (_, recovered) = open(&disk.crash_power()).unwrap();
    assert!(indexes(&recovered, 1).len() <= 1);
}

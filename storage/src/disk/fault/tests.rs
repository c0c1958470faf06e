use super::*;
use crate::disk::{Disk, DiskBuf, OpenMode};

fn page(fill: u8) -> DiskBuf {
    let mut buf = DiskBuf::zeroed(4096);
    buf.fill(fill);
    buf
}

/// A file of two pages of 1s, durable with its name.
fn with_file(seed: u64) -> (FaultDisk, FaultFile) {
    let disk = FaultDisk::new(seed);
    let file = block_on(async {
        disk.create_dir("log").await.unwrap();
        disk.sync_dir("").await.unwrap();
        let file = disk.open("log/a", OpenMode::Create).await.unwrap();
        disk.allocate(&file, 8192).await.unwrap();
        disk.commit(&file, 0, page(1)).await.0.unwrap();
        disk.commit(&file, 4096, page(1)).await.0.unwrap();
        disk.sync_dir("log").await.unwrap();
        file
    });
    (disk, file)
}

fn fills(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks(512)
        .map(|sector| {
            assert!(sector.iter().all(|b| *b == sector[0]), "a sector is torn inside");
            sector[0]
        })
        .collect()
}

#[test]
fn process_death_keeps_completed_writes_and_kills_handles() {
    let (disk, file) = with_file(1);
    block_on(disk.write_at(&file, 0, page(2))).0.unwrap();
    let next = disk.crash_process();
    assert_eq!(next.peek("log/a").unwrap()[0], 2);
    assert!(block_on(disk.sync(&file)).is_err());
    assert!(block_on(next.sync(&file)).is_err(), "the file handle is of the dead process");
    assert!(block_on(disk.open("log/a", OpenMode::Read)).is_err());
    assert!(block_on(next.open("log/a", OpenMode::Read)).is_ok());
}

#[test]
fn power_loss_decides_sector_by_sector_what_was_not_synced() {
    let mut seen = [false; 3];
    for seed in 0..100 {
        let (disk, file) = with_file(seed);
        block_on(disk.write_at(&file, 0, page(2))).0.unwrap();
        block_on(disk.write_at(&file, 0, page(3))).0.unwrap();
        let after = fills(&disk.crash_power().peek("log/a").unwrap());
        assert_eq!(after[8..], [1; 8], "the synced page stays");
        after[..8].iter().for_each(|fill| seen[*fill as usize - 1] = true);
    }
    assert_eq!(seen, [true; 3], "old, middle and new versions all happen");
}

#[test]
fn unsynced_names_may_vanish_and_synced_ones_stay() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        let (disk, _) = with_file(seed);
        block_on(async {
            disk.rename("log/a", "log/b").await.unwrap();
            disk.open("log/c", OpenMode::Create).await.unwrap();
        });
        let disk = disk.crash_power();
        let names = disk.paths();
        let renamed = names.contains(&"log/b".to_owned());
        assert!(renamed != names.contains(&"log/a".to_owned()), "a rename is whole: {names:?}");
        if renamed { kept += 1 } else { lost += 1 }
    }
    assert!(lost > 10 && kept > 10, "{lost} lost, {kept} kept");
    let (disk, _) = with_file(7);
    block_on(disk.rename("log/a", "log/b")).unwrap();
    block_on(disk.sync_dir("log")).unwrap();
    assert_eq!(disk.crash_power().paths(), ["log/b"]);
}

#[test]
fn a_failed_sync_loses_data_that_the_next_sync_calls_durable() {
    let mut lost = 0;
    for seed in 0..20 {
        let (disk, file) = with_file(seed);
        disk.inject(Injection { path: "log".into(), skip: 0, fault: Fault::FailedSync });
        assert!(block_on(disk.commit(&file, 0, page(2))).0.is_err());
        block_on(disk.sync(&file)).unwrap();
        assert_eq!(fills(&disk.peek("log/a").unwrap())[..8], [2; 8], "reads still show it");
        lost += usize::from(fills(&disk.crash_power().peek("log/a").unwrap())[..8] != [2; 8]);
    }
    assert!(lost > 10);
}

#[test]
fn a_lost_sync_lies() {
    let lost = (0..40).filter(|seed| {
        let (disk, file) = with_file(*seed);
        disk.inject(Injection { path: String::new(), skip: 0, fault: Fault::LostSync });
        block_on(disk.commit(&file, 0, page(2))).0.unwrap();
        fills(&disk.crash_power().peek("log/a").unwrap())[..8] != [2; 8]
    });
    assert!(lost.count() > 10);
}

#[test]
fn injections_strike_the_chosen_operation_once() {
    let (disk, file) = with_file(3);
    let strike = |skip, fault| disk.inject(Injection { path: "log/a".into(), skip, fault });
    strike(1, Fault::Eio);
    block_on(disk.sync(&file)).unwrap();
    assert!(block_on(disk.sync(&file)).is_err());
    block_on(disk.sync(&file)).unwrap();
    strike(0, Fault::MisdirectedWrite);
    block_on(disk.write_at(&file, 0, page(9))).0.unwrap();
    assert_eq!(fills(&disk.peek("log/a").unwrap())[..], [[1; 8], [9; 8]].concat());
    strike(0, Fault::Rot);
    let (result, buf) = block_on(disk.read_at(&file, 0, page(0)));
    assert_eq!((result.unwrap(), buf.iter().filter(|b| **b != 1).count()), (4096, 1));
    strike(0, Fault::ShortWrite);
    assert!(matches!(block_on(disk.write_at(&file, 0, page(4))).0, Err(crate::error::DiskError::ShortWrite { .. })));
    assert_eq!(disk.pending_injections(), 0);
}

#[test]
fn space_ends_and_comes_back() {
    let (disk, file) = with_file(4);
    disk.set_capacity(Some(8192));
    block_on(disk.write_at(&file, 0, page(5))).0.unwrap();
    assert!(matches!(block_on(disk.allocate(&file, 16384)), Err(crate::error::DiskError::NoSpace { .. })));
    disk.set_capacity(None);
    block_on(disk.allocate(&file, 16384)).unwrap();
    assert_eq!(block_on(disk.size(&file)).unwrap(), 16384);
}

#[test]
fn the_machine_stops_at_the_chosen_change() {
    for stop in 0..3 {
        let (disk, file) = with_file(stop);
        disk.crash_after_writes(stop);
        let done = (0..3).take_while(|_| block_on(disk.sync(&file)).is_ok()).count();
        assert_eq!(done as u64, stop);
        assert!(disk.is_down());
        assert!(block_on(disk.open("log/a", OpenMode::Read)).is_err());
        let disk = disk.crash_process();
        assert!(block_on(disk.open("log/a", OpenMode::Read)).is_ok());
    }
}

#[test]
fn yields_let_operations_overtake_each_other() {
    let overtaken = (0..20).filter(|seed| {
        let (disk, file) = with_file(*seed);
        disk.set_yields(4);
        let mut tasks = testing::Tasks::new();
        for fill in [2, 3] {
            let (disk, file) = (disk.clone(), file.clone());
            tasks.spawn(async move { disk.write_at(&file, 0, page(fill)).await.0.unwrap() });
        }
        tasks.run();
        disk.peek("log/a").unwrap()[0] == 2
    });
    let overtaken = overtaken.count();
    assert!(overtaken > 0 && overtaken < 20, "{overtaken}");
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let run = |seed| {
        let (disk, file) = with_file(seed);
        block_on(disk.write_at(&file, 0, page(2))).0.unwrap();
        disk.crash_power().peek("log/a")
    };
    assert!((0..20).all(|seed| run(seed) == run(seed)));
}

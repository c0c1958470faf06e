use crate::disk::fault::testing::Tasks;
use crate::disk::fault::{FaultDisk, block_on};
use crate::wal::testing::{entry, hard, indexes, logged, open, options, segments, with_shards};
use crate::wal::{Log, Record};
use ringkv_wire::ids::ShardId;
use std::cell::Cell;
use std::rc::Rc;

/// Appends entries from `from` on until the log holds `segments` more, flushing none.
fn fill(log: &Log<FaultDisk>, from: u64, count: u64) {
    for index in from..from + count {
        block_on(log.commit(vec![logged(1, index, 1, 8000)])).unwrap();
        block_on(log.maintain()).unwrap();
    }
}

#[test]
fn what_is_flushed_is_recycled_and_what_is_not_pins_its_segment() {
    let disk = FaultDisk::new(1);
    let log = with_shards(&disk, 2);
    block_on(log.commit(vec![logged(2, 1, 1, 100)])).unwrap();
    fill(&log, 1, 100);
    assert_eq!(log.pins_beyond(options().keep_bytes).first().map(|(shard, _)| *shard), Some(ShardId(1)));
    assert_eq!(log.pins_beyond(options().keep_bytes).get(1), Some(&(ShardId(2), 1)));
    let full = log.stats();
    assert!(full.segments > 7, "{full:?}");
    log.note_flushed(ShardId(1), 100);
    block_on(log.maintain()).unwrap();
    assert_eq!(log.stats().segments, full.segments, "shard 2 pins the first segment");
    assert_eq!(log.pins_beyond(options().keep_bytes), [(ShardId(2), 1)]);
    log.note_flushed(ShardId(2), 1);
    block_on(log.maintain()).unwrap();
    let lean = log.stats();
    // The current one and the one kept for followers.
    assert_eq!((lean.segments, log.pins_beyond(options().keep_bytes)), (2, vec![]));
    assert_eq!(segments(&disk).len() as u64, lean.segments + lean.prepared);
    let first = log.first_index(ShardId(1));
    assert!((60..100).contains(&first), "{first}");
    assert!(block_on(log.read_entries(ShardId(1), first - 1, 1 << 20)).unwrap().is_empty());
    assert_eq!(block_on(log.read_entries(ShardId(1), first, 1)).unwrap(), [entry(1, first, 1, 8000)]);
    // Recycled segments never bring old batches back.
    fill(&log, 101, 100);
    let first = log.first_index(ShardId(1));
    let (log, recovered) = open(&disk.crash_power()).unwrap();
    assert_eq!(indexes(&recovered, 1), (first..=200).map(|i| (i, 1)).collect::<Vec<_>>());
    let state = &recovered.shards[0].state;
    assert_eq!((state.floor_index, state.floor_term), (first - 1, 1));
    assert_eq!(log.first_index(ShardId(1)), first);
}

#[test]
fn a_reader_keeps_its_segment_from_being_recycled() {
    let disk = FaultDisk::new(2);
    let log = with_shards(&disk, 1);
    fill(&log, 1, 60);
    disk.set_yields(3);
    let mut tasks = Tasks::new();
    let read = log.read_entries(ShardId(1), 1, 200_000);
    tasks.spawn(async {
        let read = read.await.unwrap();
        assert!(read.iter().zip(1..).all(|(e, index)| *e == entry(1, index, 1, 8000)), "{} entries", read.len());
    });
    tasks.poll_all();
    log.note_flushed(ShardId(1), 60);
    tasks.spawn(async {
        for index in 61..120 {
            let commit = log.commit(vec![logged(1, index, 1, 8000)]);
            log.maintain().await.unwrap();
            commit.await.unwrap();
        }
    });
    tasks.run();
}

/// Commits that wait for space, each with whether it is done.
fn try_commit(log: &Log<FaultDisk>, tasks: &mut Tasks<'_>, record: Record) -> bool {
    let (log, done) = (log.clone(), Rc::new(Cell::new(false)));
    let told = done.clone();
    tasks.spawn(async move {
        log.commit(vec![record]).await.unwrap();
        told.set(true);
    });
    tasks.poll_all();
    done.get()
}

#[test]
fn a_full_disk_keeps_what_is_under_way_lets_votes_pass_and_recovers_by_itself() {
    for outside in [true, false] {
        let disk = FaultDisk::new(3);
        let log = with_shards(&disk, 1);
        fill(&log, 1, 40);
        disk.set_capacity(Some(disk.used()));
        let mut index = 40;
        while !log.full() {
            index += 1;
            block_on(log.commit(vec![logged(1, index, 1, 8000)])).unwrap();
            block_on(log.maintain()).unwrap();
        }
        // What was under way when it became known: half of this segment, half of the one in reserve.
        let segment = options().segment_bytes;
        let under_way = segment * 3 / 4 / 12_288;
        assert!(under_way >= 8);
        for _ in 0..under_way {
            index += 1;
            block_on(log.commit(vec![logged(1, index, 1, 8000)])).unwrap();
        }
        for term in 1..=10 {
            block_on(log.commit(vec![hard(1, term)])).unwrap();
            block_on(log.maintain()).unwrap();
        }
        assert!(log.poisoned().is_none() && log.stats().disk_full && log.queued_bytes() == 0);
        // Space comes back from outside, or from a flush.
        if outside {
            disk.set_capacity(None)
        } else {
            log.note_flushed(ShardId(1), index)
        }
        let tries = (0..400).take_while(|_| {
            block_on(log.maintain()).unwrap();
            log.full()
        });
        assert!(tries.count() < 400);
        fill(&log, index + 1, 20);
        let (_, recovered) = open(&disk.crash_power()).unwrap();
        assert_eq!(indexes(&recovered, 1).last(), Some(&(index + 20, 1)));
        assert_eq!(recovered.shards[0].state.hard.term, 10);
    }
}

#[test]
fn what_does_not_fit_a_full_disk_waits_until_there_is_space() {
    for outside in [true, false] {
        let disk = FaultDisk::new(4);
        let log = with_shards(&disk, 1);
        fill(&log, 1, 40);
        disk.set_capacity(Some(disk.used()));
        let (mut tasks, mut last) = (Tasks::new(), 40);
        loop {
            block_on(log.maintain()).unwrap();
            last += 1;
            if !try_commit(&log, &mut tasks, logged(1, last, 1, 8000)) {
                break;
            }
        }
        assert!(log.full() && log.queued_bytes() > 8000);
        assert!(!try_commit(&log, &mut tasks, hard(1, 1)), "the order of commits stays");
        assert_eq!(tasks.poll_all(), 2, "nothing fails");
        if outside {
            disk.set_capacity(None)
        } else {
            log.note_flushed(ShardId(1), last - 1)
        }
        for _ in 0..400 {
            block_on(log.maintain()).unwrap();
            tasks.poll_all();
        }
        assert_eq!(tasks.poll_all(), 0, "both have found room");
        assert!(!log.full() && log.queued_bytes() == 0 && log.poisoned().is_none());
        let (_, recovered) = open(&disk.crash_power()).unwrap();
        assert_eq!(indexes(&recovered, 1).last(), Some(&(last, 1)));
        assert_eq!(recovered.shards[0].state.hard.term, 1);
    }
}

#[test]
fn a_flush_makes_room_on_a_full_disk_even_when_votes_used_the_reserve() {
    let disk = FaultDisk::new(4);
    let log = with_shards(&disk, 1);
    fill(&log, 1, 40);
    disk.set_capacity(Some(disk.used()));
    let mut tasks = Tasks::new();
    let votes = (1..2000).take_while(|term| {
        block_on(log.maintain()).unwrap();
        try_commit(&log, &mut tasks, hard(1, *term))
    });
    let votes = votes.count() as u64;
    assert!((10..1999).contains(&votes), "{votes} votes fill the reserve");
    assert!(log.poisoned().is_none());
    log.note_flushed(ShardId(1), 40);
    block_on(log.maintain()).unwrap();
    tasks.poll_all();
    assert!(!log.full());
    block_on(log.commit(vec![logged(1, 41, 1, 8000), hard(1, 5000)])).unwrap();
    let (_, recovered) = open(&disk.crash_power()).unwrap();
    assert_eq!(indexes(&recovered, 1).last(), Some(&(41, 1)));
}

#[test]
fn restarts_in_a_row_pile_up_no_segments() {
    let mut disk = FaultDisk::new(5);
    let log = with_shards(&disk, 3);
    fill(&log, 1, 3);
    drop(log);
    for round in 0..30 {
        disk = if round % 2 == 0 { disk.crash_power() } else { disk.crash_process() };
        let (log, recovered) = open(&disk).unwrap();
        assert_eq!(indexes(&recovered, 1).len(), 3);
        if round % 3 == 0 {
            block_on(log.commit(vec![hard(2, round + 1)])).unwrap();
        }
        assert!(segments(&disk).len() <= 3, "{:?}", segments(&disk));
    }
}

#[test]
fn a_head_of_many_shards_takes_many_batches() {
    let disk = FaultDisk::new(6);
    let options = crate::wal::LogOptions { segment_bytes: 1 << 20, ..options() };
    let start = |disk: &FaultDisk| block_on(Log::open(disk.clone(), "store-0000/log", options)).unwrap();
    let (log, _) = start(&disk);
    let states = (1..=3000).map(|shard| Record::ShardState(crate::wal::testing::shard_state(shard)));
    block_on(log.commit(states.collect())).unwrap();
    disk.set_yields(4);
    for index in 1..=20 {
        block_on(log.maintain()).unwrap();
        block_on(log.commit(vec![logged(1, index, 1, 100_000)])).unwrap();
    }
    // The machine stops at some change of a switch: part of a head is no head, and what it says is synced counts for nothing.
    for stop in 0..12 {
        let copy = disk.fork(stop);
        let (log, _) = start(&copy);
        for index in 21..=26 {
            block_on(log.maintain()).unwrap();
            block_on(log.commit(vec![logged(1, index, 1, 100_000)])).unwrap();
        }
        copy.set_yields(4);
        copy.crash_after_writes(stop);
        let mut tasks = Tasks::new();
        for index in 27..=32 {
            let commit = log.commit(vec![logged(1, index, 1, 100_000)]);
            tasks.spawn(async { drop(commit.await) });
        }
        for _ in 0..200 {
            tasks.poll_all();
        }
        let (_, recovered) = start(&copy.crash_power());
        assert_eq!(recovered.shards.len(), 3000);
        assert!(recovered.shards[0].entries.len() >= 26);
    }
}

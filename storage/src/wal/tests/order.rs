use crate::disk::fault::testing::Tasks;
use crate::disk::fault::{Fault, FaultDisk, Injection, block_on};
use crate::error::StorageError;
use crate::wal::testing::{entry, hard, indexes, logged, open, shard_state, with_shards};
use crate::wal::{Record, ShardState};
use ringkv_wire::ids::ShardId;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn commits_share_batches_when_four_are_in_flight_and_end_in_order() {
    let disk = FaultDisk::new(1);
    let log = with_shards(&disk, 1);
    disk.set_yields(5);
    let before = log.stats().batches;
    let done = RefCell::new(Vec::new());
    let mut tasks = Tasks::new();
    for index in 1..=60 {
        // Called in order; polled in another.
        let commit = log.commit(vec![logged(1, index, 1, 50)]);
        let done = &done;
        tasks.spawn(async move {
            commit.await.unwrap();
            done.borrow_mut().push(index);
        });
        if index % 3 == 0 {
            tasks.poll_all();
        }
    }
    tasks.run();
    drop(tasks);
    let batches = log.stats().batches - before;
    assert!((5..=30).contains(&batches), "60 commits in {batches} batches");
    assert_eq!(done.into_inner().len(), 60);
    let (_, recovered) = open(&disk.crash_power()).unwrap();
    assert_eq!(indexes(&recovered, 1), (1..=60).map(|i| (i, 1)).collect::<Vec<_>>());
}

#[test]
fn one_future_that_is_polled_drives_all_and_a_dropped_one_takes_nothing_back() {
    let disk = FaultDisk::new(2);
    let log = with_shards(&disk, 1);
    disk.set_yields(3);
    let mut first = Box::pin(log.commit(vec![logged(1, 1, 1, 50)]));
    assert!(poll_once(&mut first).is_pending());
    let dropped = log.commit(vec![logged(1, 2, 1, 50)]);
    drop(dropped);
    drop(first);
    block_on(log.commit(vec![logged(1, 3, 1, 50)])).unwrap();
    let (_, recovered) = open(&disk.crash_power()).unwrap();
    assert_eq!(indexes(&recovered, 1), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_failed_sync_poisons_the_log_and_is_never_tried_again() {
    for fault in [Fault::FailedSync, Fault::TornWrite, Fault::ShortWrite, Fault::Eio, Fault::NoSpace] {
        let disk = FaultDisk::new(3);
        let log = with_shards(&disk, 1);
        block_on(log.commit(vec![logged(1, 1, 1, 50)])).unwrap();
        disk.inject(Injection { path: "log".into(), skip: 0, fault });
        let result = block_on(log.commit(vec![logged(1, 2, 1, 50)]));
        assert!(matches!(result, Err(StorageError::Poisoned { .. })), "{fault:?}: {result:?}");
        let changes = disk.writes();
        assert!(block_on(log.commit(vec![hard(1, 9)])).is_err());
        assert!(block_on(log.maintain()).is_err());
        assert!(log.poisoned().is_some() && log.stats().poisoned);
        assert_eq!(disk.writes(), changes, "{fault:?}: nothing is written to a poisoned log");
        // Reopened without a crash: reads may show what the platter does not hold. What recovery keeps, stays.
        let (log, recovered) = open(&disk).unwrap();
        let kept = indexes(&recovered, 1);
        assert!(kept.starts_with(&[(1, 1)]), "{kept:?}");
        drop(log);
        let (_, again) = open(&disk.crash_power()).unwrap();
        assert_eq!(indexes(&again, 1), kept, "{fault:?}");
    }
}

#[test]
fn a_failure_in_flight_fails_all_that_is_in_flight() {
    let disk = FaultDisk::new(4);
    let log = with_shards(&disk, 1);
    disk.set_yields(6);
    disk.inject(Injection { path: "log".into(), skip: 1, fault: Fault::FailedSync });
    let (ok, failed) = (RefCell::new(0), RefCell::new(0));
    let mut tasks = Tasks::new();
    for index in 1..=20 {
        let commit = log.commit(vec![logged(1, index, 1, 4000)]);
        let (ok, failed) = (&ok, &failed);
        tasks.spawn(async move {
            match commit.await {
                Ok(()) => *ok.borrow_mut() += 1,
                Err(_) => *failed.borrow_mut() += 1,
            }
        });
    }
    tasks.run();
    drop(tasks);
    let (ok, failed) = (ok.into_inner(), failed.into_inner());
    assert_eq!(ok + failed, 20);
    assert!(ok <= 8 && failed >= 12, "{ok} acknowledged, {failed} failed");
}

#[test]
fn an_entry_of_sixteen_mebibytes_spans_batches_and_segments() {
    let disk = FaultDisk::new(5);
    let mut options = crate::wal::testing::options();
    options.segment_bytes = 8 << 20;
    let start = || block_on(crate::wal::Log::open(disk.alive(), "store-0000/log", options));
    let (log, _) = start().unwrap();
    block_on(log.maintain()).unwrap();
    block_on(log.commit(vec![Record::ShardState(shard_state(1)), logged(1, 1, 1, 10)])).unwrap();
    let big = 16 << 20;
    let done = RefCell::new(false);
    let mut tasks = Tasks::new();
    let commit = log.commit(vec![logged(1, 2, 1, big), logged(1, 3, 1, 10)]);
    tasks.spawn(async {
        commit.await.unwrap();
        *done.borrow_mut() = true;
    });
    while !*done.borrow() {
        tasks.poll_all();
        block_on(log.maintain()).unwrap();
    }
    let read = block_on(log.read_entries(ShardId(1), 1, usize::MAX)).unwrap();
    assert!(read == [entry(1, 1, 1, 10), entry(1, 2, 1, big), entry(1, 3, 1, 10)]);
    let _ = disk.crash_power();
    let (_, recovered) = start().unwrap();
    assert!(recovered.shards[0].entries == read);
}

#[test]
fn records_that_do_not_fit_the_log_are_refused_and_harm_nothing() {
    let disk = FaultDisk::new(6);
    let log = with_shards(&disk, 1);
    block_on(log.commit(vec![logged(1, 1, 1, 10), hard(1, 5)])).unwrap();
    let refuse = |record| block_on(log.commit(vec![record])).unwrap_err();
    assert!(matches!(refuse(logged(1, 3, 1, 10)), StorageError::Gap { first: 1, next: 2, got: 3, .. }));
    assert!(matches!(refuse(logged(9, 1, 1, 10)), StorageError::UnknownShard { .. }));
    assert!(matches!(refuse(hard(1, 4)), StorageError::Backwards { .. }));
    let snapshot = ShardState {
        floor_index: 7,
        floor_term: 5,
        hard: crate::wal::HardState { term: 5, vote: None },
        ..shard_state(1)
    };
    assert!(matches!(refuse(Record::ShardState(snapshot)), StorageError::Backwards { .. }), "a vote is taken back");
    block_on(log.commit(vec![logged(1, 2, 1, 10)])).unwrap();
    let (_, recovered) = open(&disk.crash_power()).unwrap();
    assert_eq!(indexes(&recovered, 1), [(1, 1), (2, 1)]);
}

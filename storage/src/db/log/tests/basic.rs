//! Append, open again, rotate, release, fail.

use super::rig::{Owned, Rig, SEGMENT_BYTES, copy, files, found, numbered};
use crate::db::log::Position;
use crate::error::StorageError;
use crate::sst::NEVER_MS;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn seqs(found: &[(u64, Owned)]) -> Vec<u64> {
    found.iter().map(|(seq, _)| *seq).collect()
}

#[test]
fn records_come_back_with_their_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, before) = Rig::open(dir.path(), 0).expect("opened");
    assert_eq!(before, []);
    let batch = [
        Owned::put(b"a", b"one"),
        Owned { keyspace: 7, key: b"b".to_vec(), value: Some(Vec::new()), expiry_ms: 99 },
        Owned { keyspace: 9, key: Vec::new(), value: None, expiry_ms: NEVER_MS },
    ];
    rig.append(&batch);
    rig.append(&[]);
    rig.put(10);
    drop(rig);
    let expected: Vec<(u64, Owned)> = (1..).zip(batch).chain([(4, numbered(4, 10))]).collect();
    assert_eq!(found(dir.path(), 0).expect("opened"), (expected.clone(), 4));
    assert_eq!(found(dir.path(), 2).expect("opened"), (expected[2..].to_vec(), 4));
    assert_eq!(found(dir.path(), 9).expect("opened"), (Vec::new(), 9));
}

#[test]
fn segments_follow_each_other_and_are_released() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
    for seq in 1..=100 {
        let (before, fits) = (rig.shared.bytes(), rig.writer.has_room(&[numbered(seq, 1000).op()]));
        rig.put(1000);
        assert_eq!(rig.shared.bytes() == before, fits, "only without room another segment is taken");
        if seq % 30 == 0 {
            rig.shared.prepare().expect("prepared");
        }
    }
    assert!(rig.shared.bytes() >= 6 * SEGMENT_BYTES);
    drop(rig);
    let (mut rig, records) = Rig::open(dir.path(), 0).expect("opened");
    assert_eq!(seqs(&records), (1..=100).collect::<Vec<_>>());
    rig.put(1000);
    rig.shared.release(100).expect("released");
    assert_eq!(rig.shared.bytes(), SEGMENT_BYTES);
    drop(rig);
    assert_eq!(seqs(&found(dir.path(), 100).expect("opened").0), [101]);
    let missing = found(dir.path(), 0);
    assert!(matches!(missing, Err(StorageError::Damaged { .. })), "{missing:?}");
}

#[test]
fn openings_without_writes_pile_up_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    for seq in 1..20 {
        let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
        rig.put(10);
        drop(rig);
        assert_eq!(found(dir.path(), 0).expect("opened").1, seq);
        assert_eq!(found(dir.path(), 0).expect("opened").1, seq);
    }
    let bytes: u64 = files(dir.path()).iter().map(|file| file.metadata().expect("looked").len()).sum();
    assert_eq!(bytes, 19 * 4096 + 2 * SEGMENT_BYTES);
}

#[test]
fn a_batch_larger_than_a_segment_gets_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
    rig.shared.prepare().expect("prepared");
    rig.put(10);
    let large: Vec<Owned> = (2..12).map(|seq| numbered(seq, 10_000)).collect();
    let position = rig.append(&large);
    rig.put(10);
    rig.shared.sync_to(position).expect("synced");
    drop(copy(dir.path()));
    rig.shared.release(11).expect("released");
    drop(rig);
    let (records, last) = found(dir.path(), 11).expect("opened");
    assert_eq!((seqs(&records), last), (vec![12], 12));
}

#[test]
fn a_failed_sync_ends_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let fails = Box::new(move |segment: &crate::db::log::segment::Segment, range| {
        match counted.fetch_add(1, Ordering::Relaxed) {
            2 => Err(io::Error::from_raw_os_error(5)),
            _ => segment.sync_pages(range),
        }
    });
    let (mut rig, _) = Rig::open_through(dir.path(), 0, fails).expect("opened");
    let first = rig.put(10);
    rig.shared.sync_to(first).expect("synced");
    rig.shared.sync_to(first).expect("synced before");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let second = rig.put(10);
    assert!(!rig.shared.is_poisoned());
    for position in [second, second, first, Position(0)] {
        assert!(matches!(rig.shared.sync_to(position), Err(StorageError::Poisoned { .. })));
    }
    assert!(rig.shared.is_poisoned());
    // Whoever looked before that sync failed, and has the next turn, does not ask the system again.
    assert!(matches!(rig.shared.sync_appended(), Err(StorageError::Poisoned { .. })));
    assert!(matches!(rig.writer.append(3, &[]), Err(StorageError::Poisoned { .. })));
    assert!(matches!(rig.shared.release(0), Ok(())));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    drop(rig);
    assert_eq!(found(dir.path(), 0).expect("opened").1, 2);
}

/// What is given up is not written to the disk before, nor what was written since.
#[test]
fn giving_up_segments_syncs_no_more_than_a_head() {
    let dir = tempfile::tempdir().expect("a directory");
    let synced = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&synced);
    let counts = Box::new(move |segment: &crate::db::log::segment::Segment, range: std::ops::Range<usize>| {
        counted.fetch_add(range.len(), Ordering::Relaxed);
        segment.sync_pages(range)
    });
    let (mut rig, _) = Rig::open_through(dir.path(), 0, counts).expect("opened");
    let opened = synced.load(Ordering::Relaxed);
    for _ in 0..60 {
        rig.put(1000);
    }
    rig.shared.release(40).expect("released");
    assert!(rig.shared.bytes() < 3 * SEGMENT_BYTES, "some are given up");
    assert_eq!(synced.load(Ordering::Relaxed) - opened, 512);
    rig.shared.sync_to(Position(60)).expect("synced");
    let later = synced.load(Ordering::Relaxed) - opened - 512;
    assert!((20_000..40_000).contains(&later), "{later} bytes of what is left");
}

#[test]
fn a_poisoned_log_gives_up_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let fails = Box::new(|segment: &crate::db::log::segment::Segment, range: std::ops::Range<usize>| {
        // The head of the opening, and what comes after the failure, as a system does that told of it once.
        if range.end > 8000 { Err(io::Error::from_raw_os_error(5)) } else { segment.sync_pages(range) }
    });
    let (mut rig, _) = Rig::open_through(dir.path(), 0, fails).expect("opened");
    let last = (0..60).map(|_| rig.put(1000)).last().expect("some");
    assert!(rig.shared.sync_to(last).is_err());
    let before = files(dir.path());
    assert!(matches!(rig.shared.release(40), Err(StorageError::Poisoned { .. })));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_spare_that_cannot_be_used_is_given_up_and_the_next_try_makes_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
    for _ in 0..40 {
        rig.put(1000);
    }
    rig.shared.prepare().expect("prepared");
    let before = files(dir.path());
    rig.shared.release(40).expect("released");
    let spare = files(dir.path())[0].clone();
    assert!(before.contains(&spare));
    // The prepared one is taken, so that the spare's turn comes; in place of its next name stands what no file replaces.
    while rig.shared.bytes() < 2 * SEGMENT_BYTES {
        rig.put(1000);
    }
    let newest = files(dir.path()).pop().expect("a file");
    let number =
        u64::from_str_radix(&newest.file_name().expect("a name").to_string_lossy()[..16], 16).expect("a number");
    let in_the_way = dir.path().join(format!("log/{:016x}.wal", number + 1));
    std::fs::create_dir(&in_the_way).expect("made");
    assert!(rig.shared.prepare().is_err());
    assert!(!spare.exists(), "nobody would have removed it");
    rig.shared.prepare().expect("made anew");
    std::fs::remove_dir(&in_the_way).expect("removed");
    for _ in 0..40 {
        rig.put(1000);
    }
    let last = rig.next_seq - 1;
    drop(rig);
    assert_eq!(found(dir.path(), 40).expect("opened").1, last);
}

/// After a failed sync the page cache shows what the disk may not hold: only writing it again makes it durable.
#[test]
fn an_opening_writes_again_what_nothing_proves_durable_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rig, _) = Rig::open(dir.path(), 0).expect("opened");
    for _ in 0..10 {
        rig.put(1000);
    }
    drop(rig);
    let unproved = copy(dir.path());
    let file = files(unproved.path())[0].clone();
    // As a recovery leaves it: what is cut shows in the time of the file too.
    let open = std::fs::OpenOptions::new().write(true).open(&file).expect("opened");
    open.set_len(12 << 10).expect("cut");
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let written = || {
        let before = file.metadata().and_then(|data| data.modified()).expect("a time") != long_ago;
        open.set_modified(long_ago).expect("set");
        before
    };
    written();
    assert_eq!(found(unproved.path(), 0).expect("opened").1, 10);
    assert!(written(), "the same bytes to the same place");
    assert_eq!(found(unproved.path(), 0).expect("opened").1, 10);
    assert!(!written(), "the next segment's head is the proof");
}

//! Who syncs, and who waits.

use super::power::{Durable, recording};
use super::rig::{Rig, files, found, numbered, options};
use crate::db::log::segment::Segment;
use crate::db::log::{Position, open};
use crate::disk::files::Root;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[test]
fn those_who_wait_share_one_sync() {
    let dir = tempfile::tempdir().expect("a directory");
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let (started, is_started) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let slow = Box::new(move |segment: &Segment, range| {
        // The opening's own sync is the first.
        if counted.fetch_add(1, Ordering::SeqCst) == 1 {
            started.send(()).expect("heard");
            may_go_on.lock().expect("no panic").recv().expect("told");
        }
        segment.sync_pages(range)
    });
    let (mut rig, _) = Rig::open_through(dir.path(), 0, slow).expect("opened");
    let first = rig.put(10);
    let shared = Arc::clone(&rig.shared);
    thread::scope(|scope| {
        let syncing = scope.spawn(|| shared.sync_to(first));
        is_started.recv().expect("started");
        let later: Vec<Position> = (0..4).map(|_| rig.put(10)).collect();
        assert_eq!(shared.synced_seq(), 0, "nothing is durable while it is being synced");
        // What is durable needs no sync, and waits for none.
        let (told, hears) = mpsc::channel();
        let durable = &shared;
        scope.spawn(move || told.send(durable.sync_to(Position(0)).is_ok()));
        let waits_for_none = hears.recv_timeout(Duration::from_secs(20));
        let shared = &shared;
        let waiting: Vec<_> = later.into_iter().map(|at| scope.spawn(move || shared.sync_to(at))).collect();
        go_on.send(()).expect("heard");
        assert_eq!(waits_for_none, Ok(true));
        syncing.join().expect("no panic").expect("synced");
        for waiting in waiting {
            waiting.join().expect("no panic").expect("synced");
        }
    });
    assert_eq!(shared.synced_seq(), 5);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn what_two_threads_were_told_is_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let durable = Durable::default();
    let (rig, _) = Rig::open_through(dir.path(), 0, recording(dir.path(), &durable)).expect("opened");
    let shared = Arc::clone(&rig.shared);
    let rig = Mutex::new(rig);
    let image = tempfile::tempdir().expect("a directory");
    let told = thread::scope(|scope| {
        let life = || {
            for _ in 0..150 {
                let position = rig.lock().expect("no panic").put(300);
                shared.sync_to(position).expect("synced");
                assert!(shared.synced_seq() >= position.0);
            }
        };
        let threads = [scope.spawn(life), scope.spawn(life)];
        scope.spawn(|| (0..200).for_each(|_| shared.prepare().expect("prepared")));
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        300
    });
    // What nobody synced is lost.
    rig.lock().expect("no panic").put(300);
    std::fs::create_dir(image.path().join("log")).expect("made");
    for (name, bytes) in durable.lock().expect("no panic").iter() {
        std::fs::write(image.path().join("log").join(name), bytes).expect("written");
    }
    assert!(files(image.path()).len() >= 6);
    let (records, last) = found(image.path(), 0).expect("opened");
    assert_eq!(last, told);
    assert!(records.iter().all(|(seq, op)| *op == numbered(*seq, 300)));
}

#[test]
fn the_next_segment_is_written_where_syncs_are_many_and_only_reserved_where_they_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = Root::open(dir.path()).expect("a directory");
    let opened = open(&root, 0, options(1 << 20), &mut |_, _| Ok(()), Box::new(Segment::sync_pages));
    let (writer, shared, _) = opened.expect("opened");
    let mut rig = Rig { writer, shared, next_seq: 1 };
    rig.shared.prepare().expect("one is ready");
    for _ in 0..40 {
        rig.put(10_000);
    }
    rig.shared.prepare().expect("still ready");
    assert_eq!(rig.shared.ready_and_written(), (1, 0), "nobody synced");
    for _ in 0..10 {
        let last = rig.put(1000);
        rig.shared.sync_to(last).expect("synced");
    }
    rig.shared.prepare().expect("written");
    assert_eq!(rig.shared.ready_and_written(), (1, 1));
    // It reads as before, and takes what comes.
    let all: Vec<Position> = (0..80).map(|_| rig.put(10_000)).collect();
    rig.shared.sync_to(all[79]).expect("synced");
    assert_eq!(found(dir.path(), 0).expect("sound").0.len(), 130);
}

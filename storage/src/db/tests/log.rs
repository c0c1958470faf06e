//! The log beside memtables and tables: what it is to hold, and how long.

use super::stall;
use crate::db::asynchronous::tests::block_on;
use crate::db::driver::{Job, heard};
use crate::db::log::tests::power::{Durable, recording};
use crate::db::log::{Segment, SyncPages};
use crate::db::{Db, Durability, Error, Tree};
use std::path::Path;
use tempfile::TempDir;

const VALUE: [u8; 1000] = [7; 1000];

/// With segments that a few writes fill.
pub(super) fn open_through(dir: &Path, sync_pages: SyncPages) -> Db {
    let builder = Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).segment_bytes(16 << 10);
    builder.open_through(dir, sync_pages).expect("opened")
}

pub(super) fn open(dir: &Path) -> Db {
    open_through(dir, Box::new(Segment::sync_pages))
}

pub(super) fn put(tree: &Tree, numbers: std::ops::Range<u32>) {
    numbers.for_each(|n| tree.put(&n.to_be_bytes(), &VALUE).expect("written"));
}

/// What a process leaves that is killed now.
pub(super) fn killed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    copy_files(dir, copy.path());
    copy
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("listed").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).expect("made");
            copy_files(&entry.path(), &to);
        } else {
            match std::fs::copy(entry.path(), to) {
                // A segment that was made ready, or is used again: nobody has written to it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.expect("copied")),
            }
        }
    }
}

/// What the disk holds when the power goes now: of the log what was synced.
pub(super) fn cut(dir: &Path, durable: &Durable) -> TempDir {
    let copy = killed(dir);
    let log = copy.path().join("log");
    std::fs::remove_dir_all(&log).expect("removed");
    std::fs::create_dir(&log).expect("made");
    for (name, bytes) in durable.lock().expect("no panic").iter() {
        std::fs::write(log.join(name), bytes).expect("written");
    }
    copy
}

pub(super) fn count(dir: &Path) -> usize {
    open(dir).tree("t").expect("a tree").range(..).inspect(|item| assert!(item.is_ok())).count()
}

type Call = fn(&Db, &Tree) -> Result<(), Error>;

fn batch(db: &Db, tree: &Tree) -> crate::db::Batch {
    let mut batch = db.batch();
    batch.put(tree, b"k2", b"v");
    batch
}

/// All calls that promise it.
const SYNCED: [(&str, Call); 8] = [
    ("sync", |db, _| db.sync()),
    ("put_synced", |_, tree| tree.put_synced(b"k2", b"v")),
    ("a batch", |db, tree| db.write(batch(db, tree), Durability::Synced)),
    ("an empty batch", |db, _| db.write(db.batch(), Durability::Synced)),
    ("sync, as a future", |db, _| block_on(db.asynchronous().sync())),
    ("put_synced, as a future", |db, _| {
        block_on(async { db.asynchronous().tree("t").await?.put_synced(b"k2", b"v").await })
    }),
    ("a batch, as a future", |db, tree| block_on(db.asynchronous().write(batch(db, tree), Durability::Synced))),
    ("an empty batch, as a future", |db, _| block_on(db.asynchronous().write(db.batch(), Durability::Synced))),
];

#[test]
fn what_was_written_before_a_call_that_syncs_survives_a_power_cut_behind_it() {
    for (name, call) in SYNCED {
        let (dir, durable) = (tempfile::tempdir().expect("a directory"), Durable::default());
        let db = open_through(dir.path(), recording(dir.path(), &durable));
        let tree = db.tree("t").expect("a tree");
        // Over several segments.
        put(&tree, 0..50);
        let lost = cut(dir.path(), &durable);
        call(&db, &tree).expect("synced");
        let kept = cut(dir.path(), &durable);
        assert_eq!(count(lost.path()), 0, "{name}: nobody had asked for it yet");
        assert_eq!(count(kept.path()), tree.range(..).count(), "{name}");
    }
}

/// Neither at once nor when a later write takes its number.
#[test]
fn what_the_log_refuses_is_seen_by_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, away) = (dir.path().join("log"), dir.path().join("away"));
    let db = open(dir.path());
    let tree = db.tree("t").expect("a tree");
    std::fs::rename(&log, &away).expect("renamed");
    let refused = (0u32..).find(|n| tree.put(&n.to_be_bytes(), &VALUE).is_err()).expect("segments are full some time");
    let nothing_of_it = |more: usize| {
        let moment = db.snapshot();
        assert_eq!(tree.get(&refused.to_be_bytes()).expect("read"), None);
        assert_eq!(moment.get(&tree, b"a").expect("read"), None);
        assert_eq!(moment.range(&tree, ..).count(), refused as usize + more);
    };
    nothing_of_it(0);
    let mut batch = db.batch();
    [b"a", b"b"].into_iter().for_each(|key| batch.put(&tree, key, &[7; 20_000]));
    db.write(batch, Durability::Buffered).expect_err("there is no segment");
    nothing_of_it(0);
    std::fs::rename(&away, &log).expect("renamed");
    for n in 0..3u32 {
        tree.put(&(1 << 20 | n).to_be_bytes(), &VALUE).expect("written");
    }
    nothing_of_it(3);
    db.flush().expect("flushed");
    nothing_of_it(3);
    assert_eq!(count(killed(dir.path()).path()), refused as usize + 3);
}

#[test]
fn the_log_keeps_what_a_flush_could_not_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let (tables, away) = (dir.path().join("tables"), dir.path().join("away"));
    let db = open(dir.path());
    let tree = db.tree("t").expect("a tree");
    put(&tree, 0..100);
    std::fs::rename(&tables, &away).expect("renamed");
    db.flush().expect_err("there is nowhere to write to");
    std::fs::rename(&away, &tables).expect("renamed");
    let left = killed(dir.path());
    let bytes = db.log_bytes();
    db.flush().expect("flushed");
    assert!(db.log_bytes() < bytes, "from then on it is not needed");
    assert_eq!(count(left.path()), 100);
    assert_eq!(count(killed(dir.path()).path()), 100);
}

/// While a memtable was flushed, more was written: over several segments.
#[test]
fn the_log_keeps_what_was_written_behind_a_flush() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let tree = db.tree("t").expect("a tree");
    put(&tree, 0..100);
    let go_on = stall(&db);
    db.rotate().expect("there is memory");
    put(&tree, 100..200);
    drop(go_on);
    heard(db.core().mail.ask(Job::Flushed).wait()).expect("flushed");
    assert_eq!(count(killed(dir.path()).path()), 200);
}

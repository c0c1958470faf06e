//! What is far too large, far too small, or the wrong way round.

use super::child::Process;
use ringkv_storage::db::{Db, Durability, Error};
use std::ops::Bound;

const MIB: usize = 1 << 20;

fn small(dir: &tempfile::TempDir) -> Db {
    Db::builder().memtable_bytes(MIB).cache_bytes(MIB).open(dir.path().join("db")).unwrap()
}

#[test]
fn settings_that_nobody_can_keep_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |builder: ringkv_storage::db::Builder| {
        assert!(matches!(builder.open(dir.path()), Err(Error::Setting { .. })));
    };
    for bytes in [0, MIB - 1, (64 << 30) + 1, usize::MAX] {
        refused(Db::builder().memtable_bytes(bytes));
    }
    for bytes in [0, MIB - 1, (1 << 40) + 1, usize::MAX] {
        refused(Db::builder().cache_bytes(bytes));
    }
    for bytes in [0, 511, 32_769, usize::MAX] {
        refused(Db::builder().block_bytes(bytes));
    }
}

#[test]
fn memtables_of_gibibytes_take_memory_only_when_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder().memtable_bytes(8 << 30).cache_bytes(1 << 40).open(dir.path()).unwrap();
    let tree = db.tree("t").unwrap();
    tree.put(b"k", b"v").unwrap();
    db.flush().unwrap();
    assert_eq!(tree.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn keys_and_bounds_of_any_shape_may_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = small(&dir);
    let tree = db.tree("t").unwrap();
    tree.put(b"k", b"v").unwrap();
    let long = vec![0x6b; 100_000];
    for _ in 0..2 {
        for key in [&b""[..], &long, &[0xff; 65_536]] {
            assert_eq!(tree.get(key).unwrap(), None);
            assert_eq!(tree.get_many(&[key, b"k"]).unwrap(), [None, Some(bytes::Bytes::from_static(b"v"))]);
            assert_eq!(tree.range(key..key).count(), 0);
            assert_eq!(tree.range(key..).chain(tree.range(..key).backwards()).count(), 1);
            assert_eq!(tree.prefix(key).count(), usize::from(key.is_empty()));
            assert!(tree.add(key, 1).is_err());
        }
        assert_eq!(tree.range(&b"z"[..]..&b"a"[..]).count(), 0, "from behind the end");
        assert_eq!(tree.range(&b"z"[..]..&b"a"[..]).backwards().count(), 0);
        let nothing = (Bound::Excluded(&b"k"[..]), Bound::Excluded(&b"k"[..]));
        assert_eq!(tree.range(nothing).count() + tree.range(nothing).backwards().count(), 0);
        db.compact().unwrap();
    }
}

#[test]
fn a_batch_is_refused_when_the_log_cannot_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = small(&dir);
    let tree = db.tree("t").unwrap();
    let (mut batch, value) = (db.batch(), vec![7; 16 * MIB]);
    for n in 0..64u8 {
        batch.put(&tree, &[n], &value);
    }
    assert!(matches!(db.write(batch, Durability::Buffered), Err(Error::Size { what: "batch", .. })));
    assert_eq!(tree.range(..).count(), 0);
    tree.put(b"k", b"v").unwrap();
}

/// The first write behind a flush: the memtable in front of its own is empty, now and when it is read back.
#[test]
fn what_no_memtable_has_room_for_gets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let value = |n: u8| vec![n; 2 * MIB];
    {
        let db = small(&dir);
        let tree = db.tree("t").unwrap();
        db.flush().unwrap();
        tree.put(&[0], &value(0)).unwrap();
        db.flush().unwrap();
        let mut batch = db.batch();
        (1..20).for_each(|n| batch.put(&tree, &[n], &value(n)));
        db.write(batch, Durability::Buffered).unwrap();
    }
    for _ in 0..3 {
        let db = small(&dir);
        let tree = db.tree("t").unwrap();
        for (n, item) in (0..20).zip(tree.range(..)) {
            assert!(item.unwrap() == (vec![n].into(), value(n).into()), "{n}");
        }
        assert_eq!(tree.range(..).count(), 20);
    }
}

/// Batches larger than all memtables together wait for each other, as small writes do.
#[test]
fn large_batches_do_not_pile_up_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let db = small(&dir);
    let tree = db.tree("t").unwrap();
    let mut most = 0;
    for n in 0..60u8 {
        tree.put(&[n], &vec![n; 4 * MIB]).unwrap();
        most = most.max(db.stats().memtable_bytes);
    }
    assert!(most < 4 * 4 * MIB, "{most} bytes");
}

/// An opening finds more memtables in the log than there may be: their memory goes back when they are flushed.
#[test]
fn a_long_log_leaves_no_memory_behind() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Db::builder().memtable_bytes(64 * MIB).open(dir.path().join("db")).unwrap();
        let tree = db.tree("t").unwrap();
        (0..8000u32).for_each(|n| tree.put(&n.to_be_bytes(), &[n as u8; 1000]).unwrap());
    }
    let db = small(&dir);
    db.flush().unwrap();
    let stats = db.stats();
    assert!(stats.flushes > 10, "{} flushes", stats.flushes);
    assert!(stats.spare_bytes < MIB, "{} bytes that nobody uses", stats.spare_bytes);
    let tree = db.tree("t").unwrap();
    assert_eq!(tree.range(..).count(), 8000);
    assert_eq!(tree.get(&7u32.to_be_bytes()).unwrap().unwrap()[..], [7; 1000]);
}

#[test]
fn a_refused_opening_leaves_nobody_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let db_dir = dir.path().join("db");
    {
        let tree = small(&dir).tree("t").unwrap();
        tree.put(b"k", b"v").unwrap();
    }
    // No power cut's work: all heads are gone, then what tells of the tables.
    for file in std::fs::read_dir(db_dir.join("log")).unwrap() {
        std::fs::write(file.unwrap().path(), [1; 8192]).unwrap();
    }
    Process::start("refused", &db_dir, &dir.path().join("told")).join();
    std::fs::write(db_dir.join("CURRENT"), [1; 100]).unwrap();
    Process::start("refused", &db_dir, &dir.path().join("told")).join();
}

//! Trees that are removed while something else happens, or ends.

use super::log::{count, cut, killed, open, open_through, put};
use super::stall;
use crate::db::asynchronous::tests::block_on;
use crate::db::log::Segment;
use crate::db::log::tests::power::{Durable, recording};
use crate::db::{Db, Error, Tree};
use crate::error::StorageError;
use ringkv_wire::ids::KeyspaceId;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, TryLockError};
use std::time::Duration;

/// The tree "t" is not there, nothing is left of it, and the next one of this name is empty.
fn is_without(dir: &Path) {
    for _ in 0..2 {
        {
            let db = open(dir);
            assert_eq!(db.tree_names(), ["other"]);
            db.settle().expect("settled");
            assert!(db.stats().table_bytes < 100_000, "{:?}", db.stats());
            assert_eq!(db.tree("other").expect("a tree").range(..).count(), 10);
        }
        assert_eq!(count(dir), 0);
        assert!(open(dir).remove_tree("t").expect("removed"));
    }
}

/// Some of the tree is in a table, some is being flushed, some is in memory. Each moment is a crash.
#[test]
fn a_removal_is_made_wholly_or_not_at_all() {
    let (dir, durable) = (tempfile::tempdir().expect("a directory"), Durable::default());
    let dir = dir.path();
    let db = open_through(dir, recording(dir, &durable));
    let (tree, other) = (db.tree("t").expect("a tree"), db.tree("other").expect("a tree"));
    put(&other, 0..10);
    put(&tree, 0..200);
    db.flush().expect("flushed");
    let go_on = stall(&db);
    put(&tree, 200..300);
    db.rotate().expect("there is memory");
    put(&tree, 300..400);
    db.sync().expect("synced");
    let before = [killed(dir), cut(dir, &durable)];
    assert!(db.remove_tree("t").expect("removed"));
    let behind = [killed(dir), cut(dir, &durable)];
    drop(go_on);
    db.flush().expect("flushed");
    let flushed = killed(dir);
    db.settle().expect("settled");
    let settled = killed(dir);
    drop((tree, other, db));
    before.iter().for_each(|dir| assert_eq!(count(dir.path()), 400));
    behind.iter().chain([&flushed, &settled]).for_each(|dir| is_without(dir.path()));
    is_without(dir);
}

/// Nobody knows then whether the removal is durable: the tree stays until the database is opened again.
#[test]
fn a_removal_that_cannot_be_synced_leaves_the_tree_to_its_readers() {
    let dir = tempfile::tempdir().expect("a directory");
    let fails = Arc::new(AtomicBool::new(false));
    let told = fails.clone();
    let sync = move |segment: &Segment, range| match told.load(Ordering::SeqCst) {
        true => Err(std::io::Error::from_raw_os_error(5)),
        false => segment.sync_pages(range),
    };
    let db = open_through(dir.path(), Box::new(sync));
    let tree = db.tree("t").expect("a tree");
    put(&tree, 0..100);
    fails.store(true, Ordering::SeqCst);
    let refused = db.remove_tree("t");
    assert!(matches!(refused, Err(Error::Storage(StorageError::Poisoned { .. }))), "{refused:?}");
    assert_eq!(tree.range(..).inspect(|item| assert!(item.is_ok())).count(), 100);
    assert_eq!(db.tree_names(), ["t"]);
    drop((tree, db));
    // The process died, the machine did not: what was written is there.
    let db = open(dir.path());
    assert_eq!(db.tree_names(), Vec::<String>::new());
    assert_eq!(db.tree("t").expect("a tree").range(..).count(), 0);
}

#[test]
fn a_removed_tree_is_remembered_until_nothing_is_left_and_the_last_one_longer() {
    let dir = tempfile::tempdir().expect("a directory");
    let remembered = |db: &Db| -> Vec<u8> {
        Tree::at(db.clone(), KeyspaceId(2)).range(..).map(|item| item.expect("read").0[3]).collect()
    };
    let db = open(dir.path());
    ["a", "b", "c"].into_iter().for_each(|name| put(&db.tree(name).expect("a tree"), 0..10));
    let go_on = stall(&db);
    ["a", "b"].into_iter().for_each(|name| assert!(db.remove_tree(name).expect("removed")));
    let left = killed(dir.path());
    drop(go_on);
    for expected in [&[16, 17][..], &[17], &[17]] {
        let db = open(left.path());
        assert_eq!(remembered(&db), expected);
        db.settle().expect("settled");
    }
    assert_eq!(open(left.path()).tree("a").expect("a tree").keyspace(), KeyspaceId(19));
}

#[test]
fn futures_hear_that_a_tree_was_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    block_on(async {
        let db = Db::open(dir.path()).expect("opened").asynchronous();
        let tree = db.tree("t").await.expect("a tree");
        tree.put(b"k", b"v").await.expect("written");
        let before = db.snapshot();
        assert!(db.remove_tree("t").await.expect("removed") && !db.remove_tree("t").await.expect("nothing to be done"));
        assert!(matches!(tree.get(b"k").await, Err(Error::Removed)));
        assert!(matches!(tree.get_many(&[b"k"]).await, Err(Error::Removed)));
        assert!(matches!(tree.put(b"k", b"v").await, Err(Error::Removed)));
        assert!(matches!(tree.add(b"k", 1).await, Err(Error::Removed)));
        assert!(matches!(tree.range(..).next().await, Some(Err(Error::Removed))));
        assert_eq!(before.get(&tree, b"k").await.expect("read").as_deref(), Some(&b"v"[..]));
        assert_eq!(db.tree("t").await.expect("a tree").get(b"k").await.expect("read"), None);
    });
}

/// Somebody holds the writers' lock, and somebody else waits for it with the name of a new tree.
#[test]
fn who_only_looks_a_tree_up_waits_for_nobody_who_makes_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(dir.path()).expect("opened");
    db.tree("t").expect("a tree");
    let (told, hears) = channel();
    std::thread::scope(|scope| {
        let busy = db.core().writer();
        let making = scope.spawn(|| db.tree("new").map(drop));
        while !matches!(db.0.names.next.try_lock(), Err(TryLockError::WouldBlock)) {
            std::thread::yield_now();
        }
        let looking = db.clone();
        scope.spawn(move || {
            let found = looking.tree("t").is_ok() && looking.known_tree("t").is_some();
            let _ = told.send((found, looking.tree_names()));
        });
        let heard = hears.recv_timeout(Duration::from_secs(20));
        drop(busy);
        assert_eq!(heard, Ok((true, vec!["t".to_owned()])));
        making.join().expect("no panic").expect("made");
    });
    assert_eq!(db.tree_names(), ["new", "t"]);
}

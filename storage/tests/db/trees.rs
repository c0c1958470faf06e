//! Trees that are made, removed, and made again.

use ringkv_storage::db::{Db, Durability, Error, Range, Tree};
use std::path::Path;

fn open(dir: &Path) -> Db {
    Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir).unwrap()
}

fn put(tree: &Tree, numbers: std::ops::Range<u32>, fill: u8) {
    numbers.for_each(|n| tree.put(&n.to_be_bytes(), &[fill; 500]).unwrap());
}

fn count(range: Range) -> usize {
    range.inspect(|item| assert!(item.is_ok())).count()
}

fn is_removed<T>(told: Result<T, Error>) -> bool {
    matches!(told, Err(Error::Removed))
}

/// With data in tables, in memory being flushed, and in memory.
#[test]
fn a_removed_tree_is_there_no_more_but_for_who_looked_at_it_before() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    assert!(!db.remove_tree("a").unwrap(), "there is none");
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    for (round, flushes) in [(0..3000, true), (3000..3500, false)].into_iter().enumerate() {
        put(&a, flushes.0.clone(), round as u8);
        put(&b, flushes.0, round as u8);
        if flushes.1 {
            db.compact().unwrap();
        }
    }
    let (before, mut walk) = (db.snapshot(), a.range(..));
    walk.next().unwrap().unwrap();
    let mut batch = db.batch();
    batch.put(&b, b"k", b"v");
    batch.put(&a, b"k", b"v");
    assert!(db.remove_tree("a").unwrap());
    assert!(!db.remove_tree("a").unwrap(), "it is gone");
    assert_eq!(db.tree_names(), ["b"]);

    let key = 1u32.to_be_bytes();
    assert!(is_removed(a.get(&key)) && is_removed(a.get_many(&[key])) && is_removed(a.put(&key, b"v")));
    assert!(is_removed(a.delete(&key)) && is_removed(a.put_synced(&key, b"v")) && is_removed(a.add(&key, 1)));
    assert!(is_removed(a.compare_and_set(&key, None, None)) && is_removed(db.write(batch, Durability::Buffered)));
    assert!(is_removed(a.range(..).next().unwrap()) && is_removed(a.prefix(b"").backwards().next().unwrap()));
    assert!(is_removed(db.snapshot().get(&a, &key)) && is_removed(db.snapshot().range(&a, ..).next().unwrap()));
    assert_eq!(b.get(b"k").unwrap(), None, "none of a batch is made");

    let again = db.tree("a").unwrap();
    assert_eq!(count(again.range(..)), 0);
    put(&again, 0..10, 9);
    for _ in 0..2 {
        assert!(is_removed(a.get(&key)));
        assert_eq!((count(again.range(..)), count(b.range(..))), (10, 3500));
        assert_eq!((count(before.range(&a, ..)), count(before.range(&again, ..))), (3500, 0));
        assert_eq!(before.get(&a, &key).unwrap().as_deref(), Some(&[0; 500][..]));
        db.compact().unwrap();
    }
    assert_eq!(count(walk), 3499);
    drop((a, b, again, before, db));
    let db = open(dir.path());
    assert_eq!(db.tree_names(), ["a", "b"]);
    assert_eq!((count(db.tree("a").unwrap().range(..)), count(db.tree("b").unwrap().range(..))), (10, 3500));
}

#[test]
fn a_removed_trees_space_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let trees: Vec<Tree> = ["a", "b", "c"].into_iter().map(|name| db.tree(name).unwrap()).collect();
    let random = |n: u32| (0..100).flat_map(|at| (n * 100 + at).wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    for n in 0..5000u32 {
        let value: Vec<u8> = random(n);
        trees.iter().for_each(|tree| tree.put(&n.to_be_bytes(), &value).unwrap());
    }
    db.compact().unwrap();
    let all = db.stats().table_bytes;
    trees.iter().for_each(|tree| put(tree, 0..200, 1));
    for (name, left) in [("b", 2), ("a", 1), ("c", 0)] {
        assert!(db.remove_tree(name).unwrap());
        db.settle().unwrap();
        let stats = db.stats();
        assert!(stats.table_bytes <= all * left / 3 + (300 << 10), "{left} of {all}: {stats:?}");
        let files = std::fs::read_dir(dir.path().join("tables")).unwrap();
        assert_eq!(files.count(), stats.tables, "without {name}");
        assert!(stats.memtable_bytes < 100 << 10, "its memory too: {stats:?}");
    }
    assert_eq!(db.tree_names(), Vec::<String>::new());
}

/// Nobody's keyspace is used again, however often trees go and the database is opened.
#[test]
fn no_tree_finds_what_one_before_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let stays = open(dir.path()).tree("stays").unwrap();
    put(&stays, 0..10, 1);
    drop(stays);
    for round in 0..12u32 {
        let db = open(dir.path());
        let tree = db.tree("t").unwrap();
        assert_eq!(count(tree.range(..)), 0, "round {round}");
        put(&tree, 0..100, round as u8);
        if round % 3 == 1 {
            db.flush().unwrap();
        }
        assert!(db.remove_tree("t").unwrap());
        if round % 4 == 2 {
            assert_eq!(count(db.tree("t").unwrap().range(..)), 0);
            db.settle().unwrap();
            assert!(db.remove_tree("t").unwrap());
        }
        assert_eq!(count(db.tree("stays").unwrap().range(..)), 10);
    }
}

#[test]
fn what_snapshots_keep_in_memory_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let tree = db.tree("t").unwrap();
    put(&tree, 0..200, 1);
    let snapshot = db.snapshot();
    db.flush().unwrap();
    let (held, all) = (db.stats().held_bytes, db.stats().memory_bytes());
    assert!((200 * 500..300 * 500).contains(&held), "{held} bytes");
    assert_eq!(count(snapshot.range(&tree, ..)), 200);
    drop(snapshot);
    db.flush().unwrap();
    assert_eq!(db.stats().held_bytes, 0);
    assert!(db.stats().memory_bytes() < all);
}

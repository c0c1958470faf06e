//! What each call promises.

use ringkv_storage::db::{Compression, Db, Durability, Error};
use std::time::Duration;
use tempfile::TempDir;

fn open(dir: &TempDir) -> Db {
    Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path().join("db")).expect("it opens")
}

fn number(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

#[test]
fn what_was_written_is_found_after_reopening_flushed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    for n in 0..1000 {
        tree.put(&number(n), &[n as u8; 100]).unwrap();
    }
    db.flush().unwrap();
    for n in 500..1500 {
        tree.put(&number(n), b"newer").unwrap();
    }
    tree.delete(&number(3)).unwrap();
    drop((tree, db));
    for _ in 0..2 {
        let db = open(&dir);
        let tree = db.tree("t").unwrap();
        let value = |n: u32| tree.get(&number(n)).unwrap().map(|value| value.to_vec());
        assert_eq!(value(2), Some(vec![2; 100]));
        assert_eq!(value(3), None);
        assert_eq!(value(700), Some(b"newer".to_vec()));
        assert_eq!(value(1499), Some(b"newer".to_vec()));
        assert_eq!(value(1500), None);
        assert_eq!(tree.range(..).count(), 1499);
        assert_eq!(db.tree_names(), ["t"]);
    }
}

#[test]
fn trees_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    a.put(b"k", b"of a").unwrap();
    assert_eq!(b.get(b"k").unwrap(), None);
    b.put(b"k", b"of b").unwrap();
    assert_eq!(a.get(b"k").unwrap().as_deref(), Some(&b"of a"[..]));
    assert_eq!((a.range(..).count(), b.range(..).count()), (1, 1));
    assert_eq!(db.tree("a").unwrap().get(b"k").unwrap().as_deref(), Some(&b"of a"[..]));
}

#[test]
fn a_second_opener_is_told_and_the_next_one_may() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let path = dir.path().join("db");
    assert!(matches!(Db::open(&path), Err(Error::InUse { .. })));
    let tree = db.tree("t").unwrap();
    drop(db);
    assert!(matches!(Db::open(&path), Err(Error::InUse { .. })), "a tree of it is still there");
    drop(tree);
    Db::open(&path).unwrap();
}

#[test]
fn sizes_out_of_bounds_are_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    assert!(matches!(tree.put(b"", b"v"), Err(Error::Size { what: "key", bytes: 0, .. })));
    assert!(matches!(tree.put(&[1; 65_536], b"v"), Err(Error::Size { what: "key", .. })));
    assert!(matches!(tree.put(b"k", &vec![0; (16 << 20) + 1]), Err(Error::Size { what: "value", .. })));
    let mut batch = db.batch();
    batch.put(&tree, b"good", b"v");
    batch.put(&tree, b"", b"v");
    assert!(matches!(db.write(batch, Durability::Buffered), Err(Error::Size { what: "key", .. })));
    assert_eq!(tree.range(..).count(), 0);
    assert!(matches!(Db::builder().memtable_bytes(10).open(dir.path()), Err(Error::Setting { .. })));
    // The longest that are allowed, longer than a memtable.
    tree.put(&[1; 65_535], &vec![9; 16 << 20]).unwrap();
    db.flush().unwrap();
    assert_eq!(tree.get(&[1; 65_535]).unwrap().unwrap().len(), 16 << 20);
}

#[test]
fn ranges_and_prefixes_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    for key in ["a", "ab", "abc", "b", "ba", "c"] {
        tree.put(key.as_bytes(), key.to_uppercase().as_bytes()).unwrap();
        if key == "abc" {
            db.flush().unwrap();
        }
    }
    let keys = |range: ringkv_storage::db::Range| {
        range.map(|item| String::from_utf8(item.unwrap().0.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys(tree.range(..)), ["a", "ab", "abc", "b", "ba", "c"]);
    assert_eq!(keys(tree.range(..).backwards()), ["c", "ba", "b", "abc", "ab", "a"]);
    assert_eq!(keys(tree.range(&b"ab"[..]..&b"ba"[..])), ["ab", "abc", "b"]);
    assert_eq!(keys(tree.range(..=&b"abc"[..]).backwards()), ["abc", "ab", "a"]);
    assert_eq!(keys(tree.prefix(b"ab")), ["ab", "abc"]);
    assert_eq!(keys(tree.prefix(b"b").backwards()), ["ba", "b"]);
    assert_eq!(keys(tree.prefix(b"d")), Vec::<String>::new());
}

#[test]
fn a_snapshot_stays_as_it_was_while_all_is_overwritten_flushed_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    for n in 0..2000 {
        tree.put(&number(n), b"old").unwrap();
    }
    let snapshot = db.snapshot();
    for round in 0..3 {
        for n in 0..2000 {
            if n % 3 == 0 { tree.delete(&number(n)).unwrap() } else { tree.put(&number(n), &[round; 500]).unwrap() }
        }
        tree.put(b"new", b"new").unwrap();
        if round > 0 {
            db.compact().unwrap();
        }
        assert_eq!(snapshot.get(&tree, b"new").unwrap(), None);
        for n in [0, 1, 999, 1998, 1999] {
            assert_eq!(snapshot.get(&tree, &number(n)).unwrap().as_deref(), Some(&b"old"[..]), "{n} in round {round}");
        }
        let all: Vec<_> = snapshot.range(&tree, ..).map(Result::unwrap).collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(|(_, value)| value == "old"));
    }
    assert_eq!(tree.range(..).count(), 2000 - 667 + 1);
}

#[test]
fn what_lives_for_a_time_goes() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    tree.put_for(b"gone", b"v", Duration::ZERO).unwrap();
    tree.put_for(b"stays", b"v", Duration::from_secs(3600)).unwrap();
    let there = || {
        assert_eq!(tree.get(b"gone").unwrap(), None);
        assert_eq!(tree.get(b"stays").unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(tree.range(..).count(), 1);
        assert_eq!(db.snapshot().get(&tree, b"gone").unwrap(), None);
        assert_eq!(tree.get_many(&[b"gone".as_slice(), b"stays"]).unwrap()[0], None);
    };
    there();
    db.compact().unwrap();
    there();
    assert!(tree.compare_and_set(b"gone", None, Some(b"again")).unwrap());
    assert_eq!(tree.get(b"gone").unwrap().as_deref(), Some(&b"again"[..]));
}

#[test]
fn what_lives_for_a_time_goes_from_where_it_stands_in_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    tree.put_for(b"going", b"v", Duration::from_millis(700)).unwrap();
    tree.put(b"stays", b"v").unwrap();
    // Well before, so that the table has it.
    db.flush().unwrap();
    while tree.get(b"going").unwrap().is_some() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let keys = |range: ringkv_storage::db::Range| range.map(|entry| entry.unwrap().0.to_vec()).collect::<Vec<_>>();
    assert_eq!(keys(tree.range(..)), [b"stays"]);
    assert_eq!(keys(tree.range(..).backwards()), [b"stays"]);
    assert!(keys(tree.prefix(b"go")).is_empty());
}

#[test]
fn compare_and_set_and_counters() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let tree = db.tree("t").unwrap();
    assert!(!tree.compare_and_set(b"k", Some(b"x"), Some(b"y")).unwrap());
    assert!(tree.compare_and_set(b"k", None, Some(b"1")).unwrap());
    assert!(!tree.compare_and_set(b"k", None, Some(b"2")).unwrap());
    db.flush().unwrap();
    assert!(tree.compare_and_set(b"k", Some(b"1"), Some(b"2")).unwrap());
    assert!(tree.compare_and_set(b"k", Some(b"2"), None).unwrap());
    assert_eq!(tree.get(b"k").unwrap(), None);
    assert_eq!(tree.add(b"n", 5).unwrap(), 5);
    db.flush().unwrap();
    assert_eq!(tree.add(b"n", -7).unwrap(), -2);
    assert_eq!(tree.get(b"n").unwrap().as_deref(), Some(&(-2i64).to_le_bytes()[..]));
    tree.put(b"n", &i64::MAX.to_le_bytes()).unwrap();
    assert!(matches!(tree.add(b"n", 1), Err(Error::NotACounter { .. })));
    tree.put(b"n", b"text").unwrap();
    assert!(matches!(tree.add(b"n", 1), Err(Error::NotACounter { .. })));
}

#[test]
fn a_checkpoint_is_the_database_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let (tree, other) = (db.tree("t").unwrap(), db.tree("other").unwrap());
    for n in 0..3000 {
        tree.put(&number(n), &[1; 200]).unwrap();
    }
    other.put(b"k", b"v").unwrap();
    let copy = dir.path().join("copy");
    db.checkpoint(&copy).unwrap();
    assert!(db.checkpoint(&copy).is_err(), "it is there");
    for n in 0..3000 {
        tree.put(&number(n), &[2; 200]).unwrap();
    }
    db.compact().unwrap();
    for _ in 0..2 {
        let copy = Db::open(&copy).unwrap();
        assert_eq!(copy.tree_names(), ["other", "t"]);
        let tree = copy.tree("t").unwrap();
        assert_eq!(tree.range(..).filter(|item| item.as_ref().unwrap().1[..] == [1; 200]).count(), 3000);
        assert_eq!(copy.tree("other").unwrap().get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
        tree.put(b"own", b"v").unwrap();
    }
    assert_eq!(tree.get(b"own").unwrap(), None);
    assert_eq!(tree.get(&number(5)).unwrap().as_deref(), Some(&[2; 200][..]));
}

#[test]
fn an_empty_database_does_everything() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    db.flush().unwrap();
    db.settle().unwrap();
    db.compact().unwrap();
    db.sync().unwrap();
    db.write(db.batch(), Durability::Synced).unwrap();
    db.checkpoint(dir.path().join("copy")).unwrap();
    assert_eq!(Db::open(dir.path().join("copy")).unwrap().tree_names(), Vec::<String>::new());
}

/// Bytes of tables, and bytes that merges wrote since the first rounds of puts, after the last one, less than a merge is worth while
/// others write.
fn settled(first: &[std::ops::Range<u32>], last: std::ops::Range<u32>) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let builder = Db::builder().memtable_bytes(8 << 20).compression(Compression::None);
    let db = builder.open(dir.path()).unwrap();
    let tree = db.tree("t").unwrap();
    let put = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            tree.put(&number(n.wrapping_mul(2_654_435_761)), &[n as u8; 100]).unwrap();
        }
    };
    for numbers in first {
        put(numbers.clone());
        db.compact().unwrap();
    }
    let before = db.stats().merged_bytes;
    put(last);
    db.settle().unwrap();
    let stats = db.stats();
    (stats.table_bytes, stats.merged_bytes - before)
}

#[test]
fn whoever_waits_finds_nearly_all_in_the_last_level_and_nothing_merged_for_a_little() {
    const KEYS: u32 = 40_000;
    const MORE: u32 = KEYS / 4;
    const LITTLE: u32 = KEYS / 25;
    let all = 0..KEYS;
    let (once, _) = settled(&[], all.clone());
    let (again, _) = settled(&[all.clone(), all.clone()], 0..MORE);
    assert!(again * 100 <= once * 107, "{again} bytes of tables, {once} had nobody overwritten any");
    let (more, merged) = settled(std::slice::from_ref(&all), KEYS..KEYS + MORE);
    assert!(merged * 100 >= more * 95, "{merged} bytes merged of {more} when a fifth was new");
    for little in [0..LITTLE, KEYS..KEYS + LITTLE] {
        let (bytes, merged) = settled(std::slice::from_ref(&all), little);
        assert_eq!(merged, 0, "of {bytes} bytes, a 25th of them new");
    }
}

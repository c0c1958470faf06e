//! Many threads at once.

use ringkv_storage::db::{Db, Durability};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Readers see all of a batch or nothing, and never go back.
#[test]
fn readers_see_whole_batches_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).unwrap();
    let (a, b) = (db.tree("a").unwrap(), db.tree("b").unwrap());
    let done = AtomicBool::new(false);
    let number = |value: Option<bytes::Bytes>| value.map_or(0, |v| u64::from_le_bytes(v[..8].try_into().unwrap()));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (db, a, b, done) = (&db, &a, &b, &done);
                scope.spawn(move || {
                    let (mut last, mut looks) = (0, 0u64);
                    while !done.load(Ordering::Relaxed) || looks == 0 {
                        looks += 1;
                        let (x, y) = match reader {
                            0 => {
                                let snapshot = db.snapshot();
                                let y = number(snapshot.get(b, b"k").unwrap());
                                let x = number(snapshot.get(a, b"k").unwrap());
                                assert_eq!(x, y, "half a batch in a snapshot");
                                (x, y)
                            }
                            // The second read is the later one: it may see more, never less.
                            1 => (number(a.get(b"k").unwrap()), number(b.get(b"k").unwrap())),
                            _ => {
                                let all: Vec<_> = a.range(..).map(|item| item.unwrap()).collect();
                                let x = number(all.last().map(|(_, value)| value.clone()));
                                (x, x)
                            }
                        };
                        assert!(x <= y && last <= x, "{last}, then {x} and {y}");
                        last = y;
                    }
                    looks
                })
            })
            .collect();
        for n in 1..=20_000u64 {
            let mut batch = db.batch();
            let value = [n.to_le_bytes().as_slice(), &[0; 300]].concat();
            batch.put(&a, b"k", &value);
            // Time for whoever would see half of it.
            (0..20u8).for_each(|n| batch.put(&b, &[n], b""));
            batch.put(&b, b"k", &value);
            db.write(batch, Durability::Buffered).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert!(db.stats().flushes > 0, "memtables were too large for this test: {:?}", db.stats());
}

/// No write of many threads is lost, and counters count each.
#[test]
fn writers_do_not_lose_each_others_writes() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).unwrap();
    let db = open();
    let tree = db.tree("t").unwrap();
    thread::scope(|scope| {
        for writer in 0..4u32 {
            let (db, tree) = (&db, &tree);
            scope.spawn(move || {
                for n in 0..3000u32 {
                    let key = (writer * 10_000 + n).to_be_bytes();
                    match n % 100 {
                        0 => tree.put_synced(&key, &[1; 200]).unwrap(),
                        1 => db.sync().unwrap(),
                        _ => tree.put(&key, &[1; 200]).unwrap(),
                    }
                    tree.add(b"count", 1).unwrap();
                }
            });
        }
    });
    for _ in 0..2 {
        assert_eq!(tree.get(b"count").unwrap().as_deref(), Some(&12_000i64.to_le_bytes()[..]));
        assert_eq!(tree.range(..).count(), 4 * (3000 - 30) + 1);
        db.compact().unwrap();
    }
    drop((tree, db));
    let db = open();
    let tree = db.tree("t").unwrap();
    assert_eq!(tree.range(..).count(), 4 * (3000 - 30) + 1);
    assert_eq!(tree.get(b"count").unwrap().as_deref(), Some(&12_000i64.to_le_bytes()[..]));
}

/// A child that another thread starts has all files open for a moment, the lock's too.
#[test]
fn a_database_may_be_opened_again_at_once_while_processes_are_started() {
    let dir = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::process::Command::new("true").status().unwrap();
            }
        });
        let opened: Vec<bool> = (0..30).map(|_| Db::open(dir.path()).is_ok()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(opened.iter().all(|opened| *opened), "{opened:?}");
    });
}

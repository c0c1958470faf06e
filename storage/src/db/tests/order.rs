//! Who sees what, and which of two writes counts.

use super::stall;
use crate::db::log::Op;
use crate::db::view::View;
use crate::db::{Db, Redo};
use crate::memtable::shared::{Blank, Memtable};
use crate::sst::NEVER_MS;
use crate::tree::Sought;
use ringkv_wire::ids::KeyspaceId;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn open(dir: &TempDir) -> Db {
    Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).expect("opened")
}

/// Where a write is when another one looks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Written,
    BeingFlushed,
    Flushed,
}

/// Somebody else writes the key between the look at it and the write.
#[test]
fn a_change_is_made_of_what_nobody_has_changed_since() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    let tree = db.tree("t").expect("a tree");
    for place in [Place::Written, Place::BeingFlushed, Place::Flushed] {
        let _go_on = (place == Place::BeingFlushed).then(|| stall(&db));
        let mut asked = 0;
        let change = |found: Option<&[u8]>| {
            asked += 1;
            if asked == 1 {
                tree.put(b"k", b"somebody's")?;
                match place {
                    Place::Written => {}
                    Place::BeingFlushed => db.rotate()?,
                    Place::Flushed => db.flush()?,
                }
            } else {
                assert_eq!(found, Some(&b"somebody's"[..]));
            }
            Ok(Some(Some(bytes::Bytes::from_static(b"mine"))))
        };
        tree.update(b"k", change).expect("written");
        assert_eq!(asked, 2, "{place:?}");
        assert_eq!(tree.get(b"k").expect("read").as_deref(), Some(&b"mine"[..]));
        let frozen = db.core().view.load().frozen.len();
        assert_eq!(frozen > 0, place == Place::BeingFlushed, "{place:?}: {frozen} memtables are being flushed");
    }
}

/// What was visible when a moment began is in it, while memtables change all the time: else a compare-and-set would be made of what was
/// there before.
#[test]
fn a_moment_has_all_that_was_visible() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    let (tree, core) = (db.tree("t").expect("a tree"), db.core());
    tree.put(b"k", b"v").expect("written");
    let key = Sought::new(tree.keyspace(), b"k");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                {
                    let mut writer = core.writer();
                    let (memtable, pen) = Memtable::new(Blank::new(4096), 1);
                    writer.pen = pen;
                    core.view.rcu(|view| View {
                        active: memtable.clone(),
                        frozen: vec![view.active.clone()],
                        ..(**view).clone()
                    });
                }
                tree.put(b"k", b"v").expect("written");
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let (view, version) = core.moment();
            let newest = view.get(&core.cache, key, u64::MAX).expect("read").expect("written").version;
            assert!(newest >= version, "a moment at {version} knows {newest} writes");
        }
    });
}

/// Of several memtables read from the log, the last one has the last word, also of an earlier moment.
#[test]
fn of_what_the_log_held_the_newer_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(&dir);
    let core = db.core();
    let (mut redo, tables) = (Redo::new(&core.settings), core.view.load().tables.clone());
    let keyspace = KeyspaceId(16);
    let value = |seq: u64| vec![seq as u8; 1000];
    let last = (1..).find(|&seq| {
        let op = Op { keyspace, key: b"k", value: Some(&value(seq)), expiry_ms: NEVER_MS };
        redo.apply(seq, &op).expect("applied");
        redo.full.len() == 3 && redo.pen.memtable().entries() > 0
    });
    let (view, last) = (redo.view(tables), last.expect("memtables are full some time"));
    for seq in 1..=last {
        let found = view.get(&core.cache, Sought::new(keyspace, b"k"), seq).expect("read").expect("written");
        assert!(found.version == seq && found.value[..] == value(seq), "at {seq} of {last}: {}", found.version);
    }
}

/// What an opening makes several memtables of, it flushes in their order. Each key's writes are in two of them or more.
#[test]
fn of_what_the_log_held_the_newer_stays_when_it_is_flushed() {
    let dir = tempfile::tempdir().expect("a directory");
    let value = |n: u32| [n.to_le_bytes().as_slice(), &[7; 1000]].concat();
    let tree = Db::open(dir.path()).expect("opened").tree("t").expect("a tree");
    (0..2400).for_each(|n| tree.put(&[(n / 600) as u8], &value(n)).expect("written"));
    drop(tree);
    let db = open(&dir);
    let tree = db.tree("t").expect("a tree");
    for compacts in [false, true] {
        if compacts { db.compact() } else { db.flush() }.expect("flushed");
        for key in 0..4u32 {
            let found = tree.get(&[key as u8]).expect("read");
            assert!(found.as_deref() == Some(&value(key * 600 + 599)[..]), "key {key}, compacted: {compacts}");
        }
    }
    assert!(db.stats().flushes > 5, "{} flushes", db.stats().flushes);
}

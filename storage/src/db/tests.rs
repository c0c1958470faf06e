//! What only somebody inside can bring about.

use crate::db::driver::Job;
use crate::db::{Db, Error};

/// The thread is no more: writers that need it hear so instead of waiting, and what there is stays readable.
#[test]
fn writers_hear_that_the_thread_has_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).expect("opened");
    let db = open();
    let tree = db.tree("t").expect("a tree");
    db.core().mail.send(Job::Stop);
    let mut written = 0u32;
    let error = loop {
        match tree.put(&written.to_be_bytes(), &[7; 1000]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    for refused in [db.flush(), db.compact(), db.checkpoint(dir.path().join("copy"))] {
        assert!(matches!(refused, Err(Error::Failed { .. })), "{refused:?}");
    }
    assert!(written > 500, "all memory was used");
    assert_eq!(tree.range(..).count(), written as usize);
    drop((tree, db));
    assert_eq!(open().tree("t").expect("a tree").range(..).count(), written as usize);
}

/// Somebody else writes the key between the look at it and the write, and what he wrote is in a table by then, or in memory.
#[test]
fn a_change_is_made_of_what_nobody_has_changed_since() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::builder().memtable_bytes(1 << 20).cache_bytes(1 << 20).open(dir.path()).expect("opened");
    let tree = db.tree("t").expect("a tree");
    for flushes in [false, true] {
        let mut asked = 0;
        let change = |found: Option<&[u8]>| {
            asked += 1;
            if asked == 1 {
                tree.put(b"k", b"somebody's")?;
                if flushes {
                    db.flush()?;
                }
            } else {
                assert_eq!(found, Some(&b"somebody's"[..]));
            }
            Ok(Some(Some(bytes::Bytes::from_static(b"mine"))))
        };
        tree.update(b"k", change).expect("written");
        assert_eq!(asked, 2, "flushes: {flushes}");
        assert_eq!(tree.get(b"k").expect("read").as_deref(), Some(&b"mine"[..]));
    }
}

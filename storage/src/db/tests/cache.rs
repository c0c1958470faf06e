//! Blocks of tables, and whose they are.

use crate::cache::tests::tables_do_not_share_blocks;
use crate::db::Db;
use crate::db::cache::SharedCache;
use std::collections::BTreeSet;

#[test]
fn no_block_is_taken_for_that_of_another_table() {
    for mib in [2, 12, 64] {
        tables_do_not_share_blocks(&SharedCache::new(mib << 20, 3));
    }
}

#[test]
fn every_table_has_a_handle_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..2 {
        let db = Db::open(dir.path()).expect("opened");
        let tree = db.tree("t").expect("a tree");
        for n in 0..3u8 {
            tree.put(&[n], b"v").expect("written");
            db.flush().expect("flushed");
        }
        let tables = db.core().view.load().tables.clone();
        let handles: BTreeSet<u64> = tables.tables().map(|table| table.in_cache().0).collect();
        assert!(handles.len() >= 3 && handles.len() == tables.tables().count(), "{handles:?}");
    }
}

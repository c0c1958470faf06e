//! Flushes are cut where the tables below begin, so that merges stay small.

use crate::harness::SEALED;
use crate::levels::{KEYS, base, key, record};
use ringkv_storage::disk::fault::block_on;
use ringkv_storage::manifest::TableEntry;

/// Also the first flush above a tree that has just grown so large that a level between comes into use: nothing is there yet.
#[test]
fn no_piece_of_a_flush_reaches_over_the_beginning_of_a_table_below() {
    let mut replica = base().fork(1);
    let below = record(&replica.disk).tables;
    assert!(below.len() > 8 && below.iter().all(|table| table.level == 6), "{} tables", below.len());
    for n in 0..KEYS {
        replica.write(1, &key(n), Some(&[n; 700]));
    }
    replica.flush().expect("flushes");
    let record = record(&replica.disk);
    let pieces: Vec<&TableEntry> = record.tables.iter().filter(|table| table.level == 0).collect();
    assert!(pieces.len() >= below.len(), "{} pieces above {} tables", pieces.len(), below.len());
    for piece in pieces {
        for begins in below.iter().map(|table| table.bounds.least()) {
            let reaches_over = piece.bounds.least() < begins && begins <= piece.bounds.greatest();
            assert!(!reaches_over, "{:?} lies across {begins:?}", piece.bounds);
        }
    }
}

/// Each flush seals the session table in front of all keys: that must not make each merge one of everything.
#[test]
fn what_is_sealed_lies_in_a_table_of_its_own_and_merges_leave_the_rest_alone() {
    let mut replica = base().fork(2);
    let before = record(&replica.disk).tables;
    replica.write(1, &key(KEYS - 1), Some(b"small"));
    replica.flush().expect("flushes");
    let sealed = record(&replica.disk).tables;
    let sealed: Vec<_> = sealed.iter().filter(|t| t.level == 0 && t.bounds.least().0 == SEALED).collect();
    assert_eq!(sealed.iter().map(|table| table.bounds.greatest().0).collect::<Vec<_>>(), [SEALED]);
    while replica.tree.wants_merge() {
        block_on(replica.tree.merge()).expect("merges");
    }
    let after = record(&replica.disk).tables;
    let stayed = before.iter().filter(|table| after.iter().any(|now| now.place == table.place)).count();
    assert!(stayed + 2 >= before.len() && stayed > 8, "{stayed} of {} tables stayed", before.len());
    replica.check();
}

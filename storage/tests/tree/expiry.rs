//! Values that are gone from a log time on.

use crate::harness::{Replica, at, log_time_ms, walk};
use bytes::Bytes;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::tree::Flushed;
use ringkv_wire::ids::KeyspaceId;

fn key(number: u64) -> Vec<u8> {
    format!("key{number:04}").into_bytes()
}

/// Writes keys that expire with so many writes between them, flushed and in the last level.
fn expiring(count: u64) -> Replica {
    let mut replica = Replica::new(FaultDisk::new(7));
    for number in 0..count {
        replica.write_until(1, &key(number), Some(b"for a while"), log_time_ms(2000 + number));
    }
    replica.flush().expect("a sound disk");
    block_on(replica.tree.settle()).expect("a sound disk");
    replica
}

#[test]
fn gone_at_its_time_for_reads_walks_and_after_a_restart() {
    let mut replica = expiring(10);
    let keyspace = KeyspaceId(1);
    let before = replica.tree.iter();
    replica.tree.advance(log_time_ms(2005));
    let there = |replica: &Replica| {
        (0..10)
            .filter(|n| block_on(replica.tree.get(keyspace, &key(*n))).expect("readable").is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(there(&replica), [6, 7, 8, 9]);
    assert_eq!(walk(&replica.tree).expect("readable").len(), 4 + 1, "and the sealed one");
    replica.tree.advance(1);
    assert_eq!(there(&replica), [6, 7, 8, 9], "time does not go back");
    let mut before = before;
    let mut seen = 0;
    while block_on(before.next()).expect("readable").is_some() {
        seen += 1;
    }
    assert_eq!(seen, 10 + 1, "a walk sees what there was when it began");
    let at = replica.tree.flushed().expect("flushed");
    assert_eq!(at.log_time_ms, log_time_ms(10), "only a flush remembers the time");
    replica.reopen(replica.disk.crash_power()).expect("sound");
    assert_eq!(there(&replica).len(), 10, "it is told again by the log");
}

#[test]
fn an_older_value_does_not_come_back() {
    let mut replica = Replica::new(FaultDisk::new(8));
    replica.write(1, b"k", Some(b"older"));
    replica.flush().expect("a sound disk");
    block_on(replica.tree.settle()).expect("a sound disk");
    replica.write_until(1, b"k", Some(b"newer"), log_time_ms(50));
    let gone = |replica: &Replica| block_on(replica.tree.get(KeyspaceId(1), b"k")).expect("readable").is_none();
    assert!(!gone(&replica));
    replica.tree.advance(log_time_ms(50));
    assert!(gone(&replica), "in memory");
    replica.flush().expect("a sound disk");
    assert!(gone(&replica), "flushed above it");
    block_on(replica.tree.settle()).expect("a sound disk");
    assert!(gone(&replica), "merged with it");
}

#[test]
fn a_settled_table_goes_when_most_of_it_has_expired() {
    let replica = expiring(1000);
    assert!(!replica.tree.wants_merge());
    let before = replica.engine.stats().table_bytes;
    let tell = |index: u64, writes: u64| {
        let at = Flushed { log_time_ms: log_time_ms(writes), ..at(index) };
        block_on(replica.tree.flush(at, Vec::new())).expect("a sound disk");
    };
    replica.tree.advance(log_time_ms(3000));
    assert!(!replica.tree.wants_merge(), "tables hold what there was at the last flush");
    tell(1001, 2100);
    assert!(!replica.tree.wants_merge(), "a tenth is not worth it");
    tell(1002, 3000);
    assert!(replica.tree.wants_merge());
    block_on(replica.tree.merge()).expect("a sound disk");
    assert!(!replica.tree.wants_merge(), "nothing is left to do");
    assert_eq!(walk(&replica.tree).expect("readable").len(), 1, "only the sealed record is left");
    let left = replica.engine.stats().table_bytes;
    assert!(left < before, "{left} of {before} bytes are left");
}

#[test]
fn a_value_that_is_overwritten_in_place_takes_the_new_expiry() {
    let replica = Replica::new(FaultDisk::new(9));
    let (keyspace, tree) = (KeyspaceId(1), &replica.tree);
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    tree.put(1, keyspace, b"k", value("a long value, with room"));
    tree.put_until(2, keyspace, b"k", value("short"), 100);
    let got = || block_on(tree.get(keyspace, b"k")).expect("readable").map(|found| (found.value, found.expiry_ms));
    assert_eq!(got(), Some((value("short"), 100)));
    tree.advance(99);
    assert!(got().is_some());
    tree.advance(100);
    assert_eq!(got(), None);
    tree.put(3, keyspace, b"k", value("stays"));
    assert_eq!(got(), Some((value("stays"), u64::MAX)));
}

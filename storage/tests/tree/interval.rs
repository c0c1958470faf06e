//! A tree whose shard became smaller.

use crate::harness::{Looked, Replica, look, walk};
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::tree::{Span, Way};
use ringkv_wire::ids::KeyspaceId;

const K: KeyspaceId = KeyspaceId(1);

fn key(number: u32) -> Vec<u8> {
    format!("key{number:03}").into_bytes()
}

/// The lower half stays.
fn stays(keyspace: KeyspaceId, name: &[u8]) -> bool {
    keyspace != K || name < &key(50)[..]
}

/// Numbers of the keys that every way of reading finds.
fn found(replica: &Replica) -> Vec<u32> {
    let all: Vec<u32> =
        (0..100).filter(|n| block_on(replica.tree.get(K, &key(*n))).expect("readable").is_some()).collect();
    for number in 0..100 {
        match look(&replica.tree, K, &key(number)) {
            Looked::Found(_) => assert!(all.contains(&number)),
            Looked::Absent => assert!(!all.contains(&number)),
            Looked::Disk => {}
        }
    }
    let walked = walk(&replica.tree).expect("readable").into_keys().filter(|(keyspace, _)| *keyspace == K);
    assert_eq!(
        walked.map(|(_, name)| name.to_vec()).collect::<Vec<_>>(),
        all.iter().map(|n| key(*n)).collect::<Vec<_>>()
    );
    all
}

#[test]
fn what_is_no_longer_the_trees_is_found_by_nobody_and_leaves_with_the_next_merge() {
    let mut replica = Replica::new(FaultDisk::new(5));
    (0..80).for_each(|n| replica.write(1, &key(n), Some(&[n as u8; 400])));
    replica.flush().expect("a sound disk");
    (60..100).for_each(|n| replica.write(1, &key(n), Some(b"newer, in memory")));
    assert_eq!(found(&replica).len(), 100);
    let mut before = replica.tree.range(Span::prefix(K, b"key"), Way::Down);

    replica.tree.narrow(stays);
    let lower: Vec<u32> = (0..50).collect();
    assert_eq!(found(&replica), lower);
    let first = block_on(before.next()).expect("readable").expect("it began before");
    assert_eq!(first.1, key(99), "a walk goes on over what there was when it began");
    drop(before);

    replica.flush().expect("a sound disk");
    let bytes = replica.engine.stats().table_bytes;
    block_on(replica.tree.settle()).expect("a sound disk");
    assert_eq!(found(&replica), lower);
    let left = replica.engine.stats().table_bytes;
    assert!(left < bytes * 3 / 4, "{left} of {bytes} bytes are left");
    replica.reopen(replica.disk.crash_power()).expect("sound");
    assert_eq!(found(&replica), lower, "it is gone for good");
}

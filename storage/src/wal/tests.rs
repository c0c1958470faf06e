mod crash;
mod damage;
mod inspect;
mod model;
mod order;
mod space;

use super::testing::*;
use super::*;

use crate::disk::fault::{FaultDisk, block_on};

#[test]
fn a_log_survives_many_segments_restarts_and_truncations() {
    let disk = FaultDisk::new(1);
    let log = with_shards(&disk, 3);
    for index in 1..=300 {
        for shard in 1..=3 {
            block_on(log.commit(vec![logged(shard, index, 1, 1000), hard(shard, index)])).unwrap();
        }
        block_on(log.maintain()).unwrap();
    }
    // Shard 2 is truncated in the middle.
    block_on(log.commit(vec![logged(2, 150, 9, 10), logged(2, 151, 9, 10)])).unwrap();
    block_on(
        log.commit(vec![Record::Peer { store: StoreId::new(2, 1), incarnation: Incarnation(77) }, Record::Admitted]),
    )
    .unwrap();
    assert!(log.stats().segments > 5, "{:?}", log.stats());
    let (mut disk, mut log) = (disk, log);
    for _ in 0..3 {
        drop(log);
        disk = disk.crash_power();
        let (next, recovered) = open(&disk).unwrap();
        log = next;
        assert_eq!(indexes(&recovered, 1), (1..=300).map(|i| (i, 1)).collect::<Vec<_>>());
        assert_eq!(indexes(&recovered, 2), (1..150).map(|i| (i, 1)).chain([(150, 9), (151, 9)]).collect::<Vec<_>>());
        assert_eq!(recovered.shards[2].entries[299], entry(3, 300, 1, 1000));
        assert_eq!(recovered.shards[2].state.hard, HardState { term: 300, vote: Some(StoreId::new(1, 0)) });
        assert_eq!((recovered.admitted, &recovered.peers[..]), (true, &[(StoreId::new(2, 1), Incarnation(77))][..]));
    }
    for (shard, from) in [(1, 1), (3, 290), (2, 100)] {
        let read = block_on(log.read_entries(ShardId(shard), from, 20_000)).unwrap();
        assert!(read.len() > 5, "{}", read.len());
        assert!(read.iter().zip(from..).all(|(e, index)| e.index == index));
    }
    let replaced = block_on(log.read_entries(ShardId(2), 149, usize::MAX)).unwrap();
    assert_eq!(replaced, [entry(2, 149, 1, 1000), entry(2, 150, 9, 10), entry(2, 151, 9, 10)]);
}

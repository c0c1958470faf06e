//! The product's memtable, through a tree over a disk in memory.

use super::{Candidate, copy, each};
use crate::Bench;
use crate::data::Key;
use crate::drive::flush_to_memory;
use crate::report::Asked;
use bytes::Bytes;
use ringkv_benches::KEYSPACE;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::tree::{Lookup, Sought, Tree};
use ringkv_wire::ids::ShardId;

/// A tree with nothing but its memtable.
pub struct Product(Tree<FaultDisk>);

impl Product {
    pub fn new() -> Product {
        let options = EngineOptions { seed: 1, ..EngineOptions::default() };
        let engine = block_on(Engine::open(FaultDisk::new(1), "store-0000", options));
        Product(engine.expect("an empty disk opens").tree(ShardId(1)))
    }

    /// Writes it as a table.
    pub fn flush(self, bench: &mut Bench) {
        let entries = bench.scaled(super::ENTRIES);
        let took = each(entries, || flush_to_memory(&self.0, entries));
        bench.report.row("ringkv: flush to a disk in memory, a key", Asked::Nothing, took.as_nanos() as f64, "ns");
    }

    fn look(&self, wanted: &[Key], out: &mut Vec<u8>) {
        self.0.look(wanted.iter().map(|key| Sought::new(KEYSPACE, key)), |lookup| match lookup {
            Lookup::Found { value, .. } => copy(&[], value, out),
            _ => panic!("it was put"),
        });
    }
}

impl Candidate for Product {
    const SEEKS: usize = 5;

    fn put(&mut self, version: u64, key: &Key, value: Bytes) {
        self.0.put(version, KEYSPACE, key, value);
    }
    fn get(&self, key: &Key, out: &mut Vec<u8>) {
        self.look(std::slice::from_ref(key), out);
    }
    fn get_batch(&self, keys: &[Key], out: &mut Vec<u8>) {
        self.look(keys, out);
    }
    fn walk(&self, out: &mut Vec<u8>) -> usize {
        block_on(async {
            let (mut iter, mut count) = (self.0.iter(), 0);
            while let Some((_, key, value)) = iter.next().await.expect("nothing is read") {
                copy(&key, &value.value, out);
                count += 1;
            }
            count
        })
    }
    /// A tree is walked from its first key only.
    fn seek(&self, _: &Key, out: &mut Vec<u8>) {
        let mut iter = self.0.iter();
        let (_, key, value) = block_on(iter.next()).expect("nothing is read").expect("there are keys");
        copy(&key, &value.value, out);
    }
}

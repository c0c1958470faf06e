//! Random histories against a plain map.

use crate::harness::{Replica, log_time_ms, table_files};
use proptest::prelude::*;
use ringkv_storage::disk::fault::FaultDisk;

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u8, u16),
    /// Gone so many writes later.
    PutFor(u32, u8, u64),
    Delete(u32, u8),
    Flush,
    Merge,
    Restart,
    Kill,
    PowerCut,
    /// The machine stops after so many changes of the disk, whatever is being done then.
    StopAfter(u64),
    /// So many changes later the disk fails everything, until the next flush or merge has failed.
    FailAfter(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0u32..3, any::<u8>(), 0u16..700).prop_map(|(keyspace, key, bytes)| Step::Put(keyspace, key % 40, bytes)),
        10 => (0u32..3, any::<u8>(), 0u64..40).prop_map(|(keyspace, key, writes)| Step::PutFor(keyspace, key % 40, writes)),
        8 => (0u32..3, any::<u8>()).prop_map(|(keyspace, key)| Step::Delete(keyspace, key % 40)),
        5 => Just(Step::Flush),
        2 => Just(Step::Merge),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => (0u64..16).prop_map(Step::StopAfter),
        2 => (0u64..12).prop_map(Step::FailAfter),
    ]
}

struct Run {
    replica: Replica,
    power: bool,
    failing: bool,
}

impl Run {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(keyspace, key, bytes) => {
                let value = vec![self.replica.index() as u8; usize::from(*bytes)];
                self.replica.write(*keyspace, &[b'k', *key, *key], Some(&value));
            }
            Step::PutFor(keyspace, key, writes) => {
                let expiry_ms = log_time_ms(self.replica.index() + writes);
                self.replica.write_until(*keyspace, &[b'k', *key, *key], Some(b"for a while"), expiry_ms);
            }
            Step::Delete(keyspace, key) => self.replica.write(*keyspace, &[b'k', *key, *key], None),
            Step::Flush if self.replica.index() == 0 => {}
            Step::Flush => {
                let flushed = self.replica.flush();
                self.outcome(flushed.is_ok());
            }
            Step::Merge => {
                let merged = ringkv_storage::disk::fault::block_on(self.replica.tree.settle());
                self.outcome(merged.is_ok());
            }
            Step::Restart => self.reopen(self.replica.disk.alive()),
            Step::Kill => self.reopen(self.replica.disk.crash_process()),
            Step::PowerCut => self.reopen(self.replica.disk.crash_power()),
            Step::StopAfter(changes) => self.replica.disk.crash_after_writes(*changes),
            Step::FailAfter(changes) => {
                self.replica.disk.fail_after(*changes);
                self.failing = true;
            }
        }
    }

    /// A flush or merge ended: a machine that stopped meanwhile starts again, a failing disk heals.
    fn outcome(&mut self, ok: bool) {
        if self.replica.disk.is_down() {
            self.power = !self.power;
            let disk = if self.power { self.replica.disk.crash_power() } else { self.replica.disk.crash_process() };
            self.reopen(disk);
        }
        if !ok && std::mem::take(&mut self.failing) {
            self.replica.disk.heal();
            self.replica.check();
        }
    }

    fn reopen(&mut self, disk: FaultDisk) {
        disk.heal();
        self.failing = false;
        self.replica.reopen(disk).expect("crashes and reported errors leave nothing damaged");
        self.replica.check();
        let (files, tables) = (table_files(&self.replica.disk).len(), self.replica.tree.table_count());
        assert_eq!(files, tables, "no orphan outlives the opening");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_tree_is_the_log(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..150)) {
        let disk = FaultDisk::new(seed);
        disk.set_yields((seed % 3) as u32);
        let mut run = Run { replica: Replica::new(disk), power: false, failing: false };
        for step in &steps {
            run.step(step);
        }
        run.replica.disk.heal();
        run.replica.check();
    }
}

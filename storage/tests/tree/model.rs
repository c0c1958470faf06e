//! Random histories against a plain map.

use crate::harness::{Map, Replica, SHARD, log_time_ms, open, table_files, walk};
use crate::levels::{assert_no_strangers, base, levels};
use crate::snapshot::{ids, ship};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::tree::{Span, TableSet, TreeIter, Value, Way};
use ringkv_wire::ids::KeyspaceId;
use std::cell::Cell;
use std::ops::Bound;

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u8, u16),
    /// Gone so many writes later.
    PutFor(u32, u8, u64),
    Delete(u32, u8),
    Flush,
    /// The most urgent merge.
    Merge,
    /// All merges.
    Settle,
    /// A walk over a part of the tree is begun, and goes on whatever happens to the tree.
    Walk(u32, Option<u8>, Option<u8>, bool),
    /// All walks go so many keys on.
    GoOn(u8),
    /// The tables are pinned, to be shipped by the next step of this kind.
    Ship,
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
        30 => (0u32..3, any::<u8>(), 0u16..700).prop_map(|(keyspace, key, bytes)| Step::Put(keyspace, key, bytes)),
        10 => (0u32..3, any::<u8>(), 0u64..40).prop_map(|(keyspace, key, writes)| Step::PutFor(keyspace, key, writes)),
        8 => (0u32..3, any::<u8>()).prop_map(|(keyspace, key)| Step::Delete(keyspace, key)),
        5 => Just(Step::Flush),
        4 => Just(Step::Merge),
        1 => Just(Step::Settle),
        3 => (0u32..3, any::<Option<u8>>(), any::<Option<u8>>(), any::<bool>())
            .prop_map(|(keyspace, from, to, down)| Step::Walk(keyspace, from, to, down)),
        3 => (0u8..40).prop_map(Step::GoOn),
        3 => Just(Step::Ship),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => (0u64..16).prop_map(Step::StopAfter),
        2 => (0u64..12).prop_map(Step::FailAfter),
    ]
}

/// A walk, and what it has still to say.
struct Held {
    walk: TreeIter<FaultDisk>,
    left: Vec<(KeyspaceId, Bytes, Value)>,
    merges: u64,
}

impl Held {
    /// Goes so many keys on; false at the end.
    fn go_on(&mut self, keys: usize) -> bool {
        for _ in 0..keys {
            let got = block_on(self.walk.next()).expect("readable");
            assert_eq!(got, self.left.pop(), "the walk changed");
            if got.is_none() {
                return false;
            }
        }
        true
    }
}

/// What happened in all runs of a test.
#[derive(Default)]
struct Seen {
    /// Walks that ended after merges that came behind their beginning.
    held: Cell<u64>,
    /// Snapshots installed after such merges.
    shipped: Cell<u64>,
    /// Openings of trees with a level between.
    between: Cell<u64>,
}

struct Run<'s> {
    replica: Replica,
    /// Names are of so many keys.
    keys: u8,
    walks: Vec<Held>,
    pinned: Option<(TableSet<FaultDisk>, Map, u64)>,
    seen: &'s Seen,
    power: bool,
    failing: bool,
}

impl<'s> Run<'s> {
    fn new(replica: Replica, keys: u8, seen: &'s Seen) -> Run<'s> {
        Run { replica, keys, walks: Vec::new(), pinned: None, seen, power: false, failing: false }
    }

    fn name(&self, key: u8) -> [u8; 3] {
        [b'k', key % self.keys, 0]
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(keyspace, key, bytes) => {
                let value = vec![self.replica.index() as u8; usize::from(*bytes)];
                self.replica.write(*keyspace, &self.name(*key), Some(&value));
            }
            Step::PutFor(keyspace, key, writes) => {
                let expiry_ms = log_time_ms(self.replica.index() + writes);
                self.replica.write_until(*keyspace, &self.name(*key), Some(b"for a while"), expiry_ms);
            }
            Step::Delete(keyspace, key) => self.replica.write(*keyspace, &self.name(*key), None),
            Step::Flush if self.replica.index() == 0 => {}
            Step::Flush => {
                let flushed = self.replica.flush();
                self.outcome(flushed.is_ok());
            }
            Step::Merge => {
                let merged = block_on(self.replica.tree.merge());
                self.outcome(merged.is_ok());
            }
            Step::Settle => {
                let merged = block_on(self.replica.tree.settle());
                self.outcome(merged.is_ok());
            }
            Step::Walk(..) | Step::GoOn(_) | Step::Ship if self.replica.disk.is_down() => {}
            Step::Walk(keyspace, from, to, down) => self.begin(KeyspaceId(*keyspace), *from, *to, *down),
            Step::GoOn(keys) => self.go_on(usize::from(*keys)),
            Step::Ship => self.ship(),
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

    fn begin(&mut self, keyspace: KeyspaceId, from: Option<u8>, to: Option<u8>, down: bool) {
        let (from, to) = (from.map(|key| self.name(key)), to.map(|key| self.name(key)));
        let start = from.as_ref().map_or(Bound::Unbounded, |key| Bound::Included(key.as_slice()));
        let end = to.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        let way = if down { Way::Down } else { Way::Up };
        let walk = self.replica.tree.range(Span::of(keyspace, start, end), way);
        let inside = |key: &[u8]| from.is_none_or(|from| *key >= from[..]) && to.is_none_or(|to| *key < to[..]);
        let all = self.replica.expected(self.replica.tree.flushed().map_or(0, |at| at.index));
        let part = all.into_iter().filter(|((held, key), _)| *held == keyspace && inside(key));
        let mut left: Vec<_> = part.map(|((keyspace, key), value)| (keyspace, key, value)).collect();
        // What comes first is popped last.
        if way == Way::Up {
            left.reverse();
        }
        self.walks.push(Held { walk, left, merges: self.replica.engine.stats().merges });
    }

    fn go_on(&mut self, keys: usize) {
        let (merges, seen) = (self.replica.engine.stats().merges, self.seen);
        self.walks.retain_mut(|held| {
            let goes_on = held.go_on(keys);
            seen.held.set(seen.held.get() + u64::from(!goes_on && held.merges < merges));
            goes_on
        });
    }

    /// Pins the tables; when some were, they become another engine's.
    fn ship(&mut self) {
        let merges = self.replica.engine.stats().merges;
        let Some((set, expected, then)) = self.pinned.take() else {
            let set = self.replica.tree.tables();
            let flushed = set.at().index;
            let expected = self.replica.expected_at(flushed);
            self.pinned = Some((set, expected, merges));
            return;
        };
        let engine = open(&FaultDisk::new(merges), 1).expect("opens");
        let tree = engine.tree(SHARD);
        let receiver = tree.receive();
        assert!(ship(&set, &receiver, usize::MAX).expect("ships"));
        block_on(receiver.install(set.at(), &ids(&set))).expect("installs");
        assert_eq!(walk(&tree).expect("readable"), expected, "the pinned tables changed");
        self.seen.shipped.set(self.seen.shipped.get() + u64::from(then < merges));
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
        // Handles of the dead process read nothing.
        (self.walks, self.pinned) = (Vec::new(), None);
        self.replica.reopen(disk).expect("crashes and reported errors leave nothing damaged");
        self.replica.check();
        let (files, tables) = (table_files(&self.replica.disk).len(), self.replica.tree.table_count());
        assert_eq!(files, tables, "no orphan outlives the opening");
        let between = levels(&self.replica.disk).values().any(|level| (1..6).contains(level));
        self.seen.between.set(self.seen.between.get() + u64::from(between));
    }

    /// The disk is well again, walks end: everything is as it must be, and nothing is left behind.
    fn end(mut self) {
        if self.replica.disk.is_down() {
            let disk = self.replica.disk.crash_power();
            self.reopen(disk);
        }
        self.replica.disk.heal();
        self.replica.check();
        self.go_on(usize::MAX);
        self.pinned = None;
        self.replica.write(1, b"the last", Some(b"write"));
        self.replica.flush().expect("flushes");
        self.replica.check();
        assert_no_strangers(&self.replica.disk);
    }
}

fn histories(cases: u32, steps: usize, begin: impl Fn(u64) -> Replica, keys: u8) -> Seen {
    let (seen, persistence) = (Seen::default(), None);
    let config =
        ProptestConfig { cases, max_shrink_iters: 2000, failure_persistence: persistence, ..ProptestConfig::default() };
    let input = (any::<u64>(), prop::collection::vec(step(), 1..steps));
    let ran = TestRunner::new(config).run(&input, |(seed, steps)| {
        let replica = begin(seed);
        replica.disk.set_yields((seed % 3) as u32);
        let mut run = Run::new(replica, keys, &seen);
        steps.iter().for_each(|step| run.step(step));
        run.end();
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    seen
}

#[test]
fn the_tree_is_the_log() {
    let seen = histories(96, 150, |seed| Replica::new(FaultDisk::new(seed)), 40);
    let counts = (seen.held.get(), seen.shipped.get());
    assert!(counts.0 > 5 && counts.1 > 2, "{counts:?} walks and snapshots held over merges");
}

/// From a tree that has just outgrown its last level.
#[test]
fn a_tree_of_levels_is_the_log() {
    let base = base();
    let seen = histories(64, 150, |seed| base.fork(seed), crate::levels::KEYS);
    let counts = (seen.held.get(), seen.shipped.get(), seen.between.get());
    assert!(counts.0 > 5 && counts.1 > 2 && counts.2 > 20, "{counts:?}: walks, snapshots, levels between");
}

//! A small cluster whose disks are spoilt by hand.

use kvsim::clients::Clients;
use kvsim::cluster::{Cluster, shipped};
use kvsim::exec::{Executor, Group};
use kvsim::history::History;
use kvsim::load::Caller;
use kvsim::net::Quality;
use kvsim::plan::{Options, Plan};
use ringkv_core::raft::Role;
use ringkv_session::ReadLevel;
use ringkv_shard::config::Budgets;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::error::StorageError;
use std::cell::RefCell;
use std::rc::Rc;

const MS: u64 = 1_000_000;
/// A repair takes no longer than this when all is quiet, ms.
pub const SOON_MS: u64 = 20_000;
/// Keys of a scene.
pub const KEYS: u64 = 60;

/// One shard on as many nodes as it has replicas.
pub struct Scene {
    pub cluster: Rc<Cluster>,
    pub history: Rc<History>,
    pub caller: Caller,
    world: Group,
}

impl Scene {
    /// Started, with a leader that took a write. Nothing looks for rot by itself.
    pub fn new(seed: u64, nodes: usize) -> Scene {
        Scene::scrubbing(seed, nodes, 0)
    }

    /// The same; stores read their tables at a rate.
    pub fn scrubbing(seed: u64, nodes: usize, scrub_bytes_per_s: u64) -> Scene {
        let options = Options { nodes: Some(nodes), shards: Some(1), calm: true, ..Options::default() };
        let mut plan = Plan::new(seed, &options);
        plan.stores = 1;
        plan.lan = Quality::LAN;
        plan.budgets = Budgets {
            memtable_bytes: 4 << 10,
            cache_bytes: 16 << 10,
            table_bytes: 512,
            segment_bytes: 2 << 20,
            log_keep_bytes: 0,
            scrub_bytes_per_s,
            ..Budgets::default()
        };
        let exec = Executor::new(seed);
        let world = exec.group();
        let cluster = Rc::new(Cluster::new(exec.clone(), plan, shipped()));
        let history = Rc::new(History::new(exec, cluster.map.clone(), cluster.watch.clone()));
        (0..nodes).for_each(|n| cluster.start(n));
        let caller = Clients::new(cluster.clone(), history.clone()).caller(cluster.net.machine(), None);
        let scene = Scene { cluster, history, caller, world };
        assert!(scene.put("k0", 10), "the cluster begins");
        scene
    }

    /// Runs until `done` or for so long; whether it is done.
    pub fn until(&self, ms: u64, done: impl Fn() -> bool) -> bool {
        let exec = &self.cluster.exec;
        let until_ns = exec.now_ns() + ms * MS;
        let mut glance_ns = 0;
        loop {
            exec.drain();
            self.cluster.net.flush();
            if exec.now_ns() >= glance_ns {
                glance_ns = exec.now_ns() + 100 * MS;
                self.cluster.glance();
            }
            if self.cluster.watch.is_wrong() {
                panic!("{:?}", self.cluster.watch.take_wrong());
            }
            if done() {
                return true;
            }
            if !exec.advance(until_ns) {
                return false;
            }
        }
    }

    /// Runs what a caller does.
    fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let done = result.clone();
        self.cluster.exec.spawn(self.world, async move {
            let value = future.await;
            *done.borrow_mut() = Some(value);
        });
        assert!(self.until(120_000, || result.borrow().is_some()), "a call ends at its deadline");
        result.take().expect("just seen")
    }

    pub fn put(&self, key: &str, bytes: usize) -> bool {
        let (caller, key) = (self.caller.clone(), key.to_owned());
        self.run(async move { caller.put(&key, bytes, SOON_MS).await })
    }

    /// Whether a key is answered within so long.
    pub fn get(&self, n: u64, timeout_ms: u64) -> bool {
        let caller = self.caller.clone();
        self.run(async move { caller.get(&format!("k{n}"), timeout_ms, ReadLevel::Linearizable).await })
    }

    /// Puts every key; `bytes` in each value.
    pub fn fill(&self, bytes: usize) {
        (0..KEYS).for_each(|n| assert!(self.put(&format!("k{n}"), bytes), "k{n}"));
    }

    /// Until every node has so many tables.
    pub fn fill_tables(&self, tables: usize) {
        let few = |n: usize| self.tables(n).len() < tables;
        for _ in 0..20 {
            self.fill(700);
            if !(0..self.cluster.nodes.len()).any(few) {
                return;
            }
        }
        panic!("no tables after 20 rounds");
    }

    /// Every key is answered.
    pub fn read_all(&self) {
        (0..KEYS).for_each(|n| assert!(self.get(n, SOON_MS), "k{n} is not answered"));
    }

    pub fn disk(&self, n: usize) -> FaultDisk {
        self.cluster.nodes[n].disk()
    }

    /// Table files of a node, oldest first.
    pub fn tables(&self, n: usize) -> Vec<String> {
        self.disk(n).paths().into_iter().filter(|path| path.ends_with(".sst")).collect()
    }

    pub fn leader(&self) -> usize {
        let leads = |node: &ringkv_shard::config::StoreView| node.shards.iter().any(|s| s.role == Role::Leader);
        let found = || self.cluster.views().into_iter().find(leads);
        assert!(self.until(SOON_MS, || found().is_some()), "somebody leads");
        found().expect("just seen").id.node.0 as usize - 1
    }

    /// Rots the data blocks of a table.
    pub fn rot_blocks(&self, n: usize, path: &str) {
        let bytes = self.disk(n).peek(path).expect("there").len() as u64;
        (0..bytes / 4 * 3).step_by(512).for_each(|offset| assert!(self.disk(n).flip_bit(path, offset, 3)));
    }

    /// Rots the footer of a table: it does not open again.
    pub fn rot_footer(&self, n: usize, path: &str) {
        let bytes = self.disk(n).peek(path).expect("there").len() as u64;
        assert!(self.disk(n).flip_bit(path, bytes - 100, 3));
    }

    pub fn restart(&self, n: usize, power: bool) {
        self.cluster.kill(n, power);
        self.cluster.start(n);
    }

    /// What is wrong with the tables that a node's manifest names.
    pub fn damage(&self, n: usize) -> Option<StorageError> {
        let disk = self.disk(n).fork(1);
        disk.set_scheduler(Rc::new(|_| Box::pin(std::future::ready(()))));
        block_on(async {
            let engine = match Engine::open(disk.alive(), "store-0000", EngineOptions::default()).await {
                Ok(engine) => engine,
                Err(error) => return Some(error),
            };
            for shard in engine.shards() {
                let mut iter = engine.tree(shard).iter();
                loop {
                    match iter.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(error) => return Some(error),
                    }
                }
            }
            None
        })
    }

    /// Waits until a node's tables are sound.
    pub fn repaired(&self, n: usize) {
        for _ in 0..SOON_MS / 100 {
            if self.damage(n).is_none() {
                return;
            }
            self.until(100, || false);
        }
        panic!("node {} is not repaired after {SOON_MS} ms: {:?}", n + 1, self.damage(n));
    }

    /// Nothing wrong was ever read, all replicas come to the same entries.
    pub fn judge(&self) {
        self.read_all();
        let equal = || {
            let views = self.cluster.views();
            let applied: Vec<u64> = views.iter().flat_map(|view| view.shards.iter().map(|s| s.applied)).collect();
            applied.len() == self.cluster.nodes.len() && applied.iter().all(|index| *index == applied[0])
        };
        assert!(self.until(SOON_MS, equal), "replicas do not come to the same index");
        let findings = lincheck::check(&self.history.take()).findings;
        assert!(findings.is_empty(), "{}", findings[0]);
        self.cluster.clear();
    }
}

//! Nodes on the virtual network: started, watched, killed, started again from the same disks.

mod disks;

use crate::clock::MachineClock;
use crate::dice::{Dice, Stream};
use crate::events::{Event, Events};
use crate::exec::{Executor, Group};
use crate::host::{Parts, VirtualHost};
use crate::net::{Machine, Net};
use crate::plan::Plan;
use crate::watch::{Life, Watch};
pub use disks::DiskPace;
use ringkv_shard::config::{Control, StoreConfig, StoreError, StoreView};
use ringkv_shard::digest::Digesting;
use ringkv_shard::host::Host;
use ringkv_storage::disk::fault::{Fault, FaultDisk};
use ringkv_storage::error::StorageError;
use ringkv_wire::ids::{ClusterId, Incarnation, KeyspaceId, NodeId, ShardId, StoreId};
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, NodeInfo, PoolInfo};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

/// The keyspace that clients use.
pub const KEYSPACE: KeyspaceId = KeyspaceId(1);
/// How long a node may take to end when it is asked to, ns.
const SHUTDOWN_NS: u64 = 3_000_000_000;

/// What runs a store: [`ringkv_shard::store::run`], or a wrong one that the checks must catch.
pub type Runner = Rc<dyn Fn(VirtualHost, StoreConfig, Control) -> Pin<Box<dyn Future<Output = Ended>>>>;
type Ended = Result<(), StoreError>;

/// The shipped store.
pub fn shipped() -> Runner {
    Rc::new(|host, config, control| Box::pin(ringkv_shard::store::run(host, config, control)))
}

/// One store of a node, over all its lives.
struct Store {
    id: StoreId,
    incarnation: Incarnation,
    /// It has opened once: a log must be found from then on.
    made: Rc<Cell<bool>>,
    lives: Cell<u32>,
    /// Its present life.
    now: RefCell<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    life: Life,
    control: Control,
    ended: Rc<RefCell<Option<Ended>>>,
}

/// One node: a machine, its disk, and a process that may or may not run.
pub struct Node {
    /// Its machine.
    pub machine: Machine,
    /// Its machine's clocks.
    pub clock: Rc<MachineClock>,
    /// How fast its disk is.
    pub pace: Rc<DiskPace>,
    disk: RefCell<FaultDisk>,
    stores: Vec<Store>,
    process: Cell<Option<Group>>,
    damage: Rc<Cell<Damage>>,
}

/// What silent faults did to a node's disk, for good as far as the simulator knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// A store may stop with what it found, and stay down.
    pub any: bool,
    /// Reads may fail.
    pub tables: bool,
}

impl Node {
    /// Its disk, as it is now.
    pub fn disk(&self) -> FaultDisk {
        self.disk.borrow().clone()
    }

    /// What silent faults did to its disk.
    pub fn damage(&self) -> Damage {
        self.damage.get()
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.process.get().is_some()
    }
}

/// A cluster.
pub struct Cluster {
    /// Runs it.
    pub exec: Executor,
    /// Carries its bytes.
    pub net: Net,
    /// What is being run.
    pub plan: Plan,
    /// Its map.
    pub map: Arc<ClusterMap>,
    /// Its nodes, by number - 1.
    pub nodes: Vec<Node>,
    /// Checks every step.
    pub watch: Rc<Watch>,
    /// The last that happened to each node.
    pub events: Rc<Events>,
    /// What the stores of past lives have counted.
    counts: RefCell<BTreeMap<&'static str, u64>>,
    /// Disks were made to fail: a store that stops because of its disk is no surprise.
    pub disks_fail: Rc<Cell<bool>>,
    runner: Runner,
}

fn address(node: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], port))
}

fn map_of(plan: &Plan) -> ClusterMap {
    let member = |node: usize| NodeInfo {
        id: NodeId(node as u32 + 1),
        address: address(node, 7000),
        weight: 100,
        rack: String::new(),
        stores: (0..plan.stores).map(|store| address(node, 7001 + store as u16)).collect(),
    };
    let members: Vec<NodeInfo> = (0..plan.nodes).map(member).collect();
    let keyspace = KeyspaceInfo { id: KEYSPACE, name: "default".into(), pool: 1, routing: Routing::Whole };
    let pool = PoolInfo { id: 1, replicas: plan.replicas, shard_bits: plan.shard_bits };
    ClusterMap::from_members(ClusterId([7; 16]), &members, &[keyspace], &[pool])
}

impl Cluster {
    /// Machines and empty disks; nothing runs yet.
    pub fn new(exec: Executor, plan: Plan, runner: Runner) -> Cluster {
        let net = Net::new(exec.clone(), plan.seed, plan.lan);
        let dice = Dice::new(plan.seed, Stream::Plan, 1);
        let nodes: Vec<Node> = (0..plan.nodes).map(|n| new_node(&exec, &net, &plan, &dice, n)).collect();
        let (map, events) = (Arc::new(map_of(&plan)), Rc::new(Events::new(exec.clone())));
        let watch = Rc::new(Watch::new(exec.clone(), events.clone()));
        nodes.iter().for_each(|node| tell_durable(node, &watch));
        let counts = RefCell::default();
        Cluster { exec, net, map, plan, nodes, watch, events, counts, disks_fail: Rc::default(), runner }
    }

    /// Addresses that clients are given.
    pub fn seeds(&self) -> Vec<SocketAddr> {
        self.map.nodes.iter().map(|node| node.address).collect()
    }

    /// Starts a node's process, and its machine when that is down.
    pub fn start(&self, n: usize) {
        let node = &self.nodes[n];
        if node.is_up() {
            return;
        }
        self.exec.note(0x5741_0000 + n as u64);
        self.events.note(Some(n), Event::Starts);
        self.net.set_up(node.machine, true);
        let group = self.exec.group();
        node.process.set(Some(group));
        let mut ports = Vec::new();
        for store in &node.stores {
            let life = store.lives.get();
            store.lives.set(life + 1);
            let number = u64::from(store.id.node.0) << 8 | u64::from(store.id.store);
            let host = VirtualHost::new(Parts {
                exec: self.exec.clone(),
                net: self.net.clone(),
                machine: node.machine,
                group,
                clock: node.clock.clone(),
                disk: node.disk(),
                dice: Dice::new(self.plan.seed, Stream::Store, number << 20 | u64::from(life)),
            });
            ports.push((store.id.store, host.port()));
            let running = self.run_store(host, store, (store.id, life));
            *store.now.borrow_mut() = Some(running);
        }
        for (number, port) in &ports {
            self.net.listen(address(n, 7001 + number), group, [(*number, port.clone())]);
        }
        self.net.listen(address(n, 7000), group, ports);
    }

    fn run_store(&self, host: VirtualHost, store: &Store, life: Life) -> Running {
        let config = StoreConfig {
            id: store.id,
            incarnation: store.incarnation,
            map: self.map.clone(),
            dir: folder(store.id),
            made: store.made.get(),
            budgets: self.plan.budgets,
        };
        let control = Control::new();
        control.set_witness(self.watch.begins(life, &config));
        let made = store.made.clone();
        let events = self.events.clone();
        control.when_open(move || {
            made.set(true);
            events.opened(life.0);
        });
        let watch = self.watch.clone();
        host.set_ear(Rc::new(move |to, bytes| watch.says(life.0, to, bytes)));
        let running = Running { life, control: control.clone(), ended: Rc::default() };
        let ended = running.ended.clone();
        let run = (self.runner)(host.clone(), config, control);
        let damage = self.nodes[life.0.node.0 as usize - 1].damage.clone();
        let (watch, disks_fail, events) = (self.watch.clone(), self.disks_fail.clone(), self.events.clone());
        host.spawn(async move {
            let result = run.await;
            events.ended(life.0, result.is_ok());
            if let Err(error) = &result {
                judge_end(error, disks_fail.get(), damage.get(), &watch);
            }
            *ended.borrow_mut() = Some(result);
        });
        running
    }

    /// Looks at all stores that are open.
    pub fn glance(&self) {
        for store in self.nodes.iter().filter(|node| node.is_up()).flat_map(|node| &node.stores) {
            let running = store.now.borrow();
            let Some(running) = running.as_ref() else { continue };
            if let Some(view) = running.control.observe() {
                if view.failed && !self.disks_fail.get() && !self.damage_of(store.id).any {
                    self.watch.wrong(format!("{} failed though its disk did not", view.id));
                }
                self.watch.glanced(running.life, &view, &self.plan.budgets);
                self.events.looked(&view);
            }
        }
    }

    /// A log that, at rest, takes more of its disk than it may.
    pub fn large_log(&self) -> Option<String> {
        let up = self.nodes.iter().filter(|node| node.is_up());
        let mut stores = up.flat_map(|node| node.stores.iter().map(move |store| (node, store.id)));
        stores.find_map(|(node, store)| {
            let bytes = node.disk().used_below(&format!("{}/log/", folder(store)));
            self.watch.log_at_rest(store, bytes, &self.plan.budgets)
        })
    }

    /// Whether silent damage may be done to node `n`: in a run they stay fewer than a majority of a shard's replicas.
    pub fn may_damage(&self, n: usize) -> bool {
        let most = (usize::from(self.plan.replicas) - 1) / 2;
        let damaged = self.nodes.iter().filter(|node| node.damage.get().any).count();
        self.nodes[n].damage.get().any || damaged < most
    }

    /// Silent damage is done to node `n`.
    pub fn damaged(&self, n: usize, tables: bool) {
        let tables = tables || self.nodes[n].damage.get().tables;
        self.nodes[n].damage.set(Damage { any: true, tables });
        self.nodes[n].stores.iter().for_each(|store| self.watch.damaged(store.id));
    }

    /// What was silently done to the disk under a store.
    pub fn damage_of(&self, store: StoreId) -> Damage {
        self.nodes[store.node.0 as usize - 1].damage.get()
    }

    /// A node's disk is replaced by an empty one; its process must not run.
    pub fn wipe(&self, n: usize) {
        let node = &self.nodes[n];
        assert!(!node.is_up());
        let disk = FaultDisk::new(n as u64);
        disk.set_scheduler(node.pace.scheduler());
        *node.disk.borrow_mut() = disk;
        tell_durable(node, &self.watch);
        self.damaged(n, true);
    }

    /// Begins a digest of every replica that is whole.
    pub fn digests(&self) -> Vec<(StoreId, ShardId, Digesting)> {
        let mut all = Vec::new();
        for store in self.nodes.iter().filter(|node| node.is_up()).flat_map(|node| &node.stores) {
            let running = store.now.borrow();
            let Some(running) = running.as_ref() else { continue };
            let shards = self.map.shards.iter().map(|shard| shard.id);
            all.extend(shards.filter_map(|shard| Some((store.id, shard, running.control.digest(shard)?))));
        }
        all
    }

    /// Begins a digest of one replica; `None`: its store is down, or the replica is not whole.
    pub fn digest(&self, store: StoreId, shard: ShardId) -> Option<Digesting> {
        let stores = self.nodes.iter().filter(|node| node.is_up()).flat_map(|node| &node.stores);
        let running = stores.filter(|s| s.id == store).find_map(|s| s.now.borrow().clone());
        running?.control.digest(shard)
    }

    /// Views of all stores that are open.
    pub fn views(&self) -> Vec<StoreView> {
        let stores = self.nodes.iter().filter(|node| node.is_up()).flat_map(|node| &node.stores);
        stores.filter_map(|store| store.now.borrow().as_ref().and_then(|running| running.control.observe())).collect()
    }

    /// Kill -9 of a node's process; `power`: its machine goes dark.
    pub fn kill(&self, n: usize, power: bool) {
        let node = &self.nodes[n];
        let Some(group) = node.process.take() else { return };
        self.exec.note(0xdead_0000 + n as u64);
        self.events.note(Some(n), Event::Killed(power));
        self.exec.kill(group);
        self.net.process_died(group, power);
        for store in &node.stores {
            if let Some(running) = store.now.borrow_mut().take() {
                self.count(&running);
                running.control.detach();
            }
        }
        let disk = node.disk();
        let disk = if power { disk.crash_power() } else { disk.crash_process() };
        *node.disk.borrow_mut() = disk;
        node.pace.disarm();
        node.pace.set_hung(0);
        if power {
            self.net.set_up(node.machine, false);
            node.clock.reboot(self.exec.now_ns());
        }
    }

    /// Asks a node to end, and kills it when it does not.
    pub async fn shutdown(&self, n: usize) {
        let node = &self.nodes[n];
        let Some(group) = node.process.get() else { return };
        let running: Vec<Running> = node.stores.iter().filter_map(|store| store.now.borrow().clone()).collect();
        running.iter().for_each(|running| running.control.shutdown());
        let until = self.exec.now_ns() + SHUTDOWN_NS;
        let ended = |r: &Running| r.ended.borrow().is_some();
        while self.exec.now_ns() < until && !running.iter().all(ended) && node.process.get() == Some(group) {
            self.exec.sleep(10_000_000).await;
        }
        if node.process.get() == Some(group) {
            self.kill(n, false);
        }
    }

    /// Stops a node's process, or lets it go on.
    pub fn pause(&self, n: usize, paused: bool) {
        if let Some(group) = self.nodes[n].process.get() {
            self.exec.pause(group, paused);
            self.events.note(Some(n), Event::Paused(paused));
        }
    }

    /// Adds up what a store has counted in the life that ends.
    fn count(&self, running: &Running) {
        let refused = matches!(
            &*running.ended.borrow(),
            Some(Err(StoreError::Storage { source: StorageError::Damaged { .. }, .. }))
        );
        let mut counts = self.counts.borrow_mut();
        *counts.entry("damage_refused").or_default() += u64::from(refused);
        for (name, n) in running.control.counters() {
            *counts.entry(name).or_default() += n;
        }
    }

    /// What all stores have counted in all their lives that are over, and all disks.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.counts.borrow().clone();
        for (fault, n) in self.nodes.iter().flat_map(|node| node.disk().struck()) {
            if fault == Fault::FailedSync {
                *all.entry("disk_failed_sync").or_default() += n;
            }
        }
        all
    }

    /// Whether a store of this node has ended, is about to, or has a poisoned log.
    pub fn is_sick(&self, n: usize) -> bool {
        self.nodes[n].stores.iter().any(|store| {
            let running = store.now.borrow();
            running.as_ref().is_some_and(|running| {
                running.ended.borrow().is_some()
                    || running.control.stopping()
                    || running.control.observe().is_some_and(|view| view.failed)
            })
        })
    }

    /// Ends everything: breaks the circles of handles.
    pub fn clear(&self) {
        self.events.follow(false);
        (0..self.nodes.len()).for_each(|n| self.kill(n, false));
        self.exec.clear();
        self.net.clear();
    }
}

/// A store has ended by itself: a disk that fails is a reason, and so is damage that it finds where something was damaged.
fn judge_end(error: &StoreError, disks_fail: bool, damage: Damage, watch: &Watch) {
    let expected = match error {
        StoreError::Storage { source: StorageError::Disk(_) | StorageError::Poisoned { .. }, .. } => disks_fail,
        StoreError::Storage { .. } => false,
        StoreError::Config { .. } => return watch.wrong(format!("a store stopped: {error}")),
    };
    if !expected && !damage.any {
        watch.wrong(format!("a store stopped: {error}"));
    }
}

/// Tells the checks of what a node's disk makes durable in its stores' logs.
fn tell_durable(node: &Node, watch: &Rc<Watch>) {
    let logs: Vec<(String, StoreId)> =
        node.stores.iter().map(|store| (format!("{}/log/", folder(store.id)), store.id)).collect();
    let watch = watch.clone();
    node.disk().set_platter(Rc::new(move |path, offset, bytes| {
        let file = logs.iter().find_map(|(log, store)| Some((*store, path.strip_prefix(log.as_str())?)));
        if let Some((store, file)) = file {
            watch.durable(store, file, offset, bytes);
        }
    }));
}

/// A store's folder on its node's disk.
fn folder(store: StoreId) -> String {
    format!("store-{:04}", store.store)
}

fn new_node(exec: &Executor, net: &Net, plan: &Plan, dice: &Dice, n: usize) -> Node {
    let drift = dice.between(0, plan.drift_ppm) as i64 * if dice.chance(1, 2) { 1 } else { -1 };
    let clock = MachineClock::new(dice.between(0, 1 << 50), drift, dice.between(0, 400) as i64 - 200);
    let pace = Rc::new(DiskPace::new(exec.clone(), Dice::new(plan.seed, Stream::Disk, 2 * n as u64)));
    let disk = FaultDisk::new(Dice::new(plan.seed, Stream::Disk, 2 * n as u64 + 1).bits());
    disk.set_scheduler(pace.scheduler());
    let store = |store: usize| Store {
        id: StoreId::new(n as u32 + 1, store as u16),
        incarnation: Incarnation(dice.bits() | 1),
        made: Rc::default(),
        lives: Cell::new(0),
        now: RefCell::new(None),
    };
    Node {
        machine: net.machine(),
        clock: Rc::new(clock),
        pace,
        disk: RefCell::new(disk),
        stores: (0..plan.stores).map(store).collect(),
        process: Cell::new(None),
        damage: Rc::default(),
    }
}

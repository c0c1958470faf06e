//! One run: a cluster under load and faults, then quiet, then judgement.

use crate::audit::lost_writes;
use crate::client::PATIENT_MS;
use crate::clients::Clients;
use crate::cluster::{Cluster, Runner, shipped};
use crate::exec::{Executor, Group};
use crate::faults::{Caused, Faults};
use crate::history::History;
use crate::load::Caller;
use crate::plan::{Options, Plan};
use crate::report;
use crate::rover::{Rover, key_of_each};
use lincheck::Op;
use ringkv_core::raft::Role;
use ringkv_session::ReadLevel;
use ringkv_wire::ids::StoreId;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

const MS: u64 = 1_000_000;
/// How long after the last fault every shard must take writes again, ms.
const LIVE_MS: u64 = 10_000;
/// How long all replicas may then take to reach the same state, ns.
const AGREE_NS: u64 = 10_000 * MS;

/// Keys that the auditor reads at once: a thousand, one by one, take a store too long whose reads are slow and right.
const AUDIT_KEYS: usize = 50;
/// How often all stores are looked at as a whole, ns.
const GLANCE_NS: u64 = 1_000 * MS;

/// How often all replicas' states are digested under load, s.
const DIGEST_SECONDS: u64 = 10;
/// How often it is looked whether the replicas have come to the same index, ns.
const AGREE_LOOK_NS: u64 = 10 * MS;
/// How often a replica whose tree is being repaired is asked for its state again, ns.
const REPAIR_LOOK_NS: u64 = 500 * MS;

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Hash of all that happened.
    pub trace: u64,
    /// What is wrong; empty: nothing.
    pub wrong: Vec<String>,
    /// Operations asked, and how many of them were acknowledged.
    pub operations: (usize, usize),
    /// Elections won.
    pub elections: usize,
    /// Faults that were caused.
    pub faults: Vec<Caused>,
    /// How long the load lasted, or was to last, ns.
    pub load_ns: u64,
    /// Operations asked within the load, and how many of them were acknowledged.
    pub in_load: (usize, usize),
    /// Clients.
    pub clients: usize,
    /// What stores, logs, clients and disks have counted, in all their lives.
    pub counts: BTreeMap<String, u64>,
    /// When something is wrong: the last events of the nodes concerned, a line each.
    pub events: Vec<String>,
    /// Polls of tasks.
    pub polls: u64,
    /// Virtual time, ns.
    pub virtual_ns: u64,
    /// What clients asked and were told.
    pub history: Vec<Op>,
}

/// Runs a seed. A panic inside is something wrong.
pub fn run(seed: u64, options: &Options) -> Outcome {
    run_with(seed, options, shipped())
}

/// As [`run`], with another store.
pub fn run_with(seed: u64, options: &Options, runner: Runner) -> Outcome {
    let plan = Plan::new(seed, options);
    let exec = Executor::new(seed);
    let held = exec.clone();
    NOW.set(Some(exec.clone()));
    let run = Run::new(held, plan, runner, options);
    let (cluster, faults) = (run.cluster.clone(), run.faults.clone());
    let result = catch_unwind(AssertUnwindSafe(move || run.go()));
    NOW.set(None);
    match result {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let place = PANICKED.take().unwrap_or_default();
            let what = format!("at {} ms: panic at {place}: {}", exec.now_ns() / MS, text.unwrap_or_default());
            Outcome {
                trace: exec.trace(),
                events: cluster.events.last(&(0..cluster.plan.nodes).collect()),
                wrong: vec![what],
                virtual_ns: exec.now_ns(),
                faults: faults.caused(),
                load_ns: cluster.plan.load_ns,
                clients: cluster.plan.load.clients,
                ..Outcome::default()
            }
        }
    }
}

thread_local! {
    static PANICKED: Cell<Option<String>> = const { Cell::new(None) };
    static NOW: RefCell<Option<Executor>> = const { RefCell::new(None) };
}

/// Virtual time of the run that this thread is at, ns; 0 when there is none.
pub fn virtual_now_ns() -> u64 {
    NOW.with_borrow(|exec| exec.as_ref().map_or(0, Executor::now_ns))
}

/// From now on a panic says nothing at once: where it was is told with the outcome of its run.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| PANICKED.set(info.location().map(|place| place.to_string()))));
}

struct Run {
    cluster: Rc<Cluster>,
    history: Rc<History>,
    world: Group,
    clients: Rc<Clients>,
    faults: Rc<Faults>,
    /// When to look at all stores again, ns.
    glance_ns: Cell<u64>,
    /// When to say again how the stores are, ns.
    tell_ns: Cell<u64>,
    /// When to end though nothing is judged yet, ns.
    stop_ns: u64,
}

impl Run {
    fn new(exec: Executor, plan: Plan, runner: Runner, options: &Options) -> Run {
        let world = exec.group();
        let cluster = Rc::new(Cluster::new(exec.clone(), plan, runner));
        let history = Rc::new(History::new(exec, cluster.map.clone(), cluster.watch.clone()));
        let clients = Rc::new(Clients::new(cluster.clone(), history.clone()));
        let faults = Faults::new(cluster.clone(), clients.clone());
        Rover::start(&cluster, &clients, history.clone());
        let tell_ns = Cell::new(if options.verbose { options.quiet_ns } else { u64::MAX });
        cluster.events.follow(options.follow);
        let stop_ns = options.until_ns.unwrap_or(u64::MAX);
        let glance_ns = Cell::new(0);
        Run { cluster, history, world, clients, faults, glance_ns, tell_ns, stop_ns }
    }

    /// Runs until `done`, something wrong, or a time. Whether it is done.
    fn until(&self, until_ns: u64, done: impl Fn() -> bool) -> bool {
        let exec = &self.cluster.exec;
        loop {
            exec.drain();
            self.cluster.net.flush();
            if exec.now_ns() >= self.glance_ns.get() {
                self.glance_ns.set(exec.now_ns() + GLANCE_NS);
                self.cluster.glance();
                self.history.glance();
                let seconds = exec.now_ns() / GLANCE_NS;
                if seconds % DIGEST_SECONDS == DIGEST_SECONDS - 1 {
                    self.digest(None);
                }
            }
            if exec.now_ns() >= self.tell_ns.get() {
                self.tell_ns.set(exec.now_ns() + 1_000 * MS);
                tell(&self.cluster);
            }
            if done() {
                return true;
            }
            if self.cluster.watch.is_wrong() || !exec.advance(until_ns.min(self.stop_ns)) {
                return false;
            }
        }
    }

    fn go(self) -> Outcome {
        let (cluster, exec) = (&self.cluster, &self.cluster.exec);
        let plan = &cluster.plan;
        (0..plan.nodes).for_each(|n| cluster.start(n));
        (0..plan.load.clients).for_each(|n| self.clients.start(n));
        exec.spawn(self.world, self.faults.clone().run(plan.load_ns));
        self.until(plan.load_ns, || false);
        // Beyond the promise nothing has to come back: what was answered must be right all the same.
        if !cluster.watch.is_wrong() && !self.is_stopped() && !plan.beyond {
            self.faults.stop();
            self.come_to_rest();
        }
        if self.is_stopped() {
            tell(cluster);
        }
        let mut outcome = self.judge();
        cluster.clear();
        let counts = cluster.counts().into_iter().chain(self.history.counts());
        outcome.counts = counts.map(|(name, n)| (name.to_owned(), n)).collect();
        outcome
    }

    fn is_stopped(&self) -> bool {
        self.cluster.exec.now_ns() >= self.stop_ns
    }

    /// The faults are over: every shard takes writes, all that was acknowledged is there, the replicas agree.
    fn come_to_rest(&self) {
        let (cluster, exec) = (&self.cluster, &self.cluster.exec);
        let auditor = self.clients.caller(cluster.net.machine(), Some(PATIENT_MS));
        let (finished, wrong) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Vec::new())));
        let (done, found, caller) = (finished.clone(), wrong.clone(), auditor.clone());
        let (probes, keys) = (key_of_each(&cluster.map, "probe"), cluster.plan.load.keys);
        // A table that rotted may fail the reads that need it.
        let rotten = cluster.nodes.iter().any(|node| node.damage().tables);
        let timeout_ms = if rotten { 200 } else { LIVE_MS };
        exec.spawn(self.world, async move {
            let begun = exec_now(&caller);
            for (shard, key) in probes {
                let left_ms = LIVE_MS.saturating_sub((exec_now(&caller) - begun) / MS);
                if !caller.put(&key, 1, left_ms.max(1)).await {
                    found.borrow_mut().push(format!("{shard} takes no writes {LIVE_MS} ms after the last fault"));
                    break;
                }
            }
            let keys: Vec<String> = (0..keys).map(|n| format!("k{n}")).collect();
            for keys in keys.chunks(AUDIT_KEYS) {
                let got = caller.get_many(keys, timeout_ms, ReadLevel::Linearizable).await;
                if let Some(at) = got.iter().position(|got| !got && !rotten) {
                    found.borrow_mut().push(format!("{} cannot be read though all is quiet", keys[at]));
                    break;
                }
            }
            done.set(true);
        });
        let late = exec.now_ns() + 3 * LIVE_MS * MS;
        if !self.until(late, || finished.get()) && !cluster.watch.is_wrong() && !self.is_stopped() {
            cluster.watch.wrong("the auditor never had its answers".to_owned());
        }
        wrong.borrow_mut().drain(..).for_each(|what| cluster.watch.wrong(what));
        if !cluster.watch.is_wrong() && !self.is_stopped() {
            self.agree();
        }
    }

    /// All replicas come to the same applied index, and there to the same state.
    fn agree(&self) {
        let (exec, watch, next_ns) = (&self.cluster.exec, &self.cluster.watch, Cell::new(0));
        let late = exec.now_ns() + AGREE_NS;
        let agreed = || {
            let due = exec.now_ns() >= next_ns.get();
            if due {
                next_ns.set(exec.now_ns() + AGREE_LOOK_NS);
            }
            due && self.disagreement().is_none()
        };
        if !self.until(late, agreed) {
            if !watch.is_wrong() && !self.is_stopped() {
                let what = self.disagreement().unwrap_or_default();
                watch.wrong(format!("replicas do not come to the same state: {what}"));
            }
            return;
        }
        next_ns.set(0);
        let small = || {
            let due = exec.now_ns() >= next_ns.get();
            if due {
                next_ns.set(exec.now_ns() + AGREE_LOOK_NS);
            }
            due && self.cluster.large_log().is_none()
        };
        if !self.until(late, small) {
            let what = self.cluster.large_log().filter(|_| !watch.is_wrong() && !self.is_stopped());
            return what.into_iter().for_each(|what| watch.wrong(what));
        }
        let left = self.digest(Some(late - REPAIR_LOOK_NS));
        if !self.until(late, || left.get() == 0) && !watch.is_wrong() && !self.is_stopped() {
            watch.wrong("the replicas' states cannot be read to their ends".to_owned());
        }
    }

    /// Begins to digest all replicas; gives how many are left. `quiet`: nothing fails now, so none may; but a tree that was
    /// found damaged before is being repaired, and has until then.
    fn digest(&self, quiet: Option<u64>) -> Rc<Cell<usize>> {
        let digests = self.cluster.digests();
        let left = Rc::new(Cell::new(digests.len()));
        for (store, shard, digesting) in digests {
            let (cluster, left) = (self.cluster.clone(), left.clone());
            self.cluster.exec.spawn(self.world, async move {
                let (exec, watch) = (&cluster.exec, &cluster.watch);
                let mut digest = digesting.await;
                while digest.is_err() && quiet.is_some_and(|late| exec.now_ns() < late) {
                    exec.sleep(REPAIR_LOOK_NS).await;
                    let Some(digesting) = cluster.digest(store, shard) else { continue };
                    digest = digesting.await;
                }
                match digest {
                    Ok(digest) => watch.digested(store, shard, digest),
                    Err(error) if quiet.is_some() && !watch.is_damaged(store) => {
                        watch.wrong(format!("{store} {shard}: its state cannot be read: {error}"));
                    }
                    Err(_) => {}
                }
                left.set(left.get() - 1);
            });
        }
        left
    }

    fn disagreement(&self) -> Option<String> {
        let views = self.cluster.views();
        for shard in &self.cluster.map.shards {
            let of = views.iter().flat_map(|view| view.shards.iter().map(move |s| (view.id, s)));
            let here: Vec<_> = of.filter(|(_, s)| s.shard == shard.id).collect();
            // Who is damaged may be out; who leads with damage may be unable to tell the others what they miss.
            let damaged = |store: StoreId| self.cluster.damage_of(store).any;
            if here.iter().any(|(id, s)| damaged(*id) && s.role == Role::Leader) {
                continue;
            }
            let here: Vec<_> = here.into_iter().filter(|(id, _)| !damaged(*id)).collect();
            let expected = shard.replicas.iter().filter(|id| !damaged(**id)).count();
            let applied: BTreeSet<u64> = here.iter().map(|(_, s)| s.applied).collect();
            if here.len() != expected || applied.len() != 1 {
                let text: Vec<String> = here
                    .iter()
                    .map(|(id, s)| format!("{id} {:?} t{} applied {}/{}", s.role, s.term, s.applied, s.last_index))
                    .collect();
                return Some(format!("{}: {}", shard.id, text.join(", ")));
            }
        }
        None
    }

    fn judge(&self) -> Outcome {
        let (cluster, plan) = (&self.cluster, &self.cluster.plan);
        let history = self.history.take();
        let mut wrong = cluster.watch.take_wrong();
        if !self.is_stopped() {
            wrong.extend(lost_writes(&history));
            wrong.extend(lincheck::check(&history).findings.iter().map(|finding| finding.to_string()));
        }
        let acknowledged = |ops: &mut dyn Iterator<Item = &Op>| {
            ops.fold((0, 0), |(n, ok), op| (n + 1, ok + usize::from(op.outcome == lincheck::Outcome::Ok)))
        };
        let events = if wrong.is_empty() { Vec::new() } else { report::last_events(cluster, &history, &wrong) };
        Outcome {
            trace: cluster.exec.trace(),
            wrong,
            operations: acknowledged(&mut history.iter()),
            elections: cluster.watch.elections(),
            faults: self.faults.caused(),
            load_ns: plan.load_ns,
            in_load: acknowledged(&mut history.iter().filter(|op| op.call < plan.load_ns)),
            clients: plan.load.clients,
            counts: BTreeMap::new(),
            events,
            polls: cluster.exec.polls(),
            virtual_ns: cluster.exec.now_ns(),
            history,
        }
    }
}

/// Says how the stores are. No task does it: it must not disturb the run.
fn tell(cluster: &Cluster) {
    tracing::info!(target: "kvsim", "{} connections", cluster.net.connections());
    for (n, _) in cluster.nodes.iter().enumerate().filter(|(_, node)| !node.is_up()) {
        tracing::info!(target: "kvsim", "n{}: down", n + 1);
    }
    for view in cluster.views() {
        let shards = view.shards.iter().map(|s| {
            let leader = s.leader.map_or("-".to_owned(), |leader| leader.to_string());
            let (commit, last) = (s.commit, s.last_index);
            format!("{} {:?} t{} of {leader} {}/{commit}/{last}", s.shard, s.role, s.term, s.applied)
        });
        let shards: Vec<String> = shards.collect();
        let (admitted, failed, memtables) = (view.admitted, view.failed, view.memtable_bytes);
        tracing::info!(target: "kvsim", "{}: admitted {admitted} failed {failed} memtables {memtables}: {}", view.id, shards.join("; "));
    }
}

fn exec_now(caller: &Caller) -> u64 {
    caller.client.host().exec().now_ns()
}

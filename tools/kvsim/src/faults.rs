//! Who causes the faults: picks one, lets it last, undoes it, and again, until the load ends.

use crate::cluster::Cluster;
use crate::dice::{Dice, Stream};
use crate::exec::Group;
use crate::net::{Machine, Quality};
use crate::plan::FaultKind;
use ringkv_storage::disk::fault::{Fault, Injection};
use std::cell::RefCell;
use std::rc::Rc;

const MS: u64 = 1_000_000;

/// A fault that was caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caused {
    /// Its ordinal among all faults of the seed, those left out included.
    pub ordinal: u32,
    /// Its kind.
    pub kind: FaultKind,
    /// When, virtual ns.
    pub at_ns: u64,
}

/// Causes faults until `until_ns`, then undoes all of them.
pub struct Faults {
    cluster: Rc<Cluster>,
    /// Of one fault.
    dice: Dice,
    clients: Vec<Machine>,
    /// Those under way.
    group: Group,
    caused: Rc<RefCell<Vec<Caused>>>,
}

impl Faults {
    /// Faults for this cluster and these client machines.
    pub fn new(cluster: Rc<Cluster>, clients: Vec<Machine>) -> Rc<Faults> {
        let group = cluster.exec.group();
        Rc::new(Faults { dice: dice_of(&cluster, 0), cluster, clients, group, caused: Rc::default() })
    }

    /// The same with the dice of fault `ordinal`: what one fault draws changes no other.
    fn one(&self, ordinal: u32) -> Faults {
        Faults {
            cluster: self.cluster.clone(),
            dice: dice_of(&self.cluster, ordinal),
            clients: self.clients.clone(),
            group: self.group,
            caused: self.caused.clone(),
        }
    }

    /// Causes faults, several at a time, until `until_ns`.
    pub async fn run(self: Rc<Faults>, until_ns: u64) {
        let exec = self.cluster.exec.clone();
        let plan = &self.cluster.plan;
        if plan.faults.is_empty() {
            return;
        }
        for ordinal in 0.. {
            let one = self.one(ordinal);
            exec.sleep(one.dice.between(plan.fault_gap_ns.0, plan.fault_gap_ns.1)).await;
            if exec.now_ns() >= until_ns {
                return;
            }
            let kind = *one.dice.pick(&plan.faults);
            if plan.skip_faults.contains(ordinal) {
                continue;
            }
            exec.note(0xfa17_0000 + kind as u64);
            tracing::info!(ms = exec.now_ns() / MS, ordinal, ?kind, "fault");
            self.caused.borrow_mut().push(Caused { ordinal, kind, at_ns: exec.now_ns() });
            exec.spawn(self.group, async move { one.cause(kind, until_ns).await });
        }
    }

    /// What was caused so far, in order.
    pub fn caused(&self) -> Vec<Caused> {
        self.caused.borrow().clone()
    }

    fn node(&self) -> usize {
        self.dice.below(self.cluster.nodes.len() as u64) as usize
    }

    fn machine(&self, n: usize) -> Machine {
        self.cluster.nodes[n].machine
    }

    /// Any two different machines, at least one of them a node's.
    fn pair(&self) -> (Machine, Machine) {
        let a = self.machine(self.node());
        let mut all: Vec<Machine> = self.cluster.nodes.iter().map(|node| node.machine).collect();
        all.extend(&self.clients);
        all.retain(|m| *m != a);
        let b = *self.dice.pick(&all);
        if self.dice.chance(1, 2) { (a, b) } else { (b, a) }
    }

    async fn last(&self, low_ms: u64, high_ms: u64, until_ns: u64) {
        let exec = &self.cluster.exec;
        let end = exec.now_ns() + self.dice.between(low_ms, high_ms) * MS;
        exec.sleep_until(end.min(until_ns)).await;
    }

    async fn cause(&self, kind: FaultKind, until_ns: u64) {
        let cluster = &self.cluster;
        let n = self.node();
        match kind {
            FaultKind::KillProcess | FaultKind::PowerLoss => {
                cluster.kill(n, kind == FaultKind::PowerLoss);
                self.last(20, 3_000, until_ns).await;
                cluster.start(n);
            }
            FaultKind::Blackout => {
                (0..cluster.nodes.len()).for_each(|n| cluster.kill(n, true));
                for n in 0..cluster.nodes.len() {
                    self.last(0, 1_000, until_ns).await;
                    cluster.start(n);
                }
            }
            FaultKind::Shutdown => {
                cluster.shutdown(n).await;
                self.last(20, 2_000, until_ns).await;
                cluster.start(n);
            }
            FaultKind::Isolate => self.isolate(n, until_ns).await,
            FaultKind::CutPair | FaultKind::CutOneWay => self.cut(kind == FaultKind::CutPair, until_ns).await,
            FaultKind::Reset => {
                let (a, b) = self.pair();
                cluster.net.reset_one(a, b);
            }
            FaultKind::BadLink => self.bad_link(until_ns).await,
            FaultKind::Pause => {
                cluster.pause(n, true);
                self.last(20, 5_000, until_ns).await;
                cluster.pause(n, false);
            }
            FaultKind::ClockJump => {
                let jump = *self.dice.pick(&[1_000, 60_000, 3_600_000, 86_400_000]);
                let sign = if self.dice.chance(1, 2) { 1 } else { -1 };
                // One clock at a time: the median of the voters' clocks stays right.
                cluster.nodes.iter().for_each(|node| node.clock.set_wall(0));
                cluster.nodes[n].clock.set_wall(jump * sign);
            }
            FaultKind::SlowDisk | FaultKind::DiskError | FaultKind::DiskFull => self.disk(kind, n, until_ns).await,
        }
    }

    async fn isolate(&self, n: usize, until_ns: u64) {
        let me = self.machine(n);
        let mut others: Vec<Machine> = self.cluster.nodes.iter().map(|node| node.machine).collect();
        if self.dice.chance(1, 2) {
            others.extend(&self.clients);
        }
        others.retain(|m| *m != me);
        let cut = |cut| {
            for other in &others {
                self.cluster.net.set_cut(me, *other, cut);
                self.cluster.net.set_cut(*other, me, cut);
            }
        };
        cut(true);
        self.last(50, 6_000, until_ns).await;
        cut(false);
    }

    async fn cut(&self, both: bool, until_ns: u64) {
        let (a, b) = self.pair();
        let net = &self.cluster.net;
        // A link that is cut for long, or one that flaps.
        for _ in 0..*self.dice.pick(&[1, 1, 10]) {
            net.set_cut(a, b, true);
            net.set_cut(b, a, both);
            self.last(50, 3_000, until_ns).await;
            net.set_cut(a, b, false);
            net.set_cut(b, a, false);
            self.last(50, 500, until_ns).await;
        }
    }

    async fn bad_link(&self, until_ns: u64) {
        let (a, b) = self.pair();
        let bad = Quality {
            delay_ns: *self.dice.pick(&[(MS, 20 * MS), (20 * MS, 100 * MS)]),
            stalls: *self.dice.pick(&[100, 1_000, 3_000]),
            stall_ns: (100 * MS, 1_000 * MS),
            bytes_per_s: *self.dice.pick(&[125_000, 12_500_000]),
        };
        self.cluster.net.set_quality(a, b, Some(bad));
        self.cluster.net.set_quality(b, a, Some(bad));
        self.last(200, 8_000, until_ns).await;
        self.cluster.net.set_quality(a, b, None);
        self.cluster.net.set_quality(b, a, None);
    }

    async fn disk(&self, kind: FaultKind, n: usize, until_ns: u64) {
        let node = &self.cluster.nodes[n];
        match kind {
            FaultKind::SlowDisk => {
                node.pace.set_slow(*self.dice.pick(&[(5 * MS, 20 * MS), (100 * MS, 500 * MS)]));
                self.last(200, 5_000, until_ns).await;
                node.pace.set_slow((0, 0));
            }
            FaultKind::DiskFull => {
                self.cluster.disks_fail.set(true);
                node.disk().set_capacity(Some(node.disk().used()));
                self.last(500, 5_000, until_ns).await;
                node.disk().set_capacity(None);
                self.restart_sick(n);
            }
            _ => {
                self.cluster.disks_fail.set(true);
                let fault = *self.dice.pick(&[Fault::FailedSync, Fault::Eio, Fault::TornWrite, Fault::ShortWrite]);
                let path = (*self.dice.pick(&["", "/log", "/tables"])).to_owned();
                node.disk().inject(Injection { path, skip: self.dice.below(50), fault });
                self.last(500, 4_000, until_ns).await;
                self.restart_sick(n);
            }
        }
    }

    /// An operator restarts a node whose store has stopped or takes no more writes.
    fn restart_sick(&self, n: usize) {
        if self.cluster.is_sick(n) {
            self.cluster.kill(n, false);
            self.cluster.start(n);
        }
    }

    /// Undoes everything and starts what is down.
    pub fn stop(&self) {
        let cluster = &self.cluster;
        cluster.exec.kill(self.group);
        let machines: Vec<Machine> =
            cluster.nodes.iter().map(|node| node.machine).chain(self.clients.iter().copied()).collect();
        for &a in &machines {
            for &b in &machines {
                cluster.net.set_cut(a, b, false);
                cluster.net.set_quality(a, b, None);
            }
        }
        for (n, node) in cluster.nodes.iter().enumerate() {
            node.disk().heal();
            node.pace.set_slow((0, 0));
            cluster.pause(n, false);
            if cluster.is_sick(n) {
                cluster.kill(n, false);
            }
            cluster.start(n);
        }
    }
}

fn dice_of(cluster: &Cluster, ordinal: u32) -> Dice {
    Dice::new(cluster.plan.seed, Stream::Fault, u64::from(ordinal))
}

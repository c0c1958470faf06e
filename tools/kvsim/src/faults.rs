//! Who causes the faults: picks one, lets it last, undoes it, and again, until the load ends.
//!
//! Faults are numbered, and each has its own dice: so one can be left out and the others stay what they were.

mod clock;
mod disk;
mod net;
mod node;
mod silent;

use crate::clients::Clients;
use crate::cluster::{Cluster, Node};
use crate::dice::{Dice, Stream};
use crate::events::Event;
use crate::exec::Group;
use crate::net::Machine;
use crate::plan::FaultKind;
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

/// Causes faults until a time, then undoes all of them.
pub struct Faults {
    cluster: Rc<Cluster>,
    clients: Rc<Clients>,
    /// Those under way.
    group: Group,
    caused: RefCell<Vec<Caused>>,
}

/// One fault, from its beginning to its end.
struct Fault {
    faults: Rc<Faults>,
    kind: FaultKind,
    dice: Dice,
    until_ns: u64,
}

impl Faults {
    /// Faults for this cluster and these clients.
    pub fn new(cluster: Rc<Cluster>, clients: Rc<Clients>) -> Rc<Faults> {
        let group = cluster.exec.group();
        Rc::new(Faults { cluster, clients, group, caused: RefCell::default() })
    }

    /// Causes faults, several at a time, until `until_ns`.
    pub async fn run(self: Rc<Faults>, until_ns: u64) {
        let (exec, plan) = (self.cluster.exec.clone(), &self.cluster.plan);
        if plan.faults.is_empty() {
            return;
        }
        for ordinal in 0.. {
            let dice = Dice::new(plan.seed, Stream::Fault, u64::from(ordinal));
            exec.sleep(dice.between(plan.fault_gap_ns.0, plan.fault_gap_ns.1)).await;
            if exec.now_ns() >= until_ns {
                return;
            }
            let kind = *dice.pick(&plan.faults);
            if plan.skip_faults.contains(ordinal) {
                continue;
            }
            exec.note(0xfa17_0000 + kind as u64);
            self.cluster.events.note(None, Event::Fault(ordinal, kind));
            self.caused.borrow_mut().push(Caused { ordinal, kind, at_ns: exec.now_ns() });
            let fault = Fault { faults: self.clone(), kind, dice, until_ns };
            exec.spawn(self.group, async move { fault.cause().await });
        }
    }

    /// What was caused so far, in order.
    pub fn caused(&self) -> Vec<Caused> {
        self.caused.borrow().clone()
    }

    /// Undoes everything and starts what is down.
    pub fn stop(&self) {
        let cluster = &self.cluster;
        cluster.exec.kill(self.group);
        let machines: Vec<Machine> =
            cluster.nodes.iter().map(|node| node.machine).chain(self.clients.machines()).collect();
        for &a in &machines {
            for &b in &machines {
                cluster.net.set_cut(a, b, false);
                cluster.net.set_quality(a, b, None);
            }
        }
        for (n, node) in cluster.nodes.iter().enumerate() {
            node.disk().heal();
            node.pace.set_slow((0, 0));
            node.pace.set_hung(0);
            node.pace.disarm();
            cluster.pause(n, false);
            if cluster.is_sick(n) {
                cluster.kill(n, false);
            }
            cluster.start(n);
        }
    }
}

impl Fault {
    async fn cause(&self) {
        use FaultKind::*;
        match self.kind {
            KillProcess | PowerLoss | Blackout | KillAll | KillAtStep | CrashInRecovery | Shutdown | Pause
            | ClientKill | Wipe => self.to_node().await,
            ClockJump | ClockDrift | ClockRun | ClockLeap | WallClocks => self.to_clock(),
            Isolate | Split | CutPair | CutOneWay | Flap | ClientCut | Reset | HalfOpen | OldMessages | BadLink
            | AlterBytes => self.to_net().await,
            SlowDisk | HangDisk | FailedSync | TornWrite | Eio | BadRange | DiskFull => self.to_disk().await,
            RotLog | RotTable | RotManifest | LostWrite | MisdirectedWrite | MisdirectedRead => self.in_silence(),
        }
    }

    fn cluster(&self) -> &Cluster {
        &self.faults.cluster
    }

    fn nodes(&self) -> &[Node] {
        &self.faults.cluster.nodes
    }

    /// Any node.
    fn node(&self) -> usize {
        self.dice.below(self.nodes().len() as u64) as usize
    }

    /// Lasts so long, or until all faults end.
    async fn last(&self, low_ms: u64, high_ms: u64) {
        let exec = &self.cluster().exec;
        let end = exec.now_ns() + self.dice.between(low_ms, high_ms) * MS;
        exec.sleep_until(end.min(self.until_ns)).await;
    }

    /// An operator restarts a node whose store has stopped or has a poisoned log.
    fn restart_sick(&self, n: usize) {
        let cluster = self.cluster();
        if cluster.is_sick(n) {
            cluster.kill(n, false);
            cluster.start(n);
        }
    }
}

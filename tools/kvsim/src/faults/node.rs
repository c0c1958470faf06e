//! Faults of machines and processes.

use super::{Fault, MS};
use crate::plan::FaultKind;
use std::cell::Cell;
use std::rc::Rc;

impl Fault {
    pub(super) async fn to_node(&self) {
        let (cluster, n) = (self.cluster(), self.node());
        match self.kind {
            FaultKind::KillProcess | FaultKind::PowerLoss => {
                cluster.kill(n, self.kind == FaultKind::PowerLoss);
                self.last(20, 3_000).await;
                cluster.start(n);
            }
            FaultKind::Blackout | FaultKind::KillAll => self.all_down(self.kind == FaultKind::Blackout).await,
            FaultKind::KillAtStep => self.kill_at_step(n).await,
            FaultKind::CrashInRecovery => self.crash_in_recovery(n).await,
            FaultKind::Shutdown => {
                cluster.shutdown(n).await;
                self.last(20, 2_000).await;
                cluster.start(n);
            }
            FaultKind::Pause => {
                cluster.pause(n, true);
                self.last(20, *self.dice.pick(&[200, 1_000, 5_000])).await;
                cluster.pause(n, false);
            }
            FaultKind::Wipe => {
                cluster.kill(n, true);
                cluster.wipe(n);
                self.last(20, 2_000).await;
                cluster.start(n);
            }
            _ => self.client_kill().await,
        }
    }

    async fn client_kill(&self) {
        let clients = &self.faults.clients;
        let n = self.dice.below(self.cluster().plan.load.clients as u64) as usize;
        clients.kill(n);
        self.last(0, 1_000).await;
        clients.start(n);
    }

    async fn all_down(&self, power: bool) {
        let mut order: Vec<usize> = (0..self.nodes().len()).collect();
        order.iter().for_each(|&n| self.cluster().kill(n, power));
        while !order.is_empty() {
            self.last(0, 800).await;
            let n = order.swap_remove(self.dice.below(order.len() as u64) as usize);
            self.cluster().start(n);
        }
    }

    async fn kill_at_step(&self, n: usize) {
        let (cluster, power, dead) = (self.faults.cluster.clone(), self.dice.chance(1, 2), Rc::new(Cell::new(false)));
        let (exec, until_ns) = (cluster.exec.clone(), self.until_ns);
        let told = dead.clone();
        exec.after_polls(self.dice.below(5_000), move || {
            // A step that comes only after the faults are over kills nobody: who would start it again?
            if cluster.exec.now_ns() < until_ns {
                cluster.kill(n, power);
                told.set(true);
            }
        });
        while !dead.get() && exec.now_ns() < self.until_ns {
            exec.sleep(5 * MS).await;
        }
        self.last(20, 2_000).await;
        self.cluster().start(n);
    }

    /// The second death, and those after it, come while the log is being read, rewritten, or just opened.
    async fn crash_in_recovery(&self, n: usize) {
        let exec = &self.cluster().exec;
        self.cluster().kill(n, self.dice.chance(1, 2));
        for _ in 0..self.dice.between(1, 3) {
            self.last(5, 200).await;
            let (cluster, power, dead) =
                (self.faults.cluster.clone(), self.dice.chance(1, 2), Rc::new(Cell::new(false)));
            let told = dead.clone();
            self.nodes()[n].pace.trap(self.dice.below(60), move || {
                cluster.kill(n, power);
                told.set(true);
            });
            self.cluster().start(n);
            let late = (exec.now_ns() + 500 * MS).min(self.until_ns);
            while !dead.get() && exec.now_ns() < late {
                exec.sleep(5 * MS).await;
            }
        }
        self.nodes()[n].pace.disarm();
        self.last(5, 1_000).await;
        self.cluster().start(n);
    }
}

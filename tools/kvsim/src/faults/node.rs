//! Faults of machines, processes and clocks.

use super::Fault;
use crate::plan::FaultKind;

impl Fault {
    pub(super) async fn to_node(&self) {
        let (cluster, n) = (self.cluster(), self.node());
        match self.kind {
            FaultKind::KillProcess | FaultKind::PowerLoss => {
                cluster.kill(n, self.kind == FaultKind::PowerLoss);
                self.last(20, 3_000).await;
                cluster.start(n);
            }
            FaultKind::Blackout => self.blackout().await,
            FaultKind::Shutdown => {
                cluster.shutdown(n).await;
                self.last(20, 2_000).await;
                cluster.start(n);
            }
            FaultKind::Pause => {
                cluster.pause(n, true);
                self.last(20, 5_000).await;
                cluster.pause(n, false);
            }
            FaultKind::ClientKill => {
                let clients = &self.faults.clients;
                let n = self.dice.below(cluster.plan.load.clients as u64) as usize;
                clients.kill(n);
                self.last(0, 1_000).await;
                clients.start(n);
            }
            _ => self.clock_jump(n),
        }
    }

    async fn blackout(&self) {
        let mut order: Vec<usize> = (0..self.nodes().len()).collect();
        order.iter().for_each(|&n| self.cluster().kill(n, true));
        while !order.is_empty() {
            self.last(0, 1_000).await;
            let n = order.swap_remove(self.dice.below(order.len() as u64) as usize);
            self.cluster().start(n);
        }
    }

    fn clock_jump(&self, n: usize) {
        let jump = *self.dice.pick(&[1_000, 60_000, 3_600_000, 86_400_000]);
        let sign = if self.dice.chance(1, 2) { 1 } else { -1 };
        // One clock at a time: the median of the voters' clocks stays right.
        self.nodes().iter().for_each(|node| node.clock.set_wall(0));
        self.nodes()[n].clock.set_wall(jump * sign);
    }
}

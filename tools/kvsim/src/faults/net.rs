//! Faults of the network.

use super::{Fault, MS};
use crate::net::{Machine, Net, Quality};
use crate::plan::FaultKind;

impl Fault {
    pub(super) async fn to_net(&self) {
        match self.kind {
            FaultKind::Isolate => self.isolate().await,
            FaultKind::Split => self.split().await,
            FaultKind::CutPair | FaultKind::CutOneWay => self.cut(self.kind == FaultKind::CutPair).await,
            FaultKind::Flap => self.flap().await,
            FaultKind::ClientCut => self.client_cut().await,
            FaultKind::Reset => {
                let (a, b) = self.pair();
                self.net().reset_one(a, b);
            }
            FaultKind::HalfOpen => {
                let (a, b) = self.pair();
                self.net().half_open(a, b, self.dice.between(1, 10_000) * MS);
            }
            FaultKind::OldMessages => self.old_messages().await,
            _ => self.bad_link().await,
        }
    }

    fn net(&self) -> &Net {
        &self.cluster().net
    }

    fn machines(&self) -> Vec<Machine> {
        self.nodes().iter().map(|node| node.machine).collect()
    }

    /// Any two different machines, at least one of them a node's.
    fn pair(&self) -> (Machine, Machine) {
        let a = self.nodes()[self.node()].machine;
        let mut all = self.machines();
        all.extend(self.faults.clients.machines());
        all.retain(|m| *m != a);
        let b = *self.dice.pick(&all);
        if self.dice.chance(1, 2) { (a, b) } else { (b, a) }
    }

    /// Cuts every link between the two sides, or heals them.
    fn part(&self, one: &[Machine], other: &[Machine], cut: bool) {
        for &a in one {
            for &b in other {
                self.net().set_cut(a, b, cut);
                self.net().set_cut(b, a, cut);
            }
        }
    }

    async fn isolate(&self) {
        let me = self.nodes()[self.node()].machine;
        let mut others = self.machines();
        if self.dice.chance(1, 2) {
            others.extend(self.faults.clients.machines());
        }
        others.retain(|m| *m != me);
        self.part(&[me], &others, true);
        self.last(50, 6_000).await;
        self.part(&[me], &others, false);
    }

    async fn client_cut(&self) {
        let client = *self.dice.pick(&self.faults.clients.machines());
        self.part(&[client], &self.machines(), true);
        self.last(50, 4_000).await;
        self.part(&[client], &self.machines(), false);
    }

    /// Each node and client falls to one side; some clients reach both.
    async fn split(&self) {
        let mut sides = [Vec::new(), Vec::new()];
        let first = self.node();
        for (n, machine) in self.machines().into_iter().enumerate() {
            // Neither side is empty.
            let side = if n == first {
                0
            } else if n == (first + 1) % self.nodes().len() {
                1
            } else {
                self.dice.below(2)
            };
            sides[side as usize].push(machine);
        }
        for client in self.faults.clients.machines() {
            if let Some(side) = sides.get_mut(self.dice.below(3) as usize) {
                side.push(client);
            }
        }
        self.part(&sides[0], &sides[1], true);
        self.last(50, 6_000).await;
        self.part(&sides[0], &sides[1], false);
    }

    async fn cut(&self, both: bool) {
        let (a, b) = self.pair();
        self.net().set_cut(a, b, true);
        self.net().set_cut(b, a, both);
        self.last(50, 6_000).await;
        self.net().set_cut(a, b, false);
        self.net().set_cut(b, a, false);
    }

    async fn flap(&self) {
        let ((a, b), both) = (self.pair(), self.dice.chance(1, 2));
        for _ in 0..self.dice.between(2, 12) {
            self.net().set_cut(a, b, true);
            self.net().set_cut(b, a, both);
            self.last(100, 500).await;
            self.net().set_cut(a, b, false);
            self.net().set_cut(b, a, false);
            self.last(100, 500).await;
        }
    }

    /// A link holds back, or delays by seconds, what a process sends; the process is killed and starts again.
    async fn old_messages(&self) {
        let n = self.node();
        let from = self.nodes()[n].machine;
        let to = *self.dice.pick(&self.machines());
        let slow = self.dice.between(2_000, 30_000) * MS;
        let slow = Quality { delay_ns: (slow, slow + 1_000 * MS), ..Quality::LAN };
        let cut = self.dice.chance(1, 2);
        if cut {
            self.net().set_cut(from, to, true);
        } else {
            self.net().set_quality(from, to, Some(slow));
        }
        self.last(50, 1_000).await;
        self.cluster().kill(n, false);
        self.last(20, 500).await;
        self.cluster().start(n);
        if cut {
            // A kernel gives up after 5 s.
            self.last(100, *self.dice.pick(&[2_000, 60_000])).await;
            self.net().set_cut(from, to, false);
        } else {
            self.net().set_quality(from, to, None);
        }
    }

    async fn bad_link(&self) {
        let (a, b) = self.pair();
        let slow = Quality {
            delay_ns: *self.dice.pick(&[(MS, 20 * MS), (20 * MS, 100 * MS), (100 * MS, 500 * MS)]),
            stalls: *self.dice.pick(&[100, 1_000, 3_000]),
            stall_ns: (100 * MS, 1_000 * MS),
            bytes_per_s: *self.dice.pick(&[125_000, 12_500_000]),
            alters: 0,
        };
        let altering = Quality { alters: *self.dice.pick(&[10, 300, 3_000]), ..self.cluster().plan.lan };
        let bad = if self.kind == FaultKind::AlterBytes { altering } else { slow };
        self.net().set_quality(a, b, Some(bad));
        self.net().set_quality(b, a, Some(bad));
        self.last(200, 6_000).await;
        self.net().set_quality(a, b, None);
        self.net().set_quality(b, a, None);
    }
}

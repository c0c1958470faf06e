//! Faults of the network.

use super::{Fault, MS};
use crate::net::{Machine, Net, Quality};
use crate::plan::FaultKind;

impl Fault {
    pub(super) async fn to_net(&self) {
        match self.kind {
            FaultKind::Isolate => self.isolate().await,
            FaultKind::CutPair | FaultKind::CutOneWay => self.cut(self.kind == FaultKind::CutPair).await,
            FaultKind::ClientCut => self.client_cut().await,
            FaultKind::Reset => {
                let (a, b) = self.pair();
                self.net().reset_one(a, b);
            }
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

    async fn cut(&self, both: bool) {
        let (a, b) = self.pair();
        // A link that is cut for long, or one that flaps.
        for _ in 0..*self.dice.pick(&[1, 1, 10]) {
            self.net().set_cut(a, b, true);
            self.net().set_cut(b, a, both);
            self.last(50, 3_000).await;
            self.net().set_cut(a, b, false);
            self.net().set_cut(b, a, false);
            self.last(50, 500).await;
        }
    }

    async fn bad_link(&self) {
        let (a, b) = self.pair();
        let bad = Quality {
            delay_ns: *self.dice.pick(&[(MS, 20 * MS), (20 * MS, 100 * MS)]),
            stalls: *self.dice.pick(&[100, 1_000, 3_000]),
            stall_ns: (100 * MS, 1_000 * MS),
            bytes_per_s: *self.dice.pick(&[125_000, 12_500_000]),
        };
        self.net().set_quality(a, b, Some(bad));
        self.net().set_quality(b, a, Some(bad));
        self.last(200, 8_000).await;
        self.net().set_quality(a, b, None);
        self.net().set_quality(b, a, None);
    }
}

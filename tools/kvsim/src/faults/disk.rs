//! Faults of disks.

use super::{Fault, MS};
use crate::plan::FaultKind;
use ringkv_storage::disk::fault::{Fault as Strike, Injection};

impl Fault {
    pub(super) async fn to_disk(&self) {
        let (cluster, n) = (self.cluster(), self.node());
        let node = &self.nodes()[n];
        match self.kind {
            FaultKind::SlowDisk => {
                node.pace.set_slow(*self.dice.pick(&[(5 * MS, 20 * MS), (100 * MS, 500 * MS)]));
                self.last(200, 5_000).await;
                node.pace.set_slow((0, 0));
            }
            FaultKind::DiskFull => {
                cluster.disks_fail.set(true);
                node.disk().set_capacity(Some(node.disk().used()));
                self.last(500, 5_000).await;
                node.disk().set_capacity(None);
                self.restart_sick(n);
            }
            _ => {
                cluster.disks_fail.set(true);
                let fault = *self.dice.pick(&[Strike::FailedSync, Strike::Eio, Strike::TornWrite, Strike::ShortWrite]);
                let path = (*self.dice.pick(&["", "/log", "/tables"])).to_owned();
                node.disk().inject(Injection { path, skip: self.dice.below(50), fault });
                self.last(500, 4_000).await;
                self.restart_sick(n);
            }
        }
    }
}

//! Faults of disks that show: slow, failing, full.

use super::{Fault, MS};
use crate::plan::FaultKind;
use ringkv_storage::disk::fault::{Fault as Strike, Injection};

impl Fault {
    pub(super) async fn to_disk(&self) {
        let n = self.node();
        let node = &self.nodes()[n];
        match self.kind {
            FaultKind::SlowDisk => {
                node.pace.set_slow(*self.dice.pick(&[(5 * MS, 20 * MS), (100 * MS, 500 * MS)]));
                self.last(200, 5_000).await;
                node.pace.set_slow((0, 0));
            }
            FaultKind::HangDisk => self.hang(n).await,
            FaultKind::DiskFull => {
                // No store may end of that, and nobody restarts one. What is free may be less than a segment, or than a table.
                let free = *self.dice.pick(&[0, 4 << 10, 300 << 10, 3 << 20]);
                node.disk().set_capacity(Some(node.disk().used() + free));
                self.last(500, 10_000).await;
                node.disk().set_capacity(None);
            }
            FaultKind::BadRange => self.bad_range(n).await,
            FaultKind::FailedSync => self.strike_once(n, Strike::FailedSync).await,
            FaultKind::TornWrite => {
                self.strike_once(n, *self.dice.pick(&[Strike::TornWrite, Strike::ShortWrite])).await
            }
            _ => self.strike_once(n, Strike::Eio).await,
        }
    }

    async fn strike_once(&self, n: usize, fault: Strike) {
        self.cluster().disks_fail.set(true);
        let path = (*self.dice.pick(&["", "/log", "/tables", "MANIFEST"])).to_owned();
        self.nodes()[n].disk().inject(Injection { path, skip: self.dice.below(50), fault });
        self.last(500, 4_000).await;
        self.restart_sick(n);
    }

    /// Operations wait until it is over; or for ever, until somebody restarts the node.
    async fn hang(&self, n: usize) {
        let (cluster, node) = (self.cluster(), &self.nodes()[n]);
        let (for_ever, ms) = (self.dice.chance(1, 2), self.dice.between(500, 5_000));
        let now = cluster.exec.now_ns();
        node.pace.set_hung(if for_ever { self.until_ns + 1_000_000 * MS } else { now + ms * MS });
        self.last(ms, ms).await;
        node.pace.set_hung(0);
        if for_ever {
            cluster.kill(n, false);
            self.last(20, 500).await;
            cluster.start(n);
        }
    }

    async fn bad_range(&self, n: usize) {
        self.cluster().disks_fail.set(true);
        let disk = self.nodes()[n].disk();
        let paths = disk.paths();
        if paths.is_empty() {
            return;
        }
        let path = self.dice.pick(&paths);
        let first = self.dice.below(disk.peek(path).map_or(1, |bytes| bytes.len() as u64 + 1));
        disk.set_bad_range(path, first..first + self.dice.between(1, 100_000));
        self.last(500, 4_000).await;
        disk.set_bad_range(path, 0..0);
        self.restart_sick(n);
    }
}

//! Faults of disks that say nothing.
//!
//! They hit fewer nodes of a run than a majority of a shard's replicas. A store that finds the damage stops with what it
//! found, or fails reads: an end that is expected there, and nowhere else. No write of the log is lost or misdirected: one
//! copy cannot notice that of its last batch (`storage::disk::fault`, the fault model).

use super::Fault;
use crate::plan::FaultKind;
use ringkv_storage::disk::fault::{Fault as Strike, Injection};

/// The manifest and the file that names it.
const MANIFEST: [&str; 2] = ["MANIFEST", "CURRENT"];

impl Fault {
    pub(super) fn in_silence(&self) {
        let n = self.node();
        // Not before the cluster has formed: its first boot needs every member.
        let formed = self.cluster().views().iter().filter(|view| view.admitted).count();
        if !self.cluster().may_damage(n) || formed < self.cluster().plan.stores * self.nodes().len() {
            return;
        }
        match self.kind {
            FaultKind::RotLog => self.rot(n, "/log/"),
            FaultKind::RotTable => self.rot(n, "/tables/"),
            FaultKind::RotManifest => self.rot(n, MANIFEST[self.dice.below(2) as usize]),
            FaultKind::LostWrite => self.lie(n, Strike::LostWrite),
            FaultKind::MisdirectedWrite => self.lie(n, Strike::MisdirectedWrite),
            _ => self.lie(n, Strike::MisdirectedRead),
        }
    }

    /// Flips a bit, or one in each of several bytes side by side, of something that was written.
    fn rot(&self, n: usize, what: &str) {
        let disk = self.nodes()[n].disk();
        let paths: Vec<String> = disk.paths().into_iter().filter(|path| path.contains(what)).collect();
        if paths.is_empty() {
            return;
        }
        let path = self.dice.pick(&paths);
        let Some(bytes) = disk.peek(path).filter(|bytes| !bytes.is_empty()) else { return };
        let from = self.dice.below(bytes.len() as u64) as usize;
        let written = |at: &usize| bytes[*at] != 0;
        let Some(at) = (from..bytes.len()).find(written).or_else(|| (0..from).find(written)) else { return };
        self.cluster().damaged(n, self.kind == FaultKind::RotTable);
        for byte in 0..*self.dice.pick(&[1, 1, 8, 600]) {
            disk.flip_bit(path, at as u64 + byte, self.dice.below(8) as u8);
        }
    }

    fn lie(&self, n: usize, fault: Strike) {
        self.cluster().damaged(n, true);
        let path = (*self.dice.pick(&["/tables/", "/tables/", "MANIFEST"])).to_owned();
        self.nodes()[n].disk().inject(Injection { path, skip: self.dice.below(5), fault });
    }
}

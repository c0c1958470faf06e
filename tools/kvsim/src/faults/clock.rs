//! Faults of clocks.
//!
//! Leases are safe while no boot-time clock runs faster than another by a quarter of its rate (150 ms against 120 ms); log time
//! while most wall clocks of a shard's voters are right.

use super::{Fault, MS};
use crate::plan::FaultKind;

/// Within the bound whichever way two clocks differ: 1.09 / 0.91 is below 1.25.
const DRIFT_PPM: u64 = 90_000;

impl Fault {
    pub(super) fn to_clock(&self) {
        let (n, now) = (self.node(), self.cluster().exec.now_ns());
        match self.kind {
            FaultKind::ClockDrift => {
                self.nodes().iter().for_each(|node| node.clock.set_drift(now, self.signed(DRIFT_PPM)))
            }
            FaultKind::ClockRun => {
                let ppm = *self.dice.pick(&[-500_000, 1_000_000]);
                self.nodes()[n].clock.set_drift(now, ppm);
            }
            FaultKind::ClockLeap => self.nodes()[n].clock.leap(now, self.dice.between(50, 5_000) * MS),
            FaultKind::WallClocks => self.nodes().iter().for_each(|node| node.clock.set_wall(self.jump())),
            _ => {
                // One clock at a time: the median of the voters' clocks stays right.
                self.nodes().iter().for_each(|node| node.clock.set_wall(0));
                self.nodes()[n].clock.set_wall(self.jump());
            }
        }
    }

    fn signed(&self, most: u64) -> i64 {
        self.dice.between(0, 2 * most) as i64 - most as i64
    }

    fn jump(&self) -> i64 {
        let ms = *self.dice.pick(&[1_000, 60_000, 3_600_000, 86_400_000]);
        if self.dice.chance(1, 2) { ms } else { -ms }
    }
}

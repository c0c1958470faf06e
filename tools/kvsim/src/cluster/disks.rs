//! How long a disk takes.

use crate::dice::Dice;
use crate::exec::Executor;
use ringkv_storage::disk::fault::{OpKind, Pace};
use std::cell::Cell;
use std::rc::Rc;

/// The delays of one disk.
pub struct DiskPace {
    exec: Executor,
    dice: Dice,
    /// Shortest and longest extra time of a write or sync, ns; (0, 0): none.
    slow_ns: Cell<(u64, u64)>,
}

impl DiskPace {
    /// An ordinary disk.
    pub fn new(exec: Executor, dice: Dice) -> DiskPace {
        DiskPace { exec, dice, slow_ns: Cell::new((0, 0)) }
    }

    /// From now on each write, sync and read takes so much more.
    pub fn set_slow(&self, slow_ns: (u64, u64)) {
        self.slow_ns.set(slow_ns);
    }

    /// The delays, as the fault disk asks for them.
    pub fn scheduler(self: &Rc<DiskPace>) -> Pace {
        let pace = self.clone();
        Rc::new(move |kind| {
            let ns = pace.ns(kind);
            let exec = pace.exec.clone();
            Box::pin(async move { exec.sleep(ns).await })
        })
    }

    fn ns(&self, kind: OpKind) -> u64 {
        let usual = match kind {
            OpKind::Sync => self.dice.between(100_000, 2_000_000),
            OpKind::Read | OpKind::Map | OpKind::Write => self.dice.between(20_000, 200_000),
            _ => self.dice.between(5_000, 100_000),
        };
        let (low, high) = self.slow_ns.get();
        let slow = if high == 0 { 0 } else { self.dice.between(low, high) };
        usual + slow
    }
}

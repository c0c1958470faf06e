//! How long a disk takes.

use crate::dice::Dice;
use crate::exec::Executor;
use ringkv_storage::disk::fault::{OpKind, Pace};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Trap = (u64, Box<dyn FnOnce()>);

/// The delays of one disk.
pub struct DiskPace {
    exec: Executor,
    dice: Dice,
    /// Shortest and longest extra time of a write or sync, ns; (0, 0): none.
    slow_ns: Cell<(u64, u64)>,
    /// Operations that begin before this end after it, ns.
    hung_ns: Cell<u64>,
    /// Operations that pass before the trap, and what happens then.
    trap: RefCell<Option<Trap>>,
}

impl DiskPace {
    /// An ordinary disk.
    pub fn new(exec: Executor, dice: Dice) -> DiskPace {
        DiskPace { exec, dice, slow_ns: Cell::new((0, 0)), hung_ns: Cell::new(0), trap: RefCell::default() }
    }

    /// From now on each write, sync and read takes so much more.
    pub fn set_slow(&self, slow_ns: (u64, u64)) {
        self.slow_ns.set(slow_ns);
    }

    /// Nothing that begins from now on ends before `until_ns`; 0: all is well again for what begins later.
    pub fn set_hung(&self, until_ns: u64) {
        self.hung_ns.set(until_ns);
    }

    /// After `passing` more operations have begun, `what` happens before the next one ends.
    pub fn trap(&self, passing: u64, what: impl FnOnce() + 'static) {
        *self.trap.borrow_mut() = Some((passing, Box::new(what)));
    }

    /// Forgets the trap.
    pub fn disarm(&self) {
        self.trap.take();
    }

    fn step_on_trap(&self) {
        let mut trap = self.trap.borrow_mut();
        match trap.take() {
            // Not here: whoever calls holds the disk.
            Some((0, what)) => self.exec.at(self.exec.now_ns(), what),
            Some((passing, what)) => *trap = Some((passing - 1, what)),
            None => {}
        }
    }

    /// The delays, as the fault disk asks for them.
    pub fn scheduler(self: &Rc<DiskPace>) -> Pace {
        let pace = self.clone();
        Rc::new(move |kind| {
            pace.step_on_trap();
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
        usual + slow + self.hung_ns.get().saturating_sub(self.exec.now_ns())
    }
}

//! What the callers of one lane share during one stretch of work. They live on one thread, so nothing is locked.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::feed::{Feed, Gate, Quota};
use super::{Open, Order};
use crate::choose::{Keys, Turns};
use crate::history::Notes;
use crate::keys::Names;
use crate::latency::Latencies;
use crate::tally::Tally;
use crate::values::Values;
use crate::workload::{Act, Kind, Workload};

/// The stretch.
pub struct Shift {
    pub workload: Arc<Workload>,
    pub kind: Kind,
    pub feed: Feed,
    pub keys: RefCell<Keys>,
    pub names: RefCell<Names>,
    pub values: Values,
    pub tally: RefCell<Tally>,
    pub notes: RefCell<Option<Notes>>,
    /// Whether a key that is not there is no error.
    pub absent_is_fine: bool,
    /// Differs from stretch to stretch.
    pub serial: u64,
    late: RefCell<Latencies>,
    answered: Cell<u64>,
    shown: Arc<AtomicU64>,
}

impl Shift {
    /// Of lane `number` of `lanes`; keys that were answered are shown in `shown`.
    pub fn new(order: Order, (number, lanes): (usize, usize), shown: Arc<AtomicU64>) -> Shift {
        let (workload, kind) = (order.workload, order.phase.kind);
        let (number, lanes) = (number as u64, lanes as u64);
        // Keys are removed one a call.
        let batch = if kind == Kind::Delete { 1 } else { workload.batch as u64 };
        let quota = Quota::new(order.first, order.keys, batch, order.ends);
        let feed = match order.rate {
            None => Feed::Closed(quota),
            Some(rate) => {
                let every_ns = 1e9 * batch as f64 * lanes as f64 / rate;
                let offset = Duration::from_nanos((every_ns * number as f64 / lanes as f64) as u64);
                Feed::Open(Gate::new(quota, order.started + offset, every_ns))
            }
        };
        let turns = Turns { own: number, all: lanes };
        let stream = number * 16 + stream(kind);
        let keys = Keys::new(workload.distribution_of(kind), workload.keys, workload.seed, stream, turns);
        Shift {
            kind,
            feed,
            keys: RefCell::new(keys),
            names: RefCell::new(Names::new(&workload.prefix)),
            values: Values::new(workload.value_bytes),
            tally: RefCell::default(),
            notes: RefCell::new(order.notes),
            absent_is_fine: workload.deletes(),
            serial: order.serial,
            late: RefCell::default(),
            answered: Cell::new(0),
            shown,
            workload,
        }
    }

    /// What the next call does.
    pub fn act(&self) -> Act {
        self.kind.act(self.workload.deletes_percent, || self.keys.borrow_mut().percent())
    }

    /// A call that was meant at one time is made at another.
    pub fn made(&self, meant: Instant, now: Instant) {
        self.late.borrow_mut().record(now.saturating_duration_since(meant));
    }

    /// A call of so many keys was answered.
    pub fn answered(&self, keys: u64, took: Duration) {
        let mut tally = self.tally.borrow_mut();
        tally.latencies.record(took);
        tally.calls += 1;
        tally.keys += keys;
        self.answered.set(self.answered.get() + keys);
        self.shown.store(self.answered.get(), Ordering::Relaxed);
    }

    /// Counts the calls that were never made; gives what only an open loop has to tell.
    pub fn end(&self) -> Open {
        let mut unmade = 0;
        if let Feed::Open(gate) = &self.feed
            && let Some(ends) = gate.ends()
        {
            let latencies = &mut self.tally.borrow_mut().latencies;
            for meant in gate.unmade() {
                latencies.record(ends.saturating_duration_since(meant));
                unmade += 1;
            }
        }
        Open { late: self.late.take(), unmade }
    }
}

/// Phases choose independently of each other.
fn stream(kind: Kind) -> u64 {
    match kind {
        Kind::Load | Kind::Verify => 0,
        Kind::Get => 1,
        Kind::Put => 2,
        Kind::Mixed { .. } => 3,
        Kind::Delete => 4,
        Kind::Ycsb(_) => 5,
    }
}

//! Which call comes next, and when it is meant to be made.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// One call to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Place of its first key in the phase.
    pub first: u64,
    /// How many keys.
    pub count: u64,
    /// When it is meant to be made; in a closed loop whenever there is somebody to make it.
    pub meant: Option<Instant>,
}

/// Where callers get their calls from.
pub enum Feed {
    /// As soon as there is a caller.
    Closed(Quota),
    /// At their times.
    Open(Gate),
}

impl Feed {
    /// The next call, for a caller that knows the time; `None` at the end.
    pub async fn next(&self, now: Instant) -> Option<Slot> {
        match self {
            Feed::Closed(quota) => quota.take(now),
            Feed::Open(gate) => gate.next().await,
        }
    }
}

/// The keys of a lane, handed out call by call.
pub struct Quota {
    next: Cell<u64>,
    end: u64,
    batch: u64,
    ends: Option<Instant>,
}

impl Quota {
    /// `keys` keys from place `first` on, in calls of `batch`, until `ends`.
    pub fn new(first: u64, keys: u64, batch: u64, ends: Option<Instant>) -> Quota {
        Quota { next: Cell::new(first), end: first.saturating_add(keys), batch, ends }
    }

    fn take(&self, now: Instant) -> Option<Slot> {
        let first = self.next.get();
        if first >= self.end || self.ends.is_some_and(|ends| now >= ends) {
            return None;
        }
        let count = self.batch.min(self.end - first);
        self.next.set(first + count);
        Some(Slot { first, count, meant: None })
    }
}

/// Calls at fixed distances. The pacer opens it for those that are due; callers take them, oldest first.
pub struct Gate {
    quota: Quota,
    started: Instant,
    /// Nanoseconds between two calls.
    every_ns: f64,
    due: Cell<u64>,
    taken: Cell<u64>,
    over: Cell<bool>,
    idle: RefCell<Vec<Waker>>,
}

impl Gate {
    /// The calls of `quota`, `every_ns` apart, the first at `started`.
    pub fn new(quota: Quota, started: Instant, every_ns: f64) -> Gate {
        assert!(every_ns > 0.0, "calls are some time apart");
        let (due, taken) = (Cell::new(0), Cell::new(0));
        Gate { quota, started, every_ns, due, taken, over: Cell::new(false), idle: RefCell::default() }
    }

    fn meant(&self, call: u64) -> Instant {
        self.started + Duration::from_nanos((call as f64 * self.every_ns) as u64)
    }

    /// Calls in all: those meant before the end.
    fn calls(&self) -> u64 {
        let by_keys = (self.quota.end - self.quota.next.get()).div_ceil(self.quota.batch) + self.taken.get();
        let Some(ends) = self.quota.ends else { return by_keys };
        let span = ends.saturating_duration_since(self.started);
        by_keys.min((span.as_nanos() as f64 / self.every_ns).ceil() as u64)
    }

    /// Lets out what is due at `now`. Gives the time of the next, `None` when there is none.
    pub fn open(&self, now: Instant) -> Option<Instant> {
        let calls = self.calls();
        let passed = now.saturating_duration_since(self.started).as_nanos() as f64 / self.every_ns;
        let due = calls.min(passed as u64 + 1);
        let fresh = due.saturating_sub(self.due.get());
        self.due.set(due.max(self.due.get()));
        let mut idle = self.idle.borrow_mut();
        let left = idle.len().saturating_sub(usize::try_from(fresh).unwrap_or(usize::MAX));
        idle.drain(left..).for_each(Waker::wake);
        (due < calls).then(|| self.meant(due))
    }

    /// Nothing more is let out; what was and is not yet taken still is, unless the time is up.
    pub fn close(&self) {
        self.over.set(true);
        self.idle.take().into_iter().for_each(Waker::wake);
    }

    /// When its time is up.
    pub fn ends(&self) -> Option<Instant> {
        self.quota.ends
    }

    /// When those calls were meant that were due and that nobody took.
    pub fn unmade(&self) -> impl Iterator<Item = Instant> {
        (self.taken.get()..self.due.get()).map(|call| self.meant(call))
    }

    async fn next(&self) -> Option<Slot> {
        poll_fn(|context| {
            if self.over.get() && self.quota.ends.is_some() {
                return Poll::Ready(None);
            }
            if self.taken.get() < self.due.get()
                && let Some(slot) = self.quota.take(self.started)
            {
                let meant = self.meant(self.taken.get());
                self.taken.set(self.taken.get() + 1);
                return Poll::Ready(Some(Slot { meant: Some(meant), ..slot }));
            }
            if self.over.get() {
                return Poll::Ready(None);
            }
            self.idle.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    const MS: Duration = Duration::from_millis(1);

    fn next(gate: &Gate) -> Poll<Option<Slot>> {
        pin!(gate.next()).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_quota_is_handed_out_whole() {
        let now = Instant::now();
        let quota = Quota::new(10, 5, 2, Some(now + MS));
        let slots: Vec<_> = std::iter::from_fn(|| quota.take(now)).map(|slot| (slot.first, slot.count)).collect();
        assert_eq!(slots, [(10, 2), (12, 2), (14, 1)]);
        assert_eq!(Quota::new(0, 5, 1, Some(now + MS)).take(now + MS), None);
    }

    #[test]
    fn calls_come_at_their_times_however_late_they_are_taken() {
        let start = Instant::now();
        let gate = Gate::new(Quota::new(0, 3, 1, None), start, 1e6);
        assert!(next(&gate).is_pending());
        assert_eq!(gate.open(start), Some(start + MS));
        assert_eq!(next(&gate), Poll::Ready(Some(Slot { first: 0, count: 1, meant: Some(start) })));
        assert!(next(&gate).is_pending());
        assert_eq!(gate.open(start + 9 * MS), None, "only three are to be made");
        gate.close();
        assert_eq!(next(&gate), Poll::Ready(Some(Slot { first: 1, count: 1, meant: Some(start + MS) })));
        assert_eq!(next(&gate), Poll::Ready(Some(Slot { first: 2, count: 1, meant: Some(start + 2 * MS) })));
        assert_eq!(next(&gate), Poll::Ready(None));
        assert_eq!(gate.unmade().count(), 0);
    }

    #[test]
    fn what_nobody_could_make_in_time_is_not_forgotten() {
        let start = Instant::now();
        let gate = Gate::new(Quota::new(0, u64::MAX / 2, 1, Some(start + 10 * MS)), start, 1e6);
        assert_eq!(gate.open(start + 4 * MS), Some(start + 5 * MS));
        assert!(next(&gate).is_ready());
        assert_eq!(gate.open(start + 50 * MS), None);
        gate.close();
        assert_eq!(next(&gate), Poll::Ready(None));
        assert_eq!(gate.unmade().collect::<Vec<_>>().len(), 9);
        assert_eq!(gate.unmade().next(), Some(start + MS));
    }
}

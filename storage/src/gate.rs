//! Taking turns on one thread: a lock to await, and a way to let others run.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A lock between futures of one thread, first come, first served. Clones are the same lock.
#[derive(Clone, Debug, Default)]
pub struct Gate(Rc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    held: Cell<bool>,
    next: Cell<u64>,
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
}

/// Holds a gate until dropped.
#[derive(Debug)]
pub struct Pass(Rc<Queue>);

impl Gate {
    /// Waits for the gate. The place in the line is taken now, not when first polled.
    pub fn enter(&self) -> Turn {
        let ticket = self.0.next.get();
        self.0.next.set(ticket + 1);
        self.0.waiting.borrow_mut().push_back((ticket, None));
        Turn { queue: self.0.clone(), ticket, done: false }
    }

    /// Whether somebody holds it or waits for it.
    pub fn is_busy(&self) -> bool {
        self.0.held.get() || !self.0.waiting.borrow().is_empty()
    }
}

impl Queue {
    fn wake_first(&self) {
        if !self.held.get() {
            let waker = self.waiting.borrow_mut().front_mut().and_then(|(_, waker)| waker.take());
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.held.set(false);
        self.0.wake_first();
    }
}

/// A place in the line for a gate.
#[derive(Debug)]
pub struct Turn {
    queue: Rc<Queue>,
    ticket: u64,
    done: bool,
}

impl Future for Turn {
    type Output = Pass;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Pass> {
        let queue = self.queue.clone();
        let mut waiting = queue.waiting.borrow_mut();
        if !queue.held.get() && waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket) {
            waiting.pop_front();
            queue.held.set(true);
            self.done = true;
            drop(waiting);
            return Poll::Ready(Pass(queue));
        }
        if let Some((_, waker)) = waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.done {
            self.queue.waiting.borrow_mut().retain(|(ticket, _)| *ticket != self.ticket);
            self.queue.wake_first();
        }
    }
}

/// Pending once, so that others on this thread run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Cuts a long job into slices of a fraction of a millisecond.
#[derive(Debug, Default)]
pub struct Pace {
    spent: usize,
    /// What it shares the time with.
    beside: Option<(Rc<Share>, Work)>,
}

/// What shares the time that writers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Writers wait for its memory.
    Flush,
    /// Space and reads wait for it.
    Merge,
}

/// How flushes and merges share the time.
#[derive(Debug, Default)]
pub struct Share {
    flushes: Side,
    merges: Side,
}

#[derive(Debug, Default)]
struct Side {
    /// Jobs that run.
    running: Cell<usize>,
    /// Turns that each leaves to the other side after each of its own.
    leaves: Cell<usize>,
}

/// A job that runs until this is dropped.
#[derive(Debug)]
pub struct Running(Rc<Share>, Work);

impl Share {
    /// Of so many turns that flushes and merges leave each other.
    pub fn set(&self, flushes_leave: usize, merges_leave: usize) {
        self.flushes.leaves.set(flushes_leave);
        self.merges.leaves.set(merges_leave);
    }

    /// Says that a job runs.
    pub fn begin(self: &Rc<Share>, work: Work) -> Running {
        let running = &self.side(work).running;
        running.set(running.get() + 1);
        Running(self.clone(), work)
    }

    fn side(&self, work: Work) -> &Side {
        match work {
            Work::Flush => &self.flushes,
            Work::Merge => &self.merges,
        }
    }

    fn other(&self, work: Work) -> &Side {
        match work {
            Work::Flush => &self.merges,
            Work::Merge => &self.flushes,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let running = &self.0.side(self.1).running;
        running.set(running.get() - 1);
    }
}

impl Pace {
    /// Bytes of work between two yields.
    const SLICE_BYTES: usize = 64 << 10;
    /// What a step costs besides its bytes.
    const STEP_BYTES: usize = 128;

    /// For a job that gives way to the other kind.
    pub fn beside(share: &Rc<Share>, work: Work) -> Pace {
        Pace { spent: 0, beside: Some((share.clone(), work)) }
    }

    /// Counts a step that moved `bytes`; yields when the slice is used up.
    pub async fn step(&mut self, bytes: usize) {
        self.spent += bytes + Pace::STEP_BYTES;
        if self.spent >= Pace::SLICE_BYTES {
            self.rest().await;
        }
    }

    /// Yields now.
    pub async fn rest(&mut self) {
        self.spent = 0;
        yield_now().await;
        let Some((share, work)) = &self.beside else { return };
        for _ in 0..share.side(*work).leaves.get() {
            if share.other(*work).running.get() > 0 {
                yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fault::block_on;
    use crate::disk::fault::testing::Tasks;

    #[test]
    fn first_come_first_served_and_a_dropped_turn_blocks_nobody() {
        let (gate, order) = (Gate::default(), RefCell::new(Vec::new()));
        let given_up = gate.enter();
        let mut tasks = Tasks::new();
        for name in 0..4 {
            let (turn, order) = (gate.enter(), &order);
            tasks.spawn(async move {
                let _pass = turn.await;
                order.borrow_mut().push(name);
                yield_now().await;
                order.borrow_mut().push(name);
            });
        }
        assert_eq!(tasks.poll_all(), 4, "nobody passes while the first turn is not given up");
        assert!(order.borrow().is_empty());
        drop(given_up);
        tasks.run();
        assert_eq!(*order.borrow(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert!(!gate.is_busy());
    }

    #[test]
    fn pace_yields() {
        let mut polls = 0;
        let mut pace = Pace::default();
        block_on(async {
            let work = async {
                for _ in 0..10 {
                    pace.step(Pace::SLICE_BYTES / 2).await;
                }
            };
            let mut work = std::pin::pin!(work);
            poll_fn(|cx| {
                polls += 1;
                work.as_mut().poll(cx)
            })
            .await;
        });
        assert_eq!(polls, 6);
    }
}

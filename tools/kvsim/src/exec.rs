//! The executor: one thread, a virtual clock, tasks and timers in an order that only the seed decides.
//!
//! Time stands still while tasks run and jumps to the next timer when none is ready. Tasks belong to groups: one group is one
//! life of a process. A killed group's tasks are dropped where they stand; a paused group's tasks wait.

use crate::dice::{Dice, Stream};
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls at one instant after which the run counts as stuck.
const POLLS_MAX: u64 = 1_000_000;

/// One life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    slot: usize,
    number: u64,
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    number: u64,
    group: Group,
    /// Taken out while it runs.
    future: Option<(Boxed, Waker)>,
    flag: Arc<Flag>,
}

/// Puts its task into the queue of ready ones, once.
struct Flag {
    key: Key,
    queued: AtomicBool,
    ready: Arc<Mutex<VecDeque<Key>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push_back(self.key);
        }
    }
}

fn lock(ready: &Mutex<VecDeque<Key>>) -> MutexGuard<'_, VecDeque<Key>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

enum What {
    Wake(Waker),
    Run(Box<dyn FnOnce()>),
}

/// What is to happen before the poll of a number.
type Trap = (u64, Box<dyn FnOnce()>);

struct Timer {
    at_ns: u64,
    number: u64,
    what: What,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Timer) -> bool {
        self.number == other.number
    }
}
impl Eq for Timer {}
impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Timer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timer {
    fn cmp(&self, other: &Timer) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

#[derive(Default)]
struct Life {
    dead: bool,
    paused: bool,
    held: Vec<Key>,
}

struct Inner {
    now_ns: Cell<u64>,
    numbers: Cell<u64>,
    timers: RefCell<BinaryHeap<Reverse<Timer>>>,
    tasks: RefCell<Vec<Option<Task>>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Mutex<VecDeque<Key>>>,
    lives: RefCell<Vec<Life>>,
    dice: Dice,
    trace: Cell<u64>,
    polls: Cell<u64>,
    traps: RefCell<Vec<Trap>>,
    next_trap: Cell<u64>,
}

/// A handle to the executor. Clones are cheap.
#[derive(Clone)]
pub struct Executor(Rc<Inner>);

impl Executor {
    /// At time 0, with nothing to do.
    pub fn new(seed: u64) -> Executor {
        Executor(Rc::new(Inner {
            now_ns: Cell::new(0),
            numbers: Cell::new(1),
            timers: RefCell::default(),
            tasks: RefCell::default(),
            free: RefCell::default(),
            ready: Arc::default(),
            lives: RefCell::default(),
            dice: Dice::new(seed, Stream::Tasks, 0),
            trace: Cell::new(0x9e37_79b9_7f4a_7c15),
            polls: Cell::new(0),
            traps: RefCell::default(),
            next_trap: Cell::new(u64::MAX),
        }))
    }

    /// Virtual time, ns since the start.
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    /// Mixes something that happened into the trace.
    pub fn note(&self, what: u64) {
        let mixed = (self.0.trace.get() ^ what).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0.trace.set(mixed ^ (mixed >> 32));
    }

    /// The hash of all that happened so far.
    pub fn trace(&self) -> u64 {
        self.0.trace.get()
    }

    /// Polls of tasks so far.
    pub fn polls(&self) -> u64 {
        self.0.polls.get()
    }

    /// A new life.
    pub fn group(&self) -> Group {
        let mut lives = self.0.lives.borrow_mut();
        lives.push(Life::default());
        Group(lives.len() - 1)
    }

    /// Whether a group was not killed.
    pub fn is_alive(&self, group: Group) -> bool {
        !self.0.lives.borrow()[group.0].dead
    }

    /// Runs a task in a group. In a dead group it is dropped.
    pub fn spawn(&self, group: Group, future: impl Future<Output = ()> + 'static) {
        if !self.is_alive(group) {
            return;
        }
        let slot = self.0.free.borrow_mut().pop();
        let mut tasks = self.0.tasks.borrow_mut();
        let slot = slot.unwrap_or_else(|| {
            tasks.push(None);
            tasks.len() - 1
        });
        let key = Key { slot, number: self.number() };
        let flag = Arc::new(Flag { key, queued: AtomicBool::new(false), ready: self.0.ready.clone() });
        let waker = Waker::from(flag.clone());
        tasks[slot] = Some(Task { number: key.number, group, future: Some((Box::pin(future), waker)), flag });
        drop(tasks);
        self.wake(key);
    }

    fn wake(&self, key: Key) {
        let flag = self.0.tasks.borrow()[key.slot].as_ref().map(|task| task.flag.clone());
        if let Some(flag) = flag.filter(|flag| flag.key == key) {
            flag.wake();
        }
    }

    fn number(&self) -> u64 {
        self.0.numbers.replace(self.0.numbers.get() + 1)
    }

    /// Drops a group's tasks where they stand; its timers come to nothing.
    pub fn kill(&self, group: Group) {
        self.0.lives.borrow_mut()[group.0].dead = true;
        let mut dead = Vec::new();
        for (slot, task) in self.0.tasks.borrow_mut().iter_mut().enumerate() {
            // The one that runs now is dropped when its poll ends.
            if task.as_ref().is_some_and(|t| t.group == group && t.future.is_some()) {
                dead.push(task.take());
                self.0.free.borrow_mut().push(slot);
            }
        }
        drop(dead);
    }

    /// Stops a group's tasks (SIGSTOP), or lets them go on.
    pub fn pause(&self, group: Group, paused: bool) {
        let held = {
            let life = &mut self.0.lives.borrow_mut()[group.0];
            life.paused = paused;
            if paused { Vec::new() } else { std::mem::take(&mut life.held) }
        };
        lock(&self.0.ready).extend(held);
    }

    /// Runs `what` at a time.
    pub fn at(&self, at_ns: u64, what: impl FnOnce() + 'static) {
        self.timer(at_ns, What::Run(Box::new(what)));
    }

    /// Wakes at a time.
    pub fn wake_at(&self, at_ns: u64, waker: Waker) {
        self.timer(at_ns, What::Wake(waker));
    }

    fn timer(&self, at_ns: u64, what: What) {
        let timer = Timer { at_ns: at_ns.max(self.now_ns()), number: self.number(), what };
        self.0.timers.borrow_mut().push(Reverse(timer));
    }

    /// Ready at a time.
    pub async fn sleep_until(&self, at_ns: u64) {
        let mut armed = false;
        std::future::poll_fn(|context| {
            if self.now_ns() >= at_ns {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut armed, true) {
                self.wake_at(at_ns, context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Ready after a while.
    pub async fn sleep(&self, ns: u64) {
        self.sleep_until(self.now_ns() + ns).await;
    }

    /// Runs every task that is ready, and those that they make ready. Time does not move.
    ///
    /// # Panics
    /// When they make each other ready without end.
    pub fn drain(&self) {
        for _ in 0..POLLS_MAX {
            let Some(key) = self.take_ready() else { return };
            if self.polls() >= self.0.next_trap.get() {
                self.spring();
            }
            self.poll(key);
        }
        panic!("stuck at {} ns: tasks wake each other without end", self.now_ns());
    }

    /// Runs `what` between two polls: after `polls` more of them, whatever the time is then.
    pub fn after_polls(&self, polls: u64, what: impl FnOnce() + 'static) {
        let at = self.polls() + polls;
        self.0.traps.borrow_mut().push((at, Box::new(what)));
        self.0.next_trap.set(at.min(self.0.next_trap.get()));
    }

    fn spring(&self) {
        let traps = self.0.traps.take();
        let (due, left): (Vec<_>, Vec<_>) = traps.into_iter().partition(|(at, _)| *at <= self.polls());
        self.0.next_trap.set(left.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX));
        self.0.traps.replace(left);
        due.into_iter().for_each(|(_, what)| what());
    }

    fn take_ready(&self) -> Option<Key> {
        let mut ready = lock(&self.0.ready);
        let n = ready.len() as u64;
        // Mostly in order; now and then another goes first.
        if n > 1 && self.0.dice.chance(1, 4) {
            return ready.swap_remove_front(self.0.dice.below(n) as usize);
        }
        ready.pop_front()
    }

    fn poll(&self, key: Key) {
        let taken = {
            let mut tasks = self.0.tasks.borrow_mut();
            let Some(task) = tasks[key.slot].as_mut().filter(|task| task.number == key.number) else { return };
            let life = &mut self.0.lives.borrow_mut()[task.group.0];
            if life.paused {
                life.held.push(key);
                return;
            }
            task.flag.queued.store(false, Ordering::Relaxed);
            task.future.take().map(|(future, waker)| (future, waker, task.group))
        };
        let Some((mut future, waker, group)) = taken else { return };
        self.note(key.number);
        self.note(self.now_ns());
        self.0.polls.set(self.polls() + 1);
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if done || !self.is_alive(group) {
            let task = self.0.tasks.borrow_mut()[key.slot].take();
            self.0.free.borrow_mut().push(key.slot);
            drop((task, future));
        } else if let Some(task) = &mut self.0.tasks.borrow_mut()[key.slot] {
            task.future = Some((future, waker));
        }
    }

    /// Moves time to the next timer and fires it. `false`: there is none up to `until_ns`, and time is now `until_ns`.
    pub fn advance(&self, until_ns: u64) -> bool {
        let next = {
            let mut timers = self.0.timers.borrow_mut();
            if timers.peek().is_some_and(|Reverse(timer)| timer.at_ns <= until_ns) { timers.pop() } else { None }
        };
        let Some(Reverse(timer)) = next else {
            self.0.now_ns.set(until_ns.max(self.now_ns()));
            return false;
        };
        self.0.now_ns.set(timer.at_ns.max(self.now_ns()));
        match timer.what {
            What::Wake(waker) => waker.wake(),
            What::Run(run) => run(),
        }
        true
    }

    /// Drops all tasks and timers: breaks the circles that they hold.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        drop(tasks);
        let timers = std::mem::take(&mut *self.0.timers.borrow_mut());
        drop(timers);
        let traps = self.0.traps.take();
        drop(traps);
        lock(&self.0.ready).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(exec: &Executor, until_ns: u64) {
        loop {
            exec.drain();
            if !exec.advance(until_ns) {
                return;
            }
        }
    }

    fn log() -> (Rc<RefCell<Vec<u64>>>, impl Fn(u64) + Clone) {
        let log = Rc::new(RefCell::new(Vec::new()));
        let write = log.clone();
        (log, move |v| write.borrow_mut().push(v))
    }

    #[test]
    fn time_jumps_from_timer_to_timer() {
        let exec = Executor::new(1);
        let (log, write) = log();
        for ns in [30, 10, 20] {
            let (exec2, write) = (exec.clone(), write.clone());
            exec.spawn(exec.group(), async move {
                exec2.sleep(ns).await;
                write(exec2.now_ns());
            });
        }
        run(&exec, 25);
        assert_eq!(*log.borrow(), [10, 20]);
        assert_eq!(exec.now_ns(), 25);
        run(&exec, 100);
        assert_eq!(*log.borrow(), [10, 20, 30]);
    }

    #[test]
    fn a_killed_group_is_dropped_and_its_slots_are_used_again() {
        let exec = Executor::new(1);
        let (log, write) = log();
        let (dead, other) = (exec.group(), exec.group());
        let held = Rc::new(());
        for group in [dead, other] {
            let (exec2, write, held) = (exec.clone(), write.clone(), held.clone());
            exec.spawn(group, async move {
                exec2.sleep(10).await;
                write(group.0 as u64);
                drop(held);
            });
        }
        exec.drain();
        exec.kill(dead);
        assert_eq!(Rc::strong_count(&held), 2, "what the dead task held is gone");
        let write2 = write.clone();
        exec.spawn(other, async move { write2(77) });
        exec.spawn(dead, async { unreachable!("a dead group runs nothing") });
        run(&exec, 100);
        assert_eq!(*log.borrow(), [77, 1]);
    }

    #[test]
    fn a_paused_group_waits() {
        let exec = Executor::new(1);
        let (log, write) = log();
        let group = exec.group();
        let exec2 = exec.clone();
        exec.spawn(group, async move {
            exec2.sleep(10).await;
            write(exec2.now_ns());
        });
        exec.drain();
        exec.pause(group, true);
        run(&exec, 50);
        assert!(log.borrow().is_empty());
        exec.pause(group, false);
        run(&exec, 60);
        assert_eq!(*log.borrow(), [50]);
    }

    #[test]
    fn the_seed_decides_the_order_and_the_trace() {
        let go = |seed| {
            let exec = Executor::new(seed);
            let (log, write) = log();
            for n in 0..50 {
                let (write, exec2) = (write.clone(), exec.clone());
                exec.spawn(exec.group(), async move {
                    exec2.sleep(5).await;
                    write(n);
                });
            }
            exec.spawn(exec.group(), std::future::pending());
            run(&exec, 10);
            let order = log.borrow().clone();
            (order, exec.trace())
        };
        assert_eq!(go(1), go(1));
        assert_ne!(go(1).0, go(2).0);
        assert_ne!(go(1).1, go(2).1);
    }

    #[test]
    #[should_panic(expected = "without end")]
    fn tasks_that_wake_themselves_for_ever_are_noticed() {
        let exec = Executor::new(1);
        exec.spawn(exec.group(), async {
            loop {
                ringkv_storage::disk::fault::testing::yield_once().await;
            }
        });
        exec.drain();
    }
}

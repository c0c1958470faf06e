//! Futures side by side on one thread, over one ring: as a host runs them, without a host.

use crate::host::thread_cpu;
use ringkv_storage::disk::uring::ring::Ring;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Set when a future may go on.
struct Awake(AtomicBool);

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Awake {
    fn new() -> Arc<Awake> {
        Arc::new(Awake(AtomicBool::new(true)))
    }
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// Polls `future` if it is awake.
    fn poll<T>(self: &Arc<Self>, waker: &Waker, future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
        if !self.0.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        future.poll(&mut Context::from_waker(waker))
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    awake: Arc<Awake>,
    waker: Waker,
    /// Where its CPU time is added up, when somebody asks for it.
    cpu: Option<Rc<Cell<Duration>>>,
}

impl Task {
    fn poll(&mut self) -> Poll<()> {
        let Some(cpu) = &self.cpu else { return self.awake.poll(&self.waker, self.future.as_mut()) };
        if !self.awake.is_set() {
            return Poll::Pending;
        }
        let before = thread_cpu();
        let polled = self.awake.poll(&self.waker, self.future.as_mut());
        cpu.set(cpu.get() + (thread_cpu() - before));
        polled
    }
}

/// The tasks of a thread and the ring that wakes them. Clones are the same.
#[derive(Clone)]
pub struct Tasks {
    ring: Ring,
    tasks: Rc<RefCell<Vec<Task>>>,
}

impl Tasks {
    /// None yet.
    pub fn new(ring: Ring) -> Tasks {
        Tasks { ring, tasks: Rc::default() }
    }

    /// Adds one; it runs when somebody turns.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.add(None, future);
    }

    /// Adds one whose CPU time is added to `cpu`.
    pub fn spawn_metered(&self, cpu: &Rc<Cell<Duration>>, future: impl Future<Output = ()> + 'static) {
        self.add(Some(cpu.clone()), future);
    }

    fn add(&self, cpu: Option<Rc<Cell<Duration>>>, future: impl Future<Output = ()> + 'static) {
        let awake = Awake::new();
        let waker = Waker::from(awake.clone());
        self.tasks.borrow_mut().push(Task { future: Box::pin(future), awake, waker, cpu });
    }

    /// Lets each that is awake go on once, then hands out completions; never waits.
    pub fn turn(&self) {
        self.poll_all();
        self.turn_ring();
    }

    /// As [`Tasks::turn`]; sleeps until something completes when nobody can go on.
    pub fn turn_waiting(&self) {
        self.poll_all();
        if !self.tasks.borrow().is_empty() {
            self.rest(false);
        }
    }

    /// As [`Tasks::turn`]; sleeps for at most `limit`, or until something completes, when nobody can go on.
    pub fn turn_within(&self, limit: Duration) {
        self.poll_all();
        if self.is_awake() {
            self.turn_ring();
        } else if self.ring.in_flight() > 0 {
            self.ring.turn().and_then(|_| self.ring.nap(limit)).expect("the ring works");
        } else {
            std::thread::sleep(limit);
        }
    }

    /// Turns until none is left.
    pub fn run(&self) {
        self.run_spinning(Duration::ZERO);
    }

    /// The same; looks for completions for so long before each sleep, as a core that was given a time to spin does.
    pub fn run_spinning(&self, limit: Duration) {
        loop {
            self.poll_all();
            if self.tasks.borrow().is_empty() {
                return;
            }
            self.spin(limit);
            self.rest(false);
        }
    }

    /// Until somebody is awake, for so long at most.
    fn spin(&self, limit: Duration) {
        let begun = Instant::now();
        while !self.is_awake() && begun.elapsed() < limit {
            self.turn_ring();
        }
    }

    /// Runs a future to its end, and the tasks beside it.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let (awake, mut future) = (Awake::new(), pin!(future));
        let waker = Waker::from(awake.clone());
        loop {
            if let Poll::Ready(output) = awake.poll(&waker, future.as_mut()) {
                return output;
            }
            self.poll_all();
            self.rest(awake.is_set());
        }
    }

    /// Hands out completions; sleeps until there are some when nobody is awake.
    ///
    /// # Panics
    /// When nobody is awake and nothing is in flight: somebody waits for what never comes.
    fn rest(&self, awake: bool) {
        if awake || self.is_awake() {
            return self.turn_ring();
        }
        assert!(self.ring.in_flight() > 0, "a task waits for what never comes");
        self.ring.turn_waiting().expect("the ring works");
    }

    fn is_awake(&self) -> bool {
        self.tasks.borrow().iter().any(|task| task.awake.is_set())
    }

    fn turn_ring(&self) {
        self.ring.turn().expect("the ring works");
    }

    /// The list is taken out meanwhile, because a task may add others.
    fn poll_all(&self) {
        let mut tasks = self.tasks.take();
        tasks.retain_mut(|task| task.poll().is_pending());
        let fresh = self.tasks.replace(tasks);
        self.tasks.borrow_mut().extend(fresh);
    }
}

//! The turn of a core: submit and run the ring's work, wake who has something to do, yield to them, and sleep when nobody has.

use crate::clock;
use crate::host::glommio::Inner;
use crate::host::glommio::alarm::Alarm;
use crate::host::glommio::conn::Conn;
use glommio::timer::Timer;
use ringkv_storage::disk::uring::provided::Provided;
use ringkv_storage::disk::uring::ring::{Ring, RingError};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// glommio's executor can go to sleep with tasks ready to run: whatever asks for preemption (its preemption timer, another
/// thread's wake-up) between its look at the kernel and its first task makes it believe that there was nothing to do. It
/// then sleeps until the next event. So there is always a next event: timers at these intervals, several, because the one
/// that just fired may be the task that is overlooked.
const GUARDS: u32 = 3;
const GUARD_PERIOD: Duration = Duration::from_millis(150);

/// A core with nothing to do first sleeps in its own ring, for at most so long: what it waits for comes from there, and one
/// system call does it. Only after a whole nap without news does it sleep the executor's way, which hears of everything: while naps
/// follow each other, the executor's timers and news from other threads wait for its preemption timer, as they do on a busy core.
const NAP: Duration = Duration::from_millis(5);
/// Turns in a row in which nobody had anything to do before a nap. One lets those run whom the last one woke; what these wake
/// in turn is rarely more than two steps away, and waits for the nap's end if it is.
const QUIET_TURNS: u32 = 4;

/// What the stores of one core share.
pub(super) struct Core {
    pub ring: Ring,
    /// Where sockets are received into.
    pub provided: Provided,
    stores: RefCell<Vec<Weak<Inner>>>,
    /// Connections with bytes to send, in the order of their first.
    dirty: RefCell<Vec<Rc<Conn>>>,
    /// The driver, asleep, and whether it is to wake.
    driver: Cell<Option<Waker>>,
    nudged: Cell<bool>,
    /// When it will wake by itself; 0 while it is awake.
    asleep_until_ns: Cell<u64>,
    ended: Cell<bool>,
    spin_ns: u64,
}

impl Core {
    pub fn new(ring: Ring, provided: Provided, spin: Duration) -> Core {
        Core {
            ring,
            provided,
            stores: RefCell::default(),
            dirty: RefCell::default(),
            driver: Cell::new(None),
            nudged: Cell::new(false),
            asleep_until_ns: Cell::new(0),
            ended: Cell::new(false),
            spin_ns: spin.as_nanos() as u64,
        }
    }

    pub fn add_store(&self, store: &Rc<Inner>) {
        self.stores.borrow_mut().push(Rc::downgrade(store));
    }

    /// The connection's bytes leave with the next turn.
    pub fn touch(&self, conn: Rc<Conn>) {
        self.dirty.borrow_mut().push(conn);
        self.nudge();
    }

    /// A store waits until then.
    pub fn expect(&self, until_ns: u64) {
        if until_ns < self.asleep_until_ns.get() {
            self.nudge();
        }
    }

    /// Ends the driver after its present turn.
    pub fn end(&self) {
        self.ended.set(true);
        self.nudge();
    }

    fn nudge(&self) {
        if let Some(driver) = self.driver.take() {
            self.nudged.set(true);
            driver.wake();
        }
    }

    fn flush(&self) -> usize {
        let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
        dirty.iter().for_each(Conn::flush);
        dirty.len()
    }

    fn living(&self) -> Vec<Rc<Inner>> {
        self.stores.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    fn wake_due(&self, now_ns: u64) -> usize {
        self.living().iter().filter(|store| store.wake_if_due(now_ns)).count()
    }

    /// How long the core may nap: not at all while a store is at work on something else than waiting.
    fn nap(&self, now_ns: u64) -> Option<Duration> {
        let free = !self.ended.get() && self.dirty.borrow().is_empty();
        let waiting = free && self.living().iter().all(|store| store.waits());
        let left = Duration::from_nanos(self.earliest_ns().saturating_sub(now_ns));
        waiting.then_some(left.min(NAP)).filter(|left| !left.is_zero())
    }

    fn earliest_ns(&self) -> u64 {
        self.living().iter().map(|store| store.waits_until_ns()).min().unwrap_or(u64::MAX)
    }

    /// Sleeps until the ring has completions, somebody has work for it, or a store's time has come.
    async fn sleep(&self, alarm: &mut Alarm) {
        let until_ns = self.earliest_ns();
        let left = until_ns.saturating_sub(clock::now().boot_ns);
        let mut timer = (until_ns != u64::MAX).then(|| Timer::new(Duration::from_nanos(left)));
        if self.ended.get() || !self.dirty.borrow().is_empty() {
            return;
        }
        self.asleep_until_ns.set(until_ns);
        self.nudged.set(false);
        poll_fn(|cx: &mut Context<'_>| {
            self.driver.set(Some(cx.waker().clone()));
            let ready = self.nudged.get()
                || self.ring.poll_pushed(cx).is_ready()
                || alarm.poll(cx).is_ready()
                || timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.asleep_until_ns.set(0);
        self.driver.set(None);
    }
}

/// Drives the ring until [`Core::end`], then empties it. An error means that no operation will complete any more.
pub(super) async fn drive(core: Rc<Core>) -> Result<(), RingError> {
    let eventfd = core.ring.eventfd().map_err(RingError::Enter)?;
    let mut alarm = Alarm::new(eventfd);
    for guard in 0..GUARDS {
        glommio::spawn_local(guard_sleep(GUARD_PERIOD * guard / GUARDS, Rc::downgrade(&core))).detach();
    }
    let executor = glommio::executor();
    let (mut idle_since, mut quiet, mut napped) = (None, 0, false);
    while !core.ended.get() {
        let flushed = core.flush();
        let turn = core.ring.turn()?;
        let now_ns = clock::now().boot_ns;
        let woken = core.wake_due(now_ns);
        let busy = !turn.is_idle() || flushed > 0 || woken > 0;
        if busy {
            (idle_since, quiet, napped) = (None, 0, false);
        } else if let Some(since) = idle_since
            && now_ns - since >= core.spin_ns
        {
            quiet += 1;
            if quiet < QUIET_TURNS {
                executor.yield_now().await;
                continue;
            }
            if let Some(limit) = core.nap(now_ns).filter(|_| !napped) {
                napped = core.ring.nap(limit)?.is_idle() && limit == NAP;
                (idle_since, quiet) = (None, 0);
                executor.yield_now().await;
                continue;
            }
            napped = false;
            if core.ring.arm()?.is_idle() {
                core.sleep(&mut alarm).await;
            }
            core.ring.disarm();
            (idle_since, quiet) = (None, 0);
            continue;
        } else {
            // Idle, but those woken in this turn have not run yet.
            idle_since = idle_since.or(Some(now_ns));
        }
        executor.yield_now().await;
    }
    core.ring.shutdown()
}

/// Keeps a timer in the executor while the core lives.
async fn guard_sleep(delay: Duration, core: Weak<Core>) {
    glommio::timer::sleep(delay).await;
    while core.strong_count() > 0 {
        glommio::timer::sleep(GUARD_PERIOD).await;
    }
}

//! One raw io_uring ring for one thread.
//!
//! It knows neither files nor sockets: whoever uses it pushes submission entries together with an [`Owner`], the object that
//! keeps alive everything the entry points at. The ring holds that owner until the kernel has posted the last completion of
//! the entry, whatever happened to the future or the connection that wanted it. That one rule is what makes it sound:
//!
//! - a dropped future drops one reference; the buffer and the descriptor stay in the ring's slab until completion;
//! - a completion queue that overflows loses nothing (the kernel keeps the rest, `IORING_FEAT_NODROP`);
//! - a ring that goes away first cancels what is in flight and waits; where even that fails it leaks its slab and its memory,
//!   and never frees early (closing the ring's descriptor does not wait for the kernel).
//!
//! Built where it is used: SINGLE_ISSUER and DEFER_TASKRUN where the kernel takes them, so completions are posted only inside
//! [`Ring::turn`], on this thread. To sleep: [`Ring::arm`], then wait until [`Ring::eventfd`] is readable or
//! [`Ring::poll_pushed`] is ready, then [`Ring::disarm`].

mod op;
mod slab;

pub use op::{Cancelling, Done, Op, to_result};

use io_uring::squeue::Entry;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, types};
use slab::Slab;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Completions handed out between two looks at the queue.
const BATCH: usize = 256;
/// User data of entries whose completion nobody wants.
const IGNORED: u64 = u64::MAX;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Submission entries; what does not fit waits in memory.
    pub submissions: u32,
    /// Completion entries; what does not fit waits in the kernel.
    pub completions: u32,
}

impl Default for RingOptions {
    fn default() -> RingOptions {
        RingOptions { submissions: 512, completions: 4096 }
    }
}

/// Reads that are submitted before the turn ends.
const SUBMITTED_EARLY: usize = 4;

/// The ring cannot be had, or broke.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The system refuses io_uring: forbidden, or no memory that may be locked.
    #[error("io_uring is refused here: {0}")]
    Refused(#[source] io::Error),
    /// The kernel lacks something this ring needs.
    #[error("this kernel's io_uring lacks {0}")]
    TooOld(&'static str),
    /// Entering the kernel failed: no operation will ever complete again.
    #[error("io_uring_enter: {0}")]
    Enter(#[source] io::Error),
}

/// What the kernel said about one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Not negative: the system call's result. Negative: an error number.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
    /// Whether the entry is finished; a multishot entry completes many times before its last.
    pub last: bool,
}

/// Keeps alive what an entry points at, and hears of its completions, on the ring's thread, inside [`Ring::turn`].
///
/// `tag` is what was given to [`Ring::push`]. It may push further entries; it must not call `turn`.
pub trait Owner {
    /// One completion.
    fn complete(self: Rc<Self>, tag: u32, done: Completion);
}

/// Names an entry in flight, for [`Ring::cancel`]. Never reused for another one within 2^32 uses of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Entries taken by the kernel.
    pub submitted: usize,
    /// Completions handed to their owners.
    pub completed: usize,
}

impl Turn {
    /// Whether nothing happened.
    pub fn is_idle(&self) -> bool {
        self.submitted == 0 && self.completed == 0
    }
}

/// A handle to the ring; not `Send`.
#[derive(Clone)]
pub struct Ring(Rc<Inner>);

struct Inner {
    state: RefCell<State>,
    /// Woken by the next push.
    pushed: Cell<Option<Waker>>,
    /// Completions being handed out; kept for its memory.
    batch: Cell<Vec<(u64, Completion)>>,
}

/// Dropped by hand, in this order, by `Inner::drop`: only when nothing is in flight.
struct State {
    uring: ManuallyDrop<IoUring>,
    slab: ManuallyDrop<Slab>,
    /// Memory registered with the ring.
    registered: ManuallyDrop<Vec<Rc<dyn Any>>>,
    eventfd: OwnedFd,
    /// Entries that found the submission queue full, oldest first.
    waiting: VecDeque<Entry>,
    /// Entries refused since shutdown began: completed with -ECANCELED at the next turn.
    refused: Vec<u64>,
    closed: bool,
}

impl Ring {
    /// Makes a ring, on the thread that will use it.
    pub fn new(options: RingOptions) -> Result<Ring, RingError> {
        let uring = build(options)?;
        let eventfd = eventfd().map_err(RingError::Refused)?;
        uring.submitter().register_eventfd(eventfd.as_raw_fd()).map_err(RingError::Refused)?;
        let mut state = State {
            uring: ManuallyDrop::new(uring),
            slab: ManuallyDrop::default(),
            registered: ManuallyDrop::default(),
            eventfd,
            waiting: VecDeque::new(),
            refused: Vec::new(),
            closed: false,
        };
        state.uring.completion().disable_eventfd();
        Ok(Ring(Rc::new(Inner { state: RefCell::new(state), pushed: Cell::new(None), batch: Cell::default() })))
    }

    /// Pushes an entry; its user data is the ring's. It reaches the kernel with the next [`Ring::turn`].
    ///
    /// # Safety
    /// Everything `entry` points at (memory, descriptors) is owned by `owner` or lives as long as the process, and stays
    /// valid, unmoved and free of conflicting access while the ring holds `owner`, that is until its last completion.
    pub unsafe fn push(&self, entry: Entry, owner: Rc<dyn Owner>, tag: u32) -> Ticket {
        let mut state = self.0.state.borrow_mut();
        let data = state.slab.insert(owner, tag);
        state.admit(entry.user_data(data));
        drop(state);
        self.wake();
        Ticket(data)
    }

    /// Asks the kernel to give up an entry. It still completes, with -ECANCELED or with what it did.
    pub fn cancel(&self, ticket: Ticket) {
        let mut state = self.0.state.borrow_mut();
        if state.slab.holds(ticket.0) && !state.closed {
            let entry = opcode::AsyncCancel::new(ticket.0).build().user_data(IGNORED);
            state.admit(entry);
            drop(state);
            self.wake();
        }
    }

    /// Submits what was pushed, runs the kernel's deferred work and hands out completions. Never waits.
    pub fn turn(&self) -> Result<Turn, RingError> {
        let submitted = self.enter(0)?;
        Ok(Turn { submitted, completed: self.drain() })
    }

    /// Submits at once when several entries wait for it: the device works on them while this thread goes on with others. What goes
    /// wrong is told by the next turn.
    pub(super) fn submit_some(&self) {
        let many = self.0.state.borrow_mut().uring.submission().len() >= SUBMITTED_EARLY;
        if many {
            let _told_by_the_next_turn = self.enter(0);
        }
    }

    /// As [`Ring::turn`], but waits in the kernel for at least one completion when anything is in flight. For tools and
    /// tests; a signal ends the wait.
    pub fn turn_waiting(&self) -> Result<Turn, RingError> {
        let first = self.turn()?;
        if first.completed > 0 || self.in_flight() == 0 {
            return Ok(first);
        }
        let submitted = first.submitted + self.enter(1)?;
        Ok(Turn { submitted, completed: self.drain() })
    }

    /// Sleeps in the kernel until something completes, at most `limit`, then hands out completions. One system call, where
    /// sleeping elsewhere until the eventfd is readable takes a dozen; but nothing else on this thread runs meanwhile. Does not
    /// sleep while something waits to be submitted, nor on a kernel before 5.11.
    pub fn nap(&self, limit: Duration) -> Result<Turn, RingError> {
        if !self.0.nap(limit)? {
            return self.turn();
        }
        Ok(Turn { submitted: 0, completed: self.drain() })
    }

    /// Runs a future to its end on this thread, driving the ring. For tools and tests: the future may wait for this ring
    /// only, or wake itself.
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, RingError> {
        let mut future = std::pin::pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
            self.turn_waiting()?;
        }
    }

    /// Entries that have not completed for the last time.
    pub fn in_flight(&self) -> usize {
        self.0.state.borrow().slab.len()
    }

    /// Ready when something was pushed and waits for a turn; else the waker is woken by the next push. One waiter.
    pub fn poll_pushed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.state.borrow_mut().has_work() {
            return Poll::Ready(());
        }
        self.0.pushed.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// A non-blocking eventfd, readable when completions wait, between [`Ring::arm`] and [`Ring::disarm`].
    pub fn eventfd(&self) -> io::Result<OwnedFd> {
        self.0.state.borrow().eventfd.try_clone()
    }

    /// Before sleeping: switches the eventfd on, then takes a turn, so that nothing posted before is missed. Sleep only when
    /// that turn was idle. (The kernel tests the switch after it has queued its work, and this turn's entry takes all queued
    /// work, so each completion is either seen here or signalled.)
    pub fn arm(&self) -> Result<Turn, RingError> {
        self.0.state.borrow_mut().uring.completion().enable_eventfd();
        let submitted = self.enter_always()?;
        Ok(Turn { submitted, completed: self.drain() })
    }

    /// After sleeping: switches the eventfd off and empties it.
    pub fn disarm(&self) {
        let mut state = self.0.state.borrow_mut();
        state.uring.completion().disable_eventfd();
        let mut count = [0u8; 8];
        // Empty already: EAGAIN, and nothing to do.
        let _ = rustix::io::read(&state.eventfd, &mut count);
    }

    /// Cancels everything and waits until nothing is in flight. Every owner hears of its last completion; entries pushed
    /// from now on complete with -ECANCELED. A write or sync that the disk has begun is waited for.
    pub fn shutdown(&self) -> Result<(), RingError> {
        self.0.shutdown()
    }

    /// Registers something with the ring's descriptor and keeps `memory` alive as long as the ring.
    ///
    /// # Safety
    /// `register` hands to the kernel only memory that `memory` owns and does not move.
    pub(super) unsafe fn register(
        &self,
        memory: Rc<dyn Any>,
        register: impl FnOnce(&io_uring::Submitter<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.0.state.borrow_mut();
        // Kept before the kernel hears of it, also when it refuses: a page or two.
        state.registered.push(memory);
        register(&state.uring.submitter())
    }

    fn wake(&self) {
        if let Some(waker) = self.0.pushed.take() {
            waker.wake();
        }
    }

    fn enter(&self, want: u32) -> Result<usize, RingError> {
        self.0.enter(want, false)
    }

    fn enter_always(&self) -> Result<usize, RingError> {
        self.0.enter(0, true)
    }

    fn drain(&self) -> usize {
        self.0.drain()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let raw = self.0.state.borrow().uring.as_raw_fd();
        // SAFETY: the ring's descriptor is open until `Inner` is dropped, and `self` keeps that alive.
        unsafe { BorrowedFd::borrow_raw(raw) }
    }
}

impl State {
    /// Puts an entry into the submission queue, or behind those that wait.
    fn admit(&mut self, entry: Entry) {
        if self.closed {
            self.refused.push(entry.get_user_data());
        } else if !self.waiting.is_empty() || !self.place(&entry) {
            self.waiting.push_back(entry);
        }
    }

    /// Whether the entry found room.
    fn place(&mut self, entry: &Entry) -> bool {
        // SAFETY: the callers of `push` vouch for what the entry points at while its owner, which the slab holds, is alive;
        // entries made by the ring itself point at nothing.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    fn refill(&mut self) {
        while let Some(entry) = self.waiting.pop_front() {
            if !self.place(&entry) {
                self.waiting.push_front(entry);
                return;
            }
        }
    }

    fn has_work(&mut self) -> bool {
        let queued = !self.uring.submission().is_empty();
        queued || !self.waiting.is_empty() || !self.refused.is_empty()
    }
}

impl Inner {
    /// Enters the kernel when there is something to submit, to run, or to wait for.
    fn enter(&self, want: u32, always: bool) -> Result<usize, RingError> {
        let mut state = self.state.borrow_mut();
        let (mut total, mut entered) = (0, false);
        loop {
            state.refill();
            let (offered, work) = {
                let queue = state.uring.submission();
                (queue.len(), queue.taskrun() || queue.cq_overflow())
            };
            let must = (always || want > 0) && !entered;
            if offered == 0 && !work && !must {
                return Ok(total);
            }
            let want = if entered { 0 } else { want };
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: no argument is passed; the entries offered were placed by `State::place`.
            let taken = unsafe { state.uring.submitter().enter::<libc::sigset_t>(offered as u32, want, flags, None) };
            entered = true;
            match taken {
                Ok(taken) => {
                    total += taken;
                    if taken < offered || state.waiting.is_empty() {
                        return Ok(total);
                    }
                }
                Err(error) => match error.raw_os_error() {
                    // A signal, no memory just now, or completions to be taken first: the next turn goes on.
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => return Ok(total),
                    _ => return Err(RingError::Enter(error)),
                },
            }
        }
    }

    /// Whether it was possible to sleep.
    fn nap(&self, limit: Duration) -> Result<bool, RingError> {
        let mut state = self.state.borrow_mut();
        if state.has_work() || !state.uring.params().is_feature_ext_arg() {
            return Ok(false);
        }
        let limit = types::Timespec::from(limit);
        let slept = state.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&limit));
        match slept.map_err(|error| (error.raw_os_error(), error)) {
            // The time is up, a signal, no memory just now, or completions to be taken first.
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(true),
            Err((_, error)) => Err(RingError::Enter(error)),
        }
    }

    /// Hands out completions until the queue is empty (bounded, should the kernel post without end).
    fn drain(&self) -> usize {
        let mut total = 0;
        for _ in 0..64 {
            let mut batch = self.batch.take();
            batch.clear();
            self.collect(&mut batch);
            if batch.is_empty() {
                self.batch.set(batch);
                return total;
            }
            total += batch.len();
            for &(data, done) in &batch {
                let owned = self.state.borrow_mut().slab.complete(data, done.last);
                if let Some((owner, tag)) = owned {
                    owner.complete(tag, done);
                }
            }
            self.batch.set(batch);
        }
        total
    }

    fn collect(&self, batch: &mut Vec<(u64, Completion)>) {
        let mut state = self.state.borrow_mut();
        for data in std::mem::take(&mut state.refused) {
            batch.push((data, Completion { result: -libc::ECANCELED, flags: 0, last: true }));
        }
        for entry in state.uring.completion().take(BATCH) {
            let flags = entry.flags();
            let done = Completion { result: entry.result(), flags, last: !cqueue::more(flags) };
            batch.push((entry.user_data(), done));
        }
    }

    fn shutdown(&self) -> Result<(), RingError> {
        let mut state = self.state.borrow_mut();
        state.refill();
        drop(state);
        loop {
            self.enter(0, true)?;
            self.drain();
            let mut state = self.state.borrow_mut();
            if state.waiting.is_empty() {
                state.closed = true;
            }
            if state.slab.is_empty() {
                return Ok(());
            }
            let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build().user_data(IGNORED);
            // When the queue is full the next round tries again.
            state.place(&all);
            drop(state);
            self.enter(0, true)?;
            self.drain();
            self.pause()?;
        }
    }

    /// Waits for a completion, 20 ms at most.
    fn pause(&self) -> Result<(), RingError> {
        if self.state.borrow().slab.is_empty() {
            return Ok(());
        }
        let time = types::Timespec::new().nsec(20_000_000);
        let arguments = types::SubmitArgs::new().timespec(&time);
        let waited = self.state.borrow_mut().uring.submitter().submit_with_args(1, &arguments);
        match waited.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(()),
            Err((_, error)) => Err(RingError::Enter(error)),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown() {
            // The kernel may still own buffers in the slab: leaking them, and the ring, is the only safe end.
            tracing::error!(%error, "a ring could not be emptied; its memory is leaked");
            return;
        }
        let state = self.state.get_mut();
        assert!(state.slab.is_empty(), "nothing may be in flight when a ring is freed");
        // SAFETY: `drop` runs once and nothing uses them afterwards. The slab is empty, so no entry in flight points at an
        // owner's memory; the ring is closed before the memory registered with it is freed.
        unsafe {
            ManuallyDrop::drop(&mut state.uring);
            ManuallyDrop::drop(&mut state.slab);
            ManuallyDrop::drop(&mut state.registered);
        }
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call.
    let raw = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The best flags this kernel takes: 6.1 has the first set, 5.19 the second.
fn build(options: RingOptions) -> Result<IoUring, RingError> {
    let mut best = IoUring::builder();
    best.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    let mut cooperative = IoUring::builder();
    cooperative.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
    for mut builder in [best, cooperative, IoUring::builder()] {
        builder.dontfork().setup_clamp().setup_cqsize(options.completions);
        match builder.build(options.submissions) {
            Ok(uring) if !uring.params().is_feature_nodrop() => return Err(RingError::TooOld("NODROP")),
            Ok(uring) => return Ok(uring),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(RingError::Refused(error)),
        }
    }
    Err(RingError::TooOld("a completion queue of its own size"))
}

#[cfg(test)]
mod tests;

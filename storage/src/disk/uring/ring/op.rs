//! Futures of entries that complete once.

use super::{Completion, Owner, Ring, Ticket};
use io_uring::squeue::Entry;
use std::cell::{Cell, UnsafeCell};
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What came of an [`Op`].
#[derive(Debug)]
pub struct Done<T> {
    /// The system call's result. Negative: an error number.
    pub result: i32,
    /// What it kept alive.
    pub keep: T,
}

impl<T> Done<T> {
    /// The result as the system's error.
    pub fn ok(self) -> Result<i32, std::io::Error> {
        to_result(self.result)
    }
}

/// A completion's result, or the error it carries.
pub fn to_result(result: i32) -> Result<i32, std::io::Error> {
    if result < 0 { Err(std::io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

/// Resolves when the operation has completed. Dropping it cancels nothing: what the operation keeps alive stays with the ring
/// until then.
#[must_use = "an operation is watched by polling it"]
pub struct Op<T> {
    shared: Rc<Shared<T>>,
    ticket: Ticket,
}

struct Shared<T> {
    /// While there is no `result` the kernel may be using it: nobody else touches it.
    keep: UnsafeCell<Option<T>>,
    result: Cell<Option<i32>>,
    waker: Cell<Option<Waker>>,
    /// Whether the result is a new descriptor, to be closed when nobody takes it.
    opens: bool,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(result @ 0..) = self.result.get()
            && self.opens
            && self.keep.get_mut().is_some()
        {
            // SAFETY: the kernel opened it for this operation, and what was kept was not taken, so neither was the result.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
    }
}

impl<T: 'static> Owner for Shared<T> {
    fn complete(self: Rc<Self>, _tag: u32, done: Completion) {
        assert!(done.last, "an operation's entry completes once");
        self.result.set(Some(done.result));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Ring {
    /// Pushes the entry that `make` builds over what `keep` owns, at the place where it stays.
    ///
    /// # Safety
    /// The entry points only at memory and descriptors owned by the `T` it was shown (inside it or on its heap) or living
    /// as long as the process; it is not multishot.
    pub unsafe fn op<T: 'static>(&self, keep: T, make: impl FnOnce(&mut T) -> Entry) -> Op<T> {
        // SAFETY: the caller's.
        unsafe { self.single(keep, false, make) }
    }

    /// As [`Ring::op`] for an entry whose result is a new descriptor: closed when the future is dropped before it gave it.
    ///
    /// # Safety
    /// As for [`Ring::op`].
    pub unsafe fn op_opening<T: 'static>(&self, keep: T, make: impl FnOnce(&mut T) -> Entry) -> Op<T> {
        // SAFETY: the caller's.
        unsafe { self.single(keep, true, make) }
    }

    unsafe fn single<T: 'static>(&self, keep: T, opens: bool, make: impl FnOnce(&mut T) -> Entry) -> Op<T> {
        let (keep, result, waker) = (UnsafeCell::new(Some(keep)), Cell::new(None), Cell::new(None));
        let shared = Rc::new(Shared { keep, result, waker, opens });
        // SAFETY: nothing else refers to the cell yet.
        let entry = make(unsafe { (*shared.keep.get()).as_mut() }.expect("put there above"));
        // SAFETY: `shared` owns `keep` in place and touches it only after the last completion; the rest is the caller's.
        let ticket = unsafe { self.push(entry, shared.clone(), 0) };
        Op { shared, ticket }
    }
}

impl<T> Future for Op<T> {
    type Output = Done<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done<T>> {
        let Some(result) = self.shared.result.get() else {
            self.shared.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        // SAFETY: the entry has completed, so the kernel is done with it, and the ring's owner reference does not touch it.
        let keep = unsafe { (*self.shared.keep.get()).take() }.expect("an operation is not polled after it was ready");
        Poll::Ready(Done { result, keep })
    }
}

impl<T> Op<T> {
    /// The same operation, given up by the kernel when the future is dropped: for waits on others that may never end.
    pub fn cancel_on_drop(self, ring: &Ring) -> Cancelling<T> {
        Cancelling { op: self, ring: ring.clone() }
    }
}

/// See [`Op::cancel_on_drop`].
#[must_use = "dropping it cancels it"]
pub struct Cancelling<T> {
    op: Op<T>,
    ring: Ring,
}

impl<T> Future for Cancelling<T> {
    type Output = Done<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done<T>> {
        Pin::new(&mut self.op).poll(cx)
    }
}

impl<T> Drop for Cancelling<T> {
    fn drop(&mut self) {
        // Nothing happens when it has completed.
        self.ring.cancel(self.op.ticket);
    }
}

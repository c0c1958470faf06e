//! Futures of entries that complete once.

use super::{Completion, Owner, Ring};
use io_uring::squeue::Entry;
use std::cell::{Cell, UnsafeCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What came of an [`Op`].
#[derive(Debug)]
pub struct Done<T> {
    /// Results of its one or two entries; the second of a single one is 0. Negative: an error number.
    pub results: [i32; 2],
    /// What it kept alive.
    pub keep: T,
}

impl<T> Done<T> {
    /// The first result as the system's error.
    pub fn ok(self) -> Result<i32, std::io::Error> {
        to_result(self.results[0])
    }
}

/// A completion's result, or the error it carries.
pub fn to_result(result: i32) -> Result<i32, std::io::Error> {
    if result < 0 { Err(std::io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

/// Resolves when all entries of the operation have completed. Dropping it cancels nothing: what the operation keeps alive
/// stays with the ring until then.
#[must_use = "an operation is watched by polling it"]
pub struct Op<T>(Rc<Shared<T>>);

struct Shared<T> {
    /// While `missing` > 0 the kernel may be using it: nobody else touches it.
    keep: UnsafeCell<Option<T>>,
    results: Cell<[i32; 2]>,
    missing: Cell<u32>,
    waker: Cell<Option<Waker>>,
}

impl<T: 'static> Owner for Shared<T> {
    fn complete(self: Rc<Self>, tag: u32, done: Completion) {
        assert!(done.last, "an operation's entries complete once");
        let mut results = self.results.get();
        results[tag as usize] = done.result;
        self.results.set(results);
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0
            && let Some(waker) = self.waker.take()
        {
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
        let (shared, entry) = share(keep, 1, make);
        // SAFETY: `shared` owns `keep` in place and touches it only after the last completion; the rest is the caller's.
        unsafe { self.push(entry, shared.clone(), 0) };
        Op(shared)
    }

    /// As [`Ring::op`] for two linked entries: the second runs when the first has succeeded in full.
    ///
    /// # Safety
    /// As for [`Ring::op`], for both.
    pub unsafe fn op_linked<T: 'static>(&self, keep: T, make: impl FnOnce(&mut T) -> (Entry, Entry)) -> Op<T> {
        let (shared, (first, second)) = share(keep, 2, make);
        // SAFETY: as in `op`.
        unsafe { self.push_linked(first, second, shared.clone()) };
        Op(shared)
    }
}

fn share<T, E>(keep: T, entries: u32, make: impl FnOnce(&mut T) -> E) -> (Rc<Shared<T>>, E) {
    let shared = Rc::new(Shared {
        keep: UnsafeCell::new(Some(keep)),
        results: Cell::new([0; 2]),
        missing: Cell::new(entries),
        waker: Cell::new(None),
    });
    // SAFETY: nothing else refers to the cell yet.
    let made = make(unsafe { (*shared.keep.get()).as_mut() }.expect("put there above"));
    (shared, made)
}

impl<T> Future for Op<T> {
    type Output = Done<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done<T>> {
        if self.0.missing.get() > 0 {
            self.0.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        // SAFETY: all entries have completed, so the kernel is done with it, and the ring's owner reference does not touch it.
        let keep = unsafe { (*self.0.keep.get()).take() }.expect("an operation is not polled after it was ready");
        Poll::Ready(Done { results: self.0.results.get(), keep })
    }
}

//! Who waits for the log, and how a completion reaches them.
//!
//! The log's own writes are polled by whichever commit future is polled, with the hub as their waker; a completion wakes
//! every waiting future. So each caller makes progress alone, and a dropped future leaves nobody hanging.

use crate::error::StorageError;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Wake, Waker};

/// Wakers of all waiting futures.
#[derive(Default)]
pub(crate) struct Hub {
    woken: AtomicBool,
    waiters: Mutex<BTreeMap<u64, Waker>>,
}

impl Hub {
    pub(crate) fn wait(&self, id: u64, waker: &Waker) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        match waiters.get_mut(&id) {
            Some(old) => old.clone_from(waker),
            None => drop(waiters.insert(id, waker.clone())),
        }
    }

    pub(crate) fn forget(&self, id: u64) {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Whether a write completed, or may have, since last asked.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    /// Lets every waiting future look again.
    pub(crate) fn wake_waiters(&self) {
        let waiters: Vec<Waker> =
            self.waiters.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        waiters.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Hub {
    fn wake(self: std::sync::Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.wake_waiters();
    }
}

/// How far a commit has come.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// Not all of it is in a batch.
    Queued,
    /// Its last record is in this batch.
    Batched(u64),
    Failed(StorageError),
}

/// One commit, shared by its future and the queue.
pub(crate) struct Ticket {
    pub(crate) id: u64,
    pub(crate) outcome: RefCell<Outcome>,
}

impl Ticket {
    pub(crate) fn set(&self, outcome: Outcome) {
        *self.outcome.borrow_mut() = outcome;
    }
}

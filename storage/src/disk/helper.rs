//! One ordinary thread that makes a disk's blocking calls, so that the core's executor never waits in one.
//!
//! The one place in this crate besides `db/driver` that starts a thread; it belongs to the real disks.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// A handle to a helper thread, which ends when its last handle is dropped and its last job is done.
pub struct Helper<J> {
    jobs: Sender<J>,
}

impl<J> Clone for Helper<J> {
    fn clone(&self) -> Helper<J> {
        Helper { jobs: self.jobs.clone() }
    }
}

impl<J: Send + 'static> Helper<J> {
    /// Starts a thread called `name` that runs `work` on the queue of jobs.
    pub fn start(name: &str, work: impl FnOnce(Receiver<J>) + Send + 'static) -> std::io::Result<Helper<J>> {
        let (jobs, queue) = channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || work(queue))?;
        Ok(Helper { jobs })
    }

    /// Queues a job. A job that cannot be queued, because the thread died, is dropped, and its [`Promise`] with it.
    pub fn push(&self, job: J) {
        let _ = self.jobs.send(job);
    }
}

/// The giving end of a value that crosses threads once. Dropped without a value, the taking end gets `None`.
pub struct Promise<T>(Arc<Mutex<Slot<T>>>);

/// The taking end: a future that any executor can drive, because its waker is called from the other thread.
pub struct Answer<T>(Arc<Mutex<Slot<T>>>);

struct Slot<T> {
    value: Option<T>,
    given: bool,
    waker: Option<Waker>,
}

impl<T> std::fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

/// A value to be given by another thread.
pub fn promise<T>() -> (Promise<T>, Answer<T>) {
    let slot = Arc::new(Mutex::new(Slot { value: None, given: false, waker: None }));
    (Promise(slot.clone()), Answer(slot))
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    // The critical sections below cannot panic halfway.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Promise<T> {
    /// Gives the value and wakes the taker.
    pub fn give(self, value: T) {
        lock(&self.0).value = Some(value);
        // The rest is in `drop`.
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.given = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Answer<T> {
    /// Lets the calling thread wait for it.
    pub fn wait(mut self) -> Option<T> {
        let waker = Waker::from(Arc::new(Sleeper(thread::current())));
        loop {
            if let Poll::Ready(value) = Pin::new(&mut self).poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            thread::park();
        }
    }
}

/// A thread that waits.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.0);
        if slot.given {
            return Poll::Ready(slot.value.take());
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

//! Messages to a core from other threads. It knows no runtime: any executor's waker may be woken from another thread.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A queue with one taker, which waits as a future. Clones share it.
pub struct Mailbox<M>(Arc<Mutex<Queue<M>>>);

struct Queue<M> {
    messages: VecDeque<M>,
    taker: Option<Waker>,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Mailbox<M> {
        Mailbox(self.0.clone())
    }
}

impl<M> Default for Mailbox<M> {
    fn default() -> Mailbox<M> {
        Mailbox(Arc::new(Mutex::new(Queue { messages: VecDeque::new(), taker: None })))
    }
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailbox({} waiting)", self.lock().messages.len())
    }
}

impl<M> Mailbox<M> {
    /// Puts a message in and wakes the taker. From any thread.
    pub fn post(&self, message: M) {
        let taker = {
            let mut queue = self.lock();
            queue.messages.push_back(message);
            queue.taker.take()
        };
        if let Some(taker) = taker {
            taker.wake();
        }
    }

    /// The next message, in the order of posting. One taker at a time.
    pub fn next(&self) -> impl Future<Output = M> + '_ {
        poll_fn(|cx| {
            let mut queue = self.lock();
            match queue.messages.pop_front() {
                Some(message) => Poll::Ready(message),
                None => {
                    queue.taker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue<M>> {
        // Nothing above can panic halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

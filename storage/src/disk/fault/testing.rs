//! Driving futures in tests, without a runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Polls `future` until it is done.
///
/// # Panics
/// When it is still pending after a million polls: in one thread, on this disk, it then waits for something that never
/// comes.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(out) = future.as_mut().poll(&mut context) {
            return out;
        }
    }
    panic!("the future waits for something that never comes");
}

/// Pending once, then ready: lets others go first.
pub fn yield_once() -> impl Future<Output = ()> {
    let mut waited = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Futures that run side by side, polled round robin, each to its end.
#[derive(Default)]
pub struct Tasks<'a> {
    tasks: Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>,
}

impl<'a> Tasks<'a> {
    /// None yet.
    pub fn new() -> Tasks<'a> {
        Tasks::default()
    }

    /// One more.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + 'a) {
        self.tasks.push(Box::pin(task));
    }

    /// Polls each once, in the order they were added; answers how many are left.
    pub fn poll_all(&mut self) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        self.tasks.len()
    }

    /// Polls all until none is left.
    ///
    /// # Panics
    /// As [`block_on`].
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if self.poll_all() == 0 {
                return;
            }
        }
        panic!("{} tasks wait for something that never comes", self.tasks.len());
    }
}

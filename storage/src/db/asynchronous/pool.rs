//! Threads for what waits, shared by all databases of the process: started when there is more work than idle threads, ended when
//! there was none for a while.
//!
//! Only reads are made here side by side. Of each database one write and one sync at a time are here: see [`super::lane`]. So reads find
//! a thread however many writes wait.

use crate::disk::helper::{Answer, promise};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Most threads: reads of the disk side by side.
const THREADS_MAX: usize = 32;
/// A thread without work ends after this.
const IDLE: Duration = Duration::from_secs(5);

pub(super) type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: Mutex<Queue>,
    called: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Those that wait for work.
    idle: usize,
}

static POOL: Pool =
    Pool { queue: Mutex::new(Queue { jobs: VecDeque::new(), threads: 0, idle: 0 }), called: Condvar::new() };

/// Has a thread do this. The answer is none when it panicked, or when the system gives no thread.
pub(super) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let (promise, answer) = promise();
    push(Box::new(move || promise.give(work())));
    answer
}

/// Has a thread do this; it is dropped when the system gives none.
pub(super) fn push(job: Job) {
    let mut queue = POOL.queue();
    queue.jobs.push_back(job);
    if queue.jobs.len() <= queue.idle {
        POOL.called.notify_one();
    } else if queue.threads < THREADS_MAX {
        queue.threads += 1;
        drop(queue);
        let started = thread::Builder::new().name("ringkv-db-pool".to_owned()).spawn(|| POOL.work());
        if let Err(error) = started {
            tracing::error!(%error, "no thread for what waits");
            drop(POOL.started_none());
        }
    }
}

/// Does it. Who waits for one that panics hears of it: what it promised is dropped.
pub(super) fn attempt(job: Job) {
    let _ = catch_unwind(AssertUnwindSafe(job));
}

impl Pool {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No job runs under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread less than thought; answers what nobody will do then.
    fn started_none(&self) -> VecDeque<Job> {
        let mut queue = self.queue();
        queue.threads -= 1;
        if queue.threads == 0 { std::mem::take(&mut queue.jobs) } else { VecDeque::new() }
    }

    /// The life of a thread.
    fn work(&self) {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                attempt(job);
                queue = self.queue();
                continue;
            }
            queue.idle += 1;
            let (locked, waited) = self.called.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = locked;
            queue.idle -= 1;
            if waited.timed_out() && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

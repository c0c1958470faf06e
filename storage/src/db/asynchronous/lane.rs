//! What is done one after the other, in a thread of the pool that is there only meanwhile. It goes on whether or not somebody polls:
//! a lock that is handed from future to future would stand still with the first that is not.

use crate::db::asynchronous::pool::{self, Job};
use crate::disk::helper::{Answer, promise};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The lanes of a database.
#[derive(Default)]
pub(in crate::db) struct Lanes {
    /// Writes that wait for other writers or for memory, and writers that let flushes and merges catch up.
    pub(super) writes: Lane,
    /// Syncs: the first makes durable what all behind it wait for.
    pub(super) syncs: Lane,
}

/// One behind the other.
#[derive(Clone, Default)]
pub(super) struct Lane(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    /// Whether a thread is at it, or will be.
    moves: bool,
}

impl Lane {
    /// Does this when all before it is done. The answer is none when it panicked, or when the system gives no thread.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
        let (promise, answer) = promise();
        let mut line = self.line();
        line.jobs.push_back(Box::new(move || promise.give(work())));
        if !std::mem::replace(&mut line.moves, true) {
            drop(line);
            let turn = Turn { lane: self.clone(), done: false };
            pool::push(Box::new(move || turn.work()));
        }
        answer
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // No job runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to do all there is.
struct Turn {
    lane: Lane,
    done: bool,
}

impl Turn {
    fn work(mut self) {
        while let Some(job) = self.next() {
            pool::attempt(job);
        }
    }

    fn next(&mut self) -> Option<Job> {
        let mut line = self.lane.line();
        let job = line.jobs.pop_front();
        self.done = job.is_none();
        line.moves = !self.done;
        job
    }
}

impl Drop for Turn {
    /// It never begins when the system gives no thread: those who wait hear of it.
    fn drop(&mut self) {
        if !self.done {
            let mut line = self.lane.line();
            line.moves = false;
            let lost = std::mem::take(&mut line.jobs);
            drop(line);
            drop(lost);
        }
    }
}

//! What is counted while a phase runs: by each thread for itself, a second at a time.

use ringkv::Stages;
use serde::{Deserialize, Serialize};

use crate::latency::Latencies;
use crate::store::Failure;

/// What was counted in a stretch of time.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Latencies of calls.
    pub latencies: Latencies,
    /// Calls answered.
    pub calls: u64,
    /// Keys asked for in them.
    pub keys: u64,
    /// What did not go well.
    pub errors: Errors,
    /// Where the time went, as far as clients can tell.
    pub stages: Stages,
    /// Keys that clients sent once more.
    pub again: u64,
}

impl Tally {
    /// Adds what a client tells of a stretch.
    pub fn spent(&mut self, stages: Stages, again: u64) {
        let Stages { keys, queued_ns, away_ns, store_ns } = stages;
        self.stages.keys += keys;
        self.stages.queued_ns += queued_ns;
        self.stages.away_ns += away_ns;
        self.stages.store_ns += store_ns;
        self.again += again;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Tally) {
        self.latencies.merge(&other.latencies);
        self.calls += other.calls;
        self.keys += other.keys;
        self.errors.add(&other.errors);
        self.spent(other.stages, other.again);
    }
}

/// What did not go well, counted by key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// Surely not done.
    pub not_applied: u64,
    /// Done, the answer lost.
    pub applied: u64,
    /// Not known.
    pub unknown: u64,
    /// Read and not there.
    pub absent: u64,
    /// Read, and it is another key's value.
    pub wrong: u64,
    /// Keys for which a call gave no answer at all.
    pub unanswered: u64,
    /// Callers that ended by a panic.
    pub lost_callers: u64,
}

impl Errors {
    /// Counts one failure.
    pub fn count(&mut self, failure: Failure) {
        match failure {
            Failure::NotApplied => self.not_applied += 1,
            Failure::Applied => self.applied += 1,
            Failure::Unknown => self.unknown += 1,
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Errors) {
        self.not_applied += other.not_applied;
        self.applied += other.applied;
        self.unknown += other.unknown;
        self.absent += other.absent;
        self.wrong += other.wrong;
        self.unanswered += other.unanswered;
        self.lost_callers += other.lost_callers;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        let asked = self.not_applied + self.applied + self.unknown;
        asked + self.absent + self.wrong + self.unanswered + self.lost_callers
    }
}

//! What a run does.

use std::time::Duration;

use crate::choose::Distribution;
use crate::keys::PREFIX_BYTES_MAX;

/// The work of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Number of distinct keys.
    pub keys: u64,
    /// First bytes of every key, at most 8; a key has 16 bytes in all.
    pub prefix: String,
    /// Bytes of every value.
    pub value_bytes: usize,
    /// Keys in one call: 1 is `get` and `put`, more is `get_many` and `put_many`.
    pub batch: usize,
    /// Callers at the same time, over all clients.
    pub tasks: usize,
    /// How keys are chosen; when not said, as each kind of work has it. Loading and verifying take each key once.
    pub distribution: Option<Distribution>,
    /// Seed of all choices.
    pub seed: u64,
    /// Of 100 writing calls of mixed work so many delete one key instead.
    pub deletes_percent: u8,
    /// How long a caller rests between two calls.
    pub rest: Duration,
    /// How long each phase but load and verify runs before it counts.
    pub warmup: Duration,
    /// When calls are made. Load and verify always go as fast as they are answered.
    pub pace: Pace,
    /// What is done, in this order.
    pub phases: Vec<Phase>,
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            keys: 100_000,
            prefix: "k".to_owned(),
            value_bytes: 100,
            batch: 1,
            tasks: 64,
            distribution: None,
            seed: 1,
            deletes_percent: 0,
            rest: Duration::ZERO,
            warmup: Duration::ZERO,
            pace: Pace::Closed,
            phases: Vec::new(),
        }
    }
}

/// When calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A closed loop: each caller asks again when it has its answer.
    Closed,
    /// An open loop: so many keys a second, whatever becomes of the calls before. A latency counts from when its call was
    /// meant to be made.
    Rate(f64),
    /// Open loops of rising rates.
    Climb(Climb),
}

/// How far rates rise, see [`crate::knee`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Climb {
    /// The first rate, keys a second.
    pub from: f64,
    /// A rate is too much when its 99th percentile is beyond this, microseconds.
    pub p99_us: f64,
}

/// One phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// What is asked.
    pub kind: Kind,
    /// Keys asked for in all.
    pub keys: u64,
    /// Ends earlier when this many seconds have passed.
    pub seconds: Option<f64>,
}

/// What is asked in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes every key once, in order.
    Load,
    /// Reads of chosen keys.
    Get,
    /// Writes of chosen keys.
    Put,
    /// Removals of chosen keys, one a call.
    Delete,
    /// Reads and writes of chosen keys.
    Mixed {
        /// Of 100 calls so many are reads.
        reads_percent: u8,
    },
    /// One of YCSB's core workloads (Cooper et al. 2010).
    Ycsb(Ycsb),
    /// Reads of every key once, in order.
    Verify,
}

/// YCSB's core workloads but E, which scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ycsb {
    /// Half reads, half writes.
    A,
    /// 95 of 100 are reads.
    B,
    /// Reads.
    C,
    /// 95 of 100 read the latest keys, the others insert new ones.
    D,
    /// Half reads; half read a key and write it.
    F,
}

/// What one call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Get,
    Put,
    Delete,
    /// A put of keys that were never written.
    Insert,
    /// A get, and a put of the same keys.
    Change,
}

impl Kind {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Load => "load",
            Kind::Get => "get",
            Kind::Put => "put",
            Kind::Delete => "delete",
            Kind::Mixed { .. } => "mixed",
            Kind::Ycsb(Ycsb::A) => "ycsb-a",
            Kind::Ycsb(Ycsb::B) => "ycsb-b",
            Kind::Ycsb(Ycsb::C) => "ycsb-c",
            Kind::Ycsb(Ycsb::D) => "ycsb-d",
            Kind::Ycsb(Ycsb::F) => "ycsb-f",
            Kind::Verify => "verify",
        }
    }

    /// Whether it takes each key once, in order.
    pub fn takes_each_once(self) -> bool {
        matches!(self, Kind::Load | Kind::Verify)
    }

    /// How keys are chosen when the workload does not say.
    pub fn distribution(self) -> Distribution {
        match self {
            Kind::Ycsb(Ycsb::D) => Distribution::Latest { theta: 0.99 },
            Kind::Ycsb(_) => Distribution::Zipfian { theta: 0.99 },
            _ => Distribution::Uniform,
        }
    }

    /// What a call does, by two numbers below 100 that chance gives.
    pub(crate) fn act(self, deletes_percent: u8, mut percent: impl FnMut() -> u8) -> Act {
        let reads = match self {
            Kind::Load | Kind::Put => return Act::Put,
            Kind::Get | Kind::Verify | Kind::Ycsb(Ycsb::C) => return Act::Get,
            Kind::Delete => return Act::Delete,
            Kind::Mixed { reads_percent } => reads_percent,
            Kind::Ycsb(Ycsb::A | Ycsb::F) => 50,
            Kind::Ycsb(Ycsb::B | Ycsb::D) => 95,
        };
        match self {
            _ if percent() < reads => Act::Get,
            Kind::Mixed { .. } if percent() < deletes_percent => Act::Delete,
            Kind::Ycsb(Ycsb::D) => Act::Insert,
            Kind::Ycsb(Ycsb::F) => Act::Change,
            _ => Act::Put,
        }
    }
}

/// A workload that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// A number that must be at least 1.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A number beyond its limit.
    #[error("{what} is {got}, at most {max}")]
    TooMuch {
        /// Which.
        what: &'static str,
        /// The number.
        got: u64,
        /// Its limit.
        max: u64,
    },
    /// The skew of a Zipfian distribution.
    #[error("theta must be a number above 0 and at most 10")]
    Theta,
    /// The shares of a hot spot.
    #[error("hot-keys and hot-calls must be above 0 and below 1")]
    Hot,
    /// A rate that is none, or so low that nothing happens.
    #[error("rates must be at least 1 and finite, and limits above 0")]
    Rate,
    /// Fewer callers than threads.
    #[error("{tasks} tasks for {threads} threads: each thread needs one")]
    Idle {
        /// Callers.
        tasks: usize,
        /// Threads.
        threads: usize,
    },
}

/// Keys in one call, at most.
const BATCH_MAX: u64 = 65_536;
/// Callers, at most.
const TASKS_MAX: u64 = 65_536;
/// Keys of a run, at most: numbers of 8 digits and more must stay distinct within a key.
const KEYS_MAX: u64 = 100_000_000;

impl Workload {
    /// How `kind` chooses keys here.
    pub fn distribution_of(&self, kind: Kind) -> Distribution {
        self.distribution.unwrap_or(kind.distribution())
    }

    /// Whether keys are deleted, so that one that is absent is no error.
    pub fn deletes(&self) -> bool {
        self.phases.iter().any(|phase| match phase.kind {
            Kind::Delete => true,
            Kind::Mixed { .. } => self.deletes_percent > 0,
            _ => false,
        })
    }

    /// Refuses what cannot be run.
    pub fn check(&self) -> Result<(), WorkloadError> {
        let at_least_one = [("keys", self.keys), ("batch", self.batch as u64), ("tasks", self.tasks as u64)];
        for (what, number) in at_least_one {
            if number == 0 {
                return Err(WorkloadError::Zero(what));
            }
        }
        let value_max = ringkv_wire::limits::VALUE_BYTES_MAX as u64;
        let bounded = [
            ("keys", self.keys, KEYS_MAX),
            ("batch", self.batch as u64, BATCH_MAX),
            ("tasks", self.tasks as u64, TASKS_MAX),
            ("value-bytes", self.value_bytes as u64, value_max),
            ("the length of the prefix", self.prefix.len() as u64, PREFIX_BYTES_MAX as u64),
        ];
        for (what, got, max) in bounded {
            if got > max {
                return Err(WorkloadError::TooMuch { what, got, max });
            }
        }
        let share = |share: f64| share > 0.0 && share < 1.0;
        match self.distribution {
            Some(Distribution::Zipfian { theta } | Distribution::Latest { theta })
                if !(theta > 0.0 && theta <= 10.0) =>
            {
                return Err(WorkloadError::Theta);
            }
            Some(Distribution::HotSpot { keys, calls }) if !(share(keys) && share(calls)) => {
                return Err(WorkloadError::Hot);
            }
            _ => {}
        }
        match self.pace {
            Pace::Rate(rate) | Pace::Climb(Climb { from: rate, .. }) if !(rate >= 1.0 && rate.is_finite()) => {
                Err(WorkloadError::Rate)
            }
            Pace::Climb(Climb { p99_us, .. }) if p99_us.is_nan() || p99_us <= 0.0 => Err(WorkloadError::Rate),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        let small = || Workload { keys: 100, ..Workload::default() };
        assert_eq!(small().check(), Ok(()));
        assert_eq!(Workload { batch: 0, ..small() }.check(), Err(WorkloadError::Zero("batch")));
        assert_eq!(Workload { tasks: 0, ..small() }.check(), Err(WorkloadError::Zero("tasks")));
        let theta = Some(Distribution::Zipfian { theta: f64::NAN });
        assert_eq!(Workload { distribution: theta, ..small() }.check(), Err(WorkloadError::Theta));
        let hot = Some(Distribution::HotSpot { keys: 0.1, calls: 1.0 });
        assert_eq!(Workload { distribution: hot, ..small() }.check(), Err(WorkloadError::Hot));
        let long = Workload { prefix: "123456789".into(), ..small() }.check();
        assert!(matches!(long, Err(WorkloadError::TooMuch { got: 9, max: 8, .. })), "{long:?}");
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Workload { pace: Pace::Rate(rate), ..small() }.check(), Err(WorkloadError::Rate));
        }
        let climb = Climb { from: 1_000.0, p99_us: f64::NAN };
        assert_eq!(Workload { pace: Pace::Climb(climb), ..small() }.check(), Err(WorkloadError::Rate));
    }

    #[test]
    fn kinds_do_what_they_are_named_for() {
        let shares = |kind: Kind| {
            let acts: Vec<Act> = (0..100).map(|percent| kind.act(20, || percent)).collect();
            let count = |act| acts.iter().filter(|one| **one == act).count();
            [Act::Get, Act::Put, Act::Delete, Act::Insert, Act::Change].map(count)
        };
        assert_eq!(shares(Kind::Mixed { reads_percent: 10 }), [10, 80, 10, 0, 0]);
        assert_eq!(shares(Kind::Ycsb(Ycsb::A)), [50, 50, 0, 0, 0]);
        assert_eq!(shares(Kind::Ycsb(Ycsb::B)), [95, 5, 0, 0, 0]);
        assert_eq!(shares(Kind::Ycsb(Ycsb::C)), [100, 0, 0, 0, 0]);
        assert_eq!(shares(Kind::Ycsb(Ycsb::D)), [95, 0, 0, 5, 0]);
        assert_eq!(shares(Kind::Ycsb(Ycsb::F)), [50, 0, 0, 0, 50]);
    }
}

//! What a run does.

use std::time::Duration;

use crate::keys::Distribution;

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
    /// How reads and mixed work choose keys; loading takes each key once.
    pub distribution: Distribution,
    /// Seed of all choices.
    pub seed: u64,
    /// Of 100 writing calls of mixed work so many delete one key instead.
    pub deletes_percent: u8,
    /// How long a caller rests between two calls.
    pub rest: Duration,
    /// What is done, in this order.
    pub phases: Vec<Phase>,
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
    /// Every key once, in order.
    Load,
    /// Reads of chosen keys.
    Read,
    /// Writes of chosen keys.
    Write,
    /// Reads and writes of chosen keys.
    Mixed {
        /// Of 100 calls so many are reads.
        reads_percent: u8,
    },
    /// Reads of every key once, in order.
    Sweep,
}

impl Kind {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Load => "load",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Mixed { .. } => "mixed",
            Kind::Sweep => "sweep",
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
}

/// Keys in one call, at most.
const BATCH_MAX: u64 = 65_536;
/// Callers, at most.
const TASKS_MAX: u64 = 65_536;
/// Keys of a run, at most: numbers of 8 digits and more must stay distinct within a key.
const KEYS_MAX: u64 = 100_000_000;
/// Bytes of a key's prefix, at most.
const PREFIX_BYTES_MAX: u64 = 8;

impl Workload {
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
            ("the length of the prefix", self.prefix.len() as u64, PREFIX_BYTES_MAX),
        ];
        for (what, got, max) in bounded {
            if got > max {
                return Err(WorkloadError::TooMuch { what, got, max });
            }
        }
        match self.distribution {
            Distribution::Zipfian { theta } if !(theta > 0.0 && theta <= 10.0) => Err(WorkloadError::Theta),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn small() -> Workload {
        Workload {
            keys: 100,
            prefix: "k".into(),
            value_bytes: 32,
            batch: 4,
            tasks: 3,
            distribution: Distribution::Uniform,
            seed: 1,
            deletes_percent: 0,
            rest: Duration::ZERO,
            phases: vec![
                Phase { kind: Kind::Load, keys: 100, seconds: None },
                Phase { kind: Kind::Read, keys: 100, seconds: None },
            ],
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(small().check(), Ok(()));
        assert_eq!(Workload { batch: 0, ..small() }.check(), Err(WorkloadError::Zero("batch")));
        assert_eq!(Workload { tasks: 0, ..small() }.check(), Err(WorkloadError::Zero("tasks")));
        let theta = Distribution::Zipfian { theta: f64::NAN };
        assert_eq!(Workload { distribution: theta, ..small() }.check(), Err(WorkloadError::Theta));
        let long = Workload { prefix: "123456789".into(), ..small() }.check();
        assert!(matches!(long, Err(WorkloadError::TooMuch { got: 9, max: 8, .. })), "{long:?}");
    }
}

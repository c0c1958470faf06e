//! What can become of a call other than success: always one of three (applied, not applied, unknown), with what to do.

use ringkv_wire::ids::{ShardId, StoreId};
use ringkv_wire::limits;
use ringkv_wire::status::{Outcome, Status};
use std::fmt;

/// Why a call, or one key of it, did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is empty or too long. Nothing was sent.
    #[error("a key of {bytes} bytes: a key has 1 to {} bytes", limits::KEY_BYTES_MAX)]
    KeySize {
        /// Its length.
        bytes: usize,
    },
    /// The value is too long. Nothing was sent.
    #[error("a value of {bytes} bytes: a value has at most {} bytes", limits::VALUE_BYTES_MAX)]
    ValueSize {
        /// Its length.
        bytes: usize,
    },
    /// No seed has an address.
    #[error("no seed resolves to an address: {0:?}")]
    Seed(String),
    /// The cluster has no such keyspace. Nothing was sent.
    #[error("no keyspace {0}")]
    NoKeyspace(String),
    /// Too much is waiting in this client already. Nothing was sent.
    #[error("this client holds {held} bytes of unfinished calls, its limit is {limit}")]
    Overloaded {
        /// Bytes held.
        held: usize,
        /// The limit.
        limit: usize,
    },
    /// The client was closed.
    #[error("the client is closed ({})", outcome_text(*outcome))]
    Closed {
        /// What became of the call.
        outcome: Outcome,
    },
    /// The call's time ran out.
    #[error("deadline passed: {0}")]
    Deadline(Box<Failure>),
    /// A store refused, and trying again cannot help.
    #[error("refused: {0}")]
    Refused(Box<Failure>),
    /// A write was applied, but the store no longer keeps its answer.
    #[error("applied, but the answer is no longer kept: {0}")]
    AnswerGone(Box<Failure>),
}

/// The last that was heard of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What became of it.
    pub outcome: Outcome,
    /// The key's shard, once the cluster map was known.
    pub shard: Option<ShardId>,
    /// The store asked last.
    pub store: Option<StoreId>,
    /// How often it was sent.
    pub attempts: u16,
    /// What happened last.
    pub cause: Cause,
}

/// What happened to the last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It was never sent: no store of the shard could be reached, or windows were full.
    NotSent,
    /// No seed has given the cluster map.
    NoMap,
    /// It was sent and not yet answered.
    NoAnswer,
    /// It was not answered within the attempt's time.
    TimedOut,
    /// The connection closed before the answer.
    Disconnected,
    /// The store answered with this.
    Answered(Status),
}

/// What an application should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// The write stands: go on.
    GoOn,
    /// Nothing happened; the same call may be made again, after a while.
    Retry,
    /// The arguments are wrong: the same call will fail again.
    Fix,
    /// The write may have been applied, or may be still: read the key before deciding.
    Check,
}

impl Error {
    /// Applied, not applied, or unknown. For reads: not applied.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::Deadline(f) | Error::Refused(f) | Error::AnswerGone(f) => f.outcome,
            Error::Closed { outcome } => *outcome,
            _ => Outcome::NotApplied,
        }
    }

    /// What to do.
    pub fn advice(&self) -> Advice {
        match (self, self.outcome()) {
            (_, Outcome::Applied) => Advice::GoOn,
            (_, Outcome::Unknown) => Advice::Check,
            (Error::KeySize { .. } | Error::ValueSize { .. } | Error::Seed(_) | Error::NoKeyspace(_), _) => Advice::Fix,
            (Error::Refused(f), _) => match f.cause {
                Cause::Answered(Status::Malformed | Status::TooLarge | Status::UnknownKeyspace) => Advice::Fix,
                _ => Advice::Retry,
            },
            _ => Advice::Retry,
        }
    }

    /// Shard, store, attempts and last cause, when the call got that far.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Deadline(f) | Error::Refused(f) | Error::AnswerGone(f) => Some(f),
            _ => None,
        }
    }
}

fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::NotApplied => "not applied",
        Outcome::Unknown => "outcome unknown",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", outcome_text(self.outcome))?;
        if let Some(shard) = self.shard {
            write!(f, ", shard {shard}")?;
        }
        if let Some(store) = self.store {
            write!(f, ", store {store}")?;
        }
        write!(f, ", {} attempts, ", self.attempts)?;
        match self.cause {
            Cause::NotSent => write!(f, "never sent"),
            Cause::NoMap => write!(f, "no seed gave the cluster map"),
            Cause::NoAnswer => write!(f, "not yet answered"),
            Cause::TimedOut => write!(f, "the last timed out"),
            Cause::Disconnected => write!(f, "the connection was lost"),
            Cause::Answered(status) => write!(f, "answered {status:?}"),
        }
    }
}

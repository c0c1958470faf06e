//! What one call may want differently.

use ringkv_session::{Ask, Call, ReadLevel};
use std::time::Duration;

/// What one call may want differently from the client's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    timeout: Option<Duration>,
    level: Option<ReadLevel>,
}

impl CallOptions {
    /// The client's defaults.
    pub fn new() -> CallOptions {
        CallOptions::default()
    }

    /// The call is done after this time, one way or the other.
    pub fn timeout(self, timeout: Duration) -> CallOptions {
        CallOptions { timeout: Some(timeout), ..self }
    }

    /// What a read must reflect. Both levels are linearizable; [`ReadLevel::ReadIndex`] does not lean on the leader's lease.
    pub fn read_level(self, level: ReadLevel) -> CallOptions {
        CallOptions { level: Some(level), ..self }
    }

    pub(crate) fn call(&self, ask: Ask) -> Call {
        let timeout_ms = self.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
        Call { ask, timeout_ms, level: self.level }
    }
}

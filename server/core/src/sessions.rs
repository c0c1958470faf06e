//! Exactly once: what became of each client's operations (PROTOCOL.md §8).
//!
//! Deterministic: the same entries give the same table on every replica.

use ringkv_wire::codec::WireError;
use ringkv_wire::ids::ClientId;
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::status::Status;

/// What a leader may do with an operation before proposing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Propose it: apply decides.
    Propose,
    /// It was applied: this is the answer it had.
    Answer(WriteResult),
    /// Not to be proposed: `ExpiryWindow`, `BelowFloor`, or `Busy` (the table is over its byte budget).
    Refuse(Status),
}

/// What apply does with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Run it. Its outcome (`Ok`, version = the entry's index) is recorded already.
    Run,
    /// It ran before: do not run it, answer this.
    Repeat(WriteResult),
    /// Do not run it: `ExpiryWindow` or `BelowFloor`.
    Refused(Status),
}

/// The table of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    budget_bytes: usize,
}

impl Sessions {
    /// An empty table. Beyond `budget_bytes` new operations are refused before they are proposed.
    pub fn new(budget_bytes: usize) -> Sessions {
        Sessions { budget_bytes }
    }

    /// The leader's question before it proposes. `log_time_ms`: what it would stamp now.
    pub fn check(&self, _client: ClientId, _floor: u64, _seq: u64, _expiry_ms: u64, _log_time_ms: u64) -> Check {
        Check::Propose
    }

    /// An entry of this client begins: its floor holds for all its operations. `log_time_ms`: the entry's.
    pub fn begin(&mut self, _client: ClientId, _floor: u64, _log_time_ms: u64) {}

    /// One operation of the entry, after [`Sessions::begin`]. `index`: the entry's.
    pub fn apply_one(
        &mut self,
        _client: ClientId,
        _seq: u64,
        _expiry_ms: u64,
        _log_time_ms: u64,
        _index: u64,
    ) -> Applied {
        Applied::Run
    }

    /// Log time moved on (any entry, also ticks): forgets what it has passed.
    pub fn advance(&mut self, _log_time_ms: u64) {}

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        0
    }

    /// At half its budget the table asks for ticks, so that log time passes what can go.
    pub fn wants_tick(&self) -> bool {
        self.bytes() * 2 > self.budget_bytes
    }

    /// Equal tables give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Reads an encoded table.
    pub fn decode(_bytes: &[u8], budget_bytes: usize) -> Result<Sessions, WireError> {
        Ok(Sessions::new(budget_bytes))
    }
}

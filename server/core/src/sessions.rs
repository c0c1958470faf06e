//! Exactly once: what became of each client's operations (PROTOCOL.md §8).
//!
//! Per client the table keeps the floor, outcomes by sequence, and the highest expiry it accepted. An outcome goes when the
//! floor or its expiry passes it; the record goes only when log time has passed that highest expiry; nothing is dropped by
//! count. Every rule looks only at entries and their log times, so the same entries give the same table on every replica.
//! What is logically gone is swept out of memory a little later, in buckets, and never seen before that.

mod codec;
mod record;

use record::{Outcome, Record};
use ringkv_wire::ids::ClientId;
use ringkv_wire::limits::EXPIRY_WINDOW_MS;
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::status::Status;
use std::collections::{BTreeMap, BTreeSet};

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

/// Log time of one bucket of the sweep, ms.
const SWEEP_MS: u64 = 4_096;

/// The table of one shard.
#[derive(Clone, Debug)]
pub struct Sessions {
    budget_bytes: usize,
    bytes: usize,
    /// The highest log time seen, ms.
    log_time_ms: u64,
    clients: BTreeMap<ClientId, Record>,
    /// Clients to look at once log time has passed the bucket (expiry / [`SWEEP_MS`]). A client may stand in it in vain.
    sweep: BTreeMap<u64, BTreeSet<ClientId>>,
}

impl Sessions {
    /// An empty table. Beyond `budget_bytes` new operations are refused before they are proposed.
    pub fn new(budget_bytes: usize) -> Sessions {
        Sessions { budget_bytes, bytes: 0, log_time_ms: 0, clients: BTreeMap::new(), sweep: BTreeMap::new() }
    }

    /// The leader's question before it proposes. `log_time_ms`: what it would stamp now. Applies the rules of
    /// [`Sessions::apply_one`] to the table as it is; entries on their way may change what apply says.
    pub fn check(&self, client: ClientId, floor: u64, seq: u64, expiry_ms: u64, log_time_ms: u64) -> Check {
        let now = log_time_ms.max(self.log_time_ms);
        match self.decide(client, floor, seq, expiry_ms, now) {
            Applied::Repeat(result) => Check::Answer(result),
            Applied::Refused(status) => Check::Refuse(status),
            Applied::Run if self.bytes >= self.budget_bytes => Check::Refuse(Status::Busy),
            Applied::Run => Check::Propose,
        }
    }

    /// The rules, in order: below the floor; known; outside the window; new.
    fn decide(&self, client: ClientId, floor: u64, seq: u64, expiry_ms: u64, now_ms: u64) -> Applied {
        let record = self.clients.get(&client).filter(|record| record.highest_expiry_ms > now_ms);
        if seq < record.map_or(floor, |record| record.floor.max(floor)) {
            return Applied::Refused(Status::BelowFloor);
        }
        let known = record.and_then(|record| record.get(seq)).filter(|outcome| outcome.expiry_ms > now_ms);
        if let Some(outcome) = known {
            return Applied::Repeat(outcome.result);
        }
        // Expiry in (L, L + window].
        if expiry_ms <= now_ms || expiry_ms - now_ms > EXPIRY_WINDOW_MS {
            return Applied::Refused(Status::ExpiryWindow);
        }
        Applied::Run
    }

    /// An entry of this client begins: its floor holds for all its operations. `log_time_ms`: the entry's.
    pub fn begin(&mut self, client: ClientId, floor: u64, log_time_ms: u64) {
        self.advance(log_time_ms);
        let now = self.log_time_ms;
        // A record whose highest expiry has passed is gone, swept or not.
        if self.clients.get(&client).is_some_and(|record| record.highest_expiry_ms <= now) {
            self.remove(client);
        }
        let record = self.clients.entry(client).or_insert_with(|| {
            self.bytes += record::RECORD_BYTES;
            // Nothing was accepted yet: if nothing is, the next sweep takes it.
            self.sweep.entry(now / SWEEP_MS).or_default().insert(client);
            Record::default()
        });
        self.bytes -= record.raise_floor(floor);
    }

    /// One operation of the entry, after [`Sessions::begin`] for this client. `index`: the entry's.
    pub fn apply_one(&mut self, client: ClientId, seq: u64, expiry_ms: u64, log_time_ms: u64, index: u64) -> Applied {
        let now = self.log_time_ms.max(log_time_ms);
        let floor = self.clients.get(&client).map_or(0, |record| record.floor);
        let decided = self.decide(client, floor, seq, expiry_ms, now);
        if decided != Applied::Run {
            return decided;
        }
        let result = WriteResult { status: Status::Ok, version: index };
        let record = self.clients.entry(client).or_insert_with(|| {
            self.bytes += record::RECORD_BYTES;
            Record::default()
        });
        self.bytes += record.insert(Outcome { seq, expiry_ms, result });
        let bucket = expiry_ms / SWEEP_MS;
        if record.last_bucket != bucket {
            record.last_bucket = bucket;
            self.sweep.entry(bucket).or_default().insert(client);
        }
        Applied::Run
    }

    /// Log time moved on (any entry, also ticks): forgets what it has passed.
    pub fn advance(&mut self, log_time_ms: u64) {
        if log_time_ms <= self.log_time_ms {
            return;
        }
        self.log_time_ms = log_time_ms;
        while let Some(bucket) = self.sweep.first_entry().filter(|first| *first.key() < log_time_ms / SWEEP_MS) {
            for client in bucket.remove() {
                self.sweep_client(client);
            }
        }
    }

    fn sweep_client(&mut self, client: ClientId) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        if record.highest_expiry_ms <= self.log_time_ms {
            return self.remove(client);
        }
        self.bytes -= record.drop_expired(self.log_time_ms);
    }

    fn remove(&mut self, client: ClientId) {
        if let Some(record) = self.clients.remove(&client) {
            self.bytes -= record.bytes();
        }
    }

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// At half its budget the table asks for ticks, so that log time passes what can go.
    pub fn wants_tick(&self) -> bool {
        self.bytes > self.budget_bytes / 2
    }

    /// Records that log time has not passed.
    fn live(&self) -> impl Iterator<Item = (&ClientId, &Record)> {
        self.clients.iter().filter(|(_, record)| record.highest_expiry_ms > self.log_time_ms)
    }
}

//! Writes: checked, answered from the session table, or proposed.

use super::Store;
use crate::host::Host;
use crate::replica::Asker;
use bytes::Bytes;
use ringkv_core::raft::{Input, Role};
use ringkv_core::sessions::Check;
use ringkv_storage::tree::Sought;
use ringkv_wire::entry::{EntryKind, Operations};
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::ids::{Generation, Now, ShardId};
use ringkv_wire::msg::client::{WriteRequest, WriteResult, encode_write_reply};
use ringkv_wire::status::Status;

/// What an operation in flight may add to the session table, bytes.
const OUTCOME_BYTES: usize = 64;

impl<H: Host> Store<H> {
    pub(super) fn write(&mut self, now: Now, asker: Asker, body: Bytes) {
        let Ok(request) = WriteRequest::decode(body) else { return self.refuse(asker, Status::Malformed) };
        let header = request.header;
        let slot = match self.serving(header.shard, header.generation) {
            Ok(slot) => slot,
            Err((slot, status)) => return self.refuse_with(asker, self.header(slot, status)),
        };
        let Ok(ops) = Operations::decode(request.body.clone()) else { return self.refuse(asker, Status::Malformed) };
        if header.deadline_ms == 0 {
            return self.refuse_with(asker, self.header(Some(slot), Status::Expired));
        }
        let (replica, map) = (&self.replicas[slot], &self.config.map);
        let places = ops.ops.iter().map(|op| Sought::new(op.keyspace, &op.key));
        if let Some(status) = places.filter_map(|place| replica.misplaced(map, place)).next() {
            return self.refuse_with(asker, self.header(Some(slot), status));
        }
        if self.disk_full {
            return self.refuse_with(asker, self.header(Some(slot), Status::DiskFull));
        }
        if self.crowded(slot) {
            return self.refuse_with(asker, self.header(Some(slot), Status::Busy));
        }
        match self.check_sessions(now, slot, &ops) {
            Ok(()) => self.propose(now, slot, asker, request.body, ops.ops.len()),
            Err(results) => {
                results.iter().for_each(|result| self.count_known(result));
                self.answer_write(slot, asker, &results);
            }
        }
    }

    /// The slot of a shard that this replica leads, or why the request is refused.
    pub(super) fn serving(&self, shard: ShardId, generation: Generation) -> Result<usize, (Option<usize>, Status)> {
        if self.failed.is_some() {
            return Err((None, Status::StoreFailed));
        }
        if !self.admitted {
            return Err((None, Status::Starting));
        }
        let Some(slot) = self.slot(shard) else { return Err((None, Status::Moved)) };
        let replica = &self.replicas[slot];
        if replica.generation != generation {
            return Err((Some(slot), Status::Moved));
        }
        if replica.raft.role() != Role::Leader {
            return Err((Some(slot), Status::NotLeader));
        }
        if let Some(status) = self.withheld(slot) {
            return Err((Some(slot), status));
        }
        Ok(slot)
    }

    /// Flushes do not keep up, or what is proposed may not fit the session table.
    fn crowded(&self, slot: usize) -> bool {
        let replica = &self.replicas[slot];
        self.memory_full()
            || self.log_behind()
            || replica.sessions.bytes() + replica.writes_ops * OUTCOME_BYTES > self.config.budgets.session_bytes
    }

    /// The memtables are far beyond their budget: nothing more is taken in until flushes catch up.
    pub(super) fn memory_full(&self) -> bool {
        self.engine.memtable_bytes() > self.config.budgets.memtables_most_bytes()
    }

    /// The log does not keep up, or waits for a segment: what comes in now would gather before it. It must stay less than the
    /// half segment that a disk which turns out to be full still has for it.
    pub(super) fn log_behind(&self) -> bool {
        (self.log.queued_bytes() + self.taken_bytes) as u64 > self.config.budgets.segment_bytes / 4
    }

    /// `Err` holds the answers when nothing is left to be proposed. The whole body is one entry: it is proposed when one of
    /// its operations is new, and apply then answers each for itself.
    fn check_sessions(&self, now: Now, slot: usize, ops: &Operations) -> Result<(), Vec<WriteResult>> {
        let replica = &self.replicas[slot];
        let log_time_ms = replica.raft.log_time_now(now);
        let mut results = Vec::new();
        for op in &ops.ops {
            results.push(match replica.sessions.check(ops.client, ops.floor, op.seq, op.expiry_ms, log_time_ms) {
                Check::Propose => return Ok(()),
                Check::Answer(result) => result,
                Check::Refuse(status) => WriteResult { status, version: 0 },
            });
        }
        Err(results)
    }

    /// Counts an answer that needed nothing to be run.
    pub(super) fn count_known(&mut self, result: &WriteResult) {
        match result.status {
            Status::Ok => self.counters.repeats += 1,
            Status::ExpiryWindow => self.counters.expired += 1,
            Status::BelowFloor => self.counters.below_floor += 1,
            Status::Busy => self.counters.busy += 1,
            _ => {}
        }
    }

    fn propose(&mut self, now: Now, slot: usize, asker: Asker, body: Bytes, ops: usize) {
        let token = self.token();
        // A copy of its own: the log's window and the memtable keep it long after the receive buffer should be gone.
        let body = Bytes::copy_from_slice(&body);
        let body_crc = ringkv_wire::checksum(&body);
        self.taken_bytes += body.len();
        self.replicas[slot].writes.insert(token, (asker, ops));
        self.replicas[slot].writes_ops += ops;
        self.step(slot, now, Input::Propose { kind: EntryKind::Operations, body, body_crc, token });
    }

    pub(super) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    pub(super) fn answer_write(&mut self, slot: usize, asker: Asker, results: &[WriteResult]) {
        self.counters.writes += results.len() as u64;
        let mut header = self.header(Some(slot), Status::Ok);
        header.store_us = asker.waited_us(self.host.now());
        let mut body = Vec::with_capacity(48 + 16 * results.len());
        encode_write_reply(&header, results, &mut body);
        if let Some(out) = self.conns.buffer(asker.conn) {
            frame::encode(Kind::WriteReply, asker.id, &body, out);
        }
    }
}

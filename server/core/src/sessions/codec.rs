//! The table as bytes: sealed into the tree with each flush, part of every snapshot (FORMAT.md §5). Equal tables give
//! equal bytes, whatever of what has passed is still in memory.

use super::record::{Outcome, Record};
use super::{SWEEP_MS, Sessions};
use bytes::Bytes;
use ringkv_wire::codec::{Put, Reader, WireError};
use ringkv_wire::ids::ClientId;
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::status::Status;

const VERSION: u32 = 1;
/// Bytes of a client without outcomes: id, floor, highest expiry, number of outcomes.
const CLIENT_BYTES: usize = 16 + 8 + 8 + 4;
/// Bytes of an outcome: sequence, expiry, version, status.
const OUTCOME_BYTES: usize = 8 + 8 + 8 + 1;

impl Sessions {
    /// Equal tables give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.clients.len() * CLIENT_BYTES + 16);
        out.put_u32(VERSION);
        out.put_u64(self.log_time_ms);
        out.put_u32(self.live().count() as u32);
        for (client, record) in self.live() {
            let outcomes = || record.outcomes().filter(|outcome| outcome.expiry_ms > self.log_time_ms);
            out.put(&client.0);
            out.put_u64(record.floor);
            out.put_u64(record.highest_expiry_ms);
            out.put_u32(outcomes().count() as u32);
            for outcome in outcomes() {
                out.put_u64(outcome.seq);
                out.put_u64(outcome.expiry_ms);
                out.put_u64(outcome.result.version);
                out.put_u8(outcome.result.status as u8);
            }
        }
        out
    }

    /// Reads an encoded table. Refuses what [`Sessions::encode`] would not have written: other versions, wrong order,
    /// what has passed, bytes behind the end.
    pub fn decode(bytes: &[u8], budget_bytes: usize) -> Result<Sessions, WireError> {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        let version = r.u32()?;
        if version != VERSION {
            return Err(WireError::Value { what: "version of a session table", got: u64::from(version) });
        }
        let mut table = Sessions::new(budget_bytes);
        table.log_time_ms = r.u64()?;
        for _ in 0..r.count("clients of a session table", CLIENT_BYTES)? {
            let (client, record) = decode_record(&mut r, table.log_time_ms)?;
            if table.clients.last_key_value().is_some_and(|(last, _)| *last >= client) {
                return Err(WireError::Value { what: "order of clients", got: table.clients.len() as u64 });
            }
            table.adopt(client, record);
        }
        r.finish()?;
        Ok(table)
    }

    /// Takes a decoded record in, and into the sweep: by each bucket in which something of it ends.
    fn adopt(&mut self, client: ClientId, mut record: Record) {
        let mut buckets: Vec<u64> = record.outcomes().map(|outcome| outcome.expiry_ms / SWEEP_MS).collect();
        buckets.push(record.highest_expiry_ms / SWEEP_MS);
        for bucket in buckets {
            self.sweep.entry(bucket).or_default().insert(client);
        }
        record.last_bucket = record.highest_expiry_ms / SWEEP_MS;
        self.bytes += record.bytes();
        self.clients.insert(client, record);
    }
}

fn decode_record(r: &mut Reader, log_time_ms: u64) -> Result<(ClientId, Record), WireError> {
    let mut client = ClientId::default();
    client.0.copy_from_slice(&r.take(16)?);
    let (floor, highest) = (r.u64()?, r.u64()?);
    let mut record = Record::new(floor, highest);
    if highest <= log_time_ms {
        return Err(WireError::Value { what: "highest expiry of a client", got: highest });
    }
    let mut next = record.floor;
    for _ in 0..r.count("outcomes of a client", OUTCOME_BYTES)? {
        let (seq, expiry_ms, version, status) = (r.u64()?, r.u64()?, r.u64()?, r.u8()?);
        if seq < next {
            return Err(WireError::Value { what: "order of outcomes", got: seq });
        }
        if expiry_ms <= log_time_ms || expiry_ms > highest {
            return Err(WireError::Value { what: "expiry of an outcome", got: expiry_ms });
        }
        let known = Status::from_u8(status);
        let status = known.ok_or(WireError::Value { what: "status of an outcome", got: u64::from(status) })?;
        record.insert(Outcome { seq, expiry_ms, result: WriteResult { status, version } });
        next = seq.saturating_add(1);
    }
    Ok((client, record))
}

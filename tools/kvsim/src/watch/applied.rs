//! What is applied: the same on all replicas (State Machine Safety, Raft §5.4.3), and each operation once.

use ringkv_wire::entry::{Entry, EntryKind, Operations};
use ringkv_wire::ids::{ClientId, ShardId};
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::status::Status;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Done {
    term: u64,
    log_time_ms: u64,
    body_crc: u32,
    /// What its operations were answered.
    results: u32,
}

/// What one group applied: the first replica that applies an entry decides what it is.
#[derive(Default)]
pub struct Applied {
    /// At their index - 1.
    entries: Vec<Option<Done>>,
    /// At which index each operation took effect.
    effects: BTreeMap<(ClientId, u64), u64>,
}

impl Applied {
    /// Index of the last entry that anybody applied.
    pub fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// A replica applied an entry.
    pub fn applied(&mut self, entry: &Entry, results: &[WriteResult]) -> Vec<String> {
        let Some(at) = entry.index.checked_sub(1).and_then(|at| usize::try_from(at).ok()) else {
            return vec![format!("{} index 0 was applied", entry.shard)];
        };
        if self.entries.len() <= at {
            self.entries.resize(at + 1, None);
        }
        let (term, log_time_ms, body_crc) = (entry.term, entry.log_time_ms, entry.body_crc);
        let done = Done { term, log_time_ms, body_crc, results: crc_of(results) };
        if let Some(first) = self.entries[at] {
            let (shard, index) = (entry.shard, entry.index);
            let differ =
                format!("State Machine Safety: {shard} index {index} was applied as {first:?} and as {done:?}");
            return if first == done { Vec::new() } else { vec![differ] };
        }
        self.entries[at] = Some(done);
        let mut wrong: Vec<String> = self.ordered(at, entry.shard).into_iter().collect();
        wrong.extend(self.took_effect(entry, results));
        wrong
    }

    fn ordered(&self, at: usize, shard: ShardId) -> Option<String> {
        let (now, before) = (self.entries[at]?, self.entries[at.checked_sub(1)?]?);
        let back = before.term > now.term || before.log_time_ms > now.log_time_ms;
        back.then(|| format!("{shard}: term or log time go back from {before:?} to {now:?}"))
    }

    /// Exactly once: whatever the client heard, and whether it still listens.
    fn took_effect(&mut self, entry: &Entry, results: &[WriteResult]) -> Vec<String> {
        if entry.kind != EntryKind::Operations || results.is_empty() {
            return Vec::new();
        }
        let Ok(body) = Operations::decode(entry.body.clone()) else { return Vec::new() };
        let mut wrong = Vec::new();
        for (op, result) in body.ops.iter().zip(results) {
            if result.status != Status::Ok || result.version != entry.index {
                continue;
            }
            let first = *self.effects.entry((body.client, op.seq)).or_insert(entry.index);
            if first != entry.index {
                let (shard, client, seq, index) = (entry.shard, body.client, op.seq, entry.index);
                wrong.push(format!(
                    "Exactly-once: {shard}: {client:?} {seq} took effect at index {first} and at {index}"
                ));
            }
        }
        wrong
    }
}

fn crc_of(results: &[WriteResult]) -> u32 {
    results.iter().fold(0, |crc, result| {
        let crc = crc32c::crc32c_append(crc, &[result.status as u8]);
        crc32c::crc32c_append(crc, &result.version.to_le_bytes())
    })
}

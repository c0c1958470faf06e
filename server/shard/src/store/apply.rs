//! Committed entries go into the tree, exactly once.

use super::Store;
use crate::host::Host;
use ringkv_core::effects::Committed;
use ringkv_core::sessions::Applied;
use ringkv_storage::tree::Sought;
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::status::Status;

impl<H: Host> Store<H> {
    /// Takes a committed entry: applies it, or leaves it to the redo while the tree is being repaired.
    pub(super) fn apply(&mut self, slot: usize, committed: Committed) {
        let Committed { entry, token } = committed;
        let replica = &mut self.replicas[slot];
        assert_eq!(entry.index, replica.handed + 1, "entries are handed out in order");
        replica.handed = entry.index;
        if !replica.repair.held {
            self.apply_entry(slot, &entry, token);
        }
    }

    pub(super) fn apply_entry(&mut self, slot: usize, entry: &Entry, token: u64) {
        let replica = &mut self.replicas[slot];
        assert_eq!(entry.index, replica.applied + 1, "entries are applied in order");
        assert!(entry.log_time_ms >= replica.log_time_ms, "log time goes back");
        replica.applied = entry.index;
        replica.applied_term = entry.term;
        replica.log_time_ms = entry.log_time_ms;
        replica.sessions.advance(entry.log_time_ms);
        replica.tree.advance(entry.log_time_ms);
        let redone = entry.index <= replica.shown;
        replica.shown = replica.shown.max(entry.index);
        let results = match entry.kind {
            EntryKind::Operations => self.apply_operations(slot, entry),
            EntryKind::Empty | EntryKind::Configuration | EntryKind::Tick => Vec::new(),
        };
        if let Some(witness) = self.witness.as_ref().filter(|_| !redone) {
            witness.applied(entry, &results);
        }
        if token == 0 {
            return;
        }
        if let Some(asker) = self.replicas[slot].take_write(token) {
            // Counted where it is answered: every replica comes to the same verdict.
            for result in results.iter().filter(|r| (r.status, r.version) != (Status::Ok, entry.index)) {
                self.count_known(result);
            }
            self.answer_paced(slot, asker, results, entry.body.len());
        }
    }

    fn apply_operations(&mut self, slot: usize, entry: &Entry) -> Vec<WriteResult> {
        let replica = &mut self.replicas[slot];
        // The leader decoded this body before it proposed it, and every copy proved its checksum since.
        let Ok(body) = Operations::decode(entry.body.clone()) else {
            tracing::error!(shard = %entry.shard, index = entry.index, "a committed body cannot be read; skipped by all");
            return Vec::new();
        };
        if entry.generation != replica.generation {
            return body.ops.iter().map(|_| WriteResult { status: Status::Moved, version: 0 }).collect();
        }
        replica.tree.warm(body.ops.iter().map(|op| Sought::new(op.keyspace, &op.key)));
        replica.sessions.begin(body.client, body.floor, entry.log_time_ms);
        let mut results = Vec::with_capacity(body.ops.len());
        for op in body.ops {
            let verdict = replica.sessions.apply_one(body.client, op.seq, op.expiry_ms, entry.log_time_ms, entry.index);
            results.push(match verdict {
                Applied::Run => {
                    run(&replica.tree, entry.index, op);
                    WriteResult { status: Status::Ok, version: entry.index }
                }
                Applied::Repeat(result) => result,
                Applied::Refused(status) => WriteResult { status, version: 0 },
            });
        }
        results
    }
}

fn run<D: ringkv_storage::disk::Disk>(tree: &ringkv_storage::tree::Tree<D>, index: u64, op: Operation) {
    match op.kind {
        OpKind::Put => tree.put(index, op.keyspace, &op.key, op.value),
        OpKind::Delete => tree.delete(index, op.keyspace, &op.key),
    }
}

//! What runs beside the loop: flush, merge, care of the log, balance of leadership.

use super::{Done, MAINTAIN_NS, Store};
use crate::host::Host;
use crate::replica::{OWN_KEYSPACE, SESSIONS_KEY};
use bytes::Bytes;
use ringkv_core::raft::{Input, Role};
use ringkv_storage::error::StorageError;
use ringkv_wire::entry::EntryKind;
use ringkv_wire::ids::{Now, ShardId};

/// Flushes of one store that may run at once.
const FLUSHES_MAX: usize = 2;
/// A leadership is not handed on again before this, ns.
const TRANSFER_PAUSE_NS: u64 = 10_000_000_000;
/// Ticks of one shard are at least this far apart, ns.
const TICK_NS: u64 = 100_000_000;

impl<H: Host> Store<H> {
    pub(super) fn maintain(&mut self, now: Now) {
        if self.maintaining || now.boot_ns < self.next_maintain_ns {
            if self.maintaining {
                self.next_maintain_ns = now.boot_ns + MAINTAIN_NS;
            }
            return;
        }
        self.maintaining = true;
        self.next_maintain_ns = now.boot_ns + MAINTAIN_NS;
        let care = self.log.maintain();
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = care.await;
            mailbox.post(Done::Maintained { result });
        });
    }

    pub(super) fn maintained(&mut self, now: Now, result: Result<(), StorageError>) {
        self.maintaining = false;
        if let Err(error) = result {
            tracing::warn!(store = %self.config.id, %error, "the log's next segment cannot be prepared");
            self.next_maintain_ns = now.boot_ns + 20 * MAINTAIN_NS;
        }
        for slot in 0..self.replicas.len() {
            let first = self.log.first_index(self.replicas[slot].shard);
            let (floor, _) = self.replicas[slot].raft.floor();
            if first > floor + 1 {
                self.step(slot, now, Input::Reclaimed { index: first - 1 });
            }
        }
    }

    /// Flushes what fills the memory, and what keeps old log segments from being reused.
    pub(super) fn start_flushes(&mut self) {
        let running = self.replicas.iter().filter(|r| r.flushing).count();
        if running >= FLUSHES_MAX {
            return;
        }
        if self.engine.memtable_bytes() > self.config.budgets.memtable_bytes {
            let largest = (0..self.replicas.len())
                .filter(|&slot| !self.replicas[slot].flushing)
                .max_by_key(|&slot| self.replicas[slot].tree.memtable_bytes());
            if let Some(slot) = largest {
                self.flush(slot);
            }
            return;
        }
        for (shard, index) in self.log.oldest_pins() {
            let Some(slot) = self.slot(shard) else { continue };
            let replica = &self.replicas[slot];
            if !replica.flushing && replica.applied >= index {
                self.flush(slot);
                return;
            }
        }
    }

    fn flush(&mut self, slot: usize) {
        let replica = &mut self.replicas[slot];
        // Not beyond the log's own durable index: a tree ahead of its log would look like an installed snapshot.
        let durable = replica.raft.status().durable_index >= replica.applied;
        if replica.installing || !durable || replica.tree.flushed().is_some_and(|at| at.index >= replica.applied) {
            return;
        }
        replica.flushing = true;
        let (shard, at) = (replica.shard, replica.flush_point());
        let sealed = vec![(OWN_KEYSPACE, Bytes::from_static(SESSIONS_KEY), Bytes::from(replica.sessions.encode()))];
        let index = at.index;
        let flush = replica.tree.flush(at, sealed);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = flush.await;
            mailbox.post(Done::Flushed { shard, index, result });
        });
    }

    pub(super) fn flushed(&mut self, shard: ShardId, index: u64, result: Result<(), StorageError>) {
        let Some(slot) = self.slot(shard) else { return };
        self.replicas[slot].flushing = false;
        match result {
            Ok(()) => {
                self.counters.flushes += 1;
                self.log.note_flushed(shard, index);
            }
            Err(error) => tracing::warn!(store = %self.config.id, %shard, %error, "flush failed; tried again"),
        }
    }

    pub(super) fn start_merges(&mut self) {
        if self.replicas.iter().any(|r| r.merging) {
            return;
        }
        let Some(replica) = self.replicas.iter_mut().find(|r| !r.installing && r.tree.wants_merge()) else { return };
        replica.merging = true;
        let shard = replica.shard;
        let merge = replica.tree.merge();
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = merge.await;
            mailbox.post(Done::Merged { shard, result });
        });
    }

    pub(super) fn merged(&mut self, shard: ShardId, result: Result<(), StorageError>) {
        let Some(slot) = self.slot(shard) else { return };
        self.replicas[slot].merging = false;
        match result {
            Ok(()) => self.counters.merges += 1,
            Err(error) => tracing::error!(store = %self.config.id, %shard, %error, "merge failed"),
        }
    }

    /// A session table that fills asks for ticks: log time moves on, and what has expired goes.
    pub(super) fn propose_ticks(&mut self, now: Now) {
        for slot in 0..self.replicas.len() {
            let replica = &mut self.replicas[slot];
            let due = now.boot_ns >= replica.ticked_ns + TICK_NS;
            if due && replica.raft.role() == Role::Leader && replica.sessions.wants_tick() {
                replica.ticked_ns = now.boot_ns;
                let body_crc = ringkv_wire::checksum(&[]);
                let token = self.token();
                self.step(slot, now, Input::Propose { kind: EntryKind::Tick, body: Bytes::new(), body_crc, token });
            }
        }
    }

    /// Hands a leadership to the shard's preferred store, when that one is there and has all entries.
    pub(super) fn balance(&mut self, now: Now) {
        let me = self.config.id;
        for slot in 0..self.replicas.len() {
            let replica = &self.replicas[slot];
            let preferred = replica.preferred;
            let rested = now.boot_ns.saturating_sub(replica.transferred_ns) > TRANSFER_PAUSE_NS;
            if preferred == me || replica.raft.role() != Role::Leader || !rested || !self.links.is_up(preferred) {
                continue;
            }
            let status = replica.raft.status();
            if status.peers.iter().any(|p| p.store == preferred && p.matched == status.last_index) {
                self.replicas[slot].transferred_ns = now.boot_ns;
                self.step(slot, now, Input::Transfer { to: Some(preferred) });
                return;
            }
        }
    }
}

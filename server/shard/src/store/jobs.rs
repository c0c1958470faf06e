//! What runs beside the loop: flush, merge, care of the log, balance of leadership.

use super::{Done, MAINTAIN_IDLE_NS, MAINTAIN_NS, Store};
use crate::host::Host;
use crate::replica::{Replica, seal_sessions};
use bytes::Bytes;
use ringkv_core::raft::{Input, Role};
use ringkv_storage::error::StorageError;
use ringkv_wire::entry::EntryKind;
use ringkv_wire::ids::{Now, ShardId};

/// Flushes of one store that may run at once.
const FLUSHES_MAX: usize = 2;
/// Between two flushes that are only to have room in the log in time, ns.
const EARLY_FLUSH_NS: u64 = 1_000_000_000;
/// A leadership is not handed on again before this, ns.
const TRANSFER_PAUSE_NS: u64 = 10_000_000_000;
/// A failed flush is tried again after this, ns.
const RETRY_NS: u64 = 1_000_000_000;
/// A failed merge is tried again after this, ns.
const MERGE_RETRY_NS: u64 = 60_000_000_000;
/// A tree that was not flushed for so long is merged wholly, ns: space that nobody needs.
const SETTLE_NS: u64 = 30_000_000_000;
/// Ticks of one shard are at least this far apart, ns.
const TICK_NS: u64 = 100_000_000;

impl<H: Host> Store<H> {
    pub(super) fn maintain(&mut self, now: Now) {
        if self.maintaining || now.boot_ns < self.next_maintain_ns {
            return;
        }
        if !self.log.wants_care() {
            return self.cared(now, MAINTAIN_NS, false);
        }
        (self.maintaining, self.next_maintain_ns) = (true, u64::MAX);
        let care = self.log.maintain();
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = care.await;
            mailbox.post(Done::Maintained { result });
        });
    }

    pub(super) fn maintained(&mut self, now: Now, result: Result<(), StorageError>) {
        self.maintaining = false;
        if let Err(error) = &result {
            tracing::warn!(store = %self.config.id, %error, "the log's next segment cannot be prepared");
        }
        let pause_ns = if result.is_ok() { MAINTAIN_NS } else { 20 * MAINTAIN_NS };
        self.cared(now, pause_ns, self.log.wants_care());
    }

    /// The log grew, or holds less that is needed: it may want care.
    pub(super) fn log_changed(&mut self) {
        if !self.maintaining {
            self.next_maintain_ns = self.next_maintain_ns.min(self.maintain_from_ns);
        }
    }

    /// What follows from the log's state after it was looked after; again not before `pause_ns`, and then if it wants `more`.
    fn cared(&mut self, now: Now, pause_ns: u64, more: bool) {
        self.maintain_from_ns = now.boot_ns + pause_ns;
        let wait = if more { pause_ns } else { MAINTAIN_IDLE_NS };
        self.next_maintain_ns = now.boot_ns + wait;
        self.note_disk_full();
        self.flush_for_log(now);
        self.start_merges(now);
        for slot in 0..self.replicas.len() {
            let first = self.log.first_index(self.replicas[slot].shard);
            let (floor, _) = self.replicas[slot].raft.floor();
            if first > floor + 1 {
                self.step(slot, now, Input::Reclaimed { index: first - 1 });
            }
        }
    }

    /// Asked anew in each turn: what is taken in after the news would have to fit into what is left.
    pub(super) fn note_disk_full(&mut self) {
        let full = self.log.full();
        self.counters.disk_full += u64::from(full && !self.disk_full);
        self.counters.disk_freed += u64::from(!full && self.disk_full);
        self.disk_full = full;
    }

    /// Flushes the largest memtable when all of them together are over their budget.
    pub(super) fn flush_for_memory(&mut self, now: Now) {
        if self.engine.memtable_bytes() <= self.config.budgets.memtable_bytes || !self.may_flush() {
            return;
        }
        let eligible = (0..self.replicas.len()).filter(|&slot| self.flushable(now, slot));
        let largest = eligible.max_by_key(|&slot| self.replicas[slot].tree.memtable_bytes());
        if let Some(slot) = largest {
            self.flush(slot);
        }
    }

    /// Flushes what keeps old log segments from being reused. From half of what the log may keep on, tree by tree with pauses:
    /// a store whose trees all have to be flushed at once serves little else for seconds.
    fn flush_for_log(&mut self, now: Now) {
        let keep = self.config.budgets.log_keep_bytes;
        let pressing = self.log.pins_beyond(keep);
        let pressed = !pressing.is_empty();
        for (shard, index) in pressing {
            self.flush_up_to(now, shard, index);
        }
        let idle = now.boot_ns >= self.next_early_flush_ns && self.replicas.iter().all(|replica| !replica.flushing);
        if pressed || !idle {
            return;
        }
        self.next_early_flush_ns = now.boot_ns + EARLY_FLUSH_NS;
        for (shard, index) in self.log.pins_beyond(keep / 2) {
            if self.flush_up_to(now, shard, index) {
                return;
            }
        }
    }

    /// Flushes a tree that holds an entry, if it may be; whether it does.
    fn flush_up_to(&mut self, now: Now, shard: ShardId, index: u64) -> bool {
        let Some(slot) = self.slot(shard) else { return false };
        let may = self.replicas[slot].applied >= index && self.flushable(now, slot) && self.may_flush();
        if may {
            self.flush(slot);
        }
        may
    }

    pub(super) fn may_flush(&self) -> bool {
        self.replicas.iter().filter(|r| r.flushing).count() < FLUSHES_MAX
    }

    pub(super) fn flushable(&self, now: Now, slot: usize) -> bool {
        let replica = &self.replicas[slot];
        let news = replica.tree.flushed().is_none_or(|at| at.index < replica.applied);
        !replica.flushing && !replica.installing && !replica.repair.held && news && now.boot_ns >= replica.flush_from_ns
    }

    /// Freezes the memtable now and writes it once the log holds durably what is in it: a tree ahead of its log would look
    /// like an installed snapshot.
    pub(super) fn flush(&mut self, slot: usize) {
        let replica = &mut self.replicas[slot];
        replica.flushing = true;
        let (shard, at) = (replica.shard, replica.flush_point());
        let sealed = seal_sessions(&replica.sessions);
        let index = at.index;
        let flush = replica.tree.flush(at, sealed);
        let mailbox = self.mailbox.clone();
        self.after_commits(async move {
            let result = flush.await;
            mailbox.post(Done::Flushed { shard, index, result });
        });
    }

    pub(super) fn flushed(&mut self, now: Now, shard: ShardId, index: u64, result: Result<(), StorageError>) {
        let Some(slot) = self.slot(shard) else { return };
        self.replicas[slot].flushing = false;
        match result {
            Ok(()) => {
                self.counters.flushes += 1;
                self.replicas[slot].flushed_ns = now.boot_ns;
                tracing::debug!(store = %self.config.id, %shard, index, "flushed");
                self.note_flushed(slot);
                self.start_merges(now);
            }
            Err(error) => {
                self.replicas[slot].flush_from_ns = now.boot_ns + RETRY_NS;
                tracing::warn!(store = %self.config.id, %shard, %error, "flush failed; tried again");
            }
        }
    }

    fn start_merges(&mut self, now: Now) {
        if self.replicas.iter().any(|r| r.merging) || self.disk_full {
            return;
        }
        // A damaged tree is replaced, not merged; alone it merges what it can read.
        let sound = |r: &Replica<_>| !r.repair.held && (!r.repair.is_damaged() || r.raft.config().1.voters.len() < 2);
        let may = |r: &Replica<_>| !r.installing && sound(r) && now.boot_ns >= r.merge_from_ns;
        let quiet = |r: &Replica<_>| now.boot_ns.saturating_sub(r.flushed_ns) > SETTLE_NS;
        let busy = self.replicas.iter().position(|r| may(r) && r.tree.wants_merge());
        let settling = || self.replicas.iter().position(|r| quiet(r) && may(r) && r.tree.wants_settling());
        let Some(slot) = busy.or_else(settling) else { return };
        let replica = &mut self.replicas[slot];
        replica.merging = true;
        let (shard, tree, mailbox) = (replica.shard, replica.tree.clone(), self.mailbox.clone());
        self.host.spawn(async move {
            let result = if busy.is_some() { tree.merge().await } else { tree.settle().await };
            mailbox.post(Done::Merged { shard, result });
        });
    }

    pub(super) fn merged(&mut self, now: Now, shard: ShardId, result: Result<(), StorageError>) {
        let Some(slot) = self.slot(shard) else { return };
        self.replicas[slot].merging = false;
        match result {
            Ok(()) => self.counters.merges += 1,
            Err(error) => {
                self.replicas[slot].merge_from_ns = now.boot_ns + MERGE_RETRY_NS;
                tracing::error!(store = %self.config.id, %shard, %error, "merge failed");
                self.look_for_damage(now, slot);
            }
        }
        self.start_merges(now);
    }

    /// A session table that fills asks for ticks: log time moves on, and what has expired goes.
    pub(super) fn propose_ticks(&mut self, now: Now) {
        for slot in 0..self.replicas.len() {
            let replica = &mut self.replicas[slot];
            let due = now.boot_ns >= replica.ticked_ns + TICK_NS;
            if due && !self.disk_full && replica.raft.role() == Role::Leader && replica.sessions.wants_tick() {
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
            let sick = self.ships.sick.contains_key(&(replica.shard, preferred));
            if preferred == me || replica.raft.role() != Role::Leader || !rested || sick || !self.links.is_up(preferred)
            {
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

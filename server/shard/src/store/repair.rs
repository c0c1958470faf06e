//! A damaged tree and its repair: a peer's tables take the place of the replica's own while its log stays, and what they lack
//! is redone from that log.
//!
//! The log is what votes and acknowledgements rest on, so a replica with a damaged tree takes part as before. It does not
//! lead when another one can, asks its peers in turn for their tables, and answers nobody from what it cannot read.

use super::Store;
use crate::host::Host;
use crate::replica::Replica;
use ringkv_core::raft::{Input, Role};
use ringkv_storage::error::StorageError;
use ringkv_wire::ids::{Now, ShardId, StoreId};
use ringkv_wire::msg::snapshot::{SnapshotBody, SnapshotMessage};
use ringkv_wire::status::Status;
use std::collections::BTreeMap;

/// Trees of one store that are repaired at once.
const REPAIRS_MAX: usize = 2;
/// A peer that was asked and says nothing is given up after this, ns. When all were asked in vain the wait doubles, once: a question
/// costs little, and who waits long is still asking when its peers have long had what it wants.
const ASK_NS: u64 = 1_000_000_000;
/// A peer that says it has nothing yet is perhaps making it: the next one is asked this soon, ns. The wait doubles three times.
const ASK_NEXT_NS: u64 = 200_000_000;
/// Leadership is offered again after this, ns.
const HAND_OVER_NS: u64 = 2_000_000_000;
/// For this long a peer that asked for tables is not given leadership, ns.
const SICK_NS: u64 = 15_000_000_000;
/// A damaged replica stands for election this much later than others, ns.
pub(super) const PATIENCE_NS: u64 = 1_000_000_000;

/// Where the repair of a replica stands.
#[derive(Default)]
pub(crate) struct Repair {
    /// What is wrong with the tree.
    pub damage: Option<StorageError>,
    /// Committed entries are not applied: the tree is being replaced, or lags behind what was applied before.
    pub held: bool,
    /// The session table is not known: the tree does not give it.
    pub unknown: bool,
    /// A job replaces the tree or reads entries for the redo.
    pub working: bool,
    /// It was counted and logged.
    told: bool,
    /// The last question, when it was asked and when the next one is due, boot ns.
    asked: u64,
    asked_ns: u64,
    ask_from_ns: u64,
    tries: u32,
    hand_over_from_ns: u64,
}

impl Repair {
    /// Of a replica that begins; `unknown` is why its session table cannot be read.
    pub fn new(unknown: Option<StorageError>) -> Repair {
        let lost = unknown.is_some();
        Repair { damage: unknown, held: lost, unknown: lost, ..Repair::default() }
    }

    /// Of a replica whose tree was replaced: what was held back is to be redone.
    pub fn redo() -> Repair {
        Repair { held: true, ..Repair::default() }
    }

    /// What the log lost leaves the state unknown: only tables that reach further help.
    pub fn lose(&mut self, damage: StorageError) {
        self.unknown = true;
        (self.damage, self.told) = (Some(damage), false);
    }

    pub fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }
}

/// Replicas elsewhere that are known to be damaged, until when, boot ns.
pub(super) type Sick = BTreeMap<(ShardId, StoreId), u64>;

impl<H: Host> Store<H> {
    /// Whether peers have what this replica lost.
    pub(super) fn has_peers(&self, slot: usize) -> bool {
        self.replicas[slot].raft.config().1.voters.len() > 1
    }

    /// Why a replica whose state is not known serves nothing.
    pub(super) fn withheld(&self, slot: usize) -> Option<Status> {
        let held = self.replicas[slot].repair.held;
        held.then(|| if self.has_peers(slot) { Status::Starting } else { Status::Unreadable })
    }

    /// Looks whether damage was found, counts it and says it to the operator. To be asked when something could not be read.
    pub(super) fn look_for_damage(&mut self, now: Now, slot: usize) {
        let replica = &mut self.replicas[slot];
        if replica.repair.damage.is_none() {
            replica.repair.damage = replica.tree.damage();
        }
        let Some(error) = replica.repair.damage.clone().filter(|_| !replica.repair.told) else { return };
        replica.repair.told = true;
        let (shard, peers) = (replica.shard, self.has_peers(slot));
        tracing::error!(store = %self.config.id, %shard, %error, peers, "a tree is damaged");
        self.counters.rot_found += 1;
        if peers {
            self.hand_over(now, slot);
        }
    }

    /// Tells the log how far the tree is durable. Not while tables for a repair are on their way: what they lack must stay in
    /// the log.
    pub(super) fn note_flushed(&mut self, slot: usize) {
        let replica = &mut self.replicas[slot];
        let awaited = replica.repair.is_damaged() && self.ships.incoming.contains_key(&replica.shard);
        let flushed = replica.tree.flushed().map_or(0, |at| at.index);
        if flushed > replica.noted && !awaited && !replica.repair.working && !replica.installing {
            replica.noted = flushed;
            self.log.note_flushed(replica.shard, flushed);
            if let Some(witness) = &self.witness {
                witness.flushed(replica.shard, flushed);
            }
            self.log_changed();
        }
    }

    /// Asks for tables where they are needed, a few at a time.
    pub(super) fn repair_tick(&mut self, now: Now) {
        self.ships.sick.retain(|_, until_ns| now.boot_ns < *until_ns);
        let waits = |r: &&Replica<_>| r.repair.asked > 0 && now.boot_ns < r.repair.asked_ns + ASK_NS;
        let mut running = self.ships.incoming.len() + self.replicas.iter().filter(waits).count();
        for slot in 0..self.replicas.len() {
            self.look_for_damage(now, slot);
            self.note_flushed(slot);
            if !self.replicas[slot].repair.is_damaged() || !self.has_peers(slot) {
                continue;
            }
            self.hand_over(now, slot);
            if running < REPAIRS_MAX && self.ask_for_tables(now, slot) {
                running += 1;
            }
        }
    }

    /// Asks the next peer, the leader first. `false`: not now.
    fn ask_for_tables(&mut self, now: Now, slot: usize) -> bool {
        let me = self.config.id;
        let replica = &self.replicas[slot];
        let busy = replica.repair.working || replica.installing || self.ships.incoming.contains_key(&replica.shard);
        if busy || now.boot_ns < replica.repair.ask_from_ns {
            return false;
        }
        let leader = replica.raft.leader().filter(|&leader| leader != me);
        let voters = replica.raft.config().1.voters.iter().map(|voter| voter.store);
        let others = voters.filter(|&store| store != me && Some(store) != leader);
        let peers: Vec<StoreId> = leader.into_iter().chain(others).collect();
        let Some(&to) = peers.get(replica.repair.tries as usize % peers.len().max(1)) else { return false };
        let snapshot = self.host.random();
        let (shard, generation, index) = (replica.shard, replica.generation, replica.noted);
        let repair = &mut self.replicas[slot].repair;
        repair.tries += 1;
        (repair.asked, repair.asked_ns) = (snapshot, now.boot_ns);
        repair.ask_from_ns = now.boot_ns + (ASK_NS << (repair.tries as usize / peers.len()).min(1));
        self.send_ship(to, &SnapshotMessage { shard, generation, snapshot, body: SnapshotBody::Want { index } });
        true
    }

    /// The peer that was asked has nothing.
    pub(super) fn nothing_there(&mut self, now: Now, slot: usize, snapshot: u64) {
        let repair = &mut self.replicas[slot].repair;
        if repair.asked == snapshot {
            repair.asked = 0;
            repair.ask_from_ns = repair.ask_from_ns.min(now.boot_ns + (ASK_NEXT_NS << repair.tries.min(3)));
        }
    }

    /// A peer's tree is damaged: it wants tables that reach at least to `index`. Any sound replica has them.
    pub(super) fn tables_wanted(
        &mut self,
        now: Now,
        slot: usize,
        from: StoreId,
        message: &SnapshotMessage,
        index: u64,
    ) {
        let SnapshotMessage { shard, generation, snapshot, .. } = *message;
        self.ships.sick.insert((shard, from), now.boot_ns + SICK_NS);
        self.look_for_damage(now, slot);
        let replica = &self.replicas[slot];
        let sound = !replica.repair.is_damaged() && !replica.installing;
        let flushed = replica.tree.flushed().map_or(0, |at| at.index);
        if sound && flushed >= index {
            return self.offer_snapshot(now, slot, from);
        }
        if sound && replica.applied >= index && self.flushable(now, slot) && self.may_flush() {
            self.flush(slot);
        }
        self.send_ship(from, &SnapshotMessage { shard, generation, snapshot, body: SnapshotBody::Gone });
    }

    /// Hands leadership to a sound peer that is there.
    fn hand_over(&mut self, now: Now, slot: usize) {
        let replica = &self.replicas[slot];
        if replica.raft.role() != Role::Leader || now.boot_ns < replica.repair.hand_over_from_ns {
            return;
        }
        let shard = replica.shard;
        let status = replica.raft.status();
        let sound = |store: StoreId| self.links.is_up(store) && !self.ships.sick.contains_key(&(shard, store));
        let best = status.peers.iter().filter(|p| sound(p.store)).max_by_key(|p| (p.matched, p.heard_ns));
        let Some(to) = best.map(|peer| peer.store) else { return };
        self.replicas[slot].repair.hand_over_from_ns = now.boot_ns + HAND_OVER_NS;
        self.step(slot, now, Input::Transfer { to: Some(to) });
    }
}

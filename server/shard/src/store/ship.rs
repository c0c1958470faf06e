//! Snapshots: a leader pins its tables, a follower that the log no longer reaches pulls and installs them (Raft §7).

use super::repair::{Repair, Sick};
use super::{DiskOf, Done, Store, boot};
use crate::host::{ConnId, Host};
use bytes::Bytes;
use ringkv_core::raft::Input;
use ringkv_core::sessions::Sessions;
use ringkv_storage::disk::Disk;
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::{Flushed, Receiver, TableSet};
use ringkv_storage::wal::{HardState, Record, ReplicaState, ShardState};
use ringkv_wire::frame::Kind;
use ringkv_wire::ids::{Now, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::snapshot::{OfferedTable, PIECE_BYTES_MAX, SnapshotBody, SnapshotMessage};
use std::collections::BTreeMap;
use std::rc::Rc;

/// An offer or a fetch without an answer is said again after this, ns.
const REPEAT_NS: u64 = 500_000_000;
/// A snapshot that nobody asks about is let go after this, ns.
const IDLE_NS: u64 = 10_000_000_000;
/// Fetches said again in a row before a snapshot is given up.
const TRIES_MAX: u32 = 20;

struct Outgoing<D: Disk> {
    shard: ShardId,
    to: StoreId,
    tables: TableSet<D>,
    /// Said again until the follower fetches.
    offer: Vec<u8>,
    fetched: bool,
    offered_ns: u64,
    active_ns: u64,
}

pub(super) struct Incoming<D: Disk> {
    pub(super) from: StoreId,
    pub(super) snapshot: u64,
    pub(super) at: Flushed,
    pub(super) tables: Vec<OfferedTable>,
    /// Table and offset wanted next.
    table: usize,
    offset: u64,
    pub(super) receiver: Rc<Receiver<D>>,
    asked_ns: u64,
    tries: u32,
    /// A piece is being written.
    writing: bool,
}

/// Snapshots on their way out and in.
pub(super) struct Ships<D: Disk> {
    outgoing: BTreeMap<u64, Outgoing<D>>,
    pub(super) incoming: BTreeMap<ShardId, Incoming<D>>,
    /// Peers' replicas that wait for a repair.
    pub(super) sick: Sick,
}

impl<D: Disk> Default for Ships<D> {
    fn default() -> Ships<D> {
        Ships { outgoing: BTreeMap::new(), incoming: BTreeMap::new(), sick: Sick::new() }
    }
}

impl<D: Disk> Ships<D> {
    pub(super) fn len(&self) -> usize {
        self.outgoing.len() + self.incoming.len()
    }

    pub(super) fn next_ns(&self) -> u64 {
        let out =
            self.outgoing.values().map(|o| if o.fetched { o.active_ns + IDLE_NS } else { o.offered_ns + REPEAT_NS });
        let inc = self.incoming.values().map(|i| i.asked_ns + REPEAT_NS);
        out.chain(inc).min().unwrap_or(u64::MAX)
    }

    /// The link to a store is new: it may have started again, and know of no offer.
    pub(super) fn linked(&mut self, now: Now, to: StoreId) {
        for outgoing in self.outgoing.values_mut().filter(|outgoing| outgoing.to == to) {
            (outgoing.fetched, outgoing.offered_ns) = (false, now.boot_ns);
        }
    }
}

/// A job of a snapshot has finished.
pub(super) enum ShipDone {
    Read { to: StoreId, message: SnapshotMessage, result: Result<Bytes, StorageError> },
    Written { shard: ShardId, snapshot: u64, result: Result<(), StorageError> },
    Installed { shard: ShardId, at: Flushed, from: StoreId, snapshot: u64, result: Result<Sessions, StorageError> },
    Replaced { shard: ShardId, at: Flushed, source: (StoreId, u64), new: bool, result: Result<Sessions, StorageError> },
}

impl<H: Host> Store<H> {
    pub(super) fn send_ship(&mut self, to: StoreId, message: &SnapshotMessage) -> bool {
        let mut body = Vec::new();
        message.encode(&mut body);
        self.links.send_bulk(to, Kind::Snapshot, &body)
    }

    /// Pins the tree's tables for a follower. Everything that the log lacks is in them: it was reclaimed only up to their
    /// flushed index.
    pub(super) fn offer_snapshot(&mut self, now: Now, slot: usize, to: StoreId) {
        self.look_for_damage(now, slot);
        let replica = &self.replicas[slot];
        let (shard, generation) = (replica.shard, replica.generation);
        let running = |o: &Outgoing<DiskOf<H>>| (o.shard, o.to) == (shard, to) && o.fetched;
        if self.ships.outgoing.values().any(|o| running(o) && now.boot_ns < o.active_ns + IDLE_NS) {
            return; // Raft lost patience, the follower did not: what it has fetched stays good.
        }
        let tables = replica.tree.tables();
        let at = tables.at();
        let config = Configuration::decode(at.config.clone());
        let sound = !replica.repair.is_damaged() && at.index >= replica.raft.floor().0 && at.index > 0;
        let (Ok(config), true) = (config, sound) else {
            tracing::error!(%shard, index = at.index, "no tables to offer");
            return self.step(slot, now, Input::SnapshotDone { to, index: 0 });
        };
        let snapshot = self.host.random();
        let body = SnapshotBody::Offer {
            term: replica.raft.term(),
            index: at.index,
            index_term: at.term,
            log_time_ms: at.log_time_ms,
            config_index: at.config_index,
            config,
            tables: tables.list(),
        };
        let mut offer = Vec::new();
        SnapshotMessage { shard, generation, snapshot, body }.encode(&mut offer);
        self.links.send_bulk(to, Kind::Snapshot, &offer);
        self.ships.outgoing.retain(|_, o| (o.shard, o.to) != (shard, to));
        let (offered_ns, active_ns) = (now.boot_ns, now.boot_ns);
        self.ships
            .outgoing
            .insert(snapshot, Outgoing { shard, to, tables, offer, fetched: false, offered_ns, active_ns });
        self.counters.snapshots_sent += 1;
        tracing::info!(store = %self.config.id, %shard, %to, index = at.index, "snapshot offered");
    }

    pub(super) fn snapshot_message(&mut self, now: Now, conn: ConnId, from: StoreId, body: Bytes) {
        let Ok(message) = SnapshotMessage::decode(body) else {
            self.counters.bad_frames += 1;
            self.host.close(conn);
            return;
        };
        let Some(slot) = self.slot(message.shard) else { return };
        if !self.admitted || self.failed.is_some() || self.replicas[slot].generation != message.generation {
            return;
        }
        match &message.body {
            SnapshotBody::Offer { .. } => self.offered(now, slot, from, message),
            SnapshotBody::Fetch { table, offset, bytes } => {
                let (table, offset, bytes) = (*table, *offset, *bytes);
                self.fetch_wanted(now, from, message, table, offset, bytes);
            }
            SnapshotBody::Piece { table, offset, bytes } => {
                let (table, offset, bytes) = (*table, *offset, bytes.clone());
                self.piece(message.shard, message.snapshot, table, offset, bytes);
            }
            SnapshotBody::Want { index } => self.tables_wanted(now, slot, from, &message, *index),
            SnapshotBody::Gone => {
                self.nothing_there(now, slot, message.snapshot);
                if self.ships.incoming.get(&message.shard).is_some_and(|i| i.snapshot == message.snapshot) {
                    self.give_up(message.shard);
                }
            }
            SnapshotBody::Installed { index } => {
                let index = *index;
                if self.ships.outgoing.get(&message.snapshot).is_some_and(|o| o.to == from) {
                    self.ships.outgoing.remove(&message.snapshot);
                    self.step(slot, now, Input::SnapshotDone { to: from, index });
                }
            }
        }
    }

    fn offered(&mut self, now: Now, slot: usize, from: StoreId, message: SnapshotMessage) {
        let SnapshotMessage { shard, generation, snapshot, body } = message;
        let SnapshotBody::Offer { index, index_term, log_time_ms, config_index, config, tables, .. } = body else {
            return;
        };
        let replica = &self.replicas[slot];
        if replica.installing || replica.repair.working {
            return;
        }
        let wanted = replica.raft.needs_snapshot(index, index_term) || self.repairs(slot, index, index_term);
        let replica = &self.replicas[slot];
        if !wanted {
            // The log holds the snapshot's last entry, though it may not be applied yet: go on behind it.
            let body = SnapshotBody::Installed { index: replica.applied.max(index) };
            self.send_ship(from, &SnapshotMessage { shard, generation, snapshot, body });
            return;
        }
        let running = self.ships.incoming.get(&shard);
        if running.is_some_and(|i| i.snapshot == snapshot || now.boot_ns < i.asked_ns + 2 * REPEAT_NS) {
            return;
        }
        let mut bytes = Vec::new();
        config.encode(&mut bytes);
        let at = Flushed { index, term: index_term, log_time_ms, config_index, config: Bytes::from(bytes) };
        let receiver = Rc::new(replica.tree.receive());
        let incoming = Incoming {
            from,
            snapshot,
            at,
            tables,
            table: 0,
            offset: 0,
            receiver,
            asked_ns: now.boot_ns,
            tries: 0,
            writing: false,
        };
        tracing::info!(store = %self.config.id, %shard, %from, index, "snapshot wanted");
        if self.ships.incoming.insert(shard, incoming).is_some() {
            self.counters.snapshots_interrupted += 1;
        }
        self.fetch_next(now, shard);
    }

    /// A wanted snapshot will not come to its end.
    fn give_up(&mut self, shard: ShardId) {
        if let Some(incoming) = self.ships.incoming.remove(&shard) {
            self.counters.snapshots_interrupted += 1;
            self.say_given_up(shard, incoming.from, incoming.snapshot);
        }
    }

    /// Who offered it would wait for long: now it offers what it then has.
    pub(super) fn say_given_up(&mut self, shard: ShardId, from: StoreId, snapshot: u64) {
        if let Some(slot) = self.slot(shard) {
            let (generation, body) = (self.replicas[slot].generation, SnapshotBody::Installed { index: 0 });
            self.send_ship(from, &SnapshotMessage { shard, generation, snapshot, body });
        }
    }

    /// Asks for the next piece, or installs when there is none left.
    fn fetch_next(&mut self, now: Now, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let generation = self.replicas[slot].generation;
        let Some(incoming) = self.ships.incoming.get_mut(&shard) else { return };
        incoming.asked_ns = now.boot_ns;
        while incoming.tables.get(incoming.table).is_some_and(|t| incoming.offset >= t.bytes) {
            incoming.table += 1;
            incoming.offset = 0;
        }
        let Some(table) = incoming.tables.get(incoming.table) else { return self.install(slot, shard) };
        let bytes = (table.bytes - incoming.offset).min(PIECE_BYTES_MAX as u64) as u32;
        let (to, snapshot) = (incoming.from, incoming.snapshot);
        let body = SnapshotBody::Fetch { table: table.id, offset: incoming.offset, bytes };
        self.send_ship(to, &SnapshotMessage { shard, generation, snapshot, body });
    }

    fn fetch_wanted(&mut self, now: Now, from: StoreId, m: SnapshotMessage, table: [u8; 16], offset: u64, bytes: u32) {
        let known = self.ships.outgoing.get_mut(&m.snapshot).filter(|o| o.to == from && o.shard == m.shard);
        let Some(outgoing) = known else {
            self.send_ship(from, &SnapshotMessage { body: SnapshotBody::Gone, ..m });
            return;
        };
        outgoing.active_ns = now.boot_ns;
        outgoing.fetched = true;
        let tables = outgoing.tables.clone();
        let bytes = (bytes as usize).min(PIECE_BYTES_MAX);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = tables.read(table, offset, bytes).await;
            mailbox.post(Done::Ship(ShipDone::Read { to: from, message: m, result }));
        });
    }

    fn piece(&mut self, shard: ShardId, snapshot: u64, table: [u8; 16], offset: u64, bytes: Bytes) {
        let Some(incoming) = self.ships.incoming.get_mut(&shard) else { return };
        let wanted = incoming.tables.get(incoming.table).copied();
        let fits = wanted.is_some_and(|t| t.id == table && offset + bytes.len() as u64 <= t.bytes);
        if incoming.snapshot != snapshot || incoming.writing || !fits || offset != incoming.offset || bytes.is_empty() {
            return;
        }
        let total = wanted.map_or(0, |t| t.bytes);
        incoming.writing = true;
        incoming.offset += bytes.len() as u64;
        incoming.tries = 0;
        let receiver = incoming.receiver.clone();
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = receiver.write(table, total, offset, &bytes).await;
            drop(receiver);
            mailbox.post(Done::Ship(ShipDone::Written { shard, snapshot, result }));
        });
    }

    /// All is here: replaces the tree. The group's steps wait meanwhile.
    fn install(&mut self, slot: usize, shard: ShardId) {
        let replica = &mut self.replicas[slot];
        if replica.flushing || replica.merging || replica.installing || replica.repair.working {
            return;
        }
        let Some(incoming) = self.ships.incoming.remove(&shard) else { return };
        let (index, term) = (incoming.at.index, incoming.at.term);
        let needed = replica.raft.needs_snapshot(index, term);
        if !needed && self.repairs(slot, index, term) {
            if let Some(waits) = self.replace_tree(slot, incoming) {
                self.ships.incoming.insert(shard, waits);
            }
            return;
        }
        // The log may have caught up meanwhile: what follows may be acknowledged, and installing would void it.
        let replica = &mut self.replicas[slot];
        if !needed {
            let index = replica.applied.max(incoming.at.index);
            let (generation, body) = (replica.generation, SnapshotBody::Installed { index });
            let snapshot = incoming.snapshot;
            self.send_ship(incoming.from, &SnapshotMessage { shard, generation, snapshot, body });
            return;
        }
        let tree = replica.tree.clone();
        let (at, from, snapshot) = (incoming.at, incoming.from, incoming.snapshot);
        let ids: Vec<_> = incoming.tables.iter().map(|t| t.id).collect();
        let Some(receiver) = Rc::into_inner(incoming.receiver) else { return };
        replica.installing = true;
        let budget = self.config.budgets.session_bytes;
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = match receiver.install(at.clone(), &ids).await {
                Ok(()) => boot::load_sessions(&tree, budget).await,
                Err(error) => Err(error),
            };
            mailbox.post(Done::Ship(ShipDone::Installed { shard, at, from, snapshot, result }));
        });
    }

    pub(super) fn ship_done(&mut self, now: Now, done: ShipDone) {
        match done {
            ShipDone::Read { to, message, result } => {
                let SnapshotBody::Fetch { table, offset, .. } = message.body else { return };
                let body = match result {
                    Ok(bytes) => SnapshotBody::Piece { table, offset, bytes },
                    Err(error) => {
                        tracing::error!(shard = %message.shard, %error, "a pinned table cannot be read");
                        if let Some(slot) = self.slot(message.shard) {
                            self.look_for_damage(now, slot);
                        }
                        SnapshotBody::Gone
                    }
                };
                self.send_ship(to, &SnapshotMessage { body, ..message });
            }
            ShipDone::Written { shard, snapshot, result } => {
                let Some(incoming) = self.ships.incoming.get_mut(&shard) else { return };
                if incoming.snapshot != snapshot {
                    return;
                }
                incoming.writing = false;
                if let Err(error) = result {
                    tracing::warn!(%shard, %error, "a snapshot's piece cannot be written; given up for now");
                    self.give_up(shard);
                    return;
                }
                self.fetch_next(now, shard);
            }
            ShipDone::Replaced { shard, at, source, new, result } => {
                if let Some(slot) = self.slot(shard) {
                    self.replaced(slot, &at, source, new, result);
                }
            }
            ShipDone::Installed { shard, at, from, snapshot, result } => {
                self.installed(now, shard, at, from, snapshot, result);
            }
        }
    }

    fn installed(
        &mut self,
        now: Now,
        shard: ShardId,
        at: Flushed,
        from: StoreId,
        snapshot: u64,
        result: Result<Sessions, StorageError>,
    ) {
        let Some(slot) = self.slot(shard) else { return };
        let replica = &mut self.replicas[slot];
        replica.installing = false;
        if self.failed.is_some() {
            return; // Nothing is acknowledged any more; a restart finds the tables ahead of the log.
        }
        let sessions = match result {
            Ok(sessions) => sessions,
            Err(error) if replica.tree.flushed().is_some_and(|f| f.index == at.index) => return self.fail(now, error),
            Err(error) => {
                self.counters.snapshots_interrupted += 1;
                tracing::warn!(%shard, %error, "snapshot not installed");
                return self.say_given_up(shard, from, snapshot);
            }
        };
        let Ok(config) = Configuration::decode(at.config.clone()) else { return };
        let (term, vote) = replica.raft.hard_state();
        replica.sessions = sessions;
        (replica.applied, replica.handed, replica.noted) = (at.index, at.index, at.index);
        replica.shown = replica.shown.max(at.index);
        self.counters.rot_repaired += u64::from(replica.repair.is_damaged());
        replica.repair = Repair::default();
        replica.applied_term = at.term;
        replica.log_time_ms = at.log_time_ms;
        let generation = replica.generation;
        let floor = ShardState {
            shard,
            generation,
            state: ReplicaState::Voter,
            hard: HardState { term, vote },
            floor_index: at.index,
            floor_term: at.term,
            flushed_index: at.index,
            acknowledged_index: 0,
            config_index: at.config_index,
            config: at.config.clone(),
        };
        // The tables are durable and the manifest names them; a crash before this record finds them ahead of the log.
        self.log_record(Record::ShardState(floor));
        let (index, config) = (at.index, (at.config_index, config));
        let input = Input::Installed { index, term: at.term, log_time_ms: at.log_time_ms, config };
        self.step(slot, now, input);
        self.log.note_flushed(shard, index);
        if let Some(witness) = &self.witness {
            witness.flushed(shard, index);
        }
        self.counters.snapshots_installed += 1;
        tracing::info!(store = %self.config.id, %shard, index, "snapshot installed");
        let body = SnapshotBody::Installed { index };
        self.send_ship(from, &SnapshotMessage { shard, generation, snapshot, body });
    }

    pub(super) fn ship_tick(&mut self, now: Now) {
        let due: Vec<ShardId> = self
            .ships
            .incoming
            .iter()
            .filter(|(_, i)| now.boot_ns >= i.asked_ns + REPEAT_NS)
            .map(|(&s, _)| s)
            .collect();
        for shard in due {
            let Some(incoming) = self.ships.incoming.get_mut(&shard) else { continue };
            incoming.tries += 1;
            if incoming.tries > TRIES_MAX {
                self.give_up(shard);
            } else if incoming.writing {
                incoming.asked_ns = now.boot_ns;
            } else {
                self.fetch_next(now, shard);
            }
        }
        let mut again = Vec::new();
        let mut over = Vec::new();
        for (&snapshot, outgoing) in &mut self.ships.outgoing {
            if now.boot_ns >= outgoing.active_ns + IDLE_NS {
                over.push((snapshot, outgoing.shard, outgoing.to));
            } else if !outgoing.fetched && now.boot_ns >= outgoing.offered_ns + REPEAT_NS {
                outgoing.offered_ns = now.boot_ns;
                again.push((outgoing.to, outgoing.offer.clone()));
            }
        }
        for (to, offer) in again {
            self.links.send_bulk(to, Kind::Snapshot, &offer);
        }
        for (snapshot, shard, to) in over {
            self.ships.outgoing.remove(&snapshot);
            if let Some(slot) = self.slot(shard) {
                self.step(slot, now, Input::SnapshotDone { to, index: 0 });
            }
        }
    }
}

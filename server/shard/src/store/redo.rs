//! The tables of a peer take the place of damaged ones, and what they lack is redone from the own log.

use super::repair::Repair;
use super::ship::{Incoming, ShipDone};
use super::{DiskOf, Done, Store, boot};
use crate::host::Host;
use ringkv_core::raft::Role;
use ringkv_core::sessions::Sessions;
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::Flushed;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::snapshot::{SnapshotBody, SnapshotMessage};
use std::rc::Rc;

/// Entries read from the log for one turn of redo, encoded bytes.
const REDO_BYTES: usize = 1 << 20;

impl<H: Host> Store<H> {
    /// Whether tables that reflect `index` can take the place of the damaged ones: the log holds all that follows.
    pub(super) fn repairs(&self, slot: usize, index: u64, term: u64) -> bool {
        let replica = &self.replicas[slot];
        let known = replica.raft.term_at(index);
        if known.is_some_and(|known| known != term) {
            tracing::error!(shard = %replica.shard, index, term, ?known, "a peer's tables contradict the log");
            return false;
        }
        replica.repair.is_damaged() && index >= replica.noted && known.is_some()
    }

    /// All is here: replaces the tree and leaves the log alone. Committed entries are held back from now on until the new
    /// tree has caught up. `None`: done; else it must wait.
    pub(super) fn replace_tree(&mut self, slot: usize, incoming: Incoming<DiskOf<H>>) -> Option<Incoming<DiskOf<H>>> {
        let replica = &mut self.replicas[slot];
        if self.failed.is_some() {
            return None; // What the tables reflect may never be durable in the log.
        }
        let redoes = replica.repair.held && !replica.repair.unknown;
        if replica.raft.role() == Role::Leader || replica.handed < incoming.at.index || redoes {
            return Some(incoming);
        }
        let (at, from, snapshot) = (incoming.at, incoming.from, incoming.snapshot);
        let ids: Vec<_> = incoming.tables.iter().map(|t| t.id).collect();
        let receiver = Rc::into_inner(incoming.receiver)?;
        (replica.repair.held, replica.repair.working) = (true, true);
        let (shard, tree) = (replica.shard, replica.tree.clone());
        let budget = self.config.budgets.session_bytes;
        let mailbox = self.mailbox.clone();
        // Not before the log holds durably what the tables reflect: they would look like an installed snapshot.
        self.after_commits(async move {
            let installed = receiver.install(at.clone(), &ids).await;
            let new = installed.is_ok();
            let result = match installed {
                Ok(()) => boot::load_sessions(&tree, budget).await,
                Err(error) => Err(error),
            };
            mailbox.post(Done::Ship(ShipDone::Replaced { shard, at, source: (from, snapshot), new, result }));
        });
        self.answer_granted(slot);
        None
    }

    /// The tree was replaced, or was not. `new`: its tables are others now.
    pub(super) fn replaced(
        &mut self,
        slot: usize,
        at: &Flushed,
        (from, snapshot): (StoreId, u64),
        new: bool,
        result: Result<Sessions, StorageError>,
    ) {
        let replica = &mut self.replicas[slot];
        let (shard, generation) = (replica.shard, replica.generation);
        replica.repair.working = false;
        if self.failed.is_some() {
            return; // Nothing is acknowledged any more; a restart redoes what is missing.
        }
        match result {
            Ok(sessions) => {
                replica.sessions = sessions;
                (replica.applied, replica.applied_term) = (at.index, at.term);
                replica.shown = replica.shown.max(at.index);
                replica.log_time_ms = at.log_time_ms;
                replica.repair = Repair::redo();
                self.counters.rot_repaired += 1;
                let (id, index) = (self.config.id, at.index);
                tracing::info!(store = %id, %shard, %from, index, "a damaged tree is replaced by a peer's tables");
                self.note_flushed(slot);
                let body = SnapshotBody::Installed { index };
                self.send_ship(from, &SnapshotMessage { shard, generation, snapshot, body });
            }
            Err(error) => {
                tracing::warn!(store = %self.config.id, %shard, %error, new, "a damaged tree is not repaired");
                // Memory does not fit tables that are new: only others help.
                replica.repair.unknown |= new;
                self.say_given_up(shard, from, snapshot);
            }
        }
        self.catch_up(slot);
    }

    /// Applies what was held back: from memory, or else from the log on disk, a piece at a time.
    fn catch_up(&mut self, slot: usize) {
        if self.replicas[slot].repair.unknown {
            return;
        }
        while let Some(entry) = self.next_held(slot) {
            self.apply_entry(slot, &entry, 0);
        }
        let replica = &mut self.replicas[slot];
        replica.repair.working = replica.applied < replica.handed;
        replica.repair.held = replica.repair.working;
        if !replica.repair.working {
            return self.touch(slot);
        }
        let shard = replica.shard;
        let entries = self.log.read_entries(shard, replica.applied + 1, REDO_BYTES);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = entries.await;
            mailbox.post(Done::Redo { shard, result });
        });
    }

    /// The next entry to redo, when memory holds it.
    fn next_held(&self, slot: usize) -> Option<Entry> {
        let replica = &self.replicas[slot];
        let next = replica.applied + 1;
        replica.raft.entry(next).filter(|_| next <= replica.handed).cloned()
    }

    /// Entries for the redo came from the log.
    pub(super) fn redo(&mut self, slot: usize, result: Result<Vec<Entry>, StorageError>) {
        let replica = &mut self.replicas[slot];
        replica.repair.working = false;
        let (shard, next) = (replica.shard, replica.applied + 1);
        if self.failed.is_some() {
            return;
        }
        let lost = || StorageError::Damaged {
            path: format!("shard {shard}"),
            offset: 0,
            expected: format!("entry {next} in the log"),
            got: "none".into(),
        };
        match result.and_then(|entries| if entries.is_empty() { Err(lost()) } else { Ok(entries) }) {
            Ok(entries) => {
                for entry in entries {
                    if (self.replicas[slot].applied + 1..=self.replicas[slot].handed).contains(&entry.index) {
                        self.apply_entry(slot, &entry, 0);
                    }
                }
            }
            Err(error) => self.replicas[slot].repair.lose(error),
        }
        self.catch_up(slot);
    }
}

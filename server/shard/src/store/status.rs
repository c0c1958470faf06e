//! How the store is, for people and for tests.

use super::Store;
use crate::config::{Queues, ShardView, StoreView};
use crate::counters::{self, Named};
use crate::digest::{self, Digesting, Known};
use crate::host::Host;
use crate::replica::{Asker, OWN_KEYSPACE};
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::ids::ShardId;
use ringkv_wire::status::Status;
use serde::Serialize;

#[derive(Serialize)]
struct ShardJson {
    shard: String,
    role: String,
    term: u64,
    leader: Option<String>,
    commit: u64,
    applied: u64,
    last: u64,
    floor: u64,
    /// What is wrong with its tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
}

#[derive(Serialize)]
struct StoreJson {
    store: String,
    node: u32,
    admitted: bool,
    failed: Option<String>,
    connections: usize,
    memtable_bytes: usize,
    memory_budget_bytes: usize,
    log: String,
    engine: Named,
    counters: Named,
    shards: Vec<ShardJson>,
}

impl<H: Host> Store<H> {
    pub(super) fn view(&self) -> StoreView {
        let shards = self.replicas.iter().map(|r| ShardView {
            shard: r.shard,
            generation: r.generation,
            role: r.raft.role(),
            term: r.raft.term(),
            leader: r.raft.leader(),
            commit: r.raft.commit(),
            applied: r.shown,
            last_index: r.raft.last_index(),
            log_time_ms: r.log_time_ms,
            session_bytes: r.sessions.bytes(),
            raft_bytes: r.raft.memory_bytes(),
        });
        StoreView {
            id: self.config.id,
            admitted: self.admitted,
            failed: self.failed.is_some(),
            memtable_bytes: self.engine.memtable_bytes(),
            queues: self.queues(),
            shards: shards.collect(),
        }
    }

    fn queues(&self) -> Queues {
        let (unanswered, unread_bytes) = self.conns.fullest(&self.host);
        Queues {
            unanswered,
            unread_bytes,
            disk_reads: self.disk_reads,
            commits: self.commits.in_flight(),
            snapshots: self.ships.len(),
            log_bytes: self.log.stats().bytes,
        }
    }

    /// Begins a digest of a shard as it is now.
    pub(super) fn digest(&self, shard: ShardId) -> Option<Digesting> {
        let replica = &self.replicas[self.slot(shard)?];
        let known = Known {
            index: replica.applied,
            log_time_ms: replica.log_time_ms,
            sessions: ringkv_wire::checksum(&replica.sessions.encode()),
        };
        // A store that failed may have replaced a tree and not said so.
        let whole = self.failed.is_none() && !replica.installing && !replica.repair.held;
        whole.then(|| digest::digest(&replica.tree, OWN_KEYSPACE, known))
    }

    /// All counters of the store, its log and its replicas.
    pub(super) fn counted(&self) -> Named {
        let rafts = self.replicas.iter().map(|r| r.raft.counters());
        counters::named(&self.counters, &self.log.stats(), rafts)
    }

    pub(super) fn status_wanted(&mut self, asker: Asker) {
        let shards = self.replicas.iter().map(|r| ShardJson {
            shard: r.shard.to_string(),
            role: format!("{:?}", r.raft.role()).to_lowercase(),
            term: r.raft.term(),
            leader: r.raft.leader().map(|s| s.to_string()),
            commit: r.raft.commit(),
            applied: r.applied,
            last: r.raft.last_index(),
            floor: r.raft.floor().0,
            damage: r.repair.damage.as_ref().map(|e| e.to_string()),
        });
        let engine = self.engine.stats();
        let json = StoreJson {
            store: self.config.id.to_string(),
            node: self.config.id.node.0,
            admitted: self.admitted,
            failed: self.failed.as_ref().map(|e| e.to_string()),
            connections: self.conns.len(),
            memtable_bytes: engine.memtable_bytes,
            memory_budget_bytes: self.config.budgets.memory_bytes(),
            log: format!("{:?}", self.log.stats()),
            engine: engine.named().collect(),
            counters: self.counted(),
            shards: shards.collect(),
        };
        let mut body = Vec::new();
        self.header(None, Status::Ok).encode(0, &mut body);
        body.extend_from_slice(serde_json::to_string(&json).unwrap_or_default().as_bytes());
        if let Some(out) = self.conns.buffer(asker.conn) {
            frame::encode(Kind::StatusReply, asker.id, &body, out);
        }
    }
}

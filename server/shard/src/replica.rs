//! One replica of one shard: its Raft state, its tree, its session table, and who waits for what.

use bytes::Bytes;
use ringkv_core::effects::Effects;
use ringkv_core::raft::Raft;
use ringkv_core::sessions::Sessions;
use ringkv_storage::disk::Disk;
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::{Flushed, Sought, Tree};
use ringkv_wire::ids::{Generation, KeyspaceId, Now, Position, ShardId, StoreId};
use ringkv_wire::msg::client::ReadKeys;
use ringkv_wire::ring::hash::{key_hash, position};
use ringkv_wire::ring::topology::ClusterMap;
use ringkv_wire::status::Status;
use std::collections::BTreeMap;

use crate::host::ConnId;
use crate::store::repair::Repair;

/// The key under which the tree's own keyspace says how many pieces the session table has; its pieces follow as
/// `sessions/` and their number.
pub(crate) const SESSIONS_KEY: &[u8] = b"sessions";
/// A piece is one record: well below the longest value.
const SESSIONS_PIECE_BYTES: usize = 4 << 20;
/// The tree's own keyspace.
pub(crate) const OWN_KEYSPACE: KeyspaceId = KeyspaceId(0);

/// The key of one piece of the session table.
pub(crate) fn sessions_piece_key(piece: u32) -> Bytes {
    Bytes::from(format!("sessions/{piece:08}"))
}

/// The session table as records to be sealed into the tree.
pub(crate) fn seal_sessions(sessions: &Sessions) -> Vec<(KeyspaceId, Bytes, Bytes)> {
    let bytes = Bytes::from(sessions.encode());
    let pieces = bytes.len().div_ceil(SESSIONS_PIECE_BYTES);
    let count = Bytes::copy_from_slice(&(pieces as u32).to_le_bytes());
    let mut sealed = vec![(OWN_KEYSPACE, Bytes::from_static(SESSIONS_KEY), count)];
    for piece in 0..pieces {
        let (from, to) = (piece * SESSIONS_PIECE_BYTES, bytes.len().min((piece + 1) * SESSIONS_PIECE_BYTES));
        sealed.push((OWN_KEYSPACE, sessions_piece_key(piece as u32), bytes.slice(from..to)));
    }
    sealed
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    /// The connection.
    pub conn: ConnId,
    /// The message id to echo.
    pub id: u64,
    /// When the turn began that took the request in, boot ns.
    pub since_ns: u64,
}

impl Asker {
    /// How long the store has had the request, us.
    pub fn waited_us(&self, now: Now) -> u32 {
        u32::try_from(now.boot_ns.saturating_sub(self.since_ns) / 1_000).unwrap_or(u32::MAX)
    }
}

/// A read request that waits for its grant or its index.
pub(crate) struct PendingRead {
    pub asker: Asker,
    pub keys: ReadKeys,
    pub lease: bool,
}

pub(crate) struct Replica<D: Disk> {
    pub shard: ShardId,
    pub generation: Generation,
    /// First and last position of its arc.
    pub arc: (Position, Position),
    /// The first of the shard's replicas: it leads when it can.
    pub preferred: StoreId,
    pub raft: Raft,
    pub tree: Tree<D>,
    pub sessions: Sessions,
    /// Everything up to here is in the tree.
    pub applied: u64,
    /// The highest index ever applied in this life: above `applied` only while a repaired tree is redone.
    pub shown: u64,
    /// The last committed entry that Raft handed out: above `applied` only while the tree is repaired.
    pub handed: u64,
    /// The flushed index that the log was told.
    pub noted: u64,
    /// Whether the tree is damaged, and what is done about it.
    pub repair: Repair,
    pub applied_term: u64,
    /// Log time at `applied`, ms.
    pub log_time_ms: u64,
    /// What this turn's steps want done.
    pub effects: Effects,
    /// In the list of replicas to look at in this turn.
    pub dirty: bool,
    /// Proposals that wait to be applied, by token, each with its number of operations.
    pub writes: BTreeMap<u64, (Asker, usize)>,
    /// Operations of these proposals: they will grow the session table.
    pub writes_ops: usize,
    /// Reads of this turn: by lease when there is one, and by a round always.
    pub reads_new: [Vec<PendingRead>; 2],
    /// Reads that wait for their grant, by token.
    pub reads_asked: BTreeMap<u64, Vec<PendingRead>>,
    /// Granted reads that wait for an applied index.
    pub reads_granted: Vec<(u64, Vec<PendingRead>)>,
    /// A flush runs or waits.
    pub flushing: bool,
    /// No flush before this, boot ns: the last one failed.
    pub flush_from_ns: u64,
    /// No merge before this, boot ns: the last one failed.
    pub merge_from_ns: u64,
    /// A merge runs.
    pub merging: bool,
    /// When it was last flushed, or opened, boot ns.
    pub flushed_ns: u64,
    /// A snapshot is being installed: the group's steps wait.
    pub installing: bool,
    /// When leadership was last handed on, boot ns.
    pub transferred_ns: u64,
    /// When a tick was last proposed, boot ns.
    pub ticked_ns: u64,
}

impl<D: Disk> Replica<D> {
    /// Why a key does not belong to this shard, when it does not.
    pub fn misplaced(&self, map: &ClusterMap, key: Sought<'_>) -> Option<Status> {
        let Some(info) = map.keyspaces.iter().find(|info| info.id == key.keyspace && key.keyspace.0 != 0) else {
            return Some(Status::UnknownKeyspace);
        };
        let part = info.routing.part(key.key);
        // Mostly the whole key decides, and its hash is known.
        let hash = if part.len() == key.key.len() { key.hash } else { key_hash(key.keyspace, part) };
        let here = info.pool == self.shard.pool() && (self.arc.0..=self.arc.1).contains(&position(hash));
        (!here).then_some(Status::Moved)
    }

    /// A replica as it begins: its tree and what that reflects, its session table or else why there is none.
    pub fn new(
        shard: ShardId,
        generation: Generation,
        arc: (Position, Position),
        preferred: StoreId,
        raft: Raft,
        (tree, at): (Tree<D>, &Flushed),
        (sessions, unknown): (Sessions, Option<StorageError>),
    ) -> Replica<D> {
        Replica {
            shard,
            generation,
            arc,
            preferred,
            raft,
            tree,
            sessions,
            applied: at.index,
            shown: at.index,
            handed: at.index,
            noted: at.index,
            repair: Repair::new(unknown),
            applied_term: at.term,
            log_time_ms: at.log_time_ms,
            effects: Effects::default(),
            dirty: false,
            writes: BTreeMap::new(),
            writes_ops: 0,
            reads_new: [Vec::new(), Vec::new()],
            reads_asked: BTreeMap::new(),
            reads_granted: Vec::new(),
            flushing: false,
            flush_from_ns: 0,
            merge_from_ns: 0,
            flushed_ns: 0,
            merging: false,
            installing: false,
            transferred_ns: 0,
            ticked_ns: 0,
        }
    }

    /// Takes a proposal that is answered now.
    pub fn take_write(&mut self, token: u64) -> Option<Asker> {
        let (asker, ops) = self.writes.remove(&token)?;
        self.writes_ops -= ops;
        Some(asker)
    }

    /// What a flush now would reflect.
    pub fn flush_point(&self) -> Flushed {
        let (config_index, config) = self.raft.config();
        let mut bytes = Vec::new();
        config.encode(&mut bytes);
        Flushed {
            index: self.applied,
            term: self.applied_term,
            log_time_ms: self.log_time_ms,
            config_index: *config_index,
            config: Bytes::from(bytes),
        }
    }
}

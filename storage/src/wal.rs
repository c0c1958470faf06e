//! The log of one store: the Raft log of all its shards (FORMAT.md §1).

use bytes::Bytes;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{Generation, Incarnation, ShardId, StoreId};

/// What a replica is, as far as its own log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplicaState {
    /// It votes.
    Voter = 1,
    /// It gets entries and does not count.
    Learner = 2,
    /// It was removed.
    Removed = 3,
    /// It lost something that it may have acknowledged.
    Damaged = 4,
}

/// Term and vote: durable before any answer that rests on them (Raft §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term.
    pub term: u64,
    /// Who got this replica's vote in this term.
    pub vote: Option<StoreId>,
}

/// All that the log knows of a shard besides its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// The shard.
    pub shard: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// What this replica is.
    pub state: ReplicaState,
    /// Term and vote.
    pub hard: HardState,
    /// The log begins behind this index.
    pub floor_index: u64,
    /// The floor's term.
    pub floor_term: u64,
    /// Everything up to this index is in the tree's tables.
    pub flushed_index: u64,
    /// Only when damaged: the last index it may have acknowledged.
    pub acknowledged_index: u64,
    /// Index of the active configuration.
    pub config_index: u64,
    /// The active configuration, encoded (PROTOCOL.md §5).
    pub config: Bytes,
}

/// What a commit appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry; truncates the shard's log at its index first.
    Entry(Entry),
    /// A shard's term and vote.
    HardState {
        /// The shard.
        shard: ShardId,
        /// Its generation.
        generation: Generation,
        /// Term and vote.
        hard: HardState,
    },
    /// All of a shard's state; replaces what was known. Entries at or below the floor are gone.
    ShardState(ShardState),
    /// The shard is no longer here.
    ShardGone(ShardId),
    /// The incarnation under which another store is known here.
    Peer {
        /// The other store.
        store: StoreId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// Every peer has recorded this store's incarnation: it may vote.
    Admitted,
}

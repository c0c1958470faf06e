//! How a replica begins, and what it is told.

use bytes::Bytes;
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;

/// Who this replica is and how it begins.
#[derive(Clone, Debug)]
pub struct Restored {
    /// This replica's store.
    pub me: StoreId,
    /// The group.
    pub shard: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// Term as last persisted.
    pub term: u64,
    /// Vote as last persisted.
    pub vote: Option<StoreId>,
    /// The log begins behind this index.
    pub floor_index: u64,
    /// The floor's term.
    pub floor_term: u64,
    /// Index and content of the configuration at or below the floor.
    pub config: (u64, Configuration),
    /// Everything up to this index is in the tree; redo begins behind it. At least the floor.
    pub applied: u64,
    /// Log time at `applied`, ms.
    pub log_time_ms: u64,
    /// The log, from floor + 1 without gaps. Where the tree is ahead of the log (a crash between installing a snapshot and
    /// logging its floor), the floor is the tree's index, and entries are given only if the log holds that very entry.
    pub entries: Vec<Entry>,
}

/// What a step is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A message of this group, from a store that said a proper hello.
    Message {
        /// The sender.
        from: StoreId,
        /// The sender's term.
        term: u64,
        /// What it says.
        body: PeerBody,
    },
    /// Append this to the log, if leading. Answered through `apply` with the token, `dropped`, or `refused`.
    Propose {
        /// What the body is.
        kind: EntryKind,
        /// The entry's body.
        body: Bytes,
        /// Its CRC-32C.
        body_crc: u32,
        /// Given back; not 0.
        token: u64,
    },
    /// A read came in. Answered through `reads`, perhaps in a later step.
    Read {
        /// Given back.
        token: u64,
        /// By a round even when a lease holds.
        read_index: bool,
    },
    /// Everything to persist up to this ticket is durable.
    Persisted {
        /// The ticket.
        ticket: u64,
    },
    /// Entries of a [`crate::effects::Fetch`], possibly none when the log no longer holds them.
    Fetched {
        /// The follower.
        to: StoreId,
        /// Consecutive entries from the index asked for.
        entries: Vec<Entry>,
    },
    /// The log was reclaimed up to and including this index (at most the applied one).
    Reclaimed {
        /// The new floor.
        index: u64,
    },
    /// A snapshot for this follower came to an end: installed up to `index`, or failed (0). Without one, the follower is asked
    /// again after 10 s whether it still needs it; [`crate::effects::Effects::snapshot`] may then name it once more.
    SnapshotDone {
        /// The follower.
        to: StoreId,
        /// Installed up to here.
        index: u64,
    },
    /// This replica's tree was replaced by a snapshot that [`crate::raft::Raft::needs_snapshot`] asked for, durably. In the
    /// same turn, before this step's effects, the log is told to begin behind it and to forget all older entries.
    Installed {
        /// Everything up to here is in the tree.
        index: u64,
        /// Its term.
        term: u64,
        /// Log time at that index, ms.
        log_time_ms: u64,
        /// The configuration at that index, with its own index.
        config: (u64, Configuration),
    },
    /// Hand leadership to this voter, or to the most advanced one.
    Transfer {
        /// To whom.
        to: Option<StoreId>,
    },
    /// This store may not lead or vote any more: its log is poisoned, or it shuts down.
    Retire,
}

/// The configuration that an entry carries.
pub(super) fn configuration(entry: &Entry) -> Option<Configuration> {
    (entry.kind == EntryKind::Configuration).then(|| Configuration::decode(entry.body.clone()).ok()).flatten()
}

impl Restored {
    /// Whether it can be: no gap, terms and log that fit, readable configurations.
    pub(super) fn is_sound(&self) -> bool {
        let mut last = (self.floor_index, self.floor_term);
        let chained = self.entries.iter().all(|entry| {
            let (index, term) = last;
            last = (entry.index, entry.term);
            entry.index == index + 1
                && entry.term >= term
                && (entry.kind != EntryKind::Configuration || configuration(entry).is_some())
        });
        chained && self.applied <= last.0
    }
}

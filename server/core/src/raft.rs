//! Raft as a pure state machine: one group's replica (Ongaro and Ousterhout 2014; Ongaro's thesis 2014).

mod status;

pub use status::{PeerState, PeerStatus, RaftStatus, Role};

use crate::effects::Effects;
use bytes::Bytes;
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, Now, ShardId, StoreId};
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
    /// The log, from floor + 1 without gaps.
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
    /// A snapshot for this follower came to an end: installed up to `index`, or failed (0).
    SnapshotDone {
        /// The follower.
        to: StoreId,
        /// Installed up to here.
        index: u64,
    },
    /// This replica's tree was replaced by a snapshot.
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

/// One replica of one group.
#[derive(Debug)]
pub struct Raft {
    term: u64,
    vote: Option<StoreId>,
    config: (u64, Configuration),
    floor: (u64, u64),
    commit: u64,
    log_time_ms: u64,
}

impl Raft {
    /// Begins from what was restored. `random`: 64 fresh bits.
    pub fn new(restored: Restored, _now: Now, _random: u64) -> Raft {
        Raft {
            term: restored.term,
            vote: restored.vote,
            config: restored.config,
            floor: (restored.floor_index, restored.floor_term),
            commit: restored.applied,
            log_time_ms: restored.log_time_ms,
        }
    }

    /// Takes one input and appends to `out` what it wants done. `random`: 64 fresh bits.
    pub fn step(&mut self, _now: Now, _random: u64, _input: Input, _out: &mut Effects) {}

    /// Boot time in ns at which [`Input::Tick`] is due; `u64::MAX` when never.
    pub fn next_deadline_ns(&self) -> u64 {
        u64::MAX
    }

    /// What this replica is now.
    pub fn role(&self) -> Role {
        Role::Follower
    }

    /// Current term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Who leads this term, when known.
    pub fn leader(&self) -> Option<StoreId> {
        None
    }

    /// Commit index.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.commit
    }

    /// Index and term behind which the log begins.
    pub fn floor(&self) -> (u64, u64) {
        self.floor
    }

    /// The active configuration and the index of its entry.
    pub fn config(&self) -> &(u64, Configuration) {
        &self.config
    }

    /// What this replica would stamp now if it leads, else the log time last seen; ms.
    pub fn log_time_now(&self, _now: Now) -> u64 {
        self.log_time_ms
    }

    /// Term and vote.
    pub fn hard_state(&self) -> (u64, Option<StoreId>) {
        (self.term, self.vote)
    }

    /// Tells the measured scheduling delay of this core: elections slow down when it exceeds a third of the base timeout.
    pub fn set_delay(&mut self, _delay_ns: u64) {}

    /// Encoded bytes of entries behind the commit index.
    pub fn uncommitted_bytes(&self) -> usize {
        0
    }

    /// Encoded bytes of all entries held in memory.
    pub fn memory_bytes(&self) -> usize {
        0
    }

    /// Everything, for display.
    pub fn status(&self) -> RaftStatus {
        RaftStatus::default()
    }
}

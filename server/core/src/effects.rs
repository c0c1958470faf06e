//! What a protocol step wants done. Persist-before-send is a data structure: a vote or an acknowledgement cannot leave
//! early, because it sits in [`Effects::after_persist`].

use ringkv_wire::entry::Entry;
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::peer::PeerBody;

/// Something to be made durable, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persist {
    /// An entry. One at or below the log's last index truncates the log there first.
    Entry(Entry),
    /// Current term and this replica's vote in it.
    HardState {
        /// Current term.
        term: u64,
        /// Who got the vote.
        vote: Option<StoreId>,
    },
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// The proposal's token, when this replica proposed it in this term; else 0.
    pub token: u64,
}

/// Answer to [`crate::raft::Input::Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    /// The token given with the read.
    pub token: u64,
    /// The state at this applied index, or a later one, answers the read.
    pub index: Result<ReadAt, Refusal>,
}

/// When and why a read may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAt {
    /// Applied index to wait for.
    pub index: u64,
    /// Granted by the lease (else by a round to a majority).
    pub lease: bool,
}

/// Why something was surely not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not the leader; who may be.
    NotLeader {
        /// The leader of this term, when known.
        hint: Option<StoreId>,
    },
    /// Too much is uncommitted.
    Busy,
}

/// Entries that a follower needs and memory no longer holds: read them from the log and give them back as
/// [`crate::raft::Input::Fetched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The follower.
    pub to: StoreId,
    /// First index wanted.
    pub from: u64,
    /// No more than this.
    pub max_bytes: usize,
}

/// All that one step wants done, or several steps: lists only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To the log, in this order.
    pub persist: Vec<Persist>,
    /// Number of the newest thing to persist: given back as [`crate::raft::Input::Persisted`] once it and everything before
    /// it is durable. 0: nothing was ever to be persisted.
    pub ticket: u64,
    /// May leave at once: nothing in it promises durability.
    pub send: Vec<(StoreId, Outgoing)>,
    /// May leave only when everything up to `ticket` is durable.
    pub after_persist: Vec<(StoreId, Outgoing)>,
    /// Committed entries in index order, each exactly once.
    pub apply: Vec<Committed>,
    /// Reads that may be answered or were refused.
    pub reads: Vec<ReadGrant>,
    /// Tokens of proposals that this replica no longer answers for: their outcome is unknown.
    pub dropped: Vec<u64>,
    /// Tokens of proposals that were surely not made.
    pub refused: Vec<(u64, Refusal)>,
    /// Entries wanted from the log.
    pub fetch: Vec<Fetch>,
    /// Followers that the log no longer reaches: they need a snapshot.
    pub snapshot: Vec<StoreId>,
}

/// A message with the term it was said in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The sender's term (for a pre-vote: the term it would campaign in).
    pub term: u64,
    /// What it says.
    pub body: PeerBody,
}

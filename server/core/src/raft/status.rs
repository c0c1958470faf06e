//! What a replica tells about itself, for display.

use super::Raft;
use ringkv_wire::ids::StoreId;

/// What a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It follows, or waits for someone to follow. Learners and retired replicas are followers for good.
    #[default]
    Follower,
    /// It asks whether it would be elected (Raft thesis §9.6).
    PreCandidate,
    /// It stands for election.
    Candidate,
    /// It leads its term.
    Leader,
}

/// How a leader feeds a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerState {
    /// One append at a time, until the logs meet.
    #[default]
    Probe,
    /// Appends pipelined, from memory.
    Replicate,
    /// Appends pipelined, from the log on disk: the follower is behind what memory holds.
    Fetch,
    /// The log does not reach it: it waits for a snapshot.
    Snapshot,
}

/// A follower, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub store: StoreId,
    /// How it is fed.
    pub state: PeerState,
    /// Its log is durable and equal to the leader's up to this index.
    pub matched: u64,
    /// The next index to send.
    pub next: u64,
    /// Boot ns of its last answer in this term; 0: none.
    pub heard_ns: u64,
}

/// A replica, for display.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// What it is.
    pub role: Role,
    /// It may not vote, lead or acknowledge any more.
    pub retired: bool,
    /// Current term.
    pub term: u64,
    /// Who leads, when known.
    pub leader: Option<StoreId>,
    /// Commit index.
    pub commit: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// Index of the last entry that is durable here.
    pub durable_index: u64,
    /// The log begins behind this index.
    pub floor_index: u64,
    /// Index of the active configuration.
    pub config_index: u64,
    /// Log time last stamped or seen, ms.
    pub log_time_ms: u64,
    /// Boot ns at which the lease ends; 0: none.
    pub lease_until_ns: u64,
    /// Boot ns since when this replica leads; 0: it does not.
    pub leader_since_ns: u64,
    /// Encoded bytes of entries behind the commit index.
    pub uncommitted_bytes: usize,
    /// Encoded bytes of entries held in memory.
    pub memory_bytes: usize,
    /// Reads that wait for a round.
    pub reads_waiting: usize,
    /// To whom leadership is being handed.
    pub transfer_to: Option<StoreId>,
    /// The followers, when leading.
    pub peers: Vec<PeerStatus>,
}

impl Raft {
    /// Everything, for display.
    pub fn status(&self) -> RaftStatus {
        let peers = self.lead.peers.iter().map(|(&store, peer)| PeerStatus {
            store,
            state: peer.state,
            matched: peer.matched,
            next: peer.next,
            heard_ns: peer.heard_ns,
        });
        RaftStatus {
            role: self.role,
            retired: self.retired,
            term: self.term,
            leader: self.leader,
            commit: self.commit,
            last_index: self.log.last_index(),
            durable_index: self.tickets.durable_index(),
            floor_index: self.log.floor().0,
            config_index: self.active().0,
            log_time_ms: self.log.log_time_ms(),
            lease_until_ns: self.lead.lease_until_ns,
            leader_since_ns: self.lead.since_ns,
            uncommitted_bytes: self.uncommitted,
            memory_bytes: self.log.bytes(),
            reads_waiting: self.lead.reads.len(),
            transfer_to: self.lead.transfer.map(|transfer| transfer.to),
            peers: peers.collect(),
        }
    }
}

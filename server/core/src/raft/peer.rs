//! How a leader feeds one follower (Raft §5.3; etcd-io/raft tracker).

use super::PeerState;
use std::collections::VecDeque;

/// Entries of one append, encoded bytes, unless a single one is larger.
pub(super) const APPEND_BYTES: usize = 128 << 10;
/// Appends on their way to one follower.
const INFLIGHT_MESSAGES: usize = 64;
/// Bytes on their way to one follower.
const INFLIGHT_BYTES: usize = 4 << 20;
/// With this many appends on their way a new one waits until it is worth it, or an answer comes.
const INFLIGHT_BUSY: usize = 4;
/// Entries that are worth an append even then.
const WORTH_ENTRIES: u64 = 256;

/// A follower, as its leader sees it in this term.
#[derive(Debug)]
pub(super) struct Peer {
    pub state: PeerState,
    /// Its log is durable and equal to the leader's up to here.
    pub matched: u64,
    /// The next index to send.
    pub next: u64,
    /// In `Probe`: an append is on its way; the next heartbeat answer lets another one go.
    pub paused: bool,
    /// (last index, bytes) of the appends on their way.
    inflight: VecDeque<(u64, usize)>,
    inflight_bytes: usize,
    /// The greatest round it answered.
    pub answered_round: u64,
    /// When it last answered, boot ns.
    pub heard_ns: u64,
    /// When `matched` last rose or it was last asked again, boot ns.
    pub moved_ns: u64,
    /// When entries were last asked of the log for it and have not come, boot ns.
    pub fetching_ns: Option<u64>,
    /// In `Snapshot`: when to look again, boot ns.
    pub retry_ns: u64,
    /// Where in the present effects its newest append stands, and the bytes of its entries: more may join it.
    pub open: (usize, usize),
}

impl Peer {
    pub fn new(next: u64, now_ns: u64) -> Peer {
        Peer {
            state: PeerState::Probe,
            matched: 0,
            next,
            paused: false,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
            answered_round: 0,
            heard_ns: now_ns,
            moved_ns: now_ns,
            fetching_ns: None,
            retry_ns: 0,
            open: (usize::MAX, 0),
        }
    }

    /// Whether another append may be on its way.
    pub fn has_room(&self) -> bool {
        self.inflight.len() < INFLIGHT_MESSAGES && self.inflight_bytes < INFLIGHT_BYTES
    }

    /// Whether `unsent` entries should rather wait for company.
    pub fn better_waits(&self, unsent: u64) -> bool {
        self.inflight.len() >= INFLIGHT_BUSY && unsent < WORTH_ENTRIES
    }

    /// An append up to `last` is on its way.
    pub fn sent(&mut self, last: u64, bytes: usize) {
        self.inflight.push_back((last, bytes));
        self.inflight_bytes += bytes;
        self.next = last + 1;
    }

    /// The newest append on its way grew.
    pub fn grew(&mut self, last: u64, bytes: usize) {
        if let Some(newest) = self.inflight.back_mut() {
            *newest = (last, newest.1 + bytes);
            self.inflight_bytes += bytes;
        }
        self.next = last + 1;
    }

    /// It has everything up to `index`.
    pub fn acknowledged(&mut self, index: u64, now_ns: u64) {
        if index > self.matched {
            self.matched = index;
            self.moved_ns = now_ns;
        }
        self.next = self.next.max(self.matched + 1);
        while self.inflight.front().is_some_and(|sent| sent.0 <= index) {
            self.inflight_bytes -= self.inflight.pop_front().map_or(0, |sent| sent.1);
        }
    }

    /// Changes how it is fed; what was on its way no longer counts.
    pub fn become_(&mut self, state: PeerState) {
        self.state = state;
        self.paused = false;
        self.fetching_ns = None;
        self.inflight.clear();
        self.inflight_bytes = 0;
        self.open = (usize::MAX, 0);
    }
}

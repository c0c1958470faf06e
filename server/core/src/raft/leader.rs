//! Leading: proposing, feeding followers, counting what they hold (Raft §5.3, §5.4.2).

use super::peer::{APPEND_BYTES, Peer};
use super::{MS, PeerState, Raft, Role, quorum};
use crate::effects::{Effects, Fetch, Outgoing, Persist, Refusal};
use bytes::Bytes;
use ringkv_wire::entry::{ENTRY_HEADER_BYTES, Entry, EntryKind};
use ringkv_wire::ids::StoreId;
use ringkv_wire::limits::ENTRY_BODY_BYTES_MAX;
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;
use std::collections::{BTreeMap, VecDeque};

/// Encoded bytes of entries behind the commit index; beyond it new proposals are refused.
const UNCOMMITTED_BYTES: usize = 32 << 20;
/// A failed snapshot is tried again after this.
const SNAPSHOT_AGAIN_NS: u64 = 1_000 * MS;
/// A snapshot of which nothing is heard is asked about after this.
const SNAPSHOT_SILENT_NS: u64 = 10_000 * MS;
/// Entries asked of the log are asked for again after this.
const FETCH_AGAIN_NS: u64 = 2_000 * MS;
/// A leader whose tick came later than this was asleep.
const ASLEEP_NS: u64 = 100 * MS;
/// A follower silent for this long is not worth reading the log or shipping tables for.
const ABSENT_NS: u64 = 1_000 * MS;

/// A read that waits.
#[derive(Debug)]
pub(super) struct PendingRead {
    pub token: u64,
    /// The round that confirms it: sent after the read came.
    pub round: u64,
    /// The index to be committed.
    pub index: u64,
}

/// To whom leadership is being handed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub to: StoreId,
    pub deadline_ns: u64,
    /// TimeoutNow was sent.
    pub told: bool,
}

/// What only a leader knows; gone when it steps down.
#[derive(Debug, Default)]
pub(super) struct Leading {
    /// Index of the first entry of the own term.
    pub term_start: u64,
    pub since_ns: u64,
    pub peers: BTreeMap<StoreId, Peer>,
    /// (index, token) of own proposals that are not committed, in order.
    pub tokens: VecDeque<(u64, u64)>,
    /// The newest round.
    pub round: u64,
    /// (round, boot ns of its sending) of rounds that no majority has answered.
    pub sent: VecDeque<(u64, u64)>,
    /// The newest round that a majority has answered.
    pub confirmed: u64,
    /// The newest round that covers reads.
    pub read_round: u64,
    /// In order of round and of index.
    pub reads: VecDeque<PendingRead>,
    pub lease_until_ns: u64,
    /// TimeoutNow was sent: no lease any more in this term.
    pub lease_dropped: bool,
    pub heartbeat_due_ns: u64,
    /// Not to be deposed for want of answers before this, boot ns.
    pub check_from_ns: u64,
    pub transfer: Option<Transfer>,
}

impl Leading {
    pub fn new(term_start: u64, now_ns: u64) -> Leading {
        Leading { term_start, since_ns: now_ns, ..Leading::default() }
    }
}

impl Raft {
    pub(super) fn on_propose(&mut self, kind: EntryKind, body: Bytes, body_crc: u32, token: u64, out: &mut Effects) {
        let hint = self.lead.transfer.map_or(self.leader, |transfer| Some(transfer.to));
        if self.role != Role::Leader || self.lead.transfer.is_some() {
            return out.refused.push((token, Refusal::NotLeader { hint }));
        }
        let bytes = ENTRY_HEADER_BYTES + body.len();
        let full = self.uncommitted > 0 && self.uncommitted + bytes > UNCOMMITTED_BYTES;
        if full || self.stalled() || body.len() > ENTRY_BODY_BYTES_MAX || !self.may_configure(kind, &body) {
            return out.refused.push((token, Refusal::Busy));
        }
        self.append_own(kind, body, body_crc, token, out);
        self.feed_all(out);
    }

    /// One configuration change at a time, and only one that can be read.
    fn may_configure(&self, kind: EntryKind, body: &Bytes) -> bool {
        kind != EntryKind::Configuration
            || (self.active().0 <= self.commit
                && Configuration::decode(body.clone()).is_ok_and(|config| !config.voters.is_empty()))
    }

    pub(super) fn append_own(&mut self, kind: EntryKind, body: Bytes, body_crc: u32, token: u64, out: &mut Effects) {
        let index = self.log.last_index() + 1;
        let stamp = self.log_time.stamp(self.me, &self.configs[self.configs.len() - 1].1, self.now);
        let log_time_ms = stamp.max(self.log.log_time_ms());
        let (shard, generation, term) = (self.shard, self.generation, self.term);
        if token != 0 {
            self.lead.tokens.push_back((index, token));
        }
        self.push_entry(Entry { shard, generation, term, index, log_time_ms, kind, body, body_crc }, out);
    }

    /// Appends to the own log. A configuration holds as soon as it is appended (Raft §6).
    pub(super) fn push_entry(&mut self, entry: Entry, out: &mut Effects) {
        if entry.kind == EntryKind::Configuration
            && let Ok(config) = Configuration::decode(entry.body.clone())
        {
            self.configs.push_back((entry.index, config));
            self.sync_peers();
        }
        self.uncommitted += entry.encoded_bytes();
        out.persist.push(Persist::Entry(entry.clone()));
        self.log.push(entry);
    }

    /// One peer per member of the active configuration.
    pub(super) fn sync_peers(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let members = quorum::members(&self.active().1);
        self.lead.peers.retain(|store, _| members.contains(store));
        let (next, now) = (self.log.last_index() + 1, self.now.boot_ns);
        for store in members.into_iter().filter(|&store| store != self.me) {
            self.lead.peers.entry(store).or_insert_with(|| Peer::new(next, now));
        }
    }

    /// Lends a peer out together with the rest of the replica.
    pub(super) fn with_peer(&mut self, store: StoreId, run: impl FnOnce(&Raft, &mut Peer)) {
        if let Some(mut peer) = self.lead.peers.remove(&store) {
            run(self, &mut peer);
            self.lead.peers.insert(store, peer);
        }
    }

    pub(super) fn feed_all(&mut self, out: &mut Effects) {
        let mut peers = std::mem::take(&mut self.lead.peers);
        for (&to, peer) in &mut peers {
            self.feed(to, peer, false, out);
        }
        self.lead.peers = peers;
    }

    /// Sends a follower what it lacks and has room for. `ask`: an empty append when there is nothing to send.
    pub(super) fn feed(&self, to: StoreId, peer: &mut Peer, ask: bool, out: &mut Effects) {
        if self.stalled() || peer.state == PeerState::Snapshot || peer.paused {
            return;
        }
        if peer.next <= self.log.floor().0 {
            return self.want_snapshot(to, peer, out);
        }
        if peer.state == PeerState::Probe {
            return self.feed_probe(to, peer, ask, out);
        }
        self.join_open(to, peer, out);
        let last = self.log.last_index();
        while peer.next <= last && peer.has_room() && !peer.better_waits(last + 1 - peer.next) {
            if peer.next < self.log.first_in_memory() {
                return self.want_entries(to, peer, out);
            }
            peer.state = PeerState::Replicate;
            let entries = self.log.slice(peer.next, APPEND_BYTES);
            self.send_append(to, peer, entries, out);
        }
    }

    fn feed_probe(&self, to: StoreId, peer: &mut Peer, ask: bool, out: &mut Effects) {
        let entries = self.log.slice(peer.next, APPEND_BYTES);
        if entries.is_empty() && !ask && peer.next > self.log.last_index() {
            return;
        }
        let next = peer.next;
        self.send_append(to, peer, entries, out);
        // It counts as sent only once it is answered.
        peer.next = next;
        peer.paused = true;
        peer.moved_ns = self.now.boot_ns;
    }

    /// Appends within one turn share a message: what follows on the newest one joins it while it is still in the effects.
    fn join_open(&self, to: StoreId, peer: &mut Peer, out: &mut Effects) {
        let (at, bytes) = peer.open;
        let room = APPEND_BYTES.saturating_sub(bytes);
        let Some((receiver, Outgoing { term, body })) = out.send.get_mut(at) else { return };
        let PeerBody::Append { prev_index, entries, .. } = body else { return };
        let follows = *prev_index + entries.len() as u64 + 1 == peer.next && !entries.is_empty();
        if *receiver != to || *term != self.term || !follows {
            return;
        }
        for entry in self.log.slice(peer.next, room) {
            if entry.encoded_bytes() > APPEND_BYTES.saturating_sub(peer.open.1) {
                break;
            }
            peer.open.1 += entry.encoded_bytes();
            peer.grew(entry.index, entry.encoded_bytes());
            entries.push(entry);
        }
    }

    /// Sends `entries` (consecutive, from `peer.next`), or none: the question whether the logs match before `peer.next`.
    pub(super) fn send_append(&self, to: StoreId, peer: &mut Peer, entries: Vec<Entry>, out: &mut Effects) {
        let prev_index = peer.next - 1;
        let Some(prev_term) = self.log.term_at(prev_index) else { return };
        if let Some(last) = entries.last() {
            let bytes = entries.iter().map(Entry::encoded_bytes).sum();
            peer.open = (out.send.len(), bytes);
            if peer.next == peer.matched + 1 {
                peer.moved_ns = self.now.boot_ns;
            }
            peer.sent(last.index, bytes);
        }
        let (round, commit) = (self.lead.round, self.commit);
        self.send(to, PeerBody::Append { round, prev_index, prev_term, commit, entries }, out);
    }

    fn absent(&self, peer: &Peer) -> bool {
        self.now.boot_ns > peer.heard_ns.saturating_add(ABSENT_NS)
    }

    fn want_entries(&self, to: StoreId, peer: &mut Peer, out: &mut Effects) {
        let now = self.now.boot_ns;
        let asked = peer.fetching_ns.is_some_and(|since| now < since.saturating_add(FETCH_AGAIN_NS));
        if asked || self.absent(peer) {
            return;
        }
        peer.state = PeerState::Fetch;
        peer.fetching_ns = Some(now);
        out.fetch.push(Fetch { to, from: peer.next, max_bytes: APPEND_BYTES });
    }

    fn want_snapshot(&self, to: StoreId, peer: &mut Peer, out: &mut Effects) {
        if self.absent(peer) {
            return;
        }
        peer.become_(PeerState::Snapshot);
        peer.retry_ns = self.now.boot_ns.saturating_add(SNAPSHOT_SILENT_NS);
        out.snapshot.push(to);
    }

    pub(super) fn on_fetched(&mut self, to: StoreId, mut entries: Vec<Entry>, out: &mut Effects) {
        self.with_peer(to, |raft, peer| {
            if peer.state != PeerState::Fetch || peer.fetching_ns.take().is_none() {
                return;
            }
            if entries.is_empty() {
                return raft.want_snapshot(to, peer, out);
            }
            let from = peer.next;
            let fits = |(at, entry): (u64, &Entry)| {
                entry.index == from + at && raft.log.term_at(entry.index) == Some(entry.term)
            };
            let good = (0..).zip(&entries).take_while(|&pair| fits(pair)).count();
            entries.truncate(good);
            if !entries.is_empty() {
                raft.send_append(to, peer, entries, out);
            }
            raft.feed(to, peer, false, out);
        });
    }

    pub(super) fn on_snapshot_done(&mut self, to: StoreId, index: u64, out: &mut Effects) {
        let last = self.log.last_index();
        self.with_peer(to, |raft, peer| {
            if peer.state != PeerState::Snapshot {
                return;
            }
            if index == 0 || index > last {
                peer.retry_ns = raft.now.boot_ns.saturating_add(SNAPSHOT_AGAIN_NS);
                return;
            }
            peer.become_(PeerState::Probe);
            peer.next = peer.next.max(index + 1);
            raft.feed(to, peer, true, out);
        });
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: StoreId,
        term: u64,
        round: u64,
        verdict: Result<u64, (u64, u64)>,
        out: &mut Effects,
    ) {
        if term > self.term {
            return self.follow(term, None, out);
        }
        if self.role != Role::Leader || term < self.term || !self.lead.peers.contains_key(&from) {
            return;
        }
        self.answered(from, round, out);
        self.with_peer(from, |raft, peer| match verdict {
            Ok(index) => raft.accepted(from, peer, index, out),
            Err((index, term)) => raft.rejected(from, peer, index, term, out),
        });
        self.maybe_commit(out);
        self.maybe_time_out(out);
    }

    fn accepted(&self, from: StoreId, peer: &mut Peer, index: u64, out: &mut Effects) {
        if index > self.log.last_index() {
            return;
        }
        peer.acknowledged(index, self.now.boot_ns);
        let caught_up = peer.state == PeerState::Snapshot && peer.matched >= self.log.floor().0;
        if peer.state == PeerState::Probe || caught_up {
            peer.become_(PeerState::Replicate);
            peer.next = peer.matched + 1;
        }
        self.feed(from, peer, false, out);
    }

    fn rejected(&self, from: StoreId, peer: &mut Peer, index: u64, term: u64, out: &mut Effects) {
        // A follower never gives up what it acknowledged, so a hint below that is an old one.
        if index < peer.matched || peer.state == PeerState::Snapshot {
            return;
        }
        let floor = self.log.floor();
        let next = if index <= floor.0 && (index, term) != floor {
            // At or below the floor, and not what the floor holds: only a snapshot helps.
            index.min(floor.0)
        } else {
            self.log.agree_at_most(index, term).0 + 1
        };
        let next = next.max(peer.matched + 1).min(self.log.last_index() + 1);
        if peer.state == PeerState::Probe && next >= peer.next {
            // One of several refusals of the same thing.
            return;
        }
        peer.become_(PeerState::Probe);
        peer.next = next;
        self.feed(from, peer, true, out);
    }

    /// Commits what a majority holds durably; only an entry of the own term by counting (Raft §5.4.2).
    pub(super) fn maybe_commit(&mut self, out: &mut Effects) {
        let (me, durable) = (self.me, self.tickets.durable_index());
        let holds = |store: StoreId| {
            if store == me { durable } else { self.lead.peers.get(&store).map_or(0, |peer| peer.matched) }
        };
        let index = quorum::reached(&self.active().1, holds);
        if index > self.commit && self.log.term_at(index) == Some(self.term) {
            self.advance_commit(index, out);
            self.grant_reads(out);
        }
    }

    pub(super) fn tick_leader(&mut self, late_ns: u64, out: &mut Effects) {
        let now = self.now.boot_ns;
        if late_ns > ASLEEP_NS {
            // This core slept: let the answers that wait in the sockets speak first.
            self.lead.check_from_ns = self.lead.check_from_ns.max(now.saturating_add(self.timer.base_ns()));
        }
        if now >= self.lead.check_from_ns && now > self.heard_majority_ns().saturating_add(2 * self.timer.base_ns()) {
            self.counters.quorums_lost += 1;
            return self.follow(self.term, None, out);
        }
        self.tick_transfer(out);
        if self.role == Role::Leader && now >= self.lead.heartbeat_due_ns {
            self.start_round(out);
        }
    }

    /// When a majority was last heard, boot ns.
    pub(super) fn heard_majority_ns(&self) -> u64 {
        let heard = |store: StoreId| {
            if store == self.me {
                self.now.boot_ns
            } else {
                self.lead.peers.get(&store).map_or(0, |peer| peer.heard_ns)
            }
        };
        quorum::reached(&self.active().1, heard)
    }
}

//! Rounds: numbered heartbeats. A round that a majority answered proves that nobody led a later term when it was sent; it
//! carries the lease and confirms the reads that came before it (Raft §8; thesis §6.4).

use super::leader::PendingRead;
use super::{MS, PeerState, Raft, Role, quorum};
use crate::effects::{Effects, ReadAt, ReadGrant, Refusal};
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::peer::PeerBody;

/// The lease ends this long after the send time of the round that a majority answered: the least election timeout less 20%
/// for the drift of clocks.
pub(super) const LEASE_NS: u64 = 120 * MS;
const _: () = assert!(LEASE_NS * 5 <= super::election::ELECTION_NS * 4, "the lease ends before anyone votes");
/// Time between heartbeats.
pub(super) const HEARTBEAT_NS: u64 = 30 * MS;
/// Rounds remembered while nobody answers; the lease of an older one has long ended.
const ROUNDS_MAX: usize = 256;
/// Reads waiting for a round; more are refused.
const READS_MAX: usize = 64 << 10;
/// Nothing heard of appends that should have arrived: ask again.
const LOST_NS: u64 = 60 * MS;

impl Raft {
    /// Sends the next round. Not while the log's disk hangs: then someone else shall lead.
    pub(super) fn start_round(&mut self, out: &mut Effects) {
        // On a grid common to all groups of a store, so that they beat in one turn and share messages.
        self.lead.heartbeat_due_ns = (self.now.boot_ns / HEARTBEAT_NS + 1) * HEARTBEAT_NS;
        if self.stalled() {
            return;
        }
        self.lead.round += 1;
        let round = self.lead.round;
        if self.lead.sent.len() >= ROUNDS_MAX {
            self.lead.sent.pop_front();
        }
        self.lead.sent.push_back((round, self.now.boot_ns));
        if self.lead.reads.back().is_some_and(|read| read.round == round) {
            self.lead.read_round = round;
        }
        for (&to, peer) in &self.lead.peers {
            // A follower may hold other entries behind what it has acknowledged.
            let commit = self.commit.min(peer.matched);
            self.send(to, PeerBody::Heartbeat { round, commit }, out);
        }
        self.rounds_advanced(out);
    }

    /// Someone answered: the lease may last longer, reads may be granted, the next round may be due.
    fn rounds_advanced(&mut self, out: &mut Effects) {
        let (me, lead) = (self.me, &self.lead);
        let answered = |store: StoreId| {
            if store == me { lead.round } else { lead.peers.get(&store).map_or(0, |peer| peer.answered_round) }
        };
        let confirmed = quorum::reached(&self.active().1, answered);
        if confirmed <= self.lead.confirmed {
            return;
        }
        self.lead.confirmed = confirmed;
        while let Some(&(round, sent_ns)) = self.lead.sent.front() {
            if round > confirmed {
                break;
            }
            if round == confirmed && !self.lead.lease_dropped {
                self.lead.lease_until_ns = sent_ns.saturating_add(LEASE_NS);
            }
            self.lead.sent.pop_front();
        }
        self.grant_reads(out);
        if self.lead.reads.back().is_some_and(|read| read.round > self.lead.round) {
            self.start_round(out);
        }
    }

    /// Answers the reads whose round is confirmed and whose index is committed.
    pub(super) fn grant_reads(&mut self, out: &mut Effects) {
        while let Some(read) = self.lead.reads.front() {
            if read.round > self.lead.confirmed || read.index > self.commit {
                break;
            }
            let at = ReadAt { index: read.index, lease: false };
            self.counters.reads_by_round += 1;
            out.reads.push(ReadGrant { token: read.token, index: Ok(at) });
            self.lead.reads.pop_front();
        }
    }

    pub(super) fn on_read(&mut self, token: u64, read_index: bool, out: &mut Effects) {
        if self.role != Role::Leader {
            let refusal = Refusal::NotLeader { hint: self.leader };
            return out.reads.push(ReadGrant { token, index: Err(refusal) });
        }
        if !read_index && self.has_lease(self.now) {
            self.counters.reads_by_lease += 1;
            let at = ReadAt { index: self.commit, lease: true };
            return out.reads.push(ReadGrant { token, index: Ok(at) });
        }
        if self.lead.reads.len() >= READS_MAX {
            return out.reads.push(ReadGrant { token, index: Err(Refusal::Busy) });
        }
        let had_lease = self.lead.lease_until_ns > 0 && self.now.boot_ns >= self.lead.lease_until_ns;
        self.counters.leases_expired += u64::from(!read_index && had_lease);
        // Before an entry of the own term is committed nobody knows what is (Raft §8): that entry's index is awaited.
        let index = self.commit.max(self.lead.term_start);
        let read = PendingRead { token, round: self.lead.round + 1, index };
        self.lead.reads.push_back(read);
        if self.lead.read_round <= self.lead.confirmed {
            // No round of reads is on its way; else this one waits for its answer, together with others.
            self.start_round(out);
        }
    }

    /// A follower answered something of this term.
    pub(super) fn answered(&mut self, from: StoreId, round: u64, out: &mut Effects) {
        let now_ns = self.now.boot_ns;
        let newest = self.lead.round;
        let Some(peer) = self.lead.peers.get_mut(&from) else { return };
        peer.heard_ns = now_ns;
        if round <= newest {
            peer.answered_round = peer.answered_round.max(round);
        }
        self.rounds_advanced(out);
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        from: StoreId,
        term: u64,
        round: u64,
        wall_ms: Option<u64>,
        out: &mut Effects,
    ) {
        if term > self.term {
            return self.follow(term, None, out);
        }
        let Some(wall_ms) = wall_ms.filter(|_| self.role == Role::Leader && term == self.term) else { return };
        if !self.lead.peers.contains_key(&from) {
            return;
        }
        self.log_time.stamp(self.me, &self.configs[self.configs.len() - 1].1, self.now);
        self.log_time.answer(from, wall_ms, self.now);
        self.answered(from, round, out);
        self.with_peer(from, |raft, peer| {
            let (now, last) = (raft.now.boot_ns, raft.log.last_index());
            match peer.state {
                // The probe may still be on its way to the disk over there.
                PeerState::Probe if now < peer.moved_ns.saturating_add(HEARTBEAT_NS) => {}
                PeerState::Probe => {
                    peer.paused = false;
                    raft.feed(from, peer, peer.next > last && peer.matched < last, out);
                }
                PeerState::Snapshot if now >= peer.retry_ns => {
                    // It may have what it needs by now: its answer to a probe tells.
                    peer.become_(PeerState::Probe);
                    peer.next = last + 1;
                    raft.feed(from, peer, true, out);
                }
                PeerState::Snapshot => {}
                PeerState::Replicate | PeerState::Fetch => {
                    let lost = peer.next > peer.matched + 1 && now >= peer.moved_ns.saturating_add(LOST_NS);
                    if lost {
                        peer.moved_ns = now;
                        raft.send_append(from, peer, Vec::new(), out);
                    }
                    raft.feed(from, peer, false, out);
                }
            }
        });
    }
}

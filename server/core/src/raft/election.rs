//! Elections: pre-vote, vote, the 150 ms of silence they need, stepping down (Raft §5.2, §5.4.1; thesis §9.6, §6.4.1).

use super::{MS, Raft, Role, quorum};
use crate::effects::{Effects, Outgoing, ReadGrant, Refusal};
use ringkv_wire::entry::EntryKind;
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::peer::PeerBody;

/// Least election timeout; the greatest is twice this. Also: no vote within this time of hearing a leader, nor of the start.
/// The lease ([`super::rounds::LEASE_NS`]) is shorter by what clocks may drift.
pub(super) const ELECTION_NS: u64 = 150 * MS;
/// Elections are never scaled beyond this base timeout.
const ELECTION_NS_MAX: u64 = 1_000 * MS;
/// A tick that comes later than this found this core asleep: it has probably missed the leader, not the leader it.
const LATE_NS: u64 = 50 * MS;

/// When elections may and must be.
#[derive(Debug)]
pub(super) struct Timer {
    pub started_ns: u64,
    /// When a leader of this replica's term was last heard, whatever happened since.
    pub heard_ns: Option<u64>,
    pub deadline_ns: u64,
    /// Measured scheduling delay of this core.
    pub delay_ns: u64,
    /// The present deadline was already put off once because the tick came late.
    put_off: bool,
}

impl Timer {
    pub fn new(now_ns: u64) -> Timer {
        Timer { started_ns: now_ns, heard_ns: None, deadline_ns: now_ns, delay_ns: 0, put_off: false }
    }

    /// The base timeout: scaled up when the scheduling delay exceeds a third of it.
    pub fn base_ns(&self) -> u64 {
        ELECTION_NS.max(self.delay_ns.saturating_mul(3)).min(ELECTION_NS_MAX)
    }

    pub fn reset(&mut self, now_ns: u64, random: u64) {
        let base = self.base_ns();
        self.deadline_ns = now_ns.saturating_add(base + random % base);
        self.put_off = false;
    }
}

impl Raft {
    /// Whether a live leader, or this replica's own recent start, forbids a vote.
    fn must_be_silent(&self, transfer: bool) -> bool {
        let now = self.now.boot_ns;
        let within = |since: u64| now < since.saturating_add(ELECTION_NS);
        let leader_lives = self.role == Role::Leader || self.timer.heard_ns.is_some_and(within);
        within(self.timer.started_ns) || (leader_lives && !transfer)
    }

    fn up_to_date(&self, last_index: u64, last_term: u64) -> bool {
        (last_term, last_index) >= (self.log.last_term(), self.log.last_index())
    }

    pub(super) fn reset_timer(&mut self) {
        self.timer.reset(self.now.boot_ns, self.random);
    }

    pub(super) fn tick_election(&mut self, out: &mut Effects) {
        let now = self.now.boot_ns;
        if self.role == Role::Leader || now < self.timer.deadline_ns {
            return;
        }
        if !quorum::votes(&self.active().1, self.me) || self.stalled() {
            return self.reset_timer();
        }
        if now > self.timer.deadline_ns.saturating_add(LATE_NS) && !self.timer.put_off {
            // Let what waits in the sockets speak first.
            self.timer.deadline_ns = now + LATE_NS + self.random % LATE_NS;
            self.timer.put_off = true;
            return;
        }
        self.pre_campaign(out);
    }

    /// Asks whether a majority would vote, and changes nothing yet.
    fn pre_campaign(&mut self, out: &mut Effects) {
        self.counters.elections_timed_out += u64::from(self.role == Role::Candidate);
        self.role = Role::PreCandidate;
        self.leader = None;
        self.reset_timer();
        self.votes.clear();
        self.votes.insert(self.me, true);
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        let ask = PeerBody::PreVote { last_index, last_term, transfer: false };
        out.send.extend(self.to_voters(self.term + 1, &ask));
        self.tally(out);
    }

    /// Stands for election. `transfer`: the leader asked for it, or is this replica itself after a failed transfer; in
    /// either case that leader's lease is gone for good, so that voters need not wait.
    pub(super) fn campaign(&mut self, transfer: bool, out: &mut Effects) {
        assert!(self.role != Role::Leader, "a leader resigns first");
        self.role = Role::Candidate;
        self.leader = None;
        self.term += 1;
        self.vote = Some(self.me);
        self.reset_timer();
        // The own vote counts once it is durable: see `persisted`.
        self.votes.clear();
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        let ask = PeerBody::Vote { last_index, last_term, transfer };
        // Only once term, vote and the log it boasts of are durable: else a restart could stand again in the same term with
        // a shorter log, and win by the answers given to the longer one.
        out.after_persist.extend(self.to_voters(self.term, &ask));
    }

    fn to_voters(&self, term: u64, body: &PeerBody) -> Vec<(StoreId, Outgoing)> {
        let others = quorum::voters(&self.active().1).into_iter().filter(|&to| to != self.me);
        others.map(|to| (to, Outgoing { term, body: body.clone() })).collect()
    }

    /// The own vote became durable, perhaps.
    pub(super) fn count_own_vote(&mut self, out: &mut Effects) {
        if self.role == Role::Candidate && self.tickets.durable_hard() == (self.term, Some(self.me)) {
            self.votes.insert(self.me, true);
            self.tally(out);
        }
    }

    fn tally(&mut self, out: &mut Effects) {
        let config = &self.active().1;
        let won = quorum::majority(config, |store| self.votes.get(&store) == Some(&true));
        let possible = quorum::majority(config, |store| self.votes.get(&store) != Some(&false));
        match self.role {
            Role::PreCandidate if won => self.campaign(false, out),
            // Others may be enough, but who leads a term must never stand in it a second time.
            Role::Candidate if won && self.votes.contains_key(&self.me) => self.become_leader(out),
            Role::PreCandidate | Role::Candidate if !possible => self.role = Role::Follower,
            _ => {}
        }
    }

    fn become_leader(&mut self, out: &mut Effects) {
        assert_eq!(self.tickets.durable_hard(), (self.term, Some(self.me)), "a leader's own vote is durable");
        self.counters.elections_won += 1;
        self.role = Role::Leader;
        self.leader = Some(self.me);
        self.lead = super::leader::Leading::new(self.log.last_index() + 1, self.now.boot_ns);
        self.lead.check_from_ns = self.now.boot_ns.saturating_add(2 * self.timer.base_ns());
        self.log_time.lead(self.log.log_time_ms(), self.now);
        self.sync_peers();
        self.append_own(EntryKind::Empty, bytes::Bytes::new(), 0, 0, out);
        self.start_round(out);
        self.feed_all(out);
    }

    /// Follows `leader`, or nobody yet, in `term` (at least the present one).
    pub(super) fn follow(&mut self, term: u64, leader: Option<StoreId>, out: &mut Effects) {
        assert!(term >= self.term, "terms never go back");
        if term > self.term {
            self.term = term;
            self.vote = None;
        }
        self.votes.clear();
        self.leader = leader;
        if self.role == Role::Leader {
            self.resign(out);
        }
        self.role = Role::Follower;
    }

    /// Gives up leading: tokens and reads are answered, whoever waits for them need not wait for an election.
    pub(super) fn resign(&mut self, out: &mut Effects) {
        assert_eq!(self.role, Role::Leader);
        self.role = Role::Follower;
        self.leader = self.leader.filter(|&leader| leader != self.me);
        let lead = std::mem::take(&mut self.lead);
        out.dropped.extend(lead.tokens.iter().map(|&(_, token)| token));
        let hint = self.leader;
        let refused = |token| ReadGrant { token, index: Err(Refusal::NotLeader { hint }) };
        out.reads.extend(lead.reads.iter().map(|read| refused(read.token)));
        self.reset_timer();
    }

    pub(super) fn on_pre_vote(&mut self, from: StoreId, term: u64, log: (u64, u64), transfer: bool, out: &mut Effects) {
        let (last_index, last_term) = log;
        let granted = term > self.term && !self.must_be_silent(transfer) && self.up_to_date(last_index, last_term);
        self.counters.pre_votes_refused += u64::from(!granted);
        // A promise for the asked term changes nothing; a refusal tells the own term, so that a latecomer learns it.
        let term = if granted { term } else { self.term };
        out.send.push((from, Outgoing { term, body: PeerBody::PreVoteReply { granted } }));
    }

    pub(super) fn on_vote(&mut self, from: StoreId, term: u64, log: (u64, u64), transfer: bool, out: &mut Effects) {
        let (last_index, last_term) = log;
        if term < self.term {
            return self.send(from, PeerBody::VoteReply { granted: false }, out);
        }
        if self.must_be_silent(transfer) {
            // Not even the term is taken: it would depose a live leader.
            return;
        }
        if term > self.term {
            self.follow(term, None, out);
        }
        let free = self.vote.is_none_or(|vote| vote == from);
        let granted = free && self.role == Role::Follower && self.up_to_date(last_index, last_term);
        if !granted {
            return self.send(from, PeerBody::VoteReply { granted: false }, out);
        }
        self.vote = Some(from);
        self.reset_timer();
        let reply = PeerBody::VoteReply { granted: true };
        out.after_persist.push((from, Outgoing { term: self.term, body: reply }));
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: StoreId, term: u64, granted: bool, out: &mut Effects) {
        if !granted && term > self.term {
            return self.follow(term, None, out);
        }
        if self.role != Role::PreCandidate || (granted && term != self.term + 1) {
            return;
        }
        self.votes.insert(from, granted);
        self.tally(out);
    }

    pub(super) fn on_vote_reply(&mut self, from: StoreId, term: u64, granted: bool, out: &mut Effects) {
        if term > self.term {
            return self.follow(term, None, out);
        }
        if self.role != Role::Candidate || term < self.term {
            return;
        }
        self.votes.insert(from, granted);
        self.tally(out);
    }

    pub(super) fn send(&self, to: StoreId, body: PeerBody, out: &mut Effects) {
        out.send.push((to, Outgoing { term: self.term, body }));
    }
}

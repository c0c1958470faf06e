//! Raft as a pure state machine: one group's replica (Ongaro and Ousterhout 2014; Ongaro's thesis 2014).
//!
//! [`Raft::step`] takes an [`Input`], the time and random bits, and says in [`Effects`] what it wants done. Nothing is
//! awaited: what is persisted is reported back by [`Input::Persisted`], and only then counts.

mod counters;
mod election;
mod follower;
mod input;
mod leader;
mod log;
mod log_time;
mod peer;
mod quorum;
mod rounds;
mod status;
mod tickets;
mod transfer;

pub use counters::RaftCounters;
pub use input::{Input, Restored};
pub use status::{PeerState, PeerStatus, RaftStatus, Role};

use crate::effects::{Effects, Persist, ReadGrant, Refusal};
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{Generation, Now, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;
use std::collections::{BTreeMap, VecDeque};

/// One millisecond in nanoseconds.
const MS: u64 = 1_000_000;
/// Terms beyond this are nonsense: a message that claims one is ignored.
const TERM_MAX: u64 = 1 << 60;
/// Indexes likewise.
const INDEX_MAX: u64 = 1 << 60;
/// A write to the log that takes longer than this counts as hanging.
const STALLED_NS: u64 = 500 * MS;

/// One replica of one group.
#[derive(Debug)]
pub struct Raft {
    me: StoreId,
    shard: ShardId,
    generation: Generation,
    term: u64,
    vote: Option<StoreId>,
    role: Role,
    leader: Option<StoreId>,
    retired: bool,
    log: log::Log,
    /// Configurations with their indexes: the last one at or below the commit index, then later ones. The last is active.
    configs: VecDeque<(u64, Configuration)>,
    commit: u64,
    /// Encoded bytes behind the commit index.
    uncommitted: usize,
    tickets: tickets::Tickets,
    timer: election::Timer,
    /// Answers to this (pre-)candidacy.
    votes: BTreeMap<StoreId, bool>,
    lead: leader::Leading,
    log_time: log_time::LogTime,
    counters: RaftCounters,
    /// Time and chance of the present step.
    now: Now,
    random: u64,
}

impl Raft {
    /// Begins from what was restored. `random`: 64 fresh bits.
    ///
    /// A restored state that contradicts itself (a gap, terms that go back, an applied index beyond the log) makes a replica
    /// that is retired from the start: it must be repaired, not guessed at.
    pub fn new(restored: Restored, now: Now, random: u64) -> Raft {
        let sound = restored.is_sound();
        let applied = restored.applied.max(restored.floor_index);
        let floor = (restored.floor_index, restored.floor_term);
        let mut log = log::Log::new(floor, restored.log_time_ms);
        let mut configs = VecDeque::from([restored.config]);
        for entry in restored.entries.into_iter().take_while(|_| sound) {
            let newer = configs.back().is_none_or(|last| entry.index > last.0);
            if let Some(config) = input::configuration(&entry).filter(|_| newer) {
                configs.push_back((entry.index, config));
            }
            log.push(entry);
        }
        let commit = applied.min(log.last_index());
        while configs.get(1).is_some_and(|next| next.0 <= commit) {
            configs.pop_front();
        }
        // Entries of a term that the hard state does not know cannot be; but if so, nobody gets a vote in it.
        let unknown = log.last_term() > restored.term;
        let (term, vote) = if unknown { (log.last_term(), Some(restored.me)) } else { (restored.term, restored.vote) };
        let mut raft = Raft {
            me: restored.me,
            shard: restored.shard,
            generation: restored.generation,
            term,
            vote,
            role: Role::Follower,
            leader: None,
            retired: !sound,
            uncommitted: log.bytes_behind(commit),
            tickets: tickets::Tickets::new(log.last_index(), (term, vote)),
            log,
            configs,
            commit,
            timer: election::Timer::new(now.boot_ns),
            votes: BTreeMap::new(),
            lead: leader::Leading::default(),
            log_time: log_time::LogTime::default(),
            counters: RaftCounters::default(),
            now,
            random,
        };
        raft.log.trim(commit);
        raft.reset_timer();
        raft
    }

    /// Takes one input and appends to `out` what it wants done. `random`: 64 fresh bits. `out` may hold the effects of
    /// earlier steps of this replica, so that appends of one turn share messages; it must not hold another group's.
    pub fn step(&mut self, now: Now, random: u64, input: Input, out: &mut Effects) {
        self.now = Now { boot_ns: now.boot_ns.max(self.now.boot_ns), wall_ms: now.wall_ms };
        self.random = random;
        let (first, hard) = (out.persist.len(), self.hard_state());
        match input {
            Input::Propose { token, .. } if self.retired => {
                out.refused.push((token, Refusal::NotLeader { hint: None }));
            }
            Input::Read { token, .. } if self.retired => {
                out.reads.push(ReadGrant { token, index: Err(Refusal::NotLeader { hint: None }) });
            }
            _ if self.retired => {}
            Input::Tick => self.tick(out),
            Input::Message { from, term, body } => self.message(from, term, body, out),
            Input::Propose { kind, body, body_crc, token } => self.on_propose(kind, body, body_crc, token, out),
            Input::Read { token, read_index } => self.on_read(token, read_index, out),
            Input::Persisted { ticket } => self.persisted(ticket, out),
            Input::Fetched { to, entries } => self.on_fetched(to, entries, out),
            Input::Reclaimed { index } => self.on_reclaimed(index),
            Input::SnapshotDone { to, index } => self.on_snapshot_done(to, index, out),
            Input::Installed { index, term, log_time_ms, config } => {
                self.on_installed((index, term), log_time_ms, config, out);
            }
            Input::Transfer { to } => self.on_transfer(to, out),
            Input::Retire => self.retire(out),
        }
        self.seal(first, hard, out);
    }

    /// Numbers what this step gave out to persist; term and vote go first.
    fn seal(&mut self, first: usize, hard: (u64, Option<StoreId>), out: &mut Effects) {
        let changed = self.hard_state() != hard;
        if changed {
            out.persist.insert(first, Persist::HardState { term: self.term, vote: self.vote });
        }
        if out.persist.len() > first {
            let entries = matches!(out.persist.last(), Some(Persist::Entry(_)));
            let last = if entries { self.log.last_index() } else { 0 };
            self.tickets.issue(last, changed.then(|| self.hard_state()), self.now.boot_ns);
        }
        out.ticket = self.tickets.issued();
    }

    fn tick(&mut self, out: &mut Effects) {
        let late_ns = self.now.boot_ns.saturating_sub(self.next_deadline_ns());
        match self.role {
            Role::Leader => self.tick_leader(late_ns, out),
            _ => self.tick_election(out),
        }
    }

    fn message(&mut self, from: StoreId, term: u64, body: PeerBody, out: &mut Effects) {
        if from == self.me || term > TERM_MAX {
            return;
        }
        let config = &self.active().1;
        let (voting, member) = (quorum::votes(config, from), quorum::is_member(config, from));
        let i_vote = quorum::votes(config, self.me);
        match body {
            PeerBody::PreVote { last_index, last_term, transfer } if voting && i_vote => {
                self.on_pre_vote(from, term, (last_index, last_term), transfer, out);
            }
            PeerBody::Vote { last_index, last_term, transfer } if voting && i_vote => {
                self.on_vote(from, term, (last_index, last_term), transfer, out);
            }
            PeerBody::PreVoteReply { granted } if voting => self.on_pre_vote_reply(from, term, granted, out),
            PeerBody::VoteReply { granted } if voting => self.on_vote_reply(from, term, granted, out),
            // A leader may come from a configuration that this replica has not met yet (Raft §6).
            PeerBody::Append { round, prev_index, prev_term, commit, entries } => {
                let append = follower::Append { round, prev_index, prev_term, commit, entries };
                self.on_append(from, term, append, out);
            }
            PeerBody::Heartbeat { round, commit } => self.on_heartbeat(from, term, round, commit, out),
            PeerBody::AppendReply { round, accepted, index, term: hint, .. } if member => {
                let verdict = if accepted { Ok(index) } else { Err((index, hint)) };
                self.on_append_reply(from, term, round, verdict, out);
            }
            PeerBody::HeartbeatReply { round, follows, wall_ms } if member => {
                self.on_heartbeat_reply(from, term, round, follows.then_some(wall_ms), out);
            }
            PeerBody::TimeoutNow => self.on_timeout_now(from, term, out),
            _ => {}
        }
    }

    fn persisted(&mut self, ticket: u64, out: &mut Effects) {
        self.tickets.persisted(ticket);
        self.count_own_vote(out);
        if self.role == Role::Leader {
            self.maybe_commit(out);
        }
        self.log.trim(self.commit.min(self.tickets.durable_index()));
    }

    fn retire(&mut self, out: &mut Effects) {
        if self.role == Role::Leader {
            self.resign(out);
        }
        self.role = Role::Follower;
        self.leader = None;
        self.retired = true;
    }

    /// The log's disk hangs.
    fn stalled(&self) -> bool {
        self.tickets.oldest_ns().is_some_and(|since| self.now.boot_ns > since.saturating_add(STALLED_NS))
    }

    fn active(&self) -> &(u64, Configuration) {
        &self.configs[self.configs.len() - 1]
    }

    /// Boot time in ns at which [`Input::Tick`] is due; `u64::MAX` when never.
    pub fn next_deadline_ns(&self) -> u64 {
        match self.role {
            _ if self.retired => u64::MAX,
            Role::Leader => {
                let transfer = self.lead.transfer.map_or(u64::MAX, |transfer| transfer.deadline_ns);
                self.lead.heartbeat_due_ns.min(transfer)
            }
            _ if quorum::votes(&self.active().1, self.me) => self.timer.deadline_ns,
            _ => u64::MAX,
        }
    }

    /// What it has counted.
    pub fn counters(&self) -> RaftCounters {
        self.counters
    }

    /// What this replica is now.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Current term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Who leads this term, when known.
    pub fn leader(&self) -> Option<StoreId> {
        self.leader
    }

    /// Commit index. Every entry up to it was handed out by `apply`, or was restored as applied.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.log.last_index()
    }

    /// The term of the entry at `index`, from the floor to the last entry.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.log.term_at(index)
    }

    /// The entry at `index`, when memory holds it: everything that is not applied and durable, and some of the newest.
    pub fn entry(&self, index: u64) -> Option<&Entry> {
        self.log.get(index)
    }

    /// The group.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Whether it may not vote, lead or acknowledge any more.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether a snapshot at (`index`, `term`) brings anything: not when the log holds that entry. To be asked right before
    /// the tree is replaced; when false, it must not be: entries that follow in the log may have been acknowledged.
    pub fn needs_snapshot(&self, index: u64, term: u64) -> bool {
        index > self.commit && self.log.term_at(index) != Some(term)
    }

    /// Index and term behind which the log begins.
    pub fn floor(&self) -> (u64, u64) {
        self.log.floor()
    }

    /// The active configuration and the index of its entry.
    pub fn config(&self) -> &(u64, Configuration) {
        self.active()
    }

    /// What this replica would stamp now if it leads, else the log time last seen; ms.
    pub fn log_time_now(&self, now: Now) -> u64 {
        let seen = self.log.log_time_ms();
        match self.role {
            Role::Leader => self.log_time.at(self.me, &self.active().1, now).max(seen),
            _ => seen,
        }
    }

    /// Term and vote.
    pub fn hard_state(&self) -> (u64, Option<StoreId>) {
        (self.term, self.vote)
    }

    /// Tells the measured scheduling delay of this core: elections slow down when it exceeds a third of the base timeout.
    pub fn set_delay(&mut self, delay_ns: u64) {
        self.timer.delay_ns = delay_ns;
    }

    /// Whether a read at `now` would be granted by the lease.
    pub fn has_lease(&self, now: Now) -> bool {
        self.role == Role::Leader && now.boot_ns < self.lead.lease_until_ns && self.commit >= self.lead.term_start
    }

    /// Encoded bytes of entries behind the commit index.
    pub fn uncommitted_bytes(&self) -> usize {
        self.uncommitted
    }

    /// Encoded bytes of all entries held in memory.
    pub fn memory_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Boot ns since when this replica leads; `None` when it does not.
    pub fn leader_since_ns(&self) -> Option<u64> {
        (self.role == Role::Leader).then_some(self.lead.since_ns)
    }

    /// Boot ns when a majority was last heard by this leader; `None` when it does not lead.
    pub fn last_heard_majority_ns(&self) -> Option<u64> {
        (self.role == Role::Leader).then(|| self.heard_majority_ns())
    }
}

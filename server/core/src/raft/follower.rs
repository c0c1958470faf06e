//! Following: appends, heartbeats, snapshots (Raft §5.3, §7).

use super::log::Log;
use super::{INDEX_MAX, Raft, Role};
use crate::effects::{Committed, Effects, Outgoing};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;

/// An append, taken apart.
pub(super) struct Append {
    pub round: u64,
    pub prev_index: u64,
    pub prev_term: u64,
    pub commit: u64,
    pub entries: Vec<Entry>,
}

impl Raft {
    /// Takes `from` as the leader of `term` (not below the own). False when this term has another one.
    fn accept_leader(&mut self, from: StoreId, term: u64, out: &mut Effects) -> bool {
        if term == self.term && (self.role == Role::Leader || self.leader.is_some_and(|leader| leader != from)) {
            return false;
        }
        if term > self.term || self.role != Role::Follower {
            self.follow(term, Some(from), out);
        }
        self.leader = Some(from);
        self.timer.heard_ns = Some(self.now.boot_ns);
        self.reset_timer();
        true
    }

    pub(super) fn on_heartbeat(&mut self, from: StoreId, term: u64, round: u64, commit: u64, out: &mut Effects) {
        let follows = term >= self.term;
        if follows && !self.accept_leader(from, term, out) {
            return;
        }
        if follows {
            self.advance_commit(commit.min(self.log.last_index()), out);
        }
        self.send(from, PeerBody::HeartbeatReply { round, follows, wall_ms: self.now.wall_ms }, out);
    }

    pub(super) fn on_append(&mut self, from: StoreId, term: u64, append: Append, out: &mut Effects) {
        if term < self.term {
            let hint = (self.log.last_index(), self.log.last_term());
            return self.send(from, self.reject(append.round, hint), out);
        }
        if !self.well_formed(term, &append) || !self.accept_leader(from, term, out) {
            return;
        }
        let Append { round, prev_index, prev_term, commit, entries } = append;
        if prev_index >= self.commit && self.log.term_at(prev_index) != Some(prev_term) {
            let hint = self.log.agree_at_most(prev_index, prev_term);
            return self.send(from, self.reject(round, hint), out);
        }
        let last_new = prev_index + entries.len() as u64;
        if !self.take_entries(entries, out) {
            return;
        }
        self.advance_commit(commit.min(last_new), out);
        // What is committed here is in every later leader's log (Raft §5.4), so an old append is answered with that.
        let index = last_new.max(self.commit);
        let body = PeerBody::AppendReply { round, accepted: true, index, term: 0, wall_ms: self.now.wall_ms };
        out.after_persist.push((from, Outgoing { term: self.term, body }));
    }

    fn reject(&self, round: u64, (index, term): (u64, u64)) -> PeerBody {
        PeerBody::AppendReply { round, accepted: false, index, term, wall_ms: self.now.wall_ms }
    }

    fn well_formed(&self, term: u64, append: &Append) -> bool {
        let mut prev = (append.prev_index, append.prev_term, 0);
        append.prev_index <= INDEX_MAX
            && append.prev_term <= term
            && append.entries.iter().all(|entry| {
                let (index, last_term, log_time_ms) = prev;
                prev = (entry.index, entry.term, entry.log_time_ms);
                entry.shard == self.shard
                    && entry.index == index + 1
                    && (last_term..=term).contains(&entry.term)
                    && entry.log_time_ms >= log_time_ms
                    && (entry.kind != EntryKind::Configuration || Configuration::decode(entry.body.clone()).is_ok())
            })
    }

    /// Appends what is new, cutting off what conflicts. False, and nothing changed, when that would cut what is committed.
    fn take_entries(&mut self, entries: Vec<Entry>, out: &mut Effects) -> bool {
        let conflicts = |entry: &&Entry| self.log.term_at(entry.index).is_some_and(|term| term != entry.term);
        // Below the floor terms are not known; what is there is committed.
        let Some(first_new) = entries.iter().position(|e| e.index > self.log.last_index() || conflicts(&e)) else {
            return true;
        };
        let from = entries[first_new].index;
        if from <= self.commit || entries[first_new].term < self.log.term_at(from - 1).unwrap_or(0) {
            return false;
        }
        self.truncate(from);
        for entry in entries.into_iter().skip(first_new) {
            self.push_entry(entry, out);
        }
        true
    }

    fn truncate(&mut self, from: u64) {
        if from > self.log.last_index() {
            return;
        }
        assert!(from > self.commit, "what is committed is never cut off");
        self.counters.tails_truncated += 1;
        self.uncommitted -= self.log.truncate(from);
        self.tickets.truncated(from - 1);
        while self.configs.len() > 1 && self.configs.back().is_some_and(|config| config.0 >= from) {
            self.configs.pop_back();
        }
    }

    /// Commits up to `index` and hands the entries out, each once.
    pub(super) fn advance_commit(&mut self, index: u64, out: &mut Effects) {
        assert!(index <= self.log.last_index(), "what is committed is in the log");
        while self.commit < index {
            let Some(entry) = self.log.get(self.commit + 1).cloned() else { break };
            self.commit = entry.index;
            self.uncommitted -= entry.encoded_bytes();
            let tokens = &mut self.lead.tokens;
            let own = tokens.front().is_some_and(|own| own.0 == entry.index);
            let token = if own { tokens.pop_front().map_or(0, |own| own.1) } else { 0 };
            out.apply.push(Committed { entry, token });
        }
        while self.configs.get(1).is_some_and(|next| next.0 <= self.commit) {
            self.configs.pop_front();
        }
        self.log.trim(self.commit.min(self.tickets.durable_index()));
    }

    pub(super) fn on_installed(
        &mut self,
        at: (u64, u64),
        log_time_ms: u64,
        config: (u64, Configuration),
        out: &mut Effects,
    ) {
        let (index, term) = at;
        if index <= self.commit {
            return;
        }
        if self.role == Role::Leader {
            // A leader that lacks what is committed is one of an older term, soon to be deposed.
            self.follow(self.term, None, out);
        }
        // The log on disk begins anew behind the snapshot. What follows on its last entry may have been acknowledged: it is
        // kept (Raft §7) and written again. Anything else contradicts what is committed.
        let follows = self.log.term_at(index) == Some(term);
        let kept = if follows { self.log.slice(index + 1, usize::MAX) } else { Vec::new() };
        self.log = Log::new(at, log_time_ms);
        self.tickets.truncated(index);
        self.tickets.installed(index);
        self.configs = std::collections::VecDeque::from([config]);
        self.commit = index;
        self.uncommitted = 0;
        if term > self.term {
            // Also the votes go that were counted in an older term.
            self.follow(term, None, out);
        }
        for entry in kept {
            self.push_entry(entry, out);
        }
    }

    pub(super) fn on_reclaimed(&mut self, index: u64) {
        let index = index.min(self.commit).min(self.tickets.durable_index());
        if index > self.log.floor().0 {
            self.log.reclaim(index);
        }
    }
}

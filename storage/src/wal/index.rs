//! What the log knows in memory: per shard its state and, per batch, which entries stand where. Small: one span per shard
//! and batch, one run per term.

use super::record::Logged;
use super::{HardState, ShardState};
use ringkv_wire::ids::{Incarnation, ShardId, StoreId};
use std::collections::{BTreeMap, VecDeque};

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Sequence of its segment.
    pub segment: u64,
    /// Where it begins there.
    pub offset: u64,
    /// Its number.
    pub number: u64,
}

/// Consecutive entries of one shard that begin in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) at: Place,
    /// The batch in which the last of them ends.
    pub(crate) done: u64,
}

/// One shard's part of the log.
#[derive(Clone, Debug)]
pub(crate) struct ShardLog {
    pub(crate) state: ShardState,
    /// By index, without gaps.
    spans: VecDeque<Span>,
    /// (first index, term) of each run of one term.
    terms: VecDeque<(u64, u64)>,
}

impl ShardLog {
    pub(crate) fn new(state: ShardState) -> ShardLog {
        ShardLog { state, spans: VecDeque::new(), terms: VecDeque::new() }
    }

    /// Index of the last entry; the floor when there is none.
    pub(crate) fn last(&self) -> u64 {
        self.spans.back().map_or(self.state.floor_index, |span| span.last)
    }

    /// Index of the first entry, when there is one.
    pub(crate) fn first(&self) -> Option<u64> {
        self.spans.front().map(|span| span.first)
    }

    /// The term of an entry, or of the floor.
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.state.floor_index {
            return Some(self.state.floor_term);
        }
        let held = self.first().is_some_and(|first| first <= index) && index <= self.last();
        let run = self.terms.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
        self.terms.get(run).filter(|_| held).map(|(_, term)| *term)
    }

    /// Adds an entry that begins at `at` and ends in batch `done`; cuts what stands at its index and above first.
    pub(crate) fn append(&mut self, index: u64, term: u64, at: Place, done: u64) {
        self.truncate_from(index);
        match self.spans.back_mut() {
            Some(span) if span.at == at && span.done == done && span.last + 1 == index => span.last = index,
            _ => self.spans.push_back(Span { first: index, last: index, at, done }),
        }
        if self.terms.back().is_none_or(|(_, last)| *last != term) {
            self.terms.push_back((index, term));
        }
    }

    /// Removes the entries at `index` and above.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        while self.spans.back().is_some_and(|span| span.first >= index) {
            self.spans.pop_back();
        }
        if let Some(span) = self.spans.back_mut() {
            span.last = span.last.min(index.saturating_sub(1));
        }
        while self.terms.back().is_some_and(|(first, _)| *first >= index) {
            self.terms.pop_back();
        }
    }

    /// The log now begins behind `index`, unless it already begins later.
    pub(crate) fn raise_floor(&mut self, index: u64, term: u64) {
        if index < self.state.floor_index {
            return;
        }
        (self.state.floor_index, self.state.floor_term) = (index, term);
        while self.spans.front().is_some_and(|span| span.last <= index) {
            self.spans.pop_front();
        }
        if let Some(span) = self.spans.front_mut() {
            span.first = span.first.max(index.saturating_add(1));
        }
        while self.terms.get(1).is_some_and(|(first, _)| *first <= index.saturating_add(1)) {
            self.terms.pop_front();
        }
        if self.spans.is_empty() {
            self.terms.clear();
        }
    }

    /// Replaces the state; entries above `kept` go. Floor and flushed index never go back.
    fn restate(&mut self, state: ShardState, kept: u64) {
        self.truncate_from(kept.saturating_add(1));
        let old = std::mem::replace(&mut self.state, state);
        let (index, term) = (self.state.floor_index, self.state.floor_term);
        (self.state.floor_index, self.state.floor_term) = (old.floor_index, old.floor_term);
        self.raise_floor(index, term);
        self.state.flushed_index = self.state.flushed_index.max(old.flushed_index);
    }

    /// What the floor becomes when every segment below `segment` goes; `None` when none of its entries is there.
    pub(crate) fn floor_below(&self, segment: u64) -> Option<(u64, u64)> {
        let below = self.spans.partition_point(|span| span.at.segment < segment).checked_sub(1)?;
        let index = self.spans.get(below)?.last;
        Some((index, self.term_of(index)?))
    }

    /// The last of the entries that begin below `segment`, when it is not flushed yet.
    pub(crate) fn unflushed_below(&self, segment: u64) -> Option<u64> {
        let (index, _) = self.floor_below(segment)?;
        (index > self.state.flushed_index).then_some(index)
    }

    /// The oldest segment that holds an unflushed entry.
    pub(crate) fn pinned(&self) -> Option<u64> {
        let at = self.spans.partition_point(|span| span.last <= self.state.flushed_index);
        self.spans.get(at).map(|span| span.at.segment)
    }

    /// Spans with entries at `from` and above, in order, when the log holds `from`.
    pub(crate) fn spans_from(&self, from: u64) -> impl Iterator<Item = Span> {
        let held = self.first().is_some_and(|first| first <= from);
        let at = if held { self.spans.partition_point(|span| span.last < from) } else { self.spans.len() };
        self.spans.iter().skip(at).copied()
    }
}

/// All that a segment's head restates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mirror {
    pub(crate) shards: BTreeMap<ShardId, ShardLog>,
    pub(crate) peers: BTreeMap<StoreId, Incarnation>,
    pub(crate) admitted: bool,
}

impl Mirror {
    /// A record other than an entry passes. `false`: it names a shard that is not here.
    pub(crate) fn apply(&mut self, logged: &Logged) -> bool {
        match logged {
            Logged::HardState { shard, generation, hard } => return self.set_hard(*shard, *generation, *hard),
            Logged::Shard { state, kept } => match self.shards.get_mut(&state.shard) {
                Some(log) => log.restate(state.clone(), *kept),
                None => {
                    self.shards.insert(state.shard, ShardLog::new(state.clone()));
                }
            },
            Logged::Gone(shard) => {
                self.shards.remove(shard);
            }
            Logged::Peer { store, incarnation } => {
                self.peers.insert(*store, *incarnation);
            }
            Logged::Store { admitted } => self.admitted = *admitted,
            Logged::Floor { shard, index, term } => match self.shards.get_mut(shard) {
                Some(log) => log.raise_floor(*index, *term),
                None => return false,
            },
            Logged::Entry(_) | Logged::Cut(_) | Logged::HeadComplete { .. } | Logged::Oldest(_) => {}
        }
        true
    }

    fn set_hard(&mut self, shard: ShardId, generation: ringkv_wire::ids::Generation, hard: HardState) -> bool {
        let Some(log) = self.shards.get_mut(&shard) else { return false };
        log.state.hard = hard;
        log.state.generation = generation;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::testing::shard_state;

    fn at(segment: u64, number: u64) -> Place {
        Place { segment, offset: 0, number }
    }

    #[test]
    fn a_shard_log_keeps_one_span_per_batch_and_one_run_per_term() {
        let mut log = ShardLog::new(shard_state(1));
        for index in 1..=100 {
            log.append(index, 1 + index / 60, at(1, 1 + index / 50), 1 + index / 50);
        }
        assert_eq!((log.spans.len(), log.terms.len()), (3, 2));
        assert_eq!((log.term_of(59), log.term_of(60), log.term_of(101)), (Some(1), Some(2), None));
        log.append(55, 3, at(2, 9), 9);
        assert_eq!((log.last(), log.term_of(54), log.term_of(55)), (55, Some(1), Some(3)));
        assert_eq!(log.floor_below(2), Some((54, 1)));
        log.state.flushed_index = 54;
        assert_eq!((log.pinned(), log.unflushed_below(2), log.unflushed_below(3)), (Some(2), None, Some(55)));
        log.raise_floor(54, 1);
        assert_eq!((log.first(), log.term_of(54), log.term_of(55)), (Some(55), Some(1), Some(3)));
        log.raise_floor(10, 1);
        assert_eq!(log.state.floor_index, 54, "a floor never goes back");
    }

    #[test]
    fn a_snapshot_that_the_log_does_not_hold_drops_it() {
        let mut log = ShardLog::new(shard_state(1));
        (1..=9).for_each(|index| log.append(index, 1, at(1, 1), 1));
        let state = ShardState { floor_index: 5, floor_term: 2, ..shard_state(1) };
        log.restate(state, 5);
        assert_eq!((log.first(), log.last(), log.term_of(5)), (None, 5, Some(2)));
    }
}

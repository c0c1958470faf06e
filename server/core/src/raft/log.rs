//! The replica's log as Raft sees it: recent entries in memory, older ones only as runs of equal terms.

use ringkv_wire::entry::Entry;
use std::collections::VecDeque;

/// Entries kept in memory for followers that are a little behind, encoded bytes. What is not yet applied and durable is
/// kept beyond it.
pub(super) const MEMORY_BYTES: usize = 4 << 20;

/// The log behind `floor`.
#[derive(Debug)]
pub(super) struct Log {
    /// Index and term behind which the log on disk begins.
    floor: (u64, u64),
    /// (first index, term) of each run of equal terms, covering floor + 1 ..= last.
    runs: VecDeque<(u64, u64)>,
    /// The newest entries without a gap, up to the last.
    entries: VecDeque<Entry>,
    last: u64,
    bytes: usize,
    /// Log time at the entry before the first one in memory.
    trimmed_log_time_ms: u64,
}

impl Log {
    /// An empty log behind `floor` (index, term), whose entry was stamped `log_time_ms`.
    pub fn new(floor: (u64, u64), log_time_ms: u64) -> Log {
        Log {
            floor,
            runs: VecDeque::new(),
            entries: VecDeque::new(),
            last: floor.0,
            bytes: 0,
            trimmed_log_time_ms: log_time_ms,
        }
    }

    pub fn floor(&self) -> (u64, u64) {
        self.floor
    }

    pub fn last_index(&self) -> u64 {
        self.last
    }

    pub fn last_term(&self) -> u64 {
        self.runs.back().map_or(self.floor.1, |run| run.1)
    }

    /// Encoded bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first index in memory; last + 1 when there is none.
    pub fn first_in_memory(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    /// Log time of the last entry.
    pub fn log_time_ms(&self) -> u64 {
        self.entries.back().map_or(self.trimmed_log_time_ms, |entry| entry.log_time_ms)
    }

    /// The term at `index`: known from the floor to the last entry.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.floor.0 {
            return Some(self.floor.1);
        }
        if index < self.floor.0 || index > self.last {
            return None;
        }
        let behind = self.runs.partition_point(|run| run.0 <= index);
        self.runs.get(behind.checked_sub(1)?).map(|run| run.1)
    }

    /// The greatest index at or below `index` whose term is at most `term`, with its term: where two logs may still agree,
    /// found by runs instead of by steps (Raft §5.3, the accelerated back-off). The floor at the least.
    pub fn agree_at_most(&self, index: u64, term: u64) -> (u64, u64) {
        let mut index = index.min(self.last);
        if index <= self.floor.0 {
            return self.floor;
        }
        for run in self.runs.iter().rev() {
            if run.0 > index {
                continue;
            }
            if run.1 <= term {
                return (index, run.1);
            }
            index = run.0 - 1;
        }
        self.floor
    }

    /// An entry in memory.
    pub fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.first_in_memory())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Appends the next entry.
    pub fn push(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last + 1, "a log has no gaps");
        assert!(entry.term >= self.last_term(), "terms never go back in a log");
        if self.runs.back().is_none_or(|run| run.1 != entry.term) {
            self.runs.push_back((entry.index, entry.term));
        }
        self.last = entry.index;
        self.bytes += entry.encoded_bytes();
        self.entries.push_back(entry);
    }

    /// Removes the entries from `index` on. They must be in memory. Gives their encoded bytes.
    pub fn truncate(&mut self, index: u64) -> usize {
        assert!(index >= self.first_in_memory(), "only what is in memory is ever truncated");
        let before = self.bytes;
        while self.last >= index {
            let Some(entry) = self.entries.pop_back() else { break };
            self.bytes -= entry.encoded_bytes();
            self.last = entry.index - 1;
        }
        while self.runs.back().is_some_and(|run| run.0 > self.last) {
            self.runs.pop_back();
        }
        before - self.bytes
    }

    /// Consecutive entries in memory from `from` on: at most `max_bytes` encoded, at least one when there is one.
    pub fn slice(&self, from: u64, max_bytes: usize) -> Vec<Entry> {
        let Some(skip) = from.checked_sub(self.first_in_memory()) else { return Vec::new() };
        let mut bytes = 0;
        let mut slice = Vec::new();
        for entry in self.entries.iter().skip(skip as usize) {
            bytes += entry.encoded_bytes();
            if bytes > max_bytes && !slice.is_empty() {
                break;
            }
            slice.push(entry.clone());
        }
        slice
    }

    /// Encoded bytes of the entries behind `index` that are in memory.
    pub fn bytes_behind(&self, index: u64) -> usize {
        self.entries.iter().rev().take_while(|entry| entry.index > index).map(Entry::encoded_bytes).sum()
    }

    /// Forgets the content of old entries at or below `up_to` (applied and durable) while memory is over its budget.
    pub fn trim(&mut self, up_to: u64) {
        while self.bytes > MEMORY_BYTES && self.entries.front().is_some_and(|entry| entry.index <= up_to) {
            self.forget_first();
        }
    }

    /// The log on disk now begins behind `index`.
    pub fn reclaim(&mut self, index: u64) {
        let Some(term) = self.term_at(index) else { return };
        self.floor = (index, term);
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            self.forget_first();
        }
        while self.runs.get(1).is_some_and(|next| next.0 <= index + 1) {
            self.runs.pop_front();
        }
        if let Some(first) = self.runs.front_mut() {
            first.0 = first.0.max(index + 1);
        }
        if self.last == index {
            self.runs.clear();
        }
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry.encoded_bytes();
            self.trimmed_log_time_ms = entry.log_time_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_wire::entry::EntryKind;
    use ringkv_wire::ids::{Generation, ShardId};

    fn log_of(floor: (u64, u64), terms: &[u64]) -> Log {
        let mut log = Log::new(floor, 5);
        for (i, &term) in terms.iter().enumerate() {
            let index = floor.0 + 1 + i as u64;
            log.push(entry(index, term, 0));
        }
        log
    }

    fn entry(index: u64, term: u64, body_bytes: usize) -> Entry {
        let (shard, generation) = (ShardId(1), Generation(1));
        let body = vec![0; body_bytes].into();
        Entry { shard, generation, term, index, log_time_ms: index * 10, kind: EntryKind::Empty, body, body_crc: 0 }
    }

    #[test]
    fn terms_are_known_by_runs() {
        let log = log_of((3, 1), &[1, 1, 2, 4, 4]);
        let terms: Vec<_> = (2..=9).map(|i| log.term_at(i)).collect();
        assert_eq!(terms, [None, Some(1), Some(1), Some(1), Some(2), Some(4), Some(4), None]);
        assert_eq!(log.runs.len(), 3);
    }

    #[test]
    fn back_off_skips_whole_terms() {
        let log = log_of((0, 0), &[1, 1, 1, 5, 5, 5, 7]);
        assert_eq!(log.agree_at_most(100, 9), (7, 7));
        assert_eq!(log.agree_at_most(6, 4), (3, 1));
        assert_eq!(log.agree_at_most(2, 4), (2, 1));
        assert_eq!(log.agree_at_most(2, 0), (0, 0));
    }

    #[test]
    fn truncate_and_reclaim_keep_runs_and_bytes() {
        let mut log = log_of((0, 0), &[1, 1, 2, 2, 3]);
        assert_eq!(log.truncate(4), 96);
        assert_eq!((log.last_index(), log.last_term(), log.log_time_ms()), (3, 2, 30));
        log.reclaim(2);
        assert_eq!((log.floor(), log.first_in_memory(), log.term_at(3)), ((2, 1), 3, Some(2)));
        log.reclaim(3);
        assert_eq!((log.last_index(), log.last_term(), log.log_time_ms(), log.bytes()), (3, 2, 30, 0));
        log.push(entry(4, 2, 0));
        assert_eq!(log.term_at(4), Some(2));
    }

    #[test]
    fn trim_forgets_bodies_but_not_terms() {
        let mut log = Log::new((0, 0), 0);
        for index in 1..=10 {
            log.push(entry(index, index / 3, 1 << 20));
        }
        log.trim(4);
        assert_eq!(log.first_in_memory(), 5, "what is not applied stays, whatever the budget");
        log.trim(10);
        assert!(log.bytes() <= MEMORY_BYTES);
        assert_eq!((log.term_at(2), log.log_time_ms()), (Some(0), 100));
        assert_eq!(log.slice(9, 1).len(), 1, "one entry at least");
        assert!(log.slice(2, 1 << 30).is_empty());
    }
}

//! Flaws of what rests: a store that wakes up with less than it went to sleep with, and right checksums on all of it.

use crate::flaw::Life;
use crate::log::{self, Batch, FLOOR, HARD_STATE, OLDEST, SHARD_STATE};
use crate::tables;
use std::collections::BTreeMap;

/// Where a shard's state holds its term, whether it voted, and its floor.
const TERM_AT: usize = 16;
const VOTED_AT: usize = 30;
const FLOOR_AT: usize = 32;
const FLOOR_TERM_AT: usize = 40;

/// The log was never told of terms and votes: what is left is the term of the last entry.
pub fn votes_forgotten(life: &Life) {
    log::edit(life, |batches| {
        let mut terms = BTreeMap::<u32, u64>::new();
        for record in batches.iter().flat_map(|batch| &batch.records) {
            let state = (record.kind == SHARD_STATE).then(|| (record.u32_at(0), record.u64_at(FLOOR_TERM_AT)));
            for (shard, term) in state.into_iter().chain(record.begins()) {
                let known = terms.entry(shard).or_default();
                *known = term.max(*known);
            }
        }
        for record in batches.iter_mut().flat_map(|batch| &mut batch.records) {
            // Shard, generation, term, vote, voted; a state has eight bytes more in front of the term.
            let (term_at, voted_at) = match record.kind {
                HARD_STATE => (TERM_AT - 8, VOTED_AT - 8),
                SHARD_STATE => (TERM_AT, VOTED_AT),
                _ => continue,
            };
            let least = terms.get(&record.u32_at(0)).copied().unwrap_or_default();
            record.put_u64(term_at, least.min(record.u64_at(term_at)));
            record.bytes[voted_at - 6..=voted_at].fill(0);
        }
    });
}

/// Entries that a log cut too short loses.
const CUT_ENTRIES: usize = 3;

/// Recovery cuts the log a few entries too early.
pub fn cut_too_short(life: &Life) {
    log::edit(life, |batches| {
        let mut left = CUT_ENTRIES;
        for batch in batches.iter_mut().rev() {
            while let Some(at) = batch.records.iter().rposition(|record| record.kind == log::ENTRY && left > 0) {
                batch.records.remove(at);
                left -= 1;
            }
        }
    });
}

/// A batch in the middle was lost and the next one does not say so: an entry is missing and those behind it have moved up.
pub fn hole_passes(life: &Life) {
    log::edit(life, |batches| {
        let behind = batches.iter().rposition(Batch::is_head).map_or(0, |at| at + 1);
        let batches = &mut batches[behind..];
        let entries: Vec<_> = batches.iter().flat_map(|batch| &batch.records).filter_map(|r| r.entry()).collect();
        let Some(lost) = entries.get(entries.len() / 2) else { return };
        let mut found = false;
        for batch in batches {
            batch.records.retain_mut(|record| {
                let Some(mut entry) = record.entry().filter(|entry| entry.shard == lost.shard) else { return true };
                if !found {
                    found = entry == *lost;
                    return !found;
                }
                if entry.index > lost.index {
                    entry.index -= 1;
                    record.set_entry(&entry);
                }
                true
            });
        }
    });
}

/// Segments were recycled and the log does not say where it now begins.
pub fn floor_lost(life: &Life) {
    log::edit(life, |batches| {
        for batch in batches {
            batch.records.retain(|record| record.kind != FLOOR && record.kind != OLDEST);
            for record in batch.records.iter_mut().filter(|record| record.kind == SHARD_STATE) {
                record.put_u64(FLOOR_AT, 0);
                record.put_u64(FLOOR_TERM_AT, 0);
            }
        }
    });
}

/// Where the session table's clients begin; what stands before a client's outcomes; one outcome (FORMAT.md §5).
const CLIENTS_AT: usize = 16;
const CLIENT_BYTES: usize = 36;
const OUTCOME_BYTES: usize = 25;

/// The session table that was written with the flush is another one: nobody in it is known by name.
pub fn sessions_forgotten(life: &Life) {
    tables::edit(life, |item| {
        let table = item.keyspace == 0 && *item.key == *b"sessions/00000000";
        let mut at = CLIENTS_AT;
        while let Some(client) = item.value.get_mut(at..at + CLIENT_BYTES).filter(|_| table) {
            // The last byte of sixteen: the order of clients stays.
            client[15] = client[15].wrapping_add(1);
            let outcomes = u32::from_le_bytes(client[32..36].try_into().expect("four bytes"));
            at += CLIENT_BYTES + outcomes as usize * OUTCOME_BYTES;
        }
        table && at > CLIENTS_AT
    });
}

/// One replica's tables hold a value that was never written.
pub fn value_altered(life: &Life) {
    if life.config.id.node.0 != 1 {
        return;
    }
    tables::edit(life, |item| {
        let last = item.value.last_mut().filter(|_| item.keyspace != 0);
        last.map(|last| *last ^= 1).is_some()
    });
}

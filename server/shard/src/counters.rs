//! What a store has counted since it was opened: shown by `kvctl status --counters`, added up by the simulator.

use ringkv_core::raft::RaftCounters;
use ringkv_storage::wal::{LogStats, RecoveryReport};
use std::collections::BTreeMap;

/// Counters by name. A name appears once; all values only grow while a store is open.
pub type Named = BTreeMap<&'static str, u64>;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What the loop of a store counts itself. All only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StoreCounters {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl StoreCounters {
            /// Each with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Keys read.
    reads,
    /// Operations written and answered.
    writes,
    /// Answers to writes that waited, because flushes or merges were behind.
    paced,
    /// Requests refused as a whole, for whatever reason.
    refused,
    /// Of these: sent to a store that does not lead the shard. Some with every change of leaders.
    redirects,
    /// Of these: refused for want of memory, of room on the connection or in the session table. The store is overloaded.
    busy,
    /// Of these: refused because the disk is full.
    disk_full_refused,
    /// Of these: proposed, and then the leader was lost; the client asks again.
    unknown,
    /// Retried operations that were answered from the session table: they ran once, some time before.
    repeats,
    /// Operations refused because their expiry had passed, or lay too far ahead: clients' clocks, or late retries.
    expired,
    /// Operations refused because their client has given them up.
    below_floor,
    /// Messages that break the protocol.
    bad_frames,
    /// Bytes that came on a connection which the store had given up, by the piece: ignored.
    stale_received,
    /// Memtables flushed to a table.
    flushes,
    /// Merges of a tree's tables.
    merges,
    /// Keys that could not be read because the bytes at rest are damaged.
    unreadable,
    /// Trees found damaged.
    rot_found,
    /// Of these: replaced by the tables of a peer.
    rot_repaired,
    /// Snapshots offered to followers that the log no longer reaches.
    snapshots_sent,
    /// Snapshots installed.
    snapshots_installed,
    /// Snapshots that this store wanted and did not get to the end of.
    snapshots_interrupted,
    /// Times that the log found no space for its next segment.
    disk_full,
    /// Times that there was space again.
    disk_freed,
    /// Times that the log failed and the store stopped serving: 0 or 1.
    failed,
    /// Admissions to the cluster, at the first boot: 0 or 1.
    admitted,
    /// Opened behind an unfinished tail of the log, which was cut: 0 or 1. Usual after a crash.
    tails_cut,
    /// Entries found in the log at opening that the tables did not hold: applied again.
    redone,
}

impl StoreCounters {
    /// What opening the log found.
    pub(crate) fn recovered(report: &RecoveryReport) -> StoreCounters {
        StoreCounters { tails_cut: u64::from(report.cut.is_some()), ..StoreCounters::default() }
    }
}

/// The counters of a store, of its log, and of its replicas together.
pub(crate) fn named(store: &StoreCounters, log: &LogStats, rafts: impl Iterator<Item = RaftCounters>) -> Named {
    let mut all: Named = store.named().chain(log.named()).collect();
    for raft in rafts {
        for (name, n) in raft.named() {
            *all.entry(name).or_default() += n;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_used_twice_and_replicas_add_up() {
        let (store, log) = (StoreCounters { writes: 7, ..StoreCounters::default() }, LogStats::default());
        let raft = RaftCounters { elections_won: 2, ..RaftCounters::default() };
        let all = named(&store, &log, [raft, raft].into_iter());
        assert_eq!((all["writes"], all["elections_won"]), (7, 4));
        assert_eq!(all.len(), store.named().count() + log.named().len() + raft.named().len());
    }
}

//! What a replica has counted since it was made: for operators, and for whoever must know what a test has reached.

/// Counted since the replica was made. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftCounters {
    /// Elections won. Many in a short time: leaders are lost, or the network is too slow for the timeouts.
    pub elections_won: u64,
    /// Candidacies that ended by a timeout: votes were split, or too few voters were there.
    pub elections_timed_out: u64,
    /// Pre-votes refused to others (thesis §9.6): somebody could not hear a leader that lives, or lacked entries.
    pub pre_votes_refused: u64,
    /// Leaderships that this replica was asked to take over and stood for (thesis §3.10).
    pub transfers_taken: u64,
    /// Times that a conflicting tail of the log was cut off: another leader's entries that never were committed.
    pub tails_truncated: u64,
    /// Leaderships given up because no majority answered any more.
    pub quorums_lost: u64,
    /// Questions for reads that were answered by the lease.
    pub reads_by_lease: u64,
    /// Questions for reads that were answered by a round of heartbeats.
    pub reads_by_round: u64,
    /// Questions for reads that the lease would have answered, had it not expired.
    pub leases_expired: u64,
}

impl RaftCounters {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        let RaftCounters {
            elections_won,
            elections_timed_out,
            pre_votes_refused,
            transfers_taken,
            tails_truncated,
            quorums_lost,
            reads_by_lease,
            reads_by_round,
            leases_expired,
        } = *self;
        [
            ("elections_won", elections_won),
            ("elections_timed_out", elections_timed_out),
            ("pre_votes_refused", pre_votes_refused),
            ("transfers_taken", transfers_taken),
            ("tails_truncated", tails_truncated),
            ("quorums_lost", quorums_lost),
            ("reads_by_lease", reads_by_lease),
            ("reads_by_round", reads_by_round),
            ("leases_expired", leases_expired),
        ]
    }
}

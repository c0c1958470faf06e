//! Marks: what a run must be seen to reach now and then, or else it tests less than it seems to.

use crate::plan::FaultKind;
use crate::sim::Outcome;
use clap::ValueEnum;
use std::collections::BTreeMap;

/// Seeds of 1,000 counted ones that must reach each mark.
pub const WANTED_PER_1000: u64 = 50;
/// A seed counts from so many attempted operations per simulated second on.
const OPERATIONS_PER_S: u64 = 50;
/// A seed counts when so many percent of its operations were acknowledged.
const ACKNOWLEDGED_PERCENT: u64 = 30;

/// Marks that counters tell: name, and the counters (of stores, logs, clients, disks) that add up to it.
const MARKS: [(&str, &[&str]); 33] = [
    ("election won", &["elections_won"]),
    ("candidacy timed out (split vote)", &["elections_timed_out"]),
    ("pre-vote refused", &["pre_votes_refused"]),
    ("leadership transferred", &["transfers_taken"]),
    ("leader stepped down without a quorum", &["quorums_lost"]),
    ("conflicting tail truncated", &["tails_truncated"]),
    ("lease expired with a read waiting", &["leases_expired"]),
    ("read by lease", &["reads_by_lease"]),
    ("read by a round (read-index)", &["reads_by_round"]),
    ("redirect (not the leader)", &["redirects"]),
    ("redirect followed by a client", &["client_redirects"]),
    ("retry answered from the session table", &["repeats"]),
    ("expired operation refused", &["expired"]),
    ("unknown outcome told to a caller", &["client_unknown"]),
    ("map asked for again", &["client_map_refetches"]),
    ("overload refused", &["busy"]),
    ("store admitted at its first boot", &["admitted"]),
    ("redo at boot", &["redone"]),
    ("torn tail cut", &["tails_cut"]),
    ("damaged store refused to open", &["damage_refused"]),
    ("rot found in a table", &["rot_found"]),
    ("rot repaired", &["rot_repaired"]),
    ("log poisoned", &["log_poisoned"]),
    ("failed fsync", &["disk_failed_sync"]),
    ("disk full", &["disk_full"]),
    ("disk full and back", &["disk_freed"]),
    ("segment recycled", &["segments_recycled"]),
    ("flush", &["flushes"]),
    ("merge", &["merges"]),
    ("snapshot sent", &["snapshots_sent"]),
    ("snapshot installed", &["snapshots_installed"]),
    ("snapshot interrupted", &["snapshots_interrupted"]),
    ("late answer ignored by a client", &["client_late_answers"]),
];

/// Every mark of one run and how often it was reached, faults included.
pub fn reached(outcome: &Outcome) -> BTreeMap<String, u64> {
    let count = |names: &[&str]| names.iter().map(|name| outcome.counts.get(*name).copied().unwrap_or(0)).sum();
    let mut all: BTreeMap<String, u64> = MARKS.iter().map(|(mark, names)| ((*mark).to_owned(), count(names))).collect();
    let promised = FaultKind::value_variants().iter().filter(|kind| !kind.is_beyond());
    all.extend(promised.map(|kind| (mark_of(*kind), 0)));
    for fault in &outcome.faults {
        *all.entry(mark_of(fault.kind)).or_default() += 1;
    }
    all
}

fn mark_of(kind: FaultKind) -> String {
    format!("fault: {}", kind.name())
}

/// Whether a run says something: enough was asked, and enough of it acknowledged.
pub fn counts(outcome: &Outcome) -> bool {
    let (asked, acknowledged) = outcome.in_load;
    let wanted = OPERATIONS_PER_S * outcome.load_ns / 1_000_000_000;
    outcome.load_ns > 0 && asked as u64 >= wanted && acknowledged as u64 * 100 >= asked as u64 * ACKNOWLEDGED_PERCENT
}

/// How often a mark was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// In all counted seeds together.
    pub times: u64,
    /// Counted seeds that reached it.
    pub seeds: u64,
}

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Seeds run.
    pub seeds: u64,
    /// Those that count for the marks.
    pub counted: u64,
    /// Simulated time, ns; of both runs where a seed ran twice.
    pub virtual_ns: u64,
    /// Processor time, ns.
    pub cpu_ns: u64,
    /// Operations asked and acknowledged.
    pub operations: (u64, u64),
    /// Faults caused.
    pub faults: u64,
    /// By mark.
    pub marks: BTreeMap<String, Reached>,
    /// Seeds with a finding.
    pub wrong: Vec<u64>,
}

impl Tally {
    /// Adds a seed that ran `runs` times in `cpu_ns`.
    pub fn add(&mut self, seed: u64, outcome: &Outcome, runs: u64, cpu_ns: u64) {
        self.seeds += 1;
        self.virtual_ns += outcome.virtual_ns * runs;
        self.cpu_ns += cpu_ns;
        self.operations.0 += outcome.operations.0 as u64;
        self.operations.1 += outcome.operations.1 as u64;
        self.faults += outcome.faults.len() as u64;
        if !outcome.wrong.is_empty() {
            self.wrong.push(seed);
        }
        let counted = u64::from(counts(outcome));
        self.counted += counted;
        for (mark, times) in reached(outcome) {
            let all = self.marks.entry(mark).or_default();
            all.times += counted * times;
            all.seeds += counted * u64::from(times > 0);
        }
    }

    /// Simulated seconds per second of processor time.
    pub fn times_real(&self) -> f64 {
        self.virtual_ns as f64 / self.cpu_ns.max(1) as f64
    }

    /// Seeds per 1,000 counted ones that reached a mark; `None` when none counted.
    pub fn per_1000(&self, reached: &Reached) -> Option<u64> {
        (reached.seeds * 1_000).checked_div(self.counted)
    }

    /// Whether a mark was reached by too few.
    pub fn is_missing(&self, reached: &Reached) -> bool {
        self.per_1000(reached).is_none_or(|n| n < WANTED_PER_1000)
    }

    /// Marks that too few seeds reached.
    pub fn missing(&self) -> Vec<&str> {
        self.marks.iter().filter(|(_, reached)| self.is_missing(reached)).map(|(mark, _)| mark.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(asked: usize, acknowledged: usize, counts: &[(&str, u64)]) -> Outcome {
        let counts = counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let (operations, load_ns) = ((asked, acknowledged), 2_000_000_000);
        Outcome { operations, in_load: operations, load_ns, counts, ..Outcome::default() }
    }

    #[test]
    fn a_seed_counts_when_enough_was_asked_and_acknowledged() {
        assert!(counts(&outcome(100, 30, &[])));
        assert!(!counts(&outcome(99, 99, &[])));
        assert!(!counts(&outcome(100, 29, &[])));
        assert!(!counts(&Outcome::default()));
    }

    #[test]
    fn a_mark_that_few_reach_is_missing() {
        let mut tally = Tally::default();
        for seed in 0..100 {
            let flushes = u64::from(seed < 5) * 3;
            let merges = u64::from(seed < 4);
            tally.add(seed, &outcome(100, 90, &[("flushes", flushes), ("merges", merges)]), 1, 1);
        }
        // A seed that does not count reaches nothing.
        tally.add(100, &outcome(1, 1, &[("merges", 50)]), 1, 1);
        assert_eq!((tally.seeds, tally.counted), (101, 100));
        assert_eq!(tally.marks["flush"], Reached { times: 15, seeds: 5 });
        assert_eq!(tally.marks["merge"], Reached { times: 4, seeds: 4 });
        let missing = tally.missing();
        assert!(missing.contains(&"merge") && !missing.contains(&"flush"), "{missing:?}");
        assert!(missing.contains(&"fault: blackout"));
    }
}

//! A few whole clusters in every `cargo test`: many more run by `kvsim fuzz`.

use clap::ValueEnum;
use kvsim::plan::{FaultKind, Options, Plan};
use kvsim::sim::run;

/// Each seed twice, with equal traces.
fn clean(seeds: std::ops::Range<u64>, options: &Options) {
    for seed in seeds {
        let outcome = run(seed, options);
        assert_eq!(outcome.wrong, Vec::<String>::new(), "seed {seed}");
        // Below that a seed says nothing.
        let (asked, acknowledged) = outcome.operations;
        assert!(
            asked as u64 >= 50 * options.seconds.unwrap_or(0) && acknowledged * 10 >= asked * 3,
            "seed {seed}: {:?}",
            outcome.operations
        );
        // What was counted in lives that were killed is not forgotten.
        let counted = |name: &str| outcome.counts.get(name).copied().unwrap_or_default();
        assert!(counted("elections_won") >= outcome.elections as u64, "seed {seed}");
        assert!(counted("writes") + counted("reads") >= acknowledged as u64, "seed {seed}");
        let again = run(seed, options);
        assert_eq!(outcome.trace, again.trace, "seed {seed}: two runs differ");
        assert_eq!(outcome.counts, again.counts, "seed {seed}: two runs differ");
    }
}

#[test]
fn three_nodes_through_faults() {
    clean(0..4, &Options { nodes: Some(3), seconds: Some(5), ..Options::default() });
}

#[test]
fn any_shape_through_faults() {
    clean(100..104, &Options { seconds: Some(4), ..Options::default() });
}

#[test]
fn one_node_alone() {
    clean(200..202, &Options { nodes: Some(1), seconds: Some(4), ..Options::default() });
}

/// Whether faults come often in a seed.
fn often(seed: &u64) -> bool {
    Plan::new(*seed, &Options::default()).fault_gap_ns.1 <= 2_000_000_000
}

/// A fault that is left out changes neither when the others happen nor which they are.
#[test]
fn a_fault_left_out_leaves_the_others() {
    let seed = (7..).find(often).unwrap_or_default();
    let all = run(seed, &Options { seconds: Some(8), ..Options::default() });
    let skip = "1,9-".parse().unwrap_or_default();
    let fewer = run(seed, &Options { seconds: Some(8), skip_faults: skip, ..Options::default() });
    let left: Vec<_> = all.faults.iter().filter(|fault| ![1, 9].contains(&fault.ordinal)).copied().collect();
    assert!(left.len() >= 2 && left.len() < all.faults.len(), "{:?}", all.faults);
    assert_eq!(fewer.faults, left);
    assert_ne!(fewer.trace, all.trace);
}

/// Nobody restarts a node whose disk was full, and no store may fail of it.
#[test]
fn a_full_disk_needs_nobody() {
    // A segment must be half full before the log asks for the next one.
    let options = Options { seconds: Some(30), faults: Some(vec![FaultKind::DiskFull]), ..Options::default() };
    let mut refused = 0;
    for seed in (0..).filter(often).take(5) {
        let outcome = run(seed, &options);
        assert_eq!(outcome.wrong, Vec::<String>::new(), "seed {seed}");
        refused += outcome.counts.get("disk_full").copied().unwrap_or(0);
    }
    assert!(refused > 0, "no log met a full disk");
}

/// Each kind of fault by itself, those beyond the promise too.
#[test]
fn every_kind_alone() {
    let seed = (300..).find(often).unwrap_or_default();
    for &kind in FaultKind::value_variants() {
        let options = Options { seconds: Some(4), faults: Some(vec![kind]), ..Options::default() };
        let outcome = run(seed, &options);
        assert_eq!(outcome.wrong, Vec::<String>::new(), "{kind:?}");
        assert!(!outcome.faults.is_empty() && outcome.operations.1 > 50, "{kind:?}: {:?}", outcome.operations);
    }
}

//! A failure that was planted is made smaller, down to the one fault that brings it out.

use kvsim::cluster::{Runner, shipped};
use kvsim::plan::{FaultKind, Options, Plan};
use kvsim::report;
use kvsim::shrink::{property, shrink};
use kvsim::sim::run_with;
use ringkv_shard::config::StoreError;
use std::rc::Rc;

/// The shipped store, which refuses to open a second time.
fn once_only() -> Runner {
    let right = shipped();
    Rc::new(move |host, config, control| {
        if config.made {
            let error = StoreError::Config { store: config.id, what: "it was planted".to_owned() };
            return Box::pin(async { Err(error) });
        }
        right(host, config, control)
    })
}

#[test]
fn a_planted_failure_comes_down_to_one_fault() {
    let kinds = vec![FaultKind::Reset, FaultKind::SlowDisk, FaultKind::KillProcess, FaultKind::ClockJump];
    let options = Options {
        nodes: Some(3),
        shards: Some(1),
        seconds: Some(10),
        ops_per_s: Some(20),
        faults: Some(kinds),
        ..Options::default()
    };
    let try_seed =
        |seed| shrink(&options, 40, |options| run_with(seed, options, once_only()), |_| {}).map(|s| (seed, s));
    let (seed, found) = (0..10).find_map(try_seed).expect("a node is killed in one of these seeds");
    let kinds: Vec<FaultKind> = found.outcome.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::KillProcess], "{:?}", found.options);
    assert!(found.options.seconds < options.seconds || found.outcome.faults[0].at_ns > 7_000_000_000);
    assert_eq!(Plan::new(seed, &found.options).load.clients, 1);
    // What is told does the same again, and says what went before.
    let again = run_with(seed, &found.options, once_only());
    assert_eq!(again.trace, found.outcome.trace);
    assert!(property(&again.wrong[0]).contains("planted"), "{:?}", again.wrong);
    let text = report::line(seed, &found.options, &again);
    assert!(text.contains("fault ") && text.contains("kill-process") && text.contains("killed"), "{text}");
    assert!(text.contains("--skip-faults") && text.contains(&format!("--seed {seed}")), "{text}");
}

//! A simulator that cannot fail proves nothing: stores that are wrong on purpose must be caught, and right ones must pass.
//!
//! `toy` stores are wrong by themselves. The canaries of `list` are the shipped store on a host and a disk that edit what
//! passes: production code has no switch for them. What each seed says of each canary:
//!
//! ```text
//! SEEDS=300 MINUTES=2 cargo test --release -p kvsim --test canaries -- --ignored --nocapture scan
//! ```

mod clients;
mod disk;
mod elections;
mod flaw;
mod host;
mod list;
mod log;
mod rest;
mod scan;
mod tables;
mod time;
mod toy;

use host::wrong;
use kvsim::plan::Options;
use kvsim::sim::{Outcome, run, run_with};
use list::{Canary, SOUND};

/// Runs a seed on such stores.
fn go(canary: &Canary, seed: u64, seconds: u64) -> Outcome {
    run_with(seed, &Options { seconds: Some(seconds), ..Options::default() }, wrong((canary.make)()))
}

#[test]
fn without_a_flaw_nothing_changes() {
    let sound = &SOUND[0];
    for seed in [3, 100, 1054] {
        let shipped = run(seed, &Options { seconds: Some(5), ..Options::default() });
        let wrapped = go(sound, seed, 5);
        assert_eq!(wrapped.wrong, Vec::<String>::new(), "seed {seed}");
        assert_eq!(wrapped.trace, shipped.trace, "seed {seed}");
    }
}

//! `kvsim shrink`: a smaller variant of a failing seed.

use super::{Chosen, say};
use clap::Args;
use kvsim::report;
use kvsim::shrink::{self, Shrunk, property};
use kvsim::sim::{quiet_panics, run};
use std::process::ExitCode;

/// See [`shrink`].
#[derive(Debug, Args)]
pub struct ShrinkArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Tries at most so many variants.
    #[arg(long, default_value_t = 200)]
    runs: u64,
    /// Says the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Makes a seed smaller as long as it breaks the same property. Exit code 1 when it does, 0 when nothing is wrong with it.
pub fn shrink(args: &ShrinkArgs) -> ExitCode {
    quiet_panics();
    let (seed, options) = (args.chosen.seed, args.chosen.options());
    let tell = |found: &Shrunk| {
        let faults = found.outcome.faults.len();
        eprintln!(
            "run {}: still fails with {faults} faults: kvsim {}",
            found.runs,
            report::command("run", seed, &found.options)
        );
    };
    let Some(found) = shrink::shrink(&options, args.runs, |options| run(seed, options), tell) else {
        eprintln!("seed {seed}: nothing is wrong, so there is nothing to make smaller");
        return ExitCode::SUCCESS;
    };
    if args.json {
        say(report::json(seed, &found.options, &found.outcome, 0));
    } else {
        let first = found.outcome.wrong.first().map_or("", String::as_str);
        say(report::line(seed, &found.options, &found.outcome));
        say(format_args!("broken: {} ({} runs)", property(first), found.runs));
        for fault in &found.outcome.faults {
            say(format_args!("fault {} at {:.3} s: {}", fault.ordinal, fault.at_ns as f64 / 1e9, fault.kind.name()));
        }
        say(format_args!("smallest: kvsim {}", report::command("run", seed, &found.options)));
    }
    ExitCode::from(1)
}

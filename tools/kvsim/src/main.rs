//! `kvsim`: runs seeds, follows one, makes one smaller.

mod cli;

use clap::{Parser, Subcommand};
use cli::{fuzz, replay, run, shrink};
use std::process::ExitCode;

/// A sixth of a run went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whole ringkv clusters from one seed, on a virtual clock, network and disk. Exit code 1 when something is wrong.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed, twice, and says what happened.
    Run(run::RunArgs),
    /// Runs many seeds, each twice, and counts what they reach.
    Fuzz(fuzz::FuzzArgs),
    /// Follows one seed up to a virtual time: what the stores log, faults, elections, answers; then how the stores are.
    Replay(replay::ReplayArgs),
    /// Looks for a smaller variant of a failing seed: fewer faults, less time, fewer clients.
    Shrink(shrink::ShrinkArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Fuzz(args) => Ok(fuzz::fuzz(&args)),
        Command::Replay(args) => replay::replay(&args),
        Command::Shrink(args) => Ok(shrink::shrink(&args)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_checked() {
        Cli::command().debug_assert();
        let parsed = |line: &str| Cli::try_parse_from(std::iter::once("kvsim").chain(line.split_whitespace()));
        for bad in [
            "run",
            "run --seed 1 --minutes 1 --seconds 5",
            "run --seed 1 --calm --faults reset",
            "run --seed 1 --faults no-such-fault",
            "run --seed 1 --skip-faults x",
            "fuzz --seconds 1 --jobs 0",
            "replay --seed 1 --until never",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
        for good in [
            "run --seed 1 --minutes 3 --nodes 5 --shards 8 --faults kill-process,reset --skip-faults 3,7,9-20,40- --once --json",
            "run --seed 1 --seconds 5",
            "run --seed 1 --virtual-seconds 5 --clients 1",
            "fuzz --seconds 60 --from 100 --jobs 2 --virtual-seconds 30 --require-marks --json",
            "fuzz --seeds 20",
            "replay --seed 1 --until 37.5s --from-time 30s -v",
            "replay --seed 1 --json",
            "shrink --seed 1 --runs 50",
        ] {
            assert!(parsed(good).is_ok(), "{good}: {:?}", parsed(good).err());
        }
    }
}

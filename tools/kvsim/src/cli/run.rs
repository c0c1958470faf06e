//! `kvsim run`: one seed.

use super::{Chosen, run_seed, say};
use anyhow::Context;
use clap::Args;
use kvsim::plan::Plan;
use kvsim::report;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

/// See [`run`].
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Runs it once: faster, but nobody sees whether two runs are the same.
    #[arg(long)]
    once: bool,
    /// Writes the clients' history there, as `lincheck` reads it.
    #[arg(long)]
    history: Option<PathBuf>,
    /// Says what the seed means.
    #[arg(short, long)]
    verbose: bool,
    /// Says everything as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs a seed and says what happened. Exit code 1 when something is wrong.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let (seed, options) = (args.chosen.seed, args.chosen.options());
    if args.verbose {
        eprintln!("{:#?}", Plan::new(seed, &options));
    }
    let (outcome, cpu_ns) = run_seed(seed, &options, args.once);
    if args.json {
        say(report::json(seed, &options, &outcome, cpu_ns));
    } else {
        say(report::line(seed, &options, &outcome));
    }
    if let Some(path) = &args.history {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        lincheck::write(&outcome.history, BufWriter::new(file))?;
    }
    Ok(ExitCode::from(u8::from(!outcome.wrong.is_empty())))
}

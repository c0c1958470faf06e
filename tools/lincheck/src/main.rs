//! Judges histories written by `kvbench --history` and `kvsim --history`.

use anyhow::Context;
use clap::Parser;
use lincheck::{Op, Spoil};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Judges histories of key-value operations: linearizable, and applied exactly once?
///
/// Exit code: 0 all good, 1 a history is wrong, 2 it cannot be read or the search gave up.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Files of JSON lines; `-` is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Findings shown per file.
    #[arg(long, default_value_t = 5)]
    show: usize,
    /// Judges copies of good histories with one answer edited in each: exit code 0 when every copy is rejected, 1 when one is
    /// accepted, 2 when a history has no place for an edit or cannot be read.
    #[arg(long)]
    canary: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut worst = 0;
    for file in &args.files {
        let judged = if args.canary { canaries(file) } else { judge(file, args.show) };
        let code = match judged {
            Ok(code) => code,
            Err(error) => {
                eprintln!("lincheck: {error:#}");
                2
            }
        };
        worst = if worst == 1 || code == 1 { 1 } else { worst.max(code) };
    }
    ExitCode::from(worst)
}

fn read(file: &Path) -> anyhow::Result<Vec<Op>> {
    let name = file.display();
    let read = if file == Path::new("-") {
        lincheck::read(io::stdin().lock())
    } else {
        lincheck::read(BufReader::new(File::open(file).with_context(|| format!("{name}"))?))
    };
    read.with_context(|| format!("{name}"))
}

/// Whether each way of spoiling the history is noticed.
fn canaries(file: &Path) -> anyhow::Result<u8> {
    let (name, history) = (file.display(), read(file)?);
    let mut worst = 0;
    for spoil in Spoil::ALL {
        let (code, what) = match spoil.apply(&history).map(|spoilt| lincheck::check(&spoilt).is_wrong()) {
            Some(true) => (0, "rejected"),
            Some(false) => (1, "ACCEPTED"),
            None => (2, "no place for it"),
        };
        println!("{name}: canary {spoil:?}: {what}");
        worst = if worst == 1 || code == 1 { 1 } else { worst.max(code) };
    }
    Ok(worst)
}

fn judge(file: &Path, show: usize) -> anyhow::Result<u8> {
    let name = file.display();
    let history = read(file)?;
    let begun = Instant::now();
    let report = lincheck::check(&history);
    let (operations, keys, spent) = (report.operations, report.keys, begun.elapsed());
    if report.is_ok() {
        println!("{name}: OK: {operations} operations on {keys} keys are linearizable ({spent:.1?})");
        return Ok(0);
    }
    println!("{name}: {} findings in {operations} operations on {keys} keys ({spent:.1?})", report.findings.len());
    for finding in report.findings.iter().take(show) {
        print!("{finding}");
    }
    if let Some(more) = report.findings.len().checked_sub(show).filter(|&more| more > 0) {
        println!("... and {more} more");
    }
    Ok(if report.is_wrong() { 1 } else { 2 })
}

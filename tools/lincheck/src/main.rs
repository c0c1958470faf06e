//! Judges histories written by `kvbench --history` and `kvsim --history`.

use anyhow::Context;
use clap::Parser;
use lincheck::{Op, Report, Spoil};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

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
    /// One JSON object per file instead of text: `file`, `operations`, `keys`, `verdict` (`ok`, `wrong` or `undecided`) and
    /// `findings`, of which each is the text that would be shown.
    #[arg(long, conflicts_with = "canary")]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut worst = 0;
    for file in &args.files {
        let judged = if args.canary { canaries(file) } else { judge(file, args.show, args.json) };
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

fn judge(file: &Path, show: usize, json: bool) -> anyhow::Result<u8> {
    let history = read(file)?;
    let begun = Instant::now();
    let report = lincheck::check(&history);
    let (code, verdict) = match (report.is_ok(), report.is_wrong()) {
        (true, _) => (0, "ok"),
        (false, true) => (1, "wrong"),
        (false, false) => (2, "undecided"),
    };
    if json {
        let findings: Vec<String> = report.findings.iter().take(show).map(ToString::to_string).collect();
        let (file, operations, keys) = (file.display().to_string(), report.operations, report.keys);
        let line = serde_json::json!({
            "file": file, "operations": operations, "keys": keys, "verdict": verdict, "findings": findings,
        });
        println!("{line}");
        return Ok(code);
    }
    tell(&file.display().to_string(), &report, show, begun.elapsed());
    Ok(code)
}

fn tell(name: &str, report: &Report, show: usize, spent: Duration) {
    let (operations, keys) = (report.operations, report.keys);
    if report.is_ok() {
        return println!("{name}: OK: {operations} operations on {keys} keys are linearizable ({spent:.1?})");
    }
    println!("{name}: {} findings in {operations} operations on {keys} keys ({spent:.1?})", report.findings.len());
    for finding in report.findings.iter().take(show) {
        print!("{finding}");
    }
    if let Some(more) = report.findings.len().checked_sub(show).filter(|&more| more > 0) {
        println!("... and {more} more");
    }
}

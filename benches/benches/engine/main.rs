//! The storage engine through one shard's tree, without a server: lookups, amplification, stalls, restarts, and what tables cost
//! in memory, each beside what is asked of it; why blocks are as large as they are, and values stand with their keys.
//!
//! `cargo bench -p ringkv-benches --bench engine -- [SCENARIO..] [--dir PATH] [--json FILE] [--scale F]`

mod budgets;
mod counting;
mod data;
mod disk;
mod drive;
mod fio;
mod host;
mod memory;
mod memtables;
mod meters;
mod overwrite;
#[cfg(feature = "peers")]
mod peer;
mod report;
mod restart;
mod sizes;
mod soak;
mod tasks;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use report::Report;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Fewest entries of anything, however small the scale.
const ENTRIES_MIN: u64 = 1000;

#[derive(Parser)]
#[command(name = "engine", about = "Measures the storage engine through one shard's tree.")]
struct Args {
    /// What to run; all but the soak when nothing is named.
    scenarios: Vec<Scenario>,
    /// Where files go: a folder of its own is made there, and removed in the end.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// Appends one JSON line a row to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Multiplies all counts of entries: 0.01 for a first look. Figures asked for are those of scale 1.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// How long the soak takes.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Lookups of a million entries that memory knows: memtable, block cache, default budgets.
    Memory,
    /// Lookups of ten million entries beside a small cache, and the same disk read by fio.
    Disk,
    /// Ten overwrites of two million entries: bytes written, space taken, puts a second.
    Overwrite,
    /// What a table costs in memory for a key, and how often its filter is wrong.
    Budgets,
    /// The memtable beside maps in order: put, get, walk, seek.
    Memtables,
    /// Blocks and values of several sizes: what reads and merges cost. Runs only when it is named.
    Sizes,
    /// Opening after a kill with a full memtable budget to redo.
    Restart,
    /// Overwrites at 70% of the highest rate, for minutes: how long a put waits. Runs only when it is named.
    Soak,
}

/// What every scenario needs.
struct Bench {
    dir: PathBuf,
    scale: f64,
    report: Report,
}

impl Bench {
    /// A count of entries at this run's scale.
    fn scaled(&self, entries: u64) -> u64 {
        ((entries as f64 * self.scale) as u64).max(ENTRIES_MIN)
    }

    /// The memtable's budget at this run's scale: how often an entry is merged hangs on how many memtables there are.
    fn memtable_bytes(&self) -> usize {
        (drive::MEMTABLE_BYTES as f64 * self.scale) as usize
    }

    /// The cache's budget at this run's scale.
    fn cache_bytes(&self) -> usize {
        (drive::CACHE_BYTES as f64 * self.scale) as usize
    }

    /// An empty folder, gone when dropped.
    fn fresh_dir(&self) -> TempDir {
        TempDir::with_prefix_in("engine-", &self.dir).expect("the folder can be written to")
    }

    /// Shows how far a long phase is; draws only on a terminal.
    fn progress(&self, what: &str, steps: u64) -> ProgressBar {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}").expect("the template is sound");
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(4));
        bar.with_style(style).with_message(what.to_owned())
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    anyhow::ensure!(args.scale > 0.0 && args.scale.is_finite(), "--scale {} is no scale", args.scale);
    std::fs::create_dir_all(&args.dir).with_context(|| format!("making {}", args.dir.display()))?;
    let host = host::facts(&args.dir, args.scale);
    let mut bench = Bench { dir: args.dir, scale: args.scale, report: Report::new(args.json.as_deref(), host)? };
    let all = Scenario::value_variants()
        .iter()
        .copied()
        .filter(|scenario| !matches!(scenario, Scenario::Soak | Scenario::Sizes));
    let named = if args.scenarios.is_empty() { all.collect() } else { args.scenarios };
    for scenario in named {
        match scenario {
            Scenario::Memory => memory::run(&mut bench),
            Scenario::Disk => disk::run(&mut bench),
            Scenario::Overwrite => overwrite::run(&mut bench),
            Scenario::Budgets => budgets::run(&mut bench),
            Scenario::Memtables => memtables::run(&mut bench),
            Scenario::Sizes => sizes::run(&mut bench),
            Scenario::Restart => restart::run(&mut bench),
            Scenario::Soak => soak::run(&mut bench, Duration::from_secs(args.seconds)),
        }
        bench.report.print()?;
    }
    Ok(())
}
